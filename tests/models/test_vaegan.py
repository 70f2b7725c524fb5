"""VAE/GAN: the update matrix of Larsen et al., by tapes of losses written out here."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.adversarial import Minimax, NonSaturating
from zoo.models.vaegan import attribute_vectors, vaegan_conv, vaegan_mlp

SHAPE, BATCH, LATENTS = (8, 8, 1), 6, 3
PLAYERS = ["encoder", "decoder", "discriminator"]


def networks():
    return (
        zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, (5,), "tanh"),
        zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (5,), "tanh", "sigmoid"),
        zoo.networks.mlp_discriminator(SHAPE, (7,), features=True),
    )


def model_of(known, encoder, decoder, discriminator, loss=None, gamma=0.1, **more):
    model = zoo.VAEGAN(
        zoo.Conditional(encoder, known.Posterior()),
        decoder,
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
    feature, reconstruction = model.discriminator(model.decoder(z))
    _, sample = model.discriminator(model.decoder(tf.constant(known.noise(BATCH, LATENTS))))
    distortion = tf.reduce_mean(0.5 * tf.reduce_sum((target - feature) ** 2, 1))
    return rate, distortion, real, reconstruction, sample


def gradients_by_hand(model, known, x, saturating, gamma, beta=1.0):
    with tf.GradientTape(persistent=True) as tape:
        rate, distortion, real, reconstruction, sample = parts_by_hand(model, known, x)
        told = softplus_of(-real) + softplus_of(reconstruction) + softplus_of(sample)
        if saturating:
            fooled = -softplus_of(reconstruction) - softplus_of(sample)
        else:
            fooled = softplus_of(-reconstruction) + softplus_of(-sample)
        losses = {
            "encoder": beta * rate + distortion,
            "decoder": gamma * distortion + fooled,
            "discriminator": told,
        }
    return {player: tape.gradient(losses[player], model.variables_of(player)) for player in PLAYERS}


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_saturating"])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 10.0])
def test_a_step_moves_all_three_players_at_once_each_along_its_own_loss(
    known, digits, loss, gamma, moves, assert_descends
):
    model = model_of(known, *networks(), loss, gamma)
    x = tf.constant(digits[:BATCH])
    expected = gradients_by_hand(model, known, x, type(loss) is Minimax, gamma)
    change = moves(model, lambda: model.train_step((x,)))
    for player in PLAYERS:
        assert_descends(change[player], expected[player])


@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_beta_weighs_the_rate_for_the_encoder_alone(known, digits, beta, moves, assert_descends):
    model = model_of(known, *networks(), beta=beta)
    x = tf.constant(digits[:BATCH])
    expected = gradients_by_hand(model, known, x, True, 0.1, beta)
    change = moves(model, lambda: model.train_step((x,)))
    for player in PLAYERS:
        assert_descends(change[player], expected[player])


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_is_of_all_kinds_or_each_kind_is_one(known, digits, joint, training):
    """Against Keras's own normalization of one batch of 3 N, or of three of N."""
    normalization = keras.layers.BatchNormalization()
    images = keras.Input(SHAPE)
    features = normalization(keras.layers.Flatten()(images))
    discriminator = keras.Model(images, (features, keras.layers.Dense(1)(features)))
    encoder, decoder, _ = networks()
    model = model_of(known, encoder, decoder, discriminator, joint_batch=joint)
    x = tf.constant(digits[:BATCH])
    loc, log_scale = tf.split(encoder(x), 2, 1)
    noise = known.noise(BATCH, LATENTS)
    kinds = [x, decoder(loc + tf.exp(log_scale) * noise), decoder(tf.constant(noise))]
    kept = discriminator.get_weights()
    _, terms = model.objective(x, None, tf.constant([1, 2]), training)
    have = [terms[f"{name}_logit"] for name in ("real", "reconstruction", "sample")]
    discriminator.set_weights(kept)
    if joint or not training:
        want = tf.split(discriminator(tf.concat(kinds, 0), training=training)[1], 3)
    else:
        want = [discriminator(kind, training=training)[1] for kind in kinds]
    np.testing.assert_allclose(have, tf.stack(want)[..., 0], rtol=1e-3, atol=1e-3)


