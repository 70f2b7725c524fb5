"""Programs for an accelerator with JAX: the same training as `fit`, here on the CPU."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo import presets, training
from zoo.files import read_json
from zoo.training.callbacks import DECAYS
from zoo.training.train import prepared

pytest.importorskip("jax", reason="JAX is not installed; the extra 'accelerator' has it.")

from benchmarks.accelerator import run as accelerator
from benchmarks.accelerator.program import Program


def begun(path, preset="vae_digits", *changes):
    config = presets.get(preset)
    presets.override(config, ["evaluation.every=0", "epochs=2", *changes])
    run = training.Run(path / "run")
    run.begin(config)
    return run


def rows_of_the_pipeline(program, epoch):
    """The rows that `batches` reads."""
    data = program.data
    order = data._shuffled(data.sizes["train"], 1, tf.constant(epoch, tf.int64))
    n = program.config.batch_size
    return np.asarray(order)[: program.steps * n].reshape(-1, n)


def test_an_epoch_is_that_of_fit(tmp_path):
    # XLA, the kernels and the pipeline draw other numbers.
    program = Program(begun(tmp_path, "vae_digits", "binarize=None", "steps_per_execution=1"))
    rows = rows_of_the_pipeline(program, 0)
    scores, failed = program.epoch(tf.constant(0, tf.int64), tf.constant(rows), program.rates)
    config = program.config
    keras.utils.set_random_seed(config.seed)
    data, model = prepared(config)
    history = model.fit(
        data.batches("train", config.batch_size, shuffle=True, repeat=True),
        steps_per_epoch=program.steps,
        validation_data=data.batches("validation", config.batch_size),
        verbose=0,
    ).history
    assert int(failed) == -1
    for name, (trained, tested) in zip(program.names, np.transpose(scores), strict=True):
        np.testing.assert_allclose(trained, history[name][0], rtol=1e-5)
        np.testing.assert_allclose(tested, history[f"val_{name}"][0], rtol=1e-5)
    for own, other in zip(program.model.weights, model.weights, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("vae_digits", ("learning_rate_decay=cosine",)),
        ("m2_digits", ()),
        ("dcgan_digits", ("optimizers.generator.use_ema=true",)),
    ],
)
def test_jax_computes_what_tensorflow_computes(tmp_path, preset, changes):
    run = begun(tmp_path, preset, *changes)
    program = Program(run)
    program.write(tmp_path / "programs" / "run", platform="cpu")
    own = accelerator.Program(tmp_path / "programs" / "run")
    lines = []
    final = own.train(2, lines.append)
    decay = DECAYS[program.config.learning_rate_decay]
    for epoch in range(2):
        scores, _ = program.epoch(
            tf.constant(epoch, tf.int64),
            tf.constant(own.rows(epoch)),
            np.float32(program.rates) * np.float32(decay(epoch / 2)),
        )
        np.testing.assert_allclose(final["results"][epoch], scores, rtol=2e-3, atol=1e-3)
    for i, variable in enumerate(program.variables):
        if f"variable_{i}" in final:
            np.testing.assert_allclose(final[f"variable_{i}"], variable, rtol=5e-2, atol=5e-3)
    assert len(lines) == 2 and final["seconds"].shape == (2,)


def test_results_finish_the_run(tmp_path):
    run = begun(tmp_path)
    Program(run).write(tmp_path / "programs" / "run", platform="cpu")
    final = accelerator.Program(tmp_path / "programs" / "run").train(2, lambda line: None)
    np.savez(tmp_path / "run.npz", **final)
    Program(run).finish(tmp_path / "run.npz", lambda line: None)
    model, history = run.load_model(), run.read_metrics()
    trained = [final[name] for name in sorted(final) if name.startswith("variable_")]
    for weight in model.trainable_variables:
        assert any(np.array_equal(weight, own) for own in trained)
    assert history["epoch"] == [0, 1]
    assert history["loss"][0] == pytest.approx(final["results"][0, 0, 0])
    assert history["val_loss"][1] == pytest.approx(final["results"][1, 1, 0])
    assert read_json(run.path / "times.json", {"training_seconds": float})
    assert (run.path / "samples.png").is_file() and not run.checkpoints_dir.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("strategy=mirrored",), "`strategy` must be 'default'. Received: 'mirrored'"),
        (("mixed_precision=true",), "`mixed_precision` must be False. Received: True"),
        (("evaluation.every=1",), "`evaluation.every` must be 0"),
    ],
)
def test_settings_that_programs_lack_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        Program(begun(tmp_path, "vae_digits", *changes))


def test_a_result_that_is_not_finite_stops_the_training(tmp_path):
    run = begun(tmp_path, "vae_digits", "optimizers.vae.learning_rate=1e30")
    Program(run).write(tmp_path / "programs" / "run", platform="cpu")
    with pytest.raises(ArithmeticError, match=r"run: a result of step [0-9]+ is not finite"):
        accelerator.Program(tmp_path / "programs" / "run").train(2, lambda line: None)


def test_orders_repeat_no_row_before_all_are_drawn():
    candidates = np.arange(100, 112)
    rows = accelerator.order(np.random.default_rng(0), candidates, 30, 1)
    assert sorted(rows[:12]) == sorted(rows[12:24]) == [*candidates] and len(rows) == 30
    assert list(rows[:12]) != [*candidates]
    groups = accelerator.order(np.random.default_rng(0), candidates, 12, 3).reshape(-1, 3)
    assert all(list(g) == [g[0], g[0] + 1, g[0] + 2] and g[0] % 3 == 1 for g in groups)


@pytest.mark.parametrize("decay", DECAYS)
def test_rates_fall_as_in_training(decay):
    for progress in (0.0, 0.3, 0.9):
        assert math.isclose(accelerator.factor(decay, progress), DECAYS[decay](progress))
