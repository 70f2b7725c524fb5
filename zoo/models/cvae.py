"""Conditional variational autoencoder.

Sohn et al., "Learning Structured Output Representation using Deep Conditional Generative Models",
2015. https://papers.nips.cc/paper/5775

Notes:
    The paper predicts y from x. In the zoo, a model generates `x`, and `y` is the condition, so the
    letters are exchanged: the paper's p(y | x, z), p(z | x) and q(z | x, y) are p(x | z, y),
    p(z | y) and q(z | x, y) here.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.config import choices, extends
from zoo.distributions import (
    Completion,
    Conditional,
    ConditionalPrior,
    DiagonalNormal,
    Prior,
    by_name,
    need_differentiable_draws,
)
from zoo.mean_start import Start
from zoo.model import Array
from zoo.models import elbo
from zoo.models.predictor import completion
from zoo.models.vae import VAE, vae
from zoo.schedules import Schedule

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class CVAE(VAE):
    """A VAE of x given y, and its mixture with a Gaussian stochastic network (GSNN).

    Maximises alpha L_CVAE + (1 - alpha) L_GSNN, the paper's section 4.2, with

        L_CVAE = E_{q(z | x, y)}[log p(x | z, y)] - KL(q(z | x, y) || p(z | y))      (eq. 5)
        L_GSNN = E_{p(z | y)}[log p(x | z, y)],

    each estimated with `num_samples` draws. Both are lower bounds on log p(x | y); for L_GSNN this
    is Jensen's inequality. Both bounds train the prior: L_CVAE through the KL, and L_GSNN through
    its draws.

    `distortion` and `rate` of L_CVAE are reported if alpha > 0, and `prior_distortion`, which is
    -L_GSNN, if alpha < 1. With alpha = 0 the posterior is not part of the model: it belongs to no
    player, the model cannot encode, and `log_prob` draws from the prior.

    Conditions are labels, attributes or any other `y` that the networks take. If the condition is a
    part of the image, use a `Completion` as the likelihood: all losses and densities are then those
    of the hidden values.

    The prior may have a `baseline`, a deterministic prediction of x that the prior network receives
    together with y. The baseline is then a separate player, whose loss is its own -log p(x | y); no
    other loss has gradients in its weights. A baseline with `trainable=False`, such as the
    likelihood of a trained `Predictor`, is fixed and not a player.

    Args:
        posterior: q(z | x, y), a `Conditional` whose network takes `[x, y]`, or only `x`.
        likelihood: p(x | z, y), a `Conditional` on `z[..., B, D]`, or a `Completion`.
        prior: p(z | y), a `ConditionalPrior`; or any other `Prior`, which ignores y.
        alpha: Weight of L_CVAE, in [0, 1].
        num_samples, rate_weight, free_bits: As for `VAE`; the last two affect only L_CVAE.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If `alpha` is not in [0, 1], or `alpha` is 0 and `rate_weight` or `free_bits` is
            set.

    Example:
        >>> model = zoo.models.cvae((8, 8, 1), latent_dim=4, hidden=(16,))
        >>> model.compile("adam")
        >>> x, y = zoo.datasets.load("digits", binarize="fixed").arrays("train")
        >>> history = model.fit(x, y, verbose=0)
        >>> model.sample(2, y=[3, 7]).shape
        TensorShape([2, 8, 8, 1])
    """

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        alpha: float = 1.0,
        num_samples: int = 1,
        rate_weight: float | Schedule = 1.0,
        free_bits: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(
            posterior, likelihood, prior, num_samples, rate_weight, free_bits, **kwargs
        )
        if not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` must be in [0, 1]. Received: {alpha}.")
        if alpha == 0 and (rate_weight != 1 or free_bits):
            raise ValueError(
                "With alpha=0 the objective has no rate: leave out `rate_weight`, `warm_up_steps` "
                f"and `free_bits`. Received: rate_weight={rate_weight}, free_bits={free_bits}."
            )
        if alpha < 1:
            need_differentiable_draws(prior, "a CVAE with alpha below 1")
        if alpha == 0:  # No player owns the posterior.
            posterior.trainable = posterior.network.trainable = False
        self.alpha = alpha

    @property
    def terms(self):
        of_cvae = ("distortion", "rate") if self.alpha > 0 else ()
        return of_cvae + (("prior_distortion",) if self.alpha < 1 else ())

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        prior, baseline = [self.prior], self._learning_baseline
        if baseline is not None or getattr(self.prior, "baseline", None) is not None:
            prior = [self.prior.network, self.prior.family]
        posterior = [self.posterior] if self.alpha > 0 else []
        players = {"vae": [*posterior, self.likelihood, *prior]}
        return players | ({} if baseline is None else {"baseline": [baseline]})

    @property
    def _learning_baseline(self):
        baseline = getattr(self.prior, "baseline", None)
        return baseline if baseline is not None and baseline.trainable_variables else None

    def mean_starts(self) -> list[Start]:
        baseline = getattr(self.prior, "baseline", None)
        of_baseline = [] if baseline is None else [Start(baseline.network, baseline.family)]
        return super().mean_starts() + of_baseline

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        loss = 0.0
        terms: dict[str, tf.Tensor] = {}
        if self.alpha > 0:
            losses, terms = super().objective(x, y, seed, training)
            loss = self.alpha * losses["vae"]
        if self.alpha < 1:
            seed = tf.random.experimental.stateless_fold_in(seed, 1)
            z = self._prior_over(x, y, training).sample(self.num_samples, seed=seed)
            log_prob = self.likelihood(z, y, training=training).log_prob(x)
            terms = terms | {"prior_distortion": -elbo.mean_over_draws(log_prob)}
            loss += (1 - self.alpha) * terms["prior_distortion"]
        losses = {"vae": loss}
        if (baseline := self._learning_baseline) is not None:
            losses["baseline"] = -baseline(y, y, training=training).log_prob(x)
        return losses, terms

    def _prior_over(self, x, y, training=False):
        """p(z | y) with batch shape `[B]`, even if the prior ignores y."""
        p = self.prior(y, training=training)
        return p if p.batch_shape.rank else tfd.BatchBroadcast(p, tf.shape(x)[:1])

    @property
    def can_encode(self) -> bool:
        return self.alpha > 0

    @property
    def latent_dim(self) -> int:
        return int(self.likelihood.network.inputs[0].shape[-1])

    @property
    def log_prob_method(self):
        return "importance sampling" if self.alpha > 0 else "Monte Carlo"

    def log_prob(
        self, x: Array, num_samples: int = 100, y: Any = None, seed: Any = None
    ) -> tf.Tensor:
        """log p(x | y) `[B]` in nats, estimated with `num_samples` importance samples.

        The draws are from q(z | x, y), or from the prior if alpha = 0. With a `Completion`, the
        value is log p(hidden part | y).
        """
        if self.alpha == 0:
            return self.log_prob_from_prior(x, num_samples, y, seed)
        return super().log_prob(x, num_samples, y, seed)

    def log_prob_from_prior(
        self, x: Array, num_samples: int = 100, y: Any = None, seed: Any = None
    ) -> tf.Tensor:
        """log p(x | y) `[B]` by plain Monte Carlo: log (1/K) sum_k p(x | z_k, y), z_k ~ p(z | y).

        This is the paper's "MC". As with importance sampling, the estimate of p(x | y) is unbiased,
        but its variance is much larger.
        """
        x = self._images(x)
        y = self.condition_for(x, y)
        return elbo.importance_sampled(self, x, y, self._prior_over(x, y), num_samples, seed)


@choices(
    prior=by_name.PRIORS | {"conditional": ("baseline_hidden",)},
    condition={
        "label": ("condition_size",),
        "attributes": ("condition_size",),
        "seen": (),
        "image": ("condition_size",),
    },
)
@extends(vae, latent_dim=50, hidden=(500, 500))
def cvae(
    image_shape: Sequence[int],
    *,
    condition: str = "label",
    condition_size: int = 0,
    prior: str = "normal",
    baseline_hidden: Sequence[int] = (),
    alpha: float = 1.0,
    **options: Any,
) -> CVAE:
    """A `CVAE` whose encoder and decoder take the condition as a second input.

    It has the options of `vae`, and:

    Args:
        condition: The kind of y: "label" (ints `[B]`), "attributes" (`[B, A]`), "seen"
            (`[B, H, W, C]`, the seen part of the image and -1 elsewhere), or "image"
            (`[B, H / K, W / K, C]`, the image, smaller by a factor K). With "seen" the model generates
            the hidden part.
        condition_size: Number of classes, 0 for 10; number of attributes A, at least 1; or the factor K
            of "image", at least 2.
        prior: As for `vae`, or "conditional" for p(z | y) with a network of y.
        baseline_hidden: Hidden units of a deterministic prediction that the conditional prior
            receives; () for none. Only for the condition "seen".
        alpha: 1 for the CVAE, 0 for the GSNN, or a number between 0 and 1.

    Raises:
        ValueError: If a name is unknown, or options do not fit together.
    """
    by_name.check_density(options.get("posterior", "normal"), "A CVAE")
    y = networks.condition(condition, condition_size, image_shape)
    if baseline_hidden and condition != "seen":
        raise ValueError(
            "`baseline_hidden` is for a prediction of the hidden part of an image: it needs "
            f"condition='seen'. Received: condition='{condition}', baseline_hidden={baseline_hidden}."
        )
    unconditional = "normal" if prior == "conditional" else prior
    parts = elbo.parts(image_shape, condition=y, prior=unconditional, **options)
    if prior == "conditional":
        parts["prior"] = _conditional_prior(image_shape, y, baseline_hidden, **options)
    if condition == "seen":
        parts["likelihood"] = Completion(parts["likelihood"].network, parts["likelihood"].family)
    return CVAE(**parts, alpha=alpha)


def _conditional_prior(
    image_shape,
    condition,
    baseline_hidden,
    *,
    latent_dim,
    hidden,
    network="mlp",
    filters=(32, 64),
    activation="relu",
    likelihood="bernoulli",
    levels=256,
    **options,
):
    family = DiagonalNormal()

    def prior_network(shape):
        outputs = family.num_params(latent_dim)
        kind = network if len(shape) == 3 else "mlp"
        return networks.encoder(kind, shape, outputs, hidden, filters, activation)

    if not baseline_hidden:
        size = image_shape[:2] if network != "mlp" else None
        return ConditionalPrior(networks.of_condition(prior_network, condition, size), family)
    baseline = completion(
        image_shape,
        hidden=baseline_hidden,
        activation=activation,
        likelihood=likelihood,
        levels=levels,
    )
    both = networks.conditioned(prior_network, image_shape, condition, channels=network != "mlp")
    return ConditionalPrior(both, family, baseline)
