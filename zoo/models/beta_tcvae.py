"""beta-TCVAE.

Chen et al., "Isolating Sources of Disentanglement in Variational Autoencoders", 2018.
https://arxiv.org/abs/1802.04942
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import extends, look_up, with_article
from zoo.contract import check_non_negative
from zoo.datasets import ImageData
from zoo.distributions import Conditional, Family, Prior
from zoo.distributions.part import described
from zoo.models import elbo
from zoo.models.vae import VAE, vae

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class BetaTCVAE(VAE):
    """A `VAE` with separate weights for the three parts of its rate.

    The mean rate over N training images is the sum of (Chen et al., eq. 2)

        mutual information          I_q(z; n) = KL(q(z, n) || q(z) p(n)),
        total correlation           KL(q(z) || prod_j q(z_j)),
        dimension-wise KL           KL(prod_j q(z_j) || p(z)),

    with q(z) = 1/N sum_n q(z | x_n). The loss is (eq. 4)

        distortion + alpha mutual_information + beta total_correlation + gamma dimension_wise_kl,

    written as distortion + rate + (alpha - 1) ... + (beta - 1) ... + (gamma - 1) ..., so that it
    equals the loss of the `VAE` for alpha = beta = gamma = 1. The three parts are reported; the
    mean of their sum is the mean rate.

    log q(z) and log q(z_j) are estimated from the minibatch: see `log_aggregate`.

    Args:
        posterior: q(z | x), with independent latents.
        likelihood, prior: As for `VAE`.
        beta: Weight of the total correlation, at least 0.
        alpha, gamma: Weights of the mutual information and of the dimension-wise KL, at least 0; 1
            in the paper's experiments.
        estimator: "stratified" or "weighted": see `log_aggregate`.
        dataset_size: N; `None` until `adapt` sets it.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If a number is out of range, `estimator` is unknown, or the latents of the
            posterior are not independent; when called, if `dataset_size` is `None`.

    Notes:
        The authors' code estimates the rate at the draw of z, as the sum of the three estimates.
        Here the rate is exact if its formula is known; the expectation is the same. The authors'
        default estimator is "weighted". With several replicas, each replica computes its estimates
        from its own part of the batch.

    Example:
        >>> parts = zoo.models.elbo.parts((8, 8, 1), latent_dim=5)
        >>> model = zoo.BetaTCVAE(**parts, beta=6.0, dataset_size=1000)
    """

    terms: tuple[str, ...] = (
        *VAE.terms,
        "mutual_information",
        "total_correlation",
        "dimension_wise_kl",
    )
    adapted = ("dataset_size",)

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        beta: float = 6.0,
        alpha: float = 1.0,
        gamma: float = 1.0,
        estimator: str = "stratified",
        dataset_size: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(posterior, likelihood, prior, **kwargs)
        check_non_negative(beta=beta, alpha=alpha, gamma=gamma)
        look_up(ESTIMATORS, estimator, "estimator")
        if dataset_size is not None and dataset_size < 1:
            raise ValueError(f"`dataset_size` must be at least 1. Received: {dataset_size}.")
        family = getattr(posterior, "family", None)
        if family is None or type(family).num_params is not Family.num_params:
            raise ValueError(
                "The total correlation needs the density of each latent: choose a posterior with "
                "independent latents, such as 'normal'. "
                f"Received: {described(posterior)}."
            )
        self.beta = beta
        self.alpha = alpha
        self.gamma = gamma
        self.estimator = estimator
        self.dataset_size = dataset_size

    def adapt(self, data: ImageData) -> None:
        """Sets `dataset_size` to the number of training images, if it is `None`; and the start."""
        if self.dataset_size is None:
            self.dataset_size = data.sizes["train"]
        super().adapt(data)

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        terms = self.elbo_terms(x, y, seed, training)
        split = Decomposition(*map(elbo.mean_over_draws, self._decompose(terms)))
        further = (
            (self.alpha - 1) * split.mutual_information
            + (self.beta - 1) * split.total_correlation
            + (self.gamma - 1) * split.dimension_wise_kl
        )
        # During a warm-up, all parts of the rate have the weight of the warm-up.
        loss = terms.distortion + terms.charged_rate + self.weight_of_rate(training) * further
        return {"vae": loss}, terms.reported() | split._asdict()

    def _decompose(self, terms):
        if self.dataset_size is None:
            raise ValueError(
                f"{with_article(type(self).__name__, True)} needs the number of training images: "
                "pass `dataset_size`, or call `model.adapt(data)` before training. Received: dataset_size=None."
            )
        # q(z_i | x_j) for all pairs i, j of the batch, by latent dimension.
        log_q_pairs = terms.q.distribution.log_prob(terms.z[:, :, None])  # [K, B, B, D]
        log_q_z, log_q_each = log_aggregate(log_q_pairs, self.dataset_size, self.estimator)
        log_product = tf.reduce_sum(log_q_each, -1)
        return Decomposition(
            terms.q.log_prob(terms.z) - log_q_z,
            log_q_z - log_product,
            log_product - terms.p.log_prob(terms.z),
        )


class Decomposition(NamedTuple):
    """The parts of the rate, `[K, B]` or `[B]`, in nats. Their sum is log q(z | x) - log p(z)."""

    mutual_information: tf.Tensor
    total_correlation: tf.Tensor
    dimension_wise_kl: tf.Tensor


def log_aggregate(
    log_q_pairs: tf.Tensor, dataset_size: int, estimator: str = "stratified"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Estimates of log q(z) `[K, B]` and log q(z_d) `[K, B, D]` from a minibatch.

    Both are log sum_j W_ij q(z_i | x_j), over the B images of the batch, where z_i is a draw of
    q(z | x_i). The weights are those of Chen et al., appendix C, with M = B - 1 and
    N = `dataset_size`:

    - "weighted" (C.1): W_ij = 1 / (N B). The estimate is biased, with a constant offset.
    - "stratified" (C.2): W_ii = 1 / N, W_ij = (N - M) / (N M) for one other image, and W_ij = 1 / M
      for the rest. If 2 <= B <= N, each row sums to 1, and the sum is an unbiased estimate of q(z).

    Args:
        log_q_pairs: log q(z_i,d | x_j) `[K, B, B, D]`.
        dataset_size: N.
        estimator: "stratified" or "weighted".
    """
    batch = tf.shape(log_q_pairs)[1]
    log_weights = tf.math.log(ESTIMATORS[estimator](batch, float(dataset_size)))
    joint = tf.reduce_logsumexp(log_weights + tf.reduce_sum(log_q_pairs, -1), 2)
    return joint, tf.reduce_logsumexp(log_weights[..., None] + log_q_pairs, 2)


