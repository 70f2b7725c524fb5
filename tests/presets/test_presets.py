"""Presets: each builds, survives JSON, and accepts only valid overrides."""

import json

import keras
import numpy as np
import pytest
from ml_collections import ConfigDict
from speed import slow_except

import zoo
from zoo import presets, training
from zoo.adversarial import NonSaturating
from zoo.distributions import Uniform
from zoo.presets import config as config_module

EVERY_PRESET = pytest.mark.parametrize("name", presets.names())
SHAPES = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "svhn_cropped": (32, 32, 3),
    "cifar10": (32, 32, 3),
    "celeb_a": (64, 64, 3),
    "heads": (48, 48, 3),
    "heads_grey": (32, 32, 1),
    "sprites_scenes": (32, 32, 3),
    "folder": (32, 32, 3),
    "sprites": (64, 64, 1),
    "sprites_groups": (64, 64, 1),
    "textures": (32, 32, 3),
    "moving_sprites": (16, 16, 4),
    "turning_sprites": (16, 16, 4),
    "bouncing_sprites": (16, 16, 8),
}
FOLDERS = ("toon_heads", "pixel_avatars")  # Sets of images with presets for their folder.
SMALL = {"hidden", "generator_hidden", "discriminator_hidden", "width", "filters"}


def small(name):
    """The preset with narrow networks; the tests do not depend on the width."""
    config = presets.get(name)
    for key in (SMALL & set(config.model)) - set(presets.unused(config)):
        value = config.model[key]
        config.model[key] = (4,) * len(value) if isinstance(value, tuple) else 4
    return config


def changed(name, *settings):
    config = presets.get(name)
    presets.override(config, settings)
    return config


# Presets --------------------------------------------------------------------------------------


BUILDERS = {presets.get(name).builder: name for name in reversed(presets.names())}


@pytest.mark.parametrize(
    "name",
    slow_except(
        ["factor_vae_sprites", "inverse_graphics_sprites_groups"],
        [
            name
            for name in presets.names()
            if presets.get(name).data.name in ("sprites", "sprites_groups")
        ],
    ),
)
def test_a_preset_of_sprites_takes_a_step_on_its_images(name):
    config = small(name)
    presets.override(config, ["image_size=16", "sizes=80,20,20", "jit_compile=false"])
    data = training.load_data(config)
    model = presets.build(config, data.image_shape, data.levels)
    model.adapt(data)
    batch = next(iter(data.batches("train", config.batch_size, grouped=model.grouped_batches)))
    before = model.posterior.network.get_weights()
    logs = {name: float(value) for name, value in model.train_step(batch).items()}
    assert np.isfinite(list(logs.values())).all() and logs["distortion"] > 0
    after = model.posterior.network.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "name",
    slow_except(
        ["video_vae_bouncing_sprites"],
        [name for name in presets.names() if name.endswith("ing_sprites")],
    ),
)
def test_a_preset_of_videos_takes_a_step(name):
    config = small(name)
    presets.override(config, ["sizes=20,5,5", "jit_compile=false", "batch_size=10"])
    training.check_config(config)
    data = training.load_data(config)
    model = presets.build(config, data.image_shape, data.levels)
    training.checks.check_data(model, data, config.batch_size)
    model.adapt(data)
    before = model.likelihood.network.get_weights()
    logs = model.train_step(next(iter(data.batches("train", 10))))
    assert all(np.isfinite(value) for value in logs.values())
    after = model.likelihood.network.get_weights()
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


