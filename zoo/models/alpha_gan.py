"""alpha-GAN.

Rosca et al., "Variational Approaches for Auto-Encoding Generative Adversarial Networks", 2017.
https://arxiv.org/abs/1706.04987
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import AdversarialLoss, LogRatio, adversarial_loss
from zoo.distributions import (
    Conditional,
    Deterministic,
    ImplicitPart,
    Prior,
    StandardNormal,
    refuse_learned,
)
from zoo.model import GenerativeModel, Round, as_images


@keras.saving.register_keras_serializable("zoo")
class AlphaGAN(GenerativeModel):
    """An autoencoder with two discriminators: of images in place of a likelihood, and of codes.

    Algorithm 1 of the paper, with zh = E(x), xh = G(zh) and z from the prior:

        encoder:            lambda |x - xh|_1 + R_C(zh)
        generator:          lambda |x - xh|_1 + R_D(xh) + R_D(G(z))
        discriminator:      -log D(x) - log(1 - D(xh)) - log(1 - D(G(z)))
        code discriminator: -log C(z) - log(1 - C(zh))

    where R(.) = -log D + log(1 - D), minus the logit (`zoo.adversarial.LogRatio`): R_C is the ratio
    estimate of log q(z) / p(z) of the codes' distribution q, high where C sees through, and the L1
    distance stands for a Laplace likelihood of scale 1 / lambda. A prior's draw is what C takes for
    real. D has two kinds of fake images for one of real ones, so that its best logit is
    log p_data / (p_rec + p_gen), of the densities of data, reconstructions and samples, and R_D
    estimates log (p_rec + p_gen) / p_data. Where all three are the same, D is 1/3 for each image and
    pays 3 log 3 - 2 log 2; R_D is log 2 for any image, and draws the generator nowhere.

    The first version on arXiv has prior and code the other way round in the loss of C
    (equations 16 and 17): with that sign the encoder would be driven away from the prior. These are
    the corrected ones.

    The four players move one after the other, as the authors' do: the encoder, the generator, then
    both discriminators at once, as neither sees what the other judges, each on the weights that those
    before left. Once the encoder has moved, its codes serve all the others; the prior's draws are new
    for each move. The encoder's pass makes no samples and asks no D; the generator's has no backward pass of
    the encoder, and the discriminators' none but their own.

    The L1 distance is summed over pixels and channels of images in [0, 1]; lambda belongs to that
    sum. Code which takes the mean, or images in [-1, 1], wants another lambda for the same game: the
    mean's is larger by the number of values. No loss here is a bound of anything.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`: the encoder. With the
            family `Deterministic` it is the paper's choice; an `ImplicitConditional` does as well.
        generator: Network from `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]` that does not learn. It need only be sampled.
        discriminator: Network from `x[B, H, W, C]` to logits `[B, 1]`, high for real.
        code_discriminator: Network from `z[B, D]` to logits `[B, 1]`, high for draws of the prior. It
            must do without batch normalization: the authors keep it out of C.
        adversarial_loss: An `AdversarialLoss` for both games; `LogRatio()`, as in the paper, if
            `None`. Its `generator` is R.
        lambda_: Weight of the L1 distance, at least 0.

    Raises:
        ValueError: If lambda_ is out of range, the prior learns, or the code discriminator normalizes
            batches.
    """

    terms = (
        "reconstruction",
        "real_logit",
        "reconstruction_logit",
        "sample_logit",
        "prior_logit",
        "code_logit",
    )

    def __init__(
        self,
        posterior: Conditional | ImplicitPart,
        generator: keras.Model,
        prior: Prior,
        discriminator: keras.Model,
        code_discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        lambda_: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= lambda_ < math.inf:
            raise ValueError(f"`lambda_` must be a number from 0 on. Received: {lambda_}.")
        norms = [
            layer.name
            for layer in code_discriminator._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        if norms:
            raise ValueError(
                "The code discriminator must do without batch normalization, which would tell codes "
                f"from draws of the prior by their company. Received: a network with {norms[0]}."
            )
        self.posterior = posterior
        self.generator = generator
        refuse_learned(prior, "an AlphaGAN")
        self.prior = prior
        self.discriminator = discriminator
        self.code_discriminator = code_discriminator
        self.adversarial_loss = adversarial_loss or LogRatio()
        self.lambda_ = lambda_

    def players(self):
        return {
            "encoder": [self.posterior],
            "generator": [self.generator],
            "discriminator": [self.discriminator],
            "code_discriminator": [self.code_discriminator],
        }

    def rounds(self):
        return [Round(self.encoder_objective), Round(self.adversarial_objective)]

    def encoder_objective(self, x, y, seed, training):
        code = self._code(x, y, seed, training)
        distance = _l1(x, self._make(code, training))
        fooled = self.adversarial_loss.generator(self._judge_code(code, training))
        return {"encoder": self.lambda_ * distance + fooled}, {}

    def adversarial_objective(self, x, y, seed, training):
        code_seed, first_seed, second_seed, *label_seeds = tfp.random.split_seed(seed, 8)
        code = tf.stop_gradient(self._code(x, y, code_seed, training))
        z = self._draws(x, y, first_seed)
        made, sample = self._make(code, training), self._make(z, training)
        distance = _l1(x, made)
        fooled = self.adversarial_loss.generator(self._judge(made, training))
        fooled += self.adversarial_loss.generator(self._judge(sample, training))
        yield {"generator": self.lambda_ * distance + fooled}, {"reconstruction": distance}

        # The generator has moved, and makes other images.
        z = self._draws(x, y, second_seed)
        made, sample = (tf.stop_gradient(self._make(latents, training)) for latents in (code, z))
        real_logit = self._judge(x, training)
        made_logit = self._judge(made, training)
        sample_logit = self._judge(sample, training)
        prior_logit = self._judge_code(z, training)
        code_logit = self._judge_code(code, training)
        real, fake = self.adversarial_loss.real, self.adversarial_loss.fake
        yield (
            {
                "discriminator": real(real_logit, label_seeds[0])
                + fake(made_logit, label_seeds[1])
                + fake(sample_logit, label_seeds[2]),
                "code_discriminator": real(prior_logit, label_seeds[3])
                + fake(code_logit, label_seeds[4]),
            },
            {
                "real_logit": real_logit,
                "reconstruction_logit": made_logit,
                "sample_logit": sample_logit,
                "prior_logit": prior_logit,
                "code_logit": code_logit,
            },
        )

    def _code(self, x, y, seed, training):
        return self.posterior(x, y, training=training).sample(seed=seed)

    def _draws(self, x, y, seed):
        """Of the prior, one for each image."""
        z = self.prior(y).sample(tf.shape(x)[0], seed=seed)
        return tf.ensure_shape(z, [x.shape[0], None])

    def _make(self, z, training):
        return tf.cast(self.generator(z, training=training), tf.float32)

    # Each kind of image apart, so that batch normalization sees either alone.
    def _judge(self, x, training):
        return tf.cast(self.discriminator(x, training=training)[:, 0], tf.float32)

    def _judge_code(self, z, training):
        return tf.cast(self.code_discriminator(z, training=training)[:, 0], tf.float32)

    @property
    def image_shape(self):
        return tuple(self.discriminator.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.generator(z))


def _l1(x, made):
    return tf.reduce_sum(tf.abs(x - made), [1, 2, 3])


def code_discriminator(latent_dim: int, hidden: Sequence[int] = (750, 750)) -> keras.Model:
    """A perceptron with leaky ReLU of slope 0.2 from codes `[B, D]` to a logit `[B, 1]`.

    The paper's, which has two hidden layers of 750.
    """
    layers = [keras.Input((latent_dim,))]
    for units in hidden:
        layers += [keras.layers.Dense(units), keras.layers.LeakyReLU(0.2)]
    layers.append(keras.layers.Dense(1, dtype="float32"))
    return keras.Sequential(layers, name="code_discriminator")


def alphagan_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    hidden: Sequence[int] = (500,),
    discriminator_hidden: Sequence[int] = (240, 240),
    code_discriminator_hidden: Sequence[int] = (750, 750),
    loss: str = "log_ratio",
    lambda_: float = 1.0,
) -> AlphaGAN:
    """An `AlphaGAN` of multilayer perceptrons, the generator with batch normalization.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        hidden: The encoder's; the generator's mirrors it.
        discriminator_hidden: Units of D's hidden layers.
        code_discriminator_hidden: Units of C's hidden layers.
        loss: Name of the adversarial loss: see `zoo.adversarial.adversarial_loss`.
        lambda_: Weight of the L1 distance, summed over pixels.

    Raises:
        ValueError: For a loss that there is not, or a number out of range.
    """
    return AlphaGAN(
        Conditional(networks.mlp_encoder(image_shape, latent_dim, hidden), Deterministic()),
        networks.mlp_decoder(
            latent_dim, image_shape, hidden=hidden[::-1], output="sigmoid", batch_norm=True
        ),
        StandardNormal(latent_dim),
        networks.mlp_discriminator(image_shape, discriminator_hidden),
        code_discriminator(latent_dim, code_discriminator_hidden),
        adversarial_loss(loss),
        lambda_,
    )


def alphagan_conv(
    image_shape: Sequence[int],
    latent_dim: int = 128,
    filters: Sequence[int] = (64, 128, 256),
    hidden: int = 256,
    width: int = 64,
    code_discriminator_hidden: Sequence[int] = (750, 750),
    loss: str = "log_ratio",
    lambda_: float = 1.0,
) -> AlphaGAN:
    """A convolutional `AlphaGAN`, with DCGAN's generator and discriminator as in the paper.

    Args:
        image_shape: Height, width, channels; 28, 32 or 64 pixels.
        latent_dim: D of the latents.
        filters: Of the encoder's convolutions, each of which halves the image.
        hidden: Units of the encoder's dense layer.
        width: Of DCGAN's networks.
        code_discriminator_hidden, loss, lambda_: As for `alphagan_mlp`.

    Raises:
        ValueError: As `alphagan_mlp`, or if the image cannot be halved so often.
    """
    return AlphaGAN(
        Conditional(
            networks.conv_encoder(image_shape, latent_dim, filters, hidden), Deterministic()
        ),
        networks.dcgan_generator(latent_dim, image_shape, width),
        StandardNormal(latent_dim),
        networks.dcgan_discriminator(image_shape, width),
        code_discriminator(latent_dim, code_discriminator_hidden),
        adversarial_loss(loss),
        lambda_,
    )
