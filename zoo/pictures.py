"""Pictures of images, latents and histories, written as PNG files.

Grids of images are exact: whole-number upscaling, so that every pixel of an image is a crisp square.
Charts are drawn on a `matplotlib.figure.Figure` of their own, without pyplot: no state is shared, so
that a training loop may draw at any time, from any thread and without a display.

Every file appears complete or not at all, and replaces an older one of the same name.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import tensorflow as tf
from PIL import Image

from zoo.files import replacing
from zoo.model import GenerativeModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib and scikit-learn are imported where they are used: most programs draw no chart.

_TILE = 48  # least height of a tile, in pixels of the picture
_PADDING = 2
_GAP = 10  # between what does not belong together
_DPI = 130
_TRAIN = {"color": "tab:blue", "linestyle": "-"}
_VALIDATION = {"color": "tab:orange", "linestyle": "--"}
_BEYOND = {"marker": "^", "linestyle": "none", "markersize": 5, "markeredgewidth": 0}


# Files ----------------------------------------------------------------------------------------


def save(path: str | os.PathLike, array: np.ndarray) -> None:
    """Writes uint8 `array[H, W, 3]` as a PNG file. Makes the folder if there is none.

    Raises:
        ValueError: If `array` is anything else, or the path does not end in ".png".
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
def _replacing(path) -> Iterator[IO[bytes]]:
    """A file to write a picture to, which replaces `path` unless there is an error."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"The path of a picture must end in .png. Received: '{path}'.")
    with replacing(path) as partial, open(partial, "wb") as file:
        yield file


# Images ---------------------------------------------------------------------------------------


def grid(images, columns: int | None = None, padding: int = _PADDING) -> np.ndarray:
    """Images side by side, row by row, with white between them.

    Args:
        images: `[N, H, W, C]`, floats in [0, 1], grey (C = 1) or colour (C = 3).
        columns: Images in a row; the square root of N, rounded up, if `None`.
        padding: Pixels of the picture between two images.

    Returns:
        uint8 `[H', W', 3]`. Each pixel of an image is a square of the smallest whole number of
        pixels that makes an image at least 48 pixels high. The last row is filled up with white.

    Raises:
        ValueError: If `images` are not of that shape, type and range.
    """
    tiles = _tiles(images)
    columns = math.ceil(math.sqrt(len(tiles))) if columns is None else columns
    if columns < 1 or padding < 0:
        raise ValueError(
            "A grid needs columns >= 1 and padding >= 0. "
            f"Received: columns={columns}, padding={padding}."
        )
    return _sheet(_in_rows(tiles, columns), padding, padding)


def write_images(images, path: str | os.PathLike) -> None:
    """Writes images in the form that the path's ending names.

    Args:
        images: `[N, H, W, C]`, floats in [0, 1].
        path: ".png" for one grid, ".npy" for the array in float32; else a folder, in which each image
            becomes a PNG file of its own size, 00000.png and so on. Files that have such names
            already are removed first; all else in the folder stays.
    """
    path = Path(path)
    if path.suffix.lower() == ".png":
        save(path, grid(images))
    elif path.suffix.lower() == ".npy":
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.asarray(images, np.float32), allow_pickle=False)
    else:
        pixels = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)
        pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
        for old in path.glob("*.png"):
            if old.is_file() and re.fullmatch("[0-9]{5}|[1-9][0-9]{5,}", old.stem):
                old.unlink()
        for i, image in enumerate(pixels):
            save(path / f"{i:05}.png", image)


def samples(
    model: GenerativeModel, latents, path: str | os.PathLike, columns: int = 10, y=None
) -> None:
    """A grid of the images that `latents[N, D]` stand for.

    With the same latents each time, the pictures of a training show how each image develops.

    Args:
        model: Any model of the zoo.
        latents: `[N, D]`, such as draws of the prior.
        path: Of the file to write.
        columns: Images in a row, of which a lesser number of images needs fewer.
        y: A condition for each latent, where the model takes one. If it is the seen part of an image
            (`[N, H, W, C]`, -1 elsewhere) and each row has one of its own, this stands left of the
            row, hidden values in grey.

    Raises:
        ValueError: If the latents are not `[N, D]`, or what the model makes of them is not finite.
    """
    latents = _latents(model, latents)
    columns = min(columns, len(latents))
    images = _decoded(model, latents, y)
    heads = None if y is None else np.asarray(y)[::columns]
    if (
        heads is None
        or heads.shape[1:] != images.shape[1:]
        or not np.array_equal(heads.repeat(columns, 0)[: len(images)], y)
    ):
        save(path, grid(images, columns))
        return
    seen = _tiles(np.where(heads < 0, 0.5, heads).astype(np.float32))
    rows = np.concatenate([seen[:, None], _in_rows(_tiles(images), columns)], 1)
    save(path, _sheet(rows, _PADDING, [_GAP, *[_PADDING] * (columns - 1)]))


def reconstructions(model: GenerativeModel, x, path: str | os.PathLike, y=None) -> None:
    """Rows of ten images of `x[N, H, W, C]`, below each row its reconstructions.

    Raises:
        ValueError: If `x` is not images in [0, 1] of the model's shape.
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


