"""Latents of images by optimisation, completions of images with hidden values, and super-resolution.

Latents by optimisation need only a decoder. Yan et al., "Attribute2Image: Conditional Image Generation
from Visual Attributes", 2016, reconstruct and complete images in this way.
https://arxiv.org/abs/1512.00570

Completions by chains need the parts of a VAE. Mattei and Frellsen, "Leveraging the Exact Likelihood of
Deep Latent Variable Models", 2018. https://arxiv.org/abs/1802.04826
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo import chains, checked_data, conditions, descent, resizing
from zoo.config import look_up, with_article
from zoo.contract import MissingInput, check_counts, check_non_negative
from zoo.distributions import need_density
from zoo.metrics.likelihood import check_observations
from zoo.model import Array, GenerativeModel, as_seed
from zoo.models import elbo

_SCALE = 0.1  # Of the squared error, where a model has no likelihood.


def fit_latents(
    model: GenerativeModel,
    x: Array,
    y: Any = None,
    seen: Array | None = None,
    *,
    start: Array | None = None,
    starts: int = 1,
    steps: int = 200,
    learning_rate: float = 0.05,
    weight: float = 1.0,
    scale: float | None = None,
    operator: Callable[[tf.Tensor], tf.Tensor] | None = None,
    batch_size: int = 500,
    seed: Any = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The most probable latents of images, of which some values may be hidden.

    Adam minimises the energy of each image,

        E(z) = -log p(x_seen | z, y) - weight log p(z | y).

    With `weight=1` and a likelihood, the minimum is the mode of p(z | x_seen, y). For a model
    without a likelihood of images, such as a GAN, and for every model if `scale` is set, the first
    term is ||x_seen - decode(z, y)||^2 / (2 scale^2).

    With an `operator` A, `x` are observations of images instead of images, and the first term is
    ||x - A(decode(z, y))||^2 / (2 scale^2).

    The first start is `start`. By default it is `encode(x, y)`, where each hidden value is the
    mean of the image's seen values of that channel, or 0.5 if there are none; it is a draw of
    the prior if the model has no encoder, if the encoder needs more than `x` and `y`, or with
    an `operator`. All further starts are draws of the prior. The result is the point of lowest
    energy on all paths from these starts.

    Args:
        model: A model with a decoder, and with a prior that has a density, unless `weight` is 0.
        x: Images `[B, H, W, C]` in [0, 1]. Hidden values may be any numbers, and have no effect.
        y: A condition for each image, or one for all, if the model takes a condition.
        seen: Which values of the images are seen, bools or 0 and 1: `[B, H, W, C]` or `[H, W, C]`
            for all images, or with one channel for all channels. `None` for all values.
        start: Latents `[B, D]` of the first start.
        starts: Number of starts, at least 1.
        steps: Number of steps of Adam from each start.
        learning_rate: Adam's learning rate, in units of z.
        weight: Weight of the prior's term, at least 0.
        scale: Standard deviation of the values around the decoded images, for the squared error.
            `None` for the model's own likelihood, or 0.1 if the model has none. With an `operator`,
            standard deviation of the observations, by default 0.1.
        operator: A differentiable function from images `[B, H, W, C]` to observations `[B, ...]` of the
            shape of `x`, such as `zoo.resizing.box_average`; `None` if `x` are images.
        batch_size: Number of images that are optimised together. It does not affect the result.
        seed: An int or a `[2]` int tensor for repeatable draws of the prior; `None` for new draws.

    Returns:
        Latents `[B, D]`, and their energies `[B]` in nats.

    Raises:
        ValueError: If `x`, `y`, `seen`, `start` or a number is invalid; if `seen` is passed with an
            `operator`; if the decoder has no gradients; if the prior has no density and `weight` is not 0; if `seen` is passed and
            the values of an image are dependent under the likelihood; or if an energy is not
            finite.
        NotImplementedError: If a start is a draw of the prior and the model has no prior.

    Notes:
        A model whose likelihood is a `Completion` has a density of the values that `y` hides, so the
        energy contains only those.

    Example:
        >>> model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(16,))
        >>> x, _ = zoo.datasets.load("digits", binarize="fixed").arrays("test", 10)
        >>> left = zoo.datasets.named_mask("half:left", (8, 8))
        >>> z, energy = zoo.inference.fit_latents(model, x, seen=left[0], starts=3, seed=0)
        >>> z.shape, energy.shape
        (TensorShape([10, 2]), TensorShape([10]))
    """
    check_counts(starts=starts, batch_size=batch_size)
    check_counts(0, steps=steps)
    check_non_negative(weight=weight)
    for name, value in {"learning_rate": learning_rate, "scale": scale}.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be positive and finite. Received: {value}.")
    if not model.has_differentiable_decoder:
        raise ValueError(
            "Latents by optimisation need a decoder with gradients. Received: "
            f"{with_article(type(model).__name__)}, whose renderings have none"
            f"{'; call `model.refine(x)`' if 'refine' in model.abilities() else ''}."
        )
    if weight:
        _check_prior(model)
    images, mask = _filled(model, x, seen) if operator is None else _observed(x, seen)
    count = len(images)
    condition = _condition(model, count, y)

    first = _first_start(model, images, y, condition, start, batch_size, operator is None)
    seed = as_seed(seed)
    candidates = [] if first is None else [first]
    for k in range(len(candidates), starts):
        here = tf.random.experimental.stateless_fold_in(seed, k)
        candidates.append(model.sample_latents(count, condition, here))

    options: dict[str, Any] = {"weight": weight, "scale": scale, "operator": operator}
    energy = functools.partial(_energy, model, hides=seen is not None, **options)
    minimise = _minimiser(energy, candidates[0], images, condition, steps, learning_rate)
    latents, energies = [], []
    for rows in _batches(count, batch_size):
        given = (images[rows], mask[rows])
        given += () if condition is None else (condition[rows],)
        paths = [minimise(z[rows], *given) for z in candidates]
        ends, lowest = (tf.stack(parts) for parts in zip(*paths, strict=True))
        best = tf.argmin(lowest, 0)
        latents.append(tf.gather(tf.transpose(ends, [1, 0, 2]), best, batch_dims=1))
        energies.append(tf.reduce_min(lowest, 0))
    z, lowest = tf.concat(latents, 0), tf.concat(energies, 0)
    if infinite := int(tf.reduce_sum(tf.cast(~tf.math.is_finite(lowest), tf.int32))):
        raise ValueError(
            "Expected a finite energy at the start or after a step. Received: an energy that is not "
            f"finite for {infinite} of {count} images. Choose another `start` or a lower `learning_rate`."
        )
    return z, lowest


