"""The WAE's loss and gradient by hand, and what it does to the codes."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from zoo.discrepancies import RBF, InverseMultiquadric
from zoo.models.wae import wae_conv, wae_mlp

tfd = tfp.distributions
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def small(known, **arguments):
    return zoo.WAE(
        zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 3, (5,), "tanh"), zoo.Deterministic()),
        zoo.networks.mlp_decoder(3, (8, 8, 1), 1, (5,), "tanh", "sigmoid"),
        known.Prior(3),
        **arguments,
    )


def imq(a, b, xp=np):
    squares = (
        xp.sum((a[:, None] - b) ** 2, -1) if xp is np else tf.reduce_sum((a[:, None] - b) ** 2, -1)
    )
    return sum(2 * 3 * s / (2 * 3 * s + squares) for s in SCALES)


def algorithm_2(x, made, z, prior, lambda_):
    """The paper's sums, written as it writes them."""
    n = len(x)
    cost = ((x - made) ** 2).sum() / n
    kz, kp, kzp = imq(z, z), imq(prior, prior), imq(z, prior)
    apart = 1 - np.eye(n)
    penalty = (
        lambda_ / (n * (n - 1)) * (kp * apart).sum()
        + lambda_ / (n * (n - 1)) * (kz * apart).sum()
        - 2 * lambda_ / n**2 * kzp.sum()
    )
    return cost, penalty


def test_the_loss_is_the_papers_algorithm_2(known, digits):
    x = digits[:7]
    model = small(known, lambda_=12.0)
    z = np.asarray(model.posterior.network(x), np.float64)
    made = np.asarray(model.generator(z.astype(np.float32)), np.float64)
    cost, penalty = algorithm_2(x, made, z, known.noise(7, 3), 12.0)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    logs = model.fit(x, batch_size=7, shuffle=False, verbose=0).history
    assert logs["cost"][0] == pytest.approx(cost, rel=1e-5)
    assert logs["discrepancy"][0] == pytest.approx(penalty / 12, rel=1e-4)
    assert logs["loss"][0] == pytest.approx(cost + penalty, rel=1e-5)
    assert abs(penalty) > 0.1


def test_with_the_pairs_of_points_with_themselves(known, digits):
    x = tf.constant(digits[:7])
    model = small(known, unbiased=False)
    z, prior = np.asarray(model.posterior.network(x), np.float64), known.noise(7, 3)
    by_hand = imq(z, z).mean() + imq(prior, prior).mean() - 2 * imq(z, prior).mean()
    _, terms = model.objective(x, None, tf.constant([1, 2]), True)
    assert float(tf.reduce_mean(terms["discrepancy"])) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 1.0, 50.0])
def test_lambda_weighs_the_discrepancy(known, digits, lambda_):
    model = small(known, lambda_=lambda_)
    losses, terms = model.objective(tf.constant(digits[:7]), None, tf.constant([1, 2]), True)
    np.testing.assert_allclose(
        losses["autoencoder"], terms["cost"] + lambda_ * terms["discrepancy"], rtol=1e-6
    )
    assert np.abs(terms["discrepancy"]).min() > 1e-3


def test_both_networks_move_along_the_gradient(known, digits, moves, assert_descends):
    model = small(known, lambda_=30.0)
    encoder, generator = model.posterior.network, model.generator
    x, prior = tf.constant(digits[:7]), known.noise(7, 3)
    with tf.GradientTape(persistent=True) as tape:
        z = encoder(x)
        cost = tf.reduce_sum((x - generator(z)) ** 2) / 7
        mmd = tf.reduce_sum(imq(z, z, tf)) / 42 - 2 * tf.reduce_mean(imq(z, prior, tf))
        loss = cost + 30 * mmd
    variables = encoder.trainable_variables + generator.trainable_variables
    gradients = tape.gradient(loss, variables)
    assert all(g is None for g in tape.gradient(mmd, generator.trainable_variables))
    assert all(np.abs(g).max() > 1e-4 for g in tape.gradient(mmd, encoder.trainable_variables))
    model.compile(keras.optimizers.SGD(1.0))
    assert_descends(moves(model, lambda: model.train_step((x,)))["autoencoder"], gradients)


