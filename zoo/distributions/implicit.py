"""Implicit posteriors: networks of a context and of noise, with draws but without a known density."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws, networks
from zoo.config import with_article
from zoo.distributions.part import Part

tfd = tfp.distributions


class ImplicitPart(Part):
    """Base of posteriors that can be sampled and have no known density.

    `mean()` and `variance()` are Monte Carlo estimates from `moment_draws` draws of noise. The
    draws are always the same, so the estimates are functions of the context and the weights alone.
    """

    has_density = False

    def __init__(self, network: keras.Model, moment_draws: int, **kwargs: Any):
        super().__init__(**kwargs)
        if moment_draws < 2:
            raise ValueError(
                f"`moment_draws` must be at least 2. Received: moment_draws={moment_draws}."
            )
        networks.check_built(network, f"The network of {with_article(type(self).__name__)}")
        self.network = network
        self.moment_draws = moment_draws

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of one draw of noise."""
        raise NotImplementedError

    @property
    def context_shape(self) -> tuple[int, ...]:
        return tuple(self.network.inputs[0].shape[1:])

    def call(
        self, context: tf.Tensor, y: tf.Tensor | None = None, training: bool = False
    ) -> "Implicit":
        """The distribution given `context[B, ...]`, of batch shape `[B]` and event shape `[D]`."""
        raise NotImplementedError

    def _moment_noise(self):
        # NumPy's numbers are the same with and without XLA, and in a loaded export.
        shape = (self.moment_draws, *self.noise_shape)
        return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@keras.saving.register_keras_serializable("zoo")
class ImplicitConditional(ImplicitPart):
    """q(z | x) as a network of x and noise: z = f(x, eps) with eps ~ N(0, I).

    This is the universal approximator posterior of Makhzani et al., "Adversarial Autoencoders",
    2016, section 2.1 (https://arxiv.org/abs/1511.05644), and the black-box inference model of
    Mescheder et al., "Adversarial Variational Bayes", 2017, section 2 and figure 2
    (https://arxiv.org/abs/1701.04722). It replaces a `Conditional` in models that need only draws.

    It returns an `Implicit` distribution, with `sample` and without `log_prob`. `mean()` and
    `variance()` are Monte Carlo estimates from `moment_draws` draws of noise, the same for all x.
    They take `moment_draws` passes of the network, without dropout, and have no gradient.

    Args:
        network: A built `keras.Model` with two inputs, the context `[B, ...]` and noise `[B, E]`,
            to `[B, D]`, such as `noisy_mlp` returns.
        moment_draws: Draws of noise for mean and variance, at least 2.

    Raises:
        ValueError: If the network has other inputs or outputs, or `moment_draws` is too small.

    Example:
        >>> network = zoo.distributions.noisy_mlp((8, 8, 1), noise_dim=4, outputs=2, hidden=(16,))
        >>> q = zoo.ImplicitConditional(network)(tf.zeros([3, 8, 8, 1]))
        >>> q.sample(7, seed=1).shape, q.mean().shape
        (TensorShape([7, 3, 2]), TensorShape([3, 2]))
    """

    def __init__(self, network: keras.Model, moment_draws: int = 64, **kwargs: Any):
        super().__init__(network, moment_draws, **kwargs)
        shapes = [tuple(t.shape[1:]) for t in network.inputs]
        single = networks.returns_tensor(network)
        if len(shapes) != 2 or len(shapes[1]) != 1 or not single or len(network.output_shape) != 2:
            raise ValueError(
                "The network of an ImplicitConditional must take a context [B, ...] and noise "
                f"[B, E], and return [B, D]; see `noisy_mlp`. Received: inputs of the shapes {shapes}, "
                f"and outputs of the shapes {[tuple(t.shape[1:]) for t in network.outputs]}."
            )

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return tuple(self.network.inputs[1].shape[1:])

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.network.output_shape[1:])

    def call(
        self, context: tf.Tensor, y: tf.Tensor | None = None, training: bool = False
    ) -> "Implicit":
        dim = self.network.output_shape[-1]
        context = tf.cast(context, tf.float32)
        rows = tf.shape(context)[0]

        def draw(n, seed):
            noise = draws.normal(tf.concat([[n * rows], self.noise_shape], 0), seed)
            # Draws of one image are separate rows of the network's input.
            repeats = tf.concat([[n], tf.ones([context.shape.rank - 1], tf.int32)], 0)
            repeated = context if tf.get_static_value(n) == 1 else tf.tile(context, repeats)
            return tf.reshape(self._value(repeated, noise, training), tf.stack([n, rows, dim]))

        def moments():
            noise = tf.constant(self._moment_noise())

            # One draw at a time, and no gradient: memory does not grow with the number of draws.
            def next_draw(i, mean, squares):
                eps = tf.tile(noise[i][None], [rows, 1])
                step = tf.stop_gradient(self._value(context, eps, False)) - mean
                mean += step / tf.cast(i + 1, tf.float32)
                return i + 1, mean, squares + step * (step - step / tf.cast(i + 1, tf.float32))

            start = tf.zeros([rows, dim])
            loop = (0, start, start)
            shapes = tuple(tf.TensorShape(s) for s in ([], *[[None, dim]] * 2))
            # XLA needs a static number of iterations.
            _, mean, squares = tf.while_loop(
                lambda *_: True, next_draw, loop, shapes, maximum_iterations=self.moment_draws
            )
            return mean, squares / self.moment_draws

        return Implicit(draw, moments, context.shape[0], rows, dim)

    def _value(self, context, noise, training):
        return tf.cast(self.network([context, noise], training=training), tf.float32)


