"""The evidence lower bound and its extensions by later papers: functions that all VAEs share.

Free bits: Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow", 2016.
https://arxiv.org/abs/1606.04934
Importance sampling of log p(x): Burda et al., "Importance Weighted Autoencoders", 2016.
https://arxiv.org/abs/1509.00519
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import extends
from zoo.contract import as_count
from zoo.distributions import (
    Conditional,
    DiagonalNormal,
    HierarchicalPosterior,
    HierarchicalPrior,
    by_name,
)
from zoo.distributions.part import described
from zoo.interfaces import context_shape
from zoo.model import as_seed
from zoo.models.parts import (
    IMPLICIT_POSTERIOR_SIZES,
    INTERNAL,
    autoencoder_parts,
    prior_part,
)
from zoo.networks import Condition
from zoo.schedules import LinearWarmUp, Schedule

tfd = tfp.distributions


class Terms(NamedTuple):
    """The terms of the bound at K draws of z, in nats: what `VAE.elbo_terms` returns.

    Attributes:
        q: q(z | x), with batch shape `[B]`.
        p: p(z), or p(z | y).
        z: K draws from q, `[K, B, D]`.
        distortion: -E_q[log p(x | z)], `[B]`.
        rate: KL(q(z | x) || p(z)), `[B]`: exact if its formula is known, else estimated at z.
        charged_rate: The term that replaces the rate in the loss, `[B]`: the rate with its weight
            and with free bits in training, the rate itself in evaluation.
    """

    q: tfd.Distribution
    p: tfd.Distribution
    z: tf.Tensor
    distortion: tf.Tensor
    rate: tf.Tensor
    charged_rate: tf.Tensor

    def reported(self) -> dict[str, tf.Tensor]:
        """The terms that every VAE reports: -(distortion + rate) is the bound."""
        return {"distortion": self.distortion, "rate": self.rate}


def mean_over_draws(values: tf.Tensor) -> tf.Tensor:
    """The mean over K of `[K, B]`. Values `[B]`, such as an exact KL, are returned unchanged."""
    return tf.reduce_mean(values, 0) if values.shape.rank > 1 else values


def log_mean_exp(values: tf.Tensor) -> tf.Tensor:
    """log (1/K) sum_k exp(values[k]), over the first axis."""
    count = tf.cast(tf.shape(values)[0], tf.float32)
    return tf.reduce_logsumexp(values, 0) - tf.math.log(count)


def check_free_bits(model: Any) -> None:
    """Checks that the rate of a model is a sum over latents, which `with_free_bits` needs.

    Args:
        model: A model with a `posterior` and a `prior`.

    Raises:
        ValueError: If the latents are not independent, or their KL has no formula.
    """
    x, y = tf.zeros([1, *(context_shape(model.posterior) or model.image_shape)]), None
    if (spec := model.condition) is not None:
        y = tf.zeros([1, *spec.shape[1:]], spec.dtype)
    received = f"{described(model.posterior)} and {described(model.prior)}"
    _rates_of_latents(model.posterior(x, y), model.prior(y), received)


def _rates_of_latents(q, p, received):
    """KL(q(z_j | x) || p(z_j)) of each latent j, `[..., D]`."""
    # Recognise `tfd.Independent` by its attribute: its class depends on the inner distribution.
    independent = all(hasattr(d, "reinterpreted_batch_ndims") for d in (q, p))
    if independent and not q.distribution.event_shape.rank:
        with contextlib.suppress(NotImplementedError):
            return tfd.kl_divergence(q.distribution, p.distribution)
    raise ValueError(
        "`free_bits` needs the KL of each latent dimension: use a posterior and a prior with "
        "independent latents, from families whose KL has a formula, such as 'normal'. "
        f"Received: {received}."
    )


def with_free_bits(q: tfd.Distribution, p: tfd.Distribution, free_bits: float) -> tf.Tensor:
    """The rate `[B]`, in which each latent dimension j has at least `free_bits` nats on average.

    Kingma et al., 2016, eq. 15, with one dimension as a group:

        sum_j max(free_bits, E_x[KL(q(z_j | x) || p(z_j))])

    The expectation is over the global minibatch. Each image's loss is a sum over dimensions: for a
    dimension whose mean KL is above `free_bits` it contains the image's own KL, for any other
    dimension `free_bits`. The mean of these losses and its gradient equal those of the paper.

    Raises:
        ValueError: If the latents of `q` or `p` are not independent, or their KL has no formula.
    """
    rates = _rates_of_latents(q, p, f"{type(q).__name__} and {type(p).__name__}")
    rates = tf.reduce_mean(rates, list(range(rates.shape.rank - 2)))  # [B, D]
    total = tf.reduce_sum(tf.stop_gradient(rates), 0)
    count = tf.cast(tf.shape(rates)[0], tf.float32)
    replicas = tf.distribute.get_replica_context()
    if replicas.num_replicas_in_sync > 1:
        total, count = replicas.all_reduce(tf.distribute.ReduceOp.SUM, [total, count])
    return tf.reduce_sum(tf.where(total / count > free_bits, rates, free_bits), -1)


def importance_sampled(
    model: Any, x: tf.Tensor, y: Any, q: tfd.Distribution, num_samples: int, seed: Any = None
) -> tf.Tensor:
    """log p(x) `[B]` by importance sampling from `q`: log (1/K) sum_k p(x, z_k) / q(z_k).

    In expectation the estimate is a lower bound, which rises to log p(x) as K grows (Burda et al.,
    2016, theorem 1).

    Args:
        model: A model with a `likelihood` and a `prior`.
        x, y: Images and their conditions.
        q: The proposal over `z[B, D]`.
        num_samples: K, an int, at least 1, or a scalar tensor.
        seed: An int or a `[2]` int tensor for repeatable draws; `None` for fresh ones.
    """
    p = model.prior(y)

    def log_weight(seed):
        z = q.sample(seed=seed)
        return model.likelihood(z, y).log_prob(x) + p.log_prob(z) - q.log_prob(z)

    estimate = log_mean_weight(log_weight, tf.shape(x)[0], num_samples, seed)
    return tf.ensure_shape(estimate, x.shape[:1])


def log_mean_weight(
    log_weight: Callable, rows: int | tf.Tensor, num_samples: int, seed: Any = None
) -> tf.Tensor:
    """log (1/K) sum_k exp(log_weight(seed_k)), `[rows]`, of K = `num_samples` draws.

    Args:
        log_weight: Function from a seed to the log of the weight of one draw, `[rows]`.
        rows: Number of rows.
        num_samples: K, an int, at least 1, or a scalar tensor.
        seed: An int or a `[2]` int tensor for repeatable draws; `None` for fresh ones.

    Raises:
        ValueError: If `num_samples` is below 1.
    """
    num_samples = as_count(num_samples, "num_samples")
    seed = as_seed(seed)

    def add_draw(k, largest, total):
        # One draw at a time: memory does not grow with K, and one batch keeps the device busy. The
        # sum is relative to its largest term, because in float32 a log of thousands of nats is too
        # coarse for the contributions of small terms.
        log_w = log_weight(tf.random.experimental.stateless_fold_in(seed, k))
        higher = tf.maximum(largest, log_w)
        total = total * tf.exp(largest - higher) + tf.exp(log_w - higher)
        return k + 1, higher, total

    start = tf.fill([rows], tf.float32.min)
    shape = tf.TensorShape([None])
    _, largest, total = tf.while_loop(
        lambda k, *_: k < num_samples,
        add_draw,
        (0, start, tf.zeros_like(start)),
        shape_invariants=(tf.TensorShape([]), shape, shape),
    )
    return largest + tf.math.log(total / tf.cast(num_samples, tf.float32))


def warm_up(steps: int) -> float | Schedule:
    """A `rate_weight` that rises from 0 to 1 in `steps` steps; the constant 1 if `steps` is 0."""
    return LinearWarmUp(steps) if steps else 1.0


@extends(autoencoder_parts, without=(*INTERNAL, *IMPLICIT_POSTERIOR_SIZES), latent_dim=20)
def parts(
    image_shape: Sequence[int],
    *,
    num_samples: int = 1,
    warm_up_steps: int = 0,
    free_bits: float = 0.0,
    condition: Condition | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The constructor arguments of a `VAE`, from plain values: the options of all ELBO builders.

    Args:
        image_shape: Height, width, channels.
        num_samples: Draws of z per image.
        warm_up_steps: Number of training steps in which the weight of the rate rises from 0 to 1.
        free_bits: Nats of rate per latent dimension without extra cost: see `with_free_bits`.
        condition: The condition that encoder and decoder take as their second input, or `None`.
        **options: Networks, posterior, likelihood and prior: the options of
            `zoo.models.parts.autoencoder_parts`.

    Raises:
        ValueError: If a name is unknown, or a part does not have an option.
    """
    return {
        **autoencoder_parts(
            image_shape, encoder_condition=condition, decoder_condition=condition, **options
        ),
        "num_samples": num_samples,
        "rate_weight": warm_up(warm_up_steps),
        "free_bits": free_bits,
    }


