"""Random numbers from Philox, which XLA on a CPU draws several times faster than its default.

TensorFlow lets XLA choose the algorithm, and XLA on a CPU chooses a slow one: its draws are a good
part of a training step of a small network. Without XLA, the algorithm is Philox in any case. XLA
orders the numbers of Philox differently, so a compiled step draws other numbers than an eager step.
"""

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

_ALGORITHM = "philox"


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
