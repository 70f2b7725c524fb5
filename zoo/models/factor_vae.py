"""FactorVAE.

Kim and Mnih, "Disentangling by Factorising", 2018. https://arxiv.org/abs/1802.05983
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo import draws, networks
from zoo.distributions import Conditional, Prior, kl
from zoo.models.vae import VAE, mean_over_draws, vae_conv, vae_mlp, warm_up, with_free_bits


@keras.saving.register_keras_serializable("zoo")
class FactorVAE(VAE):
    """A `VAE` whose latents, taken over all images, shall be independent of each other.

    Maximises the paper's eq. 2, ELBO - gamma TC, with the total correlation

        TC = KL(q(z) || prod_j q(z_j)),    q(z) the mean of q(z | x) over the images,

    where `BetaVAE` charges for the whole rate, and with it for what z tells of x. A discriminator
    estimates the TC, by the paper's eq. 3: its logit learns the log of the density ratio of q(z) to
    prod_j q(z_j), log D(z) / (1 - D(z)), whose mean over q(z) is the TC. It is an estimate, not a
    bound; `total_correlation` reports it.

    Both players move on one forward pass, as in Algorithm 2: the VAE on

        distortion + rate + gamma logit(z),

    and the discriminator on telling codes from codes with permuted dimensions (`permute_dims`),
    which are draws of prod_j q(z_j), more or less. As in the algorithm these are codes of other
    images: the first half of the batch (rounded up) is shown as it is, the second one permuted, so
    that the mean over the batch is the algorithm's, with its B and B' one half each. Unlike there, the
    VAE moves on both halves, and the codes of B' are those from before its move. Of several draws of z
    (`num_samples`) the discriminator is shown the first.

    Each replica permutes its own part of the batch. In evaluation the loss is the same.

    Args:
        posterior, likelihood, prior: As for `VAE`.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of q(z).
        gamma: Weight of the total correlation, from 0 on; 0 is the VAE. The paper takes 10 to 40 on
            dSprites; higher ones cost reconstructions.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> d = zoo.networks.mlp(5, 1, (16,))
        >>> factor = zoo.FactorVAE(model.posterior, model.likelihood, model.prior, d, 10.0)
        >>> factor.compile({"vae": "adam", "discriminator": "adam"})
    """

    terms = (*VAE.terms, "total_correlation")

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
        if not 0 <= gamma < math.inf:
            raise ValueError(f"`gamma` must be a number from 0 on. Received: {gamma}.")
        self.discriminator = discriminator
        self.gamma = gamma

    def players(self):
        return super().players() | {"discriminator": [self.discriminator]}

    def objective(self, x, y, seed, training):
        q, z = self.draw(x, y, seed, training)
        p = self.prior(y, training=training)
        distortion = -mean_over_draws(self.likelihood(z, y, training=training).log_prob(x))
        rate = mean_over_draws(kl(q, p, z))
        charged = with_free_bits(q, p, self.free_bits) if training and self.free_bits else rate

        # A seed beside that of the codes, which are the VAE's of the same seed.
        permute_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        half = (tf.shape(z)[1] + 1) // 2
        permuted = permute_dims(tf.stop_gradient(z[0, half:]), permute_seed)
        codes = tf.reshape(z, [-1, z.shape[-1]])
        # Once for both players: a code's logit is the VAE's ratio, and the discriminator's guess.
        logits = self._judge(tf.concat([codes, permuted], 0), training)
        of_codes, of_permuted = logits[: tf.shape(codes)[0]], logits[tf.shape(codes)[0] :]
        ratio = mean_over_draws(tf.reshape(of_codes, tf.shape(z)[:2]))
        told = tf.nn.softplus(tf.concat([-of_codes[:half], of_permuted], 0))
        return {
            "vae": distortion + self.charge(charged, training) + self.gamma * ratio,
            "discriminator": tf.ensure_shape(told, z.shape[1:2]),
        }, {"distortion": distortion, "rate": rate, "total_correlation": ratio}

    def _judge(self, z, training):
        """Logits `[N]` of codes `[N, D]`."""
        return tf.cast(self.discriminator(z, training=training)[:, 0], tf.float32)


def permute_dims(z, seed) -> tf.Tensor:
    """`z[B, D]` with each dimension's values in a random order of its own: Algorithm 1 of the paper.

    What each dimension holds stays; what the dimensions have to do with each other goes.

    Args:
        z: Codes `[B, D]`, of any number B.
        seed: A `[2]` int tensor, or an int pair.

    Example:
        >>> z = tf.constant([[0.0, 10], [1, 11], [2, 12]])
        >>> np.sort(zoo.models.factor_vae.permute_dims(z, [1, 2]), 0)
        array([[ 0., 10.],
               [ 1., 11.],
               [ 2., 12.]], dtype=float32)
    """
    order = tf.argsort(draws.uniform(tf.shape(z), seed), axis=0)
    return tf.transpose(tf.gather(tf.transpose(z), tf.transpose(order), batch_dims=1))


def factor_vae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 10,
    hidden: Sequence[int] = (500,),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
    gamma: float = 10.0,
    discriminator_hidden: Sequence[int] = (1000,) * 6,
    warm_up_steps: int = 0,
) -> FactorVAE:
    """A `FactorVAE` of multilayer perceptrons.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents, 10 in the paper.
        hidden: The encoder's; the decoder's mirrors it.
        activation: Of the hidden layers.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic" and "categorical".
        gamma: Weight of the total correlation.
        discriminator_hidden: The discriminator's, with leaky ReLU of slope 0.2; six layers of 1000 in
            the paper.
        warm_up_steps: Training steps in which the weight of the rate rises from 0 to 1.
    """
    parts = vae_mlp(
        image_shape, latent_dim, hidden, activation, likelihood=likelihood, levels=levels
    )
    return _of_parts(parts, gamma, latent_dim, discriminator_hidden, warm_up_steps)


def factor_vae_conv(
    image_shape: Sequence[int],
    latent_dim: int = 10,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    likelihood: str = "bernoulli",
    levels: int = 256,
    gamma: float = 10.0,
    discriminator_hidden: Sequence[int] = (1000,) * 6,
    warm_up_steps: int = 0,
) -> FactorVAE:
    """A convolutional `FactorVAE`; `filters` are the encoder's, the decoder's mirror them.

    The other arguments are those of `factor_vae_mlp`.
    """
    parts = vae_conv(image_shape, latent_dim, filters, hidden, likelihood=likelihood, levels=levels)
    return _of_parts(parts, gamma, latent_dim, discriminator_hidden, warm_up_steps)


def _of_parts(parts, gamma, latent_dim, hidden, warm_up_steps):
    return FactorVAE(
        parts.posterior,
        parts.likelihood,
        parts.prior,
        networks.mlp(latent_dim, 1, hidden, "leaky_relu"),
        gamma,
        rate_weight=warm_up(warm_up_steps),
    )
