"""The shipped classifiers: their arithmetic, their files, and their accuracy."""

import hashlib
import re
from importlib import resources

import numpy as np
import pytest
from speed import slow

import zoo.features
from zoo.features import catalog, classifier

NAMES = sorted(catalog.CLASSIFIERS)
SHIPPED = resources.files("zoo.features") / "weights"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, [5, 28, 28, 1], np.uint8)


def weights(name):
    with np.load(SHIPPED / f"{name}.npz", allow_pickle=False) as archive:
        return [archive[f"arr_{i}"] for i in range(len(archive.files))]


def by_hand(x, arrays):
    """The network in NumPy and float64, from the arrays of the file."""
    arrays = iter([array.astype("float64") for array in arrays])

    def convolution(x):
        kernel, gamma, beta, mean, variance = (next(arrays) for _ in range(5))
        x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
        x = np.einsum("nijchw,hwcf->nijf", windows, kernel, optimize=True)
        return np.maximum((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)

    def halved(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))

    x = halved(convolution(convolution(x)))
    x = halved(convolution(convolution(x)))
    features = convolution(x).mean((1, 2))
    return features, features @ next(arrays) + next(arrays)


@pytest.mark.parametrize("name", NAMES)
def test_features_and_logits_are_computed_in_evaluation_mode(name, images):
    features, logits = by_hand(images / 255, weights(name))
    result = zoo.features.get(name)(images)
    np.testing.assert_allclose(result.features, features, atol=1e-4 * features.max())
    np.testing.assert_allclose(result.logits, logits, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("name", NAMES)
def test_features_depend_neither_on_batches_nor_on_the_type(name, images):
    extractor = zoo.features.get(name)
    whole = extractor(images)
    for other in (extractor(images, batch_size=2), extractor(images / 255)):
        np.testing.assert_allclose(other.features, whole.features, atol=1e-5)
        np.testing.assert_allclose(other.logits, whole.logits, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "least"), [slow("mnist-cnn-v1", 0.99), slow("fashion-cnn-v1", 0.91)]
)
def test_test_images_are_classified_accurately(name, least, prepared):
    images, labels = prepared(catalog.CLASSIFIERS[name].datasets[0]).arrays("test", 2000)
    logits = zoo.features.get(name)(images).logits
    assert np.mean(logits.argmax(1) == labels) >= least


@pytest.mark.parametrize("name", NAMES)
def test_the_card_matches_the_weights(name):
    found = hashlib.sha256((SHIPPED / f"{name}.npz").read_bytes()).hexdigest()
    card = (SHIPPED / f"{name}.md").read_text()
    assert zoo.features.get(name).weights_sha256 == found
    assert f"SHA-256 of the file | `{found}`" in card
    assert f"--dataset={catalog.CLASSIFIERS[name].datasets[0]} " in card
    least = {"mnist-cnn-v1": 99.2, "fashion-cnn-v1": 92.0}[name]
    assert float(re.search(r"test accuracy \| ([\d.]+)% of 10,000", card)[1]) >= least


@pytest.mark.parametrize("name", NAMES)
def test_colour_images_are_refused(name):
    with pytest.raises(ValueError, match="takes grey images"):
        zoo.features.get(name)(np.zeros([2, 28, 28, 3], np.uint8))


def test_images_of_other_sizes_are_resized(images):
    small = images[:, :14, :14]
    result = zoo.features.get("mnist-cnn-v1")(small)
    resized = zoo.features.preprocess(small, 28, "bicubic", "keep", (0, 1)).astype("float64")
    expected, _ = by_hand(resized, weights("mnist-cnn-v1"))
    np.testing.assert_allclose(result.features, expected, atol=1e-4 * expected.max())


def test_other_weights_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    arrays = weights("mnist-cnn-v1")
    np.savez(path, *arrays)
    assert zoo.features.get("mnist-cnn-v1", path).id == "mnist-cnn-v1"
    arrays[0][0, 0, 0, 0] += 1e-3
    np.savez(path, *arrays)
    with pytest.raises(ValueError, match=r"must hold the weights of 'mnist-cnn-v1', SHA-256"):
        zoo.features.get("mnist-cnn-v1", path)


def test_missing_weights_are_reported(tmp_path):
    with pytest.raises(zoo.features.WeightsNotFound, match="is not a file"):
        zoo.features.get("mnist-cnn-v1", tmp_path / "absent.npz")


def test_saved_weights_are_read(tmp_path, images):
    network = classifier.classifier(classes=7)
    classifier.save(network, tmp_path / "weights.npz")
    again = classifier.load(tmp_path / "weights.npz")
    x = images.astype("float32") / 255
    for expected, result in zip(network(x), again(x), strict=True):
        np.testing.assert_array_equal(result, expected)
    assert result.shape == (5, 7)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_text("no archive")
    wrong = [lambda: None]
    wrong += [lambda: np.savez(path), lambda: np.savez(path, *[np.zeros([3, 3])] * 27)]
    wrong += [lambda: np.savez(path, np.array([{}], dtype=object))]  # would be unpickled
    for write in wrong:
        write()
        with pytest.raises(ValueError, match="must hold the weights of a classifier"):
            classifier.load(path)
