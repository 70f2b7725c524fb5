"""The images that are compared, and their features: sampled, read from a cache, or computed."""

import functools
import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from zoo.contract import check_counts
from zoo.features import Extractor, Features
from zoo.files import check_archive, remove_leftovers, replacing
from zoo.model import GenerativeModel

Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """A `Progress` that prints nothing."""


class Images:
    """A set of images and its features, which are computed at the first access.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        source: The origin of the images, in words.
        extractor: The feature network.
        cache: A folder for features; `None` for no cache.
        progress: A function that is called with a line of text, the number of images done and their
            total number.

    Raises:
        ValueError: If `pixels` is not uint8, or not of rank 4, or empty.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        source: str,
        extractor: Extractor | None = None,
        cache: str | os.PathLike | None = None,
        progress: Progress = silent,
    ) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or not len(pixels):
            raise ValueError(
                "Expected images as uint8 [N, H, W, C]. "
                f"Received: {pixels.dtype} of shape {pixels.shape}."
            )
        self.pixels, self.source = pixels, source
        self.extractor, self.cache, self.progress = extractor, cache, progress

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, rows: slice | np.ndarray) -> "Images":
        """Some of the images, with their features if those of the whole set are computed."""
        part = Images(self.pixels[rows], self.source, self.extractor, self.cache, self.progress)
        if "_extracted" in self.__dict__:
            whole = self._extracted
            part.__dict__["_extracted"] = Features(
                whole.features[rows], None if whole.logits is None else whole.logits[rows]
            )
        return part

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the pixels: see the function `sha256`."""
        return sha256(self.pixels)

    @functools.cached_property
    def _extracted(self) -> Features:
        if self.extractor is None:
            raise ValueError(
                "Features need a network: pass an `extractor`, one of zoo.features.names(). "
                f"Received: {self.source} without an extractor."
            )
        extractor = self.extractor

        def compute():
            # The extractor rejects 8-bit images of zeros and ones as a likely mistake. Here they
            # are valid images that are almost black.
            images = self.unit if self.pixels.max() <= 1 else self.pixels
            what = f"{extractor.id} features of {self.source}"
            return extractor(images, progress=functools.partial(self.progress, what))

        if self.cache is None:
            return compute()
        return cached_features(self.cache, extractor, self.sha256, compute)

    @property
    def features(self) -> np.ndarray:
        """The features, `[N, d]`."""
        return self._extracted.features

    @property
    def logits(self) -> np.ndarray | None:
        """The logits, `[N, classes]`; `None` if the network has no logits."""
        return self._extracted.logits

    @property
    def unit(self) -> np.ndarray:
        """The images as float32 in [0, 1], `[N, H, W, C]`."""
        return self.pixels.astype(np.float32) / 255

    @property
    def flat(self) -> np.ndarray:
        """The images as float32 vectors in [0, 1], `[N, H * W * C]`."""
        return self.unit.reshape(len(self), -1)


def sha256(images: np.ndarray) -> str:
    """SHA-256 of the shape, type and values of an array, in this order."""
    digest = hashlib.sha256(f"{images.shape} {images.dtype}".encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def cached_features(
    folder: str | os.PathLike,
    extractor: Extractor,
    images_sha256: str,
    compute: Callable[[], Features],
) -> Features:
    """The features of a set of images, read from a file in `folder` or computed and written there.

    The file records the network, its weights, the preprocessing and the images.

    Args:
        folder: The cache. It is created if needed.
        extractor: The feature network.
        images_sha256: SHA-256 of the images.
        compute: A function without arguments that returns the features.

    Raises:
        ValueError: If the file is damaged, or holds features of another network or other images.
    """
    identity = {
        "extractor": extractor.about(),
        "preprocessing": extractor.preprocessing,
        "images_sha256": images_sha256,
    }
    text = json.dumps(identity, sort_keys=True)
    name = f"{extractor.id}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    path = pathlib.Path(folder) / name
    if path.is_file():
        try:
            check_archive(path)
            with np.load(path, allow_pickle=False) as file:
                held, features = json.loads(str(file["identity"])), file["features"]
                logits = file.get("logits")
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"The cached features in '{path}' cannot be read: {error}. Delete the file."
            ) from error
        if held != identity:
            raise ValueError(
                f"The cached features in '{path}' are of {held}, expected {identity}. "
                "Features of different networks or images are never mixed: delete the file."
            )
        return Features(features, logits)
    found = compute()
    remove_leftovers(folder)
    logits = {} if found.logits is None else {"logits": found.logits}
    with replacing(path) as partial:
        np.savez(partial, identity=np.array(text), features=found.features, **logits)
    return found


def sample_images(
    model: GenerativeModel,
    n: int,
    seed: int = 0,
    batch_size: int = 500,
    progress: Progress = silent,
    y: np.ndarray | None = None,
) -> np.ndarray:
    """`n` samples of a model, rounded to 8 bits: uint8 `[n, H, W, C]`.

    The samples are the means of p(x | z) that `model.sample` returns. They depend on `seed` and
    `batch_size`.

    Args:
        model: The model.
        n: Number of images.
        seed: Seed of the latents and of the choice of conditions.
        batch_size: Number of images at a time.
        progress: As for `Images`.
        y: A pool of conditions `[N, ...]`, from which one is drawn for each image with replacement;
            `None` for a model without a condition.

    Raises:
        ValueError: If a sample is NaN or infinite.
    """
    check_counts(n=n, batch_size=batch_size)
    check_counts(0, seed=seed)
    size = -(-n // batch_size) * batch_size
    if y is not None:
        y = y[np.random.default_rng(seed).integers(len(y), size=size)]
    images = np.empty([n, *model.image_shape], np.uint8)
    for start in range(0, n, batch_size):
        count = min(batch_size, n - start)
        # Every batch is full, so that the graph of the model is traced once.
        conditions = None if y is None else y[start : start + batch_size]
        drawn = model.sample(batch_size, conditions, seed=tf.constant([seed, start], tf.int32))[
            :count
        ]
        if not np.isfinite(drawn).all():
            raise ValueError("The model's samples are NaN or infinite: its training has diverged.")
        images[start : start + count] = np.round(np.asarray(drawn) * 255.0)
        progress("sampling", start + count, n)
    return images
