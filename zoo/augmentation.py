"""Differentiable augmentation: random changes of all images that a discriminator takes.

A discriminator that is trained on few images memorises them. With the augmentation T the players
compare T(x) with T(G(z)), and the gradient of the generator flows through T. Zhao et al.,
"Differentiable Augmentation for Data-Efficient GAN Training", 2020, section 3.
https://arxiv.org/abs/2006.10738

`GAN` and its relatives, `BiGAN`, `VAEGAN`, `AlphaGAN` and `DCVAE` have the option `augment`, the policy
of `augment` below. A condition is not changed: for a small image as the condition, leave out
"translation", after which the image and its condition do not match.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws

_GREY = 0.5
"""The middle of the range of images: 0 in images in [-1, 1], as in the authors' code."""

_DRAWS = 7
"""Random numbers of each image: three for its colours, two for a translation, two for a cutout."""


def augment(x: tf.Tensor, policy: str, seed: Sequence[int] | tf.Tensor | int | None) -> tf.Tensor:
    """Images with random colours, a random translation or a random hole, drawn for each image.

    | Name | Change of an image, with uniform draws |
    |-|-|
    | "color" | brightness: x + b, b from [-1/4, 1/4]; then saturation: m + s (x - m), with the mean m of a pixel's channels, s from [0, 2]; then contrast: m + c (x - m), with the mean m of the image, c from [1/2, 3/2] |
    | "translation" | a shift by whole pixels, by up to 1/8 of the height and of the width; the pixels from outside of the image are grey |
    | "cutout" | a grey rectangle of half the height and half the width, with its centre in the image |

    The changes are differentiable in x, and linear except for a constant. Values are not clipped,
    and may leave [0, 1]. A change of the saturation has no effect on images with one channel.

    Args:
        x: Images `[B, H, W, C]` in [0, 1].
        policy: Names from the table, separated by commas, such as "color,translation,cutout". The
            changes are applied in this order. "" for no change.
        seed: Seed of all draws: an int, a `[2]` int tensor or `None`.

    Returns:
        Float32 images `[B, H, W, C]`.

    Raises:
        ValueError: If a name is unknown, or occurs twice.

    Notes:
        The changes follow the authors' code. That code has images in [-1, 1], and thus brightness
        from [-1/2, 1/2]. The paper describes the same changes, with zeros around a translated image;
        in the code these are zeros in [-1, 1], which are grey (1/2) here, also for a cutout. The
        paper's square is half as large as a square image. In the code a cutout may extend beyond the
        border of the image, so that less than a quarter of the image is grey.

    Example:
        >>> x = tf.ones([2, 32, 32, 3])
        >>> zoo.augmentation.augment(x, "color,translation,cutout", [1, 2]).shape
        TensorShape([2, 32, 32, 3])
    """
    check_policy(policy)
    x = tf.cast(x, tf.float32)
    if not policy:
        return x
    u = draws.uniform([draws.row_count(x), _DRAWS], tfp.random.sanitize_seed(seed))
    for name in policy.split(","):
        x = _CHANGES[name](x, u)
    return x


def augmented(
    x: tf.Tensor, policy: str, seed: Sequence[int] | tf.Tensor | int | None, training: bool
) -> tf.Tensor:
    """The images that a discriminator takes: `augment(x, policy, seed)` in training, otherwise x.

    Args:
        x, policy, seed: As for `augment`.
        training: Whether the discriminator is called in a training step.
    """
    return augment(x, policy, seed) if training and policy else x


def check_policy(policy: str) -> None:
    """Raises a `ValueError` unless `policy` is a policy of `augment`."""
    names = policy.split(",") if isinstance(policy, str) and policy else []
    if not isinstance(policy, str) or {*names} - {*_CHANGES} or len({*names}) < len(names):
        raise ValueError(
            f"`augment` must be names from {', '.join(map(repr, _CHANGES))}, separated by commas, "
            f"each at most once, or '' for no augmentation. Received: {policy!r}."
        )


def _color(x, u):
    brightness, saturation, contrast = (u[:, i, None, None, None] for i in range(3))
    x = x + (brightness - 0.5) / 2
    x = _scaled(x, 2 * saturation, [3])
    return _scaled(x, contrast + 0.5, [1, 2, 3])


def _scaled(x, factor, axes):
    """The distance of x from its mean over some axes, times a factor."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    return mean + factor * (x - mean)


def _translation(x, u):
    for axis, drawn in ((1, u[:, 3]), (2, u[:, 4])):
        most = _rounded(x.shape[axis] / 8)
        x = _moved(x, _integer(drawn, 2 * most + 1) - most, axis)
    return x


def _moved(x, pixels, axis):
    """Images that are moved along an axis, each by its own number of pixels `[B]`."""
    size = x.shape[axis]
    border = [[0, 0]] * 4
    border[axis] = [1, 1]
    x = tf.pad(x, border, constant_values=_GREY)
    # The pixel before the first and the pixel after the last stand for all pixels outside.
    places = tf.clip_by_value(tf.range(1, size + 1) - pixels[:, None], 0, size + 1)
    return tf.gather(x, places, axis=axis, batch_dims=1)


def _cutout(x, u):
    inside = [_inside(x.shape[axis], u[:, 4 + axis]) for axis in (1, 2)]
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return tf.where(hole, _GREY, x)


def _inside(size, drawn):
    """The places on an axis that are within the hole, bool `[B, size]`."""
    hole = _rounded(size / 2)
    # A hole of even size has its centre between two pixels, at one of size + 1 places.
    start = _integer(drawn, size + 1 - hole % 2) - hole // 2
    place = tf.range(size) - start[:, None]
    return (place >= 0) & (place < hole)


def _integer(drawn, count):
    """Integers from 0 to `count` - 1 for numbers in [0, 1)."""
    return tf.cast(drawn * count, tf.int32)


def _rounded(number):
    return int(number + 0.5)


_CHANGES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}
