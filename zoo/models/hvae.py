"""Hierarchical VAE with two layers of latents (HVAE).

Tomczak and Welling, "VAE with a VampPrior", 2018, section 4. https://arxiv.org/abs/1705.07120

The model is a `VAE` with a `HierarchicalPosterior` and a `HierarchicalPrior`.
"""

from collections.abc import Sequence
from typing import Any

import keras

from zoo import networks
from zoo.config import extends
from zoo.distributions import (
    Conditional,
    DiagonalNormal,
    HierarchicalPosterior,
    HierarchicalPrior,
    by_name,
)
from zoo.models import elbo
from zoo.models.vae import VAE, vae

NOT_OPTIONS = (
    "latent_dim",
    "network",
    "filters",
    "free_bits",
    "posterior",
    "posterior_steps",
    "posterior_hidden",
    "posterior_noise_dim",
    "posterior_bases",
)
"""Options of `vae` that models with two layers of latents do not have."""


@extends(vae, without=NOT_OPTIONS)
def hvae(
    image_shape: Sequence[int],
    *,
    latent_dims: Sequence[int] = (40, 40),
    hidden: Sequence[int] = (300, 300),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
    num_samples: int = 1,
    warm_up_steps: int = 0,
    **prior,
) -> VAE:
    """Tomczak and Welling's HVAE.

    The posterior is q(z2 | x) q(z1 | x, z2), and the model is p(z2) p(z1 | z2) p(x | z1, z2).

    Args:
        image_shape: Height, width, channels.
        latent_dims: Dimensions of z1, next to the image, and of z2, the top layer.
        hidden: Units of the hidden layers of all networks.
        activation, likelihood, levels, num_samples, warm_up_steps: As for `vae`. The paper's
            warm-up takes 100 epochs.
        **prior: `prior` and its sizes, as for `vae`, for the prior p(z2) of the top layer.

    Raises:
        ValueError: If `latent_dims` does not have two dimensions.

    Notes:
        The paper's networks have gated layers, and separate layers for each input of a network.
        Here inputs are concatenated, and layers have ordinary activations.
    """
    bottom, top = two_layers(latent_dims)
    family = by_name.likelihood(likelihood, levels)
    z2, x = keras.Input((top,)), keras.Input(tuple(image_shape))
    both = keras.layers.Concatenate()([z2, keras.layers.Flatten()(x)])
    middle = networks.mlp(both.shape[-1], 2 * bottom, hidden, activation)
    decoder = networks.mlp_decoder(
        bottom + top, image_shape, family.params_per_value, hidden[::-1], activation
    )
    return VAE(
        HierarchicalPosterior(
            Conditional(
                networks.mlp_encoder(image_shape, 2 * top, hidden, activation), DiagonalNormal()
            ),
            Conditional(keras.Model([z2, x], middle(both)), DiagonalNormal()),
            upwards=False,
        ),
        Conditional(decoder, family),
        HierarchicalPrior(
            top_prior(top, image_shape, **prior),
            Conditional(networks.mlp(top, 2 * bottom, hidden, activation), DiagonalNormal()),
        ),
        num_samples=num_samples,
        rate_weight=elbo.warm_up(warm_up_steps),
    )


def two_layers(latent_dims: Sequence[int]) -> tuple[int, int]:
    """The dimensions of z1 and z2, checked."""
    if len(latent_dims) != 2 or min(latent_dims) < 1:
        raise ValueError(
            "`latent_dims` are the dimensions of two layers, each at least 1. "
            f"Received: {tuple(latent_dims)}."
        )
    return latent_dims[0], latent_dims[1]


def top_prior(dim: int, image_shape: Sequence[int], prior: str = "normal", **sizes: Any) -> Any:
    """The prior of the top layer, by name. `sizes` are the options `prior_...` of the builder."""
    if prior == "vamp":
        raise ValueError(
            "A VampPrior is a mixture of the model's posterior q(z | x), and a model of two layers "
            "has no posterior of the top layer alone: choose another prior. Received: prior='vamp'."
        )
    sizes = {name.removeprefix("prior_"): size for name, size in sizes.items()}
    return by_name.prior(prior, dim, image_shape, **sizes)
