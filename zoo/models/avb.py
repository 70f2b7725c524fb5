"""Adversarial variational Bayes.

Mescheder et al., "Adversarial Variational Bayes: Unifying Variational Autoencoders and Generative
Adversarial Networks", 2017. https://arxiv.org/abs/1701.04722
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws, networks
from zoo.config import look_up
from zoo.distributions import (
    Conditional,
    Deterministic,
    ImplicitConditional,
    ImplicitPart,
    NoiseBasisConditional,
    Prior,
    StandardNormal,
    likelihood_family,
    mean_and_variance,
    noise_basis,
    noisy_mlp,
    refuse_learned,
)
from zoo.draws import Normal
from zoo.model import GenerativeModel, Round, as_images

tfd = tfp.distributions

# What the authors' code adds to the variance of r, so that it never has none.
_LEAST_VARIANCE = 1e-4


@keras.saving.register_keras_serializable("zoo")
class AVB(GenerativeModel):
    """A VAE whose posterior may be any network of x and noise: its rate is a discriminator's guess.

    The discriminator T(x, z), a logit that is high for a posterior's draw, learns to tell pairs of an
    image and a draw of q(z | x) from pairs of it and a draw of the prior, by the logistic loss

        E_q[softplus(-T(x, z))] + E_p(z)[softplus(T(x, z))]                        (eq. 3.3)

    whose optimum is T*(x, z) = log q(z | x) - log p(z) (proposition 1). The autoencoder minimises

        E_q[T(x, z) - log p(x | z)]                                                (eq. 3.7)

    with T held still: its dependence on q has no part in the gradient, since the mean of T*'s own
    change under q is 0 (proposition 2). No density of q is needed.

    All players move at once, on one forward pass, as in the paper's Algorithm 1 and the authors'
    code. With more `discriminator_steps`, as in their example of four points, further moves of the
    discriminator alone follow, with fresh noise, on the same batch, which they share out.

    With `adaptive_contrast` (section 4) the discriminator has less to learn. It tells
    (z - loc(x)) / scale(x) from N(0, I), where loc and scale^2 are mean and variance of q(z | x),
    held still (`tf.stop_gradient`); then for r(z | x) = N(loc, scale^2)

        KL(q || p) = E_q[T(x, (z - loc) / scale) + log r(z | x) - log p(z)],

    whose T* is 0 where q is normal. The variance is that of q plus 1e-4, as in the authors' code
    (which leaves it out again in log r).

    No bound comes from it. `discriminator_rate`, the sum in place of KL(q || p), is as good as the
    discriminator, which mostly finds too little: then minus the autoencoder's loss, `distortion` +
    `discriminator_rate`, is above the ELBO, and perhaps above log p(x). Of log p(x) the estimate is
    `zoo.metrics.annealed_nll`, which the discriminator has no part in.

    The loss is in nats per image. The authors' code divides that of the autoencoder by the number of
    pixels, which Adam does not notice but for its epsilon. Their nets for images see the images from
    -1 to 1; so do those of `avb_mlp`.

    `encode` gives the mean of q(z | x), which an implicit posterior estimates from fixed draws of
    noise.

    Args:
        posterior: q(z | x), such as an `ImplicitConditional` or a `NoiseBasisConditional` on
            `x[B, H, W, C]`. Any part does that hands out a distribution which can be sampled with a
            gradient, and that has, for adaptive contrast, a mean and a variance; not a
            `Deterministic` one, of which T* is infinite. Neither it nor the prior takes a condition,
            which T would not see.
        likelihood: p(x | z), a `Conditional` on `z[B, D]`.
        prior: p(z), a `Prior` over `z[D]` that does not learn. For adaptive contrast it needs a
            density.
        discriminator: Network from `x[B, H, W, C]` and `z[B, D]` to logits `[B, 1]`, T.
        adaptive_contrast: Whether to contrast with r instead of the prior.
        discriminator_steps: Moves of the discriminator for each of the autoencoder, at least 1.

    Raises:
        ValueError: If a part cannot serve as described, or a number is out of range.
    """

    terms = ("distortion", "discriminator_rate", "posterior_logit", "prior_logit")

    def __init__(
        self,
        posterior: ImplicitPart | Conditional,
        likelihood: Conditional,
        prior: Prior,
        discriminator: keras.Model,
        adaptive_contrast: bool = False,
        discriminator_steps: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if discriminator_steps < 1:
            raise ValueError(
                f"`discriminator_steps` must be at least 1. Received: {discriminator_steps}."
            )
        if len(discriminator.inputs) != 2:
            raise ValueError(
                "The discriminator of an AVB takes an image and a latent, [x, z]. Received: a "
                f"network with {len(discriminator.inputs)} inputs."
            )
        if isinstance(getattr(posterior, "family", None), Deterministic):
            raise ValueError(
                "The posterior of an AVB has noise: of a code without, log q(z | x) is infinite. "
                "Received: a Deterministic one."
            )
        for name, part in (("posterior", posterior), ("prior", prior)):
            if part.condition is not None:
                raise ValueError(
                    "An AVB compares q(z | x) with p(z), by a discriminator of x and z: neither takes "
                    f"a condition y. Received: a {name} which does."
                )
        refuse_learned(prior, "an AVB")
        if adaptive_contrast and not prior.has_density:
            raise ValueError(
                "Adaptive contrast takes a prior with a density over z[D]. Received: a "
                f"{type(prior).__name__}, which has none."
            )
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior
        self.discriminator = discriminator
        self.adaptive_contrast = adaptive_contrast
        self.discriminator_steps = discriminator_steps

    def players(self):
        return {
            "autoencoder": [self.posterior, self.likelihood],
            "discriminator": [self.discriminator],
        }

    def rounds(self):
        further = self.discriminator_steps - 1
        return [
            Round(self.objective),
            *([Round(self.discriminator_objective, steps=further)] if further else []),
        ]

    def objective(self, x, y, seed, training):
        z, contrasted, rate_of_contrast, z_other = self._draw(x, y, seed, training)
        distortion = -self.likelihood(z, y, training=training).log_prob(x)
        posterior_logit = self._judge(x, contrasted, training)
        prior_logit = self._judge(x, z_other, training)
        rate = posterior_logit + rate_of_contrast
        return {
            "autoencoder": distortion + rate,
            "discriminator": _telling(posterior_logit, prior_logit),
        }, {
            "distortion": distortion,
            "discriminator_rate": rate,
            "posterior_logit": posterior_logit,
            "prior_logit": prior_logit,
        }

    def discriminator_objective(self, x, y, seed, training):
        _, contrasted, _, z_other = self._draw(x, y, seed, training)
        posterior_logit = self._judge(x, tf.stop_gradient(contrasted), training)
        return {"discriminator": _telling(posterior_logit, self._judge(x, z_other, training))}, {}

    def _draw(self, x, y, seed, training):
        """A draw of q(z | x); what of it T sees; log r / p at it; what T sees of the contrast."""
        z_seed, other_seed = tfp.random.split_seed(seed)
        q, p = self.posterior(x, y, training=training), self.prior(y)
        z = q.sample(seed=z_seed)
        if not self.adaptive_contrast:
            return z, z, 0.0, p.sample(tf.shape(x)[0], seed=other_seed)
        loc, variance = map(tf.stop_gradient, mean_and_variance(q))
        scale = tf.sqrt(variance + _LEAST_VARIANCE)
        r = tfd.Independent(Normal(loc, scale), 1)
        other = draws.normal(tf.shape(z), other_seed)
        return z, (z - loc) / scale, r.log_prob(z) - p.log_prob(z), other

    def _judge(self, x, z, training):
        z = tf.ensure_shape(z, [x.shape[0], None])
        return tf.cast(self.discriminator([x, z], training=training)[:, 0], tf.float32)

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.likelihood(z, self.condition_for(z, y, 2)).mean())


def _telling(posterior_logit, other_logit):
    return tf.nn.softplus(-posterior_logit) + tf.nn.softplus(other_logit)


def joint_discriminator(
    image_shape: Sequence[int],
    latent_dim: int,
    hidden: Sequence[int] = (256, 256),
    activation: str = "elu",
    half_square: bool = True,
) -> keras.Model:
    """T(x, z) as a perceptron of image and latent side by side: `[B, 1]`, as in the four points.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D.
        hidden: Units of the hidden layers.
        activation: Of the hidden layers.
        half_square: Whether to add |z|^2 / 2, which is -log p(z) of a normal prior but for a constant:
            log q(z | x) is left to be learned.
    """
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

    The form of the authors' code, where the product is not scaled, and the four terms are of four
    networks, those of the image convolutional. Here one perceptron of the image has the outputs theta
    and T_x, one of the latent s and T_z.

    Args:
        image_shape, latent_dim, activation, half_square: As for `joint_discriminator`.
        hidden: Units of the hidden layers of either perceptron.
        features: Values of theta and s, F.
    """
    images, z = keras.Input(tuple(image_shape)), keras.Input((latent_dim,))
    sides, alone = [], []
    # Of theta and s one alone is next to nothing at first, or neither would have a gradient.
    for h, start in ((_flat(images), _next_to_nothing()), (z, "glorot_uniform")):
        for units in hidden:
            h = keras.layers.Dense(units, activation)(h)
        sides.append(keras.layers.Dense(features, kernel_initializer=start)(h))
        alone.append(_last(1)(h))
    # Of as many products none is to decide alone.
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
    return keras.layers.Dense(outputs, dtype="float32", kernel_initializer=_next_to_nothing())


