"""Networks: each function returns a built `keras.Model` on images in [0, 1] or on latents.

The output of a network is float32, whatever precision its layers compute in. Encoders and
discriminators return `[B, outputs]`; decoders and generators return
`[B, H, W, C * params_per_value]`.

`encoder`, `decoder`, `generator` and `discriminator` select a network by name: "mlp" for a
multilayer perceptron, "conv" for a convolutional network, "resnet" for a residual network.
`conditioned` adds a condition `y` to any network, and `call` and `logits` call a network with or
without a condition.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo import keras_internals, keras_settings
from zoo.config import look_up
from zoo.contract import check_counts
from zoo.resizing import small_shape

Shape = Sequence[int]

LEAST_MEAN = 0.001
"""The least mean of a value whose logit a bias can be: see `zoo.mean_start`.

The value is that of Burda et al.'s code. The logit of a pixel that is 0 in all images would be
minus infinity. At 0.001 a pixel costs 0.001 nats, and a pixel that is 1 costs 6.9 nats.
"""


# By name --------------------------------------------------------------------------------------


def encoder(
    network: str,
    image_shape: Shape,
    outputs: int,
    hidden: Sequence[int] = (500,),
    filters: Sequence[int] = (32, 64),
    activation: str = "relu",
) -> keras.Model:
    """An encoder by name, from images to `[B, outputs]`.

    Args:
        network: "mlp" for `mlp_encoder`, "conv" for `conv_encoder`, "resnet" for `resnet_encoder`.
        image_shape: Height, width, channels; for "mlp" any shape.
        outputs: Number of outputs.
        hidden: Units of the dense layers; for "conv" and "resnet" these layers follow the
            convolutions.
        filters: Channels of the convolutions, for "conv"; of the residual blocks, for "resnet".
        activation: Activation of the hidden layers. With "glu" the layers are gated, h * sigmoid(g)
            with two linear maps h and g, as those of Tomczak and Welling (2018); not for "resnet".

    Raises:
        ValueError: If `network` is unknown, the image cannot be halved by each convolution or block,
            or a residual network has the activation "glu".

    Example:
        >>> zoo.networks.encoder("conv", (8, 8, 1), 10, (32,), (8, 16)).output_shape
        (None, 10)
    """
    look_up(NETWORKS, network, "network")
    if network == "mlp":
        return mlp_encoder(image_shape, outputs, hidden, activation)
    make = resnet_encoder if network == "resnet" else conv_encoder
    return make(image_shape, outputs, filters, hidden, activation)


def decoder(
    network: str,
    latent_dim: int,
    image_shape: Shape,
    params_per_value: int = 1,
    hidden: Sequence[int] = (500,),
    filters: Sequence[int] = (32, 64),
    activation: str = "relu",
    condition: "Condition | None" = None,
) -> keras.Model:
    """The mirror of `encoder`, from latents to the parameters of a distribution over images.

    Args:
        network: "mlp" for `mlp_decoder`, "conv" for `conv_decoder`, "resnet" for `resnet_decoder`.
        latent_dim: D of the latents `[B, D]`.
        image_shape: Height, width, channels.
        params_per_value: Parameters of the distribution for each value of the image.
        hidden: Units of the encoder's dense layers.
        filters: Channels of the encoder's convolutions or blocks, for "conv" and "resnet".
        activation: Activation of the hidden layers.
        condition: The second input, or `None`. It is concatenated with the latents. The convolutions
            of "conv" and the blocks of "resnet" also take a small image: see `conv_decoder`.

    Raises:
        ValueError: As `encoder`.
    """
    look_up(NETWORKS, network, "network")
    widths = hidden[::-1]
    if network == "mlp":
        return conditioned(
            lambda shape: mlp_decoder(shape[0], image_shape, params_per_value, widths, activation),
            (latent_dim,),
            condition,
        )
    make = resnet_decoder if network == "resnet" else conv_decoder
    return _with_small_image(
        lambda size, small: make(
            size, image_shape, params_per_value, filters[::-1], widths, activation, small
        ),
        latent_dim,
        condition,
    )


def generator(
    network: str,
    latent_dim: int,
    image_shape: Shape,
    hidden: Sequence[int] = (500,),
    width: int = 64,
    activation: str = "relu",
    condition: "Condition | None" = None,
) -> keras.Model:
    """A generator, from latents `[B, D]` to images in [0, 1], with batch normalization.

    Args:
        network: "mlp" for `mlp_decoder`, "conv" for `dcgan_generator`, "resnet" for
            `resnet_generator`.
        latent_dim: D of the latents.
        image_shape: Height, width, channels.
        hidden: Units of the hidden layers, in the order from latents to images, for "mlp".
        width: Channels of the layer next to the image, for "conv" and "resnet"; for "resnet" and
            images up to 32 pixels twice this number, as in the paper.
        activation: Activation of the hidden layers, for "mlp".
        condition: As for `decoder`.

    Raises:
        ValueError: If `network` is unknown, or the image cannot be halved often enough.
    """
    look_up(NETWORKS, network, "network")
    if network == "mlp":
        options: dict[str, Any] = {"output": "sigmoid", "batch_norm": True}
        return conditioned(
            lambda shape: mlp_decoder(shape[0], image_shape, 1, hidden, activation, **options),
            (latent_dim,),
            condition,
        )
    make = resnet_generator if network == "resnet" else dcgan_generator
    return _with_small_image(
        lambda size, small: make(size, image_shape, width, small), latent_dim, condition
    )


def discriminator(
    network: str,
    image_shape: Shape,
    hidden: Sequence[int] = (240, 240),
    width: int = 64,
    dropout: float = 0.0,
    features: bool = False,
    batch_norm: bool = False,
    spectral_norm: bool = False,
    condition: "Condition | None" = None,
    projection: bool = False,
) -> keras.Model:
    """A discriminator, from images to logits `[B, 1]`.

    Args:
        network: "mlp" for `mlp_discriminator`, "conv" for `dcgan_discriminator`, "resnet" for
            `resnet_discriminator`.
        image_shape: Height, width, channels.
        hidden: Units of the hidden layers, for "mlp".
        width: Channels of the layer next to the image, for "conv" and "resnet".
        dropout: Dropout rate of the hidden layers.
        features: Whether to return `(features[B, F], logits[B, 1])`.
        batch_norm, spectral_norm: Whether to use this normalization; at most one of the two.
        condition: The condition that the network takes as its second input, or `None`. The code of
            a concatenated condition is rescaled from [0, 1] to [-1, 1], like the image.
        projection: Whether the condition, a label, is used in a projection instead of concatenated.

    Raises:
        ValueError: If `network` is unknown, or options do not fit together.
    """
    look_up(NETWORKS, network, "network")

    def make(shape, classes=0):
        options = {
            "dropout": dropout,
            "features": features,
            "batch_norm": batch_norm,
            "spectral_norm": spectral_norm,
            "projected_classes": classes,
        }
        if network == "mlp":
            return mlp_discriminator(shape, hidden, **options)
        make = resnet_discriminator if network == "resnet" else dcgan_discriminator
        return make(shape, width, **options)

    if projection:
        kind = "none" if condition is None else condition.name
        if condition is None or kind != "label":
            raise ValueError(
                "A projection discriminator projects on a label: use the condition 'label', or "
                f"concatenate the condition. Received: condition='{kind}'."
            )
        return make(image_shape, condition.shape[0])
    return conditioned(make, image_shape, condition, channels=network != "mlp")


NETWORKS: dict[str, tuple[str, ...]] = {"mlp": (), "conv": ("filters",), "resnet": ("filters",)}
"""The names of the networks, and the options of `encoder` and `decoder` that only one uses."""


# Conditions -----------------------------------------------------------------------------------

SMALL_IMAGE = "small_image"
"""The name of the `Condition` that is a small image."""


class Condition(NamedTuple):
    """The kind and the shape of a network's condition `y`.

    Attributes:
        name: "label" for ints `[B]`, "attributes" for `[B, A]`, "seen" for the seen part of an
            image, `[B, H, W, C]`, with -1 where the image is hidden, or "small_image" for an image
            that is smaller by a factor K, `[B, H / K, W / K, C]`.
        shape: The shape of the condition's code: (classes,), (A,), (H, W, C) or (H / K, W / K, C).
    """

    name: str
    shape: tuple[int, ...]

    def input(self) -> keras.KerasTensor:
        """A symbolic input for `y`. The name of the input tells a model the range of `y`."""
        if self.name == "label":
            return keras.Input((), dtype="int32")
        return keras.Input(self.shape, name=self.name)

    def code(self, y: keras.KerasTensor) -> keras.KerasTensor:
        """The code of `y`, `[B, *shape]`: one-hot for a label, else `y` itself."""
        return OneHot(self.shape[0])(y) if self.name == "label" else y

    def planes(self, code: keras.KerasTensor, size: Sequence[int]) -> keras.KerasTensor:
        """The code as channels of an image of height and width `size`.

        A vector becomes constant planes. Each pixel of a small image becomes a box.
        """
        if len(self.shape) == 1:
            code = keras.layers.RepeatVector(size[0] * size[1])(code)
            return keras.layers.Reshape((*size, self.shape[0]))(code)
        factor = size[0] // self.shape[0]
        return code if factor == 1 else keras.layers.UpSampling2D(factor)(code)


def condition(name: str, size: int, image_shape: Shape) -> Condition | None:
    """A condition by name, for presets and command lines.

    Args:
        name: "none", "label", "attributes", "seen", or "image" for a small image.
        size: For "label" the number of classes, 0 for 10; for "attributes" the number of
            attributes, at least 1; for "image" the factor by which the condition is smaller than the
            image, at least 2; otherwise 0.
        image_shape: Height, width, channels, for "seen" and "image".

    Raises:
        ValueError: If `name` is unknown, or `size` is invalid for this condition or, for "image", does
            not divide the height and the width.

    Example:
        >>> zoo.networks.condition("label", 0, (8, 8, 1))
        Condition(name='label', shape=(10,))
    """
    shapes = {
        "none": None,
        "label": (size or 10,),
        "attributes": (size,),
        "seen": tuple(image_shape),
        "image": None,
    }
    shape = look_up(shapes, name, "condition")
    least = {"attributes": 1, "image": 2}.get(name, 0)
    if size < least or (size and name in ("none", "seen")):
        raise ValueError(
            "`condition_size` is the number of classes of the condition 'label' (0 for 10), the "
            "number of attributes of the condition 'attributes' (at least 1), or the factor by which "
            "the condition 'image' is smaller than the image (at least 2), and 0 otherwise. "
            f"Received: condition='{name}', condition_size={size}."
        )
    if name == "image":
        return Condition(SMALL_IMAGE, small_shape(image_shape, size))
    return None if shape is None else Condition(name, shape)


def conditioned(
    make: Callable[[tuple[int, ...]], keras.Model],
    shape: Shape,
    condition: Condition | None,
    channels: bool = False,
) -> keras.Model:
    """A network with the inputs `[context, y]`, which it concatenates.

    Args:
        make: Builds a network for an input of a given shape, without the batch axis.
        shape: Shape of the context: `(D,)` for latents, `(H, W, C)` for images.
        condition: The condition; `None` to return `make(shape)`.
        channels: Whether to concatenate along the channels of an image: see `Condition.planes`.
            Otherwise context and condition are flattened into one vector, as
            for a perceptron. Latents are always concatenated as a vector.

    Example:
        >>> label = zoo.networks.condition("label", 10, (8, 8, 1))
        >>> network = zoo.networks.conditioned(
        ...     lambda shape: zoo.networks.mlp_encoder(shape, 4), (8, 8, 1), label
        ... )
        >>> zoo.networks.call(network, tf.zeros([2, 8, 8, 1]), tf.constant([3, 7])).shape
        TensorShape([2, 4])
    """
    shape = tuple(shape)
    if condition is None:
        return make(shape)
    context, y = keras.Input(shape), condition.input()
    code = condition.code(y)
    if channels and len(shape) == 3:
        joined = keras.layers.Concatenate()([context, condition.planes(code, shape[:2])])
    else:
        parts = [t if len(t.shape) == 2 else keras.layers.Flatten()(t) for t in (context, code)]
        joined = keras.layers.Concatenate()(parts)
    network = make(tuple(joined.shape[1:]))
    return keras.Model([context, y], network(joined), name=f"conditional_{network.name}")


def of_condition(
    make: Callable[[tuple[int, ...]], keras.Model],
    condition: Condition,
    size: Sequence[int] | None = None,
) -> keras.Model:
    """A network whose only input is `y`: a network of the code of `y`.

    Args:
        make: Builds a network for an input of a given shape, without the batch axis.
        condition: The condition.
        size: Height and width to which an image is enlarged first; `None` for its own size.
    """
    y = condition.input()
    code = condition.code(y)
    if size is not None and len(condition.shape) == 3:
        code = condition.planes(code, size)
    network = make(tuple(code.shape[1:]))
    return keras.Model(y, network(code), name=f"{network.name}_of_condition")


def _with_small_image(make, latent_dim, condition):
    """A decoder of latents and a condition, `make(latent_dim, small)`.

    A small image goes to the network's convolutions (`small`), and any other condition into the
    vector of latents.
    """
    if condition is not None and condition.name == SMALL_IMAGE:
        return make(latent_dim, condition)
    return conditioned(lambda shape: make(shape[0], None), (latent_dim,), condition)


def call(network: keras.Model, context: Any, y: Any = None, training: bool = False) -> Any:
    """The output of a network for a context and, if the network has a second input, a condition.

    A network with a single input ignores `y`.

    Args:
        network: A network of the context, or of `[context, y]`.
        context: The first input.
        y: The second input, or `None`.
        training: Whether to call the network in training mode.

    Raises:
        ValueError: If the network takes a condition and `y` is `None`.
    """
    if len(network.inputs) == 1:
        return network(context, training=training)
    if y is None:
        raise ValueError(
            f"The network '{network.name}' takes a condition `y` as its second input: train on "
            "(x, y), and pass `y` to the model's methods. Received: y=None."
        )
    y = tf.cast(y, network.inputs[1].dtype)
    return network([tf.convert_to_tensor(context), y], training=training)


def refuse_batch_norm(network: keras.Model, name: str, reason: str) -> None:
    """Raises a `ValueError`, "The `name` must have no batch normalization: `reason`", if it has."""
    for layer in keras_internals.layers_in(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            raise ValueError(
                f"The {name} must have no batch normalization: {reason} Received: a network with the "
                f"layer '{layer.name}'."
            )


def check_built(network: keras.layers.Layer, owner: str) -> None:
    """Checks that a network has static shapes and weights.

    Args:
        network: The network.
        owner: The network in words, for the error, such as "The `generator` of this GAN".

    Raises:
        ValueError: If the network is not a `keras.Model` with inputs.
    """
    if not hasattr(network, "inputs"):
        raise ValueError(
            f"{owner} must be built, so that its shapes are known: start a keras.Sequential with "
            "keras.Input(shape), or call other layers on a keras.Input and make a "
            f"keras.Model(input, output). Received: the {type(network).__name__} "
            f"'{getattr(network, 'name', network)}', without inputs."
        )


def returns_tensor(network: keras.Model) -> bool:
    """Whether a built network returns one tensor, rather than a list, tuple or dict of tensors."""
    single = isinstance(network, keras.Sequential) or hasattr(network.output, "shape")
    return single and len(network.outputs) == 1


class OutputBias(NamedTuple):
    """The bias of the last layer of a network from any input to `[B, H, W, P]`.

    Attributes:
        bias: The bias, `[H W P]` or `[P]`.
        per_value: Whether the bias has one value for each output, `[H W P]`.
        inverse: Function from an output of the network to the output of the layer with the bias.
    """

    bias: keras.Variable
    per_value: bool
    inverse: Callable[[np.ndarray], np.ndarray]


def output_bias(network: keras.Model) -> OutputBias | None:
    """The bias of the last layer of a network, if all later layers have a known inverse.

    The last layer is a `Dense`, `Conv2D`, `Conv2DTranspose` or `SpectralNormalization` layer. After
    it, or in it as its activation, come `Reshape`, `Flatten`, `Rescaling` and `Activation` layers,
    linear, sigmoid or tanh. The inverses of sigmoid and tanh clip sigmoids to `LEAST_MEAN` and
    1 - `LEAST_MEAN`.

    Returns:
        The bias; `None` if the network has another form, or no bias.

    Example:
        >>> output = zoo.networks.output_bias(zoo.networks.mlp_decoder(2, (8, 8, 1)))
        >>> output.bias.shape[0], output.per_value
        (64, True)
    """
    inverses: list[Callable] = []
    for layer in _from_the_end(network):
        if (inverse := _inverse(layer)) is None:
            return None
        inverses.append(inverse)
        if isinstance(layer, _LAYERS_WITH_BIAS):
            break
    else:
        return None
    size, params = math.prod(network.output_shape[1:]), network.output_shape[-1]
    if layer.bias is None or layer.bias.shape[0] not in (size, params):
        return None

    def inverse_of_all(values):
        for inverse in inverses:
            values = inverse(values)
        return values

    return OutputBias(layer.bias, layer.bias.shape[0] == size, inverse_of_all)


def _from_the_end(network):
    """The layers of a network and of the networks in it, from the last to the first."""
    for layer in reversed(network.layers):
        if hasattr(layer, "inputs"):
            yield from _from_the_end(layer)
        else:
            yield layer


def _inverse(layer):
    """The inverse of a layer's activation, or of the layer; `None` if it is unknown."""
    if isinstance(layer, keras.layers.Rescaling):
        return lambda values: (values - layer.offset) / layer.scale
    if isinstance(layer, keras.layers.Reshape | keras.layers.Flatten | SpectralNormalization):
        return _same
    if isinstance(layer, (*_LAYERS_WITH_BIAS, keras.layers.Activation)):
        return _INVERSES.get(layer.activation)
    return None


