"""The WAE's loss and gradient by hand, and what it does to the codes."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.stats import norm

import zoo
from zoo.adversarial import Minimax, NonSaturating
from zoo.discrepancies import RBF, InverseMultiquadric
from zoo.models.wae import wae_conv, wae_gan_conv, wae_gan_mlp, wae_mlp

tfd = tfp.distributions
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def small(known, **arguments):
    return zoo.WAE(
        zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 3, (5,), "tanh"), zoo.Deterministic()),
        zoo.networks.mlp_decoder(3, (8, 8, 1), 1, (5,), "tanh", "sigmoid"),
        known.Prior(3),
        **arguments,
    )


def imq(a, b, xp=np):
    squares = (
        xp.sum((a[:, None] - b) ** 2, -1) if xp is np else tf.reduce_sum((a[:, None] - b) ** 2, -1)
    )
    return sum(2 * 3 * s / (2 * 3 * s + squares) for s in SCALES)


def algorithm_2(x, made, z, prior, lambda_):
    """The paper's sums, written as it writes them."""
    n = len(x)
    cost = ((x - made) ** 2).sum() / n
    kz, kp, kzp = imq(z, z), imq(prior, prior), imq(z, prior)
    apart = 1 - np.eye(n)
    penalty = (
        lambda_ / (n * (n - 1)) * (kp * apart).sum()
        + lambda_ / (n * (n - 1)) * (kz * apart).sum()
        - 2 * lambda_ / n**2 * kzp.sum()
    )
    return cost, penalty


def test_the_loss_is_the_papers_algorithm_2(known, digits):
    x = digits[:7]
    model = small(known, lambda_=12.0)
    z = np.asarray(model.posterior.network(x), np.float64)
    made = np.asarray(model.generator(z.astype(np.float32)), np.float64)
    cost, penalty = algorithm_2(x, made, z, known.noise(7, 3), 12.0)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    logs = model.fit(x, batch_size=7, shuffle=False, verbose=0).history
    assert logs["cost"][0] == pytest.approx(cost, rel=1e-5)
    assert logs["discrepancy"][0] == pytest.approx(penalty / 12, rel=1e-4)
    assert logs["loss"][0] == pytest.approx(cost + penalty, rel=1e-5)
    assert abs(penalty) > 0.1


def test_with_the_pairs_of_points_with_themselves(known, digits):
    x = tf.constant(digits[:7])
    model = small(known, unbiased=False)
    z, prior = np.asarray(model.posterior.network(x), np.float64), known.noise(7, 3)
    by_hand = imq(z, z).mean() + imq(prior, prior).mean() - 2 * imq(z, prior).mean()
    _, terms = model.objective(x, None, tf.constant([1, 2]), True)
    assert float(tf.reduce_mean(terms["discrepancy"])) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 1.0, 50.0])
def test_lambda_weighs_the_discrepancy(known, digits, lambda_):
    model = small(known, lambda_=lambda_)
    losses, terms = model.objective(tf.constant(digits[:7]), None, tf.constant([1, 2]), True)
    np.testing.assert_allclose(
        losses["autoencoder"], terms["cost"] + lambda_ * terms["discrepancy"], rtol=1e-6
    )
    assert np.abs(terms["discrepancy"]).min() > 1e-3


def test_both_networks_move_along_the_gradient(known, digits, moves, assert_descends):
    model = small(known, lambda_=30.0)
    encoder, generator = model.posterior.network, model.generator
    x, prior = tf.constant(digits[:7]), known.noise(7, 3)
    with tf.GradientTape(persistent=True) as tape:
        z = encoder(x)
        cost = tf.reduce_sum((x - generator(z)) ** 2) / 7
        mmd = tf.reduce_sum(imq(z, z, tf)) / 42 - 2 * tf.reduce_mean(imq(z, prior, tf))
        loss = cost + 30 * mmd
    variables = encoder.trainable_variables + generator.trainable_variables
    gradients = tape.gradient(loss, variables)
    assert all(g is None for g in tape.gradient(mmd, generator.trainable_variables))
    assert all(np.abs(g).max() > 1e-4 for g in tape.gradient(mmd, encoder.trainable_variables))
    model.compile(keras.optimizers.SGD(1.0))
    assert_descends(moves(model, lambda: model.train_step((x,)))["autoencoder"], gradients)


