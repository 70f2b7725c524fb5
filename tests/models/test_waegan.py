"""The two updates of the WAE-GAN against Algorithm 1, and its discriminator against closed forms."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

import zoo
from zoo.adversarial import Minimax, NonSaturating
from zoo.models.waegan import waegan


def small(known, loss=None, lambda_=3.0, gaussian=False, prior_aware=False):
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
def test_a_step_descends_the_gradients_of_algorithm_1(
    known, digits, loss, gaussian, prior_aware, weight_changes, assert_descends, single_turns
):
    x, lambda_ = tf.constant(digits[:7]), 3.0
    model = small(known, loss, lambda_, gaussian, prior_aware)

    def logit(z):
        density = -0.5 * tf.reduce_sum(z**2, 1, True) - 1.5 * np.log(2 * np.pi)
        return model.discriminator(z) + (density if prior_aware else 0.0)

    with tf.GradientTape(persistent=True) as tape:
        z = model.posterior.network(x)
        if gaussian:
            loc, log_scale = tf.split(z, 2, 1)
            z = loc + tf.exp(log_scale) * known.noise(7, 3)
        cost = tf.reduce_sum((x - model.generator(z)) ** 2) / 7
        real, fake = logit(tf.constant(known.noise(7, 3))), logit(z)
        discriminator_loss = lambda_ * (softplus_of(-real) + softplus_of(fake))
        saturating = type(loss) is Minimax
        penalty = -softplus_of(logit(z)) if saturating else softplus_of(-logit(z))
        total = cost + lambda_ * penalty
    encoder, generator = model.posterior.network, model.generator
    # The generator's gradient comes only from the cost, the encoder's from both terms.
    assert all(g is None for g in tape.gradient(penalty, generator.trainable_variables))
    for value in (cost, penalty):
        slopes = tape.gradient(value, encoder.trainable_variables)
        assert all(np.abs(g).max() > 1e-5 for g in slopes)
    owners = encoder.trainable_variables + generator.trainable_variables
    expected = [
        (
            "discriminator",
            tape.gradient(discriminator_loss, model.discriminator.trainable_variables),
        ),
        ("autoencoder", tape.gradient(total, owners)),
    ]
    for turn, (player, gradients) in zip(single_turns(model, x), expected, strict=True):
        kept = model.get_weights()
        change = weight_changes(
            model, lambda turn=turn: model._play(turn, x, None, tf.constant([1, 2]))
        )
        assert_descends(change.pop(player), gradients)
        assert all((c == 0).all() for c in next(iter(change.values())))
        model.set_weights(kept)
    _, (losses, terms) = model.objective(x, None, tf.constant([1, 2]), True)
    assert np.mean(terms["cost"]) == pytest.approx(float(cost), rel=1e-5)
    assert np.mean(losses["autoencoder"]) == pytest.approx(float(total), rel=1e-5)


def test_the_encoder_is_updated_after_the_discriminator(known, digits, single_turns):
    x = tf.constant(digits[:7])
    one, other = small(known), small(known)
    other.set_weights(one.get_weights())
    one.train_step((x,))
    for player, turn in zip(("discriminator", "autoencoder"), single_turns(other, x), strict=True):
        assert list(other._play(turn, x, None, tf.constant([1, 2]))[0]) == [player]
    for a, b in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_lambda_0_gives_the_autoencoder_with_squared_error(known, digits, weight_changes):
    model = small(known, lambda_=0.0)
    x = tf.constant(digits[:7])
    kept = model.get_weights()
    change = weight_changes(model, lambda: model.train_step((x,)))
    assert all((c == 0).all() for c in change["discriminator"])
    model.set_weights(kept)
    likelihood = zoo.Conditional(model.generator, zoo.UnitNormal())
    plain = zoo.Autoencoder(model.posterior.network, likelihood)
    plain.compile(keras.optimizers.SGD(2.0))  # The autoencoder's loss is half the squared error.
    expected = weight_changes(plain, lambda: plain.train_step((x,)))["autoencoder"]
    for have, want in zip(change["autoencoder"], expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-6)


def codes_from(loc, scale, prior_aware):
    """Codes from N(loc, scale^2) for each image; the optimal discriminator against N(0, 1)."""
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
def test_the_loss_of_the_optimal_discriminator_and_its_gradient_on_the_codes(
    loc, scale, prior_aware
):
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
        # Codes are draws of the prior: the encoder's gradient is zero.
        assert loss.mean() == pytest.approx(2 * math.log(2), abs=1e-4)
        np.testing.assert_allclose(slopes, 0.0, atol=1e-4)
    else:
        # A descent step shifts the mean towards 0 and the scale towards 1.
        assert slopes[0] > 0.05 and slopes[1] < -0.05


@pytest.mark.slow
def test_training_matches_the_codes_to_the_prior():
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


def tiny(**options):
    sizes = {"latent_dim": 4, "hidden": (4,), "discriminator_hidden": (5, 6)}
    return waegan((8, 8, 1), **sizes | options)


CONV = {"network": "conv", "filters": (4,), "width": 4}


@pytest.mark.parametrize("network", [{}, CONV], ids=["mlp", "conv"])
def test_the_builder_sets_the_parts(network):
    model = tiny(
        posterior="normal", prior_scale=2.0, lambda_=3.0, loss="minimax", real_label=0.9,
        prior_aware=True, **network,
    )  # fmt: skip
    assert isinstance(model.posterior.family, zoo.DiagonalNormal)
    assert (model.lambda_, model.prior.scale, model.latent_dim) == (3.0, 2.0, 4)
    assert [layer.units for layer in model.discriminator.layers] == [5, 6, 1]
    assert type(model.adversarial_loss) is Minimax and model.prior_aware
    assert model.adversarial_loss.real_label == 0.9
    default = tiny(**network)
    assert isinstance(default.posterior.family, zoo.Deterministic)
    assert type(default.adversarial_loss) is NonSaturating and not default.prior_aware


@pytest.mark.parametrize("prior", ["mixture", "vamp", "realnvp"])
def test_a_trainable_prior_is_refused(prior):
    with pytest.raises(ValueError, match=r"of a WAEGAN.*Received: an? \w+Prior"):
        tiny(prior=prior)


@pytest.mark.parametrize("prior", ["swiss_roll", "sphere"])
def test_prior_aware_needs_a_density(prior):
    dim = {"latent_dim": 2}
    assert not tiny(prior=prior, **dim).prior_aware
    with pytest.raises(ValueError, match=r"`prior_aware`.*density.*Received: "):
        tiny(prior=prior, prior_aware=True, **dim)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_": -1.0}, r"`lambda_` must be at least 0 and finite\. Received: -1"),
        ({"prior_scale": 0.0}, "`prior_scale` must be above 0"),
        ({"loss": "wasserstein"}, "'wasserstein' has no lower bound"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)
