"""The functions that use Keras's private names, on layers with known parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo import keras_internals as internals


@keras.saving.register_keras_serializable("tests")
class AddsLoss(keras.layers.Layer):
    def call(self, x):
        self.add_loss(tf.reduce_sum(x))
        return x


def test_layers_in_returns_the_layer_and_all_nested_layers():
    dense, dropout = keras.layers.Dense(2), keras.layers.Dropout(0.5)
    inner = keras.Sequential([keras.Input((2,)), dense])
    outer = keras.Sequential([keras.Input((2,)), inner, dropout])
    layers = internals.layers_in(outer)
    for layer in (outer, inner, dense, dropout):
        assert any(layer is other for other in layers)
    without = internals.layers_in(outer, include_self=False)
    assert len(without) == len(layers) - 1 and all(layer is not outer for layer in without)


def test_seed_generators_include_only_the_layers_own_generators():
    dropout = keras.layers.Dropout(0.5)
    outer = keras.Sequential([keras.Input((2,)), dropout])
    (generator,) = internals.seed_generators(dropout)
    assert isinstance(generator, keras.random.SeedGenerator)
    assert not internals.seed_generators(outer)
    # The generator's state decides the mask.
    masks = []
    for seed in ([1, 2], [1, 2], [3, 4]):
        generator.state.assign(np.array(seed, generator.state.dtype))
        masks.append(np.asarray(dropout(tf.ones([100]), training=True)))
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()


def test_losses_added_in_a_scope_are_collected_and_traced_to_their_layer():
    layer, other = AddsLoss(), keras.layers.Identity()
    with keras.StatelessScope(collect_losses=True) as scope:
        assert not internals.collected_losses(scope)
        other(layer(tf.constant([1.0, 2.0])))
        losses = internals.collected_losses(scope)
        assert [float(loss) for loss in losses] == [3.0]
        assert internals.added_any(layer, losses) and not internals.added_any(other, losses)


def test_state_updates_are_removed_from_a_scope():
    a, b, c = (keras.Variable(float(i)) for i in range(3))
    with keras.StatelessScope() as scope:
        a.assign(10.0)
        b.assign(20.0)
    updates = internals.take_state_updates(scope, {id(a), id(c)})
    assert {i: float(value) for i, value in updates.items()} == {id(a): 10.0}
    assert not internals.take_state_updates(scope, {id(a), id(c)})
    with scope:
        assert float(a.value) == 0.0 and float(b.value) == 20.0
    assert [float(v.numpy()) for v in (a, b, c)] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [3.0, -4.0]),
        ({"clipvalue": 3.5}, [3.0, -3.5]),
        ({"clipnorm": 1.0}, [1.0, -1.0]),
        ({"global_clipnorm": 1.0}, [0.6, -0.8]),
    ],
)
def test_gradients_are_clipped_by_the_rule_of_the_optimizer(arguments, expected):
    gradients = [tf.constant([3.0]), tf.constant([-4.0])]
    clipped = internals.clip_gradients(keras.optimizers.SGD(**arguments), gradients)
    np.testing.assert_allclose([float(g[0]) for g in clipped], expected, rtol=1e-6)


def test_moving_averages_are_in_the_order_of_the_variables():
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.75)
    variables = [keras.Variable([0.0]), keras.Variable([0.0, 0.0])]
    optimizer.build(variables)
    for _ in range(2):
        optimizer.apply([tf.constant([-1.0]), tf.constant([-2.0, -2.0])], variables)
    # The first step initialises the average: 0.75 * 1 + 0.25 * 2.
    one, two = internals.moving_averages(optimizer)
    np.testing.assert_allclose(one.numpy(), [1.25])
    np.testing.assert_allclose(two.numpy(), [2.5, 2.5])


def test_variables_of_an_optimizer_are_those_it_was_built_for():
    variables = [keras.Variable([0.0]), keras.Variable([0.0, 0.0])]
    sgd = keras.optimizers.SGD()
    for optimizer in (sgd, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())):
        assert internals.variables_of_optimizer(optimizer) is None
        optimizer.build(variables)
        have = internals.variables_of_optimizer(optimizer)
        assert [id(v) for v in have] == [id(v) for v in variables]


def test_moments_of_each_call_in_training_mode_are_recorded():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 2))
    x = np.array([[1.0, 2.0], [3.0, 6.0]], np.float32)
    with internals.batch_moments([layer, keras.layers.Dense(1)]) as recorded:
        layer(x, training=True)
        layer(2 * x, training=True)
        layer(x, training=False)
    np.testing.assert_allclose(recorded[id(layer.moving_mean)], [[2, 4], [4, 8]])
    np.testing.assert_allclose(recorded[id(layer.moving_variance)], [[1, 4], [4, 16]])
    layer(x, training=True)
    assert len(recorded[id(layer.moving_mean)]) == 2


def test_fit_does_not_finalize_weights_in_the_context():
    optimizer = keras.optimizers.SGD(use_ema=True)
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    with internals.without_finalizing(optimizer):
        optimizer.finalize_variable_values([variable])
        assert float(variable[0]) == 1.0
    optimizer.finalize_variable_values([variable])
    assert float(variable[0]) == 0.0
    with internals.without_finalizing(None):
        pass


@pytest.mark.parametrize("decorate", [True, False])
def test_a_decorated_model_trains_on_the_first_batch_under_a_strategy(mirrored, decorate):
    class Sum(keras.Model):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def call(self, x):
            self.calls += 1
            return x

        def train_step(self, data):
            return {"seen": tf.reduce_sum(keras.utils.unpack_x_y_sample_weight(data)[0])}

    with mirrored.scope():
        model = (internals.without_symbolic_build if decorate else lambda m: m)(Sum)()
        model.compile(jit_compile=False)
    model.fit(tf.data.Dataset.from_tensor_slices(np.ones([4, 1], np.float32)).batch(2), verbose=0)
    assert (model.calls == 0) == decorate