class Completed(NamedTuple):
    """Completions of images: what `complete` returns.

    Attributes:
        images: n completions of each image, `[n, B, H, W, C]`. Seen values are those of `x`.
        latents: Their latents, `[n, B, D]`.
        acceptance: The share of accepted proposals after the warm-up in the chain of each completion,
            `[n, B]`; `None` for a method that accepts every proposal or has none.
    """

    images: tf.Tensor
    latents: tf.Tensor
    acceptance: tf.Tensor | None


def complete(
    model: GenerativeModel,
    x: Array,
    seen: Array,
    y: Any = None,
    *,
    method: str = "map",
    n: int = 1,
    batch_size: int = 500,
    seed: Any = None,
    **options: Any,
) -> Completed:
    """Completions of images, of which some values are hidden.

    | method | hidden values | models |
    |---|---|---|
    | "map" | decoded from the latents of `fit_latents`: one completion | with a decoder |
    | "pseudo_gibbs" | the end of a pseudo-Gibbs chain | with a posterior, a likelihood of images and a prior |
    | "metropolis" | the end of a Metropolis-within-Gibbs chain | also with a prior; all with a density |

    Both chains alternate between latents and hidden values. They start from images in which hidden
    values are the means of seen values, as in `fit_latents`. A step of the pseudo-Gibbs chain draws

        z ~ q(z | x_seen, x_hidden, y),    x_hidden ~ p(x_hidden | z, y).

    Its distribution tends to p(x_hidden | x_seen, y) if q is the exact posterior. With another q it
    tends to another distribution, at an unknown distance, however long it runs. It is a fast way to
    plausible completions, and does not sample from the conditional distribution.

    Metropolis-within-Gibbs takes the draw z' of q as a proposal, and accepts it with the probability

        min(1, p(x | z', y) p(z' | y) q(z | x, y) / (p(x | z, y) p(z | y) q(z' | x, y))),

    where x are the seen and the current hidden values. Otherwise z stays. The distribution of this
    chain tends to p(z, x_hidden | x_seen, y) for every q that is positive everywhere. A step takes one
    more pass of the decoder. A low acceptance means that `steps` may not suffice.

    Args:
        model, x, seen, y: As for `fit_latents`. Hidden values of `x` have no effect.
        method: "map", "pseudo_gibbs" or "metropolis".
        n: Number of completions of each image, at least 1: ends of independent chains.
        batch_size: Number of completions that are computed together. The random numbers of a chain
            depend on it.
        seed: An int or a `[2]` int tensor for repeatable draws; `None` for new draws.
        **options: For "map", the options of `fit_latents`. For the chains:
            `steps`, the number of steps, by default 500;
            `warm_up`, the number of first steps that accept every proposal, from 1 to `steps` - 1, by
            default 10, for "metropolis" only;
            `mean`, by default true: the hidden values of the result are the mean of p(x | z, y) at the
            last z, clipped to [0, 1], as in `decode`. With `mean=False` they are the draw of p(x | z,
            y), which a normal may put outside of [0, 1].

    Returns:
        The images `[n, B, H, W, C]`, their latents, and the acceptance. The images of "map" have n=1.

    Raises:
        ValueError: As `fit_latents`; if the model lacks a part or a density that the method needs; if
            the values of an image are dependent under the likelihood; or if "map" has n above 1.

    Notes:
        Pseudo-Gibbs is the imputation of Rezende et al., "Stochastic Backpropagation and Approximate
        Inference in Deep Generative Models", 2014. https://arxiv.org/abs/1401.4082
        Metropolis-within-Gibbs is that of Mattei and Frellsen, "Leveraging the Exact Likelihood of Deep
        Latent Variable Models", 2018. https://arxiv.org/abs/1802.04826

    Example:
        >>> model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(16,))
        >>> x, _ = zoo.datasets.load("digits", binarize="fixed").arrays("test", 10)
        >>> box = zoo.datasets.named_mask("box", (8, 8))[0]
        >>> done = zoo.inference.complete(model, x, box, method="metropolis", n=3, steps=20, seed=0)
        >>> done.images.shape, done.acceptance.shape
        (TensorShape([3, 10, 8, 8, 1]), TensorShape([3, 10]))
    """
    check_counts(n=n, batch_size=batch_size)
    by_name = {"map": _by_mode, "pseudo_gibbs": _by_pseudo_gibbs, "metropolis": _by_metropolis}
    by_method = look_up(by_name, method, "method")
    _check_options(method, fit_latents if method == "map" else by_method, options)
    return by_method(model, x, seen, y, n, batch_size, seed, **options)


