"""Images that are compared, and their features: drawn, read from a cache, or computed."""

import functools
import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from zoo.features import Extractor, Features
from zoo.model import GenerativeModel

Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """A `Progress` that says nothing."""


class Images:
    """A set of images, and what a feature network makes of them, computed when first asked for.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        source: Where they are from, in words.
        extractor: The feature network.
        cache: A folder for features; `None` computes them anew.
        progress: Called with a line of text, the number of images done and of all.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        source: str,
        extractor: Extractor | None = None,
        cache: str | os.PathLike | None = None,
        progress: Progress = silent,
    ):
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or not len(pixels):
            raise ValueError(
                "Expected images as uint8 [N, H, W, C]. "
                f"Received: {pixels.dtype} of shape {pixels.shape}."
            )
        self.pixels, self.source = pixels, source
        self.extractor, self.cache, self.progress = extractor, cache, progress

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, rows) -> "Images":
        """Some of the images, with their features if these are known."""
        part = Images(self.pixels[rows], self.source, self.extractor, self.cache, self.progress)
        if "_extracted" in self.__dict__:
            whole = self._extracted
            part.__dict__["_extracted"] = Features(
                whole.features[rows], None if whole.logits is None else whole.logits[rows]
            )
        return part

    @functools.cached_property
    def sha256(self) -> str:
        """See `sha256`."""
        return sha256(self.pixels)

    @functools.cached_property
    def _extracted(self) -> Features:
        def compute():
            # The network takes 8-bit images of zeros and ones for a mistake; here they are none.
            images = self.unit if self.pixels.max() <= 1 else self.pixels
            what = f"{self.extractor.id} features of {self.source}"
            return self.extractor(images, progress=functools.partial(self.progress, what))

        if self.cache is None:
            return compute()
        return cached_features(self.cache, self.extractor, self.sha256, compute)

    @property
    def features(self) -> np.ndarray:
        """`[N, d]`."""
        return self._extracted.features

    @property
    def logits(self) -> np.ndarray:
        """`[N, classes]`."""
        return self._extracted.logits

    @property
    def unit(self) -> np.ndarray:
        """float32 in [0, 1], `[N, H, W, C]`."""
        return self.pixels.astype(np.float32) / 255

    @property
    def flat(self) -> np.ndarray:
        """The same as vectors, `[N, H W C]`."""
        return self.unit.reshape(len(self), -1)


def sha256(images: np.ndarray) -> str:
    """Of shape, type and values of an array, in this order."""
    digest = hashlib.sha256(f"{images.shape} {images.dtype}".encode())
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()


def cached_features(
    folder: str | os.PathLike,
    extractor: Extractor,
    images_sha256: str,
    compute: Callable[[], Features],
) -> Features:
    """The features of a set of images from a file in `folder`, or computed and put there.

    The file says which network, which weights, which preprocessing and which images it is of.

    Raises:
        ValueError: If it is of something else than its name says, or damaged. Nothing is mixed.
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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    arrays = {"features": found.features} | (
        {} if found.logits is None else {"logits": found.logits}
    )
    with open(partial, "wb") as file:
        np.savez(file, identity=np.array(text), **arrays)
    os.replace(partial, path)
    return found


def samples(
    model: GenerativeModel,
    n: int,
    seed: int = 0,
    batch_size: int = 500,
    progress: Progress = silent,
    y: np.ndarray | None = None,
) -> np.ndarray:
    """`n` samples of a model in 8 bits, uint8 `[n, H, W, C]`: rounded before anything else is done.

    They are what `model.sample` gives, the means of p(x | z). The draws follow from `seed` and
    `batch_size`. Where the model takes a condition, each image has one that is drawn from `y[N, ...]`,
    also by `seed`: the conditions are then as frequent as they are there.
    """
    size = -(-n // batch_size) * batch_size
    rows = None if y is None else np.random.default_rng(seed).integers(len(y), size=size)
    images = np.empty([n, *model.image_shape], np.uint8)
    for start in range(0, n, batch_size):
        count = min(batch_size, n - start)
        # Always a full batch, so that a graph that the model may keep is traced once.
        given = None if y is None else y[rows[start : start + batch_size]]
        drawn = model.sample(batch_size, given, seed=tf.constant([seed, start], tf.int32))[:count]
        if not np.isfinite(drawn).all():
            raise ValueError("The model's samples are NaN or infinite: its weights are of no use.")
        images[start : start + count] = np.round(np.asarray(drawn) * 255.0)
        progress("sampling", start + count, n)
    return images
