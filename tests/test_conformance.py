"""What every model of the zoo must do, checked on all of them, on real images.

A model is named once, in `CONFIGS`; a test fails if a public one is missing there. What follows a
hyphen tells the same model made of other parts.
"""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import presets

SHAPE = (8, 8, 1)
CONFIGS = {
    "Autoencoder": ("autoencoder_digits", ["hidden=32"]),
    "VAE": ("vae_digits", ["hidden=32"]),
    "VAE-iaf-realnvp": (
        "vae_flow_digits",
        ["model.hidden=32", "posterior=iaf", "prior_hidden=16", "prior_steps=2"],
    ),
    "VAE-planar-mixture": ("vae_planar_digits", ["model.hidden=32", "prior=mixture"]),
    "VAE-full_covariance-vamp": (
        "vae_vamp_digits",
        ["model.hidden=32", "posterior=full_covariance", "prior_components=5"],
    ),
    "BetaVAE": ("beta_vae_digits", ["hidden=32", "capacity=5.0", "capacity_steps=20"]),
    "IWAE": ("iwae_digits", ["hidden=32", "doubly_reparameterised=true", "warm_up_steps=10"]),
    "DenoisingVAE": ("denoising_vae_digits", ["hidden=32", "salt_and_pepper=0.0", "gaussian=0.1"]),
    "DenoisingIWAE": (
        "denoising_vae_digits",
        ["hidden=32", "importance_weighted=true", "model.num_samples=3"],
    ),
    "CVAE": ("cvae_digits", ["hidden=32"]),
    "CVAE-quadrants": (
        "cvae_quadrants_digits",
        ["model.hidden=32", "baseline_hidden=16", "alpha=0.5"],
    ),
    "Predictor": ("predictor_quadrants_digits", ["hidden=32"]),
    # Dropout, batch normalization, several steps of the discriminator, smoothed and noisy labels.
    "GAN": (
        "gan_digits",
        [
            "generator_hidden=32",
            "discriminator_hidden=32",
            "discriminator_steps=2",
            "label_noise=0.05",
            "optimizers.generator.use_ema=true",
            "optimizers.discriminator.global_clipnorm=5.0",
        ],
    ),
    # A penalty and spectral normalization, instance noise that falls. (The losses of real and fake
    # examples under the Wasserstein loss and the hinge cancel in the slope of the last bias.)
    "GAN-penalty": (
        "wgan_gp_digits",
        [
            "loss=least_squares",
            "generator_hidden=32",
            "discriminator_hidden=32",
            "discriminator_steps=2",
            "spectral_norm=true",
            "latents=sphere",
            "instance_noise=0.2",
            "instance_noise_steps=20",
        ],
    ),
    "CGAN": (
        "cgan_digits",
        ["generator_hidden=32", "discriminator_hidden=32", "discriminator=projection"],
    ),
    "AAE": ("aae_digits", ["hidden=32", "discriminator_hidden=32", "posterior=normal"]),
    "LabelInformedAAE": (
        "label_informed_aae_petals_digits",
        ["model.hidden=32", "discriminator_hidden=32"],
    ),
    "ClusteringAAE": (
        "clustering_aae_digits",
        ["model.hidden=32", "discriminator_hidden=32", "latent_dim=2"],
    ),
    "SemiSupervisedAAE": (
        "semi_supervised_aae_digits",
        ["model.hidden=32", "discriminator_hidden=32", "batch_norm=false"],
    ),
    "DimensionReductionAAE": (
        "dimension_reduction_aae_digits",
        ["model.hidden=32", "discriminator_hidden=32", "batch_norm=false", "input_noise=0.0"],
    ),
    "SemiSupervisedDimensionReductionAAE": (
        "semi_supervised_dimension_reduction_aae_digits",
        ["model.hidden=32", "discriminator_hidden=32", "batch_norm=false", "input_noise=0.0"],
    ),
    "VAEGAN": ("vaegan_digits", ["hidden=32", "discriminator_hidden=32"]),
    # A condition, and players who rest on some batches.
    "VAEGAN-label": (
        "vaegan_label_digits",
        ["hidden=32", "discriminator_hidden=32", "margin=0.05"],
    ),
    "FactorVAE": ("factor_vae_digits", ["hidden=32", "discriminator_hidden=32"]),
    # Without normalization, whose averages are of real and fake pairs alike, in the discriminator.
    "BiGAN": (
        "ali_cifar10",
        ["width=4", "hidden=16", "latent_dim=8", "optimizers.discriminator.learning_rate=0.002"],
    ),
    "WAEGAN": ("waegan_digits", ["hidden=32", "discriminator_hidden=32", "prior_aware=true"]),
    "AVB": (
        "avb_ac_digits",
        [
            "model.hidden=32",
            "discriminator_hidden=32",
            "discriminator_steps=3",
            "noise_bases=2",
            "noise_hidden=8",
        ],
    ),
    "AlphaGAN": (
        "alpha_gan_digits",
        ["model.hidden=32", "model.discriminator_hidden=32", "code_discriminator_hidden=32"],
    ),
    "InfoVAE": ("info_vae_digits", ["hidden=32"]),
    "M2": ("m2_digits", ["model.hidden=32", "classifier_hidden=32"]),
    "M1M2": ("m1_m2_digits", ["model.hidden=32", "classifier_hidden=32"]),
    "WAE": ("wae_digits", ["hidden=32", "lambda_=100.0"]),
    "WAE-normal": ("wae_digits", ["hidden=32", "posterior=normal", "kernel=rbf"]),
}


