"""Parts that autoencoders of all kinds share, from plain values: q(z | x), p(x | z) and p(z)."""

from collections.abc import Sequence
from typing import Any

import keras

from zoo import networks
from zoo.config import choices, extends
from zoo.distributions import Conditional, Part, by_name, noisy_mlp
from zoo.networks import Condition


@choices(network=networks.NETWORKS, posterior=by_name.POSTERIORS, prior=by_name.PRIORS)
def posterior_and_prior(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    network: str = "mlp",
    hidden: Sequence[int] = (500,),
    filters: Sequence[int] = (32, 64),
    activation: str = "relu",
    posterior: str = "normal",
    posterior_steps: int = 0,
    posterior_hidden: Sequence[int] = (),
    posterior_noise_dim: int = 0,
    posterior_bases: int = 0,
    prior: str = "normal",
    prior_scale: float = 1.0,
    prior_steps: int = 0,
    prior_hidden: Sequence[int] = (),
    prior_components: int = 0,
    encoder_condition: Condition | None = None,
    center_images: bool = False,
) -> dict[str, Part]:
    """The `posterior` q(z | x) and the `prior` p(z).

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        network: "mlp" or "conv": see `zoo.networks.encoder`.
        hidden: Units of the encoder's dense layers.
        filters: Channels of the encoder's convolutions, for "conv".
        activation: Activation of the encoder's hidden layers.
        posterior: Name of q(z | x): see `zoo.distributions.by_name`.
        posterior_steps, posterior_hidden, posterior_noise_dim, posterior_bases: Sizes of the
            posterior; 0 and () stand for its own defaults.
        prior: Name of p(z).
        prior_scale, prior_steps, prior_hidden, prior_components: Sizes of the prior; likewise.
        encoder_condition: The encoder's second input, or `None`.
        center_images: Whether the encoder first moves images from [0, 1] to [-1, 1]. The network of
            "implicit" always does.

    Raises:
        ValueError: If a name is unknown, or a part does not have an option.
    """

    def make(shape, outputs):
        encoder = networks.encoder(network, shape, outputs, hidden, filters, activation)
        if not center_images:
            return encoder
        first = [keras.Input(shape), keras.layers.Rescaling(2.0, -1.0)]
        return keras.Sequential([*first, *encoder.layers], name=encoder.name)

    def encoder(outputs):
        return networks.conditioned(
            lambda shape: make(shape, outputs), image_shape, encoder_condition, network == "conv"
        )

    def noisy_encoder(noise_dim, outputs):
        return noisy_mlp(image_shape, noise_dim, outputs, hidden, activation)

    return {
        "posterior": by_name.posterior(
            posterior,
            latent_dim,
            encoder,
            noisy_encoder if network == "mlp" and encoder_condition is None else None,
            posterior_steps,
            posterior_hidden,
            posterior_noise_dim,
            posterior_bases,
        ),
        "prior": by_name.prior(
            prior, latent_dim, image_shape, prior_scale, prior_steps, prior_hidden, prior_components
        ),
    }


@choices(likelihood=by_name.LIKELIHOODS)
@extends(posterior_and_prior)
def autoencoder_parts(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    network: str = "mlp",
    hidden: Sequence[int] = (500,),
    filters: Sequence[int] = (32, 64),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
    decoder_condition: Condition | None = None,
    **options: Any,
) -> dict[str, Part]:
    """The `posterior` q(z | x), the `prior` p(z) and the `likelihood` p(x | z).

    Args:
        image_shape, latent_dim, network, hidden, filters, activation: As for `posterior_and_prior`;
            the decoder mirrors the encoder.
        likelihood: Name of p(x | z): see `zoo.distributions.by_name`.
        levels: Number of grey levels, for "discretized_logistic" and "categorical".
        decoder_condition: The decoder's second input, or `None`.
        **options: The other options of `posterior_and_prior`.

    Raises:
        ValueError: If a name is unknown, or a part does not have an option.
    """
    sizes: dict[str, Any] = {
        "network": network,
        "hidden": hidden,
        "filters": filters,
        "activation": activation,
    }
    parts = posterior_and_prior(image_shape, latent_dim=latent_dim, **sizes, **options)
    family = by_name.likelihood(likelihood, levels)
    decoder = networks.conditioned(
        lambda shape: networks.decoder(
            network, shape[0], image_shape, family.params_per_value, hidden, filters, activation
        ),
        (latent_dim,),
        decoder_condition,
    )
    return parts | {"likelihood": Conditional(decoder, family)}


INTERNAL = ("encoder_condition", "decoder_condition", "center_images")
"""The options above that are no plain values, or belong to one model: builders leave them out."""
