"""Normalizing flows as parts: posteriors (IAF, planar) and priors (RealNVP, MAF).

A flow sends a simple variable through invertible steps whose Jacobian determinants are cheap:
log p(f(z)) = log p(z) - log |det df/dz|. All of it computes in float32.
"""

import itertools
import math
import weakref
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import look_up
from zoo.distributions import (
    DiagonalNormal,
    Family,
    FullCovarianceNormal,
    MixturePrior,
    Part,
    Prior,
    StandardNormal,
    VampPrior,
)
from zoo.draws import Normal

tfd, tfb = tfp.distributions, tfp.bijectors


# Networks -------------------------------------------------------------------------------------


class DenseLayers(Part):
    """Dense layers over the last axis, for tensors of any rank; the last layer starts at zero.

    Unlike `zoo.networks.mlp` it takes leading sample axes as they come, and stays in float32.

    Args:
        inputs: Size of the last axis.
        outputs: Size of the last axis of the result.
        hidden: Units of the hidden layers, at least one layer.
        context: Size of a second input's last axis, which reaches the first layer; 0 for none.
        masks: What to multiply each layer's kernel by, or `None`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        context: int = 0,
        masks: Sequence[np.ndarray] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.inputs = inputs
        self.outputs = outputs
        self.hidden = tuple(hidden)
        self.context = context
        self.masks = masks
        sizes = [inputs, *self.hidden, outputs]
        last = len(self.hidden)
        self.kernels = [
            self.add_weight(
                name=f"kernel_{i}",
                shape=(sizes[i], sizes[i + 1]),
                initializer="zeros" if i == last else "glorot_uniform",
            )
            for i in range(last + 1)
        ]
        self.biases = [
            self.add_weight(name=f"bias_{i}", shape=(sizes[i + 1],), initializer="zeros")
            for i in range(last + 1)
        ]
        if context:
            self.context_kernel = self.add_weight(
                name="context_kernel", shape=(context, sizes[1]), initializer="glorot_uniform"
            )

    def call(self, x, context=None):
        h = x
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            kernel = tf.convert_to_tensor(kernel)
            if self.masks is not None:
                kernel *= self.masks[i]
            h = _dense(h, kernel) + tf.convert_to_tensor(bias)
            if i == 0 and self.context:
                h += _dense(context, tf.convert_to_tensor(self.context_kernel))
            if i < len(self.hidden):
                h = tf.nn.elu(h)
        return h


def _dense(h, kernel):
    return tf.einsum("...i,ij->...j", h, kernel)


@keras.saving.register_keras_serializable("zoo")
class MADE(Part):
    """A masked network: what it says of value i depends on the values before i alone.

    Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", 2015, section 4, with
    hidden degrees that take turns instead of being drawn. https://arxiv.org/abs/1502.03509

    Called on `x[..., D]` (and `context[..., C]`), it returns a tuple of `params` tensors
    `[..., D]`, all zero at first. With a context some hidden units (of degree 0) see nothing but
    it, so that it reaches what is said of the first value too.

    Args:
        dim: D.
        params: Number of parameters of each value.
        hidden: Units of the hidden layers, at least one layer.
        context: C, on all of which every output may depend; 0 for none.
        reverse: Whether the values are ordered from the last to the first.

    Example:
        >>> shift, log_scale = zoo.flows.MADE(3, hidden=(16,))(tf.ones([5, 3]))
        >>> shift.shape
        TensorShape([5, 3])
    """

    def __init__(
        self,
        dim: int,
        params: int = 2,
        hidden: Sequence[int] = (64,),
        context: int = 0,
        reverse: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_hidden(hidden)
        self.dim = dim
        self.params = params
        self.hidden = tuple(hidden)
        self.context = context
        self.reverse = reverse
        order = np.arange(1, dim + 1)[:: -1 if reverse else 1]
        lowest = 0 if context else 1
        degrees = [
            order,
            *(lowest + np.arange(units) % max(dim - lowest, 1) for units in self.hidden),
        ]
        masks = [b >= a[:, None] for a, b in itertools.pairwise(degrees)]
        masks.append(np.tile(order, params) > degrees[-1][:, None])
        masks = [mask.astype(np.float32) for mask in masks]
        self.network = DenseLayers(dim, params * dim, self.hidden, context, masks)

    def call(self, x, context=None):
        return tuple(tf.split(self.network(x, context), self.params, -1))


# Posteriors -----------------------------------------------------------------------------------


class FlowNormal(tfd.Distribution):
    """N(loc, diag(scale^2)), sent through a flow: what families of flows hand out.

    What it drew it knows the density of without inverting the flow: `log_prob` of the very tensor
    that `sample` returned is exact and costs nothing. For other values it inverts the flow, if it
    can. `mean` is the base's mean, sent through the flow: a point to stand for the distribution,
    whose mean itself has no formula.

    Args:
        loc: `[..., D]`.
        scale: `[..., D]`, > 0.
        flow: From `z[..., D]` to `(f(z)[..., D], log |det df/dz| [...])`.
        inverse: From `f(z)` to z and the same log-determinant, or `None`.
    """

    def __init__(
        self, loc, scale, flow: Callable, inverse: Callable | None = None, name="FlowNormal"
    ):
        parameters = dict(locals())
        self.loc = tf.convert_to_tensor(loc)
        self.scale = tf.convert_to_tensor(scale)
        self.flow = flow
        self.inverse = inverse
        self._drawn = []
        super().__init__(
            dtype=self.loc.dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {
            "loc": tfp.util.ParameterProperties(event_ndims=1),
            "scale": tfp.util.ParameterProperties(event_ndims=1),
            "flow": tfp.util.ParameterProperties(event_ndims=None),
            "inverse": tfp.util.ParameterProperties(event_ndims=None),
        }

    def _event_shape(self):
        return self.loc.shape[-1:]

    def _event_shape_tensor(self):
        return tf.shape(self.loc)[-1:]

    @property
    def base(self) -> tfd.Distribution:
        return tfd.Independent(Normal(self.loc, self.scale), 1)

    def _call_sample_n(self, sample_shape, seed, **kwargs):
        # Not `_sample_n`, whose result is reshaped: a draw is known again by being the same tensor.
        base = self.base
        start = base.sample(sample_shape, seed=seed)
        z, log_det = self.flow(start)
        log_prob = base.log_prob(start) - log_det
        self._drawn = [pair for pair in self._drawn if pair[0]() is not None]
        self._drawn.append((weakref.ref(z), log_prob))
        return z

    def _log_prob(self, value):
        for drawn, log_prob in self._drawn:
            if drawn() is value:
                return log_prob
        if self.inverse is None:
            raise ValueError(
                "This flow has no inverse to evaluate densities with: `log_prob` takes what "
                "`sample` of the same distribution returned, as it is. Received: another tensor."
            )
        start, log_det = self.inverse(value)
        return self.base.log_prob(start) - log_det

    def _mean(self):
        return self.flow(self.loc)[0]


@keras.saving.register_keras_serializable("zoo")
class InverseAutoregressiveNormal(Family):
    """A diagonal normal, sent through steps of inverse autoregressive flow.

    Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow", 2016,
    algorithm 1. With [m, s] = MADE(z, h) and g = sigmoid(s + gate_bias), a step
    is

        z <- g z + (1 - g) m,    log |det| = sum_i log g_i,

    and the order of the values is reversed from step to step. The parameters are the means, the raw
    scales (scale = min_scale + softplus(raw)) and the context h. At the start m = s = 0, and the
    posterior is a diagonal normal. https://arxiv.org/abs/1606.04934

    Draws and their densities take one pass through each step's network; the density of other
    values takes D, as each value in turn is recovered from those before it.

    Args:
        dim: D of the vectors.
        steps: Number of steps, at least 1.
        hidden: Units of the hidden layers of each step's network.
        context: Number of values of h, which the encoder puts out.
        gate_bias: Added to s, so that the gates start open: "+1 or +2" in the paper.
        min_scale: Lower bound of the base's standard deviations, > 0.

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_steps(steps)
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

    def num_params(self, dim):
        _check_dim(self, dim)
        return 2 * dim + self.context

    def call(self, params, event_ndims):
        _check_params(self, params, event_ndims)
        loc, raw, h = tf.split(params, [self.dim, self.dim, self.context], -1)
        scale = self.min_scale + tf.nn.softplus(raw)
        return FlowNormal(loc, scale, lambda z: self._forward(z, h), lambda z: self._inverse(z, h))

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
        total = 0.0
        for network in reversed(self.networks):
            result = z

            def another(i, before, network=network, result=result):
                # After i rounds the first i values, in the network's order, are right.
                shift, gate, _ = self._gate(network, before, h)
                return i + 1, (result - shift) / gate

            start = result + 0.0 * h[..., :1]  # Of the shape that broadcasting leads to.
            _, z = tf.while_loop(
                lambda i, _: i < self.dim, another, (0, start), maximum_iterations=self.dim
            )
            total += self._gate(network, z, h)[2]
        return z, total


