"""Who is compared: a run for each preset and seed, trained if need be, within a budget."""

import dataclasses
import json
import math
import os
import pathlib
import shlex
from collections.abc import Callable, Sequence

import keras
from ml_collections import ConfigDict

from benchmarks.tables.table import seconds_per_epoch
from zoo import features, presets, runs, training
from zoo.evaluation import METRICS, Evaluation
from zoo.finite import NonFiniteError
from zoo.runs import Run

# What a run may have otherwise and still be the one that is asked for: where it was trained, not how.
_ANYHOW = ("data.data_dir", "strategy", "jit_compile", "steps_per_execution")
_ON_THE_WAY = 5


@dataclasses.dataclass(frozen=True)
class Subject:
    """A preset trained with a seed.

    Attributes:
        preset: Its name.
        seed: Of weights, order, noise.
        config: What it is, or is to be, trained with.
        run: Its folder.
        reused: Whether the folder is another's, in which nothing is written.
    """

    preset: str
    seed: int
    config: ConfigDict
    run: Run
    reused: bool

    @property
    def name(self) -> str:
        """For files: "vae_mnist-seed-0"."""
        return f"{self.preset}-seed-{self.seed}"

    @property
    def command(self) -> str:
        """What repeats the training on the command line."""
        config = self.run.read_config() if self.run.exists else self.config
        words = ["python", "-m", "trainers.train", f"--preset={self.preset}"]
        for path, (_, value) in presets.differences(presets.get(self.preset), config).items():
            if path in ("about", "data.data_dir"):
                continue
            flag = f"--{path}={value}" if path in ("seed", "epochs") else f"--set={path}={value}"
            words.append(shlex.quote(flag))
        return " ".join([*words, f"--output=runs/{self.name}"])


def prepare(
    names: Sequence[str],
    seeds: Sequence[int],
    folder: pathlib.Path,
    minutes: float | None = None,
    settings: Sequence[str] = (),
    reuse: Sequence[str | os.PathLike] = (),
    data_dir: str | None = None,
    say: Callable[[str], None] = print,
) -> list[Subject]:
    """A subject for each preset and seed. Trains nothing yet; finds what is wrong.

    Runs are evaluated at five epochs on the way, so that there is a best model beside the last, by
    the Fréchet distance in the zoo's own features of the data set; where the zoo has none, by the
    NLL. `settings` may say otherwise. Models that the metric cannot be had of are not evaluated.

    Args:
        names: Presets, of one data set.
        seeds: Of each preset.
        folder: Of the comparison. Its plan.json keeps what was decided, so that a killed comparison
            goes on as it was begun.
        minutes: For all training that is still to be done; each run gets an equal share of them, and
            no more epochs than its preset has. Evaluations on the way and scores come on top. `None`
            for the presets' epochs.
        settings: "key=value" changes to every preset.
        reuse: Folders of finished runs, which take the place of those with their preset and seed.
        data_dir: Where the data set lies.
        say: Called with each line of the report.

    Raises:
        ValueError: For a preset, a setting or a folder that does not fit the others; for a run in
            `folder` that was begun with other settings.
        FileNotFoundError: If a folder to reuse is none of a run, or of one that has not ended.
    """
    names = [presets.canonical(name) for name in names]
    for what, given in (("preset", names), ("seed", seeds)):
        if not given or len(set(given)) < len(given):
            raise ValueError(f"Name each {what} once, and at least one. Received: {list(given)}.")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"`budget` must be a number of minutes above 0. Received: {minutes}.")
    given = _Reused(reuse)
    subjects = []
    for name in names:
        for seed in seeds:
            config = presets.get(name)
            presets.override(config, [*settings, f"seed={seed}"])
            config.data.data_dir = data_dir or config.data.data_dir
            training.check(config)
            found = given.take(name, seed, config)
            own = Run(folder / "runs" / f"{name}-seed-{seed}")
            subjects.append(Subject(name, seed, config, found or own, found is not None))
    given.check_all_taken()
    _check_alike(subjects)
    _decide(subjects, folder / "plan.json", minutes, list(settings), say)
    for subject in subjects:
        if not subject.reused and subject.run.exists:
            training.check_unchanged(subject.run, subject.config)
    return subjects


class _Reused:
    """Finished runs, by preset and seed."""

    def __init__(self, places):
        self.runs = {}
        for place in places:
            run = Run(place)
            config = run.read_config()
            if not _has_ended(run, config):
                raise FileNotFoundError(
                    f"The run in '{run.path}' has not ended, and cannot be reused. Finish it: python "
                    f"-m trainers.train --resume --output={run.path}"
                )
            key = config.preset, config.seed
            if key in self.runs:
                raise ValueError(
                    f"Name one run to reuse for a preset and seed. Received: '{self.runs[key].path}' "
                    f"and '{run.path}', both of '{key[0]}' with seed {key[1]}."
                )
            self.runs[key] = run
        self.left = dict(self.runs)

    def take(self, preset, seed, config):
        run = self.left.pop((preset, seed), None)
        if run is None:
            return None
        changed = presets.differences(config, run.read_config())
        # It is as long as it is, and was evaluated as it was.
        fixed = {
            key: values
            for key, values in changed.items()
            if key not in (*_ANYHOW, "epochs", "about") and not key.startswith("evaluation.")
        }
        if fixed:
            raise ValueError(
                f"The run in '{run.path}' is not one of preset '{preset}' as it is compared here: "
                + ", ".join(f"{k} is {b}, here {a}" for k, (a, b) in sorted(fixed.items()))
                + ". Leave it out of --reuse, or give the same with --set."
            )
        return run

    def check_all_taken(self):
        if self.left:
            raise ValueError(
                "Runs to reuse are of the presets and seeds that are compared. Received: "
                + ", ".join(f"'{run.path}', {p} with seed {s}" for (p, s), run in self.left.items())
                + "."
            )


