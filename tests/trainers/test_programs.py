"""The programs as a user runs them: their files and their error messages."""

import csv
import json
import os
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from programs import error_message, files, run, run_in_new_interpreter, succeed, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import zoo

QUICK = ("--nojit_compile", "--noprogress", "--deterministic")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def vae(root):
    """A run without `--preset`, of `python -m trainers.train` itself, and its output."""
    path = root / "vae"
    answer = run_in_new_interpreter(
        "train", "--epochs=2", "--set=hidden=16", "--set=latent_dim=3", f"--output={path}", *QUICK
    )
    assert answer.status == 0, answer.err[-3000:]
    return path, answer.out


@pytest.fixture(scope="module")
def gan(root):
    path = root / "gan"
    small = ("--set=generator_hidden=16", "--set=discriminator_hidden=(16,)")
    succeed("train", "--preset=gan_digits", "--epochs=1", *small, f"--output={path}", *QUICK)
    return path


@pytest.fixture(scope="module")
def images(root):
    """Thirty grey images of 8x8 in a folder."""
    folder = root / "images"
    folder.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, [30, 8, 8], np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


def rows(path):
    with open(path / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


# Valid input ----------------------------------------------------------------------------------


def test_a_run_writes_all_files_to_its_folder_and_prints_the_path(vae):
    path, printed = vae
    assert {entry.name for entry in path.iterdir()} == {
        "config.json",
        "metrics.csv",
        "tensorboard",
        "checkpoints",
        "samples",
        "learning_curves.png",
        "samples.png",
        "reconstructions.png",
        "interpolations.png",
        "interpolations_images.png",
        "latents.png",
        "model.keras",
        "results.json",
    }
    assert sorted(p.name for p in (path / "samples").iterdir()) == [
        "epoch-0001.png",
        "epoch-0002.png",
    ]
    assert (path / "checkpoints" / "ckpt-2.index").is_file()
    for picture in path.rglob("*.png"):
        assert min(Image.open(picture).size) > 50
    assert str(path) in printed
    assert all(entry.name in printed for entry in path.iterdir())


def test_the_default_is_a_vae_of_the_digits(vae):
    config = json.loads((vae[0] / "config.json").read_text())
    assert config["preset"] == "vae_digits" and config["data"]["name"] == "digits"
    assert "VAE 'vae_digits'" in vae[1]


def test_the_metrics_hold_training_and_validation_of_each_epoch(vae):
    epochs = rows(vae[0])
    assert [row["epoch"] for row in epochs] == ["0", "1"]
    for row in epochs:
        assert row.keys() >= {"loss", "rate", "distortion", "val_loss", "val_rate"}
        for part in ("", "val_"):
            parts = float(row[f"{part}rate"]) + float(row[f"{part}distortion"])
            assert float(row[f"{part}loss"]) == pytest.approx(parts, rel=1e-5)
    assert float(epochs[1]["val_loss"]) < float(epochs[0]["val_loss"])


def test_the_event_files_hold_the_same_numbers_as_the_metrics(vae):
    for folder, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(str(vae[0] / "tensorboard" / folder))
        events.Reload()
        logged = [
            float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_loss")
        ]
        assert logged == pytest.approx([float(row[f"{prefix}loss"]) for row in rows(vae[0])])


def test_overrides_reach_the_model_and_the_model_loads(vae):
    model = keras.saving.load_model(vae[0] / "model.keras")
    assert isinstance(model, zoo.VAE)
    assert model.latent_dim == 3 and model.sample(2).shape == (2, 8, 8, 1)
    shapes = {tuple(variable.shape) for variable in model.trainable_variables}
    assert {(64, 16), (16, 6), (3, 16), (16, 64)} <= shapes  # six: means and scales of three


def test_the_results_hold_test_losses_and_a_likelihood(vae):
    results = json.loads((vae[0] / "results.json").read_text())
    assert results["preset"] == "vae_digits" and results["epochs"] == 2
    test, likelihood = results["test"], results["likelihood"]
    assert test["loss"] == pytest.approx(test["rate"] + test["distortion"], rel=1e-5)
    assert likelihood["num_samples"] == 100 and likelihood["num_images"] == 447
    assert 0 < likelihood["stderr"] < 1
    assert likelihood["nll"] < test["loss"]  # many samples give a tighter bound than the ELBO
    assert {"tensorflow", "keras", "python"} <= results["versions"].keys()


@pytest.mark.slow
def test_the_configuration_of_a_run_repeats_it(vae, root):
    again = root / "again"
    config = f"--config={vae[0]}/config.json"
    succeed("train", config, f"--output={again}", "--noprogress", forked=True)
    assert (again / "metrics.csv").read_text() == (vae[0] / "metrics.csv").read_text()
    old, new = weights(vae[0] / "model.keras"), weights(again / "model.keras")
    assert old.keys() == new.keys() and len(old) > 8
    assert all(np.array_equal(old[name], new[name]) for name in old)
    assert (again / "config.json").read_text() == (vae[0] / "config.json").read_text()


def test_the_list_of_presets_has_each_preset_with_its_data():
    lines = succeed("train", "--list_presets").splitlines()
    assert [line.split()[0] for line in lines] == zoo.presets.names()
    assert "200 epochs of digits" in lines[zoo.presets.names().index("vae_digits")]


def test_samples_are_functions_of_the_seed(vae, root):
    def draw(name, *flags):
        succeed("sample", f"--run={vae[0]}", "--n=7", f"--output={root}/{name}", *flags)
        return np.load(root / name)

    a, b, c = draw("a.npy", "--seed=1"), draw("b.npy", "--seed=1"), draw("c.npy", "--seed=2")
    assert a.shape == (7, 8, 8, 1) and a.dtype == np.float32
    assert 0 <= a.min() < a.max() <= 1
    assert np.array_equal(a, b) and not np.allclose(a, c)
    assert not np.allclose(draw("d.npy"), draw("e.npy"))


def test_samples_are_written_to_a_grid_or_a_folder(vae, root):
    succeed("sample", f"--run={vae[0]}", "--n=5", f"--output={root}/drawn")
    assert len(list((root / "drawn").glob("*.png"))) == 5
    assert f"{vae[0]}/drawn.png" in succeed("sample", f"--run={vae[0]}", "--n=5")
    assert min(Image.open(vae[0] / "drawn.png").size) > 8


def test_a_smaller_draw_replaces_a_larger_one(vae, root):
    folder = root / "redrawn"
    flags = (f"--run={vae[0]}", f"--output={folder}")
    succeed("sample", *flags, "--n=5")
    (folder / "notes.txt").write_text("mine")
    succeed("sample", *flags, "--n=2", "--overwrite")
    assert sorted(p.name for p in folder.iterdir()) == ["00000.png", "00001.png", "notes.txt"]


def test_interpolations_connect_latents_test_images_or_files(vae, root, images):
    flags = ("--n=4", "--pairs=2")
    pictures = []
    for name, more in {
        "latents": (f"--run={vae[0]}",),
        "images": (f"--run={vae[0]}", "--between=images"),
        "files": (f"--run={vae[0]}/model.keras", f"--images={images}/00.png,{images}/01.png"),
    }.items():
        path = root / f"{name}.png"
        printed = succeed("interpolate", *flags, *more, f"--output={path}")
        assert printed.startswith("1 paths" if name == "files" else "2 paths")
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 3


def completed(root, run, *flags, rows, columns):
    """The tiles of 8 x 8 pixels that `trainers.complete` draws, and what the program prints."""
    path = root / "completed.png"
    printed = succeed("complete", f"--run={run}", *flags, f"--output={path}", "--overwrite")
    sheet = np.asarray(Image.open(path))[..., 0]
    # Each pixel is a square of 6 x 6, and tiles are 2 apart.
    corners = [[(50 * row, 50 * column) for column in range(columns)] for row in range(rows)]
    assert sheet.shape == (50 * rows - 2, 50 * columns - 2)
    return [[sheet[r : r + 48 : 6, c : c + 48 : 6] for r, c in row] for row in corners], printed


def test_completions_show_the_seen_parts_the_completions_and_the_test_images(vae, gan, root):
    data = zoo.training.load_data(zoo.training.Run(gan).read_config())
    x, _ = data.arrays("test", 2)
    flags = ("--rows=2", "--steps=2", "--seen=half:right")
    tiles, printed = completed(root, gan, *flags, rows=2, columns=3)
    assert printed.startswith("The seen parts of 2 images, their completions, and the images: ")
    for image, (shown, done, truth) in zip(x, tiles, strict=True):
        np.testing.assert_array_equal(truth, np.round(255 * image[..., 0]))
        np.testing.assert_array_equal(shown[:, 4:], truth[:, 4:])
        assert (shown[:, :4] == 128).all()
        np.testing.assert_array_equal(done[:, 4:], truth[:, 4:])
        assert (done[:, :4] != truth[:, :4]).any()


def test_completions_by_chains_are_several_for_each_image_and_report_the_acceptance(vae, root):
    first, again, other = (
        completed(
            root,
            vae[0],
            "--method=metropolis",
            "--n=2",
            "--rows=2",
            "--steps=12",
            "--seen=pixels:0.5",
            f"--seed={seed}",
            rows=2,
            columns=4,
        )
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0][0][0], other[0][0][0])
    assert not np.array_equal(first[0][0][1], first[0][0][2])
    assert re.search(r"Accepted proposals: \d+%, and \d+% of the worst image", first[1])


