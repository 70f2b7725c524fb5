"""The store of results, with their protocols, and the ranking of results of equal protocol."""

import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.evaluation.registry import HIGHER_IS_BETTER
from zoo.files import check_fields, naming

SCHEMA = 1

# Settings that do not change the estimated quantity, and observations of the computation.
_NOT_PROTOCOL = {"seed", "batch_size", "block", "rank_deficient", "clipped", "dtype"}
# Descriptions of the images, which their checksum replaces.
_WORDS_FOR_DATA = {"images", "binarize"}


@dataclasses.dataclass(frozen=True)
class Result:
    """The value of one metric with its whole protocol: one JSON line.

    Attributes:
        metric: The name of the metric, such as "classifier-FID[mnist-cnn-v1]".
        kind: The kind of value, one of `Metric.kinds`, such as "fid"; "objective: NAME" for a loss
            or term of the model.
        value: The value; `None` if there is none, and then `error` says why.
        stderr: The standard error of the value, if there is one.
        n_real: Number of real images.
        n_fake: Number of generated images.
        floor: The same metric between other real images and the same real images: `value`,
            `stderr`, `n_real`, `n_fake`, `source`. There are as many other images as generated
            ones, or fewer if the data set has fewer.
        bias: The expectation of the estimate for two sets of these sizes from one distribution,
            if a formula is known.
        estimator: Method and settings.
        details: Further numbers, and warnings.
        extractor: The feature network: id, SHA-256 of the weights, layer, training data.
        preprocessing: Size, resize rule, range.
        data: The reference: data set, split, SHA-256 of the images.
        sampling: The source of the images: run, checkpoint, epoch, seed, averaged weights, and the
            seconds that sampling took.
        request: The request, as `Evaluation.request` returns it: everything that determines the
            value and is known in advance. Empty for a metric that does not apply.
        environment: Versions and devices.
        seconds: Wall time of this metric alone.
        status: "ok" or "failed".
        error: The reason for a failure.
        schema: Version of this format.
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
    request: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float | None = None
    status: str = "ok"
    error: str | None = None
    schema: int = SCHEMA

    def __str__(self) -> str:
        """One line for a reader, and a second line if there is a warning."""
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
        """The fields that must be equal for two values to be comparable, in a flat dict.

        Example:
            >>> zoo.evaluation.Result("nll", "nll", 94.1, n_real=1000).protocol()["n_real"]
            1000
        """
        estimator = {k: v for k, v in self.estimator.items() if k not in _NOT_PROTOCOL}
        if self.kind == "fid":
            estimator.pop("method", None)  # All methods compute the same number.
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


_NUMBER, _COUNT = (int, float, type(None)), (int, type(None))
_DICT, _TEXT = (dict, type(None)), (str, type(None))
_TYPES = (
    {"metric": str, "kind": str, "status": str, "error": _TEXT}
    | dict.fromkeys(("value", "stderr", "bias", "seconds"), _NUMBER)
    | dict.fromkeys(("n_real", "n_fake"), _COUNT)
    | dict.fromkeys(("floor", "extractor", "preprocessing"), _DICT)
    | dict.fromkeys(("estimator", "details", "data", "sampling", "request", "environment"), dict)
)


# The store -----------------------------------------------------------------------------------


def append(path: str | os.PathLike, result: Result) -> None:
    """Appends a result to a file of JSON lines. The file is created if needed.

    Existing lines do not change. If a killed process left the last line incomplete, the new result
    starts on a line of its own.

    Raises:
        ValueError: If a number of the result is NaN or infinite. Nothing is written.
    """
    line = json.dumps(dataclasses.asdict(result), allow_nan=False) + "\n"
    with naming(path), open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())


def read(path: str | os.PathLike) -> list[Result]:
    """The results in a file of JSON lines, oldest first.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a line is not a result.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"There are no results in '{path}'. Compute them: python -m trainers.evaluate --run=..."
        )
    results = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                results.append(_parsed(line))
            except (ValueError, TypeError, RecursionError) as error:
                raise ValueError(
                    f"Line {number} of '{path}' is not a result: {str(error).removesuffix('.')}. "
                    "If a killed process left it incomplete, delete the line."
                ) from error
    return results


