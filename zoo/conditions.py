"""Conditions `y` for models that take them, from the data that they were trained on."""

import numpy as np

from zoo.datasets import ImageData
from zoo.keras_internals import layers_in
from zoo.model import GenerativeModel
from zoo.networks import OneHot


def check(model: GenerativeModel, data: ImageData) -> None:
    """Raises a `ValueError` unless the data's `y` is what the model takes as its condition.

    A model without a condition takes any data, and so does one whose condition is optional.
    """
    if model.condition is not None and not model.condition_is_optional:
        _check(model, data)
        if data.num_labels is not None:
            raise ValueError(
                f"A {type(model).__name__} needs the label of every image. Received: "
                f"'{data.name}' with num_labels={data.num_labels}, whose other training images have "
                "none; set data.num_labels to None."
            )


def _check(model, data):
    spec = model.condition
    _, y = data.arrays("train", 1)
    expected = (
        f"A {type(model).__name__} is trained on (x, y), here with y {spec.dtype.name} of shape "
        f"[{', '.join(['B', *map(str, spec.shape[1:])])}]."
    )
    if y is None:
        raise ValueError(f"{expected} Received: '{data.name}', which has no y.")
    # Attributes may be counted in ints; labels are never floats.
    if not spec.shape.is_compatible_with(y.shape) or (
        spec.dtype.is_integer and not np.issubdtype(y.dtype, np.integer)
    ):
        raise ValueError(
            f"{expected} Received: '{data.name}' with y {y.dtype.name} of shape "
            f"[{', '.join(['B', *map(str, y.shape[1:])])}]. For the seen part of an image set "
            "data.seen_quadrants to 1, 2 or 3; for labels or attributes to None."
        )
    names = data.label_names or ()
    for layer in layers_in(model, include_self=False):
        if isinstance(layer, OneHot) and layer.classes < len(names):
            raise ValueError(
                f"The model knows {layer.classes} classes. Received: '{data.name}', which has "
                f"{len(names)}; set model.condition_size."
            )


def of_data(model: GenerativeModel, data: ImageData, split: str = "test") -> np.ndarray | None:
    """All conditions `[N, ...]` that a split has, or `None` where the model takes none.

    Also where it can do without, and the data has none of the kind.

    Raises:
        ValueError: As `check` does.
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
    # Of labels that were held back there is nothing to be made.
    return y[y >= 0] if y.ndim == 1 else y


def in_turn(
    model: GenerativeModel, data: ImageData, n: int, columns: int = 1, split: str = "test"
) -> np.ndarray | None:
    """Conditions `[n, ...]` for a picture with so many columns, or `None` where the model takes none.

    Of labels each in turn, so that with as many columns every class has its own; of all else those
    of the split's first examples, one for each row.
    """
    y = of_data(model, data, split)
    if y is None:
        return None
    if y.ndim == 1:
        return np.resize(np.unique(y), n)
    return y[np.arange(n) // columns % len(y)]
