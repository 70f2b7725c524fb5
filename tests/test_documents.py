"""The examples in documents and docstrings run, and the files that documents name exist."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow_except

import zoo

ROOT = Path(__file__).parent.parent
MODULES = [
    importlib.import_module(info.name) for info in pkgutil.walk_packages(zoo.__path__, "zoo.")
]


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for m in MODULES for test in finder.find(m, module=m) if test.examples]


def is_long(example):
    return any(
        call in part.source
        for part in example.examples
        for call in (".fit", "train(", "annealed_nll(")
    )


# Examples that train or anneal are slow, except for one.
FAST = [e for e in examples() if not is_long(e) or e.name == "zoo.models.vae.VAE"]


@pytest.mark.parametrize("example", slow_except(FAST, examples()), ids=lambda test: test.name)
def test_a_docstring_example_runs_and_prints_the_stated_result(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The imports of a reader. An example defines all other names.
    names = {"zoo": zoo, "keras": keras, "tf": tf, "np": np}
    checker = doctest.OutputChecker()
    for part in example.examples:
        try:
            value = eval(compile(part.source.strip(), example.name, "eval"), names)
            printed = "" if value is None else f"{value!r}\n"
        except SyntaxError:
            exec(compile(part.source, example.name, "exec"), names)
            printed = ""
        if part.want:  # An example may omit its result.
            assert checker.check_output(part.want, printed, doctest.ELLIPSIS), printed


def test_the_docstring_examples_are_found():
    assert len(examples()) >= 6


def blocks(document, language):
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_a_readme_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "readme"})


def test_every_preset_in_the_readme_exists():
    named = re.findall(r"--preset=(\w+)", (ROOT / "README.md").read_text())
    assert named
    assert set(named) - {"NAME"} <= set(zoo.presets.names())


def commands_with_settings():
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    found = re.findall(r"trainers\.train --preset=(\w+)((?: +--set \S+)+)", text)
    return [(preset, re.findall(r"--set (\S+)", settings)) for preset, settings in found]


@pytest.mark.parametrize(("preset", "settings"), commands_with_settings())
def test_a_command_of_the_readme_has_settings_that_build_a_model(preset, settings):
    config = zoo.presets.get(preset)
    zoo.presets.override(config, settings)
    if not any(setting.startswith("first=") for setting in settings):  # A run of the reader.
        zoo.presets.build(config, (28, 28, 1))


def test_every_local_link_of_the_readme_exists():
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", (ROOT / "README.md").read_text())
    local = [a or b for a, b in links if not (a or b).startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []
