"""Labels for some of the images: which images keep one, and the two streams of a batch."""

import numpy as np
import pytest

from zoo import datasets
from zoo.datasets.images import ImageData, Split
from zoo.datasets.labelled import hide_labels, labelled_rows

CLASSES = 4


def counting(n=200, num_labels=20, seed=0, labels=None, **options):
    """Images whose pixels are their index, so that a batch shows its rows; classes in turn."""
    rows = np.arange(n)
    images = np.broadcast_to(rows[:, None, None, None], (n, 2, 2, 1)).astype(np.uint8)
    labels = (rows % CLASSES).astype(np.int32) if labels is None else labels
    splits = dict.fromkeys(("train", "validation", "test"), Split(images, labels))
    return ImageData("counting", splits, (2, 2, 1), num_labels=num_labels, seed=seed, **options)


def rows_of(x):
    return np.round(np.asarray(x)[:, 0, 0, 0] * 255).astype(int)


def batches(data, size, take=None, **options):
    """The batches of an epoch as `(labelled rows, y, unlabelled rows)`."""
    whole = data.batches("train", size, shuffle=True, repeat=True, semi_supervised=True, **options)
    steps = data.steps_per_epoch(size) * options.get("shard", (0, 1, 1))[2]
    return [
        (rows_of(x_labelled), y.numpy(), rows_of(x_unlabelled))
        for (x_labelled, y), x_unlabelled in whole.take(take or steps)
    ]


def test_each_class_keeps_the_same_number_of_labels_and_the_other_images_have_none():
    x, y = counting().arrays("train")
    kept = np.flatnonzero(y >= 0)
    assert np.bincount(y[kept]).tolist() == [5] * CLASSES
    np.testing.assert_array_equal(y[kept], kept % CLASSES)
    assert (y[y < 0] == -1).all() and len(y) == 200
    for split in ("validation", "test"):
        np.testing.assert_array_equal(counting().arrays(split)[1], np.arange(200) % CLASSES)
    np.testing.assert_array_equal(x, counting(num_labels=None).arrays("train")[0])


def test_the_seed_decides_which_images_keep_their_label():
    def kept(seed):
        return np.flatnonzero(counting(seed=seed).arrays("train")[1] >= 0).tolist()

    assert kept(0) == kept(0) != kept(1)


def test_the_data_do_not_contain_the_hidden_labels():
    data = counting()
    for labels in data._splits["train"].labels.numpy(), data.arrays("train")[1]:
        assert (labels >= 0).sum() == 20


def test_a_batch_is_a_labelled_and_an_unlabelled_stream_of_fixed_sizes():
    data = counting()
    assert data.labelled_share == 0.1
    kept = np.flatnonzero(data.arrays("train")[1] >= 0)
    for rows, y, unlabelled in batches(data, 20):
        assert (y == rows % CLASSES).all() and set(rows) <= set(kept)
        assert not set(unlabelled) & set(kept)
    whole = data.batches("train", 20, shuffle=True, repeat=True, semi_supervised=True)
    (x_labelled, y), x_unlabelled = whole.element_spec
    assert (x_labelled.shape, y.shape, x_unlabelled.shape) == (
        (2, 2, 2, 1), (2,), (18, 2, 2, 1)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("num_labels", "size", "labelled"), [(4, 20, 2), (4, 5, 1), (20, 20, 2), (100, 20, 10)]
)
def test_labelled_rows_have_their_share_of_the_data_and_at_least_a_tenth(
    num_labels, size, labelled
):
    data = counting(num_labels=num_labels)
    assert data.labelled_share == num_labels / 200
    assert labelled_rows(size, data.labelled_share) == labelled
    for rows, y, unlabelled in batches(data, size):
        assert len(rows) == len(y) == labelled and len(unlabelled) == size - labelled


def test_the_number_of_labelled_rows_is_rounded_up_except_for_rounding_errors():
    assert [labelled_rows(n, 0.002) for n in (10, 30, 70, 71)] == [1, 3, 7, 8]
    assert labelled_rows(100, 0.14) == 14  # 100 * 0.14 is 14.000000000000002.
    assert labelled_rows(100, 0.141) == 15


def test_an_epoch_has_each_unlabelled_image_once_and_labelled_images_equally_often():
    epoch = batches(counting(), 20)
    assert len(epoch) == 10
    unlabelled = np.concatenate([rows for _, _, rows in epoch])
    assert len(np.unique(unlabelled)) == len(unlabelled) == 180  # All labelled images.
    labelled = np.concatenate([rows for rows, _, _ in batches(counting(num_labels=4), 20)])
    counts = np.bincount(labelled)
    assert counts[counts > 0].tolist() == [5] * 4
    passes = labelled.reshape(5, 4)
    assert all(len(set(one)) == 4 for one in passes) and len(set(map(tuple, passes))) > 1


