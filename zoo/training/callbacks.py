"""Keras callbacks of a run: checkpoints, learning rates, pictures and evaluations."""

import contextlib
import dataclasses
import errno
import math
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy.typing as npt
import tensorflow as tf

from zoo import pictures
from zoo.config import look_up
from zoo.evaluation import HIGHER_IS_BETTER, METRICS, Evaluation, append
from zoo.files import naming, os_error, write_json
from zoo.model import GenerativeModel
from zoo.training.run import Run


class Checkpoints(keras.callbacks.Callback):
    """Saves the whole state of training after each epoch: weights, optimizers, seeds, step.

    A process that is killed while it writes a checkpoint leaves the previous one valid:
    `tf.train.CheckpointManager` moves a complete checkpoint into place and then renames the file
    that names the latest one. Weights that are not finite are never saved, because `fit` stops
    first.

    Args:
        folder: The folder of the checkpoints.
        keep: Number of checkpoints to keep.
        write: Whether this process writes checkpoints. With several workers, the chief writes and
            all workers read.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 2, write: bool = True):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.keep = keep
        self.write = write

    def _checkpoint(self, model):
        # Listed explicitly: TensorFlow's tracking misses Keras's dict of optimizers and the states
        # of its seed generators. Metrics are left out, because each epoch resets them.
        metrics = {
            id(v) for metric in [*model.metrics, model.first_non_finite] for v in metric.variables
        }
        variables = [v for v in model.variables if id(v) not in metrics]
        variables += [v for optimizer in model.optimizers.values() for v in optimizer.variables]
        variables = [v.value if isinstance(v, keras.Variable) else v for v in variables]
        return tf.train.Checkpoint(variables=variables)

    def restore(self, model: GenerativeModel, say: Callable[[str], None] = print) -> int:
        """Restores the newest whole checkpoint into `model`. Nothing is written.

        The checkpoints are found by their names, because the file that names the latest one may be
        lost or damaged too.

        Args:
            model: The model.
            say: Called with a line for each damaged checkpoint that is skipped.

        Returns:
            The number of finished epochs; 0 if there is no checkpoint.

        Raises:
            ValueError: If there are checkpoints and none is whole, or if the newest whole one
                belongs to another model.
        """
        reasons = {}
        for epoch, path in sorted(self._saved().items(), reverse=True):
            if reason := _damage(path):
                reasons[path] = reason
                continue
            try:
                self._checkpoint(model).restore(path).assert_consumed()
            except Exception as error:  # TensorFlow raises many types.
                raise ValueError(
                    f"The checkpoint '{path}' is whole, but belongs to another model than this "
                    f"version of the zoo builds: {_first_line(error)}. Continue the run with the "
                    "version that started it (see config.json), or start again with --overwrite."
                ) from error
            for damaged, reason in reasons.items():
                say(f"The checkpoint '{damaged}' is damaged and skipped: {reason}.")
            return epoch
        if (self.folder / "checkpoint").exists():  # It is written after a whole checkpoint.
            damage = [f"'{path}' is damaged: {reason}. " for path, reason in reasons.items()]
            raise ValueError(
                f"{''.join(damage)}There is no whole checkpoint in '{self.folder}', and nothing was "
                "changed. Restore the files from a copy, or start again with --overwrite."
            )
        return 0

    def _saved(self):
        """The paths of all checkpoints by epoch, from the names of their files."""
        found = {}
        for path in self.folder.glob("ckpt-*"):
            if named := re.fullmatch(r"ckpt-(\d+)\.(index|data-\d+-of-\d+)", path.name):
                found[int(named[1])] = str(self.folder / f"ckpt-{named[1]}")
        return found

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.manager = None
        if self.write:
            with _naming(self.folder):
                self._remove_damaged_state()
                self.manager = tf.train.CheckpointManager(
                    self._checkpoint(self.model), str(self.folder), self.keep
                )

    def _remove_damaged_state(self):
        """Removes the file that names the latest checkpoint if TensorFlow cannot read it."""
        try:
            state = tf.train.get_checkpoint_state(str(self.folder))
        except ValueError:
            state = None
        if state is None:
            (self.folder / "checkpoint").unlink(missing_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.manager is not None:
            with _naming(self.folder):
                self.manager.save(checkpoint_number=epoch + 1)
                # The manager deletes only the checkpoints that its own file lists.
                for number, path in self._saved().items():
                    if number <= epoch + 1 - self.keep:
                        for file in self.folder.glob(f"{pathlib.Path(path).name}.*"):
                            file.unlink(missing_ok=True)


def _damage(path: str) -> str | None:
    """Why a checkpoint cannot be read; `None` if it is whole.

    TensorFlow compares the checksum of each tensor when it reads the tensor.
    """
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except Exception as error:  # TensorFlow raises many types for a damaged file.
        return _first_line(error)
    return None


def _first_line(error):
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(". ")


@contextlib.contextmanager
def _naming(path) -> Iterator[None]:
    """A context in which TensorFlow's errors of the file system are `OSError`s that name `path`."""
    try:
        with naming(path):
            yield
    except tf.errors.OpError as error:
        found = os_error(error)
        if found is None and isinstance(error, tf.errors.ResourceExhaustedError):
            raise  # The memory is exhausted, not a disk.
        number, reason = (errno.EIO, _first_line(error)) if found is None else found.args
        raise OSError(number, reason, str(path)) from error


