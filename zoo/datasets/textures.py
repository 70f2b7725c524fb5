"""`textures`: a layout of large shapes, with one texture of known colours inside and one outside.

The structure of an image is its layout: the union of one to three shapes of `zoo.rendering.shapes`. The
texture is a pattern of two colours inside the layout, and one of two other colours outside. An
image that combines the structure of one image with the texture of another can therefore be judged
without a trained network: `read_layouts` assigns each pixel to the nearest of four known colours.

Structure and texture are independent. The four colours of an image are a quarter turn of hue apart.
"""

import math

import numpy as np

from zoo.datasets.images import Split
from zoo.datasets.rendered import RenderedSet, in_parts, independent_splits
from zoo.rendering import exact, shapes

PATTERNS = ("stripes", "checker", "dots")
FACTORS = (
    "shapes",
    *(
        f"{where}_{what}"
        for where in ("inside", "outside")
        for what in ("pattern", "period", "angle")
    ),
)
MOST_SHAPES = 3
ENLARGED = 1.8
"""Shapes are this many times as large as those of `sprites`, at most."""
_PLACE = 0.25


def _layout(u, size):
    """The union of one to three shapes, bool `[N, size, size]`, from uniform numbers `[N, 16]`."""
    count = 1 + np.minimum((MOST_SHAPES * u[:, 0]).astype(int), MOST_SHAPES - 1)
    centres = (np.arange(size) + 0.5) / size - 0.5
    inside = np.zeros([len(u), size, size], bool)
    for k, own in enumerate(np.split(u[:, 1:], MOST_SHAPES, axis=-1)):
        kind = np.minimum((3 * own[:, 0]).astype(int), 2)
        scale = ENLARGED * (0.6 + 0.4 * own[:, 1])
        place = _PLACE * (2 * own[:, 2:4] - 1)
        sine, cosine = (part[:, None, None] for part in exact.sin_cos(2 * math.pi * own[:, 4]))
        right = ((centres - place[:, :1]) / scale[:, None])[:, None, :]
        up = ((-centres - place[:, 1:]) / scale[:, None])[:, :, None]
        x, y = cosine * right + sine * up, cosine * up - sine * right
        for shape in range(len(shapes.SHAPES)):
            rows = (kind == shape) & (k < count)
            inside[rows] |= shapes.inside(shape, x[rows], y[rows])
    return count, inside


def _pattern(u, size):
    """Where a pattern has its second colour, bool `[N, size, size]`, and its factors `[N, 3]`."""
    kind = np.minimum((3 * u[:, 0]).astype(int), 2)
    period, angle = 3 + 3 * u[:, 1], math.pi * u[:, 2]
    sine, cosine = (part[:, None, None] for part in exact.sin_cos(angle))
    i = np.arange(size)
    x, y = i[None, None, :], i[None, :, None]
    # A checker's field is half of its period.
    turn = (2 * math.pi / (period * np.where(kind == 0, 1, 1.5)))[:, None, None]
    along, across = (2 * math.pi * u[:, k, None, None] for k in (3, 4))
    one = exact.sin_cos(turn * (cosine * x + sine * y) + along)[0]
    two = exact.sin_cos(turn * (cosine * y - sine * x) + across)[0]
    kind = kind[:, None, None]
    second = np.where(kind == 0, one > 0, np.where(kind == 1, one * two > 0, one + two > 0.6))
    return second, np.stack([kind[:, 0, 0], period, angle], -1)


def _palette(u):
    """Four colours, `[N, 4, 3]`: two inside and two outside, in an order drawn at random."""
    order = np.argsort(u[:, 1:5], axis=-1, kind="stable")
    hue = 6 * ((u[:, :1] + order / 4) % 1)  # In sixths of a turn.
    channels = [np.abs((hue + shift) % 6 - 3) - 1 for shift in (0, 4, 2)]
    pure = np.clip(np.stack(channels, -1), 0, 1)
    value = (0.55 + 0.4 * u[:, 5:9])[..., None]
    return value * (0.2 + 0.8 * pure)


def _split(count, size, seed, stream):
    u = exact.uniforms(seed, stream, count, 16 + 5 + 5 + 9)
    images = np.empty([count, size, size, 3], np.uint8)
    layouts = np.empty([count, size, size, 1], np.uint8)
    palettes = _palette(u[:, 26:])
    factors = np.empty([count, len(FACTORS)], np.float32)

    def part_of(part):
        own = u[part]
        factors[part, 0], inside = _layout(own[:, :16], size)
        within, factors[part, 1:4] = _pattern(own[:, 16:21], size)
        outside, factors[part, 4:] = _pattern(own[:, 21:26], size)
        layouts[part] = inside[..., None]
        colour = np.where(inside, within.astype(int), 2 + outside)
        rows = np.arange(len(own))[:, None, None]
        return exact.to_bytes(palettes[part][rows, colour])

    in_parts(part_of, count, images)
    leaves = {"factors": factors, "layout": layouts, "palette": palettes.astype(np.float32)}
    return Split(images, leaves)


def read_layouts(images: np.ndarray, palettes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads the layout off images whose colours are known.

    Args:
        images: `[N, H, W, 3]` in [0, 1].
        palettes: The four colours of each image, `[N, 4, 3]`: two inside, then two outside.

    Returns:
        Whether the nearest colour of a pixel is one of those inside, bool `[N, H, W]`, and the mean
        distance of pixels to their nearest colours, float64 `[N]`.

    Example:
        >>> data = zoo.datasets.load("textures", sizes={"train": 4}, y="palette")
        >>> layouts, distances = zoo.datasets.textures.read_layouts(*data.arrays("train"))
        >>> layouts.shape, float(distances.max()) < 0.01
        ((4, 32, 32), True)
    """
    images, palettes = np.asarray(images, np.float64), np.asarray(palettes, np.float64)
    offsets = images[..., None, :] - palettes[:, None, None]
    distances = np.sqrt((offsets * offsets).sum(-1))
    return distances.argmin(-1) < 2, distances.min(-1).mean((1, 2))


TEXTURES = RenderedSet(
    shape=(32, 32, 3),
    levels=256,
    sizes={"train": 20_000, "validation": 2_000, "test": 2_000},
    leaves=("factors", "layout", "palette"),
    splits=independent_splits(_split),
    options={
        "factor_names": FACTORS,
        "factor_sizes": (MOST_SHAPES, 3, 0, 0, 3, 0, 0),
        "mask_levels": 2,
    },
)
