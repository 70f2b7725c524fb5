"""The start of decoders at the mean of the training images.

The bias of a new decoder's last layer is set so that the decoder returns the mean image before its
other weights have learned anything. Otherwise a model first uses its latents to learn the mean, and
latents that are not used in the first epochs rarely come back. Burda et al., "Importance Weighted
Autoencoders", 2016, start a Bernoulli decoder at the logits of the mean image, clipped to
[0.001, 0.999]: `get_train_bias_np` in `datasets.py` of the authors' code.
https://arxiv.org/abs/1509.00519, https://github.com/yburda/iwae

`GenerativeModel.adapt` and `GenerativeModel.fit` set the bias, unless the model is made with
`start_at_mean=False`:

- The bias is set if the model has made no step and all values of the bias are 0. Biases that were
  trained, loaded or initialised with other values keep their values.
- The last layer is a `Dense`, `Conv2D`, `Conv2DTranspose` or `SpectralNormalization` layer. Only
  `Reshape`, `Flatten`, `Rescaling` and `Activation` layers, linear, sigmoid or tanh, may follow.
- The bias of a convolution has one value for all pixels of a channel. It is set from the mean over
  these pixels.
- `Family.location` is the inverse of the map from parameters to means. Parameters other than the
  location, such as scales, keep their initial values.
- The mean is that of at most `MOST_IMAGES` images, in steady steps through the data; of a dataset,
  that of the first batches that have so many images.
"""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo import checked_data, networks
from zoo.distributions.families import Family

if TYPE_CHECKING:
    from zoo.datasets import ImageData
    from zoo.model import GenerativeModel

MOST_IMAGES = 10_000
"""Number of images that suffice for the mean. The standard error of a mean pixel is at most 0.005."""

_CHUNK = 1000


class Start(NamedTuple):
    """A decoder that starts at a mean.

    Attributes:
        network: The decoder's network, whose outputs `[B, H, W, P]` are parameters of `family`.
        family: The family of the decoder's values, or a family with the same location.
        values: Function from images `[N, H, W, C]` and a dict of their annotations to the values of
            the family, `[N, H, W, C']`; `None` for the images themselves.
    """

    network: keras.Model
    family: Family
    values: Callable[[np.ndarray, Any], np.ndarray] | None = None


def from_data(model: GenerativeModel, data: ImageData) -> None:
    """Starts the decoders of a new model at the mean of the training images of a data set.

    Images of dynamic binarisation are grey, because the mean of all draws is the grey image.

    Args:
        model: A model.
        data: The data, with the split "train".

    Example:
        >>> model = zoo.models.vae((8, 8, 1))
        >>> zoo.mean_start.from_data(model, zoo.datasets.load("digits"))
        >>> bias = zoo.networks.output_bias(model.likelihood.network).bias
        >>> float(bias[0])  # The first pixel is 0 in all images: the logit of 0.001
        -6.90...
    """
    if found := _unset(model):
        _set(model, found, data.spread("train", MOST_IMAGES))


def from_training(
    model: GenerativeModel, x: Any, y: Any = None, validation_split: float | None = None
) -> Any:
    """Starts the decoders of a new model at the mean of the data of `fit`.

    The mean is that of arrays, or of the first batches of a dataset or a `PyDataset`, or of the
    first batch of a generator. If a batch has two streams, the mean is that of the unlabelled
    images. Data that are distributed to replicas or workers cannot be read: a warning says that no
    bias is set.

    Args:
        model: A model.
        x, y, validation_split: As for Keras's `fit`.

    Returns:
        `x`, to read from its start. A `tf.data.Dataset` is read once before training. For a source
        that can be read only once, call `adapt`, or set `start_at_mean=False`.

    Example:
        For a loop of its own, which calls neither `adapt` nor `fit`:

        >>> x = np.full([10, 8, 8, 1], 0.25, np.float32)
        >>> model = zoo.models.vae((8, 8, 1), likelihood="unit_normal")
        >>> x = zoo.mean_start.from_training(model, x)
        >>> float(zoo.networks.output_bias(model.likelihood.network).bias[0])
        0.25
    """
    if not (found := _unset(model)):
        return x
    if not _is_readable(model, x):
        warnings.warn(
            "The decoder does not start at the mean of the data, because `fit` cannot read them before "
            "its steps. Call model.adapt(data) before training, or make the model with "
            "start_at_mean=False. "
            f"Received: a {type(x).__name__}.",
            stacklevel=3,
        )
        return x
    source, first = checked_data.with_first_batch(x)
    if isinstance(x, keras.utils.PyDataset):
        batches = _of_batches(model, (x[i] for i in range(x.num_batches or 1)))
    elif first is not None:
        batches = _of_batches(model, [first])
    elif isinstance(x, tf.data.Dataset):
        batches = _of_batches(model, x)
    else:
        batches = _of_arrays(x, y, validation_split)
    _set(model, found, batches)
    return source


