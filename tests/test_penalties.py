"""Penalties against gradients in closed form, and against finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.penalties import R1, GradientPenalty, penalty, with_squared_gradient

RNG = np.random.default_rng(0)
SEED = (1, 2)
BOTH = pytest.mark.parametrize("part", [GradientPenalty(3.0, 0.5), R1(3.0)], ids=["gp", "r1"])


def batch(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def linear(w):
    return lambda x: tf.tensordot(tf.reshape(x, [len(x), -1]), w, 1)


@pytest.mark.parametrize("shape", [(5, 6), (5, 2, 3, 1)], ids=["latents", "images"])
def test_the_gradient_of_a_linear_critic_is_its_weights_at_every_point(shape):
    w = batch(6)
    real, fake = batch(*shape), batch(*shape)
    norm = np.linalg.norm(w)
    for target in (0.0, 1.0, 2.5):
        _, values = GradientPenalty(7.0, target)(linear(w), real, fake, SEED)
        np.testing.assert_allclose(values, np.full(5, 7 * (norm - target) ** 2), rtol=1e-5)
    _, values = R1(7.0)(linear(w), real, fake, SEED)
    np.testing.assert_allclose(values, np.full(5, 3.5 * norm**2), rtol=1e-5)


@BOTH
def test_logits_of_real_examples_are_computed_once_and_returned_with_the_penalty(part):
    w, real, fake, calls = batch(6), batch(5, 6), batch(5, 6), []

    def critic(x):
        calls.append(x.numpy())
        return linear(w)(x)

    logits, _ = part(critic, real, fake, SEED)
    np.testing.assert_allclose(logits, real @ w, rtol=1e-5)
    np.testing.assert_array_equal(calls[0], real)
    # R1 takes the gradient of this call; the points of the other penalty are different.
    assert len(calls) == (1 if type(part) is R1 else 2)
    assert not any((points == real).all() for points in calls[1:])


def test_r1_depends_only_on_real_examples():
    matrix, real = batch(3, 3), batch(4, 3)
    symmetric = matrix + matrix.T

    def quadratic(x):  # x^T A x, with the gradient (A + A^T) x
        return tf.reduce_sum(x * tf.matmul(x, tf.constant(matrix)), 1)

    expected = 1.0 * ((real @ symmetric) ** 2).sum(1)
    for fake in (batch(4, 3), np.full((4, 3), np.nan, np.float32)):
        np.testing.assert_allclose(R1(2.0)(quadratic, real, fake, SEED)[1], expected, rtol=1e-4)


def test_points_lie_between_pairs_of_examples_at_independent_shares():
    n = 4000
    real, fake, calls = np.full((n, 2, 3, 1), 2.0), np.full((n, 2, 3, 1), -1.0), []

    def critic(x):
        calls.append(x.numpy())
        return tf.reduce_sum(x, [1, 2, 3])

    part = GradientPenalty()
    part(critic, real.astype(np.float32), fake.astype(np.float32), SEED)
    points = calls[1::2]  # Every other call is on the real examples.
    share = (points[0] + 1) / 3
    np.testing.assert_allclose(share, share[:, :1, :1].repeat(2, 1).repeat(3, 2), atol=1e-6)
    share = np.sort(share[:, 0, 0, 0])
    # The Kolmogorov-Smirnov distance to U(0, 1) exceeds 1.95 / sqrt(n) with probability 0.001.
    assert np.abs(share - (np.arange(n) + 0.5) / n).max() < 1.95 / np.sqrt(n)
    assert len(np.unique(share)) > 0.99 * n
    for seed in (SEED, (1, 3)):
        part(critic, real.astype(np.float32), fake.astype(np.float32), seed)
    points = calls[1::2]
    np.testing.assert_array_equal(points[0], points[1])
    assert (points[0] != points[2]).mean() > 0.99


def quadratic_penalty_by_hand(matrix, points, target):
    return 10 * (np.linalg.norm(points @ (matrix + matrix.T), axis=1) - target) ** 2


def test_the_gradient_of_a_quadratic_critic_is_linear_in_the_point():
    matrix, real, fake = batch(3, 3), batch(50, 3), batch(50, 3)
    calls = []

    def quadratic(x):
        calls.append(x.numpy())
        return tf.reduce_sum(x * tf.matmul(x, tf.constant(matrix)), 1)

    _, values = GradientPenalty()(quadratic, real, fake, SEED)
    np.testing.assert_allclose(values, quadratic_penalty_by_hand(matrix, calls[1], 1), rtol=1e-3)


def test_the_penalty_gradient_of_a_linear_critic_matches_the_closed_form():
    w = tf.Variable(batch(6))
    real, fake = batch(5, 6), batch(5, 6)
    norm = np.linalg.norm(w.numpy())
    for part, expected in (
        (GradientPenalty(7.0, 0.5), 14 * (norm - 0.5) * w.numpy() / norm),
        (R1(7.0), 7 * w.numpy()),
    ):
        with tf.GradientTape() as tape:
            values = tf.reduce_mean(part(linear(w), real, fake, SEED)[1])
        np.testing.assert_allclose(tape.gradient(values, w), expected, rtol=1e-4)


@BOTH
def test_the_penalty_gradient_of_a_network_matches_finite_differences(part):
    # A smooth network: the second derivative of a leaky ReLU is zero or does not exist.
    network = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6, "tanh"), keras.layers.Dense(1)]
    )
    real, fake = 2 * batch(8, 4), 2 * batch(8, 4)

    def values():
        return tf.reduce_mean(part(lambda x: network(x)[:, 0], real, fake, SEED)[1])

    kernel = network.trainable_variables[0]
    with tf.GradientTape() as tape:
        value = values()
    gradient = tape.gradient(value, kernel.value).numpy()
    start, h = kernel.numpy(), 3e-3
    for _ in range(4):
        direction = batch(*start.shape)
        direction /= np.linalg.norm(direction)
        ends = []
        for sign in (1, -1):
            kernel.assign(start + sign * h * direction)
            ends.append(float(values()))
        kernel.assign(start)
        difference = (ends[0] - ends[1]) / (2 * h)
        assert (gradient * direction).sum() == pytest.approx(difference, rel=0.02, abs=2e-3)
    assert np.abs(gradient).max() > 0.01


def test_a_constant_critic_has_a_finite_penalty_and_a_finite_gradient():
    w = tf.Variable(tf.zeros(6))
    with tf.GradientTape() as tape:
        _, values = GradientPenalty(10.0, 1.0)(linear(w), batch(5, 6), batch(5, 6), SEED)
        total = tf.reduce_sum(values)
    np.testing.assert_allclose(values, 10.0)
    assert np.isfinite(tape.gradient(total, w)).all()
    _, squares = with_squared_gradient(lambda x: tf.zeros(len(x)), tf.ones([3, 2]))
    assert (squares.numpy() == 0).all()


@BOTH
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_penalties_are_equal_with_and_without_xla(part, kind):
    shape = (8, 8, 1)
    network = {
        "dense": lambda: zoo.networks.mlp_discriminator(shape, (5,)),
        "conv": lambda: zoo.networks.dcgan_discriminator(shape, 2, batch_norm=False),
    }[kind]()
    network.set_weights([w + 0.3 * batch(*w.shape) for w in network.get_weights()])
    x = tf.constant(RNG.uniform(size=(4, *shape)).astype(np.float32))

    def step():
        with tf.GradientTape() as tape:
            # Equal batches give equal points. XLA draws other random numbers.
            _, values = part(lambda x: network(x)[:, 0], x, x, SEED)
            total = tf.reduce_sum(values)
        return values, tape.gradient(total, [v.value for v in network.trainable_variables])[0]

    for have, want in zip(tf.function(step, jit_compile=True)(), step(), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-4)


def test_a_discriminator_with_batch_normalization_is_refused():
    network = zoo.networks.dcgan_discriminator((16, 16, 1), 2)
    for part in (GradientPenalty(), R1()):
        with pytest.raises(ValueError, match=r"batch_norm=False\. Received: .*batch_normalization"):
            part.check(network)
        part.check(zoo.networks.dcgan_discriminator((16, 16, 1), 2, batch_norm=False))


def test_penalties_are_found_by_their_weights_and_rebuilt_from_their_config():
    assert penalty() is None
    assert type(penalty(gradient_penalty=3.0)) is GradientPenalty
    assert type(penalty(r1=3.0)) is R1 and penalty(r1=3.0).weight == 3.0
    with pytest.raises(ValueError, match=r"one penalty.*Received: gradient_penalty=1\.0, r1=2\.0"):
        penalty(1.0, 2.0)
    part = GradientPenalty(3.0, 0.5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(part))
    assert type(copy) is GradientPenalty and (copy.weight, copy.target) == (3.0, 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: R1(0.0), "weight"),
        (lambda: GradientPenalty(-1.0), "weight"),
        (lambda: GradientPenalty(float("inf")), "weight"),
        (lambda: GradientPenalty(1.0, -1.0), "target"),
        (lambda: penalty(r1=-1.0), "weight"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=rf"{message}.*Received: "):
        make()
