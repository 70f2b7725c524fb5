"""Trained weights that come with the zoo: files of plain arrays, and the models that they are of.

model = zoo.from_preset("vae_conv_mnist")

Beside each file lies its card, which says where the weights come from and how they score.
`benchmarks.release.pack` makes both of the models of a comparison.
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

from zoo import presets
from zoo.model import GenerativeModel

SHIPPED = Path(__file__).parent / "weights"
INDEX = "index.json"
FORMAT = 1
MOST_BYTES = 40_000_000  # of all weights that come with the zoo
# What `adapt` sets besides weights, of the models that have it.
ADAPTED = ("labelled_share",)


def names() -> list[str]:
    """The presets with trained weights, sorted.

    Example:
        >>> set(zoo.pretrained.names()) <= set(zoo.presets.names())
        True
    """
    return sorted(read_index(SHIPPED))


def read_index(folder: Path) -> dict[str, dict[str, str]]:
    """What a folder's index.json says of the files there: `{preset: {"sha256", "zoo"}}`.

    Without such a file it is empty. "zoo" is the version that wrote the weights.
    """
    path = folder / INDEX
    return json.loads(path.read_text()) if path.is_file() else {}


def from_preset(name: str) -> GenerativeModel:
    """The trained model of a preset, compiled as the preset says. Nothing is downloaded.

    It can do all that the model of a run can: `sample`, `encode`, `fit`. Optimizers start anew.

    Args:
        name: One of `names()`, or another name of it: see `zoo.presets.canonical`.

    Raises:
        ValueError: If there is no such preset, or there are no weights of it; if the file is not
            the one that came with the zoo, or `load` cannot use it.
        FileNotFoundError: If the file is missing.

    Example:
        >>> zoo.from_preset("vae_conv_mnist").sample(16).shape
        TensorShape([16, 28, 28, 1])
    """
    name = presets.canonical(name)
    index = read_index(SHIPPED)
    if name not in index:
        raise ValueError(
            f"There are no trained weights of preset '{name}'. There are of: "
            f"{', '.join(sorted(index)) or 'none'}. Train it: python -m trainers.train "
            f"--preset={name} --output=runs/{name}"
        )
    path = SHIPPED / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"The weights of '{name}' were looked for in '{path}', which is no file. They come with "
            "the zoo: install it anew."
        )
    expected, found = index[name]["sha256"], sha256(path)
    if found != expected:
        raise ValueError(
            f"'{path}' must hold the weights of '{name}', SHA-256 {expected}. Received: {found}. "
            "They come with the zoo: install it anew."
        )
    return load(path)


def save(
    model: GenerativeModel,
    config: ConfigDict,
    image_shape: tuple[int, int, int],
    levels: int,
    path: str | os.PathLike,
    dtype: str = "float16",
) -> list[str]:
    """Writes all that a model has learned, and what it takes to build it, as `.npz`.

    That is the weights of all networks and priors with their state, such as batch statistics, the
    model's count of steps, and the numbers that `adapt` has set; the state of optimizers is left out.
    Where they keep averages, wrap the call in `model.best_weights()`. The file appears complete or
    not at all.

    Args:
        model: The model.
        config: The configuration that it was built with.
        image_shape: Height, width, channels.
        levels: Number of grey levels of its data.
        path: Where to write, a name that ends in `.npz`.
        dtype: "float16" or "float32", of what is trained. Batch statistics and other state are
            float32, and so is an array that float16 cannot hold: one with values beyond its range,
            or a nowhere negative one with a positive value that would become 0.

    Returns:
        The paths of the trained variables that are kept in float32 though `dtype` is float16.

    Raises:
        ValueError: For a model on top of another run's, weights that are not finite, or another
            `dtype`.

    Example:
        >>> config = zoo.presets.get("gan_digits")
        >>> model = zoo.presets.build(config, (8, 8, 1), levels=17)
        >>> zoo.pretrained.save(model, config, (8, 8, 1), 17, "gan.npz")
        []
    """
    check(config)
    if dtype not in ("float16", "float32"):
        raise ValueError(f"`dtype` must be 'float16' or 'float32'. Received: {dtype!r}.")
    import zoo  # Not above: it imports this module.

    # State is little, and a batch statistic's rounding would count in units of its deviation.
    arrays = [_stored(v.numpy(), dtype if v.trainable else "float32") for v in model.weights]
    if bad := [
        v.path for v, a in zip(model.weights, arrays, strict=True) if not np.isfinite(a).all()
    ]:
        raise ValueError(f"Weights are finite numbers. Received: NaN or infinity in {bad}.")
    settings = presets.to_dict(config)
    about = {
        "format": FORMAT,
        "zoo": zoo.__version__,
        # Where the data lay is nobody else's business.
        "config": settings | {"data": settings["data"] | {"data_dir": None}},
        "image_shape": list(image_shape),
        "levels": levels,
        "adapted": {name: getattr(model, name) for name in ADAPTED if hasattr(model, name)},
        "variables": [variable.path for variable in model.weights],
    }
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.savez_compressed(file, *arrays, about=np.array(json.dumps(about)))
    os.replace(partial, path)
    return [
        variable.path
        for variable, array in zip(model.weights, arrays, strict=True)
        if variable.trainable and array.dtype == np.float32 != np.dtype(dtype)
    ]


def load(path: str | os.PathLike) -> GenerativeModel:
    """The model, compiled, with the weights that `save` wrote. Nothing in the file is run.

    It is built from the configuration in the file. What that lacks, since it came later, is as in the
    preset of that name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else, was written by a later version of the zoo, or this
            one builds another model from its configuration.

    Example:
        >>> config = zoo.presets.get("gan_digits")
        >>> model = zoo.presets.build(config, (8, 8, 1), levels=17)
        >>> kept = zoo.pretrained.save(model, config, (8, 8, 1), 17, "gan.npz")
        >>> zoo.pretrained.load("gan.npz").sample(16).shape
        TensorShape([16, 8, 8, 1])
    """
    about, arrays = _read(path)
    try:
        check(about["config"])
        config = presets.from_dict(about["config"])
        model = presets.build(config, tuple(about["image_shape"]), about["levels"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{path}' has no configuration that can be built: {error}") from error
    _check_alike(path, about, arrays, model)
    for variable, array in zip(model.weights, arrays, strict=True):
        variable.assign(array.astype(variable.dtype))
    for name in ADAPTED:
        if name in about["adapted"]:
            setattr(model, name, about["adapted"][name])
    return model


def check(config: Mapping) -> None:
    """Raises a `ValueError` for the configuration of a model that no file can hold."""
    if "first" in config["model"]:
        raise ValueError(
            f"A model of preset '{config['preset']}' stands on that of another run, which a file of "
            f"weights does not hold: keep its .keras file. Received: "
            f"model.first={config['model']['first']!r}."
        )


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, as index.json has it."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _stored(array, dtype):
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        small = array.astype(dtype)
    lost = (array >= 0).all() and (small[array > 0] == 0).any()
    return array if lost or not np.isfinite(small).all() else small


def _read(path):
    """What the file says of itself, and its arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            content = dict(file)
        about = json.loads(str(content.pop("about")))
        arrays = [content[f"arr_{i}"] for i in range(len(content))]
        version, form = str(about["zoo"]), about["format"]
        if len(about["variables"]) != len(arrays) or not isinstance(about["adapted"], dict):
            raise ValueError("other arrays than it names")
        if not all(a.dtype.kind in "fiub" and np.isfinite(a).all() for a in arrays):
            raise ValueError("arrays that are not of finite numbers")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file '{path}'.") from error
    except Exception as error:  # A damaged archive has all kinds of them.
        raise ValueError(
            f"'{path}' must hold trained weights, as `zoo.pretrained.save` writes them. "
            f"Received: {error!r}."
        ) from error
    import zoo  # Not above: it imports this module.

    if _numbers(version) > _numbers(zoo.__version__):
        raise ValueError(
            f"The weights in '{path}' were written by version {version} of the zoo, and this is "
            f"version {zoo.__version__}: update the zoo."
        )
    if form != FORMAT:
        raise ValueError(
            f"Expected weights of format {FORMAT} in '{path}'. Received: format {form}, of version "
            f"{version} of the zoo, this being version {zoo.__version__}."
        )
    return about, arrays


def _numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)]


def _check_alike(path, about, arrays, model):
    """Raises a `ValueError` unless the arrays are those of the model's variables, one by one."""
    held = [(name, array.shape) for name, array in zip(about["variables"], arrays, strict=True)]
    wanted = [(variable.path, tuple(variable.shape)) for variable in model.weights]
    for here, there in itertools.zip_longest(held, wanted):
        if not here or not there or _kind(here) != _kind(there):
            raise ValueError(
                f"Expected the weights of the {type(model).__name__} of their configuration in "
                f"'{path}', which has {_words(there)} next. Received: {_words(here)}. They were "
                f"written by version {about['zoo']} of the zoo: use that, or train anew."
            )


def _kind(variable):
    # Of a path only the end says what it is; layers are counted in the order they are made.
    path, shape = variable
    return str(path).rpartition("/")[2], shape


def _words(variable):
    return "nothing" if variable is None else f"'{variable[0]}' of shape {variable[1]}"
