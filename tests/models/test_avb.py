"""Adversarial variational Bayes: its discriminator against closed forms, its updates against formulas."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from speed import slow

import zoo
from zoo.evaluation import Evaluation
from zoo.metrics import annealed_nll
from zoo.metrics.annealed import nearest_start
from zoo.models.avb import avb, joint_discriminator, product_discriminator

SHAPE, BATCH, LATENTS = (8, 8, 1), 7, 3
DOT = (1, 1, 1)


def gaussian(loc, scale, family):
    """q(z | x) = N(loc, scale^2) for each image of one pixel."""
    network = zoo.networks.mlp_encoder(DOT, 2, ())
    raw = np.log(np.expm1(scale - 1e-4)) if type(family) is zoo.DiagonalNormal else np.log(scale)
    network.set_weights([np.zeros((1, 2)), np.array([loc, raw])])
    return zoo.Conditional(network, family)


@keras.saving.register_keras_serializable("test_avb")
class Quadratic(keras.layers.Layer):
    """1, z, z^2."""

    def call(self, z):
        return keras.ops.concatenate([keras.ops.ones_like(z), z, z**2], -1)


def quadratic_discriminator():
    """T(x, z) = a + b z + c z^2, the only weights being [[a], [b], [c]]."""
    x, z = keras.Input(DOT), keras.Input((1,))
    return keras.Model([x, z], keras.layers.Dense(1, use_bias=False)(Quadratic()(z)))


def one_dimensional(loc, scale, **options):
    return zoo.AVB(
        gaussian(loc, scale, zoo.DiagonalNormal()),
        zoo.Conditional(zoo.networks.mlp_decoder(1, DOT, 1, ()), zoo.UnitNormal()),
        zoo.StandardNormal(1),
        quadratic_discriminator(),
        **options,
    )


def optimal_discriminator(model, n=40_000, start=0.0):
    """Newton's method on the model's loss of `n` fixed draws: the weights and their errors."""
    kernel, x = model.discriminator.trainable_variables[0], tf.zeros([n, *DOT])
    kernel.assign(np.full((3, 1), start))

    @tf.function
    def derivatives():
        with tf.GradientTape() as outer:
            with tf.GradientTape() as tape:
                losses, _ = model.objective(x, None, tf.constant([1, 2]), training=True)
                loss = tf.reduce_mean(losses["discriminator"])
            gradient = tape.gradient(loss, kernel)
        return loss, gradient, outer.jacobian(gradient, kernel)

    for _ in range(12):
        loss, gradient, hessian = derivatives()
        hessian = hessian.numpy().reshape(3, 3)
        kernel.assign_sub(np.linalg.solve(hessian, gradient.numpy()))
    assert np.abs(gradient).max() < 1e-4
    # An upper bound of the error of two samples of n: the sandwich's middle is at most the Hessian.
    return kernel.numpy().ravel(), np.sqrt(np.diag(np.linalg.inv(hessian)) / n), float(loss)


@pytest.mark.parametrize(("loc", "scale"), [(0.5, 0.8), slow(-1.0, 0.5), slow(0.0, 1.0)])
def test_the_optimal_logit_is_the_log_ratio_with_the_kl_as_mean(loc, scale):
    model = one_dimensional(loc, scale)
    weights, error, loss = optimal_discriminator(model)
    exact = [
        -np.log(scale) - loc**2 / (2 * scale**2), loc / scale**2, 0.5 - 1 / (2 * scale**2),
    ]  # fmt: skip
    assert (np.abs(weights - exact) < 4.5 * error).all()
    model.discriminator.set_weights([np.reshape(exact, (3, 1))])
    _, terms = model.objective(tf.zeros([40_000, *DOT]), None, tf.constant([3, 4]), training=False)
    rate = terms["discriminator_rate"].numpy()
    kl = 0.5 * (loc**2 + scale**2 - 1) - np.log(scale)
    assert abs(rate.mean() - kl) <= 4.5 * rate.std() / 200 + 1e-6
    if (loc, scale) == (0.0, 1.0):
        assert loss == pytest.approx(2 * np.log(2), abs=1e-3)
    else:
        assert loss < 2 * np.log(2) - 0.02


def test_zero_logits_and_a_posterior_equal_to_the_prior_give_a_zero_rate():
    model = one_dimensional(0.0, 1.0)
    model.discriminator.set_weights([np.zeros((3, 1))])
    losses, terms = model.objective(tf.zeros([9, *DOT]), None, tf.constant([1, 2]), training=True)
    np.testing.assert_allclose(losses["discriminator"], np.full(9, 2 * np.log(2)), rtol=1e-6)
    np.testing.assert_array_equal(terms["discriminator_rate"], np.zeros(9))


def test_adaptive_contrast_has_zero_optimal_logits_for_a_normal_posterior():
    loc, scale = 2.0, 0.3
    model = one_dimensional(loc, scale, adaptive_contrast=True)
    weights, error, loss = optimal_discriminator(model)
    # The 1e-4 added to the variance is a thousandth of it.
    assert (np.abs(weights) < 4.5 * error + 2e-3).all()
    assert loss == pytest.approx(2 * np.log(2), abs=1e-3)
    model.discriminator.set_weights([np.zeros((3, 1))])
    _, terms = model.objective(tf.zeros([40_000, *DOT]), None, tf.constant([3, 4]), training=False)
    rate = terms["discriminator_rate"].numpy()
    kl = 0.5 * (loc**2 + scale**2 - 1) - np.log(scale)
    assert abs(rate.mean() - kl) < 4.5 * rate.std() / 200 + 1e-3


@keras.saving.register_keras_serializable("test_avb")
class Optimal(keras.layers.Layer):
    """log q(z | x) - log p(z), from a copy of an encoder that returns means and log scales."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def call(self, x, z):
        loc, log_scale = keras.ops.split(self.encoder(x), 2, -1)
        log_q = -0.5 * ((z - loc) / keras.ops.exp(log_scale)) ** 2 - log_scale
        return keras.ops.sum(log_q + 0.5 * z**2, -1, keepdims=True)


