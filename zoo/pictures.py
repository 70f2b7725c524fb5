"""Pictures of images, latents and histories, written as PNG files.

Grids of images are exact: images are upscaled by whole numbers, so each pixel is a square. Each
chart is a new `matplotlib.figure.Figure`. Without pyplot there is no shared state, so charts can be
drawn from any thread and without a display.

An image of other than one or three channels is a video of grey frames. It is drawn as a film strip, the
first frame on the left; `animation` writes a GIF file.

Every file is written atomically and replaces an older file of the same name.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from zoo import conditions, resizing
from zoo.contract import check_counts
from zoo.files import replacing
from zoo.model import GenerativeModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib and scikit-learn are imported where they are used: most programs draw no chart.

_TILE = 48  # smallest height of a tile, in pixels of the picture
_FRAME = 32  # the same of a frame in a film strip
_PADDING = 2
_GAP = 10  # between groups of tiles
_DPI = 130
_TRAIN = {"color": "tab:blue", "linestyle": "-"}
_VALIDATION = {"color": "tab:orange", "linestyle": "--"}
_BEYOND: dict[str, Any] = {
    "marker": "^",
    "linestyle": "none",
    "markersize": 5,
    "markeredgewidth": 0,
}


# Files ----------------------------------------------------------------------------------------


def save(path: str | os.PathLike, array: np.ndarray) -> None:
    """Writes uint8 `array[H, W, 3]` as a PNG file. Creates the folder if needed.

    Raises:
        ValueError: If `array` has another type or shape, or the path does not end in ".png".
    """
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError(
            "Expected the pixels of a picture, uint8 of shape [H, W, 3]. "
            f"Received: {array.dtype.name} of shape {array.shape}."
        )
    with _replacing(path) as file:
        Image.fromarray(array).save(file, format="png")


def _save_figure(path, figure: "Figure") -> None:
    with _replacing(path) as file:
        figure.savefig(file, format="png", dpi=_DPI)


@contextlib.contextmanager
def _replacing(path, suffix=".png") -> Iterator[IO[bytes]]:
    """Opens a temporary file, which replaces `path` if the block ends without an error."""
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise ValueError(f"The path of a picture must end in {suffix}. Received: '{path}'.")
    with replacing(path) as partial, open(partial, "wb") as file:
        yield file


# Images ---------------------------------------------------------------------------------------


def grid(images: npt.ArrayLike, columns: int | None = None, padding: int = _PADDING) -> np.ndarray:
    """Arranges images in a grid, row by row, with white space between them.

    Args:
        images: `[N, H, W, C]`, floats in [0, 1], grey (C = 1), colour (C = 3), or videos.
        columns: Number of images in a row. `None` is the square root of N, rounded up.
        padding: Space between two images, in pixels of the picture.

    Returns:
        uint8 `[H', W', 3]`. Images are upscaled by the smallest whole number that makes them at
        least 48 pixels high, frames of videos 32. The rest of the last row is white.

    Raises:
        ValueError: If `images` have another shape, type or range.
    """
    tiles = _tiles(images)
    columns = math.ceil(math.sqrt(len(tiles))) if columns is None else columns
    check_counts(columns=columns)
    check_counts(0, padding=padding)
    return _sheet(_in_rows(tiles, columns), padding, padding)


def check_path(path: str | os.PathLike, image_shape: Sequence[int]) -> None:
    """Raises a `ValueError` if `write_images` cannot write images of this shape to the path."""
    if Path(path).suffix.lower() == ".gif" and image_shape[-1] in (1, 3):
        raise ValueError(
            "A .gif file shows videos, whose frames are the channels of images. Choose .png. "
            f"Received: '{path}' for images of shape {tuple(image_shape)}."
        )


def write_images(images: npt.ArrayLike, path: str | os.PathLike) -> None:
    """Writes images in the format that the suffix of the path names.

    Args:
        images: `[N, H, W, C]`, floats in [0, 1].
        path: ".png" for one grid, ".gif" for an animated grid of videos, ".npy" for the array in
            float32, any other suffix for a folder. In a folder each image is a PNG file of the
            image's size: 00000.png and so on. Older files with such names are removed; other files
            stay.

    Raises:
        ValueError: If the images are not floats in [0, 1], or a ".gif" file is to show other images
            than videos.
    """
    path = Path(path)
    check_path(path, np.shape(images)[1:])
    if path.suffix.lower() == ".gif":
        animation(images, path)
    elif path.suffix.lower() == ".png":
        save(path, grid(images))
    elif path.suffix.lower() == ".npy":
        with replacing(path) as partial, open(partial, "wb") as file:
            np.save(file, np.asarray(images, np.float32), allow_pickle=False)
    else:
        pixels = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)
        if pixels.shape[-1] not in (1, 3):
            pixels = np.concatenate(np.split(pixels, pixels.shape[-1], -1), 2)
        pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
        for old in path.glob("*.png"):
            if old.is_file() and re.fullmatch("[0-9]{5}|[1-9][0-9]{5,}", old.stem):
                old.unlink()
        for i, image in enumerate(pixels):
            save(path / f"{i:05}.png", image)


def animation(
    videos: npt.ArrayLike,
    path: str | os.PathLike,
    columns: int | None = None,
    channels: int = 1,
    milliseconds: int = 250,
) -> None:
    """Writes videos as an animated grid, a GIF file that repeats. The last frame stays longer.

    Args:
        videos: `[N, H, W, T C]`, floats in [0, 1], the channels of the first frame first.
        path: The file to write; it must end in ".gif".
        columns: As for `grid`.
        channels: C, the number of channels of a frame, 1 or 3.
        milliseconds: The time of a frame.

    Raises:
        ValueError: If the videos have another shape, type or range, or the path another suffix.
    """
    videos = np.asarray(videos)
    if videos.ndim != 4 or channels not in (1, 3) or videos.shape[-1] % channels:
        raise ValueError(
            "Expected videos [N, H, W, T C] with frames of C = 1 or 3 channels. "
            f"Received: an array of shape {videos.shape} for channels={channels}."
        )
    frames = np.split(videos, videos.shape[-1] // channels, -1)
    first, *others = (Image.fromarray(grid(frame, columns)) for frame in frames)
    times = [milliseconds] * len(others) + [4 * milliseconds]
    with _replacing(path, ".gif") as file:
        first.save(file, format="gif", save_all=True, append_images=others, duration=times, loop=0)


def extensions(
    x: npt.ArrayLike,
    extended: npt.ArrayLike,
    seen: int,
    path: str | os.PathLike,
    channels: int = 1,
) -> None:
    """Draws two rows for each video: its frames, and the seen frames with their continuation.

    A gap separates the seen frames from the others.

    Args:
        x: Videos `[N, H, W, T C]`, floats in [0, 1].
        extended: The videos after `GenerativeModel.extend` of the seen frames, of the same shape.
        seen: Number of seen frames, from 1 to T - 1.
        path: The file to write.
        channels: C, the number of channels of a frame, 1 or 3.

    Raises:
        ValueError: If the arrays are not videos of the same shape with more than `seen` frames.
    """
    x, extended = np.asarray(x), np.asarray(extended)
    frames = x.shape[-1] // channels
    if x.shape != extended.shape or x.ndim != 4 or not 0 < seen < frames:
        raise ValueError(
            f"Expected videos [N, H, W, T C] of the same shape, with more than {seen} frame(s). "
            f"Received: shapes {x.shape} and {extended.shape} for channels={channels}."
        )
    pairs = np.stack([x, extended], 1).reshape(-1, *x.shape[1:])
    tiles = np.stack([_tiles(frame) for frame in np.split(pairs, frames, -1)], 1)
    row_gaps = [_GAP if row % 2 else _PADDING for row in range(len(tiles) - 1)]
    column_gaps = [_GAP if column == seen else _PADDING for column in range(1, frames)]
    save(path, _sheet(tiles, row_gaps, column_gaps))


def samples(
    model: GenerativeModel,
    latents: npt.ArrayLike,
    path: str | os.PathLike,
    columns: int = 10,
    y: npt.ArrayLike | None = None,
) -> None:
    """Draws a grid of the decoded `latents[N, D]`.

    With the same latents after each epoch, the pictures show how each image develops.

    Args:
        model: Any model of the zoo.
        latents: `[N, D]`, such as draws of the prior.
        path: The file to write.
        columns: Largest number of images in a row.
        y: A condition for each latent, if the model takes one. If it is the same in each row, and is
            the seen part of an image (`[N, H, W, C]`, -1 elsewhere) or a small image, it is drawn left
            of the row, with hidden values in grey.

    Raises:
        ValueError: If the latents are not `[N, D]`, or decoded images are not finite.
    """
    latents = _latents(model, latents)
    columns = min(columns, len(latents))
    images = _decoded(model, latents, y)
    rows_of_y = np.zeros([0]) if y is None else np.asarray(y)
    heads = rows_of_y[::columns]
    if y is not None and (factor := conditions.factor(model)) is not None:
        heads, rows_of_y = (resizing.nearest(part, factor).numpy() for part in (heads, rows_of_y))
    if heads.shape[1:] != images.shape[1:] or not np.array_equal(
        heads.repeat(columns, 0)[: len(images)], rows_of_y
    ):
        save(path, grid(images, columns))
        return
    seen = _tiles(np.where(heads < 0, 0.5, heads).astype(np.float32))
    rows = np.concatenate([seen[:, None], _in_rows(_tiles(images), columns)], 1)
    save(path, _sheet(rows, _PADDING, [_GAP, *[_PADDING] * (columns - 1)]))


def reconstructions(
    model: GenerativeModel,
    x: npt.ArrayLike,
    path: str | os.PathLike,
    y: npt.ArrayLike | None = None,
) -> None:
    """Draws rows of ten images of `x[N, H, W, C]`, each above the row of their reconstructions.

    Raises:
        ValueError: If `x` are not images in [0, 1] of the model's shape.
        NotImplementedError: If the model cannot encode.
    """
    x = np.asarray(x)
    model.check_images(x)
    pairs = [_tiles(x), _tiles(np.asarray(model.reconstruct(x, y)))]
    columns = min(10, len(x))
    # [rows, 2, columns, ...]: an input row, its reconstructions, the next input row.
    tiles = np.stack([_in_rows(part, columns) for part in pairs], axis=1)
    tiles = tiles.reshape(-1, *tiles.shape[2:])
    row_gaps = [_GAP if row % 2 else _PADDING for row in range(len(tiles) - 1)]
    save(path, _sheet(tiles, row_gaps, _PADDING))


def enlargements(
    small: npt.ArrayLike,
    images: npt.ArrayLike,
    path: str | os.PathLike,
    truth: npt.ArrayLike | None = None,
) -> None:
    """Draws a row for each small image: itself, its bicubic enlargement, a gap, larger images, a gap,
    and the true image.

    Args:
        small: Small images `[B, h, w, C]` in [0, 1].
        images: n larger images of each, such as those of `zoo.inference.super_resolve`, `[n, B, H, W,
            C]` in [0, 1].
        path: The file to write.
        truth: The true images `[B, H, W, C]`, or `None`.

    Raises:
        ValueError: If the shapes do not fit, or a value is out of range.
    """
    images = np.asarray(images)
    if images.ndim != 5:
        raise ValueError(
            f"Expected larger images of shape [n, B, H, W, C]. Received: shape {images.shape}."
        )
    small = np.asarray(small, np.float32)
    factor = resizing.factor_between(images.shape[2:], small.shape[1:])
    columns = [resizing.nearest(small, factor), resizing.bicubic(small, factor), *images]
    gaps = [_PADDING, _GAP, *[_PADDING] * (len(images) - 1)]
    if truth is not None:
        columns, gaps = [*columns, truth], [*gaps, _GAP]
    save(path, _sheet(np.stack([_tiles(column) for column in columns], 1), _PADDING, gaps))


def categories(
    images: npt.ArrayLike, members: Sequence, path: str | os.PathLike, columns: int = 10
) -> None:
    """Draws a row for each category: the category's own image, a gap, and images in the category.

    The layout is that of figure 9 of Makhzani et al., "Adversarial Autoencoders", 2016, with the
    cluster head first.

    Args:
        images: The categories' own images, `[K, H, W, C]`, floats in [0, 1].
        members: For each category, images `[M, H, W, C]`, M >= 0. The first `columns` are drawn.
        path: The file to write.
        columns: Largest number of members in a row, at least 1.

    Raises:
        ValueError: If `images` or `members` are not images in [0, 1], or have different numbers of
            categories.
    """
    images = np.asarray(images)
    members = [np.asarray(m)[:columns] for m in members]
    shapes = [m.shape[1:] for m in members]
    if columns < 1 or len(members) != len(images) or set(shapes) != {images.shape[1:]}:
        raise ValueError(
            f"Expected images of shape {images.shape[1:]} for each of {len(images)} categories, "
            f"and columns >= 1. Received: images of the shapes {shapes}, "
            f"columns={columns}."
        )
    own = _tiles(images)
    rows = np.full((len(own), columns + 1, *own.shape[1:]), 255, np.uint8)
    rows[:, 0] = own
    for row, some in zip(rows, members, strict=True):
        if len(some):
            row[1 : len(some) + 1] = _tiles(some)
    save(path, _sheet(rows, _PADDING, [_GAP, *[_PADDING] * (columns - 1)]))


def nearest_neighbours(
    samples: npt.ArrayLike, neighbours: npt.ArrayLike, path: str | os.PathLike
) -> None:
    """Draws a row for each sample: the sample, a gap, and its nearest training images.

    Args:
        samples: `[N, H, W, C]`, floats in [0, 1].
        neighbours: `[N, k, H, W, C]`, for each sample the nearest image, the second nearest, and so
            on; see `zoo.metrics.nearest_neighbours`.
        path: The file to write.

    Raises:
        ValueError: If `samples` or `neighbours` are not images in [0, 1] of these shapes.
    """
    samples, neighbours = np.asarray(samples), np.asarray(neighbours)
    shape = neighbours.shape
    if len(shape) != 5 or not shape[1] or samples.shape != (shape[0], *shape[2:]):
        raise ValueError(
            "Expected samples [N, H, W, C] and their neighbours [N, k, H, W, C], k at least 1. "
            f"Received: shapes {samples.shape} and {shape}."
        )
    rows = np.concatenate([samples[:, None], neighbours], axis=1)
    tiles = _in_rows(_tiles(rows.reshape(-1, *samples.shape[1:])), rows.shape[1])
    save(path, _sheet(tiles, _PADDING, [_GAP, *[_PADDING] * (rows.shape[1] - 2)]))


def queries(x: npt.ArrayLike, samples: Sequence[npt.ArrayLike], path: str | os.PathLike) -> None:
    """Draws a row for each condition: an image that has it, and samples of one or several models.

    The row is a query by attributes, as in section 4.2 of Larsen et al., "Autoencoding beyond pixels
    using a learned similarity metric", 2016. Gaps separate the image and the models.

    Args:
        x: Images with the conditions, `[N, H, W, C]`, floats in [0, 1].
        samples: For each model its samples `[N, K, H, W, C]` with these conditions, K at least 1.
        path: The file to write.

    Raises:
        ValueError: If `x` or `samples` are not images in [0, 1] of these shapes.
    """
    x, groups = np.asarray(x), [np.asarray(s) for s in samples]
    shapes = [s.shape for s in groups]
    if not shapes or any(len(s) != 5 or not s[1] or (s[0], *s[2:]) != x.shape for s in shapes):
        raise ValueError(
            "Expected images [N, H, W, C] and, for each model, samples [N, K, H, W, C], K at least 1. "
            f"Received: shapes {x.shape} and {shapes}."
        )
    rows = np.concatenate([x[:, None], *groups], axis=1)
    tiles = _in_rows(_tiles(rows.reshape(-1, *x.shape[1:])), rows.shape[1])
    gaps = [gap for s in shapes for gap in (_GAP, *[_PADDING] * (s[1] - 1))]
    save(path, _sheet(tiles, _PADDING, gaps))


def interpolations(
    ends: Sequence[tuple],
    model: GenerativeModel,
    path: str | os.PathLike,
    n: int = 10,
    y: npt.ArrayLike | None = None,
) -> None:
    """Draws paths between pairs of latents or images, as rows of `n` decoded images.

    A pair of latents has two rows: the straight line, and below it the arc (see
    `GenerativeModel.interpolate`). A pair of images has one row: the line between their codes. The
    images themselves are at both ends, separated by a gap.

    Args:
        ends: Pairs `(a, b)`, all of latents `[D]` or all of images `[H, W, C]` in [0, 1].
        model: Any model of the zoo. For images, the model must be able to encode.
        path: The file to write.
        n: Number of images in a row, including the decoded ends, at least 2.
        y: A condition for each pair, `[len(ends), ...]`, or one for all, if the model takes one; or
            a dict of annotations for each pair.

    Raises:
        ValueError: If the ends are neither all latents nor all images of the model.
        NotImplementedError: If the ends are images and the model cannot encode.
    """
    ends = [(np.asarray(a), np.asarray(b)) for a, b in ends]
    ranks = {end.ndim for pair in ends for end in pair}
    if len(ranks) != 1 or not ranks <= {1, 3}:
        raise ValueError(
            "Expected pairs of ends, all of them latents [D] or all of them images [H, W, C]. "
            f"Received: shapes {[(a.shape, b.shape) for a, b in ends]}."
        )
    conditions: Sequence[Any] = [y] * len(ends)
    if isinstance(y, Mapping):
        conditions = [{name: v[i] for name, v in y.items()} for i in range(len(ends))]
    elif y is not None and model.condition is not None:
        y = np.asarray(y)
        conditions = list(y) if y.ndim == model.condition.shape.rank else conditions
        if len(conditions) != len(ends):
            raise ValueError(
                "Expected a condition for each pair of ends, or one for all. "
                f"Received: {len(conditions)} for {len(ends)} pairs."
            )
    if ranks == {1}:
        for end in (end for pair in ends for end in pair):
            _latents(model, end[None])
        tiles = [
            _tiles(np.asarray(model.interpolate(a, b, n, spherical, c)))
            for (a, b), c in zip(ends, conditions, strict=True)
            for spherical in (False, True)
        ]
        row_gaps = [_GAP if row % 2 else _PADDING for row in range(len(tiles) - 1)]
        column_gaps = [_PADDING] * (n - 1)
    else:
        for end in (end for pair in ends for end in pair):
            model.check_images(end[None])
        tiles = [
            _tiles(np.concatenate([a[None], np.asarray(model.interpolate(a, b, n, y=c)), b[None]]))
            for (a, b), c in zip(ends, conditions, strict=True)
        ]
        row_gaps = [_PADDING] * (len(tiles) - 1)
        column_gaps = [_GAP, *[_PADDING] * (n - 1), _GAP]
    save(path, _sheet(np.stack(tiles), row_gaps, column_gaps))


def traversal(
    model: GenerativeModel,
    path: str | os.PathLike,
    centre: npt.ArrayLike | None = None,
    dims: int | Sequence[int] = 8,
    span: float = 3,
    n: int = 10,
    y: npt.ArrayLike | None = None,
) -> None:
    """Draws a row for each latent dimension, as it varies from `-span` to `span`.

    The other dimensions stay at the centre.

    Args:
        model: Any model of the zoo.
        path: The file to write.
        centre: A latent `[D]`, or an image `[H, W, C]` if the model can encode. `None` is the
            origin.
        dims: Number of dimensions, counted from the first, or a list of indices.
        span: Distance from the centre, in units of the latents: 3 suits a standard normal prior, 1
            suits a uniform prior.
        n: Number of images in a row, at least 2.
        y: A condition for all images, if the model takes one.

    Raises:
        ValueError: If `centre` has another shape, or a dimension does not exist.
    """
    size = model.latent_dim
    dims = list(range(min(dims, size)) if isinstance(dims, int) else dims)
    check_counts(n=n)
    if not dims or not all(0 <= dim < size for dim in dims) or n < 2:
        raise ValueError(
            f"A traversal needs n >= 2 and dimensions from 0 to {size - 1}. "
            f"Received: n={n}, dimensions {dims}."
        )
    y = None if y is None else np.asarray(y)[None]
    centre = np.zeros((1, size)) if centre is None else np.asarray(centre)[None]
    if centre.ndim == 4:
        centre = model.encode(centre, y)
    centre = _latents(model, centre)
    latents = np.tile(centre, (len(dims), n, 1))
    for row, dim in enumerate(dims):
        latents[row, :, dim] += np.linspace(-span, span, n)
    if y is not None:
        y = np.repeat(y, len(dims) * n, axis=0)
    save(path, grid(_decoded(model, latents.reshape(-1, size), y), n))


def attributes(
    model: GenerativeModel,
    x: npt.ArrayLike,
    vectors: npt.ArrayLike,
    path: str | os.PathLike,
    strength: float = 1.0,
    y: npt.ArrayLike | None = None,
) -> None:
    """Draws a row for each image: the image, a gap, its reconstruction, and each attribute added.

    The layout is that of figure 5 of Larsen et al., "Autoencoding beyond pixels using a learned
    similarity metric", 2016.

    Args:
        model: A model that can encode.
        x: Images `[N, H, W, C]` in [0, 1].
        vectors: `[A, D]`, added to the latents; see `VAEGAN.attribute_vectors`.
        path: The file to write.
        strength: Factor of the vectors; a negative factor removes the attributes.
        y: A condition for each image, or one for all, if the model takes one.

    Raises:
        ValueError: If the images or the vectors do not have the model's shapes.
        NotImplementedError: If the model cannot encode.
    """
    x, vectors = np.asarray(x), _latents(model, vectors)
    model.check_images(x)
    z = np.asarray(model.encode(x, y))
    steps = np.concatenate([np.zeros_like(vectors[:1]), strength * vectors])
    if y is not None and model.condition is not None:
        y = model.conditions(len(x), y)
    decoded = [_tiles(_decoded(model, z + step, y)) for step in steps]
    tiles = np.stack([_tiles(x), *decoded], axis=1)
    save(path, _sheet(tiles, _PADDING, [_GAP, *[_PADDING] * len(vectors)]))


def layers(
    model: GenerativeModel,
    x: npt.ArrayLike,
    y: Mapping[str, npt.ArrayLike],
    path: str | os.PathLike,
) -> None:
    """Draws a row for each image: the image, a gap, and foreground, mask, background, composite.

    Args:
        model: A model with the ability `decode_layers`, such as `zoo.DisCVAE`.
        x: Images `[N, H, W, C]` in [0, 1].
        y: The annotations of the images that the model reads.
        path: The file to write.
    """
    z = model.encode(x, y)
    front, gate, back = model.decode_layers(z, y)
    mask = np.broadcast_to(1 - np.asarray(gate), front.shape)
    columns = [x, front, mask, back, model.decode(z, y)]
    tiles = np.stack([_tiles(column) for column in columns], axis=1)
    save(path, _sheet(tiles, _PADDING, [_GAP, *[_PADDING] * 3]))


def recompositions(
    model: GenerativeModel,
    x: npt.ArrayLike,
    y: Mapping[str, npt.ArrayLike],
    path: str | os.PathLike,
) -> None:
    """Draws the foreground of each image of the first column before the background of each other.

    The first row shows the images with the backgrounds. The arguments are those of `layers`.
    """
    x = np.asarray(x)
    z = np.asarray(model.encode(x, y))
    n = len(x)
    front = np.repeat(np.arange(n), n)
    y = {name: np.asarray(values)[front] for name, values in y.items()}
    images = np.asarray(model.recompose(z[front], np.tile(z, (n, 1)), y))
    save(path, _crossed(x, x, images))


def swaps(
    model: GenerativeModel,
    structures: npt.ArrayLike,
    textures: npt.ArrayLike,
    path: str | os.PathLike,
) -> None:
    """Draws the structure of each image of the first column with the texture of each of the first row.

    Args:
        model: A model with the ability `swap`, such as `zoo.SwappingAutoencoder`.
        structures: Images `[N, H, W, C]` in [0, 1].
        textures: Images `[M, H, W, C]` in [0, 1].
        path: The file to write.
    """
    structures, textures = np.asarray(structures), np.asarray(textures)
    rows = np.repeat(structures, len(textures), 0)
    images = np.asarray(model.swap(rows, np.tile(textures, (len(structures), 1, 1, 1))))
    save(path, _crossed(structures, textures, images))


def mixes(
    model: GenerativeModel,
    x: npt.ArrayLike,
    others: npt.ArrayLike,
    path: str | os.PathLike,
    n: int = 8,
) -> None:
    """Draws a row for each image: the image, its structure with `n` textures, the other image.

    The textures go from that of the image to that of the other image.

    Args:
        model: A model with the ability `mix`, such as `zoo.SwappingAutoencoder`.
        x: Images `[N, H, W, C]` in [0, 1].
        others: As many images.
        path: The file to write.
        n: Number of textures, at least 2.
    """
    check_counts(2, n=n)
    between = [np.asarray(model.mix(x, others, alpha)) for alpha in np.linspace(0, 1, n)]
    tiles = np.stack([_tiles(column) for column in (x, *between, others)], axis=1)
    save(path, _sheet(tiles, _PADDING, [_GAP, *[_PADDING] * (n - 1), _GAP]))


def progressions(
    model: GenerativeModel, z: npt.ArrayLike, y: npt.ArrayLike, path: str | os.PathLike, n: int = 8
) -> None:
    """Draws a row for each attribute, from 0 to 1 in `n` steps, with the same latents.

    Yan et al., "Attribute2Image: Conditional Image Generation from Visual Attributes", 2016.

    Args:
        model: A model whose condition is a vector of attributes.
        z: The latents of an image, `[D]`.
        y: The attributes of the image, `[A]`.
        path: The file to write.
        n: Number of images in a row, at least 2.
    """
    check_counts(2, n=n)
    y = np.asarray(y, np.float32)
    rows = np.tile(y, (len(y), n, 1))
    own = np.arange(len(y))
    rows[own, :, own] = np.linspace(0, 1, n)
    latents = np.tile(_latents(model, np.asarray(z)[None]), (len(y) * n, 1))
    save(path, grid(_decoded(model, latents, rows.reshape(-1, len(y))), n))


def rerenderings(
    images: npt.ArrayLike, truth: npt.ArrayLike | None, path: str | os.PathLike
) -> None:
    """Draws rows of re-rendered scenes, each below the row of the true scenes.

    Args:
        images: Re-renderings `[B, V, H, W, C]` in [0, 1], such as those of `InverseGraphics.rerender`.
        truth: The true scenes, of the same shape, or `None`.
        path: The file to write.

    Raises:
        ValueError: If the shapes are others.
    """
    images = np.asarray(images)
    kinds = [images] if truth is None else [np.asarray(truth), images]
    if images.ndim != 5 or kinds[0].shape != images.shape:
        raise ValueError(
            "Expected re-renderings [B, V, H, W, C] and true scenes of the same shape. "
            f"Received: shapes {images.shape} and {kinds[0].shape}."
        )
    tiles = np.stack([np.stack([_tiles(row) for row in kind]) for kind in kinds], 1)
    tiles = tiles.reshape(-1, *tiles.shape[2:])
    last_of_pair = [
        _GAP if row % len(kinds) == len(kinds) - 1 else _PADDING for row in range(len(tiles))
    ]
    save(path, _sheet(tiles, last_of_pair[:-1], _PADDING))


def factors(
    codes: npt.ArrayLike,
    values: npt.ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike,
) -> None:
    """Draws the matrix of squared correlations of latents with factors, and the best latents.

    The upper chart is a heat map. A chart for each factor below it shows the latent that correlates
    most with the factor, against the factor.

    Args:
        codes: Latents `[N, D]`.
        values: Values of the factors, `[N, F]`.
        names: Names of the factors.
        path: The file to write.

    Raises:
        ValueError: If the shapes do not match.
    """
    _save_figure(path, _factors(np.asarray(codes, float), np.asarray(values, float), names))


def _factors(codes, values, names):
    from matplotlib.figure import Figure

    if codes.ndim != 2 or values.shape != (len(codes), len(names)):
        raise ValueError(
            "Expected latents [N, D] and a factor [N] for each name. "
            f"Received: shapes {codes.shape} and {values.shape}, and {len(names)} names."
        )
    size = codes.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):  # Latents or factors without variance
        both = np.corrcoef(np.concatenate([codes, values], 1).T)
    found = np.nan_to_num(both[:size, size:] ** 2)
    columns = min(len(names), 5)
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(2.2 * max(columns, 3), 3 + 2 * rows), layout="constrained")
    places = figure.add_gridspec(rows + 1, columns, height_ratios=[1.4, *[1] * rows])
    axes = figure.add_subplot(places[0, :])
    _style(axes, "Squared correlation of latents with factors")
    axes.grid(visible=False)
    image = axes.imshow(found.T, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xticks(range(size))
    figure.colorbar(image, ax=axes)
    shown = np.random.default_rng(0).permutation(len(codes))[:500]
    for k, name in enumerate(names):
        best = int(found[:, k].argmax())
        axes = figure.add_subplot(places[1 + k // columns, k % columns])
        _style(axes, "")
        axes.scatter(values[shown, k], codes[shown, best], s=4, linewidths=0, alpha=0.6)
        axes.set_xlabel(name, fontsize=8)
        axes.set_ylabel(f"latent {best}", fontsize=8)
    return figure


def _tiles(images) -> np.ndarray:
    """Images as tiles: checked, in 8-bit colour, upscaled to uint8 `[N, s H, s W, 3]`.

    Videos, whose channels are grey frames, become film strips.
    """
    images = np.asarray(images)
    expected = "Expected float images in [0, 1] of shape [N, H, W, C]"
    if images.ndim != 4 or not images.size:
        raise ValueError(f"{expected}. Received: an array of shape {images.shape}.")
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{expected}. Received: {images.dtype.name}.")
    low, high = images.min(), images.max()
    # This form also rejects NaN.
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{expected}. Received: values from {low} to {high}.")
    pixels = np.round(images.astype(np.float32) * 255).astype(np.uint8)
    is_video = pixels.shape[-1] not in (1, 3)
    scale = math.ceil((_FRAME if is_video else _TILE) / pixels.shape[1])
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    if is_video:
        line = np.full([*pixels.shape[:2], 1, 1], 128, np.uint8)  # between two frames
        first, *others = np.split(pixels, pixels.shape[-1], -1)
        pixels = np.concatenate([first, *(part for f in others for part in (line, f))], 2)
    return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))


def _in_rows(tiles, columns):
    """Tiles `[N, ...]` as `[rows, columns, ...]`; the rest of the last row is white."""
    rows = math.ceil(len(tiles) / columns)
    filled = np.full((rows * columns, *tiles.shape[1:]), 255, np.uint8)
    filled[: len(tiles)] = tiles
    return filled.reshape(rows, columns, *tiles.shape[1:])


def _sheet(tiles, row_gaps, column_gaps):
    """One picture of `tiles[rows, columns, H, W, 3]`, with a gap for each seam or one for all."""
    rows, columns, height, width = tiles.shape[:4]
    tops = np.append(0, np.cumsum(np.broadcast_to(row_gaps, rows - 1) + height)).astype(int)
    lefts = np.append(0, np.cumsum(np.broadcast_to(column_gaps, columns - 1) + width)).astype(int)
    sheet = np.full((tops[-1] + height, lefts[-1] + width, 3), 255, np.uint8)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            sheet[top : top + height, left : left + width] = tiles[row, column]
    return sheet


def _crossed(left, top, images):
    """A table of `images[N M, ...]`, with the images `left[N]` as its first column and `top[M]` as its
    first row."""
    images = images.reshape(len(left), len(top), *images.shape[1:])
    rows = np.concatenate([left[:, None], images], 1)
    first = np.concatenate([np.ones_like(top[:1]), top])
    tiles = np.stack([_tiles(row) for row in (first, *rows)])
    gaps = [[_GAP, *[_PADDING] * (len(side) - 1)] for side in (left, top)]
    return _sheet(tiles, *gaps)


def _decoded(model, latents, y):
    y = None if y is None else tf.convert_to_tensor(y)
    return np.asarray(model.decode(tf.convert_to_tensor(latents), y))


def _latents(model, latents) -> np.ndarray:
    latents = np.asarray(latents, np.float32)
    if latents.ndim != 2 or latents.shape[1] != model.latent_dim or not len(latents):
        raise ValueError(
            f"The model's latents have {model.latent_dim} dimensions: expected shape "
            f"[N, {model.latent_dim}]. Received: an array of shape {latents.shape}."
        )
    return latents


# Charts ---------------------------------------------------------------------------------------


def latent_scatter(
    codes: npt.ArrayLike,
    labels: npt.ArrayLike | None,
    path: str | os.PathLike,
    label_names: Sequence[str] | None = None,
    prior_samples: npt.ArrayLike | None = None,
    title: str = "Latent codes",
) -> None:
    """Draws codes as dots in the plane, coloured by label.

    Codes with more than two dimensions are projected onto their first two principal components, and
    draws of the prior onto the same components. The labels of the axes then state the share of the
    variance.

    Args:
        codes: `[N, D]`, D >= 2.
        labels: `[N]`, ints; `None` for codes without labels.
        path: The file to write.
        label_names: The names of label 0, label 1 and so on. With names, the colour of a label does
            not depend on the labels that occur.
        prior_samples: `[M, D]` draws of the prior, drawn as grey dots behind the codes.
        title: The title of the chart.

    Raises:
        ValueError: If a shape or type is wrong, a code is not finite, or a label has no name.
    """
    _save_figure(path, _scatter(codes, labels, label_names, prior_samples, title))


def _scatter(codes, labels, label_names=None, prior_samples=None, title=""):
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    codes = np.asarray(codes, float)
    if codes.ndim != 2 or codes.shape[1] < 2 or len(codes) < 2 or not np.isfinite(codes).all():
        raise ValueError(
            "A scatter chart of codes needs at least two dimensions and two codes, all finite: "
            f"shape [N, D]. Received: an array of shape {codes.shape}"
            + (" with NaN or infinite values." if not np.isfinite(codes).all() else ".")
        )
    names, which = _classes(labels, label_names, len(codes))
    if prior_samples is not None:
        prior_samples = np.asarray(prior_samples, float)
        if prior_samples.ndim != 2 or prior_samples.shape[1] != codes.shape[1]:
            raise ValueError(
                f"Expected draws of the prior of shape [M, {codes.shape[1]}], as the codes have. "
                f"Received: an array of shape {prior_samples.shape}."
            )
    axis_labels = ["first latent dimension", "second latent dimension"]
    if codes.shape[1] > 2:
        from sklearn.decomposition import PCA

        with np.errstate(invalid="ignore"):
            pca = PCA(2, random_state=0).fit(codes)
        codes = pca.transform(codes)
        prior_samples = None if prior_samples is None else pca.transform(prior_samples)
        axis_labels = [
            f"{nth} principal component ({100 * fraction:.0f} % of variance)"
            # Equal codes have no variance.
            for nth, fraction in zip(
                ("first", "second"), np.nan_to_num(pca.explained_variance_ratio_), strict=True
            )
        ]

    colours = _colours(len(names))
    # The legend widens the figure, so that the chart keeps its size.
    present = np.unique(which)
    legend_columns = math.ceil(len(present) / 24)
    width = 6.3 + legend_columns * (0.5 + 0.08 * max(len(names[k]) for k in present))
    figure = Figure(figsize=(width, 6), layout="constrained")
    axes = figure.subplots()
    _style(axes, title)
    handles = []
    if prior_samples is not None:
        axes.scatter(*prior_samples.T, s=_dot_size(len(prior_samples)), c="0.87", linewidths=0)
        handles.append(_dot("0.87", "prior"))
    # In random order, so that no class covers the others.
    order = np.random.default_rng(0).permutation(len(codes))
    axes.scatter(
        *codes[order].T, s=_dot_size(len(codes)), c=colours[which[order]], linewidths=0, alpha=0.8
    )
    handles += [_dot(colours[k], names[k]) for k in present]
    axes.set_aspect("equal", adjustable="datalim")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.set_xlabel(axis_labels[0])
    axes.set_ylabel(axis_labels[1])
    _legend(
        figure,
        handles,
        loc="outside right upper",
        ncols=legend_columns,
        frameon=False,
        fontsize=9,
        handletextpad=0.3,
    )
    return figure


def _classes(labels, label_names, n):
    """The names of the classes, and the class `[N]` of each code."""
    if labels is None:
        return ["codes"], np.zeros(n, int)
    labels = np.asarray(labels)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected a label for each code, ints of shape ({n},). "
            f"Received: {labels.dtype.name} of shape {labels.shape}."
        )
    if label_names is None:
        classes, which = np.unique(labels, return_inverse=True)
        return [str(label) for label in classes], which
    if not 0 <= labels.min() <= labels.max() < len(label_names):
        raise ValueError(
            f"Expected labels from 0 to {len(label_names) - 1}, one for each name. "
            f"Received: labels from {labels.min()} to {labels.max()}."
        )
    return [str(name) for name in label_names], labels


def _colours(n):
    import matplotlib

    if n > 20:
        return matplotlib.colormaps["turbo"](np.linspace(0, 1, n))
    return np.array(matplotlib.colormaps["tab10" if n <= 10 else "tab20"].colors)


def _legend(figure: "Figure", handles, **options: Any) -> None:
    """A legend that shows all names as they are, even names such as "$" or "_x"."""
    names = [handle.get_label() for handle in handles]
    # Matplotlib leaves out names that start with "_", and reads formulas between two "$".
    legend = figure.legend(handles, ["-"] * len(names), **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)


def _legend_line(**look):
    """An entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **look)


