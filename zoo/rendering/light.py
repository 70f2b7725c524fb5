"""Light as spherical harmonics of the second order.

After Ramamoorthi & Hanrahan, "An efficient representation for irradiance environment maps", 2001. A
matte surface with normal n has the irradiance sum_b gamma_b H_b(n). H_b contains the factor by which
the cosine of the angle of incidence weakens each order: 1, 2/3 and 1/4 (times pi).
"""

import math
from typing import Any

import numpy as np

from zoo.rendering import exact

FIRST = 0.282095
"""H_1, the harmonic of ambient light."""
_CONSTANTS = np.array([FIRST, *[0.488603] * 3, *[1.092548] * 2, 0.315392, 1.092548, 0.546274])
_COSINE = np.array([1.0, *[2 / 3] * 3, *[1 / 4] * 5])


def _polynomials(x, y, z, one):
    """The nine harmonics without constants, in the order of `harmonics`."""
    return [one, y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]


def bands(x: Any, y: Any, z: Any, one: Any) -> list[Any]:
    """The nine harmonics Y_b, without the factors of the cosine; arguments as for `of_coordinates`."""
    pairs = zip(_CONSTANTS.tolist(), _polynomials(x, y, z, one), strict=True)
    return [constant * polynomial for constant, polynomial in pairs]


def of_coordinates(x: Any, y: Any, z: Any, one: Any) -> list[Any]:
    """`harmonics` of unit vectors by coordinate, as a list. Arrays and tensors are allowed.

    Args:
        x, y, z: Coordinates of one shape.
        one: Ones of this shape.
    """
    scales = (_COSINE * _CONSTANTS).tolist()
    pairs = zip(scales, _polynomials(x, y, z, one), strict=True)
    return [scale * polynomial for scale, polynomial in pairs]


def harmonics(normals: np.ndarray) -> np.ndarray:
    """H_b(n), in the order 1, y, z, x, xy, yz, 3z^2 - 1, xz, x^2 - y^2.

    Args:
        normals: Unit vectors `[..., 3]`.

    Returns:
        float64 `[..., 9]`.
    """
    x, y, z = (normals[..., i] for i in range(3))
    return np.stack(of_coordinates(x, y, z, np.ones_like(x)), -1)


def direction(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Unit vectors `[..., 3]` to a light. At azimuth 0 and elevation 0 the light is at the camera.

    Args:
        azimuth: Angle to the right (+x), in radians.
        elevation: Angle upwards (+y), in radians.
    """
    (sa, ca), (se, ce) = exact.sin_cos(azimuth), exact.sin_cos(elevation)
    return np.stack([sa * ce, se, ca * ce], -1)


def distant(directions: np.ndarray, strength: np.ndarray, ambient: np.ndarray) -> np.ndarray:
    """Coefficients of one distant light and ambient light.

    The irradiance is about `strength` times max(0, cos), where cos is the cosine of the angle between
    the normal and the light, plus `ambient`. The second order reaches 1.0625 instead of 1 for the
    cosine 1.

    Args:
        directions: Unit vectors to the lights, `[B, 3]`.
        strength, ambient: `[B]`.

    Returns:
        gamma, float64 `[B, 9]`.
    """
    x, y, z = (directions[..., i] for i in range(3))
    gamma = [math.pi * strength * band for band in bands(x, y, z, np.ones_like(x))]
    gamma[0] = gamma[0] + ambient / _CONSTANTS[0]
    return np.stack(gamma, -1)


def irradiance(normals: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """sum_b gamma_b H_b(n) for each channel.

    Args:
        normals: Unit vectors `[B, V, 3]`.
        gamma: Coefficients `[B, 9, C]`.

    Returns:
        float64 `[B, V, C]`.
    """
    bases = harmonics(normals)
    total = np.zeros([*normals.shape[:-1], gamma.shape[-1]])
    for b in range(9):
        total += bases[..., b : b + 1] * gamma[:, None, b]
    return total