@keras.saving.register_keras_serializable("zoo")
class NoiseBasisConditional(ImplicitPart):
    """q(z | x) with moments that are cheap to estimate: z = z0(x) + sum_i a_i(x) * v_i(eps_i).

    This is the encoder for adaptive contrast of Mescheder et al., "Adversarial Variational Bayes",
    2017, section 4: x scales m bases, each a function of its own noise. With products by latent
    dimension,

        E[z | x] = z0(x) + sum_i a_i(x) * E[v_i],   Var[z | x] = sum_i a_i(x)^2 * Var[v_i].

    The moments of v do not depend on x, so one estimate gives the moments of z for every x. The
    scales are a = elu(raw - 5) + 1, as in the authors' code: they are positive, and exp(-5) in a
    new network, which adds almost no noise. https://arxiv.org/abs/1701.04722

    Args:
        network: From the context `[B, ...]` to `[B, (1 + m) D]`: z0, then the raw a_1, ..., a_m.
        basis: From noise `[B, m, E]` to v `[B, m, D]`, such as `noise_basis` returns.
        moment_draws: Draws of noise for the moments of v, at least 2.

    Raises:
        ValueError: If the shapes of the networks do not match, or `moment_draws` is too small.

    Notes:
        The authors' code estimates the moments of v from the draws of the batch. Here they come
        from `moment_draws` fixed draws, so that q(z | x) does not depend on the other images of the
        batch. The authors' layer for z0 starts with weights of size 1e-5, so that a new z0 is close
        to 0 for all x; here the caller chooses the network.

    Example:
        >>> encoder = zoo.networks.mlp_encoder((8, 8, 1), (1 + 3) * 2)
        >>> basis = zoo.distributions.noise_basis(count=3, noise_dim=4, outputs=2, hidden=(16,))
        >>> q = zoo.NoiseBasisConditional(encoder, basis)(tf.zeros([5, 8, 8, 1]))
        >>> q.sample(7, seed=1).shape, q.variance().shape
        (TensorShape([7, 5, 2]), TensorShape([5, 2]))
    """

    def __init__(
        self, network: keras.Model, basis: keras.Model, moment_draws: int = 128, **kwargs: Any
    ):
        super().__init__(network, moment_draws, **kwargs)
        networks.check_built(basis, "The basis of a NoiseBasisConditional")
        self.basis = basis
        shape, outputs = (
            tuple(n.output_shape[1:]) if networks.returns_tensor(n) else ()
            for n in (basis, network)
        )
        count, dim = shape if len(shape) == 2 else (0, 0)
        if len(network.inputs) != 1 or not count or outputs != ((1 + count) * dim,):
            raise ValueError(
                "A NoiseBasisConditional needs a basis from [B, m, E] to [B, m, D], and a network with "
                "one input and (1 + m) D outputs. Received: a basis with outputs of the shape "
                f"{shape}, and a network with {len(network.inputs)} inputs and outputs of the shape "
                f"{outputs}."
            )

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return tuple(self.basis.inputs[0].shape[1:])

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.basis.output_shape[-1],)

    def call(
        self, context: tf.Tensor, y: tf.Tensor | None = None, training: bool = False
    ) -> "Implicit":
        context = tf.cast(context, tf.float32)
        _, count, dim = self.basis.output_shape
        out = tf.cast(self.network(context, training=training), tf.float32)
        z0, raw = out[:, :dim], tf.reshape(out[:, dim:], [-1, count, dim])
        a = tf.nn.elu(raw - 5.0) + 1.0
        rows = tf.shape(context)[0]

        def draw(n, seed):
            noise = draws.normal(tf.concat([[n * rows], self.noise_shape], 0), seed)
            v = tf.reshape(self._bases(noise, training), tf.stack([n, rows, count, dim]))
            return z0 + tf.reduce_sum(a * v, -2)

        def moments():
            v = self._bases(tf.constant(self._moment_noise()), False)
            mean, variance = tf.nn.moments(v, 0)
            return z0 + tf.reduce_sum(a * mean, 1), tf.reduce_sum(a**2 * variance, 1)

        return Implicit(draw, moments, context.shape[0], rows, dim)

    def _bases(self, noise, training):
        return tf.cast(self.basis(noise, training=training), tf.float32)


