"""InfoVAE, and with it the MMD-VAE.

Zhao et al., "InfoVAE: Balancing Learning and Inference in Variational Autoencoders", 2019.
https://arxiv.org/abs/1706.02262
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo.discrepancies import RBF, Kernel, kernel_named, mmd_to_prior
from zoo.distributions import Conditional, Prior, kl
from zoo.models.vae import VAE, mean_over_draws, vae_conv, vae_mlp, with_free_bits


@keras.saving.register_keras_serializable("zoo")
class InfoVAE(VAE):
    """A `VAE` that also draws the aggregate posterior q(z) = E_x q(z | x) to the prior.

    Minimises the negative of the paper's InfoVAE objective,

        distortion + (1 - alpha) rate + (alpha + lambda - 1) D(q(z), p(z)),

    where D is a divergence of one's choice, here the squared maximum mean discrepancy ("MMD-VAE"
    is the paper's name for it). alpha = 1 leaves out the KL of each image's posterior, so that
    nothing keeps z from telling of x; alpha = 0, lambda = 1 is the VAE; alpha = 1 - b, lambda = b
    the beta-VAE with beta = b.

    D is estimated from the minibatch, all replicas' parts of it: its codes, one draw for each
    image, against as many draws of the prior. Several draws (`num_samples`) are several estimates,
    which are averaged: two codes of one image are no independent draws of q(z).

    The paper leaves kernel and estimator open. The authors' script (MMD-Variational-Autoencoder)
    has a deterministic encoder, squared errors averaged over pixels, the V-statistic and the kernel
    exp(-|z - z'|^2 / D^2), which is nearly 1 everywhere for large D. Here the posterior is
    stochastic as in the paper, the distortion is summed, and the kernel is as wide as the prior for
    any D; `zoo.WAE` is the deterministic model. A weight that suits is larger than in the script by
    about the number of pixels.

    `distortion` and `rate` are reported as they are, so that -(distortion + rate) remains the ELBO;
    `discrepancy` is D. With `unbiased` it can be negative.

    Args:
        posterior, likelihood: As for `VAE`.
        prior: p(z), a `Prior` over `z[D]`. If it learns, its draws must be differentiable.
        alpha: Preference for information in z, at most 1.
        lambda_: The paper's lambda, at least 1 - alpha.
        kernel: A `zoo.discrepancies.Kernel`; `RBF()`, of bandwidth sqrt(D), if `None`.
        unbiased: Whether D's estimate leaves out the pairs of a point with itself.
        **kwargs: As for `VAE`. `rate_weight` and `free_bits` change the rate before (1 - alpha)
            multiplies it.

    Raises:
        ValueError: If a number is out of range; in training for a prior that learns and whose draws
            are not differentiable, and as `VAE` does.

    Example:
        >>> mmd_vae = zoo.InfoVAE(model.posterior, model.likelihood, model.prior, 1.0, 100.0)
        >>> mmd_vae.compile("adam")
    """

    terms = (*VAE.terms, "discrepancy")

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        alpha: float = 1.0,
        lambda_: float = 100.0,
        kernel: Kernel | None = None,
        unbiased: bool = True,
        **kwargs,
    ):
        super().__init__(posterior, likelihood, prior, **kwargs)
        if not -math.inf < alpha <= 1:
            raise ValueError(
                "`alpha` must be at most 1: above it, the loss would reward a KL without bound. "
                f"Received: {alpha}."
            )
        # As decimals they may sum to 1 where as floats they do not.
        if not -1e-6 <= alpha + lambda_ - 1 < math.inf:
            raise ValueError(
                "`lambda_` must be a number from 1 - alpha on: the discrepancy counts "
                f"alpha + lambda - 1 times. Received: alpha={alpha}, lambda_={lambda_}."
            )
        self.alpha = alpha
        self.lambda_ = lambda_
        self.kernel = kernel or RBF()
        self.unbiased = unbiased

    def objective(self, x, y, seed, training):
        q, z = self.draw(x, y, seed, training)
        p = self.prior(y, training=training)
        distortion = -mean_over_draws(self.likelihood(z, y, training=training).log_prob(x))
        rate = mean_over_draws(kl(q, p, z))
        charged = with_free_bits(q, p, self.free_bits) if training and self.free_bits else rate
        # The posterior's draws are the VAE's of the same seed; the prior's have one of their own.
        prior_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        discrepancy = mean_over_draws(
            mmd_to_prior(z, self.prior, y, self.kernel, self.unbiased, prior_seed, training)
        )
        loss = (
            distortion
            + (1 - self.alpha) * self.charge(charged, training)
            + max(self.alpha + self.lambda_ - 1, 0.0) * discrepancy
        )
        return {"vae": loss}, {"distortion": distortion, "rate": rate, "discrepancy": discrepancy}


def info_vae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    hidden: Sequence[int] = (500,),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
    alpha: float = 1.0,
    lambda_: float = 100.0,
    kernel: str = "rbf",
) -> InfoVAE:
    """An `InfoVAE` of multilayer perceptrons, with normal posterior and prior.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        hidden: The encoder's; the decoder's mirrors it.
        activation: Of the hidden layers.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic".
        alpha: 1 for the MMD-VAE; 0, with a `lambda_` of 1, for the VAE.
        lambda_: alpha + lambda - 1 is the weight of the discrepancy.
        kernel: "rbf" or "imq".
    """
    parts = vae_mlp(
        image_shape, latent_dim, hidden, activation, likelihood=likelihood, levels=levels
    )
    return _of_parts(parts, alpha, lambda_, kernel)


def info_vae_conv(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    likelihood: str = "bernoulli",
    levels: int = 256,
    alpha: float = 1.0,
    lambda_: float = 100.0,
    kernel: str = "rbf",
) -> InfoVAE:
    """A convolutional `InfoVAE`; `filters` are the encoder's, the decoder's mirror them.

    The other arguments are those of `info_vae_mlp`.
    """
    parts = vae_conv(image_shape, latent_dim, filters, hidden, likelihood=likelihood, levels=levels)
    return _of_parts(parts, alpha, lambda_, kernel)


def _of_parts(parts, alpha, lambda_, kernel):
    return InfoVAE(
        parts.posterior, parts.likelihood, parts.prior, alpha, lambda_, kernel_named(kernel)
    )
