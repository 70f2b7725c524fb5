"""The map of the models, and the naming rule."""

import inspect
import re
from pathlib import Path

import pytest

import zoo
from zoo import models, presets

FILES = sorted(
    path.stem for path in Path(models.__file__).parent.glob("*.py") if path.stem != "__init__"
)
PARTS = {"elbo", "parts"}  # Modules that several papers share.


def snake_case(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def test_files_and_builders_have_the_same_names():
    assert set(FILES) - PARTS == set(models.BUILDERS)
    for name, builder in models.BUILDERS.items():
        assert builder.__name__ == name and getattr(models, name) is builder
        assert builder.__module__ == f"zoo.models.{name}"


def classes():
    def below(cls):
        return {cls} | {s for child in cls.__subclasses__() for s in below(child)}

    every = below(zoo.GenerativeModel) - {zoo.GenerativeModel}
    return sorted((c for c in every if c.__module__.startswith("zoo.")), key=lambda c: c.__name__)


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_a_class_is_in_the_file_that_has_its_name_in_snake_case(cls):
    assert cls.__module__ == f"zoo.models.{snake_case(cls.__name__)}"
    assert getattr(models, cls.__name__) is cls is getattr(zoo, cls.__name__)


def test_the_package_exports_classes_and_no_builders():
    assert {cls.__name__ for cls in classes()} <= set(models.__all__) <= vars(zoo).keys()
    assert not [name for name in models.BUILDERS if hasattr(zoo, name)]


def test_each_builder_has_a_preset():
    built = {presets.get(name).builder for name in presets.names()}
    assert built == set(models.BUILDERS)


def test_the_map_lists_each_builder_with_its_class_and_the_data_of_its_presets():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| .+ \| (.+) \|$", models.__doc__, re.MULTILINE)
    assert [builder for builder, *_ in rows] == list(models.BUILDERS)
    data = {name: set() for name in models.BUILDERS}
    for preset in map(presets.get, presets.names()):
        data[preset.builder].add(preset.data.name)
    for name, cls, sets in rows:
        assert set(sets.split(", ")) == data[name]
        returns = inspect.signature(models.BUILDERS[name]).return_annotation
        assert returns is getattr(models, cls)


@pytest.mark.parametrize(
    "word",
    ["VampPrior", "IAF", "RealNVP", "MAF", "LSGAN", "WGAN", "f-GAN", "R1", "HVAE", "ALI", "M1"],
)
def test_common_names_of_papers_are_in_the_map(word):
    assert word in models.__doc__


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp", "f_gan", "sngan", "ali", "hvae", "m1"])
def test_papers_that_combine_parts_have_a_file(name):
    assert name in FILES
