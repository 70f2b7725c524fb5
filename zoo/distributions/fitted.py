"""Priors that are fitted to the codes of a trained model, and are fixed afterwards.

Ghosh et al., "From Variational to Deterministic Autoencoders", 2020.
https://arxiv.org/abs/1903.12436
Dai and Wipf, "Diagnosing and Enhancing VAE Models", 2019. https://arxiv.org/abs/1903.05789
"""

import contextlib
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import draws
from zoo.contract import as_count, check_counts
from zoo.distributions.conditional import Conditional
from zoo.distributions.families import DiagonalNormal, SharedScaleNormal
from zoo.distributions.flow_networks import check_hidden
from zoo.distributions.mixtures import check_components
from zoo.distributions.part import described, kl
from zoo.distributions.priors import Prior, StandardNormal
from zoo.distributions.vectors import VectorDistribution

tfd, tfb = tfp.distributions, tfp.bijectors

BATCH_SIZE = 200
"""Number of points in a training step of `FittedPrior.fit`."""

PATIENCE = 20
"""Number of epochs without a better result after which `FittedPrior.fit` ends."""


@keras.saving.register_keras_serializable("zoo")
class FittedMixture(Prior):
    """A mixture of `components` normals with full covariances, fitted to points by `fit`.

    Before the first `fit` it is N(0, I). Gradients do not change it. Ghosh et al., "From
    Variational to Deterministic Autoencoders", 2020, section 5, sample an autoencoder from such a
    mixture, fitted to the codes of the training images. https://arxiv.org/abs/1903.12436

    Args:
        dim: D of the latents.
        components: K, at least 1; 10 in the paper.

    Raises:
        ValueError: If `components` is below 1.

    Example:
        >>> prior = zoo.distributions.FittedMixture(2, components=3)
        >>> prior.fit(np.random.default_rng(0).normal(size=(100, 2)))
        >>> prior().sample(4).shape
        TensorShape([4, 2])
    """

    is_fitted = True

    def __init__(self, dim: int, components: int = 10, **kwargs: Any):
        super().__init__(**kwargs)
        check_components(components)
        self.dim = dim
        self.components = components
        eye = np.tile(np.eye(dim, dtype=np.float32), (components, 1, 1))
        self.log_weights = _fixed(self, "log_weights", np.zeros(components))
        self.loc = _fixed(self, "loc", np.zeros((components, dim)))
        self.scale_tril = _fixed(self, "scale_tril", eye)

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=tf.convert_to_tensor(self.log_weights)),
            tfd.MultivariateNormalTriL(
                tf.convert_to_tensor(self.loc), tf.convert_to_tensor(self.scale_tril)
            ),
        )

    def fit(self, z: np.ndarray, seed: int = 0) -> None:
        """Fits the mixture to points `z[N, D]` by expectation maximisation.

        Raises:
            ValueError: If there are fewer points than components, or values are not finite.
        """
        from sklearn.mixture import GaussianMixture

        z = _points(z, self.dim, self.components, "one per component")
        found = GaussianMixture(self.components, reg_covar=1e-6, random_state=seed).fit(z)
        self.log_weights.assign(np.log(np.maximum(found.weights_, 1e-12)))
        self.loc.assign(found.means_)
        self.scale_tril.assign(np.linalg.cholesky(found.covariances_))


