"""Clustering adversarial autoencoder: a category and a style for each image, without labels.

Makhzani et al., "Adversarial Autoencoders", 2016, section 6. https://arxiv.org/abs/1511.05644
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import LOSSES, AdversarialLoss
from zoo.config import choices, extends
from zoo.distributions import Conditional, Family, Prior, by_name
from zoo.distributions.mixtures import component_labels, logits_of_labels
from zoo.interfaces import LOGIT, Interface
from zoo.model import Array, Signature, as_images, as_seed
from zoo.models.aae import AAE, latent_loss
from zoo.models.parts import LEARNED_PRIOR_SIZES, prior_part

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class SoftmaxAndStyle(Family):
    """A deterministic vector: the softmax of the first `categories` values, then the other values.

    This is the output of the paper's encoder (section 5, figure 6): q(y | x) and the style z.

    Args:
        categories: K.

    Example:
        >>> zoo.SoftmaxAndStyle(2)(tf.constant([[0.0, 0.0, 7.0]]), 1).mean().numpy()
        array([[0.5, 0.5, 7. ]], dtype=float32)
    """

    def __init__(self, categories: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.categories = categories

    def call(self, params: tf.Tensor, event_ndims: int) -> tfd.Distribution:
        logits, style = params[..., : self.categories], params[..., self.categories :]
        code = tf.concat([tf.nn.softmax(logits), style], -1)
        return tfd.Independent(tfd.Deterministic(code), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class CategoryAndStyle(Prior):
    """p(y) p(z) over `[y, z]`: y is the one-hot code of a uniform category, z is a draw of `style`.

    Args:
        categories: K, at least 2.
        style: A `Prior` over `z[D]`.

    Raises:
        ValueError: If there are fewer than two categories.

    Example:
        >>> prior = zoo.CategoryAndStyle(3, zoo.StandardNormal(2))
        >>> prior.component([0, 2]).sample().shape
        TensorShape([2, 5])
    """

    has_density = False  # The categories are discrete.

    def __init__(self, categories: int, style: Prior, **kwargs: Any):
        super().__init__(**kwargs)
        if categories < 2:
            raise ValueError(f"`categories` must be at least 2. Received: categories={categories}.")
        self.categories = categories
        self.style = style

    @property
    def components(self) -> int:
        """K, under the name that is common to all priors with components."""
        return self.categories

    @property
    def event_shape(self) -> tuple[int, ...]:
        (dim,) = self.style().event_shape
        return (self.categories + dim,)

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        return self._joint(tf.zeros(self.categories), self.style())

    def component(self, y: tf.Tensor) -> tfd.Distribution:
        """p(y, z | y) for labels `y[B]`, negative for any category: batch shape `[B]`.

        Raises:
            ValueError: If a label is not below K.
        """
        y = component_labels(y, self.categories)
        style = tfd.BatchBroadcast(self.style(), with_shape=tf.shape(y))
        return self._joint(logits_of_labels(y, self.categories), style)

    def _joint(self, logits, style):
        return tfd.Blockwise([tfd.OneHotCategorical(logits, dtype=tf.float32), style])


@keras.saving.register_keras_serializable("zoo")
class ClusteringAAE(AAE):
    """An `AAE` whose code is a category y and a style z, each with its own discriminator.

    In the paper's section 6, the encoder returns q(y | x), a softmax over K clusters, and a linear
    z. One discriminator compares q(y | x) with draws of the uniform categorical distribution, so
    that q(y | x) becomes one-hot and the clusters equally frequent. The other discriminator
    compares z with draws of p(z). The phases are those of the `AAE`; both discriminators are
    updated at once. The decoder receives the probabilities. Training ignores the labels `y` of the
    data.

    Latents are y and z in one vector `[B, K + D]`, y first. In `sample`, `decode` and
    `reconstruct`, the argument `y` is a cluster, an int in 0..K-1, for all images or for each
    image; -1 means no cluster. `sample` draws from that cluster, and `decode` replaces the cluster
    of the latents: `decode(encode(x), y=3)` shows the style of x in cluster 3.

    Args:
        posterior: q(y, z | x), a `Conditional` on `x[B, H, W, C]` with the family
            `SoftmaxAndStyle`.
        likelihood: p(x | y, z), a `Conditional` on `[B, K + D]`.
        prior: A `CategoryAndStyle` without trainable weights.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of p(z).
        category_discriminator: Network from `y[B, K]` to logits `[B, 1]`, high for draws of p(y).
        adversarial_loss: An `AdversarialLoss`, for both discriminators; `NonSaturating()` if
            `None`.

    Raises:
        ValueError: If posterior and prior differ in the number of categories, or the prior has
            trainable weights.

    Example:
        >>> build = zoo.models.clustering_aae
        >>> model = build((8, 8, 1), categories=16, latent_dim=4, hidden=(32,))
        >>> model.compile("adam")
        >>> data = zoo.datasets.load("digits")
        >>> history = model.fit(data.arrays("train")[0], verbose=0)
        >>> model.classify(data.arrays("test")[0]).shape
        TensorShape([447, 16])
        >>> error = zoo.evaluation.classification.cluster_error(model, data)
    """

    terms: tuple[str, ...] = ("prior_logit", "code_logit", "prior_category_logit", "category_logit")
    signatures: Mapping[str, Signature] = {
        **AAE.signatures,
        "classify": Signature(("x",), "probabilities"),
    }

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: CategoryAndStyle,
        discriminator: keras.Model,
        category_discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        **kwargs: Any,
    ):
        super().__init__(posterior, likelihood, prior, discriminator, adversarial_loss, **kwargs)
        family = getattr(posterior, "family", None)
        encoded = getattr(family, "categories", None)
        if encoded is None or encoded != getattr(prior, "categories", None):
            raise ValueError(
                "A posterior of the family SoftmaxAndStyle needs a prior CategoryAndStyle with the "
                f"same number of categories. Received: a {type(family).__name__} of "
                f"{encoded} and a {type(prior).__name__} of {getattr(prior, 'categories', None)}."
            )
        self.category_discriminator = category_discriminator

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return super().players() | {"category_discriminator": [self.category_discriminator]}

    def interfaces(self) -> dict[str, Interface]:
        own = super().interfaces()
        style = self.prior.style().event_shape
        return own | {
            # The objectives pass no condition to the parts.
            "posterior": own["posterior"]._replace(conditional=False),
            "likelihood": own["likelihood"]._replace(conditional=False),
            "discriminator": Interface((style,), (LOGIT,)),
            "category_discriminator": Interface(((self.num_classes,),), (LOGIT,)),
        }

    @property
    def num_classes(self) -> int:
        """K."""
        return self.prior.categories

    def regularization_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> Iterator[tuple[dict, dict]]:
        code_seed, prior_seed, *loss_seeds = tfp.random.split_seed(seed, 6)
        loss = self.adversarial_loss
        code = self.posterior(x, training=training).sample(seed=code_seed)
        z = self.prior.sample_for(x, seed=prior_seed)
        real_category, real_style = self._category_and_style_logits(z, training)
        fake_category, fake_style = self._category_and_style_logits(
            tf.stop_gradient(code), training
        )
        yield (
            {
                "discriminator": loss.real(real_style, loss_seeds[0])
                + loss.fake(fake_style, loss_seeds[1]),
                "category_discriminator": loss.real(real_category, loss_seeds[2])
                + loss.fake(fake_category, loss_seeds[3]),
            },
            {
                "prior_logit": real_style,
                "code_logit": fake_style,
                "prior_category_logit": real_category,
                "category_logit": fake_category,
            },
        )
        category, style = self._category_and_style_logits(code, training)
        yield {"encoder": loss.generator(category) + loss.generator(style)}, {}

    def _category_and_style_logits(self, code, training):
        """The logits `[B]` of the category and of the style of `code[B, K + D]`."""
        y, z = code[:, : self.num_classes], code[:, self.num_classes :]
        category = networks.logits(self.category_discriminator, y, training=training)
        return category, self.latent_logits(z, training=training)

    # Inference ---------------------------------------------------------------------------------

    def abilities(self) -> tuple[str, ...]:
        return (*super().abilities(), "classify", "category_images")

    def classify(self, x: Array) -> tf.Tensor:
        """q(y | x), probabilities `[B, K]`, for images `x[B, H, W, C]` in [0, 1]."""
        return self._codes(x)[:, : self.num_classes]

    def _codes(self, x):
        return self.posterior(self._images(x)).mean()

    def encode(self, x: Array, y: Any = None) -> tf.Tensor:
        """q(y | x), then z: `[B, K + D]`, for images `x[B, H, W, C]` in [0, 1]. `y` is ignored."""
        return self._codes(x)

    def sample_latents(self, n: int, y: Any = None, seed: Any = None) -> tf.Tensor:
        """`n` draws of p(y) p(z), `[n, K + D]`. If `y` is at least 0, the category is `y`."""
        y = tf.fill([n], -1) if y is None else self._categories(n, y)
        return self.prior.component(y).sample(seed=as_seed(seed))

    def decode(self, z: Array, y: Any = None) -> tf.Tensor:
        """The images `[B, H, W, C]` of `z[B, K + D]`. If `y` is at least 0, the category is `y`."""
        z = self._latents(z)
        if y is not None:
            y = self._categories(tf.shape(z)[0], y)[:, None]
            own, style = z[:, : self.num_classes], z[:, self.num_classes :]
            category = tf.where(y < 0, own, tf.one_hot(y[:, 0], self.num_classes))
            z = tf.concat([category, style], -1)
        return as_images(self.likelihood(z).mean())

    def _categories(self, n, y):
        """`y`, one category for all `n` images or one for each image, as int32 `[n]`."""
        y = component_labels(y, self.num_classes)
        if y.shape.rank > 1 or not y.shape.is_compatible_with(
            [tf.get_static_value(n)][: y.shape.rank]
        ):
            raise ValueError(
                f"Expected a category, or one for each of {tf.get_static_value(n)} images. "
                f"Received: y of shape {tuple(y.shape)}."
            )
        return tf.broadcast_to(y, [n]) if y.shape.rank == 0 else y

    def category_images(self) -> tf.Tensor:
        """An image of each category with the style 0, `[K, H, W, C]`."""
        (style,) = self.prior.style().event_shape
        z = tf.concat([tf.eye(self.num_classes), tf.zeros([self.num_classes, style])], -1)
        return self.decode(z)


@choices(
    network={"mlp": ("batch_norm",), "conv": ("filters",), "resnet": ("filters",)},
    likelihood=by_name.LIKELIHOODS,
    loss=LOSSES,
)
@extends(prior_part, without=LEARNED_PRIOR_SIZES)
def parts(
    image_shape: Sequence[int],
    *,
    categories: int = 16,
    latent_dim: int = 10,
    decoder_inputs: int = 0,
    network: str = "mlp",
    hidden: Sequence[int] = (1000, 1000),
    filters: Sequence[int] = (32, 64),
    discriminator_hidden: Sequence[int] = (1000, 1000),
    input_noise: float = 0.0,
    batch_norm: bool = False,
    likelihood: str = "bernoulli",
    levels: int = 256,
    start_at_mean: bool = True,
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    **prior: Any,
) -> dict[str, Any]:
    """The arguments of `ClusteringAAE`. The options are those of `clustering_aae`, and:

    Args:
        decoder_inputs: Number of inputs of the decoder; 0 for the K + D of the code.
    """
    family = by_name.likelihood(likelihood, levels)
    return {
        "posterior": Conditional(
            _encoder(
                image_shape,
                categories + latent_dim,
                network,
                hidden,
                filters,
                input_noise,
                batch_norm,
            ),
            SoftmaxAndStyle(categories),
        ),
        "likelihood": Conditional(
            networks.decoder(
                network,
                decoder_inputs or categories + latent_dim,
                image_shape,
                family.params_per_value,
                hidden,
                filters,
            ),
            family,
        ),
        "prior": CategoryAndStyle(
            categories, prior_part(image_shape, latent_dim=latent_dim, **prior)
        ),
        "start_at_mean": start_at_mean,
        "discriminator": networks.mlp(latent_dim, 1, discriminator_hidden),
        "category_discriminator": networks.mlp(categories, 1, discriminator_hidden),
        "adversarial_loss": latent_loss(loss, real_label, label_noise),
    }


def _encoder(image_shape, outputs, network, hidden, filters, input_noise, batch_norm):
    layers = [keras.layers.GaussianNoise(input_noise)] if input_noise else []
    if network != "mlp":
        layers += networks.encoder(network, image_shape, outputs, hidden, filters).layers
    else:
        layers.append(keras.layers.Flatten())
        for units in hidden:
            layers.append(keras.layers.Dense(units, use_bias=not batch_norm))
            if batch_norm:
                layers.append(keras.layers.BatchNormalization(momentum=0.9))
            layers.append(keras.layers.ReLU())
        layers.append(keras.layers.Dense(outputs, use_bias=not batch_norm, dtype="float32"))
        if batch_norm:
            layers.append(keras.layers.BatchNormalization(momentum=0.9, dtype="float32"))
    return keras.Sequential([keras.Input(tuple(image_shape)), *layers], name="encoder")


@extends(parts, without=("decoder_inputs",))
def clustering_aae(image_shape: Sequence[int], **options: Any) -> ClusteringAAE:
    """A `ClusteringAAE` of the paper's sizes.

    Args:
        image_shape: Height, width, channels.
        categories: K; 16 and 30 in the paper on MNIST.
        latent_dim: D of the style.
        network: "mlp", "conv" or "resnet", for encoder and decoder.
        hidden, filters: Units of the encoder's dense layers, and channels of its convolutions; the
            decoder mirrors them.
        discriminator_hidden: Units of the hidden layers of both discriminators.
        input_noise: Standard deviation of the normal noise on the encoder's input in training.
        batch_norm: Whether to normalize the encoder's hidden layers before their activation, and
            the encoder's output, for "mlp". Without normalization, all images start in one
            category, where the softmax has almost no gradient.
        likelihood, levels: See `zoo.distributions.by_name.likelihood`.
        start_at_mean: Whether the decoder starts at the mean of the training images: see
            `zoo.mean_start`.
        prior, prior_scale, prior_components: p(z) of the style; see
            `zoo.distributions.by_name.prior`.
        loss, real_label, label_noise: See `zoo.adversarial.adversarial_loss`; not "wasserstein".

    Raises:
        ValueError: If a name is unknown, options do not fit together, or the prior is trainable.
    """
    return ClusteringAAE(**parts(image_shape, **options))
