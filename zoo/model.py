"""The one base class of the zoo: a model is a game of players, trained in rounds."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.config import FromArguments
from zoo.distributions.part import Part
from zoo.networks import OneHot


class Round(NamedTuple):
    """One forward pass, and what each player who moves on it minimises.

    `objective(x, y, seed, training)` returns `({player: loss}, terms)`: for each moving player one
    number per example, `[B]`, and further numbers to report; either may be `(numbers, weights)`
    where these do not all count alike in the mean. All its randomness comes from `seed`, so that it is
    a pure function of weights, batch and seed. (Dropout and its kin, which draw from generators of
    their own, are given seeds that follow from it.)

    Or it yields such pairs, one after the other: players move in turns on one forward pass. When it
    goes on, those of the pair before have moved, and the networks it calls next have their new
    weights; what it has computed before, such as the codes of players who are still to move, need
    not be computed again. (AutoGraph does not read functions that yield: no `if` on a tensor there.)

    A round of `steps` moves is played that often on a batch, each time with fresh seeds and on an
    equal share of the batch's examples.

    `gates` may hold players back, from batch to batch: by a player's name, a function from the means
    of all the round reports over the global batch, `{name: scalar}`, to a scalar bool, whether the
    player moves. One who does not move keeps its weights, its optimizer's state and its layers'
    state, bit by bit. The share of batches on which it moved, at the last of the round's steps, is
    reported as "<player>_updates".
    """

    objective: Callable
    steps: int = 1
    gates: Mapping[str, Callable] = {}


class NonFiniteError(ArithmeticError):
    """A loss or a term became NaN or infinite. The message names the player, the term, the step."""


class GenerativeModel(FromArguments, keras.Model):
    """Trains `players()` in `rounds()`, each player with its own optimizer.

    What a model must define: `players`, an objective, `terms`, `decode`, and `image_shape`. Networks
    arrive built: shapes are known, and no step creates a variable.

    Three rules hold for every model, and are kept here:

    - A player's gradient is taken with respect to its own variables only. Players who share a round
      move at once: all gradients first, then all updates.
    - A player who does not move keeps its state: batch-norm statistics and the like change in the
      owner's moves only, whoever calls the network.
    - Losses and terms are numbers per example; they are averaged over the global batch here.

    Images are float32 in [0, 1], `[B, H, W, C]`, in every public method. Data is `x` or `(x, y)`.

    Args:
        seed: Start of all the randomness of training. Each draw is a function of it, the step, the
            round and the replica, so that a resumed run draws what the uninterrupted one would have.
        **kwargs: Keras's own: `name`, `dtype`.
    """

    terms: tuple[str, ...] = ()
    """What the rounds report besides the players' losses."""

    condition_is_optional: bool = False
    """Whether a model that takes a condition is also one of p(x), without. It is evaluated as such."""

    condition_in_latents: bool = False
    """Whether latents hold what the condition says, as far as the model finds it in an image."""

    stratified_batches: bool = False
    """Whether it is trained on the batches that `ImageData.batches` gives for `stratified`."""

    semi_supervised: bool = False
    """Whether a training batch is two streams, `((x_labelled, y), x_unlabelled)`.

    Objectives then receive `x` as the pair `(x_labelled, x_unlabelled)`, and the labels `y` of the first.
    """

    log_prob_method: str = "importance sampling"
    """How a model with `log_prob` comes by it: or "Monte Carlo", from the prior, or "exact"."""

    def __init__(self, seed: int = 0, **kwargs):
        # The networks have a precision of their own; images, losses and densities are float32.
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.seed = seed
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.built = True

    # What a model says of itself ---------------------------------------------------------------

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        """The layers that each player may change, by the player's name."""
        raise NotImplementedError

    def rounds(self) -> list[Round]:
        """What happens to one batch, in order."""
        return [Round(self.objective)]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the model's images."""
        seen = self.discriminator if not self.can_encode else self.posterior.network
        return tuple(seen.inputs[0].shape[1:])

    @property
    def condition(self) -> tf.TensorSpec | None:
        """Shape `[B, ...]` and type of the `y` that networks take beside their context, or `None`.

        Data may bring a `y` in any case; without a condition it is ignored.
        """
        # Not what parts have inside, such as one latent given another.
        for part in map(self.__dict__.get, self._argument_names()):
            if isinstance(part, Part) and part.condition is not None:
                return part.condition
        return None

    @property
    def num_classes(self) -> int | None:
        """How many classes a `y` that is a label may be of; `None` where networks do not say."""
        layers = self._flatten_layers(include_self=False)
        return min((n.classes for n in layers if isinstance(n, OneHot)), default=None)

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions, D."""
        spec = self.condition
        y = None if spec is None else tf.zeros([1, *spec.shape[1:]], spec.dtype)
        return int(self.prior(y).event_shape[-1])

    def adapt(self, data) -> None:
        """Takes from an `ImageData` what the model must know of it before it is trained.

        `zoo.training` calls it; by default it does nothing.
        """

    def result_names(self) -> list[str]:
        """Names of all that is logged: the players' losses, the terms, the moves of the gated."""
        players = list(self.players())
        losses = ["loss"] if len(players) == 1 else [f"{name}_loss" for name in players]
        moves = {f"{name}_updates": None for round in self.rounds() for name in round.gates}
        return losses + list(self.terms) + list(moves)

    # Compiling ---------------------------------------------------------------------------------

    def compile(self, optimizer="adam", *, auto_scale_loss: bool = True, **kwargs):
        """Gives each player an optimizer.

        Args:
            optimizer: One for all, by name or as an object (each player gets its own copy), or a
                dict of optimizers by the players' names.
            auto_scale_loss: Whether a player with layers that compute in float16 gets its optimizer
                in a `keras.optimizers.LossScaleOptimizer`, lest small gradients become zero.
            **kwargs: Keras's own: `jit_compile`, `steps_per_execution`, `run_eagerly`.

        Raises:
            ValueError: If the dict's keys are not the players' names, or for settings that several
                replicas cannot have.
        """
        if unknown := kwargs.keys() - {"jit_compile", "steps_per_execution", "run_eagerly"}:
            raise ValueError(
                f"A {type(self).__name__} has its losses and metrics built in: `compile` takes "
                "`optimizer`, `auto_scale_loss`, `jit_compile`, `steps_per_execution` and "
                f"`run_eagerly`. Received: {sorted(unknown)}."
            )
        strategy = tf.distribute.get_strategy()
        if strategy.num_replicas_in_sync > 1 and not isinstance(
            strategy, tf.distribute.TPUStrategy
        ):
            kwargs.setdefault("jit_compile", False)
            if kwargs["jit_compile"] is True or kwargs.get("steps_per_execution", 1) > 1:
                raise ValueError(
                    f"With {strategy.num_replicas_in_sync} replicas TensorFlow can neither compile "
                    "the step with XLA nor run several steps at once: compile with "
                    "jit_compile=False and steps_per_execution=1. Received: "
                    f"jit_compile={kwargs['jit_compile']}, "
                    f"steps_per_execution={kwargs.get('steps_per_execution', 1)}."
                )
        super().compile(optimizer=None, **kwargs)
        players = self.players()
        if not isinstance(optimizer, dict):
            config = keras.optimizers.serialize(keras.optimizers.get(optimizer))
            optimizer = {name: keras.optimizers.deserialize(config) for name in players}
        if optimizer.keys() != players.keys():
            raise ValueError(
                "`optimizer` must be one optimizer, or a dict with the players "
                f"{sorted(players)} as keys. Received: a dict with the keys {sorted(optimizer)}."
            )
        if unknown := {name for round in self.rounds() for name in round.gates} - players.keys():
            raise ValueError(
                f"A gate holds back one of the players {sorted(players)}. "
                f"Received: gates of {sorted(unknown)}."
            )
        self.optimizers = {name: keras.optimizers.get(optimizer[name]) for name in players}
        if len(set(map(id, self.optimizers.values()))) < len(players):
            raise ValueError(
                "An optimizer keeps the state of one player: give each of "
                f"{sorted(players)} its own, or one optimizer for all to copy."
            )
        for layer in (part for own in players.values() for top in own for part in _parts(top)):
            if getattr(layer, "activity_regularizer", None) is not None:
                raise ValueError(
                    f"The layer '{layer.name}' has an `activity_regularizer`, whose penalty belongs "
                    "to no player. Put it into a loss; regularizers of weights are fine."
                )
        for name, layers in players.items():
            halves = any(p.compute_dtype == "float16" for layer in layers for p in _parts(layer))
            if auto_scale_loss and halves and not _scales_by_itself(self.optimizers[name]):
                scaled = keras.optimizers.LossScaleOptimizer(self.optimizers[name])
                self.optimizers[name] = scaled
            if strategy.num_replicas_in_sync > 1 and _scales_by_itself(self.optimizers[name]):
                # Keras looks for overflows in one replica's gradients alone, and clips each share.
                raise ValueError(
                    "A LossScaleOptimizer works on one replica. Compute in bfloat16, which needs "
                    "no scaling, or give the optimizer a fixed `loss_scale_factor` and compile "
                    f"with auto_scale_loss=False. Received: {strategy.num_replicas_in_sync} "
                    f"replicas, and a LossScaleOptimizer for player '{name}'."
                )
        for name in players:
            # Built here, inside the strategy's scope: no slot may be born in a replica.
            self.optimizers[name].build(self.variables_of(name))
        self.trackers = {name: keras.metrics.Mean(name=name) for name in self.result_names()}
        self.first_non_finite = _FirstNonFinite(self.trackers)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.trackers.values()) if hasattr(self, "trackers") else []

    def variables_of(self, player: str) -> list[keras.Variable]:
        """The trainable variables of a player."""
        return [v for layer in self.players()[player] for v in layer.trainable_variables]

    def get_compile_config(self):
        if not self.compiled:
            return {}
        return {
            "optimizer": keras.saving.serialize_keras_object(dict(self.optimizers)),
            "jit_compile": self.jit_compile,
            "steps_per_execution": self.steps_per_execution,
            # What was to be wrapped is; what was not shall not be.
            "auto_scale_loss": False,
        }

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))

    # Training ----------------------------------------------------------------------------------

    def fit(self, x=None, y=None, *args, callbacks=None, **kwargs) -> keras.callbacks.History:
        """Keras's `fit`, on arrays or a `tf.data.Dataset`, of `x` or `(x, y)`.

        Raises:
            ValueError: If images are not floats in [0, 1] of the model's shape, labels are of no
                class that the model knows, or examples or classes are to have weights.
            NonFiniteError: If a loss or term becomes NaN or infinite.
        """
        self.check_images(x)
        held_out = kwargs.get("validation_data")
        for weights in ("sample_weight", "class_weight"):
            _refuse_weights(kwargs.get(weights), f"`{weights}`")
        _refuse_third(getattr(x, "element_spec", None))
        _refuse_third(getattr(held_out, "element_spec", held_out), "the validation data")
        held_out = held_out if isinstance(held_out, tuple | list) else (held_out,)
        self.check_images(held_out[0])
        for labels in (y, *held_out[1:2]):
            self._check_labels(labels)
        if self.compiled:
            self.first_non_finite.reset_state()
        if isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
            kwargs.setdefault("shuffle", False)  # Keras warns of its own default.
        guard = _StopAtNonFinite()
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            # First in line: nobody else shall save or draw what is not finite.
            callbacks = [guard, *keras.tree.flatten(callbacks or [])]
        return super().fit(x, y, *args, callbacks=callbacks, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Keras's `evaluate`: the means of all losses and terms. Raises as `fit` does."""
        self.check_images(x)
        self._check_labels(y)
        # The fifth argument, if not by name.
        weights = args[2] if len(args) > 2 else kwargs.get("sample_weight")
        _refuse_weights(weights, "`sample_weight`")
        _refuse_third(getattr(x, "element_spec", None))
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs) -> np.ndarray:
        """Keras's `predict`: `call` in batches."""
        if self.can_encode:
            self.check_images(x)
        return super().predict(x, *args, **kwargs)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras would take a batch off the data to build the model with. There is
        # nothing left to build, and the batch would be missing from training.
        pass

    def train_step(self, data):
        x, y = _unpacked(data)
        seed = self._seed_at(self.step)
        rounds = self.rounds()
        shares = max(round.steps for round in rounds)
        results = {}
        for round in rounds:
            for turn in range(round.steps):
                seed, here = tfp.random.split_seed(seed)
                losses, terms = self._play(round, *_share((x, y), turn, shares), here)
            results |= self._named(losses, terms)
        self._track(results)
        self.first_non_finite.update_state(results, self.step)
        self.step.assign_add(1)
        return self._report()

    def _play(self, round, x, y, seed):
        tape = tf.GradientTape(persistent=True)
        # Updates of state are held back, and handed out below to those who move.
        scope = keras.StatelessScope(self._generator_states(seed), collect_losses=True)
        with tape:
            with scope:
                turns = iter(turns_of(round.objective(x, y, seed, training=True)))
                turn = next(turns)
            means = self._means(turn)
        losses, terms, waiting = {}, {}, {}
        while turn is not None:
            self._refuse_losses_of_layers(scope)
            losses, terms = losses | turn[0], terms | turn[1]
            variables = {player: self.variables_of(player) for player in means}
            # All gradients before any move: the players of one turn move at once.
            grads = {player: tape.gradient(means[player], variables[player]) for player in means}
            moves = self._gated_moves(round, means, losses, terms)
            for player in means:
                optimizer = self.optimizers[player]
                with _undone_unless(moves.get(player), variables[player] + optimizer.variables):
                    self._move(optimizer, grads[player], variables[player])
            self._keep_state(scope, waiting, means, moves)
            terms = terms | _as_terms(moves)
            with tape:
                with scope:
                    turn = next(turns, None)
                means = self._means(turn)
        return losses, terms

    def _means(self, turn):
        """What each player of a turn minimises."""
        # Scaled, if at all, for the gradients alone: what is reported stays the loss itself.
        return {
            player: self.optimizers[player].scale_loss(
                _global_mean(loss, player) + self._regularization(player)
            )
            for player, loss in (turn or ({}, {}))[0].items()
        }

    def _gated_moves(self, round, players, losses, terms):
        """Whether each of the players with a gate moves: `{player: bool}`, alike on all replicas."""
        gates = {player: gate for player, gate in round.gates.items() if player in players}
        if not gates:
            return {}
        sums = {}
        for name, value in self._named(losses, terms).items():
            value, weight = value if isinstance(value, tuple) else (value, tf.ones_like(value))
            sums[name] = tf.stack([tf.reduce_sum(weight * value), tf.reduce_sum(weight)])
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1:
            # A list: see `_keep_state`.
            totals = replicas.all_reduce(tf.distribute.ReduceOp.SUM, list(sums.values()))
            sums = dict(zip(sums, totals, strict=True))
        means = {
            name: total / count
            for name, (total, count) in zip(sums, map(tf.unstack, sums.values()), strict=True)
        }
        return {player: gate(means) for player, gate in gates.items()}

    def _generator_states(self, seed):
        """What the seed generators of all layers shall hold, by their variables."""
        layers = (top for own in self.players().values() for top in own)
        generators = {
            id(generator): generator
            for layer in layers
            for part in _parts(layer)
            for generator in part._seed_generators
        }
        fold = tf.random.experimental.stateless_fold_in
        return [
            (generator.state, tf.cast(fold(seed, i), generator.state.dtype))
            for i, generator in enumerate(generators.values())
        ]

    def _keep_state(self, scope, waiting, players, moves):
        """Lets the state of the layers of the players who move be what it became in the scope.

        In this turn, or else in one before it: what others have become is kept `waiting`.
        """
        owners = {
            player: [v for layer in layers for v in layer.non_trainable_weights]
            for player, layers in self.players().items()
        }
        # The next turn starts from what is kept here, not from what is held back.
        held = {id(v) for own in owners.values() for v in own} & scope.state_mapping.keys()
        waiting |= {i: scope.state_mapping.pop(i) for i in held}
        variables = {id(v): v for player in players for v in owners[player]}
        news = {i: waiting.pop(i) for i in variables if i in waiting}
        replicas = tf.distribute.get_replica_context()
        if news and replicas.num_replicas_in_sync > 1:
            # Keras would let each replica keep its own batch statistics.
            # A list: a dict is reduced in the order of its keys, which workers do not share.
            means = replicas.all_reduce(tf.distribute.ReduceOp.MEAN, list(news.values()))
            news = dict(zip(news, means, strict=True))
        for i, new in news.items():
            gates = [moves.get(p) for p in players if any(id(v) == i for v in owners[p])]
            go = None if None in gates else tf.reduce_any(gates)
            with _undone_unless(go, [variables[i]]):
                variables[i].assign(new)

    def _refuse_losses_of_layers(self, scope):
        if not scope.losses:
            return
        added = set(map(id, scope.losses))
        names = {
            part.name: None
            for own in self.players().values()
            for layer in own
            for part in _parts(layer)
            if added & part._loss_ids
        }
        raise ValueError(
            f"The layer '{', '.join(names) or '?'}' adds a loss (`add_loss`) while it is called, which "
            "belongs to no player. Put it into the model's objective, as one number per example."
        )

    def _regularization(self, player):
        """What the player's layers add of their own: Keras's `kernel_regularizer` and kin."""
        penalties = [p for layer in self.players()[player] for p in layer.losses]
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return tf.add_n(penalties) / replicas if penalties else 0.0

    def _move(self, optimizer, grads, variables):
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1 and (
            optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
        ):
            # Keras clips each replica's share of the gradient and then sums. Clip the sum first;
            # its equal shares are within any bound, so the optimizer's own clipping lets them pass.
            scale = optimizer.loss_scale_factor or 1.0
            grads = replicas.all_reduce(tf.distribute.ReduceOp.SUM, [g / scale for g in grads])
            grads = optimizer._clip_gradients(grads)
            grads = [g * (scale / replicas.num_replicas_in_sync) for g in grads]
        optimizer.apply(grads, variables)

    def test_step(self, data):
        x, y = _unpacked(data)
        # The trackers start at zero, so their count tells the batches apart.
        seen = tf.cast(next(iter(self.trackers.values())).count, tf.int64)
        seed = self._seed_at(-1 - seen)
        results = {}
        for round in self.rounds():
            seed, here = tfp.random.split_seed(seed)
            losses, terms = {}, {}
            for turn in turns_of(round.objective(x, y, here, training=False)):
                losses, terms = losses | turn[0], terms | turn[1]
                terms = terms | _as_terms(self._gated_moves(round, turn[0], losses, terms))
            results |= self._named(losses, terms)
        self._track(results)
        return self._report()

    def _seed_at(self, step):
        """A seed that a resumed run draws again, and no two replicas share."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.constant([self.seed, 0], tf.int32)
        for part in (step, replica):
            seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(part, tf.int32))
        return seed

    def _named(self, losses, terms):
        single = len(self.players()) == 1
        return {("loss" if single else f"{p}_loss"): loss for p, loss in losses.items()} | terms

    def _track(self, results):
        for name, value in results.items():
            # A term may come with weights.
            self.trackers[name].update_state(*(value if isinstance(value, tuple) else (value,)))

    def _report(self):
        results = {name: tracker.result() for name, tracker in self.trackers.items()}
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            # Keras averages the workers' reports over an axis that scalars lack.
            results = {name: tf.expand_dims(value, 0) for name, value in results.items()}
        return results

    # Using -------------------------------------------------------------------------------------

    def call(self, x, training=False):
        """Reconstructions, where the model can encode; `model.predict(x)` is this in batches.

        Where the model takes a condition, `x` is `[x, y]`.
        """
        return self.reconstruct(*x) if isinstance(x, list | tuple) else self.reconstruct(x)

    def abilities(self) -> tuple[str, ...]:
        """Which of `encode`, `decode`, `reconstruct`, `sample`, `log_prob` the model has."""
        has = {
            "encode": self.can_encode,
            "decode": True,
            "reconstruct": self.can_encode,
            "sample": hasattr(self, "prior"),
            "log_prob": hasattr(self, "log_prob"),
        }
        return tuple(name for name, present in has.items() if present)

    @property
    def can_encode(self) -> bool:
        """Whether the model maps images to latents."""
        return hasattr(self, "posterior")

    def encode(self, x, y=None) -> tf.Tensor:
        """The mean of q(z | x), `[B, D]`, for images `x[B, H, W, C]` in [0, 1].

        Here as in all that follows `y` is a condition for each image, or one for all of them.
        """
        if not self.can_encode:
            raise NotImplementedError(
                f"A {type(self).__name__} has no encoder. It can: {', '.join(self.abilities())}."
            )
        x = self._images(x)
        return self.posterior(x, self.condition_for(x, y)).mean()

    def decode(self, z, y=None) -> tf.Tensor:
        """The images `[B, H, W, C]` in [0, 1] that latents `z[B, D]` stand for: means, not draws."""
        if hasattr(self, "likelihood"):
            return as_images(self.likelihood(z, self.condition_for(z, y, 2)).mean())
        return as_images(networks.call(self.generator, z, self.condition_for(z, y, 2)))

    def reconstruct(self, x, y=None) -> tf.Tensor:
        """`decode(encode(x))`: no noise anywhere."""
        return self.decode(self.encode(x, y), y)

    def sample(self, n: int, y=None, seed=None) -> tf.Tensor:
        """Decodes `n` draws from the prior: `[n, H, W, C]`.

        Args:
            n: Number of images.
            y: A condition for each, where the model takes one, or one for all.
            seed: An int or a `[2]` int tensor for a repeatable draw; `None` for a fresh one.

        Raises:
            NotImplementedError: If the model has no prior.
            ValueError: If the model takes a condition, and `y` is none for `n` images.
        """
        y = self.conditions(n, y)
        return self.decode(self.sample_latents(n, y, seed), y)

    def sample_latents(self, n: int, y=None, seed=None) -> tf.Tensor:
        """`n` draws from the prior, `[n, D]`. The arguments are those of `sample`."""
        if "sample" not in self.abilities():
            raise NotImplementedError(
                f"A {type(self).__name__} has no prior to sample from. "
                f"It can: {', '.join(self.abilities())}."
            )
        prior, seed = self.prior(self.conditions(n, y)), as_seed(seed)
        # One that depends on the condition is a distribution for each.
        return prior.sample(seed=seed) if prior.batch_shape.rank else prior.sample(n, seed=seed)

    def conditions(self, n: int, y):
        """`y` for `n` images in the shape and the type that the networks take: see `sample`."""
        # Two statements: AutoGraph, which exports go through, cannot read an assignment in a test.
        spec = self.condition
        if spec is None:
            return y
        shape = f"[{', '.join(['n', *map(str, spec.shape[1:])])}]"
        if y is None:
            raise ValueError(
                f"A {type(self).__name__} takes a condition: pass `y`, {spec.dtype.name} of shape "
                f"{shape} for n images, or one for all of them. Received: y=None."
            )
        y = y if tf.is_tensor(y) else np.asarray(y)
        if spec.dtype.is_integer and not tf.as_dtype(y.dtype).is_integer:
            raise ValueError(
                f"A condition of this {type(self).__name__} is a label, an int. "
                f"Received: y of type {tf.as_dtype(y.dtype).name}."
            )
        self._check_labels(tf.get_static_value(y) if tf.is_tensor(y) else y)
        y = tf.cast(y, spec.dtype)
        if y.shape.rank == spec.shape.rank - 1:
            y = tf.repeat(y[None], n, 0)
        known = tf.get_static_value(n)
        if not tf.TensorShape([known, *spec.shape[1:]]).is_compatible_with(y.shape):
            raise ValueError(
                f"Expected `y` of shape {shape} with n={known}, or one condition for all. "
                f"Received: shape {tuple(y.shape)}."
            )
        return y

    def _check_labels(self, y):
        """Refuses what is no label of a known class: it would be another, or none, to a network."""
        classes = None if self.condition is None else self.num_classes
        if y is None or classes is None:
            return
        y = np.asarray(y)
        if not np.issubdtype(y.dtype, np.integer):
            raise ValueError(
                f"A condition of this {type(self).__name__} is a label, an int. "
                f"Received: y of type {y.dtype.name}."
            )
        none = -math.inf if self.condition_is_optional else 0
        if y.size and not none <= y.min() <= y.max() < classes:
            less = ", and below 0 is no label" if self.condition_is_optional else ""
            raise ValueError(
                f"Labels are the numbers from 0 to {classes - 1}{less}. "
                f"Received: labels from {y.min()} to {y.max()}."
            )

    def condition_for(self, context, y, rank: int = 4):
        """`y`, one for each row of images or, with rank=2, latents `[..., B, D]`; see `conditions`.

        A `y` that is `None` stays so: parts that need one say so.
        """
        if y is None or self.condition is None:
            return y
        n = (context if tf.is_tensor(context) else np.asarray(context)).shape[-rank]
        return self.conditions(tf.shape(context)[-rank] if n is None else n, y)

    def interpolate(self, a, b, n: int = 10, spherical: bool = False, y=None) -> tf.Tensor:
        """Decodes `n` latents on the way from `a` to `b`, both ends included: `[n, H, W, C]`.

        Args:
            a: A latent `[D]`, or an image `[H, W, C]` where the model can encode.
            b: The same.
            n: Number of points, at least 2.
            spherical: Along the arc between the directions of `a` and `b`, norms interpolated, in
                place of the straight line: White, "Sampling Generative Networks", 2016, section 2.
            y: A condition for all of them, `[...]`, where the model takes one.
        """
        ends = [self._latent(end, y) for end in (a, b)]
        if y is not None:
            y = tf.repeat(tf.convert_to_tensor(y)[None], n, 0)
        return self.decode(path_between(*ends, n, spherical), y)

    def _latent(self, end, y):
        end = end if isinstance(end, tf.Tensor) else np.asarray(end)
        if len(end.shape) == 3:
            return self.encode(end[None], None if y is None else tf.convert_to_tensor(y)[None])[0]
        if len(end.shape) != 1:
            raise ValueError(
                "An end of an interpolation is a latent [D] or an image [H, W, C]. "
                f"Received: a tensor of shape {tuple(end.shape)}."
            )
        return tf.cast(end, tf.float32)

    @contextlib.contextmanager
    def averaged_weights(self):
        """Within it, the model uses the moving averages that its optimizers keep.

        Which they do if made with `use_ema=True`; players without keep their weights.

        Raises:
            ValueError: If no optimizer keeps averages.

        Example:
            >>> with model.averaged_weights():
            ...     images = model.sample(100)
        """
        pairs = [
            (variable, average)
            for player, optimizer in self._averaging().items()
            # Before the first step the averages are zeros, and the weights are their own average.
            if optimizer.iterations > 0
            for variable, average in zip(
                self.variables_of(player), optimizer._model_variables_moving_average, strict=True
            )
        ]
        if not self.keeps_averages:
            raise ValueError(
                "No optimizer of the model keeps averages of the weights: compile with one made "
                "with `use_ema=True`, such as keras.optimizers.Adam(use_ema=True)."
            )
        kept = [variable.numpy() for variable, _ in pairs]
        try:
            for variable, average in pairs:
                variable.assign(average)
            yield self
        finally:
            for (variable, _), value in zip(pairs, kept, strict=True):
                variable.assign(value)

    def best_weights(self):
        """`averaged_weights()` if an optimizer keeps averages, else the weights as they are."""
        return self.averaged_weights() if self.keeps_averages else contextlib.nullcontext(self)

    @property
    def keeps_averages(self) -> bool:
        """Whether an optimizer keeps moving averages of the weights."""
        return bool(self._averaging())

    def _averaging(self):
        """The optimizers that keep averages, by player."""
        optimizers = {
            player: optimizer.inner_optimizer if _scales_by_itself(optimizer) else optimizer
            for player, optimizer in getattr(self, "optimizers", {}).items()
        }
        return {player: optimizer for player, optimizer in optimizers.items() if optimizer.use_ema}

    def check_images(self, x) -> None:
        """Raises a `ValueError` unless `x` is images as the model wants them.

        Of a dataset shape and type are looked at, of arrays and eager tensors every value.
        """
        if isinstance(x, tf.data.Dataset):
            spec = x.element_spec
            if _has_two_streams(spec):
                for images in (spec[0][0], spec[1]):
                    self.check_images(images)
                return
            x = spec[0] if isinstance(spec, tuple | list) else spec
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            return
        shape, dtype = tuple(x.shape), tf.as_dtype(x.dtype)
        expected = f"float images in [0, 1] of shape [B, {', '.join(map(str, self.image_shape))}]"
        if len(shape) != 4 or any(
            have not in (None, want) for have, want in zip(shape[1:], self.image_shape, strict=True)
        ):
            raise ValueError(f"Expected {expected}. Received: an array of shape {shape}.")
        if not dtype.is_floating:
            raise ValueError(
                f"Expected {expected}. Received: {dtype.name}; divide 8-bit images by 255."
            )
        if tf.is_tensor(x) and not tf.is_symbolic_tensor(x):
            x = np.asarray(x)
        if isinstance(x, np.ndarray) and x.size:
            low, high = x.min(), x.max()
            if not (low >= 0 and high <= 1):
                raise ValueError(
                    f"Expected {expected}. Received: values from {low} to {high}; scale them."
                )

    def _images(self, x):
        if not tf.is_symbolic_tensor(x):
            x = x if tf.is_tensor(x) else np.asarray(x)
            self.check_images(x)
        return tf.cast(x, tf.float32)


def as_seed(seed) -> tf.Tensor:
    """The `[2]` seed of TensorFlow's stateless draws: of an int the same, of `None` a fresh one."""
    if seed is None:
        return tfp.random.sanitize_seed(None)
    seed = tf.cast(seed, tf.int32)
    return seed if seed.shape.rank else tf.stack([seed, 0])


