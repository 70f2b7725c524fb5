"""The Fréchet benchmark: its known distances, its methods, and its report."""

import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from benchmarks.speed import frechet

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("rank", [24, 12])
def test_commuting_covariances_have_the_stated_spectrum_and_trace(rank):
    x, y, known = frechet.commuting(24, rank, 1e-3)
    a, b = np.cov(x.T), np.cov(y.T)
    np.testing.assert_allclose(a @ b, b @ a, atol=1e-14)
    spectrum = np.linalg.eigvalsh(a)
    np.testing.assert_allclose(spectrum[-rank:], np.geomspace(1e-3, 1, rank), rtol=1e-10)
    np.testing.assert_allclose(spectrum[:-rank], 0, atol=1e-14)
    eigenvalues = np.linalg.eigvals(a @ b).real
    assert known == pytest.approx(np.sqrt(np.maximum(eigenvalues, 0)).sum(), rel=1e-6)


def test_all_methods_agree_with_the_known_trace():
    x, y, known = frechet.commuting(16, 16, 1e-2)
    c1, c2 = np.cov(x.T), np.cov(y.T)
    values = [
        frechet.trace_by_sqrtm(c1, c2),
        frechet.trace_by_factors(c1, c2, "cholesky"),
        frechet.trace_by_factors(c1, c2, "eigen"),
        frechet.trace_of_features(x, y, "gram"),
    ]
    assert values == pytest.approx([known] * 4, rel=1e-9)
    assert frechet.by_sqrtm(x, y + 1) == pytest.approx(frechet.frechet_distance(x, y + 1).value)


def test_errors_are_relative_to_the_known_trace(monkeypatch):
    monkeypatch.setattr(frechet, "trace_of_features", lambda x, y, method: 0.0)
    rows = frechet.measure_errors(16)
    assert [row["errors"]["gram"] for row in rows] == [1.0] * 4
    assert "cholesky" not in rows[-1]["errors"] and rows[-1]["rank"] == 8
    assert rows[0]["errors"]["sqrtm"] < 1e-8


@pytest.fixture(scope="module")
def benchmark_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    flags = ["--dim=32", "--examples=80", "--repeats=2", f"--output={folder}"]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.frechet", *flags],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.slow
def test_the_report_has_the_measurements(benchmark_run):
    content = json.loads((benchmark_run / "frechet.json").read_text())
    assert content["about"]["dim"] == 32 and "scipy" in content["about"]
    for ways in content["times"].values():
        for row in ways.values():
            assert row["seconds"] == min(row["all"]) > 0 and len(row["all"]) == 2
            first = next(iter(ways.values()))
            assert row["speed"] == pytest.approx(first["seconds"] / row["seconds"])
    assert all(e < 1e-6 for row in content["errors"] for e in row["errors"].values())
    text = (benchmark_run / "frechet.md").read_text()
    seconds = content["times"]["whole"]["auto"]["seconds"]
    assert f"| whole | auto | {seconds:.2f} |" in text and "| 32 | 16 | 1e-04 |" in text


def test_too_few_examples_are_refused(monkeypatch):
    flags = types.SimpleNamespace(dim=64, examples=64, repeats=3)
    monkeypatch.setattr(frechet, "FLAGS", flags)
    with pytest.raises(ValueError, match="Received: 64, 64 and 3"):
        frechet.main()
