"""Preprocessing of images for feature networks: one quantisation, one resize, one scaling."""

from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

_PIL_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
METHODS = (*_PIL_FILTERS, "tf1_bilinear")
GRAY = ("repeat", "keep")


def preprocess(
    images: Any,
    size: int,
    method: str = "bicubic",
    gray: str = "repeat",
    value_range: tuple[float, float] = (0.0, 255.0),
) -> np.ndarray:
    """Preprocesses images of any size for a network.

    Floats are rounded to 256 levels before resizing, so that samples of a model and images from
    files are treated equally. Nothing is rounded after resizing; overshoot of the filter is
    clipped. The aspect ratio is not preserved.

    Methods, each applied to one channel at a time in float32:

    - "bicubic", "bilinear": Pillow's filters with antialiasing: a smaller image averages all
      pixels. Clean-FID uses "bicubic" (Parmar et al., "On Aliased Resizing and Surprising
      Subtleties in GAN Evaluation", 2022, section 3, https://arxiv.org/abs/2104.11222).
    - "tf1_bilinear": TensorFlow 1's resizing, as in the graph of the original FID (Heusel et al.,
      2017, https://arxiv.org/abs/1706.08500): aliased; output pixel i is at input i * (input size /
      output size), without half-pixel centres.

    Args:
        images: uint8 `[N, H, W, C]`, or floats in [0, 1]; C is 1 or 3.
        size: Height and width of the result, in pixels.
        method: One of `METHODS`. No method changes images of the right size.
        gray: "repeat": the result has three channels, equal ones for grey images. "keep": the
            result has one channel, and colour images raise an error.
        value_range: The values of black and of full intensity.

    Returns:
        float32 `[N, size, size, 3 or 1]`.

    Raises:
        ValueError: If the shape is wrong, if the type is an integer other than uint8, if floats
            are not in [0, 1], if a uint8 array has zeros and ones only, or if an option is unknown.

    Example:
        >>> grey = np.full([2, 32, 32, 1], 0.5)
        >>> zoo.features.preprocess(grey, 299, value_range=(-1, 1)).shape
        (2, 299, 299, 3)
    """
    if method not in METHODS or gray not in GRAY or size < 1:
        raise ValueError(
            f"`method` must be one of {', '.join(METHODS)}, `gray` one of {', '.join(GRAY)}, "
            f"`size` at least 1. Received: method={method!r}, gray={gray!r}, size={size!r}."
        )
    return prepared(check_images(images, gray), size, method, gray, value_range)


def check_images(images: Any, gray: str) -> np.ndarray:
    """The images as an array, if they are unambiguous. Raises the errors of `preprocess`."""
    images = np.asarray(images)
    expected = "`images` must be [N, H, W, C], C 1 or 3, as uint8 or as floats in [0, 1]."
    if images.ndim != 4 or 0 in images.shape or images.shape[-1] not in (1, 3):
        raise ValueError(f"{expected} Received: shape {images.shape}.")
    if gray == "keep" and images.shape[-1] != 1:
        raise ValueError(
            f"This network takes grey images, of one channel. Received: shape {images.shape}. "
            "Choose a network for colour images."
        )
    floats = np.issubdtype(images.dtype, np.floating)
    if not floats and images.dtype != np.uint8:
        raise ValueError(f"{expected} Received: {images.dtype}. Cast to one of them.")
    low, high = images.min(), images.max()
    if floats and not (low >= 0 and high <= 1):  # This form rejects NaN as well.
        raise ValueError(f"{expected} Received: {images.dtype} from {low} to {high}.")
    if not floats and high == 1:
        raise ValueError(
            f"{expected} Received: uint8 of zeros and ones only, which are two shades of black. "
            "Pass binary images as floats."
        )
    return images


def prepared(
    images: np.ndarray, size: int, method: str, gray: str, value_range: tuple[float, float]
) -> np.ndarray:
    """`preprocess` without its checks."""
    if images.dtype != np.uint8:
        images = np.round(images * np.asarray(255, images.dtype))
    images = images.astype(np.float32)
    if images.shape[1:3] != (size, size):
        images = np.clip(_resized(images, size, method), 0, 255)
    if gray == "repeat" and images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    low, high = value_range
    return images * np.float32((high - low) / 255) + np.float32(low)


def _resized(images: np.ndarray, size: int, method: str) -> np.ndarray:
    if method == "tf1_bilinear":
        return tf.raw_ops.ResizeBilinear(images=images, size=[size, size]).numpy()
    result = np.empty([len(images), size, size, images.shape[-1]], np.float32)
    for n, c in np.ndindex(len(images), images.shape[-1]):
        channel = Image.fromarray(np.ascontiguousarray(images[n, ..., c]))  # Mode F, by its type.
        result[n, ..., c] = np.asarray(channel.resize((size, size), _PIL_FILTERS[method]))
    return result
