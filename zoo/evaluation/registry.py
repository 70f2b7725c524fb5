"""The metrics by name: the inputs, the computation and the ranking of each metric."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
Better = Literal["higher", "lower"] | None


def _always(e):
    return True


def _on_request(e):
    return False


class Metric(NamedTuple):
    """One entry of `METRICS`.

    Attributes:
        about: A description in one line.
        group: "images", "likelihood", "latent", "reconstruction", "disentanglement" or "training".
        kinds: The kinds of value that the metric returns. Each kind states which values are better,
            "higher" or "lower", or is `None` for a value that is not ranked.
        compute: A function from an `Evaluation` to an `Estimate` for each kind.
        between: A function from real `Images`, generated `Images` and a seed to the same estimates,
            for metrics that need nothing else. The floor is computed with it.
        needs: What the metric needs from the model: "data" for a model with its data set, otherwise
            names of abilities.
        settings: The attributes of the `Evaluation` that change the value, other than images,
            feature network, seed and batch size.
        generated: Whether the metric needs generated images, from a model or from a folder.
        features: Whether the metric needs a feature network.
        smallest: The smallest height and width of the images, in pixels.
        reference: The images that the metric is measured on: "real", the grey 8-bit images; "x",
            the first images as the model takes them; "labelled", all images as the model takes
            them.
        usual: A function from an `Evaluation` to whether the metric is computed by default.
    """

    about: str
    group: str
    kinds: Mapping[str, Better]
    compute: Callable[["Evaluation"], Estimates]
    between: Callable[[Images, Images, int], Estimates] | None = None
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    generated: bool = False
    features: bool = False
    smallest: int = 1
    reference: str = "labelled"
    usual: Callable[["Evaluation"], bool] = _always

    @property
    def main_kind(self) -> str:
        """The first kind: the one that chooses the best model of a run."""
        return next(iter(self.kinds))

    @property
    def on_request(self) -> bool:
        """Whether the metric is never computed by default."""
        return self.usual is _on_request

    @property
    def has_better_end(self) -> bool:
        """Whether values of the first kind are ranked."""
        return self.kinds[self.main_kind] is not None


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


def _only_annealing_applies(e):
    """Whether p(x, z) has a density, but the model has no `log_prob` by importance sampling."""
    model = e.model
    return (
        not e.has("log_prob")
        and hasattr(model, "likelihood")
        and getattr(model, "prior", None) is not None
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
    prior = e.model.sample_latents(len(e.latents), e.condition(e.labelled[1]), e.seed).numpy()
    return {"latent_mmd": metrics.maximum_mean_discrepancy(e.latents, prior)}


def _reconstruction(metric):
    return lambda e: {metric.__name__: metric(e.labelled[0], e.reconstructions)}


_QUANTILES = 10  # Values of a continuous factor.


def _source_of_factors(data):
    """The annotation that holds the factors of a data set."""
    for name in ("factors", "label", "attributes"):
        if name in data.annotation_names:
            return name
    raise ValueError("The data set has no labels, so its factors are unknown.")


def _factors(data, split, limit=None):
    """The factors of the images as ints `[N, F]`. A continuous factor is divided at its quantiles.

    The quantiles are those of 10,000 training images, for every split.
    """
    source = _source_of_factors(data)
    values = data.annotations(split, limit)[source]
    values = values.reshape(len(values), -1)
    if not (continuous := _continuous(data)).any():
        return values.astype(int)
    train = data.annotations("train", 10_000)[source].reshape(-1, values.shape[1])
    cuts = np.quantile(train, np.arange(1, _QUANTILES) / _QUANTILES, axis=0)
    columns = [
        np.searchsorted(cuts[:, f], values[:, f], "right") if continuous[f] else values[:, f]
        for f in range(values.shape[1])
    ]
    return np.stack(columns, -1).astype(int)


def _continuous(data):
    """Whether each factor is continuous, `[F]`: it has values that are no integers."""
    train = data.annotations("train", 10_000)[_source_of_factors(data)]
    return (train != np.floor(train)).reshape(len(train), -1).any(0)


def _codes_and_factors(e):
    return e.means(*e.labelled), _factors(e.data, e.split)


def _train_and_test_codes(e):
    """Codes and factors of another split, to train on, and those of this split."""
    other = "train" if e.split != "train" else "validation"
    x, y = e.data.arrays(other, 10_000)
    return e.means(x, y), _factors(e.data, other, 10_000), *_codes_and_factors(e)


def _fits_in_memory(e):
    # The images are held twice in float64, about 4 GB at this limit.
    return e.data.sizes["train"] * e.real.pixels[0].size < 2**28


def _rate(e):
    return metrics.rate_and_distortion(e.model, e.x, e.batch_size, e.seed, e.y)


def _dci(e):
    return metrics.dci(*_train_and_test_codes(e), seed=e.seed)


def _factor_vae(e):
    return {"factor_vae": metrics.factor_vae_score(*_codes_and_factors(e), seed=e.seed)}


def _beta_vae(e):
    return {"beta_vae": metrics.beta_vae_score(*_codes_and_factors(e), seed=e.seed)}


def _two_sets(about: str, between: Callable, kinds: Mapping[str, Better], **more: Any) -> Metric:
    """A metric of the real and the generated images."""

    def compute(e):
        return between(e.real, e.fake, e.seed)

    standard: dict[str, Any] = {"features": True, "generated": True, "reference": "real"}
    return Metric(about, "images", kinds, compute, between, **standard | more)


def _of_factors(about: str, kinds: Mapping[str, Better], compute: Callable) -> Metric:
    """A metric of codes and factors: known factors of the data, or its labels or attributes."""

    def with_factors(e):
        names = {"factors": _source_of_factors(e.data)}
        if _continuous(e.data).any():
            names["quantiles"] = _QUANTILES
        # Results of labels, the usual factors, do not name them.
        names = {} if names == {"factors": "label"} else names
        return {
            kind: dataclasses.replace(estimate, estimator=estimate.estimator | names)
            for kind, estimate in compute(e).items()
        }

    needs = ("data", "encode")
    return Metric(about, "disentanglement", kinds, with_factors, needs=needs, usual=_on_request)


METRICS: dict[str, Metric] = {
    "fid": _two_sets("Fréchet distance of features.", _fid, {"fid": "lower"}),
    "kid": _two_sets("Squared MMD of features, cubic kernel.", _kid, {"kid": "lower"}),
    "score": _two_sets("Classifier score of the generated images.", _score, {"score": "higher"}),
    "prdc": _two_sets(
        "Precision, recall, density, coverage.",
        _prdc,
        # Density is best at 1.
        {"precision": "higher", "recall": "higher", "density": None, "coverage": "higher"},
    ),
    "diversity": _two_sets(
        "Mean MS-SSIM between generated images; lower is more diverse.",
        _diversity,
        {"diversity": None},  # It is best at the value of the data.
        features=False,
        smallest=11,
    ),
    "copying": Metric(
        "Distances to training images, samples against test images; below -3: copied or smooth.",
        "images",
        {"copying": None},
        _copying,
        needs=("data",),
        generated=True,
        reference="real",
        usual=_fits_in_memory,
    ),
    "losses": Metric(
        "The model's own losses and terms on the split.",
        "training",
        {"objective": None},
        _losses,
        needs=("data",),
    ),
    "nll": Metric(
        "-log p(x), or -log p(x | y), by importance sampling, nats per image.",
        "likelihood",
        {"nll": "lower"},
        _nll,
        needs=("data", "log_prob"),
        settings=("importance_samples",),
        reference="x",
    ),
    "nll_annealed": Metric(
        "-log p(x) by annealed importance sampling of the first 100 images, nats per image.",
        "likelihood",
        {"nll_annealed": "lower"},
        _nll_annealed,
        needs=("data", "decode"),
        reference="x",
        usual=_only_annealing_applies,
    ),
    "parzen": Metric(
        "Parzen window's log-likelihood; historical, and misleading.",
        "likelihood",
        {"parzen": None},
        _parzen,
        needs=("data",),
        generated=True,
        reference="real",
        usual=_on_request,
    ),
    "rate": Metric(
        "KL(q(z | x) || p(z)) and -E log p(x | z), nats per image.",
        "latent",
        {"rate": None, "distortion": None},
        _rate,
        needs=("data", "log_prob"),
        reference="x",
    ),
    "active_units": Metric(
        "Number of latents whose posterior mean varies over images.",
        "latent",
        {"active_units": None},
        lambda e: {"active_units": metrics.active_units(e.means(*e.labelled))},
        needs=("data", "encode"),
    ),
    "latent_mmd": Metric(
        "Squared MMD between the aggregate posterior and the prior.",
        "latent",
        {"latent_mmd": None},
        _latent_mmd,
        needs=("data", "encode", "sample"),
    ),
    "total_correlation": Metric(
        "Total correlation of the aggregate posterior, if it were normal, nats.",
        "latent",
        {"total_correlation": None},
        lambda e: {"total_correlation": metrics.total_correlation(e.latents)},
        needs=("data", "encode"),
    ),
    "psnr": Metric(
        "Peak signal-to-noise ratio of reconstructions, decibels.",
        "reconstruction",
        {"psnr": "higher"},
        _reconstruction(metrics.psnr),
        needs=("data", "reconstruct"),
    ),
    "ssim": Metric(
        "Structural similarity of reconstructions.",
        "reconstruction",
        {"ssim": "higher"},
        _reconstruction(metrics.ssim),
        needs=("data", "reconstruct"),
        smallest=11,
    ),
    "ms_ssim": Metric(
        "Multi-scale structural similarity of reconstructions, five scales.",
        "reconstruction",
        {"ms_ssim": "higher"},
        _reconstruction(metrics.ms_ssim),
        needs=("data", "reconstruct"),
        smallest=176,
    ),
    "mig": _of_factors(
        "Mutual information gap.",
        {"mig": "higher"},
        lambda e: {"mig": metrics.mutual_information_gap(*_codes_and_factors(e))},
    ),
    "dci": _of_factors(
        "Disentanglement, completeness, informativeness; needs two factors.",
        {
            "disentanglement": "higher",
            "completeness": "higher",
            "informativeness_train": None,
            "informativeness_test": "higher",
        },
        _dci,
    ),
    "sap": _of_factors(
        "Separated attribute predictability.",
        {"sap": "higher"},
        lambda e: {"sap": metrics.sap(*_train_and_test_codes(e))},
    ),
    "factor_vae": _of_factors(
        "FactorVAE's score.",
        {"factor_vae": "higher"},
        _factor_vae,
    ),
    "beta_vae": _of_factors(
        "beta-VAE's score.",
        {"beta_vae": "higher"},
        _beta_vae,
    ),
}
"""The metrics by key, in the order in which `Evaluation.run` computes them."""

HIGHER_IS_BETTER = {
    kind: better == "higher"
    for metric in METRICS.values()
    for kind, better in metric.kinds.items()
    if better is not None
}
"""Maps each ranked kind to whether a higher value is better."""

GROUPS = {
    group: [key for key, metric in METRICS.items() if metric.group == group]
    for group in dict.fromkeys(metric.group for metric in METRICS.values())
}
"""Keys of `METRICS` by group."""


def resolve(names: Iterable[str]) -> list[str]:
    """Keys of `METRICS`, each once, from keys, groups and "all".

    Raises:
        ValueError: If a name is neither a key nor a group.

    Example:
        >>> zoo.evaluation.resolve(["ssim", "likelihood"])
        ['nll', 'nll_annealed', 'parzen', 'ssim']
    """
    table = {key: [key] for key in METRICS} | GROUPS | {"all": list(METRICS)}
    named = [key for name in names for key in look_up(table, name, "metric")]
    return [key for key in METRICS if key in named]
