"""Data sets by name against known statistics, and builders of TFDS on tiny original files."""

import errno
import zipfile

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from zoo import datasets
from zoo.datasets.pixels import centre_crop, square


def test_digits_match_scikit_learn():
    data, bunch = datasets.load("digits"), load_digits()
    parts = [data.arrays(split) for split in ("train", "validation", "test")]
    assert data.sizes == {"train": 1000, "validation": 350, "test": 447}
    assert data.image_shape == (8, 8, 1) and data.has_labels
    assert data.label_names == tuple("0123456789")
    x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    np.testing.assert_array_equal(x[..., 0], bunch.images / 16)
    np.testing.assert_array_equal(y, bunch.target)
    assert x.dtype == np.float32 and y.dtype == np.int32


def test_digits_are_resized():
    x, _ = datasets.load("digits", image_size=16).arrays("test", 1)
    assert x.shape == (1, 16, 16, 1)
    source = np.round(load_digits().images[1350] * 255 / 16).astype(np.uint8)
    expected = Image.fromarray(source).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(x[0, ..., 0] * 255, expected, atol=1)


@pytest.mark.parametrize("size", [7, 16, 28, 50])
def test_resizing_is_antialiased_as_in_pillow(size):
    grid = np.indices((48, 48)).sum(0)
    checkers, gradient = (grid % 2 * 255).astype(np.uint8), (grid * 2).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    for image in checkers, gradient, noise:
        expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(
            square(tf.constant(image[..., None]), size)[..., 0].numpy().astype(int),
            np.asarray(expected, int),
            atol=1,
        )


def test_square_crops_the_centre_and_keeps_exact_pixels():
    image = np.random.default_rng(0).integers(0, 256, (10, 31, 3), dtype=np.uint8)
    np.testing.assert_array_equal(square(tf.constant(image), 10), image[:, 10:20])
    np.testing.assert_array_equal(centre_crop(tf.constant(image), 4, 5), image[3:7, 13:18])


def test_the_error_of_an_unknown_name_suggests_a_similar_name():
    for function in datasets.load, datasets.check:
        with pytest.raises(ValueError, match=r"Unknown data set 'mnits'.*did you mean 'mnist'"):
            function("mnits")
    assert datasets.names() == sorted(datasets.names()) and "svhn_cropped" in datasets.names()


@pytest.mark.parametrize("size", [0, -3, 2.5, True, (8, 8)])
def test_image_size_must_be_a_positive_int(size):
    with pytest.raises(ValueError, match="positive int"):
        datasets.load("digits", image_size=size)


