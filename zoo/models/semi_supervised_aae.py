"""Semi-supervised learning with an adversarial autoencoder: some categories are known.

Makhzani et al., "Adversarial Autoencoders", 2016, section 5. https://arxiv.org/abs/1511.05644
"""

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo import networks
from zoo.adversarial import AdversarialLoss
from zoo.datasets.labelled import labelled_rows as count_labelled
from zoo.distributions import Conditional, StandardNormal, likelihood_family
from zoo.model import Round
from zoo.models.aae import check_classes
from zoo.models.clustering_aae import (
    CategoryAndStyle,
    ClusteringAAE,
    SoftmaxAndStyle,
    parts_mlp,
)


@keras.saving.register_keras_serializable("zoo")
class SemiSupervisedAAE(ClusteringAAE):
    """A `ClusteringAAE` whose categories are classes, and known for some of the images.

    To the phases of the `ClusteringAAE`, which use no label, the paper's section 5 adds a third one:
    on labelled images the encoder lowers the cross-entropy -log q(y | x), in nats, as a player with an
    optimizer of its own, "classifier". Its loss is averaged over the labelled rows of a batch.

    Of a `stratified` batch the labelled rows are the minibatch of the classification phase (the others
    are seen there by batch normalization alone), and all others that of the other phases. Else, or where
    all images have a label, all rows are in all phases.

    `y[B]` is the class, an int in 0..K-1; -1, or any number below 0, is no label, and y=None says so
    of all images. In evaluation labels serve for the cross-entropy and for `accuracy` alone: the share
    of the labelled images whose class is the most probable one, 0 where there are none. See
    `zoo.models.m2.error` for the error on a split.

    Args:
        posterior, likelihood, prior, discriminator, category_discriminator, adversarial_loss: As for
            `ClusteringAAE`.
        labelled_rows: The share of each training batch that has a label, in (0, 1], rounded up to
            whole rows, which are the last ones, as in a `stratified` batch of `zoo.datasets`; set by
            `adapt`. `None` where labelled rows may lie anywhere.

    Raises:
        ValueError: If `labelled_rows` is no share.

    Example:
        >>> data = zoo.datasets.load("digits", num_labels=100)
        >>> build = zoo.models.semi_supervised_aae.semi_supervised_aae_mlp
        >>> model = build((8, 8, 1), latent_dim=4, hidden=(32,), discriminator_hidden=(32,))
        >>> model.adapt(data)
        >>> model.compile("adam")
        >>> batches = data.batches("train", 100, shuffle=True, repeat=True, stratified=True)
        >>> history = model.fit(batches, steps_per_epoch=10, verbose=0)
        >>> error = zoo.models.m2.error(model, data)
    """

    terms = (*ClusteringAAE.terms, "accuracy")
    condition_is_optional = True
    condition_in_latents = True
    stratified_batches = True
    adapted = ("labelled_rows",)

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: CategoryAndStyle,
        discriminator: keras.Model,
        category_discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        labelled_rows: float | None = None,
        **kwargs,
    ):
        super().__init__(
            posterior,
            likelihood,
            prior,
            discriminator,
            category_discriminator,
            adversarial_loss,
            **kwargs,
        )
        if labelled_rows is not None and not 0 < labelled_rows <= 1:
            raise ValueError(
                f"`labelled_rows` must be a share in (0, 1]. Received: {labelled_rows}."
            )
        self.labelled_rows = labelled_rows

    @property
    def condition(self):
        return tf.TensorSpec([None], tf.int32)

    def players(self):
        return super().players() | {"classifier": [self.posterior]}

    def rounds(self):
        without_labels = [
            Round(functools.partial(self._without_labels, round.objective))
            for round in super().rounds()
        ]
        return [*without_labels, Round(self.classification_objective)]

    def adapt(self, data):
        """Takes the layout of batches from the data.

        Raises:
            ValueError: If it has no labels, or of more classes than the model.
        """
        check_classes(self, data, self.num_classes)
        self.labelled_rows = data.labelled_rows

    def _without_labels(self, objective, x, y, seed, training):
        few = self._labelled_last(x) if training else 0
        return objective(x[: x.shape[0] - few] if few else x, None, seed, training)

    def classification_objective(self, x, y, seed, training):
        few = self._labelled_last(x) if training else 0
        y = tf.fill(tf.shape(x)[:1], -1) if y is None else tf.cast(y, tf.int32)
        y = y[-few:]  # All of them, where `few` is 0.
        # The few labelled images alone would make poor statistics for batch normalization.
        shown = x if self._normalizes else x[-few:]
        logits = self.posterior.network(shown, training=training)[-few:, : self.num_classes]
        log_q = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        known = tf.cast((y >= 0) & (y < self.num_classes), tf.float32)
        loss = -tf.reduce_sum(log_q * tf.one_hot(y, self.num_classes), -1)
        right = tf.cast(tf.argmax(log_q, -1, tf.int32) == y, tf.float32)
        return {"classifier": (loss, known)}, {"accuracy": (right, known)}

    @property
    def _normalizes(self):
        layers = self.posterior.network._flatten_layers()
        return any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)

    def _labelled_last(self, x) -> int:
        """How many rows of a training batch have a label by their place, the last ones."""
        if self.labelled_rows in (None, 1):
            return 0
        if x.shape[0] is None:
            raise ValueError(
                f"With labelled_rows={self.labelled_rows} a training batch has a known number of "
                "rows: batch with `drop_remainder=True`, or use labelled_rows=None. "
                f"Received: images of shape {x.shape}."
            )
        return count_labelled(x.shape[0], self.labelled_rows)


