"""Scores models and sets of images by one protocol: which images, which network, which metrics.

`zoo.metrics` has the formulas. Here are the images they are computed from, and the record of it.
"""

from zoo.evaluation.evaluation import Evaluation
from zoo.evaluation.images import Images, cached_features, samples
from zoo.evaluation.table import GROUPS, METRICS, Metric, resolve

__all__ = [
    "GROUPS",
    "METRICS",
    "Evaluation",
    "Images",
    "Metric",
    "cached_features",
    "resolve",
    "samples",
]
