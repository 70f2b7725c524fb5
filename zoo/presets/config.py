"""Configurations of presets: functions that read and change them, and that build their models."""

import ast
import copy
import inspect
from collections.abc import Iterable
from typing import Any

import keras
from ml_collections import ConfigDict, config_dict

from zoo import models
from zoo.config import look_up, unused_options
from zoo.model import GenerativeModel
from zoo.presets import aaes, gans, hybrids, vaes, videos, vision

PRESETS: dict[str, dict[str, Any]] = (
    vaes.PRESETS | gans.PRESETS | aaes.PRESETS | hybrids.PRESETS | vision.PRESETS | videos.PRESETS
)
"""Each preset states its differences from the preset `like`, or from the builder's defaults."""

_DEFAULTS = {
    "data": {
        "data_dir": config_dict.placeholder(str),
        "image_size": config_dict.placeholder(int),
        "binarize": config_dict.placeholder(str),
        "seen": config_dict.placeholder(str),
        "num_labels": config_dict.placeholder(int),
        "y": config_dict.placeholder(str),
        "attributes": config_dict.placeholder(str),
        "mask": config_dict.placeholder(str),
        # Numbers of training, validation and test images of a rendered set; () for the set's own.
        "sizes": (),
    },
    # The decay of all learning rates over the epochs: a key of `zoo.training.callbacks.DECAYS`.
    "learning_rate_decay": "none",
    "batch_size": 50,
    "seed": 0,
    "strategy": "default",
    # A run's folder or a .keras file. A new run starts with its weights of the last epoch, which are
    # not their averages. None for random weights.
    "initial_weights": config_dict.placeholder(str),
    "mixed_precision": False,
    "deterministic": False,
    "jit_compile": True,
    "steps_per_execution": 50,
    # Evaluation on validation images: after every `every` epochs (0 for never) and after the last
    # epoch, or after the epochs `at`. The best model by `metric` is kept.
    "evaluation": {
        "every": 0,
        "at": (),
        "metric": "fid",
        "num_samples": 2000,
        "extractor": config_dict.placeholder(str),
    },
}

_OPTIMIZER_DEFAULTS = {
    "use_ema": False,
    "ema_momentum": 0.999,
    "global_clipnorm": config_dict.placeholder(float),
}


_MAY_BE_NONE = (
    "data_dir",
    "image_size",
    "binarize",
    "seen",
    "num_labels",
    "y",
    "attributes",
    "mask",
    "global_clipnorm",
    "extractor",
    "first",
    "initial_weights",
)


def names() -> list[str]:
    """The names of all presets."""
    return list(PRESETS)


def defaults(builder: str) -> dict[str, Any]:
    """The default of each option of a builder, without `image_shape` and `levels`.

    Raises:
        ValueError: If `builder` is unknown.
    """
    parameters = inspect.signature(look_up(models.BUILDERS, builder, "builder")).parameters
    return {n: p.default for n, p in parameters.items() if n not in ("image_shape", "levels")}


def resolve(name: str) -> dict[str, Any]:
    """The settings of a preset, merged with those of the preset `like`."""
    preset = {"model": {}} | PRESETS[name]
    if "like" not in preset:
        return preset
    base = resolve(preset.pop("like"))
    merged = {key: base.get(key, {}) | preset.get(key, {}) for key in ("model", "data")}
    return base | preset | merged


def get(name: str) -> ConfigDict:
    """The full configuration of a preset, which the caller may change.

    Args:
        name: One of `names()`.

    Raises:
        ValueError: If `name` is unknown.

    Example:
        >>> zoo.presets.get("vae_mnist").model.latent_dim
        20
    """
    look_up(PRESETS, name, "preset")
    # Copies, because configurations that share a placeholder also share its value.
    preset = copy.deepcopy(resolve(name))
    options = defaults(preset["builder"]) | preset["model"]
    # An option whose default is `None` names the run of a trained model.
    runs = {key: config_dict.placeholder(str) for key, value in options.items() if value is None}
    config = ConfigDict(copy.deepcopy(_DEFAULTS) | {"model": runs}, type_safe=True)
    config.update(ConfigDict({"preset": name} | preset | {"model": _with_values(options)}))
    for player, optimizer in config.optimizers.items():
        full = ConfigDict(copy.deepcopy(_OPTIMIZER_DEFAULTS))
        full.update(optimizer)
        config.optimizers[player] = full
    return config.lock()


