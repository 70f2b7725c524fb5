"""Sets which TensorFlow Datasets (TFDS) prepares, read once into memory."""

import contextlib
import functools
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import requests
import tensorflow as tf
from absl import logging

from zoo.datasets.errors import DatasetNotFound
from zoo.datasets.images import ImageData, Split
from zoo.datasets.pixels import centre_crop, square

if TYPE_CHECKING:
    import tensorflow_datasets as tfds  # Functions import it: it takes seconds to load.

CELEBA_CROP = 148  # the centre of 218x178: face and hair, most of the background cut away


def ink(image: tf.Tensor) -> tf.Tensor:
    """Omniglot's strokes as high values: three equal channels, dark on white, to one inverted."""
    return 255 - image[..., :1]


def face(image: tf.Tensor) -> tf.Tensor:
    """The customary central 148x148 crop of an aligned CelebA image."""
    return centre_crop(image, CELEBA_CROP, CELEBA_CROP)


@dataclass(frozen=True)
class Recipe:
    """How a TFDS set becomes an `ImageData`."""

    train: str = "train[:90%]"
    validation: str = "train[90%:]"
    test: str = "test"
    label: str | None = "label"  # the feature which becomes `y`
    pixels: Callable[[tf.Tensor], tf.Tensor] | None = None  # applied before resizing
    shape: tuple[int, int, int] = (28, 28, 1)  # of the images as they come
    levels: int = 256  # grey levels, 0 to levels - 1


_MNIST = Recipe("train[:50000]", "train[50000:]")
RECIPES = {
    "mnist": _MNIST,
    "fashion_mnist": _MNIST,
    # TFDS stores the pixels as 0 and 1, not 0 and 255.
    "binarized_mnist": Recipe("train", "validation", label=None, levels=2),
    "svhn_cropped": Recipe(shape=(32, 32, 3)),
    "cifar10": Recipe(shape=(32, 32, 3)),
    "omniglot": Recipe(label="alphabet", pixels=ink),
    "celeb_a": Recipe("train", "validation", label="attributes", shape=(64, 64, 3), pixels=face),
}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without TFDS's progress bars and log lines, which are many under absl's `app.run`."""
    import tensorflow_datasets as tfds

    verbosity = logging.get_verbosity()
    tfds.disable_progress_bar()
    logging.set_verbosity(min(verbosity, logging.WARNING))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def root(data_dir: str | None) -> Path:
    """The folder of the TFDS sets: the one given, else TFDS_DATA_DIR, else TFDS's default."""
    # Read here, because TFDS itself looks at the environment only once, when it is imported.
    found = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(found).expanduser()


def check(name: str, data_dir: str | None) -> None:
    """Raises DatasetNotFound where `data_dir` is no folder; a set may still be downloaded."""
    if (folder := root(data_dir)).exists() and not folder.is_dir():
        raise DatasetNotFound(f"Looked for {name!r} in '{folder}', which is not a folder.")


def _prepare(builder: "tfds.core.DatasetBuilder", folder: Path) -> None:
    """Builds a set from the files in the manual folder, and from the network where one lacks."""
    import tensorflow_datasets as tfds

    manual = folder / "downloads" / "manual"
    files = {url: info.filename for url, info in builder.url_infos.items()}
    lacking = [url for url, file in files.items() if not (file and (manual / file).exists())]
    try:
        # TFDS retries a dead network for minutes, so each host must give some answer first; what
        # TFDS has downloaded before (each file with an .INFO beside it) needs no host.
        cached = list((folder / "downloads" / builder.name).rglob("*.INFO"))
        if len(cached) < len(lacking):
            for url in {urlsplit(url).netloc: url for url in lacking}.values():
                requests.head(url, timeout=5)
        builder.download_and_prepare(
            download_dir=folder / "downloads",
            download_config=tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False),
        )
    except Exception as error:
        wanted = ", ".join(sorted(filter(None, files.values())))
        hosts = ", ".join(sorted({urlsplit(url).netloc for url in lacking}))
        if isinstance(error, requests.RequestException):
            cause = f"no connection to {hosts}"
        else:
            cause = f"{type(error).__name__}: {str(error)[:300]}"
        raise DatasetNotFound(
            f"The data set {builder.name!r} is not prepared in '{folder}', and preparing it failed "
            f"({cause}). Put its original files ({wanted}) into '{manual}', or give a folder "
            "that holds the prepared set by --data_dir or TFDS_DATA_DIR."
        ) from error


def _read(builder, recipe: Recipe, split: str, size: int | None) -> Split:
    """One split in memory; decoding, cropping and resizing run in parallel."""

    import tensorflow_datasets as tfds

    def example(record):
        image = record["image"]
        if recipe.pixels:
            image = recipe.pixels(image)
        if size:
            image = square(image, size)
        if recipe.label is None:
            return image, tf.constant(0)
        y = record[recipe.label]
        if isinstance(y, dict):
            return image, tf.stack([tf.cast(value, tf.float32) for value in y.values()])
        return image, tf.cast(y, tf.int32)

    # One file after the other keeps the stored order whatever the number of files.
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    data = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
    data = data.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    x_spec, y_spec = data.element_spec
    count = builder.info.splits[split].num_examples
    x = np.empty([count, *x_spec.shape], np.uint8)
    y = np.empty([count, *y_spec.shape], y_spec.dtype.as_numpy_dtype)
    start = 0
    for images, labels in data.batch(1024).prefetch(2).as_numpy_iterator():
        x[start : start + len(images)], y[start : start + len(images)] = images, labels
        start += len(images)
    # The arrays are shared by all that load the set again.
    x.flags.writeable = y.flags.writeable = False
    return Split(x, None if recipe.label is None else y)


# Decoding takes seconds: who trains and then scores a model, or many on one set, waits once.
@functools.lru_cache(maxsize=1)
def _splits(name: str, folder: Path, size: int):
    """The three splits of a set, prepared if need be, and what its builder tells of it."""
    import tensorflow_datasets as tfds

    recipe = RECIPES[name]
    with _quietly():
        builder = tfds.builder(name, data_dir=folder)
        if not Path(builder.data_dir).is_dir():
            _prepare(builder, folder)
        parts = {"train": recipe.train, "validation": recipe.validation, "test": recipe.test}
        splits = {part: _read(builder, recipe, where, size) for part, where in parts.items()}
    return splits, builder.info


def load(name: str, data_dir: str | None, *, image_size: int | None, **options) -> ImageData:
    """Reads a TFDS set, after preparing it if need be; see `zoo.datasets.load`."""
    check(name, data_dir)
    recipe = RECIPES[name]
    splits, info = _splits(name, root(data_dir).absolute(), image_size or recipe.shape[0])
    feature = info.features[recipe.label] if recipe.label else None
    return ImageData(
        name,
        dict(splits),
        splits["train"].images.shape[1:],
        levels=recipe.levels,
        label_names=tuple(feature.names) if hasattr(feature, "names") else None,
        attribute_names=tuple(feature) if hasattr(feature, "keys") else None,
        **options,
    )
