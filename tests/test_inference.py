"""Latents by optimisation against closed forms, SciPy and models whose energy is known."""

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from zoo import inference
from zoo.contract import MissingInput

tfd = tfp.distributions
RNG = np.random.default_rng(0)

# A linear model of 2 x 2 pixels: x = MEAN + FACTORS z + NOISE eps.
SHAPE, NOISE = (2, 2, 1), 0.3
FACTORS = np.array([[0.5, 0.4], [0.5, -0.2], [-0.5, 0.3], [0.2, 0.3]])
MEAN = np.array([0.5, 0.4, 0.6, 0.5])
X = RNG.uniform(0, 1, (3, *SHAPE)).astype(np.float32)


def linear(prior=None, encoder=True):
    """The linear model, with an encoder that does not know the posterior."""
    decoder = zoo.networks.mlp_decoder(2, SHAPE, 1, ())
    decoder.set_weights([FACTORS.T, MEAN])
    likelihood = zoo.Conditional(decoder, zoo.SharedScaleNormal(NOISE))
    prior = prior or zoo.StandardNormal(2)
    posterior = zoo.Conditional(zoo.networks.mlp_encoder(SHAPE, 4, ()), zoo.DiagonalNormal())
    return zoo.VAE(posterior, likelihood, prior)


def closed_form(x, seen, weight=1.0):
    """(W_o' W_o + weight s^2 I)^-1 W_o' (x_o - mu_o) of each image."""
    seen = np.broadcast_to(seen, x.shape).reshape(len(x), -1)
    modes = []
    for values, rows in zip(x.reshape(len(x), -1), seen, strict=True):
        factors = FACTORS[rows]
        precision = factors.T @ factors + weight * NOISE**2 * np.eye(2)
        modes.append(np.linalg.solve(precision, factors.T @ (values - MEAN)[rows]))
    return np.array(modes)


PART = np.array([[1, 0], [1, 1]], bool)[..., None]
EACH = RNG.random((3, 2, 2, 1)) < 0.6


@pytest.mark.parametrize(
    "seen", [None, PART, EACH, np.zeros_like(PART)], ids=["all", "part", "each", "none"]
)
def test_the_latents_of_a_linear_model_are_its_posterior_mode(seen):
    z, energy = inference.fit_latents(linear(), X, seen=seen, steps=400)
    mode = closed_form(X, True if seen is None else seen)
    np.testing.assert_allclose(z, mode, atol=1e-3)
    errors = (X.reshape(3, 4) - MEAN - mode @ FACTORS.T).reshape(X.shape) / NOISE
    of_pixels = 0.5 * errors**2 + np.log(NOISE) + 0.5 * np.log(2 * np.pi)
    of_pixels = np.where(True if seen is None else seen, of_pixels, 0).sum((1, 2, 3))
    np.testing.assert_allclose(
        energy, of_pixels + 0.5 * (mode**2).sum(1) + np.log(2 * np.pi), atol=1e-4
    )


def test_the_weight_of_the_prior_scales_its_precision():
    z, _ = inference.fit_latents(linear(), X, seen=EACH, steps=400, weight=3.0)
    np.testing.assert_allclose(z, closed_form(X, EACH, 3.0), atol=1e-3)
    z, _ = inference.fit_latents(linear(), X, steps=1000, weight=0.0)
    least_squares = np.linalg.lstsq(FACTORS, (X.reshape(3, 4) - MEAN).T, rcond=None)[0].T
    np.testing.assert_allclose(z, least_squares, atol=1e-3)


def test_the_mode_of_a_conditional_prior_is_its_mean():
    network = zoo.networks.mlp(2, 4, ())
    means = np.array([[1.0, -0.5], [0.3, 0.8]])
    network.set_weights([np.concatenate([means, np.zeros((2, 2))], 1), np.zeros(4)])
    parts = linear()
    prior = zoo.ConditionalPrior(network, zoo.DiagonalNormal())
    model = zoo.CVAE(parts.posterior, parts.likelihood, prior)
    y = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    z, _ = inference.fit_latents(model, X, y, np.zeros_like(PART), steps=400, batch_size=2)
    np.testing.assert_allclose(z, y @ means, atol=1e-3)
    z, _ = inference.fit_latents(model, X, y[2], np.zeros_like(PART), steps=400)
    np.testing.assert_allclose(z, np.tile(y[2] @ means, (3, 1)), atol=1e-3)


