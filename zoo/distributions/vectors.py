"""A base class of distributions over vectors that TensorFlow Probability does not have."""

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


class VectorDistribution(tfd.Distribution):
    """A float32 distribution over vectors `[size]`, with an empty batch shape.

    A subclass sets its attributes, calls this constructor with the arguments of its own, and defines
    `_parameter_properties`, `_sample_n`, and `_log_prob` if it has a density.

    Args:
        parameters: The arguments of the subclass by name, `dict(locals())` in its constructor, with
            `name`.
        size: Length of the vectors.
        reparameterized: Whether draws are differentiable functions of the parameters.
    """

    def __init__(self, parameters: dict[str, Any], size: int, reparameterized: bool):
        self._size = size
        kind = tfd.FULLY_REPARAMETERIZED if reparameterized else tfd.NOT_REPARAMETERIZED
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=kind,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=parameters["name"],
        )

    def _batch_shape(self):
        return tf.TensorShape([])

    def _batch_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _event_shape(self):
        return tf.TensorShape([self._size])

    def _event_shape_tensor(self):
        return tf.constant([self._size], tf.int32)
