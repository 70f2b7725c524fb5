"""Likelihoods of held-out images."""

from typing import Any

import numpy as np
import tensorflow as tf

from zoo.distributions import Bernoulli
from zoo.model import GenerativeModel


def negative_log_likelihood(
    model: GenerativeModel,
    x: np.ndarray,
    num_samples: int = 1000,
    batch_size: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """-log p(x) by importance sampling, in nats per image, averaged over images.

    The estimate is an upper bound in expectation, which falls with the number of samples.

    Args:
        model: One with `log_prob`.
        x: Images `[N, H, W, C]` in [0, 1], binarised if the model's likelihood is Bernoulli.
        num_samples: Importance samples for each image, K.
        batch_size: Images at a time.
        seed: Of the importance samples.

    Returns:
        `nll`, its standard error over images `stderr`, `bits_per_dim` (nll / (values per image x
        log 2)), `num_samples`, `num_images`, `seed`. Where there is no likelihood to speak of,
        `nll` is `None`, and `reason` says why.
    """
    about = {"num_samples": num_samples, "num_images": len(x), "seed": seed}
    if "log_prob" not in model.abilities():
        return {"nll": None, "reason": f"A {type(model).__name__} has no likelihood."} | about
    if isinstance(model.likelihood.family, Bernoulli) and not np.isin(x, (0, 1)).all():
        reason = (
            "The likelihood is Bernoulli and the images are grey: their cross-entropy is no "
            "log-likelihood. Binarise the data, or choose a likelihood for grey values."
        )
        return {"nll": None, "reason": reason} | about
    model.check_images(x)
    log_prob = tf.function(
        lambda images, seed: model.log_prob(images, num_samples, seed=seed),
        jit_compile=model.jit_compile if model.compiled else None,
        reduce_retracing=True,
    )
    values = []
    for start in range(0, len(x), batch_size):
        images = tf.convert_to_tensor(x[start : start + batch_size], tf.float32)
        values.append(log_prob(images, tf.constant([seed, start], tf.int32)).numpy())
    values = np.concatenate(values).astype("float64")
    nll = -values.mean()
    return {
        "nll": float(nll),
        "stderr": float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None,
        "bits_per_dim": float(nll / (np.prod(x.shape[1:]) * np.log(2))),
    } | about
