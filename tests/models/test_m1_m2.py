"""M1+M2: codes of M1, dimensions in use, densities, and the frozen M1. M1: the networks."""

import math

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from scipy.special import logsumexp

import zoo
import zoo.training
from zoo.models.m1 import m1
from zoo.models.m1_m2 import m1_m2
from zoo.models.m2 import AddClass

SIZE, CLASSES, LATENTS = (8, 8, 1), 3, 2
SEED = tf.constant([0, 1])


def class_mlp(inputs, outputs, family, hidden=5):
    """A `Conditional` on a vector and a class, with a softplus layer or none."""
    context, y = keras.Input((inputs,)), keras.Input((), dtype="int32")
    h = AddClass(CLASSES)(keras.layers.Dense(hidden or outputs)(context), y)
    if hidden:
        h = keras.layers.Dense(outputs)(keras.layers.Activation("softplus")(h))
    return zoo.Conditional(keras.Model([context, y], h), family)


def by_class_network(conditional, inputs, c):
    """The output of the network of `class_mlp` for one class, in numpy, float64."""
    kernel, bias, classes, last, last_bias = (
        np.asarray(w, np.float64) for w in conditional.network.get_weights()
    )
    return np.logaddexp(0, inputs @ kernel + bias + classes[c]) @ last + last_bias


@pytest.fixture
def x(digits):
    return np.round(digits[:6])


def test_m1_is_the_vae_of_the_paper():
    model = m1(SIZE)
    assert type(model) is zoo.VAE and isinstance(model.prior, zoo.StandardNormal)
    for network, outputs in ((model.posterior.network, 100), (model.likelihood.network, 64)):
        dense = [n for n in network.layers if isinstance(n, keras.layers.Dense)]
        assert [n.units for n in dense] == [500, 500, outputs]
    h = model.posterior.network.layers[1](np.zeros([1, 64], np.float32))
    np.testing.assert_allclose(h, np.full([1, 500], math.log(2)), rtol=1e-6)  # softplus(0)


@pytest.fixture
def first():
    """An M1 with three latents, of which it does not use the second: N(0, 1) for every image."""
    vae = m1(SIZE, latent_dim=3, hidden=())
    kernel, bias = vae.posterior.network.get_weights()
    kernel *= 3
    kernel[:, [1, 4]] = 0
    bias[:] = [0, 0.05, 0, 0, math.log(math.e - 1), 0]
    vae.posterior.network.set_weights([kernel, bias])
    return vae


def stacked(first, known, **kwargs):
    return zoo.M1M2(
        zoo.networks.mlp(3, CLASSES, (4,)),
        class_mlp(3, 2 * LATENTS, known.Posterior()),
        class_mlp(LATENTS, 6, zoo.DiagonalNormal()),
        zoo.StandardNormal(LATENTS),
        first.posterior,
        first.likelihood,
        **kwargs,
    )


@pytest.fixture(scope="module")
def few_labels():
    return zoo.datasets.load("digits", binarize="dynamic", num_labels=100)


def density(model, num_samples, seed, **condition):
    """`log_prob`, in a graph: many samples are slow without."""
    return tf.function(
        lambda: model.log_prob(tf.constant(X), num_samples, seed=seed, **condition)
    )()


X = np.random.default_rng(0).uniform(0, 1, (5, 2, 2, 1)).astype(np.float32)


def three_classes():
    data = zoo.datasets.load("digits")
    keep = data.arrays("train")[1] < CLASSES
    split = zoo.datasets.images.Split(data.pixels("train")[keep], data.arrays("train")[1][keep])
    splits = dict.fromkeys(("train", "validation", "test"), split)
    return zoo.datasets.ImageData("three", splits, SIZE, label_names=("0", "1", "2"), num_labels=30)


