"""A run's folder: where everything of one training run lies, and how it is read again."""

import csv
import json
import os
import pathlib
import shutil
import zipfile

import keras
from ml_collections import ConfigDict

from zoo import datasets, presets
from zoo.datasets import ImageData
from zoo.files import read_json, replacing, write_json
from zoo.model import GenerativeModel
from zoo.versions import versions


class Run:
    """The folder of one training run. Making the object touches nothing.

        config.json          the full configuration, enough to repeat the run
        metrics.csv          losses and terms of each epoch
        tensorboard/         the same as event files
        checkpoints/         to resume from
        samples/             a grid of the same latents after each epoch
        *.png                learning curves, samples, reconstructions, interpolations, latents
        model.keras          the final model
        best.keras, .json    the best model of those that were evaluated on the way, and its result
        results.json         scores, times, versions
        evaluation.jsonl     results of `trainers.evaluate`, and of evaluations on the way
        features/            of real images, to be used again
        saved_model/         what `trainers.export` makes

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
        self.model_path = self.path / "model.keras"
        self.best_path = self.path / "best.keras"
        self.best_result_path = self.path / "best.json"
        self.results_path = self.path / "results.json"
        self.evaluation_path = self.path / "evaluation.jsonl"
        self.features_dir = self.path / "features"
        self.saved_model_dir = self.path / "saved_model"

    @property
    def exists(self) -> bool:
        """Whether the folder is that of a run."""
        return self.config_path.is_file()

    def check_free(self, overwrite: bool = False) -> None:
        """Raises a `FileExistsError` unless a new run may begin here."""
        for path in (self.path, *self.path.parents):
            if path.exists() and not path.is_dir():
                raise FileExistsError(f"'{path}' is a file. Choose another --output.")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        if not self.exists:
            raise FileExistsError(
                f"The folder '{self.path}' holds something else than a run, which is left alone. "
                "Choose another --output."
            )
        if not overwrite:
            raise FileExistsError(
                f"There is a run in '{self.path}' already. Go on with it (--resume), replace it "
                "(--overwrite) or choose another --output."
            )

    def begin(self, config: ConfigDict) -> None:
        """Makes the folder, free of what a former run left, and writes the configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        for old in (
            self.tensorboard_dir,
            self.checkpoints_dir,
            self.samples_dir,
            self.saved_model_dir,
        ):
            shutil.rmtree(old, ignore_errors=True)
        files = (
            self.metrics_path,
            self.model_path,
            self.best_path,
            self.best_result_path,
            self.results_path,
        )
        for old in (*files, self.evaluation_path, *self.path.glob("*.png")):
            old.unlink(missing_ok=True)
        self.write_config(config)

    def write_config(self, config: ConfigDict) -> None:
        """Writes the configuration and the versions it ran with."""
        write_json(self.config_path, presets.to_dict(config) | {"versions": versions()})

    def read_config(self) -> ConfigDict:
        """The configuration that the run was begun with.

        Raises:
            FileNotFoundError: If the folder is not that of a run.
            ValueError: If its config.json cannot be understood.
        """
        if not self.exists:
            raise FileNotFoundError(
                f"There is no run in '{self.path}': it has no config.json. "
                "Give the folder that `python -m trainers.train --output=...` made."
            )
        return read_config(self.config_path)

    def read_metrics(self) -> dict[str, list[float]]:
        """The columns of metrics.csv by name; empty before the first epoch's end."""
        if not self.metrics_path.is_file():
            return {}
        with open(self.metrics_path, newline="") as file:
            rows = list(csv.DictReader(file))
        names = rows[0].keys() if rows else []
        return {name: [float(row[name]) for row in rows] for name in names}

    def truncate_metrics(self, epochs: int) -> None:
        """Drops the rows of epochs after the first `epochs`, and a row that was cut short."""
        if not self.metrics_path.is_file():
            return
        with open(self.metrics_path, newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        whole = [row for row in rows if len(row) == len(header) and row[0].isdigit()]
        kept = [row for row in whole if int(row[0]) < epochs]
        if not kept:
            self.metrics_path.unlink()
            return
        with replacing(self.metrics_path) as partial, open(partial, "w", newline="") as file:
            csv.writer(file).writerows([header, *kept])

    def save_model(self, model: GenerativeModel, best: bool = False) -> None:
        """Writes model.keras all at once: the file is either the old one or the new one.

        Args:
            model: The model.
            best: Write best.keras instead.
        """
        with replacing(self.best_path if best else self.model_path) as partial:
            model.save(partial)

    def load_model(self, checkpoint: str = "last") -> GenerativeModel:
        """The final model or, of those evaluated on the way, the best; compiled as trained.

        Args:
            checkpoint: "last" or "best".

        Raises:
            FileNotFoundError: If the run has not ended, or nothing was evaluated on the way.
        """
        if checkpoint == "best":
            if not self.best_path.is_file():
                raise FileNotFoundError(
                    f"The run in '{self.path}' has no best.keras: its models were not evaluated on "
                    "the way. Train with --set evaluation.every=1, or use the last checkpoint."
                )
            return load_model(self.best_path)
        if self.exists and not self.model_path.is_file():
            raise FileNotFoundError(
                f"The run in '{self.path}' has no model.keras: it was not trained to its end. "
                f"Finish it: python -m trainers.train --resume --output={self.path}"
            )
        wanted = self.read_config().epochs
        if not self.results_path.is_file() or read_json(self.results_path)["epochs"] < wanted:
            raise ValueError(
                f"The run in '{self.path}' has not been trained for its {wanted} epochs yet, and its "
                f"model.keras is an earlier one. Go on (python -m trainers.train --resume "
                f"--output={self.path}), or name the file itself: {self.model_path}"
            )
        return load_model(self.model_path)


def open_model(
    where: str | os.PathLike, checkpoint: str = "last"
) -> tuple[GenerativeModel, Run | None]:
    """The model in a run's folder or a `.keras` file, and the run if it was a folder.

    Args:
        where: The folder or file.
        checkpoint: "last" or "best", of a run.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is no model of the zoo.
    """
    path = pathlib.Path(where)
    if path.suffix == ".keras":
        if checkpoint != "last":
            raise ValueError("A .keras file is one checkpoint: name the one you mean as --run.")
        return load_model(path), None
    run = Run(path)
    run.read_config()
    return run.load_model(checkpoint), run


def load_model(path: str | os.PathLike) -> GenerativeModel:
    """A model of the zoo from a `.keras` file. No code in the file is run."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file '{path}'.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"'{path}' is no Keras model, or was cut short: it is no .keras archive.")
    try:
        model = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras raises all kinds for a damaged archive.
        raise ValueError(f"'{path}' cannot be read as a Keras model: {error}") from error
    if not isinstance(model, GenerativeModel):
        raise ValueError(
            f"Expected a model of the zoo in '{path}'. Received: a {type(model).__name__}."
        )
    return model


def read_config(path: str | os.PathLike) -> ConfigDict:
    """The configuration in a run's config.json."""
    try:
        with open(path) as file:
            settings = dict(json.load(file))
        settings.pop("versions", None)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file '{path}'.") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' is not a configuration in JSON: {error}") from error
    return presets.from_dict(settings)


def load_data(
    config: ConfigDict | None,
    *,
    name: str | None = None,
    data_dir: str | None = None,
    binarize: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    seed: int = 0,
) -> ImageData:
    """The data of a configuration, or what is given in its place.

    Args:
        config: Of a run; `None` where there is none.
        name: Another data set.
        data_dir: Where it lies.
        binarize: "none", or how; by default as in the configuration, but `binarized_mnist`, which is
            binary already, as it is.
        image_shape: What the images must be.
        seed: Of splits and draws, where there is no configuration.

    Raises:
        ValueError: If its images are not of `image_shape`.
    """
    old = config.data if config else ConfigDict({"data_dir": None, "binarize": None})
    given = name is not None and name != old.get("name")
    if binarize is None and (name or old.get("name")) != "binarized_mnist":
        binarize = old.binarize
    data = datasets.load(
        name or old.name,
        data_dir=data_dir or (None if given else old.data_dir),
        image_size=image_shape[0] if image_shape else old.get("image_size"),
        binarize=None if binarize == "none" else binarize,
        seen_quadrants=old.get("seen_quadrants"),
        num_labels=None if given else old.get("num_labels"),
        seed=config.seed if config else seed,
    )
    if image_shape and data.image_shape != tuple(image_shape):
        raise ValueError(
            f"The model's images are of shape {tuple(image_shape)}, those of '{data.name}' are of "
            f"shape {data.image_shape}. Choose another data set."
        )
    return data
