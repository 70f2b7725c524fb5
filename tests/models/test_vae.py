"""The VAE against probabilistic PCA, where everything is known, and against its loss by hand."""

import math

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import zoo

SHAPE, PIXELS, LATENTS, NOISE = (2, 2, 1), 4, 2, 0.3
# Orthogonal columns, so that the exact posterior is a diagonal normal.
FACTORS = np.array([[0.5, 0.2], [0.5, -0.2], [-0.5, 0.3], [0.5, 0.3]])
MEAN = np.array([0.5, 0.4, 0.6, 0.5])
PRECISION = FACTORS.T @ FACTORS + NOISE**2 * np.eye(LATENTS)
POSTERIOR_SCALE = np.sqrt(NOISE**2 / np.diag(PRECISION))
X = np.random.default_rng(0).uniform(0, 1, (6, *SHAPE)).astype(np.float32)


def test_the_example_has_a_diagonal_posterior():
    assert np.abs(PRECISION - np.diag(np.diag(PRECISION))).max() < 1e-12


def probabilistic_pca(widening=1.0):
    """A linear VAE whose q is the exact posterior, its scales times `widening`."""
    encoder = zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, ())
    to_mean = FACTORS @ np.linalg.inv(PRECISION)
    raw = np.log(np.expm1(widening * POSTERIOR_SCALE - 1e-4))
    encoder.set_weights([
        np.concatenate([to_mean, np.zeros((PIXELS, LATENTS))], 1),
        np.concatenate([-MEAN @ to_mean, raw]),
    ])  # fmt: skip
    decoder = zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, ())
    decoder.set_weights([FACTORS.T, MEAN])
    return zoo.VAE(
        zoo.Conditional(encoder, zoo.DiagonalNormal()),
        zoo.Conditional(decoder, zoo.SharedScaleNormal(NOISE)),
        zoo.StandardNormal(LATENTS),
    )


def exact(x):
    marginal = scipy.stats.multivariate_normal(
        MEAN, FACTORS @ FACTORS.T + NOISE**2 * np.eye(PIXELS)
    )
    return np.atleast_1d(marginal.logpdf(x.reshape(-1, PIXELS).astype(np.float64)))


def losses_of(model, x, repeats, seed=(0, 1)):
    """`[repeats, B]` losses, and the terms, each with noise of its own."""
    losses, terms = model.objective(
        tf.constant(np.tile(x, (repeats, 1, 1, 1))), None, tf.constant(seed), training=True
    )
    shape = (repeats, len(x))
    return losses["vae"].numpy().reshape(shape), {
        name: term.numpy().reshape(shape) for name, term in terms.items()
    }


@pytest.mark.parametrize("num_samples", [1, 7])
def test_with_the_exact_posterior_any_number_of_samples_gives_the_exact_log_likelihood(num_samples):
    estimate = probabilistic_pca().log_prob(X, num_samples, seed=[1, 2])
    np.testing.assert_allclose(estimate, exact(X), atol=1e-4)


def test_with_the_exact_posterior_the_elbo_is_the_log_likelihood():
    losses, terms = losses_of(probabilistic_pca(), X, 5000)
    error = losses.std(0) / np.sqrt(len(losses))
    assert (np.abs(losses.mean(0) + exact(X)) < 4.5 * error).all()
    assert (error < 0.03).all()
    np.testing.assert_allclose(losses, terms["distortion"] + terms["rate"], rtol=1e-5)


def test_another_posterior_costs_its_kl_to_the_exact_one():
    widening = 2.0
    losses, _ = losses_of(probabilistic_pca(widening), X, 5000)
    gap = LATENTS * (0.5 * (widening**2 - 1) - math.log(widening))
    error = losses.std(0) / np.sqrt(len(losses))
    assert (np.abs(losses.mean(0) + exact(X) - gap) < 4.5 * error).all()
    assert gap > 10 * error.max()


def test_importance_sampling_rises_from_the_elbo_to_the_log_likelihood():
    model = probabilistic_pca(2.0)
    x = np.tile(X[:1], (1000, 1, 1, 1))
    means = [float(np.mean(model.log_prob(x, k, seed=[3, k]))) for k in (1, 5, 100)]
    target = exact(X[:1])[0]
    gap = LATENTS * (0.5 * 3 - math.log(2))
    assert means[0] == pytest.approx(target - gap, abs=0.2)
    assert means[0] < means[1] < means[2] < target + 0.02
    assert means[2] == pytest.approx(target, abs=0.03)


def test_the_exact_posterior_is_where_the_elbo_has_no_slope():
    model = probabilistic_pca()
    x = tf.constant(np.tile(X, (3000, 1, 1, 1)))

    def slopes():
        variables = model.posterior.trainable_variables
        with tf.GradientTape() as tape:
            losses, _ = model.objective(x, None, tf.constant([4, 4]), training=True)
            loss = tf.reduce_mean(losses["vae"])
        return max(np.abs(g).max() for g in tape.gradient(loss, variables))

    at_optimum = slopes()
    kernel, bias = model.posterior.network.get_weights()
    model.posterior.network.set_weights([kernel, bias + 0.3])
    assert at_optimum < 0.1 * slopes()


