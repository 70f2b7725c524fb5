"""Training of the classifiers that the zoo ships as feature networks, with a card of their origin."""

import dataclasses
import datetime
import hashlib
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from zoo.contract import check_counts
from zoo.datasets import ImageData
from zoo.features import classifier
from zoo.files import replacing

BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, SHIFT = 128, 2e-3, 1e-3, 2


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings that differ between data sets.

    Attributes:
        id: The name of the feature network.
        epochs: Number of passes over the training set.
        flip: Whether half of the images are mirrored: a mirrored shirt is a shirt, a mirrored 3 is
            not a digit.
    """

    id: str
    epochs: int
    flip: bool


RECIPES = {
    "mnist": Recipe("mnist-cnn-v1", epochs=8, flip=False),
    "fashion_mnist": Recipe("fashion-cnn-v1", epochs=16, flip=True),
}
"""The recipes by data set."""


def make(
    recipe: Recipe,
    data: ImageData,
    folder: str | os.PathLike,
    epochs: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Trains a classifier and writes its weights and its card.

    Args:
        recipe: One of `RECIPES`.
        data: The data set, `[28, 28, 1]`, with labels.
        folder: The folder of the two files. It is created if needed.
        epochs: Number of passes over the training set; by default those of the recipe.
        seed: Seed of weights, order, augmentation and dropout.
        overwrite: Whether to replace existing weights.
        say: A function that prints a line.

    Returns:
        The path of the weights; the card has the same name with the suffix `.md`.

    Raises:
        FileExistsError: If the weights exist and `overwrite` is false.
    """
    weights = Path(folder) / f"{recipe.id}.npz"
    if weights.exists() and not overwrite:
        raise FileExistsError(f"'{weights}' exists. Choose another --output, or --overwrite.")
    epochs = recipe.epochs if epochs is None else epochs
    check_counts(epochs=epochs)
    check_counts(0, seed=seed)
    start = time.monotonic()
    network = train(data, epochs, recipe.flip, seed)
    minutes = (time.monotonic() - start) / 60
    accuracies = {split: accuracy(network, data, split) for split in ("validation", "test")}
    for split, value in accuracies.items():
        say(f"{split} accuracy: {value:.2%}")
    with replacing(weights) as partial:
        classifier.save(network, partial)
    text = card(recipe, data, weights, epochs, seed, minutes, accuracies)
    with replacing(weights.with_suffix(".md")) as partial:
        partial.write_text(text)
    return weights


def train(data: ImageData, epochs: int, flip: bool, seed: int) -> keras.Model:
    """Trains a classifier on the training split. The other splits are not used.

    Args:
        data: The data set, `[28, 28, 1]`, with labels.
        epochs: Number of passes over the training split.
        flip: Whether half of the images are mirrored.
        seed: Seed of weights, order, augmentation and dropout.

    Returns:
        A trained `zoo.features.classifier.classifier`.
    """
    keras.utils.set_random_seed(seed)
    network = classifier.classifier(len(_class_names(data)))
    shift = SHIFT / data.image_shape[0]
    layers = keras.layers
    # The augmentation is part of the model, not of the pipeline: it follows the seed, and evaluation
    # skips it.
    augmentation = [
        layers.RandomTranslation(shift, shift, fill_mode="constant", interpolation="nearest"),
        *([layers.RandomFlip("horizontal")] if flip else []),
    ]
    images = x = keras.Input(data.image_shape)
    for layer in augmentation:
        x = layer(x)
    model = keras.Model(images, network(x)[1])
    steps = data.steps_per_epoch(BATCH_SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, epochs * steps)
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    batches = data.batches("train", BATCH_SIZE, shuffle=True, repeat=True)
    model.fit(batches, epochs=epochs, steps_per_epoch=steps, verbose=2)
    return network


def _class_names(data: ImageData) -> tuple[str, ...]:
    if data.label_names is None:
        raise ValueError(
            "A classifier is trained on images with labels. "
            f"Received: '{data.name}', which has no labels."
        )
    return data.label_names


def accuracy(network: keras.Model, data: ImageData, split: str) -> float:
    """The share of a split's images whose largest logit is that of their label, in [0, 1]."""
    images, labels = data.arrays(split)
    logits = network.predict(images, 500, verbose=0)[1]
    return float(np.mean(logits.argmax(1) == labels))


def checksum(data: ImageData, split: str) -> str:
    """SHA-256 of a split's images as uint8, then of its labels as int32, in stored order."""
    images, labels = data.arrays(split)
    digest = hashlib.sha256(np.round(images * 255).astype(np.uint8).tobytes())
    digest.update(np.asarray(labels, "<i4").tobytes())
    return digest.hexdigest()


def card(
    recipe: Recipe,
    data: ImageData,
    weights: Path,
    epochs: int,
    seed: int,
    minutes: float,
    accuracies: dict[str, float],
) -> str:
    """The card of the weights in Markdown: their origin and their limits."""
    flips = ", half of them mirrored" if recipe.flip else ""
    return f"""# {recipe.id}

The features (128) and logits ({len(_class_names(data))}) of a small convolutional classifier of
{data.name}, for `zoo.features.get("{recipe.id}")`. The network is `zoo.features.classifier`.

| | |
|---|---|
| file | `{weights.name}`, {weights.stat().st_size:,} bytes, float32 |
| SHA-256 of the file | `{hashlib.sha256(weights.read_bytes()).hexdigest()}` |
| command | `python -m trainers.train_classifier --dataset={data.name} --epochs={epochs} \
--seed={seed} --output=DIR` |
| trained on | the first {data.sizes["train"]:,} of {data.name}'s training images |
| SHA-256 of these | `{checksum(data, "train")}` (pixels as uint8, then labels as int32) |
| validation accuracy | {accuracies["validation"]:.2%} of {data.sizes["validation"]:,}, the rest of \
the training images |
| test accuracy | {accuracies["test"]:.2%} of {data.sizes["test"]:,} |
| recipe | {epochs} epochs of batches of {BATCH_SIZE}; AdamW, learning rate {LEARNING_RATE:g} \
with cosine decay to 0, weight decay {WEIGHT_DECAY:g}; dropout 0.3; images shifted by up to {SHIFT} \
pixels{flips}; the weights of the last epoch |
| training time | {minutes:.0f} minutes on {os.cpu_count()} CPU cores |
| trained with | Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras \
{keras.__version__}, {datetime.date.today()} |

The validation and test images were not used: neither the weights nor a setting was chosen with them.
The same command gives other weights of about the same accuracy, because the order of sums on several
cores is not fixed.

## Limits

- The features separate the ten classes. They are weak for everything else, such as the texture of
  strokes or a pattern in the background.
- The network was trained on the training images of the evaluated data set. Samples that resemble
  these images look too good in its features: use held-out images as the real ones.
- Distances in these features are comparable with one another only. They are not comparable with
  published FIDs, which use another network.
"""