def test_the_image_of_a_file_is_completed_from_a_mask_in_a_file(vae, conditional, images, root):
    mask = root / "mask.png"
    Image.fromarray(np.uint8([[255, 0], [0, 255]]).repeat(4, 0).repeat(4, 1)).save(mask)
    flags = (f"--image={images}/00.png", f"--seen={mask}", "--steps=2")
    [[shown, done, truth]], _ = completed(root, vae[0], *flags, rows=1, columns=3)
    file = zoo.datasets.read_image(f"{images}/00.png", (8, 8, 1))[..., 0]
    np.testing.assert_array_equal(truth, 255 * (file >= 0.5))  # The model's data are binarised.
    for rows, columns in ((slice(4), slice(4)), (slice(4, 8), slice(4, 8))):
        np.testing.assert_array_equal(shown[rows, columns], truth[rows, columns])
        np.testing.assert_array_equal(done[rows, columns], truth[rows, columns])
    assert (shown[:4, 4:] == 128).all()
    cvae = conditional["cvae_digits"]
    answer = run("complete", f"--run={cvae}", *flags, f"--output={root}/no.png")
    assert "such as --y=3" in error_message(answer)
    completed(root, cvae, *flags, "--y=3", rows=1, columns=3)
    completed(root, conditional["cvae_quadrants_digits"], *flags, rows=1, columns=3)


@pytest.mark.slow
def test_videos_are_completed_from_their_first_frames(root):
    small = ("data.sizes=100,20,20", "image_size=8", "hidden=8", "jit_compile=false")
    flags = ["--preset=video_vae_bouncing_sprites", "--epochs=1", f"--output={root}/video"]
    succeed("train", *flags, *(f"--set={setting}" for setting in small))
    flags = (f"--run={root}/video", "--seen=frames:7", "--rows=2", "--steps=2")
    assert "2 images" in succeed("complete", *flags, f"--output={root}/frames.png")
    answer = run("complete", *flags[:1], "--seen=frames:8", f"--output={root}/no.png")
    assert "which has videos of 8 frames" in error_message(answer)


def test_completions_use_the_conditions_of_the_test_images(conditional, root):
    for preset in ("cvae_digits", "cvae_quadrants_digits"):
        path = root / f"completed_{preset}.png"
        flags = ("--rows=3", "--steps=1", f"--output={path}")
        succeed("complete", f"--run={conditional[preset]}", *flags)
        assert path.is_file()


