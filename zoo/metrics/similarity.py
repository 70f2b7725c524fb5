"""How alike two images are, and a set of images among itself.

Images are floats in [0, 1] of shape `[N, H, W, C]`; two sets are compared pair by pair. The structural
similarities are TensorFlow's: a Gaussian window of 11 pixels with a standard deviation of 1.5, only
where it fits into the image, constants 0.01² and 0.03², averaged over channels. They are computed in
float32, whose rounding can change the similarity of flat areas by some 0.0002.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.metrics.estimate import Estimate

_WINDOW = 11
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_VALUES_AT_A_TIME = 2**22


def psnr(a: Any, b: Any, max_value: float = 1.0) -> Estimate:
    """Peak signal-to-noise ratio in decibels, averaged over pairs of images.

    20 log10(max_value / root mean squared difference) of each pair. It is infinite for identical
    images; these are counted, and the others averaged.

    Args:
        a: Floats `[N, H, W, C]` in [0, `max_value`].
        b: What `a` is compared with, of the same shape, such as its reconstructions.
        max_value: The brightest value there can be.

    Returns:
        The mean over pairs that differ, `stderr` over these, `details["num_identical"]`; infinity
        without a `stderr` where all pairs are identical.

    Raises:
        ValueError: If `a` and `b` are not such images, or not as many and as large.

    Example:
        >>> black = np.zeros((2, 8, 8, 1))
        >>> round(float(zoo.metrics.psnr(black, black + 0.1)), 6)
        20.0
    """
    if not max_value > 0:
        raise ValueError(f"The brightest value must be positive. Received: max_value={max_value}.")
    a, b = _pairs(a, b, max_value)
    errors = np.concatenate(
        [
            np.mean((a[rows].astype(np.float64) - b[rows]) ** 2, axis=(1, 2, 3))
            for rows in _blocks(a)
        ]
    )
    values = 10 * np.log10(max_value**2 / errors[errors > 0])
    details = {"num_identical": int((errors == 0).sum())}
    estimator = {"method": "psnr", "max_value": max_value}
    if not len(values):
        return Estimate(
            float("inf"), n_real=len(a), n_fake=len(b), estimator=estimator, details=details
        )
    return _mean(values, n_real=len(a), n_fake=len(b), estimator=estimator, details=details)


def ssim(a: Any, b: Any) -> Estimate:
    """Structural similarity, averaged over pairs of images: 1 for identical ones, -1 at least.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity"
    (2004), equation 13, https://doi.org/10.1109/TIP.2003.819861.

    Args:
        a: Floats `[N, H, W, C]` in [0, 1], H and W at least 11.
        b: What `a` is compared with, of the same shape, such as its reconstructions.

    Returns:
        The mean over pairs, and its standard error.

    Raises:
        ValueError: If `a` and `b` are not such images, or not as many and as large.

    Example:
        >>> grey = np.full((2, 16, 16, 1), 0.5)
        >>> round(float(zoo.metrics.ssim(grey, grey + 0.1)), 2)
        0.98
    """
    a, b = _pairs(a, b)
    _usable_scales(a, 1)
    values = _similarities(lambda x, y: tf.image.ssim(x, y, max_val=1.0), a, b)
    return _mean(
        values, n_real=len(a), n_fake=len(b), estimator={"method": "ssim", "window": _WINDOW}
    )


def ms_ssim(a: Any, b: Any, scales: int | None = None) -> Estimate:
    """Multi-scale structural similarity, averaged over pairs of images: 1 for identical ones.

    Structure is compared at the images' size and after each halving, brightness at the smallest
    size, and the product taken of the similarities to the powers 0.0448, 0.2856, 0.3001, 0.2363,
    0.1333. Five scales need 176 pixels. With fewer scales the first so many powers are used, divided
    by their sum: a different measure, comparable only with itself. One scale is SSIM. Of one pair a
    negative similarity counts as 0.

    Source: Wang et al., "Multiscale Structural Similarity for Image Quality Assessment" (2003),
    equation 7, https://doi.org/10.1109/ACSSC.2003.1292216.

    Args:
        a: Floats `[N, H, W, C]` in [0, 1], H and W at least 11 x 2^(scales - 1).
        b: What `a` is compared with, of the same shape, such as its reconstructions.
        scales: 1 to 5; the standard 5 if `None`.

    Returns:
        The mean over pairs, and its standard error; `scales` and `powers` in `estimator`.

    Raises:
        ValueError: If `a` and `b` are not such images, not as many and as large, or too small for
            the scales.

    Example:
        >>> images = np.random.default_rng(0).random((2, 32, 32, 3))
        >>> round(float(zoo.metrics.ms_ssim(images, images, scales=2)), 3)
        1.0
    """
    a, b = _pairs(a, b)
    values, estimator = _ms_ssim(a, b, _usable_scales(a, 5 if scales is None else scales))
    return _mean(values, n_real=len(a), n_fake=len(b), estimator=estimator)


def diversity(
    images: Any, num_pairs: int = 100, scales: int | None = None, seed: int = 0
) -> Estimate:
    """Mean MS-SSIM between two images of a set: the lower, the more diverse; 1 if all are the same.

    A number for one set says little: compare it with that of as many real images, of the same class
    where there are classes, as the source does. No image is in two pairs, so that pairs are
    independent and the standard error is one.

    Source: Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs" (2017),
    section 4.2, https://arxiv.org/abs/1610.09585, with 100 pairs of each class.

    Args:
        images: Floats `[N, H, W, C]` in [0, 1], N >= 2 `num_pairs`, H and W at least 11.
        num_pairs: Pairs to draw.
        scales: 1 to 5, see `ms_ssim`; as many as fit if `None`. Values compare at equal scales only.
        seed: Of the pairs.

    Returns:
        The mean over pairs, and its standard error; `scales` and `powers` in `estimator`.

    Raises:
        ValueError: If `images` are not so, too few for the pairs or too small for the scales.

    Example:
        >>> noise = np.random.default_rng(0).random((200, 16, 16, 1))
        >>> float(zoo.metrics.diversity(noise)) < 0.1
        True
    """
    images = _images(images, "images", 1.0)
    if not 1 <= num_pairs <= len(images) // 2:
        raise ValueError(
            f"{len(images)} images make from 1 to {len(images) // 2} pairs without a common image. "
            f"Received: num_pairs={num_pairs}."
        )
    scales = _usable_scales(images, max(_fitting_scales(images), 1) if scales is None else scales)
    drawn = np.random.default_rng(seed).permutation(len(images))[: 2 * num_pairs]
    first, second = drawn.reshape(2, num_pairs)
    values, estimator = _ms_ssim(images[first], images[second], scales)
    return _mean(
        values, n_fake=len(images), estimator=estimator | {"num_pairs": num_pairs, "seed": seed}
    )


def _ms_ssim(a, b, scales):
    powers = np.divide(_SCALE_WEIGHTS[:scales], sum(_SCALE_WEIGHTS[:scales])).tolist()
    values = _similarities(
        lambda x, y: tf.image.ssim_multiscale(x, y, max_val=1.0, power_factors=powers), a, b
    )
    return values, {"method": "ms-ssim", "scales": scales, "powers": powers, "window": _WINDOW}


def _similarities(measure: Callable, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    parts = [measure(*(tf.constant(x[rows], tf.float32) for x in (a, b))) for rows in _blocks(a)]
    return tf.concat(parts, axis=0).numpy().astype(np.float64)


def _mean(values: np.ndarray, **about) -> Estimate:
    stderr = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(float(values.mean()), None if stderr is None else float(stderr), **about)


def _blocks(images: np.ndarray) -> list[slice]:
    """Slices of N, each of which is a few megabytes of images, at least one."""
    size = max(1, _VALUES_AT_A_TIME // images[0].size)
    return [slice(start, start + size) for start in range(0, len(images), size)]


def _fitting_scales(images: np.ndarray) -> int:
    """How many of the five standard scales have room for the window."""
    return sum(min(images.shape[1:3]) // 2**k >= _WINDOW for k in range(len(_SCALE_WEIGHTS)))


def _usable_scales(images: np.ndarray, scales: int) -> int:
    """`scales`, if the images are large enough."""
    fitting = _fitting_scales(images)
    if not fitting:
        raise ValueError(
            f"Structural similarity needs images of at least {_WINDOW} x {_WINDOW} pixels. "
            f"Received: images of shape {images.shape[1:]}; use `psnr`, or enlarge them."
        )
    if not 1 <= scales <= fitting:
        raise ValueError(
            f"For images of shape {images.shape[1:]} `scales` must be from 1 to {fitting}: the "
            f"smallest scale must have {_WINDOW} pixels. Received: scales={scales}."
        )
    return scales


def _pairs(a: Any, b: Any, max_value: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    a, b = _images(a, "a", max_value), _images(b, "b", max_value)
    if a.shape != b.shape:
        raise ValueError(
            "Images are compared pair by pair: `a` and `b` must have the same shape. "
            f"Received: {a.shape} and {b.shape}."
        )
    return a, b


def _images(values: Any, name: str, max_value: float) -> np.ndarray:
    values = np.asarray(values)
    expected = f"`{name}` must be float images in [0, {max_value:g}] of shape [N, H, W, C]"
    if values.ndim != 4 or not values.size:
        raise ValueError(f"{expected}. Received: shape {values.shape}.")
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"{expected}. Received: {values.dtype}; divide 8-bit images by 255.")
    low, high = values.min(), values.max()
    # The form of the comparison matters: NaN fails it.
    if not (low >= 0 and high <= max_value):
        raise ValueError(f"{expected}. Received: values from {low} to {high}.")
    return values
