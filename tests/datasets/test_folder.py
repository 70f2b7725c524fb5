"""Folders of images that the tests write with Pillow."""

import hashlib
import os
import struct
import zlib
from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin
from speed import slow

from zoo import datasets
from zoo.datasets import folder


def write(path, value=0, size=(8, 8), grey=False):
    """Writes an image of one colour, which `value` identifies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if grey else (value, 255 - value, 7)
    Image.new("L" if grey else "RGB", size, colour).save(path)


def load(path, **options):
    return datasets.load("folder", data_dir=str(path), **{"image_size": 8, **options})


def values(data, split):
    return np.round(data.arrays(split)[0][:, 0, 0, 0] * 255).astype(int).tolist()


def test_a_flat_folder_is_split_by_the_seed(tmp_path):
    for i in range(30):
        write(tmp_path / f"{i:02d}.png", 8 * i)
    data = load(tmp_path)
    assert sum(data.sizes.values()) == 30 and min(data.sizes.values()) >= 1
    assert data.image_shape == (8, 8, 3) and not data.has_labels and data.label_names is None
    found = [values(data, split) for split in data.sizes]
    assert sorted(chain(*found)) == [8 * i for i in range(30)]
    assert found == [values(load(tmp_path), split) for split in data.sizes]
    assert found != [values(load(tmp_path, seed=1), split) for split in data.sizes]


def parts_of(path, seed=0):
    """The names of the images of each split, with their subfolders."""
    return {
        split: {str(Path(name).relative_to(path)) for name, _ in entries}
        for split, entries in folder.listing(str(path), seed).items()
    }


def test_validation_and_test_are_a_tenth_on_average(tmp_path):
    for i in range(2000):
        (tmp_path / f"{i}.png").touch()
    for seed in range(3):
        sizes = {split: len(names) for split, names in parts_of(tmp_path, seed).items()}
        # Five standard deviations of a binomial.
        assert sizes == {
            split: pytest.approx(2000 * share, abs=5 * (2000 * share * (1 - share)) ** 0.5)
            for split, share in {"train": 0.8, "validation": 0.1, "test": 0.1}.items()
        }
    assert len(set.union(*parts_of(tmp_path).values())) == 2000


@pytest.mark.parametrize("layout", ["", "ant", "train"])
def test_added_and_removed_images_do_not_change_the_split_of_other_images(tmp_path, layout):
    def write_image(i):
        path = tmp_path / "data" / layout / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    if layout == "train":
        (tmp_path / "data" / "test").mkdir(parents=True)
        (tmp_path / "data" / "test" / "a.png").touch()
    paths = [write_image(i) for i in range(100)]
    before = parts_of(tmp_path / "data")
    assert min(map(len, before.values())) >= 1 + (layout != "train")
    for i in range(1000, 1050):
        write_image(i)
    after = parts_of(tmp_path / "data")
    assert all(before[split] < after[split] or split == "test" for split in before)
    for path in paths[::2]:
        path.unlink()
    gone = {str(path.relative_to(tmp_path / "data")) for path in paths[::2]}
    assert parts_of(tmp_path / "data") == {split: after[split] - gone for split in after}
    # Moving the whole folder does not change the splits.
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert parts_of(tmp_path / "elsewhere") == {split: after[split] - gone for split in after}


def test_no_split_of_a_small_folder_is_empty(tmp_path):
    def number(name):
        digest = hashlib.sha256(f"0/{name}".encode()).hexdigest()
        return int(digest[:12], 16) / 16**12

    shares = {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}
    stood_in = 0
    for i in range(40):
        (tmp_path / f"{i}.png").touch()
        if i < 2:
            continue
        parts = parts_of(tmp_path)
        own = {
            split: {f"{k}.png" for k in range(i + 1) if low <= number(f"{k}.png") < high}
            for split, (low, high) in shares.items()
        }
        assert all(parts.values()) and sum(map(len, parts.values())) == i + 1
        ordered = [sorted(map(number, parts[split])) for split in shares]
        assert ordered[0][-1] < ordered[1][0] and ordered[1][-1] < ordered[2][0]
        if all(own.values()):
            assert parts == own
        else:
            stood_in += 1
            assert all(len(parts[split]) == 1 for split in shares if not own[split])
    assert 0 < stood_in < 38


def tagged(path, orientation, size=(9, 6)):
    """Writes a smooth image without symmetry, as a camera of that orientation stores it."""
    rows, columns = np.mgrid[: size[1], : size[0]] / 10.0
    pixels = np.stack([rows, columns, 0.9 - rows * columns], -1)
    image = Image.fromarray((255 * pixels.clip(0, 1)).astype(np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(
        path, exif=exif, **({"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {})
    )


@pytest.mark.parametrize("suffix", [".png", slow(".jpg")])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_images_are_rotated_and_mirrored_as_by_pillow(tmp_path, orientation, suffix):
    path = tmp_path / f"one{suffix}"
    tagged(path, orientation)
    with Image.open(path) as image:
        assert image.getexif()[ExifTags.Base.Orientation] == orientation
        expected = np.asarray(ImageOps.exif_transpose(image), int)
    found = datasets.read_images(tmp_path)[0].astype(int)
    assert found.shape == expected.shape == ((9, 6, 3) if orientation in range(5, 9) else (6, 9, 3))
    np.testing.assert_array_equal(found, expected)
    top, left = (np.array(expected.shape[:2]) - 6) // 2
    square = expected[top : top + 6, left : left + 6] / 255
    np.testing.assert_allclose(datasets.read_image(path, (6, 6, 3)), square, atol=1e-6)
    for i in range(2):
        tagged(tmp_path / f"{i}{suffix}", orientation)
    x, _ = load(tmp_path, image_size=6).arrays("test")
    np.testing.assert_allclose(x[0], square, atol=1e-6)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_orientation_of_a_png_is_read_from_xmp(tmp_path, compressed):
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=compressed)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=xmp)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(expected, np.rot90(pixels, -1))
    np.testing.assert_array_equal(datasets.read_images(tmp_path)[0], expected)


def test_an_image_with_unreadable_metadata_is_not_rotated(tmp_path):
    path = tmp_path / "a.jpg"
    tagged(path, 6)
    whole = path.read_bytes()
    # The header of the metadata.
    path.write_bytes(whole.replace(b"MM\x00*", b"XX\x00*").replace(b"II*\x00", b"XX*\x00"))
    assert path.read_bytes() != whole
    with Image.open(path) as image:
        expected = np.asarray(image, int)
    np.testing.assert_array_equal(datasets.read_images(tmp_path)[0], expected)


def test_subfolders_are_labels(tmp_path):
    for i in range(12):
        write(tmp_path / "zebra" / f"{i}.png", 10 + i)
        write(tmp_path / "ant" / f"{i}.PNG", 210 + i)
    data = load(tmp_path)
    assert data.label_names == ("ant", "zebra")
    for split in data.sizes:
        x, y = data.arrays(split)
        np.testing.assert_array_equal(y, x[:, 0, 0, 0] < 0.5)


def test_split_subfolders_are_splits(tmp_path):
    for split, count in {"train": 10, "test": 4}.items():
        for i in range(count):
            write(tmp_path / split / "a" / f"{i}.png", (100 if split == "test" else 0) + i)
    data = load(tmp_path)
    assert data.sizes["test"] == 4 and data.sizes["train"] + data.sizes["validation"] == 10
    assert min(data.sizes.values()) >= 1
    assert sorted(values(data, "train") + values(data, "validation")) == list(range(10))
    assert sorted(values(data, "test")) == [100, 101, 102, 103] and data.label_names == ("a",)
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
def test_images_of_large_folders_are_decoded_in_batches(tmp_path, monkeypatch, grey):
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
def test_the_error_of_a_corrupt_file_names_it(tmp_path, content):
    for i in range(9):
        write(tmp_path / f"{i}.png", i, size=(64, 64))
    bad = tmp_path / "bad one.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(bad)
    bad.write_bytes(bad.read_bytes()[:5000] if content == "truncated" else content)
    with pytest.raises(ValueError, match=r"Cannot decode '.*bad one\.png'"):
        load(tmp_path)


def test_invalid_layouts_raise(tmp_path):
    def refused(error, message):
        for function in load, lambda path: datasets.check("folder", str(path)):
            with pytest.raises(error, match=message):
                function(tmp_path)

    refused(datasets.DatasetNotFound, f"No PNG or JPEG images in '{tmp_path}'")
    write(tmp_path / "one.png")
    refused(ValueError, "at least 3 images")
    (tmp_path / "label").mkdir()
    refused(ValueError, r"either images or subfolders.*Received: both.*'one.png' and 'label/'")
    (tmp_path / "one.png").unlink()
    refused(datasets.DatasetNotFound, "label 'label' is empty")
    write(tmp_path / "label" / "deeper" / "one.png")
    refused(ValueError, "Received: the folder 'deeper/'")
    (tmp_path / "notes.txt").touch()
    refused(ValueError, "only PNG and JPEG.*notes.txt")


def test_a_missing_folder_is_refused(tmp_path):
    for function in load, lambda path: datasets.check("folder", str(path)):
        with pytest.raises(datasets.DatasetNotFound, match=str(tmp_path / "absent")):
            function(tmp_path / "absent")
    with pytest.raises(ValueError, match="needs `data_dir`"):
        datasets.load("folder")


def test_the_first_images_of_split_subfolders_have_various_labels(tmp_path):
    for split in ("train", "test"):
        for label in ("a", "b"):
            for i in range(20):
                write(tmp_path / split / label / f"{i}.png", i)
    data = load(tmp_path)
    for split in ("train", "validation", "test"):
        assert len(set(data.arrays(split, 12)[1])) == 2 or data.sizes[split] < 12
    assert 3 <= sum(data.arrays("test", 20)[1]) <= 17


def test_read_images_keeps_the_stored_pixels(tmp_path):
    for i in range(3):
        write(tmp_path / "sub" / f"{i}.png", i, size=(6, 4))
    images = datasets.read_images(tmp_path)
    assert images.dtype == np.uint8 and images.shape == (3, 4, 6, 3)
    np.testing.assert_array_equal(images[:, 0, 0], [[i, 255 - i, 7] for i in range(3)])
    assert datasets.read_images(tmp_path, image_size=2).shape == (3, 2, 2, 3)
    write(tmp_path / "sub" / "9.png", size=(5, 4))
    with pytest.raises(
        ValueError, match=r"Set image_size.*0.png' of 4x6 and '9.png' of 4x5 pixels"
    ):
        datasets.read_images(tmp_path)
    (tmp_path / "sub" / "9.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="it is not a PNG or JPEG"):
        datasets.read_images(tmp_path)
    with pytest.raises(datasets.DatasetNotFound, match="no folder"):
        datasets.read_images(tmp_path / "none")


def test_read_images_returns_one_channel_for_grey_images(tmp_path):
    write(tmp_path / "0.png", 3, grey=True)
    assert datasets.read_images(tmp_path).shape == (1, 8, 8, 1)
    write(tmp_path / "1.png", 3)
    assert datasets.read_images(tmp_path).shape == (2, 8, 8, 3)


@pytest.fixture(scope="module")
def picture():
    """An image of smooth and of noisy parts, whose sides are no multiples of a JPEG block."""
    rows, columns = np.mgrid[:37, :53]
    colours = [127 + 100 * np.sin(rows / 3), 127 + 120 * np.cos(columns / 2), rows * columns % 256]
    noise = np.random.default_rng(0).normal(0, 30, (37, 53, 3))
    return np.clip(np.stack(colours, -1) + noise, 0, 255).astype(np.uint8)


def by_pillow(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_jpeg_is_decoded_as_by_pillow_bit_by_bit(tmp_path, picture):
    options = {"quality": (5, 75, 95, 100), "subsampling": (0, 1, 2), "progressive": (False, True)}
    for i, values in enumerate(product(*options.values())):
        Image.fromarray(picture).save(
            tmp_path / f"{i:02}.jpg", **dict(zip(options, values, strict=True))
        )
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "98.jpg")
    Image.fromarray(picture[..., 0]).save(tmp_path / "99.jpg")
    paths = sorted(tmp_path.iterdir())
    expected = np.stack([by_pillow(path) for path in paths])
    np.testing.assert_array_equal(datasets.read_images(tmp_path), expected)
    decode = folder.decoder(37, 3)
    for path, image in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(decode(str(path)), image[:, 8:45])


def test_every_kind_of_png_is_decoded(tmp_path, picture):
    grey, colour = Image.fromarray(picture[..., 0]), Image.fromarray(picture)
    grey.convert("1").save(tmp_path / "1.png")
    grey.convert("LA").save(tmp_path / "2.PNG")
    colour.convert("P").save(tmp_path / "3.png", transparency=3)
    colour.convert("RGBA").save(tmp_path / "4.png")
    colour.save(tmp_path / "5.png", save_all=True, append_images=[grey.convert("RGB")])
    expected = np.stack([by_pillow(path) for path in sorted(tmp_path.iterdir())])
    np.testing.assert_array_equal(datasets.read_images(tmp_path), expected)


def test_the_high_bytes_of_a_16_bit_png_are_the_image(tmp_path):
    values = np.array([[0, 255, 256, 65535], [100, 4660, 32768, 65279]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(datasets.read_images(tmp_path)[0, ..., 0], values >> 8)


@pytest.mark.parametrize("form", ["GIF", "BMP", "WEBP", "TIFF"])
def test_an_image_of_another_format_is_refused_even_if_its_name_ends_in_png(
    tmp_path, picture, form
):
    image = Image.fromarray(picture)
    more = {"save_all": True, "append_images": [image]} if form == "GIF" else {}
    image.save(tmp_path / "a.png", form, **more)
    with pytest.raises(ValueError, match=r"a\.png': it is not a PNG or JPEG image"):
        datasets.read_images(tmp_path)


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path):
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    # The pixels are missing: decoding would find the image corrupt.
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    write(tmp_path / "b.jpg")
    jpeg = (tmp_path / "b.jpg").read_bytes()
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg = jpeg[:start] + struct.pack(">HH", 20_000, 20_000) + jpeg[start + 4 :]
    (tmp_path / "b.jpg").write_bytes(jpeg)
    for name in ("a.png", "b.jpg"):
        with pytest.raises(ValueError, match=r"20,000 x 20,000 pixels, and at most 89,478,485"):
            datasets.read_image(tmp_path / name, (8, 8, 3))
    with pytest.raises(ValueError, match=r"a\.png'.*at most 89,478,485"):
        datasets.read_images(tmp_path)
    write(tmp_path / "c.png")
    with pytest.raises(ValueError, match="at most 89,478,485"):
        load(tmp_path)


def test_files_that_systems_add_to_folders_are_skipped(tmp_path):
    for i in range(3):
        write(tmp_path / "a" / f"{i}.PNG", i)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "a/Thumbs.db", "a/._0.png"):
        (tmp_path / name).touch()
    for name in ("__MACOSX", "@eaDir", ".thumbnails", "a/@eaDir"):
        write(tmp_path / name / "0.png")
    data = load(tmp_path)
    assert sum(data.sizes.values()) == 3 and data.label_names == ("a",)
    assert len(datasets.read_images(tmp_path)) == 3


def test_a_folder_in_place_of_an_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected an image file\. Received: the folder"):
        datasets.read_image(tmp_path, (8, 8, 3))


def test_other_things_than_files_and_dangling_links_are_refused(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.png", i)
    path = tmp_path / "x.png"
    functions = (
        lambda: datasets.check("folder", str(tmp_path)),
        lambda: datasets.read_images(tmp_path),
        lambda: datasets.read_image(path, (8, 8, 3)),
    )

    def refused(message):
        for function in functions:
            with pytest.raises(ValueError, match=message):
                function()
        path.unlink()

    os.mkfifo(path)
    refused(r"x\.png', which is a device, a pipe or a socket")
    path.symlink_to("/dev/zero")
    refused("which is a device, a pipe or a socket")
    path.symlink_to("absent.png")
    refused(r"x\.png' is a link to 'absent.png', which does not exist")
    path.symlink_to("x.png")
    refused(r"is a link to 'x\.png'")
    path.symlink_to("0.png")
    assert len(datasets.read_images(tmp_path)) == 4
    path.unlink()
    (tmp_path / "deeper").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="either images or subfolders"):
        datasets.read_images(tmp_path)


def test_a_name_that_is_not_utf8_is_refused_and_can_be_printed(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Path(path).touch()
    for function in (
        lambda: datasets.check("folder", str(tmp_path)),
        lambda: datasets.read_images(tmp_path),
        lambda: datasets.read_image(path, (8, 8, 3)),
    ):
        with pytest.raises(ValueError, match=r"in UTF-8.*caf\\xe9\.png") as error:
            function()
        str(error.value).encode()


SPLIT_FOLDERS = [
    ("train", None, None),
    ("train", "val", None),
    ("Train", None, "Test"),
    ("training", "Valid", "testing"),
    ("TRAIN", "dev", "test"),
    ("train", "validation", "test"),
]


@pytest.mark.parametrize("labels", [("",), ("a", "b")])
@pytest.mark.parametrize("names", SPLIT_FOLDERS)
def test_the_usual_names_of_splits_are_splits_and_held_out_images_are_never_trained_on(
    tmp_path, names, labels
):
    for name in filter(None, names):
        for label in labels:
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(15):
                (tmp_path / name / label / f"{i}.png").touch()
    parts = parts_of(tmp_path)
    for split, name in zip(parts, names, strict=True):
        # A missing split is cut from the training images, and no other split loses images.
        assert {path.split("/")[0] for path in parts[split]} == {name or names[0]}
        if split != "train" and name:
            assert len(parts[split]) == 15 * len(labels)
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))
    found = {label for entries in folder.listing(str(tmp_path)).values() for _, label in entries}
    assert found == ({None} if labels == ("",) else set(labels))


@pytest.mark.parametrize(
    "paths, message",
    [
        (("val/0", "test/0"), "Received: test, val"),
        (("test/0",), "Received: test"),
        (("train/0", "val/0", "valid/0"), "Received: train, val, valid"),
        (("Train/0", "train/0"), "Received: Train, train"),
        (("train/0", "cats/0"), r"'cats' is not.*If 'train' is a label"),
        (("train/0", "val/0", "unlabeled/0"), "'unlabeled' is not"),
        (("photos/train/0", "photos/val/0"), "the folder 'train/'"),
        (("cats/train/0", "cats/val/0"), "the folder 'train/'"),
        (("train/a/b/0",), "the folder 'b/'"),
    ],
)
def test_other_layouts_are_refused_with_the_list_of_layouts(tmp_path, paths, message):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{path}.png").touch()
    with pytest.raises(ValueError, match=message) as error:
        datasets.check("folder", str(tmp_path))
    assert folder.LAYOUTS in str(error.value)


@pytest.mark.parametrize("flat", ["train", "val"])
def test_labels_in_only_some_splits_are_refused(tmp_path, flat):
    for split in ("train", "val"):
        path = tmp_path / split / ("" if split == flat else "a")
        path.mkdir(parents=True)
        (path / "0.png").touch()
    with pytest.raises(ValueError, match=f"all splits or in none.*{flat}' without labels"):
        datasets.check("folder", str(tmp_path))
