"""`trainers.sample --queries`: test images beside samples with their attributes."""

import numpy as np
import pytest
import tensorflow_probability as tfp
from PIL import Image
from programs import error_message, run, succeed

from zoo import datasets, presets, training
from zoo.files import write_json
from zoo.model import as_seed

TILE = 48
SMALL = ("image_size=8", "model.hidden=8", "filters=(4,)", "batch_size=4")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve images of 8x8 pixels with an alpha channel and three attributes, one of them real."""
    folder = tmp_path_factory.mktemp("images")
    rows = ["file,glasses,hat,lightness"]
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, [12, 8, 8, 4], np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
        rows.append(f"{i:02}.png,{i % 2},{int(i > 5)},{i / 12:.3f}")
    (folder / "attributes.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    """Runs of four presets, after one step of training."""
    root, made = tmp_path_factory.mktemp("runs"), {}
    for preset, settings in {
        "vaegan_attributes_toon_heads": ["condition_size=3", "latent_dim=2", "width=4"],
        "cvae_attributes_toon_heads": ["condition_size=3", "latent_dim=2"],
        "vaegan_toon_heads": ["latent_dim=2", "width=4"],
        "dis_cvae_toon_heads": ["condition_size=3"],
    }.items():
        config = presets.get(preset)
        presets.override(config, [f"data_dir={images}", *SMALL, *settings])
        training.check_config(config)
        data = training.load_data(config)
        model = presets.build(config, data.image_shape, data.levels)
        training.checks.check_data(model, data, config.batch_size)
        step = model.train_step(next(iter(data.batches("train", 4))))
        assert all(np.isfinite(value) for value in step.values())
        made[preset] = training.Run(root / preset)
        made[preset].begin(config)
        made[preset].save_model(model)
        write_json(made[preset].results_path, {"epochs": config.epochs})
    return made


def test_a_preset_for_a_folder_needs_the_folder():
    with pytest.raises(ValueError, match="needs `data_dir`"):
        training.check_config(presets.get("vaegan_attributes_toon_heads"))


def test_a_row_shows_the_image_and_samples_of_each_model(runs, images, tmp_path):
    first, second = (runs[f"{name}_attributes_toon_heads"].path for name in ("vaegan", "cvae"))
    flags = ["--queries=1", "--n=3", f"--beside={second}", "--seed=1"]
    assert f"{first}/queries.png" in succeed("sample", f"--run={first}", *flags)
    picture = np.asarray(Image.open(first / "queries.png"))
    assert picture.shape == (TILE, 7 * TILE + 2 * 10 + 4 * 2, 3)
    data = datasets.load("folder", data_dir=str(images), image_size=8, mask="alpha")
    x, y = data.arrays("test", 1)

    def shown(image):
        return np.kron(np.round(np.asarray(image) * 255), np.ones((6, 6, 1)))

    np.testing.assert_array_equal(picture[:, :TILE], shown(x[0]))
    model, _ = training.open_model(second)
    [seed] = tfp.random.split_seed(as_seed(1), 1)
    left = 4 * TILE + 2 * 10 + 2 * 2
    for sample in model.sample(3, y.repeat(3, 0), seed):
        assert np.abs(picture[:, left : left + TILE] - shown(sample)).max() <= 1
        left += TILE + 2


def test_all_models_of_a_row_have_the_same_kind_of_checkpoint(runs, tmp_path, monkeypatch):
    asked, first = [], runs["vaegan_attributes_toon_heads"]

    def open_model(where, checkpoint="last"):
        asked.append(checkpoint)
        return first.load_model(), first

    monkeypatch.setattr(training, "open_model", open_model)
    flags = ["--queries=1", "--n=1", f"--beside={first.path}", "--checkpoint=best"]
    succeed("sample", f"--run={first.path}", *flags, f"--output={tmp_path}/drawn.png")
    assert asked == ["best", "best"]


def test_queries_that_cannot_be_drawn_are_refused(runs, tmp_path):
    path, plain = runs["vaegan_attributes_toon_heads"].path, runs["vaegan_toon_heads"].path
    out = f"--output={tmp_path}/no.png"
    for flags, message in {
        (f"--run={path}", "--queries=1", "--y=1"): "takes the conditions of test images",
        (f"--run={path}", f"--beside={plain}"): "--beside needs --queries",
        (f"--run={path}/model.keras", "--queries=1"): "does not name its data set",
        (f"--run={plain}", "--queries=1"): "for models with a condition. Received: a VAEGAN",
    }.items():
        assert message in error_message(run("sample", *flags, out))
    answer = run("sample", f"--run={path}", "--queries=1", f"--output={tmp_path}/no.gif")
    assert "must end in .png" in error_message(answer)
    assert not list(tmp_path.iterdir())
