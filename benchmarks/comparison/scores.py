"""The scores and the pictures of compared models, all by one protocol."""

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.comparison.subjects import Subject
from zoo import pretrained, training
from zoo.evaluation import METRICS, Evaluation, Ranking, Result, Store, rank
from zoo.features import Extractor
from zoo.files import read_json, write_json
from zoo.training import Run

KEYS = ("fid", "kid", "prdc", "copying", "nll", "psnr")
"""The metrics of a comparison, keys of `zoo.evaluation.METRICS`, for models that they apply to."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The settings with which all models are scored.

    Attributes:
        num_samples: Number of images that each model generates.
        importance_samples: Number of draws for the likelihood of each image.
        limit: Number of test images for likelihoods.
        seed: Seed of all draws, including the latents of pictures.
    """

    num_samples: int = 10_000
    importance_samples: int = 1000
    limit: int = 1000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Scored:
    """The scores and pictures of one model.

    Attributes:
        subject: The trained preset.
        checkpoint: "last" or "best".
        epoch: The epoch that the checkpoint comes from.
        results: What `Evaluation.run` yields.
        pictures: The files of the pictures by their content.
        file_sha256: SHA-256 of the model's file.
    """

    subject: Subject
    checkpoint: str
    epoch: int
    results: tuple[Result, ...]
    pictures: Mapping[str, pathlib.Path]
    file_sha256: str


def score(
    subject: Subject,
    protocol: Protocol,
    extractors: Sequence[Extractor],
    folder: pathlib.Path,
    say: Callable[[str], None] = print,
) -> list[Scored]:
    """Scores the last model and, if it differs, the best model of the evaluated epochs.

    Results are kept in the run's evaluation.jsonl. Results of the same weights, images, network and
    settings are read from this file, also those of other programs. All other results are computed
    and appended. Nothing is written to the folder of a reused run: its new results are appended to
    evaluations/NAME.jsonl in the folder of the comparison.

    Args:
        subject: A preset with a finished run.
        protocol: The settings.
        extractors: The feature networks. If there are none, metrics on features are left out.
        folder: The folder of the comparison, for pictures, features of real images, and the results
            of reused runs.
        say: A function that prints a line.
    """
    config = subject.run.read_config()
    epochs = {"last": config.epochs}
    if subject.run.best_path.is_file():
        best = subject.run.read_best()["sampling"]["epoch"]
        if best != config.epochs:
            epochs["best"] = best
    return [
        _scored(subject, config, checkpoint, epoch, protocol, extractors, folder, say)
        for checkpoint, epoch in epochs.items()
    ]


def store_of(subject: Subject, folder: pathlib.Path) -> Store:
    """The results of a run. A reused run is only read; new results go to the comparison's folder."""
    if not subject.reused:
        return Store(subject.run.evaluation_path)
    path = folder / "evaluations" / f"{subject.name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return Store(path, read_only=[subject.run.evaluation_path])


def _scored(subject, config, checkpoint, epoch, protocol, extractors, folder, say):
    name = f"{subject.name}-{checkpoint}"
    model = subject.run.load_model(checkpoint)
    data = training.load_data(config)
    data.seed = 0  # All models are scored on the same draw of binary images.
    with model.best_weights():
        evaluations = list(
            _evaluations(model, data, subject, checkpoint, protocol, extractors, folder)
        )
        results = tuple(_results(evaluations, store_of(subject, folder), name, say))
        pictures = folder / "pictures" / name
        _draw(evaluations[0], pictures, protocol.seed)
    return Scored(
        subject,
        checkpoint,
        epoch,
        results,
        {picture.stem: picture for picture in sorted(pictures.glob("*.png"))},
        pretrained.sha256(
            subject.run.best_path if checkpoint == "best" else subject.run.model_path
        ),
    )


def _evaluations(model, data, subject, checkpoint, protocol, extractors, folder):
    """An evaluation for each feature network, or one without a network."""
    for extractor in extractors or [None]:
        yield Evaluation.of_model(
            model,
            data,
            "test",
            protocol.num_samples,
            extractor,
            cache=folder / "features",
            seed=protocol.seed,
            importance_samples=protocol.importance_samples,
            limit=protocol.limit,
            sampling={
                "run": str(subject.run.path),
                "preset": subject.preset,
                "model": type(model).__name__,
                "checkpoint": checkpoint,
                "averaged_weights": model.keeps_averages,
            },
        )


def _results(
    evaluations: Sequence[Evaluation], store: Store, name: str, say: Callable[[str], None]
) -> Iterator[Result]:
    lines = [f"{name}: scoring"]

    def progress(what, done, total):
        if lines:
            say(lines.pop())

    for number, evaluation in enumerate(evaluations):
        evaluation.progress = progress
        keys = [key for key in evaluation.usual() if key in KEYS]
        # Metrics without features are computed once.
        yield from evaluation.run([k for k in keys if not number or METRICS[k].features], store)


def _draw(evaluation, folder, seed):
    """Draws the pictures of a model, unless the folder has those of the same weights and seed."""
    record = folder / "drawn.json"
    drawn = {"weights_sha256": evaluation.weights_sha256, "seed": seed}
    with contextlib.suppress(FileNotFoundError, ValueError):  # Damaged pictures are drawn again.
        if read_json(record) == drawn:
            return
    shutil.rmtree(folder, ignore_errors=True)
    model, data = evaluation.model, evaluation.data
    training.draw_pictures(model, data, Run(folder), seed)
    if "sample" in model.abilities():
        samples = Evaluation.of_model(model, data, num_samples=10, seed=seed)
        samples.draw_neighbours(folder / "neighbours.png")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, drawn)


Rows = dict[tuple[str, str], list[Scored]]


