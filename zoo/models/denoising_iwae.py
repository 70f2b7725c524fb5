"""Denoising importance-weighted autoencoder.

Im et al., "Denoising Criterion for Variational Auto-Encoding Framework", 2017, section 5.
https://arxiv.org/abs/1511.06406
"""

from collections.abc import Sequence
from typing import Any

import keras

from zoo.config import extends
from zoo.models import elbo
from zoo.models.denoising_vae import DenoisingVAE, corruption_of, denoising_vae
from zoo.models.iwae import IWAE


@keras.saving.register_keras_serializable("zoo")
class DenoisingIWAE(DenoisingVAE, IWAE):
    """The importance-weighted bound of a `DenoisingVAE`: one corruption x~_k for each draw z_k.

    Maximises E[log (1/K) sum_k p(x, z_k) / q(z_k | x~_k)], Im et al.'s DIWAE.

    Args:
        posterior, likelihood, prior, corruption: As for `DenoisingVAE`.
        **kwargs: As for `IWAE`.

    Example:
        >>> parts = zoo.models.elbo.parts((8, 8, 1), latent_dim=2, num_samples=5)
        >>> model = zoo.DenoisingIWAE(**parts, corruption=zoo.SaltAndPepper(0.05))
    """


@extends(denoising_vae, num_samples=5)
def denoising_iwae(
    image_shape: Sequence[int],
    *,
    doubly_reparameterised: bool = False,
    salt_and_pepper: float = 0.05,
    gaussian: float = 0.0,
    **options: Any,
) -> DenoisingIWAE:
    """A `DenoisingIWAE`. It has the options of `denoising_vae`, and:

    Args:
        doubly_reparameterised: Whether to use the gradient of Tucker et al.: see `IWAE`.
        salt_and_pepper, gaussian: As for `denoising_vae`.
    """
    return DenoisingIWAE(
        **elbo.parts(image_shape, **options),
        corruption=corruption_of(salt_and_pepper, gaussian),
        doubly_reparameterised=doubly_reparameterised,
    )
