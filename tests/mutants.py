"""Mutation testing: writes known faults into a copy of the repository, and runs the tests.

python tests/mutants.py --list
python tests/mutants.py zoo/metrics/manifold.py
python tests/mutants.py

A mutation is one fault in one file, with the tests that should notice it. `mutants.toml` records
the mutations by file. The program writes each mutation into a temporary copy of the repository,
runs its tests without the slow ones, and prints the mutations that survive. It exits with 1 if a
mutation survives.

Programs that generate mutations, such as mutmut and Cosmic Ray, produce thousands for each of these
files, and each costs seconds here. mutmut also replaces functions by wrappers, which hides the
signatures that builders and saved models are read from.
"""

import argparse
import contextlib
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest requires tomli.
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).with_suffix(".toml")
TIMEOUT = 600  # Seconds; a test that hangs has noticed the mutation.

# Loaded once, before the processes of the tests are forked. None of these modules uses a device.
_PRELOADED = ("keras", "matplotlib.pyplot", "pytest", "scipy.stats", "sklearn.svm")
_PRELOADED += ("tensorflow", "tensorflow_datasets", "tensorflow_probability")


class Mutation(NamedTuple):
    """A fault, and the tests that should notice it.

    Attributes:
        file: Path of the file in the repository.
        fault: What is wrong after the mutation.
        old: Text that occurs once in the file.
        new: Text that replaces `old`.
        tests: Files or tests, relative to `tests/`. Slow tests among them do not run.
    """

    file: str
    fault: str
    old: str
    new: str
    tests: list[str]


def recorded() -> list[Mutation]:
    """The mutations in `mutants.toml`."""
    with open(RECORD, "rb") as file:
        by_file = tomllib.load(file)
    return [Mutation(name, **entry) for name, entries in by_file.items() for entry in entries]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="Mutated files. Default: all recorded files.")
    parser.add_argument("--list", action="store_true", help="List the mutations and exit.")
    arguments = parser.parse_args()
    mutations = recorded()
    if unknown := set(arguments.files) - {m.file for m in mutations}:
        sys.exit(f"No mutations are recorded for: {', '.join(sorted(unknown))}.")
    chosen = [m for m in mutations if not arguments.files or m.file in arguments.files]
    if arguments.list:
        for m in chosen:
            print(f"{m.file}: {m.fault}")
        return
    with tempfile.TemporaryDirectory() as folder:
        survivors = _run(chosen, Path(folder) / "repository")
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations were noticed.")
    sys.exit(bool(survivors))


def _run(mutations, copy):
    """Runs the tests of each mutation in a new copy of the repository. Returns the survivors."""
    hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, copy, ignore=hidden)
    for name in _PRELOADED:
        importlib.import_module(name)
    tests = sorted({test for m in mutations for test in m.tests})
    if status := _status(copy, tests):
        sys.exit(f"The tests fail without a mutation: pytest ended with {status}.")
    survivors = []
    for m in mutations:
        with _mutated(copy / m.file, m):
            status = _status(copy, m.tests)
        if status not in (0, 1, "a timeout"):
            sys.exit(f"{m.file}, {m.fault}: pytest ended with {status}.")
        survivors += [] if status else [m]
        print(f"{'noticed ' if status else 'SURVIVES'} {m.file}: {m.fault}", flush=True)
    return survivors


@contextlib.contextmanager
def _mutated(path: Path, mutation: Mutation) -> Iterator[None]:
    text = path.read_text()
    if text.count(mutation.old) != 1:
        sys.exit(f"{mutation.file}: the text to replace must occur once: {mutation.old!r}.")
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        yield
    finally:
        path.write_text(text)


def _status(copy, tests):
    """The exit status of pytest in a forked process: 0 if all tests pass, 1 if one fails."""
    process = multiprocessing.get_context("fork").Process(target=_pytest, args=(copy, tests))
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
        return "a timeout"
    return process.exitcode


def _pytest(copy, tests):
    import pytest

    # Two versions of a file may have equal times and sizes, which Python compares.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["PYTHONPATH"] = str(copy)
    os.chdir(copy)
    sys.path[0] = str(copy)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    # The fast tests alone must notice a mutation.
    options = ["-xq", "-p", "no:cacheprovider", "-m", "not slow"]
    sys.exit(int(pytest.main([*options, *(f"tests/{t}" for t in tests)])))


if __name__ == "__main__":
    main()
