"""Adversarial autoencoder.

Makhzani et al., "Adversarial Autoencoders", 2016. https://arxiv.org/abs/1511.05644
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import adversarial, networks
from zoo.adversarial import AdversarialLoss, NonSaturating
from zoo.config import choices, extends
from zoo.datasets import ImageData
from zoo.distributions import Conditional, Part, Prior, by_name, noisy_mlp, refuse_learned
from zoo.distributions.by_name import LIKELIHOODS, POSTERIORS, PRIORS
from zoo.model import GenerativeModel, Round


@keras.saving.register_keras_serializable("zoo")
class AAE(GenerativeModel):
    """An autoencoder; a discriminator of latents makes the distribution of its codes the prior.

    Each batch has the two phases of the paper's section 2. In the reconstruction phase, encoder and
    decoder minimise -log p(x | z). In the regularization phase, first the discriminator learns to
    tell draws of the prior (real) from codes (fake), then the encoder learns to deceive the
    discriminator. The autoencoder, and the encoder as the discriminator's opponent, are two players
    with an optimizer each (appendix A); they share the encoder's variables.

    With a likelihood p(x | z, y) the model is the supervised autoencoder of section 4: the decoder
    receives the label, and the code describes the rest, the style.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`. The paper uses mostly the family
            `Deterministic`, and also `DiagonalNormal` and an `ImplicitConditional` (section 2.1).
        likelihood: p(x | z), a `Conditional` on `z[B, D]`; or p(x | z, y).
        prior: p(z), a `Prior` over `z[D]` that does not learn. A density is not needed.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of the prior.
        adversarial_loss: An `AdversarialLoss`; `NonSaturating()` if `None`.

    Raises:
        ValueError: If the prior learns.

    Notes:
        The paper trains with SGD with momentum and learning rates that fall in stages. The presets
        use Adam.

    Example:
        >>> model = zoo.models.aae((8, 8, 1), latent_dim=2, hidden=(32,), prior="swiss_roll")
        >>> model.compile("adam")
        >>> history = model.fit(zoo.datasets.load("digits").arrays("train")[0], verbose=0)
        >>> model.sample(5).shape
        TensorShape([5, 8, 8, 1])
    """

    terms = ("prior_logit", "code_logit")

    def __init__(
        self,
        posterior: Part,
        likelihood: Conditional,
        prior: Prior,
        discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        refuse_learned(prior, "an adversarial autoencoder")
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
        z = self.posterior(x, y, training=training).sample(seed=seed)
        return {"autoencoder": -self.likelihood(z, y, training=training).log_prob(x)}, {}

    def regularization_objective(self, x, y, seed, training):
        code_seed, prior_seed, real_seed, fake_seed = tfp.random.split_seed(seed, 4)
        loss = self.adversarial_loss
        code = self.posterior(x, y, training=training).sample(seed=code_seed)
        z = self.sample_latents(tf.shape(x)[0], y, prior_seed)
        real_logits = self.latent_logits(z, y, training)
        fake_logits = self.latent_logits(tf.stop_gradient(code), y, training)
        yield (
            {
                "discriminator": loss.real(real_logits, real_seed)
                + loss.fake(fake_logits, fake_seed)
            },
            {"prior_logit": real_logits, "code_logit": fake_logits},
        )
        # The encoder is unchanged, so the codes are too; the discriminator has its new weights.
        yield {"encoder": loss.generator(self.latent_logits(code, y, training))}, {}

    def latent_logits(self, z: tf.Tensor, y=None, training: bool = False) -> tf.Tensor:
        """The discriminator's logits `[B]` of latents `z[B, D]`."""
        return networks.logits(self.discriminator, z, y, training)


def check_classes(model: GenerativeModel, data: ImageData, classes: int) -> None:
    """Raises a `ValueError` unless the data have labels of at most `classes` classes."""
    names = data.label_names
    if not data.has_labels or names is None or len(names) > classes:
        have = "no integer labels" if names is None else f"{len(names)} classes"
        raise ValueError(
            f"This {type(model).__name__} learns from labels of at most {classes} classes. "
            f"Received: '{data.name}' with {have}."
        )


@choices(network=networks.NETWORKS, posterior=POSTERIORS, prior=PRIORS)
def posterior_and_prior(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    network: str = "mlp",
    hidden: Sequence[int] = (1000, 1000),
    filters: Sequence[int] = (),
    activation: str = "relu",
    center_images: bool = False,
    posterior: str = "deterministic",
    posterior_steps: int = 0,
    posterior_hidden: Sequence[int] = (),
    posterior_noise_dim: int = 0,
    posterior_bases: int = 0,
    prior: str = "normal",
    prior_scale: float = 1.0,
    prior_steps: int = 0,
    prior_hidden: Sequence[int] = (),
    prior_components: int = 0,
) -> tuple[Part, Prior]:
    """q(z | x) and p(z) of an autoencoder without a condition in its encoder.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        network: "mlp" or "conv".
        hidden: Units of the encoder's dense layers.
        filters: Channels of the encoder's convolutions, for "conv"; () for (32, 64).
        activation: Activation of the hidden layers.
        center_images: Whether the encoder first moves images from [0, 1] to [-1, 1]. The network of
            "implicit" always does.
        posterior, posterior_steps, posterior_hidden, posterior_noise_dim, posterior_bases: See
            `zoo.distributions.by_name.posterior`.
        prior, prior_scale, prior_steps, prior_hidden, prior_components: See
            `zoo.distributions.by_name.prior`.

    Raises:
        ValueError: If a name is unknown, or options do not fit together.
    """

    def encoder(outputs):
        plain = networks.encoder(network, image_shape, outputs, hidden, filters, activation)
        if not center_images:
            return plain
        first = [keras.Input(tuple(image_shape)), keras.layers.Rescaling(2.0, -1.0)]
        return keras.Sequential([*first, *plain.layers], name=plain.name)

    def noisy_encoder(noise_dim, outputs):
        return noisy_mlp(image_shape, noise_dim, outputs, hidden, activation)

    q = by_name.posterior(
        posterior,
        latent_dim,
        encoder,
        noisy_encoder if network == "mlp" else None,
        posterior_steps,
        posterior_hidden,
        posterior_noise_dim,
        posterior_bases,
    )
    p = by_name.prior(
        prior, latent_dim, image_shape, prior_scale, prior_steps, prior_hidden, prior_components
    )
    return q, p


@choices(
    likelihood=LIKELIHOODS,
    condition={"none": (), "label": ("condition_size",), "attributes": ("condition_size",)},
)
@extends(posterior_and_prior)
def autoencoder_parts(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    network: str = "mlp",
    hidden: Sequence[int] = (1000, 1000),
    filters: Sequence[int] = (),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
    condition: str = "none",
    condition_size: int = 0,
    **options: Any,
) -> tuple[Part, Conditional, Prior]:
    """q(z | x), p(x | z) or p(x | z, y), and p(z). The options are those of `aae`."""
    q, p = posterior_and_prior(
        image_shape,
        latent_dim=latent_dim,
        network=network,
        hidden=hidden,
        filters=filters,
        activation=activation,
        **options,
    )
    family = by_name.likelihood(likelihood, levels)
    decoder = networks.conditioned(
        lambda shape: networks.decoder(
            network, *shape, image_shape, family.params_per_value, hidden, filters, activation
        ),
        (latent_dim,),
        networks.condition(condition, condition_size, image_shape),
    )
    return q, Conditional(decoder, family), p


@extends(autoencoder_parts, without=("center_images",))
def aae(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    discriminator_hidden: Sequence[int] = (1000, 1000),
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    **options: Any,
) -> AAE:
    """An `AAE` of the paper's sizes.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents; 2 for the priors "petals" and "swiss_roll".
        discriminator_hidden: Units of the discriminator's hidden layers.
        loss, real_label, label_noise: See `zoo.adversarial.adversarial_loss`; not "wasserstein".
        network: "mlp" or "conv", for encoder and decoder.
        hidden, filters: Units of the encoder's dense layers, and channels of its convolutions; the
            decoder mirrors them.
        activation: Activation of the hidden layers of encoder and decoder.
        likelihood, levels: See `zoo.distributions.by_name.likelihood`.
        posterior, posterior_steps, posterior_hidden, posterior_noise_dim, posterior_bases: See
            `zoo.distributions.by_name.posterior`. "implicit" is the paper's universal approximator.
        prior, prior_scale, prior_steps, prior_hidden, prior_components: See
            `zoo.distributions.by_name.prior`. The paper uses a `prior_scale` of 5 on MNIST.
        condition, condition_size: Condition of the decoder: "none", "label" or "attributes", and
            its size; see `zoo.networks.condition`.

    Raises:
        ValueError: If a name is unknown, options do not fit together, or the prior learns.
    """
    q, p_x, p_z = autoencoder_parts(image_shape, latent_dim=latent_dim, **options)
    return AAE(
        q,
        p_x,
        p_z,
        networks.mlp(latent_dim, 1, discriminator_hidden),
        latent_loss(loss, real_label, label_noise),
    )


def latent_loss(loss: str, real_label: float = 1.0, label_noise: float = 0.0) -> AdversarialLoss:
    """The loss of that name, for a discriminator of latents.

    Args:
        loss, real_label, label_noise: See `zoo.adversarial.adversarial_loss`.

    Raises:
        ValueError: If `loss` is "wasserstein", or is unknown.
    """
    if loss == "wasserstein":
        raise ValueError(
            "The loss 'wasserstein' has no lower bound unless the discriminator's slope is bounded, "
            "and a discriminator of latents has neither a gradient penalty nor spectral "
            "normalization. Choose another loss, such as 'hinge'. Received: loss='wasserstein'."
        )
    return adversarial.adversarial_loss(loss, real_label, label_noise)
