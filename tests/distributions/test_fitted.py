"""Priors that are fitted to points: densities by SciPy and scikit-learn, a linear two-stage prior."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from sklearn.mixture import GaussianMixture
from speed import slow

import zoo
from zoo.distributions import FittedMixture, FittedPrior, TwoStagePrior

MEAN, COVARIANCE = np.array([3.0, -20.0]), np.array([[4.0, 0.9], [0.9, 0.25]])


def points(n, seed=0):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, n)


def inner(name):
    return {
        "realnvp": lambda: zoo.RealNVPPrior(2, steps=2, hidden=(8,)),
        "maf": lambda: zoo.MAFPrior(2, steps=2, hidden=(8,)),
        "two_stage": lambda: TwoStagePrior(2, hidden=(8,)),
    }[name]()


def linear_two_stage(a, gamma):
    """A two-stage prior with z = a u + gamma noise, for a[2], and with the exact posterior q(u | z).

    The posterior of independent dimensions is u ~ N(a z / (a^2 + gamma^2), gamma^2 / (a^2 + gamma^2)).
    """
    prior = TwoStagePrior(2, hidden=(3,))
    total = a**2 + gamma**2
    raw = np.log(np.expm1(gamma / np.sqrt(total) - prior.posterior.family.min_scale))
    for part, kernel, bias in (
        (prior.likelihood, np.diag(a), np.zeros(2)),
        (prior.posterior, np.hstack([np.diag(a / total), np.zeros([2, 2])]), [0, 0, *raw]),
    ):
        *_, last = part.network.layers
        # The last layer takes the two values, then the three hidden units.
        last.set_weights([np.vstack([kernel, np.zeros([3, kernel.shape[1]])]), np.array(bias)])
    family = prior.likelihood.family
    family.raw_scale.assign(np.log(gamma - family.min_scale))
    return prior


A, GAMMA = np.array([2.0, 0.5]), 0.6
LINEAR = stats.multivariate_normal(np.zeros(2), np.diag(A**2 + GAMMA**2))


def test_the_mixture_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(-3, 0.5, (150, 2)), rng.normal([2, 4], [1, 0.2], (50, 2))])
    prior = FittedMixture(2, components=2)
    np.testing.assert_allclose(prior().log_prob([0.0, 0.0]), -np.log(2 * np.pi), rtol=1e-6)
    prior.fit(z)
    reference = GaussianMixture(2, reg_covar=1e-6, random_state=0).fit(z)
    x = rng.normal(size=(20, 2))
    np.testing.assert_allclose(
        prior().log_prob(x.astype(np.float32)), reference.score_samples(x), rtol=1e-3
    )
    assert not prior.trainable_variables


@pytest.mark.parametrize("z", [np.zeros([5, 3]), np.zeros([1, 2]), np.full([9, 2], np.nan)])
def test_a_mixture_refuses_invalid_points(z):
    with pytest.raises(ValueError, match="Received: "):
        FittedMixture(2, components=2).fit(z)


@pytest.mark.parametrize("name", ["realnvp", slow("maf"), slow("two_stage")])
def test_the_density_of_a_correlated_normal_is_found(name):
    prior, new = FittedPrior(inner(name)), points(400, seed=1)
    # The scale of a second stage starts at 1 and falls slowly.
    prior.fit(points(1000), epochs=400 if name == "two_stage" else 150)
    if prior.has_density:
        found = prior().log_prob(new.astype(np.float32))
    else:
        found = prior.log_prob_estimate(new, 200, seed=[0, 1])
    expected = stats.multivariate_normal(MEAN, COVARIANCE).logpdf(new)
    # The entropy is 1.8 nats; a normal with independent dimensions loses 0.8 nats.
    assert np.mean(found) == pytest.approx(expected.mean(), abs=0.1)
    sample = prior().sample(4000, seed=[0, 1]).numpy()
    np.testing.assert_allclose(sample.mean(0), MEAN, atol=0.3)
    np.testing.assert_allclose(np.cov(sample.T), COVARIANCE, rtol=0.25)


def test_a_new_prior_has_the_density_of_its_location_and_scale():
    prior = FittedPrior(inner("realnvp"))
    prior.loc.assign([1.0, -2.0])
    prior.scale.assign([3.0, 0.5])
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    expected = stats.multivariate_normal([1, -2], np.diag([9, 0.25])).logpdf(x)
    np.testing.assert_allclose(prior().log_prob(x), expected, rtol=1e-4)


def test_the_estimate_is_exact_with_the_exact_posterior():
    prior = linear_two_stage(A, GAMMA)
    z = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    for num_samples in (1, 3):
        estimate = prior.log_prob_estimate(z, num_samples, seed=[0, 1])
        np.testing.assert_allclose(estimate, LINEAR.logpdf(z), rtol=1e-3)
    whole = FittedPrior(prior)
    whole.loc.assign([1.0, -2.0])
    whole.scale.assign([3.0, 0.5])
    scaled = stats.multivariate_normal([1, -2], np.diag([9, 0.25]) * LINEAR.cov)
    np.testing.assert_allclose(
        whole.log_prob_estimate(z, 2, seed=[0, 1]), scaled.logpdf(z), rtol=1e-3
    )


def test_the_estimate_approaches_the_density_with_another_posterior():
    prior = linear_two_stage(A, GAMMA)
    *_, last = prior.posterior.network.layers
    kernel, bias = last.get_weights()
    last.set_weights([0.7 * kernel, bias + np.array([0, 0, 0.5, 0.5])])
    z = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    estimate = prior.log_prob_estimate(z, 20_000, seed=[0, 1])
    np.testing.assert_allclose(estimate, LINEAR.logpdf(z), atol=0.05)


def test_the_mean_of_the_bound_is_the_density_with_the_exact_posterior():
    prior = linear_two_stage(A, GAMMA)
    z = np.repeat([[0.5, -1.0]], 20_000, 0).astype(np.float32)
    bound = prior.bound(z, seed=[0, 1]).numpy()
    error = bound.std() / np.sqrt(len(bound))
    assert bound.mean() == pytest.approx(LINEAR.logpdf(z[0]), abs=5 * error)
    assert error < 0.01


def test_draws_of_a_two_stage_prior_have_the_moments_of_the_linear_model():
    sample = linear_two_stage(A, GAMMA)().sample(20_000, seed=[0, 1]).numpy()
    np.testing.assert_allclose(sample.mean(0), [0, 0], atol=0.06)
    np.testing.assert_allclose(np.cov(sample.T), LINEAR.cov, atol=0.15)


def test_a_two_stage_prior_states_that_it_has_no_density():
    prior = FittedPrior(TwoStagePrior(2, hidden=(3,)))
    assert not prior.has_density
    with pytest.raises(NotImplementedError, match=r"no closed form.* Received: "):
        prior().log_prob([0.0, 0.0])


@pytest.mark.parametrize("name", ["two_stage", slow("realnvp"), slow("maf")])
def test_equal_seeds_give_equal_priors_and_leave_other_random_numbers_unchanged(name):
    def fitted(seed):
        prior = FittedPrior(inner(name))
        state = random.getstate()
        prior.fit(points(60), seed, epochs=2)
        assert random.getstate() == state
        return prior.get_weights()

    first = fitted(3)
    keras.utils.set_random_seed(99)
    for a, b in zip(first, fitted(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, fitted(4), strict=True))


def test_the_weights_of_the_best_epoch_are_kept():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    z = np.stack([x, x + rng.normal(0, 0.1, 60)], -1)
    # The held-out points are correlated the other way, so that each epoch is worse for them.
    held_out = np.random.default_rng(0).permutation(60)[:6]
    z[held_out, 1] *= -1

    def score(epochs):
        prior = FittedPrior(inner("realnvp"))
        prior.fit(z, epochs=epochs)
        return float(np.mean(prior().log_prob(z[held_out].astype(np.float32))))

    assert score(20) == pytest.approx(score(1), abs=1e-3)


def test_gradients_do_not_change_a_fitted_prior_and_a_configuration_repeats_it():
    prior = FittedPrior(inner("maf"))
    prior.fit(points(40), epochs=1)
    again = FittedPrior.from_config(prior.get_config())
    again.set_weights(prior.get_weights())
    for one in (prior, again):
        assert not one.trainable_variables and not one.is_learned
        assert not any(v.trainable for v in one.weights)
    np.testing.assert_array_equal(again().sample(3, seed=[0, 1]), prior().sample(3, seed=[0, 1]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: zoo.StandardNormal(2),
        lambda: FittedMixture(2),
        lambda: zoo.VampPrior((8, 8, 1)),
        lambda: zoo.ConditionalPrior(zoo.networks.mlp(3, 4), zoo.DiagonalNormal()),
    ],
)
def test_priors_that_cannot_be_fitted_are_refused(make):
    with pytest.raises(ValueError, match=r"needs a learned prior .* Received: a"):
        FittedPrior(make())


@pytest.mark.parametrize(
    ("z", "options"),
    [
        (np.zeros([19, 2]), {}),
        (np.zeros([30, 3]), {}),
        (np.full([30, 2], np.inf), {}),
        (points(30), {"epochs": 0}),
        (points(30), {"seed": -1}),
    ],
)
def test_invalid_fits_are_refused(z, options):
    prior = FittedPrior(inner("realnvp"))
    before = prior.get_weights()
    with pytest.raises(ValueError, match="Received: "):
        prior.fit(z, **options)
    for a, b in zip(before, prior.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"dim": 2, "hidden": ()}])
def test_invalid_two_stage_priors_are_refused(wrong):
    with pytest.raises(ValueError, match="Received: "):
        TwoStagePrior(**wrong)


def test_a_two_stage_prior_refuses_invalid_numbers_of_draws():
    with pytest.raises(ValueError, match="`num_samples` must be at least 1"):
        TwoStagePrior(2).log_prob_estimate(tf.zeros([3, 2]), 0)
