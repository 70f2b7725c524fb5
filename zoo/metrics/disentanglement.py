"""Disentanglement scores: whether each dimension of a code represents one factor of variation.

The scores take arrays: `codes[N, D]`, the posterior means of N images, and `factors[N, F]`, the
values of the F factors that generated the images, numbered 0, 1, ... for each factor. Sizes and
settings are those of Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning
of Disentangled Representations", 2019, https://arxiv.org/abs/1811.12359, who compare the scores:
10,000 examples to train on, 5,000 to test on.
"""

from typing import Any

import numpy as np

from zoo.contract import check_counts
from zoo.metrics.estimate import Estimate, as_features


def mutual_information_gap(codes: Any, factors: Any, bins: int = 20) -> Estimate:
    """MIG: the gap between the two dimensions with the largest mutual information of each factor.

    The gap between the two largest mutual informations is divided by the entropy of the factor and
    averaged over factors. The score is 1 if one dimension determines each factor and the others are
    independent of it, and 0 if the best two dimensions have equal information.

    Each dimension is divided into `bins` of equal width between its minimum and maximum. Mutual
    information from a histogram is too large, by (bins - 1)(values - 1) / 2N nats on average for
    independent uniform variables: values up to this level are chance.

    Chen et al., "Isolating Sources of Disentanglement in Variational Autoencoders", 2018, section
    4, https://arxiv.org/abs/1802.04942; with the bins of Locatello et al. (2019).

    Args:
        codes: Floats `[N, D]`, D >= 2.
        factors: Ints `[N, F]` >= 0, at least two values of each factor.
        bins: Number of bins of each dimension, at least 2.

    Returns:
        The score. `details`: `mutual_information` in nats, for each factor a list over dimensions,
        and for each factor its `entropy`, its `gap` (over the entropy) and the `chance` level
        above.

    Raises:
        ValueError: If the arrays have other shapes, types or ranges, or if `bins` < 2.

    Notes:
        The score is computed from posterior means. Chen et al. integrate over posterior densities.

    Example:
        >>> factors = np.random.default_rng(0).integers(5, size=(1000, 3))
        >>> score = zoo.metrics.mutual_information_gap(factors.astype(float), factors)
        >>> round(float(score), 2)
        1.0
    """
    from sklearn.metrics import mutual_info_score

    codes, factors = _examples(codes, factors)
    check_counts(2, bins=bins)
    binned = np.apply_along_axis(_binned, 0, codes, bins)
    information = np.array([[mutual_info_score(z, v) for z in binned.T] for v in factors.T])
    entropy = np.array([mutual_info_score(v, v) for v in factors.T])
    gaps = _gap(information) / entropy
    values = np.array([len(np.unique(v)) for v in factors.T])
    return Estimate(
        float(gaps.mean()),
        n_real=len(codes),
        estimator={"method": "histogram", "bins": bins},
        details={
            "mutual_information": information.tolist(),
            "entropy": entropy.tolist(),
            "gap": gaps.tolist(),
            "chance": ((bins - 1) * (values - 1) / (2 * len(codes))).tolist(),
        },
    )