def logit_of_mean(means: np.ndarray, least: float = LEAST_MEAN) -> np.ndarray:
    """log(m / (1 - m)) of means m, clipped to [`least`, 1 - `least`]."""
    means = np.clip(means, least, 1 - least)
    return np.log(means) - np.log1p(-means)


def _same(values):
    return values


# tanh(a) = 2 sigmoid(2 a) - 1.
_INVERSES = {
    keras.activations.linear: _same,
    keras.activations.sigmoid: logit_of_mean,
    keras.activations.tanh: lambda values: logit_of_mean((values + 1) / 2) / 2,
}


def logits(network: keras.Model, context: Any, y: Any = None, training: bool = False) -> tf.Tensor:
    """The float32 logits `[B]` of a network with outputs `[B, 1]`. See `call` for arguments."""
    return tf.cast(call(network, context, y, training)[:, 0], tf.float32)


def unit(vectors: tf.Tensor) -> tf.Tensor:
    """The vectors `[..., d]` divided by their lengths, in float32; zeros remain zeros."""
    return tf.math.l2_normalize(tf.cast(vectors, tf.float32), -1)


# Encoders and decoders ------------------------------------------------------------------------


def _dense(units, activation):
    """Layers from any number of inputs to `units` outputs."""
    return _activated(keras.layers.Dense, units, activation)


