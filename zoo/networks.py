"""Builders of networks: each returns a built `keras.Model` on images in [0, 1] or on latents.

Networks end in float32 whatever precision they compute in. Encoders and discriminators return
`[B, outputs]`; decoders and generators return `[B, H, W, C * params_per_value]`.
"""

from collections.abc import Sequence

import keras

Shape = Sequence[int]


def mlp(
    inputs: int, outputs: int, hidden: Sequence[int] = (500,), activation: str = "relu"
) -> keras.Model:
    """A multilayer perceptron from `[B, inputs]` to `[B, outputs]`."""
    layers = [keras.layers.Dense(units, activation) for units in hidden]
    return keras.Sequential([keras.Input((inputs,)), *layers, _linear(outputs)], name="mlp")


def mlp_encoder(
    image_shape: Shape, outputs: int, hidden: Sequence[int] = (500,), activation: str = "relu"
) -> keras.Model:
    """A multilayer perceptron from images to `[B, outputs]`."""
    layers = [keras.layers.Dense(units, activation) for units in hidden]
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
        activation: Of the hidden layers.
        output: Activation of the output: "linear" for parameters, "sigmoid" for images.
        batch_norm: Whether to normalize the hidden layers before their activation.
    """
    height, width, channels = image_shape
    layers = []
    for units in hidden:
        layers.append(keras.layers.Dense(units, use_bias=not batch_norm))
        if batch_norm:
            layers.append(_batch_norm())
        layers.append(keras.layers.Activation(activation))
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
    hidden: int = 256,
    activation: str = "relu",
) -> keras.Model:
    """Strided convolutions, each halving the image, a dense layer, and `[B, outputs]`.

    Raises:
        ValueError: If there is no convolution, or the image cannot be halved so often.
    """
    _need_one(filters, "filters", "A convolutional network")
    halves(image_shape, len(filters))
    layers = [
        keras.layers.Conv2D(n, 4, strides=2, padding="same", activation=activation) for n in filters
    ]
    return keras.Sequential(
        [
            keras.Input(tuple(image_shape)),
            *layers,
            keras.layers.Flatten(),
            keras.layers.Dense(hidden, activation),
            _linear(outputs),
        ],
        name="conv_encoder",
    )


def conv_decoder(
    latent_dim: int,
    image_shape: Shape,
    params_per_value: int = 1,
    filters: Sequence[int] = (64, 32),
    hidden: int = 256,
    activation: str = "relu",
) -> keras.Model:
    """The mirror of `conv_encoder`: dense layers, then transposed convolutions, each doubling.

    Raises:
        ValueError: If there is no convolution, or the image cannot be halved so often.
    """
    _need_one(filters, "filters", "A convolutional network")
    height, width = halves(image_shape, len(filters))
    layers = [
        keras.layers.Conv2DTranspose(n, 4, strides=2, padding="same", activation=activation)
        for n in filters[1:]
    ]
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            keras.layers.Dense(hidden, activation),
            keras.layers.Dense(height * width * filters[0], activation),
            keras.layers.Reshape((height, width, filters[0])),
            *layers,
            keras.layers.Conv2DTranspose(
                image_shape[-1] * params_per_value, 4, strides=2, padding="same"
            ),
            keras.layers.Activation("linear", dtype="float32"),
        ],
        name="conv_decoder",
    )


def dcgan_generator(latent_dim: int, image_shape: Shape, width: int = 64) -> keras.Model:
    """The generator of DCGAN, for images of 28, 32 or 64 pixels (or any 4 to 8 times a power of 2).

    A projection to a small map, then 5x5 transposed convolutions of stride 2 that halve the
    channels, batch normalization and ReLU between, tanh at the end (moved to [0, 1]), weights
    from N(0, 0.02): Radford et al., "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", 2016, section 3 and figure 1.
    https://arxiv.org/abs/1511.06434

    Args:
        latent_dim: D of the latents `[B, D]`, 100 in the paper.
        image_shape: Height, width, channels.
        width: Channels before the last layer; 128 in the paper, for 64 pixels (1024 at 4x4).
    """
    doublings = _doublings(image_shape)
    height, width_0 = halves(image_shape, doublings)
    top = width * 2 ** (doublings - 1)
    layers = [
        keras.Input((latent_dim,)),
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
    return keras.Sequential(layers, name="dcgan_generator")


def dcgan_discriminator(image_shape: Shape, width: int = 64, features: bool = False) -> keras.Model:
    """The discriminator of DCGAN: the generator's mirror, with leaky ReLU of slope 0.2.

    5x5 convolutions of stride 2 that double the channels, batch normalization but for the first,
    and a logit `[B, 1]`. Reference as for `dcgan_generator`.

    Args:
        image_shape: Height, width, channels.
        width: Channels after the first layer.
        features: Whether to return `(features[B, F], logits[B, 1])`, as `VAEGAN` wants, with the
            last convolution's normalized output, before its activation, as features.
    """
    halvings = _doublings(image_shape)
    halves(image_shape, halvings)
    images = keras.Input(tuple(image_shape))
    h = keras.layers.Rescaling(2.0, -1.0)(images)
    for i in range(halvings):
        h = keras.layers.Conv2D(
            width * 2**i, 5, 2, "same", use_bias=i == 0, kernel_initializer=_dcgan()
        )(h)
        last = h = _batch_norm()(h) if i else h
        h = keras.layers.LeakyReLU(0.2)(h)
    logits = _linear(1, kernel_initializer=_dcgan())(keras.layers.Flatten()(h))
    outputs = (_float32()(keras.layers.Flatten()(last)), logits) if features else logits
    return keras.Model(images, outputs, name="dcgan_discriminator")


def mlp_discriminator(
    image_shape: Shape,
    hidden: Sequence[int] = (240, 240),
    dropout: float = 0.0,
    features: bool = False,
) -> keras.Model:
    """A multilayer perceptron with leaky ReLU of slope 0.2, from images to a logit `[B, 1]`.

    Args:
        image_shape: Height, width, channels.
        hidden: Units of the hidden layers.
        dropout: Share of hidden values dropped in training.
        features: Whether to return `(features[B, F], logits[B, 1])`, as `VAEGAN` wants, with the
            last hidden layer before its activation as features.

    Raises:
        ValueError: If features are wanted and there is no hidden layer.
    """
    if features:
        _need_one(hidden, "hidden", "A discriminator with features")
    images = keras.Input(tuple(image_shape))
    h = keras.layers.Flatten()(keras.layers.Rescaling(2.0, -1.0)(images))
    last = h
    for units in hidden:
        last = h = keras.layers.Dense(units)(h)
        h = keras.layers.LeakyReLU(0.2)(h)
        if dropout:
            h = keras.layers.Dropout(dropout)(h)
    logits = _linear(1)(h)
    outputs = (_float32()(last), logits) if features else logits
    return keras.Model(images, outputs, name="mlp_discriminator")


def halves(image_shape: Shape, times: int) -> tuple[int, int]:
    """Height and width after halving the image `times` times.

    Raises:
        ValueError: If they are not divisible.
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
class OneHot(keras.layers.Layer):
    """Labels `[B]`, ints from 0 to `classes` - 1, as vectors `[B, classes]` of a one and zeros.

    Args:
        classes: Number of labels.

    Raises:
        ValueError: When called, outside of a graph, on a label that there is not.

    Example:
        >>> zoo.networks.OneHot(3)(np.array([2, 0])).numpy()
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """

    def __init__(self, classes: int, **kwargs):
        super().__init__(**kwargs)
        if classes < 1:
            raise ValueError(f"There is at least one class. Received: classes={classes}.")
        self.classes = classes

    def call(self, labels):
        if hasattr(labels, "numpy") and len(labels):
            low, high = labels.numpy().min(), labels.numpy().max()
            if low < 0 or high >= self.classes:
                raise ValueError(
                    f"Labels are the numbers from 0 to {self.classes - 1}. "
                    f"Received: labels from {low} to {high}."
                )
        return keras.ops.one_hot(labels, self.classes, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.classes)

    def get_config(self):
        return super().get_config() | {"classes": self.classes}


def _need_one(widths, name, what):
    if not len(widths):
        raise ValueError(f"{what} needs at least one layer in `{name}`. Received: {widths!r}.")


def _doublings(image_shape: Shape) -> int:
    """How often to halve an image for a map of 4 to 7 pixels (2 or 3 for tiny ones)."""
    side, times = min(image_shape[:2]), 0
    while side > 7 and side % 2 == 0:
        side, times = side // 2, times + 1
    return max(times, 1)


def _batch_norm():
    # DCGAN's epsilon and momentum, as in its public code.
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


def _dcgan():
    return keras.initializers.RandomNormal(stddev=0.02)


def _float32():
    return keras.layers.Activation("linear", dtype="float32")


def _linear(outputs, **kwargs):
    """The last layer: float32 results from an output of any precision."""
    return keras.layers.Dense(outputs, dtype="float32", **kwargs)