def with_optimal_discriminator(encoder, decoder, family):
    x, z = keras.Input(SHAPE), keras.Input((LATENTS,))
    copy = keras.models.clone_model(encoder)
    copy.set_weights(encoder.get_weights())
    model = zoo.AVB(
        zoo.Conditional(encoder, family),
        zoo.Conditional(decoder, zoo.UnitNormal()),
        zoo.StandardNormal(LATENTS),
        keras.Model([x, z], Optimal(copy)(x, z)),
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def networks():
    encoder = zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, (5,), "tanh")
    return encoder, zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (5,), "tanh")


def vae_of(encoder, decoder, family):
    return zoo.VAE(
        zoo.Conditional(encoder, family),
        zoo.Conditional(decoder, zoo.UnitNormal()),
        zoo.StandardNormal(LATENTS),
    )


def test_the_optimal_discriminator_gives_the_vae_loss_for_a_normal_posterior(known, digits):
    encoder, decoder = networks()
    x, seed = tf.constant(digits[:BATCH]), tf.constant([1, 2])
    model = with_optimal_discriminator(encoder, decoder, known.Posterior())
    losses, terms = model.objective(x, None, seed, training=True)
    vae = vae_of(encoder, decoder, known.Posterior())
    _, expected = vae.objective(x, None, seed, training=True)
    np.testing.assert_allclose(terms["distortion"], expected["distortion"], rtol=1e-5)
    # The VAE's rate, estimated at the same draw.
    q = vae.posterior(x)
    z = q.sample()
    one_draw = q.log_prob(z) - vae.prior().log_prob(z)
    np.testing.assert_allclose(terms["discriminator_rate"], one_draw, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        losses["autoencoder"], expected["distortion"] + one_draw, rtol=1e-5, atol=1e-4
    )


