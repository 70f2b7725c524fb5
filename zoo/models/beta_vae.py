"""beta-VAE.

Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework",
2017. https://openreview.net/forum?id=Sy2fzU9gl
Burgess et al., "Understanding disentangling in beta-VAE", 2018. https://arxiv.org/abs/1804.03599
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo.distributions import Conditional, Prior
from zoo.models.vae import VAE, vae_conv, vae_mlp, warm_up
from zoo.schedules import LinearWarmUp, Schedule, check_weight, value_at


@keras.saving.register_keras_serializable("zoo")
class BetaVAE(VAE):
    """A `VAE` whose rate counts `beta` times, or is drawn to a `capacity`.

    Without a capacity the loss is Higgins et al.'s eq. 4, distortion + beta rate, in training and
    in evaluation. With one it is Burgess et al.'s, distortion + beta |rate - capacity|, with their
    gamma as `beta` and their C, which rises in training, as `capacity`. It is taken for each image
    by itself, as they write it, where public codes compare the mean rate of a batch with C. The
    absolute value of a rate that is only an estimate is too large on average: a capacity suits
    pairs of posterior and prior whose KL is exact.

    `distortion` and `rate` are reported as they are: -(distortion + rate) remains the ELBO.

    Args:
        posterior, likelihood, prior: As for `VAE`.
        beta: Weight of the rate, a number from 0 on or a `zoo.schedules.Schedule`; 1 is the VAE.
        capacity: Nats that the rate shall have, a number from 0 on or a `Schedule`, or `None`.
            Evaluation takes a schedule's value at the step where training stands.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> rising = zoo.schedules.LinearWarmUp(steps=100_000, end=25.0)
        >>> bvae = zoo.BetaVAE(model.posterior, model.likelihood, model.prior, 1000.0, rising)
    """

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        beta: float | Schedule = 4.0,
        capacity: float | Schedule | None = None,
        **kwargs,
    ):
        super().__init__(posterior, likelihood, prior, **kwargs)
        check_weight(beta, "beta")
        if capacity is not None:
            check_weight(capacity, "capacity")
        self.beta = beta
        self.capacity = capacity

    def charge(self, rate, training):
        if self.capacity is not None:
            rate = tf.abs(rate - value_at(self.capacity, self.step))
        return value_at(self.beta, self.step) * super().charge(rate, training)


def beta_vae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 10,
    hidden: Sequence[int] = (500,),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
    beta: float = 4.0,
    capacity: float = 0.0,
    capacity_steps: int = 0,
    warm_up_steps: int = 0,
) -> BetaVAE:
    """A `BetaVAE` of multilayer perceptrons.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents, 10 in both papers.
        hidden: The encoder's; the decoder's mirrors it.
        activation: Of the hidden layers.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic".
        beta: Weight of the rate, or of its distance from the capacity.
        capacity: Nats of rate to arrive at (Burgess et al.: 25); 0 for Higgins et al.'s loss.
        capacity_steps: Training steps in which the capacity rises from 0 (Burgess et al.: 100,000).
        warm_up_steps: Training steps in which a further weight of the rate rises from 0 to 1.
    """
    parts = vae_mlp(
        image_shape, latent_dim, hidden, activation, likelihood=likelihood, levels=levels
    )
    return _of_parts(parts, beta, capacity, capacity_steps, warm_up_steps)


def beta_vae_conv(
    image_shape: Sequence[int],
    latent_dim: int = 10,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    likelihood: str = "bernoulli",
    levels: int = 256,
    beta: float = 4.0,
    capacity: float = 0.0,
    capacity_steps: int = 0,
    warm_up_steps: int = 0,
) -> BetaVAE:
    """A convolutional `BetaVAE`; `filters` are the encoder's, the decoder's mirror them.

    The other arguments are those of `beta_vae_mlp`.
    """
    parts = vae_conv(image_shape, latent_dim, filters, hidden, likelihood=likelihood, levels=levels)
    return _of_parts(parts, beta, capacity, capacity_steps, warm_up_steps)


def _of_parts(parts, beta, capacity, capacity_steps, warm_up_steps):
    if capacity_steps and not capacity:
        raise ValueError(
            "`capacity_steps` is the time in which a `capacity` above 0 is reached. "
            f"Received: capacity_steps={capacity_steps}, capacity={capacity}."
        )
    return BetaVAE(
        parts.posterior,
        parts.likelihood,
        parts.prior,
        beta,
        LinearWarmUp(capacity_steps, capacity) if capacity_steps else capacity or None,
        rate_weight=warm_up(warm_up_steps),
    )
