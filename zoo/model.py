"""`GenerativeModel`, the one base class of the zoo, and `Round`, the unit of its training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import (
    averaging,
    checked_data,
    interfaces,
    keras_internals,
    keras_settings,
    keras_tools,
    mean_start,
    networks,
    optimizers,
)
from zoo.config import FromArguments, with_article
from zoo.contract import Limits, as_count
from zoo.distributions.conditional import Conditional
from zoo.distributions.part import Part
from zoo.finite import FirstNonFinite
from zoo.interfaces import Interface
from zoo.mean_start import Start
from zoo.networks import OneHot
from zoo.steps import generator_states, passes, seed_at, turns_of

if TYPE_CHECKING:
    from zoo.datasets import ImageData

Array: TypeAlias = np.ndarray | tf.Tensor


class Round(NamedTuple):
    """One forward pass on a batch, and the losses of the players that are updated after it.

    Players, rounds, turns and gates are defined in `GenerativeModel`.

    `objective(x, y, seed, training)` returns `(losses, terms)`. `losses` maps each player of the
    round to its loss per example, `[B]`; `terms` maps the names of other results to their values
    per example, `[B]`. A loss or a term may also be a pair `(values, weights)`, which is reduced to
    its weighted mean. Players with the same tensor as loss share one backward pass. All randomness
    must come from `seed`, so that an objective is a pure function of weights, batch and seed.
    (Layers such as dropout have their own generators; the model seeds them from `seed`.)

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


