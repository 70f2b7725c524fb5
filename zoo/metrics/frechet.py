"""The Fréchet distance between Gaussians that are fitted to two sets of features."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from zoo.contract import check_counts
from zoo.metrics.estimate import Estimate, as_features

_METHODS = ("auto", "gram", "cholesky", "eigen")


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """The number, sum, and sum of outer products of a set of features, in float64.

    The moments of parts add up to those of the whole set. The covariance is a difference of large
    numbers if the mean is large: it loses about 2 log10(|mean| / standard deviation) of its 16
    digits, 6 for a mean of 1000 standard deviations.

    Args:
        n: Number of examples, N.
        sum: Sum of the features, `[d]`.
        outer: Sum of x xᵀ, `[d, d]`.

    Raises:
        ValueError: If the shapes do not match, or if a number is NaN or infinite.

    Example:
        >>> one, two = np.eye(3), np.ones((4, 3))
        >>> both = zoo.metrics.Moments.of(one) + zoo.metrics.Moments.of(two)
        >>> both.n, both.sum.tolist()
        (7, [5.0, 5.0, 5.0])
    """

    n: int
    sum: np.ndarray
    outer: np.ndarray

    def __post_init__(self):
        n = int(self.n)
        total, outer = (np.array(v, np.float64) for v in (self.sum, self.outer))
        if n < 0 or total.ndim != 1 or not len(total) or outer.shape != 2 * total.shape:
            raise ValueError(
                "Moments are a number n of at least 0, a sum [d] and outer products [d, d]. "
                f"Received: n = {n}, sum of shape {total.shape}, outer of shape {outer.shape}."
            )
        if not (np.isfinite(total).all() and np.isfinite(outer).all()):
            raise ValueError("Moments must be of finite features. Received: NaN or infinity.")
        for values in (total, outer):
            values.flags.writeable = False
        for name, value in (("n", n), ("sum", total), ("outer", outer)):
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, features: np.ndarray, block: int = 4096) -> "Moments":
        """The moments of features `[N, d]`, `block` rows at a time."""
        features = _features(features, "features")
        total, outer = np.zeros(features.shape[1]), np.zeros(2 * features.shape[1:])
        for part in _blocks(features, block):
            part = part.astype(np.float64)
            total += part.sum(0)
            outer += part.T @ part
        return cls(len(features), total, outer)

    def __add__(self, other: "Moments") -> "Moments":
        if not isinstance(other, Moments):
            return NotImplemented
        if self.dim != other.dim:
            raise ValueError(
                "Moments add up only if they are of the same features. Received: dimensions "
                f"{self.dim} and {other.dim}."
            )
        return Moments(self.n + other.n, self.sum + other.sum, self.outer + other.outer)

    @property
    def dim(self) -> int:
        """Number of features, d."""
        return len(self.sum)

    @property
    def mean(self) -> np.ndarray:
        """The mean, `[d]`."""
        if not self.n:
            raise ValueError("A mean needs at least 1 example. Received: none.")
        return self.sum / self.n

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, `[d, d]`, with the divisor N - 1."""
        if self.n < 2:
            raise ValueError(f"A covariance needs at least 2 examples. Received: {self.n}.")
        return (self.outer - np.outer(self.sum, self.mean)) / (self.n - 1)


