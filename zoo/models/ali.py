"""Adversarially learned inference (ALI).

Dumoulin et al., "Adversarially Learned Inference", 2017. https://arxiv.org/abs/1606.00704
"""

from collections.abc import Sequence
from typing import Any

from zoo.config import extends
from zoo.models.bi_gan import BiGAN, bi_gan


@extends(
    bi_gan, latent_dim=64, network="conv", hidden=(512, 512), posterior="normal", prior="normal"
)
def ali(image_shape: Sequence[int], **options: Any) -> BiGAN:
    """A `BiGAN` with a stochastic encoder: q(z | x) is a diagonal normal, and p(z) is N(0, I).

    Section 2 and Algorithm 1 of the paper, with convolutional networks and 64 latents, as for
    CIFAR-10 in its appendix A.

    Args:
        image_shape: Height, width, channels.
        **options: As for `zoo.models.bi_gan`.

    Raises:
        ValueError: As `bi_gan`.

    Notes:
        The paper's networks have more layers than those of `bi_gan`.

    Example:
        >>> zoo.models.ali((8, 8, 1), width=8, hidden=(16, 16)).latent_dim
        64
    """
    return bi_gan(image_shape, **options)
