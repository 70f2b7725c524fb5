"""Programs for an accelerator with JAX: the same training as `fit`, here on the CPU."""

import dataclasses
import math
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow

from zoo import presets, training
from zoo.datasets import ImageData
from zoo.files import read_json
from zoo.training.callbacks import DECAYS
from zoo.training.train import prepared

jax = pytest.importorskip("jax", reason="JAX is not installed; the extra 'accelerator' has it.")

from benchmarks.accelerator import read, write  # noqa: E402
from benchmarks.accelerator import run as accelerator  # noqa: E402
from benchmarks.accelerator.program import Program  # noqa: E402
from benchmarks.paper_tables import TABLES  # noqa: E402
from benchmarks.tables.table import begin, keep_epochs  # noqa: E402


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
        slow("m2_digits", ()),
        slow("dcgan_digits", ("optimizers.generator.use_ema=true",)),
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
    trained = {id(v.value) for v in program.model.trainable_variables}
    for i, variable in enumerate(program.variables):
        assert f"variable_{i}" in final or id(variable) not in trained
        if f"variable_{i}" in final:
            np.testing.assert_allclose(final[f"variable_{i}"], variable, rtol=5e-2, atol=5e-3)
    assert len(lines) == 2 and final["seconds"].shape == (2,)


def trained_elsewhere(tmp_path, run):
    """The file of the results of a run."""
    Program(run).write(tmp_path / "programs" / "run", platform="cpu")
    final = accelerator.Program(tmp_path / "programs" / "run").train(2, lambda line: None)
    np.savez(tmp_path / "run.npz", **final)
    return tmp_path / "run.npz", final


@pytest.mark.parametrize(
    ("preset", "changes"),
    [("vae_digits", ()), ("gan_digits", ("optimizers.generator.use_ema=true",))],
)
def test_results_finish_the_run(tmp_path, preset, changes):
    run = begun(tmp_path, preset, *changes)
    path, final = trained_elsewhere(tmp_path, run)
    program = Program(run)
    program.finish(path, lambda line: None)
    model, history = run.load_model(), run.read_metrics()
    own = [f"variable_{i}" for i, v in enumerate(program.variables) if is_trained(v, program)]
    for weight, name in zip(trained_variables(model, program), own, strict=True):
        np.testing.assert_array_equal(weight, final[name])
    assert history["epoch"] == [0, 1]
    first = program.names[0]
    assert history[first][0] == pytest.approx(final["results"][0, 0, 0])
    assert history[f"val_{first}"][1] == pytest.approx(final["results"][1, 1, 0])
    assert read_json(run.path / "times.json", {"training_seconds": float})
    assert (run.path / "samples.png").is_file() and not run.checkpoints_dir.exists()
    assert read_json(run.results_path, {"device": str, "epochs": int})["epochs"] == 2
    if changes:
        before = [np.asarray(v) for v in model.generator.trainable_variables]
        with model.averaged_weights():
            after = [np.asarray(v) for v in model.generator.trainable_variables]
        assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        averages = {i for i, v in enumerate(program.variables) if "average" in v.name}
        assert {a.tobytes() for a in after} <= {final[f"variable_{i}"].tobytes() for i in averages}
    with pytest.raises(ValueError, match="whose training has begun"):
        program.write(tmp_path / "programs" / "other", platform="cpu")


def is_trained(variable, program):
    return id(variable) in {id(v.value) for v in program.model.trainable_variables}


def trained_variables(model, program):
    """The trainable variables in the order of the program's variables."""
    order = [id(v.value) for v in program.model.trainable_variables]
    wanted = [order.index(id(v)) for v in program.variables if id(v) in order]
    return [model.trainable_variables[i] for i in wanted]


def test_results_of_another_program_are_refused(tmp_path):
    run = begun(tmp_path)
    path, final = trained_elsewhere(tmp_path, run)
    program = Program(run)
    np.savez(path, **final | {"program": "other"})
    with pytest.raises(ValueError, match="a program with another configuration"):
        program.finish(path)
    del final["variable_1"]
    np.savez(path, **final)
    with pytest.raises(ValueError, match="lack variable_1"):
        program.finish(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"run.npz' are damaged"):
        program.finish(path)
    with pytest.raises(FileNotFoundError):
        program.finish(tmp_path / "none.npz")
    assert not run.metrics_path.exists() and not run.model_path.exists()
    other = begun(tmp_path / "other", "vae_digits", "seed=1")
    with pytest.raises(ValueError, match="has the program of another run"):
        Program(other).write(tmp_path / "programs" / "run", platform="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("strategy=mirrored",), "`strategy` must be 'default'. Received: 'mirrored'"),
        (("mixed_precision=true",), "`mixed_precision` must be False. Received: True"),
        (("deterministic=true",), "`deterministic` must be False. Received: True"),
        (("evaluation.every=1",), "`evaluation.every` must be 0"),
        (("evaluation.at=(1,)",), "`evaluation.at` empty"),
    ],
)
def test_settings_that_programs_lack_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        Program(begun(tmp_path, "vae_digits", *changes))


def test_images_that_are_decoded_in_batches_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageData, "decoded_in_batches", True)
    with pytest.raises(ValueError, match=r"decoded batch by batch\. Received: .*'digits'"):
        Program(begun(tmp_path))


