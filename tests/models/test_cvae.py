"""The conditional VAE: a linear-Gaussian model, its losses by hand, and its limiting cases."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from speed import slow

import zoo
import zoo.conditions
import zoo.training
from zoo.evaluation import Evaluation, sample_images

SHAPE = (4, 4, 1)
QUADRANTS = {"prior": "conditional", "condition": "seen", "baseline_hidden": (5,)}
SEED = tf.constant([3, 4])


@pytest.fixture
def quadrants(digits):
    """Seven binary 4x4 images, with their lower left quadrants as the seen parts."""
    x = np.round(digits[:7, 2:6, 2:6])
    y = np.full_like(x, -1)
    y[:, 2:, :2] = x[:, 2:, :2]
    return x, y


def small(alpha=1.0, **more):
    return zoo.models.cvae(
        SHAPE, latent_dim=3, hidden=(6,), activation="tanh", alpha=alpha, **(QUADRANTS | more)
    )


def with_known_noise(model, known):
    """Posterior and prior draw `known.noise` around their means; their outputs are log scales."""
    model.posterior.family = known.Posterior()
    if hasattr(model.prior, "family"):
        model.prior.family = known.Posterior()
    return model


def losses_of(model, x, y, training=True):
    losses, terms = model.objective(tf.constant(x), tf.constant(y), SEED, training)
    return {k: np.asarray(v, np.float64) for k, v in (losses | terms).items()}


# Limiting cases -------------------------------------------------------------------------------


def test_networks_without_y_give_the_vae(digits):
    vae = zoo.models.vae((8, 8, 1), latent_dim=3, hidden=(5,), num_samples=2, free_bits=0.1)
    cvae = zoo.CVAE(vae.posterior, vae.likelihood, vae.prior, num_samples=2, free_bits=0.1)
    x, y = tf.constant(np.round(digits[:9])), tf.range(9)
    assert cvae.condition is None and cvae.terms == vae.terms
    for training in (True, False):
        have, want = (m.objective(x, y, SEED, training) for m in (cvae, vae))
        keras.tree.map_structure(np.testing.assert_array_equal, have, want)
    np.testing.assert_array_equal(cvae.log_prob(x, 5, y=y, seed=1), vae.log_prob(x, 5, seed=1))
    np.testing.assert_array_equal(cvae.sample(4, seed=1), vae.sample(4, seed=1))


def test_networks_with_zero_weights_on_y_give_the_vae(digits):
    cvae = zoo.models.cvae((8, 8, 1), latent_dim=3, hidden=(5,))
    vae = zoo.models.vae((8, 8, 1), latent_dim=3, hidden=(5,))
    for part, size in (("posterior", 64), ("likelihood", 3)):
        kernel, *rest = getattr(cvae, part).network.get_weights()
        kernel[size:] = 0
        getattr(cvae, part).network.set_weights([kernel, *rest])
        getattr(vae, part).network.set_weights([kernel[:size], *rest])
    x, y = tf.constant(np.round(digits[:9])), tf.range(9)
    have, want = (m.objective(x, y, SEED, True) for m in (cvae, vae))
    keras.tree.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), have, want)


def test_a_prior_equal_to_the_posterior_gives_the_gsnn_for_every_alpha(known, quadrants):
    x, y = quadrants
    found = []
    for alpha in (0.0, 0.3, 1.0):
        keras.utils.set_random_seed(0)
        model = with_known_noise(small(alpha, baseline_hidden=()), known)
        kernel, *rest = model.posterior.network.get_weights()
        # Without the weights of x the posterior depends on y alone, as the prior does.
        kernel[:16] = 0
        model.posterior.network.set_weights([kernel, *rest])
        model.prior.network.set_weights([kernel[16:], *rest])
        results = losses_of(model, x, y)
        found.append(results["vae"])
        if alpha:
            np.testing.assert_allclose(results["rate"], 0, atol=1e-5)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-5)


# By hand --------------------------------------------------------------------------------------


def by_hand(model, known, x, y):
    """-L_CVAE's terms and -L_GSNN in numpy, with known noise."""
    n, dim, flat = len(x), 3, lambda t: np.asarray(t, np.float64).reshape(len(t), -1)

    def perceptron(network, *inputs):
        w1, b1, w2, b2 = (np.asarray(w, np.float64) for w in network.get_weights())
        return np.tanh(np.concatenate([flat(t) for t in inputs], 1) @ w1 + b1) @ w2 + b2

    hidden = flat(y) < 0

    def masked(logits):
        return scipy.stats.bernoulli.logpmf(flat(x), 1 / (1 + np.exp(-logits)))

    guess = perceptron(model.prior.baseline.network, y)
    shown = np.where(hidden, 1 / (1 + np.exp(-guess)), flat(y))
    loc, log_scale = np.split(perceptron(model.posterior.network, x, y), 2, 1)
    prior_loc, prior_log_scale = np.split(perceptron(model.prior.network, y, shown), 2, 1)
    ratio = np.exp(2 * (log_scale - prior_log_scale))
    squares = ((loc - prior_loc) / np.exp(prior_log_scale)) ** 2
    results = {"rate": 0.5 * (ratio + squares - 1 - np.log(ratio)).sum(1)}
    for name, mean, log in (
        ("distortion", loc, log_scale),
        ("prior_distortion", prior_loc, prior_log_scale),
    ):
        z = mean + np.exp(log) * known.noise(1, n, dim)[0]
        logits = perceptron(model.likelihood.network, z, y)
        results[name] = -(masked(logits) * hidden).sum(1)
    return results | {"baseline": -(masked(guess) * hidden).sum(1)}


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_the_losses_match_the_paper_over_the_hidden_pixels(known, quadrants, alpha):
    x, y = quadrants
    model = with_known_noise(small(alpha), known)
    want = by_hand(model, known, x, y)
    assert want["rate"].min() > 0.01
    assert np.abs(want["distortion"] - want["prior_distortion"]).min() > 1e-4
    want["vae"] = (
        alpha * (want["distortion"] + want["rate"]) + (1 - alpha) * want["prior_distortion"]
    )
    have = losses_of(model, x, y)
    assert have.keys() == {"vae", "baseline", *model.terms}
    assert set(model.terms) == (
        ({"distortion", "rate"} if alpha > 0 else set())
        | ({"prior_distortion"} if alpha < 1 else set())
    )
    for name in have:
        np.testing.assert_allclose(have[name], want[name], rtol=1e-4, atol=1e-4)


