"""Trains presets, scores them by one protocol, and writes a report.

python -m benchmarks.compare --presets=vae_mnist,vae_flow_mnist,gan_mnist --output=comparison

The folder then holds report.html (one self-contained file), report.md with its pictures,
scores.json, scores.csv with the values of each seed, and the runs with their results
(evaluation.jsonl). If the comparison was killed, the same command continues it.
"""

import csv
import dataclasses
import datetime
import io
import os
import pathlib
import shlex

from absl import flags

from benchmarks.comparison import report
from benchmarks.comparison.page import Picture, as_html, as_markdown
from benchmarks.comparison.scores import Protocol, csv_rows, score, summary, unranked
from benchmarks.comparison.subjects import prepare, train_all
from benchmarks.machine import machine
from trainers import cli
from zoo import features, pictures, training
from zoo.files import is_temporary, lock, remove_leftovers, write_json, write_text
from zoo.versions import versions

FLAGS = flags.FLAGS

# The flags that change the result. The command in the report repeats them.
_FLAGS_OF_THE_RESULT = (
    "presets",
    "seeds",
    "budget",
    "num_samples",
    "importance_samples",
    "limit",
    "extractor",
)


def main() -> None:
    folder = pathlib.Path(os.path.expanduser(FLAGS.output))
    _check_free(folder)
    with lock(folder, "comparison"):
        _compare(folder)


def _compare(folder):
    places = ("features", "pictures", "pictures/*", "runs/*", "runs/*/samples")
    remove_leftovers(folder, *(path for place in places for path in folder.glob(place)))
    protocol = Protocol(FLAGS.num_samples, FLAGS.importance_samples, FLAGS.limit)
    extra = _named(FLAGS.extractor, FLAGS.weights)
    seeds = [_number(seed) for seed in FLAGS.seeds]
    data_dir = os.path.abspath(os.path.expanduser(FLAGS.data_dir)) if FLAGS.data_dir else None
    subjects = prepare(
        FLAGS.presets, seeds, folder, FLAGS.budget, FLAGS.set, FLAGS.reuse or (), data_dir
    )
    extractors = _networks(subjects[0].config.data.name, extra)
    subjects, failed = train_all(subjects, folder)
    scored = [s for subject in subjects for s in score(subject, protocol, extractors, folder)]
    _write(folder, subjects, scored, protocol, extractors, failed)


def _check_free(folder):
    if folder.is_file():
        raise FileExistsError(f"'{folder}' is a file. Choose another --output.")
    others = folder.is_dir() and not all(map(is_temporary, folder.iterdir()))
    if others and not (folder / "plan.json").is_file():
        raise FileExistsError(
            f"The folder '{folder}' holds files that do not belong to a comparison. They are kept: "
            "choose another --output."
        )


def _named(extractor, weights):
    if weights and not extractor:
        raise ValueError(
            f"--weights needs an --extractor. Received: --weights={weights!r} without one."
        )
    return features.get(extractor, weights) if extractor else None


def _networks(data, extra):
    """The zoo's own feature network for a data set, and a further one if the user names it."""
    own = features.for_dataset(data)
    extractors = [features.get(own)] if own else []
    return extractors if extra is None or extra.id == own else [*extractors, extra]


def _number(text):
    if not text.strip().isdecimal():
        raise ValueError(f"Expected seeds of 0 or more, as in --seeds=0,1,2. Received: {text!r}.")
    return int(text)


def _write(folder, subjects, scored, protocol, extractors, failed):
    data = training.load_data(subjects[0].run.read_config())
    height, width, channels = data.image_shape
    remarks = [f"Left out: {name}. {error}" for name, error in failed.items()]
    remarks += unranked(scored).values()
    if not extractors:
        remarks.append(
            f"The zoo has no feature network for '{data.name}', so distances in features, precision "
            f"and recall are missing. Name one with `--extractor`: {', '.join(features.names())}."
        )
    about = {
        "data": data.name,
        "sizes": dict(data.sizes),
        "images": f"{height}x{width}, {'grey' if channels == 1 else 'colour'}",
        "networks": [
            {"id": e.id, "dim": e.dim, "layer": e.layer, "train_data": e.train_data}
            for e in extractors
        ],
        "remarks": remarks,
        "command": _command(),
        "date": datetime.date.today().isoformat(),
        "machine": machine() | versions(),
    }
    curves = folder / "pictures" / "learning_curves.png"
    first = {s.preset: s for s in reversed(subjects)}  # The first seed that did not fail.
    of_first_seed = {name: first[name] for name in dict.fromkeys(s.preset for s in subjects)}
    pictures.compared_curves(
        {name: s.run.read_metrics() for name, s in of_first_seed.items()}, curves
    )
    of_seeds = ", ".join(map(str, sorted({s.seed for s in of_first_seed.values()})))
    rows = summary(scored)
    page = report.blocks(scored, rows, about, Picture(curves, f"Of seed {of_seeds}"), protocol)
    write_text(folder / "report.html", as_html(page))
    write_text(folder / "report.md", as_markdown(page, folder))
    places = {
        s.name: {
            # The comparison's own runs move with its folder.
            "path": os.path.abspath(s.run.path) if s.reused else f"runs/{s.name}",
            "command": s.command,
            "sha256": {x.checkpoint: x.file_sha256 for x in scored if x.subject is s},
        }
        for s in subjects
    }
    content = about | {
        "protocol": dataclasses.asdict(protocol),
        "models": rows,
        "runs": places,
        "failed": failed,
    }
    write_json(folder / "scores.json", content)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(csv_rows(scored))
    write_text(folder / "scores.csv", table.getvalue())
    print(f"The report: {folder / 'report.html'}")


def _command():
    words = [
        f"--{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name in _FLAGS_OF_THE_RESULT
        if FLAGS[name].present and (value := FLAGS[name].value) is not None
    ]
    words += [f"--set={setting}" for setting in FLAGS.set]
    words = ["python", "-m", "benchmarks.compare", *map(shlex.quote, words)]
    return " ".join([*words, "--output=comparison"])


def _define_flags() -> None:
    flags.DEFINE_list("presets", None, "Presets of one data set.", required=True)
    flags.DEFINE_list("seeds", ["0"], "The seeds that each preset is trained with.")
    flags.DEFINE_string("output", None, "Folder of the comparison.", required=True)
    flags.DEFINE_list("reuse", None, "Folders of finished runs to compare without new training.")
    flags.DEFINE_float(
        "budget",
        None,
        "Minutes for all training, without scoring. Default: the epochs of the presets.",
    )
    flags.DEFINE_multi_string("set", [], "key=value: a change to every preset. Repeatable.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set.")
    flags.DEFINE_integer("num_samples", 10_000, "Number of images to generate.", lower_bound=2)
    flags.DEFINE_integer(
        "importance_samples", 1000, "Number of draws for each likelihood.", lower_bound=1
    )
    flags.DEFINE_integer("limit", 1000, "Number of test images for likelihoods.", lower_bound=2)
    flags.DEFINE_string("extractor", None, "A further feature network, such as inception-clean.")
    flags.DEFINE_string("weights", None, "File with its weights.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
