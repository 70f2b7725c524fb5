"""The benchmark of training steps: counts by hand, equal steps, and the files of the report."""

import json
import os
import pathlib
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from speed import slow_except

import zoo
import zoo.conditions
from benchmarks.speed import throughput

ROOT = pathlib.Path(__file__).parents[2]


def training_flops(layer, shape, inputs_too=False):
    """Operations of forward and backward pass, with respect to weights, and to inputs on demand."""
    layer.build(shape)

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        wanted = [v.value for v in layer.trainable_variables] + ([x] if inputs_too else [])
        return tape.gradient(loss, wanted)

    return throughput.count_flops(step, tf.zeros(shape))


@pytest.mark.parametrize("inputs_too", [False, True])
def test_the_operations_of_a_dense_layer_are_counted(inputs_too):
    # 7 examples, 3 to 5: 7 * 5 products of length 3, once forward, once for each gradient.
    have = training_flops(keras.layers.Dense(5), (7, 3), inputs_too)
    assert have == (3 if inputs_too else 2) * 2 * 7 * 3 * 5


@pytest.mark.parametrize("inputs_too", [False, True])
def test_the_operations_of_a_convolution_are_counted(inputs_too):
    # 2 images, 8x8x3 to 4x4x6 with a 5x5 kernel.
    have = training_flops(keras.layers.Conv2D(6, 5, 2, "same"), (2, 8, 8, 3), inputs_too)
    assert have == (3 if inputs_too else 2) * 2 * (2 * 4 * 4 * 6) * (5 * 5 * 3)


@pytest.mark.parametrize("inputs_too", [False, True])
def test_the_operations_of_a_transposed_convolution_are_counted(inputs_too):
    # 4x4x6 to 8x8x3: the operations of the convolution that it transposes.
    have = training_flops(keras.layers.Conv2DTranspose(3, 5, 2, "same"), (2, 4, 4, 6), inputs_too)
    assert have == (3 if inputs_too else 2) * 2 * (2 * 4 * 4 * 6) * (5 * 5 * 3)


def test_unused_operations_are_not_counted():
    def function(x):
        tf.matmul(x, x)
        return tf.matmul(x[:2], x)

    assert throughput.count_flops(function, tf.zeros([8, 8])) == 2 * 2 * 8 * 8


def test_an_unknown_shape_is_refused():
    function = tf.function(
        lambda x: tf.matmul(x, x), input_signature=[tf.TensorSpec([None, None], tf.float32)]
    )
    with pytest.raises(ValueError, match="static shape"):
        throughput.count_flops(function.python_function, tf.TensorSpec([None, None], tf.float32))


def test_the_operations_of_a_training_step_are_counted():
    """A GAN: 2 generator forwards and 1 backward, 3 discriminator forwards, the rest as needed."""
    batch, side, noise, hidden = 4, 8 * 8, 6, 10
    model = zoo.GAN(
        zoo.networks.mlp_decoder(noise, (8, 8, 1), hidden=(hidden,), output="sigmoid"),
        zoo.networks.mlp_discriminator((8, 8, 1), (hidden,)),
        zoo.StandardNormal(noise),
    )
    model.compile("sgd")
    have = throughput.count_flops(
        lambda x, seed: throughput.bare_step(model, x, None, seed),
        tf.zeros([batch, 8, 8, 1]),
        tf.constant([0, 0]),
    )
    g1, g2 = noise * hidden, hidden * side
    d1, d2 = side * hidden, hidden
    discriminate = (g1 + g2) + 2 * (d1 + d2) + 2 * (d1 + 2 * d2)
    generate = (g1 + g2) + (d1 + d2) + (d1 + d2) + (g1 + 2 * g2)
    assert have == 2 * batch * (discriminate + generate)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_bare_step_equals_the_step_of_the_model(digits, jit_compile):
    model = zoo.Autoencoder(
        zoo.networks.mlp_encoder((8, 8, 1), 2, (16,)),
        zoo.Conditional(zoo.networks.mlp_decoder(2, (8, 8, 1), hidden=(16,)), zoo.UnitNormal()),
    )
    model.compile(keras.optimizers.SGD(0.01))
    x = tf.constant(digits[:20])
    before = [v.numpy() for v in model.trainable_variables]
    for _ in range(5):
        model.train_step(x)
    trained = [v.numpy() for v in model.trainable_variables]
    for variable, old in zip(model.trainable_variables, before, strict=True):
        variable.assign(old)
    throughput.bare_steps(model, x, jit_compile)(5)
    for variable, want, old in zip(model.trainable_variables, trained, before, strict=True):
        np.testing.assert_allclose(variable, want, rtol=1e-4, atol=1e-6)
        assert np.abs(want - old).max() > 1e-6


