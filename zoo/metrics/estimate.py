"""What a metric returns: a value, and how far and by what means it is to be trusted."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The value of a metric, with what is needed to judge it.

    Attributes:
        value: The metric itself.
        stderr: Its standard error, where the estimator has one.
        n_real: Number of real examples it was computed from.
        n_fake: Number of generated ones.
        bias: What the same estimator would give in expectation for two sets of these sizes from one
            distribution, by a formula; `None` where there is none.
        estimator: The method and its settings, enough to repeat it.
        details: Further numbers.

    Example:
        >>> estimate = zoo.metrics.Estimate(0.5, stderr=0.1, estimator={"method": "full"})
        >>> float(estimate)
        0.5
    """

    value: float
    stderr: float | None = None
    n_real: int | None = None
    n_fake: int | None = None
    bias: float | None = None
    estimator: dict[str, Any] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __float__(self) -> float:
        return float(self.value)


def as_features(values: Any, name: str, at_least: int = 1) -> np.ndarray:
    """`values` as a float array `[N, d]` without NaN, or a sentence about what it is instead.

    Args:
        values: What the caller gave.
        name: What the caller called it.
        at_least: The smallest N that will do.

    Raises:
        ValueError: For another rank, integers, too few rows, NaN or infinity.
    """
    values = np.asarray(values)
    expected = f"`{name}` must be floats of shape [N, d], N at least {at_least}"
    if values.ndim != 2 or len(values) < at_least or values.shape[1] < 1:
        raise ValueError(f"{expected}. Received: shape {values.shape}.")
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"{expected}. Received: {values.dtype}; features are no pixels or labels.")
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(
            f"{expected}, all of them finite. Received: NaN or infinity in row "
            f"{int(np.argmin(finite.all(1)))}."
        )
    return values
