"""Dimensionality reduction with an adversarial autoencoder, with labels for some images.

Makhzani et al., "Adversarial Autoencoders", 2016, section 7. https://arxiv.org/abs/1511.05644
"""

from collections.abc import Sequence
from typing import Any

import keras

from zoo.config import extends
from zoo.models.dimension_reduction_aae import (
    DimensionReductionAAE,
    dimension_reduction_aae,
    reduction_parts,
)
from zoo.models.semi_supervised_aae import SemiSupervisedAAE


@keras.saving.register_keras_serializable("zoo")
class SemiSupervisedDimensionReductionAAE(DimensionReductionAAE, SemiSupervisedAAE):
    """A `DimensionReductionAAE` whose categories are classes, with labels for some of the images.

    The arguments are those of `DimensionReductionAAE`. Training batches, the classification phase
    and the use of labels are those of `SemiSupervisedAAE`.

    Example:
        >>> data = zoo.datasets.load("digits", num_labels=100)
        >>> build = zoo.models.semi_supervised_dimension_reduction_aae
        >>> model = build((8, 8, 1), hidden=(32,), discriminator_hidden=(32,))
        >>> model.compile("adam")
        >>> batches = data.batches("train", 100, shuffle=True, repeat=True, semi_supervised=True)
        >>> history = model.fit(batches, steps_per_epoch=10, verbose=0)
        >>> model.encode(data.arrays("test")[0]).shape
        TensorShape([447, 2])
    """

    terms: tuple[str, ...] = (*DimensionReductionAAE.terms, "accuracy")


@extends(dimension_reduction_aae, categories=10)
def semi_supervised_dimension_reduction_aae(
    image_shape: Sequence[int], **options: Any
) -> SemiSupervisedDimensionReductionAAE:
    """A `SemiSupervisedDimensionReductionAAE`.

    Args:
        image_shape: Height, width, channels.
        categories: K, the number of classes.
        **options: All other options are those of `zoo.models.dimension_reduction_aae`.

    Raises:
        ValueError: As `dimension_reduction_aae`.
    """
    return SemiSupervisedDimensionReductionAAE(**reduction_parts(image_shape, **options))