def _activated(make, units, activation, **options):
    """The layer `make(units)` and its activation, as a list of layers."""
    if activation == "glu":
        return [make(2 * units, **options), GatedLinearUnit()]
    return [make(units, activation=activation, **options)]


def check_not_gated(activation: str, owner: str) -> None:
    """Raises a `ValueError` if the activation of a network without gated layers is "glu".

    Args:
        activation: The name of the activation.
        owner: The network in words, for the error, such as "A residual network".
    """
    if activation == "glu":
        raise ValueError(
            f"{owner} has no gated layers: choose another activation, such as 'relu'. Received: "
            "activation='glu'."
        )


def mlp(
    inputs: int, outputs: int, hidden: Sequence[int] = (500,), activation: str = "relu"
) -> keras.Model:
    """A multilayer perceptron from `[B, inputs]` to `[B, outputs]`."""
    layers = [layer for units in hidden for layer in _dense(units, activation)]
    return keras.Sequential([keras.Input((inputs,)), *layers, _linear(outputs)], name="mlp")


def mlp_encoder(
    image_shape: Shape, outputs: int, hidden: Sequence[int] = (500,), activation: str = "relu"
) -> keras.Model:
    """A multilayer perceptron from images, or inputs of any other shape, to `[B, outputs]`."""
    keras_settings.check()
    layers = [layer for units in hidden for layer in _dense(units, activation)]
    return keras.Sequential(
        [keras.Input(tuple(image_shape)), keras.layers.Flatten(), *layers, _linear(outputs)],
        name="mlp_encoder",
    )


