"""The VAE against probabilistic PCA with exact densities, and against its loss by hand."""

import math

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

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
    """`[repeats, B]` losses, and the terms, with independent noise."""
    losses, terms = model.objective(
        tf.constant(np.tile(x, (repeats, 1, 1, 1))), None, tf.constant(seed), training=True
    )
    shape = (repeats, len(x))
    return losses["vae"].numpy().reshape(shape), {
        name: term.numpy().reshape(shape) for name, term in terms.items()
    }


@pytest.mark.parametrize("num_samples", [1, 7])
def test_the_exact_posterior_gives_the_exact_log_likelihood_for_any_number_of_samples(num_samples):
    estimate = probabilistic_pca().log_prob(X, num_samples, seed=[1, 2])
    np.testing.assert_allclose(estimate, exact(X), atol=1e-4)


def test_the_exact_posterior_gives_the_log_likelihood_as_elbo():
    losses, terms = losses_of(probabilistic_pca(), X, 5000)
    error = losses.std(0) / np.sqrt(len(losses))
    assert (np.abs(losses.mean(0) + exact(X)) < 4.5 * error).all()
    assert (error < 0.03).all()
    np.testing.assert_allclose(losses, terms["distortion"] + terms["rate"], rtol=1e-5)


def test_the_gap_of_another_posterior_is_its_kl_to_the_exact_posterior():
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


def test_the_elbo_gradient_vanishes_at_the_exact_posterior():
    model = probabilistic_pca()
    x = tf.constant(np.tile(X, (3000, 1, 1, 1)))

    def gradients():
        variables = model.posterior.trainable_variables
        with tf.GradientTape() as tape:
            losses, _ = model.objective(x, None, tf.constant([4, 4]), training=True)
            loss = tf.reduce_mean(losses["vae"])
        return max(np.abs(g).max() for g in tape.gradient(loss, variables))

    at_optimum = gradients()
    kernel, bias = model.posterior.network.get_weights()
    model.posterior.network.set_weights([kernel, bias + 0.3])
    assert at_optimum < 0.1 * gradients()


def hand_computed(model, known, x, log_likelihood):
    """Distortion and rate in numpy, with known noise."""
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
        start_at_mean=False,
    )
    x = np.round(digits[:7])
    distortion, rate = hand_computed(model, known, x, log_likelihood)
    model.compile(keras.optimizers.SGD(0.0))
    logs = model.fit(x, batch_size=7, shuffle=False, verbose=0).history
    assert logs["distortion"][0] == pytest.approx(distortion.mean(), rel=1e-4)
    assert logs["rate"][0] == pytest.approx(rate.mean(), rel=1e-4)
    assert logs["loss"][0] == pytest.approx((distortion + rate).mean(), rel=1e-4)


