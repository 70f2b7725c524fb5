"""DC-VAE, the dual contradistinctive generative autoencoder.

Parmar et al., "Dual Contradistinctive Generative Autoencoder", 2021.
https://arxiv.org/abs/2011.10063
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import LOSSES, AdversarialLoss, Hinge, adversarial_loss
from zoo.augmentation import augmented, check_policy
from zoo.config import choices, extends, look_up
from zoo.contract import as_count, check_non_negative
from zoo.contrast import MomentumKeys, info_nce
from zoo.distributions import Conditional, Prior, kl, need_density, refuse_learned
from zoo.interfaces import LOGIT, Interface, shape_of_images
from zoo.model import GenerativeModel, Round
from zoo.models.parts import (
    IMPLICIT_POSTERIOR_SIZES,
    LEARNED_PRIOR_SIZES,
    NETWORKS_OF_LATENTS,
    latent_parts,
)


@keras.saving.register_keras_serializable("zoo")
class DCVAE(GenerativeModel):
    """A VAE whose reconstructions are compared with images by a discriminator only, in two ways.

    The discriminator D has a trunk, a decision D(x) on the trunk's last features, and contrast
    heads. With x_h = G(z), z ~ q(z | x), and a sample x_s = G(z), z ~ p(z), a training step plays
    three rounds:

        1. trunk, decision:  max(0, 1 - D(x)) + max(0, 1 + D(x_h)) / 2 + max(0, 1 + D(x_s)) / 2
        2. encoder, generator:                    -D(x_h) / 2 - D(x_s) / 2 + beta * rate
        3. encoder, generator, trunk, heads:      mean over levels l of NCE_l + beta * rate

    The first round runs `discriminator_steps` times, each time on another share of the batch. The
    other rounds take the first of these shares. Rounds 1 and 2 are the set-level adversarial loss,
    whose gradient also reaches the encoder. Round 3 is the instance-level contrastive loss: among
    the features of many images, the features of x_h must be nearest to those of x. NCE_l is
    `zoo.contrast.info_nce` of

        query q = unit(f_l(x_h)),   key k = unit(f_l^m(x)),   negatives: the latest K keys

    where f_l are the features of level l, from the heads on the trunk, and f_l^m those of a momentum
    copy of trunk and heads (`zoo.contrast.MomentumKeys`). The copy is updated before it computes
    the keys, and the keys are appended to the queue after the losses. Keys are features of real
    images, and carry no gradient. No loss compares pixels, and none is a bound on a likelihood.

    A player that is updated in two rounds has one optimizer for both. The encoder's and the
    generator's reported losses are those of round 3; without contrast heads, those of round 2.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`.
        generator: Network from `z[B, D]` to images `x[B, H, W, C]` in [0, 1]; the paper's decoder.
        prior: p(z), a `Prior` over `z[D]` without trainable weights.
        trunk: Network from `x[B, H, W, C]` to features of one or more levels, without batch
            normalization. The last level is a vector `[B, F]`.
        decision: Network from the last level of features to logits `[B, 1]`, high for real images;
            `None` for a model without rounds 1 and 2.
        heads: Network from all levels of features to vectors `[B, L, d]`; `None` for a model
            without round 3.
        adversarial_loss: An `AdversarialLoss`; `Hinge()`, as in the paper, if `None`.
        beta: Weight of the rate KL(q(z | x) || p(z)), at least 0.
        discriminator_steps: Number of times that round 1 runs, at least 1. A batch needs as many
            images.
        queue_size: Number of negatives, K. If the queue is long relative to the training set, some
            negatives are earlier keys of the same image.
        momentum: Share of its old weights that the momentum copy keeps at each step, in [0, 1].
        temperature: t of the contrastive loss, above 0.
        augment: Policy of `zoo.augmentation.augment` for all images of rounds 1 and 2 in training,
            such as "color,translation,cutout"; "" for no augmentation. Round 3, which compares an
            image with its reconstruction, has no augmentation.

    Raises:
        ValueError: If a number is out of range, if the policy is unknown, if `decision` and `heads`
            are both `None`, if the prior has trainable weights, if the posterior or the prior has
            no density, or if the trunk or the heads have batch normalization.

    Notes:
        The order of the updates, the weights and the sizes of the contrast heads follow the
        authors' code. In that code, the first level is the sum in the first residual block, before
        the activation; in `dcvae` it is an activation, or the sum for residual networks. The
        authors update trunk and decision on each batch of 64 images, and play rounds 2 and 3 on
        every fifth batch. A step here with a batch of 320 images is five of these batches, except
        that the images of rounds 2 and 3 are also those of a discriminator step.

        The authors' code weights the sum of the rate over a batch of 64 images by 1e-6, in a loss
        that is a mean over the batch. In a loss per image, this is `beta` = 6.4e-5.

        The authors draw twice as many samples as reconstructions in round 2. Here there are equally
        many, with the same weights of the two means. Samples and reconstructions of rounds 1 and 2
        pass through the generator as one batch.

        The authors score a moving average of the decoder, and samples of latents that are clamped to
        [-1, 1]. Here `sample` draws from p(z). An optimizer with `use_ema` keeps the average, and
        `decode` takes clamped latents.

    Example:
        >>> model = zoo.models.dcvae((8, 8, 1), latent_dim=4, hidden=(16,), queue_size=100)
        >>> model.compile(keras.optimizers.Adam(2e-4, beta_1=0.0, beta_2=0.9), jit_compile=False)
        >>> x, _ = zoo.datasets.load("digits").arrays("train", limit=320)
        >>> history = model.fit(x, batch_size=160, verbose=0)
        >>> clamped = np.clip(model.sample_latents(2), -1, 1)
        >>> model.decode(clamped).shape
        TensorShape([2, 8, 8, 1])
    """

    def __init__(
        self,
        posterior: Conditional,
        generator: keras.Model,
        prior: Prior,
        trunk: keras.Model,
        decision: keras.Model | None = None,
        heads: keras.Model | None = None,
        adversarial_loss: AdversarialLoss | None = None,
        beta: float = 6.4e-5,
        discriminator_steps: int = 5,
        queue_size: int = 8192,
        momentum: float = 0.999,
        temperature: float = 0.07,
        augment: str = "",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_non_negative(beta=beta)
        check_policy(augment)
        if not 0 < temperature < math.inf:
            raise ValueError(f"`temperature` must be above 0 and finite. Received: {temperature}.")
        if decision is None and heads is None:
            raise ValueError(
                "A DCVAE needs a `decision`, `heads`, or both: without them it has no loss. "
                "Received: None for both."
            )
        refuse_learned(prior, "a DCVAE")
        for part in (posterior, prior):
            need_density(part, "a DCVAE")
        self.posterior = posterior
        self.generator = generator
        self.prior = prior
        self.trunk = trunk
        self.decision = decision
        self.heads = heads
        self.adversarial_loss = adversarial_loss or Hinge()
        self.beta = beta
        self.discriminator_steps = as_count(discriminator_steps, "discriminator_steps")
        self.queue_size = as_count(queue_size, "queue_size")
        self.momentum = momentum
        self.temperature = temperature
        self.augment = augment
        if heads is not None:
            for name in ("trunk", "heads"):
                networks.check_built(getattr(self, name), f"The `{name}` of this DCVAE")
                reason = "with it, the queries and keys of a batch depend on each other."
                networks.refuse_batch_norm(getattr(self, name), f"`{name}`", reason)
            self.momentum_keys = MomentumKeys([trunk, heads], queue_size, momentum)

    @property
    def terms(self):
        logits = ("real_logit", "reconstruction_logit", "sample_logit")
        contrast = ("contrast", "contrast_accuracy")
        return (
            "rate",
            *(() if self.decision is None else logits),
            *(() if self.heads is None else contrast),
        )

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        own: dict[str, list[keras.layers.Layer]] = {
            "encoder": [self.posterior],
            "generator": [self.generator],
            "trunk": [self.trunk],
        }
        if self.decision is not None:
            own["decision"] = [self.decision]
        if self.heads is not None:
            own["contrast"] = [self.heads, self.momentum_keys]
        return own

    def interfaces(self) -> dict[str, Interface]:
        own = {name: i._replace(conditional=False) for name, i in super().interfaces().items()}
        networks.check_built(self.trunk, "The `trunk` of this DCVAE")
        *levels, last = (tuple(t.shape[1:]) for t in self.trunk.outputs)
        vector = last if len(last) == 1 else (None,)
        own["trunk"] = Interface((shape_of_images(self),), (*levels, vector))
        if self.decision is not None:
            own["decision"] = Interface((vector,), (LOGIT,))
        if self.heads is not None:
            own["heads"] = Interface((*levels, vector), ((None, None),))
        return own

    def rounds(self) -> list[Round]:
        game = [
            Round(self.discriminator_objective, steps=self.discriminator_steps),
            Round(self.generator_objective),
        ]
        return [
            *(() if self.decision is None else game),
            *(() if self.heads is None else (Round(self.contrast_objective),)),
        ]

    def discriminator_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        seed, *label_seeds = tfp.random.split_seed(seed, 4)
        fake, _ = self._generate(x, seed, training, samples=True)
        images = tf.concat([x, tf.stop_gradient(fake)], 0)
        real, reconstruction, sample = tf.split(self._logits(images, seed, training), 3)
        loss = self.adversarial_loss
        fake_loss = loss.fake(reconstruction, label_seeds[1]) + loss.fake(sample, label_seeds[2])
        total = loss.real(real, label_seeds[0]) + fake_loss / 2
        terms = {
            "real_logit": real,
            "reconstruction_logit": reconstruction,
            "sample_logit": sample,
        }
        return dict.fromkeys(("trunk", "decision"), total), terms

    def generator_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        fake, rate = self._generate(x, seed, training, samples=True)
        losses = self.adversarial_loss.generator(self._logits(fake, seed, training))
        reconstruction, sample = tf.split(losses, 2)
        total = (reconstruction + sample) / 2 + self.beta * rate
        return dict.fromkeys(("encoder", "generator"), total), {"rate": rate}

    def contrast_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        if training:
            self.momentum_keys.follow([self.trunk, self.heads])
        keys = self.momentum_keys(x)
        reconstruction, rate = self._generate(x, seed, training, samples=False)
        queries = self._queries(reconstruction, training)
        negatives = tf.convert_to_tensor(self.momentum_keys.queue)
        losses, nearest = info_nce(queries, keys, negatives, self.temperature)
        if training:
            self.momentum_keys.push(keys)
        contrast = tf.reduce_mean(losses, 1)
        terms = {
            "rate": rate,
            "contrast": contrast,
            "contrast_accuracy": tf.reduce_mean(nearest, 1),
        }
        total = contrast + self.beta * rate
        return dict.fromkeys(("encoder", "generator", "trunk", "contrast"), total), terms

    def _generate(self, x, seed, training, samples):
        """Reconstructions of `x`, followed by as many samples; and the rate `[B]`."""
        z_seed, prior_seed = tfp.random.split_seed(seed, 2)
        q = self.posterior(x, training=training)
        latents = z = q.sample(seed=z_seed)
        if samples:
            latents = tf.concat([z, self.prior.sample_for(x, seed=prior_seed)], 0)
        images = tf.cast(self.generator(latents, training=training), tf.float32)
        return images, kl(q, self.prior(), z)

    def _queries(self, images, training):
        features = self.trunk(images, training=training)
        return networks.unit(self.heads(features, training=training))

    def _logits(self, images, seed, training):
        view = tf.random.experimental.stateless_fold_in(seed, 1)
        images = augmented(images, self.augment, view, training)
        features = keras.tree.flatten(self.trunk(images, training=training))
        return networks.logits(self.decision, features[-1], None, training)


_GAME = ("loss", "real_label", "label_noise", "discriminator_steps", "augment")
_CONTRAST = ("queue_size", "momentum", "temperature")
COMPARISONS: dict[str, tuple[str, ...]] = {
    "both": _GAME + _CONTRAST,
    "sets": _GAME,
    "instances": _CONTRAST,
}
"""The ways to compare reconstructions with images, and the options that each way uses."""


@choices(
    network={
        "mlp": ("discriminator_hidden",),
        "conv": ("filters", "width"),
        "resnet": ("filters", "width"),
    },
    loss=LOSSES,
    comparison=COMPARISONS,
)
@extends(
    latent_parts, without=(*NETWORKS_OF_LATENTS, *LEARNED_PRIOR_SIZES, *IMPLICIT_POSTERIOR_SIZES)
)
def dcvae(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 32,
    network: str = "mlp",
    hidden: Sequence[int] = (500,),
    filters: Sequence[int] = (32, 64),
    activation: str = "relu",
    width: int = 32,
    discriminator_hidden: Sequence[int] = (240, 240),
    feature_dim: int = 16,
    comparison: str = "both",
    loss: str = "hinge",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    beta: float = 6.4e-5,
    discriminator_steps: int = 5,
    queue_size: int = 8192,
    momentum: float = 0.999,
    temperature: float = 0.07,
    augment: str = "",
    **options: Any,
) -> DCVAE:
    """A `DCVAE` of multilayer perceptrons, DCGAN's networks or residual networks.

    As in the paper, encoder, trunk and decision have spectral normalization. The trunk is a
    discriminator up to its last activation, which is summed over positions and mapped to a vector.
    The first level of features is the output of the first layer, or for "resnet" of the first
    block, from which the contrast head takes a channel (1x1 convolution) and computes a vector. The
    second level is the trunk's vector.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        network: "mlp", "conv" or "resnet": see `zoo.networks.encoder`.
        hidden: Units of the encoder's dense layers. The generator "mlp" mirrors them.
        filters: Channels of the encoder's convolutions or blocks, for "conv" and "resnet".
        activation: Activation of the hidden layers of encoder and generator.
        width: Channels of the layer next to the image in generator and trunk, for "conv" and
            "resnet": see `zoo.networks.generator`.
        discriminator_hidden: Units of the trunk's hidden layers, for "mlp".
        feature_dim: Length of the vectors of both levels; 16 in the authors' code.
        comparison: "both"; "sets" for the set-level adversarial loss alone; or "instances" for the
            instance-level contrastive loss alone.
        loss, real_label, label_noise: See `zoo.adversarial.adversarial_loss`.
        beta, discriminator_steps, queue_size, momentum, temperature, augment: As for `DCVAE`.
        **options: The other options of `zoo.models.parts.latent_parts`, without trainable priors and
            posteriors without a density.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or options do not fit together.

    Example:
        >>> model = zoo.models.dcvae((28, 28, 1), network="conv", width=8, comparison="sets")
        >>> list(model.players())
        ['encoder', 'generator', 'trunk', 'decision']
    """
    look_up(COMPARISONS, comparison, "comparison")

    def encoder(outputs):
        return networks.spectrally_normalized(
            networks.encoder(network, image_shape, outputs, hidden, filters, activation)
        )

    trunk = _trunk(network, image_shape, discriminator_hidden, width, feature_dim)
    decision = networks.spectrally_normalized(networks.mlp(feature_dim, 1, ()))
    return DCVAE(
        **latent_parts(image_shape, latent_dim=latent_dim, encoder=encoder, **options),
        generator=networks.generator(
            network, latent_dim, image_shape, hidden[::-1], width, activation
        ),
        trunk=trunk,
        decision=None if comparison == "instances" else decision,
        heads=None if comparison == "sets" else _heads(trunk, feature_dim),
        adversarial_loss=adversarial_loss(loss, real_label, label_noise),
        beta=beta,
        discriminator_steps=discriminator_steps,
        queue_size=queue_size,
        momentum=momentum,
        temperature=temperature,
        augment=augment,
    )


def _trunk(network, image_shape, hidden, width, outputs):
    """A discriminator up to its first activation and to its last, mapped to `[B, outputs]`."""
    whole = networks.discriminator(
        network, image_shape, hidden, width, features=True, spectral_norm=True
    )
    kind = keras.layers.Add if network == "resnet" else keras.layers.LeakyReLU
    levels = [layer.output for layer in whole.layers if isinstance(layer, kind)]
    last = levels[-1]
    if network == "resnet":
        last = keras.layers.ReLU()(last)
    if len(last.shape) == 4:
        positions = math.prod(last.shape[1:3])
        last = keras.layers.GlobalAveragePooling2D()(last)
        last = keras.layers.Rescaling(positions)(last)
    linear = keras.layers.Dense(outputs, use_bias=False)
    vector = networks.SpectralNormalization(linear)(last)
    return keras.Model(whole.input, (levels[0], vector), name="trunk")


def _heads(trunk, outputs):
    """A head on the first level of the trunk, and the vector of the last: `[B, 2, outputs]`."""
    first, vector = (keras.Input(t.shape[1:]) for t in trunk.outputs)
    h = first
    if len(h.shape) == 4:
        h = keras.layers.Flatten()(keras.layers.Conv2D(1, 1)(h))
    h = keras.layers.Dense(outputs, use_bias=False)(h)
    levels = [keras.layers.Reshape((1, outputs))(level) for level in (h, vector)]
    return keras.Model((first, vector), keras.layers.Concatenate(axis=1)(levels), name="heads")
