"""What runs a feature network over images, and says which network that was."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from zoo.features import images as pixels

# What a metric may be called where weights, layer and preprocessing are those of published values.
_PUBLISHED = {"fid": "fid", "kid": "kid", "score": "inception_score"}
_OTHERWISE = {
    "fid": "classifier-FID",
    "kid": "classifier-KID",
    "score": "classifier-score",
}


class Features(NamedTuple):
    """What a network makes of N images: features `[N, dim]`, logits `[N, classes]` or None."""

    features: np.ndarray
    logits: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """A feature network with all that its numbers depend on.

    Attributes:
        id: Its name; two extractors with one name give the same features.
        network: From preprocessed images `[B, size, size, C]` to features `[B, dim]` and logits
            `[B, classes]`, or None for these. It is in evaluation mode.
        dim: Number of features.
        classes: Number of classes, if there are logits.
        layer: Where the features are taken from.
        train_data: What the network was trained on.
        weights_sha256: SHA-256 of the file of its weights.
        size, method, gray, value_range: As for `preprocess`.
        protocol: "ttur" or "clean" where the whole is that of published FIDs: the original code's
            (https://github.com/bioinf-jku/TTUR) or Clean-FID's. None otherwise.

    Example:
        >>> extractor = zoo.features.get("mnist-cnn-v1")
        >>> features, logits = extractor(np.zeros([3, 28, 28, 1]))
        >>> features.shape, logits.shape
        ((3, 128), (3, 10))
    """

    id: str
    network: Callable[[np.ndarray], tuple[Any, Any]] = dataclasses.field(repr=False)
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

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What happens to images before the network, in values for JSON."""
        return {
            "size": self.size,
            "method": self.method,
            "antialias": self.method != "tf1_bilinear",
            "quantise": "uint8",
            "gray": self.gray,
            "range": list(self.value_range),
        }

    def about(self) -> dict[str, Any]:
        """Which network it is, in values for JSON."""
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
        """The name under which a metric on these features may be reported.

        Only a published protocol earns a published name; all other values carry the network's.

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
        batch_size: int = 256,
        progress: Callable[[int, int], None] | None = None,
    ) -> Features:
        """Features and logits of images.

        Args:
            images: As for `preprocess`: uint8 `[N, H, W, C]`, or floats in [0, 1].
            batch_size: Images at a time; the features do not depend on it.
            progress: Called with (images done, N) after each batch.

        Returns:
            float32 `Features`, in the order of the images.

        Raises:
            ValueError: As `preprocess` does, or for a batch size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}.")
        images = pixels.check(images, self.gray)
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
