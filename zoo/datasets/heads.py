"""`heads` and `heads_grey`: heads of `zoo.rendering.head` with known pose, light and identity.

No identity is in two splits. The images of a group are consecutive rows. The annotation `attributes`
says of each factor whether it is above its median: 0 or 1.

`heads`: colour. The frames of a group share identity and albedo; expression, pose, light and
background differ. Each background is a smooth field of random colours, because a constant
background would hide errors of the silhouette.

`heads_grey`: grey, on mid-grey, without expression. In a group of 20 images exactly one of the azimuth,
the elevation, the azimuth of the light, and the identity (with the albedo) differs, as in Kulkarni et
al., "Deep convolutional inverse graphics network", 2015. The annotation `varied` says which, from 0
to 3. The kinds of groups take turns in the ratio `KINDS`.

Notes:
    Kulkarni et al. have ten groups of varied identity for one of each other kind. `KINDS` has
    fewer, because the identity's part of the code keeps the light if few groups vary the light, and
    two for the azimuth, which is learned last. The range of the light is narrow, because the light
    changes what the azimuth does: a head that turns to the right becomes darker under a light from
    the left, and brighter under one from the right. The changes of the pixels under these two
    lights correlate by 0.80 at the end of the range, and by 0.13 at 1.2 radians, where the unit of
    the azimuth found how far a head turns but not to which side.
"""

import numpy as np

from zoo.datasets.images import Split
from zoo.datasets.rendered import RenderedSet, in_parts, independent_splits
from zoo.rendering import exact, light
from zoo.rendering.head import (
    ALBEDO_MODES,
    EXPRESSION_MODES,
    IDENTITY_MODES,
    morphable_head,
    render,
)

POSE = ("yaw", "pitch", "roll", "x", "y", "z")
LIGHT = ("light_azimuth", "light_elevation", "light_strength", "ambient")
FACTORS = (*IDENTITY_MODES, *ALBEDO_MODES, *EXPRESSION_MODES, *POSE, *LIGHT)
FRAMES = 4
GREY_FACTORS = ("azimuth", "elevation", "light_azimuth", *IDENTITY_MODES, *ALBEDO_MODES)
GREY_GROUP = 20
VARIED = ("azimuth", "elevation", "light_azimuth", "identity")
KINDS = (2, 1, 1, 2)
"""How many of six successive groups of `heads_grey` vary each of `VARIED`."""
RANGES = (0.7, 0.35, 0.4)
"""Azimuth, elevation and azimuth of the light are uniform in [-range, range], in radians."""
_POSE_SCALES = np.array([0.3, 0.3, 0.3, 0.1, 0.1, 0.25])
_GRID = 6


def backgrounds(grids: np.ndarray, size: int) -> np.ndarray:
    """Smooth fields of colours, by bilinear interpolation.

    Args:
        grids: Colours `[B, G, G, 3]`; the corners of the grid are the corners of the image.
        size: Side in pixels.

    Returns:
        float64 `[B, size, size, 3]`.
    """
    cells = grids.shape[1] - 1
    place = np.arange(size) * (cells / max(size - 1, 1))
    low = np.minimum(place.astype(int), cells - 1)
    share = place - low
    rows = grids[:, low] * (1 - share)[:, None, None] + grids[:, low + 1] * share[:, None, None]
    return rows[:, :, low] * (1 - share)[:, None] + rows[:, :, low + 1] * share[:, None]


def _gamma(azimuth, elevation, strength, ambient):
    gamma = light.distant(light.direction(azimuth, elevation), strength, ambient)
    return np.repeat(gamma[..., None], 3, -1)


