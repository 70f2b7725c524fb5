"""Builders of the parts that all autoencoders share: q(z | x), p(x | z) and p(z)."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from zoo import networks
from zoo.config import choices, extends
from zoo.distributions import Conditional, Prior, by_name, noisy_mlp
from zoo.networks import Condition

LEARNED_PRIOR_SIZES = ("prior_steps", "prior_hidden")
"""Options of priors with trainable weights only: models that need a fixed prior omit them."""

IMPLICIT_POSTERIOR_SIZES = ("posterior_noise_dim", "posterior_bases")
"""Options of posteriors without a density only: models that need a density omit them."""


@choices(prior=by_name.PRIORS)
def prior_part(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    prior: str = "normal",
    prior_scale: float = 1.0,
    prior_steps: int = 0,
    prior_hidden: Sequence[int] = (),
    prior_components: int = 0,
) -> Prior:
    """The prior p(z).

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        prior: Name of p(z): see `zoo.distributions.by_name`.
        prior_scale, prior_steps, prior_hidden, prior_components: Scale and sizes of the prior; 0
            or () for the prior's own default size.

    Raises:
        ValueError: If the name is unknown, or the prior does not have an option.
    """
    return by_name.prior(
        prior, latent_dim, image_shape, prior_scale, prior_steps, prior_hidden, prior_components
    )


@choices(posterior=by_name.POSTERIORS)
@extends(prior_part)
def latent_parts(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    encoder: Callable[[int], keras.Model],
    noisy_encoder: Callable[[int, int], keras.Model] | None = None,
    posterior: str = "normal",
    posterior_steps: int = 0,
    posterior_hidden: Sequence[int] = (),
    posterior_noise_dim: int = 0,
    posterior_bases: int = 0,
    **prior: Any,
) -> dict[str, Any]:
    """The `posterior` q(z | x) and the `prior` p(z) of a builder with its own networks.

    Args:
        image_shape, latent_dim: As for `prior_part`.
        encoder, noisy_encoder: As for `zoo.distributions.by_name.posterior`.
        posterior: Name of q(z | x): see `zoo.distributions.by_name`.
        posterior_steps, posterior_hidden, posterior_noise_dim, posterior_bases: Sizes of the
            posterior; 0 or () for the posterior's own default.
        **prior: The other options of `prior_part`.

    Raises:
        ValueError: If a name is unknown, or a part does not have an option.
    """
    return {
        "posterior": by_name.posterior(
            posterior,
            latent_dim,
            encoder,
            noisy_encoder,
            posterior_steps,
            posterior_hidden,
            posterior_noise_dim,
            posterior_bases,
        ),
        "prior": prior_part(image_shape, latent_dim=latent_dim, **prior),
    }


NETWORKS_OF_LATENTS = ("encoder", "noisy_encoder")
"""The options of `latent_parts` that are networks; builders that make these networks omit them."""


@choices(network=networks.NETWORKS)
@extends(latent_parts, without=NETWORKS_OF_LATENTS)
def posterior_and_prior(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    network: str = "mlp",
    hidden: Sequence[int] = (500,),
    filters: Sequence[int] = (32, 64),
    activation: str = "relu",
    encoder_condition: Condition | None = None,
    center_images: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """The `posterior` q(z | x) and the `prior` p(z), with a named encoder.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        network: "mlp", "conv" or "resnet": see `zoo.networks.encoder`.
        hidden: Units of the encoder's dense layers.
        filters: Channels of the encoder's convolutions or blocks, for "conv" and "resnet".
        activation: Activation of the encoder's hidden layers.
        encoder_condition: The encoder's second input, or `None`.
        center_images: Whether the encoder first rescales images from [0, 1] to [-1, 1]. The network
            of "implicit" always does.
        **options: The other options of `latent_parts`.

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
            lambda shape: make(shape, outputs), image_shape, encoder_condition, network != "mlp"
        )

    def noisy_encoder(noise_dim, outputs):
        return noisy_mlp(image_shape, noise_dim, outputs, hidden, activation)

    return latent_parts(
        image_shape,
        latent_dim=latent_dim,
        encoder=encoder,
        noisy_encoder=noisy_encoder if network == "mlp" and encoder_condition is None else None,
        **options,
    )


@choices(likelihood=by_name.LIKELIHOODS | {"shared_scale_normal": ("likelihood_scale",)})
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
    likelihood_scale: float = 1.0,
    levels: int = 256,
    start_at_mean: bool = True,
    decoder_condition: Condition | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The `posterior` q(z | x), the `prior` p(z), the `likelihood` p(x | z) and `start_at_mean`.

    Args:
        image_shape, latent_dim, network, hidden, filters, activation: As for `posterior_and_prior`;
            the decoder mirrors the encoder.
        likelihood: Name of p(x | z): see `zoo.distributions.by_name`.
        likelihood_scale: Initial standard deviation, for "shared_scale_normal".
        levels: Number of grey levels, for "discretized_logistic" and "categorical".
        start_at_mean: Whether the decoder starts at the mean of the training images: see
            `zoo.mean_start`.
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
    family = by_name.likelihood(likelihood, levels, likelihood_scale)
    decoder = networks.decoder(
        network,
        latent_dim,
        image_shape,
        family.params_per_value,
        hidden,
        filters,
        activation,
        decoder_condition,
    )
    return parts | {
        "likelihood": Conditional(decoder, family),
        "start_at_mean": start_at_mean,
    }


INTERNAL = ("encoder_condition", "decoder_condition", "center_images")
"""The options above that are not plain values, or belong to one model; builders omit them."""
