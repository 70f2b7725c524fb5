"""What `python -m trainers.train` does: a configuration becomes a run's folder."""

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict
from tqdm.keras import TqdmCallback

from zoo import conditions, datasets, evaluation, features, metrics, pictures, presets, strategies
from zoo.callbacks import (
    DECAYS,
    Checkpoints,
    EpochLines,
    KeepBest,
    LearningRateDecay,
    SampleGrids,
    TrainingTime,
)
from zoo.config import look_up
from zoo.datasets import ImageData
from zoo.model import GenerativeModel
from zoo.models.vaegan import VAEGAN, attribute_vectors
from zoo.runs import Run, versions, write_json


def train(
    config: ConfigDict,
    run: Run,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains a configuration's model, and fills the run's folder.

    All that can be known to be wrong is found before images are read and before the folder is made.

    Args:
        config: What `zoo.presets.get` returns, changed at will.
        run: Where everything goes.
        resume: Go on from the last checkpoint of the run in that folder.
        overwrite: Replace the run in that folder.
        progress: Whether to show a bar, or a line now and then where there is no terminal.
        say: Called with each line of the report.

    Returns:
        What results.json holds. Its `seconds` are of the epochs since `resumed_after`, with
        validation and all that goes on between them; `images_per_second` is of their steps, first
        compilation included.

    Raises:
        ValueError: For settings that do not fit together.
        FileExistsError: If the folder is in use, and neither resumed nor replaced.
        zoo.datasets.DatasetNotFound: If the data set is neither here nor to be had.
        zoo.NonFiniteError: If a loss becomes NaN or infinite. The last good checkpoint stays.
        zoo.strategies.WorkerLostError: If another worker of the cluster ended before its time.
    """
    if resume and run.exists:
        check_unchanged(run, config)
    check(config)
    strategy = strategies.make(config.strategy)
    chief = strategies.is_chief(strategy)
    if chief and not resume:
        run.check_free(overwrite)
    if strategy.num_replicas_in_sync > 1 and not isinstance(strategy, tf.distribute.TPUStrategy):
        if chief and (config.jit_compile or config.steps_per_execution > 1):
            say("Several replicas: each step is run by itself and without XLA.")
        config = ConfigDict(config)
        config.jit_compile, config.steps_per_execution = False, 1
    keras.utils.set_random_seed(config.seed)
    with (
        strategies.needing_all_workers(strategy),
        _determinism(config.deterministic),
        _precision(config.mixed_precision),
    ):
        form = datasets.expected(config.data.name, config.data.image_size)
        model = _build(config, strategy, *form) if form else None  # Finds what does not fit.
        data = load_data(config)
        if model is None:
            model = _build(config, strategy, data.image_shape, data.levels)
        conditions.check(model, data)
        with strategy.scope():
            model.adapt(data)
        steps = data.steps_per_epoch(config.batch_size)
        if steps < 1:
            raise ValueError(
                f"A batch of {config.batch_size} is larger than the training set of "
                f"{data.sizes['train']} images. Choose a smaller --batch_size."
            )
        # Keras finishes what it has begun: an epoch must be a whole number of executions.
        model.steps_per_execution = max(
            n for n in range(1, config.steps_per_execution + 1) if steps % n == 0
        )
        best = (
            [_keep_best(config, run, data, model, say)]
            if config.evaluation.every or config.evaluation.at
            else []
        )
        if chief and not resume:
            run.begin(config)
        return _train(config, run, strategy, data, model, steps, resume, progress, say, best)


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
    if not metric.has_better_end:
        raise ValueError(
            f"The best model is chosen by a metric with a better end, one of "
            f"{', '.join(k for k, m in evaluation.METRICS.items() if m.has_better_end)}. "
            f"Received: evaluation.metric='{settings.metric}'."
        )
    if metric.features:
        _extractor(config)


def _extractor(config):
    name = config.evaluation.extractor or features.for_dataset(config.data.name)
    if name is None:
        raise ValueError(
            f"The zoo has no feature network for '{config.data.name}'. For "
            f"evaluation.metric='{config.evaluation.metric}' name another as evaluation.extractor: "
            f"{', '.join(features.names())}. Or choose a metric that needs none: "
            + ", ".join(
                key
                for key, metric in evaluation.METRICS.items()
                if metric.has_better_end and not metric.features
            )
            + "."
        )
    return features.get(name)


def _keep_best(config, run, data, model, say):
    """The callback that evaluates on the way.

    Raises:
        ValueError: If the metric cannot be had of the model or the data.
    """
    settings = config.evaluation
    metric = evaluation.METRICS[settings.metric]
    extractor = _extractor(config) if metric.features else None

    def subject(model):
        return evaluation.Evaluation.of_model(
            model,
            data,
            "validation",
            settings.num_samples,
            extractor,
            cache=run.features,
            seed=config.seed,
            sampling={"run": str(run.path), "preset": config.preset, "model": type(model).__name__},
        )

    if reason := subject(model).lacks(metric):
        raise ValueError(f"evaluation.metric='{settings.metric}' has no value here. {reason}")
    name = extractor.name_of(metric.main_kind) if extractor else metric.main_kind
    return KeepBest(run, subject, settings.metric, name, settings.every, settings.at, say)


def _build(config, strategy, image_shape, levels):
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise ValueError(
            f"The batch is shared out evenly: `batch_size` must be a multiple of the {replicas} "
            f"replicas. Received: {config.batch_size}."
        )
    with strategy.scope():
        return presets.build(config, image_shape, levels)


@contextlib.contextmanager
def _determinism(wanted):
    if wanted:
        tf.config.experimental.enable_op_determinism()
    yield


@contextlib.contextmanager
def _precision(half):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16" if half else "float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def _train(config, run, strategy, data, model, steps, resume, progress, say, best):
    chief = strategies.is_chief(strategy)
    checkpoints = Checkpoints(run.checkpoints, write=chief)
    # Not unless asked: what lies there may be what the chief is about to replace.
    done = checkpoints.restore(model) if resume else 0
    if done > config.epochs:
        raise ValueError(
            f"The run in '{run.path}' is trained for {done} epochs already. "
            f"Received: --epochs={config.epochs}."
        )
    if done:
        say(f"Going on after epoch {done} of {config.epochs}.")
    rates = {player: optimizer.learning_rate for player, optimizer in config.optimizers.items()}
    training_time = TrainingTime()
    callbacks = [training_time, LearningRateDecay(config.learning_rate_decay, rates)]
    if chief:
        run.write_config(config)
        run.truncate_metrics(done)
        callbacks += best
        # The row goes first: once a checkpoint counts, its epoch's metrics are on disk.
        callbacks += [
            keras.callbacks.CSVLogger(run.metrics, append=True),
            keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
        ]
        if "sample" in model.abilities():
            given = conditions.in_turn(model, data, 60, 10, "validation")
            latents = fixed_latents(model, 60 if given is not None else 64, config.seed, given)
            callbacks.append(SampleGrids(run.samples, latents, given))
    callbacks.append(checkpoints)
    if progress and chief and sys.stderr.isatty():
        callbacks.append(TqdmCallback(verbose=0 if steps < 50 else 1))
    elif progress and chief:  # A bar would fill a log with its every move.
        callbacks.append(EpochLines(say))
    start = time.monotonic()
    try:
        model.fit(
            _training_batches(data, config.batch_size, strategy, done, model.semi_supervised),
            initial_epoch=done,
            epochs=config.epochs,
            steps_per_epoch=steps,
            validation_data=data.batches("validation", config.batch_size),
            callbacks=callbacks,
            verbose=0,
        )
    finally:
        if chief:
            _draw_curves(run, model)
    seconds = time.monotonic() - start
    trained = (config.epochs - done) * steps * config.batch_size
    results = {
        "preset": config.preset,
        "model": type(model).__name__,
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "epochs": config.epochs,
        "resumed_after": done,
        "seconds": round(seconds, 2),
        "images_per_second": round(trained / training_time.seconds, 1) if trained else None,
    }
    with model.best_weights():
        results["test"] = evaluate(model, data, config.batch_size)
        if chief and "log_prob" in model.abilities():
            x, y = data.arrays("test", limit=1000)
            results["likelihood"] = _likelihood(
                model, x, None if model.condition_is_optional else y
            )
    if chief:
        results["versions"] = versions()
        run.save_model(model)
        write_json(run.results, results)
        draw(model, data, run, config.seed)
        for line in _summary(run, results):
            say(line)
    return results


def _training_batches(data, batch_size, strategy, first_epoch, semi_supervised):
    options = {"shuffle": True, "repeat": True, "first_epoch": first_epoch}
    options["semi_supervised"] = semi_supervised
    if strategy.num_replicas_in_sync == 1:
        return data.batches("train", batch_size, **options)
    # Each worker reads its own share, already cut into the batches of its replicas.
    shard = strategies.worker_shard(strategy)
    return strategy.distribute_datasets_from_function(
        lambda context: data.batches("train", batch_size, shard=shard, **options)
    )


def load_data(
    config: ConfigDict | None,
    *,
    name: str | None = None,
    data_dir: str | None = None,
    binarize: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    seed: int = 0,
) -> ImageData:
    """The data of a configuration, or what is given in its place.

    Args:
        config: Of a run; `None` where there is none.
        name: Another data set.
        data_dir: Where it lies.
        binarize: "none", or how; by default as in the configuration, but `binarized_mnist`, which is
            binary already, as it is.
        image_shape: What the images must be.
        seed: Of splits and draws, where there is no configuration.

    Raises:
        ValueError: If its images are not of `image_shape`.
    """
    old = config.data if config else ConfigDict({"data_dir": None, "binarize": None})
    given = name is not None and name != old.get("name")
    if binarize is None and (name or old.get("name")) != "binarized_mnist":
        binarize = old.binarize
    data = datasets.load(
        name or old.name,
        data_dir=data_dir or (None if given else old.data_dir),
        image_size=image_shape[0] if image_shape else old.get("image_size"),
        binarize=None if binarize == "none" else binarize,
        seen_quadrants=old.get("seen_quadrants"),
        num_labels=None if given else old.get("num_labels"),
        seed=config.seed if config else seed,
    )
    if image_shape and data.image_shape != tuple(image_shape):
        raise ValueError(
            f"The model's images are of shape {tuple(image_shape)}, those of '{data.name}' are of "
            f"shape {data.image_shape}. Choose another data set."
        )
    return data


def evaluate(
    model: GenerativeModel, data: ImageData, batch_size: int, split: str = "test"
) -> dict[str, float]:
    """The model's losses and terms on a split of the data."""
    scores = model.evaluate(data.batches(split, batch_size), verbose=0, return_dict=True)
    return {name: float(np.squeeze(value)) for name, value in scores.items()}


def fixed_latents(model: GenerativeModel, n: int, seed: int, y=None) -> tf.Tensor:
    """`n` draws from the prior, given `y[n, ...]` if need be: `[n, D]`, the same for the same seed."""
    if "sample" not in model.abilities():
        raise NotImplementedError(
            f"A {type(model).__name__} has no prior to draw latents from. "
            f"It can: {', '.join(model.abilities())}."
        )
    return model.sample_latents(n, y, seed)


def draw(model: GenerativeModel, data: ImageData, run: Run, seed: int) -> None:
    """Puts all the pictures that the model's abilities allow into the run's folder."""
    folder = run.path
    with model.best_weights():
        if "sample" in model.abilities():
            given = conditions.in_turn(model, data, 100, 10)
            latents = fixed_latents(model, 100, seed, given)
            pictures.samples(model, latents, folder / "samples.png", y=given)
            given = conditions.in_turn(model, data, 4)
            both = None if given is None else given.repeat(2, 0)  # The same for both ends.
            ends = tf.split(fixed_latents(model, 8, seed + 1, both), 4)
            pictures.interpolations(ends, model, folder / "interpolations.png", y=given)
            if hasattr(model.prior, "walks"):  # Along its own axes.
                walks = model.prior.walks(10)
                given = conditions.in_turn(model, data, 1)
                points = tf.reshape(walks, [-1, model.latent_dim])
                given = None if given is None else given.repeat(len(points), 0)
                pictures.samples(model, points, folder / "prior_walks.png", 10, given)
        elif model.latent_dim == 0:
            given = conditions.in_turn(model, data, 10)
            none = np.zeros([10, 0])
            pictures.samples(model, none, folder / "completions.png", columns=1, y=given)
        if model.can_encode:
            x, y = data.arrays("test", limit=2000)
            # The label that a model finds in an image is part of what its pictures show.
            taken = model.condition is not None and not model.condition_in_latents
            given = y if taken else None

            def of(rows):
                return None if given is None else given[rows]

            pictures.reconstructions(model, x[:30], folder / "reconstructions.png", of(slice(30)))
            pairs = [(x[i], x[(i + 1) % len(x)]) for i in range(0, min(8, len(x)), 2)]
            pictures.interpolations(
                pairs, model, folder / "interpolations_images.png", y=of(slice(0, 8, 2))
            )
            if hasattr(model, "category_images"):
                parts = np.array_split(x, min(4, len(x)))
                best = np.argmax(np.concatenate([model.classify(part) for part in parts]), -1)
                images = model.category_images()
                members = [x[best == k] for k in range(len(images))]
                pictures.categories(images, members, folder / "categories.png")
            if isinstance(model, VAEGAN) and model.condition is None:
                _draw_attributes(model, data, x[:10], folder / "attributes.png")
            if model.latent_dim > 1 and len(x) > 1:
                parts = np.array_split(np.arange(len(x)), min(4, len(x)))
                codes = np.concatenate([model.encode(x[rows], of(rows)) for rows in parts])
                pictures.latent_scatter(
                    codes,
                    y if y is not None and y.ndim == 1 else None,
                    folder / "latents.png",
                    label_names=data.label_names,
                    prior_samples=np.asarray(
                        fixed_latents(model, 2000, seed + 2, conditions.in_turn(model, data, 2000))
                    )
                    if "sample" in model.abilities()
                    else None,
                )


def _draw_attributes(model, data, x, path, limit=40):
    """Draws `x` with each attribute that some of 2,000 training images have and some lack.

    Labels are attributes too. Of data with neither, or with more than `limit`, there is no picture.
    """
    images, y = data.arrays("train", limit=2000)
    if y is not None and y.ndim == 1:
        images, y = images[y >= 0], y[y >= 0]  # Other labels have been held back.
        y = (y[:, None] == np.unique(y)).astype(int)
    if y is None or y.ndim != 2 or not np.isin(y, (0, 1)).all():
        return
    y = y[:, (y == 0).any(0) & (y == 1).any(0)]
    if 0 < y.shape[1] <= limit:
        parts = np.array_split(images, min(4, len(images)))
        codes = np.concatenate([model.encode(part) for part in parts])
        pictures.attributes(model, x, attribute_vectors(codes, y), path)


def _draw_curves(run, model):
    history = run.read_metrics()
    if history:
        epochs = [int(epoch) + 1 for epoch in history.pop("epoch")]
        units = "nats" if "log_prob" in model.abilities() else None
        pictures.learning_curves(history, run.path / "learning_curves.png", epochs, units)


def _summary(run, results):
    yield f"{results['model']} '{results['preset']}', {results['parameters']:,} parameters:"
    yield f"  trained to epoch {results['epochs']} in {results['seconds']:.0f} s" + (
        f" ({results['images_per_second']:,.0f} images/s in its steps)"
        if results["images_per_second"]
        else ""
    )
    scores = ", ".join(f"{name} {value:.4g}" for name, value in results["test"].items())
    yield f"  test: {scores}"
    if results.get("likelihood"):
        yield f"  {_describe_likelihood(results['likelihood'])}"
    yield f"  everything lies in {run.path}:"
    for path in sorted(run.path.iterdir()):
        yield f"    {path.name}{'/' if path.is_dir() else ''}"


def _likelihood(model, x, y=None, num_samples=100):
    try:
        nll = metrics.negative_log_likelihood(model, x, num_samples, y=y)
    except ValueError as error:
        return {"nll": None, "reason": str(error)}
    return {
        "nll": nll.value,
        "stderr": nll.stderr,
        "bits_per_dim": nll.details["bits_per_dim"],
        "num_samples": num_samples,
        "num_images": nll.n_real,
    }


def _describe_likelihood(result):
    if result["nll"] is None:
        return f"no NLL: {result['reason']}"
    error = "" if result["stderr"] is None else f" +- {result['stderr']:.2f}"
    return (
        f"NLL {result['nll']:.2f}{error} nats per image "
        f"({result['num_samples']} importance samples, {result['num_images']} test images)"
    )
