"""VAE/GAN: the losses and gradients of Larsen et al., against formulas written out here."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow

import zoo
from zoo.adversarial import Minimax, NonSaturating
from zoo.distributions import by_name
from zoo.models.vaegan import attribute_vectors, vaegan
from zoo.penalties import R1, GradientPenalty, Penalty

SHAPE, BATCH, LATENTS = (8, 8, 1), 6, 3
PLAYERS = ["encoder", "generator", "discriminator"]
TINY = {"latent_dim": LATENTS, "hidden": (5,), "discriminator_hidden": (7,)}
CONV = {"network": "conv", "latent_dim": 3, "filters": (2,), "hidden": (4,), "width": 2}


def networks():
    return (
        zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, (5,), "tanh"),
        zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (5,), "tanh", "sigmoid"),
        zoo.networks.mlp_discriminator(SHAPE, (7,), features=True),
    )


def model_of(known, encoder, generator, discriminator, loss=None, gamma=0.1, **more):
    model = zoo.VAEGAN(
        zoo.Conditional(encoder, known.Posterior()),
        generator,
        known.Prior(LATENTS),
        discriminator,
        loss,
        gamma,
        **more,
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def softplus_of(logits):
    return tf.reduce_mean(tf.math.log1p(tf.exp(logits)))


def parts_by_hand(model, known, x):
    """KL, reconstruction and the three logits, in formulas."""
    loc, log_scale = tf.split(model.posterior.network(x), 2, 1)
    z = loc + tf.exp(log_scale) * known.noise(BATCH, LATENTS)
    rate = tf.reduce_mean(
        0.5 * tf.reduce_sum(loc**2 + tf.exp(2 * log_scale) - 1 - 2 * log_scale, 1)
    )
    target, real = model.discriminator(x)
    feature, reconstruction = model.discriminator(model.generator(z))
    _, sample = model.discriminator(model.generator(tf.constant(known.noise(BATCH, LATENTS))))
    distortion = tf.reduce_mean(0.5 * tf.reduce_sum((target - feature) ** 2, 1))
    return rate, distortion, real, reconstruction, sample


def gradients_by_hand(model, known, x, saturating, gamma, beta=1.0):
    with tf.GradientTape(persistent=True) as tape:
        rate, distortion, real, reconstruction, sample = parts_by_hand(model, known, x)
        discriminator_loss = softplus_of(-real) + softplus_of(reconstruction) + softplus_of(sample)
        if saturating:
            adversarial = -softplus_of(reconstruction) - softplus_of(sample)
        else:
            adversarial = softplus_of(-reconstruction) + softplus_of(-sample)
        losses = {
            "encoder": beta * rate + distortion,
            "generator": gamma * distortion + adversarial,
            "discriminator": discriminator_loss,
        }
    return {player: tape.gradient(losses[player], model.variables_of(player)) for player in PLAYERS}


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_saturating"])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 10.0])
def test_a_step_updates_all_three_players_at_once_along_their_gradients(
    known, digits, loss, gamma, weight_changes, assert_descends
):
    model = model_of(known, *networks(), loss, gamma)
    x = tf.constant(digits[:BATCH])
    expected = gradients_by_hand(model, known, x, type(loss) is Minimax, gamma)
    change = weight_changes(model, lambda: model.train_step((x,)))
    for player in PLAYERS:
        assert_descends(change[player], expected[player])


@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_beta_scales_the_rate_only_for_the_encoder(
    known, digits, beta, weight_changes, assert_descends
):
    model = model_of(known, *networks(), beta=beta)
    x = tf.constant(digits[:BATCH])
    expected = gradients_by_hand(model, known, x, True, 0.1, beta)
    change = weight_changes(model, lambda: model.train_step((x,)))
    for player in PLAYERS:
        assert_descends(change[player], expected[player])


def linear_discriminator():
    """Its features are the pixels."""
    images = keras.Input(SHAPE)
    pixels = keras.layers.Flatten()(images)
    return keras.Model(images, (pixels, keras.layers.Dense(1)(pixels)))


@pytest.mark.parametrize(
    ("penalty", "value", "slope"),  # The norm n of the kernel, and the penalty's derivative by n
    [
        (GradientPenalty(5.0, 0.3), lambda n: 5 * (n - 0.3) ** 2, lambda n: 10 * (n - 0.3)),
        (R1(5.0), lambda n: 2.5 * n**2, lambda n: 5 * n),
    ],
    ids=["gp", "r1"],
)
def test_a_penalty_reaches_only_the_discriminator(
    known, digits, penalty, value, slope, weight_changes
):
    parts = [*networks()[:2], linear_discriminator()]
    weights = [part.get_weights() for part in parts]
    kernel = weights[2][0]
    x, changes = tf.constant(digits[:BATCH]), []
    for chosen in (None, penalty):
        for part, values in zip(parts, weights, strict=True):
            part.set_weights(values)
        model = model_of(known, *parts, penalty=chosen)
        assert ("penalty" in model.terms) == (chosen is not None)
        changes.append(weight_changes(model, lambda model=model: model.train_step((x,))))
    plain, penalised = changes
    assert same(plain["encoder"], penalised["encoder"])
    assert same(plain["generator"], penalised["generator"])
    norm = np.linalg.norm(kernel)
    by_penalty = penalised["discriminator"][0] - plain["discriminator"][0]
    np.testing.assert_allclose(by_penalty, -slope(norm) * kernel / norm, rtol=1e-3, atol=1e-4)
    parts[2].set_weights(weights[2])
    _, terms = model.objective(x, None, tf.constant([1, 2]), training=True)
    np.testing.assert_allclose(terms["penalty"], np.full(BATCH, value(norm)), rtol=1e-4)


def test_the_fake_images_of_the_penalty_are_samples(known, digits):
    received = []

    class Recorder(Penalty):
        def __call__(self, discriminator, real, fake, seed):
            received.extend([real, fake])
            return discriminator(real), tf.zeros(len(real))

    model = model_of(known, *networks(), penalty=Recorder())
    x = tf.constant(digits[:BATCH])
    model.objective(x, None, tf.constant([1, 2]), training=True)
    np.testing.assert_array_equal(received[0], x)
    samples = model.generator(tf.constant(known.noise(BATCH, LATENTS)))
    np.testing.assert_allclose(received[1], samples, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", ["gradient_penalty", "r1"])
def test_a_penalty_needs_a_discriminator_without_batch_normalization(option):
    with pytest.raises(ValueError, match=r"batch_norm=False\. Received: "):
        vaegan(SHAPE, **(TINY | {"discriminator_hidden": (7, 7)}), **{option: 2.0})
    model = vaegan(SHAPE, **TINY, **{option: 2.0}, batch_norm=False, loss="wasserstein")
    again = zoo.VAEGAN.from_config(model.get_config())
    for one in (model, again):
        assert type(one.penalty) is {"gradient_penalty": GradientPenalty, "r1": R1}[option]
        assert one.penalty.weight == 2.0


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_kinds_of_images_are_normalized_together_or_separately(known, digits, joint, training):
    """Against Keras's normalization of one batch of 3 N, or of three batches of N."""
    normalization = keras.layers.BatchNormalization()
    images = keras.Input(SHAPE)
    features = normalization(keras.layers.Flatten()(images))
    discriminator = keras.Model(images, (features, keras.layers.Dense(1)(features)))
    encoder, generator, _ = networks()
    model = model_of(known, encoder, generator, discriminator, joint_batch=joint)
    x = tf.constant(digits[:BATCH])
    loc, log_scale = tf.split(encoder(x), 2, 1)
    noise = known.noise(BATCH, LATENTS)
    kinds = [x, generator(loc + tf.exp(log_scale) * noise), generator(tf.constant(noise))]
    kept = discriminator.get_weights()
    _, terms = model.objective(x, None, tf.constant([1, 2]), training)
    have = [terms[f"{name}_logit"] for name in ("real", "reconstruction", "sample")]
    discriminator.set_weights(kept)
    if joint or not training:
        want = tf.split(discriminator(tf.concat(kinds, 0), training=training)[1], 3)
    else:
        want = [discriminator(kind, training=training)[1] for kind in kinds]
    np.testing.assert_allclose(have, tf.stack(want)[..., 0], rtol=1e-3, atol=1e-3)


