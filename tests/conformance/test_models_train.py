"""Each model trains, saves, resumes and repeats, on one device.

All tests of a model share its traced training step and its traced evaluation step.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from configs import CONFIGS
from harness import (
    assert_finite,
    assert_same,
    batches,
    build,
    differs,
    eagerly,
    evaluate_eagerly,
    every_model,
    every_model_traced,
    fresh,
    images_for,
    objective_inputs,
    state,
    training_batch,
    training_batches,
)


# Detects: gradients of the wrong sign or of the wrong player, an objective that training does not
# lower, results that are not finite or that validation does not report.
@every_model_traced
def test_training_lowers_the_result_of_its_entry(name, images):
    model, falls = fresh(name), CONFIGS[name].falls
    held_out = batches(images, model)
    before = model.evaluate(held_out, verbose=0, return_dict=True)
    assert falls in before, (
        f"'{falls}' is not a result of '{name}'. Set `falls=` of its entry in "
        f"tests/conformance/configs.py to one of {sorted(before)}."
    )
    history = model.fit(
        training_batches(images, model),
        epochs=12,
        verbose=0,
        validation_data=held_out,
        validation_freq=12,
    ).history
    assert_finite(history)
    assert {f"val_{key}" for key in before} <= history.keys()
    (after,) = history[f"val_{falls}"]
    assert after < 0.97 * before[falls]


# Detects: a weight, a statistic, an optimizer's slot, a step or a setting that a file loses, and
# randomness that depends on other state.
@every_model_traced
def test_training_resumes_exactly_from_a_keras_file(name, images, tmp_path):
    model = fresh(name)
    data = training_batches(images, model)
    model.fit(data, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(state(model), state(loaded))
    # Both steps are graphs: eager results depend on the alignment of buffers in their last bit.
    for m in (model, loaded):
        m.fit(data, verbose=0)
    assert_same(state(model), state(loaded))


# Detects: randomness outside of the seed, or state outside of the variables.
@every_model_traced
def test_training_is_reproducible(name, images):
    ends = []
    for _ in range(2):
        model = fresh(name)
        model.fit(training_batches(images, model), verbose=0)
        ends.append(state(model))
    assert_same(*ends)


@functools.cache
def state_after_one_step(name, seed):
    """State after an eager step: a traced step has its seed built in."""
    model = fresh(name)
    try:
        model.seed = seed
        model.train_step(training_batch(images_for(name), model))
    finally:
        model.seed = 0
    return state(model)


# Detects: draws that ignore the model's seed.
@every_model_traced
def test_the_seed_changes_the_step_of_a_model_that_draws(name):
    different = differs(state_after_one_step(name, 0), state_after_one_step(name, 1))
    assert different == CONFIGS[name].random_steps, "`random_steps` of its entry says otherwise."


# Detects: a model without a condition that reads labels.
@every_model_traced
def test_a_model_without_a_condition_ignores_labels(name, images):
    model = fresh(name)
    if model.condition is not None or model.semi_supervised or model.annotations:
        return  # All other tests pass `y`.
    x = training_batch(images, model)
    model.train_step((x, tf.range(len(x))))
    assert_same(state(model), state_after_one_step(name, 0))


# Detects: a gradient that reaches another player's weights, batch statistics that change in another
# player's update, a trainable variable that no update changes, a player that no round updates.
@every_model
def test_a_round_changes_exactly_the_variables_of_its_players(name, images):
    model = fresh(name)
    players = model.players()
    everything = {
        id(v): v for own in players.values() for layer in own for v in layer.variables
    }.values()
    rng = np.random.default_rng(0)
    for variable in {id(v): v for p in players for v in model.variables_of(p)}.values():
        # A layer that starts at zero passes no gradient to the layers before it.
        variable.assign_add(rng.normal(0, 0.01, variable.shape))
    updated = set()
    for round in model.rounds():
        before = {id(v): np.array(v) for v in everything}
        x, y = objective_inputs(training_batch(images, model))
        losses, _ = model._play(round, x, y, tf.constant([3, 4]))
        theirs = {id(v) for p in losses for layer in players[p] for v in layer.variables}
        changed = {id(v) for v in everything if (np.array(v) != before[id(v)]).any()}
        assert changed <= theirs, [v.path for v in everything if id(v) in changed - theirs]
        trained = {id(v) for p in losses for v in model.variables_of(p)}
        assert trained <= changed, [v.path for v in everything if id(v) in trained - changed]
        updated |= losses.keys()
    assert updated == players.keys()


# Detects: weights or losses in half precision, an operation without a bfloat16 kernel, casts that
# cost more than bfloat16's rounding.
@every_model_traced
def test_bfloat16_keeps_weights_and_losses_in_float32(name, images):
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(name)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    computes = {part.compute_dtype for layer in model.layers for part in layer._flatten_layers()}
    assert "bfloat16" in computes
    scores = []
    for m in (model, fresh(name)):
        with eagerly(m):
            m.fit(training_batches(images, m, number=2), verbose=0)
        scores.append(evaluate_eagerly(m, batches(images, m, number=1)))
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    assert_finite(scores[0])
    for key in scores[0]:
        if key.endswith("loss") and "GAN" not in name:
            assert scores[0][key] == pytest.approx(scores[1][key], rel=0.05, abs=0.1)
