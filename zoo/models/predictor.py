"""Deterministic prediction of the hidden part of an image.

The baseline of Sohn et al., "Learning Structured Output Representation using Deep Conditional
Generative Models", 2015, section 5. https://papers.nips.cc/paper/5775
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo import networks
from zoo.config import choices, extends
from zoo.distributions import Completion, by_name
from zoo.interfaces import Interface
from zoo.model import Array, GenerativeModel, as_images


@keras.saving.register_keras_serializable("zoo")
class Predictor(GenerativeModel):
    """Predicts the hidden part of an image from its seen part, deterministically, without latents.

    This is the "NN baseline" of the paper's section 5: under p(x | y), values are independent, and
    a network computes their parameters from `y`. The loss is the exact -log p(hidden part | y).

    `log_prob` scores images, and `decode` completes them from latents of dimension 0.

    Args:
        likelihood: p(x | y), a `Completion` whose network's only input is `y[B, H, W, C]`.

    Raises:
        ValueError: If `likelihood` is not a `Completion` whose network takes only `y`.

    Example:
        >>> model = zoo.models.predictor((8, 8, 1), hidden=(16,))
        >>> model.compile("adam")
        >>> data = zoo.datasets.load("digits", binarize="fixed", seen="quadrants:1")
        >>> history = model.fit(*data.arrays("train"), verbose=0)
    """

    log_prob_method = "exact"

    def __init__(self, likelihood: Completion, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(likelihood, Completion):
            raise ValueError(
                "A Predictor takes a `Completion`, p(x | y) of the hidden part of an image. "
                f"Received: a {type(likelihood).__name__}."
            )
        likelihood.check_context_is_y()
        self.likelihood = likelihood

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {"predictor": [self.likelihood]}

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        return {"predictor": -self.likelihood(y, y, training=training).log_prob(x)}, {}

    def interfaces(self) -> dict[str, Interface]:
        images = self.image_shape
        return {"likelihood": Interface((images,), (images,), conditional=True)}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.likelihood.image_shape

    @property
    def latent_dim(self) -> int:
        return 0

    def decode(self, z: Array, y: Any = None) -> tf.Tensor:
        """The images `y`, completed by the means of their hidden parts. `z` is ignored."""
        y = self.condition_for(z, y, 2)
        return as_images(self.likelihood(y, y).mean())

    def log_prob(
        self, x: Array, num_samples: int = 1, y: Any = None, seed: Any = None
    ) -> tf.Tensor:
        """The exact log p(hidden part | y), `[B]` in nats.

        `num_samples` and `seed` have no effect.
        """
        x = self._images(x)
        y = self.condition_for(x, y)
        return self.likelihood(y, y).log_prob(x)


@choices(network=networks.NETWORKS, likelihood=by_name.LIKELIHOODS)
def completion(
    image_shape: Sequence[int],
    *,
    network: str = "mlp",
    hidden: Sequence[int] = (500, 500),
    filters: Sequence[int] = (32, 64),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> Completion:
    """p(x | y) as a network of `y[B, H, W, C]`.

    Args:
        image_shape: Height, width, channels.
        network: "mlp", "conv" or "resnet": see `zoo.networks.encoder`.
        hidden: Units of the dense layers.
        filters: Channels of the convolutions or blocks, for "conv" and "resnet".
        activation: Activation of the hidden layers.
        likelihood: Name of p(x | y): see `zoo.distributions.by_name`.
        levels: Number of grey levels, for "discretized_logistic" and "categorical".
    """
    family = by_name.likelihood(likelihood, levels)
    height, width, channels = image_shape
    shape = (height, width, channels * family.params_per_value)
    y = networks.Condition("seen", tuple(image_shape)).input()
    params = networks.encoder(network, image_shape, math.prod(shape), hidden, filters, activation)
    return Completion(
        keras.Model(y, keras.layers.Reshape(shape)(params(y)), name="baseline"), family
    )


@extends(completion)
def predictor(
    image_shape: Sequence[int], *, start_at_mean: bool = True, **options: Any
) -> Predictor:
    """A `Predictor` with the options of `completion`, and:

    Args:
        start_at_mean: Whether the prediction starts at the mean of the training images: see
            `zoo.mean_start`.
    """
    return Predictor(completion(image_shape, **options), start_at_mean=start_at_mean)