def test_a_condition_does_not_show_the_hidden_part(conditional, root):
    # The condition of this run is the lower left quadrant of an image.
    quadrants, flags = conditional["cvae_quadrants_digits"], ("--rows=3", "--steps=1")
    tiles, _ = completed(root, quadrants, *flags, "--seen=half:right", rows=3, columns=3)
    for _, done, truth in tiles:
        assert (done[4:, :4] != truth[4:, :4]).any()
        np.testing.assert_array_equal(done[:, 4:], truth[:, 4:])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seen=middle"], "Received: seen='middle'"),
        (["--method=metropolis", "--starts=2"], "--starts is for --method=map"),
        (["--image=a.png", "--rows=2"], "Received: --rows with --image"),
        (["--output=completed.jpg"], "must end in .png. Received: 'completed.jpg'"),
    ],
)
def test_invalid_completions_are_refused_before_the_model_is_loaded(
    flags, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo.training, "open_model", None)
    assert message in error_message(run("complete", "--run=/none", "--output=new.png", *flags))
    assert not list(tmp_path.iterdir())


def enlarged(root, run, *flags, rows, columns):
    """The tiles of 8 x 8 pixels that `trainers.super_resolve` draws, and what the program prints."""
    path = root / "enlarged.png"
    printed = succeed("super_resolve", f"--run={run}", *flags, f"--output={path}", "--overwrite")
    sheet = np.asarray(Image.open(path))[..., 0]
    gaps = np.full(columns - 1, 2)
    gaps[1] = 10  # After the bicubic enlargement
    if "--image" not in "".join(flags):
        gaps[-1] = 10  # Before the true image
    lefts = np.append(0, np.cumsum(48 + gaps))
    assert sheet.shape == (50 * rows - 2, lefts[-1] + 48)
    return [
        [sheet[50 * r : 50 * r + 48 : 6, c : c + 48 : 6] for c in lefts] for r in range(rows)
    ], printed


def test_small_images_are_enlarged_beside_the_true_images(conditional, images, root):
    run = conditional["cvae_super_resolution_digits"]
    data = zoo.training.load_data(zoo.training.Run(run).read_config())
    x, small = data.arrays("test", 2)
    flags = ("--rows=2", "--n=2", "--consistent")
    tiles, printed = enlarged(root, run, *flags, rows=2, columns=5)
    assert printed.startswith(
        "2 small images, their bicubic enlargements, 2 results of each, and the"
    )
    assert printed.rstrip().endswith("small images: 0.0000.")
    for image, own, (low, _, first, second, truth) in zip(x, small, tiles, strict=True):
        np.testing.assert_array_equal(truth, np.round(255 * image[..., 0]))
        np.testing.assert_allclose(low[::2, ::2], 255 * own[..., 0], atol=0.5)
        for tile in (first, second):  # Rounded to 256 levels
            means = tile.astype(float).reshape(4, 2, 4, 2).mean((1, 3))
            np.testing.assert_allclose(means, 255 * own[..., 0], atol=0.6)
    # Any model with a decoder enlarges a file.
    flags = (f"--image={images}/00.png", "--factor=4", "--y=3")
    [[low, _, _]], _ = enlarged(root, conditional["cvae_digits"], *flags, rows=1, columns=3)
    own = zoo.datasets.read_image(f"{images}/00.png", (2, 2, 1))[..., 0]
    np.testing.assert_array_equal(low[::4, ::4], np.round(255 * own))


def test_programs_refuse_what_a_small_image_does_not_allow(conditional, images, root):
    run_of_small = f"--run={conditional['cvae_super_resolution_digits']}"
    new = f"--output={root}/not_drawn.png"
    answer = run("complete", run_of_small, new)
    assert "is a small image, which shows the hidden part" in error_message(answer)
    answer = run("super_resolve", run_of_small, new, "--factor=4", "--method=conditional")
    assert "needs a model whose condition is a small image" in error_message(answer)
    answer = run("super_resolve", run_of_small, new, f"--image={images}/00.png", "--rows=2")
    assert "Received: --rows with --image" in error_message(answer)
    answer = run("super_resolve", run_of_small, new, "--y=3")
    assert "leave --y out" in error_message(answer)
    run_of_labels = f"--run={conditional['cvae_digits']}"
    answer = run("super_resolve", run_of_labels, new, f"--image={images}/00.png")
    assert "pass labels, such as --y=3" in error_message(answer)
    answer = run("super_resolve", run_of_small, new, "--weight=0")
    assert "--weight is for --method=map" in error_message(answer)


def test_the_options_of_map_reach_the_enlargement(vae, root, monkeypatch):
    given = {}

    def enlarge(model, small, factor, y, **options):
        given.update(options)
        raise ValueError("Received: enough.")

    monkeypatch.setattr(zoo.inference, "super_resolve", enlarge)
    flags = ("--starts=2", "--steps=7", "--weight=0.5", "--rows=1", f"--output={root}/no.png")
    assert "enough" in error_message(run("super_resolve", f"--run={vae[0]}", *flags))
    assert given | {"starts": 2, "steps": 7, "weight": 0.5, "method": "map"} == given


def test_images_are_no_animation_and_are_not_drawn_for_one(vae, root, monkeypatch):
    monkeypatch.setattr(zoo.GenerativeModel, "sample", None)
    answer = run("sample", f"--run={vae[0]}", f"--output={root}/no.gif")
    assert "A .gif file shows videos" in error_message(answer)


FEW = ("--extractor=mnist-cnn-v1", "--num_samples=30", "--limit=20", "--importance_samples=5")