def test_options_reach_their_parts(digits, snapshot):
    model = vaegan(SHAPE, **TINY)
    assert (model.gamma, model.beta, model.joint_batch, model.equilibrium) == (1e-2, 1, True, None)
    assert type(model.adversarial_loss) is Minimax
    assert isinstance(model.posterior.family, zoo.DiagonalNormal)
    model = vaegan(
        SHAPE, **TINY, gamma=0.3, loss="minimax", real_label=0.9, label_noise=0.1, prior_scale=2.0,
        posterior="full_covariance", dropout=0.25, batch_norm=False, spectral_norm=True,
    )  # fmt: skip
    assert model.gamma == 0.3 and float(model.prior().stddev()[0]) == 2.0
    assert (model.adversarial_loss.real_label, model.adversarial_loss.label_noise) == (0.9, 0.1)
    assert isinstance(model.posterior.family, zoo.distributions.FullCovarianceNormal)
    kinds = [type(layer) for layer in model.discriminator.layers]
    assert kinds.count(zoo.networks.SpectralNormalization) == 2 and keras.layers.Dropout in kinds
    options = {"beta": 2.0, "joint_batch": False, "condition": "label", "margin": 0.35}
    model = vaegan((16, 16, 1), **CONV, **options)
    again = zoo.VAEGAN.from_config(model.get_config())
    for one in (model, again):
        assert one.beta == 2.0 and one.joint_batch is False and one.equilibrium.margin == 0.35
    model.compile(keras.optimizers.SGD(1.0))
    before = snapshot(model)
    x = tf.random.stateless_uniform([4, 16, 16, 1], [1, 2])
    model.train_step((x, tf.constant([0, 3, 9, 3])))
    after = snapshot(model)
    for player in PLAYERS:
        assert not same(before[player], after[player]), player


