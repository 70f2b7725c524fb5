"""M2 and M1+M2 against sums by hand, enumeration, and models where all is known."""

import itertools
import math

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

import zoo
import zoo.training
from zoo.evaluation import classification
from zoo.models.m2 import (
    AddClass,
    m1_m2_mlp,
    m2_conv,
    m2_mlp,
)
from zoo.models.vae import vae_mlp

SIZE, CLASSES, LATENTS = (8, 8, 1), 3, 2
SEED = tf.constant([0, 1])


def class_mlp(inputs, outputs, family, hidden=5, shape=None):
    """A `Conditional` on a tensor of so many values and a class, with a softplus layer or none."""
    context, y = keras.Input(inputs), keras.Input((), dtype="int32")
    flat = keras.layers.Flatten()(context)
    h = AddClass(CLASSES)(keras.layers.Dense(hidden or outputs)(flat), y)
    if hidden:
        h = keras.layers.Dense(outputs)(keras.layers.Activation("softplus")(h))
    if shape:
        h = keras.layers.Reshape(shape)(h)
    return zoo.Conditional(keras.Model([context, y], h), family)


def m2(known, **kwargs):
    """A small M2 whose noise is known, and whose weights are all different from zero."""
    model = zoo.M2(
        zoo.networks.mlp_encoder(SIZE, CLASSES, (4,)),
        class_mlp(SIZE, 2 * LATENTS, known.Posterior()),
        class_mlp((LATENTS,), 64, zoo.Bernoulli(), shape=SIZE),
        zoo.StandardNormal(LATENTS),
        **kwargs,
    )
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(0, 0.2, variable.shape))
    return model


@pytest.fixture
def x(digits):
    return np.round(digits[:6])


def by_class_network(conditional, inputs, c):
    """What the network of `class_mlp` puts out for one class, in numpy, float64."""
    kernel, bias, classes, last, last_bias = (
        np.asarray(w, np.float64) for w in conditional.network.get_weights()
    )
    return np.logaddexp(0, inputs @ kernel + bias + classes[c]) @ last + last_bias


def costs_by_hand(model, x, noise):
    """Distortion and rate of z `[B, C]`, class by class; `noise[C, B, D]`."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    distortion, rate = np.empty([len(x), CLASSES]), np.empty([len(x), CLASSES])
    for c in range(CLASSES):
        loc, log_scale = np.split(by_class_network(model.posterior, flat, c), 2, 1)
        logits = by_class_network(model.likelihood, loc + np.exp(log_scale) * noise[c], c)
        distortion[:, c] = (np.logaddexp(0, logits) - flat * logits).sum(1)
        rate[:, c] = 0.5 * (loc**2 + np.exp(2 * log_scale) - 1 - 2 * log_scale).sum(1)
    return distortion, rate


def log_q_by_hand(model, x):
    logits = np.asarray(model.classifier(x), np.float64)
    return logits - logsumexp(logits, 1, keepdims=True)


def bounds_by_hand(model, x, noise):
    """L(x, y) `[B, C]` and U(x) `[B]`."""
    distortion, rate = costs_by_hand(model, x, noise)
    labelled = distortion + rate + math.log(CLASSES)
    log_q = log_q_by_hand(model, x)
    return labelled, (np.exp(log_q) * (labelled + log_q)).sum(1)


def every_noise(known, rows):
    return known.noise(CLASSES * rows, LATENTS).reshape(CLASSES, rows, LATENTS)


# The objective --------------------------------------------------------------------------------


def test_in_evaluation_the_loss_is_the_unlabelled_bound_whatever_the_labels(known, x):
    model = m2(known)
    _, unlabelled = bounds_by_hand(model, x, every_noise(known, 6))
    for y in (None, tf.constant([0, 1, 2, 0, 1, -1])):
        losses, terms = model.objective(tf.constant(x), y, SEED, False)
        np.testing.assert_allclose(losses["vae"], unlabelled, rtol=1e-5)
        np.testing.assert_allclose(terms["distortion"] + terms["rate"], unlabelled, rtol=1e-5)


def test_labels_anywhere_cost_their_bound_and_their_error(known, x):
    y, share = np.array([2, -1, 0, 7, -1, 1]), 0.4
    model = m2(known, labelled_share=share, alpha=0.3)
    labelled, unlabelled = bounds_by_hand(model, x, every_noise(known, 6))
    expected = unlabelled.copy()
    for i in (0, 2, 5):  # 7 is no class.
        expected[i] = labelled[i, y[i]] - 0.3 / share * log_q_by_hand(model, x)[i, y[i]]
    losses, terms = model.objective(tf.constant(x), tf.constant(y), SEED, True)
    np.testing.assert_allclose(losses["vae"], expected, rtol=1e-5)
    distortion, rate = costs_by_hand(model, x, every_noise(known, 6))
    np.testing.assert_allclose(terms["distortion"][0], distortion[0, 2], rtol=1e-5)
    np.testing.assert_allclose(terms["rate"][0], rate[0, 2] + math.log(CLASSES), rtol=1e-5)


def test_a_stratified_batch_has_the_weights_of_the_data_set(known, x):
    """Rows 4 and 5 are labelled, a third of the batch, but a tenth of the data."""
    y = np.array([-1, -1, -1, -1, 2, 0])
    model = m2(known, labelled_share=0.1, labelled_rows=1 / 3, alpha=0.3)
    _, unlabelled = bounds_by_hand(model, x[:4], every_noise(known, 4))
    own_noise = known.noise(2, LATENTS)
    labelled, _ = bounds_by_hand(model, x[4:], np.stack([own_noise] * CLASSES))
    labelled = labelled[np.arange(2), y[4:]]
    errors = -log_q_by_hand(model, x[4:])[np.arange(2), y[4:]]
    losses, terms = model.objective(tf.constant(x), tf.constant(y), SEED, True)
    expected = np.concatenate([0.9 * 1.5 * unlabelled, 0.1 * 3 * labelled + 0.3 * 3 * errors])
    np.testing.assert_allclose(losses["vae"], expected, rtol=1e-5)
    # Whose mean is an unbiased estimate of J / N.
    objective = 0.9 * unlabelled.mean() + 0.1 * labelled.mean() + 0.3 * errors.mean()
    assert float(np.mean(losses["vae"])) == pytest.approx(objective, rel=1e-5)
    best = np.argmax(model.classifier(x[4:]), 1)
    np.testing.assert_array_equal(terms["accuracy"], best == y[4:])
    np.testing.assert_allclose(terms["distortion"] + terms["rate"],
                               np.concatenate([unlabelled, labelled]), rtol=1e-5)  # fmt: skip


def test_one_epoch_of_the_data_adds_up_to_the_objective_whatever_the_share_of_labelled_rows():
    """The weights times the counts of the pipeline: s, 1 - s and alpha, in each image's own part."""
    data = zoo.datasets.load("digits", num_labels=50)
    model = m2_mlp(SIZE, latent_dim=2, hidden=(3,), classifier_hidden=())
    model.adapt(data)
    for size in (50, 40):
        sums = dict.fromkeys(("labelled", "unlabelled", "classified"), 0.0)
        epoch = data.batches("train", size, shuffle=True, repeat=True, stratified=True)
        for x, y in epoch.take(data.steps_per_epoch(size)):
            known = y.numpy() >= 0
            model.alpha = 0.0
            losses, terms = model.objective(x, y, SEED, True)
            weights = np.asarray(losses["vae"] / (terms["distortion"] + terms["rate"]))
            sums["labelled"] += weights[known].sum()
            sums["unlabelled"] += weights[~known].sum()
            model.alpha = 3.0
            more = np.asarray(model.objective(x, y, SEED, True)[0]["vae"] - losses["vae"])
            np.testing.assert_array_equal(more[~known], 0)
            error = -log_q_by_hand(model, x[known])[np.arange(known.sum()), y[known]]
            sums["classified"] += (more[known] / error).sum()
        # Of 1,000 images: N_l labelled, N - N_l without, and alpha N.
        assert sums == pytest.approx(
            {"labelled": 50, "unlabelled": 950, "classified": 3.0 * 1000}, rel=1e-3
        )


