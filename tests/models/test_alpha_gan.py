"""alpha-GAN: four losses by hand, who moves on which, and which way."""

import collections
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.adversarial import LogRatio, NonSaturating, adversarial_loss
from zoo.models.alpha_gan import alphagan_conv, alphagan_mlp, code_discriminator

SHAPE, BATCH, LATENTS, LAMBDA = (8, 8, 1), 7, 3, 0.3
PLAYERS = ["encoder", "generator", "discriminator", "code_discriminator"]
SEED = tf.constant([1, 2])


def small(known, loss=None, lambda_=LAMBDA, **parts):
    own = {
        "posterior": zoo.Conditional(
            zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, (5,), "tanh"), known.Posterior()
        ),
        "generator": zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (5,), "tanh", "sigmoid"),
        "prior": known.Prior(LATENTS),
        "discriminator": zoo.networks.mlp_encoder(SHAPE, 1, (4,), "tanh"),
        "code_discriminator": zoo.networks.mlp(LATENTS, 1, (4,), "tanh"),
    } | parts
    model = zoo.AlphaGAN(**own, adversarial_loss=loss, lambda_=lambda_)
    model.compile(keras.optimizers.SGD(1.0))
    return model


def mean_softplus(logits):
    return tf.reduce_mean(tf.math.log1p(tf.exp(logits)))


def losses_by_hand(model, known, x, ratio):
    """The four losses, as the papers' formulas say it of D = sigmoid(logit)."""
    loc, log_scale = tf.split(model.posterior.network(x), 2, 1)
    noise = known.noise(BATCH, LATENTS)
    code = loc + tf.exp(log_scale) * noise
    made, sample = model.generator(code), model.generator(noise)
    l1 = tf.reduce_mean(tf.reduce_sum(tf.abs(x - made), [1, 2, 3]))

    def r(probability):  # -log D + log(1 - D), or -log D alone
        fooled = -tf.math.log(probability)
        return tf.reduce_mean(fooled + tf.math.log(1 - probability) if ratio else fooled)

    d = {k: model.discriminator(v) for k, v in (("x", x), ("made", made), ("sample", sample))}
    c = {k: model.code_discriminator(v) for k, v in (("z", noise), ("code", code))}
    return {
        "encoder": LAMBDA * l1 + r(tf.sigmoid(c["code"])),
        "generator": LAMBDA * l1 + r(tf.sigmoid(d["made"])) + r(tf.sigmoid(d["sample"])),
        "discriminator": mean_softplus(-d["x"])
        + mean_softplus(d["made"])
        + mean_softplus(d["sample"]),
        "code_discriminator": mean_softplus(-c["z"]) + mean_softplus(c["code"]),
    }


@pytest.mark.parametrize("loss", [None, NonSaturating()], ids=["log_ratio", "non_saturating"])
def test_each_round_moves_its_players_along_their_losses_and_nobody_else(
    known, digits, loss, moves, assert_descends, single_turns
):
    model, x = small(known, loss), tf.constant(digits[:BATCH])
    order = [["encoder"], ["generator"], ["discriminator", "code_discriminator"]]
    for turn, movers in zip(single_turns(model, x), order, strict=True):
        with tf.GradientTape(persistent=True) as tape:
            expected = losses_by_hand(model, known, x, ratio=loss is None)
        gradients = {p: tape.gradient(expected[p], model.variables_of(p)) for p in movers}
        values = {}

        def play(turn=turn, values=values):
            losses, _ = model._play(turn, x, None, SEED)
            values.update({p: float(tf.reduce_mean(v)) for p, v in losses.items()})

        change = moves(model, play)
        assert sorted(values) == sorted(movers)
        for player in PLAYERS:
            if player in movers:
                assert_descends(change[player], gradients[player])
                assert values[player] == pytest.approx(float(expected[player]), rel=1e-4)
            else:
                assert not any(c.any() for c in change[player])


def test_a_step_plays_the_rounds_one_after_the_other(known, digits, single_turns):
    x = tf.constant(digits[:BATCH])
    one, other = small(known), small(known)
    other.set_weights(one.get_weights())
    one.train_step((x,))
    for turn in single_turns(other, x):
        other._play(turn, x, None, SEED)
    for a, b in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def counting(network, counts, name):
    call = network.call

    def counted(*args, **kwargs):
        counts[name] += 1
        return call(*args, **kwargs)

    network.call = counted


