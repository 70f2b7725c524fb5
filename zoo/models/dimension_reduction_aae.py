"""Adversarial autoencoder for dimensionality reduction: the sum of a cluster's head and a style.

Makhzani et al., "Adversarial Autoencoders", 2016, section 7. https://arxiv.org/abs/1511.05644
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.adversarial import AdversarialLoss
from zoo.config import extends
from zoo.distributions import Conditional, Part
from zoo.interfaces import LOGIT, Interface
from zoo.model import Array
from zoo.models.aae import AAE
from zoo.models.clustering_aae import CategoryAndStyle, ClusteringAAE, parts


@keras.saving.register_keras_serializable("zoo")
class ClusterHeads(Part):
    """The representation y W + z, where each row of W is the head of a category.

    Heads are initialised with normal draws whose root mean square distance is `distance`.

    Args:
        categories: K.
        dim: D of the representation and of the style.
        distance: The paper's eta. The cost of two heads is the amount by which their distance is
            below eta.

    Raises:
        ValueError: If `distance` is not above 0.

    Example:
        >>> heads = zoo.ClusterHeads(categories=3, dim=2)
        >>> heads(tf.zeros([4, 3 + 2])).shape
        TensorShape([4, 2])
    """

    def __init__(self, categories: int, dim: int, distance: float = 5.0, **kwargs: Any):
        super().__init__(**kwargs)
        if not distance > 0:
            raise ValueError(f"`distance` must be above 0. Received: distance={distance}.")
        self.categories = categories
        self.dim = dim
        self.distance = distance
        self.kernel = self.add_weight(
            name="kernel",
            shape=(categories, dim),
            initializer=keras.initializers.RandomNormal(stddev=distance / math.sqrt(2 * dim)),
        )

    def call(self, code: tf.Tensor) -> tf.Tensor:
        """The representation `[..., D]` of codes `[..., K + D]`."""
        y, z = code[..., : self.categories], code[..., self.categories :]
        return tf.matmul(y, tf.convert_to_tensor(self.kernel)) + z

    def cost(self) -> tf.Tensor:
        """sum_{i < j} max(0, distance - |w_i - w_j|), a scalar."""
        w = tf.convert_to_tensor(self.kernel)
        squares = tf.reduce_sum(tf.math.squared_difference(w[:, None], w), -1)
        # At 0, on the diagonal, the derivative of the root is infinite.
        missing = tf.nn.relu(self.distance - tf.sqrt(tf.maximum(squares, 1e-12)))
        return tf.reduce_sum(tf.linalg.set_diag(missing, tf.zeros(self.categories))) / 2


@keras.saving.register_keras_serializable("zoo")
class DimensionReductionAAE(ClusteringAAE):
    """A `ClusteringAAE` whose decoder receives the sum of a cluster's head and the style.

    In the paper's section 7 and figure 8, the representation is r = W_C y + z, in D dimensions,
    for example D = 2. The reconstruction phase also trains the heads, the rows of W_C. It adds the
    paper's cost of close heads to the distortion, in nats per image: the cost falls linearly with
    the distance of two heads and is zero above a threshold (`ClusterHeads`).

    The latents of all methods, such as `encode` and `decode`, are the representation r `[B, D]`.
    Only `sample` uses the argument `y`, which is a cluster.

    Args:
        posterior, prior, discriminator, category_discriminator, adversarial_loss: As for
            `ClusteringAAE`.
        likelihood: p(x | r), a `Conditional` on `r[B, D]`.
        heads: A `ClusterHeads`.

    Raises:
        ValueError: As for `ClusteringAAE`, or if heads and prior differ in the number of categories
            or in the number of dimensions.

    Example:
        >>> build = zoo.models.dimension_reduction_aae
        >>> model = build((8, 8, 1), categories=5, hidden=(32,), discriminator_hidden=(32,))
        >>> model.encode(zoo.datasets.load("digits").arrays("test")[0]).shape
        TensorShape([447, 2])
    """

    terms: tuple[str, ...] = (*ClusteringAAE.terms, "head_cost")

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: CategoryAndStyle,
        discriminator: keras.Model,
        category_discriminator: keras.Model,
        heads: ClusterHeads,
        adversarial_loss: AdversarialLoss | None = None,
        **kwargs: Any,
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
                f"Expected {expected[0]} heads with the {expected[1]} dimension(s) of the style. "
                f"Received: {heads.categories} heads with {heads.dim}."
            )
        self.heads = heads

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        own = super().players()
        return own | {"autoencoder": [*own["autoencoder"], self.heads]}

    def interfaces(self) -> dict[str, Interface]:
        own, dim = super().interfaces(), self.heads.dim
        code = (self.num_classes + dim,)
        return own | {
            "posterior": own["posterior"]._replace(returns=(code,)),
            "prior": own["prior"]._replace(returns=(code,)),
            "likelihood": own["likelihood"]._replace(takes=((dim,),)),
            "discriminator": Interface(((dim,),), (LOGIT,)),
        }

    @property
    def latent_dim(self) -> int:
        return self.heads.dim

    def reconstruction_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        r = self.heads(self.posterior(x, training=training).sample(seed=seed))
        distortion = -self.likelihood(r, training=training).log_prob(x)
        cost = tf.fill(tf.shape(distortion), self.heads.cost())
        return {"autoencoder": distortion + cost}, {"head_cost": cost}

    def encode(self, x: Array, y: Any = None) -> tf.Tensor:
        """The representation r `[B, D]` of images `x[B, H, W, C]` in [0, 1]. `y` is ignored."""
        return self.heads(self._codes(x))

    def sample_latents(self, n: int, y: Any = None, seed: Any = None) -> tf.Tensor:
        """`n` representations `[n, D]`: a head plus a style. If `y` is at least 0, its head."""
        return self.heads(super().sample_latents(n, y, seed))

    def decode(self, z: Array, y: Any = None) -> tf.Tensor:
        """The images `[B, H, W, C]` of representations `z[B, D]`. `y` is ignored."""
        return AAE.decode(self, z)

    def category_images(self) -> tf.Tensor:
        """The image of each category's head, `[K, H, W, C]`."""
        return self.decode(tf.convert_to_tensor(self.heads.kernel))


@extends(parts, without=("decoder_inputs",))
def reduction_parts(
    image_shape: Sequence[int],
    *,
    categories: int = 20,
    latent_dim: int = 2,
    head_distance: float = 5.0,
    **options: Any,
) -> dict[str, Any]:
    """The arguments of `DimensionReductionAAE`, from the options of `dimension_reduction_aae`."""
    sizes = {"categories": categories, "latent_dim": latent_dim, "decoder_inputs": latent_dim}
    return {
        **parts(image_shape, **sizes, **options),
        "heads": ClusterHeads(categories, latent_dim, head_distance),
    }


@extends(reduction_parts)
def dimension_reduction_aae(image_shape: Sequence[int], **options: Any) -> DimensionReductionAAE:
    """A `DimensionReductionAAE`.

    Args:
        image_shape: Height, width, channels.
        categories: K; 20 in the paper on MNIST.
        latent_dim: D of the representation; 2 and 10 in the paper.
        head_distance: Distance above which two heads have no cost, above 0, in units of the style.
        **options: All other options are those of `zoo.models.clustering_aae`.

    Raises:
        ValueError: As for `clustering_aae`, or if `head_distance` is not above 0.
    """
    return DimensionReductionAAE(**reduction_parts(image_shape, **options))
