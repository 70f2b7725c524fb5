"""M2 against its equations by hand, enumeration, and models with exact densities."""

import itertools
import math

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from speed import slow

import zoo
import zoo.training
from zoo import checked_data
from zoo.models.m1 import m1
from zoo.models.m2 import AddClass
from zoo.models.m2 import m2 as build

SIZE, CLASSES, LATENTS = (8, 8, 1), 3, 2
SEED = tf.constant([0, 1])


def class_mlp(inputs, outputs, family, hidden=5, shape=None):
    """A `Conditional` on a tensor of shape `inputs` and a class, with a softplus layer or none."""
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
    """The output of the network of `class_mlp` for one class, in numpy, float64."""
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


def two_streams(x, labelled=2):
    """The last rows of `x` as the labelled stream, the others as the unlabelled one."""
    return tf.constant(x[-labelled:]), tf.constant(x[:-labelled])


def labelled_terms_by_hand(model, x, y, known):
    """L(x, y) and -log q(y | x) of a labelled stream, `[B]` each."""
    rows = np.arange(len(x))
    noise = np.stack([known.noise(len(x), LATENTS)] * CLASSES)
    labelled, _ = bounds_by_hand(model, x, noise)
    return labelled[rows, y], -log_q_by_hand(model, x)[rows, y]


def test_the_evaluation_loss_is_the_unlabelled_bound_for_any_labels(known, x):
    model = m2(known)
    _, unlabelled = bounds_by_hand(model, x, every_noise(known, 6))
    for y in (None, tf.constant([0, 1, 2, 0, 1, -1])):
        losses, terms = model.objective(tf.constant(x), y, SEED, False)
        np.testing.assert_allclose(losses["vae"], unlabelled, rtol=1e-5)
        np.testing.assert_allclose(terms["distortion"] + terms["rate"], unlabelled, rtol=1e-5)


def test_evaluation_joins_two_streams(known, x):
    model, y = m2(known), tf.constant([2, 0])
    one = model.objective(tf.constant(x), tf.constant([-1, -1, -1, -1, 2, 0]), SEED, False)
    two = model.objective(two_streams(x), y, SEED, False)
    for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_labelled_loss_is_equation_6_plus_the_classification_loss(known, x):
    y = np.array([2, 1, 0, 0, 2, 1])
    model = m2(known, alpha=0.3)
    labelled, errors = labelled_terms_by_hand(model, x, y, known)
    losses, terms = model.objective(tf.constant(x), tf.constant(y), SEED, True)
    np.testing.assert_allclose(losses["vae"], labelled + 0.3 * errors, rtol=1e-5)
    distortion, rate = costs_by_hand(model, x, np.stack([known.noise(6, LATENTS)] * CLASSES))
    rows = np.arange(6)
    np.testing.assert_allclose(terms["distortion"], distortion[rows, y], rtol=1e-5)
    np.testing.assert_allclose(terms["rate"], rate[rows, y] + math.log(CLASSES), rtol=1e-5)
    best = np.argmax(model.classifier(x), 1)
    np.testing.assert_array_equal(terms["accuracy"], best == y)


def test_two_streams_have_the_weights_of_the_data_set(known, x):
    """Two of six rows are labelled, a third of the batch, but a tenth of the data."""
    y = np.array([2, 0])
    model = m2(known, labelled_share=0.1, alpha=0.3)
    _, unlabelled = bounds_by_hand(model, x[:4], every_noise(known, 4))
    labelled, errors = labelled_terms_by_hand(model, x[4:], y, known)
    losses, terms = model.objective(two_streams(x), tf.constant(y), SEED, True)
    expected = np.concatenate([0.9 * 1.5 * unlabelled, 0.1 * 3 * labelled + 0.3 * 3 * errors])
    np.testing.assert_allclose(losses["vae"], expected, rtol=1e-5)
    # The mean is an unbiased estimate of J / N.
    objective = 0.9 * unlabelled.mean() + 0.1 * labelled.mean() + 0.3 * errors.mean()
    assert float(np.mean(losses["vae"])) == pytest.approx(objective, rel=1e-5)
    best = np.argmax(model.classifier(x[4:]), 1)
    np.testing.assert_array_equal(terms["accuracy"], best == y)
    bounds = np.concatenate([unlabelled, labelled])
    np.testing.assert_allclose(terms["distortion"] + terms["rate"], bounds, rtol=1e-5)


