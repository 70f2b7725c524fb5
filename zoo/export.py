"""TensorFlow SavedModels of trained models: everything they can do, without Keras or the zoo.

zoo.export.export(model, "served/1")
served = tf.saved_model.load("served/1")  # in a process that knows TensorFlow only
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

# What each ability takes, and the name of what it gives.
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

    `encode(x) -> z`, `decode(z) -> x`, `reconstruct(x) -> x`, `sample(n) -> x`,
    `log_prob(x, num_samples) -> log_prob` and `classify(x) -> probabilities`, as far as the model
    has them, with images `x[B, H, W, C]` in [0, 1], latents `z[B, D]`, both float32, scalar int32
    `n` and `num_samples`, `log_prob[B]`, and `probabilities[B, classes]`. Where the model's
    networks use a condition, `y[B, ...]` comes last; of a model of labelled and unlabelled images it
    is -1 where there is no label. The signature "serving_default" is "reconstruct", or "decode"
    where the model cannot encode.

    `sample` and `log_prob` draw afresh at each call, in each process. Only the variables that the
    abilities use are written, so no discriminator and no optimizer.

    Args:
        model: A model of the zoo; it is not changed.
        path: A local folder, new or empty. It appears complete or not at all.
        overwrite: Whether `path` may be an older SavedModel, which is then replaced.
        averaged: Whether to write the moving averages of the weights that the optimizers keep.

    Returns:
        `{signature: {"inputs": {name: {"shape", "dtype"}}, "outputs": {...}}}`, which is also
        written to `path/abilities.json`.

    Raises:
        FileExistsError: If `path` is in use; with `overwrite`, if it is in use by something else.
        ValueError: If `averaged`, and no optimizer keeps averages.

    Example:
        >>> sorted(zoo.export.export(zoo.presets.gan_mlp((8, 8, 1)), "served/gan/1"))
        ['decode', 'sample', 'serving_default']
    """
    path = Path(os.path.abspath(path))
    _check_free(path, overwrite)
    with model.averaged_weights() if averaged else contextlib.nullcontext():
        module, signatures = _module(model)
        description = {name: _describe(function) for name, function in signatures.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        # All of it is made in a folder beside `path`, on the same disk, and then moved.
        workshop = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            tf.saved_model.save(module, str(workshop / "new"), signatures)
            text = json.dumps(description, indent=2) + "\n"
            (workshop / "new" / "abilities.json").write_text(text)
            _check_free(path, overwrite)  # Writing takes a while: somebody else may have come.
            _replace(path, workshop / "new", workshop / "old")
        finally:
            shutil.rmtree(workshop)
    return description


def _check_free(path, overwrite):
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / "saved_model.pb").is_file():
        raise FileExistsError(
            "A model is exported to a new or an empty folder, or in place of an older SavedModel "
            f"with `overwrite=True`. Received: '{path}', which is neither; choose another path."
        )
    if not overwrite:
        raise FileExistsError(
            f"Expected a new or an empty folder. Received: '{path}', which holds a SavedModel; "
            "choose another path, or pass `overwrite=True` to replace it."
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
    """A module with a function for each ability, and the signatures to save it with."""
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
    """The method as a `tf.function` of the tensors that it makes use of."""
    inputs, output = _ABILITIES[name]
    accepted = inspect.signature(method).parameters
    names = [inputs[0], *(n for n in (*inputs[1:], "y") if n in specs and n in accepted)]

    def ability(*tensors):
        arguments = dict(zip(names[1:], tensors[1:], strict=True))
        if "num_samples" in arguments:
            tf.debugging.assert_positive(
                arguments["num_samples"], "`num_samples` must be at least 1"
            )
        if "seed" in accepted:
            arguments["seed"] = _fresh_seed()
        result = tf.cast(method(tensors[0], **arguments), specs[output].dtype)
        return tf.ensure_shape(result, specs[output].shape)

    def compiled():
        # The names that the function can be called with, in this process and where it is loaded.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        ability.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])
        return tf.function(ability, input_signature=[specs[n] for n in names])

    function = compiled()
    if names[-1] == "y" and not function.get_concrete_function().inputs[len(names) - 1].consumers():
        names.pop()
        function = compiled()
    return function


def _fresh_seed():
    """A seed `[2]` that no seed set at the time of the export, or elsewhere, determines."""
    return tf.raw_ops.RandomUniformInt(
        shape=[2], minval=tf.int32.min, maxval=tf.int32.max, seed=0, seed2=0
    )


def _signature(function, output):
    """What a server calls: named tensors in, named tensors out."""
    specs = function.input_signature

    def named(*tensors):
        # TensorFlow holds callers of a function to its shapes, but not those of a signature.
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
