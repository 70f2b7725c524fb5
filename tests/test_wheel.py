"""The wheel: built from the tree, installed elsewhere, and used there."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMANDS = {"zoo-train", "zoo-sample", "zoo-interpolate", "zoo-complete", "zoo-evaluate"}
COMMANDS |= {"zoo-export", "zoo-super-resolve", "zoo-refit-prior"}


def run(*command, cwd):
    # Without PYTHONPATH, which could make the tree importable.
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, because the build writes files next to the sources.
    junk = shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "shared", "__pycache__")
    shutil.copytree(ROOT, folder / "tree", ignore=junk)
    build = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir=..", ".")
    run(sys.executable, *build, cwd=folder / "tree")
    (path,) = folder.glob("*.whl")
    shutil.rmtree(folder / "tree")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` folder of a fresh environment with the wheel and this environment's dependencies."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    offline = ("--no-deps", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", f"--python={python}", "install", *offline, wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # On the path after the packages of the fresh environment.
    (site / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n")
    return folder / "bin"


@pytest.mark.slow
def test_the_wheel_contains_only_the_zoo_and_its_programs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    assert {f for f in folders if not f.endswith(".dist-info")} == {"zoo", "trainers"}
    assert "zoo/py.typed" in names
    sources = {str(path.relative_to(ROOT)) for path in ROOT.glob("zoo/**/*.py")}
    assert sources <= set(names)
    shipped = {str(path.relative_to(ROOT)) for path in ROOT.glob("zoo/**/weights/*")}
    assert shipped <= set(names)


@pytest.mark.slow
def test_the_installed_zoo_trains_and_loads_shipped_weights(installed, tmp_path):
    assert {path.name for path in installed.glob("zoo-*")} == COMMANDS
    output = run(
        installed / "zoo-train", "--epochs=1", "--noprogress", "--nojit_compile", cwd=tmp_path
    )
    assert "VAE 'vae_digits'" in output
    assert (tmp_path / "runs" / "vae_digits" / "model.keras").is_file()
    code = """
import pathlib, sys, zoo
assert pathlib.Path(zoo.__file__).is_relative_to(sys.prefix), zoo.__file__
assert zoo.from_preset("vae_mnist").sample(2).shape == (2, 28, 28, 1)
run = zoo.training.Run("runs/vae_digits")
assert run.load_model().sample(2).shape == (2, 8, 8, 1)
"""
    run(installed / "python", "-c", code, cwd=tmp_path)


@pytest.mark.slow
def test_the_help_of_a_command_describes_its_program(installed, tmp_path):
    command = [installed / "zoo-interpolate", "--help"]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert "Draws paths from one latent to another" in output and "--pairs" in output
