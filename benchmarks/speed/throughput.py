"""Training speed of presets on this machine, compared with its bounds.

python -m benchmarks.speed.throughput --presets=vae_mnist,dcgan_mnist --output=DIR [--torch] [--sweep]

Times of one training step, measured in turn and repeated:

- bare: the same computation without the loop of Keras: `bare_steps`, on one batch held in memory.
- fit_constant: `model.fit` on that batch, repeated. The excess over bare is the cost of the loop.
- fit: `model.fit` on the data pipeline. The excess over fit_constant is the cost of the pipeline.
- torch (with --torch): a plain PyTorch loop over the same networks, `benchmarks.speed.torch_loops`.
- floor: the floating-point operations of the step at the rate of a matrix product of two 2000x2000
  float32 matrices, measured in the same turns. The operations are counted in the traced step
  (`count_flops`): matrix products and convolutions, 2 for each multiply-add, padding included. Only
  operations that the updates depend on count, so an unused gradient does not.

With --sweep it times `fit` with and without XLA, and with 1, 10 and 50 steps per execution.

Presets on downloaded images read random pixels through the same `ImageData` as the real images: the
speed of a step does not depend on the content of the images.
"""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from absl import flags
from ml_collections import ConfigDict

from benchmarks.machine import machine
from trainers.cli import start
from zoo import datasets, models, presets, training
from zoo.datasets.images import ImageData, Split
from zoo.files import write_json, write_text
from zoo.model import GenerativeModel
from zoo.resizing import small_factor
from zoo.steps import turns_of
from zoo.versions import versions

FLAGS = flags.FLAGS
MATMUL_SIDE = 2000


# Bounds of a step ---------------------------------------------------------------------------


def bare_step(model: GenerativeModel, x: Any, y: Any, seed: tf.Tensor) -> None:
    """One training step without the loop of Keras: objectives, gradients and updates of each round."""
    rounds = model.rounds()
    shares = max(round.steps for round in rounds)
    for i, round in enumerate(rounds):
        for turn in range(round.steps):
            here = tf.random.experimental.stateless_fold_in(seed, i * shares + turn)
            part = slice(turn, None, shares) if shares > 1 else slice(None)
            tape, scope, waiting = tf.GradientTape(persistent=True), keras.StatelessScope(), {}
            with tape, scope:
                turns = _means(round.objective(_rows(x, part), _rows(y, part), here, True))
                means = next(turns)
            while means is not None:
                updated = {player: model.variables_of(player) for player in means}
                grads = {}
                for mean in {id(mean): mean for mean in means.values()}.values():
                    # Players with the same loss share one backward pass.
                    players = [player for player in means if means[player] is mean]
                    found = tape.gradient(mean, [updated[player] for player in players])
                    grads |= dict(zip(players, found, strict=True))
                waiting |= scope.state_mapping
                scope.state_mapping.clear()
                for player, variables in updated.items():
                    model.optimizers[player].apply(grads[player], variables)
                    for layer in model.players()[player]:
                        for variable in layer.non_trainable_variables:
                            if id(variable) in waiting:
                                variable.assign(waiting.pop(id(variable)))
                with tape, scope:
                    means = next(turns, None)


def _means(outcome):
    for losses, _ in turns_of(outcome):
        means = {id(loss): _mean(loss) for loss in losses.values()}
        yield {player: means[id(loss)] for player, loss in losses.items()}


def _mean(loss):
    if not isinstance(loss, tuple):
        return tf.reduce_mean(loss)
    loss, weights = loss
    return tf.math.divide_no_nan(tf.reduce_sum(weights * loss), tf.reduce_sum(weights))


def _rows(tensors, part):
    """Rows of a tensor or of a pair of tensors; `None` for `None`."""
    if isinstance(tensors, tuple):
        return tuple(t[part] for t in tensors)
    return None if tensors is None else tensors[part]


def unpacked(batch: Any) -> tuple[Any, Any]:
    """The `x` and the `y` of a batch: for two streams, the pair of images, and the labels."""
    if not isinstance(batch, tuple):
        return batch, None
    if not isinstance(batch[0], tuple):
        return batch
    (x_labelled, y), x_unlabelled = batch
    return (x_labelled, x_unlabelled), y


