"""Families, conditionals and priors against scipy, enumeration and quadrature."""

import json
import math

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from zoo import distributions

tfd = tfp.distributions
RNG = np.random.default_rng(0)
LOC = RNG.normal(size=(2, 3, 2, 1)).astype(np.float32)
RAW = RNG.normal(size=(2, 3, 2, 1)).astype(np.float32)
X = RNG.uniform(size=(2, 3, 2, 1)).astype(np.float32)
BITS = (X > 0.5).astype(np.float32)


def bounded(raw, low, high):
    return np.exp(np.log(low) + np.log(high / low) * scipy.special.expit(raw))


def continuous_bernoulli(x, logits):
    """The log-density: l x less the log of its integral over [0, 1], (e^l - 1) / l."""
    logits = np.asarray(logits, np.float64)
    small = np.abs(logits) < 1e-6
    safe = np.where(small, 1.0, logits)
    # log((e^l - 1) / l) = max(l, 0) + log((1 - e^-|l|) / |l|)
    log_integral = np.maximum(safe, 0) + np.log(-np.expm1(-np.abs(safe)) / np.abs(safe))
    return logits * x - np.where(small, logits / 2, log_integral)


def logistic_masses(loc, scale, levels):
    """The masses of all levels, in float64, from differences of scipy's cdf."""
    edges = (np.arange(levels - 1) + 0.5) / (levels - 1)
    low = np.concatenate([[-np.inf], edges])
    high = np.concatenate([edges, [np.inf]])
    logistic = scipy.stats.logistic(loc, scale)
    left = logistic.cdf(high) - logistic.cdf(low)
    right = logistic.sf(low) - logistic.sf(high)
    return np.where((low + high) / 2 < loc, left, right)


# Families -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "params", "x", "expected"),
    [
        pytest.param(
            zoo.DiagonalNormal(),
            (LOC, RAW),
            X,
            scipy.stats.norm.logpdf(X, LOC, 1e-4 + np.log1p(np.exp(RAW))),
            id="normal",
        ),
        pytest.param(
            zoo.DiagonalNormal(min_scale=0.05, max_scale=2.0),
            (LOC, RAW),
            X,
            scipy.stats.norm.logpdf(X, LOC, bounded(RAW, 0.05, 2.0)),
            id="bounded normal",
        ),
        pytest.param(
            zoo.UnitNormal(),
            (LOC,),
            X,
            -0.5 * (X - LOC) ** 2 - 0.5 * math.log(2 * math.pi),
            id="unit normal",
        ),
        pytest.param(
            zoo.SharedScaleNormal(initial_scale=0.3, min_scale=0.1),
            (LOC,),
            X,
            scipy.stats.norm.logpdf(X, LOC, 0.3),
            id="shared scale",
        ),
        pytest.param(
            zoo.Bernoulli(),
            (LOC,),
            BITS,
            BITS * scipy.special.log_expit(LOC) + (1 - BITS) * scipy.special.log_expit(-LOC),
            id="bernoulli",
        ),
        pytest.param(
            zoo.ContinuousBernoulli(),
            (3 * LOC,),
            X,
            continuous_bernoulli(X, 3 * LOC),
            id="continuous bernoulli",
        ),
        pytest.param(
            zoo.DiscretizedLogistic(levels=2, min_scale=0.1, max_scale=0.5),
            (LOC, RAW),
            BITS,
            # The mean is LOC + 1/2, and the border of the two levels 1/2.
            scipy.special.log_expit((2 * BITS - 1) * LOC / bounded(RAW + 1, 0.1, 0.5)),
            id="two levels",
        ),
    ],
)
def test_log_prob_is_the_formula_with_all_its_constants_summed_over_the_event(
    family, params, x, expected
):
    given = family(tf.concat(params, -1), 3)
    assert given.event_shape == [3, 2, 1] and given.batch_shape == [2]
    np.testing.assert_allclose(given.log_prob(x), expected.sum((1, 2, 3)), rtol=2e-5)


def test_where_a_value_has_two_parameters_the_means_come_first_over_all_channels():
    params = np.array([[0.1, 0.2, 0.3, 9.0, 9.0, 9.0]], np.float32)
    np.testing.assert_allclose(zoo.DiagonalNormal()(params, 1).mean(), [[0.1, 0.2, 0.3]])


EXTREME = np.array([-1e4, -50, 0, 50, 1e4], np.float32)


@pytest.mark.parametrize(
    ("family", "scale_of", "low", "high"),
    [
        (zoo.DiagonalNormal(), lambda d: d.stddev(), 1e-4, np.inf),
        (zoo.DiagonalNormal(0.05, 1.0), lambda d: d.stddev(), 0.05, 1.0),
        (zoo.DiscretizedLogistic(), lambda d: d.distribution.scale, 1e-3, 1.0),
    ],
)
def test_extreme_raw_scales_stay_within_the_bounds_with_finite_gradients(
    family, scale_of, low, high
):
    raw = tf.constant(EXTREME)
    loc = tf.constant([0.0, 0.5, -3.0, 1.0, 40.0])
    for x in (0.0, 1.0):
        with tf.GradientTape() as tape:
            tape.watch([loc, raw])
            given = family(tf.stack([loc, raw], -1), 1)
            log_prob = given.log_prob(tf.fill([5, 1], x))
        scale = scale_of(given).numpy()[:, 0]
        assert (scale >= low * (1 - 1e-5)).all() and (scale <= high * (1 + 1e-5)).all()
        assert scale[0] == pytest.approx(low, rel=1e-4)
        if np.isfinite(high):
            assert scale[-1] == pytest.approx(high, rel=1e-4)
        assert (np.diff(scale) >= 0).all()
        assert np.isfinite(log_prob).all()
        assert all(np.isfinite(g).all() for g in tape.gradient(log_prob, [loc, raw]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.DiagonalNormal(min_scale=0.0), "must be positive"),
        (lambda: zoo.DiagonalNormal(min_scale=1.0, max_scale=0.5), "larger than it"),
        (lambda: zoo.SharedScaleNormal(initial_scale=1e-3), "larger than `min_scale`"),
        (lambda: zoo.DiscretizedLogistic(levels=1), "at least 2"),
        (lambda: zoo.DiscretizedLogistic(min_scale=2.0), "min_scale < max_scale"),
        (lambda: distributions.likelihood_family("bernouli"), "Did you mean 'bernoulli'"),
    ],
)
def test_arguments_out_of_range_are_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_shared_scale_is_learned_to_be_the_root_mean_squared_error():
    family = zoo.SharedScaleNormal()
    x = RNG.normal(0.0, 0.2, size=(500, 4)).astype(np.float32)
    optimizer = keras.optimizers.Adam(0.05)
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(family(tf.zeros_like(x), 1).log_prob(x))
        optimizer.apply(tape.gradient(loss, family.trainable_variables), family.trainable_variables)
    assert float(family.scale) == pytest.approx(np.sqrt((x**2).mean()), rel=1e-3)


