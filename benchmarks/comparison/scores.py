"""The scores and the pictures of a subject, by one protocol for all."""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.comparison.subjects import Subject
from zoo import metrics, training
from zoo.evaluation import METRICS, Evaluation
from zoo.features import Extractor
from zoo.files import write_json
from zoo.metrics import Result
from zoo.training import Run

KEYS = ("fid", "kid", "prdc", "copying", "nll", "psnr")
"""What is computed of each model, as far as it can be had; keys of `zoo.evaluation.METRICS`."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How everything is scored.

    Attributes:
        num_samples: Number of images that each model makes.
        importance_samples: For each image's likelihood.
        limit: Number of test images for likelihoods.
        seed: Of all draws, also of the latents that are drawn.
    """

    num_samples: int = 10_000
    importance_samples: int = 1000
    limit: int = 1000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Scored:
    """A model, scored.

    Attributes:
        subject: Whose.
        checkpoint: "last" or "best".
        epoch: After which.
        results: As `Evaluation.run` gives them.
        pictures: Their files, by what they show.
    """

    subject: Subject
    checkpoint: str
    epoch: int
    results: tuple[Result, ...]
    pictures: Mapping[str, pathlib.Path]


def score(
    subject: Subject,
    protocol: Protocol,
    extractors: Sequence[Extractor],
    folder: pathlib.Path,
    say: Callable[[str], None] = print,
) -> list[Scored]:
    """The last model and, if it is another, the best one on the way; each scored once.

    Args:
        subject: Of which there is a finished run.
        protocol: How.
        extractors: The feature networks; none leave out what needs features.
        folder: Of the comparison: scores, pictures and features of real images go there.
        say: Called with each line of the report.
    """
    config = subject.run.read_config()
    epochs = {"last": config.epochs}
    if subject.run.best_path.is_file():
        best = json.loads(subject.run.best_result_path.read_text())["sampling"]["epoch"]
        if best != config.epochs:
            epochs["best"] = best
    return [
        _scored(subject, config, checkpoint, epoch, protocol, extractors, folder, say)
        for checkpoint, epoch in epochs.items()
    ]


