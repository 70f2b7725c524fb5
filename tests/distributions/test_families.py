"""Families: densities against formulas, SciPy and integrals; bounds of scales; errors."""

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
    """The log-density: l x minus the log of the integral over [0, 1], (e^l - 1) / l."""
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
def test_log_prob_is_the_complete_formula_summed_over_the_event(family, params, x, expected):
    distribution = family(tf.concat(params, -1), 3)
    assert distribution.event_shape == [3, 2, 1] and distribution.batch_shape == [2]
    np.testing.assert_allclose(distribution.log_prob(x), expected.sum((1, 2, 3)), rtol=2e-5)


def test_the_means_of_all_channels_precede_the_scales():
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
            distribution = family(tf.stack([loc, raw], -1), 1)
            log_prob = distribution.log_prob(tf.fill([5, 1], x))
        scale = scale_of(distribution).numpy()[:, 0]
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
def test_arguments_out_of_range_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_learned_shared_scale_is_the_root_mean_squared_error():
    family = zoo.SharedScaleNormal()
    x = RNG.normal(0.0, 0.2, size=(500, 4)).astype(np.float32)
    optimizer = keras.optimizers.Adam(0.05)
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(family(tf.zeros_like(x), 1).log_prob(x))
        optimizer.apply(tape.gradient(loss, family.trainable_variables), family.trainable_variables)
    assert float(family.scale) == pytest.approx(np.sqrt((x**2).mean()), rel=1e-3)


# Continuous Bernoulli -------------------------------------------------------------------------

# At 0.004, TFP switches from the formula to an expansion.
LOGITS = [0.0, 1e-4, -1e-3, 3.9e-3, 4.1e-3, -4.1e-3, 0.05, -1.0, 5.0, -10.0, 15.0, -15.0]
LARGE_LOGITS = [17.0, -17.0, 30.0, -30.0, 100.0, -100.0]


@pytest.mark.parametrize("logit", LOGITS + LARGE_LOGITS)
def test_the_continuous_bernoulli_matches_its_formula_and_integrates_to_one(logit):
    def density(x):
        x = tf.constant(x, tf.float32)[:, None]
        return np.exp(zoo.ContinuousBernoulli()(tf.fill(x.shape, logit), 1).log_prob(x))

    total, _ = scipy.integrate.fixed_quad(density, 0, 1, n=200)
    assert total == pytest.approx(1, abs=1e-3)
    x = np.linspace(0, 1, 7)
    np.testing.assert_allclose(density(x), np.exp(continuous_bernoulli(x, logit)), rtol=1e-3)


@pytest.mark.parametrize("logit", LOGITS + LARGE_LOGITS)
def test_the_mean_of_the_continuous_bernoulli_matches_its_density(logit):
    expected, _ = scipy.integrate.fixed_quad(
        lambda x: x * np.exp(continuous_bernoulli(x, logit)), 0, 1, n=200
    )
    mean = zoo.ContinuousBernoulli()(tf.constant([[logit]]), 1).mean()
    np.testing.assert_allclose(mean, [[expected]], atol=2e-3)


@pytest.mark.parametrize("logit", LOGITS + LARGE_LOGITS)
@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_the_gradient_of_the_continuous_bernoulli_is_x_minus_its_mean(logit, x):
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
    # In float32, x / scale has an error of about 1e-7 / scale.
    np.testing.assert_allclose(
        log_mass[seen], np.log(masses[seen]), rtol=1e-4, atol=1e-4 + 3e-7 / scale
    )


