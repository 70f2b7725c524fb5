"""Networks: shapes, ranges, DCGAN's and SNGAN's layers, conditions, normalizations, precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow

import zoo
from zoo import keras_internals, networks

RNG = np.random.default_rng(0)
GREY, COLOUR = 1, 3
SIZES = [(28, GREY), (32, COLOUR), (64, COLOUR), (8, GREY)]


def images(size, channels, n=3):
    return RNG.uniform(size=(n, size, size, channels)).astype(np.float32)


def latents(dim=5, n=3, scale=1.0):
    return (scale * RNG.normal(size=(n, dim))).astype(np.float32)


def layers_of(network, kind):
    return [layer for layer in network.layers if isinstance(layer, kind)]


@pytest.mark.parametrize(("size", "channels"), SIZES)
@pytest.mark.parametrize("params_per_value", [1, 2])
def test_encoders_and_decoders_have_the_given_shapes(size, channels, params_per_value):
    shape = (size, size, channels)
    x, z = images(size, channels), latents()
    for encoder in (
        networks.mlp_encoder(shape, 7, (4,)),
        networks.conv_encoder(shape, 7, (2, 3), (4,)),
    ):
        assert encoder.built and encoder(x).shape == (3, 7)
    for decoder in (
        networks.mlp_decoder(5, shape, params_per_value, (4,)),
        networks.conv_decoder(5, shape, params_per_value, (3, 2), (4,)),
    ):
        assert decoder.built and decoder(z).shape == (3, size, size, channels * params_per_value)


def gated(values):
    h, g = np.split(values, 2, -1)
    return h / (1 + np.exp(-g))


def test_gated_layers_multiply_one_linear_map_by_the_sigmoid_of_another():
    x = images(8, GREY)
    network = networks.mlp_encoder((8, 8, 1), 7, (6, 4), "glu")
    first, second, last = layers_of(network, keras.layers.Dense)
    assert [layer.units for layer in (first, second, last)] == [12, 8, 7]
    h = gated(x.reshape(3, 64) @ first.kernel.numpy())
    want = gated(h @ second.kernel.numpy()) @ last.kernel.numpy()
    np.testing.assert_allclose(network(x), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        ("vae", {"hidden": (4, 3)}),
        ("vae", {"network": "conv", "filters": (2,), "hidden": (3,), "posterior": "iaf"}),
        ("hvae", {"hidden": (4,), "latent_dims": (2, 2)}),
        ("wae", {"hidden": (4,)}),
    ],
)
def test_models_with_gated_layers_reconstruct_and_sample(builder, options):
    sizes = {} if "latent_dims" in options else {"latent_dim": 2}
    model = getattr(zoo.models, builder)((8, 8, 1), activation="glu", **sizes, **options)
    assert model.reconstruct(images(8, GREY)).shape == model.sample(3).shape == (3, 8, 8, 1)


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        ("m2", {"num_classes": 10}),
        ("avb", {}),
        ("aae", {"posterior": "implicit"}),
        ("vae", {"network": "resnet", "filters": (2,)}),
    ],
)
def test_networks_without_gated_layers_refuse_them(builder, options):
    with pytest.raises(ValueError, match=r"no gated layers.*Received: activation='glu'"):
        getattr(zoo.models, builder)(
            (8, 8, 1), latent_dim=2, hidden=(8, 6), activation="glu", **options
        )


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gated_networks_have_the_shapes_of_others(batch_norm):
    x, z = images(8, GREY), latents()
    decoder = networks.mlp_decoder(5, (8, 8, 1), 2, (4,), "glu", batch_norm=batch_norm)
    assert decoder(z).shape == (3, 8, 8, 2)
    assert networks.conv_encoder((8, 8, 1), 7, (2, 3), (4,), "glu")(x).shape == (3, 7)
    assert networks.conv_decoder(5, (8, 8, 1), 2, (3, 2), (4,), "glu")(z).shape == (3, 8, 8, 2)
    assert networks.mlp(5, 2, (4,), "glu")(z).shape == (3, 2)


@pytest.mark.parametrize(("size", "channels"), SIZES)
def test_dcgans_networks_have_the_shapes_of_images_and_logits(size, channels):
    shape = (size, size, channels)
    generator = networks.dcgan_generator(5, shape, 2)
    fake = generator(latents(scale=100.0), training=True).numpy()
    assert fake.shape == (3, *shape) and fake.min() >= 0 and fake.max() <= 1
    assert networks.dcgan_discriminator(shape, 2)(images(size, channels)).shape == (3, 1)


def test_generated_images_cover_the_range_from_0_to_1():
    generator = networks.dcgan_generator(5, (8, 8, 1), 2)
    *others, kernel, bias = generator.get_weights()
    for value, expected in ((-50.0, 0.0), (0.0, 0.5), (50.0, 1.0)):
        generator.set_weights([*others, np.zeros_like(kernel), np.full_like(bias, value)])
        np.testing.assert_allclose(generator(latents()), expected, atol=1e-6)


def test_discriminators_rescale_images_to_minus_one_to_one():
    for network in (
        networks.dcgan_discriminator((8, 8, 1), 2, features=True),
        networks.mlp_discriminator((8, 8, 1), (4,), features=True),
    ):
        kernel, bias = network.get_weights()[:2]
        features, _ = network(np.full((1, 8, 8, 1), 0.5, np.float32))
        # Grey is 0 after rescaling, so that the features are the bias.
        np.testing.assert_allclose(features, 0.0, atol=1e-6)
        assert (bias == 0).all() and kernel.any()
        white, _ = network(np.ones((1, 8, 8, 1), np.float32))
        black, _ = network(np.zeros((1, 8, 8, 1), np.float32))
        np.testing.assert_allclose(white, -np.asarray(black), rtol=1e-5)
        assert np.abs(white).max() > 1e-3


def test_dcgan_initializes_weights_with_a_standard_deviation_of_0_02():
    generator = networks.dcgan_generator(50, (16, 16, 3), 8)
    discriminator = networks.dcgan_discriminator((16, 16, 3), 16)
    kinds = (keras.layers.Conv2D, keras.layers.Conv2DTranspose, keras.layers.Dense)
    for network in (generator, discriminator):
        kernels = [layer.kernel.numpy() for layer in layers_of(network, kinds)]
        assert len(kernels) == 3
        for kernel in kernels:
            tolerance = 4 * 0.02 / np.sqrt(2 * kernel.size)
            assert abs(kernel.std() - 0.02) < tolerance
            assert abs(kernel.mean()) < 4 * 0.02 / np.sqrt(kernel.size)
            # The normal is not truncated at two deviations.
            assert kernel.size < 1000 or np.abs(kernel).max() > 0.05


@pytest.mark.parametrize("size", [28, 64])
def test_dcgan_normalizes_all_layers_except_the_generators_last_and_the_discriminators_first(size):
    normalization = keras.layers.BatchNormalization
    generator = networks.dcgan_generator(5, (size, size, 1), 2)
    deconvolutions = layers_of(generator, keras.layers.Conv2DTranspose)
    assert len(layers_of(generator, normalization)) == len(deconvolutions)  # one after the Dense
    last = generator.layers.index(deconvolutions[-1])
    assert not any(isinstance(layer, normalization) for layer in generator.layers[last:])
    discriminator = networks.dcgan_discriminator((size, size, 1), 2)
    convolutions = layers_of(discriminator, keras.layers.Conv2D)
    assert len(layers_of(discriminator, normalization)) == len(convolutions) - 1
    first, second = (discriminator.layers.index(c) for c in convolutions[:2])
    assert not any(isinstance(layer, normalization) for layer in discriminator.layers[first:second])
    assert isinstance(discriminator.layers[second + 1], normalization)
    for layer in layers_of(discriminator, keras.layers.LeakyReLU):
        assert layer.negative_slope == pytest.approx(0.2)
    for layer in (*convolutions, *deconvolutions):
        assert layer.kernel_size == (5, 5) and layer.strides == (2, 2)


def test_dcgan_at_64_pixels_has_the_papers_channels():
    generator = networks.dcgan_generator(5, (64, 64, 3), 128)
    assert generator.layers[1].output.shape == (None, 4, 4, 1024)
    filters = [layer.filters for layer in layers_of(generator, keras.layers.Conv2DTranspose)]
    assert filters == [512, 256, 128, 3]


@pytest.mark.parametrize(
    "build",
    [
        lambda: networks.conv_encoder((28, 28, 1), 3, (2, 2, 2)),
        lambda: networks.conv_decoder(3, (28, 28, 1), 1, (2, 2, 2)),
        lambda: networks.dcgan_generator(3, (9, 9, 1), 2),
        lambda: networks.halves((8, 12), 3),
        lambda: networks.resnet_encoder((12, 10, 1), 3, (2, 2)),
        lambda: networks.resnet_decoder(3, (10, 12, 1), 1, (2, 2)),
        lambda: networks.resnet_generator(3, (9, 9, 1), 2),
        lambda: networks.resnet_discriminator((9, 9, 1), 2),
    ],
)
def test_images_that_cannot_be_halved_are_refused(build):
    with pytest.raises(ValueError, match=r"divisible by \d+\. Received: \d+x\d+"):
        build()


# Residual networks -------------------------------------------------------------------------------


def count(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def convolution(kernel, inputs, outputs):
    return kernel**2 * inputs * outputs + outputs


def test_residual_networks_at_32_pixels_have_the_papers_maps_and_parameters():
    # Table 4: a dense layer to 4x4x256 and three blocks of 256; four blocks of 128, of which two halve.
    generator = networks.resnet_generator(128, (32, 32, 3), 128)
    blocks = layers_of(generator, keras.Model)
    assert [block.output_shape for block in blocks] == [
        (None, 8, 8, 256), (None, 16, 16, 256), (None, 32, 32, 256)
    ]  # fmt: skip
    normalization = 2 * 256
    block = 2 * normalization + 2 * convolution(3, 256, 256) + convolution(1, 256, 256)
    dense = (128 + 1) * 4 * 4 * 256
    assert count(generator) == dense + 3 * block + normalization + convolution(3, 256, 3)
    discriminator = networks.resnet_discriminator((32, 32, 3), 128)
    sums = layers_of(discriminator, keras.layers.Add)
    assert [tuple(layer.output.shape) for layer in sums] == [
        (None, 16, 16, 128), (None, 8, 8, 128), (None, 8, 8, 128), (None, 8, 8, 128)
    ]  # fmt: skip
    first = convolution(3, 3, 128) + convolution(3, 128, 128) + convolution(1, 3, 128)
    second = 2 * convolution(3, 128, 128) + convolution(1, 128, 128)
    others = 2 * 2 * convolution(3, 128, 128)
    assert count(discriminator) == first + second + others + 128 + 1


def test_residual_networks_at_64_pixels_have_the_channels_of_the_authors_code():
    # The widths 64 to 1024 of the code are 1 to 16 here.
    generator = networks.resnet_generator(5, (64, 64, 3), 1)
    maps = [layer.output_shape[1:] for layer in layers_of(generator, keras.Model)]
    assert maps == [(8, 8, 8), (16, 16, 4), (32, 32, 2), (64, 64, 1)]
    assert count(layers_of(generator, keras.layers.Dense)[0]) == (5 + 1) * 4 * 4 * 16
    discriminator = networks.resnet_discriminator((64, 64, 3), 1)
    maps = [tuple(layer.output.shape[1:]) for layer in layers_of(discriminator, keras.layers.Add)]
    assert maps == [(32, 32, 1), (16, 16, 2), (8, 8, 4), (4, 4, 8), (2, 2, 16)]
    # A block that does not enlarge its maps changes the channels in its second convolution.
    kernels = [v.shape for v in discriminator.trainable_variables if v.shape[0] == 3]
    assert kernels[:4] == [(3, 3, 3, 1), (3, 3, 1, 1), (3, 3, 1, 1), (3, 3, 1, 2)]


@pytest.mark.parametrize(
    ("shape", "maps"),
    [
        ((8, 8, 1), [(4, 4)] * 4),
        ((16, 24, 1), [(8, 12)] + [(4, 6)] * 3),
        ((28, 28, 1), [(14, 14)] + [(7, 7)] * 3),
        ((40, 40, 1), [(20, 20), (10, 10), (5, 5), (5, 5)]),
    ],
)
def test_residual_networks_of_other_sizes_keep_at_least_4_pixels(shape, maps):
    discriminator = networks.resnet_discriminator(shape, 1)
    sums = layers_of(discriminator, keras.layers.Add)
    assert [tuple(layer.output.shape[1:3]) for layer in sums] == maps
    assert networks.resnet_generator(5, shape, 1).output_shape == (None, *shape)
    outputs = networks.resnet_encoder(shape, 7, (2,), (4,)).output_shape
    assert outputs == (None, 7)
    assert networks.resnet_decoder(5, shape, 2, (2,), (4,)).output_shape == (
        None, *shape[:2], 2 * shape[-1]
    )  # fmt: skip


def convolved(x, kernel, bias):
    """A convolution of stride 1 with zeros around the images, as sums of matrix products."""
    size, (height, width) = kernel.shape[0], x.shape[1:3]
    x = np.pad(x, [(0, 0)] + [(size // 2, size // 2)] * 2 + [(0, 0)])
    return bias + sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(size) for j in range(size)
    )


def resized(x, resize):
    if resize == "up":
        return x.repeat(2, 1).repeat(2, 2)
    if resize == "down":
        batch, height, width, channels = x.shape
        return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    return x


def block_by_hand(x, weights, resize, of_images):
    """The order of the authors' code: a shortcut is doubled before its convolution."""
    first, second, *shortcut = weights
    h = x if of_images else np.maximum(x, 0)
    h = convolved(resized(h, resize) if resize == "up" else h, *first)
    h = convolved(np.maximum(h, 0), *second)
    if resize == "up":
        x = resized(x, resize)
    if shortcut:
        x = convolved(x, *shortcut[0])
    return resized(h, resize) + resized(x, resize) if resize == "down" else h + x


