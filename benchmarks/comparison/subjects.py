"""The compared runs: one for each preset and seed, trained within a budget unless reused."""

import dataclasses
import math
import os
import pathlib
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import keras
from ml_collections import ConfigDict

from benchmarks.tables.table import seconds_per_epoch
from zoo import features, presets, training
from zoo.evaluation import METRICS, Evaluation
from zoo.files import check_fields, read_json, write_json
from zoo.finite import NonFiniteError
from zoo.training import Run

# Settings in which a reused run may differ: where it was trained, not how.
_FREE_SETTINGS = ("data.data_dir", "strategy", "jit_compile", "steps_per_execution")
# Number of epochs at which a run is evaluated.
_EVALUATIONS = 5


@dataclasses.dataclass(frozen=True)
class Subject:
    """A preset trained with a seed.

    Attributes:
        preset: The name of the preset.
        seed: Seed of weights, order and noise.
        config: The configuration of the training.
        run: The folder of the run.
        reused: Whether the folder belongs to another training, so that nothing is written there.
    """

    preset: str
    seed: int
    config: ConfigDict
    run: Run
    reused: bool

    @property
    def name(self) -> str:
        """The name for files, such as "vae_mnist-seed-0"."""
        return f"{self.preset}-seed-{self.seed}"

    @property
    def command(self) -> str:
        """The command that repeats the training."""
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
    """A subject for each preset and seed. Checks all settings and does not train.

    Runs are evaluated at five epochs, so that there is a best model apart from the last one: by the
    Fréchet distance in the zoo's own features of the data set, or by the NLL if the zoo has none.
    `settings` may change this. Models that the metric does not apply to are not evaluated.

    Args:
        names: Presets, all of one data set.
        seeds: Seeds, the same for each preset.
        folder: The folder of the comparison. Its plan.json keeps the decisions, so that a killed
            comparison continues with them.
        minutes: Minutes for all training that remains. Each run gets an equal share, and at most
            the epochs of its preset; evaluations and scores are extra. `None` for the epochs of the
            presets.
        settings: "key=value" changes to every preset.
        reuse: Folders of finished runs, which replace those of the same preset and seed.
        data_dir: Folder of the data set.
        say: A function that prints a line.

    Raises:
        ValueError: If a preset, a setting or a folder does not fit the others, or if a run in
            `folder` was started with other settings.
        FileNotFoundError: If a folder to reuse has no run, or an unfinished one.
    """
    for what, received in (("preset", names), ("seed", seeds)):
        if not received or len(set(received)) < len(received):
            raise ValueError(
                f"Name each {what} once, and at least one. Received: {list(received)}."
            )
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"`budget` must be a number of minutes above 0. Received: {minutes}.")
    reused = _Reused(reuse)
    subjects = []
    for name in names:
        for seed in seeds:
            config = presets.get(name)
            presets.override(config, [*settings, f"seed={seed}"])
            config.data.data_dir = data_dir or config.data.data_dir
            training.check_config(config)
            found = reused.take(name, seed, config)
            own = Run(folder / "runs" / f"{name}-seed-{seed}")
            subjects.append(Subject(name, seed, config, found or own, found is not None))
    reused.check_all_taken()
    _check_alike(subjects)
    _decide(subjects, folder / "plan.json", minutes, list(settings), say)
    for subject in subjects:
        if not subject.reused and subject.run.exists:
            training.check_unchanged(subject.run, subject.config)
    return subjects


class _Reused:
    """Finished runs to reuse, by preset and seed."""

    def __init__(self, places):
        self.runs = {}
        for place in places:
            run = Run(place)
            config = run.read_config()
            if not _has_ended(run, config):
                raise FileNotFoundError(
                    f"The run in '{run.path}' is not finished and cannot be reused. Finish it: python "
                    f"-m trainers.train --resume --output={run.path}"
                )
            key = config.preset, config.seed
            if key in self.runs:
                raise ValueError(
                    f"Name one run to reuse for each preset and seed. Received: '{self.runs[key].path}' "
                    f"and '{run.path}', both of '{key[0]}' with seed {key[1]}."
                )
            self.runs[key] = run
        self.left = dict(self.runs)

    def take(self, preset, seed, config):
        run = self.left.pop((preset, seed), None)
        if run is None:
            return None
        changed = presets.differences(config, run.read_config())
        # Any number of epochs and any evaluations are accepted.
        fixed = {
            key: values
            for key, values in changed.items()
            if key not in (*_FREE_SETTINGS, "epochs", "about") and not key.startswith("evaluation.")
        }
        if fixed:
            raise ValueError(
                f"The run in '{run.path}' has other settings than preset '{preset}' in this comparison: "
                + ", ".join(f"{k} is {b}, here {a}" for k, (a, b) in sorted(fixed.items()))
                + ". Remove it from --reuse, or use the same settings with --set."
            )
        return run

    def check_all_taken(self):
        if self.left:
            raise ValueError(
                "Runs to reuse must have a preset and seed of the comparison. Received: "
                + ", ".join(f"'{run.path}', {p} with seed {s}" for (p, s), run in self.left.items())
                + "."
            )


