"""The recorded mutations apply to the code as it is. `python tests/mutants.py` runs them."""

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


def test_each_mutation_is_described_once():
    faults = [(m.file, m.fault) for m in mutants.recorded()]
    assert len(set(faults)) == len(faults)
