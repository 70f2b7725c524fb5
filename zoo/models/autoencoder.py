"""Autoencoder.

Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313,
2006. https://doi.org/10.1126/science.1127647
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo import networks
from zoo.config import choices, with_article
from zoo.distributions import Conditional, Prior, by_name, refuse_learned
from zoo.model import GenerativeModel


@keras.saving.register_keras_serializable("zoo")
class Autoencoder(GenerativeModel):
    """Minimises the distortion, -log p(x | z) at z = encoder(x).

    With a `UnitNormal` likelihood, the distortion is half the squared error, summed over pixels,
    plus a constant; with a `Bernoulli` likelihood, it is the cross-entropy. Training does not use a
    prior. Without a prior the model cannot sample; `zoo.expost.refit` fits a prior to the codes of a
    trained model.

    Args:
        encoder: Network from `x[B, H, W, C]` to `z[B, D]`.
        likelihood: p(x | z), a `Conditional` on `z[B, D]`.
        prior: p(z), a `Prior` over `z[D]` without trainable weights, or `None`.

    Raises:
        ValueError: If the prior has trainable weights.

    Example:
        >>> model = zoo.Autoencoder(
        ...     zoo.networks.mlp_encoder((8, 8, 1), 2),
        ...     zoo.Conditional(zoo.networks.mlp_decoder(2, (8, 8, 1)), zoo.UnitNormal()),
        ... )
        >>> model.compile("adam")
        >>> history = model.fit(zoo.datasets.load("digits").arrays("train")[0], verbose=0)
    """

    def __init__(
        self,
        encoder: keras.Model,
        likelihood: Conditional,
        prior: Prior | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if prior is not None:
            refuse_learned(prior, with_article(type(self).__name__))
        self.encoder = encoder
        self.likelihood = likelihood
        self.prior = prior

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {"autoencoder": [self.encoder, self.likelihood]}

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        z = self.encoder(x, training=training)
        return {"autoencoder": -self.likelihood(z, y, training=training).log_prob(x)}, {}

    @property
    def latent_dim(self) -> int:
        return self.encoder.output_shape[-1]


@choices(network=networks.NETWORKS, likelihood=by_name.LIKELIHOODS)
def autoencoder(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 20,
    network: str = "mlp",
    hidden: Sequence[int] = (500,),
    filters: Sequence[int] = (32, 64),
    activation: str = "relu",
    likelihood: str = "unit_normal",
    levels: int = 256,
    start_at_mean: bool = True,
) -> Autoencoder:
    """An `Autoencoder` from named networks.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the codes.
        network: "mlp", "conv" or "resnet": see `zoo.networks.encoder`.
        hidden: Units of the encoder's dense layers; the decoder mirrors them.
        filters: Channels of the encoder's convolutions or blocks, for "conv" and "resnet".
        activation: Activation of the hidden layers.
        likelihood: Name of p(x | z): see `zoo.distributions.by_name`.
        levels: Number of grey levels, for "discretized_logistic" and "categorical".
        start_at_mean: Whether the decoder starts at the mean of the training images: see
            `zoo.mean_start`.
    """
    family = by_name.likelihood(likelihood, levels)
    size = family.params_per_value
    return Autoencoder(
        networks.encoder(network, image_shape, latent_dim, hidden, filters, activation),
        Conditional(
            networks.decoder(network, latent_dim, image_shape, size, hidden, filters, activation),
            family,
        ),
        start_at_mean=start_at_mean,
    )
