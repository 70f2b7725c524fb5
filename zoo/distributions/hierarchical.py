"""Two layers of latents: a posterior, a prior, and the distribution that both return.

Burda et al., "Importance Weighted Autoencoders", 2016, section 5. https://arxiv.org/abs/1509.00519
Tomczak and Welling, "VAE with a VampPrior", 2018, section 4. https://arxiv.org/abs/1705.07120
"""

from collections.abc import Callable

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.distributions.conditional import Conditional
from zoo.distributions.families import Family
from zoo.distributions.part import Part
from zoo.distributions.priors import Prior

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class HierarchicalPosterior(Part):
    """q(z | x) over two layers of latents, z[D1 + D2] = [z1, z2].

    z1 is the layer next to the image, and z2 is the top layer.

    Upwards it is q(z1 | x) q(z2 | z1), as in Burda et al.; downwards q(z2 | x) q(z1 | x, z2), as in
    Tomczak and Welling. A model's `encode` returns the mean of the first layer, and the mean of the
    second layer given the first mean.

    Args:
        first: q of the layer that is drawn first, a `Conditional` on `x[B, H, W, C]`.
        second: q of the other layer, a `Conditional` on the first layer's `z[..., B, D]`; with a
            network of two inputs, also on `x`.
        upwards: Whether the first layer is z1.

    Raises:
        ValueError: If the layers do not fit together.

    Example:
        >>> posterior = zoo.HierarchicalPosterior(
        ...     zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 2 * 3), zoo.DiagonalNormal()),
        ...     zoo.Conditional(zoo.networks.mlp(3, 2 * 2), zoo.DiagonalNormal()),
        ... )
        >>> posterior(tf.zeros([4, 8, 8, 1])).sample(7).shape
        TensorShape([7, 4, 5])
    """

    def __init__(self, first: Conditional, second: Conditional, upwards: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.first = first
        self.second = second
        self.upwards = upwards
        _check_layers(second, first.event_shape)
        image = None if second.condition is None else tuple(second.condition.shape[1:])
        if image not in (None, first.context_shape):
            raise ValueError(
                "The second input of the `second` layer's network is the image, which the `first` "
                f"layer takes in the shape {first.context_shape}. Received: an input of shape "
                f"{image}."
            )
        (self.second_dim,) = second.event_shape

    @property
    def network(self) -> keras.Model:
        """The network that takes the image."""
        return self.first.network

    @property
    def family(self) -> Family:
        """The family of the layer that is drawn first."""
        return self.first.family

    def made_of(self) -> tuple[Part, ...]:
        return (self.first, self.second)

    @property
    def has_density(self) -> bool:
        # `Chain` splits a draw, so that neither layer receives the tensor that it drew.
        return all(layer.has_density_everywhere for layer in self.made_of())

    @property
    def condition(self) -> tf.TensorSpec | None:
        return self.first.condition

    @property
    def context_shape(self) -> tuple[int, ...]:
        return self.first.context_shape

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.first.event_shape[0] + self.second_dim,)

    def call(self, x: tf.Tensor, y: tf.Tensor | None = None, training: bool = False) -> "Chain":
        return Chain(
            self.first(x, y, training=training),
            lambda z: self.second(z, x, training=training),
            self.second_dim,
            first_comes_first=self.upwards,
        )


@keras.saving.register_keras_serializable("zoo")
class HierarchicalPrior(Prior):
    """p(z) = p(z2) p(z1 | z2) over two layers of latents, z[D1 + D2] = [z1, z2].

    z1 is the layer next to the image, and z2 is the top layer.

    Args:
        top: p(z2), a `Prior`.
        bottom: p(z1 | z2), a `Conditional` on `z2[..., B, D2]`.

    Raises:
        ValueError: If the layers do not fit together.

    Example:
        >>> prior = zoo.HierarchicalPrior(
        ...     zoo.StandardNormal(2),
        ...     zoo.Conditional(zoo.networks.mlp(2, 2 * 3), zoo.DiagonalNormal()),
        ... )
        >>> prior().sample(7).shape
        TensorShape([7, 5])
        >>> prior.complete(tf.zeros([4, 2])).shape  # From the top layer.
        TensorShape([4, 5])
    """

    def __init__(self, top: Prior, bottom: Conditional, **kwargs):
        super().__init__(**kwargs)
        self.top = top
        self.bottom = bottom
        _check_layers(bottom, top.event_shape)
        (self.bottom_dim,) = bottom.event_shape

    def made_of(self) -> tuple[Part, ...]:
        return (self.top, self.bottom)

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        return Chain(self.top(y), self.bottom, self.bottom_dim, first_comes_first=False)

    def complete(self, top: tf.Tensor) -> tf.Tensor:
        """All latents `[B, D1 + D2]` for a top layer `[B, D2]`: z1 is the mean of p(z1 | z2).

        `model.decode(model.prior.complete(z2))` is an image for the top layer `z2`.
        """
        return tf.concat([self.bottom(top).mean(), tf.cast(top, tf.float32)], -1)


def _check_layers(conditional, drawn):
    """Checks that a layer's distribution is over vectors, given the vectors of the layer before."""
    if conditional.context_shape != drawn or len(drawn) != 1 or len(conditional.event_shape) != 1:
        raise ValueError(
            "Two layers of latents need a Conditional from the vectors of the layer that is drawn "
            f"first, here of shape {drawn}, to vectors. Received: a Conditional from the shape "
            f"{conditional.context_shape} to the shape {conditional.event_shape}."
        )


class Chain(tfd.Distribution):
    """p(a) p(b | a) over the vectors [a, b], or [b, a] if not `first_comes_first`.

    `mean` returns the mean of p(a), and of p(b | a) at that mean. In general it is not the mean of
    b, but it is a deterministic encoding.

    Args:
        first: p(a), over vectors.
        second: Function from `a[..., D]` to the distribution p(b | a).
        second_dim: Length of b.
        first_comes_first: Whether a is before b on the last axis.
    """

    def __init__(
        self,
        first: tfd.Distribution,
        second: Callable[[tf.Tensor], tfd.Distribution],
        second_dim: int,
        first_comes_first: bool,
        name: str = "Chain",
    ):
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
        if value.shape.rank == 1:  # Networks need a batch axis.
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
