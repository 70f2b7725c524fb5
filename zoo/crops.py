"""Random crops of images, resized by bilinear interpolation, as matrix products.

`tf.image.crop_and_resize` does not compile with XLA, and its gradient has no gradient. A crop is a
linear map of rows and columns, and two matrix products have both.
"""

from collections.abc import Sequence

import tensorflow as tf

from zoo import draws


def random_crops(
    images: tf.Tensor, count: int, size: int, shares: Sequence[float], seed: tf.Tensor
) -> tf.Tensor:
    """Random crops of each image, resized to squares.

    Height and width of a crop are drawn separately. The place is uniform among those within the
    image. Half of the crops are mirrored.

    Args:
        images: `[B, H, W, C]`.
        count: Number of crops of each image, n.
        size: Height and width of the resized crops, in pixels. The interpolation does not filter,
            so that crops larger than this size alias.
        shares: The smallest and the largest side of a crop, as a share of the image's side, in
            (0, 1].
        seed: The seed `[2]` of all draws.

    Returns:
        `[B, n, size, size, C]`.

    Example:
        >>> x = tf.ones([2, 32, 32, 3])
        >>> zoo.crops.random_crops(x, 4, 16, (0.25, 0.5), [1, 2]).shape
        TensorShape([2, 4, 16, 16, 3])
    """
    low, high = shares
    batch = images.shape[0] or tf.shape(images)[0]
    u = draws.uniform([batch, count, 5], seed)
    sides = low + (high - low) * u[..., :2]
    starts = (1 - sides) * u[..., 2:4]
    return crops(images, starts, sides, u[..., 4] < 0.5, size)


def crops(
    images: tf.Tensor, starts: tf.Tensor, sides: tf.Tensor, mirrored: tf.Tensor, size: int
) -> tf.Tensor:
    """Crops of images, resized to squares by bilinear interpolation between pixel centres.

    Args:
        images: `[B, H, W, C]`.
        starts: Top and left of each crop, as shares of height and width, `[B, n, 2]`.
        sides: Height and width of each crop, as such shares, `[B, n, 2]`.
        mirrored: Whether a crop is mirrored from left to right, bool `[B, n]`.
        size: Height and width of the resized crops, in pixels.

    Returns:
        `[B, n, size, size, C]`.
    """
    height, width, channels = images.shape[1:]
    count = starts.shape[1]
    grid = (tf.range(size, dtype=tf.float32) + 0.5) / size
    down = starts[..., :1] + sides[..., :1] * grid
    right = starts[..., 1:] + sides[..., 1:] * tf.where(mirrored[..., None], 1 - grid, grid)
    rows = tf.reshape(_weights(down, height), [-1, count * size, height])
    columns = _weights(right, width)  # [B, n, size, W]
    # One product for all crops of an image, which are not copied.
    cut = rows @ tf.reshape(tf.cast(images, tf.float32), [-1, height, width * channels])
    cut = tf.reshape(cut, [-1, count, size, width, channels])
    cut = tf.reshape(tf.transpose(cut, [0, 1, 3, 2, 4]), [-1, count, width, size * channels])
    cut = tf.reshape(columns @ cut, [-1, count, size, size, channels])
    return tf.transpose(cut, [0, 1, 3, 2, 4])


def _weights(places, pixels):
    """The weight of each pixel of an axis at places from 0 to 1: `[..., pixels]`."""
    places = tf.clip_by_value(places * pixels - 0.5, 0.0, pixels - 1.0)
    distance = tf.abs(places[..., None] - tf.range(pixels, dtype=tf.float32))
    return tf.maximum(0.0, 1 - distance)