def bare_steps(model: GenerativeModel, batch: Any, jit_compile: bool) -> Callable[[int], None]:
    """A function of n that trains for n bare steps on one batch."""
    x, y = unpacked(batch)
    step = tf.function(functools.partial(bare_step, model), jit_compile=jit_compile)

    @tf.function
    def run(n):
        for i in tf.range(n):
            step(x, y, tfp.random.sanitize_seed(tf.stack([model.seed, i])))

    return lambda n: run(tf.constant(n))


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Floating-point operations of the matrix products and convolutions in a function's graph.

    Only operations that the results or the updates of variables depend on are counted.

    Raises:
        ValueError: If the shape of a counted operation is not static, or if there is no rule to
            count an operation.
    """
    graph = tf.function(function).get_concrete_function(*args).graph
    # Automatic control dependencies make every stateful operation a control output.
    todo = [t.op for t in graph.outputs] + list(graph.control_outputs)
    seen = set(todo)
    while todo:
        op = todo.pop()
        new = {t.op for t in op.inputs} | set(op.control_inputs)
        todo += new - seen
        seen |= new
    return sum(_flops(op) for op in seen)


def _flops(op) -> int:
    def size(tensor):
        return int(np.prod(_static(tensor)))

    if op.type in ("MatMul", "BatchMatMulV2"):
        transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
        inner = _static(op.inputs[0])[-2 if transposed else -1]
        return 2 * size(op.outputs[0]) * inner
    # Each output of the convolution is a product of one kernel with its inputs, in the forward pass
    # and in both gradients. A kernel is [height, width, in, out].
    if op.type == "Conv2D":
        return 2 * size(op.outputs[0]) * int(np.prod(_static(op.inputs[1])[:3]))
    if op.type == "Conv2DBackpropInput":
        return 2 * size(op.inputs[2]) * int(np.prod(_static(op.inputs[1])[:3]))
    if op.type == "Conv2DBackpropFilter":
        return 2 * size(op.inputs[2]) * int(np.prod(_static(op.outputs[0])[:3]))
    if "Conv" in op.type or "MatMul" in op.type or op.type.endswith(("Call", "While", "If")):
        raise ValueError(f"There is no count of operations for a '{op.type}'.")
    return 0


def _static(tensor):
    if not tensor.shape.is_fully_defined():
        raise ValueError(f"'{tensor.name}' has no static shape: {tensor.shape}.")
    return tensor.shape.as_list()


def matmul_rate(repeats: int = 3) -> float:
    """Floating-point operations per second of a float32 matrix product, the best of `repeats`."""
    a = tf.random.stateless_normal([MATMUL_SIDE, MATMUL_SIDE], [0, 1])
    best = min(elapsed(lambda: tf.matmul(a, a).numpy()) for _ in range(repeats))
    return 2 * MATMUL_SIDE**3 / best


def elapsed(function: Callable[[], Any]) -> float:
    """The seconds that a call of a function takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


# Measurements -----------------------------------------------------------------------------


