"""alpha-GAN: the four losses by hand, the order of updates, and their fixed points."""

import collections
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow_except

import zoo
from zoo.adversarial import LogRatio, Minimax, NonSaturating
from zoo.distributions import by_name
from zoo.keras_internals import layers_in
from zoo.models.alpha_gan import alpha_gan
from zoo.penalties import R1, GradientPenalty

SHAPE, BATCH, LATENTS, LAMBDA = (8, 8, 1), 7, 3, 0.3
PLAYERS = ["encoder", "generator", "discriminator", "code_discriminator"]
SEED = tf.constant([1, 2])
TINY = {
    "latent_dim": 2,
    "hidden": (4,),
    "discriminator_hidden": (4, 4),
    "code_discriminator_hidden": (4,),
}
CONV = {
    "network": "conv",
    "latent_dim": 3,
    "filters": (2,),
    "hidden": (4,),
    "width": 2,
    "code_discriminator_hidden": (3,),
}


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
    """The four losses, from the paper's formulas with D = sigmoid(logit)."""
    loc, log_scale = tf.split(model.posterior.network(x), 2, 1)
    noise = known.noise(BATCH, LATENTS)
    code = loc + tf.exp(log_scale) * noise
    reconstruction, sample = model.generator(code), model.generator(noise)
    l1 = tf.reduce_mean(tf.reduce_sum(tf.abs(x - reconstruction), [1, 2, 3]))

    def r(probability):  # -log D + log(1 - D), or -log D alone
        loss = -tf.math.log(probability)
        return tf.reduce_mean(loss + tf.math.log(1 - probability) if ratio else loss)

    d = {
        k: model.discriminator(v)
        for k, v in (("x", x), ("rec", reconstruction), ("sample", sample))
    }
    c = {k: model.code_discriminator(v) for k, v in (("z", noise), ("code", code))}
    return {
        "encoder": LAMBDA * l1 + r(tf.sigmoid(c["code"])),
        "generator": LAMBDA * l1 + r(tf.sigmoid(d["rec"])) + r(tf.sigmoid(d["sample"])),
        "discriminator": mean_softplus(-d["x"])
        + mean_softplus(d["rec"])
        + mean_softplus(d["sample"]),
        "code_discriminator": mean_softplus(-c["z"]) + mean_softplus(c["code"]),
    }


@pytest.mark.parametrize("loss", [None, NonSaturating()], ids=["log_ratio", "non_saturating"])
def test_each_turn_descends_its_gradient_and_updates_no_other_player(
    known, digits, loss, weight_changes, assert_descends, single_turns
):
    model, x = small(known, loss), tf.constant(digits[:BATCH])
    order = [["encoder"], ["generator"], ["discriminator", "code_discriminator"]]
    for turn, updated in zip(single_turns(model, x), order, strict=True):
        with tf.GradientTape(persistent=True) as tape:
            expected = losses_by_hand(model, known, x, ratio=loss is None)
        gradients = {p: tape.gradient(expected[p], model.variables_of(p)) for p in updated}
        values = {}

        def run_turn(turn=turn, values=values):
            losses, _ = model._play(turn, x, None, SEED)
            values.update({p: float(tf.reduce_mean(v)) for p, v in losses.items()})

        change = weight_changes(model, run_turn)
        assert sorted(values) == sorted(updated)
        for player in PLAYERS:
            if player in updated:
                assert_descends(change[player], gradients[player])
                assert values[player] == pytest.approx(float(expected[player]), rel=1e-4)
            else:
                assert not any(c.any() for c in change[player])