def _stratified(batch, n):
    m = tf.cast(tf.maximum(batch - 1, 1), tf.float32)
    own = tf.eye(batch)
    weights = tf.where(own > 0, 1 / n, 1 / m)
    rest = tf.maximum(n - m, 1.0) / (n * m)  # above 0 even for a batch of all images
    return tf.where(tf.roll(own, 1, 1) > 0, rest, weights)


def _weighted(batch, n):
    return tf.fill([batch, batch], 1 / (n * tf.cast(batch, tf.float32)))


ESTIMATORS = {"stratified": _stratified, "weighted": _weighted}


@extends(vae, latent_dim=10)
def beta_tcvae(
    image_shape: Sequence[int],
    *,
    beta: float = 6.0,
    alpha: float = 1.0,
    gamma: float = 1.0,
    estimator: str = "stratified",
    dataset_size: int = 0,
    **options: Any,
) -> BetaTCVAE:
    """A `BetaTCVAE`. It has the options of `vae`, and:

    Args:
        beta: Weight of the total correlation; 6 in the paper on dSprites.
        alpha, gamma: Weights of the mutual information and of the dimension-wise KL.
        estimator: "stratified" or "weighted": see `log_aggregate`.
        dataset_size: Number of training images; 0 to let `adapt` set it from the data.
    """
    return BetaTCVAE(
        **elbo.parts(image_shape, **options),
        beta=beta,
        alpha=alpha,
        gamma=gamma,
        estimator=estimator,
        dataset_size=dataset_size or None,
    )
