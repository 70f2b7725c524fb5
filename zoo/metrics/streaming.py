"""Keras metrics of features that arrive in batches.

The float64 state is summed over replicas when it is read. It holds sums over features, or the
features themselves, with separate rows for each replica. The results equal those of the functions
of the same names on all features at once, for any batches and replicas.

`update_state` and `result` work eagerly, in `tf.function` and in replicas. XLA cannot compile
`result`, because it calls NumPy.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.contract import check_counts
from zoo.metrics.classifier_score import score_of_sums
from zoo.metrics.estimate import Estimate
from zoo.metrics.frechet import Moments, frechet_distance
from zoo.metrics.kernel import kernel_distance
from zoo.metrics.manifold import precision_recall_density_coverage


class _Streaming(keras.metrics.Metric):
    """A Keras metric that is a function of its state."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(dtype="float64", name=name)

    def report(self) -> Estimate | dict[str, Estimate]:
        """The metric of all examples so far as an `Estimate`. Eager only."""
        return self._report(*(value.numpy() for value in self._state()))

    def result(self) -> tf.Tensor | dict[str, tf.Tensor]:
        """The value of `report` as a scalar tensor. It also works in graphs."""

        def value(*state):
            return np.float64(self._report(*state))

        return tf.ensure_shape(tf.numpy_function(value, self._state(), tf.float64), ())

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    def _add(self, name: str, *shape: int) -> keras.Variable:
        return self.add_variable(shape, "zeros", "float64", aggregation="sum", name=name)

    def _state(self) -> list[tf.Tensor]:
        values = [tf.convert_to_tensor(variable) for variable in self.variables]
        replicas = _replicas()
        return replicas.all_reduce(tf.distribute.ReduceOp.SUM, values) if replicas else values

    def _report(self, *state: np.ndarray) -> Estimate | dict[str, Estimate]:
        raise NotImplementedError


class _TwoSets(_Streaming):
    """A metric with equal state for real and for generated examples."""

    def __init__(self, dim: int, name: str | None, **shapes: tuple[int, ...]) -> None:
        super().__init__(name=name)
        self.dim = dim
        self.real_state, self.fake_state = (
            [self._add(f"{which}_{part}", *shape) for part, shape in shapes.items()]
            for which in ("real", "fake")
        )

    def update_state(self, features: tf.Tensor, real: bool) -> None:
        """Adds features.

        Args:
            features: Floats `[B, dim]`.
            real: True for features of real examples, False for generated ones. A Python bool.

        Raises:
            ValueError: If `features` has another shape or dtype. `report` raises an error for NaN.
        """
        features = _checked(features, "features", self.dim)
        if not isinstance(real, bool):
            raise ValueError(f"`real` must be True or False. Received: {real!r}.")
        self._update(self.real_state if real else self.fake_state, features)

    def reset_state(self, keep_real: bool = False) -> None:
        """Resets the state of the generated examples, and of the real ones unless `keep_real`."""
        for variable in [*([] if keep_real else self.real_state), *self.fake_state]:
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dim": self.dim}

    def _update(self, state: list[keras.Variable], features: tf.Tensor) -> None:
        raise NotImplementedError


@keras.saving.register_keras_serializable("zoo")
class FrechetDistance(_TwoSets):
    """`zoo.metrics.frechet_distance` of features in batches.

    The state is `Moments`, so memory does not grow with the number of examples.

    Args:
        dim: Number of features, d.
        name: The name of the Keras metric.

    Example:
        >>> metric = zoo.metrics.FrechetDistance(dim=2)
        >>> for batch in np.random.default_rng(0).normal(size=(5, 20, 2)):
        ...     metric.update_state(batch, real=True)
        ...     metric.update_state(batch + 3, real=False)
        >>> float(round(metric.result().numpy(), 6))
        18.0
    """

    def __init__(self, dim: int, name: str | None = None) -> None:
        super().__init__(dim, name, n=(), sum=(dim,), outer=(dim, dim))

    def moments(self, real: bool) -> Moments:
        """The moments of the real or of the generated examples so far."""
        state = self._state()
        n, total, outer = (v.numpy() for v in (state[:3] if real else state[3:]))
        return Moments(round(float(n)), total, outer)

    def _update(self, state, features):
        n, total, outer = state
        n.assign_add(tf.cast(tf.shape(features)[0], tf.float64))
        total.assign_add(tf.reduce_sum(features, 0))
        outer.assign_add(tf.matmul(features, features, transpose_a=True))

    def _report(self, *state):
        real, fake = (
            Moments(round(float(n)), total, outer) for n, total, outer in (state[:3], state[3:])
        )
        return frechet_distance(real, fake)


