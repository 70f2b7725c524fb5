"""MoFA: its loss, the encoder as the only player, and the abilities."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import zoo
from zoo.morphable import CODE_SIZE
from zoo.rendering import camera, light
from zoo.rendering.head import morphable_head, render

SIZE = 32
MESH = {"latitudes": 12, "longitudes": 16}
SEED = tf.constant([1, 2])


def small(**options):
    defaults = {"hidden": (8,), "filters": (4, 8), **MESH}
    return zoo.models.face_autoencoder((SIZE, SIZE, 3), **(defaults | options))


@pytest.fixture(scope="module")
def codes():
    return np.random.default_rng(2).normal(size=[4, CODE_SIZE]).astype(np.float32) * 0.7


@pytest.fixture(scope="module")
def x(codes):
    """Heads on a smooth background."""
    place = np.linspace(0.2, 0.8, SIZE, dtype=np.float32)
    field = np.stack([*np.meshgrid(place, place), np.full([SIZE] * 2, 0.4, np.float32)], -1)
    head = zoo.morphable.MorphableHead(SIZE, **MESH)
    return head.render(codes, np.tile(field, [len(codes), 1, 1, 1])).numpy()


class Fixed(keras.layers.Layer):
    """Returns the same codes for every batch."""

    def __init__(self, codes):
        super().__init__()
        self.codes = codes

    def call(self, x):
        return tf.constant(self.codes)


def at_codes(codes, **options):
    """A model whose encoder returns `codes`."""
    model = small(**options)
    inputs = keras.Input((SIZE, SIZE, 3))
    model.encoder = keras.Model(inputs, Fixed(codes)(inputs))
    return model


def test_the_loss_is_the_papers(x, codes):
    model = at_codes(0.9 * codes, landmark_weight=0.03, rate_weight=0.2, least_cosine=0.25)
    landmarks = np.random.default_rng(0).uniform(0, SIZE, [4, 8, 2])
    losses, terms = model.objective(x, {"landmarks": landmarks}, SEED, training=False)
    parts = {k: v.numpy().astype(float) for k, v in model.parts(0.9 * codes).items()}
    head = morphable_head(**MESH)
    # Vertices, normals and colours by the functions in NumPy.
    points = zoo.rendering.head.vertices(head, parts["identity"], parts["expression"])
    points = camera.posed(points, camera.rotation(*parts["angles"].T), parts["translation"])
    normals = zoo.rendering.raster.vertex_normals(points, head.triangles, head.incident)
    colours = zoo.rendering.head.albedo(head, parts["albedo"])
    colours = colours * light.irradiance(normals, parts["light"])
    screen, _ = camera.project(points, SIZE)
    towards = [0, 0, camera.DISTANCE] - points
    visible = (normals * towards).sum(-1) > 0.25 * np.linalg.norm(towards, axis=-1)
    photometric = []
    for image, u, colour, seen in zip(x, screen, colours, visible, strict=True):
        grid = (np.arange(SIZE), np.arange(SIZE))
        place = np.clip(u[:, ::-1], 0, SIZE - 1)
        values = scipy.interpolate.interpn(grid, image.astype(float), place)
        photometric.append(np.linalg.norm(values - colour, axis=-1)[seen].mean())
    np.testing.assert_allclose(terms["photometric"], photometric, rtol=1e-3)
    np.testing.assert_allclose(terms["visible"], visible.mean(1), atol=2e-2)
    rate = -scipy.stats.norm.logpdf(0.9 * codes).sum(-1)
    np.testing.assert_allclose(terms["rate"], rate, rtol=1e-5)
    offsets = np.linalg.norm(screen[:, head.landmarks] - landmarks, axis=-1)
    np.testing.assert_allclose(terms["landmark_error"], offsets.mean(-1), rtol=1e-4)
    loss = np.array(photometric) + 0.2 * rate + 0.03 * (offsets**2).mean(-1)
    np.testing.assert_allclose(losses["encoder"], loss, rtol=1e-4)


@pytest.mark.slow  # Renders large images.
def test_the_error_of_the_true_code_is_that_of_the_grid_of_pixels(codes):
    head = morphable_head()
    blocks = [v.numpy() for v in zoo.morphable.MorphableHead(48).parts(codes).values()]
    errors = []
    for size in (48, 96, 192):
        images = render(head, *blocks, np.full([len(codes), size, size, 3], 0.5)).images
        model = zoo.models.face_autoencoder(
            (size, size, 3), hidden=(), filters=(2,), landmark_weight=0.0, least_cosine=0.0
        )
        surface = model.head.surface(model.parts(codes))
        images = images.astype(np.float32)
        errors.append(float(tf.reduce_mean(model._terms(images, codes, surface)["photometric"])))
    assert errors[0] > 1.2 * errors[1] > 1.2**2 * errors[2]


def test_vertices_that_face_away_have_no_gradient(x, codes):
    model = small()
    surface = model.head.surface(model.parts(codes))
    watched = [surface.columns, surface.rows, surface.colours]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        here = surface._replace(columns=watched[0], rows=watched[1], colours=watched[2])
        loss = model._terms(x, codes, here)["photometric"]
    away = surface.cosines.numpy() <= model.least_cosine
    for gradient in tape.gradient(loss, watched):
        gradient = gradient.numpy().reshape(len(away), -1, len(codes))
        assert not (np.abs(gradient).sum(1) * away).any()
        assert (np.abs(gradient).sum(1) * ~away).any()


def test_the_encoder_is_the_only_player_and_starts_near_the_mean_head(x):
    model = small()
    assert list(model.players()) == ["encoder"]
    assert {id(v) for v in model.trainable_variables} == {
        id(v) for v in model.encoder.trainable_variables
    }
    assert np.abs(model.encode(x)).max() < 0.1


def test_without_landmarks_images_are_enough(x):
    model = small(landmark_weight=0.0)
    model.compile(keras.optimizers.Adam(1e-3))
    history = model.fit(x, verbose=0).history
    assert {*history} == {"loss", "photometric", "rate", "visible"}
    model = small()
    model.compile("adam")
    with pytest.raises(ValueError, match="landmarks"):
        model.fit(x, verbose=0)


def test_training_lowers_the_loss(x, codes):
    model = small(rate_weight=0.0)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    surface = model.head.surface(model.parts(codes))
    y = model.head.landmarks(surface).numpy()
    history = model.fit(x, y, epochs=30, batch_size=4, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["photometric"][-1] < 0.7 * history["photometric"][0]


def test_turned_and_relit_heads_are_rendered_with_the_other_coefficients(x, codes):
    model = at_codes(codes)
    own = {k: v.numpy() for k, v in model.parts(codes).items()}
    turned = model.turn(x, [0.4, -0.2], tf.constant([0.0, 0.1]))
    relit = model.relight(x, [0.5, -0.5], [0.2, 0.0], strength=0.6, ambient=0.2)
    for v, (yaw, pitch) in enumerate([(0.4, 0.0), (-0.2, 0.1)]):
        angles = np.stack([np.full(4, yaw), np.full(4, pitch), own["angles"][:, 2]], -1)
        expected = model.decode(model.head.code(**own | {"angles": angles}))
        np.testing.assert_allclose(turned[:, v], expected, atol=1e-5)
    for v, (azimuth, elevation) in enumerate([(0.5, 0.2), (-0.5, 0.0)]):
        towards = light.direction(np.full(4, azimuth), np.full(4, elevation))
        gamma = light.distant(towards, np.full(4, 0.6), np.full(4, 0.2))
        gamma = np.repeat(gamma[..., None], 3, -1)
        expected = model.decode(model.head.code(**own | {"light": gamma}))
        np.testing.assert_allclose(relit[:, v], expected, atol=1e-4)
    with pytest.raises(
        ValueError, match="`yaw` and `pitch` must be vectors of finite numbers of one length"
    ):
        model.turn(x, [0.1], [0.0, 0.0])
    with pytest.raises(ValueError, match="`azimuth` and `elevation` must be vectors"):
        model.relight(x, 0.1, 0.2)


def test_an_overlay_changes_only_the_pixels_of_the_head(x, codes):
    model = at_codes(codes)
    overlay, masks = model.overlay(x).numpy(), model.head.masks(codes).numpy()
    np.testing.assert_array_equal(overlay[~masks], x[~masks])
    np.testing.assert_allclose(overlay[masks], x[masks], atol=1e-5)


def test_refined_codes_have_a_lower_energy(x, codes):
    model = at_codes(0.8 * codes, rate_weight=1e-3)
    start = model.encode(x)
    refined = model.refine(x, 40)
    before, after = model.energy(x, start), model.energy(x, refined)
    assert (after.numpy() < 0.9 * before.numpy()).all()
    np.testing.assert_array_equal(model.refine(x, 0), start)
    with pytest.raises(ValueError, match="`steps`"):
        model.refine(x, -1)


@pytest.mark.slow  # Optimises codes.
def test_without_landmarks_and_prior_the_mesh_shrinks(x, codes):
    """The known collapse: the error falls below that of the true codes, at a wrong place."""
    weights = {"landmark_weight": 0.0, "rate_weight": 0.0, "least_cosine": 0.0}
    model = at_codes(np.zeros_like(codes), **weights)
    found = model.refine(x, 600)
    truth = model.head.surface(model.parts(codes))
    other = model.head.surface(model.parts(found))
    error = tf.sqrt((truth.columns - other.columns) ** 2 + (truth.rows - other.rows) ** 2)
    lower = model.energy(x, found) < model.energy(x, tf.constant(codes))
    assert tf.reduce_any(lower)
    assert tf.reduce_mean(tf.boolean_mask(error, lower, axis=1)) > 1.0


def test_no_heads_are_turned_to_no_angles(x):
    model = small()
    assert model.turn(x, [], []).shape == (4, 0, SIZE, SIZE, 3)
    assert model.turn(x[:0], [0.1], [0.0]).shape == (0, 1, SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="NaN or infinity"):
        model.turn(x, [np.nan], [0.0])
    with pytest.raises(ValueError, match="`strength`"):
        model.relight(x, [0.0], [0.0], strength=-1.0)


@pytest.mark.parametrize("shape", [(2, 1), (2, 10), (CODE_SIZE,)])
def test_codes_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"latents of shape \[B, 47\]"):
        small().decode(np.zeros(shape, np.float32))


def test_codes_that_are_nan_stop_training_with_the_usual_error(x):
    model = small(landmark_weight=0.0)
    model.encoder.layers[-1].bias.assign(np.full(CODE_SIZE, np.nan))
    model.compile("adam", jit_compile=False)
    with pytest.raises(zoo.NonFiniteError):
        model.fit(x, verbose=0)


def test_latents_by_optimisation_are_refused(x):
    with pytest.raises(ValueError, match="whose renderings have none; call `model"):
        zoo.inference.fit_latents(small(), x)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (lambda: zoo.RealNVPPrior(CODE_SIZE), "must be fixed"),
        (lambda: zoo.UniformOnSphere(CODE_SIZE), "needs a density"),
    ],
)
def test_the_prior_must_be_fixed_and_have_a_density(prior, message):
    model = small()
    with pytest.raises(ValueError, match=message):
        zoo.FaceAutoencoder(model.encoder, model.head, prior())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"least_cosine": 1.0}, "`least_cosine` must be in"),
        ({"least_cosine": -0.1}, "`least_cosine` must be in"),
        ({"rate_weight": -1.0}, "`rate_weight`"),
        ({"landmark_weight": -1.0}, "`landmark_weight`"),
    ],
)
def test_invalid_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        small(**option)


@pytest.mark.parametrize("shape", [(32, 32, 1), (32, 24, 3)])
def test_images_must_be_square_and_in_colour(shape):
    with pytest.raises(ValueError, match="square images in colour"):
        zoo.models.face_autoencoder(shape)
    encoder = zoo.networks.encoder("conv", shape, CODE_SIZE, (8,), (4,), "relu")
    head, prior = zoo.morphable.MorphableHead(32), zoo.StandardNormal(CODE_SIZE)
    with pytest.raises(ValueError, match="`encoder` of this FaceAutoencoder must be a network"):
        zoo.FaceAutoencoder(encoder, head, prior)


def test_heads_are_served(x, codes, tmp_path):
    model = small(landmark_weight=0.0)
    model.encoder.layers[-1].kernel.assign(
        np.random.default_rng(0).normal(size=model.encoder.layers[-1].kernel.shape) * 0.3
    )
    about = zoo.export.export(model, tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1"))
    images, angles = tf.constant(x), tf.constant([0.3, -0.3])
    given = {
        "encode": {"x": images},
        "decode": {"z": tf.constant(codes)},
        "overlay": {"x": images},
        "turn": {"x": images, "yaw": angles, "pitch": -angles},
        "relight": {"x": images, "azimuth": angles, "elevation": angles},
    }
    assert {*given, "reconstruct", "sample"} <= {*about["signatures"]}
    for name, inputs in given.items():
        [found] = served.signatures[name](**inputs).values()
        expected = getattr(model, name)(*inputs.values()).numpy()
        same = np.abs(found.numpy() - expected) < 1e-3
        assert same.mean() > 0.999, name  # A pixel at an edge may differ.
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match="`yaw` and `pitch` must be vectors of finite numbers of one length",
    ):
        served.turn(images, angles, angles[:1])
