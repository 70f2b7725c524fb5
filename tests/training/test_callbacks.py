"""Checkpoints hold the whole state of training; pictures come after each epoch."""

import contextlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.training.callbacks import (
    DECAYS,
    Checkpoints,
    FitAveragedState,
    LearningRateDecay,
    MetricsRows,
    SampleGrids,
    TrainingTime,
)

BUILD = zoo.models.BUILDERS
SIZE = (8, 8, 1)


def gan(seed=0):
    """A GAN with dropout and moving averages of the weights."""
    keras.utils.set_random_seed(seed)
    model = BUILD["gan"](SIZE, latent_dim=3, generator_hidden=(8,), discriminator_hidden=(8,))
    model.compile(keras.optimizers.Adam(0.01, use_ema=True), jit_compile=False)
    return model


def vae(seed=0, hidden=8):
    keras.utils.set_random_seed(seed)
    model = BUILD["vae"](SIZE, latent_dim=3, hidden=(hidden,))
    model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    return model


def fit(model, digits, *callbacks, epochs=2, first=0):
    options = {"batch_size": 50, "shuffle": False, "verbose": 0}
    model.fit(
        digits[:100], callbacks=list(callbacks), initial_epoch=first, epochs=epochs, **options
    )


def state(model):
    """The state from which training resumes."""
    optimizers = [v for optimizer in model.optimizers.values() for v in optimizer.variables]
    metrics = {id(v) for m in [*model.metrics, model.first_non_finite] for v in m.variables}
    own = [v for v in model.variables if id(v) not in metrics]
    return [np.asarray(v) for v in own + optimizers]


def test_a_restored_model_has_the_whole_state_and_trains_identically(digits, tmp_path):
    whole = gan()
    fit(whole, digits, Checkpoints(tmp_path))
    restored = gan(seed=1)
    assert Checkpoints(tmp_path).restore(restored) == 2
    for have, want in zip(state(restored), state(whole), strict=True):
        np.testing.assert_array_equal(have, want)
    for model in (whole, restored):
        fit(model, digits, first=2, epochs=3)
    for have, want in zip(state(restored), state(whole), strict=True):
        np.testing.assert_array_equal(have, want)


def test_an_absent_folder_restores_nothing_and_is_not_created(tmp_path):
    model = vae()
    before = state(model)
    assert Checkpoints(tmp_path / "none").restore(model) == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, state(model), strict=True))
    assert not list(tmp_path.rglob("ckpt*"))


def test_the_latest_checkpoints_are_kept_and_named_by_their_epoch(digits, tmp_path):
    fit(vae(), digits, Checkpoints(tmp_path, keep=2), epochs=4)
    assert sorted(path.name for path in tmp_path.glob("*.index")) == [
        "ckpt-3.index",
        "ckpt-4.index",
    ]


def test_a_process_without_write_access_restores_checkpoints(digits, tmp_path):
    fit(vae(), digits, Checkpoints(tmp_path / "none", write=False), epochs=1)
    assert not list(tmp_path.rglob("ckpt*"))
    fit(vae(), digits, Checkpoints(tmp_path), epochs=1)
    assert Checkpoints(tmp_path, write=False).restore(vae(seed=1)) == 1


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of two epochs."""
    folder = tmp_path_factory.mktemp("saved")
    model = vae()
    checkpoints = Checkpoints(folder)
    checkpoints.set_model(model)
    checkpoints.on_train_begin()
    for epoch in range(2):
        model.step.assign(epoch + 1)
        checkpoints.on_epoch_end(epoch)
    return folder


def flip(path, place):
    """Flips a bit of a file, at `place`, a share of its length."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


def cut(path, length):
    content = path.read_bytes()
    path.write_bytes(content[: int(length * len(content))])


