"""Likelihoods of held-out images, by importance sampling."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.config import look_up, with_article
from zoo.contract import as_count, check_counts
from zoo.distributions import Bernoulli, Categorical, Completion, DiscretizedLogistic, Family
from zoo.metrics.estimate import Estimate
from zoo.model import GenerativeModel

# Number of importance samples between two reports of progress.
_DRAWS = 100


def negative_log_likelihood(
    model: GenerativeModel,
    x: np.ndarray,
    num_samples: int = 1000,
    batch_size: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    y: np.ndarray | None = None,
    proposal: str = "posterior",
) -> Estimate:
    """-log p(x), or -log p(x | y), by importance sampling, in nats per image, averaged over images.

    The expectation of the estimate is an upper bound that decreases with the number of samples, K:
    Burda et al., "Importance Weighted Autoencoders", 2016, theorem 1.
    https://arxiv.org/abs/1509.00519

    The likelihood of a model without latents, such as a `Predictor`, is computed exactly.

    Args:
        model: A model with `log_prob`.
        x: Images `[N, H, W, C]` in [0, 1] that the likelihood applies to: black and white for a
            Bernoulli, on the levels of a discretized family.
        num_samples: Number of importance samples for each image, K.
        batch_size: Number of images at a time. The random numbers are drawn for a batch as a whole,
            so the noise of the estimate depends on the batch size.
        seed: Seed of the importance samples.
        progress: A function that is called with the number of samples drawn and their total number,
            N K (N if exact).
        y: The conditions of the images, `[N, ...]`; ignored if the model takes none.
        proposal: The distribution of the samples. "posterior" calls the model's `log_prob`:
            importance sampling from q(z | x), or the method that the model defines instead. "prior"
            calls `log_prob_from_prior`: plain Monte Carlo from p(z | y), which needs many more
            samples.

    Returns:
        The mean over images and its standard error over images. `estimator["method"]` is
        "importance sampling", "Monte Carlo" (from the prior) or "exact" (without settings of
        samples); `estimator["of"]` says whether the value is of probabilities or of a density.
        `details["bits_per_dim"]` is the value divided by the number of pixel values and by log 2.
        For a density it is `None`, and `details["reason"]` says why.

    Raises:
        ValueError: If the model has no likelihood, or none with that proposal, or if the likelihood
            does not apply to the images.

    Example:
        >>> model = zoo.presets.build(zoo.presets.get("vae_digits"), (8, 8, 1))
        >>> x = np.ones((2, 8, 8, 1), "float32")
        >>> nll = zoo.metrics.negative_log_likelihood(model, x, num_samples=10)
        >>> nll.n_real, nll.estimator["K"], list(nll.details)
        (2, 10, ['bits_per_dim'])
    """
    if "log_prob" not in model.abilities():
        raise ValueError(
            f"A likelihood needs a model with `log_prob`, such as a VAE. Received: a "
            f"{type(model).__name__}, which has no likelihood. It has: "
            f"{', '.join(model.abilities())}."
        )
    num_samples = as_count(num_samples, "num_samples")
    check_counts(batch_size=batch_size)
    check_counts(0, seed=seed)
    look_up({"posterior": None, "prior": None}, proposal, "proposal")
    if proposal == "prior" and not hasattr(model, "log_prob_from_prior"):
        raise ValueError(
            "proposal='prior' needs a model with `log_prob_from_prior`, such as a CVAE. "
            f"Received: {with_article(type(model).__name__)}."
        )
    method = "Monte Carlo" if proposal == "prior" else model.log_prob_method
    if method == "exact":
        num_samples = 1
    x = check_observations(model, x)
    y = check_conditions(model, x, y)
    estimate = model.log_prob_from_prior if proposal == "prior" else model.log_prob
    log_prob = tf.function(
        lambda images, draws, seed, *y: estimate(
            images, draws, seed=seed, **({"y": y[0]} if y else {})
        ),
        input_signature=[
            tf.TensorSpec([None, *x.shape[1:]]),  # Traced once, for any size of the last batch.
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([2], tf.int32),
            *([] if y is None else [tf.TensorSpec([None, *y.shape[1:]], y.dtype)]),
        ],
        jit_compile=model.jit_compile if model.compiled else None,
    )
    values = []
    for start in range(0, len(x), batch_size):
        images = tf.convert_to_tensor(x[start : start + batch_size], tf.float32)
        condition = [] if y is None else [y[start : start + batch_size]]
        total = np.full(len(images), -np.inf)
        for drawn in range(0, num_samples, _DRAWS):
            draws = min(_DRAWS, num_samples - drawn)
            here = tf.random.experimental.stateless_fold_in([seed, start], drawn)
            mean = log_prob(images, tf.constant(draws), here, *condition).numpy().astype(np.float64)
            with np.errstate(invalid="ignore"):  # NaN raises an error at the end.
                total = np.logaddexp(total, mean + np.log(draws))
            if progress:
                progress(start * num_samples + len(images) * (drawn + draws), len(x) * num_samples)
        values.append(total - np.log(num_samples))
    about: dict[str, Any] = {"method": method, "of": measured(model, x)}
    if method != "exact":
        about |= {"K": num_samples, "batch_size": batch_size, "seed": seed}
    nats = -np.concatenate(values)
    return over_images(nats, about, **bits_per_dim(model, nats.mean(), _num_values(model, x, y)))


def check_observations(model: GenerativeModel, x: np.ndarray) -> np.ndarray:
    """`x` as an array, if the likelihood of the model applies to these images.

    Raises:
        ValueError: If `x` is not images as the model takes them, if there are none, or if the
            likelihood is of black and white images, or of levels, and the images are not.
    """
    x = np.asarray(x)
    model.check_images(x)
    if not len(x):
        raise ValueError("A likelihood needs at least 1 image. Received: none.")
    family = _family(model)
    if is_cross_entropy(family, x):
        raise ValueError(
            "A Bernoulli likelihood applies to images in {0, 1}. Received: grey images, whose "
            "cross-entropy is not a log-likelihood. Binarise the data, or train with a likelihood "
            "for grey values."
        )
    if isinstance(family, DiscretizedLogistic | Categorical):
        steps = x.astype(np.float64) * (family.levels - 1)
        # In float32, k / 255 is exact to 1e-5 of a level.
        if np.abs(steps - np.round(steps)).max() > 0.01:
            raise ValueError(
                f"A discretized likelihood with levels={family.levels} applies to images with the "
                f"values k / {family.levels - 1}. Received: values between them. Round the images, "
                "or train with a likelihood of continuous values."
            )
    return x


def check_conditions(
    model: GenerativeModel, x: np.ndarray, y: np.ndarray | None
) -> tf.Tensor | None:
    """The conditions `y[N, ...]` of the images `x` as a tensor; `None` if the model takes none.

    Raises:
        ValueError: If the model takes a condition, and `y` does not have one for each image.
    """
    if model.condition is None or (y is None and model.condition_is_optional):
        return None
    if isinstance(y, Mapping):
        y = y[model.condition_leaf]
    if y is not None and len(y) != len(x):
        raise ValueError(
            f"Expected a condition for each of {len(x)} images. Received: {len(y)} conditions."
        )
    return model.conditions(len(x), y)


def _num_values(model, x, y):
    """The number of values of an image that the likelihood covers, on average."""
    if isinstance(getattr(model, "likelihood", None), Completion):
        return float(tf.reduce_mean(tf.reduce_sum(tf.cast(y < 0, tf.float32), [1, 2, 3])))
    return x[0].size


def is_cross_entropy(family: Family | None, x: np.ndarray) -> bool:
    """Whether `log_prob` of the images is a cross-entropy: a Bernoulli of grey values."""
    return isinstance(family, Bernoulli) and not np.isin(x, (0, 1)).all()


def measured(model: GenerativeModel, x: np.ndarray) -> str:
    """What `log_prob` is the logarithm of, in words. Values of different kinds are not comparable."""
    family = _family(model)
    if is_cross_entropy(family, x):
        return "a cross-entropy"
    condition = ""
    if model.condition is not None and not model.condition_is_optional:
        completes = isinstance(model.likelihood, Completion)
        condition = " of the hidden values, given y" if completes else ", given y"
    if isinstance(family, Bernoulli):
        return f"probabilities of 0 and 1{condition}"
    if isinstance(family, DiscretizedLogistic | Categorical):
        return f"probabilities of {family.levels} levels{condition}"
    return f"a density{condition}"


def bits_per_dim(model: GenerativeModel, nats: float, values: float) -> dict[str, Any]:
    """`bits_per_dim` of `nats` over a number of pixel values, or the `reason` why there is none."""
    family = _family(model)
    if isinstance(family, Bernoulli | DiscretizedLogistic | Categorical):
        return {"bits_per_dim": float(nats / (values * np.log(2)))}
    reason = (
        f"{type(family).__name__} does not define probabilities of pixel values; a density of values "
        "on levels, without dither, has no bits per dimension."
    )
    return {"bits_per_dim": None, "reason": reason}


def over_images(values: np.ndarray, estimator: dict[str, Any], **details: Any) -> Estimate:
    """The mean of the values of images, `[N]`, with its standard error.

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(
            "An average over images needs finite values. Received: "
            f"{values[~finite][0]} for image {int(np.argmin(finite))}; check that the weights are finite"
        )
    n = len(values)
    stderr = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else None
    return Estimate(
        float(values.mean()), stderr, n_real=n, estimator=estimator, details=dict(details)
    )


def _family(model):
    # A model on the codes of another model has the likelihood of the other model.
    likelihood = getattr(model, "first_likelihood", getattr(model, "likelihood", None))
    return getattr(likelihood, "family", None)