def categories(images, members: Sequence, path: str | os.PathLike, columns: int = 10) -> None:
    """A row for each category: what it looks like, and behind a gap images that are in it.

    Figure 9 of Makhzani et al., "Adversarial Autoencoders", 2016, with the head of a cluster first.

    Args:
        images: The categories' own images, `[K, H, W, C]`, floats in [0, 1].
        members: For each of them images `[M, H, W, C]`, which may be none; the first are shown.
        path: Of the file to write.
        columns: How many at most, at least 1.

    Raises:
        ValueError: If these are not images in [0, 1], or there are not as many members as categories.
    """
    images = np.asarray(images)
    members = [np.asarray(m)[:columns] for m in members]
    shapes = [m.shape[1:] for m in members]
    if columns < 1 or len(members) != len(images) or set(shapes) != {images.shape[1:]}:
        raise ValueError(
            f"Expected for each of the {len(images)} categories images of the shape "
            f"{images.shape[1:]}, and columns >= 1. Received: images of the shapes {shapes}, "
            f"columns={columns}."
        )
    own = _tiles(images)
    rows = np.full((len(own), columns + 1, *own.shape[1:]), 255, np.uint8)
    rows[:, 0] = own
    for row, some in zip(rows, members, strict=True):
        if len(some):
            row[1 : len(some) + 1] = _tiles(some)
    save(path, _sheet(rows, _PADDING, [_GAP, *[_PADDING] * (columns - 1)]))


