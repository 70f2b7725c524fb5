"""Comparisons: training, scores, the store of results, the report, and interruptions."""

import base64
import csv
import dataclasses
import html
import html.parser
import importlib
import inspect
import json
import os
import pathlib
import pkgutil
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from speed import slow_except

import zoo
import zoo.models
from benchmarks import compare
from benchmarks.comparison import report
from benchmarks.comparison import subjects as subjects_module
from benchmarks.comparison.page import Cell, Items, Picture, Pictures, Table, as_html, as_markdown
from benchmarks.comparison.scores import Protocol, Scored, score, summary, unranked
from benchmarks.comparison.subjects import Subject, prepare, train, train_all
from zoo import evaluation, features, metrics, presets, training
from zoo.evaluation import Result, sample_images
from zoo.files import write_json
from zoo.finite import NonFiniteError
from zoo.model import GenerativeModel
from zoo.training import Run

ROOT = pathlib.Path(__file__).parents[2]
PRESETS = ["vae_digits", "gan_digits"]
# The best model is of an epoch before the last.
SETTINGS = [
    "epochs=4",
    "jit_compile=false",
    "deterministic=true",
    "evaluation.at=(1, 2)",
    "evaluation.extractor=mnist-cnn-v1",
    "evaluation.num_samples=20",
]
PROTOCOL = Protocol(num_samples=200, importance_samples=5, limit=20)
KINDS = (
    "samples",
    "reconstructions",
    "interpolations",
    "interpolations_images",
    "latents",
    "neighbours",
)


def start(folder, *more):
    command = [
        *(sys.executable, "-m", "benchmarks.compare", f"--presets={','.join(PRESETS)}"),
        *("--extractor=mnist-cnn-v1", "--num_samples=200", "--importance_samples=5", "--limit=20"),
        *(f"--set={setting}" for setting in SETTINGS),
        *(f"--output={folder}", *more),
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        # A locale in which text files are not in UTF-8 by default.
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    return out


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """The folder of one comparison, from the command line. Tests do not change it."""
    folder = tmp_path_factory.mktemp("comparison") / "made"
    out = finish(start(folder))
    assert re.findall(r"(\S+): training$", out, re.M) == [f"{p}-seed-0" for p in PRESETS]
    return folder


class Page(html.parser.HTMLParser):
    """The texts of a page by section, its cells, its pictures and its addresses."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.pictures, self.addresses, self.anchors = [], {}, [], set()
        self.titles, self.texts, self.rows, self._in = [], {}, [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.anchors.add(attrs.get("id"))
        self.addresses += [v for k, v in attrs.items() if k in ("src", "href", "srcset", "data")]
        if tag == "img":
            self.pictures.setdefault(self.titles[-1], []).append((attrs["alt"], attrs["src"]))
        if tag not in ("meta", "img"):
            self._in.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._in.pop() == tag

    def handle_data(self, text):
        if self._in[-1:] in (["h1"], ["h2"]):
            self.titles.append(text)
        elif self.rows and {"td", "th"} & set(self._in):
            self.rows[-1][-1] += text if "small" not in self._in else f" ({text})"
        if self.titles:
            self.texts[self.titles[-1]] = self.texts.get(self.titles[-1], "") + text


@pytest.fixture(scope="module")
def page(comparison):
    return Page(comparison / "report.html")


@pytest.fixture(scope="module")
def numbers(comparison):
    return json.loads((comparison / "scores.json").read_text())


def read_csv(folder):
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def subject_of(comparison, preset, seed=0):
    run = Run(comparison / "runs" / f"{preset}-seed-0")
    return Subject(preset, seed, run.read_config(), run, False)


# The numbers -----------------------------------------------------------------------------------


def frechet(a, b):
    """The formula; the trace of a root is the sum of the eigenvalues' roots."""
    roots = np.sqrt(np.linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).real.clip(0))
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return means + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * roots.sum()


@pytest.mark.parametrize("checkpoint", ["last", "best"])
@pytest.mark.parametrize("preset", PRESETS)
def test_scores_compare_the_saved_model_with_the_test_images(comparison, preset, checkpoint):
    run = Run(comparison / "runs" / f"{preset}-seed-0")
    model, data = run.load_model(checkpoint), training.load_data(run.read_config())
    network = features.get("mnist-cnn-v1")
    with model.best_weights():  # The preset of the GAN averages its weights.
        generated = sample_images(model, 200, seed=0)
    fake = network(generated).features.astype(float)
    real = network(data.pixels("test")).features.astype(float)
    prdc = metrics.precision_recall_density_coverage(real, fake)
    want = {"classifier-FID": frechet(real, fake)} | {k: v.value for k, v in prdc.items()}
    want["classifier-KID"] = metrics.kernel_distance(real, fake, seed=0).value
    want = {f"{key}[mnist-cnn-v1]": value for key, value in want.items()}
    pixels = generated, data.pixels("test"), data.pixels("train")
    want["copying"] = metrics.data_copying(*(p.reshape(len(p), -1) / 255 for p in pixels)).value
    if preset == "vae_digits":
        x, _ = data.arrays("test")
        error = ((np.concatenate([model.reconstruct(x)]) - x) ** 2).mean((1, 2, 3))
        want["psnr"] = (-10 * np.log10(error)).mean()
        want["nll"] = metrics.negative_log_likelihood(model, x[:20], 5, 500, seed=0).value
    found = {
        row["metric"]: float(row["value"])
        for row in read_csv(comparison)
        if (row["preset"], row["checkpoint"]) == (preset, checkpoint)
    }
    assert found.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-3, atol=1e-6, err_msg=name)


