"""Draws match their distribution and are functions of the seed, with and without XLA."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(draws.normal, scipy.stats.norm()), (draws.uniform, scipy.stats.uniform())],
    ids=["normal", "uniform"],
)
@pytest.mark.parametrize("compiled", [False, True], ids=["", "XLA"])
def test_draws_match_their_distribution_and_depend_on_the_seed(draw, expected, compiled):
    draw = tf.function(lambda seed, draw=draw: draw([20_000], seed), jit_compile=compiled)
    values = draw(tf.constant([3, 4])).numpy()
    assert scipy.stats.kstest(values, expected.cdf).pvalue > 1e-3
    np.testing.assert_array_equal(draw(tf.constant([3, 4])), values)
    other = draw(tf.constant([3, 5])).numpy()
    assert abs(np.corrcoef(values, other)[0, 1]) < 0.03


def test_the_normal_equals_the_tfp_normal_except_for_draws():
    loc, scale = tf.constant([[1.0, -2.0, 0.0]]), tf.constant([[0.5], [2.0]])
    ours, theirs = draws.Normal(loc, scale), tfp.distributions.Normal(loc, scale)
    x = tf.constant([[0.3, -1.0, 2.0]])
    np.testing.assert_array_equal(ours.log_prob(x), theirs.log_prob(x))
    np.testing.assert_allclose(
        tfp.distributions.kl_divergence(ours, draws.Normal(0.0, 1.0)),
        tfp.distributions.kl_divergence(theirs, tfp.distributions.Normal(0.0, 1.0)),
    )
    samples = ours.sample(5000, seed=[5, 6]).numpy()
    assert samples.shape == (5000, 2, 3)
    z = (samples - loc.numpy()) / scale.numpy()
    assert scipy.stats.kstest(z.ravel(), "norm").pvalue > 1e-3


def test_draws_of_the_normal_are_differentiable_in_its_parameters():
    loc, scale = tf.Variable(0.7), tf.Variable(1.3)
    with tf.GradientTape() as tape:
        z = draws.Normal(loc, scale).sample(seed=[7, 8])
    noise = (z - 0.7) / 1.3
    np.testing.assert_allclose(tape.gradient(z, [loc, scale]), [1.0, noise], rtol=1e-5)
