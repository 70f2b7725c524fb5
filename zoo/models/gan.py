"""Generative adversarial network.

Goodfellow et al., "Generative Adversarial Nets", 2014. https://arxiv.org/abs/1406.2661
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws, networks
from zoo.adversarial import AdversarialLoss, NonSaturating, adversarial_loss
from zoo.config import look_up
from zoo.distributions import Prior, StandardNormal, Uniform, UniformOnSphere, refuse_learned
from zoo.model import GenerativeModel, Round, as_images
from zoo.penalties import Penalty, penalty
from zoo.schedules import LinearDecay, Schedule, check_weight, value_at


@keras.saving.register_keras_serializable("zoo")
class GAN(GenerativeModel):
    """A generator learns to make what a discriminator takes for real.

    The paper's Algorithm 1: `discriminator_steps` moves of the discriminator, then one of the
    generator, each with fresh noise and its own minibatch, which is the batch divided by the number
    of steps. Real and fake images go through the discriminator apart, so that batch normalization
    sees either kind alone.

    Which game is played, what keeps the discriminator smooth, and what the networks are, go together
    at will: `adversarial_loss`, `penalty`, and spectral normalization (`zoo.networks`). A critic for
    the loss `Wasserstein()` is a discriminator with a `GradientPenalty`.

    Instance noise, N(0, instance_noise^2) on all that the discriminator sees, real or fake, makes
    both overlap while the generator is poor: Sonderby et al., "Amortised MAP Inference for Image
    Super-resolution", 2017, section 3.3, https://arxiv.org/abs/1610.04490, and Arjovsky and Bottou,
    "Towards Principled Methods for Training Generative Adversarial Networks", 2017, section 3.
    https://arxiv.org/abs/1701.04862

    Args:
        generator: Network from noise `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        discriminator: Network from `x[B, H, W, C]` to logits `[B, 1]`, high for real.
        prior: p(z), a `Prior` over `z[D]` that does not learn.
        adversarial_loss: An `AdversarialLoss`; `NonSaturating()` if `None`, as the paper trains.
        discriminator_steps: k in the paper.
        penalty: A `zoo.penalties.Penalty`, added to the discriminator's loss and reported as
            `penalty`, or `None`.
        instance_noise: Standard deviation of the instance noise in units of images in [0, 1], a
            number from 0 on or a `zoo.schedules.Schedule`, such as `LinearDecay`. Evaluation takes a
            schedule's value at the step where training stands.

    Raises:
        ValueError: If a number is out of range, the prior learns, or there is a penalty on the slope
            at each example and batch normalization in the discriminator.

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        if discriminator_steps < 1:
            raise ValueError(
                f"`discriminator_steps` must be at least 1. Received: {discriminator_steps}."
            )
        if penalty is not None:
            penalty.check(discriminator)
        check_weight(instance_noise, "instance_noise")
        self.generator = generator
        self.discriminator = discriminator
        refuse_learned(prior, "a GAN")
        self.prior = prior
        self.adversarial_loss = adversarial_loss or NonSaturating()
        self.discriminator_steps = discriminator_steps
        self.penalty = penalty
        self.instance_noise = instance_noise

    @property
    def terms(self):
        return ("real_logit", "fake_logit") + (() if self.penalty is None else ("penalty",))

    def players(self):
        return {"discriminator": [self.discriminator], "generator": [self.generator]}

    def rounds(self):
        return [
            Round(self.discriminator_objective, steps=self.discriminator_steps),
            Round(self.generator_objective),
        ]

    def discriminator_objective(self, x, y, seed, training):
        noise_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 3)
        # Seeds beside those of z and of the labels.
        x_seed, made_seed, point_seed = tfp.random.split_seed(_beside(seed), 3)
        real = self._noisy(x, x_seed)
        fake = tf.stop_gradient(self._noisy(self._fake(x, y, noise_seed, training), made_seed))

        def judge(images):
            return self._judge(images, y, training)

        if self.penalty is None:
            real_logit, paid = judge(real), None
        else:
            real_logit, paid = self.penalty(judge, real, fake, point_seed)
        fake_logit = judge(fake)
        loss = self.adversarial_loss.real(real_logit, real_seed) + self.adversarial_loss.fake(
            fake_logit, fake_seed
        )
        terms = {"real_logit": real_logit, "fake_logit": fake_logit}
        if paid is not None:
            terms["penalty"] = paid
            loss += paid
        return {"discriminator": loss}, terms

    def generator_objective(self, x, y, seed, training):
        fake = self._noisy(self._fake(x, y, seed, training), _beside(seed))
        return {"generator": self.adversarial_loss.generator(self._judge(fake, y, training))}, {}

    def _fake(self, x, y, seed, training):
        """As many images as there are in `x`."""
        return self.generator(self._noise(x, seed), training=training)

    def _judge(self, x, y, training):
        """The logits `[B]` of images."""
        return tf.cast(self.discriminator(x, training=training)[:, 0], tf.float32)

    def _noise(self, x, seed):
        z = self.prior().sample(tf.shape(x)[0], seed=seed)
        return tf.ensure_shape(z, [x.shape[0], None])

    def _noisy(self, x, seed):
        if isinstance(self.instance_noise, int | float) and not self.instance_noise:
            return x
        x = tf.cast(x, tf.float32)
        return x + value_at(self.instance_noise, self.step) * draws.normal(tf.shape(x), seed)

    @property
    def image_shape(self):
        return tuple(self.discriminator.inputs[0].shape[1:])

    def call(self, z, training=False):
        """Images for the latents `z[B, D]`: a GAN has nothing to reconstruct with."""
        return self.decode(z)

    def decode(self, z, y=None):
        return as_images(self.generator(z))


def _beside(seed):
    return tf.random.experimental.stateless_fold_in(seed, 1)


def gan_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 100,
    generator_hidden: Sequence[int] = (256, 512),
    discriminator_hidden: Sequence[int] = (512, 256),
    dropout: float = 0.3,
    latents: str = "normal",
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    discriminator_steps: int = 1,
    gradient_penalty: float = 0.0,
    r1: float = 0.0,
    batch_norm: bool = False,
    spectral_norm: bool = False,
    instance_noise: float = 0.0,
    instance_noise_steps: int = 0,
) -> GAN:
    """A `GAN` of multilayer perceptrons, the generator with batch normalization.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        generator_hidden: Units of the generator's hidden layers.
        discriminator_hidden: Units of the discriminator's.
        dropout: Share of the discriminator's hidden values dropped in training.
        latents: "normal", "uniform" on [-1, 1]^D, or "sphere".
        loss, real_label, label_noise: See `zoo.adversarial.adversarial_loss`.
        discriminator_steps: As for `GAN`.
        gradient_penalty, r1: Weight of that penalty: see `zoo.penalties`. 0 for none.
        batch_norm, spectral_norm: Of the discriminator. The loss "wasserstein" needs a penalty or
            spectral normalization.
        instance_noise: Standard deviation of the instance noise at the start.
        instance_noise_steps: Training steps in which it falls to 0; 0 for noise that stays.

    Raises:
        ValueError: For names that there are not, or settings that do not go together.
    """
    check_bounded(loss, gradient_penalty, r1, spectral_norm)
    return GAN(
        networks.mlp_decoder(
            latent_dim, image_shape, hidden=generator_hidden, output="sigmoid", batch_norm=True
        ),
        networks.mlp_discriminator(
            image_shape,
            discriminator_hidden,
            dropout,
            batch_norm=batch_norm,
            spectral_norm=spectral_norm,
        ),
        latents_of(latents, latent_dim),
        adversarial_loss(loss, real_label=real_label, label_noise=label_noise),
        discriminator_steps,
        penalty(gradient_penalty, r1),
        decaying(instance_noise, instance_noise_steps),
    )


def dcgan(
    image_shape: Sequence[int],
    latent_dim: int = 100,
    width: int = 64,
    latents: str = "uniform",
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    discriminator_steps: int = 1,
    gradient_penalty: float = 0.0,
    r1: float = 0.0,
    batch_norm: bool = True,
    spectral_norm: bool = False,
    instance_noise: float = 0.0,
    instance_noise_steps: int = 0,
) -> GAN:
    """A `GAN` with DCGAN's networks and its uniform noise, for 28, 32 or 64 pixels.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        width: Channels next to the images, of which the others are multiples.
        latents: "uniform", as in the paper, "normal" or "sphere".
        batch_norm, spectral_norm: Of the discriminator; the generator has batch normalization.
        loss, real_label, label_noise, discriminator_steps, gradient_penalty, r1: As for `gan_mlp`.
        instance_noise, instance_noise_steps: Likewise.

    Raises:
        ValueError: For names that there are not, sizes that images do not have, or settings that do
            not go together, such as a penalty or spectral normalization with `batch_norm`.
    """
    check_bounded(loss, gradient_penalty, r1, spectral_norm)
    return GAN(
        networks.dcgan_generator(latent_dim, image_shape, width),
        networks.dcgan_discriminator(
            image_shape, width, batch_norm=batch_norm, spectral_norm=spectral_norm
        ),
        latents_of(latents, latent_dim),
        adversarial_loss(loss, real_label=real_label, label_noise=label_noise),
        discriminator_steps,
        penalty(gradient_penalty, r1),
        decaying(instance_noise, instance_noise_steps),
    )


def latents_of(name: str, dim: int) -> Prior:
    """A GAN's prior by name: "normal", "uniform" on [-1, 1]^dim, or "sphere"."""
    priors = {"normal": StandardNormal, "uniform": Uniform, "sphere": UniformOnSphere}
    return look_up(priors, name, "prior")(dim)


def check_bounded(loss: str, gradient_penalty: float, r1: float, spectral_norm: bool) -> None:
    """Raises a `ValueError` for a critic of the loss "wasserstein" with nothing to bound its slope."""
    if loss == "wasserstein" and not (gradient_penalty or r1 or spectral_norm):
        raise ValueError(
            "The loss 'wasserstein' has no lower bound where nothing bounds the critic's slope: give "
            "`gradient_penalty` (10 in the paper) or `r1`, or set `spectral_norm`. Received: "
            f"gradient_penalty={gradient_penalty}, r1={r1}, spectral_norm={spectral_norm}."
        )


def decaying(instance_noise: float, steps: int) -> float | Schedule:
    """Instance noise that falls to 0 in so many steps, or with 0 steps stays as it is."""
    check_weight(instance_noise, "instance_noise")
    if steps and not instance_noise:
        raise ValueError(
            "There is no instance noise to fall: give `instance_noise`, or leave out "
            f"`instance_noise_steps`. Received: instance_noise_steps={steps}."
        )
    return LinearDecay(steps, instance_noise) if steps else instance_noise