# Continuous Bernoulli -------------------------------------------------------------------------

# 0.004 is where TFP changes from the formula to its expansion.
LOGITS = [0.0, 1e-4, -1e-3, 3.9e-3, 4.1e-3, -4.1e-3, 0.05, -1.0, 5.0, -10.0, 15.0, -15.0]
LARGE_LOGITS = [17.0, -17.0, 30.0, -30.0, 100.0, -100.0]


@pytest.mark.parametrize("logit", LOGITS + LARGE_LOGITS)
def test_the_continuous_bernoulli_integrates_to_one_and_is_its_formula(logit):
    def density(x):
        x = tf.constant(x, tf.float32)[:, None]
        return np.exp(zoo.ContinuousBernoulli()(tf.fill(x.shape, logit), 1).log_prob(x))

    total, _ = scipy.integrate.fixed_quad(density, 0, 1, n=200)
    assert total == pytest.approx(1, abs=1e-3)
    x = np.linspace(0, 1, 7)
    np.testing.assert_allclose(density(x), np.exp(continuous_bernoulli(x, logit)), rtol=1e-3)


@pytest.mark.parametrize("logit", LOGITS + LARGE_LOGITS)
def test_the_continuous_bernoulli_has_the_mean_of_its_density(logit):
    expected, _ = scipy.integrate.fixed_quad(
        lambda x: x * np.exp(continuous_bernoulli(x, logit)), 0, 1, n=200
    )
    mean = zoo.ContinuousBernoulli()(tf.constant([[logit]]), 1).mean()
    np.testing.assert_allclose(mean, [[expected]], atol=2e-3)


