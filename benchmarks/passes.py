"""The passes through networks that a model's algorithm needs in a step, each timed by itself."""

import functools
from typing import NamedTuple

import keras
import tensorflow as tf

from benchmarks.throughput import count_flops, elapsed
from zoo.models.aae import AAE
from zoo.models.alpha_gan import AlphaGAN
from zoo.models.vaegan import VAEGAN


class Pass(NamedTuple):
    """A pass of some rows through a network, forward, and perhaps back.

    Attributes:
        network: Through which.
        rows: How many, in batches.
        weights: Whether the gradient of the weights is taken.
        inputs: Whether that of the inputs is.
        again: Whether the activations are those of another pass, so that only going back counts.
    """

    network: keras.Model
    rows: int = 1
    weights: bool = False
    inputs: bool = False
    again: bool = False


def needed(model) -> tuple[list[Pass], list[str]]:
    """The passes of one step of a model's algorithm, and who moves in it.

    Raises:
        ValueError: For a model whose passes are not written down here.
    """
    known = {AAE: _aae, VAEGAN: _vaegan, AlphaGAN: _alphagan}
    if type(model) not in known:
        raise ValueError(
            f"Passes are written down for {', '.join(cls.__name__ for cls in known)}. "
            f"Received: a {type(model).__name__}."
        )
    return known[type(model)](model), list(model.players())


def _aae(model):
    encoder, decoder = model.posterior.network, model.likelihood.network
    judge = model.discriminator
    return [
        Pass(encoder, weights=True),
        Pass(decoder, weights=True, inputs=True),
        # The encoder has moved. Its new codes serve the discriminator's move and its own.
        Pass(encoder, weights=True),
        Pass(judge, 2, weights=True),
        Pass(judge, inputs=True),
    ]


def _vaegan(model):
    encoder, decoder, judge = model.posterior.network, model.decoder, model.discriminator
    # Reconstructions and samples are made in one batch, and judged in one with the images or each
    # for itself. Where a batch is normalized, what goes back to some of its rows has to come by all.
    made = 2 if _normalizes(decoder) else 1
    all_shown, shown = (3, 3) if _normalizes(judge) and model.joint_batch else (2, 1)
    return [
        Pass(encoder, weights=True),
        Pass(decoder, 2, weights=True),
        # The encoder's loss comes back through the reconstructions.
        Pass(decoder, made, inputs=True, again=True),
        # The discriminator's own loss; then that of the decoder, of all that was made; then that of
        # the encoder, of the reconstructions.
        Pass(judge, 3, weights=True),
        Pass(judge, all_shown, inputs=True, again=True),
        Pass(judge, shown, inputs=True, again=True),
    ]


def _normalizes(network):
    layers = network._flatten_layers()
    return any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)


def _alphagan(model):
    encoder, generator = model.posterior.network, model.generator
    judge, code_judge = model.discriminator, model.code_discriminator
    return [
        Pass(encoder, weights=True),
        Pass(generator, inputs=True),
        Pass(code_judge, inputs=True),
        Pass(encoder),
        Pass(generator, 2, weights=True),
        Pass(judge, 2, inputs=True),
        Pass(generator, 2),
        Pass(judge, 3, weights=True),
        Pass(code_judge, 2, weights=True),
    ]


class Passes:
    """What the passes of a model take, in seconds and in operations.

    Args:
        model: Compiled, of those that `needed` knows.
        batch_size: Rows of a batch.
        jit_compile: Whether they are compiled with XLA.
    """

    def __init__(self, model, batch_size: int, jit_compile: bool):
        self.model, self.jit_compile = model, jit_compile
        self.passes, self.movers = needed(model)
        self._prepare(batch_size)

    def _prepare(self, batch_size):
        # One that goes back only is measured with its way forth, which is taken off.
        counted = [(1, p._replace(again=False)) for p in self.passes]
        counted += [(-1, Pass(p.network, p.rows)) for p in self.passes if p.again]
        self._parts = [(sign, *self._function(p, batch_size)) for sign, p in counted]
        self._updates = [self._update(player) for player in self.movers]

    def _function(self, p, batch_size):
        shapes = [(p.rows * batch_size, *i.shape[1:]) for i in p.network.inputs]
        context = [tf.random.stateless_uniform(shape, [1, 2]) for shape in shapes]
        context = context if len(context) > 1 else context[0]

        def run(i):
            # Another context each time: what does not change would be computed once.
            x = tf.nest.map_structure(lambda c: c + 1e-6 * tf.cast(i, c.dtype), context)
            watched = [*p.network.trainable_variables] * p.weights
            with tf.GradientTape() as tape:
                tape.watch(x)
                out = tf.nest.flatten(p.network(x, training=True))
                # Each output pulls another way.
                total = tf.add_n([tf.reduce_sum(tf.cast(o, tf.float32) ** 2) for o in out])
            watched += tf.nest.flatten(x) * p.inputs
            grads = tape.gradient(total, watched) if watched else []
            return tf.add_n([total, *(tf.reduce_sum(tf.abs(g)) for g in grads if g is not None)])

        return run, self._loop(run)

    def _update(self, player):
        variables = self.model.variables_of(player)
        grads = [tf.fill(v.shape, tf.constant(1e-8, v.dtype)) for v in variables]

        def run(i):
            self.model.optimizers[player].apply(grads, variables)
            return 0.0

        return self._loop(run)

    def _loop(self, run):
        step = tf.function(run, jit_compile=self.jit_compile)

        @tf.function
        def loop(n):
            total = 0.0
            for i in tf.range(n):
                total += step(i)
            return total

        return loop

    def seconds(self, steps: int) -> float:
        """Of one step's passes and updates, each timed by itself, `steps` times."""
        n = tf.constant(steps)
        total = sum(sign * elapsed(functools.partial(loop, n)) for sign, _, loop in self._parts)
        return (total + sum(elapsed(functools.partial(loop, n)) for loop in self._updates)) / steps

    def flops(self) -> int:
        """Operations of one step's passes."""
        return sum(sign * count_flops(run, tf.constant(0)) for sign, run, _ in self._parts)
