"""`Evaluation`: one model or one set of images, scored by the metrics of the registry."""

import dataclasses
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import conditions, metrics, pictures
from zoo.config import with_article
from zoo.contract import check_counts
from zoo.datasets import ImageData
from zoo.evaluation.images import Images, Progress, sample_images, sha256, silent
from zoo.evaluation.registry import METRICS, Metric, resolve
from zoo.evaluation.results import Result, Store
from zoo.features import Extractor
from zoo.model import GenerativeModel
from zoo.versions import versions


@dataclasses.dataclass
class Evaluation:
    """The inputs of all metrics. Create an `Evaluation` with `of_model` or `of_images`.

    Attributes:
        real: The reference images, in 8 bits, never binarised.
        generated: Generated images; `None` if the model draws them, or has no prior to draw from.
        model: The model.
        data: The data set of the model.
        split: The split that `real` comes from.
        num_samples: Number of images to draw from the model.
        extractor: The feature network.
        cache: Folder for features of real images.
        seed: Seed of all draws.
        importance_samples: Number of draws for the likelihood of each image, K.
        limit: Number of images for likelihoods.
        batch_size: Number of images at a time.
        sampling: Facts about the model to record: run, checkpoint, epoch.
        progress: A function that is called with a line of text, the number of items done and their
            total number.
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
        **more: Any,
    ) -> "Evaluation":
        """An evaluation of a model's samples against a split of its data. Computes nothing yet.

        Args:
            model: The model, with the weights to score.
            data: The data set, binarised as in training; feature networks receive the grey images.
            split: "train", "validation" or "test".
            num_samples: Number of images to generate.
            extractor: A feature network from `zoo.features.get`; `None` excludes the metrics that
                need features.
            cache: Folder for features of real images.
            num_real: Use only the first `num_real` images of the split; all by default.
            progress: A function that is called with a line of text, the number of items done and
                their total number.
            **more: Other attributes of the class.

        Raises:
            ValueError: If the split is unknown, or if a number is below 2.

        Example:
            >>> data = zoo.datasets.load("digits", binarize="dynamic")
            >>> model = zoo.presets.build(zoo.presets.get("vae_digits"), data.image_shape)
            >>> evaluation = zoo.evaluation.Evaluation.of_model(model, data, limit=20)
            >>> [result.kind for result in evaluation.run(["rate", "psnr"])]
            ['rate', 'distortion', 'psnr']
        """
        check_counts(num_samples=num_samples, num_real=1 if num_real is None else num_real)
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
        """An evaluation of a set of images against another, both uint8 `[N, H, W, C]`.

        The floor compares one half of the real images with the other. If one set is grey and the
        other is not, the grey channel is repeated.

        Args:
            real: The reference images.
            fake: The generated images.
            extractor: A feature network from `zoo.features.get`.
            cache: Folder for features of real images.
            names: Names of the two sets in results.
            seed: Seed of all draws.
            progress: As for `of_model`.

        Raises:
            ValueError: If a set is not uint8, or not of rank 4, or empty.

        Example:
            >>> a, b = np.random.default_rng(0).integers(0, 256, (2, 40, 16, 16, 1), np.uint8)
            >>> evaluation = zoo.evaluation.Evaluation.of_images(a, b)
            >>> [result.kind for result in evaluation.run(["diversity"])]
            ['diversity']
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

    # Inputs of the metrics ---------------------------------------------------------------------

    @property
    def fake(self) -> Images:
        """The generated images.

        Raises:
            ValueError: If the model's samples are not finite.
        """
        if self.generated is None:
            if isinstance(self._drawn, str):
                raise ValueError(self._drawn)
            return self._drawn
        return self.generated

    @functools.cached_property
    def _drawn(self) -> Images | str:
        """The model's samples, or the error. Every metric reports the error of the one attempt."""
        start = time.monotonic()
        model, data, split = self._of_model
        try:
            pool = conditions.of_data(model, data, split) if self._needs_condition else None
            drawn = sample_images(
                model, self.num_samples, self.seed, self.batch_size, self.progress, pool
            )
        except ValueError as error:
            return str(error)
        self.sampling["seconds"] = round(time.monotonic() - start, 3)
        return Images(drawn, "generated images", self.extractor, None, self.progress)

    @property
    def _of_model(self) -> tuple[GenerativeModel, ImageData, str]:
        """The model, its data set and the split.

        Raises:
            ValueError: If the evaluation is one of sets of images.
        """
        if self.model is None or self.data is None or self.split is None:
            raise ValueError(
                "Expected an evaluation of a model and its data set: see `Evaluation.of_model`. "
                "Received: an evaluation of sets of images, which has neither."
            )
        return self.model, self.data, self.split

    @functools.cached_property
    def floor_sets(self) -> tuple[Images, Images]:
        """Two sets of real images: the reference, and images in place of the generated images.

        The second set comes from another split. It has as many images as are generated, or all
        images of the split if there are fewer. Without a data set, the two sets are halves of the
        reference.
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
        _, data, _ = self._of_model
        return Images(data.pixels("train"), f"{data.name} train")

    @functools.cached_property
    def x(self) -> np.ndarray:
        """The first `limit` images of the split as the model takes them."""
        return self._first[0]

    @functools.cached_property
    def y(self) -> Any:
        """The conditions of `x`, if the model needs one."""
        return self.condition(self._first[1])

    @functools.cached_property
    def _first(self) -> tuple[np.ndarray, Any]:
        _, data, split = self._of_model
        return data.arrays(split, self.limit)

    def condition(self, y: Any) -> Any:
        """What the model reads of `y` if it needs a condition, otherwise `None`."""
        model, _, _ = self._of_model
        return conditions.read(model, y) if self._needs_condition else None

    @property
    def _needs_condition(self) -> bool:
        model, _, _ = self._of_model
        return model.condition is not None and not model.condition_is_optional

    @functools.cached_property
    def labelled(self) -> tuple[np.ndarray, Any]:
        """All images of the split as the model takes them, and their labels."""
        _, data, split = self._of_model
        return data.arrays(split)

    @functools.cached_property
    def latents(self) -> np.ndarray:
        """A draw from q(z | x) for each image of the split, `[N, D]`."""
        model, _, _ = self._of_model
        x, y = self.labelled
        return metrics.aggregate_posterior(model, x, self.batch_size, self.seed, self.condition(y))

    @functools.cached_property
    def reconstructions(self) -> np.ndarray:
        """The reconstructions of all images of the split, `[N, H, W, C]`."""
        model, _, _ = self._of_model
        return self.in_batches(model.reconstruct, *self.labelled)

    def means(self, x: np.ndarray, y: Any = None) -> np.ndarray:
        """The means of q(z | x), `[N, D]`, or of q(z | x, y) if the model needs a condition."""
        model, _, _ = self._of_model
        return self.in_batches(model.encode, x, y)

    def in_batches(self, function: Callable[..., Any], x: np.ndarray, y: Any = None) -> np.ndarray:
        """`function(x)`, `batch_size` images at a time; `function(x, y)` if the model needs `y`."""
        y = self.condition(y)
        parts = [slice(i, i + self.batch_size) for i in range(0, len(x), self.batch_size)]
        return np.concatenate(
            [
                function(x[rows], *([] if y is None else [conditions.rows_of(y, rows)]))
                for rows in parts
            ]
        )

    def draw_neighbours(self, path: str | os.PathLike, n: int = 10, k: int = 8) -> None:
        """Draws the first `n` samples, each next to its `k` nearest training images in pixels.

        The picture shows whether samples are copies of training images.
        """
        samples = self.fake.part(slice(n))
        nearest, _ = metrics.nearest_neighbours(samples.flat, self.train.flat, k)
        pictures.nearest_neighbours(samples.unit, self.train.pixels[nearest] / 255.0, path)

    def has(self, ability: str) -> bool:
        """Whether there is a model that has the ability."""
        return self.model is not None and ability in self.model.abilities()

    # Running ----------------------------------------------------------------------------------

    def lacks(self, metric: Metric) -> str | None:
        """The reason why a metric does not apply, in a sentence; `None` if no reason is known."""
        if metric.needs and (self.data is None or self.model is None):
            return "It needs a model and its data set; sets of images have neither."
        for ability in metric.needs:
            if ability != "data" and self.model is not None and not self.has(ability):
                return (
                    f"{with_article(type(self.model).__name__, True)} has no `{ability}`. "
                    f"It has: {', '.join(self.model.abilities())}."
                )
        if metric.generated and self.generated is None and not self.has("sample"):
            return (
                f"{with_article(type(self.model).__name__, True)} has no prior to sample images "
                "from."
            )
        height, width, channels = self.real.pixels.shape[1:]
        if min(height, width) < metric.smallest:
            return (
                f"It needs images of at least {metric.smallest}x{metric.smallest} pixels. "
                f"Received: {height}x{width}."
            )
        if metric.features and self.extractor and self.extractor.gray == "keep" and channels != 1:
            return (
                f"The network '{self.extractor.id}' takes grey images. Received: {channels} "
                "channels. Choose a network for colour images."
            )
        if metric is METRICS["copying"] and self.split == "train":
            return (
                "It compares samples with training images and with other images: choose another "
                "split."
            )
        return None

    def usual(self) -> list[str]:
        """The metrics that are computed by default: all that apply and are fast."""
        return [
            key
            for key, metric in METRICS.items()
            if not self.lacks(metric)
            and (self.extractor or not metric.features)
            and metric.usual(self)
        ]

    @functools.cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the model's weights: of shapes, types and values, in the model's order."""
        digest = hashlib.sha256()
        if self.model is None:
            raise ValueError("A set of images has no weights. Received: an evaluation of images.")
        for weights in self.model.get_weights():
            digest.update(sha256(weights).encode())
        return digest.hexdigest()

    def request(self, key: str) -> dict[str, Any]:
        """Everything that determines a metric's value and is known before the computation.

        Results of equal requests are results of the same measurement: the same weights, images,
        network and settings.

        Args:
            key: A key of `METRICS`. The metric must apply: see `lacks`.

        Returns:
            A dict of values for JSON.
        """
        metric = METRICS[key]
        asked = {"metric": key, "seed": self.seed, "batch_size": self.batch_size}
        asked["data"] = self._reference(metric)
        if self.model is None:
            asked["generated"] = self.fake.sha256
        else:
            asked |= {"model": type(self.model).__name__, "weights_sha256": self.weights_sha256}
            if metric.generated:
                asked["num_samples"] = self.num_samples
        if metric.features and self.extractor is not None:
            asked["extractor"] = self.extractor.about()
            asked["preprocessing"] = self.extractor.preprocessing
        return _plain(asked | {name: getattr(self, name) for name in metric.settings})

    def run(
        self, keys: Iterable[str] | None = None, store: Store | None = None
    ) -> Iterator[Result]:
        """Computes metrics, and yields each result as soon as it is computed.

        A metric that does not apply, or fails, yields a result without a value; its `error` says
        why.

        Args:
            keys: Keys of `METRICS` or `GROUPS`; by default those of `usual`.
            store: A store of results. Results of equal requests are read from the store instead of
                being computed, and new results are added to the store.

        Raises:
            ValueError: If a key is unknown, or if a metric needs a feature network and there is
                no feature network. Both are checked before the first computation.
        """
        chosen = self.usual() if keys is None else resolve(keys)
        if self.extractor is None and (needy := [k for k in chosen if METRICS[k].features]):
            raise ValueError(
                f"{', '.join(needy)} need a feature network: name one of zoo.features.names()."
            )
        return self._run(chosen, store)

    def _run(self, keys, store):
        for key in keys:
            known = None
            if store and not self.lacks(METRICS[key]):
                known = store.find(self.request(key), METRICS[key].kinds)
            for result in self._compute(key) if known is None else known:
                if store and known is None:
                    store.add(result)
                yield result

    def _compute(self, key):
        metric = METRICS[key]
        self.progress(key, 0, 1)
        request, floors, start = {}, {}, time.monotonic()
        try:
            if reason := self.lacks(metric):
                raise ValueError(reason)
            request = self.request(key)
            self._prepare(metric)
            start = time.monotonic()
            found, error = metric.compute(self), None
            seconds = time.monotonic() - start
            floors = self._floors(metric)
        except (ValueError, ArithmeticError, NotImplementedError, tf.errors.OpError) as failure:
            found, error = dict.fromkeys(metric.kinds), str(failure)
            seconds = time.monotonic() - start
        self.progress(key, 1, 1)
        for kind, estimate in found.items():
            result = self._result(metric, kind, estimate, round(seconds, 3), error)
            yield dataclasses.replace(result, request=request, floor=_plain(floors.get(kind)))

    def _prepare(self, metric):
        """Computes shared inputs of metrics, whose time is not counted for any metric."""
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
            return dict.fromkeys(metric.kinds, {"value": None, "error": str(error)} | about)
        return {
            kind: {"value": float(estimate), "stderr": estimate.stderr} | about
            for kind, estimate in found.items()
        }

    def _reference(self, metric):
        """The images that a metric is measured on, by checksum."""
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

    def _result(self, metric, kind, estimate, seconds, error):
        by_network = metric.features
        sampling = self.sampling | {"seed": self.seed, "batch_size": self.batch_size}
        if metric.generated and self.model is not None:
            sampling["images"] = "means of p(x | z)"
            if self.condition(self.model.condition) is not None:
                sampling["conditions"] = f"drawn from those of {self.data.name} {self.split}"
        content = {
            "metric": self.extractor.name_of(kind) if by_network else kind,
            "kind": kind,
            "value": None,
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
        least = min(n for n in (content["n_real"], content["n_fake"], np.inf) if n is not None)
        if kind == "fid" and least < 10 * self.extractor.dim:
            yield (
                f"{least} images are fewer than ten times the {self.extractor.dim} features: the "
                "bias is large, so compare the value with the floor."
            )
        if metric.features and self.extractor.protocol:
            yield (
                "The network's weights were recognised by their structure. Compare their SHA-256 "
                "to make sure that they are the published ones."
            )
        if metric.features and self.fake.pixels.shape[1:] != self.real.pixels.shape[1:]:
            yield (
                "Real and generated images differ in size, so resizing alone makes them different."
            )


def _plain(content):
    """`content` in Python's own types, for JSON."""
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, np.ndarray | np.generic):
        return _plain(content.tolist())
    if isinstance(content, float) and not np.isfinite(content):
        return str(content)
    return content