def log_prob_of_hidden(
    model: GenerativeModel,
    x: Array,
    seen: Array,
    y: Any = None,
    *,
    num_samples: int = 1000,
    completions: int = 9,
    steps: int = 100,
    batch_size: int = 100,
    seed: Any = None,
) -> tf.Tensor:
    """log p(x_hidden | x_seen, y) of images, `[B]` in nats: log p(x | y) - log p(x_seen | y).

    Importance sampling estimates both terms. The proposal for the first is q(z | x, y). For the
    second, the hidden values are replaced by `completions` ends of Metropolis-within-Gibbs chains,
    x^1, ..., x^J, and the proposal is the mixture

        r(z) = (p(z | y) + sum_j q(z | x^j, y)) / (J + 1),

    of which each component gives the same number of draws. With exact posteriors and many completions
    the mixture without the prior is p(z | x_seen, y). The prior bounds the weights, p(x_seen | z) p(z)
    / r(z), by (J + 1) p(x_seen | z).

    Both terms have a negative bias that vanishes as `num_samples` grows. Their difference is an
    estimate, and not a bound.

    Args:
        model: A model with a posterior, a likelihood and a prior, all with a density.
        x: Images `[B, H, W, C]` with the true hidden values, to which the likelihood applies: see
            `zoo.metrics.negative_log_likelihood`.
        seen: As for `fit_latents`.
        y: As for `fit_latents`.
        num_samples: Number of importance samples for each term, rounded up to a multiple of J + 1.
        completions: J, at least 1.
        steps: Number of steps of the chains, at least 11. They affect the variance of the estimate only.
        batch_size: Number of images at a time. The random numbers depend on it.
        seed: An int or a `[2]` int tensor for repeatable draws; `None` for new draws.

    Raises:
        ValueError: As `complete` for "metropolis", or if the likelihood does not apply to the images.

    Example:
        >>> model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(16,))
        >>> x, _ = zoo.datasets.load("digits", binarize="fixed").arrays("test", 10)
        >>> left = zoo.datasets.named_mask("half:left", (8, 8))[0]
        >>> zoo.inference.log_prob_of_hidden(model, x, left, steps=20, num_samples=20).shape
        TensorShape([10])
    """
    check_counts(num_samples=num_samples, completions=completions, batch_size=batch_size)
    check_counts(11, steps=steps)
    x = check_observations(model, x)
    seed = as_seed(seed)
    of_chain, of_all, of_seen = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    completed = _by_metropolis(
        model, x, seen, y, completions, batch_size, of_chain, steps=steps, mean=False
    )
    mask = _checked_mask(seen, x.shape)
    condition = _condition(model, len(x), y)
    estimate = _estimate_of_hidden(model, x.shape[1:], condition, completions, num_samples)
    values = []
    for i, rows in enumerate(_batches(len(x), batch_size)):
        seeds = [tf.random.experimental.stateless_fold_in(s, i) for s in (of_all, of_seen)]
        more = () if condition is None else (condition[rows],)
        values.append(
            estimate(x[rows], mask[rows], completed.images[:, rows], tf.stack(seeds), *more)
        )
    return tf.concat(values, 0)