def dci(
    codes_train: Any, factors_train: Any, codes_test: Any, factors_test: Any, seed: int = 0
) -> dict[str, Estimate]:
    """Disentanglement, completeness and informativeness, from trees that predict each factor.

    Gradient-boosted trees predict each factor from the code; R[D, F] is the importance of each
    dimension for each factor. The rows of R, normalised, are distributions over factors. The
    disentanglement of a dimension is one minus the entropy of its distribution to the base F, and
    the score is the mean over dimensions weighted by their share of R. Completeness is the same for
    the columns of R, distributions over dimensions, to the base D: it is 1 if one dimension alone
    predicts each factor. Informativeness is the accuracy of the trees.

    Eastwood & Williams, "A Framework for the Quantitative Evaluation of Disentangled
    Representations", 2018, section 2, https://openreview.net/forum?id=By-7dz-AZ; with the trees and
    the accuracy of Locatello et al. (2019).

    Args:
        codes_train: Floats `[N, D]`, D >= 2.
        factors_train: Ints `[N, F]` >= 0, F >= 2, at least two values of each factor.
        codes_test: Floats `[M, D]`, of other examples.
        factors_test: Ints `[M, F]`, the factors of these examples.
        seed: Seed of the trees, which break ties between equal splits at random.

    Returns:
        `disentanglement` (0 if no dimension is important) with `details["importances"]`, R as a
        list of rows; `completeness`; `informativeness_train` and `informativeness_test`, with
        `details["accuracies"]` for each factor.

    Raises:
        ValueError: If the arrays have other shapes, types or ranges.

    Notes:
        The trees are the `GradientBoostingClassifier` of scikit-learn with its defaults, 100 for
        each value of a factor, as in published numbers. They take minutes at 10,000 examples.
        Faster trees are no replacement: histogram-based boosting has no importances, and the deep
        trees of forests split on noise, which spreads the importances and lowers the scores.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(200, 2))
        >>> codes = factors + 0.5
        >>> scores = zoo.metrics.dci(codes[:100], factors[:100], codes[100:], factors[100:])
        >>> {name: round(float(score), 3) for name, score in scores.items()}
        {'disentanglement': 1.0, 'completeness': 1.0, ... 'informativeness_test': 1.0}
    """
    from sklearn.ensemble import GradientBoostingClassifier

    train, test = _train_and_test(codes_train, factors_train, codes_test, factors_test)
    _need_two_factors(train[1])
    trees = [GradientBoostingClassifier(random_state=seed).fit(train[0], v) for v in train[1].T]
    importances = np.stack([tree.feature_importances_ for tree in trees], axis=1)
    about: dict[str, Any] = {
        "n_real": len(train[0]) + len(test[0]),
        "estimator": {
            "method": "gradient-boosted trees",
            "num_train": len(train[0]),
            "num_test": len(test[0]),
            "seed": seed,
        },
    }

    def informativeness(codes, factors):
        hits = [float(tree.score(codes, v)) for tree, v in zip(trees, factors.T, strict=True)]
        return Estimate(float(np.mean(hits)), **about, details={"accuracies": hits})

    return {
        "disentanglement": Estimate(
            _concentration(importances), **about, details={"importances": importances.tolist()}
        ),
        "completeness": Estimate(_concentration(importances.T), **about),
        "informativeness_train": informativeness(*train),
        "informativeness_test": informativeness(*test),
    }


def sap(
    codes_train: Any,
    factors_train: Any,
    codes_test: Any,
    factors_test: Any,
    continuous: bool = False,
) -> Estimate:
    """SAP: the gap between the two dimensions that best predict each factor.

    The gap between the two best predictions is averaged over factors. A linear support vector
    machine (C = 0.01, balanced classes) predicts the factor from one dimension; its score is the
    accuracy on the test examples. The second best dimension has at least the accuracy of chance, so
    the score hardly exceeds 1 - 1/values. One-versus-rest machines cannot separate many values in
    one dimension. If the values of a factor are evenly spaced quantities, use `continuous`: the
    score of a dimension is then its squared correlation with the factor on the test examples, and
    nothing is trained.

    Kumar et al., "Variational Inference of Disentangled Latent Concepts from Unlabeled
    Observations", 2018, section 3, https://openreview.net/forum?id=H1kG7GZAW; with the machine of
    Locatello et al. (2019).

    Args:
        codes_train: Floats `[N, D]`, D >= 2.
        factors_train: Ints `[N, F]` >= 0, at least two values of each factor.
        codes_test: Floats `[M, D]`, of other examples.
        factors_test: Ints `[M, F]`, the factors of these examples.
        continuous: Whether all factors are quantities, not categories.

    Returns:
        The score, with `details["scores"]`, for each factor a list over dimensions.

    Raises:
        ValueError: If the arrays have other shapes, types or ranges.

    Example:
        >>> factors = np.random.default_rng(0).integers(2, size=(300, 3))
        >>> codes = factors + 0.5
        >>> score = zoo.metrics.sap(codes[:200], factors[:200], codes[200:], factors[200:])
        >>> 0.3 < float(score) < 0.5
        True
    """
    train, test = _train_and_test(codes_train, factors_train, codes_test, factors_test)
    if continuous:
        scores = _squared_correlations(*test)
    else:
        scores = np.array(
            [
                [
                    _svm_accuracy(train[0][:, [d]], train[1][:, f], test[0][:, [d]], test[1][:, f])
                    for d in range(train[0].shape[1])
                ]
                for f in range(train[1].shape[1])
            ]
        )
    return Estimate(
        float(_gap(scores).mean()),
        n_real=len(train[0]) + len(test[0]),
        estimator={
            "method": "squared correlation" if continuous else "linear SVM",
            "num_train": len(train[0]),
            "num_test": len(test[0]),
        },
        details={"scores": scores.tolist()},
    )


