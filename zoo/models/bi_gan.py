"""Bidirectional generative adversarial network (BiGAN).

Donahue et al., "Adversarial Feature Learning", 2017. https://arxiv.org/abs/1605.09782
Dumoulin et al., "Adversarially Learned Inference", 2017 (the same objective with a stochastic
encoder: see `zoo.models.ali`). https://arxiv.org/abs/1606.00704
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import LOSSES, AdversarialLoss, Minimax, NonSaturating, adversarial_loss
from zoo.augmentation import augmented, check_policy
from zoo.config import choices, extends
from zoo.distributions import (
    Conditional,
    ImplicitPart,
    Prior,
    noisy_mlp,
    refuse_learned,
)
from zoo.interfaces import LOGIT, Interface, context_shape, shape_of_images
from zoo.model import GenerativeModel
from zoo.models.parts import LEARNED_PRIOR_SIZES, NETWORKS_OF_LATENTS, latent_parts


@keras.saving.register_keras_serializable("zoo")
class BiGAN(GenerativeModel):
    """A GAN on pairs of images and latents: (x, E(x)) against (G(z), z).

    The discriminator separates the real pairs (x, E(x)) from the fake pairs (G(z), z). It maximises
    the value of the game, and encoder and generator minimise it:

        V = E log D(x, E(x)) + E log(1 - D(G(z), z))

    (Donahue et al., equation 3; Dumoulin et al., equation 1). With the optimal discriminator, V is
    twice the Jensen-Shannon divergence of the two joint distributions, minus log 4. If the joint
    distributions are equal, a deterministic encoder is the inverse of the generator (Donahue et
    al., theorem 2).

    The three players are updated at once, after one forward pass (Dumoulin et al., Algorithm 1). As
    in both papers, encoder and generator minimise the discriminator's loss with exchanged labels:
    -log(1 - D(x, E(x))) for the encoder, -log D(G(z), z) for the generator. With a `LogRatio`, the
    encoder minimises the logit of real pairs, and the generator minus the logit of fake pairs. With
    the optimal discriminator, these losses are the Kullback-Leibler divergences of each joint
    distribution from the other. Real and fake pairs pass through the discriminator separately, so
    that batch normalization never mixes them.

    With a `Deterministic` posterior the model is the BiGAN; with a `DiagonalNormal` it is ALI,
    which trains on draws of q(z | x). `encode` returns the mean of q(z | x). The model has no
    reconstruction loss: `reconstruct` shows how well the encoder inverts the generator.

    Args:
        posterior: E or q(z | x), a `Conditional` or an `ImplicitPart` on `x[B, H, W, C]`, over
            `z[B, D]`.
        generator: G, a network from `z[B, D]` to images `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]` without trainable weights. A density is not needed.
        discriminator: Network from `[x[B, H, W, C], z[B, D]]` to logits `[B, 1]`, high for images
            with their codes.
        adversarial_loss: A `Minimax`, `NonSaturating` or `LogRatio`, for which exchanging the
            labels negates the logit; `NonSaturating()` if `None`.
        augment: Policy of `zoo.augmentation.augment` for the images of real and fake pairs in
            training, such as "color,translation,cutout"; "" for no augmentation. The encoder takes
            the images before their change.

    Raises:
        ValueError: If the adversarial loss is of another class, if the policy is unknown, if the
            prior has trainable weights, or if the parts do not fit together.

    Example:
        >>> model = zoo.models.bi_gan((8, 8, 1), latent_dim=4, hidden=(32,))
        >>> model.compile(keras.optimizers.Adam(2e-4, beta_1=0.5))
        >>> x, _ = zoo.datasets.load("digits").arrays("train")
        >>> history = model.fit(x, verbose=0)
        >>> model.reconstruct(x[:3]).shape
        TensorShape([3, 8, 8, 1])
    """

    terms: tuple[str, ...] = ("real_logit", "fake_logit")

    def __init__(
        self,
        posterior: Conditional | ImplicitPart,
        generator: keras.Model,
        prior: Prior,
        discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        augment: str = "",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_policy(augment)
        if not isinstance(adversarial_loss, Minimax | None):
            raise ValueError(
                "The encoder of a BiGAN trains with exchanged labels, which negate the logit for "
                "the losses Minimax, NonSaturating and LogRatio only: choose one of these. "
                f"Received: a {type(adversarial_loss).__name__}."
            )
        self.posterior = posterior
        self.generator = generator
        refuse_learned(prior, "a BiGAN")
        self.prior = prior
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss or NonSaturating()
        self.augment = augment

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {
            "encoder": [self.posterior],
            "generator": [self.generator],
            "discriminator": [self.discriminator],
        }

    def interfaces(self) -> dict[str, Interface]:
        latents = context_shape(self.generator)
        return super().interfaces() | {
            "generator": Interface((latents,), (shape_of_images(self),)),
            "discriminator": Interface((shape_of_images(self), latents), (LOGIT,)),
        }

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        code_seed, prior_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 4)
        code = self.posterior(x, y, training=training).sample(seed=code_seed)
        z = self.prior.sample_for(x, y, prior_seed)
        fake = tf.cast(self.generator(z, training=training), tf.float32)
        seeds = tfp.random.split_seed(tf.random.experimental.stateless_fold_in(seed, 1), 2)
        x, fake = (
            augmented(images, self.augment, image_seed, training)
            for images, image_seed in zip((x, fake), seeds, strict=True)
        )
        real_logits = networks.logits(self.discriminator, x, code, training)
        fake_logits = networks.logits(self.discriminator, fake, z, training)
        loss = self.adversarial_loss
        return {
            "encoder": loss.generator(-real_logits),
            "generator": loss.generator(fake_logits),
            "discriminator": loss.real(real_logits, real_seed) + loss.fake(fake_logits, fake_seed),
        }, {"real_logit": real_logits, "fake_logit": fake_logits}


@choices(
    network={"mlp": (), "conv": ("width", "dropout"), "resnet": ("width", "dropout")}, loss=LOSSES
)
@extends(
    latent_parts,
    without=(*NETWORKS_OF_LATENTS, *LEARNED_PRIOR_SIZES),
    posterior="deterministic",
    prior="uniform",
)
def bi_gan(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 50,
    network: str = "mlp",
    hidden: Sequence[int] = (1024, 1024),
    width: int = 32,
    dropout: float = 0.2,
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    augment: str = "",
    **options: Any,
) -> BiGAN:
    """A `BiGAN` with Donahue et al.'s perceptrons, or with convolutional networks similar to ALI's.

    "mlp" is Donahue et al.'s network for permutation-invariant MNIST. In encoder, generator and
    discriminator, the last hidden layer has batch normalization without a learned offset or scale
    before its activation. The activation is leaky ReLU of slope 0.2 in encoder and discriminator,
    and ReLU in the generator.

    "conv" follows Dumoulin et al.'s appendix A, with DCGAN's networks. The encoder is DCGAN's
    discriminator with `latent_dim` outputs. In the discriminator, the same convolutions without
    normalization process the image, dense layers process the latent, and further dense layers,
    twice as wide, process the concatenation of both. All dense layers have dropout. "resnet" has the
    same form, with SNGAN's residual networks.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 50 in Donahue et al., 64 in Dumoulin et al. on CIFAR-10.
        network: "mlp", "conv" or "resnet".
        hidden: Units of the hidden layers: of each network for "mlp", of the discriminator's dense
            layers on the latent for "conv" and "resnet".
        width: Channels of the layer next to the image, for "conv" and "resnet": see
            `zoo.networks.generator`.
        dropout: Dropout rate before each dense layer, for "conv" and "resnet"; 0.2 in Dumoulin et al.
        loss: "non_saturating", "minimax" or "log_ratio".
        real_label, label_noise: See `zoo.adversarial.adversarial_loss`.
        augment: As for `BiGAN`.
        **options: The posterior and the prior: see `zoo.models.parts.latent_parts`. The posterior
            "deterministic" gives the BiGAN, "normal" gives ALI. The prior "uniform" on [-1, 1]^D is
            that of Donahue et al.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or options do not fit together.
    """
    if network == "mlp":
        networks_of_pairs = _perceptrons(image_shape, latent_dim, hidden)
    else:
        networks_of_pairs = _convolutions(network, image_shape, latent_dim, hidden, width, dropout)
    encoder, noisy_encoder, generator, discriminator = networks_of_pairs
    return BiGAN(
        **latent_parts(
            image_shape,
            latent_dim=latent_dim,
            encoder=encoder,
            noisy_encoder=noisy_encoder,
            **options,
        ),
        generator=generator,
        discriminator=discriminator,
        adversarial_loss=adversarial_loss(loss, real_label, label_noise),
        augment=augment,
    )


def _perceptrons(image_shape, latent_dim, hidden):
    """Donahue et al.'s networks: functions that build an encoder and an encoder with noise, then
    the generator and the discriminator."""
    x, z = keras.Input(tuple(image_shape)), keras.Input((latent_dim,))
    flat = keras.layers.Flatten()(x)
    fake = keras.layers.Dense(math.prod(image_shape))(_hidden(z, hidden, "relu"))
    fake = keras.layers.Reshape(tuple(image_shape))(fake)
    fake = keras.layers.Activation("sigmoid", dtype="float32")(fake)
    pair = keras.layers.Concatenate()([flat, z])
    return (
        lambda outputs: keras.Model(x, _output(_hidden(flat, hidden), outputs), name="encoder"),
        lambda noise_dim, outputs: noisy_mlp(image_shape, noise_dim, outputs, hidden),
        keras.Model(z, fake, name="generator"),
        keras.Model([x, z], _output(_hidden(pair, hidden), 1), name="discriminator"),
    )


def _convolutions(network, image_shape, latent_dim, hidden, width, dropout):
    """Dumoulin et al.'s networks, in the same order; an encoder with noise is not available."""
    x, z = keras.Input(tuple(image_shape)), keras.Input((latent_dim,))
    features = _features(network, image_shape, width, True)(x)
    of_z = _dense(z, hidden, dropout)
    pair = keras.layers.Concatenate()([_features(network, image_shape, width, False)(x), of_z])
    pair = _dense(pair, [2 * units for units in hidden], dropout)
    return (
        lambda outputs: keras.Model(x, _output(features, outputs), name="encoder"),
        None,
        networks.generator(network, latent_dim, image_shape, width=width),
        keras.Model([x, z], _output(pair, 1), name="discriminator"),
    )


def _hidden(h, units, activation="leaky_relu"):
    """Hidden layers, with batch normalization in the last layer."""
    for i, n in enumerate(units, 1):
        h = keras.layers.Dense(n, use_bias=i < len(units))(h)
        if i == len(units):
            h = keras.layers.BatchNormalization(momentum=0.9, center=False, scale=False)(h)
        h = keras.layers.Activation(activation)(h)
    return h


def _dense(h, units, dropout):
    for n in units:
        h = keras.layers.Dropout(dropout)(h) if dropout else h
        h = keras.layers.LeakyReLU(0.2)(keras.layers.Dense(n)(h))
    return h


def _features(network, image_shape, width, batch_norm):
    """The discriminator of DCGAN or SNGAN without its last layer."""
    whole = networks.discriminator(network, image_shape, width=width, batch_norm=batch_norm)
    return keras.Model(whole.input, whole.layers[-1].input, name="features")


def _output(h, size):
    return keras.layers.Dense(size, dtype="float32")(h)
