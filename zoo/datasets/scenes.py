"""`sprites_scenes`: a coloured sprite on a textured background, with attributes and mask.

The attributes describe the sprite and not the background: the shape as three numbers 0 or 1; the
hue h as (1 + cos h) / 2 and (1 + sin h) / 2; the size and the place, to the right and upwards, each
scaled to [0, 1]. The mask is the share of a pixel that the sprite covers, in ninths, so that the
image is mask * sprite + (1 - mask) * background. Sprites are `ENLARGED` times as large as those of
`sprites`, so that their attributes can be read off 32x32 pixels.
"""

import math

import numpy as np

from zoo.datasets.images import Split
from zoo.datasets.rendered import RenderedSet, in_parts, independent_splits
from zoo.rendering import exact, shapes

ATTRIBUTES = (*shapes.SHAPES, "hue_cos", "hue_sin", "size", "x", "y")
HUES = 6
SATURATION, VALUE, RAMP = 0.8, 0.85, 0.15
PLACE = 0.15
"""The centre lies within this part of the image's side of the middle, in x and in y."""
ENLARGED = 1.8
_SUBSAMPLES = 3


def coverage(shape: np.ndarray, scale: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """Ninths of each pixel that a sprite covers, uint8 `[N, size, size]`, from 0 to 9.

    Args:
        shape: Indices in `zoo.rendering.shapes.SHAPES`, `[N]`.
        scale: Sizes, `[N]`.
        place: Centre of mass as a share of the side, from the middle to the right and upwards,
            `[N, 2]`.
        size: Side in pixels.
    """
    fine = (np.arange(size * _SUBSAMPLES) + 0.5) / (size * _SUBSAMPLES) - 0.5
    scale = ENLARGED * scale[:, None]
    x = ((fine - place[:, :1]) / scale)[:, None, :]
    y = ((-fine - place[:, 1:]) / scale)[:, :, None]
    x, y = np.broadcast_arrays(x, y)
    covered = np.empty(x.shape, bool)
    for k in range(len(shapes.SHAPES)):
        rows = shape == k
        covered[rows] = shapes.inside(k, x[rows], y[rows])
    blocks = covered.reshape(len(shape), size, _SUBSAMPLES, size, _SUBSAMPLES)
    return blocks.sum((2, 4), dtype=np.uint8)  # A sum of integers is exact in any order.


def _foreground(hue, place, size):
    """The sprite's colour at every pixel: a hue, darker on the left and brighter on the right."""
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]])
    colours = VALUE * (1 - SATURATION * (1 - corners[hue]))
    across = ((np.arange(size) + 0.5) / size - 0.5 - place[:, :1]) / 0.25
    ramp = 1 + RAMP * np.clip(across, -1, 1)
    return colours[:, None, None] * ramp[:, None, :, None]


def _background(u, size):
    """Stripes, a checker or a smooth field of two colours: `[N, size, size, 3]`."""
    kind, first, second = np.minimum((3 * u[:, 0]).astype(int), 2), u[:, 1:4], u[:, 4:7]
    period = (4 + 6 * u[:, 7]) * np.where(kind == 2, 3, 1)
    sine, cosine = exact.sin_cos(math.pi * u[:, 8])
    i = np.arange(size)
    x, y = i[None, None, :], i[None, :, None]
    turn = (2 * math.pi / period)[:, None, None]
    c, s = cosine[:, None, None], sine[:, None, None]
    one = exact.sin_cos(turn * (c * x + s * y) + 2 * math.pi * u[:, 9, None, None])[0]
    two = exact.sin_cos(turn * (c * y - s * x) + 2 * math.pi * u[:, 10, None, None])[0]
    kind = kind[:, None, None]
    wave = np.where(kind == 0, 3 * one, np.where(kind == 1, 6 * one * two, (one + two) / 2))
    share = (0.5 + 0.5 * np.clip(wave, -1, 1))[..., None]
    first, second = (0.1 + 0.8 * colour[:, None, None] for colour in (first, second))
    return share * first + (1 - share) * second


