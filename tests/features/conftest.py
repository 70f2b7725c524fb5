"""One way to the real data sets: they are used where they are prepared, else the test skips."""

import functools
import os
from pathlib import Path

import pytest

from zoo import datasets


@pytest.fixture(scope="session")
def test_images():
    """A function which gives the first N test images of a set, and their labels."""
    folder = os.environ.get("TFDS_DATA_DIR")

    @functools.cache
    def load(name, limit):
        if not folder or not (Path(folder).expanduser() / name).is_dir():
            absent(f"{name} is not prepared in TFDS_DATA_DIR")
        return datasets.load(name, data_dir=folder).arrays("test", limit)

    return load


def absent(reason):
    """Skips, but not where all data is expected to be there, as in continuous integration."""
    (pytest.fail if os.environ.get("ZOO_REQUIRE_DATA") else pytest.skip)(reason)
