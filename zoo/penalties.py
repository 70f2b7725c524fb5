"""Penalties on a discriminator's slope in its inputs, to be added to its loss: `[B]` numbers.

A penalty is called as `penalty(judge, real, fake, seed)`, with the function `judge` from a batch to
logits `[B]`, the batches of real and fake examples, `[B, ...]` each, and a seed. It knows nothing of
who judges what: images, latents, or what else a model's discriminator looks at. It returns the
logits of the real examples too: a penalty on the slope there judges them once for both.

Slopes are per unit of the inputs. Images are in [0, 1]: for a paper that has them in [-1, 1], where
a slope is half of what it is here, the same penalty is one with twice the `target` and a quarter of
the `weight`.
"""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws
from zoo.config import FromArguments


class Penalty(FromArguments):
    """Base of all penalties. Instances are plain objects that a config can rebuild.

    Args:
        weight: Factor of the penalty, above 0.

    Raises:
        ValueError: If the weight is not above 0 and finite.
    """

    def __init__(self, weight: float = 10.0):
        if not 0 < weight < math.inf:
            raise ValueError(
                f"`weight` must be above 0 and finite; for none leave the penalty out. "
                f"Received: {weight}."
            )
        self.weight = weight

    def __call__(self, judge, real, fake, seed) -> tuple[tf.Tensor, tf.Tensor]:
        """The logits of the real examples, and what the discriminator pays, weighted: `[B]` each."""
        raise NotImplementedError

    def check(self, discriminator: keras.layers.Layer) -> None:
        """Raises a `ValueError` for a discriminator with batch normalization.

        Under it an example's logit depends on the others of its batch, and their slopes cannot be
        told apart: Gulrajani et al., 2017, section 4. Keras's `BatchNormalization` is what is looked
        for; of other layers it is taken on trust that they keep examples apart.
        """
        for layer in discriminator._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                raise ValueError(
                    "A penalty on the slope at each example needs a discriminator without batch "
                    "normalization, under which an example's logit depends on the whole batch: "
                    f"build it with batch_norm=False. Received: a {type(self).__name__}, and a "
                    f"discriminator with the layer '{layer.name}'."
                )

    def get_config(self) -> dict:
        return {name: getattr(self, name) for name in self._argument_names()}


@keras.saving.register_keras_serializable("zoo")
class GradientPenalty(Penalty):
    """weight * (|grad D(x)| - target)^2 at points between real and fake examples.

    WGAN-GP: Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, eq. 3 and Algorithm 1.
    Each example has a point of its own, x = e real + (1 - e) fake with one e ~ U(0, 1) for all its
    values. https://arxiv.org/abs/1704.00028

    Args:
        weight: lambda in the paper, 10, above 0.
        target: Slope that is not penalised, at least 0: 1 in the paper, whose MNIST is in [0, 1] as
            images are here. In [-1, 1] it is 2, with `weight` 2.5; see `zoo.penalties`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> penalty = zoo.penalties.GradientPenalty()
        >>> x = tf.zeros([2, 3])
        >>> logits, paid = penalty(lambda x: tf.reduce_sum(4 * x, 1), x, x, [1, 2])
        >>> paid.numpy()  # 10 (4 sqrt(3) - 1)^2
        array([351.43..., 351.43...], dtype=float32)
    """

    def __init__(self, weight: float = 10.0, target: float = 1.0):
        super().__init__(weight)
        if not 0 <= target < math.inf:
            raise ValueError(f"`target` must be at least 0 and finite. Received: {target}.")
        self.target = target

    def __call__(self, judge, real, fake, seed):
        real, fake = tf.convert_to_tensor(real), tf.convert_to_tensor(fake)
        lots = [tf.shape(real)[0]] + [1] * (real.shape.rank - 1)
        share = draws.uniform(lots, tfp.random.sanitize_seed(seed))
        logits = judge(real)
        _, squares = with_squared_slope(judge, share * real + (1 - share) * fake)
        # The root of 0 has an infinite slope, which times 0 is no number. The norm's is taken for 0.
        flat = squares <= 0
        norm = tf.where(flat, 0.0, tf.sqrt(tf.where(flat, 1.0, squares)))
        return logits, self.weight * tf.math.squared_difference(norm, self.target)


@keras.saving.register_keras_serializable("zoo")
class R1(Penalty):
    """weight / 2 * |grad D(x)|^2 at real examples.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, eq. 9, with
    gamma = weight. It vanishes at the equilibrium, where D is flat on the data.
    https://arxiv.org/abs/1801.04406

    Args:
        weight: gamma in the paper, 10, above 0. Its images are in [-1, 1]: that 10 is 2.5 here; see
            `zoo.penalties`.

    Raises:
        ValueError: If the weight is not above 0 and finite.
    """

    def __call__(self, judge, real, fake, seed):
        # Of the very function that has judged them: with dropout, another call is another function.
        logits, squares = with_squared_slope(judge, real)
        return logits, self.weight / 2 * squares


def with_squared_slope(judge, x) -> tuple[tf.Tensor, tf.Tensor]:
    """judge(x) and |d judge(x) / d x|^2 of each example by itself, `[B]` each; differentiable."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = judge(x)
    # Of their sum: no logit depends on another example.
    gradient = tape.gradient(logits, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    squares = tf.reduce_sum(tf.cast(gradient, tf.float32) ** 2, list(range(1, x.shape.rank)))
    return logits, squares


def penalty(gradient_penalty: float = 0.0, r1: float = 0.0) -> Penalty | None:
    """The penalty of that weight, as presets and command lines say it; `None` if all are 0.

    Args:
        gradient_penalty: Weight of a `GradientPenalty`.
        r1: Weight of an `R1`.

    Raises:
        ValueError: If both are given, or one is below 0.
    """
    if gradient_penalty and r1:
        raise ValueError(
            "A discriminator has one penalty: `gradient_penalty` or `r1`, and 0 for the other. "
            f"Received: gradient_penalty={gradient_penalty}, r1={r1}."
        )
    if gradient_penalty:
        return GradientPenalty(gradient_penalty)
    return R1(r1) if r1 else None
