"""Denoising variational autoencoder.

Im et al., "Denoising Criterion for Variational Auto-Encoding Framework", 2017.
https://arxiv.org/abs/1511.06406
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo import draws
from zoo.config import FromArguments
from zoo.distributions import Conditional, Prior
from zoo.models.iwae import IWAE
from zoo.models.vae import VAE, vae_mlp, warm_up


class Corruption(FromArguments):
    """Base of all corruptions p(x~ | x). Instances are plain objects that a config can rebuild."""

    def __call__(self, x, seed) -> tf.Tensor:
        """A draw of x~, of the shape of `x[..., H, W, C]`."""
        raise NotImplementedError

    def get_config(self) -> dict:
        return {name: getattr(self, name) for name in self._argument_names()}


@keras.saving.register_keras_serializable("zoo")
class SaltAndPepper(Corruption):
    """Each value becomes, with that probability, 0 or 1, both as likely.

    Args:
        probability: In [0, 1]; Im et al. take 0.05, 0.1 and 0.15 on MNIST.

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
    """Adds N(0, scale^2) to each value. The result may leave [0, 1].

    Args:
        scale: Standard deviation, from 0 on.
    """

    def __init__(self, scale: float):
        if not 0 <= scale < math.inf:
            raise ValueError(f"`scale` must be a number from 0 on. Received: {scale}.")
        self.scale = scale

    def __call__(self, x, seed):
        return x + self.scale * draws.normal(tf.shape(x), seed)


@keras.saving.register_keras_serializable("zoo")
class DenoisingVAE(VAE):
    """Encodes a corrupted image x~, and explains the clean one.

    Maximises Im et al.'s L_dvae,

        E_{p(x~ | x)} E_{q(z | x~)} [log p(x, z) - log q(z | x~)],

    which is the mean over x~ of the ELBO of x with q(. | x~): the KL is that of q(z | x~), exact
    where a formula is known. Each of `num_samples` draws has a corruption of its own.

    It is a lower bound on log p(x). The ELBO is concave in q, so that it is also one on L_cvae, the
    ELBO with the mixture E[q(z | x~)], whose density is not known: L_dvae <= L_cvae <= log p(x).
    (Summaries of the paper have the first two in the other order; with numbers it is this one.)

    Images are corrupted in training alone. `evaluate`, `encode`, `reconstruct` and `log_prob` see
    the clean image, with q(z | x): their bounds are those of the `VAE` of the same networks.

    Args:
        posterior, likelihood, prior: As for `VAE`.
        corruption: A `Corruption`, such as `SaltAndPepper(0.05)`, or any serializable function of
            `x[..., H, W, C]` and a seed.
        **kwargs: As for `VAE`.

    Example:
        >>> noise = zoo.SaltAndPepper(0.05)
        >>> dvae = zoo.DenoisingVAE(model.posterior, model.likelihood, model.prior, noise)
        >>> dvae.compile("adam")
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
        # A seed beside that of the latents: without noise the draws shall be the VAE's.
        noise_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        copies = tf.repeat(x[None], self.num_samples, 0)
        q = self.posterior(self.corruption(copies, noise_seed), y, training=True)
        return q, q.sample(seed=seed)


@keras.saving.register_keras_serializable("zoo")
class DenoisingIWAE(DenoisingVAE, IWAE):
    """The importance weighted bound of a `DenoisingVAE`: a corruption x~_k for each draw z_k.

    E[log (1/K) sum_k p(x, z_k) / q(z_k | x~_k)], what Im et al. call DIWAE.

    Args:
        posterior, likelihood, prior, corruption: As for `DenoisingVAE`.
        **kwargs: As for `IWAE`.
    """


def denoising_vae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 50,
    hidden: Sequence[int] = (200, 200),
    activation: str = "tanh",
    likelihood: str = "bernoulli",
    levels: int = 256,
    salt_and_pepper: float = 0.05,
    gaussian: float = 0.0,
    num_samples: int = 1,
    importance_weighted: bool = False,
    warm_up_steps: int = 0,
) -> DenoisingVAE:
    """A `DenoisingVAE` or `DenoisingIWAE` of multilayer perceptrons.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        hidden: The encoder's; the decoder's mirrors it.
        activation: Of the hidden layers.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic".
        salt_and_pepper: Probability with which a value becomes 0 or 1.
        gaussian: Standard deviation of Gaussian noise, in place of salt and pepper.
        num_samples: Draws of (x~, z) per image; 1 and 5 in the paper.
        importance_weighted: Whether to make a `DenoisingIWAE`.
        warm_up_steps: Training steps in which the weight of the rate rises from 0 to 1.

    Raises:
        ValueError: If there are two kinds of noise, or a level is out of range.
    """
    if salt_and_pepper and gaussian:
        raise ValueError(
            "Noise is either `salt_and_pepper` or `gaussian`: set the other to 0. "
            f"Received: salt_and_pepper={salt_and_pepper}, gaussian={gaussian}."
        )
    corruption = GaussianNoise(gaussian) if gaussian else SaltAndPepper(salt_and_pepper)
    parts = vae_mlp(
        image_shape, latent_dim, hidden, activation, likelihood=likelihood, levels=levels
    )
    return (DenoisingIWAE if importance_weighted else DenoisingVAE)(
        parts.posterior,
        parts.likelihood,
        parts.prior,
        corruption,
        num_samples=num_samples,
        rate_weight=warm_up(warm_up_steps),
    )
