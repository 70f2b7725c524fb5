"""Trains a network for `zoo.features`: `python -m trainers.train_classifier --dataset=mnist`.

What it writes, the weights and a card that says where they come from, is what the zoo ships.
"""

import dataclasses
import datetime
import hashlib
import os
import pathlib
import platform
import time

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from trainers import cli
from zoo import datasets
from zoo.datasets import ImageData
from zoo.features import classifier

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What differs between the data sets."""

    id: str
    epochs: int
    flip: bool  # a mirrored shirt is a shirt, a mirrored 3 is none


RECIPES = {
    "mnist": Recipe("mnist-cnn-v1", epochs=8, flip=False),
    "fashion_mnist": Recipe("fashion-cnn-v1", epochs=16, flip=True),
}
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, SHIFT = 128, 2e-3, 1e-3, 2

flags.DEFINE_enum("dataset", "mnist", sorted(RECIPES), "What to train on.")
flags.DEFINE_string("data_dir", None, "Folder of the sets that TFDS prepared (TFDS_DATA_DIR).")
flags.DEFINE_string("output", None, "Folder for the weights and the card.", required=True)
flags.DEFINE_integer(
    "epochs", None, "Passes over the training set. Default: the recipe's.", lower_bound=1
)
flags.DEFINE_integer("seed", 0, "Of weights, order, augmentation, dropout.")
flags.DEFINE_bool("overwrite", False, "Replace what is at --output.")


def main() -> None:
    recipe = RECIPES[FLAGS.dataset]
    epochs = FLAGS.epochs or recipe.epochs
    weights = pathlib.Path(FLAGS.output) / f"{recipe.id}.npz"
    if weights.exists() and not FLAGS.overwrite:
        raise FileExistsError(
            f"'{weights}' is there already. Choose another --output, or --overwrite."
        )
    data = datasets.load(FLAGS.dataset, data_dir=FLAGS.data_dir, seed=FLAGS.seed)
    weights.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    network = train(data, epochs, recipe.flip, FLAGS.seed)
    minutes = (time.monotonic() - start) / 60
    accuracies = {split: accuracy(network, data, split) for split in ("validation", "test")}
    for split, value in accuracies.items():
        print(f"{split} accuracy: {value:.2%}")
    classifier.save(network, weights)
    text = card(recipe, data, weights, epochs, FLAGS.seed, minutes, accuracies)
    weights.with_suffix(".md").write_text(text)
    print(f"Wrote {weights} and its card.")


def train(data: ImageData, epochs: int, flip: bool, seed: int) -> keras.Model:
    """A classifier of the training split. No other split is looked at."""
    keras.utils.set_random_seed(seed)
    network = classifier.classifier(len(data.label_names))
    shift = SHIFT / data.image_shape[0]
    layers = keras.layers
    # In the model rather than in the pipeline: augmentation then follows the seed, and ends with
    # training.
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


def accuracy(network: keras.Model, data: ImageData, split: str) -> float:
    """The share of a split's images whose largest logit is the label's."""
    images, labels = data.arrays(split)
    logits = network.predict(images, 500, verbose=0)[1]
    return float(np.mean(logits.argmax(1) == labels))


def checksum(data: ImageData, split: str) -> str:
    """SHA-256 over a split's images as uint8 and then its labels as int32, in stored order."""
    images, labels = data.arrays(split)
    digest = hashlib.sha256(np.round(images * 255).astype(np.uint8).tobytes())
    digest.update(labels.astype("<i4").tobytes())
    return digest.hexdigest()


def card(
    recipe: Recipe,
    data: ImageData,
    weights: pathlib.Path,
    epochs: int,
    seed: int,
    minutes: float,
    accuracies: dict[str, float],
) -> str:
    """Where the weights come from and how far they can be trusted, in Markdown."""
    flips = ", half of them mirrored" if recipe.flip else ""
    return f"""# {recipe.id}

The features (128) and logits ({len(data.label_names)}) of a small convolutional classifier of
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
| took | {minutes:.0f} minutes on {os.cpu_count()} CPU cores |
| made | {datetime.date.today()}, Python {platform.python_version()}, TensorFlow \
{tf.__version__}, Keras {keras.__version__} |

Neither the validation nor the test images had any part in it: nothing was chosen by them. The same
command gives other weights of about the same accuracy when it runs again, because the order of the
sums on several cores is not fixed.

## Limits

- The features are those that tell the ten classes apart. What does not help with that, such as the
  stroke's texture or a pattern in the background, they see badly.
- The network has seen the training images of the very set that is evaluated. Samples that
  resemble these are at home in its features; use held-out images as the real ones.
- Distances in these features are comparable with one another only, never with published FIDs,
  which are those of another network.
"""


if __name__ == "__main__":
    cli.start(main)
