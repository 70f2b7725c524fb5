"""Configurations from the signatures of constructors, and builders that extend each other."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras

from zoo.contract import as_count

T = TypeVar("T")


class FromArguments:
    """Base of classes that keep each constructor argument as an attribute of the same name.

    Such a class has `get_config` and `from_config`, and can thus be saved in Keras's `.keras`
    files. Arguments that a constructor passes on in `**kwargs` are looked up in the base classes,
    up to the classes of Keras.
    """

    @classmethod
    def _argument_names(cls) -> list[str]:
        names = []
        for base in cls.__mro__:
            if base is FromArguments or base.__module__.partition(".")[0] == "keras":
                break
            if "__init__" in vars(base):
                parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
                named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
                names += [p.name for p in named if p.name not in names]
                if len(named) == len(parameters):
                    break
        return names

    def get_config(self) -> dict:
        return super().get_config() | {  # type: ignore[misc]
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in self._argument_names()
        }

    @classmethod
    def from_config(cls, config: dict) -> "FromArguments":
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})


class PlainObject(FromArguments):
    """A `FromArguments` that is not a Keras object: a loss, a penalty, a kernel, a schedule."""

    def get_config(self) -> dict:
        return {name: getattr(self, name) for name in self._argument_names()}


def extends(
    base: Callable, without: Sequence[str] = (), **defaults: Any
) -> Callable[[Callable], Callable]:
    """Decorates a builder with the options of the builder that it extends.

    The decorated builder takes `image_shape`, its own options and `**options`, which it passes to
    `base`. Its signature lists its own options first, then the options of `base`; all of them are
    keyword-only. It also inherits the `choices` of `base`.

    Args:
        base: The builder whose options are inherited.
        without: Options of `base` that the new builder does not have, because it sets them.
        **defaults: Defaults that differ from those of `base`.

    Raises:
        TypeError: If the builder is called with an unknown option. The message lists the options.

    Example:
        >>> import inspect
        >>> from zoo.config import extends
        >>> def circle(image_shape, *, radius=1.0, color="red"):
        ...     return radius, color
        >>> @extends(circle, color="blue")
        ... def ring(image_shape, *, width=0.1, **options):
        ...     return width, circle(image_shape, **options)
        >>> str(inspect.signature(ring))
        "(image_shape, *, width=0.1, radius=1.0, color='blue')"
        >>> ring((8, 8, 1), radius=2.0)
        (0.1, (2.0, 'blue'))
    """

    def decorate(builder):
        parameters = inspect.signature(builder).parameters.values()
        own = {p.name: p for p in parameters if p.kind is not p.VAR_KEYWORD}
        inherited = {
            name: p.replace(default=defaults.get(name, p.default))
            for name, p in inspect.signature(base).parameters.items()
            if name not in own and name not in without
        }
        if unknown := defaults.keys() - inherited.keys():
            raise TypeError(
                f"`{base.__name__}` has no option {sorted(unknown)} whose default could change."
            )
        signature = inspect.signature(builder)
        signature = signature.replace(parameters=[*own.values(), *inherited.values()])
        options = getattr(base, "choices", {})
        kept = {
            option: {name: tuple(d for d in dependent if d not in without)
                     for name, dependent in table.items()}
            for option, table in options.items()
            if option in signature.parameters
        }  # fmt: skip
        # Include the defaults that the bases change: a builder may call a base of its base.
        changed = {
            name: value
            for name, value in (getattr(base, "changed_defaults", {}) | defaults).items()
            if name in inherited
        }
        return _checked(builder, signature, kept | getattr(builder, "choices", {}), changed)

    return decorate


def choices(**tables: Mapping[str, Sequence[str]]) -> Callable[[Callable], Callable]:
    """Declares the allowed values of a builder's options, and the options that each value uses.

    A builder with `@choices(network={"mlp": ("hidden",), "conv": ("hidden", "filters")})` rejects
    any other network. With the network "mlp" it also rejects `filters` other than the default,
    because they would have no effect.

    Args:
        **tables: For each option, `{value: names of the options that this value uses}`.

    Raises:
        ValueError: If the builder is called with an unknown value, or with an option that the
            chosen value does not use.
    """

    def decorate(builder):
        inherited = getattr(builder, "choices", {})
        defaults = getattr(builder, "changed_defaults", {})
        function = getattr(builder, "__wrapped__", builder)
        return _checked(function, inspect.signature(builder), inherited | tables, defaults)

    return decorate


def _checked(builder, signature, tables, defaults):
    """The builder with the given signature and with a check of its options."""

    @functools.wraps(builder)
    def build(*args, **options):
        options = defaults | options
        if unknown := [name for name in options if name not in signature.parameters]:
            there_are = ", ".join(name for name in signature.parameters if name != "image_shape")
            raise TypeError(
                f"`{builder.__name__}` has no option '{unknown[0]}'. It has: {there_are}."
            )
        for option, table in tables.items():
            chosen = options.get(option, signature.parameters[option].default)
            used = look_up(table, chosen, option)
            for name in unused_options(table, used):
                if name not in signature.parameters:
                    continue
                default = signature.parameters[name].default
                value = options.get(name, default)
                if (tuple(value) if isinstance(value, list) else value) != default:
                    users = ", ".join(repr(v) for v, names in table.items() if name in names)
                    raise ValueError(
                        f"`{name}` is an option of {option} {users}; {option}='{chosen}' does not use "
                        f"it. Leave it out, or choose another {option}. Received: {name}={value!r}."
                    )
                # The default of the base may differ, and the base would then reject this one.
                options.pop(name, None)
        given = signature.bind_partial(*args, **options).arguments
        options |= {name: _ints(name, v, signature.parameters[name]) for name, v in given.items()}
        return builder(**options)

    build.__signature__ = signature
    build.choices = tables
    build.changed_defaults = defaults
    return build


def _ints(name, value, parameter):
    """The value of an option; checked if the builder annotates it as an int or a sequence of ints.

    An option whose default is 0 may be 0. Keras does not take NumPy's ints, so they become ints.
    """
    least = 0 if parameter.default == 0 else 1
    if parameter.annotation is int:
        return as_count(value, name, least)
    if parameter.annotation == Sequence[int]:
        if not hasattr(value, "__iter__"):
            raise ValueError(f"`{name}` must be a sequence of ints. Received: {value!r}.")
        return tuple(as_count(count, name, least) for count in value)
    return value


def unused_options(table: Mapping[str, Sequence[str]], used: Sequence[str]) -> list[str]:
    """The options in a table of `choices` that are not among the options `used` of one value."""
    dependent = dict.fromkeys(name for names in table.values() for name in names)
    return [name for name in dependent if name not in used]


def with_article(name: str, capital: bool = False) -> str:
    """The name of a class with its article: "a VAE", "an IWAE", "an M2".

    Args:
        name: The name of a class.
        capital: Whether the article starts a sentence.

    Example:
        >>> zoo.config.with_article("InfoVAE", capital=True)
        'An InfoVAE'
    """
    # The letters of M2, MAF and RAE are pronounced one by one.
    vowel = name.startswith(("A", "E", "I", "O", "U", "M1", "M2", "MAF", "RAE"))
    article = "an" if vowel and not name.startswith("Uni") else "a"
    return f"{article.capitalize() if capital else article} {name}"


def look_up(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`.

    Raises:
        ValueError: If `name` is unknown. The message lists the known names and the nearest one.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(str(name), table, 1)
    suggestion = f"Did you mean '{near[0]}'? " if near else ""
    raise ValueError(f"Unknown {what} '{name}'. {suggestion}Available: {', '.join(table)}.")
