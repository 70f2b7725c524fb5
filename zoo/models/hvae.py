"""Hierarchical VAE with two layers of latents (HVAE).

Tomczak and Welling, "VAE with a VampPrior", 2018, section 4. https://arxiv.org/abs/1705.07120

The model is a `VAE` with a `HierarchicalPosterior` and a `HierarchicalPrior`.
"""

from collections.abc import Sequence
from typing import Any

import keras

from zoo import networks
from zoo.config import extends
from zoo.models import elbo
from zoo.models.vae import VAE, vae


@extends(vae, without=("latent_dim",))
def hvae(
    image_shape: Sequence[int],
    *,
    latent_dims: Sequence[int] = (40, 40),
    network: str = "mlp",
    hidden: Sequence[int] = (300, 300),
    filters: Sequence[int] = (32, 64),
    activation: str = "relu",
    **options: Any,
) -> VAE:
    """Tomczak and Welling's HVAE.

    The posterior is q(z2 | x) q(z1 | x, z2), and the model is p(z2) p(z1 | z2) p(x | z1, z2). It
    has the options of `vae`, and:

    Args:
        latent_dims: Dimensions of z1, next to the image, and of z2, the top layer.
        network: "mlp"; or "conv" or "resnet" for networks with convolutions from and to the image.
        hidden: Units of the dense layers of all networks.
        posterior: Name of q(z2 | x) and of q(z1 | x, z2).
        prior: Name of the prior p(z2) of the top layer; not "vamp".
        warm_up_steps: As for `vae`. The paper's warm-up takes 100 epochs.

    Raises:
        ValueError: If `latent_dims` does not have two dimensions, `free_bits` is set, or a part has
            no density at any z.

    Notes:
        The paper's networks have gated layers, and separate layers for each input of a network.
        Here inputs are concatenated, and layers have ordinary activations.
    """
    sizes = hidden, filters, activation

    def of_top_and_image(outputs):
        z2, x = keras.Input((latent_dims[-1],)), keras.Input(tuple(image_shape))
        if network == "mlp":
            both = keras.layers.Concatenate()([z2, keras.layers.Flatten()(x)])
        else:
            height, width, _ = image_shape
            planes = keras.layers.RepeatVector(height * width)(z2)
            planes = keras.layers.Reshape((height, width, z2.shape[-1]))(planes)
            both = keras.layers.Concatenate()([planes, x])
        encoder = networks.encoder(network, both.shape[1:], outputs, *sizes)
        return keras.Model([z2, x], encoder(both))

    return VAE(
        **elbo.two_layers(
            image_shape,
            latent_dims=latent_dims,
            upwards=False,
            decoder=lambda n: networks.decoder(network, sum(latent_dims), image_shape, n, *sizes),
            first=lambda outputs: networks.encoder(network, image_shape, outputs, *sizes),
            second=of_top_and_image,
            between=lambda outputs: networks.mlp(latent_dims[-1], outputs, hidden, activation),
            **options,
        )
    )