@keras.saving.register_keras_serializable("zoo")
class PlanarNormal(Family):
    """A diagonal normal, sent through planar steps whose parameters the encoder puts out.

    Rezende and Mohamed, "Variational Inference with Normalizing Flows", 2015, eqs. 10 to 12, with
    h = tanh, made invertible as in appendix A.1:

        z <- z + u' tanh(w^T z + b),    log |det| = log(1 + u'^T w (1 - tanh^2(w^T z + b))),
        u' = u + (m(w^T u) - w^T u) w / |w|^2,    m(a) = -1 + log(1 + e^a).

    The parameters are the means, the raw scales (scale = min_scale + softplus(raw)), and u, w and b
    of each step. The density is known of its own draws only. https://arxiv.org/abs/1505.05770

    Args:
        dim: D of the vectors.
        steps: Number of steps, at least 1; 10 to 80 in the paper, for D = 40.
        min_scale: Lower bound of the base's standard deviations, > 0.
    """

    has_density_everywhere = False

    def __init__(self, dim: int, steps: int = 8, min_scale: float = 1e-4, **kwargs):
        super().__init__(**kwargs)
        _check_steps(steps)
        if min_scale <= 0:
            raise ValueError(f"`min_scale` must be positive. Received: min_scale={min_scale}.")
        self.dim = dim
        self.steps = steps
        self.min_scale = min_scale

    def num_params(self, dim):
        _check_dim(self, dim)
        return 2 * dim + self.steps * (2 * dim + 1)

    def call(self, params, event_ndims):
        _check_params(self, params, event_ndims)
        loc, raw, *steps = tf.split(
            params, [self.dim, self.dim] + self.steps * [self.dim, self.dim, 1], -1
        )
        steps = [
            (_invertible(u, w), w, b)
            for u, w, b in zip(steps[::3], steps[1::3], steps[2::3], strict=True)
        ]
        return FlowNormal(
            loc, self.min_scale + tf.nn.softplus(raw), lambda z: _planar_steps(z, steps)
        )


