"""A run's folder and the files in it."""

import json

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import presets, training
from zoo.files import write_json
from zoo.training import Run, checks


@pytest.fixture
def run(tmp_path):
    """A started run."""
    run = Run(tmp_path / "deep" / "run")
    run.begin(zoo.presets.get("vae_digits"))
    return run


def test_creating_a_run_object_writes_nothing(tmp_path):
    run = Run(tmp_path / "run")
    assert not run.exists and not run.path.exists() and run.read_metrics() == {}
    run.check_free()
    with pytest.raises(FileNotFoundError, match="no run in"):
        run.read_config()


def test_the_configuration_is_read_as_written(run):
    config = run.read_config()
    assert not zoo.presets.differences(config, zoo.presets.get("vae_digits"))
    assert isinstance(config.model.hidden, tuple)
    assert {"keras", "devices"} <= json.loads(run.config_path.read_text())["versions"].keys()


def test_a_folder_in_use_is_refused(run):
    with pytest.raises(FileExistsError, match="--resume"):
        run.check_free()
    run.check_free(overwrite=True)
    run.config_path.unlink()
    (run.path / "diary.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="something other"):
            run.check_free(overwrite)
    with pytest.raises(FileExistsError, match="is a file"):
        Run(run.path / "diary.txt" / "below").check_free()


def test_overwriting_removes_only_the_old_run(run):
    pictures = (run.samples_dir, run.reconstructions_dir)
    for path in (run.checkpoints_dir, *pictures, run.tensorboard_dir, run.saved_model_dir):
        path.mkdir()
        (path / "old").write_text("")
    ours = (
        run.metrics_path,
        run.model_path,
        run.results_path,
        run.best_path,
        run.best_result_path,
        run.evaluation_path,
    )
    for path in (*ours, run.path / "samples.png"):
        path.write_text("")
    (run.path / "notes.txt").write_text("mine")
    run.begin(zoo.presets.get("autoencoder_digits"))
    assert {path.name for path in run.path.iterdir()} == {"config.json", "notes.txt"}
    assert run.read_config().preset == "autoencoder_digits"


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [(0, {}), (1, [0.5]), (2, [0.5, 0.25]), (9, [0.5, 0.25, 0.125])],
)
def test_truncation_keeps_the_rows_up_to_the_epoch(run, epochs, kept):
    run.metrics_path.write_text("epoch,loss\n0,0.5\n1,0.25\n2,0.125\n")
    run.truncate_metrics(epochs)
    assert run.read_metrics().get("loss", {}) == kept


@pytest.mark.parametrize("tail", ["2", "2,", "", "junk,", "2,0.1,3\n"])
def test_truncation_drops_an_incomplete_row(run, tail):
    run.metrics_path.write_text("epoch,loss\n0,0.5\n1,0.25\n" + tail)
    run.truncate_metrics(2)
    assert run.read_metrics() == {"epoch": [0, 1], "loss": [0.5, 0.25]}


@pytest.mark.parametrize("content", ["", "epo", "epoch,loss\n"])
def test_truncation_of_a_file_without_rows_removes_it(run, content):
    run.metrics_path.write_text(content)
    run.truncate_metrics(2)
    assert not run.metrics_path.exists()


DEEP = '{"a": ' * 400 + "1" + "}" * 400


@pytest.mark.parametrize(
    "content",
    [
        *("[1]", "3", "{", "", "[" * 100_000),
        f'{{"preset": "vae_digits", "model": {DEEP}}}',
        '{"preset": "vae_digits", "builder": "veo"}',
        '{"preset": "vae_digits", "builder": ["vae"]}',
        '{"preset": ["vae_digits"]}',
        '{"preset": "vae_digits", "model": 3}',
        '{"preset": "vae_digits", "data": {"name": {"a": 1}}}',
        '{"preset": "vae_digits", "optimizers": {"vae": 1}}',
        '{"preset": "vae_digits", "optimizers": {"vae": {"name": "none"}}}',
    ],
    ids=lambda content: content[:50],
)
def test_the_error_of_an_invalid_configuration_names_the_file(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"config.json' is not"):
        training.read_config(path)