def rates_by_hand(model, x):
    """KL(q(z_j | x, c) || p(z_j)) of each class and latent dimension, `[C, B, D]`."""
    flat, rates = x.reshape(len(x), -1).astype(np.float64), []
    for c in range(CLASSES):
        loc, log_scale = np.split(by_class_network(model.posterior, flat, c), 2, 1)
        rates.append(0.5 * (loc**2 + np.exp(2 * log_scale) - 1 - 2 * log_scale))
    return np.stack(rates)


def test_draws_are_averaged_and_the_rate_in_training_has_its_weight_and_free_bits(known, x):
    y, weight = np.array([2, 0]), 0.3
    model = m2(known, labelled_share=0.1, alpha=0.4, num_samples=2)
    rates = rates_by_hand(model, x[:4]), rates_by_hand(model, x[4:])[y, [0, 1]]
    means = np.stack([rates[0].mean((0, 1)), rates[1].mean(0)])
    free = (means[:, 0].min() + means[:, 1].max()) / 2
    if means[0, 0] < means[0, 1]:
        free = (means[:, 0].max() + means[:, 1].min()) / 2
    assert ((means > free).sum(1) == 1).all()  # One dimension of each stream has free bits.
    charged = [np.where(m > free, r, free).sum(-1) for m, r in zip(means, rates, strict=True)]
    model.rate_weight, model.free_bits = weight, float(free)

    noise = known.noise(2, CLASSES * 4, LATENTS).reshape(2, CLASSES, 4, LATENTS)
    distortion = np.mean([costs_by_hand(model, x[:4], n)[0] for n in noise], 0)
    log_q = log_q_by_hand(model, x[:4])
    rate = charged[0].T + math.log(CLASSES) + log_q
    unlabelled = (np.exp(log_q) * (distortion + weight * rate)).sum(1)
    noise = [np.stack([n] * CLASSES) for n in known.noise(2, 2, LATENTS)]
    distortion = np.mean([costs_by_hand(model, x[4:], n)[0][[0, 1], y] for n in noise], 0)
    labelled = distortion + weight * (charged[1] + math.log(CLASSES))
    errors = -log_q_by_hand(model, x[4:])[[0, 1], y]

    losses, terms = model.objective(two_streams(x), tf.constant(y), SEED, True)
    expected = np.concatenate([0.9 * 1.5 * unlabelled, 0.1 * 3 * labelled + 0.4 * 3 * errors])
    np.testing.assert_allclose(losses["vae"], expected, rtol=1e-5)
    rate = np.concatenate([
        (np.exp(log_q) * (rates[0].sum(-1).T + math.log(CLASSES) + log_q)).sum(1),
        rates[1].sum(-1) + math.log(CLASSES),
    ])  # fmt: skip
    np.testing.assert_allclose(terms["rate"], rate, rtol=1e-5)
    # Evaluation is the bound: without weight and without free bits.
    losses, terms = model.objective(tf.constant(x), None, SEED, False)
    np.testing.assert_allclose(losses["vae"], terms["distortion"] + terms["rate"], rtol=1e-6)


@pytest.mark.parametrize("size", [50, slow(40)])
def test_an_epoch_adds_up_to_the_objective_for_every_share_of_labelled_rows(size):
    """The weights times the counts of the pipeline: s, 1 - s and alpha, per image of the stream."""
    data = zoo.datasets.load("digits", num_labels=50)
    model = build(SIZE, latent_dim=2, hidden=(3,), classifier_hidden=())
    model.adapt(data)
    sums = dict.fromkeys(("labelled", "unlabelled", "classified"), 0.0)
    epoch = data.batches("train", size, shuffle=True, repeat=True, semi_supervised=True)
    for (x_labelled, y), x_unlabelled in epoch.take(data.steps_per_epoch(size)):
        x, n = (x_labelled, x_unlabelled), len(y)
        model.alpha = 0.0
        losses, terms = model.objective(x, y, SEED, True)
        weights = np.asarray(losses["vae"] / (terms["distortion"] + terms["rate"]))
        sums["labelled"] += weights[-n:].sum()
        sums["unlabelled"] += weights[:-n].sum()
        model.alpha = 3.0
        more = np.asarray(model.objective(x, y, SEED, True)[0]["vae"] - losses["vae"])
        np.testing.assert_array_equal(more[:-n], 0)
        errors = -log_q_by_hand(model, x_labelled)[np.arange(n), y]
        sums["classified"] += (more[-n:] / errors).sum()
    # Of 1,000 images: N_l labelled, N - N_l unlabelled, and alpha N.
    assert sums == pytest.approx(
        {"labelled": 50, "unlabelled": 950, "classified": 3.0 * 1000}, rel=1e-3
    )


