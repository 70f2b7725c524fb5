"""BiGAN and ALI: the gradients on pairs, and their fixed points."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from speed import slow_except

import zoo
from zoo.adversarial import Hinge, LogRatio, Minimax, NonSaturating
from zoo.distributions import by_name
from zoo.keras_internals import layers_in
from zoo.models.ali import ali
from zoo.models.bi_gan import bi_gan

tfd = tfp.distributions
SHAPE, LATENTS, BATCH, SEED = (8, 8, 1), 3, 7, tf.constant([1, 2])
PLAYERS = ["encoder", "generator", "discriminator"]


def joint_network(shape, latents, hidden=()):
    x, z = keras.Input(shape), keras.Input((latents,))
    h = keras.layers.Concatenate()([keras.layers.Flatten()(x), z])
    for units in hidden:
        h = keras.layers.Dense(units, "tanh")(h)
    return keras.Model([x, z], keras.layers.Dense(1)(h))


def small(known, loss=None, gaussian=True):
    family = known.Posterior() if gaussian else zoo.Deterministic()
    model = zoo.BiGAN(
        zoo.Conditional(
            zoo.networks.mlp_encoder(SHAPE, family.num_params(LATENTS), (5,), "tanh"), family
        ),
        zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (5,), "tanh", "sigmoid"),
        known.Prior(LATENTS),
        joint_network(SHAPE, LATENTS, (6,)),
        loss,
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def softplus_of(logits):
    return tf.reduce_mean(tf.math.log1p(tf.exp(logits)))


@pytest.mark.parametrize("gaussian", [False, True], ids=["bigan", "ali"])
@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_saturating"])
def test_a_step_updates_all_three_players_at_once_along_their_gradients(
    known, digits, loss, gaussian, weight_changes, assert_descends
):
    model, x = small(known, loss, gaussian), tf.constant(digits[:BATCH])
    with tf.GradientTape(persistent=True) as tape:
        code = model.posterior.network(x)
        if gaussian:
            loc, log_scale = tf.split(code, 2, 1)
            code = loc + tf.exp(log_scale) * known.noise(BATCH, LATENTS)
        z = tf.constant(known.noise(BATCH, LATENTS))
        real = model.discriminator([x, code])
        fake = model.discriminator([model.generator(z), z])
        # -log D(x, E(x)) - log(1 - D(G(z), z)), minus V.
        discriminator_loss = softplus_of(-real) + softplus_of(fake)
        # The same with the labels exchanged: -log(1 - D(x, E(x))) - log D(G(z), z).
        if type(loss) is Minimax:
            opposed_loss = -discriminator_loss
        else:
            opposed_loss = softplus_of(real) + softplus_of(-fake)
    variables = {p: model.variables_of(p) for p in PLAYERS}
    expected = {p: tape.gradient(opposed_loss, variables[p]) for p in PLAYERS[:2]}
    expected["discriminator"] = tape.gradient(discriminator_loss, variables["discriminator"])
    # Real pairs depend only on the encoder, fake pairs only on the generator.
    assert all(g is None for g in tape.gradient(real, variables["generator"]))
    assert all(g is None for g in tape.gradient(fake, variables["encoder"]))
    change = weight_changes(model, lambda: model.train_step((x,)))
    for player in PLAYERS:
        assert_descends(change[player], expected[player])


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_saturating"])
def test_updates_lower_real_logits_and_raise_fake_logits(known, digits, loss):
    model, x = small(known, loss, gaussian=False), tf.constant(digits[:BATCH])
    model.optimizers["encoder"].learning_rate.assign(0.01)
    model.optimizers["generator"].learning_rate.assign(0.01)
    model.optimizers["discriminator"].learning_rate.assign(0.0)
    _, before = model.objective(x, None, SEED, True)
    model._play(model.rounds()[0], x, None, SEED)
    _, after = model.objective(x, None, SEED, True)
    assert np.mean(after["real_logit"]) < np.mean(before["real_logit"])
    assert np.mean(after["fake_logit"]) > np.mean(before["fake_logit"])


class Table(zoo.distributions.Prior):
    """Latents 0 and 1 with the probabilities 1 - p and p, as vectors of one value."""

    def __init__(self, p, **kwargs):
        super().__init__(**kwargs)
        self.p = p

    def call(self, y=None):
        return tfd.Independent(tfd.Bernoulli(probs=tf.constant([self.p]), dtype=tf.float32), 1)


def on_a_table(joint_of_fakes, encoded=(0.0, 1.0), decoded=(0.0, 1.0)):
    """x and z in {0, 1}, z = E(x) and x = G(z), both linear; a linear D can express the log ratio."""
    identity = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])  # fmt: skip
    identity.set_weights([np.array([[encoded[1] - encoded[0]]]), np.array([encoded[0]])])
    generator = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), keras.layers.Reshape((1, 1, 1))])  # fmt: skip
    generator.set_weights([np.array([[decoded[1] - decoded[0]]]), np.array([decoded[0]])])
    return zoo.BiGAN(
        zoo.Conditional(identity, zoo.Deterministic()),
        generator,
        Table(joint_of_fakes),
        joint_network((1, 1, 1), 1),
        Minimax(),
    )


@pytest.mark.parametrize(("data", "prior"), [(0.5, 0.5), (0.3, 0.3), (0.2, 0.6)])
def test_the_optimal_discriminator_of_two_joint_tables_has_the_closed_form_loss(data, prior):
    """With z = x in all pairs, the tables are diag(1 - p, p) and diag(1 - q, q)."""
    model = on_a_table(prior)
    n = 20_000
    x = np.zeros([n, 1, 1, 1], np.float32)
    x[: int(data * n)] = 1
    # D* = P / (P + Q) has the logit log P / Q, linear in x + z where the tables have mass.
    low, high = np.log((1 - data) / (1 - prior)), np.log(data / prior)
    half = (high - low) / 2
    model.discriminator.set_weights([np.array([[half], [half]]), np.array([low])])
    losses, terms = model.objective(tf.constant(x), None, SEED, training=False)
    p, q = np.array([1 - data, data]), np.array([1 - prior, prior])
    best = p / (p + q)
    expected = -(p * np.log(best) + q * np.log(1 - best)).sum()
    mean = np.mean(losses["discriminator"])
    assert mean == pytest.approx(expected, abs=0.01)
    jsd = 0.5 * (p * np.log(2 * best) + q * np.log(2 * (1 - best))).sum()
    assert expected == pytest.approx(2 * np.log(2) - 2 * jsd)
    np.testing.assert_allclose(tf.sigmoid(terms["real_logit"][-1]), best[0], rtol=1e-5)
    # Other discriminators have a larger loss.
    for change in np.eye(3):
        weights = [half + change[:2, None] * 0.5, np.array([low + 0.5 * change[2]])]
        model.discriminator.set_weights(weights)
        other, _ = model.objective(tf.constant(x), None, SEED, training=False)
        assert np.mean(other["discriminator"]) > mean


def test_the_log_ratio_gives_the_two_kl_divergences_as_losses():
    model = on_a_table(0.6)
    model.adversarial_loss = LogRatio()
    n = 20_000
    x = np.zeros([n, 1, 1, 1], np.float32)
    x[: n // 5] = 1
    p, q = np.array([0.8, 0.2]), np.array([0.4, 0.6])
    low, high = np.log(p / q)
    half = (high - low) / 2
    model.discriminator.set_weights([np.array([[half], [half]]), np.array([low])])
    losses, _ = model.objective(tf.constant(x), None, SEED, training=True)
    assert np.mean(losses["encoder"]) == pytest.approx((p * np.log(p / q)).sum(), abs=1e-4)
    assert np.mean(losses["generator"]) == pytest.approx((q * np.log(q / p)).sum(), abs=0.03)


def test_equal_joint_distributions_have_the_loss_2_log_2_and_zero_gradient():
    model = on_a_table(0.5)
    # The data are draws of the prior, so that D's gradient compares two equal sets.
    z = model.prior().sample(64, seed=tfp.random.split_seed(SEED, 4)[1]).numpy()
    x = tf.constant(z[:, :, None, None])
    model.discriminator.set_weights([np.zeros((2, 1)), np.zeros(1)])
    with tf.GradientTape(persistent=True) as tape:
        losses, _ = model.objective(x, None, SEED, training=True)
    np.testing.assert_allclose(losses["discriminator"], 2 * np.log(2), rtol=1e-6)
    for player in PLAYERS:
        for slope in tape.gradient(losses[player], model.variables_of(player)):
            np.testing.assert_allclose(slope, 0.0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.4, -0.3])
def test_the_encoder_learns_to_invert_the_generator(slope):
    """Donahue et al., theorem 2, for a fixed G(z) = 1/2 + slope z: E(x) = (x - 1/2) / slope."""
    encoder = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])  # fmt: skip
    encoder.set_weights([np.array([[0.3]]), np.array([0.5])])
    generator = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), keras.layers.Reshape((1, 1, 1))])  # fmt: skip
    generator.set_weights([np.array([[slope]]), np.array([0.5])])
    model = zoo.BiGAN(
        zoo.Conditional(encoder, zoo.Deterministic()),
        generator,
        zoo.Uniform(1),
        joint_network((1, 1, 1), 1, (16, 16)),
    )
    rates = {"encoder": 0.02, "generator": 0.0, "discriminator": 0.01}
    model.compile(
        {p: keras.optimizers.Adam(r, beta_1=0.5) for p, r in rates.items()}, jit_compile=False
    )
    z = np.random.default_rng(0).uniform(-1, 1, size=(512, 1))
    x = (0.5 + slope * z).reshape(-1, 1, 1, 1).astype(np.float32)
    data = tf.data.Dataset.from_tensors(x).repeat()
    assert np.abs(model.encode(x) - z).mean() > 0.5
    model.fit(data, steps_per_epoch=500, verbose=0)
    assert np.abs(model.encode(x) - z).mean() < 0.15
    assert np.abs(model.reconstruct(x) - x).mean() < 0.06


def test_real_and_fake_pairs_are_normalized_separately(known):
    image, latent = keras.Input(SHAPE), keras.Input((LATENTS,))
    norm = keras.layers.BatchNormalization(momentum=0.9)
    h = norm(keras.layers.Concatenate()([keras.layers.Flatten()(image), latent]))
    discriminator = keras.Model([image, latent], keras.layers.Dense(1)(h))
    parts = small(known)
    model = zoo.BiGAN(parts.posterior, parts.generator, parts.prior, discriminator)
    model.compile(keras.optimizers.SGD(0.0))
    images = np.random.default_rng(0).uniform(size=(9, *SHAPE)).astype(np.float32)
    loc, log_scale = np.split(model.posterior.network(images).numpy(), 2, 1)
    code, z = loc + np.exp(log_scale) * known.noise(9, LATENTS), known.noise(9, LATENTS)
    fake = model.generator(z).numpy()
    model.train_step((tf.constant(images),))
    mean = 0.0
    for pixels, latents in ((images, code), (fake, z)):
        mean = 0.9 * mean + 0.1 * np.concatenate([pixels.reshape(9, -1), latents], 1).mean(0)
    np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-4, atol=1e-6)


def test_the_perceptrons_match_donahue_et_al():
    model = bi_gan((28, 28, 1))
    assert model.latent_dim == 50 and (model.prior.low, model.prior.high) == (-1.0, 1.0)
    assert isinstance(model.posterior.family, zoo.Deterministic)
    for network in (model.posterior.network, model.generator, model.discriminator):
        layers = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
        assert [layer.units for layer in layers[:2]] == [1024, 1024]
        (norm,) = (n for n in network.layers if isinstance(n, keras.layers.BatchNormalization))
        assert norm.trainable_variables == [] and norm.momentum == 0.9
        assert norm.input is layers[1].output


def test_ali_has_a_stochastic_encoder_and_convolutions():
    model = ali((16, 16, 1), latent_dim=4, width=2, hidden=(5, 6), dropout=0.4)
    assert isinstance(model.posterior.family, zoo.DiagonalNormal)
    assert isinstance(model.prior, zoo.StandardNormal) and model.latent_dim == 4
    parts = list(layers_in(model.discriminator))
    assert [p.rate for p in parts if isinstance(p, keras.layers.Dropout)] == [0.4] * 4
    assert not any(isinstance(p, keras.layers.BatchNormalization) for p in parts)
    units = [p.units for p in parts if isinstance(p, keras.layers.Dense)]
    assert sorted(units) == [1, 5, 6, 10, 12]
    assert any(
        isinstance(p, keras.layers.BatchNormalization) for p in layers_in(model.posterior.network)
    )


def test_options_reach_their_parts():
    tiny = {"latent_dim": 4, "hidden": (5,)}
    model = bi_gan(
        SHAPE, **tiny, posterior="normal", prior="normal", prior_scale=3.0, loss="minimax",
        real_label=0.9, label_noise=0.1,
    )  # fmt: skip
    assert isinstance(model.posterior.family, zoo.DiagonalNormal)
    assert float(model.prior().stddev()[0]) == 3.0
    assert type(model.adversarial_loss) is Minimax
    assert (model.adversarial_loss.real_label, model.adversarial_loss.label_noise) == (0.9, 0.1)
    assert type(bi_gan(SHAPE, **tiny, loss="log_ratio").adversarial_loss) is LogRatio
    model = bi_gan(SHAPE, **tiny, posterior="implicit", posterior_noise_dim=6)
    assert model.posterior.network.inputs[1].shape == (None, 6)
    model = bi_gan(SHAPE, **tiny, network="conv", width=2)
    assert isinstance(model.posterior.family, zoo.Deterministic)
    assert isinstance(model.prior, zoo.Uniform) and model.prior.dim == 4
    assert type(model.adversarial_loss) is NonSaturating


@pytest.mark.parametrize("posterior", slow_except(["planar", "implicit"], by_name.POSTERIORS))
def test_every_posterior_trains(digits, posterior):
    model = bi_gan(SHAPE, latent_dim=2, hidden=(4,), posterior=posterior)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    before = [w.numpy() for w in model.posterior.trainable_variables]
    model.train_step((tf.constant(digits[:6]),))
    after = model.posterior.trainable_variables
    assert any((w.numpy() != old).any() for w, old in zip(after, before, strict=True))
    assert model.reconstruct(digits[:3]).shape == (3, *SHAPE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": "norml"}, "Unknown posterior 'norml'"),
        ({"prior": "sfere"}, "Unknown prior 'sfere'"),
        ({"loss": "hinge"}, r"exchanged labels.*Received: a Hinge"),
        ({"prior": "realnvp"}, r"prior of a BiGAN must be fixed.*Received: a RealNVPPrior"),
        ({"width": 3}, "`width` is an option of network 'conv'"),
        ({"posterior_noise_dim": 3}, "`posterior_noise_dim` is an option of posterior"),
        ({"network": "conv", "posterior": "implicit"}, "exists only as a perceptron"),
    ],
)
def test_incompatible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bi_gan(SHAPE, latent_dim=3, hidden=(4,), **options)


def test_incompatible_parts_are_refused(known):
    model = small(known)
    parts = (model.posterior, model.generator, model.prior)
    with pytest.raises(ValueError, match=r"exchanged labels.*Received: a Hinge"):
        zoo.BiGAN(*parts, model.discriminator, Hinge())
    with pytest.raises(ValueError, match=r"of a BiGAN must be fixed.*Received: a MixturePrior"):
        zoo.BiGAN(*parts[:2], zoo.MixturePrior(LATENTS, 2), model.discriminator)
    with pytest.raises(
        ValueError,
        match=r"from \[B, 8, 8, 1\] and \[B, 3\].*Received: a network from \[B, 8, 8, 1\] to",
    ):
        zoo.BiGAN(*parts, zoo.networks.mlp_discriminator(SHAPE, (4,)))
