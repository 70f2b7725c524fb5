"""The registry: better ends, and which set of images is the real one in each metric."""

from types import SimpleNamespace

import numpy as np
import pytest

import zoo
from zoo import datasets, evaluation
from zoo.datasets.images import ImageData, Split
from zoo.evaluation import HIGHER_IS_BETTER, METRICS, Evaluation
from zoo.evaluation.registry import _factors
from zoo.features import Features


class Pixels:
    """A feature network whose features are the pixels, and whose logits are the first three."""

    id, dim, classes, protocol, gray = "pixels", 4, 3, None, "repeat"
    preprocessing = {"size": 2}  # noqa: RUF012

    def about(self):
        return {"id": self.id, "dim": self.dim}

    def name_of(self, kind):
        return f"{kind}[{self.id}]"

    def __call__(self, images, batch_size=256, progress=None):
        features = images.reshape(len(images), -1).astype(np.float32)
        return Features(features, features[:, :3])


def values(real, fake, key):
    subject = Evaluation.of_images(real, fake, Pixels())
    return {result.kind: result.value for result in subject.run([key])}


@pytest.fixture(scope="module")
def collapsed():
    """Real images of two clusters, 90 dark and 60 bright ones; fakes resemble the dark ones."""
    rng = np.random.default_rng(0)
    dark, bright = rng.integers(2, 40, (90, 2, 2, 1)), rng.integers(200, 240, (60, 2, 2, 1))
    fake = rng.integers(2, 40, (300, 2, 2, 1))
    return np.concatenate([dark, bright]).astype(np.uint8), fake.astype(np.uint8)


def test_precision_measures_the_fakes_and_recall_the_real_images(collapsed):
    found = values(*collapsed, "prdc")
    assert found["precision"] > 0.9 and found["density"] > 0.8
    assert 0.5 < found["recall"] < 0.61  # 90 of the 150 real images are dark.
    assert 0.5 < found["coverage"] < 0.61


def test_the_classifier_score_measures_the_fakes(collapsed):
    real, fake = collapsed
    constant = np.full_like(fake, 7)
    assert values(real, constant, "score")["score"] == pytest.approx(1)
    assert values(constant, real, "score")["score"] > 1.1


def test_diversity_measures_the_fakes():
    rng = np.random.default_rng(1)
    real = rng.integers(0, 256, (20, 16, 16, 1), np.uint8)
    constant = np.full_like(real, 7)
    assert values(real, constant, "diversity")["diversity"] == pytest.approx(1)
    assert values(constant, real, "diversity")["diversity"] < 0.5


def test_copies_of_training_images_are_found_among_the_fakes():
    train, test = np.random.default_rng(2).normal(size=(2, 100, 4)).astype(np.float32)
    sets = {"fake": train[:50] + 0.001, "real": test, "train": train}
    subject = SimpleNamespace(**{name: SimpleNamespace(flat=x) for name, x in sets.items()})
    assert METRICS["copying"].compute(subject)["copying"].value < -3


def test_each_metric_yields_the_kinds_that_it_registers(collapsed):
    for key in ("fid", "kid", "score", "prdc"):
        assert list(values(*collapsed, key)) == list(METRICS[key].kinds)


def test_registered_metrics_state_which_end_is_better():
    lower = {"fid", "kid", "nll", "nll_annealed"}
    higher = {"score", "precision", "recall", "coverage", "psnr", "ssim", "ms_ssim"}
    higher |= {"mig", "disentanglement", "completeness", "informativeness_test"}
    higher |= {"sap", "factor_vae", "beta_vae"}
    assert {kind for kind, is_higher in HIGHER_IS_BETTER.items() if not is_higher} == lower
    assert {kind for kind, is_higher in HIGHER_IS_BETTER.items() if is_higher} == higher
    assert zoo.evaluation.METRICS["prdc"].has_better_end
    assert not zoo.evaluation.METRICS["copying"].has_better_end


def test_no_kind_is_registered_twice():
    kinds = [kind for metric in METRICS.values() for kind in metric.kinds]
    assert len(set(kinds)) == len(kinds)


def test_metrics_on_request_are_marked():
    on_request = {key for key, metric in METRICS.items() if metric.on_request}
    assert on_request == {"parzen", "mig", "dci", "sap", "factor_vae", "beta_vae"}


def test_groups_expand_to_their_metrics_in_order_without_repetition():
    assert evaluation.resolve(["prdc", "images", "fid"]) == evaluation.GROUPS["images"]
    assert evaluation.resolve(["all"]) == list(evaluation.METRICS)


# Factors.


def images_with(**leaves):
    """Data whose three splits have the annotations `{name: (train, other)}`."""
    splits = {}
    for split in ("train", "validation", "test"):
        own = {name: np.asarray(values[split != "train"]) for name, values in leaves.items()}
        count = len(next(iter(own.values())))
        splits[split] = Split(np.zeros([count, 2, 2, 1], np.uint8), own)
    return ImageData("images", splits, (2, 2, 1))


def test_continuous_factors_are_divided_at_the_quantiles_of_the_training_images():
    train = np.stack([np.arange(101) % 3, np.arange(101) / 100], -1).astype(np.float32)
    other = np.array([[2, 0.05], [0, 0.15], [1, 0.95], [1, -3], [0, 7]], np.float32)
    data = images_with(attributes=(train, other))
    expected = [[2, 0], [0, 1], [1, 9], [1, 0], [0, 9]]
    np.testing.assert_array_equal(_factors(data, "test"), expected)
    np.testing.assert_array_equal(_factors(data, "test", 2), expected[:2])


def test_factors_are_preferred_to_labels_and_labels_to_attributes():
    columns = [[0, 1], [2, 3], [1, 1]], [[5, 6]]
    data = images_with(label=([0, 1, 1], [3]), attributes=columns)
    np.testing.assert_array_equal(_factors(data, "test"), [[3]])
    data = images_with(label=([0, 1, 1], [3]), factors=columns)
    np.testing.assert_array_equal(_factors(data, "test"), [[5, 6]])
    with pytest.raises(ValueError, match="no labels, so its factors are unknown"):
        _factors(images_with(mask=(np.zeros([3, 2, 2, 1], np.uint8),) * 2), "test")


def oracle(data):
    """A model whose codes are the factors of the images."""
    codes = {}
    for split in data.sizes:
        rows = zip(data.arrays(split)[0], data.factors(split), strict=True)
        codes |= {image.tobytes(): factors for image, factors in rows}
    return SimpleNamespace(
        condition=None,
        abilities=lambda: ("encode",),
        get_weights=list,
        encode=lambda x: np.stack([codes[image.tobytes()] for image in x]),
    )


def scenes(count):
    sizes = dict.fromkeys(("train", "validation", "test"), count)
    return datasets.load("sprites_scenes", image_size=12, sizes=sizes, y="mask")


def test_scores_of_a_perfect_encoder_use_the_factors_whatever_y_is():
    data = scenes(300)
    subject = Evaluation.of_model(oracle(data), data, batch_size=100)
    [result] = subject.run(["mig"])
    assert result.value > 0.7
    assert result.estimator["factors"] == "factors" and result.estimator["quantiles"] == 10


@pytest.mark.slow
def test_all_disentanglement_scores_of_a_perfect_encoder_are_high():
    data = scenes(1200)
    subject = Evaluation.of_model(oracle(data), data, batch_size=100)
    values = {result.kind: result.value for result in subject.run(["disentanglement"])}
    assert all(value is not None for value in values.values())
    assert min(values["factor_vae"], values["beta_vae"], values["disentanglement"]) > 0.9
    assert values["sap"] > 0.05
