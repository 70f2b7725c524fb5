"""Moving averages of a model's weights, and the state of layers that belongs to them.

`GenerativeModel.averaged_weights` and `GenerativeModel.fit_averaged_state` describe both.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from zoo import checked_data, keras_internals, optimizers
from zoo.config import with_article
from zoo.steps import generator_states, layers_of, passes, turns_of

if TYPE_CHECKING:
    from zoo.model import GenerativeModel


@dataclasses.dataclass(frozen=True)
class AveragedState:
    """The state of layers, such as batch statistics, that belongs to the averaged weights.

    Attributes:
        step: The step of the model at which the state was computed.
        values: Values of variables, by their places in `layer_state`.
    """

    step: int
    values: dict[int, np.ndarray]


def optimizers_with_averages(model: GenerativeModel) -> dict[str, keras.optimizers.Optimizer]:
    """The optimizers that keep averages, by player."""
    own = {
        player: optimizer.inner_optimizer if optimizers.scales_loss(optimizer) else optimizer
        for player, optimizer in getattr(model, "optimizers", {}).items()
    }
    return {player: optimizer for player, optimizer in own.items() if optimizer.use_ema}


def layer_state(model: GenerativeModel) -> list[keras.Variable]:
    """The variables of the players' layers that change in calls in training mode."""
    parts = layers_of(model)
    frozen = {id(v) for part in parts if not part.trainable for v in part.weights}
    state = {id(v): v for part in parts for v in part.non_trainable_weights}
    return [v for i, v in state.items() if i not in frozen]


@contextlib.contextmanager
def averaged(model: GenerativeModel, own: AveragedState | None) -> Iterator[None]:
    """A context in which the model has the averaged weights, and the state that belongs to them.

    Raises:
        ValueError: If no optimizer keeps averages, or if the state is missing or of another step.
    """
    averages = _averages(model)
    state = layer_state(model) if averages else []
    step = int(model.step.numpy())
    if state and (own is None or own.step != step):
        raise ValueError(
            "The layers have batch statistics, or other state, of the current weights, which "
            "does not fit the averages of the weights. Pass training data, from which the state "
            "is computed: `averaged_weights(data)` with a tf.data.Dataset of batches. Received: "
            f"data=None, and {with_article(type(model).__name__)} at step {step}, "
            + ("without such state." if own is None else f"with such state of step {own.step}.")
        )
    values = [(state[i], value) for i, value in own.values.items()] if state and own else []
    with _assigned([*averages, *values]):
        yield


def step_in_training_mode(model: GenerativeModel) -> Callable:
    """The function that `fit_state` runs on each batch: of the model as it is compiled now."""

    def step(batch, i):
        return _run_in_training_mode(model, batch, i)

    # AutoGraph is off, as in the functions that Keras makes of the training step.
    return step if model.run_eagerly else tf.function(step, reduce_retracing=True, autograph=False)


def fit_state(
    model: GenerativeModel, data: tf.data.Dataset, step: Callable
) -> AveragedState | None:
    """The state for the averaged weights, from all batches; `None` if no state is needed.

    `step` is the result of `step_in_training_mode`. Other arguments and errors are those of
    `GenerativeModel.fit_averaged_state`.
    """
    averages, state = _averages(model), layer_state(model)
    _check_batches(data)
    checked_data.check_data(model, data)
    if not averages or not state:
        return None
    sums: dict[int, np.ndarray] = {}
    latest: dict[int, np.ndarray] = {}
    count = 0
    with _assigned([*averages, *((variable, variable.numpy()) for variable in state)]):
        for i, batch in enumerate(data):
            size, statistics, others = step(batch, tf.constant(i))
            count += int(size)
            for place, value in statistics.items():
                sums[place] = sums.get(place, 0.0) + float(size) * value.numpy().astype("float64")
            for place, value in others.items():
                state[place].assign(value)
                latest[place] = value.numpy()
    if not count:
        raise ValueError("Expected at least one batch of training data. Received: no batch.")
    means = {place: (total / count).astype("float32") for place, total in sums.items()}
    return AveragedState(int(model.step.numpy()), means | latest)


