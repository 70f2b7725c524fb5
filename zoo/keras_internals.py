"""All private names of Keras that the zoo uses, each behind a function with a public name.

Keras has no public equivalents. Every name exists, with the same meaning, in Keras 3.12, 3.13, 3.14
and 3.15: `tests/test_keras_internals.py` passes with each version. To support another version of
Keras, run those tests with it and change only this module.
"""

from collections.abc import Collection, Iterable
from typing import TypeVar

import keras
import tensorflow as tf

ModelClass = TypeVar("ModelClass", bound=type[keras.Model])


def layers_in(layer: keras.layers.Layer, include_self: bool = True) -> list[keras.layers.Layer]:
    """The layer, unless `include_self` is false, and all layers inside it, at any depth.

    Uses `Layer._flatten_layers`. Checked with Keras 3.12 to 3.15.
    """
    return layer._flatten_layers(include_self=include_self)


def seed_generators(layer: keras.layers.Layer) -> list[keras.random.SeedGenerator]:
    """The layer's own seed generators, without those of the layers inside it.

    Uses `Layer._seed_generators`. Checked with Keras 3.12 to 3.15.
    """
    return layer._seed_generators


def collected_losses(scope: keras.StatelessScope) -> list[tf.Tensor]:
    """The losses that layers added with `add_loss` in a scope made with `collect_losses=True`.

    Uses `StatelessScope.losses`. Checked with Keras 3.12 to 3.15.
    """
    return scope.losses


def added_any(layer: keras.layers.Layer, losses: Iterable[tf.Tensor]) -> bool:
    """Whether the layer itself, rather than a layer inside it, added one of these losses.

    Uses `Layer._loss_ids`. Checked with Keras 3.12 to 3.15.
    """
    return not layer._loss_ids.isdisjoint(map(id, losses))


def take_state_updates(
    scope: keras.StatelessScope, variable_ids: Collection[int]
) -> dict[int, tf.Tensor]:
    """Removes the new values of these variables from the scope; returns them by `id(variable)`.

    Afterwards these variables have their stored values within the scope. Variables that the scope
    did not update are omitted. Uses `StatelessScope.state_mapping`. Checked with Keras 3.12 to
    3.15.
    """
    mapping = scope.state_mapping
    return {i: mapping.pop(i) for i in variable_ids if i in mapping}


def clip_gradients(optimizer: keras.optimizers.Optimizer, gradients: list) -> list[tf.Tensor]:
    """The gradients, clipped by the optimizer's `clipnorm`, `clipvalue` or `global_clipnorm`.

    Uses `Optimizer._clip_gradients`. Checked with Keras 3.12 to 3.15.
    """
    return optimizer._clip_gradients(gradients)


def moving_averages(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The moving averages that an optimizer with `use_ema=True` keeps of the trainable variables.

    Their order is that of the variables with which the optimizer was built. Uses
    `Optimizer._model_variables_moving_average`. Checked with Keras 3.12 to 3.15.
    """
    return optimizer._model_variables_moving_average


def without_symbolic_build(model_class: ModelClass) -> ModelClass:
    """A class decorator: `fit` and `evaluate` do not build the model from a first batch of data.

    Under a distribution strategy, Keras takes that batch from the training data and does not train
    on it. The decorator is for models that are built in their constructor. Overrides
    `Trainer._maybe_symbolic_build`. Checked with Keras 3.12 to 3.15.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        pass

    model_class._maybe_symbolic_build = _maybe_symbolic_build
    return model_class
