"""A killed and resumed run has the same final weights, bit for bit, as an uninterrupted run."""

import functools
import json

import numpy as np
import programs
import pytest
from programs import error_message, start, until, weights
from speed import slow

# Runs are compared bit by bit, so each one has a separate process.
run = functools.partial(programs.run, forked=True)
succeed = functools.partial(programs.succeed, forked=True)

FLAGS = {
    "vae_digits": ["--set=hidden=16"],
    "gan_digits": ["--set=generator_hidden=16", "--set=discriminator_hidden=16"],
}


def flags(preset, path, epochs=4, more=()):
    common = ["--nojit_compile", "--deterministic", "--noprogress", f"--epochs={epochs}"]
    return [f"--preset={preset}", f"--output={path}", *FLAGS[preset], *common, *more]


@pytest.fixture(scope="module")
def uninterrupted_run(tmp_path_factory):
    """Uninterrupted runs, each trained once: `uninterrupted_run(preset, epochs)`."""
    finished = {}

    def train(preset, epochs=4):
        if (preset, epochs) not in finished:
            path = tmp_path_factory.mktemp("whole") / preset
            succeed("train", *flags(preset, path, epochs))
            finished[preset, epochs] = path
        return finished[preset, epochs]

    return train


def assert_same(a, b):
    old, new = weights(a / "model.keras"), weights(b / "model.keras")
    assert old.keys() == new.keys() and len(old) > 8
    different = [name for name in old if not np.array_equal(old[name], new[name])]
    assert not different
    assert (a / "metrics.csv").read_text() == (b / "metrics.csv").read_text()
    results = [json.loads((path / "results.json").read_text())["test"] for path in (a, b)]
    assert results[0] == results[1]


def in_the_middle_of_an_epoch(path):
    return (path / "samples" / "epoch-0002.png").exists() and not list(path.glob("*.keras"))


def as_a_row_is_written(path):
    metrics = path / "metrics.csv"
    return metrics.exists() and metrics.read_text().count("\n") >= 3


def as_the_first_checkpoint_is_written(path):
    return any((path / "checkpoints").glob("*"))


def as_a_later_checkpoint_is_written(path):
    return any((path / "checkpoints").glob("ckpt-3*"))


def before_the_first_step(path):
    return (path / "config.json").exists()


MOMENTS = [
    before_the_first_step,
    as_the_first_checkpoint_is_written,
    as_a_row_is_written,
    in_the_middle_of_an_epoch,
    as_a_later_checkpoint_is_written,
]


@pytest.mark.parametrize(
    ("preset", "moment"),
    [
        ("vae_digits", in_the_middle_of_an_epoch),
        *(slow("vae_digits", moment) for moment in MOMENTS if moment != in_the_middle_of_an_epoch),
        slow("gan_digits", as_a_row_is_written),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_killed_run_resumes_to_the_same_weights(preset, moment, uninterrupted_run, tmp_path):
    path = tmp_path / "run"
    with start("train", *flags(preset, path)) as program:
        until(lambda: moment(path), program=program)
        program.kill()
    assert not (path / "model.keras").exists()
    succeed("train", "--resume", f"--output={path}", "--noprogress")
    assert_same(path, uninterrupted_run(preset))


@pytest.mark.slow
def test_a_run_killed_several_times_has_the_same_final_weights(uninterrupted_run, tmp_path):
    path, more = tmp_path / "run", []
    for epoch in (1, 2, 3):
        with start("train", *flags("gan_digits", path, more=more)) as program:
            until(
                lambda n=epoch: any((path / "checkpoints").glob(f"*ckpt-{n}.data*")),
                program=program,
            )
            program.kill()
        more = ["--resume"]
    succeed("train", *flags("gan_digits", path, more=more))
    assert_same(path, uninterrupted_run("gan_digits"))


@pytest.mark.slow
@pytest.mark.parametrize("preset", FLAGS)
def test_a_finished_run_continues_to_more_epochs(preset, uninterrupted_run, tmp_path):
    path = tmp_path / "run"
    succeed("train", *flags(preset, path, 4))
    if preset == "vae_digits":  # The run is complete, and nothing changes.
        succeed("train", "--resume", f"--output={path}", "--noprogress")
        assert_same(path, uninterrupted_run(preset))
    printed = succeed("train", "--resume", "--epochs=6", f"--output={path}", "--noprogress")
    assert "Resuming after epoch 4 of 6" in printed
    assert_same(path, uninterrupted_run(preset, 6))
    assert json.loads((path / "config.json").read_text())["epochs"] == 6


def test_resuming_with_fewer_epochs_than_the_run_has_is_refused(uninterrupted_run):
    path = uninterrupted_run("vae_digits")
    before = (path / "config.json").read_text(), (path / "metrics.csv").read_text()
    message = error_message(run("train", "--resume", "--epochs=2", f"--output={path}"))
    assert "is trained for 4 epochs already" in message
    assert before == ((path / "config.json").read_text(), (path / "metrics.csv").read_text())


@pytest.mark.slow
def test_an_interrupted_run_reports_it_and_resumes(uninterrupted_run, tmp_path):
    path = tmp_path / "run"
    with start("train", *flags("vae_digits", path)) as program:
        until(lambda: as_the_first_checkpoint_is_written(path), program=program)
        program.interrupt()
        answer = program.wait()
    assert answer.status == 1
    assert answer.err.splitlines()[-1] == "Interrupted." and "Traceback" not in answer.err
    succeed("train", "--resume", f"--output={path}", "--noprogress")
    assert_same(path, uninterrupted_run("vae_digits"))