def test_no_round_makes_a_pass_that_it_has_no_use_for_or_that_was_made_before(known, digits):
    model = small(known)
    parts = {
        "encoder": model.posterior.network,
        "generator": model.generator,
        "discriminator": model.discriminator,
        "code": model.code_discriminator,
    }
    counts = collections.Counter()
    for name, network in parts.items():
        counting(network, counts, name)
    expected = [
        {"encoder": 1, "generator": 1, "code": 1},
        {"encoder": 1, "generator": 4, "discriminator": 5, "code": 2},
    ]
    for turn, passes in zip(model.rounds(), expected, strict=True):
        counts.clear()
        model._play(turn, tf.constant(digits[:BATCH]), None, SEED)
        assert dict(counts) == passes


def test_no_round_builds_the_backward_pass_of_who_does_not_move(known, digits, single_turns):
    model, x = small(known), tf.constant(digits[:BATCH])
    _, generators, discriminators = single_turns(model, x)
    for turn, still in ((generators, ["encoder"]), (discriminators, ["encoder", "generator"])):
        with tf.GradientTape(persistent=True) as tape:
            losses, _ = turn.objective(x, None, SEED, True)
        for player in still:
            for loss in losses.values():
                assert all(g is None for g in tape.gradient(loss, model.variables_of(player)))


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 10.0])
def test_discriminators_without_opinion_leave_the_distance_alone(
    known, digits, lambda_, single_turns
):
    model, x = small(known, lambda_=lambda_), tf.constant(digits[:BATCH])
    for network in (model.discriminator, model.code_discriminator):
        network.set_weights([np.zeros_like(w) for w in network.get_weights()])
    values = {}
    for turn in single_turns(model, x):
        losses, terms = turn.objective(x, None, SEED, True)
        values |= losses | terms
    made = model.generator(model.posterior(x).sample()).numpy()
    l1 = np.abs(made - digits[:BATCH]).reshape(BATCH, -1).sum(1)
    np.testing.assert_allclose(values["reconstruction"], l1, rtol=1e-5)
    for player in ("encoder", "generator"):
        np.testing.assert_allclose(values[player], lambda_ * l1, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["discriminator"], np.full(BATCH, 3 * math.log(2)), rtol=1e-6)
    np.testing.assert_allclose(
        values["code_discriminator"], np.full(BATCH, 2 * math.log(2)), rtol=1e-6
    )


@keras.saving.register_keras_serializable("test_alpha_gan")
class Powers(keras.layers.Layer):
    """1, z, z^2."""

    def call(self, z):
        return keras.ops.concatenate([keras.ops.ones_like(z), z, z**2], -1)


def one_dimensional(loc, scale, lambda_=0.0):
    """Codes from N(loc, scale^2) whatever the image; C(z) has the logit a + b z + c z^2."""
    network = zoo.networks.mlp_encoder((1, 1, 1), 2, ())
    network.set_weights([np.zeros((1, 2)), np.array([loc, np.log(np.expm1(scale - 1e-4))])])
    z = keras.Input((1,))
    return zoo.AlphaGAN(
        zoo.Conditional(network, zoo.DiagonalNormal()),
        zoo.networks.mlp_decoder(1, (1, 1, 1), 1, (), output="sigmoid"),
        zoo.StandardNormal(1),
        zoo.networks.mlp_encoder((1, 1, 1), 1, ()),
        keras.Model(z, keras.layers.Dense(1, use_bias=False)(Powers()(z))),
        lambda_=lambda_,
    )


def best(model, player, x, steps=12):
    """Newton's steps on a discriminator's own loss, on fixed draws: kernel, standard errors, loss."""
    kernel = model.variables_of(player)[0]
    kernel.assign(np.zeros((3, 1)))

    @tf.function
    def derivatives():
        with tf.GradientTape() as outer:
            with tf.GradientTape() as tape:
                _, (losses, _) = model.adversarial_objective(x, None, SEED, training=True)
                loss = tf.reduce_mean(losses[player])
            gradient = tape.gradient(loss, kernel)
        return loss, gradient, outer.jacobian(gradient, kernel)

    for _ in range(steps):
        loss, gradient, hessian = derivatives()
        hessian = hessian.numpy().reshape(3, 3)
        kernel.assign_sub(np.linalg.solve(hessian, gradient.numpy()))
    error = np.sqrt(np.diag(np.linalg.inv(hessian)) / len(x))
    return kernel.numpy().ravel(), error, float(loss)