def test_it_trains_to_reconstruct_and_to_match(digits):
    """Against the same networks without the discrepancy, whose codes lie where they began."""

    def after(lambda_):
        keras.utils.set_random_seed(0)
        model = wae_mlp((8, 8, 1), 2, (32,), lambda_=lambda_)
        *weights, bias = model.posterior.network.get_weights()
        model.posterior.network.set_weights([*weights, bias + 3])
        model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
        model.fit(digits, batch_size=100, epochs=60, verbose=0)
        z = np.asarray(model.encode(digits))
        prior = np.random.default_rng(1).normal(size=(200, 2))
        cost = ((digits - np.asarray(model.decode(z))) ** 2).sum((1, 2, 3)).mean()
        return zoo.metrics.maximum_mean_discrepancy(z, prior, "imq").value, cost

    spread = ((digits - digits.mean(0)) ** 2).sum((1, 2, 3)).mean()
    (free, _), (drawn, cost) = after(0.0), after(200.0)
    assert free > 0.3
    assert abs(drawn) < 0.1 * free
    assert cost < 0.8 * spread


class Point(zoo.distributions.Prior):
    """All mass on (1, 1, 1): draws that do not depend on the replica."""

    def call(self, y=None):
        return tfd.Independent(tfd.Deterministic(tf.ones(3)), 1)


@pytest.mark.parametrize("size", [12, 7])
def test_two_replicas_train_as_one(known, digits, mirrored, size):
    """On the discrepancy of the global batch; a mean of two halves' would be another number."""

    def build():
        keras.utils.set_random_seed(0)
        model = small(known, lambda_=20.0)
        model.prior = Point()
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        return model

    x = digits[:size]
    alone = build()
    with mirrored.scope():
        model = build()
    data = tf.data.Dataset.from_tensor_slices(x).batch(12).repeat(3)
    logs = [m.fit(data, verbose=0).history for m in (model, alone)]
    for name in ("loss", "cost", "discrepancy"):
        assert logs[0][name][0] == pytest.approx(logs[1][name][0], rel=1e-4)
    for a, b in zip(model.trainable_variables, alone.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-5)


def test_decodes_its_codes(digits):
    model = wae_mlp((8, 8, 1), 3, (8,))
    np.testing.assert_array_equal(
        model.reconstruct(digits[:4]), model.generator(model.posterior.network(digits[:4]))
    )
    assert "log_prob" not in model.abilities()


def test_builders_pass_their_settings_on():
    for model in (
        wae_mlp((8, 8, 1), 4, (4,), "normal", 2.0, 3.0, "rbf"),
        wae_conv((8, 8, 1), 4, (4,), 4, 4, "normal", 2.0, 3.0, "rbf"),
    ):
        assert isinstance(model.posterior.family, zoo.DiagonalNormal)
        assert (model.lambda_, model.prior.scale, model.latent_dim) == (3.0, 2.0, 4)
        assert isinstance(model.kernel, RBF)
        assert model.kernel.bandwidth == pytest.approx(4.0)  # 2 sqrt(4)
    default = wae_conv((8, 8, 1), 4, (4,), 4, 4)
    assert isinstance(default.posterior.family, zoo.Deterministic)
    assert isinstance(default.kernel, InverseMultiquadric)
    assert default.kernel.bandwidth == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lambda_": -1.0}, "`lambda_` must be a number from 0 on. Received: -1.0"),
        ({"lambda_": math.nan}, "`lambda_`"),
        ({"prior_scale": 0.0}, "`prior_scale` must be above 0 and finite. Received: 0.0"),
        ({"posterior": "normall"}, "Unknown posterior 'normall'.*Did you mean 'normal'"),
        ({"kernel": "cubic"}, "Unknown kernel 'cubic'"),
    ],
)
def test_refuses_what_makes_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        wae_mlp((8, 8, 1), 2, (4,), **arguments)


# WAE-GAN --------------------------------------------------------------------------------------