def as_images(values: tf.Tensor) -> tf.Tensor:
    """float32 in [0, 1]: the means of a normal, or a network's output, may lie beyond."""
    return tf.clip_by_value(tf.cast(values, tf.float32), 0.0, 1.0)


def path_between(a, b, n: int, spherical: bool = False) -> tf.Tensor:
    """`n` points `[n, D]` from `a[D]` to `b[D]`, on the line or, if `spherical`, on the arc.

    On the arc directions turn at constant speed, and norms change linearly. Where the directions
    are the same or opposite, or an end is the origin, there is no unique arc: then it is the line.
    """
    if n < 2:
        raise ValueError(f"A path needs at least its two ends: n >= 2. Received: n={n}.")
    a, b = tf.convert_to_tensor(a, tf.float32), tf.convert_to_tensor(b, tf.float32)
    t = tf.linspace(0.0, 1.0, n)[:, None]
    line = (1 - t) * a + t * b
    if not spherical:
        return line
    norm_a, norm_b = tf.norm(a), tf.norm(b)
    unit_a, unit_b = tf.math.divide_no_nan(a, norm_a), tf.math.divide_no_nan(b, norm_b)
    angle = 2 * tf.atan2(tf.norm(unit_a - unit_b), tf.norm(unit_a + unit_b))
    sine = tf.sin(angle)
    arc = (tf.sin((1 - t) * angle) * unit_a + tf.sin(t * angle) * unit_b) / sine
    return tf.where(
        (sine > 1e-6) & (norm_a * norm_b > 0), ((1 - t) * norm_a + t * norm_b) * arc, line
    )