def factor_vae_score(
    codes: Any,
    factors: Any,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    min_std: float = 0.05,
    seed: int = 0,
) -> Estimate:
    """The score of FactorVAE: whether the dimension with the least variance identifies the factor.

    Each draw fixes one factor, in turn, at the value of a random example, and takes `batch_size`
    examples with this value, without replacement. The dimension with the least variance in the
    draw, relative to its variance over all codes, votes for the factor. In further draws each
    dimension predicts the factor that received most of its votes; the score is the accuracy.

    Kim & Mnih, "Disentangling by Factorising", 2018, section 4, https://arxiv.org/abs/1802.05983;
    with the sizes of Locatello et al. (2019).

    Args:
        codes: Floats `[N, D]`, D >= 2.
        factors: Ints `[N, F]` >= 0, F >= 2, at least two values of each factor, `batch_size`
            examples of each value.
        batch_size: Number of examples in a draw, at least 2.
        num_train: Number of draws that vote.
        num_eval: Number of draws that are predicted, from the same examples.
        min_std: The smallest standard deviation of a dimension that votes.
        seed: Seed of the draws.

    Returns:
        The score, 0 if no dimension votes; `stderr` is over draws, for these examples. `details`:
        the number of `active_dims`, `train_accuracy`, the accuracy of `chance`, and the `votes` for
        each factor as a list over dimensions.

    Raises:
        ValueError: If the arrays have other shapes, types or ranges, or if a value is too rare.

    Notes:
        Dimensions below `min_std` are excluded: they have collapsed to the prior, and their small
        noise would win the votes. The default is that of the settings of Locatello et al.; their
        code excludes none by default. Constant dimensions never vote.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(500, 4))
        >>> codes = factors.astype(float)
        >>> float(zoo.metrics.factor_vae_score(codes, factors, num_train=200, num_eval=100))
        1.0
    """
    codes, factors = _examples(codes, factors)
    _need_two_factors(factors)
    _need_draws(batch_size, num_train, num_eval, seed, factors)
    groups = [_Groups(v, f"factor {f}", batch_size) for f, v in enumerate(factors.T)]
    variances = codes.var(axis=0, ddof=1)
    active = (np.ptp(codes, axis=0) > 0) & (np.sqrt(variances) >= min_std)
    about: dict[str, Any] = {
        "n_real": len(codes),
        "estimator": {
            "method": "majority vote",
            "examples_per_draw": batch_size,
            "num_train": num_train,
            "num_eval": num_eval,
            "min_std": min_std,
            "seed": seed,
        },
    }
    details = {"active_dims": int(active.sum()), "chance": 1 / len(groups)}
    if not active.any():
        return Estimate(0.0, **about, details=details)
    rng = np.random.default_rng(seed)

    def vote(group):
        equal = group.of(rng.integers(len(codes)))
        batch = codes[rng.choice(equal, batch_size, replace=False, shuffle=False)]
        relative = np.full(len(active), np.inf)
        relative[active] = batch[:, active].var(axis=0, ddof=1) / variances[active]
        return relative.argmin()

    def votes(num):
        table = np.zeros([len(groups), codes.shape[1]], int)
        for draw in range(num):
            factor = draw % len(groups)
            table[factor, vote(groups[factor])] += 1
        return table

    train, held_out = votes(num_train), votes(num_eval)
    named = (train.argmax(axis=0), np.arange(codes.shape[1]))
    details |= {"train_accuracy": float(train[named].sum() / num_train), "votes": train.tolist()}
    score = float(held_out[named].sum() / num_eval)
    return Estimate(score, _accuracy_stderr(score, num_eval), **about, details=details)