def super_resolve(
    model: GenerativeModel,
    small: Array,
    factor: int,
    y: Any = None,
    *,
    method: str | None = None,
    n: int = 1,
    consistent: bool = False,
    batch_size: int = 500,
    seed: Any = None,
    **options: Any,
) -> tf.Tensor:
    """Enlarges small images by `factor`; the averages of the results approximate `small`.

    | method | images | models |
    |---|---|---|
    | "conditional" | draws of z from the prior, decoded: z ~ p(z given small), x(z, small) | whose condition is the small image |
    | "map" | decoded from the latents of `fit_latents` with the operator A = `box_average` | with a decoder |

    The models of the first kind are `zoo.models.cvae` and `zoo.models.vaegan` with `condition="image"`,
    trained on data with `y="small:4"`. In networks of your own, the input that takes the small image has
    the name `zoo.networks.SMALL_IMAGE`. The mean over many draws has a smaller squared error than a
    single draw, and is less sharp.

    The images of "map" minimise ||small - A decode(z)||^2 / (2 scale^2) - log p(z). The first start is
    the code of the bicubic enlargement, if the model can encode.

    With `consistent=True` the averages of the result are `small`, up to rounding:
    `zoo.resizing.with_average` changes each image as little as possible.

    Args:
        model: A model of images `[B, H, W, C]`.
        small: Small images in [0, 1], `[B, H / factor, W / factor, C]`.
        factor: By how much the result is larger, at least 2.
        y: A condition for each image, or one for all, for "map" with a model that takes another
            condition.
        method: "conditional" or "map"; `None` for "conditional" if the model's condition is a small
            image of this shape, otherwise "map".
        n: Number of images for each small image, at least 1. "map" gives one.
        consistent: Whether the averages of the images are made equal to `small`.
        batch_size: Number of images that are computed together. The draws depend on it.
        seed: An int or a `[2]` int tensor for repeatable draws; `None` for new draws.
        **options: For "map", the options of `fit_latents`. `scale` is by default 0.1 / `factor`, the
            standard deviation of the average of factor^2 independent values of standard deviation 0.1.

    Returns:
        float32 `[n, B, H, W, C]` in [0, 1].

    Raises:
        ValueError: If `small` does not fit the model and the factor, if the method does not fit the
            model, if "map" has n above 1, or as `fit_latents`.

    Example:
        >>> data = zoo.datasets.load("digits", y="small:2")
        >>> model = zoo.models.cvae((8, 8, 1), condition="image", condition_size=2, latent_dim=2)
        >>> _, small = data.arrays("test", 3)
        >>> zoo.inference.super_resolve(model, small, 2, n=5, consistent=True, seed=0).shape
        TensorShape([5, 3, 8, 8, 1])
    """
    check_counts(n=n, batch_size=batch_size)
    small = _checked_small(model, small, factor)
    takes_small = conditions.factor(model) == factor
    by_name = {"conditional": _by_condition, "map": _by_latents}
    chosen = method or ("conditional" if takes_small else "map")
    if y is not None and takes_small:
        raise ValueError(
            "The condition of this model is the small image: leave `y` out. Received: `small` and `y`."
        )
    by_method = look_up(by_name, chosen, "method")
    if chosen == "conditional" and not takes_small:
        raise ValueError(
            "method='conditional' needs a model whose condition is a small image of shape "
            f"{small.shape[1:]}. Received: {with_article(type(model).__name__)} with another condition "
            "or none; method='map' needs only a decoder."
        )
    _check_options(chosen, fit_latents if chosen == "map" else by_method, options)
    condition = small if takes_small else y
    images = by_method(model, small, factor, condition, n, batch_size, seed, **options)
    if not consistent:
        return images
    flat = resizing.with_average(
        tf.reshape(images, [-1, *images.shape[2:]]), np.tile(small, (n, 1, 1, 1))
    )
    return tf.reshape(flat, images.shape)