@keras.saving.register_keras_serializable("test_avb")
class LogScale(zoo.Family):
    """A diagonal normal: means, then log scales."""

    params_per_value = 2

    def call(self, params, event_ndims):
        loc, log_scale = tf.split(params, 2, axis=-1)
        normal = zoo.distributions.families.Normal(loc, tf.exp(log_scale))
        return zoo.distributions.families.tfd.Independent(normal, event_ndims)


@pytest.mark.parametrize("adaptive_contrast", [False, True])
def test_the_optimal_discriminator_gives_the_vae_gradient_on_average(digits, adaptive_contrast):
    encoder, decoder = networks()
    model = with_optimal_discriminator(encoder, decoder, LogScale())
    if adaptive_contrast:  # The optimal logits are 0.
        x, z = keras.Input(SHAPE), keras.Input((LATENTS,))
        zero = keras.layers.Dense(1, kernel_initializer="zeros")(keras.layers.Concatenate()(
            [keras.layers.Flatten()(x), z]
        ))  # fmt: skip
        model = zoo.AVB(
            model.posterior, model.likelihood, model.prior, keras.Model([x, z], zero), True
        )
    vae = vae_of(encoder, decoder, LogScale())
    variables = model.variables_of("autoencoder")
    x = tf.tile(tf.constant(digits[:1]), [4000, 1, 1, 1])

    @tf.function
    def gradient_of(seed):
        with tf.GradientTape(persistent=True) as tape:
            here = tf.reduce_mean(model.objective(x, None, seed, True)[0]["autoencoder"])
            there = tf.reduce_mean(vae.objective(x, None, seed, True)[0]["vae"])
        flat = [
            tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(v, variables)], 0)
            for v in (here, there)
        ]
        return flat[0], flat[1]

    draws = [gradient_of(tf.constant([i, 5])) for i in range(8)]
    here, there = (np.stack(g) for g in zip(*draws, strict=True))
    error = np.sqrt(((here - there) ** 2).mean(0).mean() / 8)  # The typical error of a component.
    gap = np.abs(here.mean(0) - there.mean(0))
    assert np.sqrt((there.mean(0) ** 2).mean()) > 20 * error
    assert gap.max() < 6 * error + 1e-3 * np.abs(there).max()


@pytest.mark.parametrize("adaptive_contrast", [False, True])
def test_a_step_updates_both_players_at_once_along_their_gradients(
    known, digits, adaptive_contrast, weight_changes, assert_descends
):
    encoder, decoder = networks()
    discriminator = joint_discriminator(SHAPE, LATENTS, (6,), "tanh")
    discriminator.set_weights(  # A new discriminator has logits and gradients near zero.
        [w + np.random.default_rng(0).normal(0, 0.3, w.shape) for w in discriminator.get_weights()]
    )
    model = zoo.AVB(
        zoo.Conditional(encoder, known.Posterior()),
        zoo.Conditional(decoder, zoo.UnitNormal()),
        known.Prior(LATENTS),
        discriminator,
        adaptive_contrast,
    )
    if adaptive_contrast:
        other = zoo.draws.normal((BATCH, LATENTS), tfp.random.split_seed([1, 2])[1])
    else:
        other = tf.constant(known.noise(BATCH, LATENTS))
    model.compile(keras.optimizers.SGD(1.0))
    x = tf.constant(digits[:BATCH])

    def draw():
        loc, log_scale = tf.split(encoder(x), 2, 1)
        z = loc + tf.exp(log_scale) * known.noise(BATCH, LATENTS)
        # NumPy arrays: no gradient flows through the moments.
        return z, loc.numpy(), np.exp(2 * log_scale.numpy())

    check_step(model, x, draw, other, weight_changes, assert_descends)


