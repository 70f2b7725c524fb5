"""Tables of papers: training within a budget, scores, and the written record."""

import dataclasses
import datetime
import math
import os
import pathlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from benchmarks.machine import machine
from zoo import metrics, presets, training
from zoo.datasets import ImageData
from zoo.datasets.masks import is_file
from zoo.files import check_fields, read_json, write_json
from zoo.finite import NonFiniteError
from zoo.metrics.estimate import Estimate
from zoo.model import GenerativeModel
from zoo.versions import versions

# Validation, checkpoints and pictures after each epoch add to the time of the training steps.
_OVERHEAD = 1.15
_SECONDS_PER_EPOCH = 0.4
_CALIBRATION_SECONDS = 2
_TIMES = "times.json"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: a trained model, and the numbers that the paper reports for it.

    Attributes:
        name: The name of the row, unique in its table.
        preset: The preset that the model is trained from.
        settings: "key=value" changes to the preset. `{runs}` stands for the folder of the table's
            runs, which has a folder for each row, named by `slug`.
        paper: The paper's number by the name of the score; scores that the paper does not report
            are left out.
        share: The row's share of the training time, relative to the shares of the other rows.
        trained_as: The name of an earlier row, whose model this row scores instead of its own.
            The row's own `settings` then apply to the score.
        seeds: Number of trainings of this row, if not the table's. A row with `trained_as` has those
            of the other row.
    """

    name: str
    preset: str
    settings: tuple[str, ...] = ()
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)
    share: float = 1.0
    trained_as: str | None = None
    seeds: int | None = None

    @property
    def slug(self) -> str:
        """The name of the row's folder."""
        return re.sub("[^a-z0-9]+", "_", self.name.lower()).strip("_")


@dataclasses.dataclass(frozen=True)
class Trained:
    """The trained model of a row, with its data, configuration and folders."""

    row: Row
    model: GenerativeModel
    data: ImageData
    config: ConfigDict
    runs: pathlib.Path
    run: training.Run | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        name: The name for `--table`.
        title: A title in one line.
        reference: The paper, and the table in it.
        protocol: How rows are trained and scored, in words.
        differs: The differences from the paper.
        rows: The rows, in the order of training.
        score: A function from a trained row to its scores by name, on test data. No choice is based
            on them.
        unit: The unit of the scores.
        digits: Number of decimals of the scores.
        equal_epochs: Whether all rows are trained for the same number of epochs, the most that the
            budget allows; otherwise each row gets its share of the time.
        scoring: The share of the budget for scoring.
        remarks: What the numbers show, and why a number of the paper is missed.
        seeds: Number of trainings of each row that does not state its own, with consecutive seeds.
            With several, scores are means with the standard error over seeds; a seed whose loss
            becomes NaN or infinite is reported and left out.
    """

    name: str
    title: str
    reference: str
    protocol: str
    differs: tuple[str, ...]
    rows: tuple[Row, ...]
    score: Callable[[Trained], dict[str, Estimate | float]]
    unit: str = "nats"
    equal_epochs: bool = False
    scoring: float = 0.25
    remarks: tuple[str, ...] = ()
    seeds: int = 1
    digits: int = 2


def reproduce(
    table: Table,
    minutes: float,
    folder: pathlib.Path,
    seed: int = 0,
    epochs: Mapping[str, int] | None = None,
    settings: tuple[str, ...] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains and scores the rows of a table, except those done in `folder`; returns the record.

    Minutes are those of all cores: a second of processor time counts 1 / cores seconds, so other
    work on the machine hardly changes the budget. With a GPU they are wall time.

    Args:
        table: The table.
        minutes: Number of minutes for training and scoring all rows.
        folder: The folder of the runs. A killed table continues from it.
        seed: Seed of weights, order and noise.
        epochs: Number of epochs of each row by its name, as in a record, instead of a budget.
        settings: Further changes to every row, such as the name of a smaller data set.
        say: A function that prints a line.

    Raises:
        ValueError: If the settings are invalid, or differ from those of the runs in `folder`.
    """
    rows = [row for row in table.rows if row.trained_as is None]
    if epochs is not None and (lacking := {row.name for row in rows} - epochs.keys()):
        raise ValueError(
            f"Expected a number of epochs for each row of table '{table.name}'. Received: none for "
            f"{', '.join(sorted(lacking))}."
        )
    plan = _Plan(folder / "plan.json", table, seed, settings, minutes, epochs)
    for row in rows:
        training.check_config(plan.config(row))
    if table.equal_epochs and not all(row.name in plan.epochs for row in rows):
        costs = [seconds_per_epoch(plan.config(row)) for row in rows]
        trainings = (_seeds(table, row) * cost for row, cost in zip(rows, costs, strict=True))
        equal = max(1, int(60 * minutes * (1 - table.scoring) / sum(trainings)))
        plan.keep({row.name: equal for row in rows})
    results = []
    for row in table.rows:
        source = _source(table, row)
        if source.name not in plan.epochs:
            seconds = 60 * minutes * (1 - table.scoring)
            seconds *= row.share / sum(_seeds(table, r) * r.share for r in rows)
            plan.keep({source.name: max(1, int(seconds / seconds_per_epoch(plan.config(source))))})
        parts = [_result(table, row, source, plan, n, say) for n in range(_seeds(table, row))]
        result = parts[0] if len(parts) == 1 else _over_seeds(parts)
        results.append(result)
        say(f"{row.name}: " + ", ".join(_score(name, result) for name in result["scores"]))
        keras.backend.clear_session()
    return stated(table) | {
        "seed": seed,
        "settings": [published(setting) for setting in settings],
        "budget_minutes": plan.content["budget_minutes"],
        "date": datetime.date.today().isoformat(),
        "machine": machine() | versions(),
        "rows": results,
    }


