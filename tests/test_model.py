"""The base class, on models whose training steps are computed by hand."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.model import path_between

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


# Steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}, {}])
def test_a_step_descends_the_gradient_of_the_mean_over_examples(how):
    x, model = images(5), compiled(Lines(), **how)
    before = weights(model)
    logs = model.fit(x, batch_size=5, verbose=0).history
    np.testing.assert_allclose(weights(model), before - x[:, 0, :, 0].mean(0), rtol=1e-5)
    assert logs["loss"][0] == pytest.approx((x[:, 0, :, 0] @ before).mean(), rel=1e-4, abs=1e-5)
    assert logs["inverse"][0] == pytest.approx((1 / x[:, 0, 0, 0]).mean(), rel=1e-5)
    assert int(model.step) == 1


@pytest.mark.parametrize("together", [True, False])
def test_each_player_descends_its_loss_with_its_optimizer(together):
    x, model = images(4, 2), Lines(2, together)
    model.compile({"one": keras.optimizers.SGD(1.0), "two": keras.optimizers.SGD(0.1)})
    before = [weights(model, i) for i in range(2)]
    model.fit(x, batch_size=4, verbose=0)
    for i, rate in enumerate([1.0, 0.1]):
        expected = before[i] - rate * x[:, 0, :, i].mean(0)
        np.testing.assert_allclose(weights(model, i), expected, rtol=1e-5)


def test_evaluate_averages_over_examples_with_batches_of_unequal_size():
    x, model = images(10, 2), compiled(Lines(2))
    logs = model.evaluate(x, batch_size=4, verbose=0, return_dict=True)
    assert set(logs) == set(model.result_names()) == {"one_loss", "two_loss", "inverse"}
    for i, name in enumerate(["one_loss", "two_loss"]):
        expected = (x[:, 0, :, i] @ weights(model, i)).mean()
        assert logs[name] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("shape", [(), (5, 1)])
def test_the_error_of_a_loss_without_one_number_per_example_names_the_player(shape):
    class Wrong(Lines):
        def objective(self, x, y, seed, training, only=None):
            losses, terms = super().objective(x, y, seed, training, only)
            return {
                "one": tf.reshape(losses["one"], shape) if shape else 0.0 * tf.reduce_sum(x)
            }, terms

    with pytest.raises(ValueError, match=r"'one' must be one number per example.*Received"):
        compiled(Wrong()).fit(images(5), batch_size=5, verbose=0)


def test_the_objective_receives_images_and_conditions_from_arrays_and_datasets():
    x, y = images(6), np.array([0, 0, 0, 3, 0, 0], np.int32)
    for data in ((x, y), (tf.data.Dataset.from_tensor_slices((x, y)).batch(6),)):
        model = compiled(Lines())
        before = weights(model)
        model.fit(*data, batch_size=6 if len(data) == 2 else None, shuffle=False, verbose=0)
        np.testing.assert_allclose(weights(model), before - 3 * x[3, 0, :, 0] / 6, rtol=1e-5)


def test_a_kernel_regularizer_adds_exactly_its_gradient():
    x, model = images(4), compiled(Lines(kernel_regularizer=keras.regularizers.L2(0.1)))
    before = weights(model)
    logs = model.fit(x, batch_size=4, verbose=0).history
    expected = before - x[:, 0, :, 0].mean(0) - 2 * 0.1 * before
    np.testing.assert_allclose(weights(model), expected, rtol=1e-5, atol=1e-6)
    # The reported loss does not include the penalty.
    assert logs["loss"][0] == pytest.approx((x[:, 0, :, 0] @ before).mean(), rel=1e-4, abs=1e-5)


def test_an_activity_regularizer_is_refused():
    with pytest.raises(ValueError, match="activity_regularizer"):
        compiled(Lines(activity_regularizer=keras.regularizers.L2(0.1)))


@pytest.mark.parametrize(
    ("clip", "clipped"),
    [
        ({"global_clipnorm": 0.01}, lambda g: g * 0.01 / np.linalg.norm(g)),
        ({"clipnorm": 0.01}, lambda g: g * 0.01 / np.linalg.norm(g)),
        ({"clipvalue": 0.3}, lambda g: np.clip(g, -0.3, 0.3)),
        ({"global_clipnorm": 100.0}, lambda g: g),
    ],
)
def test_gradients_are_clipped_by_the_optimizers_rule(clip, clipped):
    x, model = images(4), compiled(Lines(), keras.optimizers.SGD(1.0, **clip))
    before = weights(model)
    model.fit(x, batch_size=4, verbose=0)
    expected = before - clipped(x[:, 0, :, 0].mean(0))
    np.testing.assert_allclose(weights(model), expected, rtol=1e-5, atol=1e-7)


def test_validation_logs_hold_every_loss_and_term():
    x, model = images(8, 2), compiled(Lines(2))
    history = model.fit(x[:4], validation_data=(x[4:],), verbose=0, epochs=2).history
    names = set(model.result_names())
    assert set(history) == names | {f"val_{name}" for name in names}
    assert history["val_inverse"][0] == pytest.approx((1 / x[4:, 0, 0, 0]).mean(), rel=1e-5)


# Compiling ------------------------------------------------------------------------------------


def test_one_optimizer_for_all_is_copied_for_each_player():
    optimizer = keras.optimizers.Adam(0.5, beta_1=0.3)
    model = compiled(Lines(2), optimizer)
    one, two = model.optimizers["one"], model.optimizers["two"]
    assert len({id(o) for o in (optimizer, one, two)}) == 3
    for copy in (one, two):
        assert float(copy.learning_rate) == 0.5 and copy.beta_1 == 0.3
    assert not {id(v) for v in one.variables} & {id(v) for v in two.variables}


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"one": "adam"}, r"\['one', 'two'\] as keys.*the keys \['one'\]"),
        ({"one": "adam", "too": "adam"}, r"Received: a dict with the keys \['one', 'too'\]"),
    ],
)
def test_a_dict_of_optimizers_requires_the_players_as_keys(optimizer, message):
    with pytest.raises(ValueError, match=message):
        Lines(2).compile(optimizer)


def test_losses_and_metrics_cannot_be_compiled_in():
    with pytest.raises(ValueError, match=r"built in.*Received: \['loss', 'metrics'\]"):
        Lines().compile("adam", loss="mse", metrics=["mae"])


def test_training_before_compiling_is_an_error():
    with pytest.raises(ValueError, match="compile"):
        Lines().fit(images(4), verbose=0)


def test_one_optimizer_object_for_two_players_is_refused():
    shared = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="separate optimizer"):
        Lines(2).compile({"one": shared, "two": shared})


def test_a_trainable_variable_of_no_player_is_refused_by_name():
    class OnlyTheFirst(Lines):
        def players(self):
            return {"one": [self.lines[0]]}

    model = OnlyTheFirst(2)
    path = model.lines[1].layers[-1].kernel.path
    with pytest.raises(
        ValueError, match=rf"belongs to at least one player.*no player has '{path}'"
    ):
        model.compile()
    model.lines[1].trainable = False
    model.compile()


def test_a_variable_may_belong_to_two_players():
    class Shared(Lines):
        def players(self):
            return {"one": [self.lines[0]], "two": [self.lines[0]]}

        def objective(self, x, y, seed, training, only=None):
            loss = self.lines[0](x[..., 0], training=training)[:, 0]
            return {only: loss if only == "one" else 3 * loss}, {"inverse": 1 / x[:, 0, 0, 0]}

    x, model = images(5), compiled(Shared(together=False))
    before = weights(model)
    model.fit(x, batch_size=5, verbose=0)
    np.testing.assert_allclose(weights(model), before - 4 * x[:, 0, :, 0].mean(0), rtol=1e-5)


# Non-finite results ---------------------------------------------------------------------------


def batches_with(bad_step, change, players=1, steps=8):
    """Batches of 4. The function `change` is applied to the one at `bad_step`."""
    x = np.stack([images(4, players) for _ in range(steps)])
    change(x[bad_step])
    return tf.data.Dataset.from_tensor_slices(x)


class Fragile(Lines):
    """The loss of player i is NaN if a pixel of channel i is 1."""

    def objective(self, x, y, seed, training, only=None):
        losses, terms = super().objective(x, y, seed, training, only)
        white = tf.reduce_max(x, [1, 2]) == 1
        losses = {
            player: tf.where(white[:, i], np.nan, loss)
            for i, (player, loss) in enumerate(losses.items())
        }
        return losses, terms


def spoil_channel(channel):
    def change(batch):
        batch[1, 0, 1, channel] = 1.0

    return change


def blacken(batch):
    batch[2, 0, 0, 0] = 0.0


HOW = pytest.mark.parametrize(
    "how",
    [{}, {"steps_per_execution": 4}, {"jit_compile": True}, {"jit_compile": True,
    "steps_per_execution": 4}], ids=["plain", "4 steps", "jit", "jit, 4 steps"],
)  # fmt: skip


@HOW
@pytest.mark.parametrize("bad_step", [0, 5])
def test_a_nan_stops_training_with_an_error_that_names_the_player_and_the_step(how, bad_step):
    model = compiled(Fragile(2), keras.optimizers.SGD(0.0), **how)
    with pytest.raises(zoo.NonFiniteError) as caught:
        model.fit(batches_with(bad_step, spoil_channel(1), 2), verbose=0)
    message = str(caught.value)
    assert f"at step {bad_step} 'two_loss' became" in message
    assert "(player 'two')" in message and "one_loss" not in message


@HOW
def test_the_error_names_an_infinite_term_if_the_losses_are_finite(how):
    model = compiled(Lines(), **how)
    with pytest.raises(zoo.NonFiniteError, match=r"at step 3 'inverse' became .*no player's loss"):
        model.fit(batches_with(3, blacken), verbose=0)


def test_the_step_of_the_first_non_finite_result_counts_over_epochs_and_calls_of_fit():
    model = compiled(Fragile())
    good = tf.data.Dataset.from_tensor_slices(np.stack([images(4) for _ in range(3)]))
    model.fit(good, epochs=2, verbose=0)
    with pytest.raises(zoo.NonFiniteError, match="at step 8 'loss'"):
        model.fit(batches_with(2, spoil_channel(0)), verbose=0)


def test_the_error_names_the_first_of_several_steps():
    x = np.stack([images(4, 2) for _ in range(5)])
    x[[1, 3]] = 0
    with pytest.raises(zoo.NonFiniteError, match="at step 1 'inverse' became"):
        compiled(Lines(2)).fit(tf.data.Dataset.from_tensor_slices(x), verbose=0)


def test_the_error_names_the_result_that_was_non_finite_first():
    x = np.stack([images(4, 2) for _ in range(5)])
    for step, channel in ((1, 1), (3, 0)):
        spoil_channel(channel)(x[step])
    model = compiled(Fragile(2), keras.optimizers.SGD(0.0))
    with pytest.raises(zoo.NonFiniteError, match="at step 1 'two_loss' became"):
        model.fit(tf.data.Dataset.from_tensor_slices(x), verbose=0)


def test_the_error_names_a_single_player_and_precedes_other_callbacks():
    epochs = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    model = compiled(Fragile())
    with pytest.raises(zoo.NonFiniteError, match=r"\(player 'one'\)"):
        model.fit(batches_with(7, spoil_channel(0)), callbacks=[callback], verbose=0)
    assert not epochs


def test_a_model_trains_after_an_error_and_restored_weights():
    model = compiled(Fragile())
    before = model.get_weights()
    with pytest.raises(zoo.NonFiniteError):
        model.fit(batches_with(2, spoil_channel(0)), verbose=0)
    model.set_weights(before)
    model.fit(images(4), verbose=0)
    assert np.isfinite(weights(model)).all()


def test_a_single_callback_need_not_be_in_a_list():
    compiled(Lines()).fit(images(4), callbacks=keras.callbacks.History(), verbose=0)


# Images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ((255 * images(4)).astype(np.uint8), r"uint8; divide 8-bit images by 255"),
        (255 * images(4), r"values from .* scale them"),
        (images(4) - 0.5, r"values from -"),
        (np.full((4, 1, 3, 1), np.nan, np.float32), "values from nan"),
        (images(4)[..., 0], r"shape \[B, 1, 3, 1\].*Received: an array of shape \(4, 1, 3\)"),
        (images(4)[0], r"Received: an array of shape \(1, 3, 1\)"),
        (images(4).transpose(0, 2, 1, 3), r"Received: an array of shape \(4, 3, 1, 1\)"),
        (images(4, 2), r"Received: an array of shape \(4, 1, 3, 2\)"),
    ],
)
def test_images_of_another_type_range_or_shape_are_refused(x, message):
    model = compiled(Lines())
    for array in (x, tf.constant(x)):
        with pytest.raises(ValueError, match=message):
            model.fit(array, verbose=0)
        with pytest.raises(ValueError, match=message):
            model.check_images(array)


@pytest.mark.parametrize("with_y", [False, True])
def test_shapes_and_types_of_a_dataset_are_checked(with_y):
    def dataset(x):
        data = tf.data.Dataset.from_tensor_slices((x, np.zeros(4)) if with_y else x)
        return data.batch(2)

    model = compiled(Lines())
    with pytest.raises(ValueError, match="uint8"):
        model.fit(dataset((255 * images(4)).astype(np.uint8)), verbose=0)
    with pytest.raises(ValueError, match=r"shape \(None, 1, 3, 2\)"):
        model.fit(dataset(images(4, 2)), verbose=0)
    model.fit(dataset(images(4)), verbose=0)


@pytest.fixture
def vae():
    model = zoo.models.vae((8, 8, 1), latent_dim=3, hidden=(16,))
    model.compile("adam")
    return model


@pytest.mark.parametrize("method", ["encode", "reconstruct", "log_prob"])
def test_methods_that_take_images_check_them(vae, digits, method):
    for kind in (np.asarray, tf.constant):
        with pytest.raises(ValueError, match="uint8"):
            getattr(vae, method)(kind((digits[:2] * 255).astype(np.uint8)))
        with pytest.raises(ValueError, match="values from"):
            getattr(vae, method)(kind(digits[:2] - 0.5))
        # In a graph only shapes and types are checked.
        tf.function(lambda x: getattr(vae, method)(x), autograph=False)(tf.constant(digits[:2]))


@pytest.mark.parametrize("method", ["predict", "evaluate"])
def test_predict_and_evaluate_check_images(vae, digits, method):
    with pytest.raises(ValueError, match="uint8"):
        getattr(vae, method)((digits[:2] * 255).astype(np.uint8), verbose=0)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_a_dataset_of_other_floats_trains_like_float32(digits, dtype):
    def loss(x):
        keras.utils.set_random_seed(0)
        model = zoo.models.vae((8, 8, 1), latent_dim=3, hidden=(16,))
        model.compile("adam")
        data = tf.data.Dataset.from_tensor_slices(x).batch(4)
        return model.fit(data, verbose=0).history["loss"][0]

    assert loss(digits[:8].astype(dtype)) == pytest.approx(loss(digits[:8]), rel=1e-4)


def test_predict_on_arrays_decodes_the_code_of_each_image(vae, digits):
    expected = vae.decode(vae.encode(digits[:10]))
    np.testing.assert_allclose(
        vae.predict(digits[:10], batch_size=4, verbose=0), expected, atol=1e-6
    )


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}, {}])
def test_a_loss_with_weights_is_the_weighted_mean_and_zero_if_all_weights_are_zero(how):
    class Weighted(Lines):
        def objective(self, x, y, seed, training, only=None):
            losses, terms = super().objective(x, None, seed, training, only)
            return {"one": (losses["one"], tf.cast(y, tf.float32))}, terms

    x, y = images(4), np.array([0, 1, 3, 0])
    model = compiled(Weighted(), **how)
    before = weights(model)
    logs = model.fit(x, y, batch_size=4, verbose=0).history
    mean = np.average(x[:, 0, :, 0], axis=0, weights=y)
    np.testing.assert_allclose(weights(model), before - mean, rtol=1e-5, atol=1e-6)
    assert logs["loss"][0] == pytest.approx(mean @ before, rel=1e-4, abs=1e-5)
    before = weights(model)
    model.fit(x, 0 * y, batch_size=4, verbose=0)
    np.testing.assert_array_equal(weights(model), before)


# Two streams ----------------------------------------------------------------------------------


class Streams(Lines):
    """The loss is y (w . x) for labelled images and w . x for unlabelled images."""

    terms = ()
    semi_supervised = True

    def objective(self, x, y, seed, training, only=None):
        if not isinstance(x, tuple):
            return super().objective(x, y, seed, training, only)[0], {}
        (labelled, _), (unlabelled, _) = (
            super(Streams, self).objective(part, labels, seed, training)
            for part, labels in zip(x, (y, None), strict=True)
        )
        return {"one": tf.concat([labelled["one"], unlabelled["one"]], 0)}, {}


def streams(n_labelled=2, n_unlabelled=6):
    y = RNG.uniform(1, 3, n_labelled).astype(np.float32)
    return (images(n_labelled), y), images(n_unlabelled)


def mean_gradient(labelled, unlabelled):
    x, y = labelled
    total = (y[:, None] * x[:, 0, :, 0]).sum(0) + unlabelled[:, 0, :, 0].sum(0)
    return total / (len(x) + len(unlabelled))


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}, {}])
def test_the_objective_receives_two_streams_of_different_sizes(how):
    batch, model = streams(), compiled(Streams(), **how)
    before = weights(model)
    data = tf.data.Dataset.from_tensors(batch)
    model.fit(data, validation_data=data, verbose=0)
    np.testing.assert_allclose(weights(model), before - mean_gradient(*batch), rtol=1e-5)
    x, y = images(4), np.float32([1.0, 2.0, 0.0, 1.0])
    before = weights(model)
    model.fit(x, y, batch_size=4, verbose=0)  # A data set with all labels has one stream.
    expected = before - (y[:, None] * x[:, 0, :, 0]).mean(0)
    np.testing.assert_allclose(weights(model), expected, rtol=1e-5)


def test_two_streams_on_two_replicas_train_like_the_global_batch(mirrored):
    ((x, y), unlabelled) = batch = streams(4, 6)
    with mirrored.scope():
        model = compiled(Streams())
    before = weights(model)

    def batches_of_replicas(context):
        parts = [((x[i::2], y[i::2]), unlabelled[i::2]) for i in range(2)]
        shapes = tf.nest.map_structure(
            tf.TensorSpec.from_tensor, tf.nest.map_structure(tf.constant, parts[0])
        )
        return tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=shapes)

    data = mirrored.distribute_datasets_from_function(batches_of_replicas)
    model.fit(data, steps_per_epoch=1, verbose=0)
    np.testing.assert_allclose(weights(model), before - mean_gradient(*batch), rtol=1e-5)


def test_each_step_of_a_round_receives_its_share_of_both_streams():
    class Steps(Streams):
        def rounds(self):
            return [zoo.Round(self.objective, steps=2)]

        def objective(self, x, y, seed, training, only=None):
            self.sizes.append([len(x[0]), len(y), len(x[1])])
            return super().objective(x, y, seed, training, only)

    model = Steps()
    model.sizes = []
    compiled(model, run_eagerly=True).fit(tf.data.Dataset.from_tensors(streams(3, 6)), verbose=0)
    assert model.sizes == [[2, 2, 3], [1, 1, 3]]


def batch_of(*structure):
    return tf.data.Dataset.from_tensors(structure)


X, Y = images(4), np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            ((X, Y), X),
            r"two streams.*as a tf.data.Dataset of batches.*the data with a tuple as `x`",
        ),
        ([X, Y], r"two arguments, `fit\(x, y\)`.*the data with a list as `x`"),
        (
            batch_of((X, Y, Y), X),
            r"or \(\(x_labelled, y\), x_unlabelled\)\. Received: .*\(4, 1, 3, 1\)",
        ),
        (batch_of((X,), X), "A batch for a Streams is x,"),
        (batch_of((X, X), Y), r"float images in \[0, 1\].*Received: an array of shape \(4,\)"),
        (batch_of((X, Y), (255 * X).astype(np.uint8)), "uint8"),
        (batch_of((X[..., 0], Y), X), r"Received: an array of shape \(4, 1, 3\)"),
        (batch_of((X, Y), X, Y), "weight all examples equally"),
    ],
)
def test_two_streams_in_another_layout_are_refused(data, message):
    model = compiled(Streams())
    with pytest.raises(ValueError, match=message):
        model.fit(data, verbose=0)
    with pytest.raises(ValueError, match=message.replace("the data", "the validation data")):
        model.fit(
            X, validation_data=data if isinstance(data, tf.data.Dataset) else (data,), verbose=0
        )
    with pytest.raises(ValueError, match=message):
        model.evaluate(data, verbose=0)


def test_a_model_of_one_stream_refuses_two():
    with pytest.raises(
        ValueError, match=r"batch for a Lines is x or \(x, y\)\. Received: the data"
    ):
        compiled(Lines()).fit(batch_of((X, Y), X), verbose=0)
    # A generator has no specification to check in advance.
    with pytest.raises(ValueError, match=r"batch for a Lines is x or \(x, y\)\."):
        compiled(Lines(), run_eagerly=True).train_step(((tf.constant(X), Y), tf.constant(X)))


# Turns ----------------------------------------------------------------------------------------


class Turns(Lines):
    """Updates the first line, then the second, with outputs of the first from before and after."""

    def rounds(self):
        return [zoo.Round(self.objective)]

    def objective(self, x, y, seed, training):
        one, two = (functools.partial(line, training=training) for line in self.lines)
        before, other = one(x[..., 0]), two(x[..., 1])
        yield {"one": before[:, 0]}, {"inverse": 1 / x[:, 0, 0, 0]}
        yield {"two": (other * tf.stop_gradient(before + 10 * one(x[..., 0])))[:, 0]}, {}


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}, {}])
def test_a_later_turn_has_tensors_from_before_the_first_update_and_weights_from_after_it(how):
    x, model = images(5, 2), compiled(Turns(2), **how)
    w, v = weights(model, 0), weights(model, 1)
    logs = model.fit(x, batch_size=5, verbose=0).history
    a, b = x[:, 0, :, 0], x[:, 0, :, 1]
    updated = w - a.mean(0)
    np.testing.assert_allclose(weights(model, 0), updated, rtol=1e-5)
    factor = a @ w + 10 * (a @ updated)
    expected = v - (factor[:, None] * b).mean(0)
    np.testing.assert_allclose(weights(model, 1), expected, rtol=1e-4, atol=1e-5)
    assert logs["two_loss"][0] == pytest.approx((factor * (b @ v)).mean(), rel=1e-4)
    # Evaluation has no updates: both turns use the same weights.
    logs = model.evaluate(x, verbose=0, return_dict=True)
    w, v = weights(model, 0), weights(model, 1)
    assert logs["two_loss"] == pytest.approx((11 * (a @ w) * (b @ v)).mean(), rel=1e-4)


@pytest.mark.parametrize("gated", [False, True])
def test_batch_statistics_from_an_earlier_turn_are_committed_in_their_owners_turn(gated):
    norms = [keras.layers.BatchNormalization(momentum=0.5, scale=False) for _ in range(2)]

    class Norms(Turns):
        def players(self):
            own = super().players()
            return {name: [*own[name], norms[i]] for i, name in enumerate(own)}

        def rounds(self):
            gates = {"two": lambda means: not gated}
            return [zoo.Round(self.objective, gates=gates)]

        def objective(self, x, y, seed, training):
            one, two = (norm(x[..., 0], training=training) for norm in norms)
            turns = super().objective(x, y, seed, training)
            losses, terms = next(turns)
            yield {"one": losses["one"] + one[:, 0, 0]}, terms
            # Ignored, because its owner is already updated.
            norms[0](10 + x[..., 0], training=training)
            losses, terms = next(turns)
            yield {"two": losses["two"] + two[:, 0, 0]}, terms

    x = images(5, 2)
    for norm in norms:
        norm.build([None, 1, 3])
    model = compiled(Norms(2), run_eagerly=True)
    model.fit(x, batch_size=5, verbose=0)
    expected = 0.5 * x[..., 0].mean((0, 1))
    np.testing.assert_allclose(norms[0].moving_mean, expected, rtol=1e-5)
    np.testing.assert_allclose(norms[1].moving_mean, 0 if gated else expected, rtol=1e-5)


@pytest.mark.parametrize("gated", [False, True])
def test_a_player_is_not_updated_while_its_gate_is_false(gated):
    class Gated(Turns):
        def rounds(self):
            return [zoo.Round(self.objective, gates={"two": lambda means: means["one_loss"] < 0})]

    x, model = images(5, 2), (Gated if gated else Turns)(2)
    model.lines[0].layers[-1].kernel.assign([[1.0], [1.0], [1.0]])
    before = weights(compiled(model), 1)
    logs = model.fit(x, batch_size=5, verbose=0).history
    assert (weights(model, 1) == before).all() == gated
    if gated:
        assert logs["two_updates"] == [0.0]


@pytest.mark.parametrize("open_gates", ["", "one", "two", "one two"])
def test_a_shared_layer_keeps_its_state_only_while_all_its_gates_are_false(open_gates):
    class Shared(Lines):
        def __init__(self):
            super().__init__(2)
            self.norm = keras.layers.BatchNormalization()
            self.norm.build((None, 1, 3))

        def players(self):
            return {name: [*line, self.norm] for name, line in super().players().items()}

        def rounds(self):
            gates = {
                name: lambda means, go=name in open_gates: tf.constant(go)
                for name in ("one", "two")
            }
            return [zoo.Round(self.objective, gates=gates)]

        def objective(self, x, y, seed, training):
            x = self.norm(x[:, :, :, 0], training=training)
            losses = {f"{name}": line(x)[:, 0] for name, [line, _] in self.players().items()}
            return losses, {"inverse": losses["one"]}

    model = compiled(Shared(), run_eagerly=True)
    before = model.norm.moving_mean.numpy()
    model.train_step(tf.constant(images(4, 2)))
    assert (model.norm.moving_mean.numpy() == before).all() == (not open_gates)


# Seeds ----------------------------------------------------------------------------------------


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


def test_the_same_seed_gives_the_same_weights_and_another_seed_other_weights(digits):
    def trained(seed):
        keras.utils.set_random_seed(0)
        model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(8,))
        model.seed = seed
        model.compile("sgd")
        model.fit(digits[:40], batch_size=10, shuffle=False, verbose=0)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    first, again, other = trained(0), trained(0), trained(1)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-5


def test_evaluation_repeats_its_loss(vae, digits):
    losses = [vae.evaluate(digits[:50], verbose=0, return_dict=True)["loss"] for _ in range(2)]
    assert losses[0] == losses[1]


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


# Steps on shares of a batch -------------------------------------------------------------------


class RecordingGAN(zoo.GAN):
    """Keeps the images of each update of the discriminator."""

    def discriminator_objective(self, x, y, seed, training):
        if training:
            self.images.append(x.numpy()[:, 0, 0, 0])
        return super().discriminator_objective(x, y, seed, training)


def recording_gan(steps, batch_norm=False):
    model = RecordingGAN(
        zoo.networks.mlp_decoder(2, (2, 2, 1), 1, (4,), output="sigmoid", batch_norm=batch_norm),
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


# Averages of the weights ----------------------------------------------------------------------


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


# Losses scaled against underflow --------------------------------------------------------------


def twins(*optimizers, steps=3, **kwargs):
    """Returns the weights of the same model after the same steps with each optimizer."""
    start, x = weights(Lines()), np.concatenate([images(4) for _ in range(steps)])
    for optimizer in optimizers:
        model = compiled(Lines(), optimizer, **kwargs)
        model.lines[0].layers[-1].kernel.assign(start[:, None])
        logs = model.fit(x, batch_size=4, shuffle=False, verbose=0).history
        assert np.abs(weights(model) - start).max() > 1e-3
        yield weights(model), logs["loss"][0]


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}, {}])
@pytest.mark.parametrize(
    "own", [{}, {"global_clipnorm": 0.1}, {"clipvalue": 0.2}], ids=["plain", "norm", "value"]
)
def test_a_loss_scale_changes_neither_the_step_nor_the_reported_loss(how, own):
    sgd, scaling = keras.optimizers.SGD, keras.optimizers.LossScaleOptimizer
    (plain, loss), *others = twins(
        sgd(0.1, **own), scaling(sgd(0.1, **own)), sgd(0.1, loss_scale_factor=64.0, **own), **how
    )
    for scaled, reported in others:
        np.testing.assert_allclose(scaled, plain, rtol=1e-5)
        assert reported == pytest.approx(loss, rel=1e-5)


def test_steps_with_gradients_that_overflow_are_skipped_and_halve_the_scale():
    model, scale = Lines(), 2.0**127
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=scale)
    compiled(model, {"one": optimizer})
    before = weights(model)
    # The gradient is 8: the largest scale without overflow is 2^124, as floats end near 2^128.
    x, y = np.ones((20, 1, 3, 1), np.float32), np.full(20, 8.0, np.float32)
    model.fit(x[:12], y[:12], batch_size=4, verbose=0)
    np.testing.assert_array_equal(weights(model), before)
    model.fit(x[12:], y[12:], batch_size=4, verbose=0)
    np.testing.assert_allclose(weights(model), before - 2 * 8.0, rtol=1e-6)
    assert float(optimizer.dynamic_scale) == scale / 2**3


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


def half_vae():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        return zoo.models.vae((8, 8, 1), latent_dim=3, hidden=(16,))
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_losses_of_networks_in_float16_are_scaled_unless_auto_scale_loss_is_false(
    vae, digits, tmp_path
):
    model, scaling = half_vae(), keras.optimizers.LossScaleOptimizer
    assert "float16" in {part.compute_dtype for part in model.posterior._flatten_layers()}
    model.compile(keras.optimizers.Adam(0.01))
    assert isinstance(model.optimizers["vae"], scaling)
    assert not isinstance(vae.optimizers["vae"], scaling)
    losses = model.fit(digits, batch_size=20, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for m in (model, loaded):
        m.fit(digits, batch_size=20, shuffle=False, verbose=0)
    assert type(loaded.optimizers["vae"].inner_optimizer) is keras.optimizers.Adam
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.compile("adam", auto_scale_loss=False)
    assert type(model.optimizers["vae"]) is keras.optimizers.Adam
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizers["vae"]) is keras.optimizers.Adam


# Replicas -------------------------------------------------------------------------------------


def after_a_step(x, strategy=None, optimizer=None, **line):
    """How the weights of `Lines` change in a step of SGD from ones."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = compiled(Lines(kernel_initializer="ones", **line), optimizer)
    model.fit(tf.data.Dataset.from_tensors(x), verbose=0)
    return weights(model) - 1


