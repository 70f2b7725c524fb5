"""The properties of each model before training.

Each model is built once, and no test traces a training step.
"""

import json
import re

import keras
import numpy as np
import tensorflow as tf
from configs import CONFIGS
from harness import (
    annotations,
    class_of,
    conditions,
    every_model,
    every_model_traced,
    fresh,
)

import zoo
from zoo import mean_start, networks, presets
from zoo.conditions import rows_of

WHERE = "CONFIGS in tests/conformance/configs.py"


def entry_for(name):
    preset = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return f'    "{name}": Config("{preset}_digits", ("hidden=32",)),'


def difference(models):
    """Describes the change of `CONFIGS` that gives exactly these models."""
    listed = set(map(class_of, CONFIGS))
    missing = [f"Add to {WHERE}:\n{entry_for(name)}" for name in sorted(models - listed)]
    unknown = [f"Remove '{name}' from {WHERE}." for name in sorted(listed - models)]
    return "\n".join(missing + unknown)


def public_models():
    return {
        name
        for name, thing in vars(zoo).items()
        if isinstance(thing, type) and issubclass(thing, zoo.GenerativeModel)
    } - {"GenerativeModel"}


# Detects: a public model that conformance does not check.
def test_every_public_model_has_an_entry():
    if change := difference(public_models()):
        raise AssertionError(change)


# Detects: a model class that a user cannot reach as `zoo.NAME`.
def test_every_model_class_is_public():
    def subclasses(cls):
        return {cls} | {s for child in cls.__subclasses__() for s in subclasses(child)}

    defined = {c.__name__ for c in subclasses(zoo.GenerativeModel) if is_of_the_zoo(c)}
    private = sorted(defined - {"GenerativeModel"} - public_models())
    assert not private, f"Import {', '.join(private)} in zoo/models/__init__.py."


def is_of_the_zoo(cls):
    return cls.__module__.startswith("zoo.")


def test_a_missing_model_is_reported_with_the_line_to_add():
    models = {*map(class_of, CONFIGS), "TemperedVAE"}
    assert '"TemperedVAE": Config(' in difference(models)
    assert "tests/conformance/configs.py" in difference(models)
    assert difference(models - {"TemperedVAE"}) == ""


# Detects: a preset that builds another class; a builder that ignores a setting.
@every_model
def test_the_preset_builds_the_class(name):
    assert type(fresh(name)).__name__ == class_of(name)


# Detects: a weight that no optimizer updates, and a weight that only an optimizer knows.
@every_model
def test_every_trainable_variable_belongs_to_a_player(name):
    model = fresh(name)
    owned = {id(v) for player in model.players() for v in model.variables_of(player)}
    assert owned == {id(v) for v in model.trainable_variables}


# Detects: a constructor argument that is lost, or kept in a form that is not JSON.
@every_model
def test_the_config_survives_json(name):
    model = fresh(name)
    config = json.loads(json.dumps(model.get_config()))
    twin = type(model).from_config(config)
    assert json.dumps(twin.get_config()) == json.dumps(model.get_config())
    assert [v.shape for v in twin.weights] == [v.shape for v in model.weights]


# Detects: a loaded model that has other weights or fewer abilities if it is not compiled.
@every_model_traced
def test_a_file_loads_without_compiling(name, tmp_path):
    model = fresh(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert loaded.abilities() == model.abilities()


# Detects: results of another shape, type or range; a draw that ignores its seed; noise where there
# should be none; `predict` and `interpolate` that differ from `reconstruct`.
@every_model_traced
def test_abilities_work_on_arrays(name, images):
    model = fresh(name)
    can = model.abilities()
    z = np.zeros([3, model.latent_dim], np.float32)
    y = conditions(model, images[:3])
    condition = {} if y is None else {"y": y}
    results = {"decode": model.decode(z, **condition)}
    if "encode" in can:
        assert model.encode(images[:3], **condition).shape == z.shape
        results["reconstruct"] = model.reconstruct(images[:3], **condition)
        np.testing.assert_allclose(
            model.predict(images[:3] if y is None else [images[:3], y], verbose=0),
            results["reconstruct"],
            rtol=1e-5,
            atol=1e-6,
        )
        one = {name: rows_of(values, 0) for name, values in condition.items()}
        ends = model.interpolate(images[0], images[1], 3, **one)
        np.testing.assert_allclose(ends[0], results["reconstruct"][0], rtol=1e-4, atol=1e-5)
    if "sample" in can:
        results["sample"] = model.sample(3, seed=1, **condition)
        np.testing.assert_array_equal(results["sample"], model.sample(3, seed=1, **condition))
        one, other = (np.asarray(model.sample(3, **condition)) for _ in range(2))
        assert (one != other).any()
    if "log_prob" in can:
        assert model.log_prob(images[:3], 5, **condition).shape == (3,)
    for result in results.values():
        assert result.shape == (3, *model.image_shape)
        assert result.dtype == tf.float32
        assert (result.numpy() >= 0).all()
        assert (result.numpy() <= 1).all()


# Detects: a model whose decoder starts elsewhere; an option that its builder does not have.
@every_model
def test_a_new_decoder_returns_the_mean_image(name, images):
    model = fresh(name)
    starts = model.mean_starts()
    assert bool(starts) == ("start_at_mean" in presets.get(CONFIGS[name].preset).model)
    y = annotations(model, len(images)) if model.annotations else None
    for start in starts:
        for variable in start.network.trainable_variables:
            if variable.ndim > 1 or variable.path.endswith("bias"):
                variable.assign(np.zeros(variable.shape))
    mean_start.from_training(model, images, y)
    for start in starts:
        inputs = [np.zeros([1, *t.shape[1:]], t.dtype) for t in start.network.inputs]
        params = start.network(inputs if len(inputs) > 1 else inputs[0])
        values = images if start.values is None else start.values(images, y)
        mean = start.family(tf.cast(params, tf.float32), 3).mean()[0]
        if not networks.output_bias(start.network).per_value:  # One value for each channel
            mean, values = tf.reduce_mean(mean, [0, 1]), values.mean((1, 2))
        np.testing.assert_allclose(mean, np.mean(values, 0), atol=2e-3)
