"""Adversarial losses: functions from a discriminator's logits `[B]` to losses `[B]`.

Logits are high for real examples. A loss has three parts: the discriminator's loss for real
examples, the discriminator's loss for fake examples, and the generator's loss for fake examples.
Log probabilities are computed with the softplus of a logit, so that log 0 cannot occur and clipping
is not needed.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws
from zoo.config import PlainObject, look_up


class AdversarialLoss(PlainObject):
    """Base of all adversarial losses. Instances are plain objects that a config can rebuild."""

    def real(self, logits: tf.Tensor, seed: Any = None) -> tf.Tensor:
        """The discriminator's loss `[B]` for the logits `[B]` of real examples.

        Args:
            logits: High for examples that the discriminator classifies as real.
            seed: Seed of the label noise, for losses with label noise: an int, a `[2]` int tensor
                or `None`.
        """
        raise NotImplementedError

    def fake(self, logits: tf.Tensor, seed: Any = None) -> tf.Tensor:
        """The discriminator's loss `[B]` for the logits `[B]` of fake examples. See `real`."""
        raise NotImplementedError

    def generator(self, logits: tf.Tensor) -> tf.Tensor:
        """The generator's loss `[B]` for the logits `[B]` of fake examples."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("zoo")
class Minimax(AdversarialLoss):
    """The zero-sum game: the generator minimises E log D(x) + E log(1 - D(G(z))).

    Goodfellow et al., "Generative Adversarial Nets", 2014, eq. 1. With D = sigmoid(logit), the
    gradient of the generator's loss with respect to a logit is -D. The gradient vanishes
    ("saturates") for examples that the discriminator confidently classifies as fake.
    https://arxiv.org/abs/1406.2661

    Args:
        real_label: Target for real examples, in (0.5, 1]. A value below 1 is one-sided label
            smoothing: Salimans et al., "Improved Techniques for Training GANs", 2016, section 3.4.
        label_noise: Probability, in [0, 0.5), of the wrong target for an example: 0 for a real
            example, `real_label` for a fake example. Wrong targets are drawn independently for each
            example and step.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, real_label: float = 1.0, label_noise: float = 0.0):
        if not 0.5 < real_label <= 1:
            raise ValueError(f"`real_label` must be in (0.5, 1]. Received: {real_label}.")
        if not 0 <= label_noise < 0.5:
            raise ValueError(f"`label_noise` must be in [0, 0.5). Received: {label_noise}.")
        self.real_label = real_label
        self.label_noise = label_noise

    def real(self, logits, seed=None):
        return self._cross_entropy(logits, tf.fill(tf.shape(logits), self.real_label), seed)

    def fake(self, logits, seed=None):
        return self._cross_entropy(logits, tf.zeros_like(logits), seed)

    def generator(self, logits):
        return -tf.nn.softplus(logits)  # log(1 - D)

    def _cross_entropy(self, logits, targets, seed):
        if self.label_noise:
            noise = draws.uniform(tf.shape(logits), tfp.random.sanitize_seed(seed))
            wrong = tf.where(targets > 0, 0.0, self.real_label)
            targets = tf.where(noise < self.label_noise, wrong, targets)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)


@keras.saving.register_keras_serializable("zoo")
class NonSaturating(Minimax):
    """`Minimax`'s loss for the discriminator; the generator minimises -log D(G(z)).

    Goodfellow et al., 2014, section 3. The fixed point is that of `Minimax`, but the gradient with
    respect to a logit is D - 1, which is largest for examples that the discriminator confidently
    classifies as fake. Arguments and errors are those of `Minimax`.
    """

    def generator(self, logits):
        return tf.nn.softplus(-logits)


@keras.saving.register_keras_serializable("zoo")
class LogRatio(Minimax):
    """`Minimax`'s loss for the discriminator; the generator minimises log (1 - D) - log D = -logit.

    The ratio estimate of Rosca et al., "Variational Approaches for Auto-Encoding Generative
    Adversarial Networks", 2017, section 3. If p is the distribution of real examples and q that of
    fake examples, the loss under the optimal discriminator is log q / p, whose mean is KL(q || p).
    The loss is linear in the logit and has no lower bound. Arguments and errors are those of
    `Minimax`.
    https://arxiv.org/abs/1706.04987
    """

    def generator(self, logits):
        return -logits


