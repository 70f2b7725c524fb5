"""The rendered sets: their bytes, their annotations, `y` by name, and batches of whole groups."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import conditions, datasets
from zoo.datasets import heads, scenes, sprites, textures
from zoo.datasets.images import ImageData, Split
from zoo.rendering import shapes

SIZES = {"train": 40, "validation": 20, "test": 20}
NAMES = ["heads", "heads_grey", "sprites", "sprites_groups", "sprites_scenes", "textures"]
NAMES += ["bouncing_sprites", "moving_sprites", "turning_sprites"]


@pytest.mark.parametrize(
    ("name", "pixels", "annotations"),
    [
        ("heads", "59d2944f43b8a387", "39377a3e954d5735"),
        ("heads_grey", "f3e3267913f52b30", "ae10a6ab3120f2bb"),
        ("sprites", "8666d78b7ce237b5", "380c6b511a01932f"),
        ("sprites_groups", "05664f2b1c01ab4c", "f84a06e0fea3673b"),
        ("sprites_scenes", "8e6aec71d8cbfe4c", "13657c189f95477e"),
        ("textures", "5173cfd3c68a1437", "bb4dfbd49a859b99"),
        ("bouncing_sprites", "593378d251ea4eee", "1c9dcba0c514e65a"),
        ("moving_sprites", "6785abaa8cdc2b44", "dbbba17fe9f71475"),
        ("turning_sprites", "cacdf7e0289e0eb0", "0badc961b2e32049"),
    ],
)
def test_the_bytes_of_images_and_annotations_are_those_recorded(name, pixels, annotations):
    data = datasets.load(name, sizes=SIZES)
    images, leaves = hashlib.sha256(), hashlib.sha256()
    for split in SIZES:
        images.update(data.pixels(split).tobytes())
        for leaf, values in sorted(data.annotations(split).items()):
            leaves.update(leaf.encode() + values.tobytes())
    assert (images.hexdigest()[:16], leaves.hexdigest()[:16]) == (pixels, annotations)


@pytest.mark.parametrize("name", NAMES)
def test_shape_levels_and_sizes_are_known_before_loading(name):
    data = datasets.load(name, image_size=16, sizes=SIZES)
    assert datasets.expected(name, 16) == (data.image_shape, data.levels)
    assert data.sizes == SIZES
    x, y = data.arrays("test")
    assert x.shape == (20, *data.image_shape) and x.min() >= 0 and x.max() <= 1
    first = data.annotations("test")[data.annotation_names[0]]
    np.testing.assert_array_equal(y, first)
    assert data.factors("train").shape == (40, len(data.factor_names))
    assert len(data.factor_sizes) == len(data.factor_names)


@pytest.mark.parametrize("name", NAMES)
def test_other_seeds_and_splits_have_other_images(name):
    first, other = (datasets.load(name, image_size=16, sizes=SIZES, seed=s) for s in (0, 1))
    assert (first.pixels("train") != other.pixels("train")).any()
    splits = [np.unique(first.factors(split), axis=0) for split in SIZES]
    if name in ("moving_sprites", "turning_sprites"):  # All splits draw from a small grid.
        assert len({split.tobytes() for split in splits}) == 3
        return
    points = np.concatenate(splits)
    assert len(np.unique(points, axis=0)) == len(points)
    if name != "sprites_groups":  # The values of shape and scale repeat within a group.
        assert len(points) == 80


@pytest.mark.parametrize("name", NAMES)
def test_more_training_images_keep_the_others(name):
    few = datasets.load(name, image_size=16, sizes=SIZES)
    many = datasets.load(name, image_size=16, sizes={**SIZES, "train": 60})
    for split, count in SIZES.items():
        np.testing.assert_array_equal(few.pixels(split), many.pixels(split, count))


def test_sizes_are_checked():
    for sizes, sentence in [
        ({"training": 3}, "must be among train, validation, test"),
        ({"train": 0}, "train"),
        ({"train": 30}, "groups of 20"),
    ]:
        with pytest.raises((ValueError, TypeError), match=sentence):
            datasets.load("heads_grey", sizes=sizes)
    with pytest.raises(ValueError, match=r"737280 points.*Received"):
        datasets.load("sprites", sizes={"train": 737_280})
    with pytest.raises(ValueError, match="`sizes` is for the rendered"):
        datasets.load("digits", sizes={"train": 3})


# The annotation that is `y`.


def scene(**options):
    return datasets.load("sprites_scenes", image_size=16, sizes=SIZES, **options)


def test_y_is_the_annotation_that_is_named():
    data = scene(y="mask")
    assert data.label_names is None and data.attribute_names is None
    _, y = next(iter(data.batches("train", 8)))
    assert y.shape == (8, 16, 16, 1) and y.dtype == tf.float32
    np.testing.assert_array_equal(y, data.annotations("train", 8)["mask"])
    ninths = y.numpy() * 9
    np.testing.assert_allclose(ninths, ninths.round(), atol=1e-6)
    assert scene(y="attributes").attribute_names == scene().attribute_names == scenes.ATTRIBUTES
    assert scene(y="factors").attribute_names == ("shape", "hue", "size", "x", "y")


def test_all_annotations_are_a_dict_with_one_row_for_each_image():
    data = scene(y="all", seed=3)
    stored = data.annotations("train")
    batches = list(data.batches("train", 8, shuffle=True, shard=(0, 1, 2), drop_remainder=True))
    assert len(batches) == 10 and set(stored) == {"attributes", "mask", "factors"}
    images, arrays = data.arrays("train")
    seen = []
    for x, y in batches:
        assert set(y) == set(stored)
        for image, row in zip(x.numpy(), range(4), strict=True):
            at = np.flatnonzero((images == image).all((1, 2, 3)))[0]
            seen.append(at)
            for leaf in stored:
                np.testing.assert_array_equal(y[leaf][row], stored[leaf][at])
                np.testing.assert_array_equal(arrays[leaf][at], stored[leaf][at])
    assert sorted(seen) == list(range(40))


def test_several_annotations_are_a_dict_of_the_ones_that_are_named():
    data = scene(y="attributes,mask")
    assert data.attribute_names == scenes.ATTRIBUTES
    stored = data.annotations("train", 8)
    assert set(stored) == {"attributes", "mask", "factors"}
    for y in (next(iter(data.batches("train", 8)))[1], data.arrays("train", 8)[1]):
        assert set(y) == {"attributes", "mask"}
        for name, values in y.items():
            np.testing.assert_array_equal(values, stored[name])


def test_chosen_attributes_are_the_columns_of_y():
    data, every = scene(attributes="y,heart"), scene()
    assert data.attribute_names == ("y", "heart")
    at = [scenes.ATTRIBUTES.index(name) for name in data.attribute_names]
    np.testing.assert_array_equal(data.arrays("train")[1], every.arrays("train")[1][:, at])
    with pytest.raises(ValueError, match=r"'sprites_scenes' are square, .*Received: 'red' in"):
        scene(attributes="heart,red")
    with pytest.raises(ValueError, match=r"'digits' has no attributes. Received: 'red'"):
        datasets.load("digits", attributes="red")


def test_one_array_of_labels_is_the_annotation_label():
    plain, named, both = (datasets.load("digits", y=y) for y in (None, "label", "all"))
    assert plain.annotation_names == ("label",)
    np.testing.assert_array_equal(plain.arrays("test")[1], named.arrays("test")[1])
    np.testing.assert_array_equal(plain.arrays("test")[1], both.arrays("test")[1]["label"])
    assert named.label_names == plain.label_names and plain.group_size is None
    with pytest.raises(ValueError, match=r"Factors are known.*'digits'"):
        plain.factors("test")


def test_unknown_annotations_are_refused_before_rendering(monkeypatch):
    monkeypatch.setattr(datasets.catalog, "_rendered_splits", None)
    known = r"must be 'all' or one of 'attributes', 'mask', 'factors', or several.*Received: y="
    for y in ("masks", "attributes,masks", "attributes, mask", ""):
        with pytest.raises(ValueError, match=f"{known}'{y}'"):
            datasets.load("sprites_scenes", y=y)
    with pytest.raises(
        ValueError, match=r"seen part of the image\. Received: y='mask', seen='quadrants:1'"
    ):
        datasets.load("sprites_scenes", y="mask", seen="quadrants:1")
    with pytest.raises(ValueError, match=r"must be 'all' or one of 'label'"):
        datasets.load("digits", y="attributes")
    images = {"train": Split(np.zeros([2, 2, 2, 1], np.uint8))}
    with pytest.raises(ValueError, match="`y` of 'bare' must be None"):
        ImageData("bare", images, (2, 2, 1), y="all")


def test_some_labels_of_sprites_are_hidden():
    sizes = {"train": 300, "validation": 4, "test": 4}
    data = datasets.load("sprites", image_size=8, sizes=sizes, num_labels=30)
    assert (data.arrays("train")[1] >= 0).sum() == 30
    assert (data.annotations("train")["label"] >= 0).all()


def test_a_conditional_model_trains_on_one_annotation_and_refuses_several():
    def model(data):
        return zoo.models.cvae(
            data.image_shape, condition="attributes", condition_size=8, hidden=(8,), latent_dim=2
        )

    data = datasets.load("sprites_scenes", image_size=8, sizes=SIZES)
    cvae = model(data)
    conditions.check(cvae, data)
    cvae.compile("adam", run_eagerly=True)
    logs = cvae.train_on_batch(*(t.numpy() for t in next(iter(data.batches("train", 8)))))
    assert np.all(np.isfinite(np.asarray(logs)))
    with pytest.raises(ValueError, match=r"several annotations, .*'mask'.*Choose one"):
        conditions.check(cvae, datasets.load("sprites_scenes", image_size=8, sizes=SIZES, y="all"))


# Groups.


def grouped(n=24, group_size=3):
    rows = np.arange(n)
    images = np.broadcast_to(rows[:, None, None, None], (n, 2, 2, 1)).astype(np.uint8)
    split = Split(images, rows.astype(np.int32))
    splits = dict.fromkeys(("train", "validation", "test"), split)
    return ImageData("grouped", splits, (2, 2, 1), group_size=group_size)


def test_batches_of_groups_shuffle_whole_groups():
    data = grouped()
    options = {"shuffle": True, "grouped": True}
    epochs = [
        np.concatenate([y for _, y in data.batches("train", 6, first_epoch=e, **options)])
        for e in (0, 1)
    ]
    for epoch in epochs:
        groups = epoch.reshape(-1, 3)
        np.testing.assert_array_equal(groups - groups[:, :1], np.tile(np.arange(3), (8, 1)))
        assert sorted(groups[:, 0]) == list(range(0, 24, 3)) != list(groups[:, 0])
    assert list(epochs[0]) != list(epochs[1])
    stored = np.concatenate([y for _, y in data.batches("train", 9, grouped=True)])
    np.testing.assert_array_equal(stored, np.arange(24))


def test_replicas_and_workers_have_whole_groups_of_the_global_batch():
    options = {"shuffle": True, "grouped": True, "drop_remainder": True}
    whole = [y.numpy() for _, y in grouped().batches("train", 12, **options)]
    parts = [
        [y.numpy() for _, y in grouped().batches("train", 12, shard=(w, 2, 2), **options)]
        for w in range(2)
    ]
    for step, batch in enumerate(whole):
        shared = [parts[w][2 * step + r] for w in range(2) for r in range(2)]
        assert all(len(part) == 3 and part[0] % 3 == 0 for part in shared)
        np.testing.assert_array_equal(np.concatenate(shared), batch)


def test_divided_groups_are_refused():
    data = grouped()
    with pytest.raises(ValueError, match=r"whole groups of 3 images.*batch_size=8"):
        data.batches("train", 8, grouped=True)
    with pytest.raises(ValueError, match=r"12 for 2 replica.*multiple of 8"):
        grouped(24, 4).batches("train", 12, grouped=True, shard=(0, 1, 2), drop_remainder=True)
    with pytest.raises(ValueError, match="data with groups, such as 'heads_grey'"):
        datasets.load("digits").batches("train", 10, grouped=True)
    with pytest.raises(ValueError, match="whole groups of 5 images"):
        grouped(24, 5)


# Sprites.


def test_grid_numbers_and_factors_are_a_bijection():
    numbers = np.arange(sprites.COUNT)
    values = sprites.factors(numbers)
    digits = np.array([40 * 6 * 1024, 40 * 1024, 1024, 32, 1])
    np.testing.assert_array_equal(values @ digits, numbers)
    np.testing.assert_array_equal(values.max(0), [2, 5, 39, 31, 31])


@pytest.mark.parametrize("shape", range(3))
def test_sprites_have_the_area_of_their_shape_and_their_centre_at_the_position(shape):
    area = [0.25**2, np.pi * 0.18 * 0.09, 3.66199 * 0.135**2][shape]
    assert shapes.AREAS[shape] == pytest.approx(area, rel=1e-5)
    values = np.array([[shape, s, o, x, y] for s, o, x, y in [(5, 0, 0, 31), (3, 7, 20, 4)]])
    for (_, s, _, x, y), image in zip(values, sprites.render(values, 256)[..., 0], strict=True):
        assert image.mean() == pytest.approx(area * (0.5 + 0.1 * s) ** 2, rel=0.015)
        row, column = np.nonzero(image)
        assert (column.mean() + 0.5) / 256 == pytest.approx(0.25 + x / 62, abs=0.3 / 64)
        assert (row.mean() + 0.5) / 256 == pytest.approx(0.25 + y / 62, abs=0.3 / 64)


def test_the_first_and_the_last_orientation_are_equal_and_all_others_of_a_heart_differ():
    values = np.array([[2, 5, o, 10, 20] for o in range(40)])
    images = sprites.render(values, 64).reshape(40, -1)
    np.testing.assert_array_equal(images[0], images[39])
    assert len(np.unique(images, axis=0)) == 39


def test_neighbours_on_the_grid_differ():
    start = np.array([1, 2, 3, 4, 5])
    images = sprites.render(start + np.eye(5, dtype=int), 64)
    assert len(np.unique([start_image.tobytes() for start_image in images])) == 5


def test_orientations_turn_counterclockwise_and_a_heart_stands_upright():
    heart, ellipse = sprites.render(np.array([[2, 5, 0, 15, 15], [1, 5, 4, 15, 15]]), 64)[..., 0]
    row, column = np.nonzero(heart)
    assert np.ptp(column[row == row.min() + 3]) > np.ptp(column[row == row.max() - 3])
    row, column = np.nonzero(ellipse)
    # Up is the direction of smaller rows.
    slope = np.cov(column, -row)[0, 1]
    assert slope > 0


# Groups of sprites.


def test_exactly_one_factor_differs_within_a_group():
    sizes = {"train": 200, "validation": 20, "test": 20}
    data = datasets.load("sprites_groups", image_size=8, sizes=sizes, y="varied")
    groups = data.factors("train").reshape(10, 20, 5)
    varied = data.arrays("train")[1].reshape(10, 20)
    np.testing.assert_array_equal(varied[:, 0], [0, 1, 2, 3, 4] * 2)
    np.testing.assert_array_equal(varied, np.tile(varied[:, :1], 20))
    values = np.array([[len(set(column)) for column in group.T] for group in groups])
    # Shape and scale have fewer than 20 values, which occur equally often up to one.
    np.testing.assert_array_equal(values[:5], 1 + np.diag([2, 5, 19, 19, 19]))
    np.testing.assert_array_equal(np.sort(np.bincount(groups[0, :, 0])), [6, 7, 7])


def test_no_point_of_the_grid_is_in_two_splits_and_none_is_an_image_to_score_on():
    sizes = {"train": 20_000, "validation": 2_000, "test": 2_000}
    groups = sprites._group_splits(sizes, 1, 3)
    scored = sprites._splits({**sprites.SPRITES.sizes, "train": 1}, 1, 3)
    train, validation, test, *held_out = (
        set(map(tuple, split.labels["factors"].tolist()))
        for split in (*groups.values(), scored["validation"], scored["test"])
    )
    assert len(train) > 13_000
    assert not train & validation and not train & test and not validation & test
    assert not train & held_out[0] and not train & held_out[1]


def test_too_many_held_out_groups_of_sprites_are_refused():
    with pytest.raises(ValueError, match=r"at most 40000 together.*Received: .*'test': 50000"):
        datasets.load("sprites_groups", sizes={"test": 50_000})


# Scenes.


def test_attributes_are_read_off_images_and_masks():
    data = datasets.load("sprites_scenes", sizes={**SIZES, "train": 400}, y="mask")
    x, mask = data.arrays("train")
    values = data.factors("train")
    read = scenes.read_attributes(x, mask)
    assert (read["shape"] == values[:, 0]).mean() > 0.99
    hue = np.angle(np.exp(1j * (read["hue"] - values[:, 1] * np.pi / 3)))
    assert np.abs(hue).max() < 0.02
    assert np.abs(read["size"] / values[:, 2] - 1).mean() < 0.02
    for k, axis in enumerate("xy"):
        assert np.abs(read[axis] - values[:, 3 + k]).max() < 0.3 / 32
        assert np.abs(read[axis] - values[:, 3 + k]).mean() < 0.1 / 32
    nothing = scenes.read_attributes(x[:2], 0 * mask[:2])
    assert all(np.isnan(nothing[key]).all() for key in ("hue", "size", "x", "y"))


def test_attributes_are_the_scaled_factors():
    data = scene()
    attributes, values = data.annotations("train")["attributes"], data.factors("train")
    np.testing.assert_array_equal(attributes[:, :3].argmax(1), values[:, 0])
    np.testing.assert_allclose(
        attributes[:, 3], (1 + np.cos(values[:, 1] * np.pi / 3)) / 2, atol=1e-6
    )
    np.testing.assert_allclose(
        attributes[:, 4], (1 + np.sin(values[:, 1] * np.pi / 3)) / 2, atol=1e-6
    )
    np.testing.assert_allclose(attributes[:, 5], (values[:, 2] - 0.5) / 0.5, atol=1e-6)
    np.testing.assert_allclose(attributes[:, 6:], (values[:, 3:] + 0.15) / 0.3, atol=1e-6)
    assert attributes.min() >= 0 and attributes.max() <= 1


# Textures.


def test_layouts_and_colours_are_read_off_images_and_palettes():
    data = datasets.load("textures", sizes={**SIZES, "train": 300}, y="all")
    x, y = data.arrays("train")
    layouts, distances = textures.read_layouts(x, y["palette"])
    np.testing.assert_array_equal(layouts[..., None], y["layout"] == 1)
    assert distances.max() < 0.5 / 255 * 3**0.5
    # With the texture of another image, pixels are far from the colours.
    _, distances = textures.read_layouts(x, y["palette"][::-1])
    assert np.median(distances) > 0.1
    apart = np.sqrt(((y["palette"][:, :, None] - y["palette"][:, None]) ** 2).sum(-1))
    assert apart[:, ~np.eye(4, dtype=bool)].min() > 0.4


def test_textures_have_their_period_and_their_share_of_each_colour():
    data = datasets.load("textures", sizes={**SIZES, "train": 600}, y="all", image_size=64)
    values, names = data.factors("train"), data.factor_names
    x, y = data.arrays("train")
    second = np.sqrt(((x[..., None, :] - y["palette"][:, None, None]) ** 2).sum(-1)).argmin(-1) == 3
    outside = y["layout"][..., 0] == 0
    kinds, angles = (values[:, names.index(f"outside_{what}")] for what in ("pattern", "angle"))
    shares = (second & outside).sum((1, 2)) / outside.sum((1, 2))
    for kind, share in ((0, 0.5), (1, 0.5), (2, 0.28)):
        assert shares[kinds == kind].mean() == pytest.approx(share, abs=0.03)
    # Vertical stripes: the number of edges in the first row says the period.
    for i in np.flatnonzero((kinds == 0) & (np.abs(angles - np.pi / 2) > 1.4))[:5]:
        assert outside[i, 0].all()
        edges = (np.diff(second[i, 0].astype(int)) != 0).sum()
        period = values[i, names.index("outside_period")] / abs(np.cos(angles[i]))
        assert edges == pytest.approx(2 * 64 / period, abs=1.5)


# Heads.


def test_frames_of_a_head_share_its_identity_alone():
    data = datasets.load("heads", image_size=16, sizes=SIZES, y="all")
    leaves = data.annotations("train")
    frames = leaves["factors"].reshape(10, 4, 24)
    np.testing.assert_array_equal(leaves["group"], np.repeat(np.arange(10), 4))
    assert np.ptp(frames[..., :10], axis=1).max() == 0
    assert np.ptp(frames[..., 10:], axis=1).min() > 0
    attributes = leaves["attributes"]
    np.testing.assert_array_equal(attributes[:, 18], leaves["factors"][:, 18] > 0)
    np.testing.assert_array_equal(attributes[:, 22], leaves["factors"][:, 22] > 0.65)
    assert data.factor_names == heads.FACTORS and data.group_size == 4
    shares = leaves["mask"].mean((1, 2, 3))
    assert 0.15 < shares.mean() < 0.45 and set(np.unique(leaves["mask"])) == {0, 1}


def test_a_turn_has_similar_effects_under_the_lights_at_both_ends_of_the_range():
    values = np.zeros([4, len(heads.GREY_FACTORS)])
    values[:, 0] = [0.1, -0.1, 0.1, -0.1]

    def correlation(light):
        values[:, 2] = [light, light, -light, -light]
        pixels = heads.render_grey(values, 32).astype(float)
        return np.corrcoef((pixels[0] - pixels[1]).ravel(), (pixels[2] - pixels[3]).ravel())[0, 1]

    assert correlation(heads.RANGES[2]) > 0.7 > 0.4 > correlation(1.2)


def test_images_of_a_grey_group_differ_in_one_factor():
    sizes = {"train": 120, "validation": 20, "test": 20}
    data = datasets.load("heads_grey", image_size=16, sizes=sizes, y="varied")
    _, varied = data.arrays("train")
    groups = data.factors("train").reshape(6, 20, 13)
    np.testing.assert_array_equal(varied, np.repeat([0, 0, 1, 2, 3, 3], 20))
    blocks = [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 13)]
    for group, kind in zip(groups, varied[::20], strict=True):
        for k, block in enumerate(blocks):
            spread = np.ptp(group[:, block], axis=0)
            assert spread.min() > 0 if k == kind else spread.max() == 0
    background = data.pixels("train")[:, 0, 0, 0]
    np.testing.assert_array_equal(background, np.full(120, 127))


@pytest.mark.parametrize("name", ["sprites", "heads_grey"])
def test_images_are_rendered_from_their_factors(name):
    data = zoo.datasets.load(name, sizes=SIZES, image_size=16)
    images, _ = data.arrays("test")
    again = data.render(data.factors("test"))
    # Factors are float32, and the renderings of heads have more digits.
    assert np.abs(images - again).max() <= 1.5 / 255
    with pytest.raises(ValueError, match=r"shape \[N, \d+\]"):
        data.render(np.zeros([3, 1]))


def test_sets_whose_factors_do_not_determine_images_are_not_rendered():
    data = zoo.datasets.load("sprites_scenes", sizes=SIZES)
    assert not data.can_render
    with pytest.raises(ValueError, match="'sprites_scenes'"):
        data.render(np.zeros([1, 5]))


@pytest.mark.parametrize("shape", [-1, 0.5, 3])
def test_sprites_are_rendered_on_the_grid_only(shape):
    with pytest.raises(ValueError, match="whole numbers from 0 to below"):
        sprites.render([[shape, 0, 0, 0, 0]], 8)


@pytest.mark.parametrize(("light", "expected"), [(0.4, 0.80), (1.2, 0.13)])
def test_the_effect_of_a_turn_depends_on_the_light(light, expected):
    """The reason for the narrow range of the light, in the record of DC-IGN on heads."""
    values = np.random.default_rng(0).normal(size=(100, 13))
    values[:, 1] = 0

    def effect(light):
        values[:, 2] = light
        images = []
        for azimuth in (0.1, -0.1):
            values[:, 0] = azimuth
            images.append(heads.render_grey(values, 32) / 255.0)
        return (images[0] - images[1]).ravel()

    assert np.corrcoef(effect(light), effect(-light))[0, 1] == pytest.approx(expected, abs=0.006)
