"""`moving_sprites`, `turning_sprites` and `bouncing_sprites`: short videos of one binary sprite.

The channels of an image are the frames of a video, the first frame first.

`moving_sprites` and `turning_sprites`, four frames: the future of one image, reduced from Walker et al.,
"An Uncertain Future: Forecasting from Static Images using Variational Autoencoders", 2016.
https://arxiv.org/abs/1606.07873. An ellipse moves by 3/32 of the image's side in each frame: in
`moving_sprites` along its long axis, to one end or the other; in `turning_sprites` along one of its two
axes. All directions are equally likely. The first frame shows everything but the direction, so that
these facts hold for an image with F futures:

- The best model of the other frames, given the first, has a negative log-likelihood of log F nats.
- The best model with independent pixels has log 2 nats for each pixel in which two futures differ.
  Its prediction is the mean of the futures.

The ellipse has the semi-axes 1/5 and 1/10 of the side. It starts at one of 9 x 9 places around the
centre, 1/32 apart, with one of eight angles. The places of an image of 16 pixels are half pixels. In the
last frames a part of the ellipse may be outside of the image. There are 648 starts, and the splits draw
from all of them: scores on test images say whether a model has learned the distribution of the futures,
and not how it extends to other starts.

`bouncing_sprites`, eight frames: a square, an ellipse or a heart in one of three sizes moves by 3/32 of
the side in each frame, and the edges reflect it. It is always inside of the image. Its shape and its
size never change. The first two frames, between which nothing is reflected, determine all others up to
the resolution of the pixels.
"""

import functools
import math
from collections.abc import Callable

import numpy as np

from zoo.datasets.images import ImageData, Split
from zoo.datasets.rendered import RenderedSet, in_parts, independent_splits
from zoo.rendering import exact, shapes

STEP = 3 / 32
"""The distance that a sprite moves in a frame, in units of the image's side."""
ANGLES, PLACES = 8, 9
"""Numbers of angles of the ellipse, and of its places along each side."""
FRAMES, BOUNCING_FRAMES = 4, 8
AXES = (0.2, 0.1)
SIZES = (0.8, 0.95, 1.1)
"""Sizes of bouncing sprites, relative to `zoo.rendering.shapes`."""
MARGIN = 0.2
"""The least distance of the centre of a bouncing sprite from the edges."""


def futures(data: ImageData, split: str, limit: int | None = None) -> np.ndarray:
    """All videos that start as the first `limit` images of a split of `moving_sprites` do.

    Args:
        data: `moving_sprites` or `turning_sprites`.
        split: "train", "validation" or "test".
        limit: Number of images; `None` for all.

    Returns:
        float32 `[N, F, H, W, T]` in [0, 1]. The image itself is at the number of its factor
        `direction`.

    Raises:
        ValueError: If the data set has no such factor, or the split is unknown.

    Example:
        >>> data = zoo.datasets.load("moving_sprites", sizes={"train": 20})
        >>> zoo.datasets.moving.futures(data, "train", 5).shape
        (5, 2, 16, 16, 4)
    """
    names = data.factor_names or ()
    if names[-1:] != ("direction",) or not data.factor_sizes or not data.factor_sizes[-1]:
        raise ValueError(
            "The futures of an image are known for 'moving_sprites' and 'turning_sprites'. "
            f"Received: {data.name!r}."
        )
    values, count = data.factors(split, limit), data.factor_sizes[-1]
    every = np.repeat(values, count, 0)
    every[:, -1] = np.tile(np.arange(count), len(values))
    return data.render(every).reshape(len(values), count, *data.image_shape)


