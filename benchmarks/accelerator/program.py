"""`Program`: the epochs of a run as one function that XLA compiles, and its files."""

import csv
import dataclasses
import hashlib
import json
import pathlib
import re
import zipfile
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

try:
    import jax
    from jax.interpreters import mlir
    from jaxlib import _jax  # The only way from HLO to StableHLO; the extra pins the versions.
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo
except ImportError as error:
    raise ImportError(
        'Programs need JAX 0.10: pip install -e ".[accelerator]", with Python 3.11 or newer.'
    ) from error

from zoo import keras_internals, training
from zoo.files import replacing, write_json
from zoo.training.train import batches_for_state, finish, prepared

jax.config.update("jax_enable_x64", True)

_NEEDED = {"strategy": "default", "mixed_precision": False, "deterministic": False}
_SMALL = 2**14  # bytes; larger arrays have files of their own, which programs share.
_TYPES = {
    "f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64",
    "ui8": "uint8", "ui32": "uint32", "ui64": "uint64", "i1": "bool",
}  # fmt: skip


class Program:
    """One epoch of a run, with its validation, as a function of order, rates and state.

    Args:
        run: A run that has begun: its folder has a configuration.

    Raises:
        ValueError: If the run needs what a program does not have: several replicas, other precision
            than float32, deterministic operations, evaluations between epochs, or images that are
            decoded batch by batch.

    Attributes:
        config: The configuration of the run.
        model: The model at its first step.
        names: The names of the results of an epoch: losses and terms.
        variables: The model's variables and their averages, in order; not the optimizers' moments.
        epoch: The function. It takes the number of the epoch, int64 `[]`; the rows of each batch,
            int32 `[steps, B]`; and the learning rate of each player, float32 `[P]`. It returns the
            results of training and of validation, float32 `[2, K]`, and the first step with a
            result that is not finite, or -1, int64 `[]`.
    """

    def __init__(self, run: training.Run):
        self.run = run
        self.config = config = run.read_config()
        for setting, wanted in _NEEDED.items():
            if config[setting] != wanted:
                raise ValueError(
                    "A program trains on one device, in float32 and with its fastest operations: "
                    f"`{setting}` must be {wanted!r}. Received: {config[setting]!r} in '{run.path}'."
                )
        if config.evaluation.every or config.evaluation.at:
            raise ValueError(
                "A program has no evaluation between its epochs: `evaluation.every` must be 0 and "
                "`evaluation.at` empty. "
                f"Received: evaluation={dict(config.evaluation)} in '{run.path}'."
            )
        source = None
        if config.initial_weights:
            source = training.open_model(config.initial_weights)[0]
        keras.utils.set_random_seed(config.seed)
        self.data, self.model = prepared(config, source=source)
        if self.data.decoded_in_batches:
            raise ValueError(
                "A program contains its images, and those of a large folder are decoded batch by batch. "
                f"Received: '{run.path}', with the data {config.data.name!r}."
            )
        self.names = list(self.model.trackers)
        self.variables = _weights(self.model)
        self.steps = self.data.steps_per_epoch(config.batch_size)
        two = {"semi_supervised": self.model.semi_supervised, "grouped": self.model.grouped_batches}
        self.streams = self.data.streams(config.batch_size, **two)
        self.epoch = tf.function(self._epoch, autograph=False, jit_compile=True)

    @property
    def signature(self) -> tuple[tf.TensorSpec, ...]:
        """The arguments of `epoch`."""
        return (
            tf.TensorSpec([], tf.int64),
            tf.TensorSpec([self.steps, self.config.batch_size], tf.int32),
            tf.TensorSpec([len(self.model.optimizers)], tf.float32),
        )

    def _epoch(self, epoch, rows, rates):
        model = self.model
        for optimizer, rate in zip(model.optimizers.values(), tf.unstack(rates), strict=True):
            optimizer.learning_rate.assign(rate)
        n_labelled = self.streams[1][1] if len(self.streams) > 1 else None
        batch = self.data.batches_of("train", rows, epoch, n_labelled)
        trained = self._results(self.steps, lambda i: model.train_step(batch(i)))
        size, each = self.data.sizes["validation"], self.config.batch_size
        full = np.arange(size // each * each, dtype=np.int32).reshape(-1, each)
        rest = np.arange(full.size, size, dtype=np.int32)[None]
        held_out = self.data.batches_of("validation", tf.constant(full))
        remainder = self.data.batches_of("validation", tf.constant(rest), first_step=len(full))
        last = (lambda: model.test_step(remainder(0))) if rest.size else None
        tested = self._results(len(full), lambda i: model.test_step(held_out(i)), last)
        steps = model.first_non_finite.result()
        first = tf.reduce_min(tf.where(steps < 0, tf.int64.max, steps))
        return tf.stack([trained, tested]), tf.where(
            first == tf.int64.max, tf.constant(-1, tf.int64), first
        )

    def _results(self, count, step, last=None):
        """The mean results of `count` steps and of a last one."""
        for metric in self.model.metrics:
            metric.reset_state()

        def body(i):
            step(i)
            return (i + 1,)

        if count:  # XLA compiles the body of a loop without steps too, and it has no rows to read.
            tf.while_loop(lambda i: i < count, body, [tf.constant(0)])
        if last is not None:
            last()
        return tf.stack([self.model.trackers[name].result() for name in self.names])

    @property
    def rates(self) -> list[float]:
        """The first learning rate of each player."""
        own = self.config.optimizers
        return [
            own[player].learning_rate if player in own else float(optimizer.learning_rate)
            for player, optimizer in self.model.optimizers.items()
        ]

    @property
    def fingerprint(self) -> str:
        """A hash of the configuration without its number of epochs."""
        return fingerprint(self.config)

    def finish(self, path: pathlib.Path, say: Callable[[str], None] = print) -> None:
        """Finishes the run with the weights that `benchmarks/accelerator/run.py` wrote.

        The run has no checkpoint, because the optimizers' moments stay on the accelerator: it cannot
        be resumed.

        Args:
            path: The file of the results.
            say: Called with each line of the report.

        Raises:
            ValueError: If the file is damaged, or is not of a program of this run.
            FileNotFoundError: If the file does not exist.
        """
        found = self._results_in(path)
        for i, variable in enumerate(self.variables):
            variable.assign(found.get(f"variable_{i}", variable))
        results, seconds, config = found["results"], found["seconds"], self.config
        config.epochs = len(results)
        about = {
            "resumed_after": 0,
            "seconds": round(float(seconds.sum()), 2),
            "images_per_second": None,  # Validation is a part of the program's epochs.
            "device": str(found["device"]),
        }
        with self.run.locked():
            self.run.write_config(config)
            with (
                replacing(self.run.metrics_path) as partial,
                open(partial, "w", newline="") as file,
            ):
                rows = csv.writer(file)
                rows.writerow(["epoch", *self.names, *(f"val_{name}" for name in self.names)])
                rows.writerows([i, *row.reshape(-1).tolist()] for i, row in enumerate(results))
            if self.model.keeps_averages:
                batches = batches_for_state(self.data, config.batch_size, self.model)
                self.model.fit_averaged_state(batches)
            write_json(self.run.path / "times.json", {"training_seconds": about["seconds"]})
            finish(config, self.run, self.data, self.model, about, say=say)

    def _results_in(self, path):
        try:
            with np.load(path) as file:
                found = dict(file)
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"The results in '{path}' are damaged: {error}.") from error
        if str(found.get("program")) != self.fingerprint:
            raise ValueError(
                f"Expected results of a program of the run '{self.run.path}'. Received: '{path}', of "
                "a program with another configuration."
            )
        trained = {id(v.value) for v in self.model.trainable_variables}
        needed = [f"variable_{i}" for i, v in enumerate(self.variables) if id(v) in trained]
        if lacking := [name for name in (*needed, "results", "seconds") if name not in found]:
            raise ValueError(f"The results in '{path}' lack {', '.join(lacking)}.")
        return found

    def write(self, folder: pathlib.Path, platform: str = "cuda") -> None:
        """Writes the program for `benchmarks/accelerator/run.py`.

        Args:
            folder: The folder of the files. Large arrays are beside it, in the folder "arrays", so
                that programs with the same data and the same first weights share them.
            platform: The platform of the accelerator, as JAX names it: "cuda", "rocm", "tpu", "cpu".

        Raises:
            ValueError: If the run has been trained, or if the folder has a program of another run.
        """
        run, path = self.run, folder / "program.json"
        if run.metrics_path.exists() or run.checkpoints_dir.exists() or run.results_path.exists():
            raise ValueError(
                f"A program starts at the first epoch. Received: '{run.path}', whose training has begun."
            )
        if path.is_file() and json.loads(path.read_text()).get("program") != self.fingerprint:
            raise ValueError(
                f"'{folder}' has the program of another run. Choose another --programs."
            )
        folder.mkdir(parents=True, exist_ok=True)
        traced = self.epoch.get_concrete_function(*self.signature)
        arguments = [tf.zeros(spec.shape, spec.dtype) for spec in self.signature]
        hlo = self.epoch.experimental_get_compiler_ir(*arguments)(stage="hlo_serialized")
        by_handle = {id(v.handle): v for v in traced.graph.variables}
        kept = {id(v.handle): i for i, v in enumerate(self.variables)}
        inputs, state = [], {}
        for place, tensor in enumerate(traced.captured_inputs, len(self.signature)):
            if tensor.dtype == tf.resource:
                number = kept.get(id(tensor))
                name = f"scratch_{place}" if number is None else f"variable_{number}"
                value = by_handle[id(tensor)].numpy()
                inputs.append({"state": name})
                if value.nbytes < _SMALL:
                    state[name] = value
                else:
                    inputs[-1]["array"] = _stored(folder.parent / "arrays", value)
            else:
                inputs.append({"array": _stored(folder.parent / "arrays", tensor.numpy())})
        values = [*arguments, *(by_handle.get(id(t), t) for t in traced.captured_inputs)]
        blob, changed = _exported(hlo, [_shape(v) for v in values], platform)
        (folder / "epoch.jax").write_bytes(blob)
        np.savez_compressed(folder / "state.npz", **state)
        for i, (rows, _, _) in enumerate(self.streams):
            np.savez_compressed(folder / f"rows_{i}.npz", rows=rows.astype(np.int32))
        write_json(
            path,
            {
                "program": self.fingerprint,
                "seed": self.config.seed,
                "epochs": self.config.epochs,
                "steps": self.steps,
                "streams": [{"per_batch": n, "group": group} for _, n, group in self.streams],
                "names": self.names,
                "rates": self.rates,
                "decay": self.config.learning_rate_decay,
                "inputs": inputs,
                # The outputs are the results, the flag, and the state that an epoch changes.
                "changed": [n - len(self.signature) for n in changed],
            },
        )


