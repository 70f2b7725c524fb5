"""Results with their protocol beside them: written as JSON lines, compared only where they may be."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

SCHEMA = 1

HIGHER_IS_BETTER = {
    "fid": False,
    "kid": False,
    "score": True,
    "precision": True,
    "recall": True,
    "coverage": True,
    "nll": False,
    "nll_annealed": False,
    "psnr": True,
    "ssim": True,
    "ms_ssim": True,
    "mig": True,
    "disentanglement": True,
    "completeness": True,
    "informativeness_test": True,
    "sap": True,
    "factor_vae": True,
    "beta_vae": True,
}
"""Which kinds of metric have a better end, and which end it is. All others describe, and are not
ranked: density has its best value at 1, diversity at that of the data, the Parzen window nowhere."""

# Settings that do not change what is estimated, and what merely happened in the computation.
_NOT_PROTOCOL = {"seed", "batch_size", "block", "rank_deficient", "clipped", "dtype"}
# What the checksum of the images says better.
_WORDS_FOR_DATA = {"images", "binarize"}


@dataclasses.dataclass(frozen=True)
class Result:
    """One metric's value with its whole protocol: one JSON line.

    Attributes:
        metric: Its name, such as "classifier-FID[mnist-cnn-v1]".
        kind: What it is of, a key of `zoo.evaluation.METRICS` or a name that it gives, such as "fid".
        value: The value; `None` if it could not be had, and then `error` says why.
        stderr: Its standard error, where there is one.
        n_real: Number of real images.
        n_fake: Number of generated ones.
        floor: The same metric of other real images against the same real images: `value`, `stderr`,
            `n_real`, `n_fake`, `source`. Of as many images, if there are; else of fewer.
        bias: Its expectation by a formula for two sets of these sizes from one distribution.
        estimator: Method and settings.
        details: Further numbers, and warnings.
        extractor: The feature network: id, weights' SHA-256, layer, training data.
        preprocessing: Size, resize rule, range.
        data: The reference: data set, split, SHA-256 of the very images it was measured on.
        sampling: Where the images came from: run, checkpoint, epoch, seed, averaged weights; the time
            it took to draw them.
        environment: Versions and devices.
        seconds: Wall time of this metric alone.
        status: "ok" or "failed".
        error: The reason of a failure.
        schema: Version of this form.
    """

    metric: str
    kind: str
    value: float | None
    stderr: float | None = None
    n_real: int | None = None
    n_fake: int | None = None
    floor: dict[str, Any] | None = None
    bias: float | None = None
    estimator: dict[str, Any] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    extractor: dict[str, Any] | None = None
    preprocessing: dict[str, Any] | None = None
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    sampling: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float | None = None
    status: str = "ok"
    error: str | None = None
    schema: int = SCHEMA

    def __str__(self) -> str:
        """A line to read, and a second one if there is a warning."""
        if self.value is None:
            return f"{self.metric:34} no value: {self.error}"
        line = f"{self.metric:34} {self.value:.5g}"
        if self.stderr is not None:
            line += f" +- {self.stderr:.2g}"
        if self.floor and self.floor["value"] is not None:
            sizes = "" if (n := _other_sizes(self)) is None else f", {n} of them"
            line += f"   (other real images: {self.floor['value']:.5g}{sizes})"
        if self.bias:
            line += f"   (due to the sets' sizes: {self.bias:.3g})"
        counts = {"real": self.n_real, "generated": self.n_fake}
        if counts := ", ".join(f"{n:,} {what}" for what, n in counts.items() if n):
            line += f"   [{counts}]"
        if warning := self.details.get("warning"):
            line += f"\n    {warning}"
        return line

    def protocol(self) -> dict[str, Any]:
        """All that must be equal for two values to be compared, flat: `{"data.split": "test", ...}`."""
        estimator = {k: v for k, v in self.estimator.items() if k not in _NOT_PROTOCOL}
        if self.kind == "fid":
            estimator.pop("method", None)  # All routes compute the same number.
        data = {k: v for k, v in self.data.items() if k not in _WORDS_FOR_DATA}
        parts = {
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "extractor": self.extractor,
            "preprocessing": self.preprocessing,
            "data": {} if self.n_real is None else data,
            "estimator": estimator,
        }
        return dict(_flatten(parts))


def append(path: str | os.PathLike, result: Result) -> None:
    """Adds a result to a file of JSON lines, and makes the file if there is none.

    Nothing that is in the file is changed. A last line that a killed process left unfinished is
    ended, so that it harms no other.
    """
    line = json.dumps(dataclasses.asdict(result), allow_nan=False) + "\n"
    with open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())


def read(path: str | os.PathLike) -> list[Result]:
    """The results in a file of JSON lines, in the order in which they were written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is no result.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"There are no results in '{path}'. Make them: python -m trainers.evaluate --run=..."
        )
    results = []
    with open(path) as file:
        for number, line in enumerate(file, 1):
            try:
                content = json.loads(line)
                if content["schema"] != SCHEMA:
                    raise ValueError(f"its schema is {content['schema']}, expected {SCHEMA}")
                results.append(Result(**content))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"Line {number} of '{path}' is no result: {error}. "
                    "If a killed process left it half written, delete it."
                ) from error
    return results


