"""One way to the real data sets: they are used where they are prepared, else the test skips."""

import functools
import os
from pathlib import Path

import pytest

from zoo import datasets


def absent(reason):
    """Skips, but not where all data is expected to be there, as in continuous integration."""
    (pytest.fail if os.environ.get("ZOO_REQUIRE_DATA") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def prepared():
    """A function which loads a set prepared under TFDS_DATA_DIR, or skips the test."""
    folder = os.environ.get("TFDS_DATA_DIR")

    @functools.cache  # MNIST takes seconds to read, and several tests want it
    def load(name, **options):
        if not folder:
            absent("TFDS_DATA_DIR is not set")
        if not (Path(folder).expanduser() / name).is_dir():
            absent(f"{name} is not prepared in {folder}")
        return datasets.load(name, data_dir=folder, **options)

    return load