@pytest.mark.parametrize(
    ("resize", "filters", "of_images"),
    [
        (None, 3, False),
        (None, 4, False),
        ("up", 2, False),
        ("down", 3, False),
        ("down", 5, False),
        ("down", 5, True),
    ],
)
@pytest.mark.parametrize("spectral_norm", [False, True], ids=["", "spectral"])
def test_a_residual_block_is_that_of_numpy(resize, filters, of_images, spectral_norm):
    maps = keras.Input((4, 6, 3))
    block = keras.Model(
        maps,
        networks.residual_block(
            maps, filters, resize, of_images=of_images, spectral_norm=spectral_norm
        ),
    )
    for variable in block.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    kind = networks.SpectralNormalization if spectral_norm else keras.layers.Conv2D
    pairs = [
        (layer.layer.kernel / layer.sigma() if spectral_norm else layer.kernel, layer.bias)
        for layer in layers_of(block, kind)
    ]
    # The two 3x3 convolutions are in the order of the graph.
    pairs = sorted(
        [(np.asarray(kernel), np.asarray(bias)) for kernel, bias in pairs],
        key=lambda pair: -pair[0].shape[0],
    )
    between = filters if of_images or resize == "up" else 3
    assert [kernel.shape for kernel, _ in pairs[:2]] == [
        (3, 3, 3, between),
        (3, 3, between, filters),
    ]
    assert len(pairs) == (3 if resize or filters != 3 else 2)
    x = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
    expected = block_by_hand(x, pairs, resize, of_images)
    np.testing.assert_allclose(block(x), expected, rtol=1e-3, atol=1e-3)


