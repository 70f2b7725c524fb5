"""M1: a variational autoencoder, trained without labels, whose codes a classifier takes as features.

Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014, section 2.1.
https://arxiv.org/abs/1406.5298
"""

from collections.abc import Sequence

from zoo.models.vae import VAE, vae_mlp


def m1(
    image_shape: Sequence[int],
    latent_dim: int = 50,
    hidden: Sequence[int] = (500, 500),
    activation: str = "softplus",
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> VAE:
    """A `VAE` with the paper's networks: two hidden layers of softplus units.

    `zoo.evaluation.classification.svm_on_codes` trains a support vector machine on its codes. M1+M2,
    `zoo.models.m1_m2`, trains an M2 on them.
    """
    return vae_mlp(
        image_shape, latent_dim, hidden, activation, likelihood=likelihood, levels=levels
    )
