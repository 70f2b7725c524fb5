"""The checks of images, conditions and latents, by what a model declares about its data.

Types and shapes are checked before a step is traced. Values are checked where they are known; a
step records the batches with values out of range (`zoo.contract`), and `check_record` reads the
record.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from zoo import keras_internals, networks
from zoo.config import with_article
from zoo.contract import FirstInvalid, Values, check_numbers, span_of
from zoo.interfaces import context_shape

if TYPE_CHECKING:
    from zoo.model import GenerativeModel

_LARGEST = float(np.finfo(np.float32).max)


class Records:
    """The records of the latest training, evaluation and prediction.

    Args:
        annotations: Names of the annotations that may have limits.
    """

    def __init__(self, annotations: Iterable[str] = ()):
        names = ("images", "y", *annotations)
        self.training = FirstInvalid(names)
        self.evaluation = FirstInvalid(names)
        self.prediction = FirstInvalid(names)


def check_data(
    model: GenerativeModel, x: Any, y: Any = None, where: str = "the data", training: bool = False
) -> Any:
    """`x`, to read from its start. Raises a `ValueError` if the model cannot be trained on the data.

    For a generator or a `PyDataset`, the first batch is checked. Errors call the data `where`.
    """
    _refuse_dicts(x, where)
    source, (x, batch) = x, with_first_batch(x)
    if batch is not None:
        _check_batch(model, *unpack(model, batch, where), training)
        return x
    if (batch := getattr(x, "element_spec", None)) is not None:
        x, y = unpack(model, batch, where)
    elif isinstance(x, tuple | list):
        raise ValueError(
            "Pass arrays of images and labels as two arguments, `fit(x, y)`, and two streams, "
            "((x_labelled, y), x_unlabelled), as a tf.data.Dataset of batches. "
            f"Received: {where} with a {type(x).__name__} as `x`."
        )
    _check_batch(model, x, read_annotations(model, y), training)
    return source


def check_batch(model: GenerativeModel, batch: Any, training: bool = False) -> tuple[Any, Any]:
    """`x` and `y` of a batch. Raises a `ValueError` for what is known when a step is traced."""
    x, y = unpack(model, batch)
    _check_batch(model, x, y, training)
    return x, y


def _check_batch(model, x, y, training):
    streams = x if isinstance(x, tuple) else (x,)
    for images in streams:
        check_images(model, images)
    check_numbers(y, rows=model.condition is None)
    if model.condition is not None:
        _check_condition(model, _condition_in(model, y), _rows(streams[0]), training)
    for name in model.annotation_limits:
        check_annotation(model, name, y[name])


def check_annotation(model: GenerativeModel, name: str, values: Any) -> None:
    """Raises a `ValueError` unless the values are those of an annotation with limits.

    Args:
        model: A model.
        name: The name of the annotation.
        values: An array, a tensor or a specification, `[B, ...]`.
    """
    shape, low, high = model.annotation_limits[name]
    values = values if hasattr(values, "dtype") else np.asarray(values)
    dtype, received = tf.as_dtype(values.dtype), tf.TensorShape(values.shape)
    ints = isinstance(low, int)
    if not received.is_compatible_with([None, *shape]) or (ints and not dtype.is_integer):
        kind = "ints" if ints else "numbers"
        raise ValueError(
            f"The annotation {name!r} is {kind} of shape [{', '.join(map(str, ['B', *shape]))}]. "
            f"Received: {dtype.name} of shape {_described(received)}."
        )
    known = _known(values)
    if known is not None and known.size and not low <= known.min() <= known.max() <= high:
        raise ValueError(_sentence(model, name, known.min(), known.max()))


def check_inputs(model: GenerativeModel, x: Any) -> Any:
    """`x`, to read from its start. Raises a `ValueError` unless `predict` can compute its results.

    `x` holds images, `[images, y]`, or batches of such.
    """
    if not model.can_encode:
        return x
    source, batch = with_first_batch(x)
    if batch is None:
        batch = getattr(x, "element_spec", None)
    if batch is not None:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
    _refuse_dicts(x, "the data")
    images, y = x if isinstance(x, list | tuple) and len(x) == 2 else (x, None)
    check_images(model, images)
    if y is not None and model.condition is not None:
        _check_condition(model, _condition_in(model, y), _rows(images))
    return source


def unpack(model: GenerativeModel, batch: Any, where: str = "the data") -> tuple[Any, Any]:
    """`x` and `y` of a batch or its specification. For two streams, `x` is a pair."""
    if isinstance(batch, tuple | list) and len(batch) > 2:
        weights = None if isinstance(batch[2], tf.NoneTensorSpec) else batch[2]
        refuse_weights(weights, f"a third item in {where}, which Keras treats as weights")
    if not (isinstance(batch, tuple) and isinstance(batch[0], tuple)):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        _refuse_dicts(x, where)
        return x, read_annotations(model, y)
    if not (model.semi_supervised and len(batch) == len(batch[0]) == 2):
        layouts = "x or (x, y)"
        if model.semi_supervised:
            layouts = "x, (x, y) or ((x_labelled, y), x_unlabelled)"
        shapes = keras.tree.map_structure(lambda t: str(getattr(t, "shape", t)), batch)
        raise ValueError(
            f"A batch for {with_article(type(model).__name__)} is {layouts}. "
            f"Received: {where} in batches of the shapes {shapes}."
        )
    (x_labelled, y), x_unlabelled = batch
    return (x_labelled, x_unlabelled), read_annotations(model, y)


def read_annotations(model: GenerativeModel, y: Any) -> Any:
    """The part of a data set's `y` that the objective reads.

    Args:
        model: A model.
        y: An annotation, a dict of annotations by name, or `None`.

    Returns:
        The dict of the model's `annotations`. `y` unchanged, if the model has none.

    Raises:
        ValueError: If an annotation is missing, or if `y` is a dict and the model takes one
            condition.
    """
    several = isinstance(y, Mapping)
    name = with_article(type(model).__name__, True)
    if not model.annotations:
        if several and model.condition is not None:
            raise ValueError(
                f"{name} takes one condition as `y`. Choose one of the annotations. "
                f"Received: a dict with the keys {sorted(y)}."
            )
        return y
    if not several and y is not None and len(model.annotations) == 1:
        y, several = {model.annotations[0]: y}, True
    missing = [leaf for leaf in model.annotations if not several or leaf not in y]
    if missing:
        received = "`y` without names" if y is not None else "y=None"
        if several:
            received = f"a dict with the keys {sorted(y)}"
        raise ValueError(
            f"{name} reads the annotations {', '.join(map(repr, model.annotations))}: train on "
            "(x, y) with a dict `y` that has them. "
            f"Received: {received}, without {missing[0]!r}."
        )
    return {leaf: y[leaf] for leaf in model.annotations}


def _condition_in(model, y):
    """The condition, where `y` is a dict of annotations."""
    return read_annotations(model, y)[model.condition_leaf] if isinstance(y, Mapping) else y


def refuse_weights(weights: Any, what: str) -> None:
    """Raises a `ValueError` unless the weights of examples, named `what`, are `None`."""
    if weights is not None:
        raise ValueError(
            "The models of the zoo weight all examples equally: data is `x` or `(x, y)`. "
            f"Received: {what}."
        )


def _refuse_dicts(x, where):
    if isinstance(x, Mapping):
        raise ValueError(
            "A batch is `x` or `(x, y)`: images, float32 in [0, 1], and conditions. Convert the "
            "dicts of TFDS with `dataset.map(lambda row: (tf.cast(row['image'], tf.float32) / 255, "
            f"row['label']))`. Received: {where} with dicts with the keys {sorted(x)}."
        )


def with_first_batch(source: Any) -> tuple[Any, Any]:
    """`source`, to read from its start, and the first batch of a generator or a `PyDataset`.

    The second value is `None` for other sources, and for a source without batches.
    """
    if isinstance(source, keras.utils.PyDataset):
        # The number of batches may be unknown.
        return source, source[0] if source.num_batches != 0 else None
    if not isinstance(source, types.GeneratorType):
        return source, None
    try:
        first = next(source)
    except StopIteration:
        return source, None

    def again():
        yield first
        yield from source

    return again(), first


def check_images(model: GenerativeModel, x: Any, image_shape: Sequence | None = None) -> None:
    """Checks images: see `GenerativeModel.check_images`.

    Args:
        model: A model.
        x: The images.
        image_shape: Their shape, if it is not that of the model's images.
    """
    if isinstance(x, tf.data.Dataset):
        check_data(model, x)
        return
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        return
    shape, dtype = tf.TensorShape(x.shape), tf.as_dtype(x.dtype)
    image_shape = model.image_shape if image_shape is None else image_shape
    expected = _expected_images(image_shape)
    if not shape.is_compatible_with([None, *image_shape]):
        raise ValueError(f"Expected {expected}. Received: an array of shape {_described(shape)}.")
    if not dtype.is_floating:
        raise ValueError(
            f"Expected {expected}. Received: {dtype.name}; divide 8-bit images by 255."
        )
    x = _known(x)
    if x is not None and x.size:
        low, high = x.min(), x.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(_sentence(model, "images", low, high))


def latents(model: GenerativeModel, z: Any) -> tf.Tensor:
    """Latents as float32. Raises a `ValueError` unless they are finite and of D dimensions."""
    part = getattr(model, "likelihood", getattr(model, "generator", None))
    z = tf.cast(z if tf.is_tensor(z) else np.asarray(z), tf.float32)
    shape = context_shape(part)
    if shape is not None:
        # A generator of several codes takes them apart.
        dim = shape[-1] if len(shape) == 1 else model.latent_dim
        if not z.shape[-1:].is_compatible_with([dim]):
            raise ValueError(
                f"Expected latents of shape [B, {dim}]. Received: shape {_described(z.shape)}."
            )
    values = _known(z)
    if values is not None and not np.isfinite(values).all():
        raise ValueError("Expected finite latents. Received: NaN or infinity.")
    return z


def _expected_images(image_shape):
    return f"float images in [0, 1] of shape [B, {', '.join(map(str, image_shape))}]"


def _known(values):
    """The values as an array; `None` for a specification or a symbolic tensor."""
    if isinstance(values, np.ndarray):
        return values
    return values.numpy() if tf.is_tensor(values) and not tf.is_symbolic_tensor(values) else None


def conditions(model: GenerativeModel, n: int | tf.Tensor, y: Any) -> Any:
    """Conditions for `n` images, `[n, ...]`: see `GenerativeModel.conditions`."""
    # Two statements, because AutoGraph, which exports use, does not convert `:=` in a test.
    spec = model.condition
    if spec is None:
        return y
    y = _condition_in(model, y)
    shape = _shape_of(spec, "n")
    if y is None:
        raise ValueError(
            f"{with_article(type(model).__name__, True)} takes a condition: pass `y`, "
            f"{spec.dtype.name} of shape {shape} for n images, or one condition for all "
            "images. Received: y=None."
        )
    y = y if tf.is_tensor(y) else np.asarray(y)
    known = tf.get_static_value(n)
    own = tf.TensorShape(y.shape)
    one = own.rank == spec.shape.rank - 1
    if not tf.TensorShape([None if one else known, *spec.shape[1:]]).is_compatible_with(
        [1, *own] if one else own
    ):
        raise ValueError(
            f"Expected `y` of shape {shape} with n={known}, or one condition for all. "
            f"Received: shape {_described(own)}{_advice_on(spec, own)}."
        )
    _check_values(model, y)
    y = tf.cast(y, spec.dtype)
    return tf.repeat(y[None], n, 0) if one else y


def _check_condition(model, y, n=None, training=False):
    """Raises a `ValueError` unless `y` is the model's condition for a batch of `n` images."""
    spec = model.condition
    if y is None or isinstance(y, tf.NoneTensorSpec):
        if not model.condition_is_optional:
            raise ValueError(
                f"{with_article(type(model).__name__, True)} takes a condition: train on (x, y), "
                f"and pass `y`, {spec.dtype.name} of shape {_shape_of(spec, 'B')}. "
                "Received: y=None."
            )
        return
    if isinstance(y, tf.TypeSpec) and not isinstance(y, tf.TensorSpec):
        return  # The values of several replicas: each checks its own.
    y = y if hasattr(y, "shape") and hasattr(y, "dtype") else np.asarray(y)
    shape = tf.TensorShape(y.shape)
    if not shape.is_compatible_with([n, *spec.shape[1:]]):
        raise ValueError(
            f"Expected `y` of shape {_shape_of(spec, 'B' if n is None else n)}. "
            f"Received: shape {_described(shape)}{_advice_on(spec, shape)}."
        )
    _check_values(model, y, training)


