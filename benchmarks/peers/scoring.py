"""The negative log-likelihood of test images by importance sampling, from the arrays of a model.

One estimator in NumPy scores both libraries. It reads the parameters of the posterior, draws from
it, and the outputs of the decoder at these draws; see `benchmarks.peers.exchange.check_result`.
"""

from collections.abc import Mapping

import numpy as np

_LOG_2_PI = np.log(2 * np.pi)


def negative_log_likelihood(
    arrays: Mapping[str, np.ndarray], x: np.ndarray, likelihood: str
) -> np.ndarray:
    """-log (1/K) sum_k p(x | z_k) p(z_k) / q(z_k | x), `[N]`, in nats, float64.

    Args:
        arrays: The arrays of a scored row.
        x: Images `[N, H W]` in [0, 1], zeros and ones for "bernoulli".
        likelihood: "bernoulli" or "unit_normal".

    Raises:
        ValueError: If the likelihood is unknown, or the images do not fit it.
    """
    if likelihood not in ("bernoulli", "unit_normal"):
        raise ValueError(
            "Expected the likelihood 'bernoulli' or 'unit_normal'. "
            f"Received: likelihood='{likelihood}'."
        )
    if likelihood == "bernoulli" and not np.isin(x, (0, 1)).all():
        raise ValueError(
            "A Bernoulli likelihood is one of images of zeros and ones. "
            "Received: images with other values."
        )
    x, (loc, scale) = x.astype(np.float64), _float64(arrays, "loc", "scale")
    prior = _float64(arrays, "prior_loc", "prior_scale")
    names = ("base", "z", "log_det", "outputs")
    log_weights = []
    for base, z, log_det, outputs in zip(*(arrays[name] for name in names), strict=True):
        # One draw of all images at a time, because the outputs are large.
        base, z, outputs = (a.astype(np.float64) for a in (base, z, outputs))
        log_q = log_normal(base, loc, scale) - log_det
        log_p = log_mixture(z, *prior)
        log_weights.append(log_likelihood(x, outputs, likelihood) + log_p - log_q)
    return np.log(len(log_weights)) - np.logaddexp.reduce(log_weights, 0)


def _float64(arrays, *names):
    return tuple(arrays[name].astype(np.float64) for name in names)


def log_likelihood(x: np.ndarray, outputs: np.ndarray, likelihood: str) -> np.ndarray:
    """log p(x | z), summed over pixels: `[N]` for images and outputs `[N, H W]`."""
    if likelihood == "bernoulli":
        return (x * outputs - np.logaddexp(0, outputs)).sum(-1)
    return log_normal(x, outputs, 1.0)


def log_normal(values: np.ndarray, loc: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """The log density of a diagonal normal, summed over the last axis."""
    return -0.5 * (((values - loc) / scale) ** 2 + _LOG_2_PI + 2 * np.log(scale)).sum(-1)


def log_mixture(z: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The log density `[N]` at `z[N, D]` of a mixture of normals `[C, D]` with equal weights."""
    each = [log_normal(z, *component) for component in zip(loc, scale, strict=True)]
    return np.logaddexp.reduce(each, 0) - np.log(len(loc))
