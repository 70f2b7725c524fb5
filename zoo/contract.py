"""The contract of the data: ranges, recorded in the steps, and counts.

The type and the shape of a batch are known when a step is traced. Its values are known only on the
device. A step therefore records the first batch with values out of range, without a wait, and
Python reads the record later.
"""

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Values(NamedTuple):
    """Numbers of a batch, and the limits within which they must be.

    Attributes:
        span: The smallest and the largest number, float32 `[2]`: see `span_of`.
        low: The smallest valid number.
        high: The largest valid number.
    """

    span: tf.Tensor
    low: float
    high: float

    @property
    def valid(self) -> tf.Tensor:
        """Whether all numbers are within the limits, a scalar bool. NaN never is."""
        return (self.span[0] >= self.low) & (self.span[1] <= self.high)


def span_of(values: Any) -> tf.Tensor:
    """The smallest and the largest of `values`, float32 `[2]`; NaN if any value is NaN."""
    values = tf.cast(values, tf.float32)
    span = tf.stack([tf.reduce_min(values), tf.reduce_max(values)])
    # Whether a minimum of numbers and NaN is NaN depends on the device.
    return tf.where(tf.reduce_any(tf.math.is_nan(values)), math.nan, span)


class MissingInput(ValueError):
    """A method needs an input that was not passed, such as a mask."""


class Limits(NamedTuple):
    """The valid values of an annotation.

    Attributes:
        shape: The shape of one value, without the batch axis.
        low, high: The smallest and the largest value. If `low` is an int, all values are ints.
    """

    shape: tuple[int, ...]
    low: float
    high: float


class FirstInvalid:
    """Records the first batch of a pass over data with values out of range.

    The record belongs to no model: its variables are in no checkpoint and in no file.

    Args:
        names: Names of the values of a batch, such as "images".
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        equal = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        count = len(self.names)
        self._batches = tf.Variable(np.int64(0), name="batches", **equal)
        self._first = tf.Variable(np.full(count, -1), name="first", dtype="int64", **equal)
        self._spans = tf.Variable(tf.zeros([count, 2]), name="spans", **equal)

    def reset(self) -> None:
        """Starts a new pass over data."""
        self._batches.assign(0)
        self._first.assign(np.full(len(self.names), -1))

    def update(self, batch: Mapping[str, Values]) -> None:
        """Records the next batch. All replicas record the same numbers."""
        everything = Values(tf.zeros(2), -math.inf, math.inf)
        values = [batch.get(name, everything) for name in self.names]
        spans = tf.stack([v.span for v in values])
        replicas = tf.distribute.get_replica_context()
        if (count := replicas.num_replicas_in_sync) > 1:
            # Replicas can only add: each adds its spans in a place of its own.
            own = tf.range(count) == replicas.replica_id_in_sync_group
            places = tf.where(own[:, None, None], spans, 0.0)
            every = replicas.all_reduce(tf.distribute.ReduceOp.SUM, places)
            ends = [tf.reduce_min(every[..., 0], 0), tf.reduce_max(every[..., 1], 0)]
            spans = tf.where(
                tf.reduce_any(tf.math.is_nan(every), [0, 2])[:, None],
                math.nan,
                tf.stack(ends, -1),
            )
        limits = zip(tf.unstack(spans), values, strict=True)
        valid = tf.stack([Values(span, v.low, v.high).valid for span, v in limits])
        first = tf.convert_to_tensor(self._first)
        new = ~valid & (first < 0)
        self._first.assign(tf.where(new, tf.convert_to_tensor(self._batches), first))
        self._spans.assign(tf.where(new[:, None], spans, tf.convert_to_tensor(self._spans)))
        self._batches.assign_add(1)

    def result(self) -> tuple[str, int, np.ndarray] | None:
        """The name of the first values out of range, their batch from 0, and their span `[2]`."""
        first = self._first.numpy()
        if (first < 0).all():
            return None
        i = int(np.argmin(np.where(first < 0, np.iinfo(np.int64).max, first)))
        return self.names[i], int(first[i]), self._spans.numpy()[i]


def check_numbers(y: Any, rows: bool = False) -> None:
    """Checks that `y` is an array or a tensor of numbers, or a structure of such.

    Keras's errors for other values do not name `y`. Specifications of `tf.data` are not checked.

    Args:
        y: The second argument of `fit` and of other methods.
        rows: Whether `y` needs an axis for the batch.

    Raises:
        ValueError: If a part of `y` is not an array or a tensor, lacks this axis, or is an array of
            text, objects or dates.
    """
    for part in tf.nest.flatten(y):
        if part is None or isinstance(part, tf.TypeSpec):
            continue
        dtype = getattr(part, "dtype", None)
        if dtype is None or not hasattr(part, "shape"):
            received = f"'{type(part).__name__}' in place of an array"
        # TensorFlow's types have no `kind`.
        elif getattr(dtype, "kind", "f") in "OSUTMm" or getattr(dtype, "type", None) is np.void:
            received = f"an array of type {dtype}"
        elif rows and tf.TensorShape(part.shape).rank == 0:
            received = "a scalar"
        else:
            continue
        raise ValueError(
            "Expected `y` as an array of numbers with one row for each image. "
            f"Received: {received}. Convert `y` with np.asarray, and names of labels to ints."
        )


def as_count(value: Any, name: str, least: int = 1) -> Any:
    """`value` as an int; a symbolic tensor, whose value is not known yet, unchanged.

    Args:
        value: The argument of the caller.
        name: The name of the argument, for errors.
        least: The smallest valid number.

    Raises:
        ValueError: If `value` is not an int of at least `least`. NumPy's ints and scalar tensors of
            ints are ints; bools and floats are not.

    Example:
        >>> zoo.contract.as_count(np.int64(3), "n")
        3
    """
    if tf.is_tensor(value):
        if tf.is_symbolic_tensor(value):
            return value
        value = value.numpy()
    whole = isinstance(value, numbers.Integral | np.ndarray) and not isinstance(value, bool)
    try:
        count = operator.index(value) if whole else None
    except TypeError:  # An array of several numbers, or of bools or floats.
        count = None
    if count is None:
        raise ValueError(f"`{name}` must be an int of at least {least}. Received: {value!r}.")
    if count < least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {value}.")
    return count


def check_counts(least: int = 1, **counts: Any) -> None:
    """Checks that each of the arguments is an int of at least `least`: see `as_count`."""
    for name, value in counts.items():
        as_count(value, name, least)


def check_non_negative(**values: float) -> None:
    """Checks that each of the arguments, such as the weight of a term, is at least 0 and finite.

    Raises:
        ValueError: If one of them is negative, infinite or NaN.
    """
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"`{name}` must be at least 0 and finite. Received: {value}.")