def class_of(name):
    return name.partition("-")[0]


def config_of(name, *settings):
    preset, own = CONFIGS[name]
    config = presets.get(preset)
    presets.override(config, ["jit_compile=false", "steps_per_execution=1", *own, *settings])
    return config


def build(name, *settings):
    keras.utils.set_random_seed(0)
    return presets.build(config_of(name, *settings), SHAPE, levels=17)


def variables(model):
    """All numbers that training depends on: weights, statistics, step, optimizers."""
    return model.weights + [v for o in model.optimizers.values() for v in o.variables]


@functools.cache
def _traced(name):
    model = build(name)
    return model, [np.array(v) for v in variables(model)]


def fresh(name):
    """As `build(name)`, but one model for all tests, put back: its steps are traced only once."""
    model, start = _traced(name)
    for variable, value in zip(variables(model), start, strict=True):
        variable.assign(value)
    return model


@pytest.fixture(scope="module")
def images():
    return zoo.datasets.load("digits", binarize="fixed").arrays("train", limit=160)[0]


def given(model, images):
    """A condition for each image, where the model takes one: a class, or its lower left quadrant."""
    if model.condition is None:
        return None
    if model.condition.shape.rank == 1:
        return np.arange(len(images)) % 10
    seen = np.zeros([8, 8, 1], bool)
    seen[4:, :4] = True
    return np.where(seen, images, -1).astype(np.float32)


def data(model, images):
    """`(images, conditions)`, or the images alone."""
    y = given(model, images)
    return images if y is None else (images, y)


def batches(images, model=None, size=32):
    examples = images if model is None else data(model, images)
    return tf.data.Dataset.from_tensor_slices(examples).batch(size, drop_remainder=True)


def state(model):
    return [np.array(v) for v in variables(model)]


def assert_same(a, b, **tolerance):
    a, b = (s if isinstance(s, list) else state(s) for s in (a, b))
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        if tolerance:
            np.testing.assert_allclose(x, y, **tolerance)
        else:
            np.testing.assert_array_equal(x, y)


every_model = pytest.mark.parametrize("name", CONFIGS)


def test_no_public_model_is_missing_here():
    public = {
        name
        for name in zoo.__all__
        if isinstance(thing := getattr(zoo, name), type) and issubclass(thing, zoo.GenerativeModel)
    }
    assert public - {"GenerativeModel"} == set(map(class_of, CONFIGS))


def test_no_model_class_is_kept_from_the_public():
    def below(cls):
        return {cls} | {s for child in cls.__subclasses__() for s in below(child)}

    defined = {c.__name__ for c in below(zoo.GenerativeModel) if c.__module__.startswith("zoo.")}
    assert defined - {"GenerativeModel"} == set(map(class_of, CONFIGS))


@every_model
def test_names_are_those_of_the_class(name):
    assert type(build(name)).__name__ == class_of(name)


