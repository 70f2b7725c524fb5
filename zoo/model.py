"""`GenerativeModel`, the one base class of the zoo, and `Round`, the unit of its training."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import keras_internals, networks
from zoo.config import FromArguments, with_article
from zoo.distributions.part import Part
from zoo.finite import FirstNonFinite, StopAtNonFinite
from zoo.networks import OneHot

if TYPE_CHECKING:
    from zoo.datasets import ImageData

Array: TypeAlias = np.ndarray | tf.Tensor


class Round(NamedTuple):
    """One forward pass on a batch, and the losses of the players that are updated after it.

    Players, rounds, turns and gates are defined in `GenerativeModel`.

    `objective(x, y, seed, training)` returns `(losses, terms)`. `losses` maps each player of the
    round to its loss per example, `[B]`; `terms` maps the names of other results to their values
    per example, `[B]`. A loss or a term may also be a pair `(values, weights)`, which is reduced to
    its weighted mean. All randomness must come from `seed`, so that an objective is a pure function
    of weights, batch and seed. (Layers such as dropout have their own generators; the model seeds
    them from `seed`.)

    An objective with several turns is a generator that yields one such pair per turn. When the
    objective continues after a `yield`, the players of that turn have been updated: networks called
    after the `yield` use their new weights, and tensors computed before it, such as the codes of
    the batch, keep their values. (AutoGraph does not convert generator functions: use `tf.where` or
    `tf.cond` instead of an `if` on a tensor.)

    Args:
        objective: The function described above.
        steps: Number of times that the round runs on a batch, each time with a new seed and an
            equal share of the batch's examples.
        gates: Conditions for updates, by player. A gate is a function from the means of all results
            of the round over the global batch, `{name: scalar}`, to a scalar bool. If the bool is
            false, the player keeps its weights, its optimizer's state and its layers' state, bit
            for bit. The share of batches with an update, in the last of the round's steps, is
            reported as "<player>_updates".
    """

    objective: Callable
    steps: int = 1
    gates: Mapping[str, Callable] = {}


@keras_internals.without_symbolic_build  # The constructor builds the model.
class GenerativeModel(FromArguments, keras.Model):
    """Trains the networks of `players()` in `rounds()`, each player with its own optimizer.

    Terms:

    - A player is a set of layers with one loss and one optimizer, such as a GAN's discriminator.
      Players may share layers: an adversarial autoencoder's encoder has two losses.
    - A round is one forward pass on a batch, after which one or more players are updated. A
      training step runs all rounds of the model on a batch, in order.
    - A turn is a part of a round: a set of simultaneous updates, and the computation before them.
      Most rounds have one turn.
    - A gate is a condition, evaluated on each batch, that must hold for a player to be updated.

    A subclass defines `players`, `terms` and `objective`, or `rounds` if it has several rounds. It
    has a `likelihood` (a `Conditional`) or a `generator` (a network from latents to images), and
    one of `posterior` (a `Conditional`), `encoder` and `discriminator` (networks whose first inputs
    are images); otherwise it also defines `decode` and `image_shape`. A model with a `prior` can
    sample. Networks are built before the model is constructed, so that all shapes are known and no
    training step creates a variable.

    The class guarantees three things for every model:

    - The gradient of a player's loss is taken with respect to the player's own variables only. The
      gradients of all players of a turn are computed before any of them is updated.
    - The state of a layer, such as batch statistics, changes only when a player that owns the layer
      is updated, whichever players call the layer.
    - Losses and terms are values per example. The base class averages them over the global batch.

    Images are float32 in [0, 1], `[B, H, W, C]`, in every public method. Data is `x` or `(x, y)`,
    or, for models with `semi_supervised`, `((x_labelled, y), x_unlabelled)`.

    Args:
        seed: Seed of all random numbers in training. Each draw is a function of this seed, the
            step, the round and the replica, so that a resumed run draws the same numbers as an
            uninterrupted run.
        **kwargs: Arguments of `keras.Model`: `name`, `dtype`.

    Example:
        An autoencoder that minimises the squared error:

        >>> class Squares(zoo.GenerativeModel):
        ...     def __init__(self, encoder, generator, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.encoder = encoder
        ...         self.generator = generator
        ...     def players(self):
        ...         return {"autoencoder": [self.encoder, self.generator]}
        ...     def objective(self, x, y, seed, training):
        ...         images = self.generator(self.encoder(x, training=training), training=training)
        ...         return {"autoencoder": tf.reduce_sum((x - images) ** 2, [1, 2, 3])}, {}
        >>> encoder = zoo.networks.mlp_encoder((8, 8, 1), 2)
        >>> model = Squares(encoder, zoo.networks.mlp_decoder(2, (8, 8, 1)))
        >>> x = np.zeros([10, 8, 8, 1], np.float32)
        >>> model.compile("adam")
        >>> history = model.fit(x, verbose=0)
        >>> model.reconstruct(x).shape
        TensorShape([10, 8, 8, 1])
    """

    terms: tuple[str, ...] = ()
    """Names of the results that the rounds report in addition to the players' losses."""

    condition_is_optional: bool = False
    """Whether a model with a condition is also a model of p(x), and is evaluated as such."""

    condition_in_latents: bool = False
    """Whether latents include the condition that the model infers from an image."""

    semi_supervised: bool = False
    """Whether a training batch may be two streams, `((x_labelled, y), x_unlabelled)`.

    Objectives then receive the pair `(x_labelled, x_unlabelled)` as `x`, and the labels of the
    first stream as `y`. The streams of a batch may differ in size.
    """

    adapted: tuple[str, ...] = ()
    """Attributes other than weights that `adapt` sets. `zoo.pretrained` stores them in files."""

    requires: Mapping[str, str] = {}
    """Maps builder options that name the run of a trained model to the builder of that model."""

    log_prob_method: str = "importance sampling"
    """Method of `log_prob`: "importance sampling", "Monte Carlo" (from the prior), or "exact"."""

    def __init__(self, seed: int = 0, **kwargs):
        # Each network has its own precision; images, losses and densities are float32.
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

    # For subclasses to define ------------------------------------------------------------------

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        """The layers of each player, by the player's name."""
        raise NotImplementedError

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> Any:
        """The losses of the players, and terms to log: `(losses, terms)`, each by name.

        Args:
            x: Images `[B, H, W, C]` in [0, 1].
            y: The condition of the batch, or `None`.
            seed: The seed `[2]` of all draws.
            training: Whether networks run in training mode.
        """
        raise NotImplementedError

    def rounds(self) -> list[Round]:
        """The rounds of a training step, in order."""
        return [Round(self.objective)]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images.

        By default the shape of the first input of the posterior, the encoder or the discriminator.
        """
        for name in ("posterior", "encoder", "discriminator"):
            if (part := getattr(self, name, None)) is not None:
                return tuple(getattr(part, "network", part).inputs[0].shape[1:])
        raise NotImplementedError

    @property
    def condition(self) -> tf.TensorSpec | None:
        """Shape `[B, ...]` and type of the `y` that networks take as an input, or `None`.

        A model without a condition ignores the `y` of its data.
        """
        # Only the model's own parts: a part inside another part may be conditioned on a latent.
        for part in map(self.__dict__.get, self._argument_names()):
            if isinstance(part, Part) and part.condition is not None:
                return part.condition
        return None

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a label `y`; `None` if no network takes a label."""
        layers = keras_internals.layers_in(self, include_self=False)
        return min((layer.classes for layer in layers if isinstance(layer, OneHot)), default=None)

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions, D."""
        spec = self.condition
        y = None if spec is None else tf.zeros([1, *spec.shape[1:]], spec.dtype)
        return int(self.prior(y).event_shape[-1])

    def adapt(self, data: ImageData) -> None:
        """Sets attributes that depend on the training data.

        `zoo.training` calls this method before training on an `ImageData`. By default it does
        nothing.
        """

    def fit_prior(self, data: Any) -> None:
        """Fits the prior to the codes of an `ImageData`, if gradients do not train the prior.

        `zoo.training` calls this method before it evaluates a model. By default it does nothing.
        """

    def result_names(self) -> list[str]:
        """Names of all logged results: losses, terms, and update shares of players with gates."""
        players = list(self.players())
        losses = ["loss"] if len(players) == 1 else [f"{name}_loss" for name in players]
        gated = dict.fromkeys(name for round in self.rounds() for name in round.gates)
        return losses + list(self.terms) + [f"{name}_updates" for name in gated]

    # Compiling ---------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer | Mapping[str, Any] = "adam",
        *,
        auto_scale_loss: bool = True,
        **kwargs,
    ) -> None:
        """Gives each player an optimizer.

        Args:
            optimizer: One optimizer for all players, a name or an object, which is copied for each
                player; or a dict that maps each player's name to its optimizer.
            auto_scale_loss: Whether to wrap the optimizer of a player with layers that compute in
                float16 in a `keras.optimizers.LossScaleOptimizer`, so that small gradients do not
                underflow to zero.
            **kwargs: Arguments of Keras's `compile`: `jit_compile`, `steps_per_execution`,
                `run_eagerly`.

        Raises:
            ValueError: If the dict's keys are not the players' names, if a trainable variable
                belongs to no player, or if a setting does not work on several replicas.
        """
        if unknown := kwargs.keys() - {"jit_compile", "steps_per_execution", "run_eagerly"}:
            raise ValueError(
                f"{with_article(type(self).__name__, True)} has its losses and metrics built in: "
                "`compile` takes "
                "`optimizer`, `auto_scale_loss`, `jit_compile`, `steps_per_execution` and "
                f"`run_eagerly`. Received: {sorted(unknown)}."
            )
        strategy = tf.distribute.get_strategy()
        replicas = strategy.num_replicas_in_sync
        if replicas > 1 and not isinstance(strategy, tf.distribute.TPUStrategy):
            kwargs.setdefault("jit_compile", False)
            if kwargs["jit_compile"] is True or kwargs.get("steps_per_execution", 1) > 1:
                raise ValueError(
                    f"With {replicas} replicas TensorFlow can neither compile the step with XLA "
                    "nor run several steps at once: compile with jit_compile=False and "
                    f"steps_per_execution=1. Received: jit_compile={kwargs['jit_compile']}, "
                    f"steps_per_execution={kwargs.get('steps_per_execution', 1)}."
                )
        super().compile(optimizer=None, **kwargs)
        players = self.players()
        if not isinstance(optimizer, Mapping):
            config = keras.optimizers.serialize(keras.optimizers.get(optimizer))
            optimizer = {name: keras.optimizers.deserialize(config) for name in players}
        if optimizer.keys() != players.keys():
            raise ValueError(
                "`optimizer` must be one optimizer, or a dict with the players "
                f"{sorted(players)} as keys. Received: a dict with the keys {sorted(optimizer)}."
            )
        self.optimizers = {name: keras.optimizers.get(optimizer[name]) for name in players}
        if len(set(map(id, self.optimizers.values()))) < len(players):
            raise ValueError(
                "An optimizer keeps the state of one player: pass a separate optimizer for each of "
                f"{sorted(players)}, or one optimizer to copy."
            )
        self._check_players()
        for name in players:
            halves = any(part.compute_dtype == "float16" for part in self._layers_of(name))
            if auto_scale_loss and halves and not _scales_loss(self.optimizers[name]):
                wrapped = keras.optimizers.LossScaleOptimizer(self.optimizers[name])
                self.optimizers[name] = wrapped
            if replicas > 1 and _scales_loss(self.optimizers[name]):
                # Keras checks only one replica's gradients for overflow, and clips each share.
                raise ValueError(
                    "A LossScaleOptimizer works on one replica. Compute in bfloat16, which needs "
                    "no scaling, or give the optimizer a fixed `loss_scale_factor` and compile "
                    f"with auto_scale_loss=False. Received: {replicas} replicas, and a "
                    f"LossScaleOptimizer for player '{name}'."
                )
            # Optimizer variables must be created in the strategy's scope, not in a replica.
            self.optimizers[name].build(self.variables_of(name))
        self.trackers = {name: keras.metrics.Mean(name=name) for name in self.result_names()}
        self.first_non_finite = FirstNonFinite(self.trackers)

    def _check_players(self):
        """Raises a `ValueError` unless players, their layers and the gates fit together."""
        players = self.players()
        if unknown := {name for round in self.rounds() for name in round.gates} - players.keys():
            raise ValueError(
                f"A gate belongs to one of the players {sorted(players)}. "
                f"Received: gates of {sorted(unknown)}."
            )
        owned = {id(v) for name in players for v in self.variables_of(name)}
        if strays := [v.path for v in self.trainable_variables if id(v) not in owned]:
            raise ValueError(
                "Each trainable variable of a model belongs to at least one player: add its layer "
                "to `players()`, or freeze the layer with `trainable = False`. Received: a "
                f"{type(self).__name__} in which no player has {', '.join(map(repr, strays))}."
            )
        for layer in self._layers_of(*players):
            if getattr(layer, "activity_regularizer", None) is not None:
                raise ValueError(
                    "The penalty of an `activity_regularizer` belongs to no player's loss: add it "
                    "to a loss in the model's objective. Regularizers of weights work. Received: "
                    f"the layer '{layer.name}' with an `activity_regularizer`."
                )

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.trackers.values()) if hasattr(self, "trackers") else []

    def variables_of(self, player: str) -> list[keras.Variable]:
        """The trainable variables of a player."""
        return [v for layer in self.players()[player] for v in layer.trainable_variables]

    def _layers_of(self, *players):
        """All layers of the players, with the layers inside them."""
        own = self.players()
        tops = [layer for player in players for layer in own[player]]
        return [part for top in tops for part in keras_internals.layers_in(top)]

    def get_compile_config(self) -> dict[str, Any]:
        if not self.compiled:
            return {}
        return {
            "optimizer": keras.saving.serialize_keras_object(dict(self.optimizers)),
            "jit_compile": self.jit_compile,
            "steps_per_execution": self.steps_per_execution,
            # Optimizers are already wrapped; do not wrap them again.
            "auto_scale_loss": False,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))

    # Training ----------------------------------------------------------------------------------

    def fit(self, x=None, y=None, *args, callbacks=None, **kwargs) -> keras.callbacks.History:
        """Keras's `fit`, on arrays or a `tf.data.Dataset`, of `x` or `(x, y)`.

        A model with `semi_supervised` also takes a dataset of `((x_labelled, y), x_unlabelled)`.

        Raises:
            ValueError: If images are not floats in [0, 1] of the model's shape, if labels are
                outside the model's classes, or if sample weights or class weights are passed.
            NonFiniteError: If a loss or term becomes NaN or infinite.
        """
        for weights in ("sample_weight", "class_weight"):
            _refuse_weights(kwargs.get(weights), f"`{weights}`")
        self._check_data(x, y)
        held_out = keras.utils.unpack_x_y_sample_weight(kwargs.get("validation_data"))
        _refuse_weights(held_out[2], "weights in the validation data")
        self._check_data(held_out[0], held_out[1], "the validation data")
        if self.compiled:
            self.first_non_finite.reset_state()
        if isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
            kwargs.setdefault("shuffle", False)  # Keras warns about its own default.
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            # The first callback, so that no other callback saves or plots non-finite results.
            callbacks = [StopAtNonFinite(), *keras.tree.flatten(callbacks or [])]
        return super().fit(x, y, *args, callbacks=callbacks, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Keras's `evaluate`: the means of all losses and terms. Raises the errors of `fit`."""
        self._check_data(x, y)
        # The fifth argument, if it is not passed by name.
        weights = args[2] if len(args) > 2 else kwargs.get("sample_weight")
        _refuse_weights(weights, "`sample_weight`")
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs) -> np.ndarray:
        """Keras's `predict`: `call` in batches."""
        if self.can_encode:
            self.check_images(x)
        return super().predict(x, *args, **kwargs)

    def train_step(self, data) -> dict[str, tf.Tensor]:
        """Runs all rounds on a batch, with updates. Called by Keras's `fit`."""
        x, y = self._unpacked(data)
        seed = self._seed_at(self.step)
        rounds = self.rounds()
        shares = max(round.steps for round in rounds)
        results: dict[str, Any] = {}
        for round in rounds:
            for i in range(round.steps):
                seed, round_seed = tfp.random.split_seed(seed)
                x_share, y_share = _share((x, y), i, shares)
                losses, terms = self._play(round, x_share, y_share, round_seed)
            results |= self._named_results(losses, terms)
        self._track(results)
        self.first_non_finite.update_state(results, self.step)
        self.step.assign_add(1)
        return self._report()

    def _play(self, round, x, y, seed):
        """Runs a round once: updates the players of each turn. Returns all losses and terms."""
        tape = tf.GradientTape(persistent=True)
        # The scope collects the layers' state updates; `_commit_state` assigns them.
        scope = keras.StatelessScope(self._generator_states(seed), collect_losses=True)
        turns, losses, terms, pending = None, {}, {}, {}
        while True:
            with tape:
                with scope:
                    if turns is None:
                        turns = iter(turns_of(round.objective(x, y, seed, training=True)))
                    turn = next(turns, None)
                if turn is None:
                    return losses, terms
                objectives = self._objectives(turn[0])
            self._refuse_losses_of_layers(scope)
            losses, terms = losses | turn[0], terms | turn[1]
            variables = {player: self.variables_of(player) for player in objectives}
            # All gradients before any update: the players of a turn are updated at the same time.
            gradients = {p: tape.gradient(objectives[p], variables[p]) for p in objectives}
            allowed = self._evaluate_gates(round, objectives, losses, terms)
            for player in objectives:
                optimizer = self.optimizers[player]
                with _undone_unless(allowed.get(player), variables[player] + optimizer.variables):
                    self._apply(optimizer, gradients[player], variables[player])
            self._commit_state(scope, pending, objectives, allowed)
            terms = terms | _update_terms(allowed)

    def _objectives(self, losses):
        """Each player's objective: its mean loss over the global batch, plus its regularization."""
        # A loss scale affects the gradients only: the reported loss is not scaled.
        return {
            player: self.optimizers[player].scale_loss(
                _global_mean(loss, player) + self._regularization(player)
            )
            for player, loss in losses.items()
        }

    def _evaluate_gates(self, round, players, losses, terms):
        """Whether each player with a gate is updated: `{player: bool}`, equal on all replicas."""
        gates = {player: gate for player, gate in round.gates.items() if player in players}
        if not gates:
            return {}
        sums = {}
        for name, value in self._named_results(losses, terms).items():
            value, weight = value if isinstance(value, tuple) else (value, tf.ones_like(value))
            sums[name] = tf.stack([tf.reduce_sum(weight * value), tf.reduce_sum(weight)])
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1:
            # Reduce a list, as in `_commit_state`.
            totals = replicas.all_reduce(tf.distribute.ReduceOp.SUM, list(sums.values()))
            sums = dict(zip(sums, totals, strict=True))
        means = {
            name: total / count
            for name, (total, count) in zip(sums, map(tf.unstack, sums.values()), strict=True)
        }
        return {player: gate(means) for player, gate in gates.items()}

    def _generator_states(self, seed):
        """Pairs of each seed generator's state and its value for this round."""
        generators = {
            id(generator): generator
            for layer in self._layers_of(*self.players())
            for generator in keras_internals.seed_generators(layer)
        }
        fold = tf.random.experimental.stateless_fold_in
        return [
            (generator.state, tf.cast(fold(seed, i), generator.state.dtype))
            for i, generator in enumerate(generators.values())
        ]

    def _commit_state(self, scope, pending, players, allowed):
        """Commits the state updates of layers owned by the players that are updated in this turn.

        State updates of layers owned by other players stay in `pending`, by the variable's id,
        until a later turn of the round updates those players.
        """
        states = {
            player: [v for layer in layers for v in layer.non_trainable_weights]
            for player, layers in self.players().items()
        }
        # Layers called in the next turn then read the variables, not the pending updates.
        pending |= keras_internals.take_state_updates(
            scope, {id(v) for own in states.values() for v in own}
        )
        variables = {id(v): v for player in players for v in states[player]}
        updates = {i: pending.pop(i) for i in variables if i in pending}
        replicas = tf.distribute.get_replica_context()
        if updates and replicas.num_replicas_in_sync > 1:
            # Keras would keep separate statistics on each replica, of its own share of the batch.
            # Reduce a list: a dict is reduced in the order of its keys, which are ids here and
            # differ between workers.
            means = replicas.all_reduce(tf.distribute.ReduceOp.MEAN, list(updates.values()))
            updates = dict(zip(updates, means, strict=True))
        for i, value in updates.items():
            gates = [allowed.get(p) for p in players if any(id(v) == i for v in states[p])]
            go = None if None in gates else tf.reduce_any(gates)
            with _undone_unless(go, [variables[i]]):
                variables[i].assign(value)

    def _refuse_losses_of_layers(self, scope):
        losses = keras_internals.collected_losses(scope)
        if not losses:
            return
        names = dict.fromkeys(
            layer.name
            for layer in self._layers_of(*self.players())
            if keras_internals.added_any(layer, losses)
        )
        raise ValueError(
            "A loss that a layer adds in its call (`add_loss`) belongs to no player: add it to a "
            "loss in the model's objective, as one number per example. Received: the layer "
            f"'{', '.join(names) or '?'}', which adds a loss."
        )

    def _regularization(self, player):
        """The sum of the penalties of the player's layers, such as a `kernel_regularizer`."""
        penalties = [p for layer in self.players()[player] for p in layer.losses]
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return tf.add_n(penalties) / replicas if penalties else 0.0

    def _apply(self, optimizer, gradients, variables):
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1 and (
            optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
        ):
            # Keras clips each replica's share of the gradient, then adds the shares. Clip the sum
            # first; its equal shares are within any bound, so that the optimizer does not clip
            # them.
            scale = optimizer.loss_scale_factor or 1.0
            gradients = [g / scale for g in gradients]
            gradients = replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = keras_internals.clip_gradients(optimizer, gradients)
            gradients = [g * (scale / replicas.num_replicas_in_sync) for g in gradients]
        optimizer.apply(gradients, variables)

    def test_step(self, data) -> dict[str, tf.Tensor]:
        """All losses and terms on a batch, without updates. Called by Keras's `evaluate`."""
        x, y = self._unpacked(data)
        # The trackers start at zero, so that their count identifies the batch.
        seen = tf.cast(next(iter(self.trackers.values())).count, tf.int64)
        seed = self._seed_at(-1 - seen)
        results: dict[str, Any] = {}
        for round in self.rounds():
            seed, round_seed = tfp.random.split_seed(seed)
            losses: dict[str, Any] = {}
            terms: dict[str, Any] = {}
            for turn in turns_of(round.objective(x, y, round_seed, training=False)):
                losses, terms = losses | turn[0], terms | turn[1]
                terms |= _update_terms(self._evaluate_gates(round, turn[0], losses, terms))
            results |= self._named_results(losses, terms)
        self._track(results)
        return self._report()

    def _seed_at(self, step):
        """The seed of a step. It is the same in a resumed run, and differs between replicas."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.constant([self.seed, 0], tf.int32)
        for part in (step, replica):
            seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(part, tf.int32))
        return seed

    def _named_results(self, losses, terms):
        single = len(self.players()) == 1
        return {("loss" if single else f"{p}_loss"): loss for p, loss in losses.items()} | terms

    def _track(self, results):
        for name, value in results.items():
            # A result may have weights.
            self.trackers[name].update_state(*(value if isinstance(value, tuple) else (value,)))

    def _report(self):
        results = {name: tracker.result() for name, tracker in self.trackers.items()}
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            # Keras averages the workers' reports over their first axis, and scalars have none.
            results = {name: tf.expand_dims(value, 0) for name, value in results.items()}
        return results

    # Data checks -------------------------------------------------------------------------------

    def _check_data(self, x, y=None, where="the data"):
        """Raises a `ValueError` for arrays or a dataset on which the model cannot be trained."""
        if (batch := getattr(x, "element_spec", None)) is not None:
            x, _ = self._unpacked(batch, where)
        elif isinstance(x, tuple | list):
            raise ValueError(
                "Pass arrays of images and labels as two arguments, `fit(x, y)`, and two streams, "
                "((x_labelled, y), x_unlabelled), as a tf.data.Dataset of batches. "
                f"Received: {where} with a {type(x).__name__} as `x`."
            )
        else:
            self._check_labels(y)
        for images in x if isinstance(x, tuple) else (x,):
            self.check_images(images)

    def _unpacked(self, batch, where="the data"):
        """`x` and `y` of a batch or its specification. For two streams, `x` is a pair."""
        if isinstance(batch, tuple | list) and len(batch) > 2:
            weights = None if isinstance(batch[2], tf.NoneTensorSpec) else batch[2]
            _refuse_weights(weights, f"a third item in {where}, which Keras treats as weights")
        if not (isinstance(batch, tuple) and isinstance(batch[0], tuple)):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
            return x, y
        if not (self.semi_supervised and len(batch) == len(batch[0]) == 2):
            layouts = "x or (x, y)"
            if self.semi_supervised:
                layouts = "x, (x, y) or ((x_labelled, y), x_unlabelled)"
            shapes = keras.tree.map_structure(lambda t: str(getattr(t, "shape", t)), batch)
            raise ValueError(
                f"A batch for {with_article(type(self).__name__)} is {layouts}. "
                f"Received: {where} in batches of the shapes {shapes}."
            )
        (x_labelled, y), x_unlabelled = batch
        return (x_labelled, x_unlabelled), y

    def check_images(self, x: Any) -> None:
        """Raises a `ValueError` unless `x` holds float images in [0, 1] of the model's shape.

        For a dataset or a symbolic tensor, the check covers shape and type; for an array or an
        eager tensor, it also covers all values.
        """
        if isinstance(x, tf.data.Dataset):
            self._check_data(x)
            return
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            return
        shape, dtype = tuple(x.shape), tf.as_dtype(x.dtype)
        expected = f"float images in [0, 1] of shape [B, {', '.join(map(str, self.image_shape))}]"
        if len(shape) != 4 or any(
            size not in (None, wanted)
            for size, wanted in zip(shape[1:], self.image_shape, strict=True)
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

    def _check_labels(self, y):
        """Raises a `ValueError` for labels outside the model's classes."""
        if y is None or self.condition is None or not self.condition.dtype.is_integer:
            return
        y = y if tf.is_tensor(y) else np.asarray(y)
        if not tf.as_dtype(y.dtype).is_integer:
            raise ValueError(
                f"The condition of this {type(self).__name__} is a label, an int. "
                f"Received: y of type {tf.as_dtype(y.dtype).name}."
            )
        values, classes = tf.get_static_value(y) if tf.is_tensor(y) else y, self.num_classes
        if classes is None or values is None or not values.size:
            return
        lowest = -math.inf if self.condition_is_optional else 0
        if not lowest <= values.min() <= values.max() < classes:
            unknown = "; a negative number means no label" if self.condition_is_optional else ""
            raise ValueError(
                f"Labels are the numbers from 0 to {classes - 1}{unknown}. "
                f"Received: labels from {values.min()} to {values.max()}."
            )

    def _images(self, x):
        """Images as float32, checked unless they are symbolic."""
        if not tf.is_symbolic_tensor(x):
            x = x if tf.is_tensor(x) else np.asarray(x)
            self.check_images(x)
        return tf.cast(x, tf.float32)

    # Inference ---------------------------------------------------------------------------------

    def call(self, x, training: bool = False) -> tf.Tensor:
        """The reconstructions of `x`, if the model can encode. `predict` computes them in batches.

        If the model takes a condition, pass `[x, y]` as `x`.
        """
        return self.reconstruct(*x) if isinstance(x, list | tuple) else self.reconstruct(x)

    def abilities(self) -> tuple[str, ...]:
        """The names of the methods that the model supports, such as `encode` and `log_prob`."""
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
        """Whether the model maps images to latents: by default, with a posterior or an encoder."""
        return hasattr(self, "posterior") or hasattr(self, "encoder")

    def encode(self, x: Array, y: Any = None) -> tf.Tensor:
        """The codes `[B, D]` of images `x[B, H, W, C]` in [0, 1].

        By default the mean of the posterior q(z | x), or the encoder's output. Here and in the
        other methods, `y` is a condition for each image, or one condition for all images.

        Raises:
            NotImplementedError: If the model has neither a posterior nor an encoder.
            ValueError: If `x` does not hold float images in [0, 1] of the model's shape.
        """
        if not self.can_encode:
            raise NotImplementedError(
                f"{with_article(type(self).__name__, True)} has no encoder. "
                f"It supports: {', '.join(self.abilities())}."
            )
        x = self._images(x)
        if hasattr(self, "posterior"):
            return self.posterior(x, self.condition_for(x, y)).mean()
        return self.encoder(x)

    def decode(self, z: Array, y: Any = None) -> tf.Tensor:
        """The images `[B, H, W, C]` in [0, 1] of latents `z[B, D]`.

        By default the mean of the likelihood p(x | z, y), or the generator's output.
        """
        if hasattr(self, "likelihood"):
            return as_images(self.likelihood(z, self.condition_for(z, y, 2)).mean())
        return as_images(networks.call(self.generator, z, self.condition_for(z, y, 2)))

    def reconstruct(self, x: Array, y: Any = None) -> tf.Tensor:
        """`decode(encode(x))`, without noise: `[B, H, W, C]`."""
        return self.decode(self.encode(x, y), y)

    def sample(self, n: int, y: Any = None, seed: Any = None) -> tf.Tensor:
        """Decodes `n` draws from the prior: `[n, H, W, C]` in [0, 1].

        Args:
            n: Number of images.
            y: A condition for each image, or one for all images, if the model takes a condition.
            seed: An int or a `[2]` int tensor for a repeatable draw; `None` for a new draw.

        Raises:
            NotImplementedError: If the model has no prior.
            ValueError: If the model takes a condition and `y` does not fit `n` images.
        """
        y = self.conditions(n, y)
        return self.decode(self.sample_latents(n, y, seed), y)

    def sample_latents(self, n: int, y: Any = None, seed: Any = None) -> tf.Tensor:
        """`n` draws from the prior, `[n, D]`. Arguments and errors are those of `sample`."""
        if "sample" not in self.abilities():
            raise NotImplementedError(
                f"{with_article(type(self).__name__, True)} has no prior to sample from. "
                f"It supports: {', '.join(self.abilities())}."
            )
        prior, seed = self.prior(self.conditions(n, y)), as_seed(seed)
        # A prior that depends on the condition is a batch of distributions, one per condition.
        return prior.sample(seed=seed) if prior.batch_shape.rank else prior.sample(n, seed=seed)

    def conditions(self, n: int | tf.Tensor, y: Any) -> Any:
        """Conditions for `n` images, `[n, ...]`, in the type of `condition`: see `y` in `sample`.

        A model without a condition returns `y` unchanged.

        Raises:
            ValueError: If `y` is `None`, has another shape or type, or has labels outside the
                model's classes.
        """
        # Two statements, because AutoGraph, which exports use, does not convert `:=` in a test.
        spec = self.condition
        if spec is None:
            return y
        shape = f"[{', '.join(['n', *map(str, spec.shape[1:])])}]"
        if y is None:
            raise ValueError(
                f"{with_article(type(self).__name__, True)} takes a condition: pass `y`, "
                f"{spec.dtype.name} of shape "
                f"{shape} for n images, or one condition for all images. Received: y=None."
            )
        self._check_labels(y)
        y = tf.cast(y if tf.is_tensor(y) else np.asarray(y), spec.dtype)
        if y.shape.rank == spec.shape.rank - 1:
            y = tf.repeat(y[None], n, 0)
        known = tf.get_static_value(n)
        if not tf.TensorShape([known, *spec.shape[1:]]).is_compatible_with(y.shape):
            raise ValueError(
                f"Expected `y` of shape {shape} with n={known}, or one condition for all. "
                f"Received: shape {tuple(y.shape)}."
            )
        return y

    def condition_for(self, context: Array, y: Any, rank: int = 4) -> Any:
        """`y` for each image of `context[..., B, H, W, C]`, as `conditions` returns it.

        With `rank=2`, `y` for each latent of `context[..., B, D]`. `None` is returned unchanged,
        because parts that need a condition raise their own errors.
        """
        if y is None or self.condition is None:
            return y
        n = (context if tf.is_tensor(context) else np.asarray(context)).shape[-rank]
        return self.conditions(tf.shape(context)[-rank] if n is None else n, y)

    def interpolate(
        self, a: Array, b: Array, n: int = 10, spherical: bool = False, y: Any = None
    ) -> tf.Tensor:
        """Decodes `n` latents on the path from `a` to `b`, both ends included: `[n, H, W, C]`.

        Args:
            a: The first end: a latent `[D]`, or an image `[H, W, C]` if the model can encode.
            b: The last end: a latent or an image.
            n: Number of points, at least 2.
            spherical: Whether the path is an arc instead of a straight line: the direction turns
                from that of `a` to that of `b`, and norms are interpolated. White, "Sampling
                Generative Networks", 2016, section 2.
            y: One condition for all images, `[...]`, if the model takes a condition.

        Raises:
            ValueError: If `n` is below 2, or an end is neither a latent nor an image.
        """
        path = path_between(self._latent(a, y), self._latent(b, y), n, spherical)
        if y is not None:
            y = tf.repeat(tf.convert_to_tensor(y)[None], n, 0)
        return self.decode(path, y)

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
    def averaged_weights(self) -> Iterator[GenerativeModel]:
        """A context that replaces the weights by the moving averages of the optimizers.

        Optimizers with `use_ema=True` keep averages. The weights of other players do not change.

        Raises:
            ValueError: If no optimizer keeps averages.

        Example:
            >>> model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(8,))
            >>> model.compile(keras.optimizers.Adam(use_ema=True))
            >>> with model.averaged_weights():
            ...     images = model.sample(100)
        """
        if not self.keeps_averages:
            raise ValueError(
                "No optimizer of the model keeps averages of the weights: compile with an "
                "optimizer with `use_ema=True`, such as keras.optimizers.Adam(use_ema=True)."
            )
        pairs = [
            (variable, average)
            for player, optimizer in self._averaging_optimizers().items()
            # Before the first step the averages are zeros; the weights then do not change.
            if optimizer.iterations > 0
            for variable, average in zip(
                self.variables_of(player), keras_internals.moving_averages(optimizer), strict=True
            )
        ]
        weights = [variable.numpy() for variable, _ in pairs]
        try:
            for variable, average in pairs:
                variable.assign(average)
            yield self
        finally:
            for (variable, _), value in zip(pairs, weights, strict=True):
                variable.assign(value)

    def best_weights(self) -> contextlib.AbstractContextManager[GenerativeModel]:
        """`averaged_weights()` if an optimizer keeps averages, else the current weights."""
        return self.averaged_weights() if self.keeps_averages else contextlib.nullcontext(self)

    @property
    def keeps_averages(self) -> bool:
        """Whether an optimizer keeps moving averages of the weights."""
        return bool(self._averaging_optimizers())

    def _averaging_optimizers(self):
        """The optimizers that keep averages, by player."""
        optimizers = {
            player: optimizer.inner_optimizer if _scales_loss(optimizer) else optimizer
            for player, optimizer in getattr(self, "optimizers", {}).items()
        }
        return {player: optimizer for player, optimizer in optimizers.items() if optimizer.use_ema}


