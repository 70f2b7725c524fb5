"""Scores of disturbed photographs: a distance must rise with the strength of each disturbance.

python -m benchmarks.disturbances [--extractor=NAME] [--examples=1000] [--output=DIR]

As in Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", 2017, section A1, https://arxiv.org/abs/1706.08500, with disturbances at growing
strength. The reference is `examples` training images of CIFAR-10. The test images are compared with
it, undisturbed, which is the floor between real images, and with

- noise: Gaussian noise on each pixel, by its standard deviation, relative to the range of pixels;
- blur: a Gaussian blur, by its radius in pixels;
- jpeg: compression, by the quality that Pillow takes;
- vehicles: the share of images of vehicles, which are four of the ten classes.

The kernel distance has no bias. The bias of the Fréchet distance depends on the set, and with few
examples it hides weak disturbances. Features of 12.5 * `examples` images are computed, about seven
minutes on two cores.
"""

import io
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from PIL import Image, ImageFilter

from benchmarks.machine import machine
from trainers import cli
from zoo import datasets, evaluation, features
from zoo.evaluation import Images
from zoo.files import write_json, write_text
from zoo.versions import versions

FLAGS = flags.FLAGS
VEHICLES = ("airplane", "automobile", "ship", "truck")
METRICS = ("fid", "kid", "score", "prdc")
SHARES = (0.6, 0.8, 1.0)
FLOOR = "none"


def noise(images: np.ndarray, scale: float) -> np.ndarray:
    """uint8 images with Gaussian noise of standard deviation 255 * `scale`, rounded and clipped."""
    added = np.random.default_rng(0).normal(0, 255 * scale, images.shape)
    return np.clip(np.round(images + added), 0, 255).astype(np.uint8)


def blur(images: np.ndarray, radius: float) -> np.ndarray:
    """uint8 images after Pillow's Gaussian blur of a radius in pixels."""
    blurred = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(Image.fromarray(image).filter(blurred)) for image in images])


def jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    """uint8 images after compression by JPEG."""

    def compressed(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return np.stack([compressed(image) for image in images])


DISTURBANCES: dict[str, tuple[Callable[[np.ndarray, Any], np.ndarray], Sequence[float]]] = {
    "noise": (noise, (0.05, 0.1, 0.2)),
    "blur": (blur, (0.5, 1, 2)),
    "jpeg": (jpeg, (75, 40, 10)),
}
"""The functions by name, with their strengths from weak to strong."""


def mixture(vehicles: np.ndarray, examples: int, share: float) -> np.ndarray:
    """The rows of a set of which a share shows vehicles: the first rows of both kinds.

    Args:
        vehicles: Whether each image shows a vehicle, `[N]`.
        examples: Number of rows.
        share: The share of vehicles.

    Raises:
        ValueError: If there are too few images of one kind.
    """
    wanted = round(share * examples)
    rows = np.flatnonzero(vehicles)[:wanted], np.flatnonzero(~vehicles)[: examples - wanted]
    if sum(map(len, rows)) < examples:
        raise ValueError(
            f"Expected at least {wanted} images of vehicles and {examples - wanted} others. "
            f"Received: {len(rows[0])} and {len(rows[1])}. Choose fewer --examples."
        )
    return np.concatenate(rows)


def measure(reference: Images, test: Images, vehicles: np.ndarray) -> list[dict[str, Any]]:
    """The scores of each set: one row for each disturbance and strength, and the floor.

    Args:
        reference: N images.
        test: The images to disturb, at least N.
        vehicles: Whether each image of `test` shows a vehicle.

    Returns:
        Rows with the name of the disturbance, its strength, and the value, standard error and bias of
        each kind of score, as in `zoo.metrics.Estimate`.
    """
    n = len(reference)
    # Features of these images are computed once. The last rows are those of the last mixture.
    used = mixture(vehicles, n, SHARES[-1]).max() + 1
    test = test.part(slice(max(n, used)))
    _ = test.features
    base = test.part(slice(n))
    rows = [_row(FLOOR, None, reference, base)]
    for name, (disturb, strengths) in DISTURBANCES.items():
        for strength in strengths:
            pixels = disturb(base.pixels, strength)
            source = f"test images with {name} {strength}"
            changed = Images(pixels, source, test.extractor, progress=test.progress)
            rows.append(_row(name, strength, reference, changed))
    for share in SHARES:
        chosen = mixture(vehicles[: len(test)], n, share)
        rows.append(_row("vehicles", share, reference, test.part(chosen)))
    return rows


def _row(name, strength, real, fake):
    estimates = {}
    for key in METRICS:
        between = evaluation.METRICS[key].between
        assert between is not None
        estimates |= between(real, fake, 0)
    scores = {
        kind: {"value": it.value, "stderr": it.stderr, "bias": it.bias}
        for kind, it in estimates.items()
    }
    return {"disturbance": name, "strength": strength, "scores": scores}


def rising(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, bool]:
    """Whether a score rises from the floor to the weakest strength, and with each further strength."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["disturbance"], []).append(row["scores"][kind]["value"])
    floor = values.pop(FLOOR)
    return {name: bool((np.diff(floor + more) > 0).all()) for name, more in values.items()}


def report(rows: Sequence[Mapping[str, Any]], network: str, about: Mapping[str, Any]) -> str:
    """The rows as a table in Markdown, and whether the distances rise."""
    kinds = ("fid", "kid", "score", "precision", "recall")
    names = ("classifier-FID", "classifier-KID", "classifier-score", "precision", "recall")
    lines = [
        f"Features: `{network}`. The first row compares real images with real images.",
        "",
        f"| disturbance | strength | {' | '.join(names)} |",
        "| --- " * 7 + "|",
    ]
    for row in rows:
        cells = (f"{row['scores'][kind]['value']:.4g}" for kind in kinds)
        strength = "" if row["strength"] is None else row["strength"]
        lines.append(f"| {row['disturbance']} | {strength} | {' | '.join(cells)} |")
    lines.append("")
    for kind, name in (("fid", "Fréchet distance"), ("kid", "kernel distance")):
        found = rising(rows, kind)
        states = ", ".join(f"{k} {'yes' if rises else 'no'}" for k, rises in found.items())
        lines.append(f"The {name} rises with each strength: {states}.")
    return "\n".join([*lines, "", ", ".join(f"{k} {v}" for k, v in about.items())]) + "\n"


def main() -> None:
    begin = time.monotonic()
    extractor = features.get(FLAGS.extractor, FLAGS.weights)
    data = datasets.load("cifar10", data_dir=FLAGS.data_dir)
    names = data.label_names
    labels = data.annotations("test")["label"]
    vehicles = np.isin(labels, [names.index(name) for name in VEHICLES])
    mixture(vehicles, FLAGS.examples, SHARES[-1])  # Too many examples are refused at the start.
    with cli.Progress() as progress:
        reference, test = (
            Images(data.pixels(split, n), f"{split} images", extractor, progress=progress)
            for split, n in (("train", FLAGS.examples), ("test", None))
        )
        rows = measure(reference, test, vehicles)
    about = {"examples": FLAGS.examples, "minutes": round((time.monotonic() - begin) / 60, 1)}
    about |= machine() | versions()
    text = report(rows, extractor.id, about)
    print(text)
    folder = pathlib.Path(FLAGS.output)
    folder.mkdir(parents=True, exist_ok=True)
    network = {"extractor": extractor.about(), "preprocessing": extractor.preprocessing}
    content = {"about": about, **network, "rows": rows}
    write_json(folder / "disturbances.json", content)
    write_text(folder / "disturbances.md", text)


def _define_flags() -> None:
    flags.DEFINE_string(
        "extractor", "efficientnet-lite0-imagenet", "Feature network for colour images."
    )
    flags.DEFINE_string("weights", None, "File with its weights.")
    flags.DEFINE_integer("examples", 1000, "Number of images in each set.", lower_bound=5)
    flags.DEFINE_string("data_dir", None, "Folder of the data set.")
    flags.DEFINE_string("output", "benchmarks/results", "Folder for disturbances.json and .md.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