def _split(count, size, seed, stream):
    u = exact.uniforms(seed, stream, count, 16)
    shape, hue = np.minimum((3 * u[:, 0]).astype(int), 2), np.minimum((6 * u[:, 1]).astype(int), 5)
    scale, place = 0.5 + 0.5 * u[:, 2], PLACE * (2 * u[:, 3:5] - 1)
    images = np.empty([count, size, size, 3], np.uint8)
    masks = np.empty([count, size, size, 1], np.uint8)

    def part_of(part):
        masks[part] = coverage(shape[part], scale[part], place[part], size)[..., None]
        share = masks[part] / 9
        front, back = _foreground(hue[part], place[part], size), _background(u[part, 5:], size)
        return exact.to_bytes(share * front + (1 - share) * back)

    in_parts(part_of, count, images)
    sine, cosine = exact.sin_cos(math.pi / 3 * hue)
    # Models take attributes from 0 to 1.
    circle = [(1 + cosine) / 2, (1 + sine) / 2]
    where = (1 + place / PLACE) / 2
    columns = [*(shape == k for k in range(3)), *circle, 2 * scale - 1, *where.T]
    leaves = {
        "attributes": np.stack(columns, -1).astype(np.float32),
        "mask": masks,
        "factors": np.stack([shape, hue, scale, *place.T], -1).astype(np.float32),
    }
    return Split(images, leaves)


def read_attributes(images: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Reads the sprite's attributes off images whose masks are known.

    Args:
        images: `[N, H, W, 3]` in [0, 1].
        masks: Coverage in [0, 1], `[N, H, W, 1]`.

    Returns:
        `shape` int `[N]` (index in `zoo.rendering.shapes.SHAPES`), `hue` in radians `[N]`, `size`
        `[N]` from 0.5 to 1, and `x` and `y` `[N]` as shares of the side from the middle, to the
        right and upwards. The hue is NaN if no pixel has a coverage above 0.9, and all but the shape
        are NaN for an empty mask.

    Example:
        >>> data = zoo.datasets.load("sprites_scenes", sizes={"train": 4}, y="mask")
        >>> images, masks = data.arrays("train")
        >>> zoo.datasets.scenes.read_attributes(images, masks)["size"].shape
        (4,)
    """
    images, masks = np.asarray(images, np.float64), np.asarray(masks, np.float64)[..., 0]
    count, side = masks.shape[:2]
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = (masks > 0.9)[..., None]
        colour = (images * whole).sum((1, 2)) / whole.sum((1, 2))
        red, green, blue = colour.T
        hue = np.arctan2(math.sqrt(3) * (green - blue), 2 * red - green - blue) % (2 * math.pi)
        area = masks.sum((1, 2))
        middle = (np.arange(side) + 0.5) / side - 0.5
        x = (masks.sum(1) * middle).sum(1) / area
        y = -(masks.sum(2) * middle).sum(1) / area
        sizes = np.sqrt(area / side**2 / np.array(shapes.AREAS)[:, None]) / ENLARGED
    errors = np.full([3, count], np.inf)
    found = np.flatnonzero(area > 0)
    for k in range(3):
        place = np.stack([x[found], y[found]], -1)
        template = coverage(np.full(len(found), k), sizes[k, found], place, side) / 9
        errors[k, found] = np.abs(template - masks[found]).sum((1, 2))
    shape = errors.argmin(0)
    size = np.where(area > 0, sizes[shape, np.arange(count)], np.nan)
    return {"shape": shape, "hue": hue, "size": size, "x": x, "y": y}


SCENES = RenderedSet(
    shape=(32, 32, 3),
    levels=256,
    sizes={"train": 20_000, "validation": 2_000, "test": 2_000},
    leaves=("attributes", "mask", "factors"),
    splits=independent_splits(_split),
    options={
        "attribute_names": ATTRIBUTES,
        "factor_names": ("shape", "hue", "size", "x", "y"),
        "factor_sizes": (3, HUES, 0, 0, 0),
        "mask_levels": 10,
    },
)
