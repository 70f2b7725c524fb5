"""Tables of papers: trainings, resuming, and the written measurements."""

import dataclasses
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from speed import slow_except

import zoo
from benchmarks import paper_tables
from benchmarks.paper_tables import TABLES
from benchmarks.tables import table as tables
from benchmarks.tables.table import (
    Row,
    Table,
    Trained,
    markdown,
    negative_log_likelihood,
    stated,
    stated_of_row,
)
from zoo import presets, training
from zoo.adversarial import FDivergence, adversarial_loss
from zoo.metrics.estimate import Estimate

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = "benchmarks/results"
RECORDED = [name for name in TABLES if (ROOT / RESULTS / f"{name}.json").is_file()]
SMALL = ("hidden=8", "latent_dim=2", "jit_compile=false")


@pytest.mark.parametrize(
    "name", slow_except([name for name in TABLES if not name.startswith("gan_")], TABLES)
)
def test_every_row_is_a_valid_run(name, monkeypatch):
    # Without the check that the data are prepared.
    monkeypatch.setattr(zoo.datasets, "check", lambda *_: None)
    table = TABLES[name]
    assert len({row.slug for row in table.rows}) == len({row.name for row in table.rows})
    trained = [row.name for row in table.rows if row.trained_as is None]
    for row in table.rows:
        config = presets.get(row.preset)
        presets.override(config, [setting.format(runs="runs") for setting in row.settings])
        training.check_config(config)
        assert row.trained_as is None or row.trained_as in trained


