"""Completion of MNIST from one, two or three quadrants, after Sohn et al., 2015."""

import numpy as np
import tensorflow as tf

from benchmarks.tables.table import Row, Table
from zoo.metrics.likelihood import over_images

_DRAWS = 100
_BATCH = 100


def _score(trained):
    x, y = trained.data.arrays("test")
    model, seed = trained.model, trained.config.seed

    def score(log_prob, method):
        # `zoo.metrics.negative_log_likelihood` refuses grey values, because their cross-entropy is
        # not a likelihood.
        of_batch = tf.function(lambda x, y, seed: log_prob(x, _DRAWS, y=y, seed=seed))
        parts = [
            of_batch(*map(tf.constant, (x[i : i + _BATCH], y[i : i + _BATCH], (seed, i))))
            for i in range(0, len(x), _BATCH)
        ]
        draws = {} if method == "exact" else {"K": _DRAWS}
        return over_images(-np.concatenate(parts), {"method": method} | draws)

    if trained.config.builder == "predictor":
        return {"negative CLL": score(model.log_prob, model.log_prob_method)}
    scores = {"negative CLL, from the prior": score(model.log_prob_from_prior, "Monte Carlo")}
    return scores | (
        {"negative CLL": score(model.log_prob, model.log_prob_method)} if model.can_encode else {}
    )


def _rows(seen, network, gsnn, from_prior, importance):
    quadrants = f"{seen} quadrant{'s' if seen > 1 else ''}"
    settings = (f"seen=quadrants:{seen}", "binarize=None", "learning_rate_decay=cosine")
    cvae = "cvae_quadrants_mnist"
    return (
        Row(
            f"{quadrants}: network",
            "predictor_quadrants_mnist",
            settings,
            {"negative CLL": network},
            0.3,
        ),
        Row(
            f"{quadrants}: GSNN",
            cvae,
            (*settings, "alpha=0.0", "warm_up_steps=0"),
            {"negative CLL, from the prior": gsnn},
            0.7,
        ),
        Row(
            f"{quadrants}: CVAE",
            cvae,
            settings,
            {"negative CLL, from the prior": from_prior, "negative CLL": importance},
            1.0,
        ),
    )


TABLE = Table(
    name="quadrants",
    title="Conditional VAE: MNIST from one, two and three quadrants",
    reference="Sohn et al., 2015, the quadrants of MNIST. https://papers.nips.cc/paper/5775",
    protocol=(
        "500-500 hidden units in each network, ReLU, 200 latents, batches of 100, Adam from 1e-3 "
        "with a cosine fall to 0; the prior network also takes the prediction of a deterministic "
        "network, which is trained at the same time. The weight of the CVAE's rate rises from 0 to "
        "1 in the first 4,000 steps. Grey values in [0, 1] are the conditions, the inputs and the "
        "targets of a Bernoulli likelihood. Negative CLL: minus the log-likelihood of the "
        "hidden part of the 10,000 test images given the seen part, where the cross-entropy of the "
        "grey values replaces the log-probability of black and white: by "
        f"{_DRAWS} importance samples from the posterior, by {_DRAWS} draws of the prior, and for "
        "the network exactly."
    ),
    differs=(
        "The sizes of the networks and the numbers of draws and epochs are not the paper's. The "
        "paper's numbers were not checked against its text.",
        "The epochs of network and CVAE, and the warm-up, were chosen on validation images with one "
        "quadrant seen; the GSNN has the epochs that the time allowed. There is no early stopping.",
    ),
    rows=(
        *_rows(1, 99.75, 99.82, 68.39, 63.91),
        *_rows(2, 62.18, 62.41, 45.34, 44.73),
        *_rows(3, 25.99, 26.29, 20.96, 20.95),
    ),
    score=_score,
    scoring=0.25,
    remarks=(
        "The networks and the GSNNs agree with the paper to 0.3 nats with one quadrant, and are 0.9 "
        "to 1.5 nats better with two and three. This suggests that the paper's images are grey.",
        "The CVAE is within 3.2 % of the paper by importance samples with one quadrant, equal with "
        "two, and better with three. By draws of the prior the gap is 17, 5 and -1 nats: its rate of "
        "12 nats with one quadrant is too high for 100 draws of the prior.",
        "With one quadrant, the ratio of the CVAE's score to the network's is 0.66 by importance samples; "
        "the paper's numbers give 0.64. The GSNN is not better than the network, as in the paper.",
        "Without the warm-up of the rate, the CVAE's bound on validation images with one quadrant is "
        "worse by 5 nats after 20 epochs (trainers.train --preset=cvae_quadrants_mnist "
        "--set=binarize=None --set=learning_rate_decay=cosine --epochs=20, with and without "
        "--set=warm_up_steps=0).",
    ),
)
