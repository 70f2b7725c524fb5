"""Files of trained models that run without Keras and the zoo: SavedModel, TFLite and ONNX.

zoo.export.export(model, "served/1")
served = tf.saved_model.load("served/1")  # in a process with TensorFlow only
served.sample(16), served.signatures["sample"](n=tf.constant(16))["images"]
"""

import contextlib
import importlib.util
import inspect
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.config import look_up
from zoo.distributions import Prior
from zoo.files import check_writable, replacing_folder
from zoo.model import GenerativeModel

FORMATS: tuple[str, ...] = ("saved_model", "tflite", "onnx")
"""The formats of `export`."""

# The arguments of each ability, and the name of its result.
_ABILITIES = {
    "encode": (("x",), "latents"),
    "decode": (("z",), "images"),
    "reconstruct": (("x",), "images"),
    "sample": (("n",), "images"),
    "log_prob": (("x", "num_samples"), "log_prob"),
    "classify": (("x",), "probabilities"),
}
# TFLite and ONNX have no counterpart of TensorFlow's stateless random numbers.
_RANDOM = ("sample", "log_prob")


def export(
    model: GenerativeModel,
    path: str | os.PathLike,
    overwrite: bool = False,
    averaged: bool = False,
    signatures: Sequence[str] | None = None,
    format: str = "saved_model",
) -> dict[str, Any]:
    """Writes a folder with one signature for each ability of the model, and `abilities.json`.

    The abilities are `encode(x) -> latents`, `decode(z) -> images`, `reconstruct(x) -> images`,
    `sample(n) -> images`, `log_prob(x, num_samples) -> log_prob` and `classify(x) ->
    probabilities`, if the model has them. Images `x[B, H, W, C]` in [0, 1] and latents `z[B, D]`
    are float32, `n` and `num_samples` scalar int32; the results are `images[B, H, W, C]` in [0, 1],
    `latents[B, D]`, `log_prob[B]` and `probabilities[B, classes]`. If an ability uses a condition,
    its last argument is `y[B, ...]`; an optional label is -1 if it is unknown.

    The formats:

    - "saved_model": a SavedModel with a function and a signature of each ability. The signature
      "serving_default" is "reconstruct", "decode" or the first one, whichever exists.
    - "tflite": `model.tflite`, one file with all signatures, for LiteRT.
    - "onnx": one file for each signature, such as `decode.onnx`. Needs the extra `onnx`.

    In a SavedModel, `sample` and `log_prob` use new random numbers in each call and in each
    process. The other formats have neither, because they have no such random numbers: draw latents
    from the prior that `abilities.json` describes, and decode them. Only the variables that the
    abilities use are written, without discriminators and optimizers.

    Args:
        model: A model of the zoo.
        path: A local folder, new or empty. It is written atomically.
        overwrite: Whether to replace an older export at `path`.
        averaged: Whether to write the moving averages of the weights that the optimizers keep.
        signatures: The abilities to write; `None` for all abilities that the format supports.
        format: One of `FORMATS`.

    Returns:
        The content of `path/abilities.json`:

        - "model", "format": the class of the model, and the format.
        - "signatures": `{name: {"inputs": {name: tensor}, "outputs": {name: tensor}}}`, where a
          tensor is `{"shape", "dtype", "range"}`. The range is `[low, high]` with null for a bound
          that does not exist, or null.
        - "images": a tensor without the batch axis.
        - "prior": `{"family", "parameters", "dim"}`, or null if the model has no prior. The family
          is the name of a class in `zoo.distributions` or `zoo.models`, and the parameters are its
          arguments. They are null if the prior has weights.
        - "condition": null, or a tensor with "classes", the number of labels or null, and
          "optional".

    Raises:
        FileExistsError: If `path` is neither new nor empty and, with `overwrite`, not an export.
        OSError: If `path` cannot be written.
        ValueError: If `averaged` is set and no optimizer keeps averages; if the format is unknown
            or needs a package that is not installed; if the model lacks an ability, or the format
            does not support it.

    Example:
        >>> about = zoo.export.export(zoo.models.gan((8, 8, 1)), "served/gan/1")
        >>> sorted(about["signatures"]), about["prior"]["family"]
        (['decode', 'sample', 'serving_default'], 'StandardNormal')
    """
    path = Path(os.path.abspath(path))
    names = _chosen(model, signatures, format)
    check_place(path, overwrite)  # Before the long work, and again after it.
    with (
        model.averaged_weights() if averaged else contextlib.nullcontext(),
        replacing_folder(path) as folder,
    ):
        module, functions = _module(model, names)
        if format == "saved_model":
            default = next((n for n in ("reconstruct", "decode") if n in names), names[0])
            functions["serving_default"] = functions[default]
        description = _description(model, functions) | {"format": format}
        _WRITERS[format](module, functions, folder)
        (folder / "abilities.json").write_text(json.dumps(description, indent=2) + "\n")
        _check_free(path, overwrite)
    return description


