"""The passes that a step needs, against counts by hand and against the steps of the zoo."""

import json
import types

import keras
import pytest
from speed import slow

from benchmarks.speed import passes, throughput
from benchmarks.speed.passes import Pass, Passes, needed
from zoo import presets


class Known(Passes):
    """The cost of a list of passes."""

    def __init__(self, passes, batch_size):
        self.passes, self.updated, self.jit_compile = passes, [], False
        self._prepare(batch_size)


def test_operations_of_passes_are_counted_by_their_products():
    network = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    forth, back, weights = 7 * 5 + 5 * 3, 7 * 5 + 5 * 3, 7 * 5 + 5 * 3
    for row, products in (
        (Pass(network), forth),
        (Pass(network, inputs=True), forth + back),
        (Pass(network, weights=True), forth + 5 * 3 + weights),  # Without a gradient of the input.
        (Pass(network, inputs=True, again=True), back),
        (Pass(network, 3, weights=True, inputs=True), 3 * (forth + back + weights)),
        (Pass(network, 0.25, times=5), 5 * forth / 4),
    ):
        assert Known([row], 4).flops() == 2 * 4 * products
    assert Known([Pass(network), Pass(network, 2)], 4).seconds(2) > 0


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("aae_mnist", []),
        slow("vaegan_mnist", []),
        slow("vaegan_mnist", ["model.joint_batch=true"]),
        slow("alpha_gan_mnist", []),
        slow("swapping_autoencoder_textures", ["data.sizes=50,10,10", "r1_interval=2"]),
        slow("dcvae_mnist", ["queue_size=16"]),
    ],
)
def test_a_step_makes_exactly_the_needed_passes(preset, settings):
    config = presets.get(preset)
    presets.override(config, settings)
    config.jit_compile, config.batch_size = False, 10  # Two rows for each of five steps
    case = throughput.Case(config)
    cost = Passes(case.model, config.batch_size, False)
    assert case.flops() == pytest.approx(cost.flops(), rel=0.02)


def test_a_model_without_a_list_of_passes_is_refused():
    expected = r"AlphaGAN, SwappingAutoencoder, DCVAE\. Received: a VAE"
    with pytest.raises(ValueError, match=expected):
        needed(presets.build(presets.get("vae_digits"), (8, 8, 1)))


@pytest.mark.slow
def test_the_program_writes_a_report(capsys, monkeypatch, tmp_path):
    settings = {"presets": ["aae_digits"], "repeats": 1, "seconds": 0.01, "output": str(tmp_path)}
    settings["set"] = ["hidden=(8,)", "discriminator_hidden=(8,)", "jit_compile=false"]
    for module in (passes, throughput):
        monkeypatch.setattr(module, "FLAGS", types.SimpleNamespace(**settings))
    passes.main()
    assert "| aae_digits | no " in capsys.readouterr().out
    [result] = json.loads((tmp_path / "passes.json").read_text())["results"]
    assert result["ratios"]["flops"] == pytest.approx(1, rel=0.05)
    assert result["seconds_per_step"].keys() == {"bare", "passes"}
