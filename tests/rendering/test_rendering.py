"""The renderer against NumPy, spheres in closed form, and mirror images."""

import numpy as np
import pytest

from zoo.rendering import camera, exact, light, raster
from zoo.rendering.head import albedo, morphable_head, render, sphere, vertices

DISTANCE, FOCAL = camera.DISTANCE, 3.2


def gamma_of(azimuth, elevation=0.0, strength=0.7, ambient=0.2):
    directions = light.direction(np.array([azimuth]), np.array([elevation]))
    gamma = light.distant(directions, np.array([strength]), np.array([ambient]))
    return np.repeat(gamma[..., None], 3, -1)


def head_image(yaw=0.0, pitch=0.0, roll=0.0, azimuth=0.4, size=48, **options):
    none = np.zeros([1, 6])
    arguments = {"identity": none, "albedo_coefficients": none[:, :4], "expression": none[:, :4]}
    arguments |= options
    return render(
        morphable_head(),
        angles=np.array([[yaw, pitch, roll]]),
        translation=none[:, :3],
        gamma=gamma_of(azimuth, 0.2),
        background=np.full([1, size, size, 3], 0.5),
        **arguments,
    )


def ball(size=256, fine=1):
    """A white sphere: directions, normals, and the fragments of its picture."""
    d, triangles = sphere(24 * fine, 32 * fine)
    normals = raster.vertex_normals(d[None], triangles, raster.incidence(triangles, len(d)))
    screen, depth = camera.project(d[None], size, focal=FOCAL)
    return d, normals, raster.rasterize(screen, depth, triangles, size)


def test_elementary_functions_match_numpy():
    x = np.random.default_rng(0).uniform(-20, 20, 20_000)
    sine, cosine = exact.sin_cos(x)
    np.testing.assert_allclose(sine, np.sin(x), atol=4e-15)
    np.testing.assert_allclose(cosine, np.cos(x), atol=4e-15)
    mirrored = exact.sin_cos(-x)
    np.testing.assert_array_equal(mirrored[0], -sine)
    np.testing.assert_array_equal(mirrored[1], cosine)
    np.testing.assert_allclose(exact.exp(10 * x), np.exp(10 * x), rtol=4e-15)
    np.testing.assert_allclose(exact.log(np.exp(x)), x, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(exact.sigmoid(x), 1 / (1 + np.exp(-x)), rtol=1e-14)


def test_random_numbers_have_their_distribution_and_start_alike():
    u = exact.uniforms(0, 1, 5000, 40)
    np.testing.assert_array_equal(exact.uniforms(0, 1, 10, 40), u[:10])
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.005
    normals = exact.normals(u)
    assert normals.shape == (5000, 20) and np.isfinite(normals).all()
    assert abs(normals.mean()) < 0.01 and abs(normals.std() - 1) < 0.01
    assert abs((normals**4).mean() - 3) < 0.1
    assert (u != exact.uniforms(0, 2, 5000, 40)).any()


def test_rotations_are_orthonormal_and_in_the_stated_order():
    yaw, pitch, roll = (np.array([a, 0.0]) for a in (0.5, -0.3, 0.2))
    r = camera.rotation(yaw, pitch, roll)
    np.testing.assert_allclose(r @ r.transpose(0, 2, 1), np.tile(np.eye(3), (2, 1, 1)), atol=1e-15)
    np.testing.assert_allclose(np.linalg.det(r), 1, atol=1e-14)

    def single(i, j, angle):
        matrix = np.eye(3)
        matrix[i, i] = matrix[j, j] = np.cos(angle)
        matrix[j, i], matrix[i, j] = np.sin(angle), -np.sin(angle)
        return matrix

    expected = single(0, 1, 0.2) @ single(1, 2, -0.3) @ single(2, 0, 0.5)
    np.testing.assert_allclose(r[0], expected, atol=1e-15)
    points = np.random.default_rng(0).normal(size=(2, 7, 3))
    moved = camera.posed(points, r, np.array([[1.0, 2, 3], [0, 0, 0]]))
    np.testing.assert_allclose(moved[0], points[0] @ r[0].T + [1, 2, 3], atol=1e-14)


def test_a_shift_of_a_pixel_at_the_origins_depth_is_a_shift_of_a_pixel():
    step = 2 * DISTANCE / (camera.FOCAL * 48)
    screen, depth = camera.project(np.array([[0.0, 0, 0], [step, 0, 0], [0, step, 0]]), 48)
    np.testing.assert_allclose(screen, [[23.5, 23.5], [24.5, 23.5], [23.5, 22.5]], atol=1e-12)
    np.testing.assert_array_equal(depth, 6)


def test_a_sphere_covers_the_area_of_its_closed_form():
    _, _, fragments = ball(fine=3)
    area = np.pi * (FOCAL * 128) ** 2 / (DISTANCE**2 - 1)
    assert area == pytest.approx(15059, abs=1)
    assert len(fragments.pixels) == pytest.approx(area, rel=0.0015)
    # The polygons of the coarse sphere are smaller.
    assert len(ball()[2].pixels) == pytest.approx(area, rel=0.005)
    np.testing.assert_allclose(fragments.weights.sum(1), 1, atol=1e-12)
    assert fragments.weights.min() >= 0 and (np.diff(fragments.pixels) > 0).all()


def test_vertex_normals_of_a_sphere_are_its_directions():
    errors = []
    for fine in (1, 2):
        d, normals, _ = ball(fine=fine)
        difference = np.abs(normals[0] - d).max(-1)
        assert difference.max() < 0.035
        errors.append(difference[np.abs(d[:, 1]) < 0.9].max())  # Away from the caps at the poles.
    assert errors[0] < 0.021 and errors[1] < errors[0] / 1.8
    np.testing.assert_allclose((normals**2).sum(-1), 1, atol=1e-12)


def test_harmonics_of_a_distant_light_are_close_to_the_cosine():
    angle = np.linspace(0, np.pi, 50)
    normals = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], -1)[None]
    shading = light.irradiance(normals, gamma_of(0.0, strength=1.0, ambient=0.0))[0, :, 0]
    c = np.cos(angle)
    np.testing.assert_allclose(shading, 0.25 + 0.5 * c + 5 / 32 * (3 * c * c - 1), atol=5e-6)
    assert np.abs(shading - np.maximum(c, 0)).max() < 3 / 32 + 1e-5