def test_labelled_rows_are_looked_at_with_their_own_class_alone(known, x, monkeypatch):
    model = m2(known, labelled_share=0.1, labelled_rows=1 / 3)
    decoded = []
    call = type(model.likelihood).call
    monkeypatch.setattr(
        type(model.likelihood),
        "call",
        lambda self, z, *a, **k: (decoded.append((self, len(z))), call(self, z, *a, **k))[1],
    )
    model.objective(tf.constant(x), tf.constant([-1, -1, -1, -1, 2, 0]), SEED, True)
    assert [n for part, n in decoded if part is model.likelihood] == [4 * CLASSES + 2]
    assert [n for part, n in decoded if part is model.posterior] == [4, 2]  # Contexts, not pairs.


def test_labels_of_rows_that_count_as_unlabelled_have_no_effect(known, x):
    model = m2(known, labelled_share=0.1, labelled_rows=1 / 3)
    a, b = (
        model.objective(tf.constant(x), tf.constant([*hidden, 2, 0]), SEED, True)
        for hidden in ([-1, -1, -1, -1], [0, 2, 1, 1])
    )
    np.testing.assert_array_equal(a[0]["vae"], b[0]["vae"])
    for name in model.terms:
        np.testing.assert_array_equal(a[1][name], b[1][name])


def test_a_classifier_that_is_sure_makes_the_unlabelled_bound_the_labelled_one(known, x):
    model = m2(known, alpha=0.0)
    *_, bias = model.classifier.weights
    for c in range(CLASSES):
        bias.assign(1e4 * np.eye(CLASSES)[c])
        sure, _ = model.objective(tf.constant(x), None, SEED, True)
        labelled, _ = model.objective(tf.constant(x), tf.fill([6], c), SEED, True)
        np.testing.assert_allclose(sure["vae"], labelled["vae"], rtol=1e-6)


def discrete(known, exact):
    """p(x | y) of four independent pixels, z without effect, q(y | x) exact or any."""
    shape = (2, 2, 1)
    model = zoo.M2(
        zoo.networks.mlp_encoder(shape, CLASSES, ()),
        class_mlp(shape, 2, known.Posterior(), hidden=None),
        class_mlp((1,), 4, zoo.Bernoulli(), hidden=None, shape=shape),
        zoo.StandardNormal(1),
    )
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (CLASSES, 4))
    for weight in model.posterior.network.weights + model.likelihood.network.weights:
        weight.assign(np.zeros(weight.shape))
    model.likelihood.network.weights[2].assign(logits)
    if exact:  # log p(x | y) is linear in x.
        model.classifier.set_weights([logits.T, -np.logaddexp(0, logits).sum(1)])
    images = np.array(list(itertools.product([0, 1], repeat=4)))
    log_p = -np.logaddexp(0, np.where(images[:, None] == 1, -logits, logits)).sum(-1)  # [16, C]
    return model, images.reshape(-1, *shape).astype(np.float32), log_p