@pytest.mark.parametrize("logit", LOGITS + LARGE_LOGITS)
@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_the_slope_of_the_continuous_bernoulli_is_x_minus_its_mean(logit, x):
    expected, _ = scipy.integrate.fixed_quad(
        lambda t: t * np.exp(continuous_bernoulli(t, logit)), 0, 1, n=200
    )
    logits = tf.constant([[logit]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_prob = zoo.ContinuousBernoulli()(logits, 1).log_prob([[x]])
    np.testing.assert_allclose(tape.gradient(log_prob, logits), [[x - expected]], atol=5e-3)


# Discretized logistic -------------------------------------------------------------------------


def rounded(loc, scale, levels):
    return distributions.families.RoundedLogistic(
        tf.constant(loc, tf.float32), tf.constant(scale, tf.float32), levels
    )


LOC_SCALE_LEVELS = [
    (0.5, 0.1, 256),
    (-0.7, 0.05, 256),
    (1.9, 0.3, 17),
    (0.31, 1e-3, 256),
    (0.5, 1e-3, 2),
    (0.2, 50.0, 256),
    (-3.0, 1.0, 5),
]


@pytest.mark.parametrize(("loc", "scale", "levels"), LOC_SCALE_LEVELS)
def test_the_masses_of_all_levels_are_differences_of_the_cdf_and_sum_to_one(loc, scale, levels):
    x = np.linspace(0, 1, levels, dtype=np.float32)
    log_mass = rounded(loc, scale, levels).log_prob(x).numpy()
    masses = logistic_masses(loc, scale, levels)
    assert np.exp(log_mass.astype(np.float64)).sum() == pytest.approx(1, abs=3e-4)
    seen = masses > 1e-280
    # In float32 a place x / scale is known to about 1e-7 / scale.
    np.testing.assert_allclose(
        log_mass[seen], np.log(masses[seen]), rtol=1e-4, atol=1e-4 + 3e-7 / scale
    )


@pytest.mark.parametrize("loc", [-100.0, 0.0, 1.0, 100.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_far_off_levels_have_finite_masses_and_the_slope_of_an_exponential_tail(loc, scale):
    x = np.linspace(0, 1, 256, dtype=np.float32)
    place, width = tf.fill([256], loc), tf.fill([256], scale)
    with tf.GradientTape() as tape:
        tape.watch([place, width])
        log_mass = rounded(place, width, 256).log_prob(x)
    slope, slope_of_width = tape.gradient(log_mass, [place, width])
    assert all(np.isfinite(v).all() for v in (log_mass, slope, slope_of_width))
    if abs(loc) > 10:
        # Far away the mass is exp(-|x - loc| / scale) but for a factor; the near end takes all.
        near = 0 if loc < 0 else 255
        tail = np.delete(slope.numpy(), near)
        np.testing.assert_allclose(tail, -np.sign(loc) / scale, rtol=1e-3)
        assert float(log_mass[near]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("loc", "scale", "levels"), LOC_SCALE_LEVELS)
def test_the_mean_of_the_discretized_logistic_is_the_sum_over_its_levels(loc, scale, levels):
    expected = logistic_masses(loc, scale, levels) @ np.linspace(0, 1, levels)
    assert float(rounded(loc, scale, levels).mean()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("loc", "scale"), [(0.4, 0.15), (-0.1, 0.2), (1.2, 0.3)])
def test_samples_of_the_discretized_logistic_are_levels_as_frequent_as_their_masses(loc, scale):
    levels, n = 5, 20_000
    samples = rounded(loc, scale, levels).sample(n, seed=[1, 2]).numpy() * (levels - 1)
    np.testing.assert_array_equal(samples, np.round(samples))
    counts = np.bincount(samples.astype(int), minlength=levels)
    assert len(counts) == levels
    assert scipy.stats.chisquare(counts, n * logistic_masses(loc, scale, levels)).pvalue > 1e-3


def test_samples_for_a_batch_of_images_go_with_their_own_parameters():
    params = tf.concat([tf.fill([1, 2, 2, 1], -0.5), tf.fill([1, 2, 2, 1], -20.0)], -1)
    params = tf.concat([params, params + tf.constant([1.0, 0.0])], 0)
    given = zoo.DiscretizedLogistic(levels=17)(params, 3)
    samples = given.sample(3, seed=[0, 1])
    assert samples.shape == [3, 2, 2, 2, 1]
    np.testing.assert_allclose(samples[:, 0], 0.0)
    np.testing.assert_allclose(samples[:, 1], 1.0)
    assert given.mean().shape == [2, 2, 2, 1]


def test_a_discretized_likelihood_begins_near_the_uniform_one():
    x = np.arange(256, dtype=np.float32).reshape(256, 1, 1, 1) / 255
    bits = -zoo.DiscretizedLogistic()(tf.zeros([256, 1, 1, 2]), 3).log_prob(x) / math.log(2)
    assert tf.reduce_min(bits) > 4 and tf.reduce_max(bits) < 11  # 8 for each if uniform


# KL -------------------------------------------------------------------------------------------


def test_the_kl_of_two_diagonal_normals_is_the_formula_and_the_monte_carlo_mean():
    loc, raw = RNG.normal(size=(2, 4, 3)).astype(np.float32)
    q = zoo.DiagonalNormal()(tf.concat([loc, raw], -1), 1)
    p = zoo.StandardNormal(3)()
    scale = 1e-4 + np.log1p(np.exp(raw))
    formula = -0.5 * (1 + 2 * np.log(scale) - loc**2 - scale**2).sum(-1)
    z = q.sample(20_000, seed=[3, 4])
    estimates = (scipy.stats.norm.logpdf(z, loc, scale) - scipy.stats.norm.logpdf(z, 0.0, 1.0)).sum(
        -1
    )
    error = estimates.std(0) / np.sqrt(len(estimates))
    # `z` is of no use where there is a formula.
    exact = distributions.kl(q, p, tf.fill([4, 3], np.nan))
    np.testing.assert_allclose(exact, formula, rtol=1e-5)
    assert (np.abs(estimates.mean(0) - formula) < 4 * error).all()


def petal_normals(components=10, shift=1.4, scales=(0.5, 0.1)):
    for k in range(components):
        angle = 2 * np.pi * k / components
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        yield scipy.stats.multivariate_normal(
            shift * turn[:, 0], turn @ np.diag(np.square(scales)) @ turn.T
        )


def petal_density(z, **kwargs):
    return np.mean([normal.pdf(z) for normal in petal_normals(**kwargs)], 0)


def test_without_a_formula_the_kl_is_estimated_at_the_z_given():
    q = zoo.DiagonalNormal()(tf.constant([[1.2, 0.1, -1.5, -2.0], [0.0, 0.0, 0.0, 0.0]]), 1)
    z = q.sample(40_000, seed=[5, 6])
    estimates = distributions.kl(q, zoo.NormalPetals()(), z).numpy()
    scale = 1e-4 + np.log1p(np.exp([[-1.5, -2.0], [0.0, 0.0]]))
    log_q = scipy.stats.norm.logpdf(z, [[1.2, 0.1], [0.0, 0.0]], scale).sum(-1)
    np.testing.assert_allclose(estimates, log_q - np.log(petal_density(z)), rtol=1e-3, atol=1e-3)
    grid = np.stack(np.meshgrid(*[np.linspace(-5, 5, 801)] * 2, indexing="ij"), -1)
    for i, loc in enumerate([[1.2, 0.1], [0.0, 0.0]]):
        log_density = scipy.stats.norm.logpdf(grid, loc, scale[i]).sum(-1)
        with np.errstate(divide="ignore"):
            log_petals = np.maximum(np.log(petal_density(grid)), -1e4)
        integral = (np.exp(log_density) * (log_density - log_petals)).sum() * (10 / 800) ** 2
        error = estimates[:, i].std() / 200
        assert abs(estimates[:, i].mean() - integral) < 5 * error + 1e-3


# Categorical ----------------------------------------------------------------------------------


def test_a_categorical_value_has_the_softmax_of_its_own_logits():
    params = RNG.normal(size=(2, 3, 1, 2 * 4)).astype(np.float32)  # 2 channels, 4 levels.
    levels = RNG.integers(0, 4, size=(2, 3, 1, 2))
    logits = params.reshape(2, 3, 1, 4, 2)  # Logits of both channels' first level come first.
    log_probs = scipy.special.log_softmax(logits, 3)
    expected = np.take_along_axis(log_probs, levels[..., None, :], 3).sum((1, 2, 3, 4))
    p = zoo.Categorical(4)(tf.constant(params), 3)
    x = (levels / 3).astype(np.float32)
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-5)
    np.testing.assert_allclose(
        p.mean(), (np.exp(log_probs) * np.arange(4)[:, None] / 3).sum(3), rtol=1e-5
    )


def test_masses_of_categorical_levels_sum_to_one_and_draws_are_as_frequent():
    p = zoo.Categorical(17)(tf.constant(RNG.normal(size=17), tf.float32), 0)
    mass = np.exp(np.float64(p.log_prob(np.arange(17, dtype=np.float32) / 16)))
    assert mass.sum() == pytest.approx(1, rel=1e-5)
    draws = p.sample(20_000, seed=[1, 2]).numpy() * 16
    np.testing.assert_allclose(draws, np.round(draws), atol=1e-4)
    counts = np.bincount(np.round(draws).astype(int).ravel(), minlength=17)
    assert scipy.stats.chisquare(counts, 20_000 * mass / mass.sum()).pvalue > 1e-3


def test_leading_axes_of_categorical_parameters_go_with_one_image():
    params = tf.constant(RNG.normal(size=(6, 2, 3, 1, 5)), tf.float32)
    x = tf.constant(RNG.integers(0, 5, size=(2, 3, 1, 1)) / 4, tf.float32)
    together = zoo.Categorical(5)(params, 3).log_prob(x)
    for k in range(6):
        np.testing.assert_allclose(
            together[k], zoo.Categorical(5)(params[k], 3).log_prob(x), rtol=1e-5
        )


# Conditionals ---------------------------------------------------------------------------------


def network_with_condition(dim=4, outputs=6, condition=3):
    z, y = keras.Input((dim,)), keras.Input((condition,))
    h = keras.layers.Dense(5, "tanh")(keras.layers.Concatenate()([z, y]))
    return keras.Model([z, y], keras.layers.Dense(outputs)(h))


@pytest.mark.parametrize("lead", [(5,), (2, 3)])
@pytest.mark.parametrize("conditional", [False, True])
def test_leading_sample_axes_give_what_a_loop_over_them_gives(lead, conditional):
    network = network_with_condition() if conditional else zoo.networks.mlp(4, 6, (5,))
    p = zoo.Conditional(network, zoo.DiagonalNormal())
    z = RNG.normal(size=(*lead, 2, 4)).astype(np.float32)
    y = tf.constant(RNG.normal(size=(2, 3)), tf.float32) if conditional else None
    folded = p(tf.constant(z), y)
    assert folded.batch_shape == [*lead, 2] and folded.event_shape == [3]
    for index in np.ndindex(*lead):
        one = p(tf.constant(z[index]), y)
        np.testing.assert_allclose(folded.mean()[index], one.mean(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(folded.stddev()[index], one.stddev(), rtol=1e-5)


def test_leading_sample_axes_work_for_images_and_in_a_graph_of_unknown_batch_size():
    p = zoo.Conditional(zoo.networks.mlp_decoder(2, (4, 4, 1), 2, (5,)), zoo.DiagonalNormal())
    z = tf.constant(RNG.normal(size=(3, 5, 2)), tf.float32)
    mean = tf.function(
        lambda z: p(z).mean(), input_signature=[tf.TensorSpec([3, None, 2], tf.float32)]
    )
    for k in range(3):
        np.testing.assert_allclose(mean(z)[k], p(z[k]).mean(), rtol=1e-5, atol=1e-6)


def test_numpy_conditions_serve_sample_axes_too():
    p = zoo.Conditional(network_with_condition(), zoo.DiagonalNormal())
    z, y = np.ones((3, 2, 4), np.float32), np.ones((2, 3), np.float32)
    np.testing.assert_allclose(
        p(tf.constant(z), y).mean(), p(tf.constant(z), tf.constant(y)).mean()
    )


def test_the_condition_matters_is_asked_for_and_is_ignored_by_a_network_without_it():
    z, y = tf.ones([2, 4]), tf.eye(2, 3)
    p = zoo.Conditional(network_with_condition(), zoo.DiagonalNormal())
    mean = p(z, y).mean().numpy()
    assert np.abs(mean[0] - mean[1]).max() > 1e-3
    np.testing.assert_allclose(p(z, y[::-1]).mean(), mean[::-1], rtol=1e-6)
    with pytest.raises(ValueError, match="takes a condition"):
        p(z)
    plain = zoo.Conditional(zoo.networks.mlp(4, 6, (5,)), zoo.DiagonalNormal())
    np.testing.assert_array_equal(plain(z, y).mean(), plain(z).mean())


# Priors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (zoo.StandardNormal(3), scipy.stats.norm(0, 1)),
        (zoo.IsotropicNormal(3, scale=5.0), scipy.stats.norm(0, 5)),
        (zoo.Uniform(3), scipy.stats.uniform(-1, 2)),
        (zoo.Uniform(3, low=0.5, high=4.0), scipy.stats.uniform(0.5, 3.5)),
    ],
)
def test_priors_of_independent_values_have_scipys_density_and_draws(prior, expected):
    z = expected.rvs((5, 3), random_state=0).astype(np.float32)
    np.testing.assert_allclose(prior().log_prob(z), expected.logpdf(z).sum(-1), rtol=1e-5)
    samples = prior().sample(3000, seed=[1, 1]).numpy()
    assert samples.shape == (3000, 3)
    assert scipy.stats.kstest(samples.ravel(), expected.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(samples.T) - np.eye(3)).max() < 0.08


PETALS = {"components": 6, "shift": 2.0, "scales": (0.4, 0.2)}


@pytest.mark.parametrize("arguments", [{}, PETALS])
def test_petals_are_the_mixture_and_integrate_to_one(arguments):
    side = np.linspace(-5, 5, 401)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1)
    density = np.exp(zoo.NormalPetals(**arguments)().log_prob(tf.constant(grid, tf.float32)))
    np.testing.assert_allclose(density, petal_density(grid, **arguments), atol=1e-4)
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("arguments", [{}, PETALS])
def test_each_petal_lies_at_its_angle_along_its_ray(arguments):
    components = zoo.NormalPetals(**arguments)().components_distribution
    samples = components.sample(20_000, seed=[7, 8]).numpy()  # [n, K, 2]
    for k, normal in enumerate(petal_normals(**arguments)):
        np.testing.assert_allclose(samples[:, k].mean(0), normal.mean, atol=0.02)
        np.testing.assert_allclose(np.cov(samples[:, k].T), normal.cov, atol=0.01)


def test_draws_of_petals_follow_their_density():
    prior = zoo.NormalPetals(**PETALS)()
    z = prior.sample(20_000, seed=[9, 9]).numpy()
    # Each sector around a ray has an equal share, and the centre is as empty as the density says.
    sector = np.round(np.arctan2(z[:, 1], z[:, 0]) / (2 * np.pi / 6)).astype(int) % 6
    assert scipy.stats.chisquare(np.bincount(sector, minlength=6)).pvalue > 1e-3
    mean_square = 2.0**2 + 0.4**2 + 0.2**2
    assert (z**2).sum(-1).mean() == pytest.approx(mean_square, rel=0.02)
    side = np.linspace(-5, 5, 401)
    density = petal_density(np.stack(np.meshgrid(side, side), -1), **PETALS)
    entropy = -(density * np.log(np.maximum(density, 1e-300))).sum() * (10 / 400) ** 2
    assert -np.log(petal_density(z, **PETALS)).mean() == pytest.approx(entropy, abs=0.03)


@pytest.mark.parametrize(("dim", "radius"), [(2, None), (3, 1.0), (5, 2.5)])
def test_draws_on_a_sphere_have_its_radius_and_no_direction(dim, radius):
    p = zoo.UniformOnSphere(dim, radius)()
    z = p.sample(20_000, seed=(1, 2)).numpy()
    radius = np.sqrt(dim) if radius is None else radius
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), radius, rtol=1e-5)
    # A coordinate's square, as a share of the radius, is Beta(1/2, (D - 1) / 2) distributed.
    for column in z.T:
        share = scipy.stats.beta(0.5, (dim - 1) / 2)
        assert scipy.stats.kstest(column**2 / radius**2, share.cdf).pvalue > 1e-4
        assert abs((column > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(z))


def test_the_density_on_a_sphere_is_one_over_its_area():
    for dim, area in ((2, lambda r: 2 * np.pi * r), (3, lambda r: 4 * np.pi * r**2)):
        for radius in (0.5, 1.0, 3.0):
            p = zoo.UniformOnSphere(dim, radius)()
            z = p.sample([4, 5], seed=(1, 2))
            np.testing.assert_allclose(
                p.log_prob(z), np.full([4, 5], -np.log(area(radius))), rtol=1e-5
            )
    density = zoo.UniformOnSphere(7, 1.0)().log_prob(np.eye(7, dtype=np.float32))
    np.testing.assert_allclose(density, np.full(7, -np.log(16 * np.pi**3 / 15)), rtol=1e-5)


def test_spheres_that_there_are_not_are_refused():
    for arguments in ({"dim": 1}, {"dim": 3, "radius": 0.0}):
        with pytest.raises(ValueError, match="Received: "):
            zoo.UniformOnSphere(**arguments)


def test_the_swiss_roll_turns_as_it_widens():
    z = zoo.SwissRoll(turns=2.0, radius=3.0, noise=0.0)().sample(500, seed=[1, 2]).numpy()
    radius = np.hypot(*z.T)
    assert radius.max() <= 3.0 and radius.max() > 2.95
    angle = 2 * np.pi * 2 * radius / 3
    np.testing.assert_allclose(z, radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1),
                               atol=1e-4)  # fmt: skip


