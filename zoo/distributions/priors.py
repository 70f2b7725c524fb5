"""Priors over latents, fixed and learned."""

import inspect
import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.distributions.conditional import Completion, Conditional
from zoo.distributions.families import Family
from zoo.distributions.part import Part, has_log_prob
from zoo.draws import Normal

tfd = tfp.distributions


class Prior(Part):
    """p(z). Called with no tensor, or with a condition `y` that it may ignore.

    Returns a distribution over `z[dim]`. To train a model adversarially a prior need only be
    sampled; a likelihood model also needs `log_prob`.

    `call` may take `training` too, where the prior has layers to which it makes a difference.
    """

    def __call__(self, y=None, training=False):
        if "training" in inspect.signature(self.call).parameters:
            return self.call(y, training=training)
        return self.call(y)

    def call(self, y=None) -> tfd.Distribution:
        raise NotImplementedError

    @property
    def has_density(self) -> bool:
        """Whether its `log_prob` is a density over all of `z[dim]`: not on a part of it, nor none."""
        return has_log_prob(self())

    def bind(self, posterior: Conditional) -> None:
        """Told by a model which q(z | x) is its own. Of use to a prior that is made from it."""


@keras.saving.register_keras_serializable("zoo")
class StandardNormal(Prior):
    """N(0, I) in `dim` dimensions.

    Example:
        >>> zoo.StandardNormal(2)().log_prob([0.0, 0.0])  # -log(2 pi)
    """

    def __init__(self, dim: int, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim

    def call(self, y=None):
        return tfd.Independent(Normal(tf.zeros(self.dim), 1.0), 1)


@keras.saving.register_keras_serializable("zoo")
class IsotropicNormal(Prior):
    """N(0, scale^2 I) in `dim` dimensions."""

    def __init__(self, dim: int, scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.scale = scale

    def call(self, y=None):
        return tfd.Independent(Normal(tf.zeros(self.dim), self.scale), 1)


@keras.saving.register_keras_serializable("zoo")
class Uniform(Prior):
    """Uniform on [low, high]^dim; [-1, 1]^100 is the DCGAN paper's."""

    def __init__(self, dim: int, low: float = -1.0, high: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.low = low
        self.high = high

    def call(self, y=None):
        return tfd.Independent(tfd.Uniform(tf.fill([self.dim], self.low), self.high), 1)


@keras.saving.register_keras_serializable("zoo")
class UniformOnSphere(Prior):
    """Uniform on the sphere of that radius around the origin of R^dim: a "spherical Gaussian" of GANs.

    N(0, I) in many dimensions is nearly this, with the radius sqrt(dim), but here no draw is nearer
    to the origin than another: White, "Sampling Generative Networks", 2016, section 2, whose
    interpolation along arcs, `model.interpolate(..., spherical=True)`, stays on it.
    https://arxiv.org/abs/1609.04468

    The density is with respect to the sphere's own area: -log of that area, for every z on it.

    Args:
        dim: D of the latents, at least 2.
        radius: Of the sphere, above 0; `None` for sqrt(dim).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> float(zoo.UniformOnSphere(3, radius=1.0)().log_prob([0.0, 0.0, 1.0]))  # -log(4 pi)
        -2.53...
    """

    has_density = False

    def __init__(self, dim: int, radius: float | None = None, **kwargs):
        super().__init__(**kwargs)
        if dim < 2:
            raise ValueError(f"A sphere needs `dim` to be at least 2. Received: dim={dim}.")
        if radius is not None and not 0 < radius < math.inf:
            raise ValueError(
                f"`radius` must be above 0 and finite, or None. Received: radius={radius}."
            )
        self.dim = dim
        self.radius = radius

    def call(self, y=None):
        return _OnSphere(self.dim, math.sqrt(self.dim) if self.radius is None else self.radius)


class _OnSphere(tfd.Distribution):
    """What `UniformOnSphere` hands out."""

    def __init__(self, dim, radius, name="UniformOnSphere"):
        parameters = dict(locals())
        self.dim, self.radius = dim, radius
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {name: tfp.util.ParameterProperties(event_ndims=None) for name in ("dim", "radius")}

    def _batch_shape(self):
        return tf.TensorShape([])

    def _batch_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _event_shape(self):
        return tf.TensorShape([self.dim])

    def _event_shape_tensor(self):
        return tf.constant([self.dim], tf.int32)

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

    The prior network of Sohn et al., "Learning Structured Output Representation using Deep
    Conditional Generative Models", 2015, section 4 (their p(z | x): what is seen is their x, our y).
    It gives one distribution for each condition, with the batch shape `[B]`.
    https://papers.nips.cc/paper/5775

    With a `baseline`, a deterministic network's guess at the image, the prior network sees that guess
    too, as in the paper's section 4 (its "recurrent connection"). The guess comes without a
    gradient, and as outside of training (no dropout): nothing that is asked of the prior changes
    the baseline.

    Args:
        network: A built `keras.Model` from `y[B, ...]`, with a baseline from `[y, guess]`, to
            parameters of `z[D]`.
        family: A `Family` over vectors.
        baseline: `None`, or p(x | y) as a `Completion` whose network's only input is `y`; its mean
            is the guess.

    Raises:
        ValueError: If the networks do not take that, and, when called, for y=None.

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        wanted = 1 if baseline is None else 2
        if len(network.inputs) != wanted:
            raise ValueError(
                f"The network of this prior takes {'y' if wanted == 1 else '[y, guess]'}. "
                f"Received: a network of {len(network.inputs)} inputs."
            )
        if baseline is not None:
            if not isinstance(baseline, Completion):
                raise ValueError(
                    "The `baseline` of a ConditionalPrior is a `Completion`, p(x | y). "
                    f"Received: a {type(baseline).__name__}."
                )
            baseline.check_context_is_y()
        self.network = network
        self.family = family
        self.baseline = baseline

    @property
    def condition(self):
        taken = self.network.inputs[0]
        return tf.TensorSpec(taken.shape, taken.dtype)

    def call(self, y=None, training=False):
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
