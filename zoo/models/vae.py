"""Variational autoencoder.

Kingma and Welling, "Auto-Encoding Variational Bayes", 2014. https://arxiv.org/abs/1312.6114
Rezende et al., "Stochastic Backpropagation and Approximate Inference in Deep Generative Models",
2014. https://arxiv.org/abs/1401.4082
"""

import contextlib
import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.distributions import (
    Conditional,
    Prior,
    kl,
    latent_prior,
    likelihood_family,
    posterior_family,
)
from zoo.model import GenerativeModel, as_images, as_seed
from zoo.schedules import LinearWarmUp, Schedule, check_weight, value_at

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class VAE(GenerativeModel):
    """Maximises the ELBO, E_q[log p(x | z)] - KL(q(z | x) || p(z)).

    Kingma and Welling's eq. 7, with L = `num_samples` draws of z. The two terms are reported as
    `distortion` and `rate`, in nats per image: summed over pixels and latents, so that -loss is a
    lower bound on log p(x). The KL is exact where a formula is known (the paper's appendix B for
    two normals), else its estimate at the same z.

    In training the rate may be charged otherwise: by `rate_weight`, which rises from 0 to 1 for a
    warm-up (`zoo.schedules`), and with `free_bits`. In evaluation it always counts once, so that
    the loss of validation data is the negative ELBO.

    Free bits are those of Kingma et al., "Improving Variational Inference with Inverse
    Autoregressive Flow", 2016, eq. 15, a group being one latent dimension j:

        E_x[distortion] + sum_j max(free_bits, E_x[KL(q(z_j | x) || p(z_j))])

    with means over the minibatch, all replicas' parts of it. As a loss per image: a dimension whose
    mean is above `free_bits` costs an image its own KL, any other costs `free_bits`; the mean of
    these losses, and its gradient, are exactly the paper's. https://arxiv.org/abs/1606.04934

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`.
        likelihood: p(x | z), a `Conditional` on `z[..., B, D]`, over `x[..., B, H, W, C]`.
        prior: p(z), a `Prior` over `z[D]`.
        num_samples: Draws of z per image, at least 1, over which the bound is averaged.
        rate_weight: What the rate is multiplied by in training, a number from 0 on or a
            `zoo.schedules.Schedule`.
        free_bits: Nats of rate per latent dimension that cost nothing extra, from 0 on. It needs a
            KL for each dimension, so independent latents in posterior and prior.

    Raises:
        ValueError: If a number is out of range, or, in training, for free bits of latents that are
            not independent.

    Example:
        >>> model = zoo.VAE(
        ...     zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 2 * 5), zoo.DiagonalNormal()),
        ...     zoo.Conditional(zoo.networks.mlp_decoder(5, (8, 8, 1)), zoo.Bernoulli()),
        ...     zoo.StandardNormal(5),
        ... )
        >>> model.compile("adam")
        >>> x, _ = zoo.datasets.load("digits", binarize="fixed").arrays("train")
        >>> history = model.fit(x, epochs=2, verbose=0)
        >>> model.sample(3).shape
        TensorShape([3, 8, 8, 1])
    """

    terms = ("distortion", "rate")

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        num_samples: int = 1,
        rate_weight: float | Schedule = 1.0,
        free_bits: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not num_samples >= 1:
            raise ValueError(f"`num_samples` must be at least 1. Received: {num_samples}.")
        check_weight(rate_weight, "rate_weight")
        if not 0 <= free_bits < math.inf:
            raise ValueError(f"`free_bits` must be a number from 0 on. Received: {free_bits}.")
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior
        self.prior.bind(self.posterior)
        self.num_samples = num_samples
        self.rate_weight = rate_weight
        self.free_bits = free_bits

    def players(self):
        return {"vae": [self.posterior, self.likelihood, self.prior]}

    def objective(self, x, y, seed, training):
        q, z = self.draw(x, y, seed, training)
        p = self.prior(y, training=training)
        distortion = -mean_over_draws(self.likelihood(z, y, training=training).log_prob(x))
        rate = mean_over_draws(kl(q, p, z))
        charged = with_free_bits(q, p, self.free_bits) if training and self.free_bits else rate
        loss = distortion + self.charge(charged, training)
        return {"vae": loss}, {"distortion": distortion, "rate": rate}

    def draw(self, x, y, seed, training):
        """q(z | x), and `num_samples` draws of it, `[K, B, D]`."""
        q = self.posterior(x, y, training=training)
        return q, q.sample(self.num_samples, seed=seed)

    def charge(self, rate, training):
        """What the loss charges for a rate."""
        return self.weight_of_rate(training) * rate

    def weight_of_rate(self, training):
        """`rate_weight` at the present step in training, and 1 outside of it."""
        return value_at(self.rate_weight, self.step) if training else 1.0

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.likelihood(z, self.condition_for(z, y, 2)).mean())

    def log_prob(self, x, num_samples: int = 100, y=None, seed=None) -> tf.Tensor:
        """log p(x) `[B]` in nats, estimated with `num_samples` importance samples from q(z | x).

        log (1/K) sum_k p(x, z_k) / q(z_k | x): in expectation a lower bound that rises with K to
        log p(x) (Burda et al., "Importance Weighted Autoencoders", 2016, theorem 1).
        https://arxiv.org/abs/1509.00519

        For many samples call it in a `tf.function`, as `zoo.metrics.negative_log_likelihood` does.
        """
        x = self._images(x)
        y = self.condition_for(x, y)
        return self.importance_sampled(x, y, self.posterior(x, y), num_samples, seed)

    def importance_sampled(self, x, y, q, num_samples, seed=None) -> tf.Tensor:
        """`log_prob` with draws from any distribution `q` over `z[B, D]` as wide as the posterior."""
        p = self.prior(y)

        def log_weight(seed):
            z = q.sample(seed=seed)
            return self.likelihood(z, y).log_prob(x) + p.log_prob(z) - q.log_prob(z)

        estimate = log_mean_weight(log_weight, tf.shape(x)[0], num_samples, seed)
        return tf.ensure_shape(estimate, x.shape[:1])


