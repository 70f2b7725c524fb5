"""Packs trained weights and their cards from the models of a comparison, to ship with the zoo.

python -m benchmarks.release.pack --comparison=DIR [--presets=...] [--output=zoo/weights]

For each preset it packs the best model of the first seed, or the last model if it is the best or if
no epoch was evaluated. The effect of float16 is measured and documented in the card.
"""

import dataclasses
import datetime
import os
import pathlib
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from absl import flags

import zoo
from benchmarks.comparison import report
from benchmarks.comparison.page import Cell, Table, as_markdown
from trainers import cli
from zoo import features, presets, pretrained, training
from zoo.config import look_up
from zoo.datasets import ImageData
from zoo.evaluation import METRICS, Evaluation, Result
from zoo.files import read_json, write_json
from zoo.model import GenerativeModel
from zoo.training import Run

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A model to pack.

    Attributes:
        preset: The name of the preset.
        row: Its row in scores.json.
        run: The folder of its run.
        command: The command that repeats the training.
        checkpoint: "last" or "best".
    """

    preset: str
    row: Mapping[str, Any]
    run: Run
    command: str
    checkpoint: str


def main() -> None:
    folder = pathlib.Path(os.path.expanduser(FLAGS.comparison))
    output = pathlib.Path(os.path.expanduser(FLAGS.output)) if FLAGS.output else pretrained.SHIPPED
    scores = _read(folder)
    chosen = choose(folder, scores, FLAGS.presets)
    output.mkdir(parents=True, exist_ok=True)
    for one in chosen:
        print(pack(one, scores, folder / "features", output), flush=True)
        keras.backend.clear_session()


def _read(folder):
    if not (folder / "plan.json").is_file():
        raise FileNotFoundError(
            f"There is no comparison in '{folder}': it has no plan.json. Name the --output of `python "
            "-m benchmarks.compare`."
        )
    path = folder / "scores.json"
    scores = read_json(path) if path.is_file() else {}
    if "runs" not in scores:
        raise FileNotFoundError(
            f"The comparison in '{folder}' is not finished: it has no scores.json with the places of "
            "its runs. Run its command again to continue it."
        )
    return scores


def choose(
    folder: pathlib.Path, scores: Mapping[str, Any], names: Sequence[str] | None = None
) -> list[Chosen]:
    """The best model of the first trained seed of each preset. Checks the models; writes nothing.

    Args:
        folder: The folder of the comparison.
        scores: The content of its scores.json.
        names: Names of presets; `None` for all of them.

    Raises:
        FileNotFoundError: If a run is missing.
        ValueError: If a preset is not in the comparison, or if a model has changed since it was
            scored, or cannot be packed.
    """
    # The row of the best model follows that of the last one, and replaces it.
    rows = {row["preset"]: row for row in scores["models"]}
    for name in rows:  # The names become file names.
        look_up(presets.PRESETS, name, "preset")
    wanted = names or list(rows)
    return [_chosen(folder, scores, look_up(rows, name, "preset here")) for name in wanted]


def _chosen(folder, scores, row):
    name = f"{row['preset']}-seed-{row['seeds'][0]}"
    place = scores["runs"][name]
    run = Run(folder / place["path"])
    config = run.read_config()
    pretrained.check_storable(config)
    # If the last model of a seed is its best, the row of the best has the last epoch.
    is_last = row["checkpoint"] == "last" or row["epochs"][0] == config.epochs
    checkpoint = "last" if is_last else "best"
    model = run.best_path if checkpoint == "best" else run.model_path
    scored = place["sha256"].get(checkpoint)
    if not model.is_file() or pretrained.sha256(model) != scored:
        raise ValueError(
            f"The scores of '{name}' are not those of '{model}', which has changed or is missing. Run "
            "the command of the comparison again."
        )
    return Chosen(row["preset"], row, run, place["command"], checkpoint)


def pack(one: Chosen, scores: Mapping[str, Any], cache: pathlib.Path, output: pathlib.Path) -> str:
    """Writes the weights and the card of a model, and adds it to index.json.

    Args:
        one: The model.
        scores: The content of scores.json.
        cache: Folder for features of real images.
        output: Folder for the files.

    Returns:
        A line that describes the result.
    """
    config = one.run.read_config()
    data = training.load_data(config)
    data.seed = 0  # As in the comparison.
    model = one.run.load_model(one.checkpoint)
    reason = _lacks_distance(model, data)
    path, distances = output / f"{one.preset}.npz", []
    with tempfile.TemporaryDirectory(dir=output, prefix=".") as workshop:
        new = pathlib.Path(workshop) / path.name
        with model.best_weights():
            wide = pretrained.save(model, config, data.image_shape, data.levels, new)
            if reason is None:
                distances.append(_distance(model, data, scores, cache))
        packed = pretrained.load(new)
        if reason is None:
            distances.append(_distance(packed, data, scores, cache))
        cost = reason or _cost(distances)
        card = new.with_suffix(".md")
        card.write_text(_card(one, scores, data, model, new, wide, cost), encoding="utf-8")
        entry = {"sha256": pretrained.sha256(new), "zoo": zoo.__version__}
        index = pretrained.read_index(output) | {one.preset: entry}
        _check_room(output, new)
        os.replace(new, path)
        os.replace(card, path.with_suffix(".md"))
        write_json(output / pretrained.INDEX, dict(sorted(index.items())))
    return (
        f"{one.preset}: {one.checkpoint} model, epoch {one.row['epochs'][0]}, "
        f"{one.row['parameters']:,} parameters, {path.stat().st_size / 1e6:.2f} MB; {cost}"
    )


def _check_room(output, new):
    """Raises a `ValueError` if the zoo's own folder would exceed its size limit."""
    if output.resolve() != pretrained.SHIPPED.resolve():
        return
    others = [path for path in output.glob("*.npz") if path.name != new.name]
    size = sum(path.stat().st_size for path in (*others, new))
    if size > pretrained.MOST_BYTES:
        raise ValueError(
            f"'{output}' is limited to {pretrained.MOST_BYTES / 1e6:.0f} MB, and would have "
            f"{size / 1e6:.0f} MB with '{new.name}'. Choose fewer --presets, or another --output."
        )