def _batches(count, size):
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


# Arguments --------------------------------------------------------------------------------------


def _check_options(method, function, options):
    """Raises a `ValueError` unless the options of a method are keyword-only in its function."""
    parameters = inspect.signature(function).parameters.values()
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    known -= {"operator", "batch_size", "seed"}
    if unknown := sorted(options.keys() - known):
        raise ValueError(
            f"The options of method='{method}' are {', '.join(sorted(known)) or 'none'}. Received: "
            f"{unknown[0]}={options[unknown[0]]!r}."
        )


def _check_prior(model):
    if getattr(model, "prior", None) is None:
        raise ValueError(
            f"{with_article(type(model).__name__, True)} has no prior: pass weight=0 for the first "
            "term of the energy alone."
        )
    need_density(model.prior, "`fit_latents`, unless weight=0,", everywhere=True)


def _filled(model, x, seen):
    """Images `[B, H, W, C]` with means in place of hidden values, and the mask of the same shape."""
    x = np.asarray(x)
    # Only the type and the shape: hidden values may be invalid.
    model.check_images(tf.TensorSpec(x.shape, x.dtype))
    if not len(x):
        raise ValueError("Expected at least 1 image. Received: none.")
    mask = np.broadcast_to(True, x.shape) if seen is None else _checked_mask(seen, x.shape)
    images = chains.filled(x, mask).numpy()
    model.check_images(images)
    return images, mask


def _observed(x, seen):
    """Observations `[B, ...]` of images, and a mask of the same shape."""
    if seen is not None:
        raise ValueError(
            "`seen` hides values of images, and with an `operator` `x` are observations. Let the "
            "operator leave hidden values out. Received: both."
        )
    x = np.asarray(x)
    if not (x.ndim and len(x) and np.issubdtype(x.dtype, np.floating) and np.isfinite(x).all()):
        raise ValueError(
            "Expected finite float observations `x` of at least 1 image. "
            f"Received: {x.dtype.name} of shape {x.shape}."
        )
    return x.astype(np.float32), np.broadcast_to(True, x.shape)