@pytest.fixture(scope="module")
def conditional(root):
    """Untrained runs of models with labels, seen quadrants, small images, and optional labels."""
    runs = {}
    small = "cvae_super_resolution_digits"
    for preset in ("cvae_digits", "cvae_quadrants_digits", small, "m2_digits"):
        config = zoo.presets.get(preset)
        zoo.presets.override(config, ["model.hidden=8"])
        data = zoo.training.load_data(config)
        model = zoo.presets.build(config, data.image_shape, data.levels)
        model.adapt(data)
        run = zoo.training.Run(root / preset)
        run.begin(config)
        run.save_model(model)
        zoo.files.write_json(run.results_path, {"epochs": config.epochs})
        runs[preset] = run.path
    return runs


def test_interpolations_between_files_need_a_known_condition(conditional, root, images):
    pair = f"--images={images}/00.png,{images}/01.png"

    def walk(name, preset, *more):
        path = root / f"{name}.png"
        run, options = f"--run={conditional[preset]}", ("--n=3", f"--output={path}")
        succeed("interpolate", run, *options, pair, *more)
        return np.asarray(Image.open(path))

    output = f"--output={root}/no.png"
    by_label = f"--run={conditional['cvae_digits']}"
    assert "such as --y=3" in error_message(run("interpolate", by_label, output, pair))
    three, four = (walk(f"walk{y}", "cvae_digits", f"--y={y}") for y in (3, 4))
    assert not np.array_equal(three, four)
    # The seen part is the quadrant of the first file, which all images of the path share.
    part = f"--run={conditional['cvae_quadrants_digits']}"
    file = f"{part}/model.keras"
    assert "the folder of a run" in error_message(run("interpolate", file, output, pair))
    model = keras.saving.load_model(conditional["cvae_quadrants_digits"] / "model.keras")
    a, b = (zoo.datasets.read_image(f"{images}/{i:02}.png", (8, 8, 1)) for i in range(2))
    y = np.full_like(a, -1)
    y[4:, :4] = a[4:, :4]
    zoo.pictures.interpolations([(a, b)], model, root / "want.png", 3, y=y[None])
    want = np.asarray(Image.open(root / "want.png"))
    np.testing.assert_array_equal(walk("seen", "cvae_quadrants_digits"), want)
    # A model with optional labels uses the most probable class of the first file.
    model = keras.saving.load_model(conditional["m2_digits"] / "model.keras")
    zoo.pictures.interpolations([(a, b)], model, root / "want2.png", 3)
    want = np.asarray(Image.open(root / "want2.png"))
    np.testing.assert_array_equal(walk("optional", "m2_digits"), want)
    succeed("interpolate", f"--run={conditional['m2_digits']}", "--between=images", "--n=3")


def test_labels_on_the_command_line_are_known_names_or_numbers(conditional, root):
    m2, cvae = (conditional[name] for name in ("m2_digits", "cvae_digits"))

    def draw(model, name, *more):
        succeed(
            "sample", f"--run={model}", "--n=4", f"--output={root}/{name}.npy", "--seed=1", *more
        )
        return np.load(root / f"{name}.npy")

    draw(m2 / "model.keras", "no_y")
    assert not np.array_equal(draw(m2, "m3", "--y=3"), draw(m2, "m4", "--y=4"))
    np.testing.assert_array_equal(
        draw(m2, "m3_too", "--y=3"), draw(m2 / "model.keras", "m3_file", "--y=3")
    )

    for model in (m2, m2 / "model.keras", cvae):
        message = error_message(
            run("sample", f"--run={model}", f"--output={root}/no.png", "--y=3,12")
        )
        assert "numbers from 0 to 9. Received" in message
    message = error_message(run("sample", f"--run={cvae}/model.keras", f"--output={root}/no.png"))
    assert "pass labels as numbers" in message


def test_names_of_labels_take_precedence_over_numbers():
    from trainers import cli

    assert [cli._label(t, {"10": 0, "2": 1, "x": 2}) for t in ("10", "2", "x", "0")] == [0, 1, 2, 0]
    with pytest.raises(ValueError, match="Unknown label 'y'"):
        cli._label("y", {"x": 0})


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_evaluation_of_a_run_and_of_its_file_agree(vae, root):
    printed = succeed("evaluate", f"--run={vae[0]}", *FEW)
    a = lines(vae[0] / "evaluation.jsonl")
    path = root / "evaluation.jsonl"
    binary = ("--dataset=digits", "--binarize=dynamic")
    succeed("evaluate", f"--run={vae[0]}/model.keras", *binary, *FEW, f"--output={path}")
    b = lines(path)
    names = [line["metric"] for line in a]
    assert {"classifier-FID[mnist-cnn-v1]", "coverage[mnist-cnn-v1]", "nll", "rate"} <= set(names)
    assert all(f"  {name} " in printed for name in names)
    for of_run, of_file in zip(a, b, strict=True):
        assert {**of_run, "seconds": 0, "sampling": 0} == {**of_file, "seconds": 0, "sampling": 0}
    assert a[0]["sampling"]["run"] == str(vae[0]) and a[0]["n_fake"] == 30
    results = json.loads((vae[0] / "results.json").read_text())
    (loss,) = (line["value"] for line in a if line["metric"] == "objective: loss")
    assert loss == pytest.approx(results["test"]["loss"], rel=1e-2)
    assert Image.open(vae[0] / "evaluation_neighbours.png").size[0] > 50


def test_a_second_evaluation_is_added_and_takes_features_from_the_cache(vae):
    path = vae[0] / "evaluation.jsonl"
    before = path.read_text() if path.exists() else ""
    flags = (f"--run={vae[0]}", "--metrics=fid", *FEW)
    succeed("evaluate", *flags)
    cached = files(vae[0] / "features")
    succeed("evaluate", *flags)
    assert cached and files(vae[0] / "features") == cached
    assert path.read_text().startswith(before)
    assert len({(line["metric"], line["value"]) for line in lines(path)[-2:]}) == 1


