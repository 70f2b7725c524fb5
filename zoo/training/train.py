"""`train`: trains the model of a configuration and writes the folder of a run."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from zoo import conditions, datasets, evaluation, metrics, models, presets
from zoo.config import with_article
from zoo.datasets import ImageData
from zoo.files import is_temporary, write_json
from zoo.model import GenerativeModel
from zoo.training import callbacks, strategies
from zoo.training.checks import check_config, check_data, check_model, check_unchanged, extractor_of
from zoo.training.gallery import draw_curves, draw_pictures, epoch_pictures
from zoo.training.run import Run, load_data, open_model
from zoo.versions import versions

_MOST_CACHED = 2**26  # bytes


def train(
    config: ConfigDict,
    run: Run,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains the model of a configuration and writes the run's folder.

    Settings are checked before images are read and before the folder is created.

    Args:
        config: A configuration, such as `zoo.presets.get` returns.
        run: The run; see `Run` for the files in its folder.
        resume: Whether to continue from the run's last checkpoint.
        overwrite: Whether to replace an existing run in the folder.
        progress: Whether to show a progress bar, or occasional lines if stderr is not a terminal.
        say: Called with each line of the report.

    Returns:
        The content of results.json. "seconds" is the time of the epochs after "resumed_after",
        including validation and callbacks. "images_per_second" counts training steps only,
        including their compilation.

    Raises:
        ValueError: If settings do not fit together.
        FileExistsError: If the folder is in use, and neither `resume` nor `overwrite` is set.
        BlockingIOError: If another process trains in the folder.
        OSError: If a file cannot be written. The error names the file or its folder.
        zoo.datasets.DatasetNotFound: If the data set is neither prepared nor downloadable.
        zoo.NonFiniteError: If a loss becomes NaN or infinite. The last good checkpoint stays.
        zoo.training.WorkerLostError: If another worker of the cluster ends too early.

    Example:
        >>> config = zoo.presets.get("vae_digits")
        >>> zoo.presets.override(config, ["epochs=1", "jit_compile=false"])
        >>> run = zoo.training.Run("runs/example")
        >>> results = zoo.training.train(config, run, overwrite=True, progress=False, say=len)
        >>> run.load_model().sample(4).shape
        TensorShape([4, 8, 8, 1])
    """
    if resume and run.exists:
        check_unchanged(run, config)
    check_config(config)
    strategy = strategies.make(config.strategy)
    chief = strategies.is_chief(strategy)
    if chief and not resume:
        run.check_free(overwrite)
    if strategy.num_replicas_in_sync > 1 and not isinstance(strategy, tf.distribute.TPUStrategy):
        if chief and (config.jit_compile or config.steps_per_execution > 1):
            say("With several replicas, steps run one at a time and without XLA.")
        config = ConfigDict(config)
        config.jit_compile, config.steps_per_execution = False, 1
    source = None
    if config.initial_weights and not resume:
        source = open_model(config.initial_weights)[0]
    keras.utils.set_random_seed(config.seed)
    with (
        # One process writes. In a cluster, this process is the chief.
        run.locked() if chief else contextlib.nullcontext(),
        strategies.needing_all_workers(strategy),
        _determinism(config.deterministic),
        _precision(config.mixed_precision),
    ):
        data, model = prepared(config, strategy, source)
        source = None  # Its memory is free during the training.
        steps = data.steps_per_epoch(config.batch_size)
        # An epoch must be a whole number of executions: Keras always finishes an execution.
        model.steps_per_execution = max(
            n for n in range(1, config.steps_per_execution + 1) if steps % n == 0
        )
        keep_best = _keep_best(config, run, data, model, say)
        if chief and not resume:
            run.begin(config)
        return _train(config, run, strategy, data, model, resume, progress, say, keep_best)


