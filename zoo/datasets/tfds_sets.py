"""Data sets that TensorFlow Datasets (TFDS) prepares, read into memory once."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import requests
import tensorflow as tf
from absl import logging

from zoo.datasets.errors import DatasetNotFound
from zoo.datasets.images import ImageData, Split, untuned
from zoo.datasets.pixels import centre_crop, decode, square
from zoo.files import os_error

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

CELEBA_CROP = 148  # The centre of 218x178: face and hair, without most of the background.


def ink(image: tf.Tensor) -> tf.Tensor:
    """Inverts an Omniglot image of three equal channels, dark on white, to one channel."""
    return 255 - image[..., :1]


def face(image: tf.Tensor) -> tf.Tensor:
    """The usual central 148x148 crop of an aligned CelebA image."""
    return centre_crop(image, CELEBA_CROP, CELEBA_CROP)


@dataclass(frozen=True)
class Recipe:
    """How a TFDS set becomes an `ImageData`."""

    train: str = "train[:90%]"
    validation: str = "train[90%:]"
    test: str = "test"
    label: str | None = "label"  # The feature that becomes `y`.
    pixels: Callable[[tf.Tensor], tf.Tensor] | None = None  # Applied before resizing.
    shape: tuple[int, int, int] = (28, 28, 1)  # Of the images before resizing.
    levels: int = 256  # Grey levels, from 0 to levels - 1.


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
    """Suppresses TFDS's progress bars and its log lines, which absl's `app.run` would show."""
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
    """The folder of the TFDS sets: `data_dir`, else TFDS_DATA_DIR, else the default of TFDS."""
    # TFDS itself reads the environment only once, on import.
    found = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(found).expanduser()


def check(name: str, data_dir: str | None) -> None:
    """Checks that `data_dir` is a folder or does not exist; a data set may be downloaded later.

    Raises:
        DatasetNotFound: If `data_dir` is a file.
    """
    if (folder := root(data_dir)).exists() and not folder.is_dir():
        raise DatasetNotFound(
            f"Looked for {name!r} in '{folder}', which is not a folder. Set data_dir to a folder."
        )


# The disk is full, the quota is used up, the file system is read-only, or the user may not write.
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def _prepare(builder: tfds.core.DatasetBuilder, folder: Path) -> None:
    """Builds a set from the files in the manual folder, and downloads missing ones.

    Raises:
        OSError: If `folder` cannot be written. The error names it.
        DatasetNotFound: If the set cannot be built for another reason.
    """
    import tensorflow_datasets as tfds

    manual = folder / "downloads" / "manual"
    files = {url: info.filename for url, info in builder.url_infos.items()}
    missing = [url for url, file in files.items() if not (file and (manual / file).exists())]
    try:
        # TFDS retries an unreachable network for minutes, so hosts are checked first. Files that
        # TFDS has already downloaded have an .INFO file and need no host.
        cached = list((folder / "downloads" / builder.name).rglob("*.INFO"))
        if len(cached) < len(missing):
            for url in {urlsplit(url).netloc: url for url in missing}.values():
                requests.head(url, timeout=5)
        builder.download_and_prepare(
            download_dir=folder / "downloads",
            download_config=tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False),
        )
    except Exception as error:
        found = error if isinstance(error, OSError) else os_error(error)
        if "Not enough disk space" in str(error):  # TFDS's own error, without a number.
            found = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if found is not None and found.errno in _CANNOT_WRITE:
            raise OSError(found.errno, found.strerror, str(folder)) from error
        originals = ", ".join(sorted(filter(None, files.values())))
        hosts = ", ".join(sorted({urlsplit(url).netloc for url in missing}))
        if isinstance(error, requests.RequestException):
            cause = f"no connection to {hosts}"
        else:
            cause = f"{type(error).__name__}: {str(error)[:300]}"
        raise DatasetNotFound(
            f"The data set {builder.name!r} is not prepared in '{folder}', and preparing it failed "
            f"({cause}). Put its original files ({originals}) into '{manual}', or set --data_dir or "
            "TFDS_DATA_DIR to a folder with the prepared set."
        ) from error


def _read(builder: tfds.core.DatasetBuilder, recipe: Recipe, split: str, size: int | None) -> Split:
    """Reads one split into memory; decodes, crops and resizes in parallel."""
    import tensorflow_datasets as tfds

    shape = builder.info.features["image"].shape

    def example(record):
        image = tf.ensure_shape(decode(record["image"], shape[-1]), shape)
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

    # One file is read after the other, to keep the stored order.
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    # TFDS decodes JPEG with the inexact inverse DCT.
    decoders = {"image": tfds.decode.SkipDecoding()}
    data = builder.as_dataset(
        split=split, shuffle_files=False, read_config=config, decoders=decoders
    )
    data = data.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    x_spec, y_spec = data.element_spec
    count = builder.info.splits[split].num_examples
    x = np.empty([count, *x_spec.shape], np.uint8)
    y = np.empty([count, *y_spec.shape], y_spec.dtype.as_numpy_dtype)
    start = 0
    for images, labels in untuned(data.batch(1024).prefetch(2)).as_numpy_iterator():
        x[start : start + len(images)], y[start : start + len(images)] = images, labels
        start += len(images)
    # The cache below shares the arrays.
    x.flags.writeable = y.flags.writeable = False
    return Split(x, None if recipe.label is None else y)


# Decoding takes seconds; a process often loads the same set again, to train and to evaluate.
@functools.lru_cache(maxsize=1)
def _splits(name: str, folder: Path, size: int) -> tuple[dict[str, Split], tfds.core.DatasetInfo]:
    """The three splits of a set, which is prepared if necessary, and the builder's information."""
    import tensorflow_datasets as tfds

    recipe = RECIPES[name]
    with _quietly():
        builder = tfds.builder(name, data_dir=folder)
        if not Path(builder.data_dir).is_dir():
            _prepare(builder, folder)
        parts = {"train": recipe.train, "validation": recipe.validation, "test": recipe.test}
        splits = {part: _read(builder, recipe, rows, size) for part, rows in parts.items()}
    return splits, builder.info


def load(name: str, data_dir: str | None, *, image_size: int | None, **options: Any) -> ImageData:
    """Reads a TFDS set, and prepares it if necessary; see `zoo.datasets.load`."""
    check(name, data_dir)
    recipe = RECIPES[name]
    splits, info = _splits(name, root(data_dir).absolute(), image_size or recipe.shape[0])
    feature: Any = info.features[recipe.label] if recipe.label else None
    return ImageData(
        name,
        dict(splits),
        splits["train"].images.shape[1:],
        levels=recipe.levels,
        label_names=tuple(feature.names) if hasattr(feature, "names") else None,
        attribute_names=tuple(feature) if hasattr(feature, "keys") else None,
        **options,
    )
