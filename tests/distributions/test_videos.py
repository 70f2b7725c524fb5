"""Priors of paths against joint normals, and networks of frames against each frame alone."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import zoo
from zoo import networks

A, B, SCALE = np.array([[0.9, 0.2], [-0.3, 0.7]]), np.array([0.1, -0.2]), np.array([0.5, 0.8])
BEFORE = np.array([[-0.4, 0.1], [0.0, 0.3]])  # The weight of the frame before the last, in order 2.
SEED = [1, 2]


def linear_prior(order, steps, static_dim=0):
    """z_t = A z_{t-1} + BEFORE z_{t-2} + B + SCALE noise, the middle term in order 2 only."""
    network = networks.mlp(order * 2, 4, ())
    change = [BEFORE, A - np.eye(2)][-order:]
    kernel = np.concatenate([np.concatenate(change, 1).T, np.zeros([order * 2, 2])], 1)
    network.set_weights([kernel, np.concatenate([B, np.log(np.expm1(SCALE - 1e-4))])])
    return zoo.MarkovPrior(network, steps, static_dim)


def joint(order, steps, static_dim=0):
    """Mean and covariance of [s, z_1, ..., z_T], from the linear map of all noise."""
    size = static_dim + 2 * steps
    mean, factor = np.zeros([steps, 2]), np.zeros([steps, 2, size])
    factor[0, :, static_dim : static_dim + 2] = np.eye(2)
    for t in range(1, steps):
        mean[t], factor[t] = A @ mean[t - 1] + B, A @ factor[t - 1]
        if order == 2:
            mean[t] += BEFORE @ mean[max(t - 2, 0)]
            factor[t] += BEFORE @ factor[max(t - 2, 0)]
        factor[t, :, static_dim + 2 * t : static_dim + 2 * t + 2] += np.diag(SCALE)
    every = np.concatenate([np.eye(static_dim, size), factor.reshape(-1, size)])
    return np.concatenate([np.zeros(static_dim), mean.ravel()]), every @ every.T


@pytest.mark.parametrize(("order", "steps", "static"), [(1, 3, 0), (2, 4, 0), (2, 3, 1), (3, 1, 2)])
def test_the_density_of_a_linear_chain_is_its_joint_normal(order, steps, static):
    prior = linear_prior(min(order, 2), steps, static)
    mean, covariance = joint(min(order, 2), steps, static)
    z = np.random.default_rng(0).normal(size=[3, 5, len(mean)])
    expected = scipy.stats.multivariate_normal(mean, covariance).logpdf(z)
    found = prior().log_prob(tf.constant(z, tf.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(prior().log_prob(tf.constant(z[1, 2], tf.float32)), expected[1, 2],
                               rtol=1e-5)  # fmt: skip
    assert prior.event_shape == (len(mean),) and prior.order == min(order, 2)


def test_draws_have_the_moments_of_the_joint_normal():
    mean, covariance = joint(2, 3, 1)
    z = linear_prior(2, 3, 1)().sample(40_000, seed=SEED).numpy()
    np.testing.assert_allclose(z.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.06)


def test_a_path_continues_with_the_means_or_with_draws_of_the_steps():
    prior = linear_prior(2, 3)
    path = np.random.default_rng(0).normal(size=[2, 3, 2])
    expected = [*np.moveaxis(path, 1, 0)]
    for _ in range(4):
        expected.append(expected[-1] @ A.T + expected[-2] @ BEFORE.T + B)
    new = prior.continued(tf.constant(path, tf.float32), 4)
    np.testing.assert_allclose(new, np.stack(expected[3:], 1), rtol=1e-4, atol=1e-5)
    # From one frame, the first latents take the place of those before them.
    one = prior.continued(tf.constant(path[:, :1], tf.float32), 1)[:, 0]
    np.testing.assert_allclose(one, path[:, 0] @ (A + BEFORE).T + B, rtol=1e-4, atol=1e-5)
    many = tf.constant(np.repeat(path[:1], 20_000, 0), tf.float32)
    drawn = prior.continued(many, 2, tf.constant(SEED)).numpy()
    np.testing.assert_allclose(drawn[:, 0].std(0), SCALE, atol=0.02)
    np.testing.assert_allclose(drawn.mean(0), new[0, :2], atol=0.03)
    np.testing.assert_array_equal(drawn[:5], prior.continued(many, 2, tf.constant(SEED))[:5])


def test_the_kl_is_that_of_the_joint_normals_on_average():
    prior = linear_prior(2, 3, 1)
    mean, covariance = joint(2, 3, 1)
    random = np.random.default_rng(0)
    loc, scale = random.normal(size=7), random.uniform(0.3, 0.9, 7)
    q = zoo.DiagonalNormal()(tf.constant([[*loc, *np.log(np.expm1(scale - 1e-4))]], tf.float32), 1)
    z = q.sample(40_000, seed=SEED)
    found = prior().kl_from(q, z)
    assert found.shape == (40_000, 1)
    inverse = np.linalg.inv(covariance)
    exact = np.trace(inverse @ np.diag(scale**2)) + (mean - loc) @ inverse @ (mean - loc) - 7
    exact = 0.5 * (exact + np.linalg.slogdet(covariance)[1] - 2 * np.log(scale).sum())
    error = found.numpy().std() / 200
    assert abs(found.numpy().mean() - exact) < 4.5 * error
    assert error < 0.01 * exact
    # The terms of the chain have a smaller variance than a difference of log densities.
    plain = q.log_prob(z) - prior().log_prob(z)
    assert found.numpy().std() < 0.9 * plain.numpy().std()


FRAME = (4, 4, 2)


def posterior(frames=3, static_dim=1):
    network = networks.mlp_encoder(FRAME, 2 * 3, (5,))
    return zoo.FramePosterior(network, zoo.DiagonalNormal(), frames, static_dim)


def likelihood(family, frames=3, static_dim=1):
    network = networks.mlp_decoder(3, FRAME, family.params_per_value, (5,))
    return zoo.FrameLikelihood(network, family, frames, static_dim)


def of_frames(x):
    """The frames of videos of two channels, `[T, B, H, W, 2]`."""
    return np.stack(np.split(np.asarray(x), x.shape[-1] // 2, -1))


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_posterior_encodes_each_frame_alone_and_averages_the_static_parameters(count):
    part = posterior()
    assert (part.context_shape, part.event_shape) == ((4, 4, 6), (1 + 3 * 2,))
    x = np.random.default_rng(0).random((2, 4, 4, 2 * count), np.float32)
    q = part(x).distribution
    params = np.stack([part.network(frame) for frame in of_frames(x)])  # [T, B, 6]
    loc, raw = params[..., :3], params[..., 3:]
    for name, each in (("loc", loc), ("scale", raw)):
        static, path = each[..., :1].mean(0), np.moveaxis(each[..., 1:], 0, 1).reshape(2, -1)
        expected = np.concatenate([static, path], -1)
        if name == "scale":
            expected = 1e-4 + np.log1p(np.exp(expected))
        np.testing.assert_allclose(getattr(q, name), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "family", [zoo.Bernoulli(), zoo.DiagonalNormal(0.1, 1.0), zoo.Categorical(5)]
)
def test_a_likelihood_decodes_each_frame_from_the_static_and_its_own_latents(family):
    part = likelihood(family)
    assert (part.context_shape, part.event_shape) == ((1 + 3 * 2,), (4, 4, 6))
    alone = zoo.Conditional(part.network, family)
    random = np.random.default_rng(0)
    for count in (1, 3):
        z = random.normal(size=[2, 5, 1 + 2 * count]).astype(np.float32)
        x = random.integers(0, 2, (5, 4, 4, 2 * count)).astype(np.float32)
        p = part(z)
        each = [
            alone(np.concatenate([z[..., :1], z[..., 1 + 2 * t : 3 + 2 * t]], -1))
            for t in range(count)
        ]
        means = np.concatenate([p.mean() for p in each], -1)
        np.testing.assert_allclose(p.mean(), means, rtol=1e-5, atol=1e-6)
        summed = sum(p.log_prob(f).numpy() for p, f in zip(each, of_frames(x), strict=True))
        np.testing.assert_allclose(p.log_prob(x), summed, rtol=1e-5)
        assert p.batch_shape == (2, 5)


def test_parts_that_do_not_fit_are_refused():
    network = networks.mlp_encoder(FRAME, 6)
    with pytest.raises(ValueError, match="family must be of independent values"):
        zoo.FramePosterior(networks.mlp_encoder(FRAME, 9), zoo.FullCovarianceNormal(), 3)
    with pytest.raises(ValueError, match=r"each frame has its own\. Received: static_dim=3 with"):
        zoo.FramePosterior(network, zoo.DiagonalNormal(), 3, static_dim=3)
    with pytest.raises(ValueError, match="`frames` must be at least 1"):
        zoo.FramePosterior(network, zoo.DiagonalNormal(), 0)
    for inputs, outputs in ((3, 4), (4, 3)):
        with pytest.raises(ValueError, match="a change and a raw scale for each latent"):
            zoo.MarkovPrior(networks.mlp(inputs, outputs, ()), 3)