def from_dict(settings: dict) -> ConfigDict:
    """The configuration with the given settings: the inverse of `to_dict`.

    A general setting that is missing, because it was added later, has the preset's value. A missing
    option of the builder has the builder's default, with which the model was built.

    Raises:
        ValueError: If `settings` is not the configuration of a known preset.
    """
    try:
        config = get(settings["preset"])
        config.model.update(_with_values(defaults(config.builder)))
        flat = dict(_flatten(ConfigDict(_with_present_names(settings))))
        if unknown := flat.keys() - dict(_flatten(config)).keys():
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        for path, value in flat.items():
            _assign(config, path, tuple(value) if isinstance(value, list) else value)
        _drop_unknown_optimizer_settings(config, paths=flat)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected the configuration of a run, as in its config.json. Received: {error}."
        ) from error
    return config


def _with_present_names(settings):
    """The settings of a run, with the present names of settings that had other names."""
    data = dict(settings["data"])
    quadrants = data.pop("seen_quadrants", None)
    if quadrants is not None:
        data["seen"] = f"quadrants:{quadrants}"
    return settings | {"data": data}


def to_dict(config: ConfigDict) -> dict:
    """The configuration as plain nested dicts that JSON can represent."""
    return config.to_dict()


def differences(a: ConfigDict, b: ConfigDict) -> dict[str, tuple]:
    """`{path: (value in a, value in b)}` for each path where the configurations differ."""
    a, b = dict(_flatten(a)), dict(_flatten(b))
    return {k: (a.get(k), b.get(k)) for k in a | b if a.get(k) != b.get(k)}


def override(config: ConfigDict, settings: Iterable[str]) -> None:
    """Changes a configuration in place by "key=value" settings.

    A key is a path such as `optimizers.vae.learning_rate`, or the end of a path if it is unique.
    The new value must have the type of the old value.

    A new choice resets the preset's settings that it does not use. For example, `prior=mixture`
    resets the `prior_steps` of a RealNVP prior to the default, and a new optimizer removes the
    settings that it does not have.

    Raises:
        ValueError: If a key or a choice is unknown, a value has another type, or a setting other
            than the preset's own does not fit the choice.

    Example:
        >>> config = zoo.presets.get("vae_digits")
        >>> zoo.presets.override(config, ["latent_dim=2", "prior=realnvp"])
        >>> config.model.latent_dim
        2
    """
    before = dict(_flatten(config))
    try:
        _override(config, settings)
    except ValueError:
        with config.unlocked():  # A setting that a new choice does not have is deleted.
            for path, value in before.items():
                setattr(_holder(config, path), path.rpartition(".")[2], value)
        raise


def _override(config, settings):
    fixed = ("preset", "about", "builder")
    known = [key for key, _ in _flatten(config) if key not in fixed]
    paths = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"A setting has the form key=value. Received: '{setting}'.")
        matches = [k for k in known if k == key or k.endswith(f".{key}")]
        if len(matches) != 1:
            raise ValueError(
                f"'{key}' is the end of several settings: {', '.join(matches)}. Write one of these."
                if matches
                else f"Preset '{config.preset}' has no setting '{key}'. It has: {', '.join(known)}."
            )
        [path] = matches
        if path.startswith("optimizers.") and path.endswith(".name"):
            _optimizer_class(text)  # Raises before anything is changed if the name is unknown.
        option = path.removeprefix("model.")
        if option in models.BUILDERS[config.builder].choices:
            look_up(models.BUILDERS[config.builder].choices[option], text, option)
        _set(config, path, text)
        paths.append(path)
    _reset_unused_options(config, paths)
    _drop_unknown_optimizer_settings(config, paths)


def _with_values(options):
    return {name: value for name, value in options.items() if value is not None}


def unused(config: ConfigDict, options: Iterable[str] | None = None) -> list[str]:
    """The options of the builder that its chosen values, such as that of `prior`, do not use.

    Args:
        config: A configuration.
        options: The choices to check, such as ["prior"]; `None` for all choices of the builder.

    Example:
        >>> "prior_steps" in zoo.presets.unused(zoo.presets.get("vae_digits"))
        True
    """
    choices = models.BUILDERS[config.builder].choices
    return [
        name
        for option in (choices if options is None else options)
        for name in unused_options(choices[option], choices[option][config.model[option]])
        if name in config.model
    ]


def _reset_unused_options(config, paths):
    """Resets the options of the preset that a newly chosen part does not use."""
    usual = defaults(config.builder)
    chosen = [o for o in models.BUILDERS[config.builder].choices if f"model.{o}" in paths]
    for name in unused(config, chosen):
        if f"model.{name}" not in paths:
            config.model[name] = usual[name]


def _set(config, path, text):
    wanted = _holder(config, path).get_type(path.rpartition(".")[2])
    try:
        name = path.rpartition(".")[2]
        is_text = wanted is str and (text.lower() != "none" or name not in _MAY_BE_NONE)
        _assign(config, path, text if is_text else _parse(text))
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError) as error:
        old = dict(_flatten(config))[path]
        raise ValueError(
            f"'{path}' is of type {wanted.__name__}, like {old!r}. Received: {text!r}."
        ) from error