def render_moving(values: np.ndarray, size: int, directions: int = 2) -> np.ndarray:
    """Videos of `moving_sprites` (2 directions) or `turning_sprites` (4): uint8 `[N, size, size, 4]`.

    Args:
        values: Factors `[N, 4]`: angle, x, y and direction, whole numbers. Positions count to the
            right and downwards, and angles counterclockwise. Direction 0 is that of the angle.
        size: Side in pixels.
        directions: Number of directions.
    """
    angle, x, y, direction = np.asarray(values, np.float64).T
    sine, cosine = exact.sin_cos(math.pi / ANGLES * angle)
    up, right = exact.sin_cos(math.pi / ANGLES * angle + 2 * math.pi / directions * direction)
    time = STEP * np.arange(FRAMES)
    centre_x = (0.5 + (x - PLACES // 2) / 32)[:, None] + right[:, None] * time
    centre_y = (0.5 + (y - PLACES // 2) / 32)[:, None] - up[:, None] * time
    return _drawn(centre_x, centre_y, size, functools.partial(_ellipse, sine, cosine))


def render_bouncing(values: np.ndarray, size: int) -> np.ndarray:
    """Videos of `bouncing_sprites`, uint8 `[N, size, size, 8]`, 0 and 1.

    Args:
        values: Factors `[N, 5]`: the numbers of the shape and of the size; x and y of the first frame
            in units of the side, to the right and downwards; direction in radians,
            counterclockwise.
        size: Side in pixels.
    """
    shape, scale, x, y, direction = np.asarray(values, np.float64).T
    up, right = exact.sin_cos(direction)
    time = STEP * np.arange(BOUNCING_FRAMES)
    centre_x = _reflected(x[:, None] + right[:, None] * time)
    centre_y = _reflected(y[:, None] - up[:, None] * time)
    return _drawn(centre_x, centre_y, size, functools.partial(_shapes, shape, scale))


def _reflected(place):
    """The place of a point that the edges reflect, from where it would be without edges."""
    span = 1 - 2 * MARGIN
    along = np.mod(place - MARGIN, 2 * span)
    return MARGIN + np.where(along > span, 2 * span - along, along)


def _drawn(centre_x, centre_y, size, inside: Callable[[np.ndarray, np.ndarray], np.ndarray]):
    """Videos `[N, size, size, T]` of sprites with centres `[N, T]`."""
    pixels = (np.arange(size) + 0.5) / size
    right = pixels[None, None, :, None] - centre_x[:, None, None, :]
    up = centre_y[:, None, None, :] - pixels[None, :, None, None]
    return inside(*np.broadcast_arrays(right, up)).astype(np.uint8)


def _ellipse(sine, cosine, right, up):
    sine, cosine = (f[:, None, None, None] for f in (sine, cosine))
    u, v = (cosine * right + sine * up) / AXES[0], (cosine * up - sine * right) / AXES[1]
    return u * u + v * v < 1


def _shapes(shape, scale, right, up):
    scale = np.asarray(SIZES)[scale.astype(int)][:, None, None, None]
    drawn = np.empty(right.shape, bool)
    for k in range(len(shapes.SHAPES)):
        rows = shape == k
        drawn[rows] = shapes.inside(k, (right / scale)[rows], (up / scale)[rows])
    return drawn


def _rows(render, values, size, part):
    return render(values[part], size)


def _split(render, values, image_size, frames):
    videos = np.empty([len(values), image_size, image_size, frames], np.uint8)
    in_parts(functools.partial(_rows, render, values, image_size), len(values), videos)
    return Split(videos, {"factors": values})


def _moving_split(directions, size, image_size, seed, stream):
    counts = (ANGLES, PLACES, PLACES, directions)
    values = (exact.uniforms(seed, stream, size, 4) * counts).astype(np.int32)
    render = functools.partial(render_moving, directions=directions)
    return _split(render, values, image_size, FRAMES)


def _bouncing_split(size, image_size, seed, stream):
    u = exact.uniforms(seed, stream, size, 5)
    low = MARGIN + STEP  # Nothing is reflected before the second frame.
    kinds = [(u[:, i] * len(names)).astype(int) for i, names in enumerate((shapes.SHAPES, SIZES))]
    places = [low + (1 - 2 * low) * u[:, i] for i in (2, 3)]
    values = np.stack([*kinds, *places, 2 * math.pi * u[:, 4]], -1).astype(np.float32)
    return _split(render_bouncing, values, image_size, BOUNCING_FRAMES)


def _of_directions(directions: int) -> RenderedSet:
    return RenderedSet(
        shape=(16, 16, FRAMES),
        levels=2,
        sizes={"train": 8_000, "validation": 1_000, "test": 1_000},
        leaves=("factors",),
        splits=independent_splits(functools.partial(_moving_split, directions)),
        options={
            "factor_names": ("angle", "x", "y", "direction"),
            "factor_sizes": (ANGLES, PLACES, PLACES, directions),
            "frames": FRAMES,
        },
        render=functools.partial(render_moving, directions=directions),
    )


MOVING = _of_directions(2)
TURNING = _of_directions(4)
BOUNCING = RenderedSet(
    shape=(16, 16, BOUNCING_FRAMES),
    levels=2,
    sizes={"train": 8_000, "validation": 1_000, "test": 1_000},
    leaves=("factors",),
    splits=independent_splits(_bouncing_split),
    options={
        "factor_names": ("shape", "size", "x", "y", "direction"),
        "factor_sizes": (len(shapes.SHAPES), len(SIZES), 0, 0, 0),
        "frames": BOUNCING_FRAMES,
    },
    render=render_bouncing,
)