def test_the_rate_weight_scales_only_the_cvae_loss(known, quadrants):
    model = with_known_noise(small(0.25), known)
    model.rate_weight = 0.5
    have = losses_of(model, *quadrants)
    want = 0.25 * (have["distortion"] + 0.5 * have["rate"]) + 0.75 * have["prior_distortion"]
    np.testing.assert_allclose(have["vae"], want, rtol=1e-5)


def test_the_two_terms_use_separate_draws_of_the_requested_number(quadrants):
    x, y = (np.repeat(t[:1], 3000, 0) for t in quadrants)
    model = small(0.5)
    one = losses_of(model, x, y)
    assert abs(np.corrcoef(one["distortion"], one["prior_distortion"])[0, 1]) < 0.1
    model.num_samples = 16
    many = losses_of(model, x, y)
    for name in ("distortion", "prior_distortion"):
        assert many[name].std() == pytest.approx(one[name].std() / 4, rel=0.15)


# A linear-Gaussian model with exact densities -------------------------------------------------

LATENTS, ATTRIBUTES, NOISE, PRIOR_SCALE = 2, 3, 0.3, 0.7
RNG = np.random.default_rng(0)
# Orthogonal columns, so that the exact posterior is a diagonal normal.
FACTORS = np.array([[0.5, 0.2], [0.5, -0.2], [-0.5, 0.3], [0.5, 0.3]])
TO_MEAN = RNG.normal(0, 0.5, (ATTRIBUTES, LATENTS))  # E[z | y] = y TO_MEAN + OFFSET
OFFSET = np.array([0.3, -0.2])
DIRECT = RNG.normal(0, 0.3, (ATTRIBUTES, 4))  # E[x | z, y] = z FACTORS^T + y DIRECT + 1/2
X = RNG.uniform(0, 1, (6, 2, 2, 1)).astype(np.float32)
Y = RNG.uniform(0, 1, (6, ATTRIBUTES)).astype(np.float32)


def raw(scale):
    return np.full(LATENTS, np.log(np.expm1(scale - 1e-4)))


def linear(alpha=1.0, widening=1.0):
    """p(z | y), p(x | z, y) linear and normal; q the exact posterior, its scales widened."""
    model = zoo.models.cvae(
        (2, 2, 1), latent_dim=LATENTS, hidden=(), condition="attributes", condition_size=ATTRIBUTES,
        likelihood="shared_scale_normal", prior="conditional", alpha=alpha,
    )  # fmt: skip
    model.likelihood.family = zoo.SharedScaleNormal(NOISE)
    zeros = np.zeros
    model.prior.network.set_weights([
        np.concatenate([TO_MEAN, zeros((ATTRIBUTES, LATENTS))], 1),
        np.concatenate([OFFSET, raw(PRIOR_SCALE)]),
    ])  # fmt: skip
    model.likelihood.network.set_weights([np.concatenate([FACTORS.T, DIRECT]), np.full(4, 0.5)])
    variance = 1 / (np.diag(FACTORS.T @ FACTORS) / NOISE**2 + 1 / PRIOR_SCALE**2)
    of_x = FACTORS / NOISE**2 * variance
    of_y = TO_MEAN / PRIOR_SCALE**2 * variance - DIRECT @ of_x
    constant = OFFSET / PRIOR_SCALE**2 * variance - 0.5 * of_x.sum(0)
    scale = np.log(np.expm1(widening * np.sqrt(variance) - 1e-4))
    model.posterior.network.set_weights([
        np.concatenate([np.concatenate([of_x, of_y]), zeros((4 + ATTRIBUTES, LATENTS))], 1),
        np.concatenate([constant, scale]),
    ])  # fmt: skip
    return model


