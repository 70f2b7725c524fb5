"""What lets Keras's own tools work with players: callbacks, `model.optimizer` and `summary`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras

from zoo import averaging, keras_internals
from zoo.config import with_article
from zoo.finite import StopAtNonFinite
from zoo.steps import layers_of

if TYPE_CHECKING:
    from zoo.model import GenerativeModel

_OF_ONE_OPTIMIZER = (
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.SwapEMAWeights,
)
"""Keras's callbacks that change `model.optimizer`."""


@contextlib.contextmanager
def guarded(model: GenerativeModel, callbacks: Any) -> Iterator[Any]:
    """A context for Keras's `fit`, with its callbacks after the guard of `zoo.finite`.

    In the context, no optimizer replaces the weights by their averages. Raises a `ValueError` for a
    callback that would fail later, or be wrong.
    """
    given = isinstance(callbacks, keras.callbacks.CallbackList)
    others = callbacks.callbacks if given else keras.tree.flatten(callbacks or [])
    _check_callbacks(model, others)
    # The first callback, so that no other callback saves or plots invalid results.
    stop = StopAtNonFinite(any(getattr(c, "save_freq", "epoch") != "epoch" for c in others))
    with keras_internals.without_finalizing(getattr(model, "optimizer", None)):
        if not given:
            yield [stop, *others]
            return
        stop.set_model(model)
        others.insert(0, stop)
        try:
            yield callbacks
        finally:
            others.remove(stop)


def _check_callbacks(model, callbacks):
    players = model.players()
    for callback in callbacks:
        name = type(callback).__name__
        if len(players) > 1 and isinstance(callback, _OF_ONE_OPTIMIZER):
            raise ValueError(f"{_several(players)} Received: a {name}.")
        if isinstance(callback, keras.callbacks.SwapEMAWeights) and averaging.layer_state(model):
            raise ValueError(
                "SwapEMAWeights does not change batch statistics, or other state of layers, "
                "which does not fit the averaged weights. Use `model.averaged_weights(data)` "
                f"after the training. Received: a {name} and {with_article(type(model).__name__)} "
                "whose layers have such state."
            )


def _several(players):
    one = sorted(players)[0]
    return (
        f"Each of the players {sorted(players)} has its own optimizer, so that the model has no "
        f"single `optimizer`: use `model.optimizers['{one}']` and so on, for example in a callback "
        f"that sets `self.model.optimizers['{one}'].learning_rate`."
    )


class NoSingleOptimizer:
    """`model.optimizer` of a model with several players, each with an optimizer of its own.

    It is false, so that Keras's tools that can do without an optimizer work.
    """

    built = True

    def __init__(self, players: Iterable[str]):
        self._message = _several(players)

    def __bool__(self):
        return False

    def __getattr__(self, name):
        message = self.__dict__.get("_message", "The model has several optimizers.")
        raise AttributeError(f"{message} Received: `model.optimizer.{name}`.")


class Networks(keras.Model):
    """The networks of a model, and its other layers with weights of their own, for `summary`."""

    def __init__(self, model: GenerativeModel):
        super().__init__(name=model.name)
        shown: set[int] = set()
        self.networks = []
        for layer in keras_internals.layers_in(model, include_self=False):
            inside = keras_internals.layers_in(layer, include_self=False)
            within = {id(v) for part in inside for v in part.weights}
            # A model with players has networks of its own, which are shown instead.
            network = isinstance(layer, keras.Model) and not hasattr(layer, "players")
            own_weights = any(id(v) not in within for v in layer.weights)
            if id(layer) not in shown and (network or own_weights):
                self.networks.append(layer)
                shown |= {id(part) for part in inside}
        self.built = True


def refuse_losses_of_layers(model: GenerativeModel, scope: keras.StatelessScope) -> None:
    """Raises a `ValueError` if a layer added a loss (`add_loss`) in the scope."""
    losses = keras_internals.collected_losses(scope)
    if not losses:
        return
    names = dict.fromkeys(
        layer.name for layer in layers_of(model) if keras_internals.added_any(layer, losses)
    )
    raise ValueError(
        "A loss that a layer adds in its call (`add_loss`) belongs to no player: add it to a "
        "loss in the model's objective, as one number per example. Received: the layer "
        f"'{', '.join(names) or '?'}', which adds a loss."
    )
