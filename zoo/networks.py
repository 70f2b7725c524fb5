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


def dcgan_discriminator(
    image_shape: Shape,
    width: int = 64,
    features: bool = False,
    batch_norm: bool = True,
    spectral_norm: bool = False,
    classes: int = 0,
    projection: bool = False,
) -> keras.Model:
    """The discriminator of DCGAN: the generator's mirror, with leaky ReLU of slope 0.2.

    5x5 convolutions of stride 2 that double the channels, batch normalization but for the first,
    and a logit `[B, 1]`. Reference as for `dcgan_generator`.

    Args:
        image_shape: Height, width, channels.
        width: Channels after the first layer.
        features: Whether to return `(features[B, F], logits[B, 1])`, as `VAEGAN` wants, with the
            last convolution's normalized output, before its activation, as features.
        batch_norm: Whether there is batch normalization.
        spectral_norm: Whether all layers have `SpectralNormalization`; without the other one.
        classes: Number of labels, if the network is to take them: `[x, y]`, with `y[B]` ints. They
            are one-hot planes beside the image's channels, or as `projection` says.
        projection: Whether the label is taken into account at the end instead, through an inner
            product with the last features: see `mlp_discriminator`.

    Raises:
        ValueError: For sizes that the image has not, both normalizations at once, or a projection of
            no label.
    """
    halvings = _doublings(image_shape)
    halves(image_shape, halvings)
    _check_discriminator(batch_norm, spectral_norm, classes, projection)
    images, inputs, code = _judged(image_shape, classes)
    h = keras.layers.Rescaling(2.0, -1.0)(images)
    if classes and not projection:
        planes = keras.layers.UpSampling2D(tuple(image_shape[:2]))(
            keras.layers.Reshape((1, 1, classes))(code)
        )
        h = keras.layers.Concatenate()([h, planes])
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
    h = keras.layers.Flatten()(h)
    logits = _logits(h, code if projection else None, spectral_norm, kernel_initializer=_dcgan())
    outputs = (_float32()(keras.layers.Flatten()(last)), logits) if features else logits
    return keras.Model(inputs, outputs, name="dcgan_discriminator")


def mlp_discriminator(
    image_shape: Shape,
    hidden: Sequence[int] = (240, 240),
    dropout: float = 0.0,
    features: bool = False,
    batch_norm: bool = False,
    spectral_norm: bool = False,
    classes: int = 0,
    projection: bool = False,
) -> keras.Model:
    """A multilayer perceptron with leaky ReLU of slope 0.2, from images to a logit `[B, 1]`.

    Args:
        image_shape: Height, width, channels.
        hidden: Units of the hidden layers.
        dropout: Share of hidden values dropped in training.
        features: Whether to return `(features[B, F], logits[B, 1])`, as `VAEGAN` wants, with the
            last hidden layer before its activation as features.
        batch_norm: Whether to normalize the hidden layers, but for the first, before their
            activation.
        spectral_norm: Whether all layers have `SpectralNormalization`; without the other one.
        classes: Number of labels, if the network is to take them: `[x, y]`, with `y[B]` ints. Their
            one-hot codes go in beside the image's values, or as `projection` says.
        projection: Whether the label is taken into account at the end instead: the logit is
            psi(phi(x)) + <embed(y), phi(x)>, with the last activations phi, a linear psi and a
            learned vector embed(y) for each label. Miyato and Koyama, "cGANs with Projection
            Discriminator", 2018, section 3. https://arxiv.org/abs/1802.05637

    Raises:
        ValueError: If features or a projection are wanted and there is no hidden layer; for both
            normalizations at once, or a projection of no label.
    """
    if features or projection:
        _need_one(hidden, "hidden", "A discriminator with features")
    _check_discriminator(batch_norm, spectral_norm, classes, projection)
    images, inputs, code = _judged(image_shape, classes)
    h = keras.layers.Flatten()(keras.layers.Rescaling(2.0, -1.0)(images))
    if classes and not projection:
        h = keras.layers.Concatenate()([h, code])
    last = h
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
    logits = _logits(h, code if projection else None, spectral_norm)
    outputs = (_float32()(last), logits) if features else logits
    return keras.Model(inputs, outputs, name="mlp_discriminator")


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


