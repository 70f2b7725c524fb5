"""DC-VAE: the losses of the three rounds by hand, who is updated, the momentum copy and the queue."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.distributions import RealNVPPrior
from zoo.keras_internals import layers_in

SHAPE, BATCH, LATENTS, SIZE, BETA, MOMENTUM, T = (8, 8, 1), 6, 3, 8, 0.3, 0.6, 0.5
SEED = tf.constant([1, 2])
ROUNDS = (
    ("trunk", "decision"),
    ("encoder", "generator"),
    ("encoder", "generator", "trunk", "contrast"),
)


def trunk(activation="tanh"):
    x = keras.Input(SHAPE)
    first = keras.layers.Dense(5, activation)(keras.layers.Flatten()(x))
    return keras.Model(x, (first, keras.layers.Dense(4)(first)))


def heads():
    inputs = [keras.Input((5,)), keras.Input((4,))]
    levels = [keras.layers.Dense(4)(inputs[0]), inputs[1]]
    shaped = [keras.layers.Reshape((1, 4))(level) for level in levels]
    return keras.Model(inputs, keras.layers.Concatenate(axis=1)(shaped))


def small(known, **options):
    posterior = zoo.networks.mlp_encoder(SHAPE, 2 * LATENTS, (5,), "tanh")
    parts = {
        "posterior": zoo.Conditional(posterior, known.Posterior()),
        "generator": zoo.networks.mlp_decoder(LATENTS, SHAPE, 1, (5,), "tanh", "sigmoid"),
        "prior": known.Prior(LATENTS),
        "trunk": trunk(),
        "decision": zoo.networks.mlp(4, 1, ()),
        "heads": heads(),
        "discriminator_steps": 1,
        "queue_size": SIZE,
        "beta": BETA,
        "momentum": MOMENTUM,
        "temperature": T,
    }
    model = zoo.DCVAE(**parts | options)
    model.compile(keras.optimizers.SGD(1.0))
    return model


def tiny(**options):
    """A model with the networks of the builder."""
    sizes = {"latent_dim": 2, "hidden": (4,), "discriminator_hidden": (4, 3), "feature_dim": 3}
    model = zoo.models.dcvae(
        SHAPE, **{**sizes, "queue_size": 16, "loss": "least_squares"} | options
    )
    model.compile(keras.optimizers.SGD(0.1))
    return model


def spread(model):
    """Moves the weights, so that the momentum copy differs from the trunk and the heads."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(0, 0.3, variable.shape))
    return model


@pytest.fixture
def x(digits):
    return tf.constant(digits[:BATCH])


def unit(vectors):
    return vectors / tf.norm(vectors, axis=-1, keepdims=True)


def losses_by_hand(model, known, x):
    """The mean losses of the three rounds, from the formulas of the paper; the keys, and the terms."""
    loc, log_scale = tf.split(model.posterior.network(x), 2, 1)
    noise = known.noise(BATCH, LATENTS)
    reconstruction = model.generator(loc + tf.exp(log_scale) * noise)
    sample = model.generator(noise)
    rate = tf.reduce_sum(loc**2 + tf.exp(2 * log_scale) - 1 - 2 * log_scale, 1) / 2

    def logits(images):
        return model.decision(model.trunk(images)[1])[:, 0]

    d = tf.nn.relu(1 - logits(x)) + tf.nn.relu(1 + logits(reconstruction)) / 2
    d += tf.nn.relu(1 + logits(sample)) / 2
    fool = -logits(reconstruction) / 2 - logits(sample) / 2

    copies = []
    for network, copy in zip((model.trunk, model.heads), model.momentum_keys.copies, strict=True):
        copies.append(keras.models.clone_model(network))
        pairs = zip(copy.get_weights(), network.get_weights(), strict=True)
        copies[-1].set_weights([MOMENTUM * a + (1 - MOMENTUM) * b for a, b in pairs])
    keys = tf.constant(unit(copies[1](copies[0](x))).numpy())
    queries = unit(model.heads(model.trunk(reconstruction)))
    nce, nearest = 0.0, 0.0
    for level in range(2):
        own = tf.reduce_sum(queries[:, level] * keys[:, level], 1, keepdims=True)
        others = tf.matmul(queries[:, level], model.momentum_keys.queue[:, level].numpy().T)
        products = tf.concat([own, others], 1) / T
        nce -= tf.nn.log_softmax(products)[:, 0] / 2
        nearest += np.float32(tf.argmax(products, 1) == 0) / 2
    real, fakes = logits(x), (logits(reconstruction), logits(sample))
    terms = [
        dict(
            zip(("real_logit", "reconstruction_logit", "sample_logit"), (real, *fakes), strict=True)
        ),
        {"rate": rate},
        {"rate": rate, "contrast": nce, "contrast_accuracy": nearest},
    ]
    losses = [tf.reduce_mean(loss) for loss in (d, fool + BETA * rate, nce + BETA * rate)]
    return losses, keys, terms


