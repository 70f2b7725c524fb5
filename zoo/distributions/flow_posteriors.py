"""Normalizing flows as posteriors: IAF and planar flows."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.distributions.families import Family
from zoo.distributions.flow_networks import MADE, check_steps
from zoo.draws import Normal

tfd, tfb = tfp.distributions, tfp.bijectors


class Flow(tfb.Bijector):
    """A bijector over vectors `[..., D]` from a function that also returns the log-determinant.

    TFP's bijectors remember the input of each tensor that `forward` returned. `Flow` keeps the
    log-determinant of the latest forward pass as well, so that the density of a fresh draw takes
    neither an inversion nor a second pass through the networks.

    Args:
        steps: From `z[..., D]` to `(f(z)[..., D], log |det df/dz| [...])`.
        inverse_steps: From `f(z)` to z, or `None` if the flow has no inverse.
    """

    def __init__(self, steps: Callable, inverse_steps: Callable | None = None, name: str = "flow"):
        parameters = dict(locals())
        self._steps, self._inverse_steps = steps, inverse_steps
        self._latest_input = self._latest_log_det = None
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def _forward(self, x):
        y, log_det = self._steps(x)
        self._latest_input, self._latest_log_det = x, log_det
        return y

    def _forward_log_det_jacobian(self, x):
        if x is not self._latest_input:
            self._forward(x)
        return self._latest_log_det

    def _inverse(self, y):
        if self._inverse_steps is None:
            raise ValueError(
                "This flow has no inverse, so it has a density only at its own draws: pass the "
                "tensor that `sample` of the same distribution returned. Received: another tensor."
            )
        return self._inverse_steps(y)


class FlowDistribution(tfd.TransformedDistribution):
    """A distribution, transformed by a flow without a batch shape of its own.

    `log_prob` of the tensor that `sample` returned needs no inverse of the flow. `mean` is the
    base's mean, transformed by the flow: a representative point, because the mean has no formula.
    """

    def _call_sample_n(self, sample_shape, seed, **kwargs):
        # If the batch size is unknown, TFP would wrap the base to broadcast it.
        return self.bijector.forward(self.distribution.sample(sample_shape, seed=seed))

    def _mean(self):
        return self.bijector.forward(self.distribution.mean())


@keras.saving.register_keras_serializable("zoo")
class InverseAutoregressiveNormal(Family):
    """A diagonal normal, transformed by steps of inverse autoregressive flow.

    Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow", 2016,
    algorithm 1. With [m, s'] = MADE(z, h), s = s' + gate_bias and g = sigmoid(s), a step is

        z <- g z + (1 - g) m,    log |det| = sum_i log g_i.

    The order of the values is reversed from step to step. The parameters are the means, the raw
    scales (scale = min_scale + softplus(raw)) and the context h. In a new network m = s' = 0, so
    the posterior starts as a diagonal normal. https://arxiv.org/abs/1606.04934

    Draws and their densities take one pass through each step's network. The density of other values
    takes D passes, because the inverse computes one value after the other.

    Args:
        dim: D of the vectors.
        steps: Number of steps, at least 1.
        hidden: Units of the hidden layers of each step's network.
        context: Number of values of h, which the encoder returns; at least 1.
        gate_bias: Added to s', so that the gates start open: "+1 or +2" in the paper.
        min_scale: Lower bound of the base's standard deviations, > 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> family = zoo.InverseAutoregressiveNormal(3)
        >>> q = zoo.Conditional(zoo.networks.mlp(4, family.num_params(3)), family)(tf.zeros([2, 4]))
        >>> z = q.sample(5)
        >>> q.log_prob(z).shape
        TensorShape([5, 2])
    """

    def __init__(
        self,
        dim: int,
        steps: int = 2,
        hidden: Sequence[int] = (64,),
        context: int = 32,
        gate_bias: float = 1.5,
        min_scale: float = 1e-4,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_steps(steps)
        if context < 1 or min_scale <= 0:
            raise ValueError(
                "`context` must be at least 1, and `min_scale` positive. Received: "
                f"context={context}, min_scale={min_scale}."
            )
        self.dim = dim
        self.steps = steps
        self.hidden = tuple(hidden)
        self.context = context
        self.gate_bias = gate_bias
        self.min_scale = min_scale
        self.networks = [
            MADE(dim, 2, hidden, context, reverse=step % 2 == 1) for step in range(steps)
        ]

    def num_params(self, dim: int) -> int:
        _check_dim(self, dim)
        return 2 * dim + self.context

    def event_of(self, params: tuple[int, ...]) -> tuple[int, ...]:
        _check_params(self, params)
        return (self.dim,)

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        _check_params(self, tuple(params.shape[len(params.shape) - event_ndims :]))
        loc, raw, h = tf.split(params, [self.dim, self.dim, self.context], -1)
        scale = self.min_scale + tf.nn.softplus(raw)
        flow = Flow(lambda z: self._forward(z, h), lambda z: self._inverse(z, h))
        return FlowDistribution(tfd.Independent(Normal(loc, scale), 1), flow)

    def _gate(self, network, z, h):
        m, s = network(z, h)
        s += self.gate_bias
        # 1 - sigmoid(s) is sigmoid(-s), which does not cancel.
        return m * tf.sigmoid(-s), tf.sigmoid(s), tf.reduce_sum(tf.math.log_sigmoid(s), -1)

    def _forward(self, z, h):
        total = 0.0
        for network in self.networks:
            shift, gate, log_det = self._gate(network, z, h)
            z = gate * z + shift
            total += log_det
        return z, total

    def _inverse(self, z, h):
        for network in reversed(self.networks):
            result = z

            def next_value(i, before, network=network, result=result):
                # After i rounds the first i values, in the network's order, are final.
                shift, gate, _ = self._gate(network, before, h)
                return i + 1, (result - shift) / gate

            start = result + 0.0 * h[..., :1]  # Broadcasts to the shape of the result.
            _, z = tf.while_loop(
                lambda i, _: i < self.dim, next_value, (0, start), maximum_iterations=self.dim
            )
        return z


@keras.saving.register_keras_serializable("zoo")
class PlanarNormal(Family):
    """A diagonal normal, transformed by planar steps with parameters from the encoder.

    Rezende and Mohamed, "Variational Inference with Normalizing Flows", 2015, eqs. 10 to 12, with
    h = tanh, made invertible as in appendix A.1:

        z <- z + u' tanh(w^T z + b),    log |det| = log(1 + u'^T w (1 - tanh^2(w^T z + b))),
        u' = u + (m(w^T u) - w^T u) w / |w|^2,    m(a) = -1 + log(1 + e^a).

    The parameters are the means, the raw scales (scale = min_scale + softplus(raw)), then u, w and
    b of each step. The density is known only at the distribution's own draws.
    https://arxiv.org/abs/1505.05770

    Args:
        dim: D of the vectors, at least 2. With D = 1, the length of u' - u is proportional to
            1 / |w| and has no mean over the weights of a new network, which returns w near 0 for
            some images. The rates of these images are 10^5 nats and more.
        steps: Number of steps, at least 1; 10 to 80 in the paper, for D = 40.
        min_scale: Lower bound of the base's standard deviations, > 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> family = zoo.PlanarNormal(3)
        >>> q = family(tf.ones([2, family.num_params(3)]), event_ndims=1)
        >>> q.log_prob(q.sample(5)).shape
        TensorShape([5, 2])
    """

    has_density_everywhere = False

    def __init__(self, dim: int, steps: int = 8, min_scale: float = 1e-4, **kwargs: Any):
        super().__init__(**kwargs)
        check_steps(steps)
        if dim < 2:
            raise ValueError(
                "A PlanarNormal needs at least two dimensions: in one dimension, a new network "
                "moves some latents by thousands. Choose an InverseAutoregressiveNormal, or more "
                f"latents. Received: dim={dim}."
            )
        if min_scale <= 0:
            raise ValueError(f"`min_scale` must be positive. Received: min_scale={min_scale}.")
        self.dim = dim
        self.steps = steps
        self.min_scale = min_scale

    def num_params(self, dim: int) -> int:
        _check_dim(self, dim)
        return 2 * dim + self.steps * (2 * dim + 1)

    def event_of(self, params: tuple[int, ...]) -> tuple[int, ...]:
        _check_params(self, params)
        return (self.dim,)

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        _check_params(self, tuple(params.shape[len(params.shape) - event_ndims :]))
        loc, raw, *steps = tf.split(
            params, [self.dim, self.dim] + self.steps * [self.dim, self.dim, 1], -1
        )
        steps = [
            (_invertible(u, w), w, b)
            for u, w, b in zip(steps[::3], steps[1::3], steps[2::3], strict=True)
        ]
        base = tfd.Independent(Normal(loc, self.min_scale + tf.nn.softplus(raw)), 1)
        return FlowDistribution(base, Flow(lambda z: _planar_steps(z, steps)))


def _invertible(u, w):
    """u' with u'^T w > -1, which makes a planar step invertible."""
    product = tf.reduce_sum(u * w, -1, keepdims=True)
    # Each bound applies only where float32 would round a determinant or a length to zero.
    target = -1 + tf.maximum(tf.nn.softplus(product), 1e-6)
    square = tf.maximum(tf.reduce_sum(w**2, -1, keepdims=True), 1e-12)
    return u + (target - product) * w / square


def _planar_steps(z, steps):
    total = 0.0
    for u, w, b in steps:
        h = tf.tanh(tf.reduce_sum(w * z, -1, keepdims=True) + b)
        slope = (1 - h**2)[..., 0] * tf.reduce_sum(u * w, -1)
        total += tf.math.log1p(tf.maximum(slope, -1 + 1e-6))
        z += u * h
    return z, total


def _check_dim(family, dim):
    if dim != family.dim:
        raise ValueError(
            f"This {type(family).__name__} is over vectors of {family.dim} values. "
            f"Received: dim={dim}."
        )


def _check_params(family, params):
    expected = family.num_params(family.dim)
    if params != (expected,):
        raise ValueError(
            f"This {type(family).__name__} takes {expected} parameters on one axis "
            f"(`num_params({family.dim})`). Received: parameters of shape {params} "
            f"for events of {len(params)} axes."
        )