def begin(
    table: Table,
    folder: pathlib.Path,
    seed: int,
    epochs: Mapping[str, int],
    settings: tuple[str, ...] = (),
) -> list[training.Run]:
    """Begins the runs of a table without training them, for `benchmarks.accelerator`.

    Args:
        table: The table.
        folder: The folder of the runs.
        seed: Seed of weights, order and noise.
        epochs: Number of epochs of each row by its name. Rows that it does not name do not begin.
        settings: Further changes to every row.

    Returns:
        The runs, each with its configuration. Runs that have begun with the same settings stay.

    Raises:
        ValueError: If the settings are invalid, or differ from those of the runs in `folder`.
    """
    known = {row.name for row in table.rows if row.trained_as is None}
    if unknown := epochs.keys() - known:
        raise ValueError(
            f"The rows of table '{table.name}' that are trained are {', '.join(sorted(known))}. "
            f"Received: {', '.join(sorted(unknown))}."
        )
    plan = _Plan(folder / "plan.json", table, seed, settings, 0.0, dict(epochs))
    runs = [(run, plan.config(row, n)) for run, row, n in plan.runs(table)]
    for run, config in runs:
        training.check_config(config)
        if run.exists:
            training.check_unchanged(run, config)
    plan.write()
    for run, config in runs:
        if not run.exists:
            run.begin(config)
    return [run for run, _ in runs]


def keep_epochs(table: Table, folder: pathlib.Path) -> None:
    """Sets the plan's numbers of epochs to those of the finished runs of a table.

    Raises:
        ValueError: If runs that must have equal epochs have not.
    """
    path = folder / "plan.json"
    content = read_json(path, {"seed": int, "settings": list, "epochs": dict})
    plan = _Plan(path, table, content["seed"], tuple(content["settings"]), 0.0, None)
    found: dict[str, set[int]] = {}
    for run, row, _ in plan.runs(table):
        if run.results_path.is_file():
            found.setdefault(row.name, set()).add(run.read_config().epochs)
    every = set().union(*found.values())
    if any(len(own) > 1 for own in found.values()) or (table.equal_epochs and len(every) > 1):
        raise ValueError(
            f"Table '{table.name}' has equal epochs for the seeds of a row"
            f"{' and for all rows' if table.equal_epochs else ''}. Received: {found}."
        )
    plan.keep({name: own.pop() for name, own in found.items()})


def stated(table: Table) -> dict[str, Any]:
    """The part of a record that the table states, whatever its runs measure."""
    return {
        "table": table.name,
        "title": table.title,
        "reference": table.reference,
        "protocol": table.protocol,
        "differs": list(table.differs),
        "remarks": list(table.remarks),
        "unit": table.unit,
        "digits": table.digits,
        "seeds": table.seeds,
    }


def stated_of_row(table: Table, row: Row) -> dict[str, Any]:
    """The part of a row of the record that the table states."""
    source = _source(table, row)
    return {
        "row": row.name,
        "preset": source.preset,
        "settings": list(source.settings),
        "paper": dict(row.paper),
        **({"seeds": source.seeds} if source.seeds else {}),
    }