@pytest.mark.parametrize("posterior", by_name.POSTERIORS)
def test_every_posterior_with_a_density_trains(digits, posterior):
    if posterior in ("deterministic", "implicit", "noise_basis"):
        with pytest.raises(ValueError, match=r"A VAEGAN needs a density.*Received: "):
            vaegan(SHAPE, **TINY, posterior=posterior)
        return
    model = vaegan(SHAPE, **TINY, posterior=posterior)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    before = [w.numpy() for w in model.posterior.trainable_variables]
    model.train_step((tf.constant(digits[:6]),))
    after = model.posterior.trainable_variables
    assert any((w.numpy() != old).any() for w, old in zip(after, before, strict=True))


def change_of(known, weight_changes, x, loss, gamma):
    keras.utils.set_random_seed(1)
    model = model_of(known, *networks(), loss, gamma)
    return weight_changes(model, lambda: model.train_step((x,)))


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_adversarial_gradient_reaches_the_encoder_and_no_distortion_the_discriminator(
    known, digits, weight_changes
):
    x = tf.constant(digits[:BATCH])
    plain = change_of(known, weight_changes, x, Minimax(), 0.1)
    other_game = change_of(known, weight_changes, x, NonSaturating(real_label=0.7), 0.1)
    assert same(plain["encoder"], other_game["encoder"])
    assert not same(plain["generator"], other_game["generator"])
    assert not same(plain["discriminator"], other_game["discriminator"])
    other_weight = change_of(known, weight_changes, x, Minimax(), 100.0)
    assert same(plain["encoder"], other_weight["encoder"])
    assert same(plain["discriminator"], other_weight["discriminator"])
    assert not same(plain["generator"], other_weight["generator"])


def test_the_terms_match_the_formulas_per_example(known, digits):
    model = model_of(known, *networks())
    x = tf.constant(digits[:BATCH])
    rate, distortion, real, reconstruction, sample = parts_by_hand(model, known, x)
    _, terms = model.objective(x, None, tf.constant([1, 2]), training=True)
    assert set(terms) == set(model.terms) and all(t.shape == [BATCH] for t in terms.values())
    assert np.mean(terms["rate"]) == pytest.approx(float(rate), rel=1e-4)
    # Seven features: the unit normal's constant is 7/2 log(2 pi).
    expected = float(distortion) + 3.5 * np.log(2 * np.pi)
    assert np.mean(terms["distortion"]) == pytest.approx(expected, rel=1e-4)
    for name, logits in (("real", real), ("reconstruction", reconstruction), ("sample", sample)):
        np.testing.assert_allclose(terms[f"{name}_logit"], logits[:, 0], rtol=1e-3, atol=1e-4)


def identity_features():
    """A discriminator with the image as features, and with logits of 0."""
    images = keras.Input(SHAPE)
    flat = keras.layers.Flatten()(images)
    logits = keras.layers.Dense(1, kernel_initializer="zeros")(flat)
    return keras.Model(images, (keras.layers.Activation("linear")(flat), logits))


@pytest.mark.parametrize("gamma", [0.1, 3.0])
def test_image_features_without_an_adversarial_gradient_give_the_vae(
    known, digits, gamma, weight_changes, assert_descends
):
    encoder, generator, _ = networks()
    x = tf.constant(digits[:BATCH])
    vae = zoo.VAE(
        zoo.Conditional(encoder, known.Posterior()),
        zoo.Conditional(generator, zoo.UnitNormal()),
        zoo.StandardNormal(LATENTS),
    )
    vae.compile(keras.optimizers.SGD(1.0))
    kept = vae.get_weights()
    change = weight_changes(vae, lambda: vae.train_step((x,)))["vae"]
    logs = {name: float(value) for name, value in vae.train_step((x,)).items()}
    vae.set_weights(kept)
    model = model_of(known, encoder, generator, identity_features(), gamma=gamma)
    hybrid = weight_changes(model, lambda: model.train_step((x,)))
    n = len(encoder.trainable_variables)
    assert_descends(hybrid["encoder"], [-c for c in change[:n]])
    assert_descends(hybrid["generator"], [-gamma * c for c in change[n:]])
    assert set(logs) == {"loss", "distortion", "rate"}