def small_gan(known, loss=None, lambda_=3.0, gaussian=False, prior_aware=False):
    family = known.Posterior() if gaussian else zoo.Deterministic()
    model = zoo.WAEGAN(
        zoo.Conditional(
            zoo.networks.mlp_encoder((8, 8, 1), family.num_params(3), (5,), "tanh"), family
        ),
        zoo.networks.mlp_decoder(3, (8, 8, 1), 1, (5,), "tanh", "sigmoid"),
        known.Prior(3),
        zoo.networks.mlp(3, 1, (6,), "tanh"),
        lambda_,
        loss,
        prior_aware,
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def softplus_of(logits):
    return tf.reduce_mean(tf.math.log1p(tf.exp(logits)))


@pytest.mark.parametrize("prior_aware", [False, True])
@pytest.mark.parametrize("gaussian", [False, True], ids=["deterministic", "gaussian"])
@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_saturating"])
def test_both_players_move_along_the_gradients_of_algorithm_1(
    known, digits, loss, gaussian, prior_aware, moves, assert_descends, single_turns
):
    x, lambda_ = tf.constant(digits[:7]), 3.0
    model = small_gan(known, loss, lambda_, gaussian, prior_aware)

    def logit(z):
        density = -0.5 * tf.reduce_sum(z**2, 1, True) - 1.5 * np.log(2 * np.pi)
        return model.discriminator(z) + (density if prior_aware else 0.0)

    with tf.GradientTape(persistent=True) as tape:
        z = model.posterior.network(x)
        if gaussian:
            loc, log_scale = tf.split(z, 2, 1)
            z = loc + tf.exp(log_scale) * known.noise(7, 3)
        cost = tf.reduce_sum((x - model.generator(z)) ** 2) / 7
        told = lambda_ * (
            softplus_of(-logit(tf.constant(known.noise(7, 3)))) + softplus_of(logit(z))
        )
        saturating = type(loss) is Minimax
        penalty = -softplus_of(logit(z)) if saturating else softplus_of(-logit(z))
        total = cost + lambda_ * penalty
    encoder, generator = model.posterior.network, model.generator
    # The update matrix: the generator answers to the cost alone, the encoder to both.
    assert all(g is None for g in tape.gradient(penalty, generator.trainable_variables))
    for value in (cost, penalty):
        slopes = tape.gradient(value, encoder.trainable_variables)
        assert all(np.abs(g).max() > 1e-5 for g in slopes)
    owners = encoder.trainable_variables + generator.trainable_variables
    expected = [
        ("discriminator", tape.gradient(told, model.discriminator.trainable_variables)),
        ("autoencoder", tape.gradient(total, owners)),
    ]
    for turn, (player, gradients) in zip(single_turns(model, x), expected, strict=True):
        kept = model.get_weights()
        change = moves(model, lambda turn=turn: model._play(turn, x, None, tf.constant([1, 2])))
        assert_descends(change.pop(player), gradients)
        assert all((c == 0).all() for c in next(iter(change.values())))
        model.set_weights(kept)
    _, (losses, terms) = model.objective(x, None, tf.constant([1, 2]), True)
    assert np.mean(terms["cost"]) == pytest.approx(float(cost), rel=1e-5)
    assert np.mean(losses["autoencoder"]) == pytest.approx(float(total), rel=1e-5)


def test_the_encoder_answers_to_the_discriminator_that_has_just_moved(known, digits, single_turns):
    x = tf.constant(digits[:7])
    one, other = small_gan(known), small_gan(known)
    other.set_weights(one.get_weights())
    one.train_step((x,))
    for player, turn in zip(("discriminator", "autoencoder"), single_turns(other, x), strict=True):
        assert list(other._play(turn, x, None, tf.constant([1, 2]))[0]) == [player]
    for a, b in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_with_lambda_zero_it_is_the_autoencoder_of_squared_error(known, digits, moves):
    model = small_gan(known, lambda_=0.0)
    x = tf.constant(digits[:7])
    kept = model.get_weights()
    change = moves(model, lambda: model.train_step((x,)))
    assert all((c == 0).all() for c in change["discriminator"])
    model.set_weights(kept)
    likelihood = zoo.Conditional(model.generator, zoo.UnitNormal())
    plain = zoo.Autoencoder(model.posterior.network, likelihood)
    plain.compile(keras.optimizers.SGD(2.0))  # Whose squared error counts half.
    expected = moves(plain, lambda: plain.train_step((x,)))["autoencoder"]
    for have, want in zip(change["autoencoder"], expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-6)


def codes_from(loc, scale, prior_aware):
    """Codes from N(loc, scale^2) whatever the image; the best discriminator against N(0, 1)."""
    encoder = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])  # fmt: skip
    raw = math.log(math.expm1(scale - 1e-4))
    encoder.set_weights([np.zeros((1, 2)), np.array([loc, raw])])
    z = keras.Input((1,))
    last = keras.layers.Dense(1)
    discriminator = keras.Model(z, last(keras.layers.Concatenate()([z, z * z])))
    # log p / q, or -log q alone, as quadratics in z.
    q = np.array([loc / scale**2, -0.5 / scale**2])
    constant = -0.5 * loc**2 / scale**2 - math.log(scale) - 0.5 * math.log(2 * math.pi)
    p = np.array([0.0, -0.5]) * (not prior_aware)
    p_constant = -0.5 * math.log(2 * math.pi) * (not prior_aware)
    last.set_weights([(p - q)[:, None], np.array([p_constant - constant])])
    return zoo.WAEGAN(
        zoo.Conditional(encoder, zoo.DiagonalNormal()),
        zoo.networks.mlp_decoder(1, (1, 1, 1), 1, (), output="sigmoid"),
        zoo.StandardNormal(1),
        discriminator,
        prior_aware=prior_aware,
    )