def test_each_round_descends_its_gradient_and_updates_no_other_player(
    known, x, weight_changes, assert_descends
):
    model = spread(small(known))
    queue = model.momentum_keys.queue.numpy()
    for i, (round, updated) in enumerate(zip(model.rounds(), ROUNDS, strict=True)):
        with tf.GradientTape(persistent=True) as tape:
            expected, keys, terms = losses_by_hand(model, known, x)
        gradients = {p: tape.gradient(expected[i], model.variables_of(p)) for p in updated}
        values, reported = {}, {}

        def play(round=round, values=values, reported=reported):
            losses, found = model._play(round, x, None, SEED)
            values.update({p: float(tf.reduce_mean(v)) for p, v in losses.items()})
            reported.update(found)

        change = weight_changes(model, play)
        assert sorted(values) == sorted(updated)
        assert terms[i].keys() <= reported.keys()
        for name, value in terms[i].items():
            np.testing.assert_allclose(
                np.mean(reported[name]), np.mean(value), rtol=1e-4, atol=1e-6, err_msg=name
            )
        for player, values_of_player in change.items():
            if player in updated:
                assert_descends(values_of_player, gradients[player])
                assert values[player] == pytest.approx(float(expected[i]), rel=1e-4)
            else:
                assert not any(c.any() for c in values_of_player)
    # Only the last round moves the queue, by the keys of real images.
    expected = np.concatenate([queue, keys])[-SIZE:]
    np.testing.assert_allclose(model.momentum_keys.queue, expected, atol=1e-5)


def test_hinge_losses_of_logits_of_zero_are_two_and_zero(known, x):
    model = small(known, beta=0.0)
    for variable in model.decision.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    losses, terms = model.discriminator_objective(x, None, SEED, True)
    np.testing.assert_allclose(losses["trunk"], np.full(BATCH, 2.0))
    assert not terms["real_logit"].numpy().any()
    losses, _ = model.generator_objective(x, None, SEED, True)
    np.testing.assert_allclose(losses["encoder"], np.zeros(BATCH))


def test_a_round_leaves_the_state_of_the_players_that_it_does_not_update(x):
    model = spread(tiny(discriminator_steps=1))
    state = {
        player: [v for layer in layers for v in layer.non_trainable_weights]
        for player, layers in model.players().items()
    }
    assert (
        {p: len(s) for p, s in state.items()}
        == {
            "encoder": 2,  # Vectors of spectral normalizations
            "generator": 2,  # Moving averages of a batch normalization
            "trunk": 3,
            "decision": 1,
            "contrast": 11,  # The copies of three kernels, biases and vectors, of a kernel, and the queue
        }
    )
    for round, updated in zip(model.rounds(), ROUNDS, strict=True):
        before = {player: [v.numpy() for v in own] for player, own in state.items()}
        model._play(round, x, None, SEED)
        for player, own in state.items():
            moved = [(v.numpy() != b).any() for v, b in zip(own, before[player], strict=True)]
            assert all(moved) if player in updated else not any(moved), (player, moved)


def test_rounds_two_and_three_take_the_first_share_of_the_batch(digits):
    model = tiny(discriminator_steps=2, momentum=1.0)
    x, queue = tf.constant(digits[:8]), model.momentum_keys.queue.numpy()
    # Copies that never move return the keys of the first weights.
    keys = unit(model.heads(model.trunk(x[::2])))
    model.train_step(x)
    np.testing.assert_array_equal(model.momentum_keys.queue[:-4], queue[4:])
    np.testing.assert_allclose(model.momentum_keys.queue[-4:], keys, atol=1e-5)


def test_without_momentum_the_copy_has_the_weights_from_before_the_update(x):
    model = spread(tiny(momentum=0.0, discriminator_steps=1))
    *game, contrast = model.rounds()
    for round in game:
        model._play(round, x, None, SEED)
    online = [w for network in (model.trunk, model.heads) for w in network.get_weights()]
    model._play(contrast, x, None, SEED)
    copies = [w for network in model.momentum_keys.copies for w in network.get_weights()]
    for a, b in zip(copies, online, strict=True):
        np.testing.assert_array_equal(a, b)


def test_evaluation_moves_neither_the_copy_nor_the_queue(x):
    model = spread(tiny())
    before = [v.numpy() for v in model.weights]
    logs = model.test_step(x)
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert 0 <= logs["contrast_accuracy"] <= 1
    assert logs["contrast"] > 0