@keras.saving.register_keras_serializable("zoo")
class LeastSquares(AdversarialLoss):
    """Squared distances of the logits D from targets: least squares GAN (LSGAN).

    The discriminator minimises (D(x) - b)^2 / 2 + (D(G) - a)^2 / 2, the generator
    (D(G) - c)^2 / 2: Mao et al., "Least Squares Generative Adversarial Networks", 2017, eq. 2. The
    default targets (a, b, c) = (0, 1, 1) are those of eq. 9. With the targets (-1, 1, 0) of eq. 8,
    the optimal discriminator is (p - q) / (p + q). https://arxiv.org/abs/1611.04076

    Args:
        fake_target: a, the discriminator's target for fake examples.
        real_target: b, the discriminator's target for real examples, above `fake_target`.
        generator_target: c, the generator's target for fake examples, above `fake_target`.

    Raises:
        ValueError: If `real_target` or `generator_target` is not above `fake_target`.

    Notes:
        With the targets (-1, 1, 0), the sum of (D - c)^2 / 2 over real and fake examples is half
        of Pearson's chi^2 divergence of p + q from 2 q (section 3.2.2). As in eq. 2, the
        generator's loss contains only the fake examples. Its gradient is that of the sum, because
        real examples do not depend on the generator, but its value is not the divergence.
    """

    def __init__(
        self, fake_target: float = 0.0, real_target: float = 1.0, generator_target: float = 1.0
    ):
        if not real_target > fake_target or not generator_target > fake_target:
            raise ValueError(
                "`real_target` and `generator_target` must be above `fake_target`. Received: "
                f"real_target={real_target}, generator_target={generator_target}, "
                f"fake_target={fake_target}."
            )
        self.fake_target = fake_target
        self.real_target = real_target
        self.generator_target = generator_target

    def real(self, logits, seed=None):
        return tf.math.squared_difference(logits, self.real_target) / 2

    def fake(self, logits, seed=None):
        return tf.math.squared_difference(logits, self.fake_target) / 2

    def generator(self, logits):
        return tf.math.squared_difference(logits, self.generator_target) / 2


@keras.saving.register_keras_serializable("zoo")
class Hinge(AdversarialLoss):
    """max(0, 1 - D(x)) and max(0, 1 + D(G)) for the discriminator, -D(G) for the generator.

    Lim and Ye, "Geometric GAN", 2017, https://arxiv.org/abs/1705.02894, and Miyato et al.,
    "Spectral Normalization for Generative Adversarial Networks", 2018, eq. 16 and 17. D is the
    logit. For a real example with a logit above 1, or a fake example with a logit below -1, the
    discriminator's loss and its gradient are 0. https://arxiv.org/abs/1802.05957
    """

    def real(self, logits, seed=None):
        return tf.nn.relu(1 - logits)

    def fake(self, logits, seed=None):
        return tf.nn.relu(1 + logits)

    def generator(self, logits):
        return -logits


@keras.saving.register_keras_serializable("zoo")
class Wasserstein(AdversarialLoss):
    """D(G) - D(x) for the critic, -D(G) for the generator.

    Arjovsky et al., "Wasserstein Generative Adversarial Networks", 2017, eq. 2 and 3. The loss
    bounds the Wasserstein distance for critics D with Lipschitz constant 1. This class does not
    enforce the constant: combine it with `zoo.penalties.GradientPenalty` or spectral normalization.
    Otherwise the critic's loss has no lower bound. (The paper clips the critic's weights.)
    https://arxiv.org/abs/1701.07875
    """

    def real(self, logits, seed=None):
        return -logits

    def fake(self, logits, seed=None):
        return tf.identity(logits)

    def generator(self, logits):
        return -logits


class _Divergence(NamedTuple):
    """A row of the f-GAN paper's table 2, as functions of the logit v."""

    output: Callable
    """g_f(v), the output activation: T(x)."""
    conjugate: Callable
    """f*(g_f(v)) in closed form. A separate activation could overflow, or round to a value outside
    the domain of the conjugate."""
    threshold: float
    """f'(1): T of an example that is equally likely to be real and to be fake."""


_LINEAR_FROM = 40.0


def _exp(v):
    """e^v for v below 40, and the tangent of e^v at 40 for v above 40."""
    return tf.exp(tf.minimum(v, _LINEAR_FROM)) + math.exp(_LINEAR_FROM) * tf.nn.relu(
        v - _LINEAR_FROM
    )


