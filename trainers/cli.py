"""What the programs share: how they start, and how they answer mistakes."""

import contextlib
import pathlib
import sys
from collections.abc import Callable

from absl import app, flags, logging
from tqdm import tqdm

from zoo import runs
from zoo.model import GenerativeModel, NonFiniteError
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