def test_it_trains_to_reconstruct_and_to_match(digits):
    """Against the same networks without the discrepancy, whose codes lie where they began."""

    def after(lambda_):
        keras.utils.set_random_seed(0)
        model = wae_mlp((8, 8, 1), 2, (32,), lambda_=lambda_)
        *weights, bias = model.posterior.network.get_weights()
        model.posterior.network.set_weights([*weights, bias + 3])
        model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
        model.fit(digits, batch_size=100, epochs=60, verbose=0)
        z = np.asarray(model.encode(digits))
        prior = np.random.default_rng(1).normal(size=(200, 2))
        cost = ((digits - np.asarray(model.decode(z))) ** 2).sum((1, 2, 3)).mean()
        return zoo.metrics.maximum_mean_discrepancy(z, prior, "imq").value, cost

    spread = ((digits - digits.mean(0)) ** 2).sum((1, 2, 3)).mean()
    (free, _), (drawn, cost) = after(0.0), after(200.0)
    assert free > 0.3
    assert abs(drawn) < 0.1 * free
    assert cost < 0.8 * spread


class Point(zoo.distributions.Prior):
    """All mass on (1, 1, 1): draws that do not depend on the replica."""

    def call(self, y=None):
        return tfd.Independent(tfd.Deterministic(tf.ones(3)), 1)


@pytest.mark.parametrize("size", [12, 7])
def test_two_replicas_train_as_one(known, digits, mirrored, size):
    """On the discrepancy of the global batch; a mean of two halves' would be another number."""

    def build():
        keras.utils.set_random_seed(0)
        model = small(known, lambda_=20.0)
        model.prior = Point()
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        return model

    x = digits[:size]
    alone = build()
    with mirrored.scope():
        model = build()
    data = tf.data.Dataset.from_tensor_slices(x).batch(12).repeat(3)
    logs = [m.fit(data, verbose=0).history for m in (model, alone)]
    for name in ("loss", "cost", "discrepancy"):
        assert logs[0][name][0] == pytest.approx(logs[1][name][0], rel=1e-4)
    for a, b in zip(model.trainable_variables, alone.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-5)


def test_decodes_its_codes(digits):
    model = wae_mlp((8, 8, 1), 3, (8,))
    np.testing.assert_array_equal(
        model.reconstruct(digits[:4]), model.generator(model.posterior.network(digits[:4]))
    )
    assert "log_prob" not in model.abilities()


def test_builders_pass_their_settings_on():
    for model in (
        wae_mlp((8, 8, 1), 4, (4,), "normal", 2.0, 3.0, "rbf"),
        wae_conv((8, 8, 1), 4, (4,), 4, 4, "normal", 2.0, 3.0, "rbf"),
    ):
        assert isinstance(model.posterior.family, zoo.DiagonalNormal)
        assert (model.lambda_, model.prior.scale, model.latent_dim) == (3.0, 2.0, 4)
        assert isinstance(model.kernel, RBF)
        assert model.kernel.bandwidth == pytest.approx(4.0)  # 2 sqrt(4)
    default = wae_conv((8, 8, 1), 4, (4,), 4, 4)
    assert isinstance(default.posterior.family, zoo.Deterministic)
    assert isinstance(default.kernel, InverseMultiquadric)
    assert default.kernel.bandwidth == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lambda_": -1.0}, "`lambda_` must be a number from 0 on. Received: -1.0"),
        ({"lambda_": math.nan}, "`lambda_`"),
        ({"prior_scale": 0.0}, "`prior_scale` must be above 0 and finite. Received: 0.0"),
        ({"posterior": "normall"}, "Unknown posterior 'normall'.*Did you mean 'normal'"),
        ({"kernel": "cubic"}, "Unknown kernel 'cubic'"),
    ],
)
def test_refuses_what_makes_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        wae_mlp((8, 8, 1), 2, (4,), **arguments)
