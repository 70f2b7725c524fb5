"""The scores of completions and of enlarged images, on images whose scores are known."""

import numpy as np
import pytest
import tensorflow as tf
from speed import slow

import zoo
from benchmarks.tables import completion, super_resolution
from zoo.resizing import box_average, nearest

RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(0.2, 0.8, (4, 8, 8, 1)).astype(np.float32)
SEEN = zoo.datasets.named_mask("half:top", (8, 8))[0]


def brightest(images):
    """A class of an image: its brightest row."""
    return images.mean((2, 3)).argmax(-1)


def test_completions_are_scored_on_the_hidden_half():
    above, below = (np.where(SEEN, 0.0, TRUTH + shift) for shift in (0.1, -0.1))
    above[:, :4] = 1.0  # The seen values of completions do not count.
    found = completion.scores(np.stack([above, below]), TRUTH, SEEN, lambda x: np.zeros(len(x)))
    assert found["PSNR"].value == pytest.approx(20, abs=1e-3)
    assert found["PSNR of the mean"].value > 60
    assert found["agreement"] == 1


def test_the_agreement_is_that_of_completed_images_with_the_truth():
    bright = np.zeros([4, 8, 8, 1], np.float32)
    bright[:, 0] = 0.5
    done = bright.copy()
    done[2, 7] = 1.0
    found = completion.scores(done[None], bright, SEEN, brightest)
    assert found["agreement"] == 0.75


@pytest.mark.slow
def test_every_method_of_the_table_has_scores_and_times(monkeypatch):
    monkeypatch.setattr(completion, "_STEPS", 12)
    model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,))
    x = np.round(TRUTH)
    done = completion.completed(model, x, None, SEEN, "map")
    assert done.shape == (1, *x.shape)
    done = completion.completed(model, x, None, SEEN, "pseudo_gibbs", n=2, steps=2)
    assert done.shape == (2, *x.shape)
    found = completion.times(model, x, None, SEEN, "metropolis")
    assert found.keys() == {"ms", "ms in a plain loop"}
    few = {"num_samples": 20, "steps": 12}
    value = completion.nll_of_hidden(model, x, None, SEEN, "metropolis", **few)["NLL"]
    assert 0 < value.value < 100 and value.n_real == 4
    assert completion.nll_of_hidden(model, x, None, SEEN, "map") == {}


def test_the_seconds_of_a_chain_leave_the_time_to_trace_out(monkeypatch):
    eagerly = []

    def ends(*arguments):
        eagerly.append(tf.executing_eagerly())
        return arguments[5]

    monkeypatch.setattr(completion, "_STEPS", 12)
    monkeypatch.setattr(completion.chains, "ends", ends)
    monkeypatch.setattr(completion, "seconds", lambda call: float(call()))  # A second for a step
    found = completion.times(None, TRUTH, None, SEEN, "metropolis")
    assert found["ms"] == found["ms in a plain loop"] == pytest.approx(1000 / 4 * 12)
    assert eagerly == [False, True, True]  # Traced once, before the calls that count


def test_enlarged_images_are_scored_against_cubic_interpolation(monkeypatch):
    x = nearest(RNG.uniform(0.3, 0.7, (3, 2, 2, 1)), 4).numpy()
    errors = np.where(np.arange(4)[:, None, None, None, None] % 2, 0.2, -0.2)

    def enlarged(model, small, factor, **options):
        np.testing.assert_allclose(small, box_average(x, factor), atol=1e-6)
        return tf.constant(x + errors)

    monkeypatch.setattr(super_resolution.inference, "super_resolve", enlarged)
    model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,))
    found = super_resolution.scores(model, x)
    assert found["PSNR"].value == pytest.approx(-20 * np.log10(0.2), abs=1e-3)
    assert found["PSNR of the mean"].value > 60 and found["nearest"].value > 60
    assert found["consistency"] == pytest.approx(0.2, abs=1e-6)
    gain = found["PSNR of the mean"].value - found["bicubic"].value
    assert found["gain over bicubic"] == pytest.approx(gain)


def test_the_consistent_mean_has_the_averages_of_the_small_images(monkeypatch):
    x = nearest(RNG.uniform(0.3, 0.7, (3, 2, 2, 1)), 4).numpy()

    def enlarged(model, small, factor, **options):
        return tf.constant(np.stack([x + 0.2] * 2))

    monkeypatch.setattr(super_resolution.inference, "super_resolve", enlarged)
    model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,))
    found = super_resolution.scores(model, x, draws=2)
    assert found["PSNR of the mean"].value == pytest.approx(-20 * np.log10(0.2), abs=1e-3)
    assert found["PSNR of the consistent mean"].value > 60


@pytest.mark.parametrize("builder", ["cvae", slow("vae")])
def test_models_of_both_kinds_enlarge_images(builder):
    own = {"condition": "image", "condition_size": 4} if builder == "cvae" else {}
    model = getattr(zoo.models, builder)((8, 8, 1), latent_dim=2, hidden=(4,), **own)
    found = super_resolution.scores(model, TRUTH[:2], draws=2)
    assert np.isfinite([getattr(value, "value", value) for value in found.values()]).all()
