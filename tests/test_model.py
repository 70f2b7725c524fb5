"""The base class, on models whose training steps are computed by hand."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from line_models import RNG, Lines, after_a_step, compiled, images, weights
from speed import slow

import zoo
from zoo.model import path_between

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


def test_players_with_the_same_loss_share_one_backward_pass():
    passes = []

    @tf.custom_gradient
    def counted(loss):
        def backward(upstream):
            passes.append(upstream)
            return upstream

        return loss, backward

    class Same(Lines):
        def objective(self, x, y, seed, training, only=None):
            losses, terms = super().objective(x, y, seed, training, only)
            return dict.fromkeys(losses, counted(losses["one"] + losses["two"])), terms

    x, model = images(4, 2), compiled(Same(2), run_eagerly=True)
    before = [weights(model, i) for i in range(2)]
    model.fit(x, batch_size=4, verbose=0)
    assert len(passes) == 1
    for i in range(2):
        expected = before[i] - x[:, 0, :, i].mean(0)
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


def test_validation_logs_hold_every_loss_and_term():
    x, model = images(8, 2), compiled(Lines(2))
    history = model.fit(x[:4], validation_data=(x[4:],), verbose=0, epochs=2).history
    names = set(model.result_names())
    assert set(history) == names | {f"val_{name}" for name in names}
    assert history["val_inverse"][0] == pytest.approx((1 / x[4:, 0, 0, 0]).mean(), rel=1e-5)


# Compiling ------------------------------------------------------------------------------------


def test_training_before_compiling_is_an_error():
    with pytest.raises(ValueError, match="compile"):
        Lines().fit(images(4), verbose=0)


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


@pytest.mark.parametrize("dtype", [slow(np.float64), np.float16])
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


def from_zero(model):
    """The model with weights of 0. Other weights may end near 0, where rounding is relatively large."""
    kernel = model.lines[0].layers[-1].kernel
    kernel.assign(np.zeros(kernel.shape))
    return model


def mean_gradient(labelled, unlabelled):
    x, y = labelled
    total = (y[:, None] * x[:, 0, :, 0]).sum(0) + unlabelled[:, 0, :, 0].sum(0)
    return total / (len(x) + len(unlabelled))


@pytest.mark.parametrize("how", [{"run_eagerly": True}, slow({"jit_compile": True}), {}])
def test_the_objective_receives_two_streams_of_different_sizes(how):
    batch, model = streams(), from_zero(compiled(Streams(), **how))
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
        model = from_zero(compiled(Streams()))
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


@pytest.mark.parametrize("how", [{"run_eagerly": True}, slow({"jit_compile": True}), {}])
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


# Replicas -------------------------------------------------------------------------------------


def test_two_replicas_regularize_like_one(mirrored):
    x, penalty = images(4), keras.regularizers.L2(0.1)
    expected = -x[:, 0, :, 0].mean(0) - 2 * 0.1
    for strategy in (None, mirrored):
        change = after_a_step(x, strategy, kernel_regularizer=penalty)
        np.testing.assert_allclose(change, expected, rtol=1e-5)


# Shared layers --------------------------------------------------------------------------------


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
    gan = zoo.models.gan((2, 2, 1), latent_dim=2)
    ae = zoo.models.autoencoder((8, 8, 1), latent_dim=2, hidden=(4,))
    assert gan.abilities() == ("decode", "sample")
    assert ae.abilities() == ("encode", "decode", "reconstruct")
    with pytest.raises(NotImplementedError, match="no encoder"):
        gan.encode(np.zeros((1, 2, 2, 1), np.float32))
    with pytest.raises(NotImplementedError, match="no prior"):
        ae.sample(2)
