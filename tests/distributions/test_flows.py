"""Flows against autodiff, numerical inversion, integration, and draws."""

import json
import math

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from speed import slow, slow_except

import zoo
from zoo.distributions import flow_posteriors as flows

tfd, tfb = tfp.distributions, tfp.bijectors
RNG = np.random.default_rng(0)
SHAPE = (4, 4, 1)


def randomized(part, size=0.4):
    """Assigns random weights to the part, which starts with zeros."""
    rng = np.random.default_rng(1)
    for variable in part.trainable_variables:
        variable.assign(rng.normal(0, size, variable.shape))
    return part


def jacobians(function, x):
    """`[B, D, D]`, by autodiff."""
    x = tf.constant(x, tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = function(x)
    return tape.batch_jacobian(y, x, experimental_use_pfor=False).numpy().astype(np.float64)


def log_dets(function, x):
    return np.linalg.slogdet(jacobians(function, x))[1]


def params_of(family, batch, size=1.0):
    dim = family.dim
    return tf.constant(RNG.normal(0, size, (batch, family.num_params(dim))), tf.float32)


PRIORS = {
    "realnvp": lambda dim, **kw: zoo.RealNVPPrior(dim, **{"steps": 3, "hidden": (8,)} | kw),
    "maf": lambda dim, **kw: zoo.MAFPrior(dim, **{"steps": 2, "hidden": (8,)} | kw),
}
POSTERIORS = {
    "iaf": lambda dim: randomized(
        zoo.InverseAutoregressiveNormal(dim, steps=2, hidden=(8,), context=3)
    ),
    "planar": lambda dim: zoo.PlanarNormal(dim, steps=3),
}
every_prior = pytest.mark.parametrize("name", PRIORS)
every_posterior = pytest.mark.parametrize("name", POSTERIORS)


# Networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("context", [0, 2])
def test_outputs_of_made_depend_exactly_on_the_previous_values(reverse, context):
    network = randomized(zoo.distributions.MADE(4, 2, (12, 9), context, reverse))
    h = tf.ones([3, context]) if context else None
    for k in range(2):
        slopes = np.abs(jacobians(lambda x, k=k: network(x, h)[k], RNG.normal(size=(3, 4))))
        before = np.tril(np.ones((4, 4)), -1)
        before = before.T if reverse else before
        np.testing.assert_array_equal(slopes[:, before == 0], 0)
        assert (slopes[:, before == 1] > 1e-6).all()


@pytest.mark.parametrize("dim", [1, 4])
def test_the_context_reaches_every_output_of_made(dim):
    network = randomized(zoo.distributions.MADE(dim, 2, (12,), 3))
    x, h = tf.ones([2, dim]), tf.constant(RNG.normal(size=(2, 3)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(h)
        outputs = tf.concat(network(x, h), -1)
    assert (np.abs(tape.batch_jacobian(outputs, h, experimental_use_pfor=False)) > 1e-6).all()


def test_made_is_a_perceptron_with_masked_weights():
    network = randomized(zoo.distributions.MADE(2, 1, (3,)))
    # Degrees: inputs 1, 2; hidden units 1, 1, 1; outputs 1, 2.
    first, last, bias, bias_last = (np.array(v) for v in network.network.weights[:4])
    x = RNG.normal(size=(5, 2)).astype(np.float32)
    h = x[:, :1] @ first[:1] + bias
    h = np.where(h > 0, h, np.expm1(h))
    expected = np.stack([0 * h[:, 0], h @ last[:, 1]], -1) + bias_last
    np.testing.assert_allclose(network(tf.constant(x))[0], expected, rtol=1e-5, atol=1e-6)


# Bijections -----------------------------------------------------------------------------------


@every_prior
@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize("steps", [1, slow(3)])
def test_the_flow_of_a_prior_is_invertible_and_its_log_determinant_matches_autodiff(
    name, dim, steps
):
    bijector = randomized(PRIORS[name](dim, steps=steps)).bijector
    x = RNG.normal(size=(4, dim)).astype(np.float32)
    z = bijector.forward(tf.constant(x)).numpy()
    assert np.abs(z - x).max() > 0.05
    np.testing.assert_allclose(bijector.inverse(tf.constant(z)), x, rtol=1e-4, atol=1e-4)
    result = bijector.inverse_log_det_jacobian(tf.constant(z), 1)
    np.testing.assert_allclose(result, log_dets(bijector.inverse, z), atol=1e-4)
    np.testing.assert_allclose(result, -log_dets(bijector.forward, x), atol=1e-4)


@every_prior
def test_the_density_of_a_prior_counts_the_log_determinant_once(name):
    prior = randomized(PRIORS[name](5))
    z = RNG.normal(size=(4, 5)).astype(np.float32)
    x = prior.bijector.inverse(tf.constant(z)).numpy()
    expected = scipy.stats.norm.logpdf(x).sum(-1) + log_dets(prior.bijector.inverse, z)
    np.testing.assert_allclose(prior().log_prob(z), expected, atol=1e-4)


@every_prior
def test_two_steps_change_every_value_and_use_every_network(name):
    prior = randomized(PRIORS[name](5, steps=2))
    x = RNG.normal(size=(1, 5)).astype(np.float32)
    assert (np.abs(prior.bijector.forward(tf.constant(x)) - x) > 1e-3).all()
    with tf.GradientTape() as tape:
        log_prob = prior().log_prob(x)
    assert all(np.abs(g).max() > 0 for g in tape.gradient(log_prob, prior.trainable_variables))


def test_a_coupling_matches_the_formula_of_the_paper():
    prior = randomized(zoo.RealNVPPrior(3, steps=1, hidden=(4,), max_log_scale=0.7))
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    shift, raw = np.split(prior.networks[0](tf.constant(x[:, :1])).numpy(), 2, -1)
    moved = x[:, 1:] * np.exp(0.7 * np.tanh(raw / 0.7)) + shift
    np.testing.assert_allclose(
        prior.bijector.forward(tf.constant(x)), np.concatenate([x[:, :1], moved], 1), rtol=1e-5
    )


@pytest.mark.parametrize("steps", [1, 2])
def test_maf_reverses_the_order_of_the_values_between_its_steps(steps):
    bijector = randomized(zoo.MAFPrior(4, steps=steps, hidden=(12,))).bijector
    slopes = np.abs(jacobians(bijector.inverse, RNG.normal(size=(3, 4))))
    later = np.triu(np.ones((4, 4)), 1) == 1
    if steps == 1:
        np.testing.assert_array_equal(slopes[:, later], 0)
    else:
        # With one order in both steps, no value would depend on later values.
        assert (slopes > 1e-6).all()


@every_prior
def test_log_scales_stay_within_their_bound_for_large_weights(name):
    prior = PRIORS[name](4, steps=2, max_log_scale=1.5)
    for variable in prior.trainable_variables:
        variable.assign(tf.fill(variable.shape, 50.0))
    z = tf.constant(RNG.normal(size=(3, 4)), tf.float32)
    log_det = prior.bijector.inverse_log_det_jacobian(z, 1)
    assert np.abs(log_det).max() <= 2 * 4 * 1.5 + 1e-4
    assert np.isfinite(prior().log_prob(z)).all()


# Posteriors -----------------------------------------------------------------------------------


@every_posterior
def test_the_log_determinant_of_a_posterior_flow_matches_autodiff(name):
    family = POSTERIORS[name](4)
    q = family(params_of(family, 6), 1)
    z = RNG.normal(size=(6, 4)).astype(np.float32)
    z = tf.constant(z)
    result, log_det = q.bijector.forward(z), q.bijector.forward_log_det_jacobian(z)
    assert np.abs(result - z).max() > 0.1
    np.testing.assert_allclose(log_det, log_dets(q.bijector.forward, z.numpy()), atol=2e-4)


def test_iaf_is_inverted_exactly():
    family = POSTERIORS["iaf"](5)
    params = params_of(family, 6)
    q = family(params, 1)
    z = tf.constant(RNG.normal(size=(3, 6, 5)), tf.float32)
    result, log_det = q.bijector.forward(z), q.bijector.forward_log_det_jacobian(z)
    other = family(params, 1).bijector
    np.testing.assert_allclose(other.inverse(tf.identity(result)), z, atol=1e-4)
    inverse_log_det = other.inverse_log_det_jacobian(tf.identity(result))
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-4)


def test_a_step_of_iaf_has_a_triangular_jacobian_with_the_gates_on_its_diagonal():
    family = randomized(zoo.InverseAutoregressiveNormal(4, steps=1, hidden=(9,), context=3))
    q = family(params_of(family, 5), 1)
    z = tf.constant(RNG.normal(size=(5, 4)), tf.float32)
    jacobian = jacobians(q.bijector.forward, z)
    np.testing.assert_array_equal(jacobian[:, np.triu(np.ones((4, 4)), 1) == 1], 0)
    diagonal = np.diagonal(jacobian, axis1=1, axis2=2)
    assert (diagonal > 0).all() and (diagonal < 1).all()
    log_det = q.bijector.forward_log_det_jacobian(z)
    np.testing.assert_allclose(log_det, np.log(diagonal).sum(-1), rtol=1e-4)


def test_iaf_matches_algorithm_1_with_the_order_reversed_between_steps():
    family = POSTERIORS["iaf"](4)
    assert [network.reverse for network in family.networks] == [False, True]
    params = params_of(family, 3)
    q = family(params, 1)
    loc, raw, h = np.split(params.numpy(), [4, 8], -1)
    z = q.sample(seed=[1, 2])
    scale = 1e-4 + np.log1p(np.exp(raw))
    noise = tfd.Independent(tfd.Normal(loc, scale), 1).sample(seed=[1, 2])
    result = np.array(noise)
    noise = (result - loc) / scale
    log_q = -(0.5 * noise**2 + 0.5 * math.log(2 * math.pi) + np.log(scale))
    for network in family.networks:
        m, s = (np.array(v) for v in network(tf.constant(result), tf.constant(h)))
        gate = scipy.special.expit(s + 1.5)
        result = gate * result + (1 - gate) * m
        log_q -= np.log(gate)
    np.testing.assert_allclose(z, result, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(q.log_prob(z), log_q.sum(-1), rtol=1e-4)


def test_the_density_of_draws_of_iaf_equals_the_density_by_inversion():
    family = POSTERIORS["iaf"](3)
    q = family(params_of(family, 4), 1)
    first, second = q.sample(seed=[1, 1]), q.sample(5, seed=[2, 2])
    for z in (first, second):
        known = q.log_prob(z).numpy()
        np.testing.assert_allclose(q.log_prob(z.numpy()), known, rtol=1e-3, atol=1e-3)
    assert second.shape == (5, 4, 3)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("sample_shape", [(), (5,)])
def test_the_density_of_a_draw_takes_one_pass_without_an_inverse(mode, sample_shape, monkeypatch):
    family = POSTERIORS["iaf"](4)
    params = params_of(family, 3)
    calls = []
    call = zoo.distributions.MADE.call

    def counted(network, *inputs):
        calls.append(network)
        return call(network, *inputs)

    def draw_and_density(params):
        q = family(params, 1)
        z = q.sample(sample_shape, seed=[1, 2])
        return z, q.log_prob(z)

    monkeypatch.setattr(zoo.distributions.MADE, "call", counted)
    spec = [tf.TensorSpec([None, params.shape[1]])]  # The batch size is unknown.
    if mode != "eager":
        draw_and_density = tf.function(draw_and_density, spec, jit_compile=mode == "xla")
    z, log_prob = draw_and_density(params)
    assert calls == family.networks  # Each network once, while it is traced or run.
    assert z.shape == (*sample_shape, 3, 4) and log_prob.shape == (*sample_shape, 3)
    inverted = family(params, 1).log_prob(tf.identity(z))
    np.testing.assert_allclose(log_prob, inverted, rtol=1e-3, atol=1e-3)


def test_two_draws_keep_separate_densities():
    family = POSTERIORS["planar"](3)
    params = params_of(family, 2)
    q = family(params, 1)
    first, second = q.sample(seed=[1, 1]), q.sample(seed=[2, 2])
    for z in (first, second):
        for i in range(2):
            expected = planar_log_prob(z[i : i + 1].numpy(), *numpy_planar(params[i], 3, 3))
            np.testing.assert_allclose(q.log_prob(z)[i], expected[0], rtol=1e-3, atol=1e-3)


def numpy_planar(params, dim, steps):
    """loc, scale and [(u', w, b)] of one example, in float64, by the paper's formulas."""
    params = np.asarray(params, np.float64)
    loc, raw, rest = params[:dim], params[dim : 2 * dim], params[2 * dim :].reshape(steps, -1)
    result = []
    for row in rest:
        u, w, b = row[:dim], row[dim : 2 * dim], row[-1]
        a = w @ u
        result.append((u + (-1 + np.log1p(np.exp(a)) - a) * w / (w @ w), w, b))
    return loc, 1e-4 + np.log1p(np.exp(raw)), result


def planar_log_prob(z, loc, scale, steps):
    """The log-density at `z[N, D]`, with each step inverted by bisection along w."""
    total = np.zeros(len(z))
    for u, w, b in reversed(steps):
        target, product = z @ w, u @ w
        low, high = target - abs(product) - 1e-9, target + abs(product) + 1e-9
        for _ in range(60):
            middle = (low + high) / 2
            below = middle + product * np.tanh(middle + b) < target
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        z = z - u * np.tanh(middle + b)[:, None]
        total += np.log1p(product * (1 - np.tanh(middle + b) ** 2))
    return scipy.stats.norm.logpdf(z, loc, scale).sum(-1) - total


def test_the_density_of_draws_of_planar_flows_agrees_with_numerical_inversion():
    family = zoo.PlanarNormal(3, steps=4)
    params = params_of(family, 2)
    q = family(params, 1)
    z = q.sample(50, seed=[3, 4])
    log_prob = q.log_prob(z)
    for i in range(2):
        expected = planar_log_prob(z[:, i].numpy(), *numpy_planar(params[i], 3, 4))
        np.testing.assert_allclose(log_prob[:, i], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("product", [-200.0, -8.0, -1.0, 0.0, 1.0, 40.0])
def test_planar_steps_are_invertible_for_any_output_of_the_encoder(product):
    w = tf.constant([[0.6, -0.8]])
    u = product * w + tf.constant([[0.4, 0.3]])
    changed = flows._invertible(u, w).numpy()
    length = (changed * w.numpy()).sum()
    assert length > -1
    assert length == pytest.approx(-1 + np.logaddexp(0, product), abs=2e-5 * max(1, abs(product)))
    # u changes only along w.
    np.testing.assert_allclose(changed @ [0.8, 0.6], u.numpy() @ [0.8, 0.6], atol=1e-4)
    z = tf.constant(RNG.normal(0, 3, (100, 2)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([u, w])
        _, log_det = flows._planar_steps(z, [(flows._invertible(u, w), w, tf.zeros([1, 1]))])
    assert np.isfinite(log_det).all()
    assert all(np.isfinite(g).all() for g in tape.gradient(log_det, [u, w]))


def test_planar_steps_with_zero_parameters_have_finite_values_and_gradients():
    family = zoo.PlanarNormal(3, steps=2)
    params = tf.zeros([2, family.num_params(3)])
    with tf.GradientTape() as tape:
        tape.watch(params)
        q = family(params, 1)
        z = q.sample(seed=[1, 2])
        log_prob = q.log_prob(z)
    assert np.isfinite(log_prob).all() and np.isfinite(tape.gradient(log_prob, params)).all()


def test_log_prob_of_a_planar_flow_accepts_only_its_draws():
    family = zoo.PlanarNormal(2)
    q = family(params_of(family, 3), 1)
    z = q.sample(seed=[1, 2])
    q.log_prob(z)
    with pytest.raises(ValueError, match=r"has no inverse.*own draws"):
        q.log_prob(tf.identity(z))


@every_posterior
def test_the_mean_of_a_flow_is_the_image_of_the_mean_of_its_base(name):
    family = POSTERIORS[name](3)
    params = params_of(family, 4)
    narrow = tf.concat([params[:, :3], tf.fill([4, 3], -20.0), params[:, 6:]], -1)
    draws = family(narrow, 1).sample(20, seed=[1, 2])
    np.testing.assert_allclose(draws[0], family(params, 1).mean(), atol=5e-3)


@every_posterior
def test_the_density_of_draws_has_gradients_in_all_parameters(name):
    family = POSTERIORS[name](3)
    params = params_of(family, 2)

    def log_prob(params):
        q = family(params, 1)
        return q.log_prob(q.sample(seed=[5, 6]))

    with tf.GradientTape() as tape:
        tape.watch(params)
        value = log_prob(params)
    gradient = tape.gradient(value, params).numpy()
    direction = RNG.normal(size=params.shape).astype(np.float32)
    step = 1e-2
    slope = (log_prob(params + step * direction) - log_prob(params - step * direction)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(-1), slope, rtol=0.02, atol=0.02)


# Densities and draws --------------------------------------------------------------------------

SIDE = np.linspace(-12, 12, 481)
CELL = (SIDE[1] - SIDE[0]) ** 2
GRID = np.stack(np.meshgrid(SIDE, SIDE, indexing="ij"), -1).astype(np.float32)


def two_dimensional(name):
    if name in PRIORS:
        return randomized(PRIORS[name](2), 0.3)()
    family = POSTERIORS[name](2)
    return family(tf.constant(np.random.default_rng(7).normal(0, 1, [family.num_params(2)]),
                              tf.float32), 1)  # fmt: skip


def density_on_grid(name, distribution):
    if name != "planar":
        return np.exp(distribution.log_prob(tf.constant(GRID)).numpy().astype(np.float64))
    params = np.random.default_rng(7).normal(0, 1, [zoo.PlanarNormal(2, 3).num_params(2)])
    log_prob = planar_log_prob(GRID.reshape(-1, 2), *numpy_planar(np.float32(params), 2, 3))
    return np.exp(log_prob).reshape(GRID.shape[:2])


@pytest.mark.parametrize("name", slow_except(["realnvp", "iaf"], [*PRIORS, *POSTERIORS]))
def test_the_density_integrates_to_one_and_matches_the_draws(name):
    distribution = two_dimensional(name)
    density = density_on_grid(name, distribution)
    assert density.sum() * CELL == pytest.approx(1, abs=2e-3)
    z = distribution.sample(20_000, seed=[1, 2])
    # Counts the draws in 6 x 6 rectangles of grid cells, to compare with integrals of the density.
    edges = np.array([-np.inf, -1.225, -0.525, 0.025, 0.525, 1.225, np.inf])
    cells = [np.digitize(GRID[..., i], edges[1:-1]) for i in (0, 1)]
    masses = np.zeros((6, 6))
    np.add.at(masses, tuple(cells), density * CELL)
    counts = np.histogram2d(*np.clip(z.numpy(), -11, 11).T, bins=[np.clip(edges, -12, 12)] * 2)[0]
    expected = masses / masses.sum() * len(z)
    frequent = expected > 20
    assert frequent.sum() >= 8
    chi = (counts - expected)[frequent] ** 2 / expected[frequent]
    assert chi.sum() < scipy.stats.chi2.ppf(1 - 1e-4, frequent.sum())


@every_posterior
def test_draws_weighted_by_their_inverse_density_measure_areas(name):
    # E_q[1{z in A} / q(z)] is the area of A if `log_prob` of draws is the density of q.
    distribution = two_dimensional(name)
    z = distribution.sample(40_000, seed=[1, 3])
    weights = np.exp(-distribution.log_prob(z).numpy().astype(np.float64))
    centre, radius = np.median(z, 0), 0.3
    inside = ((z.numpy() - centre) ** 2).sum(-1) < radius**2
    areas = np.where(inside, weights, 0)
    assert inside.sum() > 300
    assert abs(areas.mean() - np.pi * radius**2) < 4 * areas.std() / 200


# In a VAE -------------------------------------------------------------------------------------


class UnknownNormal(zoo.Prior):
    """N(0, I), without an exact KL."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim

    def call(self, y=None):
        return tfd.TransformedDistribution(zoo.StandardNormal(self.dim)(), tfb.Identity())


def vae_of(posterior="normal", prior="normal", **sizes):
    return zoo.models.vae(
        SHAPE, latent_dim=4, hidden=(8,), posterior=posterior, prior=prior, **sizes
    )


@every_prior
def test_a_flow_prior_starts_as_the_standard_normal_bit_for_bit(name):
    model = vae_of(prior=name)
    plain = zoo.VAE(model.posterior, model.likelihood, UnknownNormal(4))
    x = tf.constant(RNG.uniform(size=(9, *SHAPE)) > 0.5, tf.float32)
    for training in (False, True):
        result, terms = model.objective(x, None, tf.constant([1, 2]), training)
        expected, plain_terms = plain.objective(x, None, tf.constant([1, 2]), training)
        np.testing.assert_array_equal(result["vae"], expected["vae"])
        np.testing.assert_array_equal(terms["rate"], plain_terms["rate"])
    # Draws are equal too, because the flow starts as the identity for any number of steps.
    np.testing.assert_array_equal(
        model.prior().sample(5, seed=[1, 2]), plain.prior().sample(5, seed=[1, 2])
    )


def test_iaf_starts_as_a_diagonal_normal():
    family = zoo.InverseAutoregressiveNormal(3, steps=2, hidden=(8,))
    params = params_of(family, 4)
    q = family(params, 1)
    z = q.sample(6, seed=[1, 2])
    gate = scipy.special.expit(1.5) ** 2
    scale = 1e-4 + np.log1p(np.exp(params[:, 3:6].numpy()))
    expected = scipy.stats.norm.logpdf(z, gate * params[:, :3].numpy(), gate * scale).sum(-1)
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-4)


@pytest.mark.parametrize("posterior", ["iaf", slow("planar")])
def test_the_elbo_with_a_flow_posterior_is_below_the_estimated_log_likelihood(
    posterior,
):
    model = vae_of(posterior, "realnvp", prior_hidden=(8,))
    randomized(model.prior, 0.2)
    # A posterior wider than the true one suits importance sampling.
    kernel, bias = model.posterior.network.weights[-2:]
    kernel.assign(0.5 * kernel)
    bias.assign(np.r_[np.zeros(4), np.full(4, 2.5), bias.numpy()[8:]])
    x = tf.constant(RNG.uniform(size=(1, *SHAPE)) > 0.5, tf.float32)
    losses, _ = model.objective(tf.repeat(x, 4000, 0), None, tf.constant([1, 2]), False)
    elbo = -losses["vae"].numpy()
    # log p(x) with the prior as the proposal, without the posterior.
    z = model.prior().sample(20_000, seed=[3, 4])
    log_p = scipy.special.logsumexp(model.likelihood(z[:, None]).log_prob(x)) - np.log(20_000)
    assert elbo.mean() < log_p + 4 * elbo.std() / np.sqrt(4000) + 0.05
    # The estimate with the posterior as the proposal agrees.
    estimate = tf.function(model.log_prob)(tf.repeat(x, 500, 0), tf.constant(8), seed=1)
    estimate = scipy.special.logsumexp(estimate) - np.log(500)
    assert estimate == pytest.approx(log_p, abs=0.1)


@pytest.mark.slow
def test_ten_seeds_of_the_flow_prior_train_with_finite_losses():
    config = zoo.presets.get("vae_flow_digits")
    zoo.presets.override(config, ["jit_compile=false"])
    x, _ = zoo.datasets.load("digits", binarize="fixed").arrays("train")
    model = zoo.presets.build(config, (8, 8, 1))
    state = [v.numpy() for v in model.optimizers["vae"].variables]
    for seed in range(10):
        keras.utils.set_random_seed(seed)
        twin = zoo.presets.build(config, (8, 8, 1))
        model.set_weights(twin.get_weights())
        for variable, value in zip(model.optimizers["vae"].variables, state, strict=True):
            variable.assign(value)
        model.seed = seed
        losses = model.fit(x, batch_size=50, epochs=2, verbose=0).history["loss"]
        assert np.isfinite(losses).all() and losses[-1] < losses[0]


# Parts ----------------------------------------------------------------------------------------

PARTS = [
    zoo.InverseAutoregressiveNormal(3, 2, (5, 4), 6, 1.0, 1e-3),
    zoo.PlanarNormal(3, 2, 1e-3),
    zoo.RealNVPPrior(3, 3, (5,), 1.0),
    zoo.MAFPrior(3, 2, (5, 4), 1.0),
    zoo.distributions.MADE(3, 2, (5,), 2, True),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_flows_are_restored_from_their_config(part):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(part)))
    copy = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(copy) == keras.saving.serialize_keras_object(part)
    randomized(part)
    copy.set_weights(part.get_weights())
    if isinstance(part, zoo.Prior):
        results = [p().sample(4, seed=[1, 2]) for p in (part, copy)]
    elif isinstance(part, zoo.Family):
        params = params_of(part, 4)
        results = [p(params, 1).sample(seed=[1, 2]) for p in (part, copy)]
    else:
        results = [p(tf.ones([2, 3]), tf.ones([2, 2])) for p in (part, copy)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.RealNVPPrior(1), "at least two dimensions"),
        (lambda: zoo.MAFPrior(1), "at least two dimensions"),
        (lambda: zoo.RealNVPPrior(2, steps=0), "at least one step"),
        (lambda: zoo.RealNVPPrior(2, hidden=()), "at least one hidden layer"),
        (lambda: zoo.MAFPrior(2, hidden=(3, 0)), "at least one unit"),
        (lambda: zoo.MAFPrior(2, max_log_scale=0.0), "above 0 and finite"),
        (lambda: zoo.InverseAutoregressiveNormal(2, steps=0), "at least one step"),
        (lambda: zoo.InverseAutoregressiveNormal(2, hidden=()), "at least one hidden layer"),
        (lambda: zoo.InverseAutoregressiveNormal(2, context=0), "`context` must be at least 1"),
        (lambda: zoo.InverseAutoregressiveNormal(2, min_scale=0.0), "`min_scale` positive"),
        (lambda: zoo.PlanarNormal(2, steps=0), "at least one step"),
        (lambda: zoo.PlanarNormal(2, min_scale=-1.0), "must be positive"),
        (lambda: zoo.PlanarNormal(1), "at least two dimensions.*Received: dim=1"),
        (lambda: zoo.PlanarNormal(2).num_params(3), "vectors of 2 values"),
        (lambda: zoo.PlanarNormal(2)(tf.zeros([1, 7]), 1), "takes 44 parameters"),
        (lambda: zoo.InverseAutoregressiveNormal(2)(tf.zeros([1, 7]), 1), "takes 36 parameters"),
        (lambda: vae_of("iff"), "Did you mean 'iaf'"),
        (lambda: vae_of("normal", posterior_steps=3), "posterior_steps=3"),
        (lambda: vae_of("planar", posterior_hidden=(3,)), "posterior_hidden"),
        (lambda: vae_of(prior="real_nvp"), "Did you mean 'realnvp'"),
        (lambda: vae_of(prior="normal", prior_components=3), "prior_components=3"),
        (lambda: vae_of(prior="vamp", prior_steps=3), "prior_steps=3"),
        (lambda: vae_of("planar", "vamp"), "has a density only at its own draws"),
    ],
)
def test_invalid_arguments_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_builders_pass_names_and_sizes_to_the_parts(network):
    make = zoo.models.vae
    narrow = {"network": network, "hidden": (8,)} | ({"filters": (3,)} if network == "conv" else {})
    model = make(SHAPE, latent_dim=3, **narrow, posterior="iaf", posterior_steps=3, posterior_hidden=(5, 6),
                 prior="maf", prior_steps=1, prior_hidden=(7,))  # fmt: skip
    q, p = model.posterior.family, model.prior
    assert (type(q).__name__, q.dim, q.steps, q.hidden) == (
        "InverseAutoregressiveNormal", 3, 3, (5, 6))  # fmt: skip
    assert (type(p).__name__, p.dim, p.steps, p.hidden) == ("MAFPrior", 3, 1, (7,))
    model = make(
        SHAPE, latent_dim=3, **narrow, posterior="full_covariance", prior="vamp", prior_components=4
    )
    assert isinstance(model.posterior.family, zoo.FullCovarianceNormal)
    assert model.prior.pseudo_inputs.shape == (4, *SHAPE)
    model = make(
        SHAPE, latent_dim=3, **narrow, posterior="planar", prior="mixture", prior_components=4
    )
    assert isinstance(model.posterior.family, zoo.PlanarNormal)
    assert model.posterior.network.output_shape == (None, 2 * 3 + 8 * 7)
    assert model.prior.loc.shape == (4, 3)
    plain = make(SHAPE, latent_dim=3, **narrow)
    assert isinstance(plain.posterior.family, zoo.DiagonalNormal)
    assert isinstance(plain.prior, zoo.StandardNormal)