def _weights(model):
    metrics = {id(v) for m in [*model.metrics, model.first_non_finite] for v in m.variables}
    variables = [v for v in model.variables if id(v) not in metrics]
    for optimizer in model.optimizers.values():
        if optimizer.use_ema:
            # The averages count only if the optimizer has done a step.
            variables += [*keras_internals.moving_averages(optimizer), optimizer.iterations]
    return [v.value if isinstance(v, keras.Variable) else v for v in variables]


def _shape(value):
    return jax.ShapeDtypeStruct(tuple(value.shape), value.dtype.as_numpy_dtype)


def fingerprint(config: ConfigDict) -> str:
    """A hash of a configuration without its number of epochs, which an accelerator may reduce."""
    content = {name: value for name, value in config.to_dict().items() if name != "epochs"}
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stored(folder, array):
    """The name of the file of an array, which is named after its content."""
    folder.mkdir(exist_ok=True)
    about = f"{array.dtype.str} {array.shape}".encode()
    name = hashlib.sha256(about + array.tobytes()).hexdigest()[:16]
    if not (path := folder / f"{name}.npz").exists():
        with replacing(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, array=array)
    return name


def _prepare(module):
    """Removes operations that StableHLO lacks, and asks for products of matrices in float32.

    HLO is the language of XLA, and StableHLO its form with promises of compatibility; only HLO has
    `copy`. The default of products on GPUs is TF32, with 10 bits of the mantissa.
    """
    copies = []
    highest = ir.Attribute.parse("#stablehlo<precision HIGHEST>")

    def visit(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        if "precision_config" in operation.attributes:
            operation.attributes["precision_config"] = ir.ArrayAttr.get([highest, highest])
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for copy in copies:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()


def _exported(hlo: bytes, inputs: list[jax.ShapeDtypeStruct], platform: str):
    """An HLO module as a serialized `jax.export.Exported`, and the inputs that an epoch changes.

    The module's outputs after the first two are the new values of these inputs. The module's attribute
    `input_output_alias` has the pairs.
    """
    with mlir.make_ir_context():
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(hlo))
        attributes = module.operation.attributes
        aliases = str(attributes["mhlo.input_output_alias"])
        for name in list(attributes):
            if name.startswith("mhlo."):
                del attributes[name]
        _prepare(module)
        main = next(op for op in module.body if op.name.value == "main")
        main.attributes["sym_visibility"] = ir.StringAttr.get("public")
        outputs = [ir.RankedTensorType(t) for t in main.type.results]
        outputs = [
            jax.ShapeDtypeStruct(tuple(t.shape), _TYPES[str(t.element_type)]) for t in outputs
        ]
        version = stablehlo.get_version_from_compatibility_requirement(
            stablehlo.StablehloCompatibilityRequirement.WEEK_4
        )
        blob = _jax.mlir.serialize_portable_artifact(module, version, False)
    pairs = re.findall(r"parameter_number = (\d+) .*?output_index = array<i64: (\d+)>", aliases)
    changed = [int(number) for number, _ in sorted(pairs, key=lambda pair: int(pair[1]))]
    if len(changed) != len(outputs) - 2:
        raise ValueError(
            f"Expected {len(outputs) - 2} changed variables. Received: {len(changed)} aliases."
        )
    stub = jax.export.export(
        jax.jit(lambda *_: [jax.numpy.zeros(o.shape, o.dtype) for o in outputs], keep_unused=True),
        platforms=[platform],
    )(*inputs)
    return dataclasses.replace(stub, mlir_module_serialized=blob).serialize(), changed
