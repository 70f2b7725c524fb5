"""Metrics over batches equal the functions on all examples, for any batches."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.metrics.classifier_score import classifier_score
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.kernel import kernel_distance
from zoo.metrics.manifold import precision_recall_density_coverage
from zoo.metrics.streaming import PRDC, ClassifierScore, FrechetDistance, KernelDistance

DIM = 5
RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(60, DIM)).astype("float32")
FAKE = (RNG.normal(size=(47, DIM)) * 1.2 + 0.3).astype("float32")
LOGITS = (3 * RNG.normal(size=(53, 4))).astype("float32")
BATCHES = {"real": [0, 1, 20, 20, 60], "fake": [0, 33, 47], "logits": [0, 2, 40, 53]}


def parts(values, which):
    bounds = BATCHES[which]
    return [values[a:b] for a, b in itertools.pairwise(bounds)]


def make(name):
    return {
        "frechet": lambda: FrechetDistance(DIM),
        "kernel": lambda: KernelDistance(DIM, 60),
        "prdc": lambda: PRDC(DIM, 60, k=3, ties="inclusive"),
    }[name]()


def at_once(name, real=REAL, fake=FAKE):
    function = {
        "frechet": frechet_distance,
        "kernel": kernel_distance,
        "prdc": lambda a, b: precision_recall_density_coverage(a, b, k=3, ties="inclusive"),
    }[name]
    return function(real.astype("float64"), fake.astype("float64"))


def same(have, want, rel=1e-11):
    """Estimates, or dicts of them, agree in everything."""
    if isinstance(want, dict):
        assert have.keys() == want.keys()
        for key in want:
            same(have[key], want[key], rel)
        return
    for field in ("value", "stderr", "bias"):
        value, expected = getattr(have, field), getattr(want, field)
        assert value is expected is None or value == pytest.approx(expected, rel=rel)
    assert (have.n_real, have.n_fake) == (want.n_real, want.n_fake)
    assert have.estimator == want.estimator


def check_result(metric, want):
    result = metric.result()
    if isinstance(want, dict):
        assert {k: float(v) for k, v in result.items()} == {k: v.value for k, v in want.items()}
    else:
        assert result.shape == () and float(result) == pytest.approx(want.value, rel=1e-11)


def feed(metric, update=None):
    update = update or metric.update_state
    for batch in parts(REAL, "real"):
        update(batch, real=True)
    for batch in parts(FAKE, "fake"):
        update(batch, real=False)


names = pytest.mark.parametrize("name", ["frechet", "kernel", "prdc"])


@names
@pytest.mark.parametrize("graph", [False, True])
def test_batches_give_the_result_of_all_examples_at_once(name, graph):
    metric = make(name)
    update = tf.function(metric.update_state, reduce_retracing=True) if graph else None
    feed(metric, update)
    same(metric.report(), at_once(name))
    check_result(metric, at_once(name))


@names
def test_result_works_in_a_graph(name):
    metric = make(name)

    @tf.function
    def both(real, fake):
        metric.update_state(real, real=True)
        metric.update_state(fake, real=False)
        return metric.result()

    result, want = both(REAL, FAKE), at_once(name)
    if name == "prdc":
        assert {k: float(v) for k, v in result.items()} == {k: v.value for k, v in want.items()}
    else:
        assert float(result) == pytest.approx(want.value, rel=1e-11)


@names
def test_two_replicas_give_the_result_of_one(name, mirrored):
    with mirrored.scope():
        metric = make(name)

    @tf.function
    def step(real, fake):
        metric.update_state(real, real=True)
        metric.update_state(fake, real=False)

    # Unequal shares: the second replica has fewer examples, in the last step none of the fakes.
    cuts = [((0, 20), (20, 31), (0, 9), (9, 30)), ((31, 59), (59, 60), (30, 47), (47, 47))]
    for r0, r1, f0, f1 in cuts:
        shares = [tf.constant(REAL[slice(*r)]) for r in (r0, r1)]
        fakes = [tf.constant(FAKE[slice(*f)]) for f in (f0, f1)]
        per_replica = (
            mirrored.experimental_distribute_values_from_function(
                lambda context, values=values: values[context.replica_id_in_sync_group]
            )
            for values in (shares, fakes)
        )
        mirrored.run(step, tuple(per_replica))
    same(metric.report(), at_once(name))
    check_result(metric, at_once(name))


@names
def test_result_within_replicas_covers_all_replicas(name, mirrored):
    with mirrored.scope():
        metric = make(name)

    @tf.function
    def step():
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        metric.update_state(tf.gather(tf.reshape(tf.constant(REAL), (2, 30, DIM)), index), True)
        metric.update_state(
            tf.gather(tf.reshape(tf.constant(FAKE[:46]), (2, 23, DIM)), index), False
        )
        return metric.result()

    results = mirrored.run(step)
    want = at_once(name, fake=FAKE[:46])
    if name == "prdc":
        for key, score in want.items():
            assert [float(v) for v in mirrored.experimental_local_results(results[key])] == [
                score.value
            ] * 2
    else:
        values = [float(v) for v in mirrored.experimental_local_results(results)]
        assert values == pytest.approx([want.value] * 2, rel=1e-11)


@names
def test_reset_can_keep_the_real_examples(name):
    metric = make(name)
    feed(metric)
    metric.reset_state(keep_real=True)
    metric.update_state(FAKE[:20], real=False)
    same(metric.report(), at_once(name, fake=FAKE[:20]))
    metric.reset_state()
    with pytest.raises(ValueError, match="Received"):
        metric.report()
    feed(metric)
    same(metric.report(), at_once(name))


@names
def test_stateless_updates_match_stateful_updates(name):
    metric = make(name)
    state = metric.stateless_update_state(metric.variables, REAL, real=True)
    state = metric.stateless_update_state(state, FAKE, real=False)
    result = metric.stateless_result(state)
    want = at_once(name)
    if name == "prdc":
        assert float(result["recall"]) == want["recall"].value
    else:
        assert float(result) == pytest.approx(want.value, rel=1e-11)
    assert not metric.variables[0].numpy()


@pytest.mark.parametrize(
    "metric",
    [
        FrechetDistance(3, name="f"),
        KernelDistance(3, 9, estimator="blocks", block_size=4),
        PRDC(3, 9, k=2, ties="inclusive"),
        ClassifierScore(7),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_configurations_are_restored(metric):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(again) is type(metric) and again.get_config() == metric.get_config()
    assert [v.shape for v in again.variables] == [v.shape for v in metric.variables]


def test_settings_are_passed_to_the_kernel_distance():
    metric = KernelDistance(DIM, 100, estimator="subsets", subset_size=10, num_subsets=5, seed=3)
    feed(metric)
    want = kernel_distance(REAL, FAKE, "subsets", subset_size=10, num_subsets=5, seed=3)
    same(metric.report(), want)


def test_moments_of_the_frechet_distance_match_numpy():
    metric = FrechetDistance(DIM)
    feed(metric)
    np.testing.assert_allclose(metric.moments(real=True).mean, REAL.mean(0), rtol=1e-5)
    covariance = np.cov(FAKE.astype("float64").T)
    np.testing.assert_allclose(metric.moments(real=False).covariance, covariance, rtol=1e-10)


def test_float32_features_are_summed_in_float64():
    # Products of float32 in float32 would be off by 1e-7 * 1000² = 0.1.
    metric = FrechetDistance(DIM)
    metric.update_state(REAL + np.float32(1000), real=True)
    metric.update_state(FAKE + np.float32(1000), real=False)
    want = at_once("frechet", REAL + np.float32(1000), FAKE + np.float32(1000))
    assert metric.report().value == pytest.approx(want.value, rel=1e-8)


@pytest.mark.parametrize("name", ["kernel", "prdc"])
def test_more_examples_than_the_capacity_are_refused(name):
    metric = make(name)
    feed(metric)
    metric.update_state(REAL[:1], real=True)
    with pytest.raises(ValueError, match=r"capacity of 60 real examples\. Received: 61"):
        metric.report()
    metric.reset_state()
    metric.update_state(FAKE, real=False)
    metric.update_state(FAKE, real=False)
    with pytest.raises(ValueError, match=r"60 generated examples\. Received: 94"):
        metric.report()


@names
@pytest.mark.parametrize(
    "features, real, message",
    [
        (REAL[:, :4], True, r"\[B, 5\]"),
        (REAL[0], True, r"\[B, 5\]"),
        (REAL.astype("int32"), True, "int32"),
        (REAL, 1, "True or False"),
    ],
)
def test_invalid_features_are_refused(name, features, real, message):
    with pytest.raises(ValueError, match=message):
        make(name).update_state(features, real)


@names
def test_nan_is_reported(name):
    metric = make(name)
    feed(metric)
    metric.update_state(np.where(FAKE > 1, np.nan, FAKE)[:13], real=False)
    with pytest.raises(ValueError, match="NaN"):
        metric.report()


# The classifier score -------------------------------------------------------------------------


def test_the_classifier_score_of_batches_matches_the_function():
    metric = ClassifierScore(4)
    for batch in parts(LOGITS, "logits"):
        metric.update_state(batch)
    want = classifier_score(LOGITS.astype("float64"), splits=1)
    assert metric.report().value == pytest.approx(want.value, rel=1e-13)
    assert float(metric.result()) == pytest.approx(want.value, rel=1e-13)
    assert metric.report().n_fake == 53
    metric.reset_state()
    with pytest.raises(ValueError, match="0 examples"):
        metric.report()


def test_the_classifier_score_of_two_replicas_matches_one_replica(mirrored):
    with mirrored.scope():
        metric = ClassifierScore(4)

    @tf.function
    def step():
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        starts, ends = tf.constant([0, 40]), tf.constant([40, 53])
        metric.update_state(tf.constant(LOGITS)[starts[index] : ends[index]])
        return metric.result()

    results = mirrored.run(step)
    want = classifier_score(LOGITS.astype("float64"), splits=1).value
    assert metric.report().value == pytest.approx(want, rel=1e-13)
    values = [float(v) for v in mirrored.experimental_local_results(results)]
    assert values == pytest.approx([want] * 2, rel=1e-13)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_logits_are_refused(bad):
    metric = ClassifierScore(2)
    metric.update_state([[bad, 0.0]])
    with pytest.raises(ValueError, match="1 examples, some of them NaN"):
        metric.report()


def test_logits_of_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match=r"\[B, 3\]"):
        ClassifierScore(3).update_state(LOGITS)
