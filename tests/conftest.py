"""Fixtures and settings of all tests: seeds, replicas, real images, models with known noise."""

import functools
import gc
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# XLA spends seconds on optimising models that run for milliseconds. Child processes inherit the
# variable.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import numpy as np
import pytest
import scipy.io
import tensorflow as tf
import tensorflow_datasets as tfds
import tensorflow_probability as tfp
from sklearn.datasets import load_digits

import zoo
from zoo.steps import turns_of

tfd = tfp.distributions

# Two devices for the tests of replicas. TensorFlow needs this setting before it uses a device.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    # One more than there are cores: some tests only wait for programs that they started.
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None


# Files or folders that take minutes, longest first. One worker runs a file, so that a long file
# that starts late would run alone at the end.
LONGEST = (
    "conformance",
    "test_export",
    "benchmarks",
    "trainers",
    "test_matrix",
    "test_model",
    "training",
    "test_contributing",
    "test_contract",
    "test_vaegan",
    "test_m2",
)


def pytest_configure(config):
    # pytest-xdist would sort files by their numbers of tests.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    def place(item):
        names = (item.path.stem, item.path.parent.name)
        return min((LONGEST.index(name) for name in names if name in LONGEST), default=len(LONGEST))

    items.sort(key=place)


def pytest_collection_finish():
    # Traces create millions of objects, and few of them are garbage. Frequent collections would
    # search all of them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def mirrored():
    """Two replicas. Tests share the strategy: a second one on the same devices breaks models."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(autouse=True)
def repeatable_weights():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def digits():
    """The first 200 of scikit-learn's digits, `[200, 8, 8, 1]` in [0, 1]."""
    return (load_digits().images[:200, ..., None] / 16).astype(np.float32)


def skip_or_fail(reason):
    """Skips the test, or fails it under ZOO_REQUIRE_DATA, as in continuous integration."""
    (pytest.fail if os.environ.get("ZOO_REQUIRE_DATA") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def prepared():
    """A function that loads a data set from TFDS_DATA_DIR, or skips the test if it is absent."""
    folder = os.environ.get("TFDS_DATA_DIR")

    @functools.cache  # MNIST takes seconds to read, and several tests use it.
    def load(name, **options):
        if not folder:
            skip_or_fail("TFDS_DATA_DIR is not set")
        if not (Path(folder).expanduser() / name).is_dir():
            skip_or_fail(f"{name} is not prepared in {folder}")
        return zoo.datasets.load(name, data_dir=folder, **options)

    return load


@pytest.fixture(scope="session")
def photo_weights():
    """The file of the extra `photos`. Without the extra the test is skipped."""
    path = zoo.features.efficientnet.installed()
    if path is None:
        skip_or_fail("the extra `photos` is not installed")
    return path


@pytest.fixture
def manual(tmp_path, monkeypatch):
    """TFDS's manual folder. It accepts small files in place of the registered downloads."""
    manager = tfds.download.DownloadManager
    monkeypatch.setattr(manager, "_register_or_validate_checksums", lambda *args, **kwargs: None)
    folder = tmp_path / "downloads" / "manual"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def make_svhn(manual):
    """A function that writes SVHN's original files, with random images: `make(train=5, test=3)`.

    It returns `{(part, pixels): digit}` of all images.
    """

    def make(**counts):
        rng = np.random.default_rng(0)
        stored = {}
        for part, count in counts.items():
            images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
            labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]  # the digit 0 is a 10
            scipy.io.savemat(manual / f"{part}_32x32.mat", {"X": images, "y": labels})
            for i in range(count):
                stored[part, images[..., i].tobytes()] = int(labels[i, 0]) % 10
        return stored

    return make


def known_noise(*shape):
    """The values that `KnownNormal` uses as standard normal noise."""
    return np.sin(1.0 + np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


class KnownNormal(tfd.Normal):
    """A normal whose draws are `loc + scale * known_noise` for every seed."""

    def _sample_n(self, n, seed=None):
        shape = [int(n), *self.batch_shape]
        return self.loc + self.scale * known_noise(*shape)


class KnownPosterior(zoo.distributions.Family):
    """A diagonal normal: means, then log scales."""

    params_per_value = 2

    def call(self, params, event_ndims):
        loc, log_scale = tf.split(params, 2, axis=-1)
        return tfd.Independent(KnownNormal(loc, tf.exp(log_scale)), event_ndims)


class KnownPrior(zoo.distributions.Prior):
    """N(0, I)."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim

    def call(self, y=None):
        return tfd.Independent(KnownNormal(tf.zeros(self.dim), 1.0), 1)


class Known:
    """Parts of models whose noise is `Known.noise(shape)` at each draw."""

    noise = staticmethod(known_noise)
    Posterior = KnownPosterior
    Prior = KnownPrior


@pytest.fixture
def known():
    return Known


@pytest.fixture
def loss_with_seeds():
    """A `NonSaturating` loss, and the seeds that it receives for its real and fake examples."""
    seeds = []

    class Recorded(zoo.adversarial.NonSaturating):
        def real(self, logits, seed=None):
            seeds.append(seed)
            return super().real(logits, seed)

        def fake(self, logits, seed=None):
            seeds.append(seed)
            return super().fake(logits, seed)

    return Recorded(), seeds


def snapshot_of(model):
    """The values of all variables of each player, including non-trainable ones."""
    return {
        player: [v.numpy() for layer in layers for v in layer.variables]
        for player, layers in model.players().items()
    }


@pytest.fixture
def snapshot():
    return snapshot_of


@pytest.fixture
def weight_changes():
    """The change of each player's trainable variables in a call: `weight_changes(model, step)`."""

    def measure(model, step):
        before = {p: [v.numpy() for v in model.variables_of(p)] for p in model.players()}
        step()
        return {
            p: [v.numpy() - b for v, b in zip(model.variables_of(p), before[p], strict=True)]
            for p in model.players()
        }

    return measure


@pytest.fixture
def single_turns():
    """Each turn of a model's rounds as a separate round: `single_turns(model, x, y=None)`.

    A turn is computed with the weights from before the earlier turns.
    """

    def separate(model, x, y=None):
        rounds = []
        for round in model.rounds():
            turns = list(turns_of(round.objective(x, y, tf.constant([1, 2]), True)))
            for i in range(len(turns)):

                def turn(*args, i=i, objective=round.objective, **kwargs):
                    return list(turns_of(objective(*args, **kwargs)))[i]

                rounds.append(round._replace(objective=turn))
        return rounds

    return separate


@pytest.fixture
def assert_descends():
    """Asserts that an SGD step with learning rate 1 changed variables by minus these gradients."""

    def check(change, gradients, rtol=1e-3):
        assert len(change) == len(gradients) > 0
        for have, gradient in zip(change, gradients, strict=True):
            want = -np.asarray(gradient)
            size = np.abs(want).max()
            assert size > 1e-7
            np.testing.assert_allclose(have, want, rtol=rtol, atol=rtol * size)

    return check
