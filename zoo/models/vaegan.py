"""VAE/GAN.

Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016.
https://arxiv.org/abs/1512.09300
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import LOSSES, AdversarialLoss, Minimax, adversarial_loss
from zoo.augmentation import augmented, check_policy
from zoo.config import PlainObject, choices, extends
from zoo.contract import check_non_negative
from zoo.distributions import (
    Conditional,
    Prior,
    UnitNormal,
    kl,
    need_density,
    refuse_learned,
)
from zoo.interfaces import LOGIT, Interface, shape_of_images
from zoo.model import Array, GenerativeModel, Round
from zoo.models.gan import check_bounded
from zoo.models.parts import (
    IMPLICIT_POSTERIOR_SIZES,
    LEARNED_PRIOR_SIZES,
    posterior_and_prior,
)
from zoo.penalties import Penalty, penalty


@keras.saving.register_keras_serializable("zoo")
class Equilibrium(PlainObject):
    """A rule that skips updates of the discriminator or of the generator if it is too far ahead.

    The discriminator's costs are means over the batch: -log D for real images and -log(1 - D) for
    fake images, with D = sigmoid(logit) for every adversarial loss. At D = 1/2, both costs are
    log 2 = 0.69. If a cost is below cost - margin, the discriminator is not updated. If a cost is
    above cost + margin, the generator is not updated. If both conditions hold, both players are
    updated. This is the rule of the VAE/GAN authors' code.

    Args:
        cost: The discriminator's cost in a balanced game, finite; 0.68 in the authors' code.
        margin: Allowed distance from `cost`, at least 0; 0.35 in the authors' code. With an
            infinite margin, both players are always updated.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> rule = zoo.Equilibrium()
        >>> [bool(update) for update in rule(0.7, 0.3)]  # The discriminator is not updated.
        [False, True]
    """

    def __init__(self, cost: float = 0.68, margin: float = 0.35):
        if not math.isfinite(cost):
            raise ValueError(f"`cost` must be finite. Received: {cost}.")
        if not margin >= 0:
            raise ValueError(f"`margin` must be at least 0. Received: {margin}.")
        self.cost = cost
        self.margin = margin

    def __call__(self, real_cost: Any, fake_cost: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Whether to update the discriminator, and the generator: two scalar bools."""
        low, high = self.cost - self.margin, self.cost + self.margin
        strong = tf.minimum(real_cost, fake_cost) < low
        weak = tf.maximum(real_cost, fake_cost) > high
        return weak | ~strong, strong | ~weak


