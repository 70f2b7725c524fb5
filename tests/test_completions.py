"""Completions by chains against conditional distributions that are known exactly."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import zoo
from zoo import inference

# A linear model of 2 x 2 pixels: x = MEAN + FACTORS z + NOISE eps, z ~ N(0, I).
SHAPE, NOISE = (2, 2, 1), 0.3
FACTORS = np.array([[0.5, 0.4], [0.5, -0.2], [-0.5, 0.3], [0.2, 0.3]])
MEAN = np.array([0.5, 0.4, 0.6, 0.5])
COVARIANCE = FACTORS @ FACTORS.T + NOISE**2 * np.eye(4)
X = np.random.default_rng(0).uniform(0, 1, (3, *SHAPE)).astype(np.float32)
PART = np.array([[1, 0], [1, 0]], bool)[..., None]
NONE = np.zeros_like(PART)


def linear(exact=True):
    """The linear model with its posterior, or with one that is too wide and has another mean."""
    decoder = zoo.networks.mlp_decoder(2, SHAPE, 1, ())
    decoder.set_weights([FACTORS.T, MEAN])
    covariance = np.linalg.inv(np.eye(2) + FACTORS.T @ FACTORS / NOISE**2)
    weights = covariance @ FACTORS.T / NOISE**2  # E[z | x] = weights (x - MEAN)
    low = np.linalg.cholesky(covariance)
    if exact:
        family = zoo.FullCovarianceNormal()
        rest = [*np.log(np.expm1(np.diag(low) - family.min_scale)), 2 * low[1, 0]]
    else:
        family = zoo.DiagonalNormal()
        rest = np.log(np.expm1(2.5 * np.sqrt(np.diag(covariance))))
    encoder = zoo.networks.mlp_encoder(SHAPE, 2 + len(rest), ())
    shift = 0.0 if exact else 0.3
    encoder.set_weights([
        np.pad(weights.T, ((0, 0), (0, len(rest)))),
        np.concatenate([shift - weights @ MEAN, rest]),
    ])  # fmt: skip
    return zoo.VAE(
        zoo.Conditional(encoder, family),
        zoo.Conditional(decoder, zoo.SharedScaleNormal(NOISE)),
        zoo.StandardNormal(2),
    )


def conditional(x, seen):
    """Mean and covariance of the hidden pixels of one image, given the seen pixels."""
    o, m = np.flatnonzero(seen), np.flatnonzero(~seen)
    gain = COVARIANCE[np.ix_(m, o)] @ np.linalg.inv(COVARIANCE[np.ix_(o, o)])
    mean = MEAN[m] + gain @ (x.ravel()[o] - MEAN[o])
    return mean, COVARIANCE[np.ix_(m, m)] - gain @ COVARIANCE[np.ix_(o, m)]


def distances(model, method, seen=PART, chains=2500, **options):
    """Distances of the hidden pixels' mean and covariance from their closed form; acceptance."""
    done = inference.complete(
        model, X[:1], seen, method=method, n=chains, mean=False, batch_size=2500, seed=0, **options
    )
    drawn = done.images.numpy()[:, 0].reshape(chains, 4)[:, ~seen.ravel()]
    mean, covariance = conditional(X[0], seen)
    return (
        np.abs(drawn.mean(0) - mean).max(),
        np.abs(np.cov(drawn.T) - covariance).max(),
        done.acceptance,
    )


def test_metropolis_samples_the_conditional_under_a_wrong_posterior_and_pseudo_gibbs_does_not():
    model = linear(exact=False)
    mean, covariance, acceptance = distances(model, "metropolis", steps=100)
    assert mean < 0.03 and covariance < 0.03
    assert 0.2 < float(np.mean(acceptance)) < 0.9
    mean, covariance, acceptance = distances(model, "pseudo_gibbs", steps=50)
    assert mean > 0.15 and covariance > 0.15
    assert acceptance is None


def test_with_the_exact_posterior_every_proposal_is_accepted():
    mean, covariance, acceptance = distances(linear(), "metropolis", steps=30)
    assert mean < 0.03 and covariance < 0.03
    assert np.mean(acceptance) > 0.9999  # Up to rounding in float32.


def bernoulli():
    """A model of 2 x 2 black and white pixels with one latent and an encoder that knows nothing."""
    decoder = zoo.networks.mlp_decoder(1, SHAPE, 1, ())
    decoder.set_weights([SLOPES[None], OFFSETS])
    encoder = zoo.networks.mlp_encoder(SHAPE, 2, ())
    encoder.set_weights([np.zeros((4, 2)), np.array([0.5, 1.0])])
    return zoo.VAE(
        zoo.Conditional(encoder, zoo.DiagonalNormal()),
        zoo.Conditional(decoder, zoo.Bernoulli()),
        zoo.StandardNormal(1),
    )


