"""Two layers of latents, as a posterior and a prior for `VAE` and `IWAE`.

Burda et al., "Importance Weighted Autoencoders", 2016, section 5. https://arxiv.org/abs/1509.00519
Tomczak and Welling, "VAE with a VampPrior", 2018, section 4. https://arxiv.org/abs/1705.07120
"""

from collections.abc import Sequence

import keras

from zoo import networks
from zoo.distributions import (
    Conditional,
    DiagonalNormal,
    HierarchicalPosterior,
    HierarchicalPrior,
    StandardNormal,
    likelihood_family,
)
from zoo.models.iwae import IWAE
from zoo.models.vae import VAE, warm_up


def hierarchical_iwae_mlp(
    image_shape: Sequence[int],
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
) -> VAE:
    """Burda et al.'s two stochastic layers: q(z1 | x) q(z2 | z1), and p(z2) p(z1 | z2) p(x | z1).

    Scales and the output's bias differ from the paper's as those of `iwae_mlp` do.

    Args:
        image_shape: Height, width, channels.
        latent_dims: Dimensions of z1, next to the image, and of z2, the top.
        hidden: Of the encoder of x; the decoder's mirrors it.
        hidden_between: Of the networks between z1 and z2.
        activation: Of the hidden layers.
        likelihood: Name of the family of p(x | z1).
        levels: Number of grey levels, for "discretized_logistic".
        num_samples: Draws of z per image, 1, 5 or 50 in the paper.
        importance_weighted: Whether to make an `IWAE`; else a `VAE`, whose bound is the mean over
            the draws.
        doubly_reparameterised: As for `IWAE`.
        warm_up_steps: Training steps in which the weight of the rate rises from 0 to 1.

    Raises:
        ValueError: If there are not two layers, or for `doubly_reparameterised` without
            `importance_weighted`.
    """
    if doubly_reparameterised and not importance_weighted:
        raise ValueError(
            "The doubly reparameterised gradient is one of the importance weighted bound. "
            "Received: doubly_reparameterised=True, importance_weighted=False."
        )
    bottom, top = _two(latent_dims)
    family = likelihood_family(likelihood, levels)
    z = keras.Input((bottom + top,))
    decoder = networks.mlp_decoder(
        bottom, image_shape, family.params_per_value, hidden[::-1], activation
    )
    parts = (
        HierarchicalPosterior(
            Conditional(
                networks.mlp_encoder(image_shape, 2 * bottom, hidden, activation), DiagonalNormal()
            ),
            Conditional(
                networks.mlp(bottom, 2 * top, hidden_between, activation), DiagonalNormal()
            ),
        ),
        Conditional(keras.Model(z, decoder(z[:, :bottom])), family),
        HierarchicalPrior(
            StandardNormal(top),
            Conditional(
                networks.mlp(top, 2 * bottom, hidden_between[::-1], activation), DiagonalNormal()
            ),
        ),
    )
    settings = {"num_samples": num_samples, "rate_weight": warm_up(warm_up_steps)}
    if importance_weighted:
        return IWAE(*parts, doubly_reparameterised=doubly_reparameterised, **settings)
    return VAE(*parts, **settings)


def hvae_mlp(
    image_shape: Sequence[int],
    latent_dims: Sequence[int] = (40, 40),
    hidden: Sequence[int] = (300, 300),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
    num_samples: int = 1,
    warm_up_steps: int = 0,
) -> VAE:
    """Tomczak and Welling's HVAE: q(z2 | x) q(z1 | x, z2), and p(z2) p(z1 | z2) p(x | z1, z2).

    With z2's prior standard normal. Theirs has gated layers, and a layer of its own for each input
    of a network; here inputs are joined, and the activation is a plain one.

    Args:
        image_shape: Height, width, channels.
        latent_dims: Dimensions of z1, next to the image, and of z2, the top.
        hidden: Of all networks.
        activation: Of the hidden layers.
        likelihood: Name of the family of p(x | z1, z2).
        levels: Number of grey levels, for "discretized_logistic".
        num_samples: Draws of z per image.
        warm_up_steps: Training steps in which the weight of the rate rises from 0 to 1; 100 epochs
            in the paper.

    Raises:
        ValueError: If there are not two layers.
    """
    bottom, top = _two(latent_dims)
    family = likelihood_family(likelihood, levels)
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
            StandardNormal(top),
            Conditional(networks.mlp(top, 2 * bottom, hidden, activation), DiagonalNormal()),
        ),
        num_samples=num_samples,
        rate_weight=warm_up(warm_up_steps),
    )


def _two(latent_dims):
    if len(latent_dims) != 2 or min(latent_dims) < 1:
        raise ValueError(
            "`latent_dims` are the dimensions of two layers, each at least 1. "
            f"Received: {tuple(latent_dims)}."
        )
    return latent_dims
