"""Variational autoencoder.

Kingma and Welling, "Auto-Encoding Variational Bayes", 2014. https://arxiv.org/abs/1312.6114
Rezende et al., "Stochastic Backpropagation and Approximate Inference in Deep Generative Models",
2014. https://arxiv.org/abs/1401.4082
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import chains
from zoo.config import extends, with_article
from zoo.contract import as_count, check_non_negative
from zoo.distributions import Conditional, Prior, kl, need_density
from zoo.model import Array, GenerativeModel, Signature, as_seed
from zoo.models import elbo
from zoo.schedules import Schedule, check_weight, value_at

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class VAE(GenerativeModel):
    """Maximises the evidence lower bound, E_q[log p(x | z)] - KL(q(z | x) || p(z)).

    The bound is eq. 7 of Kingma and Welling, 2014, with L = `num_samples` draws of z. The loss is
    the sum of `distortion`, -E_q[log p(x | z)], and `rate`, the KL, in nats per image, summed over
    pixels and latents; -loss is a lower bound on log p(x). The KL is exact if its formula is known
    (appendix B of the paper for two normals), and otherwise estimated at the same z.

    In training the rate may have a weight (`rate_weight`), such as a warm-up, and `free_bits`. In
    evaluation the weight is 1, so that the loss of validation data is the negative bound.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`.
        likelihood: p(x | z), a `Conditional` on `z[..., B, D]`, over `x[..., B, H, W, C]`.
        prior: p(z), a `Prior` over `z[D]` with a density. A prior that `zoo.expost` has fitted may
            lack a density: the model then has no bound and no `log_prob`, and is not trained.
        num_samples: Draws of z per image, at least 1, over which the bound is averaged.
        rate_weight: Weight of the rate in training, a number of at least 0 or a
            `zoo.schedules.Schedule`.
        free_bits: Nats of rate per latent dimension without extra cost, at least 0: see
            `zoo.models.elbo.with_free_bits`.

    Raises:
        ValueError: If a number is out of range, if the posterior or the prior has no density, or if
            `free_bits` is set and the latents are not independent.

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

    terms: tuple[str, ...] = ("distortion", "rate")
    signatures: Mapping[str, Signature] = {
        **GenerativeModel.signatures,
        "complete": Signature(("x", "seen", "steps"), ("images", "acceptance")),
    }

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        num_samples: int = 1,
        rate_weight: float | Schedule = 1.0,
        free_bits: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_weight(rate_weight, "rate_weight")
        check_non_negative(free_bits=free_bits)
        prior.bind(posterior)
        # A fitted prior is for sampling a model that has been trained with another prior.
        for part in (posterior,) if prior.is_fitted else (posterior, prior):
            need_density(part, f"{with_article(type(self).__name__)}")
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior
        self.num_samples = as_count(num_samples, "num_samples")
        self.rate_weight = rate_weight
        self.free_bits = free_bits
        if free_bits:
            elbo.check_free_bits(self)

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {"vae": [self.posterior, self.likelihood, self.prior]}

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        terms = self.elbo_terms(x, y, seed, training)
        return {"vae": terms.distortion + terms.charged_rate}, terms.reported()

    def elbo_terms(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> elbo.Terms:
        """The terms of the bound, for subclasses whose objectives extend the bound."""
        q, z = self.draw_latents(x, y, seed, training)
        return self.terms_at(q, z, x, y, training)

    def terms_at(
        self, q: tfd.Distribution, z: tf.Tensor, x: tf.Tensor, y: Any, training: bool
    ) -> elbo.Terms:
        """The terms of the bound for the posterior `q` and draws `z[K, B, D]` from it."""
        p = self.prior(y, training=training)
        log_prob = self.likelihood(z, y, training=training).log_prob(x)
        distortion = -elbo.mean_over_draws(log_prob)
        rate = charged = elbo.mean_over_draws(kl(q, p, z))
        if training and self.free_bits:
            charged = elbo.with_free_bits(q, p, self.free_bits)
        return elbo.Terms(q, p, z, distortion, rate, self.charge(charged, training))

    def draw_latents(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> tuple[tfd.Distribution, tf.Tensor]:
        """q(z | x), and `num_samples` draws from it, `[K, B, D]`."""
        q = self.posterior(x, y, training=training)
        return q, q.sample(self.num_samples, seed=seed)

    def charge(self, rate: tf.Tensor, training: bool) -> tf.Tensor:
        """The term `[B]` that replaces the rate in the loss: by default the weighted rate."""
        return self.weight_of_rate(training) * rate

    def weight_of_rate(self, training: bool) -> Any:
        """`rate_weight` at the current step in training, and 1 in evaluation."""
        return value_at(self.rate_weight, self.step) if training else 1.0

    def log_prob(
        self, x: Array, num_samples: int = 100, y: Any = None, seed: Any = None
    ) -> tf.Tensor:
        """log p(x) `[B]` in nats, estimated with `num_samples` importance samples from q(z | x).

        See `zoo.models.elbo.importance_sampled`. For many samples, call this method in a
        `tf.function`, as `zoo.metrics.negative_log_likelihood` does.
        """
        x = self._images(x)
        y = self.condition_for(x, y)
        return elbo.importance_sampled(self, x, y, self.posterior(x, y), num_samples, seed)

    def abilities(self) -> tuple[str, ...]:
        own = ("complete",) if chains.can_sample_conditional(self) else ()
        inherited = super().abilities()
        if not self.prior.has_density:
            inherited = tuple(name for name in inherited if name != "log_prob")
        return (*inherited, *own)

    def complete(
        self, x: Array, seen: Array, *, steps: int = 500, y: Any = None, seed: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Completions of images by Metropolis-within-Gibbs, one for each image.

        This is the method "metropolis" of `zoo.inference.complete` for graphs, so that exported models
        have it. A call outside of a `tf.function` is a loop in Python: `zoo.inference.complete` is
        faster there.

        Args:
            x: Images `[B, H, W, C]` in [0, 1]. Hidden values have no effect.
            seen: Which values are seen, bools `[B, H, W, C]`, or with one channel for all channels.
            steps: Number of steps of the chains, at least 11. The first 10 accept every proposal.
            y: A condition for each image, or one for all, if the model takes a condition.
            seed: An int or a `[2]` int tensor for repeatable draws; `None` for new draws.

        Returns:
            Images `[B, H, W, C]` in which the hidden values are the mean of p(x | z, y) at the end of
            the chain; and the share of accepted proposals after the first 10, `[B]`.

        Raises:
            ValueError: If an argument is out of range, `seen` does not consist of bools, or a part
                of the model lacks the density that the method needs.

        Example:
            >>> model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(16,))
            >>> x, _ = zoo.datasets.load("digits", binarize="fixed").arrays("test", 10)
            >>> left = zoo.datasets.named_mask("half:left", (8, 8))
            >>> images, acceptance = model.complete(x, left, steps=20)
            >>> images.shape, acceptance.shape
            (TensorShape([10, 8, 8, 1]), TensorShape([10]))
        """
        if not chains.can_sample_conditional(self):
            raise ValueError(
                "Metropolis-within-Gibbs needs a posterior, a likelihood and a prior with "
                "densities, and a likelihood under which the values of an image are independent "
                "given z. Received: "
                f"{with_article(type(self).__name__)} with another part."
            )
        x = self._images(x)
        steps = as_count(steps, "steps", chains.WARM_UP + 1)
        seen = tf.convert_to_tensor(seen)
        if seen.dtype != tf.bool:
            raise ValueError(f"Expected the mask `seen` of bools. Received: {seen.dtype.name}.")
        seen = tf.broadcast_to(seen, tf.shape(x))
        y = self.condition_for(x, y)
        start = chains.filled(x, tf.ensure_shape(seen, x.shape))
        _, z, acceptance = chains.ends(
            self, start, seen, y, as_seed(seed), steps, chains.WARM_UP, exact=True
        )
        return tf.where(seen, x, self.decode(z, y)), acceptance

    def tensor_specs(self) -> dict[str, tf.TensorSpec]:
        height, width, _ = self.image_shape
        return super().tensor_specs() | {
            "seen": tf.TensorSpec([None, height, width, None], tf.bool),
            "steps": tf.TensorSpec([], tf.int32),
            "acceptance": tf.TensorSpec([None], tf.float32),
        }

    def tensor_ranges(self) -> dict[str, tuple[float | None, float | None]]:
        return super().tensor_ranges() | {
            "steps": (chains.WARM_UP + 1, None),
            "acceptance": (0.0, 1.0),
        }


@extends(elbo.parts, without=("condition",))
def vae(image_shape: Sequence[int], **options: Any) -> VAE:
    """A `VAE` from named networks and parts. The options are those of `zoo.models.elbo.parts`.

    Example:
        >>> model = zoo.models.vae((8, 8, 1), latent_dim=2, posterior="iaf", prior="realnvp")
        >>> model.latent_dim
        2
    """
    return VAE(**elbo.parts(image_shape, **options))
