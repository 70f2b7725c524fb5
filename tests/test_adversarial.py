"""Adversarial losses against scipy's log-sigmoid and the theory of optimal discriminators."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import expit, lambertw, log_expit
from scipy.stats import norm

import zoo
from zoo.adversarial import (
    FDivergence,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Wasserstein,
    adversarial_loss,
)

LOGITS = np.array([-100, -20, -3, -0.5, 0, 0.5, 3, 20, 100], np.float32)
BOTH = pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_sat"])


def gradient(function, logits):
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = function(logits)
    return tape.gradient(value, logits).numpy()


@BOTH
def test_the_discriminator_loss_is_minus_the_log_probability_of_the_label(loss):
    wide = LOGITS.astype(np.float64)
    np.testing.assert_allclose(loss.real(LOGITS), -log_expit(wide), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(loss.fake(LOGITS), -log_expit(-wide), rtol=1e-5, atol=1e-7)


def test_the_generator_minimises_log_one_minus_d_or_minus_log_d():
    wide = LOGITS.astype(np.float64)
    np.testing.assert_allclose(Minimax().generator(LOGITS), log_expit(-wide), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        NonSaturating().generator(LOGITS), -log_expit(wide), rtol=1e-5, atol=1e-7
    )


def test_the_generators_gradient_is_minus_d_or_d_minus_one():
    wide = LOGITS.astype(np.float64)
    np.testing.assert_allclose(
        gradient(Minimax().generator, LOGITS), -expit(wide), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        gradient(NonSaturating().generator, LOGITS), -expit(-wide), rtol=1e-5, atol=1e-7
    )


@BOTH
@pytest.mark.parametrize("role", ["real", "fake", "generator"])
def test_losses_and_gradients_are_finite_at_extreme_logits(loss, role):
    logits = np.array([-1e4, -100, 100, 1e4], np.float32)
    function = getattr(loss, role)
    assert np.isfinite(function(tf.constant(logits))).all()
    gradients = gradient(function, logits)
    assert np.isfinite(gradients).all() and (np.abs(gradients) <= 1).all()
    assert np.abs(gradients).max() == pytest.approx(1)


@pytest.mark.parametrize("label", [0.6, 0.9])
def test_label_smoothing_changes_the_cross_entropy_target_of_real_examples_only(label):
    wide = LOGITS.astype(np.float64)
    expected = -label * log_expit(wide) - (1 - label) * log_expit(-wide)
    loss = NonSaturating(real_label=label)
    np.testing.assert_allclose(loss.real(LOGITS), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss.fake(LOGITS), Minimax().fake(LOGITS))
    np.testing.assert_allclose(loss.generator(LOGITS), NonSaturating().generator(LOGITS))


@pytest.mark.parametrize("real_label", [1.0, 0.8])
@pytest.mark.parametrize("role", ["real", "fake"])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_label_noise_exchanges_the_target_of_the_stated_share_of_examples(role, share, real_label):
    n, logit = 20_000, 1.5
    loss = Minimax(real_label=real_label, label_noise=share)
    losses = getattr(loss, role)(tf.fill([n], logit), seed=[1, 2]).numpy()
    # Cross-entropy with the targets `real_label` and 0.
    as_real = -real_label * log_expit(logit) - (1 - real_label) * log_expit(-logit)
    as_fake = -log_expit(-logit)
    right, wrong = (as_real, as_fake) if role == "real" else (as_fake, as_real)
    flipped = np.isclose(losses, wrong)
    assert (flipped | np.isclose(losses, right)).all()
    assert abs(flipped.mean() - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_label_noise_depends_on_the_seed_and_does_not_affect_the_generator():
    logits = tf.fill([1000], 1.5)
    loss = Minimax(label_noise=0.3)
    first, again, other = (loss.real(logits, seed=s).numpy() for s in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert 0.3 < (first != other).mean() < 0.54  # 2 * 0.3 * 0.7 = 0.42 if independent
    np.testing.assert_array_equal(loss.generator(logits), Minimax().generator(logits))


def densities():
    """Two densities on a grid, as shares that sum to one."""
    grid = np.linspace(-3, 4, 40)
    p, q = norm(0, 0.8).pdf(grid), 0.6 * norm(1.5, 0.7).pdf(grid) + 0.4 * norm(-1, 1).pdf(grid)
    return (p / p.sum()).astype(np.float32), (q / q.sum()).astype(np.float32)


def optimal(loss, p, q, rate=3):
    """The discriminator's optimal logits, by gradient descent, and its loss there."""
    logits = tf.Variable(tf.zeros(len(p)))

    @tf.function
    def descend():
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(p * loss.real(logits) + q * loss.fake(logits))
        logits.assign_sub(rate * tape.gradient(total, logits) / (p + q))
        return total

    for _ in range(600):
        total = descend()
    return logits.numpy(), float(total)


