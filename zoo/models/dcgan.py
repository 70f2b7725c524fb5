"""DCGAN: a GAN of convolutional networks.

Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", 2016. https://arxiv.org/abs/1511.06434
"""

from collections.abc import Sequence
from typing import Any

from zoo.config import extends
from zoo.models.gan import GAN, gan


@extends(gan, network="conv", prior="uniform", dropout=0.0, batch_norm=True)
def dcgan(image_shape: Sequence[int], **options: Any) -> GAN:
    """A `GAN` with the paper's networks and latents, for images of 28, 32 or 64 pixels.

    Strided convolutions of 5x5, batch normalization in all layers but the generator's last and the
    discriminator's first, and 100 uniform latents: section 3 and figure 1. The networks are
    `zoo.networks.dcgan_generator` and `zoo.networks.dcgan_discriminator`. The paper trains with
    Adam, learning rate 2e-4 and beta_1 = 0.5.

    Args:
        image_shape: Height, width, channels.
        width: Channels next to the image; 128 in the paper, for 64 pixels.
        **options: As for `zoo.models.gan`. A penalty or spectral normalization needs
            `batch_norm=False`.

    Raises:
        ValueError: As `gan`, or if the image cannot be halved often enough.

    Example:
        >>> zoo.models.dcgan((28, 28, 1), width=8).sample(3).shape
        TensorShape([3, 28, 28, 1])
    """
    return gan(image_shape, **options)
