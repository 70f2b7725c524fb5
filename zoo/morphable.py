"""The morphable head of `zoo.rendering.head` in TensorFlow, differentiable in all its coefficients.

After Blanz and Vetter, "A morphable model for the synthesis of 3D faces", 1999, with the camera and the
light of Tewari et al., "MoFA: Model-based deep convolutional face autoencoder for unsupervised
monocular reconstruction", 2017. https://arxiv.org/abs/1703.10580

Tensors of the V vertices have the batch on the last axis, `[V, ..., B]`, so that gathers of vertices
read and write whole rows.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.contract import as_count
from zoo.distributions.part import Part
from zoo.rendering import camera, light
from zoo.rendering.head import (
    ALBEDO_MODES,
    EXPRESSION_MODES,
    IDENTITY_MODES,
    LANDMARKS,
    morphable_head,
)

BLOCKS = {
    "identity": len(IDENTITY_MODES),
    "albedo": len(ALBEDO_MODES),
    "expression": len(EXPRESSION_MODES),
    "angles": 3,
    "translation": 3,
    "light": 27,
}
"""The blocks of a code, with their sizes, in order. The light has nine coefficients for each of red,
green and blue: coefficient b of channel c is at position 3 b + c."""
CODE_SIZE = sum(BLOCKS.values())
"""Number of values of a code."""
LANDMARK_SHAPE = (len(LANDMARKS), 2)
"""Shape of the landmarks of an image: column and row of each."""
AMBIENT = 0.34
"""Irradiance of the ambient light of a code of zeros."""
_SCALES: dict[str, Any] = {  # The unit of each block.
    "identity": 1.0,
    "albedo": 1.0,
    "expression": 1.0,
    "angles": 0.3,
    "translation": [0.1, 0.1, 0.25],
    "light": 0.5,
}
_UNITS, _MEAN = (
    np.concatenate(
        [np.broadcast_to(np.asarray(t.get(k, 0.0), np.float32), n) for k, n in BLOCKS.items()]
    )
    for t in (_SCALES, {"light": [AMBIENT / light.FIRST] * 3 + [0.0] * 24})
)


class Surface(NamedTuple):
    """Heads before the camera.

    Attributes:
        columns, rows: Pixel coordinates of the vertices, `[V, B]`; see `zoo.rendering.camera.project`.
        depths: Distances along the camera's axis, `[V, B]`.
        normals: Unit normals, `[V, 3, B]`.
        albedo: RGB in [0, 1], `[V, 3, B]`.
        colours: Albedo times irradiance, not clipped, `[V, 3, B]`.
        cosines: Cosine of the angle between the normal and the direction to the camera, `[V, B]`.
            Vertices with a positive one face the camera; they may be hidden by others.
    """

    columns: tf.Tensor
    rows: tf.Tensor
    depths: tf.Tensor
    normals: tf.Tensor
    albedo: tf.Tensor
    colours: tf.Tensor
    cosines: tf.Tensor


@keras.saving.register_keras_serializable("zoo")
class MorphableHead(Part):
    """Heads as functions of codes. It has no weights.

    A code `z[B, 47]` consists of `BLOCKS`. Each block is a mean plus a unit times its part of z, so
    that N(0, I) is a plausible prior: 1 for the coefficients of identity, albedo and expression, 0.3
    for the angles (radians), (0.1, 0.1, 0.25) for the translation, and 0.5 for the light, whose mean
    is ambient.

    Args:
        size: Side S of the images in pixels, at least 8.
        latitudes, longitudes: Size of the mesh, as for `zoo.rendering.head.sphere`.

    Attributes:
        count: Number of vertices, V.

    Raises:
        ValueError: If a size is too small, or `longitudes` is odd.

    Example:
        >>> head = zoo.morphable.MorphableHead(32)
        >>> head.render(tf.zeros([2, 47])).shape
        TensorShape([2, 32, 32, 3])
    """

    def __init__(self, size: int, latitudes: int = 24, longitudes: int = 32, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = as_count(size, "size", 8)
        self.latitudes = as_count(latitudes, "latitudes", 3)
        self.longitudes = as_count(longitudes, "longitudes", 4)
        if self.longitudes % 2:
            raise ValueError(
                f"`longitudes` must be even, for a symmetric mesh. Received: {longitudes}."
            )
        head = morphable_head(self.latitudes, self.longitudes)
        self._head = head
        self.count = len(head.directions)
        modes = np.concatenate([head.identity, head.expression])
        self._modes = modes.reshape(len(modes), -1).T.astype(np.float32)  # [V * 3, 10]
        albedo = head.albedo_modes.reshape(len(head.albedo_modes), -1)
        self._albedo_modes = albedo.T.astype(np.float32)
        self._around, self._at_poles = _incident(head.triangles, self.count)

    @property
    def triangles(self) -> np.ndarray:
        """The vertices of each triangle, counterclockwise from outside, `[T, 3]`."""
        return self._head.triangles

    def parts(self, z: tf.Tensor) -> dict[str, tf.Tensor]:
        """The coefficients of codes `z[B, 47]`, by block: `[B, n]`; the light is `[B, 9, 3]`."""
        z = tf.cast(z, tf.float32)
        blocks = tf.split(_MEAN + _UNITS * z, list(BLOCKS.values()), -1)
        parts = dict(zip(BLOCKS, blocks, strict=True))
        return parts | {"light": tf.reshape(parts["light"], [-1, 9, 3])}

    def code(self, **parts: Any) -> tf.Tensor:
        """The inverse of `parts`: the codes `[B, 47]` of coefficients by block.

        Raises:
            ValueError: If the blocks are not those of `BLOCKS`, or have other shapes than those of
                `parts`.
        """
        if parts.keys() != BLOCKS.keys():
            raise ValueError(
                f"A code has the blocks {', '.join(BLOCKS)}. Received: {', '.join(parts) or 'none'}."
            )
        flat = []
        for name, n in BLOCKS.items():
            values = tf.cast(parts[name], tf.float32)
            shape = (9, 3) if name == "light" else (n,)
            if not values.shape.is_compatible_with([None, *shape]):
                raise ValueError(
                    f"The block '{name}' has the shape [B, {', '.join(map(str, shape))}]. "
                    f"Received: shape {values.shape}."
                )
            flat.append(tf.reshape(values, [-1, n]))
        return (tf.concat(flat, -1) - _MEAN) / _UNITS

    def surface(self, parts: dict[str, tf.Tensor]) -> Surface:
        """Heads with the coefficients `parts`: see `MorphableHead.parts`."""
        points = self.vertices(parts["identity"], parts["expression"])
        points = _posed(points, parts["angles"], parts["translation"])
        normals = self._normals(points)
        albedo = self._combined(self._head.albedo, self._albedo_modes, parts["albedo"])
        albedo = tf.clip_by_value(albedo, 0.0, 1.0)
        colours = albedo * irradiance(normals, parts["light"])
        x, y, z = tf.unstack(points, axis=1)
        depths = camera.DISTANCE - z
        half = self.size / 2
        columns = (camera.FOCAL * x / depths + 1) * half - 0.5
        rows = (1 - camera.FOCAL * y / depths) * half - 0.5
        nx, ny, nz = tf.unstack(normals, axis=1)
        cosines = (depths * nz - x * nx - y * ny) / tf.sqrt(depths**2 + x**2 + y**2)
        return Surface(columns, rows, depths, normals, albedo, colours, cosines)

    def vertices(self, identity: tf.Tensor, expression: tf.Tensor) -> tf.Tensor:
        """The vertices of heads before their pose, `[V, 3, B]`."""
        coefficients = tf.concat([identity, expression], -1)
        return self._combined(self._head.shape, self._modes, coefficients)

    def landmarks(self, surface: Surface) -> tf.Tensor:
        """Pixel coordinates (column, row) of the landmarks, also of hidden ones: `[B, 8, 2]`."""
        at = self._head.landmarks
        places = [tf.gather(surface.columns, at), tf.gather(surface.rows, at)]
        return tf.transpose(tf.stack(places), [2, 1, 0])

    def render(
        self, z: tf.Tensor, background: tf.Tensor | float = 0.5, shown: str = "colours"
    ) -> tf.Tensor:
        """Images of heads, clipped to [0, 1]: `[B, S, S, 3]`. They have no gradient.

        Args:
            z: Codes `[B, 47]`.
            background: Images `[B, S, S, 3]`, or one value.
            shown: "colours"; "albedo"; or "geometry", grey heads under a fixed light.

        Raises:
            ValueError: If `shown` is none of these.
        """
        surface = self.surface(self.parts(z))
        if shown == "colours":
            values = surface.colours
        elif shown == "albedo":
            values = surface.albedo
        elif shown == "geometry":
            # A light at the upper left of the camera.
            towards = light.direction(np.array([-0.4]), np.array([0.4]))
            gamma = light.distant(towards, np.array([0.6]), np.array([0.15]))[..., None]
            gamma = tf.constant(np.repeat(gamma, 3, -1), tf.float32)
            values = 0.9 * irradiance(surface.normals, tf.repeat(gamma, tf.shape(z)[0], 0))
        else:
            raise ValueError(f"`shown` is 'colours', 'albedo' or 'geometry'. Received: {shown!r}.")
        images, covered = self._painted(surface, tf.stop_gradient(values))
        background = tf.cast(background, tf.float32)
        images = tf.where(covered[..., None], tf.stop_gradient(images), background)
        return tf.clip_by_value(images, 0.0, 1.0)

    def masks(self, z: tf.Tensor) -> tf.Tensor:
        """Whether pixels show the head: bool `[B, S, S]`."""
        surface = self.surface(self.parts(z))
        return self._painted(surface, surface.albedo)[1]

    def _combined(self, mean, modes, coefficients):
        """mean + sum_k c_k mode_k, `[V, 3, B]`."""
        offsets = tf.matmul(modes, coefficients, transpose_b=True)
        return tf.reshape(mean.reshape(-1, 1).astype(np.float32) + offsets, [self.count, 3, -1])

    def _normals(self, points):
        a, b, c = (tf.gather(points, self.triangles[:, k]) for k in range(3))
        faces = tf.pad(_cross(b - a, c - a), [[0, 1], [0, 0], [0, 0]])  # The last one is 0.
        near = tf.reduce_sum(tf.gather(faces, self._around), 1)
        poles = tf.reduce_sum(tf.gather(faces, self._at_poles), 1)
        normals = tf.concat([near, poles], 0)
        return normals / tf.sqrt(tf.reduce_sum(normals**2, 1, keepdims=True))

    def _painted(self, surface, values):
        """Values of vertices `[V, C, B]` at pixels, `[B, S, S, C]`, and the covered pixels."""
        each = (
            tf.transpose(surface.columns),
            tf.transpose(surface.rows),
            1 / tf.transpose(surface.depths),
            tf.transpose(values, [2, 0, 1]),
        )
        spec = tf.TensorSpec([self.size, self.size, values.shape[1]], tf.float32)
        covered = tf.TensorSpec([self.size, self.size], tf.bool)
        return tf.map_fn(
            lambda head: self._painted_one(*head),
            each,
            parallel_iterations=1,  # One image needs about 100 MB at 48 pixels.
            fn_output_signature=(spec, covered),
        )

    def _painted_one(self, columns, rows, nearness, values):
        """Finds the nearest triangle at each pixel centre of one image, as `raster.rasterize` does.

        Within a triangle, the products of the edges and the inverse depth are affine functions of the
        pixel, so that a matrix product evaluates the functions of all triangles at all pixels.
        """
        x, y = (tf.unstack(tf.gather(t, self.triangles), axis=-1) for t in (columns, rows))
        near = tf.gather(nearness, self.triangles)  # [T, 3]
        area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
        edges = [
            tf.stack([y[j] - y[k], x[k] - x[j], x[j] * y[k] - x[k] * y[j]], -1)
            for j, k in ((1, 2), (2, 0), (0, 1))
        ]  # [T, 3] each: the factors of the column and of the row, and the constant.
        safe = tf.where(area < 0, area, -1.0)
        depth = sum(e * (near[:, k] / safe)[:, None] for k, e in enumerate(edges))
        place = np.arange(self.size, dtype=np.float32)
        pixels = np.stack([*np.meshgrid(place, place), np.ones([self.size] * 2, np.float32)], -1)
        pixels = pixels.reshape(-1, 3)
        at = [tf.matmul(pixels, e, transpose_b=True) for e in (*edges, depth)]  # [S^2, T]
        inside = (at[0] <= 0) & (at[1] <= 0) & (at[2] <= 0) & (area < 0)
        nearest = tf.argmax(tf.where(inside, at[3], 0.0), -1)
        weights = tf.stack([tf.gather(e, nearest, axis=1, batch_dims=1) for e in at[:3]], -1)
        weights *= tf.gather(near, nearest)
        weights /= tf.reduce_sum(weights, -1, keepdims=True)
        corners = tf.gather(values, tf.gather(tf.constant(self.triangles), nearest))
        image = tf.reduce_sum(weights[..., None] * corners, 1)
        covered = tf.reduce_any(inside, -1)
        shape = [self.size, self.size]
        return tf.reshape(image, [*shape, values.shape[-1]]), tf.reshape(covered, shape)


def irradiance(normals: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
    """`zoo.rendering.light.irradiance` in TensorFlow.

    Args:
        normals: Unit vectors `[V, 3, B]`.
        gamma: Coefficients `[B, 9, C]`.

    Returns:
        `[V, C, B]`.
    """
    x, y, z = tf.unstack(normals, axis=1)
    harmonics = light.of_coordinates(x, y, z, tf.ones_like(x))
    gamma = tf.transpose(gamma, [1, 2, 0])
    return sum(h[:, None] * gamma[b] for b, h in enumerate(harmonics))


def distant_light(
    azimuth: tf.Tensor, elevation: tf.Tensor, strength: float, ambient: float
) -> tf.Tensor:
    """`zoo.rendering.light.distant` of angles `[N]` in TensorFlow: coefficients `[N, 9]`."""
    x, z = (f(azimuth) * tf.cos(elevation) for f in (tf.sin, tf.cos))
    bands = light.bands(x, tf.sin(elevation), z, tf.ones_like(x))
    gamma = np.pi * strength * tf.stack(bands, -1)
    return gamma + np.array([ambient / light.FIRST] + [0.0] * 8, np.float32)


def sampled(images: tf.Tensor, columns: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Values of images between pixel centres, by bilinear interpolation.

    Places outside the image have the value of the nearest place within it. The coordinate that is
    outside has no gradient. Places that are NaN have NaN values.

    Args:
        images: `[B, S, S, C]`.
        columns, rows: Pixel coordinates `[V, B]`; the centre of pixel (0, 0) has the coordinates 0.

    Returns:
        `[V, C, B]`.
    """
    size, channels = images.shape[1], images.shape[-1]
    column, row = (tf.clip_by_value(t, 0.0, size - 1.0) for t in (columns, rows))
    left, top = (tf.minimum(tf.floor(t), size - 2.0) for t in (column, row))
    # NaN is no index.
    left, top = (tf.where(tf.math.is_nan(t), 0.0, t) for t in (left, top))
    right_share, lower_share = column - left, row - top
    first = tf.range(tf.shape(images)[0]) * (size * size)
    corner = first + tf.cast(top, tf.int32) * size + tf.cast(left, tf.int32)
    places = tf.stack([corner, corner + 1, corner + size, corner + size + 1])
    values = tf.gather(tf.reshape(images, [-1, channels]), places)  # [4, V, B, C]
    values = tf.transpose(values, [0, 1, 3, 2])
    upper = values[0] + right_share[:, None] * (values[1] - values[0])
    lower = values[2] + right_share[:, None] * (values[3] - values[2])
    return upper + lower_share[:, None] * (lower - upper)


