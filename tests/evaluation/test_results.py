"""Results as JSON lines, the store, and rankings of results of equal protocol."""

import csv
import dataclasses
import io
import json
import re

import pytest

from zoo import evaluation
from zoo.evaluation import Result


def fid(value=1.0, **more):
    extractor = {"id": "cnn", "dim": 8, "weights_sha256": "ab"}
    data = {"name": "mnist", "split": "test", "sha256": "cd"}
    standard = {"n_real": 100, "n_fake": 100, "extractor": extractor, "data": data}
    return Result("FD[cnn]", "fid", value, **standard | more)


def test_results_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "evaluation.jsonl"
    written = [
        fid(0.1 + 0.2, stderr=1e-17, floor={"value": 0.01, "n_real": 5}, details={"a": [1, None]}),
        Result("nll", "nll", None, status="failed", error="A GAN has no likelihood."),
    ]
    for result in written:
        evaluation.append(path, result)
    assert evaluation.read(path) == written
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["value"] == 0.1 + 0.2 and first["schema"] == 1
    assert second["value"] is None and second["error"] == "A GAN has no likelihood."


@pytest.mark.parametrize(
    "content",
    [
        *("[]", "3", "null", "{}", '{"schema": 1}', '{"schema": "1"}', "[" * 100_000),
        '{"schema": 1, "metric": "nll", "kind": "nll", "value": "94"}',
        '{"schema": 1, "metric": ["nll"], "kind": "nll", "value": 94}',
        '{"schema": 1, "metric": "nll", "kind": "nll", "value": 94, "sampling": []}',
        '{"schema": 1, "metric": "nll", "kind": "nll", "value": 94, "floor": {}}',
        '{"schema": 1, "metric": "nll", "kind": "nll", "value": 94, "extractor": "a"}',
        '{"schema": 1, "metric": "nll", "kind": "nll", "value": 94, "error": {"a": 1}}',
        "\xff",
    ],
    ids=lambda content: content[-50:],
)
def test_the_error_of_a_line_of_another_shape_names_the_file_and_the_line(content, tmp_path):
    path = tmp_path / "evaluation.jsonl"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"Line 1 of '.*evaluation.jsonl' is not a result"):
        evaluation.read(path)


def test_a_table_in_markdown_passes_no_html_on(tmp_path):
    bad = "<script>alert(1)</script> | ![a](http://b) **"
    failed = Result("nll", "nll", None, error=bad)
    text = evaluation.compare({bad: [fid()], "b": [failed]}).markdown()
    assert "<" not in text and "](" not in text and "&lt;script>" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {5}


def test_an_error_of_a_write_names_the_file():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        evaluation.append("/dev/full", fid())


def test_appending_keeps_all_lines_and_ends_an_incomplete_line(tmp_path):
    path = tmp_path / "evaluation.jsonl"
    evaluation.append(path, fid())
    before = path.read_text()
    path.write_text(before + '{"metric": "FD')
    evaluation.append(path, fid(2.0))
    lines = path.read_text().splitlines()
    assert lines[0] + "\n" == before and len(lines) == 3
    with pytest.raises(ValueError, match=r"Line 2 .* is not a result.*delete the line"):
        evaluation.read(path)


def test_values_without_a_json_form_are_refused(tmp_path):
    path = tmp_path / "evaluation.jsonl"
    with pytest.raises(ValueError):
        evaluation.append(path, fid(float("nan")))
    assert not path.exists() or path.read_text() == ""


def test_missing_files_and_other_schemas_are_refused(tmp_path):
    path = tmp_path / "evaluation.jsonl"
    with pytest.raises(FileNotFoundError, match="There are no results"):
        evaluation.read(path)
    path.write_text(json.dumps(dataclasses.asdict(fid()) | {"schema": 2}) + "\n")
    with pytest.raises(ValueError, match="schema is 2, expected 1"):
        evaluation.read(path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"value": "1.0"}, "value"),
        ({"metric": None}, "metric"),
        ({"details": []}, "details"),
        ({"floor": {"value": "low"}}, "value"),
        ({"extractor": {"id": ["cnn"]}}, "id"),
        ({"sampling": {"checkpoint": 3}}, "checkpoint"),
    ],
)
def test_the_error_of_a_result_of_another_shape_names_line_and_field(change, field, tmp_path):
    path = tmp_path / "evaluation.jsonl"
    evaluation.append(path, fid())
    with open(path, "a") as file:
        file.write(json.dumps(dataclasses.asdict(fid()) | change) + "\n")
    with pytest.raises(
        ValueError, match=f"Line 2 of .*evaluation.jsonl.*Expected '{field}' of type"
    ):
        evaluation.read(path)


