"""CONTRIBUTING.md is correct: its blocks add a model to a copy, and its commands succeed there."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from speed import slow_except

ROOT = Path(__file__).parent.parent


def blocks(language):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def contributed_files():
    """The files and lines that CONTRIBUTING.md adds: `[(path, place, code)]`.

    A Python block is a file, and its first line the comment `# PATH`. A diff block adds lines, and its
    first line says where: `# PATH, in TABLE` at the head of a dict, list or tuple, `# PATH, in the map`,
    or `# PATH, with the imports`.
    """
    found = []
    for block in blocks("python"):
        head, code = block.split("\n", 1)
        found.append((head.removeprefix("# "), None, code.lstrip("\n")))
    for block in blocks("diff"):
        head, lines = block.split("\n", 1)
        path, place = re.fullmatch(r"# ([\w/.]+), (?:in|in the|with the) (\w+)", head).groups()
        found.append((path, place, re.sub(r"^\+", "", lines, flags=re.MULTILINE)))
    return found


def write(root, path, place, code):
    """Writes a block to the file or table that its first line names."""
    file = root / path
    if place is None:
        assert not file.exists(), f"{path} exists; the block must say where in it the lines go."
        file.write_text(code)
        return
    text = file.read_text()
    if place == "imports":
        at = re.search(r"^(from|import) ", text, re.MULTILINE).start()
    elif place == "map":
        at = re.search(r"^\|---.*\n", text, re.MULTILINE).end()
    else:
        # After the bracket that opens the table, with the indentation of its first item.
        head = rf"^{place}\b[^\"']*?[\[{{(]\n(?=( +)(?:\"|\w+,))"
        opening = re.search(head, text, re.MULTILINE)
        assert opening, f"{path} has no {place}."
        at, code = opening.end(), textwrap.indent(code, opening[1])
    file.write_text(text[:at] + code + text[at:])


@pytest.fixture(scope="module")
def contribution(tmp_path_factory):
    """A copy of the tree with the model of CONTRIBUTING.md."""
    root = tmp_path_factory.mktemp("contribution")
    copied = shutil.ignore_patterns("*.npz", "__pycache__", ".*")
    for folder in ("zoo", "trainers", "tests/conformance"):
        shutil.copytree(ROOT / folder, root / folder, ignore=copied)
    (root / "tests" / "models").mkdir()
    for file in ("pyproject.toml", "tests/conftest.py", "tests/models/test_map.py"):
        shutil.copy(ROOT / file, root / file)
    for file in contributed_files():
        write(root, *file)
    return root


def commands():
    """The commands of CONTRIBUTING.md. The one that runs the model's own tests is fast."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return slow_except([line for line in lines if line.startswith("pytest tests/models")], lines)


# Detects: a missing step in CONTRIBUTING.md, code that does not work, a wrong command. The commands
# run a training and the model's tests in the copy.
@pytest.mark.parametrize("command", commands())
def test_a_command_of_contributing_succeeds_with_the_added_model(contribution, command):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=contribution,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(contribution)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]


def test_the_model_of_contributing_is_short():
    lines = [line for *_, code in contributed_files() for line in code.splitlines() if line.strip()]
    assert len(lines) <= 60
    assert len({path for path, *_ in contributed_files()}) <= 5