def test_unused_dimensions_are_excluded(first, known, x):
    model = stacked(first, known)
    model.adapt(three_classes())
    np.testing.assert_array_equal(model.used, [1, 0, 1])
    losses = model.objective(tf.constant(x), None, SEED, False)[0]["vae"]
    # By hand, on the two dimensions in use.
    codes = np.asarray(first.encode(x), np.float64) * [1, 0, 1]
    noise = known.noise(CLASSES * 6, LATENTS).reshape(CLASSES, 6, LATENTS)
    total = np.empty([6, CLASSES])
    for c in range(CLASSES):
        loc, log_scale = np.split(by_class_network(model.posterior, codes, c), 2, 1)
        mean, raw = np.split(
            by_class_network(model.likelihood, loc + np.exp(log_scale) * noise[c], c), 2, 1
        )
        scale = 1e-4 + np.logaddexp(0, raw)
        log_p = scipy.stats.norm(mean, scale).logpdf(codes)[:, [0, 2]].sum(1)
        rate = 0.5 * (loc**2 + np.exp(2 * log_scale) - 1 - 2 * log_scale).sum(1)
        total[:, c] = rate - log_p + math.log(CLASSES)
    logits = np.asarray(model.classifier(codes.astype(np.float32)), np.float64)
    log_q = logits - logsumexp(logits, 1, keepdims=True)
    expected = (np.exp(log_q) * (total + log_q)).sum(1)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    # What M1 does with the unused dimension has no effect.
    z = np.ones([2, LATENTS], np.float32)
    before = model.classify(x), model.decode(z, [0, 1]), losses
    kernel, bias = first.posterior.network.get_weights()
    first.posterior.network.set_weights([kernel, bias + np.array([0, 5, 0, 0, 0, 0])])
    to_pixels, offset = first.likelihood.network.get_weights()
    to_pixels[1] += 3
    first.likelihood.network.set_weights([to_pixels, offset])
    after = (
        model.classify(x),
        model.decode(z, [0, 1]),
        model.objective(tf.constant(x), None, SEED, False)[0]["vae"],
    )
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_dimension_is_in_use_if_its_standard_deviation_is_above_the_threshold(first, known):
    """The variances are 0.04, 0.0081 and 1: a threshold of 0.1 on variances excludes the first."""
    data = three_classes()
    flat = data.arrays("train", 1000)[0].reshape(-1, 64)
    kernel, bias = np.zeros([64, 6], np.float32), first.posterior.network.get_weights()[1]
    kernel[:, :3] = np.array([0.2, 0.09, 1.0]) / flat.sum(1).std()
    first.posterior.network.set_weights([kernel, bias])
    model = stacked(first, known)
    model.adapt(data)
    np.testing.assert_array_equal(model.used, [1, 0, 1])
    model.adapt(data, threshold=0.05)
    np.testing.assert_array_equal(model.used, [1, 1, 1])
    model.adapt(data, threshold=0.5)
    np.testing.assert_array_equal(model.used, [0, 0, 1])


def test_an_m1_with_constant_codes_is_refused(first, known):
    model = stacked(first, known)
    kernel, bias = first.posterior.network.get_weights()
    first.posterior.network.set_weights([0 * kernel, bias])
    with pytest.raises(ValueError, match="No dimension of M1's codes varies"):
        model.adapt(three_classes())


def test_codes_are_new_draws_in_training_and_means_in_evaluation(first, known, x):
    model = stacked(first, known)
    x, y = tf.constant(x), tf.constant([0, 1, 2, 0, 1, 2])

    def losses(seed, training):
        return model.objective(x, y, tf.constant(seed), training)[0]["vae"].numpy()

    np.testing.assert_array_equal(losses([0, 1], False), losses([0, 2], False))
    assert (losses([0, 1], True) != losses([0, 2], True)).all()
    np.testing.assert_array_equal(losses([0, 1], True), losses([0, 1], True))