@pytest.mark.parametrize(
    ("penalty", "slope"),  # Its derivative by the norm n of a linear discriminator's kernel
    [(GradientPenalty(5.0, 0.3), lambda n: 10 * (n - 0.3)), (R1(5.0), lambda n: 5 * n)],
    ids=["gp", "r1"],
)
def test_a_penalty_reaches_only_the_two_discriminators(
    known, digits, penalty, slope, weight_changes
):
    linear = [keras.layers.Flatten(), keras.layers.Dense(1)]
    parts = {
        "discriminator": keras.Sequential([keras.Input(SHAPE), *linear]),
        "code_discriminator": keras.Sequential([keras.Input((LATENTS,)), keras.layers.Dense(1)]),
    }
    plain = small(known, **parts)
    weights = plain.get_weights()
    kernels = {name: part.get_weights()[0] for name, part in parts.items()}
    own = {n: getattr(plain, n) for n in ("posterior", "generator", "prior")}
    penalised = small(known, **parts, **own, penalty=penalty)
    changes = []
    for model in (plain, penalised):
        model.set_weights(weights)
        step = tf.constant(digits[:BATCH])
        changes.append(weight_changes(model, lambda model=model, x=step: model.train_step((x,))))
    assert set(penalised.terms) - set(plain.terms) == {"penalty", "code_penalty"}
    for player in ("encoder", "generator"):
        for a, b in zip(*(change[player] for change in changes), strict=True):
            np.testing.assert_array_equal(a, b)
    for player, kernel in kernels.items():
        norm = np.linalg.norm(kernel)
        by_penalty = changes[1][player][0] - changes[0][player][0]
        np.testing.assert_allclose(by_penalty, -slope(norm) * kernel / norm, rtol=1e-3, atol=1e-4)


def test_a_training_step_runs_the_turns_in_order(known, digits, single_turns):
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


def test_rounds_call_each_network_the_minimum_number_of_times(known, digits):
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


def test_the_losses_have_no_gradient_for_already_updated_players(known, digits, single_turns):
    model, x = small(known), tf.constant(digits[:BATCH])
    _, generators, discriminators = single_turns(model, x)
    for turn, fixed in ((generators, ["encoder"]), (discriminators, ["encoder", "generator"])):
        with tf.GradientTape(persistent=True) as tape:
            losses, _ = turn.objective(x, None, SEED, True)
        for player in fixed:
            for loss in losses.values():
                assert all(g is None for g in tape.gradient(loss, model.variables_of(player)))


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 10.0])
def test_encoder_and_generator_minimise_the_distance_at_zero_logits(
    known, digits, lambda_, single_turns
):
    model, x = small(known, lambda_=lambda_), tf.constant(digits[:BATCH])
    for network in (model.discriminator, model.code_discriminator):
        network.set_weights([np.zeros_like(w) for w in network.get_weights()])
    values = {}
    for turn in single_turns(model, x):
        losses, terms = turn.objective(x, None, SEED, True)
        values |= losses | terms
    reconstruction = model.generator(model.posterior(x).sample()).numpy()
    l1 = np.abs(reconstruction - digits[:BATCH]).reshape(BATCH, -1).sum(1)
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
    """Codes from N(loc, scale^2) for every image; C(z) has the logit a + b z + c z^2."""
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
    """A discriminator's optimal kernel on fixed draws, its standard errors and loss, by Newton."""
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
    """R_C of new codes, and its gradient in the encoder biases of mean and raw scale."""
    offsets = model.posterior.network.trainable_variables[1]
    with tf.GradientTape() as tape:
        losses, _ = model.encoder_objective(
            tf.zeros([n, 1, 1, 1]), None, tf.constant([3, 4]), training=True
        )
        mean = tf.reduce_mean(losses["encoder"])
    return losses["encoder"].numpy(), tape.gradient(mean, offsets).numpy()


def test_the_optimal_code_discriminator_gives_the_kl_as_encoder_loss():
    loc, scale = 0.8, 0.6
    model = one_dimensional(loc, scale)
    weights, error = best_code_discriminator(model)
    # log N(z; 0, 1) - log N(z; loc, scale^2), high for draws of the prior.
    exact = [np.log(scale) + loc**2 / (2 * scale**2), -loc / scale**2, 0.5 / scale**2 - 0.5]
    assert (np.abs(weights - exact) < 4.5 * error).all()
    model.code_discriminator.set_weights([np.reshape(exact, (3, 1))])
    ratio, gradient = ratio_of_codes(model)
    kl = 0.5 * (loc**2 + scale**2 - 1) - np.log(scale)
    assert abs(ratio.mean() - kl) < 4.5 * ratio.std() / 200
    # The gradient of KL(q || p), which vanishes at the prior's mean and scale.
    slope = 1 - np.exp(-(scale - 1e-4))
    np.testing.assert_allclose(gradient, [loc, (scale - 1 / scale) * slope], rtol=0.05)


