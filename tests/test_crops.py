"""Crops against SciPy's interpolation, and the distribution of random crops."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from zoo.crops import crops, random_crops


def test_crops_are_those_of_scipys_linear_interpolation():
    random = np.random.default_rng(0)
    x = random.random((2, 12, 9, 3), np.float32)
    sides = random.uniform(0.2, 0.6, (2, 4, 2)).astype(np.float32)
    starts = ((1 - sides) * random.random((2, 4, 2))).astype(np.float32)
    mirrored = random.random((2, 4)) < 0.5
    have = crops(tf.constant(x), starts, sides, mirrored, 5)
    assert have.shape == (2, 4, 5, 5, 3) and mirrored.any() and not mirrored.all()
    grid = (np.arange(5) + 0.5) / 5
    for i in range(2):
        for k in range(4):
            down, right = (
                (starts[i, k, axis] + sides[i, k, axis] * grid) * size - 0.5
                for axis, size in enumerate((12, 9))
            )
            right = right[::-1] if mirrored[i, k] else right
            places = np.meshgrid(down, right, indexing="ij")
            for c in range(3):
                want = scipy.ndimage.map_coordinates(x[i, :, :, c], places, order=1, mode="nearest")
                np.testing.assert_allclose(have[i, k, :, :, c], want, atol=1e-5)


def test_a_crop_of_the_whole_image_is_the_image_or_its_mirror_image():
    x = np.random.default_rng(0).random((1, 6, 6, 2), np.float32)
    whole = [[[0.0, 0.0]] * 2], [[[1.0, 1.0]] * 2]
    have = crops(tf.constant(x), *map(tf.constant, whole), tf.constant([[False, True]]), 6)
    np.testing.assert_allclose(have[0, 0], x[0], atol=1e-6)
    np.testing.assert_allclose(have[0, 1], x[0, :, ::-1], atol=1e-6)


@pytest.fixture(scope="module")
def places():
    """Rows and columns at the pixels of random crops, `[B, n, 2, 2]`, as shares of the image."""
    size = 64
    row, column = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2, indexing="ij")
    image = np.stack([row, column], -1).astype(np.float32)
    images = tf.constant(np.tile(image, (50, 1, 1, 1)))
    drawn = random_crops(images, 8, 2, (0.25, 0.5), tf.constant([1, 2])).numpy()
    np.testing.assert_array_equal(
        drawn, random_crops(images, 8, 2, (0.25, 0.5), tf.constant([1, 2]))
    )
    assert (drawn != random_crops(images, 8, 2, (0.25, 0.5), tf.constant([1, 3])).numpy()).any()
    return drawn


def test_sides_are_drawn_apart_for_each_crop_and_lie_within_the_image(places):
    # The pixels are at a quarter and at three quarters of a side.
    heights = 2 * (places[:, :, 1, 0, 0] - places[:, :, 0, 0, 0])
    widths = 2 * np.abs(places[:, :, 0, 1, 1] - places[:, :, 0, 0, 1])
    for sides in (heights, widths):
        assert 0.245 < sides.min() < 0.27 and 0.48 < sides.max() < 0.505
        assert sides.std(1).min() > 0.01 and sides.mean() == pytest.approx(0.375, abs=0.02)
    assert abs(np.corrcoef(heights.ravel(), widths.ravel())[0, 1]) < 0.15
    top, left = places[:, :, 0, 0, 0] - heights / 4, places[:, :, 0, :, 1].min(-1) - widths / 4
    for start, side in ((top, heights), (left, widths)):
        assert start.min() > -0.01 and (start + side).max() < 1.01
        assert (start / (1 - side)).mean() == pytest.approx(0.5, abs=0.05)


def test_half_of_the_crops_are_mirrored_and_none_is_upside_down(places):
    mirrored = places[:, :, 0, 1, 1] < places[:, :, 0, 0, 1]
    assert mirrored.mean() == pytest.approx(0.5, abs=0.1)
    assert (places[:, :, 1, 0, 0] > places[:, :, 0, 0, 0]).all()


def test_crops_and_their_second_derivatives_compile():
    @tf.function(jit_compile=True)
    def slope(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                total = tf.reduce_sum(random_crops(x, 2, 3, (0.5, 1.0), [1, 2]) ** 3)
            penalty = tf.reduce_sum(inner.gradient(total, x) ** 2)
        return outer.gradient(penalty, x)

    assert np.abs(slope(tf.ones([1, 4, 4, 1]))).max() > 0
