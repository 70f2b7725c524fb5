"""Data sets: embedded and rendered sets, sets of TensorFlow Datasets, and folders of images."""

from zoo.datasets import heads, scenes, sprites, textures
from zoo.datasets.catalog import check, expected, load, names
from zoo.datasets.errors import DatasetNotFound
from zoo.datasets.folder import read_image, read_images
from zoo.datasets.images import BINARIZATIONS, ImageData
from zoo.datasets.labelled import check_num_labels

__all__ = [
    "BINARIZATIONS",
    "DatasetNotFound",
    "ImageData",
    "check",
    "check_num_labels",
    "expected",
    "heads",
    "load",
    "names",
    "read_image",
    "read_images",
    "scenes",
    "sprites",
    "textures",
]
