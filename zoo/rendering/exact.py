"""Elementary functions with equal results on every machine, and random numbers from them.

The last digits of NumPy's `sin`, `cos`, `exp` and `log` depend on the processor and the C library. The
functions here are series of correctly rounded operations, in a fixed order. Their relative error is a
few units of the last digit of float64.
"""

import math

import numpy as np

# pi / 2 and log 2 as sums of a part with few digits, whose products with small integers are exact,
# and the rest.
_HALF_PI = (1.5707963109016418, 1.5893254773528196e-08)
_LOG_2 = (0.6931471824645996, -1.904654299957768e-09)


def _polynomial(x, coefficients):
    """Horner's rule; the constant coefficient is the last one."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


_SIN = [(-1) ** k / math.factorial(2 * k + 1) for k in range(8, -1, -1)]
_COS = [(-1) ** k / math.factorial(2 * k) for k in range(9, -1, -1)]
_EXP = [1 / math.factorial(k) for k in range(14, -1, -1)]
_ATANH = [1 / (2 * k + 1) for k in range(11, -1, -1)]


def sin_cos(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of angles in radians, float64, for moderate angles (below 1e6).

    The sine is exactly odd and the cosine exactly even.

    Example:
        >>> sine, cosine = zoo.rendering.exact.sin_cos(np.array([0.0, np.pi / 6]))
        >>> np.round(sine, 12)
        array([0. , 0.5])
    """
    x = np.asarray(x, np.float64)
    turns = np.rint(x / (math.pi / 2))
    rest = (x - turns * _HALF_PI[0]) - turns * _HALF_PI[1]
    square = rest * rest
    sine, cosine = rest * _polynomial(square, _SIN), _polynomial(square, _COS)
    # Quarter turns swap the functions. abs keeps the symmetry of sine and cosine exact.
    quarter = np.abs(turns) % 4
    sign = np.where(turns < 0, -1.0, 1.0)
    sine = sine * sign
    cases = [quarter == 0, quarter == 1, quarter == 2]
    return (
        np.select(cases, [sine, cosine, -sine], -cosine) * sign,
        np.select(cases, [cosine, -sine, -cosine], sine),
    )


def exp(x: np.ndarray) -> np.ndarray:
    """The exponential function, float64, for values from -700 to 700."""
    x = np.asarray(x, np.float64)
    doublings = np.rint(x / math.log(2))
    rest = (x - doublings * _LOG_2[0]) - doublings * _LOG_2[1]
    return np.ldexp(_polynomial(rest, _EXP), doublings.astype(np.int32))


def log(x: np.ndarray) -> np.ndarray:
    """The natural logarithm of positive numbers, float64."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    low = mantissa < math.sqrt(0.5)
    mantissa, exponent = np.where(low, 2 * mantissa, mantissa), exponent - low
    ratio = (mantissa - 1) / (mantissa + 1)
    series = 2 * ratio * _polynomial(ratio * ratio, _ATANH)
    return exponent * _LOG_2[0] + (exponent * _LOG_2[1] + series)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), float64."""
    return 1 / (1 + exp(-np.asarray(x, np.float64)))


def uniforms(seed: int, stream: int, rows: int, columns: int) -> np.ndarray:
    """Uniform numbers in [0, 1), multiples of 2^-53, float64 `[rows, columns]`.

    Fewer rows are the first rows of more rows.

    Args:
        seed: Seed, from 0 on.
        stream: Number of an independent stream of this seed, from 0 on.
    """
    # The raw integers of a bit generator are the same in every version of NumPy; the methods of
    # `Generator` may change.
    raw = np.random.PCG64([seed, stream]).random_raw(rows * columns)
    return (raw.reshape(rows, columns) >> np.uint64(11)) * 2.0**-53


def normals(u: np.ndarray) -> np.ndarray:
    """Standard normal numbers from twice as many uniform numbers, by the transform of Box and Muller.

    Args:
        u: Uniform numbers in [0, 1), float64 `[N, 2 * D]`.

    Returns:
        float64 `[N, D]`.
    """
    radius, angle = np.split(u, 2, axis=-1)
    return np.sqrt(-2 * log(1 - radius)) * sin_cos(2 * math.pi * angle)[1]


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Rounds values in [0, 1] to uint8, where 255 is 1; values outside are clipped."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