def test_two_replicas_regularize_like_one(mirrored):
    x, penalty = images(4), keras.regularizers.L2(0.1)
    expected = -x[:, 0, :, 0].mean(0) - 2 * 0.1
    for strategy in (None, mirrored):
        change = after_a_step(x, strategy, kernel_regularizer=penalty)
        np.testing.assert_allclose(change, expected, rtol=1e-5)


def test_on_two_replicas_clipping_acts_on_gradients_without_their_scale(mirrored):
    x = images(4)
    gradient = x[:, 0, :, 0].mean(0)
    expected = -gradient * 0.1 / np.linalg.norm(gradient)
    for scale in (None, 64.0):
        with mirrored.scope():
            sgd = keras.optimizers.SGD(1.0, global_clipnorm=0.1, loss_scale_factor=scale)
        np.testing.assert_allclose(after_a_step(x, mirrored, sgd), expected, rtol=1e-5)


def test_a_loss_scale_that_adapts_is_refused_on_two_replicas(mirrored):
    sgd = keras.optimizers.SGD
    with mirrored.scope():
        half = half_vae()
        with pytest.raises(ValueError, match=r"one replica.*bfloat16.*2 replicas.* player 'vae'"):
            half.compile(sgd())
        half.compile(sgd(), auto_scale_loss=False)
        with pytest.raises(ValueError, match="one replica"):
            Lines().compile(keras.optimizers.LossScaleOptimizer(sgd()))


