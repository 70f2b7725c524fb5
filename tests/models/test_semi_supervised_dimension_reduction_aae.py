"""Dimensionality reduction with labels: the classification phase and the cluster heads."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.models.semi_supervised_dimension_reduction_aae import (
    semi_supervised_dimension_reduction_aae,
)

SHAPE, K, D = (8, 8, 1), 5, 2
SEED = tf.constant([1, 2])


@pytest.fixture
def model():
    model = semi_supervised_dimension_reduction_aae(
        SHAPE, categories=K, latent_dim=D, hidden=(7,), discriminator_hidden=(6,)
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def test_the_phases_combine_both_models(model):
    assert set(model.players()) == {
        "autoencoder", "discriminator", "category_discriminator", "encoder", "classifier"
    }  # fmt: skip
    assert len(model.rounds()) == 3
    assert {"head_cost", "accuracy", "classifier_loss"} <= set(model.result_names())


@pytest.mark.parametrize("streams", [1, 2])
def test_the_classification_phase_trains_the_encoder_and_not_the_heads(model, streams, digits):
    x, y = tf.constant(digits[:6]), tf.constant([0, 1, 2, 3, 4, -1])
    if streams == 2:
        x, y = (x[:2], x[2:]), y[:2]
    heads, encoder = model.heads.kernel.numpy(), model.posterior.network.get_weights()
    model._play(model.rounds()[-1], x, y, SEED)
    np.testing.assert_array_equal(heads, model.heads.kernel)
    after = model.posterior.network.get_weights()
    assert any((a != b).any() for a, b in zip(encoder, after, strict=True))


def test_the_reconstruction_phase_takes_the_unlabelled_stream(model, digits):
    x, y = (tf.constant(digits[:2]), tf.constant(digits[2:6])), tf.constant([0, 1])
    losses, terms = model.rounds()[0].objective(x, y, SEED, True)
    distortion = -model.likelihood(model.encode(digits[2:6])).log_prob(digits[2:6])
    np.testing.assert_allclose(losses["autoencoder"], distortion + terms["head_cost"], rtol=1e-5)


def test_a_label_selects_a_head_only_for_samples(model, digits):
    np.testing.assert_array_equal(model.encode(digits[:2], [0, 1]), model.encode(digits[:2]))
    np.testing.assert_array_equal(
        model.reconstruct(digits[:2], [0, 1]), model.reconstruct(digits[:2])
    )
    near = model.sample_latents(2000, 3, seed=1).numpy().mean(0)
    np.testing.assert_allclose(near, model.heads.kernel.numpy()[3], atol=0.15)
