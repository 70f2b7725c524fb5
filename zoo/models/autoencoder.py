"""Autoencoder.

Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313,
2006. https://doi.org/10.1126/science.1127647
"""

from collections.abc import Sequence

import keras

from zoo import networks
from zoo.distributions import Conditional, likelihood_family
from zoo.model import GenerativeModel, as_images


@keras.saving.register_keras_serializable("zoo")
class Autoencoder(GenerativeModel):
    """Minimises the distortion, -log p(x | z) at z = encoder(x).

    With a `UnitNormal` likelihood that is half the squared error summed over pixels (plus a
    constant), with `Bernoulli` the cross-entropy. There is no prior: it cannot sample.

    Args:
        encoder: Network from `x[B, H, W, C]` to `z[B, D]`.
        likelihood: p(x | z), a `Conditional` on `z[B, D]`.

    Example:
        >>> model = zoo.Autoencoder(
        ...     zoo.networks.mlp_encoder((8, 8, 1), 2),
        ...     zoo.Conditional(zoo.networks.mlp_decoder(2, (8, 8, 1)), zoo.UnitNormal()),
        ... )
        >>> model.compile("adam")
        >>> history = model.fit(zoo.datasets.load("digits").arrays("train")[0], verbose=0)
    """

    def __init__(self, encoder: keras.Model, likelihood: Conditional, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.likelihood = likelihood

    def players(self):
        return {"autoencoder": [self.encoder, self.likelihood]}

    def objective(self, x, y, seed, training):
        z = self.encoder(x, training=training)
        return {"autoencoder": -self.likelihood(z, y, training=training).log_prob(x)}, {}

    @property
    def image_shape(self):
        return tuple(self.encoder.inputs[0].shape[1:])

    @property
    def latent_dim(self):
        return self.encoder.output_shape[-1]

    @property
    def can_encode(self):
        return True

    def encode(self, x, y=None):
        return self.encoder(self._images(x))

    def decode(self, z, y=None):
        return as_images(self.likelihood(z, y).mean())


def autoencoder_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    hidden: Sequence[int] = (500,),
    likelihood: str = "unit_normal",
    levels: int = 256,
) -> Autoencoder:
    """An `Autoencoder` of multilayer perceptrons; `hidden` is the encoder's, the decoder's mirrors it."""
    family = likelihood_family(likelihood, levels)
    return Autoencoder(
        networks.mlp_encoder(image_shape, latent_dim, hidden),
        Conditional(
            networks.mlp_decoder(latent_dim, image_shape, family.params_per_value, hidden[::-1]),
            family,
        ),
    )


def autoencoder_conv(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    likelihood: str = "unit_normal",
    levels: int = 256,
) -> Autoencoder:
    """A convolutional `Autoencoder`; `filters` are the encoder's, the decoder's mirror them."""
    family = likelihood_family(likelihood, levels)
    return Autoencoder(
        networks.conv_encoder(image_shape, latent_dim, filters, hidden),
        Conditional(
            networks.conv_decoder(
                latent_dim, image_shape, family.params_per_value, filters[::-1], hidden
            ),
            family,
        ),
    )
