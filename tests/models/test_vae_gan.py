"""VAE/GAN: the update matrix of Larsen et al., by tapes of losses written out here."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.adversarial import Minimax, NonSaturating
from zoo.models.vae_gan import vaegan_conv

SHAPE, BATCH, LATENTS = (8, 8, 1), 6, 3
PLAYERS = ["encoder", "decoder", "discriminator"]


def networks():
    return (
        zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, (5,), "tanh"),
        zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (5,), "tanh", "sigmoid"),
        zoo.networks.mlp_discriminator(SHAPE, (7,), features=True),
    )


def model_of(known, encoder, decoder, discriminator, loss=None, gamma=0.1):
    model = zoo.VAEGAN(
        zoo.Conditional(encoder, known.Posterior()),
        decoder,
        known.Prior(LATENTS),
        discriminator,
        loss,
        gamma,
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


def gradients_by_hand(model, known, x, saturating):
    with tf.GradientTape(persistent=True) as tape:
        rate, distortion, real, reconstruction, sample = parts_by_hand(model, known, x)
        told = softplus_of(-real) + softplus_of(reconstruction) + softplus_of(sample)
        if saturating:
            fooled = -softplus_of(reconstruction) - softplus_of(sample)
        else:
            fooled = softplus_of(-reconstruction) + softplus_of(-sample)
        losses = {
            "encoder": rate + distortion,
            "decoder": model.gamma * distortion + fooled,
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
    expected = gradients_by_hand(model, known, x, type(loss) is Minimax)
    change = moves(model, lambda: model.train_step((x,)))
    for player in PLAYERS:
        assert_descends(change[player], expected[player])


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


@pytest.mark.parametrize("gamma", [-1.0, -1e-9, float("nan")])
def test_a_negative_gamma_is_refused(known, gamma):
    with pytest.raises(ValueError, match=r"`gamma` must be at least 0\. Received: (-|nan)"):
        model_of(known, *networks(), gamma=gamma)