# Refused data and layers -----------------------------------------------------------------------


def weighted(x, y, w):
    return tf.data.Dataset.from_tensor_slices((x, y, w)).batch(2)


@pytest.mark.parametrize("y", [None, np.ones(4, np.float32)])
def test_weights_of_examples_and_classes_are_refused(y):
    x, w = images(4), np.ones(4, np.float32)
    model = compiled(Lines())
    before = weights(model)
    labels = np.ones(4, np.float32) if y is None else y
    for call in (
        lambda: model.fit(x, y, sample_weight=w, verbose=0),
        lambda: model.fit(x, labels, class_weight={0: 1.0, 1: 2.0}, verbose=0),
        lambda: model.fit(weighted(x, labels, w), verbose=0),
        lambda: model.fit(((x, labels, w) for _ in range(2)), steps_per_epoch=2, verbose=0),
        lambda: model.fit(x, validation_data=(x, y, w), verbose=0),
        lambda: model.fit(x, validation_data=weighted(x, labels, w), verbose=0),
        lambda: model.evaluate(x, y, sample_weight=w, verbose=0),
        lambda: model.evaluate(x, y, 2, 0, w),
        lambda: model.evaluate(weighted(x, labels, w), verbose=0),
    ):
        with pytest.raises(ValueError, match=r"weight all examples equally.*Received: "):
            call()
    np.testing.assert_array_equal(weights(model), before)
    # A third item that is None is not a weight.
    nothing = tf.data.Dataset.from_tensors((x, labels, None))
    model.fit(nothing, validation_data=nothing, verbose=0)
    model.fit(x, validation_data=(x, y, None), verbose=0)