def _checked_mask(seen, shape):
    seen = np.asarray(seen)
    batch, height, width, channels = shape
    valid = [(*lead, height, width, c) for lead in ((), (batch,)) for c in (1, channels)]
    wanted = f"[{height}, {width}, {channels}] or [{batch}, {height}, {width}, {channels}]"
    if seen.shape not in valid:
        raise ValueError(
            f"Expected the mask `seen` of shape {wanted}, or with one channel. "
            f"Received: shape {seen.shape}."
        )
    if not np.isin(seen, (0, 1)).all():
        raise ValueError(
            "Expected the mask `seen` of bools, or of 0 and 1. "
            f"Received: other values, of type {seen.dtype}."
        )
    return np.broadcast_to(seen.astype(bool), shape)


def _condition(model, count, y):
    """The condition of each image, `[B, ...]`, or `None`."""
    if model.condition is None or (y is None and model.condition_is_optional):
        return None
    y = model.conditions(count, y)
    if y.dtype.is_integer and (low := int(tf.reduce_min(y))) < 0:
        raise ValueError(
            "The likelihood depends on the label: pass the label of every image. "
            f"Received: labels from {low}."
        )
    return y


def _first_start(model, images, y, condition, start, batch_size, encodes=True):
    """The latents `[B, D]` of the first start; `None` for draws of the prior."""
    if start is not None:
        start = checked_data.latents(model, start)
        if start.shape.rank != 2 or start.shape[0] != len(images):
            raise ValueError(
                f"Expected `start` of shape [{len(images)}, D]. Received: {tuple(start.shape)}."
            )
        return start
    if not (encodes and model.can_encode):
        return None
    # An encoder may also read annotations other than the condition.
    given = condition
    if isinstance(y, Mapping) and condition is not None:
        given = {**y, model.condition_leaf: condition}
    batches = _batches(len(images), batch_size)
    try:
        codes = [model.encode(images[rows], conditions.rows_of(given, rows)) for rows in batches]
    except MissingInput:
        return None
    return tf.concat(codes, 0)


# Energy -----------------------------------------------------------------------------------------


def _energy(model, x, seen, y, hides, weight, scale, operator):
    """E, a function from `z[B, D]` to `[B]`. `hides` says whether `seen` may hide values."""
    prior = model.prior(y) if weight else None
    by_likelihood = scale is None and operator is None and chains.has_likelihood(model)

    def energy(z):
        if by_likelihood:
            p = model.likelihood(z, y)
            first = -(_log_prob_of_seen(p, x, seen) if hides else p.log_prob(x))
        else:
            found = model.decode(z, y)
            found = found if operator is None else _apply(operator, found, x.shape)
            errors = tf.where(seen, x - found, 0.0)
            axes = list(range(1, errors.shape.rank))
            first = tf.reduce_sum(errors**2, axes) / (2 * (scale or _SCALE) ** 2)
        return first - weight * prior.log_prob(z) if weight else first

    return energy


def _apply(operator, images, shape):
    observed = tf.convert_to_tensor(operator(images))
    if observed.shape[1:] != shape[1:]:
        raise ValueError(
            f"Expected an `operator` from images to observations of shape {['B', *shape[1:]]}, as `x`. "
            f"Received: observations of shape {['B', *observed.shape[1:]]}."
        )
    return observed


def _log_prob_of_seen(p, x, seen):
    """log p(x_seen), `[..., B]`, for images `[B, H, W, C]` and parameters `[..., B, H, W, C]`."""
    chains.check_independent(p, " Pass `scale` for a squared error.")
    return tf.reduce_sum(tf.where(seen, p.distribution.log_prob(x), 0.0), [-3, -2, -1])


def _minimiser(energy, z, x, y, steps, learning_rate):
    """A function of a start, images, mask and condition: the best latents and their energies."""
    like = [(z, tf.float32), (x, tf.float32), (x, tf.bool)]
    like += [] if y is None else [(y, y.dtype)]
    signature = [tf.TensorSpec([None, *part.shape[1:]], dtype) for part, dtype in like]

    # Traced once, for any size of the last batch.
    @tf.function(input_signature=signature, autograph=False)
    def minimise(start, x, seen, y=None):
        return descent.adam(energy(x, seen, y), start, steps, learning_rate)

    return minimise


