"""Strategies by name."""

import pytest
import tensorflow as tf

from zoo.training import strategies


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)


def test_the_default_is_one_replica_whose_process_is_the_chief():
    strategy = strategies.make()
    assert strategy.num_replicas_in_sync == 1
    assert strategies.is_chief(strategy)
    assert strategies.worker_shard(strategy) == (0, 1, 1)


def test_mirrored_takes_every_device_of_the_machine():
    strategy = strategies.make("mirrored")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    assert strategy.num_replicas_in_sync == len(devices)
    assert strategies.is_chief(strategy)
    assert strategies.worker_shard(strategy) == (0, 1, len(devices))


def test_the_error_of_an_unknown_name_lists_the_known_names():
    with pytest.raises(ValueError, match=r"Did you mean 'mirrored'.*multi_worker"):
        strategies.make("miror")


def test_multi_worker_requires_a_cluster_description():
    with pytest.raises(ValueError, match="Received: neither is set"):
        strategies.make("multi_worker")


@pytest.mark.parametrize(
    "value",
    [
        *("", "{", "[]", "{}", '{"cluster": {"worker": ["a:1"]}}', '{"cluster": 1, "task": 2}'),
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "first"}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": null}}',
        '{"cluster": {"worker": [1]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        "[" * 100_000,
    ],
    ids=lambda value: value[-40:],
)
def test_the_error_of_an_incomplete_tf_config_quotes_it(value, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(ValueError, match="TF_CONFIG must be JSON such as") as error:
        strategies.make("multi_worker")
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("cluster", "task", "chief"),
    [
        ({"worker": ["a:1", "b:1"]}, ("worker", 0), True),
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), False),
        ({"chief": ["c:1"], "worker": ["a:1"]}, ("chief", 0), True),
        ({"chief": ["c:1"], "worker": ["a:1"]}, ("worker", 0), False),
    ],
)
def test_one_of_the_workers_is_the_chief(cluster, task, chief):
    class Strategy:
        cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(cluster), task_type=task[0], task_id=task[1]
        )

    assert strategies.is_chief(Strategy()) is chief
