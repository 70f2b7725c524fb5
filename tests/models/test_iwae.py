"""The importance weighted bound: by hand, against exact posteriors, and its two gradients."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from speed import slow

import zoo
from zoo.schedules import LinearWarmUp

SHAPE, PIXELS, LATENTS, NOISE = (2, 2, 1), 4, 2, 0.5
# Orthogonal columns, so that the exact posterior is a diagonal normal.
FACTORS = np.array([[0.5, 0.2], [0.5, -0.2], [-0.5, 0.3], [0.5, 0.3]])
MEAN = np.array([0.5, 0.4, 0.6, 0.5])
PRECISION = FACTORS.T @ FACTORS + NOISE**2 * np.eye(LATENTS)
X = np.random.default_rng(0).uniform(0, 1, (3, *SHAPE)).astype(np.float32)
SEED = tf.constant([0, 1])


def linear(shift=0.0, widening=1.0, **kwargs):
    """Probabilistic PCA whose q is the exact posterior, shifted by `shift` and widened."""
    encoder = zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, ())
    to_mean = FACTORS @ np.linalg.inv(PRECISION)
    scale = np.sqrt(NOISE**2 / np.diag(PRECISION))
    raw = np.log(np.expm1(widening * scale - 1e-4))
    encoder.set_weights([
        np.concatenate([to_mean, np.zeros((PIXELS, LATENTS))], 1),
        np.concatenate([-MEAN @ to_mean + shift, raw]),
    ])  # fmt: skip
    decoder = zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, ())
    decoder.set_weights([FACTORS.T, MEAN])
    return zoo.IWAE(
        zoo.Conditional(encoder, zoo.DiagonalNormal()),
        zoo.Conditional(decoder, zoo.SharedScaleNormal(NOISE)),
        zoo.StandardNormal(LATENTS),
        **kwargs,
    )


def exact(x):
    covariance = FACTORS @ FACTORS.T + NOISE**2 * np.eye(PIXELS)
    flat = x.reshape(-1, PIXELS).astype(np.float64)
    return scipy.stats.multivariate_normal(MEAN, covariance).logpdf(flat)


def log_weights_by_hand(model, x, seed=SEED):
    """`[K, B]` in float64, and the draws."""
    q = model.posterior(x)
    z = np.asarray(q.sample(model.num_samples, seed=seed), np.float64)
    loc, scale = np.asarray(q.mean(), np.float64), np.asarray(q.stddev(), np.float64)
    log_q = scipy.stats.norm.logpdf(z, loc, scale).sum(-1)
    means = z @ FACTORS.T + MEAN
    flat = np.asarray(x, np.float64).reshape(-1, PIXELS)
    log_joint = scipy.stats.norm.logpdf(flat, means, NOISE).sum(-1)
    return log_joint + scipy.stats.norm.logpdf(z).sum(-1) - log_q


@pytest.mark.parametrize("num_samples", [1, 2, 7])
@pytest.mark.parametrize("doubly", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_loss_is_minus_the_log_of_the_mean_weight(num_samples, doubly, training):
    model = linear(0.4, 1.7, num_samples=num_samples, doubly_reparameterised=doubly)
    losses, terms = model.objective(tf.constant(X), None, SEED, training)
    log_w = log_weights_by_hand(model, X)
    by_hand = np.log(num_samples) - scipy.special.logsumexp(log_w, 0)
    np.testing.assert_allclose(losses["vae"], by_hand, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(terms["distortion"] + terms["rate"], -log_w.mean(0), atol=1e-4)


def test_one_draw_is_the_elbo_of_the_vae_with_its_kl_by_the_same_draw():
    model = linear(0.4, 1.7, num_samples=1)
    vae = zoo.VAE(model.posterior, model.likelihood, Sampled(LATENTS))
    x = tf.constant(X)
    one, other = (m.objective(x, None, SEED, True)[0]["vae"] for m in (model, vae))
    np.testing.assert_allclose(one, other, rtol=1e-5)


class Sampled(zoo.distributions.Prior):
    """N(0, I), as a class without a formula for the KL."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim

    def call(self, y=None):
        tfd = tfp.distributions
        return tfd.MultivariateNormalTriL(scale_tril=tf.eye(self.dim))


