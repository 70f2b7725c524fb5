"""What the programs share: how they start, and how they answer mistakes."""

import contextlib
import pathlib
import sys
from collections.abc import Callable

import numpy as np
from absl import app, flags, logging
from tqdm import tqdm

from zoo import conditions, datasets, runs, training
from zoo.config import look_up
from zoo.finite import NonFiniteError
from zoo.model import GenerativeModel
from zoo.strategies import WorkerLostError

MISTAKES = (ValueError, OSError, NonFiniteError, NotImplementedError, WorkerLostError)

FLAGS = flags.FLAGS

flags.DEFINE_bool("debug", False, "Show the traceback of an error instead of its sentence alone.")


def start(main: Callable[..., None], arguments: bool = False) -> None:
    """Parses the command line and calls `main`; answers mistakes in a sentence, exit status 1.

    Args:
        main: The program.
        arguments: Whether it takes what is no flag, as a list.
    """

    def guarded(argv):
        try:
            if arguments:
                main(argv[1:])
                return
            if len(argv) > 1:
                raise ValueError(
                    f"This program takes flags only. Received: {' '.join(argv[1:])!r}."
                )
            main()
        except MISTAKES as error:
            if FLAGS.debug:
                raise
            sys.exit(f"Error: {error}")
        except KeyboardInterrupt:
            sys.exit("Interrupted.")

    logging.set_verbosity(logging.WARNING)
    app.run(guarded)


def define_flags_of_users(output: str) -> None:
    """The flags of the programs that use a trained model; `output` says what goes there."""
    define_model_flags(required=True)
    flags.DEFINE_string("output", None, output)
    flags.DEFINE_bool("overwrite", False, "Replace what is at --output.")


def define_model_flags(required: bool) -> None:
    """The flags that say which model, and which of its weights."""
    flags.DEFINE_string("run", None, "A run's folder, or a model's .keras file.", required=required)
    flags.DEFINE_enum(
        "checkpoint", "last", ["last", "best"], "The run's final model, or its best by evaluation."
    )
    flags.DEFINE_bool(
        "averaged",
        None,
        "Use the moving averages of the weights, or do not. Default: use them if the model has them.",
    )


def define_condition_flags() -> None:
    """The flags that say what a conditional model is given."""
    flags.DEFINE_list(
        "y",
        None,
        "Labels, as names or numbers (a name comes first), in turn, for a model that takes one. "
        "Default: all in turn. A model that takes anything else is given what the run's test data "
        "have, in turn.",
    )
    flags.DEFINE_string("data_dir", None, "Where the run's data set lies, if it has moved.")


def conditions_for(model: GenerativeModel, run: runs.Run | None, n: int) -> np.ndarray | None:
    """Conditions `[n, ...]` as `--y` says, or `None` where the model takes none.

    Also `None` where it can do without, and there is nothing to choose from: no `--y`, and no run.

    Raises:
        ValueError: If the model takes no condition, none that can be written as `--y`, or none that
            is known without the data of a run, or for a label that there is not.
    """
    spec, given = model.condition, FLAGS.y
    if spec is None:
        if given is not None:
            raise ValueError(f"A {type(model).__name__} takes no condition. Received: --y.")
        return None
    if spec.shape.rank > 1 and given is not None:
        raise ValueError(
            f"--y takes labels, and a condition of this {type(model).__name__} is of shape "
            f"{list(spec.shape[1:])}: leave --y out, and the run's test data are used."
        )
    if run is None and given is None and model.condition_is_optional:
        return None
    if run is None and (given is None or not all(_is_number(label) for label in given)):
        raise ValueError(
            "A .keras file does not say which data set it was trained on: give labels as numbers, "
            "such as --y=0,1,2, or give a run's folder."
        )
    if given is None:
        data = training.load_data(run.read_config(), data_dir=FLAGS.data_dir)
        return conditions.in_turn(model, data, n)
    names = {} if run is None else _label_names(run)
    labels = np.array([_label(text, names) for text in given], np.int32)
    classes = getattr(model, "num_classes", None)
    if classes is not None and labels.max() >= classes:
        raise ValueError(
            f"Labels are the numbers from 0 to {classes - 1}. Received: --y={','.join(given)}."
        )
    return np.resize(labels, n)


def _label_names(run):
    """The numbers of the labels of a run's data by their names, as far as the data is there."""
    config = run.read_config()
    try:
        data = training.load_data(config, data_dir=FLAGS.data_dir)
    except datasets.DatasetNotFound:
        # Of the sets that are not the user's own, a name that is a number is its label's number.
        if config.data.name == "folder" or not all(_is_number(label) for label in FLAGS.y):
            raise
        return {}
    return {name: i for i, name in enumerate(data.label_names or ())}


def _label(text, names):
    text = text.strip()
    return int(text) if text not in names and _is_number(text) else look_up(names, text, "label")


def _is_number(text):
    return text.strip().isdecimal()


def output_path(default: str) -> pathlib.Path:
    """Where the result goes: `--output`, else `default` in the run's folder.

    Raises:
        ValueError: If neither is given.
        FileExistsError: If something is there, and is not to be replaced.
    """
    if FLAGS.output:
        path = pathlib.Path(FLAGS.output)
    elif FLAGS.run.endswith(".keras"):
        raise ValueError("With a .keras file, say where the result goes: --output=...")
    else:
        path = pathlib.Path(FLAGS.run) / default
    if path.exists() and not FLAGS.overwrite:
        raise FileExistsError(
            f"'{path}' is there already. Choose another --output, or --overwrite."
        )
    return path


def open_run() -> tuple[GenerativeModel, runs.Run | None]:
    """The model that `--run` names, and its run if it has one."""
    return runs.open_model(FLAGS.run, FLAGS.checkpoint)


def uses_averages(model: GenerativeModel) -> bool:
    """Whether the moving averages of the weights are used, which `--averaged` decides."""
    return model.keeps_averages if FLAGS.averaged is None else FLAGS.averaged


def weights(model: GenerativeModel) -> contextlib.AbstractContextManager:
    """The weights that `--averaged` asks for, for the time of a `with`."""
    return model.averaged_weights() if uses_averages(model) else contextlib.nullcontext(model)


class Progress:
    """A bar on a terminal for what takes long; elsewhere a line when it begins."""

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