def _dot(colour, name):
    return _legend_line(marker="o", linestyle="none", markersize=6, color=colour, label=name)


def _dot_size(n):
    """The size of one of `n` dots."""
    return float(np.clip(20_000 / n, 3, 20))


def learning_curves(
    history: Mapping[str, Sequence[float]],
    path: str | os.PathLike,
    epochs: Sequence[float] | None = None,
    units: str | None = None,
    title: str = "Learning curves",
) -> None:
    """Draws a panel for each quantity: training is solid, validation (`val_...`) dashed.

    Values that are NaN or infinite are left out, and a line connects their neighbours.

    A panel shows a robust range of the values, so that a huge first value does not flatten the
    curve. As with the whiskers of a box plot, values are in range if they are no further from the
    10th and 90th percentiles than three times the distance between the two. The last value of each
    curve is always in range. Small triangles at the edges mark values beyond the range.

    Args:
        history: The values of each quantity by its name, one value per epoch, as in
            `keras.callbacks.History`.
        path: The file to write.
        epochs: The numbers of the epochs. `None` is 1, 2 and so on.
        units: The unit of losses, distortion and rate, such as "nats".
        title: The title of the chart.

    Raises:
        ValueError: If there is nothing to draw, or the lists have different lengths.
    """
    _save_figure(path, _curves(history, epochs, units, title))


