"""Two layers of latents against a linear-Gaussian model with exact densities."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import zoo

# z2 ~ N(0, 1), z1 | z2 ~ N(A z2 + C, S^2), x | z1, z2 ~ N(W z1 + V z2 + M, NOISE^2).
SHAPE, PIXELS, BOTTOM, TOP, S, NOISE = (2, 2, 1), 4, 2, 1, 0.6, 0.4
W = np.array([[0.5, 0.2], [0.5, -0.2], [-0.5, 0.3], [0.5, 0.3]])  # Orthogonal columns.
A, C = np.array([[0.9], [0.0]]), np.array([0.1, -0.2])
M = np.array([0.5, 0.4, 0.6, 0.5])
V = np.array([[0.3], [0.1], [-0.2], [0.4]])
X = np.random.default_rng(0).uniform(0, 1, (5, *SHAPE)).astype(np.float32)
SEED = tf.constant([0, 1])


def raw(scale):
    return np.log(np.expm1(np.asarray(scale) - 1e-4))


def normal(network, kernel, loc, scale):
    """A linear network's weights, for a mean `input @ kernel + loc` and a constant scale."""
    scales = np.broadcast_to(raw(scale), np.shape(loc))
    network.set_weights([
        np.concatenate([kernel, np.zeros(np.shape(kernel))], 1), np.concatenate([loc, scales])
    ])  # fmt: skip


def posterior_of(prior_mean, prior_cov, factors, offset, noise_cov):
    """The posterior of z ~ N(prior) given x = factors z + offset + noise: mean = K x + k, cov."""
    precision = np.linalg.inv(prior_cov) + factors.T @ np.linalg.inv(noise_cov) @ factors
    cov = np.linalg.inv(precision)
    gain = cov @ factors.T @ np.linalg.inv(noise_cov)
    return gain, cov @ np.linalg.inv(prior_cov) @ prior_mean - gain @ offset, cov


def model_of(downwards, kind=zoo.IWAE, shift=0.0, **kwargs):
    """The model above with its exact posterior, the first layer's mean shifted by `shift`."""
    build = zoo.models.hvae if downwards else zoo.models.hierarchical_iwae
    between = {} if downwards else {"hidden_between": ()}
    parts = build(SHAPE, latent_dims=(BOTTOM, TOP), hidden=(), likelihood="unit_normal", **between)
    noise = NOISE**2 * np.eye(PIXELS)
    first, second = parts.posterior.first.network, parts.posterior.second.network
    normal(parts.prior.bottom.network, A.T, C, S)
    decoder = parts.likelihood.network
    prior_cov = A @ A.T + S**2 * np.eye(BOTTOM)
    if downwards:
        decoder.set_weights([np.concatenate([W, V], 1).T, M])
        spread = S**2 * W @ W.T + noise
        gain, k, cov = posterior_of(np.zeros(1), np.eye(1), W @ A + V, W @ C + M, spread)
        normal(first, gain.T, k + shift, np.sqrt(np.diag(cov)))
        # z1 given x and z2: its prior's mean is A z2 + C, and V z2 + M is the images' offset.
        gain, k, cov = posterior_of(C, S**2 * np.eye(BOTTOM), W, M, noise)
        from_z2 = cov @ A / S**2 - gain @ V
        normal(second, np.concatenate([from_z2, gain], 1).T, k, np.sqrt(np.diag(cov)))
        assert np.abs(cov - np.diag(np.diag(cov))).max() < 1e-12
    else:
        decoder.set_weights([W.T, M])
        gain, k, cov = posterior_of(C, prior_cov, W, M, noise)
        assert np.abs(cov - np.diag(np.diag(cov))).max() < 1e-12
        normal(first, gain.T, k + shift, np.sqrt(np.diag(cov)))
        gain, k, cov = posterior_of(np.zeros(1), np.eye(1), A, C, S**2 * np.eye(BOTTOM))
        normal(second, gain.T, k, np.sqrt(np.diag(cov)))
    likelihood = zoo.Conditional(decoder, zoo.SharedScaleNormal(NOISE))
    return kind(parts.posterior, likelihood, parts.prior, **kwargs)


