"""Adversarial losses on a discriminator's logits, high for real: `[B]` in, `[B]` out.

A loss says what the discriminator pays for a real and for a fake example, and what the generator
pays for a fake one. Every log of a probability is a softplus of a logit: nothing saturates to
log 0, and nothing needs clipping.
"""

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

    def fool(self, logits):
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

    def fool(self, logits):
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

    def fool(self, logits):
        return tf.nn.softplus(-logits)


def adversarial_loss(name: str, **arguments) -> AdversarialLoss:
    """The loss of that name, "minimax" or "non_saturating", as presets and command lines call it."""
    return look_up({"minimax": Minimax, "non_saturating": NonSaturating}, name, "loss")(**arguments)