def frechet_distance(
    real: np.ndarray | Moments, fake: np.ndarray | Moments, method: str = "auto"
) -> Estimate:
    """|m₁ - m₂|² + tr C₁ + tr C₂ - 2 tr (C₁C₂)^½ of the means m and covariances C of two sets.

    It is the squared 2-Wasserstein distance of two Gaussians: Dowson and Landau, "The Fréchet
    distance between multivariate normal distributions", 1982,
    https://doi.org/10.1016/0047-259X(82)90077-X. Heusel et al., "GANs Trained by a Two Time-Scale
    Update Rule", 2017, eq. 6, https://arxiv.org/abs/1706.08500, introduce it as a score. The name
    FID is reserved for the network and the resizing of that paper.

    Each covariance is factored as C = F Fᵀ. Then tr C is the sum of the squares of F, and
    tr (C₁C₂)^½ is the sum of the singular values of F₁ᵀF₂. This needs no root of a non-symmetric
    matrix and no addition to a diagonal, and also works for singular covariances.

    Args:
        real: Features of the real examples, `[N, d]`, or their `Moments`; N at least 2.
        fake: Features of the generated examples, or their `Moments`.
        method: The origin of F. "gram": the centred features. "cholesky": the triangular factor of
            the covariance. "eigen": the eigenvectors of the covariance, times the roots of its
            eigenvalues; negative eigenvalues (by rounding) count as 0. "auto" chooses for each set:
            "gram" for features with N <= d, else "cholesky", or "eigen" if C is singular.

    Returns:
        The distance, in squared units of the features. `bias` is `frechet_bias` of the estimated
        real covariance, if both sets have more examples than features; otherwise its formula does
        not hold. `estimator["clipped"]` is the number of eigenvalues that counted as 0. A value
        below the rounding error, d times float64's precision times tr C₁ + tr C₂, is replaced by 0,
        and `details["rounded_to_zero"]` is true.

    Raises:
        ValueError: If the sets have different d, or fewer than 2 examples, or NaN, or if the method
            does not apply to a set.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> real = rng.normal(size=(1000, 4))
        >>> distance = zoo.metrics.frechet_distance(real, 2 * real - 2 * real.mean(0))
        >>> mean, trace = real.mean(0), real.var(0, ddof=1).sum()
        >>> np.isclose(distance.value, (mean**2).sum() + (1 - 2) ** 2 * trace)
        np.True_
    """
    if method not in _METHODS:
        raise ValueError(f"`method` must be one of {list(_METHODS)}. Received: {method!r}.")
    a, b = _summary(real, "real", method), _summary(fake, "fake", method)
    if len(a.mean) != len(b.mean):
        raise ValueError(
            "`real` and `fake` must be of the same features. Received: dimensions "
            f"{len(a.mean)} and {len(b.mean)}."
        )
    spread = (a.factor**2).sum() + (b.factor**2).sum()
    between_means = ((a.mean - b.mean) ** 2).sum()
    between_covariances = spread - 2 * np.linalg.norm(a.factor.T @ b.factor, "nuc")
    value = between_means + between_covariances
    rounded = bool(value < len(a.mean) * np.finfo(np.float64).eps * spread)
    bias = None
    if min(a.n, b.n) > len(a.mean):
        bias = frechet_bias(a.factor @ a.factor.T, a.n, b.n)
    return Estimate(
        0.0 if rounded else float(value),
        n_real=a.n,
        n_fake=b.n,
        bias=bias,
        estimator={
            "method": a.method if a.method == b.method else f"{a.method} and {b.method}",
            "ddof": 1,
            "dtype": "float64",
            "rank_deficient": a.rank_deficient or b.rank_deficient,
            "clipped": a.clipped + b.clipped,
        },
        details={
            "between_means": float(between_means),
            "between_covariances": max(float(between_covariances), 0.0),
            "rounded_to_zero": rounded,
        },
    )