@pytest.mark.parametrize("name", RECORDED)
def test_a_record_states_what_its_script_states(name):
    table, record = TABLES[name], zoo.files.read_json(ROOT / RESULTS / f"{name}.json")
    assert record | stated(table) == record
    assert [row["row"] for row in record["rows"]] == [row.name for row in table.rows]
    for row, recorded in zip(table.rows, record["rows"], strict=True):
        assert recorded | stated_of_row(table, row) == recorded
        assert row.paper.keys() <= recorded["scores"].keys()
    path = f"{RESULTS}/{name}.json"
    command = paper_tables.command(name, path, record["seed"], record["settings"])
    assert record["command"] == command
    page = (ROOT / RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert page == markdown(record, command)


def test_every_record_of_a_table_has_a_script():
    records = [zoo.files.read_json(path) for path in (ROOT / RESULTS).glob("*.json")]
    assert {record["table"] for record in records if "table" in record} == {*RECORDED}


def test_f_gans_differ_by_their_divergence_and_their_generators_are_updated_as_in_section_3_2():
    found = {}
    for row in TABLES["parzen"].rows:
        if row.name.startswith("f-GAN"):
            config = presets.get(row.preset)
            presets.override(config, row.settings)
            loss = adversarial_loss(config.model.loss, real_label=config.model.real_label)
            assert isinstance(loss, FDivergence) and loss.alternative
            found[loss.divergence] = row.paper["log-likelihood"]
    # Nowozin et al., 2016, table 4.
    assert found == {
        "kl": 416,
        "reverse_kl": 319,
        "pearson": 429,
        "neyman": 300,
        "squared_hellinger": -708,
        "jeffrey": -2101,
        "jensen_shannon": 367,
        "gan": 305,
    }


def scores(trained: Trained):
    x, _y = trained.data.arrays("test", limit=50)
    latents = trained.model.latent_dim
    return {"latents": latents, "mean": Estimate(float(x.mean()), 0.25, len(x))}


def small(**changes):
    rows = (
        Row("Three latents", "vae_digits", (*SMALL, "latent_dim=3"), {"latents": 2.5}),
        Row("two: again", "vae_digits", SMALL, {"latents": 2.0}, share=3.0),
        Row("of the first", "vae_digits", (), {}, trained_as="Three latents"),
    )
    table = Table("small", "A small table", "A paper.", "As here.", ("All.",), rows, scores)
    return dataclasses.replace(table, **changes)


@pytest.fixture(scope="module", autouse=True)
def quick_calibration():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_CALIBRATION_SECONDS", 0.2)
        yield


@pytest.fixture
def instant_training(monkeypatch):
    """Replaces training by a finished run of an untrained model."""
    begun = []

    def train(config, run, resume, **options):
        begun.append((run.path.name, config.epochs))
        if not resume:
            run.begin(config)
        run.save_model(presets.build(config, (8, 8, 1), 17))
        zoo.files.write_json(run.results_path, {"epochs": config.epochs})

    monkeypatch.setattr(training, "train", train)
    return begun


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    epochs = {"Three latents": 2, "two: again": 1}
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        # The tables need no pictures, which take longer than the training.
        for name in ("draw_pictures", "draw_curves"):
            patch.setattr(sys.modules["zoo.training.train"], name, lambda *_: None)
        patch.setattr(training.callbacks.SampleGrids, "on_epoch_end", lambda *_: None)
        content = tables.reproduce(small(), 1.0, folder, 3, epochs, say=lines.append)
    return folder, content, lines


def test_the_record_contains_scores_times_and_settings(record):
    folder, content, lines = record
    first, second, third = content["rows"]
    assert [row["epochs"] for row in content["rows"]] == [2, 1, 2]
    assert first["scores"]["latents"] == {"value": 3.0, "stderr": None}
    assert second["scores"]["latents"]["value"] == 2.0
    assert third["scores"] == first["scores"]  # Both rows score the same model.
    assert first["scores"]["mean"]["stderr"] == 0.25
    assert first["times"]["training_seconds_of_all_cores"] > 0
    assert "training_seconds" not in third["times"]
    run = zoo.training.Run(folder / "three_latents")
    assert run.read_config().seed == 3 and run.read_config().epochs == 2
    assert content["seed"] == 3 and content["machine"]["cores"] >= 1
    assert any("Three latents: latents 3.00 (paper 2.5)" in line for line in lines)


def test_finished_rows_are_not_trained_or_scored_again(record, monkeypatch):
    folder, content, _ = record
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
    table = small(score=lambda trained: pytest.fail("scored again"), remarks=("A remark.",))
    again = tables.reproduce(table, 1.0, folder, 3, say=lambda line: None)
    assert again["rows"] == content["rows"]
    assert again["remarks"] == ["A remark."]


def test_another_protocol_scores_again_without_training(record, monkeypatch):
    folder, content, _ = record
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
    table = small(protocol="Otherwise.", score=lambda trained: {"latents": 7.0})
    again = tables.reproduce(table, 1.0, folder, 3, say=lambda line: None)
    assert [row["scores"]["latents"]["value"] for row in again["rows"]] == [7.0] * 3
    assert (
        again["rows"][0]["times"]["training_seconds"]
        == (content["rows"][0]["times"]["training_seconds"])
    )
    tables.reproduce(small(), 1.0, folder, 3, say=lambda line: None)


def test_rows_of_other_settings_are_not_reused(record):
    folder, *_ = record
    first, *others = small().rows
    changed = dataclasses.replace(first, settings=(*SMALL, "latent_dim=5"))
    with pytest.raises(ValueError, match=r"started with model\.latent_dim=3"):
        tables.reproduce(small(rows=(changed, *others)), 1.0, folder, 3)


def test_an_invalid_setting_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="no setting 'latent_dims'"):
        tables.reproduce(small(), 1.0, tmp_path / "new", settings=("latent_dims=3",))
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        tables.reproduce(small(), 1.0, tmp_path / "new", settings=("batch_size=0",))
    assert not (tmp_path / "new").exists()


def test_epochs_are_required_for_all_rows_or_none(tmp_path):
    with pytest.raises(ValueError, match="none for two: again"):
        tables.reproduce(small(), 1.0, tmp_path, epochs={"Three latents": 2})


def test_runs_of_another_seed_or_length_are_refused(record):
    folder, *_ = record
    with pytest.raises(ValueError, match="Choose another --output"):
        tables.reproduce(small(), 1.0, folder, 4)
    with pytest.raises(ValueError, match="Choose another --output"):
        tables.reproduce(small(), 1.0, folder, 3, {"Three latents": 2, "two: again": 5})


