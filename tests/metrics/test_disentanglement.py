"""Disentanglement scores of codes with known scores."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score
from speed import slow_except

from zoo.metrics import disentanglement
from zoo.metrics.disentanglement import (
    beta_vae_score,
    dci,
    factor_vae_score,
    mutual_information_gap,
    sap,
)

FACTORS = np.random.default_rng(0).integers([3, 4, 5], size=(1500, 3))
IDENTITY = FACTORS.astype(float)
NOISE = np.random.default_rng(1).normal(size=FACTORS.shape)
ROTATED = (IDENTITY - IDENTITY.mean(0)) @ stats.special_ortho_group.rvs(3, random_state=0)


def split(score, codes, factors=FACTORS, **options):
    half = len(codes) // 2
    return score(codes[:half], factors[:half], codes[half:], factors[half:], **options)


def small_dci(codes):
    return split(dci, codes[:300], FACTORS[:300])


SCORES = {
    "MIG": mutual_information_gap,
    "disentanglement": lambda codes, _: small_dci(codes)["disentanglement"],
    "completeness": lambda codes, _: small_dci(codes)["completeness"],
    "SAP": lambda codes, factors: split(sap, codes, factors, continuous=True),
    "FactorVAE": lambda *data: factor_vae_score(*data, num_train=300, num_eval=300),
    "beta-VAE": lambda *data: beta_vae_score(*data, num_train=300, num_eval=300),
}


@pytest.mark.parametrize("name", SCORES)
def test_one_dimension_for_each_factor_is_disentangled(name):
    assert 0.95 < float(SCORES[name](IDENTITY, FACTORS)) <= 1


@pytest.mark.parametrize("name", SCORES)
def test_a_constant_code_is_not_disentangled(name):
    # beta-VAE's classifier guesses one of the three factors, the others give 0.
    expected = 1 / 3 if name == "beta-VAE" else 0
    assert float(SCORES[name](0 * IDENTITY, FACTORS)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "name", slow_except(SCORES.keys() - {"disentanglement", "completeness"}, SCORES)
)
def test_scores_depend_on_the_axes_and_not_on_their_order(name):
    skewed = IDENTITY + 0.3 * NOISE
    score = float(SCORES[name](skewed, FACTORS))
    assert float(SCORES[name](skewed[:, [2, 0, 1]], FACTORS)) == pytest.approx(score, abs=0.02)
    # beta-VAE's classifier uses all dimensions, so that a rotation changes its score little.
    least = 0.01 if name == "beta-VAE" else 0.05
    assert float(SCORES[name](ROTATED, FACTORS)) < score - least


# Mutual information ------------------------------------------------------------------------------


def test_binning_matches_a_hand_computed_example():
    binned = disentanglement._binned(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), 3)
    np.testing.assert_array_equal(binned, [1, 1, 2, 2, 3, 3])


def test_mutual_information_and_entropy_match_the_histogram():
    codes = IDENTITY[:, ::-1] + NOISE
    details = mutual_information_gap(codes, FACTORS, bins=7).details
    for f, d in itertools.product(range(3), range(3)):
        joint = np.histogram2d(codes[:, d], FACTORS[:, f], (7, np.arange(7) - 0.5))[0]
        information = sum(stats.entropy(joint.sum(axis)) for axis in (0, 1)) - stats.entropy(
            joint.ravel()
        )
        assert details["mutual_information"][f][d] == pytest.approx(information, abs=1e-12)
        edges = np.linspace(codes[:, d].min(), codes[:, d].max(), 8)[1:-1]
        by_sklearn = mutual_info_score(FACTORS[:, f], np.digitize(codes[:, d], edges))
        assert information == pytest.approx(by_sklearn, abs=1e-12)
    entropy = [stats.entropy(np.bincount(v)) for v in FACTORS.T]
    np.testing.assert_allclose(details["entropy"], entropy, rtol=1e-12)


def test_the_gap_matches_a_hand_computed_example():
    """All combinations once: one code is the first factor, one the indicator of the second > 1."""
    factors = np.array(list(itertools.product(range(2), range(4))))
    codes = np.stack([factors[:, 0], factors[:, 1] > 1, factors[:, 1] == 0], axis=1).astype(float)
    score = mutual_information_gap(codes, factors)
    upper_half, first = np.log(2), np.log(4) - 0.75 * np.log(3)
    np.testing.assert_allclose(score.details["gap"], [1, (upper_half - first) / np.log(4)])
    assert float(score) == pytest.approx(np.mean(score.details["gap"]))


def test_duplicated_codes_have_no_gap():
    assert float(mutual_information_gap(np.tile(IDENTITY, 2), FACTORS)) == 0


def test_independent_codes_have_the_information_of_chance():
    rng = np.random.default_rng(0)
    factors = rng.integers(10, size=(10_000, 4))
    score = mutual_information_gap(rng.random((10_000, 20)), factors)
    information = np.array(score.details["mutual_information"])
    assert score.details["chance"] == [pytest.approx(19 * 9 / 20_000)] * 4
    standard_error = information.std() / np.sqrt(information.size)
    assert standard_error < 2e-4
    assert information.mean() == pytest.approx(0.00855, abs=4 * standard_error)
    assert float(score) < 0.002


# DCI ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "importances, expected",
    [
        (np.eye(10), (1, 1)),
        (np.zeros((10, 10)), (0, 0)),
        (np.ones((4, 10)), (0, 0)),
        # Two dimensions for each factor; one dimension for two factors.
        (np.repeat(np.eye(5), 2, axis=0), (1, 1 - np.log(2) / np.log(10))),
        (np.repeat(np.eye(5), 2, axis=1), (1 - np.log(2) / np.log(10), 1)),
        # A dimension of weight 3 encodes one of two factors, and one of weight 1 both equally.
        (np.array([[3.0, 0.0], [0.5, 0.5]]), (3 / 4, None)),
    ],
)
def test_concentration_of_known_importances(importances, expected):
    for matrix, value in zip((importances, importances.T), expected, strict=True):
        if value is not None:
            assert disentanglement._concentration(matrix) == pytest.approx(value, abs=1e-12)


def test_concentration_is_one_minus_the_weighted_entropy():
    importances = np.random.default_rng(0).random((6, 4))
    entropies = stats.entropy(importances, base=4, axis=1)
    expected = np.average(1 - entropies, weights=importances.sum(axis=1))
    assert disentanglement._concentration(importances) == pytest.approx(expected)


def test_duplicated_codes_are_disentangled_but_not_complete():
    # Each tree splits on either of two equal dimensions at random, with equal frequencies.
    scores = small_dci(np.tile(IDENTITY, 2))
    assert float(scores["disentanglement"]) == pytest.approx(1, abs=1e-6)
    assert float(scores["completeness"]) == pytest.approx(1 - np.log(2) / np.log(6), abs=0.02)


def test_importances_and_informativeness_match_the_trees():
    codes = IDENTITY[:300] + NOISE[:300]
    scores = small_dci(codes)
    trees = GradientBoostingClassifier(random_state=0).fit(codes[:150], FACTORS[:150, 1])
    importances = np.array(scores["disentanglement"].details["importances"])
    np.testing.assert_allclose(importances[:, 1], trees.feature_importances_)
    for name, rows in (("train", slice(150)), ("test", slice(150, 300))):
        accuracy = np.mean(trees.predict(codes[rows]) == FACTORS[:300][rows, 1])
        assert scores[f"informativeness_{name}"].details["accuracies"][1] == pytest.approx(accuracy)
        assert float(scores[f"informativeness_{name}"]) == pytest.approx(
            np.mean(scores[f"informativeness_{name}"].details["accuracies"])
        )
    assert float(scores["informativeness_train"]) > float(scores["informativeness_test"]) + 0.1


# SAP ---------------------------------------------------------------------------------------------


def test_sap_of_two_values_is_one_minus_chance():
    """One dimension predicts a factor of two values always, any other half of the time."""
    factors = np.array(list(itertools.product(range(2), repeat=3)) * 50)
    score = split(sap, factors + 0.5, factors)
    np.testing.assert_allclose(score.details["scores"], 0.5 + 0.5 * np.eye(3))
    assert float(score) == 0.5


def test_sap_is_computed_on_the_test_examples():
    factors = np.array(list(itertools.product(range(2), repeat=2)) * 50)
    score = sap(factors + 0.5, factors, 1.5 - factors, factors)
    np.testing.assert_allclose(score.details["scores"], 0.5 - 0.5 * np.eye(2))


def test_a_rare_value_counts_as_much_as_a_frequent_one_in_sap():
    rng = np.random.default_rng(0)
    factors = (np.arange(400) % 10 == 0).astype(int)[:, None]
    codes = np.column_stack([factors + rng.normal(0, 0.5, (400, 1)), rng.normal(size=400)])
    [[best, other]] = split(sap, codes, factors).details["scores"]
    # Machines that ignore the sizes of classes predict the frequent value, with accuracy 0.9.
    assert best - other > 0.2


def test_sap_of_continuous_factors_is_the_gap_of_squared_correlations():
    codes = np.column_stack([IDENTITY + NOISE, np.full(len(IDENTITY), 0.1)])
    score = split(sap, codes, continuous=True)
    half = len(codes) // 2
    expected = [
        [stats.pearsonr(codes[half:, d], v).statistic ** 2 for d in range(3)] + [0]
        for v in FACTORS[half:].T
    ]
    np.testing.assert_allclose(score.details["scores"], expected, atol=1e-12)
    best = np.sort(expected, axis=1)
    assert float(score) == pytest.approx(np.mean(best[:, -1] - best[:, -2]))


def test_duplicated_codes_have_no_sap():
    for continuous in (False, True):
        score = split(sap, np.tile(IDENTITY, 2), continuous=continuous)
        assert float(score) == pytest.approx(0, abs=1e-12)


# Draws -------------------------------------------------------------------------------------------


def test_examples_are_drawn_uniformly_from_their_group():
    values = np.array([2, 0, 2, 1, 0, 2, 1])
    groups = disentanglement._Groups(values, "factor 0", 2)
    for example, value in enumerate(values):
        np.testing.assert_array_equal(groups.of(example), np.flatnonzero(values == value))
    examples = np.repeat(np.arange(7), 3000)
    others = groups.others(examples, np.random.default_rng(0))
    counts = np.zeros((7, 7))
    np.add.at(counts, (examples, others), 1)
    expected = (values[:, None] == values) & ~np.eye(7, dtype=bool)
    assert (counts[~expected] == 0).all()
    sizes = np.broadcast_to(expected.sum(1)[:, None], (7, 7))
    np.testing.assert_allclose(counts[expected], 3000 / sizes[expected], atol=120)


def test_factor_vae_votes_for_the_constant_dimension():
    """The first factor drives a dimension of large variance, the third one of small variance."""
    codes = np.column_stack([IDENTITY * [100, 1, 0.1], NOISE])
    score = factor_vae_score(codes, FACTORS, num_train=300, num_eval=90)
    np.testing.assert_array_equal(score.details["votes"], 100 * np.eye(3, 6))
    assert float(score) == score.details["train_accuracy"] == 1 and score.stderr == 0


def test_factor_vae_compares_relative_variances():
    """Each dimension varies a little around its factor, in units from 0.1 to 100.

    The variance within a draw is 4 % of the whole variance in the fixed dimension, for any unit.
    Divided by the standard deviation instead, the smallest unit would always be selected.
    """
    codes = (IDENTITY + 0.2 * NOISE) * [100, 1, 0.1]
    score = factor_vae_score(codes, FACTORS, num_train=300, num_eval=90)
    np.testing.assert_array_equal(score.details["votes"], 100 * np.eye(3))
    assert float(score) == 1


def test_the_factor_vae_score_of_noise_is_at_chance():
    score = factor_vae_score(NOISE, FACTORS, num_train=1500, num_eval=1500)
    assert float(score) == pytest.approx(1 / 3, abs=0.05)
    assert score.details["chance"] == pytest.approx(1 / 3)
    assert score.stderr == pytest.approx(np.sqrt(2 / 9 / 1500), rel=0.1)


def test_a_collapsed_dimension_lowers_factor_vae_unless_it_is_excluded():
    """One that is tiny, except for examples so rare that most draws have none of them."""
    collapsed = np.where(np.arange(1500) < 5, 0.1, 0) * np.sign(NOISE[:, 0])
    codes = np.column_stack([IDENTITY + 0.5 * NOISE, collapsed, np.full(1500, 7.0)])
    pruned = factor_vae_score(codes, FACTORS, num_train=300, num_eval=300)
    kept = factor_vae_score(codes, FACTORS, num_train=300, num_eval=300, min_std=0)
    # The constant dimension is always excluded.
    assert (pruned.details["active_dims"], kept.details["active_dims"]) == (3, 4)
    assert float(pruned) > 0.95 > 0.6 > float(kept)


def test_a_rotation_lowers_beta_vae_less_than_factor_vae():
    beta, factor = (SCORES[name](ROTATED, FACTORS) for name in ("beta-VAE", "FactorVAE"))
    assert float(beta) > float(factor) > 0.4


@pytest.mark.parametrize("score", [factor_vae_score, beta_vae_score])
def test_draws_depend_on_the_seed(score):
    a, b, c = (score(ROTATED, FACTORS, 8, 90, 90, seed=seed) for seed in (0, 0, 1))
    assert a == b != c


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "codes, factors, message",
    [
        (IDENTITY[:, 0], FACTORS, r"`codes` must be floats of shape \[N, d\].*\(1500,\)"),
        (FACTORS, FACTORS, "`codes` must be floats.*int64"),
        (np.where(FACTORS > 3, np.nan, IDENTITY), FACTORS, "NaN or infinity in row"),
        (IDENTITY[:, :1], FACTORS, r"at least two. Received: shape \(1500, 1\)"),
        (IDENTITY, FACTORS[:9], r"`factors` must be ints.*a row for each code.*\(9, 3\)"),
        (IDENTITY, FACTORS[:, 0], r"`factors` must be ints.*\(1500,\)"),
        (IDENTITY, IDENTITY, "`factors` must be ints.*float64"),
        (IDENTITY, FACTORS - 1, "ints >= 0.*Received: -1"),
        (IDENTITY, FACTORS * [1, 0, 1], "a single one of factor 1"),
    ],
)
@pytest.mark.parametrize("score", [mutual_information_gap, factor_vae_score, beta_vae_score])
def test_invalid_codes_and_factors_are_refused(score, codes, factors, message):
    with pytest.raises(ValueError, match=message):
        score(codes, factors)


@pytest.mark.parametrize("score", [dci, sap])
def test_incompatible_test_examples_are_refused(score):
    with pytest.raises(ValueError, match=r"`codes_train` and `codes_test`.*\(1500, 2\)"):
        score(IDENTITY, FACTORS, IDENTITY[:, :2], FACTORS)
    with pytest.raises(ValueError, match=r"`factors_train` and `factors_test`.*\(1500, 2\)"):
        score(IDENTITY, FACTORS, IDENTITY, FACTORS[:, :2])
    with pytest.raises(ValueError, match="`factors_test` must be ints"):
        score(IDENTITY, FACTORS, IDENTITY, IDENTITY)


def test_a_single_factor_is_refused():
    one = FACTORS[:, :1]
    for score in (factor_vae_score, beta_vae_score):
        with pytest.raises(ValueError, match="at least two of them"):
            score(IDENTITY, one)
    with pytest.raises(ValueError, match="at least two of them"):
        dci(IDENTITY, one, IDENTITY, one)
    assert float(mutual_information_gap(IDENTITY, one)) > 0.95


def test_the_error_of_values_too_rare_for_a_draw_names_them():
    factors = FACTORS.copy()
    factors[7, 1] = 9
    with pytest.raises(ValueError, match=r"needs 64 examples.*Received: 1 of value 9 of factor 1"):
        factor_vae_score(IDENTITY, factors)
    with pytest.raises(ValueError, match=r"needs 2 examples.*Received: 1 of value 9 of factor 1"):
        beta_vae_score(IDENTITY, factors)


@pytest.mark.parametrize("sizes", [(1, 9, 9), (2, 2, 9), (2, 9, 2)])
def test_impossible_sizes_are_refused(sizes):
    for score in (factor_vae_score, beta_vae_score):
        with pytest.raises(ValueError, match=r"num_eval >= 3.*Received: batch_size="):
            score(IDENTITY, FACTORS, *sizes)
    with pytest.raises(ValueError, match=r"`bins` must be at least 2\. Received: 1"):
        mutual_information_gap(IDENTITY, FACTORS, bins=1)
