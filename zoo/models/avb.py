"""Adversarial variational Bayes.

Mescheder et al., "Adversarial Variational Bayes: Unifying Variational Autoencoders and Generative
Adversarial Networks", 2017. https://arxiv.org/abs/1701.04722
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws, networks
from zoo.config import choices, extends
from zoo.contract import as_count
from zoo.distributions import (
    Conditional,
    Part,
    Prior,
    mean_and_variance,
    need_density,
    refuse_learned,
)
from zoo.distributions.part import described, need_noise
from zoo.draws import Normal
from zoo.interfaces import LOGIT, Interface, context_shape, shape_of_images
from zoo.model import GenerativeModel, Round
from zoo.models.parts import INTERNAL, LEARNED_PRIOR_SIZES, autoencoder_parts

tfd = tfp.distributions

# Added to the variance of r, as in the authors' code, so that the variance is never 0.
_LEAST_VARIANCE = 1e-4


@keras.saving.register_keras_serializable("zoo")
class AVB(GenerativeModel):
    """A VAE with any network of x and noise as its posterior; a discriminator estimates the rate.

    The discriminator T(x, z) is a logit, high for draws of the posterior. It classifies pairs of an
    image and a draw of q(z | x) against pairs of an image and a draw of the prior. It minimises

        E_q[softplus(-T(x, z))] + E_p(z)[softplus(T(x, z))],                       (eq. 3.3)

    whose optimum is T*(x, z) = log q(z | x) - log p(z) (proposition 1). The autoencoder minimises

        E_q[T(x, z) - log p(x | z)]                                                (eq. 3.7)

    with constant T: on average, the dependence of T* on q does not contribute to the gradient
    (proposition 2). The density of q is not needed.

    Both players are updated at once, after one forward pass, as in Algorithm 1. With
    k = `discriminator_steps` of at least 2, k - 1 more updates of the discriminator follow, with new
    noise. They divide the batch: update i = 0, ..., k - 2 uses the rows i, i + (k - 1),
    i + 2 (k - 1), ... The joint update uses the rows of update 0, so that with k = 2 all updates
    use the whole batch, and with k = 3 the autoencoder trains on every other row.

    With `adaptive_contrast` (section 4), the discriminator instead compares (z - loc(x)) / scale(x)
    with draws of N(0, I), where loc and scale^2 are the mean and the variance of q(z | x), without
    gradients. With r(z | x) = N(loc, scale^2),

        KL(q || p) = E_q[T(x, (z - loc) / scale) + log r(z | x) - log p(z)],

    and T* is 0 if q is normal.

    `discriminator_rate`, the estimate of KL(q || p), is not a bound. A suboptimal discriminator
    mostly underestimates the KL, so that -(`distortion` + `discriminator_rate`), minus the
    autoencoder's loss, can exceed the ELBO and log p(x). `zoo.metrics.annealed_nll` estimates
    log p(x) without the discriminator. The loss is in nats per image.

    `encode` returns the mean of q(z | x), which an implicit posterior estimates from fixed draws of
    noise.

    Args:
        posterior: q(z | x), such as an `ImplicitConditional`, a `NoiseBasisConditional` or a
            `Conditional` on `x[B, H, W, C]`, with differentiable draws. Adaptive contrast also
            needs its mean and variance. With a `Deterministic` posterior, T* is infinite.
        likelihood: p(x | z), a `Conditional` on `z[B, D]`.
        prior: p(z), a `Prior` over `z[D]` without trainable weights. Adaptive contrast needs its
            density.
        discriminator: T, a network from `x[B, H, W, C]` and `z[B, D]` to logits `[B, 1]`.
        adaptive_contrast: Whether the discriminator compares q with r instead of the prior.
        discriminator_steps: k, the updates of the discriminator per update of the autoencoder, at
            least 1. With 3 or more, the autoencoder trains on a share 1 / (k - 1) of each batch:
            choose batches that are k - 1 times as large.

    Raises:
        ValueError: If the posterior is deterministic, the posterior or the prior takes a condition
            (T does not receive one), the prior has trainable weights, adaptive contrast lacks a
            density or moments, or `discriminator_steps` is below 1.

    Notes:
        Unlike this class, the authors' code divides the autoencoder's loss by the number of pixels,
        which Adam compensates up to its epsilon. It also omits from log r the 1e-4 that it adds to
        the variance. The authors' example of four points has several updates of the discriminator.

    Example:
        >>> model = zoo.models.avb((8, 8, 1), latent_dim=2, hidden=(32,))
        >>> model.compile("adam")
        >>> x = np.round(zoo.datasets.load("digits").arrays("train")[0])
        >>> history = model.fit(x, verbose=0)
        >>> model.sample(5).shape
        TensorShape([5, 8, 8, 1])
    """

    terms: tuple[str, ...] = ("distortion", "discriminator_rate", "posterior_logit", "prior_logit")

    def __init__(
        self,
        posterior: Part,
        likelihood: Conditional,
        prior: Prior,
        discriminator: keras.Model,
        adaptive_contrast: bool = False,
        discriminator_steps: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        need_noise(posterior, "an AVB")
        for name, part in (("posterior", posterior), ("prior", prior)):
            if part.condition is not None:
                raise ValueError(
                    "The discriminator of an AVB compares q(z | x) with p(z) and receives only x "
                    "and z, so neither may take a condition y. "
                    f"Received: a {name} that takes a condition."
                )
        refuse_learned(prior, "an AVB")
        if adaptive_contrast:
            need_density(prior, "adaptive contrast")
            _need_moments(posterior)
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior
        self.discriminator = discriminator
        self.adaptive_contrast = adaptive_contrast
        self.discriminator_steps = as_count(discriminator_steps, "discriminator_steps")

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {
            "autoencoder": [self.posterior, self.likelihood],
            "discriminator": [self.discriminator],
        }

    def interfaces(self) -> dict[str, Interface]:
        pair = shape_of_images(self), context_shape(self.likelihood)
        return super().interfaces() | {"discriminator": Interface(pair, (LOGIT,))}

    def rounds(self) -> list[Round]:
        further = self.discriminator_steps - 1
        return [
            Round(self.objective),
            *([Round(self.discriminator_objective, steps=further)] if further else []),
        ]

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        z, posterior_input, prior_input, log_ratio = self._contrast(x, y, seed, training)
        posterior_logits = networks.logits(self.discriminator, x, posterior_input, training)
        prior_logits = networks.logits(self.discriminator, x, prior_input, training)
        distortion = -self.likelihood(z, y, training=training).log_prob(x)
        rate = posterior_logits + log_ratio
        return {
            "autoencoder": distortion + rate,
            "discriminator": _discriminator_loss(posterior_logits, prior_logits),
        }, {
            "distortion": distortion,
            "discriminator_rate": rate,
            "posterior_logit": posterior_logits,
            "prior_logit": prior_logits,
        }

    def discriminator_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        _, posterior_input, prior_input, _ = self._contrast(x, y, seed, training)
        posterior_logits = networks.logits(
            self.discriminator, x, tf.stop_gradient(posterior_input), training
        )
        prior_logits = networks.logits(self.discriminator, x, prior_input, training)
        return {"discriminator": _discriminator_loss(posterior_logits, prior_logits)}, {}

    def _contrast(self, x, y, seed, training):
        """z ~ q(z | x), the discriminator's inputs for posterior and prior, and log r / p at z."""
        z_seed, prior_seed = tfp.random.split_seed(seed)
        q = self.posterior(x, y, training=training)
        z = q.sample(seed=z_seed)
        if not self.adaptive_contrast:
            return z, z, self.prior.sample_for(x, y, prior_seed), 0.0
        loc, variance = map(tf.stop_gradient, mean_and_variance(q))
        scale = tf.sqrt(variance + _LEAST_VARIANCE)
        r = tfd.Independent(Normal(loc, scale), 1)
        noise = tf.ensure_shape(draws.normal(tf.shape(z), prior_seed), z.shape)
        return z, (z - loc) / scale, noise, r.log_prob(z) - self.prior(y).log_prob(z)


