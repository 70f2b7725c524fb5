"""`Evaluation`: a model or a set of images, scored by the metrics of the table."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import conditions, metrics, pictures
from zoo.datasets import ImageData
from zoo.evaluation.images import Images, Progress, samples, sha256, silent
from zoo.evaluation.table import METRICS, Metric, resolve
from zoo.features import Extractor
from zoo.metrics import Result
from zoo.model import GenerativeModel
from zoo.versions import versions


@dataclasses.dataclass
class Evaluation:
    """Everything that metrics look at. Made by `of_model` or `of_images`.

    Attributes:
        real: The reference images, in 8 bits, never binarised.
        generated: Images to score; `None` where a model makes them, or cannot.
        model: The model.
        data: Its data set.
        split: Of which `real` are the images.
        num_samples: Number of images that the model is to make.
        extractor: The feature network.
        cache: Folder for features of real images.
        seed: Of all draws.
        importance_samples: Number of draws for each image's likelihood, K.
        limit: Number of images for likelihoods.
        batch_size: Images at a time.
        sampling: What to record of the model: run, checkpoint, epoch.
        progress: Called with a line of text, the number done and of all.
    """

    real: Images
    generated: Images | None = None
    model: GenerativeModel | None = None
    data: ImageData | None = None
    split: str | None = None
    num_samples: int = 10_000
    extractor: Extractor | None = None
    cache: str | os.PathLike | None = None
    seed: int = 0
    importance_samples: int = 1000
    limit: int = 1000
    batch_size: int = 500
    sampling: dict[str, Any] = dataclasses.field(default_factory=dict)
    progress: Progress = silent

    @classmethod
    def of_model(
        cls,
        model: GenerativeModel,
        data: ImageData,
        split: str = "test",
        num_samples: int = 10_000,
        extractor: Extractor | None = None,
        *,
        cache: str | os.PathLike | None = None,
        num_real: int | None = None,
        progress: Progress = silent,
        **more,
    ) -> "Evaluation":
        """Of a model's samples against a split of its data. Draws and computes nothing yet.

        Args:
            model: The model, with the weights to be scored.
            data: Its data set, binarised as in training; feature networks see the grey images.
            split: "train", "validation" or "test".
            num_samples: Number of images to generate.
            extractor: What `zoo.features.get` returns; `None` leaves out what needs features.
            cache: Folder for features of real images.
            num_real: Use the first so many images of the split; all by default.
            progress: Called with a line of text, the number done and of all.
            **more: Other attributes of the class.

        Raises:
            ValueError: If there is no such split, or a number is below 2.
        """
        if num_samples < 2 or (num_real is not None and num_real < 2):
            raise ValueError(
                "Sets of images need at least two. "
                f"Received: num_samples={num_samples}, num_real={num_real}."
            )
        return cls(
            Images(
                data.pixels(split, num_real), f"{data.name} {split}", extractor, cache, progress
            ),
            model=model,
            data=data,
            split=split,
            num_samples=num_samples,
            extractor=extractor,
            cache=cache,
            progress=progress,
            **more,
        )

    @classmethod
    def of_images(
        cls,
        real: np.ndarray,
        fake: np.ndarray,
        extractor: Extractor | None = None,
        *,
        cache: str | os.PathLike | None = None,
        names: tuple[str, str] = ("real images", "generated images"),
        seed: int = 0,
        progress: Progress = silent,
    ) -> "Evaluation":
        """Of two sets of images, uint8 `[N, H, W, C]`, against each other.

        The floor is that of one half of the real images against the other. If one set is grey and
        the other is not, its channel is repeated.
        """
        channels = max(real.shape[-1], fake.shape[-1])
        real, fake = (np.repeat(s, channels // s.shape[-1], -1) for s in (real, fake))
        return cls(
            Images(real, names[0], extractor, cache, progress),
            Images(fake, names[1], extractor, None, progress),
            extractor=extractor,
            seed=seed,
            progress=progress,
            sampling={"source": names[1]},
        )

    # What metrics ask for ---------------------------------------------------------------------

    @property
    def fake(self) -> Images:
        """The generated images.

        Raises:
            ValueError: If the model's samples are not finite.
        """
        if self.generated is None:
            images, error = self._drawn
            if error:
                raise ValueError(error)
            return images
        return self.generated

    @functools.cached_property
    def _drawn(self):
        # With the error: it is found once, and is that of each metric.
        start = time.monotonic()
        try:
            pool = None
            if self.data is not None and self._needs_condition:
                pool = conditions.of_data(self.model, self.data, self.split)
            drawn = samples(
                self.model, self.num_samples, self.seed, self.batch_size, self.progress, pool
            )
        except ValueError as error:
            return None, str(error)
        self.sampling["seconds"] = round(time.monotonic() - start, 3)
        return Images(drawn, "generated images", self.extractor, None, self.progress), None

    @functools.cached_property
    def floor_sets(self) -> tuple[Images, Images]:
        """The reference, and other real images in the place of generated ones, as many if possible.

        Of another split; without a data set, two halves of the reference.
        """
        if self.data is not None:
            split = next(s for s in ("validation", "train") if s != self.split)
            pixels = self.data.pixels(split, self.num_samples)
            source = f"{self.data.name} {split}"
            return self.real, Images(pixels, source, self.extractor, self.cache, self.progress)
        order = np.random.default_rng(self.seed).permutation(len(self.real))
        half = len(order) // 2
        return self.real.part(order[:half]), self.real.part(order[half : 2 * half])

    @functools.cached_property
    def train(self) -> Images:
        """The data set's training images."""
        return Images(self.data.pixels("train"), f"{self.data.name} train")

    @functools.cached_property
    def x(self) -> np.ndarray:
        """The first `limit` images of the split as the model takes them."""
        return self._first[0]

    @functools.cached_property
    def y(self) -> np.ndarray | None:
        """The conditions of `x`, where the model takes one."""
        return self.given(self._first[1])

    @functools.cached_property
    def _first(self):
        return self.data.arrays(self.split, self.limit)

    def given(self, y: np.ndarray | None) -> np.ndarray | None:
        """The data's `y` for the model, if that needs a condition."""
        return y if self._needs_condition else None

    @property
    def _needs_condition(self):
        return self.model.condition is not None and not self.model.condition_is_optional

    @functools.cached_property
    def labelled(self) -> tuple[np.ndarray, np.ndarray | None]:
        """All images of the split as the model takes them, and their labels."""
        return self.data.arrays(self.split)

    @functools.cached_property
    def latents(self) -> np.ndarray:
        """A draw from q(z | x) for each image of the split, `[N, D]`."""
        return metrics.aggregate_posterior(
            self.model, self.labelled[0], self.batch_size, self.seed, self.given(self.labelled[1])
        )

    @functools.cached_property
    def reconstructions(self) -> np.ndarray:
        """Of all images of the split."""
        return self.in_batches(self.model.reconstruct, *self.labelled)

    def means(self, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """The means of q(z | x), `[N, D]`; of q(z | x, y), where the model takes a condition."""
        return self.in_batches(self.model.encode, x, y)

    def in_batches(self, function: Callable, x: np.ndarray, y=None) -> np.ndarray:
        """`function(x)` or `function(x, y)`, as the model takes it, `batch_size` images at a time."""
        parts = [x] if (y := self.given(y)) is None else [x, y]
        starts = range(0, len(x), self.batch_size)
        return np.concatenate(
            [function(*(p[i : i + self.batch_size] for p in parts)) for i in starts]
        )

    def draw_neighbours(self, path: str | os.PathLike, n: int = 10, k: int = 8) -> None:
        """A picture of the first `n` samples, each with the `k` training images nearest to it.

        Nearest in pixels: what it shows is whether samples are copies of training images.
        """
        samples = self.fake.part(slice(n))
        nearest, _ = metrics.nearest_neighbours(samples.flat, self.train.flat, k)
        pictures.nearest_neighbours(samples.unit, self.train.pixels[nearest] / 255.0, path)

    def has(self, ability: str) -> bool:
        """Whether there is a model, and it has the ability."""
        return self.model is not None and ability in self.model.abilities()

    # Running ----------------------------------------------------------------------------------

    def lacks(self, metric: Metric) -> str | None:
        """Why a metric cannot be had, in a sentence; `None` if nothing is known against it."""
        if metric.needs and self.data is None:
            return "It needs a model and its data set, of which sets of images have neither."
        for ability in metric.needs:
            if ability != "data" and not self.has(ability):
                return (
                    f"A {type(self.model).__name__} has no `{ability}`. "
                    f"It can: {', '.join(self.model.abilities())}."
                )
        if metric.generated and self.generated is None and not self.has("sample"):
            return f"A {type(self.model).__name__} has no prior to sample images from."
        height, width, channels = self.real.pixels.shape[1:]
        if min(height, width) < metric.smallest:
            return (
                f"It needs images of at least {metric.smallest}x{metric.smallest} pixels. "
                f"Received: {height}x{width}."
            )
        if metric.features and self.extractor and self.extractor.gray == "keep" and channels != 1:
            return (
                f"The network '{self.extractor.id}' takes grey images. Received: {channels} "
                "channels. Choose a network for colours."
            )
        if metric.gives == ("copying",) and self.split == "train":
            return "Samples are compared with training images and others: choose another split."
        return None

    def usual(self) -> list[str]:
        """The metrics that are computed unless others are asked for: all that can be, and fast."""
        return [
            key
            for key, metric in METRICS.items()
            if not self.lacks(metric)
            and (self.extractor or not metric.features)
            and metric.usual(self)
        ]

    def run(self, keys: Iterable[str] | None = None) -> Iterator[Result]:
        """Computes metrics, and gives each result as soon as it is there.

        What cannot be had is a result without a value, whose `error` says why.

        Args:
            keys: Of `METRICS` or `GROUPS`; by default those of `usual`.

        Raises:
            ValueError: For an unknown key, or where a feature network is needed and missing; both
                before anything is computed.
        """
        keys = self.usual() if keys is None else resolve(keys)
        if self.extractor is None and (needy := [k for k in keys if METRICS[k].features]):
            raise ValueError(
                f"{', '.join(needy)} need a feature network: name one of zoo.features.names()."
            )
        return self._run(keys)

    def _run(self, keys):
        for key in keys:
            metric = METRICS[key]
            self.progress(key, 0, 1)
            floors, start = {}, time.monotonic()
            try:
                if reason := self.lacks(metric):
                    raise ValueError(reason)
                self._prepare(metric)
                start = time.monotonic()
                found, error = metric.compute(self), None
                seconds = time.monotonic() - start
                floors = self._floors(metric)
            except (ValueError, ArithmeticError, NotImplementedError, tf.errors.OpError) as failure:
                found, error = dict.fromkeys(metric.gives), str(failure)
                seconds = time.monotonic() - start
            self.progress(key, 1, 1)
            for kind, estimate in found.items():
                yield self._result(
                    metric, kind, estimate, floors.get(kind), round(seconds, 3), error
                )

    def _prepare(self, metric):
        """What several metrics share, so that none of them is charged for it."""
        if metric.generated:
            _ = self.fake
        if metric.features:
            _ = self.real.features, self.fake.features
            _ = [images.features for images in self.floor_sets]

    def _floors(self, metric):
        if metric.between is None:
            return {}
        about = {}
        try:
            real, other = self.floor_sets
            about = {"n_real": len(real), "n_fake": len(other), "source": other.source}
            found = metric.between(real, other, self.seed)
        except ValueError as error:
            return dict.fromkeys(metric.gives, {"value": None, "error": str(error)} | about)
        return {
            kind: {"value": float(estimate), "stderr": estimate.stderr} | about
            for kind, estimate in found.items()
        }

    def _reference(self, metric):
        """What a metric was measured on, by checksum."""
        if metric.reference == "real":
            about = {"sha256": self.real.sha256}
        else:
            of_x = metric.reference == "x"
            about = {
                "sha256": self._sha256_of_x if of_x else self._sha256_of_labelled,
                "binarize": self.data.binarize,
            }
        if self.data is not None:
            about |= {"name": self.data.name, "split": self.split}
        shape = list(self.real.pixels.shape[1:])
        return about | {"image_shape": shape, "images": self.real.source}

    @functools.cached_property
    def _sha256_of_x(self):
        return sha256(self.x)

    @functools.cached_property
    def _sha256_of_labelled(self):
        return sha256(self.labelled[0])

    def _result(self, metric, kind, estimate, floor, seconds, error):
        by_network = metric.features
        sampling = self.sampling | {"seed": self.seed, "batch_size": self.batch_size}
        if metric.generated and self.model is not None:
            sampling["images"] = "means of p(x | z)"
            if self.given(self.model.condition) is not None:
                sampling["conditions"] = f"drawn from those of {self.data.name} {self.split}"
        content = {
            "metric": self.extractor.name_of(kind) if by_network else kind,
            "kind": kind,
            "value": None,
            "floor": floor,
            "extractor": self.extractor.about() if by_network else None,
            "preprocessing": self.extractor.preprocessing if by_network else None,
            "data": self._reference(metric) if error is None else {},
            "sampling": sampling,
            "environment": versions(),
            "seconds": seconds,
            "status": "ok" if error is None else "failed",
            "error": error,
        }
        if estimate is not None:
            value = float(estimate)
            if not np.isfinite(value):
                content |= {"status": "failed", "error": f"The value is {value}."}
                value = None
            content |= dataclasses.asdict(estimate) | {"value": value}
            if warnings := list(self._warnings(metric, kind, content)):
                content["details"] = dict(content["details"]) | {"warning": " ".join(warnings)}
        return Result(**_plain(content))

    def _warnings(self, metric, kind, content):
        few = min(n for n in (content["n_real"], content["n_fake"], np.inf) if n is not None)
        if kind == "fid" and few < 10 * self.extractor.dim:
            yield (
                f"{few} images are fewer than ten times the {self.extractor.dim} features: the bias "
                "is large, read the floor beside it."
            )
        if metric.features and self.extractor.protocol:
            yield (
                "The network's weights were recognised by their structure; whether they are those "
                "published, their SHA-256 tells."
            )
        if metric.features and self.fake.pixels.shape[1:] != self.real.pixels.shape[1:]:
            yield "Real and generated images are of different sizes, and resizing tells them apart."


def _plain(content):
    """The same of Python's own types, as JSON wants them."""
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, np.ndarray | np.generic):
        return _plain(content.tolist())
    if isinstance(content, float) and not np.isfinite(content):
        return str(content)
    return content