def exact():
    covariance = PRIOR_SCALE**2 * FACTORS @ FACTORS.T + NOISE**2 * np.eye(4)
    means = (Y @ TO_MEAN + OFFSET) @ FACTORS.T + Y @ DIRECT + 0.5
    return np.array([
        scipy.stats.multivariate_normal(m, covariance).logpdf(x.ravel().astype(np.float64))
        for x, m in zip(X, means, strict=True)
    ])  # fmt: skip


def expected_under_the_prior():
    """E_{p(z | y)} log p(x | z, y)."""
    mean = (Y @ TO_MEAN + OFFSET) @ FACTORS.T + Y @ DIRECT + 0.5
    far = ((X.reshape(6, 4) - mean) ** 2).sum(1) + PRIOR_SCALE**2 * (FACTORS**2).sum()
    return -0.5 * far / NOISE**2 - 2 * np.log(2 * np.pi * NOISE**2)


def test_one_importance_sample_of_the_exact_posterior_gives_the_conditional_likelihood():
    for num_samples in (1, 5):
        have = linear().log_prob(X, num_samples, y=Y, seed=[1, 2])
        np.testing.assert_allclose(have, exact(), atol=2e-4)


@pytest.mark.slow
def test_importance_sampling_and_plain_monte_carlo_agree_on_the_conditional_likelihood():
    model = linear(widening=1.5)
    sampled = tf.function(model.log_prob)(X, 3000, y=Y, seed=tf.constant([1, 2]))
    np.testing.assert_allclose(sampled, exact(), atol=0.05)
    plain = tf.function(model.log_prob_from_prior)(X, 30_000, y=Y, seed=tf.constant([1, 2]))
    np.testing.assert_allclose(plain, exact(), atol=0.15)


def test_plain_monte_carlo_draws_from_the_prior():
    x, y = (np.repeat(t, 3000, 0) for t in (X, Y))
    model = linear()
    one = np.reshape(model.log_prob_from_prior(x, 1, y=y, seed=1), [6, 3000])
    assert (
        np.abs(one.mean(1) - expected_under_the_prior()) < 4.5 * one.std(1) / np.sqrt(3000)
    ).all()
    assert np.reshape(model.log_prob(x, 1, y=y, seed=1), [6, 3000]).std(1).max() < 1e-3


@pytest.mark.slow
def test_a_gsnn_estimates_its_likelihood_from_the_prior():
    gsnn, cvae = linear(alpha=0.0), linear()
    want = cvae.log_prob_from_prior(X, 50, y=Y, seed=1)
    np.testing.assert_allclose(gsnn.log_prob(X, 50, y=Y, seed=1), want, rtol=1e-5)


@pytest.mark.slow
def test_the_record_names_the_proposal_of_the_likelihood_estimate(quadrants):
    nll = zoo.metrics.negative_log_likelihood
    many = {"y": Y, "num_samples": 2000}
    # The posterior is exact, so that any number of samples suffices.
    sampled = nll(linear(), X, y=Y, num_samples=2)
    plain = nll(linear(), X, proposal="prior", **many)
    gsnn = nll(linear(alpha=0.0), X, **many)
    assert sampled.value == pytest.approx(-exact().mean(), abs=1e-3)
    assert plain.value == pytest.approx(-exact().mean(), abs=0.3)
    assert plain.value != pytest.approx(sampled.value, abs=1e-3)
    assert gsnn.value == plain.value
    methods = [estimate.estimator["method"] for estimate in (sampled, plain, gsnn)]
    assert methods == ["importance sampling", "Monte Carlo", "Monte Carlo"]
    x, y = quadrants
    predictor, seen = zoo.models.predictor(SHAPE, hidden=(6,)), []
    once = nll(predictor, x, y=y, progress=lambda *at: seen.append(at))
    assert once.value == pytest.approx(-np.mean(predictor.log_prob(x, y=y)), rel=1e-5)
    assert once.estimator == {
        "method": "exact",
        "of": "probabilities of 0 and 1 of the hidden values, given y",
    }
    assert seen == [(7, 7)]
    for model, proposal, message in (
        (predictor, "prior", r"`log_prob_from_prior`.* Received: a Predictor"),
        (linear(), "Prior", "Unknown proposal 'Prior'"),
    ):
        with pytest.raises(ValueError, match=message):
            nll(model, x, y=y, proposal=proposal)


def test_plain_monte_carlo_draws_for_each_image_from_a_prior_that_ignores_y():
    model = zoo.models.cvae(SHAPE, latent_dim=2, hidden=(4,))
    x = np.repeat(np.round(np.random.default_rng(0).uniform(size=(1, *SHAPE))), 50, 0)
    values = model.log_prob_from_prior(x.astype(np.float32), 1, y=np.zeros(50, int), seed=1)
    assert len(np.unique(values)) > 40