def test_orders_are_functions_of_seed_and_epoch():
    def listed(data, **options):
        return [[a.tolist() for a in batch] for batch in batches(data, 20, **options)]

    whole = listed(counting(), take=30)
    assert listed(counting(), first_epoch=2) == whole[20:]
    assert whole[:10] != whole[10:20] != whole[20:]
    assert listed(counting()) == whole[:10]


def test_the_parts_of_the_replicas_have_both_streams_and_form_the_batch():
    whole = batches(counting(), 40)
    parts = [batches(counting(), 40, shard=(w, 2, 2)) for w in range(2)]
    for step, batch in enumerate(whole):
        of_step = [part for shard in parts for part in shard[2 * step : 2 * step + 2]]
        assert [(len(rows), len(unlabelled)) for rows, _, unlabelled in of_step] == [(1, 9)] * 4
        for stream, together in zip(zip(*of_step, strict=True), batch, strict=True):
            np.testing.assert_array_equal(np.concatenate(stream), together)


def test_a_dynamic_draw_covers_both_streams():
    data = counting(binarize="dynamic")
    batch = data.batches("train", 20, shuffle=True, repeat=True, semi_supervised=True)
    (x_labelled, y), x_unlabelled = next(iter(batch))
    assert x_labelled.shape == (2, 2, 2, 1) and x_unlabelled.shape == (18, 2, 2, 1)
    assert set(np.unique(x_labelled)) | set(np.unique(x_unlabelled)) == {0.0, 1.0}
    assert y.shape == (2,)


def test_batches_of_one_stream_keep_the_stored_order():
    rows, y = zip(*[(rows_of(x), y) for x, y in counting().batches("train", 20)], strict=True)
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(200))
    np.testing.assert_array_equal(np.concatenate(y), counting().arrays("train")[1])


@pytest.mark.parametrize("num_labels", [18, 204, 200, 2])
def test_numbers_of_labels_that_do_not_fit_the_classes_are_refused(num_labels):
    with pytest.raises(ValueError, match=r"multiple of the 4 classes.*Received: num_labels="):
        counting(num_labels=num_labels)


def test_the_smallest_class_limits_the_number_of_labels():
    labels = np.repeat(np.arange(4), [97, 97, 3, 3]).astype(np.int32)
    assert (counting(num_labels=12, labels=labels).arrays("train")[1] >= 0).sum() == 12
    with pytest.raises(ValueError, match="keep at most 3 labels of each class"):
        counting(num_labels=16, labels=labels)


@pytest.mark.parametrize("num_labels", [0, -4, 2.5, True])
def test_an_invalid_number_of_labels_is_refused_before_data_is_read(num_labels):
    with pytest.raises(ValueError, match="None or a positive int"):
        datasets.load("mnist", data_dir="nowhere", num_labels=num_labels)


def test_attributes_and_seen_parts_are_not_labels():
    with pytest.raises(ValueError, match="an integer label"):
        hide_labels(np.zeros([20, 3], np.float32), 4, 0)
    with pytest.raises(ValueError, match="an integer label"):
        hide_labels(None, 4, 0)
    with pytest.raises(ValueError, match="either the label or the image's seen part"):
        counting(seen="quadrants:1")


def test_a_batch_without_room_for_both_streams_is_refused():
    with pytest.raises(ValueError, match="room for a labelled and an unlabelled row"):
        batches(counting(), 1)
    with pytest.raises(ValueError, match="room for a labelled and an unlabelled row"):
        batches(counting(), 2, shard=(0, 2, 1))
    with pytest.raises(ValueError, match="needs `drop_remainder=True`"):
        counting().batches("train", 20, shuffle=True, semi_supervised=True)
    for wrong in (
        {"split": "test", "shuffle": True},
        {"split": "train"},
        {"split": "train", "shuffle": True, "labels": False},
    ):
        with pytest.raises(
            ValueError, match=r"for shuffled training images and their labels\. Rec"
        ):
            counting().batches(batch_size=20, semi_supervised=True, **wrong)


def test_an_epoch_of_one_stream_has_each_image_once():
    rows = [rows_of(x) for x, _ in counting().batches("train", 20, shuffle=True)]
    assert sorted(np.concatenate(rows)) == list(range(200))


def test_a_batch_is_one_stream_if_every_image_has_a_label():
    data = counting(num_labels=None)
    one, two = (
        data.batches("train", 20, shuffle=True, repeat=True, semi_supervised=s).take(10)
        for s in (False, True)
    )
    for (x, y), (other_x, other_y) in zip(one, two, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


def test_load_hides_labels_of_digits():
    data = datasets.load("digits", num_labels=50)
    _, y = data.arrays("train")
    assert np.bincount(y + 1).tolist() == [950] + [5] * 10
    true = datasets.load("digits").arrays("train")[1]
    np.testing.assert_array_equal(y[y >= 0], true[y >= 0])
    assert datasets.load("digits").labelled_share == 1.0
