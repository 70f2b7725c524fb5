"""Adversarial losses on a discriminator's logits, high for real: `[B]` in, `[B]` out.

A loss says what the discriminator pays for a real and for a fake example, and what the generator
pays for a fake one. Every log of a probability is a softplus of a logit: nothing saturates to
log 0, and nothing needs clipping.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws
from zoo.config import FromArguments, look_up


class AdversarialLoss(FromArguments):
    """Base of all adversarial losses. Instances are plain objects that a config can rebuild."""

    def real(self, logits, seed=None):
        """What the discriminator pays for the logits `[B]` of real examples."""
        raise NotImplementedError

    def fake(self, logits, seed=None):
        """What the discriminator pays for the logits `[B]` of fake examples."""
        raise NotImplementedError

    def generator(self, logits):
        """What the generator pays for the logits `[B]` of its examples."""
        raise NotImplementedError

    def get_config(self) -> dict:
        return {name: getattr(self, name) for name in self._argument_names()}


@keras.saving.register_keras_serializable("zoo")
class Minimax(AdversarialLoss):
    """The zero-sum game: E log D(x) + E log(1 - D(G(z))), which the generator minimises.

    Goodfellow et al., "Generative Adversarial Nets", 2014, eq. 1. With D = sigmoid(logit), the
    generator's slope on a logit is -D: it vanishes where the discriminator is sure ("saturates").
    https://arxiv.org/abs/1406.2661

    Args:
        real_label: Target for real examples, in (0.5, 1]. Less than 1 is one-sided label smoothing:
            Salimans et al., "Improved Techniques for Training GANs", 2016, section 3.4.
        label_noise: Probability, in [0, 0.5), with which the discriminator is told the wrong label
            of an example, real or fake, drawn anew at each step.
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
    """The same discriminator; the generator minimises -log D(G(z)) instead.

    Goodfellow et al., 2014, section 3: the same fixed point, but its slope on a logit is D - 1,
    largest where the discriminator is sure. Arguments as for `Minimax`.
    """

    def generator(self, logits):
        return tf.nn.softplus(-logits)


@keras.saving.register_keras_serializable("zoo")
class LogRatio(Minimax):
    """The same discriminator; the generator minimises log (1 - D) - log D, which is minus the logit.

    The ratio estimate of Rosca et al., "Variational Approaches for Auto-Encoding Generative
    Adversarial Networks", 2017, section 3: under the best discriminator log q / p, the mean of
    which is KL(q || p), of the fakes' distribution q from the real ones' p. It is linear in the
    logit, and so has no lower bound. Arguments as for `Minimax`. https://arxiv.org/abs/1706.04987
    """

    def generator(self, logits):
        return -logits


