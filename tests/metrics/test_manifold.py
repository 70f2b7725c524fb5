"""Precision, recall, density and coverage: examples by hand, brute force, expectations."""

import itertools

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from zoo.metrics import manifold
from zoo.metrics.manifold import precision_recall_density_coverage as prdc


def values(*args, **kwargs):
    return {name: score.value for name, score in prdc(*args, **kwargs).items()}


def column(*numbers):
    return np.float64(numbers)[:, None]


def brute_force(real, fake, k, ties):
    """The definitions, from all distances as sums of squared differences."""

    def distances(a, b):
        return ((a[:, None].astype("float64") - b[None].astype("float64")) ** 2).sum(-1)

    def radii(points):
        others = [np.delete(row, i) for i, row in enumerate(distances(points, points))]
        return np.sort(others, axis=1)[:, k - 1]

    inside = np.less if ties == "strict" else np.less_equal
    across = distances(real, fake)
    in_real = inside(across, radii(real)[:, None])
    in_fake = inside(across, radii(fake)[None])
    return {
        "precision": in_real.any(0).mean(),
        "recall": in_fake.any(1).mean(),
        "density": in_real.sum() / (k * len(fake)),
        "coverage": in_real.any(1).mean(),
    }


# By hand --------------------------------------------------------------------------------------

# Radii of the real balls 1, 1, 2, 3; of the fake ones 1/4, 1/4, 3/4, 15/2.
REAL, FAKE = column(0, 1, 3, 6), column(0.5, 0.75, 1.5, 9)


def test_balls_without_their_surface_match_a_hand_computed_example():
    # Fakes: 1/2 and 3/4 are in the balls of 0 and 1; 3/2 in the balls of 1 and 3; 9 is on the
    # surface of the ball of 6. Real: 1 is in the ball of 3/2 and on the surface of the ball of 3/4;
    # 3 and 6 are in the ball of 9.
    expected = {"precision": 3 / 4, "recall": 3 / 4, "density": 6 / 4, "coverage": 3 / 4}
    assert values(REAL, FAKE, k=1) == expected


def test_balls_with_their_surface_match_a_hand_computed_example():
    expected = {"precision": 1.0, "recall": 3 / 4, "density": 7 / 4, "coverage": 1.0}
    assert values(REAL, FAKE, k=1, ties="inclusive") == expected


def test_standard_errors_match_a_hand_computed_example():
    scores = prdc(REAL, FAKE, k=1)
    share = np.sqrt(3 / 4 * 1 / 4 / 4)
    assert [scores[key].stderr for key in ("precision", "recall", "coverage")] == [share] * 3
    # Balls that each fake is in: 2, 2, 2, 0.
    assert scores["density"].stderr == pytest.approx(np.std([2, 2, 2, 0], ddof=1) / 2)
    assert prdc(REAL, FAKE, k=1, ties="inclusive")["precision"].stderr is None


def test_precision_and_recall_are_not_swapped():
    # The fakes have collapsed onto one of two clusters of real ones.
    rng = np.random.default_rng(0)
    clusters = rng.normal(size=(2, 60, 4)) + np.float64([[[0]], [[20]]])
    real, fake = clusters.reshape(-1, 4), clusters[0] + 0.1 * rng.normal(size=(60, 4))
    scores = values(real, fake)
    assert scores["precision"] > 0.9 and scores["density"] > 0.9
    assert scores["recall"] < 0.55 and scores["coverage"] < 0.55
    swapped = values(fake, real)
    assert swapped["precision"] == scores["recall"] and swapped["recall"] == scores["precision"]


def test_collapsed_fakes_have_low_recall():
    real = np.random.default_rng(0).normal(size=(100, 3))
    fake = np.tile(real[:1], [50, 1]) + 1e-9 * np.random.default_rng(1).normal(size=(50, 3))
    scores = values(real, fake)
    assert scores["precision"] == 1 and scores["recall"] <= 0.01