def test_the_bare_step_updates_batch_statistics_once(digits):
    """Batch statistics of the generator change only in its round: once a step."""
    model = zoo.GAN(
        zoo.networks.mlp_decoder(4, (8, 8, 1), hidden=(8,), output="sigmoid", batch_norm=True),
        zoo.networks.mlp_discriminator((8, 8, 1), (8,)),
        zoo.StandardNormal(4),
    )
    model.compile(keras.optimizers.SGD(0.0))
    (norm,) = (n for n in model.generator.layers if isinstance(n, keras.layers.BatchNormalization))
    throughput.bare_steps(model, tf.constant(digits[:20]), False)(1)
    # One update changes a running variance of 1 by 0.1 towards the batch's; two would give < 0.9.
    assert 0.9 < norm.moving_variance.numpy().min() < 1.0


@pytest.mark.parametrize(
    "preset",
    slow_except(
        ["m2_digits"],
        [
            name
            for name in zoo.presets.names()
            if name.startswith(("cvae", "predictor", "m2", "m1_", "inverse", "dis_cvae"))
            and not name.startswith("m1_m2")
            and zoo.presets.get(name).data.name != "folder"
        ],
    ),
)
def test_the_data_have_the_shapes_of_the_preset(preset):
    config = zoo.presets.get(preset)
    zoo.presets.override(config, ["jit_compile=False", "steps_per_execution=1", "model.hidden=4"])
    case = throughput.Case(config)
    zoo.conditions.check(case.model, case.data)
    assert case.data.num_labels == config.data.num_labels
    assert case.data.seen == config.data.seen
    if "m2" in preset:
        assert case.model.labelled_share == case.data.labelled_share < 1
    if config.data.name == "digits":
        assert case.bare(1) > 0


def test_a_preset_on_a_trained_model_is_left_out(capsys, monkeypatch):
    settings = {"presets": ["m1_m2_digits"], "set": [], "repeats": 1, "seconds": 1.0}
    settings |= {"sweep": False, "output": None}
    monkeypatch.setattr(throughput, "FLAGS", types.SimpleNamespace(**settings))
    throughput.main()
    assert capsys.readouterr().out.startswith("m1_m2_digits: left out, it builds on a trained")


def test_a_preset_on_a_folder_is_left_out_without_the_folder(capsys, monkeypatch):
    settings = {"presets": ["vaegan_toon_heads"], "set": [], "repeats": 1, "seconds": 1.0}
    settings |= {"sweep": False, "output": None}
    monkeypatch.setattr(throughput, "FLAGS", types.SimpleNamespace(**settings))
    throughput.main()
    assert "--set=data.data_dir=FOLDER" in capsys.readouterr().out


def test_a_preset_on_a_folder_reads_the_folder(tmp_path):
    for i in range(12):
        keras.utils.save_img(tmp_path / f"{i}.png", np.full([8, 8, 3], 20.0 * i), scale=False)
    config = zoo.presets.get("vaegan_toon_heads")
    zoo.presets.override(
        config, [f"data.data_dir={tmp_path}", "data.image_size=8", "data.mask=none"]
    )
    assert throughput._data(config).image_shape == (8, 8, 1)


def test_in_turn_interleaves_measurements():
    calls = []
    names = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert throughput.in_turn(names, 3) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert calls == list("abbaab")


