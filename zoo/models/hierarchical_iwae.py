"""Importance-weighted autoencoder with two layers of latents.

Burda et al., "Importance Weighted Autoencoders", 2016, section 5. https://arxiv.org/abs/1509.00519

The model is an `IWAE` with a `HierarchicalPosterior` and a `HierarchicalPrior`.
"""

from collections.abc import Sequence
from typing import Any

import keras

from zoo import networks
from zoo.config import extends
from zoo.models import elbo
from zoo.models.iwae import IWAE, iwae
from zoo.models.vae import VAE


@extends(iwae, without=("latent_dim",))
def hierarchical_iwae(
    image_shape: Sequence[int],
    *,
    latent_dims: Sequence[int] = (100, 50),
    network: str = "mlp",
    hidden: Sequence[int] = (200, 200),
    hidden_between: Sequence[int] = (100, 100),
    filters: Sequence[int] = (32, 64),
    activation: str = "tanh",
    importance_weighted: bool = True,
    doubly_reparameterised: bool = False,
    **options: Any,
) -> VAE:
    """A model with Burda et al.'s two stochastic layers.

    The posterior is q(z1 | x) q(z2 | z1), and the model is p(z2) p(z1 | z2) p(x | z1). It has the
    options of `iwae`, and:

    Args:
        latent_dims: Dimensions of z1, next to the image, and of z2, the top layer.
        network: "mlp"; or "conv" or "resnet" for networks with convolutions from and to the image.
        hidden: Units of the dense layers of q(z1 | x); p(x | z1) mirrors them.
        hidden_between: Units of the networks between z1 and z2.
        posterior: Name of q(z1 | x) and of q(z2 | z1).
        prior: Name of the prior p(z2) of the top layer; not "vamp".
        importance_weighted: Whether to build an `IWAE`; otherwise a `VAE`, whose bound is the mean
            over the draws.

    Raises:
        ValueError: If `latent_dims` does not have two dimensions, `free_bits` is set, a part has no
            density at any z, or `doubly_reparameterised` is set without `importance_weighted`.

    Notes:
        The posterior's scales differ from the paper's, as in `iwae`.
    """
    if doubly_reparameterised and not importance_weighted:
        raise ValueError(
            "The doubly reparameterised gradient belongs to the importance-weighted bound. "
            "Received: doubly_reparameterised=True, importance_weighted=False."
        )
    sizes = hidden, filters, activation

    def decoder(params_per_value):
        z1_and_z2, bottom = keras.Input((sum(latent_dims),)), latent_dims[0]
        of_z1 = networks.decoder(network, bottom, image_shape, params_per_value, *sizes)
        return keras.Model(z1_and_z2, of_z1(z1_and_z2[:, :bottom]))

    def perceptron(layer, units):
        return lambda outputs: networks.mlp(latent_dims[layer], outputs, units, activation)

    parts = elbo.two_layers(
        image_shape,
        latent_dims=latent_dims,
        upwards=True,
        decoder=decoder,
        first=lambda outputs: networks.encoder(network, image_shape, outputs, *sizes),
        second=perceptron(0, hidden_between),
        between=perceptron(1, hidden_between[::-1]),
        **options,
    )
    if importance_weighted:
        return IWAE(**parts, doubly_reparameterised=doubly_reparameterised)
    return VAE(**parts)
