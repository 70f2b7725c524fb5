"""The video VAE against independent VAEs, the Kalman filter, and its own definition."""

import warnings

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import zoo

SEED = tf.constant([1, 2])
T = 3


def small(shape=(8, 8, T), **options):
    defaults = {"latent_dim": 2, "hidden": (6,), "transition_hidden": (5,)}
    return zoo.models.video_vae(shape, **(defaults | options))


def linear(network, kernel, bias):
    network.set_weights([np.asarray(kernel, float), np.asarray(bias, float)])


def raw(scale):
    return np.log(np.expm1(np.asarray(scale) - 1e-4))


@pytest.fixture(scope="module")
def videos():
    return np.random.default_rng(0).integers(0, 2, (6, 8, 8, T)).astype(np.float32)


def test_without_dynamics_the_model_is_an_independent_vae_for_each_frame(videos):
    model = small(order=1, transition_hidden=())
    # The change is -z: each step has the mean 0, and the scale 1.
    linear(model.prior.network, np.concatenate([-np.eye(2), np.zeros([2, 2])], 1),
           [0, 0, *raw([1, 1])])  # fmt: skip
    posterior = zoo.Conditional(model.posterior.network, zoo.DiagonalNormal())
    likelihood = zoo.Conditional(model.likelihood.network, zoo.Bernoulli())
    vae = zoo.VAE(posterior, likelihood, zoo.StandardNormal(2))
    q = model.posterior(videos)
    z = q.sample(2, seed=SEED)
    together = model.terms_at(q, z, videos, None, training=True)
    alone = [
        vae.terms_at(
            posterior(videos[..., t : t + 1]), z[..., 2 * t : 2 * t + 2], videos[..., t : t + 1],
            None, training=True,
        )
        for t in range(T)
    ]  # fmt: skip
    for name in ("distortion", "rate", "charged_rate"):
        expected = sum(getattr(terms, name) for terms in alone)
        np.testing.assert_allclose(getattr(together, name), expected, rtol=1e-5)
    np.testing.assert_allclose(
        model.prior().log_prob(z), scipy.stats.norm.logpdf(z).sum(-1), rtol=1e-5
    )
    losses, terms = model.objective(tf.constant(videos), None, SEED, training=True)
    np.testing.assert_allclose(losses["vae"], terms["distortion"] + terms["rate"], rtol=1e-6)


# The Kalman filter -----------------------------------------------------------------------------

# z_1 ~ N(0, 1), z_t = GAIN z_{t-1} + SHIFT + STEP noise, x_t = W z_t + M + NOISE noise.
GAIN, SHIFT, STEP, NOISE = 0.8, 0.2, 0.5, 0.3
W, M = np.array([0.4, -0.3, 0.2, 0.1]), np.array([0.5, 0.4, 0.6, 0.5])
X = np.random.default_rng(1).uniform(0, 1, (4, 2, 2, T)).astype(np.float32)


def kalman_model(wider=1.0):
    """The model above. q(z_t | x_t) is the posterior for z_t ~ N(0, 1), with a wider scale."""
    model = small((2, 2, T), latent_dim=1, order=1, hidden=(), transition_hidden=(),
                  likelihood="unit_normal")  # fmt: skip
    linear(model.prior.network, [[GAIN - 1, 0]], [SHIFT, raw(STEP)])
    decoder = model.likelihood.network
    linear(decoder, W[None], M)
    precision = 1 + W @ W / NOISE**2
    linear(
        model.posterior.network,
        np.stack([W / NOISE**2 / precision, np.zeros(4)], 1),
        [-W @ M / NOISE**2 / precision, raw(wider * precision**-0.5)],
    )
    likelihood = zoo.FrameLikelihood(decoder, zoo.SharedScaleNormal(NOISE), T)
    return zoo.VideoVAE(model.posterior, likelihood, model.prior)


def kalman(x):
    """log p(x_1, ..., x_T) by the filter, for observations `[T, 4]`."""
    mean, variance, total = 0.0, 1.0, 0.0
    for t, observed in enumerate(x):
        if t:
            mean, variance = GAIN * mean + SHIFT, GAIN**2 * variance + STEP**2
        spread = variance * np.outer(W, W) + NOISE**2 * np.eye(4)
        total += scipy.stats.multivariate_normal(W * mean + M, spread).logpdf(observed)
        gain = variance * W @ np.linalg.inv(spread)
        mean = mean + gain @ (observed - W * mean - M)
        variance = variance - gain @ W * variance
    return total


