"""Augmentations against NumPy and loops, and the images that discriminators take in training."""

import itertools

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import zoo
from zoo import augmentation, draws
from zoo.augmentation import augment, augmented
from zoo.steps import seed_at, turns_of

POLICY = "color,translation,cutout"
SEED = (3, 4)


@pytest.fixture
def drawn(monkeypatch):
    """A function that sets the random numbers `[B, 7]` of all later augmentations."""

    def use(u):
        u = np.asarray(u, np.float32)
        monkeypatch.setattr(draws, "uniform", lambda shape, seed: tf.ensure_shape(u, shape))

    return use


def images(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def numbers(batch, seed=1):
    return np.random.default_rng(seed).random((batch, 7), np.float32)


def colored_by_hand(x, u):
    """The authors' formulas on one image in [-1, 1]."""
    x = 2 * x - 1
    x = x + (u[0] - 0.5)
    of_pixel = x.mean(-1, keepdims=True)
    x = (x - of_pixel) * (2 * u[1]) + of_pixel
    x = (x - x.mean()) * (u[2] + 0.5) + x.mean()
    return (x + 1) / 2


@pytest.mark.parametrize("channels", [1, 3])
def test_colors_are_those_of_the_authors_formulas_on_images_in_minus_1_to_1(drawn, channels):
    x, u = images(5, 4, 6, channels), numbers(5)
    drawn(u)
    have = augment(x, "color", SEED)
    np.testing.assert_allclose(have, [*map(colored_by_hand, x, u)], atol=1e-6)
    assert np.abs(have - x).max() > 0.1


def test_the_saturation_changes_only_images_with_several_channels(drawn):
    u = np.full([1, 7], 0.5)  # No change, except of the saturation, by the factor 1.8
    u[0, 1] = 0.9
    drawn(u)
    grey, x = images(1, 4, 4, 1), images(1, 4, 4, 3)
    np.testing.assert_allclose(augment(grey, "color", SEED), grey, atol=1e-6)
    have = augment(x, "color", SEED).numpy()
    np.testing.assert_allclose(have.mean(-1), x.mean(-1), atol=1e-6)
    np.testing.assert_allclose(np.ptp(have, -1), 1.8 * np.ptp(x, -1), rtol=1e-4)


def translated_by_hand(x, down, right):
    have = np.full_like(x, 0.5)
    height, width, _ = x.shape
    for i, j in itertools.product(range(height), range(width)):
        if 0 <= i + down < height and 0 <= j + right < width:
            have[i + down, j + right] = x[i, j]
    return have


# Heights and widths of a few pixels: an eighth of 11 is rounded up to 1, of 20 up to 3.
@pytest.mark.parametrize(("size", "most"), [((16, 20), (2, 3)), ((11, 3), (1, 0))])
def test_translations_are_those_of_a_loop(drawn, size, most):
    moves = [*itertools.product(*[range(-m, m + 1) for m in most])]
    x, u = images(len(moves), *size, 2), numbers(len(moves))
    for i, move in enumerate(moves):
        u[i, 3:5] = [(p + m + 0.5) / (2 * m + 1) for p, m in zip(move, most, strict=True)]
    drawn(u)
    have = augment(x, "translation", SEED)
    for image, (down, right), moved in zip(x, moves, have, strict=True):
        np.testing.assert_array_equal(moved, translated_by_hand(image, down, right))


def cut_by_hand(x, center):
    have = x.copy()
    height, width, _ = x.shape
    hole = (int(height / 2 + 0.5), int(width / 2 + 0.5))
    for i, j in itertools.product(range(hole[0]), range(hole[1])):
        place = [a + c - h // 2 for a, c, h in zip((i, j), center, hole, strict=True)]
        if 0 <= place[0] < height and 0 <= place[1] < width:
            have[tuple(place)] = 0.5
    return have


# The holes have the sizes 4x3, 3x1 and 1x1.
@pytest.mark.parametrize("size", [(8, 6), (5, 2), (1, 1)])
def test_cutouts_are_those_of_a_loop(drawn, size):
    counts = [n + 1 - int(n / 2 + 0.5) % 2 for n in size]
    centers = [*itertools.product(*map(range, counts))]
    x, u = images(len(centers), *size, 3), numbers(len(centers))
    for i, center in enumerate(centers):
        u[i, 5:7] = [(c + 0.5) / count for c, count in zip(center, counts, strict=True)]
    drawn(u)
    have = augment(x, "cutout", SEED)
    for image, center, cut in zip(x, centers, have, strict=True):
        np.testing.assert_array_equal(cut, cut_by_hand(image, center))
        assert (cut.numpy() != image).any()


def test_changes_are_applied_in_the_order_of_the_policy(drawn):
    x, u = images(1, 8, 8, 1), numbers(1)
    u[0, 0], u[0, 3] = 0.9, 0.1  # Brighter, and moved
    drawn(u)
    first, second = (augment(x, policy, SEED) for policy in ("color,cutout", "cutout,color"))
    hole = cut_by_hand(x[0], np.floor(u[0, 5:] * 9).astype(int)) == 0.5
    np.testing.assert_array_equal(first[0][hole], 0.5)
    assert (second[0][hole].numpy() != 0.5).all()


# With 20 000 images. The numbers that an image draws for its changes are independent.
def test_draws_are_uniform_and_independent():
    n = 20_000
    flat = tf.constant(np.tile(np.array([[0.3, 0.7]], np.float32)[:, :, None], (n, 1, 1, 1)))
    low, high = augment(flat, "color", SEED).numpy()[:, 0, :, 0].T
    brightness, contrast = (low + high - 1) / 2, (high - low) / 0.4
    row, column = np.meshgrid(*[np.arange(16.0)] * 2, indexing="ij")
    places = np.tile(np.stack([row, column], -1).astype(np.float32), (n, 1, 1, 1))
    moved = augment(places, "translation", SEED).numpy()[:, 8, 8]
    down, right = 8 - moved.T
    holes = augment(np.zeros([n, 4, 4, 1], np.float32), "cutout", SEED).numpy() > 0
    top, left = (np.where(h.sum(1) == 2, h.argmax(1), np.where(h[:, 0], -1, 3))
                 for h in (holes.any((2, 3)), holes.any((1, 3))))  # fmt: skip
    for values, low, high in ((brightness, -0.25, 0.25), (contrast, 0.5, 1.5)):
        uniform = scipy.stats.uniform(low, high - low)
        assert scipy.stats.kstest(values, uniform.cdf).pvalue > 1e-3
    for values, first, last in ((down, -2, 2), (right, -2, 2), (top, -1, 3), (left, -1, 3)):
        seen, counts = np.unique(values, return_counts=True)
        np.testing.assert_array_equal(seen, range(first, last + 1))
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    every = [brightness, contrast, down, right, top, left]
    correlations = np.corrcoef(every) - np.eye(6)
    assert np.abs(correlations).max() < 0.03


@pytest.mark.parametrize("compiled", [False, True], ids=["", "XLA"])
def test_equal_seeds_give_equal_images(compiled):
    make = tf.function(lambda seed: augment(images(4, 8, 8, 3), POLICY, seed), jit_compile=compiled)
    first = make(tf.constant(SEED)).numpy()
    np.testing.assert_array_equal(first, make(tf.constant(SEED)))
    other = make(tf.constant((3, 5))).numpy()
    assert (np.abs(first - other).max((1, 2, 3)) > 0.05).all()


def test_xla_computes_the_same_images_and_gradients(drawn):
    x, u = images(6, 9, 8, 3), numbers(6)
    drawn(u)

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            have = augment(x, POLICY, SEED)
            loss = tf.reduce_sum(have**3)
        return have, tape.gradient(loss, x)

    plain = slope(tf.constant(x))
    compiled = tf.function(slope, jit_compile=True)(tf.constant(x))
    for have, want in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(have, want, atol=1e-5)
        assert np.abs(want).max() > 0.1


def test_gradients_are_finite_differences():
    x, direction, weights = (images(3, 8, 8, 2) for _ in range(3))
    direction, weights = np.sin(9 * direction), np.cos(7 * weights)

    def total(x):
        return tf.reduce_sum(weights * augment(x, POLICY, SEED))

    with tf.GradientTape() as tape:
        value = tf.constant(x)
        tape.watch(value)
        loss = total(value)
    slope = np.sum(tape.gradient(loss, value) * direction)
    # The augmentation is linear up to a constant, so that large steps have no error.
    difference = (total(x + direction) - total(x - direction)) / 2
    assert slope == pytest.approx(float(difference), rel=1e-3)
    assert abs(slope) > 0.1


def test_no_policy_and_evaluation_leave_images_unchanged():
    x = tf.constant(images(2, 4, 4, 1))
    np.testing.assert_array_equal(augment(x, "", SEED), x)
    assert augmented(x, "", SEED, True) is x
    assert augmented(x, POLICY, SEED, False) is x
    np.testing.assert_array_equal(augmented(x, POLICY, SEED, True), augment(x, POLICY, SEED))


@pytest.mark.parametrize("policy", ["colour", "color,color", "color, cutout", "color,", 3, None])
def test_unknown_policies_are_refused(policy):
    with pytest.raises(ValueError, match=r"'color', 'translation', 'cutout'.*Received: "):
        augment(images(1, 4, 4, 1), policy, SEED)
    with pytest.raises(ValueError, match=r"`augment` must be names"):
        zoo.models.gan((8, 8, 1), augment=policy)


# Models ---------------------------------------------------------------------------------------

SHAPE = (8, 8, 1)
SMALL = {"latent_dim": 3, "discriminator_hidden": (4,)}
AUTOENCODER = SMALL | {"hidden": (4,), "batch_norm": False, "r1": 1.0}
MODELS = {
    "gan": SMALL | {"generator_hidden": (4,), "gradient_penalty": 1.0, "instance_noise": 0.1},
    "cgan": SMALL | {"generator_hidden": (4,)},
    "bi_gan": {"latent_dim": 3, "hidden": (4,)},
    "vaegan": AUTOENCODER,
    "alpha_gan": AUTOENCODER | {"code_discriminator_hidden": (4,)},
    "dcvae": SMALL | {"hidden": (4,), "queue_size": 8, "discriminator_steps": 1},
}
MARK = 0.123


def built(name, policy):
    keras.utils.set_random_seed(0)
    return zoo.models.BUILDERS[name](SHAPE, **MODELS[name], augment=policy)


def inputs_of_the_discriminator(name, policy, training, monkeypatch):
    """The images in all calls of a discriminator of images, in all rounds with adversarial losses."""
    model, seen = built(name, policy), []
    network = model.trunk if name == "dcvae" else model.discriminator
    call = network.call

    def record(inputs, *args, **kwargs):
        first = inputs[0] if isinstance(inputs, list | tuple) else inputs
        seen.append(first.numpy())
        return call(inputs, *args, **kwargs)

    monkeypatch.setattr(network, "call", record)
    y = tf.constant([0, 1, 2, 3, 4, 5]) if name == "cgan" else None
    x = tf.constant(images(6, *SHAPE))
    for round in model.rounds()[:2]:
        for _ in turns_of(round.objective(x, y, tf.constant(SEED), training)):
            pass
    return seen


@pytest.mark.parametrize("name", MODELS)
def test_a_discriminator_takes_only_augmented_images_in_training(name, monkeypatch):
    monkeypatch.setattr(
        augmentation, "augment", lambda x, policy, seed: MARK + 0 * tf.cast(x, tf.float32)
    )
    seen = inputs_of_the_discriminator(name, POLICY, True, monkeypatch)
    assert seen
    for inputs in seen:
        np.testing.assert_allclose(inputs, MARK, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("policy", "training"), [("", True), (POLICY, False)], ids=["no policy", "evaluation"]
)
def test_without_a_policy_and_in_evaluation_nothing_is_augmented(
    name, policy, training, monkeypatch
):
    monkeypatch.setattr(augmentation, "augment", None)
    assert inputs_of_the_discriminator(name, policy, training, monkeypatch)


@pytest.mark.parametrize("name", MODELS)
def test_real_and_generated_images_have_their_own_changes_or_those_of_their_triple(
    name, monkeypatch
):
    seeds = []
    monkeypatch.setattr(
        augmentation, "augment", lambda x, policy, seed: seeds.append(tuple(seed.numpy())) or x
    )
    seen = inputs_of_the_discriminator(name, POLICY, True, monkeypatch)
    repeated = {
        "gan": 1,  # The points of the penalty have the changes of the real images.
        "vaegan": 3,  # The reconstruction, the sample, and the real images of the penalty.
    }
    assert len(seeds) - len({*seeds}) == repeated.get(name, 0)
    assert len(seeds) >= len(seen)


def test_the_same_change_of_an_image_and_of_an_equal_reconstruction_leaves_no_distortion():
    model = built("vaegan", POLICY)
    x = tf.constant(images(4, *SHAPE))
    features, _ = model._discriminate(x, tf.concat([x, x], 0), None, tf.constant(SEED), True)
    target, feature, _ = features
    np.testing.assert_array_equal(target, feature)
    plain, _ = model._discriminate(x, tf.concat([x, x], 0), None, tf.constant(SEED), False)
    assert np.abs(target - plain[0]).max() > 1e-3


def test_the_generators_gradient_is_a_finite_difference():
    model = zoo.GAN(
        zoo.networks.mlp_decoder(2, (4, 4, 3), 1, (), output="sigmoid"),
        zoo.networks.mlp_discriminator((4, 4, 3), ()),
        zoo.StandardNormal(2),
        zoo.adversarial.Wasserstein(),
        augment=POLICY,
    )
    kernel, bias = model.variables_of("generator")
    x = tf.zeros([5, 4, 4, 3])

    def loss():
        losses, _ = model.generator_objective(x, None, tf.constant(SEED), True)
        return tf.reduce_sum(losses["generator"])

    with tf.GradientTape() as tape:
        value = loss()
    slopes = tape.gradient(value, [kernel.value, bias.value])
    for variable, slope in zip((kernel, bias), slopes, strict=True):
        start, direction = variable.numpy(), np.sign(slope) + 0.5
        ends = []
        for step in (0.02, -0.02):
            variable.assign(start + step * direction)
            ends.append(float(loss()))
        variable.assign(start)
        expected = (ends[0] - ends[1]) / 0.04
        assert np.sum(slope * direction) == pytest.approx(expected, rel=0.01)
        assert expected > 0.1


def test_a_penalty_is_on_the_slope_of_the_discriminator_of_augmented_images(drawn):
    # A linear discriminator of images whose contrast is halved has half of the slope, and the
    # mean of the kernel is unchanged.
    model = zoo.GAN(
        zoo.networks.mlp_decoder(2, (4, 4, 1), 1, (), output="sigmoid"),
        zoo.networks.mlp_discriminator((4, 4, 1), ()),
        zoo.StandardNormal(2),
        penalty=zoo.penalties.R1(2.0),
        augment="color",
    )
    u = np.full([3, 7], 0.5)
    u[:, 2] = 0.0
    drawn(u)
    _, terms = model.discriminator_objective(images(3, 4, 4, 1), None, tf.constant(SEED), True)
    kernel = 2 * model.discriminator.get_weights()[0][:, 0]
    slope = kernel.mean() + 0.5 * (kernel - kernel.mean())
    np.testing.assert_allclose(terms["penalty"], np.full(3, np.sum(slope**2)), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_augmented_models_train_with_xla(name, digits):
    model = built(name, POLICY)
    model.compile("adam", jit_compile=True)
    y = np.arange(12) % 10 if name == "cgan" else None
    before = [w.numpy() for w in model.trainable_weights]
    model.fit(digits[:12], y, batch_size=6, verbose=0)
    changed = [(w.numpy() != b).any() for w, b in zip(model.trainable_weights, before, strict=True)]
    assert np.mean(changed) > 0.5


def test_replicas_draw_different_changes(mirrored):
    with mirrored.scope():
        model = built("gan", POLICY)

    def change():
        return augmented(tf.fill([1, *SHAPE], 0.2), model.augment, seed_at(model, 5), True)

    first, second = mirrored.experimental_local_results(mirrored.run(change))
    assert np.abs(first.numpy() - second.numpy()).max() > 0.01


def test_a_saved_model_keeps_its_policy(tmp_path):
    model = built("gan", "translation,cutout")
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").augment == "translation,cutout"
