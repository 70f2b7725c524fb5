"""Importance weighted autoencoder.

Burda et al., "Importance Weighted Autoencoders", 2016. https://arxiv.org/abs/1509.00519
Tucker et al., "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives", 2019.
https://arxiv.org/abs/1810.04152
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo.distributions import Conditional, Prior
from zoo.models.vae import VAE, vae_mlp, warm_up
from zoo.schedules import Schedule


@keras.saving.register_keras_serializable("zoo")
class IWAE(VAE):
    """Maximises E[log (1/K) sum_k w_k], w_k = p(x, z_k) / q(z_k | x), with K draws from q.

    Burda et al., section 3. With K = 1 it is the ELBO, and with K it rises to log p(x) (theorem 1).
    No exact KL enters: log w_k = log p(x | z_k) + log p(z_k) - log q(z_k | x) at each draw. The
    means over k of the parts of -log w_k are reported as `distortion` and `rate`; their sum, the
    loss of a `VAE` of K draws, is never less than the loss. (The paper's "VAE" with k samples is
    `VAE(..., num_samples=k)`, here.)

    Burda et al.'s gradient weighs the slopes of log w_k by the normalised weights
    v_k = w_k / sum_j w_j. What the encoder learns from it becomes all noise with many draws.
    Tucker et al.'s (their IWAE-DReG) has the same expectation, and less noise: the encoder gets
    sum_k v_k^2 (d log w_k / d z_k) (d z_k / d encoder), which is 0 at the exact posterior. Decoder
    and prior get Burda et al.'s in both cases.

    With a `rate_weight` of b the draws are weighed by p(x | z) (p(z) / q(z | x))^b in training; the
    doubly reparameterised gradient's v_k^2 is then v_k (1 - b (1 - v_k)), by the same derivation.

    Args:
        posterior, likelihood, prior: As for `VAE`; the posterior's draws must be reparameterised.
        num_samples: K, at least 1.
        doubly_reparameterised: Whether to use Tucker et al.'s gradient. It needs a posterior whose
            density is known at any z.
        **kwargs: As for `VAE`, but for `free_bits`: the bound has no KL to be floored.

    Raises:
        ValueError: If `num_samples` is out of range, for free bits, or for a posterior that does
            not suit the gradient.

    Example:
        >>> iwae = zoo.IWAE(model.posterior, model.likelihood, model.prior, num_samples=5)
        >>> iwae.compile("adam")
    """

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        num_samples: int = 5,
        doubly_reparameterised: bool = False,
        rate_weight: float | Schedule = 1.0,
        **kwargs,
    ):
        super().__init__(
            posterior, likelihood, prior, num_samples, rate_weight=rate_weight, **kwargs
        )
        if self.free_bits:
            raise ValueError(
                "The importance weighted bound has no KL that free bits could be a floor of. "
                f"Received: free_bits={self.free_bits}."
            )
        family = getattr(posterior, "family", None)
        if doubly_reparameterised and not getattr(family, "has_density_everywhere", True):
            raise ValueError(
                "The doubly reparameterised gradient needs the posterior's density at any z. "
                f"Received: the family {type(family).__name__}, which has it at its own draws only."
            )
        self.doubly_reparameterised = doubly_reparameterised

    def objective(self, x, y, seed, training):
        q, z = self.draw(x, y, seed, training)
        p, weight = self.prior(y, training=training), self.weight_of_rate(training)

        def terms_at(z):
            distortion = -self.likelihood(z, y, training=training).log_prob(x)
            return distortion, q.log_prob(z), p.log_prob(z)  # [K, B] each

        if self.doubly_reparameterised and training:
            leaf = tf.stop_gradient(z)
            with tf.GradientTape() as tape:
                tape.watch(leaf)
                distortion, log_q, log_p = terms_at(leaf)
                log_weights = -distortion - weight * (log_q - log_p)
            slopes = tf.stop_gradient(tape.gradient(log_weights, leaf))
            shares = tf.stop_gradient(tf.nn.softmax(log_weights, 0))
            pull = shares * (1 - weight * (1 - shares))
            # Numbers that have the gradients wanted; the loss's value is the bound's.
            to_encoder = tf.reduce_sum(pull[..., None] * slopes * z, [0, -1])
            to_others = tf.reduce_sum(shares * (weight * log_p - distortion), 0)
            gradient = to_encoder + to_others
            bound = tf.stop_gradient(log_mean_exp(log_weights) - gradient) + gradient
        else:
            distortion, log_q, log_p = terms_at(z)
            bound = log_mean_exp(-distortion - weight * (log_q - log_p))
        rate = log_q - log_p
        terms = {"distortion": tf.reduce_mean(distortion, 0), "rate": tf.reduce_mean(rate, 0)}
        return {"vae": -bound}, terms


def log_mean_exp(values: tf.Tensor) -> tf.Tensor:
    """log (1/K) sum_k exp(values[k]), over the first axis."""
    return tf.reduce_logsumexp(values, 0) - math.log(values.shape[0])


def iwae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 50,
    hidden: Sequence[int] = (200, 200),
    activation: str = "tanh",
    likelihood: str = "bernoulli",
    levels: int = 256,
    num_samples: int = 5,
    doubly_reparameterised: bool = False,
    warm_up_steps: int = 0,
) -> IWAE:
    """An `IWAE` of multilayer perceptrons, of the paper's sizes.

    The paper's posterior has scales exp(output) where ours has softplus(output), and the bias of
    its decoder's output starts at the logits of the mean image, ours at 0.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        hidden: The encoder's; the decoder's mirrors it.
        activation: Of the hidden layers.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic".
        num_samples: Draws of z per image, 1, 5 or 50 in the paper.
        doubly_reparameterised: Whether to use the gradient of Tucker et al.
        warm_up_steps: Training steps in which the weight of the rate rises from 0 to 1.
    """
    parts = vae_mlp(
        image_shape, latent_dim, hidden, activation, likelihood=likelihood, levels=levels
    )
    return IWAE(
        parts.posterior,
        parts.likelihood,
        parts.prior,
        num_samples,
        doubly_reparameterised,
        rate_weight=warm_up(warm_up_steps),
    )
