"""Schedules: values that depend on the training step, such as the weight of the rate.

A schedule is evaluated inside the graph, at the model's step count, so that a resumed run continues
the schedule of the interrupted run.
"""

import math
from typing import Any

import keras
import tensorflow as tf

from zoo.config import PlainObject
from zoo.contract import check_counts, check_non_negative


class Schedule(PlainObject):
    """Base of all schedules. Instances are plain objects that a config can rebuild."""

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """The value at `step`, the number of completed steps: a float32 scalar."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("zoo")
class LinearWarmUp(Schedule):
    """Rises linearly from 0 to `end` in `steps` steps: end min(1, step / steps).

    As a weight of the rate: Sonderby et al., "Ladder Variational Autoencoders", 2016, section 2.3,
    https://arxiv.org/abs/1602.02282. Bowman et al., "Generating Sentences from a Continuous Space",
    2016, section 3.1, use a sigmoid instead. https://arxiv.org/abs/1511.06349

    Args:
        steps: Training steps (batches) until the value is `end`, at least 1.
        end: The final value, at least 0 and finite.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> [float(zoo.schedules.LinearWarmUp(4)(step)) for step in (0, 1, 4, 9)]
        [0.0, 0.25, 1.0, 1.0]
    """

    def __init__(self, steps: int, end: float = 1.0):
        check_counts(steps=steps)
        check_non_negative(end=end)
        self.steps = steps
        self.end = end

    def __call__(self, step):
        return self.end * tf.minimum(1.0, tf.cast(step, tf.float32) / self.steps)


@keras.saving.register_keras_serializable("zoo")
class LinearDecay(Schedule):
    """Falls linearly from `start` to 0 in `steps` steps: start max(0, 1 - step / steps).

    Args:
        steps: Training steps (batches) until the value is 0, at least 1.
        start: The initial value, at least 0 and finite.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> [float(zoo.schedules.LinearDecay(4, 0.5)(step)) for step in (0, 1, 4, 9)]
        [0.5, 0.375, 0.0, 0.0]
    """

    def __init__(self, steps: int, start: float = 1.0):
        check_counts(steps=steps)
        check_non_negative(start=start)
        self.steps = steps
        self.start = start

    def __call__(self, step):
        return self.start * tf.maximum(0.0, 1 - tf.cast(step, tf.float32) / self.steps)


@keras.saving.register_keras_serializable("zoo")
class CyclicalWarmUp(Schedule):
    """Rises linearly from 0 to 1 in the first part of each period, then is 1 until its end.

    min(1, tau / rising), where tau in [0, 1) is the elapsed share of the period: Fu et al.,
    "Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing", 2019, eq. 6 and 7.
    https://arxiv.org/abs/1903.10145

    Args:
        period: Training steps (batches) of one cycle, at least 1: the paper's T / M, where T is the
            number of steps of the whole training and M = 4 the number of cycles.
        rising: Share of the period in which the value rises, in (0, 1]; the paper's R.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> [float(zoo.schedules.CyclicalWarmUp(8)(step)) for step in (0, 1, 4, 7, 8, 10)]
        [0.0, 0.25, 1.0, 1.0, 0.0, 0.5]
    """

    def __init__(self, period: int, rising: float = 0.5):
        if not period >= 1 or not 0 < rising <= 1:
            raise ValueError(
                "`period` must be at least 1, and `rising` in (0, 1]. "
                f"Received: period={period}, rising={rising}."
            )
        self.period = period
        self.rising = rising

    def __call__(self, step):
        # An integer remainder, because float32 cannot represent all integers beyond 2^24.
        elapsed = tf.cast(tf.cast(step, tf.int64) % self.period, tf.float32) / self.period
        return tf.minimum(1.0, elapsed / self.rising)


def check_weight(value: Any, name: str) -> None:
    """Raises a `ValueError` unless `value` is a `Schedule` or a finite number, at least 0.

    Args:
        value: The argument to check.
        name: The name of the argument, for the error message.
    """
    if isinstance(value, Schedule):
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise ValueError(
            f"`{name}` must be a finite number, at least 0, or a `zoo.schedules.Schedule`. "
            f"Received: {value!r}."
        )


def value_at(value: float | Schedule, step: int | tf.Tensor) -> float | tf.Tensor:
    """The value of a constant or of a `Schedule` at a step, a scalar."""
    return value(step) if isinstance(value, Schedule) else value
