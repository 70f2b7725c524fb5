"""The semi-supervised adversarial autoencoder: the streams and the labels of its phases."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax
from speed import slow

import zoo
from zoo.models.semi_supervised_aae import semi_supervised_aae

SHAPE, K, STYLE = (8, 8, 1), 4, 3
SEED = tf.constant([1, 2])


def small(**arguments):
    model = semi_supervised_aae(
        SHAPE,
        num_classes=K,
        latent_dim=STYLE,
        hidden=(7,),
        discriminator_hidden=(6,),
        **arguments,
    )
    model.compile(keras.optimizers.SGD(1.0))
    return model


def two_streams(images):
    """The last two images as the labelled stream, the others as the unlabelled one."""
    return tf.constant(images[-2:]), tf.constant(images[:-2])


def cross_entropies(model, x, y):
    return -log_softmax(model.posterior.network(x).numpy()[:, :K], -1)[np.arange(len(y)), y]


def test_the_phases_are_clustering_and_classification(single_turns):
    model, x = small(), tf.zeros([4, *SHAPE])
    played = [list(turn.objective(x, None, SEED, True)[0]) for turn in single_turns(model, x)]
    assert played == [
        ["autoencoder"], ["discriminator", "category_discriminator"], ["encoder"], ["classifier"]
    ]  # fmt: skip


@pytest.mark.parametrize("streams", [1, 2])
def test_classification_descends_the_mean_cross_entropy_of_labelled_images(
    streams, digits, weight_changes, assert_descends
):
    images, model = digits[:5], small()
    if streams == 1:
        x, y, labels = tf.constant(images), tf.constant([3, -1, -1, 0, 1]), [3, 0, 1]
        labelled = images[[0, 3, 4]]
    else:
        x, y, labels = two_streams(images), tf.constant([0, 1]), [0, 1]
        labelled = images[3:]
    with tf.GradientTape() as tape:
        logits = model.posterior.network(labelled)[:, :K]
        loss = tf.reduce_mean(
            tf.reduce_logsumexp(logits, -1) - tf.gather(logits, labels, batch_dims=1)
        )
    assert float(loss) == pytest.approx(cross_entropies(model, labelled, labels).mean(), rel=1e-5)
    last = model.rounds()[-1]
    values, counts = last.objective(x, y, SEED, True)[0]["classifier"]
    assert np.average(values, weights=counts) == pytest.approx(float(loss), rel=1e-5)
    # The logits of the style do not enter the loss: their gradient and their change are 0.
    expected = tape.gradient(loss, model.variables_of("classifier"))
    before = {id(v): v.numpy() for v in model.trainable_variables}
    change = weight_changes(model, lambda: model._play(last, x, y, SEED))
    assert_descends(change["classifier"], expected)
    encoder = {id(v) for v in model.variables_of("encoder")}
    assert all(np.array_equal(v, before[id(v)]) == (id(v) not in encoder)
               for v in model.trainable_variables)  # fmt: skip


@pytest.mark.parametrize("streams", [1, 2])
def test_labels_affect_only_the_classification_phase(streams, digits, single_turns):
    model = small()
    if streams == 1:
        x, ys = tf.constant(digits[:5]), ([-1, -1, -1, 0, 1], [-1, -1, -1, 2, 2])
    else:
        x, ys = two_streams(digits[:5]), ([0, 1], [2, 2])
    ys = [tf.constant(y) for y in ys]
    for i, turn in enumerate(single_turns(model, x, ys[0])):
        one, other = (keras.tree.flatten(turn.objective(x, y, SEED, True)) for y in ys)
        same = all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert same == (i < 3)


@pytest.mark.parametrize(("changed", "same"), [(-1, [1, 1, 1, 0]), (0, [0, 0, 0, 1])])
def test_each_phase_uses_only_its_stream(changed, same, digits, single_turns):
    model, y = small(), tf.constant([0, 1])
    images = digits[:5].copy()
    images[changed] = 0.5

    def values(x):
        return [
            keras.tree.flatten(t.objective(x, y, SEED, True)) for t in single_turns(model, x, y)
        ]

    have = [
        all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
        for one, two in zip(
            values(two_streams(digits[:5])), values(two_streams(images)), strict=True
        )
    ]
    assert have == list(map(bool, same))


def test_all_phases_use_the_images_of_a_single_stream(digits, single_turns):
    model, x = small(), tf.constant(digits[:5])
    sizes = [
        set(map(len, keras.tree.flatten(turn.objective(x, tf.range(5) % K, SEED, True)[0])))
        for turn in single_turns(model, x)
    ]
    assert sizes == [{5}] * 4


@pytest.mark.parametrize("y", [[0, 1, 2, -1, -1, -1, -1, -1], slow([0, 1, 2, -1, 3, -1, -1, -1])])
def test_replicas_with_unequal_numbers_of_labels_match_one_replica(
    y, digits, mirrored, weight_changes
):
    x, y = digits[:8], np.array(y)
    one = small()
    with mirrored.scope():
        both = small()
    for a, b in zip(both.weights, one.weights, strict=True):
        a.assign(b.numpy())
    change = weight_changes(
        one, lambda: one._play(one.rounds()[-1], tf.constant(x), tf.constant(y), SEED)
    )
    parts = mirrored.experimental_distribute_values_from_function(
        lambda c: (x[4 * c.replica_id_in_sync_group :][:4], y[4 * c.replica_id_in_sync_group :][:4])
    )

    @tf.function
    def step():
        mirrored.run(lambda part: both._play(both.rounds()[-1], *part, SEED), args=(parts,))

    on_both = weight_changes(both, step)
    for have, want in zip(on_both["classifier"], change["classifier"], strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_classifier_receives_unlabelled_images_only_for_batch_statistics(batch_norm, digits):
    model = small(batch_norm=batch_norm)
    seen = []
    call = model.posterior.network.call
    model.posterior.network.call = lambda x, **k: seen.append(len(x)) or call(x, **k)
    x, y = two_streams(digits[:5]), tf.constant([0, 2])
    losses, _ = model.classification_objective(x, y, SEED, True)
    assert seen == [5 if batch_norm else 2]
    logits = model.posterior.network(digits[:5], training=True).numpy()[-2:, :K]
    expected = -log_softmax(logits, -1)[[0, 1], [0, 2]]
    np.testing.assert_allclose(losses["classifier"][0], expected, rtol=1e-4)


@pytest.mark.parametrize("player", ["autoencoder", "discriminator", "encoder"])
def test_the_phases_without_labels_update_only_their_networks(player, digits, single_turns):
    model, x, y = small(), two_streams(digits[:5]), tf.constant([0, 1])
    turns = single_turns(model, x, y)
    turn = turns[["autoencoder", "discriminator", "encoder"].index(player)]
    movers = {player} | ({"category_discriminator"} if player == "discriminator" else set())
    own = {id(v) for p in movers for v in model.variables_of(p)}
    before = [(v, v.numpy()) for v in model.trainable_variables]
    losses, _ = model._play(turn, x, y, SEED)
    assert losses.keys() == movers and {len(loss) for loss in losses.values()} == {3}
    for v, old in before:
        assert np.array_equal(v, old) == (id(v) not in own)


def test_an_image_without_a_label_has_no_weight_in_the_cross_entropy(digits):
    model, x = small(), tf.constant(digits[:5])
    losses, terms = model.classification_objective(x, tf.constant([-1, 3, -1, -1, 2]), SEED, True)
    loss, counts = losses["classifier"]
    np.testing.assert_allclose(
        np.asarray(loss)[[1, 4]], cross_entropies(model, digits[[1, 4]], [3, 2]), rtol=1e-5
    )
    np.testing.assert_array_equal(counts, [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(terms["accuracy"][1], counts)
    none, _ = model.classification_objective(x, None, SEED, True)
    np.testing.assert_array_equal(none["classifier"][1], np.zeros(5))


def test_evaluation_reports_cross_entropy_and_accuracy_of_labelled_images(digits):
    model, x = small(), digits[:30]
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


@pytest.mark.slow
def test_training_learns_the_classes_from_few_labels(digits):
    data = zoo.datasets.load("digits", num_labels=100)
    model = semi_supervised_aae(
        SHAPE,
        latent_dim=4,
        hidden=(64,),
        discriminator_hidden=(32,),
        batch_norm=True,
        input_noise=0.2,
    )
    model.adapt(data)
    rates = dict.fromkeys(model.players(), 2e-3)
    rates["discriminator"] = rates["category_discriminator"] = 2e-4
    model.compile(
        {player: keras.optimizers.Adam(rate, beta_1=0.5) for player, rate in rates.items()},
        jit_compile=True,
        steps_per_execution=50,
    )
    batches = data.batches("train", 100, shuffle=True, repeat=True, semi_supervised=True)
    model.fit(batches, steps_per_epoch=300, verbose=0)
    x, y = data.arrays("test")
    assert np.mean(np.argmax(model.classify(x), 1) != y) < 0.35  # By chance: 0.9.
    scores = model.evaluate(x, y, verbose=0, return_dict=True)
    assert scores["accuracy"] == pytest.approx(np.mean(np.argmax(model.classify(x), 1) == y))


def test_a_style_is_decoded_with_any_class(digits):
    model = small()
    z = model.encode(digits[:3], [0, 1, 2])
    np.testing.assert_array_equal(z, model.encode(digits[:3]))
    images = model.decode(z, [2, 2, 2])
    np.testing.assert_allclose(images, model.decode(z, 2), atol=1e-6)
    assert np.abs(images - model.decode(z, 1)).max() > 1e-3
    np.testing.assert_allclose(model.reconstruct(digits[:3], 2), images, atol=1e-6)
    drawn = model.sample_latents(3, [3, 0, 1], seed=1)
    np.testing.assert_array_equal(drawn[:, :K], np.eye(K)[[3, 0, 1]])


def test_labels_out_of_range_are_refused(digits):
    model = small()
    for method in (model.fit, model.evaluate):
        with pytest.raises(
            ValueError,
            match=r"from 0 to 3; a negative number means no label.*Received: labels from 0 to 9",
        ):
            method(digits[:10], np.arange(10), verbose=0)
        with pytest.raises(ValueError, match=r"`y` of shape \[10\]. Received: shape \(10, 2\)"):
            method(digits[:10], np.zeros((10, 2)), verbose=0)
    with pytest.raises(ValueError, match="'digits' with 10 classes"):
        model.adapt(zoo.datasets.load("digits"))


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_builder_has_both_networks(network, digits):
    model = semi_supervised_aae(
        SHAPE, network=network, num_classes=K, latent_dim=STYLE, hidden=(7,), filters=(4,) if network == "conv" else (32, 64),
        discriminator_hidden=(6,), input_noise=0.1,
    )  # fmt: skip
    names = [type(layer).__name__ for layer in model.posterior.network.layers]
    assert names[0] == "GaussianNoise" and ("Conv2D" in names) == (network == "conv")
    assert model.reconstruct(digits[:2]).shape == (2, *SHAPE)
    assert model.classify(digits[:2]).shape == (2, K)