def test_the_bounds_are_ordered_and_tight_where_theory_predicts():
    x, y = (np.repeat(t, 5000, 0) for t in (X, Y))
    results = losses_of(linear(alpha=0.5), x, y)
    elbo = -(results["distortion"] + results["rate"]).reshape(6, -1)
    gsnn = -results["prior_distortion"].reshape(6, -1)
    error = elbo.std(1) / np.sqrt(5000)
    assert (np.abs(elbo.mean(1) - exact()) < 4.5 * error).all()
    assert (gsnn.mean(1) < exact() - 0.5).all()
    assert (
        np.abs(gsnn.mean(1) - expected_under_the_prior()) < 4.5 * gsnn.std(1) / np.sqrt(5000)
    ).all()


# Hidden pixels --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bernoulli", "normal", "discretized_logistic"])
def test_a_completion_changes_only_the_hidden_values(name, quadrants):
    x, y = quadrants
    family = zoo.distributions.likelihood_family(name, 2)
    shape = (*SHAPE[:2], family.params_per_value)
    part = zoo.Completion(zoo.networks.mlp_decoder(16 * shape[2], shape, 1, ()), family)
    part.network.set_weights([np.eye(16 * shape[2]), np.zeros(16 * shape[2])])
    params = tf.Variable(
        np.random.default_rng(0).normal(size=(2, 7, 16 * shape[2])), dtype="float32"
    )
    with tf.GradientTape() as tape:
        log_prob = part(params, y).log_prob(x)
    slope = np.reshape(tape.gradient(log_prob, params), [2, 7, *shape])
    hidden = np.broadcast_to(y < 0, [2, 7, *shape])
    assert (slope[~hidden] == 0).all() and (np.abs(slope[hidden]) > 0).mean() > 0.9
    whole = family(tf.reshape(params, [2, 7, *shape]), 3)
    each = np.asarray(whole.distribution.log_prob(x), np.float64)
    want = np.where(y < 0, each, 0).sum((2, 3, 4))
    np.testing.assert_allclose(log_prob, want, rtol=1e-5)
    if name == "bernoulli":
        p = scipy.special.expit(np.reshape(params, [2, 7, *shape]).astype(np.float64))
        np.testing.assert_allclose(each, scipy.stats.bernoulli.logpmf(x, p), rtol=1e-4, atol=1e-6)
    for image in (part(params, y).mean(), part(params, y).sample(seed=[1, 2])):
        shown = np.asarray(image)
        assert (np.where(y < 0, 0, shown) == np.where(y < 0, 0, y)).all()
    np.testing.assert_allclose(
        np.where(y < 0, part(params, y).mean(), 0), np.where(y < 0, whole.mean(), 0), rtol=1e-6
    )


def test_seen_pixels_affect_the_losses_only_through_y(quadrants):
    x, y = quadrants
    model = zoo.models.predictor(SHAPE, hidden=(6,))
    other = np.where(y < 0, x, 1 - x)
    np.testing.assert_array_equal(model.log_prob(x, y=y), model.log_prob(other, y=y))
    inverted = np.where(y < 0, y, 1 - y)
    assert np.abs(model.log_prob(x, y=y) - model.log_prob(x, y=inverted)).min() > 1e-4


def test_a_predictor_has_an_exact_score_and_completes_images(quadrants):
    x, y = quadrants
    model = zoo.models.predictor(SHAPE, hidden=(6,), activation="tanh")
    w1, b1, w2, b2 = model.likelihood.network.get_weights()
    p = scipy.special.expit(np.tanh(y.reshape(7, 16) @ w1 + b1) @ w2 + b2).reshape(x.shape)
    log_prob = np.where(y < 0, scipy.stats.bernoulli.logpmf(x, p), 0).sum((1, 2, 3))
    np.testing.assert_allclose(model.log_prob(x, y=y), log_prob, rtol=1e-4)
    np.testing.assert_allclose(losses_of(model, x, y)["predictor"], -log_prob, rtol=1e-4)
    completed = model.decode(np.zeros([7, 0]), y)
    np.testing.assert_allclose(completed, np.where(y < 0, p, y), rtol=1e-4)
    assert model.abilities() == ("decode", "log_prob")


# Gradients ------------------------------------------------------------------------------------


def gradients(model, x, y, name):
    """The largest gradient of one result, by network."""
    parts = {
        "posterior": model.posterior.network,
        "likelihood": model.likelihood.network,
        "prior": model.prior.network,
        "baseline": model.prior.baseline.network,
    }
    variables = {k: v.trainable_variables for k, v in parts.items()}
    with tf.GradientTape() as tape:
        losses, terms = model.objective(tf.constant(x), tf.constant(y), SEED, training=True)
        total = tf.reduce_sum((losses | terms)[name])
    found = tape.gradient(total, variables)
    return {k: any(g is not None and np.abs(g).max() > 1e-6 for g in v) for k, v in found.items()}


