"""Results and pictures of a run are computed with the stated weights."""

import json
import math
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from speed import slow

import zoo
from zoo import datasets, metrics, pictures, presets, training
from zoo.training import Run

TILE = 48  # 8 pixels, six times as large


@pytest.mark.slow
def test_a_run_with_averages_uses_them_for_scores_and_pictures(tmp_path):
    config = presets.get("vae_digits")
    # From a bias of 0, so that the averages differ clearly from the last weights.
    averages = ("use_ema=true", "ema_momentum=0.95", "start_at_mean=false")
    presets.override(
        config, ["epochs=2", "hidden=16", "latent_dim=3", "jit_compile=false", *averages]
    )
    run = Run(tmp_path / "run")
    results = training.train(config, run, progress=False, say=lambda line: None)
    assert json.loads(run.results_path.read_text())["test"] == results["test"]

    model, data = run.load_model(), training.load_data(config)
    by_weights = {}
    for name in ("last", "average"):
        if name == "average":  # By hand: the averages are in the optimizer.
            averages = model.optimizers["vae"]._model_variables_moving_average
            for variable, average in zip(model.variables_of("vae"), averages, strict=True):
                variable.assign(average)
        scores = model.evaluate(data.batches("test", 50), verbose=0, return_dict=True)
        x, _ = data.arrays("test", limit=1000)
        picture = tmp_path / f"{name}.png"
        pictures.samples(model, model.sample_latents(100, seed=config.seed), picture)
        pixels = np.asarray(Image.open(picture), int)
        nll = metrics.negative_log_likelihood(model, x, num_samples=100).value
        by_weights[name] = scores, nll, pixels

    scores, nll, pixels = by_weights["average"]
    assert results["test"] == pytest.approx(scores, rel=1e-5)
    assert results["likelihood"]["nll"] == pytest.approx(nll, rel=1e-4)
    drawn = np.asarray(Image.open(run.path / "samples.png"), int)
    assert np.abs(drawn - pixels).max() <= 1
    scores, nll, pixels = by_weights["last"]
    assert abs(results["test"]["loss"] - scores["loss"]) > 0.1
    assert abs(results["likelihood"]["nll"] - nll) > 0.1
    assert np.abs(drawn - pixels).max() > 5


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs draw nothing and estimate no likelihood, which take longer than a few steps."""
    module = sys.modules["zoo.training.train"]  # `zoo.training.train` is the function.
    for name in ("draw_pictures", "draw_curves", "_likelihood"):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(training.callbacks.SampleGrids, "on_epoch_end", lambda *_: None)


def test_a_player_that_an_option_adds_trains_at_the_rate_of_the_others(tmp_path, no_pictures):
    config, run = presets.get("cvae_digits"), Run(tmp_path / "run")
    options = ("condition=seen", "seen=quadrants:1", "prior=conditional", "baseline_hidden=(8,)")
    small = ("epochs=1", "model.hidden=8", "jit_compile=false", "learning_rate_decay=cosine")
    presets.override(config, [*options, *small])
    training.train(config, run, progress=False, say=lambda line: None)
    rates = [float(o.learning_rate) for o in run.load_model().optimizers.values()]
    assert len(rates) == 2 and rates[0] == rates[1]


def small_run(path):
    config = presets.get("vae_digits")
    presets.override(config, ["epochs=2", "hidden=8", "jit_compile=false"])
    run = Run(path)
    run.begin(config)
    return config, run


def test_a_run_that_another_process_trains_is_refused_and_not_changed(tmp_path):
    config, run = small_run(tmp_path / "run")
    with run.locked():
        before = {path: path.read_bytes() for path in run.path.iterdir()}
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(BlockingIOError, match="Another process is working on the run"):
                training.train(config, run, **options, progress=False)
        assert {path: path.read_bytes() for path in run.path.iterdir()} == before


def quiet(config, run, **options):
    return training.train(config, run, progress=False, say=lambda line: None, **options)


def test_a_new_run_starts_with_the_weights_of_another(tmp_path, no_pictures, monkeypatch):
    config, first = presets.get("gan_digits"), Run(tmp_path / "first")
    small = ("generator_hidden=8", "discriminator_hidden=8", "epochs=1", "jit_compile=false")
    presets.override(config, small)
    quiet(config, first)
    want = [np.array(v) for v in first.load_model().weights]

    # Steps of size 0 leave trainable weights as they are. Batch statistics change with each step.
    tiny = [f"optimizers.{player}.learning_rate=1e-30" for player in config.optimizers]
    presets.override(config, [*tiny, f"initial_weights={first.path}", "seed=1"])
    second = Run(tmp_path / "second")
    quiet(config, second)
    trained = second.load_model()
    trainable = {id(v) for v in trained.trainable_variables}
    equal = [
        np.array_equal(v, w) for v, w in zip(trained.weights, want, strict=True)
        if id(v) in trainable
    ]  # fmt: skip
    assert len(equal) > 5 and all(equal)
    assert int(trained.step) == int(first.load_model().step)  # of one epoch, not of two

    # A run that was killed before its first checkpoint starts again from the same weights.
    killed = Run(tmp_path / "killed")
    killed.begin(config)
    quiet(config, killed, resume=True)
    for v, w in zip(killed.load_model().weights, trained.weights, strict=True):
        np.testing.assert_array_equal(v, w)


def test_weights_that_do_not_fit_are_refused_before_a_run_begins(tmp_path, no_pictures):
    config, first = small_run(tmp_path / "first")
    quiet(config, first, resume=True)
    presets.override(config, [f"initial_weights={first.path}", "hidden=9"])
    with pytest.raises(
        ValueError, match=r"weight number 1 has shape \(64, 8\) instead of \(64, 9\)"
    ):
        quiet(config, Run(tmp_path / "second"))
    presets.override(config, ["hidden=(8, 8)"])
    with pytest.raises(ValueError, match=r"Received: .*first', whose weight number 3"):
        quiet(config, Run(tmp_path / "second"))
    other = presets.get("beta_vae_digits")
    presets.override(other, [f"initial_weights={first.path}", "hidden=8", "jit_compile=false"])
    with pytest.raises(
        ValueError, match=r"must name a BetaVAE, as this model is. Received: .* a VAE"
    ):
        quiet(other, Run(tmp_path / "second"))
    presets.override(config, ["initial_weights=" + str(tmp_path / "none")])
    with pytest.raises(FileNotFoundError, match="none"):
        quiet(config, Run(tmp_path / "second"))
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("left", ["metrics.csv", "model.keras", "a damaged row"])
def test_a_run_without_its_checkpoints_is_refused_and_not_changed(tmp_path, left):
    config, run = small_run(tmp_path / "run")
    if left == "model.keras":
        run.model_path.write_text("")
    else:
        row = "0,0.7" if left == "metrics.csv" else "0"
        run.metrics_path.write_text(f"epoch,loss\n{row}\n1,0.5\n2,0.4\n")
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    message = "no whole checkpoint" if left != "a damaged row" else "in line 2 of"
    with pytest.raises(ValueError, match=message):
        training.train(config, run, resume=True, progress=False)
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


@pytest.mark.parametrize(("most", "passes"), [(2**26, 1), (350 * 64 * 4 - 1, 3)])
def test_small_validation_images_are_prepared_once(
    tmp_path, monkeypatch, no_pictures, most, passes
):
    module = sys.modules["zoo.training.train"]
    monkeypatch.setattr(module, "_MOST_CACHED", most)
    config, run = presets.get("vae_digits"), Run(tmp_path / "run")
    presets.override(config, ["epochs=3", "hidden=8", "jit_compile=false"])
    counts, batches = [], datasets.ImageData.batches

    def count(x):
        counts.append(len(x))
        return x

    def counted(data, split, *args, **options):
        found = batches(data, split, *args, **options)
        if split != "validation":
            return found

        def counting(x, y):
            known = tf.numpy_function(count, [x], x.dtype)
            return tf.ensure_shape(known, x.shape), y

        return found.map(counting)

    monkeypatch.setattr(datasets.ImageData, "batches", counted)
    quiet(config, run)
    assert sum(counts) == 350 * passes
    losses = run.read_metrics()["val_loss"]
    assert len(set(losses)) == 3


def test_the_rate_counts_only_the_steps_since_resuming(tmp_path, monkeypatch, no_pictures):
    class Known(training.callbacks.TrainingTime):
        def on_train_end(self, logs=None):
            self.seconds = 2.0

    monkeypatch.setattr(training.callbacks, "TrainingTime", Known)
    config, run = presets.get("vae_digits"), Run(tmp_path / "run")
    presets.override(config, ["epochs=1", "hidden=16", "jit_compile=false"])
    for epochs, done in ((1, 0), (3, 1), (3, 3)):
        config.epochs = epochs
        results = training.train(
            config, run, resume=done > 0, progress=False, say=lambda line: None
        )
        images = (epochs - done) * training.load_data(config).steps_per_epoch(50) * 50
        assert results["resumed_after"] == done and results["seconds"] > 0
        assert results["images_per_second"] == (images / 2 if images else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in presets.names() if name.endswith("_svhn_cropped")]
)
def test_compared_presets_train_on_svhn_from_its_original_files(name, tmp_path, make_svhn):
    make_svhn(train=45, test=12, extra=2)
    config = presets.get(name)
    widths = {"hidden", "generator_hidden", "discriminator_hidden", "filters", "width"}
    for key in widths - set(presets.unused(config)):
        if key in config.model:
            value = config.model[key]
            config.model[key] = (8,) * len(value) if isinstance(value, tuple) else 8
    given = ("epochs=1", "batch_size=20", "jit_compile=false", f"data.data_dir={tmp_path}")
    presets.override(config, given)
    run = Run(tmp_path / name)
    results = training.train(config, run, progress=False, say=lambda line: None)
    assert np.isfinite(list(results["test"].values())).all()
    images = run.load_model().sample(3).numpy()
    assert images.shape == (3, 32, 32, 3) and 0 <= images.min() < images.max() <= 1
    if "likelihood" in results:  # On noise the best likelihood is uniform over the 256 levels.
        assert results["likelihood"]["nll"] / (32 * 32 * 3) > 0.95 * math.log(256)


# Pictures ---------------------------------------------------------------------------------------


def drawn(model, data, folder, name):
    """The picture `name` from `training.draw_pictures`, or `None`."""
    training.draw_pictures(model, data, Run(folder), seed=0)
    path = folder / f"{name}.png"
    return np.asarray(Image.open(path).convert("RGB"), int) if path.exists() else None


def tile(picture, row, column, gap=0):
    """One image of a picture; `gap` is the additional space after the first column."""
    top, left = row * (TILE + 2), column * (TILE + 2) + (gap if column else 0)
    return picture[top : top + TILE, left : left + TILE]


def shows(have, image):
    """Up to two levels: networks round differently for batches of different sizes."""
    pixels = np.kron(np.round(np.asarray(image) * 255), np.ones((6, 6, 3)))
    return np.abs(have - pixels).max() <= 2


def petals(part, n=10):
    angle = 2 * math.pi * part / 10
    return [
        ((1.4 + 0.5 * step) * math.cos(angle), (1.4 + 0.5 * step) * math.sin(angle))
        for step in np.linspace(-2, 2, n)
    ]


def swiss_roll(part, n=10):
    shares = np.linspace(0, 1, 100)[part * n : (part + 1) * n]
    return [
        (3 * math.sqrt(t) * math.cos(angle), 3 * math.sqrt(t) * math.sin(angle))
        for t in shares
        for angle in [4 * math.pi * math.sqrt(t)]
    ]


@pytest.mark.parametrize(
    ("build", "folder"),
    [
        (zoo.models.vae, "samples"),
        (zoo.models.rae, "reconstructions"),  # Its prior is fitted after training.
        (zoo.models.autoencoder, "reconstructions"),
        (zoo.models.gan, "samples"),
    ],
)
def test_each_epoch_shows_what_the_model_can_do(tmp_path, build, folder):
    sizes = {"latent_dim": 2}
    sizes |= {} if build is zoo.models.gan else {"hidden": (8,)}
    model, data, run = build((8, 8, 1), **sizes), datasets.load("digits"), Run(tmp_path)
    (callback,) = training.gallery.epoch_pictures(model, data, run, seed=0)
    callback.set_model(model)
    callback.on_epoch_end(0)
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    picture = np.asarray(Image.open(tmp_path / folder / "epoch-0001.png").convert("RGB"), int)
    if folder == "reconstructions":
        x, _ = data.arrays("validation", limit=30)
        assert shows(tile(picture, 0, 3), x[3]) and shows(
            tile(picture, 1, 3), model.reconstruct(x)[3]
        )


def test_a_run_of_an_rae_shows_reconstructions_each_epoch_and_samples_at_the_end(tmp_path):
    config = presets.get("rae_digits")
    given = ["epochs=2", "hidden=8", "prior_components=2", "jit_compile=false", "batch_size=250"]
    presets.override(config, given)
    run = Run(tmp_path / "rae")
    training.train(config, run, progress=False, say=lambda line: None)
    names = sorted(path.name for path in run.reconstructions_dir.iterdir())
    assert names == ["epoch-0001.png", "epoch-0002.png"]
    assert (run.path / "samples.png").exists() and not run.samples_dir.exists()


def test_a_model_without_encoder_and_prior_has_no_picture_of_an_epoch(tmp_path):
    data = datasets.load("digits", seen="quadrants:2")
    model = zoo.models.predictor((8, 8, 1), hidden=(8,))
    assert training.gallery.epoch_pictures(model, data, Run(tmp_path), seed=0) == []


@pytest.mark.parametrize(
    ("preset", "walk"),
    [
        ("label_informed_aae_petals_digits", petals),
        slow("label_informed_aae_swiss_roll_digits", swiss_roll),
    ],
)
def test_each_row_of_prior_walks_follows_one_part(tmp_path, preset, walk):
    data = datasets.load("digits")
    config = presets.get(preset)
    presets.override(config, ["hidden=16", "discriminator_hidden=8"])
    model = presets.build(config, data.image_shape)
    # Different latents then give different images.
    for variable in model.variables_of("autoencoder"):
        variable.assign(variable * 3)
    picture = drawn(model, data, tmp_path, "prior_walks")
    assert picture.shape == (10 * TILE + 9 * 2, 10 * TILE + 9 * 2, 3)
    for part in range(10):
        images = model.decode(np.float32(walk(part)))
        for column, image in enumerate(images):
            assert shows(tile(picture, part, column), image)
        assert not shows(tile(picture, part, 0), images[-1])


def test_only_priors_with_parts_have_walks(tmp_path):
    model = zoo.models.vaegan((8, 8, 1), latent_dim=3, hidden=(8,), discriminator_hidden=(8,))
    assert drawn(model, datasets.load("digits"), tmp_path, "prior_walks") is None


def test_categories_are_drawn_with_their_test_images(tmp_path):
    data = datasets.load("digits")
    config = presets.get("clustering_aae_digits")
    presets.override(config, ["hidden=16", "discriminator_hidden=8", "categories=4"])
    model = presets.build(config, data.image_shape)
    for variable in model.variables_of("autoencoder"):
        variable.assign(variable * 5)
    picture = drawn(model, data, tmp_path, "categories")
    x, _ = data.arrays("test")
    members = model.classify(x).numpy().argmax(-1)
    assert (np.bincount(members, minlength=4) > 0).sum() > 1
    heads = model.category_images()
    for category in range(4):
        assert shows(tile(picture, category, 0), heads[category])
        for column, image in enumerate(x[members == category][:10]):
            assert shows(tile(picture, category, 1 + column, gap=8), image)
    assert (
        drawn(
            zoo.models.vaegan((8, 8, 1), latent_dim=3, hidden=(8,), discriminator_hidden=(8,)),
            data,
            tmp_path / "other",
            "categories",
        )
        is None
    )


def test_reconstructions_use_the_inferred_class_and_not_the_label(tmp_path):
    data = datasets.load("digits")
    config = presets.get("semi_supervised_aae_digits")
    presets.override(config, ["model.hidden=16", "discriminator_hidden=8"])
    model = presets.build(config, data.image_shape)
    for variable in model.likelihood.variables:
        variable.assign(variable * 5)
    x, y = data.arrays("test", limit=10)
    picture = drawn(model, data, tmp_path, "reconstructions")
    inferred, labelled = model.reconstruct(x), model.reconstruct(x, y)
    i = int(np.argmax(np.abs(inferred - labelled).max(axis=(1, 2, 3))))
    assert shows(tile(picture, 0, i), x[i]) and shows(tile(picture, 1, i), inferred[i])
    assert not shows(tile(picture, 1, i), labelled[i])


def attributes_by_hand(model, x, y):
    """Differences of the mean codes with and without each attribute, by a loop."""
    codes = model.encode(x).numpy()
    return [codes[y == k].mean(0) - codes[y != k].mean(0) for k in range(10)]


def test_attributes_are_drawn_for_an_unconditional_vaegan(tmp_path):
    data = datasets.load("digits")
    model = zoo.models.vaegan(
        data.image_shape, latent_dim=3, hidden=(16,), discriminator_hidden=(8,)
    )
    for variable in model.variables_of("encoder"):
        variable.assign(variable * 3)
    picture = drawn(model, data, tmp_path, "attributes")
    vectors = attributes_by_hand(model, *data.arrays("train"))
    x, _ = data.arrays("test", limit=10)
    codes = model.encode(x).numpy()
    assert picture.shape == (10 * TILE + 9 * 2, 12 * TILE + 10 + 10 * 2, 3)
    for row in range(10):
        assert shows(tile(picture, row, 0), x[row])
        steps = [np.zeros(3), *vectors]
        for column, image in enumerate(model.decode(np.float32(codes[row] + steps))):
            assert shows(tile(picture, row, 1 + column, gap=8), image)
    given = zoo.models.vaegan(
        data.image_shape, latent_dim=3, hidden=(16,), discriminator_hidden=(8,), condition="label"
    )
    assert drawn(given, data, tmp_path / "given", "attributes") is None


class Attributes:
    """The digits with another `y`, such as three attributes of which all images have the first."""

    def __init__(self, y):
        self.data, self.y = datasets.load("digits"), y

    def __getattr__(self, name):
        return getattr(self.data, name)

    def arrays(self, split, limit=None):
        x, labels = self.data.arrays(split, limit)
        return x, self.y(labels)


@pytest.mark.parametrize(
    ("y", "columns"),
    [
        (lambda y: np.stack([y >= 0, y > 4, y % 2 == 1], -1).astype(int), 2),
        (lambda y: np.where(np.arange(len(y)) % 3 == 0, y, -1), 10),  # Most labels are hidden.
        (lambda y: None, 0),
        (lambda y: y[:, None] * 0.5, 0),
        (lambda y: np.stack([y > 4, y / 9], -1).astype(float), 1),  # The second is not 0 or 1.
        (lambda y: np.arange(len(y)) % 41, 0),  # Too many classes.
        (lambda y: np.zeros([len(y), 8, 8, 1]), 0),  # The seen part of images.
    ],
)
def test_each_varying_attribute_has_a_column(tmp_path, y, columns):
    model = zoo.models.vaegan((8, 8, 1), latent_dim=3, hidden=(16,), discriminator_hidden=(8,))
    x, _ = datasets.load("digits").arrays("test", limit=2)
    training.gallery._draw_attributes(model, Attributes(y), x, tmp_path)
    names = ("attributes", "attributes_removed")
    if columns:
        added, removed = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in names)
        assert added.shape[:2] == (2 * TILE + 2, (2 + columns) * TILE + 10 + columns * 2)
        plain = slice(2 * TILE + 10)  # The image and its reconstruction
        np.testing.assert_array_equal(removed[:, plain], added[:, plain])
        assert (removed != added).any()
    else:
        assert not list(tmp_path.iterdir())


def test_scenes_are_drawn_with_their_factors_and_layers(tmp_path):
    small = {"sizes": {"train": 200, "validation": 20, "test": 20}, "image_size": 8}
    model = zoo.models.inverse_graphics((8, 8, 1), hidden=(8,))
    data = datasets.load("heads_grey", y="varied", **small)
    model.calibrate(data)
    training.gallery._draw_codes(model, data, tmp_path, seed=0)
    names = ("azimuth", "elevation", "light_azimuth")
    drawn = {f"rerenderings_{name}.png" for name in names} | {"factors.png"}
    assert drawn <= {path.name for path in tmp_path.iterdir()}
    picture = np.asarray(Image.open(tmp_path / "rerenderings_azimuth.png"))
    x, _ = data.arrays("test")
    values = data.factors("test")
    chosen, azimuths = values[:1].copy(), np.quantile(values[:, 0], [0.05, 0.95])
    chosen[:, 0] = azimuths[0]
    truth = np.kron(data.render(chosen)[0] * 255, np.ones([6, 6, 3])).round()
    np.testing.assert_array_equal(picture[:TILE, :TILE], truth)
    again = model.rerender(x[:1], "azimuth", azimuths[:1])[0, 0]
    again = np.kron(again * 255, np.ones([6, 6, 3]))
    assert np.abs(picture[TILE + 2 :][:TILE, :TILE] - again).max() <= 1

    factors = ("shape", "scale", "orientation", "x", "y")
    model = zoo.models.inverse_graphics(
        (8, 8, 1), factors=factors, units=(2, 1, 1, 1, 1), hidden=(8,)
    )
    data = datasets.load("sprites_groups", y="varied", **small)
    model.calibrate(data)
    training.gallery._draw_codes(model, data, tmp_path, seed=0)
    picture = np.asarray(Image.open(tmp_path / "rerenderings_shape.png"))
    kinds = len(np.unique(data.factors("test")[:, 0]))  # A column for each shape
    assert picture.shape[1] == kinds * (TILE + 2) - 2

    model = zoo.models.dis_cvae((8, 8, 3), condition_size=8, network="mlp", hidden=(8,))
    data = datasets.load("sprites_scenes", y="attributes,mask", **small)
    training.gallery._draw_codes(model, data, tmp_path, seed=0)
    drawn = {"layers.png", "recompositions.png", "progressions.png"}
    assert drawn <= {path.name for path in tmp_path.iterdir()}


def test_images_are_drawn_with_the_textures_of_others(tmp_path):
    sizes = {"filters": (2, 3), "blocks": 1, "discriminator_filters": (2,), "patch_filters": (2,)}
    model = zoo.models.swapping_autoencoder((8, 8, 3), patch_size=4, **sizes)
    data = datasets.load("textures", sizes={"train": 5, "validation": 5, "test": 6}, image_size=8)
    training.gallery._draw_codes(model, data, tmp_path, seed=0)
    picture = np.asarray(Image.open(tmp_path / "swaps.png"))
    x, _ = data.arrays("test")
    for place, image in ((slice(TILE + 10, None), x[0]), (slice(-TILE, None), x[2])):
        shown = np.kron(image * 255, np.ones([6, 6, 1])).round()
        np.testing.assert_array_equal(picture[place][:TILE, :TILE], shown)
    top = np.kron(x[3] * 255, np.ones([6, 6, 1])).round()
    np.testing.assert_array_equal(picture[:TILE, TILE + 10 :][:, :TILE], top)
    assert (tmp_path / "mixes.png").is_file()


def test_heads_are_drawn_beside_their_images(tmp_path):
    small = {"sizes": dict.fromkeys(datasets.images.SPLITS, 20), "image_size": 16}
    data = datasets.load("heads", y="landmarks", **small)
    mesh = {"latitudes": 8, "longitudes": 8}
    model = zoo.models.face_autoencoder(data.image_shape, hidden=(4,), filters=(4,), **mesh)
    training.draw_pictures(model, data, Run(tmp_path), seed=0)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert {"samples.png", "reconstructions.png", "factors.png", "heads.png"} <= drawn
    x, _ = data.arrays("test", 1)
    expected = {"heads": model.overlay(x), "turned": model.turn(x, [-0.9], [0.0])[:, 0]}
    expected["relit"] = model.relight(x, [-0.9], [0.3])[:, 0]
    for name, images in expected.items():
        picture = np.asarray(Image.open(tmp_path / f"{name}.png")).astype(float)
        side = picture.shape[0] // 6 // 16  # Six rows of heads of 16 pixels.
        for column, image in enumerate((x[0], images[0])):
            tile = picture[:, column * (16 * side + 2) :][: 16 * side : side, : 16 * side : side]
            np.testing.assert_allclose(tile, 255 * np.asarray(image), atol=0.51, err_msg=name)


def test_videos_are_drawn_as_strips_and_as_animations(tmp_path):
    small = {"sizes": dict.fromkeys(datasets.images.SPLITS, 20), "image_size": 8}
    model = zoo.models.video_vae((8, 8, 8), latent_dim=2, hidden=(8,), transition_hidden=(4,))
    data = datasets.load("bouncing_sprites", **small)
    training.draw_pictures(model, data, Run(tmp_path), seed=0)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert {"samples.png", "samples.gif", "reconstructions.png"} <= drawn
    x, _ = data.arrays("test", 10)
    picture = np.asarray(Image.open(tmp_path / "extensions.png"))
    extended = model.extend(x[:1, ..., :4], 4)[0, ..., -1:]
    assert shows(picture[TILE + 2 :][:TILE, -TILE:], extended)
    assert shows(picture[:TILE, :TILE], x[0, ..., :1])
    with Image.open(tmp_path / "extensions.gif") as file:
        assert file.n_frames == 8

    data = datasets.load("moving_sprites", seen="frames:1", **small)
    model = zoo.models.cvae(data.image_shape, condition="seen", latent_dim=2, hidden=(8,))
    training.draw_pictures(model, data, Run(tmp_path / "cvae"), seed=0)
    with Image.open(tmp_path / "cvae" / "samples.gif") as file:
        first = np.asarray(file.convert("RGB"), int)
    seen = data.arrays("test", 5)[0][..., :1]
    for row in range(5):  # Ten forecasts of each first frame
        for column in (0, 9):
            assert shows(tile(first, row, column), seen[row])
