"""Denoising variational autoencoder.

Im et al., "Denoising Criterion for Variational Auto-Encoding Framework", 2017.
https://arxiv.org/abs/1511.06406
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo import draws
from zoo.config import PlainObject, extends
from zoo.contract import check_non_negative
from zoo.distributions import Conditional, Prior
from zoo.models import elbo
from zoo.models.vae import VAE, vae


class Corruption(PlainObject):
    """Base of all corruptions p(x~ | x)."""

    def __call__(self, x, seed) -> tf.Tensor:
        """A draw of x~, with the shape of `x[..., H, W, C]`."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("zoo")
class SaltAndPepper(Corruption):
    """Replaces each value, with the given probability, by 0 or 1 with equal probability.

    Args:
        probability: Probability of a replacement, in [0, 1]; Im et al. use 0.05, 0.1 and 0.15 on
            MNIST.

    Example:
        >>> noisy = zoo.SaltAndPepper(0.1)(tf.fill([2, 8, 8, 1], 0.5), seed=[1, 2])
    """

    def __init__(self, probability: float):
        if not 0 <= probability <= 1:
            raise ValueError(f"`probability` must be in [0, 1]. Received: {probability}.")
        self.probability = probability

    def __call__(self, x, seed):
        chance = draws.uniform(tf.shape(x), seed)
        noisy = tf.where(chance < 0.5 * self.probability, 1.0, 0.0)
        return tf.where(chance < self.probability, noisy, x)


@keras.saving.register_keras_serializable("zoo")
class GaussianNoise(Corruption):
    """Adds a draw of N(0, scale^2) to each value. The result may be outside of [0, 1].

    Args:
        scale: Standard deviation, at least 0.
    """

    def __init__(self, scale: float):
        check_non_negative(scale=scale)
        self.scale = scale

    def __call__(self, x, seed):
        return x + self.scale * draws.normal(tf.shape(x), seed)


@keras.saving.register_keras_serializable("zoo")
class DenoisingVAE(VAE):
    """Encodes a corrupted image x~ and reconstructs the clean image x.

    Maximises Im et al.'s L_dvae,

        E_{p(x~ | x)} E_{q(z | x~)} [log p(x, z) - log q(z | x~)],

    which is the mean over x~ of the ELBO of x with q(z | x~). The KL is that of q(z | x~), and is
    exact if its formula is known. Each of the `num_samples` draws has its own corruption.

    Only training corrupts the images. `evaluate`, `encode`, `reconstruct` and `log_prob` use the
    clean image and q(z | x): their bounds are those of a `VAE` with the same networks.

    Args:
        posterior, likelihood, prior: As for `VAE`.
        corruption: A `Corruption`, such as `SaltAndPepper(0.05)`, or any serializable function of
            `x[..., H, W, C]` and a seed.
        **kwargs: As for `VAE`.

    Notes:
        L_dvae is a lower bound on log p(x). Because the ELBO is concave in q, L_dvae is also a
        lower bound on L_cvae, the ELBO with the mixture E[q(z | x~)], whose density is unknown:
        L_dvae <= L_cvae <= log p(x). Some summaries of the paper exchange the first two, but
        numerical checks confirm this order.

    Example:
        >>> parts = zoo.models.elbo.parts((8, 8, 1), latent_dim=2)
        >>> model = zoo.DenoisingVAE(**parts, corruption=zoo.SaltAndPepper(0.05))
    """

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        corruption: Corruption,
        **kwargs,
    ):
        super().__init__(posterior, likelihood, prior, **kwargs)
        self.corruption = corruption

    def draw(self, x, y, seed, training):
        if not training:
            return super().draw(x, y, seed, training)
        # A separate seed, so that the draws of z are those of a VAE.
        noise_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        copies = tf.repeat(x[None], self.num_samples, 0)
        q = self.posterior(self.corruption(copies, noise_seed), y, training=True)
        return q, q.sample(seed=seed)


@extends(vae, latent_dim=50, hidden=(200, 200), activation="tanh")
def denoising_vae(
    image_shape: Sequence[int], *, salt_and_pepper: float = 0.05, gaussian: float = 0.0, **options
) -> DenoisingVAE:
    """A `DenoisingVAE`. It has the options of `vae`, and:

    Args:
        image_shape: Height, width, channels.
        salt_and_pepper: Probability that a value becomes 0 or 1.
        gaussian: Standard deviation of Gaussian noise, instead of salt and pepper: it needs
            `salt_and_pepper=0`.

    Raises:
        ValueError: If both kinds of noise are set, a level is out of range, or as for `vae`.

    Notes:
        `num_samples` is the number of draws of (x~, z) per image; 1 and 5 in the paper.
    """
    corruption = corruption_of(salt_and_pepper, gaussian)
    return DenoisingVAE(**elbo.parts(image_shape, **options), corruption=corruption)


def corruption_of(salt_and_pepper: float, gaussian: float) -> Corruption:
    """Gaussian noise of scale `gaussian` if this scale is above 0, else salt and pepper."""
    if salt_and_pepper and gaussian:
        raise ValueError(
            "Noise is either `salt_and_pepper` or `gaussian`: set the other to 0. "
            f"Received: salt_and_pepper={salt_and_pepper}, gaussian={gaussian}."
        )
    return GaussianNoise(gaussian) if gaussian else SaltAndPepper(salt_and_pepper)
