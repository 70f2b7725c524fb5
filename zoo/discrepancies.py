"""A discrepancy between sets of points that a model can minimise: the maximum mean discrepancy.

For evaluation, `zoo.metrics.maximum_mean_discrepancy` computes the same quantity on arrays in
float64, with a standard error.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import PlainObject, look_up
from zoo.distributions import Prior

tfd = tfp.distributions


class Kernel(PlainObject):
    """A sum over `scales` of one positive definite function of the distance, at several widths.

    The squared width is scale * bandwidth^2. By default bandwidth = sqrt(D), because the mean
    squared distance of two draws of N(0, I) is 2 D. In many dimensions, a kernel that is narrower
    by a power of D is about 0 for all pairs, and a kernel that is wider by a power of D is about 1;
    neither has a useful gradient.

    Instances are plain objects that a config can rebuild.

    Args:
        bandwidth: Bandwidth in the units of the points, above 0; `None` for sqrt(D). For a prior
            N(0, s^2 I), the corresponding choice is s sqrt(D).
        scales: Factors of the squared bandwidth, above 0.

    Raises:
        ValueError: If `scales` is empty, or a number is not positive and finite.
    """

    def __init__(self, bandwidth: float | None = None, scales: Sequence[float] = (1.0,)):
        if bandwidth is not None and not 0 < bandwidth < math.inf:
            raise ValueError(
                f"`bandwidth` must be positive and finite, or None. Received: {bandwidth}."
            )
        if not len(scales) or not all(0 < scale < math.inf for scale in scales):
            raise ValueError(
                "`scales` must be at least one number, each positive and finite. "
                f"Received: {scales}."
            )
        self.bandwidth = bandwidth
        self.scales = tuple(scales)

    @property
    def peak(self) -> float:
        """k(x, x), the same for every x."""
        return float(len(self.scales))

    def __call__(self, x: Any, y: Any) -> tf.Tensor:
        """k(x, y) of all pairs `[..., N, M]` of the points `x[..., N, D]` and `y[..., M, D]`."""
        x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
        # Computed from differences: |x|^2 + |y|^2 - 2 x.y is inexact for small distances, mainly on
        # devices with low-precision matrix products.
        pairs = tf.math.squared_difference(x[..., :, None, :], y[..., None, :, :])
        squared_bandwidth = x.shape[-1] if self.bandwidth is None else self.bandwidth**2
        squares = tf.reduce_sum(pairs, -1)
        return tf.add_n([self.at(squares, scale * squared_bandwidth) for scale in self.scales])

    def at(self, squares: tf.Tensor, squared_width: float) -> tf.Tensor:
        """The function's values at squared distances, of the same shape. The value at 0 is 1."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("zoo")
class RBF(Kernel):
    """The sum over s in `scales` of exp(-|x - y|^2 / (2 s bandwidth^2)). Arguments: see `Kernel`.

    Example:
        >>> k = zoo.discrepancies.RBF()([[0.0, 0.0]], [[1.0, 1.0], [3.0, 0.0]])
        >>> np.round(k, 3)  # exp(-2/4), exp(-9/4)
        array([[0.607, 0.105]], dtype=float32)
    """

    def at(self, squares, squared_width):
        return tf.exp(-squares / (2 * squared_width))


@keras.saving.register_keras_serializable("zoo")
class InverseMultiquadric(Kernel):
    """The sum over s in `scales` of C / (C + |x - y|^2), C = 2 s bandwidth^2.

    Tolstikhin et al., "Wasserstein Auto-Encoders", 2018, section 4, with C = 2 D for a prior
    N(0, I); the seven scales are those of the authors' code. The tails are heavy, so the gradient
    does not vanish for outliers. https://arxiv.org/abs/1711.01558,
    https://github.com/tolstikhin/wae

    Args:
        bandwidth: See `Kernel`.
        scales: Factors of C.
    """

    def __init__(
        self,
        bandwidth: float | None = None,
        scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    ):
        super().__init__(bandwidth, scales)

    def at(self, squares, squared_width):
        return 2 * squared_width / (2 * squared_width + squares)


def kernel_named(name: str, bandwidth: float | None = None) -> Kernel:
    """A kernel by name, for presets and command lines.

    Args:
        name: "rbf" for `RBF`, "imq" for `InverseMultiquadric`.
        bandwidth: See `Kernel`.

    Raises:
        ValueError: If `name` is unknown, or the bandwidth is not positive and finite.
    """
    return look_up({"rbf": RBF, "imq": InverseMultiquadric}, name, "kernel")(bandwidth)