@BOTH
def test_the_optimal_discriminator_is_p_over_p_plus_q_with_loss_log_4_minus_twice_the_jsd(loss):
    p, q = densities()
    logits, total = optimal(loss, p, q)
    np.testing.assert_allclose(expit(logits), p / (p + q), atol=1e-4)
    middle = (p + q) / 2
    jsd = 0.5 * (p * np.log(p / middle)).sum() + 0.5 * (q * np.log(q / middle)).sum()
    assert jsd > 0.05
    assert total == pytest.approx(math.log(4) - 2 * jsd, abs=1e-5)


def test_equal_densities_have_the_optimal_discriminator_one_half_with_loss_2_log_2():
    p, _ = densities()
    logits, total = optimal(Minimax(), p, p)
    np.testing.assert_allclose(logits, 0, atol=1e-4)
    assert total == pytest.approx(2 * math.log(2), abs=1e-5)


def test_label_smoothing_scales_the_optimal_discriminator_down():
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


def test_losses_are_found_by_name_and_rebuilt_from_their_config():
    loss = adversarial_loss("non_saturating", real_label=0.9, label_noise=0.1)
    assert type(loss) is NonSaturating
    assert type(adversarial_loss("minimax")) is Minimax
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is NonSaturating and copy.get_config() == loss.get_config()
    assert (copy.real_label, copy.label_noise) == (0.9, 0.1)
    with pytest.raises(ValueError, match="Did you mean 'minimax'"):
        zoo.adversarial.adversarial_loss("minmax")


# Least squares, hinge, Wasserstein ----------------------------------------------------------------


def test_least_squares_is_half_the_squared_distance_to_each_target():
    v = np.array([-2.0, -0.5, 0.0, 0.7, 3.0], np.float32)
    for arguments, (a, b, c) in (((), (0, 1, 1)), ((-1.0, 1.0, 0.0), (-1, 1, 0))):
        loss = LeastSquares(*arguments)
        np.testing.assert_allclose(loss.real(v), (v - b) ** 2 / 2, rtol=1e-6)
        np.testing.assert_allclose(loss.fake(v), (v - a) ** 2 / 2, rtol=1e-6)
        np.testing.assert_allclose(loss.generator(v), (v - c) ** 2 / 2, rtol=1e-6)
        np.testing.assert_allclose(gradient(loss.generator, v), v - c, rtol=1e-6, atol=1e-7)
    for name in ("fake_target", "real_target", "generator_target"):
        assert name in adversarial_loss("least_squares_pearson").get_config()
    pearson = adversarial_loss("least_squares_pearson")
    assert (pearson.fake_target, pearson.real_target, pearson.generator_target) == (-1, 1, 0)