@pytest.mark.parametrize(
    ("alpha", "name", "reached"),
    [
        (1.0, "vae", {"posterior", "likelihood", "prior"}),
        (0.5, "rate", {"posterior", "prior"}),
        (0.5, "distortion", {"posterior", "likelihood"}),
        (0.5, "prior_distortion", {"likelihood", "prior"}),
        (0.0, "vae", {"likelihood", "prior"}),
        (0.5, "baseline", {"baseline"}),
    ],
)
def test_each_loss_has_gradients_in_its_networks_only(quadrants, alpha, name, reached):
    found = gradients(small(alpha), *quadrants, name)
    assert {network for network, moved in found.items() if moved} == reached


def test_the_baseline_trains_independently_of_the_other_networks(quadrants, weight_changes):
    x, y = quadrants
    model = small()
    alone = zoo.Predictor(zoo.Completion.from_config(model.prior.baseline.get_config()))
    alone.likelihood.network.set_weights(model.prior.baseline.network.get_weights())
    for m in (model, alone):
        m.compile(keras.optimizers.SGD(0.1))
        for _ in range(3):
            change = weight_changes(m, lambda m=m: m.train_step((x, y)))
            assert all(np.abs(c).max() > 0 for own in change.values() for c in own)
    for a, b in zip(
        model.prior.baseline.network.get_weights(),
        alone.likelihood.network.get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_frozen_baseline_is_not_updated(quadrants, tmp_path):
    x, y = quadrants
    predictor = zoo.models.predictor(SHAPE, hidden=(5,))
    predictor.likelihood.trainable = False
    whole = small()
    prior = zoo.ConditionalPrior(whole.prior.network, whole.prior.family, predictor.likelihood)
    model = zoo.CVAE(whole.posterior, whole.likelihood, prior)
    assert model.players().keys() == {"vae"}
    before = predictor.likelihood.network.get_weights()
    model.compile("adam", jit_compile=False)
    model.fit(x, y, verbose=0, epochs=2)
    model.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    twin.fit(x, y, verbose=0)
    assert twin.players().keys() == {"vae"}
    for a, b, c in zip(
        before,
        predictor.likelihood.network.get_weights(),
        twin.prior.baseline.network.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_a_gsnn_does_not_use_its_posterior(quadrants):
    x, y = quadrants
    model = small(0.0)
    before = model.posterior.network.get_weights()
    model.compile("adam", jit_compile=False)
    model.fit(x, y, verbose=0)
    for a, b in zip(before, model.posterior.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert "encode" not in model.abilities()
    with pytest.raises(NotImplementedError, match="no encoder"):
        model.reconstruct(x, y)


# Conditions -----------------------------------------------------------------------------------


def test_latents_are_drawn_from_the_prior_of_each_condition():
    model = linear()
    y = np.repeat(Y[:2], 4000, 0)
    z = np.asarray(model.sample_latents(8000, y, seed=1)).reshape(2, 4000, LATENTS)
    np.testing.assert_allclose(z.mean(1), Y[:2] @ TO_MEAN + OFFSET, atol=0.06)
    np.testing.assert_allclose(z.std(1), PRIOR_SCALE, rtol=0.05)
    images = np.asarray(model.sample(8000, y, seed=1)).reshape(2, 4000, 4)
    np.testing.assert_array_equal(
        model.sample(3, Y[0], seed=2), model.sample(3, Y[[0, 0, 0]], seed=2)
    )
    assert np.abs(images.mean(1)[0] - images.mean(1)[1]).max() > 0.05


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"takes a condition: pass `y`, int32 of shape \[n\].*Received: y=None"),
        ([1, 2], r"shape \[n\] with n=3.*Received: shape \(2,\)"),
        (np.eye(10, dtype=int)[:3], r"Received: shape \(3, 10\)"),
        ([1, 2, 10], r"from 0 to 9. Received: labels from 1 to 10"),
        ([-1, 2, 3], r"from 0 to 9. Received: labels from -1 to 3"),
        ([0.9, 3.7, 1.0], r"is a label, an int. Received: y of type float64"),
    ],
)
def test_invalid_conditions_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        zoo.models.cvae(SHAPE, latent_dim=2, hidden=(4,)).sample(3, y)


def test_unknown_labels_are_refused_before_the_likelihood_is_traced(digits):
    model = zoo.models.cvae((8, 8, 1), latent_dim=2, hidden=(4,))
    x = np.round(digits[:2])
    with pytest.raises(ValueError, match=r"from 0 to 9. Received: labels from 3 to 12"):
        zoo.metrics.negative_log_likelihood(model, x, 2, y=np.array([3, 12]))