def test_folders_are_compared_without_a_model(images, root):
    path = root / "folders.jsonl"
    flags = (f"--real={images}", f"--fake={images}", *FEW[:1])
    printed = succeed("evaluate", *flags, f"--output={path}")
    fid = lines(path)[0]
    assert fid["metric"] == "classifier-FID[mnist-cnn-v1]" and abs(fid["value"]) < 1e-6
    assert fid["floor"]["value"] > 1 and fid["data"]["images"] == str(images)
    assert "against" in printed and len(list(images.iterdir())) == 30
    assert "Name one with --extractor" in error_message(run("evaluate", *flags[:2]))
    idle = ("--split=train", "--num_samples=5")
    assert "not to folders: num_samples, split" in error_message(run("evaluate", *flags, *idle))
    printed = succeed("evaluate", *flags, "--metrics=all", "--num_real=20")
    assert (
        re.search(r"nll +no value: It needs a model", printed)
        and "[20 real, 30 generated]" in printed
    )


@pytest.mark.slow
def test_results_are_compared_in_text_markdown_and_csv(vae, gan):
    for path in (vae[0], gan):
        succeed("evaluate", f"--run={path}", "--metrics=fid,nll", *FEW)
    both = ("--compare", str(vae[0]), str(gan))
    text = succeed("evaluate", *both)
    assert re.search(r"classifier-FID\[mnist-cnn-v1\] +[\d.]+", text) and " *" in text
    assert "nll of gan (last, averaged): A GAN has no `log_prob`" in text
    assert "| gan (last, averaged) |" in succeed("evaluate", *both, "--format=markdown")
    rows = list(csv.DictReader(succeed("evaluate", *both, "--format=csv").splitlines()))
    assert {row["model"] for row in rows} == {"vae", "gan (last, averaged)"}
    succeed("evaluate", f"--run={gan}", "--metrics=fid", *FEW, "--num_samples=40")
    assert "not ranked, because the protocols differ in n_fake" in succeed("evaluate", *both)
    assert "Name the runs" in error_message(run("evaluate", "--compare"))
    assert "There are no results in" in error_message(
        run("evaluate", "--compare", f"{gan}/samples")
    )


def test_the_best_model_is_kept_in_addition_to_the_last_model(vae, root):
    path = root / "best"
    settings = (
        "evaluation.every=1",
        "evaluation.extractor=mnist-cnn-v1",
        "evaluation.num_samples=40",
    )
    flags = [f"--set={setting}" for setting in (*settings, "hidden=16")]
    succeed("train", "--epochs=2", *flags, f"--output={path}", *QUICK)
    values = [line["value"] for line in lines(path / "evaluation.jsonl")]
    assert len(values) == 2
    assert {line["data"]["split"] for line in lines(path / "evaluation.jsonl")} == {"validation"}
    column = [float(row["val_classifier-FID[mnist-cnn-v1]"]) for row in rows(path)]
    assert column == pytest.approx(values)
    assert json.loads((path / "best.json").read_text())["value"] == min(values)
    succeed("evaluate", f"--run={path}", "--checkpoint=best", "--metrics=losses", *FEW)
    last = lines(path / "evaluation.jsonl")[-1]
    assert last["sampling"]["checkpoint"] == "best"
    flags = ("--checkpoint=best", f"--output={root}/none.png")
    assert "has no best.keras" in error_message(run("sample", f"--run={vae[0]}", *flags))


@pytest.mark.parametrize(
    ("preset", "setting", "message"),
    [
        ("gan_digits", "extractor=mnist-cnn", "Unknown feature network 'mnist-cnn'"),
        ("gan_digits", "metric=fid", "no feature network for 'digits'"),
        ("gan_digits", "metric=nll", "A GAN has no `log_prob`"),
        ("gan_digits", "metric=density", "Unknown metric"),
        ("gan_digits", "metric=copying", "higher or lower is better"),
        ("vae_digits", "metric=ssim", "at least 11x11 pixels"),
    ],
)
def test_an_impossible_evaluation_is_refused_before_the_old_run_is_removed(
    gan, preset, setting, message
):
    before = files(gan)
    settings = ("--set=evaluation.every=1", f"--set=evaluation.{setting}")
    answer = run("train", f"--preset={preset}", *settings, f"--output={gan}", "--overwrite")
    assert message in error_message(answer)
    assert files(gan) == before


def test_runs_of_the_same_name_are_distinguished(vae, root):
    succeed("evaluate", f"--run={vae[0]}", "--metrics=nll", *FEW[1:])
    for folder in ("a", "b"):
        (root / folder).mkdir()
        (root / folder / "evaluation.jsonl").write_bytes((vae[0] / "evaluation.jsonl").read_bytes())
    paths = [f"{root}/{folder}/evaluation.jsonl" for folder in ("a", "b")]
    printed = succeed("evaluate", "--compare", *paths)
    assert "a/evaluation" in printed and "b/evaluation" in printed
    assert "Name each run once" in error_message(run("evaluate", "--compare", paths[0], paths[0]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--metrics=fit",), "Unknown metric 'fit'.*Did you mean 'fid'"),
        (("--metrics=fid",), "need a feature network"),
        (("--extractor=inception",), "Unknown feature network 'inception'"),
        (("--extractor=inception-ttur",), "Get http.*ZOO_INCEPTION"),
        (("--output=scores.txt",), "must be a .jsonl file"),
        (("stray",), "Only --compare takes runs"),
        (("--real=here",), "Pass --run, or both"),
    ],
)
def test_invalid_evaluations_are_refused_before_the_evaluation_starts(vae, flags, message):
    before = files(vae[0])
    assert re.search(message, error_message(run("evaluate", f"--run={vae[0]}", *flags)))
    assert files(vae[0]) == before


