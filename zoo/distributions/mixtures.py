"""Priors with components: fixed shapes in the plane, learned normals, and the VampPrior."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.contract import check_counts, check_non_negative
from zoo.distributions.conditional import Conditional
from zoo.distributions.part import need_density
from zoo.distributions.priors import Prior
from zoo.draws import Normal

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class NormalPetals(Prior):
    """A mixture of `components` 2-D normals, arranged like the petals of a flower.

    Makhzani et al., "Adversarial Autoencoders", 2016, section 2.3 and figure 4. The centre of
    component k has the angle 2 pi k / components and the distance `shift` from the origin; `scales`
    are its standard deviations along and across the ray. https://arxiv.org/abs/1511.05644

    Args:
        components: Number of petals, at least 1.
        shift: Distance of the centres from the origin, at least 0.
        scales: Standard deviations along and across the ray, > 0.

    Raises:
        ValueError: If an argument is out of range.

    Notes:
        The paper states no numbers; the defaults are those that public implementations share.

    Example:
        >>> prior = zoo.NormalPetals(components=10)
        >>> prior.component(np.array([0, 3, -1])).sample().shape  # Petal 0, petal 3, the mixture.
        TensorShape([3, 2])
    """

    def __init__(
        self,
        components: int = 10,
        shift: float = 1.4,
        scales: Sequence[float] = (0.5, 0.1),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_components(components)
        scales = tuple(scales)
        check_non_negative(shift=shift)
        if len(scales) != 2 or not all(0 < scale < math.inf for scale in scales):
            raise ValueError(
                "`scales` must be two positive finite numbers, along and across the ray. "
                f"Received: scales={scales}."
            )
        self.components = components
        self.shift = shift
        self.scales = scales

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        return self._mixture(tf.zeros(self.components))

    def component(self, y: np.ndarray | tf.Tensor) -> tfd.Distribution:
        """The petal of each label of `y[B]`, or the mixture for a label below 0; batch shape `[B]`.

        Raises:
            ValueError: If a label is not an int below `components`.
        """
        y = component_labels(y, self.components)
        return self._mixture(logits_of_labels(y, self.components))

    def walks(self, n: int = 10) -> tf.Tensor:
        """Points along each petal, two standard deviations either way: `[components, n, 2]`."""
        ray, _ = self._axes()
        steps = self.shift + self.scales[0] * tf.linspace(-2.0, 2.0, n)
        return steps[:, None] * ray[:, None]

    def _axes(self):
        angle = tf.linspace(0.0, 2 * math.pi, self.components + 1)[:-1]
        ray = tf.stack([tf.cos(angle), tf.sin(angle)], -1)  # [K, 2]
        return ray, tf.stack([-tf.sin(angle), tf.cos(angle)], -1)

    def _mixture(self, logits):
        ray, across = self._axes()
        along = self.scales[0] * ray[..., None]
        factor = tf.concat([along, self.scales[1] * across[..., None]], -1)  # [K, 2, 2]
        covariance = tf.matmul(factor, factor, transpose_b=True)
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=logits),
            tfd.MultivariateNormalTriL(self.shift * ray, tf.linalg.cholesky(covariance)),
        )


def component_labels(y: np.ndarray | tf.Tensor, components: int) -> tf.Tensor:
    """`y[B]` as int32, checked if its values are known.

    Raises:
        ValueError: If a label is not an int below `components`.
    """
    values = tf.get_static_value(y) if tf.is_tensor(y) else np.asarray(y)
    if values is not None and not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"Labels must be ints. Received: y of type {values.dtype.name}.")
    if values is not None and (values >= components).any():
        raise ValueError(
            f"The components of the prior have labels from 0 to {components - 1}; a label below 0 "
            f"means no label. Received: a label of {values.max()}."
        )
    return tf.cast(y, tf.int32)


def logits_of_labels(y: tf.Tensor, components: int) -> tf.Tensor:
    """`[B, components]`: 0 at the label and -inf elsewhere; all 0 if the label is below 0."""
    own = tf.one_hot(y, components, on_value=0.0, off_value=-math.inf)
    return tf.where(y[:, None] < 0, 0.0, own)


@keras.saving.register_keras_serializable("zoo")
class MixturePrior(Prior):
    """A mixture of `components` normals with diagonal covariances and learned parameters.

        log p(z) = log sum_k w_k prod_d N(z_d; loc_kd, scale_kd^2)

    Tomczak and Welling, "VAE with a VampPrior", 2018, compare this mixture of Gaussians with their
    prior. https://arxiv.org/abs/1705.07120

    Args:
        dim: D of the latents.
        components: K.
        min_scale: Lower bound of the standard deviations, > 0 and < 1, which keeps a component from
            collapsing onto one point.

    Raises:
        ValueError: If an argument is out of range.

    Notes:
        The weights w_k are learned too, unlike the paper's. The sum over components is outside the
        product over dimensions; a mixture in each dimension separately would be a larger family.
    """

    has_differentiable_draws = False

    def __init__(self, dim: int, components: int = 10, min_scale: float = 1e-2, **kwargs: Any):
        super().__init__(**kwargs)
        check_components(components)
        if not 0 < min_scale < 1:
            raise ValueError(
                f"`min_scale` must be between 0 and 1. Received: min_scale={min_scale}."
            )
        self.dim = dim
        self.components = components
        self.min_scale = min_scale
        self.logits = self.add_weight(name="logits", shape=(components,), initializer="zeros")
        # The centres follow N(0, I), where posteriors start; each component has the scale 1.
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

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        loc = tf.convert_to_tensor(self.loc)
        scale = self.min_scale + tf.nn.softplus(tf.convert_to_tensor(self.raw_scale))
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=tf.convert_to_tensor(self.logits)),
            tfd.Independent(Normal(loc, scale), 1),
        )


@keras.saving.register_keras_serializable("zoo")
class VampPrior(Prior):
    """The posterior, averaged over learned pseudo-inputs: 1/K sum_k q(z | u_k).

    Tomczak and Welling, "VAE with a VampPrior", 2018, section 3. The posterior is that of the
    model, so the prior also trains the encoder. https://arxiv.org/abs/1705.07120

    The prior calls the posterior as in inference, without dropout. The posterior must not take a
    condition. Initial pseudo-inputs are uniform on [0, 1], or images of the data; see `initialize`.

    Args:
        image_shape: Height, width, channels of a pseudo-input.
        components: K; 500 in the paper for MNIST.

    Raises:
        ValueError: If `components` is below 1 and, when called, if no posterior is bound.

    Notes:
        Pseudo-inputs are clipped to [0, 1] after each update. The paper's code clips them at each
        use instead, so a value outside the interval has no gradient that could move it back.

    Example:
        >>> vae = zoo.models.vae((8, 8, 1), latent_dim=2, prior="vamp", prior_components=20)
        >>> x, _ = zoo.datasets.load("digits").arrays("train")
        >>> vae.prior.initialize(x)
        >>> vae.prior().log_prob(tf.zeros([3, 2])).shape
        TensorShape([3])
    """

    has_differentiable_draws = False

    def __init__(self, image_shape: Sequence[int], components: int = 100, **kwargs: Any):
        super().__init__(**kwargs)
        check_components(components)
        self.image_shape = tuple(image_shape)
        self.components = components
        self.pseudo_inputs = self.add_weight(
            name="pseudo_inputs",
            shape=(components, *self.image_shape),
            initializer=keras.initializers.RandomUniform(0.0, 1.0),
            constraint=_clip_to_unit_interval,
        )
        self._posterior: Callable[[], Conditional] | None = None

    def bind(self, posterior: Conditional) -> None:
        if posterior.condition is not None:
            raise ValueError(
                "A VampPrior averages q(z | u) over its pseudo-inputs u alone: use a posterior without "
                "a condition. Received: a posterior with a condition of shape "
                f"{tuple(posterior.condition.shape)}."
            )
        need_density(posterior, "a VampPrior", everywhere=True)
        shape = posterior.context_shape
        if shape not in (None, self.image_shape):
            raise ValueError(
                "Pseudo-inputs must have the shape of the posterior's images. Received: "
                f"image_shape={self.image_shape}, and a posterior on {shape}."
            )
        # A function hides the posterior from Keras, which would count and save it with the prior.
        self._posterior = lambda: posterior

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return None if self._posterior is None else self._posterior().event_shape

    def initialize(self, x: np.ndarray) -> None:
        """Sets the pseudo-inputs to the first K of the images `x[N, H, W, C]`.

        Raises:
            ValueError: If there are fewer than K images, or if they have another shape or values
                outside [0, 1].
        """
        x = np.asarray(x, np.float32)[: self.components]
        if x.shape != (self.components, *self.image_shape):
            raise ValueError(
                f"Expected at least {self.components} images of shape {self.image_shape}. "
                f"Received: first images of shape {x.shape}."
            )
        if not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"Expected images in [0, 1]. Received: values from {x.min()} to {x.max()}."
            )
        self.pseudo_inputs.assign(x)

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        if self._posterior is None:
            raise ValueError(
                "A VampPrior needs a posterior: pass the prior to a `VAE`, or call "
                "`prior.bind(posterior)` first. Received: a call without a posterior."
            )
        q = self._posterior()(tf.convert_to_tensor(self.pseudo_inputs))
        return tfd.MixtureSameFamily(tfd.Categorical(logits=tf.zeros(self.components)), q)


def _clip_to_unit_interval(values):
    return keras.ops.clip(values, 0.0, 1.0)


def check_components(components: int) -> None:
    """Raises a `ValueError` unless `components` is an int of at least 1."""
    check_counts(0, components=components)
    if components < 1:
        raise ValueError(
            f"A mixture needs at least one component. Received: components={components}."
        )


@keras.saving.register_keras_serializable("zoo")
class SwissRoll(Prior):
    """A 2-D Swiss roll: a uniformly covered spiral with Gaussian noise.

    Makhzani et al., "Adversarial Autoencoders", 2016, figure 4. With t uniform on [0, 1], a point
    has angle = 2 pi turns sqrt(t) and radius = `radius` sqrt(t), as in public implementations: the
    arc length of a spiral grows with the square of its angle. The Swiss roll can be sampled and has
    no density. https://arxiv.org/abs/1511.05644

    Labels select one of `components` segments of equal weight, counted from the centre: segment k
    has t in [k, k + 1) / components (section 2.3).

    Args:
        turns: Number of turns, > 0.
        radius: Radius of the outer end, > 0.
        noise: Standard deviation of the noise, at least 0.
        components: Number of segments, at least 1.

    Raises:
        ValueError: If an argument is out of range.
    """

    has_density = False

    def __init__(
        self,
        turns: float = 2.0,
        radius: float = 3.0,
        noise: float = 0.05,
        components: int = 10,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_components(components)
        if not (0 < turns < math.inf and 0 < radius < math.inf and 0 <= noise < math.inf):
            raise ValueError(
                "`turns` and `radius` must be positive, `noise` at least 0, and all finite. "
                f"Received: turns={turns}, radius={radius}, noise={noise}."
            )
        self.turns = turns
        self.radius = radius
        self.noise = noise
        self.components = components

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        return NoisySpiral(self.turns, self.radius, self.noise, 0.0, 1.0)

    def component(self, y: np.ndarray | tf.Tensor) -> tfd.Distribution:
        """The segment of each label of `y[B]`, or the roll for a label below 0; batch shape `[B]`.

        Raises:
            ValueError: If a label is not an int below `components`.
        """
        y = component_labels(y, self.components)
        start = tf.cast(tf.maximum(y, 0), tf.float32) / self.components
        end = tf.where(y < 0, 1.0, start + 1 / self.components)
        return NoisySpiral(self.turns, self.radius, self.noise, start, end)

    def walks(self, n: int = 10) -> tf.Tensor:
        """Points along the spiral from the centre, one segment in each row: `[components, n, 2]`."""
        t = tf.linspace(0.0, 1.0, self.components * n)
        return tf.reshape(_spiral(t, self.turns, self.radius), [self.components, n, 2])


def _spiral(t, turns, radius):
    """The point at the fraction `t[...]` of the spiral's length, `[..., 2]`."""
    root = tf.sqrt(t)
    angle = 2 * math.pi * turns * root
    return radius * root[..., None] * tf.stack([tf.cos(angle), tf.sin(angle)], -1)