class _Reservoir(_TwoSets):
    """A metric that keeps up to `capacity` examples of each set.

    Within a step the examples are ordered by replica.
    """

    def __init__(self, dim: int, capacity: int, name: str | None) -> None:
        super().__init__(dim, name, n=(), rows=(capacity, dim))
        self.capacity = capacity

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"capacity": self.capacity}

    def _update(self, state, features):
        n, rows = state
        before, size = tf.convert_to_tensor(n), tf.cast(tf.shape(features)[0], tf.float64)
        start = before
        if replicas := _replicas():
            counts = tf.reshape(replicas.all_gather(tf.stack([before, size])[None], 0), (-1, 2))
            earlier = counts[: replicas.replica_id_in_sync_group, 1]
            start = tf.reduce_sum(counts[:, 0]) + tf.reduce_sum(earlier)
        places = tf.cast(tf.round(start), tf.int64) + tf.range(tf.cast(size, tf.int64))
        fits = places < self.capacity
        rows.assign(
            tf.tensor_scatter_nd_update(
                tf.convert_to_tensor(rows),
                tf.boolean_mask(places, fits)[:, None],
                tf.boolean_mask(features, fits),
            )
        )
        n.assign(before + size)

    def _report(self, *state):
        sets = []
        for name, n, rows in (("real", *state[:2]), ("generated", *state[2:])):
            n = round(float(n))
            if n > self.capacity:
                raise ValueError(
                    f"'{self.name}' has a capacity of {self.capacity} {name} examples. Received: {n}; "
                    "use a larger `capacity`, or fewer examples."
                )
            sets.append(rows[:n])
        return self._of(*sets)

    def _of(self, real: np.ndarray, fake: np.ndarray) -> Estimate | dict[str, Estimate]:
        raise NotImplementedError


@keras.saving.register_keras_serializable("zoo")
class KernelDistance(_Reservoir):
    """`zoo.metrics.kernel_distance` of features in batches.

    Args:
        dim: Number of features, d.
        capacity: The largest number of examples of each set, 8 d bytes each. With more examples
            `report` and `result` raise an error.
        name: The name of the Keras metric.
        **settings: Settings of `kernel_distance`.

    Example:
        >>> metric = zoo.metrics.KernelDistance(dim=1, capacity=4, estimator="full")
        >>> metric.update_state([[0.0], [1.0]], real=True)
        >>> metric.update_state([[1.0], [2.0], [0.0]], real=False)
        >>> round(metric.report().value, 6)  # 1 + (1 + 1 + 27) / 3 - 2 (3 + 1 + 8 + 27) / 6
        -2.333333
    """

    def __init__(self, dim: int, capacity: int, name: str | None = None, **settings: Any) -> None:
        super().__init__(dim, capacity, name)
        self.settings = settings

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.settings

    def _of(self, real, fake):
        return kernel_distance(real, fake, **self.settings)