def test_a_validation_smaller_than_a_batch_is_one_batch(tmp_path):
    program = Program(begun(tmp_path, "vae_digits", "batch_size=400"))
    rows = tf.constant(rows_of_the_pipeline(program, 0))
    scores, failed = program.epoch(tf.constant(0, tf.int64), rows, program.rates)
    assert program.data.sizes["validation"] < 400
    assert int(failed) == -1 and np.isfinite(scores).all() and scores[1, 0] > 0


def test_a_result_that_is_not_finite_stops_the_training(tmp_path):
    run = begun(tmp_path, "vae_digits", "optimizers.vae.learning_rate=1e30")
    Program(run).write(tmp_path / "programs" / "run", platform="cpu")
    # The first step is number 0. Its update makes the second one infinite.
    with pytest.raises(ArithmeticError, match="a result of step 1 is not finite"):
        accelerator.Program(tmp_path / "programs" / "run").train(2, lambda line: None)


def test_products_are_asked_for_in_float32(tmp_path):
    Program(begun(tmp_path)).write(tmp_path / "run", platform="cuda")
    content = jax.export.deserialize(bytearray((tmp_path / "run" / "epoch.jax").read_bytes()))
    text = content.mlir_module()
    assert "precision = [HIGHEST, HIGHEST]" in text and "precision = [DEFAULT" not in text
    assert content.platforms == ("cuda",)


def test_the_three_programs_train_a_run(tmp_path, monkeypatch, capsys):
    run = training.Run(tmp_path / "run")
    programs, results = tmp_path / "programs", tmp_path / "results"

    def flags(**values):
        return types.SimpleNamespace(
            **{"runs": [str(run.path)], "table": None, "programs": str(programs)}
            | {"results": str(results), "platform": "cpu", "epochs_of": None, "preset": None}
            | {"output": str(run.path), "seed": 3, "set": ["epochs=2"]}
            | values
        )

    monkeypatch.setattr(write, "FLAGS", flags(runs=[], preset="vae_digits"))
    write.main()
    assert run.read_config().seed == 3
    with pytest.raises(FileExistsError):
        write.main()
    monkeypatch.setattr(write, "FLAGS", flags())
    write.main()  # A run that has begun before.
    command = ["run.py", str(programs), str(results), "--seconds=0.5", "--only=run"]
    monkeypatch.setattr(sys, "argv", command)
    accelerator.main()
    monkeypatch.setattr(read, "FLAGS", flags())
    read.main()
    assert run.load_model().sample(3).shape == (3, 8, 8, 1)
    read.main()
    assert "finished before" in capsys.readouterr().out
    for wrong in (["--only=other"], ["--epochs=0"], ["--seconds=0"]):
        monkeypatch.setattr(sys, "argv", ["run.py", str(programs), str(results), *wrong])
        with pytest.raises(SystemExit):
            accelerator.main()
    for options, message in (
        ({"runs": []}, "one of --preset, --table and --runs. Received: none of them"),
        ({"preset": "vae_digits"}, "Received: --runs, --preset"),
        ({"runs": [], "table": "digits"}, "--table needs the numbers of epochs"),
    ):
        monkeypatch.setattr(write, "FLAGS", flags(**options))
        with pytest.raises(ValueError, match=message):
            write.main()
    monkeypatch.setattr(read, "FLAGS", flags(runs=[str(begun(tmp_path / "new").path / "x")]))
    with pytest.raises(FileNotFoundError, match="No results of the runs"):
        read.main()


def test_a_table_begins_its_runs_and_keeps_their_epochs(tmp_path):
    table = TABLES["digits"]
    rows = [row.name for row in table.rows if row.trained_as is None][:2]
    folder, epochs = tmp_path / "digits", dict.fromkeys(rows, 5)
    with pytest.raises(ValueError, match="Received: another"):
        begin(table, folder, 0, {"another": 3})
    assert not folder.exists()
    runs = begin(table, folder, 0, epochs)
    assert [run.path for run in begin(table, folder, 0, epochs)] == [run.path for run in runs]
    assert all(run.read_config().epochs == 5 for run in runs)
    config = runs[0].read_config()
    config.epochs = 3
    runs[0].write_config(config)
    runs[0].results_path.write_text("{}")
    keep_epochs(table, folder)
    kept = read_json(folder / "plan.json", {"epochs": dict})["epochs"]
    assert kept == {rows[0]: 3, rows[1]: 5}
    runs[1].results_path.write_text("{}")
    with pytest.raises(ValueError, match=r"equal epochs .* for all rows"):
        keep_epochs(dataclasses.replace(table, equal_epochs=True), folder)


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


def test_a_device_is_named_by_its_kind_and_a_cpu_by_its_cores(monkeypatch):
    gpu = types.SimpleNamespace(platform="gpu", device_kind="NVIDIA H200")
    assert accelerator._named(gpu) == "NVIDIA H200"
    cpu = types.SimpleNamespace(platform="cpu", device_kind="cpu")
    for cores, expected in (({0}, "1 CPU core (JAX)"), ({0, 1}, "2 CPU cores (JAX)")):
        monkeypatch.setattr(accelerator.os, "sched_getaffinity", lambda _, c=cores: c)
        assert accelerator._named(cpu) == expected