def prepared(
    config: ConfigDict,
    strategy: tf.distribute.Strategy | None = None,
    source: GenerativeModel | None = None,
) -> tuple[ImageData, GenerativeModel]:
    """The data of a configuration, and its new model, ready for the first step.

    Args:
        config: A configuration.
        strategy: The strategy of the training; by default the one of one device.
        source: The model whose weights the new model starts with, if any; see `initial_weights`.

    Raises:
        ValueError: If the data, the model and the settings do not fit together.
    """
    strategy = strategy or tf.distribute.get_strategy()
    form = datasets.expected(config.data.name, config.data.image_size)
    model = _build(config, strategy, *form) if form else None
    data = load_data(config)
    if model is None:
        model = _build(config, strategy, data.image_shape, data.levels)
    check_data(model, data, config.batch_size, strategy.num_replicas_in_sync)
    with strategy.scope():
        model.adapt(data)
        if source is not None:
            _copy_weights(source, model, config.initial_weights)
    return data, model


def evaluate(
    model: GenerativeModel, data: ImageData, batch_size: int, split: str = "test"
) -> dict[str, float]:
    """The means of the model's losses and terms on a split of the data."""
    scores = model.evaluate(data.batches(split, batch_size), verbose=0, return_dict=True)
    return {name: float(np.squeeze(value)) for name, value in scores.items()}


def _build(config, strategy, image_shape, levels):
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise ValueError(
            f"Each replica gets an equal part of a batch: `batch_size` must be a multiple of the "
            f"{replicas} replicas. Received: {config.batch_size}."
        )
    # Trained models that this model builds on. The configuration names their folders.
    options = models.required_runs(config.builder)
    first = {o: open_model(config.model[o])[0] for o in options if config.model[o]}
    with strategy.scope():
        model = presets.build(config, image_shape, levels, **first)
    check_model(model, config, levels)
    return model


def _copy_weights(source, model, where):
    """Copies all weights of `source`, which was loaded from `where`, except the step."""
    if type(source) is not type(model):
        raise ValueError(
            f"`initial_weights` must name {with_article(type(model).__name__)}, as this model is. "
            f"Received: '{where}', {with_article(type(source).__name__)}."
        )
    found, wanted = ([v for v in m.weights if v is not m.step] for m in (source, model))
    shapes, expected = ([tuple(v.shape) for v in weights] for weights in (found, wanted))
    if shapes != expected:
        raise ValueError(
            "`initial_weights` must name a model with the same networks. Received: "
            f"'{where}', {_first_difference(shapes, expected)}. Use its preset and its settings, or "
            "leave `initial_weights` out."
        )
    for own, other in zip(wanted, found, strict=True):
        own.assign(other)


def _first_difference(found, expected):
    for i, (other, own) in enumerate(zip(found, expected, strict=False)):
        if other != own:
            return f"whose weight number {i + 1} has shape {other} instead of {own}"
    return f"with {len(found)} weights instead of {len(expected)}"


def _keep_best(config, run, data, model, say):
    """A list with the callback that evaluates the model; empty without evaluations.

    Raises:
        ValueError: If the metric is not available for the model or the data.
    """
    settings = config.evaluation
    if not (settings.every or settings.at):
        return []
    metric = evaluation.METRICS[settings.metric]
    extractor = extractor_of(config) if metric.features else None

    def evaluation_of(model):
        return evaluation.Evaluation.of_model(
            model,
            data,
            "validation",
            settings.num_samples,
            extractor,
            cache=run.features_dir,
            seed=config.seed,
            sampling={"run": str(run.path), "preset": config.preset, "model": type(model).__name__},
        )

    def subject(model):
        model.fit_prior(data)
        return evaluation_of(model)

    if reason := evaluation_of(model).lacks(metric):
        raise ValueError(f"evaluation.metric='{settings.metric}' is not available here. {reason}")
    name = extractor.name_of(metric.main_kind) if extractor else metric.main_kind
    return [
        callbacks.KeepBest(run, subject, settings.metric, name, settings.every, settings.at, say)
    ]


@contextlib.contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    if wanted:
        tf.config.experimental.enable_op_determinism()
    yield


