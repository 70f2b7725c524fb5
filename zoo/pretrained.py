"""Trained weights that the zoo includes: files of plain arrays with the configuration of a model.

model = zoo.from_preset("vae_conv_mnist")

Each file has a card: a Markdown file of the same name with the origin and the scores of the
weights. `benchmarks.release.pack` writes both files for the models of a comparison.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from zoo import datasets, presets
from zoo.files import check_archive, check_fields, read_json, replacing
from zoo.model import GenerativeModel
from zoo.versions import __version__

SHIPPED = Path(__file__).parent / "weights"
INDEX = "index.json"
FORMAT = 1
MOST_BYTES = 40_000_000
"""Upper limit of the total size of all weights in the zoo."""


def names() -> list[str]:
    """The presets with trained weights, sorted.

    Example:
        >>> set(zoo.pretrained.names()) <= set(zoo.presets.names())
        True
    """
    return sorted(read_index(SHIPPED))


def read_index(folder: Path) -> dict[str, dict[str, str]]:
    """The content of a folder's index.json: `{preset: {"sha256", "zoo"}}`.

    "zoo" is the version that wrote the weights. The index of a folder without index.json is empty.
    """
    path = folder / INDEX
    if not path.is_file():
        return {}
    index = read_json(path, {})
    for name, entry in index.items():
        check_fields(entry, {"sha256": str}, f"in '{name}' in '{path}'")
    return index


def from_preset(
    name: str, load_weights: bool = True, image_shape: tuple[int, int, int] | None = None
) -> GenerativeModel:
    """The model of a preset, compiled with the preset's optimizers. Nothing is downloaded.

    Args:
        name: Name of a preset: one of `zoo.pretrained.names()` if `load_weights` is true, otherwise
            any of `zoo.presets.names()`.
        load_weights: Whether to load the trained weights. `False` builds a new model. The state of
            the optimizers is always new.
        image_shape: Height, width and channels of a new model's images. The default is the shape of
            the images in the preset's data set.

    Raises:
        ValueError: If `name` is unknown or has no trained weights; if the file of the weights has
            changed; if the data set has no known image shape and `image_shape` is `None`; or if
            `image_shape` is set together with `load_weights`.
        FileNotFoundError: If the file of the weights is missing.

    Example:
        >>> zoo.from_preset("vae_conv_mnist").sample(16).shape
        TensorShape([16, 28, 28, 1])
        >>> zoo.from_preset("beta_vae_digits", load_weights=False).sample(2).shape
        TensorShape([2, 8, 8, 1])
    """
    config = presets.get(name)
    if load_weights:
        if image_shape is not None:
            raise ValueError(
                "Trained weights have a fixed image shape: pass `image_shape` with "
                f"`load_weights=False` only. Received: image_shape={image_shape}."
            )
        return load(_shipped(config.preset))
    known = datasets.expected(config.data.name, config.data.image_size)
    if known is not None:
        shape, levels = known
        return presets.build(config, image_shape or shape, levels)
    if image_shape is None:
        raise ValueError(
            f"The images of '{config.data.name}' have no known shape: pass `image_shape`, (height, "
            "width, channels). Received: image_shape=None."
        )
    return presets.build(config, image_shape)


def _shipped(name):
    """The path of a preset's weights, after a check of their SHA-256."""
    index = read_index(SHIPPED)
    if name not in index:
        raise ValueError(
            f"The preset '{name}' has no trained weights. These have: "
            f"{', '.join(sorted(index)) or 'none'}. For a new model pass `load_weights=False`, or "
            f"train it: python -m trainers.train --preset={name} --output=runs/{name}"
        )
    path = SHIPPED / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"The file '{path}' with the weights of '{name}' is missing. It is part of the zoo: "
            "install the zoo again."
        )
    expected, found = index[name]["sha256"], sha256(path)
    if found != expected:
        raise ValueError(
            f"Expected the weights of '{name}' with SHA-256 {expected} in '{path}'. Received: "
            f"{found}. The file is part of the zoo: install the zoo again."
        )
    return path


def save(
    model: GenerativeModel,
    config: ConfigDict,
    image_shape: tuple[int, int, int],
    levels: int,
    path: str | os.PathLike,
    dtype: str = "float16",
) -> list[str]:
    """Writes the weights of a model and the configuration that builds it, as `.npz`.

    The file holds the weights and the state of all networks and priors, such as batch statistics,
    the model's number of steps, and the attributes that `adapt` has set. It does not hold the state
    of the optimizers. To save the moving averages of the weights, call `save` within
    `model.best_weights()`.

    Args:
        model: The model.
        config: The configuration that `zoo.presets.build` built it with.
        image_shape: Height, width, channels.
        levels: Number of grey levels of its data set.
        path: The file to write, ending in `.npz`. It is written atomically.
        dtype: The type of trained variables, "float16" or "float32". State is always float32. An
            array is also float32 if float16 cannot represent it: if a value exceeds the range of
            float16, or if the array is nonnegative and a positive value would become 0.

    Returns:
        The paths of the trained variables that are float32 although `dtype` is "float16".

    Raises:
        ValueError: If the model contains the model of another run, if weights are not finite, or if
            `dtype` is unknown.

    Example:
        >>> config = zoo.presets.get("gan_digits")
        >>> model = zoo.presets.build(config, (8, 8, 1), levels=17)
        >>> zoo.pretrained.save(model, config, (8, 8, 1), 17, "gan.npz")
        []
    """
    check_storable(config)
    if dtype not in ("float16", "float32"):
        raise ValueError(f"`dtype` must be 'float16' or 'float32'. Received: {dtype!r}.")
    # State is small, and batch statistics need the precision.
    arrays = [_stored(v.numpy(), dtype if v.trainable else "float32") for v in model.weights]
    if bad := [
        v.path for v, a in zip(model.weights, arrays, strict=True) if not np.isfinite(a).all()
    ]:
        raise ValueError(f"Weights must be finite numbers. Received: NaN or infinity in {bad}.")
    settings = presets.to_dict(config)
    about = {
        "format": FORMAT,
        "zoo": __version__,
        # The folder of the data is left out, because it is private.
        "config": settings | {"data": settings["data"] | {"data_dir": None}},
        "image_shape": list(image_shape),
        "levels": levels,
        "adapted": {name: getattr(model, name) for name in model.adapted},
        "variables": [variable.path for variable in model.weights],
    }
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, *arrays, about=np.array(json.dumps(about)))
    return [
        variable.path
        for variable, array in zip(model.weights, arrays, strict=True)
        if variable.trainable and array.dtype == np.float32 != np.dtype(dtype)
    ]


