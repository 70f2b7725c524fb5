"""Super-resolution by 4 of MNIST and of drawn heads, against cubic interpolation."""

import numpy as np

from benchmarks.tables.table import Row, Table, Trained
from zoo import conditions, inference
from zoo.metrics import psnr
from zoo.metrics.estimate import Estimate
from zoo.model import GenerativeModel
from zoo.resizing import bicubic, box_average, nearest, with_average

FACTOR, DRAWS = 4, 10
_IMAGES = 1000


def distance(images: np.ndarray, small: np.ndarray) -> float:
    """The mean distance of the averages of images `[B, H, W, C]` from small images."""
    return float(np.abs(box_average(images, FACTOR) - small).mean())


def scores(
    model: GenerativeModel, x: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> dict[str, Estimate | float]:
    """Scores of a model that enlarges the averages of images.

    Args:
        model: A model whose condition is a small image, or any other model with a decoder.
        x: Images `[B, H, W, C]`.
        draws: Number of draws for each image. The most probable latents give one image.
        seed: Seed of the draws.

    Returns:
        The PSNR of one draw, of the mean of the draws, and of the mean with the exact averages; the
        gain of the mean over bicubic; the PSNR of bicubic and nearest, in dB; and the distance of the
        averages of one draw from the small images.
    """
    small = box_average(x, FACTOR).numpy()
    options = {"n": draws} if conditions.factor(model) == FACTOR else {"starts": 3}
    images = inference.super_resolve(model, small, FACTOR, seed=seed, **options).numpy()
    mean = images.mean(0)
    of_mean, cubic = psnr(mean, x), psnr(bicubic(small, FACTOR).numpy(), x)
    return {
        "PSNR": psnr(images[0], x),
        "PSNR of the mean": of_mean,
        "PSNR of the consistent mean": psnr(with_average(mean, small).numpy(), x),
        "gain over bicubic": of_mean.value - cubic.value,
        "bicubic": cubic,
        "nearest": psnr(nearest(small, FACTOR).numpy(), x),
        "consistency": distance(images[0], small),
    }


def _score(trained: Trained) -> dict[str, Estimate | float]:
    x, _ = trained.data.arrays("test", _IMAGES)
    return scores(trained.model, x, seed=trained.config.seed)


def _protocol(images):
    return (
        f"{images} The small image is the average of boxes of {FACTOR} x {FACTOR} pixels. A conditional "
        f"model draws {DRAWS} images for each small image from its prior; the most probable latents are "
        "the best of three starts, with the averages as observations. PSNR of one draw, of the mean of "
        "the draws, and of the mean after the projection on images with the exact averages; gain of the "
        "mean over cubic interpolation; PSNR of cubic interpolation and of the enlarged small image, all "
        "in dB; and the mean distance of the averages of one draw from the small image (consistency)."
    )


MNIST = Table(
    name="super_resolution",
    title="Super-resolution of MNIST by 4",
    reference="Not a table of a paper. Conditional VAE: Sohn et al., 2015.",
    protocol=_protocol(f"The first {_IMAGES:,} grey test images of MNIST."),
    differs=(),
    rows=(
        Row("conditional VAE", "cvae_super_resolution_mnist"),
        Row("conditional VAE/GAN", "vaegan_super_resolution_mnist"),
        Row(
            "VAE, most probable latents",
            "vae_conv_mnist",
            ("binarize=None", "likelihood=shared_scale_normal", "likelihood_scale=0.1"),
        ),
    ),
    score=_score,
    unit="dB, and levels of brightness from 0 to 1",
    digits=3,
    scoring=0.15,
)

HEADS = Table(
    name="super_resolution_toon_heads",
    title="Super-resolution of drawn heads by 4",
    reference="Not a table of a paper. Conditional VAE: Sohn et al., 2015.",
    protocol=_protocol(
        'A folder of 4,000 heads (DiceBear "Toon Head") of 32x32 pixels on black; about 400 test images '
        "that were chosen at random."
    ),
    differs=(),
    rows=(
        Row("conditional VAE", "cvae_super_resolution_toon_heads"),
        Row("conditional VAE/GAN", "vaegan_super_resolution_toon_heads"),
        Row("VAE/GAN, most probable latents", "vaegan_toon_heads"),
    ),
    score=_score,
    unit="dB, and levels of brightness from 0 to 1",
    digits=3,
    scoring=0.15,
)

TABLES = (MNIST, HEADS)