def save(own: AveragedState | None, store: Any) -> None:
    """Writes the state into a store of Keras, with the model's own variables."""
    if own is not None:
        store["averaged_state_step"] = np.array(own.step)
        for place, value in own.values.items():
            store[f"averaged_state_{place}"] = value


def load(store: Any) -> tuple[dict[str, Any], AveragedState | None]:
    """The model's own variables in a store that `save` has written, and the state."""
    variables = {name: store[name] for name in store.keys()}  # noqa: SIM118 (no ordinary dict)
    step = variables.pop("averaged_state_step", None)
    prefix = "averaged_state_"
    values = {
        int(name.removeprefix(prefix)): np.array(variables.pop(name))
        for name in list(variables)
        if name.startswith(prefix)
    }
    return variables, None if step is None else AveragedState(int(np.array(step)), values)


def _averages(model):
    """Pairs of a variable and its moving average.

    Raises:
        ValueError: If no optimizer keeps averages.
    """
    own = optimizers_with_averages(model)
    if not own:
        raise ValueError(
            "No optimizer of the model keeps averages of the weights: compile with an "
            "optimizer with `use_ema=True`, such as keras.optimizers.Adam(use_ema=True)."
        )
    return [
        (variable, average)
        for player, optimizer in own.items()
        # Before the first step the averages are zeros; the weights then do not change.
        if optimizer.iterations > 0
        for variable, average in zip(
            model.variables_of(player), keras_internals.moving_averages(optimizer), strict=True
        )
    ]


@contextlib.contextmanager
def _assigned(pairs):
    """A context in which variables have other values, given as pairs."""
    before = [variable.numpy() for variable, _ in pairs]
    try:
        for variable, value in pairs:
            variable.assign(value)
        yield
    finally:
        for (variable, _), value in zip(pairs, before, strict=True):
            variable.assign(value)


def _check_batches(data):
    """Raises a `ValueError` unless `data` is a finite dataset."""
    if not isinstance(data, tf.data.Dataset):
        raise ValueError(
            "Expected a tf.data.Dataset of batches of training data, such as "
            "`tf.data.Dataset.from_tensor_slices(x).shuffle(len(x)).batch(100)`. Received: a "
            f"{type(data).__name__}."
        )
    if int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "Expected a finite number of batches: pass `data.take(number)`. Received: a dataset "
            "without end."
        )


def _run_in_training_mode(model, batch, i):
    """Runs all rounds on the `i`-th batch, without updates.

    Returns:
        The number of examples; the batch's statistics; and the new values of other state. Both
        are dicts by places in `layer_state`.
    """
    x, y = checked_data.unpack(model, batch)
    places = {id(v): place for place, v in enumerate(layer_state(model))}
    players, parts = model.players(), layers_of(model)
    statistics, others = {}, {}
    # Neither training nor evaluation has the seeds of these steps.
    for round, x_share, y_share, seed in passes(model, x, y, tf.int32.min + i):
        scope = keras.StatelessScope(generator_states(model, seed))
        with scope, keras_internals.batch_moments(parts) as moments:
            for losses, _ in turns_of(round.objective(x_share, y_share, seed, training=True)):
                own = {
                    id(v)
                    for player in losses
                    for layer in players[player]
                    for v in layer.non_trainable_weights
                }
                # Calls since the last turn of another player stay until that player's turn.
                own &= places.keys()
                for variable in own & moments.keys():
                    statistics.setdefault(places[variable], []).extend(moments[variable])
                    moments[variable].clear()
                updates = keras_internals.take_state_updates(scope, own)
                others |= {places[variable]: value for variable, value in updates.items()}
    size = sum(tf.shape(t)[0] for t in keras.tree.flatten(x))
    means = {place: tf.add_n(all_) / len(all_) for place, all_ in statistics.items() if all_}
    return size, means, {place: v for place, v in others.items() if place not in means}