def test_one_loss_updates_encoder_and_decoder_along_its_gradient(
    known, digits, weight_changes, assert_descends
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
    assert_descends(weight_changes(model, lambda: model.train_step((x,)))["vae"], gradients)


class LearnedScale(zoo.distributions.Prior):
    """N(0, s^2 I) with s learned."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.log_scale = self.add_weight(name="log_scale", initializer="zeros")

    def call(self, y=None):
        scale = tf.exp(tf.convert_to_tensor(self.log_scale))
        return tfp.distributions.Independent(tfp.distributions.Normal(tf.zeros(self.dim), scale), 1)


def test_a_trainable_prior_learns_the_scale_of_the_posteriors():
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
def test_the_rate_is_exact_for_a_normal_prior_and_estimated_for_other_priors(prior):
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
    model = zoo.models.vae(
        (8, 8, 1), latent_dim=2, hidden=(8,), likelihood="discretized_logistic", levels=17
    )
    assert (np.asarray(model.log_prob(digits[:4], 5, seed=[1, 1])) < 0).all()


class Sharp(zoo.distributions.Family):
    """Narrow normals around 0 for all parameters."""

    def call(self, params, event_ndims):
        return tfp.distributions.Independent(
            tfp.distributions.Normal(tf.zeros_like(params), 0.0141), event_ndims
        )


def test_importance_sampling_of_large_log_weights_does_not_stall_in_float32():
    # Where all log weights are about -10,000, a running log-sum-exp in float32 stops changing after
    # about 2,000 samples: the spacing of floats there is 1/1,024.
    encoder = zoo.networks.mlp_encoder((4, 4, 1), 2 * 3, ())
    raw = np.log(np.expm1(1 - 1e-4))  # q = N(0, I) = p
    kernel, bias = encoder.get_weights()
    encoder.set_weights([0 * kernel, np.repeat([0, raw], 3).astype(np.float32) + 0 * bias])
    model = zoo.VAE(
        zoo.Conditional(encoder, zoo.DiagonalNormal()),
        zoo.Conditional(zoo.networks.mlp_decoder(3, (4, 4, 1), hidden=(4,)), Sharp()),
        zoo.StandardNormal(3),
    )
    x = tf.fill([2, 4, 4, 1], 0.5)
    exact = 16 * scipy.stats.norm.logpdf(0.5, scale=0.0141)
    assert exact < -10_000
    np.testing.assert_allclose(tf.function(model.log_prob)(x, 6000), exact, atol=0.05)


# Draws, warm-up, free bits -----------------------------------------------------------------------


def small_vae(known, **kwargs):
    return zoo.VAE(
        zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 6, (5,)), known.Posterior()),
        zoo.Conditional(zoo.networks.mlp_decoder(3, (8, 8, 1), 1, (5,)), zoo.UnitNormal()),
        zoo.StandardNormal(3),
        **kwargs,
    )


def test_several_draws_average_the_distortion(known, digits):
    x = digits[:7]
    model = small_vae(known, num_samples=4)
    _, terms = model.objective(tf.constant(x), None, tf.constant([0, 1]), training=True)
    loc, log_scale = np.split(np.asarray(model.posterior.network(x)), 2, 1)
    outputs = [
        np.asarray(model.likelihood.network(loc + np.exp(log_scale) * noise))
        for noise in known.noise(4, 7, 3)
    ]
    by_hand = 0.5 * ((x - np.stack(outputs)) ** 2 + math.log(2 * math.pi)).sum((2, 3, 4)).mean(0)
    np.testing.assert_allclose(terms["distortion"], by_hand, rtol=1e-5)
    np.testing.assert_allclose(
        terms["rate"], hand_computed(model, known, x, lambda x, m: x * m)[1], rtol=1e-4
    )


def test_more_draws_give_the_same_bound_with_less_noise():
    model = probabilistic_pca(2.0)
    one, _ = losses_of(model, X, 3000)
    model.num_samples = 25
    many, _ = losses_of(model, X, 3000)
    error = one.std(0) / np.sqrt(len(one))
    assert (np.abs(many.mean(0) - one.mean(0)) < 4.5 * error).all()
    np.testing.assert_allclose(many.std(0) / one.std(0), 1 / 5, rtol=0.15)


def test_a_rate_without_a_formula_is_averaged_over_the_draws():
    model = probabilistic_pca()
    model.prior = zoo.NormalPetals(components=3, shift=1.0, scales=(1.0, 0.5))
    _, one = losses_of(model, X, 3000)
    model.num_samples = 25
    _, many = losses_of(model, X, 3000)
    np.testing.assert_allclose(many["rate"].std(0) / one["rate"].std(0), 1 / 5, rtol=0.15)


def test_a_warm_up_scales_the_rate_only_in_training(known, digits):
    model = small_vae(known, rate_weight=zoo.schedules.LinearWarmUp(4))
    model.compile(keras.optimizers.SGD(1e-3))
    x = tf.constant(digits[:7])
    for step in range(6):
        logs = model.train_step((x,))
        model.reset_metrics()
        weight = min(1, step / 4)
        by_hand = float(logs["distortion"]) + weight * float(logs["rate"])
        assert float(logs["loss"]) == pytest.approx(by_hand, rel=1e-5)
        assert float(logs["rate"]) > 0.1
    model.step.assign(1)
    logs = model.test_step((x,))
    elbo = float(logs["distortion"]) + float(logs["rate"])
    assert float(logs["loss"]) == pytest.approx(elbo, rel=1e-5)


def test_the_weight_reaches_the_gradient_of_the_encoder(known, digits):
    x, seed = tf.constant(digits[:7]), tf.constant([0, 1])
    model = small_vae(known, rate_weight=0.25)
    weights = model.posterior.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        losses, terms = model.objective(x, None, seed, training=True)
        by_hand = terms["distortion"] + 0.25 * terms["rate"]
        rate = terms["rate"]
    for have, want, of_rate in zip(
        *(tape.gradient(t, weights) for t in (losses["vae"], by_hand, rate)), strict=True
    ):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)
        assert np.abs(of_rate).max() > 1e-3


def test_a_warm_up_resumes_at_its_step(digits, tmp_path):
    model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,), warm_up_steps=100, free_bits=0.01)
    model.compile("sgd", jit_compile=False)
    model.fit(digits[:60], batch_size=10, verbose=0, shuffle=False)
    model.save(tmp_path / "vae.keras")
    twin = keras.saving.load_model(tmp_path / "vae.keras")
    assert twin.rate_weight.steps == 100 and twin.free_bits == 0.01
    logs = [m.train_on_batch(digits[:10], return_dict=True) for m in (model, twin)]
    assert {k: float(v) for k, v in logs[0].items()} == {k: float(v) for k, v in logs[1].items()}


def rates_by_hand(model, x):
    loc, log_scale = np.split(np.asarray(model.posterior.network(x), np.float64), 2, 1)
    return 0.5 * (loc**2 + np.exp(2 * log_scale) - 1 - 2 * log_scale)  # [B, D]


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"prior": "realnvp"}, "a Conditional of DiagonalNormal and a RealNVPPrior"),
        ({"posterior": "iaf"}, "InverseAutoregressiveNormal and a StandardNormal"),
        ({"posterior": "full_covariance"}, "FullCovarianceNormal and a StandardNormal"),
    ],
)
def test_free_bits_without_a_rate_of_each_latent_are_refused(options, received):
    with pytest.raises(ValueError, match=f"needs the KL of each latent.*Received: .*{received}"):
        zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,), free_bits=0.1, **options)


def test_free_bits_are_a_floor_for_the_minibatch_mean_of_each_dimensions_rate(known, digits):
    x, seed = digits[:7], tf.constant([0, 1])
    model = small_vae(known)
    rates = rates_by_hand(model, x)
    means = np.sort(rates.mean(0))
    model.free_bits = float(means[:2].mean())  # One dimension is below it, two are above.
    losses, terms = model.objective(tf.constant(x), None, seed, training=True)
    reported_rate = np.asarray(losses["vae"] - terms["distortion"], np.float64)
    floor = np.maximum(model.free_bits, rates.mean(0)).sum()
    assert reported_rate.mean() == pytest.approx(floor, rel=1e-4)
    assert floor > rates.sum(1).mean() + 1e-3
    np.testing.assert_allclose(terms["rate"], rates.sum(1), rtol=1e-4)
    outside, _ = model.objective(tf.constant(x), None, seed, training=False)
    np.testing.assert_allclose(outside["vae"], terms["distortion"] + terms["rate"], rtol=1e-5)


def test_the_free_bits_gradient_matches_the_papers_objective(known, digits):
    x = tf.constant(digits[:7])
    model = small_vae(known)
    means = np.sort(rates_by_hand(model, digits[:7]).mean(0))
    model.free_bits = float(means[1:].mean())
    weights = model.posterior.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        losses, terms = model.objective(x, None, tf.constant([0, 1]), training=True)
        have = tf.reduce_mean(losses["vae"])
        loc, log_scale = tf.split(model.posterior.network(x), 2, 1)
        rates = 0.5 * (loc**2 + tf.exp(2 * log_scale) - 1 - 2 * log_scale)
        floored = tf.maximum(model.free_bits, tf.reduce_mean(rates, 0))
        want = tf.reduce_mean(terms["distortion"]) + tf.reduce_sum(floored)
    for a, b in zip(tape.gradient(have, weights), tape.gradient(want, weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_free_bits_use_the_mean_over_the_global_batch(known, digits, mirrored):
    with mirrored.scope():
        model = small_vae(known)
        model.compile("sgd")
    x = digits[[3, 5, 8, 11]]
    rates = rates_by_hand(model, x)
    parts = np.stack([rates[:2].mean(0), rates[2:].mean(0)])
    # A threshold between a dimension's mean over one part and its mean over both.
    d = int(np.argmax(np.abs(parts[0] - parts[1])))
    model.free_bits = float((rates.mean(0)[d] + parts.max(0)[d]) / 2)
    batch = next(
        iter(
            mirrored.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(x).batch(4))
        )
    )

    @tf.function
    def reported_rate(x):
        losses, terms = model.objective(x, None, tf.constant([0, 1]), training=True)
        return losses["vae"] - terms["distortion"]

    parts = mirrored.experimental_local_results(mirrored.run(reported_rate, [batch]))
    have = np.concatenate([p.numpy() for p in parts])
    want = np.maximum(model.free_bits, rates.mean(0)).sum()
    assert have.mean() == pytest.approx(want, rel=1e-4)


def test_free_bits_of_dependent_latents_are_refused():
    model = probabilistic_pca()
    model.prior, model.free_bits = zoo.NormalPetals(), 0.1
    with pytest.raises(ValueError, match=r"independent.*Received: "):
        losses_of(model, X, 1)


@pytest.mark.parametrize(
    "wrong", [{"num_samples": 0}, {"rate_weight": -1.0}, {"free_bits": -0.1}, {"free_bits": np.inf}]
)
def test_numbers_out_of_range_are_refused(known, wrong):
    with pytest.raises(ValueError, match=r"must be .*Received: "):
        small_vae(known, **wrong)