def test_the_swiss_roll_covers_its_arc_evenly():
    z = zoo.SwissRoll(turns=2.0, radius=3.0, noise=0.0)().sample(20_000, seed=[1, 2]).numpy()

    def arc(angle):  # of Archimedes' spiral
        return angle * np.sqrt(1 + angle**2) + np.arcsinh(angle)

    share = arc(4 * np.pi * np.hypot(*z.T) / 3) / arc(4 * np.pi)
    assert scipy.stats.kstest(share, "uniform").statistic < 0.03


def test_the_swiss_roll_is_as_thick_as_its_noise_in_both_directions():
    z = zoo.SwissRoll(radius=1e-6, noise=0.3)().sample(5000, seed=[1, 2]).numpy()
    for values in (*z.T, (z[:, 0] + z[:, 1]) / np.sqrt(2)):
        assert scipy.stats.kstest(values, scipy.stats.norm(0, 0.3).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.NormalPetals(components=0), "at least one component"),
        (lambda: zoo.NormalPetals(shift=float("nan")), "`shift` must be"),
        (lambda: zoo.NormalPetals(shift=-1.0), "`shift` must be"),
        (lambda: zoo.NormalPetals(scales=(0.5, 0.0)), "two numbers above 0"),
        (lambda: zoo.NormalPetals(scales=(-0.5, 0.1)), "two numbers above 0"),
        (lambda: zoo.NormalPetals(scales=(0.5, 0.1, 0.1)), "two numbers above 0"),
        (lambda: zoo.SwissRoll(components=0), "at least one component"),
        (lambda: zoo.SwissRoll(turns=float("nan")), "`turns` and `radius` must be"),
        (lambda: zoo.SwissRoll(radius=0.0), "`turns` and `radius` must be"),
        (lambda: zoo.SwissRoll(noise=-0.1), "`noise` at least 0"),
        (
            lambda: zoo.models.label_informed_aae.label_informed_aae_mlp((8, 8, 1), components=0),
            "at least one component",
        ),
    ],
)
def test_petals_and_rolls_that_there_are_not_are_refused(make, message):
    with pytest.raises(ValueError, match=rf"{message}.*Received: "):
        make()


