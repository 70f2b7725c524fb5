"""The start of decoders at the mean of the training images: which biases are set, and from which data.

Conformance checks the start of every model, and `tests/distributions/test_families.py` the locations
of all families.
"""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logit

import zoo
from zoo import mean_start


def vae(**options):
    model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,), **options)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


def bias(model):
    return model.likelihood.network.weights[-1].numpy()


def logits_of_mean(x):
    """As in the code of Burda et al."""
    return logit(np.clip(np.mean(x, 0, np.float64), 0.001, 0.999)).ravel()


def untouched(model):
    return not bias(model).any()


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*the mean of the data")
        yield


def generator(digits):
    for batch in digits.reshape(4, 50, 8, 8, 1):
        yield (batch,)


class Batches(keras.utils.PyDataset):
    """The digits in 4 batches."""

    def __init__(self, digits):
        super().__init__()
        self.digits = digits

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return self.digits[i * 50 : (i + 1) * 50]


def dataset(digits, labels=False):
    data = tf.data.Dataset.from_tensor_slices(digits).batch(50)
    return data.map(lambda x: (x, tf.zeros(50))) if labels else data


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        (lambda digits: digits, {"batch_size": 50}),
        (dataset, {}),
        (Batches, {}),
        (generator, {"steps_per_epoch": 4}),
    ],
    ids=["array", "dataset", "PyDataset", "generator"],
)
def test_fit_starts_the_decoder_at_the_mean_of_its_data(form, settings, digits):
    model = vae()
    model.fit(form(digits), verbose=0, **settings)
    of_mean = digits[:50] if form is generator else digits
    np.testing.assert_allclose(bias(model), logits_of_mean(of_mean), rtol=1e-5)
    assert int(model.step) == 4  # All batches were trained on, also the first of a generator.


def test_the_mean_is_that_of_the_training_data(digits):
    for data, options, of_mean in [
        (tf.constant(digits), {}, digits),
        (digits, {"validation_split": 0.25}, digits[:150]),
        (dataset(digits, labels=True), {}, digits),
        (dataset(digits).repeat(), {}, digits),
    ]:
        model = vae()
        assert mean_start.from_training(model, data, **options) is data
        np.testing.assert_allclose(bias(model), logits_of_mean(of_mean), rtol=1e-5)


def test_without_the_option_no_bias_is_set(digits):
    model = vae(start_at_mean=False)
    model.adapt(zoo.datasets.load("digits"))
    model.fit(digits, verbose=0)
    assert untouched(model)
    assert model.get_config()["start_at_mean"] is False
    assert vae().get_config()["start_at_mean"] is True


def test_adapt_takes_the_mean_of_grey_images_where_draws_are_dynamic():
    model, data = vae(), zoo.datasets.load("digits", binarize="dynamic")
    model.adapt(data)
    grey = data.pixels("train") / 255
    np.testing.assert_allclose(bias(model), logits_of_mean(grey), rtol=0.02, atol=0.01)
    start = bias(model)
    mean_start.from_training(model, data.batches("train", 600))  # `fit` keeps the start of `adapt`.
    np.testing.assert_array_equal(bias(model), start)


def test_adapt_takes_the_mean_of_fixed_binary_images():
    model, data = vae(), zoo.datasets.load("digits", binarize="fixed")
    model.adapt(data)
    np.testing.assert_allclose(bias(model), logits_of_mean(data.arrays("train")[0]), rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "labels"),
    [
        (zoo.models.beta_tcvae, None),
        (zoo.models.m2, 100),
        (zoo.models.semi_supervised_aae, 100),
        (zoo.models.label_informed_aae, None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_models_that_adapt_to_more_start_at_the_mean_as_well(build, labels):
    model, data = build((8, 8, 1), hidden=(4,)), zoo.datasets.load("digits", num_labels=labels)
    model.adapt(data)
    np.testing.assert_allclose(bias(model), logits_of_mean(data.arrays("train")[0]), rtol=1e-5)


def test_a_second_fit_keeps_the_weights_of_the_first(digits):
    model = vae()
    model.fit(digits[:100], batch_size=100, verbose=0)
    start = bias(model)
    model.fit(1 - digits, batch_size=200, verbose=0)
    model.adapt(zoo.datasets.load("digits"))
    np.testing.assert_array_equal(bias(model), start)


def test_a_model_that_was_trained_from_zero_keeps_its_bias(digits):
    model = vae()
    model.train_step(tf.constant(digits))  # The rate of learning is 0, so that the bias stays 0.
    model.fit(digits, batch_size=200, verbose=0)
    assert int(model.step) == 2 and untouched(model)


@pytest.mark.parametrize("form", ["weights", "file", "decoder"])
def test_a_loaded_model_keeps_its_weights(form, digits, tmp_path):
    trained = vae()
    mean_start.from_training(trained, digits[:100])
    trained.train_step(tf.constant(digits[:100]))
    if form == "file":
        trained.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    else:
        model = vae()
        part = model if form == "weights" else model.likelihood
        source = trained if form == "weights" else trained.likelihood
        part.set_weights(source.get_weights())  # A decoder without the number of steps
    mean_start.from_training(model, 1 - digits)
    model.adapt(zoo.datasets.load("digits"))
    np.testing.assert_array_equal(bias(model), bias(trained))


def test_frozen_and_initialised_biases_are_kept(digits):
    model = vae()
    model.likelihood.network.trainable = False
    mean_start.from_training(model, digits)
    assert untouched(model)
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(64, bias_initializer=keras.initializers.Constant(-2.0)),
            keras.layers.Reshape((8, 8, 1)),
        ]
    )
    parts = zoo.models.elbo.parts((8, 8, 1), latent_dim=2, hidden=(4,))
    model = zoo.VAE(**parts | {"likelihood": zoo.Conditional(decoder, zoo.Bernoulli())})
    mean_start.from_training(model, digits)
    assert (bias(model) == -2.0).all()


