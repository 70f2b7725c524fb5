"""The adversarial autoencoder: three phases, their losses, and the players they update."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

import zoo
from zoo.adversarial import Minimax, NonSaturating
from zoo.models.aae import aae

SHAPE, BATCH, LATENTS = (8, 8, 1), 7, 3
PHASES = ["autoencoder", "discriminator", "encoder"]


def small(known, gaussian, loss=None):
    family = known.Posterior() if gaussian else zoo.Deterministic()
    outputs = family.params_per_value * LATENTS
    model = zoo.AAE(
        zoo.Conditional(zoo.networks.mlp_encoder(SHAPE, outputs, (5,), "tanh"), family),
        zoo.Conditional(
            zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (5,), "tanh"), zoo.UnitNormal()
        ),
        known.Prior(LATENTS),
        zoo.networks.mlp(LATENTS, 1, (6,), "tanh"),
        loss,
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def softplus_of(logits):
    return tf.reduce_mean(tf.math.log1p(tf.exp(logits)))


def loss_by_hand(model, known, x, phase, gaussian, saturating):
    params = model.posterior.network(x)
    code = params
    if gaussian:
        loc, log_scale = tf.split(params, 2, 1)
        code = loc + tf.exp(log_scale) * known.noise(BATCH, LATENTS)
    if phase == "autoencoder":
        means = model.likelihood.network(code)
        return 0.5 * tf.reduce_mean(tf.reduce_sum((x - means) ** 2, [1, 2, 3]))
    fake = model.discriminator(code)
    if phase == "discriminator":
        real = model.discriminator(tf.constant(known.noise(BATCH, LATENTS)))
        return softplus_of(-real) + softplus_of(fake)
    return -softplus_of(fake) if saturating else softplus_of(-fake)


def test_labels_of_codes_and_of_the_prior_have_separate_noise(known, digits, loss_with_seeds):
    loss, seeds = loss_with_seeds
    model = small(known, True, loss)
    next(model.regularization_objective(digits[:2], None, tf.constant([1, 2]), True))
    real, fake = np.array(seeds)
    assert (real != fake).any()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("gaussian", [False, True], ids=["deterministic", "gaussian"])
@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_saturating"])
def test_each_phase_descends_its_loss_and_updates_only_its_player(
    known, digits, phase, gaussian, loss, weight_changes, assert_descends, single_turns
):
    model, x = small(known, gaussian, loss), tf.constant(digits[:BATCH])
    variables = {
        "autoencoder": model.posterior.trainable_variables + model.likelihood.trainable_variables,
        "discriminator": model.discriminator.trainable_variables,
        "encoder": model.posterior.trainable_variables,
    }[phase]
    with tf.GradientTape() as tape:
        value = loss_by_hand(model, known, x, phase, gaussian, type(loss) is Minimax)
    expected = tape.gradient(value, variables)
    updated = {id(v) for v in variables}
    others = [(v, v.numpy()) for v in model.trainable_variables if id(v) not in updated]
    assert others
    turn = single_turns(model, x)[PHASES.index(phase)]
    change = weight_changes(model, lambda: model._play(turn, x, None, tf.constant([1, 2])))
    assert_descends(change[phase], expected)
    assert all(np.array_equal(v, before) for v, before in others)


def test_a_step_updates_the_autoencoder_then_the_discriminator_then_the_encoder(
    known, digits, single_turns
):
    x = tf.constant(digits[:BATCH])
    one, other = small(known, True), small(known, True)
    other.set_weights(one.get_weights())
    one.train_step((x,))
    for phase, turn in zip(PHASES, single_turns(other, x), strict=True):
        assert list(other._play(turn, x, None, tf.constant([1, 2]))[0]) == [phase]
    for a, b in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_encoder_batch_statistics_change_only_in_encoder_phases(digits, single_turns):
    encoder = keras.Sequential([
        keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.BatchNormalization(),
        keras.layers.Dense(LATENTS),
    ])  # fmt: skip
    parts = tiny()
    posterior = zoo.Conditional(encoder, zoo.Deterministic())
    model = zoo.AAE(posterior, parts.likelihood, parts.prior, parts.discriminator)
    model.compile(keras.optimizers.SGD(0.1))
    x = tf.constant(digits[:BATCH])
    for phase, turn in zip(PHASES, single_turns(model, x), strict=True):
        before = encoder.layers[1].moving_mean.numpy()
        model._play(turn, x, None, tf.constant([1, 2]))
        changed = not np.array_equal(before, encoder.layers[1].moving_mean.numpy())
        assert changed == (phase != "discriminator")


def one_dimensional(code_loc, slope, offset, posterior="normal"):
    """Codes from N(code_loc, 1) for each image, prior N(0, 1), a linear discriminator."""
    model = aae(
        (1, 1, 1),
        latent_dim=1,
        hidden=(),
        posterior=posterior,
        discriminator_hidden=(),
        likelihood="unit_normal",
    )
    raw = math.log(math.expm1(1 - 1e-4))
    model.posterior.network.set_weights([np.zeros((1, 2)), np.array([code_loc, raw])])
    model.discriminator.set_weights([np.array([[slope]]), np.array([offset])])
    return model


def optimal_value(shift):
    grid = np.linspace(-8, 8 + shift, 4001)
    p, q = norm.pdf(grid), norm.pdf(grid, shift)
    m = (p + q) / 2
    return math.log(4) - np.trapezoid(p * np.log(p / m) + q * np.log(q / m), grid)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_the_optimal_discriminator_loss_is_log_4_minus_twice_the_jsd_of_prior_and_codes(shift):
    # log N(z; 0, 1) / N(z; shift, 1) = -shift z + shift^2 / 2: high for the prior.
    model = one_dimensional(shift, -shift, shift**2 / 2)
    x = tf.zeros([40_000, 1, 1, 1])
    losses, terms = next(model.regularization_objective(x, None, tf.constant([1, 2]), False))
    loss = losses["discriminator"].numpy()
    assert abs(loss.mean() - optimal_value(shift)) < 4 * loss.std() / 200 + 1e-6
    if not shift:
        assert loss.mean() == pytest.approx(2 * math.log(2), abs=1e-6)
    else:
        assert np.mean(terms["prior_logit"]) > 0 > np.mean(terms["code_logit"])


def test_the_discriminator_loss_tends_to_log_4_if_the_codes_follow_the_prior():
    model = one_dimensional(0.0, slope=-2.0, offset=1.0)
    model.compile({
        "autoencoder": keras.optimizers.SGD(0.0),
        "discriminator": keras.optimizers.Adam(0.05),
        "encoder": keras.optimizers.SGD(0.0),
    })  # fmt: skip
    data = tf.data.Dataset.from_tensors(tf.zeros([512, 1, 1, 1])).repeat()
    losses = model.fit(data, steps_per_epoch=50, epochs=5, verbose=0).history["discriminator_loss"]
    assert losses[0] > losses[-1]
    assert losses[-1] == pytest.approx(2 * math.log(2), abs=0.02)


@pytest.mark.slow
def test_training_matches_the_codes_to_the_prior():
    model = one_dimensional(3.0, slope=0.0, offset=0.0)
    model.compile({
        "autoencoder": keras.optimizers.SGD(0.0),
        "discriminator": keras.optimizers.Adam(0.1, beta_1=0.5),
        "encoder": keras.optimizers.Adam(0.03, beta_1=0.5),
    })  # fmt: skip
    data = tf.data.Dataset.from_tensors(tf.zeros([256, 1, 1, 1])).repeat()
    model.fit(data, steps_per_epoch=300, epochs=1, verbose=0)
    assert abs(float(model.encode(np.zeros((1, 1, 1, 1), np.float32))[0, 0])) < 1.0


@pytest.mark.parametrize("shifted", [False, True])
def test_gradients_vanish_for_zero_logits_and_codes_that_follow_the_prior(shifted):
    model = one_dimensional(1.0 if shifted else 0.0, slope=0.0, offset=0.0)
    x = tf.zeros([40_000, 1, 1, 1])
    with tf.GradientTape(persistent=True) as tape:
        first, second = model.regularization_objective(x, None, tf.constant([1, 2]), True)
        discriminator_loss = tf.reduce_mean(first[0]["discriminator"])
        encoder_loss = tf.reduce_mean(second[0]["encoder"])
    encoder = model.variables_of("encoder")
    # The gradient of the discriminator's loss does not reach the encoder.
    assert all(g is None for g in tape.gradient(discriminator_loss, encoder))
    assert float(discriminator_loss) == pytest.approx(2 * math.log(2), abs=1e-4)
    slope, offset = tape.gradient(discriminator_loss, model.variables_of("discriminator"))
    # Half the difference of the means, for a linear discriminator.
    assert float(slope[0, 0]) == pytest.approx(0.5 if shifted else 0.0, abs=0.02)
    assert float(offset[0]) == pytest.approx(0.0, abs=1e-4)
    assert all(np.abs(g).max() < 1e-6 for g in tape.gradient(encoder_loss, encoder))


def tiny(image_shape=SHAPE, **options):
    sizes = {"latent_dim": LATENTS, "hidden": (4,), "discriminator_hidden": (4,)}
    return aae(image_shape, **sizes | options)


def codes(model, x):
    """The codes of two different seeds."""
    return [model.posterior(x, training=True).sample(seed=[0, i]).numpy() for i in range(2)]


@pytest.mark.parametrize("posterior", ["deterministic", "normal"])
def test_normal_posteriors_add_noise_and_deterministic_posteriors_do_not(posterior, digits):
    model, x = tiny(posterior=posterior), tf.constant(digits[:3])
    one, other = codes(model, x)
    assert np.array_equal(one, other) == (posterior == "deterministic")
    if posterior == "deterministic":
        np.testing.assert_allclose(one, model.encode(digits[:3]), rtol=1e-6)


@pytest.mark.parametrize("prior", ["petals", "swiss_roll"])
def test_planar_priors_require_two_latents(prior, digits):
    model = tiny(latent_dim=2, prior=prior)
    model.compile("adam")
    logs = model.train_step((tf.constant(digits[:8]),))
    assert np.isfinite(list(logs.values())).all()
    assert model.sample(3).shape == (3, *SHAPE) and model.latent_dim == 2
    with pytest.raises(ValueError, match=r"needs latent_dim=2\. Received: latent_dim=3"):
        tiny(prior=prior)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_prior_scale_out_of_range_is_refused(scale):
    with pytest.raises(ValueError, match=r"`prior_scale` must be above 0 and finite\. Received: "):
        tiny(prior_scale=scale)


@pytest.mark.parametrize("prior", ["petals", "swiss_roll"])
def test_planar_priors_refuse_a_prior_scale(prior):
    with pytest.raises(ValueError, match=rf"prior='{prior}' does not use it.*prior_scale=5\.0"):
        tiny(latent_dim=2, prior=prior, prior_scale=5.0)
    assert tiny(latent_dim=2, prior=prior, prior_scale=1.0).latent_dim == 2


def test_the_order_of_weights_is_encoder_decoder_discriminator():
    """Trained weights are stored as a list."""
    model = tiny(hidden=(5, 6), discriminator_hidden=(7,))
    expected = [
        (), (64, 5), (5,), (5, 6), (6,), (6, LATENTS), (LATENTS,),
        (LATENTS, 6), (6,), (6, 5), (5,), (5, 64), (64,),
        (LATENTS, 7), (7,), (7, 1), (1,),
    ]  # fmt: skip
    assert [tuple(w.shape) for w in model.weights] == expected


def test_the_convolutional_autoencoder_has_two_convolutional_networks(digits):
    model = tiny(network="conv", filters=(4, 8), hidden=(6,), posterior="iaf")
    for network in (model.posterior.network, model.likelihood.network):
        filters = [layer.filters for layer in network.layers if hasattr(layer, "filters")]
        assert sorted(filters) in ([4, 8], [1, 4])
    assert model.reconstruct(digits[:2]).shape == (2, *SHAPE)
    with pytest.raises(ValueError, match="network='mlp' does not use it"):
        tiny(filters=(4,))


def test_the_builder_accepts_a_loss_and_label_options():
    loss = tiny(loss="minimax", real_label=0.9, label_noise=0.1).adversarial_loss
    assert type(loss) is Minimax and (loss.real_label, loss.label_noise) == (0.9, 0.1)
    assert type(tiny().adversarial_loss) is NonSaturating
    with pytest.raises(ValueError, match="'wasserstein' has no lower bound"):
        tiny(loss="wasserstein")


# The implicit posterior (section 2.1) -----------------------------------------------------------


def test_the_implicit_posterior_is_a_network_of_image_and_noise(digits):
    model = tiny(hidden=(6,), posterior="implicit", posterior_noise_dim=2)
    one, other = codes(model, tf.constant(digits[:3]))
    assert np.abs(one - other).min() > 0
    # The network is a function of image and noise.
    network, x = model.posterior.network, tf.constant(digits[:3])
    assert network.inputs[1].shape == (None, 2)
    np.testing.assert_array_equal(*(network([x, tf.ones([3, 2])]) for _ in range(2)))
    np.testing.assert_array_equal(model.encode(digits[:3]), model.encode(digits[:3]))


def test_only_implicit_posteriors_accept_noise():
    with pytest.raises(ValueError, match=r"posterior='normal' does not use it.*noise_dim=3\."):
        tiny(posterior="normal", posterior_noise_dim=3)
    with pytest.raises(ValueError, match="exists only as a perceptron"):
        tiny(posterior="implicit", network="conv")


# A label for the decoder (section 4) --------------------------------------------------------------


def supervised():
    model = tiny(hidden=(5,), condition="label", condition_size=4)
    model.compile(keras.optimizers.SGD(1.0))
    return model


def test_the_supervised_decoder_receives_latents_and_one_hot_labels(
    digits, weight_changes, assert_descends
):
    model, x, y = supervised(), tf.constant(digits[:5]), tf.constant([3, 0, 1, 1, 2])
    with tf.GradientTape() as tape:
        z = model.posterior.network(x)
        kernel, bias, last, offset = model.likelihood.network.trainable_variables
        h = tf.nn.relu(tf.matmul(tf.concat([z, np.eye(4, dtype=np.float32)[y]], 1), kernel) + bias)
        logits = tf.reshape(tf.matmul(h, last) + offset, [5, *SHAPE])
        loss = tf.reduce_mean(tf.reduce_sum(tf.nn.softplus(logits) - x * logits, [1, 2, 3]))
    np.testing.assert_allclose(model.decode(z, y), tf.sigmoid(logits), atol=1e-5)
    expected = tape.gradient(loss, model.variables_of("autoencoder"))
    change = weight_changes(
        model, lambda: model._play(model.rounds()[0], x, y, tf.constant([1, 2]))
    )
    assert_descends(change["autoencoder"], expected)


def test_labels_reach_only_the_supervised_decoder(digits, single_turns):
    model, x, seed = supervised(), tf.constant(digits[:5]), tf.constant([1, 2])
    ys = [tf.constant(y) for y in ([0, 1, 2, 3, 0], [3, 2, 1, 0, 3])]
    turns = single_turns(model, x, ys[0])
    for turn, same in zip(turns, (False, True, True), strict=True):
        (one, _), (other, _) = (turn.objective(x, y, seed, True) for y in ys)
        assert all(np.array_equal(one[p], other[p]) for p in one) == same
    np.testing.assert_array_equal(model.encode(digits[:5]), model.encode(digits[:5], ys[0]))


def test_a_supervised_model_generates_each_class_in_the_same_style(digits):
    model = supervised()
    z = model.sample_latents(4, 0, seed=3)
    np.testing.assert_array_equal(z, model.sample_latents(4, 2, seed=3))
    np.testing.assert_allclose(model.sample(4, 2, seed=3), model.decode(z, 2), atol=1e-6)
    assert np.abs(model.decode(z, 2) - model.decode(z, 1)).min(axis=(1, 2, 3)).max() > 0
    with pytest.raises(ValueError, match=r"takes a condition.*Received: y=None"):
        model.sample(4)


def test_the_builder_accepts_a_condition_of_the_decoder():
    assert tiny(condition="attributes", condition_size=6).condition.shape == (None, 6)
    assert tiny(condition="label").num_classes == 10
    with pytest.raises(ValueError, match="`condition_size` must be at least 0"):
        tiny(condition="label", condition_size=-1)
    with pytest.raises(ValueError, match="condition='none' does not use it"):
        tiny(condition_size=4)


@pytest.mark.parametrize("prior", ["mixture", "vamp", "realnvp", "maf"])
def test_a_trainable_prior_is_refused(prior):
    with pytest.raises(ValueError, match=r"an adversarial autoencoder.*Received: an? \w+Prior"):
        tiny(prior=prior)
