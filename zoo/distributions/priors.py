"""Priors over latents: fixed priors, and a prior that depends on a condition."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.contract import check_counts
from zoo.distributions.conditional import Completion, Conditional, check_network
from zoo.distributions.families import Family
from zoo.distributions.part import Part
from zoo.distributions.vectors import VectorDistribution
from zoo.draws import Normal

tfd = tfp.distributions


class Prior(Part):
    """p(z): called without arguments, or with a condition `y` that it may ignore.

    A prior returns a distribution over `z[dim]`. An adversarial model only samples its prior; a
    likelihood model also needs `log_prob`. A prior without a density sets `has_density = False`. A
    prior whose draws are not differentiable with respect to its weights sets
    `has_differentiable_draws = False`.

    `call` may also take `training`, if the prior has layers that behave differently in training.

    A prior with `is_fitted = True` has a method `fit`, and is fitted to the codes of a trained model.
    """

    is_fitted = False

    def __call__(self, y: tf.Tensor | None = None, training: bool = False) -> tfd.Distribution:
        call: Callable[..., tfd.Distribution] = self.call
        takes_training = "training" in inspect.signature(call).parameters
        return call(y, training=training) if takes_training else call(y)

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        raise NotImplementedError

    def sample_for(self, x: tf.Tensor, y: tf.Tensor | None = None, seed: Any = None) -> tf.Tensor:
        """One draw for each image of `x[B, ...]`, `[B, D]`, given the conditions `y[B, ...]`."""
        p = self(y)
        z = p.sample(() if p.batch_shape.rank else tf.shape(x)[0], seed=seed)
        return tf.ensure_shape(z, [x.shape[0], None])

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """Shape of one draw, `(D,)`. By default the shape that the distribution states."""
        spec = self.condition
        y = None if spec is None else tf.zeros([1, *spec.shape[1:]], spec.dtype)
        return tuple(self(y).event_shape)

    @property
    def is_learned(self) -> bool:
        """Whether the prior has trainable weights."""
        return bool(self.trainable_variables)

    def walks(self, n: int = 10) -> tf.Tensor:
        """Paths along the parts of the prior, `n` points on each: `[K, n, D]`.

        K is the number of parts. A prior without parts has no paths.
        """
        return tf.zeros([0, n, *(self.event_shape or (0,))])

    def bind(self, posterior: Conditional) -> None:
        """Receives q(z | x), for priors that depend on it. Models call `bind` when they are built."""


@keras.saving.register_keras_serializable("zoo")
class StandardNormal(Prior):
    """N(0, I) in `dim` dimensions.

    Example:
        >>> zoo.StandardNormal(2)().log_prob([0.0, 0.0])  # -log(2 pi)
    """

    def __init__(self, dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_counts(dim=dim)
        self.dim = dim

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        return tfd.Independent(Normal(tf.zeros(self.dim), 1.0), 1)


@keras.saving.register_keras_serializable("zoo")
class IsotropicNormal(Prior):
    """N(0, scale^2 I) in `dim` dimensions."""

    def __init__(self, dim: int, scale: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_counts(dim=dim)
        self.dim = dim
        self.scale = scale

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        return tfd.Independent(Normal(tf.zeros(self.dim), self.scale), 1)


@keras.saving.register_keras_serializable("zoo")
class Uniform(Prior):
    """Uniform on [low, high]^dim; the DCGAN paper uses [-1, 1]^100.

    The density is 0 outside of the cube, so it is not a density over R^dim: `has_density` is False.
    """

    has_density = False

    def __init__(self, dim: int, low: float = -1.0, high: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_counts(dim=dim)
        self.dim = dim
        self.low = low
        self.high = high

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        return tfd.Independent(tfd.Uniform(tf.fill([self.dim], self.low), self.high), 1)


@keras.saving.register_keras_serializable("zoo")
class UniformOnSphere(Prior):
    """Uniform on a sphere around the origin of R^dim: the "spherical Gaussian" of GANs.

    In many dimensions N(0, I) is close to this prior with the radius sqrt(dim), but here all draws
    have the same distance from the origin. Interpolation along arcs,
    `model.interpolate(..., spherical=True)`, stays on the sphere: White, "Sampling Generative
    Networks", 2016, section 2. https://arxiv.org/abs/1609.04468

    `log_prob` is relative to the area of the sphere, -log(area) for every z on it. It is not a
    density over R^dim, so `has_density` is False.

    Args:
        dim: D of the latents, at least 2.
        radius: Radius of the sphere, > 0; `None` for sqrt(dim).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> float(zoo.UniformOnSphere(3, radius=1.0)().log_prob([0.0, 0.0, 1.0]))  # -log(4 pi)
        -2.53...
    """

    has_density = False

    def __init__(self, dim: int, radius: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        check_counts(dim=dim)
        if dim < 2:
            raise ValueError(f"`dim` must be at least 2 for a sphere. Received: dim={dim}.")
        if radius is not None and not 0 < radius < math.inf:
            raise ValueError(
                f"`radius` must be positive and finite, or None. Received: radius={radius}."
            )
        self.dim = dim
        self.radius = radius

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        return _OnSphere(self.dim, math.sqrt(self.dim) if self.radius is None else self.radius)


class _OnSphere(VectorDistribution):
    """The distribution that `UniformOnSphere` returns."""

    def __init__(self, dim, radius, name="UniformOnSphere"):
        parameters = dict(locals())
        self.dim, self.radius = dim, radius
        super().__init__(parameters, dim, reparameterized=False)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {name: tfp.util.ParameterProperties(event_ndims=None) for name in ("dim", "radius")}

    def _sample_n(self, n, seed=None):
        draws = Normal(tf.zeros(self.dim), 1.0).sample(n, seed=seed)
        return self.radius * tf.linalg.l2_normalize(draws, -1)

    def _log_prob(self, z):
        half = self.dim / 2
        area = math.log(2) + half * math.log(math.pi) - math.lgamma(half)
        area += (self.dim - 1) * math.log(self.radius)
        return tf.fill(tf.shape(z)[:-1], -area)


@keras.saving.register_keras_serializable("zoo")
class ConditionalPrior(Prior):
    """p(z | y): a network of the condition, and the family that its output parameterises.

    This is the prior network of Sohn et al., "Learning Structured Output Representation using Deep
    Conditional Generative Models", 2015, section 4. The paper calls the condition x, so that the
    prior is p(z | x) there. It returns one distribution for each condition, with the batch shape
    `[B]`. https://papers.nips.cc/paper/5775

    With a `baseline`, the prior network also takes the prediction of a deterministic network, as in
    the paper's section 4 ("recurrent connection"). The prediction is computed without dropout and
    without a gradient, so the prior never changes the baseline.

    Args:
        network: A built `keras.Model` from `y[B, ...]`, or from `[y, prediction]` with a baseline,
            to parameters of `z[D]`.
        family: A `Family` over vectors.
        baseline: `None`, or p(x | y) as a `Completion` whose network's only input is `y`; its mean
            is the prediction.

    Raises:
        ValueError: If the networks take other inputs and, when called, if `y` is `None`.

    Example:
        >>> prior = zoo.ConditionalPrior(zoo.networks.mlp(10, 2 * 3), zoo.DiagonalNormal())
        >>> prior(tf.eye(10)).sample().shape
        TensorShape([10, 3])
    """

    def __init__(
        self,
        network: keras.Model,
        family: Family,
        baseline: Completion | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        networks.check_built(network, "The network of a ConditionalPrior")
        inputs = "y" if baseline is None else "[y, prediction]"
        if len(network.inputs) != (1 if baseline is None else 2):
            raise ValueError(
                f"The network of this ConditionalPrior must take {inputs}. "
                f"Received: a network of {len(network.inputs)} inputs."
            )
        if baseline is not None:
            if not isinstance(baseline, Completion):
                raise ValueError(
                    "The `baseline` of a ConditionalPrior must be a `Completion`, p(x | y). "
                    f"Received: a {type(baseline).__name__}."
                )
            baseline.check_context_is_y()
            shapes = [tuple(t.shape[1:]) for t in network.inputs]
            if shapes != [baseline.image_shape] * 2:
                raise ValueError(
                    "The network of a ConditionalPrior must take the baseline's y and its "
                    f"prediction, both of shape {baseline.image_shape}. Received: a network with "
                    f"inputs of the shapes {shapes}."
                )
        check_network(self, network, inputs, (1, 2))
        family.event_of(tuple(network.output_shape[1:]))
        self.network = network
        self.family = family
        self.baseline = baseline

    def made_of(self) -> tuple[Part, ...]:
        return (self.family,)

    @property
    def condition(self) -> tf.TensorSpec | None:
        y = self.network.inputs[0]
        return tf.TensorSpec(y.shape, y.dtype)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.family.event_of(tuple(self.network.output_shape[1:]))

    def call(self, y: tf.Tensor | None = None, training: bool = False) -> tfd.Distribution:
        if y is None:
            raise ValueError(
                "A ConditionalPrior is p(z | y): train on (x, y), and pass `y` to the model's "
                "methods. Received: y=None."
            )
        y = tf.convert_to_tensor(y)
        inputs = y
        if self.baseline is not None:
            inputs = [y, tf.stop_gradient(self.baseline(y, y).mean())]
        return self.family(tf.cast(self.network(inputs, training=training), tf.float32), 1)
