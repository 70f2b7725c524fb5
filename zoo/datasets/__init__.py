"""Data sets: embedded and rendered sets, sets of TensorFlow Datasets, and folders of images."""

from zoo.datasets import heads, moving, scenes, sprites, textures
from zoo.datasets.catalog import check, expected, load, names
from zoo.datasets.errors import DatasetNotFound
from zoo.datasets.folder import read_image, read_images
from zoo.datasets.images import BINARIZATIONS, ImageData
from zoo.datasets.labelled import check_num_labels
from zoo.datasets.masks import named_mask

__all__ = [
    "BINARIZATIONS",
    "DatasetNotFound",
    "ImageData",
    "check",
    "check_num_labels",
    "expected",
    "heads",
    "load",
    "moving",
    "named_mask",
    "names",
    "read_image",
    "read_images",
    "scenes",
    "sprites",
    "textures",
]