def test_check_reads_and_downloads_nothing(tmp_path):
    for name in set(datasets.names()) - {"folder"}:
        datasets.check(name, data_dir=str(tmp_path / "absent"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(datasets.DatasetNotFound, match="not a folder"):
        datasets.check("mnist", data_dir=str(tmp_path / "file"))


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_the_error_of_a_missing_set_names_the_folder_and_the_remedy(tmp_path, monkeypatch, by):
    def no_network(*args, **kwargs):
        raise requests.ConnectionError("no network in the tests")

    def retried_for_minutes(*args, **kwargs):
        raise AssertionError("TFDS must not try a network that is absent")

    monkeypatch.setattr(requests, "head", no_network)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", retried_for_minutes)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(datasets.DatasetNotFound) as caught:
        datasets.load("svhn_cropped", data_dir=str(tmp_path) if by == "argument" else None)
    message = str(caught.value)
    assert str(tmp_path) in message and "train_32x32.mat" in message
    assert str(tmp_path / "downloads" / "manual") in message and "TFDS_DATA_DIR" in message
    assert "no connection to ufldl.stanford.edu" in message
    assert not list(tmp_path.iterdir())  # A failure leaves no files.


def test_svhn_is_prepared_from_its_original_files(tmp_path, make_svhn, capfd):
    stored = make_svhn(train=20, test=6, extra=2)
    data = datasets.load("svhn_cropped", data_dir=str(tmp_path))
    assert capfd.readouterr().out == ""
    assert data.sizes == {"train": 18, "validation": 2, "test": 6}
    assert data.image_shape == (32, 32, 3)
    for split, part in {"train": "train", "validation": "train", "test": "test"}.items():
        x, y = data.arrays(split)
        for image, label in zip(np.round(x * 255).astype(np.uint8), y, strict=True):
            assert stored.pop((part, image.tobytes())) == label
    assert {part for part, _ in stored} == {"extra"}
    again = datasets.load("svhn_cropped", data_dir=str(tmp_path))  # The data set is prepared now.
    np.testing.assert_array_equal(again.arrays("train")[0], data.arrays("train")[0])


def test_a_wrong_original_file_raises(tmp_path):
    folder = tmp_path / "downloads" / "manual"
    folder.mkdir(parents=True)
    for part in "train", "test", "extra":
        (folder / f"{part}_32x32.mat").write_bytes(b"not the registered file")
    with pytest.raises(datasets.DatasetNotFound, match="NonMatchingChecksumError"):
        datasets.load("svhn_cropped", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Not enough disk space. Needed: 1 MiB"),
        tf.errors.ResourceExhaustedError(None, None, "/sets/a; No space left on device"),
    ],
)
def test_the_error_of_a_full_disk_names_the_folder_of_the_sets(
    tmp_path, make_svhn, monkeypatch, error
):
    def fail(*args, **kwargs):
        raise error

    make_svhn(train=20, test=6, extra=2)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        datasets.load("svhn_cropped", data_dir=str(tmp_path))


def test_celeba_is_prepared_from_its_original_files(tmp_path, manual):
    attributes = list(tfds.builder("celeb_a", data_dir=tmp_path).info.features["attributes"])
    files = [f"{i:06d}.jpg" for i in range(1, 7)]
    bits = np.random.default_rng(0).integers(0, 2, (6, 40))
    with zipfile.ZipFile(manual / "img_align_celeba.zip", "w") as archive:
        for i, file in enumerate(files):
            image = np.full((218, 178, 3), 255, np.uint8)  # White around the central 148x148.
            image[35:183, 15:163] = 20 * i
            path = tmp_path / file
            Image.fromarray(image).save(path, quality=100, subsampling=0)
            archive.write(path, f"img_align_celeba/{file}")

    def table(name, header, rows):
        lines = [*header, *(f"{file} {row}" for file, row in zip(files, rows, strict=True)), ""]
        (manual / name).write_text("\n".join(lines))

    table("list_eval_partition.txt", [], [0, 0, 0, 1, 2, 2])
    signs = [" ".join(map(str, row)) for row in np.where(bits, 1, -1)]
    table("list_attr_celeba.txt", ["6", " ".join(attributes)], signs)
    places = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    columns = " ".join(f"{place}_{axis}" for place in places for axis in "xy")
    table("list_landmarks_align_celeba.txt", ["6", columns], ["1 " * 10] * 6)
    table("identity_CelebA.txt", [], range(6))

    data = datasets.load("celeb_a", data_dir=str(tmp_path))
    assert data.sizes == {"train": 3, "validation": 1, "test": 2}
    assert data.image_shape == (64, 64, 3)
    assert data.label_names is None and data.attribute_names == tuple(attributes)
    for split, members in {"train": {0, 1, 2}, "validation": {3}, "test": {4, 5}}.items():
        x, y = data.arrays(split)
        assert y.dtype == np.float32
        who = np.round(x[:, 32, 32, 0] * 255 / 20).astype(int)
        assert set(who) == members
        np.testing.assert_array_equal(y, bits[who])
        # The window is exact: one white row at an edge would add 50 or more, and JPEG's ringing
        # adds about ten.
        np.testing.assert_allclose(x * 255, x[:, 32:33, 32:33] * 255 + np.zeros_like(x), atol=20)


@pytest.mark.slow
def test_mnist_has_the_known_sizes_and_mean(prepared):
    data = prepared("mnist")
    assert data.sizes == {"train": 50_000, "validation": 10_000, "test": 10_000}
    x, y = data.arrays("test")
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_array_equal(np.bincount(y), counts)
    whole = np.concatenate([data.arrays(split)[1] for split in ("train", "validation")])
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(whole), counts)
    assert x.shape == (10_000, 28, 28, 1) and x.min() == 0 and x.max() == 1
    assert abs(data.arrays("train", 10_000)[0].mean() - 0.1307) < 0.005  # The known mean of MNIST.