def test_the_best_model_has_the_best_value_on_validation_images(comparison, numbers):
    for row in numbers["models"]:
        run = Run(comparison / "runs" / f"{row['preset']}-seed-0")
        lines = [json.loads(line) for line in run.evaluation_path.read_text().splitlines()]
        tried = [line for line in lines if "epoch" in line["sampling"]]
        assert {t["data"]["split"] for t in tried} == {"validation"}
        best = min(tried, key=lambda t: t["value"])["sampling"]["epoch"]
        assert row["epochs"] == [best if row["checkpoint"] == "best" else 4]
    assert [r["checkpoint"] for r in numbers["models"]] == ["last", "best"] * 2


def test_csv_json_and_page_agree(comparison, numbers, page):
    lines = {(r["preset"], r["checkpoint"], r["metric"]): r for r in read_csv(comparison)}
    header, *rows = page.rows[: 2 + len(numbers["models"])]
    count = 0
    for cells, row in zip(rows, numbers["models"], strict=False):
        shown = dict(zip(header, cells, strict=True))
        assert shown["model"] == f"{row['preset']}, {row['checkpoint']}"
        assert shown["parameters"] == f"{row['parameters']:,}"
        assert shown["images/s"] == f"{row['images_per_second']:,.0f}"
        for name, found in row["metrics"].items():
            line = lines[row["preset"], row["checkpoint"], name]
            assert float(line["value"]) == found["value"] == found["values"][0]
            assert found["n_fake"] is None or int(line["n_fake"]) == found["n_fake"]
            [cell] = [
                shown[h] for h in header if re.split(r"[\s(]", h)[0] == name.partition("[")[0]
            ]
            assert float(re.split(r"[\s(]", cell)[0]) == float(f"{found['value']:.4g}")
            count += 1
    assert count == len(lines) > 20
    assert rows[-1][0] == "other real images"
    floors = dict(zip(header, rows[-1], strict=True))
    fid = next(v for k, v in floors.items() if k.startswith("classifier-FID"))
    [want] = {m["floor"] for r in numbers["models"] for k, m in r["metrics"].items() if "FID" in k}
    assert float(fid) == float(f"{want:.4g}")
    assert numbers["protocol"] == dataclasses.asdict(PROTOCOL)


def test_bold_marks_the_best_rows(numbers):
    for row in numbers["models"]:
        for name, found in row["metrics"].items():
            values = [
                r["metrics"][name]["value"] for r in numbers["models"] if name in r["metrics"]
            ]
            if name.startswith(("classifier", "nll")):
                assert found["best"] == (found["value"] == min(values))
            elif name.startswith(("precision", "recall", "coverage", "psnr")):
                assert found["best"] == (found["value"] == max(values))
            else:
                assert not found["best"]


# The page --------------------------------------------------------------------------------------


def test_every_section_shows_its_picture_of_every_model(comparison, page):
    kinds = {title: kind for title, kind, _ in report._SECTIONS}
    assert tuple(kinds.values()) == KINDS
    assert page.titles == [
        "vae_digits, gan_digits on digits",
        *("Scores", "Learning curves", *kinds, "Models", "How this page was made"),
    ]
    shown = {}
    for title, found in page.pictures.items():
        for caption, source in found:
            content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
            shown[title, caption.partition(" (")[0]] = content
    folder = comparison / "pictures"
    expected = {("Learning curves", "Of seed 0"): folder / "learning_curves.png"}
    for title, kind in kinds.items():
        models = PRESETS if kind in ("samples", "interpolations", "neighbours") else PRESETS[:1]
        for name in models:
            for point in ("last", "best"):
                path = folder / f"{name}-seed-0-{point}" / f"{kind}.png"
                expected[title, f"{name}, {point} model"] = path
    assert shown == {key: path.read_bytes() for key, path in expected.items()}
    assert len(set(shown.values())) == len(shown)
    for title in ("Reconstructions", "Interpolations between test images", "Latents"):
        assert "Not available for gan_digits." in page.texts[title]


def test_the_page_is_one_file_without_scripts(comparison, page):
    text = (comparison / "report.html").read_text(encoding="utf-8")
    assert {"script", "link", "iframe", "object", "form", "base"}.isdisjoint(page.tags)
    assert "url(" not in text and "@import" not in text and not re.search(r"<[^>]*\son\w+=", text)
    assert page.addresses
    for address in page.addresses:
        assert address.startswith("data:image/png;base64,") or address[1:] in page.anchors, address
    assert str(comparison.parent) not in text  # The page contains no paths of the machine.


