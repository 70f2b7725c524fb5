"""The optimizers of a model: one for each player, checked, and wrapped where gradients need it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from zoo import keras_internals
from zoo.config import with_article
from zoo.steps import layers_of

if TYPE_CHECKING:
    from zoo.model import GenerativeModel


def checked_settings(model: GenerativeModel, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings for Keras's `compile`, without XLA on several replicas.

    Raises a `ValueError` for a setting that is unknown or does not work on several replicas.
    """
    if unknown := settings.keys() - {"jit_compile", "steps_per_execution", "run_eagerly"}:
        raise ValueError(
            f"{with_article(type(model).__name__, True)} has its losses and metrics built in: "
            "`compile` takes `optimizer`, `auto_scale_loss`, `jit_compile`, "
            f"`steps_per_execution` and `run_eagerly`. Received: {sorted(unknown)}."
        )
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or isinstance(strategy, tf.distribute.TPUStrategy):
        return settings
    settings = {"jit_compile": False} | settings
    if settings["jit_compile"] is True or settings.get("steps_per_execution", 1) > 1:
        raise ValueError(
            f"With {replicas} replicas TensorFlow can neither compile the step with XLA "
            "nor run several steps at once: compile with jit_compile=False and "
            f"steps_per_execution=1. Received: jit_compile={settings['jit_compile']}, "
            f"steps_per_execution={settings.get('steps_per_execution', 1)}."
        )
    return settings


def of_players(
    model: GenerativeModel, optimizer: Any, auto_scale_loss: bool
) -> dict[str, keras.optimizers.Optimizer]:
    """A built optimizer for each player. Arguments and errors: see `GenerativeModel.compile`."""
    players = model.players()
    if not isinstance(optimizer, Mapping) and len(players) == 1:
        optimizer = dict.fromkeys(players, optimizer)
    elif not isinstance(optimizer, Mapping):
        config = keras.optimizers.serialize(keras.optimizers.get(optimizer))
        optimizer = {name: keras.optimizers.deserialize(config) for name in players}
    if optimizer.keys() != players.keys():
        raise ValueError(
            "`optimizer` must be one optimizer, or a dict with the players "
            f"{sorted(players)} as keys. Received: a dict with the keys {sorted(optimizer)}."
        )
    optimizers = {name: keras.optimizers.get(optimizer[name]) for name in players}
    if len(set(map(id, optimizers.values()))) < len(players):
        raise ValueError(
            "An optimizer keeps the state of one player: pass a separate optimizer for each of "
            f"{sorted(players)}, or one optimizer to copy."
        )
    _check_players(model)
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    for name in players:
        halves = any(part.compute_dtype == "float16" for part in layers_of(model, name))
        if auto_scale_loss and halves and not scales_loss(optimizers[name]):
            optimizers[name] = keras.optimizers.LossScaleOptimizer(optimizers[name])
        if replicas > 1 and scales_loss(optimizers[name]):
            # Keras checks only one replica's gradients for overflow, and clips each share.
            raise ValueError(
                "A LossScaleOptimizer works on one replica. Compute in bfloat16, which needs "
                "no scaling, or give the optimizer a fixed `loss_scale_factor` and compile "
                f"with auto_scale_loss=False. Received: {replicas} replicas, and a "
                f"LossScaleOptimizer for player '{name}'."
            )
        variables = model.variables_of(name)
        _check_optimizer(optimizers[name], name, variables, strategy)
        # Optimizer variables must be created in the strategy's scope, not in a replica.
        optimizers[name].build(variables)
    return optimizers


def scales_loss(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether the optimizer multiplies the loss, so that gradients in float16 do not underflow."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def apply(optimizer: keras.optimizers.Optimizer, gradients: list, variables: list) -> None:
    """Updates the variables of a player. Replicas add their gradients, which are then clipped."""
    replicas = tf.distribute.get_replica_context()
    if replicas.num_replicas_in_sync > 1 and (
        optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
    ):
        # Keras clips each replica's share of the gradient, then adds the shares. Clip the sum
        # first; its equal shares are within any bound, so that the optimizer does not clip them.
        scale = optimizer.loss_scale_factor or 1.0
        gradients = [g / scale for g in gradients]
        gradients = replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients = keras_internals.clip_gradients(optimizer, gradients)
        gradients = [g * (scale / replicas.num_replicas_in_sync) for g in gradients]
    optimizer.apply(gradients, variables)


def _check_players(model):
    """Raises a `ValueError` unless players, their layers and the gates fit together."""
    players = model.players()
    if unknown := {name for round in model.rounds() for name in round.gates} - players.keys():
        raise ValueError(
            f"A gate belongs to one of the players {sorted(players)}. "
            f"Received: gates of {sorted(unknown)}."
        )
    owned = {id(v) for name in players for v in model.variables_of(name)}
    if strays := [v.path for v in model.trainable_variables if id(v) not in owned]:
        raise ValueError(
            "Each trainable variable of a model belongs to at least one player: add its layer "
            "to `players()`, or freeze the layer with `trainable = False`. Received: a "
            f"{type(model).__name__} in which no player has {', '.join(map(repr, strays))}."
        )
    for layer in layers_of(model):
        if getattr(layer, "activity_regularizer", None) is not None:
            raise ValueError(
                "The penalty of an `activity_regularizer` belongs to no player's loss: add it "
                "to a loss in the model's objective. Regularizers of weights work. Received: "
                f"the layer '{layer.name}' with an `activity_regularizer`."
            )


def _check_optimizer(optimizer, player, variables, strategy):
    """Raises a `ValueError` unless the optimizer can be built for the player's variables."""
    if not strategy.extended.variable_created_in_scope(optimizer.iterations.value):
        raise ValueError(
            "Create the optimizer within the scope of the strategy that the model is compiled in. "
            f"Received: an {type(optimizer).__name__} from outside the scope, for player "
            f"'{player}'."
        )
    built_for = keras_internals.variables_of_optimizer(optimizer)
    if built_for is not None and list(map(id, built_for)) != list(map(id, variables)):
        raise ValueError(
            "An optimizer keeps the state of the variables for which it was first compiled. Pass a "
            "new one, such as `type(optimizer).from_config(optimizer.get_config())`. Received: an "
            f"{type(optimizer).__name__} for player '{player}' that was compiled for another model, "
            "or before a layer was frozen or unfrozen."
        )
