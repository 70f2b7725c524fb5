"""Wasserstein autoencoder with the maximum mean discrepancy (WAE-MMD).

Tolstikhin et al., "Wasserstein Auto-Encoders", 2018. https://arxiv.org/abs/1711.01558
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.config import choices, extends
from zoo.contract import check_non_negative
from zoo.discrepancies import InverseMultiquadric, Kernel, kernel_named, mmd_to_prior
from zoo.distributions import Part, Prior, UnitNormal, need_differentiable_draws
from zoo.interfaces import Interface, context_shape, shape_of_images
from zoo.mean_start import Start
from zoo.model import GenerativeModel
from zoo.models.parts import INTERNAL, posterior_and_prior


@keras.saving.register_keras_serializable("zoo")
class WAE(GenerativeModel):
    """An autoencoder whose aggregate posterior is matched to the prior.

    Minimises the paper's eq. 4 with the estimator of Algorithm 2,

        E |x - G(z)|^2 + lambda MMD^2(q(z), p(z)),    z ~ q(z | x),

    where the squared error is summed over the image. The discrepancy is the U-statistic of the
    codes of the global minibatch and the same number of draws of the prior. As lambda goes to
    infinity, the minimum over all q(z | x) whose mixture is the prior is the squared 2-Wasserstein
    distance between the data and the images of G (theorem 1). A VAE penalises the distance of each
    q(z | x) from the prior; a WAE penalises only the distance of their mixture, so the encoder may
    be deterministic.

    `cost` and `discrepancy` are reported without weights. The discrepancy can be negative.

    A WAE has no likelihood: the paper's cost is a distance between images, here the squared error.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`; in the paper with
            the family `Deterministic`.
        generator: G, a network from `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]`. A density is not needed. A prior with trainable weights
            needs differentiable draws.
        lambda_: Weight of the discrepancy, at least 0; 10 in the paper on MNIST.
        kernel: A `zoo.discrepancies.Kernel`; if `None`, `InverseMultiquadric()`, the paper's kernel
            for the prior N(0, I).
        unbiased: Whether the estimate of the discrepancy leaves out the pairs of a point with
            itself.

    Raises:
        ValueError: If `lambda_` is negative or not finite, or the prior has trainable weights and
            no differentiable draws.

    Notes:
        The public code multiplies the squared error by 0.05, so its lambda of 10 on MNIST
        corresponds to 200 here. It also adds noise to the encoder's input, and first trains only
        the encoder, to match the first two moments of the prior. The paper's objective contains
        neither.

    Example:
        >>> model = zoo.WAE(
        ...     zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 4), zoo.Deterministic()),
        ...     zoo.networks.mlp_decoder(4, (8, 8, 1), output="sigmoid"),
        ...     zoo.StandardNormal(4),
        ... )
        >>> model.compile("adam")
        >>> history = model.fit(zoo.datasets.load("digits").arrays("train")[0], verbose=0)
    """

    terms: tuple[str, ...] = ("cost", "discrepancy")

    def __init__(
        self,
        posterior: Part,
        generator: keras.Model,
        prior: Prior,
        lambda_: float = 10.0,
        kernel: Kernel | None = None,
        unbiased: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_non_negative(lambda_=lambda_)
        need_differentiable_draws(prior, "a WAE")
        self.posterior = posterior
        self.generator = generator
        self.prior = prior
        self.lambda_ = lambda_
        self.kernel = kernel or InverseMultiquadric()
        self.unbiased = unbiased

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {"autoencoder": [self.posterior, self.generator, self.prior]}

    def interfaces(self) -> dict[str, Interface]:
        generator = Interface((context_shape(self.generator),), (shape_of_images(self),))
        return super().interfaces() | {"generator": generator}

    def mean_starts(self) -> list[Start]:
        return [Start(self.generator, UnitNormal())]

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        code_seed, prior_seed = tfp.random.split_seed(seed)
        z = self.posterior(x, y, training=training).sample(seed=code_seed)
        cost = squared_error(x, self.generator(z, training=training))
        discrepancy = mmd_to_prior(
            z, self.prior, y, self.kernel, self.unbiased, prior_seed, training
        )
        loss = cost + self.lambda_ * discrepancy
        return {"autoencoder": loss}, {"cost": cost, "discrepancy": discrepancy}


def squared_error(x: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
    """|x - generated|^2 of images `[B, H, W, C]`, summed over each image: `[B]`, float32."""
    return tf.reduce_sum(tf.math.squared_difference(x, tf.cast(generated, tf.float32)), [1, 2, 3])


@choices(network={"mlp": (), "conv": ("filters", "width"), "resnet": ("filters", "width")})
@extends(posterior_and_prior, without=INTERNAL, posterior="deterministic")
def parts(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    network: str = "mlp",
    hidden: Sequence[int] = (500, 500),
    width: int = 32,
    activation: str = "relu",
    start_at_mean: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """The `posterior`, `prior` and `generator` of a `WAE`, from the options of `wae`.

    The result also has the model's `start_at_mean`.
    """
    sizes = {"network": network, "hidden": hidden, "activation": activation}
    return {
        **posterior_and_prior(image_shape, latent_dim=latent_dim, **sizes, **options),
        "generator": networks.generator(
            network, latent_dim, image_shape, hidden[::-1], width, activation
        ),
        "start_at_mean": start_at_mean,
    }


@extends(parts)
def wae(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    prior_scale: float = 1.0,
    lambda_: float = 10.0,
    kernel: str = "imq",
    unbiased: bool = True,
    **options: Any,
) -> WAE:
    """A `WAE` whose generator has batch normalization.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 8 in the paper on MNIST.
        prior_scale: Standard deviation of the prior "normal", above 0. The kernel's bandwidth is
            prior_scale sqrt(D), as in the paper.
        lambda_: Weight of the discrepancy.
        kernel: "imq" or "rbf".
        unbiased: As for `WAE`.
        network: "mlp"; or "conv" for a convolutional encoder and the generator of DCGAN, on images
            of 28, 32 or 64 pixels. The paper's networks are similar but larger, with 4 layers of
            128 to 1024 channels. "resnet" for SNGAN's residual generator, and an encoder of its blocks.
        width: Channels of the generator's layer next to the image, for "conv" and "resnet": see
            `zoo.networks.generator`.
        start_at_mean: Whether the generator starts at the mean of the training images: see
            `zoo.mean_start`.
        **options: The other options of `zoo.models.parts.posterior_and_prior`. The generator "mlp"
            mirrors the `hidden` layers of the encoder and has the same `activation`.

    Raises:
        ValueError: If a name is unknown, options do not fit together, or a number is out of range.
    """
    return WAE(
        **parts(image_shape, latent_dim=latent_dim, prior_scale=prior_scale, **options),
        lambda_=lambda_,
        kernel=kernel_named(kernel, prior_scale * math.sqrt(latent_dim)),
        unbiased=unbiased,
    )