def test_the_page_describes_each_model_and_the_commands_to_repeat_it(comparison, page):
    models = page.texts["Models"]
    assert "Objective: Maximises the evidence lower bound, E_q[log p(x | z)]" in models
    assert (
        "https://arxiv.org/abs/1312.6114" in models and "https://arxiv.org/abs/1406.2661" in models
    )
    assert "latent_dim=16" in models and "optimizers.generator.learning_rate=0.001" in models
    commands = re.findall(r"python -m trainers\.train [^\n]*?--output=\S+?(?=\n|$)", models)
    assert len(commands) == 2
    for preset, command in zip(PRESETS, commands, strict=True):
        _, _, _, *words = shlex.split(command)
        given = [word.removeprefix("--set=").removeprefix("--") for word in words]
        assert given.pop(0) == f"preset={preset}"
        config = presets.get(preset)
        presets.override(config, [setting for setting in given if not setting.startswith("output")])
        assert not presets.differences(config, subject_of(comparison, preset).config)
    [made] = re.findall("python -m benchmarks.compare.*", page.texts["How this page was made"])
    for flag in (
        "--presets=vae_digits,gan_digits",
        "--limit=20",
        *(f"--set={s}" for s in SETTINGS),
    ):
        assert flag in shlex.split(made)


def test_the_markdown_report_has_the_same_pictures_as_files(comparison, page):
    text = (comparison / "report.md").read_text(encoding="utf-8")
    links = re.findall(r"!\[(.*?)\]\((.*?)\)\n", text)
    shown = [caption for found in page.pictures.values() for caption, _ in found]
    assert [caption for caption, _ in links] == shown
    assert all((comparison / path).read_bytes()[:4] == b"\x89PNG" for _, path in links)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1 and len(table) == 2 + 4 + 1


def test_bars_and_tags_in_texts_are_escaped(tmp_path):
    blocks = [Table([Cell("a", remark="b|c")], [["x | y <b>"]]), Items(["`log p(x|z)` & <b>"])]
    assert as_markdown(blocks, tmp_path).startswith("| a (b\\|c) |\n| --- |\n| x \\| y &lt;b> |")
    assert "x | y &lt;b&gt;" in as_html(blocks)
    assert "<li><code>log p(x|z)</code> &amp; &lt;b&gt;</li>" in as_html(blocks)


MEASURE = """<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const broken = [...page.images].filter(i => !i.complete || !i.naturalWidth).length;
  const numbers = [root.clientWidth, root.scrollWidth, page.images.length, broken];
  document.body.dataset.measured = numbers.join(" ");
}});
</script>"""


