"""Maximum mean discrepancies: distances between the mean embeddings of two sets under a kernel."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from zoo.contract import check_counts
from zoo.metrics.estimate import Estimate, as_features

_TILE = 1024
_IMQ_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def kernel_distance(
    real: np.ndarray,
    fake: np.ndarray,
    estimator: str = "full",
    subset_size: int = 1000,
    num_subsets: int = 100,
    block_size: int = 1024,
    seed: int = 0,
) -> Estimate:
    """The unbiased squared maximum mean discrepancy with the kernel (x·y / d + 1)³.

    Binkowski et al., "Demystifying MMD GANs", 2018, section 4, https://arxiv.org/abs/1801.01401,
    call it KID for features of the Inception network. It can be negative. Papers often report it
    multiplied by 1000.

    Args:
        real: Features of the real examples, `[N, d]`, N at least 2.
        fake: Features of the generated examples, `[M, d]`, M at least 2.
        estimator: "full": all pairs, with the standard error that `maximum_mean_discrepancy`
            describes. "subsets": the mean over `num_subsets` random subsets of `subset_size` of
            each set, without replacement within a subset, as in most papers. "blocks": the mean
            over disjoint random blocks of about `block_size`, with its standard error. 100 subsets
            of 1000 cost as much as all pairs of 10,000.
        subset_size: Number of examples of each set in a subset.
        num_subsets: Number of subsets.
        block_size: Largest size of a block.
        seed: Seed of the choice of subsets or blocks.

    Returns:
        The distance, without unit. With "subsets" `details["std_over_subsets"]` is the standard
        deviation (divided by n) that papers report. It is not a standard error, because subsets
        overlap.

    Raises:
        ValueError: If the sets have different d, if a set, subset or block has fewer than 2
            examples, if subsets are larger than a set, if a feature is NaN, or if the estimator is
            unknown.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> real, fake = rng.normal(size=(500, 16)), rng.normal(size=(400, 16))
        >>> distance = zoo.metrics.kernel_distance(real, fake + 0.5)  # 1.03 in the limit
        >>> round(distance.value, 2), round(distance.stderr, 2)
        (1.11, 0.08)
    """
    real, fake = _two_sets(real, fake, "real", "fake")
    sizes = {"n_real": len(real), "n_fake": len(fake), "bias": 0.0}
    check_counts(0, seed=seed)
    rng = np.random.default_rng(seed)
    if estimator == "full":
        full = _discrepancy(real, fake, _cubic)
        return Estimate(full.value, full.stderr, **sizes, estimator={"method": "full"})
    if estimator == "subsets":
        check_counts(num_subsets=num_subsets, subset_size=subset_size)
        if not 2 <= subset_size <= min(len(real), len(fake)) or num_subsets < 1:
            raise ValueError(
                "`subset_size` must be at least 2 and at most the number of examples, "
                f"{min(len(real), len(fake))}, and `num_subsets` at least 1. Received: "
                f"{num_subsets} subsets of {subset_size}."
            )
        parts = [
            [rng.choice(len(x), subset_size, replace=False) for x in (real, fake)]
            for _ in range(num_subsets)
        ]
        settings = {"subset_size": subset_size, "num_subsets": num_subsets}
    elif estimator == "blocks":
        check_counts(2, block_size=block_size)
        num_blocks = -(-max(len(real), len(fake)) // block_size)
        if min(len(real), len(fake)) < 2 * num_blocks:
            raise ValueError(
                "Blocks must have at least 2 examples of each set. Received: `block_size` "
                f"{block_size}, which gives {num_blocks} blocks, of {len(real)} and {len(fake)} examples."
            )
        parts = list(
            zip(
                *(np.array_split(rng.permutation(len(x)), num_blocks) for x in (real, fake)),
                strict=True,
            )
        )
        settings = {"block_size": block_size, "num_blocks": num_blocks}
    else:
        raise ValueError(
            f"`estimator` must be 'full', 'subsets' or 'blocks'. Received: {estimator!r}."
        )
    values = np.array([_discrepancy(real[i], fake[j], _cubic).value for i, j in parts])
    settings = {"method": estimator, "seed": seed} | settings
    if estimator == "subsets":
        details = {"std_over_subsets": float(values.std())}
        return Estimate(float(values.mean()), None, **sizes, estimator=settings, details=details)
    stderr = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Estimate(float(values.mean()), stderr, **sizes, estimator=settings)


def maximum_mean_discrepancy(
    x: np.ndarray,
    y: np.ndarray,
    kernel: str = "rbf",
    bandwidth: float | None = None,
    unbiased: bool = True,
) -> Estimate:
    """The squared MMD, E k(x, x') + E k(y, y') - 2 E k(x, y), for example of latent codes.

    Gretton et al., "A Kernel Two-Sample Test", 2012, eq. 3 (unbiased) and 5,
    https://jmlr.org/papers/v13/gretton12a.html. The kernels, with the bandwidth l:

    - "rbf": exp(-|x - y|² / 2l²).
    - "imq": the sum over s in 0.1, 0.2, 0.5, 1, 2, 5, 10 of C / (C + |x - y|²), C = 2 l² s.
      C = 2d is the choice of Tolstikhin et al., "Wasserstein Auto-Encoders", 2018, section 4,
      https://arxiv.org/abs/1711.01558, for a standard normal prior; the scales are those of their
      code.

    The square of the standard error estimates the variance at any distance, including 0, where the
    first-order term of large-sample theory vanishes. With the projections
    g(x) = E k(x, x') - E k(x, y), h(y) defined in the same way, and the doubly centred kernels r,
    the variance is

        4 Var g / n + 4 Var h / m
        + 2 E r(x, x')² / n(n-1) + 2 E r(y, y')² / m(m-1) + 4 E r(x, y)² / nm

    (Hoeffding's decomposition; see Sutherland and Deka, "Unbiased estimators for the variance of
    MMD estimators", 2019, https://arxiv.org/abs/1906.02104). Each term is estimated without bias
    from row means and sums of squares of the kernel matrices; negative estimates count as 0.
    Therefore the estimated variance is too large if the distributions are equal.

    Args:
        x: `[N, d]`, N at least 2.
        y: `[M, d]`, for example draws from the prior; M at least 2.
        kernel: "rbf" or "imq".
        bandwidth: l, in units of x. By default √d: 2d is the mean squared distance of two draws
            from a standard normal.
        unbiased: Whether to exclude the pairs of a point with itself. With these pairs the value is
            never negative, and `bias` is what they add in expectation if both distributions are
            equal.

    Returns:
        The squared MMD; `n_real` is N, `n_fake` is M. Below 4 examples there is no standard error.

    Raises:
        ValueError: If the sets have different d or fewer than 2 examples, if a value is NaN, if the
            kernel is unknown, or if the bandwidth is not positive.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> z, prior = 0.5 * rng.normal(size=(1000, 2)), rng.normal(size=(1000, 2))
        >>> mmd = zoo.metrics.maximum_mean_discrepancy(z, prior)
        >>> round(mmd.value, 3), round(mmd.stderr, 3)  # 0.0692 in the limit
        (0.07, 0.005)
    """
    x, y = _two_sets(x, y, "x", "y")
    bandwidth = np.sqrt(x.shape[1]) if bandwidth is None else bandwidth
    if kernel not in ("rbf", "imq") or not 0 < bandwidth < np.inf:
        raise ValueError(
            "`kernel` must be 'rbf' or 'imq', and `bandwidth` positive and finite. Received: "
            f"{kernel!r} and {bandwidth}."
        )
    # Both kernels depend on differences only, which are more exact without a common offset.
    centre = y.mean(0, dtype=np.float64)
    function = _rbf(bandwidth) if kernel == "rbf" else _inverse_multiquadric(bandwidth)
    full, bias = _discrepancy(x - centre, y - centre, function), 0.0
    if not unbiased:
        itself = function(x[:1], x[:1]).item()  # Equal for all points.
        bias = (itself - full.mean_x) / len(x) + (itself - full.mean_y) / len(y)
    about = {"kernel": kernel, "bandwidth": float(bandwidth), "unbiased": unbiased}
    return Estimate(full.value + bias, full.stderr, len(x), len(y), bias, estimator=about)


# Kernels: matrices [n, m] of points [n, d] and [m, d] ------------------------------------------


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    values = x @ y.T / x.shape[1] + 1
    return values * values * values


def _rbf(bandwidth: float) -> Kernel:
    return lambda x, y: np.exp(-_squared_distances(x, y) / (2 * bandwidth**2))


def _inverse_multiquadric(bandwidth: float) -> Kernel:
    def kernel(x, y):
        squared = _squared_distances(x, y)
        constants = (2 * bandwidth**2 * scale for scale in _IMQ_SCALES)
        return sum(c / (c + squared) for c in constants)

    return kernel


def _squared_distances(x, y):
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)
    return np.maximum(squares - 2 * (x @ y.T), 0)


# The estimator ----------------------------------------------------------------------------------


def _two_sets(x, y, x_name, y_name):
    x, y = as_features(x, x_name, at_least=2), as_features(y, y_name, at_least=2)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"`{x_name}` and `{y_name}` must be of the same features. Received: shapes {x.shape} "
            f"and {y.shape}."
        )
    return x, y


class _Discrepancy(NamedTuple):
    value: float
    stderr: float | None
    mean_x: float
    mean_y: float


def _discrepancy(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> _Discrepancy:
    """The unbiased squared MMD, its standard error, and the means of k(x, x') and k(y, y')."""
    n, m = len(x), len(y)
    (rows_x, squares_x), (rows_y, squares_y) = _within(x, kernel), _within(y, kernel)
    rows, columns, squares = _between(x, y, kernel)
    mean_x, mean_y = rows_x.sum() / (n * (n - 1)), rows_y.sum() / (m * (m - 1))
    mean = rows.sum() / (n * m)
    value = mean_x + mean_y - 2 * mean
    if not np.isfinite(squares_x + squares_y + squares):
        raise ValueError(
            "The kernel's values must have squares within float64. Received: larger features."
        )
    if min(n, m) < 4:
        return _Discrepancy(float(value), None, float(mean_x), float(mean_y))
    effects_x, rest_x = _centred(rows_x, squares_x, mean_x)
    effects_y, rest_y = _centred(rows_y, squares_y, mean_y)
    across_x, across_y = rows / m - mean, columns / n - mean
    rest = squares - m * (across_x**2).sum() - n * (across_y**2).sum() - n * m * mean**2
    rest /= (n - 1) * (m - 1)
    # The effects are estimates: their noise is subtracted from the variance among them.
    first_x = np.var(effects_x - across_x, ddof=1) - rest_x / (n - 2) - rest / m
    first_y = np.var(effects_y - across_y, ddof=1) - rest_y / (m - 2) - rest / n
    variances = (
        4 * first_x / n,
        4 * first_y / m,
        2 * rest_x / (n * (n - 1)),
        2 * rest_y / (m * (m - 1)),
        4 * rest / (n * m),
    )
    variance = sum(max(part, 0.0) for part in variances)
    return _Discrepancy(float(value), float(np.sqrt(variance)), float(mean_x), float(mean_y))


def _centred(rows, squares, mean):
    """The effects of the points on k(x, x'), and the mean square of the rest.

    Least squares for k(xᵢ, xⱼ) = mean + effectᵢ + effectⱼ + rest over all pairs i < j.
    """
    n = len(rows)
    effects = (rows - (n - 1) * mean) / (n - 2)
    rest = squares / 2 - (n - 2) * (effects**2).sum() - n * (n - 1) / 2 * mean**2
    return effects, rest / (n * (n - 3) / 2)


def _within(x, kernel):
    """The sums of k(x, x') over the other points for each point, and the sum of all squares."""
    rows, squares = np.zeros(len(x)), 0.0
    for i, left in _tiles(x):
        for j, right in _tiles(x[: i.stop]):
            values = kernel(left, right)
            if i == j:
                np.fill_diagonal(values, 0)
            else:
                rows[j] += values.sum(0)
                squares += np.vdot(values, values)
            rows[i] += values.sum(1)
            squares += np.vdot(values, values)
    return rows, squares


def _between(x, y, kernel):
    """The sums of k(x, y) for each x and for each y, and the sum of all squares."""
    rows, columns, squares = np.zeros(len(x)), np.zeros(len(y)), 0.0
    for i, left in _tiles(x):
        for j, right in _tiles(y):
            values = kernel(left, right)
            rows[i] += values.sum(1)
            columns[j] += values.sum(0)
            squares += np.vdot(values, values)
    return rows, columns, squares


def _tiles(x):
    for start in range(0, len(x), _TILE):
        index = slice(start, min(start + _TILE, len(x)))
        yield index, x[index].astype(np.float64)
