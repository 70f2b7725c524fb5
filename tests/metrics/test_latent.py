"""Latent diagnostics against formulas in NumPy and SciPy, constructed codes, and simulation."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats
from small import build

import zoo
from zoo.metrics.latent import (
    active_units,
    aggregate_posterior,
    rate_and_distortion,
    total_correlation,
)


def vae(**changes):
    return build("vae_digits", **({"latent_dim": 3} | changes))


def encoded(model, x):
    """Means and standard deviations of q(z | x), from the output of the network alone."""
    loc, raw = np.split(model.posterior.network(x).numpy().astype(np.float64), 2, -1)
    return loc, 1e-4 + np.logaddexp(0, raw)


@pytest.fixture
def binary(digits):
    return (digits[:40] > 0.5).astype(np.float32)


# Rate and distortion --------------------------------------------------------------------------


def test_the_rate_is_the_formula_for_normals(binary):
    model = vae()
    loc, scale = encoded(model, binary)
    kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * np.log(scale)).sum(-1)
    rate = rate_and_distortion(model, binary, batch_size=7)["rate"]
    assert rate.value == pytest.approx(kl.mean(), rel=1e-5)
    assert rate.stderr == pytest.approx(stats.sem(kl), rel=1e-4)
    assert rate.estimator["method"] == "exact" and rate.n_real == 40


def test_the_distortion_matches_scipys_bernoulli_at_the_drawn_latents(binary):
    model = vae()
    # The seed of the single batch is [seed, 0]; z is drawn again with it.
    z = model.posterior(binary).sample(seed=tf.constant([5, 0]))
    p = special.expit(model.likelihood.network(z).numpy().astype(np.float64))
    expected = -stats.bernoulli.logpmf(binary, p).sum((1, 2, 3))
    distortion = rate_and_distortion(model, binary, seed=5)["distortion"]
    assert distortion.value == pytest.approx(expected.mean(), rel=1e-5)
    assert distortion.stderr == pytest.approx(stats.sem(expected), rel=1e-4)
    assert distortion.details["cross_entropy"] is False


def test_rate_plus_distortion_is_the_loss_of_the_model(binary):
    model = vae()
    model.compile("adam")
    repeated = np.repeat(binary, 50, 0)
    terms = rate_and_distortion(model, repeated)
    loss = model.evaluate(repeated, verbose=0, return_dict=True)["loss"]
    assert terms["rate"].value + terms["distortion"].value == pytest.approx(loss, rel=2e-3)


def test_a_rate_without_a_formula_is_estimated(binary):
    model = vae(latent_dim=2)
    model.prior = zoo.NormalPetals()
    # An estimate of the expectation from many draws of log q - log p.
    q = model.posterior(binary)
    z = q.sample(4000, seed=1)
    expected = (q.log_prob(z) - model.prior().log_prob(z)).numpy().mean()
    repeated = np.repeat(binary, 100, 0)
    rate = rate_and_distortion(model, repeated)["rate"]
    assert rate.estimator["method"] == "one draw"
    assert rate.value == pytest.approx(expected, abs=5 * rate.stderr)


def test_a_bernoulli_of_grey_images_gives_a_cross_entropy(digits):
    assert rate_and_distortion(vae(), digits)["distortion"].details["cross_entropy"] is True


def test_a_model_without_posterior_and_likelihood_is_refused(digits):
    gan = build("gan_digits")
    with pytest.raises(ValueError, match="a GAN without posterior and likelihood"):
        rate_and_distortion(gan, digits)
    with pytest.raises(ValueError, match="a GAN, which has decode, sample"):
        aggregate_posterior(gan, digits)
    vaegan = build("vaegan_digits")
    with pytest.raises(ValueError, match="a VAEGAN without likelihood"):
        rate_and_distortion(vaegan, digits)


def test_a_deterministic_posterior_and_a_prior_without_density_are_refused(digits):
    with pytest.raises(ValueError, match="deterministic"):
        rate_and_distortion(build("aae_digits", posterior="deterministic"), digits)
    spiral = build("aae_digits", posterior="normal", prior="swiss_roll")
    with pytest.raises(ValueError, match="SwissRoll, which can only be sampled"):
        rate_and_distortion(spiral, digits)


# Draws ----------------------------------------------------------------------------------------


def test_draws_have_the_moments_of_the_posterior(digits):
    model = vae()
    x = np.repeat(digits[:2], 3000, 0)
    loc, scale = encoded(model, digits[:2])
    draws = aggregate_posterior(model, x, batch_size=1000).reshape(2, 3000, 3)
    error = scale / np.sqrt(3000)
    assert (np.abs(draws.mean(1) - loc) < 5 * error).all()
    assert draws.std(1) == pytest.approx(scale, rel=0.08)
    assert draws.dtype == np.float32


def test_draws_differ_between_batches_and_repeat_with_the_seed(digits):
    model = vae()
    same = np.repeat(digits[:1], 6, 0)
    a, b, c = (aggregate_posterior(model, same, 3, seed) for seed in (0, 0, 1))
    assert (a == b).all() and (a != c).any()
    assert len(np.unique(a[:, 0])) == 6


def test_a_deterministic_encoder_gives_its_codes(digits):
    model = build("aae_digits", posterior="deterministic")
    draws = aggregate_posterior(model, digits, batch_size=64)
    assert draws == pytest.approx(model.posterior.network(digits).numpy(), abs=1e-6)


@pytest.mark.parametrize("function", [aggregate_posterior, rate_and_distortion])
def test_invalid_images_are_refused(digits, function):
    with pytest.raises(ValueError, match="at least 1 image"):
        function(vae(), digits[:0])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        function(vae(), 2 * digits)
    with pytest.raises(ValueError, match="`batch_size`"):
        function(vae(), digits, batch_size=0)


# Active units ---------------------------------------------------------------------------------


def test_units_with_a_variance_above_the_threshold_are_active():
    spread = np.array([1.0, 0.11, 0.09, 0.0])  # variances 1, 0.0121, 0.0081, 0
    means = np.array([[-1.0], [1.0], [1.0], [-1.0]]) * spread + [5, -3, 0, 100]
    result = active_units(means)
    assert result.value == 2 and result.n_real == 4
    assert result.details["variances"] == pytest.approx(spread**2, abs=1e-12)
    assert active_units(means, threshold=0.005).value == 3
    assert active_units(means, threshold=2).value == 0


@pytest.mark.parametrize("means", [np.zeros((1, 3)), np.zeros(3), np.full((4, 2), np.nan)])
def test_invalid_means_are_refused(means):
    with pytest.raises(ValueError, match="`means`"):
        active_units(means)


def test_a_negative_threshold_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        active_units(np.zeros((4, 2)), -0.1)


# Total correlation ----------------------------------------------------------------------------


def with_covariance(covariance, n=500):
    """Codes whose sample covariance is this exactly."""
    white = np.random.default_rng(0).normal(size=(n, len(covariance)))
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T
    return white @ np.linalg.cholesky(covariance).T + 3.0


def test_the_total_correlation_matches_the_formula_for_the_sample_covariance():
    factor = np.random.default_rng(1).normal(size=(4, 4))
    covariance = factor @ factor.T
    expected = (np.log(np.diag(covariance)).sum() - np.linalg.slogdet(covariance)[1]) / 2
    result = total_correlation(with_covariance(covariance))
    assert result.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.99])
def test_the_total_correlation_of_two_latents_is_their_mutual_information(rho):
    codes = with_covariance(np.array([[1, rho], [rho, 1]]))
    assert total_correlation(codes).value == pytest.approx(-np.log(1 - rho**2) / 2, abs=1e-12)
    assert total_correlation(codes * [1e-6, 1e6]).value == pytest.approx(
        -np.log(1 - rho**2) / 2, abs=1e-9
    )


@pytest.mark.parametrize(("n", "dim"), [(12, 4), (200, 5)])
def test_the_bias_is_the_mean_value_of_independent_normals(n, dim):
    rng = np.random.default_rng(2)
    found = [total_correlation(rng.normal(size=(n, dim))) for _ in range(1500)]
    values = np.array([estimate.value for estimate in found])
    assert found[0].bias == pytest.approx(values.mean(), abs=4 * stats.sem(values))
    expected = sum(special.digamma((n - 1) / 2) - special.digamma((n - j) / 2)
                   for j in range(2, dim + 1)) / 2  # fmt: skip
    assert found[0].bias == pytest.approx(expected, rel=1e-9)


CODES = np.random.default_rng(3).normal(size=(20, 3))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (CODES[:3], "more codes than latents"),
        (CODES[:, :1], "at least 2 latents"),
        (np.c_[CODES, np.full(20, 0.1)], r"constant latents \[3\]"),
        (np.c_[CODES, CODES[:, 0] + CODES[:, 1]], "rank 3 in 4"),
        (np.where(CODES > 2, np.nan, CODES), "NaN"),
    ],
)
def test_codes_without_a_finite_total_correlation_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        total_correlation(codes)
