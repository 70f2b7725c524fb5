"""Builds the models of `CONFIGS` and the data for them.

A model is built once in each process, and its training step is traced once: `fresh` restores the
model for the next test. A trace takes longer than several eager steps, and XLA's compilation takes
longer than a trace. Tests that share a model are therefore in one file, which one worker
runs. A test that trains another model trains it eagerly.
"""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from configs import CONFIGS, REPRESENTATIVE

import zoo
from zoo import presets
from zoo.resizing import box_average

SHAPE = (8, 8, 1)
BATCH = 32


def slow_except(fast):
    """All models as the parameter `name` of a test, which is slow except with the fast models."""
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS if name not in fast]
    return pytest.mark.parametrize("name", [*fast, *slow])


every_model = pytest.mark.parametrize("name", CONFIGS)
every_model_traced = slow_except(REPRESENTATIVE)


def class_of(name):
    return name.partition("-")[0]


def build(name, *settings):
    """A new model, always with the same weights."""
    own = CONFIGS[name]
    config = presets.get(own.preset)
    plain = ("jit_compile=false", "steps_per_execution=1")
    presets.override(config, [*plain, *own.settings, *settings])
    keras.utils.set_random_seed(0)
    model = presets.build(config, (*SHAPE[:2], own.channels), levels=17)
    if model.semi_supervised:
        data = zoo.datasets.load("digits", num_labels=100)
        # An untrained M1 uses no dimension by the threshold of the paper's code.
        model.adapt(data, **({"threshold": 0.0} if isinstance(model, zoo.M1M2) else {}))
    return model


def variables(model):
    """The state that training depends on: weights, statistics, step, optimizers."""
    return model.weights + [v for o in model.optimizers.values() for v in o.variables]


def state(model):
    return [np.array(v) for v in variables(model)]


@functools.cache
def _built(name):
    model = build(name)
    return model, state(model)


def fresh(name):
    """The model of this process, with the weights and optimizers of a new one."""
    model, start = _built(name)
    for variable, value in zip(variables(model), start, strict=True):
        variable.assign(value)
    return model


@functools.cache
def binary_digits():
    """The first 160 training images of the digits, binarised: `[160, 8, 8, 1]`, 0 or 1."""
    return zoo.datasets.load("digits", binarize="fixed").arrays("train", limit=160)[0]


@functools.cache
def images_for(name):
    """The binary digits; with several channels, digits that move to the right."""
    frames = [np.roll(binary_digits(), t, 2) for t in range(CONFIGS[name].channels)]
    return np.concatenate(frames, -1)


def conditions(model, images):
    """A condition for each image, if the model takes one: a class, a small image, the lower left
    quadrant, or annotations.
    """
    if model.condition is None:
        return None
    if model.annotations:
        return annotations(model, len(images))
    if model.condition.shape.rank == 1:
        return np.arange(len(images)) % 10
    if (factor := zoo.conditions.factor(model)) is not None:
        return box_average(images, factor).numpy()
    seen = np.zeros([8, 8, 1], bool)
    seen[4:, :4] = True
    return np.where(seen, images, -1).astype(np.float32)


def annotations(model, n):
    """The annotations that the objective reads, of `n` images."""
    random = np.random.default_rng(0)
    known = {
        "varied": lambda: np.arange(n) // model.group_size % len(model.units),
        "attributes": lambda: random.uniform(size=[n, *model.condition.shape[1:]]),
        "mask": lambda: random.integers(0, 10, [n, *SHAPE[:2], 1]) / 9,
        "landmarks": lambda: random.uniform(1, 6, [n, 8, 2]),
    }
    return {name: known[name]() for name in model.annotations}


def batches(images, model, number=None):
    """Batches `x` or `(x, y)` of `BATCH` images, `number` of them at most."""
    y = annotations(model, len(images)) if model.annotations else conditions(model, images)
    data = tf.data.Dataset.from_tensor_slices(images if y is None else (images, y))
    data = data.batch(BATCH, drop_remainder=True)
    return data if number is None else data.take(number)


def training_batches(images, model, number=None):
    """As `batches`; for a semi-supervised model two streams, `((x_labelled, y), x_unlabelled)`."""
    data = batches(images, model, number)
    if not model.semi_supervised:
        return data
    half = BATCH // 2
    labels = tf.range(half) % 10
    return data.map(lambda x, *_: ((x[:half], labels), x[half:]))


def training_batch(images, model):
    """The first of `training_batches`, as tensors."""
    return next(iter(training_batches(images, model, 1)))


def objective_inputs(batch):
    """The `x` and `y` that `train_step` passes to an objective."""
    if not isinstance(batch, tuple):
        return batch, None
    if isinstance(batch[0], tuple):
        (x_labelled, y), x_unlabelled = batch
        return (x_labelled, x_unlabelled), y
    return batch


@contextlib.contextmanager
def eagerly(model):
    """A context in which the model's steps run without a trace."""
    model.run_eagerly = True
    try:
        yield model
    finally:
        model.run_eagerly = False


def evaluate_eagerly(model, data):
    """As `model.evaluate`."""
    with eagerly(model):
        return model.evaluate(data, verbose=0, return_dict=True)


def assert_same(a, b):
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def differs(a, b):
    return any((x != y).any() for x, y in zip(a, b, strict=True))


def assert_finite(numbers):
    assert numbers
    for name, value in numbers.items():
        assert np.isfinite(value).all(), name