def exact(downwards):
    factors = W @ A + (V if downwards else 0)
    covariance = factors @ factors.T + S**2 * W @ W.T + NOISE**2 * np.eye(PIXELS)
    flat = X.reshape(-1, PIXELS).astype(np.float64)
    return scipy.stats.multivariate_normal(W @ C + M, covariance).logpdf(flat)


BOTH = pytest.mark.parametrize("downwards", [False, True], ids=["burda", "tomczak"])


@BOTH
@pytest.mark.parametrize("kind", [zoo.VAE, zoo.IWAE])
@pytest.mark.parametrize("num_samples", [1, 4])
def test_with_the_exact_posterior_each_bound_is_the_exact_likelihood(downwards, kind, num_samples):
    model = model_of(downwards, kind, num_samples=num_samples)
    losses, _ = model.objective(tf.constant(X), None, SEED, training=True)
    np.testing.assert_allclose(-losses["vae"], exact(downwards), atol=1e-4)
    np.testing.assert_allclose(model.log_prob(X, 3, seed=1), exact(downwards), atol=1e-4)


@BOTH
def test_the_gap_of_another_posterior_is_its_kl_to_the_exact_posterior(downwards):
    # The second layer's q is exact given the first, so the gap is the first layer's alone.
    model = model_of(downwards, zoo.VAE, shift=0.2)
    x = np.tile(X, (3000, 1, 1, 1))
    losses, _ = model.objective(tf.constant(x), None, SEED, training=True)
    elbos = -losses["vae"].numpy().reshape(3000, -1)
    scale = np.asarray(model.posterior.first(X[:1]).stddev(), np.float64)[0]
    gap = (0.5 * 0.2**2 / scale**2).sum()
    error = elbos.std(0) / np.sqrt(len(elbos))
    assert (np.abs(elbos.mean(0) - (exact(downwards) - gap)) < 4.5 * error).all()
    assert gap > 10 * error.max()
    x = tf.constant(np.tile(X, (20, 1, 1, 1)))
    many = tf.function(model.log_prob)(x, 300, seed=2).numpy().reshape(20, -1).mean(0)
    np.testing.assert_allclose(many, exact(downwards), atol=0.02)


def test_the_doubly_reparameterised_gradient_has_no_variance_at_the_exact_posterior():
    model = model_of(False, num_samples=4, doubly_reparameterised=True)
    with tf.GradientTape() as tape:
        losses, _ = model.objective(tf.constant(X), None, SEED, training=True)
    for slope in tape.gradient(losses["vae"], model.posterior.trainable_variables):
        assert np.abs(slope).max() < 1e-3


def chain():
    network = zoo.networks.mlp(TOP, 2, (6,), "tanh")
    return zoo.HierarchicalPrior(
        zoo.StandardNormal(TOP), zoo.Conditional(network, zoo.DiagonalNormal())
    )


def test_a_prior_of_two_layers_is_the_product_of_both_and_integrates_to_one():
    prior = chain()
    step = 0.05
    z1, z2 = np.meshgrid(np.arange(-8, 8, step), np.arange(-5, 5, step), indexing="ij")
    z = np.stack([z1, z2], -1).reshape(-1, 2).astype(np.float32)
    log_p = np.asarray(prior().log_prob(z), np.float64)
    bottom = prior.bottom(z[:, 1:])
    by_hand = scipy.stats.norm.logpdf(z[:, 1]) + scipy.stats.norm.logpdf(
        z[:, 0], np.asarray(bottom.mean())[:, 0], np.asarray(bottom.stddev())[:, 0]
    )
    np.testing.assert_allclose(log_p, by_hand, rtol=1e-4, atol=1e-4)
    assert np.exp(log_p).sum() * step**2 == pytest.approx(1, abs=1e-3)
    assert float(prior().log_prob(z[7])) == pytest.approx(log_p[7], rel=1e-5)
    # Its draws have the moments of that density.
    draws = np.asarray(prior().sample(100_000, seed=[1, 2]), np.float64)
    density = np.exp(log_p) * step**2
    for moment in (lambda z: z, lambda z: z**2, lambda z: z[:, :1] * z[:, 1:]):
        values = moment(draws)
        error = values.std(0) / np.sqrt(len(values))
        expected = (moment(z) * density[:, None]).sum(0)
        assert (np.abs(values.mean(0) - expected) < 4.5 * error + 2e-3).all()