SLOPES, OFFSETS = np.array([2.0, -3.0, 1.5, 2.5]), np.array([0.5, 0.0, -1.0, 0.5])
IMAGES = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(
    np.float32
)  # All black and white images.


def probabilities():
    """p(x) of each of `IMAGES`, by Gauss-Hermite quadrature over z."""
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    logits = SLOPES * points[:, None] + OFFSETS
    log_p = (IMAGES[:, None] * logits - np.logaddexp(0, logits)).sum(-1)
    return np.exp(log_p) @ weights / np.sqrt(2 * np.pi)


def test_the_hidden_pixels_of_a_bernoulli_model_have_their_conditional_probabilities():
    x = np.array([1, 0, 0, 0], np.float32).reshape(1, *SHAPE)
    done = inference.complete(
        bernoulli(),
        x,
        PART,
        method="metropolis",
        n=4000,
        steps=60,
        mean=False,
        batch_size=4000,
        seed=0,
    )
    drawn = done.images.numpy()[:, 0].reshape(-1, 4)
    fits = (IMAGES[:, 0] == 1) & (IMAGES[:, 2] == 0)  # The left pixels are seen.
    counts = np.array([(drawn == image).all(1).sum() for image in IMAGES[fits]])
    assert counts.sum() == 4000
    expected = probabilities()[fits] / probabilities()[fits].sum()
    assert scipy.stats.chisquare(counts, 4000 * expected).pvalue > 1e-3


def test_without_seen_pixels_completions_have_the_distribution_of_samples():
    model = bernoulli()
    x = np.zeros((1, *SHAPE), np.float32)
    done = inference.complete(
        model, x, NONE, method="metropolis", n=2000, steps=60, batch_size=2000, seed=0
    )
    assert scipy.stats.kstest(done.latents[:, 0, 0], "norm").pvalue > 1e-3
    sampled = model.sample(2000, seed=1).numpy()
    found = done.images.numpy()[:, 0]
    assert scipy.stats.ks_2samp(found[:, 1, 0, 0], sampled[:, 1, 0, 0]).pvalue > 1e-3


@pytest.mark.parametrize("method", ["map", "pseudo_gibbs", "metropolis"])
def test_seen_values_stay_and_hidden_values_have_no_effect(method):
    seen = np.stack([np.ones(SHAPE, bool), PART, ~PART])  # All values of the first image.
    options = {"method": method, "seed": 0, "steps": 12} | ({"n": 2} if method != "map" else {})
    first, other = (
        inference.complete(linear(), np.where(seen, X, value), seen, **options).images.numpy()
        for value in (np.nan, 0.3)
    )
    np.testing.assert_array_equal(first, other)
    for images in first:
        np.testing.assert_array_equal(images[seen], X[seen])
        assert (np.abs(images - X)[~seen] > 0).all()


def test_chains_have_the_images_and_conditions_of_their_place():
    network = zoo.networks.mlp(1, 4, ())
    raw = np.log(np.expm1(1 - 1e-4))
    network.set_weights([np.array([[2.0, -1.0, 0.0, 0.0]]), np.array([0.0, 0.0, raw, raw])])
    parts = linear()
    prior = zoo.ConditionalPrior(network, zoo.DiagonalNormal())
    model = zoo.CVAE(parts.posterior, parts.likelihood, prior)
    y = np.array([[0.5], [0.0], [-0.5]], np.float32)
    done = inference.complete(
        model, X, PART, y, method="metropolis", n=1000, steps=60, batch_size=1700, seed=0
    )
    assert done.images.shape == (1000, *X.shape) and done.acceptance.shape == (1000, 3)
    assert (done.images.numpy()[:, :, :, 0] == X[:, :, 0]).all()
    seen = PART.ravel()
    precision = np.eye(2) + FACTORS[seen].T @ FACTORS[seen] / NOISE**2
    right = y * [2.0, -1.0] + (X.reshape(3, 4) - MEAN)[:, seen] @ FACTORS[seen] / NOISE**2
    modes = np.linalg.solve(precision, right.T).T
    np.testing.assert_allclose(np.mean(done.latents, 0), modes, atol=0.12)


def test_completions_depend_on_the_seed():
    def images(seed):
        options = {"method": "pseudo_gibbs", "n": 2, "steps": 3, "batch_size": 3, "seed": seed}
        return inference.complete(linear(), X, PART, **options).images.numpy()

    first, again, other = map(images, (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1])[:, :, 1].all()
    assert (first != other)[:, :, :, 1].all()


