"""Generative adversarial network.

Goodfellow et al., "Generative Adversarial Nets", 2014. https://arxiv.org/abs/1406.2661
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import AdversarialLoss, NonSaturating, adversarial_loss
from zoo.distributions import Prior, StandardNormal, Uniform
from zoo.model import GenerativeModel, Round, as_images


@keras.saving.register_keras_serializable("zoo")
class GAN(GenerativeModel):
    """A generator learns to make what a discriminator takes for real.

    The paper's Algorithm 1: `discriminator_steps` moves of the discriminator, then one of the
    generator, each with fresh noise and its own minibatch, which is the batch divided by the number
    of steps. Real and fake images go through the discriminator apart, so that batch normalization
    sees either kind alone.

    Args:
        generator: Network from noise `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        discriminator: Network from `x[B, H, W, C]` to logits `[B, 1]`, high for real.
        prior: p(z), a `Prior` over `z[D]`.
        adversarial_loss: An `AdversarialLoss`; `NonSaturating()` if `None`, as the paper trains.
        discriminator_steps: k in the paper.

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

    terms = ("real_logit", "fake_logit")

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        prior: Prior,
        adversarial_loss: AdversarialLoss | None = None,
        discriminator_steps: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if discriminator_steps < 1:
            raise ValueError(
                f"`discriminator_steps` must be at least 1. Received: {discriminator_steps}."
            )
        self.generator = generator
        self.discriminator = discriminator
        self.prior = prior
        self.adversarial_loss = adversarial_loss or NonSaturating()
        self.discriminator_steps = discriminator_steps

    def players(self):
        return {"discriminator": [self.discriminator], "generator": [self.generator]}

    def rounds(self):
        return [
            Round(self.discriminator_objective, steps=self.discriminator_steps),
            Round(self.generator_objective),
        ]

    def discriminator_objective(self, x, y, seed, training):
        noise_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 3)
        fake = tf.stop_gradient(self._fake(x, noise_seed, training))
        real_logit = self._judge(x, training)
        fake_logit = self._judge(fake, training)
        loss = self.adversarial_loss.real(real_logit, real_seed) + self.adversarial_loss.fake(
            fake_logit, fake_seed
        )
        return {"discriminator": loss}, {"real_logit": real_logit, "fake_logit": fake_logit}

    def generator_objective(self, x, y, seed, training):
        fake_logit = self._judge(self._fake(x, seed, training), training)
        return {"generator": self.adversarial_loss.fool(fake_logit)}, {}

    def _fake(self, x, seed, training):
        z = self.prior().sample(tf.shape(x)[0], seed=seed)
        return self.generator(tf.ensure_shape(z, [x.shape[0], None]), training=training)

    def _judge(self, x, training):
        return tf.cast(self.discriminator(x, training=training)[:, 0], tf.float32)

    @property
    def image_shape(self):
        return tuple(self.discriminator.inputs[0].shape[1:])

    def call(self, z, training=False):
        """Images for the latents `z[B, D]`: a GAN has nothing to reconstruct with."""
        return self.decode(z)

    def decode(self, z, y=None):
        return as_images(self.generator(z))


def gan_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 100,
    generator_hidden: Sequence[int] = (256, 512),
    discriminator_hidden: Sequence[int] = (512, 256),
    dropout: float = 0.3,
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    discriminator_steps: int = 1,
) -> GAN:
    """A `GAN` of multilayer perceptrons, the generator with batch normalization."""
    return GAN(
        networks.mlp_decoder(
            latent_dim, image_shape, hidden=generator_hidden, output="sigmoid", batch_norm=True
        ),
        networks.mlp_discriminator(image_shape, discriminator_hidden, dropout),
        StandardNormal(latent_dim),
        adversarial_loss(loss, real_label=real_label, label_noise=label_noise),
        discriminator_steps,
    )


def dcgan(
    image_shape: Sequence[int],
    latent_dim: int = 100,
    width: int = 64,
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    discriminator_steps: int = 1,
) -> GAN:
    """A `GAN` with DCGAN's networks and its uniform noise, for 28, 32 or 64 pixels."""
    return GAN(
        networks.dcgan_generator(latent_dim, image_shape, width),
        networks.dcgan_discriminator(image_shape, width),
        Uniform(latent_dim),
        adversarial_loss(loss, real_label=real_label, label_noise=label_noise),
        discriminator_steps,
    )
