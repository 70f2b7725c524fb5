"""Writes the programs of runs, for an accelerator that has JAX and no TensorFlow.

python -m benchmarks.accelerator.write --preset=vae_mnist --output=runs/vae_mnist --programs=programs
python -m benchmarks.accelerator.write --table=priors --epochs_of=benchmarks/results/priors.json \\
    --programs=programs

--preset begins the run --output. --table begins the runs of a paper's table in the folder --output; a
row that --epochs_of does not name stays out. --runs names runs that have begun in this way before.
"""

import pathlib

from absl import flags

from benchmarks.accelerator.program import Program
from benchmarks.paper_tables import TABLES, epochs_of
from benchmarks.tables.table import begin, folder_of
from trainers import cli
from zoo import presets, training
from zoo.config import look_up
from zoo.files import lock

FLAGS = flags.FLAGS


def main() -> None:
    given = [name for name in ("runs", "preset", "table") if getattr(FLAGS, name)]
    if len(given) != 1:
        raise ValueError(
            "Expected one of --preset, --table and --runs. Received: "
            f"{', '.join(f'--{name}' for name in given) or 'none of them'}."
        )
    runs = [training.Run(path) for path in FLAGS.runs]
    if FLAGS.preset:
        runs = [_begun()]
    if FLAGS.table:
        table = look_up(TABLES, FLAGS.table, "table")
        if not FLAGS.epochs_of:
            raise ValueError(
                "--table needs the numbers of epochs: --epochs_of=FILE, such as the table's record."
            )
        epochs, folder = epochs_of(FLAGS.epochs_of, table), folder_of(FLAGS.output, table)
        with lock(folder, "table"):
            runs = begin(table, folder, FLAGS.seed, epochs, tuple(FLAGS.set))
    for run in runs:
        folder = pathlib.Path(FLAGS.programs) / run.path.name
        Program(run).write(folder, FLAGS.platform)
        print(f"{run.path}: {folder}", flush=True)


def _begun() -> training.Run:
    """The run --output, which begins with the preset and its changes."""
    config = presets.get(FLAGS.preset)
    presets.override(config, [f"seed={FLAGS.seed}", *FLAGS.set])
    training.check_config(config)
    run = training.Run(FLAGS.output)
    run.check_free(overwrite=False)
    run.begin(config)
    return run


def _define_flags() -> None:
    flags.DEFINE_list("runs", [], "Folders of runs that have begun, with commas.")
    flags.DEFINE_string("preset", None, "The preset of a new run.")
    flags.DEFINE_string("table", None, "A table of benchmarks.paper_tables.")
    flags.DEFINE_string("epochs_of", None, "A record that sets the numbers of epochs.")
    flags.DEFINE_integer("seed", 0, "Seed of weights and noise.")
    flags.DEFINE_multi_string(
        "set", [], "key=value: a change to the preset, or to every row. Repeatable."
    )
    flags.DEFINE_string("output", "runs/paper_tables", "Folder of the run, or of a table's runs.")
    flags.DEFINE_string("programs", "runs/programs", "Folder of the programs.")
    flags.DEFINE_string("platform", "cuda", "The accelerator, as JAX names it: cuda, tpu, cpu.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