# The fast tests build the first preset of each builder.
@pytest.mark.parametrize("name", slow_except(BUILDERS.values(), presets.names()))
def test_every_preset_builds_a_model_with_an_optimizer_for_each_player(name):
    config = small(name)
    model = presets.build(config, SHAPES[config.data.name], levels=17)
    assert model.compiled and model.image_shape == SHAPES[config.data.name]
    assert set(config.optimizers) == set(model.players()) == set(model.optimizers)
    # One latent, layers of them, or blocks.
    several = config.model.get("latent_dims", config.model.get("units", ()))
    several = several or [v for k, v in config.model.items() if k.endswith("ground_dim")]
    latents = config.model.get("latent_dim", sum(several))
    if isinstance(model, zoo.LabelInformedAAE):
        latents = 2  # Presets with a planar prior.
    elif isinstance(model, zoo.ClusteringAAE) and not isinstance(model, zoo.DimensionReductionAAE):
        latents += model.num_classes  # The category comes first.
    elif isinstance(model, zoo.SwappingAutoencoder):
        latents = np.prod(model.code_shapes.structure) + config.model.texture_dim
    elif isinstance(model, zoo.FaceAutoencoder):
        latents = zoo.morphable.CODE_SIZE
    elif isinstance(model, zoo.VideoVAE):
        latents = config.model.static_dim + model.frames * latents
    assert model.latent_dim == latents
    assert model.jit_compile == config.jit_compile
    assert model.steps_per_execution == config.steps_per_execution
    for player, settings in config.optimizers.items():
        optimizer = model.optimizers[player]
        assert isinstance(optimizer, keras.optimizers.Adam)
        assert float(optimizer.learning_rate) == pytest.approx(settings.learning_rate)
        assert optimizer.beta_1 == pytest.approx(settings.get("beta_1", 0.9))
        assert optimizer.use_ema == settings.use_ema
        assert optimizer.global_clipnorm == settings.global_clipnorm


@EVERY_PRESET
def test_every_preset_survives_json(name):
    config = presets.get(name)
    assert json.loads(config.to_json_best_effort()) == json.loads(json.dumps(config.to_dict()))
    loaded = presets.from_dict(json.loads(config.to_json_best_effort()))
    assert loaded == config and not presets.differences(loaded, config)
    assert loaded.model.to_dict().items() >= presets.resolve(name)["model"].items()  # tuples too


@EVERY_PRESET
def test_every_preset_has_a_description_and_only_arguments_of_its_builder(name):
    config = presets.get(name)
    assert config.preset == name and config.about.endswith(".")
    assert config.epochs > 0 and config.batch_size > 0
    with pytest.raises(AttributeError):
        config.model.hiden = (3,)
    with pytest.raises((KeyError, AttributeError)):
        config.epoch = 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "top"), [("dcgan_celeb_a", 1024), ("dcgan_cifar10", 256)])
def test_dcgans_are_trained_as_in_the_paper(name, top):
    # Radford et al., 2016, section 4 and figure 1.
    config = presets.get(name)
    model = presets.build(config, SHAPES[config.data.name])
    assert type(model.adversarial_loss) is NonSaturating and model.penalty is None
    assert type(model.prior) is Uniform and (model.prior.low, model.prior.high) == (-1.0, 1.0)
    assert model.latent_dim == 100 and config.batch_size == 128
    for settings in config.optimizers.values():
        assert (settings.name, settings.learning_rate, settings.beta_1) == ("adam", 2e-4, 0.5)
    for network in (model.generator, model.discriminator):
        maps = [layer.output.shape for layer in network.layers if len(layer.output.shape) == 4]
        assert max(shape[-1] for shape in maps) == top and min(shape[1] for shape in maps) == 4
        for kernel in (v for v in network.trainable_variables if v.path.endswith("kernel")):
            assert float(keras.ops.std(kernel)) == pytest.approx(0.02, rel=0.05)


@EVERY_PRESET
def test_a_preset_states_only_settings_that_differ(name):
    stated = dict(presets.PRESETS[name])
    base = presets.resolve(stated["like"]) if "like" in stated else {}
    builder = stated.get("builder", base.get("builder"))
    assert stated.get("builder") is None or stated["builder"] != base.get("builder")
    without = presets.defaults(builder) | base.get("model", {})
    assert not [k for k, v in stated.get("model", {}).items() if without[k] == v]
    data = base.get("data", {})
    assert not [k for k, v in stated.get("data", {}).items() if data.get(k) == v]
    general = config_module._DEFAULTS | base
    same = [k for k, v in stated.items() if k in general and general[k] == v]
    assert not [k for k in same if k not in ("model", "data", "about")]


