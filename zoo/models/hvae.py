"""Two layers of latents, as a posterior and a prior for `VAE` and `IWAE`.

Burda et al., "Importance Weighted Autoencoders", 2016, section 5. https://arxiv.org/abs/1509.00519
Tomczak and Welling, "VAE with a VampPrior", 2018, section 4. https://arxiv.org/abs/1705.07120
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.distributions import (
    Conditional,
    DiagonalNormal,
    Part,
    Prior,
    StandardNormal,
    likelihood_family,
)
from zoo.models.iwae import IWAE
from zoo.models.vae import VAE, warm_up

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class HierarchicalPosterior(Part):
    """q(z | x) of two layers of latents; z[D1 + D2] is z1, next to the image, then z2, the top.

    Upwards, q(z1 | x) q(z2 | z1), as Burda et al. have it; downwards, q(z2 | x) q(z1 | x, z2), as
    Tomczak and Welling do. A model's `encode` gives the means along that way: of the first layer,
    and of the second given the first's mean.

    Args:
        first: q of the layer drawn first, a `Conditional` on `x[B, H, W, C]`.
        second: q of the other, a `Conditional` on the first layer's `z[..., B, D]`; if its network
            has two inputs, on `x` as well.
        upwards: Whether the first layer is z1.
    """

    def __init__(self, first: Conditional, second: Conditional, upwards: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.first = first
        self.second = second
        self.upwards = upwards
        x = tf.zeros([1, *self.network.inputs[0].shape[1:]])
        self.second_dim = int(second(first(x).mean(), x).event_shape[-1])

    @property
    def network(self) -> keras.Model:
        """The network that sees the image."""
        return self.first.network

    @property
    def family(self):
        """The family of the layer that is drawn first."""
        return self.first.family

    def call(self, x, y=None, training=False):
        return Chain(
            self.first(x, y, training=training),
            lambda z: self.second(z, x, training=training),
            self.second_dim,
            first_comes_first=self.upwards,
        )


@keras.saving.register_keras_serializable("zoo")
class HierarchicalPrior(Prior):
    """p(z) = p(z2) p(z1 | z2) over z[D1 + D2], which is z1, then z2, the top.

    Args:
        top: p(z2), a `Prior`.
        bottom: p(z1 | z2), a `Conditional` on `z2[..., B, D2]`.

    Example:
        >>> prior = zoo.HierarchicalPrior(
        ...     zoo.StandardNormal(2),
        ...     zoo.Conditional(zoo.networks.mlp(2, 2 * 3), zoo.DiagonalNormal()),
        ... )
        >>> prior().sample(7).shape
        TensorShape([7, 5])
        >>> prior.complete(tf.zeros([4, 2])).shape  # From the top alone.
        TensorShape([4, 5])
    """

    def __init__(self, top: Prior, bottom: Conditional, **kwargs):
        super().__init__(**kwargs)
        self.top = top
        self.bottom = bottom
        top_dim = top().event_shape[-1]
        self.bottom_dim = int(bottom(tf.zeros([1, top_dim])).event_shape[-1])

    def call(self, y=None):
        return Chain(self.top(y), self.bottom, self.bottom_dim, first_comes_first=False)

    def complete(self, top) -> tf.Tensor:
        """All latents `[B, D1 + D2]` of a top layer `[B, D2]`: z1 is the mean of p(z1 | z2).

        `model.decode(model.prior.complete(z2))` is the image that the top layer stands for.
        """
        return tf.concat([self.bottom(top).mean(), tf.cast(top, tf.float32)], -1)


class Chain(tfd.Distribution):
    """p(a) p(b | a) over the vectors [a, b], or [b, a] if not `first_comes_first`.

    `mean` gives the means along the chain, of p(a) and of p(b | mean of a). That is not the mean
    of b in general, but it is what a deterministic encoding wants.

    Args:
        first: p(a), over vectors.
        second: Function from `a[..., D]` to the distribution p(b | a).
        second_dim: Length of b.
        first_comes_first: The order on the last axis.
    """

    def __init__(self, first, second, second_dim, first_comes_first, name="Chain"):
        parameters = dict(locals())
        self.first, self.second = first, second
        self.second_dim, self.first_comes_first = second_dim, first_comes_first
        super().__init__(
            dtype=first.dtype,
            reparameterization_type=first.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {
            "first": tfp.util.BatchedComponentProperties(),
            "second": tfp.util.ParameterProperties(event_ndims=None),
            "second_dim": tfp.util.ParameterProperties(event_ndims=None),
            "first_comes_first": tfp.util.ParameterProperties(event_ndims=None),
        }

    def _event_shape(self):
        return tf.TensorShape([self.first.event_shape[-1] + self.second_dim])

    def _event_shape_tensor(self):
        return tf.constant(self.event_shape.as_list(), tf.int32)

    def _joined(self, a, b):
        return tf.concat([a, b] if self.first_comes_first else [b, a], -1)

    def _sample_n(self, n, seed=None):
        first_seed, second_seed = tfp.random.split_seed(seed)
        a = self.first.sample(n, seed=first_seed)
        return self._joined(a, self.second(a).sample(seed=second_seed))

    def _log_prob(self, value):
        if value.shape.rank == 1:  # Networks want a batch.
            return self._log_prob(value[None])[0]
        sizes = [self.first.event_shape[-1], self.second_dim]
        if self.first_comes_first:
            a, b = tf.split(value, sizes, -1)
        else:
            b, a = tf.split(value, sizes[::-1], -1)
        return self.first.log_prob(a) + self.second(a).log_prob(b)

    def _mean(self):
        a = self.first.mean()
        if a.shape.rank == 1:
            return self._joined(a, self.second(a[None]).mean()[0])
        return self._joined(a, self.second(a).mean())


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