def test_one_condition_applies_to_all_rows_in_every_method(digits, quadrants):
    x = np.round(digits[:3])
    by_label = zoo.models.cvae((8, 8, 1), latent_dim=2, hidden=(4,))
    z, four = np.ones([3, 2], np.float32), np.full(3, 4)
    for call in (
        lambda y: by_label.decode(z, y),
        lambda y: by_label.encode(x, y),
        lambda y: by_label.reconstruct(x, y),
        lambda y: by_label.log_prob(x, 2, y, seed=1),
        lambda y: by_label.log_prob_from_prior(x, 2, y, seed=1),
    ):
        np.testing.assert_array_equal(call(4), call(four))
        assert np.abs(call(4) - call(np.array([4, 4, 5])))[2].max() > 0
    with pytest.raises(ValueError, match=r"shape \[n\] with n=3.*Received: shape \(2,\)"):
        by_label.encode(x, [1, 2])
    x, y = quadrants
    predictor, same = zoo.models.predictor(SHAPE, hidden=(4,)), np.repeat(y[:1], 7, 0)
    np.testing.assert_array_equal(predictor.log_prob(x, y=y[0]), predictor.log_prob(x, y=same))
    none = np.zeros([7, 0])
    np.testing.assert_array_equal(predictor.decode(none, y[0]), predictor.decode(none, same))


def test_autograph_converts_the_functions_of_an_export():
    for method in ("conditions", "condition_for", "sample", "encode"):
        tf.autograph.to_code(getattr(zoo.model.GenerativeModel, method))


def plain_parts(prior):
    """q(z | x) and p(x | z) of a VAE, with a prior of labels."""
    vae = zoo.models.vae(SHAPE, latent_dim=2, hidden=(4,))
    labels = keras.Input((), dtype="int32")
    h = keras.layers.Dense(4)(zoo.networks.OneHot(10)(labels))
    p = zoo.ConditionalPrior(keras.Model(labels, h), zoo.DiagonalNormal())
    return vae.posterior, vae.likelihood, p if prior else vae.prior


@pytest.mark.parametrize("kind", [zoo.VAE, slow(zoo.CVAE)])
def test_a_condition_of_the_prior_is_a_condition_of_the_model(kind, quadrants, tmp_path):
    model = kind(*plain_parts(prior=True))
    assert model.condition == tf.TensorSpec([None], tf.int32) and model.latent_dim == 2
    with pytest.raises(ValueError, match="takes a condition: pass `y`, int32"):
        model.sample(4)
    np.testing.assert_array_equal(model.sample(4, 3, seed=0), model.sample(4, [3, 3, 3, 3], seed=0))
    x, labels = quadrants[0], np.arange(7)
    want = -np.mean(model.log_prob(x, 5, labels, seed=[0, 0]))
    have = zoo.metrics.negative_log_likelihood(model, x, 2000, y=labels).value
    assert have == pytest.approx(want, abs=3)
    signatures = zoo.export.export(model, tmp_path / "served")["signatures"]
    takes_y = {name for name, about in signatures.items() if "y" in about["inputs"]}
    assert takes_y == {"sample", "log_prob", "complete"}


def test_a_completion_requires_the_seen_part_even_if_its_network_does_not(quadrants):
    x, y = quadrants
    posterior, likelihood, prior = plain_parts(prior=False)
    model = zoo.VAE(posterior, zoo.Completion(likelihood.network, zoo.Bernoulli()), prior)
    assert model.condition == tf.TensorSpec([None, *SHAPE], tf.float32)
    drawn = np.asarray(model.sample(7, y, seed=0))
    np.testing.assert_array_equal(drawn[y >= 0], y[y >= 0])
    assert zoo.metrics.negative_log_likelihood(model, x, 2, y=y).value > 0


def test_dropout_in_the_prior_is_active_only_in_training(quadrants):
    x, labels = tf.constant(quadrants[0]), tf.range(7)
    inputs = keras.Input((), dtype="int32")
    h = keras.layers.Dropout(0.5)(zoo.networks.OneHot(10)(inputs))
    h = keras.layers.Dense(4)(keras.layers.BatchNormalization(momentum=0.5)(h))
    prior = zoo.ConditionalPrior(keras.Model(inputs, h), zoo.DiagonalNormal())
    posterior, likelihood, _ = plain_parts(prior=False)
    mean = lambda training: np.asarray(prior(labels, training=training).mean())  # noqa: E731
    np.testing.assert_array_equal(mean(False), mean(False))
    assert np.abs(mean(True) - mean(True)).max() > 0
    for model, term in (
        (zoo.VAE(posterior, likelihood, prior), "rate"),
        (zoo.CVAE(posterior, likelihood, prior), "rate"),
        (zoo.CVAE(posterior, likelihood, prior, alpha=0.0), "prior_distortion"),
        (zoo.InfoVAE(posterior, likelihood, prior), "rate"),
    ):
        one, two = (
            [model.objective(x, labels, SEED, training)[1][term] for _ in range(2)]
            for training in (True, False)
        )
        assert np.abs(one[0] - one[1]).max() > 0, type(model)
        np.testing.assert_array_equal(*two)
    statistics = prior.network.layers[-2].moving_mean.numpy()
    model.compile("sgd", jit_compile=False)
    model.fit(quadrants[0], labels, verbose=0)
    assert np.abs(prior.network.layers[-2].moving_mean.numpy() - statistics).max() > 0