def _refuse_weights(weights, what: str) -> None:
    if weights is not None:
        raise ValueError(
            "The models of the zoo weigh all examples alike: data is `x` or `(x, y)`. "
            f"Received: {what}."
        )


def _refuse_third(parts, where: str = "the data") -> None:
    """Refuses what comes after `x` and `y`, which Keras takes for weights of the examples."""
    if isinstance(parts, tuple | list) and len(parts) > 2:
        weights = None if isinstance(parts[2], tf.NoneTensorSpec) else parts[2]
        _refuse_weights(weights, f"a third item in {where}, which Keras takes for weights")


def _has_two_streams(data) -> bool:
    """Whether a batch, or its specification, is `((x_labelled, y), x_unlabelled)`."""
    return isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], tuple)


def _unpacked(data):
    _refuse_third(data)
    if _has_two_streams(data):
        (x_labelled, y), x_unlabelled = data
        return (x_labelled, x_unlabelled), y
    x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    return x, y


def _scales_by_itself(optimizer) -> bool:
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def _parts(layer):
    """A layer and all layers in it."""
    return layer._flatten_layers()


def _share(batch, turn: int, shares: int):
    """Every `shares`-th example of a batch, from the `turn`-th on; one in any case."""
    if shares == 1:
        return batch

    def rows(t):
        if t is None:
            return None
        if t.shape[0] is not None and t.shape[0] < shares:
            raise ValueError(
                f"A batch is shared out among {shares} steps and must have as many examples. "
                f"Received: a batch of {t.shape[0]}."
            )
        if t.shape[0] is not None:
            return t[turn::shares]
        # The last batch of an epoch may be too small: then steps have examples in common.
        n = tf.shape(t)[0]
        return tf.gather(t, tf.range(turn, tf.maximum(n, turn + 1), shares) % n)

    return keras.tree.map_structure(rows, batch)


