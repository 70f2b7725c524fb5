"""Schedules against their formulas, inside graphs and rebuilt from configs."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.schedules import (
    CyclicalWarmUp,
    LinearDecay,
    LinearWarmUp,
    Schedule,
    check_weight,
    value_at,
)

EVERY = pytest.mark.parametrize(
    "schedule",
    [LinearWarmUp(5), LinearWarmUp(5, 3.0), LinearDecay(5, 0.5), CyclicalWarmUp(10, 0.25)],
)


def test_a_linear_warm_up_rises_linearly_and_stays_constant():
    steps = np.arange(20)
    values = [float(LinearWarmUp(8, end=2.5)(s)) for s in steps]
    np.testing.assert_allclose(values, np.interp(steps, [0, 8], [0, 2.5]), rtol=1e-6)


def test_a_linear_decay_falls_linearly_and_stays_constant():
    steps = np.arange(20)
    values = [float(LinearDecay(8, start=2.5)(s)) for s in steps]
    np.testing.assert_allclose(values, np.interp(steps, [0, 8], [2.5, 0]), rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match=r"`steps` must be at least 1. Received: 0"):
        LinearDecay(0)


def test_a_cyclical_warm_up_matches_the_paper():
    # Fu et al., eq. 6 and 7, with t from 1, T = 40 iterations, M = 4 cycles, R = 0.5.
    def beta(t, total=40, cycles=4, rising=0.5):
        tau = ((t - 1) % np.ceil(total / cycles)) / (total / cycles)
        return tau / rising if tau <= rising else 1.0

    values = [float(CyclicalWarmUp(10)(step)) for step in range(40)]
    np.testing.assert_allclose(values, [beta(t) for t in range(1, 41)], rtol=1e-6)


def test_cycles_are_counted_in_integers():
    # float32 cannot represent 2^24 + 1.
    assert float(CyclicalWarmUp(2**24 + 2, 1.0)(2**25 + 5)) == pytest.approx(1 / (2**24 + 2))


@EVERY
def test_schedules_are_equal_inside_a_graph_and_after_json(schedule):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    twin = keras.saving.deserialize_keras_object(config)
    assert type(twin) is type(schedule) and twin.get_config() == schedule.get_config()
    step = tf.Variable(0, dtype=tf.int64)
    compiled = tf.function(lambda: twin(step))
    for value in (0, 1, 3, 7, 30):
        step.assign(value)
        assert compiled().dtype == tf.float32
        assert float(compiled()) == pytest.approx(float(schedule(value)))


def test_a_number_is_a_constant_schedule():
    assert value_at(0.3, 10) == 0.3
    assert float(value_at(LinearWarmUp(20), 10)) == 0.5
    with pytest.raises(NotImplementedError):
        Schedule()(0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearWarmUp(0),
        lambda: LinearWarmUp(-3),
        lambda: LinearWarmUp(3, float("nan")),
        lambda: LinearWarmUp(3, -1.0),
        lambda: LinearDecay(3, float("nan")),
        lambda: LinearDecay(3, float("inf")),
        lambda: LinearDecay(3, -1.0),
        lambda: CyclicalWarmUp(0),
        lambda: CyclicalWarmUp(5, 0.0),
        lambda: CyclicalWarmUp(5, 1.5),
        lambda: check_weight(-0.1, "beta"),
        lambda: check_weight(float("nan"), "beta"),
        lambda: check_weight("1", "beta"),
        lambda: check_weight(True, "beta"),
    ],
)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"must be .*Received: "):
        make()
