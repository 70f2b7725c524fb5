"""InfoVAE against the VAE, and its loss and its gradient by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from speed import slow

import zoo
from zoo.discrepancies import RBF, InverseMultiquadric

tfd = tfp.distributions
SEED = tf.constant([4, 5])


def small(known, cls=zoo.InfoVAE, prior=None, posterior=None, **arguments):
    keras.utils.set_random_seed(0)
    return cls(
        zoo.Conditional(
            zoo.networks.mlp_encoder((8, 8, 1), 6, (5,)), posterior or known.Posterior()
        ),
        zoo.Conditional(zoo.networks.mlp_decoder(3, (8, 8, 1), 1, (5,)), zoo.UnitNormal()),
        prior or known.Prior(3),
        **arguments,
    )


def objective(model, x, training=True):
    losses, terms = model.objective(tf.constant(x), None, SEED, training)
    return losses["vae"].numpy(), {name: term.numpy() for name, term in terms.items()}


def mmd_by_hand(x, y, squared_bandwidth, unbiased):
    def k(a, b):
        return np.exp(-((a[:, None] - b) ** 2).sum(-1) / (2 * squared_bandwidth))

    n = len(x)
    kx, ky = k(x, x), k(y, y)
    both = kx + ky
    within = (both.sum() - 2 * n) / (n * (n - 1)) if unbiased else both.mean()
    return within - 2 * k(x, y).mean()


def parts_by_hand(model, known, x, draws=1):
    """Distortion and rate `[B]`, codes `[draws, B, D]`, with known noise."""
    loc, log_scale = np.split(np.asarray(model.posterior.network(x), np.float64), 2, 1)
    z = loc + np.exp(log_scale) * known.noise(draws, *loc.shape)
    rate = 0.5 * (loc**2 + np.exp(2 * log_scale) - 1 - 2 * log_scale).sum(1)
    distortion = np.mean(
        [
            0.5
            * (
                (x - np.asarray(model.likelihood.network(each.astype(np.float32)))) ** 2
                + np.log(2 * np.pi)
            ).sum((1, 2, 3))
            for each in z
        ],
        0,
    )
    return distortion, rate, z


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(("alpha", "lambda_"), [slow(1.0, 30.0), slow(0.4, 2.0), (-2.0, 5.0)])
def test_the_loss_matches_the_paper(known, digits, alpha, lambda_, unbiased):
    x = digits[:7]
    model = small(known, alpha=alpha, lambda_=lambda_, unbiased=unbiased, start_at_mean=False)
    distortion, rate, z = parts_by_hand(model, known, x)
    mmd = mmd_by_hand(z[0], known.noise(1, 7, 3)[0], 3.0, unbiased)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    logs = model.fit(x, batch_size=7, shuffle=False, verbose=0).history
    assert logs["distortion"][0] == pytest.approx(distortion.mean(), rel=1e-5)
    assert logs["rate"][0] == pytest.approx(rate.mean(), rel=1e-4)
    assert logs["discrepancy"][0] == pytest.approx(mmd, rel=1e-4)
    loss = distortion.mean() + (1 - alpha) * rate.mean() + (alpha + lambda_ - 1) * mmd
    assert logs["loss"][0] == pytest.approx(loss, rel=1e-5)
    held_out = model.evaluate(x, batch_size=7, verbose=0, return_dict=True)
    assert held_out["loss"] == pytest.approx(loss, rel=1e-5)


def trained(model, x):
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(x, batch_size=10, epochs=2, verbose=0, validation_data=x).history
    return history, [v.numpy() for v in model.trainable_variables]


@pytest.mark.parametrize(
    "settings",
    [slow({}), slow({"num_samples": 3}), {"free_bits": 0.5}, slow({"rate_weight": 0.5})],
    ids=str,
)
def test_alpha_0_and_lambda_1_equal_the_vae_bit_for_bit(known, digits, settings):
    parts = {"posterior": zoo.DiagonalNormal(), "prior": zoo.StandardNormal(3)}
    history, weights = trained(small(known, zoo.VAE, **parts, **settings), digits[:30])
    same, same_weights = trained(
        small(known, **parts, alpha=0.0, lambda_=1.0, **settings), digits[:30]
    )
    for name in history:
        np.testing.assert_array_equal(same[name], history[name], name)
    for a, b in zip(weights, same_weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(same["discrepancy"]).min() > 1e-4


def test_alpha_one_minus_b_and_lambda_b_equal_the_beta_vae(known, digits):
    beta = small(known, zoo.BetaVAE, beta=7.0)
    info = small(known, alpha=-6.0, lambda_=7.0)
    x = tf.constant(digits[:20])
    np.testing.assert_allclose(
        info.objective(x, None, SEED, True)[0]["vae"],
        beta.objective(x, None, SEED, True)[0]["vae"],
        rtol=1e-6,
    )


def test_alpha_1_drops_the_kl(known, digits):
    x = tf.constant(digits[:6])
    model = small(known, alpha=1.0, lambda_=3.0)
    weights = model.posterior.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        losses, terms = model.objective(x, None, SEED, True)
        others = terms["distortion"] + 3 * terms["discrepancy"]
        rate = terms["rate"]
    np.testing.assert_array_equal(losses["vae"], others)
    for have, want, of_rate in zip(
        *(tape.gradient(t, weights) for t in (losses["vae"], others, rate)), strict=True
    ):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)
        assert np.abs(of_rate).max() > 1e-2


def test_lambda_scales_only_the_discrepancy(known, digits):
    x = digits[:8]
    models = [small(known, alpha=0.5, lambda_=lambda_) for lambda_ in (0.5, 1.5, 10.5)]
    (none, terms), (one, _), (ten, last) = (objective(m, x) for m in models)
    np.testing.assert_allclose(none, terms["distortion"] + 0.5 * terms["rate"], rtol=1e-6)
    np.testing.assert_allclose(one - none, terms["discrepancy"], atol=2e-5)
    np.testing.assert_allclose(ten - none, 10 * terms["discrepancy"], atol=5e-5)
    assert np.abs(terms["discrepancy"]).min() > 1e-3
    for name in terms:
        np.testing.assert_array_equal(terms[name], last[name])


def test_several_draws_average_several_estimates(known, digits):
    x = digits[:7]
    model = small(known, num_samples=4)
    distortion, _, z = parts_by_hand(model, known, x, draws=4)
    _, terms = objective(model, x)
    np.testing.assert_allclose(terms["distortion"], distortion, rtol=1e-5)
    values = [
        mmd_by_hand(codes, prior, 3.0, True)
        for codes, prior in zip(z, known.noise(4, 7, 3), strict=True)
    ]
    assert terms["discrepancy"].mean() == pytest.approx(np.mean(values), rel=1e-4)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_both_networks_descend_the_gradient(known, digits, weight_changes, assert_descends, alpha):
    model = small(known, alpha=alpha, lambda_=20.0)
    encoder, decoder = model.posterior.network, model.likelihood.network
    x = tf.constant(digits[:7])

    def k(a, b):
        return tf.exp(-tf.reduce_sum((a[:, None] - b) ** 2, -1) / 6)

    with tf.GradientTape(persistent=True) as tape:
        loc, log_scale = tf.split(encoder(x), 2, 1)
        z = loc + tf.exp(log_scale) * known.noise(1, 7, 3)[0]
        rate = 0.5 * tf.reduce_sum(loc**2 + tf.exp(2 * log_scale) - 1 - 2 * log_scale, 1)
        distortion = 0.5 * tf.reduce_sum((x - decoder(z)) ** 2, [1, 2, 3])
        # Without constant terms: the pairs of prior draws, and the pairs of a point with itself.
        mmd = tf.reduce_sum(k(z, z)) / 42 - 2 * tf.reduce_mean(k(z, known.noise(1, 7, 3)[0]))
        loss = tf.reduce_mean(distortion + (1 - alpha) * rate) + (alpha + 19) * mmd
    variables = encoder.trainable_variables + decoder.trainable_variables
    gradients = tape.gradient(loss, variables)
    assert all(g is None for g in tape.gradient(mmd, decoder.trainable_variables))
    of_mmd = tape.gradient(mmd, encoder.trainable_variables)
    assert max(np.abs(g).max() for g in of_mmd) > 1e-3
    model.compile(keras.optimizers.SGD(1.0))
    assert_descends(weight_changes(model, lambda: model.train_step((x,)))["vae"], gradients)


def test_posterior_and_prior_draw_independent_noise(known, digits):
    # With shared noise, a posterior equal to the prior would have the draws of the prior, and the
    # V-statistic of equal sets is 0.
    model = small(
        known, posterior=zoo.DiagonalNormal(), prior=zoo.StandardNormal(3), unbiased=False
    )
    *weights, kernel, _ = model.posterior.network.get_weights()
    raw = np.log(np.expm1(1 - 1e-4))
    model.posterior.network.set_weights([*weights, 0 * kernel, np.repeat([0, raw], 3)])
    _, terms = objective(model, digits[:100])
    assert 2e-3 < terms["discrepancy"].mean() < 0.05


@pytest.mark.slow
def test_training_matches_the_codes_to_the_prior():
    # The discrepancy dominates the loss: q(z) converges to the moments of N(0, I).
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).uniform(size=(400, 4, 4, 1)).astype(np.float32)
    model = zoo.models.info_vae(
        (4, 4, 1), latent_dim=2, hidden=(16,), likelihood="unit_normal", lambda_=1e4
    )
    network = model.posterior.network
    *rest, bias = network.get_weights()
    network.set_weights([*rest, bias + np.float32([2, -2, -3, -3])])

    def moments():
        z = model.posterior(tf.constant(x)).sample(20, seed=[1, 2]).numpy().reshape(-1, 2)
        return np.abs(z.mean(0)).max(), np.abs(z.std(0) - 1).max()

    before = moments()
    model.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    model.fit(x, batch_size=200, epochs=60, verbose=0)
    after = moments()
    assert before[0] > 1 and before[1] > 0.5
    assert after[0] < 0.15 and after[1] < 0.15


@pytest.mark.slow
def test_two_replicas_report_the_discrepancy_of_the_whole_batch(known, digits, mirrored):
    # Replicas draw different noise; the noise of these parts is negligible.
    x = digits[:12]

    def build():
        model = small(known, posterior=FirstHalf(), prior=Point(3), alpha=1.0, lambda_=5.0)
        model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        return model

    alone = build()
    with mirrored.scope():
        model = build()
    data = tf.data.Dataset.from_tensors(x).repeat(3).unbatch().batch(12)
    logs = [m.fit(data, verbose=0).history for m in (model, alone)]
    for name in ("loss", "distortion", "discrepancy"):
        assert logs[0][name][0] == pytest.approx(logs[1][name][0], rel=1e-5)
    assert logs[0]["discrepancy"][0] > 1e-3
    for a, b in zip(model.trainable_variables, alone.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)


class FirstHalf(zoo.distributions.Family):
    """The first half of the network's outputs as code, with negligible noise."""

    params_per_value = 2

    def call(self, params, event_ndims):
        loc = tf.split(params, 2, -1)[0]
        return tfd.Independent(tfd.Normal(loc, 1e-7), event_ndims)