@BOTH
def test_posterior_draws_follow_the_exact_posterior(downwards):
    model = model_of(downwards)
    z = np.asarray(model.posterior(X[:1]).sample(50_000, seed=[3, 4]), np.float64)[:, 0]
    # The joint of (z1, z2) and x, conditioned on x at once.
    prior_cov = np.block([[A @ A.T + S**2 * np.eye(BOTTOM), A], [A.T, np.eye(TOP)]])
    factors = np.concatenate([W, V if downwards else 0 * V], 1)
    gain, k, cov = posterior_of(
        np.append(C, 0), prior_cov, factors, M, NOISE**2 * np.eye(PIXELS)
    )  # fmt: skip
    mean = gain @ X[0].reshape(-1).astype(np.float64) + k
    np.testing.assert_allclose(z.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(z.T), cov, atol=0.02)
    # Linear, so the means along the chain are the mean.
    np.testing.assert_allclose(model.encode(X[:1])[0], mean, atol=1e-5)


def test_samples_are_ancestral_and_the_top_layer_is_completed_by_the_prior_mean():
    model = model_of(False)
    z2 = np.array([[0.3], [-0.5]], np.float32)
    complete = model.prior.complete(z2)
    np.testing.assert_allclose(complete[:, :BOTTOM], z2 @ A.T + C, rtol=1e-5)
    np.testing.assert_array_equal(complete[:, BOTTOM:], z2)
    images = np.asarray(model.decode(complete), np.float64).reshape(2, -1)
    by_hand = np.clip((z2 @ A.T + C) @ W.T + M, 0, 1)
    np.testing.assert_allclose(images, by_hand, atol=1e-5)
    # If only z1 is decoded, the covariance of sampled images is the covariance of W z1.
    z = np.asarray(model.prior().sample(50_000, seed=5), np.float64)
    np.testing.assert_allclose(
        np.cov((z[:, :BOTTOM] @ W.T).T), W @ (A @ A.T + S**2 * np.eye(2)) @ W.T, atol=0.02
    )
    np.testing.assert_allclose(
        model.sample(4, seed=7), model.decode(model.prior().sample(4, seed=zoo.model.as_seed(7)))
    )


@pytest.mark.parametrize("build", [zoo.models.hierarchical_iwae, zoo.models.hvae])
def test_one_loss_updates_all_networks(build, digits, weight_changes):
    model = build((8, 8, 1), latent_dims=(3, 2), hidden=(5,))
    model.compile(keras.optimizers.SGD(0.1))
    changes = weight_changes(model, lambda: model.train_step((tf.constant(digits[:7]),)))["vae"]
    assert (
        len(changes)
        == len(model.trainable_variables)
        == (20 if build is not zoo.models.hvae else 16)
    )
    for change in changes:
        assert np.abs(change).max() > 1e-8


def test_one_option_selects_one_of_burdas_two_bounds():
    kinds = {True: zoo.IWAE, False: zoo.VAE}
    for weighted, kind in kinds.items():
        model = zoo.models.hierarchical_iwae(
            (8, 8, 1),
            latent_dims=(3, 2),
            hidden=(4,),
            hidden_between=(4,),
            num_samples=7,
            importance_weighted=weighted,
        )
        assert type(model) is kind and model.num_samples == 7 and model.latent_dim == 5


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match=r"two layers.*Received: \(3,\)"):
        zoo.models.hvae((8, 8, 1), latent_dims=(3,))
    with pytest.raises(ValueError, match=r"importance-weighted.*Received: "):
        zoo.models.hierarchical_iwae(
            (8, 8, 1), importance_weighted=False, doubly_reparameterised=True
        )
    model = zoo.models.hvae((8, 8, 1), latent_dims=(3, 2), hidden=(4,))
    model.free_bits = 0.1
    with pytest.raises(ValueError, match=r"independent.*Received: Chain"):
        model.objective(tf.zeros([2, 8, 8, 1]), None, SEED, training=True)