@pytest.mark.slow
def test_the_export_of_a_run_and_of_its_file_agree(vae, root):
    printed = succeed("export", f"--run={vae[0]}")
    path = root / "exported"
    succeed("export", f"--run={vae[0]}/model.keras", f"--output={path}")
    served = [tf.saved_model.load(str(p)) for p in (vae[0] / "saved_model", path)]
    z = np.ones([2, 3], np.float32)
    results = [
        next(iter(model.signatures["decode"](tf.constant(z)).values())).numpy() for model in served
    ]
    assert np.array_equal(*results) and results[0].shape == (2, 8, 8, 1)
    assert "decode" in printed and "encode" in printed


def test_the_export_writes_the_chosen_signatures_in_the_chosen_format(vae):
    chosen = (f"--run={vae[0]}", "--format=tflite")
    printed = succeed("export", *chosen, "--signatures=decode,encode")
    folder = vae[0] / "tflite"
    assert f"tflite with the signatures decode, encode: {folder}" in printed
    assert {entry.name for entry in folder.iterdir()} == {"abilities.json", "model.tflite"}
    before = files(vae[0])
    message = error_message(run("export", *chosen, "--overwrite", "--signatures=sample"))
    assert "no random numbers, which 'sample' needs" in message
    assert files(vae[0]) == before


def test_a_gan_has_samples_but_no_likelihood_and_no_reconstructions(gan):
    succeed("evaluate", f"--run={gan}", "--metrics=nll,psnr", *FEW)
    for line in lines(gan / "evaluation.jsonl")[-2:]:
        assert line["value"] is None and line["status"] == "failed" and "GAN" in line["error"]
    names = {entry.name for entry in gan.iterdir()}
    assert {"samples.png", "interpolations.png"} <= names
    assert not {"reconstructions.png", "latents.png", "interpolations_images.png"} & names


def test_a_gan_refuses_interpolations_between_images(gan):
    before = files(gan)
    message = error_message(run("interpolate", f"--run={gan}", "--between=images"))
    assert "A GAN has no encoder" in message
    assert files(gan) == before


@pytest.mark.slow
def test_an_autoencoder_interpolates_between_images_and_not_between_latents(root):
    path = root / "ae"
    small = ("--preset=autoencoder_digits", "--set=hidden=16", "--epochs=1", *QUICK)
    succeed("train", *small, f"--output={path}")
    message = error_message(run("interpolate", f"--run={path}"))
    assert re.search("An? Autoencoder has no prior .*--between=images", message)
    assert not (path / "walks.png").exists()
    succeed("interpolate", f"--run={path}", "--between=images", "--pairs=2", "--n=3")
    assert (path / "walks.png").is_file()
    assert "has no prior" in error_message(run("sample", f"--run={path}"))


@pytest.mark.slow
def test_a_run_with_another_optimizer_resumes(root):
    path = root / "rmsprop"
    flags = ("--set=hidden=16", "--set=discriminator_hidden=16", f"--output={path}", *QUICK)
    name = "--set=optimizers.encoder.name=rmsprop"
    succeed("train", "--preset=aae_digits", "--epochs=1", name, *flags)
    optimizers = json.loads((path / "config.json").read_text())["optimizers"]
    assert "beta_1" in optimizers["discriminator"] and "beta_1" not in optimizers["encoder"]
    succeed("train", "--resume", "--epochs=2", *flags[2:])
    model = keras.saving.load_model(path / "model.keras")
    assert type(model.optimizers["encoder"]) is keras.optimizers.RMSprop
    assert len(rows(path)) == 2


def test_a_folder_of_images_trains(images, root):
    path = root / "own"
    data = ("--dataset=folder", f"--data_dir={images}", "--set=image_size=8", "--batch_size=8")
    small = ("--preset=autoencoder_digits", "--set=hidden=16", "--epochs=1")
    succeed("train", *small, *data, f"--output={path}", *QUICK)
    assert keras.saving.load_model(path / "model.keras").image_shape == (8, 8, 1)


@pytest.mark.slow
def test_mnist_trains_from_prepared_data(tmp_path):
    if not os.environ.get("TFDS_DATA_DIR"):
        pytest.skip("needs MNIST as TFDS prepares it: set TFDS_DATA_DIR")
    small = ("--preset=vae_mnist", "--epochs=1", "--set=hidden=32", "--set=latent_dim=4")
    succeed("train", *small, f"--output={tmp_path}/run", *QUICK)
    nll = json.loads((tmp_path / "run" / "results.json").read_text())["likelihood"]["nll"]
    assert 90 < nll < 200


# Refusals -------------------------------------------------------------------------------------