def _discriminator_loss(posterior_logits, prior_logits):
    return tf.nn.softplus(-posterior_logits) + tf.nn.softplus(prior_logits)


def _need_moments(posterior):
    if posterior.context_shape is None:
        return
    try:
        mean_and_variance(posterior(tf.zeros([1, *posterior.context_shape])))
    except NotImplementedError as error:
        raise ValueError(
            "Adaptive contrast needs the mean and the variance of q(z | x): use the posterior "
            f"NoiseBasisConditional, for example. Received: {described(posterior)}, which has no "
            "formula for them."
        ) from error


def joint_discriminator(
    image_shape: Sequence[int],
    latent_dim: int,
    hidden: Sequence[int] = (256, 256),
    activation: str = "elu",
    half_square: bool = True,
) -> keras.Model:
    """T(x, z) as a perceptron of the concatenated image and latent, `[B, 1]`.

    The authors' example of four points uses this form.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D.
        hidden: Units of the hidden layers.
        activation: Activation of the hidden layers.
        half_square: Whether to add |z|^2 / 2, which is -log p(z) of a standard normal prior up to a
            constant. The rest of the network then approximates log q(z | x).

    Example:
        >>> from zoo.models.avb import joint_discriminator
        >>> network = joint_discriminator((8, 8, 1), 2, (16,))
        >>> network([tf.zeros([3, 8, 8, 1]), tf.zeros([3, 2])]).shape
        TensorShape([3, 1])
    """
    networks.check_not_gated(activation, "A discriminator of images and latents")
    images, z = keras.Input(tuple(image_shape)), keras.Input((latent_dim,))
    h = keras.layers.Concatenate()([_flat(images), z])
    for units in hidden:
        h = keras.layers.Dense(units, activation)(h)
    return _discriminator(images, z, [_last(1)(h)], half_square)


