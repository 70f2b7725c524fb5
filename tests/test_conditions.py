"""Data whose `y` is a dict of annotations, models that name the ones they read, and whole groups."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import conditions, datasets, networks, presets, training
from zoo.datasets.images import ImageData, Split
from zoo.training.train import _training_batches

SHAPE = (8, 8, 1)


def annotated(n=24, y="all", group_size=None):
    """Images with attributes in [0, 1], a mask, and their numbers."""
    rng = np.random.default_rng(0)
    leaves = {
        "attributes": rng.uniform(size=(n, 3)).astype(np.float32),
        "mask": rng.integers(0, 2, (n, *SHAPE)).astype(np.uint8) * 255,
        "number": np.arange(n, dtype=np.int32),
    }
    split = Split(rng.integers(0, 256, (n, *SHAPE), np.uint8), leaves)
    splits = dict.fromkeys(("train", "validation", "test"), split)
    names = ("a", "b", "c")
    return ImageData("annotated", splits, SHAPE, attribute_names=names, y=y, group_size=group_size)


class Masked(zoo.GenerativeModel):
    """An autoencoder with the squared error inside the mask, and the numbers as a term."""

    annotations = ("mask", "number")
    terms = ("mean_number",)

    def __init__(self, encoder, generator, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.generator = encoder, generator

    def players(self):
        return {"autoencoder": [self.encoder, self.generator]}

    def objective(self, x, y, seed, training):
        images = self.generator(self.encoder(x, training=training), training=training)
        assert set(y) == set(self.annotations)
        loss = tf.reduce_sum(y["mask"] * (x - images) ** 2, [1, 2, 3])
        return {"autoencoder": loss}, {"mean_number": tf.cast(y["number"], tf.float32)}


class Numbered(Masked):
    """As `Masked`, with one annotation."""

    annotations = ("number",)

    def objective(self, x, y, seed, training):
        loss = tf.reduce_sum((x - self.generator(self.encoder(x))) ** 2, [1, 2, 3])
        return {"autoencoder": loss}, {"mean_number": tf.cast(y["number"], tf.float32)}


def build(kind=Masked):
    encoder = networks.mlp_encoder(SHAPE, 2, hidden=(4,))
    model = kind(encoder, networks.mlp_decoder(2, SHAPE, hidden=(4,)))
    model.compile("sgd", run_eagerly=True)
    return model


def test_an_objective_gets_the_annotations_that_its_model_names():
    data, model = annotated(), build()
    conditions.check(model, data)
    x, y = data.arrays("test")
    images = model.generator(model.encoder(x)).numpy()
    expected = (y["mask"] * (x - images) ** 2).sum((1, 2, 3)).mean()
    for source in ((data.batches("test", 12),), (x, y)):
        scores = model.evaluate(*source, verbose=0, return_dict=True)
        assert scores == pytest.approx({"loss": expected, "mean_number": 11.5}, rel=1e-5)
    history = model.fit(data.batches("train", 8), verbose=0).history
    assert history["mean_number"] == [11.5]
    model.train_on_batch(x, y)


def test_one_annotation_may_be_a_bare_array():
    model = build(Numbered)
    for y in ("number", "all", "number,mask"):
        data = annotated(y=y)
        conditions.check(model, data)
        scores = model.evaluate(data.batches("test", 12), verbose=0, return_dict=True)
        assert scores["mean_number"] == 11.5
    for y in ("mask", None):  # The first annotation is `attributes`.
        with pytest.raises(ValueError, match=rf"set data.y to 'number'.*with y={y!r}"):
            conditions.check(model, annotated(y=y))
    model.annotations = ("attributes",)
    conditions.check(model, annotated(y=None))


def test_missing_annotations_are_named():
    model, x = build(), np.zeros([2, *SHAPE], np.float32)
    sentence = r"A Masked reads the annotations 'mask', 'number': .*Received: "
    for y, received in [
        (None, "y=None, without 'mask'"),
        (x, "`y` without names, without 'mask'"),
        ({"mask": x, "hat": x}, r"a dict with the keys \['hat', 'mask'\], without 'number'"),
    ]:
        with pytest.raises(ValueError, match=sentence + received):
            model.train_on_batch(x, y)
    for data, has in [
        (annotated(y="mask"), "attributes, mask, number"),
        (annotated(y="mask,attributes"), "attributes, mask, number"),
        (datasets.load("digits"), "label"),
    ]:
        with pytest.raises(ValueError, match=rf"set data.y to 'mask,number'.*It has {has}\."):
            training.check_data(model, data, 4)


def test_a_model_without_annotations_ignores_a_dict_or_refuses_it():
    data = annotated()
    vae = zoo.models.vae(SHAPE, hidden=(4,), latent_dim=2)
    vae.compile("adam", run_eagerly=True)
    vae.fit(data.batches("train", 12), verbose=0)
    cvae = zoo.models.cvae(
        SHAPE, condition="attributes", condition_size=3, hidden=(4,), latent_dim=2
    )
    cvae.compile("adam", run_eagerly=True)
    keys = r"\['attributes', 'mask', 'number'\]"
    with pytest.raises(ValueError, match=f"takes one condition as `y`.*keys {keys}"):
        cvae.fit(data.batches("train", 12), verbose=0)
    with pytest.raises(ValueError, match="takes one condition as `y`"):
        cvae.encode(*data.arrays("test", 2))
    cvae.fit(annotated(y="attributes").batches("train", 12), verbose=0)


class OfAttributes(zoo.CVAE):
    """A CVAE whose objective reads a mask, which it does not use, and attributes."""

    annotations = ("attributes", "mask")
    condition_leaf = "attributes"

    def objective(self, x, y, seed, training):
        assert y["mask"].shape[1:] == SHAPE
        return super().objective(x, y["attributes"], seed, training)


@pytest.fixture(scope="module")
def of_attributes():
    cvae = zoo.models.cvae(
        SHAPE, condition="attributes", condition_size=3, hidden=(4,), latent_dim=2
    )
    model = OfAttributes(cvae.posterior, cvae.likelihood, cvae.prior)
    model.compile("adam", run_eagerly=True)
    return model


def test_the_condition_is_one_leaf_of_the_annotations(of_attributes):
    data = annotated()
    conditions.check(of_attributes, data)
    of_attributes.fit(data.batches("train", 12), verbose=0)
    x, y = data.arrays("test")
    bare = of_attributes.encode(x, y["attributes"])
    np.testing.assert_array_equal(of_attributes.encode(x, y), bare)
    np.testing.assert_array_equal(conditions.of_data(of_attributes, data), y["attributes"])
    np.testing.assert_array_equal(conditions.in_turn(of_attributes, data, 2), y["attributes"][:2])
    assert of_attributes.sample(2, y=y["attributes"][0]).shape == (2, *SHAPE)
    nll = zoo.metrics.negative_log_likelihood(of_attributes, np.round(x), 2, y=y)
    other = zoo.metrics.negative_log_likelihood(of_attributes, np.round(x), 2, y=y["attributes"])
    assert nll.value == other.value
    with pytest.raises(ValueError, match=r"Attributes are numbers from 0 to 1.*to 2"):
        of_attributes.train_on_batch(x, {**y, "attributes": y["attributes"] * 0 + 2})
    wide = {**y, "attributes": np.zeros([24, 4], np.float32)}
    with pytest.raises(ValueError, match=r"`y` of shape \[24, 3\]\. Received: shape \(24, 4\)"):
        of_attributes.train_on_batch(x, wide)


def test_pictures_and_scores_read_the_annotations_of_a_dict(of_attributes, tmp_path):
    data, run = annotated(), training.Run(tmp_path)
    training.gallery.draw_pictures(of_attributes, data, run, seed=0)
    assert {"samples.png", "reconstructions.png", "latents.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    evaluation = zoo.evaluation.Evaluation.of_model(of_attributes, data, batch_size=10)
    found = {result.kind: result.error for result in evaluation.run(["psnr", "latent_mmd", "mig"])}
    assert found == {"psnr": None, "latent_mmd": None, "mig": None}


# Whole groups.


def test_replicas_train_on_whole_groups(mirrored):
    model, data = build(), annotated(y="number", group_size=3)
    model.grouped_batches = True
    batches = iter(_training_batches(data, 12, mirrored, 0, model))
    seen = []
    for _ in range(2):
        _, numbers = next(batches)
        for part in mirrored.experimental_local_results(numbers):
            groups = part.numpy().reshape(2, 3)
            np.testing.assert_array_equal(groups - groups[:, :1], [[0, 1, 2]] * 2)
            assert not (groups[:, 0] % 3).any()
            seen += part.numpy().tolist()
    assert sorted(seen) == list(range(24)) != seen


def test_groups_that_a_model_needs_are_checked_before_training(tmp_path):
    model = build()
    model.grouped_batches = True
    training.check_data(model, annotated(group_size=3), 12, 2)
    with pytest.raises(ValueError, match=r"whole groups of 3.*batch_size=12 for 3 replica.* of 9"):
        training.check_data(model, annotated(group_size=3), 12, 3)
    with pytest.raises(ValueError, match=r"data with groups.*'annotated', without groups"):
        training.check_data(model, annotated(), 12)
    model.rounds = lambda: [zoo.Round(model.objective, steps=2)]
    with pytest.raises(ValueError, match=r"whole groups cannot be divided .* round of 2 steps"):
        model.train_step(next(iter(annotated(group_size=3).batches("train", 12))))


def test_settings_choose_the_annotation_the_attributes_and_the_sizes():
    config = presets.get("cvae_digits")
    changes = ["data.name=sprites_scenes", "image_size=8", "data.y=attributes", "sizes=40,8"]
    presets.override(config, [*changes, "data.attributes=heart,size", "binarize=None"])
    restored = presets.from_dict(presets.to_dict(config))
    for settings in (config, restored):
        data = training.load_data(settings)
        assert data.sizes == {"train": 40, "validation": 8, "test": 2000}
        assert data.attribute_names == ("heart", "size")
    # Another data set has other annotations.
    assert training.load_data(config, name="digits", image_shape=SHAPE).label_names is not None
    presets.override(config, ["sizes=40,8,8,8"])
    with pytest.raises(ValueError, match=r"training, validation and test images.*4 numbers"):
        training.load_data(config)