class Implicit(tfd.Distribution):
    """A distribution over `z[D]` for each of B contexts, with draws and without a density.

    Args:
        draw: From a number n and a seed `[2]` to draws `[n, B, D]`, differentiable.
        moments: Function without arguments that returns estimates of mean and variance, `[B, D]`.
        batch: B if it is known statically, otherwise `None`.
        rows: B as a tensor.
        dim: D.
    """

    def __init__(
        self, draw: Callable, moments: Callable, batch: int | None, rows: tf.Tensor, dim: int
    ):
        parameters = dict(locals())
        self._draw, self.moments = draw, moments
        self._batch, self._rows, self._dim = batch, rows, dim
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name="Implicit",
        )

    def _batch_shape(self):
        return tf.TensorShape([self._batch])

    def _batch_shape_tensor(self):
        return tf.stack([self._rows])

    def _event_shape(self):
        return tf.TensorShape([self._dim])

    def _event_shape_tensor(self):
        return tf.constant([self._dim])

    def _sample_n(self, n, seed=None):
        z = self._draw(n, tfp.random.sanitize_seed(seed))
        return tf.ensure_shape(z, [tf.get_static_value(n), self._batch, self._dim])

    def _mean(self):
        return self.moments()[0]

    def _variance(self):
        return self.moments()[1]

    def _stddev(self):
        return tf.sqrt(self.moments()[1])


def mean_and_variance(distribution: tfd.Distribution) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of a distribution, in one pass if they are estimated."""
    if isinstance(distribution, Implicit):
        return distribution.moments()
    return distribution.mean(), distribution.variance()


def noisy_mlp(
    image_shape: Sequence[int],
    noise_dim: int,
    outputs: int,
    hidden: Sequence[int] = (300, 300),
    activation: str = "softplus",
) -> keras.Model:
    """A perceptron from images and noise to `[B, outputs]`, with noise as an input of each layer.

    The noise is concatenated to the input of each layer, including the last, so a linear map of the
    noise is added before each activation.

    Args:
        image_shape: Height, width, channels.
        noise_dim: E of the noise `[B, E]`, at least 1.
        outputs: D.
        hidden: Units of the hidden layers.
        activation: Activation of the hidden layers.

    Raises:
        ValueError: If `noise_dim` is below 1.

    Notes:
        In the code of Mescheder et al., image encoders add a linear map of the noise after each
        convolution, then normalize over the batch after all convolutions but the last. Their last
        layer, which is dense, has no noise.
    """
    networks.check_not_gated(activation, "A network of images and noise")
    _check_noise_dim(noise_dim)
    images, noise = keras.Input(tuple(image_shape)), keras.Input((noise_dim,))
    h = keras.layers.Flatten()(keras.layers.Rescaling(2.0, -1.0)(images))
    for units in hidden:
        h = keras.layers.Dense(units, activation)(keras.layers.Concatenate()([h, noise]))
    z = keras.layers.Dense(outputs, dtype="float32")(keras.layers.Concatenate()([h, noise]))
    return keras.Model([images, noise], z, name="noisy_mlp")


def noise_basis(
    count: int,
    noise_dim: int,
    outputs: int,
    hidden: Sequence[int] = (128, 128, 128),
    activation: str = "elu",
) -> keras.Model:
    """m independent perceptrons, each with its own noise: `[B, m, E]` to `[B, m, D]`.

    Args:
        count: m, at least 1.
        noise_dim: E, at least 1.
        outputs: D.
        hidden: Units of the hidden layers of each perceptron.
        activation: Activation of the hidden layers.

    Raises:
        ValueError: If `count` or `noise_dim` is below 1.
    """
    networks.check_not_gated(activation, "A network of noise")
    _check_noise_dim(noise_dim)
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: count={count}.")
    layers, inputs = [keras.Input((count, noise_dim))], noise_dim
    for units in hidden:
        layers.append(_parallel_dense(count, inputs, units, activation=activation))
        inputs = units
    layers.append(_parallel_dense(count, inputs, outputs, dtype="float32"))
    return keras.Sequential(layers, name="noise_basis")


def _parallel_dense(count, inputs, units, **kwargs):
    # Glorot's bound for each perceptron alone; Keras would compute it from all of them together.
    limit = math.sqrt(6 / (inputs + units))
    return keras.layers.EinsumDense(
        "bmi,mij->bmj",
        (count, units),
        bias_axes="mj",
        kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
        **kwargs,
    )


def _check_noise_dim(noise_dim):
    if noise_dim < 1:
        raise ValueError(
            "An implicit posterior needs noise: `noise_dim` must be at least 1. "
            f"Received: noise_dim={noise_dim}."
        )