def test_the_builders_hand_on_what_they_are_given(digits, snapshot):
    model = vaegan_mlp(SHAPE, LATENTS, (5,), (7,), beta=3.0)
    assert model.beta == 3.0 and model.joint_batch
    given = {"beta": 2.0, "joint_batch": False, "condition": "label", "margin": 0.35}
    model = vaegan_conv((16, 16, 1), 3, (2,), 4, width=2, **given)
    again = zoo.VAEGAN.from_config(model.get_config())
    for one in (model, again):
        assert one.beta == 2.0 and one.joint_batch is False
    model.compile(keras.optimizers.SGD(1.0))
    before = snapshot(model)
    x = tf.random.stateless_uniform([4, 16, 16, 1], [1, 2])
    model.train_step((x, tf.constant([0, 3, 9, 3])))
    after = snapshot(model)
    for player in PLAYERS:
        assert not same(before[player], after[player]), player


def change_of(known, moves, x, loss, gamma):
    keras.utils.set_random_seed(1)
    model = model_of(known, *networks(), loss, gamma)
    return moves(model, lambda: model.train_step((x,)))


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_adversarial_gradient_reaches_the_encoder_and_no_distortion_the_discriminator(
    known, digits, moves
):
    x = tf.constant(digits[:BATCH])
    plain = change_of(known, moves, x, Minimax(), 0.1)
    other_game = change_of(known, moves, x, NonSaturating(real_label=0.7), 0.1)
    assert same(plain["encoder"], other_game["encoder"])
    assert not same(plain["decoder"], other_game["decoder"])
    assert not same(plain["discriminator"], other_game["discriminator"])
    other_weight = change_of(known, moves, x, Minimax(), 100.0)
    assert same(plain["encoder"], other_weight["encoder"])
    assert same(plain["discriminator"], other_weight["discriminator"])
    assert not same(plain["decoder"], other_weight["decoder"])


def test_the_terms_are_the_formulas_per_example(known, digits):
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
    """A discriminator whose features are the image itself, and which always says one half."""
    images = keras.Input(SHAPE)
    flat = keras.layers.Flatten()(images)
    logits = keras.layers.Dense(1, kernel_initializer="zeros")(flat)
    return keras.Model(images, (keras.layers.Activation("linear")(flat), logits))


@pytest.mark.parametrize("gamma", [0.1, 3.0])
def test_with_the_image_as_features_and_no_game_it_is_the_vae_of_squared_error(
    known, digits, gamma, moves, assert_descends
):
    encoder, decoder, _ = networks()
    x = tf.constant(digits[:BATCH])
    vae = zoo.VAE(
        zoo.Conditional(encoder, known.Posterior()),
        zoo.Conditional(decoder, zoo.UnitNormal()),
        zoo.StandardNormal(LATENTS),
    )
    vae.compile(keras.optimizers.SGD(1.0))
    kept = vae.get_weights()
    change = moves(vae, lambda: vae.train_step((x,)))["vae"]
    logs = {name: float(value) for name, value in vae.train_step((x,)).items()}
    vae.set_weights(kept)
    model = model_of(known, encoder, decoder, identity_features(), gamma=gamma)
    hybrid = moves(model, lambda: model.train_step((x,)))
    n = len(encoder.trainable_variables)
    assert_descends(hybrid["encoder"], [-c for c in change[:n]])
    assert_descends(hybrid["decoder"], [-gamma * c for c in change[n:]])
    assert set(logs) == {"loss", "distortion", "rate"}


def test_with_gamma_zero_the_decoder_is_the_generator_of_a_gan(
    known, digits, moves, assert_descends
):
    encoder, decoder, discriminator = networks()
    x = tf.constant(digits[:BATCH])
    # With an encoder that says N(0, I) of every image, reconstructions are samples:
    # the decoder pays twice what a GAN's generator pays for the same latents.
    encoder.set_weights([np.zeros_like(w) for w in encoder.get_weights()])
    logits = keras.Model(discriminator.input, discriminator.output[1])
    gan = zoo.GAN(decoder, logits, known.Prior(LATENTS), Minimax())
    gan.compile(keras.optimizers.SGD(1.0))
    kept = gan.get_weights()
    change = moves(gan, lambda: gan._play(gan.rounds()[1], x, None, tf.constant([1, 2])))
    gan.set_weights(kept)
    model = model_of(known, encoder, decoder, discriminator, gamma=0.0)
    hybrid = moves(model, lambda: model.train_step((x,)))
    assert_descends(hybrid["decoder"], [-2 * c for c in change["generator"]])


def test_the_features_of_the_data_are_a_target_that_holds_still(known, digits):
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
        feature, _ = model.discriminator(model.decoder(z))
        target = model.discriminator(x)[0].numpy()
        loss = rate + 0.5 * tf.reduce_sum((target - feature) ** 2, 1)
    have, want = tape.gradient(losses["encoder"], x), by_hand.gradient(loss, x)
    np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-4)