@extends(parts, without=("latent_dim", "network", "hidden", "filters", "activation", "condition"))
def two_layers(
    image_shape: Sequence[int],
    *,
    latent_dims: Sequence[int],
    upwards: bool,
    decoder: Callable[[int], keras.Model],
    first: Callable[[int], keras.Model],
    second: Callable[[int], keras.Model],
    between: Callable[[int], keras.Model],
    likelihood: str = "bernoulli",
    likelihood_scale: float = 1.0,
    levels: int = 256,
    start_at_mean: bool = True,
    posterior: str = "normal",
    posterior_steps: int = 0,
    posterior_hidden: Sequence[int] = (),
    num_samples: int = 1,
    warm_up_steps: int = 0,
    free_bits: float = 0.0,
    **prior: Any,
) -> dict[str, Any]:
    """The constructor arguments of a `VAE` with two layers of latents, for builders.

    The options are those of `parts`, without its networks, and:

    Args:
        image_shape: Height, width, channels.
        latent_dims: Dimensions of z1, next to the image, and of z2, the top layer.
        upwards: As for `zoo.HierarchicalPosterior`.
        decoder: Builds the network of p(x | z1, z2) from its number of parameters per value.
        first, second: Build the networks of the posterior's layers, in the order in which the
            layers are drawn, from a number of outputs.
        between: Builds the network of p(z1 | z2), a diagonal normal, from a number of outputs.

    Raises:
        ValueError: If `latent_dims` does not have two dimensions, a part has no density, the prior
            is a VampPrior, or as for `parts`.
    """
    if len(latent_dims) != 2:
        raise ValueError(
            f"`latent_dims` are the dimensions of two layers. Received: {tuple(latent_dims)}."
        )
    if prior.get("prior") == "vamp":
        raise ValueError(
            "A VampPrior is a mixture of the model's posterior q(z | x), and a model of two layers "
            "has no posterior of the top layer alone: choose another prior. Received: prior='vamp'."
        )
    by_name.check_density(posterior, "A model with two layers of latents")
    bottom, top = latent_dims
    family = by_name.likelihood(likelihood, levels, likelihood_scale)
    likelihood_part = Conditional(decoder(family.params_per_value), family)
    sizes: dict[str, Any] = {"steps": posterior_steps, "hidden": posterior_hidden}
    dims = (bottom, top) if upwards else (top, bottom)
    first_layer = by_name.posterior(posterior, dims[0], first, **sizes)
    second_layer = by_name.posterior(posterior, dims[1], second, **sizes)
    return {
        "posterior": HierarchicalPosterior(first_layer, second_layer, upwards),
        "likelihood": likelihood_part,
        "prior": HierarchicalPrior(
            prior_part(image_shape, latent_dim=top, **prior),
            Conditional(between(2 * bottom), DiagonalNormal()),
        ),
        "start_at_mean": start_at_mean,
        "num_samples": num_samples,
        "rate_weight": warm_up(warm_up_steps),
        "free_bits": free_bits,
    }