class Comparison:
    """A table of results: a row for each model, a column for each metric.

    Attributes:
        rows: Names of the models.
        columns: Names of the metrics.
        cells: `Result` by (row, column), where there is one.
        notes: For each metric that is not ranked although it could be, the sentence that says why.
    """

    def __init__(self, results: Mapping[str, Iterable[Result]]):
        networks = {}
        for result in (r for many in results.values() for r in many):
            networks.setdefault(result.metric, set()).add((result.extractor or {}).get("id"))

        def column(result):
            if len(networks[result.metric]) == 1:
                return result.metric
            return f"{result.metric} of {(result.extractor or {}).get('id')}"

        self.cells = {(row, column(r)): r for row, many in results.items() for r in many}
        self.rows = list(results)
        self.columns = list(dict.fromkeys(metric for _, metric in self.cells))
        self.notes, self.best = {}, {}
        for column in self.columns:
            self._rank(column)

    def _rank(self, column):
        found = {row: self.cells[row, column] for row in self.rows if (row, column) in self.cells}
        valued = {row: result for row, result in found.items() if result.value is not None}
        if not valued:
            return
        (first_row, first), *others = valued.items()
        for row, result in others:
            a, b = first.protocol(), result.protocol()
            if differing := [key for key in a | b if a.get(key) != b.get(key)]:
                key = differing[0]
                self.notes[column] = (
                    f"{column} is not ranked, because the protocols differ in "
                    f"{', '.join(differing)}: {key} is {a.get(key)} for {first_row}, "
                    f"{b.get(key)} for {row}."
                )
                return
        higher = HIGHER_IS_BETTER.get(first.kind)
        if higher is not None and len(valued) > 1:
            values = {row: result.value for row, result in valued.items()}
            best = (max if higher else min)(values.values())
            self.best[column] = {row for row, value in values.items() if value == best}

    def _cell(self, row, column, mark):
        result = self.cells.get((row, column))
        if result is None:
            return ""
        if result.value is None:
            return "-"
        text = _number(result.value)
        if result.stderr is not None:
            text += f" ± {_number(result.stderr, 2)}"
        return mark(text) if row in self.best.get(column, ()) else text

    def _floor(self, column):
        """The floors of a column, if they agree, as they do under one protocol."""
        floors = {
            _number(r.floor["value"]) + ("" if (n := _other_sizes(r)) is None else f" (of {n})")
            for (_, metric), r in self.cells.items()
            if metric == column and r.floor and r.floor.get("value") is not None
        }
        return floors.pop() if len(floors) == 1 else ""

    def _table(self, mark=lambda text: text):
        table = [["", *self.columns]]
        table += [[row, *(self._cell(row, c, mark) for c in self.columns)] for row in self.rows]
        if any(floors := [self._floor(column) for column in self.columns]):
            table.append(["real images", *floors])
        return table

    def _remarks(self):
        reasons = {}
        for column, note in self.notes.items():
            reasons.setdefault(note.removeprefix(f"{column} is "), []).append(column)
        for reason, columns in reasons.items():
            yield f"{', '.join(columns)} {'is' if len(columns) == 1 else 'are'} {reason}"
        for (row, column), result in self.cells.items():
            if result.value is None:
                yield f"{column} of {row}: {result.error}"

    def text(self) -> str:
        """For a terminal: a line for each metric, a column for each model; `*` marks the best."""
        table = list(zip(*self._table(lambda text: text + " *"), strict=True))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
        return "\n".join([*lines, *self._remarks()]) + "\n"

    def markdown(self) -> str:
        """A table in Markdown; the best of each metric is bold."""
        header, *rows = self._table(lambda text: f"**{text}**")
        lines = [header, ["---"] * len(header), *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        remarks = "".join(f"\n\n{remark}" for remark in self._remarks())
        return table + remarks + "\n"

    def csv(self) -> str:
        """A line for each value: model, metric, value, standard error, floor, counts, remark."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            ["model", "metric", "value", "stderr", "floor", "n_real", "n_fake", "best", "remark"]
        )
        for (row, column), r in self.cells.items():
            remark = r.error if r.value is None else self.notes.get(column)
            best = row in self.best.get(column, ())
            floor = (r.floor or {}).get("value")
            writer.writerow(
                [row, column, r.value, r.stderr, floor, r.n_real, r.n_fake, int(best), remark]
            )
        return out.getvalue()


def compare(results: Mapping[str, Iterable[Result]]) -> Comparison:
    """Puts the results of several models side by side, and ranks those of equal protocol.

    A metric whose protocol (feature network, preprocessing, numbers of images, reference data,
    estimator) is not the same for all models is shown, but not ranked, and a note names the fields
    that differ. Of several results for one metric of one model the last counts.

    Args:
        results: For each model's name its results, as `read` returns them.

    Raises:
        ValueError: If there is nothing to compare.

    Example:
        >>> a = zoo.metrics.Result("nll", "nll", 94.1, stderr=0.3, n_real=1000)
        >>> b = zoo.metrics.Result("nll", "nll", 93.2, stderr=0.3, n_real=500)
        >>> zoo.metrics.compare({"A": [a], "B": [b]}).notes["nll"]
        'nll is not ranked, because the protocols differ in n_real: n_real is 1000 for A, 500 for B.'
    """
    results = {row: list(many) for row, many in results.items()}
    if not any(results.values()):
        raise ValueError("There is nothing to compare: none of the models has a result.")
    return Comparison(results)


def _other_sizes(result):
    """The sizes of a floor's sets, if they are not those of the value's; else `None`."""
    floor = result.floor
    same = result.n_real in (None, floor.get("n_real")) and result.n_fake == floor.get("n_fake")
    return None if same else f"{floor.get('n_real'):,} and {floor.get('n_fake'):,}"


def _number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"


def _flatten(content: Mapping, prefix: str = ""):
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