def as_seed(seed: Any) -> tf.Tensor:
    """The `[2]` seed for TensorFlow's stateless draws; a new seed if `seed` is `None`."""
    if seed is None:
        return tfp.random.sanitize_seed(None)
    seed = tf.cast(seed, tf.int32)
    return seed if seed.shape.rank else tf.stack([seed, 0])


def as_images(values: tf.Tensor) -> tf.Tensor:
    """The values as float32, clipped to [0, 1]: the means of a normal may be outside this range."""
    return tf.clip_by_value(tf.cast(values, tf.float32), 0.0, 1.0)


def path_between(a: Array, b: Array, n: int, spherical: bool = False) -> tf.Tensor:
    """`n` points `[n, D]` from `a[D]` to `b[D]`, on the line or, if `spherical`, on the arc.

    On the arc, the direction turns at constant speed and the norm changes linearly. If the
    directions are equal or opposite, or an end is the origin, the arc is not unique: the path is
    then the line.

    Raises:
        ValueError: If `n` is below 2.

    Example:
        >>> zoo.model.path_between([0.0, 1.0], [1.0, 2.0], 3).numpy()
        array([[0. , 1. ],
               [0.5, 1.5],
               [1. , 2. ]], dtype=float32)
    """
    if n < 2:
        raise ValueError(f"A path has at least two points, its ends: n >= 2. Received: n={n}.")
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