def test_gamma_0_gives_the_generator_update_of_a_gan(
    known, digits, weight_changes, assert_descends
):
    encoder, generator, discriminator = networks()
    x = tf.constant(digits[:BATCH])
    # If q(z | x) is N(0, I) for every image, reconstructions are samples: the loss is twice that of
    # a GAN's generator for the same latents.
    encoder.set_weights([np.zeros_like(w) for w in encoder.get_weights()])
    logits = keras.Model(discriminator.input, discriminator.output[1])
    gan = zoo.GAN(generator, logits, known.Prior(LATENTS), Minimax())
    gan.compile(keras.optimizers.SGD(1.0))
    kept = gan.get_weights()
    change = weight_changes(gan, lambda: gan._play(gan.rounds()[1], x, None, tf.constant([1, 2])))
    gan.set_weights(kept)
    model = model_of(known, encoder, generator, discriminator, gamma=0.0)
    hybrid = weight_changes(model, lambda: model.train_step((x,)))
    assert_descends(hybrid["generator"], [-2 * c for c in change["generator"]])


def test_the_features_of_the_data_are_a_constant_target(known, digits):
    model = model_of(known, *networks())
    x = tf.constant(digits[:BATCH])
    with tf.GradientTape() as tape:
        tape.watch(x)
        losses, _ = model.objective(x, None, tf.constant([1, 2]), training=True)
    with tf.GradientTape() as by_hand:
        by_hand.watch(x)
        loc, log_scale = tf.split(model.posterior.network(x), 2, 1)
        z = loc + tf.exp(log_scale) * known.noise(BATCH, LATENTS)
        rate = 0.5 * tf.reduce_sum(loc**2 + tf.exp(2 * log_scale) - 1 - 2 * log_scale, 1)
        feature, _ = model.discriminator(model.generator(z))
        target = model.discriminator(x)[0].numpy()
        loss = rate + 0.5 * tf.reduce_sum((target - feature) ** 2, 1)
    have, want = tape.gradient(losses["encoder"], x), by_hand.gradient(loss, x)
    np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-4)


def test_a_step_updates_the_batch_statistics_of_every_player(snapshot):
    model = vaegan((16, 16, 1), **CONV)
    model.compile(keras.optimizers.SGD(0.0))
    before = snapshot(model)
    model.train_step((tf.random.stateless_uniform([4, 16, 16, 1], [1, 2]),))
    after = snapshot(model)
    statistics = 0
    for player, layers in model.players().items():
        names = [v.path for layer in layers for v in layer.variables]
        for name, old, new in zip(names, before[player], after[player], strict=True):
            assert np.array_equal(old, new) == ("moving" not in name), name
            statistics += "moving" in name
    assert statistics >= 6


@pytest.mark.parametrize("name", ["gamma", "beta"])
@pytest.mark.parametrize("weight", [-1.0, -1e-9, float("nan"), float("inf")])
def test_a_weight_out_of_range_is_refused(known, name, weight):
    with pytest.raises(ValueError, match=rf"`{name}` must be at least 0 .*Received: (-|nan|inf)"):
        model_of(known, *networks(), **{name: weight})


def test_a_prior_with_trainable_weights_or_without_a_density_is_refused(known):
    encoder, generator, discriminator = networks()
    posterior = zoo.Conditional(encoder, known.Posterior())
    with pytest.raises(ValueError, match=r"of a VAEGAN must be fixed.*Received: a MixturePrior"):
        zoo.VAEGAN(posterior, generator, zoo.MixturePrior(LATENTS, 2), discriminator)
    with pytest.raises(
        ValueError, match=r"A VAEGAN needs a density.*Received: an? UniformOnSphere"
    ):
        zoo.VAEGAN(posterior, generator, zoo.UniformOnSphere(LATENTS), discriminator)


# Attributes -----------------------------------------------------------------------------------


def attributes_of(n, size=2):
    return (np.arange(n * size).reshape(n, size) % 3 > 0).astype(np.float32)


