"""InfoNCE against closed forms; the momentum copy and the queue of keys."""

import math

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import zoo
from zoo.contrast import MomentumKeys, info_nce
from zoo.networks import unit

RNG = np.random.default_rng(0)


def vectors(*shape):
    return unit(tf.constant(RNG.normal(size=shape), tf.float32))


def networks():
    """A trunk of two levels with spectral normalization, and heads: `[B, 4]` to `[B, 2, 3]`."""
    x = keras.Input((4,))
    linear = zoo.networks.SpectralNormalization(keras.layers.Dense(5, use_bias=False))
    first = linear(x)
    trunk = keras.Model(x, (first, keras.layers.Dense(3)(first)))
    inputs = [keras.Input((5,)), keras.Input((3,))]
    levels = [keras.layers.Dense(3)(inputs[0]), inputs[1]]
    joined = keras.layers.Concatenate(axis=1)(
        [keras.layers.Reshape((1, 3))(level) for level in levels]
    )
    return [trunk, keras.Model(inputs, joined)]


def weights(models):
    return [v.numpy() for model in models for v in model.weights]


def change(models):
    for model in models:
        model.set_weights([w + RNG.normal(size=w.shape) for w in model.get_weights()])


def test_equal_vectors_have_the_loss_of_chance():
    same = tf.tile(vectors(1, 1, 6), [5, 2, 1])
    loss, nearest = info_nce(same, same, tf.tile(same[:1], [9, 1, 1]), 0.07)
    np.testing.assert_allclose(loss, np.full((5, 2), math.log(1 + 9)), rtol=1e-5)
    assert not nearest.numpy().any()  # The own key is as near as all others.


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_orthogonal_negatives_have_the_loss_in_closed_form(temperature):
    axes = tf.eye(8)[:, None]
    loss, nearest = info_nce(axes[:1], axes[:1], axes[1:], temperature)
    expected = math.log(1 + 7 * math.exp(-1 / temperature))
    np.testing.assert_allclose(loss, [[expected]], rtol=1e-5)
    assert nearest.numpy().all()


def test_the_loss_is_minus_the_log_softmax_of_the_own_key_in_each_level():
    queries, keys, negatives = vectors(5, 2, 6), vectors(5, 2, 6), vectors(7, 2, 6)
    loss, nearest = (t.numpy() for t in info_nce(queries, keys, negatives, 0.5))
    for b in range(5):
        for level in range(2):
            against = np.stack([keys[b, level], *negatives[:, level]])
            products = against @ queries[b, level].numpy()
            expected = -scipy.special.log_softmax(products / 0.5)[0]
            assert loss[b, level] == pytest.approx(expected, rel=1e-5)
            assert nearest[b, level] == (products[0] > products[1:].max())
    assert 0 < nearest.mean() < 1


def test_keys_are_unit_vectors_of_the_networks_without_a_gradient():
    both = networks()
    part, x = MomentumKeys(both, 4, 0.5), tf.constant(RNG.normal(size=[6, 4]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        part.follow(both)
        keys = part(x)
    online = both[1](both[0](x))
    np.testing.assert_allclose(keys, online / np.linalg.norm(online, axis=-1, keepdims=True), 1e-5)
    every = [v.value for network in both for v in network.weights]
    assert tape.gradient(keys, [x, *every]) == [None] * (len(every) + 1)


@pytest.mark.parametrize("momentum", [0.0, 0.75, 1.0])
def test_the_copy_keeps_a_share_of_its_weights_and_of_its_spectral_vectors(momentum):
    both = networks()
    part = MomentumKeys(both, 4, momentum)
    start = weights(both)
    assert len(start) == 7  # Three kernels, three biases, a vector
    change(both)
    expected = start
    for _ in range(2):
        for own, value in zip(weights(part.copies), expected, strict=True):
            np.testing.assert_allclose(own, value, rtol=1e-5, atol=1e-7)
        part.follow(both)
        pairs = zip(start, weights(both), strict=True)
        expected = [momentum * a + (1 - momentum) * b for a, b in pairs]


def test_the_copy_trains_no_weights_and_does_not_own_the_networks():
    both = networks()
    part = MomentumKeys(both, 4, 0.5)
    assert not part.trainable_variables
    assert len(part.non_trainable_weights) == 1 + len(weights(both))
    theirs = {id(v) for network in both for v in network.variables}
    assert theirs.isdisjoint(map(id, part.variables))
    assert len(both[0].trainable_variables) == 4


@pytest.mark.parametrize("sizes", [(4, 4, 4, 4), (3, 5, 4), (10,)], ids=str)
def test_the_queue_holds_the_latest_keys_in_order(sizes):
    part = MomentumKeys(networks(), 8, 0.5)
    start = part.queue.numpy()
    np.testing.assert_allclose(np.linalg.norm(start, axis=-1), 1, rtol=1e-5)
    assert len(np.unique(start)) == start.size
    pushed = [start]
    for size in sizes:
        pushed.append(vectors(size, 2, 3).numpy())
        part.push(tf.constant(pushed[-1]))
        np.testing.assert_array_equal(part.queue, np.concatenate(pushed)[-8:])


def test_numbers_out_of_range_are_refused():
    for momentum in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\]"):
            MomentumKeys(networks(), 4, momentum)
    with pytest.raises(ValueError, match="`size` must be at least 1"):
        MomentumKeys(networks(), 0, 0.5)
