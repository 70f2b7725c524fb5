"""Images with seen quadrants: the content of `y`, its draw, and its batches."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import zoo
import zoo.training
from zoo.datasets.images import ImageData, Split

# Rows and columns of the quadrants of an 8x8 image, in the order of `seen_mask`.
LOWER_LEFT, UPPER_LEFT, UPPER_RIGHT, LOWER_RIGHT = (
    (slice(4, 8), slice(0, 4)),
    (slice(0, 4), slice(0, 4)),
    (slice(0, 4), slice(4, 8)),
    (slice(4, 8), slice(4, 8)),
)
ORDER = (LOWER_LEFT, UPPER_LEFT, UPPER_RIGHT, LOWER_RIGHT)


def digits(seen, binarize="dynamic", **more):
    return zoo.datasets.load("digits", binarize=binarize, seen_quadrants=seen, **more)


def assert_shows(y, x, seen):
    y, x = np.asarray(y), np.asarray(x)
    assert y.dtype == np.float32 and y.shape == x.shape
    for i, (rows, columns) in enumerate(ORDER):
        want = x[:, rows, columns] if i < seen else np.full_like(x[:, rows, columns], -1)
        np.testing.assert_array_equal(y[:, rows, columns], want)


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_y_shows_the_seen_quadrants_of_x_and_minus_one_elsewhere(seen):
    data = digits(seen, None)
    x, y = data.arrays("test")
    grey = (load_digits().images[1350:, ..., None] / 16).astype(np.float32)
    np.testing.assert_allclose(x, grey, atol=1e-6)
    assert_shows(y, grey, seen)
    assert data.has_labels and data.label_names is None and data.seen_quadrants == seen


def test_quadrants_of_other_shapes_meet_at_the_centre():
    images = np.arange(1, 25, dtype=np.uint8).reshape(1, 4, 6, 1)
    data = ImageData("own", {"train": Split(images)}, (4, 6, 1), levels=256, seen_quadrants=1)
    _, y = data.arrays("train")
    want = np.full([4, 6], -1.0)
    want[2:, :3] = images[0, 2:, :3, 0] / 255
    np.testing.assert_allclose(y[0, ..., 0], want, atol=1e-6)


def test_colours_are_seen_and_hidden_together():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    data = ImageData("own", {"train": Split(images)}, (4, 4, 3), seen_quadrants=3)
    _, y = data.arrays("train")
    assert ((y == -1).sum((1, 2)) == 4).all()


def test_y_shows_the_same_draw_as_x():
    data = digits(2)
    draws = []
    batches = data.batches("train", 100, shuffle=True, repeat=True)
    assert batches.element_spec[1] == tf.TensorSpec([100, 8, 8, 1], tf.float32)
    for x, y in batches.take(20):
        assert set(np.unique(x)) <= {0, 1}
        assert_shows(y, x, 2)
        draws.append(x.numpy())
    first, second = np.sort(draws[:10], axis=None), np.sort(draws[10:], axis=None)
    assert (first != second).any()  # A new draw in each epoch.


def test_arrays_return_the_single_draw_of_validation():
    data = digits(1)
    x, y = data.arrays("validation")
    parts = list(data.batches("validation", 128))
    np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), x)
    np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), y)
    assert_shows(y, x, 1)
    plain, _ = zoo.datasets.load("digits", binarize="dynamic").arrays("validation")
    np.testing.assert_array_equal(plain, x)


def test_the_parts_of_two_replicas_form_the_batch():
    options = {"shuffle": True, "repeat": True}
    whole = next(iter(digits(3).batches("train", 20, **options)))
    parts = list(digits(3).batches("train", 20, shard=(0, 1, 2), **options).take(2))
    for i in range(2):
        np.testing.assert_array_equal(tf.concat([p[i] for p in parts], 0), whole[i])
    assert_shows(whole[1], whole[0], 3)


def test_quadrants_apply_to_resized_images():
    x, y = digits(1, None, image_size=12).arrays("test", 5)
    assert (y[:, 6:, :6] == x[:, 6:, :6]).all()
    assert (y == -1).sum() == 5 * 3 * 36


@pytest.mark.parametrize("wrong", [0, 4, "1", 1.5])
def test_invalid_numbers_of_quadrants_raise(wrong):
    with pytest.raises(ValueError, match=r"1, 2 or 3 .*Received: seen_quadrants="):
        digits(wrong)


def test_odd_sides_raise_before_an_image_is_read():
    with pytest.raises(ValueError, match=r"even side.*Received: image_size=9"):
        zoo.datasets.load("mnist", data_dir="/nowhere", image_size=9, seen_quadrants=1)
    images = np.zeros([1, 4, 5, 1], np.uint8)
    with pytest.raises(ValueError, match=r"even width.*Received: 4x5"):
        ImageData("own", {"train": Split(images)}, (4, 5, 1), seen_quadrants=1)


def test_a_run_with_an_invalid_number_of_quadrants_raises():
    config = zoo.presets.get("cvae_quadrants_digits")
    assert config.data.seen_quadrants == 1
    zoo.presets.override(config, ["seen_quadrants=3"])
    assert zoo.training.load_data(config).seen_quadrants == 3
    zoo.presets.override(config, ["seen_quadrants=4"])
    with pytest.raises(ValueError, match=r"`seen_quadrants`.*Received: 4"):
        zoo.training.check_config(config)