def check_step(model, x, draw, other, weight_changes, assert_descends):
    """Compares both players' updates and all terms with formulas."""
    adaptive_contrast = model.adaptive_contrast
    discriminator, decoder = model.discriminator, model.likelihood.network
    with tf.GradientTape(persistent=True) as tape:
        z, mean, variance = draw()
        scale = np.sqrt(variance + 1e-4)
        contrasted = (z - mean) / scale if adaptive_contrast else z
        logit = discriminator([x, contrasted])[:, 0]
        rate = logit
        if adaptive_contrast:
            log_r = -0.5 * ((z - mean) / scale) ** 2 - np.log(scale)
            rate = logit + tf.reduce_sum(log_r + 0.5 * z**2, 1)
        distortion = 0.5 * tf.reduce_sum((x - decoder(z)) ** 2, [1, 2, 3]) + 32 * np.log(2 * np.pi)
        primal = tf.reduce_mean(distortion + rate)
        prior_logit = discriminator([x, other])[:, 0]
        discriminator_loss = tf.reduce_mean(
            tf.math.log1p(tf.exp(-logit)) + tf.math.log1p(tf.exp(prior_logit))
        )
    expected = {
        "autoencoder": tape.gradient(primal, model.variables_of("autoencoder")),
        "discriminator": tape.gradient(discriminator_loss, model.variables_of("discriminator")),
    }
    [turn] = model.rounds()
    values = {}

    def train_step():
        losses, terms = model._play(turn, x, None, tf.constant([1, 2]))
        values.update({k: float(tf.reduce_mean(v)) for k, v in (losses | terms).items()})

    change = weight_changes(model, train_step)
    for player, gradients in expected.items():
        assert_descends(change[player], gradients)
    assert values["autoencoder"] == pytest.approx(float(primal), rel=1e-4)
    assert values["discriminator"] == pytest.approx(float(discriminator_loss), rel=1e-4)
    assert values["discriminator_rate"] == pytest.approx(float(tf.reduce_mean(rate)), rel=1e-3)
    assert values["distortion"] == pytest.approx(float(tf.reduce_mean(distortion)), rel=1e-4)


@pytest.mark.parametrize("adaptive_contrast", [False, True])
def test_a_step_with_an_implicit_posterior_descends_both_losses(
    digits, adaptive_contrast, weight_changes, assert_descends
):
    model = small(adaptive_contrast=adaptive_contrast, hidden=(5,), likelihood="unit_normal")
    decoder = model.likelihood.network
    rng = np.random.default_rng(0)
    for network in (model.discriminator, decoder):
        network.set_weights([w + rng.normal(0, 0.3, w.shape) for w in network.get_weights()])
    model.compile(keras.optimizers.SGD(1.0))
    network, x = model.posterior.network, tf.constant(digits[:BATCH])
    z_seed, other_seed = tfp.random.split_seed([1, 2])

    def draw():
        z = network([x, zoo.draws.normal((BATCH, 4), z_seed)])
        fixed = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
        draws = np.stack([network([x, tf.tile(eps[None], [BATCH, 1])]).numpy() for eps in fixed])
        return z, draws.mean(0), draws.var(0)

    check_step(
        model,
        x,
        draw,
        zoo.draws.normal((BATCH, LATENTS), other_seed),
        weight_changes,
        assert_descends,
    )


def small(**changes):
    sizes = {"latent_dim": LATENTS, "hidden": (5,), "discriminator_hidden": (5,)}
    if changes.get("posterior", "implicit") in ("implicit", "noise_basis"):
        sizes["posterior_noise_dim"] = 4
    return avb(SHAPE, **sizes | changes)


BASES = {"posterior": "noise_basis", "posterior_bases": 2, "posterior_hidden": (4,)}


@pytest.mark.parametrize("adaptive_contrast", [False, True])
def test_extra_updates_change_only_the_discriminator(digits, adaptive_contrast):
    model = small(discriminator_steps=3, adaptive_contrast=adaptive_contrast, **BASES)
    model.compile("adam")
    model.train_step((tf.constant(digits[:6]),))
    assert int(model.optimizers["autoencoder"].iterations) == 1
    assert int(model.optimizers["discriminator"].iterations) == 3
    _, further = model.rounds()
    with tf.GradientTape() as tape:
        losses, _ = further.objective(tf.constant(digits[:6]), None, tf.constant([1, 2]), True)
    assert list(losses) == ["discriminator"]
    gradients = tape.gradient(losses["discriminator"], model.variables_of("autoencoder"))
    assert all(g is None for g in gradients)


