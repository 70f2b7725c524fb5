"""What can be refused before a run spends time."""

from ml_collections import ConfigDict

from zoo import datasets, evaluation, features, metrics, presets
from zoo.config import look_up
from zoo.training.callbacks import DECAYS
from zoo.training.run import Run

# What may change when a run goes on: nothing that the finished epochs depend on.
_MAY_CHANGE = ("epochs", "data.data_dir", "strategy", "jit_compile", "steps_per_execution")


def check_unchanged(run: Run, config: ConfigDict) -> None:
    """Raises a ValueError if the run was begun with settings that its going on would change."""
    begun = run.read_config()
    # Where learning rates fall with the share of the epochs that is done, so do the finished ones.
    depends = () if begun.learning_rate_decay == "none" else ("epochs",)
    changed = presets.differences(begun, config)
    if fixed := [k for k in changed if k not in _MAY_CHANGE or k in depends]:
        raise ValueError(
            f"The run in '{run.path}' was begun with "
            + ", ".join(f"{path}={changed[path][0]!r}" for path in fixed)
            + ", which a resumed run keeps. Train anew in another --output."
        )


def check(config: ConfigDict) -> None:
    """Raises a sentence for values that no run can have, and for data that is known to be missing."""
    for name in ("batch_size", "epochs", "steps_per_execution"):
        if config[name] < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {config[name]}.")
    defaults = presets.defaults(config.builder)
    for name, value in config.model.items():
        counts = value if isinstance(value, tuple) else (value,)
        least = 0 if defaults[name] == 0 else 1  # An argument may be 0 that is so by default.
        if any(type(count) is int and count < least for count in counts):
            raise ValueError(f"`{name}` must be at least {least}. Received: {value}.")
    for player, optimizer in config.optimizers.items():
        if not optimizer.learning_rate > 0:
            raise ValueError(
                f"`optimizers.{player}.learning_rate` must be above 0. "
                f"Received: {optimizer.learning_rate}."
            )
    look_up(DECAYS, config.learning_rate_decay, "learning_rate_decay")
    if config.data.image_size is not None and config.data.image_size < 1:
        raise ValueError(f"`image_size` must be at least 1. Received: {config.data.image_size}.")
    if config.evaluation.every or config.evaluation.at:
        _check_evaluation(config)
    if config.data.seen_quadrants not in (None, 1, 2, 3):
        raise ValueError(
            "`seen_quadrants` must be None, or 1, 2 or 3 of the image's four. "
            f"Received: {config.data.seen_quadrants}."
        )
    datasets.check(config.data.name, config.data.data_dir)
    datasets.check_num_labels(config.data.num_labels)
    if config.model.get("first") == "":
        first, data = config.preset.replace("m1_m2_", "m1_"), config.data.name
        dataset = "" if data == presets.get(first).data.name else f" --dataset={data}"
        raise ValueError(
            f"The preset '{config.preset}' builds on a trained VAE, M1. Train one (python -m "
            f"trainers.train --preset={first}{dataset}), and name its folder: "
            f"--set first=runs/{first}. Received: first=''."
        )
    binary = config.data.binarize is not None or config.data.name == "binarized_mnist"
    if binary and config.model.get("likelihood") == "continuous_bernoulli":
        raise ValueError(
            "The likelihood 'continuous_bernoulli' is a density, which grows without bound on images "
            "of zeros and ones alone. Train on the grey images (--set binarize=None), or choose the "
            "likelihood 'bernoulli'."
        )
    if config.data.binarize is not None and config.data.binarize not in datasets.BINARIZATIONS:
        raise ValueError(
            f"`binarize` must be one of {', '.join(map(str, datasets.BINARIZATIONS))}. "
            f"Received: '{config.data.binarize}'."
        )


def _check_evaluation(config):
    settings = config.evaluation
    if settings.every < 0 or settings.num_samples < 2 or min(settings.at, default=1) < 1:
        raise ValueError(
            "`evaluation.every` must be at least 0, `evaluation.at` at least 1 each, and "
            f"`evaluation.num_samples` at least 2. Received: {settings.every}, {settings.at} "
            f"and {settings.num_samples}."
        )
    metric = look_up(evaluation.METRICS, settings.metric, "metric")
    if metric.gives[0] not in metrics.HIGHER_IS_BETTER:
        raise ValueError(
            f"The best model is chosen by a metric with a better end, one of "
            f"{', '.join(k for k, m in evaluation.METRICS.items() if _has_a_better_end(m))}. "
            f"Received: evaluation.metric='{settings.metric}'."
        )
    if metric.features:
        extractor_of(config)


def _has_a_better_end(metric):
    return metric.gives[0] in metrics.HIGHER_IS_BETTER


def extractor_of(config):
    name = config.evaluation.extractor or features.for_dataset(config.data.name)
    if name is None:
        raise ValueError(
            f"The zoo has no feature network for '{config.data.name}'. For "
            f"evaluation.metric='{config.evaluation.metric}' name another as evaluation.extractor: "
            f"{', '.join(features.names())}. Or choose a metric that needs none: "
            + ", ".join(
                key
                for key, metric in evaluation.METRICS.items()
                if _has_a_better_end(metric) and not metric.features
            )
            + "."
        )
    return features.get(name)