@pytest.mark.parametrize("prior", [zoo.NormalPetals(), zoo.SwissRoll(), zoo.Uniform(4)])
def test_priors_draw_the_same_from_the_same_seed_and_else_anew(prior):
    def draw(seed):
        return prior().sample(4, seed=seed).numpy()

    np.testing.assert_array_equal(draw([1, 2]), draw([1, 2]))
    assert np.abs(draw([1, 2]) - draw([1, 3])).max() > 1e-3


# Full covariance ------------------------------------------------------------------------------


def correlated(batch=3, dim=4, seed=2):
    """A `FullCovarianceNormal`, and its means and factors in float64."""
    family = zoo.FullCovarianceNormal(min_scale=0.01)
    params = np.random.default_rng(seed).normal(size=(batch, family.num_params(dim)))
    loc, raw, below = np.split(params, [dim, 2 * dim], -1)
    factor = np.zeros((batch, dim, dim))
    factor[:, range(dim), range(dim)] = 0.01 + np.log1p(np.exp(raw))
    entries = tfp.math.fill_triangular(below).numpy() / dim
    factor[:, 1:, :-1] += entries
    return family(tf.constant(params, tf.float32), 1), loc, factor


def test_the_full_covariance_normal_is_scipys_and_tfps():
    q, loc, factor = correlated()
    assert (np.triu(factor, 1) == 0).all() and (factor != 0).sum() == 3 * 10
    z = RNG.normal(size=(5, 3, 4)).astype(np.float32)
    log_prob = q.log_prob(z).numpy()
    for i in range(3):
        expected = scipy.stats.multivariate_normal(loc[i], factor[i] @ factor[i].T)
        np.testing.assert_allclose(log_prob[:, i], expected.logpdf(z[:, i]), rtol=1e-3)
    tfps = tfd.MultivariateNormalTriL(tf.constant(loc, tf.float32), tf.constant(factor, tf.float32))
    np.testing.assert_allclose(log_prob, tfps.log_prob(z), rtol=1e-4)
    np.testing.assert_allclose(q.mean(), loc, rtol=1e-5)


