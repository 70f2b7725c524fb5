"""Training steps compared with the passes through networks that their algorithms need.

python -m benchmarks.speed.passes --presets=aae_mnist,vaegan_mnist,alpha_gan_mnist,dcvae_mnist \
    --output=DIR

The bare step (`benchmarks.speed.throughput`) is timed in turn with the passes and the updates, each
timed alone, for autoencoders with discriminators. A step that costs more than their sum repeats
work or computes unused values.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict

from benchmarks.speed.throughput import (
    Case,
    count_flops,
    define_flags,
    elapsed,
    in_turn,
    markdown,
    ratio,
    report,
    summary,
)
from trainers.cli import start
from zoo.model import GenerativeModel
from zoo.models.aae import AAE
from zoo.models.alpha_gan import AlphaGAN
from zoo.models.dcvae import DCVAE
from zoo.models.swapping_autoencoder import SwappingAutoencoder
from zoo.models.vaegan import VAEGAN

FLAGS = flags.FLAGS


class Pass(NamedTuple):
    """A forward pass of some rows through a network, and a backward pass if a gradient is taken.

    Attributes:
        network: The network.
        rows: Number of rows, in batches; rounded up to whole rows.
        weights: Whether the gradient with respect to the weights is taken.
        inputs: Whether the gradient with respect to the inputs is taken.
        penalty: Whether the gradients are those of a penalty of the gradient with respect to the
            inputs, such as R1.
        again: Whether the pass reuses the activations of another pass, so that only its backward
            pass counts.
        times: Number of times that the pass is made in a step.
    """

    network: keras.Model
    rows: float = 1
    weights: bool = False
    inputs: bool = False
    again: bool = False
    penalty: bool = False
    times: int = 1


def needed(model: GenerativeModel) -> tuple[list[Pass], list[str]]:
    """The passes of one step of a model's algorithm, and the players that it updates, in order.

    Raises:
        ValueError: If the passes of the model are not listed here.
    """
    known = {
        AAE: _aae,
        VAEGAN: _vaegan,
        AlphaGAN: _alpha_gan,
        SwappingAutoencoder: _swapping_autoencoder,
        DCVAE: _dcvae,
    }
    if type(model) not in known:
        raise ValueError(
            f"Passes are listed for {', '.join(cls.__name__ for cls in known)}. "
            f"Received: a {type(model).__name__}."
        )
    return known[type(model)](model)


def _aae(model):
    encoder, decoder = model.posterior.network, model.likelihood.network
    discriminator = model.discriminator
    return [
        Pass(encoder, weights=True),
        Pass(decoder, weights=True, inputs=True),
        # The encoder was updated. The two updates below use its new codes.
        Pass(encoder, weights=True),
        Pass(discriminator, 2, weights=True),
        Pass(discriminator, inputs=True),
    ], list(model.players())


def _vaegan(model):
    encoder, generator = model.posterior.network, model.generator
    discriminator = model.discriminator
    # Reconstructions and samples are decoded in one batch. The discriminator takes them in one batch
    # with the images, or in separate batches. If a batch is normalised, a gradient that reaches some
    # of its rows passes through all of them.
    decoded = 2 if _normalizes(generator) else 1
    joint = _normalizes(discriminator) and model.joint_batch
    generator_rows, encoder_rows = (3, 3) if joint else (2, 1)
    return [
        Pass(encoder, weights=True),
        Pass(generator, 2, weights=True),
        # The gradient of the encoder's loss, through the reconstructions.
        Pass(generator, decoded, inputs=True, again=True),
        # The losses of the discriminator, of the generator (of all decoded images) and of the encoder
        # (of the reconstructions).
        Pass(discriminator, 3, weights=True),
        Pass(discriminator, generator_rows, inputs=True, again=True),
        Pass(discriminator, encoder_rows, inputs=True, again=True),
    ], list(model.players())


def _normalizes(network):
    layers = network._flatten_layers()
    return any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)


def _alpha_gan(model):
    encoder, generator = model.posterior.network, model.generator
    discriminator, code_discriminator = model.discriminator, model.code_discriminator
    return [
        Pass(encoder, weights=True),
        Pass(generator, inputs=True),
        Pass(code_discriminator, inputs=True),
        Pass(encoder),
        Pass(generator, 2, weights=True),
        Pass(discriminator, 2, inputs=True),
        Pass(generator, 2),
        Pass(discriminator, 3, weights=True),
        Pass(code_discriminator, 2, weights=True),
    ], list(model.players())


def _dcvae(model):
    encoder, generator, trunk = model.posterior.network, model.generator, model.trunk
    decision, heads, copies = model.decision, model.heads, model.momentum_keys.copies
    # Each round takes a share of the batch. Players of a round have one loss and one backward pass.
    k = model.discriminator_steps
    share = 1 / k
    return [
        Pass(encoder, share, times=k),
        Pass(generator, 2 * share, times=k),
        Pass(trunk, 3 * share, weights=True, times=k),
        Pass(decision, 3 * share, weights=True, inputs=True, times=k),
        Pass(encoder, share, weights=True),
        Pass(generator, 2 * share, weights=True, inputs=True),
        Pass(trunk, 2 * share, inputs=True),
        Pass(decision, 2 * share, inputs=True),
        Pass(encoder, share, weights=True),
        Pass(generator, share, weights=True, inputs=True),
        Pass(trunk, share, weights=True, inputs=True),
        Pass(heads, share, weights=True, inputs=True),
        *(Pass(copy, share) for copy in copies),
    ], [
        *["trunk", "decision"] * k,
        *["encoder", "generator"],
        *["encoder", "generator", "trunk", "contrast"],
    ]


def _swapping_autoencoder(model):
    encoder, generator = model.encoder, model.generator
    discriminator = model.discriminator
    patches, head, n = model.patch_encoder, model.patch_head, model.crops
    lazy = 1 / model.r1_interval
    passes = [
        Pass(encoder, weights=True),
        # Reconstructions and hybrids
        Pass(generator, 2, weights=True, inputs=True),
        Pass(discriminator, 3, weights=True),
        # References, other crops of the images, and crops of the hybrids
        Pass(patches, 3 * n, weights=True),
        Pass(head, 2 * n, weights=True, inputs=True),
        # The discriminators were updated.
        Pass(discriminator, 2, inputs=True),
        Pass(patches, n),
        Pass(patches, n, inputs=True),
        Pass(head, n, inputs=True),
    ]
    if model.r1:
        passes.append(Pass(discriminator, lazy, weights=True, penalty=True))
    if model.patch_r1:
        passes.append(Pass(patches, 2 * n * lazy, weights=True, penalty=True))
    return passes, list(model.players())


class Passes:
    """The cost of a model's passes, in seconds and in operations.

    Args:
        model: A compiled model that `needed` knows.
        batch_size: Rows of a batch.
        jit_compile: Whether the passes are compiled with XLA.
    """

    def __init__(self, model: GenerativeModel, batch_size: int, jit_compile: bool) -> None:
        self.model, self.jit_compile = model, jit_compile
        self.passes, self.updated = needed(model)
        self._prepare(batch_size)

    def _prepare(self, batch_size):
        # A backward pass alone is a forward and backward pass minus a forward pass.
        counted = [(p.times, p._replace(again=False)) for p in self.passes]
        counted += [(-p.times, Pass(p.network, p.rows)) for p in self.passes if p.again]
        self._parts = [(times, *self._function(p, batch_size)) for times, p in counted]
        self._updates = [
            (self.updated.count(player), self._update(player))
            for player in dict.fromkeys(self.updated)
        ]

    def _function(self, p, batch_size):
        shapes = [
            (math.ceil(round(p.rows * batch_size, 6)), *i.shape[1:]) for i in p.network.inputs
        ]
        context = [tf.random.stateless_uniform(shape, [1, 2]) for shape in shapes]
        context = context if len(context) > 1 else context[0]

        def run(i):
            # The input changes in each step, because constants would be computed only once.
            x = tf.nest.map_structure(lambda c: c + 1e-6 * tf.cast(i, c.dtype), context)
            watched = [*p.network.trainable_variables] * p.weights
            with tf.GradientTape() as tape:
                tape.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    out = tf.nest.flatten(p.network(x, training=True))
                    # The squares give each output its own gradient.
                    total = tf.add_n([tf.reduce_sum(tf.cast(o, tf.float32) ** 2) for o in out])
                if p.penalty:
                    total = tf.reduce_sum(inner.gradient(total, x) ** 2)
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
        """Seconds of one step's passes and updates, each timed alone over `steps` steps."""
        n = tf.constant(steps)
        total = sum(times * elapsed(functools.partial(loop, n)) for times, _, loop in self._parts)
        total += sum(times * elapsed(functools.partial(loop, n)) for times, loop in self._updates)
        return total / steps

    def flops(self) -> int:
        """Floating-point operations of one step's passes."""
        return sum(times * count_flops(run, tf.constant(0)) for times, run, _ in self._parts)