def measured(text, folder, width):
    """Widths of window and page, numbers of pictures and of broken ones, measured in a browser."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(names)} is installed to open the page with")
    # In a frame, because windows have a minimum width.
    path = folder / "measured.html"
    path.write_text(MEASURE.format(width=width, page=html.escape(text)), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    command = [browser, *flags, f"--user-data-dir={folder / 'profile'}", path.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    return tuple(map(int, re.search('data-measured="(.*?)"', dom).group(1).split()))


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_the_window_and_no_picture_is_broken(comparison, page, tmp_path, width):
    text = (comparison / "report.html").read_text(encoding="utf-8")
    count = sum(map(len, page.pictures.values()))
    assert measured(text, tmp_path, width) == (width, width, count, 0)
    # A page that is too wide, with a broken picture, is detected.
    text = text.replace("</h1>", '</h1><div style="width: 1500px">wide</div>')
    text = re.sub('(base64,)[^"]*', r"\1AAAA", text, count=1)
    _, wide, _, broken = measured(text, tmp_path, width)
    assert wide > 1500 and broken == 1


# Interruptions, failures, reused runs -------------------------------------------------------------


def without_times(folder):
    content = json.loads((folder / "scores.json").read_text())
    for row in content["models"]:
        del row["seconds"], row["images_per_second"]
    return content["models"]


def wait_for(path, process):
    until = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_comparison_continues_to_the_same_result(comparison, tmp_path):
    """One of its runs is reused, and its folder is not changed."""
    folder, reused = tmp_path / "killed", comparison / "runs" / "vae_digits-seed-0"
    before = {path: path.stat().st_mtime_ns for path in reused.rglob("*")}
    process = start(folder, f"--reuse={reused}")
    run = Run(folder / "runs" / "gan_digits-seed-0")
    wait_for(run.checkpoints_dir / "checkpoint", process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not run.results_path.is_file() and not (folder / "report.html").exists()
    out = finish(start(folder, f"--reuse={reused}"))
    assert re.findall(r"(\S+): training(.*)", out) == [("gan_digits-seed-0", " continues")]
    assert [path.name for path in (folder / "runs").iterdir()] == ["gan_digits-seed-0"]
    assert before == {path: path.stat().st_mtime_ns for path in reused.rglob("*")}
    want, have = without_times(comparison), without_times(folder)
    assert [row.pop("metrics").keys() for row in want] == [
        row.pop("metrics").keys() for row in have
    ]
    assert want == have
    want, have = read_csv(comparison), read_csv(folder)
    for a, b in zip(want, have, strict=True):
        values = (a.pop("value"), b.pop("value")), (a.pop("stderr"), b.pop("stderr"))
        for x, y in values:
            assert (x == y == "") or float(x) == pytest.approx(float(y), rel=1e-4, abs=1e-7), a
        a.pop("floor"), b.pop("floor")
        assert a == b


@pytest.mark.slow
def test_a_failed_training_is_left_out_and_reported(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "c"
    # Determinism would stay on for later tests of this process.
    kept = [s for s in SETTINGS if not s.startswith(("epochs", "deterministic"))]
    settings = [*kept, "epochs=1"]

    def build(config, *args):
        model = presets_build(config, *args)
        if config.preset == "gan_digits":
            model.generator.trainable_variables[0].assign(
                np.full(model.generator.trainable_variables[0].shape, np.nan, np.float32)
            )
        return model

    presets_build = presets.build
    monkeypatch.setattr(presets, "build", build)
    subjects = prepare(PRESETS, [0], folder, settings=settings)
    trained, failed = train_all(subjects, folder)
    assert [s.preset for s in trained] == ["vae_digits"] and list(failed) == ["gan_digits-seed-0"]
    assert "gan_digits-seed-0: left out." in capsys.readouterr().out
    with pytest.raises(NonFiniteError, match=r"gan_digits-seed-0: .*NaN"):
        train_all(subjects[1:], folder)
    # A failed training is not repeated, even if it would succeed now.
    monkeypatch.setattr(presets, "build", presets_build)
    trained, again = train_all(prepare(PRESETS, [0], folder, settings=settings), folder)
    assert [s.preset for s in trained] == ["vae_digits"] and again == failed


def test_a_failure_while_time_is_measured_is_left_out(tmp_path, monkeypatch):
    def measure(config):
        if config.seed == 1:
            raise NonFiniteError("The loss became NaN.")
        return 10.0

    monkeypatch.setattr(subjects_module, "seconds_per_epoch", measure)
    monkeypatch.setattr(subjects_module, "train", lambda subject, say: None)
    found = prepare(["gan_digits"], [1, 2], tmp_path / "c", 1.0)
    assert [s.config.epochs for s in found] == [250, 3]
    trained, failed = train_all(found, tmp_path / "c")
    assert [s.seed for s in trained] == [2]
    assert failed == {"gan_digits-seed-1": "The loss became NaN."}


@pytest.mark.slow
def test_the_page_lists_failed_trainings(comparison, tmp_path, monkeypatch):
    folder = tmp_path / "c"
    shutil.copytree(comparison, folder)
    plan = json.loads((folder / "plan.json").read_text())
    write_json(folder / "plan.json", plan | {"failed": {"vae_digits-seed-0": "It became NaN."}})
    subjects, failed = train_all(finished(folder), folder)
    extractors = [features.get("mnist-cnn-v1")]
    scored = [s for subject in subjects for s in score(subject, PROTOCOL, extractors, folder)]
    monkeypatch.setattr(compare, "_command", lambda: "")
    compare._write(folder, subjects, scored, PROTOCOL, extractors, failed)
    assert "Left out: vae_digits-seed-0. It became NaN." in (folder / "report.md").read_text()
    scores = json.loads((folder / "scores.json").read_text())
    assert {row["preset"] for row in scores["models"]} == {"gan_digits"}
    assert scores["failed"] == {"vae_digits-seed-0": "It became NaN."}


def test_rows_of_other_seeds_name_them_and_show_spreads_only(comparison):
    vae, gan = (
        [scored(comparison, {"nll": value}, preset, seed) for seed, value in values]
        for preset, values in (("vae_digits", [(0, 1.0), (1, 3.0)]), ("gan_digits", [(1, 2.0)]))
    )
    rows = summary([*vae, *gan])
    assert rows[0]["metrics"]["nll"]["spread"] == pytest.approx(2**0.5)
    assert rows[1]["metrics"]["nll"]["stderr"] is rows[1]["metrics"]["nll"]["spread"] is None
    table = report._table(rows)
    assert table.rows[0][0] == "vae_digits, last and best, seeds 0, 1"
    assert table.rows[1][0] == "gan_digits, last and best, seed 1"


def finished(comparison, settings=SETTINGS, **more):
    return prepare(PRESETS, [0], comparison, settings=settings, **more)


@pytest.mark.slow
def test_a_finished_comparison_trains_and_scores_nothing_again(comparison, capsys, tmp_path):
    models = [path.stat().st_mtime_ns for path in sorted(comparison.rglob("*.keras"))]
    extractors = [features.get("mnist-cnn-v1")]
    for subject in finished(comparison):
        train(subject)
        score(subject, PROTOCOL, extractors, comparison)
    assert capsys.readouterr().out == ""
    moved = finished(comparison, data_dir=str(tmp_path))  # The same comparison.
    assert {s.config.data.data_dir for s in moved} == {str(tmp_path)}
    assert models == [path.stat().st_mtime_ns for path in sorted(comparison.rglob("*.keras"))]


def test_results_are_shared_with_the_evaluations_of_the_run(comparison, tmp_path, capsys):
    """`trainers.evaluate` writes to the same file, and its results are used."""
    run = Run(shutil.copytree(comparison / "runs" / "gan_digits-seed-0", tmp_path / "run"))
    run.best_path.unlink()
    subject = Subject("gan_digits", 0, run.read_config(), run, False)
    lines = [json.loads(line) for line in run.evaluation_path.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "copying":
            line["value"] = 123.0
    run.evaluation_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    [scored] = score(subject, PROTOCOL, [], tmp_path)
    assert [(r.kind, r.value) for r in scored.results] == [("copying", 123.0)]
    assert capsys.readouterr().out == ""
    assert "123" in evaluation.compare({"gan": evaluation.read(run.evaluation_path)}).text()


def test_results_of_other_weights_or_settings_are_computed(comparison, tmp_path, monkeypatch):
    """The run is reused: its folder is read, and new results go to the comparison's folder."""
    monkeypatch.setattr(training, "draw_pictures", lambda *_: None)
    run = Run(shutil.copytree(comparison / "runs" / "gan_digits-seed-0", tmp_path / "run"))
    best = run.best_path.read_bytes()
    run.best_path.unlink()
    subject, lines = Subject("gan_digits", 0, run.read_config(), run, True), []
    before = run.evaluation_path.read_bytes()

    def copying(protocol=PROTOCOL):
        [scored] = score(subject, protocol, [], tmp_path, lines.append)
        [result] = scored.results
        # The value itself depends only on the number of samples if all samples are far away.
        return result.details["median_samples"]

    first = copying()
    assert lines == []  # The result is in the file of the run.
    fewer = dataclasses.replace(PROTOCOL, num_samples=100)
    assert copying(fewer) == copying(fewer) != first
    assert lines == ["gan_digits-seed-0-last: scoring"]
    run.model_path.write_bytes(best)
    other = copying()
    # The file of the run also has results of the best model.
    assert len(lines) == 1 and other != first
    assert copying(fewer) == copying(fewer) and len(lines) == 2
    subject = dataclasses.replace(subject, run=Run(shutil.move(run.path, tmp_path / "moved")))
    assert copying() == other and len(lines) == 2
    assert subject.run.evaluation_path.read_bytes() == before
    stored = (tmp_path / "evaluations" / "gan_digits-seed-0.jsonl").read_text().splitlines()
    assert [json.loads(line)["n_fake"] for line in stored] == [100, 100]