def _check_values(model, y, training=False):
    """Raises a `ValueError` unless the type and the values of `y` are those of the condition."""
    check_numbers(y)
    dtype = tf.as_dtype(y.dtype)
    # Attributes may be ints, but labels are never floats.
    label = model.condition.dtype.is_integer
    if not (dtype.is_integer or (not label and (dtype.is_floating or dtype.is_bool))):
        kind = "a label, an int" if label else "float32"
        raise ValueError(
            f"The condition of this {type(model).__name__} is {kind}. "
            f"Received: y of type {dtype.name}."
        )
    y = _known(y)
    if y is None or not y.size:
        return
    low, high = _limits(model, training)
    y = _shown(model, y)
    if not low <= y.min() <= y.max() <= high:
        raise ValueError(_sentence(model, "y", y.min(), y.max(), training))


def kind_of_condition(model: GenerativeModel) -> str:
    """The kind of the condition of a conditional model, as `networks.Condition.name`, or "" for another kind."""
    assert model.condition is not None
    if model.condition.dtype.is_integer:
        return "label"
    layers = keras_internals.layers_in(model, include_self=False)
    names = {part.name for part in layers if isinstance(part, keras.layers.InputLayer)}
    return next(
        (kind for kind in ("attributes", "seen", networks.SMALL_IMAGE) if kind in names), ""
    )


