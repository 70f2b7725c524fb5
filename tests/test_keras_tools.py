"""Keras's optimizers, callbacks and methods work on models of one player, and of two or say why."""

import csv
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow

import zoo
from zoo.model import GenerativeModel, Round

SIZE = (1, 3, 1)


@keras.saving.register_keras_serializable("keras_tools")
class Lines(GenerativeModel):
    """Each player's network is a linear map of the pixels, and its loss is the map's value.

    The gradients are the means of the pixels, so that the weights after SGD are known.
    """

    def __init__(self, num_players=1, **kwargs):
        super().__init__(**kwargs)
        self.num_players = num_players
        self.lines = []
        for _ in range(num_players):
            layers = [keras.layers.Flatten(), keras.layers.Dense(1, use_bias=False)]
            self.lines.append(keras.Sequential([keras.Input(SIZE), *layers]))

    image_shape = SIZE

    def players(self):
        return {"ab"[i]: [line] for i, line in enumerate(self.lines)}

    def objective(self, x, y, seed, training):
        return {"ab"[i]: line(x)[:, 0] for i, line in enumerate(self.lines)}, {}

    def rounds(self):
        return [Round(self.objective)]

    def call(self, x, training=False):
        return self.lines[0](x)


def lines(optimizer="sgd", num_players=1, start=1.0):
    model = Lines(num_players)
    for variable in model.trainable_variables:
        variable.assign(tf.fill(variable.shape, start))
    model.compile(optimizer, run_eagerly=True)
    return model


def fit(model, *callbacks, epochs=1, **kwargs):
    """One step with a gradient of 1 in each epoch."""
    x = np.ones((4, *SIZE), np.float32)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    return model.fit(x, callbacks=list(callbacks), epochs=epochs, **options | kwargs)


def weight(model, player=0):
    values = model.lines[player].trainable_variables[0].numpy()
    assert np.ptp(values) < 1e-6
    return float(values.ravel()[0])


def sgd(rate=0.1, **kwargs):
    return keras.optimizers.SGD(rate, **kwargs)


# Optimizers -----------------------------------------------------------------------------------


def test_the_optimizer_of_one_player_is_the_callers_own():
    optimizer = sgd(0.1)
    assert lines({"a": optimizer}).optimizer is optimizer
    optimizer = sgd(0.1)
    model = lines(optimizer)
    assert model.optimizer is model.optimizers["a"] is optimizer
    fit(model)
    assert weight(model) == pytest.approx(0.9)
    optimizer.learning_rate = 0.5
    fit(model)
    assert weight(model) == pytest.approx(0.4)
    assert int(optimizer.iterations) == 2


def test_one_optimizer_is_copied_for_each_of_several_players():
    optimizer = sgd(0.1)
    model = lines(optimizer, 2)
    fit(model)
    assert int(optimizer.iterations) == 0
    assert [int(model.optimizers[p].iterations) for p in "ab"] == [1, 1]


def test_the_optimizer_of_several_players_is_an_error_that_names_the_way():
    model = lines(num_players=2)
    with pytest.raises(AttributeError, match=r"model\.optimizers\['a'\].*`model\.optimizer\.lear"):
        _ = model.optimizer.learning_rate
    assert not model.optimizer
    assert not hasattr(model.optimizer, "iterations")


def test_the_same_optimizer_may_be_compiled_again_for_the_same_model():
    optimizer = sgd(0.1, momentum=0.5)
    model = lines(optimizer)
    fit(model)
    model.compile(optimizer, run_eagerly=True)
    fit(model)
    # 1 - 0.1 - (0.05 + 0.1): the momentum is kept.
    assert weight(model) == pytest.approx(0.75)


def test_an_optimizer_of_another_model_is_refused():
    optimizer = sgd()
    lines(optimizer)
    for given in (optimizer, {"a": optimizer}):
        with pytest.raises(ValueError, match=r"for which it was first compiled.*an SGD for play"):
            lines(given)
    wrapped = keras.optimizers.LossScaleOptimizer(sgd())
    lines(wrapped)
    with pytest.raises(ValueError, match="for which it was first compiled"):
        lines(wrapped)
    lines(sgd(), 2).compile(optimizer)  # Several players have copies.


def test_an_optimizer_from_outside_the_scope_of_a_strategy_is_refused(mirrored):
    optimizer = sgd()
    with mirrored.scope():
        model = Lines()
        with pytest.raises(ValueError, match="within the scope of the strategy"):
            model.compile(optimizer)
        model.compile(sgd())


