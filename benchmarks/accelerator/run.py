"""Runs programs on an accelerator. It needs JAX and NumPy only.

python benchmarks/accelerator/run.py PROGRAMS RESULTS --seconds=300

PROGRAMS is the folder that `write.py` wrote. For each program the file RESULTS/NAME.npz has the
weights after the last epoch, and the results of all epochs. With --seconds a program trains for as
many of its epochs as fit into this time, measured by some epochs that are not kept. Programs run one
after another. Several processes with --only share a GPU if XLA_PYTHON_CLIENT_PREALLOCATE=false;
otherwise JAX reserves three quarters of its memory for each. Tested with JAX 0.10 and 0.11.
"""

import argparse
import functools
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

import jax  # isort: skip


def order(rng: np.random.Generator, candidates: np.ndarray, count: int, group: int) -> np.ndarray:
    """`count` rows in random order; every row occurs once before a row repeats."""
    passes = -(-count // len(candidates))
    groups = candidates.reshape(-1, group)
    return np.concatenate([rng.permutation(groups).reshape(-1) for _ in range(passes)])[:count]


def draw(
    seed: int, epoch: int, steps: int, streams: Sequence[tuple[np.ndarray, int, int]]
) -> np.ndarray:
    """The rows of each batch of an epoch: int32 `[steps, B]`.

    Args:
        seed: The seed of the run.
        epoch: Number of the epoch.
        steps: Number of batches.
        streams: For each stream of a batch: its candidates, rows in a batch, and rows in a group.
    """
    rng = np.random.default_rng([seed, epoch])
    rows = [order(rng, c, steps * n, group).reshape(steps, n) for c, n, group in streams]
    return np.concatenate(rows, 1).astype(np.int32)


def factor(decay: str, progress: float) -> float:
    """The factor of the learning rates after a share of the epochs, as in `zoo.training`."""
    return {
        "none": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[decay]


class Program:
    """A program on the accelerator.

    Args:
        folder: The folder of the program.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.about = json.loads((folder / "program.json").read_text())
        small, self.first = _arrays(folder / "state.npz"), []
        for entry in self.about["inputs"]:
            if name := entry.get("array"):
                value = _arrays(folder.parent / "arrays" / f"{name}.npz")["array"]
            else:
                value = small[entry["state"]]
            # Data stay on the device. State is donated, and put there for each training.
            self.first.append(value if "state" in entry else jax.device_put(value, _device()))
        self.streams = [
            (_arrays(folder / f"rows_{i}.npz")["rows"], stream["per_batch"], stream["group"])
            for i, stream in enumerate(self.about["streams"])
        ]
        exported = jax.export.deserialize(bytearray((folder / "epoch.jax").read_bytes()))
        first = len(exported.in_avals) - len(self.about["inputs"])
        donated = [first + i for i in self.about["changed"]]
        self.call = jax.jit(exported.call, donate_argnums=donated)

    def rows(self, epoch: int) -> np.ndarray:
        """The rows of each batch of an epoch: int32 `[steps, B]`."""
        return draw(self.about["seed"], epoch, self.about["steps"], self.streams)

    def epochs(self, count: int) -> Iterator[tuple[np.ndarray, list]]:
        """Trains `count` epochs from the first weights. Yields results `[2, K]` and all values.

        Raises:
            ArithmeticError: If a result is NaN or infinite.
        """
        values = [jax.device_put(value, _device()) for value in self.first]
        for epoch in range(count):
            rates = np.float32(self.about["rates"]) * factor(self.about["decay"], epoch / count)
            results, failed, *changed = self.call(
                np.int64(epoch), self.rows(epoch), np.float32(rates), *values
            )
            for i, value in zip(self.about["changed"], changed, strict=True):
                values[i] = value
            if int(failed) >= 0:
                raise ArithmeticError(f"a result of step {int(failed)} is not finite")
            yield np.asarray(results), values

    def train(self, count: int, say: Callable[[str], None]) -> dict[str, np.ndarray]:
        """Trains `count` epochs.

        Returns:
            The weights by name; "results", `[count, 2, K]`; "seconds", the time of each epoch; and
            "device".
        """
        results, seconds, ended, values = [], [], time.monotonic(), []
        for scores, values in self.epochs(count):  # noqa: B007
            results.append(scores)
            seconds.append(time.monotonic() - ended)
            ended = time.monotonic()
            if len(results) % max(1, count // 5) == 0:
                named = zip(self.about["names"], *scores, strict=True)
                say(
                    f"{self.folder.name}, epoch {len(results)} of {count}, {seconds[-1]:.2f} s: "
                    + ", ".join(f"{name} {own:.4g} {other:.4g}" for name, own, other in named)
                )
        weights = {
            e["state"]: np.asarray(value)
            for e, value in zip(self.about["inputs"], values, strict=True)
            if e.get("state", "").startswith("variable_")
        }
        # The results of a step precede its update.
        for name, value in {**weights, "validation": results[-1]}.items():
            if not np.isfinite(value).all():
                raise ArithmeticError(f"after the last epoch, {name} is not finite")
        about = {"results": np.stack(results), "seconds": np.asarray(seconds)}
        names = {"device": _named(_device()), "program": self.about["program"]}
        return weights | about | {name: np.asarray(value) for name, value in names.items()}

    def seconds_per_epoch(self, seconds: float) -> float:
        """The median time of the epochs that fit in some seconds, after two for the compilation."""
        times, start = [], None
        for _ in self.epochs(1_000_000):
            now = time.monotonic()
            times.append(now)
            start = now if len(times) == 2 else start
            if start and len(times) > 2 and now - start > seconds:
                break
        return float(np.median(np.diff(times)[1:]))


def _device():
    return jax.devices()[0]


def _named(device):
    if device.platform != "cpu":
        return device.device_kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPU core{'s' * (cores > 1)} (JAX)"


def _arrays(path):
    with np.load(path) as file:
        return dict(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, help="time of the epochs of each program")
    parser.add_argument("--epochs", type=int, help="number of epochs, instead of the programs'")
    parser.add_argument("--only", default="", help="names of programs, with commas")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    known = sorted(path.parent.name for path in options.programs.glob("*/program.json"))
    wanted = [name for name in options.only.split(",") if name] or known
    if not known or {*wanted} - {*known}:
        found = ", ".join(known) or "no program"
        parser.error(f"expected programs in '{options.programs}'; received {found}, {wanted}")
    for name in ("seconds", "epochs"):
        if (value := getattr(options, name)) is not None and not value > 0:
            parser.error(f"--{name} must be above 0; received {value}")
    options.results.mkdir(parents=True, exist_ok=True)
    say, failed = functools.partial(print, flush=True), []
    for name in wanted:
        program = Program(options.programs / name)
        count = options.epochs or program.about["epochs"]
        try:
            if options.seconds:
                each = program.seconds_per_epoch(options.seconds / 20)
                count = max(1, min(count, int(0.95 * options.seconds / each)))
                say(f"{name}: {each:.3f} s an epoch, {count} epochs")
            final = program.train(count, say)
        except ArithmeticError as error:
            say(f"{name}: {error}")
            failed.append(name)
            continue
        partial = options.results / f".{name}.npz"
        np.savez_compressed(partial, **final)
        partial.replace(options.results / f"{name}.npz")
    if failed:
        raise SystemExit(f"These programs failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