def _limits(model, training=False):
    """The smallest and the largest valid value of `y`."""
    kind = kind_of_condition(model)
    if kind == "label":
        if model.num_classes is None:
            return -math.inf, math.inf
        optional = model.condition_is_optional and not (training and model.needs_labels)
        return -math.inf if optional else 0, model.num_classes - 1
    return (0.0, 1.0) if kind else (-_LARGEST, _LARGEST)


def _shown(model, y):
    """The values of `y` that the limits concern: not those of hidden pixels."""
    if kind_of_condition(model) != "seen":
        return y
    if isinstance(y, np.ndarray):
        return np.where(y == -1, 0, y)
    return tf.where(y == -1, tf.zeros_like(y), y)


def _advice_on(spec, shape):
    """How to make labels of another shape into labels `[B]`."""
    if not spec.dtype.is_integer or shape.rank != 2:
        return ""
    if shape[1] == 1:
        return "; pass y[:, 0]"
    return "; for one-hot labels, pass np.argmax(y, -1)"


def _shape_of(spec, first):
    """The shape of a condition in words, such as "[n, 3]"."""
    return f"[{', '.join(map(str, [first, *spec.shape[1:]]))}]"


def _described(shape):
    return tuple(shape) if shape.rank is not None else "unknown"


def _rows(values):
    """The number of rows, if it is known."""
    shape = tf.TensorShape(getattr(values, "shape", None))
    return shape[0] if shape.rank else None


