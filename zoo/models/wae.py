"""Wasserstein autoencoders: with the maximum mean discrepancy (WAE-MMD), and with a GAN (WAE-GAN).

Tolstikhin et al., "Wasserstein Auto-Encoders", 2018. https://arxiv.org/abs/1711.01558
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import AdversarialLoss, NonSaturating, adversarial_loss
from zoo.config import look_up
from zoo.discrepancies import InverseMultiquadric, Kernel, kernel_named, mmd_to_prior
from zoo.distributions import (
    Conditional,
    Deterministic,
    DiagonalNormal,
    IsotropicNormal,
    Prior,
    refuse_learned,
)
from zoo.model import GenerativeModel, as_images


class _Transport:
    """What both have: images to codes and back, at the cost of the squared error."""

    def _set(self, posterior, generator, prior, lambda_):
        if not 0 <= lambda_ < math.inf:
            raise ValueError(f"`lambda_` must be a number from 0 on. Received: {lambda_}.")
        self.posterior = posterior
        self.generator = generator
        self.prior = prior
        self.lambda_ = lambda_

    def _code(self, x, y, seed, training):
        return self.posterior(x, y, training=training).sample(seed=seed)

    def _cost(self, x, z, training):
        made = tf.cast(self.generator(z, training=training), tf.float32)
        return tf.reduce_sum(tf.math.squared_difference(x, made), [1, 2, 3])

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.generator(z))


@keras.saving.register_keras_serializable("zoo")
class WAE(_Transport, GenerativeModel):
    """An autoencoder whose codes, taken together, are distributed like the prior.

    Minimises the paper's eq. 4 with the estimator of its Algorithm 2,

        E |x - G(z)|^2 + lambda MMD^2(q(z), p(z)),    z ~ q(z | x),

    with the squared error summed over the image, and the U-statistic of the minibatch's codes, of
    all replicas, and as many draws of the prior. With lambda to infinity it is the 2-Wasserstein
    distance (squared) between the data and G's images, over those q that match the prior (theorem
    1). Where a VAE asks each q(z | x) to look like the prior, here only their mixture does, so
    that the encoder may be deterministic.

    It is the paper's objective that is followed: the public code multiplies the squared error by
    0.05, so that its lambda of 10 on MNIST is one of 200 here. It also adds noise to the encoder's
    input and trains it alone at first, to match the prior's two first moments; neither is
    part of the objective.

    `cost` and `discrepancy` are reported without weight. The discrepancy can be negative.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`. With the family
            `Deterministic` it is the paper's choice.
        generator: G, a network from `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]`. It need only be sampled.
        lambda_: Weight of the discrepancy, from 0 on; the paper takes 10 on MNIST.
        kernel: A `zoo.discrepancies.Kernel`; `InverseMultiquadric()` if `None`, which is the
            paper's for the prior N(0, I).
        unbiased: Whether the discrepancy's estimate leaves out the pairs of a point with itself.

    Raises:
        ValueError: If `lambda_` is negative or not finite; in training, for a prior that learns and
            whose draws are not differentiable.

    Example:
        >>> model = zoo.WAE(
        ...     zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 4), zoo.Deterministic()),
        ...     zoo.networks.mlp_decoder(4, (8, 8, 1), output="sigmoid"),
        ...     zoo.StandardNormal(4),
        ... )
        >>> model.compile("adam")
        >>> history = model.fit(zoo.datasets.load("digits").arrays("train")[0], verbose=0)
    """

    terms = ("cost", "discrepancy")

    def __init__(
        self,
        posterior: Conditional,
        generator: keras.Model,
        prior: Prior,
        lambda_: float = 10.0,
        kernel: Kernel | None = None,
        unbiased: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._set(posterior, generator, prior, lambda_)
        self.kernel = kernel or InverseMultiquadric()
        self.unbiased = unbiased

    def players(self):
        return {"autoencoder": [self.posterior, self.generator, self.prior]}

    def objective(self, x, y, seed, training):
        code_seed, prior_seed = tfp.random.split_seed(seed)
        z = self._code(x, y, code_seed, training)
        cost = self._cost(x, z, training)
        discrepancy = mmd_to_prior(
            z, self.prior, y, self.kernel, self.unbiased, prior_seed, training
        )
        loss = cost + self.lambda_ * discrepancy
        return {"autoencoder": loss}, {"cost": cost, "discrepancy": discrepancy}


@keras.saving.register_keras_serializable("zoo")
class WAEGAN(_Transport, GenerativeModel):
    """The Wasserstein autoencoder whose codes are drawn to the prior by a discriminator.

    The paper's Algorithm 1, on each batch in turn: the discriminator D learns to tell draws of the
    prior (real) from codes (fake), ascending

        lambda E[log D(z) + log(1 - D(z~))],    z ~ p(z), z~ ~ q(z | x),

    and then encoder and generator move, as one player, down

        E |x - G(z~)|^2 - lambda E log D(z~),

    with the squared error summed over the image; so the encoder answers to both terms, and the
    generator to the first alone. The penalty is the one that does not saturate, as the algorithm has
    it. It is the adversarial autoencoder (`zoo.AAE`) on one sum in place of two turns: with lambda, a
    weight of the penalty against the cost. With it the penalty is an estimate of a divergence between
    q(z) and p(z), where the `WAE`'s is a discrepancy that needs no opponent.

    As for the `WAE`, the public code multiplies the squared error by 0.05: its lambda of 10 on MNIST
    is one of 200 here. That code can also tell the discriminator the prior's density, which is
    `prior_aware` here.

    `cost` and `penalty` are reported without weight.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`. With the family
            `Deterministic` it is the paper's choice.
        generator: G, a network from `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]` that does not learn. Where `prior_aware` is not set it need
            only be sampled.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of the prior.
        lambda_: Weight of the penalty, from 0 on; the paper takes 10 on MNIST.
        adversarial_loss: An `AdversarialLoss`; `NonSaturating()` if `None`, the paper's.
        prior_aware: Whether the discriminator's logit is the network's plus log p(z), so that the
            network has to learn only -log q(z): the best logit is log p(z) / q(z). The paper's own
            experiments, by their code ("gan_p_trick").

    Raises:
        ValueError: If `lambda_` is negative or not finite, or the prior learns or has no density
            where it needs one.

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

    terms = ("cost", "penalty", "prior_logit", "code_logit")

    def __init__(
        self,
        posterior: Conditional,
        generator: keras.Model,
        prior: Prior,
        discriminator: keras.Model,
        lambda_: float = 10.0,
        adversarial_loss: AdversarialLoss | None = None,
        prior_aware: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        refuse_learned(prior, "a WAEGAN")
        if prior_aware and not prior.has_density:
            raise ValueError(
                "`prior_aware` takes a prior with a density over z[D]. Received: a "
                f"{type(prior).__name__}, which has none."
            )
        self._set(posterior, generator, prior, lambda_)
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss or NonSaturating()
        self.prior_aware = prior_aware

    def players(self):
        return {
            "discriminator": [self.discriminator],
            "autoencoder": [self.posterior, self.generator],
        }

    def objective(self, x, y, seed, training):
        code_seed, prior_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 4)
        z = self._code(x, y, code_seed, training)
        code = tf.stop_gradient(z)
        draw = tf.ensure_shape(self.prior(y).sample(tf.shape(x)[0], seed=prior_seed), code.shape)
        prior_logit, code_logit = (self._judge(z, y, training) for z in (draw, code))
        loss = self.adversarial_loss.real(prior_logit, real_seed) + self.adversarial_loss.fake(
            code_logit, fake_seed
        )
        terms = {"prior_logit": prior_logit, "code_logit": code_logit}
        yield {"discriminator": self.lambda_ * loss}, terms
        # The algorithm's z~ of both players are the same.
        cost = self._cost(x, z, training)
        penalty = self.adversarial_loss.generator(self._judge(z, y, training))
        loss = cost + self.lambda_ * penalty
        yield {"autoencoder": loss}, {"cost": cost, "penalty": penalty}

    def _judge(self, z, y, training):
        logit = tf.cast(self.discriminator(z, training=training)[:, 0], tf.float32)
        return logit + self.prior(y).log_prob(z) if self.prior_aware else logit


