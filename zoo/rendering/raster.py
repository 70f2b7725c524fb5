"""A rasteriser with a depth buffer, for triangle meshes of one topology."""

from typing import NamedTuple

import numpy as np


class Fragments(NamedTuple):
    """The visible surface, one row per covered pixel of a batch of images.

    Attributes:
        pixels: Index of the pixel in the flattened batch `[B, S, S]`, ascending, int64 `[P]`.
        vertices: Indices of the triangle's vertices in the flattened `[B, V]`, int64 `[P, 3]`.
        weights: Weights of the vertices, corrected for perspective, with sum 1, float64 `[P, 3]`.
    """

    pixels: np.ndarray
    vertices: np.ndarray
    weights: np.ndarray


def incidence(triangles: np.ndarray, vertices: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The triangles at each vertex, as pairs (vertices `[n]`, one triangle of each `[n]`).

    A sum over the triangles of a vertex is a loop over the pairs, in a fixed order.
    """
    order = np.argsort(triangles.ravel(), kind="stable")
    at, face = triangles.ravel()[order], order // 3
    rank = np.arange(len(at)) - np.searchsorted(at, at)
    degree = np.bincount(triangles.ravel(), minlength=vertices).max()
    return [(at[rank == k], face[rank == k]) for k in range(degree)]


def vertex_normals(
    points: np.ndarray, triangles: np.ndarray, incident: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Unit normals at vertices: means of the triangles' normals, weighted by area.

    Args:
        points: `[B, V, 3]`.
        triangles: Vertices of each triangle, counterclockwise from outside, `[T, 3]`.
        incident: `incidence(triangles, V)`.

    Returns:
        float64 `[B, V, 3]`.
    """
    # Coordinates come first, so that the operations run over long contiguous rows.
    points = np.ascontiguousarray(np.moveaxis(points, -1, 0))
    a, b, c = (points[..., triangles[:, k]] for k in range(3))
    (ux, uy, uz), (vx, vy, vz) = b - a, c - a
    faces = np.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx])
    normals = np.zeros_like(points)
    for at, face in incident:
        normals[..., at] += faces[..., face]
    x, y, z = normals
    return np.moveaxis(normals / np.sqrt(x * x + y * y + z * z), 0, -1)


def rasterize(screen: np.ndarray, depth: np.ndarray, triangles: np.ndarray, size: int) -> Fragments:
    """Finds the triangle that is visible at the centre of each pixel.

    Triangles that face away are left out. A pixel centre on an edge belongs to both triangles. If
    two triangles have equal depth, the one that comes first in `triangles` is visible.

    Args:
        screen: Pixel coordinates (column, row) of the vertices, `[B, V, 2]`.
        depth: Depth of the vertices along the camera's axis, above 0, `[B, V]`.
        triangles: Vertices of each triangle, counterclockwise from outside, `[T, 3]`.
        size: Side S of the image in pixels.
    """
    column, row = (np.ascontiguousarray(screen[..., i])[:, triangles.T] for i in range(2))
    (x0, x1, x2), (y0, y1, y2) = np.moveaxis(column, 1, 0), np.moveaxis(row, 1, 0)
    # Rows count downwards, so the area of triangles that face the camera is negative.
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    left = np.ceil(np.maximum(np.minimum(np.minimum(x0, x1), x2), 0))
    right = np.floor(np.minimum(np.maximum(np.maximum(x0, x1), x2), size - 1))
    top = np.ceil(np.maximum(np.minimum(np.minimum(y0, y1), y2), 0))
    bottom = np.floor(np.minimum(np.maximum(np.maximum(y0, y1), y2), size - 1))
    image, triangle = np.nonzero((area < 0) & (left <= right) & (top <= bottom))
    chosen = image, triangle
    left, top = left[chosen].astype(np.int64), top[chosen].astype(np.int64)
    width = right[chosen].astype(np.int64) - left + 1
    count = width * (bottom[chosen].astype(np.int64) - top + 1)
    # One candidate for each pixel centre in the bounding box of each triangle.
    box = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(box)) - np.repeat(np.cumsum(count) - count, count)
    px, py = left[box] + place % width[box], top[box] + place // width[box]
    dx = [x[chosen][box] - px for x in (x0, x1, x2)]
    dy = [y[chosen][box] - py for y in (y0, y1, y2)]
    edges = [dx[j] * dy[k] - dx[k] * dy[j] for j, k in ((1, 2), (2, 0), (0, 1))]
    inside = np.flatnonzero((edges[0] <= 0) & (edges[1] <= 0) & (edges[2] <= 0))
    box = box[inside]
    image, vertices = image[box], triangles[triangle[box]]
    vertices = vertices + (image * depth.shape[1])[:, None]
    nearness = 1 / depth.ravel()[vertices]
    weights = np.stack([edge[inside] for edge in edges], -1) / area[chosen][box][:, None]
    weights = weights * nearness
    total = weights[:, 0] + weights[:, 1] + weights[:, 2]
    pixels = (image * size + py[inside]) * size + px[inside]
    order = np.lexsort((-total, pixels))  # Stable, so triangles of equal depth keep their order.
    first = np.ones(len(order), bool)
    first[1:] = pixels[order[1:]] != pixels[order[:-1]]
    order = order[first]
    return Fragments(pixels[order], vertices[order], weights[order] / total[order][:, None])


def paint(fragments: Fragments, values: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Interpolates values of vertices over the visible surface, on a background.

    Args:
        fragments: Of `rasterize`.
        values: `[B, V, C]`.
        background: `[B, S, S, C]`.

    Returns:
        float64 `[B, S, S, C]`.
    """
    flat = values.reshape(-1, values.shape[-1])
    image = background.astype(np.float64).reshape(-1, values.shape[-1])
    terms = [flat[fragments.vertices[:, k]] * fragments.weights[:, k : k + 1] for k in range(3)]
    image[fragments.pixels] = terms[0] + terms[1] + terms[2]
    return image.reshape(background.shape)