def test_distant_sets_have_zero_scores():
    x = np.random.default_rng(0).normal(size=(30, 3))
    assert set(values(x, x + 100).values()) == {0.0}


# Brute force ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", ["strict", "inclusive"])
@pytest.mark.parametrize("k, block", [(1, 7), (3, 7), (5, 2048), (5, 2), (5, 33)])
@pytest.mark.parametrize("kind", ["normal", "float32", "grid", "far", "near_duplicates"])
def test_scores_match_brute_force(kind, k, block, ties):
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=(66, 6)), rng.normal(size=(50, 6)) * 1.2 + 0.1
    if kind == "float32":
        real, fake = real.astype("float32"), fake.astype("float32")
    if kind == "grid":  # Many ties.
        real, fake = rng.integers(0, 3, [66, 3]) / 2, rng.integers(0, 3, [50, 3]) / 2
    if kind == "far":
        real, fake = real + 1e7, fake + 1e7
    if kind == "near_duplicates":
        # Closer to each other than a matrix product can resolve.
        near = np.repeat(rng.normal(size=(11, 6)), 6, axis=0)
        real = near + 1e-9 * rng.normal(size=near.shape)
        fake = (near + 1e-9 * rng.normal(size=near.shape))[:50]
    assert values(real, fake, k=k, ties=ties, block=block) == brute_force(real, fake, k, ties)


@pytest.mark.parametrize(("ties", "recall"), [("strict", 0.0), ("inclusive", 1.0)])
def test_ties_of_recall_are_exact_where_a_matrix_product_is_not(ties, recall):
    """Each real point is on the surface of one fake ball, and in no other ball.

    Fakes are in distant pairs: each is the other's nearest neighbour, one step away. The real
    point is one step away on the other side. Differences are exact in float64, squares of
    coordinates are not.
    """
    rng = np.random.default_rng(6)
    centers = rng.integers(2**32, size=(30, 6)) / 2**12
    steps = rng.integers(1, 2**6, size=(30, 6)) / 2**12
    real, fake = centers - steps, np.concatenate([centers, centers + steps])
    scores = values(real, fake, k=1, ties=ties)
    assert scores["recall"] == recall
    assert scores["precision"] == scores["coverage"] == 1  # The real balls are large.


def test_a_matrix_product_cannot_resolve_near_duplicates():
    # Products alone give wrong results for the points of `test_scores_match_brute_force`.
    points = 1 + 1e-9 * np.random.default_rng(0).normal(size=(20, 6))
    by_product, error = manifold._squared_distances(points, points)
    exact = ((points[:, None] - points) ** 2).sum(-1)
    assert np.abs(by_product - exact).max() > exact.max()
    assert (np.abs(by_product - exact) <= error).all()


def test_a_set_against_itself_has_consistent_ties():
    x = np.random.default_rng(2).normal(size=(101, 33))
    # In each ball its centre and, strictly, k - 1 neighbours; with the surface k.
    for ties, density in (("strict", 1.0), ("inclusive", 6 / 5)):
        expected = {"precision": 1.0, "recall": 1.0, "density": density, "coverage": 1.0}
        for block in (2048, 8):
            assert values(x, x, k=5, ties=ties, block=block) == pytest.approx(expected, rel=1e-14)


def test_scores_of_constant_features_depend_on_the_ties():
    x, y = np.ones((20, 3)), np.ones((15, 3))
    assert set(values(x, y).values()) == {0.0}
    inclusive = values(x, y, ties="inclusive")
    assert inclusive == {"precision": 1.0, "recall": 1.0, "density": 20 / 5, "coverage": 1.0}


def test_radii_match_scikit_learn():
    x = np.random.default_rng(3).normal(size=(200, 17)).astype("float32")
    found = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(x.astype("float64"))
    distances = found.kneighbors()[0][:, -1]
    np.testing.assert_allclose(
        np.sqrt(manifold._squared_radii(x.astype("float64"), 5, 64)), distances, rtol=1e-12
    )