def _assign(config, path, value):
    """Sets the value at `path`. Raises a `TypeError` if its type is not that of the old value."""
    holder, name = _holder(config, path), path.rpartition(".")[2]
    wanted = holder.get_type(name)
    item = type(holder[name][0]) if wanted is tuple and holder[name] else int
    if wanted is tuple and isinstance(value, int):
        value = (value,)
    if (
        (isinstance(value, bool) and wanted is not bool)
        or (value is None and name not in _MAY_BE_NONE)
        or (wanted is tuple and not all(type(v) is item for v in value))
    ):
        raise TypeError(f"{path} is {value!r}")
    setattr(holder, name, value)


def _holder(config, path):
    for parent in path.split(".")[:-1]:
        config = config[parent]
    return config


def _drop_unknown_optimizer_settings(config, paths):
    """Removes the preset's optimizer settings that the chosen optimizers do not have.

    Raises:
        ValueError: If such a setting is in `paths` or differs from the preset's.
    """
    own = get(config.preset).optimizers
    for player, settings in config.optimizers.items():
        takes = _arguments(_optimizer_class(settings.name))
        for key in [key for key in settings if key not in takes]:
            path = f"optimizers.{player}.{key}"
            if path in paths or settings[key] != own[player][key]:
                raise ValueError(
                    f"The optimizer '{settings.name}' of player '{player}' has no setting '{key}'. "
                    f"It has: {', '.join(takes)}. Received: {path}={settings[key]!r}."
                )
            with config.unlocked():
                del settings[key]


def _arguments(optimizer: type) -> list[str]:
    parameters = inspect.signature(optimizer).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]


def _optimizer_class(name: str) -> type[keras.optimizers.Optimizer]:
    # `keras.optimizers.get` would create an optimizer, with variables outside of a strategy.
    base = keras.optimizers.Optimizer
    classes = {
        key.lower(): value
        for key, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base
        if "learning_rate" in _arguments(value)  # Optimizers without one wrap another optimizer.
    }
    return look_up(classes, name.lower(), "optimizer")


def _parse(text):
    words = {"true": True, "false": False, "none": None}
    return words[text.lower()] if text.lower() in words else ast.literal_eval(text)


def _flatten(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def build(
    config: ConfigDict, image_shape: tuple[int, int, int], levels: int = 256, **parts: Any
) -> GenerativeModel:
    """Builds and compiles the model of a configuration.

    Call this function in the scope of the strategy that trains the model. If an option, such as
    baseline_hidden=(), removes a player, the preset's settings of that player's optimizer have no
    effect. A player that an option adds has the optimizer settings of the other players.

    Args:
        config: A configuration from `get` or `from_dict`.
        image_shape: Height, width, channels.
        levels: Number of grey levels of the data, for discretized likelihoods.
        **parts: Options of the builder that a configuration cannot hold, such as `first`, the
            trained model that an `M1M2` builds on.

    Raises:
        ValueError: If an option is out of range or does not fit the images.
    """
    builder = look_up(models.BUILDERS, config.builder, "builder")
    options = dict(config.model) | parts
    if "levels" in inspect.signature(builder).parameters:
        options["levels"] = levels
    model = builder(image_shape, **options)
    model.seed = config.seed
    model.compile(
        {player: _optimizer(dict(o)) for player, o in _optimizer_settings(model, config).items()},
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
    )
    return model


def _optimizer_settings(model, config):
    """The optimizer settings of each player of the model, whose players depend on its options.

    The preset's settings for a player that the model does not have are dropped. A player without
    settings gets those of the other players, if these are all equal.
    """
    players, optimizers = model.players(), dict(config.optimizers)
    own = get(config.preset).optimizers
    for player in sorted(optimizers.keys() - players.keys()):
        settings = optimizers.pop(player)
        if any(own[player].get(key) != value for key, value in settings.items()):
            raise ValueError(
                f"With these options the model has no player '{player}'; it has: "
                f"{', '.join(players)}. Received: settings of optimizers.{player} that differ from "
                "the preset's; leave them out."
            )
    for player in sorted(players.keys() - optimizers.keys()):
        first, *others = map(dict, optimizers.values())
        if any(other != first for other in others):
            raise ValueError(
                f"Preset '{config.preset}' has no optimizer settings for the player '{player}', and "
                f"those of {', '.join(optimizers)} differ. Use a preset with this player, or equal "
                "settings for all players."
            )
        optimizers[player] = first
    return optimizers


def _optimizer(settings):
    name = settings.pop("name")
    return _optimizer_class(name).from_config(settings)
