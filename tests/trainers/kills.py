"""Kills programs at random moments, and checks that they continue to the result of a whole run.

python tests/trainers/kills.py --kills=50

A kill is `kill -9` of a training, an evaluation, an export or a comparison, at a moment that is
uniform over the time of the whole program. Each file that is then in the folder must be whole. The
program runs again, and must have the result of a program that was not killed, bit for bit, and no
file outside of its folder.
"""

import argparse
import json
import random
import runpy
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image
from programs import start, succeed, weights


class Program(NamedTuple):
    """A program to kill.

    Attributes:
        target: The name of the program, or a function that runs it.
        first: The arguments of the program in a folder.
        again: The arguments to continue in a folder.
        result: What must be equal, read from the folder.
        needs_run: Whether the folder holds a finished run before the program starts.
    """

    target: str | Callable
    first: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    result: Callable[[Path], dict[str, Any]]
    needs_run: bool = True


def _nothing():
    pass


def _compare(*arguments):
    sys.argv = ["compare", *arguments]
    runpy.run_module("benchmarks.compare", run_name="__main__", alter_sys=True)


# This model has no `log_prob`, which takes as long to trace as everything else.
_SMALL = ["--preset=wae_digits", "--set=hidden=4", "--set=latent_dim=2", "--epochs=3"]
_SMALL += ["--nojit_compile", "--deterministic", "--noprogress"]


def _train(folder):
    return [*_SMALL, f"--output={folder}"]


def _resume(folder):
    begun = (folder / "config.json").exists()
    return ["--resume", "--noprogress", f"--output={folder}"] if begun else _train(folder)


def _evaluate(folder):
    return [f"--run={folder}", "--metrics=losses,psnr,diversity,copying", "--num_samples=20"]


def _export(folder):
    return [f"--run={folder}", "--overwrite", "--signatures=encode,decode"]


def _comparison(folder):
    sizes = ["--num_samples=20", "--limit=4", "--importance_samples=2"]
    small = ["--set=epochs=2", "--set=hidden=4", "--set=deterministic=true"]
    return ["--presets=vae_digits,autoencoder_digits", *sizes, *small, f"--output={folder}"]


def _of_training(folder):
    test = json.loads((folder / "results.json").read_text())["test"]
    metrics = (folder / "metrics.csv").read_text()
    return weights(folder / "model.keras") | {"test": test, "metrics.csv": metrics}


def _of_evaluation(folder):
    lines = (folder / "evaluation.jsonl").read_text().splitlines()
    return {result["kind"]: result["value"] for result in map(json.loads, lines)}


def _of_export(folder):
    saved = tf.train.load_checkpoint(str(folder / "saved_model" / "variables" / "variables"))
    # The description of the objects lists them in another order in each process.
    names = saved.get_variable_to_shape_map().keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    arrays = {name: saved.get_tensor(name) for name in names}
    return arrays | {"abilities": (folder / "saved_model" / "abilities.json").read_text()}


def _of_comparison(folder):
    return {"scores.csv": (folder / "scores.csv").read_text()}


PROGRAMS = {
    "train": Program("train", _train, _resume, _of_training, needs_run=False),
    "evaluate": Program("evaluate", _evaluate, _evaluate, _of_evaluation),
    "export": Program("export", _export, _export, _of_export),
    "compare": Program(_compare, _comparison, _comparison, _of_comparison, needs_run=False),
}


class Kills:
    """Kills programs in new folders within `place`. Whole programs run once, when needed."""

    def __init__(self, place: Path, seed: int = 0):
        self.place = place
        self.random = random.Random(seed)
        self.whole: dict[str, tuple[Path, float]] = {}
        succeed(_nothing, forked=True)  # Loads TensorFlow, which is no part of a program's time.

    def kill(self, name: str, low: float = 0.0, high: float = 1.0) -> str:
        """Kills a program and runs it again. Returns a line about the kill.

        Args:
            name: The program, a key of `PROGRAMS`.
            low: The earliest moment of the kill, as a share of the program's time.
            high: The latest moment.

        Raises:
            AssertionError: If the result differs, a file is damaged or is outside of the folder.
        """
        program = PROGRAMS[name]
        expected, seconds = self._whole(name)
        folder = self._folder(program)
        moment = self.random.uniform(low, high)
        with start(program.target, *program.first(folder)) as process:
            begin = time.monotonic()
            while process.runs and time.monotonic() < begin + moment * seconds:
                time.sleep(0.001)
            if ended := not process.runs:  # The machine has become faster.
                self.whole[name] = expected, time.monotonic() - begin
            process.kill()
        check_files(folder)
        succeed(program.target, *program.again(folder), forked=True)
        check_files(folder)
        assert_equal(program.result(expected), program.result(folder))
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        shutil.rmtree(folder.parent)
        return f"{name}: {'had ended' if ended else 'killed'} at {moment:.0%} of {seconds:.1f} s"

    def _whole(self, name):
        """The folder of a program that was not killed, and its seconds."""
        if name not in self.whole:
            program = PROGRAMS[name]
            folder = self._folder(program)
            begin = time.monotonic()
            succeed(program.target, *program.first(folder), forked=True)
            self.whole[name] = folder, time.monotonic() - begin
        return self.whole[name]

    def _folder(self, program):
        folder = Path(tempfile.mkdtemp(dir=self.place)) / "named"
        if program.needs_run:
            shutil.copytree(self._whole("train")[0], folder)
        return folder


def check_files(folder: Path) -> None:
    """Raises an error if a file in the folder is not whole. Hidden files are temporary files."""
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".keras":
            assert zipfile.ZipFile(path).testzip() is None, path
        elif path.suffix == ".png":
            Image.open(path).verify()
        elif path.suffix == ".jsonl":  # The last line may be incomplete.
            assert all(json.loads(line) for line in path.read_text().split("\n")[:-1])
        elif path.name == "saved_model" and path.is_dir():
            assert {"saved_model.pb", "abilities.json", "variables"} <= {
                child.name for child in path.iterdir()
            }


def assert_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Raises an error that names the values that differ."""
    assert a.keys() == b.keys()
    different = [name for name in a if not np.array_equal(a[name], b[name])]
    assert not different, different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="Number of kills.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of programs and moments.")
    parser.add_argument(
        "--programs", default=",".join(PROGRAMS), help="The programs to kill, in turn."
    )
    arguments = parser.parse_args()
    names = arguments.programs.split(",")
    with tempfile.TemporaryDirectory() as place:
        kills = Kills(Path(place), arguments.seed)
        for i in range(arguments.kills):
            print(f"{i + 1}: {kills.kill(names[i % len(names)])}", flush=True)


if __name__ == "__main__":
    main()