def conditional(known, condition="attributes", size=2, gamma=0.1):
    model = vaegan(SHAPE, **TINY, batch_norm=False, condition=condition, condition_size=size)
    return model_of(
        known, model.posterior.network, model.generator, model.discriminator, gamma=gamma
    )


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("condition", ["attributes", "label"])
def test_each_of_the_three_networks_uses_the_condition(network, condition, digits):
    options = TINY if network == "mlp" else CONV | {"filters": (4,), "width": 4}
    model = vaegan(SHAPE, **options, condition=condition, condition_size=3)
    x, z = digits[:2], np.ones((2, LATENTS), np.float32)
    one, other = np.array([0, 1]), np.array([0, 2])
    if condition == "attributes":
        one, other = np.eye(3, dtype=np.float32)[one], np.eye(3, dtype=np.float32)[other]
    for part, context in (
        (model.posterior.network, x),
        (model.generator, z),
        (model.discriminator, x),
    ):
        for a, b in zip(
            *(keras.tree.flatten(part([context, y])) for y in (one, other)), strict=True
        ):
            np.testing.assert_array_equal(a[0], b[0])
            assert np.abs(a[1] - b[1]).max() > 1e-6
    assert model.condition.shape.rank == (2 if condition == "attributes" else 1)
    samples = model.sample(2, y=one, seed=1), model.sample(2, y=other, seed=1)
    np.testing.assert_array_equal(samples[0][0], samples[1][0])
    assert np.abs(samples[0][1] - samples[1][1]).max() > 1e-6


def test_each_player_descends_its_gradient_with_attributes(
    known, digits, weight_changes, assert_descends
):
    """Reconstructions and samples have the attributes of the batch's images in all networks."""
    model = conditional(known)
    x, y = tf.constant(digits[:BATCH]), tf.constant(attributes_of(BATCH))
    with tf.GradientTape(persistent=True) as tape:
        loc, log_scale = tf.split(model.posterior.network([x, y]), 2, 1)
        noise = known.noise(BATCH, LATENTS)
        rate = 0.5 * tf.reduce_sum(loc**2 + tf.exp(2 * log_scale) - 1 - 2 * log_scale, 1)
        # The generator normalizes reconstructions and samples as one batch.
        latents = tf.concat([loc + tf.exp(log_scale) * noise, noise], 0)
        fake = model.generator([latents, tf.concat([y, y], 0)], training=True)
        target, real = model.discriminator([x, y])
        feature, reconstruction = model.discriminator([fake[:BATCH], y])
        _, sample = model.discriminator([fake[BATCH:], y])
        distortion = 0.5 * tf.reduce_sum((tf.stop_gradient(target) - feature) ** 2, 1)
        discriminator_loss = softplus_of(-real) + softplus_of(reconstruction) + softplus_of(sample)
        adversarial = -softplus_of(reconstruction) - softplus_of(sample)
        losses = {
            "encoder": tf.reduce_mean(rate + distortion),
            "generator": model.gamma * tf.reduce_mean(distortion) + adversarial,
            "discriminator": discriminator_loss,
        }
    expected = {p: tape.gradient(losses[p], model.variables_of(p)) for p in PLAYERS}
    change = weight_changes(model, lambda: model.train_step((x, y)))
    for player in PLAYERS:
        assert_descends(change[player], expected[player])


def test_a_condition_of_only_the_generator_is_required(known, digits):
    encoder, _, discriminator = networks()
    generator = conditional(known).generator
    model = model_of(known, encoder, generator, discriminator)
    assert model.condition.shape.as_list() == [None, 2]
    with pytest.raises(ValueError, match=r"takes a condition.*pass `y`.*Received: y=None"):
        model.sample(3)
    with pytest.raises(
        ValueError, match=r"takes a condition `y` as its second input.*Received: y=None"
    ):
        model.objective(tf.constant(digits[:3]), None, tf.constant([1, 2]), True)


def test_a_conditional_prior_gives_one_sample_for_each_image(digits):
    encoder, generator, discriminator = networks()
    prior = zoo.ConditionalPrior(zoo.networks.mlp(2, 2 * LATENTS, (4,)), zoo.DiagonalNormal())
    prior.trainable = False
    model = zoo.VAEGAN(
        zoo.Conditional(encoder, zoo.DiagonalNormal()), generator, prior, discriminator
    )
    y = tf.constant(attributes_of(5))
    _, terms = model.objective(tf.constant(digits[:5]), y, tf.constant([1, 2]), True)
    assert terms["sample_logit"].shape == (5,)


def test_attribute_vectors_of_a_linear_model_are_its_directions():
    """z = base + W a + noise with mean 0 in each group, all 2^3 combinations equally often."""
    rng = np.random.default_rng(0)
    y = np.array([[i >> k & 1 for k in range(3)] for i in range(8)]).repeat(6, 0)
    directions = rng.normal(size=(3, 4))
    noise = rng.normal(size=(8, 6, 4))
    noise = (noise - noise.mean(1, keepdims=True)).reshape(48, 4)
    z = 2.0 + y @ directions + noise
    np.testing.assert_allclose(attribute_vectors(z, y), directions, atol=1e-12)
    np.testing.assert_allclose(attribute_vectors(z, y.astype(np.float32)), directions, atol=1e-12)