def test_the_kernels_of_a_trained_residual_discriminator_have_the_largest_singular_value_1():
    network = networks.resnet_discriminator((8, 8, 1), 3)
    x = tf.constant(images(8, 1))
    for _ in range(60):
        network(x, training=True)
    layers = layers_of(network, networks.SpectralNormalization)
    assert (
        len(layers) == 4 * 2 + 1 + 1
    )  # Only the block that halves its maps has a shortcut's kernel.
    for layer in layers:
        kernel = layer.layer.kernel.numpy() / float(layer.sigma())
        values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
        assert values[0] == pytest.approx(1, abs=0.02)


def test_only_generators_and_some_discriminators_normalize_residual_blocks():
    normalization = keras.layers.BatchNormalization

    def kinds(network):
        inner = keras_internals.layers_in(network)
        return [sum(isinstance(layer, k) for layer in inner) for k in (normalization, networks.SpectralNormalization)]  # fmt: skip

    shape = (16, 16, 1)
    assert kinds(networks.resnet_generator(5, shape, 2)) == [2 * 2 + 1, 0]
    assert kinds(networks.resnet_encoder(shape, 5, (2, 2))) == [0, 0]
    assert kinds(networks.resnet_decoder(5, shape, 1, (2, 2))) == [0, 0]
    # Three blocks with two activations, and the last activation
    assert kinds(networks.resnet_discriminator(shape, 2, 0.0, False, True, False)) == [7, 0]
    encoder = networks.spectrally_normalized(networks.resnet_encoder(shape, 5, (2, 2), (4,)))
    assert kinds(encoder) == [0, 3 + 3 + 2]
    with pytest.raises(ValueError, match=r"batch_norm=False.*Received: both"):
        networks.resnet_discriminator(shape, batch_norm=True, spectral_norm=True)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_logit_is_linear_in_the_sum_of_the_activated_features_over_positions(batch_norm):
    network = networks.resnet_discriminator(
        (16, 16, 1), 3, features=True, batch_norm=batch_norm, spectral_norm=False
    )
    features, logits = network(images(16, 1))
    assert features.shape == (3, 4 * 4 * 3)
    phi = np.maximum(features, 0).reshape(3, 16, 3).sum(1)
    (dense,) = layers_of(network, keras.layers.Dense)
    np.testing.assert_allclose(logits, phi @ dense.kernel + dense.bias, rtol=1e-4, atol=1e-5)


def test_a_residual_projection_uses_the_sum_over_positions():
    x, y = images(16, 1), np.array([2, 0, 1])
    network = networks.discriminator(
        "resnet", (16, 16, 1), width=5, condition=LABEL, projection=True
    )
    [embedding] = [w for w in network.get_weights() if w.shape == (3, 5)]
    (pooling,) = layers_of(network, keras.layers.GlobalAveragePooling2D)
    phi = keras.Model(network.input, pooling.output)([x, y]).numpy() * 16
    differences = network([x, y]) - network([x, np.zeros_like(y)])
    expected = ((embedding[y] - embedding[0]) * phi).sum(1)
    np.testing.assert_allclose(differences[:, 0], expected, rtol=1e-3, atol=1e-5)


def test_residual_networks_have_the_initial_weights_of_the_authors_code():
    generator = networks.resnet_generator(5, (16, 16, 3), 16)
    for layer in keras_internals.layers_in(generator):
        if isinstance(layer, keras.layers.Conv2D):
            size, _, inputs, outputs = layer.kernel.shape
            inside = size == 3 and outputs != 3
            limit = np.sqrt((2 if inside else 1) * 6 / (size**2 * (inputs + outputs)))
            if outputs == 3:
                continue  # Glorot's limit is Keras's own.
            assert 0.98 * limit < np.abs(layer.kernel).max() <= limit * (1 + 1e-6)


@pytest.mark.parametrize("make", [networks.resnet_encoder, networks.resnet_decoder])
def test_gated_residual_networks_are_refused(make):
    arguments = ((8, 8, 1), 5) if make is networks.resnet_encoder else (5, (8, 8, 1))
    with pytest.raises(ValueError, match=r"no gated layers.*Received: activation='glu'"):
        make(*arguments, filters=(2,), activation="glu")


@pytest.mark.parametrize(
    "build",
    [
        lambda: networks.resnet_encoder((8, 8, 1), 3, (2, 2)),
        lambda: networks.resnet_decoder(3, (8, 8, 1), 1, (2, 2)),
        lambda: networks.resnet_generator(3, (4, 4, 1)),
        lambda: networks.resnet_discriminator((6, 6, 1)),
    ],
)
def test_residual_networks_of_maps_below_4_pixels_are_refused(build):
    with pytest.raises(ValueError, match=r"height and a width of at least \d+\. Received: \dx\d;"):
        build()


