"""Parts: KL divergences, configs, properties, and the checks by models."""

import json

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from zoo import distributions

tfd = tfp.distributions
RNG = np.random.default_rng(0)


def test_the_kl_of_two_diagonal_normals_is_exact_and_agrees_with_monte_carlo():
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
    # `z` is not used if there is a formula.
    exact = distributions.kl(q, p, tf.fill([4, 3], np.nan))
    np.testing.assert_allclose(exact, formula, rtol=1e-5)
    assert (np.abs(estimates.mean(0) - formula) < 4 * error).all()


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
def test_families_and_priors_are_restored_from_their_config(part):
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


def conditional(family):
    return zoo.Conditional(zoo.networks.mlp(2, family.num_params(2)), family)


def hierarchical(first, second):
    """A posterior and a prior whose layers have these families."""
    encoder = zoo.networks.mlp_encoder((2, 2, 1), first.num_params(2))
    posterior = zoo.HierarchicalPosterior(zoo.Conditional(encoder, first), conditional(second))
    return posterior, zoo.HierarchicalPrior(zoo.StandardNormal(2), conditional(second))


def implicit():
    return zoo.ImplicitConditional(zoo.distributions.noisy_mlp((2, 2, 1), 2, 2, (3,)))


NORMAL, NONE = zoo.DiagonalNormal(), zoo.Deterministic()
PLANAR, IAF = zoo.PlanarNormal(2, 1), zoo.InverseAutoregressiveNormal(2, 1, (3,), 2)
ABILITIES = [  # A part; density, density everywhere, differentiable draws, deterministic.
    (NORMAL, (True, True, True, False)),
    (zoo.FullCovarianceNormal(), (True, True, True, False)),
    (zoo.Bernoulli(), (True, True, False, False)),
    (zoo.ContinuousBernoulli(), (True, True, True, False)),
    (zoo.DiscretizedLogistic(4), (True, True, False, False)),
    (zoo.Categorical(4), (True, True, False, False)),
    (IAF, (True, True, True, False)),
    (PLANAR, (True, False, True, False)),
    (NONE, (False, False, True, True)),
    (conditional(IAF), (True, True, True, False)),
    (conditional(PLANAR), (True, False, True, False)),
    (conditional(NONE), (False, False, True, True)),
    (implicit(), (False, False, True, False)),
    (hierarchical(NORMAL, NORMAL)[0], (True, True, True, False)),
    (hierarchical(NORMAL, PLANAR)[0], (False, False, True, False)),  # A draw is split.
    (hierarchical(NORMAL, NONE)[0], (False, False, True, True)),
    (zoo.StandardNormal(2), (True, True, True, False)),
    (zoo.Uniform(2), (False, False, True, False)),
    (zoo.UniformOnSphere(2), (False, False, True, False)),
    (zoo.NormalPetals(), (True, True, True, False)),
    (zoo.SwissRoll(), (False, False, True, False)),
    (zoo.MixturePrior(2, 3), (True, True, False, False)),
    (zoo.VampPrior((2, 2, 1), 3), (True, True, False, False)),
    (zoo.RealNVPPrior(2), (True, True, True, False)),
    (zoo.MAFPrior(2), (True, True, True, False)),
    (zoo.ConditionalPrior(zoo.networks.mlp(3, 4), NORMAL), (True, True, True, False)),
    (hierarchical(NORMAL, NORMAL)[1], (True, True, True, False)),
    (hierarchical(NORMAL, PLANAR)[1], (True, False, True, False)),
]


@pytest.mark.parametrize(("part", "expected"), ABILITIES, ids=lambda a: type(a).__name__)
def test_parts_state_the_properties_of_their_distributions(part, expected):
    properties = "has_density", "has_density_everywhere", "has_differentiable_draws"
    assert tuple(getattr(part, name) for name in (*properties, "is_deterministic")) == expected