@pytest.mark.parametrize(("steps", "joint", "further"), [
    (1, [0, 1, 2, 3, 4, 5], []),
    (2, [0, 1, 2, 3, 4, 5], [[0, 1, 2, 3, 4, 5]]),
    (3, [0, 2, 4], [[0, 2, 4], [1, 3, 5]]),
    (4, [0, 3], [[0, 3], [1, 4], [2, 5]]),
])  # fmt: skip
def test_further_updates_divide_the_batch_and_the_joint_update_uses_their_first_share(
    steps, joint, further
):
    model, seen = small(discriminator_steps=steps), []

    def recording(objective):
        def record(x, y, seed, training):
            seen.append((8 * np.asarray(x)[:, 0, 0, 0]).tolist())
            return objective(x, y, seed, training)

        return record

    model.objective = recording(model.objective)
    model.discriminator_objective = recording(model.discriminator_objective)
    model.compile("adam")
    rows = tf.range(6.0)[:, None, None, None] / 8
    model.train_step((rows + tf.zeros([6, *SHAPE]),))
    assert seen == [joint, *further]


@pytest.mark.slow
@pytest.mark.parametrize("bases", [{}, BASES], ids=["implicit", "noise_basis"])
def test_annealing_from_the_posterior_moments_estimates_log_p_of_a_linear_model(bases):
    model = avb(
        (2, 2, 1), latent_dim=2, hidden=(), likelihood="unit_normal", posterior_noise_dim=3,
        discriminator_hidden=(4,), **bases,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    w, b = rng.normal(size=(2, 4)), rng.normal(size=4)
    model.likelihood.network.set_weights([w, b])
    if bases:  # New bases have almost no noise: such a narrow start needs many more steps.
        kernel, offset = model.posterior.network.get_weights()
        model.posterior.network.set_weights([kernel, offset + np.array([0, 0, 5, 5, 5, 5])])
    x = rng.uniform(size=(5, 2, 2, 1)).astype(np.float32)
    exact = scipy.stats.multivariate_normal(b, w.T @ w + np.eye(4)).logpdf(x.reshape(5, 4))
    result = annealed_nll(model, x, initial="normal", num_steps=150, num_chains=30)
    assert result.value == pytest.approx(-exact.mean(), abs=0.05)
    assert result.estimator["initial"] == "normal"
    with pytest.raises(ValueError, match="Take initial='normal', or 'prior'"):
        annealed_nll(model, x, initial="posterior")


def test_annealing_is_the_only_likelihood_in_the_evaluation():
    data = zoo.datasets.load("digits", binarize="fixed")
    usual = Evaluation.of_model(small(), data, num_samples=10).usual()
    assert "nll_annealed" in usual and not {"nll", "rate"} & set(usual)
    assert "log_prob" not in small().abilities()
    grey = Evaluation.of_model(small(), zoo.datasets.load("digits"), num_samples=10).usual()
    assert "nll_annealed" not in grey  # Bernoulli's log p of grey values is no likelihood.
    # A density of q gives annealing a better start; the discriminator's rate stays an estimate.
    model = zoo.AVB(
        zoo.Conditional(zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, ()), zoo.DiagonalNormal()),
        *parts()[1:],
    )
    normal = Evaluation.of_model(model, data, num_samples=10)
    assert "nll_annealed" in normal.usual() and "nll" not in normal.usual()
    assert nearest_start(model) == "posterior" and nearest_start(small()) == "normal"


def test_latents_are_the_posteriors_means(digits):
    model = small()
    z = model.posterior(digits[:4]).sample(2000, seed=3).numpy()
    error = z.std(0) / np.sqrt(model.posterior.moment_draws)
    assert (np.abs(model.encode(digits[:4]) - z.mean(0)) < 5 * error).all()


