"""The report: what is on the page, in which order, in which words."""

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
from benchmarks.comparison.scores import Protocol, Scored, ranks
from zoo import presets

_SECTIONS = (
    (
        "Samples",
        ("samples",),
        "A hundred draws of each model, all from latents of the same seed: what p(x | z) has as its "
        "mean, or what the generator makes. None was chosen.",
    ),
    (
        "Reconstructions",
        ("reconstructions",),
        "Rows of the same test images, as each model takes them, and below each row what the model "
        "makes of their codes.",
    ),
    (
        "Interpolations between latents",
        ("interpolations",),
        "Ten points between two draws of the prior, of the same seed for all models: the straight "
        "line and, below it, the arc.",
    ),
    (
        "Interpolations between test images",
        ("interpolations_images",),
        "Ten points between the codes of two test images, the same for all models; the images stand "
        "left and right.",
    ),
    (
        "Latents",
        ("latents",),
        "The codes of 2,000 test images by class, over draws of the prior in grey. More than two "
        "dimensions are shown by their two principal components.",
    ),
    (
        "Nearest training images",
        ("neighbours",),
        "Ten samples, each followed by the training images nearest to it in pixels: is it a copy?",
    ),
)


def blocks(
    scored: Sequence[Scored],
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    curves: Picture,
    protocol: Protocol,
) -> list[Block]:
    """The page.

    Args:
        scored: All that was scored, in the order of the presets.
        rows: Their summary.
        about: "data", "sizes", "images", "networks", "missing", "command", "date", "machine".
        curves: The learning curves of all.
        protocol: How everything was scored.
    """
    names = list(dict.fromkeys(s.subject.preset for s in scored))
    page: list[Block] = [
        Heading(f"{', '.join(names)} on {about['data']}", 1),
        Heading("Scores"),
        _table(rows),
        Items(list(_remarks(rows, about, protocol))),
        Heading("Learning curves"),
        Text(
            "Training solid, validation dashed; models that have a quantity share its panel. Losses "
            "of different objectives are no common measure, though they share a name."
        ),
        Pictures([curves], wide=True),
    ]
    shown = _shown(scored)
    for title, kinds, words in _SECTIONS:
        found = [
            Picture(s.pictures[kind], _label(s, shown))
            for s in shown
            for kind in kinds
            if kind in s.pictures
        ]
        without = [
            n
            for n in names
            if not any(n == s.subject.preset and set(kinds) & set(s.pictures) for s in shown)
        ]
        page += [Heading(title), Text(words)]
        if without:
            page.append(Text(f"Not to be had of {', '.join(without)}."))
        page.append(Pictures(found, wide=kinds[0].startswith("interpolations")))
    page.append(Heading("Models"))
    for name in names:
        members = [s for s in scored if s.subject.preset == name and s.checkpoint == "last"]
        page += _model(name, members)
    page += [
        Heading("How this page was made"),
        Code(about["command"]),
        Items([f"{key}: {value}" for key, value in about["machine"].items()]),
        Text(f"Made on {about['date']}."),
    ]
    return page


def _shown(scored):
    """The first seed of each preset, last and best."""
    first = {}
    for s in scored:
        first.setdefault(s.subject.preset, s.subject.seed)
    return [s for s in scored if s.subject.seed == first[s.subject.preset]]


def _label(s, shown):
    both = sum(other.subject.preset == s.subject.preset for other in shown) > 1
    if not both:
        return s.subject.preset
    return f"{s.subject.preset}, {s.checkpoint} model (epoch {s.epoch})"


def _columns(rows):
    return list(dict.fromkeys(name for row in rows for name in row["metrics"]))


