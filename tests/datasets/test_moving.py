"""Moving sprites: their futures, what is known about them, and the seen frames."""

import math

import numpy as np
import pytest

import zoo
from benchmarks.tables.forecasting import bounds
from zoo import datasets
from zoo.datasets import moving
from zoo.datasets.images import SPLITS, ImageData, Split

SIZES = dict.fromkeys(SPLITS, 60)
GRID = np.indices((moving.ANGLES, moving.PLACES, moving.PLACES)).reshape(3, -1).T


def every_future(directions, size=16):
    """The videos of all starts in all directions, `[starts, directions, H, W, T]`."""
    direction = np.tile(np.arange(directions), len(GRID))
    values = np.column_stack([np.repeat(GRID, directions, 0), direction])
    videos = moving.render_moving(values, size, directions)
    return videos.reshape(len(GRID), directions, size, size, moving.FRAMES)


@pytest.fixture(scope="module")
def two():
    return every_future(2)


@pytest.fixture(scope="module")
def four():
    return every_future(4)


def centres(videos):
    """The centre of mass (right, up) of each frame in units of the side, `[N, T, 2]`."""
    places = (np.arange(videos.shape[1]) + 0.5) / videos.shape[1]
    mass = videos.sum((1, 2))
    right = np.einsum("nhwt,w->nt", videos, places) / mass
    return np.stack([right, 1 - np.einsum("nhwt,h->nt", videos, places) / mass], -1)


def test_the_first_frame_shows_the_start_and_nothing_of_the_direction(two, four):
    for videos in (two, four):
        first = videos[..., 0]
        assert (first == first[:, :1]).all()
        assert len(np.unique(first[:, 0].reshape(len(GRID), -1), axis=0)) == len(GRID)
    np.testing.assert_array_equal(four[:, ::2], two)


def test_bounds_follow_from_the_number_of_pixels_in_which_futures_differ(two, four):
    differ = (two[:, 0] != two[:, 1]).sum((1, 2, 3))
    found = bounds(two)
    assert found["least"] == math.log(2)
    assert found["least with independent pixels"] == pytest.approx(differ.mean() * math.log(2))
    # The mean future is the prediction of least squared error: a quarter for each such pixel.
    squares = np.square(two - two.mean(1, keepdims=True)).sum((2, 3, 4)).mean(1)
    np.testing.assert_allclose(squares, differ / 4)
    assert differ.min() > 60 and 81 < differ.mean() < 84
    assert bounds(four)["least"] == math.log(4)
    assert 90 < bounds(four)["least with independent pixels"] < 100
    apart = [(four[:, i] != four[:, j]).sum((1, 2, 3)) for i in range(4) for j in range(i)]
    assert np.min(apart) > 60


@pytest.mark.parametrize("directions", [2, 4])
def test_sprites_move_by_a_step_along_an_axis_of_the_ellipse(directions):
    middle = moving.PLACES // 2
    values = [[k, middle, middle, d] for k in range(moving.ANGLES) for d in range(directions)]
    videos = moving.render_moving(np.array(values), 64, directions)
    places = centres(videos)
    np.testing.assert_allclose(places[:, 0], 0.5, atol=0.01)
    for (angle, *_, direction), path, video in zip(values, places, videos, strict=True):
        turned = math.pi * angle / moving.ANGLES + 2 * math.pi * direction / directions
        step = 3 / 32 * np.array([math.cos(turned), math.sin(turned)])
        np.testing.assert_allclose(np.diff(path, axis=0), np.tile(step, (3, 1)), atol=0.01)
        row, column = np.nonzero(video[..., 0])
        variance, axes = np.linalg.eigh(np.cov(column, -row))
        along = abs(axes[:, 1] @ step) / np.linalg.norm(step)
        assert along == pytest.approx(1 - direction % 2 if directions == 4 else 1, abs=0.05)
        assert math.sqrt(variance[1] / variance[0]) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("name", ["moving_sprites", "turning_sprites"])
def test_the_futures_of_an_image_contain_the_image(name):
    data = datasets.load(name, sizes=SIZES)
    for split in SPLITS:
        x, direction = data.arrays(split)[0], data.factors(split)[:, -1]
        futures = moving.futures(data, split)
        np.testing.assert_array_equal(futures[np.arange(60), direction], x)
        assert (futures[..., 0] == x[:, None, ..., 0]).all()
        shares = np.bincount(direction) / 60
        np.testing.assert_allclose(shares, 1 / data.factor_sizes[-1], atol=0.2)
    assert moving.futures(data, "test", 3).shape == (3, data.factor_sizes[-1], 16, 16, 4)


