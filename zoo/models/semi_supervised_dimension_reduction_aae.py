"""Dimensionality reduction with an adversarial autoencoder, with labels for some images.

Makhzani et al., "Adversarial Autoencoders", 2016, section 7. https://arxiv.org/abs/1511.05644
"""

from collections.abc import Sequence

import keras

from zoo.distributions import likelihood_family
from zoo.models.clustering_aae import parts_mlp
from zoo.models.dimension_reduction_aae import ClusterHeads, DimensionReductionAAE
from zoo.models.semi_supervised_aae import SemiSupervisedAAE


@keras.saving.register_keras_serializable("zoo")
class SemiSupervisedDimensionReductionAAE(DimensionReductionAAE, SemiSupervisedAAE):
    """A `DimensionReductionAAE` whose categories are classes, with labels for some of the images.

    The arguments are those of `DimensionReductionAAE`. Training batches, the classification phase
    and the use of labels are those of `SemiSupervisedAAE`.

    Example:
        >>> data = zoo.datasets.load("digits", num_labels=100)
        >>> from zoo.models.semi_supervised_dimension_reduction_aae import (
        ...     semi_supervised_dimension_reduction_aae as build,
        ... )
        >>> model = build((8, 8, 1), hidden=(32,), discriminator_hidden=(32,))
        >>> model.compile("adam")
        >>> batches = data.batches("train", 100, shuffle=True, repeat=True, semi_supervised=True)
        >>> history = model.fit(batches, steps_per_epoch=10, verbose=0)
        >>> model.encode(data.arrays("test")[0]).shape
        TensorShape([447, 2])
    """

    terms = (*DimensionReductionAAE.terms, "accuracy")


def semi_supervised_dimension_reduction_aae(
    image_shape: Sequence[int],
    categories: int = 10,
    latent_dim: int = 2,
    head_distance: float = 5.0,
    hidden: Sequence[int] = (1000, 1000),
    discriminator_hidden: Sequence[int] = (1000, 1000),
    input_noise: float = 0.0,
    batch_norm: bool = False,
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> SemiSupervisedDimensionReductionAAE:
    """A `SemiSupervisedDimensionReductionAAE` of multilayer perceptrons.

    Args:
        image_shape: Height, width, channels.
        categories: K, the number of classes.
        latent_dim, head_distance, hidden, discriminator_hidden, input_noise, batch_norm, likelihood,
            levels: As for `zoo.models.dimension_reduction_aae.dimension_reduction_aae_mlp`.
    """
    parts = parts_mlp(
        image_shape,
        categories,
        latent_dim,
        latent_dim,
        hidden,
        discriminator_hidden,
        input_noise,
        batch_norm,
        likelihood_family(likelihood, levels),
    )
    heads = ClusterHeads(categories, latent_dim, head_distance)
    return SemiSupervisedDimensionReductionAAE(*parts, heads)
