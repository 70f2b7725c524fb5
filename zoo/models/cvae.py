"""Conditional variational autoencoder.

Sohn et al., "Learning Structured Output Representation using Deep Conditional Generative Models",
2015. https://papers.nips.cc/paper/5775

The paper predicts its y from its x. In the zoo `x` is what is generated and `y` the condition, so
that the two letters are swapped here: the paper's p(y | x, z), p(z | x) and q(z | x, y) are our
p(x | z, y), p(z | y) and q(z | x, y).
"""

import functools
import math
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.config import look_up
from zoo.distributions import (
    Completion,
    Conditional,
    ConditionalPrior,
    DiagonalNormal,
    Prior,
    StandardNormal,
    likelihood_family,
)
from zoo.model import GenerativeModel, as_images
from zoo.models.vae import VAE, mean_over_draws, warm_up
from zoo.schedules import Schedule

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class CVAE(VAE):
    """A VAE of x given y, and its mixture with a Gaussian stochastic network (GSNN).

    Maximises alpha L_CVAE + (1 - alpha) L_GSNN, the paper's section 4.2, with

        L_CVAE = E_{q(z | x, y)}[log p(x | z, y)] - KL(q(z | x, y) || p(z | y)),   a bound (eq. 5)
        L_GSNN = E_{p(z | y)}[log p(x | z, y)],

    each estimated with `num_samples` draws. L_GSNN is a lower bound on log p(x | y) too, by Jensen's
    inequality. The prior learns from both: by the KL, and by the draws of L_GSNN.

    Reported are `distortion` and `rate` of L_CVAE where alpha is above 0, and `prior_distortion`,
    which is -L_GSNN, where it is below 1. With alpha = 0 the posterior has no part in the model: it
    belongs to no player, the model cannot encode, and `log_prob` draws from the prior.

    Conditions are labels, attributes or whatever else the networks take as `y`. One that is a part
    of the image itself goes with a `Completion` as the likelihood: then all losses and densities are
    of the hidden values.

    If the prior has a `baseline`, a deterministic guess at x that it sees beside y, this is a player
    of its own: its loss is its own -log p(x | y), and neither of the above reaches it. It learns on
    the same batches, along the course that it would take alone. One that was trained before, as a
    `Predictor`, is kept as it is if its `trainable` is `False`: then it is no player. (A public
    reproduction, in Pyro's examples, does that.)

    Args:
        posterior: q(z | x, y), a `Conditional`; its network takes `[x, y]`, or `x` alone.
        likelihood: p(x | z, y), a `Conditional` on `z[..., B, D]`, or a `Completion`.
        prior: p(z | y), a `ConditionalPrior`, or any other `Prior` for one that ignores y.
        alpha: Weight of L_CVAE, in [0, 1].
        num_samples, rate_weight, free_bits: As for `VAE`; the last two are of L_CVAE alone.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If `alpha` is not in [0, 1], or is 0 and the rate is to be charged otherwise.

    Example:
        >>> cvae = zoo.models.cvae.conditional_vae_mlp((8, 8, 1), 4, (16,))
        >>> cvae.compile("adam")
        >>> x, y = zoo.datasets.load("digits", binarize="fixed").arrays("train")
        >>> history = cvae.fit(x, y, verbose=0)
        >>> cvae.sample(2, y=[3, 7]).shape
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
        **kwargs,
    ):
        super().__init__(
            posterior, likelihood, prior, num_samples, rate_weight, free_bits, **kwargs
        )
        if not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` must be in [0, 1]. Received: {alpha}.")
        if alpha == 0 and (rate_weight != 1 or free_bits):
            raise ValueError(
                "With alpha=0 there is no rate, and nothing for `rate_weight`, `warm_up_steps` or "
                f"`free_bits` to do: leave them out. Received: rate_weight={rate_weight}, "
                f"free_bits={free_bits}."
            )
        self.alpha = alpha

    @property
    def terms(self):
        of_cvae = ("distortion", "rate") if self.alpha > 0 else ()
        return of_cvae + (("prior_distortion",) if self.alpha < 1 else ())

    def players(self):
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

    def objective(self, x, y, seed, training):
        loss, terms = 0.0, {}
        if self.alpha > 0:
            losses, terms = super().objective(x, y, seed, training)
            loss = self.alpha * losses["vae"]
        if self.alpha < 1:
            # A seed beside that of the posterior's draws.
            seed = tf.random.experimental.stateless_fold_in(seed, 1)
            z = self._prior_over(x, y, training).sample(self.num_samples, seed=seed)
            log_prob = self.likelihood(z, y, training=training).log_prob(x)
            terms = terms | {"prior_distortion": -mean_over_draws(log_prob)}
            loss += (1 - self.alpha) * terms["prior_distortion"]
        losses = {"vae": loss}
        if (baseline := self._learning_baseline) is not None:
            losses["baseline"] = -baseline(y, y, training=training).log_prob(x)
        return losses, terms

    def _prior_over(self, x, y, training=False):
        """p(z | y) with a batch shape `[B]`, also where it is the same for all y."""
        p = self.prior(y, training=training)
        return p if p.batch_shape.rank else tfd.BatchBroadcast(p, tf.shape(x)[:1])

    @property
    def can_encode(self):
        return self.alpha > 0

    @property
    def latent_dim(self):
        return int(self.likelihood.network.inputs[0].shape[-1])

    @property
    def log_prob_method(self):
        return "importance sampling" if self.alpha > 0 else "Monte Carlo"

    def log_prob(self, x, num_samples: int = 100, y=None, seed=None) -> tf.Tensor:
        """log p(x | y) `[B]` in nats, estimated with `num_samples` importance samples.

        The draws are those of q(z | x, y); with alpha = 0, of the prior. Under a `Completion` it is
        log p(hidden part | y). It rises with the number of samples as that of `VAE` does.
        """
        if self.alpha == 0:
            return self.log_prob_from_prior(x, num_samples, y, seed)
        return super().log_prob(x, num_samples, y, seed)

    def log_prob_from_prior(self, x, num_samples: int = 100, y=None, seed=None) -> tf.Tensor:
        """log p(x | y) `[B]` by plain Monte Carlo: log (1/K) sum_k p(x | z_k, y), z_k ~ p(z | y).

        The paper's "MC", beside the importance sampling of `log_prob`: unbiased before the log as
        that is, and of far larger variance. It takes many samples.
        """
        x = self._images(x)
        y = self.condition_for(x, y)
        return self.importance_sampled(x, y, self._prior_over(x, y), num_samples, seed)


@keras.saving.register_keras_serializable("zoo")
class Predictor(GenerativeModel):
    """Predicts the hidden part of an image from its seen part; deterministic, without latents.

    The "NN baseline" of the paper's section 5: p(x | y), independent values whose parameters a
    network computes from `y`. Its loss is the exact -log p(hidden part | y).

    It can be scored by `log_prob`, and `decode` completes images, from latents of no dimension.

    Args:
        likelihood: p(x | y), a `Completion` whose network's only input is `y[B, H, W, C]`.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> predictor = zoo.models.cvae.predictor_mlp((8, 8, 1), (16,))
        >>> predictor.compile("adam")
        >>> data = zoo.datasets.load("digits", binarize="fixed", seen_quadrants=1)
        >>> history = predictor.fit(*data.arrays("train"), verbose=0)
    """

    log_prob_method = "exact"

    def __init__(self, likelihood: Completion, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(likelihood, Completion):
            raise ValueError(
                "A Predictor takes a `Completion`, p(x | y) of what y hides. "
                f"Received: a {type(likelihood).__name__}."
            )
        likelihood.check_context_is_y()
        self.likelihood = likelihood

    def players(self):
        return {"predictor": [self.likelihood]}

    def objective(self, x, y, seed, training):
        return {"predictor": -self.likelihood(y, y, training=training).log_prob(x)}, {}

    @property
    def image_shape(self):
        return self.likelihood.image_shape

    @property
    def latent_dim(self):
        return 0

    def decode(self, z, y=None):
        """The images that `y` shows, completed by the means of their hidden parts; `z` is not used."""
        y = self.condition_for(z, y, 2)
        return as_images(self.likelihood(y, y).mean())

    def log_prob(self, x, num_samples: int = 1, y=None, seed=None) -> tf.Tensor:
        """log p(hidden part | y) `[B]` in nats. It is exact, whatever `num_samples` and `seed`."""
        x = self._images(x)
        y = self.condition_for(x, y)
        return self.likelihood(y, y).log_prob(x)


def conditional_vae_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 50,
    hidden: Sequence[int] = (500, 500),
    activation: str = "relu",
    condition: str = "label",
    condition_size: int = 0,
    likelihood: str = "bernoulli",
    levels: int = 256,
    prior: str = "normal",
    baseline_hidden: Sequence[int] = (),
    alpha: float = 1.0,
    num_samples: int = 1,
    warm_up_steps: int = 0,
    free_bits: float = 0.0,
) -> CVAE:
    """A `CVAE` of multilayer perceptrons.

    Encoder and decoder take the condition beside the image or the latent, one after the other in one
    vector: the image's values, or a label's one-hot code, or the attributes.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        hidden: The encoder's, and the conditional prior's; the decoder's mirrors it.
        activation: Of the hidden layers.
        condition: What y is: "label" (ints `[B]`), "attributes" (`[B, A]`), or "seen" (`[B, H, W, C]`,
            the seen part of the image and -1 elsewhere). With "seen" all is about the hidden part.
        condition_size: Number of classes, 10 if 0; or of attributes A, at least 1. "seen" has none.
        likelihood: Name of the family of p(x | z, y).
        levels: Number of grey levels, for "discretized_logistic".
        prior: "normal" for N(0, I) whatever y is, or "conditional" for a network's p(z | y).
        baseline_hidden: Hidden units of a deterministic guess that the conditional prior sees; () for
            none. For the condition "seen".
        alpha: 1 for the CVAE, 0 for the GSNN, or between.
        num_samples: Draws of z per image.
        warm_up_steps: Training steps in which the weight of the rate rises from 0 to 1; not with
            alpha=0, which has no rate.
        free_bits: Nats of rate per latent dimension that cost nothing extra; likewise.

    Raises:
        ValueError: For names that there are not, or settings that do not go together.
    """
    given = look_up(_CONDITIONS, condition, "condition")(tuple(image_shape), condition_size)
    look_up({"normal": None, "conditional": None}, prior, "prior")
    if baseline_hidden and (prior, condition) != ("conditional", "seen"):
        raise ValueError(
            "`baseline_hidden` is for the guess at a hidden part that a conditional prior sees: it "
            f"needs prior='conditional' and condition='seen'. Received: prior='{prior}', "
            f"condition='{condition}', baseline_hidden={baseline_hidden}."
        )
    q, family = DiagonalNormal(), likelihood_family(likelihood, levels)
    mlp = functools.partial(_mlp, activation=activation, classes=condition_size or 10)
    x, z = keras.Input(tuple(image_shape)), keras.Input((latent_dim,))
    codes = (q.num_params(latent_dim),)
    p = StandardNormal(latent_dim)
    if prior == "conditional":
        guess = keras.Input(tuple(image_shape))
        inputs = [given(), guess] if baseline_hidden else [given()]
        p = ConditionalPrior(
            mlp(inputs, codes, hidden, name="prior"),
            DiagonalNormal(),
            _baseline(image_shape, baseline_hidden, activation, likelihood, levels)
            if baseline_hidden
            else None,
        )
    return CVAE(
        Conditional(mlp([x, given()], codes, hidden, name="encoder"), q),
        (Completion if condition == "seen" else Conditional)(
            mlp([z, given()], _of_an_image(image_shape, family), hidden[::-1], name="decoder"),
            family,
        ),
        p,
        alpha,
        num_samples=num_samples,
        rate_weight=warm_up(warm_up_steps),
        free_bits=free_bits,
    )


def predictor_mlp(
    image_shape: Sequence[int],
    hidden: Sequence[int] = (500, 500),
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> Predictor:
    """A `Predictor` that is a multilayer perceptron from the seen part of an image.

    The arguments are those of `conditional_vae_mlp`.
    """
    return Predictor(_baseline(image_shape, hidden, activation, likelihood, levels))


def _baseline(image_shape, hidden, activation, likelihood, levels):
    family = likelihood_family(likelihood, levels)
    y = keras.Input(tuple(image_shape))
    return Completion(
        _mlp([y], _of_an_image(image_shape, family), hidden, activation, "baseline"), family
    )


def _labels(image_shape, size):
    if size < 0:
        raise ValueError(f"`condition_size` must be at least 0. Received: {size}.")
    return lambda: keras.Input((), dtype="int32")


def _attributes(image_shape, size):
    if size < 1:
        raise ValueError(
            "The condition 'attributes' needs their number, `condition_size`, of 1 or more. "
            f"Received: {size}."
        )
    return lambda: keras.Input((size,))


def _seen(image_shape, size):
    if size:
        raise ValueError(
            "The condition 'seen' is of the images' size: it takes no `condition_size`. "
            f"Received: condition_size={size}."
        )
    return lambda: keras.Input(image_shape)


_CONDITIONS = {"label": _labels, "attributes": _attributes, "seen": _seen}


def _of_an_image(image_shape, family):
    height, width, channels = image_shape
    return height, width, channels * family.params_per_value


def _mlp(inputs, output_shape, hidden, activation, name, classes=10):
    """A perceptron of all inputs in one vector; ints are labels, taken as one-hot codes."""
    flat = [
        networks.OneHot(classes)(t) if t.dtype == "int32" else keras.layers.Flatten()(t)
        for t in inputs
    ]
    h = keras.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
    for units in hidden:
        h = keras.layers.Dense(units, activation)(h)
    h = keras.layers.Dense(math.prod(output_shape), dtype="float32")(h)
    h = keras.layers.Reshape(output_shape, dtype="float32")(h)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], h, name=name)
