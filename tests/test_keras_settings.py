"""Settings of Keras that the zoo does not support, at import and later."""

import ast
import importlib
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from zoo import keras_settings

CHANNELS = "channels last.*Received: .*'channels_first'.*set_image_data_format"


@pytest.fixture(autouse=True)
def restored():
    layout, floatx = keras.config.image_data_format(), keras.config.floatx()
    yield
    keras.config.set_image_data_format(layout)
    keras.config.set_floatx(floatx)


def test_the_settings_are_checked_before_other_modules_are_imported():
    tree = ast.parse(pathlib.Path(zoo.__file__).read_text())
    first, *_ = (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    assert [alias.name for alias in first.names] == ["keras_settings"]


def test_channels_first_is_refused_at_import():
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match=CHANNELS):
        importlib.reload(keras_settings)


@pytest.mark.parametrize("floatx", ["float16", "bfloat16", "float64"])
def test_another_default_type_of_floats_is_refused_at_import(floatx):
    keras.config.set_floatx(floatx)
    with pytest.raises(
        ValueError, match=f"float32.*Received: Keras's floatx '{floatx}'.*set_floatx"
    ):
        importlib.reload(keras_settings)


def test_a_backend_that_is_not_installed_is_refused_in_a_sentence():
    done = subprocess.run(
        [sys.executable, "-c", "import zoo"],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        cwd=pathlib.Path(zoo.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    message = done.stderr.splitlines()[-1]
    assert message.startswith(
        "zoo.keras_settings.SettingError: The zoo needs Keras's backend 'tensorflow'. "
    )
    assert "Received: the backend 'jax'. Set the environment variable KERAS_BACKEND" in message


def test_an_installed_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(ImportError, match=r"'tensorflow'\. Received: the backend 'torch'"):
        importlib.reload(keras_settings)


@pytest.mark.parametrize("error", [ValueError("Unable to import backend : foo"), AssertionError()])
def test_a_setting_that_keras_does_not_know_is_refused(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(keras.config, "backend", fail)
    with pytest.raises(ImportError, match=r"Received: settings in ~/.keras/keras.json"):
        importlib.reload(keras_settings)


PROGRAMS = ("trainers.cli", "trainers.train", "benchmarks.compare", "benchmarks.speed.passes")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_end_with_the_sentence(name, monkeypatch):
    """Before other modules are imported, as from `python -m` and as a console command."""
    for module in [m for m in sys.modules if m.partition(".")[0] in ("trainers", "benchmarks")]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("zoo", "zoo.keras_settings"):
        monkeypatch.delitem(sys.modules, module)
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(SystemExit, match=f"Error: .*{CHANNELS}"):
        importlib.import_module(name)


def test_another_error_of_an_import_keeps_its_traceback(monkeypatch):
    monkeypatch.delitem(sys.modules, "trainers", raising=False)
    monkeypatch.setitem(sys.modules, "zoo", None)  # As if it were not installed.
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("trainers")


SHAPE = (28, 28, 1)
NETWORKS = {
    "mlp_encoder": lambda: zoo.networks.mlp_encoder(SHAPE, 2),
    "mlp_decoder": lambda: zoo.networks.mlp_decoder(2, SHAPE),
    "mlp_discriminator": lambda: zoo.networks.mlp_discriminator(SHAPE),
    "conv_encoder": lambda: zoo.networks.conv_encoder(SHAPE, 2),
    "conv_decoder": lambda: zoo.networks.conv_decoder(2, SHAPE),
    "dcgan_generator": lambda: zoo.networks.dcgan_generator(2, SHAPE),
    "dcgan_discriminator": lambda: zoo.networks.dcgan_discriminator(SHAPE),
    "classifier": zoo.features.classifier.classifier,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_is_built_after_a_change_to_channels_first(name):
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match=CHANNELS):
        NETWORKS[name]()


@pytest.mark.parametrize("name", zoo.models.BUILDERS)
def test_no_builder_builds_a_model_after_a_change_to_channels_first(name):
    first = {
        option: zoo.models.BUILDERS[builder](SHAPE, latent_dim=2, hidden=(4,))
        for option, builder in zoo.models.required_runs(name).items()
    }
    keras.config.set_image_data_format("channels_first")
    shape = (*SHAPE[:2], 3) if name == "face_autoencoder" else SHAPE
    with pytest.raises(ValueError, match=CHANNELS):
        zoo.models.BUILDERS[name](shape, **first)


def test_a_model_of_other_networks_is_refused_after_a_change():
    encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    decoder = keras.Sequential([keras.Input((64,)), keras.layers.Reshape((8, 8, 1))])
    likelihood = zoo.Conditional(decoder, zoo.Bernoulli())
    assert zoo.Autoencoder(encoder, likelihood).latent_dim == 64
    for setting, value in (
        (keras.config.set_image_data_format, "channels_first"),
        (keras.config.set_floatx, "float64"),
    ):
        setting(value)
        with pytest.raises(ValueError, match=f"Received: .*'{value}'"):
            zoo.Autoencoder(encoder, likelihood)
        setting({"channels_first": "channels_last", "float64": "float32"}[value])


def test_weights_in_the_package_are_refused_with_the_true_cause():
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match=CHANNELS):
        zoo.from_preset("vae_conv_mnist")
    keras.config.set_image_data_format("channels_last")
    assert np.isfinite(zoo.from_preset("vae_conv_mnist").sample(1)).all()
