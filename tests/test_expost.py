"""Priors fitted afterwards: against SciPy and scikit-learn, weights bit for bit, files, refusals."""

import keras
import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture

import zoo
from zoo import expost
from zoo.distributions import FittedMixture, FittedPrior

SMALL = {"latent_dim": 3, "hidden": (6,)}


@pytest.fixture(scope="module")
def data():
    return zoo.datasets.load("digits")


@pytest.fixture
def linear():
    """An untrained autoencoder whose encoder and decoder are linear."""
    return zoo.models.autoencoder((8, 8, 1), latent_dim=3, hidden=())


def realnvp(dim=3):
    return FittedPrior(zoo.RealNVPPrior(dim, steps=2, hidden=(4,)))


def layers_of(model):
    return {name: getattr(model, name) for name in model._argument_names() if name != "prior"}


def weights(model):
    """The weights of each part other than the prior."""
    return {
        name: part.get_weights()
        for name, part in layers_of(model).items()
        if isinstance(part, keras.layers.Layer)
    }


def assert_equal_weights(a, b):
    assert a.keys() == b.keys() and a
    for name, values in a.items():
        for one, other in zip(values, b[name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_codes_of_an_encoder_are_its_outputs(linear, data):
    x, _ = data.arrays("train")
    kernel, bias = linear.encoder.get_weights()
    codes = expost.codes(linear, data)
    assert codes.dtype == np.float32 and len(codes) == data.sizes["train"] > expost.BATCH_SIZE
    np.testing.assert_allclose(codes, x.reshape(len(x), -1) @ kernel + bias, atol=1e-4)


def test_the_codes_of_a_posterior_are_one_draw_for_each_image(data):
    model = zoo.models.vae((8, 8, 1), **SMALL)
    codes = expost.codes(model, data, "validation", seed=1)
    q = model.posterior(data.arrays("validation")[0])
    noise = (codes - q.mean()) / q.stddev()
    assert stats.kstest(noise.numpy().ravel(), "norm").pvalue > 1e-3
    # Draws of different batches have different noise.
    train = expost.codes(model, data, seed=1)
    q = model.posterior(data.arrays("train")[0])
    noise = ((train - q.mean()) / q.stddev()).numpy()
    first, second = noise[:100], noise[expost.BATCH_SIZE :][:100]
    assert np.median(np.abs(first - second)) > 0.1
    np.testing.assert_array_equal(codes, expost.codes(model, data, "validation", seed=1))
    assert not np.array_equal(codes, expost.codes(model, data, "validation", seed=2))


def test_the_refitted_mixture_is_that_of_scikit_learn(linear, data):
    model = expost.refit(linear, data, "mixture", components=4, seed=5)
    codes = expost.codes(linear, data).astype(np.float64)
    reference = GaussianMixture(4, reg_covar=1e-6, random_state=5).fit(codes)
    new = expost.codes(linear, data, "test")
    np.testing.assert_allclose(
        model.prior().log_prob(new), reference.score_samples(new), rtol=1e-3, atol=1e-3
    )


def test_the_score_is_the_mean_density_of_validation_codes(linear, data):
    (found,) = expost.compare(linear, data, ("mixture",), components=1)
    train = expost.codes(linear, data).astype(np.float64)
    held_out = expost.codes(linear, data, "validation")
    covariance = np.cov(train.T, bias=True) + 1e-6 * np.eye(3)
    values = stats.multivariate_normal(train.mean(0), covariance).logpdf(held_out)
    assert found.log_density == pytest.approx(values.mean(), abs=1e-3)
    assert found.stderr == pytest.approx(stats.sem(values), rel=1e-3)


def test_the_prior_with_the_largest_density_comes_first(linear, data, monkeypatch):
    scores = {"FittedMixture": -2.0, "FittedPrior": -1.0}
    monkeypatch.setattr(
        expost,
        "log_densities",
        lambda prior, z, seed: np.full(len(z), scores[type(prior).__name__]),
    )
    names = ("mixture", "two_stage")
    found = expost.compare(linear, data, names, components=1, epochs=1)
    assert [candidate.name for candidate in found] == ["two_stage", "mixture"]
    monkeypatch.setattr(expost, "compare", lambda *args, **options: found)
    refitted = expost.refit(linear, data, names)
    for a, b in zip(refitted.prior.get_weights(), found[0].prior.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_draws_have_the_moments_of_the_codes(linear, data):
    model = expost.refit(linear, data, components=2)
    codes, sample = expost.codes(linear, data), model.sample_latents(20_000, seed=1).numpy()
    np.testing.assert_allclose(sample.mean(0), codes.mean(0), atol=0.05 * codes.std())
    np.testing.assert_allclose(np.cov(sample.T), np.cov(codes.T), atol=0.1 * np.square(codes.std()))


def test_an_autoencoder_becomes_a_generator_and_does_not_change(linear, data):
    before = weights(linear)
    assert "sample" not in linear.abilities()
    with pytest.raises(NotImplementedError, match="has no prior to sample from"):
        linear.sample(2)
    model = expost.refit(linear, data, components=2)
    assert {"sample", "encode", "reconstruct"} <= {*model.abilities()}
    assert model.sample(2).shape == (2, 8, 8, 1)
    assert linear.prior is None and model.prior is not None
    assert_equal_weights(weights(linear), before)
    assert_equal_weights(weights(model), before)
    model.encoder.trainable_variables[0].assign_add(
        np.ones(model.encoder.trainable_variables[0].shape)
    )
    assert_equal_weights(weights(linear), before)


@pytest.mark.parametrize("name", ["autoencoder", "rae", "vae", "iwae", "wae", "aae", "alpha_gan"])
def test_models_take_a_fitted_flow_without_a_change_of_other_weights(name):
    model = getattr(zoo.models, name)((8, 8, 1), latent_dim=3)
    model.step.assign(7)
    model.compile("adam")
    new = expost.with_prior(model, realnvp())
    assert type(new) is type(model) and new.compiled and int(new.step) == 7
    assert new.optimizers.keys() == model.optimizers.keys()
    assert_equal_weights(weights(new), weights(model))
    assert not new.prior.trainable_variables
    assert np.isfinite(new.sample(3, seed=1)).all()


def test_a_file_keeps_the_prior(linear, tmp_path):
    linear.compile("adam")
    prior, rng = realnvp(), np.random.default_rng(0)
    prior.set_weights([np.abs(rng.normal(size=w.shape)) for w in prior.get_weights()])
    model = expost.with_prior(linear, prior)
    model.save(tmp_path / "refitted.keras")
    loaded = keras.saving.load_model(tmp_path / "refitted.keras")
    np.testing.assert_array_equal(loaded.sample(5, seed=1), model.sample(5, seed=1))
    assert_equal_weights(weights(loaded), weights(linear))
    assert not loaded.prior.trainable_variables and loaded.compiled


def test_equal_seeds_give_equal_models(data):
    model = zoo.models.vae((8, 8, 1), **SMALL)

    def drawn(seed):
        return expost.refit(model, data, components=3, seed=seed).sample_latents(4, seed=1)

    first = drawn(1)
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(drawn(1), first)
    assert not np.array_equal(drawn(2), first)


def test_a_vae_with_a_density_keeps_its_likelihood(data):
    model = zoo.models.vae((8, 8, 1), **SMALL)
    new = expost.with_prior(model, FittedMixture(3, components=1))
    x, _ = data.arrays("test", 5)
    # A new mixture is N(0, I), as the prior of the VAE.
    np.testing.assert_allclose(
        new.log_prob(x, 10, seed=1), model.log_prob(x, 10, seed=1), rtol=1e-4
    )
    assert new.abilities() == model.abilities()


def test_a_vae_with_a_second_stage_samples_and_has_no_bound(data):
    model = zoo.models.vae((8, 8, 1), **SMALL)
    model.compile("adam", jit_compile=False)
    new = expost.refit(model, data, "two_stage", epochs=1)
    assert {*model.abilities()} - {*new.abilities()} == {"log_prob", "complete"}
    assert new.sample(3, seed=1).shape == (3, 8, 8, 1)
    x, _ = data.arrays("test", 5)
    np.testing.assert_array_equal(new.encode(x), model.encode(x))
    for call in (new.log_prob, new.test_on_batch, new.train_on_batch):
        with pytest.raises(NotImplementedError, match="has no closed form"):
            call(x)


def test_the_estimate_of_a_second_stage_is_its_score(data):
    model = zoo.models.autoencoder((8, 8, 1), **SMALL)
    (found,) = expost.compare(model, data, ("two_stage",), epochs=1)
    z = expost.codes(model, data, "validation")
    expected = found.prior.log_prob_estimate(z, 500, seed=[3, 4]).numpy()
    assert found.log_density == pytest.approx(expected.mean(), abs=0.1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gan", {}, "has no encoder"),
        ("predictor", {}, "has no encoder"),
        ("cvae", {"condition": "label", "condition_size": 10}, "depend on a condition"),
        ("hvae", {}, "several layers or frames"),
        ("label_informed_aae", {"latent_dim": 2}, "the prior needs components"),
        ("clustering_aae", {}, "needs a prior CategoryAndStyle"),
        ("vae", {"free_bits": 0.1}, "`free_bits` needs the KL of each latent dimension"),
    ],
)
def test_models_without_codes_of_one_density_are_refused(name, options, message, data, monkeypatch):
    monkeypatch.setattr(expost, "codes", lambda *args: pytest.fail("refused too late"))
    model = getattr(zoo.models, name)((8, 8, 1), **options)
    with pytest.raises(ValueError, match=message) as error:
        expost.refit(model, data)
    assert "Received: " in str(error.value)


@pytest.mark.parametrize(
    ("prior", "options", "message"),
    [
        ("vamp", {}, "Unknown prior 'vamp'"),
        (("mixture", "mixture"), {}, "each once"),
        ((), {}, "at least one prior"),
        ("mixture", {"components": 0}, "`components` must be at least 1"),
        ("realnvp", {"epochs": 0}, "`epochs` must be at least 1"),
        ("mixture", {"seed": -1}, "`seed` must be at least 0"),
    ],
)
def test_invalid_arguments_are_refused(prior, options, message, linear, data):
    with pytest.raises(ValueError, match=message):
        expost.refit(linear, data, prior, **options)


def test_images_of_another_shape_are_refused(data):
    model = zoo.models.autoencoder((4, 4, 1), **SMALL)
    with pytest.raises(ValueError, match="Received: 'digits' with images of shape"):
        expost.refit(model, data)


def test_a_learned_prior_of_an_autoencoder_is_refused(linear):
    with pytest.raises(ValueError, match="must be fixed"):
        zoo.Autoencoder(linear.encoder, linear.likelihood, zoo.RealNVPPrior(3))
