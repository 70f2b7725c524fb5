"""Normalizing flows as priors: RealNVP and masked autoregressive flows."""

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import with_article
from zoo.distributions.flow_networks import MADE, DenseLayers, check_hidden, check_steps
from zoo.distributions.part import Part
from zoo.distributions.priors import Prior
from zoo.draws import Normal

tfd, tfb = tfp.distributions, tfp.bijectors


class FlowPrior(Prior):
    """N(0, I), transformed by a learned flow: the base class of the flow priors.

    The outputs of new networks are zero, so the prior starts as N(0, I). A tanh bounds the log
    scales of each step by +-max_log_scale, so that they stay finite.
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
        check_steps(steps)
        check_hidden(hidden)
        if dim < 2:
            raise ValueError(
                f"{with_article(type(self).__name__, True)} needs at least two dimensions, so "
                f"that one can depend on another. Received: dim={dim}."
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

        def at(step):
            def shift_and_log_scale(x, *_, **__):
                shift, raw = self._shift_and_raw(self.networks[step], x)
                return shift, self.max_log_scale * tf.tanh(raw / self.max_log_scale)

            return self._bijector(step, shift_and_log_scale)

        return tfb.Chain([at(step) for step in range(self.steps)])

    def _shift_and_raw(self, network, x):
        return network(x)

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        base = tfd.Independent(Normal(tf.zeros(self.dim), 1.0), 1)
        return tfd.TransformedDistribution(base, self.bijector)


@keras.saving.register_keras_serializable("zoo")
class RealNVPPrior(FlowPrior):
    """N(0, I), transformed by affine couplings: draws and densities take one pass each.

    Dinh et al., "Density estimation using Real NVP", 2017, eqs. 4 to 8. A coupling keeps one half
    of the values and computes from it the shift and the scale of the other half; the halves are
    swapped from step to step. With (shift, s) = network(a), b = b' e^s + shift and
    log |det| = sum s. https://arxiv.org/abs/1605.08803

    Args:
        dim: D of the latents, at least 2.
        steps: Number of couplings; every value changes from 2 couplings on.
        hidden: Units of the hidden layers of each coupling's network.
        max_log_scale: Bound of |s|, > 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> zoo.RealNVPPrior(2)().log_prob([0.0, 0.0])  # -log(2 pi), before training
    """

    def _network(self, step):
        kept = self._kept(step)
        return DenseLayers(kept, 2 * (self.dim - kept), self.hidden)

    def _kept(self, step):
        """Number of values that the coupling keeps: the first at even steps, the last at odd steps."""
        return self.dim - self.dim // 2 if step % 2 else self.dim // 2

    def _shift_and_raw(self, network, x):
        return tf.split(network(x), 2, -1)

    def _bijector(self, step, shift_and_log_scale):
        kept = self._kept(step)
        return tfb.RealNVP(-kept if step % 2 else kept, shift_and_log_scale_fn=shift_and_log_scale)


@keras.saving.register_keras_serializable("zoo")
class MAFPrior(FlowPrior):
    """N(0, I), transformed by masked autoregressive flow: densities take one pass, draws D passes.

    Papamakarios et al., "Masked Autoregressive Flow for Density Estimation", 2017, eqs. 2 to 5: in
    each step z_i = shift_i + u_i e^(s_i), where shift_i and s_i depend on the values before z_i
    (`MADE`). The order of the values is reversed from step to step.
    https://arxiv.org/abs/1705.07057

    Args:
        dim: D of the latents, at least 2.
        steps: Number of steps.
        hidden: Units of the hidden layers of each step's network.
        max_log_scale: Bound of |s|, > 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> prior = zoo.MAFPrior(2)
        >>> prior().sample(7).shape
        TensorShape([7, 2])
    """

    def _network(self, step):
        return MADE(self.dim, 2, self.hidden, reverse=step % 2 == 1)

    def _bijector(self, step, shift_and_log_scale):
        return tfb.MaskedAutoregressiveFlow(shift_and_log_scale)
