"""Families: from the output of a network to a distribution."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import with_article
from zoo.contract import check_counts
from zoo.distributions.part import Part
from zoo.draws import Normal
from zoo.networks import logit_of_mean

tfd = tfp.distributions


class Family(Part):
    """Maps parameters, the output of a network, to a distribution.

    Called on `params[..., *event[:-1], num_params(event[-1])]` and the number of axes of one event,
    a family returns a distribution of batch shape `[...]` and that event shape. If a value has
    several parameters, the last axis holds the first parameter of all values, then the second, and
    so on.

    A family of independent values sets `params_per_value`. A family over vectors with dependent
    values overrides `num_params` instead, and `event_of` if it can have fewer parameters than values.
    """

    params_per_value: int = 1

    def num_params(self, dim: int) -> int:
        """Number of parameters of an event with `dim` values on the last axis."""
        return self.params_per_value * dim

    def event_of(self, params: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the events that have parameters of a shape, both without batch axes.

        Raises:
            ValueError: If no event has such parameters.
        """
        *axes, size = params or (0,)
        if size is None:
            return params
        for dim in range(1, size + 1):
            if self.num_params(dim) == size:
                return (*axes, dim)
        sizes = ", ".join(str(self.num_params(dim)) for dim in (1, 2, 3))
        raise ValueError(
            f"{with_article(type(self).__name__, True)} has {sizes}, ... parameters for 1, 2, 3, ... values on the "
            f"last axis: its network returns `num_params(D)` parameters for D values. Received: "
            f"parameters of shape {params}."
        )

    def check_data(self, binary: bool) -> None:
        """Checks that the family can be fitted to images, which are zeros and ones if `binary`.

        Raises:
            ValueError: If the likelihood has no maximum on such images.
        """

    def total(self, x: np.ndarray) -> np.ndarray:
        """The sum over images `x[N, ...]` of the statistic that determines `location`.

        By default of the images themselves, `[...]`.
        """
        return x.sum(axis=0, dtype=np.float64)

    def location(self, total: np.ndarray, count: int) -> np.ndarray | None:
        """The first parameters, `[..., L]`, of the distribution with the mean of given values.

        A decoder starts with these parameters: see `zoo.mean_start`.

        Args:
            total: The sum of the statistic over the values, as `total` returns it.
            count: The number of values in each sum.

        Returns:
            The parameters. `None`, the default, if the family has no such parameters.
        """
        return None

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        raise NotImplementedError