def test_pictures_are_drawn_again_for_other_weights(comparison, tmp_path):
    run = Run(shutil.copytree(comparison / "runs" / "gan_digits-seed-0", tmp_path / "run"))
    best = run.best_path.read_bytes()
    run.best_path.unlink()
    subject = Subject("gan_digits", 0, run.read_config(), run, True)

    def drawn():
        [scored] = score(subject, PROTOCOL, [], tmp_path)
        path = scored.pictures["samples"]
        return path.stat().st_mtime_ns, path.read_bytes()

    first = drawn()
    assert drawn() == first
    (tmp_path / "pictures" / "gan_digits-seed-0-last" / "old.png").write_bytes(first[1])
    run.model_path.write_bytes(best)
    assert drawn()[1] != first[1]
    assert not (tmp_path / "pictures" / "gan_digits-seed-0-last" / "old.png").exists()


# Decisions before training -------------------------------------------------------------------


THREE = ["vae_digits", "gan_digits", "autoencoder_digits"]


def test_runs_are_evaluated_by_a_metric_that_applies(tmp_path):
    found = prepare(THREE, [0], tmp_path, settings=["epochs=11"])
    assert [tuple(s.config.evaluation.at) for s in found] == [(2, 4, 6, 8, 11), (), ()]
    assert found[0].config.evaluation.metric == "nll"


@pytest.mark.slow
def test_runs_are_evaluated_by_the_chosen_metric_if_it_applies(tmp_path):
    settings = ["evaluation.extractor=mnist-cnn-v1", "evaluation.every=3"]
    found = prepare(THREE, [0], tmp_path / "b", settings=settings)
    assert [s.config.evaluation.every for s in found] == [3, 3, 0]
    settings = ["evaluation.metric=psnr", "epochs=2"]
    found = prepare(THREE, [0, 1], tmp_path / "c", settings=settings)
    assert [tuple(s.config.evaluation.at) for s in found] == [(1, 2)] * 2 + [()] * 2 + [(1, 2)] * 2


def test_the_budget_is_shared_and_kept(tmp_path, monkeypatch):
    costs = {"vae_digits": 2.0, "gan_digits": 8.0, "autoencoder_digits": 1e6}
    monkeypatch.setattr(
        "benchmarks.comparison.subjects.seconds_per_epoch", lambda config: costs.pop(config.preset)
    )
    names = list(costs)
    first = [s.config.epochs for s in prepare(names, [3], tmp_path, minutes=4)]
    assert first == [40, 10, 1]  # 80 seconds each.
    again = prepare(names, [3], tmp_path, minutes=4)  # Nothing is measured again.
    assert [s.config.epochs for s in again] == first
    with pytest.raises(ValueError, match=r"was started with .*4.* Received: .*5"):
        prepare(names, [3], tmp_path, minutes=5)