def _has_ended(run, config):
    # A run that continues still has the files of its earlier training.
    files = run.results_path, run.model_path
    return all(file.is_file() for file in files) and (run.read_results()["epochs"] >= config.epochs)


def _check_alike(subjects):
    first, *others = subjects
    for key in ("name", "image_size"):
        for other in others:
            a, b = first.config.data.get(key), other.config.data.get(key)
            if a != b:
                raise ValueError(
                    f"Models must be compared on the same images: data.{key} of '{first.preset}' is {a}, "
                    f"of '{other.preset}' {b}. Choose other presets, or --set=data.{key}=..."
                )


def _decide(subjects, path, minutes, settings, say):
    """Sets the epochs and evaluations of each config, and keeps them in plan.json."""
    about = {"budget_minutes": minutes, "settings": settings}
    plan = read_plan(path) if path.is_file() else about | {"epochs": {}}
    begun = {key: plan[key] for key in about}
    if begun != about and plan["epochs"]:
        raise ValueError(
            f"The comparison in '{path.parent}' was started with {begun}. Received: {about}. Use "
            "the former settings, or choose another --output."
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
            except NonFiniteError as error:  # A loss diverged in the first steps.
                plan.setdefault("failed", {})[subject.name] = str(error)
        plan["epochs"][subject.name] = wanted
        say(f"{subject.name}: {wanted} epochs")
        keras.backend.clear_session()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plan)
    lacking = {}
    for subject in subjects:
        if not subject.reused:
            subject.config.epochs = plan["epochs"][subject.name]
            _set_evaluations(subject.config)
            if subject.preset not in lacking:
                lacking[subject.preset] = _lacks_its_metric(subject.config)
            if lacking[subject.preset]:
                subject.config.evaluation.every, subject.config.evaluation.at = 0, ()


def read_plan(path: pathlib.Path) -> dict[str, Any]:
    """The content of plan.json.

    Raises:
        ValueError: If the file does not hold the decisions of a comparison.
    """
    fields = {"budget_minutes": (int, float, type(None)), "settings": list, "epochs": dict}
    plan = read_json(path, fields)
    for part, types in (("epochs", int), ("failed", str)):
        if part in plan:
            check_fields(plan, {part: dict}, f"in '{path}'")
            check_fields(plan[part], dict.fromkeys(plan[part], types), f"in '{part}' in '{path}'")
    return plan


def _set_evaluations(config):
    chosen = config.evaluation
    if chosen.every or chosen.at:
        return
    if METRICS[chosen.metric].features and _network(config) is None:
        chosen.metric = "nll"
    points = range(1, _EVALUATIONS + 1)
    chosen.at = tuple(sorted({max(1, config.epochs * i // _EVALUATIONS) for i in points}))


def _network(config):
    return config.evaluation.extractor or features.for_dataset(config.data.name)


def _lacks_its_metric(config):
    """Whether the metric that chooses the best model does not apply to the preset's model."""
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
    """Trains the untrained subjects. A failed training does not end the comparison.

    A failed training is not repeated: continued from an earlier checkpoint, it would not be the
    training that the settings describe.

    Args:
        subjects: What `prepare` returns.
        folder: The folder of the comparison. Its plan.json keeps the failures.
        say: A function that prints a line.

    Returns:
        The trained subjects, and the errors of the other subjects by name. An error says what
        became NaN or infinite.

    Raises:
        zoo.NonFiniteError: If all trainings failed.
    """
    plan = read_plan(folder / "plan.json")
    failed = plan.setdefault("failed", {})
    for subject in subjects:
        try:
            if subject.name not in failed:
                train(subject, say)
        except NonFiniteError as error:
            failed[subject.name] = str(error)
            write_json(folder / "plan.json", plan)
            keras.backend.clear_session()
        if subject.name in failed:
            say(f"{subject.name}: left out. {failed[subject.name]}")
    trained = [subject for subject in subjects if subject.name not in failed]
    if not trained:
        raise NonFiniteError(" ".join(f"{name}: {error}" for name, error in failed.items()))
    return trained, failed


def train(subject: Subject, say: Callable[[str], None] = print) -> None:
    """Trains a subject, or continues its interrupted training. A finished run does not change."""
    if subject.reused:
        return
    begun = subject.run.exists
    if begun and _has_ended(subject.run, subject.config):
        return
    say(f"{subject.name}: training{' continues' if begun else ''}")
    training.train(subject.config, subject.run, resume=begun, progress=False, say=lambda line: None)
    keras.backend.clear_session()
