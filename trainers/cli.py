"""Shared code of the programs: startup, common flags, and error reports."""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from tqdm import tqdm

from zoo import conditions, datasets, resizing, training
from zoo.config import look_up, with_article
from zoo.files import check_writable, os_error
from zoo.finite import NonFiniteError
from zoo.model import GenerativeModel
from zoo.training.strategies import WorkerLostError

MISTAKES = (
    ValueError,
    OSError,
    MemoryError,
    NonFiniteError,
    NotImplementedError,
    WorkerLostError,
)

FLAGS = flags.FLAGS

flags.DEFINE_bool("debug", False, "Show the traceback of an error, not only its message.")


def start(program: Callable[..., None], arguments: bool = False) -> None:
    """Parses the command line and runs a program. Exits with 1 and a message on a user error.

    Args:
        program: A function of the program's module.
        arguments: Whether `program` takes the arguments that are not flags, as a list.
    """
    module, script = sys.modules[program.__module__], sys.modules["__main__"]
    # The --help of a console command shows the text and flags of its module.
    if module is not script:
        script.__doc__ = module.__doc__
        for flag in FLAGS.get_key_flags_for_module(module.__name__):
            FLAGS.register_key_flag_for_module(sys.argv[0], flag)

    def guarded(argv):
        try:
            if arguments:
                program(argv[1:])
                return
            if len(argv) > 1:
                raise ValueError(
                    f"This program takes only flags. Received: {' '.join(argv[1:])!r}."
                )
            program()
        except (*MISTAKES, tf.errors.OpError) as error:
            message = sentence(error)
            if FLAGS.debug or message is None:
                raise
            sys.exit(f"Error: {message}")
        except KeyboardInterrupt:
            sys.exit("Interrupted.")

    logging.set_verbosity(logging.WARNING)
    app.run(guarded)


def sentence(error: Exception) -> str | None:
    """The message of an error of the user or of the machine; `None` if it may be a bug.

    Most errors of TensorFlow are bugs, except a lack of memory and errors of the file system.
    """
    if isinstance(error, tf.errors.OpError):
        if (found := os_error(error)) is not None:
            error = found
        elif isinstance(error, tf.errors.ResourceExhaustedError):
            error = MemoryError(error.message.splitlines()[0])
        else:
            return None
    if isinstance(error, OSError) and error.filename is not None:
        return f"'{error.filename}' cannot be read or written: {error.strerror}."
    if isinstance(error, MemoryError):
        return (
            "The memory does not suffice. Choose a smaller --batch_size, a smaller model or fewer "
            f"images (--num_samples, --limit, --n), or close other programs. Received: {error}"
        )
    return str(error)


def define_flags_of_users(output: str) -> None:
    """Defines the flags of programs that use a trained model; `output` describes the result."""
    define_model_flags(required=True)
    flags.DEFINE_string("output", None, output)
    flags.DEFINE_bool("overwrite", False, "Replace an existing --output.")


def define_model_flags(required: bool) -> None:
    """Defines the flags that choose a model and its weights."""
    flags.DEFINE_string("run", None, "A run's folder, or a model's .keras file.", required=required)
    flags.DEFINE_enum(
        "checkpoint", "last", ["last", "best"], "The run's final model, or its best by evaluation."
    )
    flags.DEFINE_bool(
        "averaged",
        None,
        "Use the moving averages of the weights. Default: use them if the model has them.",
    )


def define_condition_flags() -> None:
    """Defines the flags that choose the conditions of a conditional model."""
    flags.DEFINE_list(
        "y",
        None,
        "Labels, as names or numbers (names take priority), used in turn by a model with labels. "
        "Default: all labels in turn. Other conditions are those of the run's test data, in turn.",
    )
    flags.DEFINE_string("data_dir", None, "Folder of the run's data set, if it has moved.")