@pytest.mark.parametrize(
    "line",
    [b"[]", b"null", b"\xff", b'{"schema": 1}', pytest.param(b"[" * 100_000, id="nested")],
)
def test_a_line_that_is_no_result_is_refused(line, tmp_path):
    (tmp_path / "evaluation.jsonl").write_bytes(line)
    with pytest.raises(ValueError, match=r"Line 1 of .* is not a result"):
        evaluation.read(tmp_path / "evaluation.jsonl")


def test_the_best_of_equal_protocols_is_marked_for_both_ends():
    def score(value):
        return Result("score", "score", value, n_real=9)

    table = evaluation.compare({"A": [fid(1.0), score(1.0)], "B": [fid(2.0), score(2.0)]})
    assert table.best == {"FD[cnn]": {"A"}, "score": {"B"}} and not table.notes


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"n_fake": 50}, "n_fake"),
        ({"n_real": 50}, "n_real"),
        (
            {"extractor": {"id": "cnn", "dim": 8, "weights_sha256": "ff"}},
            "extractor.weights_sha256",
        ),
        ({"preprocessing": {"size": 299}}, "preprocessing.size"),
        ({"data": {"name": "mnist", "split": "validation", "sha256": "cd"}}, "data.split"),
        ({"data": {"name": "mnist", "split": "test", "sha256": "ee"}}, "data.sha256"),
        ({"estimator": {"ddof": 0}}, "estimator.ddof"),
    ],
)
def test_different_protocols_are_not_ranked(change, field):
    table = evaluation.compare({"A": [fid(1.0)], "B": [fid(2.0, **change)]})
    assert not table.best
    assert f"differ in {field}:" in table.notes["FD[cnn]"]
    for form in (table.text(), table.markdown(), table.csv()):
        assert "is not ranked" in form and "1" in form and "2" in form
        assert "**1**" not in form and "1 *" not in form


def test_descriptions_of_the_data_do_not_matter_if_checksums_are_equal():
    a, b = (fid(v, data={"sha256": "cd", "images": w}) for v, w in ((1.0, "a"), (2.0, "/b/a")))
    assert evaluation.compare({"A": [a], "B": [b]}).best


def test_metrics_of_only_generated_images_do_not_depend_on_the_data():
    a, b = (
        Result("score", "score", v, n_fake=9, data={"sha256": s})
        for v, s in ((1.0, "a"), (2.0, "b"))
    )
    assert evaluation.compare({"A": [a], "B": [b]}).best == {"score": {"B"}}


def test_one_metric_of_two_networks_has_two_columns():
    def of(network, value):
        return Result("fid", "fid", value, n_real=9, extractor={"id": network})

    table = evaluation.compare(
        {"A": [of("ttur", 1.0), of("clean", 2.0)], "B": [of("clean", 3.0), of("ttur", 4.0)]}
    )
    assert table.best == {"fid of ttur": {"A"}, "fid of clean": {"A"}}


def test_the_table_shows_the_sizes_of_a_floor_of_other_sizes():
    floor = {"value": 0.5, "n_real": 50, "n_fake": 40}
    assert "(other real images: 0.5, 50 and 40 of them)" in str(fid(1.0, floor=floor))
    assert "0.5 (of 50 and 40)" in evaluation.compare({"A": [fid(1.0, floor=floor)]}).text()


def test_observations_of_the_computation_are_not_part_of_the_protocol():
    a = fid(1.0, estimator={"method": "gram", "clipped": True, "rank_deficient": True})
    b = fid(2.0, estimator={"method": "cholesky", "clipped": False, "rank_deficient": False})
    c = fid(3.0, sampling={"seed": 3}, seconds=3.0, environment={"numpy": "2"})
    assert evaluation.compare({"A": [a], "B": [b], "C": [c]}).best == {"FD[cnn]": {"A"}}


def test_models_without_a_value_are_shown_with_the_reason():
    none = Result("nll", "nll", None, status="failed", error="A GAN has no likelihood.")
    a, b = Result("nll", "nll", 90.0, n_real=9), Result("nll", "nll", 91.0, n_real=9)
    table = evaluation.compare({"gan": [none], "A": [a], "B": [b], "empty": []})
    assert table.best == {"nll": {"A"}}
    assert "nll of gan: A GAN has no likelihood." in table.text()


