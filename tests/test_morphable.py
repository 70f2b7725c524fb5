"""The morphable head in TensorFlow, against the renderer in NumPy and closed forms."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.morphable import (
    AMBIENT,
    BLOCKS,
    CODE_SIZE,
    MorphableHead,
    distant_light,
    irradiance,
    sampled,
)
from zoo.rendering import camera, light
from zoo.rendering.head import morphable_head, render

MESH = (12, 16)


def random_parts(rng, count):
    angles, place = rng.normal(size=[2, count, 3])
    towards = light.direction(*rng.uniform(-0.8, 0.8, [2, count]))
    gamma = light.distant(towards, rng.uniform(0.4, 0.7, count), rng.uniform(0.1, 0.2, count))
    return {
        "identity": rng.normal(size=[count, 6]),
        "albedo": rng.normal(size=[count, 4]),
        "expression": rng.uniform(-1, 1, [count, 4]),
        "angles": 0.3 * angles,
        "translation": np.array([0.1, 0.1, 0.25]) * place,
        "light": np.repeat(gamma[..., None], 3, -1),
    }


def in_numpy(parts, size, mesh=MESH, background=0.5):
    blocks = list(parts.values())
    return render(
        morphable_head(*mesh), *blocks, np.full([len(blocks[0]), size, size, 3], background)
    )


@pytest.fixture(scope="module")
def parts():
    return random_parts(np.random.default_rng(1), 3)


@pytest.mark.parametrize("size", [24, 40])
def test_images_masks_and_landmarks_are_those_of_the_renderer_in_numpy(parts, size):
    head, expected = MorphableHead(size, *MESH), in_numpy(parts, size)
    z = head.code(**parts)
    surface = head.surface(head.parts(z))
    np.testing.assert_allclose(head.landmarks(surface), expected.landmarks, atol=1e-4)
    same = head.masks(z).numpy() == expected.masks
    assert same.mean() > 0.999  # A pixel centre within 1e-6 of an edge may differ.
    images = np.clip(expected.images, 0, 1)
    np.testing.assert_allclose(head.render(z)[same], images[same], atol=1e-3)


def test_the_nearest_surface_is_shown(parts):
    nose = np.zeros([3, 6])
    nose[:, 2] = 12  # So long that it hides a cheek.
    angles = np.array([[0.8, 0.0, 0.0], [-0.8, 0.2, 0.0], [0.6, -0.4, 0.3]])
    parts = parts | {"identity": nose, "angles": angles}
    head, expected = MorphableHead(40, *MESH), in_numpy(parts, 40)
    z = head.code(**parts)
    same = head.masks(z).numpy() == expected.masks
    assert same.mean() > 0.999
    images = np.clip(expected.images, 0, 1)
    np.testing.assert_allclose(head.render(z)[same], images[same], atol=1e-3)


def test_a_head_is_painted_on_a_background(parts):
    head = MorphableHead(24, *MESH)
    z = head.code(**parts)
    background = np.random.default_rng(0).random([3, 24, 24, 3]).astype(np.float32)
    images, masks = head.render(z, background).numpy(), head.masks(z).numpy()
    np.testing.assert_array_equal(images[~masks], background[~masks])
    np.testing.assert_array_equal(images[masks], head.render(z).numpy()[masks])


def test_codes_and_coefficients_are_inverse(parts):
    head = MorphableHead(16, *MESH)
    z = tf.random.stateless_normal([3, CODE_SIZE], [0, 1])
    np.testing.assert_allclose(head.code(**head.parts(z)), z, atol=1e-5)
    for name, block in head.parts(head.code(**parts)).items():
        np.testing.assert_allclose(block, parts[name], atol=1e-5, err_msg=name)
    mean = head.parts(tf.zeros([1, CODE_SIZE]))
    np.testing.assert_allclose(mean["light"][0, 0] * light.FIRST, AMBIENT, rtol=1e-6)
    assert {name: int(np.prod(block.shape[1:])) for name, block in mean.items()} == BLOCKS
    with pytest.raises(ValueError, match=r"A code has the blocks identity, .* Received: light"):
        head.code(light=parts["light"])


def test_geometry_is_shown_without_albedo(parts):
    head = MorphableHead(24, *MESH)
    z = head.code(**parts)
    geometry = head.render(z, shown="geometry").numpy()
    np.testing.assert_allclose(geometry, geometry[..., :1].repeat(3, -1), atol=1e-6)
    albedo = head.render(z, shown="albedo").numpy()
    dark = head.code(**parts | {"light": 0 * parts["light"]})
    np.testing.assert_allclose(head.render(dark, shown="albedo"), albedo)
    assert head.render(dark).numpy()[head.masks(z).numpy()].max() == 0
    with pytest.raises(ValueError, match="'colours', 'albedo' or 'geometry'"):
        head.render(z, shown="depth")


def test_ambient_light_shades_uniformly_and_lights_are_those_in_numpy():
    head = morphable_head(*MESH)
    normals = np.repeat(head.directions[..., None], 2, -1).astype(np.float32)
    gamma = np.zeros([2, 9, 3], np.float32)
    gamma[:, 0] = [[0.5, 1.0, 2.0], [1.0, 1.0, 1.0]]
    uniform = irradiance(normals, gamma).numpy()
    np.testing.assert_allclose(uniform, np.tile(light.FIRST * gamma[:, 0].T, [len(normals), 1, 1]))
    azimuth, elevation = np.array([0.3, -1.0]), np.array([0.2, 0.6])
    full = np.full(2, 1.0)
    towards = light.direction(azimuth, elevation)
    expected = light.distant(towards, 0.6 * full, 0.2 * full)
    found = distant_light(*(tf.constant(t, tf.float32) for t in (azimuth, elevation)), 0.6, 0.2)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_pixel_to_the_side_is_one_pixel_on_the_image():
    head = MorphableHead(32, *MESH)
    zeros = {name: np.zeros([2, n]) for name, n in BLOCKS.items()} | {"light": np.zeros([2, 9, 3])}
    step = np.zeros([2, 3])
    step[1, 0] = 2 / 32 * camera.DISTANCE / camera.FOCAL
    surface = head.surface(head.parts(head.code(**zeros | {"translation": step})))
    equator = np.flatnonzero(np.abs(morphable_head(*MESH).shape[:, 2]) < 1e-6)
    moved = surface.columns.numpy()[equator]
    assert len(equator)
    np.testing.assert_allclose(moved[:, 1] - moved[:, 0], 1.0, atol=1e-5)


def test_values_between_pixels_are_interpolated_and_outside_have_no_gradient():
    column, row = np.meshgrid(np.arange(5.0), np.arange(5.0))
    images = np.stack([2 * column - row, column * row], -1)[None].astype(np.float32)
    places = tf.constant([[0.0, 0.0], [1.25, 2.5], [4.0, 4.0], [3.5, 0.25]])
    found = sampled(images, places[:, :1], places[:, 1:]).numpy()[..., 0]
    x, y = places.numpy().T
    np.testing.assert_allclose(found, np.stack([2 * x - y, x * y], -1), atol=1e-6)
    outside = tf.constant([[-3.0], [7.0]])
    with tf.GradientTape() as tape:
        tape.watch(outside)
        values = sampled(images, outside, tf.ones_like(outside))
    np.testing.assert_allclose(values[:, 0, 0], [2 * 0 - 1, 2 * 4 - 1])
    np.testing.assert_array_equal(tape.gradient(values, outside), 0)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("what", ["places", "colours"])
def test_gradients_are_finite_differences(block, what, parts):
    head = MorphableHead(24, *MESH)
    z = head.code(**parts)
    rng = np.random.default_rng(0)
    first = list(BLOCKS).index(block)
    start = sum(list(BLOCKS.values())[:first])
    direction = np.zeros([3, CODE_SIZE], np.float32)
    direction[:, start : start + BLOCKS[block]] = rng.normal(size=[3, BLOCKS[block]])

    def values(z):
        surface = head.surface(head.parts(z))
        places = tf.stack([surface.columns, surface.rows], 1)
        return places if what == "places" else surface.colours

    base = values(z)
    moved = [values(z + step * direction) for step in (-0.02, 0.02)]
    expected = (moved[1] - moved[0]) / 0.04
    weights = expected  # The slope is then a sum of squares.
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = tf.reduce_sum(weights * (values(z) - base))
    slope = float(tf.reduce_sum(tape.gradient(value, z) * direction))
    squares = float(tf.reduce_sum(weights * expected))
    if (what, block) in [("places", "albedo"), ("places", "light"), ("colours", "translation")]:
        assert slope == pytest.approx(0, abs=1e-4) and squares < 1e-4
    else:
        assert squares > 1e-3
        assert slope == pytest.approx(squares, rel=5e-3)


def test_codes_may_be_float64_and_lists(parts):
    head = MorphableHead(16, *MESH)
    z = head.code(**parts).numpy()
    for given in (z.astype(np.float64), z.tolist()):
        np.testing.assert_allclose(head.render(given), head.render(z), atol=1e-6)


def test_blocks_of_other_shapes_are_refused(parts):
    head = MorphableHead(16, *MESH)
    with pytest.raises(ValueError, match=r"The block 'light' has the shape \[B, 9, 3\]"):
        head.code(**parts | {"light": parts["light"][..., 0]})


def test_places_that_are_nan_have_nan_values():
    places = tf.constant([[np.nan], [1.0]])
    values = sampled(tf.ones([1, 4, 4, 1]), places, tf.ones_like(places))
    assert np.isnan(values[0]).all() and (values[1] == 1).numpy().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 4}, "`size`"), ({"size": 32, "longitudes": 7}, "`longitudes` must be even")],
)
def test_invalid_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MorphableHead(**arguments)
