"""`Estimate`: the value of a metric, with its standard error, bias, method and sample sizes."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The value of a metric, with its standard error, sample sizes and settings.

    Attributes:
        value: The value.
        stderr: The standard error, if the estimator has one.
        n_real: Number of real examples.
        n_fake: Number of generated examples.
        bias: The expectation of the same estimator for two sets of these sizes from one
            distribution, if a formula is known; otherwise `None`.
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
    """`values` as a float array `[N, d]` of finite numbers.

    Args:
        values: The argument of the caller.
        name: The name of the argument, for errors.
        at_least: The smallest valid N.

    Raises:
        ValueError: If the rank is not 2, the type is not a float, there are too few rows, or a
            value is NaN or infinite.
    """
    values = np.asarray(values)
    expected = f"`{name}` must be floats of shape [N, d], N at least {at_least}"
    if values.ndim != 2 or len(values) < at_least or values.shape[1] < 1:
        raise ValueError(f"{expected}. Received: shape {values.shape}.")
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(
            f"{expected}. Received: {values.dtype}. Pixels and labels are not features."
        )
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(
            f"{expected}, all of them finite. Received: NaN or infinity in row "
            f"{int(np.argmin(finite.all(1)))}."
        )
    return values
