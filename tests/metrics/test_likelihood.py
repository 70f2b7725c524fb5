"""Importance-sampled likelihoods against a model whose likelihood is known in closed form."""

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from scipy import stats

import zoo
from zoo.metrics import negative_log_likelihood

tfd = tfp.distributions
SIDE, LATENT, NOISE = 2, 2, 0.3
PIXELS = SIDE * SIDE


@keras.saving.register_keras_serializable("test_likelihood")
class FixedScale(zoo.distributions.Family):
    """A normal of the given standard deviations around the network's output."""

    params_per_value = 1

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, params, event_ndims):
        scale = np.broadcast_to(np.float32(self.scale), params.shape[-event_ndims:])
        return tfd.Independent(tfd.Normal(params, scale), event_ndims)


@pytest.fixture(scope="module")
def linear_gaussian():
    """`(model(spread), images, log p(x) of each)`: x = W z + b + noise, with q(z | x) exact.

    The columns of W are orthogonal, so that the exact posterior has a diagonal covariance;
    `spread` widens q's standard deviations beyond it.
    """
    rng = np.random.default_rng(0)
    w = np.linalg.qr(rng.normal(size=[PIXELS, LATENT]))[0] * [0.5, 0.2]
    b = np.full(PIXELS, 0.5)
    precision = np.diag(1 + (w**2).sum(0) / NOISE**2)
    gain = np.linalg.inv(precision) @ w.T / NOISE**2

    def model(spread=1.0):
        encoder = keras.Sequential(
            [keras.Input((SIDE, SIDE, 1)), keras.layers.Flatten(), keras.layers.Dense(LATENT)]
        )
        encoder.layers[-1].set_weights([gain.T, -gain @ b])
        decoder = keras.Sequential(
            [
                keras.Input((LATENT,)),
                keras.layers.Dense(PIXELS),
                keras.layers.Reshape((SIDE, SIDE, 1)),
            ]
        )
        decoder.layers[0].set_weights([w.T, b])
        return zoo.VAE(
            zoo.Conditional(encoder, FixedScale(spread / np.sqrt(np.diag(precision)))),
            zoo.Conditional(decoder, FixedScale(NOISE)),
            zoo.StandardNormal(LATENT),
        )

    x = rng.random([23, SIDE, SIDE, 1]).astype("float32")
    exact = stats.multivariate_normal(b, w @ w.T + NOISE**2 * np.eye(PIXELS))
    return model, x, exact.logpdf(x.reshape(23, PIXELS))


@pytest.mark.parametrize("num_samples", [1, 2, 50])
@pytest.mark.parametrize("batch_size", [5, 500])
def test_with_the_exact_posterior_any_number_of_samples_gives_the_exact_value(
    linear_gaussian, num_samples, batch_size
):
    model, x, exact = linear_gaussian
    result = negative_log_likelihood(model(), x, num_samples, batch_size)
    assert result["nll"] == pytest.approx(-exact.mean(), abs=1e-4)
    assert result["stderr"] == pytest.approx(exact.std(ddof=1) / np.sqrt(23), rel=1e-3)
    assert result["bits_per_dim"] == pytest.approx(result["nll"] / PIXELS / np.log(2))
    assert result["num_samples"] == num_samples and result["num_images"] == 23


def test_with_another_posterior_the_bound_tightens_with_more_samples(linear_gaussian):
    model, x, exact = linear_gaussian
    wide = model(spread=2.0)
    values = [
        np.mean([negative_log_likelihood(wide, x, k, seed=s)["nll"] for s in range(5)])
        for k in (1, 4, 16, 256)
    ]
    assert values == sorted(values, reverse=True) and values[0] > values[-1] + 0.1
    assert values[-1] == pytest.approx(-exact.mean(), abs=0.02)


def test_the_seed_alone_decides_the_estimate(linear_gaussian):
    model, x, _ = linear_gaussian
    wide = model(spread=2.0)
    a, b, c = (negative_log_likelihood(wide, x, 3, seed=seed)["nll"] for seed in (7, 7, 8))
    assert a == b != c


def test_a_single_image_has_no_standard_error(linear_gaussian):
    model, x, exact = linear_gaussian
    result = negative_log_likelihood(model(), x[:1], 3)
    assert result["stderr"] is None and result["nll"] == pytest.approx(-exact[0], abs=1e-4)


def test_a_bernoulli_of_grey_images_has_no_likelihood(digits):
    model = zoo.presets.BUILDERS["vae_mlp"]((8, 8, 1), latent_dim=2, hidden=(8,))
    result = negative_log_likelihood(model, digits[:20], 2)
    assert result["nll"] is None and "Binarise" in result["reason"]
    assert "stderr" not in result
    black_and_white = (digits[:20] > 0.5).astype("float32")
    assert negative_log_likelihood(model, black_and_white, 2)["nll"] > 0


def test_a_gan_has_no_likelihood(digits):
    model = zoo.presets.BUILDERS["gan_mlp"]((8, 8, 1), latent_dim=2)
    result = negative_log_likelihood(model, digits[:5], 2)
    assert result["nll"] is None and result["reason"] == "A GAN has no likelihood."


def test_images_beyond_0_and_1_are_refused(linear_gaussian):
    model, x, _ = linear_gaussian
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        negative_log_likelihood(model(), 255 * x, 2)
