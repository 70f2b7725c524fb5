"""Masks by name, and images with a seen part: the content of `y`, its draw, and its batches."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

import zoo
import zoo.training
from zoo.datasets import named_mask
from zoo.datasets.images import ImageData, Split

# Rows and columns of the quadrants of an 8x8 image, in the order of `named_mask`.
LOWER_LEFT, UPPER_LEFT, UPPER_RIGHT, LOWER_RIGHT = (
    (slice(4, 8), slice(0, 4)),
    (slice(0, 4), slice(0, 4)),
    (slice(0, 4), slice(4, 8)),
    (slice(4, 8), slice(4, 8)),
)
ORDER = (LOWER_LEFT, UPPER_LEFT, UPPER_RIGHT, LOWER_RIGHT)


def digits(seen, binarize="dynamic", **more):
    return zoo.datasets.load("digits", binarize=binarize, seen=f"quadrants:{seen}", **more)


def assert_shows(y, x, seen):
    y, x = np.asarray(y), np.asarray(x)
    assert y.dtype == np.float32 and y.shape == x.shape
    for i, (rows, columns) in enumerate(ORDER):
        want = x[:, rows, columns] if i < seen else np.full_like(x[:, rows, columns], -1)
        np.testing.assert_array_equal(y[:, rows, columns], want)


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_y_shows_the_seen_quadrants_of_x_and_minus_one_elsewhere(seen):
    data = digits(seen, None)
    x, y = data.arrays("test")
    grey = (load_digits().images[1350:, ..., None] / 16).astype(np.float32)
    np.testing.assert_allclose(x, grey, atol=1e-6)
    assert_shows(y, grey, seen)
    assert data.has_labels and data.label_names is None and data.seen == f"quadrants:{seen}"


def test_quadrants_of_other_shapes_meet_at_the_centre():
    images = np.arange(1, 25, dtype=np.uint8).reshape(1, 4, 6, 1)
    data = ImageData("own", {"train": Split(images)}, (4, 6, 1), levels=256, seen="quadrants:1")
    _, y = data.arrays("train")
    want = np.full([4, 6], -1.0)
    want[2:, :3] = images[0, 2:, :3, 0] / 255
    np.testing.assert_allclose(y[0, ..., 0], want, atol=1e-6)


def test_colours_are_seen_and_hidden_together():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    data = ImageData("own", {"train": Split(images)}, (4, 4, 3), seen="quadrants:3")
    _, y = data.arrays("train")
    assert ((y == -1).sum((1, 2)) == 4).all()


def test_y_shows_the_same_draw_as_x():
    data = digits(2)
    draws = []
    batches = data.batches("train", 100, shuffle=True, repeat=True)
    assert batches.element_spec[1] == tf.TensorSpec([100, 8, 8, 1], tf.float32)
    for x, y in batches.take(20):
        assert set(np.unique(x)) <= {0, 1}
        assert_shows(y, x, 2)
        draws.append(x.numpy())
    first, second = np.sort(draws[:10], axis=None), np.sort(draws[10:], axis=None)
    assert (first != second).any()  # A new draw in each epoch.


def test_arrays_return_the_single_draw_of_validation():
    data = digits(1)
    x, y = data.arrays("validation")
    parts = list(data.batches("validation", 128))
    np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), x)
    np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), y)
    assert_shows(y, x, 1)
    plain, _ = zoo.datasets.load("digits", binarize="dynamic").arrays("validation")
    np.testing.assert_array_equal(plain, x)


def test_the_parts_of_two_replicas_form_the_batch():
    options = {"shuffle": True, "repeat": True}
    whole = next(iter(digits(3).batches("train", 20, **options)))
    parts = list(digits(3).batches("train", 20, shard=(0, 1, 2), **options).take(2))
    for i in range(2):
        np.testing.assert_array_equal(tf.concat([p[i] for p in parts], 0), whole[i])
    assert_shows(whole[1], whole[0], 3)


def test_quadrants_apply_to_resized_images():
    x, y = digits(1, None, image_size=12).arrays("test", 5)
    assert (y[:, 6:, :6] == x[:, 6:, :6]).all()
    assert (y == -1).sum() == 5 * 3 * 36


def test_odd_sides_raise_before_an_image_is_read():
    with pytest.raises(ValueError, match=r"even width. Received: 9x9 with seen='quadrants:1'"):
        zoo.datasets.load("mnist", data_dir="/nowhere", image_size=9, seen="quadrants:1")
    images = np.zeros([1, 4, 5, 1], np.uint8)
    with pytest.raises(ValueError, match=r"even width.*Received: 4x5"):
        ImageData("own", {"train": Split(images)}, (4, 5, 1), seen="quadrants:1")


def test_a_run_with_an_unknown_seen_part_raises():
    config = zoo.presets.get("cvae_quadrants_digits")
    assert config.data.seen == "quadrants:1"
    zoo.presets.override(config, ["seen=quadrants:3"])
    assert zoo.training.load_data(config).seen == "quadrants:3"
    zoo.presets.override(config, ["seen=quadrants:4"])
    with pytest.raises(ValueError, match=r"half:left, .*Received: seen='quadrants:4'"):
        zoo.training.check_config(config)


def test_the_configuration_of_a_run_with_a_number_of_quadrants_is_read():
    settings = zoo.presets.to_dict(zoo.presets.get("cvae_quadrants_digits"))
    del settings["data"]["seen"]
    for number, seen in ((2, "quadrants:2"), (None, None)):
        old = settings | {"data": settings["data"] | {"seen_quadrants": number}}
        assert zoo.presets.from_dict(old).data.seen == (seen or "quadrants:1")


def test_named_masks_show_the_parts_that_they_name():
    def shown(name, size=(4, 4)):
        return named_mask(name, size)[0, ..., 0].astype(int).tolist()

    assert shown("half:left", (1, 5)) == [[1, 1, 0, 0, 0]]
    assert shown("half:right", (1, 5)) == [[0, 0, 0, 1, 1]]
    assert shown("half:top", (3, 1)) == [[1], [0], [0]]
    assert shown("half:bottom", (3, 1)) == [[0], [0], [1]]
    middle = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert shown("box") == middle and shown("border") == (1 - np.array(middle)).tolist()
    assert shown("quadrants:3", (2, 2)) == [[1, 1], [1, 0]]
    many = named_mask("pixels:0.2", (50, 50), 4, seed=3)
    assert many.shape == (4, 50, 50, 1) and many.mean() == pytest.approx(0.2, abs=0.02)
    np.testing.assert_array_equal(many[:2], named_mask("pixels:0.2", (50, 50), 2, 3))
    assert (many != named_mask("pixels:0.2", (50, 50), 4, seed=4)).any()


@pytest.mark.parametrize(
    "name", ["middle", "half:left:1", "quadrants", "quadrants:4", "pixels:1", "pixels:nan", 1.5]
)
def test_unknown_masks_are_refused(name):
    with pytest.raises(ValueError, match=f"half:left, .*Received: seen={name!r}"):
        named_mask(name, (4, 4))


def test_the_white_pixels_of_a_file_are_seen(tmp_path):
    path = f"{tmp_path}/mask.png"
    mask = np.random.default_rng(0).random((8, 8)) < 0.5
    Image.fromarray(np.uint8(255 * mask)).save(path)
    np.testing.assert_array_equal(named_mask(path, (8, 8), 2)[..., 0], [mask, mask])
    wide = np.pad(np.repeat(mask, 2, 1).repeat(2, 0), ((0, 0), (3, 3)))
    Image.fromarray(np.uint8(255 * wide)).save(path)  # Its central square is cropped and resized.
    np.testing.assert_array_equal(named_mask(path, (8, 8))[0, ..., 0], mask)
    data = zoo.datasets.load("digits", seen=path)
    x, y = data.arrays("test", 3)
    np.testing.assert_array_equal(y, np.where(mask[..., None], x, -1))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"PNG or JPEG file. Received: '.*text.png'"):
        named_mask(f"{tmp_path}/text.png", (8, 8))
    with pytest.raises(FileNotFoundError):
        zoo.datasets.load("digits", seen=f"{tmp_path}/none.png")


def of_indices(**options):
    """256 images whose grey value is their row, half of whose pixels are seen."""
    images = np.arange(256, dtype=np.uint8)[:, None, None, None] * np.ones([1, 4, 4, 3], np.uint8)
    splits = {name: Split(images) for name in ("train", "validation")}
    return ImageData("own", splits, (4, 4, 3), seen="pixels:0.5", **options)


def masks(batches):
    """The masks of each row, in the order of the rows."""
    found = np.zeros([256, 4, 4], bool)
    for x, y in batches:
        hidden = y.numpy() < 0
        assert (hidden == hidden[..., :1]).all()
        np.testing.assert_array_equal(y.numpy()[~hidden], x.numpy()[~hidden])
        found[np.round(255 * np.asarray(x)[:, 0, 0, 0]).astype(int)] = ~hidden[..., 0]
    return found


def test_random_masks_are_functions_of_the_seed_the_epoch_and_the_row():
    data = of_indices()
    epochs = [
        masks(data.batches("train", size, shuffle=shuffle, first_epoch=epoch))
        for size, shuffle, epoch in ((32, True, 0), (64, False, 0), (32, True, 1))
    ]
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert np.mean(epochs[0] == epochs[2]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(epochs[0]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(epochs[0][1:] == epochs[0][:-1]) == pytest.approx(0.5, abs=0.03)
    other = masks(of_indices(seed=1).batches("train", 32))
    assert np.mean(epochs[0] == other) == pytest.approx(0.5, abs=0.03)
    parts = data.batches("train", 64, shuffle=True, repeat=True, shard=(0, 1, 2)).take(8)
    np.testing.assert_array_equal(masks(parts), epochs[0])


def test_random_masks_of_validation_are_one_draw():
    data = of_indices()
    x, y = data.arrays("validation")
    drawn = masks(data.batches("validation", 100, first_epoch=3))
    np.testing.assert_array_equal(masks([(tf.constant(x), tf.constant(y))]), drawn)
    assert (masks(data.batches("train", 256)) != drawn).any()


@pytest.mark.parametrize("seen", ["half:top", "border", "pixels:0.7"])
def test_a_model_of_the_hidden_part_trains_on_any_mask(seen):
    data = zoo.datasets.load("digits", binarize="dynamic", seen=seen)
    model = zoo.models.predictor((8, 8, 1), hidden=())
    model.likelihood.network.set_weights([np.zeros((64, 64)), np.zeros(64)])
    model.compile("adam", run_eagerly=True)
    x, y = next(iter(data.batches("train", 20, shuffle=True)))
    loss = model.train_on_batch(x, y, return_dict=True)["loss"]
    hidden = np.sum(y < 0) / 20  # Each hidden pixel has the probability 1/2.
    assert float(loss) == pytest.approx(hidden * np.log(2), rel=1e-5)
    assert model.likelihood.network.get_weights()[1].any()


def test_a_mask_of_16_bits_is_refused(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full([8, 8], 300, np.uint16)).save(path)
    with pytest.raises(ValueError, match="a mask of 8 bits"):
        named_mask(str(path), (8, 8))


def test_a_damaged_mask_and_a_folder_are_refused_with_their_path(tmp_path):
    path = tmp_path / "half.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, [64, 64], np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    (tmp_path / "folder.png").mkdir()
    for name in ("half.png", "folder.png"):
        with pytest.raises(ValueError, match=f"Expected a PNG or JPEG file. Received: '.*{name}'"):
            named_mask(str(tmp_path / name), (8, 8))