def _next_to_nothing():
    # A new discriminator has no opinion.
    return keras.initializers.TruncatedNormal(stddev=1e-5)


def avb_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 8,
    hidden: Sequence[int] = (300, 300),
    activation: str = "softplus",
    posterior: str = "noise",
    noise_dim: int = 32,
    noise_bases: int = 0,
    noise_hidden: Sequence[int] = (),
    adaptive_contrast: bool = False,
    discriminator: str = "joint",
    discriminator_hidden: Sequence[int] = (512, 512),
    discriminator_features: int = 0,
    discriminator_steps: int = 1,
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> AVB:
    """An `AVB` of multilayer perceptrons.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        hidden: The encoder's; the decoder's mirrors it.
        activation: Of their hidden layers.
        posterior: "noise" for a network of x and noise (`noisy_mlp`), "noise_bases" for
            z0(x) + sum_i a_i(x) * v_i(eps_i) (`NoiseBasisConditional`), whose moments are cheap.
        noise_dim: Dimensions of the noise, of each basis.
        noise_bases: Number of bases, for "noise_bases"; 0 for 16, the authors' number for 8 latents.
        noise_hidden: Hidden units of each basis; () for the authors' three layers of 128.
        adaptive_contrast: See `AVB`. With "noise" it takes 64 passes of the encoder for its moments.
        discriminator: "joint" (`joint_discriminator`) or "product" (`product_discriminator`). Either
            adds |z|^2 / 2 where it contrasts with the prior. With adaptive contrast there would be
            nothing to add: T* is 0 where q is normal. (The authors' code adds it there too.)
        discriminator_hidden: Units of its hidden layers.
        discriminator_features: Values of theta(x) and s(z), for "product"; 0 for the authors' 8192.
        discriminator_steps: Its moves for each of the autoencoder.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic" and "categorical".

    Raises:
        ValueError: For names that there are not, or a number that the named part does not have.
    """
    family = likelihood_family(likelihood, levels)
    return AVB(
        _posterior(
            image_shape, latent_dim, hidden, activation, posterior,
            noise_dim, noise_bases, noise_hidden,
        ),
        Conditional(
            networks.mlp_decoder(
                latent_dim, image_shape, family.params_per_value, hidden[::-1], activation
            ),
            family,
        ),
        StandardNormal(latent_dim),
        _discriminator_of(
            image_shape, latent_dim, discriminator, discriminator_hidden, discriminator_features,
            half_square=not adaptive_contrast,
        ),
        adaptive_contrast,
        discriminator_steps,
    )  # fmt: skip


