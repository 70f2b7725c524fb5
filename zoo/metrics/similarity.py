"""Similarity of pairs of images, and diversity of a set of images.

Images are floats in [0, 1] of shape `[N, H, W, C]`; two sets are compared pair by pair. Structural
similarities are those of TensorFlow: a Gaussian window of 11 pixels with a standard deviation of
1.5 at the places where it fits into the image, constants 0.01² and 0.03², averaged over channels.
They are computed in float32, whose rounding can change the similarity of flat areas by about
0.0002.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.contract import check_counts
from zoo.metrics.estimate import Estimate

_WINDOW = 11
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_VALUES_AT_A_TIME = 2**22


def psnr(a: Any, b: Any, max_value: float = 1.0) -> Estimate:
    """Peak signal-to-noise ratio in decibels, averaged over pairs of images.

    It is 20 log10(max_value / root mean squared difference) for each pair. It is infinite for
    identical images, which are counted and left out of the average.

    Args:
        a: Floats `[N, H, W, C]` in [0, `max_value`].
        b: Images of the same shape to compare with, such as reconstructions.
        max_value: The largest possible value.

    Returns:
        The mean over pairs that differ, with its standard error, and `details["num_identical"]`;
        infinity without a standard error if all pairs are identical.

    Raises:
        ValueError: If `a` or `b` has another shape, type or range, or if their shapes differ.

    Example:
        >>> black = np.zeros((2, 8, 8, 1))
        >>> round(float(zoo.metrics.psnr(black, black + 0.1)), 6)
        20.0
    """
    if not max_value > 0:
        raise ValueError(f"`max_value` must be positive. Received: {max_value}.")
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
    """Structural similarity in [-1, 1], averaged over pairs of images; 1 for identical images.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity",
    2004, equation 13, https://doi.org/10.1109/TIP.2003.819861.

    Args:
        a: Floats `[N, H, W, C]` in [0, 1], H and W at least 11.
        b: Images of the same shape to compare with, such as reconstructions.

    Returns:
        The mean over pairs, and its standard error.

    Raises:
        ValueError: If `a` or `b` has another shape, type or range, or if their shapes differ.

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
    """Multi-scale structural similarity, averaged over pairs of images; 1 for identical images.

    Structure is compared at the full size and after each halving, brightness at the smallest size.
    The similarity is the product of these similarities to the powers 0.0448, 0.2856, 0.3001,
    0.2363, 0.1333. Five scales need 176 pixels. Fewer scales use the first powers, divided by their
    sum: a different measure, which is comparable only at equal scales. With one scale it is SSIM. A
    negative similarity of a pair counts as 0.

    Wang et al., "Multiscale Structural Similarity for Image Quality Assessment", 2003,
    equation 7, https://doi.org/10.1109/ACSSC.2003.1292216.

    Args:
        a: Floats `[N, H, W, C]` in [0, 1], H and W at least 11 x 2^(scales - 1).
        b: Images of the same shape to compare with, such as reconstructions.
        scales: Number of scales, 1 to 5; 5, the standard, if `None`.

    Returns:
        The mean over pairs, and its standard error; `scales` and `powers` in `estimator`.

    Raises:
        ValueError: If `a` or `b` has another shape, type or range, if their shapes differ, or if
            the images are too small for the scales.

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
    """Mean MS-SSIM between two images of a set; lower is more diverse, and 1 if all are equal.

    The value of one set says little: compare it with the value of equally many real images, of the
    same class if there are classes, as in the paper. Each image is in one pair at most, so the
    pairs are independent and the standard error is valid.

    Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", 2017, section 4.2,
    https://arxiv.org/abs/1610.09585, with 100 pairs of each class.

    Args:
        images: Floats `[N, H, W, C]` in [0, 1], N >= 2 `num_pairs`, H and W at least 11.
        num_pairs: Number of random pairs.
        scales: Number of scales, 1 to 5, as for `ms_ssim`; as many as fit if `None`. Values are
            comparable only at equal scales.
        seed: Seed of the pairs.

    Returns:
        The mean over pairs, and its standard error; `scales` and `powers` in `estimator`.

    Raises:
        ValueError: If `images` has another shape, type or range, or if there are too few images for
            the pairs, or if they are too small for the scales.

    Example:
        >>> noise = np.random.default_rng(0).random((200, 16, 16, 1))
        >>> float(zoo.metrics.diversity(noise)) < 0.1
        True
    """
    images = _images(images, "images", 1.0)
    check_counts(0, num_pairs=num_pairs, seed=seed)
    if not 1 <= num_pairs <= len(images) // 2:
        raise ValueError(
            f"`num_pairs` must be from 1 to {len(images) // 2} for {len(images)} images, because no "
            f"image is in two pairs. Received: num_pairs={num_pairs}."
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


def _mean(values: np.ndarray, **about: Any) -> Estimate:
    stderr = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(float(values.mean()), None if stderr is None else float(stderr), **about)


def _blocks(images: np.ndarray) -> list[slice]:
    """Slices of N for a few megabytes of images, at least one image, each."""
    size = max(1, _VALUES_AT_A_TIME // images[0].size)
    return [slice(start, start + size) for start in range(0, len(images), size)]


def _fitting_scales(images: np.ndarray) -> int:
    """The number of the five standard scales at which the window fits into the image."""
    return sum(min(images.shape[1:3]) // 2**k >= _WINDOW for k in range(len(_SCALE_WEIGHTS)))


def _usable_scales(images: np.ndarray, scales: int) -> int:
    """`scales`, if the images are large enough for it."""
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
    # NaN fails this form of the comparison.
    if not (low >= 0 and high <= max_value):
        raise ValueError(f"{expected}. Received: values from {low} to {high}.")
    return values
