"""Dimensionality reduction: cluster heads, the cost of near heads, and representations."""

import inspect
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.spatial.distance import pdist
from scipy.special import softmax

from zoo.adversarial import Hinge
from zoo.models.dimension_reduction_aae import (
    ClusterHeads,
    DimensionReductionAAE,
    dimension_reduction_aae,
)

SHAPE, K, D = (8, 8, 1), 5, 2
SEED = tf.constant([1, 2])


def small(**options):
    model = dimension_reduction_aae(
        SHAPE,
        categories=K,
        latent_dim=D,
        hidden=(7,),
        discriminator_hidden=(6,),
        **options,
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def heads_at(*points, distance=5.0):
    heads = ClusterHeads(len(points), len(points[0]), distance)
    heads.kernel.assign(np.array(points, np.float32))
    return heads


def test_the_cost_of_near_heads_is_the_shortfall_of_their_distance():
    # The distances are 3, 4 and 5; two of them are below 5.
    assert float(heads_at((0, 0), (3, 0), (0, 4)).cost()) == pytest.approx((5 - 3) + (5 - 4))
    assert float(heads_at((0, 0), (3, 0), (0, 4), distance=3.0).cost()) == 0
    assert float(heads_at((0, 0), (3, 0), (0, 4), distance=4.5).cost()) == pytest.approx(2.0)
    points = np.random.default_rng(0).normal(size=(7, 3))
    expected = np.maximum(0, 2.0 - pdist(points)).sum()
    assert float(heads_at(*points, distance=2.0).cost()) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_separates_near_heads_and_is_zero_for_distant_heads():
    heads = heads_at((0, 0), (3, 4), (100, 0), distance=6.0)
    with tf.GradientTape() as tape:
        cost = heads.cost()
    slope = tape.gradient(cost, heads.kernel.value)
    np.testing.assert_allclose(slope, [[0.6, 0.8], [-0.6, -0.8], [0, 0]], atol=1e-6)


def test_the_gradient_is_finite_for_equal_heads():
    heads = heads_at((1, 1), (1, 1))
    with tf.GradientTape() as tape:
        cost = heads.cost()
    assert float(cost) == pytest.approx(5, abs=1e-4)
    assert np.isfinite(tape.gradient(cost, heads.kernel.value)).all()


def test_the_representation_is_the_mean_head_plus_the_style(digits):
    model = small()
    params = model.posterior.network(digits[:4]).numpy()
    expected = softmax(params[:, :K], -1) @ model.heads.kernel.numpy() + params[:, K:]
    np.testing.assert_allclose(model.encode(digits[:4]), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        model.reconstruct(digits[:4]), tf.sigmoid(model.likelihood.network(expected)), atol=1e-5
    )
    assert model.latent_dim == D


def test_draws_are_normal_around_heads():
    model = small()
    r = model.sample_latents(2000, 3, seed=1).numpy()
    for values, head in zip(r.T, model.heads.kernel.numpy()[3], strict=True):
        assert stats.kstest(values, stats.norm(head, 1).cdf).pvalue > 1e-3
    # Over all heads: the mean of the heads, and the variance of heads plus style.
    r = model.sample_latents(20_000, seed=1).numpy()
    kernel = model.heads.kernel.numpy()
    np.testing.assert_allclose(r.mean(0), kernel.mean(0), atol=0.15)
    np.testing.assert_allclose(r.var(0), kernel.var(0) + 1, rtol=0.05)
    np.testing.assert_allclose(model.category_images(), model.decode(kernel), atol=1e-6)


def test_reconstruction_updates_the_heads_along_distortion_plus_cost(
    digits, weight_changes, assert_descends
):
    model, x = small(head_distance=20.0), tf.constant(digits[:6])
    with tf.GradientTape() as tape:
        params = model.posterior.network(x)
        w = tf.convert_to_tensor(model.heads.kernel)
        r = tf.matmul(tf.nn.softmax(params[:, :K]), w) + params[:, K:]
        logits = model.likelihood.network(r)
        loss = tf.reduce_mean(tf.reduce_sum(tf.nn.softplus(logits) - x * logits, [1, 2, 3]))
        for i in range(K):
            for j in range(i):
                apart = tf.norm(w[i] - w[j])
                loss += tf.maximum(0.0, 20.0 - apart)
    expected = tape.gradient(loss, model.variables_of("autoencoder"))
    turns = model.rounds()
    change = weight_changes(model, lambda: model._play(turns[0], x, None, SEED))
    assert_descends(change["autoencoder"], expected)
    assert any(v is model.heads.kernel for v in model.variables_of("autoencoder"))
    for turn in turns[1:]:
        before = model.heads.kernel.numpy()
        model._play(turn, x, None, SEED)
        np.testing.assert_array_equal(before, model.heads.kernel)


def test_the_cost_is_reported_and_is_part_of_the_loss(digits):
    model = small()
    losses, terms = model.reconstruction_objective(tf.constant(digits[:4]), None, SEED, True)
    r = model.encode(digits[:4])
    distortion = -model.likelihood(r).log_prob(digits[:4])
    np.testing.assert_allclose(terms["head_cost"], np.full(4, model.heads.cost()), rtol=1e-6)
    np.testing.assert_allclose(losses["autoencoder"], distortion + terms["head_cost"], rtol=1e-5)


def test_invalid_heads_are_refused():
    model = small()
    parts = (
        model.posterior, model.likelihood, model.prior, model.discriminator,
        model.category_discriminator,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"5 heads with the 2 dimension.*Received: 4 heads with 2"):
        DimensionReductionAAE(*parts, ClusterHeads(4, D))
    with pytest.raises(ValueError, match=r"Received: 5 heads with 3"):
        DimensionReductionAAE(*parts, ClusterHeads(K, 3))
    for distance in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"`distance` must be above 0\. Received"):
            ClusterHeads(K, D, distance)


def test_the_builder_has_the_options_of_clustering_aae(digits):
    model = small(network="conv", filters=(4,), head_distance=3.0, loss="hinge")
    assert model.heads.distance == 3.0
    assert isinstance(model.adversarial_loss, Hinge)
    assert model.likelihood.network.input_shape == (None, D)
    assert model.reconstruct(digits[:2]).shape == (2, *SHAPE)
    defaults = inspect.signature(dimension_reduction_aae).parameters
    assert (defaults["categories"].default, defaults["latent_dim"].default) == (20, 2)
    assert "decoder_inputs" not in defaults
