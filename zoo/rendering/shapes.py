"""Flat shapes: square, ellipse and heart."""

import numpy as np

SHAPES = ("square", "ellipse", "heart")
SQUARE_SIDE = 0.25
ELLIPSE_AXES = (0.18, 0.09)
HEART_UNIT = 0.135
HEART_CENTRE = 0.2935
"""Height of the heart's centre of mass in its formula, in units of HEART_UNIT."""
AREAS = (0.0625, 0.0508938, 0.0667398)
"""Areas of the shapes at scale 1: 0.25^2, pi 0.18 0.09, and 3.66199 HEART_UNIT^2."""


def inside(shape: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points lie strictly inside a shape at scale 1, whose centre of mass is at 0.

    The heart is (u^2 + v^2 - 1)^3 < u^2 v^3, in units of `HEART_UNIT`.

    Args:
        shape: Index in `SHAPES`.
        x, y: Coordinates to the right and upwards, of any shape.
    """
    if shape == 0:
        return np.maximum(np.abs(x), np.abs(y)) < SQUARE_SIDE / 2
    if shape == 1:
        u, v = x / ELLIPSE_AXES[0], y / ELLIPSE_AXES[1]
        return u * u + v * v < 1
    u, v = x / HEART_UNIT, y / HEART_UNIT + HEART_CENTRE
    u2, v2 = u * u, v * v
    ring = u2 + v2 - 1
    return ring * ring * ring < u2 * v2 * v