def test_in_its_one_round_every_player_keeps_its_batch_statistics_up(snapshot):
    model = vaegan_conv((16, 16, 1), 3, (2,), 4, width=2)
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


def test_a_prior_that_learns_and_that_nobody_would_move_is_refused(known):
    encoder, decoder, discriminator = networks()
    posterior = zoo.Conditional(encoder, known.Posterior())
    with pytest.raises(ValueError, match=r"of a VAEGAN.*not learn.*Received: a MixturePrior"):
        zoo.VAEGAN(posterior, decoder, zoo.MixturePrior(LATENTS, 2), discriminator)


# Attributes -----------------------------------------------------------------------------------


def attributes_of(n, size=2):
    return (np.arange(n * size).reshape(n, size) % 3 > 0).astype(np.float32)


def conditional(known, condition="attributes", size=2, gamma=0.1):
    model = vaegan_mlp(SHAPE, LATENTS, (5,), (7,), gamma=gamma, condition=condition, condition_size=size)  # fmt: skip
    return model_of(known, model.posterior.network, model.decoder, model.discriminator, gamma=gamma)


@pytest.mark.parametrize("build", ["mlp", "conv"])
@pytest.mark.parametrize("condition", ["attributes", "label"])
def test_each_of_the_three_networks_makes_use_of_the_condition(build, condition, digits):
    given = {"condition": condition, "condition_size": 3}
    if build == "mlp":
        model = vaegan_mlp(SHAPE, LATENTS, (5,), (7,), **given)
    else:
        model = vaegan_conv(SHAPE, LATENTS, (4,), 5, 4, **given)
    x, z = digits[:2], np.ones((2, LATENTS), np.float32)
    one, other = np.array([0, 1]), np.array([0, 2])
    if condition == "attributes":
        one, other = np.eye(3, dtype=np.float32)[one], np.eye(3, dtype=np.float32)[other]
    for network, context in (
        (model.posterior.network, x),
        (model.decoder, z),
        (model.discriminator, x),
    ):
        for a, b in zip(
            *(keras.tree.flatten(network([context, y])) for y in (one, other)), strict=True
        ):
            np.testing.assert_array_equal(a[0], b[0])
            assert np.abs(a[1] - b[1]).max() > 1e-6
    assert model.condition.shape.rank == (2 if condition == "attributes" else 1)
    made = model.sample(2, y=one, seed=1), model.sample(2, y=other, seed=1)
    np.testing.assert_array_equal(made[0][0], made[1][0])
    assert np.abs(made[0][1] - made[1][1]).max() > 1e-6


def test_channels_of_a_condition_are_the_same_all_over(digits):
    model = vaegan_conv(SHAPE, LATENTS, (4,), 5, 4, condition="attributes", condition_size=2)
    network = model.posterior.network
    inside = keras.Model(network.inputs, network.layers[-1].input)
    y = np.array([[0.25, 1.0]], np.float32)
    joined = inside([digits[:1], y]).numpy()
    np.testing.assert_array_equal(joined[..., :1], digits[:1])
    np.testing.assert_array_equal(joined[..., 1:], np.broadcast_to(y, (1, 8, 8, 2)))


def test_with_attributes_each_player_still_moves_along_its_own_loss(
    known, digits, moves, assert_descends
):
    """Reconstructions and samples are made and judged with the attributes of the batch's images."""
    model = conditional(known)
    x, y = tf.constant(digits[:BATCH]), tf.constant(attributes_of(BATCH))
    with tf.GradientTape(persistent=True) as tape:
        loc, log_scale = tf.split(model.posterior.network([x, y]), 2, 1)
        noise = known.noise(BATCH, LATENTS)
        rate = 0.5 * tf.reduce_sum(loc**2 + tf.exp(2 * log_scale) - 1 - 2 * log_scale, 1)
        # One pass for both halves, whose batch normalization sees them together.
        latents = tf.concat([loc + tf.exp(log_scale) * noise, noise], 0)
        made = model.decoder([latents, tf.concat([y, y], 0)], training=True)
        target, real = model.discriminator([x, y])
        feature, reconstruction = model.discriminator([made[:BATCH], y])
        _, sample = model.discriminator([made[BATCH:], y])
        distortion = 0.5 * tf.reduce_sum((tf.stop_gradient(target) - feature) ** 2, 1)
        game = softplus_of(-real) + softplus_of(reconstruction) + softplus_of(sample)
        fooled = -softplus_of(reconstruction) - softplus_of(sample)
        losses = {
            "encoder": tf.reduce_mean(rate + distortion),
            "decoder": model.gamma * tf.reduce_mean(distortion) + fooled,
            "discriminator": game,
        }
    expected = {p: tape.gradient(losses[p], model.variables_of(p)) for p in PLAYERS}
    change = moves(model, lambda: model.train_step((x, y)))
    for player in PLAYERS:
        assert_descends(change[player], expected[player])


