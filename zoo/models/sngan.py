"""SNGAN: a GAN with a spectrally normalized discriminator.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018.
https://arxiv.org/abs/1802.05957
"""

from collections.abc import Sequence
from typing import Any

from zoo.config import extends
from zoo.models.gan import GAN, gan


@extends(gan, latent_dim=128, network="conv", dropout=0.0, spectral_norm=True, loss="hinge")
def sngan(image_shape: Sequence[int], **options: Any) -> GAN:
    """A `GAN` with the hinge loss and `zoo.networks.SpectralNormalization` in the discriminator.

    All layers of the discriminator and no layers of the generator are normalized (section 2.1). The
    128 latents are standard normal, as in the paper's section 4.

    Args:
        image_shape: Height, width, channels.
        **options: As for `zoo.models.gan`.

    Raises:
        ValueError: As for `gan`.

    Notes:
        The networks are DCGAN's by default. The paper's networks have 3x3 and 4x4 convolutions
        (table 3), or residual blocks: `network="resnet"` with `width=128` is table 4, for CIFAR-10.

    Example:
        >>> zoo.models.sngan((8, 8, 1), width=8).latent_dim
        128
    """
    return gan(image_shape, **options)