def test_a_model_finds_the_attribute_vectors_of_images(digits):
    model = vaegan(SHAPE, **TINY)
    y = attributes_of(len(digits))
    expected = attribute_vectors(model.encode(digits), y)
    np.testing.assert_allclose(model.attribute_vectors(digits, y), expected, atol=1e-5)


def test_attribute_vectors_of_uneven_groups_and_of_labels():
    z = np.array([[0.0, 0], [2, 0], [4, 6], [6, 0]])
    by_hand = [[0 - (2 + 4 + 6) / 3, 0 - 2], [(2 + 6) / 2 - 2, 0 - 3], [4 - 8 / 3, 6]]
    np.testing.assert_allclose(attribute_vectors(z, np.array([0, 1, 2, 1])), by_hand)


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        (np.zeros((3, 2)), np.array([[0.5], [0], [1]]), "0 or 1.*Received"),
        (np.zeros((3, 2)), np.ones((2, 1)), "Expected latents"),
        (np.zeros(3), np.ones((3, 1)), "Expected latents"),
        (np.zeros((3, 2)), np.array([-1, 0, 1]), "labels .N. of at least 0"),
        (
            np.zeros((2, 2)),
            np.array([[1, 0], [1, 1]]),
            r"images without it.*equal values of the attributes \[0\]",
        ),
    ],
)
def test_attribute_vectors_refuse_other_attributes(z, y, message):
    with pytest.raises(ValueError, match=message):
        attribute_vectors(z, y)


def test_a_picture_of_attributes_shows_the_decoded_images(tmp_path, digits, monkeypatch):
    model = vaegan(SHAPE, **TINY | {"latent_dim": 2}, condition="label")
    x, y, vectors = digits[:3], np.array([4, 0, 7]), np.array([[3.0, 0], [0, -3]])
    kept = {}
    monkeypatch.setattr(
        zoo.pictures, "_sheet", lambda tiles, *gaps: kept.setdefault("tiles", tiles)
    )
    monkeypatch.setattr(zoo.pictures, "save", lambda *arguments: None)
    zoo.pictures.attributes(model, x, vectors, tmp_path / "a.png", strength=2.0, y=y)
    z = model.encode(x, y).numpy()
    for row in range(3):
        shown = [x[row]]
        for step in ([0, 0], [6, 0], [0, -6]):
            shown.append(model.decode(z[row : row + 1] + np.float32(step), y[row : row + 1])[0])
        expected = zoo.pictures._tiles(np.stack(shown))
        assert np.abs(kept["tiles"][row].astype(int) - expected).max() <= 1
    with pytest.raises(ValueError, match="latents have 2 dimensions"):
        zoo.pictures.attributes(model, x, np.ones((1, 3)), tmp_path / "a.png", y=y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition": "seen"}, "Unknown condition 'seen'"),
        ({"condition": "attributes"}, r"`condition_size`.*condition_size=0"),
        ({"condition_size": 3}, r"condition='none' does not use it.*condition_size=3"),
        ({"condition": "label", "condition_size": -1}, "`condition_size` must be at least 0"),
        ({"loss": "wasserstein"}, r"bounds the critic's slope.*Received: "),
        ({"loss": "hinge", "real_label": 0.9}, "'hinge'"),
        ({"spectral_norm": True}, "batch_norm=False.*Received: both"),
        ({"filters": (3,)}, "`filters` is an option of network 'conv'"),
        ({"margin": -0.1}, r"`margin` must be at least 0\. Received: -0\.1"),
    ],
)
def test_incompatible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        vaegan(SHAPE, **TINY, **options)


# Equilibrium ----------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [0.1, 0.32, 0.34, 0.68, 1.02, 1.04, 3.0])
@pytest.mark.parametrize("fake", [0.1, 0.32, 0.34, 0.68, 1.02, 1.04, 3.0])
def test_the_equilibrium_matches_the_authors_code(real, fake):
    dis_update = not (real < 0.68 - 0.35 or fake < 0.68 - 0.35)
    dec_update = not (real > 0.68 + 0.35 or fake > 0.68 + 0.35)
    if not (dec_update or dis_update):
        dec_update = dis_update = True
    have = zoo.Equilibrium()(tf.constant(real), tf.constant(fake))
    assert [bool(h) for h in have] == [dis_update, dec_update]


def state_of(model):
    """By player: weights, batch statistics and the optimizer's variables."""
    return {
        player: [v.numpy() for layer in layers for v in layer.variables]
        + [v.numpy() for v in model.optimizers[player].variables]
        for player, layers in model.players().items()
    }


