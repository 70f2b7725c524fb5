"""Exports: SavedModels in processes that import only TensorFlow, TFLite, ONNX."""

import functools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow, slow_except

import zoo
from zoo.export import export

SIZE = (8, 8, 1)
BUILD = zoo.models.BUILDERS
SMALL_MLP = {"latent_dim": 3, "hidden": (16,)}
SMALL_CONV = {"latent_dim": 3, "network": "conv", "filters": (4, 8), "hidden": (16,)}
SMALL_AAE = {"latent_dim": 2, "hidden": (16,), "discriminator_hidden": (8,)}


def vae(likelihood):
    return BUILD["vae"](SIZE, **SMALL_MLP, likelihood=likelihood, levels=17)


def trained(model, digits, jit_compile=False, **optimizer):
    """Trains two steps, so that batch statistics and moving averages change from their start."""
    model.compile(keras.optimizers.Adam(0.01, **optimizer), jit_compile=jit_compile)
    model.fit(digits[:40], batch_size=20, verbose=0)
    if model.keeps_averages:
        model.fit_averaged_state(tf.data.Dataset.from_tensor_slices(digits[:40]).batch(20))
    return model


def mixed(digits):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return BUILD["vae"](SIZE, **SMALL_CONV)
    finally:
        keras.config.set_dtype_policy(policy)


def half_precision(digits):
    """A model of which no part casts its results to float32."""
    with_policy = {"dtype": "mixed_bfloat16"}
    encoder = [keras.Input(SIZE), keras.layers.Flatten(), keras.layers.Dense(3, **with_policy)]
    decoder = [
        keras.Input((3,)),
        keras.layers.Dense(64, **with_policy),
        keras.layers.Reshape(SIZE, **with_policy),
    ]
    return zoo.Autoencoder(
        keras.Sequential(encoder),
        zoo.Conditional(keras.Sequential(decoder), zoo.UnitNormal()),
    )


class CVAE(zoo.VAE):
    """A VAE with a fixed image size, for encoders with several inputs."""

    image_shape = SIZE


def conditional(digits):
    """Encoder and decoder take a one-hot class."""
    x, z, y = keras.Input(SIZE), keras.Input((3,)), keras.Input((10,))
    join = keras.layers.Concatenate()
    code = keras.layers.Dense(6)(join([keras.layers.Flatten()(x), y]))
    logits = keras.layers.Reshape(SIZE)(keras.layers.Dense(64)(join([z, y])))
    return CVAE(
        zoo.Conditional(keras.Model([x, y], code), zoo.DiagonalNormal()),
        zoo.Conditional(keras.Model([z, y], logits), zoo.Bernoulli()),
        zoo.StandardNormal(3),
    )


def conditional_decoder(digits):
    """Only the decoder takes the class; `encode` does not."""
    return zoo.VAE(
        zoo.Conditional(zoo.networks.mlp_encoder(SIZE, 6, (16,)), zoo.DiagonalNormal()),
        conditional(digits).likelihood,
        zoo.StandardNormal(3),
    )


def averaged_gan(digits):
    model = BUILD["gan"](SIZE, latent_dim=3, generator_hidden=(16,), discriminator_hidden=(8,))
    return trained(model, digits, use_ema=True, ema_momentum=0.9)


def stacked(digits):
    """M1+M2 whose distributions of latents depend weakly on their inputs.

    The importance weights of untrained distributions have heavy tails, for which a standard error
    is not valid.
    """
    first = BUILD["vae"](SIZE, **SMALL_MLP)
    model = BUILD["m1_m2"](SIZE, first=first, **SMALL_MLP, classifier_hidden=(16,))
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, zoo.Conditional):
            *_, last = (n for n in layer.network.layers if isinstance(n, keras.layers.Dense))
            # Except the likelihood of the pixels: different latents must give different images.
            if last.units < 64:
                last.kernel.assign(0.1 * last.kernel)
    return model


def of(name, **options):
    """A function of digits to a new model of a builder."""
    return lambda digits: BUILD[name](SIZE, **options)


def trained_of(name, **options):
    return lambda digits: trained(BUILD[name](SIZE, **options), digits)


CODES = {"discriminator_hidden": (8,)}


def of_images(model):
    """The abilities that are exported here: functions of images, latents or numbers of samples.

    `complete` takes as long to export as all others. It has a test of its own.
    """
    others = ("attribute_vectors", "category_images", "complete", "fit_prior")
    return [name for name in model.abilities() if name not in others]


