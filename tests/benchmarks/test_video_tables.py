"""The scores of forecasts and of continued videos, on videos whose scores are known."""

import math

import numpy as np
import pytest

from benchmarks.tables import forecasting, videos
from zoo.datasets import moving


def some_futures():
    """Two futures of three first frames, which differ in eight pixels."""
    futures = np.zeros([3, 2, 4, 4, 2])
    futures[:, 0, 0, :, 1] = futures[:, 1, 3, :, 1] = 1
    futures[..., 1, 1, 0] = 1
    return futures


def test_the_bounds_are_entropies_of_the_futures():
    found = forecasting.bounds(some_futures())
    assert found["least"] == math.log(2)
    assert found["least with independent pixels"] == pytest.approx(8 * math.log(2))


def test_draws_of_both_futures_are_balanced_and_decided():
    futures = some_futures()
    drawn = futures[:, np.arange(200) % 2]
    scores = forecasting.forecast_scores(futures[:, 1], futures, drawn)
    assert scores == {"balanced": 1.0, "undecided": 0.0, "best of 20": 0.0}
    rare = np.arange(200) < 60  # 30 % of the samples
    drawn[1] = futures[1, np.where(rare, 0, 1)]
    drawn[2] = futures[2, np.where(np.arange(200) < 70, 0, 1)]
    scores = forecasting.forecast_scores(futures[:, 1], futures, drawn)
    assert scores["balanced"] == pytest.approx(2 / 3)


def test_the_mean_of_the_futures_is_undecided():
    futures = some_futures()
    drawn = futures.mean(1, keepdims=True)
    scores = forecasting.forecast_scores(futures[:, 0], futures, drawn)
    assert scores == {"balanced": 0.0, "undecided": 1.0, "best of 20": 8 / 4}
    # A sample a quarter of the way from a future is decided: the limit is a third.
    near = 0.75 * futures[:, :1] + 0.25 * futures[:, 1:]
    assert forecasting.forecast_scores(futures[:, 0], futures, near)["undecided"] == 0


def test_the_best_of_the_first_twenty_samples_counts():
    futures = some_futures()
    drawn = np.repeat(futures[:, 1:], 30, 1)
    drawn[:, 20:] = futures[:, :1]
    scores = forecasting.forecast_scores(futures[:, 0], futures, drawn)
    assert scores["best of 20"] == 8


def bouncing(n=20):
    random = np.random.default_rng(0)
    values = np.column_stack([
        random.integers(0, 3, n), np.full(n, 2), *random.uniform(0.4, 0.6, (2, n)),
        random.uniform(0, 6, n),
    ])  # fmt: skip
    return moving.render_bouncing(values, 32).astype(np.float32)


def test_true_continuations_have_no_error_and_still_ones_that_of_standing_sprites():
    x = bouncing()
    scores = videos.place_scores(x, x)
    assert (scores["place"], scores["last place"], scores["within a pixel"]) == (0, 0, 1)
    still = np.concatenate([x[..., :4], np.repeat(x[..., 3:4], 4, -1)], -1)
    scores = videos.place_scores(x, still)
    assert scores["place"] == pytest.approx(scores["standing"], rel=1e-6)
    assert scores["place"] > 3 and scores["within a pixel"] < 0.1
    assert scores["straight"] > 3  # The edges reflect the sprites.


def test_places_are_centres_of_mass_in_pixels():
    x = np.zeros([1, 4, 6, 2])
    x[0, 1, 2:4, 0] = 1
    np.testing.assert_allclose(videos.centres(x)[0], [[3, 1.5], [3, 2]])  # The second is empty.
    moved = np.zeros([1, 4, 6, 8])
    for t in range(6):
        moved[0, 1, t, t] = 1
    moved[0, 1, 5, 6:] = 1
    scores = videos.place_scores(moved, moved)
    assert scores["straight"] == pytest.approx((0 + 0 + 1 + 2) / 4)
    assert scores["standing"] == pytest.approx((1 + 2 + 2 + 2) / 4)


def test_the_models_of_the_tables_continue_and_forecast_videos():
    """A model that keeps the last seen frame, in parts."""

    class Still:
        def extend(self, x, steps):
            return np.concatenate([x, np.repeat(x[..., -1:], steps, -1)], -1)

    x = bouncing(3)
    found = videos.extended(Still(), x)
    assert found.shape == x.shape
    np.testing.assert_array_equal(found[..., 7], x[..., 3])
