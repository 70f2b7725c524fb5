"""Adversarial losses against scipy's log-sigmoid and the theory of optimal discriminators."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, log_expit
from scipy.stats import norm

import zoo
from zoo.adversarial import Minimax, NonSaturating, adversarial_loss

LOGITS = np.array([-100, -20, -3, -0.5, 0, 0.5, 3, 20, 100], np.float32)
BOTH = pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_sat"])


def slope(function, logits):
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = function(logits)
    return tape.gradient(value, logits).numpy()


@BOTH
def test_the_discriminator_pays_the_log_probability_of_its_errors(loss):
    wide = LOGITS.astype(np.float64)
    np.testing.assert_allclose(loss.real(LOGITS), -log_expit(wide), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(loss.fake(LOGITS), -log_expit(-wide), rtol=1e-5, atol=1e-7)


def test_the_generator_minimises_log_one_minus_d_or_minus_log_d():
    wide = LOGITS.astype(np.float64)
    np.testing.assert_allclose(Minimax().fool(LOGITS), log_expit(-wide), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(NonSaturating().fool(LOGITS), -log_expit(wide), rtol=1e-5, atol=1e-7)


def test_the_generators_slope_is_minus_d_where_it_saturates_and_d_minus_one_where_not():
    wide = LOGITS.astype(np.float64)
    np.testing.assert_allclose(slope(Minimax().fool, LOGITS), -expit(wide), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        slope(NonSaturating().fool, LOGITS), -expit(-wide), rtol=1e-5, atol=1e-7
    )


@BOTH
@pytest.mark.parametrize("role", ["real", "fake", "fool"])
def test_values_and_slopes_stay_finite_at_extreme_logits(loss, role):
    logits = np.array([-1e4, -100, 100, 1e4], np.float32)
    function = getattr(loss, role)
    assert np.isfinite(function(tf.constant(logits))).all()
    slopes = slope(function, logits)
    assert np.isfinite(slopes).all() and (np.abs(slopes) <= 1).all()
    assert np.abs(slopes).max() == pytest.approx(1)


@pytest.mark.parametrize("label", [0.6, 0.9])
def test_label_smoothing_is_cross_entropy_with_a_softer_target_for_real_only(label):
    wide = LOGITS.astype(np.float64)
    expected = -label * log_expit(wide) - (1 - label) * log_expit(-wide)
    loss = NonSaturating(real_label=label)
    np.testing.assert_allclose(loss.real(LOGITS), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss.fake(LOGITS), Minimax().fake(LOGITS))
    np.testing.assert_allclose(loss.fool(LOGITS), NonSaturating().fool(LOGITS))


@pytest.mark.parametrize("role", ["real", "fake"])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_label_noise_tells_the_stated_share_of_examples_the_other_label(role, share):
    n = 20_000
    noisy, plain = Minimax(label_noise=share), Minimax()
    logits = tf.fill([n], 1.5)
    paid = getattr(noisy, role)(logits, seed=[1, 2]).numpy()
    right = float(getattr(plain, role)(tf.constant([1.5]))[0])
    wrong = float(getattr(plain, "fake" if role == "real" else "real")(tf.constant([1.5]))[0])
    flipped = np.isclose(paid, wrong)
    assert (flipped | np.isclose(paid, right)).all()
    assert abs(flipped.mean() - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_label_noise_is_a_function_of_the_seed_and_independent_of_it_elsewhere():
    logits = tf.fill([1000], 1.5)
    loss = Minimax(label_noise=0.3)
    first, again, other = (loss.real(logits, seed=s).numpy() for s in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert 0.3 < (first != other).mean() < 0.54  # 2 * 0.3 * 0.7 = 0.42 if independent
    np.testing.assert_array_equal(loss.fool(logits), Minimax().fool(logits))


def densities():
    """Two densities on a grid, as shares that sum to one."""
    grid = np.linspace(-3, 4, 40)
    p, q = norm(0, 0.8).pdf(grid), 0.6 * norm(1.5, 0.7).pdf(grid) + 0.4 * norm(-1, 1).pdf(grid)
    return (p / p.sum()).astype(np.float32), (q / q.sum()).astype(np.float32)


def optimal(loss, p, q):
    """The discriminator's optimal logits, by gradient descent, and what it then pays."""
    logits = tf.Variable(tf.zeros(len(p)))

    @tf.function
    def descend():
        with tf.GradientTape() as tape:
            paid = tf.reduce_sum(p * loss.real(logits) + q * loss.fake(logits))
        logits.assign_sub(3 * tape.gradient(paid, logits) / (p + q))
        return paid

    for _ in range(600):
        paid = descend()
    return logits.numpy(), float(paid)


@BOTH
def test_the_optimal_discriminator_is_p_over_p_plus_q_and_pays_log_4_less_twice_the_jsd(loss):
    p, q = densities()
    logits, paid = optimal(loss, p, q)
    np.testing.assert_allclose(expit(logits), p / (p + q), atol=1e-4)
    middle = (p + q) / 2
    jsd = 0.5 * (p * np.log(p / middle)).sum() + 0.5 * (q * np.log(q / middle)).sum()
    assert jsd > 0.05
    assert paid == pytest.approx(math.log(4) - 2 * jsd, abs=1e-5)


def test_where_both_densities_agree_the_best_discriminator_guesses_and_pays_twice_log_2():
    p, _ = densities()
    logits, paid = optimal(Minimax(), p, p)
    np.testing.assert_allclose(logits, 0, atol=1e-4)
    assert paid == pytest.approx(2 * math.log(2), abs=1e-5)


def test_with_smoothing_the_optimal_discriminator_is_scaled_down():
    # Salimans et al., 2016, section 3.4, with beta = 0: D = alpha p / (p + q).
    p, q = densities()
    logits, _ = optimal(Minimax(real_label=0.8), p, q)
    np.testing.assert_allclose(expit(logits), 0.8 * p / (p + q), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"real_label": 0.5}, "real_label"),
        ({"real_label": 1.1}, "real_label"),
        ({"label_noise": 0.5}, "label_noise"),
        ({"label_noise": -0.1}, "label_noise"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=rf"{message}.*Received: "):
        adversarial_loss("minimax", **arguments)


def test_losses_are_found_by_name_and_come_back_from_their_config():
    loss = adversarial_loss("non_saturating", real_label=0.9, label_noise=0.1)
    assert type(loss) is NonSaturating
    assert type(adversarial_loss("minimax")) is Minimax
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is NonSaturating and copy.get_config() == loss.get_config()
    assert (copy.real_label, copy.label_noise) == (0.9, 0.1)
    with pytest.raises(ValueError, match="Did you mean 'minimax'"):
        zoo.adversarial.adversarial_loss("minmax")