class Point(zoo.distributions.Prior):
    """Almost all mass on (1, 1, ..)."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim

    def call(self, y=None):
        return tfd.Independent(tfd.Normal(tf.ones(self.dim), 1e-7), 1)


def test_builders_pass_settings_to_the_model():
    for model in (
        zoo.models.info_vae(
            (8, 8, 1), latent_dim=3, hidden=(4,), alpha=0.5, lambda_=7.0, kernel="imq"
        ),
        zoo.models.info_vae(
            (8, 8, 1),
            network="conv",
            latent_dim=3,
            filters=(4,),
            hidden=(4,),
            alpha=0.5,
            lambda_=7.0,
            kernel="imq",
        ),
    ):
        assert (model.alpha, model.lambda_, model.latent_dim) == (0.5, 7.0, 3)
        assert isinstance(model.kernel, InverseMultiquadric) and model.unbiased
    default = zoo.models.info_vae((8, 8, 1), latent_dim=3, hidden=(4,), unbiased=False)
    assert isinstance(default.kernel, RBF) and not default.unbiased


def test_a_kernel_is_saved(known, tmp_path):
    model = zoo.models.info_vae((8, 8, 1), latent_dim=3, hidden=(4,))
    model.kernel = InverseMultiquadric(2.5, (1.0, 3.0))
    model.unbiased = False
    model.save(tmp_path / "m.keras")
    twin = keras.saving.load_model(tmp_path / "m.keras")
    assert isinstance(twin.kernel, InverseMultiquadric) and not twin.unbiased
    assert twin.kernel.bandwidth == 2.5 and twin.kernel.scales == (1.0, 3.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.5}, "`alpha` must be at most 1.*Received: 1.5"),
        ({"alpha": float("nan")}, "`alpha`"),
        ({"alpha": 0.2, "lambda_": 0.5}, "`lambda_` must be.*alpha=0.2, lambda_=0.5"),
        ({"lambda_": float("inf")}, "`lambda_`"),
    ],
)
def test_invalid_arguments_are_refused(known, arguments, message):
    with pytest.raises(ValueError, match=message):
        small(known, **arguments)
    small(known, alpha=0.9, lambda_=0.1)  # Their sum is 1 up to rounding.


def test_a_trainable_mixture_is_refused(known):
    with pytest.raises(ValueError, match=r"must be differentiable.*Received: a MixturePrior"):
        small(known, posterior=zoo.DiagonalNormal(), prior=zoo.MixturePrior(3, 2))
