"""Fidelity and diversity by nearest neighbours: precision, recall, density and coverage."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from zoo.contract import check_counts
from zoo.metrics.estimate import Estimate, as_features


def precision_recall_density_coverage(
    real: np.ndarray, fake: np.ndarray, k: int = 5, ties: str = "strict", block: int = 1024
) -> dict[str, Estimate]:
    """The overlap of two sets, measured with balls around their points.

    The radius of a ball is the distance from its centre to the k-th nearest other point of the same
    set.

    - precision: the share of fake points in the ball of any real point.
    - recall: the share of real points in the ball of any fake point.
    - density: the number of real balls that contain a fake point, over k, averaged over fake
      points.
    - coverage: the share of real balls that contain any fake point.

    Precision and recall are from Kynkäänniemi et al., "Improved Precision and Recall Metric for
    Assessing Generative Models", 2019, eq. 1 and 2, https://arxiv.org/abs/1904.06991; density and
    coverage are from Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models",
    2020, section 3, https://arxiv.org/abs/2002.09797.

    Args:
        real: Features of the real examples, `[N, d]`, N at least k + 2.
        fake: Features of the generated examples, `[M, d]`, M at least k + 2.
        k: The number of the neighbour that sets the radius, at least 1.
        ties: "strict": a ball is open, so a ball of radius 0 is empty. "inclusive": a ball contains
            its surface. The choice matters if points coincide.
        block: Size of the square blocks of distances that are computed at a time. It affects
            the memory, 8 block² bytes for each of a few arrays, but not the result.

    Returns:
        The four scores by name. Standard errors are over fake points (precision, density) or real
        points (recall, coverage) for fixed balls: they ignore that balls overlap and are random. A
        share of 0 or 1 has no standard error. `details["expected_if_equal"]` is the expectation for
        sets of these sizes from one continuous distribution: exactly 1 for density, and
        1 - ∏ⱼ₌₁..ₖ (N - j) / (N + M - j) for coverage. The product is the probability that the k
        nearest of all other points are real.

    Raises:
        ValueError: If the sets have different d or fewer than k + 2 examples, if a feature is NaN,
            if k is below 1, or if `ties` is unknown.

    Notes:
        Squared distances are compared in float64. They come from a matrix product, or from sums of
        squared differences if the rounding error of the product could matter. Ties are decided by
        the sums of squared differences.

    Example:
        >>> real, fake = np.float64([[0], [1], [3], [6]]), np.float64([[0.5], [0.75], [1.5], [9]])
        >>> scores = zoo.metrics.precision_recall_density_coverage(real, fake, k=1)
        >>> {name: score.value for name, score in scores.items()}
        {'precision': 0.75, 'recall': 0.75, 'density': 1.5, 'coverage': 0.75}
    """
    check_counts(k=k, block=block)
    if ties not in ("strict", "inclusive"):
        raise ValueError(f"`ties` must be 'strict' or 'inclusive'. Received: ties={ties!r}.")
    real, fake = (_points(values, name, k) for values, name in ((real, "real"), (fake, "fake")))
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"`real` and `fake` must be of the same features. Received: shapes {real.shape} and "
            f"{fake.shape}."
        )
    inside = np.less if ties == "strict" else np.less_equal
    around_real, around_fake = (_squared_radii(points, k, block) for points in (real, fake))
    n, m = len(real), len(fake)
    balls_of_fake, covered, recalled = np.zeros(m, int), np.zeros(n, bool), np.zeros(n, bool)
    for i in _slices(n, block):
        for j in _slices(m, block):
            squared, error = _squared_distances(real[i], fake[j])
            doubtful = _near(squared, around_real[i, None], error)
            doubtful |= _near(squared, around_fake[j], error)
            rows, columns = np.nonzero(doubtful)
            squared[rows, columns] = _exact(real[i], fake[j], rows, columns)
            hits = inside(squared, around_real[i, None])
            balls_of_fake[j] += hits.sum(0)
            covered[i] |= hits.any(1)
            recalled[i] |= inside(squared, around_fake[j]).any(1)
    about: dict[str, Any] = {
        "n_real": n,
        "n_fake": m,
        "estimator": {"k": k, "ties": ties, "dtype": "float64"},
    }
    steps = np.arange(1, k + 1)
    coverage = float(1 - np.prod((n - steps) / (n + m - steps)))
    return {
        "precision": _share(balls_of_fake > 0, about),
        "recall": _share(recalled, about),
        "density": Estimate(
            float(balls_of_fake.sum() / (k * m)),
            float(balls_of_fake.std(ddof=1) / (k * np.sqrt(m))),
            details={"expected_if_equal": 1.0},
            **about,
        ),
        "coverage": _share(covered, about, {"expected_if_equal": coverage}),
    }


def _points(values, name: str, k: int) -> np.ndarray:
    points = as_features(values, name, at_least=k + 2).astype(np.float64)
    if not np.isfinite(np.einsum("nd,nd->n", points, points)).all():
        raise ValueError(f"`{name}` must have squares within float64. Received: larger features.")
    return points


def _share(successes: np.ndarray, about: dict, details: dict | None = None) -> Estimate:
    share = float(successes.mean())
    stderr = float(np.sqrt(share * (1 - share) / len(successes))) if 0 < share < 1 else None
    return Estimate(share, stderr, details=details or {}, **about)


# Distances --------------------------------------------------------------------------------------


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _squared_radii(points: np.ndarray, k: int, block: int) -> np.ndarray:
    """The squared distance of each point to its k-th nearest other point, `[N]`."""
    radii = np.empty(len(points))
    for i in _slices(len(points), block):
        nearest = np.full((i.stop - i.start, k), np.inf)
        for j in _slices(len(points), block):
            squared, error = _squared_distances(points[i], points[j])
            if i == j:
                np.fill_diagonal(squared, np.inf)  # By position: rounding may hide a distance of 0.
            # Only candidates for the k nearest need exact distances.
            enough = nearest.max(1)
            if squared.shape[1] >= k:
                here = np.partition(squared, k - 1, axis=1)[:, k - 1]
                enough = np.minimum(enough, here + error)
            possible = squared <= enough[:, None] + error
            if i == j:
                np.fill_diagonal(possible, False)
            rows, columns = np.nonzero(possible)
            exact = _exact(points[i], points[j], rows, columns)
            nearest = _smallest(nearest, rows, exact)
        radii[i] = nearest.max(1)
    return radii


def _smallest(nearest: np.ndarray, rows: np.ndarray, more: np.ndarray) -> np.ndarray:
    """The k smallest values of each row: of `nearest`, `[n, k]`, and of `more` by their `rows`."""
    n, k = nearest.shape
    rows = np.concatenate([np.repeat(np.arange(n), k), rows])
    values = np.concatenate([nearest.ravel(), more])
    ends = np.cumsum(np.bincount(rows, minlength=n))
    starts = np.concatenate([[0], ends[:-1]])
    return values[np.lexsort((values, rows))][starts[:, None] + np.arange(k)]


def _squared_distances(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """|x|² + |y|² - 2 x·y `[n, m]`, and a bound on its rounding error.

    A sum of d products has d roundings, each of at most eps times the sum of their sizes (Higham,
    "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1). The bound also includes
    the error of `_exact`.
    """
    x_squares, y_squares = np.einsum("nd,nd->n", x, x), np.einsum("nd,nd->n", y, y)
    squared = x @ y.T
    squared *= -2
    squared += x_squares[:, None]
    squared += y_squares
    largest = x_squares.max() + y_squares.max()
    return squared, (4 * x.shape[1] + 8) * np.finfo(np.float64).eps * largest


def _near(values: np.ndarray, to: np.ndarray, within: float) -> np.ndarray:
    return (values >= to - within) & (values <= to + within)


def _exact(x: np.ndarray, y: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sums of squared differences of pairs, with equal bits for (x, y) and (y, x)."""
    squared = np.empty(len(rows))
    for part in _slices(len(rows), max(1, 2**20 // x.shape[1])):
        squared[part] = ((x[rows[part]] - y[columns[part]]) ** 2).sum(1)
    return squared