def test_a_condition_of_the_decoder_alone_is_asked_for(known, digits):
    encoder, _, discriminator = networks()
    decoder = conditional(known).decoder
    model = model_of(known, encoder, decoder, discriminator)
    assert model.condition.shape.as_list() == [None, 2]
    with pytest.raises(ValueError, match=r"takes a condition.*pass `y`.*Received: y=None"):
        model.sample(3)
    with pytest.raises(ValueError, match=r"takes a condition `y` in addition.*Received: y=None"):
        model.objective(tf.constant(digits[:3]), None, tf.constant([1, 2]), True)


def test_a_prior_of_the_condition_makes_one_sample_for_each_image(digits):
    encoder, decoder, discriminator = networks()
    prior = zoo.ConditionalPrior(zoo.networks.mlp(2, 2 * LATENTS, (4,)), zoo.DiagonalNormal())
    prior.trainable = False
    model = zoo.VAEGAN(
        zoo.Conditional(encoder, zoo.DiagonalNormal()), decoder, prior, discriminator
    )
    y = tf.constant(attributes_of(5))
    _, terms = model.objective(tf.constant(digits[:5]), y, tf.constant([1, 2]), True)
    assert terms["sample_logit"].shape == (5,)


def test_attribute_vectors_of_a_linear_world_are_its_own():
    """z = base + W a + noise of the mean zero in each group, all 2^3 attributes equally often."""
    rng = np.random.default_rng(0)
    y = np.array([[i >> k & 1 for k in range(3)] for i in range(8)]).repeat(6, 0)
    directions = rng.normal(size=(3, 4))
    noise = rng.normal(size=(8, 6, 4))
    noise = (noise - noise.mean(1, keepdims=True)).reshape(48, 4)
    z = 2.0 + y @ directions + noise
    np.testing.assert_allclose(attribute_vectors(z, y), directions, atol=1e-12)
    np.testing.assert_allclose(attribute_vectors(z, y.astype(np.float32)), directions, atol=1e-12)


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
        (np.zeros((3, 2)), np.array([-1, 0, 1]), "labels .N. from 0 on"),
        (
            np.zeros((2, 2)),
            np.array([[1, 0], [1, 1]]),
            r"some of both.*alike in the attributes \[0\]",
        ),
    ],
)
def test_attribute_vectors_need_attributes(z, y, message):
    with pytest.raises(ValueError, match=message):
        attribute_vectors(z, y)


def test_a_picture_of_attributes_shows_what_is_decoded(tmp_path, digits, monkeypatch):
    model = vaegan_mlp(SHAPE, 2, (4,), (4,), condition="label")
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
    ("given", "message"),
    [
        ({"condition": "seen"}, "Unknown condition 'seen'"),
        ({"condition": "attributes"}, r"`condition_size`.*condition_size=0"),
        ({"condition_size": 3}, r"condition='none', condition_size=3"),
        ({"condition": "label", "condition_size": -1}, "condition_size=-1"),
        ({"margin": -0.1}, r"`margin` must be at least 0\. Received: -0\.1"),
    ],
)
def test_builders_refuse_what_does_not_go_together(given, message):
    with pytest.raises(ValueError, match=message):
        vaegan_mlp(SHAPE, LATENTS, (4,), (4,), **given)


# Equilibrium ----------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [0.1, 0.32, 0.34, 0.68, 1.02, 1.04, 3.0])
@pytest.mark.parametrize("fake", [0.1, 0.32, 0.34, 0.68, 1.02, 1.04, 3.0])
def test_the_rule_is_that_of_the_authors_trainer(real, fake):
    dis_update = not (real < 0.68 - 0.35 or fake < 0.68 - 0.35)
    dec_update = not (real > 0.68 + 0.35 or fake > 0.68 + 0.35)
    if not (dec_update or dis_update):
        dec_update = dis_update = True
    have = zoo.Equilibrium()(tf.constant(real), tf.constant(fake))
    assert [bool(h) for h in have] == [dis_update, dec_update]