def test_codes_of_two_streams_match_their_images(first, known, x):
    """The same loss as an M2 on the codes, stream by stream."""
    model = stacked(first, known, labelled_share=0.1)

    class OnCodes(zoo.M2):
        @property
        def image_shape(self):
            raise NotImplementedError("Codes are not images.")

    inner = OnCodes(
        model.classifier, model.posterior, model.likelihood, model.prior, labelled_share=0.1
    )
    inner._log_likelihood = model._log_likelihood
    narrow = first.posterior.network.get_weights()  # Codes without noise.
    narrow[0][:, 3:], narrow[1][3:] = 0, -30
    first.posterior.network.set_weights(narrow)
    y, streams = tf.constant([2, 0]), (tf.constant(x[:2]), tf.constant(x[2:]))
    have, _ = model.objective(streams, y, SEED, True)
    codes = tuple(model.codes(images) for images in streams)
    want, _ = inner.objective(codes, y, SEED, True)
    np.testing.assert_allclose(have["vae"], want["vae"], rtol=1e-2)
    swapped, _ = inner.objective(tuple(c[::-1] for c in codes), y, SEED, True)
    assert np.abs(have["vae"] - swapped["vae"]).max() > 1


def test_images_are_decoded_by_the_first_model(first, known, x):
    model = stacked(first, known)
    y = np.argmax(model.classify(x), 1)
    codes = model.likelihood(model.encode(x), y).mean()
    np.testing.assert_allclose(model.reconstruct(x), first.decode(codes), atol=1e-6)
    np.testing.assert_allclose(model.codes(x), first.encode(x), atol=1e-6)
    assert model.image_shape == SIZE


@pytest.mark.slow
def test_the_density_of_images_matches_the_chain():
    """z1 = A z2 + m_y + noise, x = W z1 + c + noise; the third of z1 unused, N(0, 1)."""
    rng = np.random.default_rng(3)
    a, m = rng.normal(0, 0.5, (2, 2)), rng.normal(0, 0.2, (CLASSES, 2))
    w, c = rng.normal(0, 0.5, (4, 3)), rng.uniform(0.3, 0.7, 4)
    inner, outer = 0.5, 0.4
    encoder = zoo.networks.mlp_encoder((2, 2, 1), 6, ())
    posterior = zoo.Conditional(encoder, zoo.DiagonalNormal())
    decoder = zoo.networks.mlp_decoder(3, (2, 2, 1), 1, ())
    decoder.set_weights([w.T, c])
    prior_of_codes = np.eye(3)
    prior_of_codes[:2, :2] = a @ a.T + inner**2 * np.eye(2)
    gain = prior_of_codes @ w.T @ np.linalg.inv(w @ prior_of_codes @ w.T + outer**2 * np.eye(4))
    wide = np.full(3, math.log(math.expm1(0.6)))
    encoder.set_weights([
        np.concatenate([gain.T, np.zeros((4, 3))], 1),
        np.concatenate([-gain @ c, wide]),
    ])  # fmt: skip
    model = zoo.M1M2(
        zoo.networks.mlp(3, CLASSES, ()),
        class_mlp(3, 4, zoo.DiagonalNormal(), hidden=None),
        class_mlp(2, 6, zoo.DiagonalNormal(), hidden=None),
        zoo.StandardNormal(2),
        posterior,
        zoo.Conditional(decoder, zoo.SharedScaleNormal(outer)),
    )
    model.used.assign([1, 1, 0])
    to_z = np.linalg.solve(a.T @ a + inner**2 * np.eye(2), a.T)
    spread = np.full(2, math.log(math.expm1(0.8)))
    model.posterior.network.set_weights([
        np.block([[to_z.T, np.zeros((2, 2))], [np.zeros((1, 4))]]),
        np.concatenate([np.zeros(2), spread]),
        np.concatenate([-m @ to_z.T, np.zeros((CLASSES, 2))], 1),
    ])  # fmt: skip
    raw = math.log(math.expm1(inner - 1e-4))
    model.likelihood.network.set_weights([
        np.concatenate([a.T, np.zeros((2, 4))], 1),
        np.concatenate([np.zeros(3), np.full(3, raw)]),
        np.concatenate([m, np.zeros((CLASSES, 4))], 1),
    ])  # fmt: skip
    covariance = w @ prior_of_codes @ w.T + outer**2 * np.eye(4)
    flat = X.reshape(-1, 4).astype(np.float64)
    exact = np.stack(
        [scipy.stats.multivariate_normal(w[:, :2] @ v + c, covariance).logpdf(flat) for v in m], 1
    )
    np.testing.assert_allclose(
        density(model, 20_000, 1), logsumexp(exact, 1) - math.log(CLASSES), atol=0.1
    )
    np.testing.assert_allclose(density(model, 20_000, 1, y=[2] * 5), exact[:, 2], atol=0.1)


