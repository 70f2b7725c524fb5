"""Posteriors that can be sampled and have no known density: networks of a context and of noise."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws
from zoo.distributions.part import Part

tfd = tfp.distributions


class ImplicitPart(Part):
    """Base of the posteriors that can be sampled and have no known density."""

    def __init__(self, network: keras.Model, moment_draws: int, **kwargs):
        super().__init__(**kwargs)
        if moment_draws < 2:
            raise ValueError(
                f"A variance takes at least 2 draws. Received: moment_draws={moment_draws}."
            )
        self.network = network
        self.moment_draws = moment_draws

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of one draw of noise."""
        raise NotImplementedError

    def call(self, context, y=None, training=False) -> "Implicit":
        """The distribution given `context[B, ...]`, of batch shape `[B]` and event shape `[D]`."""
        raise NotImplementedError

    def _moment_noise(self):
        # NumPy's: the same whether compiled by XLA or not, here and where an export is loaded.
        shape = (self.moment_draws, *self.noise_shape)
        return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@keras.saving.register_keras_serializable("zoo")
class ImplicitConditional(ImplicitPart):
    """q(z | x) as a network of x and noise: z = f(x, eps), eps ~ N(0, I).

    The universal approximator posterior of Makhzani et al., "Adversarial Autoencoders", 2016,
    section 2.1 (https://arxiv.org/abs/1511.05644), and the black-box inference model of Mescheder
    et al., "Adversarial Variational Bayes", 2017, section 2 and figure 2
    (https://arxiv.org/abs/1701.04722). It takes the place of a `Conditional` wherever draws of z are
    enough.

    What it hands out is an `Implicit` distribution: `sample` and no `log_prob`. Its `mean()` and
    `variance()` are Monte Carlo estimates with `moment_draws` draws of noise, always the same ones
    and the same for all x, so that they are functions of x and the weights alone. They cost as many
    passes of the network, in which dropout and its kin are off, and have no gradient.

    Args:
        network: A built `keras.Model` with two inputs, the context `[B, ...]` and noise `[B, E]`, to
            `[B, D]`, such as `noisy_mlp` makes.
        moment_draws: Draws of noise for mean and variance, at least 2.

    Raises:
        ValueError: If the network has not these inputs and outputs, or for fewer draws.

    Example:
        >>> network = zoo.distributions.noisy_mlp((8, 8, 1), noise_dim=4, outputs=2, hidden=(16,))
        >>> q = zoo.ImplicitConditional(network)(tf.zeros([3, 8, 8, 1]))
        >>> q.sample(7, seed=1).shape, q.mean().shape
        (TensorShape([7, 3, 2]), TensorShape([3, 2]))
    """

    def __init__(self, network: keras.Model, moment_draws: int = 64, **kwargs):
        super().__init__(network, moment_draws, **kwargs)
        shapes = [tuple(t.shape[1:]) for t in network.inputs]
        if len(shapes) != 2 or len(shapes[1]) != 1 or len(network.output_shape) != 2:
            raise ValueError(
                "The network of an ImplicitConditional takes a context [B, ...] and noise [B, E], "
                f"and gives [B, D]. Received: inputs of the shapes {shapes}, and outputs of the "
                f"shape {network.output_shape[1:]}."
            )

    @property
    def noise_shape(self):
        return tuple(self.network.inputs[1].shape[1:])

    def call(self, context, y=None, training=False):
        dim = self.network.output_shape[-1]
        context = tf.cast(context, tf.float32)
        rows = tf.shape(context)[0]

        def draw(n, seed):
            noise = draws.normal(tf.concat([[n * rows], self.noise_shape], 0), seed)
            # Many draws of an image are many rows to the network.
            repeats = tf.concat([[n], tf.ones([context.shape.rank - 1], tf.int32)], 0)
            wide = context if tf.get_static_value(n) == 1 else tf.tile(context, repeats)
            return tf.reshape(self._value(wide, noise, training), tf.stack([n, rows, dim]))

        def moments():
            noise = tf.constant(self._moment_noise())

            # One draw at a time: memory does not grow with their number, as no pass is kept for a
            # gradient.
            def another(i, mean, squares):
                eps = tf.tile(noise[i][None], [rows, 1])
                step = tf.stop_gradient(self._value(context, eps, False)) - mean
                mean += step / tf.cast(i + 1, tf.float32)
                return i + 1, mean, squares + step * (step - step / tf.cast(i + 1, tf.float32))

            start = tf.zeros([rows, dim])
            loop = (0, start, start)
            shapes = tuple(tf.TensorShape(s) for s in ([], *[[None, dim]] * 2))
            # XLA has to know their number.
            _, mean, squares = tf.while_loop(
                lambda *_: True, another, loop, shapes, maximum_iterations=self.moment_draws
            )
            return mean, squares / self.moment_draws

        return Implicit(draw, moments, context.shape[0], rows, dim)

    def _value(self, context, noise, training):
        return tf.cast(self.network([context, noise], training=training), tf.float32)