def _expm1(v):
    """e^v - 1 for v below 40, and its tangent at 40 for v above 40."""
    return tf.math.expm1(tf.minimum(v, _LINEAR_FROM)) + math.exp(_LINEAR_FROM) * tf.nn.relu(
        v - _LINEAR_FROM
    )


def _jeffrey_conjugate(v):
    # With l = log W(e^(1 - v)), where W is Lambert's function, W + 1/W + v - 2 = e^-l - l - 1,
    # since W + log W = 1 - v. Newton's method solves this equation, e^l + l = a. The left side is
    # convex and increasing: from a start above the root, the steps decrease towards the root.
    a = 1 - v
    constant = tf.stop_gradient(a)
    log_w = tf.where(constant > 1, tf.math.log(tf.maximum(constant, 1.0)), constant)
    for _ in range(6):
        w = tf.exp(log_w)
        log_w = (w * (log_w - 1) + constant) / (w + 1)
    # One more step, at the root, makes the root differentiable: dl/da = 1 / (1 + e^l).
    w = tf.exp(tf.stop_gradient(log_w))
    log_w = (w * (tf.stop_gradient(log_w) - 1) + a) / (w + 1)
    return _exp(-log_w) - log_w - 1


_DIVERGENCES = {
    "kl": _Divergence(tf.identity, lambda v: _exp(v - 1), 1.0),
    "reverse_kl": _Divergence(lambda v: -_exp(-v), lambda v: v - 1, -1.0),
    "pearson": _Divergence(tf.identity, lambda v: v * v / 4 + v, 0.0),
    "neyman": _Divergence(lambda v: -_expm1(-v), lambda v: -2 * _expm1(-v / 2), 0.0),
    "squared_hellinger": _Divergence(lambda v: -_expm1(-v), _expm1, 0.0),
    "jeffrey": _Divergence(tf.identity, _jeffrey_conjugate, 0.0),
    "jensen_shannon": _Divergence(
        lambda v: math.log(2) - tf.nn.softplus(-v),
        lambda v: tf.nn.softplus(v) - math.log(2),
        0.0,
    ),
    "gan": _Divergence(lambda v: -tf.nn.softplus(-v), tf.nn.softplus, -math.log(2)),
    "total_variation": _Divergence(lambda v: tf.tanh(v) / 2, lambda v: tf.tanh(v) / 2, 0.0),
}


@keras.saving.register_keras_serializable("zoo")
class FDivergence(AdversarialLoss):
    """The f-GAN: a lower bound of D_f(P || Q) = E_Q[f(p / q)], by the convex conjugate f* of f.

        F = E_P[T(x)] - E_Q[f*(T(x))],   T(x) = g_f(v(x)),

    with the logit v and an activation g_f onto the domain of f*. The discriminator maximises F. At
    the optimum, T = f'(p / q), F is the divergence. Nowozin et al., "f-GAN: Training Generative
    Neural Samplers using Variational Divergence Minimization", 2016, eq. 4 and 6, tables 1 and 2.
    https://arxiv.org/abs/1606.00709

    | `divergence` | f(u) | g_f(v) | f*(t) | f'(1) |
    |-|-|-|-|-|
    | "kl" | u log u | v | e^(t - 1) | 1 |
    | "reverse_kl" | -log u | -e^-v | -1 - log(-t) | -1 |
    | "pearson" | (u - 1)^2 | v | t^2 / 4 + t | 0 |
    | "neyman" | (1 - u)^2 / u | 1 - e^-v | 2 - 2 sqrt(1 - t) | 0 |
    | "squared_hellinger" | (sqrt(u) - 1)^2 | 1 - e^-v | t / (1 - t) | 0 |
    | "jeffrey" | (u - 1) log u | v | W(e^(1 - t)) + 1 / W(e^(1 - t)) + t - 2 | 0 |
    | "jensen_shannon" | u log u - (u + 1) log((1 + u) / 2) | log 2 - log(1 + e^-v) | -log(2 - e^t) | 0 |
    | "gan" | u log u - (u + 1) log(u + 1) | -log(1 + e^-v) | -log(1 - e^t) | -log 2 |
    | "total_variation" | abs(u - 1) / 2 | tanh(v) / 2 | t | 0 |

    "jensen_shannon" is twice the usual Jensen-Shannon divergence, and "gan" is "jensen_shannon"
    minus log 4. W is Lambert's function.

    Args:
        divergence: A name from the table.
        alternative: Whether the generator maximises E_Q[T] (the paper's section 3.2), which does
            not saturate; otherwise the generator minimises the term -E_Q[f*(T)] of F. For total
            variation the two are equal.

    Raises:
        ValueError: If `divergence` is unknown.

    Example:
        >>> loss = zoo.adversarial.FDivergence("squared_hellinger")
        >>> loss.output(tf.constant([-1.0, 50.0])).numpy()  # 1 - e, and the upper bound of T
        array([-1.718...,  1.       ], dtype=float32)

    Notes:
        In all rows a large v means a real example. For the reverse KL divergence, with T < 0, the
        paper's table has the activation -exp(v); here it is -exp(-v). Pearson's conjugate is that
        of f on all reals, as in the paper.

        Above 40, the exponential of a logit is replaced by its tangent at 40, to avoid overflow.
        float32 can then represent the losses of logits up to 10^4 and beyond, their sum over a
        batch, and the squares of their gradients, which optimizers store. For such logits F is not
        a bound on the divergence.
    """

    def __init__(self, divergence: str = "kl", alternative: bool = True):
        self._row = look_up(_DIVERGENCES, divergence, "divergence")
        self.divergence = divergence
        self.alternative = alternative

    @property
    def threshold(self) -> float:
        """f'(1), the T of an example that is equally likely to be real and to be fake."""
        return self._row.threshold

    def output(self, logits: tf.Tensor) -> tf.Tensor:
        """T = g_f(logits), the function in the bound."""
        return self._row.output(logits)

    def real(self, logits, seed=None):
        return -self._row.output(logits)

    def fake(self, logits, seed=None):
        return self._row.conjugate(logits)

    def generator(self, logits):
        return -(self._row.output if self.alternative else self._row.conjugate)(logits)


