"""XLA compiles the training step of each model."""

import pytest
import tensorflow as tf
from harness import assert_finite, build, slow_except, training_batch, training_batches


# Detects: an operation that XLA does not have, a variable that a step creates. The translation into
# XLA's operations detects both; machine code would take much longer.
@slow_except(["VAE-iaf-realnvp", "VAEGAN-label", "M2"])
def test_xla_has_all_operations_of_a_step(name, images):
    model = build(name, "jit_compile=true")
    batch = training_batch(images, model)
    step = tf.function(model.train_step, jit_compile=True, autograph=False)
    assert "HloModule" in step.experimental_get_compiler_ir(batch)(stage="hlo")


# Detects: a step that fails when it runs as machine code, or in a loop (`steps_per_execution` above
# 1): with one player, with batch statistics and dropout, with convolutions, with two streams.
@pytest.mark.parametrize("name", ["VAE-iaf-realnvp", "GAN", "BiGAN", "M2"])
@pytest.mark.slow
def test_the_model_trains_under_xla(name, images):
    model = build(name, "jit_compile=true", "steps_per_execution=2")
    history = model.fit(training_batches(images, model, number=2), verbose=0).history
    assert model.jit_compile
    assert int(model.step) == 2
    assert_finite(history)
