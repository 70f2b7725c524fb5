"""The forward passes of a step: the seed and the share of the batch of each."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from line_models import Lines, compiled, images

import zoo


class NoiseRecorder(Lines):
    """Two rounds, the first of two steps. Keeps the noise that each objective draws."""

    def __init__(self, **kwargs):
        super().__init__(1, **kwargs)
        self.noise = []

    def rounds(self):
        return [zoo.Round(self.objective, steps=2), zoo.Round(self.objective)]

    def objective(self, x, y, seed, training, only=None):
        noise = tf.random.stateless_normal([len(x)], seed)
        self.noise.append(noise.numpy())
        return super().objective(x, y, seed, training, only)


def noise_of(run, **settings):
    model = NoiseRecorder()
    for name, value in settings.items():
        setattr(model, name, value)
    compiled(model, run_eagerly=True)
    run(model)
    return np.array([noise[0] for noise in model.noise])


def test_noise_differs_between_steps_and_rounds_and_is_a_function_of_the_seed():
    x = images(8)

    def train(model):
        model.fit(x, batch_size=4, epochs=2, verbose=0)

    noise = noise_of(train)
    assert len(np.unique(noise)) == len(noise) == 4 * 3
    np.testing.assert_array_equal(noise, noise_of(train))
    assert not np.isin(noise, noise_of(train, seed=1)).any()

    def resume(model):
        model.step.assign(3)
        model.fit(x[:4], batch_size=4, verbose=0)

    np.testing.assert_array_equal(noise_of(resume), noise[9:])


def test_evaluation_repeats_its_noise_which_differs_between_batches_and_from_training():
    x = images(12)

    def evaluate(model):
        model.evaluate(x, batch_size=4, verbose=0)

    noise = noise_of(evaluate)
    assert len(np.unique(noise)) == len(noise) == 3 * 2
    np.testing.assert_array_equal(noise, noise_of(evaluate))
    trained = noise_of(lambda model: model.fit(x, batch_size=4, verbose=0))
    assert not np.isin(noise, trained).any()


class DropoutRecorder(Lines):
    """Two players with two dropout layers each. Keeps the masks of all four."""

    def __init__(self):
        super().__init__(2)
        self.dropouts = [keras.layers.Dropout(0.5) for _ in range(4)]
        self.masks = []

    def players(self):
        return {
            name: [*own, *self.dropouts[2 * i : 2 * i + 2]]
            for i, (name, own) in enumerate(super().players().items())
        }

    def objective(self, x, y, seed, training, only=None):
        self.masks += [layer(tf.ones([64]), training=training).numpy() for layer in self.dropouts]
        return {
            p: line(x[..., i])[:, 0] for i, (p, [line, *_]) in enumerate(self.players().items())
        }, {"inverse": 1 / x[:, 0, 0, 0]}


def test_every_dropout_layer_has_a_separate_seed_in_each_step():
    def masks():
        model = compiled(DropoutRecorder(), run_eagerly=True)
        model.fit(images(8, 2), batch_size=4, verbose=0)
        return np.array(model.masks) > 0

    first, again = masks(), masks()
    assert len(first) == 2 * 4  # Steps and layers.
    assert len(np.unique(first, axis=0)) == len(first)
    np.testing.assert_array_equal(first, again)


class RecordingGAN(zoo.GAN):
    """Keeps the images of each update of the discriminator."""

    def discriminator_objective(self, x, y, seed, training):
        if training:
            self.images.append(x.numpy()[:, 0, 0, 0])
        return super().discriminator_objective(x, y, seed, training)


def recording_gan(steps):
    model = RecordingGAN(
        zoo.networks.mlp_decoder(2, (2, 2, 1), 1, (4,), output="sigmoid"),
        zoo.networks.mlp_discriminator((2, 2, 1), (4,)),
        zoo.StandardNormal(2),
        discriminator_steps=steps,
    )
    model.images = []
    model.compile("adam", run_eagerly=True)
    return model


@pytest.mark.parametrize(("steps", "n"), [(1, 6), (2, 6), (3, 6), (3, 7)])
def test_each_example_of_a_batch_trains_the_discriminator_exactly_once(steps, n):
    x = np.tile(np.linspace(0, 1, n, dtype=np.float32)[:, None, None, None], (1, 2, 2, 1))
    model = recording_gan(steps)
    model.fit(x, batch_size=n, shuffle=False, verbose=0)
    assert len(model.images) == steps
    np.testing.assert_allclose(np.sort(np.concatenate(model.images)), x[:, 0, 0, 0])
    assert max(map(len, model.images)) - min(map(len, model.images)) <= 1
    assert int(model.optimizers["discriminator"].iterations) == steps
    assert int(model.optimizers["generator"].iterations) == 1


def test_a_last_batch_smaller_than_the_number_of_steps_trains():
    model = zoo.GAN(
        zoo.networks.dcgan_generator(2, (16, 16, 1), 2),
        zoo.networks.dcgan_discriminator((16, 16, 1), 2),
        zoo.Uniform(2),
        discriminator_steps=2,
    )
    model.compile("adam")
    model.fit(np.full((1, 16, 16, 1), 0.5, np.float32), verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())
