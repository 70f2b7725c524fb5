"""Pixel operations for all sources of images."""

import tensorflow as tf


def centre_crop(image: tf.Tensor, height: tf.Tensor | int, width: tf.Tensor | int) -> tf.Tensor:
    """The central `[height, width]` window of an image `[H, W, C]`, rounded to the upper left."""
    shape = tf.shape(image)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def square(image: tf.Tensor, size: int) -> tf.Tensor:
    """Crops the central square of an image and resizes it bilinearly, with antialiasing.

    Args:
        image: uint8 `[H, W, C]`; C must be known statically.
        size: Side of the result in pixels.

    Returns:
        uint8 `[size, size, C]`. An image of that size keeps its exact values.
    """
    side = tf.minimum(tf.shape(image)[0], tf.shape(image)[1])
    image = centre_crop(image, side, side)
    # A cast truncates, which would darken resized images by half a level on average.
    resized = tf.round(tf.image.resize(image, [size, size], antialias=True))
    return tf.ensure_shape(tf.cast(resized, tf.uint8), [size, size, image.shape[-1]])