@pytest.mark.slow
def test_dynamic_mnist_keeps_the_mean(prepared):
    plain = prepared("mnist")
    drawn = prepared("mnist", binarize="dynamic")
    first, second = (
        np.mean([x.numpy().mean() for x, _ in data.batches("train", 500)])
        for data in (plain, drawn)
    )
    assert abs(first - second) < 2e-4  # about 8 standard deviations over 39 million pixels


@pytest.mark.slow
def test_fashion_mnist_is_balanced(prepared):
    data = prepared("fashion_mnist")
    np.testing.assert_array_equal(np.bincount(data.arrays("test")[1]), [1000] * 10)
    assert data.label_names[0] == "T-shirt/top"


@pytest.mark.slow
def test_binarized_mnist_has_zeros_and_ones(prepared):
    data = prepared("binarized_mnist")
    assert data.sizes == {"train": 50_000, "validation": 10_000, "test": 10_000}
    x, y = data.arrays("test")
    assert y is None and not data.has_labels and data.label_names is None
    np.testing.assert_array_equal(np.unique(x), [0, 1])
    assert 0.12 < x.mean() < 0.14
    assert data.batches("train", 10).element_spec.shape == (None, 28, 28, 1)


@pytest.mark.parametrize("options", [{"binarize": "dynamic"}, {"image_size": 32}])
def test_binarized_mnist_takes_no_options_of_pixels(options):
    with pytest.raises(ValueError, match="already binary"):
        datasets.load("binarized_mnist", **options)


@pytest.mark.slow
def test_cifar10_has_the_known_sizes_and_pixels(prepared):
    data = prepared("cifar10")
    x, y = data.arrays("test", 200)
    assert data.image_shape == (32, 32, 3) and x.shape == (200, 32, 32, 3)
    assert set(y) == set(range(10)) and data.label_names[9] == "truck"
    assert data.sizes["train"] == 9 * data.sizes["validation"]
    small, _ = prepared("cifar10", image_size=16).arrays("test", 200)
    blocks = x.reshape(200, 16, 2, 16, 2, 3).mean(
        (2, 4)
    )  # Close to the average of a triangle filter.
    assert np.abs(small - blocks).mean() < 0.03


def test_omniglot_has_bright_strokes_on_zero(prepared):
    data = prepared("omniglot")
    x, y = data.arrays("test")
    assert data.image_shape == (28, 28, 1) and x.min() == 0
    assert 0.02 < x.mean() < 0.2  # Thin strokes on an empty background.
    assert (x[:, 0, 0, 0] == 0).mean() > 0.95
    assert y.max() < len(data.label_names)
    assert prepared("omniglot", image_size=105).arrays("test", 5)[0].shape == (5, 105, 105, 1)


def test_four_points_have_one_lit_pixel_with_equal_frequencies():
    data = datasets.load("four_points")
    assert datasets.expected("four_points") == (data.image_shape, data.levels) == ((2, 2, 1), 2)
    for split in ("validation", "test"):
        x, y = data.arrays(split)
        np.testing.assert_array_equal(x.reshape(512, 4), np.eye(4)[y])
        assert (np.bincount(y) == 128).all()
    x, y = next(iter(data.batches("train", 4000, shuffle=True)))
    np.testing.assert_array_equal(x.numpy().reshape(-1, 4), np.eye(4)[y])
    assert np.abs(np.bincount(y) - 1000).max() < 150 and data.sizes["train"] == 512_000
    assert datasets.expected("four_points", 2) == ((2, 2, 1), 2)
    for find in (datasets.load, datasets.expected):
        with pytest.raises(ValueError, match=r"2x2 pixels\. Received: image_size=4"):
            find("four_points", image_size=4)
