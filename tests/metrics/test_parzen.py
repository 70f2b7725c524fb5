"""Parzen windows against SciPy's and scikit-learn's densities."""

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KernelDensity

from zoo.metrics import parzen
from zoo.metrics.parzen import parzen_log_likelihood

RNG = np.random.default_rng(0)
SAMPLES, VALID, TEST = (RNG.random([n, 5]) for n in (40, 30, 23))
SCALES = [0.05, 0.2, 0.4, 3.0]


def test_the_estimate_is_the_kernel_density_with_the_best_validation_scale():
    densities = [KernelDensity(kernel="gaussian", bandwidth=scale).fit(SAMPLES) for scale in SCALES]
    validation = [density.score_samples(VALID).mean() for density in densities]
    values = densities[int(np.argmax(validation))].score_samples(TEST)
    result = parzen_log_likelihood(SAMPLES, VALID, TEST, SCALES)
    assert result.value == pytest.approx(values.mean(), rel=1e-12)
    assert result.stderr == pytest.approx(stats.sem(values), rel=1e-10)
    assert result.details["validation"] == pytest.approx(validation, rel=1e-12)
    assert result.details["scale"] == SCALES[np.argmax(validation)] == 0.2
    assert not result.details["at_the_edge"]
    assert (result.n_real, result.n_fake) == (23, 40)
    assert result.estimator["historical"] is True


def test_one_sample_gives_one_normal():
    result = parzen_log_likelihood(SAMPLES[:1], VALID, TEST, [0.7])
    normal = stats.multivariate_normal(SAMPLES[0], 0.7**2)
    assert result.value == pytest.approx(normal.logpdf(TEST).mean(), rel=1e-12)
    assert result.details["at_the_edge"]


def test_log_densities_far_from_all_samples_are_finite_and_exact():
    result = parzen_log_likelihood(np.zeros((3, 2)), VALID[:, :2], np.full((1, 2), 50.0), [0.1])
    assert result.value == pytest.approx(stats.norm(0, 0.1).logpdf(50) * 2, rel=1e-12)
    assert result.stderr is None


def test_the_block_size_does_not_change_the_result(monkeypatch):
    whole = parzen_log_likelihood(SAMPLES, VALID, TEST)
    for block in (1, 7 * len(SAMPLES)):
        monkeypatch.setattr(parzen, "_BLOCK", block)
        assert parzen_log_likelihood(SAMPLES, VALID, TEST).value == pytest.approx(
            whole.value, rel=1e-13
        )
    assert whole.details["scales"] == pytest.approx(np.logspace(-1, 0, 10))


def test_only_the_first_1000_validation_examples_are_used(monkeypatch):
    wide = np.concatenate([np.repeat(VALID, 34, 0)[:1000], np.full((5000, 5), 100.0)])
    near = parzen_log_likelihood(SAMPLES, wide[:1000], TEST, SCALES)
    all_of_them = parzen_log_likelihood(SAMPLES, wide, TEST, SCALES)
    assert all_of_them.details == near.details
    assert all_of_them.estimator["n_validation"] == 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SAMPLES[:, :4], VALID, TEST), "Received: 4, 5 and 5"),
        ((SAMPLES, VALID, TEST, [0.1, 0.0]), "positive"),
        ((SAMPLES, VALID, TEST, []), "positive"),
        ((SAMPLES, VALID, TEST, [np.nan]), "positive"),
        ((SAMPLES, VALID[:0], TEST), "`valid`"),
        ((SAMPLES, VALID, np.zeros((3, 5), np.uint8)), "uint8"),
        ((np.full((3, 5), np.nan), VALID, TEST), "NaN"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        parzen_log_likelihood(*arguments)
