"""Each player has its own optimizer, on models whose steps are computed by hand."""

import keras
import numpy as np
import pytest
from line_models import Lines, after_a_step, compiled, images, weights
from speed import slow

import zoo


def test_one_optimizer_for_all_is_copied_for_each_player():
    optimizer = keras.optimizers.Adam(0.5, beta_1=0.3)
    model = compiled(Lines(2), optimizer)
    one, two = model.optimizers["one"], model.optimizers["two"]
    assert len({id(o) for o in (optimizer, one, two)}) == 3
    for copy in (one, two):
        assert float(copy.learning_rate) == 0.5 and copy.beta_1 == 0.3
    assert not {id(v) for v in one.variables} & {id(v) for v in two.variables}


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"one": "adam"}, r"\['one', 'two'\] as keys.*the keys \['one'\]"),
        ({"one": "adam", "too": "adam"}, r"Received: a dict with the keys \['one', 'too'\]"),
    ],
)
def test_a_dict_of_optimizers_requires_the_players_as_keys(optimizer, message):
    with pytest.raises(ValueError, match=message):
        Lines(2).compile(optimizer)


def test_losses_and_metrics_cannot_be_compiled_in():
    with pytest.raises(ValueError, match=r"built in.*Received: \['loss', 'metrics'\]"):
        Lines().compile("adam", loss="mse", metrics=["mae"])


def test_one_optimizer_object_for_two_players_is_refused():
    shared = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="separate optimizer"):
        Lines(2).compile({"one": shared, "two": shared})


def test_a_trainable_variable_of_no_player_is_refused_by_name():
    class OnlyTheFirst(Lines):
        def players(self):
            return {"one": [self.lines[0]]}

    model = OnlyTheFirst(2)
    path = model.lines[1].layers[-1].kernel.path
    with pytest.raises(
        ValueError, match=rf"belongs to at least one player.*no player has '{path}'"
    ):
        model.compile()
    model.lines[1].trainable = False
    model.compile()


def test_an_activity_regularizer_is_refused():
    with pytest.raises(ValueError, match="activity_regularizer"):
        compiled(Lines(activity_regularizer=keras.regularizers.L2(0.1)))


@pytest.mark.parametrize(
    ("clip", "clipped"),
    [
        ({"global_clipnorm": 0.01}, lambda g: g * 0.01 / np.linalg.norm(g)),
        ({"clipnorm": 0.01}, lambda g: g * 0.01 / np.linalg.norm(g)),
        ({"clipvalue": 0.3}, lambda g: np.clip(g, -0.3, 0.3)),
        ({"global_clipnorm": 100.0}, lambda g: g),
    ],
)
def test_gradients_are_clipped_by_the_optimizers_rule(clip, clipped):
    x, model = images(4), compiled(Lines(), keras.optimizers.SGD(1.0, **clip))
    before = weights(model)
    model.fit(x, batch_size=4, verbose=0)
    expected = before - clipped(x[:, 0, :, 0].mean(0))
    np.testing.assert_allclose(weights(model), expected, rtol=1e-5, atol=1e-7)


def test_on_two_replicas_clipping_acts_on_gradients_without_their_scale(mirrored):
    x = images(4)
    gradient = x[:, 0, :, 0].mean(0)
    expected = -gradient * 0.1 / np.linalg.norm(gradient)
    for scale in (None, 64.0):
        with mirrored.scope():
            sgd = keras.optimizers.SGD(1.0, global_clipnorm=0.1, loss_scale_factor=scale)
        np.testing.assert_allclose(after_a_step(x, mirrored, sgd), expected, rtol=1e-5)


def twins(*optimizers, steps=3, **kwargs):
    """Returns the weights of the same model after the same steps with each optimizer."""
    start, x = weights(Lines()), np.concatenate([images(4) for _ in range(steps)])
    for optimizer in optimizers:
        model = compiled(Lines(), optimizer, **kwargs)
        model.lines[0].layers[-1].kernel.assign(start[:, None])
        logs = model.fit(x, batch_size=4, shuffle=False, verbose=0).history
        assert np.abs(weights(model) - start).max() > 1e-3
        yield weights(model), logs["loss"][0]


@pytest.mark.parametrize("how", [{"run_eagerly": True}, slow({"jit_compile": True}), {}])
@pytest.mark.parametrize(
    "own", [{}, {"global_clipnorm": 0.1}, {"clipvalue": 0.2}], ids=["plain", "norm", "value"]
)
def test_a_loss_scale_changes_neither_the_step_nor_the_reported_loss(how, own):
    sgd, scaling = keras.optimizers.SGD, keras.optimizers.LossScaleOptimizer
    (plain, loss), *others = twins(
        sgd(0.1, **own), scaling(sgd(0.1, **own)), sgd(0.1, loss_scale_factor=64.0, **own), **how
    )
    for scaled, reported in others:
        np.testing.assert_allclose(scaled, plain, rtol=1e-5)
        assert reported == pytest.approx(loss, rel=1e-5)


def test_steps_with_gradients_that_overflow_are_skipped_and_halve_the_scale():
    model, scale = Lines(), 2.0**127
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=scale)
    compiled(model, {"one": optimizer})
    before = weights(model)
    # The gradient is 8: the largest scale without overflow is 2^124, as floats end near 2^128.
    x, y = np.ones((20, 1, 3, 1), np.float32), np.full(20, 8.0, np.float32)
    model.fit(x[:12], y[:12], batch_size=4, verbose=0)
    np.testing.assert_array_equal(weights(model), before)
    model.fit(x[12:], y[12:], batch_size=4, verbose=0)
    np.testing.assert_allclose(weights(model), before - 2 * 8.0, rtol=1e-6)
    assert float(optimizer.dynamic_scale) == scale / 2**3


def half_vae():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        # From a bias of 0 the loss falls clearly in three epochs.
        return zoo.models.vae((8, 8, 1), latent_dim=3, hidden=(16,), start_at_mean=False)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_losses_of_networks_in_float16_are_scaled_unless_auto_scale_loss_is_false(digits, tmp_path):
    model, scaling = half_vae(), keras.optimizers.LossScaleOptimizer
    assert "float16" in {part.compute_dtype for part in model.posterior._flatten_layers()}
    model.compile(keras.optimizers.Adam(0.01))
    assert isinstance(model.optimizers["vae"], scaling)
    losses = model.fit(digits, batch_size=20, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for m in (model, loaded):
        m.fit(digits, batch_size=20, shuffle=False, verbose=0)
    assert type(loaded.optimizers["vae"].inner_optimizer) is keras.optimizers.Adam
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.compile("adam", auto_scale_loss=False)
    assert type(model.optimizers["vae"]) is keras.optimizers.Adam
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizers["vae"]) is keras.optimizers.Adam


def test_a_loss_scale_that_adapts_is_refused_on_two_replicas(mirrored):
    sgd = keras.optimizers.SGD
    with mirrored.scope():
        half = half_vae()
        with pytest.raises(ValueError, match=r"one replica.*bfloat16.*2 replicas.* player 'vae'"):
            half.compile(sgd())
        half.compile(sgd(), auto_scale_loss=False)
        with pytest.raises(ValueError, match="one replica"):
            Lines().compile(keras.optimizers.LossScaleOptimizer(sgd()))