@pytest.mark.parametrize("row", ["1,0.5,3", "1", "1,x", "x,0.5"])
def test_the_error_of_a_damaged_row_names_the_file_and_the_line(run, row):
    text = f"epoch,loss\n0,0.5\n{row}\n2,0.125\n"
    run.metrics_path.write_text(text)
    for read in (run.read_metrics, run.check_metrics, lambda: run.truncate_metrics(1)):
        with pytest.raises(ValueError, match=r"in line 3 of '.*metrics.csv'. Received"):
            read()
    assert run.metrics_path.read_text() == text


def test_metrics_without_a_header_are_refused(run):
    run.metrics_path.write_text("0,0.5\n1,0.25\n")
    with pytest.raises(ValueError, match=r"header that starts with 'epoch' in '.*metrics.csv'"):
        run.truncate_metrics(1)


def test_results_of_another_shape_are_refused_with_the_name_of_the_file(run):
    run.model_path.write_text("")
    for content in ("", "[]", "{}", '{"epochs": "3"}'):
        run.results_path.write_text(content)
        with pytest.raises(ValueError, match=r"results.json'"):
            run.load_model()
    run.best_result_path.write_text('{"value": 1.0, "sampling": []}')
    with pytest.raises(ValueError, match=r"best.json'"):
        run.read_best()


def test_a_start_that_died_before_it_wrote_the_configuration_does_not_block_the_folder(tmp_path):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    (run.path / ".lock").write_text("")
    (run.path / ".config.elsewhere.1.0123abcd.partial.json").write_text('{"pre')
    run.check_free()
    (run.path / "notes.partial.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something other"):
        run.check_free()


def test_json_is_written_atomically(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_error_of_an_unfinished_run_contains_the_command_to_finish_it(run):
    with pytest.raises(FileNotFoundError, match=f"--resume --output={run.path}"):
        training.open_model(run.path)


def test_a_model_opens_from_its_run_and_from_its_file(run):
    config = run.read_config()
    zoo.presets.build(config, (8, 8, 1)).save(run.model_path)
    write_json(run.results_path, {"epochs": config.epochs})
    model, found = training.open_model(run.path)
    assert isinstance(model, zoo.VAE) and found.path == run.path
    model, found = training.open_model(run.model_path)
    assert isinstance(model, zoo.VAE) and found is None
    with pytest.raises(ValueError, match="one checkpoint"):
        training.open_model(run.model_path, "best")


def test_the_best_model_opens_if_it_exists(run):
    with pytest.raises(FileNotFoundError, match=r"no best.keras.*evaluation.every"):
        training.open_model(run.path, "best")
    zoo.presets.build(run.read_config(), (8, 8, 1)).save(run.best_path)
    assert isinstance(training.open_model(run.path, "best")[0], zoo.VAE)


def test_an_earlier_model_of_a_resumed_run_is_refused(run):
    config = run.read_config()
    zoo.presets.build(config, (8, 8, 1)).save(run.model_path)
    write_json(run.results_path, {"epochs": config.epochs - 1})
    with pytest.raises(ValueError, match="is from an earlier epoch"):
        training.open_model(run.path)
    assert isinstance(training.open_model(run.model_path)[0], zoo.VAE)


def test_a_run_keeps_a_copy_of_its_mask(tmp_path):
    mask = tmp_path / "mask.PNG"
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(mask)
    config = presets.get("cvae_quadrants_digits")
    config.data.seen = str(mask)
    begun = Run(tmp_path / "run")
    begun.begin(config)
    checks.check_unchanged(begun, config)
    moved = Run((tmp_path / "run").rename(tmp_path / "moved"))
    checks.check_unchanged(moved, moved.read_config())
    mask.write_bytes(b"")
    with pytest.raises(ValueError, match=r"was started with data\.seen='.*moved/seen\.png'"):
        checks.check_unchanged(moved, config)
    data = training.load_data(moved.read_config())
    np.testing.assert_array_equal(data.arrays("test", 1)[1][0, ..., 0] >= 0, np.eye(8, dtype=bool))
    # A new run may replace the run whose mask it takes.
    moved.begin(moved.read_config())
    assert (moved.path / "seen.png").is_file()
    config.data.seen = "box"
    moved.begin(config)
    assert not (moved.path / "seen.png").exists()