def test_draws_of_the_full_covariance_normal_have_its_covariance():
    q, loc, factor = correlated()
    z = q.sample(40_000, seed=[1, 2]).numpy()
    for i in range(3):
        white = np.linalg.solve(factor[i], (z[:, i] - loc[i]).T)
        np.testing.assert_allclose(np.cov(white), np.eye(4), atol=0.03)
        assert all(scipy.stats.kstest(w, "norm").pvalue > 1e-4 for w in white)


def test_the_kl_of_a_full_covariance_normal_is_closed_and_agrees_with_tfp_and_monte_carlo():
    q, loc, factor = correlated()
    assert tf.reduce_all(
        distributions.kl(q, zoo.StandardNormal(4)(), tf.fill([3, 4], np.nan))
        == tfd.kl_divergence(q, zoo.StandardNormal(4)())
    )
    diagonal = np.diagonal(factor, axis1=1, axis2=2)
    closed = 0.5 * ((factor**2).sum((1, 2)) + (loc**2).sum(1) - 4) - np.log(diagonal).sum(1)
    have = tfd.kl_divergence(q, zoo.StandardNormal(4)())
    np.testing.assert_allclose(have, closed, rtol=1e-4)
    # Against other independent normals, with TFP's own formula for two correlated ones.
    place, scale = np.float32([1.0, -0.5, 0.0, 2.0]), np.float32([0.5, 1.0, 2.0, 0.7])
    p = tfd.Independent(tfd.Normal(place, scale), 1)
    full = tfd.MultivariateNormalTriL(q.loc, q.scale_tril)
    other = tfd.MultivariateNormalTriL(place, tf.linalg.diag(scale))
    have = tfd.kl_divergence(q, p)
    np.testing.assert_allclose(have, tfd.kl_divergence(full, other), rtol=1e-4)
    z = q.sample(20_000, seed=[3, 4])
    estimates = (q.log_prob(z) - p.log_prob(z)).numpy()
    error = estimates.std(0) / np.sqrt(20_000)
    assert (np.abs(estimates.mean(0) - have) < 4.5 * error).all()


def test_without_entries_below_the_diagonal_it_is_the_diagonal_normal():
    params = RNG.normal(size=(3, 8)).astype(np.float32)
    full = zoo.FullCovarianceNormal()(np.concatenate([params, np.zeros((3, 6), np.float32)], 1), 1)
    diagonal = zoo.DiagonalNormal()(params, 1)
    z = diagonal.sample(seed=[1, 2])
    p = zoo.StandardNormal(4)()
    np.testing.assert_allclose(full.log_prob(z), diagonal.log_prob(z), rtol=1e-5)
    np.testing.assert_allclose(
        tfd.kl_divergence(full, p), tfd.kl_divergence(diagonal, p), rtol=1e-5
    )
    np.testing.assert_allclose(full.mean(), diagonal.mean())
    np.testing.assert_allclose(full.stddev(), diagonal.stddev(), rtol=1e-6)


def test_one_dimension_is_a_covariance_too():
    q = zoo.FullCovarianceNormal()(tf.constant([[0.5, 1.0]]), 1)
    expected = scipy.stats.norm.logpdf(0.2, 0.5, 1e-4 + np.log1p(np.e))
    np.testing.assert_allclose(q.log_prob([[0.2]]), [expected], rtol=1e-5)


def test_against_a_prior_without_a_formula_the_kl_is_estimated():
    q, _, _ = correlated(dim=2)
    z = q.sample(seed=[1, 2])
    p = zoo.NormalPetals()()
    np.testing.assert_allclose(distributions.kl(q, p, z), q.log_prob(z) - p.log_prob(z), rtol=1e-5)
    uniform = zoo.Uniform(2, -9.0, 9.0)()
    expected = q.log_prob(z) - uniform.log_prob(z)
    np.testing.assert_allclose(distributions.kl(q, uniform, z), expected, rtol=1e-5)


def test_with_the_exact_full_covariance_posterior_the_elbo_is_log_p_where_a_diagonal_one_loses():
    # Probabilistic PCA whose factors are not orthogonal: W, noise s, q = N(M^-1 W^T (x - m),
    # s^2 M^-1) with M = W^T W + s^2 I. The best diagonal q loses 1/2 (sum log L_ii - log det L),
    # L = M / s^2.
    w = np.array([[0.5, 0.9], [0.2, -0.2], [-0.5, 0.3], [0.8, 0.6]])
    mean, noise = np.array([0.5, 0.4, 0.6, 0.5]), 0.3
    precision = (w.T @ w + noise**2 * np.eye(2)) / noise**2
    to_loc = w @ np.linalg.inv(precision) / noise**2
    x = RNG.uniform(0, 1, (5, 2, 2, 1)).astype(np.float32)
    decoder = zoo.networks.mlp_decoder(2, (2, 2, 1), 1, ())
    decoder.set_weights([w.T, mean])
    likelihood = zoo.Conditional(decoder, zoo.SharedScaleNormal(noise))

    def elbo(family, scale_params):
        encoder = zoo.networks.mlp_encoder((2, 2, 1), family.num_params(2), ())
        kernel = np.concatenate([to_loc, np.zeros((4, len(scale_params)))], 1)
        encoder.set_weights([kernel, np.concatenate([-mean @ to_loc, scale_params])])
        model = zoo.VAE(zoo.Conditional(encoder, family), likelihood, zoo.StandardNormal(2))
        losses, _ = model.objective(tf.repeat(x, 8000, 0), None, tf.constant([1, 2]), True)
        losses = losses["vae"].numpy().reshape(5, 8000)
        return -losses.mean(1), losses.std(1) / np.sqrt(8000)

    def raw(scale):
        return np.log(np.expm1(scale - 1e-4))

    factor = np.linalg.cholesky(np.linalg.inv(precision))
    bound, error = elbo(zoo.FullCovarianceNormal(), [*raw(np.diag(factor)), 2 * factor[1, 0]])
    marginal = scipy.stats.multivariate_normal(mean, w @ w.T + noise**2 * np.eye(4))
    log_p = marginal.logpdf(x.reshape(5, 4))
    assert (np.abs(bound - log_p) < 4.5 * error).all()
    bound, error = elbo(zoo.DiagonalNormal(), raw(1 / np.sqrt(np.diag(precision))))
    loss = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    assert loss > 10 * error.max()
    assert (np.abs(bound - log_p + loss) < 4.5 * error).all()


