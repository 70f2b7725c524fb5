"""Box averages and their pseudo-inverse, cubic interpolation, and the projection on given averages."""

import numpy as np
import pytest
import scipy.optimize

from zoo import resizing

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_pseudo_inverse_of_averages_is_their_enlargement(factor):
    small = RNG.random((3, 2, 4, 2)).astype(np.float32)
    large = resizing.nearest(small, factor)
    assert large.shape == (3, 2 * factor, 4 * factor, 2)
    np.testing.assert_allclose(resizing.box_average(large, factor), small, atol=1e-6)
    # The matrix of A, from the averages of unit images: A' / factor^2 is A+ by Moore and Penrose.
    units = np.eye(4 * factor**2).reshape(-1, 2 * factor, 2 * factor, 1)
    matrix = resizing.box_average(units, factor).numpy().reshape(-1, 4).T
    enlarged = resizing.nearest(np.eye(4).reshape(-1, 2, 2, 1), factor).numpy().reshape(4, -1).T
    np.testing.assert_allclose(enlarged, np.linalg.pinv(matrix), atol=1e-6)


def test_averages_are_those_of_boxes_of_each_channel():
    x = RNG.random((2, 4, 6, 3)).astype(np.float32)
    found = resizing.box_average(x, 2).numpy()
    assert found.shape == (2, 2, 3, 3) and found.dtype == np.float32
    for row, column in np.ndindex(2, 3):
        box = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_allclose(found[:, row, column], box.mean((1, 2)), rtol=1e-5)


def test_cubic_interpolation_reproduces_a_parabola_inside_of_the_image():
    def parabola(n):
        return ((np.arange(n) + 0.5) / n) ** 2

    small = np.tile(parabola(12)[:, None, None], (1, 12, 1))[None]
    found = resizing.bicubic(small, 4).numpy()[0, 8:-8, 8:-8, 0]
    np.testing.assert_allclose(found, np.tile(parabola(48)[8:-8, None], 32), atol=1e-5)


def test_the_projection_is_the_nearest_image_in_range_with_the_averages():
    x, small = RNG.random((6, 2, 2, 1)), RNG.random((6, 1, 1, 1))
    small[0], small[1] = 0, 1
    found = resizing.with_average(x, small).numpy()
    for image, value, projected in zip(x, small.ravel(), found, strict=True):
        exact = scipy.optimize.minimize(
            lambda v, image=image: np.sum((v - image.ravel()) ** 2),
            np.full(4, value),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda v, value=value: v.mean() - value},
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(projected.ravel(), exact.x, atol=1e-4)


def test_projected_images_have_the_averages_and_stay_in_range():
    x, small = RNG.normal(0.5, 1, (3, 8, 8, 2)), RNG.random((3, 2, 2, 2))
    found = resizing.with_average(x, small).numpy()
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(resizing.box_average(found, 4), small, atol=1e-6)
    np.testing.assert_allclose(resizing.with_average(found, small), found, atol=1e-6)


def test_without_clipped_pixels_the_projection_adds_the_enlarged_difference():
    x, small = RNG.uniform(0.4, 0.6, (3, 4, 4, 1)), RNG.uniform(0.3, 0.7, (3, 2, 2, 1))
    difference = small - resizing.box_average(x, 2)
    expected = x + resizing.nearest(difference, 2)
    np.testing.assert_allclose(resizing.with_average(x, small), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: resizing.box_average(np.zeros([1, 6, 8, 1]), 4), "divisible by 4. Received: 6x8"),
        (lambda: resizing.box_average(np.zeros([1, 6, 8, 1]), 1), "`factor` must be at least 2"),
        (lambda: resizing.factor_between((8, 8, 1), (4, 2, 1)), r"shape \(4, 2, 1\) for images"),
        (lambda: resizing.factor_between((8, 8, 1), (8, 8, 1)), "factor of at least 2"),
        (lambda: resizing.factor_between((8, 8, 3), (4, 4, 1)), "the same channels"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