@pytest.mark.parametrize(
    "family", [a for a, _ in ABILITIES if isinstance(a, zoo.Family)], ids=lambda a: type(a).__name__
)
def test_the_properties_of_families_agree_with_their_distributions(family):
    params = tf.constant(
        np.random.default_rng(0).normal(size=(5, family.num_params(2))), tf.float32
    )
    q = family(params, 1)
    z = q.sample(seed=[1, 2])
    if family.has_density_everywhere:
        assert np.isfinite(q.log_prob(tf.identity(z))).all()
    differentiable = q.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    assert family.has_differentiable_draws == differentiable
    assert family.is_deterministic == np.array_equal(z, q.sample(seed=[3, 4]))


def test_a_prior_is_learned_if_it_has_trainable_weights():
    assert zoo.MixturePrior(2, 3).is_learned and zoo.RealNVPPrior(2).is_learned
    assert hierarchical(NORMAL, NORMAL)[1].is_learned
    assert not zoo.StandardNormal(2).is_learned and not zoo.SwissRoll().is_learned


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: distributions.refuse_learned(zoo.MixturePrior(2), "a GAN"),
         r"^The prior of a GAN must be fixed.*Received: a MixturePrior, which has trainable"),
        (lambda: distributions.need_density(zoo.SwissRoll(), "an AVB"),
         r"^An AVB needs a density.*Received: a SwissRoll, which has none"),
        (lambda: distributions.need_density(implicit(), "free bits"),
         r"^Free bits needs a density.*Received: an ImplicitConditional, which has none"),
        (lambda: distributions.need_density(conditional(PLANAR), "an IWAE", everywhere=True),
         r"density at any latents.*a Conditional of PlanarNormal, which has a density only at its own draws"),
        (lambda: distributions.need_differentiable_draws(zoo.MixturePrior(2), "the MMD"),
         r"^The MMD trains the prior.*RealNVPPrior.*Received: a MixturePrior"),
        (lambda: distributions.need_noise(conditional(NONE), "an AVB"),
         r"^The posterior of an AVB must be random.*Received: a Conditional of Deterministic\."),
    ],
)  # fmt: skip
def test_checks_of_parts_refuse_invalid_parts(check, message):
    with pytest.raises(ValueError, match=message):
        check()


def test_checks_of_parts_accept_valid_parts():
    distributions.refuse_learned(zoo.Uniform(2), "a GAN")
    distributions.need_density(zoo.RealNVPPrior(2), "a VAE", everywhere=True)
    distributions.need_density(conditional(PLANAR), "a VAE")
    distributions.need_differentiable_draws(zoo.RealNVPPrior(2), "the MMD")
    distributions.need_differentiable_draws(zoo.NormalPetals(), "the MMD")  # The prior is fixed.
    distributions.need_noise(implicit(), "an AVB")


# One latent dimension -------------------------------------------------------------------------


@pytest.mark.parametrize("name", distributions.by_name.POSTERIORS)
def test_a_posterior_of_one_dimension_starts_near_the_origin_or_is_refused(name, digits):
    def build():
        return zoo.models.aae((8, 8, 1), latent_dim=1, hidden=(8,), posterior=name).posterior

    if name == "planar":
        with pytest.raises(ValueError, match="at least two dimensions"):
            build()
        return
    largest = 0.0
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        z = build()(digits).sample(seed=[1, seed])
        assert z.shape == [len(digits), 1]
        largest = max(largest, float(tf.reduce_max(tf.abs(z))))
    assert 0 < largest < 30


@pytest.mark.parametrize("name", distributions.by_name.PRIORS)
def test_a_prior_of_one_dimension_has_finite_draws_or_is_refused(name):
    def build():
        return zoo.models.vae((8, 8, 1), latent_dim=1, hidden=(8,), prior=name).prior

    if name in ("normal", "mixture", "vamp"):
        z = build()().sample(50, seed=[1, 2])
        assert z.shape == [50, 1] and np.isfinite(build()().log_prob(z)).all()
    else:
        with pytest.raises(ValueError, match=r"two|at least 2|density"):
            build()
