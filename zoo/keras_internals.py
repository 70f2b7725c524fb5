"""All private names of Keras that the zoo uses, each behind a function with a public name.

Keras has no public equivalents. Every name exists, with the same meaning, in Keras 3.12, 3.13, 3.14
and 3.15: `tests/test_keras_internals.py` passes with each version. To support another version of
Keras, run those tests with it and change only this module.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeVar

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


def variables_of_optimizer(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.Variable] | None:
    """The variables for which an optimizer was built, or `None` if it is not built.

    Uses `Optimizer._trainable_variables`. Checked with Keras 3.12 to 3.15.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return optimizer._trainable_variables if optimizer.built else None


@contextlib.contextmanager
def batch_moments(
    layers: Iterable[keras.layers.Layer],
) -> Iterator[dict[int, list[tf.Tensor]]]:
    """A context that records the statistics of the batch in each batch normalization.

    Maps the moving mean and the moving variance, by `id(variable)`, of each `BatchNormalization`
    among the layers to the batch's means and variances, one for each call of the layer in training
    mode. Replaces `BatchNormalization._moments`. Checked with Keras 3.12 to 3.15.
    """
    normalizations = {
        id(layer): layer
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization)
        # A batch renormalization normalizes by its moving averages, which follow their own rule.
        and not getattr(layer, "renorm", False)
    }
    recorded: dict[int, list[tf.Tensor]] = {}

    def recording(layer, moments):
        means = recorded[id(layer.moving_mean)] = []
        variances = recorded[id(layer.moving_variance)] = []

        def record(*args, **kwargs):
            mean, variance = moments(*args, **kwargs)
            means.append(mean)
            variances.append(variance)
            return mean, variance

        return record

    for layer in normalizations.values():
        layer._moments = recording(layer, layer._moments)
    try:
        yield recorded
    finally:
        for layer in normalizations.values():
            del layer._moments


@contextlib.contextmanager
def without_finalizing(optimizer: Any) -> Iterator[None]:
    """A context in which `fit` does not replace the weights by their averages at its end.

    Keras's `fit` calls `finalize_variable_values` of an optimizer with `use_ema=True`, after which
    the current weights are lost, and batch statistics do not fit the weights.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        yield
        return
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield
    finally:
        del optimizer.finalize_variable_values


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