def _curves(history, epochs=None, units=None, title=""):
    epochs, series = _series(history, epochs)
    names = list(dict.fromkeys(name.removeprefix("val_") for name in series))
    panels = {
        name: [
            (epochs, series[key], look)
            for key, look in ((name, _TRAIN), (f"val_{name}", _VALIDATION))
            if key in series
        ]
        for name in names
    }
    handles = []
    if any(name in series for name in names):
        handles.append(_legend_line(label="training", **_TRAIN))
    if any(f"val_{name}" in series for name in names):
        handles.append(_legend_line(label="validation", **_VALIDATION))
    return _panels(panels, {name: _unit(name, units) for name in names}, handles, title)


def compared_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    path: str | os.PathLike,
    units: Mapping[str, str] | None = None,
    title: str = "Learning curves",
) -> None:
    """Draws a panel for each quantity, with the curves of all models that have it.

    A model has the same colour in all panels. Training is solid, validation (`val_...`) dashed.
    Ranges and gaps are as in `learning_curves`.

    Args:
        histories: The history of each model by its name: the values of each quantity, one value per
            epoch, as in `keras.callbacks.History` or from `Run.read_metrics`. "epoch" is optional
            and counts from 0.
        path: The file to write.
        units: Units by the quantity's name.
        title: The title of the chart.

    Raises:
        ValueError: If there is nothing to draw, or the lists of a model have different lengths.
    """
    colours = dict(zip(histories, _colours(len(histories)), strict=False))
    panels: dict[str, list[tuple]] = {}
    for model, history in histories.items():
        history = dict(history)
        counted = history.pop("epoch", None)
        epochs = None if counted is None else np.asarray(counted) + 1
        epochs, series = _series(history, epochs)
        for key, values in series.items():
            look = {"color": colours[model], "linestyle": "--" if key.startswith("val_") else "-"}
            panels.setdefault(key.removeprefix("val_"), []).append((epochs, values, look))
    if not panels:
        raise ValueError("Expected the history of at least one model. Received: none.")
    handles = [_legend_line(color=colour, label=model) for model, colour in colours.items()]
    handles += [
        _legend_line(color="0.4", linestyle=style, label=label)
        for style, label in (("-", "training"), ("--", "validation"))
    ]
    known = {name: _unit(name, None) for name in panels} | dict(units or {})
    _save_figure(path, _panels(panels, known, handles, title))


