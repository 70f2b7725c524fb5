"""Nearest neighbours: whether samples are copies of training images.

Distances are Euclidean, between pixels or between features that a network makes of images: what
counts as near is the choice of these.
"""

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from zoo.metrics.estimate import Estimate, as_features


def nearest_neighbours(queries: Any, candidates: Any, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """For each query the `k` nearest candidates, from the nearest on; exactly, in float64.

    scikit-learn's search is fast, but its distances, by ‖x‖² - 2xy + ‖y‖², are wrong in the last
    digits of the norms, where copies and near copies differ. So it proposes more than `k`, whose
    distances are taken from the differences themselves; where its error might hide a nearer one, the
    query is compared with all candidates. Of equally near candidates the first comes first.

    Args:
        queries: Floats `[N, ...]`, such as images or features.
        candidates: Floats `[M, ...]`, M >= `k`, each of the same shape as a query.
        k: Neighbours of each query.

    Returns:
        `indices[N, k]` of candidates, and the `distances[N, k]` to them.

    Raises:
        ValueError: If shapes or types are not so, a value is not finite, or `k` > M.

    Example:
        >>> indices, distances = zoo.metrics.nearest_neighbours([[0.0]], [[5.0], [1.0], [-2.0]], k=2)
        >>> indices.tolist(), distances.tolist()
        ([[1, 2]], [[1.0, 2.0]])
    """
    queries, candidates = _alike(queries=queries, candidates=candidates)
    if not 1 <= k <= len(candidates):
        raise ValueError(
            f"Of {len(candidates)} candidates there are from 1 to {len(candidates)} nearest. "
            f"Received: k={k}."
        )
    search = NearestNeighbors(n_neighbors=min(2 * k + 8, len(candidates)), algorithm="brute")
    rough, proposed = search.fit(candidates).kneighbors(queries)
    # A bound on the error of each squared distance, by that of a sum of d products and three more.
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
    """Whether samples are nearer to the training set than held-out examples are.

    The Mann-Whitney U test of the distances to the nearest training example, of samples against
    held-out ones, as a z-score. It is about standard normal if samples are distributed as the data;
    well below 0, such as under -3, samples copy training examples, well above 0 they lie off the
    data. It is the source's test without its partition into cells: copying in one region can hide
    behind samples off the data in another.

    Source: Meehan, Chaudhuri & Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative
    Models" (2020), section 3, https://arxiv.org/abs/2004.05675; with the usual correction of the
    variance for ties.

    Args:
        samples: Floats `[N, ...]`, images or, as in the source, features of images.
        test: Floats `[M, ...]`, held-out examples.
        train: Floats `[T, ...]`, the examples that the model was trained on.

    Returns:
        The z-score, with `bias` 0. `details`: `probability` that a sample is farther from the
        training set than a held-out example is, ties counted by half; the medians of the distances,
        `median_samples` and `median_test`; `num_copies`, the samples at distance 0.

    Raises:
        ValueError: If shapes or types are not so, a value is not finite, or all distances are equal.

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
    # In Python's integers: cubes of counts overflow others.
    same = sum(int(t) ** 3 - int(t) for t in ties) / ((n + m) * (n + m - 1))
    variance = n * m / 12 * (n + m + 1 - same)
    if len(ties) == 1:
        raise ValueError(
            "Distances to the training set must differ for a test to compare them. Received: "
            f"{ordered[0]:g} for all samples and test examples; is `test` part of `train`?"
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
    """The `k` nearest of the candidates with the ascending indices `among`, and squared distances."""
    # In parts: all differences at once would be as large as the candidates themselves.
    parts = np.array_split(among, -(-len(among) // 1024))
    squares = np.concatenate([((candidates[part] - query) ** 2).sum(axis=1) for part in parts])
    first = np.argsort(squares, kind="stable")[:k]
    return among[first], squares[first]


def _alike(**arrays: Any) -> list[np.ndarray]:
    """The arrays flattened, `[N, d]` in float64, if they are alike in all but number."""
    arrays = {name: np.asarray(values) for name, values in arrays.items()}
    shapes = {name: values.shape for name, values in arrays.items()}
    first = next(iter(shapes.values()))
    if any(len(s) < 2 or 0 in s or s[1:] != first[1:] for s in shapes.values()):
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in shapes)} must be floats of shape [N, ...], alike "
            f"in all but N. Received: shapes {', '.join(map(str, shapes.values()))}."
        )
    return [
        as_features(values.reshape(len(values), -1), name).astype(np.float64, copy=False)
        for name, values in arrays.items()
    ]