@pytest.mark.parametrize(("times", "expected"), [(0, (24, 16)), (1, (12, 8)), (3, (3, 2))])
def test_halves_divides_by_powers_of_two(times, expected):
    assert networks.halves((24, 16, 3), times) == expected


def test_features_are_the_last_convolution_normalized_before_its_activation():
    network = networks.dcgan_discriminator((28, 28, 1), 2, features=True)
    normalization = layers_of(network, keras.layers.BatchNormalization)[-1]
    gamma, beta, mean, variance = RNG.uniform(0.5, 2, size=(4, 4)).astype(np.float32)
    normalization.set_weights([gamma, beta, mean, variance])
    x = images(28, 1)
    features, logits = network(x)
    assert features.shape == (3, 7 * 7 * 4) and logits.shape == (3, 1)
    last = layers_of(network, keras.layers.Conv2D)[-1]
    convolved = np.asarray(keras.Model(network.input, last.output)(x))
    expected = (convolved - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(features, expected.reshape(3, -1), rtol=1e-4, atol=1e-5)
    assert np.asarray(features).min() < 0


def test_features_of_the_perceptron_are_its_last_hidden_layer_before_the_activation():
    network = networks.mlp_discriminator((4, 4, 1), (6, 5), features=True)
    x = images(4, 1)
    w1, b1, w2, b2, w3, b3 = network.get_weights()
    hidden = (2 * x.reshape(3, -1) - 1) @ w1 + b1
    expected = np.where(hidden > 0, hidden, 0.2 * hidden) @ w2 + b2
    features, logits = network(x)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    activated = np.where(expected > 0, expected, 0.2 * expected)
    np.testing.assert_allclose(logits, activated @ w3 + b3, rtol=1e-4, atol=1e-5)


def test_dropout_is_active_only_in_training():
    network = networks.mlp_discriminator((4, 4, 1), (50,), dropout=0.5)
    x = images(4, 1)
    np.testing.assert_array_equal(network(x), network(x))
    assert np.abs(network(x, training=True) - network(x, training=True)).max() > 1e-4


@pytest.fixture
def half_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


SHAPE = (8, 8, 1)
BUILDERS = {
    "mlp": lambda: (networks.mlp(5, 2, (4,)), latents()),
    "mlp_encoder": lambda: (networks.mlp_encoder(SHAPE, 2, (4,)), images(8, 1)),
    "mlp_decoder": lambda: (networks.mlp_decoder(5, SHAPE, 2, (4,), batch_norm=True), latents()),
    "conv_encoder": lambda: (networks.conv_encoder(SHAPE, 2, (2,), (4,)), images(8, 1)),
    "conv_decoder": lambda: (networks.conv_decoder(5, SHAPE, 2, (2,), (4,)), latents()),
    "dcgan_generator": lambda: (networks.dcgan_generator(5, SHAPE, 2), latents()),
    "dcgan_discriminator": lambda: (
        networks.dcgan_discriminator(SHAPE, 2, features=True), images(8, 1)
    ),
    "mlp_discriminator": lambda: (
        networks.mlp_discriminator(SHAPE, (4, 4), 0.1, features=True), images(8, 1)
    ),
    "resnet_encoder": lambda: (networks.resnet_encoder(SHAPE, 2, (2,), (4,)), images(8, 1)),
    "resnet_decoder": lambda: (networks.resnet_decoder(5, SHAPE, 2, (2,), (4,)), latents()),
    "resnet_generator": lambda: (networks.resnet_generator(5, SHAPE, 2), latents()),
    "resnet_discriminator": lambda: (
        networks.resnet_discriminator(SHAPE, 2, features=True), images(8, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_networks_end_in_float32_and_keep_float32_weights_in_half_precision(name, half_precision):
    network, inputs = BUILDERS[name]()
    inner = {layer.compute_dtype for layer in network.layers if layer.weights}
    assert "bfloat16" in inner
    for output in tf.nest.flatten(network(inputs)):
        assert output.dtype == tf.float32 and np.isfinite(output).all()
    assert {v.dtype for v in network.trainable_variables} == {"float32"}


@pytest.mark.parametrize("name", ["dcgan_generator", "mlp_decoder"])
def test_generated_images_are_not_rounded_to_half_precision(name, half_precision):
    if name == "dcgan_generator":
        network = networks.dcgan_generator(5, (32, 32, 1), 4)
    else:
        network = networks.mlp_decoder(5, (32, 32, 1), 1, (20,), output="sigmoid")
    fake = network(latents(scale=3.0)).numpy()
    rounded = tf.cast(tf.cast(fake, tf.bfloat16), tf.float32).numpy()
    assert (fake != rounded).mean() > 0.5


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: networks.conv_encoder((8, 8, 1), 3, ()), "filters"),
        (lambda: networks.conv_decoder(3, (8, 8, 1), filters=[]), "filters"),
        (lambda: networks.mlp_discriminator((8, 8, 1), (), features=True), "hidden"),
        (lambda: networks.resnet_encoder((8, 8, 1), 3, ()), "filters"),
        (lambda: networks.resnet_decoder(3, (8, 8, 1), filters=()), "filters"),
    ],
)
def test_networks_without_a_required_layer_are_refused(build, name):
    with pytest.raises(ValueError, match=rf"at least one layer in `{name}`\. Received: [\[(]"):
        build()


def test_perceptrons_without_hidden_layers_are_linear():
    x = images(4, 1)
    for network, scale in (
        (networks.mlp_encoder((4, 4, 1), 2, ()), 1.0),
        # The discriminator rescales images to [-1, 1].
        (networks.mlp_discriminator((4, 4, 1), ()), 2.0),
    ):
        kernel, bias = network.get_weights()
        expected = (scale * x - (scale - 1)).reshape(len(x), -1) @ kernel + bias
        np.testing.assert_allclose(network(x), expected, rtol=1e-5, atol=1e-5)


# Spectral normalization ---------------------------------------------------------------------------


def normalized(kind, use_bias=True):
    """A normalized layer, an input for it, and its raw kernel."""
    if kind == "dense":
        inner, shape = keras.layers.Dense(5, use_bias=False), (4,)
    else:
        inner, shape = keras.layers.Conv2D(5, 3, 2, "same", use_bias=False), (6, 6, 2)
    layer = networks.SpectralNormalization(inner, use_bias)
    layer.build((None, *shape))
    layer.layer.kernel.assign(RNG.normal(size=layer.layer.kernel.shape))
    if use_bias:
        layer.bias.assign(RNG.normal(size=5))
    return layer, tf.constant(RNG.normal(size=(3, *shape)).astype(np.float32))


def largest(kernel):
    return np.linalg.svd(np.reshape(kernel, [-1, kernel.shape[-1]]), compute_uv=False)[0]


KINDS = pytest.mark.parametrize("kind", ["dense", "conv"])


@KINDS
@pytest.mark.parametrize("training", [True, slow(False)], ids=["training", "inference"])
def test_the_normalized_kernel_converges_to_the_largest_singular_value_1(kind, training):
    layer, x = normalized(kind)
    raw = layer.layer.kernel.numpy()
    for _ in range(200):
        layer(x, training=True)
    np.testing.assert_array_equal(layer.layer.kernel, raw)  # Keras's layer would overwrite it.
    np.testing.assert_allclose(layer.sigma(), largest(raw), rtol=1e-5)
    expected = keras.ops.convert_to_tensor(raw / largest(raw))
    outputs = x @ expected if kind == "dense" else tf.nn.conv2d(x, expected, 2, "SAME")
    np.testing.assert_allclose(
        layer(x, training=training), outputs + layer.bias.numpy(), rtol=1e-4, atol=1e-4
    )


@KINDS
def test_only_calls_in_training_run_a_step_of_power_iteration(kind):
    layer, x = normalized(kind)
    matrix = layer.layer.kernel.numpy().reshape(-1, 5)
    u = layer.u.numpy()
    layer(x)
    np.testing.assert_array_equal(layer.u, u)
    layer(x, training=True)
    v = matrix @ u / np.linalg.norm(matrix @ u)
    u = v @ matrix / np.linalg.norm(v @ matrix)
    np.testing.assert_allclose(layer.u, u, rtol=1e-4, atol=1e-5)


def test_the_gradient_includes_the_singular_value_with_constant_vectors():
    layer, x = normalized("dense", use_bias=False)
    for _ in range(200):
        layer(x, training=True)
    weights = RNG.normal(size=(3, 5)).astype(np.float32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(weights * layer(x, training=True))
    slope = tape.gradient(value, layer.layer.kernel.value).numpy()
    kernel = layer.layer.kernel.numpy()
    left, values, right = np.linalg.svd(kernel)
    by_kernel = x.numpy().T @ weights  # The gradient of sum(weights * x W) in W.
    # Miyato et al., eq. 12: (G - <G, W / sigma> u v^T) / sigma.
    share = (by_kernel * kernel / values[0]).sum()
    expected = (by_kernel - share * np.outer(left[:, 0], right[0])) / values[0]
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-4)
    assert abs(share) > 0.1


def test_vectors_are_constant_before_they_converge():
    layer, _ = normalized("dense")
    kernel, u = layer.layer.kernel.numpy(), layer.u.numpy()
    with tf.GradientTape() as tape:
        sigma = layer.sigma(training=True)
    v = kernel @ u / np.linalg.norm(kernel @ u)
    u = v @ kernel / np.linalg.norm(v @ kernel)
    slope = tape.gradient(sigma, layer.layer.kernel.value)
    np.testing.assert_allclose(slope, np.outer(v, u), rtol=1e-4, atol=1e-6)


def test_a_kernel_of_zeros_has_finite_outputs_and_gradients():
    layer, x = normalized("dense")
    layer.layer.kernel.assign(tf.zeros_like(layer.layer.kernel))
    with tf.GradientTape() as tape:
        outputs = layer(x, training=True)
    np.testing.assert_allclose(outputs, np.broadcast_to(layer.bias, (3, 5)))
    assert np.isfinite(tape.gradient(outputs, layer.layer.kernel.value)).all()
    assert np.isfinite(layer.u).all()


def test_layers_with_a_bias_or_an_activation_are_refused():
    for bad in (keras.layers.Dense(2), keras.layers.Dense(2, "relu", use_bias=False)):
        with pytest.raises(
            ValueError, match=r"use_bias=False and without an activation\. Received: "
        ):
            networks.SpectralNormalization(bad)


@pytest.mark.parametrize(
    "build",
    [networks.mlp_discriminator, networks.dcgan_discriminator, networks.resnet_discriminator],
    ids=["mlp", "dcgan", "resnet"],
)
def test_every_kernel_of_a_spectral_discriminator_is_normalized(build):
    for options in ({}, {"projected_classes": 4}):
        small = {} if build is networks.mlp_discriminator else {"width": 4}
        network = build((16, 16, 1), batch_norm=False, spectral_norm=True, **small, **options)
        layers = layers_of(network, networks.SpectralNormalization)
        kernels = [v for v in network.trainable_variables if len(v.shape) > 1]
        assert {id(layer.layer.kernel) for layer in layers} == set(map(id, kernels))
        # A label's embedding has no bias.
        assert sum(layer.use_bias for layer in layers) == len(layers) - len(options)
        assert not layers_of(network, keras.layers.BatchNormalization)
        # The Lipschitz constant is at most 2, for the rescaling to [-1, 1], times 1 for each layer.
        if build is networks.mlp_discriminator and not options:
            x, y = tf.constant(images(16, 1, 40)), tf.constant(images(16, 1, 40))
            for _ in range(30):
                network(x, training=True)
            distance = np.linalg.norm((x - y).numpy().reshape(40, -1), axis=1)
            assert (np.abs(network(x) - network(y))[:, 0] <= 2.02 * distance).all()


def test_discriminators_have_exactly_the_chosen_normalization():
    normalization = keras.layers.BatchNormalization
    network = networks.mlp_discriminator((4, 4, 1), (3, 3, 3), batch_norm=True)
    assert len(layers_of(network, normalization)) == 2
    dense = layers_of(network, keras.layers.Dense)
    assert [layer.use_bias for layer in dense] == [True, False, False, True]
    network = networks.dcgan_discriminator((16, 16, 1), 2, batch_norm=False)
    assert not layers_of(network, normalization)
    assert all(layer.use_bias for layer in layers_of(network, keras.layers.Conv2D))
    for build in (networks.mlp_discriminator, networks.dcgan_discriminator):
        with pytest.raises(ValueError, match=r"batch_norm=False.*Received: both"):
            build((16, 16, 1), batch_norm=True, spectral_norm=True)


def test_spectral_normalization_survives_half_precision_and_a_file(half_precision, tmp_path):
    network = networks.dcgan_discriminator(SHAPE, 2, batch_norm=False, spectral_norm=True)
    x = images(8, 1)
    for _ in range(3):
        network(x, training=True)
    assert all(
        layer.u.numpy().dtype == np.float32 for layer in network.layers if hasattr(layer, "u")
    )
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(network(x), loaded(x))
    np.testing.assert_array_equal(network(x, training=True), loaded(x, training=True))


# By name ------------------------------------------------------------------------------------------


def config_of(network):
    """The layers of a network, without any names."""
    named = ("name", "inbound_nodes", "input_layers", "output_layers")

    def nameless(value):
        if isinstance(value, dict):
            return {k: nameless(v) for k, v in value.items() if k not in named}
        return [nameless(v) for v in value] if isinstance(value, list | tuple) else value

    layers = network.get_config()["layers"]
    return [(layer["class_name"], nameless(layer["config"])) for layer in layers]


def test_networks_are_built_by_name():
    shape = (8, 8, 1)
    pairs = [
        (
            networks.encoder("mlp", shape, 5, (4, 3), activation="tanh"),
            networks.mlp_encoder(shape, 5, (4, 3), "tanh"),
        ),
        (
            networks.encoder("conv", shape, 5, (4, 3), (2, 6), "tanh"),
            networks.conv_encoder(shape, 5, (2, 6), (4, 3), "tanh"),
        ),
        (
            networks.decoder("mlp", 5, shape, 2, (4, 3), activation="tanh"),
            networks.mlp_decoder(5, shape, 2, (3, 4), "tanh"),
        ),
        (
            networks.decoder("conv", 5, shape, 2, (4, 3), (2, 6), "tanh"),
            networks.conv_decoder(5, shape, 2, (6, 2), (3, 4), "tanh"),
        ),
        (
            networks.generator("mlp", 5, shape, (4, 3), activation="tanh"),
            networks.mlp_decoder(5, shape, 1, (4, 3), "tanh", "sigmoid", batch_norm=True),
        ),
        (networks.generator("conv", 5, shape, width=3), networks.dcgan_generator(5, shape, 3)),
        (
            networks.encoder("resnet", shape, 5, (4, 3), (2,), "tanh"),
            networks.resnet_encoder(shape, 5, (2,), (4, 3), "tanh"),
        ),
        (
            networks.decoder("resnet", 5, (16, 16, 1), 2, (4, 3), (2, 6), "tanh"),
            networks.resnet_decoder(5, (16, 16, 1), 2, (6, 2), (3, 4), "tanh"),
        ),
        (networks.generator("resnet", 5, shape, width=3), networks.resnet_generator(5, shape, 3)),
        (
            networks.discriminator("resnet", shape, width=3, dropout=0.2, features=True),
            networks.resnet_discriminator(shape, 3, 0.2, True, spectral_norm=False),
        ),
        (
            networks.discriminator("mlp", shape, (4, 3), dropout=0.2, batch_norm=True),
            networks.mlp_discriminator(shape, (4, 3), 0.2, batch_norm=True),
        ),
        (
            networks.discriminator("conv", shape, width=3, features=True, spectral_norm=True),
            networks.dcgan_discriminator(
                shape, 3, features=True, batch_norm=False, spectral_norm=True
            ),
        ),
    ]
    for have, want in pairs:
        assert have.name == want.name and config_of(have) == config_of(want)
        assert have.output_shape == want.output_shape


def test_the_default_convolutions_have_32_and_64_channels():
    encoder = networks.encoder("conv", (8, 8, 1), 5, (4,))
    assert [layer.filters for layer in layers_of(encoder, keras.layers.Conv2D)] == [32, 64]
    decoder = networks.decoder("conv", 5, (8, 8, 1), 1, (4,))
    first, last = layers_of(decoder, keras.layers.Conv2DTranspose)
    assert first.input.shape[-1] == 64 and first.filters == 32 and last.filters == 1


@pytest.mark.parametrize(
    "build",
    [
        lambda name: networks.encoder(name, (8, 8, 1), 3),
        lambda name: networks.decoder(name, 3, (8, 8, 1)),
        lambda name: networks.generator(name, 3, (8, 8, 1)),
        lambda name: networks.discriminator(name, (8, 8, 1)),
    ],
)
def test_unknown_networks_are_refused(build):
    with pytest.raises(ValueError, match=r"Unknown network 'cnv'.*Did you mean 'conv'"):
        build("cnv")


def test_batch_normalization_has_dcgans_momentum_and_epsilon():
    networks_with_it = [
        networks.dcgan_generator(5, (16, 16, 1), 2),
        networks.dcgan_discriminator((16, 16, 1), 2),
        networks.mlp_decoder(5, (4, 4, 1), 1, (3,), batch_norm=True),
        networks.mlp_discriminator((4, 4, 1), (3, 3), batch_norm=True),
    ]
    for network in networks_with_it:
        layers = layers_of(network, keras.layers.BatchNormalization)
        assert layers and all(layer.epsilon == 1e-5 for layer in layers)
        for layer in layers:
            layer.moving_mean.assign(np.full(layer.moving_mean.shape, 1e6))
        x = RNG.uniform(size=(3, *network.input_shape[1:])).astype(np.float32)
        network(x, training=True)
        for layer in layers:  # The mean of the batch is small.
            np.testing.assert_allclose(layer.moving_mean, 0.9e6, rtol=1e-4)


# Conditions ---------------------------------------------------------------------------------------


def leaky(h):
    return np.where(h > 0, h, 0.2 * h)


LABEL = networks.Condition("label", (3,))
ATTRIBUTES = networks.Condition("attributes", (2,))
SMALL = networks.Condition("small_image", (2, 2, 1))
OF_SIDE_4 = networks.Condition("small_image", (4, 4, 1))


def test_conditions_are_built_by_name():
    assert networks.condition("none", 0, SHAPE) is None
    assert networks.condition("label", 0, SHAPE) == networks.Condition("label", (10,))
    assert networks.condition("label", 4, SHAPE) == networks.Condition("label", (4,))
    assert networks.condition("attributes", 7, SHAPE) == networks.Condition("attributes", (7,))
    assert networks.condition("seen", 0, SHAPE) == networks.Condition("seen", SHAPE)
    assert networks.condition("image", 4, SHAPE) == networks.Condition("small_image", (2, 2, 1))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("labels", 0, "Unknown condition 'labels'.*Did you mean 'label'"),
        ("attributes", 0, "condition='attributes', condition_size=0"),
        ("label", -1, "condition='label', condition_size=-1"),
        ("none", 3, "condition='none', condition_size=3"),
        ("seen", 3, "condition='seen', condition_size=3"),
        ("image", 1, "condition='image', condition_size=1"),
        ("image", 3, "divisible by 3. Received: 8x8"),
    ],
)
def test_conditions_of_another_size_are_refused(name, size, message):
    with pytest.raises(ValueError, match=message):
        networks.condition(name, size, SHAPE)


