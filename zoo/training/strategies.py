"""The `tf.distribute` strategies by name."""

import contextlib
import json
import os
from collections.abc import Iterator

import tensorflow as tf

from zoo.config import look_up


class WorkerLostError(RuntimeError):
    """Another worker of the cluster ended or cannot be reached."""


def make(name: str = "default") -> tf.distribute.Strategy:
    """Makes a strategy. Call it once in a process, before any other use of TensorFlow.

    Args:
        name: "default" (one device), "mirrored" (all GPUs of this machine, or its logical CPU
            devices), "multi_worker" (this process is one of several workers, described by
            `TF_CONFIG` or by the variables of Slurm) or "tpu" (the TPU attached to this machine, or
            the one in `TPU_NAME`).

    Raises:
        ValueError: If `name` is unknown, or if the environment does not support the strategy.
    """
    table = {
        "default": tf.distribute.get_strategy,
        "mirrored": _mirrored,
        "multi_worker": _multi_worker,
        "tpu": _tpu,
    }
    return look_up(table, name, "strategy")()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes files. In a cluster, only one worker writes."""
    resolver = strategy.cluster_resolver
    if (
        resolver is None
        or not resolver.task_type
        or isinstance(strategy, tf.distribute.TPUStrategy)
    ):
        return True
    chiefs = resolver.cluster_spec().as_dict().get("chief")
    return resolver.task_type == ("chief" if chiefs else "worker") and resolver.task_id == 0


def worker_shard(strategy: tf.distribute.Strategy) -> tuple[int, int, int]:
    """This worker's index, the number of workers, and the number of replicas on each."""
    replicas = strategy.num_replicas_in_sync
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1, replicas
    workers = strategy.extended._num_workers
    return strategy.extended._id_in_cluster, workers, replicas // workers


@contextlib.contextmanager
def needing_all_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """A context in which the loss of another worker raises a `WorkerLostError`."""
    try:
        yield
    except tf.errors.OpError as error:
        if worker_shard(strategy)[1] == 1:
            raise
        # Collectives raise many types of errors, with long texts that do not help.
        raise WorkerLostError(
            "Another worker of the cluster ended or cannot be reached, so this worker ends too "
            f"({type(error).__name__}). See the messages of the other worker. Then start all workers "
            "again with --resume: the run continues from its last checkpoint."
        ) from error


def _mirrored():
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multi_worker():
    if "TF_CONFIG" in os.environ:
        try:
            config = json.loads(os.environ["TF_CONFIG"])
            config["cluster"]["worker"], config["task"]["type"]
            int(config["task"]["index"])
            tf.train.ClusterSpec(config["cluster"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                'TF_CONFIG must be JSON such as {"cluster": {"worker": ["host1:2222", '
                '"host2:2222"]}, "task": {"type": "worker", "index": 0}}. '
                f"Received: {os.environ['TF_CONFIG']!r}."
            ) from error
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    elif "SLURM_PROCID" in os.environ:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver()
    else:
        raise ValueError(
            "The strategy 'multi_worker' reads the cluster from TF_CONFIG or, in a Slurm step, from "
            "SLURM_PROCID and related variables. Received: neither is set. Set TF_CONFIG for each worker, or "
            "use --strategy=mirrored on a single machine."
        )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def _tpu():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:
        raise ValueError(
            "The strategy 'tpu' found no TPU. Set TPU_NAME to the TPU's name or address, or run on "
            f"a TPU machine. TensorFlow said: {error}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
