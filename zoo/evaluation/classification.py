"""Errors of classifiers: of a model, of an SVM on its codes, and of labelled clusters.

The functions take any model with the ability they need, `classify` or `encode`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.config import with_article
from zoo.contract import check_counts
from zoo.datasets import ImageData
from zoo.model import GenerativeModel


def error(
    model: GenerativeModel, data: ImageData, split: str = "test", batch_size: int = 500
) -> float:
    """The share of a split's labelled images that a model classifies wrongly, in [0, 1].

    Args:
        model: A model that has `classify`, such as an `M2`.
        data: Its data set.
        split: "train", "validation" or "test".
        batch_size: Number of images at a time.

    Raises:
        ValueError: If the model has no `classify`, or if no image of the split has a label.

    Example:
        >>> data = zoo.datasets.load("digits", binarize="dynamic", num_labels=50)
        >>> model = zoo.presets.build(zoo.presets.get("m2_digits"), data.image_shape)
        >>> 0 <= zoo.evaluation.classification.error(model, data) <= 1
        True
    """
    _check_ability(model, "classify")
    x, y = _labelled(data, split)
    return _error(np.argmax(_in_batches(model.classify, x, batch_size), -1), y)


def svm_on_codes(
    model: GenerativeModel,
    data: ImageData,
    split: str = "test",
    penalty: float = 1.0,
    batch_size: int = 500,
) -> float:
    """The error of a support vector machine on a model's codes, in [0, 1].

    This is M1 of Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014,
    https://arxiv.org/abs/1406.5298. The SVM has an RBF kernel and learns from the posterior means
    of the labelled training images.

    Args:
        model: A model that has `encode`, such as a `VAE`.
        data: Its data set; some training images may have no label.
        split: The split to compute the error on.
        penalty: C of the SVM, > 0.
        batch_size: Number of images at a time.

    Raises:
        ValueError: If the model has no `encode`, or if no training image or no image of the split
            has a label.

    Notes:
        The SVM of the paper is transductive: it also uses the unlabelled codes. Codes are not
        scaled to unit variance, because that would amplify the noise of latents that the model does
        not use.

    Example:
        >>> data = zoo.datasets.load("digits", num_labels=50)
        >>> model = zoo.presets.build(zoo.presets.get("vae_digits"), data.image_shape)
        >>> 0 <= zoo.evaluation.classification.svm_on_codes(model, data) <= 1
        True
    """
    from sklearn.svm import SVC

    _check_ability(model, "encode")
    x, y = _labelled(data, "train")
    svm = SVC(C=penalty)
    svm.fit(_in_batches(model.encode, x, batch_size), y)
    x, y = _labelled(data, split)
    return _error(svm.predict(_in_batches(model.encode, x, batch_size)), y)


def label_clusters(q: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The class of each cluster, `[K]`: the label of its most probable example.

    Makhzani et al., "Adversarial Autoencoders", 2016, section 6, https://arxiv.org/abs/1511.05644:
    cluster k gets the label of the validation example that maximises q(y = k | x).

    Args:
        q: q(y | x) of the examples, `[N, K]`.
        y: Their labels, ints `[N]`; a negative label means none.

    Raises:
        ValueError: If no example has a label.

    Example:
        >>> zoo.evaluation.classification.label_clusters([[0.9, 0.1], [0.6, 0.4]], [7, 2])
        array([7, 2])
    """
    q, y = np.asarray(q), np.asarray(y)
    if not (y >= 0).any():
        raise ValueError(
            f"Clusters get their classes from labelled examples. Received: {len(y)} examples "
            "without a label."
        )
    return y[y >= 0][np.argmax(q[y >= 0], 0)]


def cluster_error(
    model: GenerativeModel, data: ImageData, split: str = "test", batch_size: int = 500
) -> float:
    """The share of a split's labelled images in a cluster of another class, in [0, 1].

    The classes of the clusters come from the validation images: see `label_clusters`.

    Args:
        model: A model that has `classify`, such as a `ClusteringAAE`.
        data: Its data set.
        split: The split to compute the error on.
        batch_size: Number of images at a time.

    Raises:
        ValueError: If the model has no `classify`, or if no validation image or no image of the
            split has a label.

    Example:
        >>> data = zoo.datasets.load("digits")
        >>> model = zoo.presets.build(zoo.presets.get("clustering_aae_digits"), data.image_shape)
        >>> 0 <= zoo.evaluation.classification.cluster_error(model, data) <= 1
        True
    """
    _check_ability(model, "classify")
    x, y = _labelled(data, "validation")
    classes = label_clusters(_in_batches(model.classify, x, batch_size), y)
    x, y = _labelled(data, split)
    clusters = np.argmax(_in_batches(model.classify, x, batch_size), -1)
    return _error(classes[clusters], y)


def _check_ability(model, ability):
    if ability not in model.abilities():
        raise ValueError(
            f"Expected a model that has `{ability}`. Received: "
            f"{with_article(type(model).__name__)}, which has {', '.join(model.abilities())}."
        )


def _in_batches(function: Callable[[np.ndarray], Any], x: np.ndarray, batch_size: int):
    check_counts(batch_size=batch_size)
    starts = range(0, len(x), batch_size)
    return np.concatenate([function(x[i : i + batch_size]) for i in starts])


def _labelled(data: ImageData, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The images of a split that have a label, and their labels."""
    x, y = data.arrays(split)
    if not isinstance(y, np.ndarray) or y.ndim != 1 or not (y >= 0).any():
        raise ValueError(
            "Errors are counted on images with integer labels. "
            f"Received: split '{split}' of '{data.name}', which has none."
        )
    return x[y >= 0], y[y >= 0]


def _error(classes, y):
    return float(np.mean(classes != y))