def test_the_last_of_several_results_is_used():
    table = evaluation.compare({"A": [fid(1.0), fid(5.0)], "B": [fid(2.0)]})
    assert table.best == {"FD[cnn]": {"B"}}
    assert table.cells["A", "FD[cnn]"].value == 5.0


def test_metrics_without_a_better_end_are_not_ranked():
    results = {n: [Result("density", "density", v, n_real=9)] for n, v in (("A", 1.0), ("B", 2.0))}
    assert evaluation.compare(results).best == {}


def test_the_table_has_values_errors_and_floors():
    floor = {"value": 0.25, "n_real": 100, "n_fake": 100}
    table = evaluation.compare({"A": [fid(1.5, stderr=0.125, floor=floor)], "B": [fid(2.5)]})
    assert table.markdown() == (
        "|  | FD[cnn] |\n| --- | --- |\n| A | **1.5 ± 0.12** |\n| B | 2.5 |\n"
        "| real images | 0.25 |\n"
    )
    assert table.text() == (
        "         A             B    real images\nFD[cnn]  1.5 ± 0.12 *  2.5  0.25\n"
    )
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert rows[0] == {
        "model": "A",
        "metric": "FD[cnn]",
        "value": "1.5",
        "stderr": "0.125",
        "floor": "0.25",
        "n_real": "100",
        "n_fake": "100",
        "best": "1",
        "remark": "",
    }
    assert rows[1]["model"] == "B" and rows[1]["best"] == "0"


def test_an_empty_comparison_is_refused():
    with pytest.raises(ValueError, match="nothing to compare"):
        evaluation.compare({"A": []})


# Rankings over several seeds -------------------------------------------------------------------


def test_models_are_ranked_by_their_mean_over_seeds():
    results = {"A": [fid(1.0), fid(6.0)], "B": [fid(3.0), fid(3.5)], "C": [fid(None)]}
    assert evaluation.rank("FD", results) == ({"B"}, None)
    assert evaluation.rank("FD", {"A": [fid(1.0), fid(3.0)], "B": [fid(2.0)]}).best == {"A", "B"}
    assert evaluation.rank("FD", {"A": [fid(1.0)], "C": [fid(None)]}).best == frozenset()


def test_every_seed_must_have_the_same_protocol():
    ranking = evaluation.rank("FD", {"A": [fid(1.0), fid(1.0, n_fake=50)], "B": [fid(2.0)]})
    assert not ranking.best and "n_fake is 100 for A, 50 for A" in ranking.note


def test_a_note_shortens_checksums():
    data = [{"sha256": letter * 64} for letter in "ab"]
    ranking = evaluation.rank(
        "FD", {n: [fid(1.0, data=d)] for n, d in zip("AB", data, strict=True)}
    )
    assert "data.sha256 is aaaaaaaa... for A, bbbbbbbb... for B" in ranking.note


# The store ---------------------------------------------------------------------------------------


def test_a_store_finds_the_newest_results_of_equal_request(tmp_path):
    path, other = tmp_path / "new.jsonl", tmp_path / "old.jsonl"
    evaluation.append(other, fid(1.0, request={"metric": "fid", "seed": 0}))
    before = other.read_bytes()
    store = evaluation.Store(path, [other, tmp_path / "missing.jsonl"])
    assert not path.exists()
    assert [r.value for r in store.find({"metric": "fid", "seed": 0}, ["fid"])] == [1.0]
    assert store.find({"metric": "fid", "seed": 1}, ["fid"]) is None
    assert store.find({"metric": "fid", "seed": 0}, ["fid", "kid"]) is None
    store.add(fid(2.0, request={"metric": "fid", "seed": 0}))
    for again in (store, evaluation.Store(path, [other])):
        assert [r.value for r in again.find({"metric": "fid", "seed": 0}, ["fid"])] == [2.0]
    assert other.read_bytes() == before and len(evaluation.read(path)) == 1


def test_results_without_a_request_are_never_found(tmp_path):
    path = tmp_path / "evaluation.jsonl"
    evaluation.append(path, fid(1.0))
    content = json.loads(path.read_text())
    del content["request"]  # A file from before requests were recorded.
    path.write_text(json.dumps(content) + "\n")
    assert evaluation.Store(path).find({"metric": "fid"}, ["fid"]) is None