def outputs_of(model, x, z):
    """The output of each dense layer of a discriminator."""
    return [keras.Model(model.inputs, layer.output)([x, z]).numpy() for layer in model.layers
            if isinstance(layer, keras.layers.Dense)]  # fmt: skip


@pytest.mark.parametrize("half_square", [True, False])
def test_the_product_discriminator_is_the_sum_of_its_four_terms(digits, half_square):
    model = product_discriminator(SHAPE, LATENTS, (4,), half_square=half_square, features=5)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    x, z = digits[:BATCH], rng.normal(size=(BATCH, LATENTS)).astype(np.float32)
    outputs = outputs_of(model, x, z)
    theta, s = (o for o in outputs if o.shape[1] == 5)
    alone = sum(o[:, 0] for o in outputs if o.shape[1] == 1)
    expected = (theta * s).sum(1) / np.sqrt(5) + alone + half_square * 0.5 * (z**2).sum(1)
    np.testing.assert_allclose(model([x, z])[:, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [joint_discriminator, product_discriminator])
def test_a_new_discriminator_returns_half_the_square_of_the_latent(make, digits):
    x, z = digits[:BATCH], np.random.default_rng(0).normal(size=(BATCH, LATENTS))
    features = {} if make is joint_discriminator else {"features": 16}
    model = make(SHAPE, LATENTS, (64, 64), **features)
    np.testing.assert_allclose(model([x, z])[:, 0], 0.5 * (z**2).sum(1), rtol=1e-3, atol=1e-3)
    # The last layers have gradients, and so does one of the two factors of the product.
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model([x, z]))
    kernels = [w for w in model.trainable_variables if w.name == "kernel"]
    slopes = [float(tf.reduce_max(tf.abs(g))) for g in tape.gradient(loss, kernels)]
    small = [slope < 1e-3 for slope, w in zip(slopes, kernels, strict=True) if w.shape[1] != 64]
    assert sum(small) == (make is product_discriminator)


def test_half_the_square_is_added_without_adaptive_contrast():
    for adaptive_contrast in (False, True):
        layers = small(adaptive_contrast=adaptive_contrast).discriminator.layers
        squares = any(isinstance(layer, keras.layers.Dot) for layer in layers)
        assert squares != adaptive_contrast


