"""WGAN-GP: a Wasserstein GAN with a gradient penalty.

Gulrajani et al., "Improved Training of Wasserstein GANs", 2017. https://arxiv.org/abs/1704.00028
"""

from collections.abc import Sequence
from typing import Any

from zoo.config import extends
from zoo.models.gan import GAN, gan


@extends(
    gan,
    latent_dim=128,
    loss="wasserstein",
    gradient_penalty=10.0,
    discriminator_steps=5,
    dropout=0.0,
)
def wgan_gp(image_shape: Sequence[int], **options: Any) -> GAN:
    """A `GAN` with the paper's Algorithm 1: the Wasserstein loss, lambda = 10, five critic updates.

    The critic, as the paper calls the discriminator, has no batch normalization (section 4). The
    paper trains with Adam, learning rate 1e-4, beta_1 = 0 and beta_2 = 0.9, on 64 images for each
    update; a batch holds the images of all five critic updates.

    Args:
        image_shape: Height, width, channels.
        **options: As for `zoo.models.gan`.

    Raises:
        ValueError: As `gan`.

    Example:
        >>> model = zoo.models.wgan_gp((8, 8, 1))
        >>> type(model.adversarial_loss).__name__, model.penalty.weight, model.discriminator_steps
        ('Wasserstein', 10.0, 5)
    """
    return gan(image_shape, **options)
