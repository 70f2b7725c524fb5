"""Completion of MNIST from its upper half, by all methods and models."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.tables.table import Row, Table, Trained
from zoo import chains, features, inference
from zoo.datasets import named_mask
from zoo.metrics import negative_log_likelihood, psnr
from zoo.metrics.estimate import Estimate
from zoo.model import GenerativeModel

SEEN = "half:top"
_IMAGES, _COMPLETIONS, _STEPS = 500, 5, 300
_TIMED, _TIMED_STEPS = 100, 3

_METHODS = {
    "most probable latents": "map",
    "pseudo-Gibbs": "pseudo_gibbs",
    "Metropolis-within-Gibbs": "metropolis",
    "conditional": "conditional",
    "mean image": "mean",
}


def agreement(a: np.ndarray, b: np.ndarray, classify: Callable[[np.ndarray], np.ndarray]) -> float:
    """The share of pairs of images, `[N, H, W, C]` each, with the same class."""
    return float(np.mean(classify(a) == classify(b)))


def scores(
    completions: np.ndarray,
    truth: np.ndarray,
    seen: np.ndarray,
    classify: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Estimate | float]:
    """Scores of completions of grey images.

    Args:
        completions: `[n, B, H, W, C]`. Only their hidden values are used.
        truth: The grey images `[B, H, W, C]`.
        seen: Which values are seen, bools `[H, W, 1]`, the same in each row.
        classify: Function from images to the classes `[B]`.

    Returns:
        The PSNR of the hidden rows of one completion, and of the mean completion, in dB; and the
        agreement of the classes of the images and of one completion.
    """
    hidden = ~seen[:, 0, 0]
    done = np.where(seen, truth, completions)

    def of_hidden(images):
        return psnr(np.float32(images[:, hidden]), truth[:, hidden])

    return {
        "PSNR": of_hidden(done[0]),
        "PSNR of the mean": of_hidden(done.mean(0)),
        "agreement": agreement(done[0], truth, classify),
    }


def completed(
    model: GenerativeModel,
    x: np.ndarray,
    y: np.ndarray | None,
    seen: np.ndarray,
    method: str,
    n: int = _COMPLETIONS,
    steps: int = _STEPS,
    seed: int = 0,
) -> np.ndarray:
    """Completions `[n, B, H, W, C]` of images by a method of the table; "map" gives n = 1."""
    if method == "conditional":
        drawn = [model.sample(len(x), y, seed=[seed, i]) for i in range(n)]
        return np.stack([np.asarray(images) for images in drawn])
    options: dict[str, Any] = {"starts": 3} if method == "map" else {"steps": steps, "n": n}
    done = inference.complete(model, x, seen, y, method=method, seed=seed, **options)
    return done.images.numpy()


def seconds(call: Callable[[], Any]) -> float:
    """The time of a call."""
    start = time.monotonic()
    call()
    return time.monotonic() - start


def times(
    model: GenerativeModel, x: np.ndarray, y: np.ndarray | None, seen: np.ndarray, method: str
) -> dict[str, float]:
    """Milliseconds for each completed image, and in a plain Python loop over the steps of a chain.

    The graph of a chain is traced before its time is taken.
    """
    each = 1000 / len(x)
    if method not in ("metropolis", "pseudo_gibbs"):
        return {"ms": each * seconds(lambda: completed(model, x, y, seen, method, 1))}
    mask = np.broadcast_to(seen, x.shape)
    start = chains.filled(x, mask)

    def run(steps):
        seed = tf.constant([0, 0])
        return chains.ends(model, start, mask, y, seed, steps, 1, method == "metropolis")

    in_graph = tf.function(run, input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
    in_graph(2)
    run(2)  # Without a graph, `tf.while_loop` is a Python loop.
    plainly = seconds(lambda: run(_TIMED_STEPS))
    return {
        "ms": each * seconds(lambda: in_graph(_STEPS)),
        "ms in a plain loop": each * plainly * _STEPS / _TIMED_STEPS,
    }


def nll_of_hidden(
    model: GenerativeModel,
    x: np.ndarray,
    y: np.ndarray | None,
    seen: np.ndarray,
    method: str,
    **options: Any,
) -> Mapping[str, Estimate]:
    """The NLL of the hidden pixels given the seen pixels, for the first method of each model.

    The options are those of `zoo.inference.log_prob_of_hidden`.
    """
    if method == "conditional":
        return {"NLL": negative_log_likelihood(model, x, 1000, seed=0, y=y)}
    if method != "metropolis":
        return {}
    values = -inference.log_prob_of_hidden(model, x, seen, y, seed=0, **options).numpy()
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return {"NLL": Estimate(float(values.mean()), error, len(values))}


def _score(trained: Trained) -> dict[str, Estimate | float]:
    method = _METHODS[trained.row.name.rpartition(": ")[2]]
    model, data = trained.model, trained.data
    x, y = data.arrays("test", _IMAGES)
    truth = np.float32(data.pixels("test", _IMAGES)) / 255
    seen = named_mask(SEEN, x.shape[1:3])[0]
    y = y if method == "conditional" else None
    network = features.get("mnist-cnn-v1")

    def classify(images):
        return network(np.float32(images)).logits.argmax(-1)

    if method == "mean":
        images, _ = data.arrays("train")
        return scores(np.tile(images.mean(0), (1, len(x), 1, 1, 1)), truth, seen, classify)
    seed = trained.config.seed
    found = scores(completed(model, x, y, seen, method, seed=seed), truth, seen, classify)
    part = None if y is None else y[:_TIMED]
    return {
        **nll_of_hidden(model, x, y, seen, method),
        **found,
        **times(model, x[:_TIMED], part, seen, method),
    }


def _rows(name, preset):
    first = f"{name}: Metropolis-within-Gibbs"
    others = ("pseudo-Gibbs", "most probable latents")
    return (
        Row(first, preset),
        *(Row(f"{name}: {method}", preset, trained_as=first) for method in others),
    )


TABLE = Table(
    name="completion",
    title="Completion of MNIST from the upper half",
    reference=(
        "Metropolis-within-Gibbs: Mattei & Frellsen, 2018. https://arxiv.org/abs/1802.04826 "
        "Pseudo-Gibbs: Rezende et al., 2014. https://arxiv.org/abs/1401.4082"
    ),
    protocol=(
        f"The first {_IMAGES} test images. The lower half is hidden. Chains of {_STEPS} steps, "
        f"{_COMPLETIONS} for each image; the most probable latents are the best of three starts. The "
        "models see binary images under one fixed binarisation, except the VAE/GAN, which sees grey "
        "images. NLL of the hidden pixels given the seen pixels: for the VAEs log p(x) - log p(seen "
        "part) by 1,000 importance samples each, for the conditional VAE by 1,000 importance samples. "
        "PSNR of the hidden half of one completion and of the mean of all, against the grey image, in "
        "dB. Agreement: the share of images whose class by the included classifier (mnist-cnn-v1) is "
        "that of the completed image. The mean image of the training set is the baseline. "
        f"Milliseconds for each completed image in batches of {_TIMED}; without the time to trace for "
        "chains, and with it for the most probable latents. The plain loop runs the steps of the chain "
        "in Python, with the same computations and batches."
    ),
    differs=("The papers complete other images, and report no such table.",),
    rows=(
        *_rows("VAE", "vae_mnist"),
        Row("VAE: mean image", "vae_mnist", trained_as="VAE: Metropolis-within-Gibbs"),
        *_rows("VAE, RealNVP prior", "vae_flow_mnist"),
        Row("VAE/GAN: most probable latents", "vaegan_mnist"),
        Row(
            "conditional VAE: conditional",
            "cvae_quadrants_mnist",
            (f"seen={SEEN}", "learning_rate_decay=cosine"),
        ),
    ),
    score=_score,
    unit="nats, dB, shares and milliseconds",
    scoring=0.4,
)
