"""Starts of a VAE: which of them cost latents, and which are better after a few epochs.

python -m benchmarks.starts [--seeds=2] [--epochs=1,4,12] [--output=DIR]

A latent that dies in the first epochs does not come back (Burda et al., "Importance Weighted
Autoencoders", 2016, section 5, https://arxiv.org/abs/1509.00519, count such latents). Each start
changes one thing in a VAE with the networks of the paper, on dynamically binarised MNIST:

- mean image: none, or the bias of the decoder's output at the logits of the mean training image;
- rate: the learning rate of Adam;
- warm-up: the steps in which the weight of the rate rises from 0 to 1;
- scale: the standard deviation of the posterior before the first step.

Scores are those of the first 1,000 validation images.
"""

import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from benchmarks.machine import machine
from trainers import cli
from zoo import metrics, presets, training
from zoo.datasets import ImageData
from zoo.files import check_writable, write_json, write_text
from zoo.model import GenerativeModel
from zoo.versions import versions

FLAGS = flags.FLAGS
PRESET = "iwae_mnist"
BASE = (
    "model.num_samples=1",
    "batch_size=100",
    "optimizers.vae.learning_rate=3e-3",
    "steps_per_execution=100",
)
STARTS: dict[str, tuple[tuple[str, ...], float | None]] = {
    "mean image, rate 3e-3, no warm-up": ((), None),
    "no mean image": (("start_at_mean=False",), None),
    "rate 1e-3": (("optimizers.vae.learning_rate=1e-3",), None),
    "rate 1e-2": (("optimizers.vae.learning_rate=1e-2",), None),
    "warm-up of 2,000 steps": (("warm_up_steps=2000",), None),
    "scale 0.1": ((), 0.1),
    "scale 1": ((), 1.0),
}
"""The settings of each start, and the scale of the posterior before the first step; `None` for that
of random weights with biases of 0, about log 2."""


def set_scale(model: GenerativeModel, scale: float) -> None:
    """Gives a normal posterior a standard deviation of about `scale` before training.

    The scale is softplus(output): the bias of the output becomes log(exp(scale) - 1), and the random
    weights change the scale by image.
    """
    *_, last = model.posterior.network.layers
    bias = last.bias.numpy()
    bias[len(bias) // 2 :] = np.log(np.expm1(scale))
    last.bias.assign(bias)


def measure(
    config: ConfigDict, data: ImageData, epochs: Sequence[int], scale: float | None
) -> dict[int, dict[str, float]]:
    """Active units and NLL after each number of epochs.

    Args:
        config: The configuration of the model.
        data: The data.
        epochs: Rising numbers of epochs.
        scale: As for `set_scale`, or `None`.
    """
    keras.utils.set_random_seed(config.seed)
    model = presets.build(config, data.image_shape, data.levels)
    model.adapt(data)
    if scale is not None:
        set_scale(model, scale)
    x, _ = data.arrays("validation", limit=1000)
    steps, done, found = data.steps_per_epoch(config.batch_size), 0, {}
    model.steps_per_execution = max(
        n for n in range(1, config.steps_per_execution + 1) if steps % n == 0
    )
    for end in epochs:
        batches = data.batches(
            "train", config.batch_size, shuffle=True, repeat=True, first_epoch=done
        )
        model.fit(batches, initial_epoch=done, epochs=end, steps_per_epoch=steps, verbose=0)
        done = end
        nll = metrics.negative_log_likelihood(model, x, 100, seed=config.seed)
        found[end] = {
            "active units": metrics.active_units(model.encode(x).numpy()).value,
            "NLL": nll.value,
        }
    return found


def report(
    rows: Mapping[str, Sequence[Mapping[int, Mapping[str, float]]]], about: Mapping[str, Any]
) -> str:
    """The scores of all starts and seeds as a table in Markdown."""
    epochs = list(next(iter(rows.values()))[0])
    names = [
        f"{score}, {n} epoch{'s' * (n > 1)}" for n in epochs for score in ("active units", "NLL")
    ]
    lines = [f"| start | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 1)]
    for name, seeds in rows.items():
        cells = []
        for n in epochs:
            cells.append(", ".join(f"{seed[n]['active units']:.0f}" for seed in seeds))
            cells.append(", ".join(f"{seed[n]['NLL']:.1f}" for seed in seeds))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "One number for each seed. NLL in nats, with 100 importance samples."]
    return "\n".join([*lines, "", ", ".join(f"{k} {v}" for k, v in about.items())]) + "\n"


def main() -> None:
    begin = time.monotonic()
    epochs = [int(n) for n in FLAGS.epochs]
    if not epochs or epochs[0] < 1 or sorted(set(epochs)) != epochs:
        raise ValueError(f"--epochs must be rising numbers from 1. Received: {FLAGS.epochs}.")
    folder = pathlib.Path(FLAGS.output)
    check_writable(folder)
    rows: dict[str, list] = {}
    for name, (settings, scale) in STARTS.items():
        rows[name] = []
        for seed in range(FLAGS.seeds):
            config = presets.get(PRESET)
            presets.override(config, [*BASE, *settings, f"seed={seed}", *FLAGS.set])
            training.check_config(config)
            found = measure(config, training.load_data(config), epochs, scale)
            rows[name].append(found)
            print(f"{name}, seed {seed}: {found}")
            keras.backend.clear_session()
    about = {"minutes": round((time.monotonic() - begin) / 60, 1)} | machine() | versions()
    text = report(rows, about)
    print(text)
    settings = {name: {"settings": list(s), "scale": scale} for name, (s, scale) in STARTS.items()}
    write_json(
        folder / "starts.json",
        {"preset": PRESET, "base": list(BASE), "starts": settings, "rows": rows, "about": about},
    )
    write_text(folder / "starts.md", text)


def _define_flags() -> None:
    flags.DEFINE_integer("seeds", 2, "Number of seeds of each start, from 0.", lower_bound=1)
    flags.DEFINE_list("epochs", ["1", "4", "12"], "Epochs after which a model is scored.")
    flags.DEFINE_multi_string("set", [], "key=value: a change to every start. Repeatable.")
    flags.DEFINE_string("output", "benchmarks/results", "Folder for starts.json and starts.md.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
