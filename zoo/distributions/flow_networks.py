"""Networks of normalizing flows."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.contract import check_counts
from zoo.distributions.part import Part


class DenseLayers(Part):
    """Dense layers over the last axis of tensors of any rank; the last layer starts at zero.

    Unlike `zoo.networks.mlp`, the layers accept leading sample axes and stay in float32.

    Args:
        inputs: Size of the last axis.
        outputs: Size of the last axis of the result.
        hidden: Units of the hidden layers, at least one layer.
        context: Size of the last axis of a second input, which enters the first layer; 0 for none.
        masks: Multiplies the kernel of each layer, or `None`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        context: int = 0,
        masks: Sequence[np.ndarray] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.inputs = inputs
        self.outputs = outputs
        self.hidden = tuple(hidden)
        self.context = context
        self.masks = masks
        sizes = [inputs, *self.hidden, outputs]
        last = len(self.hidden)
        self.kernels = [
            self.add_weight(
                name=f"kernel_{i}",
                shape=(sizes[i], sizes[i + 1]),
                initializer="zeros" if i == last else "glorot_uniform",
            )
            for i in range(last + 1)
        ]
        self.biases = [
            self.add_weight(name=f"bias_{i}", shape=(sizes[i + 1],), initializer="zeros")
            for i in range(last + 1)
        ]
        if context:
            self.context_kernel = self.add_weight(
                name="context_kernel", shape=(context, sizes[1]), initializer="glorot_uniform"
            )

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        h = x
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            kernel = tf.convert_to_tensor(kernel)
            if self.masks is not None:
                kernel *= self.masks[i]
            h = _dense(h, kernel) + tf.convert_to_tensor(bias)
            if i == 0 and self.context:
                h += _dense(context, tf.convert_to_tensor(self.context_kernel))
            if i < len(self.hidden):
                h = tf.nn.elu(h)
        return h


def _dense(h, kernel):
    return tf.einsum("...i,ij->...j", h, kernel)


@keras.saving.register_keras_serializable("zoo")
class MADE(Part):
    """A masked network: the outputs for value i depend only on the values before i.

    Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", 2015, section 4.
    https://arxiv.org/abs/1502.03509

    Called on `x[..., D]` (and `context[..., C]`), it returns a tuple of `params` tensors
    `[..., D]`, which are zero in a new network.

    Args:
        dim: D.
        params: Number of parameters of each value.
        hidden: Units of the hidden layers, at least one layer.
        context: C, the size of a context on which every output may depend; 0 for none.
        reverse: Whether the values are ordered from the last to the first.

    Raises:
        ValueError: If there is no hidden layer, or one without units.

    Notes:
        The paper draws the degrees of hidden units at random. Here the degrees cycle from 1 to
        D - 1. With a context they start from 0: units of degree 0 depend only on the context, so
        that the context also reaches the outputs for the first value.

    Example:
        >>> shift, log_scale = zoo.distributions.MADE(3, hidden=(16,))(tf.ones([5, 3]))
        >>> shift.shape
        TensorShape([5, 3])
    """

    def __init__(
        self,
        dim: int,
        params: int = 2,
        hidden: Sequence[int] = (64,),
        context: int = 0,
        reverse: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_hidden(hidden)
        self.dim = dim
        self.params = params
        self.hidden = tuple(hidden)
        self.context = context
        self.reverse = reverse
        order = np.arange(1, dim + 1)[:: -1 if reverse else 1]
        lowest = 0 if context else 1
        degrees = [
            order,
            *(lowest + np.arange(units) % max(dim - lowest, 1) for units in self.hidden),
        ]
        masks = [b >= a[:, None] for a, b in itertools.pairwise(degrees)]
        masks.append(np.tile(order, params) > degrees[-1][:, None])
        masks = [mask.astype(np.float32) for mask in masks]
        self.network = DenseLayers(dim, params * dim, self.hidden, context, masks)

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tuple[tf.Tensor, ...]:
        return tuple(tf.split(self.network(x, context), self.params, -1))


def check_hidden(hidden: Sequence[int]) -> None:
    """Raises a `ValueError` unless there are hidden layers and each has units."""
    for units in hidden:
        check_counts(0, hidden=units)
    if not len(hidden) or min(hidden) < 1:
        raise ValueError(
            "The networks of a flow need at least one hidden layer of at least one unit. Received: "
            f"hidden={tuple(hidden)}."
        )


def check_steps(steps: int) -> None:
    """Raises a `ValueError` unless there is at least one step."""
    check_counts(0, steps=steps)
    if steps < 1:
        raise ValueError(f"A flow needs at least one step. Received: steps={steps}.")