@pytest.fixture(scope="module")
def exact():
    frames = np.moveaxis(X.reshape(-1, 4, T), 2, 1).astype(np.float64)
    return np.array([kalman(x) for x in frames])


def test_importance_sampling_reaches_the_likelihood_of_the_kalman_filter(exact):
    # 5,000 draws for each video: 250 for each of 20 copies.
    x = tf.constant(np.tile(X, (20, 1, 1, 1)))
    found = tf.function(kalman_model(wider=1.4).log_prob)(x, 250, seed=3)
    found = scipy.special.logsumexp(np.reshape(found, [20, -1]), 0) - np.log(20)
    np.testing.assert_allclose(found, exact, atol=0.05)


def test_the_bound_is_below_the_kalman_filter_by_the_kl_to_the_exact_posterior(exact):
    model, copies = kalman_model(), 3000
    x = tf.constant(np.tile(X, (copies, 1, 1, 1)))
    losses, _ = model.objective(x, None, SEED, training=False)
    bound = -losses["vae"].numpy().reshape(copies, -1)
    # p(z) p(x | z) as one normal of z, whose precision is that of the exact posterior.
    factor = np.array([[GAIN ** (t - i) if t >= i else 0 for i in range(T)] for t in range(T)])
    prior = factor @ np.diag([1, STEP**2, STEP**2]) @ factor.T
    mean = factor @ np.array([0, SHIFT, SHIFT])
    precision = np.linalg.inv(prior) + np.eye(T) * (W @ W) / NOISE**2
    residual = np.einsum("bhwt,hw->bt", X.astype(float) - M.reshape(2, 2, 1), W.reshape(2, 2))
    centre = np.linalg.solve(precision, (np.linalg.inv(prior) @ mean + residual / NOISE**2).T).T
    q = model.posterior(X).distribution
    loc, scale = q.loc.numpy().astype(float), q.scale.numpy().astype(float)
    kl = np.einsum("bi,ij,bj->b", centre - loc, precision, centre - loc)
    kl += (np.diag(precision) * scale**2).sum(-1) - T - 2 * np.log(scale).sum(-1)
    kl = 0.5 * (kl - np.linalg.slogdet(precision)[1])
    error = bound.std(0) / np.sqrt(copies)
    assert (np.abs(bound.mean(0) - (exact - kl)) < 4.5 * error).all()
    assert kl.min() > 5 * error.max()


# Losses and networks ---------------------------------------------------------------------------


def test_each_term_reaches_its_networks(videos):
    model = small(static_dim=1)
    for variable in model.trainable_variables:  # The last kernel of the prior starts at 0.
        variable.assign_add(tf.random.stateless_normal(variable.shape, [0, 1], stddev=0.1))
    with tf.GradientTape(persistent=True) as tape:
        losses, terms = model.objective(tf.constant(videos), None, SEED, training=True)
    reached = {
        term: {
            name
            for name in ("posterior", "likelihood", "prior")
            if any(g is not None and np.abs(g).max() > 1e-7
                   for g in tape.gradient(values, getattr(model, name).trainable_variables))
        }
        for term, values in (terms | losses).items()
    }  # fmt: skip
    assert reached == {
        "distortion": {"posterior", "likelihood"},
        "rate": {"posterior", "prior"},
        "vae": {"posterior", "likelihood", "prior"},
    }


def test_the_rate_of_a_frame_is_its_kl_to_the_step_from_the_drawn_frames_before(videos):
    model = small(static_dim=1, order=2, num_samples=1)
    linear_change = model.prior.network
    linear_change.layers[-1].kernel.assign(0.3 * np.ones([5, 4]))
    q = model.posterior(videos)
    z = q.sample(1, seed=SEED)
    terms = model.terms_at(q, z, videos, None, training=False)
    loc, scale = q.distribution.loc.numpy(), q.distribution.scale.numpy()
    path = z.numpy()[0, :, 1:].reshape(6, T, 2)
    means, scales = np.zeros([6, 1 + 2 * T]), np.ones([6, 1 + 2 * T])
    for t in range(1, T):
        before = np.concatenate([path[:, max(t - 2, 0)], path[:, t - 1]], -1)
        change = linear_change(before).numpy()
        own = slice(1 + 2 * t, 3 + 2 * t)
        means[:, own] = path[:, t - 1] + change[:, :2]
        scales[:, own] = 1e-4 + np.log1p(np.exp(change[:, 2:]))
    kl = np.log(scales / scale) + (scale**2 + (loc - means) ** 2) / (2 * scales**2) - 0.5
    np.testing.assert_allclose(terms.rate, kl.sum(-1), rtol=1e-4)