@keras.saving.register_keras_serializable("zoo")
class PRDC(_Reservoir):
    """`zoo.metrics.precision_recall_density_coverage` of features in batches.

    `result` is a dict of scalars, `report` a dict of `Estimate`s.

    Args:
        dim: Number of features, d.
        capacity: The largest number of examples of each set, 8 d bytes each. With more examples
            `report` and `result` raise an error.
        k: The number of the neighbour that sets the radius of a ball.
        ties: "strict" or "inclusive".
        name: The name of the Keras metric.

    Example:
        >>> metric = zoo.metrics.PRDC(dim=1, capacity=10, k=1)
        >>> metric.update_state([[0.0], [1.0], [3.0], [6.0]], real=True)
        >>> metric.update_state([[0.5], [0.75], [1.5], [9.0]], real=False)
        >>> float(metric.result()["density"])
        1.5
    """

    NAMES = ("precision", "recall", "density", "coverage")

    def __init__(
        self, dim: int, capacity: int, k: int = 5, ties: str = "strict", name: str | None = None
    ) -> None:
        super().__init__(dim, capacity, name)
        check_counts(k=k)
        self.k, self.ties = k, ties

    def result(self) -> dict[str, tf.Tensor]:
        """The values of `report` as scalar tensors by name. It also works in graphs."""

        def values(*state):
            scores = self._report(*state)
            return np.float64([scores[name] for name in self.NAMES])

        together = tf.numpy_function(values, self._state(), tf.float64)
        return dict(zip(self.NAMES, tf.unstack(tf.ensure_shape(together, (4,))), strict=True))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"k": self.k, "ties": self.ties}

    def _of(self, real, fake):
        return precision_recall_density_coverage(real, fake, self.k, self.ties)


@keras.saving.register_keras_serializable("zoo")
class ClassifierScore(_Streaming):
    """`zoo.metrics.classifier_score` of logits in batches, with one part: `splits=1`.

    The state is a sum over examples, so the result does not depend on the batches.

    Args:
        num_classes: Number of logits, K.
        name: The name of the Keras metric.

    Example:
        >>> metric = zoo.metrics.ClassifierScore(num_classes=2)
        >>> metric.update_state([[0.0, 100.0], [100.0, 0.0]])
        >>> float(metric.result())
        2.0
    """

    def __init__(self, num_classes: int, name: str | None = None) -> None:
        super().__init__(name=name)
        check_counts(num_classes=num_classes)
        self.num_classes = num_classes
        self.n = self._add("n")
        self.negative_entropies = self._add("negative_entropies")
        self.probabilities = self._add("probabilities", num_classes)

    def update_state(self, logits: tf.Tensor) -> None:
        """Adds logits, floats `[B, num_classes]`. `report` raises an error for NaN.

        Raises:
            ValueError: If `logits` has another shape or dtype.
        """
        logits = _checked(logits, "logits", self.num_classes)
        log_p = tf.nn.log_softmax(logits)
        p = tf.exp(log_p)
        self.n.assign_add(tf.cast(tf.shape(logits)[0], tf.float64))
        self.negative_entropies.assign_add(tf.reduce_sum(p * log_p))
        self.probabilities.assign_add(tf.reduce_sum(p, 0))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"num_classes": self.num_classes}

    def _report(self, n, negative_entropies, probabilities):
        if n < 1 or not np.isfinite(negative_entropies):
            raise ValueError(
                f"'{self.name}' needs at least 1 example, and finite logits only. "
                f"Received: {n:.0f} examples{', some of them NaN or infinite' if n else ''}."
            )
        return Estimate(
            score_of_sums(n, negative_entropies, probabilities),
            n_fake=round(float(n)),
            estimator={"splits": 1, "dtype": "float64"},
        )


def _replicas() -> tf.distribute.ReplicaContext | None:
    """The context of the replica if there are several, otherwise `None`."""
    context = tf.distribute.get_replica_context()
    return context if context and context.num_replicas_in_sync > 1 else None


def _checked(values: Any, name: str, dim: int) -> tf.Tensor:
    values = tf.convert_to_tensor(values)
    if not values.dtype.is_floating or not values.shape.is_compatible_with((None, dim)):
        raise ValueError(
            f"`{name}` must be floats of shape [B, {dim}]. Received: {values.dtype.name} of shape "
            f"{tuple(values.shape)}."
        )
    # Cast before products: GPUs may multiply float32 with only 10 bits.
    return tf.cast(values, tf.float64)