def test_labelled_rows_pass_the_networks_only_with_their_class(known, x, monkeypatch):
    model = m2(known, labelled_share=0.1)
    rows = []
    call = type(model.likelihood).call
    monkeypatch.setattr(
        type(model.likelihood),
        "call",
        lambda self, z, *a, **k: (
            rows.append((self, np.size(z) // np.prod(self.context_shape))),
            call(self, z, *a, **k),
        )[1],
    )
    model.objective(two_streams(x), tf.constant([2, 0]), SEED, True)
    assert sorted(n for part, n in rows if part is model.likelihood) == [2, 4 * CLASSES]
    # The layers before `AddClass` receive each image once.
    assert sorted(n for part, n in rows if part is model.posterior) == [2, 4]


def test_a_certain_classifier_gives_the_labelled_bound_for_unlabelled_images(known, x):
    model = m2(known, alpha=0.0)
    *_, bias = model.classifier.weights
    for c in range(CLASSES):
        bias.assign(1e4 * np.eye(CLASSES)[c])
        sure, _ = model.objective(tf.constant(x), None, SEED, False)
        labelled, _ = bounds_by_hand(model, x, every_noise(known, 6))
        np.testing.assert_allclose(sure["vae"], labelled[:, c], rtol=1e-5)


def discrete(known, exact):
    """p(x | y) of four independent pixels, z without effect, q(y | x) exact or arbitrary."""
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
def test_the_gap_to_enumeration_is_the_kl_to_the_exact_posterior(known, exact):
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
        losses, _ = model.objective(x, y, SEED, training)
        loss = tf.reduce_sum(losses["vae"])
    return [np.asarray(g) for g in tape.gradient(loss, variables)]


def test_labelled_images_train_the_classifier_only_through_alpha(known, x):
    x, y = tf.constant(x), tf.constant([0, 1, 2, 0, 1, 2])
    without = m2(known, alpha=0.0)
    for gradient in gradients(without, x, y, [without.classifier]):
        np.testing.assert_array_equal(gradient, 0)
    model = m2(known, alpha=0.7)
    with tf.GradientTape() as tape:
        entropy = keras.losses.sparse_categorical_crossentropy(
            y, model.classifier(x), from_logits=True
        )
        loss = 0.7 * tf.reduce_sum(entropy)
    expected = tape.gradient(loss, model.classifier.trainable_variables)
    for have, want in zip(gradients(model, x, y, [model.classifier]), expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)
        assert np.abs(want).max() > 1e-2


def test_unlabelled_images_train_the_classifier_by_the_sum_over_classes(known, x):
    """With alpha = 0 the labelled stream gives the classifier no gradient."""
    model = m2(known, labelled_share=1 / 3, alpha=0.0)
    labelled, _ = bounds_by_hand(model, x[:4], every_noise(known, 4))
    with tf.GradientTape() as tape:
        log_q = tf.nn.log_softmax(model.classifier(x[:4]))
        loss = 0.0
        for i, c in itertools.product(range(4), range(CLASSES)):
            loss += tf.exp(log_q[i, c]) * (float(labelled[i, c]) + log_q[i, c])
    expected = tape.gradient(loss, model.classifier.trainable_variables)
    have = gradients(model, two_streams(x), tf.constant([1, 1]), [model.classifier])
    for a, b in zip(have, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
        assert np.abs(b).max() > 0.1


def test_both_streams_train_posterior_and_likelihood_and_labels_select_a_class(known, x):
    for share in (1e-6, 1.0):  # All weight on one stream.
        model = m2(known, labelled_share=share, alpha=0.0)
        parts = [model.posterior, model.likelihood]
        have = gradients(model, two_streams(x, 3), tf.constant([1, 1, 1]), parts)
        kernels = [g for g in have if g.shape == (CLASSES, 5)]
        assert len(kernels) == 2
        for kernel in kernels:
            assert np.abs(kernel[1]).max() > 1e-3
            others = np.abs(kernel[[0, 2]]).max()
            assert others == 0 if share == 1 else others > 1e-3
        assert all(np.abs(g).max() > 1e-3 for g in have)


# Exact densities ------------------------------------------------------------------------------

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


def test_exact_posteriors_give_the_exact_densities_for_any_number_of_samples():
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


def test_exact_posteriors_make_the_bounds_equal_the_densities_on_average():
    model, exact = linear(), exact_by_class()
    x = tf.constant(np.tile(X, (3000, 1, 1, 1)))
    marginal = logsumexp(exact, 1) - math.log(CLASSES)
    joint = exact[:, 1] - math.log(CLASSES)
    model.alpha = 0.0
    for y, training, expected in ((None, False, marginal), (tf.fill([15000], 1), True, joint)):
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


@pytest.mark.slow
def test_an_exported_model_takes_minus_one_for_a_missing_label(tmp_path):
    model, exact = linear(), exact_by_class()
    model.likelihood.network.weights[2].assign(0.1 * CENTRES + 0.4)
    zoo.export.export(model, tmp_path / "m2", signatures=["encode", "decode", "reconstruct"])
    served = tf.saved_model.load(str(tmp_path / "m2"))
    signatures = served.signatures
    z = np.random.default_rng(0).normal(0, 0.3, size=(5, 2)).astype(np.float32)
    y = np.array([0, -1, 2, -1, 1], np.int32)
    x, z, none = tf.constant(X), tf.constant(z), tf.fill([5], -1)

    def decoded(y):
        return signatures["decode"](z=z, y=tf.constant(y))["images"]

    np.testing.assert_allclose(decoded(none), model.decode(z), rtol=1e-5)
    own = model.decode(z, np.maximum(y, 0)).numpy()
    want = np.where((y < 0)[:, None, None, None], model.decode(z), own)
    np.testing.assert_allclose(decoded(y), want, rtol=1e-5)
    assert np.abs(want - own)[y < 0].max() > 1e-3
    for name, output in (("encode", "latents"), ("reconstruct", "images")):
        have = signatures[name](x=x, y=none)[output]
        np.testing.assert_allclose(have, getattr(model, name)(X), atol=1e-6)
    model.likelihood.network.weights[2].assign(CENTRES)
    zoo.export.export(model, tmp_path / "exact", signatures=["log_prob"])
    exactly = tf.saved_model.load(str(tmp_path / "exact")).signatures["log_prob"]
    marginal = logsumexp(exact, 1) - math.log(CLASSES)
    for labels in (y, none):
        have = exactly(x=x, num_samples=tf.constant(2), y=tf.constant(labels))["log_prob"]
        known = np.asarray(labels) >= 0
        want = np.where(known, exact[np.arange(5), np.asarray(labels)], marginal)
        np.testing.assert_allclose(have, want, atol=1e-4)
    for function in (lambda y: decoded(y), lambda y: signatures["encode"](x=x, y=y)):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="Labels are the numbers from 0 to 2"
        ):
            function(tf.fill([5], 3))


# Abilities ------------------------------------------------------------------------------------


def test_labels_out_of_range_are_refused_by_every_method(known, x):
    model = m2(known)
    model.compile("adam", jit_compile=False)
    z, y = np.zeros([6, LATENTS], np.float32), np.array([0, 1, 2, 99, -1, 0])
    for call in (
        lambda: model.encode(x, y),
        lambda: model.decode(z, y),
        lambda: model.reconstruct(x, y),
        lambda: model.sample(6, y),
        lambda: model.log_prob(x, 2, y=y),
        lambda: model.fit(x, np.abs(y), verbose=0),
        lambda: model.evaluate(x, y, verbose=0),
    ):
        with pytest.raises(
            ValueError,
            match=r"from 0 to 2; a negative number means no label.*Received: labels from .* to 99",
        ):
            call()


def test_missing_classes_are_inferred(known, x):
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


def test_latents_without_a_class_decode_to_the_mean_over_classes(known):
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


def test_samples_have_the_requested_class_or_a_random_class():
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


def test_an_interpolation_has_the_class_of_the_first_image(known, x):
    model = m2(known)
    model.classifier.set_weights([3 * w for w in model.classifier.get_weights()])
    best = int(np.argmax(model.classify(x[:1])))
    images = model.interpolate(x[0], x[1], 4)
    np.testing.assert_allclose(images, model.interpolate(x[0], x[1], 4, y=best), atol=1e-6)
    np.testing.assert_allclose(images[0], model.reconstruct(x[:1])[0], atol=1e-5)


# Training -------------------------------------------------------------------------------------


def train(model, data, epochs, rate=2e-3):
    model.adapt(data)
    model.compile(keras.optimizers.Adam(rate), jit_compile=True, steps_per_execution=20)
    return model.fit(
        data.batches("train", 50, shuffle=True, repeat=True, semi_supervised=True),
        steps_per_epoch=20,
        epochs=epochs,
        verbose=0,
    ).history


@pytest.fixture(scope="module")
def few_labels():
    return zoo.datasets.load("digits", binarize="dynamic", num_labels=100)


@pytest.mark.slow
def test_unlabelled_images_improve_the_accuracy(few_labels):
    """On validation images, against a linear classifier trained on the same labels alone."""
    x, y = few_labels.arrays("train")
    alone = LogisticRegression(max_iter=1000).fit(x[y >= 0].reshape(100, -1), y[y >= 0])
    others, truth = few_labels.arrays("validation")
    baseline = 1 - alone.score(others.reshape(len(others), -1), truth)
    model = build(SIZE, latent_dim=8, hidden=(64,), classifier_hidden=(64,), alpha=1.0)
    history = train(model, few_labels, 40)
    evaluated = model.evaluate(others, truth, verbose=0, return_dict=True)
    assert 1 - evaluated["accuracy"] < baseline - 0.02
    assert history["accuracy"][-1] > 0.9 > 0.3 > history["accuracy"][0]


def test_accuracy_counts_only_labelled_images_at_any_position(digits):
    model = build(SIZE, num_classes=CLASSES, latent_dim=2, hidden=(5,), classifier_hidden=(5,))
    model.compile("adam", jit_compile=False)
    truth = np.argmax(model.classify(digits[:40]), 1)
    y = np.where(np.arange(40) % 4 == 0, truth, -1)
    y[:8:4] = (truth[:8:4] + 1) % CLASSES  # 2 of 10 are wrong.
    # Each batch of 8 has two labels, and the last batch has them at other positions.
    y[32:] = -1
    y[33:35] = truth[33:35]
    evaluated = model.evaluate(digits[:40], y, batch_size=8, verbose=0, return_dict=True)
    assert evaluated["accuracy"] == pytest.approx(0.8)
    assert model.evaluate(digits[:40], verbose=0, return_dict=True)["accuracy"] == 0


def test_labelled_arrays_and_a_zipped_data_set_train(few_labels):
    x, y = zoo.datasets.load("digits").arrays("train", 60)
    model = build(SIZE, latent_dim=2, hidden=(3,), classifier_hidden=())
    model.compile("adam", jit_compile=False)
    model.fit(x, y, batch_size=20, verbose=0)
    assert int(model.step) == 3
    labelled = tf.data.Dataset.from_tensor_slices((x[:10], y[:10])).repeat().batch(5)
    unlabelled = tf.data.Dataset.from_tensor_slices(x[10:]).batch(10)
    model.labelled_share = 1 / 6
    history = model.fit(tf.data.Dataset.zip((labelled, unlabelled)), verbose=0).history
    assert int(model.step) == 8 and np.isfinite(history["loss"]).all()


# Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_shares_out_of_range_are_refused(known, share):
    with pytest.raises(ValueError, match=r"must be a share in \(0, 1\]. Received"):
        m2(known, labelled_share=share)


def test_a_negative_weight_is_refused(known):
    with pytest.raises(ValueError, match=r"`alpha` must be at least 0 and finite. Received: -1"):
        m2(known, alpha=-1)


def test_data_without_labels_or_with_too_many_classes_is_refused(known, few_labels):
    with pytest.raises(ValueError, match=r"at most 3 classes.*Received: 'digits' with 10 classes"):
        m2(known).adapt(few_labels)
    quadrants = zoo.datasets.load("digits", seen="quadrants:1")
    with pytest.raises(ValueError, match="with no integer labels"):
        m2(known).adapt(quadrants)


def test_images_without_a_label_in_one_stream_are_refused_before_training(few_labels):
    x, y = few_labels.arrays("train", 300)
    count = (y < 0).sum()
    model = build(SIZE, latent_dim=2, hidden=(3,), classifier_hidden=())
    model.compile("adam", jit_compile=False)
    model.adapt(few_labels)
    reason = r"every image of a batch \(x, y\) has a label.*semi_supervised=True.*"
    with pytest.raises(ValueError, match=rf"{reason}Received: {count} of 300 images without"):
        model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=f"{reason}Received: y=None"):
        model.fit(x, verbose=0)
    for data in (few_labels.batches("train", 50), tf.data.Dataset.from_tensor_slices(x).batch(50)):
        with pytest.raises(ValueError, match=reason):
            model.fit(data, verbose=0)
    assert int(model.step) == 0


def test_a_missing_label_in_a_later_batch_is_reported(known, x):
    model = m2(known)
    model.compile("adam", jit_compile=False)
    y = np.array([0, 0, 1, 1, 2, -1])
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(2, drop_remainder=True)
    with pytest.raises(ValueError, match=r"every image of a batch.* labels from -1 to 2"):
        model.fit(batches, verbose=0)


def test_two_streams_without_the_share_of_labels_are_refused(known, x):
    with pytest.raises(ValueError, match=r"needs the share of labelled images.*=None"):
        m2(known).objective(two_streams(x), tf.constant([0, 1]), SEED, True)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_a_model_has_only_the_parameters_of_its_parts(network):
    model = build(
        SIZE,
        network=network,
        latent_dim=2,
        hidden=(3,),
        classifier_hidden=(4,),
        dropout=0.5,
    )
    everything, parts = model.trainable_variables, model.variables_of("vae")
    assert {v.path for v in everything} == {v.path for v in parts}
    assert len(everything) == len(parts)
    layers = [type(layer).__name__ for layer in model.classifier.layers]
    convolutions = ["Conv2D", "Conv2D"] if network == "conv" else []
    assert layers == [*convolutions, "Flatten", "Dropout", "Dense", "Dropout", "Dense"]


def test_models_with_optional_labels_accept_data_without_labels(few_labels):
    model = build(SIZE, latent_dim=2, hidden=(3,), classifier_hidden=())
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


def test_hidden_labels_require_a_model_with_optional_labels(few_labels):
    label = zoo.networks.condition("label", 10, SIZE)
    conditional = zoo.VAE(**zoo.models.elbo.parts(SIZE, hidden=(8,), condition=label))
    with pytest.raises(
        ValueError, match=r"label of every image. Received: 'digits' with num_labels"
    ):
        zoo.conditions.check(conditional, few_labels)
    zoo.conditions.check(conditional, zoo.datasets.load("digits"))
    zoo.conditions.check(build(SIZE, hidden=(3,)), few_labels)
    zoo.conditions.check(m1(SIZE, latent_dim=2, hidden=(4,)), few_labels)


class Labels(Exception):
    """The labels of an epoch of training."""


@pytest.mark.parametrize(("preset", "count"), [("m1_digits", 50), ("m2_digits", 100)])
def test_only_semi_supervised_models_train_on_two_streams(preset, count, tmp_path, monkeypatch):
    config = zoo.presets.get(preset)
    zoo.presets.override(config, ["num_labels=50"])

    def fit(model, batches, y=None, *, steps_per_epoch, **kwargs):
        epoch = [checked_data.unpack(model, batch)[1] for batch in batches.take(steps_per_epoch)]
        raise Labels(np.concatenate(epoch))

    monkeypatch.setattr(zoo.GenerativeModel, "fit", fit)
    with pytest.raises(Labels) as epoch:
        zoo.training.train(config, zoo.training.Run(tmp_path / "run"), progress=False)
    (labels,) = epoch.value.args
    assert (labels >= 0).sum() == count


def test_at_least_one_hidden_layer_is_required():
    with pytest.raises(ValueError, match="`hidden` needs at least one"):
        build(SIZE, hidden=())
