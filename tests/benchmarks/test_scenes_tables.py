"""The scores of the tables of scenes, on codes and images whose scores are known."""

import types

import numpy as np
import pytest

import zoo
from benchmarks.tables import inverse_graphics, layers, swapping
from zoo.datasets import heads
from zoo.datasets.images import SPLITS


class Graphics:
    """An encoder whose codes are the factors, and a decoder with less contrast."""

    def __init__(self, data, mix):
        x, _ = data.arrays("train")
        y, _ = data.arrays("test")
        self.codes = {
            image.tobytes(): row @ mix
            for images, rows in ((x, data.factors("train")), (y, data.factors("test")))
            for image, row in zip(images, rows, strict=True)
        }
        self.mix = mix

    def encode(self, x):
        return np.stack([self.codes[image.tobytes()] for image in x])

    def decode(self, z):
        return heads.render_grey(z @ np.linalg.inv(self.mix), 16) / 255 * 0.98 + 0.01


@pytest.fixture(scope="module")
def grey():
    return zoo.datasets.load("heads_grey", image_size=16, sizes=dict.fromkeys(SPLITS, 400))


def test_codes_that_are_the_factors_have_the_best_scores(grey):
    found = inverse_graphics.scores(Graphics(grey, np.eye(13)), grey)
    for name in ("azimuth", "elevation", "light_azimuth"):
        assert found[name] == pytest.approx(1, abs=1e-5)
    assert found["others"] < 0.2  # Chance, in 40 groups
    assert 45 < found["psnr"] < 60
    assert found["gain over copying"] > 10


def test_a_factor_in_another_latent_is_a_leak(grey):
    mix = np.eye(13)
    mix[0, 7] = 20.0
    alone = inverse_graphics.scores(Graphics(grey, np.eye(13)), grey)["leak"]
    assert alone < 0.5
    assert inverse_graphics.scores(Graphics(grey, mix), grey)["leak"] > max(alone, 0.5)


def test_explained_shares_are_those_of_a_held_out_regression():
    random = np.random.default_rng(0)
    z = random.normal(size=(4000, 2))
    noise = random.normal(size=4000)
    factors = np.stack([z @ [1.0, 1.0] + np.sqrt(2) * noise + 5, noise], 1)
    np.testing.assert_allclose(inverse_graphics.explained(z, factors), [0.5, 0], atol=0.05)


def test_true_layers_agree_with_their_attributes():
    data = zoo.datasets.load(
        "sprites_scenes", y="attributes,mask", sizes=dict.fromkeys(SPLITS, 100)
    )
    x, y = data.arrays("test")
    found = layers.agreement(x, 1 - y["mask"], y["attributes"])
    assert found["hue"] < 0.02 and found["size"] > 0.99
    assert found["place"] < 0.2 and found["empty"] == 0
    shifted = np.roll(y["attributes"], 1, 0)
    other = layers.agreement(x, 1 - y["mask"], shifted)
    assert other["hue"] > 0.5 and abs(other["size"]) < 0.5 and other["place"] > 2
    assert layers.overlap(1 - y["mask"], y["mask"]) == 1


def test_the_overlap_is_the_mean_of_intersection_over_union():
    mask = np.zeros([2, 2, 2, 1])
    mask[:, 0] = 1
    gate = 1 - mask
    gate[1, 1, 0] = 0
    assert layers.overlap(gate, mask) == pytest.approx((1 + 2 / 3) / 2)


def test_a_model_completes_the_images_of_the_table():
    data = zoo.datasets.load("sprites_scenes", image_size=8, sizes=dict.fromkeys(SPLITS, 5))
    model = zoo.models.vae(data.image_shape, latent_dim=2, hidden=(4,))
    assert np.isfinite(list(layers.completion_gain(model, data, limit=3).values())).all()


def test_completion_is_scored_on_the_hidden_quarter(monkeypatch):
    data = zoo.datasets.load("sprites_scenes", sizes=dict.fromkeys(SPLITS, 5))
    x, _ = data.arrays("test")
    truth = x[:, 16:, 16:]
    hidden = x.copy()
    hidden[:, 16:, 16:] += np.where(truth > 0.5, -0.1, 0.1)
    done = types.SimpleNamespace(images=hidden[None])
    wrong = types.SimpleNamespace(complete=lambda *_, **__: done)
    monkeypatch.setattr(layers.zoo, "inference", wrong)
    found = layers.completion_gain(None, data)
    assert found["completion"] == pytest.approx(20, abs=1e-3)
    seen = np.ones([32, 32], bool)
    seen[16:, 16:] = False
    error = truth - x[:, seen].mean(1)[:, None, None]
    filled = -10 * np.log10(np.square(error).mean((1, 2, 3)))
    assert found["gain"] == pytest.approx(20 - filled.mean(), abs=1e-3)


class Swapping:
    """Swaps the patterns of textures exactly, by the known colours and layouts."""

    def __init__(self, data, constant=False):
        x, _ = data.arrays("test")
        known = data.annotations("test")
        self.layouts = {i.tobytes(): own > 0.5 for i, own in zip(x, known["layout"], strict=True)}
        self.palettes = {i.tobytes(): own for i, own in zip(x, known["palette"], strict=True)}
        self.constant = constant

    def reconstruct(self, x):
        return x * 0.9

    def swap(self, structure, texture):
        images = []
        for one, other in zip(structure, texture, strict=True):
            inside, _, outside, _ = self.palettes[(one if self.constant else other).tobytes()]
            images.append(np.where(self.layouts[one.tobytes()], inside, outside))
        return np.stack(images)


def test_exact_swaps_have_the_best_scores():
    data = zoo.datasets.load("textures", sizes=dict.fromkeys(SPLITS, 250))
    found = swapping.scores(Swapping(data), data)
    assert found["overlap"] == 1 and found["colour distance"] < 1e-6
    assert found["chance overlap"] < 0.5
    x, _ = data.arrays("test")
    assert found["reconstruction"] == pytest.approx(0.1 * x.mean(), rel=1e-4)
    kept = swapping.scores(Swapping(data, constant=True), data)
    assert kept["overlap"] < 0.9 and kept["colour distance"] > 0.1
    assert kept["unchanged colours"] == pytest.approx(kept["colour distance"], rel=0.2)
