"""alpha-GAN.

Rosca et al., "Variational Approaches for Auto-Encoding Generative Adversarial Networks", 2017.
https://arxiv.org/abs/1706.04987
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import AdversarialLoss, LogRatio
from zoo.augmentation import augmented, check_policy
from zoo.config import extends
from zoo.contract import check_non_negative
from zoo.distributions import Conditional, ImplicitPart, Prior, UnitNormal, refuse_learned
from zoo.interfaces import LOGIT, Interface, context_shape, shape_of_images
from zoo.keras_internals import layers_in
from zoo.mean_start import Start
from zoo.model import GenerativeModel, Round
from zoo.models.vaegan import parts
from zoo.penalties import Penalty


@keras.saving.register_keras_serializable("zoo")
class AlphaGAN(GenerativeModel):
    """An autoencoder with two discriminators, one of images and one of codes.

    The losses are those of the paper's Algorithm 1, with the code z_h = E(x), the reconstruction
    x_h = G(z_h) and a latent z of the prior:

        encoder:            lambda |x - x_h|_1 + R_C(z_h)
        generator:          lambda |x - x_h|_1 + R_D(x_h) + R_D(G(z))
        discriminator:      -log D(x) - log(1 - D(x_h)) - log(1 - D(G(z)))
        code discriminator: -log C(z) - log(1 - C(z_h))

    where R(.) = -log D + log(1 - D) is minus the logit (`zoo.adversarial.LogRatio`). R_C estimates
    log q(z) / p(z), where q is the distribution of the codes, and the L1 distance is a Laplace
    likelihood of scale 1 / lambda. D has two kinds of fake images and one kind of real images. Its
    optimal logit is log p_data / (p_rec + p_gen), with the densities of data, reconstructions and
    samples, and R_D estimates log (p_rec + p_gen) / p_data. If the three densities are equal, D is
    1/3 for every image, its loss is 3 log 3 - 2 log 2, and R_D is log 2 for every image, with
    gradient 0.

    A training step updates the encoder, then the generator, then both discriminators at once; each
    update uses the weights of the previous update. All later updates use the codes of the updated
    encoder. Each of these later updates draws new latents from the prior.

    The L1 distance is summed over pixels and channels of images in [0, 1]. None of the losses is a
    bound on a likelihood.

    Args:
        posterior: q(z | x), the encoder: a `Conditional` or an `ImplicitPart` on `x[B, H, W, C]`,
            over `z[B, D]`; in the paper, a `Conditional` with the family `Deterministic`.
        generator: Network from `z[B, D]` to images `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]` without trainable weights. A density is not needed.
        discriminator: Network from `x[B, H, W, C]` to logits `[B, 1]`, high for real images.
        code_discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of the prior,
            without batch normalization, as in the authors' code.
        adversarial_loss: An `AdversarialLoss` for both discriminators, whose `generator` is R;
            `LogRatio()`, as in the paper, if `None`.
        lambda_: Weight of the L1 distance, at least 0.
        penalty: A `zoo.penalties.Penalty`, added to the losses of both discriminators, or `None`.
            The fake images of the penalty are G(z). The penalties are reported as `penalty` and
            `code_penalty`.
        augment: Policy of `zoo.augmentation.augment` for all images that D takes in training, such
            as "color,translation,cutout"; "" for no augmentation. The L1 distance is that of the
            images before their change, and a penalty is on the gradient with respect to them.

    Raises:
        ValueError: If `lambda_` is out of range, if the policy is unknown, if the prior has
            trainable weights, if the code discriminator has batch normalization, or if the penalty
            needs a discriminator without batch normalization.

    Notes:
        Equations 16 and 17 of the first version on arXiv exchange prior and code in the loss of C,
        which would drive the codes away from the prior. The losses above are corrected.

        An implementation with the mean over pixels, or with images in [-1, 1], needs another lambda
        for the same objective: for the mean, lambda is larger by the number of values.
    """

    def __init__(
        self,
        posterior: Conditional | ImplicitPart,
        generator: keras.Model,
        prior: Prior,
        discriminator: keras.Model,
        code_discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        lambda_: float = 1.0,
        penalty: Penalty | None = None,
        augment: str = "",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_non_negative(lambda_=lambda_)
        check_policy(augment)
        if penalty is not None:
            penalty.check(discriminator)
        kind = keras.layers.BatchNormalization
        norms = [layer.name for layer in layers_in(code_discriminator) if isinstance(layer, kind)]
        if norms:
            raise ValueError(
                "The code discriminator must have no batch normalization, whose statistics would "
                "separate a batch of codes from a batch of the prior. "
                f"Received: a network with the layer '{norms[0]}'."
            )
        self.posterior = posterior
        self.generator = generator
        refuse_learned(prior, "an AlphaGAN")
        self.prior = prior
        self.discriminator = discriminator
        self.code_discriminator = code_discriminator
        self.adversarial_loss = adversarial_loss or LogRatio()
        self.lambda_ = lambda_
        self.penalty = penalty
        self.augment = augment

    @property
    def terms(self):
        images = ("real_logit", "reconstruction_logit", "sample_logit")
        penalties = () if self.penalty is None else ("penalty", "code_penalty")
        return ("reconstruction", *images, "prior_logit", "code_logit", *penalties)

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {
            "encoder": [self.posterior],
            "generator": [self.generator],
            "discriminator": [self.discriminator],
            "code_discriminator": [self.code_discriminator],
        }

    def interfaces(self) -> dict[str, Interface]:
        latents = context_shape(self.generator)
        return super().interfaces() | {
            "generator": Interface((latents,), (shape_of_images(self),)),
            "discriminator": Interface((shape_of_images(self),), (LOGIT,)),
            "code_discriminator": Interface((latents,), (LOGIT,)),
        }

    def mean_starts(self) -> list[Start]:
        return [Start(self.generator, UnitNormal())]

    def rounds(self) -> list[Round]:
        return [Round(self.encoder_objective), Round(self.adversarial_objective)]

    def encoder_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[dict, dict]:
        code = self._encode(x, y, seed, training)
        distance = _l1(x, self._generate(code, training))
        code_logits = networks.logits(self.code_discriminator, code, None, training)
        ratio = self.adversarial_loss.generator(code_logits)
        return {"encoder": self.lambda_ * distance + ratio}, {}

    def adversarial_objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> Iterator[tuple[dict, dict]]:
        code_seed, first_seed, second_seed, *label_seeds = tfp.random.split_seed(seed, 8)
        loss = self.adversarial_loss
        # One seed for each call of D, and for the penalty the seed of its real images.
        views = tfp.random.split_seed(tf.random.experimental.stateless_fold_in(seed, 2), 5)

        def discriminate(images, view=views[2]):
            images = augmented(images, self.augment, view, training)
            return networks.logits(self.discriminator, images, None, training)

        def discriminate_codes(codes):
            return networks.logits(self.code_discriminator, codes, None, training)

        code = tf.stop_gradient(self._encode(x, y, code_seed, training))
        z = self.prior.sample_for(x, y, first_seed)
        reconstruction, sample = self._generate(code, training), self._generate(z, training)
        distance = _l1(x, reconstruction)
        ratios = loss.generator(discriminate(reconstruction, views[0]))
        ratios += loss.generator(discriminate(sample, views[1]))
        yield {"generator": self.lambda_ * distance + ratios}, {"reconstruction": distance}

        # The generator now has its updated weights.
        z = self.prior.sample_for(x, y, second_seed)
        reconstruction, sample = (
            tf.stop_gradient(self._generate(latents, training)) for latents in (code, z)
        )
        penalties = {}
        if self.penalty is None:
            real_logits, prior_logits = discriminate(x), discriminate_codes(z)
        else:
            seeds = tfp.random.split_seed(tf.random.experimental.stateless_fold_in(seed, 1), 2)
            real_logits, image_penalty = self.penalty(discriminate, x, sample, seeds[0])
            prior_logits, code_penalty = self.penalty(discriminate_codes, z, code, seeds[1])
            penalties = {"penalty": image_penalty, "code_penalty": code_penalty}
        reconstruction_logits = discriminate(reconstruction, views[3])
        sample_logits = discriminate(sample, views[4])
        code_logits = discriminate_codes(code)
        losses = {
            "discriminator": loss.real(real_logits, label_seeds[0])
            + loss.fake(reconstruction_logits, label_seeds[1])
            + loss.fake(sample_logits, label_seeds[2]),
            "code_discriminator": loss.real(prior_logits, label_seeds[3])
            + loss.fake(code_logits, label_seeds[4]),
        }
        if penalties:
            losses["discriminator"] += penalties["penalty"]
            losses["code_discriminator"] += penalties["code_penalty"]
        yield (
            losses,
            {
                "real_logit": real_logits,
                "reconstruction_logit": reconstruction_logits,
                "sample_logit": sample_logits,
                "prior_logit": prior_logits,
                "code_logit": code_logits,
            }
            | penalties,
        )

    def _encode(self, x, y, seed, training):
        return self.posterior(x, y, training=training).sample(seed=seed)

    def _generate(self, z, training):
        return tf.cast(self.generator(z, training=training), tf.float32)


def _l1(x, reconstruction):
    return tf.reduce_sum(tf.abs(x - reconstruction), [1, 2, 3])


@extends(
    parts,
    without=("condition", "features"),
    width=64,
    posterior="deterministic",
    loss="log_ratio",
)
def alpha_gan(
    image_shape: Sequence[int],
    *,
    latent_dim: int = 20,
    spectral_norm: bool = False,
    code_discriminator_hidden: Sequence[int] = (750, 750),
    lambda_: float = 1.0,
    start_at_mean: bool = True,
    **options: Any,
) -> AlphaGAN:
    """An `AlphaGAN` of perceptrons, or with the paper's generator and discriminator of DCGAN.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        spectral_norm: Whether both discriminators have spectral normalization, which requires
            `batch_norm=False`.
        code_discriminator_hidden: Units of the code discriminator's hidden layers, which have leaky
            ReLU of slope 0.2; two of 750 in the paper.
        lambda_: Weight of the L1 distance, summed over pixels.
        start_at_mean: Whether the generator starts at the mean of the training images: see
            `zoo.mean_start`.
        **options: The other options of `zoo.models.vaegan`, without `condition`, `beta`, `gamma`,
            `margin` and `joint_batch`; and `posterior_noise_dim` and `posterior_bases`, the sizes
            of the posteriors "implicit" and "noise_basis".

    Raises:
        ValueError: If a name is unknown, a number is out of range, or options do not fit together.

    Example:
        >>> model = zoo.models.alpha_gan((8, 8, 1), latent_dim=4, posterior="normal")
        >>> model.sample(3).shape
        TensorShape([3, 8, 8, 1])
    """
    code_discriminator = networks.mlp(latent_dim, 1, code_discriminator_hidden, "leaky_relu")
    if spectral_norm:
        code_discriminator = networks.spectrally_normalized(code_discriminator)
    return AlphaGAN(
        **parts(image_shape, latent_dim=latent_dim, spectral_norm=spectral_norm, **options),
        code_discriminator=code_discriminator,
        lambda_=lambda_,
        start_at_mean=start_at_mean,
    )
