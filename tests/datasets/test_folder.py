"""Folders of images which the tests write with Pillow."""

from itertools import chain

import numpy as np
import pytest
from PIL import Image

from zoo import datasets
from zoo.datasets import folder


def write(path, value=0, size=(8, 8), grey=False):
    """An image of one colour which `value` identifies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if grey else (value, 255 - value, 7)
    Image.new("L" if grey else "RGB", size, colour).save(path)


def load(path, **options):
    return datasets.load("folder", data_dir=str(path), **{"image_size": 8, **options})


def values(data, split):
    return np.round(data.arrays(split)[0][:, 0, 0, 0] * 255).astype(int).tolist()


def test_flat_folder_is_split_by_the_seed(tmp_path):
    for i in range(30):
        write(tmp_path / f"{i:02d}.png", 8 * i)
    data = load(tmp_path)
    assert data.sizes == {"train": 24, "validation": 3, "test": 3}
    assert data.image_shape == (8, 8, 3) and not data.has_labels and data.label_names is None
    found = [values(data, split) for split in data.sizes]
    assert sorted(chain(*found)) == [8 * i for i in range(30)]
    assert found == [values(load(tmp_path), split) for split in data.sizes]
    assert found != [values(load(tmp_path, seed=1), split) for split in data.sizes]


def test_subfolders_are_labels(tmp_path):
    for i in range(12):
        write(tmp_path / "zebra" / f"{i}.png", 10 + i)
        write(tmp_path / "ant" / f"{i}.PNG", 210 + i)
    data = load(tmp_path)
    assert data.label_names == ("ant", "zebra")
    for split in data.sizes:
        x, y = data.arrays(split)
        np.testing.assert_array_equal(y, x[:, 0, 0, 0] < 0.5)


def test_split_subfolders(tmp_path):
    for split, count in {"train": 10, "test": 4}.items():
        for i in range(count):
            write(tmp_path / split / "a" / f"{i}.png", (100 if split == "test" else 0) + i)
    data = load(tmp_path)
    assert data.sizes == {"train": 9, "validation": 1, "test": 4}
    assert sorted(values(data, "train") + values(data, "validation")) == list(range(10))
    assert values(data, "test") == [100, 101, 102, 103] and data.label_names == ("a",)
    write(tmp_path / "validation" / "a" / "only.png", 50)
    assert load(tmp_path).sizes == {"train": 10, "validation": 1, "test": 4}
    write(tmp_path / "validation" / "b" / "strange.png")
    with pytest.raises(ValueError, match=r"must be among those.*Received: b"):
        load(tmp_path)


def test_all_grey_images_have_one_channel(tmp_path):
    for i in range(5):
        write(tmp_path / f"{i}.jpg", 50 * i, grey=True)
    data = load(tmp_path)
    assert data.image_shape == (8, 8, 1)
    np.testing.assert_allclose(
        sorted(chain(*(values(data, split) for split in data.sizes))), np.arange(5) * 50, atol=2
    )
    write(tmp_path / "colour.png")
    assert load(tmp_path).image_shape == (8, 8, 3)


def test_images_are_cropped_and_resized(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    for i in range(3):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    centre = Image.fromarray(image[:, 12:52]).resize((10, 10), Image.Resampling.BILINEAR)
    x, _ = load(tmp_path, image_size=10).arrays("train")
    np.testing.assert_allclose(x[0] * 255, np.asarray(centre, float), atol=1.01)
    assert load(tmp_path, image_size=None).image_shape == (64, 64, 3)


@pytest.mark.parametrize("grey", [True, False])
def test_large_folders_decode_on_the_way(tmp_path, monkeypatch, grey):
    for i in range(20):
        write(tmp_path / str(i % 2) / f"{i}.png", 10 * i, size=(12, 9), grey=grey)
    held = load(tmp_path, binarize="dynamic")
    monkeypatch.setattr(folder, "MEMORY", 0)
    lazy = load(tmp_path, binarize="dynamic")
    assert lazy.image_shape == held.image_shape == (8, 8, 1 if grey else 3)
    assert lazy._splits["train"].images.dtype == "string"
    for (a, y), (b, z) in zip(
        *(data.batches("train", 5, shuffle=True) for data in (held, lazy)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(y, z)
    np.testing.assert_array_equal(held.arrays("test")[0], lazy.arrays("test")[0])


@pytest.mark.parametrize("content", [b"", b"no image", "truncated"])
def test_corrupt_file_is_named(tmp_path, content):
    for i in range(9):
        write(tmp_path / f"{i}.png", i, size=(64, 64))
    bad = tmp_path / "bad one.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(bad)
    bad.write_bytes(bad.read_bytes()[:5000] if content == "truncated" else content)
    with pytest.raises(ValueError, match=r"Cannot decode '.*bad one\.png'"):
        load(tmp_path)


def test_layouts_that_are_refused(tmp_path):
    def refused(error, message):
        for function in load, lambda path: datasets.check("folder", str(path)):
            with pytest.raises(error, match=message):
                function(tmp_path)

    refused(datasets.DatasetNotFound, f"No PNG or JPEG images in '{tmp_path}'")
    write(tmp_path / "one.png")
    refused(ValueError, "at least 3 are needed")
    (tmp_path / "label").mkdir()
    refused(ValueError, r"found both.*'one.png' and 'label/'")
    (tmp_path / "one.png").unlink()
    refused(datasets.DatasetNotFound, "label 'label' is empty")
    write(tmp_path / "label" / "deeper" / "one.png")
    refused(ValueError, "found the folder 'deeper/'")
    (tmp_path / "notes.txt").touch()
    refused(ValueError, "only PNG and JPEG.*notes.txt")


def test_missing_folder(tmp_path):
    for function in load, lambda path: datasets.check("folder", str(path)):
        with pytest.raises(datasets.DatasetNotFound, match=str(tmp_path / "absent")):
            function(tmp_path / "absent")
    with pytest.raises(ValueError, match="needs `data_dir`"):
        datasets.load("folder")
