"""Videos: a posterior and a likelihood that share one network for all frames, and a prior of paths.

The latents of a video are z = [s, z_1, ..., z_T]: static latents, which all frames share, and the
latents of each frame. The channels of a video are those of its frames, the first frame first.

Krishnan, Shalit, Sontag, "Deep Kalman Filters", 2015. https://arxiv.org/abs/1511.05121
Li and Mandt, "Disentangled Sequential Autoencoder", 2018, for the static latents.
https://arxiv.org/abs/1803.02991
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws
from zoo.contract import as_count
from zoo.distributions.conditional import Conditional, check_network
from zoo.distributions.families import DiagonalNormal, Family
from zoo.distributions.part import described
from zoo.distributions.priors import Prior
from zoo.distributions.vectors import VectorDistribution

tfd = tfp.distributions


def _size(t):
    """The size of the last axis: an int, or a scalar tensor if it is unknown."""
    return tf.shape(t)[-1] if t.shape[-1] is None else t.shape[-1]


class _OfFrames(Conditional):
    """Base class of `FramePosterior` and `FrameLikelihood`."""

    def __init__(
        self, network: keras.Model, family: Family, frames: int, static_dim: int = 0, **kwargs: Any
    ):
        super().__init__(network, family, **kwargs)
        check_network(self, network, "a frame or its latents", (1,))
        # Families over vectors override `num_params`.
        if type(family).num_params is not Family.num_params:
            raise ValueError(
                f"A {type(self).__name__} arranges the parameters of frames, so its family must be of "
                f"independent values. Received: {described(self)}."
            )
        self.frames = as_count(frames, "frames")
        self.static_dim = as_count(static_dim, "static_dim", 0)
        if self.static_dim >= self._each:
            raise ValueError(
                "`static_dim` must be smaller than the number of latents of the network, so that each "
                f"frame has its own. Received: static_dim={static_dim} with a network of "
                f"{self._each} latents."
            )

    @property
    def _each(self) -> int:
        raise NotImplementedError

    @property
    def _latents(self):
        return (self.static_dim + self.frames * (self._each - self.static_dim),)

    def _video(self, frame):
        *size, channels = frame
        return (*size, self.frames * channels)


@keras.saving.register_keras_serializable("zoo")
class FramePosterior(_OfFrames):
    """q(z | x) of a video: a network of one frame, for every frame.

    q(z_t | x_t) has the parameters that the network returns for frame t. The parameters of q(s | x) are
    the means over frames of what the network returns for s.

    Called on a video `[B, H, W, K C]` of any number K of frames, it returns a distribution over
    `[s, z_1, ..., z_K]`.

    Args:
        network: A built `keras.Model` from a frame `[B, H, W, C]` to `family.num_params(S + D)`
            parameters: of S static latents and of the D latents of the frame.
        family: A `Family` of independent values.
        frames: T, the number of frames of the model's videos.
        static_dim: S, at least 0.

    Raises:
        ValueError: If the network or the family does not fit, or a number is out of range.

    Example:
        >>> network = zoo.networks.mlp_encoder((8, 8, 1), 2 * (1 + 3))
        >>> q = zoo.FramePosterior(network, zoo.DiagonalNormal(), frames=4, static_dim=1)
        >>> q(tf.zeros([5, 8, 8, 4])).event_shape, q(tf.zeros([5, 8, 8, 2])).event_shape
        (TensorShape([13]), TensorShape([7]))
    """

    @property
    def _each(self):
        return super().event_shape[0]

    @property
    def context_shape(self) -> tuple[int, ...]:
        return self._video(super().context_shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self._latents

    def call(
        self, context: tf.Tensor, y: tf.Tensor | None = None, training: bool = False
    ) -> tfd.Distribution:
        height, width, channels = super().context_shape
        x = tf.cast(context, tf.float32)
        count, kinds, latents = _size(x) // channels, self.family.params_per_value, self._each
        frames = tf.reshape(x, [-1, height, width, count, channels])
        frames = tf.reshape(tf.transpose(frames, [0, 3, 1, 2, 4]), [-1, height, width, channels])
        params = tf.cast(self.network(frames, training=training), tf.float32)
        params = tf.reshape(params, [-1, count, kinds, latents])
        path = tf.transpose(params[..., self.static_dim :], [0, 2, 1, 3])
        both = tf.reshape(path, [-1, kinds, count * (latents - self.static_dim)])
        if self.static_dim:  # TFLite has no empty slices.
            static = tf.reduce_mean(params[..., : self.static_dim], 1)  # [B, kinds, S]
            both = tf.concat([static, both], -1)
        return self.family(tf.reshape(both, [-1, kinds * _size(both)]), 1)


@keras.saving.register_keras_serializable("zoo")
class FrameLikelihood(_OfFrames):
    """p(x | z) of a video: a network of the static latents and of the latents of one frame.

    Called on `z[..., B, S + K D]` for any number K of frames, it returns a distribution over videos
    `[H, W, K C]`.

    Args:
        network: A built `keras.Model` from `[s, z_t]`, `[B, S + D]`, to the parameters of a frame,
            `[B, H, W, family.num_params(C)]`.
        family: A `Family` of independent values.
        frames: T, the number of frames of the model's videos.
        static_dim: S, at least 0.

    Raises:
        ValueError: If the network or the family does not fit, or a number is out of range.

    Example:
        >>> network = zoo.networks.mlp_decoder(1 + 3, (8, 8, 1))
        >>> p = zoo.FrameLikelihood(network, zoo.Bernoulli(), frames=4, static_dim=1)
        >>> p(tf.zeros([5, 1 + 4 * 3])).mean().shape
        TensorShape([5, 8, 8, 4])
    """

    @property
    def _each(self):
        return super().context_shape[0]

    @property
    def context_shape(self) -> tuple[int, ...]:
        return self._latents

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self._video(super().event_shape)

    def call(
        self, context: tf.Tensor, y: tf.Tensor | None = None, training: bool = False
    ) -> tfd.Distribution:
        z = tf.cast(context, tf.float32)
        lead, dim = tf.shape(z)[:-1], self._each - self.static_dim
        count = (_size(z) - self.static_dim) // dim
        each = tf.reshape(z[..., self.static_dim :], tf.concat([lead, [count, dim]], 0))
        if self.static_dim:
            static = tf.expand_dims(z[..., : self.static_dim], -2)
            each = tf.concat([tf.repeat(static, count, -2), each], -1)
        each = tf.reshape(each, [-1, self._each])
        params = tf.cast(self.network(each, training=training), tf.float32)
        height, width, values = self.network.output_shape[1:]
        kinds = self.family.params_per_value
        params = tf.reshape(params, [-1, count, height, width, kinds, values // kinds])
        params = tf.transpose(params, [0, 2, 3, 4, 1, 5])
        params = tf.reshape(params, tf.concat([lead, [height, width, count * values]], 0))
        last = count * values if isinstance(count, int) else None
        params.set_shape([*z.shape[:-1], height, width, last])  # `tf.ensure_shape` has no TFLite.
        return self.family(params, 3)


@keras.saving.register_keras_serializable("zoo")
class MarkovPrior(Prior):
    """p(z) of a path of latents, and of static latents that are independent of it.

    p(s) = p(z_1) = N(0, I), and

        p(z_t | z_{t-1}, ..., z_{t-k}) = N(z_{t-1} + change, diag(scale^2)),

    where a network computes the change and the scale from the k latents before, for a chain of order k.
    In the first steps, z_1 takes the place of latents before it. A chain of order 2 can follow a motion
    of constant velocity.

    Args:
        network: A built `keras.Model` from the latents of `order` frames, `[B, order D]`, the oldest
            first, to the changes and raw scales of the next frame, `[B, 2 D]`.
        steps: T, the number of frames.
        static_dim: S, at least 0.

    Raises:
        ValueError: If the network does not fit, or a number is out of range.

    Example:
        >>> prior = zoo.MarkovPrior(zoo.networks.mlp(2 * 3, 2 * 3), steps=4)  # Order 2
        >>> prior().sample(5).shape
        TensorShape([5, 12])
    """

    def __init__(self, network: keras.Model, steps: int, static_dim: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        check_network(self, network, "the latents of the frames before", (1,))
        inputs, outputs = tuple(network.input_shape[1:]), tuple(network.output_shape[1:])
        if len(inputs) != 1 or len(outputs) != 1 or outputs[0] % 2 or inputs[0] % (outputs[0] // 2):
            raise ValueError(
                "The network of a MarkovPrior must take the latents of one or more frames, [B, order "
                "D], and return a change and a raw scale for each latent, [B, 2 D]. "
                f"Received: a network from {inputs} to {outputs}."
            )
        self.network = network
        self.steps = as_count(steps, "steps")
        self.static_dim = as_count(static_dim, "static_dim", 0)
        self.dim = outputs[0] // 2
        self.order = inputs[0] // self.dim
        self._family = DiagonalNormal()

    def call(self, y: tf.Tensor | None = None) -> "MarkovChain":
        return MarkovChain(self.transition, self.dim, self.steps, self.order, self.static_dim)

    def transition(self, history: tf.Tensor) -> tfd.Normal:
        """p(z_t | history): a normal over `[..., D]`, for a history `[..., order D]`."""
        rows = tf.reshape(history, [-1, self.order * self.dim])
        change = self._family(tf.cast(self.network(rows), tf.float32), 1).distribution
        loc, scale = rows[:, -self.dim :] + change.loc, change.scale
        if len(history.shape) > 2:
            shape = tf.concat([tf.shape(history)[:-1], [self.dim]], 0)
            loc, scale = tf.reshape(loc, shape), tf.reshape(scale, shape)
        return draws.Normal(loc, scale)

    def continued(
        self, path: tf.Tensor, steps: int | tf.Tensor, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The latents of the next frames after a path.

        Args:
            path: The latents of K frames, `[B, K, D]`, K at least 1.
            steps: Number of further frames, at least 1.
            seed: A `[2]` int tensor for draws; `None` for the mean of each step given the means
                before it.

        Returns:
            `[B, steps, D]`.
        """
        history = tf.concat([tf.repeat(path[:, :1], self.order, 1), path], 1)[:, -self.order :]
        history = tf.reshape(history, [-1, self.order, self.dim])

        def step(i, history):
            p = self.transition(tf.reshape(history, [-1, self.order * self.dim]))
            z = p.loc
            if seed is not None:
                noise = tf.random.experimental.stateless_fold_in(seed, i)
                z += p.scale * draws.normal(tf.shape(z), noise)
            kept = [history[:, 1:]] if self.order > 1 else []
            return tf.concat([*kept, z[:, None]], 1)

        def add(i, history, new):
            history = step(i, history)
            return i + 1, history, tf.concat([new, history[:, -1:]], 1)

        # The first step is outside of the loop: TFLite has no empty slices.
        history = step(0, history)
        _, _, new = tf.while_loop(
            lambda i, *_: i < steps,
            add,
            (1, history, history[:, -1:]),
            shape_invariants=(
                tf.TensorShape([]),
                history.shape,
                tf.TensorShape([None, None, self.dim]),
            ),
        )
        return new


