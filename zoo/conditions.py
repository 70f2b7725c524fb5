"""Conditions `y` for conditional models, taken from a data set."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.checked_data import kind_of_condition, read_annotations
from zoo.config import with_article
from zoo.contract import check_counts
from zoo.datasets import ImageData
from zoo.model import GenerativeModel
from zoo.networks import SMALL_IMAGE
from zoo.resizing import factor_between


def check(model: GenerativeModel, data: ImageData) -> None:
    """Checks that the data set's `y` is the condition that the model takes.

    A model without a condition, or with an optional condition, accepts any data set that has the
    annotations that the model reads.

    Raises:
        ValueError: If the data set has no `y`, or a `y` of another type or shape; if an annotation
            that the model reads is missing; if some training images have no label; if the model has
            fewer classes than the data set.
    """
    if model.annotations:
        _check_annotations(model, data)
    if model.condition is not None and not model.condition_is_optional:
        _check(model, data)
        if data.num_labels is not None:
            raise ValueError(
                f"{with_article(type(model).__name__, True)} needs the label of every image. "
                f"Received: '{data.name}' with num_labels={data.num_labels}, without labels of the "
                "other training images. Set data.num_labels to None."
            )


def _check_annotations(model, data):
    _, y = data.arrays("train", 1)
    if isinstance(y, dict) and {*model.annotations} <= {*y}:
        return
    first = data.y or next(iter(data.annotation_names), None)
    if [first] == list(model.annotations) and not data.seen:
        return
    wanted = ",".join(model.annotations)
    have = ", ".join(data.annotation_names) or "no annotations"
    raise ValueError(
        f"{with_article(type(model).__name__, True)} reads annotations: set data.y to '{wanted}'. "
        f"Received: '{data.name}' with y={data.y!r}. It has {have}."
    )


def read(model: GenerativeModel, y: Any) -> Any:
    """The part of a data set's `y` that methods such as `encode` and `log_prob` of a model take.

    Args:
        model: The model.
        y: An annotation `[N, ...]`, a dict of annotations, or `None`.

    Returns:
        The dict of the model's annotations, the condition, or `None` for a model without a condition.
    """
    if model.condition is None:
        return None
    return read_annotations(model, y) if isinstance(y, Mapping) else y


def rows_of(y: Any, rows: Any) -> Any:
    """Some rows of `y[N, ...]`, or of each array of a dict of annotations; `None` of `None`."""
    if y is None:
        return None
    return {name: values[rows] for name, values in y.items()} if isinstance(y, dict) else y[rows]


def labels_in(y: Any) -> Any:
    """The labels or the attributes `[N, ...]` in a data set's `y`; `None` if there are none."""
    if isinstance(y, dict):
        return y.get("label", y.get("attributes"))
    return y


def factor(model: GenerativeModel) -> int | None:
    """By which factor the model's condition is smaller than its images; `None` for another condition.

    A network takes a small image by an input of the name `zoo.networks.SMALL_IMAGE`.
    """
    spec = model.condition
    if spec is None or kind_of_condition(model) != SMALL_IMAGE:
        return None
    return factor_between(model.image_shape, spec.shape[1:])


def _check(model, data):
    spec = model.condition
    _, y = data.arrays("train", 1)
    if isinstance(y, dict) and model.condition_leaf is not None:
        y = y.get(model.condition_leaf)
    expected = (
        f"{with_article(type(model).__name__, True)} is trained on (x, y), here with y "
        f"{spec.dtype.name} of shape [{', '.join(['B', *map(str, spec.shape[1:])])}]."
    )
    if y is None:
        raise ValueError(f"{expected} Received: '{data.name}', which has no y.")
    if isinstance(y, dict):
        raise ValueError(
            f"{expected} Received: '{data.name}' with several annotations, "
            f"{', '.join(map(repr, y))}. Choose one of them as data.y, or as `y` of "
            "zoo.datasets.load."
        )
    # Attributes may be ints, but labels are never floats.
    if not spec.shape.is_compatible_with(y.shape) or (
        spec.dtype.is_integer and not np.issubdtype(y.dtype, np.integer)
    ):
        raise ValueError(
            f"{expected} Received: '{data.name}' with y {y.dtype.name} of shape "
            f"[{', '.join(['B', *map(str, y.shape[1:])])}]. For the seen part of an image set "
            "data.seen, for example to 'quadrants:1'; for labels or attributes set it to None. For a "
            "small image set data.y, for example to 'small:4'."
        )
    names = data.label_names or ()
    if model.num_classes is not None and model.num_classes < len(names):
        raise ValueError(
            f"The model has {model.num_classes} classes. Received: '{data.name}' with {len(names)} "
            "classes. Set model.condition_size."
        )


def of_data(model: GenerativeModel, data: ImageData, split: str = "test") -> np.ndarray | None:
    """All conditions `[N, ...]` in a split, or `None` if the model takes none.

    Also `None` if the condition is optional and the data set has no such `y`.

    Raises:
        ValueError: If the condition is not optional and the data set has no such `y`.
    """
    if model.condition is None:
        return None
    try:
        _check(model, data)
    except ValueError:
        if model.condition_is_optional:
            return None
        raise
    _, y = data.arrays(split)
    if isinstance(y, dict):
        y = y[str(model.condition_leaf)]
    assert isinstance(y, np.ndarray)  # `_check` has found it.
    # A negative label stands for an image without a label.
    return y[y >= 0] if y.ndim == 1 else y


def in_turn(
    model: GenerativeModel, data: ImageData, n: int, columns: int = 1, split: str = "test"
) -> np.ndarray | None:
    """Conditions `[n, ...]` for a picture with `columns` columns, or `None` if the model takes none.

    Labels repeat in order, so with one column per class each column shows one class. Other
    conditions are those of the first examples of the split, one for each row.

    Raises:
        ValueError: If the condition is not optional and the data set has no such `y`.
    """
    check_counts(n=n, columns=columns)
    y = of_data(model, data, split)
    if y is None:
        return None
    if y.ndim == 1:
        return np.resize(np.unique(y), n)
    return y[np.arange(n) // columns % len(y)]
