"""The scores of the table of DC-VAE, on reconstructions and samples that are known."""

import numpy as np
import pytest

import zoo
from benchmarks.tables import dcvae
from zoo.features.extractor import Features


class Identity:
    """Latents are the pixels of images of 8x8, with [-3, 3] for [0, 1]."""

    terms = ()

    def encode(self, x):
        return 6 * x.reshape(len(x), -1) - 3

    def decode(self, z):
        return np.clip((z + 3) / 6, 0, 1).reshape(-1, 8, 8, 1)

    def sample_latents(self, n, seed):
        return np.random.default_rng(seed).normal(0.5, 3, [n, 64])


class Dark(Identity):
    def decode(self, z):
        return 0.9 * super().decode(z)


def classifier(images):
    """Means of the halves of images as features; the brighter half as label."""
    assert images.dtype == np.uint8
    halves = images.reshape(len(images), 2, -1).mean(-1) / 255
    return Features(halves, halves)


@pytest.fixture(scope="module")
def found():
    extractor = type("Halves", (), {"id": "halves", "__call__": staticmethod(classifier)})()
    data = zoo.datasets.load("digits")
    return {model: dcvae.scores(model(), data, extractor, 50) for model in (Identity, Dark)}


def test_perfect_reconstructions_keep_all_labels_and_have_no_distance(found):
    assert found[Identity]["agreement"].value == 100
    assert found[Identity]["reconstructions"].value == pytest.approx(0, abs=1e-9)
    assert found[Dark]["agreement"].value > 95  # A uniform factor changes ties only.
    assert found[Dark]["reconstructions"].value > 1e-3
    assert "contrast accuracy" not in found[Dark]


def test_samples_are_scored_with_and_without_a_clamp(found):
    z = Identity().sample_latents(50, 0)
    real = classifier(zoo.datasets.load("digits").pixels("test")).features
    for name, latents in (("samples", z), ("clamped samples", np.clip(z, -1, 1))):
        images = np.round(255 * Identity().decode(latents)).astype(np.uint8)
        expected = zoo.metrics.frechet_distance(real, classifier(images).features).value
        assert found[Identity][name].value == pytest.approx(expected)
    assert found[Identity]["samples"].value != found[Identity]["clamped samples"].value