@keras.saving.register_keras_serializable("zoo")
class VAEGAN(GenerativeModel):
    """A VAE with a unit normal likelihood of features of a GAN's discriminator.

    Training follows the paper's Algorithm 1, with one forward pass for all three players:

        encoder:       beta * rate + distortion, with beta = 1 in the paper
        generator:     gamma * distortion + adversarial loss of reconstructions and of samples
        discriminator: adversarial loss of data against reconstructions and samples

    The rate is KL(q(z | x) || p(z)), and the distortion is minus the log-likelihood of the features
    of x. Each player's gradient is that of its own loss with respect to its own weights, so that no
    gradient of an adversarial loss reaches the encoder, and no gradient of the distortion reaches
    the discriminator. The features of x are a constant target (`tf.stop_gradient`), as in the
    authors' code.

    Each network may take a condition `y[B, ...]`, such as a class or attributes, as its second
    input. In the attribute-conditional model of section 4.2, all three networks do. Reconstructions
    and samples then have the conditions of the images in the batch.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`.
        generator: Network from `z[B, D]` to images `x[B, H, W, C]` in [0, 1]; the paper's decoder.
        prior: p(z), a `Prior` over `z[D]` without trainable weights.
        discriminator: Network from `x[B, H, W, C]` to `(features[B, F], logits[B, 1])`: the paper's
            Dis_l(x), and logits that are high for real images. The features should have about unit
            variance, as the unit normal assumes; if their variance is much smaller, the rate
            outweighs the distortion and the posterior collapses. `zoo.networks.discriminator` with
            `features=True` returns the output of its last normalization, or the last hidden layer
            before its activation.
        adversarial_loss: An `AdversarialLoss`; `Minimax()`, as in the paper, if `None`.
        gamma: Weight of the generator's distortion, at least 0.
        equilibrium: An `Equilibrium`, as in the authors' code; `None` to update all players on
            every batch. With an equilibrium the discriminator's loss is the mean over the two kinds
            of fake images instead of their sum, and `real_cost`, `fake_cost`,
            `discriminator_updates` and `generator_updates` (shares of the batches) are reported.
        beta: Weight of the encoder's rate, at least 0. It corresponds to a likelihood of variance
            beta for the features. With many features and beta = 1, the rate has little influence:
            posteriors become narrow, and their mixture over the data is far from the prior.
        joint_batch: Whether the discriminator's batch normalization in training treats images,
            reconstructions and samples as one batch; otherwise as three batches, as in DCGAN's
            code. With three batches, the distortion ignores differences of mean and scale between a
            batch of images and its reconstructions.
        penalty: A `zoo.penalties.Penalty` with the samples as fake images, added to the
            discriminator's loss and reported as `penalty`, or `None`.
        augment: Policy of `zoo.augmentation.augment` for all images that the discriminator takes in
            training, such as "color,translation,cutout"; "" for no augmentation. An image, its
            reconstruction and a sample have the same random change, so that the distortion compares
            features of equally changed images. A penalty is on the gradient with respect to the
            images before their change.

    Raises:
        ValueError: If gamma or beta is out of range, if the policy is unknown, if the prior has
            trainable weights, if the posterior or the prior has no density, or if the penalty needs
            a discriminator without batch normalization. When called, if a network takes a condition
            and none is passed.

    Notes:
        Algorithm 1 prints the adversarial terms of discriminator and decoder with the opposite
        sign. Here, as in the authors' code, the discriminator maximises L_GAN and the decoder
        minimises it.

        In the authors' code, the decoder's adversarial term has the weight 1 - w and its distortion
        the weight w (1e-6 for faces): gamma = w / (1 - w), up to a factor of the whole loss. The
        distortion is a sum over features, so a suitable gamma depends on the number of features.

        Algorithm 1 sums the discriminator's three terms; if real and fake images have the same
        distribution, the optimal D is 1/3. The authors' code takes the mean over the two kinds of
        fake images, for which the optimal D is 1/2; with the sum, the equilibrium would never
        update the decoder. Both sum the generator's terms.

        The features of the authors' code are the third strided convolution before its
        normalization. That code normalizes images, reconstructions and samples as one batch for the
        logits, and images and reconstructions as another batch for the features; here one pass
        computes both.

    Example:
        >>> model = zoo.models.vaegan((8, 8, 1), latent_dim=4, condition="label", margin=0.35)
        >>> model.compile("adam")
        >>> x, y = zoo.datasets.load("digits").arrays("train")
        >>> history = model.fit(x, y, verbose=0)
        >>> 0 <= history.history["discriminator_updates"][0] <= 1
        True
        >>> model.sample(2, y=[3, 7]).shape
        TensorShape([2, 8, 8, 1])
    """

    def __init__(
        self,
        posterior: Conditional,
        generator: keras.Model,
        prior: Prior,
        discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        gamma: float = 1e-2,
        equilibrium: Equilibrium | None = None,
        beta: float = 1.0,
        joint_batch: bool = True,
        penalty: Penalty | None = None,
        augment: str = "",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_non_negative(gamma=gamma, beta=beta)
        check_policy(augment)
        if penalty is not None:
            penalty.check(discriminator)
        refuse_learned(prior, "a VAEGAN")
        for part in (posterior, prior):
            need_density(part, "a VAEGAN")
        self.posterior = posterior
        self.generator = generator
        self.prior = prior
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss or Minimax()
        self.gamma = gamma
        self.equilibrium = equilibrium
        self.beta = beta
        self.joint_batch = joint_batch
        self.penalty = penalty
        self.augment = augment

    @property
    def terms(self):
        own = ("distortion", "rate", "real_logit", "reconstruction_logit", "sample_logit")
        costs = () if self.equilibrium is None else ("real_cost", "fake_cost")
        return (*own, *costs, *(() if self.penalty is None else ("penalty",)))

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {
            "encoder": [self.posterior],
            "generator": [self.generator],
            "discriminator": [self.discriminator],
        }

    def interfaces(self) -> dict[str, Interface]:
        features_and_logit = (None,), LOGIT
        discriminator = Interface((shape_of_images(self),), features_and_logit, conditional=True)
        return super().interfaces() | {"discriminator": discriminator}

    def rounds(self) -> list[Round]:
        if self.equilibrium is None:
            return [Round(self.objective)]

        def updates(player, means):
            return self.equilibrium(means["real_cost"], means["fake_cost"])[player]

        players = ("discriminator", "generator")
        gates = {name: functools.partial(updates, i) for i, name in enumerate(players)}
        return [Round(self.objective, gates=gates)]

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        z_seed, prior_seed, *label_seeds = tfp.random.split_seed(seed, 5)
        q, p = self.posterior(x, y, training=training), self.prior(y)
        z = q.sample(seed=z_seed)
        latents = tf.concat([z, self.prior.sample_for(x, y, prior_seed)], 0)
        fake = networks.call(self.generator, latents, _repeated(y, 2), training)
        fake = tf.cast(fake, tf.float32)
        features, logits = self._discriminate(x, fake, y, seed, training)
        target, feature, _ = features
        real, reconstruction, sample = (tf.cast(kind[:, 0], tf.float32) for kind in logits)

        rate = kl(q, p, z)
        distortion = -UnitNormal()(tf.cast(feature, tf.float32), 1).log_prob(
            tf.stop_gradient(tf.cast(target, tf.float32))
        )
        loss = self.adversarial_loss
        generator_loss = loss.generator(reconstruction) + loss.generator(sample)
        real_loss = loss.real(real, label_seeds[0])
        fake_loss = loss.fake(reconstruction, label_seeds[1]) + loss.fake(sample, label_seeds[2])
        terms = {
            "distortion": distortion,
            "rate": rate,
            "real_logit": real,
            "reconstruction_logit": reconstruction,
            "sample_logit": sample,
        }
        if self.equilibrium is not None:
            fake_loss /= 2
            # The costs of the rule are those of -log D for every loss and its labels.
            fake_cost = (tf.nn.softplus(reconstruction) + tf.nn.softplus(sample)) / 2
            terms |= {"real_cost": tf.nn.softplus(-real), "fake_cost": fake_cost}
        discriminator_loss = real_loss + fake_loss
        if self.penalty is not None:
            terms["penalty"] = self._penalty(x, tf.split(fake, 2)[1], y, seed, training)
            discriminator_loss += terms["penalty"]
        return {
            "encoder": self.beta * rate + distortion,
            "generator": self.gamma * distortion + generator_loss,
            "discriminator": discriminator_loss,
        }, terms

    def _penalty(self, x, samples, y, seed, training):
        def discriminate(images):
            images = self._augmented(images, seed, training)
            _, logits = networks.call(self.discriminator, images, y, training)
            return tf.cast(logits[:, 0], tf.float32)

        point_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        _, penalty = self.penalty(discriminate, x, tf.stop_gradient(samples), point_seed)
        return penalty

    def _augmented(self, images, seed, training):
        seed = tf.random.experimental.stateless_fold_in(seed, 2)
        return augmented(images, self.augment, seed, training)

    def _discriminate(self, x, fake, y, seed, training):
        """Two triples, features and logits, each of images, reconstructions and samples."""
        kinds = [self._augmented(kind, seed, training) for kind in (x, *tf.split(fake, 2))]
        # Outside of training, the discriminator treats each example separately.
        if self.joint_batch or not training:
            images = tf.concat(kinds, 0)
            outputs = networks.call(self.discriminator, images, _repeated(y, 3), training)
            return [tf.split(output, 3) for output in outputs]
        outputs = [networks.call(self.discriminator, kind, y, training) for kind in kinds]
        # The outputs are not concatenated, so that a gradient of one kind uses only its own pass.
        return zip(*outputs, strict=True)

    @property
    def condition(self) -> tf.TensorSpec | None:
        spec = super().condition
        for network in (self.generator, self.discriminator):
            if spec is None and len(network.inputs) > 1:
                spec = tf.TensorSpec(network.inputs[1].shape, network.inputs[1].dtype)
        return spec

    def abilities(self) -> tuple[str, ...]:
        # A condition, such as the attributes, is not in the latents.
        own = ("attribute_vectors",) if self.condition is None else ()
        return (*super().abilities(), *own)

    def attribute_vectors(self, x: Array, y: Array) -> np.ndarray:
        """The direction of each attribute in latent space, `[A, D]`.

        See `zoo.models.attribute_vectors`.

        Args:
            x: Images `[N, H, W, C]`, such as training images.
            y: Attributes `[N, A]` of the images, each 0 or 1, or labels `[N]`.

        Raises:
            ValueError: As for `attribute_vectors`.
        """
        z = [self.encode(part) for part in np.array_split(x, math.ceil(len(x) / 500))]
        return attribute_vectors(np.concatenate(z), y)


def _repeated(y, times):
    return None if y is None else tf.concat([tf.convert_to_tensor(y)] * times, 0)


def attribute_vectors(z: Array, y: Array) -> np.ndarray:
    """The direction of each attribute in latent space: `[A, D]`.

    A direction is the mean latent of the images with the attribute, minus the mean latent of the
    images without the attribute: Larsen et al., 2016, section 4.1.1. The sum of an image's latent
    and the vector decodes to the image with the attribute; see `zoo.pictures.attributes`.
    Attributes that are correlated in the data have similar vectors.

    Args:
        z: Latents `[N, D]`, such as `model.encode(x)` of training images.
        y: Attributes `[N, A]` of the images, each 0 or 1; or labels `[N]`, ints of at least 0, each
            of which is an attribute.

    Raises:
        ValueError: If the shapes do not match, or if all images or no images have an attribute.

    Example:
        >>> from zoo.models.vaegan import attribute_vectors
        >>> attribute_vectors([[0.0, 1], [2, 1], [4, 7]], [[0], [1], [1]])  # (3, 4) - (0, 1)
        array([[3., 3.]])
    """
    z, y = np.asarray(z, np.float64), np.asarray(y)
    if y.ndim == 1 and np.issubdtype(y.dtype, np.integer) and y.size and y.min() >= 0:
        y = np.eye(y.max() + 1)[y]
    if z.ndim != 2 or y.ndim != 2 or len(z) != len(y) or not np.isin(y, (0, 1)).all():
        raise ValueError(
            "Expected latents [N, D], and attributes [N, A] of 0 or 1 or labels [N] of at least 0. "
            f"Received: latents of shape {z.shape}, and {y.dtype.name} of shape {y.shape}."
        )
    y = y.astype(np.float64)
    count = y.sum(0)
    constant = (count == 0) | (count == len(y))
    if constant.any():
        raise ValueError(
            "An attribute's vector needs images with the attribute and images without it. "
            f"Received: {len(y)} images with equal values of the attributes "
            f"{np.flatnonzero(constant).tolist()}."
        )
    return y.T @ z / count[:, None] - (1 - y).T @ z / (len(y) - count)[:, None]


@choices(
    network={
        "mlp": ("discriminator_hidden",),
        "conv": ("filters", "width"),
        "resnet": ("filters", "width"),
    },
    loss=LOSSES,
)
@extends(
    posterior_and_prior,
    without=("encoder_condition", "center_images", *LEARNED_PRIOR_SIZES),
)
def parts(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 20,
    network: str = "mlp",
    hidden: Sequence[int] = (500,),
    activation: str = "relu",
    width: int = 32,
    discriminator_hidden: Sequence[int] = (240, 240),
    dropout: float = 0.0,
    batch_norm: bool = True,
    spectral_norm: bool = False,
    loss: str = "minimax",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    gradient_penalty: float = 0.0,
    r1: float = 0.0,
    augment: str = "",
    condition: networks.Condition | None = None,
    features: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """The arguments of a model with an encoder, a generator and a discriminator of images.

    For builders. The options are those of `vaegan`, and:

    Args:
        condition, features: As for `zoo.networks.discriminator`.
    """
    check_bounded(loss, gradient_penalty, r1, spectral_norm)
    sizes = {"latent_dim": latent_dim, "hidden": hidden, "activation": activation}
    return posterior_and_prior(
        image_shape, network=network, encoder_condition=condition, **sizes, **options
    ) | {
        "generator": networks.generator(
            network, latent_dim, image_shape, hidden[::-1], width, activation, condition
        ),
        "discriminator": networks.discriminator(
            network,
            image_shape,
            discriminator_hidden,
            width,
            dropout,
            features,
            batch_norm,
            spectral_norm,
            condition,
        ),
        "adversarial_loss": adversarial_loss(loss, real_label, label_noise),
        "penalty": penalty(gradient_penalty, r1),
        "augment": augment,
    }


@choices(
    condition={
        "none": (),
        "label": ("condition_size",),
        "attributes": ("condition_size",),
        "image": ("condition_size",),
    },
)
@extends(parts, without=("features", *IMPLICIT_POSTERIOR_SIZES))
def vaegan(
    image_shape: Sequence[int],
    *,
    gamma: float = 1e-2,
    beta: float = 1.0,
    margin: float = 0.0,
    joint_batch: bool = True,
    condition: str = "none",
    condition_size: int = 0,
    **options: Any,
) -> VAEGAN:
    """A `VAEGAN` of multilayer perceptrons, DCGAN's networks or residual networks.

    Args:
        image_shape: Height, width, channels.
        gamma: Weight of the generator's distortion.
        beta: Weight of the encoder's rate; 1 in the paper.
        margin: Margin of the `Equilibrium`, 0.35 in the authors' code; 0 for no equilibrium.
        joint_batch: As for `VAEGAN`.
        condition: The condition of all three networks: "none", "label" (ints `[B]`), "attributes"
            (`[B, A]`), or "image" (`[B, H / K, W / K, C]`, the image, smaller by a factor K).
        condition_size: Number of classes, 0 for 10; number of attributes; or the factor K, at least 2.
        width: Channels of the layer next to the image in generator and discriminator, for "conv" and
            "resnet": see `zoo.networks.generator`.
        discriminator_hidden: Units of the discriminator's hidden layers, for "mlp".
        dropout, batch_norm, spectral_norm: Options of the discriminator: see
            `zoo.networks.discriminator`. Spectral normalization needs `batch_norm=False`.
        gradient_penalty, r1: Weight of the penalty of that name, 0 for none: see `zoo.penalties`.
            Both need `batch_norm=False`.
        augment: As for `VAEGAN`.
        loss, real_label, label_noise: See `zoo.adversarial.adversarial_loss`. The loss
            "wasserstein" needs a penalty or spectral normalization.
        **options: The other options of `zoo.models.parts.posterior_and_prior`, without trainable
            priors and posteriors without a density. The generator "mlp" mirrors the `hidden` layers
            of the encoder and has the same `activation`.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or options do not fit together.

    Example:
        >>> model = zoo.models.vaegan((28, 28, 1), network="conv", width=8, gamma=1e-3)
        >>> model.latent_dim
        20
    """
    y = networks.condition(condition, condition_size, image_shape)
    return VAEGAN(
        **parts(image_shape, condition=y, features=True, **options),
        gamma=gamma,
        equilibrium=Equilibrium(margin=margin) if margin else None,
        beta=beta,
        joint_batch=joint_batch,
    )
