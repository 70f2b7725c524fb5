"""Conditionals: sample axes, conditions, and restoring from a config."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo

RNG = np.random.default_rng(0)


def network_with_condition(dim=4, outputs=6, condition=3):
    z, y = keras.Input((dim,)), keras.Input((condition,))
    h = keras.layers.Dense(5, "tanh")(keras.layers.Concatenate()([z, y]))
    return keras.Model([z, y], keras.layers.Dense(outputs)(h))


@pytest.mark.parametrize("lead", [(5,), (2, 3)])
@pytest.mark.parametrize("conditional", [False, True])
def test_leading_sample_axes_match_a_loop_over_samples(lead, conditional):
    network = network_with_condition() if conditional else zoo.networks.mlp(4, 6, (5,))
    p = zoo.Conditional(network, zoo.DiagonalNormal())
    z = RNG.normal(size=(*lead, 2, 4)).astype(np.float32)
    y = tf.constant(RNG.normal(size=(2, 3)), tf.float32) if conditional else None
    folded = p(tf.constant(z), y)
    assert folded.batch_shape == [*lead, 2] and folded.event_shape == [3]
    for index in np.ndindex(*lead):
        one = p(tf.constant(z[index]), y)
        np.testing.assert_allclose(folded.mean()[index], one.mean(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(folded.stddev()[index], one.stddev(), rtol=1e-5)


def test_leading_sample_axes_work_in_a_graph_of_unknown_batch_size():
    p = zoo.Conditional(zoo.networks.mlp_decoder(2, (4, 4, 1), 2, (5,)), zoo.DiagonalNormal())
    z = tf.constant(RNG.normal(size=(3, 5, 2)), tf.float32)
    mean = tf.function(
        lambda z: p(z).mean(), input_signature=[tf.TensorSpec([3, None, 2], tf.float32)]
    )
    for k in range(3):
        np.testing.assert_allclose(mean(z)[k], p(z[k]).mean(), rtol=1e-5, atol=1e-6)


def test_numpy_conditions_are_repeated_for_sample_axes():
    p = zoo.Conditional(network_with_condition(), zoo.DiagonalNormal())
    z, y = np.ones((3, 2, 4), np.float32), np.ones((2, 3), np.float32)
    np.testing.assert_allclose(
        p(tf.constant(z), y).mean(), p(tf.constant(z), tf.constant(y)).mean()
    )


def test_only_a_network_with_two_inputs_requires_and_uses_a_condition():
    z, y = tf.ones([2, 4]), tf.eye(2, 3)
    p = zoo.Conditional(network_with_condition(), zoo.DiagonalNormal())
    mean = p(z, y).mean().numpy()
    assert np.abs(mean[0] - mean[1]).max() > 1e-3
    np.testing.assert_allclose(p(z, y[::-1]).mean(), mean[::-1], rtol=1e-6)
    with pytest.raises(ValueError, match="takes a condition"):
        p(z)
    plain = zoo.Conditional(zoo.networks.mlp(4, 6, (5,)), zoo.DiagonalNormal())
    np.testing.assert_array_equal(plain(z, y).mean(), plain(z).mean())


def test_a_conditional_is_restored_from_its_config_with_its_network():
    p = zoo.Conditional(network_with_condition(), zoo.DiagonalNormal(0.02, 3.0))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(p)))
    copy = keras.saving.deserialize_keras_object(config)
    copy.network.set_weights(p.network.get_weights())
    z, y = tf.ones([2, 4]), tf.eye(2, 3)
    np.testing.assert_allclose(copy(z, y).stddev(), p(z, y).stddev())
    assert copy.family.max_scale == 3.0
