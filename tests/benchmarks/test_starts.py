"""The study of starts, on digits."""

import keras
import numpy as np
import pytest

from benchmarks import starts
from zoo import presets, training

SMALL = ("data.name=digits", "hidden=(16,)", "latent_dim=4", "jit_compile=false")


def configured(*settings):
    config = presets.get(starts.PRESET)
    presets.override(config, [*starts.BASE, *SMALL, *settings])
    return config


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_the_posterior_starts_with_the_given_scale(scale):
    config = configured()
    data = training.load_data(config)
    keras.utils.set_random_seed(0)
    model = presets.build(config, data.image_shape, data.levels)
    starts.set_scale(model, scale)
    q = model.posterior(data.arrays("train", limit=100)[0])
    assert np.exp(np.log(q.stddev()).mean()) == pytest.approx(scale, rel=0.2)


def test_each_start_differs_from_the_first_in_one_thing():
    base = presets.get(starts.PRESET)
    presets.override(base, list(starts.BASE))
    for settings, scale in list(starts.STARTS.values())[1:]:
        config = presets.get(starts.PRESET)
        presets.override(config, [*starts.BASE, *settings])
        assert len(presets.differences(base, config)) + (scale is not None) == 1


def test_scores_are_those_after_each_number_of_epochs():
    config = configured()
    data = training.load_data(config)
    found = starts.measure(config, data, [1, 2], None)
    assert found[2] == starts.measure(config, data, [2], None)[2]
    assert found[1]["NLL"] != found[2]["NLL"] and 0 <= found[1]["active units"] <= 4
    assert starts.measure(config, data, [1], 0.1) != {1: found[1]}
    text = starts.report({"a start": [found, found]}, {"cores": 2})
    nll = found[2]["NLL"]
    assert f"| {nll:.1f}, {nll:.1f} |\n" in text and "active units, 1 epoch |" in text