@EVERY_PRESET
def test_a_presets_name_is_its_builder_and_ends_with_its_data_set(name):
    config = presets.get(name)
    assert name.startswith(f"{config.builder}_")
    folder = config.data.name == "folder"
    assert name.endswith(tuple(f"_{data}" for data in (FOLDERS if folder else [config.data.name])))


COMPARED = ("vae", "vae_conv", "vae_flow", "gan", "dcgan", "aae", "vaegan")


@pytest.mark.parametrize("data", ["digits", "mnist", "fashion_mnist", "svhn_cropped", "cifar10"])
@pytest.mark.parametrize("model", COMPARED)
def test_the_compared_models_have_a_preset_for_each_data_set(model, data):
    config = presets.get(f"{model}_{data}")
    assert config.data.name == data and config.data.binarize in (None, "dynamic")
    convolutional = ("vae_conv", "dcgan") + (() if data == "digits" else ("vaegan",))
    assert (config.model.network == "conv") == (model in convolutional)
    if model == "vae_flow":  # The same VAE with another prior.
        plain = presets.get(f"vae_{data}")
        changed = presets.differences(plain, config)
        assert config.model.prior == "realnvp" and plain.model.prior == "normal"
        assert {key for key in changed if not key.startswith("model.prior")} <= {"preset", "about"}


def test_presets_do_not_share_mutable_values():
    changed("vae_digits", "latent_dim=2", "optimizers.vae.learning_rate=1.0")
    assert presets.get("vae_digits").model.latent_dim == 8
    assert presets.get("vae_digits").optimizers.vae.learning_rate == 2e-3
    # This includes values that are None by default.
    one = changed("vae_digits", "image_size=5", "global_clipnorm=2.0", "extractor=inception")
    other = presets.get("autoencoder_digits")
    assert one.data.binarize == "dynamic" and other.data.binarize is None
    assert one.data.image_size == 5 and other.data.image_size is None
    assert one.evaluation.extractor == "inception" and other.evaluation.extractor is None
    assert other.optimizers.autoencoder.global_clipnorm is None


def test_the_error_of_an_unknown_preset_suggests_a_similar_name():
    with pytest.raises(ValueError, match="Did you mean 'vae_digits'"):
        presets.get("vae_digit")


def test_another_choice_resets_the_settings_of_the_old_choice():
    config = changed("vae_flow_digits", "prior=mixture")
    assert config.model.prior_steps == 0 and config.model.prior_hidden == ()
    config = changed("vae_flow_digits", "prior=maf")
    assert config.model.prior_steps == 4 and config.model.prior_hidden == (64, 64)
    config = changed("vae_flow_digits", "prior=mixture", "prior_steps=2")
    with pytest.raises(ValueError, match="`prior_steps` is an option of prior 'realnvp', 'maf'"):
        presets.build(config, (8, 8, 1))


