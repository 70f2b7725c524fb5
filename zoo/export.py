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
from zoo.model import GenerativeModel, Signature

FORMATS: tuple[str, ...] = ("saved_model", "tflite", "onnx")
"""The formats of `export`."""


def export(
    model: GenerativeModel,
    path: str | os.PathLike,
    overwrite: bool = False,
    averaged: bool = False,
    signatures: Sequence[str] | None = None,
    format: str = "saved_model",
) -> dict[str, Any]:
    """Writes a folder with one signature for each ability of the model, and `abilities.json`.

    The abilities are the methods in the model's `abilities()` that have one of its `signatures`.
    Common ones are `encode(x) -> latents`, `decode(z) -> images`, `reconstruct(x) -> images`,
    `sample(n) -> images`, `log_prob(x, num_samples) -> log_prob`, `classify(x) -> probabilities` and,
    for a VAE, `complete(x, seen, steps) -> images, acceptance`. Images `x[B, H, W, C]` in [0, 1] and
    latents `z[B, D]` are float32, `n`, `num_samples` and `steps` scalar int32, and `seen[B, H, W, C]` or
    `[B, H, W, 1]` bool; the results are `images[B, H, W, C]` in [0, 1], `latents[B, D]`, `log_prob[B]`,
    `probabilities[B, classes]` and `acceptance[B]`. If an ability uses a condition, its last argument
    is `y[B, ...]`; an optional label is -1 if it is unknown.

    The formats:

    - "saved_model": a SavedModel with a function and a signature of each ability. The signature
      "serving_default" is "reconstruct", "decode" or the first one, whichever exists.
    - "tflite": `model.tflite`, one file with all signatures, for LiteRT.
    - "onnx": one file for each signature, such as `decode.onnx`. Needs the extra `onnx`.

    In a SavedModel, methods with an argument `seed`, such as `sample` and `log_prob`, use new random
    numbers in each call and in each process. The other formats lack these methods, because they
    have no such random numbers: draw latents from the prior that `abilities.json` describes, and
    decode them. A SavedModel refuses inputs that are out of range. Only the variables that the
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
        - The entries of the model's `export_details()`.

    Raises:
        FileExistsError: If `path` is neither new nor empty and, with `overwrite`, not an export.
        OSError: If `path` cannot be written.
        ValueError: If `averaged` is set and no optimizer keeps averages; if the format is unknown
            or needs a package that is not installed; if the model lacks an ability, or the format
            does not support it; if a signature does not fit its method.

    Example:
        >>> about = zoo.export.export(zoo.models.gan((8, 8, 1)), "served/gan/1")
        >>> sorted(about["signatures"]), about["prior"]["family"]
        (['decode', 'sample', 'serving_default'], 'StandardNormal')
    """
    path = Path(os.path.abspath(path))
    names = _chosen(model, signatures, format)
    check_place(path, overwrite)  # before the long work, and again after it
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
    exportable = [name for name in model.abilities() if name in model.signatures]
    # TFLite and ONNX have no counterpart of TensorFlow's stateless random numbers.
    random = [name for name in exportable if format != "saved_model" and _draws(model, name)]
    available = [name for name in exportable if name not in random]
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


def _draws(model, name):
    return "seed" in inspect.signature(getattr(model, name)).parameters


def _check_free(path, overwrite):
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    files = [path / "saved_model.pb", path / "model.tflite", *path.glob("*.onnx")]
    if not any(file.is_file() for file in files):
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
    # The names of the tensors, here and in the loaded model.
    specs = {name: tf.TensorSpec.from_spec(s, name) for name, s in model.tensor_specs().items()}
    module, signatures, variables = tf.Module(), {}, {}
    for name in names:
        function = _function(model, name, specs)
        setattr(module, name, function)
        variables |= {id(v): v for v in function.get_concrete_function().graph.variables}
        signatures[name] = _signature(function, model.signatures[name].returns)
    # A graph lists its variables by their addresses. The order of the model repeats in each process.
    place = {id(v.value): i for i, v in enumerate(model.variables)}
    module.used_variables = sorted(variables.values(), key=lambda v: place.get(id(v), len(place)))
    return module, signatures


