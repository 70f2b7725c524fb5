"""Data out of range is refused with the same sentence on every way into a model."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from line_models import Lines, compiled, images, weights
from speed import slow

import zoo

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(8, 2, 2, 1)).astype(np.float32)
Y = np.arange(8, dtype=np.int32) % 3

IMAGES = r"Expected float images in \[0, 1\] of shape \[B, 2, 2, 1\]. Received: "
LABELS = r"Labels are the numbers from 0 to 2. Received: labels from "


def builder(jit_compile=False, **settings):
    model = zoo.models.cvae((2, 2, 1), latent_dim=1, hidden=(2,), condition_size=3)
    model.compile(keras.optimizers.SGD(0.0), jit_compile=jit_compile, **settings)
    return model


@functools.cache
def shared():
    model = builder()
    return model, model.get_weights()


@pytest.fixture
def model():
    """A model of labels whose steps are traced once for all tests."""
    model, weights = shared()
    model.set_weights(weights)  # A NaN in the data makes them NaN.
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 2

    def __getitem__(self, i):
        rows = slice(2 * i, 2 * i + 2)
        return self.x[rows], self.y[rows]


def dataset(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(2)


def generator(x, y):
    source = Batches(x, y)
    return (source[i] for i in range(len(source)))


def last_row(x, value):
    x = x.copy()
    x[-1] = value
    return x


SOURCES = pytest.mark.parametrize("source", [dataset, generator, Batches])
BAD = pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (255 * X, Y, IMAGES + r"values from .* to 2\d\d.*; scale them"),
        (last_row(X, -0.5), Y, IMAGES + "values from -0.5 to .*; scale them"),
        (last_row(X, np.nan), Y, IMAGES + "values from nan to nan; repair or remove these"),
        (last_row(X, np.inf), Y, IMAGES + "values from .* to inf; repair or remove these"),
        (X, Y + 5, LABELS + "5 to [67]"),
        (X, last_row(Y, -1), LABELS + "-1 to"),
    ],
    ids=["8-bit", "negative", "NaN", "infinite", "classes", "no label"],
)
BROKEN = pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((255 * X).astype(np.uint8), Y, IMAGES + "uint8; divide 8-bit images by 255"),
        (X[:, :1], Y, IMAGES + "an array of shape"),
        (X, Y.astype(np.float32), "is a label, an int. Received: y of type float32"),
        (X, Y[:, None], r"Expected `y` of shape .*, 1\); pass y\[:, 0\]"),
        (X, np.eye(3)[Y], r"Expected `y` of shape .*for one-hot labels, pass np.argmax\(y, -1\)"),
    ],
    ids=["uint8", "shape", "float labels", "column", "one-hot"],
)


# The ways in ----------------------------------------------------------------------------------


@SOURCES
@BAD
def test_batches_out_of_range_are_refused_by_fit(model, source, x, y, message):
    with pytest.raises(ValueError, match=message):
        model.fit(source(x, y), verbose=0)


@SOURCES
@BROKEN
def test_batches_of_another_type_or_shape_are_refused_by_fit(model, source, x, y, message):
    with pytest.raises(ValueError, match=message):
        model.fit(source(x, y), verbose=0)


@SOURCES
@BAD
def test_batches_out_of_range_are_refused_by_evaluate(model, source, x, y, message):
    with pytest.raises(ValueError, match=message):
        model.evaluate(source(x, y), verbose=0)


@BAD
def test_validation_data_out_of_range_is_refused_before_other_callbacks(model, x, y, message):
    epochs = []
    seen = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    with pytest.raises(ValueError, match=message + ".* of the evaluation is batch "):
        model.fit(dataset(X, Y), validation_data=dataset(x, y), callbacks=[seen], verbose=0)
    assert not epochs


@pytest.mark.parametrize(("x", "y", "message"), [*BAD.args[1], *BROKEN.args[1]])
def test_arrays_are_refused_before_a_step(model, x, y, message):
    step = int(model.step)
    for call in (
        lambda: model.fit(x, y, verbose=0),
        lambda: model.fit(X, Y, validation_data=(x, y), verbose=0),
        lambda: model.evaluate(x, y, verbose=0),
        lambda: model.train_on_batch(x, y),
        lambda: model.test_on_batch(x, y),
        lambda: model.predict([x, y], verbose=0),
        lambda: model.predict_on_batch([x, y]),
        lambda: model([x, y]),
        lambda: model.encode(x, y),
        lambda: model.reconstruct(x, y),
        lambda: model.log_prob(x, 1, y),
        lambda: model.train_step((tf.constant(x), tf.constant(y))),
        lambda: model.test_step((x, y)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert int(model.step) == step


@pytest.mark.parametrize("y", [Y.astype(float), Y[:, None], np.eye(3)[Y], Y + 5])
def test_labels_of_another_form_are_refused_by_sample_and_decode(model, y):
    message = "is a label, an int|Expected `y` of shape|Labels are the numbers"
    with pytest.raises(ValueError, match=message):
        model.sample(8, y)
    with pytest.raises(ValueError, match=message):
        model.decode(np.zeros([8, 1], np.float32), y)


def test_latents_of_another_size_or_not_finite_are_refused_by_decode():
    vae = zoo.models.vae((2, 2, 1), latent_dim=1, hidden=(2,))
    for model in (vae, zoo.models.gan((2, 2, 1), latent_dim=1)):
        with pytest.raises(
            ValueError, match=r"latents of shape \[B, 1\]. Received: shape \(3, 2\)"
        ):
            model.decode(np.zeros([3, 2]))
        with pytest.raises(ValueError, match="Expected finite latents"):
            model.decode([[0.0], [np.nan]])
        assert model.decode([[0], [1]]).shape == X[:2].shape


NO_NUMBERS = {
    "a scalar": np.int32(1),
    "a list": [0] * 8,
    "a word": "abcdefgh",
    "text": np.array(list("abcdefgh")),
    "bytes": np.array([b"a"] * 8),
    "objects": np.array([1, "a"] * 4, object),
    "dates": np.zeros(8, "datetime64[D]"),
    "a table": np.zeros(8, [("a", "i4")]),
    "an iterator": iter(range(8)),
}


@functools.cache
def of_each_kind():
    """Models without a condition, with labels, with optional labels and with attributes."""
    small = {"latent_dim": 1, "hidden": (2,)}
    models = [
        zoo.models.vae((2, 2, 1), **small),
        zoo.models.cvae((2, 2, 1), **small, condition_size=3),
        zoo.models.m2((2, 2, 1), **small, classifier_hidden=(2,)),
        zoo.models.cvae((2, 2, 1), **small, condition="attributes", condition_size=3),
    ]
    for model in models:
        model.compile("sgd", run_eagerly=True)
    return models


@pytest.mark.parametrize("y", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_y_that_is_no_array_of_numbers_is_refused_by_every_model(y):
    message = r"^(Expected `y` |The condition of this ).*Received: "
    for model in of_each_kind():
        for call in (
            lambda: model.fit(X, y, verbose=0),  # noqa: B023
            lambda: model.fit(X, Y, validation_data=(X, y), verbose=0),  # noqa: B023
            lambda: model.evaluate(X, y, verbose=0),  # noqa: B023
            lambda: model.train_on_batch(X, y),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=message) as error:
                call()
            assert len(str(error.value)) < 300


def test_encode_requires_numbers_as_attributes():
    model = of_each_kind()[-1]
    for y in (np.full([8, 3], "a"), np.ones([8, 3], "complex64"), tf.fill([8, 3], "a")):
        with pytest.raises(ValueError, match=r"(array of numbers|is float32)\b.*Received: "):
            model.encode(X, y=y)


def test_a_model_without_a_condition_ignores_numbers_and_the_labels_of_a_dataset():
    vae = of_each_kind()[0]
    for y in (Y, Y.astype("float16"), np.stack([Y] * 2, 1), {"y": Y}):
        vae.fit(X, y, verbose=0)
    names = tf.constant(["a"] * 8)
    vae.fit(tf.data.Dataset.from_tensor_slices((X, names)).batch(8), verbose=0)


def test_a_condition_is_required_of_every_source(model):
    message = r"takes a condition: train on \(x, y\), and pass `y`, int32 of shape \[B\]. Received: y=None"
    for data in (X, tf.data.Dataset.from_tensor_slices(X).batch(2), (x for x in [X[:2]])):
        with pytest.raises(ValueError, match=message):
            model.fit(data, verbose=0)


def test_images_and_labels_of_different_number_are_refused(model):
    with pytest.raises(ValueError, match=r"Expected `y` of shape \[8\]. Received: shape \(1,\)"):
        model.train_on_batch(X, Y[:1])


@pytest.mark.parametrize("wrap", [dataset, generator, Batches])
def test_predict_refuses_batches_out_of_range(wrap):
    plain = zoo.models.autoencoder((2, 2, 1), latent_dim=1, hidden=(2,))
    assert plain.predict(wrap(X, Y), verbose=0).shape == X.shape
    with pytest.raises(
        ValueError, match=IMAGES + r".*of the prediction is batch 3, counted from 0"
    ):
        plain.predict(wrap(last_row(X, 2.0), Y), verbose=0)
    with pytest.raises(ValueError, match=IMAGES + "uint8"):
        plain.predict(wrap(X.astype(np.uint8), Y), verbose=0)


@pytest.mark.parametrize(
    "how",
    [{"run_eagerly": True}, slow({"jit_compile": True, "steps_per_execution": 4})],
    ids=["eager", "jit, 4 steps"],
)
def test_the_way_of_running_steps_does_not_matter(how):
    model = builder(**how)
    model.fit(dataset(X, Y), verbose=0)
    with pytest.raises(ValueError, match=IMAGES + "values from .* to 7.0; scale them"):
        model.fit(dataset(last_row(X, 7.0), Y), verbose=0)
    with pytest.raises(ValueError, match=LABELS):
        model.fit(dataset(X, Y + 1), verbose=0)


def test_a_bad_row_on_either_replica_is_refused(mirrored):
    with mirrored.scope():
        model = zoo.models.autoencoder((2, 2, 1), latent_dim=1, hidden=(2,))
        model.compile(keras.optimizers.SGD(0.0))
    for row in (0, 1):
        x = X.copy()
        x[row] = [[[-3.0], [0.5]], [[0.5], [4.0]]]
        with pytest.raises(ValueError, match=r"from -3.0 to 4.0; .* training is batch 0"):
            model.fit(dataset(x, Y), verbose=0)
        x[row] = np.nan
        with pytest.raises(ValueError, match="from nan to nan"):
            model.fit(dataset(x, Y), verbose=0)


def test_the_error_names_the_first_bad_batch(model):
    x = X.copy()
    x[4], x[6] = 2.0, 3.0
    with pytest.raises(ValueError, match=r"to 2.0; .*of the training is batch 2, counted from 0"):
        model.fit(dataset(x, Y), verbose=0)


def test_a_model_trains_after_invalid_data_is_repaired(model):
    with pytest.raises(ValueError, match=IMAGES):
        model.fit(dataset(2 * X, Y), verbose=0)
    model.fit(dataset(X, Y), validation_data=dataset(X, Y), verbose=0)


# Callbacks and files --------------------------------------------------------------------------


@pytest.mark.parametrize("save_freq", [1, "epoch"])
def test_no_callback_saves_a_model_after_an_invalid_batch(model, tmp_path, save_freq):
    save = keras.callbacks.ModelCheckpoint(tmp_path / "m.weights.h5", save_weights_only=True,
                                           save_freq=save_freq)  # fmt: skip
    x = X.copy()
    x[0] = 2.0
    with pytest.raises(ValueError, match=IMAGES):
        model.fit(dataset(x, Y), callbacks=[save], verbose=0)
    assert not list(tmp_path.iterdir())


def test_a_list_of_callbacks_of_the_caller_is_guarded_and_left_unchanged(model):
    callbacks = keras.callbacks.CallbackList([keras.callbacks.History()], model=model)
    with pytest.raises(ValueError, match=IMAGES):
        model.fit(dataset(2 * X, Y), callbacks=callbacks, verbose=0)
    assert [type(c) for c in callbacks.callbacks] == [keras.callbacks.History]


def test_the_records_are_not_part_of_the_model(model):
    names = {v.path for v in model.variables}
    assert not [name for name in names if "batches" in name or "spans" in name]


def test_a_custom_loop_reads_the_record():
    model = builder()
    step = tf.function(model.train_step, autograph=False)
    step((tf.constant(X), tf.constant(Y)))
    model.check_record("training")
    step((tf.constant(2 * X), tf.constant(Y)))
    with pytest.raises(ValueError, match=IMAGES + ".*training is batch 1"):
        model.check_record("training")


def test_an_exported_model_refuses_values_out_of_range(tmp_path):
    model = zoo.models.autoencoder((2, 2, 1), latent_dim=1, hidden=(2,))
    zoo.export.export(model, tmp_path / "served")
    encode = tf.saved_model.load(tmp_path / "served").signatures["encode"]
    assert encode(x=tf.constant(X))["latents"].shape == [8, 1]
    with pytest.raises(tf.errors.InvalidArgumentError, match=IMAGES):
        encode(x=tf.constant(255 * X))


def test_an_assertion_in_a_graph_refuses_images_and_labels(model):
    check = tf.function(model.assert_valid, autograph=False)
    check(X, Y)
    with pytest.raises(tf.errors.InvalidArgumentError, match=IMAGES):
        check(2 * X, Y)
    with pytest.raises(tf.errors.InvalidArgumentError, match=LABELS[:-12]):
        check(X, Y + 5)


# Conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "good", "bad", "message"),
    [
        (
            "attributes",
            2,
            np.eye(2)[Y % 2],
            2 * np.eye(2)[Y % 2],
            "Attributes are numbers from 0 to 1. Received: values from 0.0 to 2.0",
        ),
        (
            "seen",
            0,
            np.where(X > 0.5, X, -1),
            np.where(X > 0.5, X, -0.5),
            r"The seen part of an image is in \[0, 1\], and -1 where it is hidden. "
            "Received: values from -0.5 to",
        ),
    ],
)
def test_conditions_out_of_range_are_refused(name, size, good, bad, message):
    model = zoo.models.cvae(
        (2, 2, 1), latent_dim=1, hidden=(2,), condition=name, condition_size=size
    )
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    good, bad = np.float32(good), np.float32(bad)
    model.fit(dataset(X, good), verbose=0)
    for call in (
        lambda y: model.fit(dataset(X, y), verbose=0),
        lambda y: model.train_on_batch(X, y),
        lambda y: model.sample(8, y),
        lambda y: model.encode(X, y),
    ):
        with pytest.raises(ValueError, match=message):
            call(bad)
        with pytest.raises(ValueError, match="from nan to nan; repair or remove these"):
            call(np.full_like(good, np.nan))


def test_a_condition_of_another_kind_is_any_finite_numbers():
    def network(inputs, outputs):
        x, y = keras.Input(inputs), keras.Input((1,))
        h = keras.layers.Concatenate()([keras.layers.Flatten()(x), y])
        h = keras.layers.Dense(math.prod(outputs))(h)
        return keras.Model([x, y], keras.layers.Reshape(outputs)(h))

    model = zoo.CGAN(network((1,), (2, 2, 1)), network((2, 2, 1), (1,)), zoo.StandardNormal(1))
    assert model.sample(2, [[-7.0], [40.0]]).shape == (2, 2, 2, 1)
    with pytest.raises(ValueError, match="A condition consists of finite numbers"):
        model.sample(2, [[np.nan], [0.0]])


def test_both_streams_of_a_semi_supervised_batch_are_checked():
    model = zoo.models.m2(
        (2, 2, 1), latent_dim=1, hidden=(2,), classifier_hidden=(2,), num_classes=3
    )
    model.labelled_share = 0.5
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)

    def streams(first, second, y):
        return tf.data.Dataset.from_tensors(((first * X, y), second * X))

    for factors in ((1, 2), (2, 1)):
        with pytest.raises(ValueError, match=IMAGES):
            model.fit(streams(*factors, Y), verbose=0)
    with pytest.raises(ValueError, match=r"from 0 to 2.*Received: labels from 1 to 3"):
        model.fit(streams(1, 1, Y + 1), verbose=0)
    with pytest.raises(ValueError, match=r"every image of a batch \(x, y\) has a label"):
        model.fit(streams(1, 1, Y - 1), verbose=0)


# Data sets ------------------------------------------------------------------------------------


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


def test_dicts_of_a_data_set_are_refused_with_their_conversion(digits):
    model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,))
    model.compile("sgd", run_eagerly=True)
    rows = {"image": (255 * digits[:10]).astype(np.uint8), "label": np.arange(10)}
    data = tf.data.Dataset.from_tensor_slices(rows).batch(5)
    words = r"lambda row: .*Received: .*\['image', 'label'\]"
    for call in (model.fit, model.evaluate, model.predict):
        with pytest.raises(ValueError, match=words):
            call(data, verbose=0)
    for call in (model.fit, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=words):
            call(rows)
    model.fit(data.map(lambda row: (tf.cast(row["image"], tf.float32) / 255, row["label"])))
    assert int(model.step) == 2