# Mixture and VampPrior ------------------------------------------------------------------------


def mixture(dim=3, components=4):
    prior = zoo.MixturePrior(dim, components)
    for variable in prior.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    return prior


def mixture_log_prob(z, weights, loc, scale):
    """Sum over dimensions, then log-sum-exp over components."""
    each = scipy.stats.norm.logpdf(z[:, None], loc, scale).sum(-1)
    return scipy.special.logsumexp(each + np.log(weights), axis=-1)


def numbers_of(prior):
    logits, loc, raw = (np.float64(v) for v in (prior.logits, prior.loc, prior.raw_scale))
    return scipy.special.softmax(logits), loc, prior.min_scale + np.log1p(np.exp(raw))


def test_the_mixture_prior_is_a_mixture_of_vectors():
    prior = mixture()
    z = RNG.normal(size=(6, 3)).astype(np.float32)
    expected = mixture_log_prob(z, *numbers_of(prior))
    np.testing.assert_allclose(prior().log_prob(z), expected, rtol=1e-4)


def test_a_mixture_of_one_standard_normal_is_the_standard_normal():
    prior = zoo.MixturePrior(3, 1)
    prior.loc.assign(np.zeros((1, 3)))
    z = RNG.normal(size=(6, 3)).astype(np.float32)
    np.testing.assert_allclose(prior().log_prob(z), zoo.StandardNormal(3)().log_prob(z), rtol=1e-5)
    posterior = zoo.Conditional(zoo.networks.mlp_encoder((2, 2, 1), 6, ()), zoo.DiagonalNormal())
    decoder = zoo.networks.mlp_decoder(3, (2, 2, 1), 1, ())
    x = tf.constant(RNG.uniform(size=(4, 2, 2, 1)), tf.float32)
    rate, plain = (
        zoo.VAE(posterior, zoo.Conditional(decoder, zoo.Bernoulli()), p).objective(
            tf.repeat(x, 5000, 0), None, tf.constant([1, 2]), True
        )[1]["rate"].numpy().reshape(4, 5000)
        for p in (prior, zoo.StandardNormal(3))
    )  # fmt: skip
    error = rate.std(1) / np.sqrt(5000)
    assert (np.abs(rate.mean(1) - plain.mean(1)) < 4.5 * error).all()


def test_the_mixture_prior_starts_with_equal_weights_and_unit_scales():
    weights, _, scale = numbers_of(zoo.MixturePrior(3, 5))
    np.testing.assert_allclose(weights, 0.2)
    np.testing.assert_allclose(scale, 1, rtol=1e-5)


PLANE = np.stack(np.meshgrid(*[np.linspace(-10, 10, 401)] * 2, indexing="ij"), -1)


def assert_draws_follow(given):
    """In two dimensions: the density integrates to one, and rectangles get their share."""
    density = np.exp(given.log_prob(tf.constant(PLANE, tf.float32)).numpy().astype(np.float64))
    assert density.sum() * 0.05**2 == pytest.approx(1, abs=1e-3)
    edges = [-0.825, 0.025, 0.825]
    masses = np.zeros((4, 4))
    np.add.at(masses, tuple(np.digitize(PLANE[..., i], edges) for i in (0, 1)), density)
    z = given.sample(20_000, seed=[5, 6]).numpy()
    counts = np.zeros((4, 4))
    np.add.at(counts, tuple(np.digitize(z[:, i], edges) for i in (0, 1)), 1)
    expected = 20_000 * masses / masses.sum()
    many = expected > 10
    statistic = ((counts - expected)[many] ** 2 / expected[many]).sum()
    assert many.sum() > 6 and statistic < scipy.stats.chi2.ppf(1 - 1e-4, many.sum())


def test_draws_of_the_mixture_prior_follow_its_density_which_integrates_to_one():
    assert_draws_follow(mixture(2)())


def vamp(components, family=None, latents=2):
    family = family or zoo.DiagonalNormal()
    encoder = zoo.networks.mlp_encoder((2, 2, 1), family.num_params(latents), (6,), "tanh")
    prior = zoo.VampPrior((2, 2, 1), components)
    posterior = zoo.Conditional(encoder, family)
    prior.bind(posterior)
    return prior, posterior