@keras.saving.register_keras_serializable("tests")
class Penalty(keras.layers.Layer):
    def call(self, x):
        self.add_loss(tf.reduce_mean(x**2))
        return x


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}, {}])
def test_the_error_of_a_loss_added_by_a_layer_names_the_layer(how):
    model = Lines(2)
    model.lines[1] = keras.Sequential([model.lines[1], Penalty(name="penalty")])
    compiled(model, **how)
    before = weights(model)
    with pytest.raises(
        ValueError, match=r"in the model's objective.*layer 'penalty', which adds a loss"
    ):
        model.fit(images(4, 2), batch_size=4, verbose=0)
    np.testing.assert_array_equal(weights(model), before)


class Twice(zoo.GenerativeModel):
    """A player of two networks of one layer: the loss is the sum of both outputs."""

    def __init__(self):
        super().__init__()
        layer = keras.layers.Dense(1, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.5))
        inputs = [keras.Input((1, 3, 1)) for _ in range(2)]
        self.networks = [keras.Model(x, layer(keras.layers.Flatten()(x))) for x in inputs]

    @property
    def image_shape(self):
        return 1, 3, 1

    def players(self):
        return {"one": self.networks}

    def objective(self, x, y, seed, training):
        return {"one": sum(network(x)[:, 0] for network in self.networks)}, {}