def gated(rule):
    """Generator and discriminator have batch normalization."""
    return zoo.VAEGAN(
        zoo.Conditional(zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, ()), zoo.DiagonalNormal()),
        zoo.networks.mlp_decoder(LATENTS, SHAPE, hidden=(4,), output="sigmoid", batch_norm=True),
        zoo.StandardNormal(LATENTS),
        zoo.networks.mlp_discriminator(SHAPE, (4, 4), features=True, batch_norm=True),
        equilibrium=rule,
    )


@pytest.mark.parametrize(
    ("mode", "cost", "skipped"),
    [
        ("eager", 9.0, "discriminator"),
        ("eager", -9.0, "generator"),
        ("eager", 0.69, None),
        slow("graph", 9.0, "discriminator"),
        slow("xla", -9.0, "generator"),
    ],
)
def test_a_skipped_player_keeps_weights_statistics_and_optimizer_bit_for_bit(
    digits, mode, cost, skipped
):
    """A cost far above the discriminator's skips it; one far below skips the generator."""
    model = gated(zoo.Equilibrium(cost, 2.0))
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    step = model.train_step
    if mode == "eager":
        optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5, weight_decay=0.1)
    else:
        step = tf.function(model.train_step, jit_compile=mode == "xla")
    model.compile(optimizer, jit_compile=False)
    x = tf.constant(digits[:6])
    before = state_of(model)
    logs = step((x,))
    after = state_of(model)
    for player in PLAYERS:
        same = [np.array_equal(a, b) for a, b in zip(before[player], after[player], strict=True)]
        if player == skipped:
            assert all(same)
        else:
            # Only the learning rate is unchanged.
            assert sum(same) == 1, player
        if player != "encoder":
            assert float(logs[f"{player}_updates"]) == (player != skipped)
    assert int(model.step) == 1


def test_updated_players_change_as_without_the_equilibrium(digits):
    x = tf.constant(digits[:6])
    rules = [None, zoo.Equilibrium(9.0, 1.0), zoo.Equilibrium(-9.0, 1.0), zoo.Equilibrium(margin=np.inf)]  # fmt: skip
    weights = []
    for rule in rules:
        keras.utils.set_random_seed(0)
        model = gated(rule)
        model.compile(keras.optimizers.Adam(0.01))
        model.train_step((x,))
        weights.append(state_of(model))
    free, no_discriminator, no_generator, never = weights
    for player in PLAYERS:
        for i, want in enumerate(never[player]):
            if player != "discriminator":
                np.testing.assert_array_equal(free[player][i], want)
                np.testing.assert_array_equal(no_discriminator[player][i], want)
            if player != "generator":
                np.testing.assert_array_equal(no_generator[player][i], want)


def test_costs_and_updates_are_reported(digits):
    model = vaegan(
        SHAPE, latent_dim=LATENTS, hidden=(4,), discriminator_hidden=(8,), batch_norm=False,
        loss="non_saturating", margin=0.1, gamma=0.1,
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    history = model.fit(
        digits, batch_size=200, epochs=30, verbose=0, validation_data=digits, validation_freq=30
    ).history
    seen = set()
    for real, fake, *updates in zip(
        *(
            history[k]
            for k in ("real_cost", "fake_cost", "discriminator_updates", "generator_updates")
        ),
        strict=True,
    ):
        strong, weak = min(real, fake) < 0.58, max(real, fake) > 0.78
        assert updates == [weak or not strong, strong or not weak]
        seen.add(tuple(updates))
    assert len(seen) >= 2
    x = tf.constant(digits[:5])
    losses, terms = model.objective(x, None, tf.constant([1, 2]), True)
    np.testing.assert_allclose(
        losses["discriminator"], terms["real_cost"] + terms["fake_cost"], rtol=1e-6
    )
    np.testing.assert_allclose(
        terms["real_cost"], np.log1p(np.exp(-terms["real_logit"])), rtol=1e-5
    )
    both = np.log1p(np.exp(terms["reconstruction_logit"])), np.log1p(np.exp(terms["sample_logit"]))
    np.testing.assert_allclose(terms["fake_cost"], np.mean(both, 0), rtol=1e-5)
    assert {"val_generator_updates", "val_real_cost"} <= history.keys()
    assert "generator_updates" not in vaegan(SHAPE, **TINY).result_names()


def of_one_image(rule=None, loss=None):
    """Data, reconstructions and samples are uniformly grey; the logit is a trained bias."""
    encoder = zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, ())
    generator = zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (), output="sigmoid")
    for network in (encoder, generator):
        network.set_weights([np.zeros_like(w) for w in network.get_weights()])
    model = zoo.VAEGAN(
        zoo.Conditional(encoder, zoo.DiagonalNormal()),
        generator,
        zoo.StandardNormal(LATENTS),
        identity_features(),
        loss,
        equilibrium=rule,
    )
    fixed = {player: keras.optimizers.SGD(0.0) for player in PLAYERS}
    model.compile(fixed | {"discriminator": keras.optimizers.SGD(0.02)}, jit_compile=False)
    return model, tf.fill([6, *SHAPE], 0.5)


