"""Marks parameters of a test as slow; `@pytest.mark.slow` marks a test with all its parameters.

CONTRIBUTING.md says when a test is slow. pytest puts the folder of this file on the path.
"""

from collections.abc import Iterable

import pytest


def slow(*values):
    """Values of the parameters with which a test is slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def slow_except(fast: Iterable, values: Iterable) -> list:
    """The values of one parameter, with which a test is slow except with the fast values.

    Raises:
        ValueError: If a fast value is not among the values.
    """
    fast, values = list(fast), list(values)
    if unknown := [value for value in fast if value not in values]:
        raise ValueError(f"Expected fast values among the values. Received: {unknown}.")
    return [value if value in fast else slow(value) for value in values]