@keras.saving.register_keras_serializable("zoo")
class Deterministic(Family):
    """All mass on the network's output, as in the encoder of an autoencoder."""

    has_density = False
    is_deterministic = True

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        return tfd.Independent(tfd.Deterministic(params), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class Bernoulli(Family):
    """Independent Bernoulli variables; the parameters are logits.

    The data are in {0, 1}. On grey values `log_prob` is minus the cross-entropy, which is not a
    log-likelihood; see `ContinuousBernoulli`.
    """

    has_differentiable_draws = False

    def location(self, total: np.ndarray, count: int) -> np.ndarray:
        """The logits of the means, clipped to `zoo.networks.LEAST_MEAN` and 1 minus this value."""
        return logit_of_mean(total / count)

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        return tfd.Independent(tfd.Bernoulli(logits=params, dtype=tf.float32), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class ContinuousBernoulli(Family):
    """Independent continuous Bernoulli variables on [0, 1]; the parameters are logits.

    Loaiza-Ganem and Cunningham, "The continuous Bernoulli", 2019, eq. 5: the cross-entropy plus the
    normaliser that makes it a density on [0, 1]. https://arxiv.org/abs/1907.06845
    """

    def check_data(self, binary: bool) -> None:
        if binary:
            raise ValueError(
                "The continuous Bernoulli likelihood is a density that grows without bound on "
                "binary images. Received: images of zeros and ones. Train on the grey images (--set "
                "binarize=None), or choose the likelihood 'bernoulli'."
            )

    def location(self, total: np.ndarray, count: int) -> np.ndarray:
        """The logits of the distributions with the means, which are clipped to [0.01, 0.99].

        The mean is 1 / (1 - exp(-logit)) - 1 / logit, and its inverse is found by bisection. A
        pixel that is 0 in all images has no best logit. At a mean of 0.01 the logit is -100, and a
        pixel that is 1 costs 95 nats. At 0.001 the cost would be 993 nats, and a few such pixels
        would determine the gradient.
        """
        means = np.clip(total / count, 0.01, 0.99)
        low, high = np.full_like(means, -101.0), np.full_like(means, 101.0)
        for _ in range(60):  # The interval of 202 is then smaller than the precision of float64.
            middle = (low + high) / 2
            with np.errstate(divide="ignore", invalid="ignore"):
                mean = 1 / -np.expm1(-middle) - 1 / middle
            # Near 0 the difference of both terms is inexact; the mean is 1/2 + logit / 12.
            mean = np.where(np.abs(middle) < 1e-3, 0.5 + middle / 12, mean)
            low, high = np.where(mean < means, middle, low), np.where(mean < means, high, middle)
        return (low + high) / 2

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        return tfd.Independent(tfd.ContinuousBernoulli(logits=params), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class DiagonalNormal(Family):
    """A normal with diagonal covariance; the parameters are the means, then the raw scales.

    Without `max_scale`, scale = min_scale + softplus(raw), which suits a posterior. With
    `max_scale`, the log scale is a sigmoid of raw between the logs of both bounds. A likelihood
    needs both bounds: at a pixel that is the same in all images, an unbounded likelihood goes to
    infinity.

    Args:
        min_scale: Lower bound of the standard deviation, > 0.
        max_scale: Upper bound, > min_scale, or `None` for no bound.

    Raises:
        ValueError: If a bound is out of range.
    """

    params_per_value = 2

    def __init__(self, min_scale: float = 1e-4, max_scale: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if min_scale <= 0 or (max_scale is not None and max_scale <= min_scale):
            raise ValueError(
                "`min_scale` must be positive and `max_scale` larger than it (or None). "
                f"Received: min_scale={min_scale}, max_scale={max_scale}."
            )
        self.min_scale = min_scale
        self.max_scale = max_scale

    def location(self, total: np.ndarray, count: int) -> np.ndarray:
        """The means."""
        return total / count

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        loc, raw = tf.split(params, 2, axis=-1)
        if self.max_scale is None:
            scale = self.min_scale + tf.nn.softplus(raw)
        else:
            low, high = math.log(self.min_scale), math.log(self.max_scale)
            scale = tf.exp(low + (high - low) * tf.sigmoid(raw))
        return tfd.Independent(Normal(loc, scale), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class FullCovarianceNormal(Family):
    """A normal over vectors `[D]` with any covariance L L^T: z = loc + L eps.

    Kingma and Welling, "An Introduction to Variational Autoencoders", 2019, section 2.5.1,
    algorithm 2. The parameters are the D means, the D raw values of L's diagonal (which is
    min_scale + softplus(raw)), and D times the D (D - 1) / 2 entries below the diagonal.
    https://arxiv.org/abs/1906.02691

    The KL to a normal of independent values is exact:

        KL(q || N(m, diag(s^2))) = 1/2 sum_i (|L_i|^2 + (loc_i - m_i)^2) / s_i^2 - D/2
                                   + sum_i log s_i - sum_i log L_ii,    L_i the rows of L.

    Args:
        min_scale: Lower bound of the diagonal of L, > 0.

    Raises:
        ValueError: If `min_scale` is not positive and, when called, if the number of parameters
            does not fit.

    Notes:
        In the paper the network returns a whole matrix, which is masked. Here the network returns
        only the entries that the mask keeps. These entries are divided by D: otherwise the noise of
        a new network, with D entries in a row, dominates the diagonal, and latents collapse early
        in training.

    Example:
        >>> family = zoo.FullCovarianceNormal()
        >>> q = zoo.Conditional(zoo.networks.mlp(4, family.num_params(3)), family)
        >>> q(tf.zeros([2, 4])).covariance().shape
        TensorShape([2, 3, 3])
    """

    def __init__(self, min_scale: float = 1e-4, **kwargs: Any):
        super().__init__(**kwargs)
        if min_scale <= 0:
            raise ValueError(f"`min_scale` must be positive. Received: min_scale={min_scale}.")
        self.min_scale = min_scale

    def num_params(self, dim: int) -> int:
        return 2 * dim + dim * (dim - 1) // 2

    def event_of(self, params: tuple[int, ...]) -> tuple[int, ...]:
        size = params[-1] if params else 0
        dim = (math.isqrt(9 + 8 * size) - 3) // 2
        if len(params) != 1 or self.num_params(dim) != size:
            raise ValueError(
                "A FullCovarianceNormal over vectors of D values takes D (D + 3) / 2 parameters on "
                "one axis: use it for vectors, with a network of `num_params(D)` outputs. Received: "
                f"parameters of shape {params} for events of {len(params)} axes."
            )
        return (dim,)

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        (dim,) = self.event_of(tuple(params.shape[len(params.shape) - event_ndims :]))
        size = params.shape[-1]
        loc, raw, below = tf.split(params, [dim, dim, size - 2 * dim], -1)
        scale_tril = tf.linalg.diag(self.min_scale + tf.nn.softplus(raw))
        if dim > 1:
            below = tfp.math.fill_triangular(below) / dim
            scale_tril += tf.pad(below, [[0, 0]] * (len(params.shape) - 1) + [[1, 0], [0, 1]])
        return CorrelatedNormal(loc, scale_tril)


class CorrelatedNormal(tfd.MultivariateNormalTriL):
    """TFP's multivariate normal, with an exact KL to independent normals."""


@tfd.RegisterKL(CorrelatedNormal, tfd.Independent)
def _kl_to_independent_normals(q, p, name=None):
    normal = p.distribution
    if not isinstance(normal, tfd.Normal) or p.event_shape.rank != 1:
        raise NotImplementedError("The exact KL is known only for a vector of independent normals.")
    scale_tril = q.scale_tril
    squares = tf.reduce_sum(scale_tril**2, -1) + (q.loc - normal.loc) ** 2
    logs = tf.math.log(normal.scale) - tf.math.log(tf.linalg.diag_part(scale_tril))
    return tf.reduce_sum(0.5 * (squares / normal.scale**2 - 1) + logs, -1)


@keras.saving.register_keras_serializable("zoo")
class UnitNormal(Family):
    """A normal with identity covariance; the parameters are the means.

    -log_prob is half the summed squared error plus D/2 log(2 pi): the "mean squared error" loss.
    """

    def location(self, total: np.ndarray, count: int) -> np.ndarray:
        """The means."""
        return total / count

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        return tfd.Independent(Normal(params, 1.0), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class SharedScaleNormal(Family):
    """A normal with one learned standard deviation for all values; the parameters are the means.

    Rybkin et al., "Simple and Effective VAE Training with Calibrated Decoders", 2021, section 4.1
    ("sigma-VAE"). At the optimum the variance is the mean squared error.
    https://arxiv.org/abs/2006.13202

    Args:
        initial_scale: Initial standard deviation, > min_scale.
        min_scale: Lower bound, > 0: without a bound, exact reconstructions have no optimum.

    Raises:
        ValueError: If an argument is out of range.

    Notes:
        The paper sets the scale to the optimum of each batch; here the scale is a weight.
    """

    def __init__(self, initial_scale: float = 1.0, min_scale: float = 1e-3, **kwargs: Any):
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
    def scale(self) -> tf.Tensor:
        """The standard deviation, `[]`."""
        return self.min_scale + tf.exp(tf.convert_to_tensor(self.raw_scale))

    def location(self, total: np.ndarray, count: int) -> np.ndarray:
        """The means."""
        return total / count

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        return tfd.Independent(Normal(params, self.scale), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class DiscretizedLogistic(Family):
    """A logistic, rounded to `levels` equally spaced values of [0, 1]; a mass function.

    Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow", 2016,
    section 5.2; the outermost levels take the tails, as in Salimans et al., "PixelCNN++", 2017,
    section 2.1. The parameters are the means minus 1/2, then the raw scales; the log scale is
    bounded by a sigmoid as in `DiagonalNormal`. A network's initial output, near zero, spreads the
    mass over the whole range. https://arxiv.org/abs/1606.04934, https://arxiv.org/abs/1701.05517

    Args:
        levels: Number of values, 256 for 8-bit images: 0, 1/255, ..., 1.
        min_scale: Lower bound of the logistic's scale, > 0, in units of the [0, 1] range.
        max_scale: Upper bound, > min_scale, in the same units.

    Raises:
        ValueError: If an argument is out of range.
    """

    params_per_value = 2
    has_differentiable_draws = False

    def __init__(
        self, levels: int = 256, min_scale: float = 1e-3, max_scale: float = 1.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        check_counts(levels=levels)
        if levels < 2 or not 0 < min_scale < max_scale:
            raise ValueError(
                "`levels` must be at least 2 and 0 < min_scale < max_scale. Received: "
                f"levels={levels}, min_scale={min_scale}, max_scale={max_scale}."
            )
        self.levels = levels
        self.min_scale = min_scale
        self.max_scale = max_scale

    def location(self, total: np.ndarray, count: int) -> np.ndarray:
        """The means minus 1/2: the parameters of logistics whose location is the mean."""
        return total / count - 0.5

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        loc, raw = tf.split(params, 2, axis=-1)
        low, high = math.log(self.min_scale), math.log(self.max_scale)
        scale = tf.exp(low + (high - low) * tf.sigmoid(raw + 1.0))
        return tfd.Independent(RoundedLogistic(loc + 0.5, scale, self.levels), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class Categorical(Family):
    """One probability for each of `levels` equally spaced values of [0, 1].

    This is the softmax likelihood of van den Oord et al., "Pixel Recurrent Neural Networks", 2016.
    It does not use the order of the levels and takes `levels` parameters for each value, so it
    suits images of few levels. https://arxiv.org/abs/1601.06759

    The parameters are the logits of the first level for all values, then of the second, and so on.
    Each value is rounded to the nearest level.

    Args:
        levels: Number of values: 0, 1 / (levels - 1), ..., 1; at least 2.

    Raises:
        ValueError: If there are fewer than two levels.
    """

    has_differentiable_draws = False

    def __init__(self, levels: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        check_counts(levels=levels)
        if levels < 2:
            raise ValueError(f"`levels` must be at least 2. Received: {levels}.")
        self.levels = self.params_per_value = levels

    def total(self, x: np.ndarray) -> np.ndarray:
        """The numbers of images with each level, `[..., levels C]` for `x[N, ..., C]`."""
        level = np.rint(x * (self.levels - 1)).astype(np.int64).reshape(len(x), -1)
        values = level.shape[1]
        counts = np.bincount(
            (level + self.levels * np.arange(values)).ravel(), minlength=values * self.levels
        )
        counts = np.moveaxis(counts.reshape([*x.shape[1:], self.levels]), -1, -2)
        return counts.reshape([*x.shape[1:-1], -1]).astype(np.float64)

    def location(self, total: np.ndarray, count: int) -> np.ndarray:
        """The logs of the shares of the levels among the values and one more image.

        In this image each level has the same share, so that no share is 0.
        """
        return np.log((total + 1 / self.levels) / (count + 1))

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        logits = tf.stack(tf.split(params, self.levels, axis=-1), -1)
        return tfd.Independent(CategoricalLevels(logits), event_ndims)


class CategoricalLevels(tfd.Distribution):
    """Values `k / (K - 1)`, k = 0, ..., K - 1, with probabilities `softmax(logits[..., K])`."""

    def __init__(self, logits: tf.Tensor):
        parameters = dict(locals())
        self.logits = logits
        self.levels = logits.shape[-1]
        super().__init__(
            dtype=logits.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {"logits": tfp.util.ParameterProperties(event_ndims=1)}

    def _event_shape(self):
        return tf.TensorShape([])

    def _event_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _sample_n(self, n, seed=None):
        level = tfd.Categorical(self.logits).sample(n, seed=seed)
        return tf.cast(level, self.dtype) / (self.levels - 1)

    def _log_prob(self, x):
        level = tf.cast(tf.round(x * (self.levels - 1)), tf.int32)
        return tfd.Categorical(self.logits).log_prob(level)

    def _mean(self):
        values = tf.linspace(0.0, 1.0, self.levels)
        return tf.reduce_sum(tf.nn.softmax(self.logits) * values, -1)


class RoundedLogistic(tfd.Distribution):
    """Logistic(loc, scale), rounded to {0, 1/(levels-1), ..., 1}; the end values take the tails.

    `tfd.QuantizedDistribution` is the general form. This class uses the identity

        sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)),

    so that the log of a bin's mass neither underflows nor cancels, even if the bin is far from
    `loc` or narrow relative to `scale`.
    """

    def __init__(
        self, loc: tf.Tensor, scale: tf.Tensor, levels: int, name: str = "RoundedLogistic"
    ):
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
        # E[X] is the sum of P(X > edge) / steps over the edges between levels; one edge at a time.
        steps = self.levels - 1
        loc, scale = tf.broadcast_to(self.loc, self.batch_shape_tensor()), self.scale

        def beyond(edge, total):
            position = (tf.cast(edge, self.dtype) + 0.5) / steps
            return edge + 1, total + tf.sigmoid((loc - position) / scale)

        _, total = tf.while_loop(
            lambda edge, _: edge < steps, beyond, (0, tf.zeros_like(loc)), parallel_iterations=1
        )
        return total / steps
