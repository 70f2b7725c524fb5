"""Feature networks for metrics of samples: the catalog, preprocessing and extraction."""

from zoo.features.catalog import WeightsNotFound, for_dataset, get, names
from zoo.features.extractor import Extractor, Features
from zoo.features.images import preprocess

__all__ = [
    "Extractor",
    "Features",
    "WeightsNotFound",
    "for_dataset",
    "get",
    "names",
    "preprocess",
]
