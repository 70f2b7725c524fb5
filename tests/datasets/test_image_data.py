"""The pipeline: order, resuming, sharding, and binarisation, against NumPy."""

from itertools import chain

import numpy as np
import pytest
import tensorflow as tf
from speed import slow

from zoo import datasets
from zoo.datasets.images import ImageData, Split, _uniform


def counting(n=20, binarize=None, seed=0):
    """Images with their index as pixel and label, so that a batch shows its rows."""
    rows = np.arange(n)
    images = np.broadcast_to(rows[:, None, None, None], (n, 2, 2, 1)).astype(np.uint8)
    split = Split(images, rows.astype(np.int32))
    splits = dict.fromkeys(("train", "validation", "test"), split)
    return ImageData("counting", splits, (2, 2, 1), binarize=binarize, seed=seed)


def half(n=400, value=64, levels=256, **options):
    """Constant images, so that the mean of a draw is known."""
    split = Split(np.full((n, 8, 8, 1), value, np.uint8))
    splits = dict.fromkeys(("train", "validation", "test"), split)
    return ImageData("half", splits, (8, 8, 1), levels=levels, **options)


def rows(dataset, take=None):
    dataset = dataset if take is None else dataset.take(take)
    return [y.numpy().tolist() for _, y in dataset]


def pixels(dataset, take=None):
    dataset = dataset if take is None else dataset.take(take)
    return np.concatenate([np.asarray(x) for x in dataset.as_numpy_iterator()])


def test_the_stored_order_keeps_the_remainder_and_the_scale():
    batches = list(counting().batches("test", 8))
    assert [len(x) for x, _ in batches] == [8, 8, 4]
    x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
    np.testing.assert_array_equal(y, np.arange(20))
    np.testing.assert_allclose(x, np.ones([1, 2, 2, 1]) * y.reshape(-1, 1, 1, 1) / 255, rtol=1e-6)
    assert x.dtype == np.float32 and y.dtype == np.int32


def test_a_shuffled_epoch_has_every_example_once():
    first, second = (
        list(chain(*rows(counting().batches("train", 8, shuffle=True, first_epoch=e))))
        for e in (0, 1)
    )
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second != list(range(20)) != first


def test_order_is_a_function_of_seed_and_epoch():
    def epoch(seed):
        return rows(counting(seed=seed).batches("train", 5, shuffle=True, repeat=True), 8)

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)


def test_each_epoch_has_another_order():
    def epoch(number):
        options = {"shuffle": True, "repeat": True, "first_epoch": number}
        return rows(counting(seed=0).batches("train", 5, **options), 8)

    assert epoch(0) != epoch(1) != epoch(2)


@pytest.mark.parametrize("binarize", [None, "dynamic", "dynamic_all", "fixed"])
def test_resumed_training_has_the_same_batches(binarize):
    data = datasets.load("digits", binarize=binarize, seed=3)
    options = {"shuffle": True, "repeat": True}
    steps = data.steps_per_epoch(300)
    assert steps == 3
    whole = list(data.batches("train", 300, **options).take(4 * steps))
    resumed = list(data.batches("train", 300, first_epoch=2, **options).take(2 * steps))
    for (x, y), (again_x, again_y) in zip(whole[2 * steps :], resumed, strict=True):
        np.testing.assert_array_equal(x, again_x)
        np.testing.assert_array_equal(y, again_y)


def test_the_shards_together_are_the_global_batch():
    data = datasets.load("digits", binarize="dynamic")
    options = {"shuffle": True, "repeat": True}
    whole = data.batches("train", 120, **options).take(
        10
    )  # An epoch has 8 steps; 10 go beyond its end.
    shards = [data.batches("train", 120, shard=(w, 2, 3), **options).take(30) for w in range(2)]
    parts = [list(shard) for shard in shards]
    for step, (x, y) in enumerate(whole):
        united = [part for shard in parts for part in shard[3 * step : 3 * step + 3]]
        assert all(part.shape == (20, 8, 8, 1) for part, _ in united)
        np.testing.assert_array_equal(x, tf.concat([part for part, _ in united], 0))
        np.testing.assert_array_equal(y, tf.concat([part for _, part in united], 0))
    policy = shards[0].options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF


def test_shapes_are_static_if_the_remainder_is_dropped():
    data = counting()
    x, y = data.batches("train", 6, repeat=True).element_spec
    assert x.shape == (6, 2, 2, 1) and y.shape == (6,)
    assert data.batches("train", 6).cardinality() == 4
    assert data.batches("train", 6, drop_remainder=True).cardinality() == 3
    assert data.batches("train", 6, repeat=True).cardinality() == tf.data.INFINITE_CARDINALITY
    assert isinstance(data.batches("train", 6, labels=False).element_spec, tf.TensorSpec)


@pytest.mark.parametrize("shard", [(0, 1, 1), (0, 2, 1)])
def test_the_end_of_a_pipeline_waits_for_no_tuning_thread(shard):
    batches = counting().batches("train", 6, drop_remainder=True, shard=shard)
    assert batches.options().autotune.enabled is False


def test_uniform_matches_splitmix64():
    def reference(key, count):
        mask, out = 2**64 - 1, []
        for _ in range(count):
            key = (key + 0x9E3779B97F4A7C15) & mask
            z = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            out.append(((z ^ (z >> 31)) >> 40) / 2**24)
        return out

    keys = [0, 1234567, 2**64 - 5]
    drawn = _uniform(tf.constant(keys, tf.uint64), (2, 3, 1)).numpy()
    expected = np.reshape([reference(key, 6) for key in keys], [3, 2, 3, 1])
    np.testing.assert_array_equal(drawn, expected.astype(np.float32))


def test_dynamic_draws_have_the_mean_of_the_pixel_at_every_pixel_and_image():
    data, p, n = half(binarize="dynamic"), 64 / 255, 400 * 64
    first, second = (
        pixels(data.batches("train", 100, repeat=True, first_epoch=e), 4) for e in (0, 1)
    )
    for drawn in first, second:
        assert set(np.unique(drawn)) == {0.0, 1.0}
        sigma = np.sqrt(p * (1 - p) / n)
        assert abs(drawn.mean() - p) < 4 * sigma
        # The means by pixel and by image have the variance of independent draws.
        assert 0.6 < drawn.mean(0).var() / (p * (1 - p) / 400) < 1.5
        assert 0.8 < drawn.mean((1, 2, 3)).var() / (p * (1 - p) / 64) < 1.25
    agree = (first == second).mean()  # Independent epochs agree with probability p^2 + (1 - p)^2.
    assert abs(agree - (p**2 + (1 - p) ** 2)) < 4 * np.sqrt(0.25 / n)
    assert not np.array_equal(first, second)


def test_draws_depend_only_on_the_seed():
    def draw(seed):
        return pixels(half(binarize="dynamic", seed=seed).batches("train", 100))

    np.testing.assert_array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


def test_the_fixed_draw_does_not_depend_on_the_batch_size():
    data = half(binarize="fixed")
    np.testing.assert_array_equal(
        pixels(data.batches("train", 7)), pixels(data.batches("train", 400))
    )


def test_extreme_pixels_are_never_flipped():
    assert pixels(half(value=0, binarize="dynamic").batches("train", 100)).max() == 0
    assert pixels(half(value=255, binarize="dynamic").batches("train", 100)).min() == 1


@pytest.mark.parametrize(
    "binarize, train_varies, test_varies",
    [("dynamic", True, False), slow("dynamic_all", True, True), slow("fixed", False, False)],
)
def test_the_binarisation_determines_which_splits_have_new_draws_in_each_epoch(
    binarize, train_varies, test_varies
):
    data = half(binarize=binarize)
    for split, varies in [("train", train_varies), ("test", test_varies)]:
        once, later = (pixels(data.batches(split, 100, first_epoch=e)) for e in (0, 5))
        assert np.array_equal(once, later) != varies
        both = pixels(data.batches(split, 400, repeat=True), 2)
        assert np.array_equal(both[:400], both[400:]) != varies