def _unset(model: GenerativeModel) -> list[tuple[Start, networks.OutputBias]]:
    """The starts whose biases are to be set: of a new model, with biases that are 0."""
    if not model.start_at_mean or int(model.step.numpy()):
        return []
    starts = [s for s in model.mean_starts() if type(s.family).location is not Family.location]
    outputs = [(start, networks.output_bias(start.network)) for start in starts]
    if without := [start.network.name for start, output in outputs if output is None]:
        warnings.warn(
            f"The network {without[0]!r} cannot start at the mean of the data: its last layer has no "
            "bias, or is followed by layers without a known inverse. Its weights are unchanged. End "
            "the network with a layer such as keras.layers.Dense, or make the model with "
            "start_at_mean=False.",
            stacklevel=4,
        )
    trainable = {id(v) for v in model.trainable_variables}
    return [
        (start, output)
        for start, output in outputs
        if output is not None and id(output.bias) in trainable and not np.any(output.bias.numpy())
    ]


def _set(model, found, batches):
    """Sets biases from batches of `(x, y)`, unless there are images of another shape or range.

    A training step reports such images.
    """
    totals: list[Any] = [0.0] * len(found)
    count = 0
    for x, y in batches:
        x = np.asarray(x, np.float32)
        if x.shape[1:] != model.image_shape or not np.all((x >= 0) & (x <= 1)):
            return
        for i, (start, _) in enumerate(found):
            values = x if start.values is None else start.values(x, y)
            totals[i] = totals[i] + start.family.total(values)
        count += len(x)
        if count >= MOST_IMAGES:
            break
    if not count:
        return
    with model.distribute_strategy.scope():
        for (start, output), total in zip(found, totals, strict=True):
            output.bias.assign(_bias(start, output, total, count))


def _bias(start, output, total, count):
    """The values of a bias, `[n]`, from the total of `count` images."""
    *size, params = start.network.output_shape[1:]
    if not output.per_value:
        total, count = total.sum((0, 1)), count * math.prod(size)
    location = output.inverse(start.family.location(total, count))
    bias = np.zeros([*(size if output.per_value else ()), params], np.float32)
    bias[..., : location.shape[-1]] = location
    return bias.ravel()


def _of_batches(model, batches):
    for batch in batches:
        x, y = checked_data.unpack(model, batch)
        yield (x[1], None) if isinstance(x, tuple) else (x, y)


def _of_arrays(x, y, validation_split):
    """Chunks of at most `MOST_IMAGES` rows, in steady steps through the training rows."""
    rows = math.floor(len(x) * (1 - (validation_split or 0.0)))
    step = max(1, -(-rows // MOST_IMAGES))
    for start in range(0, rows, _CHUNK * step):
        part = slice(start, min(start + _CHUNK * step, rows), step)
        of_rows = {name: leaf[part] for name, leaf in y.items()} if isinstance(y, Mapping) else None
        yield x[part], of_rows


def _is_readable(model, x):
    """Whether the mean of data can be computed before training, and is the same on all workers."""
    if hasattr(x, "shape"):
        return True
    # Workers may shuffle a dataset differently, but their biases must be equal.
    several = isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy)
    readable = (tf.data.Dataset, keras.utils.PyDataset, types.GeneratorType)
    return isinstance(x, readable) and not several
