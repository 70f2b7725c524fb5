"""Random numbers from Philox, which is several times faster on a CPU than XLA's default algorithm.

By default TensorFlow lets XLA choose the algorithm, and on a CPU the draws then take much of the
training step of a small network. Without XLA, TensorFlow always uses Philox. XLA orders the numbers
of Philox differently, so a compiled step and an eager step draw different numbers.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

_ALGORITHM = "philox"


def row_count(x: tf.Tensor) -> Any:
    """The number of rows of a tensor: an int if it is static, else a tensor."""
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def normal(shape: Sequence[int] | tf.Tensor, seed: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """Standard normal numbers, float32; a function of the seed `[2]`."""
    return tf.random.stateless_normal(shape, seed, alg=_ALGORITHM)


def uniform(shape: Sequence[int] | tf.Tensor, seed: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """Uniform numbers in [0, 1), float32; a function of the seed `[2]`."""
    return tf.random.stateless_uniform(shape, seed, alg=_ALGORITHM)


class Normal(tfp.distributions.Normal):
    """TFP's normal distribution in float32, with samples from `normal`."""

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], self.batch_shape_tensor()], 0)
        return self.loc + self.scale * normal(shape, tfp.random.sanitize_seed(seed))
