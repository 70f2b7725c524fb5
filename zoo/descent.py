"""Points of low energy, by Adam."""

import math
from collections.abc import Callable

import tensorflow as tf

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7  # Adam's, as in Keras.


def adam(
    energy: Callable[[tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    steps: int | tf.Tensor,
    learning_rate: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The point of lowest energy on the path of Adam from each row of `start`.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1. Keras's optimizer
    needs variables of a known shape, so it does not fit batches of any size. Call the function in a
    `tf.function`; otherwise the loop runs one operation after the other.

    Args:
        energy: A function from points `[B, D]` to energies `[B]`.
        start: The first points, `[B, D]`.
        steps: Number of steps.
        learning_rate: Adam's learning rate.

    Returns:
        Points `[B, D]` and their energies `[B]`. A point whose energy is NaN is never the lowest.

    Example:
        >>> z, energy = zoo.descent.adam(
        ...     lambda z: tf.reduce_sum((z - 1.0) ** 2, -1), tf.zeros([1, 2]), 200, 0.05
        ... )
        >>> bool(energy[0] < 1e-3)
        True
    """

    def step(t, z, m, v, best, lowest):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = energy(z)
        gradient = tape.gradient(value, z, unconnected_gradients="zero")
        better = value < lowest  # False for NaN.
        best, lowest = tf.where(better[:, None], z, best), tf.where(better, value, lowest)
        t += 1.0
        m = _BETA_1 * m + (1 - _BETA_1) * gradient
        v = _BETA_2 * v + (1 - _BETA_2) * gradient**2
        change = (m / (1 - _BETA_1**t)) / (tf.sqrt(v / (1 - _BETA_2**t)) + _EPSILON)
        return t, z - learning_rate * change, m, v, best, lowest

    zeros, last = tf.zeros_like(start), tf.cast(steps, tf.float32)
    lowest = tf.fill(tf.shape(start)[:1], math.inf)
    state = (tf.constant(0.0), start, zeros, zeros, start, lowest)
    # The last pass evaluates the last point. A pass of its own outside of the loop would trace the
    # energy twice, and TFP's cache of bijectors does not work across the border of a loop.
    *_, best, lowest = tf.while_loop(lambda t, *_: t <= last, step, state)
    return best, lowest
