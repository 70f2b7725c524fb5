"""The extractor, with networks of known features."""

import json

import numpy as np
import pytest
import tensorflow as tf

import zoo.features
from zoo.features import Extractor, preprocess


def means(images):
    """The mean of each channel as features, and no logits."""
    return tf.reduce_mean(images, [1, 2]), None


def extractor(network=means, **changed):
    settings = {"dim": 3, "classes": None, "layer": "mean", "train_data": "nothing", "size": 8}
    return Extractor("means", network, weights_sha256="00", **settings | changed)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, [7, 8, 8, 3], np.uint8)


def test_features_are_in_the_order_of_the_images(images):
    expected = images.mean((1, 2)) / 255
    for batch_size in (1, 3, 7, 100):
        features, logits = extractor()(images, batch_size)
        np.testing.assert_allclose(features, expected, rtol=1e-5)
        assert features.dtype == np.float32 and logits is None


def test_the_network_receives_the_result_of_preprocess(images):
    batches = []

    def network(batch):
        batches.append(batch)
        return means(batch)

    settings = {"size": 19, "method": "tf1_bilinear", "value_range": (-1.0, 1.0)}
    extractor(network, **settings)(images / 255, batch_size=4)
    np.testing.assert_array_equal(np.concatenate(batches), preprocess(images, **settings))


def test_logits_are_kept(images):
    def network(batch):
        mean = tf.reduce_mean(batch, [1, 2])
        return mean, tf.concat([mean, -mean], 1)

    features, logits = extractor(network, classes=6)(images, batch_size=3)
    np.testing.assert_array_equal(logits, np.concatenate([features, -features], 1))


def test_images_are_checked_together(images):
    nearly_black = np.zeros_like(images)
    nearly_black[0] = 1
    nearly_black[1] = 200
    features, _ = extractor()(nearly_black, batch_size=1)
    np.testing.assert_allclose(features[:3, 0], [1 / 255, 200 / 255, 0], rtol=1e-6)
    bad = images / 255
    bad[-1, 0, 0, 0] = np.nan
    calls = []
    with pytest.raises(ValueError, match="nan"):
        extractor()(bad, 1, progress=lambda *n: calls.append(n))
    assert not calls


def test_progress_counts_images(images):
    calls = []
    extractor()(images, batch_size=3, progress=lambda *n: calls.append(n))
    assert calls == [(3, 7), (6, 7), (7, 7)]


def test_a_batch_holds_at_least_one_image(images):
    with pytest.raises(ValueError, match=r"at least 1. Received: 0"):
        extractor()(images, batch_size=0)


def test_published_names_require_published_protocols():
    own, published = extractor(), extractor(protocol="clean")
    assert [own.name_of(m) for m in ("fid", "kid", "score", "precision")] == [
        "classifier-FID[means]",
        "classifier-KID[means]",
        "classifier-score[means]",
        "precision[means]",
    ]
    assert [published.name_of(m) for m in ("fid", "kid", "score", "precision")] == [
        "fid",
        "kid",
        "inception_score",
        "precision[means]",
    ]


def test_the_description_is_json():
    it = extractor(method="tf1_bilinear", protocol="ttur")
    assert json.loads(json.dumps(it.about())) == {
        "id": "means",
        "dim": 3,
        "layer": "mean",
        "weights_sha256": "00",
        "train_data": "nothing",
        "protocol": "ttur",
        "eval_mode": True,
    }
    assert json.loads(json.dumps(it.preprocessing)) == {
        "size": 8,
        "method": "tf1_bilinear",
        "antialias": False,
        "quantise": "uint8",
        "gray": "repeat",
        "range": [0.0, 1.0],
    }
    assert extractor().preprocessing["antialias"]


def test_networks_are_found_by_name():
    assert zoo.features.names() == [
        "efficientnet-lite0-imagenet",
        "fashion-cnn-v1",
        "inception-clean",
        "inception-ttur",
        "keras-inceptionv3-imagenet",
        "mnist-cnn-v1",
    ]
    with pytest.raises(ValueError, match=r"'inception-tur'.*did you mean 'inception-ttur'\?"):
        zoo.features.get("inception-tur")


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("mnist", "mnist-cnn-v1"),
        ("binarized_mnist", "mnist-cnn-v1"),
        ("fashion_mnist", "fashion-cnn-v1"),
        ("digits", None),
        ("cifar10", None),
    ],
)
def test_each_data_set_has_its_network(dataset, name):
    assert zoo.features.for_dataset(dataset) == name
