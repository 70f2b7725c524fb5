"""What a run leaves in its folder is of the weights that it says."""

import json

import numpy as np
import pytest
from PIL import Image

from zoo import metrics, pictures, presets, training
from zoo.runs import Run


def test_a_run_with_averages_scores_and_draws_with_them(tmp_path):
    config = presets.get("vae_digits")
    averages = ("use_ema=true", "ema_momentum=0.95")
    presets.override(
        config, ["epochs=2", "hidden=16", "latent_dim=3", "jit_compile=false", *averages]
    )
    run = Run(tmp_path / "run")
    results = training.train(config, run, progress=False, say=lambda line: None)
    assert json.loads(run.results.read_text())["test"] == results["test"]

    model, data = run.load_model(), training.load_data(config)
    found = {}
    for name in ("last", "average"):
        if name == "average":  # By hand: the averages are in the optimizer.
            averages = model.optimizers["vae"]._model_variables_moving_average
            for variable, average in zip(model.variables_of("vae"), averages, strict=True):
                variable.assign(average)
        scores = model.evaluate(data.batches("test", 50), verbose=0, return_dict=True)
        x, _ = data.arrays("test", limit=1000)
        picture = tmp_path / f"{name}.png"
        pictures.samples(model, training.fixed_latents(model, 100, config.seed), picture)
        pixels = np.asarray(Image.open(picture), int)
        nll = metrics.negative_log_likelihood(model, x, num_samples=100).value
        found[name] = scores, nll, pixels

    scores, nll, pixels = found["average"]
    assert results["test"] == pytest.approx(scores, rel=1e-5)
    assert results["likelihood"]["nll"] == pytest.approx(nll, rel=1e-4)
    drawn = np.asarray(Image.open(run.path / "samples.png"), int)
    assert np.abs(drawn - pixels).max() <= 1
    # Which are not the last weights' by far.
    scores, nll, pixels = found["last"]
    assert abs(results["test"]["loss"] - scores["loss"]) > 0.1
    assert abs(results["likelihood"]["nll"] - nll) > 0.1
    assert np.abs(drawn - pixels).max() > 5