def product_discriminator(
    image_shape: Sequence[int],
    latent_dim: int,
    hidden: Sequence[int] = (1024, 1024, 1024),
    activation: str = "elu",
    half_square: bool = True,
    features: int = 8192,
) -> keras.Model:
    """T(x, z) = theta(x) . s(z) / sqrt(F) + T_x(x) + T_z(z) + |z|^2 / 2, with F features.

    A perceptron of the image has the outputs theta and T_x; a perceptron of the latent has the
    outputs s and T_z.

    Args:
        image_shape, latent_dim, activation, half_square: As for `joint_discriminator`.
        hidden: Units of the hidden layers of each perceptron.
        features: F, the number of values of theta and s.

    Notes:
        In the authors' code, the product is not scaled, each of the four terms has its own network,
        and the networks of the image are convolutional.
    """
    networks.check_not_gated(activation, "A discriminator of images and latents")
    images, z = keras.Input(tuple(image_shape)), keras.Input((latent_dim,))
    sides, alone = [], []
    # Only theta starts near 0: if theta and s did, neither would have a gradient.
    for h, initializer in ((_flat(images), _near_zero()), (z, "glorot_uniform")):
        for units in hidden:
            h = keras.layers.Dense(units, activation)(h)
        sides.append(keras.layers.Dense(features, kernel_initializer=initializer)(h))
        alone.append(_last(1)(h))
    # With this scale, the sum of the products is about as large as one product.
    product = keras.layers.Rescaling(features**-0.5, dtype="float32")(_dot(*sides))
    return _discriminator(images, z, [product, *alone], half_square)


def _discriminator(images, z, logits, half_square):
    if half_square:
        logits = [*logits, keras.layers.Rescaling(0.5, dtype="float32")(_dot(z, z))]
    logit = keras.layers.Add(dtype="float32")(logits) if len(logits) > 1 else logits[0]
    return keras.Model([images, z], logit, name="discriminator")


def _flat(images):
    return keras.layers.Flatten()(keras.layers.Rescaling(2.0, -1.0)(images))


def _dot(a, b):
    return keras.layers.Dot(1, dtype="float32")([a, b])


def _last(outputs):
    return keras.layers.Dense(outputs, dtype="float32", kernel_initializer=_near_zero())


def _near_zero():
    # The discriminator starts with logits near zero.
    return keras.initializers.TruncatedNormal(stddev=1e-5)


@choices(discriminator={"joint": (), "product": ("discriminator_features",)})
@extends(
    autoencoder_parts,
    without=(*INTERNAL, *LEARNED_PRIOR_SIZES),
    hidden=(300, 300),
    activation="softplus",
    posterior="implicit",
)
def avb(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    adaptive_contrast: bool = False,
    discriminator: str = "joint",
    discriminator_hidden: Sequence[int] = (512, 512),
    discriminator_features: int = 0,
    discriminator_steps: int = 1,
    **options: Any,
) -> AVB:
    """An `AVB` whose encoder and discriminator rescale the images to [-1, 1].

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        adaptive_contrast, discriminator_steps: As for `AVB`.
        discriminator: "joint" (`joint_discriminator`) or "product" (`product_discriminator`), with
            the term |z|^2 / 2 unless `adaptive_contrast` is set.
        discriminator_hidden: Units of the discriminator's hidden layers.
        discriminator_features: F of "product"; 0 for the authors' 8192.
        posterior: For adaptive contrast, the moments of "noise_basis" are cheap, and those of
            "implicit" take 64 passes of the encoder.
        **options: The options of `zoo.models.aae` for networks, posterior, prior and likelihood. AVB
            has neither its `condition` nor its `loss`.

    Raises:
        ValueError: If a name is unknown, options do not fit together, or as for `AVB`.

    Notes:
        The authors' code also adds |z|^2 / 2 with adaptive contrast, although T* of a normal
        posterior is then 0.
    """
    form: dict[str, Any] = {"half_square": not adaptive_contrast}
    make: Callable[..., keras.Model] = joint_discriminator
    if discriminator == "product":
        make = product_discriminator
        form["features"] = discriminator_features or 8192
    return AVB(
        **autoencoder_parts(image_shape, latent_dim=latent_dim, center_images=True, **options),
        discriminator=make(image_shape, latent_dim, discriminator_hidden, **form),
        adaptive_contrast=adaptive_contrast,
        discriminator_steps=discriminator_steps,
    )