# Overrides ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "setting", "path", "value"),
    [
        ("vae_digits", "latent_dim=2", "model.latent_dim", 2),
        ("vae_digits", "model.latent_dim=2", "model.latent_dim", 2),
        ("vae_digits", "learning_rate=0.5", "optimizers.vae.learning_rate", 0.5),
        ("vae_digits", "learning_rate=1e-4", "optimizers.vae.learning_rate", 1e-4),
        ("vae_digits", "learning_rate=1", "optimizers.vae.learning_rate", 1.0),
        ("vae_digits", "global_clipnorm=5.0", "optimizers.vae.global_clipnorm", 5.0),
        ("gan_digits", "generator.learning_rate=0.5", "optimizers.generator.learning_rate", 0.5),
        ("gan_digits", "optimizers.generator.name=nadam", "optimizers.generator.name", "nadam"),
        ("vae_digits", "optimizers.vae.name=sgd", "optimizers.vae.name", "sgd"),
        ("vae_digits", "hidden=(64, 32)", "model.hidden", (64, 32)),
        ("vae_digits", "hidden=[64, 32]", "model.hidden", (64, 32)),
        ("vae_digits", "hidden=64,32", "model.hidden", (64, 32)),
        ("vae_digits", "hidden=64", "model.hidden", (64,)),
        ("vae_digits", "hidden=()", "model.hidden", ()),
        ("vae_digits", "likelihood=normal", "model.likelihood", "normal"),
        ("vae_digits", "image_size=16", "data.image_size", 16),
        ("vae_digits", "image_size=None", "data.image_size", None),
        ("vae_digits", "binarize=fixed", "data.binarize", "fixed"),
        ("vae_digits", "binarize=None", "data.binarize", None),
        ("vae_digits", "jit_compile=false", "jit_compile", False),
        ("vae_digits", "jit_compile=True", "jit_compile", True),
        ("vae_digits", "use_ema=true", "optimizers.vae.use_ema", True),
        ("vae_digits", "seed=7", "seed", 7),
    ],
)
def test_a_setting_changes_only_the_named_value_and_keeps_its_type(preset, setting, path, value):
    config = changed(preset, setting)
    flat = dict(config_module._flatten(config))
    assert flat[path] == value and type(flat[path]) is type(value)
    before = dict(config_module._flatten(presets.get(preset)))
    assert {k for k in flat if flat[k] != before[k]} <= {path}
    assert flat.keys() == before.keys()


@pytest.mark.parametrize(
    ("preset", "setting", "message"),
    [
        ("vae_digits", "latent_dim", "form key=value. Received: 'latent_dim'"),
        ("vae_digits", "latent=2", "Preset 'vae_digits' has no setting 'latent'. It has: .*"),
        ("vae_digits", "=2", "has no setting ''"),
        ("vae_digits", "dim=2", "has no setting 'dim'"),
        (
            "gan_digits",
            "learning_rate=1.0",
            "is the end of several settings: .*generator.learning_rate. Write one",
        ),
        ("vae_digits", "builder=gan", "has no setting 'builder'"),
        ("vae_digits", "preset=x", "has no setting 'preset'"),
        ("vae_digits", "latent_dim=2.5", "of type int, like 8. Received: '2.5'"),
        ("vae_digits", "latent_dim=two", "of type int, like 8. Received: 'two'"),
        ("vae_digits", "latent_dim=", "of type int, like 8. Received: ''"),
        ("vae_digits", "latent_dim=True", "of type int"),
        ("vae_digits", "latent_dim=None", "of type int"),
        ("vae_digits", "latent_dim=(2,)", "of type int"),
        ("vae_digits", "learning_rate=fast", "of type float"),
        ("vae_digits", "learning_rate=True", "of type float"),
        ("vae_digits", "learning_rate=None", "of type float"),
        ("vae_digits", "hidden=(2.5,)", "of type tuple"),
        ("vae_digits", "hidden=2.5", "of type tuple"),
        ("vae_digits", "hidden=wide", "of type tuple"),
        ("vae_digits", "hidden='ab'", "of type tuple"),
        ("vae_digits", "hidden=None", "of type tuple"),
        ("vae_digits", "jit_compile=1", "of type bool"),
        ("vae_digits", "jit_compile=maybe", "of type bool"),
        ("vae_digits", "likelihood=None", "Unknown likelihood"),
        ("vae_digits", "image_size=big", "of type int"),
        ("vae_digits", "hidden=__import__('os')", "of type tuple"),
        pytest.param("vae_digits", "latent_dim=" + "-" * 10**5 + "1", "of type int", id="signs"),
        pytest.param("vae_digits", "latent_dim=1" + "+1" * 5000, "of type int", id="sum"),
        ("vae_digits", "optimizers.vae.name=rmspop", "Unknown optimizer 'rmspop'.*mean 'rmsprop'"),
        ("vae_digits", "optimizers.vae.name=None", "Unknown optimizer 'none'. Available: .*sgd"),
        ("vae_digits", "optimizers.vae.name=optimizer", "Unknown optimizer"),
        ("vae_digits", "optimizers.vae.name=lossscaleoptimizer", "Unknown optimizer"),
    ],
)
def test_an_invalid_setting_is_refused_and_changes_nothing(preset, setting, message):
    config = presets.get(preset)
    with pytest.raises(ValueError, match=message):
        presets.override(config, [setting])
    assert config == presets.get(preset)