def test_summary_and_ratio_match_hand_computed_values():
    assert throughput.summary([5.0, 1.0, 2.0, 3.0, 4.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0}
    assert throughput.ratio([2.0, 4.0, 30.0], [1.0, 2.0, 3.0]) == 2.0


def row(**more):
    names = ("bare", "fit_constant", "fit", "pipeline", "floor", *more)
    return {
        "preset": "vae_digits",
        "jit_compile": True,
        "steps_per_execution": 10,
        "batch_size": 50,
        "images_per_second": throughput.summary([25_000.0]),
        "seconds_per_step": {name: throughput.summary([0.001, 0.002, 0.003]) for name in names},
        "ratios": {"loop": 1.03, "data": 0.99, "fit_to_bare": 1.02, "fit_to_torch": 0.5},
    }


def test_the_report_has_the_measurements(tmp_path):
    text = throughput.table([row(), row(torch=1)])
    lines = text.splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        *("vae_digits", "yes", "10", "50", "25,000", "2.00", "1.50 to 2.50", "2.00", "2.00"),
        *("", "+3.0", "-1.0", ""),
    ]
    assert lines[3].split("|")[-2].strip() == "0.50"

    throughput.write(tmp_path / "new", "throughput", [row()], text)
    report = json.loads((tmp_path / "new" / "throughput.json").read_text())
    assert report["machine"]["cores"] >= 1 and report["versions"]["tensorflow"] == tf.__version__
    assert report["results"] == [row()]
    assert (tmp_path / "new" / "throughput.md").read_text().startswith(text)


def test_the_report_of_a_sweep_is_sorted_by_speed():
    lines = throughput.sweep_table(
        [
            {
                "preset": "vae_digits",
                "jit_compile": jit,
                "steps_per_execution": 10,
                "seconds_per_step": {"fit": throughput.summary([seconds])},
            }
            for jit, seconds in ((True, 0.012), (False, 0.003))
        ]
    ).splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["no", "yes"]


@pytest.mark.parametrize(
    "preset",
    [
        "autoencoder_mnist",
        "autoencoder_conv_mnist",
        "vae_mnist",
        "vae_conv_mnist",
        "gan_digits",
        "dcgan_mnist",
    ],
)
def test_torch_networks_match_the_preset(preset):
    torch = pytest.importorskip("torch")
    from benchmarks.speed import torch_loops

    config = zoo.presets.get(preset)
    model = zoo.presets.build(config, (28, 28, 1))
    theirs = torch_loops.networks(config, torch.Size((1, 28, 28)))
    have = [sum(p.numel() for p in network.parameters()) for network in theirs]
    want = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert sum(have) == want
    torch_loops.make(config, (28, 28, 1))(1)


@pytest.mark.parametrize(
    "preset", ["gan_mnist", "sngan_mnist", "vae_flow_mnist", "vae_cifar10", "aae_mnist"]
)
def test_torch_has_no_loop_for_other_presets(preset):
    pytest.importorskip("torch")
    from benchmarks.speed import torch_loops

    assert torch_loops.make(zoo.presets.get(preset), (28, 28, 1)) is None


@pytest.mark.parametrize(
    ("preset", "setting"),
    [
        ("vae_mnist", "network=resnet"),
        ("vae_mnist", "activation=glu"),
        ("dcgan_mnist", "augment=color"),
    ],
)
def test_torch_has_no_loop_for_other_settings(preset, setting):
    pytest.importorskip("torch")
    from benchmarks.speed import torch_loops

    config = zoo.presets.get(preset)
    zoo.presets.override(config, [setting])
    assert torch_loops.make(config, (28, 28, 1)) is None


@pytest.mark.slow
def test_the_program_writes_the_report(tmp_path):
    flags = ["--presets=vae_digits", "--repeats=1", "--seconds=0.02", "--set=hidden=(8,)"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.throughput", *flags, f"--output={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "| vae_digits | yes" in done.stdout
    (result,) = json.loads((tmp_path / "throughput.json").read_text())["results"]
    assert result["flops"] > 0 and result["images_per_second"]["median"] > 0
    assert result["seconds_per_step"].keys() == {"bare", "fit_constant", "fit", "pipeline", "floor"}


def test_an_unknown_preset_is_reported_before_measuring(monkeypatch):
    settings = {"presets": ["vae_digits", "nothing"], "set": [], "repeats": 1, "seconds": 1.0}
    settings |= {"sweep": False, "torch": False, "output": None}
    monkeypatch.setattr(throughput, "FLAGS", types.SimpleNamespace(**settings))
    monkeypatch.setattr(throughput, "measure", None)
    with pytest.raises(ValueError, match="nothing"):
        throughput.main()
