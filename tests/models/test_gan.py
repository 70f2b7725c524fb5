"""The GAN: each update descends its gradient and changes nothing else; the builders."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.stats import norm
from speed import slow

import zoo
from zoo.adversarial import FDivergence, Hinge, Minimax, NonSaturating, Wasserstein
from zoo.models.dcgan import dcgan
from zoo.models.f_gan import f_gan
from zoo.models.gan import gan
from zoo.models.sngan import sngan
from zoo.models.wgan_gp import wgan_gp
from zoo.penalties import R1, GradientPenalty
from zoo.schedules import LinearDecay

SHAPE = (8, 8, 1)
SEED = (3, 4)
TINY = {"latent_dim": 3, "generator_hidden": (4,), "discriminator_hidden": (4,)}


def small(known, loss, **kwargs):
    model = zoo.GAN(
        zoo.networks.mlp_decoder(3, SHAPE, 1, (6,), "tanh", "sigmoid"),
        zoo.networks.mlp_discriminator(SHAPE, (5,)),
        known.Prior(3),
        loss,
        **kwargs,
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def softplus_of(logits):
    return tf.reduce_mean(tf.math.log1p(tf.exp(logits)))


def gradients_by_hand(model, known, x, player, saturating):
    with tf.GradientTape() as tape:
        fake = model.generator(tf.constant(known.noise(len(x), 3)))
        if player == "discriminator":
            loss = softplus_of(-model.discriminator(x)) + softplus_of(model.discriminator(fake))
        elif saturating:
            loss = -softplus_of(model.discriminator(fake))
        else:
            loss = softplus_of(-model.discriminator(fake))
    return tape.gradient(loss, model.variables_of(player))


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_saturating"])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_each_round_descends_the_loss_of_its_player_and_updates_no_other(
    known, digits, loss, player, weight_changes, assert_descends
):
    model, x = small(known, loss), tf.constant(digits[:9])
    expected = gradients_by_hand(model, known, x, player, type(loss) is Minimax)
    turn = model.rounds()[["discriminator", "generator"].index(player)]
    change = weight_changes(model, lambda: model._play(turn, x, None, tf.constant(SEED)))
    assert_descends(change.pop(player), expected)
    assert all((c == 0).all() for c in next(iter(change.values())))


def test_the_generator_is_updated_against_the_updated_discriminator(
    known, digits, weight_changes, assert_descends
):
    model, x = small(known, NonSaturating()), tf.constant(digits[:9])
    step = gradients_by_hand(model, known, x, "discriminator", False)
    kept = model.get_weights()
    for variable, gradient in zip(model.variables_of("discriminator"), step, strict=True):
        variable.assign_sub(gradient)
    expected = gradients_by_hand(model, known, x, "generator", False)
    model.set_weights(kept)
    change = weight_changes(model, lambda: model.train_step((x,)))
    assert_descends(change["discriminator"], step)
    assert_descends(change["generator"], expected)


@pytest.mark.parametrize("updated", ["discriminator", "generator"])
def test_a_round_updates_only_the_batch_statistics_of_its_player(updated, snapshot):
    model = dcgan((16, 16, 1), latent_dim=3, width=2)
    model.compile("adam")
    x = tf.random.stateless_uniform([6, 16, 16, 1], [1, 2])
    before = snapshot(model)
    turn = model.rounds()[["discriminator", "generator"].index(updated)]
    model._play(turn, x, None, tf.constant(SEED))
    after = snapshot(model)
    for player, layers in model.players().items():
        names = [v.path for layer in layers for v in layer.variables]
        assert sum("moving" in name for name in names) >= 2
        for name, old, new in zip(names, before[player], after[player], strict=True):
            assert np.array_equal(old, new) == (player != updated), name


def test_the_discriminator_normalizes_the_real_batch_and_then_the_fake_batch(known):
    images = keras.Input(SHAPE)
    norm_layer = keras.layers.BatchNormalization(momentum=0.9)
    flat = keras.layers.Flatten()(images)
    discriminator = keras.Model(images, keras.layers.Dense(1)(norm_layer(flat)))
    model = zoo.GAN(
        zoo.networks.mlp_decoder(3, SHAPE, 1, (6,), output="sigmoid"), discriminator, known.Prior(3)
    )
    model.compile(keras.optimizers.SGD(0.0))
    x = np.random.default_rng(0).uniform(size=(9, *SHAPE)).astype(np.float32)
    fake = model.generator(known.noise(9, 3)).numpy()
    model.train_step((tf.constant(x),))
    mean, variance = 0.0, 1.0
    for batch in (x.reshape(9, -1), fake.reshape(9, -1)):
        mean, variance = 0.9 * mean + 0.1 * batch.mean(0), 0.9 * variance + 0.1 * batch.var(0)
    np.testing.assert_allclose(norm_layer.moving_mean, mean, rtol=1e-4)
    np.testing.assert_allclose(norm_layer.moving_variance, variance, rtol=1e-4)


def test_a_generator_with_learning_rate_0_keeps_its_weights_in_a_training_step(digits, snapshot):
    model = gan(SHAPE, **TINY)
    model.compile({"discriminator": "adam", "generator": keras.optimizers.SGD(0.0)})
    before = snapshot(model)
    model.fit(digits[:10], batch_size=10, verbose=0)
    after = snapshot(model)
    weights = [v.path for v in model.generator.variables]
    for name, old, new in zip(weights, before["generator"], after["generator"], strict=True):
        assert np.array_equal(old, new) == ("moving" not in name)
    assert any(not np.array_equal(*pair) for pair in zip(before["discriminator"], after["discriminator"], strict=True))  # fmt: skip


def test_evaluation_changes_no_variable(digits, snapshot):
    model = dcgan((8, 8, 1), latent_dim=3, width=2)
    model.compile("adam")
    before = snapshot(model)
    model.evaluate(digits[:10], verbose=0)
    model.sample(4)
    after = snapshot(model)
    for player in before:
        for old, new in zip(before[player], after[player], strict=True):
            np.testing.assert_array_equal(old, new)


def test_the_discriminators_dropout_differs_between_steps(digits):
    model = gan(SHAPE, **TINY | {"discriminator_hidden": (16,)}, dropout=0.5)
    model.compile(keras.optimizers.SGD(0.0))
    logits = [model.fit(digits[:8], batch_size=8, shuffle=False, verbose=0).history["real_logit"] for _ in range(4)]  # fmt: skip
    assert len(np.unique(logits)) == 4


class Shifted(zoo.distributions.Prior):
    """N(shift, 1) in one dimension: the fake data, if the generator is the identity."""

    def __init__(self, shift, **kwargs):
        super().__init__(**kwargs)
        self.shift = shift

    def call(self, y=None):
        tfd = tfp.distributions
        return tfd.Independent(tfd.Normal(tf.fill([1], self.shift), 1.0), 1)


def jsd(shift):
    grid = np.linspace(-8, 8 + shift, 4001)
    p, q = norm.pdf(grid), norm.pdf(grid, shift)
    m = (p + q) / 2
    return np.trapezoid(0.5 * p * np.log(p / m) + 0.5 * q * np.log(q / m), grid)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_the_loss_of_the_optimal_discriminator_of_two_normals_is_log_4_minus_twice_the_jsd(shift):
    identity = keras.Sequential([keras.Input((1,)), keras.layers.Reshape((1, 1, 1))])
    discriminator = zoo.networks.mlp_encoder((1, 1, 1), 1, ())
    # log p / q of N(0, 1) and N(shift, 1) is linear.
    discriminator.set_weights([np.array([[-shift]]), np.array([shift**2 / 2])])
    model = zoo.GAN(identity, discriminator, Shifted(shift))
    n = 40_000
    x = tf.random.stateless_normal([n, 1, 1, 1], [1, 1])
    losses, _ = model.discriminator_objective(x, None, tf.constant(SEED), training=False)
    loss = losses["discriminator"].numpy()
    expected = math.log(4) - 2 * jsd(shift)
    assert abs(loss.mean() - expected) < 4 * loss.std() / np.sqrt(n) + 1e-6


@pytest.mark.slow
def test_a_discriminator_of_equal_distributions_converges_to_one_half():
    to_pixel = keras.Sequential([
        keras.Input((1,)),
        keras.layers.Reshape((1, 1, 1)),
        keras.layers.Activation("sigmoid"),
    ])  # fmt: skip
    model = zoo.GAN(to_pixel, zoo.networks.mlp_encoder((1, 1, 1), 1, (8,)), Shifted(0.0))
    model.discriminator.set_weights([w + 1.0 for w in model.discriminator.get_weights()])
    x = tf.sigmoid(tf.random.stateless_normal([512, 1, 1, 1], [1, 1]))
    model.compile({"discriminator": keras.optimizers.Adam(0.02), "generator": "sgd"})
    data = tf.data.Dataset.from_tensors(x).repeat()
    history = model.fit(data, steps_per_epoch=50, epochs=6, verbose=0).history
    losses = history["discriminator_loss"]
    assert losses[0] > 1.1 * losses[-1]
    assert losses[-1] == pytest.approx(2 * math.log(2), abs=0.02)


def test_labels_of_real_and_fake_images_have_separate_noise(known, loss_with_seeds):
    loss, seeds = loss_with_seeds
    model = small(known, loss)
    model.discriminator_objective(tf.zeros([2, *SHAPE]), None, tf.constant([1, 2]), True)
    real, fake = np.array(seeds)
    assert (real != fake).any()


def test_fake_images_differ_between_examples_and_seeds():
    model = gan(SHAPE, **TINY)
    x = tf.zeros([5, *SHAPE])
    fakes = [
        model._generate(x, None, tf.constant(seed), False).numpy() for seed in ((1, 2), (1, 3))
    ]
    assert fakes[0].shape == (5, *SHAPE)
    assert np.abs(fakes[0] - fakes[1]).max() > 1e-4
    assert np.abs(fakes[0][0] - fakes[0][1]).max() > 1e-4


def test_predict_decodes_latents():
    model = gan(SHAPE, **TINY)
    z = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    images = model.predict(z, batch_size=3, verbose=0)
    np.testing.assert_allclose(images, model.decode(z), atol=1e-6)
    assert images.shape == (7, *SHAPE) and images.min() >= 0 and images.max() <= 1


def test_zero_steps_of_the_discriminator_are_refused():
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0"):
        gan(SHAPE, **TINY, discriminator_steps=0)


# Penalties ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [GradientPenalty(5.0, 0.3), R1(5.0)], ids=["gp", "r1"])
def test_a_penalty_changes_only_the_discriminator_loss(
    known, digits, penalty, weight_changes, assert_descends
):
    model, x = small(known, Hinge(), penalty=penalty), tf.constant(digits[:9])
    assert set(model.terms) == {"real_logit", "fake_logit", "penalty"}
    plain = zoo.GAN(model.generator, model.discriminator, model.prior, Hinge())
    assert "penalty" not in plain.terms
    with_it, terms = model.discriminator_objective(x, None, tf.constant(SEED), True)
    without, _ = plain.discriminator_objective(x, None, tf.constant(SEED), True)
    values = terms["penalty"]
    assert values.shape == (9,) and (values.numpy() > 0).all()
    np.testing.assert_allclose(
        with_it["discriminator"], without["discriminator"] + values, rtol=1e-5, atol=1e-6
    )
    for m in (model, plain):
        m.compile(keras.optimizers.SGD(1.0))
    turns = [m.rounds()[1] for m in (model, plain)]
    kept, change = model.get_weights(), []
    for m, turn in zip((model, plain), turns, strict=True):
        model.set_weights(kept)
        change.append(
            weight_changes(m, lambda m=m, turn=turn: m._play(turn, x, None, tf.constant(SEED)))[
                "generator"
            ]
        )
    for a, b in zip(*change, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("penalty", "calls"), [(None, 2), (R1(), 2), (GradientPenalty(), 3)], ids=["none", "r1", "gp"]
)
def test_r1_needs_no_further_call_of_the_discriminator(known, digits, penalty, calls, monkeypatch):
    model = small(known, NonSaturating(), penalty=penalty)
    seen = recorded_images(monkeypatch)
    model.discriminator_objective(digits[:9], None, tf.constant(SEED), True)
    assert len(seen) == calls
    np.testing.assert_array_equal(seen[0], digits[:9])


def test_r1_uses_the_gradient_of_the_call_that_returned_the_real_logits(known, digits):
    # With the slopes a of the hidden layer and the dropout mask m, a logit is sum_j v_j m_j a_j h_j
    # and its slope in x is 2 W (v m a). The logits identify the mask.
    units = 3
    model = zoo.GAN(
        zoo.networks.mlp_decoder(3, SHAPE, 1, (6,), "tanh", "sigmoid"),
        zoo.networks.mlp_discriminator(SHAPE, (units,), dropout=0.5),
        known.Prior(3),
        penalty=R1(2.0),
    )
    x = digits[:40]
    _, terms = model.discriminator_objective(x, None, tf.constant(SEED), True)
    w, b, v, c = model.discriminator.get_weights()
    h = (2 * x.reshape(40, -1) - 1) @ w + b
    a = np.where(h > 0, 1, 0.2)
    masks = np.array([[i >> j & 1 for j in range(units)] for i in range(2**units)]) / 0.5
    logits = (masks[:, None] * a * h) @ v[:, 0] + c  # [masks, images]
    error = np.abs(logits - terms["real_logit"].numpy())
    which = error.argmin(0)
    np.testing.assert_allclose(error.min(0), 0, atol=1e-5)
    slopes = 2 * (masks[which] * a * v[:, 0]) @ w.T
    np.testing.assert_allclose(terms["penalty"], (slopes**2).sum(1), rtol=1e-3, atol=1e-6)
    assert len(np.unique(which)) > 4


def test_the_discriminator_descends_the_gradient_of_the_penalty(known, digits, weight_changes):
    # Without hidden layers the slope in x is the kernel, times 2 because of the range [-1, 1].
    model = zoo.GAN(
        zoo.networks.mlp_decoder(3, SHAPE, 1, (6,), "tanh", "sigmoid"),
        zoo.networks.mlp_discriminator(SHAPE, ()),
        known.Prior(3),
        Wasserstein(),
        penalty=GradientPenalty(5.0),
    )
    model.compile(keras.optimizers.SGD(1.0))
    x = tf.constant(digits[:9])
    fake = model.generator(known.noise(9, 3)).numpy()
    kernel = model.discriminator.get_weights()[0]
    norm = 2 * np.linalg.norm(kernel)
    turn = model.rounds()[0]
    change = weight_changes(model, lambda: model._play(turn, x, None, tf.constant(SEED)))[
        "discriminator"
    ]
    by_images = 2 * (fake.mean(0) - x.numpy().mean(0)).reshape(-1, 1)
    by_penalty = 10 * (norm - 1) * 2 * kernel / np.linalg.norm(kernel)
    np.testing.assert_allclose(change[0], -(by_images + by_penalty), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_penalised_critic_of_shifted_normals_converges_to_the_penalised_distance():
    # The loss of a slope s is (s - 1)^2 / 2 - 0.15 s, least at s = 1.15, where it is -0.16125.
    shift, weight = 0.15, 0.5
    to_pixel = keras.Sequential([
        keras.Input((1,)),
        keras.layers.Reshape((1, 1, 1)),
        keras.layers.Rescaling(0.05, 0.5),
    ])  # fmt: skip
    model = zoo.GAN(
        to_pixel,
        zoo.networks.mlp_encoder((1, 1, 1), 1, ()),
        Shifted(shift / 0.05),
        Wasserstein(),
        penalty=GradientPenalty(weight),
    )
    x = 0.5 + 0.05 * tf.random.stateless_normal([4000, 1, 1, 1], [1, 1])
    # A slope of the other sign would converge to another minimum of the penalty.
    model.discriminator.set_weights([np.array([[-0.1]]), np.zeros(1)])
    model.compile({"discriminator": keras.optimizers.SGD(0.3), "generator": "sgd"})
    data = tf.data.Dataset.from_tensors(x).repeat()
    model.fit(data, steps_per_epoch=60, epochs=1, verbose=0)
    best = 1 + shift / (2 * weight)
    assert float(model.discriminator.weights[0][0, 0]) == pytest.approx(-best, abs=0.02)
    loss = model.evaluate(data, steps=5, verbose=0, return_dict=True)["discriminator_loss"]
    assert loss == pytest.approx(-(shift * best - weight * (best - 1) ** 2), abs=0.005)


def test_the_discriminators_loss_has_no_gradient_for_the_generator(known, digits):
    model = small(known, Hinge(), penalty=GradientPenalty(), instance_noise=0.1)
    with tf.GradientTape() as tape:
        losses, _ = model.discriminator_objective(digits[:5], None, tf.constant(SEED), True)
        loss = tf.reduce_sum(losses["discriminator"])
    assert tape.gradient(loss, [v.value for v in model.variables_of("generator")]) == [None] * 4


def test_spectral_vectors_change_only_in_the_discriminator_round(snapshot):
    model = sngan((16, 16, 1), latent_dim=3, width=2, loss="non_saturating")
    model.compile(keras.optimizers.SGD(0.01))
    x = tf.random.stateless_uniform([6, 16, 16, 1], [1, 2])
    names = [v.path for v in model.discriminator.variables]
    vectors = [name.endswith("/u") for name in names]
    assert sum(vectors) == 3
    before = snapshot(model)["discriminator"]
    model._play(model.rounds()[1], x, None, tf.constant(SEED))
    for old, new in zip(before, snapshot(model)["discriminator"], strict=True):
        np.testing.assert_array_equal(old, new)
    model.evaluate(x, verbose=0)
    for old, new in zip(before, snapshot(model)["discriminator"], strict=True):
        np.testing.assert_array_equal(old, new)
    model._play(model.rounds()[0], x, None, tf.constant(SEED))
    for name, old, new in zip(names, before, snapshot(model)["discriminator"], strict=True):
        assert not np.array_equal(old, new), name


@pytest.mark.slow
def test_kernels_trained_with_spectral_normalization_have_the_largest_singular_value_1(digits):
    model = sngan(SHAPE, network="mlp", **TINY | {"discriminator_hidden": (8, 8)})
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(digits, batch_size=50, epochs=20, verbose=0)
    for layer in model.discriminator.layers:
        if isinstance(layer, zoo.networks.SpectralNormalization):
            kernel = layer.layer.kernel.numpy() / float(layer.sigma())
            assert np.linalg.svd(kernel, compute_uv=False)[0] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "loss", ["f_kl", slow("f_reverse_kl"), slow("f_neyman"), slow("f_squared_hellinger_saddle")]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_f_gan_trains_on_logits_whose_exponential_overflows(digits, loss, sign):
    model = f_gan(SHAPE, **TINY, loss=loss)
    *_, bias = model.discriminator.variables
    bias.assign([300.0 * sign])
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(digits[:40], batch_size=20, verbose=0)  # Raises if a loss is not finite.
    for optimizer in model.optimizers.values():  # Infinite second moments would stop all updates.
        assert all(np.isfinite(v.numpy()).all() for v in optimizer.variables)


# Instance noise -----------------------------------------------------------------------------------


def recorded_images(monkeypatch):
    """Collects the images of all later calls of a discriminator."""
    seen, logits = [], zoo.networks.logits

    def record(network, x, y, training):
        seen.append(np.asarray(x))
        return logits(network, x, y, training)

    monkeypatch.setattr(zoo.networks, "logits", record)
    return seen


def test_instance_noise_is_added_to_all_images_and_decays_to_0(known, monkeypatch):
    model = small(known, NonSaturating(), instance_noise=LinearDecay(10, 0.5))
    x = tf.fill([200, *SHAPE], 0.25)
    fake = model.generator(known.noise(200, 3)).numpy()
    seen = recorded_images(monkeypatch)
    for step, scale in ((0, 0.5), (6, 0.2), (10, 0.0), (11, 0.0)):
        model.step.assign(step)
        seen.clear()
        model.discriminator_objective(x, None, tf.constant(SEED), True)
        model.generator_objective(x, None, tf.constant(SEED), True)
        noises = [have - clean for have, clean in zip(seen, (0.25, fake, fake), strict=True)]
        for noise in noises:
            assert noise.std() == pytest.approx(scale, rel=0.03, abs=1e-6)
            assert abs(noise.mean()) < 4 * max(scale, 1e-6) / np.sqrt(noise.size)
        if scale:
            for i, j in ((0, 1), (0, 2), (1, 2)):
                assert abs(np.corrcoef(noises[i].ravel(), noises[j].ravel())[0, 1]) < 0.05


def test_noise_of_scale_0_changes_no_loss(known, digits):
    x = tf.constant(digits[:5])
    model = small(known, NonSaturating(), instance_noise=LinearDecay(3, 0.7))
    plain = zoo.GAN(model.generator, model.discriminator, model.prior)
    model.step.assign(3)
    for role in ("discriminator_objective", "generator_objective"):
        have, want = (getattr(m, role)(x, None, tf.constant(SEED), True)[0] for m in (model, plain))
        for player in want:
            np.testing.assert_allclose(have[player], want[player], rtol=1e-6)


def test_the_penalty_is_taken_between_noisy_images(known, monkeypatch):
    model = small(known, NonSaturating(), instance_noise=0.3, penalty=GradientPenalty())
    seen = recorded_images(monkeypatch)
    model.discriminator_objective(tf.fill([20, *SHAPE], 0.5), None, tf.constant(SEED), True)
    real, point, fake = seen
    share = (point - fake) / (real - fake)
    np.testing.assert_allclose(share, share[:, :1, :1].repeat(8, 1).repeat(8, 2), atol=0.01)
    assert (real.std((1, 2, 3)) > 0.2).all() and 0 < share.min() < share.max() < 1


# Builders -----------------------------------------------------------------------------------------


NETWORKS = {
    "mlp": {"generator_hidden": (4,), "discriminator_hidden": (4, 4)},
    "conv": {"network": "conv", "width": 2},
}


@pytest.mark.parametrize("network", NETWORKS)
def test_options_reach_their_parts(network):
    options = NETWORKS[network] | {"latent_dim": 3}
    model = gan(
        SHAPE, **options, loss="f_pearson", r1=2.0, spectral_norm=True, prior="sphere",
        instance_noise=0.2, instance_noise_steps=7, discriminator_steps=3, dropout=0.25,
    )  # fmt: skip
    assert type(model.adversarial_loss) is FDivergence
    assert model.adversarial_loss.divergence == "pearson"
    assert type(model.penalty) is R1 and model.penalty.weight == 2.0
    assert type(model.prior) is zoo.UniformOnSphere and model.discriminator_steps == 3
    assert (model.instance_noise.steps, model.instance_noise.start) == (7, 0.2)
    layers = model.discriminator.layers
    assert any(isinstance(layer, zoo.networks.SpectralNormalization) for layer in layers)
    rates = [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)]
    assert rates and set(rates) == {0.25}
    model = gan((16, 16, 1), **options, gradient_penalty=3.0)
    assert type(model.penalty) is GradientPenalty and model.penalty.weight == 3.0
    kind = keras.layers.BatchNormalization
    assert not any(isinstance(layer, kind) for layer in model.discriminator.layers)
    model = gan((16, 16, 1), **options, batch_norm=True, real_label=0.9, label_noise=0.1)
    assert any(isinstance(layer, kind) for layer in model.discriminator.layers)
    assert (model.adversarial_loss.real_label, model.adversarial_loss.label_noise) == (0.9, 0.1)


def test_priors_are_built_by_name_with_their_options():
    assert float(gan(SHAPE, **TINY, prior_scale=2.0).prior().stddev()[0]) == 2.0
    options = TINY | {"latent_dim": 2, "prior": "petals", "prior_components": 4}
    z = gan(SHAPE, **options).sample_latents(2000, seed=1).numpy()
    # Four petals leave the diagonals of the plane empty.
    angles = np.abs(np.arctan2(z[:, 1], z[:, 0]) % (np.pi / 2) - np.pi / 4)
    assert (angles < 0.2).mean() < 0.1
    for prior in ("mixture", "vamp", "realnvp", "maf"):
        with pytest.raises(ValueError, match=r"prior of a GAN must be fixed.*Received: "):
            gan(SHAPE, **TINY, prior=prior)


def test_paper_builders_set_the_options_of_their_papers():
    model = dcgan((16, 16, 1), width=2)
    assert type(model.prior) is zoo.Uniform and (model.prior.low, model.prior.high) == (-1, 1)
    assert type(model.adversarial_loss) is NonSaturating and model.latent_dim == 100
    kinds = [type(layer) for layer in model.discriminator.layers]
    assert keras.layers.BatchNormalization in kinds and keras.layers.Dropout not in kinds
    model = wgan_gp(SHAPE)
    assert type(model.adversarial_loss) is Wasserstein and model.discriminator_steps == 5
    assert type(model.penalty) is GradientPenalty
    assert (model.penalty.weight, model.penalty.target) == (10.0, 1.0)
    kinds = [type(layer) for layer in model.discriminator.layers]
    assert not {keras.layers.BatchNormalization, keras.layers.Dropout} & set(kinds)
    model = sngan(SHAPE, width=2)
    assert type(model.adversarial_loss) is Hinge and model.latent_dim == 128
    kernels = [w for w in model.discriminator.trainable_variables if len(w.shape) > 1]
    kinds = [type(layer) for layer in model.discriminator.layers]
    assert kinds.count(zoo.networks.SpectralNormalization) == len(kernels) > 0
    model = f_gan(SHAPE)
    assert type(model.adversarial_loss) is FDivergence
    assert (model.adversarial_loss.divergence, model.adversarial_loss.alternative) == ("kl", True)
    assert [w.shape for w in model.generator.weights if len(w.shape) > 1] == [
        (100, 1200), (1200, 1200), (1200, 64)
    ]  # fmt: skip
    for build in (dcgan, wgan_gp, sngan, f_gan):
        for network in ("mlp", "conv"):
            options = {"width": 2} if network == "conv" else TINY
            assert build((16, 16, 1), network=network, **options).sample(2).shape == (2, 16, 16, 1)


def test_paths_between_latents_stay_on_the_sphere():
    model = gan(SHAPE, **TINY | {"latent_dim": 4}, prior="sphere")
    z = model.sample_latents(2, seed=1)
    path = zoo.model.path_between(z[0], z[1], 5, spherical=True)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 2.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (dcgan, {"r1": 1.0}, r"batch_norm=False\. Received: an? R1"),
        (dcgan, {"spectral_norm": True}, "batch_norm=False.*Received: both"),
        (gan, {"r1": 1.0, "gradient_penalty": 1.0}, "one penalty"),
        (gan, {"instance_noise_steps": 5}, "instance noise that can decay.*Received: .*=5"),
        (gan, {"loss": "wasserstein"}, r"bounds the critic's slope.*spectral_norm=False"),
        (dcgan, {"loss": "wasserstein"}, r"bounds the critic's slope.*Received: "),
        (gan, {"instance_noise": -0.1}, "`instance_noise` must be"),
        (gan, {"prior": "sphere_"}, "Did you mean 'sphere'"),
        (gan, {"loss": "hinge", "real_label": 0.9}, "'hinge'"),
        (gan, {"width": 3}, "`width` is an option of network 'conv'"),
        (gan, {"prior": "uniform", "prior_scale": 2.0}, "`prior_scale` is an option of prior"),
        (gan, {"network": "cnn"}, "Unknown network 'cnn'"),
    ],
)
def test_incompatible_options_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build((16, 16, 1), **options)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match=r"`gan` has no option 'latents'\. It has: latent_dim, "):
        gan(SHAPE, latents="sphere")
