"""The folder of a training run: names of the files in it, and functions that read them."""

import contextlib
import csv
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
from ml_collections import ConfigDict

from zoo import datasets, presets
from zoo.config import with_article
from zoo.datasets import ImageData, masks
from zoo.datasets.images import SPLITS
from zoo.files import (
    check_archive,
    check_fields,
    is_temporary,
    lock,
    read_json,
    remove_leftovers,
    replacing,
    write_bytes,
    write_json,
)
from zoo.model import GenerativeModel
from zoo.versions import versions


class Run:
    """The folder of one training run. The constructor reads and writes nothing.

        config.json          the full configuration, enough to repeat the run
        seen.*               a copy of the mask image that `data.seen` names, if it names one
        metrics.csv          losses and terms of each epoch
        tensorboard/         the same numbers as event files
        checkpoints/         checkpoints to resume from
        samples/             the same latents, decoded after each epoch
        reconstructions/     the same images, reconstructed after each epoch, if there are no samples
        *.png                learning curves, samples, reconstructions, interpolations, latents
        model.keras          the final model
        best.keras, .json    the best model of those evaluated during training, and its result
        results.json         scores, times, versions
        evaluation.jsonl     results of `trainers.evaluate` and of evaluations during training
        features/            cached features of real images
        saved_model/         the output of `trainers.export`; also tflite/, onnx/

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.config_path = self.path / "config.json"
        self.metrics_path = self.path / "metrics.csv"
        self.tensorboard_dir = self.path / "tensorboard"
        self.checkpoints_dir = self.path / "checkpoints"
        self.samples_dir = self.path / "samples"
        self.reconstructions_dir = self.path / "reconstructions"
        self.model_path = self.path / "model.keras"
        self.best_path = self.path / "best.keras"
        self.best_result_path = self.path / "best.json"
        self.results_path = self.path / "results.json"
        self.evaluation_path = self.path / "evaluation.jsonl"
        self.features_dir = self.path / "features"
        self.saved_model_dir = self.path / "saved_model"

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run: it has a config.json."""
        return self.config_path.is_file()

    def check_free(self, overwrite: bool = False) -> None:
        """Checks that a new run may start in the folder.

        Args:
            overwrite: Whether an existing run in the folder may be replaced.

        Raises:
            FileExistsError: If the path is a file, if the folder holds something other than a run,
                or if it holds a run and `overwrite` is not set.
        """
        for path in (self.path, *self.path.parents):
            if path.exists() and not path.is_dir():
                raise FileExistsError(f"'{path}' is a file. Choose another --output.")
        if not self.path.is_dir() or all(map(is_temporary, self.path.iterdir())):
            return
        if not self.exists:
            raise FileExistsError(
                f"The folder '{self.path}' holds something other than a run. "
                "Choose another --output."
            )
        if not overwrite:
            raise FileExistsError(
                f"There is a run in '{self.path}' already. Continue it (--resume), replace it "
                "(--overwrite) or choose another --output."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process trains in the folder; see `zoo.files.lock`.

        Temporary files that killed processes left in the folder are removed.

        Raises:
            BlockingIOError: If another process trains in the folder.
        """
        with lock(self.path):
            folders = (self.samples_dir, self.reconstructions_dir, self.features_dir)
            remove_leftovers(self.path, *folders)
            yield

    def begin(self, config: ConfigDict) -> None:
        """Creates the folder, removes the files of an older run, and writes the configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        for old in (
            self.tensorboard_dir,
            self.checkpoints_dir,
            self.samples_dir,
            self.reconstructions_dir,
            self.saved_model_dir,
        ):
            # An old checkpoint that stays would be taken for one of the new run.
            if os.path.lexists(old):
                shutil.rmtree(old)
        files = (
            self.metrics_path,
            self.model_path,
            self.best_path,
            self.best_result_path,
            self.results_path,
        )
        pictures = [path for path in self.path.glob("*.png") if path.stem != "seen"]
        for old in (*files, self.evaluation_path, *pictures):
            old.unlink(missing_ok=True)
        self.write_config(config)

    def write_config(self, config: ConfigDict) -> None:
        """Writes the configuration, the versions of the packages, and a copy of a mask image."""
        settings, own = presets.to_dict(config) | {"versions": versions()}, None
        if config.data.seen and masks.is_file(config.data.seen):
            content = pathlib.Path(config.data.seen).expanduser().read_bytes()
            own = self.path / f"seen{pathlib.Path(config.data.seen).suffix.lower()}"
            write_bytes(own, content)
            settings["data"]["seen"] = own.name
        write_json(self.config_path, settings)
        for old in self.path.glob("seen.*"):
            if old != own:
                old.unlink()

    def read_config(self) -> ConfigDict:
        """The configuration that the run was started with.

        Raises:
            FileNotFoundError: If the folder holds no run.
            ValueError: If config.json is not a configuration.
        """
        if not self.exists:
            raise FileNotFoundError(
                f"There is no run in '{self.path}': it has no config.json. "
                "Choose a folder that `python -m trainers.train --output=...` has written."
            )
        return read_config(self.config_path)

    def read_metrics(self) -> dict[str, list[float]]:
        """The columns of metrics.csv by name; empty before the end of the first epoch.

        Raises:
            ValueError: If a line is not a row of numbers, one for each name of the header.
        """
        header, rows = self._metrics()
        columns: list[list[float]] = [[] for _ in header]
        for number, row in rows:
            if not _is_whole(row, header):
                raise self._bad_row(number, row, header)
            for column, cell in zip(columns, row, strict=True):
                column.append(float(cell))
        return dict(zip(header, columns, strict=True)) if rows else {}

    def check_metrics(self) -> int:
        """The number of epochs in metrics.csv, not counting an incomplete last row.

        Raises:
            ValueError: If another line is not a row of numbers, one for each name of the header.
        """
        header, rows = self._metrics()
        if rows and header[0] != "epoch":
            raise ValueError(
                f"Expected a header that starts with 'epoch' in '{self.metrics_path}'. Received: "
                f"{','.join(header)[:60]!r}. Repair the file, or move it away."
            )
        for i, (number, row) in enumerate(rows, 1):
            if not _is_whole(row, header) and i < len(rows):
                raise self._bad_row(number, row, header)
        return sum(_is_whole(row, header) for _, row in rows)

    def truncate_metrics(self, epochs: int) -> None:
        """Keeps the rows of the first `epochs` epochs, and drops an incomplete last row.

        Raises:
            ValueError: If another line is not a row of numbers, one for each name of the header.
        """
        if not self.metrics_path.is_file():
            return
        self.check_metrics()
        header, rows = self._metrics()
        kept = [row for _, row in rows if _is_whole(row, header) and float(row[0]) < epochs]
        if not kept:
            self.metrics_path.unlink()
            return
        with replacing(self.metrics_path) as partial, open(partial, "w", newline="") as file:
            csv.writer(file).writerows([header, *kept])

    def _metrics(self):
        """The header of metrics.csv, and its rows with the numbers of their lines."""
        if not self.metrics_path.is_file():
            return [], []
        try:
            with open(self.metrics_path, newline="", encoding="utf-8") as file:
                reader = csv.reader(file)
                header = next(reader, [])
                return header, [(reader.line_num, row) for row in reader if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"'{self.metrics_path}' is not a table in CSV: {error}. Repair the file, or move it "
                "away."
            ) from error

    def _bad_row(self, number, row, header):
        return ValueError(
            f"Expected {len(header)} numbers, one for each name of the header, in line {number} of "
            f"'{self.metrics_path}'. Received: {','.join(row)[:60]!r}. Repair the line, or move the "
            "file away."
        )

    def read_results(self) -> dict[str, Any]:
        """The content of results.json.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file does not hold the results of a run.
        """
        return read_json(self.results_path, {"epochs": int})

    def read_best(self) -> dict[str, Any]:
        """The content of best.json: the result of best.keras.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file does not hold a result with a value and an epoch.
        """
        best = read_json(self.best_result_path, {"value": (int, float), "sampling": dict})
        check_fields(
            best["sampling"], {"epoch": int}, f"in 'sampling' in '{self.best_result_path}'"
        )
        return best

    def save_model(self, model: GenerativeModel, best: bool = False) -> None:
        """Writes model.keras atomically: the file is either the old model or the new model.

        Args:
            model: The model.
            best: Whether to write best.keras instead.
        """
        with replacing(self.best_path if best else self.model_path) as partial:
            model.save(partial)

    def load_model(self, checkpoint: str = "last") -> GenerativeModel:
        """The final model, or the best of those evaluated during training; compiled as in training.

        Args:
            checkpoint: "last" or "best".

        Raises:
            FileNotFoundError: If the run has not ended, or if no model was evaluated during
                training.
            ValueError: If the run continues beyond the epochs of model.keras.
        """
        if checkpoint == "best":
            if not self.best_path.is_file():
                raise FileNotFoundError(
                    f"The run in '{self.path}' has no best.keras: no model was evaluated during "
                    "training. Train with --set evaluation.every=1, or use the last checkpoint."
                )
            return load_model(self.best_path)
        if self.exists and not self.model_path.is_file():
            raise FileNotFoundError(
                f"The run in '{self.path}' has no model.keras: training has not ended. "
                f"Finish it: python -m trainers.train --resume --output={self.path}"
            )
        wanted = self.read_config().epochs
        if not self.results_path.is_file() or self.read_results()["epochs"] < wanted:
            raise ValueError(
                f"The run in '{self.path}' has not reached its {wanted} epochs, and its "
                "model.keras is from an earlier epoch. Continue the run (python -m trainers.train "
                f"--resume --output={self.path}), or open the file itself: {self.model_path}"
            )
        return load_model(self.model_path)


def open_model(
    where: str | os.PathLike, checkpoint: str = "last"
) -> tuple[GenerativeModel, Run | None]:
    """Loads the model from a run's folder or from a `.keras` file.

    Args:
        where: The folder or file.
        checkpoint: "last" or "best"; "best" needs a folder.

    Returns:
        The model, and the run; the run is `None` for a file.

    Raises:
        FileNotFoundError: If the run or the file does not exist.
        ValueError: If the file is not a model of the zoo.
    """
    path = pathlib.Path(where)
    if path.suffix == ".keras":
        if checkpoint != "last":
            raise ValueError(
                "A .keras file is one checkpoint. For the best one, set --run to the run's folder."
            )
        return load_model(path), None
    run = Run(path)
    run.read_config()
    return run.load_model(checkpoint), run


def load_model(path: str | os.PathLike) -> GenerativeModel:
    """Loads a model of the zoo from a `.keras` file, in Keras's safe mode.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged or holds no model of the zoo.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file '{path}'.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"'{path}' is not a complete Keras model: it is not a .keras archive.")
    try:
        check_archive(path)
        model = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras raises many types for a damaged archive.
        raise ValueError(f"'{path}' cannot be read as a Keras model: {error}") from error
    if not isinstance(model, GenerativeModel):
        raise ValueError(
            f"Expected a model of the zoo in '{path}'. Received: "
            f"{with_article(type(model).__name__)}."
        )
    return model


def read_config(path: str | os.PathLike) -> ConfigDict:
    """Reads the configuration in a run's config.json.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not the configuration of a preset of the zoo.
    """
    try:
        settings = read_json(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file '{path}'.") from error
    if not isinstance(settings, dict):
        raise ValueError(
            f"'{path}' is not a configuration in JSON. Received: a {type(settings).__name__}."
        )
    settings.pop("versions", None)
    try:
        config = presets.from_dict(settings)
        if config.data.seen and masks.is_file(config.data.seen):  # Beside config.json
            config.data.seen = str(pathlib.Path(path).parent / config.data.seen)
        builder = presets.get(config.preset).builder
        if config.builder != builder:
            raise ValueError(
                f"Expected the builder '{builder}' of preset '{config.preset}'. "
                f"Received: '{config.builder}'."
            )
        return config
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"'{path}' is not the configuration of a run. {error}") from error


def _is_whole(row, header):
    try:
        return len([float(cell) for cell in row]) == len(header)
    except ValueError:
        return False


def _of_annotations(own):
    """The options of `zoo.datasets.load` that a configuration's data set has, but others may not."""
    options = {name: own.get(name) for name in ("y", "attributes", "mask")}
    sizes = own.get("sizes") or ()
    if len(sizes) > len(SPLITS):
        raise ValueError(
            "`data.sizes` are numbers of training, validation and test images. "
            f"Received: {len(sizes)} numbers."
        )
    return options | {"sizes": dict(zip(SPLITS, sizes, strict=False)) or None}


def load_data(
    config: ConfigDict | None,
    *,
    name: str | None = None,
    data_dir: str | None = None,
    binarize: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    seed: int = 0,
) -> ImageData:
    """Loads the data set of a configuration, or another data set instead.

    Args:
        config: The configuration of a run. If `None`, `name` is required.
        name: A data set instead of the configuration's.
        data_dir: The folder of the data set, if not the configuration's.
        binarize: How to binarise the images, or "none". The default is the configuration's; images
            of `binarized_mnist` stay as they are.
        image_shape: The shape `(H, W, C)` that the images must have.
        seed: Seed of the splits and draws if `config` is `None`.

    Raises:
        ValueError: If the images are not of shape `image_shape`.
        zoo.datasets.DatasetNotFound: If the data set is neither prepared nor downloadable.

    Example:
        >>> zoo.training.load_data(zoo.presets.get("vae_digits")).image_shape
        (8, 8, 1)
    """
    own = config.data if config else ConfigDict({"data_dir": None, "binarize": None})
    other_set = name is not None and name != own.get("name")
    if binarize is None and (name or own.get("name")) != "binarized_mnist":
        binarize = own.binarize
    data = datasets.load(
        name or own.name,
        data_dir=data_dir or (None if other_set else own.data_dir),
        image_size=image_shape[0] if image_shape else own.get("image_size"),
        binarize=None if binarize == "none" else binarize,
        seen=own.get("seen"),
        num_labels=None if other_set else own.get("num_labels"),
        **({} if other_set else _of_annotations(own)),
        seed=config.seed if config else seed,
    )
    if image_shape and data.image_shape != tuple(image_shape):
        raise ValueError(
            f"Expected images of shape {tuple(image_shape)}, which the model takes. Received: "
            f"'{data.name}' with images of shape {data.image_shape}. Choose another data set."
        )
    return data
