"""Random numbers by an algorithm of our choice, which XLA on a CPU draws several times as fast.

Where TensorFlow chooses, XLA on a CPU takes a slow one; without XLA it is Philox in any case. A step
draws thousands of numbers, of which the slow one makes a good part of a small network's time. XLA's order
of Philox's numbers is not TensorFlow's: a compiled step draws other numbers than one that is not.
"""

import tensorflow as tf
import tensorflow_probability as tfp

_ALGORITHM = "philox"


def normal(shape, seed) -> tf.Tensor:
    """Standard normal numbers, float32, a function of the seed `[2]`."""
    return tf.random.stateless_normal(shape, seed, alg=_ALGORITHM)


def uniform(shape, seed) -> tf.Tensor:
    """Uniform numbers in [0, 1), float32, a function of the seed `[2]`."""
    return tf.random.stateless_uniform(shape, seed, alg=_ALGORITHM)


class Normal(tfp.distributions.Normal):
    """TFP's normal distribution in float32, whose samples are of `normal`."""

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], self.batch_shape_tensor()], 0)
        return self.loc + self.scale * normal(shape, tfp.random.sanitize_seed(seed))
