"""Compares the first epoch of finished runs with the same epoch on this machine.

python -m benchmarks.accelerator.check --runs=runs/vae_mnist --results=results

The batches and the random numbers are the same, so that the results differ by rounding. The record
is a table in Markdown, with the seconds of an epoch on both machines. It compares runs that
`write.py`, `run.py` and `read.py` have trained.
"""

import pathlib
import time

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.accelerator.program import Program
from benchmarks.accelerator.run import draw
from benchmarks.machine import machine
from trainers import cli
from zoo import training
from zoo.files import write_text

FLAGS = flags.FLAGS


def compare(run: training.Run, results: pathlib.Path) -> dict[str, float | str]:
    """The largest relative difference of a result of the first epoch, and the times of an epoch.

    Args:
        run: A run that an accelerator has trained.
        results: The file of its results.
    """
    program = Program(run)
    with np.load(results) as file:
        there, seconds, device = (file[name] for name in ("results", "seconds", "device"))
    rows = tf.constant(draw(program.config.seed, 0, program.steps, program.streams))
    rates = tf.constant(program.rates)
    here, _ = program.epoch(tf.constant(0, tf.int64), rows, rates)
    start = time.monotonic()
    program.epoch(tf.constant(1, tf.int64), rows, rates)
    own = time.monotonic() - start
    scale = np.maximum(np.abs(there[0]), 1.0)
    return {
        "run": run.path.name,
        "difference": float(np.max(np.abs(np.asarray(here) - there[0]) / scale)),
        "here": own,
        "there": float(np.median(seconds[1:])),
        "device": str(device),
    }


def main() -> None:
    rows = []
    for path in FLAGS.runs:
        run = training.Run(path)
        rows.append(compare(run, pathlib.Path(FLAGS.results) / f"{run.path.name}.npz"))
        print(rows[-1], flush=True)
    lines = [
        "# The first epoch on an accelerator and here",
        "",
        "Largest difference of a loss or a term after the first epoch, relative to its value or to 1, "
        "on training and on validation images; seconds of an epoch with its validation, without "
        "compilation. Other programs may have run on both machines.",
        "",
        "| run | difference | seconds here | seconds there | device |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['run']} | {r['difference']:.1e} | {r['here']:.1f} | {r['there']:.2f} | {r['device']} |"
        for r in rows
    ]
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    names = ",".join(f"RUNS/{row['run']}" for row in rows)
    command = f"python -m benchmarks.accelerator.check --runs={names} --results=RESULTS"
    lines += ["", f"Here: {about}.", "", "```sh", command, "```"]
    write_text(pathlib.Path(FLAGS.record), "\n".join(lines) + "\n")


def _define_flags() -> None:
    flags.DEFINE_list("runs", [], "Folders of the runs, with commas.")
    flags.DEFINE_string("results", "results", "Folder of the results.")
    flags.DEFINE_string("record", "accelerator.md", "The file of the table.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
