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
from zoo.distributions import (
    Conditional,
    Deterministic,
    DiagonalNormal,
    IsotropicNormal,
    NormalPetals,
    Prior,
    SwissRoll,
    likelihood_family,
)
from zoo.model import GenerativeModel, Round, as_images


@keras.saving.register_keras_serializable("zoo")
class AAE(GenerativeModel):
    """An autoencoder whose codes are drawn to the prior by a discriminator on the latent space.

    The paper's section 2, on each batch in turn: the reconstruction phase (encoder and decoder),
    and the regularization phase, in which first the discriminator learns to tell draws of the prior
    (real) from codes (fake), and then the encoder to fool it. The autoencoder and the encoder as
    the discriminator's opponent are two players with optimizers of their own, as in the paper's
    appendix A, over shared variables.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`. With the family `Deterministic` it
            is the paper's main choice, with `DiagonalNormal` its Gaussian posterior (section 2.1).
        likelihood: p(x | z), a `Conditional` on `z[B, D]`.
        prior: p(z), a `Prior` over `z[D]`. It need only be sampled.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of the prior.
        adversarial_loss: An `AdversarialLoss`; `NonSaturating()` if `None`.
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
        return [
            Round(self.reconstruction_objective),
            Round(self.discriminator_objective),
            Round(self.encoder_objective),
        ]

    def reconstruction_objective(self, x, y, seed, training):
        z = self._code(x, y, seed, training)
        return {"autoencoder": -self.likelihood(z, y, training=training).log_prob(x)}, {}

    def discriminator_objective(self, x, y, seed, training):
        code_seed, prior_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 4)
        code = tf.stop_gradient(self._code(x, y, code_seed, training))
        prior_logit = self._judge(self.prior(y).sample(tf.shape(x)[0], seed=prior_seed), training)
        code_logit = self._judge(code, training)
        loss = self.adversarial_loss.real(prior_logit, real_seed) + self.adversarial_loss.fake(
            code_logit, fake_seed
        )
        return {"discriminator": loss}, {"prior_logit": prior_logit, "code_logit": code_logit}

    def encoder_objective(self, x, y, seed, training):
        return {
            "encoder": self.adversarial_loss.fool(
                self._judge(self._code(x, y, seed, training), training)
            )
        }, {}

    def _code(self, x, y, seed, training):
        return self.posterior(x, y, training=training).sample(seed=seed)

    def _judge(self, z, training):
        return tf.cast(self.discriminator(z, training=training)[:, 0], tf.float32)

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.likelihood(z, y).mean())


def aae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 8,
    hidden: Sequence[int] = (1000, 1000),
    posterior: str = "deterministic",
    prior: str = "normal",
    prior_scale: float = 1.0,
    discriminator_hidden: Sequence[int] = (1000, 1000),
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> AAE:
    """An `AAE` of multilayer perceptrons, of the paper's sizes.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 2 for the petals and the Swiss roll.
        hidden: The encoder's; the decoder's mirrors it.
        posterior: "deterministic" or "normal".
        prior: "normal", "petals" (ten 2-D normals) or "swiss_roll".
        prior_scale: Standard deviation of the prior "normal", above 0; the paper takes 5 on MNIST.
            The other priors have scales of their own, and take none.
        discriminator_hidden: Units of the discriminator's hidden layers.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic".

    Raises:
        ValueError: For names that there are not, or a prior that does not suit its other settings.
    """
    q = look_up({"deterministic": Deterministic, "normal": DiagonalNormal}, posterior, "posterior")
    planar = {"petals": NormalPetals, "swiss_roll": SwissRoll}
    if prior in planar and latent_dim != 2:
        raise ValueError(
            f"The prior '{prior}' lies in the plane: it needs latent_dim=2. "
            f"Received: latent_dim={latent_dim}."
        )
    if not 0 < prior_scale < math.inf:
        raise ValueError(f"`prior_scale` must be above 0 and finite. Received: {prior_scale}.")
    if prior in planar and prior_scale != 1:
        raise ValueError(
            f"`prior_scale` is for the prior 'normal'; '{prior}' has scales of its own. "
            f"Received: prior_scale={prior_scale}."
        )
    p = look_up(
        {"normal": lambda: IsotropicNormal(latent_dim, prior_scale)} | planar, prior, "prior"
    )
    family = likelihood_family(likelihood, levels)
    return AAE(
        Conditional(
            networks.mlp_encoder(image_shape, q.params_per_value * latent_dim, hidden), q()
        ),
        Conditional(
            networks.mlp_decoder(latent_dim, image_shape, family.params_per_value, hidden[::-1]),
            family,
        ),
        p(),
        networks.mlp(latent_dim, 1, discriminator_hidden),
    )
