"""Configs read off the constructors, so that they cannot drift from them."""

import difflib
import inspect
from collections.abc import Mapping
from typing import TypeVar

import keras

T = TypeVar("T")


class FromArguments:
    """Keeps each constructor argument as an attribute of the same name, and nothing else.

    A class that does so gets `get_config` and `from_config` for free, and with them Keras's
    `.keras` files. Arguments that a constructor passes on in `**kwargs` are found in the base
    classes, up to Keras's own.
    """

    @classmethod
    def _argument_names(cls) -> list[str]:
        names = []
        for base in cls.__mro__:
            if base is FromArguments or base.__module__.partition(".")[0] == "keras":
                break
            if "__init__" in vars(base):
                parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
                named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
                names += [p.name for p in named if p.name not in names]
                if len(named) == len(parameters):
                    break
        return names

    def get_config(self) -> dict:
        return super().get_config() | {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in self._argument_names()
        }

    @classmethod
    def from_config(cls, config: dict):
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})


def look_up(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`, or a `ValueError` that says what there is and what may have been meant."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(str(name), table, 1)
    raise ValueError(
        f"Unknown {what} '{name}'. There are: {', '.join(table)}."
        + (f" Did you mean '{near[0]}'?" if near else "")
    )
