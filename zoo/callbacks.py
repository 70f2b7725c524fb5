"""Keras callbacks: checkpoints to resume from, pictures and evaluations on the way."""

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from zoo import pictures
from zoo.config import look_up
from zoo.evaluation import HIGHER_IS_BETTER, METRICS, Evaluation, append
from zoo.model import GenerativeModel
from zoo.runs import Run, write_json


class Checkpoints(keras.callbacks.Callback):
    """Keeps the whole state of training after each epoch: weights, optimizers, seeds, step.

    A checkpoint counts once it is complete: a process killed while it writes one leaves the former
    one valid (`tf.train.CheckpointManager` moves a finished checkpoint into place and renames the
    file that names the latest). Weights that are not finite are never kept: `fit` stops before.

    Args:
        folder: Where checkpoints lie.
        keep: How many to keep.
        write: Whether this process writes; of several workers, the chief does, and all read.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 2, write: bool = True):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.keep = keep
        self.write = write

    def _manager(self, model):
        # Listed by hand: TensorFlow's own tracking sees neither Keras's dict of optimizers nor the
        # states of its seed generators. Metrics start anew in each epoch.
        passing = {
            id(v) for metric in [*model.metrics, model.first_non_finite] for v in metric.variables
        }
        variables = [v for v in model.variables if id(v) not in passing]
        variables += [v for optimizer in model.optimizers.values() for v in optimizer.variables]
        variables = [v.value if isinstance(v, keras.Variable) else v for v in variables]
        return tf.train.CheckpointManager(
            tf.train.Checkpoint(variables=variables), str(self.folder), self.keep
        )

    def restore(self, model: GenerativeModel) -> int:
        """Puts `model` into the latest checkpoint's state; returns the number of epochs done.

        Raises:
            ValueError: If the checkpoint is damaged, or of another model.
        """
        manager = self._manager(model)
        latest = manager.latest_checkpoint
        if latest is None:
            return 0
        try:
            manager.checkpoint.restore(latest).assert_consumed()
        except Exception as error:  # TensorFlow raises all kinds for a damaged file.
            older = [path for path in manager.checkpoints if path != latest]
            raise ValueError(
                f"The checkpoint '{latest}' cannot be restored: {str(error).splitlines()[0].rstrip('.')}. "
                + (
                    f"The one before, '{older[-1]}', may be whole: to go on from it, write its name "
                    f"in place of the other into '{self.folder / 'checkpoint'}'."
                    if older
                    else "There is none before it; train anew with --overwrite."
                )
            ) from error
        return int(latest.rpartition("-")[2])

    def on_train_begin(self, logs=None):
        self.manager = self._manager(self.model) if self.write else None

    def on_epoch_end(self, epoch, logs=None):
        if self.write:
            self.manager.save(checkpoint_number=epoch + 1)


DECAYS = {
    "none": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
"""What learning rates are multiplied by, for the share of the epochs that is done, in [0, 1)."""


class LearningRateDecay(keras.callbacks.Callback):
    """Lets the learning rates of all players fall, epoch by epoch, from those given.

    Epoch e of E (from 0 on) is trained at `rates[player] * DECAYS[decay](e / E)`: a function of the
    epoch alone, so that a resumed run has the rates of the uninterrupted one. "cosine" is the fall of
    Loshchilov and Hutter, "SGDR", 2017, eq. 5, without restarts. https://arxiv.org/abs/1608.03983

    Args:
        decay: A key of `DECAYS`.
        rates: The players' learning rates at the start.

    Raises:
        ValueError: For a decay that there is not.
    """

    def __init__(self, decay: str, rates: Mapping[str, float]):
        super().__init__()
        self.factor = look_up(DECAYS, decay, "learning_rate_decay")
        self.rates = rates

    def on_epoch_begin(self, epoch, logs=None):
        for player, optimizer in self.model.optimizers.items():
            optimizer.learning_rate = self.rates[player] * self.factor(
                epoch / self.params["epochs"]
            )


class EpochLines(keras.callbacks.Callback):
    """Says the results of the first, the last and some twenty epochs between.

    Args:
        say: Called with each line.
    """

    def __init__(self, say: Callable[[str], None] = print):
        super().__init__()
        self.say = say

    def on_epoch_end(self, epoch, logs=None):
        epochs = self.params["epochs"]
        if epoch in (0, epochs - 1) or (epoch + 1) % max(1, epochs // 20) == 0:
            results = ", ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
            self.say(f"epoch {epoch + 1} of {epochs}: {results}")


class TrainingTime(keras.callbacks.Callback):
    """Adds up what the steps take, the first one's tracing and compilation included.

    Validation, and what callbacks do at the end of an epoch, are left out if this one stands first
    among them; what they do after a step is not.

    Attributes:
        seconds: Of the last training with this callback.
    """

    def __init__(self):
        super().__init__()
        self.seconds = 0.0
        self._begun = None

    def on_train_begin(self, logs=None):
        self.seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._begun = time.monotonic()

    def on_test_begin(self, logs=None):
        self._stop()

    def on_epoch_end(self, epoch, logs=None):
        self._stop()

    def _stop(self):
        if self._begun is not None:
            self.seconds += time.monotonic() - self._begun
            self._begun = None


class SampleGrids(keras.callbacks.Callback):
    """Decodes the same latents after each epoch into `folder/epoch-0001.png` and so on.

    Args:
        folder: Where the pictures go.
        latents: `[N, D]`.
        y: A condition for each, `[N, ...]`, where the model takes one.
    """

    def __init__(self, folder: pathlib.Path, latents, y=None):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.latents, self.y = latents, y

    def on_epoch_end(self, epoch, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.model.best_weights():
            path = self.folder / f"epoch-{epoch + 1:04}.png"
            pictures.samples(self.model, self.latents, path, y=self.y)


class KeepBest(keras.callbacks.Callback):
    """Evaluates the model now and then, and keeps the best one beside the last.

    After every `every` epochs and after the last one, or after `epochs`, each result is added to the run's
    evaluation.jsonl, and the metric's value to the epoch's logs as `val_` and its name, with NaN in
    the other epochs. The best model so far lies in best.keras, its result in best.json, from where a
    resumed run takes it.

    Args:
        run: Where everything goes.
        subject: Makes the `Evaluation` of the model; validation data, not test data.
        metric: A key of `zoo.evaluation.METRICS`; where it gives several values the first counts.
        name: The first value's name.
        every: Number of epochs between; 0 for `epochs` alone.
        epochs: Numbers of further epochs, from 1 on.
        say: Called with a line where the metric has no value.
    """

    def __init__(
        self,
        run: Run,
        subject: Callable[[GenerativeModel], Evaluation],
        metric: str,
        name: str,
        every: int = 1,
        epochs: Sequence[int] = (),
        say: Callable[[str], None] = print,
    ):
        super().__init__()
        self.run, self.subject, self.say = run, subject, say
        self.every, self.epochs = every, epochs
        self.metric, self.name = metric, name
        self.kind = METRICS[metric].main_kind
        self.higher_is_better = HIGHER_IS_BETTER[self.kind]

    def on_epoch_end(self, epoch, logs=None):
        value = math.nan
        done, last = epoch + 1, self.params["epochs"]
        if done in self.epochs or (self.every and (done % self.every == 0 or done == last)):
            with self.model.best_weights():
                results = list(self.subject(self.model).run([self.metric]))
            for result in results:
                about = result.sampling | {"epoch": epoch + 1}
                result = dataclasses.replace(result, sampling=about)
                append(self.run.evaluation, result)
                if result.value is None:
                    self.say(f"Epoch {epoch + 1}: {result}")
                elif result.kind == self.kind:
                    value = result.value
                    self._keep_if_best(result)
        if logs is not None:
            logs[f"val_{self.name}"] = value

    def _keep_if_best(self, result):
        if self.run.best_result.is_file() and self.run.best.is_file():
            best = json.loads(self.run.best_result.read_text())["value"]
            if result.value <= best if self.higher_is_better else result.value >= best:
                return
        self.run.save_model(self.model, best=True)
        write_json(self.run.best_result, dataclasses.asdict(result))