@pytest.mark.parametrize(
    ("names", "seeds", "more", "message"),
    [
        (["vae_digit"], [0], {}, "vae_digits"),
        (["vae_digits", "vae_mnist"], [0], {}, "data.name of 'vae_digits' is digits, .*mnist"),
        (["vae_digits"], [0, 0], {}, r"Name each seed once.* Received: \[0, 0\]"),
        ([], [0], {}, r"Name each preset once, and at least one. Received: \[\]"),
        (["vae_digits"], [0], {"minutes": 0}, "`budget`.* Received: 0"),
        (["vae_digits"], [0], {"minutes": float("nan")}, "`budget`.* Received: nan"),
        (["vae_digits"], [0], {"settings": ["epochs=0"]}, "`epochs` must be at least 1"),
        (["gan_digits"], [0], {"settings": ["hidden=8"]}, "has no setting 'hidden'"),
        (["gan_digits"], [0], {"settings": ["evaluation.every=1"]}, "no feature network"),
    ],
)
def test_invalid_arguments_are_refused_before_training(
    names, seeds, more, message, tmp_path, monkeypatch
):
    # Without the check that the data are prepared.
    monkeypatch.setattr(zoo.datasets, "check", lambda *_: None)
    with pytest.raises(ValueError, match=message):
        prepare(names, seeds, tmp_path / "new", **more)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("seed", ["", "-1", "0.5", "one"])
def test_seeds_must_be_numbers(seed):
    with pytest.raises(ValueError, match=f"Expected seeds of 0 or more.* Received: '{seed}'"):
        compare._number(seed)


def test_a_folder_of_other_files_is_not_changed(comparison, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds files that do not belong to a comparison"):
        compare._check_free(tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        compare._check_free(tmp_path / "mine.txt")
    compare._check_free(comparison)
    with pytest.raises(ValueError, match=r"was started with .* Received: "):
        finished(comparison, [*SETTINGS[1:], "epochs=5"])


def test_a_comparison_that_another_process_makes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "FLAGS", types.SimpleNamespace(output=str(tmp_path / "made")))
    with (
        zoo.files.lock(tmp_path / "made", "comparison"),
        pytest.raises(BlockingIOError, match="Another process is working on the comparison"),
    ):
        compare.main()


def test_a_comparison_removes_the_files_of_killed_comparisons(tmp_path, monkeypatch):
    places = ("", "features", "pictures", "pictures/a", "runs/a", "runs/a/samples")
    for place in places:
        left = tmp_path / place / ".x.elsewhere.1.0123abcd.partial.png"
        left.parent.mkdir(parents=True, exist_ok=True)
        left.touch()
        os.utime(left, (0, 0))
    flags = {"num_samples": 2, "importance_samples": 1, "limit": 2, "extractor": None}
    flags |= {"weights": None, "seeds": ["none"]}
    monkeypatch.setattr(compare, "FLAGS", types.SimpleNamespace(**flags))
    with pytest.raises(ValueError, match="Expected seeds"):
        compare._compare(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "name",
    slow_except(
        ["scores.json"],
        ["pictures/learning_curves.png", "report.html", "report.md", "scores.json", "scores.csv"],
    ),
)
def test_a_full_disk_keeps_the_old_report_and_names_the_file(
    name, comparison, tmp_path, monkeypatch
):
    folder = shutil.copytree(comparison, tmp_path / "c")
    before = (folder / name).read_bytes()
    replace = os.replace

    def fails(source, target):
        if str(target) == str(folder / name):
            raise OSError(28, "No space left on device")
        replace(source, target)

    subjects = finished(folder)
    scored = [x for s in subjects for x in score(s, PROTOCOL, [], folder)]
    monkeypatch.setattr(compare, "_command", lambda: "")
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match=rf"No space left on device: '{folder / name}'"):
        compare._write(folder, subjects, scored, PROTOCOL, [], {})
    assert (folder / name).read_bytes() == before
    assert not list(folder.rglob("*.partial*"))


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"budget_minutes": 1, "settings": [], "epochs": []}'),
        '{"budget_minutes": "1", "settings": [], "epochs": {}}',
        '{"budget_minutes": 1, "settings": [], "epochs": {"a": "3"}}',
        '{"budget_minutes": 1, "settings": [], "epochs": {}, "failed": []}',
    ],
)
def test_the_error_of_a_plan_of_another_shape_names_the_file(content, tmp_path):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(ValueError, match=r"plan.json'"):
        prepare(["vae_digits"], [0], tmp_path)


def test_the_page_in_markdown_passes_no_html_on(tmp_path):
    page = [Items(["<b>a</b> `b <c`"]), Table(["<i>"], [[Cell("<u>", remark="<s>")]])]
    text = as_markdown(page, tmp_path)
    assert "`b <c`" in text and "<" not in text.replace("`b <c`", "")


def test_a_started_run_keeps_its_settings(comparison, tmp_path):
    shutil.copy(comparison / "plan.json", tmp_path)
    run = Run(tmp_path / "runs" / "gan_digits-seed-0")
    config = subject_of(comparison, "gan_digits").config
    config.model.latent_dim = 5  # As after a change of the preset.
    run.begin(config)
    with pytest.raises(ValueError, match=r"was started with model.latent_dim=5"):
        finished(tmp_path)


