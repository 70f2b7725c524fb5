"""Few labels among many images: which are kept, and how many rows of a batch have one."""

import math

import numpy as np

LEAST_SHARE = 0.1  # of a batch, where fewer images than that have a label


def check_num_labels(num_labels: int | None) -> None:
    """Raises ValueError for a number of labels that no set can have."""
    integral = isinstance(num_labels, int | np.integer) and not isinstance(num_labels, bool)
    if num_labels is not None and not (integral and num_labels > 0):
        raise ValueError(
            "`num_labels` must be None or a positive int, the number of training images that keep "
            f"their label. Received: num_labels={num_labels!r}."
        )


def hide_labels(labels: np.ndarray | None, num_labels: int, seed: int) -> np.ndarray:
    """The labels `[N]` of `num_labels` images, as many of each class, and -1 for all others.

    Which images keep theirs is a function of the seed.

    Raises:
        ValueError: if there are no integer labels, `num_labels` is not a multiple of the number of
            classes, a class has too few images, or none would be left without a label.
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
            f"`num_labels` must be a multiple of the {len(classes)} classes, so that each keeps as "
            f"many, of at most {counts.min()} (the smallest class) each, and leave some of the "
            f"{len(labels)} training images without. Received: num_labels={num_labels}."
        )
    rng = np.random.default_rng([seed, num_labels])
    hidden = np.full_like(labels, -1)
    for c in classes:
        kept = rng.choice(np.flatnonzero(labels == c), each, replace=False)
        hidden[kept] = c
    return hidden


def labelled_rows(rows: int, share: float) -> int:
    """How many of a batch's rows, its last ones, are labelled: `share` of them, rounded up."""
    return math.ceil(round(rows * share, 6))
