"""Regularised autoencoder: losses by hand, norms against singular values, samples."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow

import zoo

SEED = tf.constant([1, 2])


def small(**options):
    defaults = {"latent_dim": 3, "hidden": (6,)}
    return zoo.models.rae((8, 8, 1), **(defaults | options))


def test_the_loss_adds_the_codes_norm_and_the_decoders_squared_weights(digits):
    model = small(beta=0.3, lambda_=0.02)
    x = digits[:5]
    z = model.encode(x).numpy()
    weights = model.likelihood.network.get_weights()
    squares = sum(np.sum(np.square(w)) for w in weights)
    distortion = -model.likelihood(z).log_prob(x).numpy()
    losses, terms = model.objective(tf.constant(x), None, SEED, training=True)
    expected = distortion + 0.3 * (z**2).sum(1) / 2 + 0.02 * squares
    np.testing.assert_allclose(losses["autoencoder"], expected, rtol=1e-5)
    np.testing.assert_allclose(terms["regularizer"], np.full(5, squares), rtol=1e-5)


def test_zero_weights_give_the_autoencoder(digits):
    model = small(beta=0.0, regularizer="none")
    plain = zoo.Autoencoder(model.encoder, model.likelihood)
    x = tf.constant(digits[:5])
    np.testing.assert_array_equal(
        model.objective(x, None, SEED, True)[0]["autoencoder"],
        plain.objective(x, None, SEED, True)[0]["autoencoder"],
    )


def test_the_gradient_penalty_estimates_the_squared_norm_of_the_jacobian(digits):
    model = small(regularizer="gradient_penalty", lambda_=1.0)
    z = model.encoder(digits[:2])
    with tf.GradientTape() as tape:
        tape.watch(z)
        output = tf.reshape(model.likelihood.network(z), [2, -1])
    jacobian = tape.batch_jacobian(output, z)
    exact = np.square(jacobian.numpy()).sum((1, 2))
    copies = tf.repeat(tf.constant(digits[:2]), 4000, 0)
    _, terms = model.objective(copies, None, SEED, training=True)
    estimates = terms["regularizer"].numpy().reshape(2, 4000)
    errors = estimates.std(1) / np.sqrt(4000)
    assert (np.abs(estimates.mean(1) - exact) < 5 * errors).all()
    assert (errors < 0.05 * exact).all()


def test_the_gradient_penalty_reaches_the_decoder(digits, weight_changes):
    model = small(regularizer="gradient_penalty", lambda_=1.0)
    model.compile(keras.optimizers.SGD(0.01))
    with tf.GradientTape() as tape:
        _, terms = model.objective(tf.constant(digits[:4]), None, SEED, training=True)
        penalty = tf.reduce_sum(terms["regularizer"])
    kernels = [w for w in model.likelihood.network.trainable_variables if len(w.shape) == 2]
    assert all(np.abs(g).max() > 1e-7 for g in tape.gradient(penalty, kernels))
    for change in weight_changes(model, lambda: model.train_step((tf.constant(digits[:7]),)))[
        "autoencoder"
    ]:
        assert np.abs(change).max() > 1e-9


@pytest.mark.parametrize("network", ["mlp", slow("conv")])
def test_spectral_normalization_bounds_every_layer_of_the_decoder(network, digits):
    model = small(regularizer="spectral_norm", network=network)
    for _ in range(30):
        model.likelihood(tf.zeros([1, 3]), training=True)
    layers = [
        layer
        for layer in model.likelihood.network._flatten_layers()
        if isinstance(layer, zoo.networks.SpectralNormalization)
    ]
    assert len(layers) >= 2
    for layer in layers:
        kernel = np.array(layer.layer.kernel)
        matrix = kernel.reshape(-1, kernel.shape[-1]) / float(layer.sigma())
        assert np.linalg.svd(matrix, compute_uv=False).max() == pytest.approx(1, rel=0.02)
    assert model.decode(np.zeros([2, 3], np.float32)).shape == (2, 8, 8, 1)


def test_samples_come_from_the_fitted_codes_and_a_file_keeps_the_prior(tmp_path):
    data = zoo.datasets.load("digits")
    model = small(latent_dim=2, prior_components=3)
    model.compile("adam", jit_compile=False)
    model.fit(data.arrays("train")[0], verbose=0)
    model.fit_prior(data)
    codes = model.encode(data.arrays("train")[0]).numpy()
    draws = model.sample_latents(4000, seed=1).numpy()
    np.testing.assert_allclose(draws.mean(0), codes.mean(0), atol=0.15 * codes.std())
    model.save(tmp_path / "rae.keras")
    loaded = keras.saving.load_model(tmp_path / "rae.keras")
    np.testing.assert_array_equal(loaded.sample(3, seed=1), model.sample(3, seed=1))


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"lambda_": np.nan}, {"regularizer": "l1"}])
def test_invalid_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=r"Received: |Available: "):
        small(**wrong)


def test_a_prior_that_is_not_fitted_is_refused():
    parts = small()
    with pytest.raises(ValueError, match=r"is fitted to codes .* Received: a StandardNormal"):
        zoo.RAE(parts.encoder, parts.likelihood, zoo.StandardNormal(3))


def test_a_weight_without_a_regularizer_is_refused():
    with pytest.raises(ValueError, match=r"`lambda_` is an option of regularizer 'l2'"):
        small(regularizer="spectral_norm", lambda_=0.1)