# Range of images --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [joint_discriminator, product_discriminator])
def test_discriminators_rescale_images_to_minus_one_to_one(make, digits):
    features = {} if make is joint_discriminator else {"features": 5}
    model = make(SHAPE, LATENTS, (4,), half_square=False, **features)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    x, z = digits[:BATCH], rng.normal(size=(BATCH, LATENTS)).astype(np.float32)
    flat = 2 * x.reshape(BATCH, -1) - 1
    first = next(w for w in model.get_weights() if w.shape[0] >= flat.shape[1])
    inputs = np.concatenate([flat, z], 1) if make is joint_discriminator else flat
    layer = next(n for n in model.layers if n.weights and n.kernel.shape == first.shape)
    expected = inputs @ first + layer.bias.numpy()
    expected = np.where(expected > 0, expected, np.expm1(np.minimum(expected, 0)))  # ELU
    have = keras.Model(model.inputs, layer.output)([x, z])
    np.testing.assert_allclose(have, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("posterior", ["normal", "noise_basis", "implicit"])
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_encoders_rescale_images_to_minus_one_to_one(posterior, network, digits):
    if (posterior, network) == ("implicit", "conv"):
        pytest.skip("implicit encoders are perceptrons")
    options = {"filters": (4,)} if network == "conv" else {}
    model = small(posterior=posterior, network=network, **options)
    x, noise = tf.constant(digits[:BATCH]), tf.ones([BATCH, 4])
    layers = model.posterior.network.layers
    first = next(layer for layer in layers if layer.weights)
    kernel, bias = first.get_weights()
    if posterior == "implicit":
        have = keras.Model(model.posterior.network.inputs, first.output)([x, noise])
    else:
        have = keras.Sequential(layers[: layers.index(first) + 1])(x)
    if network == "conv":
        expected = tf.nn.conv2d(2 * x - 1, kernel, 2, "SAME")
    else:
        flat = tf.reshape(2 * x - 1, [BATCH, -1])
        flat = tf.concat([flat, noise], 1) if posterior == "implicit" else flat
        expected = flat @ kernel
    np.testing.assert_allclose(have, tf.nn.softplus(expected + bias), rtol=1e-4, atol=1e-5)


# Options and refusals ---------------------------------------------------------------------------


def test_the_builder_has_the_options_of_all_parts(digits):
    model = small(posterior="iaf", prior="uniform", likelihood="unit_normal", activation="tanh")
    assert isinstance(model.posterior.family, zoo.InverseAutoregressiveNormal)
    assert isinstance(model.prior, zoo.Uniform)
    assert isinstance(model.likelihood.family, zoo.UnitNormal)
    default = avb(SHAPE, hidden=(4,), discriminator_hidden=(4,))
    assert isinstance(default.posterior, zoo.ImplicitConditional)
    assert default.posterior.noise_shape == (32,)
    bases = avb(SHAPE, hidden=(4,), discriminator_hidden=(4,), posterior="noise_basis")
    assert bases.posterior.noise_shape == (16, 32)


def conditional():
    x, y = keras.Input(SHAPE), keras.Input((2,))
    h = keras.layers.Concatenate()([keras.layers.Flatten()(x), y])
    network = keras.Model([x, y], keras.layers.Dense(2 * LATENTS)(h))
    return zoo.Conditional(network, zoo.DiagonalNormal())


def frozen_prior_of_the_condition():
    prior = zoo.ConditionalPrior(zoo.networks.mlp(2, 2 * LATENTS, ()), zoo.DiagonalNormal())
    prior.trainable = False
    return prior


def deterministic():
    return zoo.Conditional(zoo.networks.mlp_encoder(SHAPE, LATENTS, ()), zoo.Deterministic())


def parts():
    model = small()
    return model.posterior, model.likelihood, model.prior, model.discriminator


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.AVB(*parts(), discriminator_steps=0), r"at least 1\. Received: 0"),
        (
            lambda: zoo.AVB(*parts()[:3], zoo.networks.mlp(3, 1)),
            r"Received: a network from \[B, 3\] to",
        ),
        (
            lambda: zoo.AVB(*parts()[:2], zoo.MixturePrior(LATENTS, 2), parts()[3]),
            r"of an AVB.*Received: a MixturePrior",
        ),
        (
            lambda: zoo.AVB(deterministic(), *parts()[1:]),
            r"must be random.*Received: .*Deterministic",
        ),
        (lambda: zoo.AVB(conditional(), *parts()[1:]), "Received: a posterior that takes"),
        (
            lambda: zoo.AVB(*parts()[:2], frozen_prior_of_the_condition(), parts()[3]),
            "neither may take a condition y. Received: a prior that takes",
        ),
        (
            lambda: zoo.AVB(*parts()[:2], zoo.SwissRoll(), parts()[3], adaptive_contrast=True),
            r"density.*Received: a SwissRoll",
        ),
        (
            lambda: zoo.AVB(
                *parts()[:2], zoo.UniformOnSphere(LATENTS), parts()[3], adaptive_contrast=True
            ),
            "Received: a UniformOnSphere",
        ),
        (
            lambda: small(posterior="iaf", adaptive_contrast=True),
            "the variance of q.*Received: .*InverseAutoregressiveNormal",
        ),
        (lambda: small(posterior="moments"), "Unknown posterior 'moments'"),
        (lambda: small(posterior_bases=3), r"posterior='implicit' does not use it.*_bases=3"),
        (lambda: small(discriminator="sum"), "Unknown discriminator 'sum'"),
        (lambda: small(discriminator_features=3), r"discriminator='joint' does not use it.*=3"),
    ],
)
def test_unsuitable_parts_and_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