FAMILIES = {
    "normal": zoo.DiagonalNormal,
    "full_covariance": zoo.FullCovarianceNormal,
    "iaf": lambda: zoo.InverseAutoregressiveNormal(2, 1, (5,), 3),
}


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_vamp_prior_is_the_mean_density_of_the_posteriors_of_its_pseudo_inputs(
    family, components
):
    prior, posterior = vamp(components, FAMILIES[family]())
    z = RNG.normal(size=(7, 2)).astype(np.float32)
    each = [
        posterior(prior.pseudo_inputs.numpy()[k : k + 1]).log_prob(z) for k in range(components)
    ]
    expected = scipy.special.logsumexp(each, axis=0) - np.log(components)
    np.testing.assert_allclose(prior().log_prob(z), expected, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_of_the_vamp_prior_follow_its_density(family):
    assert_draws_follow(vamp(3, FAMILIES[family]())[0]())


def test_a_vamp_prior_started_from_data_has_them_as_pseudo_inputs():
    prior, posterior = vamp(3)
    x = np.round(RNG.uniform(size=(5, 2, 2, 1))).astype(np.float32)
    prior.initialize(x)
    np.testing.assert_array_equal(prior.pseudo_inputs, x[:3])
    np.testing.assert_array_equal(
        prior().components_distribution.mean(), posterior(tf.constant(x[:3])).mean()
    )


def vamp_vae(components=3):
    return zoo.models.vae.vae_mlp(
        (2, 2, 1), 2, (6,), "tanh", prior="vamp", prior_components=components
    )


def test_the_vamp_prior_has_pseudo_inputs_of_its_own_and_the_encoder_of_the_model():
    model = vamp_vae()
    assert [v.path.split("/")[-1] for v in model.prior.variables] == ["pseudo_inputs"]
    assert len(set(map(id, model.weights))) == len(model.weights) == 1 + 4 + 4 + 1
    x = tf.constant(RNG.uniform(size=(4, 2, 2, 1)), tf.float32)
    z = tf.constant(RNG.normal(size=(4, 2)), tf.float32)
    with tf.GradientTape() as tape:
        log_prob = model.prior().log_prob(z)
    encoder = model.posterior.trainable_variables
    gradients = tape.gradient(log_prob, [*encoder, model.prior.pseudo_inputs.value])
    assert all(np.abs(g).max() > 1e-6 for g in gradients)
    # In the loss the encoder is moved from both sides.
    both = model.objective(x, None, tf.constant([1, 2]), True)[1]["rate"]
    q = model.posterior(x)
    z = q.sample(seed=tf.constant([1, 2]))
    np.testing.assert_allclose(both, q.log_prob(z) - model.prior().log_prob(z), rtol=1e-4)


def test_a_saved_vamp_prior_uses_the_loaded_models_encoder(tmp_path):
    model = vamp_vae()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    z = tf.constant(RNG.normal(size=(4, 2)), tf.float32)
    before = model.prior().log_prob(z).numpy()
    np.testing.assert_array_equal(loaded.prior().log_prob(z), before)
    loaded.posterior.network.set_weights([0.5 * w for w in loaded.posterior.get_weights()])
    assert np.abs(loaded.prior().log_prob(z) - before).min() > 1e-4
    np.testing.assert_array_equal(model.prior().log_prob(z), before)


def test_pseudo_inputs_stay_images_and_can_come_back_from_the_edge():
    model = vamp_vae()
    model.compile(keras.optimizers.SGD(5.0))
    x = np.round(RNG.uniform(size=(8, 2, 2, 1))).astype(np.float32)
    model.prior.initialize(x)
    seen = []
    for _ in range(10):
        model.fit(x, batch_size=8, verbose=0)
        seen.append(model.prior.pseudo_inputs.numpy())
        assert seen[-1].min() >= 0 and seen[-1].max() <= 1
    edge = (np.array(seen) == 0) | (np.array(seen) == 1)
    assert (edge[:-1] & ~edge[1:]).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.FullCovarianceNormal(min_scale=0.0), "must be positive"),
        (lambda: zoo.FullCovarianceNormal()(tf.zeros([2, 8]), 1), r"D \(D \+ 3\) / 2 parameters"),
        (lambda: zoo.MixturePrior(2, 0), "at least one component"),
        (lambda: zoo.MixturePrior(2, min_scale=1.0), "between 0 and 1"),
        (lambda: zoo.VampPrior((2, 2, 1), 0), "at least one component"),
        (lambda: zoo.VampPrior((2, 2, 1))(), "made from a posterior"),
        (lambda: vamp(3)[0].bind(zoo.Conditional(network_with_condition(), zoo.UnitNormal())),
         "without a condition"),
        (lambda: zoo.VampPrior((3, 2, 1), 2).bind(vamp(3)[1]), "shape of the posterior's images"),
        (lambda: vamp(3)[0].initialize(np.zeros((2, 2, 2, 1))), "at least 3 images"),
        (lambda: vamp(3)[0].initialize(np.zeros((3, 3, 2, 1))), "at least 3 images"),
        (lambda: vamp(3)[0].initialize(np.full((3, 2, 2, 1), 1.5)), "values from 1.5"),
    ],
)  # fmt: skip
def test_what_no_mixture_can_be_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (zoo.Bernoulli(), 5),
        (zoo.Categorical(3), 15),
        (zoo.DiagonalNormal(), 10),
        (zoo.FullCovarianceNormal(), 5 + 15),
        (zoo.InverseAutoregressiveNormal(5, context=7), 17),
        (zoo.PlanarNormal(5, steps=3), 10 + 3 * 11),
    ],
)
def test_a_family_says_how_many_parameters_it_takes_and_takes_them(family, expected):
    assert family.num_params(5) == expected
    assert family(tf.zeros([2, expected]), 1).sample(seed=[1, 2]).shape == (2, 5)


@pytest.mark.parametrize(
    "part",
    [
        zoo.Deterministic(),
        zoo.Bernoulli(),
        zoo.ContinuousBernoulli(),
        zoo.DiagonalNormal(0.02, 3.0),
        zoo.UnitNormal(),
        zoo.FullCovarianceNormal(0.02),
        zoo.SharedScaleNormal(0.7, 0.2),
        zoo.DiscretizedLogistic(9, 0.02, 0.3),
        zoo.Categorical(4),
        zoo.StandardNormal(4),
        zoo.IsotropicNormal(4, 3.0),
        zoo.Uniform(4, -2.0, 0.5),
        zoo.NormalPetals(4, 3.0, (0.3, 0.2)),
        zoo.SwissRoll(1.5, 2.0, 0.1, 7),
        zoo.MixturePrior(3, 4, 0.1),
    ],
    ids=lambda part: type(part).__name__,
)
def test_families_and_priors_come_back_from_their_config(part):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(part)))
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(part) and copy is not part
    assert keras.saving.serialize_keras_object(copy) == keras.saving.serialize_keras_object(part)
    is_prior = isinstance(part, distributions.Prior)
    size = 5 if isinstance(part, zoo.FullCovarianceNormal) else 4
    params = () if is_prior else (tf.constant([[0.3, 0.6, -1.0, 2.0, 0.5]])[:, :size], 1)
    copy.set_weights(part.get_weights())
    draws = [p(*params).sample(5, seed=[3, 1]) for p in (part, copy)]
    np.testing.assert_array_equal(*draws)


def test_a_conditional_comes_back_from_its_config_with_its_network():
    p = zoo.Conditional(network_with_condition(), zoo.DiagonalNormal(0.02, 3.0))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(p)))
    copy = keras.saving.deserialize_keras_object(config)
    copy.network.set_weights(p.network.get_weights())
    z, y = tf.ones([2, 4]), tf.eye(2, 3)
    np.testing.assert_allclose(copy(z, y).stddev(), p(z, y).stddev())
    assert copy.family.max_scale == 3.0