@pytest.fixture
def finished_run(comparison, tmp_path):
    return Run(
        shutil.copytree(comparison / "runs" / "gan_digits-seed-0", tmp_path / "finished_run")
    )


def test_a_reused_run_must_match_the_comparison(finished_run, tmp_path):
    def reuse(*places, names=("gan_digits",), settings=SETTINGS):
        return prepare(names, [0], tmp_path / "new", settings=settings, reuse=places)

    # The number of epochs may differ.
    [subject] = reuse(finished_run.path, settings=["epochs=9", "deterministic=true"])
    assert subject.reused and subject.run.path == finished_run.path
    with pytest.raises(ValueError, match="latent_dim is 16, here 3"):
        reuse(finished_run.path, settings=[*SETTINGS, "latent_dim=3"])
    with pytest.raises(
        ValueError, match=r"must have a preset and seed of the comparison.* gan_digits with seed 0"
    ):
        reuse(finished_run.path, names=["vae_digits"])
    with pytest.raises(ValueError, match="Name one run to reuse"):
        reuse(finished_run.path, shutil.copytree(finished_run.path, tmp_path / "twin"))
    with pytest.raises(FileNotFoundError, match="no run in"):
        reuse(tmp_path / "nowhere")
    config = finished_run.read_config()
    config.epochs = 5  # The run is continued, and still has the files of its previous end.
    finished_run.write_config(config)
    with pytest.raises(FileNotFoundError, match=r"is not finished.*trainers.train --resume"):
        reuse(finished_run.path)


def test_each_feature_network_is_used_once():
    mnist, fashion = features.get("mnist-cnn-v1"), features.get("fashion-cnn-v1")
    assert [e.id for e in compare._networks("mnist", mnist)] == ["mnist-cnn-v1"]
    assert compare._networks("digits", fashion) == [fashion]
    assert [e.id for e in compare._networks("mnist", fashion)] == ["mnist-cnn-v1", "fashion-cnn-v1"]
    assert compare._networks("digits", None) == []
    assert compare._named("mnist-cnn-v1", None).id == "mnist-cnn-v1"
    with pytest.raises(
        ValueError, match=r"needs an --extractor. Received: --weights='a.pb' without"
    ):
        compare._named(None, "a.pb")


# Rows --------------------------------------------------------------------------------------------


def scored(comparison, values, preset="gan_digits", seed=0, checkpoint="last", **more):
    results = [Result(name, name.partition("[")[0], v, 0.5, **more) for name, v in values.items()]
    return Scored(subject_of(comparison, preset, seed), checkpoint, 4, tuple(results), {}, "")


def test_rows_are_means_over_seeds_with_their_spread(comparison):
    values = [1.0, 2.0, 6.0]
    rows = summary([scored(comparison, {"psnr": v}, seed=s) for s, v in enumerate(values)])
    assert len(rows) == 1 and rows[0]["seeds"] == [0, 1, 2]
    found = rows[0]["metrics"]["psnr"]
    assert (found["value"], found["values"], found["stderr"]) == (3.0, values, None)
    assert found["spread"] == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    cells = report._table(rows).rows[0]
    assert Cell("3 ±\u00a02.6") in cells
    [one] = summary([scored(comparison, {"psnr": 1.0})])
    assert (one["metrics"]["psnr"]["spread"], one["metrics"]["psnr"]["stderr"]) == (None, 0.5)


def test_a_seed_whose_last_model_is_the_best_counts_for_both(comparison):
    several = [
        scored(comparison, {"psnr": 1.0}, seed=0),
        scored(comparison, {"psnr": 3.0}, seed=0, checkpoint="best"),
        scored(comparison, {"psnr": 5.0}, seed=1),
    ]
    last, best = summary(several)
    assert (last["checkpoint"], last["metrics"]["psnr"]["value"]) == ("last", 3.0)
    assert (best["checkpoint"], best["metrics"]["psnr"]["value"]) == ("best", 4.0)
    labels = [row[0] for row in report._table([last, best]).rows]
    assert labels == ["gan_digits, last", "gan_digits, best", "other real images"]
    assert report._table([last]).rows[0][0] == "gan_digits, last and best"


def test_a_failed_metric_is_shown_as_a_dash_with_its_reason(comparison):
    floor = {"value": 0.25, "n_fake": 9}
    several = [
        scored(comparison, {"kid": 1.0}, floor=floor),
        scored(comparison, {"kid": None}, "vae_digits", error="It broke.", status="failed"),
    ]
    rows = summary(several)
    table = report._table(rows)
    at = next(i for i, cell in enumerate(table.header) if cell == Cell("kid\u00a0↓"))
    assert [row[at] for row in table.rows] == [
        Cell("1 ±\u00a00.5"),
        Cell("-", remark="It broke."),
        "0.25",
    ]
    about = {"data": "digits", "sizes": dict.fromkeys(("train", "validation", "test"), 1)}
    about |= {"images": "", "networks": [], "remarks": []}
    remarks = list(report._remarks(rows, about, PROTOCOL))
    assert remarks[-1] == "kid of vae_digits, last: It broke."


