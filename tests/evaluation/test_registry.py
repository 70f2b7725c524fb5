"""The registry: better ends, and which set of images is the real one in each metric."""

from types import SimpleNamespace

import numpy as np
import pytest

import zoo
from zoo import evaluation
from zoo.evaluation import HIGHER_IS_BETTER, METRICS, Evaluation
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