def _has_ended(run, config):
    # One that goes on still has the files of its earlier end.
    files = run.results, run.model
    return all(file.is_file() for file in files) and (
        json.loads(run.results.read_text())["epochs"] >= config.epochs
    )


def _check_alike(subjects):
    first, *others = subjects
    for key in ("name", "image_size"):
        for other in others:
            a, b = first.config.data.get(key), other.config.data.get(key)
            if a != b:
                raise ValueError(
                    f"Models are compared on the same images: data.{key} of '{first.preset}' is {a}, "
                    f"of '{other.preset}' {b}. Choose other presets, or --set=data.{key}=..."
                )


def _decide(subjects, path, minutes, settings, say):
    """Gives each config its epochs and its evaluations on the way; keeps them in plan.json."""
    about = {"budget_minutes": minutes, "settings": settings}
    plan = json.loads(path.read_text()) if path.is_file() else about | {"epochs": {}}
    begun = {key: plan[key] for key in about}
    if begun != about and plan["epochs"]:
        raise ValueError(
            f"The comparison in '{path.parent}' was begun with {begun}. Received: {about}. Go on "
            "with what it was begun with, or choose another --output."
        )
    new = [s for s in subjects if not s.reused and s.name not in plan["epochs"]]
    costs = {}
    for subject in new:
        wanted = subject.config.epochs
        if minutes is not None:
            share = 60 * minutes / len(new)
            try:
                if subject.preset not in costs:
                    costs[subject.preset] = seconds_per_epoch(subject.config)
                wanted = min(wanted, max(1, int(share / costs[subject.preset])))
            except NonFiniteError as error:  # Within the first steps.
                plan.setdefault("failed", {})[subject.name] = str(error)
        plan["epochs"][subject.name] = wanted
        say(f"{subject.name}: {wanted} epochs")
        keras.backend.clear_session()
    path.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(path, plan)
    lacking = {}
    for subject in subjects:
        if not subject.reused:
            subject.config.epochs = plan["epochs"][subject.name]
            _evaluate_on_the_way(subject.config)
            if subject.preset not in lacking:
                lacking[subject.preset] = _lacks_its_metric(subject.config)
            if lacking[subject.preset]:
                subject.config.evaluation.every, subject.config.evaluation.at = 0, ()


def _evaluate_on_the_way(config):
    chosen = config.evaluation
    if chosen.every or chosen.at:
        return
    if METRICS[chosen.metric].features and _network(config) is None:
        chosen.metric = "nll"
    points = range(1, _ON_THE_WAY + 1)
    chosen.at = tuple(sorted({max(1, config.epochs * i // _ON_THE_WAY) for i in points}))


def _network(config):
    return config.evaluation.extractor or features.for_dataset(config.data.name)


def _lacks_its_metric(config):
    """Whether the model that is best by a metric cannot be chosen, since it has no such value."""
    data = training.load_data(config)
    model = presets.build(config, data.image_shape, data.levels)
    metric = METRICS[config.evaluation.metric]
    extractor = features.get(_network(config)) if metric.features else None
    found = Evaluation.of_model(model, data, "validation", 2, extractor).lacks(metric)
    keras.backend.clear_session()
    return found is not None


def train_all(
    subjects: Sequence[Subject], folder: pathlib.Path, say: Callable[[str], None] = print
) -> tuple[list[Subject], dict[str, str]]:
    """Trains each that is not trained; one whose training fails does not end the comparison.

    It is not tried again, since a training that goes on from before it failed is no longer the one
    that was asked for.

    Args:
        subjects: What `prepare` returns.
        folder: The same as there. Its plan.json keeps what failed.
        say: Called with each line of the report.

    Returns:
        Those that are trained, and for each other one, by its name, what became NaN or infinite.

    Raises:
        zoo.NonFiniteError: If none is left.
    """
    plan = json.loads((folder / "plan.json").read_text())
    failed = plan.setdefault("failed", {})
    for subject in subjects:
        try:
            if subject.name not in failed:
                train(subject, say)
        except NonFiniteError as error:
            failed[subject.name] = str(error)
            runs.write_json(folder / "plan.json", plan)
            keras.backend.clear_session()
        if subject.name in failed:
            say(f"{subject.name}: left out. {failed[subject.name]}")
    trained = [subject for subject in subjects if subject.name not in failed]
    if not trained:
        raise NonFiniteError(" ".join(f"{name}: {error}" for name, error in failed.items()))
    return trained, failed


def train(subject: Subject, say: Callable[[str], None] = print) -> None:
    """Trains what is not trained yet; goes on with what was interrupted."""
    if subject.reused:
        return
    begun = subject.run.exists
    if begun and _has_ended(subject.run, subject.config):
        return
    say(f"{subject.name}: training{' goes on' if begun else ''}")
    training.train(subject.config, subject.run, resume=begun, progress=False, say=lambda line: None)
    keras.backend.clear_session()