def define_flags_of_images(files: str, results: str) -> None:
    """Defines the flags that choose images, and the number and the seed of their results.

    Args:
        files: What is done with the files of `--image`.
        results: The results of an image, such as "completions".
    """
    flags.DEFINE_list("image", None, f"PNG or JPEG files to {files}")
    flags.DEFINE_integer("rows", 10, "Number of test images.", lower_bound=1)
    text = f"Number of {results} of each image. Default: 1 for map, otherwise 5."
    flags.DEFINE_integer("n", None, text, lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of all random numbers.", lower_bound=0)


def number_of_results(method: str) -> int:
    """`--n`, or by default 1 for the most probable latents and 5 for other methods."""
    return FLAGS.n or (1 if method == "map" else 5)


def read_images(shape: tuple[int, int, int]) -> np.ndarray:
    """The files of `--image`, with the given shape: float32 `[B, H, W, C]` in [0, 1]."""
    return np.stack([datasets.read_image(name, shape) for name in FLAGS.image])


def define_flags_of_map() -> None:
    """Defines the flags of the most probable latents."""
    flags.DEFINE_integer("starts", 3, "Number of starts of map.", lower_bound=1)
    flags.DEFINE_float(
        "weight", 1.0, "Weight of the prior of map; 0 for a prior without a density."
    )


def options_of_map(method: str, *more: str) -> dict[str, Any]:
    """The options of the most probable latents, and the flags `more`; {} for another method.

    Raises:
        ValueError: If one of these flags is set with another method.
    """
    options = {name: FLAGS[name].value for name in ("starts", "weight", *more)}
    if method == "map":
        return options
    if given := [name for name in options if FLAGS[name].present]:
        raise ValueError(
            f"--{given[0]} is for --method=map. Received: --{given[0]} with --method={method}."
        )
    return {}


def conditions_for(model: GenerativeModel, run: training.Run | None, n: int) -> np.ndarray | None:
    """Conditions `[n, ...]` as chosen by `--y`, or `None` if the model takes none.

    Also `None` if the condition is optional and neither `--y` nor a run is set.

    Raises:
        ValueError: If the model takes no condition or no labels, if a label is unknown, or if the
            condition needs the data of a run and there is no run.
    """
    spec, labels = model.condition, FLAGS.y
    if spec is None:
        if labels is not None:
            raise ValueError(
                f"{with_article(type(model).__name__, True)} takes no condition. Received: --y."
            )
        return None
    if spec.shape.rank > 1 and labels is not None:
        raise ValueError(
            f"--y takes labels, but a condition of this {type(model).__name__} has shape "
            f"{list(spec.shape[1:])}. Without --y, the conditions of the run's test data are used."
        )
    if run is None and labels is None and model.condition_is_optional:
        return None
    if run is None and (labels is None or not all(map(_is_number, labels))):
        raise ValueError(
            "A .keras file does not name its data set: pass labels as numbers, such as --y=0,1,2, or "
            "pass the folder of a run."
        )
    if labels is None:
        data = training.load_data(run.read_config(), data_dir=FLAGS.data_dir)
        return conditions.in_turn(model, data, n)
    names = {} if run is None else _label_names(run)
    numbers = np.array([_label(text, names) for text in labels], np.int32)
    classes = getattr(model, "num_classes", None)
    if classes is not None and numbers.max() >= classes:
        raise ValueError(
            f"Labels are the numbers from 0 to {classes - 1}. Received: --y={','.join(labels)}."
        )
    return np.resize(numbers, n)


def condition_of(
    image: np.ndarray, model: GenerativeModel, run: training.Run | None
) -> np.ndarray | None:
    """The condition `[1, ...]` that an image `[H, W, C]` determines; `None` if none is needed.

    Raises:
        ValueError: If the model needs another condition than the seen part of the image or a small
            image.
    """
    spec = model.condition
    if spec is None or model.condition_is_optional:
        return None
    if spec.shape.rank == 1:
        raise ValueError(
            f"{with_article(type(model).__name__, True)} takes a label, which image files do not "
            "have: pass one, such as --y=3. Received: image files without --y."
        )
    if (factor := conditions.factor(model)) is not None:
        return resizing.box_average(image[None], factor).numpy()
    seen = None if run is None else run.read_config().data.seen
    if spec.shape[1:] != image.shape or seen is None:
        raise ValueError(
            f"{with_article(type(model).__name__, True)} takes a condition of shape "
            f"{list(spec.shape[1:])}, which image files alone do not determine: pass the folder of "
            "a run whose condition is the seen part, or choose test images instead of files."
        )
    mask = datasets.named_mask(seen, image.shape[:2])[0]
    return np.where(mask, image, np.float32(-1))[None]


def _label_names(run):
    """The labels of a run's data by name; empty if it is missing and its names are numbers."""
    config = run.read_config()
    try:
        data = training.load_data(config, data_dir=FLAGS.data_dir)
    except datasets.DatasetNotFound:
        # In data sets other than `folder`, a label whose name is a number has that number.
        if config.data.name == "folder" or not all(_is_number(label) for label in FLAGS.y):
            raise
        return {}
    return {name: i for i, name in enumerate(data.label_names or ())}


def _label(text, names):
    text = text.strip()
    return int(text) if text not in names and _is_number(text) else look_up(names, text, "label")


def _is_number(text):
    return text.strip().isdecimal()


def test_images(
    model: GenerativeModel, run: training.Run | None
) -> tuple[datasets.ImageData, np.ndarray, Any]:
    """The run's data, `--rows` of its test images, and their conditions.

    Raises:
        ValueError: If there is no run, or its data do not fit the model.
    """
    if run is None:
        raise ValueError(
            "A .keras file does not name its data set: pass --image, or the folder of a run."
        )
    data = training.load_data(run.read_config(), data_dir=FLAGS.data_dir)
    conditions.check(model, data)
    x, y = data.arrays("test", FLAGS.rows)
    y = conditions.read(model, y)
    # Other annotations, such as a mask, describe the hidden part of an image too.
    return data, x, y[model.condition_leaf] if isinstance(y, Mapping) else y


def output_path(default: str) -> pathlib.Path:
    """The path of the result: `--output`, or by default `default` in the run's folder.

    Raises:
        ValueError: If there is neither `--output` nor a run's folder.
        FileExistsError: If the path exists and `--overwrite` is not set.
    """
    if FLAGS.output:
        path = pathlib.Path(FLAGS.output)
    elif FLAGS.run.endswith(".keras"):
        raise ValueError("With a .keras file, --output is required. Received: no --output.")
    else:
        path = pathlib.Path(FLAGS.run) / default
    if path.exists() and not FLAGS.overwrite:
        raise FileExistsError(f"'{path}' exists already. Choose another --output, or --overwrite.")
    # The check comes before the work of loading the model.
    check_writable(path)
    return path


def png_path(default: str) -> pathlib.Path:
    """As `output_path`. Raises a `ValueError` if the path does not end in .png."""
    path = output_path(default)
    if path.suffix.lower() != ".png":
        raise ValueError(f"The path of a picture must end in .png. Received: '{path}'.")
    return path


def picture_path(default: str) -> pathlib.Path:
    """As `png_path`, for a picture of the images that `define_flags_of_images` chooses.

    Raises:
        ValueError: As `png_path`; or if `--rows` is set with `--image`.
    """
    path = png_path(default)
    if FLAGS.image is not None and FLAGS["rows"].present:
        raise ValueError(
            "--rows is the number of test images. Received: --rows with --image. Leave one of them out."
        )
    return path


def open_run() -> tuple[GenerativeModel, training.Run | None]:
    """The model that `--run` names, and its run unless `--run` is a file."""
    return training.open_model(FLAGS.run, FLAGS.checkpoint)


def uses_averages(model: GenerativeModel) -> bool:
    """Whether to use the moving averages of the weights, as chosen by `--averaged`."""
    return model.keeps_averages if FLAGS.averaged is None else FLAGS.averaged


def weights(model: GenerativeModel) -> contextlib.AbstractContextManager:
    """A context in which the model has the weights that `--averaged` chooses."""
    return model.averaged_weights() if uses_averages(model) else contextlib.nullcontext(model)


class Progress:
    """A progress bar on a terminal; otherwise one line at the start of each task."""

    def __enter__(self):
        self.bar, self.what = None, None
        return self

    def __exit__(self, *error):
        if self.bar:
            self.bar.close()

    def say(self, line):
        tqdm.write(line)

    def __call__(self, what, done, total):
        if what != self.what:
            self.__exit__()
            self.what = what
            if sys.stderr.isatty():
                self.bar = tqdm(total=total, desc=what, leave=False)
            else:
                print(f"{what} ...", file=sys.stderr, flush=True)
        if self.bar:
            self.bar.n = done
            self.bar.refresh()