def _lacks_distance(model, data):
    """Why the model has no Fréchet distance, or `None` if it has one."""
    network = features.for_dataset(data.name)
    if network is None:
        return f"no distance: the zoo has no feature network for '{data.name}'"
    evaluation = Evaluation.of_model(model, data, extractor=features.get(network))
    lack = evaluation.lacks(METRICS["fid"])
    return lack and f"no distance: {lack}"


def _distance(model, data, scores, cache) -> Result:
    protocol = scores["protocol"]
    [result] = Evaluation.of_model(
        model,
        data,
        "test",
        protocol["num_samples"],
        features.get(features.for_dataset(data.name)),
        cache=cache,
        seed=protocol["seed"],
    ).run(["fid"])
    if result.value is None:
        raise ValueError(f"The Fréchet distance of the samples has no value: {result.error}")
    return result


def _cost(distances):
    whole, packed = distances
    return (
        f"{whole.metric} of {whole.n_fake:,} samples {whole.value:.4f} with float32, "
        f"{packed.value:.4f} with the file"
    )


def _card(
    one: Chosen,
    scores: Mapping[str, Any],
    data: ImageData,
    model: GenerativeModel,
    path: pathlib.Path,
    wide: list[str],
    cost: str,
) -> str:
    """The card of the weights in Markdown: their origin and their scores."""
    config, cls, row = one.run.read_config(), type(model), one.row
    versions = read_json(one.run.results_path)["versions"]
    trained_with = ", ".join(
        f"{key} {versions[key]}" for key in ("zoo", "python", "tensorflow", "keras")
    )
    seconds = "unknown" if row["seconds"] is None else f"{row['seconds']:,.0f} seconds"
    means = f", the mean over {len(row['seeds'])} seeds" if len(row["seeds"]) > 1 else ""
    binarised = f", binarised ({config.data.binarize})" if config.data.binarize else ""
    labels = f", {config.data.num_labels} of them with a label" if config.data.num_labels else ""
    date = datetime.date.fromtimestamp(one.run.results_path.stat().st_mtime).isoformat()
    failed = [t for name, t in scores["failed"].items() if name.startswith(f"{one.preset}-seed-")]
    left_out = "".join(f"\n| another seed failed | {text} |" for text in failed)
    averages = "; moving averages of the weights" if model.keeps_averages else ""
    kept = f" except for {len(wide)} arrays beyond its range, in float32" if wide else ""
    return f"""# {one.preset}

{config.about} Trained weights of a `zoo.{cls.__name__}`, for `zoo.from_preset("{one.preset}")`.

Objective: {report.objective(cls)}

Reference: {report.reference(cls)}

| | |
|---|---|
| file | `{path.name}`, {path.stat().st_size:,} bytes |
| SHA-256 of the file | `{pretrained.sha256(path)}` |
| parameters | {row["parameters"]:,} |
| precision | float16{kept}; batch statistics and other state float32 |
| effect of float16 | {cost} |
| trained on | {data.sizes["train"]:,} training images of {data.name}, \
{scores["images"]}{binarised}{labels} |
| held out | {data.sizes["validation"]:,} validation images, {data.sizes["test"]:,} test images |
| command | `{one.command}` |
| seed | {config.seed} |
| epochs | {_epochs(one, config)}{averages} |
| training time | {seconds}{means} |
| trained with | {trained_with}, on {versions["devices"]}, {date} |{left_out}

The same command gives other weights of about the same scores, because the order of sums on several
cores is not fixed.

## Scores

{textwrap.fill(_protocol(row, scores["protocol"]), 100)}

{_table(row)}

Distances in features are comparable only if the network is the same. They are not comparable with
published FIDs, which use another network.
"""


