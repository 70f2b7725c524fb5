"""The Swapping Autoencoder: partners, losses by hand, and the arrows of the update matrix."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.models import swapping_autoencoder as builder
from zoo.models.swapping_autoencoder import Codes, _in_pairs, partners_of, texture_branch
from zoo.penalties import lazy_rows

SEED = tf.constant([1, 2])
# The name in the package is that of the builder.
MODULE = importlib.import_module("zoo.models.swapping_autoencoder")


def small(image_shape=(8, 8, 1), **options):
    defaults = {
        "filters": (3, 4),
        "structure_channels": 2,
        "texture_dim": 5,
        "blocks": 1,
        "discriminator_filters": (3,),
        "discriminator_hidden": (4,),
        "crops": 2,
        "patch_size": 4,
        "patch_filters": (3,),
        "patch_features": 4,
        "patch_hidden": (5,),
        "r1_interval": 2,
    }
    return builder(image_shape, **(defaults | options))


@pytest.fixture(scope="module")
def model():
    """For tests that do not change it."""
    keras.utils.set_random_seed(0)
    return small()


def turns(model, x, training=True):
    """The losses and terms of both turns, without updates between them."""
    losses, terms = {}, {}
    for turn in model.objective(x, None, SEED, training):
        losses, terms = losses | turn[0], terms | turn[1]
    return losses, terms


def corners(images, count, size, shares, seed):
    """Crops that depend on no seed: the corners of images."""
    every = [images[:, :size, :size], images[:, -size:, -size:], images[:, :size, -size:]]
    every.append(images[:, -size:, :size])
    return tf.stack(every[:count], 1)


@pytest.fixture
def fixed_crops(monkeypatch):
    monkeypatch.setattr(MODULE, "random_crops", corners)


@pytest.fixture
def x(digits):
    return tf.constant(digits[:4])


def softplus(values):
    return np.logaddexp(0, np.asarray(values, float))


@pytest.mark.parametrize("n", [2, 5, 8])
def test_a_partner_of_a_partner_is_the_row_itself(n):
    partners = partners_of(n).numpy()
    np.testing.assert_array_equal(partners[partners], np.arange(n))
    alone = partners == np.arange(n)
    assert alone.sum() == n % 2 and not alone[:-1].any()


def test_the_codes_have_length_one_and_latents_join_them(model, x):
    z = model.encode(x)
    codes = model.codes(z)
    assert codes.structure.shape == (4, 4, 4, 2) and codes.texture.shape == (4, 5)
    assert z.shape[1] == model.latent_dim == 37
    for code in codes:
        np.testing.assert_allclose(np.linalg.norm(code, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.joined(codes), z, atol=1e-6)
    # The generator receives codes of length 1, whatever the latents are.
    scaled = model.joined(Codes(3 * codes.structure, 0.2 * codes.texture))
    np.testing.assert_allclose(model.decode(scaled), model.decode(z), atol=1e-5)
    np.testing.assert_allclose(model.decode(z), model.reconstruct(x), atol=1e-6)


def test_a_swap_has_the_structure_of_one_image_and_the_texture_of_the_other(model, x):
    have = model.swap(x[:2], x[2:])
    codes = model.codes(model.encode(x))
    z = model.joined(Codes(codes.structure[:2], codes.texture[2:]))
    np.testing.assert_allclose(have, model.decode(z), atol=1e-6)
    assert np.abs(have - model.swap(x[2:], x[:2])).max() > 1e-3
    np.testing.assert_allclose(model.swap(x, x), model.reconstruct(x), atol=1e-6)


def test_a_mix_goes_from_the_reconstruction_to_the_swap_on_normalised_textures(model, x):
    images, others = x[:2], x[2:]
    np.testing.assert_allclose(model.mix(images, others, 0.0), model.reconstruct(images), atol=1e-6)
    np.testing.assert_allclose(
        model.mix(images, others, 1.0), model.swap(images, others), atol=1e-6
    )
    codes = model.codes(model.encode(x))
    texture = 0.7 * codes.texture[:2] + 0.3 * codes.texture[2:]
    texture /= np.linalg.norm(texture, axis=-1, keepdims=True)
    z = model.joined(Codes(codes.structure[:2], texture))
    np.testing.assert_allclose(model.mix(images, others, 0.3), model.decode(z), atol=1e-6)


def test_the_numbers_of_images_to_swap_must_be_equal(model, x):
    for call in (lambda: model.swap(x[:1], x), lambda: model.mix(x[:1], x, 0.5)):
        with pytest.raises(ValueError, match="1 structures and 4 textures"):
            call()


@pytest.mark.parametrize("alpha", [np.nan, np.inf, [0.0, 1.0]])
def test_the_share_of_a_mix_is_a_finite_number(model, x, alpha):
    with pytest.raises(ValueError, match=r"`alpha` must be a finite number. Received: "):
        model.mix(x[:2], x[2:], alpha)


def test_the_losses_are_those_of_the_paper(x, fixed_crops):
    weights = {"reconstruction_weight": 3.0, "swap_weight": 0.7, "patch_weight": 0.4}
    model = small(r1=0.0, patch_r1=0.0, **weights)
    losses, terms = turns(model, x)
    reconstruction = model.reconstruct(x).numpy()
    # Row i has its own texture and the structure of its partner.
    hybrid = model.swap(x.numpy()[[1, 0, 3, 2]], x).numpy()

    def judged(images):
        return model.discriminator(images).numpy()[:, 0]

    real, rec, mix = map(judged, (x, reconstruction, hybrid))
    want = softplus(-real) + softplus(rec) / 2 + softplus(mix) / 2
    np.testing.assert_allclose(losses["discriminator"], want, rtol=1e-5)

    def features(images):
        return [model.patch_encoder(crop).numpy() for crop in crops_of(images)]

    def crops_of(images):
        return tf.unstack(corners(tf.constant(images), 2, 4, None, None), axis=1)

    reference = np.mean(features(x), 0)

    def compared(images):
        """Logits `[n, B]`."""
        pairs = [np.concatenate([reference, own], -1) for own in features(images)]
        return np.stack([model.patch_head(pair).numpy()[:, 0] for pair in pairs])

    same, other = compared(x), compared(hybrid)
    want = softplus(-same).mean(0) + softplus(other).mean(0)
    np.testing.assert_allclose(losses["patch_discriminator"], want, rtol=1e-5)
    np.testing.assert_allclose(terms["patch_swap_logit"], other.mean(0), rtol=1e-3, atol=1e-5)

    distance = np.abs(x - reconstruction).mean((1, 2, 3))
    want = 3 * distance + softplus(-rec) / 2 + 0.7 * softplus(-mix)
    want += 0.4 * softplus(-other).mean(0)
    np.testing.assert_allclose(terms["reconstruction"], distance, rtol=1e-5)
    np.testing.assert_allclose(losses["autoencoder"], want, rtol=1e-5)


def slopes(tape, loss, variables):
    """Whether the loss has a gradient with respect to each of the variables."""
    gradients = tape.gradient(loss, variables)
    return [g is not None and np.abs(tf.convert_to_tensor(g)).max() > 0 for g in gradients]


@pytest.fixture
def recorded(x):
    """A model, its losses, and the tape that recorded them, with codes and references."""
    model = small(r1=0.0, patch_r1=0.0, reconstruction_weight=1.0)
    found = {"references": []}
    encode, reference = model._encode, model._reference

    def encoded(images, training):
        structure, texture = encode(images, training)
        found["structures"] = [tf.identity(row) for row in tf.unstack(structure)]
        found["textures"] = [tf.identity(row) for row in tf.unstack(texture)]
        return Codes(tf.stack(found["structures"]), tf.stack(found["textures"]))

    def referenced(*args):
        found["references"].append(reference(*args))
        return found["references"][-1]

    model._encode, model._reference = encoded, referenced
    with tf.GradientTape(persistent=True) as tape:
        losses, _ = turns(model, x)
    return model, losses, tape, found


def test_each_loss_reaches_exactly_the_networks_of_the_update_matrix(recorded):
    model, losses, tape, found = recorded
    networks = ("encoder", "generator", "discriminator", "patch_encoder", "patch_head")
    reached = {
        player: {
            name
            for name in networks
            if any(slopes(tape, loss, getattr(model, name).trainable_variables))
        }
        for player, loss in losses.items()
    }
    assert reached == {
        "discriminator": {"discriminator"},
        "patch_discriminator": {"patch_encoder", "patch_head"},
        "autoencoder": {*networks},
    }
    # The reference is learned by the patch discriminator, and constant for the autoencoder.
    of_patches, of_autoencoder = found["references"]
    assert slopes(tape, losses["patch_discriminator"], [of_patches]) == [True]
    assert slopes(tape, losses["autoencoder"], [of_autoencoder]) == [False]


def test_a_hybrid_has_the_texture_of_its_row_and_the_structure_of_its_partner(x):
    model = small(r1=0.0, patch_r1=0.0)
    names = ("reconstruction_weight", "swap_weight", "patch_weight")
    own, encode = {}, model._encode

    def encoded(images, training):
        own["codes"] = [tf.unstack(code) for code in encode(images, training)]
        return Codes(*map(tf.stack, own["codes"]))

    model._encode = encoded
    for chosen in names:
        for name in names:
            setattr(model, name, float(name == chosen))
        with tf.GradientTape(persistent=True) as tape:
            losses, _ = turns(model, x)
            loss = losses["autoencoder"][0]
        structures, textures = own["codes"]
        # Half of the game of images is on the reconstruction.
        partner = chosen != "reconstruction_weight"
        assert slopes(tape, loss, structures) == [True, partner, False, False]
        assert slopes(tape, loss, textures) == [True, False, False, False]


def test_without_its_weight_the_patch_discriminator_has_no_effect_on_the_autoencoder(x):
    model = small(patch_weight=0.0)
    with tf.GradientTape() as tape:
        losses, _ = turns(model, x)
    patch = [*model.patch_encoder.trainable_variables, *model.patch_head.trainable_variables]
    assert not any(slopes(tape, losses["autoencoder"], patch))


def linear(inputs, seed):
    """A linear network to one output, and its weights."""
    start = keras.initializers.RandomNormal(seed=seed)
    layer = keras.layers.Dense(1, kernel_initializer=start)
    network = keras.Sequential([keras.Input(inputs), keras.layers.Flatten(), layer])
    return network, layer.kernel.numpy()


def test_r1_of_linear_discriminators_is_the_square_of_their_weights(x):
    model = small(r1=3.0, patch_r1=0.8)
    model.discriminator, w = linear((8, 8, 1), 0)
    model.patch_encoder, v = linear((4, 4, 1), 1)
    model.patch_head, a = linear((2,), 2)
    _, terms = turns(model, x)
    np.testing.assert_allclose(terms["penalty"], 3 / 2 * np.square(w).sum(), rtol=1e-4)
    # The slope at a crop is a v: of a reference through each of the n logits, with weight 1 / n.
    want = model.crops * 0.8 / 4 * np.square(v).sum() * np.square(a).sum()
    np.testing.assert_allclose(terms["patch_penalty"], want, rtol=1e-4)


def test_the_shares_of_lazy_r1_are_the_penalty_of_the_batch(digits):
    x = tf.constant(digits[:8])
    full = small(r1_interval=1)
    lazy = small(r1_interval=4)
    lazy.discriminator = full.discriminator
    fake = 1 - tf.concat([x, x], 0)
    found = []
    for step in range(4):
        lazy.step.assign(step)
        _, terms = lazy._discriminator_loss(x, fake, SEED, True)
        assert terms["penalty"].shape == (8,)
        found.append(terms["penalty"].numpy())
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = full.discriminator(x)
    squares = tf.reduce_sum(tape.gradient(logits, x) ** 2, [1, 2, 3])
    expected = full.r1 / 2 * tf.reduce_mean(squares)
    assert np.std(found, 0).min() > 1e-3 * np.mean(found)
    np.testing.assert_allclose(np.mean(found), expected, rtol=1e-4)
    # Evaluations take all rows.
    _, terms = lazy._discriminator_loss(x, fake, SEED, False)
    np.testing.assert_allclose(terms["penalty"], np.full(8, expected), rtol=1e-4)


def test_r1_of_patches_is_at_crops_of_the_images_of_the_step(digits, fixed_crops):
    x = tf.constant(digits[:8])
    model = small(r1_interval=4)

    def by_hand(images):
        crops = corners(images, 2 * model.crops, 4, None, None)
        with tf.GradientTape() as tape:
            tape.watch(crops)
            flat = model.patch_encoder(tf.reshape(crops, [-1, 4, 4, 1]))
            features = tf.reshape(flat, [len(images), 2 * model.crops, -1])
            references, others = tf.split(features, 2, 1)
            reference = tf.repeat(tf.reduce_mean(references, 1, keepdims=True), model.crops, 1)
            pairs = tf.concat([reference, others], -1)
            logits = model.patch_head(tf.reshape(pairs, [-1, pairs.shape[-1]]))
        squares = tf.reduce_sum(tape.gradient(logits, crops) ** 2, [1, 2, 3, 4])
        return model.patch_r1 / 4 * tf.reduce_mean(squares)

    model.step.assign(1)
    rows = lazy_rows(8, model.step, 4).numpy()
    for training, images in ((True, tf.gather(x, rows)), (False, x)):
        _, terms = model._patch_loss(x, 1 - tf.concat([x, x], 0), SEED, training)
        np.testing.assert_allclose(terms["patch_penalty"], np.full(8, by_hand(images)), rtol=1e-4)


@pytest.mark.parametrize(("n", "interval", "count"), [(32, 16, 2), (8, 16, 1), (10, 4, 3)])
def test_lazy_rows_go_through_the_batch(n, interval, count):
    steps = n  # After as many steps each row had equally many turns.
    rows = [lazy_rows(n, tf.constant(step, tf.int64), interval).numpy() for step in range(steps)]
    assert {len(own) for own in rows} == {count}
    np.testing.assert_array_equal(np.bincount(np.concatenate(rows), minlength=n), count)
    np.testing.assert_array_equal(rows[1][0], count % n)


def test_models_without_penalties_report_none(x):
    model = small(r1=0.0, patch_r1=0.0)
    _, terms = turns(model, x)
    assert set(terms) == set(model.terms)
    assert not [name for name in model.terms if "penalty" in name]


def test_odd_batches_are_refused_in_training_and_evaluated(model, digits):
    with pytest.raises(ValueError, match=r"pairs of images.*Received: 3 images"):
        turns(model, tf.constant(digits[:3]))

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1])])
    def pairs(x):
        return _in_pairs(x)

    with pytest.raises(tf.errors.InvalidArgumentError, match="pairs of images"):
        pairs(digits[:3])
    _, terms = turns(model, tf.constant(digits[:3]), training=False)
    hybrid = model.swap(digits[[1, 0, 2]], digits[:3])
    logits = model.discriminator(hybrid)[:, 0]
    np.testing.assert_allclose(terms["swap_logit"], logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_replicas_with_even_parts_are_one(digits, mirrored, fixed_crops):
    results = []
    for strategy in (None, mirrored):
        keras.utils.set_random_seed(0)
        with strategy.scope() if strategy else tf.device("CPU:0"):
            model = small(r1_interval=1)
            model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        data = tf.data.Dataset.from_tensor_slices(digits[:8]).batch(8)
        model.fit(data, verbose=0)
        results.append([np.array(v) for v in model.trainable_variables])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)


def test_the_texture_of_a_shifted_map_is_unchanged():
    branch = texture_branch((19, 19, 3), 4)
    maps = np.zeros([1, 19, 19, 3], np.float32)
    maps[:, 5:9, 5:9] = np.random.default_rng(0).normal(size=[4, 4, 3])
    shifted = np.roll(maps, (4, 4), (1, 2))  # The stride of two convolutions
    np.testing.assert_allclose(branch(shifted), branch(maps), rtol=1e-5, atol=1e-6)
    assert np.abs(branch(np.roll(maps, 1, 1)) - branch(maps)).max() > 1e-4


def test_every_layer_of_the_generator_depends_on_the_texture(model):
    layers = [layer for layer in model.generator.layers if "modulated" in layer.name]
    # A block at the structure's size, one that doubles it, and the last layer.
    assert len(layers) == 5
    assert [layer.demodulate for layer in layers] == [True] * 4 + [False]
    assert [layer.upsample for layer in layers] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_share": (0.5, 0.25)}, "smallest and the largest side"),
        ({"crop_share": (0.0, 0.25)}, "smallest and the largest side"),
        ({"crops": 0}, "crops"),
        ({"r1": -1.0}, "r1"),
        ({"r1_interval": 0}, "r1_interval"),
        ({"patch_weight": -1.0}, "patch_weight"),
        ({"filters": (2, 3, 4, 5, 6)}, "divisible by 16"),
        ({"patch_size": 5, "patch_filters": (2, 3)}, "divisible by 2"),
        ({"loss": "wasserstein", "patch_r1": 0.0}, "no lower bound"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_networks_with_batch_normalization_are_refused():
    model = small()
    network = zoo.networks.mlp_discriminator((8, 8, 1), (3, 3), batch_norm=True)
    arguments = ("encoder", "generator", "patch_encoder", "patch_head")
    with pytest.raises(ValueError, match=r"'mlp_discriminator' must have no batch normalization"):
        zoo.SwappingAutoencoder(
            **{name: getattr(model, name) for name in arguments}, discriminator=network
        )
