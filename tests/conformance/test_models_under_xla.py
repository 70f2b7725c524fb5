"""Each model trains when XLA compiles its step."""

import pytest
from harness import assert_finite, build, every_model, training_batches


# Detects: an operation that XLA cannot compile, a shape that is not static, a step that cannot run
# in a loop (`steps_per_execution` above 1). Two steps suffice: XLA compiles the step once.
@every_model
@pytest.mark.slow
def test_the_model_trains_under_xla(name, images):
    model = build(name, "jit_compile=true", "steps_per_execution=2")
    history = model.fit(training_batches(images, model, number=2), verbose=0).history
    assert model.jit_compile
    assert int(model.step) == 2
    assert_finite(history)