def squared_mmd(x: Any, y: Any, kernel: Kernel, unbiased: bool = True) -> tf.Tensor:
    """E k(x, x') + E k(y, y') - 2 E k(x, y): the squared maximum mean discrepancy of two sets.

    Gretton et al., "A Kernel Two-Sample Test", 2012, eq. 3 (the U-statistic, `unbiased`) and
    eq. 5 (the V-statistic). https://jmlr.org/papers/v13/gretton12a.html

    The differences of all pairs, `N M D` numbers, are in memory, unless XLA fuses the operations.

    Args:
        x: `[..., N, D]`.
        y: `[..., M, D]`.
        kernel: A `Kernel`.
        unbiased: Whether to leave out the pairs of a point with itself. The estimate is then
            unbiased, and negative about half of the time for equal distributions; N and M must be
            at least 2. With these pairs the estimate is never negative, exactly 0 for equal sets,
            and too large by about (1/N + 1/M) (k(x, x) - E k(x, x')) on average.

    Returns:
        The squared discrepancies `[...]`, at most 2 k(x, x).

    Example:
        >>> x = tf.random.stateless_normal([500, 2], seed=[1, 2])
        >>> y = tf.random.stateless_normal([500, 2], seed=[3, 4]) + [1.0, 0.0]
        >>> mmd = zoo.discrepancies.squared_mmd(x, y, zoo.discrepancies.RBF())
        >>> abs(float(mmd) - 0.1175) < 0.03  # 1 - exp(-1/8) for infinitely many points
        True
    """

    def within(points):
        values = kernel(points, points)
        if not unbiased:
            return tf.reduce_mean(values, [-2, -1])
        values = tf.linalg.set_diag(values, tf.zeros_like(values[..., 0]))
        count = tf.cast(tf.shape(values)[-1], values.dtype)
        return tf.reduce_sum(values, [-2, -1]) / (count * (count - 1))

    return within(x) + within(y) - 2 * tf.reduce_mean(kernel(x, y), [-2, -1])


def squared_mmd_per_example(x: Any, y: Any, kernel: Kernel, unbiased: bool = True) -> tf.Tensor:
    """Losses `[..., B]` whose mean is `squared_mmd(x, y)`, for two sets of the same size.

    The loss of the pair (x_i, y_i) is the contribution of its rows in the kernel matrices,

        r_i = mean_j k(x_i, x_j) - mean_j k(x_i, y_j) + mean_j k(y_i, y_j) - mean_j k(y_i, x_j),

    the difference of the witness function (Gretton et al., 2012, section 2.3) between x_i and y_i.
    On several replicas, j runs over the points of all replicas. The mean over the global batch is
    therefore the statistic of the global batch, not a mean of the replicas' statistics. Replicas
    exchange the values of the points, not their gradients.

    Args:
        x: This replica's points, `[..., B, D]`.
        y: The same number of points, `[..., B, D]`.
        kernel: A `Kernel`.
        unbiased: See `squared_mmd`. The losses of a global batch of one example are then 0.

    Example:
        >>> x, y = np.float32([[0.0], [1.0]]), np.float32([[2.0], [3.0]])
        >>> kernel = zoo.discrepancies.RBF()
        >>> losses = zoo.discrepancies.squared_mmd_per_example(x, y, kernel)
        >>> bool(np.isclose(np.mean(losses), zoo.discrepancies.squared_mmd(x, y, kernel)))
        True

    Notes:
        The gradient of the mean with respect to the points is that of the statistic. Each row
        treats the other points as constant, but every pair of points occurs in two rows; each row
        therefore counts its gradient twice.
    """
    x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
    all_x, all_y = _on_all_replicas(x, y)
    count = tf.cast(tf.shape(all_x)[-2], x.dtype)

    def witness(points, own, other):
        sums = tf.reduce_sum(kernel(points, own), -1)
        mean = (sums - kernel.peak) / tf.maximum(count - 1, 1) if unbiased else sums / count
        return mean - tf.reduce_mean(kernel(points, other), -1)

    rows = witness(x, all_x, all_y) + witness(y, all_y, all_x)
    if unbiased:
        rows *= tf.cast(count > 1, rows.dtype)
    return 2 * rows - tf.stop_gradient(rows)


def mmd_to_prior(
    z: tf.Tensor,
    prior: Prior,
    y: Any = None,
    kernel: Kernel | None = None,
    unbiased: bool = True,
    seed: Any = None,
    training: bool = False,
) -> tf.Tensor:
    """`squared_mmd_per_example` of codes `z[..., B, D]` and draws of the prior: `[..., B]`.

    The result is differentiable in the codes, and in the prior's weights if the prior has any.

    Args:
        z: Codes. Each index of the leading axes is a separate set.
        prior: A `Prior` over `z[D]`.
        y: Conditions `[B, ...]`, which the prior may ignore. If the prior p(z | y) depends on the
            condition, one z is drawn per condition: the set is a sample of the mean of p(z | y).
        kernel: A `Kernel`; `InverseMultiquadric()` if `None`.
        unbiased: See `squared_mmd`.
        seed: Seed of the draws: an int, a `[2]` int tensor or `None`.
        training: Whether to call the prior in training mode.

    Raises:
        ValueError: If the prior has weights and its draws are not differentiable in the weights.
    """
    p = prior(y, training=training)
    if prior.trainable_variables and p.reparameterization_type != tfd.FULLY_REPARAMETERIZED:
        raise ValueError(
            "A prior that is trained with a discrepancy must have draws that are differentiable in "
            "its weights: the draws of flows are, those of mixtures are not. "
            f"Received: {type(prior).__name__}."
        )
    # A prior that depends on the condition is a batch of B distributions.
    sets = tf.shape(z)[:-2] if p.batch_shape.rank else tf.shape(z)[:-1]
    draws = tf.ensure_shape(p.sample(sets, seed=seed), z.shape)
    return squared_mmd_per_example(z, draws, kernel or InverseMultiquadric(), unbiased)


def _on_all_replicas(*points):
    """The values of `[..., B, D]` on all replicas, `[..., N, D]`."""
    points = [tf.stop_gradient(p) for p in points]
    replicas = tf.distribute.get_replica_context()
    if replicas.num_replicas_in_sync > 1:
        points = replicas.all_gather(points, axis=points[0].shape.rank - 2)
    return points
