"""Two processes of one run, over loopback."""

import csv

import numpy as np
import pytest
from programs import cluster, error_message, start, succeed, until, weights
from speed import slow_except

FLAGS = {
    "autoencoder_digits": ["--set=hidden=16"],
    "vae_digits": ["--set=hidden=16"],
    "gan_digits": ["--set=generator_hidden=16", "--set=discriminator_hidden=16"],
}


def flags(preset, path, epochs=3, more=()):
    common = ["--nojit_compile", "--deterministic", "--noprogress", f"--epochs={epochs}"]
    return [f"--preset={preset}", f"--output={path}", *FLAGS[preset], *common, *more]


class Workers:
    """The processes of a cluster; the `with` block ends all of them."""

    def __init__(self, target, *arguments, own=((), ())):
        self.programs = [
            start(target, *arguments, *more, environ=environ)
            for environ, more in zip(cluster(2), own, strict=True)
        ]

    def __enter__(self):
        return self.programs

    def __exit__(self, *exception):
        for program in self.programs:
            program.__exit__(*exception)


def finish(programs, seconds=120):
    for program in programs:
        answer = program.wait(seconds)
        assert answer.status == 0, answer.err[-3000:]


def train_and_keep(arguments, weights_file):
    """The program of each worker: it trains and writes its final weights."""
    import sys

    from zoo import training

    evaluate = training.evaluate

    def keep(model, *args):
        scores = evaluate(model, *args)
        optimizers = [v for o in model.optimizers.values() for v in o.variables]
        values = [v.numpy() for v in [*model.weights, *optimizers]]
        np.savez(weights_file, *values, test=np.array(sorted(scores.items()), dtype=str))
        return scores

    sys.modules["zoo.training.train"].evaluate = keep
    sys.argv = ["train", *arguments]
    __import__("runpy").run_module("trainers.train", run_name="__main__", alter_sys=True)


def train_on_two(preset, path, folder, more=()):
    """The final weights of each worker."""
    files = [str(folder / f"{path.name}-{index}.npz") for index in range(2)]
    arguments = [*flags(preset, path), "--strategy=multi_worker", *more]
    with Workers(train_and_keep, arguments, own=[(file,) for file in files]) as programs:
        finish(programs)
    return [dict(np.load(file)) for file in files]


def rows(path):
    with open(path / "metrics.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    """`on_two(preset)`: the run's folder and each worker's final weights, trained once."""
    finished = {}

    def train(preset):
        if preset not in finished:
            folder = tmp_path_factory.mktemp("two")
            finished[preset] = folder / preset, train_on_two(preset, folder / preset, folder)
        return finished[preset]

    return train


@pytest.mark.parametrize("preset", slow_except(["autoencoder_digits"], FLAGS))
def test_both_workers_have_the_same_final_weights(preset, on_two):
    path, (a, b) = on_two(preset)
    assert a.keys() == b.keys() and len(a) > 8
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert len(rows(path)) == 3 and (path / "model.keras").is_file()
    assert len(list((path / "tensorboard" / "train").iterdir())) == 1  # only the chief writes


@pytest.mark.slow
def test_two_workers_match_one_process_on_the_same_batches(on_two, tmp_path):
    path = tmp_path / "one"
    succeed("train", *flags("autoencoder_digits", path), forked=True)
    two, _ = on_two("autoencoder_digits")
    for one_row, two_row in zip(rows(path), rows(two), strict=True):
        assert one_row.keys() == two_row.keys()
        assert two_row == pytest.approx(one_row, rel=1e-5)
    a, b = weights(path / "model.keras"), weights(two / "model.keras")
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "preset"), [(0, "autoencoder_digits"), (1, "gan_digits")])
def test_a_lost_worker_stops_the_other_and_both_resume_from_the_checkpoint(
    lost, preset, on_two, tmp_path
):
    path = tmp_path / "run"
    with Workers("train", *flags(preset, path, epochs=3), "--strategy=multi_worker") as programs:
        until(
            lambda: any((path / "checkpoints").glob("ckpt-1.index")),
            program=programs[0],
            seconds=90,
        )
        programs[lost].kill()
        message = error_message(programs[1 - lost].wait(75))
    assert "Another worker of the cluster ended" in message and "--resume" in message
    assert not (path / "model.keras").exists()
    a, b = train_on_two(preset, path, tmp_path, more=["--resume"])
    uninterrupted, (want, _) = on_two(preset)
    assert all(np.array_equal(a[name], want[name]) for name in want)
    assert all(np.array_equal(b[name], want[name]) for name in want)
    assert (path / "metrics.csv").read_text() == (uninterrupted / "metrics.csv").read_text()


@pytest.mark.slow
def test_a_worker_waits_for_the_other(tmp_path):
    arguments = [
        *flags("autoencoder_digits", tmp_path / "run", epochs=1),
        "--strategy=multi_worker",
    ]
    first, second = cluster(2)
    with start("train", *arguments, environ=second) as early:
        early.process.join(12)
        assert early.runs and not (tmp_path / "run").exists()
        with start("train", *arguments, environ=first) as late:
            finish([late, early])
    assert (tmp_path / "run" / "model.keras").is_file()


@pytest.mark.slow
def test_an_output_in_use_stops_both_workers(on_two):
    path, _ = on_two("autoencoder_digits")
    before = (path / "metrics.csv").read_bytes()
    with Workers(
        "train", *flags("autoencoder_digits", path), "--strategy=multi_worker"
    ) as programs:
        messages = [error_message(program.wait(75)) for program in programs]
    assert "There is a run in" in messages[0]
    assert "Another worker" in messages[1] or "There is a run in" in messages[1]
    assert (path / "metrics.csv").read_bytes() == before


@pytest.mark.slow
def test_both_workers_restart_an_overwritten_run(on_two, tmp_path):
    path = tmp_path / "run"
    succeed("train", *flags("autoencoder_digits", path, epochs=2, more=["--seed=5"]), forked=True)
    a, b = train_on_two("autoencoder_digits", path, tmp_path, more=["--overwrite"])
    _, (want, _) = on_two("autoencoder_digits")
    assert all(np.array_equal(a[name], want[name]) for name in want)
    assert all(np.array_equal(b[name], want[name]) for name in want)