def everything_of(model):
    """By player: weights, batch statistics, and all of the optimizer."""
    return {
        player: [v.numpy() for layer in layers for v in layer.variables]
        + [v.numpy() for v in model.optimizers[player].variables]
        for player, layers in model.players().items()
    }


def gated(rule):
    """Decoder and discriminator have batch normalization."""
    return zoo.VAEGAN(
        zoo.Conditional(zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, ()), zoo.DiagonalNormal()),
        zoo.networks.mlp_decoder(LATENTS, SHAPE, hidden=(4,), output="sigmoid", batch_norm=True),
        zoo.StandardNormal(LATENTS),
        zoo.networks.mlp_discriminator(SHAPE, (4, 4), features=True, batch_norm=True),
        equilibrium=rule,
    )


@pytest.mark.parametrize(
    ("way", "cost", "rests"),
    [
        ("eager", 9.0, "discriminator"),
        ("eager", -9.0, "decoder"),
        ("eager", 0.69, None),
        ("graph", 9.0, "discriminator"),
        ("xla", -9.0, "decoder"),
    ],
)
def test_who_rests_keeps_weights_statistics_and_optimizer_bit_by_bit(digits, way, cost, rests):
    """A cost far above what the discriminator pays holds it, one far below its opponent."""
    model = gated(zoo.Equilibrium(cost, 2.0))
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    step = model.train_step
    if way == "eager":
        optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5, weight_decay=0.1)
    else:
        step = tf.function(model.train_step, jit_compile=way == "xla")
    model.compile(optimizer, jit_compile=False)
    x = tf.constant(digits[:6])
    before = everything_of(model)
    logs = step((x,))
    after = everything_of(model)
    for player in PLAYERS:
        same = [np.array_equal(a, b) for a, b in zip(before[player], after[player], strict=True)]
        if player == rests:
            assert all(same)
        else:
            # All but the learning rate.
            assert sum(same) == 1, player
        if player != "encoder":
            assert float(logs[f"{player}_updates"]) == (player != rests)
    assert int(model.step) == 1


def test_who_moves_moves_as_without_the_rule(digits):
    x = tf.constant(digits[:6])
    rules = [None, zoo.Equilibrium(9.0, 1.0), zoo.Equilibrium(-9.0, 1.0), zoo.Equilibrium(margin=np.inf)]  # fmt: skip
    weights = []
    for rule in rules:
        keras.utils.set_random_seed(0)
        model = gated(rule)
        model.compile(keras.optimizers.Adam(0.01))
        model.train_step((x,))
        weights.append(everything_of(model))
    free, no_discriminator, no_decoder, never = weights
    for player in PLAYERS:
        for i, want in enumerate(never[player]):
            if player != "discriminator":
                np.testing.assert_array_equal(free[player][i], want)
                np.testing.assert_array_equal(no_discriminator[player][i], want)
            if player != "decoder":
                np.testing.assert_array_equal(no_decoder[player][i], want)


def test_costs_and_moves_are_reported(digits):
    model = vaegan_mlp(SHAPE, LATENTS, (4,), (8,), loss="non_saturating", margin=0.1)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    history = model.fit(
        digits, batch_size=200, epochs=30, verbose=0, validation_data=digits, validation_freq=30
    ).history
    moved = set()
    for real, fake, *moves in zip(
        *(
            history[k]
            for k in ("real_cost", "fake_cost", "discriminator_updates", "decoder_updates")
        ),
        strict=True,
    ):
        strong, weak = min(real, fake) < 0.58, max(real, fake) > 0.78
        assert moves == [weak or not strong, strong or not weak]
        moved.add(tuple(moves))
    assert len(moved) >= 2
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
    assert {"val_decoder_updates", "val_real_cost"} <= history.keys()
    assert "decoder_updates" not in vaegan_mlp(SHAPE, LATENTS, (4,), (4,)).result_names()


def of_one_image(rule=None, loss=None):
    """Data, reconstructions and samples are grey all over; the discriminator has an offset alone."""
    encoder = zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, ())
    decoder = zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (), output="sigmoid")
    for network in (encoder, decoder):
        network.set_weights([np.zeros_like(w) for w in network.get_weights()])
    model = zoo.VAEGAN(
        zoo.Conditional(encoder, zoo.DiagonalNormal()),
        decoder,
        zoo.StandardNormal(LATENTS),
        identity_features(),
        loss,
        equilibrium=rule,
    )
    still = {player: keras.optimizers.SGD(0.0) for player in PLAYERS}
    model.compile(still | {"discriminator": keras.optimizers.SGD(0.02)}, jit_compile=False)
    return model, tf.fill([6, *SHAPE], 0.5)


