"""`Extractor`: a feature network with its preprocessing and its description."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.contract import check_counts
from zoo.features import images as pixels

# Names of metrics whose weights, layer and preprocessing are those of published values.
_PUBLISHED = {"fid": "fid", "kid": "kid", "score": "inception_score"}
_OTHERWISE = {
    "fid": "classifier-FID",
    "kid": "classifier-KID",
    "score": "classifier-score",
}


class Features(NamedTuple):
    """The features `[N, dim]` and logits `[N, classes]` (or None) of N images."""

    features: np.ndarray
    logits: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """A feature network with everything that its features depend on.

    Attributes:
        id: The name. Extractors of equal name give equal features.
        network: A function from preprocessed images `[B, size, size, C]` to features `[B, dim]` and
            logits `[B, classes]` or None, in evaluation mode.
        dim: Number of features.
        classes: Number of classes; None without logits.
        layer: The layer of the features.
        train_data: The data that the network was trained on.
        weights_sha256: SHA-256 of the file of its weights.
        size, method, gray, value_range: As for `preprocess`.
        protocol: "ttur" if everything is as in the original code of FID
            (https://github.com/bioinf-jku/TTUR), "clean" if it is as in Clean-FID, otherwise None.
        batch_size: Number of images at a time, unless a call chooses another. It bounds the memory.

    Example:
        >>> extractor = zoo.features.get("mnist-cnn-v1")
        >>> features, logits = extractor(np.zeros([3, 28, 28, 1]))
        >>> features.shape, logits.shape
        ((3, 128), (3, 10))
    """

    id: str
    network: Callable[[np.ndarray], Sequence[Any]] = dataclasses.field(repr=False)
    dim: int
    classes: int | None
    layer: str
    train_data: str
    weights_sha256: str
    size: int
    method: str = "bicubic"
    gray: str = "repeat"
    value_range: tuple[float, float] = (0.0, 1.0)
    protocol: str | None = None
    batch_size: int = 256

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The preprocessing of images, in values for JSON."""
        return {
            "size": self.size,
            "method": self.method,
            "antialias": self.method != "tf1_bilinear",
            "quantise": "uint8",
            "gray": self.gray,
            "range": list(self.value_range),
        }

    def about(self) -> dict[str, Any]:
        """The description of the network, in values for JSON."""
        return {
            "id": self.id,
            "dim": self.dim,
            "layer": self.layer,
            "weights_sha256": self.weights_sha256,
            "train_data": self.train_data,
            "protocol": self.protocol,
            "eval_mode": True,
        }

    def name_of(self, metric: str) -> str:
        """The name of a metric on these features.

        A published name is used for a published protocol only. All other names contain the network.

        Args:
            metric: "fid", "kid", "score", or the name of another metric.

        Example:
            >>> zoo.features.get("mnist-cnn-v1").name_of("fid")
            'classifier-FID[mnist-cnn-v1]'
        """
        if self.protocol and metric in _PUBLISHED:
            return _PUBLISHED[metric]
        return f"{_OTHERWISE.get(metric, metric)}[{self.id}]"

    def __call__(
        self,
        images: Any,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Features:
        """Features and logits of images.

        Args:
            images: As for `preprocess`: uint8 `[N, H, W, C]`, or floats in [0, 1].
            batch_size: Number of images at a time; by default the extractor's own. The features do
                not depend on it.
            progress: A function that is called after each batch with the number of images done and
                N.

        Returns:
            float32 `Features`, in the order of the images.

        Raises:
            ValueError: If `preprocess` rejects the images, or if the batch size is below 1.
        """
        batch_size = self.batch_size if batch_size is None else batch_size
        check_counts(batch_size=batch_size)
        images = pixels.check_images(images, self.gray)
        features = np.empty([len(images), self.dim], np.float32)
        logits = np.empty([len(images), self.classes], np.float32) if self.classes else None
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            batch = pixels.prepared(
                images[rows], self.size, self.method, self.gray, self.value_range
            )
            some_features, some_logits = self.network(batch)
            features[rows] = np.asarray(some_features)
            if logits is not None:
                logits[rows] = np.asarray(some_logits)
            if progress:
                progress(min(start + batch_size, len(images)), len(images))
        return Features(features, logits)
