"""The scores of MoFA on heads."""

import numpy as np
import pytest

import zoo
from benchmarks.tables import faces
from zoo.morphable import CODE_SIZE


@pytest.fixture(scope="module")
def heads():
    return zoo.datasets.load("heads", sizes=dict.fromkeys(("train", "validation", "test"), 24))


class Known:
    """A model that knows the codes of the test images."""

    def __init__(self, data, noise=0.0):
        self.model = zoo.models.face_autoencoder(data.image_shape, hidden=(4,), filters=(2,))
        self.head = self.model.head
        self.codes = faces.true_codes(self.head, data, "test")
        self.codes += noise * np.random.default_rng(0).normal(size=self.codes.shape)
        self.x, _ = data.arrays("test")

    def encode(self, x):
        start = next(i for i in range(len(self.x)) if (self.x[i] == x[0]).all())
        return self.codes[start : start + len(x)].astype(np.float32)

    def parts(self, z):
        return self.model.parts(z)

    def energy(self, x, z, with_rate):
        return self.model.energy(x, z, with_rate)


def test_true_codes_have_perfect_scores(heads):
    found = faces.scores(Known(heads), heads)
    for name in (*faces._PLACES, *faces._MODES):
        assert found[name] == pytest.approx(1.0, abs=1e-5), name
    assert found["vertex error"] < 1e-3 and found["shading error"] < 1e-5
    assert found["photometric"] == pytest.approx(found["photometric, true code"], rel=1e-5)
    assert 0.03 < found["photometric, true code"] < 0.15


def test_true_codes_render_the_images(heads):
    model = Known(heads)
    x = model.x[:6]
    images = model.head.render(model.codes[:6], x)
    assert np.abs(images - x).max() < 3 / 255


def test_wrong_codes_have_the_scores_of_their_noise(heads):
    found = faces.scores(Known(heads, 0.5), heads)
    # Angles and places: noise of half a unit, in data whose standard deviation is one unit.
    for name in faces._PLACES:
        assert 0.4 < found[name] < 0.95, name
    assert found["vertex error"] > 1 and found["shading error"] > 0.05
    assert found["photometric"] > 1.3 * found["photometric, true code"]
    constant = Known(heads)
    constant.codes = np.zeros([24, CODE_SIZE], np.float32)
    with np.errstate(invalid="ignore"):
        found = faces.scores(constant, heads)
    assert max(found[name] for name in faces._PLACES) <= 1e-6