def measure(config: ConfigDict, repeats: int, seconds: float) -> dict[str, Any]:
    """The row of a preset: time and operations of a bare step and of the passes that it needs."""
    case = Case(config)
    passes = Passes(case.model, config.batch_size, config.jit_compile)
    case.bare(1), passes.seconds(1)  # Compiles.
    steps = max(2, round(seconds / case.bare(3)))
    ways = {"bare": functools.partial(case.bare, steps)}
    timings = in_turn(ways | {"passes": functools.partial(passes.seconds, steps)}, repeats)
    step, least = case.flops(), passes.flops()
    return {
        "preset": config.preset,
        "jit_compile": config.jit_compile,
        "batch_size": config.batch_size,
        "steps": steps,
        "flops": {"bare": step, "passes": least},
        "seconds_per_step": {name: summary(values) for name, values in timings.items()},
        "ratios": {
            "seconds": ratio(timings["bare"], timings["passes"]),
            "flops": step / least,
        },
    }


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """A table of the rows of `measure`, in Markdown."""
    head = (
        "preset", "XLA", "batch", "bare ms", "passes ms", "bare / passes", "bare GFLOP",
        "passes GFLOP", "bare / passes in operations",
    )  # fmt: skip
    rows = [
        (
            r["preset"],
            "yes" if r["jit_compile"] else "no",
            str(r["batch_size"]),
            *(f"{1000 * r['seconds_per_step'][k]['median']:.2f}" for k in ("bare", "passes")),
            f"{r['ratios']['seconds']:.2f}",
            *(f"{r['flops'][k] / 1e9:.3f}" for k in ("bare", "passes")),
            f"{r['ratios']['flops']:.3f}",
        )
        for r in results
    ]
    return markdown(head, rows)


def main() -> None:
    names = FLAGS.presets or ["aae_mnist", "vaegan_mnist", "alpha_gan_mnist", "dcvae_mnist"]
    report("passes", names, lambda c: [measure(c, FLAGS.repeats, FLAGS.seconds)], table)


if __name__ == "__main__":
    define_flags("aae_mnist, vaegan_mnist, alpha_gan_mnist, dcvae_mnist")
    start(main)
