"""Finishes runs with the weights that `benchmarks/accelerator/run.py` wrote.

python -m benchmarks.accelerator.read --runs=runs/vae_mnist --results=results

The results of a run have its folder's name. A finished run has no checkpoint, because the optimizers'
moments stay on the accelerator. `benchmarks.paper_tables` scores the runs of a table next.
"""

import pathlib

from absl import flags

from benchmarks.accelerator.program import Program
from trainers import cli
from zoo import training

FLAGS = flags.FLAGS


def main() -> None:
    for path in FLAGS.runs:
        run = training.Run(path)
        results = pathlib.Path(FLAGS.results) / f"{run.path.name}.npz"
        Program(run).finish(results, print)


def _define_flags() -> None:
    flags.DEFINE_list("runs", [], "Folders of the runs, with commas.")
    flags.DEFINE_string("results", "results", "Folder of the results.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
