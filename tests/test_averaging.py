"""Averaged weights come with batch statistics, and other state of layers, that belong to them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from line_models import Lines, compiled, images, weights
from speed import slow

import zoo
from zoo.model import GenerativeModel, Round

SIZE = (1, 3, 1)


@keras.saving.register_keras_serializable("averaged_state")
class Normalized(GenerativeModel):
    """The body's round calls the body twice; the critic's round calls it on other inputs."""

    image_shape = SIZE

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.body = keras.Sequential(
            [
                keras.Input(SIZE),
                keras.layers.Flatten(),
                keras.layers.Dense(2, use_bias=False),
                keras.layers.BatchNormalization(momentum=0.5),
            ]
        )
        linear = keras.layers.Dense(2, use_bias=False)
        self.critic = keras.Sequential(
            [keras.Input((2,)), zoo.networks.SpectralNormalization(linear)]
        )

    def players(self):
        return {"body": [self.body], "critic": [self.critic]}

    def play_body(self, x, y, seed, training):
        once, twice = self.body(x, training=training), self.body(3 * x, training=training)
        return {"body": tf.reduce_sum(once * self.critic(twice), 1)}, {}

    def play_critic(self, x, y, seed, training):
        codes = self.body(100 * x, training=training)
        return {"critic": tf.reduce_sum(self.critic(codes, training=training), 1)}, {}

    def rounds(self):
        return [Round(self.play_body), Round(self.play_critic)]

    def call(self, x, training=False):
        return self.body(x)

    @property
    def statistics(self):
        layer = self.body.layers[-1]
        return np.stack([layer.moving_mean.numpy(), layer.moving_variance.numpy()])

    @property
    def kernel(self):
        return self.body.layers[1].kernel.numpy()


BATCHES = np.random.default_rng(0).uniform(size=(10, *SIZE)).astype(np.float32)
DATA = tf.data.Dataset.from_tensor_slices(BATCHES).batch(4)


def trained(**kwargs):
    model = Normalized()
    optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.7)
    model.compile(optimizer, **{"run_eagerly": True} | kwargs)
    model.fit(DATA, epochs=3, verbose=0)
    return model


@pytest.mark.parametrize("how", [slow({"run_eagerly": True}), {"run_eagerly": False}])
def test_stored_statistics_are_those_of_the_averaged_weights_over_all_batches(how):
    model = trained(**how)
    before, kernel = model.statistics, model.kernel
    with model.averaged_weights(DATA):
        average, have = model.kernel, model.statistics
    assert np.abs(average - kernel).max() > 1e-2
    total = np.zeros((2, 2))
    for x in (BATCHES[:4], BATCHES[4:8], BATCHES[8:]):
        h = x.reshape(len(x), 3) @ average
        # The calls on x and on 3 x count; the call in the critic's round does not.
        total += len(x) * np.mean([[h.mean(0), h.var(0)], [3 * h.mean(0), 9 * h.var(0)]], 0)
    np.testing.assert_allclose(have, total / 10, rtol=1e-5)
    assert np.abs(have - before).max() > 1e-2
    np.testing.assert_array_equal(model.statistics, before)
    np.testing.assert_array_equal(model.kernel, kernel)


@pytest.mark.slow
def test_spectral_normalization_has_the_vectors_of_the_averaged_kernel():
    model = trained()
    layer = model.critic.layers[-1]
    before = layer.u.numpy()
    with model.averaged_weights(DATA.repeat(8)):
        norm = np.linalg.norm(layer.layer.kernel.numpy(), 2)
        assert float(layer.sigma()) == pytest.approx(norm, rel=1e-3)
    np.testing.assert_array_equal(layer.u.numpy(), before)


def test_statistics_are_restored_after_an_error():
    model = trained()
    before = model.statistics
    with pytest.raises(ZeroDivisionError), model.averaged_weights(DATA):
        raise ZeroDivisionError
    np.testing.assert_array_equal(model.statistics, before)


def test_the_same_data_give_the_same_statistics_and_leave_training_unchanged(digits):
    def gan():
        keras.utils.set_random_seed(0)
        model = zoo.models.gan(
            (8, 8, 1), latent_dim=2, generator_hidden=(4,), discriminator_hidden=(4,)
        )
        model.compile(keras.optimizers.Adam(0.01, use_ema=True), run_eagerly=True)
        return model

    data = tf.data.Dataset.from_tensor_slices(digits[:100]).batch(50)
    one, two = gan(), gan()
    for model in (one, two):
        model.fit(data, verbose=0)
    for _ in range(2):
        one.fit_averaged_state(data)
    two.fit_averaged_state(data)
    with one.averaged_weights(), two.averaged_weights():
        for a, b in zip(one.weights, two.weights, strict=True):
            np.testing.assert_array_equal(a, b)
    two = gan()
    two.fit(data, verbose=0)
    for model in (one, two):
        model.fit(data, verbose=0)
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_of_an_earlier_step_is_refused():
    model = trained()
    with pytest.raises(ValueError, match=r"averaged_weights\(data\).*step 9, without such state"):
        model.averaged_weights().__enter__()
    with model.best_weights(DATA):
        want = model.statistics
    with model.averaged_weights():
        np.testing.assert_array_equal(model.statistics, want)
    model.train_on_batch(BATCHES[:4])
    with pytest.raises(ValueError, match="step 10, with such state of step 9"):
        model.best_weights().__enter__()


def test_files_keep_the_state_of_the_averaged_weights(tmp_path):
    model = trained()
    model.fit_averaged_state(DATA)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not np.array_equal(loaded.statistics, Normalized().statistics)
    with model.averaged_weights(), loaded.averaged_weights():
        np.testing.assert_array_equal(loaded.statistics, model.statistics)
        np.testing.assert_array_equal(loaded.kernel, model.kernel)
    np.testing.assert_array_equal(loaded.statistics, model.statistics)


def test_before_the_first_step_no_state_is_needed():
    model = Normalized()
    model.compile(keras.optimizers.SGD(use_ema=True))
    before = model.statistics
    with model.averaged_weights():
        np.testing.assert_array_equal(model.statistics, before)


def test_data_without_batches_or_without_end_is_refused():
    model = trained()
    for data, words in (
        (BATCHES, r"tf\.data\.Dataset.*Received: a ndarray"),
        (DATA.repeat(), r"data\.take\(number\)"),
        (DATA.take(0), "no batch"),
        (DATA.map(lambda x: x[:, :, :2]), "float images"),
    ):
        with pytest.raises(ValueError, match=words):
            model.fit_averaged_state(data)
    model.compile("sgd")
    with pytest.raises(ValueError, match="use_ema=True"):
        model.fit_averaged_state(DATA)


@pytest.mark.slow
def test_replicas_get_the_same_state(mirrored):
    with mirrored.scope():
        model = Normalized()
        model.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.7))
    model.fit(DATA.take(2), verbose=0)
    with model.averaged_weights(DATA):
        values = model.body.layers[-1].moving_mean.value.values
        np.testing.assert_array_equal(*(value.numpy() for value in values))
        h = BATCHES.reshape(10, 3) @ model.kernel
        np.testing.assert_allclose(values[0].numpy(), 2 * h.mean(0), rtol=1e-5)


# The weights ----------------------------------------------------------------------------------


def test_averaged_weights_are_the_moving_average_and_are_restored():
    batches = [images(4) for _ in range(4)]
    model = compiled(Lines(), keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8))
    w, average = weights(model).astype(np.float64), None
    for x in batches:
        w = w - 0.5 * x[:, 0, :, 0].mean(0)
        average = w if average is None else 0.8 * average + 0.2 * w
    model.fit(tf.data.Dataset.from_tensor_slices(np.stack(batches)), verbose=0)
    with model.averaged_weights() as same:
        assert same is model
        np.testing.assert_allclose(weights(model), average, rtol=1e-5)
    np.testing.assert_allclose(weights(model), w, rtol=1e-5)
    assert np.abs(w - average).max() > 0.05


def test_weights_are_restored_after_an_error_and_only_players_with_averages_change():
    model = Lines(2)
    sgd = keras.optimizers.SGD
    model.compile({"one": sgd(0.5, use_ema=True, ema_momentum=0.5), "two": sgd(0.5)})
    model.fit(images(8, 2), batch_size=4, verbose=0)
    before = [weights(model, i) for i in range(2)]
    with pytest.raises(ZeroDivisionError), model.averaged_weights():
        assert np.abs(weights(model, 0) - before[0]).max() > 1e-3
        np.testing.assert_array_equal(weights(model, 1), before[1])
        raise ZeroDivisionError
    for i in range(2):
        np.testing.assert_array_equal(weights(model, i), before[i])


def test_the_error_of_missing_averages_names_the_remedy():
    model = compiled(Lines())
    with pytest.raises(ValueError, match="use_ema=True"), model.averaged_weights():
        pass
    before = weights(model)
    with model.best_weights():
        np.testing.assert_array_equal(weights(model), before)


def test_the_best_weights_are_the_averages_if_an_optimizer_keeps_them():
    model = compiled(Lines(), keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5))
    model.fit(images(8), batch_size=4, verbose=0)
    last = weights(model)
    with model.averaged_weights():
        average = weights(model)
    with model.best_weights():
        np.testing.assert_array_equal(weights(model), average)
    assert np.abs(average - last).max() > 1e-3


def test_before_the_first_step_the_averages_are_the_weights():
    model = compiled(Lines(), keras.optimizers.SGD(0.5, use_ema=True))
    before = weights(model)
    with model.averaged_weights():
        np.testing.assert_allclose(weights(model), before)


def test_an_optimizer_inside_a_loss_scale_optimizer_keeps_averages():
    batches = np.stack([images(4) for _ in range(3)])
    averages = []
    start = weights(Lines())
    for wrap in (lambda optimizer: optimizer, keras.optimizers.LossScaleOptimizer):
        model = Lines()
        model.lines[0].layers[-1].kernel.assign(start[:, None])
        assert not compiled(model, wrap(keras.optimizers.SGD(0.5))).keeps_averages
        compiled(model, wrap(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8)))
        model.fit(tf.data.Dataset.from_tensor_slices(batches), verbose=0)
        with model.averaged_weights():
            averages.append(weights(model))
        assert np.abs(weights(model) - averages[-1]).max() > 1e-2
    np.testing.assert_allclose(*averages, rtol=1e-5)
