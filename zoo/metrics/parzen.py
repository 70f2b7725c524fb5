"""Likelihoods by a Parzen window on samples, the first score of GANs."""

import numpy as np

from zoo.metrics.estimate import Estimate, as_features

_VALIDATION = 1000
_BLOCK = 2**22  # Distances at a time: 32 MB.


def parzen_log_likelihood(
    samples: np.ndarray,
    valid: np.ndarray,
    test: np.ndarray,
    scales: np.ndarray | None = None,
) -> Estimate:
    """Mean log-density, in nats, of test examples under normal kernels on samples.

    p(x) is the mean over samples s of N(x; s, scale^2 I), with the scale that maximises the density
    of validation examples: Breuleux et al., "Quickly generating representative samples from an
    RBM-derived process", 2011, as used by Goodfellow et al., "Generative Adversarial Nets", 2014,
    section 5 (https://arxiv.org/abs/1406.2661).

    Use it only to compare with the tables of these papers. In many dimensions it is far from the
    likelihood of the model for any number of samples, and ranks models wrongly: k-means centres
    score above real images (Theis et al., "A note on the evaluation of generative models", 2016,
    section 5, https://arxiv.org/abs/1511.01844).

    Args:
        samples: Samples of the model, `[S, d]`, such as pixels in [0, 1].
        valid: Real examples `[V, d]` that choose the scale; the first 1000 are used.
        test: Real examples `[N, d]`.
        scales: Standard deviations to choose from, in units of the data; by default 10 from 0.1 to
            1, evenly spaced in their logarithms.

    Returns:
        The mean over test examples (higher is better) and its standard error. `details` has the
        chosen `scale`; the mean log-density of the validation examples for each of the `scales`,
        `validation`; and whether the chosen scale is the first or the last, `at_the_edge`.

    Raises:
        ValueError: If an array is not finite floats `[N, d]`, if sizes differ, or if a scale is not
            positive.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> samples, valid, test = rng.normal(size=(3, 500, 2))
        >>> parzen = zoo.metrics.parzen_log_likelihood(samples, valid, test)
        >>> bool(abs(parzen.value - (-1 - np.log(2 * np.pi))) < 0.2)
        True
    """
    samples = as_features(samples, "samples")
    valid = as_features(valid, "valid")[:_VALIDATION]
    test = as_features(test, "test")
    if not samples.shape[1] == valid.shape[1] == test.shape[1]:
        raise ValueError(
            "`samples`, `valid` and `test` must have equal numbers of values per example. Received: "
            f"{samples.shape[1]}, {valid.shape[1]} and {test.shape[1]}."
        )
    scales = np.geomspace(0.1, 1, 10) if scales is None else np.asarray(scales, np.float64)
    if scales.ndim != 1 or not scales.size or not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"`scales` must be a list of positive numbers. Received: {scales}.")
    validation = _log_densities(samples, valid, scales).mean(1)
    best = int(validation.argmax())
    (values,) = _log_densities(samples, test, scales[best : best + 1])
    n = len(test)
    return Estimate(
        float(values.mean()),
        float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        n_real=n,
        n_fake=len(samples),
        estimator={"method": "Parzen window", "n_validation": len(valid), "historical": True},
        details={
            "scale": float(scales[best]),
            "scales": scales.tolist(),
            "validation": validation.tolist(),
            "at_the_edge": best in (0, len(scales) - 1),
        },
    )


def _log_densities(samples, x, scales):
    """log p(x) for each scale, `[len(scales), N]`."""
    samples = samples.astype(np.float64)
    squares, dim = (samples**2).sum(1), samples.shape[1]
    rows = max(1, _BLOCK // len(samples))
    parts = []
    for start in range(0, len(x), rows):
        part = x[start : start + rows].astype(np.float64)
        distances = (part**2).sum(1)[:, None] + squares - 2 * part @ samples.T
        nearest = distances.min(1)
        distances -= nearest[:, None]
        # Relative to the nearest sample, so that no sum of exponentials underflows.
        parts.append(
            [
                np.log(np.exp(distances / (-2 * scale**2)).mean(1)) - nearest / (2 * scale**2)
                for scale in scales
            ]
        )
    return np.concatenate(parts, 1) - dim * np.log(scales * np.sqrt(2 * np.pi))[:, None]