@pytest.mark.parametrize("num_samples", [1, 3, 20])
def test_the_exact_posterior_gives_the_exact_likelihood_for_any_number_of_draws(num_samples):
    losses, _ = linear(num_samples=num_samples).objective(tf.constant(X), None, SEED, True)
    np.testing.assert_allclose(-losses["vae"], exact(X), atol=1e-4)


def test_the_bound_rises_with_the_number_of_draws_up_to_the_likelihood():
    x = tf.constant(np.tile(X[:1], (4000, 1, 1, 1)))
    bounds = []
    for k in (1, 2, 5, 20, 100):
        losses, _ = linear(0.5, 2.0, num_samples=k).objective(x, None, SEED, True)
        bounds.append(-losses["vae"].numpy())
    means = np.array([b.mean() for b in bounds])
    errors = np.array([b.std() for b in bounds]) / np.sqrt(4000)
    assert (np.diff(means) > 3 * np.hypot(errors[1:], errors[:-1])).all()
    target = exact(X)[0]
    assert means[-1] < target + 3 * errors[-1]
    assert means[-1] == pytest.approx(target, abs=0.05)
    # The paper's first bound is the ELBO, short of log p(x) by the KL to the exact posterior.
    scale2 = NOISE**2 / np.diag(PRECISION)
    gap = (0.5 * (2.0**2 - 1) - np.log(2.0) + 0.5 * 0.5**2 / scale2).sum()
    assert means[0] == pytest.approx(target - gap, abs=4.5 * errors[0])


def gradients(model, x, seed=SEED, training=True):
    variables = [*model.posterior.trainable_variables, *model.likelihood.trainable_variables]
    with tf.GradientTape() as tape:
        losses, _ = model.objective(x, None, seed, training)
        loss = tf.reduce_mean(losses["vae"])
    return tape.gradient(loss, variables)


def test_the_gradient_weights_log_w_by_the_normalised_weights():
    model = linear(0.4, 1.7, num_samples=4)
    x = tf.constant(X)
    weights = scipy.special.softmax(log_weights_by_hand(model, X), 0).astype(np.float32)
    variables = [*model.posterior.trainable_variables, *model.likelihood.trainable_variables]
    with tf.GradientTape() as tape:
        q = model.posterior(x)
        z = q.sample(4, seed=SEED)
        log_w = model.likelihood(z).log_prob(x) + model.prior().log_prob(z) - q.log_prob(z)
        loss = -tf.reduce_mean(tf.reduce_sum(weights * log_w, 0))
    for have, want in zip(gradients(model, x), tape.gradient(loss, variables), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-4)