def test_the_optimal_least_squares_discriminator_gives_pearsons_divergence():
    # Mao et al., 2017, section 3.2.2: D = (b p + a q) / (p + q), and twice the generator's loss,
    # summed over real and fake examples, is the chi^2 divergence of p + q and 2 q.
    p, q = densities()
    loss = adversarial_loss("least_squares_pearson")
    logits, _ = optimal(loss, p, q, rate=0.3)
    np.testing.assert_allclose(logits, (p - q) / (p + q), atol=1e-4)
    total = 2 * np.sum((p + q) * loss.generator(tf.constant(logits)).numpy())
    assert total == pytest.approx(np.sum((2 * q - (p + q)) ** 2 / (p + q)), rel=1e-3)
    assert total > 0.1
    # The generator loss of fake examples alone is a different number.
    assert abs(2 * np.sum(q * loss.generator(tf.constant(logits)).numpy()) - total) > 0.05


def test_the_hinge_loss_is_zero_beyond_its_margin():
    v = np.array([-3.0, -1.0, -0.25, 0.0, 0.5, 1.5], np.float32)
    np.testing.assert_allclose(Hinge().real(v), [4.0, 2.0, 1.25, 1.0, 0.5, 0.0])
    np.testing.assert_allclose(Hinge().fake(v), [0.0, 0.0, 0.75, 1.0, 1.5, 2.5])
    np.testing.assert_allclose(Hinge().generator(v), -v)
    np.testing.assert_allclose(gradient(Hinge().real, v), [-1, -1, -1, -1, -1, 0])
    np.testing.assert_allclose(gradient(Hinge().fake, v), [0, 0, 1, 1, 1, 1])


def test_the_loss_of_the_optimal_hinge_discriminator_gives_the_total_variation_distance():
    # D = sign(p - q) is optimal, with the loss sum 2 min(p, q) = 2 (1 - TV).
    p, q = densities()
    tv = np.abs(p - q).sum() / 2
    total = np.sum(p * Hinge().real(np.sign(p - q)) + q * Hinge().fake(np.sign(p - q)))
    assert total == pytest.approx(2 * (1 - tv), rel=1e-5)
    for other in np.random.default_rng(0).normal(size=(20, len(p))).astype(np.float32):
        assert np.sum(p * Hinge().real(other) + q * Hinge().fake(other)) > total


def test_the_optimal_critic_of_two_points_has_minus_their_distance_as_loss():
    # Among functions of Lipschitz constant 1, D(x) = -x separates points at 0 and 3 best.
    loss, points = Wasserstein(), np.float32([0.0, 3.0])
    critic = -points
    assert float(loss.real(critic)[0] + loss.fake(critic)[1]) == -3.0
    np.testing.assert_allclose(loss.generator(critic), points)
    np.testing.assert_allclose(gradient(loss.generator, points), [-1, -1])


# f-divergences ------------------------------------------------------------------------------------

# f, its derivative, and the domain of its conjugate: Nowozin et al., 2016, tables 1 and 2.
F = {
    "kl": (lambda u: u * np.log(u), lambda u: 1 + np.log(u), (-np.inf, np.inf)),
    "reverse_kl": (lambda u: -np.log(u), lambda u: -1 / u, (-np.inf, 0)),
    "pearson": (lambda u: (u - 1) ** 2, lambda u: 2 * (u - 1), (-np.inf, np.inf)),
    "neyman": (lambda u: (1 - u) ** 2 / u, lambda u: 1 - u**-2, (-np.inf, 1)),
    "squared_hellinger": (lambda u: (np.sqrt(u) - 1) ** 2, lambda u: 1 - u**-0.5, (-np.inf, 1)),
    "jeffrey": (
        lambda u: (u - 1) * np.log(u),
        lambda u: np.log(u) + 1 - 1 / u,
        (-np.inf, np.inf),
    ),
    "jensen_shannon": (
        lambda u: u * np.log(u) - (u + 1) * np.log((1 + u) / 2),
        lambda u: np.log(2 * u / (1 + u)),
        (-np.inf, np.log(2)),
    ),
    "gan": (
        lambda u: u * np.log(u) - (u + 1) * np.log(u + 1),
        lambda u: np.log(u / (1 + u)),
        (-np.inf, 0),
    ),
    "total_variation": (lambda u: np.abs(u - 1) / 2, lambda u: np.sign(u - 1) / 2, (-0.5, 0.5)),
}
# Logits of an optimal T = f'(u): the inverse of each activation.
LOGIT = {
    "kl": lambda t: t,
    "reverse_kl": lambda t: -np.log(-t),
    "pearson": lambda t: t,
    "neyman": lambda t: -np.log1p(-t),
    "squared_hellinger": lambda t: -np.log1p(-t),
    "jeffrey": lambda t: t,
    "jensen_shannon": lambda t: t - np.log(2 - np.exp(t)),
    "gan": lambda t: t - np.log1p(-np.exp(t)),
    "total_variation": lambda t: 20 * t,
}
EVERY_F = pytest.mark.parametrize("name", F)


