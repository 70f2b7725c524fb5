"""Speed and accuracy of the Fréchet distance, compared with SciPy's matrix square root.

python -m benchmarks.speed.frechet [--dim=2048] [--examples=10000] [--repeats=3] [--output=DIR]

The usual way to compute tr (C₁C₂)^½ is the trace of `scipy.linalg.sqrtm(C₁ @ C₂)`. It is timed in
turn with the methods of `zoo.metrics.frechet_distance`; the best of the repeats counts:

- cholesky, eigen: from covariances of full rank, of `examples` examples.
- gram: from half as many examples as features, where the covariances are singular; next to eigen.

Speeds are relative to the first way of each task.

Errors are those of the trace term, relative to the exact value, for features with commuting
covariances: with eigenvalues a and b it is Σ √(ab). `spectrum` is the smallest nonzero eigenvalue;
the largest is 1. The last row has singular covariances.
"""

import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy
from absl import flags
from scipy import linalg

from benchmarks.machine import machine
from benchmarks.speed.throughput import in_turn
from trainers.cli import start
from zoo.files import write_json, write_text
from zoo.metrics import frechet
from zoo.metrics.frechet import frechet_distance
from zoo.versions import versions

FLAGS = flags.FLAGS


def features(n: int, dim: int, seed: int) -> np.ndarray:
    """Correlated float32 features with a decreasing spectrum, like those of a network."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    scale = np.arange(1, dim + 1) ** -0.5
    return (rng.normal(size=(n, dim)) * scale @ mixing).astype(np.float32)


def commuting(dim: int, rank: int, smallest: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Two sets of features whose covariances commute, and the exact trace term.

    The covariances have common eigenvectors, and `rank` eigenvalues from 1 to `smallest`. Each set
    has `rank` + 1 examples.
    """
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:, :rank]
    a = np.geomspace(1, smallest, rank)
    b = rng.permutation(a)
    sets = []
    for eigenvalues in (a, b):
        noise = rng.normal(size=(rank + 1, rank))
        uncorrelated = np.linalg.qr(noise - noise.mean(0))[0] * np.sqrt(rank)
        sets.append(uncorrelated * np.sqrt(eigenvalues) @ basis.T)
    return *sets, float(np.sqrt(a * b).sum())


def trace_by_sqrtm(c1: np.ndarray, c2: np.ndarray) -> float:
    """The trace term by `sqrtm`, without its imaginary part."""
    return float(np.trace(linalg.sqrtm(c1 @ c2)).real)


def trace_by_factors(c1: np.ndarray, c2: np.ndarray, method: str) -> float:
    """The trace term by the zoo's factors of covariances."""
    n, mean = len(c1) + 1, np.zeros(len(c1))  # This number of examples has full rank.
    a, b = (frechet._decompose(n, mean, c, method).factor for c in (c1, c2))
    return float(np.linalg.norm(a.T @ b, "nuc"))


def trace_of_features(x: np.ndarray, y: np.ndarray, method: str) -> float:
    """The trace term by the zoo's factors of features."""
    a, b = (frechet._summary(z, "features", method).factor for z in (x, y))
    return float(np.linalg.norm(a.T @ b, "nuc"))