@every_model
def test_training_lowers_what_is_minimised_against_no_opponent(name, images):
    # Adversarial losses need not fall; what each model has in common is that its images get closer
    # to the data, or in a GAN's case that the discriminator learns at all.
    model = fresh(name)
    y, held_out = given(model, images), data(model, images)
    before = model.evaluate(images, y, verbose=0, return_dict=True)
    history = model.fit(
        images, y, batch_size=32, epochs=12, verbose=0, validation_data=held_out
    ).history
    after = model.evaluate(images, y, verbose=0, return_dict=True)
    assert all(np.isfinite(v).all() for v in history.values())
    assert {f"val_{k}" for k in before} <= history.keys()
    falls = {
        "Autoencoder": "loss",
        "VAE": "loss",
        "BetaVAE": "loss",
        "IWAE": "loss",
        "DenoisingVAE": "loss",
        "DenoisingIWAE": "loss",
        "CVAE": "distortion",
        "Predictor": "loss",
        "GAN": "discriminator_loss",
        "CGAN": "discriminator_loss",
        "AAE": "autoencoder_loss",
        "LabelInformedAAE": "autoencoder_loss",
        "ClusteringAAE": "autoencoder_loss",
        "SemiSupervisedAAE": "autoencoder_loss",
        "DimensionReductionAAE": "autoencoder_loss",
        "SemiSupervisedDimensionReductionAAE": "autoencoder_loss",
        "VAEGAN": "discriminator_loss",
        "FactorVAE": "distortion",
        "BiGAN": "discriminator_loss",
        "WAEGAN": "cost",
        "AVB": "distortion",
        "AlphaGAN": "reconstruction",
        "InfoVAE": "loss",
        "M2": "loss",
        "M1M2": "loss",
        "WAE": "loss",
    }[class_of(name)]
    assert after[falls] < 0.97 * before[falls]


