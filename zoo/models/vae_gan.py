"""VAE/GAN.

Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016.
https://arxiv.org/abs/1512.09300
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import AdversarialLoss, Minimax, adversarial_loss
from zoo.distributions import Conditional, DiagonalNormal, Prior, StandardNormal, UnitNormal, kl
from zoo.model import GenerativeModel, as_images


@keras.saving.register_keras_serializable("zoo")
class VAEGAN(GenerativeModel):
    """A VAE whose likelihood is a unit normal on features of a GAN's discriminator.

    One forward pass serves all three players, as in the paper's Algorithm 1:

    - the encoder minimises rate + distortion;
    - the decoder minimises gamma * distortion + what the adversarial loss asks for making its
      reconstructions and its samples from the prior pass for real;
    - the discriminator tells data from reconstructions and from samples.

    So no adversarial gradient reaches the encoder, and no distortion's the discriminator: as each
    player's gradient is taken for its own variables only, nothing needs to be cut, but for one
    place. The features of the data are a target, and hold still (`tf.stop_gradient`), as in the
    authors' code.

    Where the paper and the authors' code differ: Algorithm 1 prints the discriminator's and the
    decoder's adversarial terms with the sign of L_GAN turned round; here, as in the code, the
    discriminator maximises L_GAN and the decoder minimises it. The code scales the decoder's
    adversarial term by 1 - w and its distortion by w (1e-6 for faces), which gamma = w / (1 - w)
    reproduces up to a factor on the whole. Both sum the distortion over features, so the value of
    gamma belongs to their number.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`.
        decoder: Network from `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]`.
        discriminator: Network from `x[B, H, W, C]` to `(features[B, F], logits[B, 1])`: the paper's
            Dis_l(x), and the decision, high for real. Which layer l is the network's choice. The
            authors' code takes the third strided convolution before its normalization; the zoo's
            `dcgan_discriminator` takes the last one after it, because unit variance is what the
            likelihood assumes: features much smaller than that leave the rate to outweigh the
            distortion, and the posterior collapses. `mlp_discriminator`, which has no
            normalization, takes its last hidden layer.
        adversarial_loss: An `AdversarialLoss`; `Minimax()`, as in the paper, if `None`.
        gamma: Weight of the distortion against fooling, for the decoder, at least 0.

    Raises:
        ValueError: If gamma is less than 0.
    """

    terms = ("distortion", "rate", "real_logit", "reconstruction_logit", "sample_logit")

    def __init__(
        self,
        posterior: Conditional,
        decoder: keras.Model,
        prior: Prior,
        discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        gamma: float = 1e-3,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not gamma >= 0:
            raise ValueError(f"`gamma` must be at least 0. Received: {gamma}.")
        self.posterior = posterior
        self.decoder = decoder
        self.prior = prior
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss or Minimax()
        self.gamma = gamma

    def players(self):
        return {
            "encoder": [self.posterior],
            "decoder": [self.decoder],
            "discriminator": [self.discriminator],
        }

    def objective(self, x, y, seed, training):
        z_seed, prior_seed, *label_seeds = tfp.random.split_seed(seed, 5)
        q = self.posterior(x, y, training=training)
        z = q.sample(seed=z_seed)
        z_prior = self.prior(y).sample(tf.shape(x)[0], seed=prior_seed)
        made = tf.cast(self.decoder(tf.concat([z, z_prior], 0), training=training), tf.float32)
        features, logits = self.discriminator(tf.concat([x, made], 0), training=training)
        target, feature, _ = tf.split(tf.cast(features, tf.float32), 3)
        real, reconstruction, sample = tf.split(tf.cast(logits[:, 0], tf.float32), 3)

        rate = kl(q, self.prior(y), z)
        distortion = -UnitNormal()(feature, 1).log_prob(tf.stop_gradient(target))
        fooling = self.adversarial_loss.fool(reconstruction) + self.adversarial_loss.fool(sample)
        telling = (
            self.adversarial_loss.real(real, label_seeds[0])
            + self.adversarial_loss.fake(reconstruction, label_seeds[1])
            + self.adversarial_loss.fake(sample, label_seeds[2])
        )
        return {
            "encoder": rate + distortion,
            "decoder": self.gamma * distortion + fooling,
            "discriminator": telling,
        }, {
            "distortion": distortion,
            "rate": rate,
            "real_logit": real,
            "reconstruction_logit": reconstruction,
            "sample_logit": sample,
        }

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.decoder(z))


def vaegan_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    hidden: Sequence[int] = (500,),
    discriminator_hidden: Sequence[int] = (240, 240),
    loss: str = "minimax",
    gamma: float = 0.1,
) -> VAEGAN:
    """A `VAEGAN` of multilayer perceptrons; features are the discriminator's last hidden layer."""
    return VAEGAN(
        Conditional(networks.mlp_encoder(image_shape, 2 * latent_dim, hidden), DiagonalNormal()),
        networks.mlp_decoder(
            latent_dim, image_shape, hidden=hidden[::-1], output="sigmoid", batch_norm=True
        ),
        StandardNormal(latent_dim),
        networks.mlp_discriminator(image_shape, discriminator_hidden, features=True),
        adversarial_loss(loss),
        gamma,
    )


def vaegan_conv(
    image_shape: Sequence[int],
    latent_dim: int = 64,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    width: int = 32,
    loss: str = "minimax",
    gamma: float = 1e-2,
) -> VAEGAN:
    """A convolutional `VAEGAN`: DCGAN's networks, features from the last strided convolution."""
    return VAEGAN(
        Conditional(
            networks.conv_encoder(image_shape, 2 * latent_dim, filters, hidden), DiagonalNormal()
        ),
        networks.dcgan_generator(latent_dim, image_shape, width),
        StandardNormal(latent_dim),
        networks.dcgan_discriminator(image_shape, width, features=True),
        adversarial_loss(loss),
        gamma,
    )