def log_mean_weight(log_weight: Callable, rows, num_samples, seed=None) -> tf.Tensor:
    """log (1/K) sum_k exp(log_weight(seed_k)), `[rows]`, of K = `num_samples` draws.

    Args:
        log_weight: From a seed to the log of one draw's weight, `[rows]`.
        rows: Their number.
        num_samples: K, an int, at least 1, or a tensor.
        seed: An int or a `[2]` int tensor for repeatable draws; `None` for fresh ones.
    """
    if isinstance(num_samples, int) and num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1. Received: {num_samples}.")
    seed = as_seed(seed)

    def another(k, largest, total):
        # One sample at a time: memory does not grow with K, and a batch fills the machine. The
        # sum is kept relative to its largest term: its log would lose what float32 cannot add
        # to thousands of nats.
        here = log_weight(tf.random.experimental.stateless_fold_in(seed, k))
        higher = tf.maximum(largest, here)
        total = total * tf.exp(largest - higher) + tf.exp(here - higher)
        return k + 1, higher, total

    start = tf.fill([rows], tf.float32.min)
    shape = tf.TensorShape([None])
    _, largest, total = tf.while_loop(
        lambda k, *_: k < num_samples,
        another,
        (0, start, tf.zeros_like(start)),
        shape_invariants=(tf.TensorShape([]), shape, shape),
    )
    return largest + tf.math.log(total / tf.cast(num_samples, tf.float32))


def mean_over_draws(values: tf.Tensor) -> tf.Tensor:
    """The mean of `[K, B]` over K; what is `[B]` already, such as an exact KL, stays."""
    return tf.reduce_mean(values, 0) if values.shape.rank > 1 else values


def with_free_bits(q, p, free_bits: float) -> tf.Tensor:
    """The rates `[B]` with `free_bits` nats for each dimension: see `VAE`."""
    rates = None
    # By what `tfd.Independent` alone has; its class differs with the class of what is inside.
    if all(hasattr(d, "reinterpreted_batch_ndims") for d in (q, p)):
        with contextlib.suppress(NotImplementedError):
            rates = tfd.kl_divergence(q.distribution, p.distribution)
    if rates is None or q.distribution.event_shape.rank:
        raise ValueError(
            "`free_bits` needs the KL of each latent dimension: a posterior and a prior whose "
            "latents are independent, and of families whose KL is known. "
            f"Received: {q.name} and {p.name}."
        )
    rates = tf.reduce_mean(rates, list(range(rates.shape.rank - 2)))  # [B, D]
    total = tf.reduce_sum(tf.stop_gradient(rates), 0)
    count = tf.cast(tf.shape(rates)[0], tf.float32)
    replicas = tf.distribute.get_replica_context()
    if replicas.num_replicas_in_sync > 1:
        total, count = replicas.all_reduce(tf.distribute.ReduceOp.SUM, [total, count])
    return tf.reduce_sum(tf.where(total / count > free_bits, rates, free_bits), -1)


