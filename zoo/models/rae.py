"""Regularised autoencoder (RAE).

Ghosh et al., "From Variational to Deterministic Autoencoders", 2020.
https://arxiv.org/abs/1903.12436
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo import draws, expost, networks
from zoo.config import choices, extends, look_up
from zoo.contract import check_non_negative
from zoo.datasets import ImageData
from zoo.distributions import Conditional, FittedMixture, Prior
from zoo.distributions.part import described
from zoo.models.autoencoder import Autoencoder, autoencoder

REGULARIZERS = ("none", "l2", "gradient_penalty", "spectral_norm")


@keras.saving.register_keras_serializable("zoo")
class RAE(Autoencoder):
    """An autoencoder with regularised codes and decoder, and a prior fitted after training.

    Minimises the paper's eq. 11,

        distortion + beta |z|^2 / 2 + lambda L_reg,    z = encoder(x),

    where L_reg is a regularizer of the paper's section 4.1:

    - "l2": the sum of squares of the decoder's weights (Tikhonov).
    - "gradient_penalty": |dD/dz|_F^2, the squared Frobenius norm of the decoder's Jacobian at z.
    - "spectral_norm": 0; use a decoder with `zoo.networks.SpectralNormalization`, as the builder
      does.
    - "none": 0.

    The model samples from a density that is fitted to the codes of the training images after
    training; in the paper, a mixture of ten normals (section 5). Call `fit_prior(data)` to fit it;
    `zoo.training` does so.

    `code_norm` is |z|^2 / 2 and `regularizer` is L_reg; both are reported without weights.

    Args:
        encoder: Network from `x[B, H, W, C]` to `z[B, D]`.
        likelihood: p(x | z), a `Conditional` on `z[B, D]`.
        prior: A `FittedMixture` over `z[D]`, or another prior with `is_fitted`.
        beta: Weight of the squared norm of the codes, at least 0.
        lambda_: Weight of the regularizer, at least 0.
        regularizer: "l2", "gradient_penalty", "spectral_norm" or "none".

    Raises:
        ValueError: If a weight is out of range, `regularizer` is unknown, or the prior is not one
            that is fitted.

    Notes:
        The Frobenius norm is estimated with one random projection per image: |J|_F^2 is
        E_v |J^T v|^2 with v ~ N(0, I). The authors' code instead penalises the gradient of the sum
        of the squared outputs, which is 2 J^T D(z); this class follows the paper's equation. D is
        the network of the likelihood, without the family.

        With the likelihood "unit_normal", the distortion is half the squared error of the paper,
        plus a constant. A `beta` and a `lambda_` of the paper are therefore half as large here.

    Example:
        >>> model = zoo.models.rae((8, 8, 1), latent_dim=4, hidden=(32,))
        >>> model.compile("adam")
        >>> data = zoo.datasets.load("digits")
        >>> history = model.fit(data.arrays("train")[0], verbose=0)
        >>> model.fit_prior(data)
        >>> model.sample(3).shape
        TensorShape([3, 8, 8, 1])
    """

    terms: tuple[str, ...] = ("distortion", "code_norm", "regularizer")

    def __init__(
        self,
        encoder: keras.Model,
        likelihood: Conditional,
        prior: Prior,
        beta: float = 1e-4,
        lambda_: float = 1e-7,
        regularizer: str = "l2",
        **kwargs: Any,
    ):
        super().__init__(encoder, likelihood, prior, **kwargs)
        check_non_negative(beta=beta, lambda_=lambda_)
        look_up(dict.fromkeys(REGULARIZERS), regularizer, "regularizer")
        if not prior.is_fitted:
            raise ValueError(
                "The prior of an RAE is fitted to codes after training: use FittedMixture, for "
                f"example. Received: {described(prior)}."
            )
        self.beta = beta
        self.lambda_ = lambda_
        self.regularizer = regularizer

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        z = self.encoder(x, training=training)
        distortion = -self.likelihood(z, y, training=training).log_prob(x)
        code_norm = tf.reduce_sum(tf.square(z), -1) / 2
        regularizer = self._regularizer(z, seed, training)
        loss = distortion + self.beta * code_norm + self.lambda_ * regularizer
        terms = {"distortion": distortion, "code_norm": code_norm, "regularizer": regularizer}
        return {"autoencoder": loss}, terms

    def _regularizer(self, z, seed, training):
        if self.regularizer == "l2":
            weights = self.likelihood.network.trainable_variables
            total = tf.add_n([tf.reduce_sum(tf.square(w)) for w in weights])
            return tf.fill(tf.shape(z)[:1], total)
        if self.regularizer != "gradient_penalty":
            return tf.zeros(tf.shape(z)[:1])
        with tf.GradientTape() as tape:
            tape.watch(z)
            output = self.likelihood.network(z, training=training)
        direction = draws.normal(tf.shape(output), seed)
        projection = tape.gradient(output, z, output_gradients=direction)
        return tf.reduce_sum(tf.square(projection), -1)

    def abilities(self) -> tuple[str, ...]:
        return (*super().abilities(), "fit_prior")

    def fit_prior(self, data: ImageData) -> None:
        """Fits the prior to the codes of the training images of an `ImageData`."""
        prior: Any = self.prior
        prior.fit(expost.codes(self, data))


@choices(
    regularizer={
        "l2": ("lambda_",),
        "gradient_penalty": ("lambda_",),
        "spectral_norm": (),
        "none": (),
    }
)
@extends(autoencoder)
def rae(
    image_shape: Sequence[int],
    *,
    regularizer: str = "l2",
    beta: float = 1e-4,
    lambda_: float = 1e-7,
    prior_components: int = 10,
    **options: Any,
) -> RAE:
    """A `RAE`. It has the options of `autoencoder`, and:

    Args:
        regularizer: "l2", "gradient_penalty", "spectral_norm" or "none".
        beta: Weight of the squared norm of the codes.
        lambda_: Weight of "l2" or "gradient_penalty".
        prior_components: Number of components of the mixture that is fitted after training.
    """
    parts = autoencoder(image_shape, **options)
    likelihood = parts.likelihood
    if regularizer == "spectral_norm":
        network = networks.spectrally_normalized(likelihood.network)
        likelihood = Conditional(network, likelihood.family)
    prior = FittedMixture(parts.latent_dim, prior_components)
    return RAE(
        parts.encoder,
        likelihood,
        prior,
        beta,
        lambda_,
        regularizer,
        start_at_mean=parts.start_at_mean,
    )
