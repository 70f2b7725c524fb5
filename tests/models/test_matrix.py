"""Every builder with every value of its choices trains one step on digits, or refuses the value.

The refusals are written down in `REFUSED`, with their reasons. The values of all choices of a
builder change together, and each value trains once. Each builder of a bound on log p(x) also builds
every pair of its posteriors and priors. The fast tests try each value, switch and reason with one
builder.
"""

import functools
import inspect
import itertools
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow_except

import zoo
from zoo import adversarial, models, presets
from zoo.distributions import by_name
from zoo.steps import layers_of

SHAPE = (8, 8, 1)
SMALL = {
    "hidden": 8,
    "hidden_between": 8,
    "generator_hidden": 8,
    "discriminator_hidden": 8,
    "classifier_hidden": 8,
    "baseline_hidden": 8,
    "code_discriminator_hidden": 8,
    "posterior_hidden": 8,
    "prior_hidden": 8,
    "filters": 4,
    "width": 4,
    "latent_dims": 4,
    "group_size": 6,
}

COLOUR = ("face_autoencoder",)  # Builders whose images are in colour.

# Groups of builders that refuse a part for the same reason.
BOUNDS = [  # Builders of a bound on log p(x)
    name
    for name, builder in models.BUILDERS.items()
    if issubclass(inspect.signature(builder).return_annotation, zoo.VAE | zoo.M2)
    and "posterior" in inspect.signature(builder).parameters
]
TWO_LAYERS = ["hvae", "hierarchical_iwae"]
NO_DENSITY = "needs a density"
FIXED = "must be fixed"
SAMPLED_ONLY = ("deterministic", "implicit", "noise_basis")
PARTIAL = ("uniform", "sphere", "swiss_roll")
LEARNED = ("mixture", "vamp", "realnvp", "maf")


def refused(builders, option, values, reason):
    return {(name, option, value): reason for name in builders for value in values}


def offering(option, value=None):
    """The builders with an option, and with a value of it if it is a choice."""
    return [
        name
        for name, builder in models.BUILDERS.items()
        if option in inspect.signature(builder).parameters
        and (value is None or value in builder.choices.get(option, ()))
    ]


ADVERSARIAL = [  # The discriminators and generators of these models train against a fixed prior.
    name
    for name in offering("prior", "mixture")
    if issubclass(
        inspect.signature(models.BUILDERS[name]).return_annotation,
        zoo.GAN
        | zoo.BiGAN
        | zoo.AAE
        | zoo.VAEGAN
        | zoo.AVB
        | zoo.AlphaGAN
        | zoo.WAEGAN
        | zoo.DCVAE,
    )
]
CODES = ["aae", "label_informed_aae", "semi_supervised_aae", "clustering_aae"]
CODES += ["dimension_reduction_aae", "semi_supervised_dimension_reduction_aae", "waegan"]
REFUSED = (
    # A bound on log p(x) contains the densities of q(z | x) and p(z).
    refused([*BOUNDS, "vaegan"], "posterior", SAMPLED_ONLY, NO_DENSITY)
    | refused(["dcvae"], "posterior", ["deterministic", "noise_basis"], NO_DENSITY)
    # Its encoder has spectral normalization.
    | refused(["dcvae"], "posterior", ["implicit"], "only as a perceptron")
    | refused([*BOUNDS, "vaegan", "dcvae"], "prior", PARTIAL, NO_DENSITY)
    # A planar flow has no density at given points, and two layers split their draws.
    | refused(TWO_LAYERS, "posterior", ["planar"], NO_DENSITY)
    # The VampPrior averages a posterior that depends only on images.
    | refused(["cvae", "m2", "m1_m2", *TWO_LAYERS], "prior", ["vamp"], "VampPrior")
    # The total correlation needs the density of each latent.
    | refused(["beta_tcvae"], "posterior", ["full_covariance", "iaf", "planar"], "each latent")
    # The clamp of groups replaces means and scales.
    | refused(
        ["inverse_graphics"],
        "posterior",
        ["full_covariance", "iaf", "planar"],
        "means and scales",
    )
    # No loss of these models trains a prior.
    | refused(ADVERSARIAL, "prior", LEARNED, FIXED)
    # log q(z | x) of a code without noise is infinite.
    | refused(["avb"], "posterior", ["deterministic"], "must be random")
    # Each class belongs to a component of the prior.
    | refused(
        ["label_informed_aae"],
        "prior",
        [name for name in by_name.PRIORS if name not in ("petals", "swiss_roll")],
        "needs components|must be fixed",
    )
    # Nothing bounds the slope of a discriminator of codes.
    | refused(CODES, "loss", ["wasserstein"], "no lower bound")
    # An encoder loss with exchanged labels needs a loss on probabilities.
    | refused(
        ["bi_gan", "ali"],
        "loss",
        [n for n, used in adversarial.LOSSES.items() if not used],
        "exchanged labels",
    )
    # The MMD trains a prior through its draws.
    | refused(["wae", "info_vae"], "prior", ["mixture", "vamp"], "differentiable")
    # The importance-weighted bound and models of two layers have no KL per latent.
    | refused(["iwae", "denoising_iwae"], "free_bits", [0.1], "no KL")
    | refused(TWO_LAYERS, "free_bits", [0.1], "KL of each latent")
)