def load(path: str | os.PathLike) -> GenerativeModel:
    """The compiled model with the weights that `save` wrote. No code in the file is run.

    The model is built from the configuration in the file. Settings that are newer than the file
    have the preset's values.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file has other content, if a later version of the zoo wrote it, or if
            this version builds another model from its configuration.

    Example:
        >>> config = zoo.presets.get("gan_digits")
        >>> model = zoo.presets.build(config, (8, 8, 1), levels=17)
        >>> float32 = zoo.pretrained.save(model, config, (8, 8, 1), 17, "gan.npz")
        >>> zoo.pretrained.load("gan.npz").sample(16).shape
        TensorShape([16, 8, 8, 1])
    """
    about, arrays = _read(path)
    try:
        check_storable(about["config"])
        config = presets.from_dict(about["config"])
        model = presets.build(config, tuple(about["image_shape"]), about["levels"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{path}' has no configuration that can be built: {error}") from error
    _check_alike(path, about, arrays, model)
    for variable, array in zip(model.weights, arrays, strict=True):
        variable.assign(array.astype(variable.dtype))
    for name in model.adapted:
        if name in about["adapted"]:
            setattr(model, name, about["adapted"][name])
    return model


def check_storable(config: Mapping) -> None:
    """Checks that a file of weights can hold the model of a configuration.

    Raises:
        ValueError: If the model contains the model of another run.
    """
    if "first" in config["model"]:
        raise ValueError(
            f"A model of preset '{config['preset']}' contains the model of another run, which a file "
            f"of weights does not hold: keep its .keras file. Received: "
            f"model.first={config['model']['first']!r}."
        )


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in the format of index.json."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _stored(array, dtype):
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        small = array.astype(dtype)
    lost = (array >= 0).all() and (small[array > 0] == 0).any()
    return array if lost or not np.isfinite(small).all() else small


def _read(path):
    """The description and the arrays in a file."""
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            content = dict(file)
        about = json.loads(str(content.pop("about")))
        arrays = [content[f"arr_{i}"] for i in range(len(content))]
        version, form = str(about["zoo"]), about["format"]
        if len(about["variables"]) != len(arrays) or not isinstance(about["adapted"], dict):
            raise ValueError("the arrays do not match their names")
        if not all(a.dtype.kind in "fiub" and np.isfinite(a).all() for a in arrays):
            raise ValueError("the arrays do not hold finite numbers")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file '{path}'.") from error
    except Exception as error:  # Damaged archives raise many types of errors.
        raise ValueError(
            f"Expected trained weights in '{path}', in a file that `zoo.pretrained.save` wrote. "
            f"Received: {error!r}."
        ) from error
    if _numbers(version) > _numbers(__version__):
        raise ValueError(
            f"The weights in '{path}' were written by version {version} of the zoo, and this is "
            f"version {__version__}: update the zoo."
        )
    if form != FORMAT:
        raise ValueError(
            f"Expected weights of format {FORMAT} in '{path}', because this is version {__version__} "
            f"of the zoo. Received: format {form}, written by version {version}."
        )
    return about, arrays


def _numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)]


def _check_alike(path, about, arrays, model):
    """Checks that each array belongs to the model's variable at the same place."""
    in_file = [(name, array.shape) for name, array in zip(about["variables"], arrays, strict=True)]
    in_model = [(variable.path, tuple(variable.shape)) for variable in model.weights]
    for stored, expected in itertools.zip_longest(in_file, in_model):
        if not stored or not expected or _kind(stored) != _kind(expected):
            raise ValueError(
                f"Expected the weights of the {type(model).__name__} that their configuration builds "
                f"in '{path}', and in it {_words(expected)}. Received: {_words(stored)}. Version "
                f"{about['zoo']} of the zoo wrote the file: use that version, or train again."
            )


def _kind(variable):
    # Only the end of a path is comparable: the names of layers count the layers of the process.
    path, shape = variable
    return str(path).rpartition("/")[2], shape


def _words(variable):
    return "nothing" if variable is None else f"'{variable[0]}' of shape {variable[1]}"
