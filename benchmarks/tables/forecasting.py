"""Forecasts of moving sprites from one image, after Walker et al., 2016."""

import math

import numpy as np

from benchmarks.tables.table import Row, Table
from zoo.datasets import moving
from zoo.metrics import negative_log_likelihood

_DRAWS = 100
_SAMPLES, _INPUTS, _BEST = 200, 200, 20
_TOLERANCE = 0.3
"""A future is drawn often enough if its share is within 30 % of 1 / F: 35 to 65 % for two."""


def bounds(futures: np.ndarray) -> dict[str, float]:
    """The least NLL of any model, and of a model with independent pixels, in nats.

    Args:
        futures: The equally likely futures of each image, `[N, F, ...]` of zeros and ones.
    """
    mean = futures.mean(1)
    inside = mean[(mean > 0) & (mean < 1)]
    entropy = -(inside * np.log(inside) + (1 - inside) * np.log(1 - inside)).sum()
    return {
        "least": math.log(futures.shape[1]),
        "least with independent pixels": float(entropy / len(futures)),
    }


def forecast_scores(x: np.ndarray, futures: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    """How drawn videos agree with the known futures of their first frames.

    A drawn video counts as the nearest future. It is undecided if its distance from every future is
    more than a third of the least distance between two futures.

    Args:
        x: Videos `[N, H, W, T]`.
        futures: All futures of each, `[N, F, H, W, T]`.
        drawn: Forecasts of each, `[N, n, H, W, T]`.

    Returns:
        "balanced": The share of inputs each of whose futures gets its share of the samples, 1 / F, to
        30 %. "undecided": The share of undecided samples. "best of 20": The least squared error of
        the first 20 samples, as a mean over inputs.
    """
    flat = [np.reshape(v, [*v.shape[: v.ndim - 3], -1]) for v in (futures, drawn)]
    of_futures, of_drawn = (np.asarray(v, np.float64) for v in flat)
    square = _squares(of_drawn, of_futures)
    count = futures.shape[1]
    nearest = square.argmin(-1)
    shares = np.stack([(nearest == k).mean(1) for k in range(count)], -1)
    apart = _squares(of_futures, of_futures) + np.where(np.eye(count), np.inf, 0)
    least = apart.min((1, 2))[:, None]
    errors = np.square(of_drawn[:, :_BEST] - x.reshape(len(x), 1, -1)).sum(-1)
    return {
        "balanced": float((np.abs(count * shares - 1) <= _TOLERANCE + 1e-9).all(-1).mean()),
        "undecided": float((9 * square.min(-1) > least).mean()),
        "best of 20": float(errors.min(1).mean()),
    }


def _squares(a, b):
    """The squared distances of vectors `[N, A, D]` and `[N, B, D]`, `[N, A, B]`."""
    return np.square(a[:, :, None] - b[:, None]).sum(-1)


def _score(trained):
    model, data = trained.model, trained.data
    x, y = data.arrays("test")
    nll = negative_log_likelihood(model, x, _DRAWS, seed=trained.config.seed, y=y)
    scores = {"NLL": nll} | bounds(moving.futures(data, "test"))
    x, y = x[:_INPUTS], y[:_INPUTS]
    if "sample" in model.abilities():
        each = [model.sample(len(y), y, seed=i).numpy() for i in range(_SAMPLES)]
    else:
        each = [model.decode(np.zeros([len(y), 0]), y).numpy()]
    return scores | forecast_scores(x, moving.futures(data, "test", _INPUTS), np.stack(each, 1))


def _rows(futures, preset):
    return (
        Row(f"{futures} futures: network", f"predictor_{preset}", share=0.4),
        Row(f"{futures} futures: GSNN", f"cvae_{preset}", ("alpha=0.0",)),
        Row(f"{futures} futures: CVAE", f"cvae_{preset}"),
        Row(f"{futures} futures: CVAE, normal prior", f"cvae_{preset}", ("prior=normal",)),
    )


TABLE = Table(
    name="forecasting",
    title="Forecasts of moving sprites from one image",
    reference=(
        "Walker et al., 2016, reduced: An Uncertain Future: Forecasting from Static Images using "
        "Variational Autoencoders. https://arxiv.org/abs/1606.07873"
    ),
    protocol=(
        "8,000 videos of 16x16 pixels and four frames, in which an ellipse moves along its long axis "
        "to one end or the other (two futures), or along one of its axes (four). The first frame is "
        "seen and determines everything but the direction. 256-256 hidden units in each network, 8 latents, batches of 100, Adam from "
        "3e-3 with a cosine fall to 0. On 1,000 test videos: the NLL of the three hidden frames by "
        f"{_DRAWS} importance samples from the posterior, for GSNN from the prior, for the network "
        "exactly; and the least NLL that is possible, of any model and of a model with independent "
        f"pixels. On {_INPUTS} first frames with {_SAMPLES} samples each: the share of first frames "
        "each of whose futures gets its share of the samples to 30 % (35 to 65 % for two; balanced); "
        "the share of samples that are further from every future than a third of the way between two "
        "(undecided); the squared error of the best of 20 samples."
    ),
    differs=(
        "The paper forecasts the trajectories of points in videos of people, with a convolutional "
        "network of the image and a normal likelihood. Here the frames themselves are forecast, in "
        "videos whose futures are known, with a Bernoulli likelihood.",
        "The paper's prior does not depend on the image; here this is the row with a normal prior. The "
        "other rows have the prior network of Sohn et al., 2015.",
        "Test videos start at the same 648 places and angles as training videos.",
    ),
    rows=(*_rows("two", "moving_sprites"), *_rows("four", "turning_sprites")),
    score=_score,
    unit="nats, shares, and squared error",
    scoring=0.1,
)
