"""What the rendered data sets have in common. The sets are functions of a seed; see `zoo.rendering`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from zoo.contract import check_counts
from zoo.datasets.images import SPLITS, Split


class RenderedSet(NamedTuple):
    """A data set that is rendered when it is loaded.

    Attributes:
        shape: (H, W, C) by default.
        levels: Number of grey levels.
        sizes: Number of images of each split by default.
        leaves: Names of the annotations. The first is `y` by default.
        splits: The function from (sizes, image_size, seed) to the splits.
        options: Further arguments of `ImageData`.
        render: The function from the annotation `factors`, `[N, F]`, and `image_size` to images,
            uint8 `[N, H, W, C]`; `None` if factors do not determine the images.
    """

    shape: tuple[int, int, int]
    levels: int
    sizes: Mapping[str, int]
    leaves: tuple[str, ...]
    splits: Callable[[Mapping[str, int], int, int], dict[str, Split]]
    options: Mapping[str, Any]
    render: Callable[[np.ndarray, int], np.ndarray] | None = None


def independent_splits(
    one: Callable[[int, int, int, int], Split],
) -> Callable[[Mapping[str, int], int, int], dict[str, Split]]:
    """The function `RenderedSet.splits` of a set whose splits have separate random streams.

    Args:
        one: The function from (size, image_size, seed, stream) to a split.
    """

    def splits(sizes: Mapping[str, int], image_size: int, seed: int) -> dict[str, Split]:
        return {split: one(sizes[split], image_size, seed, k) for k, split in enumerate(SPLITS)}

    return splits


def check_sizes(name: str, kind: RenderedSet, sizes: Mapping[str, int] | None) -> dict[str, int]:
    """The sizes of all splits: `sizes`, and the set's own for splits that it does not name.

    Raises:
        ValueError: If a split is unknown, or a size is not a positive multiple of the group size.
    """
    sizes = {} if sizes is None else dict(sizes)
    if unknown := [split for split in sizes if split not in SPLITS]:
        raise ValueError(
            f"The keys of `sizes` must be among {', '.join(SPLITS)}. Received: {unknown[0]!r}."
        )
    check_counts(**sizes)
    whole = {**kind.sizes, **sizes}
    group = kind.options.get("group_size") or 1
    for split, size in whole.items():
        if size % group:
            raise ValueError(
                f"The images of {name!r} form groups of {group}, so `sizes` must be multiples of "
                f"{group}. Received: {split}={size}."
            )
    return whole


def in_parts(
    render: Callable[[slice], np.ndarray], count: int, out: np.ndarray, rows: int = 128
) -> np.ndarray:
    """Fills `out` part by part, so that intermediate arrays stay small.

    Args:
        render: The function from rows to the images of these rows.
        count: Number of rows.
        out: `[count, ...]`.
        rows: Rows of a part.
    """
    for start in range(0, count, rows):
        part = slice(start, min(start + rows, count))
        out[part] = render(part)
    return out
