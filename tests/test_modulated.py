"""Modulated convolutions against a kernel for each example, and blurs against SciPy's filter."""

import keras
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from zoo import modulated
from zoo.modulated import Blur, ModulatedConv2D

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def kernels_of_examples(layer, code):
    """The kernels of eq. 1 and 3 of StyleGAN2, `[B, k, k, C, F]`."""
    kernel, style = (np.asarray(v, float) for v in (layer.kernel, layer.style_kernel))
    style = code.astype(float) @ style + np.asarray(layer.style_bias)
    kernels = style[:, None, None, :, None] * kernel
    if layer.demodulate:
        kernels /= np.sqrt(np.square(kernels).sum((1, 2, 3), keepdims=True) + 1e-8)
        kernels *= layer.gain
    else:
        kernels *= layer.gain
    return kernels.astype(np.float32)


@pytest.mark.parametrize(("demodulate", "gain"), [(True, 1.0), (True, 1.5), (False, 1.5)])
def test_each_example_is_convolved_with_its_own_kernel(demodulate, gain):
    layer = ModulatedConv2D(4, 3, demodulate, gain=gain)
    x, code = normal(3, 6, 5, 2), normal(3, 7)
    have = layer([x, code])
    layer.bias.assign(normal(4))
    assert have.shape == layer.compute_output_shape([x.shape, code.shape])
    for example, kernel in zip(range(3), kernels_of_examples(layer, code), strict=True):
        want = tf.nn.conv2d(x[[example]], kernel, 1, "SAME") + layer.bias
        np.testing.assert_allclose(layer([x, code])[example], want[0], rtol=1e-4, atol=1e-5)


def test_a_convolution_that_upsamples_convolves_the_enlarged_image():
    layer = ModulatedConv2D(4, 3, upsample=True, gain=1.5)
    x, code = normal(2, 6, 5, 3), normal(2, 7)
    have = layer([x, code])
    assert have.shape == (2, 12, 10, 4) == layer.compute_output_shape([x.shape, code.shape])
    enlarged = Blur(up=2, padding=(2, 1))(x)
    inside = slice(2, -2)
    for example, kernel in zip(range(2), kernels_of_examples(layer, code), strict=True):
        # A transposed convolution mirrors the kernel.
        want = tf.nn.conv2d(enlarged[example : example + 1], kernel[::-1, ::-1], 1, "SAME")
        np.testing.assert_allclose(
            have[example][inside, inside], want[0][inside, inside], rtol=1e-4, atol=1e-5
        )


def test_with_a_constant_style_the_output_has_unit_variance():
    layer = ModulatedConv2D(8, 3)
    x, code = normal(16, 16, 16, 6), np.zeros([16, 2], np.float32)
    have = layer([x, code])
    # The initial bias of the style is 1.
    norm = np.sqrt(np.square(layer.kernel).sum((0, 1, 2)))
    want = tf.nn.conv2d(x, layer.kernel / norm, 1, "SAME")
    np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)
    assert np.std(have[:, 1:-1, 1:-1]) == pytest.approx(1, rel=0.03)
    # The scale of the style does not matter.
    layer.style_bias.assign(np.full(6, 3.0))
    np.testing.assert_allclose(layer([x, code]), have, rtol=1e-4, atol=1e-5)


def test_the_initial_style_of_codes_with_a_mean_square_of_one_has_unit_variance():
    layer = ModulatedConv2D(1, 1)
    layer.build([(None, 4, 4, 500), (None, 64)])
    style = normal(200, 64) @ np.asarray(layer.style_kernel)
    assert np.std(style) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("up", "down", "padding"), [(1, 1, (2, 2)), (1, 1, (1, 1)), (1, 2, (1, 1)), (2, 1, (2, 1))]
)
def test_a_blur_is_scipys_filter_of_the_reflected_image(up, down, padding):
    blur = Blur(up, down, padding)
    x = normal(2, 8, 6, 3)
    have = blur(x)
    assert have.shape == blur.compute_output_shape(x.shape)
    want = x.astype(float)
    taps = up * np.array([1, 3, 3, 1]) / 8
    for axis in (1, 2):
        size = want.shape[axis]
        inserted = np.zeros([*want.shape[:axis], up * size, *want.shape[axis + 1 :]])
        inserted[(slice(None),) * axis + (slice(None, None, up),)] = want
        pad = [(0, 0)] * 4
        pad[axis] = padding
        padded = np.pad(inserted, pad, mode="reflect")
        want = scipy.signal.upfirdn(taps, padded, axis=axis)
        # Only places at which the filter is inside.
        inside = slice(3, 3 + up * size + sum(padding) - 3, down)
        want = want[(slice(None),) * axis + (inside,)]
    np.testing.assert_allclose(have, want, atol=1e-5)