def best_code_discriminator(model, n=40_000):
    return best(model, "code_discriminator", tf.zeros([n, 1, 1, 1]))[:2]


def ratio_of_codes(model, n=40_000):
    """R_C of fresh codes, and its gradient for the encoder's offsets: of mean and raw scale."""
    offsets = model.posterior.network.trainable_variables[1]
    with tf.GradientTape() as tape:
        losses, _ = model.encoder_objective(
            tf.zeros([n, 1, 1, 1]), None, tf.constant([3, 4]), training=True
        )
        mean = tf.reduce_mean(losses["encoder"])
    return losses["encoder"].numpy(), tape.gradient(mean, offsets).numpy()


def test_the_best_code_discriminator_is_the_log_ratio_and_the_encoder_pays_the_kl():
    loc, scale = 0.8, 0.6
    model = one_dimensional(loc, scale)
    weights, error = best_code_discriminator(model)
    # log N(z; 0, 1) - log N(z; loc, scale^2): high for the prior's draws.
    exact = [np.log(scale) + loc**2 / (2 * scale**2), -loc / scale**2, 0.5 / scale**2 - 0.5]
    assert (np.abs(weights - exact) < 4.5 * error).all()
    model.code_discriminator.set_weights([np.reshape(exact, (3, 1))])
    ratio, gradient = ratio_of_codes(model)
    kl = 0.5 * (loc**2 + scale**2 - 1) - np.log(scale)
    assert abs(ratio.mean() - kl) < 4.5 * ratio.std() / 200
    # That of KL(q || p): it leads to the prior's mean and scale.
    slope = 1 - np.exp(-(scale - 1e-4))
    np.testing.assert_allclose(gradient, [loc, (scale - 1 / scale) * slope], rtol=0.05)


def test_codes_that_are_the_priors_leave_nothing_to_tell_and_nowhere_to_go():
    model = one_dimensional(0.0, 1.0)
    weights, error = best_code_discriminator(model)
    assert (np.abs(weights) < 4.5 * error).all()
    ratio, gradient = ratio_of_codes(model)
    assert np.abs(ratio).mean() < 0.05 and np.abs(gradient).max() < 0.05
    model.code_discriminator.set_weights([np.zeros((3, 1))])
    ratio, gradient = ratio_of_codes(model)
    assert not ratio.any() and not gradient.any()


def test_where_data_reconstructions_and_samples_are_the_same_nothing_draws_the_generator():
    """x = z of N(0, 1), encoder and generator the identity; D(x) has the logit a + b x + c x^2."""
    encoder = zoo.networks.mlp_encoder((1, 1, 1), 1, ())
    encoder.set_weights([np.ones((1, 1)), np.zeros(1)])
    scale = keras.layers.Dense(1)
    generator = keras.Sequential([keras.Input((1,)), scale, keras.layers.Reshape((1, 1, 1))])
    generator.set_weights([np.ones((1, 1)), np.zeros(1)])
    image = keras.Input((1, 1, 1))
    powers = Powers()(keras.layers.Flatten()(image))
    model = zoo.AlphaGAN(
        zoo.Conditional(encoder, zoo.Deterministic()),
        generator,
        zoo.StandardNormal(1),
        keras.Model(image, keras.layers.Dense(1, use_bias=False)(powers)),
        zoo.networks.mlp(1, 1, ()),
        lambda_=0.0,
    )
    n = 40_000
    x = tf.reshape(tf.random.stateless_normal([n], [7, 8]), [n, 1, 1, 1])
    found, error, loss = best(model, "discriminator", x, 8)
    expected = np.array([-math.log(2), 0, 0])
    # Of n real and n made draws, and the former once more.
    assert (np.abs(found - expected) < 4.5 * error).all() and error.max() < 0.01
    pays = 3 * math.log(3) - 2 * math.log(2)
    assert loss == pytest.approx(pays, abs=1e-3)
    model.discriminator.set_weights([expected[:, None]])
    with tf.GradientTape() as tape:
        (losses, _), (told, _) = model.adversarial_objective(x, None, SEED, training=True)
    np.testing.assert_allclose(told["discriminator"][:9], np.full(9, pays), rtol=1e-5)
    # R_D of a reconstruction and of a sample, log 2 each, whatever they look like.
    np.testing.assert_allclose(losses["generator"], np.full(n, 2 * math.log(2)), rtol=1e-5)
    assert all(not np.any(g) for g in tape.gradient(losses["generator"], scale.trainable_variables))


