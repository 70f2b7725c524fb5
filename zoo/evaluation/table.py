"""The metrics by name: what each needs of an `Evaluation`, and how it is computed from it."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo import metrics
from zoo.config import look_up
from zoo.evaluation.images import Images
from zoo.metrics import Estimate
from zoo.metrics.annealed import nearest_start
from zoo.metrics.likelihood import is_cross_entropy

if TYPE_CHECKING:
    from zoo.evaluation.evaluation import Evaluation

Estimates = dict[str, Estimate]


def _always(e):
    return True


def _on_request(e):
    return False


class Metric(NamedTuple):
    """One entry of `METRICS`.

    Attributes:
        about: What it is, in a line.
        group: "images", "likelihood", "latent", "reconstruction", "disentanglement" or "training".
        gives: The kinds of value it gives.
        compute: From an `Evaluation` to an `Estimate` of each kind.
        between: The same from two `Images` and a seed, where that is all it needs; for the floor.
        needs: Of the model; "data" is a model with its data set, all else are abilities.
        generated: Whether it needs generated images, of a model or not.
        features: Whether it needs a feature network.
        smallest: Height and width that images must have, in pixels.
        reference: The images it is of: "real", grey and in 8 bits; "x", the first ones as the model
            takes them; "labelled", all of them as the model takes them.
        usual: Whether it is computed unless others are asked for.
    """

    about: str
    group: str
    gives: tuple[str, ...]
    compute: Callable[["Evaluation"], Estimates]
    between: Callable[[Images, Images, int], Estimates] | None = None
    needs: tuple[str, ...] = ()
    generated: bool = False
    features: bool = False
    smallest: int = 1
    reference: str = "labelled"
    usual: Callable[["Evaluation"], bool] = _always


def _fid(real, fake, seed):
    return {"fid": metrics.frechet_distance(real.features, fake.features)}


def _kid(real, fake, seed):
    return {"kid": metrics.kernel_distance(real.features, fake.features, seed=seed)}


def _score(real, fake, seed):
    return {"score": metrics.classifier_score(fake.logits, seed=seed)}


def _prdc(real, fake, seed):
    return metrics.precision_recall_density_coverage(real.features, fake.features)


def _diversity(real, fake, seed):
    pairs = min(1000, len(fake) // 2)
    return {"diversity": metrics.diversity(fake.unit, pairs, seed=seed)}


def _copying(e):
    return {"copying": metrics.data_copying(*(images.flat for images in (e.fake, e.real, e.train)))}


def _losses(e):
    scores = e.model.evaluate(e.data.batches(e.split, e.batch_size), verbose=0, return_dict=True)
    n = e.data.sizes[e.split]
    return {
        f"objective: {name}": Estimate(float(np.squeeze(v)), n_real=n) for name, v in scores.items()
    }


def _nll(e):
    return {
        "nll": metrics.negative_log_likelihood(
            e.model,
            e.x,
            e.importance_samples,
            e.batch_size,
            e.seed,
            progress=functools.partial(e.progress, "nll"),
            y=e.y,
        )
    }


def _has_no_other_nll(e):
    """Where p(x, z) is known and importance sampling cannot be had, annealing can."""
    model = e.model
    return (
        not e.has("log_prob")
        and hasattr(model, "likelihood")
        and hasattr(model, "prior")
        and (model.condition is None or model.condition_is_optional)
        and model.prior.has_density
        and not is_cross_entropy(model.likelihood.family, e.x)
    )


def _nll_annealed(e):
    near = nearest_start(e.model)
    nll = metrics.annealed_nll(
        e.model,
        e.x[:100],
        initial=near,
        num_steps=500 if near == "prior" else 300,
        num_chains=4,
        seed=e.seed,
        progress=functools.partial(e.progress, "nll_annealed"),
    )
    return {"nll_annealed": nll}


def _parzen(e):
    valid = e.data.pixels("validation" if e.split == "test" else "test", 1000) / 255.0
    return {
        "parzen": metrics.parzen_log_likelihood(
            e.fake.flat, valid.reshape(len(valid), -1), e.real.flat
        )
    }


def _latent_mmd(e):
    prior = e.model.sample_latents(len(e.latents), e.given(e.labelled[1]), e.seed).numpy()
    return {"latent_mmd": metrics.maximum_mean_discrepancy(e.latents, prior)}


def _reconstruction(metric):
    return lambda e: {metric.__name__: metric(e.labelled[0], e.reconstructions)}


def _factors(y):
    if y is None:
        raise ValueError("The data set has no labels, and no factors are known.")
    if y.ndim > 2:
        raise ValueError("The data's y is a part of the image itself, and no factors are known.")
    return y.astype(int).reshape(len(y), -1)


def _codes_and_factors(e):
    x, y = e.labelled
    return e.means(x, y), _factors(y)


def _learned(e):
    """Codes and factors to learn from, of another split, and those of this one."""
    x, y = e.data.arrays("train" if e.split != "train" else "validation", 10_000)
    return e.means(x, y), _factors(y), *_codes_and_factors(e)


def _fits_in_memory(e):
    # In float64, and images twice: 4 GB or so.
    return e.data.sizes["train"] * e.real.pixels[0].size < 2**28


def _two_sets(about, between, gives, **more):
    def compute(e):
        return between(e.real, e.fake, e.seed)

    standard = {"features": True, "generated": True, "reference": "real"}
    return Metric(about, "images", gives, compute, between, **standard | more)


def _of_factors(about, gives, compute):
    # The labels of the data are the factors.
    needs = ("data", "encode")
    return Metric(about, "disentanglement", gives, compute, needs=needs, usual=_on_request)


METRICS: dict[str, Metric] = {
    "fid": _two_sets("Fréchet distance of features.", _fid, ("fid",)),
    "kid": _two_sets("Squared MMD of features, cubic kernel.", _kid, ("kid",)),
    "score": _two_sets("Classifier score of the generated images.", _score, ("score",)),
    "prdc": _two_sets(
        "Precision, recall, density, coverage.",
        _prdc,
        ("precision", "recall", "density", "coverage"),
    ),
    "diversity": _two_sets(
        "Mean MS-SSIM between generated images; lower is more diverse.",
        _diversity,
        ("diversity",),
        features=False,
        smallest=11,
    ),
    "copying": Metric(
        "Are samples nearer to training images than test images are? Below -3: copied, or smooth.",
        "images",
        ("copying",),
        _copying,
        needs=("data",),
        generated=True,
        reference="real",
        usual=_fits_in_memory,
    ),
    "losses": Metric(
        "The model's own losses and terms on the split.",
        "training",
        ("objective",),
        _losses,
        needs=("data",),
    ),
    "nll": Metric(
        "-log p(x), or -log p(x | y), by importance sampling, nats per image.",
        "likelihood",
        ("nll",),
        _nll,
        needs=("data", "log_prob"),
        reference="x",
    ),
    "nll_annealed": Metric(
        "-log p(x) by annealed importance sampling of the first 100 images, nats per image.",
        "likelihood",
        ("nll_annealed",),
        _nll_annealed,
        needs=("data", "decode"),
        reference="x",
        usual=_has_no_other_nll,
    ),
    "parzen": Metric(
        "Parzen window's log-likelihood; historical, and misleading.",
        "likelihood",
        ("parzen",),
        _parzen,
        needs=("data",),
        generated=True,
        reference="real",
        usual=_on_request,
    ),
    "rate": Metric(
        "KL(q(z | x) || p(z)) and -E log p(x | z), nats per image.",
        "latent",
        ("rate", "distortion"),
        lambda e: metrics.rate_and_distortion(e.model, e.x, e.batch_size, e.seed, e.y),
        needs=("data", "log_prob"),
        reference="x",
    ),
    "active_units": Metric(
        "Number of latents whose posterior mean varies over images.",
        "latent",
        ("active_units",),
        lambda e: {"active_units": metrics.active_units(e.means(*e.labelled))},
        needs=("data", "encode"),
    ),
    "latent_mmd": Metric(
        "Squared MMD between the aggregate posterior and the prior.",
        "latent",
        ("latent_mmd",),
        _latent_mmd,
        needs=("data", "encode", "sample"),
    ),
    "total_correlation": Metric(
        "Total correlation of the aggregate posterior, if it were normal, nats.",
        "latent",
        ("total_correlation",),
        lambda e: {"total_correlation": metrics.total_correlation(e.latents)},
        needs=("data", "encode"),
    ),
    "psnr": Metric(
        "Peak signal-to-noise ratio of reconstructions, decibels.",
        "reconstruction",
        ("psnr",),
        _reconstruction(metrics.psnr),
        needs=("data", "reconstruct"),
    ),
    "ssim": Metric(
        "Structural similarity of reconstructions.",
        "reconstruction",
        ("ssim",),
        _reconstruction(metrics.ssim),
        needs=("data", "reconstruct"),
        smallest=11,
    ),
    "ms_ssim": Metric(
        "Multi-scale structural similarity of reconstructions, five scales.",
        "reconstruction",
        ("ms_ssim",),
        _reconstruction(metrics.ms_ssim),
        needs=("data", "reconstruct"),
        smallest=176,
    ),
    "mig": _of_factors(
        "Mutual information gap.",
        ("mig",),
        lambda e: {"mig": metrics.mutual_information_gap(*_codes_and_factors(e))},
    ),
    "dci": _of_factors(
        "Disentanglement, completeness, informativeness; needs two factors.",
        ("disentanglement", "completeness", "informativeness_train", "informativeness_test"),
        lambda e: metrics.dci(*_learned(e), seed=e.seed),
    ),
    "sap": _of_factors(
        "Separated attribute predictability.",
        ("sap",),
        lambda e: {"sap": metrics.sap(*_learned(e))},
    ),
    "factor_vae": _of_factors(
        "FactorVAE's score.",
        ("factor_vae",),
        lambda e: {"factor_vae": metrics.factor_vae_score(*_codes_and_factors(e), seed=e.seed)},
    ),
    "beta_vae": _of_factors(
        "beta-VAE's score.",
        ("beta_vae",),
        lambda e: {"beta_vae": metrics.beta_vae_score(*_codes_and_factors(e), seed=e.seed)},
    ),
}
"""What `Evaluation.run` computes, by key, in this order."""

GROUPS = {
    group: [key for key, metric in METRICS.items() if metric.group == group]
    for group in dict.fromkeys(metric.group for metric in METRICS.values())
}
"""Keys of `METRICS` by group."""


def resolve(names: Sequence[str]) -> list[str]:
    """Keys of `METRICS`, each once, from keys, groups and "all".

    Raises:
        ValueError: For what is neither.
    """
    table = {key: [key] for key in METRICS} | GROUPS | {"all": list(METRICS)}
    named = [key for name in names for key in look_up(table, name, "metric")]
    return [key for key in METRICS if key in named]
