"""Builders of networks: shapes, ranges, what DCGAN's paper says of its layers, precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo import networks

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
def test_encoders_and_decoders_have_the_shapes_asked_for(size, channels, params_per_value):
    shape = (size, size, channels)
    x, z = images(size, channels), latents()
    for encoder in (
        networks.mlp_encoder(shape, 7, (4,)),
        networks.conv_encoder(shape, 7, (2, 3), 4),
    ):
        assert encoder.built and encoder(x).shape == (3, 7)
    for decoder in (
        networks.mlp_decoder(5, shape, params_per_value, (4,)),
        networks.conv_decoder(5, shape, params_per_value, (3, 2), 4),
    ):
        assert decoder.built and decoder(z).shape == (3, size, size, channels * params_per_value)


@pytest.mark.parametrize(("size", "channels"), SIZES)
def test_dcgan_makes_and_judges_images_of_its_sizes(size, channels):
    shape = (size, size, channels)
    generator = networks.dcgan_generator(5, shape, 2)
    made = generator(latents(scale=100.0), training=True).numpy()
    assert made.shape == (3, *shape) and made.min() >= 0 and made.max() <= 1
    assert networks.dcgan_discriminator(shape, 2)(images(size, channels)).shape == (3, 1)


def test_generators_reach_the_whole_range_from_0_to_1():
    generator = networks.dcgan_generator(5, (8, 8, 1), 2)
    *others, kernel, bias = generator.get_weights()
    for value, expected in ((-50.0, 0.0), (0.0, 0.5), (50.0, 1.0)):
        generator.set_weights([*others, np.zeros_like(kernel), np.full_like(bias, value)])
        np.testing.assert_allclose(generator(latents()), expected, atol=1e-6)


def test_discriminators_see_images_from_minus_one_to_one():
    for network in (
        networks.dcgan_discriminator((8, 8, 1), 2, features=True),
        networks.mlp_discriminator((8, 8, 1), (4,), features=True),
    ):
        kernel, bias = network.get_weights()[:2]
        features, _ = network(np.full((1, 8, 8, 1), 0.5, np.float32))
        # Grey is zero there: what is left is the bias.
        np.testing.assert_allclose(features, 0.0, atol=1e-6)
        assert (bias == 0).all() and kernel.any()
        white, _ = network(np.ones((1, 8, 8, 1), np.float32))
        black, _ = network(np.zeros((1, 8, 8, 1), np.float32))
        np.testing.assert_allclose(white, -np.asarray(black), rtol=1e-5)
        assert np.abs(white).max() > 1e-3


def test_dcgans_weights_start_from_a_normal_of_deviation_two_hundredths():
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
            # Not truncated at two deviations.
            assert kernel.size < 1000 or np.abs(kernel).max() > 0.05


@pytest.mark.parametrize("size", [28, 64])
def test_dcgan_normalizes_all_but_the_generators_last_and_the_discriminators_first_layer(size):
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
    ],
)
def test_images_that_cannot_be_halved_so_often_are_refused_in_a_sentence(build):
    with pytest.raises(ValueError, match=r"divisible by \d+\. Received: \d+x\d+"):
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


def test_beside_a_latent_a_label_is_a_one_hot_code_that_comes_last():
    network = networks.mlp(2 + 3, 4, ())
    beside = networks.beside_label(network, 2, 3)
    (kernel, bias), z = network.get_weights(), RNG.normal(size=(5, 2)).astype(np.float32)
    labels = np.array([2, 0, 1, 2, 2])
    expected = z @ kernel[:2] + kernel[2:][labels] + bias
    np.testing.assert_allclose(beside([z, labels]), expected, rtol=1e-4, atol=1e-5)
    assert beside.trainable_variables[0] is network.trainable_variables[0]


def test_dropout_acts_in_training_alone():
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
    "conv_encoder": lambda: (networks.conv_encoder(SHAPE, 2, (2,), 4), images(8, 1)),
    "conv_decoder": lambda: (networks.conv_decoder(5, SHAPE, 2, (2,), 4), latents()),
    "dcgan_generator": lambda: (networks.dcgan_generator(5, SHAPE, 2), latents()),
    "dcgan_discriminator": lambda: (
        networks.dcgan_discriminator(SHAPE, 2, features=True), images(8, 1)
    ),
    "mlp_discriminator": lambda: (
        networks.mlp_discriminator(SHAPE, (4, 4), 0.1, features=True), images(8, 1)
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
def test_images_are_not_rounded_to_half_precision_at_the_end(name, half_precision):
    if name == "dcgan_generator":
        network = networks.dcgan_generator(5, (32, 32, 1), 4)
    else:
        network = networks.mlp_decoder(5, (32, 32, 1), 1, (20,), output="sigmoid")
    made = network(latents(scale=3.0)).numpy()
    rounded = tf.cast(tf.cast(made, tf.bfloat16), tf.float32).numpy()
    assert (made != rounded).mean() > 0.5


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: networks.conv_encoder((8, 8, 1), 3, ()), "filters"),
        (lambda: networks.conv_decoder(3, (8, 8, 1), filters=[]), "filters"),
        (lambda: networks.mlp_discriminator((8, 8, 1), (), features=True), "hidden"),
    ],
)
def test_networks_that_need_a_layer_say_so(build, name):
    with pytest.raises(ValueError, match=rf"at least one layer in `{name}`\. Received: [\[(]"):
        build()


def test_without_hidden_layers_multilayer_perceptrons_are_linear():
    x = images(4, 1)
    for network, scale in (
        (networks.mlp_encoder((4, 4, 1), 2, ()), 1.0),
        (networks.mlp_discriminator((4, 4, 1), ()), 2.0),  # Which moves images to [-1, 1].
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
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_after_some_steps_the_kernel_in_use_has_a_largest_singular_value_of_one(kind, training):
    layer, x = normalized(kind)
    raw = layer.layer.kernel.numpy()
    for _ in range(200):
        layer(x, training=True)
    np.testing.assert_array_equal(layer.layer.kernel, raw)  # Keras's own would overwrite it.
    np.testing.assert_allclose(layer.sigma(), largest(raw), rtol=1e-5)
    expected = keras.ops.convert_to_tensor(raw / largest(raw))
    outputs = x @ expected if kind == "dense" else tf.nn.conv2d(x, expected, 2, "SAME")
    np.testing.assert_allclose(
        layer(x, training=training), outputs + layer.bias.numpy(), rtol=1e-4, atol=1e-4
    )


@KINDS
def test_one_call_in_training_is_one_step_of_power_iteration_and_others_are_none(kind):
    layer, x = normalized(kind)
    matrix = layer.layer.kernel.numpy().reshape(-1, 5)
    u = layer.u.numpy()
    layer(x)
    np.testing.assert_array_equal(layer.u, u)
    layer(x, training=True)
    v = matrix @ u / np.linalg.norm(matrix @ u)
    u = v @ matrix / np.linalg.norm(v @ matrix)
    np.testing.assert_allclose(layer.u, u, rtol=1e-4, atol=1e-5)


def test_the_gradient_goes_through_the_singular_value_and_takes_its_vectors_for_constants():
    layer, x = normalized("dense", use_bias=False)
    for _ in range(200):
        layer(x, training=True)
    weights = RNG.normal(size=(3, 5)).astype(np.float32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(weights * layer(x, training=True))
    slope = tape.gradient(value, layer.layer.kernel.value).numpy()
    kernel = layer.layer.kernel.numpy()
    left, values, right = np.linalg.svd(kernel)
    by_kernel = x.numpy().T @ weights  # Of sum(weights * x W), linear in W.
    # Miyato et al., eq. 12: (G - <G, W / sigma> u v^T) / sigma.
    share = (by_kernel * kernel / values[0]).sum()
    expected = (by_kernel - share * np.outer(left[:, 0], right[0])) / values[0]
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-4)
    assert abs(share) > 0.1


def test_of_a_kernel_of_zeros_the_outputs_and_their_slopes_are_finite():
    layer, x = normalized("dense")
    layer.layer.kernel.assign(tf.zeros_like(layer.layer.kernel))
    with tf.GradientTape() as tape:
        outputs = layer(x, training=True)
    np.testing.assert_allclose(outputs, np.broadcast_to(layer.bias, (3, 5)))
    assert np.isfinite(tape.gradient(outputs, layer.layer.kernel.value)).all()
    assert np.isfinite(layer.u).all()


def test_only_a_linear_map_is_normalized_spectrally():
    for bad in (keras.layers.Dense(2), keras.layers.Dense(2, "relu", use_bias=False)):
        with pytest.raises(ValueError, match=r"use_bias=False and no activation\. Received: "):
            networks.SpectralNormalization(bad)


@pytest.mark.parametrize(
    "build", [networks.mlp_discriminator, networks.dcgan_discriminator], ids=["mlp", "dcgan"]
)
def test_every_kernel_of_a_spectral_discriminator_is_normalized(build):
    for options in ({}, {"classes": 4}, {"classes": 4, "projection": True}):
        network = build((16, 16, 1), batch_norm=False, spectral_norm=True, **options)
        layers = layers_of(network, networks.SpectralNormalization)
        kernels = [v for v in network.trainable_variables if len(v.shape) > 1]
        assert {id(layer.layer.kernel) for layer in layers} == set(map(id, kernels))
        # A label's vector has none.
        assert sum(layer.use_bias for layer in layers) == len(layers) - options.get("projection", 0)
        assert not layers_of(network, keras.layers.BatchNormalization)
        # A bound of the slope: 2 of the rescaling to [-1, 1], and 1 of every dense layer.
        if build is networks.mlp_discriminator and not options:
            x, y = tf.constant(images(16, 1, 40)), tf.constant(images(16, 1, 40))
            for _ in range(30):
                network(x, training=True)
            distance = np.linalg.norm((x - y).numpy().reshape(40, -1), axis=1)
            assert (np.abs(network(x) - network(y))[:, 0] <= 2.02 * distance).all()


def test_normalizations_of_discriminators_are_there_if_asked_for_and_exclude_each_other():
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


# Labels -------------------------------------------------------------------------------------------


def leaky(h):
    return np.where(h > 0, h, 0.2 * h)


def test_a_label_beside_the_image_adds_its_row_of_the_kernel():
    network = networks.mlp_discriminator((4, 4, 1), (6,), classes=3)
    x, y = images(4, 1), np.array([2, 0, 2])
    w1, b1, w2, b2 = network.get_weights()
    assert w1.shape == (16 + 3, 6)
    hidden = (2 * x.reshape(3, -1) - 1) @ w1[:16] + w1[16:][y] + b1
    np.testing.assert_allclose(network([x, y]), leaky(hidden) @ w2 + b2, rtol=1e-4, atol=1e-5)


def test_a_projection_adds_the_inner_product_of_features_and_the_labels_vector():
    network = networks.mlp_discriminator((4, 4, 1), (6, 5), classes=3, projection=True)
    x, y = images(4, 1), np.array([2, 0, 1])
    w1, b1, w2, b2, *rest = network.get_weights()
    [embedding] = [w for w in rest if w.shape == (3, 5)]
    [psi] = [w for w in rest if w.shape == (5, 1)]
    [bias] = [w for w in rest if w.shape == (1,)]
    phi = leaky(leaky((2 * x.reshape(3, -1) - 1) @ w1 + b1) @ w2 + b2)
    expected = phi @ psi + bias + np.einsum("bf,bf->b", embedding[y], phi)[:, None]
    np.testing.assert_allclose(network([x, y]), expected, rtol=1e-4, atol=1e-5)


def test_a_convolutional_discriminator_takes_labels_as_planes_or_by_projection():
    x, y = images(16, 1), np.array([2, 0, 1])
    network = networks.dcgan_discriminator((16, 16, 1), 2, classes=3)
    first = layers_of(network, keras.layers.Conv2D)[0]
    planes = np.broadcast_to(np.eye(3, dtype=np.float32)[y][:, None, None], (3, 16, 16, 3))
    expected = first(np.concatenate([2 * x - 1, planes], -1))
    seen = keras.Model(network.input, first.output)([x, y])
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-6)

    network = networks.dcgan_discriminator(
        (16, 16, 1), 2, batch_norm=False, classes=3, projection=True
    )
    [embedding] = [w for w in network.get_weights() if w.shape == (3, 4 * 4 * 4)]
    flat = layers_of(network, keras.layers.Flatten)[0].output
    phi = keras.Model(network.input, flat)([x, y]).numpy()
    differences = network([x, y]) - network([x, np.zeros_like(y)])
    np.testing.assert_allclose(
        differences[:, 0], ((embedding[y] - embedding[0]) * phi).sum(1), rtol=1e-3, atol=1e-7
    )
    assert np.abs(differences[0, 0]) > 1e-5


def test_a_projection_without_labels_or_features_is_refused():
    for build in (networks.mlp_discriminator, networks.dcgan_discriminator):
        with pytest.raises(ValueError, match=r"number of `classes`\. Received: 0"):
            build((16, 16, 1), projection=True)
    with pytest.raises(ValueError, match="at least one layer in `hidden`"):
        networks.mlp_discriminator((8, 8, 1), (), classes=3, projection=True)
