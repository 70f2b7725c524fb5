"""Priors that are fitted afterwards: density estimation of the codes of a trained model.

The codes of a trained autoencoder, VAE, WAE or AAE do not follow its prior, and a plain autoencoder
has no prior. `refit` fits a density to the codes of the training images and returns the model with
this density as its prior, so that samples of the prior resemble codes. No other weight changes.

| prior | part | paper |
|---|---|---|
| "mixture" | `FittedMixture` | Ghosh et al. 2020, section 5: ten normals with full covariances |
| "realnvp", "maf" | `FittedPrior` of `RealNVPPrior` or `MAFPrior` | Dinh et al. 2017; Papamakarios et al. 2017 |
| "two_stage" | `FittedPrior` of `TwoStagePrior` | Dai & Wipf 2019, section 4: a second VAE |

Ghosh et al., "From Variational to Deterministic Autoencoders", 2020.
https://arxiv.org/abs/1903.12436
Dai and Wipf, "Diagnosing and Enhancing VAE Models", 2019. https://arxiv.org/abs/1903.05789
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.config import look_up, with_article
from zoo.contract import check_counts
from zoo.datasets import ImageData
from zoo.distributions import (
    FittedMixture,
    FittedPrior,
    FramePosterior,
    HierarchicalPosterior,
    Prior,
    TwoStagePrior,
    by_name,
)
from zoo.model import GenerativeModel

PRIORS = ("mixture", "realnvp", "maf", "two_stage")
"""The names of the priors that can be fitted."""

BATCH_SIZE = 500
"""Number of images or codes at a time."""

IMPORTANCE_SAMPLES = 100
"""Number of draws for log p(code) of a prior without a density."""


class Candidate(NamedTuple):
    """A fitted prior, and its score.

    Attributes:
        name: The name in `PRIORS`.
        prior: The prior.
        log_density: The mean of log p(z) over the codes of the validation images, in nats; of the
            estimate of `TwoStagePrior.log_prob_estimate` for "two_stage", in expectation a lower
            bound.
        stderr: The standard error of the mean over the codes.
    """

    name: str
    prior: Prior
    log_density: float
    stderr: float


def codes(
    model: GenerativeModel, data: ImageData, split: str = "train", seed: int = 0
) -> np.ndarray:
    """The codes of the images of a split, one for each image: float32 `[N, D]`.

    The code of a deterministic encoder is its output. The code of a posterior q(z | x) is one draw:
    Dai and Wipf, 2019, section 4, train their second stage on draws, because the decoder has been
    trained on draws and not on means.

    Args:
        model: A model with an encoder or a posterior without a condition.
        data: The data set, binarised as in training.
        split: "train", "validation" or "test".
        seed: Seed of the draws, at least 0.

    Notes:
        The code of Dai and Wipf takes new draws in each epoch of the second stage. Here each image
        has one draw.
    """
    check_counts(0, seed=seed)
    parts = []
    for i, x in enumerate(data.batches(split, BATCH_SIZE, labels=False)):
        if hasattr(model, "posterior"):
            z = model.posterior(x).sample(seed=tf.constant([seed, i]))
        else:
            z = model.encoder(x)
        parts.append(tf.cast(z, tf.float32).numpy())
    return np.concatenate(parts)


def check(model: GenerativeModel) -> None:
    """Checks that a prior can be fitted to the codes of a model.

    Raises:
        ValueError: If the model has no encoder or takes no prior, if its codes or its prior depend
            on a condition, or if its latents have several layers or frames.
    """
    name = with_article(type(model).__name__, True)
    choose = (
        "Choose an autoencoder, a VAE, a WAE, an AAE or another model with an encoder. Received: "
    )
    received = choose + f"{with_article(type(model).__name__)}."
    if not model.can_encode:
        raise ValueError(
            f"{name} has no encoder, and a prior is fitted to the codes of images. {received}"
        )
    if "prior" not in model._argument_names():
        raise ValueError(f"{name} takes no prior that another prior could replace. {received}")
    posterior = getattr(model, "posterior", None)
    for part in (posterior, model.prior):
        if getattr(part, "condition", None) is not None:
            raise ValueError(
                f"The latents of this {type(model).__name__} depend on a condition, and a fitted "
                f"prior takes none. {received}"
            )
    if isinstance(posterior, HierarchicalPosterior | FramePosterior):
        raise ValueError(
            f"The latents of this {type(model).__name__} have several layers or frames, and a "
            f"fitted prior is a density of one vector. {received}"
        )


def refit(
    model: GenerativeModel,
    data: ImageData,
    prior: str | Sequence[str] = "mixture",
    *,
    components: int = 10,
    epochs: int = 500,
    seed: int = 0,
) -> GenerativeModel:
    """A copy of a trained model, with a prior fitted to the codes of its training images.

    Args:
        model: The trained model; it does not change. To fit the codes of averaged weights, call the
            function in the context `model.averaged_weights()`.
        data: Its data set, binarised as in training.
        prior: A name in `PRIORS`, or several. Of several priors the one with the largest log
            density of the codes of the validation images is kept.
        components: Number of components of "mixture", at least 1.
        epochs: The largest number of epochs of the other priors.
        seed: Seed of the draws of codes and of the fits, at least 0. Equal seeds give equal priors.

    Returns:
        A model of the same class and with the same weights. If the model is compiled, so is the
        copy, with new optimizers. A model with the prior "two_stage" can sample, and has no bound
        and no `log_prob`.

    Raises:
        ValueError: If a name is unknown, a number is out of range, the images have another shape, or
            the model cannot have the prior: see `check`.

    Example:
        >>> data = zoo.datasets.load("digits")
        >>> model = zoo.models.autoencoder((8, 8, 1), latent_dim=2, hidden=(16,))
        >>> model.compile("adam")
        >>> history = model.fit(data.arrays("train")[0], verbose=0)
        >>> generator = zoo.expost.refit(model, data, "mixture", components=3)
        >>> generator.sample(4).shape
        TensorShape([4, 8, 8, 1])
    """
    names = (prior,) if isinstance(prior, str) else prior
    best, *_ = compare(model, data, names, components=components, epochs=epochs, seed=seed)
    return with_prior(model, best.prior)


def compare(
    model: GenerativeModel,
    data: ImageData,
    priors: Sequence[str] = ("mixture", "realnvp"),
    *,
    components: int = 10,
    epochs: int = 500,
    seed: int = 0,
) -> list[Candidate]:
    """Fits priors to the codes of the training images, and compares them on validation images.

    No prior is fitted to the codes of the validation images: `FittedPrior.fit` holds out training
    codes of its own. Arguments and errors are those of `refit`.

    Returns:
        The fitted priors, with the largest log density first.
    """
    check(model)
    if not priors or len(set(priors)) < len(priors):
        raise ValueError(f"Name at least one prior, and each once. Received: {tuple(priors)}.")
    if tuple(model.image_shape) != tuple(data.image_shape):
        raise ValueError(
            f"Expected images of shape {tuple(model.image_shape)}, which the model takes. Received: "
            f"'{data.name}' with images of shape {data.image_shape}. Choose another data set."
        )
    check_counts(components=components, epochs=epochs)
    new = {name: _unfitted(name, model.latent_dim, components) for name in priors}
    for prior in new.values():
        with_prior(model, prior)  # The constructor refuses a prior before time is spent on its fit.
    train, held_out = (codes(model, data, split, seed) for split in ("train", "validation"))
    candidates = []
    for name, prior in new.items():
        if isinstance(prior, FittedPrior):
            prior.fit(train, seed, epochs)
        else:
            prior.fit(train, seed)
        values = log_densities(prior, held_out, seed)
        stderr = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        candidates.append(Candidate(name, prior, float(values.mean()), float(stderr)))
    return sorted(candidates, key=lambda candidate: -candidate.log_density)


def log_densities(prior: Prior, z: np.ndarray, seed: int = 0) -> np.ndarray:
    """log p(z) of codes `z[N, D]` under a fitted prior, in nats: float64 `[N]`.

    For a prior without a density, the values are estimates with `IMPORTANCE_SAMPLES` draws: see
    `TwoStagePrior.log_prob_estimate`.
    """
    parts = []
    for i in range(0, len(z), BATCH_SIZE):
        batch = tf.cast(z[i : i + BATCH_SIZE], tf.float32)
        if prior.has_density:
            value = prior().log_prob(batch)
        else:
            value = prior.log_prob_estimate(batch, IMPORTANCE_SAMPLES, tf.constant([seed, i]))
        parts.append(value.numpy().astype(np.float64))
    return np.concatenate(parts)


def with_prior(model: GenerativeModel, prior: Prior) -> GenerativeModel:
    """A copy of a model with another prior. All other weights are equal, bit for bit.

    Args:
        model: A model whose constructor takes a `prior`.
        prior: The new prior. The copy does not share its weights.

    Returns:
        A model of the same class. If the model is compiled, so is the copy, with new optimizers.

    Raises:
        ValueError: If the constructor of the model's class refuses the prior.

    Example:
        >>> model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(16,))
        >>> other = zoo.expost.with_prior(model, zoo.distributions.FittedMixture(2))
        >>> type(other.prior).__name__, other.sample(3).shape
        ('FittedMixture', TensorShape([3, 8, 8, 1]))
    """
    config = model.get_config() | {"prior": keras.saving.serialize_keras_object(prior)}
    copy: Any = type(model).from_config(config)
    for new, old in zip(_weights(copy), _weights(model), strict=True):
        new.assign(old)
    copy.prior.set_weights(prior.get_weights())
    if model.compiled:
        copy.compile_from_config(model.get_compile_config())
    return copy


def _weights(model):
    """The weights of a model in order, without those of its prior."""
    prior: Any = model.prior
    own = set() if prior is None else {id(v) for v in prior.weights}
    return [v for v in model.weights if id(v) not in own]


def _unfitted(name, dim, components):
    look_up(dict.fromkeys(PRIORS), name, "prior")
    if name == "mixture":
        return FittedMixture(dim, components)
    if name == "two_stage":
        return FittedPrior(TwoStagePrior(dim))
    return FittedPrior(by_name.prior(name, dim, ()))