def _parsed(line):
    """The result in a line of a file. Raises a `ValueError` if the line holds something else."""
    content = json.loads(line)
    check_fields(content, {"schema": int})
    if content["schema"] != SCHEMA:
        raise ValueError(f"Its schema is {content['schema']}, expected {SCHEMA}.")
    result = Result(**content)
    check_fields(dataclasses.asdict(result), _TYPES)
    if result.floor is not None:
        check_fields(result.floor, {"value": _NUMBER})
    if result.extractor is not None:
        check_fields(result.extractor, {"id": str})
    if "checkpoint" in result.sampling:
        check_fields(result.sampling, {"checkpoint": _TEXT})
    return result


class Store:
    """Results that are looked up by request, and the file to which new results are appended.

    Args:
        path: A file of JSON lines, read if it exists. New results are appended to it.
        read_only: Further files of JSON lines; those that exist are read and never changed.

    Raises:
        ValueError: If a line of a file is not a result.

    Example:
        >>> import tempfile
        >>> store = zoo.evaluation.Store(tempfile.mkdtemp() + "/evaluation.jsonl")
        >>> store.add(zoo.evaluation.Result("nll", "nll", 94.1, request={"metric": "nll"}))
        >>> [result.value for result in store.find({"metric": "nll"}, ["nll"])]
        [94.1]
        >>> store.find({"metric": "nll", "seed": 1}, ["nll"]) is None
        True
    """

    def __init__(
        self, path: str | os.PathLike, read_only: Iterable[str | os.PathLike] = ()
    ) -> None:
        self.path = path
        files = [*read_only, path]
        self._results = [r for file in files if os.path.isfile(file) for r in read(file)]

    def add(self, result: Result) -> None:
        """Appends a result to the file."""
        append(self.path, result)
        self._results.append(result)

    def find(self, request: Mapping[str, Any], kinds: Iterable[str]) -> list[Result] | None:
        """The newest result of each kind that answers a request.

        Args:
            request: What `Evaluation.request` returns.
            kinds: The required kinds, `Metric.kinds`.

        Returns:
            The results, or `None` if there is no result for one of the kinds.
        """
        found = {r.kind: r for r in self._results if r.request == request}
        complete = set(kinds) <= {kind.partition(":")[0] for kind in found}
        return list(found.values()) if complete else None


# The ranking ---------------------------------------------------------------------------------


class Ranking(NamedTuple):
    """Which models are best by one metric.

    Attributes:
        best: The names of the best models; several if their values are equal. Empty if the metric
            is not ranked, if fewer than two models have a value, or if there is a note.
        note: Why values of the metric cannot be ranked, in a sentence; `None` if they can.
    """

    best: frozenset[str]
    note: str | None


def rank(metric: str, results: Mapping[str, Sequence[Result]]) -> Ranking:
    """Ranks models by the mean of their values of one metric, if all protocols are equal.

    Args:
        metric: The name of the metric, for the note.
        results: The results of the metric by model, one for each training seed. Results without a
            value are left out.

    Example:
        >>> def nll(value, n):
        ...     return [zoo.evaluation.Result("nll", "nll", value, n_real=n)]
        >>> sorted(zoo.evaluation.rank("nll", {"A": nll(94.1, 9), "B": nll(93.2, 9)}).best)
        ['B']
        >>> zoo.evaluation.rank("nll", {"A": nll(94.1, 9), "B": nll(93.2, 5)}).note
        'nll is not ranked, because the protocols differ in n_real: n_real is 9 for A, 5 for B.'
    """
    valued = [(row, r) for row, of_row in results.items() for r in of_row if r.value is not None]
    if not valued:
        return Ranking(frozenset(), None)
    (first_row, first), *others = valued
    for row, result in others:
        a, b = first.protocol(), result.protocol()
        if differing := [key for key in a | b if a.get(key) != b.get(key)]:
            key = differing[0]
            note = (
                f"{metric} is not ranked, because the protocols differ in {', '.join(differing)}: "
                f"{key} is {_short(a.get(key))} for {first_row}, {_short(b.get(key))} for {row}."
            )
            return Ranking(frozenset(), note)
    values = {}
    for row, result in valued:
        values.setdefault(row, []).append(result.value)
    higher = HIGHER_IS_BETTER.get(first.kind)
    if higher is None or len(values) < 2:
        return Ranking(frozenset(), None)
    means = {row: float(np.mean(of_row)) for row, of_row in values.items()}
    best = (max if higher else min)(means.values())
    return Ranking(frozenset(row for row, mean in means.items() if mean == best), None)