def mlp_decoder(
    latent_dim: int,
    image_shape: Shape,
    params_per_value: int = 1,
    hidden: Sequence[int] = (500,),
    activation: str = "relu",
    output: str = "linear",
    batch_norm: bool = False,
) -> keras.Model:
    """A multilayer perceptron from latents to images, or to the parameters of their distribution.

    Args:
        latent_dim: D of the latents `[B, D]`.
        image_shape: Height, width, channels.
        params_per_value: Parameters of the likelihood for each value of the image.
        hidden: Units of the hidden layers.
        activation: Activation of the hidden layers.
        output: Activation of the output: "linear" for parameters, "sigmoid" for images.
        batch_norm: Whether the hidden layers have batch normalization before their activation.
    """
    keras_settings.check()
    height, width, channels = image_shape
    layers = []
    for units in hidden:
        gated = activation == "glu"
        layers.append(keras.layers.Dense(2 * units if gated else units, use_bias=not batch_norm))
        if batch_norm:
            layers.append(_batch_norm())
        layers.append(GatedLinearUnit() if gated else keras.layers.Activation(activation))
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            *layers,
            keras.layers.Dense(height * width * channels * params_per_value),
            keras.layers.Reshape((height, width, channels * params_per_value)),
            keras.layers.Activation(output, dtype="float32"),
        ],
        name="mlp_decoder",
    )


def conv_encoder(
    image_shape: Shape,
    outputs: int,
    filters: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (256,),
    activation: str = "relu",
) -> keras.Model:
    """Strided convolutions, each of which halves the image, then dense layers: `[B, outputs]`.

    Raises:
        ValueError: If `filters` is empty, or the image cannot be halved that often.
    """
    keras_settings.check()
    _need_one(filters, "filters", "A convolutional network")
    halves(image_shape, len(filters))
    options: dict[str, Any] = {"kernel_size": 4, "strides": 2, "padding": "same"}
    layers = [
        layer
        for n in filters
        for layer in _activated(keras.layers.Conv2D, n, activation, **options)
    ]
    return keras.Sequential(
        [
            keras.Input(tuple(image_shape)),
            *layers,
            keras.layers.Flatten(),
            *(layer for units in hidden for layer in _dense(units, activation)),
            _linear(outputs),
        ],
        name="conv_encoder",
    )


def conv_decoder(
    latent_dim: int,
    image_shape: Shape,
    params_per_value: int = 1,
    filters: Sequence[int] = (64, 32),
    hidden: Sequence[int] = (256,),
    activation: str = "relu",
    small: Condition | None = None,
) -> keras.Model:
    """The mirror of `conv_encoder`: dense layers, then transposed convolutions of stride 2.

    Args:
        latent_dim: D of the latents `[B, D]`.
        image_shape: Height, width, channels.
        params_per_value: Parameters of the distribution for each value of the image.
        filters: Channels, from the latents to the image.
        hidden: Units of the dense layers, from the latents to the image.
        activation: Activation of the hidden layers.
        small: A small image as the second input, or `None`. It is concatenated with the latents, and
            each transposed convolution takes it as further channels. For a map with more pixels, each
            pixel of the small image is a box; for a map with fewer pixels, boxes are averaged.

    Raises:
        ValueError: If `filters` is empty, or the image cannot be halved that often.
    """
    keras_settings.check()
    _need_one(filters, "filters", "A convolutional network")
    height, width = halves(image_shape, len(filters))
    options: dict[str, Any] = {"kernel_size": 4, "strides": 2, "padding": "same"}
    layers = [
        layer
        for n in filters[1:]
        for layer in _activated(keras.layers.Conv2DTranspose, n, activation, **options)
    ]
    layers = [
        *(layer for units in hidden for layer in _dense(units, activation)),
        *_dense(height * width * filters[0], activation),
        keras.layers.Reshape((height, width, filters[0])),
        *layers,
        keras.layers.Conv2DTranspose(image_shape[-1] * params_per_value, **options),
        keras.layers.Activation("linear", dtype="float32"),
    ]
    return _of_latents(layers, latent_dim, image_shape, small, "conv_decoder")


def _of_latents(layers, latent_dim, image_shape, small, name):
    """A network of latents, whose transposed convolutions or blocks may take a small image."""
    if small is None:
        return keras.Sequential([keras.Input((latent_dim,)), *layers], name=name)
    z, y = keras.Input((latent_dim,)), small.input()
    planes = small.planes(y, image_shape[:2])
    h = keras.layers.Concatenate()([z, keras.layers.Flatten()(y)])
    for layer in layers:
        if isinstance(layer, keras.layers.Conv2DTranspose | keras.Model):
            ratio = image_shape[0] // h.shape[1]
            h = keras.layers.Concatenate()([h, keras.layers.AveragePooling2D(ratio)(planes)])
        h = layer(h)
    return keras.Model([z, y], h, name=f"conditional_{name}")


# Generators and discriminators ----------------------------------------------------------------