def test_a_layer_in_two_networks_of_a_player_moves_once_and_has_one_penalty():
    model, x = Twice(), images(4)
    model.compile(keras.optimizers.SGD(0.1))
    (kernel,) = model.variables_of("one")
    before = np.array(kernel)
    model.train_step(tf.constant(x))
    # The gradients of twice the mean output, and of 0.5 |w|^2.
    gradient = 2 * x.mean(0).reshape(3, 1) + before
    np.testing.assert_allclose(kernel, before - 0.1 * gradient, rtol=1e-5)


# Defaults -------------------------------------------------------------------------------------


class Parts(zoo.GenerativeModel):
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def test_image_shape_comes_from_the_posterior_the_encoder_or_the_discriminator():
    def conditional(shape):
        return zoo.Conditional(zoo.networks.mlp_encoder(shape, 2, ()), zoo.Deterministic())

    posterior, encoder = conditional((4, 6, 1)), zoo.networks.mlp_encoder((2, 4, 3), 2, ())
    discriminator = zoo.networks.mlp_discriminator((3, 3, 1), ())
    assert Parts(posterior=posterior, discriminator=encoder).image_shape == (4, 6, 1)
    assert Parts(encoder=encoder, discriminator=discriminator).image_shape == (2, 4, 3)
    assert Parts(discriminator=discriminator).image_shape == (3, 3, 1)
    with pytest.raises(NotImplementedError):
        Parts().image_shape  # noqa: B018


