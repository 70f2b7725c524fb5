"""FactorVAE: the permutation, the logit as total correlation, and the gradients of both players."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

import zoo
from zoo.models.factor_vae import permute_dims

SHAPE, LATENTS, SEED = (8, 8, 1), 3, tf.constant([1, 2])


def small(known, gamma=4.0, **arguments):
    model = zoo.FactorVAE(
        zoo.Conditional(
            zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, (5,), "tanh"), known.Posterior()
        ),
        zoo.Conditional(zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (5,), "tanh"), zoo.Bernoulli()),
        zoo.StandardNormal(LATENTS),
        zoo.networks.mlp(LATENTS, 1, (6,), "tanh"),
        gamma,
        **arguments,
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def vae_of(model, **arguments):
    vae = zoo.VAE(model.posterior, model.likelihood, model.prior, **arguments)
    vae.compile(keras.optimizers.SGD(1.0))
    return vae


def test_permutation_keeps_the_marginals_and_removes_the_dependence():
    n = 4000
    first = np.random.default_rng(0).normal(size=n).astype(np.float32)
    z = np.stack([first, -first, first**3], 1)
    permuted = permute_dims(z, SEED).numpy()
    np.testing.assert_array_equal(np.sort(permuted, 0), np.sort(z, 0))
    correlations = np.corrcoef(permuted.T)[np.triu_indices(3, 1)]
    # The correlations of the original are -1, 0.77 and -0.77.
    assert np.abs(correlations).max() < 4 / np.sqrt(n)
    # Every dimension is permuted, and the orders of two dimensions are independent.
    assert ((permuted == z).mean(0) < 0.01).all()


def test_all_orders_of_a_dimension_are_equally_likely():
    z = tf.constant([[0.0], [1.0], [2.0]])
    draws = [tuple(permute_dims(z, [0, i]).numpy()[:, 0]) for i in range(900)]
    counts = [draws.count(order) for order in set(draws)]
    assert len(counts) == 6
    assert sum((c - 150) ** 2 / 150 for c in counts) < 20.5  # chi^2 of 5 degrees, p = 0.001


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.8])
def test_the_mean_logit_over_correlated_normals_is_their_total_correlation(rho):
    """With a quadratic discriminator: log q(z) / (q(z_1) q(z_2)) is quadratic in z."""
    n = 40_000
    rng = np.random.default_rng(1)
    z = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=2 * n).astype(np.float32)
    shown = np.concatenate([z[:n], permute_dims(z[n:], SEED)])
    quadratic = np.stack([shown[:, 0] * shown[:, 1], *(shown**2).T], 1)
    fitted = LogisticRegression(C=1e6).fit(quadratic, np.arange(2 * n) < n)

    inputs = keras.Input((2,))
    squares = [inputs[:, :1] * inputs[:, 1:], inputs[:, :1] ** 2, inputs[:, 1:] ** 2]
    logit = keras.layers.Dense(1)
    discriminator = keras.Model(inputs, logit(keras.layers.Concatenate()(squares)))
    logit.set_weights([fitted.coef_.T, fitted.intercept_])
    model = zoo.models.factor_vae(SHAPE, latent_dim=2, hidden=(4,), discriminator_hidden=())
    model.discriminator = discriminator
    estimate = zoo.networks.logits(model.discriminator, tf.constant(z[:n])).numpy()
    expected = -0.5 * np.log(1 - rho**2)
    assert estimate.mean() == pytest.approx(expected, abs=4 * estimate.std() / np.sqrt(n) + 0.005)
    # At single points the logit is the log of the ratio of the densities.
    point = np.array([[0.7, -0.3]], np.float32)
    square = (point**2).sum() - 2 * rho * point.prod()
    log_ratio = expected - square / (2 * (1 - rho**2)) + (point**2).sum() / 2
    have = float(zoo.networks.logits(model.discriminator, tf.constant(point))[0])
    assert have == pytest.approx(log_ratio, abs=0.05)


@pytest.mark.parametrize("gamma", [0.0, 4.0])
@pytest.mark.parametrize("draws", [1, 3])
def test_both_losses_match_the_formulas_and_update_their_players(
    known, digits, gamma, draws, weight_changes, assert_descends
):
    model, n = small(known, gamma, num_samples=draws), 7
    x = tf.constant(digits[:n])
    permuted = tf.random.experimental.stateless_fold_in(SEED, 1)
    with tf.GradientTape(persistent=True) as tape:
        loc, log_scale = tf.split(model.posterior.network(x), 2, 1)
        z = loc + tf.exp(log_scale) * known.noise(draws, n, LATENTS)
        logits = tf.reshape(model.likelihood.network(tf.reshape(z, [-1, LATENTS])), [draws, n, 64])
        pixels = tf.reshape(x, [n, 64])
        # The cross-entropy is softplus(logits) - x * logits.
        distortion = tf.reduce_sum(tf.math.log1p(tf.exp(logits)) - pixels * logits, -1)
        rate = 0.5 * tf.reduce_sum(loc**2 + tf.exp(2 * log_scale) - 1 - 2 * log_scale, 1)
        ratio = tf.reshape(model.discriminator(tf.reshape(z, [-1, LATENTS])), [draws, n])
        loss = tf.reduce_mean(distortion + gamma * ratio) + tf.reduce_mean(rate)
        joint = model.discriminator(z[0, :4])  # The larger half, unpermuted.
        product = model.discriminator(permute_dims(z[0, 4:], permuted))
        d = tf.math.log1p(tf.exp(tf.concat([-joint, product], 0)))
        discriminator_loss = tf.reduce_mean(d)
        correlation = tf.reduce_mean(ratio)
    losses, terms = model.objective(x, None, SEED, training=True)
    assert np.mean(losses["vae"]) == pytest.approx(float(loss), rel=1e-5)
    assert np.mean(terms["total_correlation"]) == pytest.approx(float(correlation), rel=1e-4)
    np.testing.assert_allclose(losses["discriminator"], d[:, 0], rtol=1e-4)
    # The total correlation depends on the encoder, and not on the decoder.
    decoder = model.likelihood.trainable_variables
    assert all(g is None for g in tape.gradient(correlation, decoder))
    assert all(np.abs(g).max() > 1e-4 for g in tape.gradient(correlation, model.posterior.trainable_variables))  # fmt: skip
    variables = model.posterior.trainable_variables + decoder
    expected = (
        tape.gradient(loss, variables),
        tape.gradient(discriminator_loss, model.discriminator.weights),
    )
    turn = model.rounds()[0]
    change = weight_changes(model, lambda: model._play(turn, x, None, SEED))
    assert_descends(change["vae"], expected[0])
    assert_descends(change["discriminator"], expected[1])


@pytest.mark.parametrize(
    "options", [{}, {"num_samples": 2}, {"free_bits": 0.2, "rate_weight": 0.3}]
)
def test_gamma_zero_equals_the_vae_bit_for_bit(digits, options, weight_changes):
    parts = zoo.models.factor_vae(SHAPE, latent_dim=LATENTS, hidden=(5,), discriminator_hidden=(4,))
    arguments = (parts.posterior, parts.likelihood, parts.prior)
    model = zoo.FactorVAE(*arguments, parts.discriminator, 0.0, **options)
    model.compile(keras.optimizers.SGD(0.1))
    vae, x = vae_of(parts, **options), tf.constant(digits[:8])
    for training in (True, False):
        have, terms = model.objective(x, None, SEED, training)
        want, vae_terms = vae.objective(x, None, SEED, training)
        np.testing.assert_array_equal(have["vae"], want["vae"])
        for name, value in vae_terms.items():
            np.testing.assert_array_equal(terms[name], value)
    kept = vae.get_weights()
    turns = [(m, m.rounds()[0]) for m in (vae, model)]
    vae.optimizers["vae"].learning_rate.assign(0.1)
    changes = []
    for m, turn in turns:
        changes.append(
            weight_changes(m, lambda m=m, turn=turn: m._play(turn, x, None, SEED))["vae"]
        )
        vae.set_weights(kept)
    for a, b in zip(*changes, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("draws", "rows"), [(1, 7 + 3), (3, 3 * 7 + 3)])
def test_the_discriminator_receives_each_code_once_and_half_of_them_permuted(
    known, digits, draws, rows
):
    model, seen = small(known, num_samples=draws), []
    call = model.discriminator.call

    def recorded(z, **kwargs):
        seen.append(len(z))
        return call(z, **kwargs)

    model.discriminator.call = recorded
    model.objective(tf.constant(digits[:7]), None, SEED, training=True)
    assert seen == [rows]


def test_the_permutation_follows_the_seed(digits):
    model = zoo.models.factor_vae(SHAPE, latent_dim=LATENTS, hidden=(5,), discriminator_hidden=(4,))
    z = tf.random.stateless_normal([20, LATENTS], [0, 0])
    draws = [permute_dims(z, seed).numpy() for seed in ([1, 2], [1, 2], [1, 3])]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    losses = [model.objective(tf.constant(digits[:9]), None, SEED, True)[0] for _ in range(2)]
    np.testing.assert_array_equal(losses[0]["discriminator"], losses[1]["discriminator"])


def test_each_replica_permutes_only_its_images(mirrored):
    z = tf.data.Dataset.from_tensor_slices(np.arange(24, dtype=np.float32).reshape(12, 2)).batch(12)
    one = next(iter(mirrored.experimental_distribute_dataset(z)))
    permuted = mirrored.experimental_local_results(
        mirrored.run(lambda t: permute_dims(t, SEED), [one])
    )
    for own, drawn in zip(mirrored.experimental_local_results(one), permuted, strict=True):
        np.testing.assert_array_equal(np.sort(drawn, 0), own)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 5])
def test_batches_of_any_size_train(digits, size):
    model = zoo.models.factor_vae(SHAPE, latent_dim=LATENTS, hidden=(4,), discriminator_hidden=(4,))
    model.compile("adam", jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices(digits[:11]).batch(size)
    assert all(np.isfinite(v).all() for v in model.fit(data, verbose=0).history.values())


@pytest.mark.slow
def test_training_lowers_the_total_correlation_of_the_codes():
    """Two equal pixels: the likelihood favours equal latents, and gamma independent latents."""

    def correlation(gamma):
        keras.utils.set_random_seed(0)
        model = zoo.models.factor_vae(
            (1, 2, 1),
            latent_dim=2,
            hidden=(16,),
            activation="tanh",
            likelihood="unit_normal",
            gamma=gamma,
            discriminator_hidden=(16,),
        )
        # Each latent starts as three times the sum of the pixels.
        x = np.random.default_rng(0).uniform(size=(400, 1, 2, 1)).astype(np.float32)
        x[:, :, 1] = x[:, :, 0]
        linear = keras.Sequential([keras.Input((1, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])  # fmt: skip
        kernel = np.array([[3, 3, 0, 0]] * 2, np.float32)
        linear.set_weights([kernel, np.array([-3, -3, -2, -2], np.float32)])
        model = zoo.FactorVAE(
            posterior=zoo.Conditional(linear, zoo.DiagonalNormal()),
            likelihood=model.likelihood,
            prior=model.prior,
            discriminator=model.discriminator,
            gamma=gamma,
        )
        model.compile(
            {"vae": keras.optimizers.Adam(0.01), "discriminator": keras.optimizers.Adam(0.02)},
            jit_compile=False,
        )
        model.fit(x, batch_size=200, epochs=60, verbose=0)
        q = model.posterior(x)
        return abs(np.corrcoef(q.sample(seed=1).numpy().T)[0, 1])

    assert correlation(10.0) < 0.5 * correlation(0.0)


def test_builders_pass_settings_to_the_model():
    for model in (
        zoo.models.factor_vae(
            SHAPE,
            latent_dim=4,
            hidden=(4,),
            gamma=3.0,
            discriminator_hidden=(5, 6),
            warm_up_steps=7,
        ),
        zoo.models.factor_vae(
            SHAPE,
            network="conv",
            latent_dim=4,
            filters=(4,),
            hidden=(4,),
            gamma=3.0,
            discriminator_hidden=(5, 6),
            warm_up_steps=7,
        ),
    ):
        assert (model.gamma, model.latent_dim, model.rate_weight.steps) == (3.0, 4, 7)
        units = [layer.units for layer in model.discriminator.layers]
        assert units == [5, 6, 1]
        assert float(model.discriminator.layers[0].activation(-1.0)) == pytest.approx(-0.2)


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), float("inf")])
def test_a_gamma_out_of_range_is_refused(gamma):
    with pytest.raises(ValueError, match=r"`gamma` must be at least 0 and finite\. Received: "):
        zoo.models.factor_vae(
            SHAPE, latent_dim=2, hidden=(4,), gamma=gamma, discriminator_hidden=(4,)
        )
