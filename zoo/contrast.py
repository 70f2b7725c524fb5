"""Contrastive learning: the loss InfoNCE, and keys of a momentum copy with a queue (MoCo).

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", 2020.
https://arxiv.org/abs/1911.05722
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.contract import as_count
from zoo.networks import unit


def info_nce(
    queries: tf.Tensor, keys: tf.Tensor, negatives: tf.Tensor, temperature: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """-log of the softmax probability of a query's own key among the negatives, in nats.

        -log [ e^(q k / t) / (e^(q k / t) + sum_j e^(q n_j / t)) ]

    van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4;
    He et al., 2020, eq. 1. Vectors of different levels are not compared.
    https://arxiv.org/abs/1807.03748

    Args:
        queries: Unit vectors `[B, L, d]`: L levels of features of an image.
        keys: The key of each query, `[B, L, d]`.
        negatives: Keys of other images, `[K, L, d]`.
        temperature: t, above 0.

    Returns:
        The loss `[B, L]`, and whether the own key is nearer than all negatives, 0 or 1, `[B, L]`.

    Example:
        >>> one, other = tf.constant([[[1.0, 0.0]]]), tf.constant([[[0.0, 1.0]]])
        >>> loss, nearest = zoo.contrast.info_nce(one, one, other, 1.0)
        >>> loss.numpy()  # log(1 + e^-1)
        array([[0.3132...]], dtype=float32)
    """
    own = tf.reduce_sum(queries * keys, -1, keepdims=True) / temperature
    others = tf.einsum("bld,kld->blk", queries, negatives) / temperature
    loss = tf.reduce_logsumexp(tf.concat([own, others], -1), -1) - own[..., 0]
    nearest = own[..., 0] > tf.reduce_max(others, -1)
    return loss, tf.cast(nearest, tf.float32)


class MomentumKeys(keras.layers.Layer):
    """The momentum copy of networks, and a queue of the latest keys that the copy returned.

    Gradients train none of the weights. The methods `follow` and `push` assign them. A model calls
    both in training only, in a round in which it updates the player that owns this layer.

    Args:
        networks: Built networks, each of which takes the outputs of the previous network. The last
            one returns `[B, L, d]`. The networks are copied and do not become part of this layer.
        size: Number of keys in the queue, K. The queue starts with random unit vectors.
        momentum: m in [0, 1]: the share of its old weights that the copy keeps in `follow`.

    Raises:
        ValueError: If an argument is out of range.

    Notes:
        He et al. overwrite the queue in a circle. Here it is shifted, so that it always holds the latest
        K keys. The copy averages the vectors of spectral normalizations, as it averages the weights; in
        the code of Parmar et al., 2021 (DC-VAE), it runs power iterations of its own.
    """

    def __init__(self, networks: Sequence[keras.Model], size: int, momentum: float, **kwargs: Any):
        super().__init__(**({"dtype": "float32"} | kwargs))
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]. Received: {momentum}.")
        self.size = as_count(size, "size")
        self.momentum = momentum
        self.copies = [keras.models.clone_model(network) for network in networks]
        for copy, network in zip(self.copies, networks, strict=True):
            copy.set_weights(network.get_weights())
        self.queue = self.add_weight(
            name="queue",
            shape=(self.size, *self.copies[-1].output_shape[1:]),
            initializer=lambda shape, dtype: unit(keras.random.normal(shape, dtype=dtype)),
            trainable=False,
        )
        self.trainable = False
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """The keys of images: unit vectors `[B, L, d]`, float32, without a gradient."""
        for copy in self.copies:
            x = copy(x, training=False)
        return tf.stop_gradient(unit(x))

    def follow(self, networks: Sequence[keras.Model]) -> None:
        """Assigns m * own + (1 - m) * new to each weight. `networks` are those of the constructor.

        The state of layers, such as the vectors of spectral normalizations, is averaged as well.
        """
        for copy, network in zip(self.copies, networks, strict=True):
            for own, new in zip(copy.weights, network.weights, strict=True):
                mean = self.momentum * own + (1 - self.momentum) * new
                own.assign(mean)

    def push(self, keys: tf.Tensor) -> None:
        """Appends keys `[B, L, d]` to the queue, and removes the oldest keys.

        All replicas append the keys of all replicas, in the order of the replicas.
        """
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1:
            # The queues would otherwise differ, and the mean of different queues has no meaning.
            keys = replicas.all_gather(keys, 0)
        latest = tf.concat([keras.ops.convert_to_tensor(self.queue), keys], 0)[-self.size :]
        self.queue.assign(tf.ensure_shape(latest, self.queue.shape))