def test_scores_do_not_depend_on_the_order():
    rng = np.random.default_rng(4)
    real, fake = rng.normal(size=(60, 3)), rng.normal(size=(70, 3)) + 0.5
    assert values(real[::-1], rng.permutation(fake)) == values(real, fake)


# Expectations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n, m, k", [(60, 60, 5), (40, 90, 3), (80, 30, 2)])
def test_equal_distributions_have_the_expected_scores(n, m, k):
    draws = [
        prdc(rng.normal(size=(n, 3)), rng.normal(size=(m, 3)), k=k)
        for rng in map(np.random.default_rng, range(150))
    ]
    for name in ("density", "coverage"):
        sample = np.array([draw[name].value for draw in draws])
        expected = draws[0][name].details["expected_if_equal"]
        stderr = sample.std(ddof=1) / np.sqrt(len(sample))
        assert sample.mean() == pytest.approx(expected, abs=3.5 * stderr)
        assert stderr < 0.02


def test_the_expected_coverage_matches_enumeration():
    # Of n - 1 + m others in random order, a ball is empty if the first k are real.
    n, m, k = 4, 3, 2
    orders = list(itertools.permutations(["real"] * (n - 1) + ["fake"] * m))
    empty = np.mean([order[:k] == ("real",) * k for order in orders])
    x = np.random.default_rng(0).normal(size=(n + m, 2))
    scores = prdc(x[:n], np.vstack([x[n:], x[:1]])[: m + 1], k=k)
    assert scores["density"].details["expected_if_equal"] == 1
    # Of m = 4 fakes, by the same count.
    orders = list(itertools.permutations(["real"] * (n - 1) + ["fake"] * (m + 1)))
    empty = np.mean([order[:k] == ("real",) * k for order in orders])
    assert scores["coverage"].details["expected_if_equal"] == pytest.approx(1 - empty)


def test_the_standard_error_of_density_is_nearly_the_spread_over_fakes():
    rng = np.random.default_rng(5)
    real = rng.normal(size=(200, 2))
    scores = [prdc(real, rng.normal(size=(100, 2)) + 1.5) for _ in range(150)]
    for name in ("precision", "density"):
        spread = np.std([score[name].value for score in scores], ddof=1)
        stderr = np.mean([score[name].stderr for score in scores])
        assert stderr == pytest.approx(spread, rel=0.25)


# Refusals -------------------------------------------------------------------------------------

GOOD = np.random.default_rng(0).normal(size=(10, 3))


@pytest.mark.parametrize(
    "real, fake, settings, message",
    [
        (GOOD[:6], GOOD, {}, "`real`.*at least 7"),
        (GOOD, GOOD[:6], {}, "`fake`.*at least 7"),
        (GOOD, GOOD[:, :2], {}, "same features"),
        (GOOD.astype("int64"), GOOD, {}, "int64"),
        (GOOD > 0, GOOD, {}, "bool"),
        (GOOD, np.where(GOOD > 1, np.inf, GOOD), {}, "infinity"),
        (GOOD, GOOD, {"k": 0}, "`k` must be at least 1"),
        (GOOD, GOOD, {"ties": "loose"}, "'loose'"),
        (GOOD, GOOD, {"block": 0}, "`block` must be at least 1"),
        (GOOD * 1e200, GOOD, {}, "float64"),
    ],
)
def test_invalid_sets_and_settings_are_refused(real, fake, settings, message):
    with pytest.raises(ValueError, match=message):
        prdc(real, fake, **settings)


def test_the_smallest_sets_are_accepted():
    assert set(values(GOOD[:7], GOOD[:7])) == {"precision", "recall", "density", "coverage"}
    score = prdc(GOOD[:7], GOOD)["recall"]
    assert (score.n_real, score.n_fake) == (7, 10)
    assert score.estimator == {"k": 5, "ties": "strict", "dtype": "float64"}
