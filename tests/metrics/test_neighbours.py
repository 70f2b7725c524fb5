"""Nearest neighbours against all differences; the test of data-copying against SciPy's."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from zoo.metrics import neighbours
from zoo.metrics.neighbours import data_copying, nearest_neighbours

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("k", [1, 3, 30])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_neighbours_match_all_distances(k, dtype):
    queries = RANDOM.random((17, 4, 3, 2)).astype(dtype)
    candidates = RANDOM.random((30, 4, 3, 2)).astype(dtype)
    indices, distances = nearest_neighbours(queries, candidates, k)
    every = cdist(queries.reshape(17, 24), candidates.reshape(30, 24))
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1)[:, :k])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :k], rtol=1e-12)


def test_digits_are_their_own_neighbours(digits):
    indices, distances = nearest_neighbours(digits, digits, 2)
    np.testing.assert_array_equal(indices[:, 0], np.arange(200))
    assert (distances[:, 0] == 0).all() and (distances[:, 1] > 0).all()


def test_near_duplicates_are_distinguished():
    """Candidates at increasing distances from a query, in steps below the rounding of its norm."""
    query = 1000 + RANDOM.random((1, 300))
    steps = RANDOM.permutation(60)
    candidates = np.repeat(query, 60, axis=0)
    candidates[:, 0] += steps * 2.0**-30
    candidates = np.concatenate([RANDOM.random((40, 300)), candidates])
    indices, distances = nearest_neighbours(query, candidates, 20)
    np.testing.assert_array_equal(indices[0], 40 + np.argsort(steps)[:20])
    np.testing.assert_allclose(distances[0], np.arange(20) * 2.0**-30, rtol=1e-3)


def test_all_candidates_are_searched_only_if_rounding_could_matter(monkeypatch):
    looked = []
    nearest = neighbours._nearest

    def counted(query, candidates, among, k):
        looked.append(len(among))
        return nearest(query, candidates, among, k)

    monkeypatch.setattr(neighbours, "_nearest", counted)
    nearest_neighbours(RANDOM.random((5, 50)), RANDOM.random((100, 50)), 3)
    assert looked == [14] * 5


def test_candidates_at_equal_distance_keep_their_order():
    candidates = np.tile([[0.0, 1.0], [1.0, 0.0], [3.0, 4.0]], (2000, 1))
    indices, distances = nearest_neighbours([[0.0, 0.0]], candidates, 4)
    np.testing.assert_array_equal(indices, [[0, 1, 3, 4]])
    np.testing.assert_array_equal(distances, np.ones((1, 4)))


@pytest.mark.parametrize(
    "queries, candidates, k, message",
    [
        (np.ones((2, 3)), np.ones((4, 2)), 1, r"equal except for N.*\(2, 3\), \(4, 2\)"),
        (np.ones((2, 2, 3)), np.ones((4, 6)), 1, r"equal except for N.*\(2, 2, 3\), \(4, 6\)"),
        (np.ones(3), np.ones(3), 1, r"shape \[N, ...\]"),
        (np.ones((0, 3)), np.ones((4, 3)), 1, r"Received: shapes \(0, 3\)"),
        (np.ones((2, 3), int), np.ones((4, 3)), 1, "`queries` must be floats.*int64"),
        (np.ones((2, 3)), np.full((4, 3), np.nan), 1, "`candidates`.*NaN or infinity in row 0"),
        (np.ones((2, 3)), np.ones((4, 3)), 5, r"from 1 to 4, .*Received: k=5"),
        (np.ones((2, 3)), np.ones((4, 3)), 0, "`k` must be at least 1"),
    ],
)
def test_invalid_queries_and_candidates_are_refused(queries, candidates, k, message):
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(queries, candidates, k)


# Data-copying ------------------------------------------------------------------------------------


def at_distances(far):
    """Points on a line at these distances from the origin, the only training example."""
    return np.array(far, float)[:, None]


@pytest.mark.parametrize("levels", [3, 50, 10**6])
def test_the_score_matches_scipys_mann_whitney_test_with_ties(levels):
    samples, test = RANDOM.integers(levels, size=80), RANDOM.integers(levels, size=50) * 1.1 // 1
    score = data_copying(at_distances(samples), at_distances(test), np.zeros((1, 1)))
    expected = stats.mannwhitneyu(
        samples, test, use_continuity=False, alternative="less", method="asymptotic"
    )
    assert stats.norm.cdf(float(score)) == pytest.approx(expected.pvalue, rel=1e-10)
    assert score.details["probability"] == pytest.approx(expected.statistic / 4000)
    assert score.details["median_samples"] == np.median(samples)
    assert score.details["median_test"] == np.median(test)
    assert score.details["num_copies"] == np.sum(samples == 0)
    assert (score.n_real, score.n_fake, score.estimator["num_train"]) == (50, 80, 1)


def test_extreme_scores_match_a_hand_computed_example():
    """Three samples nearer than three held-out examples: z = -4.5 / sqrt(9 x 7 / 12)."""
    near, far = at_distances([1, 2, 3]), at_distances([4, 5, 6])
    for samples, test, sign in ((near, far, -1), (far, near, 1)):
        score = data_copying(samples, test, np.zeros((1, 1)))
        assert float(score) == pytest.approx(sign * 4.5 / np.sqrt(5.25))


def test_copies_score_far_below_0_and_distant_data_far_above_0():
    data = RANDOM.normal(size=(900, 2, 2, 1))
    train, test, fresh = np.split(data, [500, 700])
    assert float(data_copying(train[:200] + 1e-3, test, train)) < -10
    assert float(data_copying(fresh * 3, test, train)) > 5
    copied = data_copying(train[:200], test, train)
    assert copied.details["num_copies"] == 200 and float(copied) < -10


def test_the_score_of_the_data_is_nearly_standard_normal():
    scores = []
    for _ in range(12):
        train, test, samples = np.split(RANDOM.normal(size=(500, 2)), [440, 470])
        scores.append(float(data_copying(samples, test, train)))
    assert np.mean(scores) == pytest.approx(0, abs=3 / np.sqrt(12))
    assert stats.chi2.cdf(np.sum(np.square(scores)), 12) == pytest.approx(0.5, abs=0.495)


def test_equal_distances_are_refused():
    with pytest.raises(ValueError, match="0 for all samples and test examples"):
        data_copying(np.ones((3, 2)), np.ones((4, 2)), np.ones((5, 2)))


def test_the_error_of_sets_of_different_shapes_names_them():
    with pytest.raises(ValueError, match=r"`samples` and `test` and `train`.*\(4, 3\)"):
        data_copying(np.ones((3, 2)), np.ones((4, 3)), np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"`test` must be floats.*int64"):
        data_copying(np.ones((3, 2)), np.ones((4, 2), int), np.ones((5, 2)))
