"""Families (parameters to a distribution), conditionals (context to a distribution), priors.

All of them hand out `tfp.distributions.Distribution`s: `sample`, `log_prob`, `mean`, and exact
KL divergences where TFP knows them. Nothing here computes a loss.
"""

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import FromArguments, look_up

tfd = tfp.distributions


class Part(FromArguments, keras.layers.Layer):
    """A layer that computes in float32 whatever the global precision is.

    Log-densities and samples lose their meaning in half precision; the networks inside keep the
    precision they were built with.
    """

    def __init__(self, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.built = True

    def __call__(self, *args, **kwargs):
        # Of what Keras does around `call`, nothing suits a function that returns a distribution.
        return self.call(*args, **kwargs)


# Families -------------------------------------------------------------------------------------


class Family(Part):
    """Maps the output of a network to a distribution over what the network describes.

    Called on `params[..., *event[:-1], num_params(event[-1])]` and the number of axes of one event;
    returns a distribution with batch shape `[...]` and that event shape. Where a value has several
    parameters, they lie one after the other on the last axis.

    A family of independent values says `params_per_value`. One over vectors, whose values depend on
    each other, overrides `num_params` instead.
    """

    params_per_value = 1
    has_density_everywhere = True
    """Whether `log_prob` takes any value, or only what the same distribution drew."""

    def num_params(self, dim: int) -> int:
        """Number of parameters of an event whose last axis has `dim` values."""
        return self.params_per_value * dim

    def call(self, params, event_ndims: int) -> tfd.Distribution:
        raise NotImplementedError


@keras.saving.register_keras_serializable("zoo")
class Deterministic(Family):
    """All mass on the network's output: the encoder of an autoencoder as a distribution."""

    def call(self, params, event_ndims):
        return tfd.Independent(tfd.Deterministic(params), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class Bernoulli(Family):
    """Independent Bernoulli variables; the parameters are logits.

    For data in {0, 1}. On grey values its `log_prob` is the cross-entropy, which is no
    log-likelihood; see `ContinuousBernoulli`.
    """

    def call(self, params, event_ndims):
        return tfd.Independent(tfd.Bernoulli(logits=params, dtype=tf.float32), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class ContinuousBernoulli(Family):
    """Independent continuous Bernoulli variables on [0, 1]; the parameters are logits.

    Loaiza-Ganem and Cunningham, "The continuous Bernoulli", 2019, eq. 5: the cross-entropy with
    the normaliser that makes it a density on [0, 1]. https://arxiv.org/abs/1907.06845
    """

    def call(self, params, event_ndims):
        return tfd.Independent(tfd.ContinuousBernoulli(logits=params), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class DiagonalNormal(Family):
    """A normal with diagonal covariance; the parameters are the means, then the raw scales.

    Without `max_scale`, scale = min_scale + softplus(raw), as suits a posterior. With it, log scale
    moves smoothly between the logs of both bounds (a sigmoid), as a likelihood needs: where a pixel
    is the same in all images, the likelihood of an unbounded scale goes to infinity.

    Args:
        min_scale: Lower bound of the standard deviation, > 0.
        max_scale: Upper bound, > min_scale, or `None` for no bound.
    """

    params_per_value = 2

    def __init__(self, min_scale: float = 1e-4, max_scale: float | None = None, **kwargs):
        super().__init__(**kwargs)
        if min_scale <= 0 or (max_scale is not None and max_scale <= min_scale):
            raise ValueError(
                "`min_scale` must be positive and `max_scale` larger than it (or None). "
                f"Received: min_scale={min_scale}, max_scale={max_scale}."
            )
        self.min_scale = min_scale
        self.max_scale = max_scale

    def call(self, params, event_ndims):
        loc, raw = tf.split(params, 2, axis=-1)
        if self.max_scale is None:
            scale = self.min_scale + tf.nn.softplus(raw)
        else:
            low, high = math.log(self.min_scale), math.log(self.max_scale)
            scale = tf.exp(low + (high - low) * tf.sigmoid(raw))
        return tfd.Independent(tfd.Normal(loc, scale), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class FullCovarianceNormal(Family):
    """A normal over vectors `[D]` with any covariance L L^T: z = loc + L eps.

    Kingma and Welling, "An Introduction to Variational Autoencoders", 2019, section 2.5.1,
    algorithm 2. The parameters are the D means, the D raw values of L's diagonal (which is
    min_scale + softplus(raw)), and the D (D - 1) / 2 entries below it. The paper has the network
    put out a whole matrix and masks it; the same matrix is filled here from what the mask lets
    through. https://arxiv.org/abs/1906.02691

    The KL to a normal of independent values is exact:

        KL(q || N(m, diag(s^2))) = 1/2 sum_i (|L_i|^2 + (loc_i - m_i)^2) / s_i^2 - D/2
                                   + sum_i log s_i - sum_i log L_ii,    L_i the rows of L.

    Args:
        min_scale: Lower bound of the diagonal of L, > 0.

    Example:
        >>> family = zoo.FullCovarianceNormal()
        >>> q = zoo.Conditional(zoo.networks.mlp(4, family.num_params(3)), family)
        >>> q(tf.zeros([2, 4])).covariance().shape
        TensorShape([2, 3, 3])
    """

    def __init__(self, min_scale: float = 1e-4, **kwargs):
        super().__init__(**kwargs)
        if min_scale <= 0:
            raise ValueError(f"`min_scale` must be positive. Received: min_scale={min_scale}.")
        self.min_scale = min_scale

    def num_params(self, dim):
        return 2 * dim + dim * (dim - 1) // 2

    def call(self, params, event_ndims):
        size = params.shape[-1]
        dim = (math.isqrt(9 + 8 * size) - 3) // 2
        if event_ndims != 1 or self.num_params(dim) != size:
            raise ValueError(
                "A FullCovarianceNormal over vectors of D values takes D (D + 3) / 2 parameters, on "
                f"one axis. Received: parameters of shape {tuple(params.shape)} for events of "
                f"{event_ndims} axes."
            )
        loc, raw, below = tf.split(params, [dim, dim, size - 2 * dim], -1)
        scale_tril = tf.linalg.diag(self.min_scale + tf.nn.softplus(raw))
        if dim > 1:
            below = tfp.math.fill_triangular(below)
            scale_tril += tf.pad(below, [[0, 0]] * (len(params.shape) - 1) + [[1, 0], [0, 1]])
        return CorrelatedNormal(loc, scale_tril)


class CorrelatedNormal(tfd.MultivariateNormalTriL):
    """What `FullCovarianceNormal` hands out: TFP's, with an exact KL to independent normals."""


@tfd.RegisterKL(CorrelatedNormal, tfd.Independent)
def _kl_to_independent_normals(q, p, name=None):
    normal = p.distribution
    if not isinstance(normal, tfd.Normal) or p.event_shape.rank != 1:
        raise NotImplementedError("Known for a vector of independent normals only.")
    scale_tril = q.scale_tril
    squares = tf.reduce_sum(scale_tril**2, -1) + (q.loc - normal.loc) ** 2
    logs = tf.math.log(normal.scale) - tf.math.log(tf.linalg.diag_part(scale_tril))
    return tf.reduce_sum(0.5 * (squares / normal.scale**2 - 1) + logs, -1)


@keras.saving.register_keras_serializable("zoo")
class UnitNormal(Family):
    """A normal with identity covariance; the parameters are the means.

    Its -log_prob is what "mean squared error" stands for: half the squared error, summed, plus
    D/2 log(2 pi).
    """

    def call(self, params, event_ndims):
        return tfd.Independent(tfd.Normal(params, 1.0), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class SharedScaleNormal(Family):
    """A normal whose one standard deviation, shared by all values, is learned.

    At the optimum its square is the mean squared error: Rybkin et al., "Simple and Effective VAE
    Training with Calibrated Decoders", 2021, section 4.1 ("sigma-VAE"; theirs is set to the
    optimum of each batch, ours is learned). https://arxiv.org/abs/2006.13202

    Args:
        initial_scale: Standard deviation to start from, > min_scale.
        min_scale: Lower bound, > 0: data that can be reproduced exactly has no optimum.
    """

    def __init__(self, initial_scale: float = 1.0, min_scale: float = 1e-3, **kwargs):
        super().__init__(**kwargs)
        if not 0 < min_scale < initial_scale:
            raise ValueError(
                "`initial_scale` must be larger than `min_scale`, and both positive. Received: "
                f"initial_scale={initial_scale}, min_scale={min_scale}."
            )
        self.initial_scale = initial_scale
        self.min_scale = min_scale
        self.raw_scale = self.add_weight(
            name="raw_scale",
            initializer=keras.initializers.Constant(math.log(initial_scale - min_scale)),
        )

    @property
    def scale(self):
        return self.min_scale + tf.exp(tf.convert_to_tensor(self.raw_scale))

    def call(self, params, event_ndims):
        return tfd.Independent(tfd.Normal(params, self.scale), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class DiscretizedLogistic(Family):
    """A logistic, rounded to the `levels` equally spaced values of [0, 1]; a mass function.

    Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow", 2016,
    section 5.2; the outermost levels take the tails, as in Salimans et al., "PixelCNN++", 2017,
    section 2.1. The parameters are the means, less 1/2, then the raw scales; log scale is bounded
    smoothly as in `DiagonalNormal`. Parameters of zero, with which a network begins, spread their
    mass over the whole range. https://arxiv.org/abs/1606.04934, https://arxiv.org/abs/1701.05517

    Args:
        levels: Number of values, 256 for 8-bit images: 0, 1/255, ..., 1.
        min_scale: Lower bound of the logistic's scale, > 0, in units of the [0, 1] range.
        max_scale: Upper bound.
    """

    params_per_value = 2

    def __init__(
        self, levels: int = 256, min_scale: float = 1e-3, max_scale: float = 1.0, **kwargs
    ):
        super().__init__(**kwargs)
        if levels < 2 or not 0 < min_scale < max_scale:
            raise ValueError(
                "`levels` must be at least 2 and 0 < min_scale < max_scale. Received: "
                f"levels={levels}, min_scale={min_scale}, max_scale={max_scale}."
            )
        self.levels = levels
        self.min_scale = min_scale
        self.max_scale = max_scale

    def call(self, params, event_ndims):
        loc, raw = tf.split(params, 2, axis=-1)
        low, high = math.log(self.min_scale), math.log(self.max_scale)
        scale = tf.exp(low + (high - low) * tf.sigmoid(raw + 1.0))
        return tfd.Independent(RoundedLogistic(loc + 0.5, scale, self.levels), event_ndims)


def likelihood_family(name: str, levels: int = 256) -> Family:
    """The family of p(x | z) of that name, as presets and command lines call it.

    Args:
        name: "bernoulli", "continuous_bernoulli", "normal" (a variance per value, bounded),
            "shared_scale_normal", "unit_normal" or "discretized_logistic".
        levels: Number of grey levels of the data, for "discretized_logistic".
    """
    families = {
        "bernoulli": Bernoulli,
        "continuous_bernoulli": ContinuousBernoulli,
        "normal": lambda: DiagonalNormal(min_scale=0.05, max_scale=1.0),
        "shared_scale_normal": SharedScaleNormal,
        "unit_normal": UnitNormal,
        "discretized_logistic": lambda: DiscretizedLogistic(levels),
    }
    return look_up(families, name, "likelihood")()


class RoundedLogistic(tfd.Distribution):
    """Logistic(loc, scale) rounded to {0, 1/(levels-1), ..., 1}, tails to the ends.

    `tfd.QuantizedDistribution` is the general form. This one uses the logistic's own identity

        sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)),

    so that the log of a bin's mass neither underflows nor cancels, however far the bin lies from
    `loc` and however small it is against `scale`.
    """

    def __init__(self, loc, scale, levels, name="RoundedLogistic"):
        parameters = dict(locals())
        self.loc = tf.convert_to_tensor(loc)
        self.scale = tf.convert_to_tensor(scale)
        self.levels = levels
        super().__init__(
            dtype=self.loc.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {
            "loc": tfp.util.ParameterProperties(),
            "scale": tfp.util.ParameterProperties(),
            "levels": tfp.util.ParameterProperties(event_ndims=None),
        }

    def _event_shape(self):
        return tf.TensorShape([])

    def _event_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _log_prob(self, value):
        half = 0.5 / (self.levels - 1)
        above = (value + half - self.loc) / self.scale
        below = (value - half - self.loc) / self.scale
        log_cdf = -tf.nn.softplus(-above)  # log P(X < value + half)
        log_survival = -tf.nn.softplus(below)  # log P(X > value - half)
        inside = log_cdf + log_survival + tf.math.log(-tf.math.expm1(-2 * half / self.scale))
        return tf.where(value < half, log_cdf, tf.where(value > 1 - half, log_survival, inside))

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], self.batch_shape_tensor()], 0)
        logistic = tfd.Logistic(tf.zeros([], self.dtype), 1.0).sample(shape, seed=seed)
        raw = self.loc + self.scale * logistic
        return tf.round(tf.clip_by_value(raw, 0.0, 1.0) * (self.levels - 1)) / (self.levels - 1)

    def _mean(self):
        # E[X] = sum over the edges between levels of P(X beyond the edge), one edge at a time.
        steps = self.levels - 1
        loc, scale = tf.broadcast_to(self.loc, self.batch_shape_tensor()), self.scale

        def beyond(edge, total):
            position = (tf.cast(edge, self.dtype) + 0.5) / steps
            return edge + 1, total + tf.sigmoid((loc - position) / scale)

        _, total = tf.while_loop(
            lambda edge, _: edge < steps, beyond, (0, tf.zeros_like(loc)), parallel_iterations=1
        )
        return total / steps


# Conditionals ---------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("zoo")
class Conditional(Part):
    """p(. | context): a network, and the family that its output parameterises.

    A network with two inputs also takes a condition `y[B, ...]`; one with a single input does
    without, whatever the data brings. It returns a distribution, which is no tensor: call it in a
    model's methods, not in a functional graph.

    Args:
        network: A built `keras.Model` from a context to parameters,
            `[B, *event[:-1], family.num_params(event[-1])]`.
        family: A `Family`.

    Example:
        >>> q = zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 2 * 5), zoo.DiagonalNormal())
        >>> q(tf.zeros([3, 8, 8, 1])).sample(7).shape
        TensorShape([7, 3, 5])
    """

    def __init__(self, network: keras.Model, family: Family, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.family = family

    def call(self, context, y=None, training=False) -> tfd.Distribution:
        """The distribution given `context[..., B, *network.input_shape[1:]]`.

        Leading sample axes (`z[K, B, D]`) are folded into the batch around the network, and `y`
        serves each of them.
        """
        if len(self.network.inputs) > 1 and y is None:
            raise ValueError(
                f"The network '{self.network.name}' takes a condition `y` beside its context: "
                "train on (x, y), and pass `y` to the model's methods. Received: y=None."
            )
        context = tf.cast(context, tf.float32)
        rank = len(self.network.inputs[0].shape)
        shape = tf.shape(context)
        lead = shape[: tf.rank(context) - rank + 1]
        folded = context.shape.rank > rank
        inputs = [context]
        if len(self.network.inputs) > 1:
            inputs.append(tf.convert_to_tensor(y))
        if folded:
            inputs[0] = tf.reshape(context, tf.concat([[-1], shape[-rank + 1 :]], 0))
            inputs[1:] = [tf.tile(t, [tf.reduce_prod(lead[:-1])] + [1] * (t.shape.rank - 1))
                          for t in inputs[1:]]  # fmt: skip
        params = self.network(inputs if len(inputs) > 1 else inputs[0], training=training)
        params = tf.cast(params, tf.float32)
        if folded:
            event = params.shape[1:]
            params = tf.reshape(params, tf.concat([lead, event], 0))
            params = tf.ensure_shape(params, context.shape[: -rank + 1] + event)
        return self.family(params, len(self.network.output_shape) - 1)


# Priors ---------------------------------------------------------------------------------------


class Prior(Part):
    """p(z). Called with no tensor, or with a condition `y` that it may ignore.

    Returns a distribution over `z[dim]`. To train a model adversarially a prior need only be
    sampled; a likelihood model also needs `log_prob`.
    """

    def call(self, y=None) -> tfd.Distribution:
        raise NotImplementedError

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
        return tfd.Independent(tfd.Normal(tf.zeros(self.dim), 1.0), 1)


@keras.saving.register_keras_serializable("zoo")
class IsotropicNormal(Prior):
    """N(0, scale^2 I) in `dim` dimensions."""

    def __init__(self, dim: int, scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.scale = scale

    def call(self, y=None):
        return tfd.Independent(tfd.Normal(tf.zeros(self.dim), self.scale), 1)


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
class NormalPetals(Prior):
    """A mixture of `components` 2-D normals, laid out like the petals of a flower.

    Makhzani et al., "Adversarial Autoencoders", 2016, section 2.3 and figure 4. The paper gives
    no numbers: these are the ones that public codes share. Component k lies at angle
    2 pi k / components, `shift` from the origin, and is `scales` wide along and across its ray.
    https://arxiv.org/abs/1511.05644

    Args:
        components: Number of petals.
        shift: Distance of the centres from the origin.
        scales: Standard deviations along and across the ray.
    """

    def __init__(
        self,
        components: int = 10,
        shift: float = 1.4,
        scales: Sequence[float] = (0.5, 0.1),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.components = components
        self.shift = shift
        self.scales = tuple(scales)

    def call(self, y=None):
        angle = tf.linspace(0.0, 2 * math.pi, self.components + 1)[:-1]
        ray = tf.stack([tf.cos(angle), tf.sin(angle)], -1)  # [K, 2]
        across = tf.stack([-tf.sin(angle), tf.cos(angle)], -1)
        along = self.scales[0] * ray[..., None]
        factor = tf.concat([along, self.scales[1] * across[..., None]], -1)  # [K, 2, 2]
        covariance = tf.matmul(factor, factor, transpose_b=True)
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=tf.zeros(self.components)),
            tfd.MultivariateNormalTriL(self.shift * ray, tf.linalg.cholesky(covariance)),
        )


@keras.saving.register_keras_serializable("zoo")
class MixturePrior(Prior):
    """A mixture of `components` normals with diagonal covariances; all of it is learned.

        log p(z) = log sum_k w_k prod_d N(z_d; loc_kd, scale_kd^2)

    The mixture of Gaussians that Tomczak and Welling, "VAE with a VampPrior", 2018, compare theirs
    with, here with weights that are learned too. The sum over dimensions is inside that over components: a mixture in
    each dimension by itself would be another, larger one. https://arxiv.org/abs/1705.07120

    Args:
        dim: D of the latents.
        components: K.
        min_scale: Lower bound of the standard deviations, > 0, which keeps a component from
            collapsing onto one point.
    """

    def __init__(self, dim: int, components: int = 10, min_scale: float = 1e-2, **kwargs):
        super().__init__(**kwargs)
        _check_components(components)
        if not 0 < min_scale < 1:
            raise ValueError(
                f"`min_scale` must be between 0 and 1. Received: min_scale={min_scale}."
            )
        self.dim = dim
        self.components = components
        self.min_scale = min_scale
        self.logits = self.add_weight(name="logits", shape=(components,), initializer="zeros")
        # Spread like N(0, I), where posteriors start, each as wide as the whole.
        self.loc = self.add_weight(
            name="loc",
            shape=(components, dim),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        self.raw_scale = self.add_weight(
            name="raw_scale",
            shape=(components, dim),
            initializer=keras.initializers.Constant(math.log(math.expm1(1 - min_scale))),
        )

    def call(self, y=None):
        loc = tf.convert_to_tensor(self.loc)
        scale = self.min_scale + tf.nn.softplus(tf.convert_to_tensor(self.raw_scale))
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=tf.convert_to_tensor(self.logits)),
            tfd.Independent(tfd.Normal(loc, scale), 1),
        )


@keras.saving.register_keras_serializable("zoo")
class VampPrior(Prior):
    """The posterior, averaged over `components` learned pseudo-inputs: 1/K sum_k q(z | u_k).

    Tomczak and Welling, "VAE with a VampPrior", 2018, section 3. The network is the model's own
    encoder, which therefore learns from the prior's side too. https://arxiv.org/abs/1705.07120

    Pseudo-inputs are kept in [0, 1] by projection after each step. The paper's code clips them
    where they are used, so that a value that has once left the interval has no gradient to return
    by. They start evenly spread at random, or from data; see `initialize`.

    The posterior's networks are used as outside of training (no dropout), and must not take a
    condition.

    Args:
        image_shape: Height, width, channels of a pseudo-input.
        components: K; 500 in the paper for MNIST.

    Example:
        >>> vae = zoo.models.vae.vae_mlp((8, 8, 1), 2, prior="vamp", prior_components=20)
        >>> x, _ = zoo.datasets.load("digits").arrays("train")
        >>> vae.prior.initialize(x)
        >>> vae.prior().log_prob(tf.zeros([3, 2])).shape
        TensorShape([3])
    """

    def __init__(self, image_shape: Sequence[int], components: int = 100, **kwargs):
        super().__init__(**kwargs)
        _check_components(components)
        self.image_shape = tuple(image_shape)
        self.components = components
        self.pseudo_inputs = self.add_weight(
            name="pseudo_inputs",
            shape=(components, *self.image_shape),
            initializer=keras.initializers.RandomUniform(0.0, 1.0),
            constraint=_clip_to_unit_interval,
        )
        self._posterior = None

    def bind(self, posterior):
        if len(posterior.network.inputs) > 1:
            raise ValueError(
                "A VampPrior averages q(z | u) over its pseudo-inputs u alone: it goes with a "
                "posterior without a condition. Received: a posterior whose network takes "
                f"{len(posterior.network.inputs)} inputs."
            )
        if not posterior.family.has_density_everywhere:
            raise ValueError(
                "A VampPrior needs the density of q(z | u) at draws of q(z | x). Received: a "
                f"{type(posterior.family).__name__}, which knows it at its own draws only."
            )
        shape = tuple(posterior.network.inputs[0].shape[1:])
        if shape != self.image_shape:
            raise ValueError(
                "Pseudo-inputs have the shape of the posterior's images. Received: "
                f"image_shape={self.image_shape}, and a posterior on {shape}."
            )
        # In a function, so that Keras does not take the model's posterior for a part of the prior,
        # to be counted and saved with it.
        self._posterior = lambda: posterior

    def initialize(self, x) -> None:
        """Makes the first K of the images `x[N, H, W, C]` the pseudo-inputs.

        Raises:
            ValueError: If there are fewer than K, or they are no images in [0, 1] of that shape.
        """
        x = np.asarray(x, np.float32)[: self.components]
        if x.shape != (self.components, *self.image_shape):
            raise ValueError(
                f"Expected at least {self.components} images of shape {self.image_shape}. "
                f"Received: an array of which the first have the shape {x.shape}."
            )
        if not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"Expected images in [0, 1]. Received: values from {x.min()} to {x.max()}."
            )
        self.pseudo_inputs.assign(x)

    def call(self, y=None):
        if self._posterior is None:
            raise ValueError(
                "A VampPrior is made from a posterior: call it as a part of a `VAE`, or after "
                "`prior.bind(posterior)`. Received: a call before either."
            )
        q = self._posterior()(tf.convert_to_tensor(self.pseudo_inputs))
        return tfd.MixtureSameFamily(tfd.Categorical(logits=tf.zeros(self.components)), q)


def _clip_to_unit_interval(values):
    return keras.ops.clip(values, 0.0, 1.0)


def _check_components(components):
    if components < 1:
        raise ValueError(
            f"A mixture needs at least one component. Received: components={components}."
        )


@keras.saving.register_keras_serializable("zoo")
class SwissRoll(Prior):
    """A 2-D Swiss roll: a spiral whose arc is covered evenly, with Gaussian thickness.

    Makhzani et al., "Adversarial Autoencoders", 2016, figure 4. With t uniform on [0, 1],
    angle = 2 pi turns sqrt(t) and radius = `radius` sqrt(t), as public codes have it: the arc
    length of a spiral grows with the square of its angle. It can be sampled, and has no density.
    https://arxiv.org/abs/1511.05644

    Args:
        turns: Number of turns.
        radius: Radius of the outer end.
        noise: Standard deviation of the thickness.
    """

    def __init__(self, turns: float = 2.0, radius: float = 3.0, noise: float = 0.05, **kwargs):
        super().__init__(**kwargs)
        self.turns = turns
        self.radius = radius
        self.noise = noise

    def call(self, y=None):
        return NoisySpiral(self.turns, self.radius, self.noise)


class NoisySpiral(tfd.Distribution):
    """What `SwissRoll` hands out: `sample` only."""

    def __init__(self, turns, radius, noise, name="NoisySpiral"):
        parameters = dict(locals())
        self.turns, self.radius, self.noise = turns, radius, noise
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
        return {
            name: tfp.util.ParameterProperties(event_ndims=None)
            for name in ("turns", "radius", "noise")
        }

    def _batch_shape(self):
        return tf.TensorShape([])

    def _batch_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _event_shape(self):
        return tf.TensorShape([2])

    def _event_shape_tensor(self):
        return tf.constant([2], tf.int32)

    def _sample_n(self, n, seed=None):
        place_seed, noise_seed = tfp.random.split_seed(seed)
        root = tf.sqrt(tfd.Uniform().sample(n, seed=place_seed))
        angle = 2 * math.pi * self.turns * root
        spiral = self.radius * root[:, None] * tf.stack([tf.cos(angle), tf.sin(angle)], -1)
        return spiral + tfd.Normal(0.0, self.noise).sample([n, 2], seed=noise_seed)


def kl(q: tfd.Distribution, p: tfd.Distribution, z) -> tf.Tensor:
    """KL(q || p): exact where TFP has a formula for the pair, else its estimate at `z` ~ q."""
    try:
        return tfd.kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(z) - p.log_prob(z)
