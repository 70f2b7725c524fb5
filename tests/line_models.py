"""Linear models whose training steps are computed by hand."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

import zoo

RNG = np.random.default_rng(0)


class Lines(zoo.GenerativeModel):
    """Player i's loss is w_i . x_i for channel i of images of 1 x 3 pixels: its gradient is mean(x_i).

    The term "inverse" is 1 / x of the first pixel. With `y`, the losses are multiplied by `y`.
    """

    terms = ("inverse",)

    def __init__(self, players=1, together=True, **line):
        super().__init__()
        self.together = together
        self.lines = [
            keras.Sequential([
                keras.Input((1, 3)),
                keras.layers.Flatten(),
                keras.layers.Dense(1, use_bias=False, **line),
            ])
            for _ in range(players)
        ]  # fmt: skip

    @property
    def image_shape(self):
        return 1, 3, len(self.lines)

    def players(self):
        names = ["one", "two", "three"]
        return {name: [line] for name, line in zip(names, self.lines, strict=False)}

    def rounds(self):
        if self.together:
            return [zoo.Round(self.objective)]
        return [
            zoo.Round(lambda *a, p=p, **k: self.objective(*a, only=p, **k)) for p in self.players()
        ]

    def objective(self, x, y, seed, training, only=None):
        factor = 1.0 if y is None else tf.cast(y, tf.float32)
        losses = {
            player: factor * line(x[..., i], training=training)[:, 0]
            for i, (player, [line]) in enumerate(self.players().items())
            if only in (None, player)
        }
        return losses, {"inverse": 1 / x[:, 0, 0, 0]}

    def decode(self, z, y=None):
        return z


def images(n, players=1):
    return RNG.uniform(0.1, 1, size=(n, 1, 3, players)).astype(np.float32)


def weights(model, i=0):
    return model.lines[i].layers[-1].kernel.numpy()[:, 0]


def compiled(model, optimizer=None, **kwargs):
    model.compile(optimizer or keras.optimizers.SGD(1.0), **kwargs)
    return model


def after_a_step(x, strategy=None, optimizer=None, **line):
    """How the weights of `Lines` change in a step of SGD from ones."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = compiled(Lines(kernel_initializer="ones", **line), optimizer)
    model.fit(tf.data.Dataset.from_tensors(x), verbose=0)
    return weights(model) - 1
