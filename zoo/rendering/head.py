"""A morphable head from a formula: mean shape and albedo, and modes of identity, expression, albedo.

Morphable models (Blanz & Vetter, "A morphable model for the synthesis of 3D faces", 1999) describe a
head by coefficients of modes. The models that are learned from scans need a licence. The modes here
are bumps on a sphere and show no person.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from zoo.rendering import camera, exact, light, raster

IDENTITY_MODES = ("width", "height", "nose", "jaw", "brow_ridge", "cheeks")
ALBEDO_MODES = ("skin_tone", "lip_colour", "hair_colour", "cheek_colour")
EXPRESSION_MODES = ("mouth_open", "smile", "brows_up", "jaw_drop")
LANDMARKS = (
    "left_eye",
    "right_eye",
    "nose",
    "left_mouth_corner",
    "right_mouth_corner",
    "chin",
    "left_temple",
    "right_temple",
)
"""Names of the landmarks, where left is the left of the image."""
_LANDMARK_DIRECTIONS = (
    *((x, 0.22, 1.0) for x in (-0.34, 0.34)),
    (0.0, -0.05, 1.0),
    *((x, -0.5, 1.0) for x in (-0.28, 0.28)),
    (0.0, -0.95, 0.6),
    *((x, 0.35, 0.3) for x in (-1.0, 1.0)),
)
SKIN, HAIR, LIPS = (0.75, 0.58, 0.47), (0.20, 0.14, 0.10), (0.62, 0.22, 0.22)


class Head(NamedTuple):
    """Geometry and albedo of the morphable head. x points to the right, y up, z out of the face.

    Attributes:
        directions: Unit vectors from the centre to the vertices of the sphere, `[V, 3]`.
        triangles: Vertices of each triangle, counterclockwise from outside, `[T, 3]`.
        incident: The triangles at each vertex, of `zoo.rendering.raster.incidence`.
        shape: Mean shape, `[V, 3]`. The mean head is about 2 units high.
        identity: Modes of identity, `[6, V, 3]`; see `IDENTITY_MODES`.
        expression: Modes of expression, `[4, V, 3]`; see `EXPRESSION_MODES`.
        albedo: Mean albedo, RGB, `[V, 3]`.
        albedo_modes: Modes of albedo, `[4, V, 3]`; see `ALBEDO_MODES`.
        landmarks: Vertices of the `LANDMARKS`, `[8]`.
    """

    directions: np.ndarray
    triangles: np.ndarray
    incident: list[tuple[np.ndarray, np.ndarray]]
    shape: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    albedo: np.ndarray
    albedo_modes: np.ndarray
    landmarks: np.ndarray


def sphere(latitudes: int = 24, longitudes: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere of `latitudes` x `longitudes` vertices and two poles, symmetric in x.

    Args:
        latitudes: Number of circles, from -0.46 pi to 0.46 pi.
        longitudes: Vertices of a circle, an even number.

    Returns:
        Vertices, float64 `[V, 3]`, and triangles, counterclockwise from outside, int64 `[T, 3]`.

    Example:
        >>> vertices, triangles = zoo.rendering.head.sphere()
        >>> vertices.shape, triangles.shape
        ((770, 3), (1536, 3))
    """
    height, radius = exact.sin_cos(0.92 * math.pi * (np.arange(latitudes) / (latitudes - 1) - 0.5))
    sine, cosine = exact.sin_cos(
        2 * math.pi / longitudes * (np.arange(longitudes) - longitudes // 2)
    )
    sine[0] = 0.0  # The angle -pi is not exact.
    grid = [np.outer(radius, sine), np.outer(height, np.ones(longitudes)), np.outer(radius, cosine)]
    poles = [[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]]
    vertices = np.concatenate([np.stack(grid, -1).reshape(-1, 3), poles])
    south, north = latitudes * longitudes, latitudes * longitudes + 1
    last = (latitudes - 1) * longitudes
    triangles = []
    for i in range(latitudes - 1):
        for j in range(longitudes):
            a, b = i * longitudes + j, i * longitudes + (j + 1) % longitudes
            c, d = a + longitudes, b + longitudes
            # The diagonals of the left half mirror those of the right half.
            right = j >= longitudes // 2
            triangles += [(a, b, d), (a, d, c)] if right else [(a, b, c), (b, d, c)]
    for j in range(longitudes):
        k = (j + 1) % longitudes
        triangles += [(south, k, j), (north, last + j, last + k)]
    return vertices, np.array(triangles)


def _bump(d, centre, width):
    """exp(-|d - c / |c||^2 / (2 width^2)) for unit vectors d, `[V]`."""
    length = math.sqrt(centre[0] * centre[0] + centre[1] * centre[1] + centre[2] * centre[2])
    x, y, z = (d[:, i] - centre[i] / length for i in range(3))
    return exact.exp(-(x * x + y * y + z * z) / (2 * width * width))


def _pair(d, centre, width):
    """The sum of two bumps, mirrored in x."""
    x, y, z = centre
    return _bump(d, (x, y, z), width) + _bump(d, (-x, y, z), width)


@functools.cache
def morphable_head(latitudes: int = 24, longitudes: int = 32) -> Head:
    """The morphable head, with 770 vertices and 1,536 triangles by default.

    The arrays are shared by all callers; do not change them.

    Args:
        latitudes, longitudes: As for `sphere`.
    """
    d, triangles = sphere(latitudes, longitudes)
    x, y, z = d.T
    zero = np.zeros_like(x)

    def along(i, amount):
        vector = [zero, zero, zero]
        vector[i] = amount
        return np.stack(vector, -1)

    nose = _bump(d, (0, -0.05, 1), 0.16)
    shape = d * np.array([0.78, 1.0, 0.85]) + along(2, 0.22 * nose)
    cheeks = _pair(d, (0.6, -0.25, 0.8), 0.22)
    identity = [
        along(0, 0.10 * x),
        along(1, 0.10 * y),
        along(2, 0.10 * nose),
        along(0, 0.12 * x * exact.sigmoid(-8 * (y + 0.3))),
        along(2, 0.08 * _pair(d, (0.3, 0.38, 1), 0.22)),
        0.08 * cheeks[:, None] * d,
    ]
    left, right = (_bump(d, (side * 0.28, -0.5, 1), 0.13) for side in (-1, 1))
    expression = [
        along(1, -0.12 * _bump(d, (0, -0.62, 1), 0.17)),
        along(0, 0.06 * (right - left)) + along(1, 0.10 * (right + left)),
        along(1, 0.10 * _pair(d, (0.35, 0.42, 1), 0.15)),
        along(1, -0.10 * np.maximum(0, -y - 0.2)),
    ]

    hair = exact.sigmoid(12 * (y - 0.62)) + exact.sigmoid(-10 * (z + 0.15)) * (y > -0.2)
    hair = np.minimum(hair, 1)[:, None]
    across, up = x / 0.28, (y + 0.46) / 0.08
    lips = (exact.exp(-np.minimum(across * across + up * up, 700)) * (z > 0))[:, None]
    albedo = np.array(SKIN) + hair * (np.array(HAIR) - np.array(SKIN))
    albedo = albedo * (1 - 0.85 * _pair(d, (0.34, 0.22, 1), 0.11))[:, None]
    albedo = albedo * (1 - 0.6 * _pair(d, (0.35, 0.42, 1), 0.12))[:, None]
    albedo = albedo + lips * (np.array(LIPS) - albedo)
    albedo_modes = [
        (1 - hair) * np.array([0.12, 0.12, 0.12]),
        lips * np.array([0.15, -0.045, -0.045]),
        hair * np.array([0.15, 0.12, 0.09]),
        cheeks[:, None] * np.array([0.10, -0.02, -0.02]),
    ]
    # The nearest vertex has the highest bump.
    landmarks = [int(np.argmax(_bump(d, centre, 0.2))) for centre in _LANDMARK_DIRECTIONS]
    return Head(
        directions=d,
        triangles=triangles,
        incident=raster.incidence(triangles, len(d)),
        shape=shape,
        identity=np.stack(identity),
        expression=np.stack(expression),
        albedo=albedo,
        albedo_modes=np.stack(albedo_modes),
        landmarks=np.array(landmarks),
    )


def _combined(mean, modes, coefficients):
    """mean + sum_k c_k mode_k, `[B, V, 3]`."""
    total = np.repeat(mean[None], len(coefficients), 0)
    for k, mode in enumerate(modes):
        if np.any(coefficients[:, k]):
            total += coefficients[:, k, None, None] * mode
    return total


def vertices(head: Head, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """The vertices of heads, before their pose: float64 `[B, V, 3]`.

    Args:
        identity: Coefficients `[B, 6]`.
        expression: Coefficients `[B, 4]`.
    """
    modes = np.concatenate([head.identity, head.expression])
    return _combined(head.shape, modes, np.concatenate([identity, expression], -1))


def albedo(head: Head, coefficients: np.ndarray) -> np.ndarray:
    """The albedo of vertices in [0, 1], RGB, float64 `[B, V, 3]`.

    Args:
        coefficients: Coefficients of the modes of albedo, `[B, 4]`.
    """
    return np.clip(_combined(head.albedo, head.albedo_modes, coefficients), 0, 1)


class Rendering(NamedTuple):
    """Images of heads.

    Attributes:
        images: RGB, float64 `[B, S, S, 3]`, not clipped.
        masks: Whether a pixel shows the head, bool `[B, S, S]`.
        landmarks: Pixel coordinates (column, row) of the `LANDMARKS`, also of hidden ones, float64
            `[B, 8, 2]`.
    """

    images: np.ndarray
    masks: np.ndarray
    landmarks: np.ndarray


def render(
    head: Head,
    identity: np.ndarray,
    albedo_coefficients: np.ndarray,
    expression: np.ndarray,
    angles: np.ndarray,
    translation: np.ndarray,
    gamma: np.ndarray,
    background: np.ndarray,
) -> Rendering:
    """Renders heads: shape, pose, shading of the vertices, perspective camera, depth buffer.

    The colour of a vertex is its albedo times `zoo.rendering.light.irradiance`, as in Tewari et al.,
    "MoFA: Model-based deep convolutional face autoencoder for unsupervised monocular reconstruction",
    2017, section 4. The light does not turn with the head.

    Args:
        head: Of `morphable_head`.
        identity: `[B, 6]`.
        albedo_coefficients: `[B, 4]`.
        expression: `[B, 4]`.
        angles: Yaw, pitch and roll in radians, `[B, 3]`; see `zoo.rendering.camera.rotation`.
        translation: `[B, 3]`.
        gamma: Coefficients of the light for each channel, `[B, 9, 3]`.
        background: RGB, `[B, S, S, 3]`.

    Example:
        >>> head = zoo.rendering.head.morphable_head()
        >>> none = np.zeros([1, 6])
        >>> towards = zoo.rendering.light.direction(np.array([0.5]), np.array([0.3]))
        >>> gamma = zoo.rendering.light.distant(towards, np.array([0.7]), np.array([0.2]))
        >>> rendering = zoo.rendering.head.render(
        ...     head, none, none[:, :4], none[:, :4], none[:, :3], none[:, :3],
        ...     np.repeat(gamma[..., None], 3, -1), np.full([1, 32, 32, 3], 0.5),
        ... )
        >>> rendering.images.shape
        (1, 32, 32, 3)
    """
    size = background.shape[1]
    points = vertices(head, identity, expression)
    points = camera.posed(points, camera.rotation(*angles.T), translation)
    normals = raster.vertex_normals(points, head.triangles, head.incident)
    colours = albedo(head, albedo_coefficients) * light.irradiance(normals, gamma)
    screen, depth = camera.project(points, size)
    fragments = raster.rasterize(screen, depth, head.triangles, size)
    masks = np.zeros(background.shape[:3], bool)
    masks.ravel()[fragments.pixels] = True
    images = raster.paint(fragments, colours, background)
    return Rendering(images, masks, screen[:, head.landmarks])
