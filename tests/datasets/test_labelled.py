"""Few labels: which images keep theirs, and how batches are laid out. Against counting by hand."""

import numpy as np
import pytest

from zoo import datasets
from zoo.datasets.images import ImageData, Split
from zoo.datasets.labelled import hide_labels, labelled_rows

CLASSES = 4


def counting(n=200, num_labels=20, seed=0, labels=None, **options):
    """Images whose pixel is their index, so a batch tells which rows it holds; classes in turn."""
    rows = np.arange(n)
    images = np.broadcast_to(rows[:, None, None, None], (n, 2, 2, 1)).astype(np.uint8)
    labels = (rows % CLASSES).astype(np.int32) if labels is None else labels
    splits = dict.fromkeys(("train", "validation", "test"), Split(images, labels))
    return ImageData("counting", splits, (2, 2, 1), num_labels=num_labels, seed=seed, **options)


def rows_of(x):
    return np.round(np.asarray(x)[:, 0, 0, 0] * 255).astype(int)


def batches(data, size, take=None, **options):
    whole = data.batches("train", size, shuffle=True, repeat=True, stratified=True, **options)
    steps = data.steps_per_epoch(size) * options.get("shard", (0, 1, 1))[2]
    return [(rows_of(x), y.numpy()) for x, y in whole.take(take or steps)]


def test_as_many_of_each_class_keep_their_own_label_and_all_others_have_none():
    x, y = counting().arrays("train")
    kept = np.flatnonzero(y >= 0)
    assert np.bincount(y[kept]).tolist() == [5] * CLASSES
    np.testing.assert_array_equal(y[kept], kept % CLASSES)
    assert (y[y < 0] == -1).all() and len(y) == 200
    for split in ("validation", "test"):
        np.testing.assert_array_equal(counting().arrays(split)[1], np.arange(200) % CLASSES)
    np.testing.assert_array_equal(x, counting(num_labels=None).arrays("train")[0])


def test_which_ones_the_seed_decides():
    def kept(seed):
        return np.flatnonzero(counting(seed=seed).arrays("train")[1] >= 0).tolist()

    assert kept(0) == kept(0) != kept(1)


def test_what_was_hidden_is_nowhere_in_the_data():
    data = counting()
    for labels in data._splits["train"].labels.numpy(), data.arrays("train")[1]:
        assert (labels >= 0).sum() == 20
    assert {v for _, y in batches(data, 20) for v in y[:18]} == {-1}


def test_each_batch_has_its_unlabelled_rows_first_and_its_labelled_rows_last():
    data = counting()
    assert (data.labelled_share, data.labelled_rows) == (0.1, 0.1)
    for rows, y in batches(data, 20):
        assert (y[:-2] == -1).all() and (y[-2:] == rows[-2:] % CLASSES).all()


@pytest.mark.parametrize(
    ("num_labels", "share", "size", "few"), [(4, 0.1, 20, 2), (4, 0.1, 5, 1), (100, 0.5, 20, 10)]
)
def test_a_tenth_of_a_batch_is_labelled_or_the_share_of_the_data_if_that_is_more(
    num_labels, share, size, few
):
    data = counting(num_labels=num_labels)
    assert data.labelled_rows == share and labelled_rows(size, share) == few
    assert data.labelled_share == num_labels / 200
    assert all((y >= 0).sum() == few for _, y in batches(data, size))


def test_rounding_up_is_not_fooled_by_what_floats_are():
    assert [labelled_rows(n, 0.1) for n in (10, 30, 70, 71)] == [1, 3, 7, 8]
    assert labelled_rows(100, 0.07) == 7  # 100 * 0.07 is 7.000000000000001.


def test_an_epoch_shows_unlabelled_images_at_most_once_and_labelled_ones_evenly():
    data = counting()
    epoch = batches(data, 20)
    assert len(epoch) == 10
    free = np.concatenate([rows[:-2] for rows, _ in epoch])
    assert len(np.unique(free)) == len(free) == 180  # All that there are.
    few = counting(num_labels=4)
    counts = np.bincount(np.concatenate([rows[-2:] for rows, _ in batches(few, 20)]))
    assert counts[counts > 0].tolist() == [5] * 4
    passes = np.concatenate([rows[-2:] for rows, _ in batches(few, 20)]).reshape(5, 4)
    assert all(len(set(one)) == 4 for one in passes) and len(set(map(tuple, passes))) > 1