def of_hidden(x, seen):
    """log p(x_hidden | x_seen) of one image under the linear model."""
    hidden = x.ravel()[~seen.ravel()]
    return scipy.stats.multivariate_normal(*conditional(x, seen)).logpdf(hidden)


def test_the_log_probability_of_hidden_values_has_its_closed_form():
    seen = np.stack([PART, PART, NONE])
    model = linear(exact=False)
    options = {"steps": 30, "num_samples": 2000, "seed": 0, "batch_size": 2}
    found = inference.log_prob_of_hidden(model, X, seen, **options)
    expected = [of_hidden(*image) for image in zip(X, seen, strict=True)]
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.slow
def test_the_log_probability_of_hidden_bits_is_that_of_enumeration():
    x = IMAGES.reshape(-1, *SHAPE)
    found = inference.log_prob_of_hidden(bernoulli(), x, PART, steps=20, num_samples=2000, seed=0)
    p = probabilities()
    together = (IMAGES[:, None, ::2] == IMAGES[None, :, ::2]).all(-1)  # The same seen pixels.
    np.testing.assert_allclose(found, np.log(p / (together @ p)), atol=0.1)


def test_images_without_a_likelihood_are_refused_before_the_chains(monkeypatch):
    monkeypatch.setattr(inference, "_by_metropolis", None)
    with pytest.raises(ValueError, match=r"bernoulli|Bernoulli"):
        inference.log_prob_of_hidden(bernoulli(), np.full([1, *SHAPE], 0.5, np.float32), PART)
    with pytest.raises(ValueError, match="`steps` must be at least 11"):
        inference.log_prob_of_hidden(bernoulli(), IMAGES.reshape(-1, *SHAPE), PART, steps=5)


def gan():
    return zoo.models.gan(SHAPE, latent_dim=2, generator_hidden=(3,), discriminator_hidden=(3,))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (linear, {"method": "gibbs"}, "Unknown method 'gibbs'. Available: map"),
        (linear, {"n": 2}, "pass n=1, or a method that samples"),
        (linear, {"mean": False}, "The options of method='map' are .*start.* Received: mean=False"),
        (linear, {"operator": abs}, "Received: operator="),
        (
            linear,
            {"method": "metropolis", "starts": 2},
            "are mean, steps, warm_up. Received: starts=2",
        ),
        (linear, {"method": "pseudo_gibbs", "warm_up": 2}, "are mean, steps. Received: warm_up=2"),
        (linear, {"n": 0}, "`n` must be at least 1"),
        (gan, {"method": "metropolis"}, "needs a posterior .* Received: a GAN; method='map'"),
        (gan, {"method": "pseudo_gibbs"}, "needs a posterior .* Received: a GAN"),
        (linear, {"method": "metropolis", "steps": 10}, "`steps` must be at least 11"),
        (linear, {"method": "metropolis", "warm_up": 0}, "`warm_up` must be at least 1"),
        (
            lambda: zoo.models.vae(SHAPE, latent_dim=2, hidden=(3,), posterior="planar"),
            {"method": "metropolis"},
            "density at any latents z",
        ),
    ],
)
def test_what_a_method_cannot_do_is_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        inference.complete(model(), X, PART, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "options", "y"),
    [
        ("hvae", {"latent_dims": (2, 2), "hidden": (4,)}, None),
        ("vae", {"posterior": "full_covariance", "prior": "mixture", "hidden": (4,)}, None),
        ("vae", {"posterior": "iaf", "prior": "realnvp", "hidden": (4,)}, None),
        ("vae", {"prior": "vamp", "likelihood": "categorical", "hidden": (4,)}, None),
        ("vae", {"prior": "maf", "likelihood": "discretized_logistic", "hidden": (4,)}, None),
        ("m2", {"hidden": (4,)}, np.arange(3)),
        (
            "cvae",
            {"condition": "seen", "prior": "conditional", "hidden": (4,)},
            np.where(PART, X, -1),
        ),
    ],
)
def test_all_models_with_densities_complete_images(builder, options, y):
    sizes = {} if "latent_dims" in options else {"latent_dim": 3}
    model = getattr(zoo.models, builder)(SHAPE, **sizes, **options)
    x = np.round(X)
    given = {"steps": 12, "seed": 0}
    done = inference.complete(model, x, PART, y, method="metropolis", n=2, **given)
    assert (done.images.numpy()[:, :, :, 0] == x[:, :, 0]).all()
    assert np.isfinite(done.images).all() and np.isfinite(done.latents).all()
    assert ((done.acceptance >= 0) & (done.acceptance <= 1)).numpy().all()
    hidden = inference.log_prob_of_hidden(model, x, PART, y, num_samples=2000, **given)
    # A probability, or a density with the scale of the data.
    assert np.isfinite(hidden).all() and (np.abs(hidden) < 20).all()


