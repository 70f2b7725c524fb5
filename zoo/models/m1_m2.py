"""M1+M2: an M2 of the codes of a trained M1.

Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014, sections 2.1 and 4.
https://arxiv.org/abs/1406.5298
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import extends
from zoo.datasets import ImageData
from zoo.distributions import Conditional, DiagonalNormal, Prior, StandardNormal
from zoo.draws import row_count
from zoo.interfaces import Interface, context_shape
from zoo.model import as_images
from zoo.models.m1 import m1
from zoo.models.m2 import M2, joined, m2, parts, repeat_for_labels
from zoo.models.vae import VAE

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class M1M2(M2):
    """An M2 whose data are the codes z1 of images under a trained M1.

    The model is p(y) p(z2) p(z1 | y, z2) p(x | z1) (Kingma et al., 2014, section 2.1). M1 is
    frozen: no player owns its weights. In training, each step draws a new z1 from q(z1 | x); in
    evaluation, z1 is the mean of q(z1 | x). The loss is that of `M2`, in nats of z1.

    A dimension of z1 that M1 does not use is N(0, 1) noise in training and constant in evaluation.
    `adapt` finds the dimensions in use, and the model omits the others: they are 0 in the inputs of
    the classifier, of the posterior and of M1's decoder, and the likelihood does not include them.

    `log_prob` of images also draws z1 from q(z1 | x). In these draws, the unused dimensions have
    M1's prior.

    Args:
        classifier, posterior, likelihood, prior: As for `M2`, with codes z1 `[B, D1]` in place of
            images. The dimensions of the likelihood are independent.
        first_posterior: M1's q(z1 | x). The constructor freezes its weights.
        first_likelihood: M1's p(x | z1). The constructor freezes its weights. M1's prior is
            N(0, I).
        **kwargs: As for `M2`.
    """

    requires: Mapping[str, str] = {"first": "m1"}

    def __init__(
        self,
        classifier: keras.Model,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        first_posterior: Conditional,
        first_likelihood: Conditional,
        **kwargs: Any,
    ):
        super().__init__(classifier, posterior, likelihood, prior, **kwargs)
        for part in (first_posterior, first_likelihood):
            part.trainable = part.network.trainable = False
        self.first_posterior = first_posterior
        self.first_likelihood = first_likelihood
        (dim,) = self.posterior.network.inputs[0].shape[1:]
        self.used = self.add_weight(name="used", shape=(dim,), initializer="ones", trainable=False)

    def interfaces(self) -> dict[str, Interface]:
        images, codes = self.image_shape, context_shape(self.posterior)
        return super().interfaces() | {
            "first_posterior": Interface((images,), (codes,)),
            "first_likelihood": Interface((codes,), (images,)),
        }

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.first_posterior.network.inputs[0].shape[1:])

    def adapt(self, data: ImageData, threshold: float = 0.1) -> None:
        """Adapts as `M2` does, and finds the dimensions of z1 that M1 uses.

        M1 uses a dimension if the standard deviation of E[z1 | x] over the first 1,000 training
        images is above `threshold`, 0.1 as in the published code.

        Raises:
            ValueError: As for `M2`, or if M1 uses no dimension.
        """
        super().adapt(data)
        x, _ = data.arrays("train", 1000)
        deviations = np.std(self.first_posterior(x).mean(), 0)
        if not (deviations > threshold).any():
            raise ValueError(
                f"No dimension of M1's codes varies by more than {threshold} over images: pass a "
                f"trained M1. Received: standard deviations up to {deviations.max():.3g}."
            )
        self.used.assign(deviations > threshold)

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        first_seed, seed = tfp.random.split_seed(seed)
        q = self.first_posterior(joined(x))
        z = self._used(q.sample(seed=first_seed) if training else q.mean())
        if isinstance(x, tuple):
            rows = row_count(x[0])
            z = z[-rows:], z[:-rows]
        return super().objective(z, y, seed, training)

    def codes(self, x: Any) -> tf.Tensor:
        """The mean of q(z1 | x), `[B, D1]`, with 0 in dimensions that M1 does not use."""
        return self._used(self.first_posterior(self._images(x)).mean())

    def _used(self, z):
        return z * tf.convert_to_tensor(self.used)

    def _log_likelihood(self, p, x):
        return tf.reduce_sum(self._used(p.distribution.log_prob(x)), -1)

    def _decode(self, z, y):
        z = self._used(self.likelihood(z, y).mean())
        return as_images(self.first_likelihood(z).mean())

    def _log_weight(self, x, y, seed):
        first_seed, seed = tfp.random.split_seed(seed)
        q = self.first_posterior(x)
        z = q.sample(seed=first_seed)
        unused = (1 - tf.convert_to_tensor(self.used)) * tfd.Normal(0.0, 1.0).log_prob(z)
        first = self.first_likelihood(z).log_prob(x) + tf.reduce_sum(unused, -1) - q.log_prob(z)
        return super()._log_weight(self._used(z), y, seed) + repeat_for_labels(first, y)


@extends(
    m2,
    without=("network", "filters", "likelihood", "likelihood_scale", "levels", "start_at_mean"),
)
def m1_m2(image_shape: Sequence[int], *, first: VAE | None = None, **options: Any) -> M1M2:
    """An `M1M2` of multilayer perceptrons on the codes of a trained M1.

    It has the options of `m2`, without convolutions and without a likelihood, because its data are
    codes: p(z1 | y, z2) is a diagonal normal. The other option is:

    Args:
        image_shape: Height, width, channels.
        first: M1, a trained `VAE` with the prior N(0, I), which is copied. `None` for an untrained
            `zoo.models.m1`, for tests and for loading weights.

    Raises:
        ValueError: If `first` is not a `VAE`, has another prior, or takes other images; or as for
            `m2`.
    """
    first = m1(image_shape) if first is None else _copy_of_m1(first, tuple(image_shape))
    return M1M2(
        **parts((first.latent_dim,), family=DiagonalNormal(), **options),
        first_posterior=first.posterior,
        first_likelihood=first.likelihood,
    )


def _copy_of_m1(first, image_shape):
    prior = getattr(first, "prior", None)
    if not isinstance(first, VAE) or not isinstance(prior, StandardNormal):
        having = "" if prior is None else f" with a {type(prior).__name__}"
        raise ValueError(
            f"M1 is a VAE with the prior N(0, I). Received: a {type(first).__name__}{having}."
        )
    if first.image_shape != image_shape:
        raise ValueError(
            "M1 and M1+M2 take the same images. Received: an M1 of images of shape "
            f"{first.image_shape}, and image_shape={image_shape}."
        )
    copy = keras.models.clone_model(first)
    copy.set_weights(first.get_weights())
    return copy
