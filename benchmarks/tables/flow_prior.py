"""Ten seeds of a VAE with a RealNVP prior, and of the same VAE with the standard prior."""

from benchmarks.tables.table import Row, Table, negative_log_likelihood

_SAMPLES = 100


def _score(trained):
    trained.data.seed = 0  # The same binary images for each seed.
    return {"NLL": negative_log_likelihood(trained, _SAMPLES)}


TABLE = Table(
    name="flow_prior",
    title="A RealNVP prior over ten seeds, MNIST",
    reference=(
        "Not a table of a paper: it tests whether a flow prior trains with every seed. Prior: Dinh "
        "et al., 'Density estimation using Real NVP', 2017. https://arxiv.org/abs/1605.08803"
    ),
    protocol=(
        "The presets vae_mnist and vae_flow_mnist, which differ in the prior alone, dynamically "
        "binarised, the same number of epochs, ten seeds. NLL of all test images under the fixed "
        f"binarisation by {_SAMPLES} importance samples. A seed under which a loss becomes NaN or "
        "infinite would be counted as failed."
    ),
    differs=(),
    rows=(Row("standard prior", "vae_mnist"), Row("RealNVP prior", "vae_flow_mnist")),
    score=_score,
    equal_epochs=True,
    scoring=0.35,
    seeds=10,
)