class NoisySpiral(tfd.Distribution):
    """A piece of a `SwissRoll`, to sample only: t is uniform on [low, high], both `[]` or `[B]`."""

    def __init__(
        self,
        turns: float,
        radius: float,
        noise: float,
        low: float | tf.Tensor,
        high: float | tf.Tensor,
        name: str = "NoisySpiral",
    ):
        parameters = dict(locals())
        self.turns, self.radius, self.noise = turns, radius, noise
        self.low, self.high = tf.convert_to_tensor(low), tf.convert_to_tensor(high)
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
        } | {name: tfp.util.ParameterProperties() for name in ("low", "high")}

    def _batch_shape(self):
        return self.low.shape

    def _batch_shape_tensor(self):
        return tf.shape(self.low)

    def _event_shape(self):
        return tf.TensorShape([2])

    def _event_shape_tensor(self):
        return tf.constant([2], tf.int32)

    def _sample_n(self, n, seed=None):
        place_seed, noise_seed = tfp.random.split_seed(seed)
        place = tfd.Uniform(self.low, self.high).sample(n, seed=place_seed)
        shape = tf.concat([tf.shape(place), [2]], 0)
        noise = Normal(0.0, self.noise).sample(shape, seed=noise_seed)
        return _spiral(place, self.turns, self.radius) + noise
