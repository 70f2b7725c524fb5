"""Checks of settings, data and models before training starts."""

from ml_collections import ConfigDict

from zoo import conditions, datasets, evaluation, features, presets
from zoo.config import look_up
from zoo.datasets import ImageData, masks
from zoo.features import Extractor
from zoo.model import GenerativeModel
from zoo.training.callbacks import DECAYS
from zoo.training.run import Run

# A resumed run may change these settings, because the finished epochs do not depend on them.
_MAY_CHANGE = ("epochs", "data.data_dir", "strategy", "jit_compile", "steps_per_execution")


def check_unchanged(run: Run, config: ConfigDict) -> None:
    """Checks that `config` continues the run in a folder.

    Raises:
        ValueError: If a setting that the finished epochs depend on has changed.
    """
    begun = run.read_config()
    # The decay of learning rates is a function of the number of epochs.
    fixed = () if begun.learning_rate_decay == "none" else ("epochs",)
    changed = presets.differences(begun, config)
    if masks.same_file(*changed.get("data.seen", (None, None))):  # The run has a copy of the mask.
        del changed["data.seen"]
    if changed_anyway := [k for k in changed if k not in _MAY_CHANGE or k in fixed]:
        raise ValueError(
            f"The run in '{run.path}' was started with "
            + ", ".join(f"{path}={changed[path][0]!r}" for path in changed_anyway)
            + ", and a resumed run keeps these settings. Choose another --output for a new run."
        )


def check_config(config: ConfigDict) -> None:
    """Checks the values of a configuration, without reading images or building a model.

    `check_model` and `check_data` check the model and the images.

    Raises:
        ValueError: If a value is out of range, or a name is unknown.
        zoo.datasets.DatasetNotFound: If the folder of images is missing or empty.
    """
    for name in ("batch_size", "epochs", "steps_per_execution"):
        if config[name] < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {config[name]}.")
    defaults = presets.defaults(config.builder)
    for name, value in config.model.items():
        counts = value if isinstance(value, tuple) else (value,)
        least = 0 if defaults[name] == 0 else 1  # An option whose default is 0 may be 0.
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
    if config.data.seen is not None:
        masks.check_seen(config.data.seen)
    if config.data.binarize is not None and config.data.binarize not in datasets.BINARIZATIONS:
        raise ValueError(
            f"`binarize` must be one of {', '.join(map(str, datasets.BINARIZATIONS))}. "
            f"Received: '{config.data.binarize}'."
        )
    datasets.check(config.data.name, config.data.data_dir)
    datasets.check_num_labels(config.data.num_labels)


def check_model(model: GenerativeModel, config: ConfigDict, levels: int = 256) -> None:
    """Checks that a configuration's model can be trained on the configuration's images.

    Args:
        model: The model that `zoo.presets.build` returns for `config`.
        config: The configuration.
        levels: Number of grey levels of the data set.

    Raises:
        ValueError: If the model needs another trained model that `config` does not name, or if its
            likelihood has no maximum on binary images.
    """
    for option, builder in model.requires.items():
        if not config.model[option]:
            raise ValueError(_requirement(config, option, builder))
    likelihood = getattr(model, "likelihood", None)
    if likelihood is not None:
        likelihood.family.check_data(binary=levels == 2 or config.data.binarize is not None)


def _requirement(config, option, builder):
    """The message that says how to train the model that `option` must name."""
    own_data = presets.get(config.preset).data.name
    name = f"{builder}_{own_data}"
    dataset = "" if config.data.name == own_data else f" --dataset={config.data.name}"
    return (
        f"The preset '{config.preset}' builds on a trained model. Train it (python -m "
        f"trainers.train --preset={name}{dataset}) and name its folder: "
        f"--set {option}=runs/{name}. Received: {option}=None."
    )


def check_data(model: GenerativeModel, data: ImageData, batch_size: int, replicas: int = 1) -> None:
    """Checks that a model can be trained on a loaded data set.

    Raises:
        ValueError: If the data set's `y` is not what the model reads, if the training set is
            smaller than a batch, or if the model needs whole groups and the data set has none or a
            replica would not get whole groups.
    """
    conditions.check(model, data)
    if data.steps_per_epoch(batch_size) < 1:
        raise ValueError(
            f"A batch of {batch_size} is larger than the training set of "
            f"{data.sizes['train']} images. Choose a smaller --batch_size."
        )
    if model.grouped_batches:
        data.check_groups(batch_size, replicas)


def extractor_of(config: ConfigDict) -> Extractor:
    """The feature network of a configuration's evaluations.

    Raises:
        ValueError: If the configuration names no network and the zoo has none for the data set.
        zoo.features.WeightsNotFound: If the weights of the network are not installed.
    """
    name = config.evaluation.extractor or features.for_dataset(config.data.name)
    if name is None:
        without = ", ".join(
            k for k, m in evaluation.METRICS.items() if m.has_better_end and not m.features
        )
        raise ValueError(
            f"The zoo has no feature network for '{config.data.name}'. For "
            f"evaluation.metric='{config.evaluation.metric}' choose one as evaluation.extractor: "
            f"{', '.join(features.names())}. Or choose a metric that needs none: {without}."
        )
    return features.get(name)


def _check_evaluation(config):
    settings = config.evaluation
    if settings.every < 0 or settings.num_samples < 2 or min(settings.at, default=1) < 1:
        raise ValueError(
            "`evaluation.every` must be at least 0, `evaluation.at` at least 1 each, and "
            f"`evaluation.num_samples` at least 2. Received: {settings.every}, {settings.at} "
            f"and {settings.num_samples}."
        )
    metric = look_up(evaluation.METRICS, settings.metric, "metric")
    if not metric.has_better_end:
        raise ValueError(
            "`evaluation.metric` chooses the best model, so it must be a metric for which higher or "
            f"lower is better: {', '.join(k for k, m in evaluation.METRICS.items() if m.has_better_end)}. "
            f"Received: evaluation.metric='{settings.metric}'."
        )
    if metric.features:
        extractor_of(config)
