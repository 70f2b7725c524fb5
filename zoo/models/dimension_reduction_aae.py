"""Dimensionality reduction with an adversarial autoencoder: a few dimensions, of heads and styles.

Makhzani et al., "Adversarial Autoencoders", 2016, section 7. https://arxiv.org/abs/1511.05644
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo.adversarial import AdversarialLoss
from zoo.distributions import Conditional, likelihood_family
from zoo.distributions.part import Part
from zoo.model import as_images
from zoo.models.clustering_aae import CategoryAndStyle, ClusteringAAE, parts_mlp


@keras.saving.register_keras_serializable("zoo")
class ClusterHeads(Part):
    """A point for each category, the rows of W, in as many dimensions as the style: y W + z.

    Args:
        categories: K.
        dim: D of the representation.
        distance: The paper's eta: heads nearer to each other than this cost what is missing. Heads
            begin at random, so far apart in the root mean square.

    Raises:
        ValueError: If `distance` is not above 0.
    """

    def __init__(self, categories: int, dim: int, distance: float = 5.0, **kwargs):
        super().__init__(**kwargs)
        if not distance > 0:
            raise ValueError(f"The distance of heads must be above 0. Received: {distance}.")
        self.categories = categories
        self.dim = dim
        self.distance = distance
        self.kernel = self.add_weight(
            name="kernel",
            shape=(categories, dim),
            initializer=keras.initializers.RandomNormal(stddev=distance / math.sqrt(2 * dim)),
        )

    def call(self, code):
        """The representation `[..., D]` of codes `[..., K + D]`."""
        y, z = code[..., : self.categories], code[..., self.categories :]
        return tf.matmul(y, tf.convert_to_tensor(self.kernel)) + z

    def cost(self) -> tf.Tensor:
        """sum_{i < j} max(0, distance - |w_i - w_j|), a scalar: 0 where all heads are far enough."""
        w = tf.convert_to_tensor(self.kernel)
        squares = tf.reduce_sum(tf.math.squared_difference(w[:, None], w), -1)
        # A root has no slope at 0, where a head meets itself.
        missing = tf.nn.relu(self.distance - tf.sqrt(tf.maximum(squares, 1e-12)))
        return tf.reduce_sum(tf.linalg.set_diag(missing, tf.zeros(self.categories))) / 2


@keras.saving.register_keras_serializable("zoo")
class DimensionReductionAAE(ClusteringAAE):
    """A `ClusteringAAE` whose decoder sees the sum of a cluster's head and the style.

    The paper's section 7 and figure 8: the representation is r = W_C y + z, in D dimensions, for
    instance the plane. In the reconstruction phase the heads, the rows of W_C, learn with the
    decoder, and pay for being near each other: the paper's cost, which falls linearly with
    the distance of two heads and is zero from a threshold on (`ClusterHeads`). It is added to the
    distortion, in nats of an image.

    Latents are the representation r `[B, D]`: `encode` and `decode` know nothing else, and `y` is of
    use to `sample` alone, where it is a cluster.

    Args:
        posterior, prior, discriminator, category_discriminator, adversarial_loss: As for
            `ClusteringAAE`.
        likelihood: p(x | r), a `Conditional` on `r[B, D]`.
        heads: A `ClusterHeads`.

    Raises:
        ValueError: If the heads are not as many as the categories, or not of the style's dimensions.
    """

    terms = (*ClusteringAAE.terms, "head_cost")

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: CategoryAndStyle,
        discriminator: keras.Model,
        category_discriminator: keras.Model,
        heads: ClusterHeads,
        adversarial_loss: AdversarialLoss | None = None,
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
        expected = (prior.categories, int(prior.style().event_shape[-1]))
        if (heads.categories, heads.dim) != expected:
            raise ValueError(
                f"Expected {expected[0]} heads in the {expected[1]} dimension(s) of the style. "
                f"Received: {heads.categories} in {heads.dim}."
            )
        self.heads = heads

    def players(self):
        own = super().players()
        return own | {"autoencoder": [*own["autoencoder"], self.heads]}

    @property
    def latent_dim(self):
        return self.heads.dim

    def reconstruction_objective(self, x, y, seed, training):
        r = self.heads(self._code(x, None, seed, training))
        distortion = -self.likelihood(r, training=training).log_prob(x)
        cost = tf.fill(tf.shape(distortion), self.heads.cost())
        return {"autoencoder": distortion + cost}, {"head_cost": cost}

    def encode(self, x, y=None):
        """The representation r `[B, D]` of images `x[B, H, W, C]` in [0, 1]. `y` is ignored."""
        return self.heads(self._codes(x))

    def sample_latents(self, n, y=None, seed=None):
        """`n` representations `[n, D]`: a head, that of `y` where it is from 0 on, and a style."""
        return self.heads(super().sample_latents(n, y, seed))

    def decode(self, z, y=None):
        """The images `[B, H, W, C]` of representations `z[B, D]`. `y` is ignored."""
        return as_images(self.likelihood(z).mean())

    def category_images(self):
        """What each category looks like, `[K, H, W, C]`: the image of its head."""
        return self.decode(tf.convert_to_tensor(self.heads.kernel))


def dimension_reduction_aae_mlp(
    image_shape: Sequence[int],
    categories: int = 20,
    latent_dim: int = 2,
    head_distance: float = 5.0,
    hidden: Sequence[int] = (1000, 1000),
    discriminator_hidden: Sequence[int] = (1000, 1000),
    input_noise: float = 0.0,
    batch_norm: bool = False,
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> DimensionReductionAAE:
    """A `DimensionReductionAAE` of multilayer perceptrons.

    Args:
        image_shape: Height, width, channels.
        categories: K: 20 clusters in the paper on MNIST.
        latent_dim: D of the representation; 2 and 10 in the paper.
        head_distance: Least distance of two heads that costs nothing, above 0, in standard deviations
            of the style.
        hidden, discriminator_hidden, input_noise, batch_norm, likelihood, levels: As for
            `clustering_aae_mlp`.
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
    return DimensionReductionAAE(*parts, ClusterHeads(categories, latent_dim, head_distance))
