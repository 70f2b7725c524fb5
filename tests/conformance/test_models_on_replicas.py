"""Each model trains on two replicas, which stay equal."""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from harness import (
    SHAPE,
    assert_finite,
    batches,
    build,
    eagerly,
    evaluate_eagerly,
    slow_except,
    training_batches,
)

import zoo
from zoo import steps

# One player, several players on batch statistics and dropout, a gate, two streams.
AS_A_GRAPH = ("VAE", "GAN", "VAEGAN-label", "M2")


# Detects: a statistic that each replica keeps for itself, an update that replicas do not share, an
# evaluation that does not run on replicas. Two steps suffice: the second step starts from the state
# of each replica after the first. The step of some models runs as a graph, as in training.
@slow_except(["VAE", "VAEGAN-label", "M2"])
def test_two_replicas_train_and_stay_equal(name, images, mirrored):
    with mirrored.scope():
        model = build(name)
    data = training_batches(images, model, number=2)
    with contextlib.nullcontext() if name in AS_A_GRAPH else eagerly(model):
        history = model.fit(data, verbose=0).history
    assert_finite(history)
    assert_finite(evaluate_eagerly(model, batches(images, model, number=1)))
    for variable in model.weights:
        copies = mirrored.experimental_local_results(variable.value)
        assert len(copies) == 2
        np.testing.assert_array_equal(copies[0], copies[1])


# Detects: a seed without the replica's number.
def test_replicas_draw_different_noise(mirrored):
    class Noise(zoo.VAE):
        def objective(self, x, y, seed, training):
            losses, terms = super().objective(x, y, seed, training)
            return losses, terms | {"rate": tf.random.stateless_normal(tf.shape(x)[:1], seed)}

    with mirrored.scope():
        vae = build("VAE")
        model = Noise(vae.posterior, vae.likelihood, vae.prior)
        model.compile("sgd")
    x = tf.data.Dataset.from_tensors(tf.zeros([2, *SHAPE]))
    one = next(iter(mirrored.experimental_distribute_dataset(x)))
    drawn = mirrored.run(
        lambda t: model.objective(t, None, steps.seed_at(model, 5), True)[1]["rate"], [one]
    )
    first, second = mirrored.experimental_local_results(drawn)
    assert (first.numpy() != second.numpy()).all()


# Detects: Keras's seed generators that do not follow the model's seed.
def test_dropout_follows_the_seed_and_differs_between_replicas(mirrored):
    with mirrored.scope():
        model = build("GAN", "dropout=0.5", "discriminator_steps=1")
        dropout = keras.Sequential([keras.Input(SHAPE), keras.layers.Dropout(0.5)])
        model.discriminator = dropout

    def draw(seed):
        with keras.StatelessScope(steps.generator_states(model, steps.seed_at(model, seed))):
            return dropout(tf.ones([1, *SHAPE]), training=True)

    draws = [mirrored.experimental_local_results(mirrored.run(draw, [s])) for s in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0][0], draws[1][0])
    assert (draws[0][0].numpy() != draws[0][1].numpy()).any()
    assert (draws[0][0].numpy() != draws[2][0].numpy()).any()