class Clock(keras.callbacks.Callback):
    """Seconds per step of an epoch, without its first execution and the setup of `fit`."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.first = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.last = (batch, time.perf_counter())
        self.first = self.first or self.last

    @property
    def seconds(self) -> float:
        (first, begin), (last, end) = self.first, self.last
        return (end - begin) / (last - first)


class Case:
    """A preset's model with its data, and the ways to run a step of it.

    Args:
        config: A preset's configuration; `jit_compile` and `steps_per_execution` are used as well.
    """

    def __init__(self, config: ConfigDict) -> None:
        self.config = config
        self.data = _data(config)
        self.model = presets.build(config, self.data.image_shape, self.data.levels)
        self.model.adapt(self.data)
        self.batches = self.data.batches(
            "train",
            config.batch_size,
            shuffle=True,
            repeat=True,
            semi_supervised=self.model.semi_supervised,
            grouped=self.model.grouped_batches,
        )
        self.batch = next(iter(self.batches))
        self.constant = tf.data.Dataset.from_tensors(self.batch).repeat()
        self._bare = bare_steps(self.model, self.batch, config.jit_compile)

    def flops(self) -> int:
        """The floating-point operations of one step."""
        x, y = unpacked(self.batch)
        return count_flops(functools.partial(bare_step, self.model), x, y, tf.constant([0, 0]))

    def bare(self, steps: int) -> float:
        """Seconds of one bare step."""
        self._bare(1)
        return elapsed(lambda: self._bare(steps)) / steps

    def fit(self, steps: int, data: tf.data.Dataset | None = None) -> float:
        """Seconds of one step of `fit`, on the data pipeline or on other batches."""
        each = self.config.steps_per_execution
        clock = Clock()
        self.model.fit(
            self.batches if data is None else data,
            steps_per_epoch=each * (1 + -(-steps // each)),
            callbacks=[clock],
            verbose=0,
        )
        return clock.seconds

    def fit_constant(self, steps: int) -> float:
        """Seconds of one step of `fit` on a constant batch."""
        return self.fit(steps, self.constant)

    def pipeline(self, steps: int) -> float:
        """Seconds to produce one batch, without training."""
        batches = iter(self.batches)
        next(batches)
        return elapsed(lambda: [next(batches) for _ in range(steps)]) / steps


def _data(config) -> ImageData:
    """The preset's data.

    They are the digits of scikit-learn, 10,000 images of a rendered set, the images of a folder, or
    random pixels in place of other data.
    """
    if config.data.name == "folder":
        return training.load_data(config)
    y = config.data.get("y")
    options = {
        "binarize": config.data.binarize,
        "seen": config.data.seen,
        # Random pixels have no annotations other than labels.
        "y": None if small_factor(y) is None else y,
        "num_labels": config.data.num_labels,
        "seed": config.seed,
    }
    if config.data.name == "digits":
        return datasets.load("digits", **options)
    if config.data.name in datasets.catalog.RENDERED:
        options |= {"y": y, "image_size": config.data.image_size}
        return datasets.load(config.data.name, sizes={"train": 10_000}, **options)
    shape, levels = datasets.expected(config.data.name, config.data.image_size)
    rng = np.random.default_rng(0)
    images = rng.integers(0, levels, [10_000, *shape], np.uint8)
    split = Split(images, rng.permutation(np.arange(len(images), dtype=np.int32) % 10))
    names = tuple(map(str, range(10)))
    return ImageData(
        config.data.name, {"train": split}, shape, levels=levels, label_names=names, **options
    )


def in_turn(ways: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """The values of several functions, called in turn `repeats` times, so that noise affects all."""
    timings = {name: [] for name in ways}
    for turn in range(repeats):
        # The order alternates, so that no function gains from its position.
        for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            timings[name].append(ways[name]())
    return timings


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """The median of the ratios of values that were measured in the same turns."""
    return float(np.median(np.divide(a, b)))


def measure(config: ConfigDict, repeats: int, seconds: float, torch: bool) -> dict[str, Any]:
    """The row of a preset: times, ratios and operations."""
    case = Case(config)
    case.bare(1), case.fit(1), case.fit_constant(1)  # Compiles.
    steps = max(2, round(seconds / case.bare(3)))
    names = ("bare", "fit_constant", "fit", "pipeline")
    ways = {name: functools.partial(getattr(case, name), steps) for name in names}
    ways["matmul"] = matmul_rate
    if torch:
        from benchmarks.speed import torch_loops

        if loop := torch_loops.make(config, case.data.image_shape):
            loop(2)
            ways["torch"] = lambda: elapsed(lambda: loop(steps)) / steps
    timings = in_turn(ways, repeats)
    rates, flops = timings.pop("matmul"), case.flops()
    timings["floor"] = [flops / rate for rate in rates]
    fit = timings["fit"]
    return {
        "preset": config.preset,
        "jit_compile": config.jit_compile,
        "steps_per_execution": config.steps_per_execution,
        "batch_size": config.batch_size,
        "steps": steps,
        "flops": flops,
        "matmul_flops_per_second": summary(rates),
        "images_per_second": summary([config.batch_size / s for s in fit]),
        "seconds_per_step": {name: summary(values) for name, values in timings.items()},
        "ratios": {
            "loop": ratio(timings["fit_constant"], timings["bare"]),
            "data": ratio(fit, timings["fit_constant"]),
            "fit_to_bare": ratio(fit, timings["bare"]),
        }
        | ({"fit_to_torch": ratio(fit, timings["torch"])} if "torch" in timings else {}),
    }


def sweep(config: ConfigDict, repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Times of `fit` with and without XLA, and with 1, 10 and 50 steps per execution."""
    cases = []
    for jit in (True, False):
        for each in (1, 10, 50):
            config = presets.from_dict(presets.to_dict(config))
            config.jit_compile, config.steps_per_execution = jit, each
            cases.append(Case(config))
            cases[-1].fit(1)  # Compiles.
    steps = max(2, round(seconds / cases[-1].fit(1)))
    ways = {i: functools.partial(case.fit, steps) for i, case in enumerate(cases)}
    timings = in_turn(ways, repeats)
    return [
        {
            "preset": config.preset,
            "jit_compile": case.config.jit_compile,
            "steps_per_execution": case.config.steps_per_execution,
            "seconds_per_step": {"fit": summary(timings[i])},
        }
        for i, case in enumerate(cases)
    ]


# The report -----------------------------------------------------------------------------------


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """A table of the rows of `measure`, in Markdown."""
    head = (
        "preset", "XLA", "steps per execution", "batch", "images/s", "fit ms", "quartiles",
        "bare ms", "floor ms", "torch ms", "loop %", "data %", "fit / torch",
    )  # fmt: skip
    rows = []
    for r in results:
        times = {k: 1000 * v["median"] for k, v in r["seconds_per_step"].items()}
        fit, ratios = r["seconds_per_step"]["fit"], r["ratios"]
        rows.append((
            r["preset"], "yes" if r["jit_compile"] else "no", str(r["steps_per_execution"]),
            str(r["batch_size"]), f"{r['images_per_second']['median']:,.0f}",
            f"{times['fit']:.2f}", f"{1000 * fit['q1']:.2f} to {1000 * fit['q3']:.2f}",
            f"{times['bare']:.2f}", f"{times['floor']:.2f}",
            f"{times['torch']:.2f}" if "torch" in times else "",
            f"{100 * ratios['loop'] - 100:+.1f}", f"{100 * ratios['data'] - 100:+.1f}",
            f"{ratios['fit_to_torch']:.2f}" if "torch" in times else "",
        ))  # fmt: skip
    return markdown(head, rows)