@pytest.mark.parametrize("exact", [True, False])
def test_against_enumeration_the_bound_is_off_by_the_kl_to_the_exact_posterior(known, exact):
    model, images, log_p = discrete(known, exact)
    log_x = logsumexp(log_p, 1) - math.log(CLASSES)
    assert np.exp(log_x).sum() == pytest.approx(1)
    losses, _ = model.objective(tf.constant(images), None, SEED, False)
    log_q, log_exact = log_q_by_hand(model, images), log_p - logsumexp(log_p, 1, keepdims=True)
    gap = (np.exp(log_q) * (log_q - log_exact)).sum(1)
    np.testing.assert_allclose(losses["vae"], gap - log_x, atol=1e-5)
    assert gap.max() < 1e-6 if exact else gap.min() > 1e-2
    np.testing.assert_allclose(model.log_prob(images, 3), log_x, atol=1e-5)
    np.testing.assert_allclose(model.classify(images), np.exp(log_q), atol=1e-5)


# Gradients ------------------------------------------------------------------------------------


def gradients(model, x, y, parts, training=True):
    variables = [v for part in parts for v in part.trainable_variables]
    with tf.GradientTape() as tape:
        losses, _ = model.objective(tf.constant(x), y, SEED, training)
        loss = tf.reduce_sum(losses["vae"])
    return [np.asarray(g) for g in tape.gradient(loss, variables)]


@pytest.mark.parametrize("labelled_rows", [None, 1.0])
def test_of_labelled_images_the_classifier_learns_by_alpha_alone(known, x, labelled_rows):
    y = tf.constant([0, 1, 2, 0, 1, 2])
    shares = {"labelled_rows": labelled_rows, "labelled_share": labelled_rows}
    without = m2(known, alpha=0.0, **shares)
    for gradient in gradients(without, x, y, [without.classifier]):
        np.testing.assert_array_equal(gradient, 0)
    model = m2(known, alpha=0.7, **shares)
    with tf.GradientTape() as tape:
        entropy = keras.losses.sparse_categorical_crossentropy(
            y, model.classifier(x), from_logits=True
        )
        loss = 0.7 * tf.reduce_sum(entropy)
    expected = tape.gradient(loss, model.classifier.trainable_variables)
    for have, want in zip(gradients(model, x, y, [model.classifier]), expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)
        assert np.abs(want).max() > 1e-2


def test_of_unlabelled_images_the_classifier_learns_from_the_sum_over_classes(known, x):
    model = m2(known)
    labelled, _ = bounds_by_hand(model, x, every_noise(known, 6))
    with tf.GradientTape() as tape:
        log_q = tf.nn.log_softmax(model.classifier(x))
        loss = 0.0
        for i, c in itertools.product(range(6), range(CLASSES)):
            loss += tf.exp(log_q[i, c]) * (float(labelled[i, c]) + log_q[i, c])
    expected = tape.gradient(loss, model.classifier.trainable_variables)
    for have, want in zip(gradients(model, x, None, [model.classifier]), expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-3)
        assert np.abs(want).max() > 0.1


def test_other_parts_learn_from_both_kinds_and_a_labels_bound_from_its_own_class(known, x):
    model = m2(known, labelled_share=0.5, labelled_rows=0.5, alpha=0.0)
    parts = [model.posterior, model.likelihood]
    for y in ([-1, -1, -1, 1, 1, 1], None):
        y = None if y is None else tf.constant(y)
        source = model if y is not None else m2(known)
        parts = [source.posterior, source.likelihood]
        assert all(np.abs(g).max() > 1e-3 for g in gradients(source, x, y, parts))
    # With labels alone, the vectors of other classes stay where they are.
    model = m2(known)
    for part in (model.posterior, model.likelihood):
        kernel = gradients(model, x, tf.fill([6], 1), [part])[2]
        assert kernel.shape[0] == CLASSES
        assert np.abs(kernel[1]).max() > 1e-3
        np.testing.assert_array_equal(kernel[[0, 2]], 0)


# Where all is known ---------------------------------------------------------------------------

FACTORS = np.array([[0.5, 0.2], [0.5, -0.2], [-0.5, 0.3], [0.5, 0.3]])
CENTRES = np.array([[0.1, 0.4, 0.6, 0.5], [0.7, 0.2, 0.3, 0.9], [0.5, 0.9, 0.1, 0.3]])
NOISE = 0.3
PRECISION = FACTORS.T @ FACTORS + NOISE**2 * np.eye(2)  # Diagonal, and so is the exact posterior.
COVARIANCE = FACTORS @ FACTORS.T + NOISE**2 * np.eye(4)
X = np.random.default_rng(0).uniform(0, 1, (5, 2, 2, 1)).astype(np.float32)