def nearest_neighbours(samples, neighbours, path: str | os.PathLike) -> None:
    """Each sample, left of a gap, beside its nearest training images: is it a copy of one?

    Args:
        samples: `[N, H, W, C]`, floats in [0, 1].
        neighbours: `[N, k, H, W, C]`, of each sample the nearest image, the second nearest, ...; see
            `zoo.metrics.nearest_neighbours`.
        path: Of the file to write.

    Raises:
        ValueError: If these are not images in [0, 1], or not `k` of the samples' shape for each.
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


def interpolations(
    ends: Sequence[tuple], model: GenerativeModel, path: str | os.PathLike, n: int = 10, y=None
) -> None:
    """The way from one latent to another, in `n` images: a row, or two, for each pair of ends.

    Between latents there are two ways, one below the other: the straight line, and the arc (see
    `GenerativeModel.interpolate`). Between images there is the line only, from the code of the one
    to the code of the other; the images themselves stand outside, left and right, behind a gap.

    Args:
        ends: Pairs `(a, b)`, all of latents `[D]` or all of images `[H, W, C]` in [0, 1].
        model: Any model of the zoo; one that can encode, for images.
        path: Of the file to write.
        n: Images in a row, the decoded ends included, at least 2.
        y: A condition for each pair, `[len(ends), ...]`, or one for all, where the model takes one.

    Raises:
        ValueError: If the ends are neither latents nor images of the model, or are not alike.
        NotImplementedError: For images, if the model cannot encode.
    """
    ends = [(np.asarray(a), np.asarray(b)) for a, b in ends]
    ranks = {end.ndim for pair in ends for end in pair}
    if len(ranks) != 1 or not ranks <= {1, 3}:
        raise ValueError(
            "Expected pairs of ends, all of them latents [D] or all of them images [H, W, C]. "
            f"Received: shapes {[(a.shape, b.shape) for a, b in ends]}."
        )
    given = [y] * len(ends)
    if y is not None and model.condition is not None:
        y = np.asarray(y)
        given = y if y.ndim == model.condition.shape.rank else given
        if len(given) != len(ends):
            raise ValueError(
                "Expected a condition for each pair of ends, or one for all. "
                f"Received: {len(given)} for {len(ends)} pairs."
            )
    if ranks == {1}:
        for end in (end for pair in ends for end in pair):
            _latents(model, end[None])
        tiles = [
            _tiles(np.asarray(model.interpolate(a, b, n, spherical, c)))
            for (a, b), c in zip(ends, given, strict=True)
            for spherical in (False, True)
        ]
        row_gaps = [_GAP if row % 2 else _PADDING for row in range(len(tiles) - 1)]
        column_gaps = _PADDING
    else:
        for end in (end for pair in ends for end in pair):
            model.check_images(end[None])
        tiles = [
            _tiles(np.concatenate([a[None], np.asarray(model.interpolate(a, b, n, y=c)), b[None]]))
            for (a, b), c in zip(ends, given, strict=True)
        ]
        row_gaps = _PADDING
        column_gaps = [_GAP, *[_PADDING] * (n - 1), _GAP]
    save(path, _sheet(np.stack(tiles), row_gaps, column_gaps))


def traversal(
    model: GenerativeModel,
    path: str | os.PathLike,
    centre=None,
    dims: int | Sequence[int] = 8,
    span: float = 3,
    n: int = 10,
    y=None,
) -> None:
    """What each latent dimension does: in each row one goes from `-span` to `span`, from left to
    right, and the others rest at the centre.

    Args:
        model: Any model of the zoo.
        path: Of the file to write.
        centre: A latent `[D]`, or an image `[H, W, C]` where the model can encode; the origin, if
            `None`.
        dims: The first so many dimensions (all, if there are fewer), or the indices of some.
        span: Distance from the centre, in the latents' own units: 3 suits a standard normal prior,
            1 the uniform one.
        n: Images in a row, at least 2.
        y: A condition for all of them, where the model takes one.

    Raises:
        ValueError: If the centre is no latent, or a dimension does not exist.
    """
    size = model.latent_dim
    dims = list(range(min(dims, size)) if isinstance(dims, int) else dims)
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
    model: GenerativeModel, x, vectors, path: str | os.PathLike, strength: float = 1.0, y=None
) -> None:
    """Each image, behind a gap its reconstruction, then that with each attribute in turn.

    As figure 5 of Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016.

    Args:
        model: A model that can encode.
        x: Images `[N, H, W, C]` in [0, 1].
        vectors: `[A, D]`, such as `zoo.models.vaegan.attribute_vectors` gives: what is added to the
            latents.
        path: Of the file to write.
        strength: How many times; negative to take the attributes away.
        y: A condition for each image, or one for all, where the model takes one.

    Raises:
        ValueError: If the images or the vectors are not the model's.
        NotImplementedError: If the model cannot encode.
    """
    x, vectors = np.asarray(x), _latents(model, vectors)
    model.check_images(x)
    z = np.asarray(model.encode(x, y))
    steps = np.concatenate([np.zeros_like(vectors[:1]), strength * vectors])
    if y is not None and model.condition is not None:
        y = model.conditions(len(x), y)
    made = [_tiles(_decoded(model, z + step, y)) for step in steps]
    tiles = np.stack([_tiles(x), *made], axis=1)
    save(path, _sheet(tiles, _PADDING, [_GAP, *[_PADDING] * len(vectors)]))


def _tiles(images) -> np.ndarray:
    """Checked, in 8-bit colour, upscaled: uint8 `[N, s H, s W, 3]`."""
    images = np.asarray(images)
    expected = "Expected float images in [0, 1] of shape [N, H, W, C], with C = 1 or 3"
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(f"{expected}. Received: an array of shape {images.shape}.")
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{expected}. Received: {images.dtype.name}.")
    low, high = images.min(), images.max()
    # The form of the comparison matters: NaN fails it.
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{expected}. Received: values from {low} to {high}.")
    pixels = np.round(images.astype(np.float32) * 255).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
    scale = math.ceil(_TILE / pixels.shape[1])
    return pixels.repeat(scale, axis=1).repeat(scale, axis=2)


def _in_rows(tiles, columns):
    """`[N, ...]` as `[rows, columns, ...]`, filled up with white."""
    rows = math.ceil(len(tiles) / columns)
    filled = np.full((rows * columns, *tiles.shape[1:]), 255, np.uint8)
    filled[: len(tiles)] = tiles
    return filled.reshape(rows, columns, *tiles.shape[1:])


def _sheet(tiles, row_gaps, column_gaps):
    """One picture of `tiles[rows, columns, H, W, 3]`; a gap for each seam, or one for all."""
    rows, columns, height, width = tiles.shape[:4]
    tops = np.append(0, np.cumsum(np.broadcast_to(row_gaps, rows - 1) + height)).astype(int)
    lefts = np.append(0, np.cumsum(np.broadcast_to(column_gaps, columns - 1) + width)).astype(int)
    sheet = np.full((tops[-1] + height, lefts[-1] + width, 3), 255, np.uint8)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            sheet[top : top + height, left : left + width] = tiles[row, column]
    return sheet


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
    codes,
    labels,
    path: str | os.PathLike,
    label_names: Sequence[str] | None = None,
    prior_samples=None,
    title: str = "Latent codes",
) -> None:
    """Codes as dots in the plane, coloured by label.

    Codes of more than two dimensions are projected on their first two principal components, the
    draws of the prior on the same ones; the axes then say how much of the codes' variance that is.

    Args:
        codes: `[N, D]`, D >= 2.
        labels: `[N]`, ints; `None` for codes without labels.
        path: Of the file to write.
        label_names: The name of label 0, of label 1, ...: these have colours that do not depend on
            which labels occur.
        prior_samples: `[M, D]` draws of the prior, as grey dots behind the codes.
        title: Above the chart.

    Raises:
        ValueError: If shapes or types do not fit, a code is not finite, or a label has no name.
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
            # Codes that are all the same have no variance to explain.
            for nth, fraction in zip(
                ("first", "second"), np.nan_to_num(pca.explained_variance_ratio_), strict=True
            )
        ]

    colours = _colours(len(names))
    # The legend takes its share of the width, the chart keeps its own.
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
    # Mixed, or the last class would lie on top of all the others.
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
    figure.legend(
        handles=handles,
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
            f"There are names for the labels 0 to {len(label_names) - 1}. "
            f"Received: labels from {labels.min()} to {labels.max()}."
        )
    return [str(name) for name in label_names], labels


