"""Small images, the averages of boxes of pixels, and ways to make them larger.

`box_average` is a linear operator A from images to small images. `nearest` is its pseudo-inverse A+,
and A A+ is the identity.
"""

import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from zoo.contract import check_counts

_BISECTIONS = 30  # From an interval of length 2, to an error of 2e-9


def small_factor(y: str | None) -> int | None:
    """The factor K of the option "small:K", at least 2; `None` for another option."""
    found = re.fullmatch("small:([1-9][0-9]*)", y or "")
    return int(found[1]) if found and int(found[1]) > 1 else None


def small_shape(image_shape: Sequence[int], factor: int) -> tuple[int, int, int]:
    """The shape of images that are smaller by a factor.

    Args:
        image_shape: Height, width, channels.
        factor: The factor, at least 2.

    Raises:
        ValueError: If the factor does not divide height and width.
    """
    check_counts(2, factor=factor)
    height, width, channels = image_shape
    if height % factor or width % factor:
        raise ValueError(
            f"Images that are smaller by a factor of {factor} need a height and a width divisible by "
            f"{factor}. Received: {height}x{width}; choose another factor or image size."
        )
    return height // factor, width // factor, channels


def box_average(x: Any, factor: int) -> tf.Tensor:
    """The means of boxes of `factor` x `factor` pixels: float32 `[B, H / factor, W / factor, C]`.

    Args:
        x: Images `[B, H, W, C]`.
        factor: A divisor of H and W, at least 2.

    Raises:
        ValueError: If the factor does not divide H and W.

    Example:
        >>> x = np.array([[0.0, 1, 0, 0], [1, 1, 0, 0]]).reshape(1, 2, 4, 1)
        >>> zoo.resizing.box_average(x, 2).numpy().ravel()
        array([0.75, 0.  ], dtype=float32)
    """
    x = tf.cast(x, tf.float32)
    height, width, channels = small_shape(x.shape[1:], factor)
    boxes = tf.reshape(x, [-1, height, factor, width, factor, channels])
    return tf.reduce_mean(boxes, [2, 4])


def nearest(small: Any, factor: int) -> tf.Tensor:
    """Images `[B, h factor, w factor, C]`, float32, in which each pixel of `small[B, h, w, C]` is a box."""
    small = tf.cast(small, tf.float32)
    return tf.repeat(tf.repeat(small, factor, 1), factor, 2)


def bicubic(small: Any, factor: int) -> tf.Tensor:
    """`small[B, h, w, C]` enlarged by cubic interpolation, clipped to [0, 1]: `[B, h factor, ...]`.

    The kernel is that of Keys, 1981, with a = -1/2.
    """
    small = tf.cast(small, tf.float32)
    size = [factor * side for side in small.shape[1:3]]
    return tf.clip_by_value(tf.image.resize(small, size, "bicubic"), 0.0, 1.0)


def with_average(x: Any, small: Any) -> tf.Tensor:
    """The images in [0, 1] that are nearest to `x` and have the box averages `small`.

    The projection adds one number to all pixels of a box, and clips them to [0, 1]. If no pixel is
    clipped, the result is x + A+ (small - A x).

    Args:
        x: Images `[B, H, W, C]`.
        small: Small images in [0, 1], `[B, h, w, C]`.

    Returns:
        float32 `[B, H, W, C]`.

    Raises:
        ValueError: If the shape of the small images is not that of `x` divided by a factor.

    Example:
        >>> x = np.array([0.0, 0.5, 0.5, 1.0]).reshape(1, 2, 2, 1)
        >>> x = zoo.resizing.with_average(x, [[[[0.75]]]])
        >>> x.numpy().ravel().round(3)  # The fourth value is clipped.
        array([0.333, 0.833, 0.833, 1.   ], dtype=float32)
    """
    x, small = tf.cast(x, tf.float32), tf.cast(small, tf.float32)
    factor = factor_between(x.shape[1:], small.shape[1:])
    low, high = tf.fill(tf.shape(small), -1.0), tf.fill(tf.shape(small), 1.0)
    x = tf.clip_by_value(x, 0.0, 1.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        average = box_average(tf.clip_by_value(x + nearest(middle, factor), 0.0, 1.0), factor)
        low, high = tf.where(average < small, middle, low), tf.where(average < small, high, middle)
    return tf.clip_by_value(x + nearest(high, factor), 0.0, 1.0)


def factor_between(image_shape: Sequence[int], shape: Sequence[int]) -> int:
    """The factor by which small images are smaller than images.

    Args:
        image_shape: Height, width, channels of images.
        shape: Height, width, channels of small images.

    Raises:
        ValueError: If there is no such factor of at least 2.
    """
    factor = image_shape[0] // max(shape[0], 1)
    if factor < 2 or tuple(image_shape) != (factor * shape[0], factor * shape[1], *shape[2:]):
        raise ValueError(
            "Expected small images whose height and width are those of the images divided by one "
            f"factor of at least 2, with the same channels. Received: shape {tuple(shape)} for images "
            f"of shape {tuple(image_shape)}."
        )
    return factor
