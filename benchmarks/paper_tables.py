"""Trains and scores the rows of papers' tables, and prints them with the papers' numbers.

python -m benchmarks.paper_tables --table=iwae --budget=30

The runs are in --output, so that an interrupted table continues. The record is written to --results
as JSON and Markdown. With --epochs_of=FILE the numbers of epochs come from a record instead of the
budget, which repeats the table on a faster or slower machine.
"""

import os
import pathlib
import shlex
from collections.abc import Sequence

from absl import flags

from benchmarks.tables import (
    aae,
    attribute_similarity,
    completion,
    dcvae,
    denoising,
    digits,
    disentanglement,
    faces,
    flow_prior,
    forecasting,
    four_points,
    gan_objectives,
    inverse_graphics,
    iwae,
    layers,
    parzen,
    priors,
    quadrants,
    semi_supervised,
    super_resolution,
    swapping,
    videos,
)
from benchmarks.tables.table import Table, check_budget, folder_of, markdown, reproduce
from trainers import cli
from zoo.config import look_up
from zoo.files import check_fields, check_writable, lock, read_json, write_json, write_text

FLAGS = flags.FLAGS

TABLES = {
    module.TABLE.name: module.TABLE
    for module in (
        priors,
        quadrants,
        semi_supervised,
        denoising,
        digits,
        four_points,
        parzen,
        aae,
        flow_prior,
        disentanglement,
        inverse_graphics,
        faces,
        layers,
        swapping,
        dcvae,
        completion,
        forecasting,
        videos,
    )
} | {
    table.name: table
    for module in (attribute_similarity, gan_objectives, iwae, super_resolution)
    for table in module.TABLES
}


def main() -> None:
    if FLAGS.list_tables:
        for table in TABLES.values():
            print(f"{table.name:16}  {table.title}. {table.reference}")
        return
    table = look_up(TABLES, FLAGS.table, "table")
    check_budget(FLAGS.budget)
    epochs = epochs_of(FLAGS.epochs_of, table) if FLAGS.epochs_of else None
    folder = folder_of(FLAGS.output, table)
    results = pathlib.Path(FLAGS.results)
    check_writable(results)
    with lock(folder, "table"):
        record = reproduce(table, FLAGS.budget, folder, FLAGS.seed, epochs, tuple(FLAGS.set))
    path = results / f"{table.name}.json"
    record["command"] = command(table.name, path, FLAGS.seed, record["settings"])
    page = markdown(record, record["command"])
    write_json(path, record)
    write_text(results / f"{table.name}.md", page)
    print(page)


def epochs_of(path: str | os.PathLike, table: Table) -> dict[str, int]:
    """The numbers of epochs by row that a record of a table states.

    Raises:
        ValueError: If the file is not a record of the table.
    """
    record = read_json(path, {"table": str, "rows": list})
    for row in record["rows"]:
        check_fields(row, {"row": str, "epochs": int}, f"in each row of '{path}'")
    if record["table"] != table.name:
        raise ValueError(
            f"--epochs_of takes a record of table '{table.name}'. Received: '{path}', a record of "
            f"{record.get('table')!r}."
        )
    return {row["row"]: row["epochs"] for row in record["rows"]}


def command(table: str, record: str | os.PathLike, seed: int, settings: Sequence[str]) -> str:
    """The command that repeats a record's runs.

    Args:
        table: The name of the table.
        record: The path of the record.
        seed: The record's seed.
        settings: The record's changes to every row.
    """
    words = ["python", "-m", "benchmarks.paper_tables", f"--table={table}"]
    words += [f"--epochs_of={shlex.quote(os.fspath(record))}", f"--seed={seed}"]
    words += [f"--set={shlex.quote(setting)}" for setting in settings]
    words += ["--results=repeated"]
    return " ".join(words)


def _define_flags() -> None:
    flags.DEFINE_string("table", "digits", "The table; --list_tables shows all.")
    flags.DEFINE_bool("list_tables", False, "List the tables and exit.")
    flags.DEFINE_float("budget", 30, "Minutes on all cores, for training and scoring.")
    flags.DEFINE_integer("seed", 0, "Seed of weights, order and noise.")
    flags.DEFINE_string("epochs_of", None, "A record that sets the numbers of epochs.")
    flags.DEFINE_multi_string("set", [], "key=value: a change to every row. Repeatable.")
    flags.DEFINE_string("output", "runs/paper_tables", "Folder of the runs.")
    flags.DEFINE_string("results", "benchmarks/results", "Folder of the record.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
