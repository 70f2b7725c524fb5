"""`sprites` and `sprites_groups`: the grid of dSprites, in binary images.

In the manner of Matthey, Higgins, Hassabis, Lerchner, "dSprites: Disentanglement testing Sprites
dataset", 2017. https://github.com/google-deepmind/dsprites-dataset

The grid has 737,280 points: 3 shapes x 6 scales x 40 orientations x 32 x 32 positions. The number of
a point has the position y as its lowest digit, then x, orientation, scale and shape, as in the
published file. Each split of `sprites` has distinct points, and no point is in two splits.

`sprites_groups`: groups of 20 images in which exactly one factor differs, as in Kulkarni et al., "Deep
convolutional inverse graphics network", 2015. The annotation `varied` is the position of that factor,
from 0 to 4; the factors take turns. Within a group the values of the factor differ if it has 20 values
or more; the values of shape and scale repeat, equally often up to one. No point is in two splits. No
training image of `sprites_groups` is a validation or test image of `sprites` with its default sizes and
the same seed.

Notes:
    The pixels are not those of the published file, whose exact shapes are not published.
    The published grid has the orientation 2 pi twice, as number 0 and as number 39. The grid here
    repeats this flaw, so that scores are computed on the same grid: 18,432 pairs of images are equal.
    Squares and ellipses look the same at further pairs of orientations only approximately.
"""

import functools
import math
from collections.abc import Mapping

import numpy as np

from zoo.datasets.images import SPLITS, Split
from zoo.datasets.rendered import RenderedSet, in_parts
from zoo.rendering import exact, shapes

FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
"""The factors and their numbers of values, the highest digit first."""
COUNT = math.prod(FACTORS.values())
GROUP = 20
MOST_HELD_OUT = 40_000
"""The largest number of validation and test images of `sprites_groups` together."""


def factors(numbers: np.ndarray) -> np.ndarray:
    """The factors of grid points, int32 `[N, 5]`.

    Args:
        numbers: Numbers from 0 to `COUNT` - 1, `[N]`.

    Example:
        >>> zoo.datasets.sprites.factors(np.array([32 * 32 + 5]))
        array([[0, 0, 1, 0, 5]], dtype=int32)
    """
    return np.stack(np.unravel_index(numbers, tuple(FACTORS.values())), -1).astype(np.int32)


def _numbers(values):
    """The inverse of `factors`, for values `[..., 5]`."""
    return np.ravel_multi_index(tuple(np.moveaxis(values, -1, 0)), tuple(FACTORS.values()))


def render(values: np.ndarray, size: int) -> np.ndarray:
    """Binary images of grid points, uint8 `[N, size, size, 1]`, 0 and 1.

    The centre of mass of a sprite is at 0.25 + 0.5 k / 31 of the image's side, to the right for x and
    downwards for y. Orientations turn counterclockwise. A pixel is 1 if its centre is inside.

    Args:
        values: Factors `[N, 5]`.
        size: Side in pixels.

    Raises:
        ValueError: If a factor is not a number of the grid.
    """
    values, counts = np.asarray(values), tuple(FACTORS.values())
    if not ((values >= 0) & (values < counts) & (values % 1 == 0)).all():
        raise ValueError(
            f"Expected factors as whole numbers from 0 to below {counts}. "
            f"Received: values from {values.min(0)} to {values.max(0)}."
        )
    shape, scale, orientation, x, y = values.T
    # Number 39 is the whole turn, as number 0.
    sine, cosine = exact.sin_cos(2 * math.pi / 39 * (orientation % 39))
    scale = 0.5 + 0.1 * scale
    centres = (np.arange(size) + 0.5) / size
    right = centres - (0.25 + 0.5 * (x / 31))[:, None]
    up = (0.25 + 0.5 * (y / 31))[:, None] - centres
    along = [f / scale for f in (cosine, sine)]
    u = (along[0][:, None] * right)[:, None, :] + (along[1][:, None] * up)[:, :, None]
    v = (along[0][:, None] * up)[:, :, None] - (along[1][:, None] * right)[:, None, :]
    images = np.empty(u.shape, bool)
    for k in range(len(shapes.SHAPES)):
        rows = shape == k
        images[rows] = shapes.inside(k, u[rows], v[rows])
    return images.astype(np.uint8)[..., None]


