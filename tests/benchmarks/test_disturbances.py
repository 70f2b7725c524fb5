"""The benchmark of disturbed photographs, on small images and features that are known."""

import json
import types

import numpy as np
import pytest

from benchmarks import disturbances
from zoo.evaluation import Images
from zoo.features import Extractor

N = 60


def contrasts(images):
    """Means and differences of neighbours as features, and logits of two classes."""
    steps = np.abs(np.diff(images, axis=2)).mean((1, 2))
    features = np.concatenate([images.mean((1, 2)), steps], -1)
    return features, np.stack([features[:, 0], features[:, 3]], -1)


@pytest.fixture
def extractor():
    counted = []

    def network(batch):
        counted.append(len(batch))
        return contrasts(batch)

    it = Extractor("contrasts", network, 6, 2, "contrasts", "nothing", "00", size=16)
    return it, counted


@pytest.fixture(scope="module")
def images():
    """Smooth images, of which every second one is bright: the vehicles."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(16) / 3 + rng.uniform(0, 6, [3 * N, 1]))
    bright = np.arange(3 * N) % 2 == 1
    level = np.where(bright, 170, 80)[:, None, None, None]
    pixels = level + 30 * waves[:, :, None, None] * waves[:, None, :, None]
    pixels = np.repeat(pixels, 3, -1) + rng.normal(0, 8, [3 * N, 1, 1, 3])
    return np.round(pixels).astype(np.uint8), bright


def test_strengths_are_those_of_the_pixels():
    grey = np.full([4, 64, 64, 3], 128, np.uint8)
    noisy = disturbances.noise(grey, 0.1)
    assert noisy.std() == pytest.approx(25.5, rel=0.02) and noisy.dtype == np.uint8
    np.testing.assert_array_equal(noisy, disturbances.noise(grey, 0.1))
    blurred = [disturbances.blur(noisy, radius) for radius in (0.5, 1, 2)]
    assert (np.diff([x.std() for x in (noisy, *blurred)]) < 0).all()
    assert all(x.mean() == pytest.approx(noisy.mean(), abs=1) for x in blurred)
    errors = [np.abs(disturbances.jpeg(noisy, q) - 1.0 * noisy).mean() for q in (95, 75, 40, 10)]
    assert (np.diff(errors) > 0).all()


def test_a_mixture_has_its_share_of_vehicles():
    vehicles = np.arange(100) % 5 < 2
    for share in (0.0, 0.6, 1.0):
        rows = disturbances.mixture(vehicles, 40, share)
        assert len(np.unique(rows)) == 40 and vehicles[rows].mean() == share
    with pytest.raises(
        ValueError, match=r"at least 41 images of vehicles and 0 others.*: 40 and 0"
    ):
        disturbances.mixture(vehicles, 41, 1.0)


def test_every_set_is_compared_with_the_reference_and_distances_rise(images, extractor):
    pixels, bright = images
    it, counted = extractor
    reference, test = Images(pixels[:N], "train", it), Images(pixels[N:], "test", it)
    rows = disturbances.measure(reference, test, bright[N:])
    assert [(row["disturbance"], row["strength"]) for row in rows] == [
        ("none", None),
        *((k, s) for k, (_, strengths) in disturbances.DISTURBANCES.items() for s in strengths),
        *(("vehicles", share) for share in disturbances.SHARES),
    ]
    # Mixtures share the features of the test images.
    assert sum(counted) <= N + 2 * N + 9 * N
    assert rows[0]["scores"]["fid"]["value"] < 0.01 * rows[-1]["scores"]["fid"]["value"]
    rises = disturbances.rising(rows, "fid")
    assert list(rises) == ["noise", "blur", "jpeg", "vehicles"]
    assert rises["noise"] and rises["vehicles"]


def test_a_score_rises_only_if_each_step_from_the_floor_does():
    def rows(name, values):
        return [{"disturbance": name, "scores": {"kid": {"value": v}}} for v in values]

    table = rows("none", [1.0]) + rows("up", [2, 3]) + rows("flat", [2, 2]) + rows("low", [0.5, 3])
    assert disturbances.rising(table, "kid") == {"up": True, "flat": False, "low": False}


def test_the_record_has_the_scores_and_the_network(images, extractor, tmp_path, monkeypatch):
    pixels, bright = images
    labels = np.where(bright, 3, 0)
    data = types.SimpleNamespace(
        label_names=("cat", *disturbances.VEHICLES),
        annotations=lambda split: {"label": labels},
        pixels=lambda split, n: pixels[:n],
    )
    monkeypatch.setattr(disturbances.datasets, "load", lambda name, data_dir: data)
    monkeypatch.setattr(disturbances.features, "get", lambda name, weights: extractor[0])
    flags = types.SimpleNamespace(
        extractor="contrasts", weights=None, examples=20, data_dir=None, output=str(tmp_path)
    )
    monkeypatch.setattr(disturbances, "FLAGS", flags)
    disturbances.main()
    record = json.loads((tmp_path / "disturbances.json").read_text())
    assert record["about"]["examples"] == 20 and record["extractor"]["id"] == "contrasts"
    text = (tmp_path / "disturbances.md").read_text()
    row = record["rows"][-1]
    assert f"| vehicles | 1.0 | {row['scores']['fid']['value']:.4g} |" in text
    assert "The Fréchet distance rises with each strength: noise " in text