def network(*shapes, out=(4, 4, 1)):
    inputs = [keras.Input(s) for s in shapes]
    flat = [keras.layers.Flatten()(t) for t in inputs]
    h = keras.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
    return keras.Model(inputs, keras.layers.Reshape(out)(keras.layers.Dense(int(np.prod(out)))(h)))


@pytest.mark.parametrize(
    ("shapes", "out", "family", "message"),
    [
        ([SHAPE, SHAPE], SHAPE, zoo.Bernoulli, r"only input is the seen part.*\(4, 4, 1\), \(4"),
        ([(3,)], SHAPE, zoo.Bernoulli, r"only input is the seen part.*shapes \[\(3,\)\]"),
        ([(2, 2, 1)], SHAPE, zoo.Bernoulli, r"only input is the seen part.*\(2, 2, 1\)"),
        ([SHAPE], (16,), zoo.Bernoulli, r"parameters of an image.*Received.*\(None, 16\)"),
        (
            [SHAPE],
            (4, 4, 3),
            zoo.DiagonalNormal,
            r"2, 4, 6, .* parameters.*Received: .*\(4, 4, 3\)",
        ),
        (
            [SHAPE],
            (4, 4, 2),
            zoo.FullCovarianceNormal,
            r"use it for vectors.*Received: .*\(4, 4, 2\)",
        ),
    ],
)
def test_invalid_completions_are_refused(shapes, out, family, message):
    with pytest.raises(ValueError, match=message):
        zoo.Predictor(zoo.Completion(network(*shapes, out=out), family()))
    prior = network(SHAPE, SHAPE, out=(4,))
    with pytest.raises(ValueError, match=message):
        part = zoo.Completion(network(*shapes, out=out), family())
        zoo.ConditionalPrior(prior, zoo.DiagonalNormal(), part)
    with pytest.raises(ValueError, match="`baseline` of a ConditionalPrior must be a `Completion`"):
        plain = zoo.Conditional(network(SHAPE), zoo.Bernoulli())
        zoo.ConditionalPrior(prior, zoo.DiagonalNormal(), plain)


def test_training_without_y_is_refused(quadrants):
    for model in (small(), small(0.0), zoo.models.predictor(SHAPE, hidden=(4,))):
        model.compile("sgd", jit_compile=False)
        with pytest.raises(ValueError, match=r"pass `y`.*Received: y=None"):
            model.fit(quadrants[0], verbose=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": 0.0, "warm_up_steps": 5}, r"alpha=0 .*`warm_up_steps`.* Received"),
        ({"alpha": 0.0, "free_bits": 0.1}, r"alpha=0 .*Received: .*free_bits=0.1"),
        ({"alpha": 0.5, "prior": "mixture", "baseline_hidden": ()}, "must be differentiable"),
        ({"posterior": "noise_basis"}, r"'noise_basis' has none\. Choose 'normal'"),
        ({"alpha": 1.1}, r"`alpha` must be in \[0, 1\]. Received: 1.1"),
        ({"condition_size": 3}, r"option of condition 'label', 'attributes'"),
        (
            {"condition": "attributes", "condition_size": 3},
            r"condition='seen'. Received: condition='attributes'",
        ),
        ({"condition": "labels"}, r"Unknown condition 'labels'"),
        ({"prior": "normal"}, r"option of prior 'conditional'.* Received"),
        ({"condition": "attributes", "baseline_hidden": ()}, r"at least 1"),
    ],
)
def test_incompatible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        small(**wrong)


def test_data_without_the_condition_are_refused():
    digits = {k: zoo.datasets.load("digits", seen=k) for k in (None, "quadrants:1")}
    by_label = zoo.models.cvae((8, 8, 1), latent_dim=2, hidden=(4,))
    by_part = zoo.models.predictor((8, 8, 1), hidden=(4,))
    zoo.conditions.check(by_label, digits[None])
    zoo.conditions.check(by_part, digits["quadrants:1"])
    with pytest.raises(ValueError, match=r"data.seen, for"):
        zoo.conditions.check(by_label, digits["quadrants:1"])
    with pytest.raises(
        ValueError, match=r"float32 of shape \[B, 8, 8, 1\].*Received: 'digits' with"
    ):
        zoo.conditions.check(by_part, digits[None])
    with pytest.raises(ValueError, match=r"has 7 classes. Received: 'digits' with 10"):
        few = zoo.models.cvae((8, 8, 1), latent_dim=2, hidden=(4,), condition_size=7)
        zoo.conditions.check(few, digits[None])


