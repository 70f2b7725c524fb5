"""Runs the programs of the zoo for the tests.

- `run` runs a program in this process: fast, with TensorFlow's compiled functions at hand.
- `start`, and `run` with `forked=True`, run it in a separate process, which signals can end. The
  process is forked from a server that has loaded TensorFlow, but has not used it.
- `run_in_new_interpreter` is `python -m trainers.<program>`.
"""

import collections
import contextlib
import io
import json
import multiprocessing
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from multiprocessing import forkserver
from unittest import mock

from absl import flags
from tensorflow.python.framework.config import disable_op_determinism

ROOT = pathlib.Path(__file__).resolve().parents[2]
Answer = collections.namedtuple("Answer", "status out err")


def _become(target, arguments, environ, out, err):
    os.setpgid(0, 0)
    # As from a terminal: a shell makes its background processes ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ.update(environ)
    for stream, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream)
        os.close(file)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    status = 1
    try:
        if callable(target):
            target(*arguments)
        else:
            sys.argv = [target, *map(str, arguments)]
            runpy.run_module(f"trainers.{target}", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code or 0
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Program:
    """A running program: `wait` for its answer, or `kill` it."""

    def __init__(self, target, arguments, environ):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="zoo-program-"))
        self.out, self.err = folder / "out", folder / "err"
        self.process = _context().Process(
            target=_become,
            args=(target, arguments, environ, str(self.out), str(self.err)),
            daemon=True,
        )
        self.process.start()

    @property
    def runs(self):
        return self.process.is_alive()

    def kill(self):
        self.process.kill()
        self.process.join()

    def interrupt(self):
        os.kill(self.process.pid, signal.SIGINT)

    def wait(self, seconds=120):
        self.process.join(seconds)
        if self.runs:
            self.kill()
            raise TimeoutError(f"Ran longer than {seconds} s.\n{self.answer().err[-3000:]}")
        return self.answer()

    def answer(self):
        texts = [path.read_text() if path.exists() else "" for path in (self.out, self.err)]
        return Answer(self.process.exitcode, *texts)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()
        for path in (self.out, self.err):
            path.unlink(missing_ok=True)
        self.out.parent.rmdir()


def _context():
    context = multiprocessing.get_context("forkserver")
    if not hasattr(_context, "ready"):
        # The modules that the programs share, but no program: programs define flags.
        context.set_forkserver_preload(["zoo.export", "zoo.pictures", "zoo.training"])
        changed = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        with mock.patch.dict(os.environ, changed):
            forkserver.ensure_running()
        _context.ready = True
    return context


def start(target, *arguments, environ=()):
    """A `Program`: `start("train", "--epochs=1")`; or a function of a module, with arguments."""
    return Program(target, arguments, dict(environ))


def run(target, *arguments, environ=(), forked=False, seconds=120):
    """The `Answer` of a program that ends without a signal."""
    if not forked:
        return _run_here(target, arguments, environ)
    with start(target, *arguments, environ=environ) as program:
        return program.wait(seconds)


def _run_here(target, arguments, environ):
    """Runs a program in this process, with separate flags and output."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    argv = [target, *map(str, arguments)]
    with (
        _no_flags(),
        mock.patch.dict(os.environ, dict(environ)),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_module(f"trainers.{target}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code or 0
            if isinstance(status, str):
                print(status, file=sys.stderr)
                status = 1
        except BaseException:
            traceback.print_exc()
            status = 1
        finally:
            disable_op_determinism()  # A run with --deterministic enables it for the process.
    return Answer(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _no_flags():
    """A context without flags but absl's and without the modules that define them."""
    state = vars(flags.FLAGS)
    kept = {name: _copied(value) for name, value in state.items()}
    modules = {name: sys.modules.pop(name) for name in _modules_of_programs()}
    for name in list(flags.FLAGS):
        if not flags.FLAGS.find_module_defining_flag(name).startswith("absl"):
            delattr(flags.FLAGS, name)
    try:
        yield
    finally:
        state.clear()
        state.update(kept)
        for name in _modules_of_programs():
            del sys.modules[name]
        sys.modules.update(modules)


def _modules_of_programs():
    return [name for name in sys.modules if name.partition(".")[0] == "trainers"]


def _copied(value):
    """A copy of FLAGS' tables, which hold flags, or lists of flags by module."""
    if not isinstance(value, dict):
        return value
    return {key: list(v) if isinstance(v, list) else v for key, v in value.items()}


def run_in_new_interpreter(target, *arguments, seconds=120):
    """The `Answer` of `python -m trainers.TARGET`."""
    done = subprocess.run(
        [sys.executable, "-m", f"trainers.{target}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def succeed(target, *arguments, **options):
    """The output of a program. Fails if the program fails."""
    answer = run(target, *arguments, **options)
    assert answer.status == 0, answer.err[-3000:]
    return answer.out


def error_message(answer):
    """The error message of a program: one sentence."""
    assert answer.status not in (0, None), answer.out
    assert answer.status > 0, f"ended by signal {-answer.status}"
    assert "Traceback" not in answer.err, answer.err[-3000:]
    lines = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, answer.err[-3000:]
    return lines[0]


def until(condition, seconds=60, every=0.001, program=None):
    """Waits for a condition; fails if it stays false or the program ends first."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition stayed false"
        if program is not None:
            assert program.runs, program.answer().err[-3000:]
        time.sleep(every)


def free_ports(n):
    """Unused ports of this machine."""
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def cluster(workers):
    """The `TF_CONFIG` of each of several workers on this machine."""
    addresses = [f"localhost:{port}" for port in free_ports(workers)]
    return [
        {
            "TF_CONFIG": json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            )
        }
        for index in range(workers)
    ]


def files(folder):
    """The files in a folder: `{path: (bytes, time of change)}`."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.is_file()
    }


def weights(path):
    """The arrays in a .keras file, bit for bit, including the optimizers: `{name: array}`."""
    import h5py

    arrays = {}
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file:
        h5py.File(file).visititems(
            lambda name, item: arrays.update({name: item[()]}) if hasattr(item, "shape") else None
        )
    return arrays