def trained_discriminator(model, x):
    step = tf.function(lambda: model.train_step((x,)))
    for _ in range(200):
        step()
    _, logits = model.discriminator(x)
    np.testing.assert_allclose(logits, np.full([6, 1], logits[0, 0]), atol=1e-6)
    return float(tf.sigmoid(logits[0, 0]))


def test_where_all_images_are_alike_nobody_rests():
    model, x = of_one_image(zoo.Equilibrium())
    assert trained_discriminator(model, x) == pytest.approx(1 / 2, abs=1e-3)
    logs = model.test_step((x,))
    assert float(logs["real_cost"]) == pytest.approx(np.log(2), abs=2e-3)
    assert float(logs["fake_cost"]) == pytest.approx(np.log(2), abs=2e-3)
    assert float(logs["discriminator_updates"]) == float(logs["decoder_updates"]) == 1
    # By the paper's sum, which a model without the rule has, one of three images is real.
    assert trained_discriminator(*of_one_image()) == pytest.approx(1 / 3, abs=1e-3)


@pytest.mark.parametrize("loss", ["hinge", "minimax"])
def test_the_rules_costs_are_those_of_a_probability_whatever_is_trained_on(loss):
    labels = {"real_label": 0.7} if loss == "minimax" else {}
    model, x = of_one_image(zoo.Equilibrium(), zoo.adversarial.adversarial_loss(loss, **labels))
    bias = model.discriminator.trainable_variables[1]
    bias.assign([1.5])
    losses, terms = model.objective(x, None, tf.constant([1, 2]), True)
    d = 1 / (1 + np.exp(-1.5))
    np.testing.assert_allclose(terms["real_cost"], np.full(6, -np.log(d)), rtol=1e-5)
    np.testing.assert_allclose(terms["fake_cost"], np.full(6, -np.log(1 - d)), rtol=1e-5)
    paid = {"hinge": 0.0 + 2.5, "minimax": -0.7 * np.log(d) - 0.3 * np.log(1 - d) - np.log(1 - d)}
    np.testing.assert_allclose(losses["discriminator"], np.full(6, paid[loss]), rtol=1e-5)


class Told(zoo.VAEGAN):
    """Whose costs are the brightness of the images, for the rule's sake."""

    def objective(self, x, y, seed, training):
        losses, terms = super().objective(x, y, seed, training)
        cost = tf.reduce_mean(x, [1, 2, 3])
        return losses, terms | {"real_cost": cost, "fake_cost": cost}


@pytest.mark.parametrize(("second", "moves"), [(0.9, False), (1.0, True)])
def test_replicas_decide_together_on_the_mean_of_the_global_batch(mirrored, second, moves):
    """By itself the first replica would hold the discriminator back, the second would not."""
    rule = zoo.Equilibrium(1.0, 0.5)
    with mirrored.scope():
        keras.utils.set_random_seed(0)
        fresh = gated(None)
        model = Told(fresh.posterior, fresh.decoder, fresh.prior, fresh.discriminator, equilibrium=rule)  # fmt: skip
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    x = np.concatenate([np.full([2, *SHAPE], 0.05), np.full([2, *SHAPE], second)])
    before = everything_of(model)["discriminator"]
    data = tf.data.Dataset.from_tensors(tf.constant(x, tf.float32))
    logs = model.fit(data, verbose=0).history
    assert logs["discriminator_updates"][0] == moves
    for variable, old in zip(
        [v for layer in model.players()["discriminator"] for v in layer.variables]
        + model.optimizers["discriminator"].variables,
        before,
        strict=True,
    ):
        copies = [c.numpy() for c in mirrored.experimental_local_results(variable.value)]
        assert len(copies) == 2
        np.testing.assert_array_equal(*copies)
        if not moves:
            np.testing.assert_array_equal(copies[0], old)
    assert moves == any(not np.array_equal(a, b) for a, b in zip(before, everything_of(model)["discriminator"], strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -1.0}, r"`margin` must be at least 0\. Received: -1\.0"),
        ({"margin": float("nan")}, "`margin`"),
        ({"cost": float("inf")}, r"`cost` must be finite\. Received: inf"),
    ],
)
def test_a_rule_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.Equilibrium(**arguments)
