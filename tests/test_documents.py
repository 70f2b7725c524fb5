"""The documents say what is so: their examples run, and docstrings' do."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo

ROOT = Path(__file__).parent.parent
MODULES = [
    importlib.import_module(info.name) for info in pkgutil.walk_packages(zoo.__path__, "zoo.")
]


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for m in MODULES for test in finder.find(m, module=m) if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_examples_in_docstrings_run_and_say_what_comes_out(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"zoo": zoo, "keras": keras, "tf": tf, "np": np, "model": trained()}
    checker = doctest.OutputChecker()
    for part in example.examples:
        try:
            value = eval(compile(part.source.strip(), example.name, "eval"), names)
            printed = "" if value is None else f"{value!r}\n"
        except SyntaxError:
            exec(compile(part.source, example.name, "exec"), names)
            printed = ""
        if part.want:  # An example may leave its result to the reader.
            assert checker.check_output(part.want, printed, doctest.ELLIPSIS), printed


def trained():
    model = zoo.models.vae.vae_mlp((8, 8, 1), latent_dim=2, hidden=(8,))
    model.compile(keras.optimizers.Adam(use_ema=True))
    return model


def test_there_are_examples_to_run():
    assert len(examples()) >= 6


def blocks(document, language):
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_model_that_contributing_adds_trains(digits):
    (code,) = blocks("CONTRIBUTING.md", "python")
    names = {"__name__": "tempered_vae"}
    exec(code, names)
    plain = zoo.models.vae.vae_mlp((8, 8, 1), latent_dim=2, hidden=(8,))
    model = names["TemperedVAE"](plain.posterior, plain.likelihood, plain.prior, temperature=4.0)
    model.compile("adam")
    logs = model.fit(digits, verbose=0).history
    expected = logs["distortion"][0] / 4 + logs["rate"][0]
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert model.get_config()["temperature"] == 4.0


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_the_readmes_examples_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "readme"})


def test_every_preset_of_the_readme_exists():
    named = re.findall(r"--preset=(\w+)", (ROOT / "README.md").read_text())
    assert named
    assert set(named) - {"NAME"} <= set(zoo.presets.names())


def test_every_picture_and_file_that_the_readme_links_exists():
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", (ROOT / "README.md").read_text())
    local = [a or b for a, b in links if not (a or b).startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []
