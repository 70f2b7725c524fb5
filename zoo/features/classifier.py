"""The small convolutional classifier for features of 28x28 images, in place of Inception."""

import os
import zipfile

import keras
import numpy as np

from zoo import keras_settings
from zoo.files import check_archive

IMAGE_SHAPE = (28, 28, 1)
DIM = 128


def classifier(classes: int = 10) -> keras.Model:
    """The network from 28x28x1 images in [0, 1] to features and logits.

    It has five 3x3 convolutions, each with batch normalisation and ReLU, with 2x2 max pooling after
    the first and after the second pair. The features are the averages of the last convolution over
    its 7x7 positions. Dropout precedes the linear layer.

    Args:
        classes: Number of classes, K.

    Returns:
        A model from `[B, 28, 28, 1]` to nonnegative features `[B, 128]` and logits `[B, K]`.

    Example:
        >>> features, logits = zoo.features.classifier.classifier()(np.zeros([3, 28, 28, 1]))
        >>> tuple(features.shape), tuple(logits.shape)
        ((3, 128), (3, 10))
    """
    keras_settings.check()
    layers = keras.layers
    images = x = keras.Input(IMAGE_SHAPE)
    for filters in ((32, 32), (64, 64), (DIM,)):
        if x is not images:
            x = layers.MaxPooling2D()(x)
        for n in filters:
            x = layers.Conv2D(n, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
    features = layers.GlobalAveragePooling2D(name="features")(x)
    logits = layers.Dense(classes, name="logits")(layers.Dropout(0.3)(features))
    return keras.Model(images, (features, logits), name="classifier")


def save(network: keras.Model, path: str | os.PathLike) -> None:
    """Writes the weights as `.npz`: plain arrays in the order of the network."""
    np.savez(path, *network.get_weights())


def load(path: str | os.PathLike) -> keras.Model:
    """The network with the weights that `save` wrote. No code in the file is run.

    Raises:
        ValueError: If the file does not hold the weights of this network.
    """
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as archive:
            weights = [archive[f"arr_{i}"] for i in range(len(archive.files))]
        network = classifier(classes=len(weights[-1]))
        network.set_weights(weights)
    except (KeyError, IndexError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"'{path}' must hold the weights of a classifier, as `trainers.train_classifier` "
            f"writes them. Received: {error}"
        ) from error
    return network