def hand_computed(model, known, x, log_likelihood):
    """Distortion and rate in numpy, with the noise that is known."""
    params = np.asarray(model.posterior.network(x), np.float64)
    loc, log_scale = np.split(params, 2, 1)
    scale = np.exp(log_scale)
    z = loc + scale * known.noise(*loc.shape)
    outputs = np.asarray(model.likelihood.network(z.astype(np.float32)), np.float64)
    rate = 0.5 * (loc**2 + scale**2 - 1 - 2 * log_scale).sum(1)
    return -log_likelihood(x, outputs).sum((1, 2, 3)), rate


@pytest.mark.parametrize(
    ("family", "log_likelihood"),
    [
        (zoo.UnitNormal, lambda x, m: -0.5 * (x - m) ** 2 - 0.5 * math.log(2 * math.pi)),
        (zoo.Bernoulli, lambda x, m: x * m - np.logaddexp(0, m)),
    ],
)
def test_the_loss_is_the_distortion_summed_over_pixels_plus_the_kl(
    known, digits, family, log_likelihood
):
    model = zoo.VAE(
        zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 6, (5,)), known.Posterior()),
        zoo.Conditional(zoo.networks.mlp_decoder(3, (8, 8, 1), 1, (5,)), family()),
        zoo.StandardNormal(3),
    )
    x = np.round(digits[:7])
    distortion, rate = hand_computed(model, known, x, log_likelihood)
    model.compile(keras.optimizers.SGD(0.0))
    logs = model.fit(x, batch_size=7, shuffle=False, verbose=0).history
    assert logs["distortion"][0] == pytest.approx(distortion.mean(), rel=1e-4)
    assert logs["rate"][0] == pytest.approx(rate.mean(), rel=1e-4)
    assert logs["loss"][0] == pytest.approx((distortion + rate).mean(), rel=1e-4)


def test_one_loss_moves_encoder_and_decoder_along_its_gradient(
    known, digits, moves, assert_descends
):
    encoder = zoo.networks.mlp_encoder((8, 8, 1), 6, (5,), "tanh")
    decoder = zoo.networks.mlp_decoder(3, (8, 8, 1), 1, (5,), "tanh")
    model = zoo.VAE(
        zoo.Conditional(encoder, known.Posterior()),
        zoo.Conditional(decoder, zoo.UnitNormal()),
        zoo.StandardNormal(3),
    )
    x = tf.constant(digits[:7])
    with tf.GradientTape() as tape:
        loc, log_scale = tf.split(encoder(x), 2, 1)
        z = loc + tf.exp(log_scale) * known.noise(7, 3)
        rate = 0.5 * tf.reduce_sum(loc**2 + tf.exp(2 * log_scale) - 1 - 2 * log_scale, 1)
        distortion = 0.5 * tf.reduce_sum((x - decoder(z)) ** 2, [1, 2, 3])
        loss = tf.reduce_mean(rate + distortion)
    gradients = tape.gradient(loss, encoder.trainable_variables + decoder.trainable_variables)
    model.compile(keras.optimizers.SGD(1.0))
    assert_descends(moves(model, lambda: model.train_step((x,)))["vae"], gradients)


class LearnedScale(zoo.distributions.Prior):
    """N(0, s^2 I) with s learned."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.log_scale = self.add_weight(name="log_scale", initializer="zeros")

    def call(self, y=None):
        scale = tf.exp(tf.convert_to_tensor(self.log_scale))
        return zoo.distributions.tfd.Independent(
            zoo.distributions.tfd.Normal(tf.zeros(self.dim), scale), 1
        )


def test_a_prior_with_weights_learns_the_scale_that_the_posteriors_have():
    model = probabilistic_pca()
    model.prior = LearnedScale(LATENTS)
    frozen = [model.posterior, model.likelihood]
    for layer in frozen:
        layer.trainable = False
    model.compile(keras.optimizers.Adam(0.05), steps_per_execution=50)
    data = tf.data.Dataset.from_tensors(X).repeat()
    model.fit(data, steps_per_epoch=200, verbose=0)
    loc = np.asarray(model.posterior(tf.constant(X)).mean())
    best = np.sqrt((loc**2 + POSTERIOR_SCALE**2).mean())
    assert float(np.exp(model.prior.log_scale.numpy())) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("prior", ["petals", "normal"])
def test_the_rate_is_exact_for_a_normal_prior_and_an_estimate_at_the_same_z_for_another(prior):
    model = probabilistic_pca()
    if prior == "petals":
        model.prior = zoo.NormalPetals(components=3, shift=1.0, scales=(1.0, 0.5))
    _, terms = losses_of(model, X, 4000)
    rates = terms["rate"]
    if prior == "normal":
        assert rates.std(0).max() < 1e-4
    else:
        # E[distortion + rate] >= -log p(x) under that prior, here by Monte Carlo over it.
        assert rates.std(0).min() > 0.05
        z = np.asarray(model.prior().sample(200_000, seed=[1, 2]), np.float64)
        means = z @ FACTORS.T + MEAN
        for i, x in enumerate(X.reshape(-1, PIXELS)):
            log_p = np.log(np.exp(scipy.stats.norm.logpdf(x, means, NOISE).sum(1)).mean())
            elbo = -(terms["distortion"][:, i] + rates[:, i])
            assert elbo.mean() < log_p + 4 * elbo.std() / np.sqrt(len(elbo)) + 0.02


def test_log_prob_of_a_discretized_likelihood_is_a_log_mass_below_zero(digits):
    model = zoo.models.vae.vae_mlp((8, 8, 1), 2, (8,), likelihood="discretized_logistic", levels=17)
    assert (np.asarray(model.log_prob(digits[:4], 5, seed=[1, 1])) < 0).all()