def linear(widening=1.0):
    """x = FACTORS z + CENTRES[y] + noise, with the exact q(y | x), and q(z | x, y) times widening."""
    model = zoo.M2(
        zoo.networks.mlp_encoder((2, 2, 1), CLASSES, ()),
        class_mlp((2, 2, 1), 4, zoo.DiagonalNormal(), hidden=None),
        class_mlp((2,), 4, zoo.SharedScaleNormal(NOISE), hidden=None, shape=(2, 2, 1)),
        zoo.StandardNormal(2),
    )
    to_mean = FACTORS @ np.linalg.inv(PRECISION)
    raw = np.log(np.expm1(widening * np.sqrt(NOISE**2 / np.diag(PRECISION)) - 1e-4))
    nothing = np.zeros((4, 2))
    model.posterior.network.set_weights([
        np.concatenate([to_mean, nothing], 1),
        np.concatenate([np.zeros(2), raw]),
        np.concatenate([-CENTRES @ to_mean, np.zeros((CLASSES, 2))], 1),
    ])  # fmt: skip
    model.likelihood.network.set_weights([FACTORS.T, np.zeros(4), CENTRES])
    inverse = np.linalg.inv(COVARIANCE)
    model.classifier.set_weights([
        inverse @ CENTRES.T,
        -0.5 * np.einsum("ci,ij,cj->c", CENTRES, inverse, CENTRES),
    ])  # fmt: skip
    return model


def exact_by_class():
    flat = X.reshape(-1, 4).astype(np.float64)
    return np.stack(
        [scipy.stats.multivariate_normal(m, COVARIANCE).logpdf(flat) for m in CENTRES], 1
    )


def density(model, num_samples, seed, **given):
    """`log_prob`, in a graph: many samples are slow without."""
    return tf.function(lambda: model.log_prob(tf.constant(X), num_samples, seed=seed, **given))()


def test_with_exact_posteriors_any_number_of_samples_gives_the_exact_densities():
    model, exact = linear(), exact_by_class()
    marginal = logsumexp(exact, 1) - math.log(CLASSES)
    for k in (1, 4):
        np.testing.assert_allclose(model.log_prob(X, k, seed=[1, k]), marginal, atol=1e-4)
        for c in range(CLASSES):
            given = model.log_prob(X, k, y=np.full(5, c), seed=[2, k])
            np.testing.assert_allclose(given, exact[:, c], atol=1e-4)


def test_other_posteriors_approach_the_exact_densities_with_more_samples():
    model, exact = linear(1.5), exact_by_class()
    marginal = logsumexp(exact, 1) - math.log(CLASSES)
    few, many = (density(model, k, [3, 3]) for k in (1, 3000))
    assert np.abs(few - marginal).max() > 0.05
    np.testing.assert_allclose(many, marginal, atol=0.05)


def test_with_exact_posteriors_the_bounds_are_the_densities_on_average():
    model, exact = linear(), exact_by_class()
    x = tf.constant(np.tile(X, (3000, 1, 1, 1)))
    marginal = logsumexp(exact, 1) - math.log(CLASSES)
    joint = exact[:, 1] - math.log(CLASSES)
    for y, training, expected in (
        (None, False, marginal),
        (None, True, marginal),
        (tf.fill([15000], 1), True, joint),
    ):
        model.alpha = 0.0
        losses, _ = model.objective(x, y, SEED, training)
        losses = losses["vae"].numpy().reshape(3000, 5)
        stderr = losses.std(0) / np.sqrt(3000)
        assert (np.abs(losses.mean(0) + expected) < 4.5 * stderr).all() and stderr.max() < 0.05


def test_rows_without_a_label_have_the_density_over_all_classes():
    model, exact = linear(), exact_by_class()
    marginal = logsumexp(exact, 1) - math.log(CLASSES)
    y = np.array([0, -1, 2, -7, 1])
    expected = np.where(y < 0, marginal, exact[np.arange(5), np.maximum(y, 0)])
    assert np.abs(exact - marginal[:, None]).min() > 0.01
    np.testing.assert_allclose(model.log_prob(X, 2, y=y), expected, atol=1e-4)
    np.testing.assert_allclose(density(model, 2, [1, 1], y=y), expected, atol=1e-4)
    np.testing.assert_allclose(model.log_prob(X, 2, y=np.full(5, -1)), marginal, atol=1e-4)


def test_an_exported_model_has_all_of_it_with_minus_one_for_no_label(tmp_path):
    model, exact = linear(), exact_by_class()
    model.likelihood.network.weights[2].assign(0.1 * CENTRES + 0.4)
    zoo.export.export(model, tmp_path / "m2")
    served = tf.saved_model.load(str(tmp_path / "m2"))
    signatures = served.signatures
    z = np.random.default_rng(0).normal(0, 0.3, size=(5, 2)).astype(np.float32)
    y = np.array([0, -1, 2, -1, 1], np.int32)
    x, z, none = tf.constant(X), tf.constant(z), tf.fill([5], -1)

    def decoded(y):
        return signatures["decode"](z=z, y=tf.constant(y))["x"]

    np.testing.assert_allclose(decoded(none), model.decode(z), rtol=1e-5)
    own = model.decode(z, np.maximum(y, 0)).numpy()
    want = np.where((y < 0)[:, None, None, None], model.decode(z), own)
    np.testing.assert_allclose(decoded(y), want, rtol=1e-5)
    assert np.abs(want - own)[y < 0].max() > 1e-3
    for name, output in (("encode", "z"), ("reconstruct", "x")):
        have = signatures[name](x=x, y=none)[output]
        np.testing.assert_allclose(have, getattr(model, name)(X), atol=1e-6)
    model.likelihood.network.weights[2].assign(CENTRES)
    zoo.export.export(model, tmp_path / "exact")
    exactly = tf.saved_model.load(str(tmp_path / "exact")).signatures["log_prob"]
    marginal = logsumexp(exact, 1) - math.log(CLASSES)
    for labels in (y, none):
        have = exactly(x=x, num_samples=tf.constant(2), y=tf.constant(labels))["log_prob"]
        known = np.asarray(labels) >= 0
        want = np.where(known, exact[np.arange(5), np.asarray(labels)], marginal)
        np.testing.assert_allclose(have, want, atol=1e-4)
    for function in (lambda y: decoded(y), lambda y: signatures["encode"](x=x, y=y)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="an int below 3"):
            function(tf.fill([5], 3))