def test_a_fixed_draw_depends_on_the_example_and_not_on_its_position():
    data = datasets.load("digits", binarize="fixed")
    stored, _ = data.arrays("train")
    shuffled = pixels(data.batches("train", 100, shuffle=True, labels=False))
    assert sorted(x.tobytes() for x in stored) == sorted(x.tobytes() for x in shuffled)


def test_draws_of_splits_are_independent():
    data = half(binarize="fixed")
    assert not np.array_equal(data.arrays("validation")[0], data.arrays("test")[0])


@pytest.mark.parametrize("binarize", [None, "dynamic", "fixed", "threshold"])
def test_arrays_are_the_batches_of_an_evaluation(binarize):
    data = datasets.load("digits", binarize=binarize)
    x, y = data.arrays("test")
    batches = list(data.batches("test", 100))
    np.testing.assert_array_equal(x, np.concatenate([x for x, _ in batches]))
    np.testing.assert_array_equal(y, np.concatenate([y for _, y in batches]))
    first, labels = data.arrays("test", limit=10)
    np.testing.assert_array_equal(first, x[:10])
    np.testing.assert_array_equal(labels, y[:10])


def test_the_threshold_is_one_half():
    plain, _ = datasets.load("digits").arrays("test")
    binary, _ = datasets.load("digits", binarize="threshold").arrays("test")
    np.testing.assert_array_equal(binary, plain >= 0.5)
    assert (plain == 0.5).any()  # The pixels include the threshold, at which >= and > differ.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split": "tset"}, "train, validation, test"),
        ({"batch_size": 21, "repeat": True}, "20 images, too few"),
        ({"batch_size": 0}, "at least 1"),
        ({"shard": (0, 2, 1)}, "drop_remainder=True"),
        ({"shard": (0, 3, 1), "repeat": True}, "divisible by the 3 replicas"),
        ({"shard": (2, 2, 1), "repeat": True}, "worker < workers"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        counting().batches(**{"split": "train", "batch_size": 10, **options})


def test_the_error_of_an_unknown_binarisation_lists_the_known_ones():
    with pytest.raises(ValueError, match="'dynamic', 'dynamic_all', 'fixed', 'threshold'"):
        counting(binarize="sometimes")


@pytest.mark.parametrize("binarize", [None, "dynamic", "fixed", "threshold"])
def test_pixels_are_the_stored_pixels_for_every_binarisation(binarize):
    stored = counting(2000, binarize=binarize).pixels("test")
    assert stored.dtype == np.uint8 and len(stored) == 2000
    np.testing.assert_array_equal(stored[:, 0, 0, 0], np.arange(2000) % 256)
    np.testing.assert_array_equal(counting(binarize=binarize).pixels("test", 7), stored[:7])


def test_pixels_of_fewer_levels_are_the_nearest_8_bit_values():
    for value, eight_bit in ((0, 0), (1, 16), (8, 128), (15, 239), (16, 255)):
        assert (half(3, value, levels=17).pixels("test") == eight_bit).all()


@pytest.mark.parametrize("binarize", [None, "dynamic", "fixed", "threshold"])
def test_spread_yields_the_means_of_draws_and_fixed_draws(binarize):
    data = half(1100, binarize=binarize)
    x = np.concatenate([x for x, _ in data.spread("train", 5000)])
    expected = data.arrays("train")[0]
    if binarize == "dynamic":
        expected = data.pixels("train").astype(np.float32) / 255
    np.testing.assert_allclose(x, expected, atol=1e-6)


def test_spread_takes_steady_steps_through_images_and_annotations():
    data = counting(20)
    [(x, y)] = data.spread("train", 5)
    np.testing.assert_array_equal(y, [0, 4, 8, 12, 16])
    np.testing.assert_array_equal(x, data.arrays("train")[0][::4])
    with pytest.raises(ValueError, match="limit"):
        next(data.spread("train", 0))


def test_a_small_image_is_the_average_of_the_same_draw():
    data = datasets.load("digits", binarize="dynamic", y="small:4")
    assert data.has_labels and data.label_names is None
    first, second = (
        next(iter(data.batches("train", 50, shuffle=True, first_epoch=epoch))) for epoch in (0, 1)
    )
    for x, y in (first, second, data.arrays("test", 7)):
        assert y.dtype == np.float32 and y.shape == (len(x), 2, 2, 1)
        boxes = np.asarray(x).reshape(-1, 2, 4, 2, 4, 1)
        np.testing.assert_allclose(y, boxes.mean((2, 4)), atol=1e-6)
    assert np.abs(first[1] - second[1]).max() > 0
    assert data.annotations("test", 3)["label"].shape == (3,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": "small:3"}, "divisible by 3. Received: 8x8"),
        ({"y": "small:1"}, "factor K of at least 2, such as 'small:4'. Received: y='small:1'"),
        ({"y": "small:x"}, "Received: y='small:x'"),
        ({"y": "smaller"}, "or 'small:K' for the image.*Received: y='smaller'"),
        (
            {"y": "small:2", "seen": "box"},
            "one of three: an annotation, a small image, or the seen part",
        ),
        ({"y": "small:2", "num_labels": 10}, "label"),
    ],
)
def test_small_images_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        datasets.load("digits", **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"binarize": "dynamic"},
        {"binarize": "fixed"},
        {"binarize": "threshold"},
        {"seen": "pixels:0.5"},
        {"y": "small:2"},
    ],
)
def test_batches_of_given_rows_are_those_of_the_pipeline(options):
    data, epoch = datasets.load("digits", **options), 3
    pipeline = data.batches("train", 50, shuffle=True, repeat=True, first_epoch=epoch)
    order = data._shuffled(data.sizes["train"], 1, tf.constant(epoch, tf.int64))
    order = tf.reshape(order[: data.steps_per_epoch(50) * 50], [-1, 50])

    def batch(step):
        return data.batches_of("train", order, tf.constant(epoch, tf.int64))(step)

    # XLA draws other numbers where each epoch has new draws.
    new = options in ({"binarize": "dynamic"}, {"seen": "pixels:0.5"})
    compiled = tf.function(batch, jit_compile=not new)
    for step, expected in enumerate(pipeline.take(3)):
        found = compiled(tf.constant(step))
        tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
    third = data.batches_of("train", order[2:], tf.constant(epoch, tf.int64), first_step=2)(0)
    tf.nest.map_structure(np.testing.assert_array_equal, third, expected)
    held_out = data.batches_of("validation", tf.range(40)[None])(0)
    expected = next(iter(data.batches("validation", 40)))
    tf.nest.map_structure(np.testing.assert_array_equal, held_out, expected)
    with pytest.raises(ValueError, match="Received: split='none'"):
        data.batches_of("none", order)


def test_batches_of_two_streams_come_from_the_streams():
    data = datasets.load("digits", num_labels=50)
    (unlabelled, n, one), (labelled, n_labelled, _) = data.streams(40, semi_supervised=True)
    assert sorted([*unlabelled, *labelled]) == list(range(data.sizes["train"]))
    assert len(labelled) == 50 and n + n_labelled == 40 and one == 1
    rows = np.concatenate([unlabelled[:n], labelled[:n_labelled]])[None].astype(np.int32)
    (x, y), x_unlabelled = data.batches_of("train", rows, 0, n_labelled)(0)
    assert len(x) == n_labelled and len(x_unlabelled) == n and (np.asarray(y) >= 0).all()
    np.testing.assert_array_equal(x, data.arrays("train")[0][labelled[:n_labelled]])
    (all_rows, size, group), *others = data.streams(40)
    assert (len(all_rows), size, group, others) == (data.sizes["train"], 40, 1, [])