@contextlib.contextmanager
def _precision(mixed: bool) -> Iterator[None]:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def _train(config, run, strategy, data, model, resume, progress, say, keep_best):
    chief = strategies.is_chief(strategy)
    checkpoints = callbacks.Checkpoints(run.checkpoints_dir, write=chief)
    # An option may add a player that the configuration does not list.
    rates = {
        player: config.optimizers[player].learning_rate
        if player in config.optimizers
        else float(optimizer.learning_rate)
        for player, optimizer in model.optimizers.items()
    }
    # A new run ignores existing checkpoints, because the chief is about to delete them.
    done = checkpoints.restore(model, say) if resume else 0
    if resume:
        _check_progress(run, done, say)
        if config.initial_weights and not done:
            source = open_model(config.initial_weights)[0]
            with strategy.scope():
                _copy_weights(source, model, config.initial_weights)
    if done > config.epochs:
        raise ValueError(
            f"The run in '{run.path}' is trained for {done} epochs already. "
            f"Received: --epochs={config.epochs}."
        )
    if resume:
        say(
            f"Resuming after epoch {done} of {config.epochs}."
            if done
            else f"No epoch of the run in '{run.path}' has ended: training starts at epoch 1."
        )
    if chief:
        run.write_config(config)
        run.truncate_metrics(done)
    steps = data.steps_per_epoch(config.batch_size)
    training_time = callbacks.TrainingTime()
    averaged_state = callbacks.FitAveragedState(batches_for_state(data, config.batch_size, model))
    start = time.monotonic()
    with _curves_of_a_stopped_run(model, run, chief):
        model.fit(
            _training_batches(data, config.batch_size, strategy, done, model),
            initial_epoch=done,
            epochs=config.epochs,
            steps_per_epoch=steps,
            validation_data=_validation_batches(data, config.batch_size),
            callbacks=[
                training_time,
                averaged_state,
                callbacks.LearningRateDecay(config.learning_rate_decay, rates),
                # A row of metrics.csv is written before the checkpoint of its epoch.
                *(_reports(config, run, model, data, keep_best) if chief else []),
                checkpoints,
                *(_progress(steps, say) if chief and progress else []),
            ],
            verbose=0,
        )
    seconds = time.monotonic() - start
    trained = (config.epochs - done) * steps * config.batch_size
    if model.keeps_averages:  # A run that was resumed after its last epoch has no state.
        model.fit_averaged_state(averaged_state.batches)
    results = {
        "resumed_after": done,
        "seconds": round(seconds, 2),
        "images_per_second": round(trained / training_time.seconds, 1) if trained else None,
    }
    return finish(config, run, data, model, results, chief, say)