class Comparison:
    """A table of results: one row for each model, one column for each metric.

    Attributes:
        rows: Names of the models.
        columns: Names of the metrics.
        cells: `Result` by (row, column), if there is one.
        best: The best rows of each column that is ranked.
        notes: For columns with different protocols, the sentence that says why the column is not
            ranked.
    """

    def __init__(self, results: Mapping[str, Iterable[Result]]) -> None:
        results = {row: list(of_row) for row, of_row in results.items()}
        networks = {}
        for result in (r for of_row in results.values() for r in of_row):
            networks.setdefault(result.metric, set()).add((result.extractor or {}).get("id"))

        def column(result):
            if len(networks[result.metric]) == 1:
                return result.metric
            return f"{result.metric} of {(result.extractor or {}).get('id')}"

        self.cells = {(row, column(r)): r for row, of_row in results.items() for r in of_row}
        self.rows = list(results)
        self.columns = list(dict.fromkeys(metric for _, metric in self.cells))
        self.best: dict[str, frozenset[str]] = {}
        self.notes: dict[str, str] = {}
        for name in self.columns:
            cells = {row: [self.cells[row, name]] for row in self.rows if (row, name) in self.cells}
            ranking = rank(name, cells)
            if ranking.best:
                self.best[name] = ranking.best
            if ranking.note:
                self.notes[name] = ranking.note

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
        """The floor of a column, if all rows have the same one, as they do under one protocol."""
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
        """A table for a terminal: one line for each metric, one column for each model.

        `*` marks the best values.
        """
        table = list(zip(*self._table(lambda text: text + " *"), strict=True))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
        return "\n".join([*lines, *self._remarks()]) + "\n"

    def markdown(self) -> str:
        """A table in Markdown. The best values of each metric are bold."""
        header, *rows = [
            [markdown_text(cell) for cell in row] for row in self._table(lambda text: f"**{text}**")
        ]
        lines = [header, ["---"] * len(header), *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        remarks = "".join(f"\n\n{markdown_text(remark)}" for remark in self._remarks())
        return table + remarks + "\n"

    def csv(self) -> str:
        """A CSV line for each value: model, metric, value, standard error, floor, counts, remark."""
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
    """Puts the results of several models side by side and ranks those of equal protocol.

    A metric is shown but not ranked if its protocol (feature network, preprocessing, numbers of
    images, reference data, estimator) differs between the models; a note names the fields that
    differ. If a model has several results for one metric, the last one counts.

    Args:
        results: The results of each model by its name, as `read` returns them.

    Raises:
        ValueError: If no model has a result.

    Example:
        >>> a = zoo.evaluation.Result("nll", "nll", 94.1, stderr=0.3, n_real=1000)
        >>> b = zoo.evaluation.Result("nll", "nll", 93.2, stderr=0.3, n_real=500)
        >>> zoo.evaluation.compare({"A": [a], "B": [b]}).notes["nll"]
        'nll is not ranked, because the protocols differ in n_real: n_real is 1000 for A, 500 for B.'
    """
    results = {row: list(of_row) for row, of_row in results.items()}
    if not any(results.values()):
        raise ValueError("There is nothing to compare: none of the models has a result.")
    return Comparison(results)


def markdown_text(text: str) -> str:
    """Text for Markdown that a browser shows as it is: without HTML, links and columns of tables.

    Example:
        >>> zoo.evaluation.results.markdown_text("a | <b>")
        'a \\\\| &lt;b>'
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(")
    return text.replace("|", "\\|").replace("\n", " ")


def _other_sizes(result):
    """The sizes of the floor's sets if they differ from those of the value; otherwise `None`."""
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


def _short(value):
    """A protocol value for use in a sentence. A checksum is shortened to eight digits."""
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1...", str(value))