def warm_up(steps: int) -> float | Schedule:
    """The `rate_weight` that rises from 0 to 1 in `steps` steps; of 0 steps, 1 from the start."""
    return LinearWarmUp(steps) if steps else 1.0


def vae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    hidden: Sequence[int] = (500,),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
    num_samples: int = 1,
    warm_up_steps: int = 0,
    free_bits: float = 0.0,
    posterior: str = "normal",
    posterior_steps: int = 0,
    posterior_hidden: Sequence[int] = (),
    prior: str = "normal",
    prior_steps: int = 0,
    prior_hidden: Sequence[int] = (),
    prior_components: int = 0,
) -> VAE:
    """A `VAE` of multilayer perceptrons.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        hidden: The encoder's; the decoder's mirrors it.
        activation: Of the hidden layers.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic" and "categorical".
        num_samples: Draws of z per image.
        warm_up_steps: Training steps in which the weight of the rate rises from 0 to 1.
        free_bits: Nats of rate per latent dimension that cost nothing extra.
        posterior: Name of the family of q(z | x): see `zoo.distributions.posterior_family`.
        posterior_steps: Steps of the posteriors "iaf" and "planar"; 0 for their default.
        posterior_hidden: Hidden units of each step of "iaf"; () for its default.
        prior: Name of p(z): see `zoo.distributions.latent_prior`.
        prior_steps: Steps of the priors "realnvp" and "maf"; 0 for their default.
        prior_hidden: Hidden units of each step of "realnvp" and "maf"; () for their default.
        prior_components: Components of "mixture", pseudo-inputs of "vamp"; 0 for their default.

    Raises:
        ValueError: For names that there are not, a size that a part does not have, or a posterior
            and a prior that do not go together.
    """
    q = posterior_family(posterior, latent_dim, posterior_steps, posterior_hidden)
    p = latent_prior(prior, latent_dim, image_shape, prior_steps, prior_hidden, prior_components)
    family = likelihood_family(likelihood, levels)
    decoder = networks.mlp_decoder(
        latent_dim, image_shape, family.params_per_value, hidden[::-1], activation
    )
    return VAE(
        Conditional(
            networks.mlp_encoder(image_shape, q.num_params(latent_dim), hidden, activation), q
        ),
        Conditional(decoder, family),
        p,
        num_samples=num_samples,
        rate_weight=warm_up(warm_up_steps),
        free_bits=free_bits,
    )


def vae_conv(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    likelihood: str = "bernoulli",
    levels: int = 256,
    num_samples: int = 1,
    warm_up_steps: int = 0,
    free_bits: float = 0.0,
    posterior: str = "normal",
    posterior_steps: int = 0,
    posterior_hidden: Sequence[int] = (),
    prior: str = "normal",
    prior_steps: int = 0,
    prior_hidden: Sequence[int] = (),
    prior_components: int = 0,
) -> VAE:
    """A convolutional `VAE`; `filters` are the encoder's, the decoder's mirror them.

    The other arguments are those of `vae_mlp`.
    """
    q = posterior_family(posterior, latent_dim, posterior_steps, posterior_hidden)
    p = latent_prior(prior, latent_dim, image_shape, prior_steps, prior_hidden, prior_components)
    family = likelihood_family(likelihood, levels)
    decoder = networks.conv_decoder(
        latent_dim, image_shape, family.params_per_value, filters[::-1], hidden
    )
    return VAE(
        Conditional(
            networks.conv_encoder(image_shape, q.num_params(latent_dim), filters, hidden), q
        ),
        Conditional(decoder, family),
        p,
        num_samples=num_samples,
        rate_weight=warm_up(warm_up_steps),
        free_bits=free_bits,
    )
