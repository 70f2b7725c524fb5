"""The record of values out of range, and counts."""

import functools

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.contract import FirstInvalid, Values, as_count, span_of

X = np.random.default_rng(0).uniform(size=(8, 2, 2, 1)).astype(np.float32)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_span_is_nan_wherever_the_nan_is(jit_compile):
    span = tf.function(span_of, jit_compile=jit_compile)
    for place in (0, 1, 2):
        values = np.array([-1.0, 0.0, 3.0], np.float32)
        np.testing.assert_array_equal(span(values), [-1, 3])
        values[place] = np.nan
        assert np.isnan(span(values)).all()


def test_an_empty_batch_is_valid():
    record = FirstInvalid(["images"])
    record.update({"images": Values(span_of(tf.zeros([0])), 0.0, 1.0)})
    assert record.result() is None


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), tf.constant(3)])
def test_every_kind_of_int_is_a_count(value):
    assert as_count(value, "n") == 3


@pytest.mark.parametrize(
    "value", [0, -1, True, np.True_, 2.0, np.float32(2), "3", None, [3], np.array([3, 4])]
)
def test_other_values_are_no_counts(value):
    with pytest.raises(ValueError, match=r"`n` must be (an int of )?at least 1. Received: "):
        as_count(value, "n")


NO_COUNTS = (0, -1, True, 2.0)


@functools.cache
def small_model():
    return zoo.models.vae((2, 2, 1), latent_dim=1, hidden=(2,))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda n: small_model().sample(n), "n"),
        (lambda n: small_model().sample_latents(n), "n"),
        (lambda n: small_model().interpolate(X[0], X[1], n), "n"),
        (lambda n: small_model().log_prob(X, n), "num_samples"),
        (lambda n: zoo.models.vae((2, 2, 1), num_samples=n), "num_samples"),
        (lambda n: zoo.models.vae((2, 2, n)), "image_shape"),
        (lambda n: zoo.models.vae((2, 2, 1), latent_dim=n), "latent_dim"),
        (lambda n: zoo.models.vae((2, 2, 1), hidden=(2, n)), "hidden"),
        (lambda n: zoo.models.gan((2, 2, 1), discriminator_steps=n), "discriminator_steps"),
        (lambda n: zoo.StandardNormal(n), "dim"),
        (lambda n: zoo.networks.OneHot(n), "classes"),
        (lambda n: zoo.schedules.LinearWarmUp(n), "steps"),
        (lambda n: zoo.metrics.classifier_score(np.eye(3), splits=n), "splits"),
        (lambda n: zoo.metrics.nearest_neighbours([[0.0]], [[1.0], [2.0]], k=n), "k"),
        (lambda n: zoo.metrics.negative_log_likelihood(small_model(), X.round(), n), "num_samples"),
        (lambda n: zoo.evaluation.images.sample_images(small_model(), n), "n"),
        (lambda n: zoo.datasets.load("digits").batches("train", n), "batch_size"),
        (lambda n: zoo.datasets.load("digits").arrays("test", n), "limit"),
    ],
)
def test_no_method_or_builder_takes_another_value_for_a_count(call, name):
    for value in NO_COUNTS:
        with pytest.raises(
            ValueError, match=rf"`{name}` must be .*at least \d. Received: {value}\."
        ):
            call(value)
    call(np.int64(2))


@pytest.mark.parametrize("seed", [-1, True, 1.0, [1.0, 2.0], [1, 2, 3], "1"])
def test_a_seed_is_an_int_of_at_least_0_or_two_ints(seed):
    with pytest.raises(ValueError, match=r"`seed` must be (an int of )?at least 0. Received: "):
        small_model().sample(1, seed=seed)


def test_the_seed_of_a_model_is_an_int():
    with pytest.raises(ValueError, match=r"`seed` must be an int of at least 0"):
        zoo.GenerativeModel(seed=1.5)