@keras.saving.register_keras_serializable("zoo")
class TwoStagePrior(Prior):
    """The prior of a second VAE whose data are codes: u ~ N(0, I), then z ~ N(f(u), gamma^2 I).

    Dai and Wipf, "Diagnosing and Enhancing VAE Models", 2019, section 4: the codes of a first VAE
    do not follow its prior, so a second VAE is trained on the codes. Its latents u have as many
    dimensions as the codes. https://arxiv.org/abs/1903.05789

    The density p(z) is an integral over u without a closed form, so `has_density` is False and the
    prior can only be sampled. `bound` is a lower bound on log p(z), and `log_prob_estimate`
    estimates log p(z). A `FittedPrior` trains both networks.

    Args:
        dim: D of the latents.
        hidden: Units of the hidden layers of both networks, at least one layer.

    Raises:
        ValueError: If an argument is out of range.

    Notes:
        As in the authors' code, gamma is learned, and the last layer of each network also takes the
        network's input. Their networks have three hidden layers of 1024 units.

    Example:
        >>> prior = zoo.TwoStagePrior(2)
        >>> prior().sample(4).shape, prior.log_prob_estimate(tf.zeros([3, 2])).shape
        (TensorShape([4, 2]), TensorShape([3]))
    """

    has_density = False

    def __init__(self, dim: int, hidden: Sequence[int] = (128, 128), **kwargs: Any):
        super().__init__(**kwargs)
        check_counts(dim=dim)
        check_hidden(hidden)
        self.dim = dim
        self.hidden = tuple(hidden)
        self.latents = StandardNormal(dim)
        self.posterior = Conditional(self._network(2 * dim), DiagonalNormal())
        self.likelihood = Conditional(self._network(dim), SharedScaleNormal())

    def _network(self, outputs):
        inputs = h = keras.Input((self.dim,))
        for units in self.hidden:
            h = keras.layers.Dense(units, "relu", dtype="float32")(h)
        h = keras.layers.Concatenate(dtype="float32")([inputs, h])
        return keras.Model(inputs, keras.layers.Dense(outputs, dtype="float32")(h))

    def call(self, y: tf.Tensor | None = None) -> "TwoStage":
        return TwoStage(self.likelihood, self.dim)

    def bound(self, z: tf.Tensor, seed: Any) -> tf.Tensor:
        """The evidence lower bound on log p(z) of points `z[B, D]`, with one draw of u: `[B]`."""
        q = self.posterior(z)
        u = q.sample(seed=seed)
        return self.likelihood(u).log_prob(z) - kl(q, self.latents(), u)

    def log_prob_estimate(
        self, z: tf.Tensor, num_samples: int = 100, seed: Any = None
    ) -> tf.Tensor:
        """log p(z) `[B]` of points `z[B, D]`, by importance sampling from q(u | z).

        The estimate is log (1/K) sum_k p(z, u_k) / q(u_k | z) with K = `num_samples` draws, in
        expectation a lower bound (Burda et al., "Importance Weighted Autoencoders", 2016, theorem
        1).

        Args:
            z: Points.
            num_samples: K, at least 1.
            seed: A seed of TFP, such as an int or ints `[2]`; `None` for new draws.
        """
        q = self.posterior(z)
        u = q.sample(as_count(num_samples, "num_samples"), seed=seed)
        log_w = self.likelihood(u).log_prob(z) - q.log_prob(u)
        log_w += self.latents().log_prob(u)
        return tf.reduce_logsumexp(log_w, 0) - math.log(num_samples)


class TwoStage(VectorDistribution):
    """The distribution that `TwoStagePrior` returns: it has draws `z[dim]` and no density."""

    def __init__(self, likelihood: Conditional, dim: int, name: str = "TwoStage"):
        parameters = dict(locals())
        self.likelihood, self.dim = likelihood, dim
        super().__init__(parameters, dim, reparameterized=True)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        names = ("likelihood", "dim")
        return {name: tfp.util.ParameterProperties(event_ndims=None) for name in names}

    def _sample_n(self, n, seed=None):
        first, second = tfp.random.split_seed(seed)
        u = draws.normal(tf.stack([n, self.dim]), first)
        return self.likelihood(u).sample(seed=second)

    def _log_prob(self, z):
        raise NotImplementedError(
            "The density of a TwoStagePrior has no closed form: losses with log p(z), log p(x) and "
            "training need a model with another prior, such as a fitted mixture or RealNVP. "
            "Received: a prior that can only be sampled; see `TwoStagePrior.log_prob_estimate`."
        )


