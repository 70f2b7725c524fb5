"""Kernels and MMDs against double loops, closed forms, finite differences and `zoo.metrics`."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow

import zoo
from zoo.discrepancies import (
    RBF,
    InverseMultiquadric,
    kernel_named,
    mmd_to_prior,
    squared_mmd,
    squared_mmd_per_example,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(9, 3)), RNG.normal(0.4, 1.2, size=(9, 3))
IMQ_SCALES = (0.1, 0.2, 0.5, 1, 2, 5, 10)
KERNELS = {
    "rbf": (RBF(), lambda x, y: math.exp(-sum((x - y) ** 2) / (2 * 3))),
    "rbf of several widths": (
        RBF(0.7, (0.5, 2.0)),
        lambda x, y: sum(math.exp(-sum((x - y) ** 2) / (2 * s * 0.7**2)) for s in (0.5, 2)),
    ),
    "imq": (
        InverseMultiquadric(),
        lambda x, y: sum(6 * s / (6 * s + sum((x - y) ** 2)) for s in IMQ_SCALES),
    ),
    "imq of a bandwidth": (
        InverseMultiquadric(1.3, (1.0,)),
        lambda x, y: 2 * 1.3**2 / (2 * 1.3**2 + sum((x - y) ** 2)),
    ),
}
every_kernel = pytest.mark.parametrize(("kernel", "by_hand"), KERNELS.values(), ids=KERNELS)
both_statistics = pytest.mark.parametrize("unbiased", [True, False])


@every_kernel
def test_kernels_match_their_formulas(kernel, by_hand):
    values = [[by_hand(x, y) for y in Y[:5]] for x in X]
    np.testing.assert_allclose(kernel(X, Y[:5]), values, rtol=1e-12)
    np.testing.assert_array_equal(np.diag(kernel(X, X)), kernel.peak)
    sets = np.stack([X, Y])
    np.testing.assert_allclose(kernel(sets, sets[:, :4])[1], kernel(Y, Y[:4]), rtol=1e-12)


def double_loop(x, y, k, unbiased):
    def within(points):
        pairs = [
            k(a, b)
            for i, a in enumerate(points)
            for j, b in enumerate(points)
            if i != j or not unbiased
        ]
        return sum(pairs) / len(pairs)

    between = [k(a, b) for a in x for b in y]
    return within(x) + within(y) - 2 * sum(between) / len(between)


@both_statistics
@every_kernel
def test_the_statistics_match_double_loops(kernel, by_hand, unbiased):
    for y in (Y, Y[:5]):
        value = squared_mmd(X, y, kernel, unbiased)
        assert float(value) == pytest.approx(double_loop(X, y, by_hand, unbiased), rel=1e-10)
    sets = squared_mmd(np.stack([X, Y]), np.stack([Y, X + 1]), kernel, unbiased)
    assert float(sets[1]) == pytest.approx(double_loop(Y, X + 1, by_hand, unbiased), rel=1e-10)


@both_statistics
@pytest.mark.parametrize("name", ["rbf", "imq"])
@pytest.mark.parametrize("bandwidth", [None, 0.8])
def test_the_statistics_match_the_metrics(name, bandwidth, unbiased):
    metric = zoo.metrics.maximum_mean_discrepancy(X, Y[:6], name, bandwidth, unbiased)
    value = squared_mmd(X, Y[:6], kernel_named(name, bandwidth), unbiased)
    assert float(value) == pytest.approx(metric.value, rel=1e-9)


@every_kernel
def test_the_biased_statistic_is_exactly_zero_for_equal_sets_and_positive_for_others(
    kernel, by_hand
):
    x = tf.constant(X, tf.float32)
    assert float(squared_mmd(x, x, kernel, unbiased=False)) == 0
    assert float(tf.reduce_mean(squared_mmd_per_example(x, x, kernel, unbiased=False))) == 0
    assert float(squared_mmd(x, x + 0.1, kernel, unbiased=False)) > 0


@pytest.mark.parametrize(("dim", "width"), [(2, None), (8, None), (3, 0.5)])
def test_the_statistic_of_shifted_normals_matches_the_closed_form(dim, width):
    # For N(0, I), N(m, I) and exp(-|x - y|^2 / 2 s^2):
    # 2 (s^2 / (s^2 + 2))^(D/2) (1 - exp(-|m|^2 / 2 (s^2 + 2))).
    square = dim if width is None else width**2
    shift = np.zeros(dim)
    shift[0] = 1.5
    exact = (
        2 * (square / (square + 2)) ** (dim / 2) * (1 - math.exp(-(1.5**2) / (2 * (square + 2))))
    )
    x, y = (RNG.normal(size=(400, 50, dim)) for _ in range(2))
    values = squared_mmd(x, y + shift, RBF(width)).numpy()
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - exact) < 4 * error < 0.1 * exact
    with_themselves = squared_mmd(x, y + shift, RBF(width), unbiased=False).numpy()
    bias = 2 / 50 * (1 - (square / (square + 2)) ** (dim / 2))
    assert with_themselves.mean() - values.mean() == pytest.approx(bias, rel=0.02)


@pytest.mark.parametrize("dim", [2, 20, 200])
def test_default_kernels_neither_vanish_nor_saturate_in_any_dimension(dim):
    # E|x - y|^2 = 2 D. A bandwidth of D in place of sqrt(D) gives exp(-1 / D): 0.95 at 20.
    x, y = RNG.normal(size=(2, 100, dim))
    assert 0.3 < np.mean(RBF()(x, y)) < 0.55
    assert 0.45 < np.mean(InverseMultiquadric()(x, y)) / 7 < 0.65
    # A large shift gives a large discrepancy.
    for kernel in (RBF(), InverseMultiquadric()):
        assert float(squared_mmd(x, y + 1.0, kernel) / kernel.peak) > 0.1


# Per example ------------------------------------------------------------------------------------


@both_statistics
@every_kernel
def test_the_mean_over_examples_is_the_statistic(kernel, by_hand, unbiased):
    rows = squared_mmd_per_example(X, Y, kernel, unbiased)
    assert rows.shape == (9,)
    assert float(tf.reduce_mean(rows)) == pytest.approx(
        double_loop(X, Y, by_hand, unbiased), rel=1e-10
    )
    i, n = 4, len(X)
    others = [j for j in range(n) if j != i or not unbiased]
    row = np.mean([by_hand(X[i], X[j]) + by_hand(Y[i], Y[j]) for j in others]) - np.mean(
        [by_hand(X[i], Y[j]) + by_hand(Y[i], X[j]) for j in range(n)]
    )
    assert float(rows[i]) == pytest.approx(row, rel=1e-10)


@both_statistics
@every_kernel
def test_the_gradient_matches_finite_differences_of_the_statistic(kernel, by_hand, unbiased):
    x, y = tf.constant(X), tf.constant(Y)
    with tf.GradientTape() as tape:
        tape.watch([x, y])
        loss = tf.reduce_mean(squared_mmd_per_example(x, y, kernel, unbiased))
    gradients = tape.gradient(loss, [x, y])
    step = 1e-5
    for which in (0, 1):
        for place in ((0, 0), (4, 2), (8, 1)):
            values = []
            for sign in (1, -1):
                sets = [X.copy(), Y.copy()]
                sets[which][place] += sign * step
                values.append(double_loop(*sets, by_hand, unbiased))
            slope = (values[0] - values[1]) / (2 * step)
            assert float(gradients[which][place]) == pytest.approx(slope, rel=1e-5, abs=1e-9)


@both_statistics
def test_the_statistic_is_invariant_to_order_and_translation(unbiased):
    kernel = InverseMultiquadric()
    value = float(squared_mmd(X, Y, kernel, unbiased))
    p, q = RNG.permutation(9), RNG.permutation(9)
    assert float(squared_mmd(X[p], Y[q], kernel, unbiased)) == pytest.approx(value, rel=1e-10)
    rows = squared_mmd_per_example(X[p], Y[q], kernel, unbiased)
    assert float(tf.reduce_mean(rows)) == pytest.approx(value, rel=1e-10)
    assert float(squared_mmd(Y + 5, X + 5, kernel, unbiased)) == pytest.approx(value, rel=1e-8)
    together = squared_mmd_per_example(X[p], Y[p], kernel, unbiased)
    np.testing.assert_allclose(
        together, squared_mmd_per_example(X, Y, kernel, unbiased).numpy()[p], rtol=1e-8
    )


def test_the_unbiased_loss_of_one_example_is_zero():
    x, y = tf.constant(X[:1]), tf.constant(Y[:1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        alone = squared_mmd_per_example(x, y, RBF())
    assert float(alone[0]) == 0 and not np.any(tape.gradient(alone, x))
    with_itself = squared_mmd_per_example(x, y, RBF(), unbiased=False)
    by_hand = 2 - 2 * math.exp(-((X[0] - Y[0]) ** 2).sum() / 6)
    assert float(with_itself[0]) == pytest.approx(by_hand)


@pytest.mark.parametrize("shares", [slow((4, 4)), (5, 3)])
@both_statistics
def test_replicas_give_the_statistic_of_the_global_batch_and_its_gradient(
    mirrored, shares, unbiased
):
    kernel = InverseMultiquadric()
    sets = np.stack([X[:8], Y[:8]])  # Two sets at once, [2, 8, 3].
    targets = sets[::-1] + 0.3
    weight = tf.constant(0.9, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(weight)
        whole = tf.reduce_mean(squared_mmd(weight * sets, weight**2 * targets, kernel, unbiased))
    slope = tape.gradient(whole, weight)

    starts = np.cumsum([0, *shares])

    def parts(values):
        return mirrored.experimental_distribute_values_from_function(
            lambda c: tf.constant(
                values[:, starts[c.replica_id_in_sync_group] :][
                    :, : shares[c.replica_id_in_sync_group]
                ]
            )
        )

    @tf.function
    def on_each(x, y):
        with tf.GradientTape() as tape:
            tape.watch(weight)
            rows = squared_mmd_per_example(weight * x, weight**2 * y, kernel, unbiased)
            share = tf.reduce_sum(tf.reduce_mean(rows, 0)) / 8  # As in the base class.
        return share, tape.gradient(share, weight), rows

    results = mirrored.run(on_each, (parts(sets), parts(targets)))
    shares_of_value, shares_of_slope, rows = map(mirrored.experimental_local_results, results)
    assert float(sum(shares_of_value)) == pytest.approx(float(whole), rel=1e-10)
    # Keras's optimizers add the replicas' gradients.
    assert float(sum(shares_of_slope)) == pytest.approx(float(slope), rel=1e-9)
    alone = squared_mmd_per_example(0.9 * sets, 0.81 * targets, kernel, unbiased)
    np.testing.assert_allclose(np.concatenate([r.numpy() for r in rows], 1), alone, rtol=1e-9)


# To a prior -------------------------------------------------------------------------------------


def test_codes_are_compared_with_an_equal_number_of_prior_draws():
    z = tf.random.stateless_normal([3, 6, 2], [1, 2])
    prior = zoo.IsotropicNormal(2, 2.0)
    draws = prior().sample([3, 6], seed=[5, 6])
    rows = mmd_to_prior(z, prior, kernel=RBF(), seed=[5, 6])
    np.testing.assert_array_equal(rows, squared_mmd_per_example(z, draws, RBF()))
    by_default = mmd_to_prior(z, prior, seed=[5, 6])
    np.testing.assert_array_equal(
        by_default, squared_mmd_per_example(z, draws, InverseMultiquadric())
    )
    biased = mmd_to_prior(z, prior, kernel=RBF(), unbiased=False, seed=[5, 6])
    np.testing.assert_array_equal(biased, squared_mmd_per_example(z, draws, RBF(), False))


def test_the_expected_discrepancy_is_zero_only_for_codes_that_follow_the_prior():
    prior = zoo.StandardNormal(4)
    z = prior().sample([300, 20], seed=[1, 1])
    for scale, low, high in ((1.0, -4, 4), (0.5, 10, np.inf), (2.0, 10, np.inf)):
        values = tf.reduce_mean(mmd_to_prior(scale * z, prior, seed=[2, 2]), -1).numpy()
        assert low < values.mean() / (values.std() / math.sqrt(300)) < high


def test_a_conditional_prior_is_sampled_once_per_condition():
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, use_bias=False)])
    network.set_weights([np.concatenate([np.eye(2), np.zeros((2, 2))], 1)])
    tight = zoo.DiagonalNormal(min_scale=1e-7, max_scale=1e-6)
    prior = zoo.ConditionalPrior(network, tight)  # Almost all mass is at y.
    rng = np.random.default_rng(0)
    y, z = (rng.normal(size=s).astype(np.float32) for s in ((6, 2), (3, 6, 2)))
    rows = mmd_to_prior(z, prior, y, RBF(), seed=[1, 2])
    assert rows.shape == (3, 6)
    want = [squared_mmd(one, y, RBF()) for one in z]
    np.testing.assert_allclose(tf.reduce_mean(rows, -1), want, rtol=1e-3, atol=1e-5)


def test_a_prior_is_trained_only_if_its_draws_are_differentiable():
    prior = zoo.RealNVPPrior(2, steps=2, hidden=(4,))
    z = tf.random.stateless_normal([10, 2], [1, 2]) + 2.0
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(mmd_to_prior(z, prior, seed=[3, 4]))
    gradients = tape.gradient(loss, prior.trainable_variables)
    assert all(g is not None for g in gradients)
    assert max(np.abs(g).max() for g in gradients) > 1e-4
    with pytest.raises(ValueError, match=r"those of mixtures are not\. Received: Mix"):
        mmd_to_prior(z, zoo.MixturePrior(2, 3), seed=[3, 4])
    # A fixed mixture has no trainable weights.
    assert mmd_to_prior(z, zoo.NormalPetals(), seed=[3, 4]).shape == (10,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RBF(0.0), "`bandwidth` must be positive and finite, or None. Received: 0.0"),
        (lambda: RBF(math.inf), "`bandwidth`"),
        (lambda: InverseMultiquadric(scales=()), r"`scales` must be at least one.*Received: \(\)"),
        (lambda: RBF(scales=(1.0, -1.0)), "`scales`"),
        (lambda: kernel_named("rfb"), "Unknown kernel 'rfb'.*Did you mean 'rbf'"),
    ],
)
def test_arguments_out_of_range_and_unknown_kernels_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