def test_without_a_condition_the_network_itself_is_returned():
    network = networks.conditioned(lambda shape: networks.mlp(*shape, 4, ()), (2,), None)
    assert network.name == "mlp" and network.input_shape == (None, 2)


def test_a_label_is_concatenated_with_latents_as_a_one_hot_code():
    network = networks.conditioned(lambda shape: networks.mlp(*shape, 4, ()), (2,), LABEL)
    assert network.inputs[1].dtype == "int32" and network.inputs[1].shape == (None,)
    (kernel, bias), z = network.get_weights(), RNG.normal(size=(5, 2)).astype(np.float32)
    assert kernel.shape == (2 + 3, 4)
    y = np.array([2, 0, 1, 2, 2])
    expected = z @ kernel[:2] + kernel[2:][y] + bias
    np.testing.assert_allclose(network([z, y]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "attributes"])
def test_perceptrons_take_image_and_condition_as_one_vector(seen):
    condition = networks.Condition("seen", (4, 4, 1)) if seen else ATTRIBUTES
    network = networks.conditioned(
        lambda shape: networks.mlp_encoder(shape, 3, ()), (4, 4, 1), condition
    )
    (kernel, bias), x = network.get_weights(), images(4, 1)
    y = RNG.normal(size=(3, *condition.shape)).astype(np.float32)
    expected = x.reshape(3, -1) @ kernel[:16] + y.reshape(3, -1) @ kernel[16:] + bias
    np.testing.assert_allclose(network([x, y]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["label", "attributes", "seen"])
def test_convolutions_take_a_condition_as_channels(name):
    condition = networks.Condition("seen", (8, 8, 1)) if name == "seen" else None
    condition = condition or (LABEL if name == "label" else ATTRIBUTES)

    def make(shape):
        layers = [keras.Input(shape), keras.layers.Conv2D(2, 3, padding="same")]
        return keras.Sequential(layers, name="convolution")

    network = networks.conditioned(make, SHAPE, condition, channels=True)
    (kernel, bias), x = network.get_weights(), images(8, 1)
    if name == "label":
        y = np.array([2, 0, 1])
        planes = np.eye(3, dtype=np.float32)[y]
    else:
        planes = y = RNG.normal(size=(3, *condition.shape)).astype(np.float32)
    if planes.ndim == 2:
        planes = np.broadcast_to(planes[:, None, None], (3, 8, 8, planes.shape[1]))
    joined = np.concatenate([x, planes], -1)
    expected = tf.nn.conv2d(joined, kernel, 1, "SAME") + bias
    np.testing.assert_allclose(network([x, y]), expected, rtol=1e-4, atol=1e-5)


def test_a_small_image_becomes_channels_of_boxes():
    network = networks.conditioned(
        lambda shape: networks.mlp_encoder(shape, 3, ()), (4, 4, 1), SMALL, channels=True
    )
    (kernel, bias), x = network.get_weights(), images(4, 1)
    y = RNG.random((3, 2, 2, 1)).astype(np.float32)
    joined = np.concatenate([x, y.repeat(2, 1).repeat(2, 2)], -1).reshape(3, -1)
    np.testing.assert_allclose(network([x, y]), joined @ kernel + bias, rtol=1e-4, atol=1e-5)


DECODERS = {
    "conv": lambda: networks.decoder("conv", 3, SHAPE, 2, (4,), (2, 2), condition=OF_SIDE_4),
    "dcgan": lambda: networks.generator("conv", 3, (16, 16, 1), (), 2, condition=OF_SIDE_4),
    "resnet": lambda: networks.decoder(
        "resnet", 3, (16, 16, 1), 2, (), (2, 3), condition=OF_SIDE_4
    ),
    "resnet_generator": lambda: networks.generator(
        "resnet", 3, (16, 16, 1), (), 2, condition=OF_SIDE_4
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_each_layer_that_enlarges_maps_takes_the_small_image_at_its_size(name):
    network = DECODERS[name]()
    joined = layers_of(network, keras.layers.Concatenate)[1:]  # The first joins the latents.
    assert len(joined) == 2
    inputs = keras.Model(network.inputs, [layer.output for layer in joined])
    y = RNG.random((3, 4, 4, 1)).astype(np.float32)
    for features in inputs([latents(3), y]):
        side = features.shape[1]
        if side < 4:
            plane = y.reshape(3, side, 4 // side, side, 4 // side).mean((2, 4))
        else:
            plane = y[..., 0].repeat(side // 4, 1).repeat(side // 4, 2)
        np.testing.assert_allclose(features[..., -1], plane, atol=1e-6)
    first = layers_of(network, keras.layers.Dense)[0]
    assert first.kernel.shape[0] == 3 + 16  # Latents and the small image


def test_a_prior_of_a_small_image_enlarges_it_for_convolutions():
    shapes = []

    def make(shape):
        shapes.append(shape)
        return networks.mlp_encoder(shape, 2, ())

    networks.of_condition(make, OF_SIDE_4, (8, 8))
    networks.of_condition(make, OF_SIDE_4)
    networks.of_condition(make, LABEL, (8, 8))
    assert shapes == [(8, 8, 1), (4, 4, 1), (3,)]


def test_channels_do_not_apply_to_latents():
    network = networks.conditioned(
        lambda shape: networks.mlp(*shape, 4, ()), (2,), ATTRIBUTES, channels=True
    )
    assert network.get_weights()[0].shape == (4, 4)


def test_a_network_can_take_only_the_condition():
    def make(shape):
        return networks.mlp(*shape, 4, ())

    network = networks.of_condition(make, LABEL)
    kernel, bias = network.get_weights()
    y = np.array([1, 2, 1])
    np.testing.assert_allclose(network(y), kernel[y] + bias, rtol=1e-5)
    network = networks.of_condition(make, ATTRIBUTES)
    kernel, bias = network.get_weights()
    y = RNG.normal(size=(3, 2)).astype(np.float32)
    np.testing.assert_allclose(network(y), y @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_call_passes_the_condition_to_networks_with_a_condition():
    plain = networks.mlp(2, 4, ())
    conditional = networks.conditioned(lambda shape: networks.mlp(*shape, 4, ()), (2,), LABEL)
    z, y = latents(2), np.array([2, 0, 1])
    np.testing.assert_array_equal(networks.call(plain, z, y), plain(z))
    np.testing.assert_array_equal(networks.call(plain, z), plain(z))
    expected = conditional([z, y])
    np.testing.assert_array_equal(networks.call(conditional, z, y), expected)
    # Labels of other types are cast to the network's.
    np.testing.assert_array_equal(networks.call(conditional, z, y.astype(np.int64)), expected)
    with pytest.raises(ValueError, match=r"takes a condition `y` as its second input.*y=None"):
        networks.call(conditional, z)


def test_call_passes_the_training_flag():
    for condition, y in ((None, None), (LABEL, np.array([2, 0, 1]))):
        network = networks.discriminator("mlp", SHAPE, (50,), dropout=0.5, condition=condition)
        x = images(8, 1)
        once, again = (networks.call(network, x, y) for _ in range(2))
        np.testing.assert_array_equal(once, again)
        once, again = (networks.call(network, x, y, training=True) for _ in range(2))
        assert np.abs(once - again).max() > 1e-4
        once, again = (networks.logits(network, x, y, training=True) for _ in range(2))
        assert np.abs(once - again).max() > 1e-4


def test_logits_are_float32_of_rank_1(half_precision):
    last = keras.layers.Dense(1, dtype="bfloat16")
    network = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), last])
    x = images(8, 1)
    assert network(x).dtype == tf.bfloat16
    logits = networks.logits(network, x)
    assert logits.shape == (3,) and logits.dtype == tf.float32
    np.testing.assert_array_equal(logits, tf.cast(network(x)[:, 0], tf.float32))


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("condition", [LABEL, ATTRIBUTES], ids=["label", "attributes"])
def test_discriminators_depend_on_their_condition(network, condition):
    built = networks.discriminator(
        network, (16, 16, 1), (6,), 2, features=True, condition=condition
    )
    x = images(16, 1)
    label = condition is LABEL
    ys = [np.full(3, i) if label else np.full((3, 2), float(i), np.float32) for i in (0, 1)]
    for one, other in zip(*(networks.call(built, x, y) for y in ys), strict=True):
        assert (np.abs(one - other).reshape(3, -1).max(1) > 1e-6).all()
        assert one.shape[0] == 3


def test_a_projection_adds_the_inner_product_of_features_and_the_labels_embedding():
    network = networks.discriminator("mlp", (4, 4, 1), (6, 5), condition=LABEL, projection=True)
    x, y = images(4, 1), np.array([2, 0, 1])
    w1, b1, w2, b2, *rest = network.get_weights()
    assert len(rest) == 3  # The embedding has no bias.
    [embedding] = [w for w in rest if w.shape == (3, 5)]
    [psi] = [w for w in rest if w.shape == (5, 1)]
    [bias] = [w for w in rest if w.shape == (1,)]
    phi = leaky(leaky((2 * x.reshape(3, -1) - 1) @ w1 + b1) @ w2 + b2)
    expected = phi @ psi + bias + np.einsum("bf,bf->b", embedding[y], phi)[:, None]
    np.testing.assert_allclose(network([x, y]), expected, rtol=1e-4, atol=1e-5)


def test_a_convolutional_projection_uses_the_flattened_last_layer():
    x, y = images(16, 1), np.array([2, 0, 1])
    network = networks.discriminator("conv", (16, 16, 1), width=2, condition=LABEL, projection=True)
    [embedding] = [w for w in network.get_weights() if w.shape == (3, 4 * 4 * 4)]
    flat = layers_of(network, keras.layers.Flatten)[0].output
    phi = keras.Model(network.input, flat)([x, y]).numpy()
    differences = network([x, y]) - network([x, np.zeros_like(y)])
    np.testing.assert_allclose(
        differences[:, 0], ((embedding[y] - embedding[0]) * phi).sum(1), rtol=1e-3, atol=1e-7
    )
    assert np.abs(differences[0, 0]) > 1e-5


@pytest.mark.parametrize("network", ["mlp", "conv", "resnet"])
@pytest.mark.parametrize("condition", [None, ATTRIBUTES], ids=["none", "attributes"])
def test_a_projection_without_a_label_is_refused(network, condition):
    with pytest.raises(ValueError, match=r"projects on a label.*Received: condition="):
        networks.discriminator(network, (16, 16, 1), condition=condition, projection=True)


def test_a_projection_without_a_hidden_layer_is_refused():
    with pytest.raises(ValueError, match="at least one layer in `hidden`"):
        networks.discriminator("mlp", (8, 8, 1), (), condition=LABEL, projection=True)


def test_labels_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"numbers from 0 to 2.*Received: labels from 1 to 3"):
        networks.OneHot(3)(np.array([1, 3]))
    with pytest.raises(ValueError, match=r"`classes` must be at least 1"):
        networks.OneHot(0)


# The bias at the end ---------------------------------------------------------------------------


def ending_in(*layers, units=12, **options):
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(units, **options), *layers], name="ending"
    )