TF_CONFIG = '{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 3}}'


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset=vae_mnits"], "Did you mean 'vae_mnist'"),
        (["--set=hiden=3"], "It has: .*batch_size, .*model.hidden"),
        (["--set=hidden"], "key=value"),
        (["--set=learning_rate=quick"], "is of type float, like 0.002. Received: 'quick'"),
        (["--set=latent_dim=2.5"], "'model.latent_dim' is of type int.* Received: '2.5'"),
        (["--set=name=mnist"], "data.name, optimizers.vae.name. Write one"),
        (["--set=likelihood=bernouli"], "Did you mean 'bernoulli'"),
        (["--set=binarize=static"], "`binarize` must be one of dynamic"),
        (["--set=image_size=0"], "`image_size` must be at least 1"),
        (["--set=latent_dim=0"], "`latent_dim` must be at least 1. Received: 0"),
        (["--set=hidden=(8,-1)"], r"`hidden` must be at least 1. Received: \(8, -1\)"),
        (["--set=learning_rate=-1"], "`optimizers.vae.learning_rate` must be above 0"),
        (["--set=activation=rellu"], "rellu"),
        (
            ["--preset=autoencoder_conv_mnist", "--set=filters=()"],
            "at least one layer in `filters`",
        ),
        (["--preset=aae_digits", "--set=prior_scale=-1.0"], "`prior_scale` must be above 0"),
        (["--preset=vaegan_digits", "--set=gamma=-1.0"], "`gamma` must be at least 0"),
        (["--set=optimizers.vae.name=adma"], "Unknown optimizer 'adma'"),
        (
            ["--preset=gan_digits"]
            + [f"--set=optimizers.generator.{s}" for s in ("name=rmsprop", "beta_1=0.9")],
            "has no setting 'beta_1'. It has: learning_rate, rho",
        ),
        (["--batch_size=5000"], "batch of 5000 is larger than the training set of 1000"),
        (["--batch_size=0"], "`batch_size` must be at least 1"),
        (["--epochs=0"], "`epochs` must be at least 1"),
        (["--dataset=minst"], "did you mean 'mnist'"),
        (["--dataset=folder"], "needs `data_dir`"),
        (["--dataset=folder", "--data_dir=ROOT/none"], "There is no folder 'ROOT/none'"),
        (["--dataset=folder", "--data_dir=ROOT/corrupt"], "'ROOT/corrupt/15.png'"),
        (["--strategy=multi_worker"], "neither is set"),
        (["--strategy=tpu"], "found no TPU"),
        (["--resume"], "There is no run in"),
        (["--resume", "--overwrite"], "choose one"),
        (["--config=ROOT/none.json"], "There is no file 'ROOT/none.json'"),
        (["--config=ROOT/list.json"], "is not a configuration in JSON"),
        (["--config=ROOT/empty.json"], "Expected the configuration of a run"),
        (["--config=ROOT/empty.json", "--preset=vae_digits"], "not both"),
        (["vae_mnist"], "takes only flags. Received: 'vae_mnist'"),
    ],
    ids=lambda value: " ".join(value).replace("--", "") if isinstance(value, list) else "",
)
def test_invalid_trainings_are_refused_before_a_folder_is_created(flags, message, tmp_path, images):
    corrupt = tmp_path / "corrupt"
    corrupt.mkdir()
    for picture in images.iterdir():
        (corrupt / picture.name).write_bytes(picture.read_bytes())
    (corrupt / "15.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "empty.json").write_text("{}")
    before = files(tmp_path)
    flags = [flag.replace("ROOT", str(tmp_path)) for flag in flags]
    answer = run("train", *flags, f"--output={tmp_path}/new")
    assert re.search(message.replace("ROOT", str(tmp_path)), error_message(answer))
    assert not (tmp_path / "new").exists() and files(tmp_path) == before


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "TF_CONFIG must be JSON"),
        ('{"cluster": {}}', "TF_CONFIG must be JSON"),
        (TF_CONFIG, "3 exceeds the maximum id"),
    ],
    ids=["broken", "incomplete", "beyond"],
)
def test_an_invalid_tf_config_is_refused(value, message, tmp_path):
    flags = ("--strategy=multi_worker", f"--output={tmp_path}/new")
    assert message in error_message(
        run("train", *flags, environ={"TF_CONFIG": value}, forked=True, seconds=30)
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epoch=2"], "Unknown command line flag 'epoch'. Did you mean: epochs"),
        (["--epochs=two"], "--epochs=two"),
        (["--strategy=tpus"], "should be one of <default|mirrored|multi_worker|tpu>"),
    ],
)
def test_the_flags_parser_refuses_invalid_flags(flags, message, tmp_path):
    answer = run("train", *flags, f"--output={tmp_path}/new")
    assert answer.status == 1 and message in answer.err and "Traceback" not in answer.err
    assert not (tmp_path / "new").exists()


def test_an_unavailable_data_set_is_refused_within_seconds(tmp_path):
    # A proxy address without a server acts as a network that is down.
    down = {name: "http://localhost:9" for name in ("http_proxy", "https_proxy")}
    flags = ("--preset=vae_mnist", f"--data_dir={tmp_path}/none", f"--output={tmp_path}/new")
    message = error_message(run("train", *flags, environ=down))
    assert f"'mnist' is not prepared in '{tmp_path}/none'" in message and "no connection" in message
    assert not list(tmp_path.iterdir())


def test_existing_files_at_the_output_are_not_changed(vae, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    for path, flags, message in [
        (vae[0], [], "Continue it (--resume), replace it (--overwrite)"),
        (tmp_path, [], "holds something other than a run"),
        (tmp_path, ["--overwrite"], "holds something other than a run"),
        (tmp_path / "diary.txt", ["--overwrite"], "is a file"),
        (tmp_path / "diary.txt" / "run", [], "diary.txt' is a file"),
    ]:
        before = files(vae[0]), files(tmp_path)
        assert message in error_message(run("train", "--epochs=1", f"--output={path}", *flags))
        assert (files(vae[0]), files(tmp_path)) == before


def test_overwriting_a_run_keeps_the_files_of_the_user(vae, root):
    path = root / "replaced"
    shutil.copytree(vae[0], path)
    assert (path / "checkpoints" / "ckpt-2.index").exists()
    (path / "notes.txt").write_text("mine")
    small = ("--preset=autoencoder_digits", "--set=hidden=16", f"--output={path}", *QUICK)
    succeed("train", "--epochs=1", *small, "--overwrite")
    assert (path / "notes.txt").read_text() == "mine"
    assert len(rows(path)) == 1 and not (path / "checkpoints" / "ckpt-2.index").exists()


def test_a_resumed_run_refuses_changed_settings(vae):
    before = files(vae[0])
    for flags, message in [
        (["--preset=gan_digits"], "is of preset 'vae_digits', not 'gan_digits'"),
        (["--set=latent_dim=5"], "was started with model.latent_dim=3"),
        (["--seed=1"], "was started with seed=0"),
        (["--batch_size=20", "--set=learning_rate=0.1"], "batch_size=50, .*learning_rate=0.002"),
    ]:
        answer = run("train", "--resume", f"--output={vae[0]}", *flags)
        assert re.search(message, error_message(answer))
    assert files(vae[0]) == before


def test_a_run_continues_from_the_checkpoint_before_a_truncated_one(root):
    path = root / "truncated"
    small = ("--preset=autoencoder_digits", "--set=hidden=16", f"--output={path}", *QUICK)
    succeed("train", "--epochs=2", *small)
    data = path / "checkpoints" / "ckpt-2.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    before = rows(path)
    printed = succeed("train", "--resume", *small[2:])
    assert f"{path}/checkpoints/ckpt-2' is damaged and skipped" in printed
    assert "Resuming after epoch 1 of 2" in printed
    assert rows(path)[0] == before[0] and len(rows(path)) == 2
    # The new file is whole. Its size depends on the numbers in the names of layers.
    new = tf.train.load_checkpoint(f"{path}/checkpoints/ckpt-2")
    assert new.get_variable_to_shape_map()
    for name in new.get_variable_to_shape_map():
        new.get_tensor(name)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "/a/b"), "Error: '/a/b' cannot be read or written"),
        (MemoryError("Unable to allocate"), "smaller --batch_size"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), "smaller --batch_size"),
        (tf.errors.UnknownError(None, None, "/a/b; Input/output error"), "'/a/b' cannot be"),
        (tf.errors.InvalidArgumentError(None, None, "Incompatible shapes"), None),
    ],
)
def test_errors_of_the_machine_are_sentences_and_bugs_keep_their_traceback(
    error, message, tmp_path, monkeypatch
):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(zoo.training, "train", fail)
    answer = run("train", f"--output={tmp_path}/new")
    assert answer.status == 1
    if message is None:
        assert "Traceback" in answer.err and "Incompatible shapes" in answer.err
    else:
        assert message in error_message(answer)


