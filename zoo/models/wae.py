"""Wasserstein autoencoder, with the maximum mean discrepancy (WAE-MMD).

Tolstikhin et al., "Wasserstein Auto-Encoders", 2018. https://arxiv.org/abs/1711.01558
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.config import look_up
from zoo.discrepancies import InverseMultiquadric, Kernel, kernel_named, mmd_to_prior
from zoo.distributions import Conditional, Deterministic, DiagonalNormal, IsotropicNormal, Prior
from zoo.model import GenerativeModel, as_images


@keras.saving.register_keras_serializable("zoo")
class WAE(GenerativeModel):
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
        if not 0 <= lambda_ < math.inf:
            raise ValueError(f"`lambda_` must be a number from 0 on. Received: {lambda_}.")
        self.posterior = posterior
        self.generator = generator
        self.prior = prior
        self.lambda_ = lambda_
        self.kernel = kernel or InverseMultiquadric()
        self.unbiased = unbiased

    def players(self):
        return {"autoencoder": [self.posterior, self.generator, self.prior]}

    def objective(self, x, y, seed, training):
        code_seed, prior_seed = tfp.random.split_seed(seed)
        z = self.posterior(x, y, training=training).sample(seed=code_seed)
        made = tf.cast(self.generator(z, training=training), tf.float32)
        cost = tf.reduce_sum(tf.math.squared_difference(x, made), [1, 2, 3])
        discrepancy = mmd_to_prior(
            z, self.prior, y, self.kernel, self.unbiased, prior_seed, training
        )
        loss = cost + self.lambda_ * discrepancy
        return {"autoencoder": loss}, {"cost": cost, "discrepancy": discrepancy}

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.generator(z))


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
    q = _posterior_family(posterior)
    return _of_parts(
        Conditional(networks.mlp_encoder(image_shape, q.num_params(latent_dim), hidden), q),
        networks.mlp_decoder(
            latent_dim, image_shape, hidden=hidden[::-1], output="sigmoid", batch_norm=True
        ),
        latent_dim,
        prior_scale,
        lambda_,
        kernel,
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
    q = _posterior_family(posterior)
    return _of_parts(
        Conditional(
            networks.conv_encoder(image_shape, q.num_params(latent_dim), filters, hidden), q
        ),
        networks.dcgan_generator(latent_dim, image_shape, width),
        latent_dim,
        prior_scale,
        lambda_,
        kernel,
    )


def _posterior_family(name):
    families = {"deterministic": Deterministic, "normal": DiagonalNormal}
    return look_up(families, name, "posterior")()


def _of_parts(posterior, generator, latent_dim, prior_scale, lambda_, kernel):
    if not 0 < prior_scale < math.inf:
        raise ValueError(f"`prior_scale` must be above 0 and finite. Received: {prior_scale}.")
    return WAE(
        posterior,
        generator,
        IsotropicNormal(latent_dim, prior_scale),
        lambda_,
        kernel_named(kernel, prior_scale * math.sqrt(latent_dim)),
    )
