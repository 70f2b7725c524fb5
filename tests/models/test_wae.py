"""The loss and the gradient of the WAE against its formula, and the codes after training."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from zoo.discrepancies import RBF, InverseMultiquadric
from zoo.models.wae import wae

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


def algorithm_2(x, generated, z, prior, lambda_):
    """The sums of the paper's Algorithm 2."""
    n = len(x)
    cost = ((x - generated) ** 2).sum() / n
    kz, kp, kzp = imq(z, z), imq(prior, prior), imq(z, prior)
    apart = 1 - np.eye(n)
    penalty = (
        lambda_ / (n * (n - 1)) * (kp * apart).sum()
        + lambda_ / (n * (n - 1)) * (kz * apart).sum()
        - 2 * lambda_ / n**2 * kzp.sum()
    )
    return cost, penalty


def test_the_loss_matches_algorithm_2(known, digits):
    x = digits[:7]
    model = small(known, lambda_=12.0, start_at_mean=False)
    z = np.asarray(model.posterior.network(x), np.float64)
    generated = np.asarray(model.generator(z.astype(np.float32)), np.float64)
    cost, penalty = algorithm_2(x, generated, z, known.noise(7, 3), 12.0)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    logs = model.fit(x, batch_size=7, shuffle=False, verbose=0).history
    assert logs["cost"][0] == pytest.approx(cost, rel=1e-5)
    assert logs["discrepancy"][0] == pytest.approx(penalty / 12, rel=1e-4)
    assert logs["loss"][0] == pytest.approx(cost + penalty, rel=1e-5)
    assert abs(penalty) > 0.1


def test_the_biased_estimate_has_the_pairs_of_a_point_with_itself(known, digits):
    x = tf.constant(digits[:7])
    model = small(known, unbiased=False)
    z, prior = np.asarray(model.posterior.network(x), np.float64), known.noise(7, 3)
    by_hand = imq(z, z).mean() + imq(prior, prior).mean() - 2 * imq(z, prior).mean()
    _, terms = model.objective(x, None, tf.constant([1, 2]), True)
    assert float(tf.reduce_mean(terms["discrepancy"])) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 1.0, 50.0])
def test_lambda_scales_the_discrepancy(known, digits, lambda_):
    model = small(known, lambda_=lambda_)
    losses, terms = model.objective(tf.constant(digits[:7]), None, tf.constant([1, 2]), True)
    np.testing.assert_allclose(
        losses["autoencoder"], terms["cost"] + lambda_ * terms["discrepancy"], rtol=1e-6
    )
    assert np.abs(terms["discrepancy"]).min() > 1e-3


def test_a_step_updates_both_networks_along_the_gradient(
    known, digits, weight_changes, assert_descends
):
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
    assert_descends(weight_changes(model, lambda: model.train_step((x,)))["autoencoder"], gradients)


@pytest.mark.slow
def test_training_reconstructs_and_matches_the_prior(digits):
    """Against the same networks trained without the discrepancy."""

    def after(lambda_):
        keras.utils.set_random_seed(0)
        model = wae((8, 8, 1), latent_dim=2, hidden=(32,), lambda_=lambda_)
        *weights, bias = model.posterior.network.get_weights()
        model.posterior.network.set_weights([*weights, bias + 3])
        model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
        model.fit(digits, batch_size=100, epochs=60, verbose=0)
        z = np.asarray(model.encode(digits))
        prior = np.random.default_rng(1).normal(size=(200, 2))
        cost = ((digits - np.asarray(model.decode(z))) ** 2).sum((1, 2, 3)).mean()
        return zoo.metrics.maximum_mean_discrepancy(z, prior, "imq").value, cost

    spread = ((digits - digits.mean(0)) ** 2).sum((1, 2, 3)).mean()
    (without, _), (matched, cost) = after(0.0), after(200.0)
    assert without > 0.3
    assert abs(matched) < 0.1 * without
    assert cost < 0.8 * spread


class Point(zoo.distributions.Prior):
    """All mass on (1, 1, 1): draws that do not depend on the replica."""

    def call(self, y=None):
        return tfd.Independent(tfd.Deterministic(tf.ones(3)), 1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [12, 7])
def test_two_replicas_match_one_replica(known, digits, mirrored, size):
    """The discrepancy compares the global batch; it is not the mean over the replicas' batches."""

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


def tiny(**options):
    return wae((8, 8, 1), **{"latent_dim": 4, "hidden": (4,)} | options)


CONV = {"network": "conv", "filters": (4,), "width": 4}


def test_a_reconstruction_is_the_generated_image_of_the_code(digits):
    model = tiny()
    np.testing.assert_array_equal(
        model.reconstruct(digits[:4]), model.generator(model.posterior.network(digits[:4]))
    )
    assert "log_prob" not in model.abilities()


@pytest.mark.parametrize("network", [{}, CONV], ids=["mlp", "conv"])
def test_the_builder_sets_the_parts(network, digits):
    model = tiny(posterior="normal", prior_scale=2.0, lambda_=3.0, kernel="rbf", **network)
    assert isinstance(model.posterior.family, zoo.DiagonalNormal)
    assert (model.lambda_, model.prior.scale, model.latent_dim) == (3.0, 2.0, 4)
    assert isinstance(model.kernel, RBF)
    assert model.kernel.bandwidth == pytest.approx(4.0)  # 2 sqrt(4)
    default = tiny(**network)
    assert isinstance(default.posterior.family, zoo.Deterministic)
    assert isinstance(default.prior, zoo.StandardNormal)
    assert isinstance(default.kernel, InverseMultiquadric)
    assert default.unbiased and not tiny(unbiased=False, **network).unbiased
    assert default.kernel.bandwidth == pytest.approx(2.0)
    norms = [isinstance(n, keras.layers.BatchNormalization) for n in default.generator.layers]
    assert any(norms)


def test_the_generator_mirrors_the_hidden_layers():
    units = [n.units for n in tiny(hidden=(5, 6)).generator.layers if hasattr(n, "units")]
    assert units == [6, 5, 64]


@pytest.mark.parametrize("options", [{"prior": "maf"}, {"posterior": "implicit"}])
def test_parts_with_differentiable_draws_train(options, digits):
    model = tiny(lambda_=50.0, **options)
    before = [v.numpy() for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.01))
    model.train_step((tf.constant(digits[:8]),))
    changed = [
        (v.numpy() != w).any() for v, w in zip(model.trainable_variables, before, strict=True)
    ]
    assert all(changed[: len(model.posterior.trainable_variables)])
    if "prior" in options:
        assert any(changed[-len(model.prior.trainable_variables) :])


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_a_learned_prior_without_differentiable_draws_is_refused(prior):
    with pytest.raises(ValueError, match=r"differentiable.*Received: .*Prior"):
        tiny(prior=prior)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_": -1.0}, r"`lambda_` must be at least 0 and finite\. Received: -1.0"),
        ({"lambda_": math.nan}, "`lambda_`"),
        ({"prior_scale": 0.0}, r"`prior_scale` must be above 0 and finite\. Received: 0.0"),
        ({"posterior": "normall"}, "Unknown posterior 'normall'.*Did you mean 'normal'"),
        ({"kernel": "cubic"}, "Unknown kernel 'cubic'"),
        ({"width": 4}, "network='mlp' does not use it"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)
