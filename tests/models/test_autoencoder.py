"""The autoencoder: a linear one is principal component analysis."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.decomposition import PCA

import zoo

COMPONENTS = 3


@pytest.fixture(scope="module")
def pca(digits):
    return PCA(COMPONENTS, svd_solver="full").fit(digits.reshape(len(digits), -1))


@pytest.fixture
def linear():
    return zoo.models.autoencoder((8, 8, 1), latent_dim=COMPONENTS, hidden=())


def residual(pca, digits):
    flat = digits.reshape(len(digits), -1).astype(np.float64)
    return ((flat - pca.inverse_transform(pca.transform(flat))) ** 2).sum(1)


CONSTANT = 64 / 2 * math.log(2 * math.pi)


def set_to(pca, model):
    axes, mean = pca.components_, pca.mean_
    model.encoder.set_weights([axes.T, -mean @ axes.T])
    model.likelihood.network.set_weights([axes, mean])


def test_the_principal_components_are_a_minimum_with_half_the_residual_as_loss(pca, linear, digits):
    set_to(pca, linear)
    with tf.GradientTape() as tape:
        losses, _ = linear.objective(tf.constant(digits), None, None, training=True)
        mean = tf.reduce_mean(losses["autoencoder"])
    np.testing.assert_allclose(
        losses["autoencoder"], residual(pca, digits) / 2 + CONSTANT, rtol=1e-4
    )
    gradients = tape.gradient(mean, linear.variables_of("autoencoder"))
    assert len(gradients) == 4
    assert max(np.abs(g).max() for g in gradients) < 1e-4


@pytest.mark.slow
def test_training_a_linear_autoencoder_reaches_the_residual_of_pca(pca, linear, digits):
    linear.compile(keras.optimizers.Adam(0.02), steps_per_execution=50, jit_compile=True)
    best = residual(pca, digits).mean() / 2
    data = tf.data.Dataset.from_tensors(digits).repeat()
    history = linear.fit(data, epochs=3, steps_per_epoch=250, verbose=0).history
    linear.optimizers["autoencoder"].learning_rate = 1e-3
    linear.fit(data, epochs=1, steps_per_epoch=250, verbose=0)
    reached = linear.evaluate(digits, verbose=0, return_dict=True)["loss"] - CONSTANT
    assert best * (1 - 1e-3) < reached < best * 1.02
    assert history["loss"][0] - CONSTANT > best * 1.1


def test_codes_and_reconstructions_match_pca(pca, linear, digits):
    set_to(pca, linear)
    flat = digits.reshape(len(digits), -1)
    np.testing.assert_allclose(linear.encode(digits), pca.transform(flat), atol=1e-4)
    expected = pca.inverse_transform(pca.transform(flat)).reshape(digits.shape)
    np.testing.assert_allclose(linear.reconstruct(digits), np.clip(expected, 0, 1), atol=1e-4)
    assert linear.latent_dim == COMPONENTS and linear.image_shape == (8, 8, 1)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_with_a_bernoulli_likelihood_the_loss_is_the_cross_entropy(network, digits):
    model = zoo.models.autoencoder(
        (8, 8, 1), latent_dim=2, network=network, hidden=(4,), likelihood="bernoulli"
    )
    x = digits[:5]
    p = np.clip(np.asarray(model.reconstruct(x), np.float64), 1e-12, 1 - 1e-12)
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3))
    losses, terms = model.objective(tf.constant(x), None, None, training=True)
    np.testing.assert_allclose(losses["autoencoder"], expected, rtol=1e-4)
    assert terms == {}


def test_a_condition_reaches_the_decoder(digits):
    z, y = keras.Input((2,)), keras.Input((3,))
    h = keras.layers.Dense(64)(keras.layers.Concatenate()([z, y]))
    decoder = keras.Model([z, y], keras.layers.Reshape((8, 8, 1))(h))
    model = zoo.Autoencoder(
        zoo.networks.mlp_encoder((8, 8, 1), 2, ()),
        zoo.Conditional(decoder, zoo.UnitNormal()),
        start_at_mean=False,
    )
    x, y = digits[:6], np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    code = model.encoder(x).numpy()
    kernel, bias = decoder.get_weights()
    made = (np.concatenate([code, y], 1) @ kernel + bias).reshape(x.shape)
    expected = ((x - made) ** 2).sum((1, 2, 3)) / 2 + CONSTANT
    model.compile(keras.optimizers.SGD(0.0))
    loss = model.fit(x, y, batch_size=6, verbose=0).history["loss"][0]
    assert loss == pytest.approx(expected.mean(), rel=1e-4)
