"""`trainers.refit_prior` as a user runs it: its files, the programs that open them, its errors."""

import json

import keras
import numpy as np
import pytest
from programs import error_message, files, run, succeed

import zoo


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run of an autoencoder."""
    path = tmp_path_factory.mktemp("refit") / "autoencoder"
    small = ("--set=hidden=8", "--set=latent_dim=2", "--nojit_compile", "--noprogress")
    succeed("train", "--preset=autoencoder_digits", "--epochs=1", *small, f"--output={path}")
    return path


@pytest.fixture(scope="module")
def refitted(trained):
    """A run with the better of two priors, its output, and the files of the first run."""
    before, path = files(trained), trained.parent / "refitted"
    options = ("--prior=mixture,realnvp", "--components=3", "--epochs=2")
    out = succeed("refit_prior", f"--run={trained}", *options, f"--output={path}")
    return path, out, before


def test_the_result_is_a_run_of_its_own(trained, refitted):
    path, out, before = refitted
    assert files(trained) == before
    assert {entry.name for entry in path.iterdir()} == {
        "config.json",
        "model.keras",
        "results.json",
    }
    about = json.loads((path / "results.json").read_text())["refitted"]
    scores = {name: value for name, (value, _) in about["log_density"].items()}
    assert scores.keys() == {"mixture", "realnvp"}
    assert about["prior"] == max(scores, key=scores.get)
    assert f"with the prior {about['prior']}: {path}" in out
    assert all(f"{value:.3f}" in out for value in scores.values())
    first, new = (zoo.training.Run(p).load_model() for p in (trained, path))
    for a, b in zip(first.encoder.get_weights(), new.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_other_programs_open_the_result(trained, refitted, tmp_path):
    path, *_ = refitted
    with pytest.raises(AssertionError, match="has no prior to sample from"):
        succeed("sample", f"--run={trained}", f"--output={tmp_path}/none.npy")
    succeed("sample", f"--run={path}", "--n=5", "--seed=1", f"--output={tmp_path}/drawn.npy")
    model = zoo.training.Run(path).load_model()
    assert np.load(tmp_path / "drawn.npy").shape == (5, 8, 8, 1)
    out = succeed(
        "evaluate", f"--run={path}", "--metrics=losses,psnr", f"--output={tmp_path}/scores.jsonl"
    )
    assert "psnr" in out and "objective: loss" in out
    succeed("export", f"--run={path}", "--signatures=sample", f"--output={tmp_path}/served")
    served = json.loads((tmp_path / "served" / "abilities.json").read_text())
    assert served["prior"]["family"] == type(model.prior).__name__


def test_a_model_file_gives_a_model_file(trained, tmp_path):
    source, target = trained / "model.keras", tmp_path / "new.keras"
    options = ("--dataset=digits", "--components=2", f"--output={target}")
    succeed("refit_prior", f"--run={source}", *options)
    assert [p.name for p in tmp_path.iterdir()] == ["new.keras"]
    model = keras.saving.load_model(target)
    assert model.prior.components == 2 and model.sample(2).shape == (2, 8, 8, 1)
    answer = run("refit_prior", f"--run={source}", *options)
    assert "exists already" in error_message(answer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prior=vamp"], "Unknown prior 'vamp'"),
        (["--prior=realnvp", "--components=3"], "--components is for the prior mixture"),
        (["--epochs=3"], "--epochs is for the priors"),
        (["--dataset=digits"], "--dataset and --binarize are for a .keras file"),
        (["--output={run}", "--overwrite"], "needs a place of its own"),
        (["--output={run}/model.keras", "--overwrite"], "needs a place of its own"),
        (["--output={run}/samples"], "holds something other than a run"),
        (["--run={run}/model.keras"], "use --dataset"),
        (["--run={run}/model.keras", "--dataset=digits"], "choose an --output that ends in .keras"),
    ],
)
def test_invalid_flags_are_refused_before_the_model_is_loaded(
    options, message, trained, tmp_path, monkeypatch
):
    monkeypatch.setattr(zoo.training, "open_model", lambda *args: pytest.fail("loaded too early"))
    (trained / "samples").mkdir(exist_ok=True)
    (trained / "samples" / "diary.txt").write_text("mine")
    before = files(trained)
    first = [f"--run={trained}", f"--output={tmp_path}/new"]
    answer = run("refit_prior", *first, *(option.format(run=trained) for option in options))
    assert message in error_message(answer)
    assert files(trained) == before and not list(tmp_path.iterdir())


def test_a_model_without_an_encoder_is_refused(tmp_path):
    source = tmp_path / "gan.keras"
    zoo.models.gan((8, 8, 1), latent_dim=2).save(source)
    answer = run(
        "refit_prior", f"--run={source}", "--dataset=digits", f"--output={tmp_path}/new.keras"
    )
    assert "has no encoder" in error_message(answer)
    assert not (tmp_path / "new.keras").exists()