INDEX, DATA = "ckpt-2.index", "ckpt-2.data-00000-of-00001"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "checkpoint").unlink(),
        lambda folder: (folder / "checkpoint").write_bytes(b""),
        lambda folder: cut(folder / "checkpoint", 0.4),
        lambda folder: (folder / "checkpoint").write_bytes(bytes(range(256))),
        lambda folder: (folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-7"'),
        lambda folder: flip(folder / "checkpoint", 0.1),
    ],
    ids=["lost", "empty", "cut", "garbage", "of a lost checkpoint", "one bit"],
)
def test_checkpoints_are_found_without_the_file_that_names_the_latest(damage, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    damage(folder)
    model, said = vae(seed=1), []
    assert Checkpoints(folder).restore(model, said.append) == 2
    assert int(model.step) == 2 and not said


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda folder, p=place: flip(folder / DATA, p) for place in (0, 0.3, 0.6, 0.99)),
        *(lambda folder, p=place: flip(folder / INDEX, p) for place in (0, 0.3, 0.6, 0.999)),
        *(
            lambda folder, n=n, p=place: cut(folder / n, p)
            for n in (DATA, INDEX)
            for place in (0, 0.5, 0.99)
        ),
        lambda folder: (folder / DATA).unlink(),
        lambda folder: (folder / INDEX).unlink(),
    ],
)
def test_a_damaged_checkpoint_is_skipped_with_a_message(damage, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    damage(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model, said = vae(seed=1), []
    assert Checkpoints(folder).restore(model, said.append) == 1
    assert int(model.step) == 1
    assert len(said) == 1 and f"'{folder}/ckpt-2' is damaged and skipped" in said[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_single_damaged_checkpoint_is_reported(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    for path in folder.glob("ckpt-*.index"):
        flip(path, 0)
    with pytest.raises(ValueError, match=r"ckpt-2' is damaged.*no whole checkpoint.*--overwrite"):
        Checkpoints(folder).restore(vae())
    for path in folder.glob("ckpt-*"):
        path.unlink()
    with pytest.raises(ValueError, match="no whole checkpoint"):
        Checkpoints(folder).restore(vae())


def test_training_after_a_damaged_checkpoint_replaces_it(saved, digits, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    (folder / "checkpoint").write_bytes(bytes(range(256)))
    cut(folder / DATA, 0.5)
    model = vae(seed=1)
    assert Checkpoints(folder).restore(model, len) == 1
    fit(model, digits, Checkpoints(folder), first=1, epochs=3)
    assert {path.name for path in folder.glob("*.index")} == {"ckpt-2.index", "ckpt-3.index"}
    said = []
    assert Checkpoints(folder).restore(vae(), said.append) == 3 and not said


def test_a_checkpoint_of_another_model_is_not_reported_as_damaged(saved):
    with pytest.raises(ValueError, match="ckpt-2' is whole, but belongs to another model"):
        Checkpoints(saved).restore(vae(hidden=9))


def test_an_error_of_the_file_system_names_the_folder_of_the_checkpoints(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    checkpoints = Checkpoints(folder)
    checkpoints.set_model(vae())
    checkpoints.on_train_begin()
    shutil.rmtree(folder)
    folder.write_text("a file")
    with pytest.raises(OSError) as error:
        checkpoints.on_epoch_end(2)
    assert error.value.filename == str(folder)


def test_a_full_disk_names_the_metrics(digits, tmp_path):
    rows = MetricsRows(tmp_path / "metrics.csv", append=True)
    rows.set_params({"epochs": 1})
    rows.set_model(vae())
    rows.on_train_begin()
    with open("/dev/full", "w") as full:
        rows.csv_file.close()
        rows.csv_file = full
        with pytest.raises(OSError, match=r"No space left on device: '.*/metrics.csv'"):
            rows.on_epoch_end(0, {"loss": 1.0})
        with contextlib.suppress(OSError):
            full.close()


def test_the_end_of_an_epoch_names_metrics_that_were_removed(tmp_path):
    path = tmp_path / "run" / "metrics.csv"
    path.parent.mkdir()
    rows = MetricsRows(path, append=True)
    rows.on_train_begin()
    shutil.rmtree(path.parent)
    with pytest.raises(FileNotFoundError) as error:
        rows.on_epoch_end(0, {"loss": 1.0})
    assert error.value.filename == str(path)


def test_non_finite_weights_are_not_saved(digits, tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.step) == 4:
                weight = self.model.trainable_variables[0]
                weight.assign(weight * float("nan"))

    with pytest.raises(zoo.NonFiniteError, match="by step 4, the end of epoch 2, the weights"):
        fit(vae(), digits, Spoil(), Checkpoints(tmp_path), epochs=3)
    assert Checkpoints(tmp_path).restore(vae()) == 1


def test_grids_of_averaged_weights_have_their_batch_statistics(digits, tmp_path):
    model, latents = gan(), np.zeros([4, 3], np.float32)
    batches = tf.data.Dataset.from_tensor_slices(digits[:100]).batch(50)
    with pytest.raises(ValueError, match="Pass training data"):
        fit(model, digits, SampleGrids(tmp_path / "none", latents), epochs=1)
    fit(model, digits, FitAveragedState(batches), SampleGrids(tmp_path, latents), epochs=1)
    with model.averaged_weights(batches):
        zoo.pictures.samples(model, latents, tmp_path / "want.png")
    assert (tmp_path / "want.png").read_bytes() == (tmp_path / "epoch-0001.png").read_bytes()


def test_each_epoch_writes_a_grid_of_the_same_latents(digits, tmp_path):
    model = vae()
    fit(model, digits, SampleGrids(tmp_path / "grids", np.ones([4, 3], np.float32)))
    grids = sorted((tmp_path / "grids").iterdir())
    assert [path.name for path in grids] == ["epoch-0001.png", "epoch-0002.png"]
    assert grids[0].read_bytes() != grids[1].read_bytes()


class Rates(keras.callbacks.Callback):
    """Records each player's learning rate in each epoch."""

    def __init__(self):
        super().__init__()
        self.recorded = []

    def on_train_batch_end(self, batch, logs=None):
        rates = {p: float(o.learning_rate) for p, o in self.model.optimizers.items()}
        if not self.recorded or self.recorded[-1] != rates:
            self.recorded.append(rates)


class Clock(keras.callbacks.Callback):
    """A training step advances it by 1, a validation step by 100, the end of an epoch by 1,000."""

    now = 50.0

    def monotonic(self):
        return self.now

    def advance(self, by):
        self.now += by

    def on_train_batch_end(self, batch, logs=None):
        self.advance(1)

    def on_test_batch_end(self, batch, logs=None):
        self.advance(100)

    def on_epoch_end(self, epoch, logs=None):
        self.advance(1000)


@pytest.mark.parametrize("validation", [False, True])
def test_training_time_counts_only_training_steps(digits, validation, monkeypatch):
    clock, training_time = Clock(), TrainingTime()
    monkeypatch.setattr("zoo.training.callbacks.time", clock)
    model = zoo.models.autoencoder((8, 8, 1), latent_dim=2, hidden=(4,))
    model.compile("adam")
    for epochs in (3, 2):  # A second training starts from zero.
        model.fit(
            digits[:40],
            batch_size=10,
            epochs=epochs,
            validation_data=(digits[:20],) if validation else None,
            callbacks=[training_time, clock],
            verbose=0,
        )
        assert training_time.seconds == 4 * epochs
    assert clock.now == 50 + 20 + 5 * 1000 + validation * 5 * 2 * 100


def test_learning_rates_decay_with_the_share_of_epochs_and_resume(digits):
    rates = {"discriminator": 0.01, "generator": 0.04}
    first = Rates()
    fit(gan(), digits, LearningRateDecay("cosine", rates), first, epochs=4)
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))
    for player, rate in rates.items():
        np.testing.assert_allclose([r[player] for r in first.recorded], rate * expected, rtol=1e-5)
    later = Rates()
    fit(gan(), digits, LearningRateDecay("cosine", rates), later, epochs=4, first=2)
    assert later.recorded == first.recorded[2:]


def test_the_decays_start_at_one_and_end_at_zero():
    for name, factor in DECAYS.items():
        assert factor(0.0) == 1.0
        assert factor(1.0) == pytest.approx(1.0 if name == "none" else 0.0)
    assert DECAYS["linear"](0.25) == 0.75
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        LearningRateDecay("cosin", {})
