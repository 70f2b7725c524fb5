"""Wasserstein autoencoder with a discriminator of latents (WAE-GAN).

Tolstikhin et al., "Wasserstein Auto-Encoders", 2018. https://arxiv.org/abs/1711.01558
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import LOSSES, AdversarialLoss, NonSaturating
from zoo.config import choices, extends
from zoo.contract import check_non_negative
from zoo.distributions import Part, Prior, UnitNormal, need_density, refuse_learned
from zoo.interfaces import LOGIT, Interface, context_shape, shape_of_images
from zoo.mean_start import Start
from zoo.model import GenerativeModel
from zoo.models.aae import latent_loss
from zoo.models.parts import LEARNED_PRIOR_SIZES
from zoo.models.wae import parts, squared_error


@keras.saving.register_keras_serializable("zoo")
class WAEGAN(GenerativeModel):
    """A Wasserstein autoencoder with a discriminator of latents that matches codes to the prior.

    Training follows the paper's Algorithm 1. On each batch, the discriminator D is first updated to
    separate draws of the prior (real) from codes (fake); it maximises

        lambda E[log D(z) + log(1 - D(z~))],    z ~ p(z), z~ ~ q(z | x).

    Then encoder and generator, as one player, minimise

        E |x - G(z~)|^2 - lambda E log D(z~),

    where the squared error is summed over the image. The generator has a gradient of the first term
    only, the encoder of both terms. `cost` and `penalty`, the second term, are reported without
    weights.

    The `AAE` minimises the same two terms in two phases, with separate optimizers; here the loss is
    their sum, with the weight lambda. The penalty estimates a divergence between q(z) and p(z), and
    replaces the discrepancy of the `WAE`.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`; in the paper with
            the family `Deterministic`.
        generator: G, a network from `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]` without trainable weights. Only `prior_aware` needs its
            density.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of the prior.
        lambda_: Weight of the penalty, at least 0; 10 in the paper on MNIST.
        adversarial_loss: An `AdversarialLoss`; `NonSaturating()`, as in the paper, if `None`.
        prior_aware: Whether the discriminator's logit is the network's output plus log p(z). The
            optimal logit is log p(z) / q(z), so the network then only has to learn -log q(z).

    Raises:
        ValueError: If `lambda_` is negative or not finite, the prior has trainable weights, or
            `prior_aware` is set and the prior has no density.

    Notes:
        As for the `WAE`, the public code multiplies the squared error by 0.05, so its lambda of 10
        on MNIST corresponds to 200 here. `prior_aware` is the option "gan_p_trick" of that code;
        the paper's experiments use this option.

    Example:
        >>> model = zoo.WAEGAN(
        ...     zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 4), zoo.Deterministic()),
        ...     zoo.networks.mlp_decoder(4, (8, 8, 1), output="sigmoid"),
        ...     zoo.StandardNormal(4),
        ...     zoo.networks.mlp(4, 1),
        ... )
        >>> model.compile("adam")
        >>> history = model.fit(zoo.datasets.load("digits").arrays("train")[0], verbose=0)
    """

    terms: tuple[str, ...] = ("cost", "penalty", "prior_logit", "code_logit")

    def __init__(
        self,
        posterior: Part,
        generator: keras.Model,
        prior: Prior,
        discriminator: keras.Model,
        lambda_: float = 10.0,
        adversarial_loss: AdversarialLoss | None = None,
        prior_aware: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_non_negative(lambda_=lambda_)
        refuse_learned(prior, "a WAEGAN")
        if prior_aware:
            need_density(prior, "`prior_aware`")
        self.posterior = posterior
        self.generator = generator
        self.prior = prior
        self.discriminator = discriminator
        self.lambda_ = lambda_
        self.adversarial_loss = adversarial_loss or NonSaturating()
        self.prior_aware = prior_aware

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {
            "discriminator": [self.discriminator],
            "autoencoder": [self.posterior, self.generator],
        }

    def interfaces(self) -> dict[str, Interface]:
        latents = context_shape(self.generator)
        return super().interfaces() | {
            "generator": Interface((latents,), (shape_of_images(self),)),
            "discriminator": Interface((latents,), (LOGIT,), conditional=True),
        }

    def mean_starts(self) -> list[Start]:
        return [Start(self.generator, UnitNormal())]

    def objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> Iterator[tuple[dict, dict]]:
        code_seed, prior_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 4)
        loss = self.adversarial_loss
        code = self.posterior(x, y, training=training).sample(seed=code_seed)
        z = self.prior.sample_for(x, y, prior_seed)
        real_logits = self.latent_logits(z, y, training)
        fake_logits = self.latent_logits(tf.stop_gradient(code), y, training)
        discriminator_loss = loss.real(real_logits, real_seed) + loss.fake(fake_logits, fake_seed)
        yield (
            {"discriminator": self.lambda_ * discriminator_loss},
            {"prior_logit": real_logits, "code_logit": fake_logits},
        )
        # Both updates use the same codes z~, as in the algorithm.
        cost = squared_error(x, self.generator(code, training=training))
        penalty = loss.generator(self.latent_logits(code, y, training))
        yield (
            {"autoencoder": cost + self.lambda_ * penalty},
            {"cost": cost, "penalty": penalty},
        )

    def latent_logits(self, z: tf.Tensor, y: Any = None, training: bool = False) -> tf.Tensor:
        """The logits `[B]` of latents `z[B, D]`, including log p(z) if `prior_aware` is set."""
        logits = networks.logits(self.discriminator, z, y, training)
        return logits + self.prior(y).log_prob(z) if self.prior_aware else logits


@choices(loss=LOSSES)
@extends(parts, without=LEARNED_PRIOR_SIZES)
def waegan(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    lambda_: float = 10.0,
    prior_aware: bool = False,
    discriminator_hidden: Sequence[int] = (512, 512, 512, 512),
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    **options: Any,
) -> WAEGAN:
    """A `WAEGAN` whose generator has batch normalization.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 8 in the paper on MNIST.
        lambda_: Weight of the penalty.
        prior_aware: Whether to add log p(z) to the discriminator's logit.
        discriminator_hidden: Units of the discriminator's hidden layers; four layers of 512 in the
            paper.
        loss, real_label, label_noise: See `zoo.adversarial.adversarial_loss`; not "wasserstein".
        **options: All other options are those of `zoo.models.wae`, without `kernel`,
            `unbiased` and the sizes of learned priors.

    Raises:
        ValueError: If a name is unknown, options do not fit together, or a number is out of range.
    """
    return WAEGAN(
        **parts(image_shape, latent_dim=latent_dim, **options),
        discriminator=networks.mlp(latent_dim, 1, discriminator_hidden),
        lambda_=lambda_,
        adversarial_loss=latent_loss(loss, real_label, label_noise),
        prior_aware=prior_aware,
    )