def _table(rows):
    columns = _columns(rows)
    has_bits = any(m["bits"] is not None for row in rows for m in row["metrics"].values())
    header = ["model", "epochs"]
    for name in columns:
        header.append(name)
        if has_bits and name == "nll":
            header.append("bits per value")
    header += ["parameters", "training, s", "images/s"]
    best = {name: ranks(rows, name) for name in columns}
    lines = []
    for i, row in enumerate(rows):
        line = [
            f"{row['preset']}, {row['checkpoint']}",
            "/".join(map(str, dict.fromkeys(row["epochs"]))),
        ]
        for name in columns:
            found = row["metrics"].get(name)
            line.append(_cell(found, i in best[name]))
            if has_bits and name == "nll":
                bits = found and found["bits"]
                line.append("" if bits is None else f"{bits:.4f}")
        rate = row["images_per_second"]
        line += [f"{row['parameters']:,}", f"{row['seconds']:.0f}"]
        line.append("" if rate is None else f"{rate:,.0f}")
        lines.append(line)
    floors = ["other real images", ""]
    for name in columns:
        values = {_number(row["metrics"][name]["floor"]) for row in rows if name in row["metrics"]}
        floors.append(values.pop() if len(values) == 1 else "")
        if has_bits and name == "nll":
            floors.append("")
    return Table(header, [*lines, [*floors, "", "", ""]])


def _cell(found, best):
    if found is None:
        return ""
    if found["value"] is None:
        return Cell("-", remark=found["error"] or "")
    text = _number(found["value"])
    error = found["spread"] if found["spread"] is not None else found["stderr"]
    if error is not None:
        text += f" ± {_number(error, 2)}"
    remark = ""
    if found["kind"] == "fid" and "fewer than ten times" in (found["warning"] or ""):
        remark = (
            f"few images ({min(found['n_real'], found['n_fake']):,}); other real images at that "
            f"number: {_number(found['floor'])}"
        )
    return Cell(text, best, remark)


def _number(value, digits=4):
    if value is None:
        return ""
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"


def _remarks(rows, about, protocol):
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    yield (
        f"{about['data']}: {about['sizes']['train']:,} training, {about['sizes']['validation']:,} "
        f"validation and {about['sizes']['test']:,} test images of {about['images']}. Scores are on "
        "the test images; nothing was chosen by them. The best model is the one of the evaluated "
        "epochs with the best value on validation images."
    )
    yield (
        f"{protocol.num_samples:,} samples of each model against all test images, in 8 bits; NLL of "
        f"the first {protocol.limit:,} test images with {protocol.importance_samples:,} importance "
        "samples, in nats per image, of those images that the model is trained on: binary and grey "
        "ones have likelihoods that are not to be compared."
    )
    if len(seeds) > 1:
        yield (
            f"Means over the seeds {', '.join(map(str, seeds))}; ± is their standard deviation. "
            "Times are means."
        )
    else:
        yield f"One seed, {seeds[0]}; ± is a standard error of the score alone."
    for network in about["networks"]:
        yield (
            f"Features: {network['id']}, {network['dim']} of {network['layer']}; trained on "
            f"{network['train_data']}. Distances in features of different networks are not to be "
            "compared."
        )
    yield from about["missing"]
    for row in rows:
        for name, found in row["metrics"].items():
            if found["error"]:
                yield f"{name} of {row['preset']}, {row['checkpoint']}: {found['error']}"


def _model(name, members):
    config = members[0].subject.run.read_config()
    cls = getattr(zoo, members[0].results[0].sampling["model"])
    settings = presets.to_dict(config)
    return [
        Heading(name, 3),
        Text(f"{cls.__name__}. {config.about}"),
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
    """What a model's class says of itself in its first sentence."""
    return " ".join(inspect.getdoc(cls).split("\n\n")[0].split())


def reference(cls: type) -> str:
    """The first reference in the file of a model's class, with its address."""
    paragraphs = inspect.getmodule(cls).__doc__.split("\n\n")
    text = " ".join(next(p for p in paragraphs if "http" in p).split())
    return re.match(r".*?https?://\S+", text).group()
