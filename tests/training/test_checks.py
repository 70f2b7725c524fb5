"""The checks before a training run."""

import pathlib
import re

import pytest

import zoo
from zoo import presets, training
from zoo.training import Run


def built(name, *changes, levels=256):
    config = presets.get(name)
    presets.override(config, list(changes))
    return presets.build(config, (8, 8, 1), levels), config


@pytest.mark.parametrize(
    ("changes", "levels"),
    [(["binarize=dynamic"], 17), (["binarize=None"], 2)],
    ids=["binarised", "two levels"],
)
def test_a_continuous_bernoulli_on_binary_images_is_refused(changes, levels):
    model, config = built("vae_digits", "likelihood=continuous_bernoulli", *changes, levels=levels)
    with pytest.raises(ValueError, match=r"grows without bound.*zeros and ones.*'bernoulli'"):
        training.check_model(model, config, levels)


def test_a_continuous_bernoulli_on_grey_images_is_accepted():
    model, config = built("vae_digits", "likelihood=continuous_bernoulli", "binarize=None")
    training.check_model(model, config, 17)


@pytest.mark.parametrize("name", ["vae_digits", "gan_digits", "vaegan_digits", "aae_digits"])
def test_other_models_are_accepted_on_binary_images(name):
    model, config = built(name)
    training.check_model(model, config, 2)


def test_a_batch_larger_than_the_training_set_is_refused():
    model, _ = built("vae_digits")
    data = zoo.datasets.load("digits")
    training.check_data(model, data, 1000)
    with pytest.raises(ValueError, match="batch of 1001 is larger than the training set of 1000"):
        training.check_data(model, data, 1001)


def test_training_code_names_no_model_and_no_preset():
    """Model-specific behaviour belongs to the models."""
    names = {cls.__name__ for cls in vars(zoo).values() if isinstance(cls, type)}
    names |= {presets.get(name).builder for name in presets.names()} | set(presets.names())
    names -= {"GenerativeModel", "NonFiniteError"}
    examples = {"vae_digits"}  # in docstrings
    folder = pathlib.Path(training.__file__).parent
    for path in folder.glob("*.py"):
        words = set(re.findall(r"\w+", path.read_text()))
        assert not words & (names - examples), path


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([], ["epochs=9"], None),
        ([], ["steps_per_execution=2", "jit_compile=false"], None),
        ([], ["mixed_precision=true"], "mixed_precision=False"),
        ([], ["deterministic=true"], "deterministic=False"),
        (["learning_rate_decay=linear"], ["epochs=9"], "started with epochs="),
    ],
)
def test_a_run_continues_with_the_settings_that_its_epochs_depend_on(
    before, after, message, tmp_path
):
    config, run = presets.get("vae_digits"), Run(tmp_path)
    presets.override(config, before)
    run.begin(config)
    presets.override(config, after)
    if message is None:
        training.check_unchanged(run, config)
    else:
        with pytest.raises(ValueError, match=message):
            training.check_unchanged(run, config)