def _function(model, name, specs):
    """The method as a `tf.function` of the tensors that it uses."""
    method, returns = getattr(model, name), model.signatures[name].returns
    outputs = _names(returns)
    accepted, ranges = inspect.signature(method).parameters, model.tensor_ranges()
    argument_of = _arguments(model, name, specs)
    names = [*argument_of]

    def ability(*tensors):
        given = dict(zip(names, tensors, strict=True))
        if asserts:
            model.assert_valid(given.get("x"), given.get("y"))
            for tensor, value in given.items():
                if tensor in ranges and tensor not in ("x", "y"):
                    _assert_in_range(tensor, value, *ranges[tensor])
        arguments = {argument_of[tensor]: value for tensor, value in given.items()}
        if "y" in accepted:
            arguments.setdefault("y", None)
        if "seed" in accepted:
            arguments["seed"] = _fresh_seed()
        results = method(**arguments)
        results = results if isinstance(results, tuple) else (results,)
        if len(results) != len(outputs):
            raise ValueError(
                f"Expected a tensor for each of {', '.join(outputs)} from `{name}`, as in "
                f"`{type(model).__name__}.signatures`. Received: {len(results)} of them."
            )
        results = [
            _result(name, specs[output], value)
            for output, value in zip(outputs, results, strict=True)
        ]
        return results[0] if isinstance(returns, str) else tuple(results)

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


def _arguments(model, name, specs):
    """The argument of the method for each tensor: `{tensor: argument}`, `y` last."""
    takes, returns = model.signatures[name]
    here = f"in the signature '{name}' of {type(model).__name__}"
    if unknown := [tensor for tensor in (*takes, *_names(returns)) if tensor not in specs]:
        raise ValueError(
            f"Expected tensors of `tensor_specs` {here}: {', '.join(specs)}. "
            f"Received: '{unknown[0]}'. Add it to `tensor_specs`."
        )
    expected = inspect.signature(getattr(model, name))
    accepted = expected.parameters
    order = [argument for argument in accepted if argument not in ("y", "seed")]
    if takes == GenerativeModel.signatures.get(name, Signature((), ())).takes:
        # A method of the base class may be overridden by one with fewer arguments.
        takes = tuple(t for i, t in enumerate(takes) if t in accepted or i < len(order))
    arguments = {
        tensor: order[i] if tensor not in accepted and i < len(order) else tensor
        for i, tensor in enumerate(takes)
    }
    if len(set(arguments.values())) < len(arguments):
        raise ValueError(
            f"Expected one tensor for each argument of `{name}` {here}. "
            f"Received: {', '.join(takes)}, two of them for one argument."
        )
    passed = [*arguments.values(), *(n for n in ("y", "seed") if n in accepted)]
    try:
        expected.bind(**dict.fromkeys(passed))
    except TypeError as error:
        raise ValueError(
            f"Expected a tensor for each argument of `{name}` {here}. "
            f"Received: {', '.join(takes)}; {error}."
        ) from error
    return arguments | ({"y": "y"} if "y" in specs and "y" in accepted else {})


def _assert_in_range(name, value, low, high):
    if low is not None:
        tf.debugging.assert_greater_equal(value, low, f"`{name}` must be at least {low}")
    if high is not None:
        tf.debugging.assert_less_equal(value, high, f"`{name}` must be at most {high}")


def _names(returns):
    return (returns,) if isinstance(returns, str) else returns


def _result(name, spec, value):
    """The result of a method, in the shape and the type of its specification."""
    if not spec.shape.is_compatible_with(value.shape):
        raise ValueError(
            f"Expected '{spec.name}' of shape {spec.shape} from `{name}`, as in `tensor_specs`. "
            f"Received: shape {value.shape}."
        )
    value = tf.cast(value, spec.dtype)
    value.set_shape(spec.shape)  # `tf.ensure_shape` cannot become TFLite.
    return value


def _fresh_seed():
    """A new seed `[2]` in each call, independent of all seeds that are set."""
    return tf.raw_ops.RandomUniformInt(
        shape=[2], minval=tf.int32.min, maxval=tf.int32.max, seed=0, seed2=0
    )


def _signature(function, returns):
    """A concrete function with named inputs and outputs, as servers call it."""
    specs = function.input_signature

    def named(*tensors):
        # TensorFlow checks the shapes of a function's arguments, but not those of a signature's.
        checked = [tf.ensure_shape(t, s.shape) for t, s in zip(tensors, specs, strict=True)]
        results = function(*checked)
        results = results if isinstance(results, tuple) else (results,)
        return dict(zip(_names(returns), results, strict=True))

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
    import onnx  # from the extra `onnx`, as tf2onnx
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
    """Silences a logger: tf2onnx logs a traceback for each optimization that fails."""
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
    about, condition, ranges = None, model.condition, model.tensor_ranges()
    if condition is not None:
        about = _tensor(condition, ranges.get("y")) | {
            "classes": model.num_classes if condition.dtype.is_integer else None,
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
    } | model.export_details()


def _tensor(tensor, range):
    return {
        "shape": tensor.shape.as_list(),
        "dtype": tensor.dtype.name,
        "range": None if range is None else list(range),
    }


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
