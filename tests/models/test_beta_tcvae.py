"""beta-TCVAE: the VAE as a limit, unbiased densities by enumeration, and the parts of the rate."""

import itertools

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from speed import slow

import zoo
from zoo.models.beta_tcvae import log_aggregate

SEED = tf.constant([1, 2])


def small(**options):
    defaults = {"latent_dim": 3, "hidden": (5,), "dataset_size": 100}
    return zoo.models.beta_tcvae((8, 8, 1), **(defaults | options))


def arguments(model):
    return model.posterior, model.likelihood, model.prior


def test_with_unit_weights_loss_and_gradients_equal_the_vae(digits):
    model = small(beta=1.0, num_samples=2, free_bits=0.1)
    vae = zoo.VAE(*arguments(model), num_samples=2, free_bits=0.1)
    results = []
    for m in (model, vae):
        with tf.GradientTape() as tape:
            losses, _ = m.objective(tf.constant(digits[:7]), None, SEED, training=True)
        results.append((losses["vae"], tape.gradient(losses["vae"], m.trainable_variables)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
    for have, want in zip(*(gradients for _, gradients in results), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)


def test_the_parts_sum_to_the_log_ratio_of_posterior_and_prior(digits):
    model = small(num_samples=4)
    _, terms = model.objective(tf.constant(digits[:6]), None, SEED, training=True)
    q, z = model.draw_latents(tf.constant(digits[:6]), None, SEED, True)
    loc, scale = q.distribution.loc.numpy(), q.distribution.scale.numpy()
    log_q = scipy.stats.norm.logpdf(z.numpy(), loc, scale).sum(-1)
    log_p = scipy.stats.norm.logpdf(z.numpy()).sum(-1)
    parts = ("mutual_information", "total_correlation", "dimension_wise_kl")
    np.testing.assert_allclose(
        sum(terms[part].numpy() for part in parts), (log_q - log_p).mean(0), rtol=1e-4, atol=1e-4
    )


def test_each_weight_multiplies_its_part(digits):
    x = tf.constant(digits[:6])
    plain, terms = small(alpha=1.0, beta=1.0, gamma=1.0).objective(x, None, SEED, training=True)
    keras.utils.set_random_seed(0)
    weights = {"mutual_information": 3.0, "total_correlation": 0.5, "dimension_wise_kl": 2.0}
    model = small(alpha=3.0, beta=0.5, gamma=2.0)
    keras.utils.set_random_seed(0)
    reference = small(alpha=1.0, beta=1.0, gamma=1.0)
    model.set_weights(reference.get_weights())
    losses, terms = model.objective(x, None, SEED, training=True)
    plain, _ = reference.objective(x, None, SEED, training=True)
    added = sum((weight - 1) * terms[name].numpy() for name, weight in weights.items())
    np.testing.assert_allclose(losses["vae"], plain["vae"].numpy() + added, rtol=1e-5)


def test_the_warm_up_weights_all_parts_of_the_rate(digits):
    x = tf.constant(digits[:6])
    model = small(alpha=0.0, beta=6.0, gamma=0.0, warm_up_steps=10)
    losses, terms = model.objective(x, None, SEED, training=True)
    np.testing.assert_allclose(losses["vae"], terms["distortion"], rtol=1e-6)
    model.step.assign(5)  # Half of the warm-up.
    losses, terms = model.objective(x, None, SEED, training=True)
    # The rate has a formula; its three parts are estimates.
    rate = terms["rate"] - terms["mutual_information"] - terms["dimension_wise_kl"]
    expected = terms["distortion"] + 0.5 * (rate + 5 * terms["total_correlation"])
    np.testing.assert_allclose(losses["vae"], expected, rtol=1e-5)


def test_the_stratified_density_is_unbiased_over_all_minibatches():
    images, batch = 5, 3
    rng = np.random.default_rng(0)
    densities = rng.uniform(0.1, 2.0, size=(images, 2))  # q(z_d | x_n) at one z, drawn from image 0
    sums = [[], []]
    for others in itertools.permutations(range(1, images), batch - 1):
        rows = densities[[0, *others]]
        pairs = np.log(np.broadcast_to(rows, (1, batch, batch, 2))).astype(np.float32)
        joint, each = log_aggregate(tf.constant(pairs), images, "stratified")
        sums[0].append(np.exp(joint[0, 0]))
        sums[1].append(np.exp(each[0, 0]))
    np.testing.assert_allclose(np.mean(sums[0]), densities.prod(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(np.mean(sums[1], 0), densities.mean(0), rtol=1e-5)


def test_the_weighted_density_is_the_batch_mean_over_the_data_set_size():
    pairs = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    joint, each = log_aggregate(tf.constant(pairs), 50, "weighted")
    expected = scipy.special.logsumexp(pairs.sum(-1), 2) - np.log(50 * 4)
    np.testing.assert_allclose(joint, expected, rtol=1e-5)
    np.testing.assert_allclose(each, scipy.special.logsumexp(pairs, 2) - np.log(200), rtol=1e-5)


@pytest.mark.parametrize("estimator", ["stratified", slow("weighted")])
@pytest.mark.parametrize("size", [1, slow(2)])
def test_batches_of_any_size_train(digits, estimator, size):
    model = small(estimator=estimator)
    model.compile("adam", jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices(digits[:3]).batch(size)
    history = model.fit(data, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())


def test_the_total_correlation_is_near_zero_only_for_independent_codes():
    # Two latents, N = B = 400 images: the second latent is independent of the first, or its copy.
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 400))
    found = {}
    for name, second in (("independent", other), ("equal", first)):
        loc = np.stack([first, second], -1)
        z = loc + 0.1 * rng.normal(size=loc.shape)
        pairs = scipy.stats.norm.logpdf(z[:, None], loc[None], 0.1).astype(np.float32)
        joint, each = log_aggregate(tf.constant(pairs[None]), 400, "stratified")
        found[name] = float(np.mean(joint[0] - tf.reduce_sum(each[0], -1)))
    assert found["equal"] > found["independent"] + 0.5


def test_one_loss_updates_encoder_and_decoder(digits, weight_changes):
    model = small()
    model.compile(keras.optimizers.SGD(0.1))
    for change in weight_changes(model, lambda: model.train_step((tf.constant(digits[:7]),)))[
        "vae"
    ]:
        assert np.abs(change).max() > 1e-7


def test_adapt_sets_the_size_of_the_data_set():
    data = zoo.datasets.load("digits")
    model = small(dataset_size=0)
    with pytest.raises(ValueError, match=r"number of training images.*Received: dataset_size=None"):
        model.objective(tf.zeros([2, 8, 8, 1]), None, SEED, training=True)
    model.adapt(data)
    assert model.dataset_size == data.sizes["train"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta": -1.0},
        {"alpha": np.inf},
        {"estimator": "strat"},
        {"dataset_size": -3},
        {"posterior": "iaf"},
        {"posterior": "full_covariance"},
    ],
)
def test_invalid_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=r"Received: |Available: "):
        small(**wrong)