def beside_label(network: keras.Model, latent_dim: int, classes: int) -> keras.Model:
    """A network of `[z, y]`, latents `[B, latent_dim]` and labels `[B]`, from one of both in a vector.

    Args:
        network: From `[B, latent_dim + classes]`; the label comes last, as a one-hot code.
        latent_dim: D of the latents.
        classes: Number of labels.
    """
    z, y = keras.Input((latent_dim,)), keras.Input((), dtype="int32")
    both = keras.layers.Concatenate()([z, OneHot(classes)(y)])
    return keras.Model([z, y], network(both), name=f"{network.name}_beside_label")


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


@keras.saving.register_keras_serializable("zoo")
class SpectralNormalization(keras.layers.Layer):
    """A linear layer with the kernel W / sigma(W), whose largest singular value is 1, and a bias.

    Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, section 2.1
    and Algorithm 1. sigma(W) = v^T W u, with W as a matrix of a column for each output, and vectors u
    and v that follow its singular ones by a step of power iteration at each call in training, as in
    the authors' code. The gradient goes through W and through sigma(W), and takes u and v for
    constants (eq. 12). https://arxiv.org/abs/1802.05957

    Outside of training u stays as it is, and the kernel is W / sigma(W) all the same. Not so in
    `keras.layers.SpectralNormalization`, which in training overwrites W by W / sigma(W), and outside
    of it takes W as it finds it. It would also normalize twice where a network is called twice in a
    step. That is why it is not used here.

    Args:
        layer: A `Dense` or `Conv2D` without bias and activation, which come after the division.
        use_bias: Whether to add a bias.

    Raises:
        ValueError: If the layer has a bias or an activation.
    """

    def __init__(self, layer: keras.layers.Layer, use_bias: bool = True, **kwargs):
        super().__init__(**({"dtype": layer.dtype_policy} | kwargs))
        if layer.use_bias or layer.activation is not keras.activations.linear:
            raise ValueError(
                "Spectral normalization is of a linear map: make the layer with use_bias=False and "
                "no activation. Received: a layer with "
                f"use_bias={layer.use_bias}, activation={layer.activation.__name__}."
            )
        self.layer = layer
        self.use_bias = use_bias

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)
        outputs = self.layer.kernel.shape[-1]
        # In full precision, and trained by nobody.
        self.u = self.add_weight(
            name="u",
            shape=(outputs,),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            dtype="float32",
            trainable=False,
            autocast=False,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(outputs,), initializer="zeros")

    def call(self, inputs, training=False):
        # A linear map divided is the map of a divided kernel.
        outputs = self.layer(inputs)
        sigma = keras.ops.cast(self.sigma(training), outputs.dtype)
        outputs = keras.ops.divide_no_nan(outputs, sigma)
        return outputs if self.bias is None else outputs + self.bias

    def sigma(self, training: bool = False):
        """v^T W u, the estimate of the largest singular value; in training u takes a step first."""
        ops = keras.ops
        kernel = ops.cast(ops.reshape(self.layer.kernel, [-1, self.u.shape[0]]), "float32")
        held, u = ops.stop_gradient(kernel), ops.convert_to_tensor(self.u)
        v = _unit(ops.matmul(held, _unit(u)))
        if training:
            u = _unit(ops.matmul(v, held))
            self.u.assign(u)
        return ops.sum(v * ops.matmul(kernel, _unit(u)))

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return super().get_config() | {"layer": layer, "use_bias": self.use_bias}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["layer"] = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**config)


def _unit(vector):
    """The vector in its direction of length 1. Of zeros, zeros."""
    return keras.ops.divide_no_nan(vector, keras.ops.norm(vector))


def _check_discriminator(batch_norm, spectral_norm, classes, projection):
    if batch_norm and spectral_norm:
        raise ValueError(
            "Batch normalization rescales again what spectral normalization bounds: build the "
            "discriminator with batch_norm=False, or with spectral_norm=False. Received: both."
        )
    if projection and not classes:
        raise ValueError("A projection is of a label: give the number of `classes`. Received: 0.")


def _judged(image_shape, classes):
    """A discriminator's images, its inputs, and the one-hot codes of the labels among them."""
    images = keras.Input(tuple(image_shape))
    if not classes:
        return images, images, None
    labels = keras.Input((), dtype="int32")
    return images, [images, labels], OneHot(classes)(labels)


def _spectral(make, spectral_norm, bias):
    """The layer `make(use_bias)`, normalized or not."""
    return SpectralNormalization(make(False), bias) if spectral_norm else make(bias)


def _logits(h, code, spectral_norm, **kwargs):
    """A logit `[B, 1]` of the features `h[B, F]` and, projected on them, the labels' codes."""
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
