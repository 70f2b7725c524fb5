"""The GAN: who moves when, along which gradient, and what stays untouched."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.stats import norm

import zoo
from zoo.adversarial import Minimax, NonSaturating
from zoo.models.gan import dcgan, gan_mlp

SHAPE = (8, 8, 1)
SEED = (3, 4)


def small(known, loss, **kwargs):
    model = zoo.GAN(
        zoo.networks.mlp_decoder(3, SHAPE, 1, (6,), "tanh", "sigmoid"),
        zoo.networks.mlp_discriminator(SHAPE, (5,)),
        known.Prior(3),
        loss,
        **kwargs,
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def softplus_of(logits):
    return tf.reduce_mean(tf.math.log1p(tf.exp(logits)))


def gradients_by_hand(model, known, x, player, saturating):
    with tf.GradientTape() as tape:
        fake = model.generator(tf.constant(known.noise(len(x), 3)))
        if player == "discriminator":
            loss = softplus_of(-model.discriminator(x)) + softplus_of(model.discriminator(fake))
        elif saturating:
            loss = -softplus_of(model.discriminator(fake))
        else:
            loss = softplus_of(-model.discriminator(fake))
    return tape.gradient(loss, model.variables_of(player))


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_saturating"])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_each_round_moves_its_player_along_its_own_loss_and_nobody_else(
    known, digits, loss, player, moves, assert_descends
):
    model, x = small(known, loss), tf.constant(digits[:9])
    expected = gradients_by_hand(model, known, x, player, type(loss) is Minimax)
    turn = model.rounds()[["discriminator", "generator"].index(player)]
    change = moves(model, lambda: model._play(turn, x, None, tf.constant(SEED)))
    assert_descends(change.pop(player), expected)
    assert all((c == 0).all() for c in next(iter(change.values())))


def test_the_generator_answers_to_the_discriminator_that_has_just_moved(
    known, digits, moves, assert_descends
):
    model, x = small(known, NonSaturating()), tf.constant(digits[:9])
    step = gradients_by_hand(model, known, x, "discriminator", False)
    kept = model.get_weights()
    for variable, gradient in zip(model.variables_of("discriminator"), step, strict=True):
        variable.assign_sub(gradient)
    expected = gradients_by_hand(model, known, x, "generator", False)
    model.set_weights(kept)
    change = moves(model, lambda: model.train_step((x,)))
    assert_descends(change["discriminator"], step)
    assert_descends(change["generator"], expected)


@pytest.mark.parametrize("mover", ["discriminator", "generator"])
def test_in_a_players_round_the_others_batch_statistics_hold_still_and_its_own_follow(
    mover, snapshot
):
    model = dcgan((16, 16, 1), 3, width=2)
    model.compile("adam")
    x = tf.random.stateless_uniform([6, 16, 16, 1], [1, 2])
    before = snapshot(model)
    turn = model.rounds()[["discriminator", "generator"].index(mover)]
    model._play(turn, x, None, tf.constant(SEED))
    after = snapshot(model)
    for player, layers in model.players().items():
        names = [v.path for layer in layers for v in layer.variables]
        assert sum("moving" in name for name in names) >= 2
        for name, old, new in zip(names, before[player], after[player], strict=True):
            assert np.array_equal(old, new) == (player != mover), name


def test_the_discriminators_statistics_are_of_the_real_batch_and_then_of_the_fake_one(known):
    images = keras.Input(SHAPE)
    norm_layer = keras.layers.BatchNormalization(momentum=0.9)
    flat = keras.layers.Flatten()(images)
    discriminator = keras.Model(images, keras.layers.Dense(1)(norm_layer(flat)))
    model = zoo.GAN(
        zoo.networks.mlp_decoder(3, SHAPE, 1, (6,), output="sigmoid"), discriminator, known.Prior(3)
    )
    model.compile(keras.optimizers.SGD(0.0))
    x = np.random.default_rng(0).uniform(size=(9, *SHAPE)).astype(np.float32)
    fake = model.generator(known.noise(9, 3)).numpy()
    model.train_step((tf.constant(x),))
    mean, variance = 0.0, 1.0
    for batch in (x.reshape(9, -1), fake.reshape(9, -1)):
        mean, variance = 0.9 * mean + 0.1 * batch.mean(0), 0.9 * variance + 0.1 * batch.var(0)
    np.testing.assert_allclose(norm_layer.moving_mean, mean, rtol=1e-4)
    np.testing.assert_allclose(norm_layer.moving_variance, variance, rtol=1e-4)


def test_a_frozen_generator_keeps_every_weight_through_a_whole_step(digits, snapshot):
    model = gan_mlp(SHAPE, 3, (4,), (4,))
    model.compile({"discriminator": "adam", "generator": keras.optimizers.SGD(0.0)})
    before = snapshot(model)
    model.fit(digits[:10], batch_size=10, verbose=0)
    after = snapshot(model)
    weights = [v.path for v in model.generator.variables]
    for name, old, new in zip(weights, before["generator"], after["generator"], strict=True):
        assert np.array_equal(old, new) == ("moving" not in name)
    assert any(not np.array_equal(*pair) for pair in zip(before["discriminator"], after["discriminator"], strict=True))  # fmt: skip


def test_evaluation_changes_nothing(digits, snapshot):
    model = dcgan((8, 8, 1), 3, width=2)
    model.compile("adam")
    before = snapshot(model)
    model.evaluate(digits[:10], verbose=0)
    model.sample(4)
    after = snapshot(model)
    for player in before:
        for old, new in zip(before[player], after[player], strict=True):
            np.testing.assert_array_equal(old, new)


def test_dropout_of_the_discriminator_is_another_at_each_step(digits):
    model = gan_mlp(SHAPE, 3, (4,), (16,), dropout=0.5)
    model.compile(keras.optimizers.SGD(0.0))
    logits = [model.fit(digits[:8], batch_size=8, shuffle=False, verbose=0).history["real_logit"] for _ in range(4)]  # fmt: skip
    assert len(np.unique(logits)) == 4


class Passing(zoo.distributions.Prior):
    """N(shift, 1), in one dimension: with a generator that passes it on, the fake data."""

    def __init__(self, shift, **kwargs):
        super().__init__(**kwargs)
        self.shift = shift

    def call(self, y=None):
        tfd = tfp.distributions
        return tfd.Independent(tfd.Normal(tf.fill([1], self.shift), 1.0), 1)


def jsd(shift):
    grid = np.linspace(-8, 8 + shift, 4001)
    p, q = norm.pdf(grid), norm.pdf(grid, shift)
    m = (p + q) / 2
    return np.trapezoid(0.5 * p * np.log(p / m) + 0.5 * q * np.log(q / m), grid)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_the_optimal_discriminator_of_two_normals_pays_log_4_less_twice_the_jsd(shift):
    passing = keras.Sequential([keras.Input((1,)), keras.layers.Reshape((1, 1, 1))])
    discriminator = zoo.networks.mlp_encoder((1, 1, 1), 1, ())
    # log p / q of N(0, 1) and N(shift, 1) is linear.
    discriminator.set_weights([np.array([[-shift]]), np.array([shift**2 / 2])])
    model = zoo.GAN(passing, discriminator, Passing(shift))
    n = 40_000
    x = tf.random.stateless_normal([n, 1, 1, 1], [1, 1])
    losses, _ = model.discriminator_objective(x, None, tf.constant(SEED), training=False)
    loss = losses["discriminator"].numpy()
    expected = math.log(4) - 2 * jsd(shift)
    assert abs(loss.mean() - expected) < 4 * loss.std() / np.sqrt(n) + 1e-6


def test_a_discriminator_of_equal_distributions_learns_to_guess():
    passing = keras.Sequential([keras.Input((1,)), keras.layers.Reshape((1, 1, 1))])
    model = zoo.GAN(passing, zoo.networks.mlp_encoder((1, 1, 1), 1, (8,)), Passing(0.0))
    model.discriminator.set_weights([w + 1.0 for w in model.discriminator.get_weights()])
    x = tf.random.stateless_normal([512, 1, 1, 1], [1, 1])
    model.compile({"discriminator": keras.optimizers.Adam(0.02), "generator": "sgd"})
    data = tf.data.Dataset.from_tensors(x).repeat()
    history = model.fit(data, steps_per_epoch=50, epochs=6, verbose=0).history
    losses = history["discriminator_loss"]
    assert losses[0] > 1.1 * losses[-1]
    assert losses[-1] == pytest.approx(2 * math.log(2), abs=0.02)


def test_more_than_one_draw_of_fakes_differ_between_examples_and_seeds():
    model = gan_mlp(SHAPE, 3, (4,), (4,))
    x = tf.zeros([5, *SHAPE])
    fakes = [model._fake(x, None, tf.constant(seed), False).numpy() for seed in ((1, 2), (1, 3))]
    assert fakes[0].shape == (5, *SHAPE)
    assert np.abs(fakes[0] - fakes[1]).max() > 1e-4
    assert np.abs(fakes[0][0] - fakes[0][1]).max() > 1e-4


def test_predict_makes_images_of_latents():
    model = gan_mlp(SHAPE, 3, (4,), (4,))
    z = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    made = model.predict(z, batch_size=3, verbose=0)
    np.testing.assert_allclose(made, model.decode(z), atol=1e-6)
    assert made.shape == (7, *SHAPE) and made.min() >= 0 and made.max() <= 1


def test_fewer_than_one_step_of_the_discriminator_is_refused():
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0"):
        gan_mlp(SHAPE, 3, discriminator_steps=0)
