"""Finishes runs with the weights that `benchmarks/accelerator/run.py` wrote.

python -m benchmarks.accelerator.read --runs=runs/vae_mnist --results=results
python -m benchmarks.accelerator.read --table=priors --results=results

The file of a run's results is named after the run's folder: RESULTS/NAME.npz. A finished run has no
checkpoint, because the optimizers' moments stay on the accelerator. `benchmarks.paper_tables` scores
the runs of a table next.
"""

import contextlib
import functools
import pathlib

from absl import flags

from benchmarks.accelerator.program import Program
from benchmarks.paper_tables import TABLES
from benchmarks.tables.table import folder_of, keep_epochs
from trainers import cli
from zoo import training
from zoo.config import look_up
from zoo.files import lock

FLAGS = flags.FLAGS


def main() -> None:
    runs = [training.Run(path) for path in FLAGS.runs]
    table = look_up(TABLES, FLAGS.table, "table") if FLAGS.table else None
    if table is not None:
        folder = folder_of(FLAGS.output, table)
        runs += [training.Run(path.parent) for path in sorted(folder.glob("*/config.json"))]
    if not runs:
        raise ValueError("Expected --runs, or --table with runs in --output. Received: no run.")
    with lock(folder, "table") if table else contextlib.nullcontext():
        _finish(runs, table)


def _finish(runs, table):
    found = 0
    for run in runs:
        results = pathlib.Path(FLAGS.results) / f"{run.path.name}.npz"
        if run.results_path.is_file():
            print(f"{run.path}: finished before", flush=True)
        elif results.is_file():
            Program(run).finish(results, functools.partial(print, flush=True))
        else:
            print(f"{run.path}: no results in '{results}'", flush=True)
            continue
        found += 1
        if table is not None:
            keep_epochs(table, folder_of(FLAGS.output, table))
    if not found:
        raise FileNotFoundError(f"No results of the runs are in '{FLAGS.results}'.")


def _define_flags() -> None:
    flags.DEFINE_list("runs", [], "Folders of the runs, with commas.")
    flags.DEFINE_string("table", None, "A table of benchmarks.paper_tables.")
    flags.DEFINE_string("output", "runs/paper_tables", "Folder of a table's runs.")
    flags.DEFINE_string("results", "results", "Folder of the results.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