def beta_vae_score(
    codes: Any,
    factors: Any,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    seed: int = 0,
) -> Estimate:
    """The score of beta-VAE: whether a linear classifier identifies the factor that pairs share.

    Each draw takes `batch_size` pairs of different examples that share the value of one factor, in
    turn. Logistic regression predicts this factor from the absolute difference of the codes,
    averaged over pairs; the score is its accuracy in further draws. The classifier uses all
    dimensions together, so the score can be 1 even if factors share a dimension.

    Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
    Framework", 2017, section 3, https://openreview.net/forum?id=Sy2fzU9gl; with the sizes and the
    classifier of Locatello et al. (2019).

    Args:
        codes: Floats `[N, D]`, D >= 2.
        factors: Ints `[N, F]` >= 0, F >= 2, at least two values of each factor and two examples
            of each value.
        batch_size: Number of pairs in a draw, at least 2.
        num_train: Number of draws to train on.
        num_eval: Number of draws to test on, from the same examples.
        seed: Seed of the draws.

    Returns:
        The score; `stderr` is over draws, for these examples. `details`: `train_accuracy`, and the
        accuracy of `chance`.

    Raises:
        ValueError: If the arrays have other shapes, types or ranges, or if a value is too rare.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(500, 4))
        >>> codes = factors.astype(float)
        >>> float(zoo.metrics.beta_vae_score(codes, factors, num_train=200, num_eval=100))
        1.0
    """
    codes, factors = _examples(codes, factors)
    _need_two_factors(factors)
    _need_draws(batch_size, num_train, num_eval, seed, factors)
    from sklearn.linear_model import LogisticRegression

    groups = [_Groups(v, f"factor {f}", 2) for f, v in enumerate(factors.T)]
    rng = np.random.default_rng(seed)

    def difference(group):
        first = rng.integers(len(codes), size=batch_size)
        return np.abs(codes[first] - codes[group.others(first, rng)]).mean(axis=0)

    def draws(num):
        shared = np.arange(num) % len(groups)
        return np.stack([difference(groups[factor]) for factor in shared]), shared

    train, held_out = draws(num_train), draws(num_eval)
    classifier = LogisticRegression(max_iter=1000).fit(*train)
    score = float(classifier.score(*held_out))
    return Estimate(
        score,
        _accuracy_stderr(score, num_eval),
        n_real=len(codes),
        estimator={
            "method": "logistic regression",
            "examples_per_draw": batch_size,
            "num_train": num_train,
            "num_eval": num_eval,
            "seed": seed,
        },
        details={"train_accuracy": float(classifier.score(*train)), "chance": 1 / len(groups)},
    )


# Scores of matrices -------------------------------------------------------------------------------


