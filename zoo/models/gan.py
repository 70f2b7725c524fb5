"""Generative adversarial network.

Goodfellow et al., "Generative Adversarial Nets", 2014. https://arxiv.org/abs/1406.2661
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws, networks
from zoo.adversarial import LOSSES, AdversarialLoss, NonSaturating, adversarial_loss
from zoo.augmentation import augmented, check_policy
from zoo.config import choices, extends
from zoo.contract import as_count
from zoo.distributions import Prior, refuse_learned
from zoo.interfaces import LOGIT, Interface, shape_of_images
from zoo.model import Array, GenerativeModel, Round
from zoo.models.parts import LEARNED_PRIOR_SIZES, prior_part
from zoo.penalties import Penalty, penalty
from zoo.schedules import LinearDecay, Schedule, check_weight, value_at


@keras.saving.register_keras_serializable("zoo")
class GAN(GenerativeModel):
    """A generator trained against a discriminator of real and generated images.

    A training step follows the paper's Algorithm 1: `discriminator_steps` updates of the
    discriminator, then one update of the generator. Each update has new noise and its own
    minibatch, an equal share of the batch. Real and fake images pass through the discriminator
    separately, so that batch normalization never mixes them.

    Any adversarial loss, penalty and networks can be combined. With the loss `Wasserstein()`, use a
    `GradientPenalty` or a discriminator with spectral normalization (`zoo.networks`).

    Instance noise, N(0, instance_noise^2) on all inputs of the discriminator, makes the
    distributions of real and fake images overlap: Sonderby et al., "Amortised MAP Inference for
    Image Super-resolution", 2017, section 3.3, https://arxiv.org/abs/1610.04490, and Arjovsky and
    Bottou, "Towards Principled Methods for Training Generative Adversarial Networks", 2017, section
    3. https://arxiv.org/abs/1701.04862

    With `augment`, the discriminator of a training step is D(T(x)) instead of D(x), for real and
    generated images in the losses of both players, with a random change T of each image: see
    `zoo.augmentation`.

    Args:
        generator: Network from latents `z[B, D]` to images `x[B, H, W, C]` in [0, 1].
        discriminator: Network from images `x[B, H, W, C]` to logits `[B, 1]`, high for real images.
        prior: p(z), a `Prior` over `z[D]` without trainable weights.
        adversarial_loss: An `AdversarialLoss`; `NonSaturating()`, as in the paper's experiments, if
            `None`.
        discriminator_steps: k in the paper, at least 1.
        penalty: A `zoo.penalties.Penalty`, added to the discriminator's loss and reported as
            `penalty`, or `None`.
        instance_noise: Standard deviation of the instance noise, in units of images in [0, 1]: a
            number of at least 0, or a `zoo.schedules.Schedule` such as `LinearDecay`. Evaluation
            uses the schedule's value at the current training step.
        augment: Policy of `zoo.augmentation.augment`, such as "color,translation,cutout"; "" for no
            augmentation.

    Raises:
        ValueError: If a number is out of range, if the policy is unknown, if the prior has trainable
            weights, or if the penalty needs a discriminator without batch normalization.

    Notes:
        Images are augmented after the instance noise. A penalty is on the gradient of D(T(x)) with
        respect to x, as in Zhao et al.'s code for StyleGAN2.

    Example:
        >>> model = zoo.GAN(
        ...     zoo.networks.mlp_decoder(10, (8, 8, 1), output="sigmoid"),
        ...     zoo.networks.mlp_encoder((8, 8, 1), 1),
        ...     zoo.StandardNormal(10),
        ... )
        >>> model.compile(keras.optimizers.Adam(2e-4, beta_1=0.5))
        >>> x, _ = zoo.datasets.load("digits").arrays("train")
        >>> history = model.fit(x, epochs=2, verbose=0)
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        prior: Prior,
        adversarial_loss: AdversarialLoss | None = None,
        discriminator_steps: int = 1,
        penalty: Penalty | None = None,
        instance_noise: float | Schedule = 0.0,
        augment: str = "",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if penalty is not None:
            penalty.check(discriminator)
        check_weight(instance_noise, "instance_noise")
        check_policy(augment)
        self.generator = generator
        self.discriminator = discriminator
        refuse_learned(prior, "a GAN")
        self.prior = prior
        self.adversarial_loss = adversarial_loss or NonSaturating()
        self.discriminator_steps = as_count(discriminator_steps, "discriminator_steps")
        self.penalty = penalty
        self.instance_noise = instance_noise
        self.augment = augment

    @property
    def terms(self):
        return ("real_logit", "fake_logit") + (() if self.penalty is None else ("penalty",))

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {"discriminator": [self.discriminator], "generator": [self.generator]}

    def interfaces(self) -> dict[str, Interface]:
        discriminator = Interface((shape_of_images(self),), (LOGIT,), conditional=True)
        return super().interfaces() | {"discriminator": discriminator}

    def rounds(self) -> list[Round]:
        return [
            Round(self.discriminator_objective, steps=self.discriminator_steps),
            Round(self.generator_objective),
        ]

    def discriminator_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        z_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 3)
        real_noise_seed, fake_noise_seed, point_seed = tfp.random.split_seed(_second(seed), 3)
        real = self._with_noise(x, real_noise_seed)
        fake = self._with_noise(self._generate(x, y, z_seed, training), fake_noise_seed)
        fake = tf.stop_gradient(fake)

        def discriminate(images, noise_seed=real_noise_seed):
            return self._discriminate(images, y, _second(noise_seed), training)

        penalty = None
        if self.penalty is None:
            real_logits = discriminate(real)
        else:
            real_logits, penalty = self.penalty(discriminate, real, fake, point_seed)
        fake_logits = discriminate(fake, fake_noise_seed)
        loss = self.adversarial_loss.real(real_logits, real_seed)
        loss += self.adversarial_loss.fake(fake_logits, fake_seed)
        terms = {"real_logit": real_logits, "fake_logit": fake_logits}
        if penalty is not None:
            loss += penalty
            terms["penalty"] = penalty
        return {"discriminator": loss}, terms

    def generator_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        noise_seed = _second(seed)
        fake = self._with_noise(self._generate(x, y, seed, training), noise_seed)
        fake_logits = self._discriminate(fake, y, _second(noise_seed), training)
        return {"generator": self.adversarial_loss.generator(fake_logits)}, {}

    def _generate(self, x, y, seed, training):
        """One generated image for each image of `x`."""
        return networks.call(self.generator, self.prior.sample_for(x, seed=seed), y, training)

    def _with_noise(self, x, seed):
        if isinstance(self.instance_noise, int | float) and not self.instance_noise:
            return x
        x = tf.cast(x, tf.float32)
        return x + value_at(self.instance_noise, self.step) * draws.normal(tf.shape(x), seed)

    def _discriminate(self, images, y, seed, training):
        images = augmented(images, self.augment, seed, training)
        return networks.logits(self.discriminator, images, y, training)

    def call(self, z: Array, training: bool = False) -> tf.Tensor:
        """Images for the latents `z[B, D]`, because a GAN cannot reconstruct."""
        return self.decode(z)


