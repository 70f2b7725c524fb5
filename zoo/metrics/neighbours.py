"""Nearest neighbours, and a test of whether samples are copies of training images.

Distances are Euclidean, between pixels or between features of a network. The choice of features
decides which images are near.
"""

from typing import Any

import numpy as np

from zoo.contract import check_counts
from zoo.metrics.estimate import Estimate, as_features


def nearest_neighbours(queries: Any, candidates: Any, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The exact `k` nearest candidates of each query, nearest first, in float64.

    The search of scikit-learn is fast, but computes distances as ‖x‖² - 2xy + ‖y‖². Rounding affects
    the last digits of the norms, which distinguish copies from near copies. Therefore the search
    proposes more than `k` candidates, and their distances are computed from differences. If rounding
    could hide a nearer candidate, the query is compared with all candidates. Candidates at equal
    distance keep their order.

    Args:
        queries: Floats `[N, ...]`, such as images or features.
        candidates: Floats `[M, ...]`, M >= `k`, each of the same shape as a query.
        k: Number of neighbours.

    Returns:
        `indices[N, k]` of candidates, and the `distances[N, k]` to them.

    Raises:
        ValueError: If shapes or types differ from these, if a value is not finite, or if `k` > M.

    Example:
        >>> indices, distances = zoo.metrics.nearest_neighbours([[0.0]], [[5.0], [1.0], [-2.0]], k=2)
        >>> indices.tolist(), distances.tolist()
        ([[1, 2]], [[1.0, 2.0]])
    """
    from sklearn.neighbors import NearestNeighbors

    queries, candidates = _alike(queries=queries, candidates=candidates)
    check_counts(k=k)
    if not 1 <= k <= len(candidates):
        raise ValueError(
            f"`k` must be from 1 to {len(candidates)}, the number of candidates. Received: k={k}."
        )
    search = NearestNeighbors(n_neighbors=min(2 * k + 8, len(candidates)), algorithm="brute")
    rough, proposed = search.fit(candidates).kneighbors(queries)
    # A bound on the error of each squared distance: a sum of d products and three more terms.
    sizes = [np.einsum("nd,nd->n", x, x) for x in (queries, candidates)]
    error = 2 * (queries.shape[1] + 8) * np.finfo(np.float64).eps * (sizes[0] + sizes[1].max())
    beyond = rough[:, -1] ** 2 - error
    indices, squares = np.empty([len(queries), k], int), np.empty([len(queries), k])
    for i, query in enumerate(queries):
        near = np.sort(proposed[i])
        indices[i], squares[i] = _nearest(query, candidates, near, k)
        if len(near) < len(candidates) and squares[i, -1] >= beyond[i]:
            indices[i], squares[i] = _nearest(query, candidates, np.arange(len(candidates)), k)
    return indices, np.sqrt(squares)


def data_copying(samples: Any, test: Any, train: Any) -> Estimate:
    """A test of whether samples are nearer to the training set than held-out examples, as a z-score.

    It is the Mann-Whitney U test of the distances to the nearest training example, samples against
    held-out examples. The z-score is about standard normal if samples have the distribution of the
    data. Far below 0, such as below -3, samples copy training examples; far above 0, samples are
    unlike the data.

    Meehan, Chaudhuri & Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative Models",
    2020, section 3, https://arxiv.org/abs/2004.05675.

    Args:
        samples: Floats `[N, ...]`, images or, as in the paper, features of images.
        test: Floats `[M, ...]`, held-out examples.
        train: Floats `[T, ...]`, the examples that the model was trained on.

    Returns:
        The z-score, with `bias` 0. `details`: the `probability` that a sample is farther from the
        training set than a held-out example, with ties counted by half; the medians of the distances,
        `median_samples` and `median_test`; `num_copies`, the number of samples at distance 0.

    Raises:
        ValueError: If shapes or types differ from these, if a value is not finite, or if all
            distances are equal.

    Notes:
        The paper partitions the space into cells. Without cells, copies in one region can be hidden
        by samples off the data in another. The variance has the usual correction for ties.

    Example:
        >>> data = np.random.default_rng(0).normal(size=(300, 2))
        >>> train, test = data[:200], data[200:]
        >>> float(zoo.metrics.data_copying(train[:50] + 0.001, test, train)) < -3
        True
    """
    samples, test, train = _alike(samples=samples, test=test, train=train)
    far_samples, far_test = (nearest_neighbours(x, train, k=1)[1][:, 0] for x in (samples, test))
    n, m = len(far_samples), len(far_test)
    ordered = np.sort(far_test)
    wins = sum(np.searchsorted(ordered, far_samples, side).sum() for side in ("left", "right")) / 2
    _, ties = np.unique(np.concatenate([far_samples, far_test]), return_counts=True)
    # Python's integers, because cubes of counts overflow those of NumPy.
    same = sum(int(t) ** 3 - int(t) for t in ties) / ((n + m) * (n + m - 1))
    variance = n * m / 12 * (n + m + 1 - same)
    if len(ties) == 1:
        raise ValueError(
            "The test needs distances to the training set that differ. Received: "
            f"{ordered[0]:g} for all samples and test examples; check that `test` is not part of `train`"
        )
    return Estimate(
        float((wins - n * m / 2) / np.sqrt(variance)),
        n_real=m,
        n_fake=n,
        bias=0.0,
        estimator={"method": "mann-whitney", "num_train": len(train)},
        details={
            "probability": float(wins / (n * m)),
            "median_samples": float(np.median(far_samples)),
            "median_test": float(np.median(far_test)),
            "num_copies": int((far_samples == 0).sum()),
        },
    )


def _nearest(query, candidates, among, k):
    """The `k` nearest of the candidates `among` (ascending indices), and their squared distances."""
    # In parts, because all differences at once take as much memory as the candidates.
    parts = np.array_split(among, -(-len(among) // 1024))
    squares = np.concatenate([((candidates[part] - query) ** 2).sum(axis=1) for part in parts])
    first = np.argsort(squares, kind="stable")[:k]
    return among[first], squares[first]


def _alike(**arrays: Any) -> list[np.ndarray]:
    """The arrays flattened, `[N, d]` in float64. Only N may differ between them."""
    arrays = {name: np.asarray(values) for name, values in arrays.items()}
    shapes = {name: values.shape for name, values in arrays.items()}
    first = next(iter(shapes.values()))
    if any(len(s) < 2 or 0 in s or s[1:] != first[1:] for s in shapes.values()):
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in shapes)} must be floats of shape [N, ...], equal "
            f"except for N. Received: shapes {', '.join(map(str, shapes.values()))}."
        )
    return [
        as_features(values.reshape(len(values), -1), name).astype(np.float64, copy=False)
        for name, values in arrays.items()
    ]