def _gap(scores: np.ndarray) -> np.ndarray:
    """The difference between the two largest values of each row."""
    ordered = np.sort(scores, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def _concentration(importances: np.ndarray) -> float:
    """One minus the entropy of each row, to the base of columns, averaged with weights of row sums."""
    sums = importances.sum(axis=1)
    weights = sums[sums > 0]
    if not len(weights):
        return 0.0
    shares = importances[sums > 0] / weights[:, None]
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropies = -(shares * logs).sum(axis=1) / np.log(shares.shape[1])
    return float(np.average(1 - entropies, weights=weights))


def _binned(code: np.ndarray, bins: int) -> np.ndarray:
    """The number of the bin of each value, from 1 to `bins`. The last bin includes its right end."""
    return np.digitize(code, np.histogram_bin_edges(code, bins)[:-1])


def _squared_correlations(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Squared correlations `[F, D]`, 0 for a constant dimension."""
    codes, factors = codes - codes.mean(axis=0), factors - factors.mean(axis=0)
    # The mean of a constant may have a rounding error, which must not become a norm.
    codes[:, np.ptp(codes, axis=0) == 0] = 0
    products = (factors.T @ codes) ** 2
    norms = (factors**2).sum(axis=0)[:, None] * (codes**2).sum(axis=0)
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def _svm_accuracy(code, values, code_test, values_test) -> float:
    from sklearn.svm import LinearSVC

    # The primal problem has the same solution, and its solver draws no random numbers.
    svm = LinearSVC(C=0.01, class_weight="balanced", dual=False).fit(code, values)
    return svm.score(code_test, values_test)


def _accuracy_stderr(accuracy: float, num: int) -> float:
    return float(np.sqrt(accuracy * (1 - accuracy) / num))


# Examples -----------------------------------------------------------------------------------------


class _Groups:
    """Groups of the examples that share the value of one factor."""

    def __init__(self, values: np.ndarray, name: str, at_least: int):
        found, self.group, self.sizes = np.unique(values, return_inverse=True, return_counts=True)
        rarest = self.sizes.argmin()
        if self.sizes[rarest] < at_least:
            raise ValueError(
                f"A draw needs {at_least} examples of the same value of a factor. Received: "
                f"{self.sizes[rarest]} of value {found[rarest]} of {name}; use more examples, "
                "smaller batches, or no example of that value."
            )
        self.order = np.argsort(values, kind="stable")
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.places = np.argsort(self.order)

    def of(self, example: int) -> np.ndarray:
        """The indices of all examples in the group of an example, including itself."""
        start, size = self.starts[self.group[example]], self.sizes[self.group[example]]
        return self.order[start : start + size]

    def others(self, examples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A random other example of the same group for each example, all with equal probability."""
        start, size = self.starts[self.group[examples]], self.sizes[self.group[examples]]
        steps = 1 + rng.integers(size - 1)
        return self.order[start + (self.places[examples] - start + steps) % size]


def _examples(codes: Any, factors: Any, suffix: str = "") -> tuple[np.ndarray, np.ndarray]:
    codes = as_features(codes, f"codes{suffix}", at_least=2).astype(np.float64)
    factors = np.asarray(factors)
    expected = (
        f"`factors{suffix}` must be ints >= 0 of shape [{len(codes)}, F], a row for each code"
    )
    if factors.ndim != 2 or len(factors) != len(codes) or factors.shape[1] < 1:
        raise ValueError(f"{expected}. Received: shape {factors.shape}.")
    if not np.issubdtype(factors.dtype, np.integer):
        raise ValueError(f"{expected}. Received: {factors.dtype}; number the values 0, 1, ...")
    if factors.min() < 0:
        raise ValueError(f"{expected}. Received: {factors.min()}.")
    if codes.shape[1] < 2:
        raise ValueError(
            f"Scores compare dimensions: `codes{suffix}` must have at least two. "
            f"Received: shape {codes.shape}."
        )
    if (constant := np.ptp(factors, axis=0) == 0).any():
        raise ValueError(
            f"Each factor must have at least two values in `factors{suffix}`. Received: a single one "
            f"of factor {int(constant.argmax())}; leave that factor out, or use more examples."
        )
    return codes, factors


def _train_and_test(codes_train, factors_train, codes_test, factors_test):
    train = _examples(codes_train, factors_train, "_train")
    test = _examples(codes_test, factors_test, "_test")
    for name, a, b in zip(("codes", "factors"), train, test, strict=True):
        if a.shape[1] != b.shape[1]:
            raise ValueError(
                f"`{name}_train` and `{name}_test` must have equal numbers of columns. "
                f"Received: shapes {a.shape} and {b.shape}."
            )
    return train, test


def _need_two_factors(factors: np.ndarray) -> None:
    if factors.shape[1] < 2:
        raise ValueError(
            "The score distinguishes factors and needs at least two of them. "
            f"Received: factors of shape {factors.shape}."
        )


def _need_draws(
    batch_size: int, num_train: int, num_eval: int, seed: int, factors: np.ndarray
) -> None:
    count = factors.shape[1]
    check_counts(batch_size=batch_size, num_train=num_train, num_eval=num_eval)
    check_counts(0, seed=seed)
    if batch_size < 2 or num_train < count or num_eval < count:
        raise ValueError(
            f"Draws need batch_size >= 2, and num_train and num_eval >= {count}, one for each factor. "
            f"Received: batch_size={batch_size}, num_train={num_train}, num_eval={num_eval}."
        )