@functools.cache
def digits(name):
    """A preset of the builder on digits, or another with narrow networks."""
    own = [n for n in presets.names() if presets.get(n).builder == name]
    return next((n for n in own if n.endswith("_digits")), own[0])


def configured(name, **changes):
    config = presets.get(digits(name))
    settings = [f"model.{key}={value}" for key, value in changes.items()]
    presets.override(config, [*settings, "jit_compile=false", "steps_per_execution=1"])
    unused = set(presets.unused(config))
    for key in (SMALL.keys() & config.model.keys()) - unused - changes.keys():
        value = config.model[key]
        config.model[key] = (SMALL[key],) * len(value) if isinstance(value, tuple) else SMALL[key]
    if changes.get("network") == "resnet" and "filters" in config.model:
        config.model.filters = (4,)  # Two blocks would leave maps of 2x2 pixels.
    if changes.get("prior") in ("petals", "swiss_roll"):
        if "latent_dims" in config.model:
            config.model.latent_dims = (4, 2)
        elif "units" in config.model:
            config.model.factors, config.model.units = ("one", "two"), (1, 1)
        else:
            config.model.latent_dim = 2
    return config


@functools.cache
def data():
    return zoo.datasets.load("digits", binarize="fixed", num_labels=100)


def batch_for(model):
    """Twelve digits, enlarged to the model's images, with the condition of the model."""
    x, y = data().arrays("train", limit=12)
    height, width, channels = model.image_shape
    x = x.repeat(height // 8, 1).repeat(width // 8, 2).repeat(channels, 3)
    y = np.arange(12) % 10
    if model.semi_supervised:
        return (tf.constant(x[:6]), tf.constant(y[:6])), tf.constant(x[6:])
    if model.annotations:
        size = 1 if model.condition is None else model.condition.shape[-1]
        every = {
            "varied": y // 6,  # Two groups of six
            "attributes": np.eye(size, dtype=np.float32)[y % size],
            "mask": x[..., :1],
            "landmarks": np.linspace(0, height, 12 * 16, dtype=np.float32).reshape(12, 8, 2),
        }
        return tf.constant(x), {leaf: tf.constant(every[leaf]) for leaf in model.annotations}
    if model.condition is None:
        return (tf.constant(x),)
    if model.condition.shape.rank == 4 and model.condition.shape[1:] != model.image_shape:
        y = x.reshape(12, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    elif model.condition.shape.rank == 4:
        y = np.where(np.arange(height)[:, None, None] < height // 2, x, -1).astype(np.float32)
    elif model.condition.shape.rank == 2:
        y = np.eye(model.condition.shape[-1], dtype=np.float32)[y % model.condition.shape[-1]]
    return tf.constant(x), tf.constant(y)


def built(name, shape=None, **changes):
    shape = shape or ((*SHAPE[:2], 3) if name in COLOUR else SHAPE)
    keras.utils.set_random_seed(0)
    parts = {}
    if name == "m1_m2":
        parts["first"] = models.m1(shape, latent_dim=4, hidden=(8,))
    model = presets.build(configured(name, **changes), shape, levels=17, **parts)
    for key, value in (("dataset_size", 100), ("labelled_share", 0.5)):
        if key in model.adapted:
            setattr(model, key, value)
    return model


def one_step(name, **changes):
    """Builds the model and takes one training step."""
    trains(built(name, **changes))


def trains(model):
    """Takes one training step; all losses must be finite."""
    results = model.train_step(batch_for(model))
    assert all(np.isfinite(np.asarray(value)).all() for value in results.values()), results


# These builders return the model of another builder with other settings.
RECIPES = ("dcgan", "wgan_gp", "f_gan", "sngan", "ali", "m1")
OWN = [name for name in models.BUILDERS if name not in RECIPES]
LABELLED = ("minimax", "non_saturating", "log_ratio")
SIZES = {"label": 10, "attributes": 3, "image": 2}
FAILS_TOGETHER = {("planar", "vamp")}  # A planar flow has no density at given points.


def completed(name, changes):
    """The changes, and the settings that they need."""
    own = inspect.signature(models.BUILDERS[name]).parameters
    if changes.get("posterior") in ("implicit", "noise_basis") and "network" in own:
        changes["network"] = "mlp"  # These parts are perceptrons.
    if "condition" in changes:
        changes["condition_size"] = SIZES.get(changes["condition"], 0)
    if "loss" in changes and changes["loss"] not in LABELLED:
        changes |= {k: v for k, v in (("real_label", 1.0), ("label_noise", 0.0)) if k in own}
    if changes.get("comparison") == "instances":  # No game
        changes = {
            k: v for k, v in changes.items() if k not in ("loss", "real_label", "label_noise")
        }
    if changes.get("loss") == "wasserstein":
        needed = {"gradient_penalty": 10.0, "spectral_norm": True, "batch_norm": False}
        changes |= {k: v for k, v in needed.items() if k in own}
    return changes


def accepted(name, option):
    """The values of a choice that a builder does not refuse."""
    values = models.BUILDERS[name].choices[option]
    return [value for value in values if (name, option, value) not in REFUSED]


def rows(name):
    """Settings in which each accepted value of each choice of a builder occurs.

    The values of all choices change from row to row together. The losses are fewer than the rows
    allow: `test_every_adversarial_loss_trains` tries each of them.
    """
    choices = {option: accepted(name, option) for option in models.BUILDERS[name].choices}
    count = max((len(v) for option, v in choices.items() if option != "loss"), default=1)
    start = OWN.index(name)
    for k in range(count):
        row = {
            option: values[(5 * start + k if option == "loss" else k) % len(values)]
            for option, values in choices.items()
        }
        if row.get("posterior") in ("implicit", "noise_basis"):  # Perceptrons without a condition
            row["network"] = "mlp"
            row |= {"condition": "none"} if "condition" in row else {}
        if row.get("discriminator") == "projection":
            row["condition"] = "label"
        if (row.get("posterior"), row.get("prior")) in FAILS_TOGETHER:
            row["posterior"] = "normal"
        yield completed(name, row)


def trains_with(name, settings):
    try:
        one_step(name, **settings)
    except Exception as error:
        raise AssertionError(f"{name} failed with {settings}: {error}") from error


def cover():
    """Few of the rows of all builders, in which each accepted value of each choice but `loss` occurs."""
    found = [
        (
            name,
            row,
            {(option, row[option]) for option in {*models.BUILDERS[name].choices} - {"loss"}},
        )
        for name in OWN
        for row in rows(name)
    ]
    left = set().union(*(values for *_, values in found))
    while left:
        name, row, values = max(found, key=lambda entry: len(entry[2] & left))
        yield name, row
        left -= values


@pytest.mark.parametrize(("name", "row"), list(cover()))
def test_every_value_of_a_choice_trains_with_one_builder(name, row):
    trains_with(name, row)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.BUILDERS)
def test_every_accepted_value_of_a_choice_trains(name):
    for row in rows(name) if name in OWN else [{}]:
        trains_with(name, row)


# The fast tests train an encoder with a decoder, and a generator with a discriminator.
@pytest.mark.parametrize("name", slow_except(["vae", "gan"], offering("network", "resnet")))
@pytest.mark.parametrize("side", slow_except([16], [16, 32]))
def test_every_builder_with_residual_networks_trains(name, side):
    changes = {"network": "resnet"}
    if configured(name).model.get("posterior") in ("implicit", "noise_basis"):
        changes["posterior"] = "normal"  # The others are perceptrons.
    model = built(name, (side, side, 3), **changes)
    assert any(isinstance(layer, keras.layers.Add) for layer in layers_of(model))
    trains(model)


@pytest.mark.parametrize("name", ["hvae", "hierarchical_iwae", "m2", "inverse_graphics"])
def test_the_initial_scale_reaches_the_likelihood(name):
    model = built(name, likelihood="shared_scale_normal", likelihood_scale=0.2)
    np.testing.assert_allclose(model.likelihood.family.scale, 0.2, rtol=1e-5)


REFUSALS = [key for key in REFUSED if key[0] in OWN]
# One builder for each reason.
REFUSING = [
    ("vae", "posterior"),
    ("vae", "prior"),
    ("hvae", "posterior"),
    ("m2", "prior"),
    ("beta_tcvae", "posterior"),
    ("gan", "prior"),
    ("avb", "posterior"),
    ("label_informed_aae", "prior"),
    ("aae", "loss"),
    ("bi_gan", "loss"),
    ("wae", "prior"),
    ("iwae", "free_bits"),
    ("hvae", "free_bits"),
]


@pytest.mark.parametrize(
    "choice", slow_except(REFUSING, sorted({key[:2] for key in REFUSALS})), ids="-".join
)
def test_every_other_value_of_a_choice_is_refused(choice):
    name, option = choice
    for value in [value for n, o, value in REFUSALS if (n, o) == (name, option)]:
        with pytest.raises(ValueError, match=REFUSED[name, option, value]) as refusal:
            one_step(name, **completed(name, {option: value}))
        assert re.search(r"Received: |Choose|choose", str(refusal.value)), refusal.value


SWITCHES = {
    "real_label": 0.9,
    "label_noise": 0.1,
    "gradient_penalty": 1.0,
    "r1": 1.0,
    "dropout": 0.2,
    "instance_noise": 0.1,
    "augment": "color,translation,cutout",
    "spectral_norm": True,
    "batch_norm": True,
    "free_bits": 0.1,
    "warm_up_steps": 5,
    "num_samples": 2,
    "doubly_reparameterised": True,
    "adaptive_contrast": True,
    "prior_aware": True,
    "joint_batch": False,
    "margin": 0.35,
    "capacity": 2.0,
    "input_noise": 0.1,
    "unbiased": False,
}


def described(model):
    """The configuration of the model, without the numbers that Keras adds to names of layers."""
    text = json.dumps(keras.saving.serialize_keras_object(model), sort_keys=True, default=str)
    return re.sub(r"(?<=[a-z])_\d+\b", "", text)


@functools.cache
def described_without(name, changes):
    return described(built(name, **dict(changes)))


# A discriminator has one kind of normalization and one penalty. Penalties need gradients of single
# examples.
ALONE = {
    "spectral_norm": {"batch_norm": False},
    "batch_norm": {"spectral_norm": False, "gradient_penalty": 0.0, "r1": 0.0},
    "gradient_penalty": {"batch_norm": False, "r1": 0.0},
    "r1": {"batch_norm": False, "gradient_penalty": 0.0},
}


def switches_of(name):
    """The switches that a builder has and accepts."""
    own = inspect.signature(models.BUILDERS[name]).parameters
    return [o for o, value in SWITCHES.items() if o in own and (name, o, value) not in REFUSED]


def needed(name, option):
    """The settings that a switch needs."""
    own = inspect.signature(models.BUILDERS[name]).parameters
    changes = {k: v for k, v in ALONE.get(option, {}).items() if k in own}
    if option in ("real_label", "label_noise"):
        changes["loss"] = "non_saturating"
    return changes


def builders_that_a_switch_changes(option):
    """The builders whose model changes, one after the other; the others have the switch already."""
    value = SWITCHES[option]
    for name in OWN:
        if option not in switches_of(name):
            continue
        changes = needed(name, option)
        if configured(name, **changes).model[option] != value:
            model = built(name, **changes, **{option: value})
            assert described(model) != described_without(name, tuple(changes.items())), name
            yield name


@pytest.mark.parametrize("option", SWITCHES)
def test_every_switch_changes_the_model_of_one_builder(option):
    assert next(builders_that_a_switch_changes(option))


@pytest.mark.slow
@pytest.mark.parametrize("option", SWITCHES)
def test_every_switch_changes_the_models_of_all_builders(option):
    assert list(builders_that_a_switch_changes(option))


# Together, these builders have all switches.
SWITCHED = ("vae", "beta_vae", "info_vae", "iwae", "waegan", "gan", "dimension_reduction_aae")
SWITCHED += ("vaegan", "avb")


def test_the_fast_builders_have_all_switches():
    assert {option for name in SWITCHED for option in switches_of(name)} == SWITCHES.keys()


@pytest.mark.parametrize("name", slow_except(SWITCHED, OWN))
def test_a_builder_trains_with_all_switches_that_agree(name):
    left = set(switches_of(name))
    while left:
        changes = {}
        for option in sorted(left):
            values = needed(name, option) | {option: SWITCHES[option]}
            if all(changes.get(key, value) == value for key, value in values.items()):
                changes |= values
        trains_with(name, changes)
        left -= {option for option in left if changes.get(option) == SWITCHES[option]}


@pytest.mark.parametrize(
    "loss",
    slow_except(["least_squares", "hinge", "wasserstein", "f_jeffrey"], adversarial.LOSSES),
)
def test_every_adversarial_loss_trains(loss):
    one_step("gan", **completed("gan", {"loss": loss}))


@functools.cache
def first_model():
    return models.m1(SHAPE, latent_dim=2, hidden=(2,))


def pair(name, posterior, prior):
    """A model of the builder with these two parts and with the smallest networks."""
    dim = 2 if prior in ("petals", "swiss_roll") else 3
    sizes = dict.fromkeys(("hidden", "hidden_between", "discriminator_hidden"), (2,))
    sizes |= {"classifier_hidden": (), "latent_dim": dim, "latent_dims": (3, dim)}
    sizes |= {"factors": ("one", "two"), "units": (1, dim - 1)}
    used = by_name.POSTERIORS[posterior] + by_name.PRIORS.get(prior, ())
    sizes |= {option: (2,) for option in used if option.endswith("_hidden")}
    sizes |= {option: 2 for option in used if option.endswith("_steps")}
    sizes |= {"first": first_model()} if name == "m1_m2" else {}
    own = inspect.signature(models.BUILDERS[name]).parameters
    options = {option: value for option, value in sizes.items() if option in own}
    return models.BUILDERS[name](SHAPE, posterior=posterior, prior=prior, **options)


@pytest.mark.parametrize(
    "name", slow_except(("vae", "beta_tcvae"), [name for name in BOUNDS if name in OWN])
)
def test_every_pair_of_posterior_and_prior_is_built_or_refused(name):
    for posterior, prior in itertools.product(accepted(name, "posterior"), accepted(name, "prior")):
        if (posterior, prior) in FAILS_TOGETHER:
            with pytest.raises(ValueError, match="Received: "):
                pair(name, posterior, prior)
            continue
        model = pair(name, posterior, prior)
        assert model.prior.has_density and model.posterior.has_density


def test_every_refusal_names_an_existing_builder_and_value():
    for name, option, value in REFUSED:
        table = models.BUILDERS[name].choices.get(option)
        if table is not None:
            assert value in table
        else:
            assert option in inspect.signature(models.BUILDERS[name]).parameters
