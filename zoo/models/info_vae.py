"""InfoVAE, which includes the MMD-VAE.

Zhao et al., "InfoVAE: Balancing Learning and Inference in Variational Autoencoders", 2019.
https://arxiv.org/abs/1706.02262
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo.config import extends
from zoo.discrepancies import RBF, Kernel, kernel_named, mmd_to_prior
from zoo.distributions import Conditional, Prior, need_differentiable_draws
from zoo.models import elbo
from zoo.models.vae import VAE, vae


@keras.saving.register_keras_serializable("zoo")
class InfoVAE(VAE):
    """A `VAE` that also matches the aggregate posterior q(z) = E_x q(z | x) with the prior.

    Minimises the negative of the paper's objective,

        distortion + (1 - alpha) rate + (alpha + lambda - 1) D(q(z), p(z)),

    where the divergence D is the squared maximum mean discrepancy ("MMD-VAE" in the paper). With
    alpha = 1 the loss does not contain the KL of each image's posterior, so that no term penalises
    information about x in z. With alpha = 0 and lambda = 1 the model is the VAE; with alpha = 1 - b
    and lambda = b it is the beta-VAE with beta = b.

    D is estimated from the global minibatch, between one draw of q(z | x) per image and the same
    number of draws of the prior. With several draws (`num_samples`), the estimates are averaged.

    `distortion` and `rate` are reported without weights: -(distortion + rate) is the bound.
    `discrepancy` is D; with `unbiased` it can be negative.

    Args:
        posterior, likelihood: As for `VAE`.
        prior: p(z), a `Prior` over `z[D]`. A learned prior needs differentiable draws.
        alpha: The paper's alpha, the preference for information in z; at most 1.
        lambda_: The paper's lambda, at least 1 - alpha.
        kernel: A `zoo.discrepancies.Kernel`; `RBF()`, of bandwidth sqrt(D), if `None`.
        unbiased: Whether the estimate of D leaves out the pairs of a point with itself.
        **kwargs: As for `VAE`. `rate_weight` and `free_bits` apply to the rate before the factor
            (1 - alpha).

    Raises:
        ValueError: If a number is out of range, or a learned prior has no differentiable draws.

    Notes:
        The paper does not specify kernel and estimator. The authors' script
        (MMD-Variational-Autoencoder) has a deterministic encoder, squared errors averaged over
        pixels, the V-statistic, and the kernel exp(-|z - z'|^2 / D^2), which is nearly 1 everywhere
        for large D. Here the posterior is stochastic as in the paper, the distortion is a sum, and
        the kernel is as wide as the prior for any D. A suitable weight is therefore larger than in
        the script, by about the number of pixels. `zoo.WAE` is the deterministic model.

    Example:
        >>> parts = zoo.models.elbo.parts((8, 8, 1), latent_dim=2)
        >>> model = zoo.InfoVAE(**parts, alpha=1.0, lambda_=100.0)
    """

    terms: tuple[str, ...] = (*VAE.terms, "discrepancy")

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
        # Decimal numbers that sum to 1 may have another sum as floats.
        if not -1e-6 <= alpha + lambda_ - 1 < math.inf:
            raise ValueError(
                "`lambda_` must be finite and at least 1 - alpha: the discrepancy has the weight "
                f"alpha + lambda - 1. Received: alpha={alpha}, lambda_={lambda_}."
            )
        need_differentiable_draws(prior, "an InfoVAE")
        self.alpha = alpha
        self.lambda_ = lambda_
        self.kernel = kernel or RBF()
        self.unbiased = unbiased

    def objective(self, x, y, seed, training):
        terms = self.elbo_terms(x, y, seed, training)
        prior_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        discrepancy = elbo.mean_over_draws(
            mmd_to_prior(terms.z, self.prior, y, self.kernel, self.unbiased, prior_seed, training)
        )
        loss = (
            terms.distortion
            + (1 - self.alpha) * terms.charged_rate
            + max(self.alpha + self.lambda_ - 1, 0.0) * discrepancy
        )
        return {"vae": loss}, terms.reported() | {"discrepancy": discrepancy}


@extends(vae)
def info_vae(
    image_shape: Sequence[int],
    *,
    alpha: float = 1.0,
    lambda_: float = 100.0,
    kernel: str = "rbf",
    unbiased: bool = True,
    **options,
) -> InfoVAE:
    """An `InfoVAE`. It has the options of `vae`, and:

    Args:
        image_shape: Height, width, channels.
        alpha: 1 for the MMD-VAE; 0, with `lambda_` 1, for the VAE.
        lambda_: The paper's lambda. The weight of the discrepancy is alpha + lambda - 1.
        kernel: "rbf" or "imq".
        unbiased: As for `InfoVAE`.
    """
    return InfoVAE(
        **elbo.parts(image_shape, **options),
        alpha=alpha,
        lambda_=lambda_,
        kernel=kernel_named(kernel),
        unbiased=unbiased,
    )