def test_orders_are_functions_of_seed_and_epoch():
    def listed(data, **options):
        return [(rows.tolist(), y.tolist()) for rows, y in batches(data, 20, **options)]

    whole = listed(counting(), take=30)
    assert listed(counting(), first_epoch=2) == whole[20:]
    assert whole[:10] != whole[10:20] != whole[20:]
    assert listed(counting()) == whole[:10]


def test_each_replicas_part_has_its_share_and_together_they_are_the_batch():
    whole = batches(counting(), 40)
    parts = [batches(counting(), 40, shard=(w, 2, 2)) for w in range(2)]
    for step, (rows, _) in enumerate(whole):
        united = [part for shard in parts for part in shard[2 * step : 2 * step + 2]]
        assert all((y[:-1] < 0).all() and y[-1] >= 0 for _, y in united)
        assert sorted(np.concatenate([r for r, _ in united])) == sorted(rows)


def test_a_dynamic_draw_goes_with_the_image_not_its_place():
    data = counting(binarize="dynamic")
    x, y = next(iter(data.batches("train", 20, shuffle=True, repeat=True, stratified=True)))
    assert x.shape == (20, 2, 2, 1) and set(np.unique(x)) <= {0.0, 1.0} and y.shape == (20,)


def test_the_stored_order_stays_as_it_is():
    rows, y = zip(*[(rows_of(x), y) for x, y in counting().batches("train", 20)], strict=True)
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(200))
    np.testing.assert_array_equal(np.concatenate(y), counting().arrays("train")[1])


@pytest.mark.parametrize("num_labels", [18, 204, 200, 2])
def test_numbers_that_cannot_be_shared_out_are_refused(num_labels):
    with pytest.raises(ValueError, match=r"multiple of the 4 classes.*Received: num_labels="):
        counting(num_labels=num_labels)


def test_the_smallest_class_is_the_limit():
    labels = np.repeat(np.arange(4), [97, 97, 3, 3]).astype(np.int32)
    assert (counting(num_labels=12, labels=labels).arrays("train")[1] >= 0).sum() == 12
    with pytest.raises(ValueError, match="of at most 3 "):
        counting(num_labels=16, labels=labels)


@pytest.mark.parametrize("num_labels", [0, -4, 2.5, True])
def test_what_is_no_number_of_labels_is_refused_before_anything_is_read(num_labels):
    with pytest.raises(ValueError, match="None or a positive int"):
        datasets.load("mnist", data_dir="nowhere", num_labels=num_labels)


def test_attributes_and_seen_parts_are_no_labels():
    with pytest.raises(ValueError, match="an integer label"):
        hide_labels(np.zeros([20, 3], np.float32), 4, 0)
    with pytest.raises(ValueError, match="an integer label"):
        hide_labels(None, 4, 0)
    with pytest.raises(ValueError, match="either the label or the image's seen part"):
        counting(seen_quadrants=1)


def test_a_batch_has_room_for_both():
    with pytest.raises(ValueError, match="labelled and unlabelled rows"):
        batches(counting(), 1)
    with pytest.raises(ValueError, match="needs `drop_remainder=True`"):
        counting().batches("train", 20, shuffle=True, stratified=True)
    for wrong in ({"split": "test", "shuffle": True}, {"split": "train"}):
        with pytest.raises(ValueError, match=r"for shuffled training images. Received"):
            counting().batches(batch_size=20, stratified=True, **wrong)


def test_unless_asked_for_an_epoch_has_each_image_once():
    rows = [rows_of(x) for x, _ in counting().batches("train", 20, shuffle=True)]
    assert sorted(np.concatenate(rows)) == list(range(200))
    whole = batches(counting(num_labels=None), 20)  # Where all have a label, no difference.
    np.testing.assert_array_equal(np.concatenate([r for r, _ in whole]), np.concatenate(rows))


def test_digits_by_name():
    data = datasets.load("digits", num_labels=50)
    _, y = data.arrays("train")
    assert np.bincount(y + 1).tolist() == [950] + [5] * 10
    true = datasets.load("digits").arrays("train")[1]
    np.testing.assert_array_equal(y[y >= 0], true[y >= 0])
    assert datasets.load("digits").labelled_share == 1.0
    assert datasets.load("digits").labelled_rows is None