def test_metrics_on_different_images_are_not_ranked(comparison):
    def of(a, b):
        return [
            scored(comparison, {"nll": 1.0}, n_real=9, data={"sha256": a * 64}),
            scored(comparison, {"nll": 2.0}, "vae_digits", n_real=9, data={"sha256": b * 64}),
        ]

    assert [row["metrics"]["nll"]["best"] for row in summary(of("a", "a"))] == [True, False]
    assert unranked(of("a", "a")) == {}
    assert [row["metrics"]["nll"]["best"] for row in summary(of("a", "b"))] == [False, False]
    assert "protocols differ in data.sha256" in unranked(of("a", "b"))["nll"]


def test_the_time_of_an_interrupted_run_is_scaled_to_all_epochs(comparison, finished_run):
    [row] = summary([scored(comparison, {"psnr": 1.0})])
    recorded = json.loads(Run(comparison / "runs" / "gan_digits-seed-0").results_path.read_text())
    assert row["seconds"] == recorded["seconds"]
    subject = Subject("gan_digits", 0, finished_run.read_config(), finished_run, True)
    one = Scored(subject, "last", 4, (), {}, "")
    after_one = {"epochs": 4, "resumed_after": 1, "seconds": 30.0, "images_per_second": 100.0}
    write_json(finished_run.results_path, recorded | after_one)
    assert summary([one])[0]["seconds"] == pytest.approx(40.0)
    del recorded["resumed_after"]
    write_json(finished_run.results_path, recorded)
    assert summary([one])[0]["seconds"] is summary([one])[0]["images_per_second"] is None
    after_all = {"epochs": 4, "resumed_after": 4, "seconds": 0.1, "images_per_second": None}
    write_json(finished_run.results_path, recorded | after_all)
    [row] = summary([one])
    assert row["seconds"] is None and report._table([row]).rows[0][-2:] == ["", ""]


@pytest.mark.slow
def test_few_images_are_noted_next_to_the_distance(comparison, tmp_path):
    """Four features, and 39 or 40 images of each kind."""
    network = dataclasses.replace(
        features.get("mnist-cnn-v1"),
        id="four",
        dim=4,
        classes=None,
        network=lambda x: (np.reshape(x, [len(x), 4, -1]).mean(-1), None),
    )
    subject = subject_of(comparison, "gan_digits")
    for n, few in ((39, True), (40, False)):
        several = score(subject, Protocol(n, 2, 2), [network], tmp_path / str(n))
        rows = summary(several)
        found = rows[0]["metrics"]["classifier-FID[four]"]
        assert found["few"] is few
        cell = next(
            c for c in report._table(rows).rows[0] if isinstance(c, Cell) and "±" not in c.text
        )
        want = f"few images: {n}; {n} other real ones: {report._number(found['floor'])}"
        assert cell.remark == (want if few else "")
        # The floor is of as many validation images.
        data = training.load_data(subject.config)
        real, other = (
            network(data.pixels(*which)).features.astype(float)
            for which in (("test",), ("validation", n))
        )
        assert found["floor"] == pytest.approx(frechet(real, other), rel=1e-3)
        about = {"data": "digits", "sizes": data.sizes, "images": "", "networks": [], "remarks": []}
        words = " ".join(report._remarks(rows, about, Protocol(n)))
        assert ("because of their number alone" in words) is few


def test_pictures_of_single_models_have_a_separate_section(comparison, tmp_path):
    path = comparison / "pictures" / "learning_curves.png"
    one = dataclasses.replace(scored(comparison, {"psnr": 1.0}), pictures={"prior_walks": path})
    about = {"data": "digits", "sizes": {"train": 1, "validation": 1, "test": 1}, "images": "grey"}
    about |= {"networks": [], "remarks": [], "command": "c", "date": "d", "machine": {}}
    blocks = report.blocks([one], summary([one]), about, Picture(path, "Curves"), PROTOCOL)
    captions = [p.caption for b in blocks if isinstance(b, Pictures) for p in b.pictures]
    assert captions == ["Curves", "Prior walks of gan_digits, last model (epoch 4)"]
    # Pictures of the first seed are shown.
    two = [one, dataclasses.replace(one, subject=subject_of(comparison, "gan_digits", 1))]
    blocks = report.blocks(two, summary(two), about, Picture(path, "Curves"), PROTOCOL)
    captions = [p.caption for b in blocks if isinstance(b, Pictures) for p in b.pictures]
    assert captions == ["Curves", "Prior walks of gan_digits, last model (epoch 4)"]


def models():
    for module in pkgutil.iter_modules(zoo.models.__path__):
        module = importlib.import_module(f"zoo.models.{module.name}")
        for cls in vars(module).values():
            if inspect.isclass(cls) and issubclass(cls, GenerativeModel):
                yield cls


@pytest.mark.parametrize("cls", sorted(set(models()) - {GenerativeModel}, key=lambda c: c.__name__))
def test_every_model_has_a_one_line_objective_and_a_reference(cls):
    line = report.objective(cls)
    assert len(line) < 110 and line.endswith(".")
    assert re.search(r", (19|20)\d\d.* https://\S+[^.\s]$", report.reference(cls))