def _seeds(table, row):
    """Number of trainings of the model that a row scores."""
    return _source(table, row).seeds or table.seeds


def _source(table, row):
    """The row whose model a row scores."""
    return next(r for r in table.rows if r.name == (row.trained_as or row.name))


class _Plan:
    """The epochs of each row, kept in the folder of the runs, so that a killed table continues."""

    def __init__(self, path, table, seed, settings, minutes, epochs):
        self.path, self.folder, self.seed, self.settings = path, path.parent, seed, settings
        about = {"table": table.name, "seed": seed, "settings": list(settings)}
        self.content = about | {"budget_minutes": None if epochs else minutes, "epochs": {}}
        if path.is_file():
            former = read_json(path, {"epochs": dict})
            check_fields(
                former["epochs"], dict.fromkeys(former["epochs"], int), f"in 'epochs' in '{path}'"
            )
            begun = {k: former.get(k) for k in about}
            if begun != about or any(
                former["epochs"].get(k, v) != v for k, v in (epochs or {}).items()
            ):
                raise ValueError(
                    f"The runs in '{path.parent}' were started with {begun} and epochs "
                    f"{former['epochs']}. Received: {about} and epochs {dict(epochs or {})}. "
                    "Choose another --output."
                )
            self.content = former
        self.content["epochs"] |= epochs or {}

    @property
    def epochs(self) -> dict[str, int]:
        return self.content["epochs"]

    def keep(self, epochs: Mapping[str, int]) -> None:
        self.content["epochs"] |= epochs
        self.write()

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.content)

    def run(self, row: Row, n: int = 0) -> training.Run:
        """The run of a row with the n-th seed."""
        return training.Run(self.folder / (row.slug + (f"_seed_{self.seed + n}" if n else "")))

    def runs(self, table: Table) -> list[tuple[training.Run, Row, int]]:
        """The runs of all rows whose epochs are known, with the row and the number of the seed."""
        rows = [row for row in table.rows if row.trained_as is None and row.name in self.epochs]
        return [(self.run(row, n), row, n) for row in rows for n in range(_seeds(table, row))]

    def config(self, row: Row, n: int = 0) -> ConfigDict:
        config = presets.get(row.preset)
        own = [setting.format(runs=self.folder) for setting in row.settings]
        presets.override(config, [*own, *self.settings, f"seed={self.seed + n}"])
        if row.name in self.epochs:
            config.epochs = self.epochs[row.name]
        return config


def seconds_per_epoch(config: ConfigDict) -> float:
    """The seconds of one epoch on all cores, estimated from some of its steps."""
    keras.utils.set_random_seed(config.seed)
    data = training.load_data(config)
    model = presets.build(config, data.image_shape, data.levels)
    batches = data.batches(
        "train",
        config.batch_size,
        shuffle=True,
        repeat=True,
        semi_supervised=model.semi_supervised,
        grouped=model.grouped_batches,
    )
    chunk = min(20, data.steps_per_epoch(config.batch_size))
    model.adapt(data)
    model.steps_per_execution = chunk
    options = {"epochs": 1, "verbose": 0}
    model.fit(batches, steps_per_epoch=chunk, **options)  # Compiles.
    done, start = 0, _clock()
    while _clock() - start < _CALIBRATION_SECONDS:
        model.fit(batches, steps_per_epoch=chunk, **options)
        done += chunk
    step = (_clock() - start) / done
    return _OVERHEAD * step * data.steps_per_epoch(config.batch_size) + _SECONDS_PER_EPOCH