def numeric_conjugate(name, t):
    """sup over u > 0 of u t - f(u), by a search over log u."""
    f, _, _ = F[name]
    found = minimize_scalar(
        lambda log_u: f(np.exp(log_u)) - np.exp(log_u) * t,
        bounds=(-14, 14),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return -found.fun


@EVERY_F
def test_the_conjugate_matches_its_definition(name):
    loss = FDivergence(name)
    for v in np.linspace(-1.5, 3, 10).astype(np.float32):
        t = float(loss.output(v))
        # Pearson's conjugate is the conjugate of f on all reals: the supremum for t < -2 is at
        # u < 0.
        if name == "pearson" and t < -2:
            continue
        assert float(loss.fake(v)) == pytest.approx(numeric_conjugate(name, t), rel=2e-5, abs=2e-5)


@EVERY_F
def test_activations_increase_with_the_logit_within_the_conjugates_domain(name):
    loss, (low, high) = FDivergence(name), F[name][2]
    v = np.linspace(-6, 6, 200).astype(np.float32)
    t = loss.output(tf.constant(v)).numpy()
    assert (np.diff(t) > 0).all() and t.min() >= low and t.max() <= high
    np.testing.assert_allclose(loss.real(v), -t)
    # The activation reaches the ends of the domain up to rounding.
    wide = loss.output(tf.constant([-40.0, 40.0])).numpy()
    for end, have in zip((low, high), wide, strict=True):
        assert (abs(have) > 30) if np.isinf(end) else have == pytest.approx(end, abs=1e-6)


@EVERY_F
def test_the_threshold_is_the_derivative_of_f_at_1(name):
    f, _, _ = F[name]
    if name == "total_variation":  # f has a corner at 1: 0 is the middle of its subgradients.
        assert FDivergence(name).threshold == 0.0
        return
    derivative_at_one = (f(1 + 1e-5) - f(1 - 1e-5)) / 2e-5
    assert FDivergence(name).threshold == pytest.approx(derivative_at_one, abs=1e-4)


def divergence_of_normals(name, a, b):
    f, _, _ = F[name]
    return quad(lambda x: b.pdf(x) * f(a.pdf(x) / b.pdf(x)), -12, 13, limit=300)[0]


@EVERY_F
def test_only_the_optimal_discriminator_reaches_the_divergence(name):
    # Two normals, in the order in which the moments of the ratio exist.
    a, b = norm(0, 1.0), norm(0.7, 1.1)
    if name == "neyman":
        a, b = b, a
    x = np.linspace(-9, 10, 20001)
    loss, ratio = FDivergence(name), a.pdf(x) / b.pdf(x)
    _, derivative, _ = F[name]

    def bound(logits):
        logits = tf.constant(logits, tf.float32)
        real, fake = (np.asarray(part(logits), np.float64) for part in (loss.real, loss.fake))
        return np.trapezoid(-a.pdf(x) * real - b.pdf(x) * fake, x)

    best = LOGIT[name](derivative(ratio))
    expected = divergence_of_normals(name, a, b)
    assert bound(best) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    rng = np.random.default_rng(0)
    # The optimal logits of the total variation are infinite; large ones approximate them.
    near = best / 10 if name == "total_variation" else best
    for _ in range(10):
        other = near + rng.normal(0, 0.5) + rng.normal(0, 0.5) * np.sin(x * rng.uniform(0.5, 3))
        assert bound(other) < bound(best) - 1e-7


def test_divergences_agree_with_textbook_formulas():
    a, b = norm(0, 1.0), norm(0.7, 1.1)
    kl = math.log(1.1) + (1 + 0.49) / (2 * 1.21) - 0.5
    reverse = -math.log(1.1) + (1.21 + 0.49) / 2 - 0.5
    hellinger = 2 - 2 * math.sqrt(2 * 1.1 / (1 + 1.21)) * math.exp(-0.49 / (4 * (1 + 1.21)))
    for name, expected in (
        ("kl", kl),
        ("reverse_kl", reverse),
        ("jeffrey", kl + reverse),
        ("squared_hellinger", hellinger),
    ):
        assert divergence_of_normals(name, a, b) == pytest.approx(expected, rel=1e-6)
    jensen_shannon = divergence_of_normals("jensen_shannon", a, b)
    assert divergence_of_normals("gan", a, b) == pytest.approx(jensen_shannon - math.log(4))


@EVERY_F
def test_losses_and_gradients_are_finite_for_logits_up_to_80(name):
    wide = np.array([-80, -30, -5, 5, 30, 80], np.float32)
    for alternative in (True, False):
        loss = FDivergence(name, alternative)
        for role in (loss.real, loss.fake, loss.generator):
            assert np.isfinite(role(tf.constant(wide))).all()
            assert np.isfinite(gradient(role, wide)).all()


@EVERY_F
def test_gradients_match_finite_differences_in_double_precision(name):
    # d f*(g(v)) / dv = u g'(v), with u = (f')^-1(g(v)), by differences of the values tested above.
    v = np.linspace(-4, 4, 33)
    loss = FDivergence(name, alternative=False)
    h = 1e-5
    ends = [loss.fake(tf.constant(v + sign * h, tf.float64)).numpy() for sign in (1, -1)]
    np.testing.assert_allclose(
        gradient(loss.fake, v), (ends[0] - ends[1]) / (2 * h), rtol=1e-4, atol=1e-5
    )


@EVERY_F
def test_sums_of_losses_and_squares_of_gradients_are_finite_for_logits_of_ten_thousand(name):
    far = np.array([-1e4, -300, -89, 89, 300, 1e4], np.float32)
    for alternative in (True, False):
        loss = FDivergence(name, alternative)
        for role in (loss.real, loss.fake, loss.generator):
            total = role(tf.constant(far.repeat(1000)))
            assert np.isfinite(total).all() and np.isfinite(tf.reduce_sum(total))
            gradients = gradient(role, far)
            assert np.isfinite(gradients).all() and np.isfinite(gradients**2).all()


@pytest.mark.parametrize(
    ("name", "role", "factor", "rate", "shift"),  # factor e^(rate v + shift)
    [
        ("kl", "fake", 1, 1, -1),
        ("reverse_kl", "real", 1, -1, 0),
        ("neyman", "real", 1, -1, 0),
        ("neyman", "fake", -2, -0.5, 0),
        ("squared_hellinger", "real", 1, -1, 0),
        ("squared_hellinger", "fake", 1, 1, 0),
        ("jeffrey", "fake", 1, 1, -1),  # 1 / W(e^(1 - v)), nearly
    ],
)
def test_exponentials_continue_along_their_tangent_from_e_to_the_40(
    name, role, factor, rate, shift
):
    function = getattr(FDivergence(name), role)
    exponent = np.array([20.0, 39.0, 41.0, 60.0, 500.0])
    v = (exponent - shift) / rate
    height = np.where(exponent < 40, np.exp(exponent), np.exp(40) * (1 + exponent - 40))
    np.testing.assert_allclose(function(tf.constant(v, tf.float32)), factor * height, rtol=1e-4)
    steepness = factor * rate * np.exp(np.minimum(exponent, 40))
    np.testing.assert_allclose(gradient(function, v), steepness, rtol=1e-4)


def test_jeffreys_conjugate_matches_the_formula_with_lamberts_function():
    # Outside of this range the function is a tangent.
    v = np.concatenate([np.linspace(-80, 40, 31), np.linspace(-2, 4, 25)])
    w = lambertw(np.exp(1 - v)).real
    have = FDivergence("jeffrey").fake(tf.constant(v, tf.float32)).numpy()
    # The definition, with W + v replaced by 1 - log W, because its terms cancel.
    want = 1 / w + 1 - np.log(w) - 2
    np.testing.assert_allclose(have, want, rtol=2e-5, atol=2e-5)
    compiled = tf.function(FDivergence("jeffrey").fake, jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(v, tf.float32)), have, rtol=2e-5, atol=2e-5)
    # The derivative is the u with f'(u) = v.
    u = gradient(FDivergence("jeffrey").fake, v)
    near = np.abs(v) < 30
    np.testing.assert_allclose(np.log(u[near]) + 1 - 1 / u[near], v[near], rtol=2e-4, atol=2e-4)