def dcgan_generator(
    latent_dim: int, image_shape: Shape, width: int = 64, small: Condition | None = None
) -> keras.Model:
    """The generator of DCGAN, for images of 28, 32 or 64 pixels (4 to 7 times any power of 2).

    A dense layer projects latents to a small map. 5x5 transposed convolutions of stride 2 follow,
    which halve the channels, with batch normalization and ReLU in between. The output is tanh,
    rescaled to [0, 1]. Initial weights are draws of N(0, 0.02^2): Radford et al., "Unsupervised
    Representation Learning with Deep Convolutional Generative Adversarial Networks", 2016, section
    3 and figure 1. https://arxiv.org/abs/1511.06434

    Args:
        latent_dim: D of the latents `[B, D]`, 100 in the paper.
        image_shape: Height, width, channels.
        width: Channels before the last layer; 128 in the paper, for 64 pixels (1024 at 4x4).
        small: As for `conv_decoder`.
    """
    keras_settings.check()
    doublings = _doublings(image_shape)
    height, width_0 = halves(image_shape, doublings)
    top = width * 2 ** (doublings - 1)
    layers = [
        keras.layers.Dense(height * width_0 * top, use_bias=False, kernel_initializer=_dcgan()),
        keras.layers.Reshape((height, width_0, top)),
        _batch_norm(),
        keras.layers.ReLU(),
    ]
    for i in range(1, doublings):
        layers += [
            keras.layers.Conv2DTranspose(
                top // 2**i, 5, 2, "same", use_bias=False, kernel_initializer=_dcgan()
            ),
            _batch_norm(),
            keras.layers.ReLU(),
        ]
    layers += [
        keras.layers.Conv2DTranspose(image_shape[-1], 5, 2, "same", kernel_initializer=_dcgan()),
        keras.layers.Activation("tanh", dtype="float32"),
        keras.layers.Rescaling(0.5, 0.5, dtype="float32"),
    ]
    return _of_latents(layers, latent_dim, image_shape, small, "dcgan_generator")


def dcgan_discriminator(
    image_shape: Shape,
    width: int = 64,
    dropout: float = 0.0,
    features: bool = False,
    batch_norm: bool = True,
    spectral_norm: bool = False,
    projected_classes: int = 0,
) -> keras.Model:
    """The discriminator of DCGAN: the generator's mirror, with leaky ReLU of slope 0.2.

    5x5 convolutions of stride 2 double the channels. All but the first have batch normalization.
    The last layer returns a logit `[B, 1]`. For the reference see `dcgan_generator`.

    Args:
        image_shape: Height, width, channels.
        width: Channels after the first layer.
        dropout: Dropout rate after each activation.
        features: Whether to return `(features[B, F], logits[B, 1])`, as `VAEGAN` requires. The
            features are the normalized output of the last convolution, before its activation.
        batch_norm: Whether the convolutions have batch normalization.
        spectral_norm: Whether all layers have `SpectralNormalization`; not together with
            `batch_norm`.
        projected_classes: Number of classes of a label that the network takes as `[x, y]` with
            `y[B]` ints, by projection: see `mlp_discriminator`. 0 for a network of images only.

    Raises:
        ValueError: If the image cannot be halved often enough, or both normalizations are set.
    """
    keras_settings.check()
    halvings = _doublings(image_shape)
    halves(image_shape, halvings)
    _check_normalization(batch_norm, spectral_norm)
    images, inputs, code = _inputs(image_shape, projected_classes)
    h = keras.layers.Rescaling(2.0, -1.0)(images)
    for i in range(halvings):
        normalized = batch_norm and i > 0
        h = _spectral(
            lambda bias, i=i: keras.layers.Conv2D(
                width * 2**i, 5, 2, "same", use_bias=bias, kernel_initializer=_dcgan()
            ),
            spectral_norm,
            not normalized,
        )(h)
        last = h = _batch_norm()(h) if normalized else h
        h = keras.layers.LeakyReLU(0.2)(h)
        h = keras.layers.Dropout(dropout)(h) if dropout else h
    h = keras.layers.Flatten()(h)
    logits = _logits(h, code, spectral_norm, kernel_initializer=_dcgan())
    outputs = (_float32()(keras.layers.Flatten()(last)), logits) if features else logits
    return keras.Model(inputs, outputs, name="dcgan_discriminator")


def mlp_discriminator(
    image_shape: Shape,
    hidden: Sequence[int] = (240, 240),
    dropout: float = 0.0,
    features: bool = False,
    batch_norm: bool = False,
    spectral_norm: bool = False,
    projected_classes: int = 0,
) -> keras.Model:
    """A multilayer perceptron with leaky ReLU of slope 0.2, from images to a logit `[B, 1]`.

    Args:
        image_shape: Height, width, channels, or any other shape of the input.
        hidden: Units of the hidden layers.
        dropout: Dropout rate of the hidden layers.
        features: Whether to return `(features[B, F], logits[B, 1])`, as `VAEGAN` requires. The
            features are the last hidden layer before its activation.
        batch_norm: Whether all hidden layers but the first have batch normalization before their
            activation.
        spectral_norm: Whether all layers have `SpectralNormalization`; not together with
            `batch_norm`.
        projected_classes: Number of classes of a label that the network takes as `[x, y]` with
            `y[B]` ints; 0 for a network of images only. The logit is
            psi(phi(x)) + <embed(y), phi(x)>, with the last activations phi, a linear psi and a
            learned vector embed(y) for each label. Miyato and Koyama, "cGANs with Projection
            Discriminator", 2018, section 3. https://arxiv.org/abs/1802.05637

    Raises:
        ValueError: If `features` or `projected_classes` is set and `hidden` is empty, or both
            normalizations are set.
    """
    keras_settings.check()
    if features or projected_classes:
        _need_one(hidden, "hidden", "A discriminator with features")
    _check_normalization(batch_norm, spectral_norm)
    images, inputs, code = _inputs(image_shape, projected_classes)
    last = h = keras.layers.Flatten()(keras.layers.Rescaling(2.0, -1.0)(images))
    for i, units in enumerate(hidden):
        normalized = batch_norm and i > 0
        h = _spectral(
            lambda bias, units=units: keras.layers.Dense(units, use_bias=bias),
            spectral_norm,
            not normalized,
        )(h)
        last = h = _batch_norm()(h) if normalized else h
        h = keras.layers.LeakyReLU(0.2)(h)
        if dropout:
            h = keras.layers.Dropout(dropout)(h)
    logits = _logits(h, code, spectral_norm)
    outputs = (_float32()(last), logits) if features else logits
    return keras.Model(inputs, outputs, name="mlp_discriminator")


# Residual networks ----------------------------------------------------------------------------