def test_images_are_the_likelihoods_means_or_the_generators_outputs_within_0_and_1():
    z = np.float32([[-3.0, 0.4], [0.2, 5.0]])
    flat = keras.Sequential([keras.Input((2,)), keras.layers.Reshape((1, 2, 1))])
    images = z[:, None, :, None]
    np.testing.assert_array_equal(Parts(generator=flat).decode(z), np.clip(images, 0, 1))
    likelihood = zoo.Conditional(flat, zoo.Bernoulli())
    expected = 1 / (1 + np.exp(-images))
    np.testing.assert_allclose(Parts(likelihood=likelihood).decode(z), expected, rtol=1e-6)


def test_codes_are_the_posteriors_means_or_the_encoders_outputs():
    network = zoo.networks.mlp_encoder((1, 3, 1), 2, ())
    x = images(4)
    expected = x[:, 0, :, 0] @ network.layers[-1].kernel.numpy()
    posterior = zoo.Conditional(network, zoo.Deterministic())
    for model in (Parts(encoder=network), Parts(posterior=posterior)):
        assert model.can_encode and "reconstruct" in model.abilities()
        np.testing.assert_allclose(model.encode(x), expected, rtol=1e-5, atol=1e-6)
    assert not Parts(generator=network).can_encode


# Interpolation --------------------------------------------------------------------------------

