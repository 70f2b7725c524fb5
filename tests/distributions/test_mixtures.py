"""Mixtures: densities against SciPy, integrals and draws; the VampPrior."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import zoo
from zoo import distributions

RNG = np.random.default_rng(0)


def petal_normals(components=10, shift=1.4, scales=(0.5, 0.1)):
    for k in range(components):
        angle = 2 * np.pi * k / components
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        yield scipy.stats.multivariate_normal(
            shift * turn[:, 0], turn @ np.diag(np.square(scales)) @ turn.T
        )


def petal_density(z, **kwargs):
    return np.mean([normal.pdf(z) for normal in petal_normals(**kwargs)], 0)


def test_the_kl_without_a_formula_is_estimated_at_z():
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


PETALS = {"components": 6, "shift": 2.0, "scales": (0.4, 0.2)}


@pytest.mark.parametrize("arguments", [{}, PETALS])
def test_the_density_of_petals_is_the_mixture_and_integrates_to_one(arguments):
    side = np.linspace(-5, 5, 401)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1)
    density = np.exp(zoo.NormalPetals(**arguments)().log_prob(tf.constant(grid, tf.float32)))
    np.testing.assert_allclose(density, petal_density(grid, **arguments), atol=1e-4)
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("arguments", [{}, PETALS])
def test_each_petal_has_its_angle_and_lies_along_its_ray(arguments):
    components = zoo.NormalPetals(**arguments)().components_distribution
    samples = components.sample(20_000, seed=[7, 8]).numpy()  # [n, K, 2]
    for k, normal in enumerate(petal_normals(**arguments)):
        np.testing.assert_allclose(samples[:, k].mean(0), normal.mean, atol=0.02)
        np.testing.assert_allclose(np.cov(samples[:, k].T), normal.cov, atol=0.01)


def test_draws_of_petals_match_their_density():
    prior = zoo.NormalPetals(**PETALS)()
    z = prior.sample(20_000, seed=[9, 9]).numpy()
    # All sectors around rays have equal shares; the share of the centre matches the density.
    sector = np.round(np.arctan2(z[:, 1], z[:, 0]) / (2 * np.pi / 6)).astype(int) % 6
    assert scipy.stats.chisquare(np.bincount(sector, minlength=6)).pvalue > 1e-3
    mean_square = 2.0**2 + 0.4**2 + 0.2**2
    assert (z**2).sum(-1).mean() == pytest.approx(mean_square, rel=0.02)
    side = np.linspace(-5, 5, 401)
    density = petal_density(np.stack(np.meshgrid(side, side), -1), **PETALS)
    entropy = -(density * np.log(np.maximum(density, 1e-300))).sum() * (10 / 400) ** 2
    assert -np.log(petal_density(z, **PETALS)).mean() == pytest.approx(entropy, abs=0.03)


def test_the_radius_of_the_swiss_roll_grows_with_its_angle():
    z = zoo.SwissRoll(turns=2.0, radius=3.0, noise=0.0)().sample(500, seed=[1, 2]).numpy()
    radius = np.hypot(*z.T)
    assert radius.max() <= 3.0 and radius.max() > 2.95
    angle = 2 * np.pi * 2 * radius / 3
    np.testing.assert_allclose(z, radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1),
                               atol=1e-4)  # fmt: skip


def test_the_swiss_roll_is_uniform_along_its_arc():
    z = zoo.SwissRoll(turns=2.0, radius=3.0, noise=0.0)().sample(20_000, seed=[1, 2]).numpy()

    def arc(angle):  # Of Archimedes' spiral.
        return angle * np.sqrt(1 + angle**2) + np.arcsinh(angle)

    share = arc(4 * np.pi * np.hypot(*z.T) / 3) / arc(4 * np.pi)
    assert scipy.stats.kstest(share, "uniform").statistic < 0.03


def test_the_noise_of_the_swiss_roll_has_its_scale_in_both_directions():
    z = zoo.SwissRoll(radius=1e-6, noise=0.3)().sample(5000, seed=[1, 2]).numpy()
    for values in (*z.T, (z[:, 0] + z[:, 1]) / np.sqrt(2)):
        assert scipy.stats.kstest(values, scipy.stats.norm(0, 0.3).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.NormalPetals(components=0), "at least one component"),
        (lambda: zoo.NormalPetals(shift=float("nan")), "`shift` must be"),
        (lambda: zoo.NormalPetals(shift=-1.0), "`shift` must be"),
        (lambda: zoo.NormalPetals(scales=(0.5, 0.0)), "two positive finite numbers"),
        (lambda: zoo.NormalPetals(scales=(-0.5, 0.1)), "two positive finite numbers"),
        (lambda: zoo.NormalPetals(scales=(0.5, 0.1, 0.1)), "two positive finite numbers"),
        (lambda: zoo.SwissRoll(components=0), "at least one component"),
        (lambda: zoo.SwissRoll(turns=float("nan")), "`turns` and `radius` must be"),
        (lambda: zoo.SwissRoll(radius=0.0), "`turns` and `radius` must be"),
        (lambda: zoo.SwissRoll(noise=-0.1), "`noise` at least 0"),
        (
            lambda: zoo.models.label_informed_aae((8, 8, 1), prior_components=-1),
            "`prior_components` must be at least 0",
        ),
    ],
)
def test_invalid_petals_and_swiss_rolls_raise(make, message):
    with pytest.raises(ValueError, match=rf"{message}.*Received: "):
        make()


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


def parameters_of(prior):
    logits, loc, raw = (np.float64(v) for v in (prior.logits, prior.loc, prior.raw_scale))
    return scipy.special.softmax(logits), loc, prior.min_scale + np.log1p(np.exp(raw))


def test_the_mixture_prior_mixes_whole_vectors():
    prior = mixture()
    z = RNG.normal(size=(6, 3)).astype(np.float32)
    expected = mixture_log_prob(z, *parameters_of(prior))
    np.testing.assert_allclose(prior().log_prob(z), expected, rtol=1e-4)


def test_a_mixture_of_one_standard_normal_equals_the_standard_normal():
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
    weights, _, scale = parameters_of(zoo.MixturePrior(3, 5))
    np.testing.assert_allclose(weights, 0.2)
    np.testing.assert_allclose(scale, 1, rtol=1e-5)


PLANE = np.stack(np.meshgrid(*[np.linspace(-10, 10, 401)] * 2, indexing="ij"), -1)


def assert_draws_match_density(distribution):
    """In two dimensions, the density integrates to one and predicts the draws in rectangles."""
    density = np.exp(
        distribution.log_prob(tf.constant(PLANE, tf.float32)).numpy().astype(np.float64)
    )
    assert density.sum() * 0.05**2 == pytest.approx(1, abs=1e-3)
    edges = [-0.825, 0.025, 0.825]
    masses = np.zeros((4, 4))
    np.add.at(masses, tuple(np.digitize(PLANE[..., i], edges) for i in (0, 1)), density)
    z = distribution.sample(20_000, seed=[5, 6]).numpy()
    counts = np.zeros((4, 4))
    np.add.at(counts, tuple(np.digitize(z[:, i], edges) for i in (0, 1)), 1)
    expected = 20_000 * masses / masses.sum()
    frequent = expected > 10
    statistic = ((counts - expected)[frequent] ** 2 / expected[frequent]).sum()
    assert frequent.sum() > 6 and statistic < scipy.stats.chi2.ppf(1 - 1e-4, frequent.sum())


def test_draws_of_the_mixture_prior_match_its_density():
    assert_draws_match_density(mixture(2)())


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
def test_the_vamp_prior_is_the_mean_posterior_of_its_pseudo_inputs(family, components):
    prior, posterior = vamp(components, FAMILIES[family]())
    z = RNG.normal(size=(7, 2)).astype(np.float32)
    each = [
        posterior(prior.pseudo_inputs.numpy()[k : k + 1]).log_prob(z) for k in range(components)
    ]
    expected = scipy.special.logsumexp(each, axis=0) - np.log(components)
    np.testing.assert_allclose(prior().log_prob(z), expected, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_of_the_vamp_prior_match_its_density(family):
    assert_draws_match_density(vamp(3, FAMILIES[family]())[0]())


def test_the_vamp_prior_calls_the_posterior_without_dropout():
    x = keras.Input((2, 2, 1))
    h = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    encoder = keras.Model(x, keras.layers.Dense(4)(h))
    prior = zoo.VampPrior((2, 2, 1), 3)
    prior.bind(zoo.Conditional(encoder, zoo.DiagonalNormal()))
    z = RNG.normal(size=(7, 2)).astype(np.float32)
    params = encoder(prior.pseudo_inputs.numpy(), training=False).numpy()
    each = scipy.stats.norm.logpdf(
        z[:, None], params[:, :2], 1e-4 + np.log1p(np.exp(params[:, 2:]))
    ).sum(-1)
    expected = scipy.special.logsumexp(each, axis=-1) - np.log(3)
    for training in (False, True):
        np.testing.assert_allclose(prior(training=training).log_prob(z), expected, rtol=1e-4)


def test_initialize_sets_the_pseudo_inputs_to_images():
    prior, posterior = vamp(3)
    x = np.round(RNG.uniform(size=(5, 2, 2, 1))).astype(np.float32)
    prior.initialize(x)
    np.testing.assert_array_equal(prior.pseudo_inputs, x[:3])
    np.testing.assert_array_equal(
        prior().components_distribution.mean(), posterior(tf.constant(x[:3])).mean()
    )


def vamp_vae(components=3):
    return zoo.models.vae(
        (2, 2, 1),
        latent_dim=2,
        hidden=(6,),
        activation="tanh",
        prior="vamp",
        prior_components=components,
    )


def test_the_vamp_prior_owns_its_pseudo_inputs_and_shares_the_encoder_of_the_model():
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
    # The loss has both densities, of the posterior and of the prior.
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


def test_pseudo_inputs_stay_within_the_unit_interval_and_can_leave_its_ends():
    model = vamp_vae(8)
    model.compile(keras.optimizers.SGD(1.0))
    x = np.round(np.random.default_rng(0).uniform(size=(8, 2, 2, 1))).astype(np.float32)
    model.prior.initialize(x)
    recorded = []
    for _ in range(20):
        model.fit(x, batch_size=8, verbose=0)
        recorded.append(model.prior.pseudo_inputs.numpy())
        assert recorded[-1].min() >= 0 and recorded[-1].max() <= 1
    edge = (np.array(recorded) == 0) | (np.array(recorded) == 1)
    assert (edge[:-1] & ~edge[1:]).any()


def with_condition():
    x, y = keras.Input((4,)), keras.Input((3,))
    return keras.Model([x, y], keras.layers.Dense(4)(keras.layers.Concatenate()([x, y])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.FullCovarianceNormal(min_scale=0.0), "must be positive"),
        (lambda: zoo.FullCovarianceNormal()(tf.zeros([2, 8]), 1), r"D \(D \+ 3\) / 2 parameters"),
        (lambda: zoo.MixturePrior(2, 0), "at least one component"),
        (lambda: zoo.MixturePrior(2, min_scale=1.0), "between 0 and 1"),
        (lambda: zoo.VampPrior((2, 2, 1), 0), "at least one component"),
        (lambda: zoo.VampPrior((2, 2, 1))(), "needs a posterior"),
        (lambda: vamp(3)[0].bind(zoo.Conditional(with_condition(), zoo.UnitNormal())),
         "without a condition"),
        (lambda: zoo.VampPrior((3, 2, 1), 2).bind(vamp(3)[1]), "shape of the posterior's images"),
        (lambda: vamp(3)[0].initialize(np.zeros((2, 2, 2, 1))), "at least 3 images"),
        (lambda: vamp(3)[0].initialize(np.zeros((3, 3, 2, 1))), "at least 3 images"),
        (lambda: vamp(3)[0].initialize(np.full((3, 2, 2, 1), 1.5)), "values from 1.5"),
    ],
)  # fmt: skip
def test_invalid_mixtures_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