def values_of(
    model: GenerativeModel, x: Any = None, y: Any = None, training: bool = False
) -> dict[str, Values]:
    """The `Values` of a batch, by name, which `FirstInvalid` records in a step."""
    values = {}
    if x is not None:
        streams = x if isinstance(x, tuple) else (x,)
        spans = [span_of(images) for images in streams]
        span = span_of(tf.stack(spans)) if len(spans) > 1 else spans[0]
        values["images"] = Values(span, 0.0, 1.0)
    if y is not None and model.condition is not None:
        span = span_of(_shown(model, tf.convert_to_tensor(_condition_in(model, y))))
        values["y"] = Values(span, *_limits(model, training))
    if isinstance(y, Mapping):
        for name, limits in model.annotation_limits.items():
            values[name] = Values(span_of(y[name]), limits.low, limits.high)
    return values


def check_record(model: GenerativeModel, records: Records, what: str) -> None:
    """Checks the record of the latest pass: see `GenerativeModel.check_record`."""
    record = getattr(records, what)
    if (found := record.result()) is not None:
        name, batch, (low, high) = found
        record.reset()
        raise ValueError(
            f"{_sentence(model, name, low, high, what == 'training')} "
            f"The first such batch of the {what} is batch {batch}, counted from 0."
        )


def assert_valid(model: GenerativeModel, x: Any = None, y: Any = None) -> None:
    """Adds an assertion to a graph: see `GenerativeModel.assert_valid`."""
    for name, values in values_of(model, x, y).items():
        low, high = tf.unstack(values.span)
        expected = _sentence(model, name, 0, 0).partition(" Received: ")[0]
        tf.debugging.Assert(values.valid, [f"{expected} Received: values from", low, "to", high])


def _sentence(model, name, low, high, training=False):
    """The error for images or conditions with values from `low` to `high`."""
    finite = math.isfinite(low) and math.isfinite(high)
    advice = "repair or remove these examples, which are not numbers"
    if name == "images":
        advice = "scale them" if finite else advice
        return f"Expected {_expected_images(model.image_shape)}. Received: values from {low} to {high}; {advice}."
    received = f"Received: values from {low} to {high}"
    received += "." if finite else f"; {advice}."
    if name in model.annotation_limits:
        limits = model.annotation_limits[name]
        return f"The annotation {name!r} is from {limits.low} to {limits.high}. {received}"
    kind = kind_of_condition(model)
    if kind == "label":
        received = f"Received: labels from {int(low)} to {int(high)}."
        if training and model.needs_labels and low < 0:
            return f"{model.needs_labels} {received}"
        unknown = "; a negative number means no label" if model.condition_is_optional else ""
        return f"Labels are the numbers from 0 to {model.num_classes - 1}{unknown}. {received}"
    if kind == "attributes":
        return f"Attributes are numbers from 0 to 1. {received}"
    if kind == "seen":
        return f"The seen part of an image is in [0, 1], and -1 where it is hidden. {received}"
    if kind == networks.SMALL_IMAGE:
        return f"The values of a small image are from 0 to 1. {received}"
    return f"A condition consists of finite numbers. {received}"
