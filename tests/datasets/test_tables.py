"""Attributes and masks of a user's folder of images."""

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import conditions, datasets, presets, training
from zoo.datasets import folder

NUMBER = 20


def values_of(i):
    """The attributes of image `i`: two that are 0 or 1, and a real one."""
    return i % 2, int(i > 9), round(0.05 * i, 2)


def write(path, size=(8, 8)):
    """Writes images whose red value is their number, transparent in the lower half of each."""
    path.mkdir(parents=True, exist_ok=True)
    for i in range(NUMBER):
        pixels = np.zeros([*size, 4], np.uint8)
        pixels[..., 0], pixels[..., 1] = i, 200
        pixels[: size[0] // 2, :, 3] = 255
        Image.fromarray(pixels).save(path / f"{i:02d}.png")


def csv_of(prefix=""):
    rows = [f"{prefix}{i:02d}.png,{','.join(map(str, values_of(i)))}" for i in range(NUMBER)]
    return "\n".join(["file,glasses,hat,lightness", *rows]) + "\n"


def load(path, **options):
    return datasets.load("folder", data_dir=str(path), **{"image_size": 8, **options})


def check_rows(data, columns=(0, 1, 2)):
    """Checks that each image has its own attributes."""
    seen = []
    for split in data.sizes:
        x, _ = data.arrays(split)
        numbers = np.round(x[:, 0, 0, 0] * 255).astype(int)
        expected = np.array([values_of(i) for i in numbers], np.float32)[:, list(columns)]
        np.testing.assert_array_equal(data.annotations(split)["attributes"], expected)
        seen += numbers.tolist()
    assert sorted(seen) == list(range(NUMBER))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    write(path)
    return path


@pytest.fixture
def table(images):
    """A function that writes the table of the images, and removes it after the test."""
    written = []

    def write_table(text, name="attributes.csv"):
        written.append(images / name)
        written[-1].write_bytes(text.encode() if isinstance(text, str) else text)
        return images

    yield write_table
    for path in written:
        path.unlink(missing_ok=True)


def test_each_image_has_the_row_of_its_file(table):
    data = load(table(csv_of()))
    assert data.attribute_names == ("glasses", "hat", "lightness") and data.label_names is None
    assert data.annotation_names == ("attributes",)
    check_rows(data)
    x, y = next(iter(data.batches("train", 5, shuffle=True)))
    numbers = np.round(x[:, 0, 0, 0].numpy() * 255).astype(int)
    np.testing.assert_array_equal(y, np.array([values_of(i) for i in numbers], np.float32))


def test_spaces_byte_order_marks_empty_lines_and_rows_of_other_files_are_accepted(table):
    text = csv_of().replace(",", " , ").replace("\n", "\r\n\r\n") + "absent.png,1,1,1\r\n"
    check_rows(load(table(b"\xef\xbb\xbf" + text.encode())))


def test_chosen_columns_of_the_table_are_the_attributes(table):
    data = load(table(csv_of()), attributes="lightness,glasses")
    assert data.attribute_names == ("lightness", "glasses")
    check_rows(data, columns=(2, 0))
    with pytest.raises(ValueError, match=r"are glasses, hat, lightness\. Received: 'beard'"):
        load(table(csv_of()), attributes="hat,beard")


def test_celebas_table_is_read_with_0_for_minus_1(table):
    rows = [f"{i:02d}.png  {2 * (i % 2) - 1} {1 if i > 9 else -1}" for i in range(NUMBER)]
    data = load(table("\n".join([str(NUMBER), "Young  Smiling", *rows]), "list_attr_celeba.txt"))
    assert data.attribute_names == ("Young", "Smiling")
    check_rows(data, columns=(0, 1))


@pytest.mark.parametrize("prefix", ["", "train/b/"])
def test_labels_and_splits_may_have_a_table_too(tmp_path, prefix):
    write(tmp_path / "train" / "b")
    (tmp_path / "attributes.csv").write_text(csv_of(prefix))
    data = load(tmp_path)
    assert data.annotation_names == ("label", "attributes") and data.label_names == ("b",)
    np.testing.assert_array_equal(data.arrays("test")[1], 0 * data.arrays("test")[1])
    check_rows(data)
    with pytest.raises(ValueError, match=r"only in the folder that data_dir names.*train"):
        (tmp_path / "attributes.csv").rename(tmp_path / "train" / "attributes.csv")
        load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("03.png,1,0,0.15\n", "", r"a row for each image.*no row for '.*03\.png'"),
        ("03.png,1,0,0.15", "03.png,1,0,0.15,9", r"a file and 3 value.* line 5 .*: 4 value"),
        ("03.png,1,0,0.15", "03.png,1,0", r"a file and 3 value.* line 5 .*: 2 value"),
        ("03.png,1,0,0.15", "03.png,1,no,0.15", r"finite number for 'hat' in line 5 .*: 'no'"),
        ("03.png,1,0,0.15", "03.png,1,,0.15", r"finite number for 'hat' in line 5 .*: ''"),
        ("03.png,1,0,0.15", "03.png,1,0,nan", r"finite number for 'lightness' .*: 'nan'"),
        ("03.png,1,0,0.15", "03.png,1,0,1e39", r"finite number for 'lightness' .*: '1e39'"),
        ("03.png,1,0,0.15", "02.png,1,0,0.15", r"one row for each file.*'02\.png' again in line 5"),
        ("glasses,hat", "glasses,glasses", "different name for each column"),
        ("glasses,hat", "glasses,", "different name for each column"),
        ("file,glasses,hat,lightness", "file;glasses;hat", "at least one attribute.*'file;glasses"),
    ],
)
def test_a_damaged_table_is_refused_in_a_sentence(table, old, new, sentence):
    text = csv_of()
    assert old in text
    with pytest.raises(ValueError, match=sentence):
        load(table(text.replace(old, new)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,Young\n00.png,1\n", "number of images in the first line"),
        ("20\nYoung\n00.png 0\n", "Expected -1 or 1 for 'Young' in line 3 .*Received: '0'"),
        ("20\n", "a header in .*, names, with at least one attribute"),
    ],
)
def test_a_damaged_table_of_celeba_is_refused(table, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(table(text, "list_attr_celeba.txt"))


def test_ambiguous_and_unreadable_tables_are_refused(tmp_path, table):
    with pytest.raises(ValueError, match=r"is not a table of text: 'utf-8' codec"):
        load(table(b"file,hat\n\xff"))
    table(csv_of(), "list_attr_celeba.txt")
    with pytest.raises(ValueError, match=r"one table of attributes.*attributes\.csv and list_attr"):
        load(table(csv_of()))
    for label in "ab":
        write(tmp_path / label)
    (tmp_path / "attributes.csv").write_text(csv_of())
    with pytest.raises(ValueError, match=r"belongs to two images, .*Write paths relative"):
        load(tmp_path)


def test_alpha_is_the_mask_and_the_image_is_on_black(images):
    data = load(images, mask="alpha", y="mask")
    assert data.image_shape == (8, 8, 3) and data.annotation_names == ("mask",)
    x, mask = data.arrays("train")
    assert mask.shape == (len(x), 8, 8, 1)
    np.testing.assert_array_equal(mask[:, :4], np.ones_like(mask[:, :4]))
    np.testing.assert_array_equal(mask[:, 4:], np.zeros_like(mask[:, 4:]))
    np.testing.assert_allclose(x[:, :4, :, 1], np.full_like(x[:, :4, :, 1], 200 / 255), atol=1e-6)
    np.testing.assert_array_equal(x[:, 4:], np.zeros_like(x[:, 4:]))
    plain = load(images).arrays("train")[0]
    np.testing.assert_allclose(plain[..., 1], np.full_like(plain[..., 1], 200 / 255), atol=1e-6)


def test_the_colours_at_an_edge_are_those_of_the_foreground_times_the_mask(images):
    # Two pixels of the border row are resized to one, of coverage 1/2 at most.
    data = load(images, mask="alpha", y="mask", image_size=3)
    x, mask = data.arrays("train")
    assert 0 < mask[:, 1].min() < 1
    np.testing.assert_allclose(x[..., 1:2], mask * (200 / 255), atol=1.5 / 255)


def test_half_transparent_grey_and_jpeg_images_have_masks(tmp_path):
    write(tmp_path)
    Image.new("LA", (8, 8), (100, 51)).save(tmp_path / "20.png")
    Image.new("RGB", (8, 8), (9, 100, 7)).save(tmp_path / "21.jpg", quality=100)
    rows = folder.listing(str(tmp_path))
    data = load(tmp_path, mask="alpha", y="mask")
    found = {}
    for split, entries in rows.items():
        x, mask = data.arrays(split)
        for (path, _), image, own in zip(entries, x, mask, strict=True):
            found[path.rpartition("/")[2]] = image, own
    image, own = found["20.png"]
    np.testing.assert_allclose(own, np.full_like(own, 0.2), atol=1e-6)
    np.testing.assert_allclose(image, np.full_like(image, 20 / 255), atol=1e-6)
    image, own = found["21.jpg"]
    assert own.min() == 1 and abs(image[..., 1] - 100 / 255).max() < 0.02


def test_masks_are_refused_where_there_are_none(tmp_path, monkeypatch):
    for i in range(4):
        Image.new("RGB", (8, 8), (i, 0, 9)).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match=r"needs images with transparent pixels.*Received: '/"):
        load(tmp_path, mask="alpha")
    with pytest.raises(ValueError, match=r"`mask` is None, or 'alpha'.*'beta' for 'folder'"):
        load(tmp_path, mask="beta")
    with pytest.raises(ValueError, match="'alpha' for 'digits'"):
        datasets.load("digits", mask="alpha")
    monkeypatch.setattr(folder, "MEMORY", 4 * 8 * 8 * 3)
    with pytest.raises(ValueError, match="Images with masks must fit in"):
        load(tmp_path, mask="alpha")


def test_a_conditional_model_is_built_for_a_folder_with_attributes(table):
    config = presets.get("cvae_digits")
    changes = ["data.name=folder", f"data.data_dir={table(csv_of())}", "image_size=8"]
    changes += ["condition=attributes", "data.attributes=hat,glasses", "condition_size=2"]
    presets.override(config, [*changes, "model.hidden=8", "latent_dim=2", "jit_compile=false"])
    data = training.load_data(config)
    model = presets.build(config, data.image_shape)
    training.check_data(model, data, 5)
    assert conditions.of_data(model, data, "train").shape == (data.sizes["train"], 2)
    config.data.attributes = None
    with pytest.raises(ValueError, match=r"y float32 of shape \[B, 3\]"):
        training.check_data(model, training.load_data(config), 5)


def test_images_are_read_beside_a_table(table):
    assert zoo.datasets.read_images(table(csv_of())).shape == (NUMBER, 8, 8, 3)