@pytest.mark.parametrize("prior_aware", [False, True])
@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (1.0, 0.7)])
def test_the_best_discriminators_cost_and_what_it_does_to_the_codes(loc, scale, prior_aware):
    model, n = codes_from(loc, scale, prior_aware), 40_000
    x = tf.zeros([n, 1, 1, 1])
    with tf.GradientTape() as tape:
        losses, _ = next(model.objective(x, None, tf.constant([1, 2]), training=True))
    encoder = model.posterior.trainable_variables
    assert all(g is None for g in tape.gradient(losses["discriminator"], encoder))
    loss = losses["discriminator"].numpy() / model.lambda_
    grid = np.linspace(-8, 9, 4001)
    p, q = norm.pdf(grid), norm.pdf(grid, loc, scale)
    expected = -np.trapezoid(p * np.log(p / (p + q)) + q * np.log(q / (p + q)), grid)
    assert abs(loss.mean() - expected) < 4 * loss.std() / np.sqrt(n) + 1e-5
    variables = model.posterior.trainable_variables
    with tf.GradientTape() as tape:
        _, (_, terms) = model.objective(x, None, tf.constant([1, 2]), True)
        mean = tf.reduce_mean(terms["penalty"])
    slopes = tape.gradient(mean, variables)[-1].numpy()
    if (loc, scale) == (0.0, 1.0):
        # Where codes are the prior's, there is nothing to tell and nothing that draws them away.
        assert loss.mean() == pytest.approx(2 * math.log(2), abs=1e-4)
        np.testing.assert_allclose(slopes, 0.0, atol=1e-4)
    else:
        # Down the slope: the mean towards 0, the scale towards 1.
        assert slopes[0] > 0.05 and slopes[1] < -0.05


def test_its_discriminator_draws_the_codes_to_the_prior():
    model = codes_from(2.0, 1.0, prior_aware=False)
    model.discriminator.set_weights([np.zeros((2, 1)), np.zeros(1)])
    model.compile(
        {
            "discriminator": keras.optimizers.Adam(0.1, beta_1=0.5),
            "autoencoder": keras.optimizers.Adam(0.03, beta_1=0.5),
        },
        jit_compile=False,
    )
    data = tf.data.Dataset.from_tensors(tf.zeros([256, 1, 1, 1])).repeat()
    model.fit(data, steps_per_epoch=200, verbose=0)
    assert abs(float(model.encode(np.zeros((1, 1, 1, 1), np.float32))[0, 0])) < 0.5


def test_builders_of_the_gan_pass_their_settings_on():
    for model in (
        wae_gan_mlp((8, 8, 1), 4, (4,), (5, 6), "normal", 2.0, 3.0, "minimax", True),
        wae_gan_conv((8, 8, 1), 4, (4,), 4, 4, (5, 6), "normal", 2.0, 3.0, "minimax", True),
    ):
        assert isinstance(model.posterior.family, zoo.DiagonalNormal)
        assert (model.lambda_, model.prior.scale, model.latent_dim) == (3.0, 2.0, 4)
        assert [layer.units for layer in model.discriminator.layers] == [5, 6, 1]
        assert type(model.adversarial_loss) is Minimax and model.prior_aware
    default = wae_gan_mlp((8, 8, 1), 4, (4,))
    assert isinstance(default.posterior.family, zoo.Deterministic)
    assert type(default.adversarial_loss) is NonSaturating and not default.prior_aware


def test_the_gan_refuses_a_prior_that_learns_and_what_makes_no_sense(known):
    parts = small_gan(known)
    with pytest.raises(ValueError, match=r"of a WAEGAN.*not learn.*Received: a MixturePrior"):
        zoo.WAEGAN(parts.posterior, parts.generator, zoo.MixturePrior(3, 2), parts.discriminator)
    others = parts.posterior, parts.generator
    for prior in (zoo.SwissRoll(), zoo.UniformOnSphere(3)):
        zoo.WAEGAN(*others, prior, parts.discriminator)
        with pytest.raises(
            ValueError, match=rf"a density over.*Received: a {type(prior).__name__}"
        ):
            zoo.WAEGAN(*others, prior, parts.discriminator, prior_aware=True)
    with pytest.raises(ValueError, match=r"`lambda_` must be a number from 0 on. Received: -1"):
        wae_gan_mlp((8, 8, 1), 2, (4,), (4,), lambda_=-1.0)
    with pytest.raises(ValueError, match="`prior_scale` must be above 0"):
        wae_gan_mlp((8, 8, 1), 2, (4,), (4,), prior_scale=0.0)