def test_a_new_prior_is_a_random_walk():
    prior = small().prior
    history = np.random.default_rng(0).normal(size=[5, 4]).astype(np.float32)
    p = prior.transition(history)
    np.testing.assert_array_equal(p.loc, history[:, 2:])
    np.testing.assert_allclose(p.scale, np.log(2) + 1e-4, rtol=1e-5)


def test_all_frames_share_the_static_latents():
    model = small(static_dim=2)
    z = np.tile(np.random.default_rng(0).normal(size=[1, 8]), (2, 1)).astype(np.float32)
    z[:, 4:6] = z[:, 6:] = z[:, 2:4]  # Equal latents of all frames
    z[1, :2] += 1
    one, other = model.decode(z).numpy()
    np.testing.assert_allclose(one, np.repeat(one[..., :1], T, -1), rtol=1e-6)
    assert (np.abs(one - other).max((0, 1)) > 1e-4).all()


def test_the_decoder_starts_at_the_mean_of_frames_in_turn(videos):
    model = small((8, 8, 6), frames=3)
    (start,) = model.mean_starts()
    x = np.concatenate([videos, videos], -1)
    values = start.values(x, None)
    for i in range(6):
        t = 2 * (i % 3)
        np.testing.assert_array_equal(values[i], x[i, ..., t : t + 2])


# Continuations ---------------------------------------------------------------------------------


def moved(**options):
    model = small(**({"static_dim": 1} | options))
    model.prior.network.layers[-1].kernel.assign(
        tf.random.stateless_normal(model.prior.network.layers[-1].kernel.shape, [3, 4])
    )
    return model


@pytest.mark.parametrize("seen", [1, 2, 5])
def test_a_continuation_decodes_the_path_that_the_prior_continues(seen):
    model = moved()
    x = np.random.default_rng(0).random((2, 8, 8, seen), np.float32)
    video = model.extend(x, 2)
    np.testing.assert_array_equal(video[..., :seen], x)
    z = np.stack([model.posterior.network(x[..., t : t + 1])[:, :3] for t in range(seen)], 1)
    static, path = z[..., :1].mean(1), [*np.moveaxis(z[..., 1:], 1, 0)]
    for _ in range(2):
        history = np.concatenate([path[-2] if len(path) > 1 else path[0], path[-1]], -1)
        path.append(path[-1] + model.prior.network(history)[:, :2].numpy())
    for t in range(2):
        latents = np.concatenate([static, path[seen + t]], -1)
        frame = tf.sigmoid(model.likelihood.network(latents))[..., 0]
        np.testing.assert_allclose(video[..., seen + t], frame, rtol=1e-4, atol=1e-5)


def test_drawn_continuations_differ_and_repeat_with_their_seed():
    model = moved()
    x = np.random.default_rng(0).random((2, 8, 8, 2), np.float32)
    drawn = model.sample_extensions(x, 3, n=4, seed=5).numpy()
    assert drawn.shape == (4, 2, 8, 8, 5)
    np.testing.assert_array_equal(drawn[..., :2], np.tile(x, (4, 1, 1, 1, 1)))
    assert np.ptp(drawn[..., 2:], 0).max() > 1e-3
    np.testing.assert_array_equal(drawn, model.sample_extensions(x, 3, n=4, seed=5))
    assert np.abs(drawn - model.sample_extensions(x, 3, n=4).numpy()).max() > 1e-3


def test_draws_with_small_scales_continue_each_video_by_the_mean():
    model = moved()
    for network in (model.posterior.network, model.prior.network):
        layer = [part for part in network.layers if isinstance(part, keras.layers.Dense)][-1]
        is_scale = np.arange(layer.units) >= layer.units // 2
        layer.kernel.assign(np.where(is_scale, 0, layer.kernel))
        layer.bias.assign(np.where(is_scale, -20, layer.bias))
    x = np.random.default_rng(0).random((2, 8, 8, 2), np.float32)
    mean = model.extend(x, 3).numpy()
    assert np.abs(mean[0, ..., 2:] - mean[1, ..., 2:]).max() > 1e-2
    drawn = model.sample_extensions(x, 3, n=4, seed=0)
    np.testing.assert_allclose(drawn, np.broadcast_to(mean, drawn.shape), atol=2e-3)


