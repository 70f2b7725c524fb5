"""The table of attributes as asked for and as predicted, on small made images."""

import os
import zipfile

import keras
import numpy as np
import pytest

from benchmarks.tables import attribute_similarity as table
from benchmarks.tables.table import published
from zoo import datasets


def test_attributes_are_compared_in_units_of_the_training_images():
    # Means of 0.5 and 2, deviations of 0.5 and 1.
    reference = np.array([[0.0, 1], [1, 3]])
    asked = np.array([[1.0, 3], [1, 3], [1, 3], [0, 2]])
    predicted = np.array([[1.0, 3], [0, 1], [0.75, 2], [0.5, 3]])
    scores = table.similarity(asked, predicted, reference)
    # In these units (1, 1) is compared with itself, (-1, -1) and (0.5, 0), and (-1, 0) with (0, 1).
    np.testing.assert_allclose(scores["cosine"], [1, -1, np.sqrt(0.5), 0], atol=1e-12)
    np.testing.assert_allclose(scores["squared error"], [0, 4, 0.625, 1])
    # The second attribute is real.
    np.testing.assert_array_equal(scores["agreement"], [100, 0, 100, 100])


class Lit:
    """Images of which the pixels of the first row are the attributes, and a model that draws them."""

    def __init__(self, flipped):
        self.flipped, self.image_shape = flipped, (2, 2, 1)

    def arrays(self, split, limit=None):
        y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)[:limit]
        return self.drawn(y), y

    def drawn(self, y):
        return np.stack([y, 0 * y], 1)[..., None]

    def sample(self, n, y, seed):
        assert n == len(y)
        return self.drawn(np.where(np.arange(2) < self.flipped, 1 - y, y))


@pytest.mark.parametrize("flipped", [0, 1, 2])
def test_samples_are_measured_against_the_attributes_that_were_asked_for(flipped):
    images = keras.Input((2, 2, 1))
    logits = keras.layers.Flatten()(images)
    certain = keras.Model(images, 20 * logits[:, :2] - 10)
    world = Lit(flipped)
    scores = table.measure(world, world, certain, "test", samples=2)
    assert scores["agreement"].value == 100 - 50 * flipped and scores["agreement"].n_real == 4
    assert scores["cosine"].value == pytest.approx(1 - flipped, abs=1e-3)
    assert scores["squared error"].value == pytest.approx(2 * flipped, abs=1e-2)
    assert scores["cosine of real images"].value == pytest.approx(1, abs=1e-3)
    assert scores["squared error"].stderr == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("data_dir=/home/me/heads", "data_dir=FOLDER"),
        ("data.data_dir=heads", "data.data_dir=FOLDER"),
        ("data.seen=/home/me/mask.png", "data.seen=FILE"),
        ("seen=box", "seen=box"),
        ("width=8", "width=8"),
    ],
)
def test_a_record_names_no_path_of_the_machine(setting, expected):
    assert published(setting) == expected


@pytest.mark.slow
def test_the_regressor_reads_the_attributes_of_avatars(tmp_path):
    drawings = os.environ.get("ZOO_PIXEL_AVATARS")
    if not drawings:
        pytest.skip("ZOO_PIXEL_AVATARS is not set to the path of pixel_avatars.zip")
    with zipfile.ZipFile(drawings) as archive:
        archive.extractall(tmp_path)
    data = datasets.load("folder", data_dir=str(tmp_path), mask="alpha", image_size=16)
    assert data.attribute_names is not None and len(data.attribute_names) == 8
    regressor = table._regressor(data, tmp_path / "runs" / "regressor.keras", seed=0)
    x, y = data.arrays("validation")
    scores = table.similarity(y, table.predict(regressor, x), data.arrays("train")[1])
    assert scores["agreement"].mean() > 95 and scores["cosine"].mean() > 0.9
