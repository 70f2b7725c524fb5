"""Clustering with an adversarial autoencoder: category and style, and two discriminators."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats
from scipy.special import softmax

import zoo
from zoo.models.clustering_aae import (
    CategoryAndStyle,
    ClusteringAAE,
    SoftmaxAndStyle,
    clustering_aae,
)

SHAPE, K, STYLE, BATCH = (8, 8, 1), 4, 3, 6
PHASES = [["autoencoder"], ["discriminator", "category_discriminator"], ["encoder"]]


def small(**arguments):
    sizes = {"categories": K, "latent_dim": STYLE, "hidden": (7,), "discriminator_hidden": (6,)}
    model = clustering_aae(SHAPE, **sizes | arguments)
    model.compile(keras.optimizers.SGD(1.0))
    return model


def test_the_family_applies_softmax_to_the_first_values_only():
    params = np.random.default_rng(0).normal(size=(5, K + STYLE)).astype(np.float32)
    code = SoftmaxAndStyle(K)(tf.constant(params), 1)
    assert code.event_shape == (K + STYLE,)
    for values in (code.sample(seed=1), code.mean()):
        np.testing.assert_allclose(values[:, :K], softmax(params[:, :K], -1), rtol=1e-5)
        np.testing.assert_array_equal(values[:, K:], params[:, K:])


def test_the_prior_is_a_uniform_category_and_an_independent_style():
    prior = CategoryAndStyle(K, zoo.StandardNormal(STYLE))
    z = prior().sample(6000, seed=[1, 2]).numpy()
    y = z[:, :K].argmax(1)
    np.testing.assert_array_equal(z[:, :K], np.eye(K)[y])
    assert stats.chisquare(np.bincount(y, minlength=K)).pvalue > 1e-3
    for values in z[:, K:].T:
        for k in range(K):
            assert stats.kstest(values[y == k], "norm").pvalue > 1e-4
    log_prob = prior().log_prob(z[:5])
    expected = stats.norm.logpdf(z[:5, K:]).sum(1) - math.log(K)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)


def test_the_component_of_a_label_has_its_category_and_a_random_style():
    prior = CategoryAndStyle(K, zoo.IsotropicNormal(STYLE, 2.0))
    y = np.repeat([2, 0, -1], 2000)
    z = tf.function(lambda: prior.component(tf.constant(y)).sample(seed=[3, 4]), jit_compile=True)()
    z = z.numpy()
    np.testing.assert_array_equal(z[:4000, :K], np.eye(K)[y[:4000]])
    assert stats.chisquare(z[4000:, :K].sum(0)).pvalue > 1e-3
    assert stats.kstest(z[:, K], stats.norm(0, 2).cdf).pvalue > 1e-3
    with pytest.raises(ValueError, match=r"labels from 0 to 3.*Received: a label of 4"):
        prior.component([4])


# Training -------------------------------------------------------------------------------------


def logits_of(network, values):
    hidden, bias, last, offset = network.trainable_variables
    return tf.matmul(tf.nn.relu(tf.matmul(values, hidden) + bias), last) + offset


def losses_by_hand(model, x, seed):
    """The loss of each player, by matrix products."""
    params = model.posterior.network(x)
    y, z = tf.nn.softmax(params[:, :K]), params[:, K:]
    logits = model.likelihood.network(tf.concat([y, z], 1))
    distortion = tf.reduce_sum(tf.nn.softplus(logits) - x * logits, [1, 2, 3])
    drawn = model.prior().sample(len(x), seed=tfp.random.split_seed(seed, 6)[1])
    real_y = logits_of(model.category_discriminator, drawn[:, :K])
    real_z = logits_of(model.discriminator, drawn[:, K:])
    fake_y = logits_of(model.category_discriminator, y)
    fake_z = logits_of(model.discriminator, z)

    def cost(logit):
        return tf.reduce_mean(tf.math.log1p(tf.exp(logit)))

    return {
        "autoencoder": tf.reduce_mean(distortion),
        "discriminator": cost(-real_z) + cost(fake_z),
        "category_discriminator": cost(-real_y) + cost(fake_y),
        "encoder": cost(-fake_y) + cost(-fake_z),
    }


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase[0])
def test_each_phase_descends_its_loss_and_updates_only_its_player(
    phase, digits, weight_changes, assert_descends, single_turns
):
    model, x, seed = small(), tf.constant(digits[:BATCH]), tf.constant([1, 2])
    with tf.GradientTape(persistent=True) as tape:
        losses = losses_by_hand(model, x, seed)
    expected = {
        player: tape.gradient(losses[player], model.variables_of(player)) for player in phase
    }
    updated = {id(v) for player in phase for v in model.variables_of(player)}
    others = [(v, v.numpy()) for v in model.trainable_variables if id(v) not in updated]
    assert others
    turn = single_turns(model, x)[PHASES.index(phase)]
    change = weight_changes(model, lambda: model._play(turn, x, None, seed))
    for player in phase:
        assert_descends(change[player], expected[player])
    assert all(np.array_equal(v, before) for v, before in others)


def test_gradients_of_the_discriminator_losses_do_not_reach_the_encoder(digits):
    model, x = small(), tf.constant(digits[:BATCH])
    with tf.GradientTape(persistent=True) as tape:
        losses, _ = next(model.regularization_objective(x, None, tf.constant([1, 2]), True))
    for loss in losses.values():
        assert all(g is None for g in tape.gradient(loss, model.variables_of("encoder")))


def test_labels_of_the_data_are_ignored(digits, single_turns):
    x, seed = tf.constant(digits[:BATCH]), tf.constant([1, 2])
    model = small()
    for turn in single_turns(model, x):
        results = [turn.objective(x, y, seed, True) for y in (None, tf.range(BATCH))]
        for one, other in zip(*map(keras.tree.flatten, results), strict=True):
            np.testing.assert_array_equal(one, other)
    assert model.condition is None


def test_codes_that_follow_the_prior_are_the_fixed_point():
    encoder = keras.Sequential([keras.Input((1, K + STYLE, 1)), keras.layers.Flatten()])
    parts = clustering_aae(
        (1, K + STYLE, 1),
        categories=K,
        latent_dim=STYLE,
        hidden=(4,),
        discriminator_hidden=(30,),
    )
    model = ClusteringAAE(
        zoo.Conditional(encoder, SoftmaxAndStyle(K)),
        parts.likelihood,
        parts.prior,
        parts.discriminator,
        parts.category_discriminator,
    )
    lasts = [d.trainable_variables[-2] for d in (model.discriminator, model.category_discriminator)]
    for last in lasts:
        last.assign(tf.zeros_like(last))
    z = parts.prior().sample(30_000, seed=[7, 8]).numpy()
    z[:, :K] *= 50  # Logits whose softmax is one-hot.
    for categories, styles in ((1, 1), (1, 2), (2, 1)):
        x = z.copy()
        x[:, K:] *= styles
        if categories > 1:
            x[:, 0] += 60 * (x[:, 1] > 0)  # The second cluster merges with the first.
        with tf.GradientTape() as tape:
            turns = model.regularization_objective(
                tf.constant(x.reshape(-1, 1, K + STYLE, 1)), None, tf.constant([1, 2]), True
            )
            losses, _ = next(turns)
            means = [tf.reduce_mean(loss) for loss in losses.values()]
            total = tf.add_n(means)
        for mean in means:
            assert float(mean) == pytest.approx(2 * math.log(2), abs=1e-5)
        slopes = [np.abs(g).max() for g in tape.gradient(total, lasts)]
        assert [slope > 0.03 for slope in slopes] == [styles > 1, categories > 1]


def test_input_noise_and_batch_statistics_apply_only_in_training(digits):
    model, x = small(input_noise=0.3, batch_norm=True), tf.constant(digits[:BATCH])
    codes = [model.posterior(x, training=False).sample(seed=[0, i]) for i in range(2)]
    np.testing.assert_array_equal(*codes)
    losses = [
        model.reconstruction_objective(x, None, tf.constant([0, i]), True)[0]["autoencoder"]
        for i in range(2)
    ]
    assert np.abs(losses[0] - losses[1]).min() > 0
    noise = model.posterior.network.layers[0]
    wide = tf.zeros([20_000, *SHAPE])
    assert np.std(noise(wide, training=True)) == pytest.approx(0.3, rel=0.01)
    # Over a batch, the encoder's outputs have mean 0 and variance 1.
    params = model.posterior.network(x, training=True)
    np.testing.assert_allclose(np.mean(params, 0), 0, atol=1e-4)
    np.testing.assert_allclose(np.var(params, 0), 1, atol=0.02)


# Use --------------------------------------------------------------------------------------------


def test_latents_are_category_and_style(digits):
    model, x = small(), digits[:BATCH]
    params = model.posterior.network(x).numpy()
    np.testing.assert_allclose(model.classify(x), softmax(params[:, :K], -1), rtol=1e-5)
    np.testing.assert_allclose(model.encode(x)[:, K:], params[:, K:], rtol=1e-5)
    z = model.sample_latents(50, [1] * 20 + [-1] * 30, seed=3).numpy()
    np.testing.assert_array_equal(z[:20, :K], np.eye(K)[[1] * 20])
    assert len(np.unique(z[20:, :K], axis=0)) == K
    np.testing.assert_array_equal(model.sample_latents(5, 2, seed=3)[:, 2], np.ones(5))
    assert model.latent_dim == K + STYLE and model.num_classes == K


def test_a_category_overrides_the_category_of_the_latents(digits):
    model = small()
    z = model.encode(digits[:3]).numpy()
    images = model.decode(z, [2, -1, 0])
    for row, y in enumerate([2, -1, 0]):
        own = z[row].copy()
        if y >= 0:
            own[:K] = np.eye(K)[y]
        image = tf.sigmoid(model.likelihood.network(own[None]))[0]
        np.testing.assert_allclose(images[row], image, atol=1e-5)
    np.testing.assert_array_equal(model.decode(z, 1), model.decode(z, [1, 1, 1]))
    np.testing.assert_allclose(model.reconstruct(digits[:3], 1), model.decode(z, 1), atol=1e-6)
    with pytest.raises(ValueError, match=r"labels from 0 to 3.*Received: a label of 4"):
        model.decode(z, 4)
    for y in ([0, 1], [[0]], 2.7):
        with pytest.raises(ValueError, match="Received: "):
            model.sample(3, y)
    with pytest.raises(ValueError, match=r"one for each of 5 images\. Received: y of shape \(2,\)"):
        model.decode(tf.zeros([5, z.shape[1]]), [0, 1])


def test_the_image_of_a_category_is_decoded_from_a_zero_style():
    model = small()
    codes = np.concatenate([np.eye(K), np.zeros((K, STYLE))], 1).astype(np.float32)
    np.testing.assert_allclose(model.category_images(), model.decode(codes), atol=1e-6)


def test_incompatible_parts_are_refused():
    parts = small()
    rest = (parts.discriminator, parts.category_discriminator)
    for prior, message in (
        (CategoryAndStyle(K + 1, zoo.StandardNormal(2)), "of 4 and a CategoryAndStyle of 5"),
        (zoo.StandardNormal(7), "a StandardNormal of None"),
    ):
        with pytest.raises(ValueError, match=message):
            ClusteringAAE(parts.posterior, parts.likelihood, prior, *rest)
    with pytest.raises(ValueError, match=r"`categories` must be at least 2\. Received: .*=1"):
        small(categories=1)
    with pytest.raises(ValueError, match=r"Received: a CategoryAndStyle"):
        small(prior="realnvp")


def test_the_convolutional_networks_have_input_noise_and_no_batch_normalization(digits):
    model = small(network="conv", filters=(4, 8), input_noise=0.3)
    kinds = [type(layer).__name__ for layer in model.posterior.network.layers]
    assert kinds[:3] == ["GaussianNoise", "Conv2D", "Conv2D"]
    assert model.reconstruct(digits[:2]).shape == (2, *SHAPE)
    with pytest.raises(ValueError, match="network='conv' does not use it"):
        small(network="conv", batch_norm=True)


def test_the_builder_accepts_a_style_prior_and_a_loss():
    model = small(prior="uniform", loss="minimax", real_label=0.9)
    assert isinstance(model.prior.style, zoo.Uniform)
    styles = model.sample_latents(100, seed=1)[:, K:]
    assert np.abs(styles).max() <= 1
    assert type(model.adversarial_loss) is zoo.adversarial.Minimax
    assert model.adversarial_loss.real_label == 0.9