# Abilities ------------------------------------------------------------------------------------


def test_labels_of_no_class_are_refused_everywhere(known, x):
    model = m2(known)
    model.compile("adam", jit_compile=False)
    z, y = np.zeros([6, LATENTS], np.float32), np.array([0, 1, 2, 99, -1, 0])
    for call in (
        lambda: model.encode(x, y),
        lambda: model.decode(z, y),
        lambda: model.reconstruct(x, y),
        lambda: model.sample(6, y),
        lambda: model.log_prob(x, 2, y=y),
        lambda: model.fit(x, y, verbose=0),
        lambda: model.evaluate(x, y, verbose=0),
    ):
        with pytest.raises(
            ValueError,
            match=r"from 0 to 2; a negative number means no label.*Received: labels from .* to 99",
        ):
            call()


def test_what_is_not_known_of_a_class_is_filled_in(known, x):
    model = m2(known)
    best = np.argmax(model.classify(x), 1)
    by_best = model.encode(x, best)
    np.testing.assert_array_equal(model.encode(x), by_best)
    y = (best + 1) % CLASSES
    y[:3] = -1
    mixed = model.encode(x, y)
    np.testing.assert_array_equal(mixed[:3], by_best[:3])
    assert (np.abs(mixed[3:] - by_best[3:]).max(1) > 1e-3).all()
    flat = x.reshape(6, -1)
    for i in range(6):
        want = by_class_network(model.posterior, flat[i : i + 1], y[i] if i > 2 else best[i])
        np.testing.assert_allclose(mixed[i], want[0, :LATENTS], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        model.reconstruct(x), model.decode(by_best, best), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        model.reconstruct(x, y[:6] % CLASSES), model.decode(model.encode(x, y % CLASSES), y % CLASSES),
        atol=1e-6,
    )  # fmt: skip


def test_without_a_class_the_mean_over_classes_is_decoded(known):
    model = m2(known)
    z = np.random.default_rng(0).normal(size=(4, LATENTS)).astype(np.float32)
    each = [1 / (1 + np.exp(-by_class_network(model.likelihood, z, c))) for c in range(CLASSES)]
    for c in range(CLASSES):
        np.testing.assert_allclose(
            np.reshape(model.decode(z, np.full(4, c)), (4, -1)), each[c], rtol=1e-4
        )
    mean = np.mean(each, 0)
    np.testing.assert_allclose(np.reshape(model.decode(z), (4, -1)), mean, rtol=1e-4)
    mixed = np.reshape(model.decode(z, [1, -1, 2, -1]), (4, -1))
    want = np.stack([each[1][0], mean[1], each[2][2], mean[3]])
    np.testing.assert_allclose(mixed, want, rtol=1e-4)


def test_samples_are_of_the_class_that_is_asked_for_or_of_any():
    model = linear()
    spread = np.sqrt(np.diag(FACTORS @ FACTORS.T) / 500)
    model.likelihood.network.weights[2].assign(0.1 * CENTRES + 0.4)  # Away from 0 and 1.
    model.likelihood.network.weights[0].assign(0.1 * FACTORS.T)
    for y in (1, np.full(500, 1)):
        mean = np.mean(model.sample(500, y, seed=3), 0).ravel()
        assert (np.abs(mean - 0.1 * CENTRES[1] - 0.4) < 0.45 * spread).all()
    model.likelihood.network.weights[0].assign(0 * FACTORS.T)
    for y in (None, np.full(3000, -1)):
        images = model.sample(3000, y, seed=4).numpy().reshape(3000, 4)
        distance = np.abs(images[:, None] - 0.1 * CENTRES - 0.4).max(-1)
        counts = np.bincount(distance.argmin(1))
        assert distance.min(1).max() < 1e-5
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_a_way_between_images_is_in_the_class_of_the_first(known, x):
    model = m2(known)
    model.classifier.set_weights([3 * w for w in model.classifier.get_weights()])
    best = int(np.argmax(model.classify(x[:1])))
    way = model.interpolate(x[0], x[1], 4)
    np.testing.assert_allclose(way, model.interpolate(x[0], x[1], 4, y=best), atol=1e-6)
    np.testing.assert_allclose(way[0], model.reconstruct(x[:1])[0], atol=1e-5)


# Learning -------------------------------------------------------------------------------------


def train(model, data, epochs, rate=2e-3):
    model.adapt(data)
    model.compile(keras.optimizers.Adam(rate), jit_compile=True, steps_per_execution=20)
    return model.fit(
        data.batches("train", 50, shuffle=True, repeat=True, stratified=True),
        steps_per_epoch=20,
        epochs=epochs,
        verbose=0,
    ).history


@pytest.fixture(scope="module")
def few_labels():
    return zoo.datasets.load("digits", binarize="dynamic", num_labels=100)


def test_unlabelled_images_help(few_labels):
    """Validation images, of which a linear classifier learns from the same labels alone."""
    x, y = few_labels.arrays("train")
    alone = LogisticRegression(max_iter=1000).fit(x[y >= 0].reshape(100, -1), y[y >= 0])
    others, truth = few_labels.arrays("validation")
    baseline = 1 - alone.score(others.reshape(len(others), -1), truth)
    model = m2_mlp(SIZE, latent_dim=8, hidden=(64,), classifier_hidden=(64,), alpha=1.0)
    history = train(model, few_labels, 40)
    assert classification.error(model, few_labels, "validation") < baseline - 0.02
    assert history["accuracy"][-1] > 0.9 > 0.3 > history["accuracy"][0]
    evaluated = model.evaluate(others, truth, verbose=0, return_dict=True)
    assert evaluated["accuracy"] == pytest.approx(
        1 - classification.error(model, few_labels, "validation")
    )