def _colour_split(count, size, seed, stream):
    groups = count // FRAMES
    frame_uniforms = 2 * 6 + 4 + 4 + 3 + _GRID * _GRID * 3
    u = exact.uniforms(seed, stream, groups, 2 * 10 + FRAMES * frame_uniforms)
    identity = np.repeat(exact.normals(u[:, :20]), FRAMES, 0)  # With the albedo.
    u = u[:, 20:].reshape(count, frame_uniforms)
    pose = exact.normals(u[:, :12]) * _POSE_SCALES
    expression = 2 * u[:, 12:16] - 1
    # Strength and ambient light are so low that a white surface stays below 1.
    lows, highs = np.array([-1.2, -0.4, 0.55, 0.15]), np.array([1.2, 0.8, 0.75, 0.2])
    lights = lows + (highs - lows) * u[:, 16:20]
    means, spread = 0.2 + 0.6 * u[:, 20:23], 0.25 * (2 * u[:, 23:] - 1)
    grids = means[:, None, None] + spread.reshape(count, _GRID, _GRID, 3)
    gamma = _gamma(*lights.T)
    images = np.empty([count, size, size, 3], np.uint8)
    masks = np.empty([count, size, size, 1], np.uint8)
    landmarks = np.empty([count, 8, 2], np.float32)

    def part_of(part):
        rendering = render(
            morphable_head(),
            identity[part, :6],
            identity[part, 6:],
            expression[part],
            pose[part, :3],
            pose[part, 3:],
            gamma[part],
            np.clip(backgrounds(grids[part], size), 0, 1),
        )
        masks[part], landmarks[part] = rendering.masks[..., None], rendering.landmarks
        return exact.to_bytes(rendering.images)

    in_parts(part_of, count, images, rows=64)
    values = np.concatenate([identity, expression, pose, lights], -1).astype(np.float32)
    medians = np.concatenate([np.zeros(20), (lows + highs) / 2])
    leaves = {
        "attributes": (values > medians).astype(np.float32),
        "factors": values,
        "group": np.repeat(np.arange(groups, dtype=np.int32), FRAMES),
        "mask": masks,
        "landmarks": landmarks,
        "light": gamma.astype(np.float32),
    }
    return Split(images, leaves)


def render_grey(values: np.ndarray, size: int) -> np.ndarray:
    """Images of heads as in `heads_grey`, uint8 `[N, size, size, 1]`.

    Args:
        values: The factors `GREY_FACTORS`, `[N, 13]`, with angles in radians.
        size: Side in pixels.

    Example:
        >>> zoo.datasets.heads.render_grey(np.zeros([2, 13]), 32).shape
        (2, 32, 32, 1)
    """
    azimuth, elevation, light_azimuth = np.asarray(values, np.float64)[:, :3].T
    identity = np.asarray(values, np.float64)[:, 3:]
    none = np.zeros([len(identity), 4])
    # The elevation is the camera's: a camera above the head sees the face turned down.
    rotation = np.stack([azimuth, elevation, none[:, 0]], -1)
    full = np.full(len(identity), 1.0)
    rendering = render(
        morphable_head(),
        identity[:, :6],
        identity[:, 6:],
        none,
        rotation,
        none[:, :3],
        _gamma(light_azimuth, 0.3 * full, 0.75 * full, 0.2 * full),
        np.full([len(identity), size, size, 3], 0.5),
    )
    red, green, blue = (rendering.images[..., i : i + 1] for i in range(3))
    return exact.to_bytes(0.299 * red + 0.587 * green + 0.114 * blue)


def _grey_split(count, size, seed, stream):
    groups = count // GREY_GROUP
    width = 3 + 20
    u = exact.uniforms(seed, stream, groups, GREY_GROUP * width)
    u = u.reshape(groups, GREY_GROUP, width)
    kinds = np.repeat(np.arange(4), KINDS)
    varied = np.resize(kinds, groups)
    own = np.repeat(u[:, :1], GREY_GROUP, 1)  # All images have the values of the first one,
    blocks = [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, width)]
    for kind, block in enumerate(blocks):
        own[varied == kind, :, block] = u[varied == kind, :, block]  # except in one factor.
    own = own.reshape(count, width)
    angles = (2 * own[:, :3] - 1) * np.array(RANGES)
    identity = exact.normals(own[:, 3:])
    values = np.concatenate([angles, identity], -1)
    images = np.empty([count, size, size, 1], np.uint8)
    in_parts(lambda part: render_grey(values[part], size), count, images, rows=64)
    leaves = {
        "attributes": (values > 0).astype(np.float32),
        "factors": values.astype(np.float32),
        "varied": np.repeat(varied, GREY_GROUP).astype(np.int32),
    }
    return Split(images, leaves)


HEADS = RenderedSet(
    shape=(48, 48, 3),
    levels=256,
    sizes={"train": 8_000, "validation": 400, "test": 400},
    leaves=("attributes", "factors", "group", "mask", "landmarks", "light"),
    splits=independent_splits(_colour_split),
    options={
        "attribute_names": FACTORS,
        "factor_names": FACTORS,
        "factor_sizes": (0,) * len(FACTORS),
        "group_size": FRAMES,
        "mask_levels": 2,
    },
)
HEADS_GREY = RenderedSet(
    shape=(32, 32, 1),
    levels=256,
    sizes={"train": 40_000, "validation": 2_000, "test": 2_000},
    leaves=("attributes", "factors", "varied"),
    splits=independent_splits(_grey_split),
    options={
        "attribute_names": GREY_FACTORS,
        "factor_names": GREY_FACTORS,
        "factor_sizes": (0,) * len(GREY_FACTORS),
        "group_size": GREY_GROUP,
    },
    render=render_grey,
)
