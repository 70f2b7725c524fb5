"""The classifier score in extreme cases and against SciPy's divergences."""

import itertools

import numpy as np
import pytest
from scipy import special, stats

from zoo.metrics.classifier_score import classifier_score


def definition(logits):
    p = special.softmax(logits.astype("float64"), axis=1)
    return np.exp(np.mean([stats.entropy(row, p.mean(0)) for row in p]))


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(103, 7)) * 3


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_certain_predictions_of_equal_classes_give_the_number_of_classes(classes):
    certain = 1e4 * np.eye(classes)
    assert classifier_score(certain, splits=1).value == pytest.approx(classes, rel=1e-12)


def test_equal_predictions_give_1():
    constant = np.tile(np.float32([3.0, -1.0, 0.5]), [40, 1])
    result = classifier_score(constant)
    assert result.value == pytest.approx(1, rel=1e-12) and result.stderr < 1e-12


def test_certain_predictions_of_unequal_classes_give_the_exponential_of_the_entropy():
    certain = 1e4 * np.eye(3)[[0, 0, 0, 0, 1, 1, 1, 2]]
    expected = np.exp(stats.entropy([4, 3, 1]))
    assert classifier_score(certain, splits=1).value == pytest.approx(expected, rel=1e-12)


def test_a_single_part_matches_the_definition(logits):
    result = classifier_score(logits, splits=1)
    assert result.value == pytest.approx(definition(logits), rel=1e-12)
    assert result.stderr is None and result.n_fake == 103


def test_parts_come_from_a_seeded_shuffle(logits):
    result = classifier_score(logits, splits=4, seed=3)
    order = np.random.default_rng(3).permutation(103)
    bounds = [0, 26, 52, 78, 103]
    parts = [definition(logits[order[a:b]]) for a, b in itertools.pairwise(bounds)]
    assert result.value == pytest.approx(np.mean(parts), rel=1e-12)
    assert result.stderr == pytest.approx(np.std(parts, ddof=1) / 2)
    assert result.details["std_over_splits"] == pytest.approx(np.std(parts))
    assert result.estimator == {"splits": 4, "seed": 3, "dtype": "float64"}


def test_the_score_depends_on_the_seed_and_not_on_the_order_of_the_data(logits):
    a, b, c = (classifier_score(logits, seed=seed).value for seed in (1, 1, 2))
    assert a == b != c
    certain = 1e4 * np.eye(4)[np.repeat(np.arange(4), 250)]
    assert classifier_score(certain, splits=4).value > 3.8


def test_a_common_shift_of_logits_does_not_change_the_score(logits):
    shifted = logits + np.linspace(-1e4, 1e4, 103)[:, None]
    assert classifier_score(shifted).value == pytest.approx(classifier_score(logits).value)


def test_parts_of_one_example_score_1(logits):
    assert classifier_score(logits, splits=103).value == pytest.approx(1)


def test_float32_logits_are_scored_in_float64(logits):
    rounded = logits.astype("float32")
    assert classifier_score(rounded, 1).value == pytest.approx(definition(rounded), rel=1e-12)


@pytest.mark.parametrize(
    "values, splits, message",
    [
        (np.zeros((9, 3)), 10, "at least 10"),
        (np.zeros((9, 3)), 0, "Received: 0"),
        (np.zeros((9, 3), "int32"), 1, "int32"),
        (np.zeros(9), 1, r"\[N, d\]"),
        (np.full((9, 3), np.nan), 1, "NaN"),
        (np.full((9, 3), -np.inf), 1, "infinity"),
    ],
)
def test_invalid_logits_and_splits_are_refused(values, splits, message):
    with pytest.raises(ValueError, match=message):
        classifier_score(values, splits)
