"""Pixel operations for all sources of images."""

import tensorflow as tf

PNG = b"\x89PNG\r\n\x1a\n"
"""The first bytes of a PNG file."""
MOST_PIXELS = 89_478_485
"""Pixels of the largest image that is decoded: 256 MB in colour, Pillow's limit as well."""


def decode(contents: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a PNG or JPEG file to the pixels that Pillow decodes, bit for bit.

    The lower 8 bits of 16-bit values are dropped, and so is transparency unless `channels` is 4.

    Args:
        contents: The file, a string `[]`.
        channels: 1 or 3, or 4 for colour and alpha; an image without transparency has alpha 255.

    Returns:
        uint8 `[H, W, channels]`.

    Raises:
        tf.errors.InvalidArgumentError: If the file is neither PNG nor JPEG, is damaged, or has more
            than `MOST_PIXELS` pixels. The number of pixels is read from the header, before decoding.
    """
    size = tf.cond(
        tf.strings.substr(contents, 0, len(PNG)) == PNG,
        lambda: tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, False),
        lambda: tf.io.extract_jpeg_shape(contents)[:2],
    )
    small = tf.reduce_prod(tf.cast(size, tf.int64)) <= MOST_PIXELS
    with tf.control_dependencies([tf.debugging.Assert(small, [size])]):
        contents = tf.identity(contents)
    if channels == 4:
        image = tf.cond(
            tf.strings.substr(contents, 0, len(PNG)) == PNG,
            lambda: tf.io.decode_png(contents, 4),
            lambda: tf.pad(_without_alpha(contents, 3), _ALPHA, constant_values=255),
        )
    else:
        image = _without_alpha(contents, channels)
    return tf.ensure_shape(image, [None, None, channels])


_ALPHA = [[0, 0], [0, 0], [0, 1]]


def _without_alpha(contents, channels):
    # The operation decodes PNG as well. `decode_image` has no option for the exact inverse DCT.
    return tf.io.decode_jpeg(contents, channels, dct_method="INTEGER_ACCURATE")


def on_black(image: tf.Tensor) -> tf.Tensor:
    """The colours times alpha, and alpha: uint8 `[H, W, 4]` of an image `[H, W, 4]`.

    The result shows the image on a black background. Unlike the colours themselves, it may be
    resized: a transparent pixel has no share in the mean of its neighbours.
    """
    alpha = tf.cast(image[..., 3:], tf.float32) / 255.0
    colours = tf.cast(tf.round(tf.cast(image[..., :3], tf.float32) * alpha), tf.uint8)
    return tf.concat([colours, image[..., 3:]], -1)


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