def residual_block(
    h: keras.KerasTensor,
    filters: int,
    resize: str | None = None,
    activate: Callable[[keras.KerasTensor], keras.KerasTensor] | None = None,
    of_images: bool = False,
    spectral_norm: bool = False,
) -> keras.KerasTensor:
    """A residual block with activations before its convolutions: shortcut(h) + residual(h).

    The residual is two 3x3 convolutions, each after an activation. The shortcut is h, with a 1x1
    convolution if the size or the number of channels changes. Maps are doubled before the first
    convolution, by copying each value, and halved after the second convolution, by means of 2x2
    values. The block is that of Miyato et al., "Spectral Normalization for Generative Adversarial
    Networks", 2018, appendix B, figure 8, and of the authors' code. https://arxiv.org/abs/1802.05957

    Args:
        h: Maps `[B, H, W, C]`.
        filters: Number of output channels.
        resize: "up" to double height and width, "down" to halve them, `None` to keep them.
        activate: Function that adds an activation to maps, and other layers such as batch
            normalization; ReLU if `None`.
        of_images: Whether h are images, which have no activation before the first convolution.
        spectral_norm: Whether the convolutions have `SpectralNormalization`.

    Returns:
        Maps `[B, H', W', filters]`.

    Notes:
        The first convolution has as many output channels as h if the block does not enlarge its
        maps, and `filters` channels otherwise or for images, as in the authors' code. That code
        applies the 1x1 convolution before the maps are halved and after they are doubled; the order
        makes no difference.
    """
    activate = activate or _activation("relu")
    between = filters if of_images or resize == "up" else h.shape[-1]
    shortcut, h = h, h if of_images else activate(h)
    if resize == "up":
        h = keras.layers.UpSampling2D()(h)
    h = _residual_convolution(h, between, 3, spectral_norm)
    h = _residual_convolution(activate(h), filters, 3, spectral_norm)
    if resize == "down":
        h, shortcut = (keras.layers.AveragePooling2D(2)(maps) for maps in (h, shortcut))
    if resize or shortcut.shape[-1] != filters:
        shortcut = _residual_convolution(shortcut, filters, 1, spectral_norm)
    if resize == "up":
        shortcut = keras.layers.UpSampling2D()(shortcut)
    return keras.layers.Add()([h, shortcut])


def resnet_encoder(
    image_shape: Shape,
    outputs: int,
    filters: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (256,),
    activation: str = "relu",
) -> keras.Model:
    """Residual blocks, each of which halves the image, then dense layers: `[B, outputs]`.

    The blocks are those of SNGAN's discriminator (`residual_block`), without normalization.

    Args:
        image_shape: Height, width, channels.
        outputs: Number of outputs.
        filters: Channels of the blocks.
        hidden: Units of the dense layers.
        activation: Activation of blocks and dense layers; not "glu".

    Raises:
        ValueError: If `filters` is empty, if the image cannot be halved to maps of at least 4x4
            pixels that often, or if the activation is "glu".
    """
    keras_settings.check()
    _need_one(filters, "filters", "A residual network")
    _residual_size(image_shape, len(filters))
    activate = _residual_activation(activation)
    layers: list[keras.Model] = []
    shape = tuple(image_shape)
    for i, n in enumerate(filters):
        layers.append(_block(shape, n, "down", activate, i, of_images=i == 0))
        shape = layers[-1].output_shape[1:]
    return keras.Sequential(
        [
            keras.Input(tuple(image_shape)),
            *layers,
            keras.layers.Activation(activation),
            keras.layers.Flatten(),
            *(layer for units in hidden for layer in _dense(units, activation)),
            _linear(outputs),
        ],
        name="resnet_encoder",
    )


def resnet_decoder(
    latent_dim: int,
    image_shape: Shape,
    params_per_value: int = 1,
    filters: Sequence[int] = (64, 32),
    hidden: Sequence[int] = (256,),
    activation: str = "relu",
    small: Condition | None = None,
) -> keras.Model:
    """Dense layers, then residual blocks that double the image, and a 3x3 convolution.

    The blocks are those of SNGAN's generator (`residual_block`), without normalization.

    Args:
        latent_dim: D of the latents `[B, D]`.
        image_shape: Height, width, channels.
        params_per_value: Parameters of the distribution for each value of the image.
        filters: Channels of the input of each block, from the latents to the image. The last block
            has as many output channels as input channels.
        hidden: Units of the dense layers, from the latents to the image.
        activation: Activation of dense layers and blocks; not "glu".
        small: As for `conv_decoder`, with blocks instead of transposed convolutions.

    Raises:
        ValueError: As `resnet_encoder`.
    """
    keras_settings.check()
    _need_one(filters, "filters", "A residual network")
    size = _residual_size(image_shape, len(filters))
    activate = _residual_activation(activation)
    layers = [
        *(layer for units in hidden for layer in _dense(units, activation)),
        *_growing(size, filters[0], (*filters[1:], filters[-1]), activate, small),
        keras.layers.Activation(activation),
        keras.layers.Conv2D(image_shape[-1] * params_per_value, 3, padding="same"),
        keras.layers.Activation("linear", dtype="float32"),
    ]
    return _of_latents(layers, latent_dim, image_shape, small, "resnet_decoder")


def resnet_generator(
    latent_dim: int, image_shape: Shape, width: int = 64, small: Condition | None = None
) -> keras.Model:
    """The residual generator of SNGAN, for images of 32 or 64 pixels (4 to 7 times a power of 2).

    A dense layer projects latents to a map of 4 to 7 pixels. Residual blocks with batch
    normalization double it. Batch normalization, ReLU and a 3x3 convolution follow. The output is
    tanh, rescaled to [0, 1]. See `residual_block` for the reference.

    For images up to 32 pixels, all maps have 2 `width` channels (table 4 of the paper, with `width`
    = 128). For larger images, the channels are halved by each block, and the last block has `width`
    channels (table 5, and the authors' code for 64 pixels, with `width` = 64).

    Args:
        latent_dim: D of the latents `[B, D]`, 128 in the paper.
        image_shape: Height, width, channels.
        width: Number of channels, see above.
        small: As for `conv_decoder`, with blocks instead of transposed convolutions.

    Raises:
        ValueError: If the image cannot be halved to a map of at least 4x4 pixels.

    Example:
        >>> zoo.networks.resnet_generator(128, (32, 32, 3), 4).output_shape
        (None, 32, 32, 3)
    """
    keras_settings.check()
    doublings = _doublings(image_shape)
    size = _residual_size(image_shape, doublings)
    filters = [width * 2**i for i in range(doublings, -1, -1)]
    if _is_small(image_shape):
        filters = [2 * width] * (doublings + 1)
    layers = [
        *_growing(size, filters[0], filters[1:], _activation("relu", batch_norm=True), small),
        _batch_norm(),
        keras.layers.ReLU(),
        keras.layers.Conv2D(image_shape[-1], 3, padding="same"),
        keras.layers.Activation("tanh", dtype="float32"),
        keras.layers.Rescaling(0.5, 0.5, dtype="float32"),
    ]
    return _of_latents(layers, latent_dim, image_shape, small, "resnet_generator")