def wae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 8,
    hidden: Sequence[int] = (500, 500),
    posterior: str = "deterministic",
    prior_scale: float = 1.0,
    lambda_: float = 10.0,
    kernel: str = "imq",
) -> WAE:
    """A `WAE` of multilayer perceptrons, the generator with batch normalization.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 8 in the paper on MNIST.
        hidden: The encoder's; the generator's mirrors it.
        posterior: "deterministic" or "normal".
        prior_scale: Standard deviation of the prior, above 0. The kernel's bandwidth is
            prior_scale sqrt(D), as in the paper.
        lambda_: Weight of the discrepancy.
        kernel: "imq" or "rbf".

    Raises:
        ValueError: For names that there are not, or numbers out of range.
    """
    return WAE(
        *_mlp_parts(image_shape, latent_dim, hidden, posterior, prior_scale),
        lambda_,
        kernel_named(kernel, prior_scale * math.sqrt(latent_dim)),
    )


def wae_conv(
    image_shape: Sequence[int],
    latent_dim: int = 8,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    width: int = 32,
    posterior: str = "deterministic",
    prior_scale: float = 1.0,
    lambda_: float = 10.0,
    kernel: str = "imq",
) -> WAE:
    """A convolutional `WAE` with DCGAN's generator, for 28, 32 or 64 pixels.

    The paper's networks are of this kind, but larger: 4 layers of 128 to 1024 channels.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        filters: Channels of the encoder's convolutions.
        hidden: Units of its dense layer.
        width: See `zoo.networks.dcgan_generator`.
        posterior, prior_scale, lambda_, kernel: As for `wae_mlp`.
    """
    return WAE(
        *_conv_parts(image_shape, latent_dim, filters, hidden, width, posterior, prior_scale),
        lambda_,
        kernel_named(kernel, prior_scale * math.sqrt(latent_dim)),
    )


