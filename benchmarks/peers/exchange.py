"""The files that the two libraries exchange: images, and the outputs of a trained model.

The files are .npz archives without pickled objects. This module uses NumPy only, because it also
runs in the environment of pythae.
"""

import dataclasses
import json
import os
import zipfile
from typing import Any

import numpy as np

SIDE = 28


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a training that its row does not have. Both libraries read them.

    Attributes:
        seed: Seed of weights, order, noise and samples.
        epochs: Number of epochs.
        images: Number of training images, the first ones.
        samples: Number of samples.
        scored: Number of test images for the likelihood, N.
        importance_samples: Number of draws for each of these images, K.
    """

    seed: int = 0
    epochs: int = 10
    images: int = 50_000
    samples: int = 10_000
    scored: int = 1000
    importance_samples: int = 200


def write(path: str | os.PathLike, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays and facts about them, which must be valid JSON."""
    partial = f"{os.fspath(path)}.partial.npz"
    np.savez(partial, about=np.array(json.dumps(about)), **arrays)
    os.replace(partial, path)


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The facts and the arrays of a file of `write`.

    Raises:
        ValueError: If the file is damaged, or is not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(str(arrays.pop("about"))), arrays
    except (KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Expected an archive of arrays with an entry 'about'. Received: '{path}' ({error}). "
            "Delete the file and train again."
        ) from error


def unit(images: np.ndarray) -> np.ndarray:
    """Images uint8 `[N, H, W]` as float32 in [0, 1]."""
    return images.astype(np.float32) / 255


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1], clipped, rounded to uint8."""
    return np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)


def draws(loc: np.ndarray, scale: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Draws from normals `[N, D]`: float32 `[K, N, D]`. The noise is the same for both libraries."""
    noise = np.random.default_rng(seed).standard_normal((number, *loc.shape), np.float32)
    return loc + scale * noise


def check_data(arrays: dict[str, np.ndarray], row: Any, settings: Settings) -> None:
    """Checks the images "train" and "test", uint8 `[N, H, W]`, for a row.

    Raises:
        ValueError: If images are missing, have another form, or are not binary where they should.
    """
    for name, least in (("train", settings.images), ("test", settings.scored)):
        images = arrays.get(name)
        found = "none" if images is None else f"{images.dtype} of shape {images.shape}"
        if images is None or images.dtype != np.uint8 or images.ndim != 3 or len(images) < least:
            raise ValueError(
                f"Expected at least {least} images '{name}' as uint8 [N, H, W]. Received: {found}."
            )
        if row.data == "binary" and not np.isin(images, (0, 255)).all():
            raise ValueError(
                f"Expected binary images '{name}', 0 or 255, for the row '{row.name}'. Received: "
                f"{len(np.unique(images))} different values."
            )


def check_result(
    arrays: dict[str, np.ndarray], row: Any, settings: Settings, side: int = SIDE
) -> None:
    """Checks the outputs of a trained model.

    | array | shape | |
    |---|---|---|
    | `samples` | `[S, H, W]` | uint8 |
    | `loc`, `scale` | `[N, D]` | the normal posterior, or the normal that a flow transforms |
    | `base` | `[K, N, D]` | draws from this normal |
    | `z`, `log_det` | `[K, N, D]`, `[K, N]` | the draws after the flow, and log abs det of the flow |
    | `outputs` | `[K, N, H W]` | the decoder's outputs at `z`: logits or means |
    | `prior_loc`, `prior_scale` | `[C, D]` | the prior, a mixture of normals of equal weights |

    A row that is not scored has `samples` only.

    Args:
        arrays: The arrays by name.
        row: The row.
        settings: The settings with which the row was trained.
        side: Height and width of an image.

    Raises:
        ValueError: If an array is missing, has another shape or type, or values out of range.
    """
    n, k, d = settings.scored, settings.importance_samples, row.latent_dim
    shapes = {"samples": (settings.samples, side, side)}
    if row.scored:
        c = row.components or 1
        shapes |= dict.fromkeys(("loc", "scale"), (n, d))
        shapes |= dict.fromkeys(("base", "z"), (k, n, d))
        shapes |= {"log_det": (k, n), "outputs": (k, n, side * side)}
        shapes |= dict.fromkeys(("prior_loc", "prior_scale"), (c, d))
    if lacking := shapes.keys() - arrays.keys():
        raise ValueError(
            f"Expected the arrays {', '.join(shapes)} for the row '{row.name}'. "
            f"Received: none for {', '.join(sorted(lacking))}."
        )
    for name, shape in shapes.items():
        array, kind = arrays[name], "u" if name == "samples" else "f"
        if array.shape != shape or array.dtype.kind != kind:
            raise ValueError(
                f"Expected '{name}' of shape {shape} and kind '{kind}' for the row '{row.name}'. "
                f"Received: {array.dtype} of shape {array.shape}."
            )
        if kind == "f" and not np.isfinite(array).all():
            raise ValueError(
                f"Expected finite values of '{name}' for the row '{row.name}'. Received: "
                f"{np.count_nonzero(~np.isfinite(array))} values that are NaN or infinite."
            )
        if name.endswith("scale") and not (array > 0).all():
            raise ValueError(
                f"Expected standard deviations '{name}' above 0 for the row '{row.name}'. "
                f"Received: a minimum of {array.min()}."
            )