def frechet_bias(covariance: np.ndarray, n_real: int, n_fake: int) -> float:
    """The expected Fréchet distance of two sets from one Gaussian, to leading order in 1/N.

    The means contribute tr C (1/n_real + 1/n_fake). Near C, the covariances contribute
    ½ Σᵢⱼ Δᵢⱼ² / (λᵢ + λⱼ), with λ the eigenvalues of C and Δ the difference of the two estimates
    in the basis of the eigenvectors of C (Bhatia, Jain and Lim, "On the Bures-Wasserstein distance
    between positive definite matrices", 2019, https://arxiv.org/abs/1712.01504). An estimate from
    n examples has Var Δᵢⱼ = λᵢλⱼ (1 + [i = j]) / (n - 1), so the expected contribution is
    ½ (1/(n_real - 1) + 1/(n_fake - 1)) (Σᵢⱼ λᵢλⱼ / (λᵢ + λⱼ) + ½ tr C).

    The formula holds for N > d, and is too high for fewer examples. The error of an estimated
    covariance matters more: the eigenvalues of an estimate from N examples differ too much from
    each other, which lowers the result, especially if N is near d.

    Args:
        covariance: C, `[d, d]`.
        n_real: Size of one set, at least 2.
        n_fake: Size of the other set, at least 2.

    Raises:
        ValueError: If C is not square, or a set has fewer than 2 examples.

    Example:
        >>> round(zoo.metrics.frechet_bias(np.eye(32), 1000, 1000), 2)
        0.59
    """
    covariance = np.asarray(covariance, np.float64)
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise ValueError(f"A covariance must be [d, d]. Received: shape {covariance.shape}.")
    check_counts(n_real=n_real, n_fake=n_fake)
    if min(n_real, n_fake) < 2:
        raise ValueError(f"Sets must have at least 2 examples. Received: {n_real} and {n_fake}.")
    eigenvalues = np.linalg.eigvalsh(covariance)
    positive = eigenvalues[eigenvalues > 0]
    pairs = (positive[:, None] * positive / (positive[:, None] + positive)).sum()
    means = positive.sum() * (1 / n_real + 1 / n_fake)
    covariances = (pairs + positive.sum() / 2) * (1 / (n_real - 1) + 1 / (n_fake - 1)) / 2
    return float(means + covariances)


class _Summary(NamedTuple):
    """The mean `[d]` and the covariance of a set, C = factor factorᵀ, with factor `[d, r]`."""

    n: int
    mean: np.ndarray
    factor: np.ndarray
    method: str
    rank_deficient: bool
    clipped: int = 0


def _summary(values: np.ndarray | Moments, name: str, method: str) -> _Summary:
    if isinstance(values, Moments):
        if values.n < 2 or method == "gram":
            raise ValueError(
                f"`{name}` must have at least 2 examples, and be features, not Moments, for the method "
                f"'gram'. Received: Moments of {values.n}, method {method!r}."
            )
        return _decompose(values.n, values.mean, values.covariance, method)
    features = _features(values, name, at_least=2)
    n, dim = features.shape
    mean = features.mean(0, dtype=np.float64)
    if method == "gram" or (method == "auto" and n <= dim):
        factor = (features - mean).T / np.sqrt(n - 1)
        return _Summary(n, mean, factor, "gram", rank_deficient=n <= dim)
    scatter = np.zeros((dim, dim))
    for part in _blocks(features, 4096):
        centred = part - mean
        scatter += centred.T @ centred
    return _decompose(n, mean, scatter / (n - 1), method)


def _decompose(n: int, mean: np.ndarray, covariance: np.ndarray, method: str) -> _Summary:
    noise = len(mean) * np.finfo(np.float64).eps
    if method == "cholesky" or (method == "auto" and n > len(mean)):
        try:
            factor = np.linalg.cholesky(covariance)
            # Rounding could have made a pivot of this size negative.
            if np.diag(factor).min() ** 2 > noise * np.diag(covariance).max():
                return _Summary(n, mean, factor, "cholesky", rank_deficient=False)
        except np.linalg.LinAlgError:
            pass
        if method == "cholesky":
            raise ValueError(
                "The method 'cholesky' needs a covariance of full rank. Received: a singular one "
                f"of {n} examples; choose 'auto' or 'eigen'."
            )
    eigenvalues, vectors = np.linalg.eigh(covariance)
    factor = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    deficient = bool(eigenvalues[0] <= noise * eigenvalues[-1])
    return _Summary(n, mean, factor, "eigen", deficient, int((eigenvalues < 0).sum()))


def _features(values: np.ndarray, name: str, at_least: int = 1) -> np.ndarray:
    features = as_features(values, name, at_least)
    if (largest := float(np.abs(features).max())) > 1e150:
        raise ValueError(f"`{name}` must have squares within float64. Received: {largest:.3g}.")
    return features


def _blocks(features: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (features[start : start + size] for start in range(0, len(features), size))