MODELS = {
    "autoencoder": of("autoencoder", **SMALL_MLP),
    "rae": of("rae", **SMALL_MLP),
    "vae": lambda digits: trained(vae("bernoulli"), digits, jit_compile=True),
    "vae_continuous_bernoulli": lambda digits: vae("continuous_bernoulli"),
    "vae_discretized": lambda digits: vae("discretized_logistic"),
    "vae_conv": of("vae", **SMALL_CONV),
    "vae_flows": of(
        "vae",
        **SMALL_MLP,
        posterior="iaf",
        posterior_hidden=(8,),
        prior="realnvp",
        prior_hidden=(8,),
    ),
    "vae_vamp": of(
        "vae", **SMALL_MLP, posterior="full_covariance", prior="vamp", prior_components=4
    ),
    "beta_vae": of("beta_vae", **SMALL_MLP),
    "beta_tcvae": of("beta_tcvae", **SMALL_MLP, dataset_size=100),
    "iwae": of("iwae", **SMALL_MLP),
    "denoising_vae": of("denoising_vae", **SMALL_MLP),
    "denoising_iwae": of("denoising_iwae", **SMALL_MLP),
    "hierarchical_iwae": of(
        "hierarchical_iwae", latent_dims=(2, 1), hidden=(16,), hidden_between=(8,)
    ),
    "hvae": of("hvae", latent_dims=(2, 1), hidden=(16,)),
    "cvae": of("cvae", **SMALL_MLP),
    "cvae_quadrants": of(
        "cvae", **SMALL_MLP, condition="seen", prior="conditional", baseline_hidden=(8,)
    ),
    "predictor": of("predictor", hidden=(16,)),
    "gan": averaged_gan,
    "gan_critic": of(
        "gan",
        latent_dim=3,
        generator_hidden=(16,),
        discriminator_hidden=(8,),
        prior="sphere",
        loss="wasserstein",
        gradient_penalty=10.0,
        spectral_norm=True,
    ),
    "cgan": of("cgan", latent_dim=3, generator_hidden=(16,), discriminator_hidden=(8,)),
    "cgan_projection": of(
        "cgan", latent_dim=3, network="conv", width=4, discriminator="projection"
    ),
    "dcgan": trained_of("dcgan", latent_dim=3, width=4),
    "aae": of("aae", **SMALL_AAE, posterior="normal"),
    "aae_petals": of("aae", **SMALL_AAE, prior="petals"),
    "aae_supervised": of(
        "aae", **SMALL_AAE, condition="label", posterior="implicit", posterior_noise_dim=2
    ),
    "label_informed_aae": of("label_informed_aae", hidden=(16,), **CODES),
    "clustering_aae": trained_of(
        "clustering_aae",
        categories=10,
        latent_dim=2,
        hidden=(16,),
        input_noise=0.1,
        batch_norm=True,
        **CODES,
    ),
    "semi_supervised_aae": of("semi_supervised_aae", latent_dim=2, hidden=(16,), **CODES),
    "dimension_reduction_aae": of(
        "dimension_reduction_aae", categories=10, head_distance=2.0, hidden=(16,), **CODES
    ),
    "semi_supervised_dimension_reduction_aae": of(
        "semi_supervised_dimension_reduction_aae", head_distance=2.0, hidden=(16,), **CODES
    ),
    "vaegan": trained_of("vaegan", **SMALL_MLP, **CODES),
    "vaegan_conv": of("vaegan", **SMALL_CONV, width=4),
    "m2": of("m2", **SMALL_MLP, classifier_hidden=(16,)),
    "m1_m2": stacked,
    "avb": of("avb", **SMALL_MLP, **CODES),
    "avb_noise_basis": of(
        "avb",
        **SMALL_MLP,
        posterior="noise_basis",
        posterior_bases=2,
        posterior_hidden=(8,),
        adaptive_contrast=True,
        discriminator="product",
        discriminator_features=4,
        **CODES,
    ),
    "alpha_gan": trained_of("alpha_gan", **SMALL_MLP, **CODES, code_discriminator_hidden=(8,)),
    "dcvae": of("dcvae", **SMALL_MLP, **CODES, queue_size=4),
    "info_vae": of("info_vae", **SMALL_MLP),
    "inverse_graphics": of(
        "inverse_graphics", hidden=(16,), factors=("pose", "identity"), units=(1, 2)
    ),
    "wae": trained_of("wae", **SMALL_MLP),
    "waegan": of("waegan", **SMALL_MLP, **CODES),
    "factor_vae": of("factor_vae", **SMALL_MLP, **CODES),
    "bi_gan": trained_of("bi_gan", latent_dim=3, hidden=(16,)),
    "bi_gan_conv": trained_of("bi_gan", network="conv", latent_dim=3, width=4, hidden=(8, 8)),
    "vaegan_label": of("vaegan", **SMALL_MLP, **CODES, condition="label"),
    "vaegan_attributes": of(
        "vaegan", **SMALL_CONV, width=4, condition="attributes", condition_size=10
    ),
    "mixed_bfloat16": mixed,
    "half_precision": half_precision,
    "conditional": conditional,
    "conditional_decoder": conditional_decoder,
}
AVERAGED = "gan"
# The fast tests export a model of each kind: compiled by XLA, with averaged weights, batch
# statistics, a condition by image, an optional condition by label, and half precision.
REPRESENTATIVE = ("vae", "gan", "dcgan", "cvae_quadrants", "m2", "half_precision")


def models(names):
    """The names as parameters. Other models than `REPRESENTATIVE` are slow."""
    return slow_except([name for name in names if name in REPRESENTATIVE], names)


SAMPLERS = [name for name in MODELS if not name.startswith(("autoencoder", "half", "predictor"))]
WITHOUT = (
    "rae",
    "autoencoder",
    "half",
    "gan",
    "dcgan",
    "cgan",
    "aae",
    "vaegan",
    "wae",
    "predictor",
    "avb",
    "alpha_gan",
    "dcvae",
    "bi_gan",
    "label_informed",
    "clustering",
    "semi_supervised",
    "dimension_reduction",
)
# The signatures without the condition of the model.
WITHOUT_CONDITION = {
    "conditional_decoder": ("encode",),
    "aae_supervised": ("encode",),
    "semi_supervised_aae": ("encode",),
    "label_informed_aae": ("encode", "decode", "reconstruct"),
    "semi_supervised_dimension_reduction_aae": ("encode", "decode", "reconstruct"),
}
LIKELIHOODS = [name for name in MODELS if not name.startswith(WITHOUT)]