def _global_mean(loss, player: str) -> tf.Tensor:
    """The sum over the replica's examples over the number of examples on all replicas.

    Keras's optimizers add up the replicas' gradients, so this makes their sum the gradient of the
    mean over the global batch, also where replicas have unequal shares of a last, small batch. Of
    `(loss, weights)` it is the weighted mean, 0 where no example counts.
    """
    loss, weights = loss if isinstance(loss, tuple) else (loss, None)
    if loss.shape.rank != 1:
        raise ValueError(
            f"The loss of player '{player}' must be one number per example, of shape [B]. "
            f"Received: shape {loss.shape}."
        )
    replicas = tf.distribute.get_replica_context()
    if weights is None and loss.shape[0] is not None:
        return tf.reduce_sum(loss) / (loss.shape[0] * replicas.num_replicas_in_sync)
    weights = tf.ones_like(loss) if weights is None else weights
    count = tf.reduce_sum(weights)
    if replicas.num_replicas_in_sync > 1:
        count = replicas.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * loss), count)


@contextlib.contextmanager
def _undone_unless(go, variables):
    """Undoes what happens to the variables within it, unless the scalar bool `go` is true or `None`.

    A player who is held back moves and is put back: neither replicas nor an optimizer of Keras's
    can do something in one branch of a graph only.
    """
    if go is None:
        yield
        return
    before = [tf.identity(v) for v in variables]
    yield

    def put_back(strategy, go, *before):
        # Each replica its own copy: the mean that an assignment takes over replicas is rounded.
        for variable, value in zip(variables, before, strict=True):
            strategy.extended.update(
                variable.value,
                lambda v, go, old: v.assign(tf.where(go, v, old)),
                args=(go, value),
                group=False,
            )

    tf.distribute.get_replica_context().merge_call(put_back, args=(go, *before))