def test_settings_before_an_invalid_setting_are_not_applied():
    config = presets.get("vae_digits")
    with pytest.raises(ValueError, match="of type tuple"):
        presets.override(config, ["latent_dim=3", "hidden=None"])
    assert config == presets.get("vae_digits")


def test_a_refused_setting_restores_the_settings_of_the_former_optimizer():
    config = presets.get("vaegan_digits")
    settings = [f"optimizers.{p}.name=sgd" for p in ("discriminator", "encoder")]
    with pytest.raises(ValueError, match="has no setting 'beta_1'"):
        presets.override(config, [*settings, "optimizers.encoder.beta_1=0.9"])
    assert config == presets.get("vaegan_digits")


def test_none_is_accepted_in_lower_case():
    assert changed("vae_digits", "image_size=none").data.image_size is None
    assert changed("vae_digits", "binarize=none").data.binarize is None


def test_booleans_are_refused_as_layer_sizes():
    with pytest.raises(ValueError, match="of type tuple"):
        changed("vae_digits", "hidden=(True, 64)")


def test_later_settings_override_earlier_ones_and_reach_the_model():
    config = changed(
        "vae_digits",
        "latent_dim=5",
        "latent_dim=3",
        "hidden=6",
        "seed=11",
        "likelihood=discretized_logistic",
        "global_clipnorm=2.0",
        "use_ema=True",
        "ema_momentum=0.5",
    )
    model = presets.build(config, (8, 8, 1), levels=17)
    assert model.latent_dim == 3 and model.seed == 11
    assert model.likelihood.family.levels == 17
    optimizer = model.optimizers["vae"]
    assert optimizer.global_clipnorm == 2.0
    assert optimizer.use_ema and optimizer.ema_momentum == 0.5
    shapes = [w.shape for w in model.posterior.trainable_variables]
    assert shapes == [(64, 6), (6,), (6, 6), (6,)]


@pytest.mark.parametrize("optimizer", ["rmsprop", "SGD", "adagrad", "lion", "adamw"])
def test_another_optimizer_drops_the_preset_settings_that_it_does_not_accept(optimizer):
    setting = f"optimizers.generator.name={optimizer}"
    config = changed("gan_digits", setting, "optimizers.generator.global_clipnorm=3.0")
    takes_beta = optimizer in ("lion", "adamw")
    assert ("beta_1" in config.optimizers.generator) == takes_beta
    assert config.optimizers.discriminator.beta_1 == 0.5 and config.is_locked
    model = presets.build(config, (8, 8, 1))
    built = model.optimizers["generator"]
    assert type(built).__name__.lower() == optimizer.lower()
    assert float(built.learning_rate) == pytest.approx(1e-3) and built.global_clipnorm == 3.0
    assert getattr(built, "beta_1", 0.5) == 0.5
    # The written configuration holds the settings in use.
    settings = json.loads(config.to_json_best_effort())
    assert ("beta_1" in settings["optimizers"]["generator"]) == takes_beta
    loaded = presets.from_dict(settings)
    assert loaded == config and not presets.differences(loaded, config)
    presets.override(loaded, ["epochs=3"])
    assert presets.differences(loaded, config).keys() == {"epochs"}


