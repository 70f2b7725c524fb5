"""The label-informed adversarial autoencoder: labels select a component of the prior."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import zoo
from zoo.models.label_informed_aae import LabelInformedAAE, label_informed_aae

SHAPE = (8, 8, 1)
PRIORS = {"petals": zoo.NormalPetals, "swiss_roll": zoo.SwissRoll}


def small(prior="petals", **arguments):
    return label_informed_aae(
        SHAPE, hidden=(5,), prior=prior, discriminator_hidden=(6,), **arguments
    )


# The prior's components ---------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 3, 9])
def test_the_petal_of_a_label_is_the_normal_at_its_angle(k):
    z = zoo.NormalPetals().component(np.full(4000, k)).sample(seed=[1, k]).numpy()
    angle = 2 * math.pi * k / 10
    along = z @ [math.cos(angle), math.sin(angle)]
    across = z @ [-math.sin(angle), math.cos(angle)]
    assert stats.kstest(along, stats.norm(1.4, 0.5).cdf).pvalue > 1e-3
    assert stats.kstest(across, stats.norm(0, 0.1).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(along, across)[0, 1]) < 0.06


def test_the_density_of_the_prior_is_the_mean_of_the_petal_densities():
    prior, z = zoo.NormalPetals(4), np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    each = [prior.component(np.full(7, k)).log_prob(z) for k in range(4)]
    whole = prior().log_prob(z)
    np.testing.assert_allclose(np.mean(np.exp(each), 0), np.exp(whole), rtol=1e-4)
    np.testing.assert_allclose(prior.component(np.full(7, -1)).log_prob(z), whole, rtol=1e-5)


@pytest.mark.parametrize("k", [0, 4, 9])
def test_draws_of_a_label_cover_its_segment_of_the_roll_evenly(k):
    prior = zoo.SwissRoll(turns=2.0, radius=3.0, noise=0.0)
    z = prior.component(np.full(3000, k)).sample(seed=[2, k]).numpy()
    share = (np.hypot(*z.T) / 3) ** 2
    assert stats.kstest(share, stats.uniform(k / 10, 0.1).cdf).pvalue > 1e-3
    angle = 4 * np.pi * np.sqrt(share)  # The angle grows with the radius.
    np.testing.assert_allclose(np.cos(np.arctan2(*z.T[::-1]) - angle), 1, atol=1e-4)


def test_the_roll_and_its_segments_have_the_same_noise():
    z = zoo.SwissRoll(radius=1e-6, noise=0.3).component(np.full(4000, 7)).sample(seed=[1, 2])
    for values in z.numpy().T:
        assert stats.kstest(values, stats.norm(0, 0.3).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", PRIORS)
def test_each_row_has_its_label_and_unlabelled_rows_have_any_component(name):
    prior = PRIORS[name](components=5)
    y = np.repeat([2, -1], 3000)
    z = tf.function(lambda: prior.component(tf.constant(y)).sample(seed=[1, 2]), jit_compile=True)()
    sector = np.arctan2(*z.numpy().T[::-1]) % (2 * np.pi)
    if name == "swiss_roll":
        sector = np.hypot(*z.numpy().T) ** 2
        part = np.clip((sector / 9 * 5).astype(int), 0, 4)
        close = part[:3000] == 2
    else:
        part = np.round(sector / (2 * np.pi / 5)).astype(int) % 5
        close = part[:3000] == 2
    assert close.mean() > 0.9
    counts = np.bincount(part[3000:], minlength=5)
    assert np.abs(counts / 3000 - 0.2).max() < 0.05
    with pytest.raises(ValueError, match=r"labels from 0 to 4.*Received: a label of 5"):
        prior.component([1, 5])


@pytest.mark.parametrize("name", PRIORS)
def test_walks_lie_on_the_axes_of_the_components(name):
    prior = PRIORS[name](components=4)
    walks = prior.walks(6).numpy()
    assert walks.shape == (4, 6, 2)
    if name == "petals":
        for k, walk in enumerate(walks):
            ray = [math.cos(k * math.pi / 2), math.sin(k * math.pi / 2)]
            np.testing.assert_allclose(walk @ ray, 1.4 + 0.5 * np.linspace(-2, 2, 6), atol=1e-5)
            np.testing.assert_allclose(walk @ [-ray[1], ray[0]], 0, atol=1e-5)
    else:
        radii = np.hypot(*walks.reshape(-1, 2).T)
        np.testing.assert_allclose((radii / 3) ** 2, np.linspace(0, 1, 24), atol=1e-5)


# Training ---------------------------------------------------------------------------------------


def loss_by_hand(model, x, y, phase, seed):
    """The loss of a phase by matrix products; the label is one of eleven."""
    code = model.posterior.network(x)
    if phase == "autoencoder":
        logits = model.likelihood.network(code)
        losses = tf.nn.softplus(logits) - x * logits
        return tf.reduce_mean(tf.reduce_sum(losses, [1, 2, 3]))
    hidden, bias, last, offset = model.discriminator.trainable_variables

    def logits_of(z):
        label = np.eye(11, dtype=np.float32)[np.where(y < 0, 10, y)]
        h = tf.nn.relu(tf.matmul(tf.concat([z, label], 1), hidden) + bias)
        return tf.matmul(h, last) + offset

    fake = logits_of(code)
    if phase == "encoder":
        return tf.reduce_mean(tf.math.log1p(tf.exp(-fake)))
    draws = model.prior.component(y).sample(seed=tfp.random.split_seed(seed, 4)[1])
    real = logits_of(draws)
    return tf.reduce_mean(tf.math.log1p(tf.exp(-real)) + tf.math.log1p(tf.exp(fake)))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("phase", ["autoencoder", "discriminator", "encoder"])
def test_each_phase_descends_the_loss_of_its_player(
    prior, phase, digits, weight_changes, assert_descends, single_turns
):
    model, x, seed = small(prior), tf.constant(digits[:6]), tf.constant([1, 2])
    model.compile(keras.optimizers.SGD(1.0))
    y = np.array([3, -1, 0, 9, 3, -1], np.int32)
    variables = model.variables_of(phase)
    with tf.GradientTape() as tape:
        value = loss_by_hand(model, x, y, phase, seed)
    expected = tape.gradient(value, variables)
    turns = single_turns(model, x, tf.constant(y))
    turn = turns[["autoencoder", "discriminator", "encoder"].index(phase)]
    change = weight_changes(model, lambda: model._play(turn, x, tf.constant(y), seed))
    assert_descends(change[phase], expected)


def test_labels_change_the_logits_but_not_codes_or_images(digits):
    model, x = small(), tf.constant(digits[:4])
    z = model.encode(digits[:4])
    logits = [model.latent_logits(z, tf.fill([4], k)).numpy() for k in (0, 1, -1)]
    assert len(np.unique(np.round(logits, 6), axis=0)) == 3
    np.testing.assert_array_equal(logits[2], model.latent_logits(z))
    np.testing.assert_array_equal(z, model.encode(digits[:4], [1, 2, 3, 4]))
    np.testing.assert_array_equal(model.decode(z), model.decode(z, 5))
    losses = [
        model.reconstruction_objective(x, tf.constant(y), tf.constant([1, 2]), True)[0]
        for y in ([0, 1, 2, 3], [-1, 5, 5, 5])
    ]
    np.testing.assert_array_equal(*(loss["autoencoder"] for loss in losses))


def identity(prior):
    """An encoder that returns the image, of two values; a discriminator with logits 0."""
    encoder = keras.Sequential([keras.Input((1, 2, 1)), keras.layers.Flatten()])
    model = label_informed_aae((1, 2, 1), hidden=(4,), prior=prior, discriminator_hidden=(40,))
    model = LabelInformedAAE(
        zoo.Conditional(encoder, zoo.Deterministic()),
        model.likelihood,
        model.prior,
        model.discriminator,
    )
    last = model.discriminator.trainable_variables[-2]
    last.assign(tf.zeros_like(last))
    return model, last


@pytest.mark.parametrize("prior", PRIORS)
def test_only_codes_from_the_components_of_their_labels_are_a_fixed_point(prior):
    model, last = identity(prior)
    y = tf.constant(np.arange(40_000) % 11 - 1, tf.int32)
    for shuffled in (False, True):
        labels = tf.roll(y, 3, 0) if shuffled else y
        x = tf.reshape(model.prior.component(labels).sample(seed=[5, 6]), [-1, 1, 2, 1])
        with tf.GradientTape() as tape:
            losses, _ = next(model.regularization_objective(x, y, tf.constant([1, 2]), True))
            loss = tf.reduce_mean(losses["discriminator"])
        assert float(loss) == pytest.approx(2 * math.log(2), abs=1e-5)
        slope = np.abs(tape.gradient(loss, last)).max()
        # All codes together are distributed like the prior in both cases.
        assert slope > 0.02 if shuffled else slope < 0.005


def test_samples_are_draws_of_the_component_of_their_label(digits):
    model = small()
    z = model.sample_latents(500, 2, seed=1).numpy()
    along = z @ [math.cos(0.4 * math.pi), math.sin(0.4 * math.pi)]
    assert stats.kstest(along, stats.norm(1.4, 0.5).cdf).pvalue > 1e-3
    np.testing.assert_allclose(
        model.sample(3, [0, 5, -1], seed=1),
        model.decode(model.prior.component([0, 5, -1]).sample(seed=zoo.model.as_seed(1))),
        atol=1e-6,
    )
    whole = model.sample_latents(500, seed=1).numpy()
    assert np.ptp(np.arctan2(*whole.T)) > 5


def test_labels_without_a_component_are_refused(digits):
    model = small(prior_components=4)
    model.compile("sgd")
    for method in (model.fit, model.evaluate):
        with pytest.raises(
            ValueError, match=r"from 0 to 3; a negative number .*Received: labels from 0 to 5"
        ):
            method(digits[:8], np.arange(8) % 6, verbose=0)
    with pytest.raises(ValueError, match=r"at most 4 classes\. Received: 'digits' with 10"):
        model.adapt(zoo.datasets.load("digits"))


def test_parts_without_labels_are_refused():
    model = small()
    encoder, decoder = model.posterior, model.likelihood
    with pytest.raises(ValueError, match="Received: a StandardNormal"):
        LabelInformedAAE(encoder, decoder, zoo.StandardNormal(2), model.discriminator)
    for prior in ("normal", "mixture"):
        with pytest.raises(ValueError, match=r"needs components: NormalPetals or SwissRoll"):
            small(prior)
    with pytest.raises(ValueError, match=r"takes \[z, y\]\. Received: a network with 1 input"):
        LabelInformedAAE(encoder, decoder, model.prior, zoo.networks.mlp(2, 1, (3,)))
    discriminator = zoo.networks.conditioned(
        lambda shape: zoo.networks.mlp(*shape, 1, (3,)),
        (2,),
        zoo.networks.condition("label", 4, SHAPE),
    )
    with pytest.raises(ValueError, match=r"of 4 components.*takes 5 labels.*that takes 4\."):
        LabelInformedAAE(encoder, decoder, zoo.NormalPetals(components=4), discriminator)


def test_the_builder_has_the_options_of_the_aae():
    model = small(posterior="normal", loss="least_squares", likelihood="unit_normal")
    assert isinstance(model.posterior.family, zoo.DiagonalNormal)
    assert isinstance(model.likelihood.family, zoo.UnitNormal)
    assert isinstance(model.adversarial_loss, zoo.adversarial.LeastSquares)
    default = label_informed_aae(SHAPE)
    assert isinstance(default.posterior.family, zoo.Deterministic)
    assert default.posterior.network.layers[1].units == 1000 and default.num_classes == 10
    with pytest.raises(TypeError, match="has no option 'condition'"):
        small(condition="label")


@pytest.mark.slow
def test_training_matches_each_class_to_its_petal():
    data = zoo.datasets.load("digits")
    model = label_informed_aae((8, 8, 1), hidden=(64,), discriminator_hidden=(64,))
    model.compile(
        {
            "autoencoder": keras.optimizers.Adam(1e-4),
            "discriminator": keras.optimizers.Adam(1e-3, beta_1=0.5),
            "encoder": keras.optimizers.Adam(1e-3, beta_1=0.5),
        },
        jit_compile=True,
        steps_per_execution=50,
    )
    batches = data.batches("train", 100, shuffle=True, repeat=True)
    model.fit(batches, steps_per_epoch=600, verbose=0)
    x, y = data.arrays("test")
    z = np.asarray(model.encode(x))
    petals = np.round(np.arctan2(*z.T[::-1]) / (2 * np.pi / 10)).astype(int) % 10
    assert np.mean(petals == y) > 0.35  # By chance: 0.1.
