"""The classifier score of generated images; with the Inception network, the Inception score."""

import numpy as np

from zoo.contract import check_counts
from zoo.metrics.estimate import Estimate, as_features


def classifier_score(logits: np.ndarray, splits: int = 10, seed: int = 0) -> Estimate:
    """exp E KL(p(y|x) ‖ p(y)) of a classifier's predictions, averaged over parts of the set.

    It is 1 if all predictions are equal, and K if they are certain and the K classes are equally
    frequent. Salimans et al., "Improved Techniques for Training GANs", 2016, section 4,
    https://arxiv.org/abs/1606.03498; the name Inception score is reserved for their network. The
    score grows with the size of the parts; 10 parts of 5000 are customary.

    Args:
        logits: Logits `[N, K]`, before the softmax.
        splits: Number of random parts of the set. Their sizes differ by one at most.
        seed: Seed of the choice of parts.

    Returns:
        The score, and its standard error over the parts if there are several.
        `details["std_over_splits"]` is the standard deviation (divided by n) that papers report.

    Raises:
        ValueError: If there are fewer examples than parts, or if a logit is NaN, infinite or an
            integer.

    Example:
        >>> certain = 100 * np.eye(4)[np.arange(40) % 4]
        >>> round(zoo.metrics.classifier_score(certain, splits=1).value, 6)
        4.0
    """
    check_counts(splits=splits)
    check_counts(0, seed=seed)
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
    """The score of n predictions from the sums of Σ p log p and of p, `[K]`, over examples."""
    marginal = probabilities / n
    present = marginal[marginal > 0]  # If p underflows to 0, so does p log p.
    return float(np.exp(negative_entropies / n - (present * np.log(present)).sum()))
