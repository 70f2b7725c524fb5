"""Layers and residual blocks of style-based generators, and of their encoders and discriminators.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020 (StyleGAN2).
https://arxiv.org/abs/1912.04958

Instead of StyleGAN2's equalised learning rates, ordinary convolutions and dense layers start with
He's initialisation, in which an activation has no gain.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import keras_settings
from zoo.contract import check_counts, check_non_negative
from zoo.networks import halves

Shape = Sequence[int]

ops = keras.ops

_TAPS = (1, 3, 3, 1)
_EPSILON = 1e-8


@keras.saving.register_keras_serializable("zoo")
class Blur(keras.layers.Layer):
    """Resizes images with the filter [1, 3, 3, 1] / 8 along height and width.

    `up` - 1 zeros are inserted after each value, the result is padded by reflection and filtered with
    the gain `up` for each axis, and every `down`-th value is kept. Constant images remain constant,
    also at their borders. With `up=2` and `padding=(2, 1)` this is bilinear interpolation.

    The layer is a product with one fixed matrix for each axis. On a CPU these products are faster
    than a depthwise convolution.

    Args:
        up: 1, or 2 to double the size.
        down: 1, or 2 to halve the size.
        padding: Number of values added before and after each axis. The output has the size
            (up * size + sum(padding) - 4) // down + 1.

    Raises:
        ValueError: If an argument is out of range; when called, if an image is too small for the
            padding.

    Example:
        >>> zoo.modulated.Blur(down=2, padding=(1, 1))(np.ones([1, 8, 8, 3], np.float32)).shape
        TensorShape([1, 4, 4, 3])
    """

    def __init__(
        self, up: int = 1, down: int = 1, padding: tuple[int, int] = (2, 1), **kwargs: Any
    ):
        super().__init__(**kwargs)
        check_counts(up=up, down=down)
        check_counts(0, before=padding[0], after=padding[1])
        if not {up, down} <= {1, 2}:
            raise ValueError(f"`up` and `down` must be 1 or 2. Received: up={up}, down={down}.")
        self.up = up
        self.down = down
        self.padding = tuple(padding)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self._along_rows(self._along_rows(x))

    def _along_rows(self, x):
        """Maps `[B, H, W, C]` with another height, transposed: `[B, W, height, C]`."""
        height, width, channels = x.shape[1:]
        matrix = ops.convert_to_tensor(self._matrix(height), x.dtype)
        rows = ops.matmul(matrix, ops.reshape(x, [-1, height, width * channels]))
        return ops.transpose(
            ops.reshape(rows, [-1, matrix.shape[0], width, channels]), (0, 2, 1, 3)
        )

    def _matrix(self, size):
        """The resizing of one axis, `[new size, size]`."""
        before, after = self.padding
        last = size * self.up - 1
        if max(self.padding) > last:
            raise ValueError(
                f"A blur with the padding {self.padding} needs images of at least "
                f"{math.ceil((max(self.padding) + 1) / self.up)} pixels. Received: {size} pixels."
            )
        starts = range(-before, last + after - len(_TAPS) + 2, self.down)
        matrix = np.zeros([len(starts), size])
        for row, start in zip(matrix, starts, strict=True):
            for place, tap in enumerate(_TAPS, start):
                reflected = last - abs(last - abs(place))
                # All other places hold inserted zeros.
                if reflected % self.up == 0:
                    row[reflected // self.up] += self.up * tap / sum(_TAPS)
        return matrix

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, *size, channels = input_shape
        sizes = ((self.up * n + sum(self.padding) - 4) // self.down + 1 for n in size)
        return (batch, *sizes, channels)

    def get_config(self) -> dict[str, Any]:
        own = {"up": self.up, "down": self.down, "padding": self.padding}
        return super().get_config() | own


@keras.saving.register_keras_serializable("zoo")
class ReflectPadding(keras.layers.Layer):
    """Pads images `[B, H, W, C]` by reflection, by `size` pixels on each side.

    Args:
        size: Number of pixels, at least 1.

    Raises:
        ValueError: If `size` is below 1.
    """

    def __init__(self, size: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        check_counts(size=size)
        self.size = size

    def call(self, x: tf.Tensor) -> tf.Tensor:
        both = (self.size, self.size)
        return ops.pad(x, ((0, 0), both, both, (0, 0)), mode="reflect")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, *size, channels = input_shape
        return (batch, *(n + 2 * self.size for n in size), channels)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"size": self.size}


@keras.saving.register_keras_serializable("zoo")
class ModulatedConv2D(keras.layers.Layer):
    """A convolution whose kernel depends on a code, with unit output variance.

    With the style s = code A + b of each example, which has one value for each input channel i,
    the kernel of the example is

        W'_kio = s_i W_kio,   W''_kio = gain W'_kio / sqrt(sum_ki W'_kio^2 + 1e-8)

    (section 2.2 and eq. 1 and 3 of StyleGAN2). The layer scales the input by s, convolves with W,
    and scales the output by the factors of W''. The numbers are those of a kernel for each example,
    without grouped convolutions. A bias is added.

    The layer is called as `layer([x, code])` with `x[B, H, W, C]` and `code[B, D]`. The initial A
    suits codes with a mean square of 1, and b is initially 1.

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the kernel.
        demodulate: Whether to divide by the norm of the kernel; otherwise the kernel is W'.
        upsample: Whether to double the size: a transposed convolution of stride 2 and a `Blur`.
        gain: Factor of the output before the bias, at least 0, such as sqrt(2) before a leaky ReLU.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> layer = zoo.modulated.ModulatedConv2D(16, 3, upsample=True)
        >>> layer([tf.ones([2, 8, 8, 4]), tf.ones([2, 5])]).shape
        TensorShape([2, 16, 16, 16])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        demodulate: bool = True,
        upsample: bool = False,
        gain: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_counts(filters=filters, kernel_size=kernel_size)
        check_non_negative(gain=gain)
        if upsample and kernel_size != 3:
            raise ValueError(
                f"A convolution that upsamples has kernel_size=3. Received: {kernel_size}."
            )
        self.filters = filters
        self.kernel_size = kernel_size
        self.demodulate = demodulate
        self.upsample = upsample
        self.gain = gain
        # The transposed convolution of stride 2 returns 2 H + 1 values.
        self.blur = Blur(padding=(1, 1), dtype=self.dtype_policy) if upsample else None

    def build(self, input_shapes: Sequence[Shape]) -> None:
        (*_, channels), (*_, size) = input_shapes
        kernel = (self.kernel_size, self.kernel_size, channels, self.filters)
        self.kernel = self.add_weight(name="kernel", shape=kernel, initializer=_normal())
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.style_kernel = self.add_weight(
            name="style_kernel", shape=(size, channels), initializer=_normal()
        )
        self.style_bias = self.add_weight(name="style_bias", shape=(channels,), initializer="ones")

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        x, code = inputs
        style = ops.matmul(code, self.style_kernel) + self.style_bias
        x = x * style[:, None, None]
        if self.blur is not None:
            kernel = ops.transpose(self.kernel, (0, 1, 3, 2))
            x = self.blur(ops.conv_transpose(x, kernel, strides=2, padding="valid"))
        else:
            x = ops.conv(x, self.kernel, padding="same")
        # Three of four values before the transposed convolution are zeros.
        scale = gain = 4 * self.gain if self.upsample else self.gain
        if self.demodulate:
            # The squares have full precision.
            squares = ops.sum(ops.square(ops.cast(self.kernel, "float32")), (0, 1))
            norm = ops.matmul(ops.square(ops.cast(style, "float32")), squares)
            scale = ops.cast(gain * ops.rsqrt(norm + _EPSILON), x.dtype)[:, None, None]
        return x * scale + self.bias

    def compute_output_shape(self, input_shapes: Sequence[Shape]) -> Shape:
        batch, *size, _ = input_shapes[0]
        return (batch, *(n * (1 + self.upsample) for n in size), self.filters)

    def get_config(self) -> dict[str, Any]:
        names = ("filters", "kernel_size", "demodulate", "upsample", "gain")
        return super().get_config() | {name: getattr(self, name) for name in names}


def residual_sum(a: keras.KerasTensor, b: keras.KerasTensor) -> keras.KerasTensor:
    """(a + b) / sqrt(2), which keeps the variance of independent maps."""
    return keras.layers.Rescaling(math.sqrt(0.5))(keras.layers.Add()([a, b]))


def modulated_block(
    h: keras.KerasTensor, code: keras.KerasTensor, filters: int, upsample: bool = False
) -> keras.KerasTensor:
    """A residual block of two 3x3 `ModulatedConv2D`, each with a leaky ReLU of slope 0.2.

    Args:
        h: Maps `[B, H, W, C]`.
        code: The code `[B, D]` of the styles.
        filters: Number of output channels.
        upsample: Whether to double height and width.
    """
    skip = Blur(up=2, padding=(2, 1))(h) if upsample else h
    if filters != h.shape[-1]:
        skip = keras.layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=_linear())(skip)
    for first in (True, False):
        layer = ModulatedConv2D(filters, 3, upsample=upsample and first, gain=math.sqrt(2))
        h = keras.layers.LeakyReLU(0.2)(layer([h, code]))
    return residual_sum(skip, h)