def test_fit_keeps_the_current_weights_of_an_optimizer_with_averages():
    optimizer = sgd(0.1, use_ema=True, ema_momentum=0.5)
    model = lines(optimizer)
    fit(model, epochs=2)
    assert weight(model) == pytest.approx(0.8)
    with model.averaged_weights():
        assert weight(model) == pytest.approx(0.85)
    optimizer.finalize_variable_values(model.trainable_variables)  # Keras's own method is back.
    assert weight(model) == pytest.approx(0.85)


# Callbacks ------------------------------------------------------------------------------------


class Rates(keras.callbacks.Callback):
    """Records the learning rate of each epoch."""

    def on_train_begin(self, logs=None):
        self.rates = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        keras.callbacks.ReduceLROnPlateau("loss"),
        keras.callbacks.SwapEMAWeights(),
    ],
)
def test_callbacks_of_a_single_optimizer_are_refused_before_the_first_step(callback):
    model = lines(sgd(use_ema=True), 2)
    with pytest.raises(ValueError, match=rf"\.optimizers\['a'\].*a {type(callback).__name__}\."):
        fit(model, callback)
    assert int(model.step) == 0


def test_learning_rate_scheduler_sets_the_rate_of_each_epoch():
    model, rates = lines(sgd(0.4)), Rates()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.4 / 2**epoch)
    fit(model, schedule, rates, epochs=3)
    np.testing.assert_allclose(rates.rates, [0.4, 0.2, 0.1], rtol=1e-6)
    assert weight(model) == pytest.approx(1 - 0.7)


def test_reduce_lr_on_plateau_divides_the_rate_when_the_loss_stops_falling():
    # The loss falls with each step and never improves by `min_delta`.
    model, rates = lines(sgd(0.1)), Rates()
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100.0)
    fit(model, plateau, rates, epochs=3)
    np.testing.assert_allclose(rates.rates, [0.1, 0.1, 0.05], rtol=1e-6)


def test_swap_ema_weights_evaluates_and_leaves_the_averages():
    model = lines(sgd(0.1, use_ema=True, ema_momentum=0.5))
    held_out = np.ones((4, *SIZE), np.float32)
    history = fit(
        model, keras.callbacks.SwapEMAWeights(), epochs=2, validation_data=(held_out,)
    ).history
    # Weights 0.9 and 0.8; averages 0.9 and 0.85; the loss is three times the weight.
    np.testing.assert_allclose(history["val_loss"], [2.7, 2.55], rtol=1e-6)
    assert weight(model) == pytest.approx(0.8)


def test_swap_ema_weights_is_refused_with_batch_statistics(digits):
    model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,))
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(4),
        ]
    )
    posterior = zoo.Conditional(encoder, zoo.DiagonalNormal())
    model = zoo.VAE(posterior, model.likelihood, model.prior)
    model.compile(keras.optimizers.SGD(use_ema=True))
    with pytest.raises(ValueError, match="does not change batch statistics"):
        model.fit(digits, callbacks=[keras.callbacks.SwapEMAWeights()])
    assert int(model.step) == 0


class Results(keras.callbacks.Callback):
    """Replaces a result of each epoch by a known one."""

    def __init__(self, values, name="val_loss"):
        super().__init__()
        self.values, self.name = values, name

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


@pytest.mark.parametrize("players", [1, 2])
def test_early_stopping_restores_the_weights_of_the_best_epoch(players):
    model = lines(sgd(0.1), players)
    stop = keras.callbacks.EarlyStopping(
        "val_loss", mode="min", patience=2, restore_best_weights=True
    )
    history = fit(model, Results([3.0, 1.0, 2.0, 2.0, 0.0]), stop, epochs=5)
    assert len(history.epoch) == 4
    for player in range(players):
        assert weight(model, player) == pytest.approx(0.8)