def semi_supervised_aae_mlp(
    image_shape: Sequence[int],
    num_classes: int = 10,
    latent_dim: int = 10,
    hidden: Sequence[int] = (1000, 1000),
    discriminator_hidden: Sequence[int] = (1000, 1000),
    input_noise: float = 0.0,
    batch_norm: bool = False,
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> SemiSupervisedAAE:
    """A `SemiSupervisedAAE` of multilayer perceptrons, of the paper's sizes on MNIST.

    Args:
        image_shape: Height, width, channels.
        num_classes: K.
        latent_dim: D of the style.
        hidden: The encoder's; the decoder's mirrors it.
        discriminator_hidden: Units of the hidden layers of both discriminators.
        input_noise: Standard deviation of the normal noise that the encoder's input has in training.
        batch_norm: As for `zoo.models.clustering_aae.clustering_aae_mlp`.
        likelihood: Name of the family of p(x | y, z).
        levels: Number of grey levels, for "discretized_logistic".
    """
    return SemiSupervisedAAE(
        *parts_mlp(
            image_shape,
            num_classes,
            latent_dim,
            num_classes + latent_dim,
            hidden,
            discriminator_hidden,
            input_noise,
            batch_norm,
            likelihood_family(likelihood, levels),
        )
    )


def semi_supervised_aae_conv(
    image_shape: Sequence[int],
    num_classes: int = 10,
    latent_dim: int = 20,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    discriminator_hidden: Sequence[int] = (1000, 1000),
    input_noise: float = 0.0,
    likelihood: str = "normal",
    levels: int = 256,
) -> SemiSupervisedAAE:
    """A `SemiSupervisedAAE` with convolutions, for photographs such as the paper's SVHN.

    Args:
        image_shape, num_classes, discriminator_hidden, input_noise, likelihood, levels: As for
            `semi_supervised_aae_mlp`.
        latent_dim: D of the style; 20 in the paper on SVHN.
        filters: Of the encoder's convolutions, each halving the image; the decoder's mirror them.
        hidden: Units of the dense layer of each.
    """
    family = likelihood_family(likelihood, levels)
    encoder = networks.conv_encoder(image_shape, num_classes + latent_dim, filters, hidden)
    noise = [keras.layers.GaussianNoise(input_noise)] if input_noise else []
    inputs = keras.Input(tuple(image_shape))
    return SemiSupervisedAAE(
        Conditional(
            keras.Sequential([inputs, *noise, *encoder.layers], name="encoder"),
            SoftmaxAndStyle(num_classes),
        ),
        Conditional(
            networks.conv_decoder(
                num_classes + latent_dim,
                image_shape,
                family.params_per_value,
                filters[::-1],
                hidden,
            ),
            family,
        ),
        CategoryAndStyle(num_classes, StandardNormal(latent_dim)),
        networks.mlp(latent_dim, 1, discriminator_hidden),
        networks.mlp(num_classes, 1, discriminator_hidden),
    )