def _scored(subject, config, checkpoint, epoch, protocol, extractors, folder, say):
    name = f"{subject.name}-{checkpoint}"
    path, pictures = folder / "scores" / f"{name}.json", folder / "pictures" / name
    settings = dataclasses.asdict(protocol) | {
        "model": _sha256(subject.run.best_path if checkpoint == "best" else subject.run.model_path),
        "epoch": epoch,
        "extractors": [[e.id, e.weights_sha256] for e in extractors],
        "keys": list(KEYS),
    }
    content = json.loads(path.read_text()) if path.is_file() else {}
    if content.get("settings") != settings:
        say(f"{name}: scoring")
        model = subject.run.load_model(checkpoint)
        data = training.load_data(config)
        data.seed = 0  # The same draw of binary images for all.
        with model.best_weights():
            found = list(_results(model, data, protocol, extractors, folder, name, subject, epoch))
            training.draw(model, data, Run(pictures), protocol.seed)
            if "sample" in model.abilities():
                few = Evaluation.of_model(
                    model, data, num_samples=10, seed=protocol.seed, cache=None
                )
                few.draw_neighbours(pictures / "neighbours.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"settings": settings, "results": [dataclasses.asdict(r) for r in found]}
        write_json(path, content)
    return Scored(
        subject,
        checkpoint,
        epoch,
        tuple(Result(**result) for result in content["results"]),
        {picture.stem: picture for picture in sorted(pictures.glob("*.png"))},
    )


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _results(model, data, protocol, extractors, folder, name, subject, epoch):
    sampling = {"run": name, "preset": subject.preset, "model": type(model).__name__}
    for number, extractor in enumerate(extractors or [None]):
        evaluation = Evaluation.of_model(
            model,
            data,
            "test",
            protocol.num_samples,
            extractor,
            cache=folder / "features",
            seed=protocol.seed,
            importance_samples=protocol.importance_samples,
            limit=protocol.limit,
            sampling=sampling | {"epoch": epoch},
        )
        # What needs no features is the same for each network.
        wanted = [key for key in evaluation.usual() if key in KEYS]
        yield from evaluation.run([k for k in wanted if not number or METRICS[k].features])


def unranked(scored: Iterable[Scored]) -> dict[str, str]:
    """For each metric that was not measured in the same way of all, the sentence that says so.

    Such as the likelihoods of a model of binary images and one of grey ones.
    """
    first = {}
    for s in scored:
        first.setdefault(f"{s.subject.preset}, {s.checkpoint}", s.results)
    notes = metrics.compare(first).notes if any(first.values()) else {}
    return {
        name: re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1...", n) for name, n in notes.items()
    }


def summary(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """A row for each preset and checkpoint: of each metric mean and spread over the seeds.

    Returns:
        Dicts of "preset", "checkpoint", "has_best" (whether models were evaluated on the way),
        "seeds", "epochs", "parameters", "seconds" (`None` where not known), "images_per_second" and
        "metrics": by name the dict of "kind", "network", "value", "values" of each seed, "spread"
        (the standard deviation over seeds; `None` for a single one), "stderr" (of a single one),
        "best" (whether no other row's value is better; never of metrics that are not ranked),
        "floor", "n_floor", "n_real", "n_fake", "bits", "few" (whether there are fewer images than
        ten times the features of a Fréchet distance), "warning", "error". Where the best model of a
        seed is its last, that counts.
    """
    by_key = {(s.subject.preset, s.subject.seed, s.checkpoint): s for s in scored}
    rows = []
    for preset in dict.fromkeys(preset for preset, _, _ in by_key):
        seeds = sorted({seed for p, seed, _ in by_key if p == preset})
        checkpoints = [
            "last",
            *(["best"] if any((preset, s, "best") in by_key for s in seeds) else []),
        ]
        for checkpoint in checkpoints:
            members = [
                by_key.get((preset, seed, checkpoint), by_key[preset, seed, "last"])
                for seed in seeds
            ]
            rows.append(_row(preset, checkpoint, seeds, members))
    if any(len(row["seeds"]) > 1 for row in rows):  # A spread is of seeds, and one has none.
        for row in rows:
            for found in row["metrics"].values():
                found["stderr"] = None
    left_out = unranked(scored)
    for name in dict.fromkeys(name for row in rows for name in row["metrics"]):
        best = set() if name in left_out else _best(rows, name)
        for i, row in enumerate(rows):
            if name in row["metrics"]:
                row["metrics"][name]["best"] = i in best
    return rows


def _row(preset, checkpoint, seeds, members):
    trained = [_trained(member.subject.run) for member in members]
    by_name = {}
    for member in members:
        for result in member.results:
            by_name.setdefault(result.metric, []).append(result)
    return {
        "preset": preset,
        "checkpoint": checkpoint,
        "has_best": all(member.subject.run.best_path.is_file() for member in members),
        "seeds": seeds,
        "epochs": [member.epoch for member in members],
        "parameters": trained[0]["parameters"],
        "seconds": _mean([t["seconds"] for t in trained]),
        "images_per_second": _mean([t["images_per_second"] for t in trained]),
        "metrics": {name: _over_seeds(found) for name, found in by_name.items()},
    }


def _trained(run):
    """The content of results.json; of a run that was interrupted its seconds are of all epochs.

    They are recorded of the epochs after the interruption alone, and taken to be alike before. Of a
    run that does not say of which epochs they are, since it was made before, no times are known.
    """
    results = json.loads(run.results_path.read_text())
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


def _best(rows, name):
    """The indices of the rows that are best by a metric; none if it has no better end."""
    found = {i: row["metrics"][name] for i, row in enumerate(rows) if name in row["metrics"]}
    values = {i: it["value"] for i, it in found.items() if it["value"] is not None}
    higher = metrics.HIGHER_IS_BETTER.get(next(iter(found.values()))["kind"])
    if higher is None or len(values) < 2:
        return set()
    best = (max if higher else min)(values.values())
    return {i for i, value in values.items() if value == best}


def csv_rows(scored: Iterable[Scored]) -> list[list[Any]]:
    """A header, and a line for each value of each seed and checkpoint."""
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
