"""Penalties `[B]` on the gradient of a discriminator with respect to its inputs.

A penalty is called as `penalty(discriminator, real, fake, seed)`. `discriminator` is a function
from a batch of examples, such as images or latents, to logits `[B]`; `real` and `fake` are batches,
`[B, ...]` each. The call also returns the logits of the real examples, so that a penalty on the
gradient at these examples computes them only once.

Gradients are with respect to images in [0, 1]. With images in [-1, 1], as in some papers, a
gradient is half as large. A paper's penalty on such images therefore has twice the `target` and a
quarter of the `weight` here.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws
from zoo.config import PlainObject, with_article
from zoo.contract import check_non_negative
from zoo.keras_internals import layers_in


class Penalty(PlainObject):
    """Base of all penalties. Instances are plain objects that a config can rebuild.

    Args:
        weight: Factor of the penalty, above 0.

    Raises:
        ValueError: If the weight is not above 0 and finite.
    """

    def __init__(self, weight: float = 10.0):
        if not 0 < weight < math.inf:
            raise ValueError(
                f"`weight` must be above 0 and finite; to disable the penalty, leave it out. "
                f"Received: {weight}."
            )
        self.weight = weight

    def __call__(
        self,
        discriminator: Callable[[tf.Tensor], tf.Tensor],
        real: tf.Tensor,
        fake: tf.Tensor,
        seed: Any,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The logits of the real examples, and the weighted penalty: `[B]` each.

        Args:
            discriminator: A function from examples `[B, ...]` to logits `[B]`.
            real: Real examples, `[B, ...]`.
            fake: Fake examples, `[B, ...]`.
            seed: Seed of the penalty's random draws: an int, a `[2]` int tensor or `None`.
        """
        raise NotImplementedError

    def check(self, discriminator: keras.layers.Layer) -> None:
        """Raises a `ValueError` for a discriminator with batch normalization.

        With batch normalization, an example's logit depends on the whole batch, and the gradient at
        one example is not defined: Gulrajani et al., 2017, section 4. Only Keras's
        `BatchNormalization` is detected; other layers are assumed to treat examples independently.
        """
        for layer in layers_in(discriminator):
            if isinstance(layer, keras.layers.BatchNormalization):
                raise ValueError(
                    "A penalty on the gradient at each example needs a discriminator without batch "
                    "normalization, which makes an example's logit depend on the whole batch: "
                    "build it with batch_norm=False. Received: "
                    f"{with_article(type(self).__name__)}, and a discriminator with the layer "
                    f"'{layer.name}'."
                )


@keras.saving.register_keras_serializable("zoo")
class GradientPenalty(Penalty):
    """weight * (|grad D(x)| - target)^2 at points between real and fake examples.

    WGAN-GP: Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, eq. 3 and Algorithm 1.
    For each pair of examples one point is drawn, x = e real + (1 - e) fake, with the same
    e ~ U(0, 1) for all values of x. https://arxiv.org/abs/1704.00028

    Args:
        weight: lambda, above 0; 10 in the paper.
        target: Norm of the gradient at which the penalty is 0, at least 0; 1 in the paper, for
            MNIST in [0, 1] as here. For a paper with images in [-1, 1] the target is 2 and the
            `weight` 2.5: see `zoo.penalties`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> penalty = zoo.penalties.GradientPenalty()
        >>> x = tf.zeros([2, 3])
        >>> logits, values = penalty(lambda x: tf.reduce_sum(4 * x, 1), x, x, [1, 2])
        >>> values.numpy()  # 10 (4 sqrt(3) - 1)^2
        array([351.43..., 351.43...], dtype=float32)
    """

    def __init__(self, weight: float = 10.0, target: float = 1.0):
        super().__init__(weight)
        check_non_negative(target=target)
        self.target = target

    def __call__(
        self, discriminator: Callable, real: tf.Tensor, fake: tf.Tensor, seed: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        real, fake = tf.convert_to_tensor(real), tf.convert_to_tensor(fake)
        shape = [tf.shape(real)[0]] + [1] * (real.shape.rank - 1)
        share = draws.uniform(shape, tfp.random.sanitize_seed(seed))
        logits = discriminator(real)
        _, squares = with_squared_gradient(discriminator, share * real + (1 - share) * fake)
        # The derivative of the root at 0 is infinite, and its product with 0 is NaN: use 0 instead.
        flat = squares <= 0
        norm = tf.where(flat, 0.0, tf.sqrt(tf.where(flat, 1.0, squares)))
        return logits, self.weight * tf.math.squared_difference(norm, self.target)


@keras.saving.register_keras_serializable("zoo")
class R1(Penalty):
    """weight / 2 * |grad D(x)|^2 at real examples.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, eq. 9, with
    gamma = weight. The penalty vanishes at the equilibrium, where D is constant on the data.
    https://arxiv.org/abs/1801.04406

    Args:
        weight: gamma, above 0. The paper's 10, with images in [-1, 1], is 2.5 here; see
            `zoo.penalties`.

    Raises:
        ValueError: If the weight is not above 0 and finite.
    """

    def __call__(
        self, discriminator: Callable, real: tf.Tensor, fake: tf.Tensor, seed: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # One call gives logits and gradient: with dropout, a second call is a different function.
        logits, squares = with_squared_gradient(discriminator, real)
        return logits, self.weight / 2 * squares


def with_squared_gradient(
    discriminator: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The logits D(x), and |grad D(x)|^2 at each example: `[B]` each. Both are differentiable."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = discriminator(x)
    # This is the gradient of the sum of the logits; each logit depends only on its own example.
    gradient = tape.gradient(logits, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    squares = tf.reduce_sum(tf.cast(gradient, tf.float32) ** 2, list(range(1, x.shape.rank)))
    return logits, squares


def lazy_rows(n: int | tf.Tensor, step: int | tf.Tensor, interval: int) -> tf.Tensor:
    """The rows of a batch of `n` whose penalty a step takes, if a penalty is lazy: int32 `[rows]`.

    Each step takes n / `interval` rows, rounded up, and successive steps cycle through the batch. The
    mean penalty of the rows of a step has the expectation of that of the batch, at a fraction of the
    cost and without a branch in the graph. Karras et al., "Analyzing and Improving the Image Quality
    of StyleGAN", 2020, appendix B, take the penalty of a whole batch at every 16th step instead.
    https://arxiv.org/abs/1912.04958

    Args:
        n: Number of rows.
        step: The number of completed steps.
        interval: Number of steps in which each row has its turn, at least 1.

    Example:
        >>> [zoo.penalties.lazy_rows(8, step, 4).numpy().tolist() for step in (0, 1, 4)]
        [[0, 1], [2, 3], [0, 1]]
    """
    count = -(-n // interval)
    first = tf.cast(step, tf.int64) * tf.cast(count, tf.int64) % tf.cast(n, tf.int64)
    return (tf.range(count) + tf.cast(first, tf.int32)) % n


def penalty(gradient_penalty: float = 0.0, r1: float = 0.0) -> Penalty | None:
    """The penalty whose weight is above 0, for presets and command lines; `None` if both are 0.

    Args:
        gradient_penalty: Weight of a `GradientPenalty`.
        r1: Weight of an `R1`.

    Raises:
        ValueError: If both are set, or one is below 0.
    """
    if gradient_penalty and r1:
        raise ValueError(
            "A discriminator has one penalty: `gradient_penalty` or `r1`, and 0 for the other. "
            f"Received: gradient_penalty={gradient_penalty}, r1={r1}."
        )
    if gradient_penalty:
        return GradientPenalty(gradient_penalty)
    return R1(r1) if r1 else None
