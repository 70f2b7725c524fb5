"""Adversarial autoencoder.

Makhzani et al., "Adversarial Autoencoders", 2016. https://arxiv.org/abs/1511.05644
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import adversarial, networks
from zoo.adversarial import AdversarialLoss, NonSaturating
from zoo.config import choices, extends
from zoo.datasets import ImageData
from zoo.distributions import Conditional, Part, Prior, refuse_learned
from zoo.interfaces import LOGIT, Interface, context_shape
from zoo.model import GenerativeModel, Round
from zoo.models.parts import INTERNAL, LEARNED_PRIOR_SIZES, autoencoder_parts


@keras.saving.register_keras_serializable("zoo")
class AAE(GenerativeModel):
    """An autoencoder with a discriminator of latents that matches its codes to the prior.

    Each batch has the two phases of the paper's section 2. In the reconstruction phase, encoder and
    decoder minimise -log p(x | z). In the regularization phase, the discriminator is first updated
    to separate draws of the prior (real) from codes (fake), then the encoder is updated to make its
    codes look real to the discriminator. The autoencoder and the encoder are two players, each with
    its own optimizer (appendix A); they share the encoder's variables.

    With a likelihood p(x | z, y) the model is the supervised autoencoder of section 4: the decoder
    receives the label, and the code describes the style.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`. The paper mostly uses the family
            `Deterministic`, and also `DiagonalNormal` and an `ImplicitConditional` (section 2.1).
        likelihood: p(x | z), a `Conditional` on `z[B, D]`; or p(x | z, y).
        prior: p(z), a `Prior` over `z[D]` without trainable weights. A density is not needed.
        discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of the prior.
        adversarial_loss: An `AdversarialLoss`; `NonSaturating()` if `None`.

    Raises:
        ValueError: If the prior has trainable weights.

    Notes:
        The paper trains with SGD, with momentum and a stepwise decay of the learning rate. The
        presets use Adam.

    Example:
        >>> model = zoo.models.aae((8, 8, 1), latent_dim=2, hidden=(32,), prior="swiss_roll")
        >>> model.compile("adam")
        >>> history = model.fit(zoo.datasets.load("digits").arrays("train")[0], verbose=0)
        >>> model.sample(5).shape
        TensorShape([5, 8, 8, 1])
    """

    terms: tuple[str, ...] = ("prior_logit", "code_logit")

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

    def interfaces(self):
        latents = context_shape(self.likelihood)
        return super().interfaces() | {
            "discriminator": Interface((latents,), (LOGIT,), conditional=True)
        }

    def rounds(self):
        return [Round(self.reconstruction_objective), Round(self.regularization_objective)]

    def reconstruction_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        z = self.posterior(x, y, training=training).sample(seed=seed)
        return {"autoencoder": -self.likelihood(z, y, training=training).log_prob(x)}, {}

    def regularization_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> Iterator[tuple[dict, dict]]:
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
        # The codes are those of the unchanged encoder; the discriminator has its new weights.
        yield {"encoder": loss.generator(self.latent_logits(code, y, training))}, {}

    def latent_logits(self, z: tf.Tensor, y: Any = None, training: bool = False) -> tf.Tensor:
        """The discriminator's logits `[B]` of latents `z[B, D]`."""
        return networks.logits(self.discriminator, z, y, training)


def check_classes(model: GenerativeModel, data: ImageData, classes: int) -> None:
    """Raises a `ValueError` unless the data have labels of at most `classes` classes."""
    names = data.label_names
    if not data.has_labels or names is None or len(names) > classes:
        have = "no integer labels" if names is None else f"{len(names)} classes"
        raise ValueError(
            f"This {type(model).__name__} takes labels of at most {classes} classes. "
            f"Received: '{data.name}' with {have}."
        )


@choices(
    loss=adversarial.LOSSES,
    condition={"none": (), "label": ("condition_size",), "attributes": ("condition_size",)},
)
@extends(
    autoencoder_parts,
    without=(*INTERNAL, *LEARNED_PRIOR_SIZES),
    hidden=(1000, 1000),
    posterior="deterministic",
)
def aae(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 8,
    condition: str = "none",
    condition_size: int = 0,
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
        prior, prior_scale, prior_components: See `zoo.distributions.by_name.prior`. The paper uses
            a `prior_scale` of 5 on MNIST.
        condition, condition_size: Condition of the decoder: "none", "label" or "attributes", and
            its size; see `zoo.networks.condition`.

    Raises:
        ValueError: If a name is unknown, options do not fit together, or the prior is trainable.
    """
    y = networks.condition(condition, condition_size, image_shape)
    return AAE(
        **autoencoder_parts(image_shape, latent_dim=latent_dim, decoder_condition=y, **options),
        discriminator=networks.mlp(latent_dim, 1, discriminator_hidden),
        adversarial_loss=latent_loss(loss, real_label, label_noise),
    )


def latent_loss(loss: str, real_label: float = 1.0, label_noise: float = 0.0) -> AdversarialLoss:
    """An adversarial loss by name, for a discriminator of latents.

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
