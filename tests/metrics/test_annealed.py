"""Annealed importance sampling of linear-Gaussian models, whose likelihood is known."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats
from small import build

import zoo
from zoo.metrics.annealed import annealed_importance_sampling, annealed_nll, nearest_start
from zoo.metrics.likelihood import negative_log_likelihood
from zoo.models.avb import joint_discriminator

tfd = tfp.distributions
LATENT, VALUES, NOISE = 4, 6, 0.1
RNG = np.random.default_rng(0)
W, B = RNG.normal(size=[VALUES, LATENT]).astype(np.float32), np.float32(0.5)
MARGINAL = stats.multivariate_normal(np.full(VALUES, B), W @ W.T + NOISE**2 * np.eye(VALUES))
X = MARGINAL.rvs(20, random_state=1).astype(np.float32)
EXACT = -MARGINAL.logpdf(X)
PRIOR = tfd.MultivariateNormalDiag(tf.zeros(LATENT), tf.ones(LATENT))


def log_likelihood(z, x):
    """x = W z + B + noise."""
    mean = tf.linalg.matvec(W, z) + B
    return tfd.Independent(tfd.Normal(mean, NOISE), 1).log_prob(x)


PRECISION = np.eye(LATENT) + W.T @ W / NOISE**2
GAIN = (np.linalg.inv(PRECISION) @ W.T / NOISE**2).astype(np.float32)


def posterior(x, spread=1.0, kind=tfd.MultivariateNormalTriL):
    """The exact p(z | x), or with `spread` a wider one."""
    factor = np.linalg.cholesky(np.linalg.inv(PRECISION)).astype(np.float32)
    return kind(tf.linalg.matvec(GAIN, x - B), spread * factor)


def test_annealing_from_the_prior_estimates_the_likelihood():
    result = annealed_importance_sampling(log_likelihood, PRIOR, X, num_steps=500)
    # As many draws of the prior as gradients: 500 moves of 10 steps, 8 chains and 1 tuning chain.
    z = PRIOR.sample([500 * 10 * 9, 1], seed=0)
    weights = log_likelihood(z, X).numpy().astype(np.float64)
    plain = np.log(len(z)) - np.logaddexp.reduce(weights, 0)
    assert result.value == pytest.approx(EXACT.mean(), abs=0.3)
    assert plain.mean() > EXACT.mean() + 1
    assert result.stderr == pytest.approx(stats.sem(EXACT), rel=0.1)
    assert result.n_real == 20
    # Tuned for 65 % of all moves.
    assert result.details["acceptance"] == pytest.approx(0.65, abs=0.1)


def of_unknown_shape(tensor):
    """The tensor, about whose shape a graph knows nothing."""
    return tf.compat.v1.placeholder_with_default(tensor, None)


class WithoutShapes:
    """Draws and log-densities have no static shape."""

    def sample(self, *args, **kwargs):
        return of_unknown_shape(super().sample(*args, **kwargs))

    def log_prob(self, *args, **kwargs):
        return of_unknown_shape(super().log_prob(*args, **kwargs))


class UnshapedNormal(WithoutShapes, tfd.MultivariateNormalTriL):
    pass


@pytest.mark.slow
def test_densities_without_static_shapes_are_annealed():
    result = annealed_importance_sampling(
        lambda z, x: of_unknown_shape(log_likelihood(z, x)),
        UnshapedNormal(tf.zeros(LATENT), tf.eye(LATENT)),
        X[:3],
        initial=lambda x: posterior(x, kind=UnshapedNormal),
        num_steps=2, num_chains=2, leapfrog_steps=1,
    )  # fmt: skip
    # From the exact posterior, the weight of every chain is p(x).
    assert result.value == pytest.approx(EXACT[:3].mean(), rel=1e-3)


def mean_weight_over(p, **settings):
    """The mean weight of many chains as a multiple of `p`, and its standard error."""
    result = annealed_importance_sampling(**settings, leapfrog_steps=3)
    error = np.sqrt(1 / result.details["ess"] - 1 / settings["num_chains"])
    return np.exp(-result.value) / p, error


@pytest.mark.parametrize("num_steps", [2, 20])
def test_the_mean_weight_is_unbiased_for_few_steps(num_steps):
    # With 20 moves, stale density values of the previous move would lower the mean by 20 %.
    ratio, error = mean_weight_over(
        stats.norm(0, np.sqrt(1 + 0.3**2)).pdf(1.5),
        log_likelihood=lambda z, x: tfd.Independent(tfd.Normal(z, 0.3), 1).log_prob(x),
        prior=tfd.MultivariateNormalDiag([0.0], [1.0]),
        x=np.full((1, 1), 1.5, np.float32),
        num_steps=num_steps,
        num_chains=20_000,
        step_size=0.3,
    )
    assert ratio == pytest.approx(1, abs=4 * error) and error < 0.02


@pytest.mark.slow
def test_initial_distributions_and_tuned_step_sizes_do_not_bias_the_mean_weight():
    ratio, error = mean_weight_over(
        np.exp(-EXACT[0]),
        log_likelihood=log_likelihood,
        prior=PRIOR,
        x=X[:1],
        initial=lambda x: posterior(x, spread=2.0),
        num_steps=5,
        num_chains=20_000,
    )
    assert ratio == pytest.approx(1, abs=4 * error) and error < 0.02


def test_chains_from_the_exact_posterior_give_the_exact_value():
    result = annealed_importance_sampling(
        log_likelihood, PRIOR, X, initial=posterior, num_steps=4, num_chains=2, batch_size=8
    )
    assert result.value == pytest.approx(EXACT.mean(), abs=1e-3)
    assert result.stderr == pytest.approx(stats.sem(EXACT), rel=1e-3)
    # All weights are equal.
    assert result.details["ess"] == pytest.approx(2, abs=1e-3)
    assert result.details["ess_min"] == pytest.approx(2, abs=1e-2)


def test_one_step_is_importance_sampling_from_the_prior():
    """One image and equal draws: the weight is computed before the only move."""
    result = annealed_importance_sampling(
        log_likelihood, PRIOR, X[:1], num_steps=1, num_chains=500, step_size=0.1, seed=4
    )
    _, seed = tfp.random.split_seed(tf.constant([4, 0]))
    weights = log_likelihood(PRIOR.sample([500, 1], seed=seed), X[:1]).numpy()[:, 0]
    weights = weights.astype(np.float64)
    assert result.value == pytest.approx(np.log(500) - np.logaddexp.reduce(weights), rel=1e-5)
    p = np.exp(weights - weights.max())
    assert result.details["ess"] == pytest.approx(p.sum() ** 2 / (p**2).sum(), rel=1e-4)


@pytest.mark.slow
def test_more_steps_tighten_the_bound_and_equal_seeds_give_equal_results():
    short, again, other, longer = (
        annealed_importance_sampling(
            log_likelihood, PRIOR, X, num_steps=steps, num_chains=2, step_size=0.05, seed=seed
        ).value
        for steps, seed in ((10, 0), (10, 0), (10, 1), (100, 0))
    )
    assert short == again != other
    assert short > longer + 0.5 > EXACT.mean() + 0.4


# Models ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """A small VAE of black and white digits, and some of them."""
    data = zoo.datasets.load("digits", binarize="fixed")
    x, _ = data.arrays("train")
    model = build("vae_digits", hidden=(32,))
    model.fit(x, batch_size=50, epochs=15, verbose=0)
    return model, data.arrays("test")[0][:30]


@pytest.mark.slow
def test_annealing_agrees_with_importance_sampling_for_a_trained_vae(trained):
    model, x = trained
    importance = negative_log_likelihood(model, x, 2000)
    settings = {"num_steps": 150, "num_chains": 8}
    found = {
        initial: annealed_nll(model, x, initial=initial, **settings)
        for initial in ("prior", "posterior")
    }
    for initial, result in found.items():
        assert result.value == pytest.approx(importance.value, abs=0.1)
        assert result.details["bits_per_dim"] == pytest.approx(result.value / 64 / np.log(2))
        assert result.estimator["initial"] == initial
        assert result.estimator["num_steps"] == 150
    assert found["prior"].value != found["posterior"].value


def test_progress_counts_observations():
    calls = []
    annealed_importance_sampling(
        log_likelihood,
        PRIOR,
        X,
        num_steps=2,
        num_chains=1,
        step_size=0.1,
        batch_size=15,
        progress=lambda *at: calls.append(at),
    )
    assert calls == [(15, 20), (20, 20)]


def aae(**changes):
    return build("aae_digits", **({"posterior": "deterministic"} | changes))


def test_an_adversarial_autoencoder_has_a_likelihood_under_its_prior(trained):
    _, x = trained
    model = aae(prior_scale=0.5)
    result = annealed_nll(model, x[:5], num_steps=200, num_chains=8)
    # For an untrained model in two dimensions, the mean over prior draws is as accurate.
    z = model.prior().sample([20_000], seed=0)
    weights = np.stack([model.likelihood(z).log_prob(image) for image in x[:5]]).astype(np.float64)
    plain = np.log(20_000) - np.logaddexp.reduce(weights, 1)
    assert result.value == pytest.approx(plain.mean(), abs=0.03)


def test_models_without_a_likelihood_or_density_are_refused(trained):
    model, x = trained
    gan = build("gan_digits")
    with pytest.raises(ValueError, match="a GAN, which lacks them"):
        annealed_nll(gan, x)
    with pytest.raises(ValueError, match="Binarise"):
        annealed_nll(model, 0.5 * x)
    with pytest.raises(ValueError, match=r"a density over .*Received: a SwissRoll"):
        annealed_nll(aae(prior="swiss_roll"), x)
    clusters = build("clustering_aae_digits", categories=3)
    with pytest.raises(ValueError, match="Received: a CategoryAndStyle, which has none"):
        annealed_nll(clusters, x)
    with pytest.raises(ValueError, match="Take initial='prior'"):
        annealed_nll(aae(), x, initial="posterior")
    with pytest.raises(ValueError, match="Received: 'encoder'"):
        annealed_nll(model, x, initial="encoder")


class Wrapped(zoo.distributions.Part):
    """A posterior without a family."""

    def __init__(self, other):
        super().__init__()
        self.other = other
        self.network = other.network  # The source of a model's image shape.

    def call(self, x, y=None, training=False):
        return self.other(x, y, training=training)


@pytest.mark.slow
def test_a_posterior_without_a_family_is_accepted(trained):
    model, x = trained
    likelihood, prior = model.likelihood, model.prior
    discriminator = joint_discriminator((8, 8, 1), 2, (4,))
    other = zoo.AVB(Wrapped(model.posterior), likelihood, prior, discriminator)
    for initial in ("prior", "posterior"):
        settings = {"initial": initial, "num_steps": 10, "num_chains": 2}
        have, want = (annealed_nll(m, x[:3], **settings) for m in (other, model))
        assert have.value == pytest.approx(want.value, rel=1e-5)


def test_a_density_known_only_at_its_draws_is_refused_as_initial_distribution(trained):
    _, x = trained
    vae = build("vae_digits", posterior="planar")
    assert nearest_start(vae) == "prior"
    with pytest.raises(ValueError, match="Take initial='prior'"):
        annealed_nll(vae, x[:2], initial="posterior")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "`num_steps` must be at least 1"),
        ({"num_chains": 0}, "`num_chains`"),
        ({"leapfrog_steps": 0}, "`leapfrog_steps`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"step_size": -1.0}, "`step_size` must be positive"),
        ({"x": X[:0]}, "at least 1 observation"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        annealed_importance_sampling(log_likelihood, PRIOR, **({"x": X} | settings))


def test_a_likelihood_of_zero_everywhere_is_refused():
    with pytest.raises(ValueError, match="inf for image 0"):
        annealed_importance_sampling(
            lambda z, x: log_likelihood(z, x) - np.inf, PRIOR, X, num_steps=2, step_size=0.1
        )