ENDS = [
    ([1.0, 0.0, 0.0], [0.0, 3.0, 0.0]),
    ([1.0, 2.0, -1.0], [-2.0, 0.5, 4.0]),
    ([3.0, 0.0, 0.1], [-1.0, 0.0, 0.5]),
]


@pytest.mark.parametrize(("a", "b"), ENDS)
@pytest.mark.parametrize("spherical", [False, True])
def test_a_path_starts_and_ends_at_the_given_points(a, b, spherical):
    path = path_between(a, b, 7, spherical)
    assert path.shape == (7, 3)
    np.testing.assert_allclose(path[0], a, atol=1e-5)
    np.testing.assert_allclose(path[-1], b, atol=1e-5)
    if not spherical:
        np.testing.assert_allclose(path, np.linspace(a, b, 7), atol=1e-6)


@pytest.mark.parametrize(("a", "b"), ENDS)
def test_an_arc_has_constant_angular_speed_and_linear_norms(a, b):
    path = path_between(a, b, 9, spherical=True).numpy().astype(np.float64)
    norms = np.linalg.norm(path, axis=1)
    np.testing.assert_allclose(norms, np.linspace(norms[0], norms[-1], 9), rtol=1e-4)
    units = path / norms[:, None]
    angles = np.arccos(np.clip((units[1:] * units[:-1]).sum(1), -1, 1))
    total = np.arccos(np.dot(units[0], units[-1]))
    np.testing.assert_allclose(angles, total / 8, rtol=1e-3)
    assert np.abs(path @ np.cross(a, b)).max() < 1e-4 * np.linalg.norm(np.cross(a, b))


