"""Unsupervised clustering with an adversarial autoencoder: a category and a style for each image.

Makhzani et al., "Adversarial Autoencoders", 2016, section 6. https://arxiv.org/abs/1511.05644
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import AdversarialLoss
from zoo.distributions import (
    Conditional,
    Family,
    Prior,
    StandardNormal,
    likelihood_family,
)
from zoo.distributions.mixtures import component_labels, logits_of_labels
from zoo.model import as_images, as_seed
from zoo.models.aae import AAE

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class SoftmaxAndStyle(Family):
    """All mass on one vector: the softmax of the first `categories` values, then the others.

    What the paper's encoder puts out (section 5, figure 6): q(y | x), and the style z.
    """

    def __init__(self, categories: int, **kwargs):
        super().__init__(**kwargs)
        self.categories = categories

    def call(self, params, event_ndims):
        logits, style = params[..., : self.categories], params[..., self.categories :]
        code = tf.concat([tf.nn.softmax(logits), style], -1)
        return tfd.Independent(tfd.Deterministic(code), event_ndims)


@keras.saving.register_keras_serializable("zoo")
class CategoryAndStyle(Prior):
    """p(y) p(z) over `[y, z]`: a one-hot code of equally probable categories, and z ~ `style`.

    Args:
        categories: K.
        style: A `Prior` over `z[D]`.

    Example:
        >>> prior = zoo.models.clustering_aae.CategoryAndStyle(3, zoo.StandardNormal(2))
        >>> prior.component([0, 2]).sample().shape
        TensorShape([2, 5])
    """

    has_density = False  # Categories have probabilities.

    def __init__(self, categories: int, style: Prior, **kwargs):
        super().__init__(**kwargs)
        if categories < 2:
            raise ValueError(
                f"There are at least two categories. Received: categories={categories}."
            )
        self.categories = categories
        self.style = style

    @property
    def components(self) -> int:
        """K, as other priors with components call it."""
        return self.categories

    def call(self, y=None):
        return self._joint(tf.zeros(self.categories), self.style())

    def component(self, y) -> tfd.Distribution:
        """For each label of `y[B]` that category, below 0 any, and a style: batch shape `[B]`.

        Raises:
            ValueError: For a label that is no category.
        """
        y = component_labels(y, self.categories)
        style = tfd.BatchBroadcast(self.style(), with_shape=tf.shape(y))
        return self._joint(logits_of_labels(y, self.categories), style)

    def _joint(self, logits, style):
        return tfd.Blockwise([tfd.OneHotCategorical(logits, dtype=tf.float32), style])


@keras.saving.register_keras_serializable("zoo")
class ClusteringAAE(AAE):
    """An `AAE` whose code is a category y and a style z, each drawn to its prior by its discriminator.

    The paper's section 6: the encoder puts out q(y | x), a softmax over K clusters, and a linear z.
    One discriminator tells q(y | x) from draws of the uniform categorical distribution, which makes
    it sure of one cluster, and clusters equally frequent; the other z from draws of p(z). The phases are
    those of the `AAE`, on both discriminators at once; the decoder takes the probabilities as they
    are. No label is used: the data's `y` is ignored.

    Latents are y and z in one vector `[B, K + D]`, y first. In all methods that take latents or make
    them, `y` is a cluster, an int in 0..K-1 or one for each, -1 for none: `sample` then draws of that
    cluster, and `decode` puts it in the place of the latents' own. So
    `decode(encode(x), y=3)` shows the style of x in cluster 3.

    Args:
        posterior: q(y, z | x), a `Conditional` on `x[B, H, W, C]` with the family `SoftmaxAndStyle`.
        likelihood: p(x | y, z), a `Conditional` on `[B, K + D]`.
        prior: A `CategoryAndStyle`.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of p(z).
        category_discriminator: Network from `y[B, K]` to logits `[B, 1]`, high for draws of p(y).
        adversarial_loss: An `AdversarialLoss`, for both; `NonSaturating()` if `None`.

    Raises:
        ValueError: If the posterior's categories are not the prior's.

    Example:
        >>> build = zoo.models.clustering_aae.clustering_aae_mlp
        >>> model = build((8, 8, 1), categories=16, latent_dim=4, hidden=(32,))
        >>> model.compile("adam")
        >>> data = zoo.datasets.load("digits")
        >>> history = model.fit(data.arrays("train")[0], verbose=0)
        >>> model.classify(data.arrays("test")[0]).shape
        TensorShape([447, 16])
        >>> error = zoo.evaluation.classification.cluster_error(model, data)
    """

    terms = ("prior_logit", "code_logit", "prior_category_logit", "category_logit")

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: CategoryAndStyle,
        discriminator: keras.Model,
        category_discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        **kwargs,
    ):
        super().__init__(posterior, likelihood, prior, discriminator, adversarial_loss, **kwargs)
        of_q = getattr(posterior.family, "categories", None)
        if of_q != getattr(prior, "categories", None) or of_q is None:
            raise ValueError(
                "A posterior with the family SoftmaxAndStyle goes with a prior CategoryAndStyle of as "
                f"many categories. Received: a {type(posterior.family).__name__} of {of_q} and a "
                f"{type(prior).__name__} of {getattr(prior, 'categories', None)}."
            )
        self.category_discriminator = category_discriminator

    def players(self):
        return super().players() | {"category_discriminator": [self.category_discriminator]}

    @property
    def num_classes(self) -> int:
        """K."""
        return self.prior.categories

    def regularization_objective(self, x, y, seed, training):
        code_seed, prior_seed, *label_seeds = tfp.random.split_seed(seed, 6)
        code = self._code(x, None, code_seed, training)
        drawn = self.prior().sample(tf.shape(x)[0], seed=prior_seed)
        real, fake = self.adversarial_loss.real, self.adversarial_loss.fake
        prior_category, prior_style = self._judge_both(drawn, training)
        category, style = self._judge_both(tf.stop_gradient(code), training)
        yield (
            {
                "discriminator": real(prior_style, label_seeds[0]) + fake(style, label_seeds[1]),
                "category_discriminator": real(prior_category, label_seeds[2])
                + fake(category, label_seeds[3]),
            },
            {
                "prior_logit": prior_style,
                "code_logit": style,
                "prior_category_logit": prior_category,
                "category_logit": category,
            },
        )
        category, style = self._judge_both(code, training)
        generator_loss = self.adversarial_loss.generator
        yield {"encoder": generator_loss(category) + generator_loss(style)}, {}

    def _judge_both(self, code, training):
        """The logits `[B]` of the category and of the style of `code[B, K + D]`."""
        y, z = code[:, : self.num_classes], code[:, self.num_classes :]
        judged = self.category_discriminator(y, training=training)
        return tf.cast(judged[:, 0], tf.float32), self._judge(z, None, training)

    # Using -------------------------------------------------------------------------------------

    def abilities(self):
        return (*super().abilities(), "classify")

    def classify(self, x) -> tf.Tensor:
        """q(y | x), probabilities `[B, K]`, for images `x[B, H, W, C]` in [0, 1]."""
        return self._codes(x)[:, : self.num_classes]

    def _codes(self, x):
        return self.posterior(self._images(x)).mean()

    def encode(self, x, y=None):
        """q(y | x), then z: `[B, K + D]`, for images `x[B, H, W, C]` in [0, 1]. `y` is ignored."""
        return self._codes(x)

    def sample_latents(self, n, y=None, seed=None):
        """`n` draws of p(y) p(z), `[n, K + D]`; of the category `y` where it is given, from 0 on."""
        y = tf.fill([n], -1) if y is None else self._categories(n, y)
        return self.prior.component(y).sample(seed=as_seed(seed))

    def decode(self, z, y=None):
        """The images `[B, H, W, C]` of `z[B, K + D]`, whose category `y` replaces, where it is from 0 on."""
        z = tf.cast(z, tf.float32)
        if y is not None:
            y = self._categories(tf.shape(z)[0], y)[:, None]
            own, style = z[:, : self.num_classes], z[:, self.num_classes :]
            category = tf.where(y < 0, own, tf.one_hot(y[:, 0], self.num_classes))
            z = tf.concat([category, style], -1)
        return as_images(self.likelihood(z).mean())

    def _categories(self, n, y):
        """`y`, one or one for each, as `[n]` int32."""
        y = component_labels(y, self.num_classes)
        if y.shape.rank > 1 or not y.shape.is_compatible_with(
            [tf.get_static_value(n)][: y.shape.rank]
        ):
            raise ValueError(
                f"Expected a category, or one for each of {tf.get_static_value(n)}. "
                f"Received: y of shape {tuple(y.shape)}."
            )
        return tf.broadcast_to(y, [n]) if y.shape.rank == 0 else y

    def category_images(self) -> tf.Tensor:
        """What each category looks like, `[K, H, W, C]`: its image with the style 0."""
        (style,) = self.prior.style().event_shape
        z = tf.concat([tf.eye(self.num_classes), tf.zeros([self.num_classes, style])], -1)
        return self.decode(z)


def clustering_aae_mlp(
    image_shape: Sequence[int],
    categories: int = 16,
    latent_dim: int = 10,
    hidden: Sequence[int] = (1000, 1000),
    discriminator_hidden: Sequence[int] = (1000, 1000),
    input_noise: float = 0.0,
    batch_norm: bool = False,
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> ClusteringAAE:
    """A `ClusteringAAE` of multilayer perceptrons, of the paper's sizes.

    Args:
        image_shape: Height, width, channels.
        categories: K; 16 and 30 in the paper on MNIST.
        latent_dim: D of the style.
        hidden: The encoder's; the decoder's mirrors it.
        discriminator_hidden: Units of the hidden layers of both discriminators.
        input_noise: Standard deviation of the normal noise that the encoder's input has in training.
        batch_norm: Whether to normalize the encoder's hidden layers before their activation, and also
            what it puts out: else all images fall into one category at the start, where the softmax
            has no slope to leave it by.
        likelihood: Name of the family of p(x | y, z).
        levels: Number of grey levels, for "discretized_logistic".
    """
    return ClusteringAAE(
        *parts_mlp(
            image_shape,
            categories,
            latent_dim,
            categories + latent_dim,
            hidden,
            discriminator_hidden,
            input_noise,
            batch_norm,
            likelihood_family(likelihood, levels),
        )
    )


def parts_mlp(
    image_shape,
    categories,
    latent_dim,
    decoder_inputs,
    hidden,
    discriminator_hidden,
    input_noise,
    batch_norm,
    family,
):
    """Posterior, likelihood, prior and discriminators, as `clustering_aae_mlp` describes them."""
    decoder = networks.mlp_decoder(
        decoder_inputs, image_shape, family.params_per_value, hidden[::-1]
    )
    return (
        Conditional(
            _encoder(image_shape, categories + latent_dim, hidden, input_noise, batch_norm),
            SoftmaxAndStyle(categories),
        ),
        Conditional(decoder, family),
        CategoryAndStyle(categories, StandardNormal(latent_dim)),
        networks.mlp(latent_dim, 1, discriminator_hidden),
        networks.mlp(categories, 1, discriminator_hidden),
    )


def _encoder(image_shape, outputs, hidden, input_noise, batch_norm):
    layers = [keras.layers.GaussianNoise(input_noise)] if input_noise else []
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
