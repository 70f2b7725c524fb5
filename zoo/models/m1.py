"""M1: a variational autoencoder, trained without labels, whose codes a classifier takes as features.

Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014, section 2.1.
https://arxiv.org/abs/1406.5298
"""

from collections.abc import Sequence
from typing import Any

from zoo.config import extends
from zoo.models.vae import VAE, vae


@extends(vae, latent_dim=50, hidden=(500, 500), activation="softplus")
def m1(image_shape: Sequence[int], **options: Any) -> VAE:
    """A `VAE` with the paper's networks: two hidden layers of softplus units.

    The options are those of `vae`. `zoo.evaluation.classification.svm_on_codes` trains a support
    vector machine on the codes; M1+M2, `zoo.models.m1_m2`, trains an M2 on them.
    """
    return vae(image_shape, **options)
