"""The forward passes of a step: which rounds run, on which examples, and with which seeds.

The training step and the state for averaged weights (`zoo.averaging`) run the same passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import keras_internals
from zoo.config import with_article

if TYPE_CHECKING:
    from zoo.model import GenerativeModel, Round


def passes(
    model: GenerativeModel, x: Any, y: Any, step: int | tf.Tensor
) -> Iterator[tuple[Round, Any, Any, tf.Tensor]]:
    """The forward passes of a training step: round, share of `x` and of `y`, and seed of each.

    Args:
        model: The model, whose rounds run.
        x: Images `[B, H, W, C]`, or a pair of two streams.
        y: The condition of the batch, or `None`.
        step: The number of the step, for its seed.

    Raises:
        ValueError: If a round has more steps than the batch has examples, or has several steps and
            the batch consists of groups.
    """
    seed = seed_at(model, step)
    rounds = model.rounds()
    shares = _number_of_shares(model, rounds)
    for round in rounds:
        for i in range(round.steps):
            seed, round_seed = tfp.random.split_seed(seed)
            x_share, y_share = _share((x, y), i, shares)
            yield round, x_share, y_share, round_seed


def _number_of_shares(model, rounds):
    """The number of parts of a batch: the most steps of a round."""
    shares = max(round.steps for round in rounds)
    if shares > 1 and model.grouped_batches:
        raise ValueError(
            "A batch of whole groups cannot be divided between the steps of a round. "
            f"Received: {with_article(type(model).__name__)} with `grouped_batches` and a round of "
            f"{shares} steps."
        )
    return shares


def turns_of(outcome: tuple | Iterable[tuple[dict, dict]]) -> Iterable[tuple[dict, dict]]:
    """The `(losses, terms)` of each turn, from the return value of an objective."""
    return [outcome] if isinstance(outcome, tuple) else outcome


def seed_at(model: GenerativeModel, step: int | tf.Tensor) -> tf.Tensor:
    """The seed of a step. It is the same in a resumed run, and differs between replicas."""
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    seed = tf.constant([model.seed, 0], tf.int32)
    for part in (step, replica):
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(part, tf.int32))
    return seed


def generator_states(
    model: GenerativeModel, seed: tf.Tensor
) -> list[tuple[keras.Variable, tf.Tensor]]:
    """Pairs of each seed generator's state and its value for the pass with this seed."""
    generators = {
        id(generator): generator
        for layer in layers_of(model)
        for generator in keras_internals.seed_generators(layer)
    }
    fold = tf.random.experimental.stateless_fold_in
    return [
        (generator.state, tf.cast(fold(seed, i), generator.state.dtype))
        for i, generator in enumerate(generators.values())
    ]


def layers_of(model: GenerativeModel, player: str | None = None) -> list[keras.layers.Layer]:
    """All layers of a player, or of all players, with the layers inside them."""
    own = model.players()
    tops = [layer for name in own if player in (None, name) for layer in own[name]]
    return [part for top in tops for part in keras_internals.layers_in(top)]


def _share(batch, i, shares):
    """Every `shares`-th example of a batch, starting at the `i`-th; at least one example."""
    if shares == 1:
        return batch

    def rows(t):
        if t is None:
            return None
        if t.shape[0] is not None and t.shape[0] < shares:
            raise ValueError(
                f"A batch is divided between {shares} steps and must have at least as many "
                f"examples. Received: a batch of {t.shape[0]}."
            )
        if t.shape[0] is not None:
            return t[i::shares]
        # The last batch of an epoch may be too small; several steps then use the same example.
        n = tf.shape(t)[0]
        return tf.gather(t, tf.range(i, tf.maximum(n, i + 1), shares) % n)

    return keras.tree.map_structure(rows, batch)
