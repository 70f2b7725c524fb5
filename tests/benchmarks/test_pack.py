"""Packed models of a comparison: weights, scores and cards."""

import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

import zoo
from benchmarks.release import pack
from zoo import features, presets, pretrained
from zoo.training import Run

pytestmark = pytest.mark.slow  # A comparison of two seeds, and programs.

ROOT = pathlib.Path(__file__).parents[2]
NETWORK = "mnist-cnn-v1"
# The best model is of an epoch before the last, and its weights are averages.
SETTINGS = [
    *("epochs=3", "evaluation.at=(1, 2)", f"evaluation.extractor={NETWORK}"),
    *("evaluation.num_samples=20", "optimizers.generator.use_ema=true"),
]
GIVEN = [
    *("--presets=gan_digits", f"--extractor={NETWORK}", *(f"--set={s}" for s in SETTINGS)),
    *("--num_samples=200", "--importance_samples=2", "--limit=10"),
]


def program(name, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A comparison of one preset with two seeds. Tests do not change it."""
    folder = tmp_path_factory.mktemp("comparison") / "made"
    done = program("compare", *GIVEN, "--seeds=1,0", f"--output={folder}")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def packed(comparison, tmp_path_factory):
    """The folder that the program writes to, which had an index before, and its output."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "index.json").write_text('{"vae_digits": {"sha256": "a", "zoo": "0.0.1"}}')
    done = program("release.pack", f"--comparison={comparison}", f"--output={folder}")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


@pytest.fixture
def copy(comparison, tmp_path):
    return pathlib.Path(shutil.copytree(comparison, tmp_path / "copy"))


def scores_of(folder):
    return json.loads((folder / "scores.json").read_text())


def best_row(folder):
    [row] = [row for row in scores_of(folder)["models"] if row["checkpoint"] == "best"]
    return row


def change_scores(folder, change):
    content = scores_of(folder)
    change(content)
    (folder / "scores.json").write_text(json.dumps(content))


def pack_all(comparison, output):
    scores = scores_of(comparison)
    chosen = pack.choose(comparison, scores)
    return [pack.pack(one, scores, comparison / "features", output) for one in chosen]


def cells(card):
    """The rows of a card's tables, by their first cells."""
    rows = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def test_the_best_model_of_the_first_seed_is_packed(comparison, packed):
    folder, _ = packed
    assert {path.name for path in folder.iterdir()} == {
        *("gan_digits.npz", "gan_digits.md", "index.json")
    }
    run = Run(comparison / "runs" / "gan_digits-seed-0")
    loaded = pretrained.load(folder / "gan_digits.npz")
    model = run.load_model("best")
    plain = [v.numpy() for v in model.weights]
    with model.averaged_weights():
        want = [v.numpy() for v in model.weights]
    for a, b in zip(loaded.weights, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2.0**-11, atol=2.0**-25)
    # The weights differ from weights without averages and from other checkpoints and seeds.
    others = [
        [v.numpy() for v in Run(comparison / "runs" / f"gan_digits-seed-{i}").load_model(c).weights]
        for i, c in ((0, "last"), (1, "best"))
    ]
    for other in (plain, *others):
        assert not np.allclose(other[1], want[1], atol=1e-3)


def test_the_index_names_the_file_and_keeps_other_entries(packed):
    folder, _ = packed
    digest = hashlib.sha256((folder / "gan_digits.npz").read_bytes()).hexdigest()
    assert json.loads((folder / "index.json").read_text()) == {
        "gan_digits": {"sha256": digest, "zoo": zoo.__version__},
        "vae_digits": {"sha256": "a", "zoo": "0.0.1"},
    }


def test_a_packed_model_is_loaded_by_its_name(packed, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", packed[0])
    assert zoo.from_preset("gan_digits").sample(3).shape == (3, 8, 8, 1)


def test_the_card_describes_the_model_and_its_scores(comparison, packed):
    folder, out = packed
    card, path = (folder / "gan_digits.md").read_text("utf-8"), folder / "gan_digits.npz"
    assert card.startswith("# gan_digits\n\nGAN, non-saturating, multilayer perceptrons.")
    assert "https://arxiv.org/abs/1406.2661" in card and "`zoo.GAN`" in card
    rows, row = cells(card), best_row(comparison)
    run = Run(comparison / "runs" / "gan_digits-seed-0")
    best = json.loads(run.best_result_path.read_text())["sampling"]["epoch"]
    assert rows["epochs"][0].startswith(f"{best} of 3, the best of the evaluated ones")
    assert "moving averages" in rows["epochs"][0] and best < 3
    assert rows["file"] == [f"`gan_digits.npz`, {path.stat().st_size:,} bytes"]
    assert rows["SHA-256 of the file"][0].strip("`") == pretrained.sha256(path)
    # 16 to 128 to 128 to 64, each but the last normalized; 64 to 128 to 128 to 1.
    generator = 16 * 128 + 128 * 128 + 4 * 128 + 128 * 64 + 64
    discriminator = 64 * 128 + 128 + 128 * 128 + 128 + 128 + 1
    assert rows["parameters"] == [f"{generator + discriminator:,}"]
    assert rows["seed"] == ["0"] and rows["precision"][0].startswith("float16; ")
    assert rows["trained on"] == ["1,000 training images of digits, 8x8, grey"]
    assert rows["training time"] == [f"{row['seconds']:,.0f} seconds, the mean over 2 seeds"]
    lack = "no distance: the zoo has no feature network for 'digits'"
    assert rows["effect of float16"] == [lack]
    _, _, _, *words = shlex.split(rows["command"][0].strip("`"))
    given = dict(word.removeprefix("--set=").removeprefix("--").split("=", 1) for word in words)
    assert given.pop("preset") == "gan_digits" and given.pop("output")
    config = presets.get("gan_digits")
    presets.override(config, [f"{key}={value}" for key, value in given.items()])
    assert not presets.differences(config, run.read_config())
    assert rows["score"] == ["this model", "seeds 0, 1", "other real images"]
    assert len(row["metrics"]) >= 7
    for name, found in row["metrics"].items():
        mine, over, floor = rows[name]
        assert float(mine) == float(f"{found['values'][0]:.4g}")
        assert float(over.split(" ± ")[0]) == float(f"{np.mean(found['values']):.4g}")
        spread = np.std(found["values"], ddof=1)
        assert float(over.split(" ± ")[1]) == float(f"{spread:.2g}")
        assert floor == ("-" if found["floor"] is None else f"{found['floor']:.4g}")
    assert "200 samples against all test images" in card
    [line] = [line for line in out.splitlines() if line.startswith("gan_digits: ")]
    size = f"{path.stat().st_size / 1e6:.2f} MB"
    assert f"best model, epoch {best}, {rows['parameters'][0]} parameters, {size}; {lack}" in line
    assert str(comparison.parent) not in card


def test_the_effect_of_float16_is_measured_on_the_scored_samples(comparison, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "for_dataset", lambda name: NETWORK)
    # Coarser than float16, which would have a negligible effect.
    monkeypatch.setattr(pretrained, "_stored", lambda array, dtype: np.round(array, 1))
    [line] = pack_all(comparison, tmp_path)
    name = f"classifier-FID[{NETWORK}]"
    found = re.search(r"FID\S+ of 200 samples ([\d.]+) with float32, ([\d.]+) with the file", line)
    whole, packed = map(float, found.groups())
    assert whole == pytest.approx(best_row(comparison)["metrics"][name]["values"][0], rel=1e-3)
    network, data = features.get(NETWORK), zoo.datasets.load("digits")
    model = pretrained.load(tmp_path / "gan_digits.npz")
    fake = network(zoo.evaluation.sample_images(model, 200)).features
    real = network(data.pixels("test")).features
    assert packed == pytest.approx(zoo.metrics.frechet_distance(real, fake).value, rel=1e-3)
    assert abs(packed / whole - 1) > 0.01
    card = (tmp_path / "gan_digits.md").read_text("utf-8")
    assert cells(card)["effect of float16"] == [found.string[found.start() - 11 :]]


def test_the_last_model_is_packed_if_no_best_model_exists(copy, tmp_path):
    shutil.rmtree(copy / "runs" / "gan_digits-seed-1")
    run = Run(copy / "runs" / "gan_digits-seed-0")
    run.best_path.unlink(), run.best_result_path.unlink()

    def drop_best(scores):
        [row] = [row for row in scores["models"] if row["checkpoint"] == "last"]
        row["seeds"] = row["seeds"][:1]
        for found in row["metrics"].values():
            found |= {"spread": None, "stderr": 0.5}
        row["metrics"]["nll"] = found | {"values": [None], "value": None, "error": "It | broke."}
        scores["models"] = [row]

    change_scores(copy, drop_best)
    [line] = pack_all(copy, tmp_path)
    assert "last model, epoch 3" in line
    rows = cells((tmp_path / "gan_digits.md").read_text("utf-8"))
    assert rows["epochs"][0].startswith("3 of 3; none was evaluated during training")
    assert rows["score"] == ["this model", "other real images"]
    assert rows["copying"][0].endswith(" ± 0.5") and rows["copying"][1] == "-"
    assert rows["nll"] == ["- (It \\| broke.)", "-"]
    assert "seconds" in rows["training time"][0] and "mean" not in rows["training time"][0]
    have, want = pretrained.load(tmp_path / "gan_digits.npz"), run.load_model()
    with want.best_weights():
        for a, b in zip(have.weights, want.weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=2.0**-11, atol=2.0**-25)


def test_reused_runs_are_packed_from_their_folders(comparison, tmp_path):
    folder, run = tmp_path / "reusing", comparison / "runs" / "gan_digits-seed-0"
    done = program("compare", *GIVEN, "--seeds=0", f"--reuse={run}", f"--output={folder}")
    assert done.returncode == 0, done.stderr[-3000:]
    [chosen] = pack.choose(folder, scores_of(folder))
    assert chosen.run.path == run and chosen.checkpoint == "best"
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "There is no comparison in .*benchmarks.compare"),
        (lambda f: (f / "scores.json").unlink(), "is not finished.* Run its command again"),
        (lambda f: change_scores(f, lambda s: s.pop("runs")), "is not finished"),
        (lambda f: Run(f / "runs" / "gan_digits-seed-0").best_path.unlink(), "are not those of"),
        (
            lambda f: shutil.copy(
                *(Run(f / "runs" / f"gan_digits-seed-{i}").best_path for i in (1, 0))
            ),
            "are not those of .*best.keras",
        ),
    ],
)
def test_an_unfinished_comparison_is_refused_before_anything_is_written(
    copy, tmp_path, monkeypatch, spoil, message
):
    spoil(copy)
    monkeypatch.setattr(pack, "FLAGS", Flags(str(copy), str(tmp_path / "new")))
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        pack.main()
    assert not (tmp_path / "new").exists()


