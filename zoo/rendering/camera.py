"""Pose of a head, and a perspective camera on the positive z axis.

In space x points to the right, y up and z to the camera.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.rendering import exact

DISTANCE = 6.0
"""Distance of the camera from the origin."""
FOCAL = 4.2
"""Focal length in halves of the image's side: an object of size 1 at distance d has size FOCAL / d."""


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """The rotations R_z(roll) R_x(pitch) R_y(yaw).

    A positive yaw turns a face that looks to the camera towards +x (to the right of the image), a
    positive pitch turns it down, and a positive roll turns the image counterclockwise.

    Args:
        yaw, pitch, roll: Angles in radians, `[B]`.

    Returns:
        float64 `[B, 3, 3]`.
    """
    rows = entries(*map(exact.sin_cos, (yaw, pitch, roll)))
    return np.stack([np.stack(row, -1) for row in rows], -2)


def entries(yaw: Sequence[Any], pitch: Sequence[Any], roll: Sequence[Any]) -> list[list[Any]]:
    """The entries of `rotation` from the sine and the cosine of each angle, by row and column."""
    (sy, cy), (sp, cp), (sr, cr) = yaw, pitch, roll
    # The product, written out: a library's matrix product may add in another order.
    return [
        [cr * cy - sr * sp * sy, -sr * cp, cr * sy + sr * sp * cy],
        [sr * cy + cr * sp * sy, cr * cp, sr * sy - cr * sp * cy],
        [-cp * sy, sp, cp * cy],
    ]


def posed(points: np.ndarray, rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """R v + t for the points of each example.

    Args:
        points: `[B, V, 3]`.
        rotations: `[B, 3, 3]`.
        translations: `[B, 3]`.

    Returns:
        float64 `[B, V, 3]`.
    """
    x, y, z = (points[..., i : i + 1] for i in range(3))
    columns = rotations[:, None]
    turned = columns[..., 0] * x + columns[..., 1] * y + columns[..., 2] * z
    return turned + translations[:, None]


def project(
    points: np.ndarray, size: int, distance: float = DISTANCE, focal: float = FOCAL
) -> tuple[np.ndarray, np.ndarray]:
    """Perspective projection to pixel coordinates.

    Pixel (0, 0) is the upper left one, and its centre has the coordinates (0, 0). The point at the
    origin is projected to the centre of the image, ((size - 1) / 2, (size - 1) / 2).

    Args:
        points: `[..., 3]`, in front of the camera.
        size: Side of the image in pixels.
        distance: Distance of the camera from the origin.
        focal: Focal length in halves of the image's side.

    Returns:
        Pixel coordinates (column, row), float64 `[..., 2]`, and the depth along the camera's axis,
        float64 `[...]`.
    """
    depth = distance - points[..., 2]
    u, v = focal * points[..., 0] / depth, focal * points[..., 1] / depth
    return np.stack([(u + 1) * (size / 2) - 0.5, (1 - v) * (size / 2) - 0.5], -1), depth