@pytest.mark.parametrize("factor", [2.0, -2.0, 1.0, -1.0])
def test_equal_or_opposite_directions_give_a_straight_line(factor):
    a = np.array([0.3, -0.4, 1.2], np.float32)
    path = path_between(a, factor * a, 5, spherical=True)
    np.testing.assert_allclose(path, np.linspace(a, factor * a, 5), atol=1e-5)


@pytest.mark.parametrize("angle", [1e-5, 1e-3])
def test_nearly_equal_directions_give_a_smooth_arc(angle):
    a, b = [1.0, 0.0], [np.cos(angle), np.sin(angle)]
    turns = angle * np.linspace(0, 1, 5)
    expected = np.stack([np.cos(turns), np.sin(turns)], 1)
    np.testing.assert_allclose(path_between(a, b, 5, True), expected, atol=angle * 1e-2)


@pytest.mark.parametrize("gap", [2e-4, 1e-3])
def test_nearly_opposite_directions_keep_the_norms_of_the_arc(gap):
    path = path_between([1.0, 0.0], [-np.cos(gap), np.sin(gap)], 5, spherical=True)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 1.0, rtol=1e-2)


def test_a_path_of_one_point_is_refused():
    with pytest.raises(ValueError, match=r"`n` must be at least 2. Received: 1"):
        path_between([0.0], [1.0], 1)


def test_interpolate_decodes_the_path_between_the_codes_of_images_or_latents(vae, digits):
    a, b = vae.encode(digits[:2])
    expected = vae.decode(np.linspace(a, b, 4))
    np.testing.assert_allclose(vae.interpolate(digits[0], digits[1], 4), expected, atol=1e-5)
    np.testing.assert_allclose(vae.interpolate(a, b, 4), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"Received: a tensor of shape \(2, 3\)"):
        vae.interpolate(np.zeros((2, 3)), b)


def test_sampling_repeats_with_a_tensor_as_seed_and_differs_without_a_seed(vae):
    np.testing.assert_array_equal(vae.sample(3, seed=[1, 2]), vae.sample(3, seed=[1, 2]))
    assert np.abs(vae.sample(3) - vae.sample(3)).max() > 1e-5


def test_sampling_repeats_with_an_int_as_seed(vae):
    np.testing.assert_array_equal(vae.sample(3, seed=1), vae.sample(3, seed=1))


def test_log_prob_repeats_with_an_int_as_seed(vae, digits):
    values = [vae.log_prob(digits[:3], 2, seed=1) for _ in range(2)]
    np.testing.assert_array_equal(*values)


def test_models_list_their_abilities_and_refuse_other_methods():
    gan, ae = recording_gan(1), zoo.models.autoencoder((8, 8, 1), latent_dim=2, hidden=(4,))
    assert gan.abilities() == ("decode", "sample")
    assert ae.abilities() == ("encode", "decode", "reconstruct")
    with pytest.raises(NotImplementedError, match="no encoder"):
        gan.encode(np.zeros((1, 2, 2, 1), np.float32))
    with pytest.raises(NotImplementedError, match="no prior"):
        ae.sample(2)
