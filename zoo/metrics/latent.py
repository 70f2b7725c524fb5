"""Diagnostics of latents: rate and distortion, active units, total correlation."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import with_article
from zoo.contract import check_counts
from zoo.distributions import Deterministic, ImplicitPart, kl
from zoo.metrics.estimate import Estimate, as_features
from zoo.metrics.likelihood import (
    check_conditions,
    is_cross_entropy,
    measured,
    over_images,
)
from zoo.model import GenerativeModel

tfd = tfp.distributions


def rate_and_distortion(
    model: GenerativeModel,
    x: np.ndarray,
    batch_size: int = 500,
    seed: int = 0,
    y: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """The two terms of the ELBO, in nats per image: KL(q(z | x) || p(z)) and -E_q log p(x | z).

    Alemi et al., "Fixing a Broken ELBO", 2018, section 2. https://arxiv.org/abs/1711.00464

    Args:
        model: A model with `posterior`, `likelihood` and `prior`, all of which have densities.
        x: Images `[N, H, W, C]` in [0, 1].
        batch_size: Number of images at a time. The random numbers are drawn for a batch as a whole,
            so the noise of the estimates depends on the batch size.
        seed: Seed of the single draw of z for each image.
        y: The conditions of the images, `[N, ...]`; ignored if the model takes none.

    Returns:
        "rate" and "distortion", means over images with their standard errors. The rate is exact if a
        formula is known, as for two normals; `estimator["method"]` is then "exact". For a Bernoulli
        likelihood of grey images `details["cross_entropy"]` is true: the distortion is then a
        cross-entropy, and the sum of the two does not bound -log p(x).

    Raises:
        ValueError: If a part is missing or has no density.

    Example:
        >>> model = zoo.presets.build(zoo.presets.get("vae_digits"), (8, 8, 1))
        >>> x = np.ones((2, 8, 8, 1), "float32")
        >>> terms = zoo.metrics.rate_and_distortion(model, x)
        >>> terms["rate"].estimator["method"], terms["distortion"].n_real
        ('exact', 2)
    """
    parts = ("posterior", "likelihood", "prior")
    missing = [name for name in parts if getattr(model, name, None) is None]
    if missing:
        raise ValueError(
            "Rate and distortion need a model with a posterior, a likelihood and a prior. "
            f"Received: {with_article(type(model).__name__)} without {' and '.join(missing)}."
        )
    _check_posterior_density(model)

    def terms(images, seed, y=None):
        q, p = model.posterior(images, y), model.prior(y)
        z = q.sample(seed=seed)
        return kl(q, p, z), -model.likelihood(z, y).log_prob(images)

    try:
        rate, distortion = _over_batches(model, terms, x, batch_size, seed, y)
    except NotImplementedError as error:
        raise ValueError(
            f"A rate needs a prior with a density. Received: {type(model.prior).__name__}, which "
            "can only be sampled."
        ) from error
    about = {"batch_size": batch_size, "seed": seed}
    return {
        "rate": over_images(rate, {"method": _rate_method(model, x[:1], y)} | about),
        "distortion": over_images(
            distortion,
            {"method": "one draw", "of": measured(model, x)} | about,
            cross_entropy=is_cross_entropy(model.likelihood.family, x),
        ),
    }


def aggregate_posterior(
    model: GenerativeModel,
    x: np.ndarray,
    batch_size: int = 500,
    seed: int = 0,
    y: np.ndarray | None = None,
) -> np.ndarray:
    """One draw from q(z | x) for each image, or its code for a deterministic encoder.

    The draws follow the mean of q(z | x) over images, which should match the prior.

    Args:
        model: A model with `posterior`.
        x: Images `[N, H, W, C]` in [0, 1].
        batch_size: Number of images at a time. The random numbers are drawn for a batch as a whole,
            so the draws depend on the batch size.
        seed: Seed of the draws.
        y: The conditions of the images, `[N, ...]`; ignored if the model takes none.

    Returns:
        float32 `[N, D]`.

    Raises:
        ValueError: If the model has no posterior.

    Example:
        >>> model = zoo.presets.build(zoo.presets.get("vae_digits"), (8, 8, 1))
        >>> zoo.metrics.aggregate_posterior(model, np.ones((3, 8, 8, 1), "float32")).shape
        (3, 8)
    """
    if not hasattr(model, "posterior"):
        raise ValueError(
            "Draws of q(z | x) need a model with a posterior. Received: a "
            f"{type(model).__name__}, which has {', '.join(model.abilities())}."
        )
    (draws,) = _over_batches(
        model,
        lambda images, seed, y=None: (model.posterior(images, y).sample(seed=seed),),
        x,
        batch_size,
        seed,
        y,
    )
    return draws.astype(np.float32)


def active_units(means: np.ndarray, threshold: float = 0.01) -> Estimate:
    """The number of latents whose posterior mean varies over images by more than `threshold`.

    Burda et al., "Importance Weighted Autoencoders", 2016, section 5.
    https://arxiv.org/abs/1509.00519

    Args:
        means: Means of q(z | x), `[N, D]`, N at least 2, as `model.encode` returns them.
        threshold: The threshold of the variance, in squared units of the latents. The paper uses 0.01
            with a standard normal prior.

    Returns:
        The number, and in `details` the `variances`, `[D]`.

    Raises:
        ValueError: If `means` is not finite floats `[N, D]`, or the threshold is negative.

    Example:
        >>> means = np.array([[-1.0, 0.05], [1.0, -0.05]])  # variances 1 and 0.0025
        >>> zoo.metrics.active_units(means).value
        1.0
    """
    means = as_features(means, "means", at_least=2)
    if not threshold >= 0:
        raise ValueError(f"`threshold` must be 0 or more. Received: {threshold}.")
    variances = means.astype(np.float64).var(0)
    return Estimate(
        float((variances > threshold).sum()),
        n_real=len(means),
        estimator={"threshold": threshold},
        details={"variances": variances.tolist(), "latents": len(variances)},
    )


def total_correlation(codes: np.ndarray) -> Estimate:
    """The total correlation of codes under a normal approximation, in nats.

    It is KL(N(m, C) || N(m, diag C)) = (sum of log diag C - log det C) / 2 for the mean m and the
    covariance C of the codes: Watanabe, "Information theoretical analysis of multivariate
    correlation", 1960 (https://doi.org/10.1147/rd.41.0066), for normal variables. It is invariant to
    the scales of latents, and measures linear dependence only.

    Args:
        codes: Draws of q(z | x), `[N, D]`, N > D >= 2.

    Returns:
        The value for the sample covariance. `bias` is its exact expectation for N draws of D
        independent normals, about D (D - 1) / 4N.

    Raises:
        ValueError: If `codes` is not finite floats `[N, D]`, or the covariance is singular.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> codes = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 10_000)
        >>> found = zoo.metrics.total_correlation(codes).value
        >>> bool(abs(found + 0.5 * np.log(1 - 0.6**2)) < 0.02)
        True
    """
    codes = as_features(codes, "codes", at_least=2).astype(np.float64)
    n, dim = codes.shape
    if dim < 2 or n <= dim:
        raise ValueError(
            "A total correlation needs at least 2 latents and more codes than latents: expected "
            f"[N, D] with N > D >= 2. Received: shape {codes.shape}."
        )
    if constant := np.flatnonzero(codes.min(0) == codes.max(0)).tolist():
        raise ValueError(
            "A total correlation needs latents that vary. Received: constant latents "
            f"{constant}; leave them out."
        )
    codes = codes - codes.mean(0)
    # The determinant of the correlations is det C / prod diag C, for any scales of the latents.
    singular = np.linalg.svd(codes / np.linalg.norm(codes, axis=0), compute_uv=False)
    rank = int((singular > singular[0] * n * np.finfo(np.float64).eps).sum())
    if rank < dim:
        raise ValueError(
            "The total correlation of linearly dependent latents is infinite. Received: codes of "
            f"rank {rank} in {dim} dimensions."
        )
    # The determinant is the product of 1 - R^2 over the regressions of each latent j on the earlier
    # ones. For independent normals these are independent, beta((N - j) / 2, (j - 1) / 2).
    digamma = tf.math.digamma(tf.range(n - dim, n, dtype=tf.float64) / 2).numpy()
    return Estimate(
        float(-np.log(singular).sum()),
        n_real=n,
        bias=float((digamma[-1] - digamma[:-1]).sum() / 2),
        estimator={"method": "normal"},
    )


def _check_posterior_density(model):
    if isinstance(model.posterior, ImplicitPart):
        raise ValueError(
            f"The posterior of this {type(model).__name__} can only be sampled: it has no density, "
            "so its rate is unknown. Compare `aggregate_posterior` with the prior instead."
        )
    if isinstance(model.posterior.family, Deterministic):
        raise ValueError(
            f"The posterior of this {type(model).__name__} is deterministic: it has no density, "
            "and its rate is infinite. Compare `aggregate_posterior` with the prior instead."
        )


def _rate_method(model, x, y):
    y = None if model.condition is None or y is None else y[:1]
    try:
        tfd.kl_divergence(model.posterior(x, y), model.prior(y))
    except NotImplementedError:
        return "one draw"
    return "exact"


def _over_batches(
    model: GenerativeModel,
    function: Callable[..., tuple[tf.Tensor, ...]],
    x: np.ndarray,
    batch_size: int,
    seed: int,
    y: np.ndarray | None = None,
) -> Iterator[Any]:
    """The results of `function(images, seed)` over all batches, each as one float64 array.

    If the model takes a condition, it is the third argument of `function`.
    """
    check_counts(batch_size=batch_size)
    check_counts(0, seed=seed)
    x = np.asarray(x)
    model.check_images(x)
    if not len(x):
        raise ValueError("Expected at least 1 image. Received: none.")
    y = check_conditions(model, x, y)
    compiled = tf.function(function, reduce_retracing=True)
    parts = [
        compiled(
            tf.convert_to_tensor(x[start : start + batch_size], tf.float32),
            tf.constant([seed, start], tf.int32),
            *([] if y is None else [y[start : start + batch_size]]),
        )
        for start in range(0, len(x), batch_size)
    ]
    return (np.concatenate(results).astype(np.float64) for results in zip(*parts, strict=True))