class Flags:
    def __init__(self, comparison, output):
        self.comparison, self.output, self.presets = comparison, output, None


def test_presets_can_be_chosen(comparison):
    scores = scores_of(comparison)
    assert [one.preset for one in pack.choose(comparison, scores, ["gan_digits"])] == ["gan_digits"]
    with pytest.raises(ValueError, match=r"Unknown preset here 'vae_digits'.*Available: gan"):
        pack.choose(comparison, scores, ["vae_digits"])


def test_names_in_a_file_cannot_be_paths(copy, tmp_path):
    (tmp_path / "x").mkdir()
    change_scores(copy, lambda s: [row.update(preset="../x/gan") for row in s["models"]])
    with pytest.raises(ValueError, match="Unknown preset"):
        pack_all(copy, tmp_path / "new")
    assert not list((tmp_path / "x").iterdir())


def test_a_run_that_was_continued_after_scoring_is_refused(copy):
    run = Run(copy / "runs" / "gan_digits-seed-0")
    # Only the row of the last model.
    change_scores(copy, lambda s: s.update(models=s["models"][:1]))
    assert [one.checkpoint for one in pack.choose(copy, scores_of(copy))] == ["last"]
    shutil.copy(run.best_path, run.model_path)
    with pytest.raises(ValueError, match="are not those of"):
        pack.choose(copy, scores_of(copy))