def test_codes_that_follow_the_prior_have_zero_ratio_and_gradient():
    model = one_dimensional(0.0, 1.0)
    weights, error = best_code_discriminator(model)
    assert (np.abs(weights) < 4.5 * error).all()
    ratio, gradient = ratio_of_codes(model)
    assert np.abs(ratio).mean() < 0.05 and np.abs(gradient).max() < 0.05
    model.code_discriminator.set_weights([np.zeros((3, 1))])
    ratio, gradient = ratio_of_codes(model)
    assert not ratio.any() and not gradient.any()


def test_the_generator_gradient_vanishes_for_equal_data_reconstructions_and_samples():
    """x = z ~ N(0, 1); encoder and generator are the identity; D(x) has the logit a + b x + c x^2."""
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
    # The data are n draws, the samples n further draws, and the reconstructions are the data.
    assert (np.abs(found - expected) < 4.5 * error).all() and error.max() < 0.01
    least = 3 * math.log(3) - 2 * math.log(2)
    assert loss == pytest.approx(least, abs=1e-3)
    model.discriminator.set_weights([expected[:, None]])
    with tf.GradientTape() as tape:
        (losses, _), (others, _) = model.adversarial_objective(x, None, SEED, training=True)
    np.testing.assert_allclose(others["discriminator"][:9], np.full(9, least), rtol=1e-5)
    # R_D is log 2 for every reconstruction and every sample.
    np.testing.assert_allclose(losses["generator"], np.full(n, 2 * math.log(2)), rtol=1e-5)
    assert all(not np.any(g) for g in tape.gradient(losses["generator"], scale.trainable_variables))


@pytest.mark.slow
def test_training_matches_the_codes_to_the_prior():
    model = one_dimensional(2.0, 0.5)
    fixed = keras.optimizers.SGD(0.0)
    model.compile({
        "encoder": keras.optimizers.Adam(0.02, beta_1=0.5),
        "generator": fixed,
        "discriminator": keras.optimizers.SGD(0.0),
        "code_discriminator": keras.optimizers.Adam(0.1, beta_1=0.5),
    })  # fmt: skip
    data = tf.data.Dataset.from_tensors(tf.zeros([256, 1, 1, 1])).repeat()
    model.fit(data, steps_per_epoch=400, epochs=1, verbose=0)
    q = model.posterior(np.zeros((1, 1, 1, 1), np.float32))
    assert abs(float(q.mean()[0, 0])) < 0.4
    assert abs(math.log(float(q.stddev()[0, 0]))) < 0.4


def test_batch_statistics_change_only_in_updates_of_their_player(snapshot, single_turns):
    model = alpha_gan((16, 16, 1), **CONV)
    model.compile(keras.optimizers.SGD(0.0))
    x = tf.random.stateless_uniform([4, 16, 16, 1], [1, 2])
    for turn, updated in zip(
        single_turns(model, x), [["encoder"], ["generator"], ["discriminator"]], strict=True
    ):
        before = snapshot(model)
        model._play(turn, x, None, SEED)
        after = snapshot(model)
        for player in PLAYERS:
            changed = any(
                not np.array_equal(a, b) for a, b in zip(before[player], after[player], strict=True)
            )
            # The encoder has no statistics.
            assert changed == (player in updated and player != "encoder")


def test_the_discriminators_statistics_are_updated_three_times_per_step():
    """Its three calls update the statistics; the two calls in the generator's turn do not."""
    model = alpha_gan((16, 16, 1), **CONV)
    model.compile(keras.optimizers.SGD(0.0))
    norms = [
        n for n in layers_in(model.discriminator) if isinstance(n, keras.layers.BatchNormalization)
    ]
    assert norms
    for norm in norms:
        norm.moving_mean.assign(np.full(norm.moving_mean.shape, 1e6))
    model.train_step((tf.random.stateless_uniform([4, 16, 16, 1], [1, 2]),))
    for norm in norms:
        np.testing.assert_allclose(norm.moving_mean / 1e6, norm.momentum**3, rtol=1e-4)