@pytest.mark.parametrize("players", [slow(1), 2])
def test_model_checkpoint_saves_weights_whole_models_and_the_best(players, tmp_path):
    model = lines(sgd(0.1, momentum=0.5), players)
    save = keras.callbacks.ModelCheckpoint
    best = {"monitor": "val_loss", "mode": "min", "save_best_only": True}
    fit(
        model,
        Results([3.0, 1.0, 2.0]),
        save(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
        save(tmp_path / "{epoch}.keras"),
        save(tmp_path / "best.keras", **best),
        epochs=3,
    )
    # The steps are 0.1, 0.15 and 0.175.
    known = {1: 0.9, 2: 0.75, 3: 0.575}
    other = lines(sgd(0.1, momentum=0.5), players)
    for epoch, value in known.items():
        other.load_weights(tmp_path / f"{epoch}.weights.h5")
        assert weight(other, players - 1) == pytest.approx(value)
    loaded = keras.saving.load_model(tmp_path / "2.keras")
    best = keras.saving.load_model(tmp_path / "best.keras")
    for model in (loaded, best):
        assert weight(model, players - 1) == pytest.approx(known[2])
        fit(model)  # The momentum is in the file.
        assert weight(model, players - 1) == pytest.approx(known[3])


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("players", [slow(1), 2])
def test_a_training_with_backup_and_restore_equals_an_uninterrupted_one(players, digits, tmp_path):
    def build():
        keras.utils.set_random_seed(0)
        build = {1: zoo.models.vae, 2: zoo.models.gan}[players]
        width = {1: {"hidden": (4,)}, 2: {"generator_hidden": (4,), "discriminator_hidden": (4,)}}
        model = build((8, 8, 1), latent_dim=2, **width[players])
        model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
        return model

    options = {"batch_size": 50, "epochs": 4, "shuffle": False, "verbose": 0}
    whole, backup = build(), keras.callbacks.BackupAndRestore(tmp_path)
    whole.fit(digits[:100], **options)
    with pytest.raises(KeyboardInterrupt):
        build().fit(digits[:100], callbacks=[backup, Interrupt()], **options)
    resumed = build()
    again = keras.callbacks.BackupAndRestore(tmp_path)
    history = resumed.fit(digits[:100], callbacks=[again], **options)
    assert history.epoch == [2, 3]
    for have, want in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(have, want)
    for player, optimizer in whole.optimizers.items():
        have = resumed.optimizers[player].variables
        for mine, want in zip(have, optimizer.variables, strict=True):
            np.testing.assert_array_equal(mine, want)


def scalars(folder):
    """The scalars in the event files of a folder: `{tag: [values]}`."""
    found = {}
    for path in sorted(Path(folder).rglob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars" or value.tag not in found:
                    number = tf.make_ndarray(value.tensor)
                    found.setdefault(value.tag, []).append(number)
    return found


@pytest.mark.parametrize("players", [1, 2])
def test_tensorboard_and_csv_logger_write_the_results_of_each_epoch(players, tmp_path):
    model = lines(sgd(0.1), players)
    path = tmp_path / "log.csv"
    held_out = np.ones((4, *SIZE), np.float32)
    fit(
        model,
        keras.callbacks.TensorBoard(tmp_path, write_graph=False),
        keras.callbacks.CSVLogger(path),
        epochs=2,
        validation_data=(held_out,),
    )
    with open(path) as file:
        rows = list(csv.DictReader(file))
    written = scalars(tmp_path)
    # The sum of three weights, before the step of the epoch and after it.
    for prefix in [""] if players == 1 else ["a_", "b_"]:
        name = f"{prefix}loss"
        np.testing.assert_allclose([float(row[name]) for row in rows], [3.0, 2.7], rtol=1e-6)
        np.testing.assert_allclose([float(row[f"val_{name}"]) for row in rows], [2.7, 2.4])
        np.testing.assert_allclose(sorted(written[f"epoch_{name}"]), [2.4, 2.7, 2.7, 3.0])
    if players == 1:
        np.testing.assert_allclose(written["epoch_learning_rate"], [0.1, 0.1])


# Methods of `keras.Model` ---------------------------------------------------------------------


def test_summary_lists_the_networks_with_their_counts():
    model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(8,))
    model.compile("adam")
    for nested in (False, True):
        printed: list[str] = []
        model.summary(print_fn=printed.append, expand_nested=nested)
        text = "\n".join(printed)
        assert f'Model: "{model.name}"' in text and "Total params: 1,156" in text
        # 65 * 8 + 9 * 4, and 3 * 8 + 9 * 64.
        assert "(None, 4)" in text and "556" in text
        assert "(None, 8, 8, 1)" in text and "600" in text
        assert ("520" in text) == ("(Dense)" in text) == nested
    gan = zoo.models.gan((8, 8, 1), latent_dim=2)
    printed = []
    gan.summary(print_fn=printed.append)
    assert "mlp_discriminator" in printed[0] and "mlp_decoder" in printed[0]


def test_an_h5_file_of_a_whole_model_is_refused(tmp_path):
    model = lines()
    with pytest.raises(ValueError, match=r"ends in \.keras.*Received: '.*m\.h5'"):
        model.save(tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_keras_export_names_the_export_of_the_zoo(tmp_path):
    with pytest.raises(NotImplementedError, match=r"use `zoo\.export\.export\(model, path\)`"):
        lines().export(tmp_path / "served")


@keras.saving.register_keras_serializable("tests")
class Penalty(keras.layers.Layer):
    def call(self, x):
        self.add_loss(tf.reduce_mean(x**2))
        return x


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}, {}])
def test_the_error_of_a_loss_added_by_a_layer_names_the_layer(how):
    model = Lines(2)
    model.lines[1] = keras.Sequential([model.lines[1], Penalty(name="penalty")])
    model.compile("sgd", **how)
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"in the model's objective.*layer 'penalty', which adds a loss"
    ):
        fit(model)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