DECAYS = {
    "none": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
"""Factors of the learning rates by name, functions of the share of finished epochs in [0, 1)."""


class LearningRateDecay(keras.callbacks.Callback):
    """Decays the learning rates of all players from epoch to epoch.

    Epoch e of E (counted from 0) uses the rate `rates[player] * DECAYS[decay](e / E)`. The rate
    depends on the epoch only, so a resumed run has the rates of an uninterrupted one. "cosine" is
    the decay of Loshchilov and Hutter, "SGDR", 2017, eq. 5, without restarts.
    https://arxiv.org/abs/1608.03983

    Args:
        decay: A key of `DECAYS`.
        rates: The initial learning rates by player.

    Raises:
        ValueError: If `decay` is unknown.
    """

    def __init__(self, decay: str, rates: Mapping[str, float]):
        super().__init__()
        self.factor = look_up(DECAYS, decay, "learning_rate_decay")
        self.rates = rates

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        for player, optimizer in self.model.optimizers.items():
            optimizer.learning_rate = self.rates[player] * self.factor(
                epoch / self.params["epochs"]
            )


class FitAveragedState(keras.callbacks.Callback):
    """Computes the batch statistics of the averaged weights after each epoch.

    It must come before callbacks that use the averaged weights or save the model. It does nothing
    if the optimizers keep no averages.

    Args:
        batches: Batches of training data, for `GenerativeModel.fit_averaged_state`.
    """

    def __init__(self, batches: tf.data.Dataset):
        super().__init__()
        self.batches = batches

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.model.keeps_averages:
            self.model.fit_averaged_state(self.batches)


class EpochLines(keras.callbacks.Callback):
    """Reports the results of the first and the last epoch and of about twenty epochs in between.

    Args:
        say: Called with each line.
    """

    def __init__(self, say: Callable[[str], None] = print):
        super().__init__()
        self.say = say

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        epochs = self.params["epochs"]
        if epoch in (0, epochs - 1) or (epoch + 1) % max(1, epochs // 20) == 0:
            results = ", ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
            self.say(f"epoch {epoch + 1} of {epochs}: {results}")


class TrainingTime(keras.callbacks.Callback):
    """Adds up the time of the training steps, including tracing and compilation.

    The time includes the work of other callbacks after a step. If this callback is the first in the
    list, the time excludes validation and the work of other callbacks at the end of an epoch.

    Attributes:
        seconds: The time of the last call of `fit`, in seconds.
    """

    def __init__(self):
        super().__init__()
        self.seconds = 0.0
        self._started = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._started = time.monotonic()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._stop()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._stop()

    def _stop(self):
        if self._started is not None:
            self.seconds += time.monotonic() - self._started
            self._started = None


class MetricsRows(keras.callbacks.CSVLogger):
    """Appends a row to metrics.csv after each epoch. An error of the write names the file.

    If the file, or the folder of the run, is removed during training, the next epoch ends with an
    error, and no later callback creates the folder again.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        with naming(self.filename):
            super().on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with naming(self.filename):
            os.stat(self.filename)  # A write to a removed file would succeed.
            super().on_epoch_end(epoch, logs)


class EventFiles(keras.callbacks.TensorBoard):
    """Writes TensorBoard's event files. An error of a write names their folder."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with _naming(self.log_dir):
            super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        with _naming(self.log_dir):
            super().on_train_end(logs)


class _EpochGrids(keras.callbacks.Callback):
    """Writes a picture after each epoch: `folder/epoch-0001.png` and so on."""

    def __init__(self, folder: pathlib.Path):
        super().__init__()
        self.folder = pathlib.Path(folder)

    def write(self, path: pathlib.Path) -> None:
        """Writes the picture of the model."""
        raise NotImplementedError

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.model.best_weights():
            self.write(self.folder / f"epoch-{epoch + 1:04}.png")


class SampleGrids(_EpochGrids):
    """Decodes the same latents after each epoch into `folder/epoch-0001.png` and so on.

    Args:
        folder: The folder of the pictures.
        latents: Latents `[N, D]`.
        y: A condition for each latent, `[N, ...]`, if the model takes one.
    """

    def __init__(
        self, folder: pathlib.Path, latents: npt.ArrayLike, y: npt.ArrayLike | None = None
    ):
        super().__init__(folder)
        self.latents, self.y = latents, y

    def write(self, path: pathlib.Path) -> None:
        pictures.samples(self.model, self.latents, path, y=self.y)


class ReconstructionGrids(_EpochGrids):
    """Reconstructs the same images after each epoch into `folder/epoch-0001.png` and so on.

    Args:
        folder: The folder of the pictures.
        x: Images `[N, H, W, C]` in [0, 1].
        y: A condition for each image, `[N, ...]`, if the encoder takes one.
    """

    def __init__(self, folder: pathlib.Path, x: npt.ArrayLike, y: npt.ArrayLike | None = None):
        super().__init__(folder)
        self.x, self.y = x, y

    def write(self, path: pathlib.Path) -> None:
        pictures.reconstructions(self.model, self.x, path, self.y)


class KeepBest(keras.callbacks.Callback):
    """Evaluates the model during training, and keeps the best model.

    The model is evaluated every `every` epochs and after the last epoch, and after the epochs in
    `epochs`. The results are appended to the run's evaluation.jsonl. The value of the metric is
    logged as `val_<name>`, with NaN in the other epochs. The best model so far is in best.keras and
    its result in best.json; a resumed run compares new results with best.json.

    Args:
        run: The run.
        subject: Maps the model to an `Evaluation` on validation data, not on test data.
        metric: A key of `zoo.evaluation.METRICS`. If a metric has several values, the first counts.
        name: The name of the first value.
        every: Number of epochs between evaluations; 0 to evaluate only after `epochs`.
        epochs: Further epochs after which the model is evaluated, counted from 1.
        say: Called with a line if the metric has no value.
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

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        value = math.nan
        done, last = epoch + 1, self.params["epochs"]
        if done in self.epochs or (self.every and (done % self.every == 0 or done == last)):
            with self.model.best_weights():
                results = list(self.subject(self.model).run([self.metric]))
            for result in results:
                about = result.sampling | {"epoch": epoch + 1}
                result = dataclasses.replace(result, sampling=about)
                append(self.run.evaluation_path, result)
                if result.value is None:
                    self.say(f"Epoch {epoch + 1}: {result}")
                elif result.kind == self.kind:
                    value = result.value
                    self._keep_if_best(result)
        if logs is not None:
            logs[f"val_{self.name}"] = value

    def _keep_if_best(self, result):
        if self.run.best_result_path.is_file() and self.run.best_path.is_file():
            best = self.run.read_best()["value"]
            if result.value <= best if self.higher_is_better else result.value >= best:
                return
        self.run.save_model(self.model, best=True)
        write_json(self.run.best_result_path, dataclasses.asdict(result))