def test_each_turn_of_the_adversarial_round_draws_new_latents_from_the_prior(known, digits):
    model = small(known, prior=zoo.StandardNormal(LATENTS))
    seen = collections.defaultdict(list)
    for name in ("generator", "code_discriminator"):
        network = getattr(model, name)

        def called(z, *args, call=network.call, name=name, **kwargs):
            seen[name].append(np.asarray(z))
            return call(z, *args, **kwargs)

        network.call = called
    turns = list(model.adversarial_objective(tf.constant(digits[:BATCH]), None, SEED, True))
    assert len(turns) == 2
    code, first, again, second = seen["generator"]
    np.testing.assert_array_equal(code, again)
    assert (first != second).all()
    assert np.abs(first).max() > 0.5 and np.abs(second).max() > 0.5
    # The code discriminator compares the second draws with the codes.
    prior, codes = seen["code_discriminator"]
    np.testing.assert_array_equal(prior, second)
    np.testing.assert_array_equal(codes, code)


def test_options_reach_their_parts():
    model = alpha_gan(SHAPE, **TINY)
    assert type(model.adversarial_loss) is LogRatio and model.lambda_ == 1.0
    assert isinstance(model.posterior.family, zoo.Deterministic)
    model = alpha_gan(
        SHAPE, **TINY, loss="minimax", real_label=0.9, label_noise=0.1, lambda_=0.5,
        posterior="normal", prior="uniform", dropout=0.25, spectral_norm=True, batch_norm=False,
    )  # fmt: skip
    assert type(model.adversarial_loss) is Minimax and model.lambda_ == 0.5
    assert (model.adversarial_loss.real_label, model.adversarial_loss.label_noise) == (0.9, 0.1)
    assert isinstance(model.posterior.family, zoo.DiagonalNormal)
    assert isinstance(model.prior, zoo.Uniform)
    for network in (model.discriminator, model.code_discriminator):
        spectral = [
            n for n in layers_in(network) if isinstance(n, zoo.networks.SpectralNormalization)
        ]
        assert len(spectral) == sum(len(w.shape) > 1 for w in network.trainable_variables) > 1
    dropout = [n.rate for n in model.discriminator.layers if isinstance(n, keras.layers.Dropout)]
    assert dropout == [0.25] * 2
    norms = [
        any(isinstance(n, keras.layers.BatchNormalization) for n in m.discriminator.layers)
        for m in (alpha_gan(SHAPE, **TINY), alpha_gan(SHAPE, **TINY, batch_norm=False))
    ]
    assert norms == [True, False]


@pytest.mark.parametrize("posterior", slow_except(["planar", "implicit"], by_name.POSTERIORS))
def test_every_posterior_trains(digits, posterior):
    model = alpha_gan(SHAPE, **TINY, posterior=posterior)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    before = [w.numpy() for w in model.posterior.trainable_variables]
    model.train_step((tf.constant(digits[:6]),))
    after = model.posterior.trainable_variables
    assert any((w.numpy() != old).any() for w, old in zip(after, before, strict=True))
    assert model.reconstruct(digits[:3]).shape == (3, *SHAPE)


@pytest.mark.parametrize("lambda_", [-1.0, math.inf, math.nan])
def test_a_weight_out_of_range_is_refused(lambda_):
    with pytest.raises(ValueError, match=r"`lambda_` must be at least 0 and finite\. Received: "):
        alpha_gan(SHAPE, **TINY, lambda_=lambda_)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge", "real_label": 0.9}, "'hinge'"),
        ({"loss": "wasserstein"}, r"bounds the critic's slope.*Received: "),
        ({"spectral_norm": True}, "batch_norm=False.*Received: both"),
        ({"width": 3}, "`width` is an option of network 'conv'"),
        ({"prior": "maf"}, r"prior of an AlphaGAN must be fixed.*Received: an MAFPrior"),
    ],
)
def test_incompatible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        alpha_gan(SHAPE, **TINY, **options)


def test_a_prior_with_trainable_weights_is_refused(known):
    with pytest.raises(ValueError, match=r"of an AlphaGAN must be fixed.*Received: a MixturePrior"):
        small(known, prior=zoo.MixturePrior(LATENTS, 2))


def test_a_code_discriminator_with_batch_normalization_is_refused(known):
    inner = keras.Sequential([
        keras.Input((4,)), keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(1)
    ])  # fmt: skip
    network = keras.Sequential([keras.Input((LATENTS,)), keras.layers.Dense(4), inner])
    with pytest.raises(ValueError, match=r"must have no batch normalization.*Received: .*'norm'"):
        small(known, code_discriminator=network)
    network = alpha_gan(SHAPE, latent_dim=LATENTS).code_discriminator
    assert network.count_params() == 3 * 750 + 750 + 750 * 751 + 751
