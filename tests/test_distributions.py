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
            scipy.special.log_expit((2 * BITS - 1) * (LOC - 0.5) / bounded(RAW, 0.1, 0.5)),
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
    return distributions.RoundedLogistic(
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
    params = tf.concat([tf.fill([1, 2, 2, 1], 0.0), tf.fill([1, 2, 2, 1], -20.0)], -1)
    params = tf.concat([params, params + tf.constant([1.0, 0.0])], 0)
    given = zoo.DiscretizedLogistic(levels=17)(params, 3)
    samples = given.sample(3, seed=[0, 1])
    assert samples.shape == [3, 2, 2, 2, 1]
    np.testing.assert_allclose(samples[:, 0], 0.0)
    np.testing.assert_allclose(samples[:, 1], 1.0)
    assert given.mean().shape == [2, 2, 2, 1]


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
    z = zoo.SwissRoll(radius=0.0, noise=0.3)().sample(5000, seed=[1, 2]).numpy()
    for values in (*z.T, (z[:, 0] + z[:, 1]) / np.sqrt(2)):
        assert scipy.stats.kstest(values, scipy.stats.norm(0, 0.3).cdf).pvalue > 1e-3


@pytest.mark.parametrize("prior", [zoo.NormalPetals(), zoo.SwissRoll(), zoo.Uniform(4)])
def test_priors_draw_the_same_from_the_same_seed_and_else_anew(prior):
    def draw(seed):
        return prior().sample(4, seed=seed).numpy()

    np.testing.assert_array_equal(draw([1, 2]), draw([1, 2]))
    assert np.abs(draw([1, 2]) - draw([1, 3])).max() > 1e-3


@pytest.mark.parametrize(
    "part",
    [
        zoo.Deterministic(),
        zoo.Bernoulli(),
        zoo.ContinuousBernoulli(),
        zoo.DiagonalNormal(0.02, 3.0),
        zoo.UnitNormal(),
        zoo.SharedScaleNormal(0.7, 0.2),
        zoo.DiscretizedLogistic(9, 0.02, 0.3),
        zoo.StandardNormal(4),
        zoo.IsotropicNormal(4, 3.0),
        zoo.Uniform(4, -2.0, 0.5),
        zoo.NormalPetals(4, 3.0, (0.3, 0.2)),
        zoo.SwissRoll(1.5, 2.0, 0.1),
    ],
    ids=lambda part: type(part).__name__,
)
def test_families_and_priors_come_back_from_their_config(part):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(part)))
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(part) and copy is not part
    assert keras.saving.serialize_keras_object(copy) == keras.saving.serialize_keras_object(part)
    is_prior = isinstance(part, distributions.Prior)
    params = () if is_prior else (tf.constant([[0.3, 0.6, -1.0, 2.0]]), 1)
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
