"""What the programs share: how they start, and how they answer mistakes."""

import contextlib
import pathlib
import sys
from collections.abc import Callable

from absl import app, flags, logging

from zoo import runs
from zoo.model import GenerativeModel, NonFiniteError
from zoo.strategies import WorkerLostError

MISTAKES = (ValueError, OSError, NonFiniteError, NotImplementedError, WorkerLostError)

FLAGS = flags.FLAGS

flags.DEFINE_bool("debug", False, "Show the traceback of an error instead of its sentence alone.")


def start(main: Callable[[], None]) -> None:
    """Parses the command line and calls `main`; answers mistakes in a sentence, exit status 1."""

    def guarded(argv):
        try:
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
    flags.DEFINE_string("run", None, "A run's folder, or a model's .keras file.", required=True)
    flags.DEFINE_string("output", None, output)
    flags.DEFINE_bool("overwrite", False, "Replace what is at --output.")
    flags.DEFINE_bool(
        "averaged",
        None,
        "Use the moving averages of the weights, or do not. Default: use them if the model has them.",
    )


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
    return runs.open_model(FLAGS.run)


def weights(model: GenerativeModel) -> contextlib.AbstractContextManager:
    """The weights that `--averaged` asks for, for the time of a `with`."""
    if FLAGS.averaged is None:
        return model.best_weights()
    return model.averaged_weights() if FLAGS.averaged else contextlib.nullcontext(model)
