"""Conditional generative adversarial networks.

Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014. https://arxiv.org/abs/1411.1784
Miyato and Koyama, "cGANs with Projection Discriminator", 2018. https://arxiv.org/abs/1802.05637
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo import networks
from zoo.adversarial import AdversarialLoss
from zoo.config import choices, extends
from zoo.distributions import Prior
from zoo.models.gan import GAN, gan, parts
from zoo.penalties import Penalty
from zoo.schedules import Schedule


@keras.saving.register_keras_serializable("zoo")
class CGAN(GAN):
    """A GAN of x given y: both networks take the condition as their second input.

    The objective is Mirza and Osindero's equation 2, E log D(x | y) + E log(1 - D(G(z | y) | y)),
    generalised to any `adversarial_loss`. Generated images have the conditions of the real images
    in the batch, so that for equation 2 the optimal discriminator is
    p(x | y) / (p(x | y) + p_G(x | y)) for any p(y).

    The discriminator either concatenates the condition with the image, as in Mirza and Osindero's
    figure 1, or uses a projection, as in Miyato and Koyama's section 3.

    Args:
        generator: Network from `[z[B, D], y[B, ...]]` to images `x[B, H, W, C]` in [0, 1].
        discriminator: Network from `[x[B, H, W, C], y[B, ...]]` to logits `[B, 1]`, high for real
            images.
        prior: p(z), a `Prior` over `z[D]`, the same for all y, without trainable weights.
        adversarial_loss, discriminator_steps, penalty, instance_noise, augment: As for `GAN`.

    Raises:
        ValueError: If a network does not take two inputs, if the networks take different
            conditions, or as for `GAN`.

    Notes:
        Miyato and Koyama draw the labels of generated images uniformly, and their generator has
        batch normalization with parameters for each class. Here the generator concatenates the
        condition with the latents.

    Example:
        >>> model = zoo.models.cgan((8, 8, 1), latent_dim=4)
        >>> model.compile(keras.optimizers.Adam(1e-3, beta_1=0.5))
        >>> x, y = zoo.datasets.load("digits").arrays("train")
        >>> history = model.fit(x, y, verbose=0)
        >>> model.sample(2, y=[3, 7]).shape
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
        augment: str = "",
        **kwargs: Any,
    ):
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            networks.check_built(network, f"The {name} of a CGAN")
            if len(network.inputs) != 2:
                raise ValueError(
                    f"The {name} of a CGAN takes the condition y as its second input. "
                    f"Received: a network with {len(network.inputs)} inputs."
                )
        specs = [(n.inputs[1].shape[1:], n.inputs[1].dtype) for n in (generator, discriminator)]
        if specs[0] != specs[1]:
            raise ValueError(
                "Generator and discriminator must take the same condition. Received: a y of shape "
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
            augment,
            **kwargs,
        )

    @property
    def condition(self) -> tf.TensorSpec | None:
        y = self.generator.inputs[1]
        return tf.TensorSpec(y.shape, y.dtype)

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Images for `[z, y]`, the latents `z[B, D]` and their conditions."""
        return self.decode(*inputs)


@choices(
    condition={"label": (), "attributes": ()},
    discriminator={"concat": (), "projection": ()},
)
@extends(gan)
def cgan(
    image_shape: Sequence[int],
    *,
    condition: str = "label",
    condition_size: int = 0,
    discriminator: str = "concat",
    **options: Any,
) -> CGAN:
    """A `CGAN` with the networks of `zoo.models.gan`.

    Args:
        image_shape: Height, width, channels.
        condition: "label" for a class, ints `[B]`, or "attributes" for `[B, A]`.
        condition_size: Number of classes, 0 for 10; or number of attributes.
        discriminator: "concat" to concatenate the condition with the image, "projection" for Miyato
            and Koyama's inner product with a label's embedding.
        **options: As for `zoo.models.gan`.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or options do not fit together.

    Example:
        >>> model = zoo.models.cgan((8, 8, 1), discriminator="projection", loss="hinge")
        >>> model.sample(3, y=7).shape
        TensorShape([3, 8, 8, 1])
    """
    y = networks.condition(condition, condition_size, image_shape)
    projection = discriminator == "projection"
    return CGAN(**parts(image_shape, condition=y, projection=projection, **options))
