"""The scores and the pictures of a subject, by one protocol for all."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.comparison.subjects import Subject
from zoo import metrics, runs, training
from zoo.evaluation import Evaluation
from zoo.features import Extractor
from zoo.metrics import Result
from zoo.runs import Run

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
    if subject.run.best.is_file():
        best = json.loads(subject.run.best_result.read_text())["sampling"]["epoch"]
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
        "run": str(subject.run.path.resolve()),
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
        runs.write_json(path, content)
    return Scored(
        subject,
        checkpoint,
        epoch,
        tuple(Result(**result) for result in content["results"]),
        {picture.stem: picture for picture in sorted(pictures.glob("*.png"))},
    )


def _results(model, data, protocol, extractors, folder, name, subject, epoch):
    sampling = {"run": name, "preset": subject.preset, "model": type(model).__name__}
    for number, extractor in enumerate(extractors or [None]):
        subject = Evaluation.of_model(
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
        wanted = [key for key in subject.usual() if key in KEYS]
        yield from subject.run(
            wanted if not number else [k for k in wanted if k in ("fid", "kid", "prdc")]
        )


def summary(scored: Iterable[Scored]) -> list[dict[str, Any]]:
    """A row for each preset and checkpoint: of each metric mean and spread over the seeds.

    Returns:
        Dicts of "preset", "checkpoint", "seeds", "epochs", "parameters", "seconds",
        "images_per_second" and "metrics": by name the dict of "value", "spread" (the standard
        deviation over seeds; `None` for a single one), "stderr" (of a single one), "floor", "bits",
        "warning". Where the best model of a seed is its last, that counts.
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
    return rows


def _row(preset, checkpoint, seeds, members):
    trained = [json.loads(m.subject.run.results.read_text()) for m in members]
    by_name = {}
    for member in members:
        for result in member.results:
            by_name.setdefault(result.metric, []).append(result)
    return {
        "preset": preset,
        "checkpoint": checkpoint,
        "seeds": seeds,
        "epochs": [member.epoch for member in members],
        "parameters": trained[0]["parameters"],
        "seconds": float(np.mean([t["seconds"] for t in trained])),
        "images_per_second": _mean([t["images_per_second"] for t in trained]),
        "metrics": {name: _over_seeds(found) for name, found in by_name.items()},
    }


def _over_seeds(results):
    first = results[0]
    values = [r.value for r in results if r.value is not None]
    bits = [r.details["bits_per_dim"] for r in results if "bits_per_dim" in r.details]
    return {
        "kind": first.kind,
        "value": _mean(values),
        "spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "stderr": first.stderr if len(results) == 1 else None,
        "bits": _mean(bits),
        "floor": (first.floor or {}).get("value"),
        "n_real": first.n_real,
        "n_fake": first.n_fake,
        "warning": first.details.get("warning"),
        "error": next((r.error for r in results if r.error), None),
    }


def _mean(values):
    values = [v for v in values if v is not None]
    return float(np.mean(values)) if values else None


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


def ranks(rows: Sequence[Mapping[str, Any]], name: str) -> set[int]:
    """The indices of the rows that are best by a metric; none if it has no better end."""
    values = {
        i: row["metrics"][name]["value"]
        for i, row in enumerate(rows)
        if row["metrics"].get(name, {}).get("value") is not None
    }
    kinds = {rows[i]["metrics"][name]["kind"] for i in values}
    higher = metrics.HIGHER_IS_BETTER.get(next(iter(kinds), None))
    if higher is None or len(values) < 2:
        return set()
    best = (max if higher else min)(values.values())
    return {i for i, value in values.items() if value == best}
