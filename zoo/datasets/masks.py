"""Masks of the seen pixels of images, by name."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from zoo.contract import check_counts
from zoo.datasets.pixels import MOST_PIXELS

_FILES = (".png", ".jpg", ".jpeg")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")  # Pillow clips 16 bits to 8.


def named_mask(name: str, size: tuple[int, int], n: int = 1, seed: int = 0) -> np.ndarray:
    """The seen pixels of `n` images, bool `[n, H, W, 1]`.

    | name | seen pixels |
    |---|---|
    | half:left, half:right, half:top, half:bottom | a half, without the middle of an odd side |
    | box | the middle: without a quarter of each side, rounded down, at each edge |
    | border | all pixels outside of the box |
    | quadrants:K | the first K quadrants, from 1 to 3, of an image with even sides |
    | pixels:P | each pixel with probability P, drawn for each image |
    | the path of a PNG or JPEG file | its white pixels |

    `zoo.datasets.load` also has "frames:K" for videos; see `seen_frames`.

    The quadrants are counted clockwise from the lower left: lower left, upper left, upper right, as
    in the figures of Sohn et al., "Learning Structured Output Representation using Deep Conditional
    Generative Models", 2015. The lower right quadrant is never seen.

    The central part of a file is resized to the images; a pixel of at least half of the brightness of
    white is seen.

    Args:
        name: The seen part.
        size: Height and width.
        n: Number of images.
        seed: Seed of the draws of "pixels:P". An image's draw does not depend on `n`.

    Raises:
        ValueError: If `name` is unknown, its number is out of range, the file is not an image of 8
            bits, or a side of an image of quadrants is odd.
        FileNotFoundError: If there is no such file.

    Example:
        >>> zoo.datasets.named_mask("half:left", (2, 4))[0, ..., 0].astype(int)
        array([[1, 1, 0, 0],
               [1, 1, 0, 0]])
    """
    check_counts(n=n)
    check_counts(0, seed=seed)
    height, width = size
    if (share := random_share(name)) is not None:
        return np.random.default_rng(seed).random((n, height, width, 1)) < share
    if is_file(name):
        mask = _of_file(name, size)
    else:
        parts = _parts(height, width)
        if name not in parts:
            raise ValueError(
                f"The seen part of an image is one of {', '.join(parts)}, or pixels:P with P between 0 "
                f"and 1, or the path of a PNG or JPEG file. Received: seen={name!r}."
            )
        if name.startswith("quadrants") and (height % 2 or width % 2):
            raise ValueError(
                "An image of four quadrants needs an even height and an even width. "
                f"Received: {height}x{width} with seen={name!r}."
            )
        mask = parts[name]
    return np.repeat(mask[None], n, 0)


def random_share(name: str) -> float | None:
    """The probability P of "pixels:P"; `None` for another name, or for a number out of range."""
    kind, _, number = str(name).partition(":")
    try:
        share = float(number) if kind == "pixels" else math.nan
    except ValueError:
        return None
    return share if 0 < share < 1 else None


def seen_frames(name: str | None) -> int | None:
    """The number K of "frames:K", the first K frames of a video; `None` for another name.

    Raises:
        ValueError: If K is not a number from 1 on.
    """
    kind, colon, number = str(name).partition(":")
    if (kind, colon) != ("frames", ":"):
        return None
    if not (number.isdecimal() and int(number)):
        raise ValueError(
            "The seen part of a video is frames:K, its first K frames, with K at least 1. "
            f"Received: seen={name!r}."
        )
    return int(number)


def check_seen(name: str, size: tuple[int, int] = (2, 2)) -> None:
    """Checks the name of a seen part, of images or of videos.

    Args:
        name: A name for `named_mask`, or "frames:K".
        size: Height and width of the images, if they are known.

    Raises:
        ValueError, FileNotFoundError: As for `named_mask` and `seen_frames`.
    """
    if seen_frames(name) is None:
        named_mask(name, size)


def is_file(name: str) -> bool:
    """Whether the name of a mask is the path of a file."""
    return str(name).lower().endswith(_FILES)


def same_file(a: str | None, b: str | None) -> bool:
    """Whether two names of masks are the paths of files of equal content."""
    if not (a and b and is_file(a) and is_file(b)):
        return False
    paths = [Path(name).expanduser() for name in (a, b)]
    return all(path.is_file() for path in paths) and paths[0].read_bytes() == paths[1].read_bytes()


def _parts(height, width):
    row, column = np.indices((height, width))[..., None]
    box = _in_middle(row, height) & _in_middle(column, width)
    top, left = row < height // 2, column < width // 2
    return {
        "half:left": left,
        "half:right": column >= width - width // 2,
        "half:top": top,
        "half:bottom": row >= height - height // 2,
        "box": box,
        "border": ~box,
        "quadrants:1": ~top & left,
        "quadrants:2": left,
        "quadrants:3": left | top,
    }


def _in_middle(position, side):
    """Whether a pixel is in the middle half of a side."""
    return (position >= side // 4) & (position < side - side // 4)


def _of_file(path, size):
    height, width = size
    found = Path(path).expanduser()
    if found.exists() and not found.is_file():
        raise ValueError(f"Expected a PNG or JPEG file. Received: '{path}', which is not a file.")
    try:
        with Image.open(found) as file:
            if file.mode not in _MODES or math.prod(file.size) > MOST_PIXELS:
                raise ValueError(
                    f"Expected a mask of 8 bits and at most {MOST_PIXELS:,} pixels. Received: "
                    f"'{path}' of mode {file.mode} and {file.width}x{file.height} pixels."
                )
            mask = ImageOps.fit(file.convert("L"), (width, height), Image.Resampling.BOX)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"Expected a PNG or JPEG file. Received: '{path}' ({error}).") from error
    return np.asarray(mask)[..., None] >= 128