def test_a_killed_table_resumes_with_its_planned_epochs(tmp_path, monkeypatch, instant_training):
    monkeypatch.setattr(tables, "seconds_per_epoch", lambda config: 12.0)
    train = training.train

    def interrupted(config, run, **options):
        if len(instant_training) == 1:
            raise KeyboardInterrupt
        return train(config, run, **options)

    monkeypatch.setattr(training, "train", interrupted)
    table = small(scoring=0.2)  # 60 s for training: one part of four, 15 s, and three, 45 s.
    with pytest.raises(KeyboardInterrupt):
        tables.reproduce(table, 1.25, tmp_path, say=lambda line: None)
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(tables, "seconds_per_epoch", lambda config: pytest.fail("planned again"))
    done = tables.reproduce(table, 1.25, tmp_path, say=lambda line: None)
    assert instant_training == [("three_latents", 1), ("two_again", 3)]
    assert [row["epochs"] for row in done["rows"]] == [1, 3, 1]
    assert done["budget_minutes"] == 1.25


def test_an_interrupted_run_has_no_training_time(tmp_path, monkeypatch, instant_training):
    train = training.train

    def killed(config, run, **options):
        run.begin(config)
        raise ZeroDivisionError

    epochs = {"Three latents": 1, "two: again": 1}
    monkeypatch.setattr(training, "train", killed)
    with pytest.raises(ZeroDivisionError):
        tables.reproduce(small(), 1.0, tmp_path, epochs=epochs, say=lambda line: None)
    monkeypatch.setattr(training, "train", train)
    done = tables.reproduce(small(), 1.0, tmp_path, epochs=epochs, say=lambda line: None)
    assert "training_seconds" not in done["rows"][0]["times"]
    assert done["rows"][1]["times"]["training_seconds"] > 0
    assert done["budget_minutes"] is None


def test_a_table_killed_while_scoring_keeps_the_time_of_training(tmp_path, instant_training):
    epochs = {"Three latents": 1, "two: again": 1}
    with pytest.raises(ZeroDivisionError):
        broken = small(score=lambda trained: 1 / 0)
        tables.reproduce(broken, 1.0, tmp_path, epochs=epochs, say=lambda line: None)
    done = tables.reproduce(small(), 1.0, tmp_path, epochs=epochs, say=lambda line: None)
    assert done["rows"][0]["times"]["training_seconds"] > 0
    assert len(instant_training) == 2


def test_parameters_are_the_variables_of_the_players(tmp_path, instant_training):
    rows = (Row("GSNN", "cvae_digits", ("model.hidden=8", "latent_dim=2", "alpha=0.0")),)
    table = small(rows=rows, score=lambda trained: {"latents": 2})
    [row] = tables.reproduce(table, 1.0, tmp_path, epochs={"GSNN": 1}, say=lambda line: None)[
        "rows"
    ]
    decoder = (2 + 10) * 8 + 8 + 8 * 64 + 64
    assert row["parameters"] == decoder  # The prior is N(0, I), and the posterior is not trained.


def test_equal_epochs_share_the_budget_by_the_cost_of_each_row(
    tmp_path, monkeypatch, instant_training
):
    monkeypatch.setattr(
        tables, "seconds_per_epoch", lambda config: 10.0 * (config.model.latent_dim - 1)
    )
    table = small(equal_epochs=True, scoring=0.5)  # 60 s, and 10 + 20 s an epoch.
    done = tables.reproduce(table, 2.0, tmp_path, settings=("batch_size=500",))
    assert [row["epochs"] for row in done["rows"]] == [2, 2, 2]


def test_a_row_may_have_seeds_of_its_own(tmp_path, monkeypatch, instant_training):
    monkeypatch.setattr(tables, "seconds_per_epoch", lambda config: 10.0)
    first, *_ = small().rows
    again = Row("again", "vae_digits", trained_as="drawn")
    rows = (first, Row("drawn", "vae_digits", SMALL, {"seed": 4.0}, seeds=3), again)
    table = small(rows=rows, score=lambda t: {"seed": float(t.config.seed)}, scoring=0.0)
    done = tables.reproduce(table, 1.0, tmp_path, 4, say=lambda line: None)
    # 60 s: 4 trainings with equal shares.
    names = ("three_latents", "drawn", "drawn_seed_5", "drawn_seed_6")
    assert instant_training == [(name, 1) for name in names]
    alone, drawn, scored = done["rows"]
    assert scored["scores"] == drawn["scores"] and scored["seeds"] == 3
    assert alone["scores"]["seed"] == {"value": 4.0, "stderr": None}
    assert drawn["scores"]["seed"]["values"] == [4.0, 5.0, 6.0]
    assert drawn["scores"]["seed"]["stderr"] == pytest.approx(1 / math.sqrt(3))
    page = markdown(done, "python -m something")
    assert (
        "over the test images; for drawn, again, over 3 seeds, of which the scores are means."
        in page
    )
    assert "| 5.00 ± 0.58 | 4 | +1.00 |" in page


