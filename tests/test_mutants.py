"""The recorded mutations apply to the code as it is. `python tests/mutants.py` runs them."""

import ast
import functools
from pathlib import Path

import mutants

ROOT = Path(__file__).resolve().parents[1]


def test_each_mutation_replaces_text_that_occurs_once():
    for m in mutants.recorded():
        assert (ROOT / m.file).read_text().count(m.old) == 1, (m.file, m.fault)
        assert m.new != m.old, (m.file, m.fault)


def test_the_tests_of_each_mutation_exist():
    for m in mutants.recorded():
        assert m.tests, (m.file, m.fault)
        for test in m.tests:
            path, _, name = test.partition("::")
            text = (ROOT / "tests" / path).read_text()
            assert f"def {name.partition('[')[0]}(" in text or not name, test


@functools.cache
def fast_tests(path):
    """The names of the tests of a file, except those that are slow with all parameters."""
    text = path.read_text()
    if "\npytestmark = pytest.mark.slow" in text:
        return set()
    functions = [f for f in ast.parse(text).body if isinstance(f, ast.FunctionDef)]
    tests = {f.name: map(ast.unparse, f.decorator_list) for f in functions if "test_" in f.name}
    return {name for name, marks in tests.items() if "pytest.mark.slow" not in marks}


def test_each_mutation_has_a_fast_test():
    for m in mutants.recorded():
        tests = [test.partition("::") for test in m.tests]
        fast = [
            (fast_tests(ROOT / "tests" / path), name.partition("[")[0]) for path, _, name in tests
        ]
        assert any(name in names or (names and not name) for names, name in fast), (m.file, m.fault)


def test_each_mutation_is_described_once():
    faults = [(m.file, m.fault) for m in mutants.recorded()]
    assert len(set(faults)) == len(faults)