def test_the_queue_and_the_copy_are_in_the_file(digits, tmp_path):
    model = tiny(discriminator_steps=1)
    model.train_step(tf.constant(digits[:4]))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    own, theirs = (m.momentum_keys.weights for m in (model, loaded))
    assert len(own) == len(theirs) == 11
    for a, b in zip(own, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    for m in (model, loaded):
        m.train_step(tf.constant(digits[4:8]))
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_two_replicas_have_the_queue_of_one_with_the_global_batch(digits, mirrored):
    one = tiny(momentum=1.0, discriminator_steps=1)
    with mirrored.scope():
        two = tiny(momentum=1.0, discriminator_steps=1)
    two.set_weights(one.get_weights())
    x = tf.data.Dataset.from_tensors(digits[:8])
    one.train_step(next(iter(x)))
    two.run_eagerly = True
    two.fit(x, verbose=0)
    copies = mirrored.experimental_local_results(two.momentum_keys.queue.value)
    assert len(copies) == 2
    np.testing.assert_array_equal(*copies)
    np.testing.assert_allclose(one.momentum_keys.queue, copies[0], atol=1e-5)
    # The replicas draw different noise: the weights of the copy decide the keys alone.
    assert (one.trunk.get_weights()[0] != two.trunk.get_weights()[0]).any()


@pytest.mark.parametrize(
    ("comparison", "players", "terms"),
    [
        ("sets", ROUNDS[:2], ("rate", "real_logit", "reconstruction_logit", "sample_logit")),
        ("instances", ROUNDS[2:], ("rate", "contrast", "contrast_accuracy")),
    ],
)
def test_a_model_may_play_only_the_game_or_only_the_contrast(x, comparison, players, terms):
    sizes = {"latent_dim": 2, "hidden": (4,), "discriminator_hidden": (4,)}
    model = zoo.models.dcvae(SHAPE, comparison=comparison, **sizes)
    model.compile("sgd")
    logs = model.test_step(x)
    played = [tuple(round.objective(x, None, SEED, False)[0]) for round in model.rounds()]
    assert played == list(players)
    assert model.terms == terms
    assert set(logs) == {*terms, *(f"{player}_loss" for player in model.players())}


def test_the_builder_has_the_networks_of_the_paper():
    model = zoo.models.dcvae(
        (28, 28, 1), network="conv", width=4, filters=(4, 8), hidden=(8,), queue_size=10
    )
    for network in (model.posterior.network, model.trunk, model.decision):
        layers = layers_in(network)
        normalized = {
            id(layer.layer)
            for layer in layers
            if isinstance(layer, zoo.networks.SpectralNormalization)
        }
        assert normalized
        assert all(id(layer) in normalized for layer in layers if hasattr(layer, "kernel"))
    # The first block, from which the head takes a channel; and the vector that the decision reads.
    assert [tuple(t.shape[1:]) for t in model.trunk.outputs] == [(14, 14, 4), (16,)]
    assert model.decision.input_shape == (None, 16)
    kernels = [v.shape for v in model.heads.trainable_variables if v.ndim > 1]
    assert kernels == [(1, 1, 4, 1), (14 * 14, 16)]
    first, vector = model.trunk(tf.ones([2, 28, 28, 1]))
    np.testing.assert_array_equal(model.heads((first, vector))[:, 1], vector)
    assert model.momentum_keys.queue.shape == (10, 2, 16)


def test_the_vector_of_the_trunk_is_a_function_of_sums_over_positions():
    model = zoo.models.dcvae((28, 28, 1), network="conv", width=4, hidden=(8,), queue_size=10)
    *_, sums, linear = model.trunk.layers
    last = np.random.default_rng(0).normal(size=[2, 7, 7, 8]).astype(np.float32)
    means = last.mean((1, 2))
    np.testing.assert_allclose(sums(means), last.sum((1, 2)), rtol=1e-4, atol=1e-4)
    assert isinstance(linear, zoo.networks.SpectralNormalization)


def test_parts_and_numbers_that_do_not_fit_are_refused(known):
    normalized = zoo.networks.dcgan_discriminator((28, 28, 1), 2, features=True)
    for parts, message in (
        ({"decision": None, "heads": None}, "needs a `decision`, `heads`, or both"),
        ({"temperature": 0.0}, "`temperature` must be above 0"),
        ({"momentum": 1.5}, "`momentum` must be in"),
        ({"beta": -1.0}, "`beta` must be at least 0"),
        ({"discriminator_steps": 0}, "`discriminator_steps` must be at least 1"),
        ({"queue_size": 0}, "`queue_size` must be at least 1"),
        ({"prior": RealNVPPrior(LATENTS)}, "The prior of a DCVAE must be fixed"),
        ({"trunk": normalized}, "The `trunk` must have no batch normalization"),
        ({"decision": zoo.networks.mlp(5, 1, ())}, "The `decision` of this DCVAE must be"),
    ):
        with pytest.raises(ValueError, match=message):
            small(known, **parts)