@pytest.mark.parametrize(
    "prior",
    [
        lambda: zoo.MixturePrior(2, 3),
        lambda: zoo.VampPrior(SHAPE, 3),
        lambda: zoo.RealNVPPrior(2, 2, (4,)),
    ],
    ids=["mixture", "vamp", "realnvp"],
)
def test_the_density_of_a_learned_prior_is_stationary_at_its_mode(prior):
    model = linear(prior())
    z, energy = inference.fit_latents(model, X, seen=np.zeros_like(PART), steps=300, seed=0)
    with tf.GradientTape() as tape:
        tape.watch(z)
        log_prob = model.prior().log_prob(z)
    assert np.abs(tape.gradient(log_prob, z)).max() < 1e-2
    np.testing.assert_allclose(energy, -log_prob, rtol=1e-5)


def folded():
    """A model of one pixel with the mean |z - 1/2|, so that the posterior has two modes."""
    z = keras.Input((1,))
    network = keras.Model(z, keras.layers.Reshape((1, 1, 1))(keras.ops.abs(z - 0.5)))
    posterior = zoo.Conditional(zoo.networks.mlp_encoder((1, 1, 1), 2, ()), zoo.DiagonalNormal())
    likelihood = zoo.Conditional(network, zoo.SharedScaleNormal(NOISE))
    return zoo.VAE(posterior, likelihood, zoo.StandardNormal(1))


def test_more_starts_find_the_mode_of_lower_energy():
    x, start = np.ones((2, 1, 1, 1), np.float32), [[1.4], [1.6]]
    near, far = (0.5 + side * (1 / NOISE**2 - 0.5 * side) / (1 / NOISE**2 + 1) for side in (-1, 1))
    one, high = inference.fit_latents(folded(), x, start=start)
    np.testing.assert_allclose(one, [[far]] * 2, atol=1e-3)
    more, low = inference.fit_latents(folded(), x, start=start, starts=8, seed=0)
    np.testing.assert_allclose(more, [[near]] * 2, atol=1e-3)
    assert (low.numpy() < high.numpy() - 0.5).all()


def test_the_latents_of_a_bernoulli_model_match_scipy():
    model = zoo.models.vae(SHAPE, latent_dim=2, hidden=(3,), activation="tanh")
    first, a, second, b = (2 * w for w in model.likelihood.network.get_weights())
    model.likelihood.network.set_weights([first, a, second, b])
    x = (X > 0.5).astype(np.float32)
    z, energy = inference.fit_latents(model, x, seen=PART, start=np.zeros((3, 2)), steps=400)

    def expected(z, pixels):
        logits = (np.tanh(z @ first + a) @ second + b)[PART.ravel()]
        return np.sum(np.logaddexp(0, logits) - pixels[PART] * logits) + 0.5 * z @ z

    for row, value, pixels in zip(z, energy, x, strict=True):
        best = scipy.optimize.minimize(expected, np.zeros(2), (pixels,))
        np.testing.assert_allclose(row, best.x, atol=1e-3)
        assert float(value) == pytest.approx(best.fun + np.log(2 * np.pi), abs=1e-4)


def gan(prior=None):
    return zoo.GAN(
        zoo.networks.mlp_decoder(2, (8, 8, 1), hidden=(8,), output="sigmoid"),
        zoo.networks.mlp_discriminator((8, 8, 1), hidden=(8,)),
        prior or zoo.StandardNormal(2),
    )


def test_an_image_that_a_gan_has_sampled_is_found_from_half_of_it():
    model = gan()
    x = model.sample(3, seed=1)
    half = zoo.datasets.named_mask("half:left", (8, 8))[0]
    options = {"weight": 0, "starts": 3, "steps": 300, "batch_size": 2, "seed": 0}
    found = inference.complete(model, x, half, **options)
    np.testing.assert_allclose(found.images[0], x, atol=1e-2)
    np.testing.assert_allclose(model.decode(found.latents[0]), x, atol=1e-2)
    assert found.acceptance is None


def test_the_energy_without_a_likelihood_is_a_squared_error():
    model, z = gan(), np.float32([[0.5, -1.0]])
    x = np.full((1, 8, 8, 1), 0.25, np.float32)
    same, energy = inference.fit_latents(model, x, start=z, steps=0, scale=0.2, weight=2.0)
    np.testing.assert_array_equal(same, z)
    squares = np.sum((x - model.decode(z)) ** 2) / (2 * 0.2**2)
    assert float(energy[0]) == pytest.approx(squares + 1.25 + 2 * np.log(2 * np.pi), rel=1e-5)


def test_a_prior_without_a_density_needs_a_weight_of_zero():
    model = gan(zoo.Uniform(2))
    x = model.sample(2, seed=0)
    with pytest.raises(ValueError, match=r"weight=0, needs a density .* Received: an? Uniform"):
        inference.fit_latents(model, x)
    z, _ = inference.fit_latents(model, x, weight=0, steps=1, seed=0)
    assert z.shape == (2, 2)