_MAKERS: dict[str, Callable[..., AdversarialLoss]] = {
    "minimax": Minimax,
    "non_saturating": NonSaturating,
    "log_ratio": LogRatio,
    "least_squares": LeastSquares,
    "least_squares_pearson": functools.partial(LeastSquares, -1.0, 1.0, 0.0),
    "hinge": Hinge,
    "wasserstein": Wasserstein,
}
for _name in _DIVERGENCES:
    _MAKERS[f"f_{_name}"] = functools.partial(FDivergence, _name)
    if _name != "total_variation":  # Its two losses are equal.
        _MAKERS[f"f_{_name}_saddle"] = functools.partial(FDivergence, _name, alternative=False)

LOSSES: dict[str, tuple[str, ...]] = {
    name: ("real_label", "label_noise")
    if isinstance(make, type) and issubclass(make, Minimax)
    else ()
    for name, make in _MAKERS.items()
}
"""The names of the losses, and the builder options that each loss uses."""


def adversarial_loss(
    name: str, real_label: float = 1.0, label_noise: float = 0.0, **arguments: Any
) -> AdversarialLoss:
    """An adversarial loss by name, for presets and command lines.

    Args:
        name: "minimax", "non_saturating", "log_ratio", "least_squares", "least_squares_pearson"
            (the targets (-1, 1, 0)), "hinge", "wasserstein", or an f-GAN loss: "f_" and the
            divergence, such as "f_kl", with the suffix "_saddle" if the generator minimises the
            bound itself.
        real_label, label_noise: As for `Minimax`. Only for "minimax", "non_saturating" and
            "log_ratio".
        **arguments: Other arguments of the loss's class.

    Raises:
        ValueError: If `name` is unknown, an argument is out of range, or `real_label` or
            `label_noise` is set for a loss without labels.

    Example:
        >>> adversarial_loss = zoo.adversarial.adversarial_loss
        >>> adversarial_loss("f_kl").threshold
        1.0
        >>> adversarial_loss("hinge").real(tf.constant([-1.0, 0.5, 3.0])).numpy()
        array([2. , 0.5, 0. ], dtype=float32)
    """
    make = look_up(_MAKERS, name, "loss")
    if LOSSES[name]:
        arguments |= {"real_label": real_label, "label_noise": label_noise}
    elif real_label != 1 or label_noise:
        raise ValueError(
            f"The loss '{name}' has no labels: leave `real_label` at 1 and `label_noise` at 0. "
            f"Received: real_label={real_label}, label_noise={label_noise}."
        )
    return make(**arguments)
