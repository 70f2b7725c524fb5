"""Importance-sampled likelihoods against a model whose likelihood is known in closed form."""

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from scipy import stats
from small import build

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
def test_the_exact_posterior_gives_the_exact_value_for_any_number_of_samples(
    linear_gaussian, num_samples, batch_size
):
    model, x, exact = linear_gaussian
    result = negative_log_likelihood(model(), x, num_samples, batch_size)
    assert result.value == pytest.approx(-exact.mean(), abs=1e-4)
    assert result.stderr == pytest.approx(stats.sem(exact), rel=1e-3)
    assert result.n_real == 23
    assert result.estimator == {
        "method": "importance sampling",
        "of": "a density",
        "K": num_samples,
        "batch_size": batch_size,
        "seed": 0,
    }


def test_the_bound_of_another_posterior_tightens_with_more_samples(linear_gaussian):
    model, x, exact = linear_gaussian
    wide, repeated = model(spread=2.0), np.repeat(x, 100, 0)
    gaps = [
        negative_log_likelihood(wide, repeated, k).value + exact.mean() for k in (1, 4, 16, 256)
    ]
    # With one sample it is the ELBO, short of log p(x) by KL(q(z | x) || p(z | x)).
    assert gaps[0] == pytest.approx(LATENT * (-np.log(2) + (2**2 - 1) / 2), abs=0.1)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[2] - gaps[3] > 0 and gaps[3] == pytest.approx(0, abs=0.01)


def test_the_estimate_depends_on_the_seed_only(linear_gaussian):
    model, x, _ = linear_gaussian
    wide = model(spread=2.0)
    a, b, c = (negative_log_likelihood(wide, x, 3, seed=seed).value for seed in (7, 7, 8))
    assert a == b != c


def test_batches_and_rounds_have_independent_noise(linear_gaussian):
    model, x, exact = linear_gaussian
    wide, same = model(spread=2.0), np.repeat(x[:1], 2, 0)
    apart = negative_log_likelihood(wide, same, 1, batch_size=1)
    assert apart.stderr > 0  # The same image twice: the draws differ.
    # 100 samples are one round. A second round with the same noise would not change the value.
    one, two = (negative_log_likelihood(wide, same, k).value for k in (100, 200))
    assert one != pytest.approx(two, abs=1e-5)
    assert two == pytest.approx(-exact[0], abs=0.2)


def test_progress_counts_all_samples(linear_gaussian):
    model, x, _ = linear_gaussian
    calls = []
    negative_log_likelihood(model(), x, 150, 20, progress=lambda *at: calls.append(at))
    total = 23 * 150
    assert calls == [(n, total) for n in (20 * 100, 20 * 150, 20 * 150 + 3 * 100, total)]


def test_a_single_image_has_no_standard_error(linear_gaussian):
    model, x, exact = linear_gaussian
    result = negative_log_likelihood(model(), x[:1], 3)
    assert result.stderr is None and result.value == pytest.approx(-exact[0], abs=1e-4)


def vae(**changes):
    return build("vae_digits", **changes)


def test_binary_images_under_a_bernoulli_have_bits(digits):
    black_and_white = (digits[:20] > 0.5).astype("float32")
    result = negative_log_likelihood(vae(), black_and_white, 2)
    # An untrained model needs about one bit for each pixel.
    assert result.details["bits_per_dim"] == pytest.approx(result.value / 64 / np.log(2))
    assert 0.8 < result.details["bits_per_dim"] < 1.3


def test_a_bernoulli_of_grey_images_has_no_likelihood(digits):
    with pytest.raises(ValueError, match="Binarise"):
        negative_log_likelihood(vae(), digits[:20], 2)


def test_a_discretized_likelihood_has_bits_on_its_levels_only(digits):
    model = vae(likelihood="discretized_logistic", levels=17)
    result = negative_log_likelihood(model, digits[:20], 2)
    assert result.details == {"bits_per_dim": pytest.approx(result.value / 64 / np.log(2))}
    with pytest.raises(ValueError, match="levels=17"):
        negative_log_likelihood(model, 0.99 * digits[:20], 2)
    fine = vae(likelihood="discretized_logistic")
    shades = np.arange(256, dtype=np.float32).reshape(4, 8, 8, 1) / 255
    assert negative_log_likelihood(fine, shades, 1).details["bits_per_dim"] > 0


def test_a_density_on_levels_has_no_bits(digits):
    result = negative_log_likelihood(vae(likelihood="normal"), digits[:20], 2)
    assert result.details["bits_per_dim"] is None
    assert "DiagonalNormal" in result.details["reason"]


def test_a_gan_has_no_likelihood(digits):
    model = build("gan_digits")
    with pytest.raises(ValueError, match="a GAN, which has no likelihood"):
        negative_log_likelihood(model, digits[:5], 2)


def test_images_out_of_range_and_empty_sets_are_refused(linear_gaussian):
    model, x, _ = linear_gaussian
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        negative_log_likelihood(model(), 255 * x, 2)
    with pytest.raises(ValueError, match="at least 1 image"):
        negative_log_likelihood(model(), x[:0], 2)


@pytest.mark.parametrize("name", ["num_samples", "batch_size"])
def test_numbers_below_1_are_refused(linear_gaussian, name):
    model, x, _ = linear_gaussian
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1"):
        negative_log_likelihood(model(), x, **{name: 0})


def test_non_finite_weights_are_refused(linear_gaussian):
    model, x, _ = linear_gaussian
    broken = model()
    broken.likelihood.network.layers[0].bias.assign(np.full(PIXELS, np.nan))
    with pytest.raises(ValueError, match="nan for image 0"):
        negative_log_likelihood(broken, x, 2)