def trained_discriminator(model, x):
    step = tf.function(lambda: model.train_step((x,)))
    for _ in range(200):
        step()
    _, logits = model.discriminator(x)
    np.testing.assert_allclose(logits, np.full([6, 1], logits[0, 0]), atol=1e-6)
    return float(tf.sigmoid(logits[0, 0]))


@pytest.mark.slow
def test_all_players_are_updated_if_all_images_are_equal():
    model, x = of_one_image(zoo.Equilibrium())
    assert trained_discriminator(model, x) == pytest.approx(1 / 2, abs=1e-3)
    logs = model.test_step((x,))
    assert float(logs["real_cost"]) == pytest.approx(np.log(2), abs=2e-3)
    assert float(logs["fake_cost"]) == pytest.approx(np.log(2), abs=2e-3)
    assert float(logs["discriminator_updates"]) == float(logs["generator_updates"]) == 1
    # Without an equilibrium the loss is the paper's sum: one of three images is real.
    assert trained_discriminator(*of_one_image()) == pytest.approx(1 / 3, abs=1e-3)


@pytest.mark.parametrize("loss", ["hinge", "minimax"])
def test_the_costs_are_cross_entropies_for_every_loss(loss):
    labels = {"real_label": 0.7} if loss == "minimax" else {}
    model, x = of_one_image(zoo.Equilibrium(), zoo.adversarial.adversarial_loss(loss, **labels))
    bias = model.discriminator.trainable_variables[1]
    bias.assign([1.5])
    losses, terms = model.objective(x, None, tf.constant([1, 2]), True)
    d = 1 / (1 + np.exp(-1.5))
    np.testing.assert_allclose(terms["real_cost"], np.full(6, -np.log(d)), rtol=1e-5)
    np.testing.assert_allclose(terms["fake_cost"], np.full(6, -np.log(1 - d)), rtol=1e-5)
    expected = {
        "hinge": 0.0 + 2.5,
        "minimax": -0.7 * np.log(d) - 0.3 * np.log(1 - d) - np.log(1 - d),
    }
    np.testing.assert_allclose(losses["discriminator"], np.full(6, expected[loss]), rtol=1e-5)


class BrightnessAsCost(zoo.VAEGAN):
    """Both costs are the mean brightness of the images."""

    def objective(self, x, y, seed, training):
        losses, terms = super().objective(x, y, seed, training)
        cost = tf.reduce_mean(x, [1, 2, 3])
        return losses, terms | {"real_cost": cost, "fake_cost": cost}


@pytest.mark.slow
@pytest.mark.parametrize(("second", "updated"), [(0.9, False), (1.0, True)])
def test_replicas_decide_on_the_mean_of_the_global_batch(mirrored, second, updated):
    """The first replica's costs would skip the discriminator, the second replica's would not."""
    rule = zoo.Equilibrium(1.0, 0.5)
    with mirrored.scope():
        keras.utils.set_random_seed(0)
        fresh = gated(None)
        model = BrightnessAsCost(fresh.posterior, fresh.generator, fresh.prior, fresh.discriminator, equilibrium=rule)  # fmt: skip
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    x = np.concatenate([np.full([2, *SHAPE], 0.05), np.full([2, *SHAPE], second)])
    before = state_of(model)["discriminator"]
    data = tf.data.Dataset.from_tensors(tf.constant(x, tf.float32))
    logs = model.fit(data, verbose=0).history
    assert logs["discriminator_updates"][0] == updated
    for variable, old in zip(
        [v for layer in model.players()["discriminator"] for v in layer.variables]
        + model.optimizers["discriminator"].variables,
        before,
        strict=True,
    ):
        copies = [c.numpy() for c in mirrored.experimental_local_results(variable.value)]
        assert len(copies) == 2
        np.testing.assert_array_equal(*copies)
        if not updated:
            np.testing.assert_array_equal(copies[0], old)
    assert updated == any(not np.array_equal(a, b) for a, b in zip(before, state_of(model)["discriminator"], strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -1.0}, r"`margin` must be at least 0\. Received: -1\.0"),
        ({"margin": float("nan")}, "`margin`"),
        ({"cost": float("inf")}, r"`cost` must be finite\. Received: inf"),
    ],
)
def test_an_equilibrium_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.Equilibrium(**arguments)
