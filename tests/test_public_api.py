"""What `import zoo` gives, and what it does not load."""

import json
import subprocess
import sys

import pytest

import zoo

SLOW_IMPORTS = ("matplotlib", "sklearn", "tensorflow_datasets", "tqdm")
SUBMODULES = [
    "adversarial",
    "conditions",
    "config",
    "datasets",
    "discrepancies",
    "distributions",
    "evaluation",
    "export",
    "features",
    "files",
    "metrics",
    "models",
    "networks",
    "penalties",
    "pictures",
    "presets",
    "pretrained",
    "schedules",
    "training",
    "versions",
]


def test_import_zoo_does_not_load_what_few_functions_need():
    code = "import json, sys, zoo; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert not set(SLOW_IMPORTS) & set(loaded)


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_are_attributes_after_import_zoo(name):
    code = f"import zoo; assert zoo.{name}.__name__ == 'zoo.{name}'"
    assert hasattr(zoo, name), code
    assert getattr(zoo, name).__name__ == f"zoo.{name}"
    assert name in zoo.__all__


def test_every_exported_name_exists():
    assert len(set(zoo.__all__)) == len(zoo.__all__)
    assert all(hasattr(zoo, name) for name in zoo.__all__)