def test_other_sets_have_no_futures():
    for name in ("bouncing_sprites", "textures"):
        with pytest.raises(ValueError, match=f"known for 'moving_sprites'.*Received: '{name}'"):
            moving.futures(datasets.load(name, sizes=dict.fromkeys(SPLITS, 2)), "test")


def test_bouncing_sprites_keep_their_velocity_between_the_edges():
    values = datasets.load("bouncing_sprites", sizes={**SIZES, "test": 200}).factors("test")
    videos = moving.render_bouncing(values, 64)
    places = centres(videos)
    assert places.min() > 0.19 and places.max() < 0.81
    np.testing.assert_allclose(places[:, 0], values[:, 2:4] * [1, -1] + [0, 1], atol=0.01)
    steps = np.diff(places, axis=1)
    velocity = 3 / 32 * np.stack([np.cos(values[:, 4]), np.sin(values[:, 4])], -1)
    np.testing.assert_allclose(steps[:, 0], velocity, atol=0.015)
    # Without an edge in between, a step is the velocity or its mirror image.
    far = (np.abs(places - 0.5).max(-1) < 0.2)[:, :-1]
    assert far.mean() > 0.2
    mirrored = np.abs(np.abs(steps) - np.abs(velocity)[:, None]).max(-1)
    assert mirrored[far].max() < 0.015
    assert (np.sign(steps) != np.sign(velocity)[:, None]).any()
    mass = videos.sum((1, 2))
    np.testing.assert_allclose(mass / mass[:, :1], 1, atol=0.25)  # By the pixels at the edges


def test_the_seen_frames_are_the_first_ones():
    data = datasets.load("moving_sprites", seen="frames:3", sizes=SIZES)
    for x, y in (data.arrays("train"), next(iter(data.batches("train", 10, shuffle=True)))):
        np.testing.assert_array_equal(y[..., :3], x[..., :3])
        assert (np.asarray(y)[..., 3:] == -1).all()
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 6), np.uint8)
    colour = ImageData("own", {"train": Split(images)}, (4, 4, 6), frames=2, seen="frames:1")
    x, y = colour.arrays("train")
    np.testing.assert_array_equal(y[..., :3], x[..., :3])
    assert (y[..., 3:] == -1).all() and colour.frames == 2


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ("frames:0", "K at least 1. Received: seen='frames:0'"),
        ("frames:one", "K at least 1. Received: seen='frames:one'"),
        ("frames:4", "'moving_sprites', which has videos of 4 frames"),
    ],
)
def test_seen_frames_that_a_video_does_not_have_are_refused(seen, message):
    with pytest.raises(ValueError, match=message):
        datasets.load("moving_sprites", seen=seen, sizes=SIZES)


def test_images_have_no_seen_frames():
    with pytest.raises(ValueError, match="'digits', which has no videos"):
        datasets.load("digits", seen="frames:1")
    with pytest.raises(ValueError, match="Received: seen='frames:1'"):
        datasets.named_mask("frames:1", (8, 8))
    with pytest.raises(ValueError, match=r"each of the 2 frames of 'own'. Received: 3 channels"):
        ImageData("own", {"train": Split(np.zeros([1, 2, 2, 3], np.uint8))}, (2, 2, 3), frames=2)


def test_masks_of_frames_hide_the_later_frames_at_all_pixels():
    data = datasets.load("moving_sprites", sizes=SIZES)
    mask = data.seen_mask("frames:1", 2)
    assert mask.shape == (2, *data.image_shape)
    np.testing.assert_array_equal(mask, np.broadcast_to([True, False, False, False], mask.shape))
    assert data.seen_mask("half:left").shape == (1, *data.image_shape[:2], 1)


def test_a_forecaster_is_a_conditional_model_with_all_but_the_first_frame_hidden():
    data = datasets.load("moving_sprites", seen="frames:1", sizes=SIZES)
    model = zoo.models.cvae(data.image_shape, condition="seen", hidden=(8,), latent_dim=2)
    zoo.conditions.check(model, data)
    x, y = data.arrays("test", 5)
    forecasts = model.sample(5, y, seed=0).numpy()
    np.testing.assert_array_equal(forecasts[..., 0], x[..., 0])
    # With all frames seen, nothing is left to predict.
    np.testing.assert_array_equal(model.likelihood(np.zeros([5, 2]), x).log_prob(x), np.zeros(5))