# The program of a server: every signature of every model, and functions called as in Python.
SERVE = """
import json, os, pathlib, sys
ABSENT = ("keras", "tf_keras", "tensorflow_probability", "zoo")
sys.modules.update(dict.fromkeys(ABSENT))  # As if they were not installed: `import` raises.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf

folder, result = map(pathlib.Path, sys.argv[1:3])
tf.random.set_seed(0)
given = {"n": np.int32(5), "num_samples": np.int32(200), "latent": np.int32(1)}
given["values"] = np.float32([-1, 0.5])
inputs = np.load(folder / "inputs.npz")
values, refused = {}, {}
for path in sorted(p.parent for p in folder.glob("*/saved_model.pb")):
    served = tf.saved_model.load(str(path))
    for name, signature in served.signatures.items():
        spec = json.loads((path / "abilities.json").read_text())["signatures"][name]
        batch = {k: tf.constant(given[k] if k in given else inputs[k + str(s["shape"][-1])])
                 for k, s in spec["inputs"].items()}
        ((output, value),) = signature(**batch).items()
        values[f"{path.name}/{name}"] = value
        if name in ("sample", "log_prob"):
            values[f"{path.name}/{name}/again"] = signature(**batch)[output]
        if name != "serving_default":
            function = getattr(served, name)
            values[f"{path.name}/{name}/function"] = function(*[batch[k] for k in spec["inputs"]])
            values[f"{path.name}/{name}/named"] = function(**batch)
        if "x" in batch:
            batch["x"] = tf.reshape(batch["x"], [-1, 4, 16, 1])
            try:
                signature(**batch)
            except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
                refused[f"{path.name}/{name}"] = str(error)
np.savez(result, **values)
modules = [m for m in sys.modules if m.partition(".")[0] in ABSENT and sys.modules[m]]
print(json.dumps({"modules": modules, "refused": refused}))
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out[-3000:] + err[-3000:]
    return out


@pytest.fixture(scope="module")
def inputs(digits):
    z = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    y = tf.eye(10)[:5].numpy()
    seen = np.where(np.arange(8)[:, None] < 4, digits[:5], -1).astype(np.float32)
    given = {"y": y, "labels": np.arange(5, dtype=np.int32), "seen": seen}
    latents = {f"z{dim}": np.tile(z, 4)[:, :dim] for dim in (0, 2, 3, 12)}
    return {"x": digits[:5]} | latents | given


def condition(model, inputs):
    """The `y` for five images, where the model takes one."""
    if model.condition is None:
        return {}
    return {"y": inputs[{1: "labels", 2: "y", 4: "seen"}[model.condition.shape.rank]]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, inputs):
    """The folder of the exports, with the inputs of the server."""
    folder = tmp_path_factory.mktemp("exported")
    # By their names in the signatures and the last axis of their shape.
    named = {"x": "x1", "y": "y10", "labels": "yNone", "seen": "y1"}
    np.savez(folder / "inputs.npz", **{named.get(k, k): v for k, v in inputs.items()})
    return folder


@pytest.fixture(scope="module")
def built(digits):
    """`built(name)`: a model, built and trained once."""

    @functools.cache
    def build_once(name):
        keras.utils.set_random_seed(0)
        return MODELS[name](digits)

    return build_once


@pytest.fixture(scope="module")
def exported(folder, built):
    """`exported(name)`: a model and its description, exported once to a folder of its name."""

    @functools.cache
    def export_once(name):
        model, averaged = built(name), name == AVERAGED
        names = of_images(model)
        return model, export(model, folder / name, averaged=averaged, signatures=names)

    return export_once


@pytest.fixture(scope="module")
def served(request, folder, exported):
    """The results of two new processes, and the report of the first.

    The processes serve the models of the tests that run, so that a fast run exports few models.
    """
    chosen = {"vae", AVERAGED}
    for item in request.session.items:
        if item.path == request.path and {"name", "served"} <= {*item.fixturenames}:
            chosen.add(item.callspec.params["name"])
    for name in sorted(chosen):
        exported(name)
    processes = [start("-c", SERVE, folder, folder / f"result_{i}.npz") for i in range(2)]
    report, _ = [json.loads(finish(p).splitlines()[-1]) for p in processes]
    return *(np.load(folder / f"result_{i}.npz") for i in range(2)), report


def test_every_builder_with_a_class_in_its_module_is_exported():
    own = {
        name
        for name, builder in BUILD.items()
        if any(
            isinstance(thing, type) and thing.__module__ == builder.__module__
            for thing in vars(sys.modules[builder.__module__]).values()
        )
    }
    # Several results or images, or images in colour: see `test_layers_are_decoded_by_the_server`,
    # `test_images_are_swapped_by_the_server`, `test_heads_are_served` in `test_face_autoencoder.py`, and
    # `test_the_ability_is_exported_for_any_number_of_frames` in `test_video_vae.py`.
    others = {"dis_cvae", "face_autoencoder", "swapping_autoencoder", "video_vae"}
    assert own - others <= MODELS.keys()


def test_exports_list_their_variables_in_the_order_of_the_model(tmp_path):
    model = zoo.models.vae((4, 4, 1), latent_dim=2, hidden=(5, 4))
    zoo.export.export(model, tmp_path / "served", signatures=["encode", "decode"])
    saved = tf.train.load_checkpoint(str(tmp_path / "served" / "variables" / "variables"))
    arrays = [
        saved.get_tensor(f"used_variables/{i}/.ATTRIBUTES/VARIABLE_VALUE")
        for i in range(len(model.trainable_variables))
    ]
    assert len(arrays) == 12
    for array, weight in zip(arrays, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(array, weight)


def test_the_server_imports_only_tensorflow(served):
    assert served[2]["modules"] == []


@pytest.mark.parametrize("name", models(MODELS))
def test_the_server_returns_the_results_of_the_model(name, exported, inputs, served):
    model, description = exported(name)
    description = description["signatures"]
    z = inputs[f"z{model.latent_dim}"]
    with model.averaged_weights() if name == AVERAGED else model.best_weights():
        for ability in ("encode", "decode", "reconstruct", "classify"):
            if ability not in model.abilities():
                assert ability not in description
                continue
            # The model always receives the class: signatures without it must not depend on it.
            here = {} if ability == "classify" else condition(model, inputs)
            assert here or "y" not in description[ability]["inputs"]
            expected = getattr(model, ability)(z if ability == "decode" else inputs["x"], **here)
            assert np.ptp(expected) > 1e-4
            for way in ("", "/function", "/named"):
                have = served[0][f"{name}/{ability}{way}"]
                assert have.dtype == np.float32
                np.testing.assert_allclose(have, expected, atol=1e-5, rtol=0)
    default = "reconstruct" if "reconstruct" in model.abilities() else "decode"
    np.testing.assert_array_equal(
        served[0][f"{name}/serving_default"], served[0][f"{name}/{default}"]
    )


def test_averaged_weights_are_exported(exported, inputs, served):
    decoded = exported(AVERAGED)[0].decode(inputs["z3"])
    assert np.abs(served[0][f"{AVERAGED}/decode"] - decoded).max() > 1e-3


@pytest.mark.parametrize("name", models(SAMPLERS))
def test_samples_differ_between_calls_and_processes(name, served):
    """Seeds set before export and before loading do not fix the samples."""
    first, second, _ = served
    draws = [
        process[f"{name}/sample{call}"]
        for process in (first, second)
        for call in ("", "/again", "/function")
    ]
    for i, draw in enumerate(draws):
        assert draw.shape == (5, *SIZE) and draw.dtype == np.float32
        for other in draws[:i]:
            assert np.abs(draw - other).max(axis=(1, 2, 3)).min() > 1e-4


def test_samples_have_the_moments_of_the_model(tmp_path):
    """The mean and the spread of many samples match samples of the model."""
    model = vae("bernoulli")
    export(model, tmp_path / "m", signatures=["sample"])
    here = model.sample(4000, seed=1)
    served = tf.saved_model.load(str(tmp_path / "m"))
    there = served.sample(4000)
    np.testing.assert_allclose(np.mean(there, 0), np.mean(here, 0), atol=0.02)
    np.testing.assert_allclose(np.std(there, 0), np.std(here, 0), atol=0.02)


@pytest.mark.parametrize("name", models(LIKELIHOODS))
def test_log_prob_matches_the_estimate_of_the_model(name, exported, inputs, served):
    model, description = exported(name)
    description = description["signatures"]
    y = condition(model, inputs) if "y" in description["log_prob"]["inputs"] else {}
    estimate = tf.function(
        lambda seed: model.log_prob(tf.constant(inputs["x"]), 200, seed=seed, **y)
    )
    estimates = [estimate(tf.constant([i, 0])) for i in range(6)]
    drawn = [
        process[f"{name}/log_prob{call}"]
        for process in served[:2]
        for call in ("", "/again", "/function")
    ]
    assert np.std(drawn, 0).min() > 0
    assert len(np.unique(np.round(drawn, 6), axis=0)) == 6
    error = np.sqrt((np.var(estimates, 0, ddof=1) + np.var(drawn, 0, ddof=1)) / 6)
    gap = np.abs(np.mean(estimates, 0) - np.mean(drawn, 0))
    assert (gap < 6 * error + 1e-3).all(), (gap, error)


@pytest.mark.parametrize("name", models(MODELS))
def test_the_export_describes_its_signatures(name, folder, exported, inputs):
    (model, description), given = exported(name), inputs
    assert json.loads((folder / name / "abilities.json").read_text()) == description
    signatures = description["signatures"]
    assert signatures.keys() == {*of_images(model), "serving_default"}

    def tensor(*shape, dtype="float32", range=None):
        return {"shape": list(shape), "dtype": dtype, "range": range}

    images = tensor(None, *SIZE, range=[0.0, 1.0])
    latents = tensor(None, model.latent_dim)
    count, draws = (tensor(dtype="int32", range=[low, None]) for low in (0, 1))
    classes = tensor(None, 10, range=[0.0, 1.0])
    latent = tensor(dtype="int32", range=[0, model.latent_dim - 1])
    renderings = tensor(None, None, *SIZE, range=[0.0, 1.0])
    expected = {
        "encode": ({"x": images}, {"latents": latents}),
        "decode": ({"z": latents}, {"images": images}),
        "reconstruct": ({"x": images}, {"images": images}),
        "sample": ({"n": count}, {"images": images}),
        "log_prob": ({"x": images, "num_samples": draws}, {"log_prob": tensor(None)}),
        "classify": ({"x": images}, {"probabilities": classes}),
        "rerender": (
            {"x": images, "latent": latent, "values": tensor(None)},
            {"renderings": renderings},
        ),
    }
    assert description["images"] == tensor(*SIZE, range=[0.0, 1.0])
    taken = {}
    for y in condition(model, given).values():
        label = y.ndim == 1
        lowest = -1 if model.condition_is_optional else 0
        taken["y"] = tensor(
            None, *y.shape[1:], dtype=y.dtype.name, range=[lowest, 9] if label else None
        )
        assert description["condition"] == taken["y"] | {
            "classes": 10 if label else None,
            "optional": model.condition_is_optional,
        }
    without = ("classify", *WITHOUT_CONDITION.get(name, ()))
    for ability in of_images(model):
        inputs, outputs = expected[ability]
        inputs = inputs if ability in without else inputs | taken
        assert signatures[ability] == {"inputs": inputs, "outputs": outputs}


NORMAL = {"family": "StandardNormal", "parameters": {"dim": 3}, "dim": 3}


@pytest.mark.parametrize(
    ("name", "prior"),
    [
        ("vae", NORMAL),
        slow("autoencoder", None),
        slow("vae_flows", {"family": "RealNVPPrior", "parameters": None, "dim": 3}),
        slow(
            "gan_critic",
            {
                "family": "UniformOnSphere",
                "parameters": {"dim": 3, "radius": 3**0.5},
                "dim": 3,
            },
        ),
        slow(
            "aae_petals",
            {
                "family": "NormalPetals",
                "parameters": {"components": 10, "shift": 1.4, "scales": [0.5, 0.1]},
                "dim": 2,
            },
        ),
        slow(
            "clustering_aae",
            {
                "family": "CategoryAndStyle",
                "parameters": {
                    "categories": 10,
                    "style": {"family": "StandardNormal", "parameters": {"dim": 2}},
                },
                "dim": 12,
            },
        ),
    ],
)
def test_the_export_describes_the_prior(name, prior, exported):
    assert exported(name)[1]["prior"] == prior


@pytest.mark.parametrize("name", models(MODELS))
def test_images_of_another_shape_are_refused(name, exported, served):
    for ability, description in exported(name)[1]["signatures"].items():
        if "x" in description["inputs"]:
            assert "[?,8,8,1]" in served[2]["refused"][f"{name}/{ability}"]


def test_unused_variables_are_not_written(folder, exported):
    gan, _ = exported("gan")
    stored = tf.train.load_checkpoint(str(folder / "gan" / "variables" / "variables"))
    shapes = [s for k, s in stored.get_variable_to_shape_map().items() if "VARIABLE_VALUE" in k]
    assert sorted(shapes) == sorted(list(v.shape) for v in gan.generator.variables)


@pytest.mark.slow
def test_saved_model_cli_runs_the_signatures(folder, inputs, served, tmp_path):
    np.save(tmp_path / "input.npy", inputs["x"])
    cli = ("-m", "tensorflow.python.tools.saved_model_cli")
    model = ("--dir", folder / "vae")
    shown = start(*cli, "show", *model, "--all")
    asked = ("--tag_set", "serve", "--outdir", tmp_path)
    encoded = start(
        *cli,
        "run",
        *model,
        *asked,
        "--signature_def=encode",
        f"--inputs=x={tmp_path / 'input.npy'}",
    )
    sampled = start(*cli, "run", *model, *asked, "--signature_def=sample", "--input_exprs=n=3")
    text = finish(shown)
    for name in ("encode", "decode", "reconstruct", "sample", "log_prob", "serving_default"):
        assert f"signature_def['{name}']" in text
    finish(encoded), finish(sampled)
    np.testing.assert_allclose(
        np.load(tmp_path / "latents.npy"), served[0]["vae/encode"], atol=1e-5
    )
    assert np.load(tmp_path / "images.npy").shape == (3, *SIZE)


def test_zero_samples_are_refused(folder, exported, inputs):
    exported("vae")
    served = tf.saved_model.load(str(folder / "vae"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be at least 1"):
        served.log_prob(inputs["x"], 0)


def small():
    return BUILD["autoencoder"](SIZE, latent_dim=2, hidden=(4,))


def test_the_export_writes_only_the_folder(tmp_path):
    export(small(), tmp_path / "deep" / "er" / "1", signatures=["encode"])
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]
    assert [p.name for p in (tmp_path / "deep" / "er").iterdir()] == ["1"]
    assert {p.name for p in (tmp_path / "deep" / "er" / "1").iterdir()} >= {
        "saved_model.pb",
        "variables",
        "abilities.json",
    }


def test_saved_models_are_overwritten_only_on_request(tmp_path):
    path = tmp_path / "1"
    path.mkdir()  # An empty folder is accepted.
    first, second = small(), small()
    x = np.random.default_rng(0).random((2, *SIZE), np.float32)
    export(first, path, signatures=["encode"])
    (path / "stale.txt").write_text("of the first")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export(second, path, signatures=["encode"])
    loaded = tf.saved_model.load(str(path))
    np.testing.assert_allclose(loaded.encode(x), first.encode(x), atol=1e-5)
    export(second, path, overwrite=True, signatures=["encode"])
    loaded = tf.saved_model.load(str(path))
    np.testing.assert_allclose(loaded.encode(x), second.encode(x), atol=1e-5)
    assert np.abs(first.encode(x) - second.encode(x)).max() > 1e-2
    assert not (path / "stale.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["1"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_files_and_folders_are_never_replaced(tmp_path, overwrite):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    file.write_text("more of it")
    for path in (folder, file):
        with pytest.raises(FileExistsError, match="which is neither"):
            export(small(), path, overwrite=overwrite)
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert file.read_text() == "more of it"


def test_a_failure_keeps_the_previous_export(tmp_path, monkeypatch):
    path = tmp_path / "1"
    export(small(), path, signatures=["encode"])
    before = (path / "saved_model.pb").read_bytes()
    rename = os.rename

    def fails_for_the_new(source, target):
        if str(source).endswith("new"):
            raise OSError("no space left")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails_for_the_new)
    with pytest.raises(OSError, match="no space left"):
        export(small(), path, overwrite=True, signatures=["encode"])
    assert (path / "saved_model.pb").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["1"]


def test_averages_require_an_optimizer_that_keeps_them(tmp_path):
    model = small()
    model.compile("adam")
    with pytest.raises(ValueError, match="use_ema"):
        export(model, tmp_path / "1", averaged=True)
    assert list(tmp_path.iterdir()) == []


def test_the_export_does_not_change_the_model(tmp_path, digits):
    model = averaged_gan(digits)
    before = [v.numpy() for v in model.variables]
    export(model, tmp_path / "1", averaged=True)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable)
    model.fit(digits[:20], verbose=0)


# Other formats --------------------------------------------------------------------------------

# Convolutions and batch statistics, conditions of both types, and rare operations.
CONVERTED = {
    "dcgan": None,
    "cvae_quadrants": None,
    "m2": ["decode"],
    "clustering_aae": ["encode", "classify"],
    "vae_discretized": ["decode"],
    "vae_continuous_bernoulli": ["reconstruct"],
}


def run_tflite(folder, name, batch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # The interpreter moves to another package.
        interpreter = tf.lite.Interpreter(model_path=str(folder / "model.tflite"))
    return interpreter.get_signature_runner(name)(**batch)


def run_onnx(folder, name, batch):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))
    names = [output.name for output in session.get_outputs()]
    # The runtime takes scalars as arrays only.
    batch = {key: np.asarray(value) for key, value in batch.items()}
    return dict(zip(names, session.run(names, batch), strict=True))


@pytest.mark.parametrize("name", slow_except(("dcgan",), CONVERTED))
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_other_runtimes_return_the_results_of_the_model(format, name, built, inputs, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx", reason="The extra `onnx` is not installed")
    model = built(name)
    about = export(model, tmp_path / "1", format=format, signatures=CONVERTED[name])
    assert json.loads((tmp_path / "1" / "abilities.json").read_text()) == about
    assert about["format"] == format
    default = [name for name in of_images(model) if name not in ("sample", "log_prob")]
    assert list(about["signatures"]) == (CONVERTED[name] or default)
    run = {"tflite": run_tflite, "onnx": run_onnx}[format]
    y = condition(model, inputs)
    for ability, signature in about["signatures"].items():
        batch = {"x": inputs["x"], "z": inputs[f"z{model.latent_dim}"]} | y
        batch = {key: batch[key] for key in signature["inputs"]}
        ((output, have),) = run(tmp_path / "1", ability, batch).items()
        assert [output] == list(signature["outputs"]) and output not in batch
        given = {} if ability == "classify" else y
        expected = getattr(model, ability)(next(iter(batch.values())), **given)
        assert np.ptp(expected) > 1e-4
        np.testing.assert_allclose(have, expected, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("format", ["saved_model", slow("tflite"), "onnx"])
def test_only_the_chosen_signatures_are_written(format, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx", reason="The extra `onnx` is not installed")
    about = export(small(), tmp_path / "1", signatures=["encode"], format=format)
    names = {"encode"} | ({"serving_default"} if format == "saved_model" else set())
    assert about["signatures"].keys() == names
    files = {
        "saved_model": {"saved_model.pb", "variables", "assets", "fingerprint.pb"},
        "tflite": {"model.tflite"},
        "onnx": {"encode.onnx"},
    }[format]
    assert {p.name for p in (tmp_path / "1").iterdir()} == {"abilities.json", *files}
    if format == "saved_model":
        served = tf.saved_model.load(str(tmp_path / "1"))
        assert served.signatures.keys() == names and not hasattr(served, "decode")
        # An export of one format replaces one of another.
        export(small(), tmp_path / "1", overwrite=True, signatures=["decode"], format="tflite")
    with pytest.raises(FileExistsError, match="which holds an export"):
        export(small(), tmp_path / "1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite", "signatures": ["sample"]}, "no random numbers, which 'sample' needs"),
        ({"format": "onnx", "signatures": ["decode", "log_prob"]}, "which 'log_prob' needs"),
        ({"signatures": ["decode", "draw"]}, "are: encode, decode.*Received: decode, draw"),
        ({"signatures": []}, "Received: no name"),
        ({"signatures": "decode"}, "a sequence of names"),
        ({"format": "tfjs"}, "Unknown format 'tfjs'. Available: saved_model, tflite, onnx"),
    ],
)
def test_signatures_that_a_format_does_not_support_are_refused(
    options, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(zoo.export, "_module", pytest.fail)  # Refused before tracing.
    if options.get("format") == "onnx":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    with pytest.raises(ValueError, match=message):
        export(BUILD["vae"](SIZE, latent_dim=2, hidden=(4,)), tmp_path / "1", **options)
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_packages_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(zoo.export, "_module", pytest.fail)
    with pytest.raises(ValueError, match=r"needs the packages.*pip install tf2onnx onnx"):
        export(small(), tmp_path / "1", format="onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_operation_without_a_counterpart_is_refused_in_a_sentence(tmp_path, monkeypatch):
    def convert(self):
        raise RuntimeError("some op is not supported\n" + "details " * 100)

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", lambda *a, **k: Fails())
    Fails = type("Fails", (), {"convert": convert})
    with pytest.raises(ValueError, match=r"encode, decode.*'tflite'.*some op is not supported$"):
        export(small(), tmp_path / "1", format="tflite", signatures=["encode", "decode"])
    assert list(tmp_path.iterdir()) == []


def test_an_operation_that_onnx_does_not_have_is_refused(tmp_path, monkeypatch, caplog):
    pytest.importorskip("tf2onnx", reason="The extra `onnx` is not installed")
    monkeypatch.setattr(zoo.export, "_ONNX_OPERATIONS", {})
    model = BUILD["aae"](SIZE, **SMALL_AAE)  # Its codes are the mean of a `Deterministic`.
    with pytest.raises(ValueError, match=r"encode.*'onnx' does not support.*BroadcastArgs"):
        export(model, tmp_path / "1", format="onnx", signatures=["encode"])
    assert list(tmp_path.iterdir()) == [] and "tf2onnx" not in caplog.text


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("file/1", "'.*/file/1'"),
        ("/proc/none/1", "'/proc/none/1'"),
        ("/proc", "which is neither"),
        ("/dev/shm", "is neither|is mounted"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_tracing(path, error, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(zoo.export, "_module", pytest.fail)
    with pytest.raises(OSError, match=error):
        export(small(), tmp_path / path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_leftovers_of_a_killed_export_are_removed_by_the_next(tmp_path):
    killed = multiprocessing.get_context("spawn").Process(target=int)
    killed.start()
    killed.join()
    with zoo.files.replacing_folder(tmp_path / "1") as folder:
        folder.mkdir()
        name = folder.parent.name.replace(f".{os.getpid()}.", f".{killed.pid}.")
    (tmp_path / name / "new").mkdir(parents=True)
    (tmp_path / ".1.mine").mkdir()
    export(small(), tmp_path / "1", signatures=["decode"])
    assert {path.name for path in tmp_path.iterdir()} == {"1", ".1.mine"}


@pytest.mark.parametrize("format", ["saved_model", "tflite"])
def test_the_error_of_a_full_disk_names_the_export(format, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    model = small()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=f"File too large: '{tmp_path}/1'"):
            export(model, tmp_path / "1", signatures=["decode"], format=format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


# Abilities that a class adds ------------------------------------------------------------------


class Toned(zoo.VAE):
    """A VAE with methods of its own. `histogram` is a NumPy function, which has no signature."""

    signatures = zoo.VAE.signatures | {
        "tone": zoo.Signature(("x", "share"), "images"),
        "split": zoo.Signature(("z", "level"), ("bright", "dark")),
        "jitter": zoo.Signature(("x",), "images"),
    }

    def abilities(self):
        return (*super().abilities(), "tone", "split", "jitter", "histogram")

    def tensor_specs(self):
        specs = super().tensor_specs()
        return specs | {
            "share": tf.TensorSpec([None], tf.float32),
            "level": tf.TensorSpec([], tf.float32),
            "bright": specs["images"],
            "dark": tf.TensorSpec([None], tf.float32),
        }

    def tensor_ranges(self):
        return super().tensor_ranges() | {"share": (0.0, 1.0), "bright": (0.0, None)}

    def tone(self, x, y, share):
        """The method needs a `y`, as in classes whose models may have a condition."""
        return self.reconstruct(x, y) * tf.reshape(share, [-1, 1, 1, 1])

    def split(self, z, threshold):
        """The last argument has another name than its tensor."""
        images = self.decode(z)
        return tf.nn.relu(images - threshold), tf.reduce_mean(1 - images, [1, 2, 3])

    def jitter(self, x, seed=None):
        return x

    def histogram(self, x):
        return np.histogram(x)


@pytest.fixture(scope="module")
def toned():
    return Toned(
        *(getattr(vae("bernoulli"), part) for part in ("posterior", "likelihood", "prior"))
    )


@pytest.mark.parametrize("format", ["saved_model", slow("tflite"), slow("onnx")])
def test_abilities_of_a_class_are_exported_with_several_results(format, toned, inputs, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx", reason="The extra `onnx` is not installed")
    about = export(toned, tmp_path / "1", signatures=["tone", "split"], format=format)
    share = np.linspace(0, 1, 5, dtype=np.float32)
    x, z = inputs["x"], inputs["z3"]
    bright, dark = toned.split(z, 0.4)
    expected = {
        "tone": ({"x": x, "share": share}, {"images": toned.tone(x, None, share)}),
        "split": ({"z": z, "level": np.float32(0.4)}, {"bright": bright, "dark": dark}),
    }
    loaded = tf.saved_model.load(str(tmp_path / "1")) if format == "saved_model" else None
    for name, (given, results) in expected.items():
        described = about["signatures"][name]
        assert list(described["inputs"]) == list(given)
        assert described["outputs"].keys() == results.keys()
        if loaded is not None:
            have = loaded.signatures[name](**{k: tf.constant(v) for k, v in given.items()})
            tuple_of_results = getattr(loaded, name)(*given.values())
            for one, other in zip(tf.nest.flatten(tuple_of_results), results, strict=True):
                np.testing.assert_array_equal(one, have[other])
        else:
            have = {"tflite": run_tflite, "onnx": run_onnx}[format](tmp_path / "1", name, given)
        assert have.keys() == results.keys()
        for key, value in results.items():
            np.testing.assert_allclose(have[key], value, atol=1e-5)
    tensors = about["signatures"]["split"]["outputs"]
    assert tensors["bright"] == {"shape": [None, *SIZE], "dtype": "float32", "range": [0.0, None]}
    assert tensors["dark"] == {"shape": [None], "dtype": "float32", "range": None}
    assert about["signatures"]["tone"]["inputs"]["share"]["range"] == [0.0, 1.0]
    if loaded is not None:
        for outside in (-0.5, 1.5, np.nan):
            with pytest.raises(tf.errors.InvalidArgumentError, match="`share` must be at"):
                loaded.tone(x, share + np.float32(outside))


def test_methods_without_a_signature_or_with_a_seed_are_left_out(toned, tmp_path):
    with pytest.raises(
        ValueError, match=r"log_prob, complete, tone, split, jitter\. Received: histogram"
    ):
        export(toned, tmp_path / "1", signatures=["histogram"])
    with pytest.raises(ValueError, match="no random numbers, which 'jitter' needs"):
        export(toned, tmp_path / "1", signatures=["jitter"], format="tflite")
    with pytest.raises(ValueError, match="are: encode, decode, reconstruct, tone, split"):
        export(toned, tmp_path / "1", signatures=["histogram"], format="tflite")


@pytest.mark.parametrize(
    ("takes", "returns", "message"),
    [
        (("x", "shares"), "images", "'tone' of Toned: x, z.*Received: 'shares'.*`tensor_specs`"),
        (("x",), "image", "Received: 'image'. Add it to `tensor_specs`"),
        (("x", "share", "level"), "images", "each argument of `tone`.*unexpected.*'level'"),
        (("x", "share"), ("images", "dark"), "each of images, dark from `tone`.*Received: 1 of"),
        (
            ("x", "share"),
            "dark",
            r"Expected 'dark' of shape \(None,\) from `tone`.*\(None, 8, 8, 1\)",
        ),
    ],
)
def test_signatures_that_do_not_fit_the_method_are_refused(
    takes, returns, message, toned, tmp_path, monkeypatch
):
    monkeypatch.setattr(Toned, "signatures", {"tone": zoo.Signature(takes, returns)})
    with pytest.raises(ValueError, match=f"(?s){message}"):
        export(toned, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_arguments_without_a_tensor_are_refused(toned, tmp_path, monkeypatch):
    monkeypatch.setattr(Toned, "signatures", {"split": zoo.Signature(("z",), ("bright", "dark"))})
    with pytest.raises(ValueError, match=r"each argument of `split`.*: z; missing.*'threshold"):
        export(toned, tmp_path / "1")


def test_scenes_are_rendered_again_by_the_server(inputs, tmp_path):
    model = MODELS["inverse_graphics"](None)
    coefficients = np.array([[0.1, -0.2, 1.5, 0.3], [0] * 4, [0] * 4], np.float32)
    model.calibration.assign(coefficients)
    about = export(model, tmp_path / "1", signatures=["rerender"])
    served = tf.saved_model.load(str(tmp_path / "1"))
    x, values = inputs["x"], np.array([-1.0, 0.5], np.float32)
    factors = about["factors"]
    assert factors["identity"] == {"latents": [1, 2], "coefficients": None}
    (pose,), (own,) = factors["pose"]["latents"], factors["pose"]["coefficients"]
    np.testing.assert_allclose(own, coefficients[0])
    in_units = np.polyval(own, values).astype(np.float32)
    expected = model.rerender(x, "pose", values)
    assert np.ptp(expected, axis=1).max() > 1e-3
    np.testing.assert_allclose(served.rerender(x, pose, in_units), expected, atol=1e-5)
    given = {"x": x, "latent": 2, "values": values[:1]}
    have = served.signatures["rerender"](**{k: tf.constant(v) for k, v in given.items()})
    np.testing.assert_allclose(have["renderings"], model.rerender(x, 2, values[:1]), atol=1e-5)
    assert about["signatures"]["rerender"]["inputs"]["latent"]["range"] == [0, 2]
    for outside in (-1, 3):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`latent` must be at"):
            served.rerender(x, outside, values)


def test_layers_are_decoded_by_the_server(tmp_path):
    model = zoo.models.dis_cvae((8, 8, 3), condition_size=2, network="mlp", hidden=(6,))
    about = export(model, tmp_path / "1", signatures=["encode", "decode_layers", "recompose"])
    served = tf.saved_model.load(str(tmp_path / "1"))
    random = np.random.default_rng(0)
    x, mask = (random.random((3, 8, 8, c), np.float32) for c in (3, 1))
    y = random.random((3, 2), np.float32)
    z = model.encode(x, y, mask)
    np.testing.assert_allclose(served.encode(x, mask, y), z, atol=1e-6)
    have = served.signatures["decode_layers"](z=z, y=tf.constant(y))
    for name, want in model.decode_layers(z, y)._asdict().items():
        np.testing.assert_allclose(have[name], want, atol=1e-6)
        assert about["signatures"]["decode_layers"]["outputs"][name]["range"] == [0, 1]
    other = z[::-1]
    have = served.recompose(z, other, y)
    np.testing.assert_allclose(have, model.recompose(z, other, y), atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="mask"):
        served.encode(x, 2 * mask, y)


def swapping():
    sizes = {"filters": (2, 3), "blocks": 1, "texture_dim": 3, "structure_channels": 2}
    sizes |= {"discriminator_filters": (2,), "discriminator_hidden": (2,)}
    sizes |= {"patch_filters": (2,), "patch_size": 4, "patch_features": 2, "patch_hidden": (2,)}
    return zoo.models.swapping_autoencoder(SIZE, **sizes)


def test_images_are_swapped_by_the_server(inputs, tmp_path):
    model, x = swapping(), inputs["x"]
    about = export(model, tmp_path / "1", signatures=["encode", "decode", "swap", "mix"])
    served = tf.saved_model.load(str(tmp_path / "1"))
    z = model.encode(x)
    np.testing.assert_allclose(served.encode(x), z, atol=1e-6)
    np.testing.assert_allclose(served.decode(z), model.decode(z), atol=1e-6)
    textures = x[::-1].copy()
    swapped = served.signatures["swap"](structure=x, texture=tf.constant(textures))["images"]
    np.testing.assert_allclose(swapped, model.swap(x, textures), atol=1e-6)
    assert np.abs(swapped - model.swap(textures, x)).max() > 1e-4
    mixed = model.mix(x, textures, 0.25)
    np.testing.assert_allclose(served.mix(x, textures, 0.25), mixed, atol=1e-6)
    expected = {"structure": [0, 1], "texture": [0, 1]}
    inputs_of = about["signatures"]["swap"]["inputs"]
    assert {name: tensor["range"] for name, tensor in inputs_of.items()} == expected
    with pytest.raises(tf.errors.InvalidArgumentError, match="texture"):
        served.swap(x, x + 1)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_other_runtimes_swap_images(format, inputs, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx", reason="The extra `onnx` is not installed")
    model, x = swapping(), inputs["x"]
    export(model, tmp_path / "1", signatures=["swap"], format=format)
    batch = {"structure": x, "texture": x[::-1].copy()}
    have = {"tflite": run_tflite, "onnx": run_onnx}[format](tmp_path / "1", "swap", batch)
    np.testing.assert_allclose(have["images"], model.swap(**batch), atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_other_runtimes_render_scenes_again(format, built, inputs, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx", reason="The extra `onnx` is not installed")
    model = built("inverse_graphics")
    export(model, tmp_path / "1", signatures=["rerender"], format=format)
    values = np.array([-1.0, 0.5, 2.0], np.float32)
    batch = {"x": inputs["x"], "latent": np.int32(1), "values": values}
    have = {"tflite": run_tflite, "onnx": run_onnx}[format](tmp_path / "1", "rerender", batch)
    expected = model.rerender(inputs["x"], 1, values)
    np.testing.assert_allclose(have["renderings"], expected, atol=2e-6)