@keras.saving.register_keras_serializable("zoo")
class NoiseBasisConditional(ImplicitPart):
    """q(z | x) whose moments given x are cheap: z = z0(x) + sum_i a_i(x) * v_i(eps_i).

    The encoder that Mescheder et al., "Adversarial Variational Bayes", 2017, section 4, devise for
    adaptive contrast: x only scales m bases, each a function of noise of its own. With products by
    latent dimension,

        E[z | x] = z0(x) + sum_i a_i(x) * E[v_i],   Var[z | x] = sum_i a_i(x)^2 * Var[v_i],

    so that estimates of the moments of v, which no x changes, give those of z for any x. As in the
    authors' code, a = elu(raw - 5) + 1, which is positive, and exp(-5) for a new network: nearly no
    noise. Their code takes the moments of the draws that the batch itself makes; here they are those of
    `moment_draws` other draws, as `ImplicitConditional` says, so that q(z | x) does not depend on
    what else is in the batch. Their layer of z0 starts with weights of 1e-5, so that a new z0 is
    next to 0 for all x; here the network is the caller's. https://arxiv.org/abs/1701.04722

    Args:
        network: From the context `[B, ...]` to `[B, (1 + m) D]`: z0, then the raw a_1, ..., a_m.
        basis: From noise `[B, m, E]` to v `[B, m, D]`, such as `noise_basis` makes.
        moment_draws: Draws of noise for the moments of v, at least 2.

    Raises:
        ValueError: If the networks do not go together, or for fewer draws.

    Example:
        >>> encoder = zoo.networks.mlp_encoder((8, 8, 1), (1 + 3) * 2)
        >>> basis = zoo.distributions.noise_basis(count=3, noise_dim=4, outputs=2, hidden=(16,))
        >>> q = zoo.NoiseBasisConditional(encoder, basis)(tf.zeros([5, 8, 8, 1]))
        >>> q.sample(7, seed=1).shape, q.variance().shape
        (TensorShape([7, 5, 2]), TensorShape([5, 2]))
    """

    def __init__(self, network: keras.Model, basis: keras.Model, moment_draws: int = 128, **kwargs):
        super().__init__(network, moment_draws, **kwargs)
        self.basis = basis
        shape, outputs = basis.output_shape[1:], network.output_shape[1:]
        count, dim = shape if len(shape) == 2 else (0, 0)
        if len(network.inputs) != 1 or not count or outputs != ((1 + count) * dim,):
            raise ValueError(
                "A NoiseBasisConditional takes a basis from [B, m, E] to [B, m, D], and a network "
                "with one input and (1 + m) D outputs. Received: a basis with outputs of the shape "
                f"{shape}, and a network with {len(network.inputs)} inputs and outputs of the shape "
                f"{outputs}."
            )

    @property
    def noise_shape(self):
        return tuple(self.basis.inputs[0].shape[1:])

    def call(self, context, y=None, training=False):
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
    """A distribution over `z[D]` for each of B contexts, known by its draws alone.

    Args:
        draw: From a number n and a seed `[2]` to draws `[n, B, D]`, differentiable.
        moments: A function of nothing, to estimates of mean and variance `[B, D]`.
        batch: B where it is known, else `None`.
        rows: B as a tensor.
        dim: D.
    """

    def __init__(self, draw: Callable, moments: Callable, batch: int | None, rows, dim: int):
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
    """Both, by one pass where they are estimated."""
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
    """A perceptron from images and noise to `[B, outputs]`, which takes the noise at every layer.

    The noise is concatenated to each layer's input, the last one's too, so that a linear map of it is
    added to what each layer makes of the rest. The encoders of Mescheder et al.'s code for images add
    such a map after each of their convolutions, and after all but the last of these normalize over
    the batch; their last layer, which is dense, gets no noise.

    Args:
        image_shape: Height, width, channels.
        noise_dim: E of the noise `[B, E]`, at least 1.
        outputs: D.
        hidden: Units of the hidden layers.
        activation: Of the hidden layers.

    Raises:
        ValueError: If there is no noise.
    """
    _need_noise(noise_dim)
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
    """As many perceptrons side by side, each from noise of its own: `[B, m, E]` to `[B, m, D]`.

    Args:
        count: m, at least 1.
        noise_dim: E, at least 1.
        outputs: D.
        hidden: Units of the hidden layers of each.
        activation: Of the hidden layers.

    Raises:
        ValueError: If there is no basis, or no noise.
    """
    _need_noise(noise_dim)
    if count < 1:
        raise ValueError(f"There is at least one basis. Received: count={count}.")
    layers, inputs = [keras.Input((count, noise_dim))], noise_dim
    for units in hidden:
        layers.append(_side_by_side(count, inputs, units, activation=activation))
        inputs = units
    layers.append(_side_by_side(count, inputs, outputs, dtype="float32"))
    return keras.Sequential(layers, name="noise_basis")


def _side_by_side(count, inputs, units, **kwargs):
    # Glorot's, for each by itself: Keras would count the layers beside it among its units.
    limit = math.sqrt(6 / (inputs + units))
    return keras.layers.EinsumDense(
        "bmi,mij->bmj",
        (count, units),
        bias_axes="mj",
        kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
        **kwargs,
    )


def _need_noise(noise_dim):
    if noise_dim < 1:
        raise ValueError(
            f"An implicit posterior needs noise: noise_dim >= 1. Received: noise_dim={noise_dim}."
        )