class MarkovChain(VectorDistribution):
    """The distribution that `MarkovPrior` returns, over `[s, z_1, ..., z_T]`.

    Args:
        transition: Function from a history `[..., order D]` to the normal of the next latents.
        dim: D.
        steps: T.
        order: Number of frames in a history.
        static_dim: S.
    """

    def __init__(
        self,
        transition: Callable[[tf.Tensor], tfd.Normal],
        dim: int,
        steps: int,
        order: int,
        static_dim: int = 0,
        name: str = "MarkovChain",
    ):
        parameters = dict(locals())
        self.transition, self.dim, self.steps = transition, dim, steps
        self.order, self.static_dim = order, static_dim
        super().__init__(parameters, static_dim + steps * dim, reparameterized=True)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        names = ("transition", "dim", "steps", "order", "static_dim")
        return {name: tfp.util.ParameterProperties(event_ndims=None) for name in names}

    def given(self, z: tf.Tensor) -> tfd.Independent:
        """The normal of each latent, given the latents before it in `z[..., S + T D]`.

        The density of the path is that of this distribution at `z`.
        """
        first = self.static_dim + self.dim
        loc, scale = tf.zeros_like(z[..., :first]), tf.ones_like(z[..., :first])
        if self.steps > 1:
            path = tf.stack(tf.split(z[..., self.static_dim :], self.steps, -1), -2)
            padded = tf.concat([path[..., :1, :]] * (self.order - 1) + [path], -2)
            windows = [padded[..., i : i + self.steps - 1, :] for i in range(self.order)]
            p = self.transition(tf.concat(windows, -1))
            flat = tf.concat([tf.shape(z)[:-1], [(self.steps - 1) * self.dim]], 0)
            loc = tf.concat([loc, tf.reshape(p.loc, flat)], -1)
            scale = tf.concat([scale, tf.reshape(p.scale, flat)], -1)
        loc, scale = (tf.ensure_shape(t, z.shape) for t in (loc, scale))
        return tfd.Independent(draws.Normal(loc, scale), 1)

    def kl_from(self, q: tfd.Independent, z: tf.Tensor) -> tf.Tensor:
        """An unbiased estimate of KL(q || p) at draws `z` of q: `[..., B]`.

            sum_t KL(q(z_t) || p(z_t | z_{t-1}, ..., z_{t-k}))

        Each term is exact given the latents before it.

        Args:
            q: Independent normals, with batch shape `[B]`.
            z: Draws of q, `[..., B, S + T D]`.
        """
        return tfd.kl_divergence(q, self.given(z))

    def _log_prob(self, value):
        return self.given(value).log_prob(value)

    def _sample_n(self, n, seed=None):
        size = self.event_shape[-1]
        noise = draws.normal([n, size], tfp.random.sanitize_seed(seed))
        static, *path = tf.split(noise, [self.static_dim, *[self.dim] * self.steps], -1)
        for t in range(1, self.steps):
            before = ([path[0]] * self.order + path[:t])[-self.order :]
            p = self.transition(tf.concat(before, -1))
            path[t] = p.loc + p.scale * path[t]
        return tf.concat([static, *path], -1)