def test_an_exported_model_completes_images(tmp_path):
    """The mean completions are the conditional probabilities of the hidden pixels, enumerated."""
    model = bernoulli()
    assert "complete" in model.abilities()
    about = zoo.export.export(model, tmp_path / "1", signatures=["complete"])["signatures"][
        "complete"
    ]
    assert about["inputs"]["seen"] == {"shape": [None, 2, 2, None], "dtype": "bool", "range": None}
    assert about["inputs"]["steps"]["range"] == [11, None]
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["complete"]
    x = np.tile(np.float32([1, 0, 0, 0]).reshape(1, 2, 2, 1), (1000, 1, 1, 1))
    seen = np.tile(np.array([[1, 0], [1, 0]], bool)[..., None], (1000, 1, 1, 1))
    found = served(x=tf.constant(x), seen=tf.constant(seen), steps=tf.constant(40))
    images, acceptance = found["images"].numpy(), found["acceptance"].numpy()
    np.testing.assert_array_equal(images[:, :, 0], x[:, :, 0])
    p, fits = probabilities(), (IMAGES[:, 0] == 1) & (IMAGES[:, 2] == 0)
    expected = p[fits] @ IMAGES[fits][:, [1, 3]] / p[fits].sum()
    np.testing.assert_allclose(images[:, :, 1, 0].mean(0), expected, atol=0.06)
    assert 0.1 < acceptance.mean() < 1
    few = {"x": tf.constant(x[:3]), "seen": tf.constant(seen[:3]), "steps": tf.constant(11)}
    first, second = (served(**few)["images"].numpy() for _ in range(2))
    assert np.abs(first - second).max() > 0.01  # New random numbers in each call
    own, same = (model.complete(x[:3], mask, steps=11, seed=0)[0] for mask in (seen[0], seen[:3]))
    np.testing.assert_array_equal(own, same)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "options", "y"),
    [
        ("hvae", {"latent_dims": (2, 2)}, None),
        ("vae", {"prior": "vamp", "latent_dim": 3}, None),
        ("cvae", {"condition_size": 4, "latent_dim": 3}, np.arange(3, dtype=np.int32)),
        ("cvae", {"condition": "seen", "latent_dim": 3}, np.where(PART, X, np.float32(-1))),
    ],
)
def test_models_of_all_kinds_export_completions(tmp_path, builder, options, y):
    model = getattr(zoo.models, builder)(SHAPE, hidden=(4,), **options)
    zoo.export.export(model, tmp_path / "1", signatures=["complete"])
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["complete"]
    x = np.round(X).astype(np.float32)
    seen = np.broadcast_to(PART, x.shape)
    given = {} if y is None else {"y": tf.constant(y)}
    found = served(x=tf.constant(x), seen=tf.constant(seen), steps=tf.constant(12), **given)
    images = found["images"].numpy()
    np.testing.assert_array_equal(images[seen], x[seen])
    assert np.isfinite(images).all()
    assert ((found["acceptance"] >= 0) & (found["acceptance"] <= 1)).numpy().all()


def test_only_models_that_sample_the_conditional_have_the_ability_complete():
    small = {"latent_dim": 2, "hidden": (3,)}
    for posterior in ("normal", "iaf", "planar"):  # Planar flows have a density at their own draws.
        model = zoo.models.vae(SHAPE, **small, posterior=posterior)
        assert ("complete" in model.abilities()) == (posterior != "planar")
    gsnn = zoo.models.cvae(SHAPE, alpha=0.0, **small)
    assert "complete" not in gsnn.abilities()
    with pytest.raises(ValueError, match="needs a posterior, a likelihood and a prior"):
        gsnn.complete(np.zeros([1, *SHAPE], np.float32), np.ones(SHAPE, bool), y=[1])
    with pytest.raises(ValueError, match="mask `seen` of bools"):
        bernoulli().complete(np.zeros([1, 2, 2, 1], np.float32), np.ones([2, 2, 1]))
    with pytest.raises(ValueError, match="`steps` must be at least 11"):
        bernoulli().complete(np.zeros([1, 2, 2, 1], np.float32), np.ones([2, 2, 1], bool), steps=5)
