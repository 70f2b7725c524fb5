"""The scores of the four points, against closed forms of linear models."""

import numpy as np
import pytest
import scipy.stats

import zoo
from benchmarks.tables.four_points import (
    divergence_from_prior,
    log_likelihoods,
    reconstruction_error,
)

LOC, SCALE = np.array([0.5, -0.3]), np.array([0.8, 0.6])
W = np.random.default_rng(0).normal(0, 0.5, (2, 4))
OFFSET = np.array([0.1, 0.2, 0.3, 0.4])


def small_vae(*settings):
    """A Bernoulli VAE of 2x2 images with two latents, unless settings change it."""
    config = zoo.presets.get("vae_digits")
    zoo.presets.override(config, ["latent_dim=2", "jit_compile=false", *settings])
    return zoo.presets.build(config, (2, 2, 1))


@pytest.fixture(scope="module")
def model():
    """p(x | z) = N(z W + offset, I), and q(z | x) = N(LOC, SCALE^2) for every image."""
    model = small_vae("hidden=()", "likelihood=unit_normal")
    model.likelihood.network.set_weights([W, OFFSET])
    raw = np.log(np.expm1(SCALE - 1e-4))
    model.posterior.network.set_weights([np.zeros((4, 4)), np.concatenate([LOC, raw])])
    return model


def test_the_quadrature_matches_the_integral(model):
    exact = scipy.stats.multivariate_normal(OFFSET, W.T @ W + np.eye(4)).logpdf(np.eye(4))
    np.testing.assert_allclose(log_likelihoods(model, points=301), exact, atol=1e-4)


def test_probabilities_of_all_images_of_four_pixels_sum_to_one():
    model = small_vae("hidden=(6,)")
    everything = np.array(list(np.ndindex(2, 2, 2, 2)), np.float32).reshape(16, 2, 2, 1)
    z = model.prior().sample([20_000], seed=0)
    by_draws = [np.mean(np.exp(model.likelihood(z).log_prob(x))) for x in everything]
    assert sum(by_draws) == pytest.approx(1, abs=1e-4)
    lit = [p for p, x in zip(by_draws, everything, strict=True) if x.sum() == 1]
    here = np.exp(log_likelihoods(model, points=201))
    np.testing.assert_allclose(np.sort(here), np.sort(lit), rtol=0.03)


def test_the_divergence_matches_the_kl_of_two_normals(model):
    exact = (0.5 * (LOC**2 + SCALE**2 - 1) - np.log(SCALE)).sum()
    assert divergence_from_prior(model) == pytest.approx(exact, abs=0.005)


def test_the_reconstruction_error_matches_the_closed_form(model):
    gap = np.eye(4) - (LOC @ W + OFFSET)
    spread = ((SCALE[:, None] * W) ** 2).sum()
    exact = 0.5 * ((gap**2).sum(1).mean() + spread) + 2 * np.log(2 * np.pi)
    assert reconstruction_error(model, 100_000) == pytest.approx(exact, abs=0.01)