def turns_of(outcome: tuple | Iterable[tuple[dict, dict]]) -> Iterable[tuple[dict, dict]]:
    """The `(losses, terms)` of each turn, from the return value of an objective."""
    return [outcome] if isinstance(outcome, tuple) else outcome


def _refuse_weights(weights, what):
    if weights is not None:
        raise ValueError(
            "The models of the zoo weight all examples equally: data is `x` or `(x, y)`. "
            f"Received: {what}."
        )


def _scales_loss(optimizer):
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def _update_terms(allowed):
    return {f"{player}_updates": tf.cast(go, tf.float32) for player, go in allowed.items()}


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


def _global_mean(loss, player):
    """The sum over the replica's examples, divided by the number of examples on all replicas.

    Keras's optimizers add the replicas' gradients. Their sum is then the gradient of the mean over
    the global batch, even where replicas have unequal shares of a last, small batch. For
    `(loss, weights)` it is the weighted mean, or 0 if all weights are 0.
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
    """Undoes all changes of the variables within the context, if the scalar bool `go` is false.

    `None` means true. The changes are always made, and then undone if necessary: neither replicas
    nor Keras's optimizers support updates in only one branch of a graph.
    """
    if go is None:
        yield
        return
    before = [tf.identity(v) for v in variables]
    yield

    def restore(strategy, go, *before):
        # Each replica assigns its own copy. An ordinary assignment would take the mean over
        # replicas, which is rounded.
        for variable, value in zip(variables, before, strict=True):
            strategy.extended.update(
                variable.value,
                lambda v, go, old: v.assign(tf.where(go, v, old)),
                args=(go, value),
                group=False,
            )

    tf.distribute.get_replica_context().merge_call(restore, args=(go, *before))
