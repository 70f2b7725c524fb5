"""Evaluation of models and of sets of images: protocol, results, ranking.

`zoo.metrics` has the formulas. This package chooses the images for the formulas, records results
with their protocols, and ranks results of equal protocol.

- `registry`: the metrics by name.
- `evaluation`: `Evaluation`, which computes them.
- `results`: the store of results and the ranking.
- `images`: samples, and features with a cache.
- `classification`: errors of classifiers and clusters.
"""

from zoo.evaluation import classification
from zoo.evaluation.evaluation import Evaluation
from zoo.evaluation.images import Images, cached_features, sample_images
from zoo.evaluation.registry import GROUPS, HIGHER_IS_BETTER, METRICS, Metric, resolve
from zoo.evaluation.results import (
    Comparison,
    Ranking,
    Result,
    Store,
    append,
    compare,
    rank,
    read,
)

__all__ = [
    "GROUPS",
    "HIGHER_IS_BETTER",
    "METRICS",
    "Comparison",
    "Evaluation",
    "Images",
    "Metric",
    "Ranking",
    "Result",
    "Store",
    "append",
    "cached_features",
    "classification",
    "compare",
    "rank",
    "read",
    "resolve",
    "sample_images",
]