# Super-resolution -------------------------------------------------------------------------------


def _checked_small(model, small, factor):
    small = np.asarray(small)
    expected = resizing.small_shape(model.image_shape, factor)
    if small.ndim != 4 or small.shape[1:] != expected or not len(small):
        raise ValueError(
            f"Expected small images of shape {['B', *expected]} for images of shape "
            f"{['B', *model.image_shape]} and factor={factor}. Received: shape {small.shape}."
        )
    if not (np.issubdtype(small.dtype, np.floating) and small.min() >= 0 and small.max() <= 1):
        raise ValueError(
            "Expected float small images in [0, 1]. "
            f"Received: {small.dtype.name} from {small.min()} to {small.max()}."
        )
    return small.astype(np.float32)


def _by_condition(model, small, factor, y, n, batch_size, seed):
    seed = as_seed(seed)
    image_of = np.tile(np.arange(len(small)), n)
    images = [
        model.sample(
            len(image_of[rows]),
            small[image_of[rows]],
            tf.random.experimental.stateless_fold_in(seed, i),
        )
        for i, rows in enumerate(_batches(len(image_of), batch_size))
    ]
    return tf.reshape(tf.concat(images, 0), [n, len(small), *model.image_shape])


def _by_latents(model, small, factor, y, n, batch_size, seed, **options):
    if n > 1:
        raise ValueError(
            "The most probable latents give one image: pass n=1, or a model whose condition is the "
            f"small image. Received: method='map' with n={n}."
        )
    condition = _condition(model, len(small), y)
    if options.get("start") is None:
        larger = resizing.bicubic(small, factor).numpy()
        options["start"] = _first_start(model, larger, y, condition, None, batch_size)
    options = {"scale": _SCALE / factor} | options
    operator = functools.partial(resizing.box_average, factor=factor)
    z, _ = fit_latents(
        model, small, y, operator=operator, batch_size=batch_size, seed=seed, **options
    )
    return _decoded(model, z, condition, batch_size)[None]


def _decoded(model, z, condition, batch_size):
    parts = [
        model.decode(z[rows], conditions.rows_of(condition, rows))
        for rows in _batches(len(z), batch_size)
    ]
    return tf.concat(parts, 0)


# Completions ------------------------------------------------------------------------------------


def _by_mode(model, x, seen, y, n, batch_size, seed, **options):
    if n > 1:
        raise ValueError(
            "The most probable latents give one completion: pass n=1, or a method that samples, such "
            f"as 'metropolis'. Received: method='map' with n={n}."
        )
    z, _ = fit_latents(model, x, y, seen, batch_size=batch_size, seed=seed, **options)
    images, mask = _filled(model, x, seen)
    condition = _condition(model, len(images), y)
    decoded = _decoded(model, z, condition, batch_size)
    return Completed(tf.where(mask, images, decoded)[None], z[None], None)


def _by_pseudo_gibbs(model, x, seen, y, n, batch_size, seed, *, steps=500, mean=True):
    check_counts(steps=steps)
    _check_parts(model, "pseudo_gibbs")
    given = (model, x, seen, y, n, batch_size, seed, mean)
    images, latents, _ = _ends(*given, steps, warm_up=steps, exact=False)
    return Completed(images, latents, None)


def _by_metropolis(
    model, x, seen, y, n, batch_size, seed, *, steps=500, warm_up=chains.WARM_UP, mean=True
):
    check_counts(warm_up=warm_up)
    check_counts(warm_up + 1, steps=steps)
    _check_parts(model, "metropolis")
    for part in (model.posterior, model.prior):
        need_density(part, "method='metropolis'", everywhere=True)
    return Completed(*_ends(model, x, seen, y, n, batch_size, seed, mean, steps, warm_up, True))


def _check_parts(model, method):
    if not chains.has_parts(model):
        raise ValueError(
            f"method='{method}' needs a posterior q(z | x), a likelihood p(x | z) with a density of "
            "images, and a prior, such as those of a VAE. Received: "
            f"{with_article(type(model).__name__)}; method='map' needs only a decoder."
        )