def _colours(n):
    import matplotlib

    if n > 20:
        return matplotlib.colormaps["turbo"](np.linspace(0, 1, n))
    return np.array(matplotlib.colormaps["tab10" if n <= 10 else "tab20"].colors)


def _legend_line(**look):
    """An entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **look)


def _dot(colour, name):
    return _legend_line(marker="o", linestyle="none", markersize=6, color=colour, label=name)


def _dot_size(n):
    """Smaller where there are many, within what can be seen."""
    return float(np.clip(20_000 / n, 3, 20))


def learning_curves(
    history: Mapping[str, Sequence[float]],
    path: str | os.PathLike,
    epochs: Sequence[float] | None = None,
    units: str | None = None,
    title: str = "Learning curves",
) -> None:
    """A panel for each quantity: training solid, validation (`val_...`) dashed.

    Values that are NaN or infinite are left out, and the curve goes straight over the gap.

    A panel shows the robust range of its values, so that a huge first value does not flatten the
    rest. As with the whiskers of a box plot, that is all values no further below the 10th or above
    the 90th percentile than three times the distance of the two; and in any case the last value of
    each curve. Small triangles at the upper or lower edge tell where a value lies beyond it.

    Args:
        history: A value for each epoch by the quantity's name, as `keras.callbacks.History` has it.
        path: Of the file to write.
        epochs: The number of each epoch; 1, 2, ... if `None`.
        units: Of losses, distortion and rate: "nats" where the model is a likelihood model.
        title: Above the panels.

    Raises:
        ValueError: If there is nothing to draw, or the lists are not equally long.
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
    """A panel for each quantity with the curves of all models that have it.

    A model has one colour in all panels; training is solid, validation (`val_...`) dashed. Ranges
    and gaps are as in `learning_curves`.

    Args:
        histories: By the model's name a value for each epoch by the quantity's name, as
            `keras.callbacks.History` or a run's `read_metrics` has it; "epoch" counts from 0 on, and
            may be missing.
        path: Of the file to write.
        units: The unit of quantities that have one.
        title: Above the panels.

    Raises:
        ValueError: If there is nothing to draw, or a model's lists are not equally long.
    """
    colours = dict(zip(histories, _colours(len(histories)), strict=False))
    panels = {}
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
            "Expected a value for each epoch and quantity, NaN where there is none. "
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
    figure.suptitle(title, fontsize=12)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=3 if len(handles) < 4 else 4,
        frameon=False,
        fontsize=9,
    )
    return figure


def _panel(axes: "Axes", name, curves) -> bool:
    """Draws one quantity; returns whether some of its values lie beyond the panel."""
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
    """What of the values to show; `learning_curves` says how."""
    values = np.concatenate(curves)
    # "nearest": values that occur, not mixtures with the outlier next to them.
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
    axes.set_title(title, fontsize=11)
    axes.tick_params(labelsize=9, color="0.6")
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.6")