def turns_of(outcome) -> Iterable[tuple[dict, dict]]:
    """The pairs of losses and terms of a round's objective, which has returned one or yields more."""
    return [outcome] if isinstance(outcome, tuple) else outcome


def _as_terms(moves):
    return {f"{player}_updates": tf.cast(go, tf.float32) for player, go in moves.items()}


class _FirstNonFinite(keras.metrics.Metric):
    """The step at which each of the named results was NaN or infinite for the first time, or -1."""

    def __init__(self, names: Iterable[str]):
        super().__init__(name="first_non_finite", dtype="int64")
        self.names = list(names)
        self.steps = self.add_variable(
            (len(self.names),),
            "zeros",
            dtype="int64",
            aggregation="only_first_replica",
            name="steps",
        )
        self.reset_state()

    def update_state(self, results, step):
        bad = tf.stack([~tf.reduce_all(tf.math.is_finite(results[name])) for name in self.names])
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1:
            bad = replicas.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(bad, tf.float32)) > 0
        first, step = tf.convert_to_tensor(self.steps), tf.convert_to_tensor(step)
        self.steps.assign(tf.where(bad & (first < 0), step, first))

    def reset_state(self):
        self.steps.assign(np.full(len(self.names), -1))

    def result(self):
        return tf.convert_to_tensor(self.steps)


