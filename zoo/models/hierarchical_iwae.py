"""Importance-weighted autoencoder with two layers of latents.

Burda et al., "Importance Weighted Autoencoders", 2016, section 5. https://arxiv.org/abs/1509.00519

The model is an `IWAE` with a `HierarchicalPosterior` and a `HierarchicalPrior`.
"""

from collections.abc import Sequence

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
from zoo.models.hvae import NOT_OPTIONS, top_prior, two_layers
from zoo.models.iwae import IWAE
from zoo.models.vae import VAE, vae


@extends(vae, without=NOT_OPTIONS)
def hierarchical_iwae(
    image_shape: Sequence[int],
    *,
    latent_dims: Sequence[int] = (100, 50),
    hidden: Sequence[int] = (200, 200),
    hidden_between: Sequence[int] = (100, 100),
    activation: str = "tanh",
    likelihood: str = "bernoulli",
    levels: int = 256,
    num_samples: int = 5,
    importance_weighted: bool = True,
    doubly_reparameterised: bool = False,
    warm_up_steps: int = 0,
    **prior,
) -> VAE:
    """A model with Burda et al.'s two stochastic layers.

    The posterior is q(z1 | x) q(z2 | z1), and the model is p(z2) p(z1 | z2) p(x | z1).

    Args:
        image_shape: Height, width, channels.
        latent_dims: Dimensions of z1, next to the image, and of z2, the top layer.
        hidden: Units of the hidden layers of q(z1 | x); p(x | z1) mirrors them.
        hidden_between: Units of the networks between z1 and z2.
        activation, likelihood, levels, warm_up_steps: As for `vae`.
        num_samples: Draws of z per image; 1, 5 or 50 in the paper.
        importance_weighted: Whether to build an `IWAE`; otherwise a `VAE`, whose bound is the mean
            over the draws.
        doubly_reparameterised: As for `IWAE`.
        **prior: `prior` and its sizes, as for `vae`, for the prior p(z2) of the top layer.

    Raises:
        ValueError: If `latent_dims` does not have two dimensions, or `doubly_reparameterised` is
            set without `importance_weighted`.

    Notes:
        The posterior's scales and the bias of the output differ from the paper's, as in `iwae`.
    """
    if doubly_reparameterised and not importance_weighted:
        raise ValueError(
            "The doubly reparameterised gradient belongs to the importance-weighted bound. "
            "Received: doubly_reparameterised=True, importance_weighted=False."
        )
    bottom, top = two_layers(latent_dims)
    family = by_name.likelihood(likelihood, levels)
    z = keras.Input((bottom + top,))
    decoder = networks.mlp_decoder(
        bottom, image_shape, family.params_per_value, hidden[::-1], activation
    )

    def conditional(network):
        return Conditional(network, DiagonalNormal())

    posterior = HierarchicalPosterior(
        conditional(networks.mlp_encoder(image_shape, 2 * bottom, hidden, activation)),
        conditional(networks.mlp(bottom, 2 * top, hidden_between, activation)),
    )
    likelihood = Conditional(keras.Model(z, decoder(z[:, :bottom])), family)
    prior = HierarchicalPrior(
        top_prior(top, image_shape, **prior),
        conditional(networks.mlp(top, 2 * bottom, hidden_between[::-1], activation)),
    )
    rate_weight = elbo.warm_up(warm_up_steps)
    if importance_weighted:
        return IWAE(posterior, likelihood, prior, num_samples, doubly_reparameterised, rate_weight)
    return VAE(posterior, likelihood, prior, num_samples, rate_weight)