def test_the_doubly_reparameterised_gradient_matches_the_paper():
    model = linear(0.4, 1.7, num_samples=4, doubly_reparameterised=True)
    x = tf.constant(X)
    weights = scipy.special.softmax(log_weights_by_hand(model, X), 0).astype(np.float32)
    q = model.posterior(x)
    noise = (q.sample(4, seed=SEED) - q.mean()) / q.stddev()
    fixed = tfp.distributions.Normal(tf.constant(q.mean()), tf.constant(q.stddev()))
    kernel = [v.numpy() for v in model.likelihood.network.trainable_variables]
    with tf.GradientTape() as tape:
        # The decoder is constant, and so are the parameters of q in its density.
        moving = model.posterior(x)
        z = moving.mean() + moving.stddev() * noise
        means = tf.reshape(tf.tensordot(z, kernel[0], 1) + kernel[1], [4, 3, *SHAPE])
        log_lik = -0.5 * tf.reduce_sum((x - means) ** 2, [2, 3, 4]) / NOISE**2
        log_prior = -0.5 * tf.reduce_sum(z**2, -1)
        log_w = log_lik + log_prior - tf.reduce_sum(fixed.log_prob(z), -1)
        loss = -tf.reduce_mean(tf.reduce_sum(weights**2 * log_w, 0))
    want = tape.gradient(loss, model.posterior.trainable_variables)
    plain = linear(0.4, 1.7, num_samples=4)
    have, single = gradients(model, x), gradients(plain, x)
    for a, b, c in zip(have, want, single, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
        assert np.abs(a - c).max() > 1e-2
    for a, b in zip(have[len(want) :], single[len(want) :], strict=True):  # The decoder's
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rate_weight", [slow(1.0), 0.5])
def test_both_gradients_have_the_same_expectation(rate_weight):
    x = tf.constant(np.tile(X[:1], (16, 1, 1, 1)))

    def draws(doubly):
        model = linear(
            0.3, 1.3, num_samples=3, doubly_reparameterised=doubly, rate_weight=rate_weight
        )
        one = tf.function(lambda seed: gradients(model, x, seed)[1])
        return np.stack([one(tf.constant([doubly, i])) for i in range(800)])

    single, double = draws(0), draws(1)  # The gradient of the encoder's bias.
    error = np.hypot(single.std(0), double.std(0)) / np.sqrt(len(single))
    assert (np.abs(single.mean(0) - double.mean(0)) < 4.5 * error).all()
    assert (np.abs(double.mean(0)) > 6 * error).any()
    if rate_weight == 1:
        assert double.var(0).sum() < single.var(0).sum()


def test_the_doubly_reparameterised_gradient_has_no_variance_at_the_exact_posterior():
    x = tf.constant(X)
    kernel, bias = gradients(linear(num_samples=5, doubly_reparameterised=True), x)[:2]
    assert max(np.abs(kernel).max(), np.abs(bias).max()) < 1e-4
    assert np.abs(gradients(linear(num_samples=5), x)[1]).max() > 1e-2


def test_the_rate_weight_is_one_outside_training():
    model = linear(0.4, num_samples=4, rate_weight=LinearWarmUp(10))
    model.step.assign(3)
    log_w = log_weights_by_hand(model, X)
    evaluated, _ = model.objective(tf.constant(X), None, SEED, training=False)
    by_hand = np.log(4) - scipy.special.logsumexp(log_w, 0)
    np.testing.assert_allclose(evaluated["vae"], by_hand, rtol=1e-4, atol=1e-4)
    trained, _ = model.objective(tf.constant(X), None, SEED, training=True)
    model.step.assign(0)
    start, _ = model.objective(tf.constant(X), None, SEED, training=True)
    # At step 0 the weights are only the likelihoods.
    flat, means = X.reshape(-1, PIXELS), model.posterior(X).sample(4, seed=SEED) @ FACTORS.T + MEAN
    likelihoods = scipy.stats.norm.logpdf(flat, means, NOISE).sum(-1)
    by_hand = np.log(4) - scipy.special.logsumexp(likelihoods, 0)
    np.testing.assert_allclose(start["vae"], by_hand, rtol=1e-4, atol=1e-4)
    assert (np.abs(trained["vae"] - start["vae"]) > 1e-3).all()


def test_one_loss_updates_encoder_and_decoder(digits, weight_changes):
    model = zoo.models.iwae(
        (8, 8, 1), latent_dim=3, hidden=(5,), num_samples=3, doubly_reparameterised=True
    )
    model.compile(keras.optimizers.SGD(0.1))
    for change in weight_changes(model, lambda: model.train_step((tf.constant(digits[:7]),)))[
        "vae"
    ]:
        assert np.abs(change).max() > 1e-7


def test_free_bits_and_zero_draws_are_refused():
    with pytest.raises(ValueError, match=r"no KL.*Received: free_bits=0.5"):
        linear(free_bits=0.5)
    with pytest.raises(ValueError, match=r"`num_samples` must be.*Received: 0"):
        linear(num_samples=0)
