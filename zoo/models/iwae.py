"""Importance-weighted autoencoder.

Burda et al., "Importance Weighted Autoencoders", 2016. https://arxiv.org/abs/1509.00519
Tucker et al., "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives", 2019.
https://arxiv.org/abs/1810.04152
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.config import extends
from zoo.distributions import Conditional, Prior, need_density
from zoo.models import elbo
from zoo.models.vae import VAE, vae
from zoo.schedules import Schedule


@keras.saving.register_keras_serializable("zoo")
class IWAE(VAE):
    """Maximises E[log (1/K) sum_k w_k], w_k = p(x, z_k) / q(z_k | x), with K draws from q.

    The bound is that of Burda et al., section 3. For K = 1 it is the ELBO, and as K grows it rises
    to log p(x) (theorem 1). The bound contains no exact KL: log w_k = log p(x | z_k) + log p(z_k) -
    log q(z_k | x). The means over k of the two parts of -log w_k are reported as `distortion` and
    `rate`. Their sum, the loss of a `VAE` with K draws, is never below the loss. (The paper's "VAE"
    with k samples is `VAE(..., num_samples=k)` here.)

    In Burda et al.'s gradient, the gradients of log w_k have the normalised weights
    v_k = w_k / sum_j w_j. The signal-to-noise ratio of the encoder's gradient falls with K. Tucker
    et al.'s estimator (IWAE-DReG) has the same expectation and a smaller variance: the encoder's gradient is
    sum_k v_k^2 (d log w_k / d z_k) (d z_k / d encoder), which is 0 at the exact posterior. Decoder
    and prior have Burda et al.'s gradient in both cases.

    With a `rate_weight` of b, the weights in training are p(x | z) (p(z) / q(z | x))^b; by the same
    derivation, the factor v_k^2 of the doubly reparameterised gradient becomes
    v_k (1 - b (1 - v_k)).

    Args:
        posterior, likelihood, prior: As for `VAE`; the posterior's draws must be reparameterised.
        num_samples: K, at least 1.
        doubly_reparameterised: Whether to use Tucker et al.'s gradient. It needs a posterior whose
            density is known at any z.
        **kwargs: As for `VAE`, without `free_bits`: the bound has no KL.

    Raises:
        ValueError: If `num_samples` is out of range, `free_bits` is set, or the posterior lacks the
            density that `doubly_reparameterised` needs.

    Example:
        >>> parts = zoo.models.elbo.parts((8, 8, 1), latent_dim=2, num_samples=5)
        >>> model = zoo.IWAE(**parts, doubly_reparameterised=True)
    """

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        num_samples: int = 5,
        doubly_reparameterised: bool = False,
        rate_weight: float | Schedule = 1.0,
        **kwargs: Any,
    ):
        super().__init__(posterior, likelihood, prior, num_samples, rate_weight, **kwargs)
        if self.free_bits:
            raise ValueError(
                "The importance-weighted bound contains no KL, so `free_bits` has no effect: leave "
                f"it out. Received: free_bits={self.free_bits}."
            )
        if doubly_reparameterised:
            need_density(posterior, "the doubly reparameterised gradient", everywhere=True)
        self.doubly_reparameterised = doubly_reparameterised

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        q, z = self.draw_latents(x, y, seed, training)
        p, rate_weight = self.prior(y, training=training), self.weight_of_rate(training)

        def terms_at(z):
            distortion = -self.likelihood(z, y, training=training).log_prob(x)
            return distortion, q.log_prob(z), p.log_prob(z)  # [K, B] each

        if self.doubly_reparameterised and training:
            leaf = tf.stop_gradient(z)
            with tf.GradientTape() as tape:
                tape.watch(leaf)
                distortion, log_q, log_p = terms_at(leaf)
                log_w = -distortion - rate_weight * (log_q - log_p)
            slopes = tf.stop_gradient(tape.gradient(log_w, leaf))
            v = tf.stop_gradient(tf.nn.softmax(log_w, 0))
            weights = v * (1 - rate_weight * (1 - v))
            # The gradients of these terms are the estimator; the value of the loss is the bound.
            to_encoder = tf.reduce_sum(weights[..., None] * slopes * z, [0, -1])
            to_others = tf.reduce_sum(v * (rate_weight * log_p - distortion), 0)
            gradient = to_encoder + to_others
            bound = tf.stop_gradient(elbo.log_mean_exp(log_w) - gradient) + gradient
        else:
            distortion, log_q, log_p = terms_at(z)
            bound = elbo.log_mean_exp(-distortion - rate_weight * (log_q - log_p))
        terms = {
            "distortion": tf.reduce_mean(distortion, 0),
            "rate": tf.reduce_mean(log_q - log_p, 0),
        }
        return {"vae": -bound}, terms


@extends(vae, latent_dim=50, hidden=(200, 200), activation="tanh", num_samples=5)
def iwae(
    image_shape: Sequence[int], *, doubly_reparameterised: bool = False, **options: Any
) -> IWAE:
    """An `IWAE`, by default with the paper's one-layer networks. It has the options of `vae`, and:

    Args:
        doubly_reparameterised: Whether to use the gradient of Tucker et al.

    Notes:
        The paper draws 1, 5 or 50 samples. The scales of its posterior are exp(output), here
        softplus(output). The bias of its decoder's output is initialised with the logits of the
        mean image, as here: see `zoo.mean_start`.
    """
    parts = elbo.parts(image_shape, **options)
    return IWAE(**parts, doubly_reparameterised=doubly_reparameterised)