def check_place(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Checks that `export` may write to `path`. Needs no model, and leaves no file.

    Args:
        path: The folder of the export.
        overwrite: Whether an older export at `path` may be replaced.

    Raises:
        FileExistsError: If `path` is neither new nor empty and, with `overwrite`, not an export.
        OSError: If `path` cannot be written or replaced.

    Example:
        >>> zoo.export.check_place("served/new")
    """
    path = Path(os.path.abspath(path))
    _check_free(path, overwrite)
    if os.path.ismount(path):
        raise OSError(
            "Expected a place for the export that can be replaced by a new folder. Received: "
            f"'{path}', where a file system is mounted. Choose a folder in it."
        )
    check_writable(path)


def _chosen(model, signatures, format):
    """The names of the signatures to write."""
    look_up(dict.fromkeys(FORMATS), format, "format")
    if format == "onnx" and not (
        importlib.util.find_spec("tf2onnx") and importlib.util.find_spec("onnx")
    ):
        raise ValueError(
            "The format 'onnx' needs the packages of the extra `onnx`. Received: an environment "
            "without them. Run: pip install tf2onnx onnx"
        )
    if isinstance(signatures, str):
        raise ValueError(
            "`signatures` must be a sequence of names, such as ['decode', 'encode']. "
            f"Received: {signatures!r}."
        )
    random = _RANDOM if format != "saved_model" else ()
    available = [name for name in model.abilities() if name not in random]
    names = available if signatures is None else list(dict.fromkeys(signatures))
    if chosen := [name for name in names if name in random]:
        raise ValueError(
            f"The format '{format}' has no random numbers, which '{chosen[0]}' needs: draw z from "
            "the prior that abilities.json describes and use 'decode', or choose the format "
            f"'saved_model'. Signatures of this {type(model).__name__} for '{format}': "
            f"{', '.join(available)}."
        )
    if not names or not set(names) <= set(available):
        raise ValueError(
            f"Signatures of this {type(model).__name__} for the format '{format}' are: "
            f"{', '.join(available)}. Received: {', '.join(names) or 'no name'}."
        )
    return names


def _check_free(path, overwrite):
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    files = ("saved_model.pb", "model.tflite", *(f"{name}.onnx" for name in _ABILITIES))
    if not any((path / file).is_file() for file in files):
        raise FileExistsError(
            "Expected a new or an empty folder, or with `overwrite=True` an older export. "
            f"Received: '{path}', which is neither. Choose another path."
        )
    if not overwrite:
        raise FileExistsError(
            f"Expected a new or an empty folder. Received: '{path}', which holds an export. "
            "Choose another path, or pass `overwrite=True` to replace it."
        )


def _module(model, names):
    """A module with a function for each ability, and its signatures."""
    specs = {
        "x": tf.TensorSpec([None, *model.image_shape], tf.float32, "x"),
        "z": tf.TensorSpec([None, model.latent_dim], tf.float32, "z"),
        "n": tf.TensorSpec([], tf.int32, "n"),
        "num_samples": tf.TensorSpec([], tf.int32, "num_samples"),
        "log_prob": tf.TensorSpec([None], tf.float32, "log_prob"),
    }
    specs |= {"images": specs["x"], "latents": specs["z"]}
    if (condition := model.condition) is not None:
        specs["y"] = tf.TensorSpec(condition.shape, condition.dtype, "y")
    if "classify" in names:
        specs["probabilities"] = tf.TensorSpec([None, model.num_classes], tf.float32)
    module, signatures, variables = tf.Module(), {}, {}
    for name in names:
        function = _function(getattr(model, name), name, specs)
        setattr(module, name, function)
        variables |= {id(v): v for v in function.get_concrete_function().graph.variables}
        signatures[name] = _signature(function, _ABILITIES[name][1])
    # A graph lists its variables by their addresses. The order of the model repeats in each process.
    place = {id(v.value): i for i, v in enumerate(model.variables)}
    module.used_variables = sorted(variables.values(), key=lambda v: place.get(id(v), len(place)))
    return module, signatures


def _function(method, name, specs):
    """The method as a `tf.function` of the tensors that it uses."""
    inputs, output = _ABILITIES[name]
    accepted = inspect.signature(method).parameters
    names = [inputs[0], *(n for n in (*inputs[1:], "y") if n in specs and n in accepted)]

    def ability(*tensors):
        arguments = dict(zip(names[1:], tensors[1:], strict=True))
        if asserts:
            images = tensors[0] if names[0] == "x" else None
            method.__self__.assert_valid(images, arguments.get("y"))
        if "num_samples" in arguments:
            tf.debugging.assert_positive(
                arguments["num_samples"], "`num_samples` must be at least 1"
            )
        if "seed" in accepted:
            arguments["seed"] = _fresh_seed()
        result = tf.cast(method(tensors[0], **arguments), specs[output].dtype)
        result.set_shape(specs[output].shape)  # `tf.ensure_shape` cannot become TFLite.
        return result

    def compiled():
        # The names of the arguments, here and in the loaded model.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        ability.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])
        return tf.function(ability, input_signature=[specs[n] for n in names])

    # An assertion would consume a `y` that the method ignores.
    asserts = names[-1] != "y"
    function = compiled()
    if asserts:
        return function
    if not function.get_concrete_function().inputs[len(names) - 1].consumers():
        names.pop()
    asserts = True
    return compiled()


def _fresh_seed():
    """A new seed `[2]` in each call, independent of all seeds that are set."""
    return tf.raw_ops.RandomUniformInt(
        shape=[2], minval=tf.int32.min, maxval=tf.int32.max, seed=0, seed2=0
    )


def _signature(function, output):
    """A concrete function with named inputs and outputs, as servers call it."""
    specs = function.input_signature

    def named(*tensors):
        # TensorFlow checks the shapes of a function's arguments, but not those of a signature's.
        checked = [tf.ensure_shape(t, s.shape) for t, s in zip(tensors, specs, strict=True)]
        return {output: function(*checked)}

    named.__signature__ = inspect.signature(function.python_function)
    return tf.function(named, input_signature=specs).get_concrete_function()


def _write_saved_model(module, signatures, folder):
    tf.saved_model.save(module, str(folder), signatures)


def _write_tflite(module, signatures, folder):
    with tempfile.TemporaryDirectory(dir=folder.parent) as saved:
        _write_saved_model(module, signatures, saved)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=[*signatures])
        content = _converted(converter.convert, signatures, "tflite")
    folder.mkdir()
    (folder / "model.tflite").write_bytes(content)


def _write_onnx(module, signatures, folder):
    import onnx  # Of the extra `onnx`, as tf2onnx.
    import tf2onnx

    folder.mkdir()
    handlers = {name: (handler, []) for name, handler in _ONNX_OPERATIONS.items()}
    for name, signature in signatures.items():
        specs, _ = signature.structured_input_signature
        function = tf.function(lambda *tensors, f=signature: f(*tensors), input_signature=specs)

        def convert(function=function, specs=specs):
            model, _ = tf2onnx.convert.from_function(
                function, input_signature=specs, custom_op_handlers=dict(handlers)
            )
            onnx.checker.check_model(model)  # tf2onnx writes operations that ONNX does not have.
            return model

        with _quiet("tf2onnx"):
            content = _converted(convert, [name], "onnx").SerializeToString()
        (folder / f"{name}.onnx").write_bytes(content)


@contextlib.contextmanager
def _quiet(name):
    """No messages of a logger: tf2onnx logs a traceback for each optimization that fails."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _broadcast_args(graph, node, name, args):
    """The shape to which two shapes broadcast, for tf2onnx: the shape of an expanded tensor."""
    from onnx import TensorProto

    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    first, second = (
        graph.make_node("Cast", [source], attr={"to": TensorProto.INT64}).output[0]
        for source in node.input
    )
    zeros = graph.make_node("ConstantOfShape", [first]).output[0]
    expanded = graph.make_node("Expand", [zeros, second]).output[0]
    result = graph.make_node("Shape", [expanded]).output[0]
    graph.remove_node(name)
    graph.make_node(
        "Cast",
        [result],
        attr={"to": dtype},
        name=name,
        outputs=node.output,
        dtypes=[dtype],
        shapes=[shape],
    )


def _expm1(graph, node, name, args):
    """exp(x) - 1 = tanh(x / 2) (exp(x) + 1), which is exact near 0, for tf2onnx."""
    (x,), dtype = node.input, graph.get_dtype(node.output[0])
    shape = graph.get_shape(node.output[0])
    half, one = (
        graph.make_const(f"{name}/{label}", np.array(value, np.float32)).output[0]
        for label, value in (("half", 0.5), ("one", 1.0))
    )
    tanh = graph.make_node("Tanh", [graph.make_node("Mul", [x, half]).output[0]]).output[0]
    exp = graph.make_node("Add", [graph.make_node("Exp", [x]).output[0], one]).output[0]
    graph.remove_node(name)
    graph.make_node(
        "Mul", [tanh, exp], name=name, outputs=node.output, dtypes=[dtype], shapes=[shape]
    )


# Operations of the zoo's models that tf2onnx does not know.
_ONNX_OPERATIONS = {"BroadcastArgs": _broadcast_args, "Expm1": _expm1}


def _converted(convert, names, format):
    try:
        return convert()
    except Exception as error:  # The converters have no common class of errors.
        raise ValueError(
            f"The signatures {', '.join(names)} have operations that the format '{format}' does not "
            "support: choose other signatures, or the format 'saved_model'. Received from the "
            f"converter: {str(error).strip().partition(chr(10))[0]}"
        ) from error


_WRITERS = {
    "saved_model": _write_saved_model,
    "tflite": _write_tflite,
    "onnx": _write_onnx,
}


def _description(model, signatures):
    """The content of `abilities.json`."""
    about, condition = None, model.condition
    ranges = {
        "x": [0.0, 1.0],
        "images": [0.0, 1.0],
        "probabilities": [0.0, 1.0],
        "n": [0, None],
        "num_samples": [1, None],
    }
    if condition is not None:
        classes = model.num_classes if condition.dtype.is_integer else None
        if classes is not None:
            ranges["y"] = [-1 if model.condition_is_optional else 0, classes - 1]
        about = _tensor(condition, ranges.get("y")) | {
            "classes": classes,
            "optional": model.condition_is_optional,
        }

    def described(signature):
        inputs, _ = signature.structured_input_signature
        return {
            "inputs": {t.name: _tensor(t, ranges.get(t.name)) for t in inputs},
            "outputs": {
                name: _tensor(t, ranges.get(name))
                for name, t in signature.structured_outputs.items()
            },
        }

    prior = getattr(model, "prior", None)
    images = tf.TensorSpec(model.image_shape, tf.float32)
    return {
        "model": type(model).__name__,
        "signatures": {name: described(signature) for name, signature in signatures.items()},
        "images": _tensor(images, ranges["images"]),
        "prior": None if prior is None else _prior(prior) | {"dim": model.latent_dim},
        "condition": about,
    }


def _tensor(tensor, range):
    return {"shape": tensor.shape.as_list(), "dtype": tensor.dtype.name, "range": range}


def _prior(prior):
    """The family of a prior and, if the prior has no weights, its arguments."""
    family = {"family": type(prior).__name__}
    if prior.variables:
        return family | {"parameters": None}
    distribution = prior()

    def value(name):
        argument = getattr(prior, name)
        if argument is None:  # A default that the distribution has computed.
            argument = getattr(distribution, name, None)
        if isinstance(argument, Prior):
            return _prior(argument)
        return keras.saving.serialize_keras_object(
            list(argument) if isinstance(argument, tuple) else argument
        )

    return family | {"parameters": {name: value(name) for name in prior._argument_names()}}