def sweep_table(results: Sequence[Mapping[str, Any]]) -> str:
    """A table of the rows of `sweep`, in Markdown; for each preset the fastest way first."""
    rows = [
        (
            r["preset"],
            "yes" if r["jit_compile"] else "no",
            str(r["steps_per_execution"]),
            *(f"{1000 * r['seconds_per_step']['fit'][k]:.2f}" for k in ("median", "q1", "q3")),
        )
        for r in results
    ]
    rows.sort(key=lambda row: (row[0], float(row[3])))
    return markdown(("preset", "XLA", "steps per execution", "fit ms", "q1", "q3"), rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown with aligned columns."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(w) for cell, w in zip(line, widths, strict=True))} |"
        for line in lines
    )


def write(
    folder: str | pathlib.Path, name: str, results: Sequence[Mapping[str, Any]], text: str
) -> None:
    """Writes NAME.json, with machine and versions, and NAME.md."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "versions": versions(), "results": results}
    write_json(folder / f"{name}.json", report)
    where = ", ".join(f"{key} {value}" for key, value in (machine() | versions()).items())
    write_text(folder / f"{name}.md", f"{text}\n\n{where}\n")


def chosen(names: Sequence[str]) -> Iterator[ConfigDict]:
    """The configurations of presets with the changes of `--set`. All names are checked first.

    A preset that builds on a trained model is left out, unless `--set=first=FOLDER` names one, and
    one on a folder of images, unless `--set=data.data_dir=FOLDER` names it.
    """
    if FLAGS.repeats < 1 or FLAGS.seconds <= 0:
        raise ValueError(
            "`repeats` must be at least 1, and `seconds` positive. "
            f"Received: {FLAGS.repeats} and {FLAGS.seconds}."
        )
    for config in [presets.get(name) for name in names]:
        if FLAGS.set:
            presets.override(config, FLAGS.set)
        runs = models.required_runs(config.builder)
        if missing := [option for option in runs if not config.model[option]]:
            print(
                f"{config.preset}: left out, it builds on a trained model "
                f"(--set={missing[0]}=FOLDER)."
            )
            continue
        if config.data.name == "folder" and not config.data.data_dir:
            print(
                f"{config.preset}: left out, it trains on a folder of images "
                "(--set=data.data_dir=FOLDER)."
            )
            continue
        keras.utils.set_random_seed(config.seed)
        print(f"{config.preset} ...", flush=True)
        yield config
        keras.backend.clear_session()


def report(
    name: str,
    names: Sequence[str],
    rows_of: Callable[[ConfigDict], list[dict[str, Any]]],
    table_of: Callable[[list[dict[str, Any]]], str],
) -> None:
    """Measures presets, prints a table, and writes it to `--output` after each preset."""
    results = []
    for config in chosen(names):
        results += rows_of(config)
        if FLAGS.output:
            write(FLAGS.output, name, results, table_of(results))
    if results:
        print(table_of(results))


def main() -> None:
    names = FLAGS.presets or [
        name for name in presets.names() if presets.get(name).data.name in ("digits", "mnist")
    ]
    if FLAGS.sweep:
        rows_of, table_of = (lambda c: sweep(c, FLAGS.repeats, FLAGS.seconds)), sweep_table
    else:
        rows_of = lambda c: [measure(c, FLAGS.repeats, FLAGS.seconds, FLAGS.torch)]  # noqa: E731
        table_of = table
    report("throughput", names, rows_of, table_of)


def define_flags(default: str) -> None:
    """Defines the flags that all benchmarks of training steps share."""
    flags.DEFINE_list("presets", None, f"The presets. Default: {default}.")
    flags.DEFINE_multi_string("set", [], "key=value: a change to each preset. Repeatable.")
    flags.DEFINE_integer("repeats", 5, "Number of turns; medians are reported.")
    flags.DEFINE_float("seconds", 0.7, "Seconds of each measurement.")
    flags.DEFINE_string("output", None, "Folder for the report, in JSON and Markdown.")


def _define_flags() -> None:
    define_flags("all on digits and MNIST")
    flags.DEFINE_bool("torch", False, "Also time PyTorch, for presets that have a loop.")
    flags.DEFINE_bool("sweep", False, "Time `fit` with and without XLA, by steps per execution.")


if __name__ == "__main__":
    _define_flags()
    start(main)
