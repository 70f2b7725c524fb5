"""Preprocessing against formulas in NumPy, and its refusals."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.features import preprocess

METHODS = ("bicubic", "bilinear", "tf1_bilinear")


@pytest.fixture
def colours(rng):
    return rng.integers(0, 256, [2, 23, 31, 3], np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def along_axis(images, weights):
    """The columns and the rows resized by `weights(input size)`, `[output, input]` each."""
    images = images.astype("float64")
    return np.einsum("ih,nhwc,jw->nijc", weights(images.shape[1]), images, weights(images.shape[2]))


def antialiased(kernel, radius, outputs):
    """Weights of a filter as wide as the distance of two output pixels, if that is above 1."""

    def weights(inputs):
        scale = inputs / outputs
        width = max(scale, 1.0)
        centres = (np.arange(outputs) + 0.5) * scale
        distance = (np.arange(inputs) + 0.5 - centres[:, None]) / width
        table = np.where(np.abs(distance) < radius, kernel(np.abs(distance)), 0.0)
        return table / table.sum(1, keepdims=True)

    return weights


def cubic(x, a=-0.5):
    """Keys' kernel (1981)."""
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    return np.where(x < 1, near, a * (x**3 - 5 * x**2 + 8 * x - 4))


def top_left(outputs):
    """TensorFlow 1's weights: output i lies at input i * inputs / outputs, between two pixels."""

    def weights(inputs):
        place = np.arange(outputs) * (inputs / outputs)
        low = np.floor(place).astype(int)
        table = np.zeros([outputs, inputs])
        np.add.at(table, (np.arange(outputs), low), 1 - (place - low))
        np.add.at(table, (np.arange(outputs), np.minimum(low + 1, inputs - 1)), place - low)
        return table

    return weights


WEIGHTS = {
    "bicubic": lambda size: antialiased(cubic, 2, size),
    "bilinear": lambda size: antialiased(lambda x: 1 - x, 1, size),
    "tf1_bilinear": top_left,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [5, 23, 29, 64])
def test_resizing_matches_the_formula(colours, method, size):
    expected = np.clip(along_axis(colours, WEIGHTS[method](size)), 0, 255)
    result = preprocess(colours, size, method)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
def test_antialiased_resizing_matches_tensorflow(colours, method):
    expected = tf.image.resize(tf.cast(colours, tf.float32), [11, 11], method, antialias=True)
    np.testing.assert_allclose(
        preprocess(colours, 11, method), np.clip(expected, 0, 255), atol=0.02
    )


def test_a_fine_checkerboard_becomes_grey_unless_resizing_is_aliased():
    board = np.indices([112, 112]).sum(0) % 2 * np.uint8(255)
    small = {m: preprocess(board[None, ..., None].astype(np.uint8), 28, m) for m in METHODS}
    for method in ("bicubic", "bilinear"):
        inner = small[method][:, 2:-2, 2:-2]  # the filter is cut off at the borders
        np.testing.assert_allclose(inner, 127.5, atol=0.01)
    assert (small["tf1_bilinear"] == 0).all()


def test_overshoot_is_clipped_and_nothing_is_rounded_afterwards():
    edge = np.repeat(np.uint8([0, 255]), 8)[None, None, :, None] * np.ones([1, 16, 1, 1], np.uint8)
    unclipped = along_axis(edge, WEIGHTS["bicubic"](50))
    assert unclipped.min() < -5 and unclipped.max() > 260
    result = preprocess(edge, 50)
    assert result.min() == 0 and result.max() == 255
    assert (result != np.round(result)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", METHODS)
def test_floats_are_rounded_to_256_levels_before_resizing(rng, method, dtype):
    levels = rng.integers(0, 256, [2, 23, 31, 3], np.uint8)
    shaken = (levels + rng.uniform(-0.45, 0.45, levels.shape)) / 255
    floats = np.clip(shaken, 0, 1).astype(dtype)
    expected = preprocess(levels, 29, method)
    np.testing.assert_array_equal(preprocess(floats, 29, method), expected)


def test_all_256_levels_survive_as_floats_of_any_precision():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    for dtype in (np.float16, np.float32, np.float64):
        result = preprocess((levels / 255).astype(dtype), 16, gray="keep")
        np.testing.assert_array_equal(result, levels)


@pytest.mark.parametrize("method", METHODS)
def test_images_of_the_right_size_are_unchanged(colours, method):
    square = colours[:, :23, :23]
    np.testing.assert_array_equal(preprocess(square, 23, method), square)


def test_a_batch_equals_its_single_images(colours):
    alone = [preprocess(image[None], 29) for image in colours]
    np.testing.assert_array_equal(preprocess(colours, 29), np.concatenate(alone))


def test_grey_is_repeated_or_kept(colours):
    grey = colours[..., :1]
    kept = preprocess(grey, 29, gray="keep")
    assert kept.shape == (2, 29, 29, 1)
    np.testing.assert_array_equal(preprocess(grey, 29), np.repeat(kept, 3, -1))
    with pytest.raises(ValueError, match=r"takes grey images.*\(2, 23, 31, 3\)"):
        preprocess(colours, 29, gray="keep")


def test_ranges_of_values_are_applied():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    exact = np.arange(256).reshape(1, 16, 16, 1)

    def scaled(*value_range):
        return preprocess(levels, 16, gray="keep", value_range=value_range)

    np.testing.assert_array_equal(scaled(-1, 127 / 128), (exact - 128) / 128)
    np.testing.assert_allclose(scaled(-1, 1), exact / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(scaled(0, 1), exact / 255, atol=1e-7)
    np.testing.assert_array_equal(scaled(0, 255), exact)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros([28, 28, 1], np.uint8), r"shape \(28, 28, 1\)"),
        (np.zeros([0, 28, 28, 1], np.uint8), r"shape \(0, 28, 28, 1\)"),
        (np.zeros([2, 28, 28, 2], np.uint8), r"shape \(2, 28, 28, 2\)"),
        (np.zeros([2, 28, 28, 1], np.int64), "int64"),
        (np.zeros([2, 28, 28, 1], bool), "bool"),
        (np.full([2, 8, 8, 1], 200.0), "float64 from 200.0 to 200.0"),
        (np.array([-1.0, 1.0]).reshape(1, 2, 1, 1), "float64 from -1.0 to 1.0"),
        (np.array([0.5, np.nan]).reshape(1, 2, 1, 1), "float64 from nan to nan"),
        (np.array([0, 1], np.uint8).reshape(1, 2, 1, 1), "zeros and ones"),
    ],
)
def test_ambiguous_images_are_refused(images, message):
    with pytest.raises(ValueError, match=f"`images` must be .*Received: .*{message}"):
        preprocess(images, 28)


def test_black_images_are_accepted():
    assert (preprocess(np.zeros([1, 8, 8, 1], np.uint8), 16) == 0).all()


@pytest.mark.parametrize("option", [{"method": "area"}, {"gray": "drop"}, {"size": 0}])
def test_unknown_options_are_refused(option):
    with pytest.raises(ValueError, match="Received: method="):
        preprocess(**{"images": np.zeros([1, 8, 8, 1], np.uint8), "size": 8} | option)
