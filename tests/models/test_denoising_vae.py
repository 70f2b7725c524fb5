"""The denoising VAE: its corruption, the VAE at zero corruption, and the order of its bounds."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from speed import slow

import zoo
from zoo.models.denoising_vae import Corruption
from zoo.schedules import LinearWarmUp

SEED = tf.constant([0, 1])


@keras.saving.register_keras_serializable("test_denoising_vae")
class Shift(Corruption):
    """A deterministic corruption: x~ = x / 2 + 0.1."""

    def __call__(self, x, seed):
        return 0.5 * x + 0.1


@pytest.fixture
def vae():
    return zoo.models.vae((8, 8, 1), latent_dim=3, hidden=(5,), likelihood="unit_normal")


@pytest.fixture
def x(digits):
    return tf.constant(digits[:7])


def parts(model):
    return model.posterior, model.likelihood, model.prior


def test_salt_and_pepper_corrupts_its_share_and_half_of_it_is_white():
    x = np.full((100, 20, 20, 3), 0.5, np.float32)
    noisy = zoo.SaltAndPepper(0.2)(x, [1, 2]).numpy()
    n = noisy.size
    for value, share in ((0.0, 0.1), (1.0, 0.1), (0.5, 0.8)):
        error = np.sqrt(share * (1 - share) / n)
        assert (noisy == value).mean() == pytest.approx(share, abs=4.5 * error)
    # Values and images are corrupted independently.
    hit = (noisy != 0.5).reshape(100, -1).astype(float)
    both = (hit[:, :-1] * hit[:, 1:]).mean()
    assert both == pytest.approx(0.04, abs=0.003)
    assert (hit[0] != hit[1]).any()
    assert (zoo.SaltAndPepper(0.2)(x, [1, 3]).numpy() != noisy).any()
    np.testing.assert_array_equal(zoo.SaltAndPepper(0.2)(x, [1, 2]), noisy)


def test_gaussian_noise_is_normal_with_its_scale():
    x = np.random.default_rng(0).uniform(size=(50, 10, 10, 1)).astype(np.float32)
    noise = zoo.GaussianNoise(0.3)(x, [1, 2]).numpy() - x
    assert scipy.stats.kstest(noise.ravel() / 0.3, "norm").pvalue > 1e-3


@pytest.mark.parametrize("no_corruption", [zoo.SaltAndPepper(0.0), zoo.GaussianNoise(0.0)])
def test_zero_corruption_equals_the_vae_bit_for_bit(vae, x, no_corruption):
    results = []
    for model in (vae, zoo.DenoisingVAE(*parts(vae), no_corruption)):
        with tf.GradientTape() as tape:
            losses, terms = model.objective(x, None, SEED, training=True)
        results.append([*losses.values(), *terms.values()])
        results[-1] += tape.gradient(losses["vae"], vae.trainable_variables)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_zero_corruption_with_several_draws_equals_the_vae(vae, x):
    plain = zoo.VAE(*parts(vae), num_samples=3)
    noisy = zoo.DenoisingVAE(*parts(vae), zoo.SaltAndPepper(0.0), num_samples=3)
    have, want = (m.objective(x, None, SEED, True)[0]["vae"] for m in (noisy, plain))
    np.testing.assert_allclose(have, want, rtol=1e-5)


def test_the_encoder_receives_the_corrupted_image_and_the_loss_the_clean_image(vae, x):
    model = zoo.DenoisingVAE(*parts(vae), Shift())
    losses, terms = model.objective(x, None, SEED, training=True)
    q = vae.posterior(0.5 * x + 0.1)
    z = q.sample(seed=SEED)
    means = np.asarray(vae.likelihood(z).mean(), np.float64)
    squares = (np.asarray(x) - means) ** 2 + np.log(2 * np.pi)
    loc, scale = np.asarray(q.mean(), np.float64), np.asarray(q.stddev(), np.float64)
    np.testing.assert_allclose(terms["distortion"], 0.5 * squares.sum((1, 2, 3)), rtol=1e-5)
    rate = 0.5 * (loc**2 + scale**2 - 1 - 2 * np.log(scale)).sum(1)
    np.testing.assert_allclose(terms["rate"], rate, rtol=1e-4)
    np.testing.assert_allclose(losses["vae"], terms["distortion"] + terms["rate"], rtol=1e-5)


def test_each_draw_has_an_independent_corruption():
    seen = []

    class Recorder(Corruption):
        def __call__(self, x, seed):
            noisy = zoo.SaltAndPepper(0.5)(x, seed)
            seen.append(noisy)
            return noisy

    vae = zoo.models.vae((8, 8, 1), latent_dim=3, hidden=(5,))
    model = zoo.DenoisingVAE(*parts(vae), Recorder(), num_samples=3)
    model.objective(tf.fill([2, 8, 8, 1], 0.5), None, SEED, training=True)
    (noisy,) = seen
    assert noisy.shape == (3, 2, 8, 8, 1)
    flat = np.asarray(noisy).reshape(6, -1)
    assert len(np.unique(flat, axis=0)) == 6


def test_images_are_clean_outside_training(vae, x):
    model = zoo.DenoisingVAE(*parts(vae), zoo.SaltAndPepper(0.5))
    have, want = (m.objective(x, None, SEED, training=False)[0]["vae"] for m in (model, vae))
    np.testing.assert_array_equal(have, want)
    np.testing.assert_array_equal(model.encode(x), vae.encode(x))
    np.testing.assert_array_equal(model.log_prob(x, 3, seed=1), vae.log_prob(x, 3, seed=1))
    noisy, _ = model.objective(x, None, SEED, True)
    clean, _ = vae.objective(x, None, SEED, True)
    assert (np.abs(noisy["vae"] - clean["vae"]) > 1e-3).all()


# A model of one pixel, with numbers small enough for integrals on a grid.
GRID = np.linspace(-8, 8, 1601)
FLIP = 0.3


def tiny(corruption=None, **kwargs):
    vae = zoo.models.vae((1, 1, 1), latent_dim=1, hidden=(), likelihood="bernoulli")
    vae.posterior.network.set_weights([np.array([[1.6, 0.4]]), np.array([-0.7, 0.1])])
    vae.likelihood.network.set_weights([np.array([[1.3]]), np.array([0.2])])
    if corruption is None:
        return zoo.VAE(*parts(vae), **kwargs)
    kind = zoo.DenoisingIWAE if kwargs.pop("weighted", False) else zoo.DenoisingVAE
    return kind(*parts(vae), corruption, **kwargs)


def integral(values):
    return values.sum() * (GRID[1] - GRID[0])


def bounds_by_enumeration(x):
    """L_dvae, L_cvae and log p(x) of the pixel x, by sums over x~ and integrals over z."""
    model = tiny()
    z = GRID[:, None].astype(np.float32)
    logit = np.asarray(model.likelihood.network(z), np.float64).ravel()
    log_joint = scipy.stats.norm.logpdf(GRID) - np.logaddexp(0, -logit if x else logit)
    posteriors = model.posterior(np.array([0, 1], np.float32).reshape(2, 1, 1, 1))
    loc, scale = (np.asarray(m, np.float64).ravel() for m in
                  (posteriors.mean(), posteriors.stddev()))  # fmt: skip
    log_q = [scipy.stats.norm.logpdf(GRID, loc[i], scale[i]) for i in (0, 1)]
    # Half of the noise leaves the pixel as it is.
    p = {x: 1 - FLIP / 2, 1 - x: FLIP / 2}
    dvae = sum(p[i] * integral(np.exp(log_q[i]) * (log_joint - log_q[i])) for i in (0, 1))
    mixture = sum(p[i] * np.exp(log_q[i]) for i in (0, 1))
    cvae = integral(mixture * (log_joint - np.log(mixture)))
    return dvae, cvae, np.log(integral(np.exp(log_joint)))


@pytest.mark.parametrize("pixel", [0, slow(1)])
def test_the_loss_matches_enumeration_and_the_bounds_have_the_papers_order(pixel):
    dvae, cvae, likelihood = bounds_by_enumeration(pixel)
    assert dvae + 0.01 < cvae < likelihood - 0.01
    x = tf.fill([40_000, 1, 1, 1], float(pixel))
    losses, _ = tiny(zoo.SaltAndPepper(FLIP)).objective(x, None, SEED, training=True)
    error = float(losses["vae"].numpy().std() / 200)
    assert -losses["vae"].numpy().mean() == pytest.approx(dvae, abs=4.5 * error)
    assert error < 0.005
    estimate = tf.function(tiny().log_prob)(x[:100], 300, seed=1)
    assert float(tf.reduce_mean(estimate)) == pytest.approx(likelihood, abs=0.02)


def test_the_importance_weighted_bound_rises_from_the_denoising_bound_to_the_likelihood():
    dvae, _, likelihood = bounds_by_enumeration(1)
    x = tf.ones([10_000, 1, 1, 1])
    means, errors = [], []
    for k in (1, 3, 100):
        model = tiny(zoo.SaltAndPepper(FLIP), weighted=True, num_samples=k)
        losses, _ = model.objective(x, None, SEED, training=True)
        means.append(-losses["vae"].numpy().mean())
        errors.append(float(losses["vae"].numpy().std() / np.sqrt(len(x))))
    assert means[0] == pytest.approx(dvae, abs=4.5 * errors[0])
    assert means[0] < means[1] < means[2] < likelihood + 3 * errors[2]
    assert means[2] == pytest.approx(likelihood, abs=0.02)


@pytest.mark.parametrize("doubly", [False, True])
def test_each_importance_weight_uses_the_corruption_of_its_draw(doubly):
    seen = []

    class Recorder(Corruption):
        def __call__(self, x, seed):
            seen.append(zoo.SaltAndPepper(0.5)(x, seed))
            return seen[-1]

    model = tiny(Recorder(), weighted=True, num_samples=4, doubly_reparameterised=doubly)
    x = tf.constant([0.0, 1.0, 1.0])[:, None, None, None]
    losses, _ = model.objective(x, None, SEED, training=True)
    q = model.posterior(seen[0])
    z = np.asarray(q.sample(seed=SEED), np.float64)
    log_q = scipy.stats.norm.logpdf(z, q.mean(), q.stddev())[..., 0]
    logit = 1.3 * z[..., 0] + 0.2
    log_lik = -np.logaddexp(0, np.where(np.asarray(x).ravel() == 1, -logit, logit))
    log_w = log_lik + scipy.stats.norm.logpdf(z)[..., 0] - log_q
    by_hand = np.log(4) - scipy.special.logsumexp(log_w, 0)
    np.testing.assert_allclose(losses["vae"], by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_loss_updates_encoder_and_decoder_and_a_file_keeps_the_corruption(
    digits, weight_changes, tmp_path, weighted
):
    build = zoo.models.denoising_iwae if weighted else zoo.models.denoising_vae
    model = build((8, 8, 1), latent_dim=3, hidden=(5,), num_samples=2, warm_up_steps=9)
    assert type(model) is (zoo.DenoisingIWAE if weighted else zoo.DenoisingVAE)
    model.compile(keras.optimizers.SGD(0.1))
    model.step.assign(5)
    for change in weight_changes(model, lambda: model.train_step((tf.constant(digits[:7]),)))[
        "vae"
    ]:
        assert np.abs(change).max() > 1e-7
    model.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(twin.rate_weight, LinearWarmUp) and twin.num_samples == 2
    assert twin.corruption.get_config() == {"probability": 0.05}


def test_invalid_arguments_are_refused():
    for make in (
        lambda: zoo.SaltAndPepper(1.5),
        lambda: zoo.GaussianNoise(-1.0),
        lambda: zoo.models.denoising_vae((8, 8, 1), salt_and_pepper=0.1, gaussian=0.1),
        lambda: zoo.models.denoising_vae((8, 8, 1), salt_and_pepper=-0.1),
    ):
        with pytest.raises(ValueError, match=r"Received: "):
            make()
    assert (
        zoo.models.denoising_vae((8, 8, 1), salt_and_pepper=0.0, gaussian=0.2).corruption.scale
        == 0.2
    )
