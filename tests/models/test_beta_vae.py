"""beta-VAE: its loss by hand, and the VAE at beta = 1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.schedules import LinearWarmUp

SEED = tf.constant([0, 1])


@pytest.fixture
def vae():
    return zoo.models.vae((8, 8, 1), latent_dim=3, hidden=(5,), likelihood="unit_normal")


@pytest.fixture
def x(digits):
    return tf.constant(digits[:7])


def of(vae, *args, **kwargs):
    return zoo.BetaVAE(vae.posterior, vae.likelihood, vae.prior, *args, **kwargs)


def exact_rate(vae, x):
    q = vae.posterior(x)
    loc, scale = np.asarray(q.mean(), np.float64), np.asarray(q.stddev(), np.float64)
    return 0.5 * (loc**2 + scale**2 - 1 - 2 * np.log(scale)).sum(1)


def test_beta_one_equals_the_vae_bit_for_bit(vae, digits):
    twin = of(keras.models.clone_model(vae), 1.0)
    twin.set_weights(vae.get_weights())
    for model in (vae, twin):
        model.compile("adam", jit_compile=False)
        model.fit(digits[:60], batch_size=20, epochs=2, verbose=0, shuffle=False)
    for a, b in zip(vae.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("training", [True, False])
def test_beta_multiplies_the_rate_in_training_and_evaluation(vae, x, beta, training):
    plain, terms = vae.objective(x, None, SEED, training)
    losses, same = of(vae, beta).objective(x, None, SEED, training)
    by_hand = np.asarray(plain["vae"], np.float64) + (beta - 1) * exact_rate(vae, x)
    np.testing.assert_allclose(losses["vae"], by_hand, rtol=1e-5)
    for name in terms:
        np.testing.assert_array_equal(terms[name], same[name])


@pytest.mark.parametrize(("step", "nats"), [(0, 0.0), (5, 1.5), (10, 3.0), (50, 3.0)])
def test_the_loss_penalises_the_distance_of_the_rate_from_the_capacity(vae, x, step, nats):
    model = of(vae, 100.0, LinearWarmUp(10, 3.0))
    model.step.assign(step)
    losses, terms = model.objective(x, None, SEED, True)
    rate = exact_rate(vae, x)
    by_hand = terms["distortion"] + 100 * np.abs(rate - nats)
    np.testing.assert_allclose(losses["vae"], by_hand, rtol=1e-4)


@pytest.mark.slow
def test_training_with_a_large_weight_reaches_the_capacity(digits):
    keras.utils.set_random_seed(1)
    model = zoo.models.beta_vae(
        (8, 8, 1), latent_dim=2, hidden=(16,), beta=50.0, capacity=3.0, capacity_steps=100
    )
    assert isinstance(model.capacity, LinearWarmUp)
    model.compile(keras.optimizers.Adam(1e-2), steps_per_execution=10)
    rates = model.fit(digits, batch_size=20, epochs=30, verbose=0).history["rate"]
    assert rates[-1] == pytest.approx(3.0, abs=0.3)
    assert rates[0] < 2


def test_a_warm_up_multiplies_beta_only_in_training(vae, x):
    model = of(vae, 4.0, rate_weight=LinearWarmUp(10))
    model.step.assign(5)
    for training, weight in ((True, 2.0), (False, 4.0)):
        losses, terms = model.objective(x, None, SEED, training)
        by_hand = terms["distortion"] + weight * exact_rate(vae, x)
        np.testing.assert_allclose(losses["vae"], by_hand, rtol=1e-5)


def test_the_encoder_gradient_includes_the_weight_of_the_rate(vae, x):
    model, weights = of(vae, 4.0), vae.posterior.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        losses, _ = model.objective(x, None, SEED, True)
        plain, _ = vae.objective(x, None, SEED, True)
        rate = zoo.distributions.kl(vae.posterior(x), vae.prior(), None)
    slopes = [tape.gradient(t, weights) for t in (losses["vae"], plain["vae"], rate)]
    for have, of_elbo, of_rate in zip(*slopes, strict=True):
        np.testing.assert_allclose(have, of_elbo + 3 * of_rate, rtol=1e-3, atol=1e-4)


def test_builders_convert_plain_values_to_schedules():
    model = zoo.models.beta_vae(
        (8, 8, 1),
        network="conv",
        latent_dim=2,
        filters=(4,),
        hidden=(4,),
        beta=3.0,
        capacity=2.0,
        warm_up_steps=7,
    )
    assert (model.beta, model.capacity, model.rate_weight.steps) == (3.0, 2.0, 7)
    assert zoo.models.beta_vae((8, 8, 1), latent_dim=2, hidden=(4,)).capacity is None
    with pytest.raises(ValueError, match=r"`capacity_steps`.*Received: "):
        zoo.models.beta_vae((8, 8, 1), latent_dim=2, hidden=(4,), capacity_steps=10)


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"capacity": -2.0}, {"beta": "4"}])
def test_numbers_out_of_range_are_refused(vae, wrong):
    with pytest.raises(ValueError, match=r"must be .*Received: "):
        of(vae, **wrong)
