"""Writes the programs of runs, for an accelerator that has JAX and no TensorFlow.

python -m benchmarks.accelerator.write --runs=runs/vae_mnist --programs=programs
python -m benchmarks.accelerator.write --table=priors --epochs_of=epochs.json --programs=programs

--runs names runs that have begun: folders with a config.json. --table begins the runs of a paper's
table; a row that --epochs_of does not name stays out.
"""

import pathlib

from absl import flags

from benchmarks.accelerator.program import Program
from benchmarks.paper_tables import TABLES, epochs_of
from benchmarks.tables.table import begin, folder_of
from trainers import cli
from zoo import training
from zoo.config import look_up

FLAGS = flags.FLAGS


def main() -> None:
    runs = [training.Run(path) for path in FLAGS.runs]
    if not (runs or FLAGS.table) or (FLAGS.table and not FLAGS.epochs_of):
        raise ValueError("Expected --runs, or --table with --epochs_of. Received: neither.")
    if FLAGS.table:
        table = look_up(TABLES, FLAGS.table, "table")
        epochs = epochs_of(FLAGS.epochs_of, table)
        folder = folder_of(FLAGS.output, table)
        runs += begin(table, folder, FLAGS.seed, epochs, tuple(FLAGS.set))
    for run in runs:
        folder = pathlib.Path(FLAGS.programs) / run.path.name
        Program(run).write(folder, FLAGS.platform)
        print(f"{run.path}: {folder}", flush=True)


def _define_flags() -> None:
    flags.DEFINE_list("runs", [], "Folders of runs that have begun, with commas.")
    flags.DEFINE_string("table", None, "A table of benchmarks.paper_tables.")
    flags.DEFINE_string("epochs_of", None, "A record that sets the numbers of epochs.")
    flags.DEFINE_integer("seed", 0, "Seed of weights and noise of a table.")
    flags.DEFINE_multi_string("set", [], "key=value: a change to every row. Repeatable.")
    flags.DEFINE_string("output", "runs/paper_tables", "Folder of a table's runs.")
    flags.DEFINE_string("programs", "runs/programs", "Folder of the programs.")
    flags.DEFINE_string("platform", "cuda", "The accelerator, as JAX names it: cuda, tpu, cpu.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
