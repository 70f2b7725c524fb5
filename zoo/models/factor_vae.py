"""FactorVAE.

Kim and Mnih, "Disentangling by Factorising", 2018. https://arxiv.org/abs/1802.05983
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo import draws, networks
from zoo.config import extends
from zoo.contract import check_non_negative
from zoo.distributions import Conditional, Prior
from zoo.interfaces import LOGIT, Interface, context_shape
from zoo.models import elbo
from zoo.models.vae import VAE, vae


@keras.saving.register_keras_serializable("zoo")
class FactorVAE(VAE):
    """A `VAE` with a penalty on the dependence of the latents under the aggregate posterior.

    Maximises the paper's eq. 2, ELBO - gamma TC, with the total correlation

        TC = KL(q(z) || prod_j q(z_j)),    q(z) = E_x q(z | x).

    A discriminator estimates TC by the paper's eq. 3: its logit approximates the log density ratio
    of q(z) to prod_j q(z_j), whose mean over q(z) is TC. The estimate is not a bound; it is
    reported as `total_correlation`.

    Both players are updated after one forward pass, as in Algorithm 2. The VAE minimises

        distortion + rate + gamma logit(z),

    and the discriminator classifies codes against codes with permuted dimensions (`permute_dims`),
    which approximate draws of prod_j q(z_j). As in the algorithm, the two sets come from different
    images: the codes of the first half of the batch (rounded up) are unchanged, those of the second
    half are permuted. With several draws of z (`num_samples`), the discriminator's loss uses the
    first draw.

    Each replica permutes its own part of the batch. The loss in evaluation is the same.

    Args:
        posterior, likelihood, prior: As for `VAE`.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of q(z).
        gamma: Weight of the total correlation, at least 0; 0 for the VAE. The paper uses 10 to 40
            on dSprites.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If a number is out of range.

    Notes:
        In Algorithm 2, the VAE is updated on the first half of the batch only, and the permuted
        codes are those of the updated encoder. Here the VAE is updated on both halves, and the
        permuted codes are those of the encoder before the update.

    Example:
        >>> parts = zoo.models.elbo.parts((8, 8, 1), latent_dim=5)
        >>> d = zoo.networks.mlp(5, 1, (16,))
        >>> model = zoo.FactorVAE(**parts, discriminator=d, gamma=10.0)
        >>> model.compile({"vae": "adam", "discriminator": "adam"})
    """

    terms: tuple[str, ...] = (*VAE.terms, "total_correlation")

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        discriminator: keras.Model,
        gamma: float = 10.0,
        **kwargs,
    ):
        super().__init__(posterior, likelihood, prior, **kwargs)
        check_non_negative(gamma=gamma)
        self.discriminator = discriminator
        self.gamma = gamma

    def players(self):
        return super().players() | {"discriminator": [self.discriminator]}

    def interfaces(self):
        latents = context_shape(self.likelihood)
        return super().interfaces() | {"discriminator": Interface((latents,), (LOGIT,))}

    def objective(self, x, y, seed, training):
        terms = self.elbo_terms(x, y, seed, training)
        z = terms.z
        permute_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        half = (tf.shape(z)[1] + 1) // 2
        permuted = permute_dims(tf.stop_gradient(z[0, half:]), permute_seed)
        codes = tf.reshape(z, [-1, z.shape[-1]])
        # Both players use the logits of one pass: a code's logit is also the VAE's log ratio.
        logits = networks.logits(
            self.discriminator, tf.concat([codes, permuted], 0), training=training
        )
        code_logits, permuted_logits = logits[: tf.shape(codes)[0]], logits[tf.shape(codes)[0] :]
        log_ratio = elbo.mean_over_draws(tf.reshape(code_logits, tf.shape(z)[:2]))
        discriminator_loss = tf.nn.softplus(tf.concat([-code_logits[:half], permuted_logits], 0))
        return {
            "vae": terms.distortion + terms.charged_rate + self.gamma * log_ratio,
            "discriminator": tf.ensure_shape(discriminator_loss, z.shape[1:2]),
        }, terms.reported() | {"total_correlation": log_ratio}


def permute_dims(z: tf.Tensor, seed: Any) -> tf.Tensor:
    """Permutes the values of each dimension of `z[B, D]` over the batch: Algorithm 1 of the paper.

    This keeps the distribution of each dimension and removes the dependence between dimensions.

    Args:
        z: Codes `[B, D]`.
        seed: A `[2]` int tensor, or an int pair.

    Example:
        >>> z = tf.constant([[0.0, 10], [1, 11], [2, 12]])
        >>> np.sort(zoo.models.permute_dims(z, [1, 2]), 0)
        array([[ 0., 10.],
               [ 1., 11.],
               [ 2., 12.]], dtype=float32)
    """
    order = tf.argsort(draws.uniform(tf.shape(z), seed), axis=0)
    return tf.transpose(tf.gather(tf.transpose(z), tf.transpose(order), batch_dims=1))


@extends(vae, latent_dim=10)
def factor_vae(
    image_shape: Sequence[int],
    *,
    gamma: float = 10.0,
    discriminator_hidden: Sequence[int] = (1000,) * 6,
    **options,
) -> FactorVAE:
    """A `FactorVAE`. It has the options of `vae`, and:

    Args:
        image_shape: Height, width, channels.
        gamma: Weight of the total correlation.
        discriminator_hidden: Units of the discriminator's hidden layers, which have leaky ReLU of
            slope 0.2; six layers of 1000 units in the paper.
    """
    parts = elbo.parts(image_shape, **options)
    discriminator = networks.mlp(options["latent_dim"], 1, discriminator_hidden, "leaky_relu")
    return FactorVAE(**parts, discriminator=discriminator, gamma=gamma)