def test_blurs_keep_constants_and_halve_ramps_exactly():
    ones = np.full([1, 8, 8, 1], 0.7, np.float32)
    for blur in (Blur(padding=(2, 2)), Blur(down=2, padding=(1, 1)), Blur(up=2, padding=(2, 1))):
        np.testing.assert_allclose(blur(ones), 0.7, rtol=1e-6)
    ramp = np.arange(8, dtype=np.float32)[None, :, None, None] * np.ones([1, 1, 8, 1], np.float32)
    halved = Blur(down=2, padding=(1, 1))(ramp)[0, :, 0, 0]
    np.testing.assert_allclose(halved[1:-1], [2.5, 4.5], rtol=1e-6)
    doubled = Blur(up=2, padding=(2, 1))(ramp)[0, :, 0, 0]
    np.testing.assert_allclose(doubled[1:5], [0.25, 0.75, 1.25, 1.75], rtol=1e-6)


def test_the_highest_frequency_does_not_alias():
    stripes = np.where(np.arange(8) % 2, 1.0, -1.0)[None, :, None, None] * np.ones([1, 8, 8, 1])
    np.testing.assert_allclose(Blur(down=2, padding=(1, 1))(stripes.astype("f4")), 0, atol=1e-6)


def test_a_second_derivative_passes_through_xla():
    blur = Blur(padding=(2, 2))

    @tf.function(jit_compile=True)
    def slope(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                total = tf.reduce_sum(blur(x) ** 3)
            penalty = tf.reduce_sum(inner.gradient(total, x) ** 2)
        return outer.gradient(penalty, x)

    assert np.abs(slope(tf.constant(normal(1, 4, 4, 1)))).max() > 0


def test_maps_are_padded_by_reflection():
    x = normal(2, 5, 4, 3)
    expected = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(modulated.ReflectPadding(1)(x), expected)
    image = keras.Input((5, 5, 2))
    network = keras.Model(image, modulated.convolution(image, 3, reflect=True))
    maps = network(np.ones([1, 5, 5, 2], np.float32)).numpy()
    # A border of zeros would change the maps of a constant image.
    np.testing.assert_allclose(maps, np.broadcast_to(maps[:, 2:3, 2:3], maps.shape), rtol=1e-5)


def test_a_residual_sum_keeps_the_variance():
    a, b = keras.Input((1000,)), keras.Input((1000,))
    network = keras.Model([a, b], modulated.residual_sum(a, b))
    assert np.std(network([normal(1, 1000), normal(1, 1000)])) == pytest.approx(1, rel=0.1)


def test_a_discriminator_halves_its_maps_with_each_further_width():
    network = modulated.residual_discriminator((16, 8, 3), (2, 3, 4), (5,))
    assert network.output_shape == (None, 1)
    (flat,) = (layer for layer in network.layers if isinstance(layer, keras.layers.Flatten))
    assert flat.input.shape == (None, 4, 2, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blur(up=3), "must be 1 or 2. Received: up=3, down=1"),
        (lambda: Blur(down=3), "must be 1 or 2. Received: up=1, down=3"),
        (lambda: Blur(padding=(-1, 2)), "`before` must be at least 0"),
        (lambda: Blur(padding=(2, 2))(normal(1, 2, 8, 1)), "at least 3 pixels. Received: 2"),
        (lambda: ModulatedConv2D(2, 1, upsample=True), "kernel_size=3. Received: 1"),
        (lambda: ModulatedConv2D(0, 1), "filters"),
        (lambda: modulated.ReflectPadding(0), "size"),
        (lambda: modulated.residual_discriminator((8, 8, 1), ()), "at least one number"),
        (lambda: modulated.residual_discriminator((6, 8, 1), (2, 3, 4)), "divisible by 4"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