def test_a_network_without_a_bias_at_its_end_trains_and_warns(digits):
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(64, use_bias=False),
            keras.layers.Reshape((8, 8, 1)),
        ],
        name="plain",
    )
    parts = zoo.models.elbo.parts((8, 8, 1), latent_dim=2, hidden=(4,))
    model = zoo.VAE(**parts | {"likelihood": zoo.Conditional(decoder, zoo.Bernoulli())})
    model.compile("adam", run_eagerly=True)
    with pytest.warns(UserWarning, match=r"'plain' cannot start at the mean.*start_at_mean=False"):
        model.fit(digits, batch_size=200, verbose=0)
    model.fit(digits, batch_size=200, verbose=0)  # Once, for a new model
    assert int(model.step) == 2


def test_images_out_of_range_are_reported_by_the_step(digits):
    model = vae()
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        model.fit(dataset(digits * 2), verbose=0)
    assert untouched(model)
    shapes = tf.data.Dataset.from_generator(
        lambda: iter([digits[:, :4]]), output_signature=tf.TensorSpec([None] * 4)
    )
    mean_start.from_training(model, shapes)
    assert untouched(model)


def test_the_number_of_images_is_bounded(digits, monkeypatch):
    monkeypatch.setattr(mean_start, "MOST_IMAGES", 60)
    for x, of_mean in [
        (digits, digits[::4]),  # In steady steps
        (dataset(digits), digits[:100]),  # The first batches of 50
    ]:
        model = vae()
        mean_start.from_training(model, x)
        np.testing.assert_allclose(bias(model), logits_of_mean(of_mean), rtol=1e-5)


def test_two_streams_start_at_the_mean_of_the_unlabelled_images(digits):
    model = zoo.models.m2((8, 8, 1), latent_dim=2, hidden=(4,), classifier_hidden=(4,))
    stream = (digits[:20], np.zeros(20, np.int32)), digits[20:60]
    mean_start.from_training(model, tf.data.Dataset.from_tensors(stream))
    np.testing.assert_allclose(bias(model), logits_of_mean(digits[20:60]), rtol=1e-5)


def test_replicas_start_at_the_same_mean(digits, mirrored):
    with mirrored.scope():
        model = vae()
    mean_start.from_training(model, digits)
    variable = model.likelihood.network.weights[-1].value
    for copy in mirrored.experimental_local_results(variable):
        np.testing.assert_allclose(copy.numpy(), logits_of_mean(digits), rtol=1e-5)


def test_distributed_data_need_adapt(digits, mirrored):
    with mirrored.scope():
        model = vae()
    distributed = mirrored.experimental_distribute_dataset(dataset(digits))
    with pytest.warns(UserWarning, match=r"Call model.adapt\(data\) before training"):
        assert mean_start.from_training(model, distributed) is distributed
    assert untouched(model)
    model.adapt(zoo.datasets.load("digits"))
    mean_start.from_training(model, distributed)  # without a warning
    assert not untouched(model)


def test_scales_keep_their_initial_values(digits):
    model = vae(likelihood="normal")
    mean_start.from_training(model, digits)
    loc, raw = np.split(bias(model).reshape(8, 8, 2), 2, -1)
    np.testing.assert_allclose(loc, digits.mean(0), rtol=1e-5)
    assert not raw.any()


def test_a_convolution_starts_at_the_mean_of_each_channel():
    x = np.random.default_rng(0).uniform(size=[20, 8, 8, 3]).astype(np.float32) * [1.0, 0.5, 0.1]
    model = zoo.models.vae(
        (8, 8, 3), latent_dim=2, network="conv", filters=(4,), hidden=(4,), likelihood="bernoulli"
    )
    mean_start.from_training(model, x)
    np.testing.assert_allclose(bias(model), logit(x.mean((0, 1, 2))), rtol=1e-5)


def test_the_layers_of_a_dis_cvae_start_at_masked_means(digits):
    mask = np.random.default_rng(0).integers(0, 10, [200, 8, 8, 1]) / 9
    y = {"attributes": np.zeros([200, 1]), "mask": mask}
    sizes = {"network": "mlp", "hidden": (4,), "foreground_dim": 2, "background_dim": 2}
    for composite, colours, gates in [
        ("additive", mask * digits, 1 - mask),
        ("masked", digits, mask <= 0.5),
    ]:
        model = zoo.models.dis_cvae((8, 8, 1), composite=composite, **sizes)
        mean_start.from_training(model, digits, y)
        foreground = model.foreground.weights[-1].numpy().reshape(8, 8, 2)
        expected = [logits_of_mean(part).reshape(8, 8) for part in (colours, gates)]
        np.testing.assert_allclose(foreground, np.stack(expected, -1), rtol=1e-4)
        background = model.background.weights[-1].numpy()
        np.testing.assert_allclose(background, logits_of_mean(digits), rtol=1e-5)


def test_the_baseline_of_a_cvae_starts_at_the_mean(digits):
    sizes = {"hidden": (4,), "baseline_hidden": (4,), "latent_dim": 2}
    model = zoo.models.cvae((8, 8, 1), condition="seen", prior="conditional", **sizes)
    mean_start.from_training(model, digits, digits)
    baseline = model.prior.baseline.network.weights[-1].numpy()
    np.testing.assert_allclose(baseline, logits_of_mean(digits), rtol=1e-5)