class Signature(NamedTuple):
    """The tensors that a method takes and returns, for `zoo.export`.

    `GenerativeModel.tensor_specs` has the shape and the type of each tensor. The condition `y` and
    `seed` are not listed: an export passes `y` as the last tensor if the method uses it, and a new
    seed in each call if the method has an argument `seed`. Such a method draws random numbers, and
    is exported only to formats that have them.

    Args:
        takes: Names of the tensors. A tensor is passed to the argument of its name. If there is no
            such argument, it is passed to the argument at its place.
        returns: Name of the result; or names of the results, if the method returns a tuple.

    Example:
        A VAE with a method that is exported:

        >>> class Contrasting(zoo.VAE):
        ...     signatures = {
        ...         **zoo.VAE.signatures, "contrast": zoo.Signature(("x", "gain"), "images")
        ...     }
        ...     def abilities(self):
        ...         return (*super().abilities(), "contrast")
        ...     def tensor_specs(self):
        ...         return super().tensor_specs() | {"gain": tf.TensorSpec([], tf.float32)}
        ...     def contrast(self, x, gain, y=None):
        ...         return tf.sigmoid(gain * (self.reconstruct(x, y) - 0.5))
    """

    takes: tuple[str, ...]
    returns: str | tuple[str, ...]


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
    training step creates a variable. The constructor refuses parts that do not fit together: a
    subclass with other networks adds them to `interfaces`.

    The class guarantees three things for every model:

    - The gradient of a player's loss is taken with respect to the player's own variables only. The
      gradients of all players of a turn are computed before any of them is updated.
    - The state of a layer, such as batch statistics, changes only when a player that owns the layer
      is updated, whichever players call the layer.
    - Losses and terms are values per example. The base class averages them over the global batch.

    Images are float32 in [0, 1], `[B, H, W, C]`, in every public method. Data is `x` or `(x, y)`,
    or, for models with `semi_supervised`, `((x_labelled, y), x_unlabelled)`. `y` is an array, or a
    dict of arrays for models with `annotations`.

    Args:
        seed: Seed of all random numbers in training. Each draw is a function of this seed, the
            step, the round and the replica, so that a resumed run draws the same numbers as an
            uninterrupted run.
        start_at_mean: Whether the decoder of a new model starts at the mean of the training images:
            see `zoo.mean_start`. Without effect on a model without a likelihood or reconstructions.
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

    needs_labels: str = ""
    """The error if an image of `(x, y)` has no label in training; empty if labels may be missing.

    It concerns models with `condition_is_optional`. Other models always need a condition.
    """

    semi_supervised: bool = False
    """Whether a training batch may be two streams, `((x_labelled, y), x_unlabelled)`.

    Objectives then receive the pair `(x_labelled, x_unlabelled)` as `x`, and the labels of the
    first stream as `y`. The streams of a batch may differ in size.
    """

    annotations: tuple[str, ...] = ()
    """The annotations that the objective reads, if `y` is a dict of annotations.

    Objectives receive the dict of these annotations as `y`, without the others of the data. A model
    with one annotation may be trained on the bare array.
    """

    @property
    def annotation_limits(self) -> Mapping[str, Limits]:
        """The valid values of annotations, by name."""
        return {}

    condition_leaf: str | None = None
    """Which of the `annotations` is the condition. Methods such as `decode` take it as a bare `y`."""

    grouped_batches: bool = False
    """Whether a training batch consists of whole groups: see `zoo.datasets.ImageData.batches`."""

    has_differentiable_decoder: bool = True
    """Whether images of `decode` have a gradient with respect to the latents."""

    adapted: tuple[str, ...] = ()
    """Attributes other than weights that `adapt` sets. `zoo.pretrained` stores them in files."""

    requires: Mapping[str, str] = {}
    """Maps builder options that name the run of a trained model to the builder of that model."""

    signatures: Mapping[str, Signature] = {
        "encode": Signature(("x",), "latents"),
        "decode": Signature(("z",), "images"),
        "reconstruct": Signature(("x",), "images"),
        "sample": Signature(("n",), "images"),
        "log_prob": Signature(("x", "num_samples"), "log_prob"),
    }
    """Maps abilities to their signatures. An ability without a signature is not exported.

    A subclass with a method of its own adds the method to `abilities` and to `signatures`, and adds
    new tensors to `tensor_specs` and `tensor_ranges`.
    """

    log_prob_method: str = "importance sampling"
    """Method of `log_prob`: "importance sampling", "Monte Carlo" (from the prior), or "exact"."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = interfaces.with_check(cls.__init__)

    def __init__(self, seed: int = 0, start_at_mean: bool = True, **kwargs):
        keras_settings.check()
        # Each network has its own precision; images, losses and densities are float32.
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.seed = as_count(seed, "seed", 0)
        self.start_at_mean = start_at_mean
        # Keras neither saves nor tracks the records.
        self._records = checked_data.Records(self.annotations)
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.built = True
        self._averaged_state: averaging.AveragedState | None = None
        self._step_in_training_mode: Callable | None = None

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

    def interfaces(self) -> dict[str, Interface]:
        """The shapes that each part takes and returns, by the part's attribute.

        The constructor ends with a check that the parts have these interfaces. By default these
        are the interfaces of a posterior or an encoder of images, a likelihood or a generator of
        images, and a prior of latents. A subclass adds its other networks.
        """
        return interfaces.of_autoencoder(self, interfaces.shape_of_images(self))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images.

        By default the shape of the first input of the posterior, the encoder or the discriminator;
        the shape of the likelihood's values, if that input is unknown.
        """
        for name in ("posterior", "encoder", "discriminator"):
            if (part := getattr(self, name, None)) is not None:
                if (shape := interfaces.context_shape(part)) is not None:
                    return tuple(shape)  # type: ignore[return-value]
                break
        # A posterior of the user may not know its shapes.
        if (shape := getattr(getattr(self, "likelihood", None), "event_shape", None)) is not None:
            return shape
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

    def tensor_specs(self) -> dict[str, tf.TensorSpec]:
        """Shape and type of the tensors that `signatures` name, by name."""
        images = tf.TensorSpec([None, *self.image_shape], tf.float32)
        latents = tf.TensorSpec([None, self.latent_dim], tf.float32)
        count = tf.TensorSpec([], tf.int32)
        specs = {
            "x": images,
            "z": latents,
            "n": count,
            "num_samples": count,
            "images": images,
            "latents": latents,
            "log_prob": tf.TensorSpec([None], tf.float32),
        }
        if (classes := self.num_classes) is not None:
            specs["probabilities"] = tf.TensorSpec([None, classes], tf.float32)
        if (condition := self.condition) is not None:
            specs["y"] = condition
        return specs

    def tensor_ranges(self) -> dict[str, tuple[float | None, float | None]]:
        """The smallest and the largest value of tensors in `tensor_specs`, by name.

        A bound is `None` if it does not exist; a tensor without bounds is left out. A SavedModel
        refuses inputs that are out of range.
        """
        ranges: dict[str, tuple[float | None, float | None]] = {
            "x": (0.0, 1.0),
            "images": (0.0, 1.0),
            "probabilities": (0.0, 1.0),
            "n": (0, None),
            "num_samples": (1, None),
        }
        condition, classes = self.condition, self.num_classes
        if condition is not None and condition.dtype.is_integer and classes is not None:
            ranges["y"] = (-1 if self.condition_is_optional else 0, classes - 1)
        return ranges

    def export_details(self) -> dict[str, Any]:
        """Further entries of `abilities.json` for servers, as values of JSON. By default none."""
        return {}

    def mean_starts(self) -> list[Start]:
        """The networks that start at the mean of the training images, for `zoo.mean_start`.

        By default the network of the likelihood, if the likelihood is a `Conditional` over images. A
        subclass adds other networks whose outputs are compared with images.
        """
        likelihood = getattr(self, "likelihood", None)
        if isinstance(likelihood, Conditional) and likelihood.event_shape == self.image_shape:
            return [Start(likelihood.network, likelihood.family)]
        return []

    def adapt(self, data: ImageData) -> None:
        """Sets what depends on the training data, before training on an `ImageData`.

        `zoo.training` calls this method. By default the decoder of a new model starts at the mean of
        the training images: see `zoo.mean_start`. A subclass that sets more calls
        `super().adapt(data)`.
        """
        mean_start.from_data(self, data)

    def fit_prior(self, data: Any) -> None:
        """Fits the prior to the codes of an `ImageData`, if gradients do not train the prior.

        `zoo.training` calls this method before it evaluates a model. By default it does nothing.
        """

    def finish(self, data: ImageData) -> None:
        """Fits what gradients do not train. `zoo.training` calls this method after training.

        By default this is the prior: see `fit_prior`.
        """
        self.fit_prior(data)

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
            optimizer: A name, an optimizer, or a dict that maps each player's name to its
                optimizer. The optimizer of a model with one player is also `model.optimizer`. If
                there are several players, one name or optimizer is copied for each of them; the
                copies are in `model.optimizers`, by player.
            auto_scale_loss: Whether to wrap the optimizer of a player with layers that compute in
                float16 in a `keras.optimizers.LossScaleOptimizer`, so that small gradients do not
                underflow to zero.
            **kwargs: Arguments of Keras's `compile`: `jit_compile`, `steps_per_execution`,
                `run_eagerly`.

        Raises:
            ValueError: If the dict's keys are not the players' names, if an optimizer has the state
                of other variables, if a trainable variable belongs to no player, or if a setting
                does not work on several replicas.
        """
        super().compile(optimizer=None, **optimizers.checked_settings(self, kwargs))
        self.optimizers = optimizers.of_players(self, optimizer, auto_scale_loss)
        one, *others = self.optimizers.values()
        self.optimizer = keras_tools.NoSingleOptimizer(self.optimizers) if others else one
        self._averaged_state = self._step_in_training_mode = None
        self.trackers = {name: keras.metrics.Mean(name=name) for name in self.result_names()}
        self.first_non_finite = FirstNonFinite(self.trackers)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.trackers.values()) if hasattr(self, "trackers") else []

    def variables_of(self, player: str) -> list[keras.Variable]:
        """The trainable variables of a player, each once even if several of its layers share it."""
        layers = self.players()[player]
        return list({id(v): v for layer in layers for v in layer.trainable_variables}.values())

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

    # Steps -------------------------------------------------------------------------------------

    def train_step(self, data) -> dict[str, tf.Tensor]:
        """Runs all rounds on a batch, with updates. Called by Keras's `fit`."""
        x, y = checked_data.check_batch(self, data, training=True)
        self._records.training.update(checked_data.values_of(self, x, y, training=True))
        results: dict[str, Any] = {}
        for round, x_share, y_share, seed in passes(self, x, y, self.step):
            losses, terms = self._play(round, x_share, y_share, seed)
            results |= self._named_results(losses, terms)
        self._track(results)
        self.first_non_finite.update_state(results, self.step)
        self.step.assign_add(1)
        return self._report()

    def _play(self, round, x, y, seed):
        """Runs a round once: updates the players of each turn. Returns all losses and terms."""
        tape = tf.GradientTape(persistent=True)
        # The scope collects the layers' state updates; `_commit_state` assigns them.
        scope = keras.StatelessScope(generator_states(self, seed), collect_losses=True)
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
            keras_tools.refuse_losses_of_layers(self, scope)
            losses, terms = losses | turn[0], terms | turn[1]
            variables = {player: self.variables_of(player) for player in objectives}
            # All gradients before any update: the players of a turn are updated at the same time.
            gradients = _gradients(tape, objectives, variables)
            allowed = self._evaluate_gates(round, objectives, losses, terms)
            for player in objectives:
                optimizer = self.optimizers[player]
                with _undone_unless(allowed.get(player), variables[player] + optimizer.variables):
                    optimizers.apply(optimizer, gradients[player], variables[player])
            self._commit_state(scope, pending, objectives, allowed)
            terms = terms | _update_terms(allowed)

    def _objectives(self, losses):
        """Each player's objective: its mean loss over the global batch, plus its regularization."""
        means: dict[int, tf.Tensor] = {}
        for player, loss in losses.items():
            # Players with the same loss have the same mean, and share its gradient.
            if id(loss) not in means:
                means[id(loss)] = _global_mean(loss, player)
        # A loss scale affects the gradients only: the reported loss is not scaled.
        return {
            player: self.optimizers[player].scale_loss(self._regularized(means[id(loss)], player))
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

    def _regularized(self, mean, player):
        """A mean loss plus the penalties of the player's weights, such as a `kernel_regularizer`."""
        # `layer.losses` would contain the penalty of a shared weight once for each layer.
        regularized = [v for v in self.variables_of(player) if v.regularizer is not None]
        penalties = [v.regularizer(v) for v in regularized]
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return mean + tf.add_n(penalties) / replicas if penalties else mean

    def test_step(self, data) -> dict[str, tf.Tensor]:
        """All losses and terms on a batch, without updates. Called by Keras's `evaluate`."""
        x, y = checked_data.check_batch(self, data)
        self._records.evaluation.update(checked_data.values_of(self, x, y))
        # The trackers start at zero, so that their count identifies the batch.
        seen = tf.cast(next(iter(self.trackers.values())).count, tf.int64)
        seed = seed_at(self, -1 - seen)
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

    def predict_step(self, data) -> tf.Tensor:
        """The result of `call` on a batch. Called by Keras's `predict`."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        images, y = x if isinstance(x, list | tuple) and len(x) == 2 else (x, None)
        checked_data.check_inputs(self, x)
        if self.can_encode:
            self._records.prediction.update(checked_data.values_of(self, images, y))
        return super().predict_step(data)

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

    # Training, evaluation and prediction -------------------------------------------------------

    def fit(self, x=None, y=None, *args, callbacks=None, **kwargs) -> keras.callbacks.History:
        """Keras's `fit`, on arrays or batches of `x` or `(x, y)`.

        A model with `semi_supervised` also takes a dataset of `((x_labelled, y), x_unlabelled)`.

        Arrays, the first batch of a generator or a `PyDataset`, and types and shapes of a dataset are
        checked before the first step. The values of each batch are checked in its step; an invalid
        batch stops training within a second or at the end of the epoch, before another callback
        saves the model.

        The decoder of a new model starts at the mean of the data, unless `adapt` has set its start:
        see `zoo.mean_start`.

        Raises:
            ValueError: If images are not floats in [0, 1] of the model's shape, if `y` is not the
                model's condition or is out of range, or if sample weights or class weights are
                passed.
            NonFiniteError: If a loss or term becomes NaN or infinite.
        """
        for weights in ("sample_weight", "class_weight"):
            checked_data.refuse_weights(kwargs.get(weights), f"`{weights}`")
        x = checked_data.check_data(self, x, y, training=True)
        held_out, held_out_y, held_out_weights = keras.utils.unpack_x_y_sample_weight(
            kwargs.get("validation_data")
        )
        checked_data.refuse_weights(held_out_weights, "weights in the validation data")
        if held_out is not None:
            held_out = checked_data.check_data(self, held_out, held_out_y, "the validation data")
            kwargs["validation_data"] = keras.utils.pack_x_y_sample_weight(held_out, held_out_y)
        if self.compiled:
            self.first_non_finite.reset_state()
            x = mean_start.from_training(self, x, y, kwargs.get("validation_split"))
        self._records.training.reset()
        if isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
            kwargs.setdefault("shuffle", False)  # Keras warns about its own default.
        with keras_tools.guarded(self, callbacks) as guarded:
            return super().fit(x, y, *args, callbacks=guarded, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Keras's `evaluate`: the means of all losses and terms.

        Raises:
            ValueError: As for `fit`, for a batch out of range at the end of the evaluation.
        """
        # A validation reads data that `fit` has checked.
        if not kwargs.get("_use_cached_eval_dataset"):
            x = checked_data.check_data(self, x, y)
        # The fifth argument, if it is not passed by name.
        weights = args[2] if len(args) > 2 else kwargs.get("sample_weight")
        checked_data.refuse_weights(weights, "`sample_weight`")
        self._records.evaluation.reset()
        results = super().evaluate(x, y, *args, **kwargs)
        self.check_record("evaluation")
        return results

    def predict(self, x, *args, **kwargs) -> np.ndarray:
        """Keras's `predict`: `call` in batches.

        Raises:
            ValueError: If images or conditions are invalid: see `fit` and `evaluate`.
        """
        x = checked_data.check_inputs(self, x)
        self._records.prediction.reset()
        images = super().predict(x, *args, **kwargs)
        self.check_record("prediction")
        return images

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, **kwargs):
        """Keras's `train_on_batch`. Raises the errors of `fit` before the step."""
        checked_data.refuse_weights(sample_weight, "`sample_weight`")
        checked_data.refuse_weights(class_weight, "`class_weight`")
        checked_data.check_data(self, x, y, training=True)
        return super().train_on_batch(x, y, **kwargs)

    def test_on_batch(self, x, y=None, sample_weight=None, **kwargs):
        """Keras's `test_on_batch`. Raises the errors of `evaluate` before the step."""
        checked_data.refuse_weights(sample_weight, "`sample_weight`")
        checked_data.check_data(self, x, y)
        return super().test_on_batch(x, y, **kwargs)

    def predict_on_batch(self, x) -> np.ndarray:
        """Keras's `predict_on_batch`. Raises the errors of `predict` before the step."""
        checked_data.check_inputs(self, x)
        return super().predict_on_batch(x)

    # Data checks -------------------------------------------------------------------------------

    def check_images(self, x: Any) -> None:
        """Raises a `ValueError` unless `x` holds float images in [0, 1] of the model's shape.

        For a dataset or a symbolic tensor, the check covers shape and type; for an array or an
        eager tensor, it also covers all values.
        """
        checked_data.check_images(self, x)

    def check_record(self, what: str) -> None:
        """Raises a `ValueError` if a batch of the latest pass over data was out of range.

        Keras's `fit`, `evaluate` and `predict` call this method. A custom loop around
        `train_step` or `test_step` in a `tf.function` calls it after some steps.

        Args:
            what: "training", "evaluation" or "prediction".
        """
        checked_data.check_record(self, self._records, what)

    def assert_valid(self, x: Any = None, y: Any = None) -> None:
        """Adds an assertion to a graph that images and conditions are in range, for exports.

        Args:
            x: Images `[B, H, W, C]`, or `None`.
            y: Conditions `[B, ...]`, or `None`.
        """
        checked_data.assert_valid(self, x, y)

    def _images(self, x):
        """Checked images as float32. For a symbolic tensor, only type and shape are checked."""
        x = x if tf.is_tensor(x) else np.asarray(x)
        self.check_images(x)
        return tf.cast(x, tf.float32)

    def _latents(self, z):
        """Latents as float32. Raises a `ValueError` unless they are finite and of D dimensions."""
        return checked_data.latents(self, z)

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
            "sample": getattr(self, "prior", None) is not None,
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

        Raises:
            ValueError: If latents are not finite or have another number of dimensions.
        """
        z = self._latents(z)
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
            ValueError: If `n` is not a positive int, or if the model takes a condition and `y` does
                not fit `n` images.
        """
        n = as_count(n, "n")
        y = self.conditions(n, y)
        return self.decode(self.sample_latents(n, y, seed), y)

    def sample_latents(self, n: int, y: Any = None, seed: Any = None) -> tf.Tensor:
        """`n` draws from the prior, `[n, D]`. Arguments and errors are those of `sample`."""
        if "sample" not in self.abilities():
            raise NotImplementedError(
                f"{with_article(type(self).__name__, True)} has no prior to sample from. "
                f"It supports: {', '.join(self.abilities())}."
            )
        n = as_count(n, "n")
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
        return checked_data.conditions(self, n, y)

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
        n = as_count(n, "n", 2)
        path = path_between(self._latent(a, y), self._latent(b, y), n, spherical)
        if y is not None:
            y = _repeated(y, n)
        return self.decode(path, y)

    def _latent(self, end, y):
        end = end if isinstance(end, tf.Tensor) else np.asarray(end)
        if len(end.shape) == 3:
            return self.encode(end[None], None if y is None else _repeated(y, 1))[0]
        if len(end.shape) != 1:
            raise ValueError(
                "An end of an interpolation is a latent [D] or an image [H, W, C]. "
                f"Received: a tensor of shape {tuple(end.shape)}."
            )
        return tf.cast(end, tf.float32)

    @contextlib.contextmanager
    def averaged_weights(self, data: tf.data.Dataset | None = None) -> Iterator[GenerativeModel]:
        """A context that replaces the weights by the moving averages of the optimizers.

        Optimizers with `use_ema=True` keep averages. The weights of other players do not change.

        Batch statistics of the current weights do not fit the averaged weights. In the context,
        such state of layers is what `fit_averaged_state` has computed from training data.

        Args:
            data: Batches of training data, for `fit_averaged_state`. If `None`, the state of layers
                must have been computed since the last training step. A file that `save` has written
                keeps it. If the layers have no such state, no data is needed.

        Raises:
            ValueError: If no optimizer keeps averages, or if data is needed and `None`.

        Example:
            >>> model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(8,))
            >>> model.compile(keras.optimizers.Adam(use_ema=True))
            >>> with model.averaged_weights():
            ...     images = model.sample(100)
        """
        if data is not None:
            self.fit_averaged_state(data)
        with averaging.averaged(self, self._averaged_state):
            yield self

    def best_weights(
        self, data: tf.data.Dataset | None = None
    ) -> contextlib.AbstractContextManager[GenerativeModel]:
        """`averaged_weights(data)` if an optimizer keeps averages, else the current weights."""
        return self.averaged_weights(data) if self.keeps_averages else contextlib.nullcontext(self)

    def fit_averaged_state(self, data: tf.data.Dataset) -> None:
        """Computes the batch statistics, and other state of layers, for the averaged weights.

        The model keeps the result until the next training step, and `save` writes it. The weights
        and the state for the current weights do not change.

        All rounds of the model run on each batch in training mode, without updates, with the
        averaged weights. A batch normalization gets the mean of the statistics of all batches.
        Other state, such as the vectors of a spectral normalization, follows its own rule from
        batch to batch. As in training, calls of a layer count in the rounds of its players only.
        Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018,
        section 3.2. https://arxiv.org/abs/1803.05407

        Args:
            data: Batches of training data as `fit` takes them, in the batch size of the training.

        Raises:
            ValueError: If no optimizer keeps averages; if `data` is not a finite `tf.data.Dataset` of
                at least one batch; or if the model cannot be trained on `data`.

        Example:
            >>> model = zoo.models.gan((8, 8, 1), latent_dim=2)
            >>> model.compile(keras.optimizers.Adam(use_ema=True))
            >>> batches = zoo.datasets.load("digits").batches("train", 100, shuffle=True)
            >>> history = model.fit(batches, verbose=0)
            >>> model.fit_averaged_state(batches)
            >>> with model.averaged_weights():
            ...     images = model.sample(100)
        """
        if self._step_in_training_mode is None:
            self._step_in_training_mode = averaging.step_in_training_mode(self)
        state = averaging.fit_state(self, data, self._step_in_training_mode)
        self._averaged_state = self._averaged_state if state is None else state

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        averaging.save(self._averaged_state, store)

    def load_own_variables(self, store: Any) -> None:
        variables, averaged_state = averaging.load(store)
        super().load_own_variables(variables)
        self._averaged_state = averaged_state

    @property
    def keeps_averages(self) -> bool:
        """Whether an optimizer keeps moving averages of the weights."""
        return bool(averaging.optimizers_with_averages(self))

    # Keras's own tools -------------------------------------------------------------------------

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Keras's `summary` of the model's networks, and of other layers that have weights.

        The arguments are those of `keras.Model.summary`.
        """
        keras_tools.Networks(self).summary(*args, **kwargs)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Keras's `save`: a `.keras` file of the model, its weights and its optimizers.

        Raises:
            ValueError: If the file is a `.h5` file.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "A .h5 file cannot hold a model of the zoo: save to a path that ends in .keras, or "
                "save the weights alone with `save_weights` to a path that ends in .weights.h5. "
                f"Received: '{filepath}'."
            )
        super().save(filepath, *args, **kwargs)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Not available: `zoo.export.export` writes a signature for each ability of the model.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "Keras's `export` writes one signature, and a model of the zoo has one for each "
            "ability: use `zoo.export.export(model, path)`, or python -m trainers.export. "
            f"Received: '{filepath}'."
        )


def _repeated(y, n):
    """One condition, or one of each annotation of a dict, for `n` images."""
    if isinstance(y, Mapping):
        return {name: _repeated(values, n) for name, values in y.items()}
    return tf.repeat(tf.convert_to_tensor(y)[None], n, 0)


def as_seed(seed: Any) -> tf.Tensor:
    """The `[2]` seed for TensorFlow's stateless draws; a new seed if `seed` is `None`.

    Raises:
        ValueError: If `seed` is neither an int of at least 0 nor ints of shape `[2]`.
    """
    if seed is None:
        return tfp.random.sanitize_seed(None)
    pair = seed if tf.is_tensor(seed) else np.asarray(seed)
    if tf.as_dtype(pair.dtype).is_integer and tf.TensorShape([2]).is_compatible_with(pair.shape):
        return tf.cast(pair, tf.int32)
    return tf.stack([tf.cast(as_count(seed, "seed", 0), tf.int32), 0])


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
    n = as_count(n, "n", 2)  # A path has two ends.
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


def _update_terms(allowed):
    return {f"{player}_updates": tf.cast(go, tf.float32) for player, go in allowed.items()}


def _gradients(tape, objectives, variables):
    """The gradients of each player. Players with the same objective share one backward pass."""
    shared: dict[int, list[str]] = {}
    for player, objective in objectives.items():
        shared.setdefault(id(objective), []).append(player)
    gradients = {}
    for players in shared.values():
        found = tape.gradient(objectives[players[0]], [variables[p] for p in players])
        gradients |= dict(zip(players, found, strict=True))
    return gradients


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
