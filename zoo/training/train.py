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

from zoo import conditions, datasets, evaluation, metrics, presets
from zoo.datasets import ImageData
from zoo.files import write_json
from zoo.model import GenerativeModel
from zoo.training import callbacks, strategies
from zoo.training.checks import check, check_unchanged, extractor_of
from zoo.training.gallery import draw, draw_curves, fixed_latents
from zoo.training.run import Run, load_data
from zoo.versions import versions


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


def _keep_best(config, run, data, model, say):
    """The callback that evaluates on the way.

    Raises:
        ValueError: If the metric cannot be had of the model or the data.
    """
    settings = config.evaluation
    metric = evaluation.METRICS[settings.metric]
    extractor = extractor_of(config) if metric.features else None

    def subject(model):
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

    if reason := subject(model).lacks(metric):
        raise ValueError(f"evaluation.metric='{settings.metric}' has no value here. {reason}")
    name = extractor.name_of(metric.gives[0]) if extractor else metric.gives[0]
    return callbacks.KeepBest(run, subject, settings.metric, name, settings.every, settings.at, say)


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
    checkpoints = callbacks.Checkpoints(run.checkpoints_dir, write=chief)
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
    training_time = callbacks.TrainingTime()
    all_callbacks = [training_time, callbacks.LearningRateDecay(config.learning_rate_decay, rates)]
    if chief:
        run.write_config(config)
        run.truncate_metrics(done)
        all_callbacks += best
        # The row goes first: once a checkpoint counts, its epoch's metrics are on disk.
        all_callbacks += [
            keras.callbacks.CSVLogger(run.metrics_path, append=True),
            keras.callbacks.TensorBoard(run.tensorboard_dir, write_graph=False),
        ]
        if "sample" in model.abilities():
            given = conditions.in_turn(model, data, 60, 10, "validation")
            latents = fixed_latents(model, 60 if given is not None else 64, config.seed, given)
            all_callbacks.append(callbacks.SampleGrids(run.samples_dir, latents, given))
    all_callbacks.append(checkpoints)
    if progress and chief and sys.stderr.isatty():
        from tqdm.keras import TqdmCallback

        all_callbacks.append(TqdmCallback(verbose=0 if steps < 50 else 1))
    elif progress and chief:  # A bar would fill a log with its every move.
        all_callbacks.append(callbacks.EpochLines(say))
    start = time.monotonic()
    try:
        model.fit(
            _training_batches(data, config.batch_size, strategy, done, model.stratified_batches),
            initial_epoch=done,
            epochs=config.epochs,
            steps_per_epoch=steps,
            validation_data=data.batches("validation", config.batch_size),
            callbacks=all_callbacks,
            verbose=0,
        )
    finally:
        if chief:
            draw_curves(run, model)
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
        write_json(run.results_path, results)
        draw(model, data, run, config.seed)
        for line in _summary(run, results):
            say(line)
    return results


def _training_batches(data, batch_size, strategy, first_epoch, stratified):
    options = {"shuffle": True, "repeat": True, "first_epoch": first_epoch}
    options["stratified"] = stratified
    if strategy.num_replicas_in_sync == 1:
        return data.batches("train", batch_size, **options)
    # Each worker reads its own share, already cut into the batches of its replicas.
    shard = strategies.worker_shard(strategy)
    return strategy.distribute_datasets_from_function(
        lambda context: data.batches("train", batch_size, shard=shard, **options)
    )


def evaluate(
    model: GenerativeModel, data: ImageData, batch_size: int, split: str = "test"
) -> dict[str, float]:
    """The model's losses and terms on a split of the data."""
    scores = model.evaluate(data.batches(split, batch_size), verbose=0, return_dict=True)
    return {name: float(np.squeeze(value)) for name, value in scores.items()}


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