def _invertible(u, w):
    """u' with u'^T w > -1, which is what makes a planar step invertible."""
    product = tf.reduce_sum(u * w, -1, keepdims=True)
    # Neither bound is met but where float32 would give a determinant, or a length, of zero.
    wanted = -1 + tf.maximum(tf.nn.softplus(product), 1e-6)
    square = tf.maximum(tf.reduce_sum(w**2, -1, keepdims=True), 1e-12)
    return u + (wanted - product) * w / square


def _planar_steps(z, steps):
    total = 0.0
    for u, w, b in steps:
        h = tf.tanh(tf.reduce_sum(w * z, -1, keepdims=True) + b)
        slope = (1 - h**2)[..., 0] * tf.reduce_sum(u * w, -1)
        total += tf.math.log1p(tf.maximum(slope, -1 + 1e-6))
        z += u * h
    return z, total


# Priors ---------------------------------------------------------------------------------------


class FlowPrior(Prior):
    """N(0, I), sent through a flow that is learned: a base for the two below.

    The networks start as zero, so that the prior starts as N(0, I); log scales stay within
    +-max_log_scale at each step (a tanh), so that none can run away.
    """

    def __init__(
        self,
        dim: int,
        steps: int = 4,
        hidden: Sequence[int] = (64, 64),
        max_log_scale: float = 2.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_steps(steps)
        _check_hidden(hidden)
        if dim < 2:
            raise ValueError(
                f"A {type(self).__name__} needs at least two dimensions, of which one can depend "
                f"on another. Received: dim={dim}."
            )
        if not 0 < max_log_scale < math.inf:
            raise ValueError(
                f"`max_log_scale` must be above 0 and finite. Received: {max_log_scale}."
            )
        self.dim = dim
        self.steps = steps
        self.hidden = tuple(hidden)
        self.max_log_scale = max_log_scale
        self.networks = [self._network(step) for step in range(steps)]

    def _network(self, step: int) -> Part:
        raise NotImplementedError

    def _bijector(self, step: int, shift_and_log_scale: Callable) -> tfb.Bijector:
        raise NotImplementedError

    @property
    def bijector(self) -> tfb.Bijector:
        """The flow, from N(0, I) to z."""

        def of(step):
            def shift_and_log_scale(x, *_, **__):
                shift, raw = self._shift_and_raw(self.networks[step], x)
                return shift, self.max_log_scale * tf.tanh(raw / self.max_log_scale)

            return self._bijector(step, shift_and_log_scale)

        return tfb.Chain([of(step) for step in range(self.steps)])

    def _shift_and_raw(self, network, x):
        return network(x)

    def call(self, y=None):
        base = tfd.Independent(Normal(tf.zeros(self.dim), 1.0), 1)
        return tfd.TransformedDistribution(base, self.bijector)


@keras.saving.register_keras_serializable("zoo")
class RealNVPPrior(FlowPrior):
    """N(0, I), sent through affine couplings: both draws and densities take one pass.

    Dinh et al., "Density estimation using Real NVP", 2017, eqs. 4 to 8. A coupling leaves one half
    of the values as they are and lets them scale and shift the other half; the halves change places
    from step to step. With (shift, s) = network(a), b = b' e^s + shift and log |det| = sum s.
    The log-determinant counts once for a vector, not for each of its values.
    https://arxiv.org/abs/1605.08803

    Args:
        dim: D of the latents, at least 2.
        steps: Number of couplings; at least 2 for every value to be moved.
        hidden: Units of the hidden layers of each coupling's network.
        max_log_scale: Bound of |s|, > 0.

    Example:
        >>> zoo.RealNVPPrior(2)().log_prob([0.0, 0.0])  # -log(2 pi), before training
    """

    def _network(self, step):
        kept = self._kept(step)
        return DenseLayers(kept, 2 * (self.dim - kept), self.hidden)

    def _kept(self, step):
        """How many values the coupling leaves as they are: first the first ones, then the last."""
        return self.dim - self.dim // 2 if step % 2 else self.dim // 2

    def _shift_and_raw(self, network, x):
        return tf.split(network(x), 2, -1)

    def _bijector(self, step, shift_and_log_scale):
        kept = self._kept(step)
        return tfb.RealNVP(-kept if step % 2 else kept, shift_and_log_scale_fn=shift_and_log_scale)


@keras.saving.register_keras_serializable("zoo")
class MAFPrior(FlowPrior):
    """N(0, I), sent through masked autoregressive flow: densities take one pass, draws D.

    Papamakarios et al., "Masked Autoregressive Flow for Density Estimation", 2017, eqs. 2 to 5: in
    each step z_i = shift_i + u_i e^(s_i), where shift_i and s_i depend on the values before z_i
    (`MADE`). The order of the values is reversed from step to step.
    https://arxiv.org/abs/1705.07057

    Args:
        dim: D of the latents, at least 2.
        steps: Number of steps.
        hidden: Units of the hidden layers of each step's network.
        max_log_scale: Bound of |s|, > 0.
    """

    def _network(self, step):
        return MADE(self.dim, 2, self.hidden, reverse=step % 2 == 1)

    def _bijector(self, step, shift_and_log_scale):
        return tfb.MaskedAutoregressiveFlow(shift_and_log_scale)


# By name --------------------------------------------------------------------------------------


def posterior_family(name: str, dim: int, steps: int = 0, hidden: Sequence[int] = ()) -> Family:
    """The family of q(z | x) of that name, as presets and command lines call it.

    Args:
        name: "normal" (diagonal), "full_covariance", "iaf" or "planar".
        dim: D of the latents.
        steps: Of "iaf" and "planar"; 0 for their own default.
        hidden: Hidden units in "iaf"; () for its own default.

    Raises:
        ValueError: For a name that there is not, or a size that the family does not have.
    """
    families = {
        "normal": (lambda: DiagonalNormal(), ()),
        "full_covariance": (lambda: FullCovarianceNormal(), ()),
        "iaf": (lambda **sizes: InverseAutoregressiveNormal(dim, **sizes), ("steps", "hidden")),
        "planar": (lambda **sizes: PlanarNormal(dim, **sizes), ("steps",)),
    }
    return _made(families, name, "posterior", steps=steps, hidden=hidden)


def latent_prior(
    name: str,
    dim: int,
    image_shape: Sequence[int],
    steps: int = 0,
    hidden: Sequence[int] = (),
    components: int = 0,
) -> Prior:
    """The prior of that name, as presets and command lines call it.

    Args:
        name: "normal" (standard), "mixture", "vamp", "realnvp" or "maf".
        dim: D of the latents.
        image_shape: Height, width, channels, for the pseudo-inputs of "vamp".
        steps: Of "realnvp" and "maf"; 0 for their own default.
        hidden: Hidden units in "realnvp" and "maf"; () for their own default.
        components: Of "mixture" and "vamp"; 0 for their own default.

    Raises:
        ValueError: For a name that there is not, or a size that the prior does not have.
    """
    priors = {
        "normal": (lambda: StandardNormal(dim), ()),
        "mixture": (lambda **sizes: MixturePrior(dim, **sizes), ("components",)),
        "vamp": (lambda **sizes: VampPrior(image_shape, **sizes), ("components",)),
        "realnvp": (lambda **sizes: RealNVPPrior(dim, **sizes), ("steps", "hidden")),
        "maf": (lambda **sizes: MAFPrior(dim, **sizes), ("steps", "hidden")),
    }
    return _made(priors, name, "prior", steps=steps, hidden=hidden, components=components)


def _made(table, name, what, **sizes):
    make, takes = look_up(table, name, what)
    given = {key: value for key, value in sizes.items() if value}
    if unused := [f"{what}_{key}={value}" for key, value in given.items() if key not in takes]:
        raise ValueError(
            f"The {what} '{name}' has no such size: leave it out, or choose another {what}. "
            f"Received: {', '.join(unused)}."
        )
    return make(**given)


def _check_hidden(hidden):
    if not len(hidden) or min(hidden) < 1:
        raise ValueError(
            "A flow's networks need at least one hidden layer, of at least one unit. Received: "
            f"hidden={tuple(hidden)}."
        )


def _check_steps(steps):
    if steps < 1:
        raise ValueError(f"A flow needs at least one step. Received: steps={steps}.")


def _check_dim(family, dim):
    if dim != family.dim:
        raise ValueError(
            f"This {type(family).__name__} is over vectors of {family.dim} values. "
            f"Received: dim={dim}."
        )


def _check_params(family, params, event_ndims):
    wanted = family.num_params(family.dim)
    if event_ndims != 1 or params.shape[-1] != wanted:
        raise ValueError(
            f"This {type(family).__name__} takes {wanted} parameters on one axis "
            f"(`num_params({family.dim})`). Received: parameters of shape {tuple(params.shape)} "
            f"for events of {event_ndims} axes."
        )
