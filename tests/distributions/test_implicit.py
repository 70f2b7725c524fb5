"""Implicit posteriors: draws and moments against closed forms of linear networks."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from speed import slow

import zoo
from zoo.distributions import noise_basis, noisy_mlp
from zoo.metrics import rate_and_distortion

RNG = np.random.default_rng(3)
SHAPE, NOISE, LATENTS = (2, 2, 1), 3, 2
A = RNG.normal(size=(NOISE, LATENTS)).astype(np.float32)
W = RNG.normal(size=(4, LATENTS)).astype(np.float32)
X = RNG.uniform(size=(3, *SHAPE)).astype(np.float32)


def linear(moment_draws=64):
    """z = W (2 x - 1) + A eps + 0.3."""
    network = noisy_mlp(SHAPE, NOISE, LATENTS, ())
    network.set_weights([np.concatenate([W, A]), np.full(LATENTS, 0.3, np.float32)])
    return zoo.ImplicitConditional(network, moment_draws)


def center():
    return (2 * X - 1).reshape(3, 4) @ W + 0.3


def test_draws_of_a_linear_network_are_normal():
    z = linear()(X).sample(4000, seed=1).numpy()
    assert z.shape == (4000, 3, LATENTS)
    scale = np.sqrt((A**2).sum(0))
    for i in range(3):
        for j in range(LATENTS):
            normal = scipy.stats.norm(center()[i, j], scale[j])
            assert scipy.stats.kstest(z[:, i, j], normal.cdf).pvalue > 1e-3
        np.testing.assert_allclose(np.cov(z[:, i].T), A.T @ A, atol=0.25)
    # Each image and each draw has independent noise.
    residual = z - center()
    assert np.abs(np.corrcoef(residual[:, 0, 0], residual[:, 1, 0])[0, 1]) < 0.06


@pytest.mark.parametrize("moment_draws", [2, slow(150)])
def test_moments_are_computed_from_fixed_draws(moment_draws):
    noise = np.random.default_rng(0).standard_normal((moment_draws, NOISE)).astype(np.float32) @ A
    q = linear(moment_draws)(X)
    np.testing.assert_allclose(q.mean(), center() + noise.mean(0), rtol=1e-4, atol=1e-5)
    variance = np.broadcast_to(noise.var(0), (3, LATENTS))
    np.testing.assert_allclose(q.variance(), variance, rtol=1e-4)
    np.testing.assert_allclose(q.stddev() ** 2, variance, rtol=1e-4)
    if moment_draws == 150:
        np.testing.assert_allclose(variance[0], (A**2).sum(0), rtol=0.3)


def basis(moment_draws=20_000, count=3):
    """z0 and raw a are linear in x, and v_i = B_i eps_i + c_i."""
    encoder = zoo.networks.mlp_encoder(SHAPE, (1 + count) * LATENTS, ())
    kernel = RNG.normal(size=(4, (1 + count) * LATENTS))
    offset = np.concatenate([np.zeros(LATENTS), np.full(count * LATENTS, 5.0)])
    encoder.set_weights([kernel, offset])
    bases = noise_basis(count, NOISE, LATENTS, ())
    bases.set_weights([
        RNG.normal(size=(count, NOISE, LATENTS)), RNG.normal(size=(count, LATENTS))
    ])  # fmt: skip
    return zoo.NoiseBasisConditional(encoder, bases, moment_draws)


def exact_moments(part):
    out = X.reshape(3, 4) @ part.network.get_weights()[0] + part.network.get_weights()[1]
    b, c = part.basis.get_weights()
    raw = out[:, LATENTS:].reshape(3, len(b), LATENTS) - 5
    a = np.where(raw > 0, raw, np.exp(np.minimum(raw, 0)) - 1) + 1
    return out[:, :LATENTS] + (a * c).sum(1), (a**2 * (b**2).sum(1)).sum(1)


def test_moments_and_draws_of_linear_bases_have_the_closed_form():
    part = basis()
    mean, variance = exact_moments(part)
    q = part(X)
    np.testing.assert_allclose(q.mean(), mean, atol=0.08)
    np.testing.assert_allclose(q.variance(), variance, rtol=0.05)
    z = q.sample(20_000, seed=2).numpy()
    error = np.sqrt(variance / len(z))
    assert (np.abs(z.mean(0) - mean) < 4.5 * error).all()
    np.testing.assert_allclose(z.var(0), variance, rtol=0.06)


def test_each_basis_depends_only_on_its_noise():
    bases = noise_basis(3, NOISE, LATENTS, (5, 4))
    noise = tf.constant(RNG.normal(size=(1, 3, NOISE)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(noise)
        v = bases(noise)
    dependence = tf.reduce_sum(tf.abs(tape.jacobian(v, noise)), [0, 2, 3, 5]).numpy()
    assert (dependence[~np.eye(3, dtype=bool)] == 0).all() and (np.diag(dependence) > 0).all()


def test_new_bases_have_the_initial_weights_of_dense_layers():
    wide, _ = noise_basis(4, 50, 60, ()).get_weights()
    assert wide.shape == (4, 50, 60)
    assert np.abs(wide).max() == pytest.approx(np.sqrt(6 / 110), rel=0.01)  # Glorot's limit.


@pytest.mark.parametrize("make", [slow(linear), lambda: basis(50)], ids=["noise", "bases"])
def test_draws_follow_the_seed_with_unknown_batch_sizes_and_xla(make):
    part = make()
    q = part(X)
    np.testing.assert_array_equal(q.sample(2, seed=[1, 2]), q.sample(2, seed=[1, 2]))
    assert (q.sample(seed=[1, 2]).numpy() != q.sample(seed=[1, 3]).numpy()).all()
    assert q.batch_shape == [3] and q.event_shape == [LATENTS]

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE])])
    def unknown(x):
        q = part(x)
        z = q.sample(4, seed=[1, 2])
        assert z.shape.as_list() == [4, None, LATENTS]
        return q.mean(), q.variance(), z

    compiled = tf.function(lambda x: part(x).moments(), jit_compile=True)
    mean, variance, z = unknown(X)
    np.testing.assert_allclose(z, q.sample(4, seed=[1, 2]), rtol=1e-4, atol=1e-5)
    for other in ((mean, variance), compiled(X)):
        np.testing.assert_allclose(other[0], q.mean(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other[1], q.variance(), rtol=1e-4)


def test_draws_are_differentiable_in_the_weights():
    part = linear()
    kernel = part.network.trainable_variables[0]
    with tf.GradientTape() as tape:
        z = part(X[:1]).sample(20_000, seed=5)
        second = tf.reduce_mean(z**2, [0, 1])[0]
    # E z^2 = center^2 + |A|^2, so its gradient in the weights of the noise is 2 A.
    slope = tape.gradient(second, kernel).numpy()
    np.testing.assert_allclose(slope[4:, 0], 2 * A[:, 0], atol=0.15)
    assert not slope[:, 1].any()


def test_estimated_moments_have_no_gradient():
    part = linear()
    with tf.GradientTape() as tape:
        mean, variance = part(X).moments()
    gradients = tape.gradient([mean, variance], part.network.trainable_variables)
    assert all(g is None or not np.any(g) for g in gradients)


@pytest.mark.slow
def test_adaptive_contrast_with_a_network_of_noise_trains_under_xla(digits):
    model = zoo.models.avb(
        (8, 8, 1), latent_dim=LATENTS, hidden=(4,), posterior_noise_dim=NOISE, discriminator_hidden=(4,),
        adaptive_contrast=True, discriminator_steps=2,
    )  # fmt: skip
    model.compile("adam", jit_compile=True)
    history = model.fit(np.round(digits[:20]), batch_size=10, verbose=0).history
    assert np.isfinite([values[-1] for values in history.values()]).all()
    assert int(model.optimizers["discriminator"].iterations) == 4


@pytest.mark.slow
def test_an_adversarial_autoencoder_trains_with_an_implicit_posterior(digits):
    model = zoo.AAE(
        zoo.ImplicitConditional(noisy_mlp((8, 8, 1), 2, LATENTS, (5,))),
        zoo.Conditional(zoo.networks.mlp_decoder(LATENTS, (8, 8, 1), 1, (5,)), zoo.Bernoulli()),
        zoo.StandardNormal(LATENTS),
        zoo.networks.mlp(LATENTS, 1, (5,)),
    )
    model.compile("adam")
    x = (digits[:40] > 0.5).astype(np.float32)
    before = model.evaluate(x, verbose=0, return_dict=True)["autoencoder_loss"]
    model.fit(x, batch_size=10, epochs=15, verbose=0)
    assert model.evaluate(x, verbose=0, return_dict=True)["autoencoder_loss"] < 0.97 * before
    codes = [model.posterior(x[:2]).sample(seed=[0, i]).numpy() for i in range(2)]
    assert (codes[0] != codes[1]).all()


def test_metrics_that_need_a_density_are_refused(digits):
    with pytest.raises(NotImplementedError):
        linear()(X).log_prob(tf.zeros([3, LATENTS]))
    model = zoo.models.avb((8, 8, 1), latent_dim=2, hidden=(4,), discriminator_hidden=(4,))
    with pytest.raises(ValueError, match="of this AVB can only be sampled"):
        rate_and_distortion(model, np.round(digits[:2]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear(1), r"must be at least 2\. Received: moment_draws=1"),
        (lambda: zoo.ImplicitConditional(zoo.networks.mlp(4, 2)), r"shapes \[\(4,\)\]"),
        (lambda: noisy_mlp(SHAPE, 0, 2), "`noise_dim` must be at least 1"),
        (lambda: noise_basis(0, 2, 2), "`count` must be at least 1"),
        (
            lambda: zoo.NoiseBasisConditional(zoo.networks.mlp(4, 7), noise_basis(3, 2, 2, ())),
            r"outputs of the shape \(3, 2\), and a network with 1 inputs and outputs of the "
            r"shape \(7,\)",
        ),
        (
            lambda: zoo.NoiseBasisConditional(zoo.networks.mlp(4, 8),
                                              zoo.networks.mlp(3, 2)),
            r"Received: a basis with outputs of the shape \(2,\)",
        ),
    ],
)  # fmt: skip
def test_networks_of_other_shapes_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