def test_shading_of_a_sphere_is_the_formula_at_the_analytic_normal():
    _, normals, fragments = ball(size=128, fine=2)
    gamma = gamma_of(0.8, 0.4)
    colours = light.irradiance(normals, gamma)
    image = raster.paint(fragments, colours, np.zeros([1, 128, 128, 3]))[0, ..., 0]
    row, column = np.divmod(fragments.pixels, 128)
    # The ray through a pixel centre meets the sphere at distance t from the camera.
    ray = np.stack([(column + 0.5) / 64 - 1, 1 - (row + 0.5) / 64, np.full(len(row), -FOCAL)], -1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    inner = np.abs(ray[:, 2]) * DISTANCE
    root = inner**2 - DISTANCE**2 + 1
    keep = root > 0.05  # Away from the silhouette, where the polygon differs.
    t = inner[keep] - np.sqrt(root[keep])
    points = [0, 0, DISTANCE] + t[:, None] * ray[keep]
    expected = light.irradiance(points[None], gamma)[0, :, 0]
    np.testing.assert_allclose(image[row, column][keep], expected, atol=0.01)


def test_ambient_light_alone_shades_uniformly():
    _, normals, fragments = ball(size=32)
    colours = light.irradiance(normals, gamma_of(0.0, strength=0.0, ambient=0.5))
    image = raster.paint(fragments, colours, np.full([1, 32, 32, 3], 0.5))
    np.testing.assert_allclose(image, 0.5, atol=1e-6)


def test_the_nearer_triangle_is_visible_and_depth_is_corrected_for_perspective():
    triangles = np.array([[0, 1, 2], [3, 4, 5]])
    corners = np.array([[-1.0, -1], [9, -1], [-1, 9]])[:, [0, 1]]
    # Counterclockwise in space is clockwise in rows that count downwards.
    screen = np.concatenate([corners[[0, 2, 1]], corners[[0, 2, 1]]])[None]
    depth = np.array([[4.0, 4, 4, 2, 2, 6]])
    found = raster.rasterize(screen, depth, triangles, 4)
    by_second = (found.vertices[:, 0] == 3).reshape(4, 4)
    column = np.arange(4)
    share = (column + 1) / 10  # Of the corner at depth 6, on the screen.
    nearness = share / 6 + (1 - share) / 2
    np.testing.assert_array_equal(by_second, np.tile(nearness > 0.25, (4, 1)))
    weight = found.weights.reshape(4, 4, 3)[0, :, 2]
    np.testing.assert_allclose(weight[by_second[0]], (share / 6 / nearness)[by_second[0]])
    away = raster.rasterize(screen[:, [0, 2, 1, 3, 5, 4]], depth, triangles, 4)
    assert len(away.pixels) == 0


def test_a_head_and_its_mirror_image_have_mirrored_pixels():
    for yaw, roll in [(0.4, 0.2), (-0.7, 0.05)]:
        one = head_image(yaw, 0.1, roll, azimuth=0.6)
        other = head_image(-yaw, 0.1, -roll, azimuth=-0.6)
        np.testing.assert_array_equal(one.masks, other.masks[:, :, ::-1])
        np.testing.assert_allclose(one.images, other.images[:, :, ::-1], atol=1e-9)


def test_a_head_fills_a_third_of_the_image_and_has_eyes_only_in_front():
    front, back = head_image(azimuth=0.0), head_image(yaw=np.pi, azimuth=0.0)
    assert front.masks.mean() == pytest.approx(0.31, abs=0.03)
    head = morphable_head()
    skin = albedo(head, np.zeros([1, 4]))[0, :, 0]
    assert (
        skin.argmin()
        in np.argsort(
            np.abs(head.directions - np.array([0.31, 0.2, 0.92])).sum(1)
            * np.abs(head.directions - np.array([-0.31, 0.2, 0.92])).sum(1)
        )[:6]
    )
    left, right, nose = front.landmarks[0, :3].round().astype(int)
    eyes = [front.images[0, row, column, 0] for column, row in (left, right)]
    assert max(eyes) < 0.6 * front.images[0, nose[1], nose[0], 0]
    # The back of the head is hair: the colour is as red everywhere.
    assert np.ptp(back.images[0, 12:28, 18:30, 0] / back.images[0, 12:28, 18:30, 1]) < 0.1


@pytest.mark.parametrize(
    ("identity", "moves"),
    [(0, (1.0, 0.0, 0.0)), (1, (0.0, 1.0, 0.0)), (2, (0.0, 0.0, 1.0))],
)
def test_modes_move_the_vertices_along_their_axis(identity, moves):
    head, coefficients = morphable_head(), np.zeros([2, 6])
    coefficients[1, identity] = 1.0
    mean, moved = vertices(head, coefficients, np.zeros([2, 4]))
    np.testing.assert_allclose(mean, head.shape)
    largest = np.abs(moved - mean).max(0)
    np.testing.assert_allclose(largest, 0.1 * np.array(moves), atol=0.005)
