"""Class-conditional generative adversarial networks.

Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014. https://arxiv.org/abs/1411.1784
Miyato and Koyama, "cGANs with Projection Discriminator", 2018. https://arxiv.org/abs/1802.05637
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo import networks
from zoo.adversarial import AdversarialLoss, adversarial_loss
from zoo.config import look_up
from zoo.distributions import Prior
from zoo.model import as_images
from zoo.models.gan import GAN, check_bounded, decaying, latents_of
from zoo.penalties import Penalty, penalty
from zoo.schedules import Schedule


@keras.saving.register_keras_serializable("zoo")
class CGAN(GAN):
    """A GAN of x given y: both networks see the condition.

    Mirza and Osindero's eq. 2, E log D(x | y) + E log(1 - D(G(z | y) | y)), for whichever
    `adversarial_loss`. The images of a batch and those made in its place have the same conditions,
    which are the data's own: the best discriminator of the former loss is p(x | y) / (p(x | y) +
    p_G(x | y)), whatever p(y) is. (Miyato and Koyama draw labels evenly, from data where these are.)

    How the discriminator takes the condition is its network's affair: beside the image, as in Mirza
    and Osindero's figure 1, or by projection, as in Miyato and Koyama's section 3; see
    `zoo.networks.mlp_discriminator`. There are generators with one-hot codes beside the noise, as in
    the former; the latter's have batch normalization with parameters for each class, which is not
    here.

    Args:
        generator: Network from `[z[B, D], y[B, ...]]` to `x[B, H, W, C]` in [0, 1].
        discriminator: Network from `[x[B, H, W, C], y[B, ...]]` to logits `[B, 1]`, high for real.
        prior: p(z), a `Prior` over `z[D]`, the same for all y.
        adversarial_loss, discriminator_steps, penalty, instance_noise: As for `GAN`.

    Raises:
        ValueError: If a network does not take two inputs, or both do not take the same `y`; and as
            for `GAN`.

    Example:
        >>> cgan = zoo.models.cgan.cgan_mlp((8, 8, 1), 4, (16,), (16,))
        >>> cgan.compile(keras.optimizers.Adam(1e-3, beta_1=0.5))
        >>> x, y = zoo.datasets.load("digits").arrays("train")
        >>> history = cgan.fit(x, y, verbose=0)
        >>> cgan.sample(2, y=[3, 7]).shape
        TensorShape([2, 8, 8, 1])
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
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            if len(network.inputs) != 2:
                raise ValueError(
                    f"The {name} of a CGAN takes the condition y beside its other input. "
                    f"Received: a network of {len(network.inputs)} inputs."
                )
        specs = [(n.inputs[1].shape[1:], n.inputs[1].dtype) for n in (generator, discriminator)]
        if specs[0] != specs[1]:
            raise ValueError(
                "Generator and discriminator take the same condition. Received: a y of shape "
                f"[B, ...] with {specs[0]}, and one with {specs[1]}."
            )
        super().__init__(
            generator,
            discriminator,
            prior,
            adversarial_loss,
            discriminator_steps,
            penalty,
            instance_noise,
            **kwargs,
        )

    @property
    def condition(self):
        taken = self.generator.inputs[1]
        return tf.TensorSpec(taken.shape, taken.dtype)

    def _fake(self, x, y, seed, training):
        return self.generator([self._noise(x, seed), self._given(y)], training=training)

    def _judge(self, x, y, training):
        inputs = [tf.convert_to_tensor(x), self._given(y)]  # Keras takes no mixed list.
        logits = self.discriminator(inputs, training=training)
        return tf.cast(logits[:, 0], tf.float32)

    def _given(self, y):
        if y is None:
            raise ValueError(
                "A CGAN takes a condition with every image and every latent: train it on "
                "(x, y), and pass `y` to its methods. Received: y=None."
            )
        return tf.cast(y, self.condition.dtype)

    def call(self, inputs, training=False):
        """Images for `[z, y]`, the latents `z[B, D]` and their conditions."""
        return self.decode(*inputs)

    def decode(self, z, y=None):
        z = tf.cast(z, tf.float32)
        return as_images(self.generator([z, self._given(self.condition_for(z, y, 2))]))


def cgan_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 100,
    generator_hidden: Sequence[int] = (256, 512),
    discriminator_hidden: Sequence[int] = (512, 256),
    dropout: float = 0.3,
    condition_size: int = 0,
    discriminator: str = "concat",
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
) -> CGAN:
    """A `CGAN` of multilayer perceptrons, given labels.

    Args:
        image_shape: Height, width, channels.
        condition_size: Number of classes, 10 if 0.
        discriminator: "concat" for labels beside the image, "projection" for Miyato and Koyama's.
        latent_dim, generator_hidden, discriminator_hidden, dropout, latents: As for
            `zoo.models.gan.gan_mlp`, and all others too.

    Raises:
        ValueError: For names that there are not, or settings that do not go together.
    """
    check_bounded(loss, gradient_penalty, r1, spectral_norm)
    classes = _classes(condition_size)
    generator = networks.mlp_decoder(
        latent_dim + classes,
        image_shape,
        hidden=generator_hidden,
        output="sigmoid",
        batch_norm=True,
    )
    return CGAN(
        networks.beside_label(generator, latent_dim, classes),
        networks.mlp_discriminator(
            image_shape,
            discriminator_hidden,
            dropout,
            batch_norm=batch_norm,
            spectral_norm=spectral_norm,
            classes=classes,
            projection=look_up(_DISCRIMINATORS, discriminator, "discriminator"),
        ),
        latents_of(latents, latent_dim),
        adversarial_loss(loss, real_label=real_label, label_noise=label_noise),
        discriminator_steps,
        penalty(gradient_penalty, r1),
        decaying(instance_noise, instance_noise_steps),
    )


def cdcgan(
    image_shape: Sequence[int],
    latent_dim: int = 100,
    width: int = 64,
    condition_size: int = 0,
    discriminator: str = "concat",
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
) -> CGAN:
    """A `CGAN` with DCGAN's networks, given labels, for 28, 32 or 64 pixels.

    Args:
        image_shape: Height, width, channels.
        condition_size, discriminator: As for `cgan_mlp`.
        latent_dim, width, latents: As for `zoo.models.gan.dcgan`, and all others too.

    Raises:
        ValueError: For names that there are not, or settings that do not go together.
    """
    check_bounded(loss, gradient_penalty, r1, spectral_norm)
    classes = _classes(condition_size)
    generator = networks.dcgan_generator(latent_dim + classes, image_shape, width)
    return CGAN(
        networks.beside_label(generator, latent_dim, classes),
        networks.dcgan_discriminator(
            image_shape,
            width,
            batch_norm=batch_norm,
            spectral_norm=spectral_norm,
            classes=classes,
            projection=look_up(_DISCRIMINATORS, discriminator, "discriminator"),
        ),
        latents_of(latents, latent_dim),
        adversarial_loss(loss, real_label=real_label, label_noise=label_noise),
        discriminator_steps,
        penalty(gradient_penalty, r1),
        decaying(instance_noise, instance_noise_steps),
    )


# Whether they project.
_DISCRIMINATORS = {"concat": False, "projection": True}


def _classes(condition_size):
    if condition_size < 0:
        raise ValueError(f"`condition_size` must be at least 0. Received: {condition_size}.")
    return condition_size or 10
