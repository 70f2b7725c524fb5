"""Labels for some of the training images, and the labelled part of a batch."""

import math
from typing import Any

import numpy as np

LEAST_SHARE = 0.1
"""Least share of labelled rows in a batch of two streams."""


def check_num_labels(num_labels: int | None) -> None:
    """Checks the type and the sign of a number of labels.

    Raises:
        ValueError: If `num_labels` is neither `None` nor a positive int.
    """
    integral = isinstance(num_labels, int | np.integer) and not isinstance(num_labels, bool)
    if num_labels is not None and not (integral and num_labels > 0):
        raise ValueError(
            "`num_labels` must be None or a positive int, the number of training images that keep "
            f"their label. Received: num_labels={num_labels!r}."
        )


def hide_labels(labels: Any, num_labels: int, seed: int) -> np.ndarray:
    """Keeps `num_labels` labels, the same number for each class, and replaces the others by -1.

    The seed decides which images keep their label.

    Args:
        labels: Integer labels `[N]`.
        num_labels: Number of labels to keep, a multiple of the number of classes, less than N.
        seed: Seed of the choice, at least 0.

    Returns:
        Labels `[N]`.

    Raises:
        ValueError: If there are no integer labels, `num_labels` is not a multiple of the number of
            classes, a class has too few images, or every image would keep its label.
    """
    labels = None if labels is None else np.asarray(labels)
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            "`num_labels` is for data whose `y` is an integer label. "
            f"Received: num_labels={num_labels}, and data without such labels."
        )
    classes, counts = np.unique(labels, return_counts=True)
    each, rest = divmod(num_labels, len(classes))
    if rest or each > counts.min() or num_labels >= len(labels):
        raise ValueError(
            f"`num_labels` must be a multiple of the {len(classes)} classes, keep at most "
            f"{counts.min()} labels of each class (the size of the smallest class), and leave some "
            f"of the {len(labels)} training images without a label. "
            f"Received: num_labels={num_labels}."
        )
    rng = np.random.default_rng([seed, num_labels])
    hidden = np.full_like(labels, -1)
    for c in classes:
        kept = rng.choice(np.flatnonzero(labels == c), each, replace=False)
        hidden[kept] = c
    return hidden


def labelled_rows(rows: int, labelled_share: float) -> int:
    """Number of labelled rows in a batch of two streams.

    Args:
        rows: Rows of both streams together.
        labelled_share: Share of the training images that have a label. The labelled rows have the
            same share of the batch, rounded up, and at least `LEAST_SHARE` of it.

    Example:
        >>> zoo.datasets.labelled.labelled_rows(100, 0.002)
        10
    """
    # 100 * 0.07 is 7.000000000000001.
    return math.ceil(round(rows * max(LEAST_SHARE, labelled_share), 6))
