"""Chains that complete images of which some values are hidden, for models with the parts of a VAE.

`zoo.inference.complete` describes the methods, and runs the chains. Exported models run them too.
"""

from typing import Any

import tensorflow as tf

from zoo.distributions import Completion, Conditional, Family
from zoo.draws import uniform

WARM_UP = 10
"""Number of first steps of a Metropolis-within-Gibbs chain that accept every proposal, by default."""


def has_likelihood(model: Any) -> bool:
    """Whether the model has a density of images; M1+M2's `likelihood` is one of codes."""
    part = getattr(model, "likelihood", None)
    if part is None or part.event_shape not in (None, tuple(model.image_shape)):
        return False
    return part.has_density_everywhere


def has_parts(model: Any) -> bool:
    """Whether the model has a posterior, a density of images, and a prior."""
    has_posterior = model.can_encode and hasattr(model, "posterior")
    return has_posterior and has_likelihood(model) and hasattr(model, "prior")


def can_sample_conditional(model: Any) -> bool:
    """Whether Metropolis-within-Gibbs chains apply to the model: see `zoo.inference.complete`.

    The parts need densities everywhere, and the values of an image must be independent given z. For
    other likelihood classes than `Conditional` and `Completion`, independence is unknown before a call,
    so the answer is false.
    """
    if not has_parts(model) or type(model.likelihood) not in (Conditional, Completion):
        return False
    # Families over vectors override `num_params`, because their values are dependent.
    independent = type(model.likelihood.family).num_params is Family.num_params
    return independent and all(p.has_density_everywhere for p in (model.posterior, model.prior))


def filled(x: Any, seen: Any) -> tf.Tensor:
    """Images whose hidden values are the mean of the image's seen values of that channel, or 0.5.

    Args:
        x: Images `[B, H, W, C]`; hidden values may be any numbers.
        seen: Which values are seen, bools `[B, H, W, C]`.
    """
    x = tf.where(seen, tf.cast(x, tf.float32), 0.0)
    count = tf.reduce_sum(tf.cast(seen, tf.float32), [1, 2], keepdims=True)
    total = tf.reduce_sum(x, [1, 2], keepdims=True)
    mean = tf.where(count > 0, total / tf.maximum(count, 1.0), 0.5)
    return tf.where(seen, x, tf.clip_by_value(mean, 0.0, 1.0))


def check_independent(p: Any, instead: str = "") -> None:
    """Checks that the values of an image are independent under a likelihood p(x | z).

    Raises:
        ValueError: If they are dependent. The message ends with `instead`.
    """
    # Recognise `tfd.Independent` by its attribute: its class depends on the inner distribution.
    if not hasattr(p, "reinterpreted_batch_ndims") or p.distribution.event_shape.rank:
        raise ValueError(
            "`seen` needs a likelihood under which the values of an image are independent given z, "
            f"such as Bernoulli. Received: a {type(p).__name__}.{instead}"
        )


def ends(
    model: Any,
    x: tf.Tensor,
    seen: tf.Tensor,
    y: Any,
    seed: tf.Tensor,
    steps: int | tf.Tensor,
    warm_up: int | tf.Tensor,
    exact: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The ends of a chain for each image, in a graph.

    Args:
        model: A model with the parts that `can_sample_conditional` checks.
        x: Images `[B, H, W, C]`; their hidden values are the start.
        seen: Which values are seen, bools `[B, H, W, C]`.
        y: A condition for each image, or `None`.
        seed: Ints `[2]`.
        steps: Number of steps.
        warm_up: Number of first steps that accept every proposal.
        exact: Whether the other steps are those of Metropolis-within-Gibbs; otherwise they accept
            every proposal too.

    Returns:
        Images with the last draws of the hidden values, `[B, H, W, C]`; their latents `[B, D]`; and the
        share of accepted proposals after the warm-up, `[B]`.
    """
    rows = tf.shape(x)[0]

    # Distributions are made and used inside of the step: TFP's cache of bijectors does not work
    # across the border of a loop.
    def step(t, x, z, log_joint, accepted):
        here = tf.random.experimental.stateless_fold_in(seed, t)
        of_z, of_choice, of_x = tf.unstack(tf.random.experimental.stateless_split(here, 3))
        q = model.posterior(x, y)
        proposal = tf.ensure_shape(q.sample(seed=of_z), z.shape)
        if exact:
            p_z = model.prior(y)
            log_new = model.likelihood(proposal, y).log_prob(x) + p_z.log_prob(proposal)
            ratio = log_new - log_joint + q.log_prob(z) - q.log_prob(proposal)
            accepts = tf.math.log(uniform([rows], of_choice)) < ratio  # False for NaN.
            accepted += tf.cast(accepts & (t >= warm_up), tf.float32)
            z = tf.where((accepts | (t < warm_up))[:, None], proposal, z)
        else:
            z = proposal
        p = model.likelihood(z, y)
        check_independent(p)
        x = tf.where(seen, x, tf.ensure_shape(p.sample(seed=of_x), x.shape))
        if exact:
            log_joint = p.log_prob(x) + p_z.log_prob(z)
        return t + 1, x, z, log_joint, accepted

    zeros = tf.zeros([rows])
    state = (0, x, tf.zeros([rows, model.latent_dim]), zeros, zeros)
    _, x, z, _, accepted = tf.while_loop(lambda t, *_: t < steps, step, state)
    return x, z, accepted / tf.cast(tf.maximum(steps - warm_up, 1), tf.float32)