def _epochs(one, config):
    epoch = f"{one.row['epochs'][0]} of {config.epochs}"
    if not one.run.best_result_path.is_file():
        return f"{epoch}; none was evaluated during training"
    best = read_json(one.run.best_result_path)
    return f"{epoch}, the best of the evaluated ones on validation images by {best['metric']}"


def _protocol(row, protocol):
    text = f"{protocol['num_samples']:,} samples against all test images, in 8 bits. "
    if "nll" in row["metrics"]:
        text += (
            f"NLL of the first {protocol['limit']:,} test images with "
            f"{protocol['importance_samples']:,} importance samples, in nats per image, of the images "
            "as the model takes them. "
        )
    text += (
        "No choice was based on the test images. All scores are of the float32 weights. Other real "
        "images are validation images in place of samples. ± is the standard error of the score for "
        "this one model"
    )
    over_seeds = "; for means over seeds it is the standard deviation over them."
    return text + (over_seeds if len(row["seeds"]) > 1 else ".")


def _table(row):
    several = len(row["seeds"]) > 1
    over = [f"seeds {', '.join(map(str, row['seeds']))}"] if several else []
    lines = []
    for name, found in row["metrics"].items():
        mine = Cell(_number(found["values"][0], found["stderr"]), remark=found["error"] or "")
        means = [_number(found["value"], found["spread"])] if several else []
        lines.append([name, mine, *means, _number(found["floor"])])
    return as_markdown(
        [Table(["score", "this model", *over, "other real images"], lines)], "."
    ).rstrip()


def _number(value, error=None):
    if value is None:
        return "-"
    return f"{value:.4g}" + ("" if error is None else f" ± {error:.2g}")


def _define_flags() -> None:
    flags.DEFINE_string("comparison", None, "Folder of a finished comparison.", required=True)
    flags.DEFINE_list("presets", None, "Names of presets. Default: all of the comparison.")
    flags.DEFINE_string("output", None, "Folder for the files. Default: the zoo's own.")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