_REMEDIES = (
    "The weights are of no use from there on. A lower learning rate, gradient clipping "
    "(`global_clipnorm` of the optimizer) or float32 in place of bfloat16 are the usual remedies."
)


class _StopAtNonFinite(keras.callbacks.Callback):
    """Raises as soon as the model has seen a non-finite result.

    The step is recorded inside the graph; reading it costs a wait for the device, so it is read
    once a second and at each epoch's end.
    """

    def __init__(self):
        super().__init__()
        self.looked = 0.0

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self.looked > 1:
            self._look()
            self.looked = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self._look()
        # A last step can spoil the weights after its losses were computed.
        for player in self.model.players():
            for variable in self.model.variables_of(player):
                if not np.isfinite(variable.numpy()).all():
                    raise NonFiniteError(
                        f"Training stopped: by step {int(self.model.step)}, the end of epoch "
                        f"{epoch + 1}, the weights '{variable.path}' of player '{player}' became "
                        f"NaN or infinite. {_REMEDIES}"
                    )

    def _look(self):
        first = self.model.first_non_finite.result().numpy()
        if (first >= 0).any():
            step = first[first >= 0].min()
            names = [n for n, s in zip(self.model.trackers, first, strict=True) if s == step]
            losses = [n for n in names if n not in self.model.terms]
            raise NonFiniteError(
                f"Training stopped: at step {step} "
                f"{' and '.join(repr(n) for n in names)} became NaN or infinite "
                f"({_whose(losses, self.model)}). {_REMEDIES}"
            )


def _whose(losses: Iterable[str], model: GenerativeModel) -> str:
    players = list(model.players())
    named = players if list(losses) == ["loss"] else [n.removesuffix("_loss") for n in losses]
    return f"player {', '.join(map(repr, named))}" if named else "no player's loss yet"