def halving_block(h: keras.KerasTensor, filters: int, reflect: bool = False) -> keras.KerasTensor:
    """A residual block of two 3x3 convolutions with a leaky ReLU of slope 0.2 that halves its maps.

    A `Blur` before each layer of stride 2 keeps high frequencies from appearing as low ones.

    Args:
        h: Maps `[B, H, W, C]`.
        filters: Number of output channels.
        reflect: Whether the maps are padded by reflection instead of zeros.
    """
    main = convolution(h, h.shape[-1], reflect=reflect)
    main = halving_convolution(main, filters)
    skip = Blur(down=2, padding=(1, 1))(h)
    skip = keras.layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=_linear())(skip)
    return residual_sum(skip, main)


def convolution(
    h: keras.KerasTensor, filters: int, kernel_size: int = 3, reflect: bool = False
) -> keras.KerasTensor:
    """A convolution of stride 1 with a leaky ReLU of slope 0.2; its output has the size of `h`."""
    if reflect and kernel_size > 1:
        h = ReflectPadding(kernel_size // 2)(h)
    padding = "valid" if reflect else "same"
    h = keras.layers.Conv2D(filters, kernel_size, padding=padding, kernel_initializer=_he())(h)
    return keras.layers.LeakyReLU(0.2)(h)


def halving_convolution(h: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """A `Blur`, and a 3x3 convolution of stride 2 with a leaky ReLU of slope 0.2."""
    h = Blur(padding=(2, 2))(h)
    h = keras.layers.Conv2D(filters, 3, 2, kernel_initializer=_he())(h)
    return keras.layers.LeakyReLU(0.2)(h)


def residual_maps(
    images: keras.KerasTensor, filters: Sequence[int], reflect: bool = False
) -> keras.KerasTensor:
    """Maps of images in [0, 1]: a 1x1 convolution, and a `halving_block` for each further width.

    Args:
        images: `[B, H, W, C]`.
        filters: Number of channels of the first convolution and of each block.
        reflect: As for `halving_block`.

    Raises:
        ValueError: If the images cannot be halved by each block, or `filters` is empty.
    """
    if not filters:
        raise ValueError("`filters` must have at least one number of channels. Received: ().")
    halves(images.shape[1:], len(filters) - 1)
    first, *rest = filters
    h = convolution(keras.layers.Rescaling(2.0, -1.0)(images), first, 1)
    for width in rest:
        h = halving_block(h, width, reflect)
    return h


def residual_discriminator(
    image_shape: Shape, filters: Sequence[int] = (32, 64, 128), hidden: Sequence[int] = (128,)
) -> keras.Model:
    """StyleGAN2's residual discriminator, without statistics of the batch.

    Args:
        image_shape: Height, width, channels of images in [0, 1].
        filters: As for `residual_maps`.
        hidden: Units of the dense layers after the maps.

    Returns:
        A network from `[B, H, W, C]` to logits `[B, 1]`.

    Raises:
        ValueError: As `residual_maps`.

    Example:
        >>> zoo.modulated.residual_discriminator((8, 8, 1), (4, 8)).output_shape
        (None, 1)
    """
    keras_settings.check()
    images = keras.Input(tuple(image_shape))
    h = keras.layers.Flatten()(residual_maps(images, filters))
    logits = keras.layers.Dense(1, dtype="float32")(dense_layers(h, hidden))
    return keras.Model(images, logits, name="residual_discriminator")


def dense_layers(h: keras.KerasTensor, hidden: Sequence[int]) -> keras.KerasTensor:
    """Dense layers with leaky ReLUs of slope 0.2."""
    for units in hidden:
        h = keras.layers.Dense(units, kernel_initializer=_he())(h)
        h = keras.layers.LeakyReLU(0.2)(h)
    return h


def _normal():
    return keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")


def _he():
    return keras.initializers.HeNormal()


def _linear():
    """The initialisation of a layer without an activation: unit output variance."""
    return keras.initializers.LecunNormal()
