"""The content of the report: its sections, tables and texts."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import zoo
from benchmarks.comparison.page import (
    Block,
    Cell,
    Code,
    Heading,
    Items,
    Picture,
    Pictures,
    Table,
    Text,
)
from benchmarks.comparison.scores import Protocol, Scored
from zoo import presets
from zoo.evaluation import HIGHER_IS_BETTER, METRICS

_SECTIONS = (
    (
        "Samples",
        "samples",
        "A hundred samples of each model, from latents of the same seed: the means of p(x | z), or "
        "the images of the generator. They are not selected.",
    ),
    (
        "Reconstructions",
        "reconstructions",
        "Rows of the same test images, as each model takes them, and below each row their "
        "reconstructions.",
    ),
    (
        "Interpolations between latents",
        "interpolations",
        "Ten points between two draws of the prior, with the same seed for all models: on the "
        "straight line and, below it, on the arc. Four pairs.",
    ),
    (
        "Interpolations between test images",
        "interpolations_images",
        "Ten points between the codes of two test images, the same for all models; the images are on "
        "the left and on the right. Four pairs.",
    ),
    (
        "Latents",
        "latents",
        "The codes of at most 2,000 test images, coloured by class, over draws of the prior in grey. "
        "Codes of more than two dimensions are projected onto their first two principal components.",
    ),
    (
        "Nearest training images",
        "neighbours",
        "Ten samples, each followed by the training images nearest to it in pixels, which shows "
        "whether it is a copy.",
    ),
)


_FURTHER = (
    "Pictures of some models only: walks along each part of a prior, test images by category, "
    "attributes added and removed, completions."
)


def blocks(
    scored: Sequence[Scored],
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    curves: Picture,
    protocol: Protocol,
) -> list[Block]:
    """The blocks of the page.

    Args:
        scored: The scored models, in the order of the presets.
        rows: Their summary.
        about: "data", "sizes", "images", "networks", "remarks", "command", "date", "machine".
        curves: The learning curves of all models.
        protocol: The settings of the scores.
    """
    names = list(dict.fromkeys(s.subject.preset for s in scored))
    page: list[Block] = [
        Heading(f"{', '.join(names)} on {about['data']}", 1),
        Heading("Scores"),
        _table(rows),
        Items(list(_remarks(rows, about, protocol))),
        Heading("Learning curves"),
        Text(
            "Training solid, validation dashed; a panel shows one quantity of all models that have "
            "it. Losses of different objectives are not comparable, even under one name."
        ),
        Pictures([curves], wide=True),
    ]
    of_first_seed = _of_first_seed(scored)
    seeds = {s.subject.preset: s.subject.seed for s in of_first_seed}
    if len(set(seeds.values())) > 1:
        pairs = ", ".join(f"{name} with seed {seed}" for name, seed in seeds.items())
        page.append(Text(f"Pictures are of {pairs}."))
    for title, kind, words in _SECTIONS:
        found = [Picture(s.pictures[kind], _label(s)) for s in of_first_seed if kind in s.pictures]
        having = {s.subject.preset for s in of_first_seed if kind in s.pictures}
        page += [Heading(title), Text(words)]
        if without := [name for name in names if name not in having]:
            page.append(Text(f"Not available for {', '.join(without)}."))
        if found:
            page.append(Pictures(found))
    known = {kind for _, kind, _ in _SECTIONS}
    further = [
        Picture(path, f"{kind.replace('_', ' ').capitalize()} of {_label(s)}")
        for s in of_first_seed
        for kind, path in s.pictures.items()
        if kind not in known
    ]
    if further:
        page += [Heading("Further pictures"), Text(_FURTHER), Pictures(further)]
    page.append(Heading("Models"))
    for name in names:
        members = [s for s in scored if s.subject.preset == name and s.checkpoint == "last"]
        page += _model(name, members)
    page += [
        Heading("How this page was made"),
        Code(about["command"]),
        Items([f"{key}: {value}" for key, value in about["machine"].items()]),
        Text(f"Written on {about['date']}."),
    ]
    return page


def _of_first_seed(scored):
    """The first seed of each preset, last and best."""
    first = {}
    for s in scored:
        first.setdefault(s.subject.preset, s.subject.seed)
    return [s for s in scored if s.subject.seed == first[s.subject.preset]]


def _label(s):
    return f"{s.subject.preset}, {s.checkpoint} model (epoch {s.epoch})"


def _table(rows):
    columns = {name: found for row in rows for name, found in row["metrics"].items()}
    has_bits = any(m["bits"] is not None for row in rows for m in row["metrics"].values())
    header = ["model", "epochs"]
    for name, found in columns.items():
        end = {None: "", True: "\u00a0↑", False: "\u00a0↓"}[HIGHER_IS_BETTER.get(found["kind"])]
        header.append(Cell(name.partition("[")[0] + end, remark=found["network"] or ""))
        if has_bits and name == "nll":
            header.append("bits per value\u00a0↓")
    header += ["parameters", "training,\u00a0s", "images/s"]
    lines = []
    for row in rows:
        both = row["checkpoint"] == "last" and _best_is_last(row, rows)
        line = [
            f"{row['preset']}, {'last and best' if both else row['checkpoint']}{_of_seeds(row, rows)}",
            "/".join(map(str, dict.fromkeys(row["epochs"]))),
        ]
        for name in columns:
            found = row["metrics"].get(name)
            line.append(_cell(found))
            if has_bits and name == "nll":
                bits = found and found["bits"]
                line.append("" if bits is None else f"{bits:.4f}")
        line.append(f"{row['parameters']:,}")
        line += [
            "" if number is None else f"{number:,.0f}"
            for number in (row["seconds"], row["images_per_second"])
        ]
        lines.append(line)
    floors = ["other real images", ""]
    for name in columns:
        found = [row["metrics"][name]["floor"] for row in rows if name in row["metrics"]]
        values = {_number(floor) for floor in found if floor is not None}
        floors.append(values.pop() if len(values) == 1 else "")
        if has_bits and name == "nll":
            floors.append("")
    return Table(header, [*lines, [*floors, "", "", ""]])


def _of_seeds(row, rows):
    """The seeds of a row, if not all rows have the same ones."""
    if all(other["seeds"] == row["seeds"] for other in rows):
        return ""
    several = "s" if len(row["seeds"]) > 1 else ""
    return f", seed{several} {', '.join(map(str, row['seeds']))}"


def _best_is_last(row, rows):
    return row["has_best"] and sum(other["preset"] == row["preset"] for other in rows) == 1


def _cell(found):
    if found is None:
        return ""
    if found["value"] is None:
        return Cell("-", remark=found["error"] or "")
    text = _number(found["value"])
    error = found["spread"] if found["spread"] is not None else found["stderr"]
    if error is not None:
        text += f" ±\u00a0{_number(error, 2)}"
    remark = ""
    if found["few"]:
        remark = f"few images: {min(found['n_real'], found['n_fake']):,}"
        if found["floor"] is not None:
            remark += f"; {found['n_floor']:,} other real ones: {_number(found['floor'])}"
    return Cell(text, found["best"], remark)


def _number(value, digits=4):
    if value is None:
        return ""
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"


def _remarks(rows, about, protocol):
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    yield (
        f"{about['data']}: {about['sizes']['train']:,} training, {about['sizes']['validation']:,} "
        f"validation and {about['sizes']['test']:,} test images of {about['images']}. Scores are on "
        "the test images; no choice was based on them. The best model is the one with the best value "
        "on validation images among the evaluated epochs; it may be the last model."
    )
    if without := list(dict.fromkeys(r["preset"] for r in rows if not r["has_best"])):
        yield (
            f"Not evaluated during training, so without a best model: {', '.join(without)}. If the "
            "zoo has no feature network for the data, name one: `--set=evaluation.extractor=...`."
        )
    found = [value for row in rows for value in row["metrics"].values()]
    kinds = {value["kind"] for value in found}
    about_columns = [
        f"{key}: {METRICS[key].about}"
        for key in ("fid", "kid", "copying", "nll", "psnr")
        if key in kinds
    ]
    yield (
        "↑ marks metrics where higher is better, ↓ those where lower is better. Other real images are "
        f"validation images in place of samples. {' '.join(about_columns)}"
    )
    if any(value["few"] for value in found):
        yield (
            "Few images: a Fréchet distance of fewer images than ten times the features is large "
            "because of their number alone. Compare it with that of other real images, next to it."
        )
    yield (
        f"{protocol.num_samples:,} samples of each model against all test images, in 8 bits; NLL of "
        f"the first {protocol.limit:,} test images with {protocol.importance_samples:,} importance "
        "samples, in nats per image, of the images as the model takes them. Likelihoods of binary "
        "images and of grey images are not comparable."
    )
    yield from about["remarks"]
    yield (
        "Training times are wall time and include validation, checkpoints, pictures and evaluations. "
        "For an interrupted run the rate of its last part is used for all epochs. Images per second "
        "count only the training steps."
    )
    if len(seeds) > 1:
        yield (
            f"Means over the seeds {', '.join(map(str, seeds))}, or over those that the row names; ± "
            "is their standard deviation. Times are means."
        )
    else:
        yield f"One seed, {seeds[0]}; ± is the standard error of the score for this one model."
    for network in about["networks"]:
        yield (
            f"Features: {network['id']}, {network['dim']} of {network['layer']}; trained on "
            f"{network['train_data']}. Distances in features of different networks are not "
            "comparable."
        )
    for row in rows:
        for name, found in row["metrics"].items():
            if found["error"]:
                yield f"{name} of {row['preset']}, {row['checkpoint']}: {found['error']}"


def _model(name, members):
    config = members[0].subject.run.read_config()
    cls = getattr(zoo, members[0].subject.run.read_results()["model"])
    settings = presets.to_dict(config)
    return [
        Heading(name, 3),
        Text(f"`zoo.{cls.__name__}`: {config.about}"),
        Text(f"Objective: {objective(cls)}"),
        Text(f"Reference: {reference(cls)}"),
        Text("Settings: " + _settings(settings["model"] | {"optimizers": settings["optimizers"]})),
        Text(
            f"Batches of {config.batch_size}, {config.epochs} epochs"
            + (f", binarised ({config.data.binarize})" if config.data.binarize else "")
            + "."
        ),
        Code("\n".join(member.subject.command for member in members)),
    ]


def _settings(settings):
    return ", ".join(f"{key}={value}" for key, value in _flat(settings))


def _flat(settings, prefix=""):
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def objective(cls: type) -> str:
    """The first paragraph of the docstring of a model's class."""
    return " ".join(inspect.getdoc(cls).split("\n\n")[0].split())


def reference(cls: type) -> str:
    """The first reference in the file of a model's class, with its address."""
    paragraphs = inspect.getmodule(cls).__doc__.split("\n\n")
    text = " ".join(next(p for p in paragraphs if "http" in p).split())
    return re.match(r".*?https?://\S+", text).group()