def wae_gan_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 8,
    hidden: Sequence[int] = (500, 500),
    discriminator_hidden: Sequence[int] = (512, 512, 512, 512),
    posterior: str = "deterministic",
    prior_scale: float = 1.0,
    lambda_: float = 10.0,
    loss: str = "non_saturating",
    prior_aware: bool = False,
) -> WAEGAN:
    """A `WAEGAN` of multilayer perceptrons, the generator with batch normalization.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 8 in the paper on MNIST.
        hidden: The encoder's; the generator's mirrors it.
        discriminator_hidden: The discriminator's; four layers of 512 in the paper.
        posterior: "deterministic" or "normal".
        prior_scale: Standard deviation of the prior, above 0.
        lambda_: Weight of the penalty.
        loss: Name of the adversarial loss; see `zoo.adversarial.adversarial_loss`.
        prior_aware: Whether the discriminator is told log p(z).

    Raises:
        ValueError: For names that there are not, or numbers out of range.
    """
    return WAEGAN(
        *_mlp_parts(image_shape, latent_dim, hidden, posterior, prior_scale),
        networks.mlp(latent_dim, 1, discriminator_hidden),
        lambda_,
        adversarial_loss(loss),
        prior_aware,
    )


def wae_gan_conv(
    image_shape: Sequence[int],
    latent_dim: int = 8,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    width: int = 32,
    discriminator_hidden: Sequence[int] = (512, 512, 512, 512),
    posterior: str = "deterministic",
    prior_scale: float = 1.0,
    lambda_: float = 10.0,
    loss: str = "non_saturating",
    prior_aware: bool = False,
) -> WAEGAN:
    """A convolutional `WAEGAN` with DCGAN's generator, for 28, 32 or 64 pixels.

    Args:
        image_shape, latent_dim, filters, hidden, width: As for `wae_conv`.
        discriminator_hidden, posterior, prior_scale, lambda_, loss, prior_aware: As for
            `wae_gan_mlp`.
    """
    return WAEGAN(
        *_conv_parts(image_shape, latent_dim, filters, hidden, width, posterior, prior_scale),
        networks.mlp(latent_dim, 1, discriminator_hidden),
        lambda_,
        adversarial_loss(loss),
        prior_aware,
    )


def _mlp_parts(image_shape, latent_dim, hidden, posterior, prior_scale):
    """Posterior, generator and prior."""
    q, prior = _families(latent_dim, posterior, prior_scale)
    encoder = networks.mlp_encoder(image_shape, q.num_params(latent_dim), hidden)
    generator = networks.mlp_decoder(
        latent_dim, image_shape, hidden=hidden[::-1], output="sigmoid", batch_norm=True
    )
    return Conditional(encoder, q), generator, prior


def _conv_parts(image_shape, latent_dim, filters, hidden, width, posterior, prior_scale):
    q, prior = _families(latent_dim, posterior, prior_scale)
    encoder = networks.conv_encoder(image_shape, q.num_params(latent_dim), filters, hidden)
    generator = networks.dcgan_generator(latent_dim, image_shape, width)
    return Conditional(encoder, q), generator, prior


def _families(latent_dim, posterior, prior_scale):
    if not 0 < prior_scale < math.inf:
        raise ValueError(f"`prior_scale` must be above 0 and finite. Received: {prior_scale}.")
    families = {"deterministic": Deterministic, "normal": DiagonalNormal}
    return (
        look_up(families, posterior, "posterior")(),
        IsotropicNormal(latent_dim, prior_scale),
    )