def _clock():
    """Seconds of all cores, or of wall time with a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return time.monotonic()
    return time.process_time() / machine()["cores"]


def _result(table, row, source, plan, n, say):
    """A row of the record. A model that was trained and scored with the same settings is kept."""
    end = f"_seed_{plan.seed + n}" if n else ""
    folder, config = plan.folder / (row.slug + end), plan.config(source, n)
    run = plan.run(source, n)
    plan.write()
    path = folder / "scores.json"
    content = read_json(path, {"scores": dict, "times": dict}) if path.is_file() else {}
    try:
        if row.trained_as is None and "failed" not in content:
            _train(run, config, say)
    except NonFiniteError as error:
        if _seeds(table, row) == 1:
            raise
        content = {"failed": str(error), "scores": {}, "parameters": 0, "times": {}}
        write_json(path, content)
        say(f"{row.name}, seed {config.seed}: {error}")
    if "failed" not in content and content.get("protocol") != table.protocol:
        model, data = run.load_model(), training.load_data(config)
        start = time.monotonic(), _clock()
        scores = table.score(Trained(row, model, data, config, plan.folder, run))
        folder.mkdir(parents=True, exist_ok=True)
        trained = {id(v): v for player in model.players() for v in model.variables_of(player)}
        content = {
            "protocol": table.protocol,
            "scores": {name: _plain(score) for name, score in scores.items()},
            "parameters": sum(int(np.prod(v.shape)) for v in trained.values()),
            "times": _elapsed("scoring", *start),
        }
        write_json(path, content)
    device = read_json(run.results_path, {}).get("device") if run.results_path.is_file() else None
    times = folder / _TIMES
    training_times = read_json(times, {}) if times.is_file() else {}
    return (
        stated_of_row(table, row)
        | {
            "epochs": config.epochs,
            "scores": content["scores"],
            "parameters": content["parameters"],
            "times": content["times"] | training_times,
        }
        | ({"failed": content["failed"]} if "failed" in content else {})
        | ({"device": device} if device else {})
    )


def _over_seeds(parts):
    """The row of the record over all seeds: means, and the standard error over the seeds."""
    done = [part for part in parts if "failed" not in part]
    scores = {}
    for name in done[0]["scores"] if done else ():
        values = [part["scores"][name]["value"] for part in done]
        error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        own = {"value": float(np.mean(values)), "stderr": error, "values": values}
        scores[name] = done[0]["scores"][name] | own
    times = {}
    for part in parts:
        for key, seconds in part["times"].items():
            times[key] = round(times.get(key, 0.0) + seconds, 1)
    return parts[0] | {
        "scores": scores,
        "parameters": max(part["parameters"] for part in parts),
        "times": times,
        "failed": [part["failed"] for part in parts if "failed" in part],
    }


def _plain(score):
    if isinstance(score, int | float):
        return {"value": float(score), "stderr": None}
    return {"value": score.value, "stderr": score.stderr} | score.estimator


def _train(run, config, say):
    """Trains a run unless it is finished. The time of an uninterrupted training is recorded."""
    begun = run.exists
    if begun:
        training.check_unchanged(run, config)
    if run.results_path.is_file():
        return
    start = time.monotonic(), _clock()
    training.train(config, run, resume=begun, progress=False, say=lambda line: None)
    if not begun:
        write_json(run.path / _TIMES, _elapsed("training", *start))
    say(f"Trained for {config.epochs} epochs: {run.path}")


def _elapsed(what, wall, start):
    return {
        f"{what}_seconds": round(time.monotonic() - wall, 1),
        f"{what}_seconds_of_all_cores": round(_clock() - start, 1),
    }


def negative_log_likelihood(
    trained: Trained, num_samples: int = 5000, fewer: int = 500, some: int = 200, **options: Any
) -> Estimate:
    """The NLL of the test set by importance sampling, in nats per image.

    `num_samples` draws for each image would cost as much as the training. Therefore all images get
    `fewer` draws, and the first `some` images get both numbers of draws. The mean difference on
    these images, which has a small standard error, is added. The expectation of the sum is that of
    the estimate with `num_samples` draws.

    Args:
        trained: The model with its data.
        num_samples: Number of draws for each image, K.
        fewer: Number of draws for all images.
        some: Number of images with `num_samples` draws.
        **options: As for `zoo.metrics.negative_log_likelihood`.
    """
    x, _ = trained.data.arrays("test")

    def measure(images, draws):
        return metrics.negative_log_likelihood(
            trained.model, images, draws, batch_size=500, seed=trained.config.seed, **options
        )

    nll = measure(x, min(fewer, num_samples))
    about = {"method": f"importance sampling, K = {num_samples}", "images": len(x)}
    value = nll.value
    if num_samples > fewer:
        part = x[:some]
        value += measure(part, num_samples).value - measure(part, fewer).value
        about["method"] += f" on {len(part)} images, {fewer} on all"
    return dataclasses.replace(nll, value=value, estimator=about)


def markdown(record: Mapping[str, Any], command: str) -> str:
    """The record as a page of Markdown."""
    names = list(dict.fromkeys(name for row in record["rows"] for name in row["scores"]))
    head, digits = ["row", "parameters", "epochs", "minutes"], record["digits"]
    for name in names:
        head.append(f"{name}, here")
        if any(name in row["paper"] for row in record["rows"]):
            head += ["paper", "difference"]
    lines = [f"# {record['title']}", "", f"{record['reference']}", "", record["protocol"], ""]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in record["rows"]:
        taken = "training_seconds" + ("" if "device" in row else "_of_all_cores")
        minutes = row["times"].get(taken)
        cells = [row["row"], f"{row['parameters']:,}", str(row["epochs"])]
        cells.append("" if minutes is None else f"{minutes / 60:.1f}")
        for name in names:
            score = row["scores"].get(name)
            left_out = f" ({len(row['failed'])} failed)" if row.get("failed") else ""
            cells.append(("" if score is None else _value(score, digits)) + left_out)
            if f"{name}, here" in head and any(name in r["paper"] for r in record["rows"]):
                paper = row["paper"].get(name)
                cells.append("" if paper is None else f"{paper:g}")
                both = paper is not None and score is not None
                cells.append(f"{score['value'] - paper:+.{digits}f}" if both else "")
        lines.append(f"| {' | '.join(cells)} |")
    over = "the test images"
    if trainings := sorted({row.get("seeds", record["seeds"]) for row in record["rows"]} - {1}):
        over = f"{' or '.join(map(str, trainings))} seeds, of which the scores are means"
        if any(row.get("seeds", record["seeds"]) == 1 for row in record["rows"]):
            own = ", ".join(r["row"] for r in record["rows"] if r.get("seeds", record["seeds"]) > 1)
            over = f"the test images; for {own}, over {over}"
    lines += ["", f"Scores in {record['unit']}; ± is one standard error over {over}."]
    if any(row.get("failed") for row in record["rows"]):
        lines += [
            "Failed: the number of seeds whose loss became NaN or infinite; they are left out."
        ]
    devices = dict.fromkeys(row["device"] for row in record["rows"] if "device" in row)
    if not all("device" in row for row in record["rows"]):
        lines += [
            "Minutes of training on all cores: processor time divided by the number of cores; empty "
            "for a run that was interrupted."
        ]
    for device in devices:
        own = ", ".join(row["row"] for row in record["rows"] if row.get("device") == device)
        lines += [
            f"Trained on {device} with `benchmarks.accelerator`: {own}. The minutes of these rows are "
            "those of the device, which several runs may have shared."
        ]
    if record["differs"]:
        lines += ["", "Differences from the paper:", "", *(f"- {x}" for x in record["differs"])]
    if record["remarks"]:
        lines += ["", "What the numbers show:", "", *(f"- {line}" for line in record["remarks"])]
    about = record["machine"] | {"seed": record["seed"], "date": record["date"]}
    lines += ["", ", ".join(f"{k} {v}" for k, v in about.items())]
    if note := record.get("note"):
        lines += ["", note]
    lines += ["", "```sh", command, "```"]
    if any("device" in row for row in record["rows"]):
        table = record["table"]
        lines += [
            "",
            "These commands train the runs on an accelerator that has JAX, and the command above then "
            "scores them:",
            "",
            "```sh",
            f"python -m benchmarks.accelerator.write --table={table} --seed={record['seed']} "
            f"--epochs_of=benchmarks/results/{table}.json --programs=programs"
            + (" --platform=cpu" if all("CPU" in device for device in devices) else ""),
            "python benchmarks/accelerator/run.py programs results",
            f"python -m benchmarks.accelerator.read --table={table} --results=results",
            "```",
        ]
    return "\n".join(lines) + "\n"


def _value(score, digits=2):
    error = score["stderr"]
    return f"{score['value']:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _score(name, result):
    paper = result["paper"].get(name)
    return f"{name} {_value(result['scores'][name])}" + (
        "" if paper is None else f" (paper {paper:g})"
    )


def published(setting: str) -> str:
    """A setting "key=value" as the record shows it: paths of data and masks are left out."""
    key, _, value = setting.partition("=")
    last = key.rpartition(".")[2]
    if last == "seen" and is_file(value):
        return f"{key}=FILE"
    return f"{key}=FOLDER" if last == "data_dir" else setting


def check_budget(minutes: float) -> None:
    """Raises a `ValueError` unless the budget is positive and finite."""
    if not 0 < minutes < math.inf:
        raise ValueError(f"`budget` must be a number of minutes above 0. Received: {minutes}.")


def folder_of(output: str, table: Table) -> pathlib.Path:
    """The folder of a table's runs."""
    return pathlib.Path(os.path.expanduser(output)) / table.name