def _ends(model, x, seen, y, n, batch_size, seed, mean, steps, warm_up, exact):
    """The images, latents and acceptance at the ends of n chains for each image."""
    images, mask = _filled(model, x, seen)
    count, seed = len(images), as_seed(seed)
    condition = _condition(model, count, y)
    chain = _chain(model, images.shape[1:], condition, steps, warm_up, exact)
    image_of = np.tile(np.arange(count), n)
    ends = []
    for i, rows in enumerate(_batches(n * count, batch_size)):
        at = image_of[rows]
        own = None if condition is None else tf.gather(condition, at)
        here = tf.random.experimental.stateless_fold_in(seed, i)
        drawn, z, share = chain(images[at], mask[at], here, *(() if own is None else (own,)))
        if mean:
            drawn = tf.where(mask[at], images[at], model.decode(z, own))
        ends.append((drawn, z, share))
    joined = (tf.concat(parts, 0) for parts in zip(*ends, strict=True))
    return [tf.reshape(part, [n, count, *part.shape[1:]]) for part in joined]


def _chain(model, image_shape, condition, steps, warm_up, exact):
    """A function of images, mask, seed and condition: the ends of chains, and their acceptance.

    With `exact`, steps after the first `warm_up` are those of Metropolis-within-Gibbs; all other
    steps accept every proposal.
    """
    signature = [
        tf.TensorSpec([None, *image_shape]),
        tf.TensorSpec([None, *image_shape], tf.bool),
        tf.TensorSpec([2], tf.int32),
    ]
    if condition is not None:
        signature.append(tf.TensorSpec([None, *condition.shape[1:]], condition.dtype))

    # Traced once, for any size of the last batch.
    @tf.function(input_signature=signature, autograph=False)
    def run(x, seen, seed, y=None):
        return chains.ends(model, x, seen, y, seed, steps, warm_up, exact)

    return run


def _estimate_of_hidden(model, image_shape, condition, completions, num_samples):
    """A function of images, mask, completions, seeds and condition: see `log_prob_of_hidden`."""
    signature = [
        tf.TensorSpec([None, *image_shape]),
        tf.TensorSpec([None, *image_shape], tf.bool),
        tf.TensorSpec([completions, None, *image_shape]),
        tf.TensorSpec([2, 2], tf.int32),
    ]
    if condition is not None:
        signature.append(tf.TensorSpec([None, *condition.shape[1:]], condition.dtype))
    rounds = -(-num_samples // (completions + 1))

    @tf.function(input_signature=signature, autograph=False)
    def estimate(x, seen, filled, seeds, y=None):
        rows = tf.shape(x)[0]
        # One row for each completion of each image.
        every = tf.reshape(filled, [-1, *image_shape])
        ys = None if y is None else tf.tile(y, [completions] + [1] * (y.shape.rank - 1))

        def log_weight(seed):
            """The log of the mean weight of a draw from each component, `[B]`."""
            of_q, of_p = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
            q, p = model.posterior(every, ys), model.prior(y)
            drawn = tf.reshape(q.sample(seed=of_q), [completions, rows, model.latent_dim])
            z = tf.concat([drawn, model.prior.sample_for(x, y, of_p)[None]], 0)
            log_q = q.log_prob(tf.tile(z, [1, completions, 1]))
            log_q = tf.reshape(log_q, [completions + 1, completions, rows])
            log_p = p.log_prob(z)
            log_r = elbo.log_mean_exp(tf.concat([tf.transpose(log_q, [1, 0, 2]), log_p[None]], 0))
            log_seen = _log_prob_of_seen(model.likelihood(z, y), x, seen)
            return elbo.log_mean_exp(log_seen + log_p - log_r)

        draws = (completions + 1) * rounds
        of_all = elbo.importance_sampled(model, x, y, model.posterior(x, y), draws, seeds[0])
        return of_all - elbo.log_mean_weight(log_weight, rows, rounds, seeds[1])

    return estimate
