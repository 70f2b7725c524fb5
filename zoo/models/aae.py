"""Adversarial autoencoder.

Makhzani et al., "Adversarial Autoencoders", 2016. https://arxiv.org/abs/1511.05644
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import AdversarialLoss, NonSaturating
from zoo.config import look_up
from zoo.datasets import ImageData
from zoo.distributions import (
    Conditional,
    Deterministic,
    DiagonalNormal,
    ImplicitConditional,
    IsotropicNormal,
    NormalPetals,
    Prior,
    SwissRoll,
    likelihood_family,
    noisy_mlp,
    refuse_learned,
)
from zoo.model import GenerativeModel, Round, as_images


@keras.saving.register_keras_serializable("zoo")
class AAE(GenerativeModel):
    """An autoencoder whose codes are drawn to the prior by a discriminator on the latent space.

    The paper's section 2, on each batch in turn: the reconstruction phase (encoder and decoder),
    and the regularization phase, in which first the discriminator learns to tell draws of the prior
    (real) from codes (fake), and then the encoder to fool it. The autoencoder and the encoder as
    the discriminator's opponent are two players with optimizers of their own, as in the paper's
    appendix A, over shared variables. The paper's optimizers are SGD with momentum, whose rates
    fall in stages; the zoo's presets take Adam.

    With a likelihood that takes a label it is the supervised autoencoder of section 4: the decoder
    is told the label, and the code holds what is left, the style.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`. With the family `Deterministic` it
            is the paper's main choice, with `DiagonalNormal` its Gaussian posterior; an
            `ImplicitConditional` is its universal approximator (section 2.1).
        likelihood: p(x | z), a `Conditional` on `z[B, D]`; or p(x | z, y).
        prior: p(z), a `Prior` over `z[D]` that does not learn. It need only be sampled.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of the prior.
        adversarial_loss: An `AdversarialLoss`; `NonSaturating()` if `None`.

    Raises:
        ValueError: If the prior learns.
    """

    terms = ("prior_logit", "code_logit")

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        refuse_learned(prior, f"a {type(self).__name__}")
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss or NonSaturating()

    def players(self):
        return {
            "autoencoder": [self.posterior, self.likelihood],
            "discriminator": [self.discriminator],
            "encoder": [self.posterior],
        }

    def rounds(self):
        return [Round(self.reconstruction_objective), Round(self.regularization_objective)]

    def reconstruction_objective(self, x, y, seed, training):
        z = self._code(x, y, seed, training)
        return {"autoencoder": -self.likelihood(z, y, training=training).log_prob(x)}, {}

    def regularization_objective(self, x, y, seed, training):
        code_seed, prior_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 4)
        code = self._code(x, y, code_seed, training)
        prior_logit = self._judge(self.sample_latents(tf.shape(x)[0], y, prior_seed), y, training)
        code_logit = self._judge(tf.stop_gradient(code), y, training)
        loss = self.adversarial_loss.real(prior_logit, real_seed) + self.adversarial_loss.fake(
            code_logit, fake_seed
        )
        yield {"discriminator": loss}, {"prior_logit": prior_logit, "code_logit": code_logit}
        # The discriminator has moved, the encoder has not: its codes are the same.
        yield {"encoder": self.adversarial_loss.generator(self._judge(code, y, training))}, {}

    def _code(self, x, y, seed, training):
        return self.posterior(x, y, training=training).sample(seed=seed)

    def _judge(self, z, y, training):
        return tf.cast(self.discriminator(z, training=training)[:, 0], tf.float32)

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.likelihood(z, self.condition_for(z, y, 2)).mean())


def check_classes(model: GenerativeModel, data: ImageData, classes: int) -> None:
    """Raises a `ValueError` unless the data have labels of at most so many classes."""
    names = data.label_names
    if not data.has_labels or names is None or len(names) > classes:
        have = "no integer labels" if names is None else f"{len(names)} classes"
        raise ValueError(
            f"This {type(model).__name__} learns from labels of at most {classes} classes. "
            f"Received: '{data.name}' with {have}."
        )


def aae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 8,
    hidden: Sequence[int] = (1000, 1000),
    posterior: str = "deterministic",
    prior: str = "normal",
    prior_scale: float = 1.0,
    discriminator_hidden: Sequence[int] = (1000, 1000),
    condition_size: int = 0,
    noise_dim: int = 0,
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> AAE:
    """An `AAE` of multilayer perceptrons, of the paper's sizes.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 2 for the petals and the Swiss roll.
        hidden: The encoder's; the decoder's mirrors it.
        posterior: "deterministic", "normal", or "universal", a network of the image and of noise: the
            paper's universal approximator.
        prior: "normal", "petals" (ten 2-D normals) or "swiss_roll".
        prior_scale: Standard deviation of the prior "normal", above 0; the paper takes 5 on MNIST.
            The other priors have scales of their own, and take none.
        discriminator_hidden: Units of the discriminator's hidden layers.
        condition_size: Number of classes of the label that the decoder takes beside the latents, as
            in section 4; 0 for a decoder without.
        noise_dim: Values of noise that the posterior "universal" takes, at least 1; 0 for all others.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic".

    Raises:
        ValueError: For names that there are not, a prior or a posterior that does not suit its other
            settings, or a negative number of classes.
    """
    if condition_size < 0:
        raise ValueError(f"`condition_size` must be at least 0. Received: {condition_size}.")
    q = _posterior(posterior, image_shape, latent_dim, hidden, noise_dim)
    p = _prior(prior, latent_dim, prior_scale)
    family = likelihood_family(likelihood, levels)
    decoder = networks.mlp_decoder(
        latent_dim + condition_size, image_shape, family.params_per_value, hidden[::-1]
    )
    if condition_size:
        decoder = networks.beside_label(decoder, latent_dim, condition_size)
    discriminator = networks.mlp(latent_dim, 1, discriminator_hidden)
    return AAE(q, Conditional(decoder, family), p, discriminator)


def _posterior(name, image_shape, latent_dim, hidden, noise_dim):
    families = {"deterministic": Deterministic, "normal": DiagonalNormal, "universal": None}
    family = look_up(families, name, "posterior")
    if (noise_dim > 0) != (family is None) or noise_dim < 0:
        raise ValueError(
            "The posterior 'universal' takes noise of `noise_dim` values, at least 1; others take "
            f"none, 0. Received: posterior='{name}', noise_dim={noise_dim}."
        )
    if family is None:
        return ImplicitConditional(noisy_mlp(image_shape, noise_dim, latent_dim, hidden))
    q = family()
    return Conditional(networks.mlp_encoder(image_shape, q.num_params(latent_dim), hidden), q)


def _prior(name, latent_dim, scale):
    planar = {"petals": NormalPetals, "swiss_roll": SwissRoll}
    if name in planar and latent_dim != 2:
        raise ValueError(
            f"The prior '{name}' lies in the plane: it needs latent_dim=2. "
            f"Received: latent_dim={latent_dim}."
        )
    if not 0 < scale < math.inf:
        raise ValueError(f"`prior_scale` must be above 0 and finite. Received: {scale}.")
    if name in planar and scale != 1:
        raise ValueError(
            f"`prior_scale` is for the prior 'normal'; '{name}' has scales of its own. "
            f"Received: prior_scale={scale}."
        )
    return look_up({"normal": lambda: IsotropicNormal(latent_dim, scale)} | planar, name, "prior")()