def _rows(values, size, part):
    return render(values[part], size)


def _order(seed):
    """The numbers of all points in a random order."""
    return np.argsort(np.random.PCG64([seed, 0]).random_raw(COUNT), kind="stable")


def _split(values, image_size, **more):
    images = np.empty([len(values), image_size, image_size, 1], np.uint8)
    in_parts(functools.partial(_rows, values, image_size), len(values), images)
    return Split(images, {"label": values[:, 0].copy(), "factors": values, **more})


def _splits(sizes: Mapping[str, int], image_size: int, seed: int) -> dict[str, Split]:
    if sum(sizes.values()) > COUNT:
        raise ValueError(
            f"The grid of 'sprites' has {COUNT} points for all splits together. "
            f"Received: sizes={dict(sizes)}."
        )
    order, splits, start = _order(seed), {}, 0
    for split in reversed(SPLITS):  # A different number of training images keeps the other splits.
        values = factors(order[start : start + sizes[split]])
        start += sizes[split]
        splits[split] = _split(values, image_size)
    return {split: splits[split] for split in SPLITS}


def _groups(seed, stream, count, factor, taken):
    """The factors of `count` random groups that vary `factor`, int32 `[count, GROUP, 5]`.

    Groups with a point in `taken`, bool `[COUNT]`, are left out.
    """
    values, drawn = tuple(FACTORS.values()), 2 * count
    while True:
        u = exact.uniforms(seed, stream, drawn, len(values) + values[factor])
        first = (u[:, : len(values)] * values).astype(np.int32)
        points = np.repeat(first[:, None], GROUP, 1)
        order = np.argsort(u[:, len(values) :], 1, kind="stable")
        points[:, :, factor] = order[:, np.arange(GROUP) % values[factor]]
        free = points[~taken[_numbers(points)].any(1)]
        if len(free) >= count:
            return free[:count]
        drawn *= 2


def _group_splits(sizes: Mapping[str, int], image_size: int, seed: int) -> dict[str, Split]:
    held_out = sizes["validation"] + sizes["test"]
    if held_out > MOST_HELD_OUT:
        raise ValueError(
            f"The validation and test images of 'sprites_groups' are at most {MOST_HELD_OUT} together, "
            f"so that enough groups have none of them. Received: sizes={dict(sizes)}."
        )
    kinds, taken, splits = len(FACTORS), np.zeros(COUNT, bool), {}
    for stream, split in enumerate(reversed(SPLITS)):
        if split == "train":
            scored = SPRITES.sizes["validation"] + SPRITES.sizes["test"]
            taken[_order(seed)[:scored]] = True
        groups = np.empty([sizes[split] // GROUP, GROUP, kinds], np.int32)
        for factor in range(kinds):
            part = groups[factor::kinds]
            part[:] = _groups(seed, 1 + kinds * stream + factor, len(part), factor, taken)
        taken[_numbers(groups)] = True
        varied = np.repeat(np.resize(np.arange(kinds, dtype=np.int32), len(groups)), GROUP)
        splits[split] = _split(groups.reshape(-1, kinds), image_size, varied=varied)
    return {split: splits[split] for split in SPLITS}


SPRITES = RenderedSet(
    shape=(64, 64, 1),
    levels=2,
    sizes={"train": 50_000, "validation": 5_000, "test": 5_000},
    leaves=("label", "factors"),
    splits=_splits,
    options={
        "label_names": shapes.SHAPES,
        "factor_names": tuple(FACTORS),
        "factor_sizes": tuple(FACTORS.values()),
    },
    render=render,
)
SPRITES_GROUPS = RenderedSet(
    shape=(64, 64, 1),
    levels=2,
    sizes={"train": 50_000, "validation": 2_000, "test": 2_000},
    leaves=("label", "factors", "varied"),
    splits=_group_splits,
    options={**SPRITES.options, "group_size": GROUP},
    render=render,
)