def finish(
    config: ConfigDict,
    run: Run,
    data: ImageData,
    model: GenerativeModel,
    results: dict[str, Any],
    chief: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fits what gradients do not train, scores a trained model, and writes the run's last files.

    Args:
        config: The configuration of the run.
        run: The run.
        data: Its data.
        model: The model after its last epoch.
        results: What is known of the training: "seconds", for example.
        chief: Whether this process writes files.
        say: Called with each line of the report.

    Returns:
        The content of results.json.
    """
    results = {
        "preset": config.preset,
        "model": type(model).__name__,
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "epochs": config.epochs,
        **results,
    }
    if chief:
        run.save_model(model)  # first, because later operations may fail
        draw_curves(model, run)
    with model.best_weights():
        model.finish(data)
        results["test"] = evaluate(model, data, config.batch_size)
        if chief and "log_prob" in model.abilities():
            results["likelihood"] = _likelihood(model, data)
    if chief:
        results["versions"] = versions()
        run.save_model(model)
        write_json(run.results_path, results)
        draw_pictures(model, data, run, config.seed)
        for line in _summary(run, results):
            say(line)
    return results


def _check_progress(run: Run, done: int, say: Callable[[str], None]) -> None:
    """Checks, before anything is written, that no finished epoch would be lost without a message.

    A killed process loses at most the epoch whose checkpoint it had not written.
    """
    rows = run.check_metrics()
    if 0 < done < rows - 1:
        say(
            f"'{run.metrics_path}' has {rows} epochs, and the newest whole checkpoint is of epoch "
            f"{done}: the later epochs are trained again."
        )
    if done == 0 and (rows > 1 or run.model_path.exists()):
        raise ValueError(
            f"The run in '{run.path}' has finished {max(rows, 1)} epochs, but there is no whole "
            f"checkpoint in '{run.checkpoints_dir}'. Nothing was changed. Restore the checkpoints "
            "from a copy, or start again with --overwrite."
        )


@contextlib.contextmanager
def _curves_of_a_stopped_run(model, run, chief):
    """A context that draws the learning curves if the training stops with an error."""
    try:
        yield
    except BaseException:
        if chief:
            # The error that stopped the training is the one to report.
            with contextlib.suppress(OSError, ValueError):
                draw_curves(model, run)
        raise


def _reports(config, run, model, data, keep_best):
    """The callbacks that write metrics and pictures after each epoch."""
    return [
        *keep_best,
        callbacks.MetricsRows(run.metrics_path, append=True),
        callbacks.EventFiles(run.tensorboard_dir, write_graph=False),
        *epoch_pictures(model, data, run, config.seed),
    ]


def _progress(steps, say):
    if not sys.stderr.isatty():  # In a log, each update of a bar would be a line.
        return [callbacks.EpochLines(say)]
    from tqdm.keras import TqdmCallback

    return [TqdmCallback(verbose=0 if steps < 50 else 1)]


def _training_batches(data, batch_size, strategy, first_epoch, model):
    options = {"shuffle": True, "repeat": True, "first_epoch": first_epoch}
    options |= {"semi_supervised": model.semi_supervised, "grouped": model.grouped_batches}
    if strategy.num_replicas_in_sync == 1:
        return data.batches("train", batch_size, **options)
    # Each worker reads its own part, already divided into the batches of its replicas.
    shard = strategies.worker_shard(strategy)
    return strategy.distribute_datasets_from_function(
        lambda context: data.batches("train", batch_size, shard=shard, **options)
    )


def _validation_batches(data, batch_size):
    """The validation images, which every epoch reads; kept in memory if they are small.

    Their draws are fixed. A new iterator over the pipeline costs about 70 ms, and one over images in
    memory about 4 ms.
    """
    batches = data.batches("validation", batch_size)
    size = 4 * data.sizes["validation"] * math.prod(data.image_shape)
    return batches.cache() if size <= _MOST_CACHED else batches


def batches_for_state(data: ImageData, batch_size: int, model: GenerativeModel) -> tf.data.Dataset:
    """The batches from which the state of layers is computed for averaged weights."""
    # The same batches in every epoch. The error of a mean over 100 batches is below that of the
    # moving averages, which extend over about 20.
    return data.batches(
        "train",
        batch_size,
        shuffle=True,
        drop_remainder=True,
        semi_supervised=model.semi_supervised,
        grouped=model.grouped_batches,
    ).take(100)


def _likelihood(model, data, num_samples=100):
    x, y = data.arrays("test", limit=1000)
    y = None if model.condition_is_optional else conditions.read(model, y)
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


def _summary(run, results):
    yield f"{results['model']} '{results['preset']}', {results['parameters']:,} parameters:"
    rate = results["images_per_second"]
    yield f"  trained to epoch {results['epochs']} in {results['seconds']:.0f} s" + (
        f" ({rate:,.0f} images/s in training steps)" if rate else ""
    )
    scores = ", ".join(f"{name} {value:.4g}" for name, value in results["test"].items())
    yield f"  test: {scores}"
    if results.get("likelihood"):
        yield f"  {_describe_likelihood(results['likelihood'])}"
    yield f"  files in {run.path}:"
    for path in sorted(path for path in run.path.iterdir() if not is_temporary(path)):
        yield f"    {path.name}{'/' if path.is_dir() else ''}"


def _describe_likelihood(result):
    if result["nll"] is None:
        return f"no NLL: {result['reason']}"
    error = "" if result["stderr"] is None else f" +- {result['stderr']:.2f}"
    return (
        f"NLL {result['nll']:.2f}{error} nats per image "
        f"({result['num_samples']} importance samples, {result['num_images']} test images)"
    )