def _rows(scored: Iterable[Scored]) -> Rows:
    """The models of each row, one for each seed, by preset and checkpoint.

    If the best model of a seed is its last one, the last one counts as the best too.
    """
    by_key = {(s.subject.preset, s.subject.seed, s.checkpoint): s for s in scored}
    rows = {}
    for preset in dict.fromkeys(preset for preset, _, _ in by_key):
        seeds = sorted({seed for p, seed, _ in by_key if p == preset})
        has_best = any((preset, seed, "best") in by_key for seed in seeds)
        for checkpoint in ("last", "best") if has_best else ("last",):
            rows[preset, checkpoint] = [
                by_key.get((preset, seed, checkpoint), by_key[preset, seed, "last"])
                for seed in seeds
            ]
    return rows


def _by_metric(members):
    found = {}
    for member in members:
        for result in member.results:
            found.setdefault(result.metric, []).append(result)
    return found


def rankings(scored: Iterable[Scored]) -> dict[str, Ranking]:
    """The ranking of each metric over the rows of `summary`, called "PRESET, CHECKPOINT"."""
    found = {}
    for (preset, checkpoint), members in _rows(scored).items():
        for metric, results in _by_metric(members).items():
            found.setdefault(metric, {})[f"{preset}, {checkpoint}"] = results
    return {metric: rank(metric, results) for metric, results in found.items()}


def unranked(scored: Iterable[Scored]) -> dict[str, str]:
    """Why metrics are not ranked, in a sentence for each one that has different protocols.

    For example, the likelihoods of a model of binary images and of a model of grey images differ in
    their protocols.
    """
    return {metric: r.note for metric, r in rankings(scored).items() if r.note}


def summary(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """One row for each preset and checkpoint, with the mean and spread of each metric over seeds.

    Returns:
        Dicts of "preset", "checkpoint", "has_best" (whether epochs were evaluated during training),
        "seeds", "epochs", "parameters", "seconds" (`None` if unknown), "images_per_second" and
        "metrics": by name the dict of "kind", "network", "value", "values" of each seed, "spread"
        (the standard deviation over seeds; `None` for a single seed), "stderr" (of a single seed),
        "best" (whether no other row has a better value; false for metrics that are not ranked),
        "floor", "n_floor", "n_real", "n_fake", "bits", "few" (whether a Fréchet distance has fewer
        images than ten times its features), "warning", "error".
    """
    rows = [
        _row(preset, checkpoint, members) for (preset, checkpoint), members in _rows(scored).items()
    ]
    if any(len(row["seeds"]) > 1 for row in rows):
        # A column shows spreads over seeds, or standard errors of a single seed, never both.
        for row in rows:
            for found in row["metrics"].values():
                found["stderr"] = None
    ranked = rankings(scored)
    for row in rows:
        for name, found in row["metrics"].items():
            found["best"] = f"{row['preset']}, {row['checkpoint']}" in ranked[name].best
    return rows


def _row(preset, checkpoint, members):
    trained = [_trained(member.subject.run) for member in members]
    return {
        "preset": preset,
        "checkpoint": checkpoint,
        "has_best": all(member.subject.run.best_path.is_file() for member in members),
        "seeds": [member.subject.seed for member in members],
        "epochs": [member.epoch for member in members],
        "parameters": trained[0]["parameters"],
        "seconds": _mean([t["seconds"] for t in trained]),
        "images_per_second": _mean([t["images_per_second"] for t in trained]),
        "metrics": {name: _over_seeds(found) for name, found in _by_metric(members).items()},
    }


def _trained(run):
    """The content of results.json, with the seconds of all epochs.

    An interrupted run records the seconds of the epochs after the interruption, which are scaled to
    all epochs. If a run does not record which epochs its seconds belong to, its times are `None`.
    """
    results = run.read_results()
    if "resumed_after" not in results:
        return results | {"seconds": None, "images_per_second": None}
    epochs, trained = results["epochs"], results["epochs"] - results["resumed_after"]
    return results | {"seconds": results["seconds"] * epochs / trained if trained else None}


def _over_seeds(results):
    first = results[0]
    values = [r.value for r in results if r.value is not None]
    bits = [r.details["bits_per_dim"] for r in results if "bits_per_dim" in r.details]
    images = [n for n in (first.n_real, first.n_fake) if n is not None]
    floor = first.floor or {}
    return {
        "kind": first.kind,
        "network": (first.extractor or {}).get("id"),
        "value": _mean(values),
        "values": [r.value for r in results],
        "spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "stderr": first.stderr if len(results) == 1 else None,
        "bits": _mean(bits),
        "floor": floor.get("value"),
        "n_floor": floor.get("n_fake"),
        "n_real": first.n_real,
        "n_fake": first.n_fake,
        "few": first.kind == "fid" and bool(images) and min(images) < 10 * first.extractor["dim"],
        "warning": first.details.get("warning"),
        "error": next((r.error for r in results if r.error), None),
    }


def _mean(values):
    values = [v for v in values if v is not None]
    return float(np.mean(values)) if values else None


def csv_rows(scored: Iterable[Scored]) -> list[list[Any]]:
    """A header, and one line for each metric of each seed and checkpoint."""
    images = ["n_real", "n_fake"]
    names = ["preset", "seed", "checkpoint", "epoch", "metric", "value", "stderr", "floor", *images]
    rows = [[*names, "remark"]]
    for s in scored:
        about = [s.subject.preset, s.subject.seed, s.checkpoint, s.epoch]
        for r in s.results:
            floor = (r.floor or {}).get("value")
            remark = r.error if r.value is None else r.details.get("warning")
            rows.append([*about, r.metric, r.value, r.stderr, floor, r.n_real, r.n_fake, remark])
    return rows