def test_pictures_use_all_classes_in_turn_or_one_seen_part_per_row():
    data = zoo.datasets.load("digits")
    by_label = zoo.models.cvae((8, 8, 1), latent_dim=2, hidden=(4,))
    assert zoo.conditions.in_turn(by_label, data, 25, 10).tolist() == [
        *range(10),
        *range(10),
        *range(5),
    ]
    seen = zoo.datasets.load("digits", seen="quadrants:1")
    by_part = zoo.models.predictor((8, 8, 1), hidden=(4,))
    y = zoo.conditions.in_turn(by_part, seen, 25, 10)
    for i in range(25):
        np.testing.assert_array_equal(y[i], seen.arrays("test", 3)[1][i // 10])
    vae = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,))
    assert zoo.conditions.in_turn(vae, data, 25) is None


def test_evaluation_samples_use_the_conditions_of_the_data():
    class Echo(zoo.CVAE):
        def sample(self, n, y=None, seed=None):
            return (
                tf.fill([n, *SHAPE], 1.0) * tf.reshape(tf.cast(y, tf.float32), [n, 1, 1, 1]) / 255
            )

    parts = zoo.models.cvae(SHAPE, latent_dim=2, hidden=(4,))
    model = Echo(parts.posterior, parts.likelihood, parts.prior)
    pool = np.array([2] * 30 + [7] * 10)
    drawn = sample_images(model, 2000, seed=0, batch_size=300, y=pool)[:, 0, 0, 0]
    assert (drawn == 7).mean() == pytest.approx(0.25, abs=0.04)
    assert set(drawn) == {2, 7}
    np.testing.assert_array_equal(drawn, sample_images(model, 2000, 0, 300, y=pool)[:, 0, 0, 0])


@pytest.mark.slow
def test_evaluation_scores_the_conditional_model():
    data = zoo.datasets.load("digits", binarize="fixed", seen="quadrants:2")
    model = zoo.models.cvae(
        (8, 8, 1), latent_dim=2, hidden=(4,), condition="seen", prior="conditional"
    )
    subject = Evaluation.of_model(model, data, num_samples=20, limit=30, importance_samples=50)
    keys = ["nll", "rate", "active_units", "latent_mmd", "psnr", "copying"]
    results = {r.kind: r for r in subject.run(keys)}
    assert all(r.error is None for r in results.values()), [r.error for r in results.values()]
    x, y = data.arrays("test", 30)
    seed = tf.random.experimental.stateless_fold_in([0, 0], 0)
    want = -np.mean(tf.function(model.log_prob)(x, 50, y=y, seed=seed))
    assert results["nll"].value == pytest.approx(want, rel=1e-5)
    wrong = -np.mean(tf.function(model.log_prob)(x, 50, y=y[::-1], seed=seed))
    assert abs(want - wrong) > 1e-3
    assert "given y" in results["nll"].estimator["of"]
    per_value = results["nll"].value / (32 * np.log(2))
    assert results["nll"].details["bits_per_dim"] == pytest.approx(per_value, rel=1e-5)
    losses = losses_of(model, x, y, training=False)
    assert results["rate"].value == pytest.approx(losses["rate"].mean(), rel=1e-4)
    with pytest.raises(ValueError, match="Annealing applies to models without a condition"):
        zoo.metrics.annealed_nll(model, x)


@pytest.mark.slow
def test_a_run_of_a_conditional_model_writes_pictures_and_scores(tmp_path):
    for preset, more in (
        ("cvae_quadrants_digits", ["model.hidden=8", "baseline_hidden=8", "alpha=0.5"]),
        ("predictor_quadrants_digits", ["hidden=8"]),
    ):
        config = zoo.presets.get(preset)
        zoo.presets.override(config, [*more, "epochs=1", "jit_compile=false"])
        run = zoo.training.Run(tmp_path / preset)
        results = zoo.training.train(config, run, progress=False, say=lambda line: None)
        assert results["likelihood"]["nll"] > 0
        pictures = {path.name for path in run.path.glob("*.png")}
        wanted = {"completions.png"} if "predictor" in preset else {"samples.png", "latents.png"}
        assert wanted <= pictures


@pytest.mark.slow
def test_samples_are_classified_as_the_requested_class():
    data = zoo.datasets.load("digits", binarize="dynamic")
    model = zoo.models.cvae((8, 8, 1), latent_dim=6, hidden=(64,))
    model.compile(keras.optimizers.Adam(5e-3), steps_per_execution=20, jit_compile=True)
    batches = data.batches("train", 50, shuffle=True, repeat=True)
    model.fit(batches, steps_per_epoch=20, epochs=30, verbose=0)
    bunch = load_digits()
    judge = LogisticRegression(max_iter=2000).fit(bunch.data[:1350] / 16, bunch.target[:1350])
    assert judge.score(bunch.data[1350:] / 16, bunch.target[1350:]) > 0.88
    asked = np.arange(500) % 10
    drawn = np.reshape(model.sample(500, asked, seed=0), [500, 64])
    assert (judge.predict(drawn) == asked).mean() > 0.8