def rotation(angles: tf.Tensor) -> list[list[tf.Tensor]]:
    """`zoo.rendering.camera.rotation` of angles `[B, 3]`: nine entries `[B]`, by row and column."""
    sy, sp, sr = tf.unstack(tf.sin(angles), axis=-1)
    cy, cp, cr = tf.unstack(tf.cos(angles), axis=-1)
    return camera.entries((sy, cy), (sp, cp), (sr, cr))


def _posed(points, angles, translation):
    x, y, z = tf.unstack(points, axis=1)
    shift = tf.unstack(translation, axis=-1)
    rows = rotation(angles)
    return tf.stack(
        [r[0] * x + r[1] * y + r[2] * z + t for r, t in zip(rows, shift, strict=True)], 1
    )


def _cross(u, v):
    (ux, uy, uz), (vx, vy, vz) = tf.unstack(u, axis=1), tf.unstack(v, axis=1)
    return tf.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx], 1)


def _incident(triangles, count):
    """The triangles at each vertex: `[V - 2, n]` and, for the two poles, which come last, `[2, m]`.

    Vertices with fewer triangles than others have the index T instead.
    """
    lists: list[list[int]] = [[] for _ in range(count)]
    for face, corners in enumerate(triangles):
        for vertex in corners:
            lists[vertex].append(face)

    def padded(rows):
        longest = max(map(len, rows))
        return np.array([row + [len(triangles)] * (longest - len(row)) for row in rows])

    return padded(lists[:-2]), padded(lists[-2:])
