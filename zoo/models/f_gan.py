"""f-GAN: a GAN that minimises a variational estimate of an f-divergence.

Nowozin et al., "f-GAN: Training Generative Neural Samplers using Variational Divergence
Minimization", 2016. https://arxiv.org/abs/1606.00709
"""

from collections.abc import Sequence
from typing import Any

from zoo.config import extends
from zoo.models.gan import GAN, gan


@extends(
    gan,
    generator_hidden=(1200, 1200),
    discriminator_hidden=(240, 240),
    dropout=0.0,
    prior="uniform",
    loss="f_kl",
)
def f_gan(image_shape: Sequence[int], **options: Any) -> GAN:
    """A `GAN` with a `zoo.adversarial.FDivergence` loss and the paper's networks for MNIST.

    The generator has two hidden layers of 1200 units with batch normalization, the discriminator two
    of 240, and there are 100 uniform latents (section 4).

    Args:
        image_shape: Height, width, channels.
        loss: "f_" and the divergence, such as "f_kl"; with "_saddle" at the end for a generator that
            minimises the bound itself. See `zoo.adversarial.adversarial_loss`.
        **options: As for `zoo.models.gan`.

    Raises:
        ValueError: As `gan`.

    Notes:
        The paper's discriminator has ELU activations and its batches hold 4096 images; here the
        activations are leaky ReLU.

    Example:
        >>> model = zoo.models.f_gan((8, 8, 1), loss="f_squared_hellinger")
        >>> model.adversarial_loss.divergence
        'squared_hellinger'
    """
    return gan(image_shape, **options)
