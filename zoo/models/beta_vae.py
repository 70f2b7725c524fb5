"""beta-VAE.

Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework",
2017. https://openreview.net/forum?id=Sy2fzU9gl
Burgess et al., "Understanding disentangling in beta-VAE", 2018. https://arxiv.org/abs/1804.03599
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.config import extends
from zoo.distributions import Conditional, Prior
from zoo.models import elbo
from zoo.models.vae import VAE, vae
from zoo.schedules import LinearWarmUp, Schedule, check_weight, value_at


@keras.saving.register_keras_serializable("zoo")
class BetaVAE(VAE):
    """A `VAE` with the weight `beta` on the rate, or on its distance from a `capacity`.

    Without a capacity the loss is Higgins et al.'s eq. 4, distortion + beta rate, in training and
    in evaluation. With a capacity it is Burgess et al.'s loss, distortion + beta |rate - capacity|,
    where `beta` is their gamma and `capacity` is their C, which rises in training.

    `distortion` and `rate` are reported without weights: -(distortion + rate) is the bound.

    Args:
        posterior, likelihood, prior: As for `VAE`.
        beta: Weight of the rate, a number of at least 0 or a `zoo.schedules.Schedule`; 1 for the
            VAE.
        capacity: Target of the rate in nats, a number of at least 0 or a `Schedule`, or `None`.
            Evaluation uses a schedule's value at the current training step.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If a number is out of range.

    Notes:
        The distance from the capacity is computed per image, as in Burgess et al.; public
        implementations compare the mean rate of a batch with C. The distance of an estimated rate
        is too large on average, so use a capacity with a posterior and a prior whose KL is exact.

    Example:
        >>> parts = zoo.models.elbo.parts((8, 8, 1), latent_dim=2)
        >>> rising = zoo.schedules.LinearWarmUp(steps=100_000, end=25.0)
        >>> model = zoo.BetaVAE(**parts, beta=1000.0, capacity=rising)
    """

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        beta: float | Schedule = 4.0,
        capacity: float | Schedule | None = None,
        **kwargs: Any,
    ):
        super().__init__(posterior, likelihood, prior, **kwargs)
        check_weight(beta, "beta")
        if capacity is not None:
            check_weight(capacity, "capacity")
        self.beta = beta
        self.capacity = capacity

    def charge(self, rate: tf.Tensor, training: bool) -> tf.Tensor:
        if self.capacity is not None:
            rate = tf.abs(rate - value_at(self.capacity, self.step))
        return value_at(self.beta, self.step) * super().charge(rate, training)


@extends(vae, latent_dim=10)
def beta_vae(
    image_shape: Sequence[int],
    *,
    beta: float = 4.0,
    capacity: float = 0.0,
    capacity_steps: int = 0,
    **options: Any,
) -> BetaVAE:
    """A `BetaVAE`, with 10 latents as in both papers. It has the options of `vae`, and:

    Args:
        beta: Weight of the rate, or of its distance from the capacity.
        capacity: Final target of the rate in nats; 25 in Burgess et al., 0 for Higgins et al.'s
            loss.
        capacity_steps: Training steps in which the capacity rises from 0; 100,000 in Burgess et al.

    Raises:
        ValueError: If `capacity_steps` is set without a `capacity`, or as for `vae`.
    """
    if capacity_steps and not capacity:
        raise ValueError(
            "`capacity_steps` is the number of steps to a `capacity` above 0: set `capacity` too. "
            f"Received: capacity_steps={capacity_steps}, capacity={capacity}."
        )
    rising = LinearWarmUp(capacity_steps, capacity) if capacity_steps else capacity or None
    return BetaVAE(**elbo.parts(image_shape, **options), beta=beta, capacity=rising)