def test_accuracy_counts_labelled_images_alone_wherever_they_are(digits):
    model = m2_mlp(SIZE, CLASSES, 2, (5,), (5,))
    model.labelled_share = 0.25
    model.compile("adam", jit_compile=False)
    truth = np.argmax(model.classify(digits[:40]), 1)
    y = np.where(np.arange(40) % 4 == 0, truth, -1)
    y[:8:4] = (truth[:8:4] + 1) % CLASSES  # 2 of 10 are wrong.
    assert model.evaluate(digits[:40], y, verbose=0, return_dict=True)["accuracy"] == (
        pytest.approx(0.8)
    )
    _, terms = model.objective(tf.constant(digits[:40]), tf.constant(y), SEED, True)
    right, weights = terms["accuracy"]
    assert np.average(right, weights=weights) == pytest.approx(0.8)
    assert model.evaluate(digits[:40], verbose=0, return_dict=True)["accuracy"] == 0


def test_accuracy_is_of_all_labelled_images_however_they_lie_in_batches(digits):
    model = m2_mlp(SIZE, CLASSES, 2, (5,), (5,), alpha=0.0)
    model.labelled_share = 0.25
    model.compile(keras.optimizers.SGD(1e-12), jit_compile=False)
    y = np.full(40, -1)
    y[:9] = np.argmax(model.classify(digits[:9]), 1)
    y[[0, 12]] = (np.argmax(model.classify(digits[[0, 12]]), 1) + 1) % CLASSES
    # Of the batches of 8 one has eight labels, one has two, the others none: 8 of 10 are right.
    evaluated = model.evaluate(digits[:40], y, batch_size=8, verbose=0, return_dict=True)
    assert evaluated["accuracy"] == pytest.approx(0.8)
    trained = model.fit(digits[:40], y, batch_size=8, shuffle=False, verbose=0).history
    assert trained["accuracy"][0] == pytest.approx(0.8)


# M1, and M1+M2 --------------------------------------------------------------------------------


@pytest.fixture
def first():
    """An M1 with three latents, of which the second is dead: N(0, 1) whatever the image."""
    vae = vae_mlp(SIZE, 3, (), likelihood="bernoulli")
    kernel, bias = vae.posterior.network.get_weights()
    kernel *= 3
    kernel[:, [1, 4]] = 0
    bias[:] = [0, 0.05, 0, 0, math.log(math.e - 1), 0]
    vae.posterior.network.set_weights([kernel, bias])
    return vae


def stacked(first, known, **kwargs):
    inner = zoo.M2(
        zoo.networks.mlp(3, CLASSES, (4,)),
        class_mlp((3,), 2 * LATENTS, known.Posterior()),
        class_mlp((LATENTS,), 6, zoo.DiagonalNormal()),
        zoo.StandardNormal(LATENTS),
    )
    return zoo.M1M2(
        inner.classifier, inner.posterior, inner.likelihood, inner.prior,
        first.posterior, first.likelihood, **kwargs,
    )  # fmt: skip


def three_classes():
    data = zoo.datasets.load("digits")
    keep = data.arrays("train")[1] < CLASSES
    split = zoo.datasets.images.Split(data.pixels("train")[keep], data.arrays("train")[1][keep])
    splits = dict.fromkeys(("train", "validation", "test"), split)
    return zoo.datasets.ImageData("three", splits, SIZE, label_names=("0", "1", "2"), num_labels=30)


def test_dead_dimensions_are_left_out(first, known, x):
    model = stacked(first, known)
    model.adapt(three_classes())
    np.testing.assert_array_equal(model.used, [1, 0, 1])
    losses = model.objective(tf.constant(x), None, SEED, False)[0]["vae"]
    # By hand, on the two that are left.
    codes = np.asarray(first.encode(x), np.float64) * [1, 0, 1]
    noise, total = every_noise(known, 6), np.empty([6, CLASSES])
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
    # Whatever M1 does with the dead one.
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


def test_an_m1_that_says_nothing_is_refused(first, known):
    model = stacked(first, known)
    kernel, bias = first.posterior.network.get_weights()
    first.posterior.network.set_weights([0 * kernel, bias])
    with pytest.raises(ValueError, match="No dimension of M1's codes varies"):
        model.adapt(three_classes())


def test_codes_are_drawn_afresh_in_training_and_means_outside(first, known, x):
    model = stacked(first, known)
    x = tf.constant(x)

    def losses(seed, training):
        return model.objective(x, None, tf.constant(seed), training)[0]["vae"].numpy()

    np.testing.assert_array_equal(losses([0, 1], False), losses([0, 2], False))
    assert (losses([0, 1], True) != losses([0, 2], True)).all()
    np.testing.assert_array_equal(losses([0, 1], True), losses([0, 1], True))


def test_images_come_from_the_first_models_decoder(first, known, x):
    model = stacked(first, known)
    y = np.argmax(model.classify(x), 1)
    codes = model.likelihood(model.encode(x), y).mean()
    np.testing.assert_allclose(model.reconstruct(x), first.decode(codes), atol=1e-6)
    np.testing.assert_allclose(model.codes(x), first.encode(x), atol=1e-6)
    assert model.image_shape == SIZE


