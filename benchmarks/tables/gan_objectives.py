"""Objectives, penalties and normalizations of GANs on one small network, by a classifier distance."""

from benchmarks.tables.table import Row, Table
from zoo import features
from zoo.evaluation import Evaluation
from zoo.metrics.estimate import Estimate

_SAMPLES = 5000
_NETWORK = (
    "latent_dim=64",
    "generator_hidden=(128, 128)",
    "discriminator_hidden=(128, 128)",
    "dropout=0.0",
    "real_label=1.0",
    "r1=0.0",
    "batch_size=100",
    "jit_compile=true",
    "steps_per_execution=100",
    "evaluation.every=1",
    "evaluation.num_samples=2000",
)


def _score(trained):
    """The distance of the last model and of the best on validation images, both on test images."""
    extractor = features.get(features.for_dataset(trained.config.data.name))
    distances = {}
    for checkpoint in ("last", "best"):
        model = trained.model if checkpoint == "last" else trained.run.load_model("best")
        evaluation = Evaluation.of_model(
            model,
            trained.data,
            "test",
            _SAMPLES,
            extractor,
            cache=trained.runs / "features",
            seed=trained.config.seed,
        )
        [result] = evaluation.run(["fid"])
        if result.value is None:
            raise ValueError(str(result))
        about = {"network": extractor.id, "samples": _SAMPLES}
        distances[f"distance, {checkpoint}"] = Estimate(
            result.value, None, _SAMPLES, estimator=about
        )
    return distances


def _rows(dataset):
    def row(name, *settings):
        return Row(name, "gan_mnist", (f"data.name={dataset}", *_NETWORK, *settings))

    return (
        row("minimax", "loss=minimax"),
        row("non-saturating", "loss=non_saturating"),
        row("non-saturating, R1", "loss=non_saturating", "r1=2.5"),
        row("non-saturating, spectral norm", "loss=non_saturating", "spectral_norm=true"),
        row("least squares (0, 1, 1)", "loss=least_squares"),
        row("least squares (-1, 1, 0)", "loss=least_squares_pearson"),
        row("hinge", "loss=hinge"),
        row("Wasserstein, gradient penalty", "loss=wasserstein", "gradient_penalty=10.0"),
        row("f-GAN, Kullback-Leibler", "loss=f_kl"),
        row("f-GAN, reverse Kullback-Leibler", "loss=f_reverse_kl"),
        row("f-GAN, Pearson", "loss=f_pearson"),
        row("f-GAN, Neyman", "loss=f_neyman"),
        row("f-GAN, squared Hellinger", "loss=f_squared_hellinger"),
        row("f-GAN, Jeffrey", "loss=f_jeffrey"),
        row("f-GAN, Jensen-Shannon", "loss=f_jensen_shannon"),
        row("f-GAN, total variation", "loss=f_total_variation"),
    )


def _table(dataset, title):
    return Table(
        name=f"gan_objectives_{dataset}",
        title=f"Objectives of GANs on one network, {title}",
        reference=(
            "Not a table of a paper: a small comparison after Lucic et al., 'Are GANs Created "
            "Equal?', 2018. https://arxiv.org/abs/1711.10337"
        ),
        protocol=(
            "64-128-128-784 with batch normalization against 784-128-128-1, no dropout, N(0, I) "
            "latents, batches of 100, one update of each player per batch, Adam from 2e-4 with "
            "beta_1 = 0.5 for all, the same number of epochs, three seeds. Scored by the Fréchet "
            f"distance of {_SAMPLES:,} samples to the test images in the features of the zoo's own "
            "small classifier of that data set, which is not an FID. 'last' is the distance of the "
            "last weights. 'best' is the distance of the weights that are nearest to the "
            "validation images among the weights after every epoch. The generators of the f-GANs "
            "are updated as in section 3.2 of their paper."
        ),
        differs=(
            "All objectives share these settings. The papers use other networks, learning rates "
            "and numbers of critic updates. The ranking holds only for these settings.",
            "R1 and the gradient penalty use gradients with respect to pixels in [0, 1]. A weight "
            "of 2.5 for R1 corresponds to 10 for images in [-1, 1].",
        ),
        rows=_rows(dataset),
        remarks=(
            "Regularization of the discriminator matters far more than the divergence: the "
            "gradient penalty, R1 and spectral normalization are first by a wide margin. Squared "
            "Hellinger and Neyman are among the last.",
            "No model has converged: the last model is nearly always the best. The preset "
            "gan_mnist, with R1, wider networks and 50 epochs, reaches 2.6.",
        ),
        score=_score,
        unit="squared units of the classifier's features",
        equal_epochs=True,
        scoring=0.35,
        seeds=3,
    )


TABLES = (
    _table("mnist", "MNIST"),
    _table("fashion_mnist", "Fashion-MNIST"),
)