def _series(history, epochs):
    """The epochs `[E]` and the values `[E]` of each quantity, checked."""
    series = {name: np.asarray(values, float) for name, values in history.items()}
    lengths = {name: len(np.atleast_1d(values)) for name, values in series.items()}
    first = next(iter(lengths.values()), 0) if epochs is None else len(epochs)
    if not first or set(lengths.values()) != {first} or any(v.ndim != 1 for v in series.values()):
        raise ValueError(
            "Expected a value for each epoch and quantity, NaN if it is missing. "
            f"Received: {'' if epochs is None else f'{first} epochs, and '}lists of the lengths "
            f"{lengths}."
        )
    return np.arange(1, first + 1) if epochs is None else np.asarray(epochs), series


def _panels(panels, units, handles, title):
    """A figure with a panel for each quantity, of its curves `(epochs, values, look)`."""
    from matplotlib.figure import Figure

    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.6 * max(columns, 1.4), 2.5 * rows + 0.8), layout="constrained")
    axes_of_all = figure.subplots(rows, columns, squeeze=False).ravel()
    beyond = False
    for axes, (name, curves) in zip(axes_of_all, panels.items(), strict=False):
        beyond |= _panel(axes, name, curves)
        axes.set_ylabel(units.get(name))
    for empty in axes_of_all[len(panels) :]:
        empty.remove()
    for axes in axes_of_all[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("epoch", fontsize=9)
    if beyond:
        handles = [*handles, _legend_line(color="0.4", label="beyond the panel", **_BEYOND)]
    figure.suptitle(title, fontsize=12, parse_math=False)
    _legend(
        figure,
        handles,
        loc="outside lower center",
        ncols=3 if len(handles) < 4 else 4,
        frameon=False,
        fontsize=9,
    )
    return figure


def _panel(axes: "Axes", name, curves) -> bool:
    """Draws one quantity; returns whether some of its values are beyond the panel."""
    from matplotlib.ticker import MaxNLocator

    _style(axes, name.replace("_", " "))
    epochs = np.concatenate([at for at, _, _ in curves])
    curves = [
        (at[finite], values[finite], look)
        for at, values, look in curves
        if (finite := np.isfinite(values)).any()
    ]
    margin = 0.04 * (epochs.max() - epochs.min()) or 0.5
    axes.set_xlim(epochs.min() - margin, epochs.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    if not curves:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", fontsize=9)
        return False
    low, high = _robust_range([values for _, values, _ in curves])
    axes.set_ylim(low, high)
    beyond = False
    for at, values, look in curves:
        axes.plot(at, values, linewidth=1.6, marker="o" if len(at) < 10 else "", ms=4, **look)
        for outside, edge in ((values > high, 0.98), (values < low, 0.02)):
            if outside.any():
                beyond = True
                axes.plot(
                    at[outside],
                    np.full(outside.sum(), edge),
                    transform=axes.get_xaxis_transform(),
                    color=look["color"],
                    **(_BEYOND | {"marker": "^" if edge > 0.5 else "v"}),
                )
    return beyond


def _robust_range(curves):
    """The range of values to show; see `learning_curves`."""
    values = np.concatenate(curves)
    # "nearest" picks values that occur; interpolation would mix in an outlier.
    p10, p90 = np.percentile(values, [10, 90], method="nearest")
    reach = 3 * (p90 - p10) or math.inf
    kept = values[(values >= p10 - reach) & (values <= p90 + reach)]
    kept = np.append(kept, [curve[-1] for curve in curves])
    lowest, highest = kept.min(), kept.max()
    margin = 0.06 * (highest - lowest) or 0.05 * abs(highest) or 1.0
    return lowest - margin, highest + margin


def _unit(name, units):
    if name.endswith("logit"):
        return "logit"
    return units if name in ("loss", "distortion", "rate") or name.endswith("_loss") else None


def _style(axes: "Axes", title) -> None:
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.tick_params(labelsize=9, color="0.6")
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.6")