def resnet_discriminator(
    image_shape: Shape,
    width: int = 64,
    dropout: float = 0.0,
    features: bool = False,
    batch_norm: bool = False,
    spectral_norm: bool = True,
    projected_classes: int = 0,
) -> keras.Model:
    """The residual discriminator of SNGAN, for images of 32 or 64 pixels.

    After the residual blocks come ReLU, the sum over all positions and a dense layer. See
    `residual_block` for the reference.

    For images up to 32 pixels there are four blocks of `width` channels, of which the first two
    halve the maps (table 4 of the paper, with `width` = 128); for images below 16 pixels only the
    first block halves them. For
    larger images, each block halves the maps as long as their sides are even, and doubles the
    channels, from `width` on, until maps have less than 4 pixels (the authors' code for 64 pixels,
    with `width` = 64).

    Args:
        image_shape: Height, width, channels.
        width: Channels of the first block.
        dropout, projected_classes: As for `dcgan_discriminator`.
        features: Whether to return `(features[B, F], logits[B, 1])`, as `VAEGAN` requires. The
            features are the (normalized) output of the last block, before its activation.
        batch_norm: Whether all activations but those of the first block follow batch normalization.
        spectral_norm: Whether all layers have `SpectralNormalization`; not together with
            `batch_norm`.

    Raises:
        ValueError: If the image cannot be halved to a map of at least 4x4 pixels, or both
            normalizations are set.

    Notes:
        As in the authors' code for 64 pixels, the last layer has a bias; in their code for 32
        pixels it has none.
    """
    keras_settings.check()
    _check_normalization(batch_norm, spectral_norm)
    images, inputs, code = _inputs(image_shape, projected_classes)
    h = keras.layers.Rescaling(2.0, -1.0)(images)
    activate = _activation("relu", batch_norm, dropout)
    for i, (filters, resize) in enumerate(_shrinking(image_shape, width)):
        first = i == 0
        in_block = _activation("relu", False, dropout) if first else activate
        h = residual_block(h, filters, resize, in_block, first, spectral_norm)
    last = h = _batch_norm()(h) if batch_norm else h
    h = _activation("relu", False, dropout)(h)
    positions = math.prod(h.shape[1:3])
    h = keras.layers.Rescaling(positions)(keras.layers.GlobalAveragePooling2D()(h))
    logits = _logits(h, code, spectral_norm)
    outputs = (_float32()(keras.layers.Flatten()(last)), logits) if features else logits
    return keras.Model(inputs, outputs, name="resnet_discriminator")


def _shrinking(image_shape, width):
    """Channels and `resize` of the blocks of a residual discriminator."""
    halvings = _doublings(image_shape)
    size = _residual_size(image_shape, halvings)
    if _is_small(image_shape):
        return [(width, "down" if i < min(2, halvings) else None) for i in range(4)]
    last = None if any(n % 2 for n in size) else "down"
    return [(width * 2**i, "down") for i in range(halvings)] + [(width * 2**halvings, last)]


def _growing(size, first, filters, activate, small):
    """A dense layer to maps with `first` channels, and blocks that double them, as layers."""
    height, width = size
    layers = [
        keras.layers.Dense(height * width * first),
        keras.layers.Reshape((height, width, first)),
    ]
    channels = first
    for i, n in enumerate(filters):
        shape = (height * 2**i, width * 2**i, channels + (small.shape[-1] if small else 0))
        layers.append(_block(shape, n, "up", activate, i))
        channels = n
    return layers


def _block(shape, filters, resize, activate, number, **options):
    """A `residual_block` as a network, for a list of layers."""
    maps = keras.Input(shape)
    h = residual_block(maps, filters, resize, activate, **options)
    return keras.Model(maps, h, name=f"block_{number}")


def _residual_convolution(h, filters, kernel_size, spectral_norm):
    # As in the authors' code, initial 3x3 kernels have twice the variance of Glorot and Bengio.
    scale = 2.0 if kernel_size > 1 else 1.0

    def make(bias):
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            use_bias=bias,
            kernel_initializer=keras.initializers.VarianceScaling(scale, "fan_avg", "uniform"),
        )

    return _spectral(make, spectral_norm, True)(h)


def _activation(name, batch_norm=False, dropout=0.0):
    """A function that adds an activation to maps, after batch normalization and before dropout."""

    def activate(h):
        h = _batch_norm()(h) if batch_norm else h
        h = keras.layers.Activation(name)(h)
        return keras.layers.Dropout(dropout)(h) if dropout else h

    return activate


def _residual_activation(name):
    check_not_gated(name, "A residual network")
    return _activation(name)


def _residual_size(image_shape, times):
    """Height and width after halving the image `times` times, at least 4 each."""
    size = halves(image_shape, times)
    if min(size) < 4:
        raise ValueError(
            f"A residual network that halves its images {times} times needs a height and a width of "
            f"at least {4 * 2**times}. Received: {image_shape[0]}x{image_shape[1]}; choose another "
            "`image_size`, or fewer `filters`, if the network has them."
        )
    return size


def _is_small(image_shape):
    """Whether an image has the networks of the paper's table 4."""
    return max(image_shape[:2]) <= 32


def halves(image_shape: Shape, times: int) -> tuple[int, int]:
    """Height and width after halving the image `times` times.

    Raises:
        ValueError: If height or width is not divisible by 2^times.
    """
    height, width = image_shape[:2]
    if height % 2**times or width % 2**times:
        raise ValueError(
            f"A network that halves its images {times} times needs a height and a width divisible "
            f"by {2**times}. Received: {height}x{width}; choose another `image_size`, or fewer "
            "layers."
        )
    return height // 2**times, width // 2**times


