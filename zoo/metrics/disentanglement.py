"""How far each dimension of a code stands for one known factor of variation of the data, and no other.

All scores work on arrays: `codes[N, D]`, the posterior's means for N images, and `factors[N, F]`, the
values of the F factors that the images were made from, numbered 0, 1, ... for each factor. Sizes and
settings are those of Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning
of Disentangled Representations" (2019), https://arxiv.org/abs/1811.12359, where the scores are
compared: 10,000 examples to train on, 5,000 to test on.
"""

from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score
from sklearn.svm import LinearSVC

from zoo.metrics.estimate import Estimate, as_features


def mutual_information_gap(codes: Any, factors: Any, bins: int = 20) -> Estimate:
    """MIG: by how much the code that knows most of a factor knows more than the next one does.

    The gap between the two largest mutual informations, over the entropy of the factor, averaged
    over factors: 1 where one dimension determines each factor and no second one knows of it, 0 where
    the best two know the same.

    Each dimension is cut into `bins` of equal width between its least and greatest value. Mutual
    information counted in a histogram is too large, for independent uniform variables by
    (bins - 1)(values - 1) / 2N nats on average: what does not exceed that is chance. This is the
    score on means of the posterior; Chen et al. integrate over its densities.

    Source: Chen et al., "Isolating Sources of Disentanglement in Variational Autoencoders" (2018),
    section 4, https://arxiv.org/abs/1802.04942; binned as in Locatello et al. (2019).

    Args:
        codes: Floats `[N, D]`, D >= 2.
        factors: Ints `[N, F]` >= 0, at least two values of each factor.
        bins: Of each dimension of the codes, at least 2.

    Returns:
        The score. `details`: `mutual_information` in nats, for each factor a list over dimensions,
        and for each factor its `entropy`, its `gap` (over the entropy) and the `chance` level above.

    Raises:
        ValueError: If the arrays are not so, or `bins` < 2.

    Example:
        >>> factors = np.random.default_rng(0).integers(5, size=(1000, 3))
        >>> score = zoo.metrics.mutual_information_gap(factors.astype(float), factors)
        >>> round(float(score), 2)
        1.0
    """
    codes, factors = _examples(codes, factors)
    if bins < 2:
        raise ValueError(f"Codes fall into at least two bins. Received: bins={bins}.")
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

    For each factor gradient-boosted trees learn to tell its value from the code; R[D, F] is how much
    each dimension mattered to them. With the rows of R as distributions over factors, a dimension is
    disentangled by one minus the distribution's entropy to the base F, and dimensions count by their
    share of R. Completeness is the same for the columns, as distributions over dimensions to the
    base D: 1 where one dimension alone predicts a factor. Informativeness is the trees' accuracy.

    The trees are scikit-learn's `GradientBoostingClassifier` as it comes, 100 for each value of a
    factor, which the field's numbers are made with; that takes minutes at 10,000 examples. Faster
    ones do not replace it: histogram-based boosting has no importances, and forests, whose deep
    trees come to split on noise, spread them and score lower.

    Source: Eastwood & Williams, "A Framework for the Quantitative Evaluation of Disentangled
    Representations" (2018), section 2, https://openreview.net/forum?id=By-7dz-AZ; with the trees
    and the accuracy of Locatello et al. (2019).

    Args:
        codes_train: Floats `[N, D]`, D >= 2.
        factors_train: Ints `[N, F]` >= 0, F >= 2, at least two values of each factor.
        codes_test: Floats `[M, D]`, of other examples.
        factors_test: Ints `[M, F]`, theirs.
        seed: Of the trees, which break ties between equally good splits at random.

    Returns:
        `disentanglement` (0 where no dimension matters) with `details["importances"]`, R as a list
        of rows; `completeness`; `informativeness_train` and `informativeness_test`, with
        `details["accuracies"]` for each factor.

    Raises:
        ValueError: If the arrays are not so.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(200, 2))
        >>> codes = factors + 0.5
        >>> scores = zoo.metrics.dci(codes[:100], factors[:100], codes[100:], factors[100:])
        >>> {name: round(float(score), 3) for name, score in scores.items()}
        {'disentanglement': 1.0, 'completeness': 1.0, ... 'informativeness_test': 1.0}
    """
    train, test = _train_and_test(codes_train, factors_train, codes_test, factors_test)
    _need_two_factors(train[1])
    trees = [GradientBoostingClassifier(random_state=seed).fit(train[0], v) for v in train[1].T]
    importances = np.stack([tree.feature_importances_ for tree in trees], axis=1)
    about = {
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
    """SAP: how much better the best single dimension predicts a factor than the second best.

    The gap between the two best predictions, averaged over factors. A linear support vector machine
    (C = 0.01, classes balanced) learns a factor's value from one dimension, and its prediction is as
    good as its accuracy on the test examples. The second best is right by chance at least, so that
    the score can hardly exceed 1 - 1/values; and one machine for each value against the rest cannot
    tell all of many values by one dimension. Factors whose values are evenly
    spaced quantities may be taken as `continuous`; a prediction is then as good as the squared
    correlation of dimension and factor, on the test examples too. It has nothing to train.

    Source: Kumar et al., "Variational Inference of Disentangled Latent Concepts from Unlabeled
    Observations" (2018), section 3, https://openreview.net/forum?id=H1kG7GZAW; with the machine of
    Locatello et al. (2019).

    Args:
        codes_train: Floats `[N, D]`, D >= 2.
        factors_train: Ints `[N, F]` >= 0, at least two values of each factor.
        codes_test: Floats `[M, D]`, of other examples.
        factors_test: Ints `[M, F]`, theirs.
        continuous: Whether all factors are quantities, not kinds.

    Returns:
        The score, with `details["scores"]`, for each factor a list over dimensions.

    Raises:
        ValueError: If the arrays are not so.

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
    """FactorVAE's score: whether the dimension that stands still tells which factor does.

    In each draw one factor, each in turn, is fixed: at the value of an example drawn at random, of whose like
    `batch_size` are drawn without replacement. Relative to its variance over all codes, one
    dimension varies least among them and casts a vote for the factor. The score is the accuracy, in
    further draws, of naming the factor that the dimension's votes were most often cast for.

    Dimensions that hardly vary at all are left out: they are collapsed to the prior, and noise would
    have them win. The threshold on their standard deviation is that of the settings of Locatello et
    al., whose code leaves none out unless told. A dimension that is constant never takes part.

    Source: Kim & Mnih, "Disentangling by Factorising" (2018), section 4,
    https://arxiv.org/abs/1802.05983; sizes of Locatello et al. (2019).

    Args:
        codes: Floats `[N, D]`, D >= 2.
        factors: Ints `[N, F]` >= 0, F >= 2, at least two values of each factor, `batch_size`
            examples of each value.
        batch_size: Examples in a draw, at least 2.
        num_train: Draws that vote.
        num_eval: Draws that are judged; of the same examples.
        min_std: The least standard deviation of a dimension that takes part.
        seed: Of the draws.

    Returns:
        The score, 0 if no dimension takes part; `stderr` is over draws, for these examples.
        `details`: the number of `active_dims`, `train_accuracy`, the accuracy of `chance`, and the
        `votes` for each factor as a list over dimensions.

    Raises:
        ValueError: If the arrays are not so, or a value is too rare.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(500, 4))
        >>> codes = factors.astype(float)
        >>> float(zoo.metrics.factor_vae_score(codes, factors, num_train=200, num_eval=100))
        1.0
    """
    codes, factors = _examples(codes, factors)
    _need_two_factors(factors)
    _need_draws(batch_size, num_train, num_eval, factors)
    groups = [_Groups(v, f"factor {f}", batch_size) for f, v in enumerate(factors.T)]
    variances = codes.var(axis=0, ddof=1)
    active = (np.ptp(codes, axis=0) > 0) & (np.sqrt(variances) >= min_std)
    about = {
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
        alike = group.of(rng.integers(len(codes)))
        batch = codes[rng.choice(alike, batch_size, replace=False, shuffle=False)]
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
    """beta-VAE's score: whether a linear classifier can tell which factor is shared.

    In each draw one factor, each in turn, is shared: `batch_size` pairs of examples are drawn, each two of which
    are different examples that agree in the factor. From the mean over pairs of the codes' absolute
    difference, logistic regression learns which factor it was; the score is its accuracy in further
    draws. It sees all dimensions at once, so that it can be 1 where factors share a dimension.

    Source: Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
    Framework" (2017), section 3, https://openreview.net/forum?id=Sy2fzU9gl; sizes and classifier of
    Locatello et al. (2019).

    Args:
        codes: Floats `[N, D]`, D >= 2.
        factors: Ints `[N, F]` >= 0, F >= 2, at least two values of each factor and two examples
            of each value.
        batch_size: Pairs in a draw, at least 2.
        num_train: Draws to learn from.
        num_eval: Draws that are judged; of the same examples.
        seed: Of the draws.

    Returns:
        The score; `stderr` is over draws, for these examples. `details`: `train_accuracy`, and the
        accuracy of `chance`.

    Raises:
        ValueError: If the arrays are not so, or a value is too rare.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(500, 4))
        >>> codes = factors.astype(float)
        >>> float(zoo.metrics.beta_vae_score(codes, factors, num_train=200, num_eval=100))
        1.0
    """
    codes, factors = _examples(codes, factors)
    _need_two_factors(factors)
    _need_draws(batch_size, num_train, num_eval, factors)
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
    """Of each row, the largest less the second largest."""
    ordered = np.sort(scores, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def _concentration(importances: np.ndarray) -> float:
    """How far each row is on one column, 1 - entropy to the base of columns, weighted by row sums."""
    sums = importances.sum(axis=1)
    weights = sums[sums > 0]
    if not len(weights):
        return 0.0
    shares = importances[sums > 0] / weights[:, None]
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropies = -(shares * logs).sum(axis=1) / np.log(shares.shape[1])
    return float(np.average(1 - entropies, weights=weights))


def _binned(code: np.ndarray, bins: int) -> np.ndarray:
    """The number 1, ..., `bins` of the bin of each value; the last bin has its right end, too."""
    return np.digitize(code, np.histogram_bin_edges(code, bins)[:-1])


def _squared_correlations(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """`[F, D]`; a constant dimension is correlated with nothing."""
    codes, factors = codes - codes.mean(axis=0), factors - factors.mean(axis=0)
    # Of a constant the mean may be off by rounding, and its square must not divide another.
    codes[:, np.ptp(codes, axis=0) == 0] = 0
    products = (factors.T @ codes) ** 2
    norms = (factors**2).sum(axis=0)[:, None] * (codes**2).sum(axis=0)
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def _svm_accuracy(code, values, code_test, values_test) -> float:
    # The primal problem is the same one, and its solver draws no random numbers.
    svm = LinearSVC(C=0.01, class_weight="balanced", dual=False).fit(code, values)
    return svm.score(code_test, values_test)


def _accuracy_stderr(accuracy: float, num: int) -> float:
    return float(np.sqrt(accuracy * (1 - accuracy) / num))


# Examples -----------------------------------------------------------------------------------------


class _Groups:
    """The examples that agree in one factor with a given one."""

    def __init__(self, values: np.ndarray, name: str, at_least: int):
        found, self.group, self.sizes = np.unique(values, return_inverse=True, return_counts=True)
        rarest = self.sizes.argmin()
        if self.sizes[rarest] < at_least:
            raise ValueError(
                f"A draw needs {at_least} examples of the same value of a factor. Received: "
                f"{self.sizes[rarest]} of value {found[rarest]} of {name}; give more examples, "
                "smaller batches, or none of that value."
            )
        self.order = np.argsort(values, kind="stable")
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.places = np.argsort(self.order)

    def of(self, example: int) -> np.ndarray:
        """All that agree with the example, itself among them."""
        start, size = self.starts[self.group[example]], self.sizes[self.group[example]]
        return self.order[start : start + size]

    def others(self, examples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each example one that agrees with it and is not itself, each with the same chance."""
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
            f"Each factor must take at least two values in `factors{suffix}`. Received: a single one "
            f"of factor {int(constant.argmax())}; leave that factor out, or give more examples."
        )
    return codes, factors


def _train_and_test(codes_train, factors_train, codes_test, factors_test):
    train = _examples(codes_train, factors_train, "_train")
    test = _examples(codes_test, factors_test, "_test")
    for name, a, b in zip(("codes", "factors"), train, test, strict=True):
        if a.shape[1] != b.shape[1]:
            raise ValueError(
                f"`{name}_train` and `{name}_test` must have as many columns. "
                f"Received: shapes {a.shape} and {b.shape}."
            )
    return train, test


def _need_two_factors(factors: np.ndarray) -> None:
    if factors.shape[1] < 2:
        raise ValueError(
            "The score tells factors apart and needs at least two of them. "
            f"Received: factors of shape {factors.shape}."
        )


def _need_draws(batch_size: int, num_train: int, num_eval: int, factors: np.ndarray) -> None:
    count = factors.shape[1]
    if batch_size < 2 or num_train < count or num_eval < count:
        raise ValueError(
            f"Draws need batch_size >= 2, and num_train and num_eval >= {count}, one for each factor. "
            f"Received: batch_size={batch_size}, num_train={num_train}, num_eval={num_eval}."
        )