def test_completions_keep_the_seen_values_and_ignore_the_hidden_ones():
    model, odd = linear(), np.where(EACH, X, np.nan)
    images = inference.complete(model, odd, EACH, steps=400).images[0]
    np.testing.assert_array_equal(images.numpy()[EACH], X[EACH])
    decoded = np.clip(MEAN + closed_form(X, EACH) @ FACTORS.T, 0, 1).reshape(X.shape)
    np.testing.assert_allclose(images.numpy()[~EACH], decoded[~EACH], atol=1e-3)


def test_results_depend_on_the_seed_and_not_on_batches():
    model = gan()
    x = model.sample(5, seed=1).numpy()
    results = [
        inference.fit_latents(model, x, starts=2, steps=5, seed=seed, batch_size=size)
        for seed, size in ((0, 500), (0, 2), (0, 500), (1, 500))
    ]
    whole, parts, again, other = (z.numpy() for z, _ in results)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    np.testing.assert_array_equal(whole, again)
    assert np.abs(whole - other).max() > 0.1


class NeedsMask(zoo.VAE):
    """A model whose encoder needs more than `x` and `y`."""

    def encode(self, x, y=None):
        raise MissingInput("This encoder needs a mask.")


def test_the_first_start_is_the_encoders_mean_or_a_draw_of_the_prior():
    model = linear()
    filled = np.where(EACH, X, 0.5)
    for image, own in zip(filled, EACH, strict=True):
        if own.any():
            image[~own] = image[own].mean()
    z, _ = inference.fit_latents(model, X, seen=EACH, steps=0)
    np.testing.assert_allclose(z, model.encode(filled), atol=1e-6)
    other = NeedsMask(model.posterior, model.likelihood, model.prior)
    drawn, again = (inference.fit_latents(other, X, steps=0, seed=seed)[0] for seed in (0, 1))
    assert np.abs(drawn - again).min() > 0 and np.abs(drawn - z).min() > 0


class Joint(zoo.Conditional):
    """A likelihood under which the values of an image are dependent."""

    def call(self, context, y=None, training=False):
        loc = tf.reshape(super().call(context, y, training).mean(), [-1, 4])
        joint = tfd.MultivariateNormalDiag(loc, tf.ones(4))
        return tfd.TransformedDistribution(joint, tfp.bijectors.Reshape(SHAPE))


def joint():
    model = linear()
    likelihood = Joint(model.likelihood.network, zoo.UnitNormal())
    return zoo.VAE(model.posterior, likelihood, model.prior)


def test_a_likelihood_of_dependent_values_takes_no_mask():
    model = joint()
    with pytest.raises(ValueError, match=r"independent given z.*Received: a TransformedDist"):
        inference.fit_latents(model, X, seen=PART)
    with pytest.raises(ValueError, match=r"independent given z.*Received: a TransformedDist"):
        inference.complete(model, X, PART, method="metropolis")
    assert inference.fit_latents(model, X, seen=PART, scale=1.0, steps=1)[0].shape == (3, 2)
    z, _ = inference.fit_latents(model, X, steps=400)
    precision = FACTORS.T @ FACTORS + np.eye(2)
    mode = np.linalg.solve(precision, FACTORS.T @ (X.reshape(3, 4) - MEAN).T).T
    np.testing.assert_allclose(z, mode, atol=1e-3)


def m2():
    return zoo.models.m2(SHAPE, latent_dim=2, hidden=(3,))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (linear, {"seen": PART[:1]}, r"shape \[2, 2, 1\] or \[3, 2, 2, 1\].*\(1, 2, 1\)"),
        (linear, {"seen": EACH[:2]}, r"Received: shape \(2, 2, 2, 1\)"),
        (linear, {"seen": PART * 0.5}, "of bools, or of 0 and 1. Received: other values"),
        (linear, {"x": X * np.nan}, "values from nan to nan"),
        (linear, {"x": X[:0]}, "at least 1 image"),
        (linear, {"x": (255 * X).astype(np.uint8), "seen": PART}, "divide 8-bit images"),
        (linear, {"start": np.zeros((2, 2))}, r"`start` of shape \[3, D\]. Received: \(2, 2\)"),
        (linear, {"starts": 0}, "`starts` must be at least 1"),
        (linear, {"learning_rate": 0.0}, "`learning_rate` must be positive"),
        (linear, {"learning_rate": 1e38, "start": np.full((3, 2), 1e30)}, "finite energy"),
        (linear, {"scale": -1.0}, "`scale` must be positive"),
        (linear, {"weight": -1.0}, "`weight` must be at least 0"),
        (m2, {}, "takes a condition `y`"),
        (m2, {"y": [1, -1, 2]}, "label of every image. Received: labels from -1"),
        (lambda: zoo.models.autoencoder(SHAPE, latent_dim=2, hidden=(3,)), {}, "weight=0"),
    ],
)
def test_invalid_arguments_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        inference.fit_latents(model(), **({"x": X, "steps": 1} | options))