@keras.saving.register_keras_serializable("zoo")
class GatedLinearUnit(keras.layers.Layer):
    """h * sigmoid(g), where h and g are the first and the second half of the last axis.

    Dauphin et al., "Language Modeling with Gated Convolutional Networks", 2017, eq. 1.
    https://arxiv.org/abs/1612.08083

    Example:
        >>> zoo.networks.GatedLinearUnit()(np.array([[3.0, 0.0]])).numpy()
        array([[1.5]], dtype=float32)
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return keras.ops.glu(inputs)


@keras.saving.register_keras_serializable("zoo")
class OneHot(keras.layers.Layer):
    """Encodes labels `[B]`, ints from 0 to `classes` - 1, as one-hot vectors `[B, classes]`.

    Args:
        classes: Number of labels.

    Raises:
        ValueError: If `classes` is below 1; when called eagerly, if a label is out of range.

    Example:
        >>> zoo.networks.OneHot(3)(np.array([2, 0])).numpy()
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """

    def __init__(self, classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_counts(classes=classes)
        self.classes = classes

    def call(self, labels: tf.Tensor) -> tf.Tensor:
        if hasattr(labels, "numpy") and len(labels):
            low, high = labels.numpy().min(), labels.numpy().max()
            if low < 0 or high >= self.classes:
                raise ValueError(
                    f"Labels are the numbers from 0 to {self.classes - 1}. "
                    f"Received: labels from {low} to {high}."
                )
        return keras.ops.one_hot(labels, self.classes, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.classes)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"classes": self.classes}


@keras.saving.register_keras_serializable("zoo")
class SpectralNormalization(keras.layers.Layer):
    """A linear layer with the kernel W / sigma(W), whose largest singular value is 1, and a bias.

    Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, section 2.1
    and Algorithm 1. sigma(W) = v^T W u, where W is a matrix with one column for each output. The
    vectors u and v approximate the first singular vectors: each call in training updates them by
    one step of power iteration, as in the authors' code. The gradient flows through W and through
    sigma(W), with u and v constant (eq. 12). https://arxiv.org/abs/1802.05957

    Outside of training, u does not change, and the kernel is W / sigma(W) as in training.

    Args:
        layer: A `Dense`, `Conv2D` or `Conv2DTranspose` without bias and activation.
        use_bias: Whether to add a bias to the normalized output.

    Raises:
        ValueError: If the layer has a bias or an activation.

    Notes:
        `keras.layers.SpectralNormalization` differs: in training it overwrites W with W / sigma(W),
        and outside of training it uses W as stored. If a step calls a network twice, the Keras
        layer normalizes twice.
    """

    def __init__(self, layer: keras.layers.Layer, use_bias: bool = True, **kwargs: Any):
        super().__init__(**({"dtype": layer.dtype_policy} | kwargs))
        if layer.use_bias or layer.activation is not keras.activations.linear:
            raise ValueError(
                "Spectral normalization wraps a linear layer: build the layer with use_bias=False "
                "and without an activation. Received: a layer with "
                f"use_bias={layer.use_bias}, activation={layer.activation.__name__}."
            )
        self.layer = layer
        self.use_bias = use_bias

    def build(self, input_shape: Shape) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
        columns = self.layer.kernel.shape[-1]
        # This state has full precision.
        self.u = self.add_weight(
            name="u",
            shape=(columns,),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            dtype="float32",
            trainable=False,
            autocast=False,
        )
        self.bias = None
        if self.use_bias:
            # A transposed convolution has its outputs on another axis of the kernel.
            outputs = getattr(self.layer, "units", None) or self.layer.filters
            self.bias = self.add_weight(name="bias", shape=(outputs,), initializer="zeros")

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        # Dividing the output of a linear map is equivalent to dividing its kernel.
        outputs = self.layer(inputs)
        sigma = keras.ops.cast(self.sigma(training), outputs.dtype)
        outputs = keras.ops.divide_no_nan(outputs, sigma)
        return outputs if self.bias is None else outputs + self.bias

    def sigma(self, training: bool = False) -> tf.Tensor:
        """The estimate v^T W u of the largest singular value. In training, u is updated first."""
        ops = keras.ops
        kernel = ops.cast(ops.reshape(self.layer.kernel, [-1, self.u.shape[0]]), "float32")
        held, u = ops.stop_gradient(kernel), ops.convert_to_tensor(self.u)
        v = _unit(ops.matmul(held, _unit(u)))
        if training:
            u = _unit(ops.matmul(v, held))
            self.u.assign(u)
        return ops.sum(v * ops.matmul(kernel, _unit(u)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        return super().get_config() | {"layer": layer, "use_bias": self.use_bias}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SpectralNormalization":
        config = dict(config)
        config["layer"] = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**config)


_LAYERS_WITH_BIAS = (
    keras.layers.Dense,
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    SpectralNormalization,
)


def spectrally_normalized(network: keras.Model) -> keras.Model:
    """A new network of the same layers, with `SpectralNormalization` of each layer with a kernel.

    Example:
        >>> decoder = zoo.networks.mlp_decoder(2, (8, 8, 1), hidden=(16,))
        >>> zoo.networks.spectrally_normalized(decoder).output_shape
        (None, 8, 8, 1)
    """

    def normalized(layer):
        if isinstance(layer, keras.Model):
            return spectrally_normalized(layer)
        config = layer.get_config()
        if not hasattr(layer, "kernel"):
            return type(layer).from_config(config)
        linear = type(layer).from_config(config | {"use_bias": False, "activation": None})
        wrapped = SpectralNormalization(linear, layer.use_bias)
        activation = keras.layers.Activation(layer.activation, dtype=layer.dtype_policy)
        return keras.Sequential([wrapped, activation], name=f"{layer.name}_normalized")

    return keras.models.clone_model(network, clone_function=normalized)


def _unit(vector):
    """The vector divided by its length; a zero vector is returned unchanged."""
    return keras.ops.divide_no_nan(vector, keras.ops.norm(vector))


def _check_normalization(batch_norm, spectral_norm):
    if batch_norm and spectral_norm:
        raise ValueError(
            "Batch normalization undoes the bound that spectral normalization sets: build the "
            "discriminator with batch_norm=False, or with spectral_norm=False. Received: both."
        )


def _inputs(image_shape, classes):
    """A discriminator's images, all its inputs, and the one-hot codes of its labels, if any."""
    images = keras.Input(tuple(image_shape))
    if not classes:
        return images, images, None
    labels = keras.Input((), dtype="int32")
    return images, [images, labels], OneHot(classes)(labels)


def _spectral(make, spectral_norm, bias):
    """The layer `make(use_bias)`, with spectral normalization if `spectral_norm` is set."""
    return SpectralNormalization(make(False), bias) if spectral_norm else make(bias)


def _logits(h, code, spectral_norm, **kwargs):
    """A logit `[B, 1]` of the features `h[B, F]`, plus the projection on the labels, if any."""
    logits = _spectral(lambda bias: _linear(1, use_bias=bias, **kwargs), spectral_norm, True)(h)
    if code is None:
        return logits
    embedded = _spectral(
        lambda bias: _linear(h.shape[-1], use_bias=bias, **kwargs), spectral_norm, False
    )(code)
    inner = keras.layers.Dot(1, dtype="float32")([embedded, _float32()(h)])
    return keras.layers.Add(dtype="float32")([logits, inner])


def _need_one(widths, name, what):
    if not len(widths):
        raise ValueError(f"{what} needs at least one layer in `{name}`. Received: {widths!r}.")


def _doublings(image_shape: Shape) -> int:
    """Number of halvings until the map is 4 to 7 pixels wide (2 or 3 for very small images)."""
    side, times = min(image_shape[:2]), 0
    while side > 7 and side % 2 == 0:
        side, times = side // 2, times + 1
    return max(times, 1)


def _batch_norm():
    # The epsilon and momentum of DCGAN's public code.
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


def _dcgan():
    return keras.initializers.RandomNormal(stddev=0.02)


def _float32():
    return keras.layers.Activation("linear", dtype="float32")


def _linear(outputs, **kwargs):
    """The last layer: its output is float32, whatever the precision of its input."""
    return keras.layers.Dense(outputs, dtype="float32", **kwargs)