@every_model
def test_a_keras_file_keeps_everything_and_training_goes_on_as_if_nothing_had_happened(
    name, images, tmp_path
):
    model = fresh(name)
    model.fit(batches(images, model), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(model, loaded)
    for m in (model, loaded):
        m.fit(batches(images, m), epochs=2, verbose=0)
    assert_same(model, loaded)


@every_model
def test_an_uncompiled_model_can_be_loaded(name, tmp_path):
    model = build(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert loaded.abilities() == model.abilities()


@every_model
def test_configs_survive_json(name):
    model = build(name)
    config = json.loads(json.dumps(model.get_config()))
    twin = type(model).from_config(config)
    assert json.dumps(twin.get_config()) == json.dumps(model.get_config())
    assert [v.shape for v in twin.weights] == [v.shape for v in model.weights]


@every_model
def test_the_same_seed_gives_the_same_training_and_another_seed_another(name, images):
    ends = []
    for _ in range(2):
        model = fresh(name)
        model.fit(batches(images, model), epochs=1, verbose=0)
        ends.append(state(model))
    assert_same(*ends)
    # These two have no noise; their weights are drawn outside of the model.
    if name in ("Autoencoder", "Predictor"):
        return
    ends = []
    for seed in (0, 1):
        model = fresh(name)
        y = given(model, images[:8])
        try:
            model.seed = seed  # Which a step that is traced has seen already; this one is not.
            model.train_step((tf.constant(images[:8]), y))
        finally:
            model.seed = 0
        ends.append(state(model))
    with pytest.raises(AssertionError):
        assert_same(*ends)


@every_model
def test_each_move_changes_the_movers_and_nobody_else(name, images):
    model = build(name)
    players = model.players()
    everything = {
        id(v): v for own in players.values() for layer in own for v in layer.variables
    }.values()
    rng = np.random.default_rng(0)
    for variable in {id(v): v for p in players for v in model.variables_of(p)}.values():
        # Layers that start at zero let no gradient through to those before them.
        variable.assign_add(rng.normal(0, 0.01, variable.shape))
    moved, y = set(), given(model, images[:32])
    for round in model.rounds():
        before = {id(v): np.array(v) for v in everything}
        losses, _ = tf.function(
            lambda round=round: model._play(round, tf.constant(images[:32]), y, [3, 4])
        )()
        mine = {id(v) for p in losses for layer in players[p] for v in layer.variables}
        changed = {id(v) for v in everything if (np.array(v) != before[id(v)]).any()}
        assert changed <= mine
        trained = {id(v) for p in losses for v in model.variables_of(p)}
        assert trained <= changed, [v.path for v in everything if id(v) in trained - changed]
        moved |= losses.keys()
    assert moved == players.keys()


@every_model
def test_every_trainable_variable_belongs_to_a_player(name):
    model = build(name)
    owned = {id(v) for player in model.players() for v in model.variables_of(player)}
    assert owned == {id(v) for v in model.trainable_variables}


@every_model
def test_abilities_work_on_arrays(name, images):
    model = build(name)
    can = model.abilities()
    z = np.zeros([3, model.latent_dim], np.float32)
    y = given(model, images[:3])
    conditions = {} if y is None else {"y": y}
    results = {"decode": model.decode(z, **conditions)}
    if "encode" in can:
        assert model.encode(images[:3], **conditions).shape == z.shape
        results["reconstruct"] = model.reconstruct(images[:3], **conditions)
        np.testing.assert_allclose(
            model.predict(images[:3] if y is None else [images[:3], y], verbose=0),
            results["reconstruct"],
            rtol=1e-5,
            atol=1e-6,
        )
        ends = model.interpolate(images[0], images[1], 3, y=None if y is None else y[0])
        np.testing.assert_allclose(ends[0], results["reconstruct"][0], rtol=1e-4, atol=1e-5)
    if "sample" in can:
        results["sample"] = model.sample(3, seed=1, **conditions)
        np.testing.assert_array_equal(results["sample"], model.sample(3, seed=1, **conditions))
        one, other = (np.asarray(model.sample(3, **conditions)) for _ in range(2))
        assert (one != other).any()
    if "log_prob" in can:
        assert model.log_prob(images[:3], 5, **conditions).shape == (3,)
    for result in results.values():
        assert result.shape == (3, *SHAPE)
        assert result.dtype == tf.float32
        assert (result.numpy() >= 0).all()
        assert (result.numpy() <= 1).all()


@every_model
def test_labels_may_come_along(name, images):
    model, plain = fresh(name), build(name)
    x, y = tf.constant(images[:8]), given(model, images[:8])
    if y is None:
        model.train_step((x, tf.range(8)))
        plain.train_step((x,))
        assert_same(model, plain)
    else:
        assert len(y) == 8  # All other tests bring them.


@every_model
def test_two_replicas_train_and_stay_equal(name, images, mirrored):
    with mirrored.scope():
        model = build(name)
    examples = batches(images, model)
    held_out = examples if "-" not in name else None
    history = model.fit(examples, epochs=2, verbose=0, validation_data=held_out)
    assert all(np.isfinite(v).all() for v in history.history.values())
    for variable in model.weights:
        copies = mirrored.experimental_local_results(variable.value)
        assert len(copies) == 2
        np.testing.assert_array_equal(copies[0], copies[1])


def test_replicas_draw_different_noise(mirrored):
    class Noise(zoo.VAE):
        def objective(self, x, y, seed, training):
            losses, terms = super().objective(x, y, seed, training)
            return losses, terms | {"rate": tf.random.stateless_normal(tf.shape(x)[:1], seed)}

    with mirrored.scope():
        vae = build("VAE")
        model = Noise(vae.posterior, vae.likelihood, vae.prior)
        model.compile("sgd")
    x = tf.data.Dataset.from_tensors(tf.zeros([2, *SHAPE]))
    one = next(iter(mirrored.experimental_distribute_dataset(x)))
    drawn = mirrored.run(
        lambda t: model.objective(t, None, model._seed_at(5), True)[1]["rate"], [one]
    )
    first, second = mirrored.experimental_local_results(drawn)
    assert (first.numpy() != second.numpy()).all()


def test_dropout_follows_the_seed_and_differs_between_replicas(images, mirrored):
    with mirrored.scope():
        model = build("GAN", "dropout=0.5", "discriminator_steps=1")
        dropped = keras.Sequential([keras.Input(SHAPE), keras.layers.Dropout(0.5)])
        model.discriminator = dropped

    def draw(seed):
        with keras.StatelessScope(model._generator_states(model._seed_at(seed))):
            return dropped(tf.ones([1, *SHAPE]), training=True)

    draws = [mirrored.experimental_local_results(mirrored.run(draw, [s])) for s in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0][0], draws[1][0])
    assert (draws[0][0].numpy() != draws[0][1].numpy()).any()
    assert (draws[0][0].numpy() != draws[2][0].numpy()).any()


@every_model
@pytest.mark.slow
def test_xla_trains_too(name, images):
    model = build(name, "jit_compile=true", "steps_per_execution=5")
    history = model.fit(batches(images, model), epochs=2, verbose=0).history
    assert model.jit_compile
    assert all(np.isfinite(v).all() for v in history.values())


@every_model
def test_bfloat16_computes_in_half_and_keeps_weights_and_results_in_full(name, images):
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(name)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    computes = {part.compute_dtype for layer in model.layers for part in layer._flatten_layers()}
    assert "bfloat16" in computes
    full = fresh(name)
    for m in (model, full):
        m.fit(batches(images, m), epochs=3, verbose=0)
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    scores = [
        m.evaluate(images, given(m, images), verbose=0, return_dict=True) for m in (model, full)
    ]
    for key in scores[0]:
        assert np.isfinite(scores[0][key])
        if key.endswith("loss") and "GAN" not in name:
            assert scores[0][key] == pytest.approx(scores[1][key], rel=0.05, abs=0.1)