SMALL_RGB = networks.Condition("small_image", (4, 4, 3))
ENDINGS = {
    "mlp": lambda: networks.mlp_decoder(2, (8, 8, 3), 2),
    "conv": lambda: networks.conv_decoder(2, (8, 8, 3), 1, (4,)),
    "generator": lambda: networks.generator("mlp", 2, (8, 8, 3)),
    "dcgan": lambda: networks.dcgan_generator(2, (8, 8, 3), 4),
    "small_image": lambda: networks.conv_decoder(2, (8, 8, 3), 1, (4,), small=SMALL_RGB),
    "resnet": lambda: networks.resnet_decoder(2, (8, 8, 3), 2, (4,)),
    "resnet_generator": lambda: networks.resnet_generator(2, (8, 8, 3), 4),
    "resnet_small_image": lambda: networks.resnet_decoder(2, (8, 8, 3), 1, (4,), small=SMALL_RGB),
    "resnet_spectral": lambda: networks.spectrally_normalized(
        networks.resnet_decoder(2, (8, 8, 3), 1, (4,))
    ),
    "spectral": lambda: networks.spectrally_normalized(networks.mlp_decoder(2, (8, 8, 3))),
    "conditional": lambda: networks.conditioned(
        lambda shape: networks.mlp_decoder(shape[0], (8, 8, 3)), (2,), LABEL
    ),
    "activation": lambda: ending_in(keras.layers.Reshape((2, 2, 3)), activation="sigmoid"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_bias_at_the_end_moves_the_output_to_a_value(name):
    network = ENDINGS[name]()
    for weight in network.trainable_variables:
        weight.assign(tf.zeros_like(weight))
    output = networks.output_bias(network)
    of_channels = name in ("conv", "dcgan", "small_image") or name.startswith("resnet")
    assert output.per_value == (not of_channels)
    channels = network.output_shape[-1]
    value = np.linspace(0.1, 0.9, output.bias.shape[0])
    output.bias.assign(output.inverse(value))
    y = tf.zeros([1, *network.inputs[-1].shape[1:]], network.inputs[-1].dtype)
    made = networks.call(network, tf.zeros([1, 2]), y).numpy().ravel()
    expected = value if output.per_value else np.tile(value, len(made) // channels)
    np.testing.assert_allclose(made, expected, rtol=1e-4)


def test_inverses_clip_sigmoids():
    output = networks.output_bias(networks.dcgan_generator(2, (8, 8, 1), 4))
    low, high = output.inverse(np.array([0.0, 1.0]))
    assert np.tanh([low, high]) == pytest.approx([-0.998, 0.998])


def test_other_networks_have_no_bias_at_the_end():
    twice = keras.Input((2,))
    added = keras.layers.Add()([keras.layers.Dense(12)(twice), keras.layers.Dense(12)(twice)])
    for network in [
        ending_in(use_bias=False),
        ending_in(activation="relu"),
        ending_in(keras.layers.BatchNormalization()),
        ending_in(keras.layers.Reshape((6, 2)), keras.layers.Permute((2, 1))),
        # A bias for each of 6 values, and 12 outputs in blocks of 4
        ending_in(keras.layers.Reshape((3, 4)), units=12, use_bias=False),
        keras.Sequential(
            [keras.Input((2, 3)), keras.layers.Dense(6), keras.layers.Reshape((3, 4))]
        ),
        keras.Model(twice, added),
        keras.Sequential([keras.Input((2,)), keras.layers.Reshape((2, 1))]),
    ]:
        assert networks.output_bias(network) is None