def seconds(function: Callable[[], object]) -> float:
    """The seconds that a call of a function takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
    """The whole distance by `sqrtm`."""
    c1, c2 = (np.cov(z, rowvar=False, dtype=np.float64) for z in (x, y))
    means = ((x.mean(0, dtype=np.float64) - y.mean(0, dtype=np.float64)) ** 2).sum()
    return float(means + np.trace(c1) + np.trace(c2) - 2 * trace_by_sqrtm(c1, c2))


def measure_times(dim: int, examples: int, repeats: int) -> dict[str, dict[str, Any]]:
    """The best time of each way by task: the trace term (also with few examples), the distance."""
    x, y = features(examples, dim, 0), features(examples, dim, 1)
    c1, c2 = (np.cov(z, rowvar=False, dtype=np.float64) for z in (x, y))
    few_x, few_y = x[: dim // 2], y[: dim // 2]
    tasks = {
        "trace": {
            "sqrtm": lambda: trace_by_sqrtm(c1, c2),
            "cholesky": lambda: trace_by_factors(c1, c2, "cholesky"),
            "eigen": lambda: trace_by_factors(c1, c2, "eigen"),
        },
        "trace of few": {
            "eigen": lambda: trace_of_features(few_x, few_y, "eigen"),
            "gram": lambda: trace_of_features(few_x, few_y, "gram"),
        },
        "whole": {
            "sqrtm": lambda: by_sqrtm(x, y),
            "auto": lambda: frechet_distance(x, y),
        },
    }
    results = {}
    for task, ways in tasks.items():
        timings = in_turn({k: lambda f=f: seconds(f) for k, f in ways.items()}, repeats)
        best = {name: min(values) for name, values in timings.items()}
        first = next(iter(best.values()))
        results[task] = {
            name: {"seconds": value, "speed": first / value, "all": timings[name]}
            for name, value in best.items()
        }
    return results


def measure_errors(dim: int) -> list[dict[str, Any]]:
    """Relative errors of the trace term by spectrum and way. Ways that do not apply are left out."""
    rows = []
    for rank, smallest in ((dim, 1e-4), (dim, 1e-8), (dim, 1e-12), (dim // 2, 1e-4)):
        x, y, known = commuting(dim, rank, smallest)
        values = {"sqrtm": trace_by_sqrtm(np.cov(x.T), np.cov(y.T))}
        for method in ("cholesky", "eigen", "gram"):
            if rank == dim or method != "cholesky":
                values[method] = trace_of_features(x, y, method)
        errors = {way: abs(value / known - 1) for way, value in values.items()}
        rows.append({"dim": dim, "rank": rank, "spectrum": smallest, "errors": errors})
    return rows


def report(
    times: Mapping[str, Mapping[str, Any]],
    errors: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> str:
    """The times and errors as tables in Markdown."""
    lines = ["| task | way | seconds | times as fast |", "| --- | --- | --- | --- |"]
    for task, ways in times.items():
        for name, row in ways.items():
            lines.append(f"| {task} | {name} | {row['seconds']:.2f} | {row['speed']:.1f} |")
    ways = ("sqrtm", "cholesky", "eigen", "gram")
    lines += ["", f"| dim | rank | spectrum | {' | '.join(ways)} |", "| --- " * 7 + "|"]
    for row in errors:
        cells = (f"{row['errors'][way]:.0e}" if way in row["errors"] else "" for way in ways)
        head = f"| {row['dim']} | {row['rank']} | {row['spectrum']:.0e}"
        lines.append(f"{head} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", ", ".join(f"{k} {v}" for k, v in about.items())]) + "\n"


def main() -> None:
    if FLAGS.dim < 16 or FLAGS.examples <= FLAGS.dim or FLAGS.repeats < 1:
        raise ValueError(
            "`dim` must be at least 16, `examples` more than that, `repeats` at least 1. Received: "
            f"{FLAGS.dim}, {FLAGS.examples} and {FLAGS.repeats}."
        )
    about = {"dim": FLAGS.dim, "examples": FLAGS.examples, "repeats": FLAGS.repeats}
    about |= machine() | versions() | {"scipy": scipy.__version__}
    times = measure_times(FLAGS.dim, FLAGS.examples, FLAGS.repeats)
    errors = measure_errors(max(16, min(FLAGS.dim, 384)))
    text = report(times, errors, about)
    print(text)
    folder = pathlib.Path(FLAGS.output)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"about": about, "times": times, "errors": errors}
    write_json(folder / "frechet.json", content)
    write_text(folder / "frechet.md", text)


def _define_flags() -> None:
    flags.DEFINE_integer("dim", 2048, "Number of features.")
    flags.DEFINE_integer("examples", 10_000, "Size of each set.")
    flags.DEFINE_integer("repeats", 3, "Number of turns; the best time is reported.")
    flags.DEFINE_string("output", "benchmarks/results", "Folder for frechet.json and frechet.md.")


if __name__ == "__main__":
    _define_flags()
    start(main)
