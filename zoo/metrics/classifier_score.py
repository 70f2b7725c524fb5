"""The score that a classifier gives to a set of generated images: confident each, diverse all."""

import numpy as np

from zoo.metrics.estimate import Estimate, as_features


def classifier_score(logits: np.ndarray, splits: int = 10, seed: int = 0) -> Estimate:
    """exp E KL(p(y|x) ‖ p(y)) of a classifier's predictions, the mean over parts of the set.

    From 1, where all predictions are equal, to K, where they are certain and the K classes equally
    frequent. Of Salimans et al., "Improved Techniques for Training GANs", 2016, section 4,
    https://arxiv.org/abs/1606.03498; it is called the Inception score only with that network. It
    grows with the size of the parts: 10 parts of 5000 are the custom.

    Args:
        logits: `[N, K]`, before the softmax.
        splits: Number of random parts of the set, of equal size up to one.
        seed: Of their choice.

    Returns:
        The score; its standard error over the parts, where there are several.
        `details["std_over_splits"]` is the standard deviation (divided by n) that papers print.

    Raises:
        ValueError: For fewer examples than parts, NaN or infinity, or integers.

    Example:
        >>> certain = 100 * np.eye(4)[np.arange(40) % 4]
        >>> round(zoo.metrics.classifier_score(certain, splits=1).value, 6)
        4.0
    """
    if splits < 1:
        raise ValueError(f"`splits` must be at least 1. Received: {splits}.")
    logits = as_features(logits, "logits", at_least=splits)
    order = np.random.default_rng(seed).permutation(len(logits))
    scores = np.array([_score(logits[part]) for part in np.array_split(order, splits)])
    return Estimate(
        float(scores.mean()),
        float(scores.std(ddof=1) / np.sqrt(splits)) if splits > 1 else None,
        n_fake=len(logits),
        estimator={"splits": splits, "seed": seed, "dtype": "float64"},
        details={"std_over_splits": float(scores.std())},
    )


def _score(logits):
    log_p = logits.astype(np.float64)
    log_p -= log_p.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    p = np.exp(log_p)
    return score_of_sums(len(p), (p * log_p).sum(), p.sum(0))


def score_of_sums(n: float, negative_entropies: float, probabilities: np.ndarray) -> float:
    """The score of n predictions from the sums of Σ p log p and of p, `[K]`."""
    marginal = probabilities / n
    present = marginal[marginal > 0]  # Where p underflows to 0, p log p has gone to 0 as well.
    return float(np.exp(negative_entropies / n - (present * np.log(present)).sum()))