def test_density_of_images_is_that_of_the_chain():
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
        class_mlp((3,), 4, zoo.DiagonalNormal(), hidden=None),
        class_mlp((2,), 6, zoo.DiagonalNormal(), hidden=None),
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


def test_m1_stays_as_it_is_and_the_saved_model_is_whole(few_labels, tmp_path):
    first = vae_mlp(SIZE, 5, (16,))
    first.compile("adam", jit_compile=False)
    x, _ = few_labels.arrays("test", 20)
    first.fit(x, verbose=0)
    first.save(tmp_path / "m1.keras")
    model = m1_m2_mlp(SIZE, tmp_path / "m1.keras", 10, 3, (8,), (8,))
    frozen = model.first_posterior.get_weights() + model.first_likelihood.get_weights()
    np.testing.assert_array_equal(model.codes(x), model._used(first.encode(x)))
    train(model, few_labels, 1)
    now = model.first_posterior.get_weights() + model.first_likelihood.get_weights()
    for a, b in zip(frozen, now, strict=True):
        np.testing.assert_array_equal(a, b)
    (tmp_path / "m1.keras").unlink()
    model.save(tmp_path / "both.keras")
    loaded = zoo.training.load_model(tmp_path / "both.keras")
    np.testing.assert_array_equal(loaded.reconstruct(x), model.reconstruct(x))
    np.testing.assert_array_equal(loaded.used, model.used)
    assert (loaded.labelled_share, loaded.labelled_rows) == (0.1, 0.1)


def test_an_m1_in_memory_is_copied_and_goes_on_learning(few_labels):
    first = vae_mlp(SIZE, 5, (16,))
    model = m1_m2_mlp(SIZE, first, 10, 3, (8,), (8,))
    x, _ = few_labels.arrays("test", 20)
    codes = model.codes(x).numpy()
    np.testing.assert_array_equal(codes, first.encode(x))
    first.compile("adam", jit_compile=False)
    first.fit(x, verbose=0)
    assert np.abs(first.encode(x) - codes).max() > 1e-5
    np.testing.assert_array_equal(model.codes(x), codes)


# What cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting", [{"labelled_share": 0.0}, {"labelled_share": 1.5}, {"labelled_rows": 0.0}]
)
def test_shares_out_of_range_are_refused(known, setting):
    with pytest.raises(ValueError, match=r"must be a share in \(0, 1\]. Received"):
        m2(known, **setting)


def test_a_negative_weight_is_refused(known):
    with pytest.raises(ValueError, match=r"`alpha` must be a number from 0 on. Received: -1"):
        m2(known, alpha=-1)


def test_data_without_labels_or_with_too_many_classes_is_refused(known, few_labels):
    with pytest.raises(ValueError, match=r"of 3 classes.*Received: 'digits' with 10 classes"):
        m2(known).adapt(few_labels)
    quadrants = zoo.datasets.load("digits", seen_quadrants=1)
    with pytest.raises(ValueError, match="with no integer labels"):
        m2(known).adapt(quadrants)


def test_a_labelled_row_without_a_label_is_noticed(known, x):
    model = m2(known, labelled_share=0.1, labelled_rows=1 / 3)
    model.compile("adam", jit_compile=False)
    batches = tf.data.Dataset.from_tensors((x, np.array([0, 0, -1, -1, 1, -1])))
    with pytest.raises(zoo.NonFiniteError, match=r"step 0 a row has no label.*stratified=True"):
        model.fit(batches, verbose=0)


def test_rows_without_a_label_whose_share_is_not_known_are_noticed(known, x):
    y = np.array([0, 0, -1, -1, 1, -1])
    batches = tf.data.Dataset.from_tensors((x, y))
    model = m2(known)
    model.compile("adam", jit_compile=False)
    with pytest.raises(zoo.NonFiniteError, match=r"step 0 a row has no label.*labelled_share=None"):
        model.fit(batches, verbose=0)
    model = m2(known, labelled_share=0.5)
    model.compile("adam", jit_compile=False)
    model.fit(batches, verbose=0)


def test_another_loss_that_is_not_finite_is_not_blamed_on_labels(known, x):
    model = m2(known, labelled_share=0.5)
    model.compile("adam", jit_compile=False)
    model.likelihood.network.weights[0].assign_add(np.full((LATENTS, 5), np.nan))
    batches = tf.data.Dataset.from_tensors((x, np.array([0, 0, -1, -1, 1, -1])))
    with pytest.raises(zoo.NonFiniteError, match="A lower learning rate"):
        model.fit(batches, verbose=0)


def test_arrays_that_it_cannot_be_trained_on_are_refused_before_training(few_labels):
    x, y = few_labels.arrays("train", 300)
    count = (y < 0).sum()
    model = m2_mlp(SIZE, latent_dim=2, hidden=(3,), classifier_hidden=())
    model.compile("adam", run_eagerly=True)
    reason = f"labelled_share=None says that all have one.*Received: {count} of 300 images without"
    with pytest.raises(ValueError, match=reason):
        model.fit(x, y, verbose=0)
    model.adapt(few_labels)
    with pytest.raises(ValueError, match=r"labelled_rows=0.1 says.*stratified=True.*Received: 2"):
        model.fit(x, y, batch_size=50, verbose=0)
    with pytest.raises(ValueError, match="Received: y=None"):
        model.fit(x, verbose=0)
    model.labelled_rows = None
    model.fit(x, y, batch_size=50, verbose=0)
    assert int(model.step) == 6
    # All labelled, or none: there is nothing to know.
    for labels in (np.abs(y), None):
        model = m2_mlp(SIZE, latent_dim=2, hidden=(3,), classifier_hidden=())
        model.compile("adam", run_eagerly=True)
        model.fit(x[:50], None if labels is None else labels[:50], verbose=0)


