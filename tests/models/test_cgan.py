"""The conditional GAN: labels reach both networks, in both rounds, and decide what is made."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.stats import norm

import zoo
from zoo.adversarial import NonSaturating
from zoo.models.cgan import CGAN, cdcgan, cgan_mlp
from zoo.networks import OneHot
from zoo.penalties import GradientPenalty

SHAPE = (8, 8, 1)
SEED = (3, 4)
Y = np.array([0, 3, 9, 1, 1, 7, 2, 5, 4])
VARIANTS = pytest.mark.parametrize("discriminator", ["concat", "projection"])


def small(known, discriminator="concat", **options):
    built = cgan_mlp(SHAPE, 3, (6,), (5,), dropout=0.0, discriminator=discriminator)
    model = CGAN(built.generator, built.discriminator, known.Prior(3), **options)
    model.compile(keras.optimizers.SGD(1.0))
    return model


def softplus_of(logits):
    return tf.reduce_mean(tf.math.log1p(tf.exp(logits)))


@VARIANTS
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_each_round_judges_real_and_made_images_under_the_batchs_labels(
    known, digits, discriminator, player, moves, assert_descends
):
    model, x, y = small(known, discriminator), tf.constant(digits[:9]), tf.constant(Y)
    with tf.GradientTape() as tape:
        fake = model.generator([tf.constant(known.noise(9, 3)), y], training=True)
        fooled = model.discriminator([fake, y])
        if player == "discriminator":
            loss = softplus_of(-model.discriminator([x, y])) + softplus_of(fooled)
        else:
            loss = softplus_of(-fooled)
    expected = tape.gradient(loss, [v.value for v in model.variables_of(player)])
    turn = model.rounds()[["discriminator", "generator"].index(player)]
    change = moves(model, lambda: model._play(turn, x, y, tf.constant(SEED)))
    # Batch normalization leaves a bias no slope but rounding.
    pairs = [
        (c, g) for c, g in zip(change.pop(player), expected, strict=True) if np.abs(g).max() > 1e-7
    ]
    assert len(pairs) >= 4
    assert_descends(*zip(*pairs, strict=True))
    assert all((c == 0).all() for c in next(iter(change.values())))


@VARIANTS
def test_both_networks_say_something_else_under_another_label(digits, discriminator):
    for model in (
        cgan_mlp(SHAPE, 3, (6,), (5,), discriminator=discriminator),
        cdcgan(SHAPE, 3, 2, discriminator=discriminator),
    ):
        x, z = digits[:9], np.ones([9, 3], np.float32)
        logits = [model.discriminator([x, np.full(9, label)]).numpy() for label in (2, 5)]
        made = [model.decode(z, label).numpy() for label in (2, 5)]
        assert (logits[0] != logits[1]).all()
        assert np.abs(made[0] - made[1]).max() > 1e-4
        assert np.abs(made[0] - made[0][0]).max() < 1e-5


def test_labels_of_the_batch_and_no_others_are_judged(known, digits):
    model, seen = small(known), []
    discriminator = model.discriminator

    class Watched:
        inputs = discriminator.inputs

        def __call__(self, inputs, training):
            seen.append(inputs[1].numpy())
            return discriminator(inputs, training=training)

    object.__setattr__(model, "discriminator", Watched())
    model.penalty = GradientPenalty()
    model.discriminator_objective(digits[:9], Y, tf.constant(SEED), True)
    model.generator_objective(digits[:9], Y, tf.constant(SEED), True)
    assert len(seen) == 4  # real, fake, the penalty's points, the generator's
    for y in seen:
        np.testing.assert_array_equal(y, Y)


class Passing(zoo.distributions.Prior):
    """N(0, 1), in one dimension."""

    def call(self, y=None):
        tfd = tfp.distributions
        return tfd.Independent(tfd.Normal(tf.zeros(1), 1.0), 1)


def jsd(shift):
    grid = np.linspace(-9, 9 + shift, 4001)
    p, q = norm.pdf(grid), norm.pdf(grid, shift)
    m = (p + q) / 2
    return np.trapezoid(0.5 * p * np.log(p / m) + 0.5 * q * np.log(q / m), grid)


def test_the_optimal_discriminator_is_that_of_each_class_by_itself():
    # x | y ~ N(m_y, 1) against z ~ N(0, 1) whatever y is: the best logit is m_y x - m_y^2 / 2, and
    # leaves log 4 - 2 JSD(y), in the mean over the classes.
    means = np.array([0.0, 1.0, 2.5], np.float32)
    z, x, y = keras.Input((1,)), keras.Input((1, 1, 1)), keras.Input((), dtype="int32")
    generator = keras.Model([z, y], keras.layers.Reshape((1, 1, 1))(z))
    slope = keras.layers.Dense(1, use_bias=False)(OneHot(3)(y))
    bias = keras.layers.Dense(1, use_bias=False)(OneHot(3)(y))
    product = keras.layers.Multiply()([keras.layers.Flatten()(x), slope])
    model = CGAN(generator, keras.Model([x, y], keras.layers.Add()([product, bias])), Passing())
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


@VARIANTS
def test_each_class_learns_its_own_images(discriminator):
    # Two classes: dark images, and bright ones.
    y = np.arange(256) % 2
    level = np.where(y == 1, 0.8, 0.2)[:, None, None, None]
    x = np.clip(np.random.default_rng(0).normal(level, 0.05, (256, 2, 2, 1)), 0, 1)
    model = cgan_mlp((2, 2, 1), 2, (16,), (32,), 0.0, 2, discriminator=discriminator)
    model.compile(keras.optimizers.Adam(5e-3, beta_1=0.5))
    data = tf.data.Dataset.from_tensors((x.astype(np.float32), y)).repeat()
    model.fit(data, steps_per_epoch=150, verbose=0)
    made = model.sample(200, np.arange(200) % 2, seed=1).numpy().mean((1, 2, 3))
    assert made[::2].mean() == pytest.approx(0.2, abs=0.15)
    assert made[1::2].mean() == pytest.approx(0.8, abs=0.15)


def test_samples_take_a_label_for_each_or_one_for_all():
    model = cgan_mlp(SHAPE, 3, (6,), (5,))
    assert model.abilities() == ("decode", "sample") and model.latent_dim == 3
    assert model.condition == tf.TensorSpec([None], tf.int32)
    each = model.sample(3, [4, 4, 4], seed=1)
    np.testing.assert_array_equal(model.sample(3, 4, seed=1), each)
    z = model.sample_latents(3, 4, seed=1)
    np.testing.assert_allclose(model.decode(z, 4), each, atol=1e-6)
    np.testing.assert_allclose(model.predict([z, np.full(3, 4)], verbose=0), each, atol=1e-6)
    path = model.interpolate(z[0], z[1], 4, y=4)
    np.testing.assert_allclose(path[0], each[0], atol=1e-5)


def test_what_lacks_a_condition_is_refused_in_a_sentence(digits):
    model = cgan_mlp(SHAPE, 3, (6,), (5,))
    model.compile("sgd")
    z = np.zeros([2, 3], np.float32)
    for call in (lambda: model.sample(2), lambda: model.decode(z), lambda: model.fit(digits[:8], verbose=0)):  # fmt: skip
        with pytest.raises(ValueError, match=r"takes a condition.*Received: y=None"):
            call()
    with pytest.raises(ValueError, match="from 0 to 9. Received: labels from 10"):  # noqa: RUF043
        model.sample(2, 10)
    plain = zoo.models.gan.gan_mlp(SHAPE, 3, (6,), (5,))
    with pytest.raises(ValueError, match=r"The generator .*Received: a network of 1 inputs"):
        CGAN(plain.generator, model.discriminator, model.prior)
    with pytest.raises(ValueError, match=r"The discriminator .*Received: a network of 1 inputs"):
        CGAN(model.generator, plain.discriminator, model.prior)
    attributes = keras.Model(
        [keras.Input(SHAPE), labels := keras.Input((10,))], keras.layers.Dense(1)(labels)
    )
    with pytest.raises(ValueError, match="take the same condition"):
        CGAN(model.generator, attributes, model.prior)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator": "projektion"}, "Did you mean 'projection'"),
        ({"condition_size": -1}, r"at least 0\. Received: -1"),
        ({"loss": "hinge", "label_noise": 0.1}, "'hinge' has none of"),
        ({"loss": "wasserstein"}, r"bounds the critic's slope.*Received: "),
    ],
)
def test_builders_refuse_what_there_is_not(options, message):
    for build in (cgan_mlp, cdcgan):
        with pytest.raises(ValueError, match=message):
            build(SHAPE, 3, **options)


def test_builders_put_together_what_they_are_told():
    for build, widths in (
        (cgan_mlp, {"generator_hidden": (4,), "discriminator_hidden": (4,)}),
        (cdcgan, {"width": 2}),
    ):
        model = build(
            SHAPE, 3, **widths, condition_size=4, batch_norm=False, spectral_norm=True, r1=2.0,
            latents="sphere", instance_noise=0.2, instance_noise_steps=7, discriminator_steps=3,
        )  # fmt: skip
        assert type(model.adversarial_loss) is NonSaturating and model.penalty.weight == 2.0
        assert type(model.prior) is zoo.UniformOnSphere and model.discriminator_steps == 3
        assert (model.instance_noise.steps, model.instance_noise.start) == (7, 0.2)
        layers = list(model.discriminator._flatten_layers())
        assert any(isinstance(layer, zoo.networks.SpectralNormalization) for layer in layers)
        for network in (model.generator, model.discriminator):
            [code] = [la for la in network._flatten_layers() if isinstance(la, OneHot)]
            assert code.classes == 4