def test_an_explicit_setting_that_the_optimizer_does_not_accept_is_refused():
    name, beta = "optimizers.generator.name=rmsprop", "optimizers.generator.beta_1"
    refusal = (
        r"'rmsprop' of player 'generator' has no setting 'beta_1'. It has: learning_rate, rho, .*"
    )
    for settings in ([name, f"{beta}=0.9"], [f"{beta}=0.9", name], [f"{beta}=0.5", name]):
        with pytest.raises(ValueError, match=rf"{refusal}Received: {beta}=0\.[59]"):
            changed("gan_digits", *settings)
    config = changed("gan_digits", f"{beta}=0.9")  # For example in an earlier command.
    with pytest.raises(ValueError, match=refusal):
        presets.override(config, [name])
    settings = presets.get("gan_digits").to_dict()
    settings["optimizers"]["generator"]["name"] = "rmsprop"
    with pytest.raises(ValueError, match=refusal):
        presets.from_dict(settings)
    # Dropped settings do not return with another optimizer.
    config = changed("gan_digits", name)
    with pytest.raises(ValueError, match=r"has no setting 'optimizers\.generator\.beta_1'"):
        presets.override(config, [f"{beta}=0.9"])


def test_optimizers_match_the_players_of_the_hyperparameters():
    quadrants = "cvae_quadrants_digits"
    small = ("model.hidden=4", "optimizers.vae.learning_rate=0.25")
    without = presets.build(changed(quadrants, *small, "baseline_hidden=()"), (8, 8, 1))
    assert without.optimizers.keys() == {"vae"}
    assert float(without.optimizers["vae"].learning_rate) == 0.25
    with pytest.raises(ValueError, match=r"no player 'baseline'; it has: vae. Received: settings"):
        own = "optimizers.baseline.learning_rate=0.5"
        presets.build(changed(quadrants, *small, "baseline_hidden=()", own), (8, 8, 1))
    seen = ("condition=seen", "condition_size=0", "prior=conditional", "baseline_hidden=4")
    model = presets.build(changed("cvae_digits", *small, *seen), (8, 8, 1))
    assert model.optimizers.keys() == {"vae", "baseline"}
    rates = {float(optimizer.learning_rate) for optimizer in model.optimizers.values()}
    assert rates == {0.25} and len(set(map(id, model.optimizers.values()))) == 2


def test_unknown_names_of_parts_and_losses_are_refused():
    with pytest.raises(ValueError, match="Unknown likelihood 'bernouli'"):
        changed("vae_digits", "likelihood=bernouli")
    with pytest.raises(ValueError, match="Unknown loss"):
        presets.build(changed("gan_digits", "loss=hinge_of_a_door"), (8, 8, 1))


def test_differences_are_the_paths_that_differ_with_both_values():
    a, b = presets.get("vae_digits"), changed("vae_digits", "latent_dim=2", "seed=3")
    assert presets.differences(a, b) == {"model.latent_dim": (8, 2), "seed": (0, 3)}
    assert presets.differences(a, a) == {}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("preset"),
        lambda d: d.update(preset="nonesuch"),
        lambda d: d.update(extra=1),
        lambda d: d["model"].update(latent_dim="8"),
        lambda d: d["model"].update(hidden="wide"),
    ],
)
def test_an_invalid_configuration_dict_is_refused(spoil):
    settings = json.loads(presets.get("vae_digits").to_json_best_effort())
    spoil(settings)
    with pytest.raises(ValueError, match="Expected the configuration of a run"):
        presets.from_dict(settings)


def test_settings_missing_from_a_written_configuration_come_from_the_preset():
    settings = presets.get("gan_digits").to_dict()
    del settings["epochs"], settings["evaluation"], settings["optimizers"]["generator"]["beta_1"]
    assert presets.from_dict(settings) == presets.get("gan_digits")


def test_arguments_missing_from_a_written_configuration_are_the_builders_defaults():
    """A preset that changed later may set arguments that were added later."""
    settings = presets.get("vaegan_mnist").to_dict()
    del settings["model"]["beta"], settings["model"]["joint_batch"]
    config = presets.from_dict(settings)
    assert (config.model.beta, config.model.joint_batch) == (1.0, True)
    assert presets.get("vaegan_mnist").model.beta == 10.0


def test_configs_are_config_dicts_that_refuse_new_keys():
    config = presets.get("vae_digits")
    assert isinstance(config, ConfigDict) and config.is_locked