@keras.saving.register_keras_serializable("zoo")
class LeastSquares(AdversarialLoss):
    """(D(x) - b)^2 / 2 and (D(G) - a)^2 / 2 for the discriminator, (D(G) - c)^2 / 2 for the generator.

    Mao et al., "Least Squares Generative Adversarial Networks", 2017, eq. 2, where D is the logit
    itself. With (a, b, c) = (0, 1, 1), their eq. 9, the generator's images are to be taken for real.

    With (-1, 1, 0), their eq. 8, the best discriminator is (p - q) / (p + q), and the costs
    (D - c)^2 / 2 of real and of fake examples together are half of Pearson's chi^2 divergence of
    p + q from 2 q (their section 3.2.2). Here, as in eq. 2, the generator pays for its own examples
    alone: its slope is that of the sum, as it does not make the real ones, but its loss is not the
    divergence. https://arxiv.org/abs/1611.04076

    Args:
        fake_target: a, what the discriminator's output is to be for fake examples.
        real_target: b, what it is to be for real ones, above `fake_target`.
        generator_target: c, what the generator wants it to be for its own.

    Raises:
        ValueError: If `real_target` is not above `fake_target`, or `generator_target` not above it too:
            then the generator would be drawn to where it is told apart.
    """

    def __init__(
        self, fake_target: float = 0.0, real_target: float = 1.0, generator_target: float = 1.0
    ):
        if not real_target > fake_target or not generator_target > fake_target:
            raise ValueError(
                "`real_target` and `generator_target` must be above `fake_target`. Received: "
                f"real_target={real_target}, generator_target={generator_target}, fake_target={fake_target}."
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

    Lim and Ye, "Geometric GAN", 2017, https://arxiv.org/abs/1705.02894; as Miyato et al., "Spectral
    Normalization for Generative Adversarial Networks", 2018, eq. 16 and 17, train with it. D is the
    logit: an example on the right side of its margin, +-1, costs nothing and moves nobody.
    https://arxiv.org/abs/1802.05957
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

    Arjovsky et al., "Wasserstein Generative Adversarial Networks", 2017, eq. 2 and 3. The bound of
    the Wasserstein distance holds for critics D of Lipschitz constant 1, which nothing here sees to:
    go with `zoo.penalties.GradientPenalty` or spectral normalization. (The paper clips the critic's
    weights.) Without either the critic's loss has no lower bound. https://arxiv.org/abs/1701.07875
    """

    def real(self, logits, seed=None):
        return -logits

    def fake(self, logits, seed=None):
        return tf.identity(logits)

    def generator(self, logits):
        return -logits


class _Divergence(NamedTuple):
    """What the f-GAN paper's table 2 says of a divergence, as functions of the logit v."""

    output: Callable
    """g_f(v), the output activation: T(x)."""
    conjugate: Callable
    """f*(g_f(v)), written out: neither the activation nor the conjugate is computed by itself, of
    which either may overflow, or be within rounding of the other's bound."""
    threshold: float
    """f'(1): T of examples that are as likely real as fake."""


_STRAIGHT = 40.0


def _exp(v):
    """e^v, and beyond 40 its tangent there."""
    return tf.exp(tf.minimum(v, _STRAIGHT)) + math.exp(_STRAIGHT) * tf.nn.relu(v - _STRAIGHT)


def _expm1(v):
    """e^v - 1 likewise."""
    return tf.math.expm1(tf.minimum(v, _STRAIGHT)) + math.exp(_STRAIGHT) * tf.nn.relu(v - _STRAIGHT)


def _jeffrey_conjugate(v):
    # With l = log W(e^(1 - v)), where W is Lambert's function, W + 1/W + v - 2 = e^-l - l - 1,
    # since W + log W = 1 - v. That equation, e^l + l = a, is solved by Newton's steps, which from
    # the right of its root go down to it: the left side is convex and increasing.
    a = 1 - v
    held = tf.stop_gradient(a)
    log_w = tf.where(held > 1, tf.math.log(tf.maximum(held, 1.0)), held)
    for _ in range(6):
        w = tf.exp(log_w)
        log_w = (w * (log_w - 1) + held) / (w + 1)
    # Once more at the root, which gives it its slope: dl/da = 1 / (1 + e^l).
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

    with the logit v and an activation g_f onto the domain of f*. The discriminator maximises F, and
    at best, T = f'(p / q), it has the divergence. Nowozin et al., "f-GAN: Training Generative Neural
    Samplers using Variational Divergence Minimization", 2016, eq. 4 and 6, tables 1 and 2.
    Large v stand for real throughout: where the paper's table has an activation with exp(v) for a
    T < 0 (reverse KL), it is exp(-v) here. https://arxiv.org/abs/1606.00709

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

    Here "jensen_shannon" is twice the usual one, and "gan" that less log 4. W is Lambert's function.
    Pearson's conjugate is that of f on all reals, as in the paper.

    Exponentials of a logit go on along their tangent from e^40 on, where they would soon overflow:
    float32 holds the losses of logits up to 10^4 and beyond, their sum over a batch, and the squares
    of their slopes, which optimizers keep. Of such logits F is no bound of the divergence any more.

    Args:
        divergence: Which, as above.
        alternative: Whether the generator maximises E_Q[T], the paper's section 3.2, which takes
            what is fake for real and so does not saturate; else it minimises F, -E_Q[f*(T)]. For
            total variation both are one.

    Raises:
        ValueError: If there is no such divergence.

    Example:
        >>> loss = zoo.adversarial.FDivergence("squared_hellinger")
        >>> loss.output(tf.constant([-1.0, 50.0])).numpy()  # 1 - e, and T of the real
        array([-1.718...,  1.       ], dtype=float32)
    """

    def __init__(self, divergence: str = "kl", alternative: bool = True):
        self._row = look_up(_DIVERGENCES, divergence, "divergence")
        self.divergence = divergence
        self.alternative = alternative

    @property
    def threshold(self) -> float:
        """f'(1), the T of an example that is as likely real as fake."""
        return self._row.threshold

    def output(self, logits) -> tf.Tensor:
        """T = g_f(logits), the function whose expectations the bound is made of."""
        return self._row.output(logits)

    def real(self, logits, seed=None):
        return -self._row.output(logits)

    def fake(self, logits, seed=None):
        return self._row.conjugate(logits)

    def generator(self, logits):
        return -(self._row.output if self.alternative else self._row.conjugate)(logits)


_LOSSES = {
    "minimax": Minimax,
    "non_saturating": NonSaturating,
    "log_ratio": LogRatio,
    "least_squares": LeastSquares,
    "least_squares_pearson": functools.partial(LeastSquares, -1.0, 1.0, 0.0),
    "hinge": Hinge,
    "wasserstein": Wasserstein,
}
for _name in _DIVERGENCES:
    _LOSSES[f"f_{_name}"] = functools.partial(FDivergence, _name)
    if _name != "total_variation":  # Of which both are one.
        _LOSSES[f"f_{_name}_saddle"] = functools.partial(FDivergence, _name, alternative=False)


def adversarial_loss(
    name: str, real_label: float = 1.0, label_noise: float = 0.0, **arguments
) -> AdversarialLoss:
    """The loss of that name, as presets and command lines call it.

    Args:
        name: "minimax", "non_saturating", "log_ratio", "least_squares" or "least_squares_pearson" for
            its targets (-1, 1, 0), "hinge", "wasserstein", or that of an f-GAN: "f_" and the
            divergence, such as "f_kl", and with "_saddle" behind it for the generator that minimises
            the bound itself.
        real_label, label_noise: As for `Minimax`; for "minimax", "non_saturating" and "log_ratio"
            alone, as they are about a label's probability.
        **arguments: Others of the loss's class.

    Raises:
        ValueError: If there is no such loss, or it has no labels and is to have some changed.

    Example:
        >>> adversarial_loss = zoo.adversarial.adversarial_loss
        >>> adversarial_loss("f_kl").threshold
        1.0
        >>> adversarial_loss("hinge").real(tf.constant([-1.0, 0.5, 3.0])).numpy()
        array([2. , 0.5, 0. ], dtype=float32)
    """
    make = look_up(_LOSSES, name, "loss")
    if isinstance(make, type) and issubclass(make, Minimax):
        return make(real_label=real_label, label_noise=label_noise, **arguments)
    if real_label != 1 or label_noise:
        raise ValueError(
            "`real_label` and `label_noise` change the labels of a classifier, which the loss "
            f"'{name}' has none of: leave them at 1 and 0. Received: real_label={real_label}, "
            f"label_noise={label_noise}."
        )
    return make(**arguments)
