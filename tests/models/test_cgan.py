"""The conditional GAN: conditions reach both networks in both rounds and determine the images."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.stats import norm

import zoo
from zoo.adversarial import NonSaturating
from zoo.keras_internals import layers_in
from zoo.models.cgan import CGAN, cgan
from zoo.models.gan import gan
from zoo.networks import OneHot
from zoo.penalties import GradientPenalty

SHAPE = (8, 8, 1)
SEED = (3, 4)
Y = np.array([0, 3, 9, 1, 1, 7, 2, 5, 4])
TINY = {"latent_dim": 3, "generator_hidden": (6,), "discriminator_hidden": (5,)}
NETWORKS = {"mlp": TINY, "conv": {"network": "conv", "latent_dim": 3, "width": 2, "dropout": 0.0}}
VARIANTS = pytest.mark.parametrize("discriminator", ["concat", "projection"])


def small(known, discriminator="concat", **options):
    built = cgan(SHAPE, **TINY, dropout=0.0, discriminator=discriminator)
    model = CGAN(built.generator, built.discriminator, known.Prior(3), **options)
    model.compile(keras.optimizers.SGD(1.0))
    return model


def softplus_of(logits):
    return tf.reduce_mean(tf.math.log1p(tf.exp(logits)))


@VARIANTS
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_each_round_uses_the_batchs_labels_for_real_and_fake_images(
    known, digits, discriminator, player, weight_changes, assert_descends
):
    model, x, y = small(known, discriminator), tf.constant(digits[:9]), tf.constant(Y)
    with tf.GradientTape() as tape:
        fake = model.generator([tf.constant(known.noise(9, 3)), y], training=True)
        fake_logits = model.discriminator([fake, y])
        if player == "discriminator":
            loss = softplus_of(-model.discriminator([x, y])) + softplus_of(fake_logits)
        else:
            loss = softplus_of(-fake_logits)
    expected = tape.gradient(loss, [v.value for v in model.variables_of(player)])
    turn = model.rounds()[["discriminator", "generator"].index(player)]
    change = weight_changes(model, lambda: model._play(turn, x, y, tf.constant(SEED)))
    # The gradient of a bias before batch normalization is 0 up to rounding.
    pairs = [
        (c, g) for c, g in zip(change.pop(player), expected, strict=True) if np.abs(g).max() > 1e-7
    ]
    assert len(pairs) >= 4
    assert_descends(*zip(*pairs, strict=True))
    assert all((c == 0).all() for c in next(iter(change.values())))


@VARIANTS
@pytest.mark.parametrize("network", NETWORKS)
def test_the_outputs_of_both_networks_depend_on_the_label(digits, discriminator, network):
    model = cgan(SHAPE, **NETWORKS[network], discriminator=discriminator)
    x, z = digits[:9], np.ones([9, 3], np.float32)
    logits = [model.discriminator([x, np.full(9, label)]).numpy() for label in (2, 5)]
    images = [model.decode(z, label).numpy() for label in (2, 5)]
    assert (logits[0] != logits[1]).all()
    assert np.abs(images[0] - images[1]).max() > 1e-4
    assert np.abs(images[0] - images[0][0]).max() < 1e-5


@pytest.mark.parametrize("network", NETWORKS)
def test_attributes_reach_both_networks(digits, network):
    model = cgan(SHAPE, **NETWORKS[network], condition="attributes", condition_size=2)
    assert model.condition == tf.TensorSpec([None, 2], tf.float32)
    y = np.array([[0, 1], [1, 1], [0, 0.5]], np.float32)
    x, z = digits[:1].repeat(3, 0), np.ones([3, 3], np.float32)
    for outputs in (model.discriminator([x, y]).numpy(), model.decode(z, y).numpy()):
        for i, j in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(outputs[i] - outputs[j]).max() > 1e-6
    model.compile(keras.optimizers.SGD(0.01))
    model.fit(digits[:6], np.ones([6, 2], np.float32), batch_size=6, verbose=0)


def test_every_call_of_the_discriminator_has_the_labels_of_the_batch(known, digits):
    model, seen = small(known), []
    discriminator = model.discriminator

    class Recorder:
        inputs = discriminator.inputs

        def __call__(self, inputs, training):
            seen.append(inputs[1].numpy())
            return discriminator(inputs, training=training)

    object.__setattr__(model, "discriminator", Recorder())
    model.penalty = GradientPenalty()
    model.discriminator_objective(digits[:9], Y, tf.constant(SEED), True)
    model.generator_objective(digits[:9], Y, tf.constant(SEED), True)
    assert len(seen) == 4  # real, fake, the penalty's points, the generator's
    for y in seen:
        np.testing.assert_array_equal(y, Y)


class Normal(zoo.distributions.Prior):
    """N(0, 1), in one dimension."""

    def call(self, y=None):
        tfd = tfp.distributions
        return tfd.Independent(tfd.Normal(tf.zeros(1), 1.0), 1)


def jsd(shift):
    grid = np.linspace(-9, 9 + shift, 4001)
    p, q = norm.pdf(grid), norm.pdf(grid, shift)
    m = (p + q) / 2
    return np.trapezoid(0.5 * p * np.log(p / m) + 0.5 * q * np.log(q / m), grid)


def test_the_optimal_discriminator_is_optimal_for_each_class():
    # x | y ~ N(m_y, 1) against z ~ N(0, 1) for every y: the best logit is m_y x - m_y^2 / 2, and
    # its loss is log 4 - 2 JSD(y) for each class.
    means = np.array([0.0, 1.0, 2.5], np.float32)
    z, x, y = keras.Input((1,)), keras.Input((1, 1, 1)), keras.Input((), dtype="int32")
    generator = keras.Model([z, y], keras.layers.Reshape((1, 1, 1))(z))
    slope = keras.layers.Dense(1, use_bias=False)(OneHot(3)(y))
    bias = keras.layers.Dense(1, use_bias=False)(OneHot(3)(y))
    product = keras.layers.Multiply()([keras.layers.Flatten()(x), slope])
    model = CGAN(generator, keras.Model([x, y], keras.layers.Add()([product, bias])), Normal())
    model.discriminator.set_weights([means[:, None], -(means[:, None] ** 2) / 2])
    n = 30_000
    labels = np.arange(n) % 3
    data = np.random.default_rng(0).normal(means[labels]).astype(np.float32)[:, None, None, None]
    seed = tf.constant(SEED)
    losses, _ = model.discriminator_objective(data, labels, seed, training=False)
    loss = losses["discriminator"].numpy()
    for label, mean in enumerate(means):
        own = loss[labels == label]
        expected = math.log(4) - 2 * jsd(mean)
        assert abs(own.mean() - expected) < 4 * own.std() / np.sqrt(len(own)) + 1e-6
    kept = model.discriminator.get_weights()
    for other in (1.3 * kept[0], kept[0][::-1]):
        model.discriminator.set_weights([other, kept[1]])
        worse, _ = model.discriminator_objective(data, labels, seed, training=False)
        assert worse["discriminator"].numpy().mean() > loss.mean() + 1e-3


@pytest.mark.slow
@VARIANTS
def test_the_generator_learns_the_images_of_each_class(discriminator):
    # Two classes: dark images, and bright ones.
    y = np.arange(256) % 2
    level = np.where(y == 1, 0.8, 0.2)[:, None, None, None]
    x = np.clip(np.random.default_rng(0).normal(level, 0.05, (256, 2, 2, 1)), 0, 1)
    model = cgan(
        (2, 2, 1), latent_dim=2, generator_hidden=(16,), discriminator_hidden=(32,), dropout=0.0,
        condition_size=2, discriminator=discriminator,
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(5e-3, beta_1=0.5))
    data = tf.data.Dataset.from_tensors((x.astype(np.float32), y)).repeat()
    model.fit(data, steps_per_epoch=150, verbose=0)
    images = model.sample(200, np.arange(200) % 2, seed=1).numpy().mean((1, 2, 3))
    assert images[::2].mean() == pytest.approx(0.2, abs=0.15)
    assert images[1::2].mean() == pytest.approx(0.8, abs=0.15)


def test_samples_accept_one_label_each_or_one_label_for_all():
    model = cgan(SHAPE, **TINY)
    assert model.abilities() == ("decode", "sample") and model.latent_dim == 3
    assert model.condition == tf.TensorSpec([None], tf.int32)
    each = model.sample(3, [4, 4, 4], seed=1)
    np.testing.assert_array_equal(model.sample(3, 4, seed=1), each)
    z = model.sample_latents(3, 4, seed=1)
    np.testing.assert_allclose(model.decode(z, 4), each, atol=1e-6)
    np.testing.assert_allclose(model.predict([z, np.full(3, 4)], verbose=0), each, atol=1e-6)
    path = model.interpolate(z[0], z[1], 4, y=4)
    np.testing.assert_allclose(path[0], each[0], atol=1e-5)


def test_a_missing_or_unknown_condition_is_refused(digits):
    model = cgan(SHAPE, **TINY)
    model.compile("sgd")
    z = np.zeros([2, 3], np.float32)
    for call in (lambda: model.sample(2), lambda: model.decode(z), lambda: model.fit(digits[:8], verbose=0)):  # fmt: skip
        with pytest.raises(ValueError, match=r"takes a condition.*Received: y=None"):
            call()
    with pytest.raises(ValueError, match="from 0 to 9. Received: labels from 10"):  # noqa: RUF043
        model.sample(2, 10)
    plain = gan(SHAPE, **TINY)
    with pytest.raises(ValueError, match=r"The generator .*Received: a network with 1 inputs"):
        CGAN(plain.generator, model.discriminator, model.prior)
    with pytest.raises(ValueError, match=r"The discriminator .*Received: a network with 1 inputs"):
        CGAN(model.generator, plain.discriminator, model.prior)
    attributes = keras.Model(
        [keras.Input(SHAPE), labels := keras.Input((10,))], keras.layers.Dense(1)(labels)
    )
    with pytest.raises(ValueError, match="take the same condition"):
        CGAN(model.generator, attributes, model.prior)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator": "projektion"}, "Did you mean 'projection'"),
        ({"condition_size": -1}, "`condition_size` must be at least 0"),
        ({"condition": "none"}, "Unknown condition 'none'"),
        ({"condition": "attributes"}, "`condition_size`.*condition_size=0"),
        (
            {"condition": "attributes", "condition_size": 2, "discriminator": "projection"},
            "projects on a label",
        ),
        ({"loss": "hinge", "label_noise": 0.1}, "'hinge'"),
        ({"loss": "wasserstein"}, r"bounds the critic's slope.*Received: "),
    ],
)
def test_incompatible_options_are_refused(network, options, message):
    with pytest.raises(ValueError, match=message):
        cgan(SHAPE, **NETWORKS[network], **options)


@pytest.mark.parametrize("network", NETWORKS)
def test_options_reach_their_parts(network):
    model = cgan(
        SHAPE, **NETWORKS[network], condition_size=4, spectral_norm=True, r1=2.0, prior="sphere",
        instance_noise=0.2, instance_noise_steps=7, discriminator_steps=3,
    )  # fmt: skip
    assert type(model) is CGAN
    assert type(model.adversarial_loss) is NonSaturating and model.penalty.weight == 2.0
    assert type(model.prior) is zoo.UniformOnSphere and model.discriminator_steps == 3
    assert (model.instance_noise.steps, model.instance_noise.start) == (7, 0.2)
    layers = list(layers_in(model.discriminator))
    assert any(isinstance(layer, zoo.networks.SpectralNormalization) for layer in layers)
    for part in (model.generator, model.discriminator):
        [code] = [layer for layer in layers_in(part) if isinstance(layer, OneHot)]
        assert code.classes == 4