def test_the_size_of_the_zoos_folder_is_limited(comparison, tmp_path, monkeypatch):
    (tmp_path / "old.npz").write_bytes(b"-" * 1000)
    (tmp_path / "gan_digits.npz").write_bytes(b"former")
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    monkeypatch.setattr(pretrained, "MOST_BYTES", 2000)
    with pytest.raises(ValueError, match=r"would have .* MB with 'gan_digits.npz'"):
        pack_all(comparison, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"old.npz", "gan_digits.npz"}
    assert (tmp_path / "gan_digits.npz").read_bytes() == b"former"


def test_the_card_reports_a_failed_seed(copy, tmp_path):
    change_scores(copy, lambda s: s.update(failed={"gan_digits-seed-7": "It became NaN."}))
    pack_all(copy, tmp_path)
    card = (tmp_path / "gan_digits.md").read_text("utf-8")
    assert cells(card)["another seed failed"] == ["It became NaN."]


def test_a_model_built_on_another_run_is_refused_before_anything_is_written(copy):
    config = presets.get("m1_m2_digits")
    Run(copy / "runs" / "gan_digits-seed-0").write_config(config)
    with pytest.raises(ValueError, match="'m1_m2_digits' contains the model of another run"):
        pack.choose(copy, scores_of(copy))
