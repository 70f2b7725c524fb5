"""Semi-supervised adversarial autoencoder: a category and a style, with labels for some images.

Makhzani et al., "Adversarial Autoencoders", 2016, section 5. https://arxiv.org/abs/1511.05644
"""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.config import extends
from zoo.datasets import ImageData
from zoo.keras_internals import layers_in
from zoo.model import Round
from zoo.models.aae import check_classes
from zoo.models.clustering_aae import ClusteringAAE, clustering_aae, parts


@keras.saving.register_keras_serializable("zoo")
class SemiSupervisedAAE(ClusteringAAE):
    """A `ClusteringAAE` whose categories are classes, with labels for some of the images.

    The reconstruction and regularization phases of the `ClusteringAAE` use no labels. The paper's
    section 5 adds a third phase: on labelled images, the player "classifier", which is the encoder
    with another optimizer, minimises the cross-entropy -log q(y | x), in nats.

    A training batch is two streams, `((x_labelled, y), x_unlabelled)`, as in `ImageData.batches`
    with `semi_supervised=True`. The classification phase uses the labelled stream, the other phases
    use the unlabelled stream. In a batch of one stream, `x` or `(x, y)`, all phases use all images;
    the cross-entropy is then the mean over the images that have a label.

    `y[B]` is the class, an int from 0 to K - 1. In a batch of one stream, a negative number, such
    as -1, means that the image has no label, and y=None means that no image has a label. In
    evaluation, labels only affect the cross-entropy and `accuracy`, the share of labelled images
    whose most probable class is their label (0 without labelled images).

    Args:
        posterior, likelihood, prior, discriminator, category_discriminator, adversarial_loss: As
            for `ClusteringAAE`.

    Notes:
        An encoder with batch normalization receives both streams in the classification phase,
        because a few labelled images give poor batch statistics. The loss is that of the labelled
        images only.

    Example:
        >>> data = zoo.datasets.load("digits", num_labels=100)
        >>> from zoo.models.semi_supervised_aae import semi_supervised_aae as build
        >>> model = build((8, 8, 1), latent_dim=4, hidden=(32,), discriminator_hidden=(32,))
        >>> model.adapt(data)
        >>> model.compile("adam")
        >>> batches = data.batches("train", 100, shuffle=True, repeat=True, semi_supervised=True)
        >>> history = model.fit(batches, steps_per_epoch=10, verbose=0)
        >>> model.classify(data.arrays("test")[0]).shape
        TensorShape([447, 10])
    """

    terms: tuple[str, ...] = (*ClusteringAAE.terms, "accuracy")
    condition_is_optional = True
    condition_in_latents = True
    semi_supervised = True

    @property
    def condition(self) -> tf.TensorSpec:
        return tf.TensorSpec([None], tf.int32)

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return super().players() | {"classifier": [self.posterior]}

    def rounds(self) -> list[Round]:
        unsupervised = [
            Round(functools.partial(_on_unlabelled, round.objective)) for round in super().rounds()
        ]
        return [*unsupervised, Round(self.classification_objective)]

    def adapt(self, data: ImageData) -> None:
        """Checks the labels of the data, and adapts as `GenerativeModel.adapt` does.

        Raises:
            ValueError: If the data have no integer labels, or labels of more than K classes.
        """
        check_classes(self, data, self.num_classes)
        super().adapt(data)

    def classification_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        """The cross-entropy of the labelled stream, or of the labelled images of one stream."""
        x_labelled, x_unlabelled = x if isinstance(x, tuple) else (x, None)
        images = x_labelled
        if x_unlabelled is not None and training and self._normalizes:
            images = tf.concat([x_unlabelled, x_labelled], 0)
        rows = tf.shape(x_labelled)[0]
        logits = self.posterior.network(images, training=training)[-rows:, : self.num_classes]
        log_q = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        y = tf.fill([rows], -1) if y is None else tf.cast(y, tf.int32)
        known = tf.cast((y >= 0) & (y < self.num_classes), tf.float32)
        loss = -tf.reduce_sum(log_q * tf.one_hot(y, self.num_classes), -1)
        right = tf.cast(tf.argmax(log_q, -1, tf.int32) == y, tf.float32)
        return {"classifier": (loss, known)}, {"accuracy": (right, known)}

    @property
    def _normalizes(self):
        layers = layers_in(self.posterior.network)
        return any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)


def _on_unlabelled(objective, x, y, seed, training):
    """An objective on the unlabelled stream, or on all images of one stream, without labels."""
    return objective(x[1] if isinstance(x, tuple) else x, None, seed, training)


@extends(clustering_aae, without=("categories",))
def semi_supervised_aae(
    image_shape: Sequence[int], *, num_classes: int = 10, **options: Any
) -> SemiSupervisedAAE:
    """A `SemiSupervisedAAE`, by default of the paper's sizes on MNIST.

    Args:
        image_shape: Height, width, channels.
        num_classes: K.
        latent_dim: D of the style; 20 in the paper on SVHN.
        **options: All other options are those of `zoo.models.clustering_aae`.

    Raises:
        ValueError: As for `clustering_aae`.
    """
    return SemiSupervisedAAE(**parts(image_shape, categories=num_classes, **options))
