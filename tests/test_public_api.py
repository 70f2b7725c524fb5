"""The names of `import zoo`, and the packages that it does not load."""

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import types

import pytest

import zoo

SLOW_IMPORTS = ("matplotlib", "sklearn", "tensorflow_datasets", "tqdm")
SUBMODULES = [
    "adversarial",
    "augmentation",
    "conditions",
    "config",
    "contrast",
    "crops",
    "datasets",
    "descent",
    "discrepancies",
    "distributions",
    "evaluation",
    "export",
    "expost",
    "features",
    "files",
    "inference",
    "interfaces",
    "metrics",
    "models",
    "modulated",
    "morphable",
    "networks",
    "penalties",
    "pictures",
    "presets",
    "pretrained",
    "rendering",
    "resizing",
    "schedules",
    "training",
    "versions",
]


def test_import_zoo_loads_no_slow_package():
    # Keras loads parts of Matplotlib and scikit-learn.
    code = """
import json, sys, keras, tensorflow, tensorflow_probability.substrates
tensorflow_probability.distributions
before = set(sys.modules)
import zoo
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in json.loads(done.stdout) if name.partition(".")[0] in SLOW_IMPORTS}
    assert not loaded


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_are_attributes_of_zoo(name):
    assert getattr(zoo, name).__name__ == f"zoo.{name}"
    assert name in zoo.__all__


def test_every_exported_name_exists():
    assert len(set(zoo.__all__)) == len(zoo.__all__)
    assert all(hasattr(zoo, name) for name in zoo.__all__)


def test_every_class_of_a_model_is_exported():
    classes = {type_ for type_ in vars(zoo.models).values() if isinstance(type_, type)}
    models = {c.__name__ for c in classes if issubclass(c, zoo.GenerativeModel)}
    assert models <= {*zoo.__all__}


def public_functions(module):
    """The public functions of a module and the methods that its classes add: `{name: function}`.

    A method that overrides another inherits its annotations.
    """
    found = {}
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            found[name] = value
        elif inspect.isclass(value):
            for method, member in vars(value).items():
                member = getattr(member, "__func__", member)  # of a class or static method
                member = member.fget if isinstance(member, property) else member
                overrides = any(method in vars(base) for base in value.__mro__[1:])
                if inspect.isfunction(member) and not method.startswith("_") and not overrides:
                    found[f"{name}.{method}"] = member
    return found


def missing_annotations(function):
    """The arguments without an annotation, and "return" if the result has none."""
    signature = inspect.signature(function)
    names = [
        name
        for i, (name, parameter) in enumerate(signature.parameters.items())
        if parameter.annotation is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and not (i == 0 and name in ("self", "cls"))
    ]
    return names + (["return"] if signature.return_annotation is signature.empty else [])


MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(zoo.__path__, "zoo.")
    if not any(part.startswith("_") for part in module.name.split("."))
)


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_are_annotated(name):
    functions = public_functions(importlib.import_module(name))
    missing = {key: missing_annotations(function) for key, function in functions.items()}
    assert {key: names for key, names in missing.items() if names} == {}


def test_a_missing_annotation_is_found():
    module = types.ModuleType("example")
    exec("def f(x, y: int): pass\nclass C:\n  def g(self, z) -> int: pass", vars(module))
    for value in (module.f, module.C):
        value.__module__ = "example"
    found = {
        name: missing_annotations(function) for name, function in public_functions(module).items()
    }
    assert found == {"f": ["x", "return"], "C.g": ["z"]}
