"""`Evaluation`: a model or a set of images, scored by the metrics of the table."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import metrics, pictures, runs
from zoo.datasets import ImageData
from zoo.evaluation.images import Images, Progress, samples, silent
from zoo.evaluation.table import METRICS, resolve
from zoo.features import Extractor
from zoo.metrics import Result
from zoo.model import GenerativeModel


@dataclasses.dataclass
class Evaluation:
    """Everything that metrics look at. Made by `of_model` or `of_images`.

    Attributes:
        real: The reference images, in 8 bits, never binarised.
        fake: Generated images; `None` where nothing can be sampled.
        other: Further real images: what a perfect generator would give. For the floors.
        model: The model.
        data: Its data set.
        split: Of which `real` are the images.
        extractor: The feature network.
        seed: Of all draws.
        importance_samples: Number of draws for each image's likelihood, K.
        limit: Number of images for likelihoods.
        batch_size: Images at a time.
        sampling: What to record of the model: run, checkpoint, epoch.
        progress: Called with a line of text, the number done and of all.
    """

    real: Images
    fake: Images | None
    other: Images | None = None
    model: GenerativeModel | None = None
    data: ImageData | None = None
    split: str | None = None
    extractor: Extractor | None = None
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
        seed: int = 0,
        batch_size: int = 500,
        progress: Progress = silent,
        **more,
    ) -> "Evaluation":
        """Of a model's samples against a split of its data.

        Args:
            model: The model, with the weights to be scored.
            data: Its data set, binarised as in training; feature networks see the grey images.
            split: "train", "validation" or "test".
            num_samples: Number of images to generate.
            extractor: What `zoo.features.get` returns; `None` leaves out what needs features.
            cache: Folder for features of real images.
            num_real: Use the first so many images of the split; all by default.
            seed: Of all draws.
            batch_size: Images at a time.
            progress: Called with a line of text, the number done and of all.
            **more: Other attributes of the class.

        Raises:
            ValueError: If the split is empty or the numbers are below 2.
        """
        if num_samples < 2 or (num_real is not None and num_real < 2):
            raise ValueError(
                "Sets of images need at least two. "
                f"Received: num_samples={num_samples}, num_real={num_real}."
            )

        def images(pixels, source, cache=cache):
            return Images(pixels, source, extractor, cache, progress)

        real = data.pixels(split, num_real)
        others = next(s for s in ("validation", "train") if s != split)
        fake = None
        if "sample" in model.abilities():
            drawn = samples(model, num_samples, seed, batch_size, progress)
            fake = images(drawn, "generated images", cache=None)
        return cls(
            real=images(real, f"{data.name} {split}"),
            fake=fake,
            other=images(data.pixels(others, num_samples), f"{data.name} {others}"),
            model=model,
            data=data,
            split=split,
            extractor=extractor,
            seed=seed,
            batch_size=batch_size,
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
            real=Images(real, names[0], extractor, cache, progress),
            fake=Images(fake, names[1], extractor, None, progress),
            extractor=extractor,
            seed=seed,
            progress=progress,
            sampling={"source": names[1]},
        )

    # What metrics ask for ---------------------------------------------------------------------

    @functools.cached_property
    def train(self) -> Images:
        """The images that the model was trained on."""
        return Images(self.data.pixels("train"), f"{self.data.name} train")

    @functools.cached_property
    def x(self) -> np.ndarray:
        """The first `limit` images of the split as the model takes them."""
        return self.data.arrays(self.split, self.limit)[0]

    @functools.cached_property
    def labelled(self) -> tuple[np.ndarray, np.ndarray | None]:
        """All images of the split as the model takes them, and their labels."""
        return self.data.arrays(self.split)

    @functools.cached_property
    def latents(self) -> np.ndarray:
        """A draw from q(z | x) for each image of the split, `[N, D]`."""
        return metrics.aggregate_posterior(
            self.model, self.labelled[0], self.batch_size, seed=self.seed
        )

    @functools.cached_property
    def reconstructions(self) -> np.ndarray:
        """Of all images of the split."""
        return self.in_batches(self.model.reconstruct, self.labelled[0])

    def means(self, x: np.ndarray) -> np.ndarray:
        """The means of q(z | x), `[N, D]`."""
        return self.in_batches(self.model.encode, x)

    def in_batches(self, function: Callable, x: np.ndarray) -> np.ndarray:
        """`function(x)`, computed from `batch_size` images at a time."""
        starts = range(0, len(x), self.batch_size)
        return np.concatenate([function(x[i : i + self.batch_size]) for i in starts])

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

    def usual(self) -> list[str]:
        """The metrics that are computed unless others are asked for."""
        return [key for key, metric in METRICS.items() if metric.usual and metric.suits(self)]

    def run(self, keys: Iterable[str] | None = None) -> Iterator[Result]:
        """Computes metrics, and gives each result as soon as it is there.

        Args:
            keys: Of `METRICS` or `GROUPS`; by default all that suit and are not slow.

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
        if any(METRICS[key].features for key in keys):
            for images in (self.real, self.fake, self.other):
                _ = images and images.features  # Now, so that no metric is charged for it.
        for key in keys:
            metric = METRICS[key]
            start = time.monotonic()
            self.progress(key, 0, 1)
            try:
                found, error = metric.compute(self), None
            except (ValueError, ArithmeticError, NotImplementedError, tf.errors.OpError) as failure:
                found, error = dict.fromkeys(metric.gives), str(failure)
            seconds = round(time.monotonic() - start, 3)
            floors = self._floors(metric) if error is None else {}
            self.progress(key, 1, 1)
            for kind, estimate in found.items():
                yield self._result(metric, kind, estimate, floors.get(kind), seconds, error)

    def _floors(self, metric):
        if metric.between is None:
            return {}
        if self.other is not None:
            real, other = self.real, self.other
        else:
            order = np.random.default_rng(self.seed).permutation(len(self.real))
            half = len(order) // 2
            real, other = self.real.part(order[:half]), self.real.part(order[half : 2 * half])
        about = {"n_real": len(real), "n_fake": len(other), "source": other.source}
        try:
            found = metric.between(real, other, self.seed)
        except ValueError as error:
            return dict.fromkeys(metric.gives, {"value": None, "error": str(error)} | about)
        return {kind: {"value": float(estimate)} | about for kind, estimate in found.items()}

    def _result(self, metric, kind, estimate, floor, seconds, error):
        by_network = metric.features
        data = {"sha256": self.real.sha256, "images": self.real.source}
        if self.data is not None:
            data |= {"name": self.data.name, "split": self.split}
            if not metric.of_pixels:
                data["binarize"] = self.data.binarize
        content = {
            "metric": self.extractor.name_of(kind) if by_network else kind,
            "kind": kind,
            "value": None,
            "floor": floor,
            "extractor": self.extractor.about() if by_network else None,
            "preprocessing": self.extractor.preprocessing if by_network else None,
            "data": data,
            "sampling": self.sampling | {"seed": self.seed, "batch_size": self.batch_size},
            "environment": runs.versions(),
            "seconds": seconds,
            "status": "ok" if error is None else "failed",
            "error": error,
        }
        if estimate is not None:
            value = float(estimate)
            if not np.isfinite(value):
                content |= {"status": "failed", "error": f"The value is {value}."}
                value = None
            content |= _plain(dataclasses.asdict(estimate)) | {"value": value}
            content["details"] = dict(content["details"])
            content["details"] |= self._warning(kind, content)
        return Result(**content)

    def _warning(self, kind, content):
        few = min(n for n in (content["n_real"], content["n_fake"], np.inf) if n is not None)
        if kind == "fid" and few < 10 * self.extractor.dim:
            return {
                "warning": f"{few} images are fewer than ten times the {self.extractor.dim} "
                "features: the bias is large, read the floor beside it."
            }
        return {}


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
