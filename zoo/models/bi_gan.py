"""Bidirectional GAN, or adversarially learned inference (ALI): two papers, one game.

Donahue et al., "Adversarial Feature Learning", 2017. https://arxiv.org/abs/1605.09782
Dumoulin et al., "Adversarially Learned Inference", 2017. https://arxiv.org/abs/1606.00704
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import AdversarialLoss, Minimax, NonSaturating, adversarial_loss
from zoo.config import look_up
from zoo.distributions import (
    Conditional,
    Deterministic,
    DiagonalNormal,
    Prior,
    StandardNormal,
    Uniform,
    refuse_learned,
)
from zoo.model import GenerativeModel, as_images


@keras.saving.register_keras_serializable("zoo")
class BiGAN(GenerativeModel):
    """A GAN on pairs: an image with its code against a latent with the image it makes.

    The discriminator tells (x, E(x)), which count as real, from (G(z), z), which count as fake;
    encoder and generator both want it to fail. The value of the game is

        V = E log D(x, E(x)) + E log(1 - D(G(z), z))

    (Donahue et al., eq. 3; Dumoulin et al., eq. 1). With the best discriminator it is twice the
    Jensen-Shannon divergence of the two joint distributions less log 4; where they are the same,
    a deterministic encoder is the generator's inverse (Donahue et al., theorem 2).

    All three players move at once on one forward pass, as in Algorithm 1 of Dumoulin et al., and as
    Donahue et al.'s code does. As both papers train, encoder and generator do not minimise V but
    maximise what D would lose with the labels exchanged: the encoder pays -log(1 - D(x, E(x))),
    the generator -log D(G(z), z). With a `LogRatio`, which neither paper has, they pay the logit of
    real pairs and minus that of fake ones: with the best discriminator the Kullback-Leibler
    divergence of either joint distribution from the other. Real and fake pairs go through the
    discriminator apart, so that batch normalization sees either kind alone.

    With a `Deterministic` posterior it is the BiGAN, with a `DiagonalNormal` one ALI, which trains
    on draws of q(z | x); `encode` gives the mean of either. It was not trained to reconstruct:
    `reconstruct` shows what encoder and generator agree on.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`.
        generator: G, a network from `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]` that does not learn. It need only be sampled.
        discriminator: Network from `[x[B, H, W, C], z[B, D]]` to logits `[B, 1]`, high for images
            with their codes.
        adversarial_loss: A `Minimax`, `NonSaturating` or `LogRatio`, to which exchanged labels are a
            logit of the other sign; `NonSaturating()` if `None`.

    Raises:
        ValueError: For another loss, a prior that learns, or a discriminator that does not take two
            inputs.

    Example:
        >>> bigan = zoo.models.bi_gan.bigan_mlp((8, 8, 1), 4, (32,))
        >>> bigan.compile(keras.optimizers.Adam(2e-4, beta_1=0.5))
        >>> x, _ = zoo.datasets.load("digits").arrays("train")
        >>> history = bigan.fit(x, verbose=0)
        >>> bigan.reconstruct(x[:3]).shape
        TensorShape([3, 8, 8, 1])
    """

    terms = ("real_logit", "fake_logit")

    def __init__(
        self,
        posterior: Conditional,
        generator: keras.Model,
        prior: Prior,
        discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if len(discriminator.inputs) != 2:
            raise ValueError(
                "The discriminator of a BiGAN takes two inputs, images and latents. "
                f"Received: a network with {len(discriminator.inputs)}."
            )
        if not isinstance(adversarial_loss, Minimax | None):
            raise ValueError(
                "A BiGAN's encoder plays with exchanged labels, which for a `Minimax`, a "
                "`NonSaturating` or a `LogRatio` loss is a logit of the other sign, and for others "
                "is not. "
                f"Received: a {type(adversarial_loss).__name__}."
            )
        self.posterior = posterior
        self.generator = generator
        refuse_learned(prior, "a BiGAN")
        self.prior = prior
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss or NonSaturating()

    def players(self):
        return {
            "encoder": [self.posterior],
            "generator": [self.generator],
            "discriminator": [self.discriminator],
        }

    def objective(self, x, y, seed, training):
        code_seed, prior_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 4)
        code = self.posterior(x, y, training=training).sample(seed=code_seed)
        z = tf.ensure_shape(self.prior(y).sample(tf.shape(x)[0], seed=prior_seed), code.shape)
        made = tf.cast(self.generator(z, training=training), tf.float32)
        real, fake = self._judge(x, code, training), self._judge(made, z, training)
        loss = self.adversarial_loss
        return {
            "encoder": loss.generator(-real),
            "generator": loss.generator(fake),
            "discriminator": loss.real(real, real_seed) + loss.fake(fake, fake_seed),
        }, {"real_logit": real, "fake_logit": fake}

    def _judge(self, x, z, training):
        return tf.cast(self.discriminator([x, z], training=training)[:, 0], tf.float32)

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.generator(z))


def bigan_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 50,
    hidden: Sequence[int] = (1024, 1024),
    posterior: str = "deterministic",
    prior: str = "uniform",
    loss: str = "non_saturating",
) -> BiGAN:
    """A `BiGAN` of multilayer perceptrons: Donahue et al.'s on permutation-invariant MNIST.

    In all three networks the last hidden layer is normalized over the batch, without an offset or a
    scale that learn, before its activation: leaky ReLU of slope 0.2 in encoder and discriminator,
    ReLU in the generator.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 50 in the paper.
        hidden: Units of the hidden layers of each of the networks.
        posterior: "deterministic" for the BiGAN, "normal" for ALI.
        prior: "uniform" on [-1, 1]^D, as in the paper, or "normal".
        loss: "non_saturating", "minimax" or "log_ratio".

    Raises:
        ValueError: For names that there are not.
    """
    q, p, loss = _families(latent_dim, posterior, prior, loss)
    x, z = keras.Input(tuple(image_shape)), keras.Input((latent_dim,))
    flat = keras.layers.Flatten()(x)
    code = _output(_hidden(flat, hidden), q.num_params(latent_dim))
    made = keras.layers.Dense(math.prod(image_shape))(_hidden(z, hidden, "relu"))
    made = keras.layers.Reshape(tuple(image_shape))(made)
    made = keras.layers.Activation("sigmoid", dtype="float32")(made)
    pair = keras.layers.Concatenate()([flat, z])
    return BiGAN(
        Conditional(keras.Model(x, code, name="encoder"), q),
        keras.Model(z, made, name="generator"),
        p,
        keras.Model([x, z], _output(_hidden(pair, hidden), 1), name="discriminator"),
        loss,
    )


def bigan_conv(
    image_shape: Sequence[int],
    latent_dim: int = 64,
    width: int = 32,
    hidden: int = 512,
    dropout: float = 0.2,
    posterior: str = "normal",
    prior: str = "normal",
    loss: str = "non_saturating",
) -> BiGAN:
    """A convolutional `BiGAN` after ALI, of DCGAN's networks, for 28, 32 or 64 pixels.

    The encoder is DCGAN's discriminator with a code for its output. In the discriminator, the same
    convolutions without normalization see the image and two dense layers the latent, before two more
    dense layers see both, with dropout, as in Dumoulin et al.'s appendix A. Their networks have more
    layers.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 64 in the paper on CIFAR-10.
        width: See `zoo.networks.dcgan_generator`.
        hidden: Units of the discriminator's dense layers.
        dropout: Share of their inputs dropped in training; 0.2 in the paper.
        posterior: "normal" for ALI, "deterministic" for the BiGAN.
        prior, loss: As for `bigan_mlp`.

    Raises:
        ValueError: For names that there are not, or images that cannot be halved often enough.
    """
    q, p, loss = _families(latent_dim, posterior, prior, loss)
    x, z = keras.Input(tuple(image_shape)), keras.Input((latent_dim,))
    code = _output(_features(image_shape, width, True)(x), q.num_params(latent_dim))
    of_x = _features(image_shape, width, False)(x)
    of_z = _dense(_dense(z, hidden, dropout), hidden, dropout)
    both = keras.layers.Concatenate()([of_x, of_z])
    both = _dense(_dense(both, 2 * hidden, dropout), 2 * hidden, dropout)
    return BiGAN(
        Conditional(keras.Model(x, code, name="encoder"), q),
        networks.dcgan_generator(latent_dim, image_shape, width),
        p,
        keras.Model([x, z], _output(both, 1), name="discriminator"),
        loss,
    )


def _families(latent_dim, posterior, prior, loss):
    q = look_up({"deterministic": Deterministic, "normal": DiagonalNormal}, posterior, "posterior")
    p = look_up({"uniform": Uniform, "normal": StandardNormal}, prior, "prior")
    look_up(dict.fromkeys(("non_saturating", "minimax", "log_ratio")), loss, "loss")
    return q(), p(latent_dim), adversarial_loss(loss)


def _hidden(h, units, activation="leaky_relu"):
    """Hidden layers, of which the last is normalized."""
    for i, n in enumerate(units, 1):
        h = keras.layers.Dense(n, use_bias=i < len(units))(h)
        if i == len(units):
            h = keras.layers.BatchNormalization(momentum=0.9, center=False, scale=False)(h)
        h = keras.layers.Activation(activation)(h)
    return h


def _dense(h, units, dropout):
    h = keras.layers.Dropout(dropout)(h) if dropout else h
    return keras.layers.LeakyReLU(0.2)(keras.layers.Dense(units)(h))


def _features(image_shape, width, batch_norm):
    """DCGAN's discriminator without the layer that decides."""
    whole = networks.dcgan_discriminator(image_shape, width, batch_norm=batch_norm)
    return keras.Model(whole.input, whole.layers[-1].input, name="features")


def _output(h, size):
    return keras.layers.Dense(size, dtype="float32")(h)