@pytest.mark.parametrize(
    "program", ["export", "sample", "interpolate", "complete", "super_resolve", "evaluate"]
)
def test_an_output_without_write_access_is_refused_before_the_model_is_loaded(
    program, tmp_path, monkeypatch
):
    monkeypatch.setattr(zoo.training, "open_model", None)
    output = "/proc/none/new" + (".jsonl" if program == "evaluate" else ".png")
    answer = run(program, f"--run={tmp_path}", f"--output={output}")
    assert f"'{output}' cannot be read or written" in error_message(answer)


def test_an_export_over_other_files_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "diary.txt").write_text("mine")
    monkeypatch.setattr(zoo.training, "open_model", None)
    answer = run("export", "--run=/none", f"--output={tmp_path}", "--overwrite")
    assert f"'{tmp_path}', which is neither" in error_message(answer)


def test_a_result_is_printed_even_if_it_cannot_be_written(vae, tmp_path, monkeypatch):
    def full(path, result):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(zoo.evaluation, "append", full)
    output = f"--output={tmp_path}/e.jsonl"
    answer = run("evaluate", f"--run={vae[0]}", "--metrics=losses", *FEW, output)
    assert "objective: distortion" in answer.out and f"'{tmp_path}/e.jsonl' cannot" in answer.err


def test_the_error_of_a_diverged_run_names_the_step_the_loss_and_the_player(root):
    path = root / "infinite"
    flags = ("--epochs=3", "--set=hidden=16", f"--output={path}", *QUICK)
    message = error_message(run("train", *flags, "--set=learning_rate=1e30"))
    assert re.search("at step 1 'loss' .*player 'vae'.*lower learning rate", message)
    names = {entry.name for entry in path.iterdir()}
    assert "config.json" in names and not {"model.keras", "results.json"} & names
    assert not list(path.rglob("*.data-*"))
    for program in ("sample", "evaluate", "interpolate", "complete", "export"):
        assert "has no model.keras" in error_message(run(program, f"--run={path}"))


@pytest.mark.parametrize("program", ["sample", "evaluate", "interpolate", "complete", "export"])
def test_invalid_runs_are_refused(program, vae, root, tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    whole = (vae[0] / "model.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(whole[: len(whole) // 2])
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    suffix = {"evaluate": ".jsonl", "complete": ".png"}.get(program, "")
    output = f"--output={tmp_path}/new{suffix}"
    more = ["--dataset=digits"] if program == "evaluate" else []
    before = files(tmp_path)
    for name, message in [
        ("none", "There is no run in"),
        ("none.keras", "There is no file"),
        ("text.keras", "is not a complete Keras model"),
        ("half.keras", "is not a complete Keras model"),
        ("other.keras", "Received: a Sequential"),
    ]:
        answer = run(program, f"--run={tmp_path}/{name}", output, *more)
        assert message in error_message(answer) and f"{tmp_path}/{name}" in answer.err
    assert files(tmp_path) == before and not (tmp_path / f"new{suffix}").exists()
    if program != "evaluate":
        assert "takes only flags" in error_message(run(program, f"--run={vae[0]}", output, "stray"))


@pytest.mark.parametrize("program", ["sample", "interpolate", "complete", "export"])
def test_an_output_in_use_is_not_changed(program, vae, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "diary.txt"):
        answer = run(program, f"--run={vae[0]}", f"--output={path}")
        assert f"'{path}' exists already" in error_message(answer)
    assert list(files(tmp_path)) == ["diary.txt"]


def test_a_model_file_requires_flags_for_data_and_output(vae, root, images):
    model, output = f"--run={vae[0]}/model.keras", f"--output={root}/nowhere.png"
    assert "use --dataset" in error_message(run("evaluate", model, output))
    assert "pass --images" in error_message(run("interpolate", model, output, "--between=images"))
    assert "or the folder of a run" in error_message(run("complete", model, output))
    assert "--output is required" in error_message(run("sample", model))
    one = f"--images={images}/00.png"
    assert "takes two files" in error_message(run("interpolate", model, output, one))
    gone = f"--images={images}/00.png,{images}/none.png"
    assert "none.png'" in error_message(run("interpolate", model, output, gone))
    assert "no optimizer" in error_message(run("sample", model, output, "--averaged")).lower()
    assert not (root / "nowhere.png").exists()