def test_a_layout_without_the_share_of_labels_is_refused(known):
    with pytest.raises(ValueError, match=r"together. Received: labelled_rows=0.5"):
        m2(known, labelled_rows=0.5)


@pytest.mark.parametrize("builder", [m2_mlp, m2_conv])
def test_a_model_has_the_parameters_of_its_parts_and_no_others(builder):
    model = builder(
        SIZE, latent_dim=2, hidden=(3,), classifier_hidden=(4,) if builder is m2_mlp else 4
    )
    everything, parts = model.trainable_variables, model.variables_of("vae")
    assert {v.path for v in everything} == {v.path for v in parts}
    assert len(everything) == len(parts)


def test_data_without_labels_is_no_hindrance_where_none_is_needed(few_labels):
    model = m2_mlp(SIZE, latent_dim=2, hidden=(3,), classifier_hidden=())
    model.compile("adam", jit_compile=False)
    images = {s: zoo.datasets.images.Split(few_labels.pixels(s, 40)) for s in few_labels.sizes}
    data = zoo.datasets.ImageData("bare", images, SIZE, binarize="fixed")
    zoo.conditions.check(model, data)
    assert zoo.conditions.of_data(model, data) is None
    assert zoo.conditions.in_turn(model, data, 4) is None
    subject = zoo.evaluation.Evaluation.of_model(model, data, "test", 20)
    assert len(subject.fake) == 20
    (nll,) = subject.run(["nll"])
    assert nll.status == "ok", nll.error


def test_hidden_labels_are_for_models_that_can_do_without(few_labels):
    keywords = {"condition": "label", "condition_size": 10, "hidden": (8,)}
    given = zoo.presets.conditional_vae_mlp(SIZE, 2, **keywords)
    with pytest.raises(
        ValueError, match=r"label of every image. Received: 'digits' with num_labels"
    ):
        zoo.conditions.check(given, few_labels)
    zoo.conditions.check(given, zoo.datasets.load("digits"))
    zoo.conditions.check(m2_mlp(SIZE, hidden=(3,)), few_labels)
    zoo.conditions.check(vae_mlp(SIZE, 2, (4,)), few_labels)


class Seen(Exception):
    """The labels of what a model was to be trained on."""


@pytest.mark.parametrize(("preset", "few"), [("m1_digits", False), ("m2_digits", True)])
def test_only_models_that_know_of_it_get_labelled_images_over_and_over(
    preset, few, tmp_path, monkeypatch
):
    config = zoo.presets.get(preset)
    zoo.presets.override(config, ["num_labels=50"])

    def fit(model, batches, y=None, *, steps_per_epoch, **kwargs):
        raise Seen(np.concatenate([y for _, y in batches.take(steps_per_epoch)]))

    monkeypatch.setattr(zoo.GenerativeModel, "fit", fit)
    with pytest.raises(Seen) as seen:
        zoo.training.train(config, zoo.training.Run(tmp_path / "run"), progress=False)
    (labels,) = seen.value.args
    assert (labels >= 0).sum() == (100 if few else 50)


def test_batches_of_unknown_size_have_no_last_rows(known, x):
    model = m2(known, labelled_rows=0.5, labelled_share=0.5)
    model.compile("adam", jit_compile=False)
    with pytest.raises(ValueError, match="batch with `drop_remainder=True`"):
        model.fit(tf.data.Dataset.from_tensor_slices((x, np.zeros(6, int))).batch(4), verbose=0)


def test_there_is_a_hidden_layer_for_the_class_to_enter():
    with pytest.raises(ValueError, match="`hidden` needs at least one"):
        m2_mlp(SIZE, hidden=())


def test_what_is_no_m1_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        m1_m2_mlp(SIZE, tmp_path / "none.keras")
    with pytest.raises(ValueError, match=r"M1 is a VAE.*Received: a VAE with a MixturePrior"):
        m1_m2_mlp(SIZE, vae_mlp(SIZE, 2, (4,), prior="mixture"))
    with pytest.raises(ValueError, match="of the same images"):
        m1_m2_mlp((4, 4, 1), vae_mlp(SIZE, 2, (4,)))
    gan = zoo.models.gan.gan_mlp(SIZE, 2, (4,), (4,))
    gan.save(tmp_path / "gan.keras")
    with pytest.raises(ValueError, match="Received: a GAN"):
        m1_m2_mlp(SIZE, tmp_path / "gan.keras")


def test_a_run_of_m1_and_m2_asks_for_a_trained_m1():
    config = zoo.presets.get("m1_m2_digits")
    model = zoo.presets.build(config, SIZE)
    with pytest.raises(ValueError, match=r"--preset=m1_digits\) and .*--set first=runs/m1_digits"):
        zoo.training.check_model(model, config)
    zoo.presets.override(config, ["data.name=mnist"])
    with pytest.raises(ValueError, match=r"--preset=m1_digits --dataset=mnist.*runs/m1_digits"):
        zoo.training.check_model(model, config)
    zoo.presets.override(config, ["data.name=digits"])
    zoo.presets.override(config, ["first=runs/elsewhere"])
    zoo.training.check_model(model, config)