def test_the_generator_minimises_the_bound_or_maximises_its_output():
    # Pearson's conjugate, on all reals, increases from -2 on.
    v = tf.constant(np.linspace(-1.9, 3, 13), tf.float32)
    for name in F:
        other, saddle = adversarial_loss(f"f_{name}"), FDivergence(name, alternative=False)
        if name != "total_variation":
            assert adversarial_loss(f"f_{name}_saddle").get_config() == saddle.get_config()
        np.testing.assert_array_equal(saddle.generator(v), -saddle.fake(v).numpy())
        np.testing.assert_array_equal(other.generator(v), -other.output(v).numpy())
        np.testing.assert_array_equal(other.generator(v), other.real(v))
        for role in ("real", "fake"):  # The discriminator's loss is the same.
            np.testing.assert_array_equal(getattr(saddle, role)(v), getattr(other, role)(v))
        # Both losses decrease with the logits of the generator's images.
        assert (gradient(saddle.generator, v) < 0).all() and (
            gradient(other.generator, v) < 0
        ).all()


def test_the_f_gan_of_the_divergence_gan_is_the_gan():
    for name, other in (("f_gan", NonSaturating()), ("f_gan_saddle", Minimax())):
        for role in ("real", "fake", "generator"):
            np.testing.assert_allclose(
                getattr(adversarial_loss(name), role)(LOGITS), getattr(other, role)(LOGITS)
            )


@pytest.mark.parametrize("name", ["least_squares", "hinge", "wasserstein", "f_kl"])
def test_losses_without_labels_refuse_label_options(name):
    for arguments in ({"real_label": 0.9}, {"label_noise": 0.1}):
        with pytest.raises(ValueError, match=f"'{name}' has no labels.*Received: real_label="):
            adversarial_loss(name, **arguments)
    adversarial_loss(name, real_label=1.0, label_noise=0.0)


def test_every_loss_is_rebuilt_from_its_config():
    v = tf.constant([-1.5, 0.0, 2.0])
    for name in zoo.adversarial.LOSSES:
        loss = adversarial_loss(name)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        for role in ("real", "fake", "generator"):
            np.testing.assert_array_equal(getattr(copy, role)(v), getattr(loss, role)(v))


def test_unknown_divergences_and_targets_out_of_order_are_refused():
    with pytest.raises(ValueError, match=r"Unknown divergence.*Did you mean 'neyman'"):
        FDivergence("neymann")
    with pytest.raises(ValueError, match=r"above `fake_target`.*Received: real_target=0\.0"):
        LeastSquares(real_target=0.0)
    with pytest.raises(ValueError, match="above `fake_target`"):
        LeastSquares(-1.0, 1.0, -1.0)
