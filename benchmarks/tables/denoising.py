"""Noise levels of the denoising VAE, after Im et al., 2017."""

from benchmarks.tables.table import Row, Table, negative_log_likelihood
from zoo.training import evaluate

_SETTINGS = ("data.name=binarized_mnist", "binarize=None", "learning_rate_decay=cosine")


def _score(trained):
    scores = evaluate(trained.model, trained.data, 500)
    return {"bound": scores["loss"], "NLL": negative_log_likelihood(trained, num_samples=500)}


def _row(percent, paper):
    setting = f"salt_and_pepper={percent / 100}"
    return Row(f"{percent} % salt and pepper", "dvae_mnist", (*_SETTINGS, setting), paper)


TABLE = Table(
    name="denoising",
    title="Denoising VAE on static MNIST by the level of noise",
    reference="Im et al., 2017, the rows of one draw. https://arxiv.org/abs/1511.06406",
    protocol=(
        "784-200-200-50 and its mirror, tanh, batches of 100, Adam from 1e-3 with a cosine fall to "
        "0, the same number of epochs for all. Static binarisation. `bound` is the negative bound "
        "on the test images by the rule that the model is trained with, its noise included; NLL is "
        "by 500 importance samples from the posterior given the clean image."
    ),
    differs=(
        "The paper's numbers are quoted from memory of it: it reports the bound, and says that a "
        "little noise helps.",
        "The published number of epochs is not known here.",
    ),
    rows=(
        _row(0, {"bound": 96.14}),
        _row(5, {"bound": 95.52}),
        _row(10, {"bound": 96.12}),
        _row(15, {"bound": 96.83}),
    ),
    score=_score,
    equal_epochs=True,
    scoring=0.25,
)