@pytest.mark.parametrize("loc", [-100.0, 0.0, 1.0, 100.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_distant_levels_have_finite_masses_and_the_gradient_of_an_exponential_tail(loc, scale):
    x = np.linspace(0, 1, 256, dtype=np.float32)
    place, width = tf.fill([256], loc), tf.fill([256], scale)
    with tf.GradientTape() as tape:
        tape.watch([place, width])
        log_mass = rounded(place, width, 256).log_prob(x)
    slope, slope_of_width = tape.gradient(log_mass, [place, width])
    assert all(np.isfinite(v).all() for v in (log_mass, slope, slope_of_width))
    if abs(loc) > 10:
        # Far away, the mass is proportional to exp(-|x - loc| / scale), and the nearest level has
        # nearly all of it.
        near = 0 if loc < 0 else 255
        tail = np.delete(slope.numpy(), near)
        np.testing.assert_allclose(tail, -np.sign(loc) / scale, rtol=1e-3)
        assert float(log_mass[near]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("loc", "scale", "levels"), LOC_SCALE_LEVELS)
def test_the_mean_of_the_discretized_logistic_is_the_sum_over_its_levels(loc, scale, levels):
    expected = logistic_masses(loc, scale, levels) @ np.linspace(0, 1, levels)
    assert float(rounded(loc, scale, levels).mean()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("loc", "scale"), [(0.4, 0.15), (-0.1, 0.2), (1.2, 0.3)])
def test_samples_of_the_discretized_logistic_are_levels_with_frequencies_of_their_masses(
    loc, scale
):
    levels, n = 5, 20_000
    samples = rounded(loc, scale, levels).sample(n, seed=[1, 2]).numpy() * (levels - 1)
    np.testing.assert_array_equal(samples, np.round(samples))
    counts = np.bincount(samples.astype(int), minlength=levels)
    assert len(counts) == levels
    assert scipy.stats.chisquare(counts, n * logistic_masses(loc, scale, levels)).pvalue > 1e-3


def test_samples_of_a_batch_use_the_parameters_of_each_image():
    params = tf.concat([tf.fill([1, 2, 2, 1], -0.5), tf.fill([1, 2, 2, 1], -20.0)], -1)
    params = tf.concat([params, params + tf.constant([1.0, 0.0])], 0)
    distribution = zoo.DiscretizedLogistic(levels=17)(params, 3)
    samples = distribution.sample(3, seed=[0, 1])
    assert samples.shape == [3, 2, 2, 2, 1]
    np.testing.assert_allclose(samples[:, 0], 0.0)
    np.testing.assert_allclose(samples[:, 1], 1.0)
    assert distribution.mean().shape == [2, 2, 2, 1]


def test_an_initial_discretized_likelihood_is_nearly_uniform():
    x = np.arange(256, dtype=np.float32).reshape(256, 1, 1, 1) / 255
    bits = -zoo.DiscretizedLogistic()(tf.zeros([256, 1, 1, 2]), 3).log_prob(x) / math.log(2)
    assert tf.reduce_min(bits) > 4 and tf.reduce_max(bits) < 11  # Uniform: 8 for each level.


# Categorical ----------------------------------------------------------------------------------


def test_categorical_probabilities_are_the_softmax_of_the_logits_of_each_value():
    params = RNG.normal(size=(2, 3, 1, 2 * 4)).astype(np.float32)  # 2 channels, 4 levels.
    levels = RNG.integers(0, 4, size=(2, 3, 1, 2))
    logits = params.reshape(
        2, 3, 1, 4, 2
    )  # The logits of the first level of both channels come first.
    log_probs = scipy.special.log_softmax(logits, 3)
    expected = np.take_along_axis(log_probs, levels[..., None, :], 3).sum((1, 2, 3, 4))
    p = zoo.Categorical(4)(tf.constant(params), 3)
    x = (levels / 3).astype(np.float32)
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-5)
    np.testing.assert_allclose(
        p.mean(), (np.exp(log_probs) * np.arange(4)[:, None] / 3).sum(3), rtol=1e-5
    )


def test_masses_of_categorical_levels_sum_to_one_and_match_the_frequencies_of_draws():
    p = zoo.Categorical(17)(tf.constant(RNG.normal(size=17), tf.float32), 0)
    mass = np.exp(np.float64(p.log_prob(np.arange(17, dtype=np.float32) / 16)))
    assert mass.sum() == pytest.approx(1, rel=1e-5)
    draws = p.sample(20_000, seed=[1, 2]).numpy() * 16
    np.testing.assert_allclose(draws, np.round(draws), atol=1e-4)
    counts = np.bincount(np.round(draws).astype(int).ravel(), minlength=17)
    assert scipy.stats.chisquare(counts, 20_000 * mass / mass.sum()).pvalue > 1e-3


def test_leading_axes_of_categorical_parameters_broadcast_over_one_image():
    params = tf.constant(RNG.normal(size=(6, 2, 3, 1, 5)), tf.float32)
    x = tf.constant(RNG.integers(0, 5, size=(2, 3, 1, 1)) / 4, tf.float32)
    together = zoo.Categorical(5)(params, 3).log_prob(x)
    for k in range(6):
        np.testing.assert_allclose(
            together[k], zoo.Categorical(5)(params[k], 3).log_prob(x), rtol=1e-5
        )


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


def test_the_full_covariance_normal_matches_scipy_and_tfp():
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


def test_the_exact_kl_of_a_full_covariance_normal_agrees_with_tfp_and_monte_carlo():
    q, loc, factor = correlated()
    assert tf.reduce_all(
        distributions.kl(q, zoo.StandardNormal(4)(), tf.fill([3, 4], np.nan))
        == tfd.kl_divergence(q, zoo.StandardNormal(4)())
    )
    diagonal = np.diagonal(factor, axis1=1, axis2=2)
    closed = 0.5 * ((factor**2).sum((1, 2)) + (loc**2).sum(1) - 4) - np.log(diagonal).sum(1)
    exact = tfd.kl_divergence(q, zoo.StandardNormal(4)())
    np.testing.assert_allclose(exact, closed, rtol=1e-4)
    # Other independent normals, with TFP's formula for two correlated normals.
    place, scale = np.float32([1.0, -0.5, 0.0, 2.0]), np.float32([0.5, 1.0, 2.0, 0.7])
    p = tfd.Independent(tfd.Normal(place, scale), 1)
    full = tfd.MultivariateNormalTriL(q.loc, q.scale_tril)
    other = tfd.MultivariateNormalTriL(place, tf.linalg.diag(scale))
    exact = tfd.kl_divergence(q, p)
    np.testing.assert_allclose(exact, tfd.kl_divergence(full, other), rtol=1e-4)
    z = q.sample(20_000, seed=[3, 4])
    estimates = (q.log_prob(z) - p.log_prob(z)).numpy()
    error = estimates.std(0) / np.sqrt(20_000)
    assert (np.abs(estimates.mean(0) - exact) < 4.5 * error).all()


def test_the_full_covariance_normal_without_entries_below_the_diagonal_is_diagonal():
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


def test_the_full_covariance_normal_of_one_dimension_is_a_normal():
    q = zoo.FullCovarianceNormal()(tf.constant([[0.5, 1.0]]), 1)
    expected = scipy.stats.norm.logpdf(0.2, 0.5, 1e-4 + np.log1p(np.e))
    np.testing.assert_allclose(q.log_prob([[0.2]]), [expected], rtol=1e-5)


def test_the_kl_to_a_prior_without_a_formula_is_estimated():
    q, _, _ = correlated(dim=2)
    z = q.sample(seed=[1, 2])
    p = zoo.NormalPetals()()
    np.testing.assert_allclose(distributions.kl(q, p, z), q.log_prob(z) - p.log_prob(z), rtol=1e-5)
    uniform = zoo.Uniform(2, -9.0, 9.0)()
    expected = q.log_prob(z) - uniform.log_prob(z)
    np.testing.assert_allclose(distributions.kl(q, uniform, z), expected, rtol=1e-5)


def test_only_the_full_covariance_posterior_makes_the_elbo_equal_log_p():
    # Probabilistic PCA with factors that are not orthogonal: W, noise s, q = N(M^-1 W^T (x - m),
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
def test_num_params_is_the_number_of_parameters_that_a_family_takes(family, expected):
    assert family.num_params(5) == expected
    assert family(tf.zeros([2, expected]), 1).sample(seed=[1, 2]).shape == (2, 5)


# Locations ------------------------------------------------------------------------------------


def start_of(family, x):
    """The distribution with the location of images, and with zeros as the other parameters."""
    location = family.location(family.total(x), len(x))
    params = np.zeros([*x.shape[1:-1], family.num_params(x.shape[-1])], np.float32)
    params[..., : location.shape[-1]] = location
    return family(tf.constant(params), 3)


@pytest.mark.parametrize(
    "family",
    [
        zoo.Bernoulli(),
        zoo.ContinuousBernoulli(),
        zoo.DiagonalNormal(0.05, 1.0),
        zoo.UnitNormal(),
        zoo.SharedScaleNormal(),
        zoo.Categorical(5),
    ],
    ids=lambda family: type(family).__name__,
)
def test_the_distribution_at_the_location_has_the_mean_of_the_images(family):
    x = (np.random.default_rng(1).integers(0, 5, [200, 3, 2, 2]) / 4).astype(np.float32)
    # The smoothing of a categorical adds an image to the 200.
    np.testing.assert_allclose(start_of(family, x).mean(), x.mean(0), atol=1e-3)


def test_the_location_of_a_discretized_logistic_is_the_mean():
    x = np.random.default_rng(1).uniform(size=[20, 3, 2, 1]).astype(np.float32)
    loc = start_of(zoo.DiscretizedLogistic(17), x).distribution.loc
    np.testing.assert_allclose(loc, x.mean(0), rtol=1e-6)


def test_logits_of_means_are_clipped():
    totals = np.array([0.0, 0.0005, 0.2, 1.0])
    np.testing.assert_allclose(
        zoo.Bernoulli().location(totals * 7, 7), scipy.special.logit([0.001, 0.001, 0.2, 0.999])
    )


@pytest.mark.parametrize("mean", [0.0, 0.01, 0.2, 0.4999, 0.5, 0.7, 1.0])
def test_the_location_of_a_continuous_bernoulli_is_the_inverse_of_its_mean(mean):
    location = float(zoo.ContinuousBernoulli().location(np.array([3 * mean]), 3)[0])
    reached, _ = scipy.integrate.quad(
        lambda x: x * np.exp(continuous_bernoulli(x, location)), 0, 1, points=[0.01, 0.99]
    )
    assert reached == pytest.approx(np.clip(mean, 0.01, 0.99), abs=1e-6)


def test_the_location_of_a_categorical_is_the_log_of_smoothed_shares_by_level():
    # Two channels of four images: the shares of three levels are 3/4, 1/4, 0 and 0, 1/2, 1/2.
    x = np.array([[0, 1], [0, 1], [0.5, 0.5], [0, 0.5]], np.float32)[:, None]
    family = zoo.Categorical(3)
    location = family.location(family.total(x), len(x))
    shares = np.array([[3, 0], [1, 2], [0, 2]]) + 1 / 3  # [levels, channels]
    np.testing.assert_allclose(location, np.log(shares.reshape(1, 6) / 5))


def test_a_family_without_a_location_has_none():
    assert zoo.FullCovarianceNormal().location(np.zeros(2), 1) is None
