"""TensorFlow SavedModels of trained models, which need neither Keras nor the zoo.

zoo.export.export(model, "served/1")
served = tf.saved_model.load("served/1")  # in a process with TensorFlow only
served.sample(16), served.signatures["sample"](n=tf.constant(16))["x"]
"""

import contextlib
import inspect
import json
import os
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from zoo.model import GenerativeModel

# The arguments of each ability, and the name of its result.
_ABILITIES = {
    "encode": (("x",), "z"),
    "decode": (("z",), "x"),
    "reconstruct": (("x",), "x"),
    "sample": (("n",), "x"),
    "log_prob": (("x", "num_samples"), "log_prob"),
    "classify": (("x",), "probabilities"),
}


def export(
    model: GenerativeModel,
    path: str | os.PathLike,
    overwrite: bool = False,
    averaged: bool = False,
) -> dict[str, dict]:
    """Writes a SavedModel with one function and one signature of the same name for each ability.

    The abilities are `encode(x) -> z`, `decode(z) -> x`, `reconstruct(x) -> x`, `sample(n) -> x`,
    `log_prob(x, num_samples) -> log_prob` and `classify(x) -> probabilities`, if the model has
    them. Images `x[B, H, W, C]` in [0, 1] and latents `z[B, D]` are float32, `n` and `num_samples`
    scalar int32; the results are `log_prob[B]` and `probabilities[B, classes]`. If an ability uses
    a condition, its last argument is `y[B, ...]`; an optional label is -1 if it is unknown. The
    signature "serving_default" is "reconstruct", or "decode" if the model cannot encode.

    `sample` and `log_prob` use new random numbers in each call and in each process. Only the
    variables that the abilities use are written, without discriminators and optimizers.

    Args:
        model: A model of the zoo.
        path: A local folder, new or empty. It is written atomically.
        overwrite: Whether to replace an older SavedModel at `path`.
        averaged: Whether to write the moving averages of the weights that the optimizers keep.

    Returns:
        `{signature: {"inputs": {name: {"shape", "dtype"}}, "outputs": {...}}}`, the content of
        `path/abilities.json`.

    Raises:
        FileExistsError: If `path` is neither new nor empty and, with `overwrite`, not a SavedModel.
        ValueError: If `averaged` is set and no optimizer keeps averages.

    Example:
        >>> sorted(zoo.export.export(zoo.models.gan((8, 8, 1)), "served/gan/1"))
        ['decode', 'sample', 'serving_default']
    """
    path = Path(os.path.abspath(path))
    _check_free(path, overwrite)
    with model.averaged_weights() if averaged else contextlib.nullcontext():
        module, signatures = _module(model)
        description = {name: _describe(function) for name, function in signatures.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        # The SavedModel is written to a folder on the same disk, and then moved.
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            tf.saved_model.save(module, str(folder / "new"), signatures)
            text = json.dumps(description, indent=2) + "\n"
            (folder / "new" / "abilities.json").write_text(text)
            _check_free(path, overwrite)  # Checked again, because writing takes time.
            _replace(path, folder / "new", folder / "old")
        finally:
            shutil.rmtree(folder)
    return description


def _check_free(path, overwrite):
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / "saved_model.pb").is_file():
        raise FileExistsError(
            "Expected a new or an empty folder, or with `overwrite=True` an older SavedModel. "
            f"Received: '{path}', which is neither. Choose another path."
        )
    if not overwrite:
        raise FileExistsError(
            f"Expected a new or an empty folder. Received: '{path}', which holds a SavedModel. "
            "Choose another path, or pass `overwrite=True` to replace it."
        )


def _replace(path, new, old):
    replaces = os.path.lexists(path)
    if replaces:
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        if replaces:
            os.rename(old, path)
        raise


def _module(model):
    """A module with a function for each ability, and its signatures."""
    specs = {
        "x": tf.TensorSpec([None, *model.image_shape], tf.float32, "x"),
        "z": tf.TensorSpec([None, model.latent_dim], tf.float32, "z"),
        "n": tf.TensorSpec([], tf.int32, "n"),
        "num_samples": tf.TensorSpec([], tf.int32, "num_samples"),
        "log_prob": tf.TensorSpec([None], tf.float32, "log_prob"),
    }
    if (condition := model.condition) is not None:
        specs["y"] = tf.TensorSpec(condition.shape, condition.dtype, "y")
    if "classify" in model.abilities():
        specs["probabilities"] = tf.TensorSpec([None, model.num_classes], tf.float32)
    module, signatures, variables = tf.Module(), {}, {}
    for name in model.abilities():
        function = _function(getattr(model, name), name, specs)
        setattr(module, name, function)
        variables |= {id(v): v for v in function.get_concrete_function().graph.variables}
        signatures[name] = _signature(function, _ABILITIES[name][1])
    module.used_variables = list(variables.values())
    default = "reconstruct" if "reconstruct" in signatures else "decode"
    return module, signatures | {"serving_default": signatures[default]}


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
        return tf.ensure_shape(result, specs[output].shape)

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


def _describe(signature):
    def spec(tensor):
        return {"shape": tensor.shape.as_list(), "dtype": tensor.dtype.name}

    inputs, _ = signature.structured_input_signature
    return {
        "inputs": {tensor.name: spec(tensor) for tensor in inputs},
        "outputs": {name: spec(t) for name, t in signature.structured_outputs.items()},
    }