# The checks of conformance, for builders without a class ---------------------------------------

SMALL = {
    "burda": lambda: zoo.models.hierarchical_iwae(
        (8, 8, 1),
        latent_dims=(3, 2),
        hidden=(8,),
        hidden_between=(4,),
        num_samples=2,
        doubly_reparameterised=True,
    ),
    "tomczak": lambda: zoo.models.hvae(
        (8, 8, 1), latent_dims=(3, 2), hidden=(8,), warm_up_steps=20
    ),
}
EVERY = pytest.mark.parametrize("name", SMALL)


@pytest.mark.slow
@EVERY
def test_training_resumes_exactly_from_a_file(name, digits, tmp_path):
    model = SMALL[name]()
    model.compile("adam", jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices(np.round(digits[:100])).batch(20)
    model.fit(data, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    assert twin.abilities()[:5] == ("encode", "decode", "reconstruct", "sample", "log_prob")
    for m in (model, twin):
        m.fit(data, epochs=2, verbose=0)
    assert len(model.weights) == len(twin.weights)
    for a, b in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    results = model.evaluate(np.round(digits[:100]), verbose=0, return_dict=True)
    model.fit(data, epochs=20, verbose=0)
    after = model.evaluate(np.round(digits[:100]), verbose=0, return_dict=True)
    assert after["loss"] < 0.97 * results["loss"]


@pytest.mark.slow
@EVERY
def test_two_replicas_stay_equal(name, digits, mirrored):
    with mirrored.scope():
        model = SMALL[name]()
        model.compile("adam")
    data = tf.data.Dataset.from_tensor_slices(digits[:80]).batch(20)
    history = model.fit(data, epochs=2, verbose=0).history
    assert all(np.isfinite(v).all() for v in history.values())
    for variable in model.weights:
        first, second = mirrored.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first, second)


@EVERY
def test_half_precision_preserves_the_loss(name, digits):
    full = SMALL[name]()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        half = SMALL[name]()
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    half.set_weights(full.get_weights())
    x = tf.constant(digits[:20])
    want, have = (m.objective(x, None, SEED, True)[0]["vae"].numpy() for m in (full, half))
    np.testing.assert_allclose(have, want, rtol=0.05)


@EVERY
@pytest.mark.slow
def test_the_model_trains_under_xla(name, digits):
    model = SMALL[name]()
    model.compile("adam", jit_compile=True)
    losses = model.fit(digits[:40], batch_size=20, verbose=0).history["loss"]
    assert 20 < losses[0] < 70


@pytest.mark.slow
@EVERY
def test_the_model_is_exported(name, digits, tmp_path):
    model = SMALL[name]()
    signatures = zoo.export.export(model, tmp_path / "served")["signatures"]
    assert "y" not in signatures["encode"]["inputs"]
    served = tf.saved_model.load(str(tmp_path / "served"))
    x = tf.constant(digits[:3])
    np.testing.assert_allclose(served.encode(x), model.encode(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(served.reconstruct(x), model.reconstruct(x), rtol=1e-5, atol=1e-6)
    assert served.sample(4).shape == (4, 8, 8, 1)
    assert served.log_prob(x, 3).shape == (3,)


def test_both_layers_have_independent_noise():
    chain = zoo.distributions.hierarchical.Chain(
        zoo.StandardNormal(2)(), lambda a: zoo.UnitNormal()(tf.zeros_like(a), 1), 2, True
    )
    correlations = np.corrcoef(chain.sample(1000, seed=1), rowvar=False)
    assert np.abs(correlations - np.eye(4)).max() < 0.15
