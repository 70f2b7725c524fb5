"""Runs the programs of the zoo for the tests: each in a process of its own, as a user's shell does.

TensorFlow takes seconds to load. So `start` forks the process off a server that has loaded it, and
that has run nothing of it; from there on all is as with `python -m`. `run_anew` is `python -m`.
"""

import collections
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

ROOT = pathlib.Path(__file__).resolve().parents[2]
Answer = collections.namedtuple("Answer", "status out err")


def _become(target, arguments, environ, out, err):
    os.setpgid(0, 0)
    # As from a terminal: what a shell starts in the background has interrupts ignored.
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
    """A program that runs. `wait` for its answer, or `kill` it."""

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
        # What the programs share, without any of the programs: those define flags.
        context.set_forkserver_preload(["zoo.export", "zoo.pictures", "zoo.training"])
        changed = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        with mock.patch.dict(os.environ, changed):
            forkserver.ensure_running()
        _context.ready = True
    return context


def start(target, *arguments, environ=()):
    """A `Program`: `start("train", "--epochs=1")`; or a function of a module, with arguments."""
    return Program(target, arguments, dict(environ))


def run(target, *arguments, environ=(), seconds=120):
    """The `Answer` of a program that ends by itself."""
    with start(target, *arguments, environ=environ) as program:
        return program.wait(seconds)


def run_anew(target, *arguments, seconds=120):
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
    """What a program prints that must end well."""
    answer = run(target, *arguments, **options)
    assert answer.status == 0, answer.err[-3000:]
    return answer.out


def sentence(answer):
    """The one sentence that a program answered a mistake with."""
    assert answer.status not in (0, None), answer.out
    assert answer.status > 0, f"died of signal {-answer.status}"
    assert "Traceback" not in answer.err, answer.err[-3000:]
    lines = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, answer.err[-3000:]
    return lines[0]


def until(condition, seconds=60, every=0.001, program=None):
    """Waits for a condition; fails if it does not come true, or the program ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        if program is not None:
            assert program.runs, program.answer().err[-3000:]
        time.sleep(every)


def free_ports(n):
    """Ports of this machine that nobody listens at."""
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
    """All that lies in a folder: `{path: (bytes, time of change)}`."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.is_file()
    }


def weights(path):
    """The arrays in a .keras file, bit for bit, optimizers' included: `{name: array}`."""
    import h5py

    arrays = {}
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file:
        h5py.File(file).visititems(
            lambda name, item: arrays.update({name: item[()]}) if hasattr(item, "shape") else None
        )
    return arrays