def test_minutes_on_an_accelerator_are_those_of_the_device(record):
    _, content, _ = record
    first, *others = content["rows"]
    own = {"device": "a device", "times": {"training_seconds": 90.0}}
    page = markdown(content | {"rows": [first | own, *others]}, "python -m something")
    assert "| 2 | 1.5 | 3.00 | 2.5 |" in page
    assert "Trained on a device with `benchmarks.accelerator`: Three latents. The minutes" in page
    assert "--platform" not in page
    own["device"] = "1 CPU core (JAX)"
    page = markdown(content | {"rows": [first | own]}, "python -m something")
    assert "--programs=programs --platform=cpu" in page
    assert "processor time divided" not in page


def test_the_page_contains_the_differences_and_the_command(record):
    _, content, _ = record
    page = markdown(content | {"remarks": ["A remark."]}, "python -m something")
    assert (
        "| row | parameters | epochs | minutes | latents, here | paper | difference | mean, here |"
        in page
    )
    [first] = [line for line in page.splitlines() if line.startswith("| Three latents")]
    assert "| 3.00 | 2.5 | +0.50 |" in first and "± 0.25" in first
    [third] = [line for line in page.splitlines() if line.startswith("| of the first")]
    assert "| 3.00 |  |  |" in third
    assert "- All." in page and "- A remark." in page and "python -m something" in page


def test_the_nll_of_few_samples_is_corrected_by_images_with_all_samples(monkeypatch):
    """A fake estimate: image i with K samples has -log p = i + 1 / K."""

    def nll(model, x, num_samples, **options):
        return Estimate(float(x.mean() + 1 / num_samples), 0.1, len(x))

    monkeypatch.setattr(tables.metrics, "negative_log_likelihood", nll)
    x = np.arange(200.0)
    data = type("Data", (), {"arrays": lambda self, split: (x, None)})()
    trained = Trained(None, None, data, presets.get("vae_digits"), None)
    estimate = negative_log_likelihood(trained, num_samples=50, fewer=10, some=20)
    assert estimate.value == pytest.approx(x.mean() + 1 / 50)
    assert estimate.stderr == 0.1
    assert estimate.estimator["method"] == "importance sampling, K = 50 on 20 images, 10 on all"
    assert negative_log_likelihood(trained, 5, 10).value == pytest.approx(x.mean() + 1 / 5)


@pytest.mark.slow
def test_the_calibration_measures_steps_of_the_preset():
    slow = presets.get("vae_digits")
    presets.override(slow, ["hidden=8", "batch_size=10"])
    fast = presets.get("vae_digits")
    presets.override(fast, ["hidden=8", "batch_size=500"])
    assert tables.seconds_per_epoch(slow) > tables.seconds_per_epoch(fast) > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"table": "digit"}, "Did you mean 'digits'?"),
        ({"budget": 0}, "above 0"),
        ({"epochs_of": "record.json"}, "takes a record of table 'digits'"),
    ],
)
def test_invalid_flags_are_refused_before_training(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "record.json").write_text(json.dumps({"table": "iwae", "rows": []}))
    standard = {"list_tables": False, "table": "digits", "budget": 30, "epochs_of": None}
    monkeypatch.setattr(paper_tables, "FLAGS", types.SimpleNamespace(**standard | flags))
    with pytest.raises(ValueError, match=re.escape(message)):
        paper_tables.main()
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.slow
def test_the_program_lists_its_tables():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.paper_tables", "--list_tables"],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(TABLES)