def _second(seed):
    """A seed for more draws, independent of the seeds from `split_seed`."""
    return tf.random.experimental.stateless_fold_in(seed, 1)


@choices(
    network={
        "mlp": ("generator_hidden", "discriminator_hidden"),
        "conv": ("width",),
        "resnet": ("width",),
    },
    loss=LOSSES,
)
@extends(prior_part, without=LEARNED_PRIOR_SIZES)
def parts(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 100,
    network: str = "mlp",
    generator_hidden: Sequence[int] = (256, 512),
    discriminator_hidden: Sequence[int] = (512, 256),
    width: int = 64,
    dropout: float = 0.3,
    batch_norm: bool = False,
    spectral_norm: bool = False,
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    discriminator_steps: int = 1,
    gradient_penalty: float = 0.0,
    r1: float = 0.0,
    instance_noise: float = 0.0,
    instance_noise_steps: int = 0,
    augment: str = "",
    condition: networks.Condition | None = None,
    projection: bool = False,
    **prior: Any,
) -> dict[str, Any]:
    """The arguments of `GAN`, for builders. The options are those of `gan`, and:

    Args:
        condition, projection: As for `zoo.networks.discriminator`.
    """
    check_bounded(loss, gradient_penalty, r1, spectral_norm)

    def generator(shape):
        return networks.generator(network, shape[0], image_shape, generator_hidden, width)

    return {
        "generator": networks.conditioned(generator, (latent_dim,), condition),
        "discriminator": networks.discriminator(
            network,
            image_shape,
            discriminator_hidden,
            width,
            dropout,
            batch_norm=batch_norm,
            spectral_norm=spectral_norm,
            condition=condition,
            projection=projection,
        ),
        "prior": prior_part(image_shape, latent_dim=latent_dim, **prior),
        "adversarial_loss": adversarial_loss(loss, real_label, label_noise),
        "discriminator_steps": discriminator_steps,
        "penalty": penalty(gradient_penalty, r1),
        "instance_noise": decaying(instance_noise, instance_noise_steps),
        "augment": augment,
    }