@keras.saving.register_keras_serializable("zoo")
class FittedPrior(Prior):
    """A prior that is fitted to points by `fit`, and fixed for gradients: z = loc + scale * e.

    e follows a learned `prior`, and `loc` and `scale` are the means and the standard deviations of
    the points in each dimension. Before the first `fit` they are 0 and 1.

    Args:
        prior: A learned `Prior` over `e[D]` without a condition: a flow such as `RealNVPPrior`, or
            a `TwoStagePrior`. The `FittedPrior` makes its weights fixed.

    Raises:
        ValueError: If `prior` has no trainable weights, takes a condition, or depends on a
            posterior.

    Example:
        >>> prior = zoo.FittedPrior(zoo.RealNVPPrior(2))
        >>> points = np.random.default_rng(0).normal(5.0, 2.0, size=(300, 2))
        >>> prior.fit(points, epochs=3)
        >>> prior().log_prob(tf.fill([4, 2], 5.0)).shape
        TensorShape([4])
    """

    is_fitted = True

    def __init__(self, prior: Prior, **kwargs: Any):
        super().__init__(**kwargs)
        prior.trainable = True
        event = None if prior.condition is not None else prior.event_shape
        if event is None or not prior.is_learned:
            raise ValueError(
                "A FittedPrior needs a learned prior without a condition and without a posterior, "
                f"such as RealNVPPrior. Received: {described(prior)}."
            )
        prior.trainable = False
        self.prior = prior
        (self.dim,) = event
        self.loc = _fixed(self, "loc", np.zeros(self.dim))
        self.scale = _fixed(self, "scale", np.ones(self.dim))

    def made_of(self) -> tuple[Prior, ...]:
        return (self.prior,)

    def call(self, y: tf.Tensor | None = None) -> tfd.Distribution:
        loc, scale = tf.convert_to_tensor(self.loc), tf.convert_to_tensor(self.scale)
        return tfd.TransformedDistribution(self.prior(), tfb.Shift(loc)(tfb.Scale(scale)))

    def log_prob_estimate(
        self, z: tf.Tensor, num_samples: int = 100, seed: Any = None
    ) -> tf.Tensor:
        """`TwoStagePrior.log_prob_estimate`, for a prior without a density: `[B]` of `z[B, D]`."""
        e = (tf.cast(z, tf.float32) - self.loc) / self.scale
        log_volume = tf.reduce_sum(tf.math.log(self.scale))
        return self.prior.log_prob_estimate(e, num_samples, seed) - log_volume

    def fit(self, z: np.ndarray, seed: int = 0, epochs: int = 500) -> None:
        """Trains a new prior on points `z[N, D]`, by maximum likelihood.

        A random tenth of the points is held out. Training with Adam ends when the log density of
        the held-out points has not risen for `PATIENCE` epochs, and keeps the weights of the best
        epoch. A `TwoStagePrior` is trained by its bound. The result is a function of the points
        and the seed.

        Args:
            z: At least 20 points.
            seed: Seed of the initial weights, the held-out points and the batches.
            epochs: The largest number of epochs, at least 1.

        Raises:
            ValueError: If there are too few points, values are not finite, or the log density of the
                held-out points is not finite after training.
        """
        check_counts(epochs=epochs)
        check_counts(0, seed=seed)
        z = _points(z, self.dim, 20, "of which a tenth is held out")
        z = z[np.random.default_rng(seed).permutation(len(z))]
        count = len(z) // 10
        loc, scale = z[count:].mean(0), z[count:].std(0)
        # A dimension in which all points are equal keeps its unit.
        scale = np.where(scale > 0, scale, 1.0)
        e = ((z - loc) / scale).astype(np.float32)
        with _seeded(seed):
            new: Any = type(self.prior).from_config(self.prior.get_config())
        new.trainable = True
        if not np.isfinite(_train(new, e[count:], e[:count], seed, epochs)):
            raise ValueError(
                "The log density of the held-out points is not finite after training: the points "
                "may lie on a surface of fewer dimensions. Fit a mixture instead. Received: "
                f"{len(z)} points, and {described(self.prior)}."
            )
        self.prior.set_weights(new.get_weights())
        self.loc.assign(loc)
        self.scale.assign(scale)


class _LogDensity(keras.Model):
    """Minus the log density of points under a prior, or its bound, `[B]`, for Keras's `fit`."""

    def __init__(self, prior, seed):
        super().__init__(name="log_density", dtype="float32")
        self.prior = prior
        self.seed = seed
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, z, training=False):
        if self.prior.has_density:
            return -self.prior().log_prob(z)
        # Evaluations have equal noise, so that the best epoch is not that of the best noise.
        noise = tf.cast(self.seeds.next(), tf.int32) if training else [self.seed, -1]
        return -self.prior.bound(z, noise)


def _train(prior, z, held_out, seed, epochs):
    """Trains `prior` on points `z`; returns the mean log density of `held_out`, or its bound."""
    model = _LogDensity(prior, seed)
    model.compile("adam", loss=lambda _, nats: nats, jit_compile=False)

    def batches(points):
        # Keras wants a target for each point.
        targets = tf.zeros([points.shape[0]])
        return tf.data.Dataset.from_tensor_slices((points, targets)).batch(BATCH_SIZE)

    def epoch(i):
        # Unlike the order of `Dataset.shuffle`, this order does not depend on TensorFlow's seed.
        return batches(tf.random.experimental.stateless_shuffle(z, [seed, i]))

    model.fit(
        tf.data.Dataset.range(epochs, output_type=tf.int32).flat_map(epoch),
        steps_per_epoch=-(-len(z) // BATCH_SIZE),
        validation_data=batches(held_out),
        epochs=epochs,
        shuffle=False,  # Keras warns about its own default.
        callbacks=[
            keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True),
            keras.callbacks.TerminateOnNaN(),
        ],
        verbose=0,
    )
    return -float(model.evaluate(batches(held_out), verbose=0))


def _fixed(part, name, value):
    """A weight of a part that gradients do not change, with an initial value."""
    return part.add_weight(
        name=name,
        shape=value.shape,
        initializer=lambda shape, dtype: tf.constant(value, dtype),
        trainable=False,
    )


def _points(z, dim, least, why):
    """The points in float64. Raises a `ValueError` unless they are finite `[N, dim]`, N >= least."""
    z = np.asarray(z, np.float64)
    if z.ndim != 2 or z.shape[1] != dim or len(z) < least:
        raise ValueError(
            f"Expected at least {least} points [N, {dim}], {why}. "
            f"Received: an array of shape {z.shape}."
        )
    if not np.isfinite(z).all():
        raise ValueError("Expected finite points. Received: NaN or infinite values.")
    return z


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """A context in which initial weights are functions of the seed.

    Keras draws the seed of an initializer from Python's generator. The context leaves its state,
    and all other random numbers of the process, unchanged.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