def test_m1_is_not_trained_and_the_saved_model_is_complete(few_labels, tmp_path):
    first = m1(SIZE, latent_dim=5, hidden=(16,))
    first.compile("adam", jit_compile=False)
    x, _ = few_labels.arrays("test", 20)
    first.fit(x, verbose=0)
    model = m1_m2(SIZE, first=first, latent_dim=3, hidden=(8,), classifier_hidden=(8,))
    frozen = model.first_posterior.get_weights() + model.first_likelihood.get_weights()
    np.testing.assert_array_equal(model.codes(x), model._used(first.encode(x)))
    model.adapt(few_labels)
    model.compile("adam", jit_compile=False)
    before = model.classifier.get_weights()
    batches = few_labels.batches("train", 50, shuffle=True, repeat=True, semi_supervised=True)
    model.fit(batches, steps_per_epoch=20, verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.classifier.get_weights(), strict=True))
    now = model.first_posterior.get_weights() + model.first_likelihood.get_weights()
    for a, b in zip(frozen, now, strict=True):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "both.keras")
    loaded = zoo.training.load_model(tmp_path / "both.keras")
    np.testing.assert_array_equal(loaded.reconstruct(x), model.reconstruct(x))
    np.testing.assert_array_equal(loaded.used, model.used)
    assert loaded.labelled_share == 0.1


def test_m1_is_copied(few_labels):
    first = m1(SIZE, latent_dim=5, hidden=(16,))
    model = m1_m2(SIZE, first=first, latent_dim=3, hidden=(8,), classifier_hidden=(8,))
    x, _ = few_labels.arrays("test", 20)
    codes = model.codes(x).numpy()
    np.testing.assert_array_equal(codes, first.encode(x))
    first.compile("adam", jit_compile=False)
    first.fit(x, verbose=0)
    assert np.abs(first.encode(x) - codes).max() > 1e-5
    np.testing.assert_array_equal(model.codes(x), codes)


def test_models_other_than_m1_are_refused():
    with pytest.raises(ValueError, match=r"M1 is a VAE.*Received: a VAE with a MixturePrior"):
        m1_m2(SIZE, first=m1(SIZE, latent_dim=2, hidden=(4,), prior="mixture"))
    with pytest.raises(ValueError, match=r"the same images.*\(8, 8, 1\), and .*\(4, 4, 1\)"):
        m1_m2((4, 4, 1), first=m1(SIZE, latent_dim=2, hidden=(4,)))
    other = zoo.models.autoencoder(SIZE)
    with pytest.raises(ValueError, match="Received: a Autoencoder"):
        m1_m2(SIZE, first=other)


def test_a_run_of_m1_m2_requires_a_trained_m1():
    model = m1_m2(SIZE, first=m1(SIZE, latent_dim=2, hidden=(4,)))
    config = zoo.presets.get("m1_m2_digits")
    with pytest.raises(ValueError, match=r"--preset=m1_digits\).*--set first=runs/m1_digits"):
        zoo.training.checks.check_model(model, config)
    zoo.presets.override(config, ["data.name=mnist"])
    with pytest.raises(ValueError, match=r"--preset=m1_digits --dataset=mnist.*runs/m1_digits"):
        zoo.training.checks.check_model(model, config)
    zoo.presets.override(config, ["data.name=digits", "first=runs/elsewhere"])
    zoo.training.checks.check_model(model, config)