@extends(parts, without=("condition", "projection"))
def gan(image_shape: Sequence[int], **options: Any) -> GAN:
    """A `GAN` whose generator has batch normalization.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        network: "mlp" for multilayer perceptrons, "conv" for DCGAN's networks, "resnet" for SNGAN's
            residual networks.
        generator_hidden: Units of the generator's hidden layers, for "mlp".
        discriminator_hidden: Units of the discriminator's hidden layers, for "mlp".
        width: Channels of the layer next to the image, for "conv" and "resnet": see
            `zoo.networks.generator`.
        dropout: Dropout rate of the discriminator's hidden layers.
        batch_norm, spectral_norm: Whether the discriminator has this normalization; at most one of
            the two.
        prior, prior_scale, prior_components: See `zoo.distributions.by_name.prior`.
        loss, real_label, label_noise: See `zoo.adversarial.adversarial_loss`. The loss
            "wasserstein" needs a penalty or spectral normalization.
        discriminator_steps: As for `GAN`.
        gradient_penalty, r1: Weight of the penalty of that name, 0 for none: see `zoo.penalties`.
        instance_noise: Initial standard deviation of the instance noise.
        instance_noise_steps: Training steps in which the noise falls to 0; 0 for constant noise.
        augment: As for `GAN`.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or options do not fit together.

    Example:
        >>> model = zoo.models.gan((8, 8, 1), latent_dim=4, loss="hinge", r1=1.0)
        >>> model.sample(3).shape
        TensorShape([3, 8, 8, 1])
    """
    return GAN(**parts(image_shape, **options))


def check_bounded(
    loss: str, gradient_penalty: float = 0.0, r1: float = 0.0, spectral_norm: bool = False
) -> None:
    """Raises a `ValueError` for the loss "wasserstein" if nothing bounds the critic's slope."""
    if loss == "wasserstein" and not (gradient_penalty or r1 or spectral_norm):
        raise ValueError(
            "The loss 'wasserstein' has no lower bound unless something bounds the critic's slope: "
            "set `gradient_penalty` (10 in the paper), `r1` or `spectral_norm`, if the model has "
            f"it. Received: gradient_penalty={gradient_penalty}, r1={r1}, "
            f"spectral_norm={spectral_norm}."
        )


def decaying(instance_noise: float, steps: int) -> float | Schedule:
    """Instance noise that decays linearly to 0 in `steps` steps, or is constant if `steps` is 0."""
    check_weight(instance_noise, "instance_noise")
    if steps and not instance_noise:
        raise ValueError(
            "`instance_noise_steps` needs instance noise that can decay: set `instance_noise`, or "
            f"leave out `instance_noise_steps`. Received: instance_noise_steps={steps}."
        )
    return LinearDecay(steps, instance_noise) if steps else instance_noise
