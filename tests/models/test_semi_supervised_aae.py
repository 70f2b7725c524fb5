"""The semi-supervised adversarial autoencoder: where labels go, and where they do not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

import zoo
from zoo.evaluation import classification
from zoo.models.semi_supervised_aae import SemiSupervisedAAE, semi_supervised_aae_mlp

SHAPE, K, STYLE = (8, 8, 1), 4, 3
SEED = tf.constant([1, 2])


def small(labelled_rows=None, **arguments):
    model = semi_supervised_aae_mlp(SHAPE, K, STYLE, (7,), discriminator_hidden=(6,), **arguments)
    model.labelled_rows = labelled_rows
    model.compile(keras.optimizers.SGD(1.0))
    return model


def cross_entropies(model, x, y):
    return -log_softmax(model.posterior.network(x).numpy()[:, :K], -1)[np.arange(len(y)), y]


def test_the_phases_are_those_of_clustering_and_classification(single_turns):
    model, x = small(), tf.zeros([4, *SHAPE])
    played = [list(turn.objective(x, None, SEED, True)[0]) for turn in single_turns(model, x)]
    assert played == [
        ["autoencoder"], ["discriminator", "category_discriminator"], ["encoder"], ["classifier"]
    ]  # fmt: skip


@pytest.mark.parametrize("labelled_rows", [None, 0.4])
def test_classification_descends_the_mean_cross_entropy_of_the_labelled_rows(
    labelled_rows, digits, moves, assert_descends
):
    x = tf.constant(digits[:5])
    y = np.array([3, -1, -1, 0, 1] if labelled_rows is None else [-1, -1, -1, 0, 1])
    model = small(labelled_rows)
    known = np.flatnonzero(y >= 0)
    with tf.GradientTape() as tape:
        logits = tf.gather(model.posterior.network(x), known)[:, :K]
        loss = tf.reduce_mean(
            tf.reduce_logsumexp(logits, -1) - tf.gather(logits, y[known], batch_dims=1)
        )
    assert float(loss) == pytest.approx(cross_entropies(model, x, y)[known].mean(), rel=1e-5)
    last = model.rounds()[-1]
    values, counts = last.objective(x, tf.constant(y), SEED, True)[0]["classifier"]
    assert np.average(values, weights=counts) == pytest.approx(float(loss), rel=1e-5)
    # The logits of the style have no part in it: their gradient is 0, and the change too.
    expected = tape.gradient(loss, model.variables_of("classifier"))
    before = {id(v): v.numpy() for v in model.trainable_variables}
    change = moves(model, lambda: model._play(last, x, tf.constant(y), SEED))
    assert_descends(change["classifier"], expected)
    encoder = {id(v) for v in model.variables_of("encoder")}
    assert all(np.array_equal(v, before[id(v)]) == (id(v) not in encoder)
               for v in model.trainable_variables)  # fmt: skip


@pytest.mark.parametrize("labelled_rows", [None, 0.4])
def test_labels_reach_the_classification_phase_and_no_other(labelled_rows, digits, single_turns):
    model, x = small(labelled_rows), tf.constant(digits[:5])
    ys = [tf.constant(y) for y in ([-1, -1, -1, 0, 1], [-1, -1, -1, 2, 2])]
    for i, turn in enumerate(single_turns(model, x, ys[0])):
        one, other = (keras.tree.flatten(turn.objective(x, y, SEED, True)) for y in ys)
        same = all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert same == (i < 3)


def test_images_of_a_stratified_batch_are_in_the_phases_of_their_kind(digits, single_turns):
    model = small(labelled_rows=0.4)
    y = tf.constant([-1, -1, -1, 0, 1])
    plain, other = tf.constant(digits[:5]), digits[:5].copy()

    def values(x):
        return [
            keras.tree.flatten(t.objective(tf.constant(x), y, SEED, True))
            for t in single_turns(model, tf.constant(x), y)
        ]

    other[-1] = 0.5
    of_labelled = [
        all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
        for one, two in zip(values(plain), values(other), strict=True)
    ]
    assert of_labelled == [True, True, True, False]
    other = digits[:5].copy()
    other[0] = 0.5
    of_unlabelled = [
        all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
        for one, two in zip(values(plain), values(other), strict=True)
    ]
    assert of_unlabelled == [False, False, False, True]


def test_where_all_have_labels_all_images_are_in_all_phases(digits, single_turns):
    model, x = small(), tf.constant(digits[:5])
    sizes = [
        set(map(len, keras.tree.flatten(turn.objective(x, tf.range(5) % K, SEED, True)[0])))
        for turn in single_turns(model, x)
    ]
    assert sizes == [{5}] * 4


@pytest.mark.parametrize("y", [[0, 1, 2, -1, -1, -1, -1, -1], [0, 1, 2, -1, 3, -1, -1, -1]])
def test_replicas_with_unequal_numbers_of_labels_move_like_one(y, digits, mirrored, moves):
    x, y = digits[:8], np.array(y)
    one = small()
    with mirrored.scope():
        both = small()
    for a, b in zip(both.weights, one.weights, strict=True):
        a.assign(b.numpy())
    change = moves(one, lambda: one._play(one.rounds()[-1], tf.constant(x), tf.constant(y), SEED))
    parts = mirrored.experimental_distribute_values_from_function(
        lambda c: (x[4 * c.replica_id_in_sync_group :][:4], y[4 * c.replica_id_in_sync_group :][:4])
    )

    @tf.function
    def step():
        mirrored.run(lambda part: both._play(both.rounds()[-1], *part, SEED), args=(parts,))

    on_both = moves(both, step)
    for have, want in zip(on_both["classifier"], change["classifier"], strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_images_without_a_label_pass_the_classifier_for_batch_statistics_alone(batch_norm, digits):
    model = small(labelled_rows=0.4, batch_norm=batch_norm)
    seen = []
    call = model.posterior.network.call
    model.posterior.network.call = lambda x, **k: seen.append(len(x)) or call(x, **k)
    model.classification_objective(tf.constant(digits[:5]), tf.fill([5], 0), SEED, True)
    assert seen == [5 if batch_norm else 2]


@pytest.mark.parametrize("player", ["autoencoder", "discriminator", "encoder"])
def test_the_phases_without_labels_move_their_own_networks_alone(
    player, digits, moves, single_turns
):
    model, x = small(labelled_rows=0.4), tf.constant(digits[:5])
    y = tf.constant([-1, -1, -1, 0, 1])
    turns = single_turns(model, x, y)
    turn = turns[["autoencoder", "discriminator", "encoder"].index(player)]
    movers = {player} | ({"category_discriminator"} if player == "discriminator" else set())
    own = {id(v) for p in movers for v in model.variables_of(p)}
    before = [(v, v.numpy()) for v in model.trainable_variables]
    losses, _ = model._play(turn, x, y, SEED)
    assert losses.keys() == movers and {len(loss) for loss in losses.values()} == {3}
    for v, old in before:
        assert np.array_equal(v, old) == (id(v) not in own)


def test_a_row_without_a_label_costs_nothing_wherever_it_is(digits):
    model, x = small(labelled_rows=0.4), tf.constant(digits[:5])
    losses, terms = model.classification_objective(x, tf.constant([-1, 3, -1, -1, 2]), SEED, True)
    expected = cross_entropies(model, digits[4:5], [2])
    loss, counts = losses["classifier"]
    np.testing.assert_allclose(loss[1], expected[0], rtol=1e-5)
    np.testing.assert_array_equal(counts, [0, 1])
    np.testing.assert_array_equal(terms["accuracy"][1], [0, 1])
    none, _ = model.classification_objective(x, None, SEED, True)
    np.testing.assert_array_equal(none["classifier"][1], [0, 0])


def test_evaluation_reports_cross_entropy_and_accuracy_of_the_labelled(digits):
    model, x = small(0.4), digits[:30]
    y = np.arange(30) % (K + 1) - 1
    known = y >= 0
    scores = model.evaluate(x, y, batch_size=7, verbose=0, return_dict=True)
    right = np.asarray(model.classify(x)).argmax(1) == y
    assert scores["accuracy"] == pytest.approx(right[known].mean())
    expected = cross_entropies(model, x, y)[known].mean()
    assert scores["classifier_loss"] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(
        scores["autoencoder_loss"],
        model.evaluate(x, verbose=0, return_dict=True)["autoencoder_loss"],
        rtol=1e-5,
    )


def test_it_learns_classes_from_few_labels_and_its_error_is_that_of_the_most_probable(digits):
    data = zoo.datasets.load("digits", num_labels=100)
    model = semi_supervised_aae_mlp(
        SHAPE, 10, 4, (64,), discriminator_hidden=(32,), batch_norm=True, input_noise=0.2
    )
    model.adapt(data)
    assert model.labelled_rows == pytest.approx(0.1)
    rates = dict.fromkeys(model.players(), 2e-3)
    rates["discriminator"] = rates["category_discriminator"] = 2e-4
    model.compile(
        {player: keras.optimizers.Adam(rate, beta_1=0.5) for player, rate in rates.items()},
        jit_compile=True,
        steps_per_execution=50,
    )
    batches = data.batches("train", 100, shuffle=True, repeat=True, stratified=True)
    model.fit(batches, steps_per_epoch=300, verbose=0)
    x, y = data.arrays("test")
    wrong = sum(int(np.argmax(q)) != label for q, label in zip(model.classify(x), y, strict=True))
    error = classification.error(model, data)
    assert error == pytest.approx(wrong / len(y))
    assert error < 0.35  # By chance: 0.9.


def test_a_style_can_have_any_class(digits):
    model = small()
    z = model.encode(digits[:3], [0, 1, 2])
    np.testing.assert_array_equal(z, model.encode(digits[:3]))
    images = model.decode(z, [2, 2, 2])
    np.testing.assert_allclose(images, model.decode(z, 2), atol=1e-6)
    assert np.abs(images - model.decode(z, 1)).max() > 1e-3
    np.testing.assert_allclose(model.reconstruct(digits[:3], 2), images, atol=1e-6)
    drawn = model.sample_latents(3, [3, 0, 1], seed=1)
    np.testing.assert_array_equal(drawn[:, :K], np.eye(K)[[3, 0, 1]])


def test_what_cannot_be_is_refused(digits):
    model = small()
    for share in (0.0, -0.5, 1.5):
        with pytest.raises(ValueError, match=rf"share in \(0, 1\]\. Received: {share}"):
            SemiSupervisedAAE(
                model.posterior, model.likelihood, model.prior, model.discriminator,
                model.category_discriminator, labelled_rows=share,
            )  # fmt: skip
    for method in (model.fit, model.evaluate):
        with pytest.raises(
            ValueError, match=r"from 0 to 3, and below 0 .*Received: labels from 0 to 9"
        ):
            method(digits[:10], np.arange(10), verbose=0)
        with pytest.raises(ValueError, match=r"is a label, an int\. Received: y of type float64"):
            method(digits[:10], np.zeros((10, 2)), verbose=0)
    with pytest.raises(ValueError, match="'digits' with 10 classes"):
        model.adapt(zoo.datasets.load("digits"))
    model.labelled_rows = 0.4
    unknown = tf.function(
        lambda x: model.classification_objective(x, None, SEED, True)[0]["classifier"],
        input_signature=[tf.TensorSpec([None, *SHAPE])],
    )
    with pytest.raises(ValueError, match="has a known number of rows"):
        unknown(tf.constant(digits[:5]))