def test_playing_on_leads_the_codes_to_the_prior():
    model = one_dimensional(2.0, 0.5)
    still = keras.optimizers.SGD(0.0)
    model.compile({
        "encoder": keras.optimizers.Adam(0.02, beta_1=0.5),
        "generator": still,
        "discriminator": keras.optimizers.SGD(0.0),
        "code_discriminator": keras.optimizers.Adam(0.1, beta_1=0.5),
    })  # fmt: skip
    data = tf.data.Dataset.from_tensors(tf.zeros([256, 1, 1, 1])).repeat()
    model.fit(data, steps_per_epoch=400, epochs=1, verbose=0)
    q = model.posterior(np.zeros((1, 1, 1, 1), np.float32))
    assert abs(float(q.mean()[0, 0])) < 0.4
    assert abs(math.log(float(q.stddev()[0, 0]))) < 0.4


def test_batch_normalization_sees_each_kind_of_image_alone_and_its_owner_moves_it(
    snapshot, single_turns
):
    model = alphagan_conv((16, 16, 1), 3, (2,), 4, width=2, code_discriminator_hidden=(3,))
    model.compile(keras.optimizers.SGD(0.0))
    x = tf.random.stateless_uniform([4, 16, 16, 1], [1, 2])
    for turn, movers in zip(
        single_turns(model, x), [["encoder"], ["generator"], ["discriminator"]], strict=True
    ):
        before = snapshot(model)
        model._play(turn, x, None, SEED)
        after = snapshot(model)
        for player in PLAYERS:
            moved = any(
                not np.array_equal(a, b) for a, b in zip(before[player], after[player], strict=True)
            )
            assert moved == (player in movers and player != "encoder")  # Which has no statistics.


def test_the_discriminators_statistics_are_of_its_own_move_alone():
    """The generator asks it too, before; of a step three updates are kept, not five."""
    model = alphagan_conv((16, 16, 1), 3, (2,), 4, width=2, code_discriminator_hidden=(3,))
    model.compile(keras.optimizers.SGD(0.0))
    norms = [
        n
        for n in model.discriminator._flatten_layers()
        if isinstance(n, keras.layers.BatchNormalization)
    ]
    assert norms
    for norm in norms:
        norm.moving_mean.assign(np.full(norm.moving_mean.shape, 1e6))
    model.train_step((tf.random.stateless_uniform([4, 16, 16, 1], [1, 2]),))
    for norm in norms:
        np.testing.assert_allclose(norm.moving_mean / 1e6, norm.momentum**3, rtol=1e-4)


def test_the_loss_is_found_by_its_name():
    model = alphagan_mlp(SHAPE, 2, (4,), (4,), (4,))
    assert type(model.adversarial_loss) is LogRatio
    assert type(alphagan_mlp(SHAPE, 2, (4,), (4,), (4,), loss="hinge").adversarial_loss) is type(
        adversarial_loss("hinge")
    )


@pytest.mark.parametrize("lambda_", [-1.0, math.inf, math.nan])
def test_a_weight_that_is_none_is_refused(lambda_):
    with pytest.raises(ValueError, match=r"`lambda_` must be a number from 0 on\. Received: "):
        alphagan_mlp(SHAPE, 2, (4,), (4,), (4,), lambda_=lambda_)


def test_a_prior_that_learns_and_that_nobody_would_move_is_refused(known):
    with pytest.raises(ValueError, match=r"of an AlphaGAN.*not learn.*Received: a MixturePrior"):
        small(known, prior=zoo.MixturePrior(LATENTS, 2))


def test_a_code_discriminator_with_batch_normalization_is_refused(known):
    inner = keras.Sequential([
        keras.Input((4,)), keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(1)
    ])  # fmt: skip
    network = keras.Sequential([keras.Input((LATENTS,)), keras.layers.Dense(4), inner])
    with pytest.raises(ValueError, match=r"without batch normalization.*Received: .* with norm"):
        small(known, code_discriminator=network)
    assert code_discriminator(LATENTS).count_params() == 3 * 750 + 750 + 750 * 751 + 751