def test_the_ability_is_exported_for_any_number_of_frames(tmp_path):
    model = moved()
    about = zoo.export.export(model, tmp_path / "1", signatures=["extend"])
    assert about["signatures"]["extend"]["inputs"]["frames"]["shape"] == [None, 8, 8, None]
    served = tf.saved_model.load(str(tmp_path / "1"))
    for seen, steps in ((1, 4), (4, 2)):
        x = np.random.default_rng(0).random((2, 8, 8, seen), np.float32)
        given = {"frames": tf.constant(x), "new_frames": tf.constant(steps)}
        found = served.signatures["extend"](**given)["video"]
        np.testing.assert_allclose(found, model.extend(x, steps), rtol=1e-5, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`new_frames` must be at least 1"):
        served.extend(tf.constant(x), tf.constant(0))


@pytest.mark.slow
@pytest.mark.parametrize("parts", [{"static_dim": 1}, {"static_dim": 0, "order": 1}])
def test_the_ability_is_converted_to_tflite(parts, tmp_path):
    model = moved(**parts)
    about = zoo.export.export(model, tmp_path / "1", format="tflite")
    assert "extend" in about["signatures"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # The interpreter moves to another package.
        interpreter = tf.lite.Interpreter(model_path=str(tmp_path / "1" / "model.tflite"))
    x = np.random.default_rng(0).random((2, 8, 8, 2), np.float32)
    found = interpreter.get_signature_runner("extend")(frames=x, new_frames=np.int32(3))["video"]
    np.testing.assert_allclose(found, model.extend(x, 3), rtol=1e-5, atol=1e-5)


def test_hidden_frames_are_completed(videos):
    model = small()
    done = zoo.inference.complete(
        model, videos, np.arange(T) < 2 * np.ones([8, 8, 1]), method="metropolis", steps=12, seed=0
    )
    np.testing.assert_array_equal(done.images[0, ..., :2], videos[..., :2])


# Errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "steps", "message"),
    [
        (np.zeros([2, 8, 8, 3]), 0, "`steps` must be at least 1"),
        (np.zeros([2, 8, 8, 3]), 1, r"K \* 2\], with K frames. Received: shape \(2, 8, 8, 3\)"),
        (np.zeros([2, 8, 8, 0]), 1, r"with K frames. Received: shape \(2, 8, 8, 0\)"),
        (np.zeros([2, 4, 8, 2]), 1, r"\[B, 8, 8, K \* 2\]"),
        (np.zeros([8, 8, 2]), 1, r"\[B, 8, 8, K \* 2\]"),
        (np.full([2, 8, 8, 2], 2.0), 1, r"float images in \[0, 1\]"),
        (np.zeros([2, 8, 8, 2], np.uint8), 1, r"float images in \[0, 1\]"),
    ],
)
def test_other_arrays_than_videos_are_refused(x, steps, message):
    model = small((8, 8, 6), frames=3)
    if steps == 0:
        x = x[..., :2]
    with pytest.raises(ValueError, match=message):
        model.extend(x, steps)


def test_parts_that_do_not_fit_are_refused():
    model, other = small(), small(static_dim=1)
    vae = zoo.models.vae((8, 8, 3), latent_dim=6, hidden=(4,))
    with pytest.raises(
        ValueError, match=r"takes a FramePosterior.*Received: a Conditional of Diag"
    ):
        zoo.VideoVAE(vae.posterior, model.likelihood, model.prior)
    with pytest.raises(ValueError, match=r"same numbers of frames and of static latents.*\(3, 1\)"):
        zoo.VideoVAE(model.posterior, other.likelihood, model.prior)
    binary = zoo.FramePosterior(zoo.networks.mlp_encoder((8, 8, 1), 2), zoo.Bernoulli(), T)
    with pytest.raises(ValueError, match=r"FramePosterior of DiagonalNormal.*of Bernoulli"):
        zoo.VideoVAE(binary, model.likelihood, model.prior)
    with pytest.raises(ValueError, match=r"Received: 3 channels for frames=2"):
        small(frames=2)
    with pytest.raises(ValueError, match="independent"):
        zoo.VideoVAE(model.posterior, model.likelihood, model.prior, free_bits=0.1)
    assert "free_bits" not in zoo.presets.get("video_vae_bouncing_sprites").model
    assert keras.saving.get_registered_name(zoo.VideoVAE) == "zoo>VideoVAE"
