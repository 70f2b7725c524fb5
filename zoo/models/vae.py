"""Variational autoencoder.

Kingma and Welling, "Auto-Encoding Variational Bayes", 2014. https://arxiv.org/abs/1312.6114
Rezende et al., "Stochastic Backpropagation and Approximate Inference in Deep Generative Models",
2014. https://arxiv.org/abs/1401.4082
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo import networks
from zoo.distributions import (
    Conditional,
    DiagonalNormal,
    Prior,
    StandardNormal,
    kl,
    likelihood_family,
)
from zoo.model import GenerativeModel, as_images, as_seed


@keras.saving.register_keras_serializable("zoo")
class VAE(GenerativeModel):
    """Maximises the ELBO, E_q[log p(x | z)] - KL(q(z | x) || p(z)), with one draw of z.

    The two terms are reported as `distortion` and `rate`, in nats per image: summed over pixels and
    latents, so that -loss is a lower bound on log p(x). The KL is exact where a formula is known
    (the paper's appendix B for two normals), else its estimate at the same z.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`.
        likelihood: p(x | z), a `Conditional` on `z[..., B, D]`, over `x[..., B, H, W, C]`.
        prior: p(z), a `Prior` over `z[D]`.

    Example:
        >>> model = zoo.VAE(
        ...     zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 2 * 5), zoo.DiagonalNormal()),
        ...     zoo.Conditional(zoo.networks.mlp_decoder(5, (8, 8, 1)), zoo.Bernoulli()),
        ...     zoo.StandardNormal(5),
        ... )
        >>> model.compile("adam")
        >>> x, _ = zoo.datasets.load("digits", binarize="fixed").arrays("train")
        >>> history = model.fit(x, epochs=2, verbose=0)
        >>> model.sample(3).shape
        TensorShape([3, 8, 8, 1])
    """

    terms = ("distortion", "rate")

    def __init__(self, posterior: Conditional, likelihood: Conditional, prior: Prior, **kwargs):
        super().__init__(**kwargs)
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior

    def players(self):
        return {"vae": [self.posterior, self.likelihood, self.prior]}

    def objective(self, x, y, seed, training):
        q = self.posterior(x, y, training=training)
        z = q.sample(seed=seed)
        distortion = -self.likelihood(z, y, training=training).log_prob(x)
        rate = kl(q, self.prior(y), z)
        return {"vae": distortion + rate}, {"distortion": distortion, "rate": rate}

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(self.likelihood(z, y).mean())

    def log_prob(self, x, num_samples: int = 100, y=None, seed=None) -> tf.Tensor:
        """log p(x) `[B]` in nats, estimated with `num_samples` importance samples from q(z | x).

        log (1/K) sum_k p(x, z_k) / q(z_k | x): in expectation a lower bound that rises with K to
        log p(x) (Burda et al., "Importance Weighted Autoencoders", 2016, theorem 1).
        https://arxiv.org/abs/1509.00519

        For many samples call it in a `tf.function`, as `zoo.metrics.negative_log_likelihood` does.
        """
        if isinstance(num_samples, int) and num_samples < 1:
            raise ValueError(f"`num_samples` must be at least 1. Received: {num_samples}.")
        x = self._images(x)
        q, p = self.posterior(x, y), self.prior(y)
        seed = as_seed(seed)

        def another(k, total):
            # One sample at a time: memory does not grow with K, and a batch fills the machine.
            z = q.sample(seed=tf.random.experimental.stateless_fold_in(seed, k))
            log_weight = self.likelihood(z, y).log_prob(x) + p.log_prob(z) - q.log_prob(z)
            return k + 1, tf.experimental.numpy.logaddexp(total, log_weight)

        start = tf.fill(tf.shape(x)[:1], -float("inf"))
        start.set_shape(x.shape[:1])
        _, total = tf.while_loop(lambda k, _: k < num_samples, another, (0, start))
        return total - tf.math.log(tf.cast(num_samples, tf.float32))


def vae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    hidden: Sequence[int] = (500,),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> VAE:
    """A `VAE` of multilayer perceptrons; `hidden` is the encoder's, the decoder's mirrors it."""
    family = likelihood_family(likelihood, levels)
    decoder = networks.mlp_decoder(
        latent_dim, image_shape, family.params_per_value, hidden[::-1], activation
    )
    return VAE(
        Conditional(
            networks.mlp_encoder(image_shape, 2 * latent_dim, hidden, activation),
            DiagonalNormal(),
        ),
        Conditional(decoder, family),
        StandardNormal(latent_dim),
    )


def vae_conv(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> VAE:
    """A convolutional `VAE`; `filters` are the encoder's, the decoder's mirror them."""
    family = likelihood_family(likelihood, levels)
    decoder = networks.conv_decoder(
        latent_dim, image_shape, family.params_per_value, filters[::-1], hidden
    )
    return VAE(
        Conditional(
            networks.conv_encoder(image_shape, 2 * latent_dim, filters, hidden), DiagonalNormal()
        ),
        Conditional(decoder, family),
        StandardNormal(latent_dim),
    )
