"""The guard of `fit`: training stops at the first invalid batch, and at the first result that is
NaN or infinite.
"""

import time
from collections.abc import Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf

_REMEDIES = (
    "The weights are unusable after this step. The usual remedies are a lower learning rate, "
    "gradient clipping (`global_clipnorm` of the optimizer), and float32 instead of bfloat16."
)


class NonFiniteError(ArithmeticError):
    """A loss or a term is NaN or infinite. The message names the player, the term and the step."""


class FirstNonFinite(keras.metrics.Metric):
    """Records, for each named result, the first step at which it was NaN or infinite, or -1.

    Args:
        names: Names of the results.
    """

    def __init__(self, names: Iterable[str]):
        super().__init__(name="first_non_finite", dtype="int64")
        self.names = list(names)
        self.steps = self.add_variable(
            (len(self.names),),
            "zeros",
            dtype="int64",
            aggregation="only_first_replica",
            name="steps",
        )
        self.reset_state()

    def update_state(self, results: Mapping[str, tf.Tensor], step: tf.Tensor) -> None:
        """Records the results of a step, by name. All replicas record the same steps."""
        bad = tf.stack([~tf.reduce_all(tf.math.is_finite(results[name])) for name in self.names])
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1:
            bad = replicas.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(bad, tf.float32)) > 0
        first, step = tf.convert_to_tensor(self.steps), tf.convert_to_tensor(step)
        self.steps.assign(tf.where(bad & (first < 0), step, first))

    def reset_state(self) -> None:
        self.steps.assign(np.full(len(self.names), -1))

    def result(self) -> tf.Tensor:
        """The steps, int64, in the order of `names`."""
        return tf.convert_to_tensor(self.steps)


class StopAtNonFinite(keras.callbacks.Callback):
    """Raises an error soon after a batch is invalid, or a result or a weight becomes non-finite.

    The step is recorded inside the graph. Reading it waits for the device, so the callback reads it
    only once a second and at the end of each epoch, before a validation.

    Args:
        every_batch: Whether to read after every batch, because another callback may then save.

    Raises:
        ValueError: If the data of a batch is out of range: see `GenerativeModel.fit`.
        NonFiniteError: If a loss, a term or a weight is NaN or infinite.
    """

    def __init__(self, every_batch: bool = False):
        super().__init__()
        self.every_batch = every_batch
        self.last_check = 0.0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.every_batch or time.monotonic() - self.last_check > 1:
            self._check_results()
            self.last_check = time.monotonic()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._check_results()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._check_results()
        # The losses of the last step are computed before its updates, so check the weights too.
        for player in self.model.players():
            for variable in self.model.variables_of(player):
                if not np.isfinite(variable.numpy()).all():
                    raise NonFiniteError(
                        f"Training stopped: by step {int(self.model.step)}, the end of epoch "
                        f"{epoch + 1}, the weights '{variable.path}' of player '{player}' became "
                        f"NaN or infinite. {_REMEDIES}"
                    )

    def _check_results(self):
        # Check the data first: a NaN in the data makes the results NaN.
        self.model.check_record("training")
        first = self.model.first_non_finite.result().numpy()
        if (first < 0).all():
            return
        step = first[first >= 0].min()
        names = [n for n, s in zip(self.model.trackers, first, strict=True) if s == step]
        losses = [name for name in names if name not in self.model.terms]
        players = list(self.model.players())
        if losses != ["loss"]:
            players = [name.removesuffix("_loss") for name in losses]
        owner = f"player {', '.join(map(repr, players))}" if losses else "no player's loss yet"
        raise NonFiniteError(
            f"Training stopped: at step {step} {' and '.join(map(repr, names))} became NaN or "
            f"infinite ({owner}). {_REMEDIES}"
        )