def _posterior(
    image_shape, latent_dim, hidden, activation, name, noise_dim, noise_bases, noise_hidden
):
    look_up({"noise": None, "noise_bases": None}, name, "posterior")
    if name == "noise":
        if noise_bases or noise_hidden:
            raise ValueError(
                "`noise_bases` and `noise_hidden` are for the posterior 'noise_bases'; 'noise' has "
                f"none. Received: noise_bases={noise_bases}, noise_hidden={noise_hidden}."
            )
        return ImplicitConditional(
            noisy_mlp(image_shape, noise_dim, latent_dim, hidden, activation)
        )
    count = noise_bases or 16
    images = keras.Input(tuple(image_shape))
    h = _flat(images)
    for units in hidden:
        h = keras.layers.Dense(units, activation)(h)
    outputs = keras.layers.Dense((1 + count) * latent_dim, dtype="float32")(h)
    return NoiseBasisConditional(
        keras.Model(images, outputs, name="encoder"),
        noise_basis(count, noise_dim, latent_dim, noise_hidden or (128, 128, 128)),
    )


def _discriminator_of(image_shape, latent_dim, name, hidden, features, half_square):
    makers = {"joint": joint_discriminator, "product": product_discriminator}
    make = look_up(makers, name, "discriminator")
    if features and name != "product":
        raise ValueError(
            "`discriminator_features` is for the discriminator 'product'; 'joint' has none. "
            f"Received: discriminator_features={features}."
        )
    more = {"features": features} if features else {}
    return make(image_shape, latent_dim, hidden, half_square=half_square, **more)
