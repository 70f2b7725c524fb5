"""What a step needs, against counts by hand, and against what the zoo's steps do."""

import keras
import pytest

import zoo
from benchmarks.speed import throughput
from benchmarks.speed.passes import Pass, Passes, needed
from zoo import presets


class Known(Passes):
    """Of passes given."""

    def __init__(self, passes, batch_size):
        self.passes, self.movers, self.jit_compile = passes, [], False
        self._prepare(batch_size)


def test_operations_of_passes_are_those_of_their_products():
    network = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    forth, back, weights = 7 * 5 + 5 * 3, 7 * 5 + 5 * 3, 7 * 5 + 5 * 3
    for row, products in (
        (Pass(network), forth),
        (Pass(network, inputs=True), forth + back),
        (Pass(network, weights=True), forth + 5 * 3 + weights),  # Not to the input.
        (Pass(network, inputs=True, again=True), back),
        (Pass(network, 3, weights=True, inputs=True), 3 * (forth + back + weights)),
    ):
        assert Known([row], 4).flops() == 2 * 4 * products
    assert Known([Pass(network), Pass(network, 2)], 4).seconds(2) > 0


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("aae_mnist", []),
        ("vaegan_mnist", []),
        ("vaegan_mnist", ["model.joint_batch=true"]),
        ("alpha_gan_mnist", []),
    ],
)
def test_a_step_makes_the_passes_that_it_needs_and_no_other(preset, settings):
    config = presets.get(preset)
    presets.override(config, settings)
    config.jit_compile, config.batch_size = False, 4
    case = throughput.Case(config)
    passes = Passes(case.model, config.batch_size, False)
    assert case.flops() == pytest.approx(passes.flops(), rel=0.02)


def test_a_model_that_is_not_written_down_is_refused():
    with pytest.raises(ValueError, match=r"AAE, VAEGAN, AlphaGAN\. Received: a VAE"):
        needed(zoo.models.vae.vae_mlp((8, 8, 1), 2, (4,)))
