"""Likelihoods of held-out images by annealed importance sampling, which needs no posterior."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.contract import check_counts
from zoo.distributions import Deterministic, ImplicitPart, has_log_prob, mean_and_variance
from zoo.draws import Normal
from zoo.metrics.estimate import Estimate
from zoo.metrics.likelihood import (
    bits_per_dim,
    check_observations,
    measured,
    over_images,
)
from zoo.model import GenerativeModel

tfd = tfp.distributions

# The acceptance rate that step sizes are tuned to: the optimum for HMC in many dimensions of Beskos
# et al., "Optimal tuning of the hybrid Monte Carlo algorithm", 2013. https://arxiv.org/abs/1001.4460
_ACCEPTANCE = 0.65
_FIRST_STEP, _TUNING_RATE = 0.1, 0.1

# Steepness of the sigmoid of powers, with small steps at both ends, where densities change most.
_STEEPNESS = 4.0


def annealed_importance_sampling(
    log_likelihood: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    prior: tfd.Distribution,
    x: np.ndarray,
    *,
    initial: Callable[[tf.Tensor], tfd.Distribution] | None = None,
    num_steps: int = 1000,
    num_chains: int = 8,
    leapfrog_steps: int = 10,
    step_size: float | None = None,
    batch_size: int = 100,
    seed: int = 0,
    jit_compile: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """-log p(x) by annealed importance sampling, in nats, averaged over observations.

    It needs p(x, z), but not p(z | x). Neal, "Annealed importance sampling", 2001
    (https://arxiv.org/abs/physics/9803008), as used by Wu et al., "On the Quantitative Analysis of
    Decoder-Based Generative Models", 2017 (https://arxiv.org/abs/1611.04273). Each chain starts at
    a draw from `initial` and passes through the densities

        initial(z)^(1 - b) (p(z) p(x | z))^b

    with T powers b up to 1 on a sigmoid, as in Wu et al., with small steps at both ends. There is
    one Hamiltonian Monte Carlo move at each power. The mean weight of the chains is an unbiased
    estimate of p(x) for any number and size of steps. Therefore the expectation of minus its
    logarithm is an upper bound on -log p(x). More chains and more steps tighten the bound.

    The weights would be biased if the step sizes adapted to the chains. Therefore a preliminary
    pass with separate draws finds the step sizes, for each b and observation, with which about 65 %
    of the moves are accepted; the chains then use these fixed step sizes.

    Args:
        log_likelihood: log p(x | z), a differentiable function from `z[K, B, D]` and `x[B, ...]` to
            `[K, B]`.
        prior: p(z), with a density on `z[D]`.
        x: Observations `[N, ...]`.
        initial: A function from `x[B, ...]` to a distribution with a density, of batch shape `[B]`,
            on `z[D]`, such as an approximate posterior; the prior if `None`.
        num_steps: Number of powers, T.
        num_chains: Number of chains for each observation, K.
        leapfrog_steps: Number of leapfrog steps of one move.
        step_size: Size of the leapfrog steps. If it is set, there is no preliminary pass.
        batch_size: Number of observations at a time. The random numbers are drawn for a batch as a
            whole, so the noise of the estimate depends on the batch size.
        seed: Seed of all draws.
        jit_compile: Whether to compile the passes with XLA; `None` for TensorFlow's default.
        progress: A function that is called with the number of observations done and their total
            number.

    Returns:
        The mean in nats and its standard error over observations. `details` has the share of
        accepted moves, `acceptance`, and the effective number of chains, (sum w)^2 / sum w^2: its
        mean over observations, `ess`, and its smallest value, `ess_min`. A value near 1 with many
        chains means that the bound is loose.

    Raises:
        ValueError: If a distribution has no density, if a number is below 1, or if no chain has a
            positive weight.

    Example:
        >>> prior = zoo.StandardNormal(2)()
        >>> def log_likelihood(z, x):  # x = z + noise, so that p(x) is N(0, 2 I)
        ...     return zoo.UnitNormal()(z, 1).log_prob(x)
        >>> x = np.zeros((1, 2), "float32")
        >>> nll = zoo.metrics.annealed_importance_sampling(log_likelihood, prior, x, num_steps=50)
        >>> bool(abs(nll.value - np.log(4 * np.pi)) < 0.2)
        True
    """
    check_counts(
        num_steps=num_steps,
        num_chains=num_chains,
        leapfrog_steps=leapfrog_steps,
        batch_size=batch_size,
    )
    check_counts(0, seed=seed)
    x = np.asarray(x)
    if not len(x):
        raise ValueError("A likelihood needs at least 1 observation. Received: none.")
    if step_size is not None and not step_size > 0:
        raise ValueError(f"`step_size` must be positive, or None. Received: {step_size}.")
    _check_density(prior, "prior")
    if initial is not None:
        _check_density(initial(tf.convert_to_tensor(x[:1], tf.float32)), "initial distribution")

    path = functools.partial(
        _Path, log_likelihood, prior, initial, num_steps, num_chains, leapfrog_steps
    )
    # Traced once, for any size of the last batch.
    images = tf.TensorSpec([None, *x.shape[1:]])
    steps, key = tf.TensorSpec([num_steps, None]), tf.TensorSpec([2], tf.int32)
    compiled = functools.partial(tf.function, autograph=False, jit_compile=jit_compile)
    tune = compiled(lambda x, seed: path(x).tune(seed), input_signature=[images, key])
    run = compiled(
        lambda x, step_sizes, seed: path(x).run(step_sizes, seed),
        input_signature=[images, steps, key],
    )
    nats, accepted, effective = [], [], []
    for start in range(0, len(x), batch_size):
        part = tf.convert_to_tensor(x[start : start + batch_size], tf.float32)
        tune_seed, run_seed = tfp.random.split_seed(tf.constant([seed, start], tf.int32))
        if step_size is None:
            step_sizes = tune(part, tune_seed)
        else:
            step_sizes = tf.fill([num_steps, len(part)], np.float32(step_size))
        log_weights, acceptance = (t.numpy() for t in run(part, step_sizes, run_seed))
        with np.errstate(invalid="ignore"):  # Values that are not finite raise an error at the end.
            total = np.logaddexp.reduce(log_weights, 0)
            effective.append(np.exp(2 * total - np.logaddexp.reduce(2 * log_weights, 0)))
        nats.append(np.log(num_chains) - total)
        accepted.append(acceptance)
        if progress:
            progress(start + len(part), len(x))
    about = {
        "method": "annealed importance sampling",
        "initial": "prior" if initial is None else "given",
        "num_steps": num_steps,
        "num_chains": num_chains,
        "leapfrog_steps": leapfrog_steps,
        "step_size": "tuned" if step_size is None else step_size,
        "batch_size": batch_size,
        "seed": seed,
    }
    sizes = np.concatenate(effective)
    return over_images(
        np.concatenate(nats),
        about,
        acceptance=float(np.concatenate(accepted).mean()),
        ess=float(sizes.mean()),
        ess_min=float(sizes.min()),
    )


def annealed_nll(
    model: GenerativeModel,
    x: np.ndarray,
    *,
    initial: str = "prior",
    num_steps: int = 1000,
    num_chains: int = 8,
    leapfrog_steps: int = 10,
    step_size: float | None = None,
    batch_size: int = 100,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """-log p(x) by `annealed_importance_sampling`, for any model with a likelihood and a prior.

    It needs no encoder, so it can check importance sampling with an encoder.

    Args:
        model: A model with `likelihood` and a `prior` that has a density.
        x: Images `[N, H, W, C]`, as for `negative_log_likelihood`.
        initial: The distribution that chains start from: "prior"; "posterior" for q(z | x), which
            is nearer to p(z | x) and needs fewer steps; or "normal" for the normal distribution
            with the mean and variance of a q(z | x) without a density, as in Mescheder et al.,
            "Adversarial Variational Bayes", 2017 (https://arxiv.org/abs/1701.04722). 1e-4 is added
            to the variance.
        num_steps: Number of powers, T.
        num_chains: Number of chains for each image.
        leapfrog_steps: Number of leapfrog steps of one move.
        step_size: Size of the leapfrog steps; tuned if `None`.
        batch_size: Number of images at a time.
        seed: Seed of all draws.
        progress: A function that is called with the number of images done and their total number.

    Returns:
        As `annealed_importance_sampling`, with `bits_per_dim` as in `negative_log_likelihood`.

    Raises:
        ValueError: If the model has no likelihood, if the prior or posterior has no density, or if
            the likelihood does not apply to the images.

    Example:
        >>> model = zoo.presets.build(zoo.presets.get("vae_digits"), (8, 8, 1))
        >>> x = np.ones((2, 8, 8, 1), "float32")
        >>> annealed = zoo.metrics.annealed_nll(model, x, num_steps=20, num_chains=2)
        >>> sorted(annealed.details)
        ['acceptance', 'bits_per_dim', 'ess', 'ess_min']
    """
    if any(getattr(model, part, None) is None for part in ("likelihood", "prior")):
        raise ValueError(
            "Annealing needs a model with a likelihood p(x | z) and a prior p(z). Received: a "
            f"{type(model).__name__}, which lacks them. Its samples can be scored instead."
        )
    if model.condition is not None and not model.condition_is_optional:
        raise ValueError(
            "Annealing applies to models without a condition. Received: a "
            f"{type(model).__name__}, which takes one. Use `negative_log_likelihood`."
        )
    if not model.prior.has_density:
        raise ValueError(
            "Annealing needs a prior with a density over z[D]. Received: a "
            f"{type(model.prior).__name__}, which has none."
        )
    x = check_observations(model, x)
    posterior: Any = getattr(model, "posterior", None)
    starts: dict[str, Any] = {
        "prior": None,
        "posterior": posterior,
        "normal": lambda x: _normal_like(posterior(x)),
    }
    if initial not in starts:
        raise ValueError(f"`initial` must be one of {sorted(starts)}. Received: {initial!r}.")
    nearest = nearest_start(model)
    if (initial, nearest) == ("posterior", "normal"):
        raise ValueError(
            f"The posterior of this {type(model).__name__} can only be sampled. Take "
            f"initial='normal', or 'prior'. Received: initial='{initial}'."
        )
    if initial != "prior" and nearest == "prior":
        raise ValueError(
            f"The posterior of this {type(model).__name__} has no density to start from. "
            f"Take initial='prior'. Received: initial='{initial}'."
        )
    estimate = annealed_importance_sampling(
        lambda z, images: model.likelihood(z).log_prob(images),
        model.prior(),
        x,
        initial=starts[initial],
        num_steps=num_steps,
        num_chains=num_chains,
        leapfrog_steps=leapfrog_steps,
        step_size=step_size,
        batch_size=batch_size,
        seed=seed,
        jit_compile=model.jit_compile if model.compiled else None,
        progress=progress,
    )
    return dataclasses.replace(
        estimate,
        estimator=estimate.estimator | {"initial": initial, "of": measured(model, x)},
        details=estimate.details | bits_per_dim(model, estimate.value, x[0].size),
    )


def nearest_start(model: GenerativeModel) -> str:
    """The `initial` of `annealed_nll` that is nearest to p(z | x), among those the model has."""
    posterior = getattr(model, "posterior", None)
    if isinstance(posterior, ImplicitPart):
        return "normal"
    family = getattr(posterior, "family", None)
    # Some families have a density only at their own draws.
    if isinstance(family, Deterministic) or not getattr(family, "has_density_everywhere", True):
        return "prior"
    return "prior" if posterior is None else "posterior"


def _normal_like(q):
    mean, variance = mean_and_variance(q)
    return tfd.Independent(Normal(mean, tf.sqrt(variance + 1e-4)), 1)


class _Path:
    """The densities between `initial` and p(x, z), for the observations `x[B, ...]`."""

    def __init__(self, log_likelihood, prior, initial, num_steps, num_chains, leapfrog_steps, x):
        self.log_likelihood, self.prior, self.x = log_likelihood, prior, x
        self.from_prior = initial is None
        self.initial = prior if self.from_prior else initial(x)
        self.num_steps, self.num_chains = num_steps, num_chains
        self.powers = tf.constant(_powers(num_steps), tf.float32)
        self.leapfrog_steps = leapfrog_steps

    def begin(self, chains, seed):
        """Draws from the initial distribution, `[chains, B, D]`."""
        batch = [tf.shape(self.x)[0]] if self.from_prior else []
        z = self.initial.sample([chains, *batch], seed=seed)
        event = self.prior.event_shape
        # A distribution of the user may have draws of unknown static shape, which loops refuse.
        return tf.ensure_shape(z, [chains, None, *(event if event.rank == 1 else [None])])

    def gain(self, z):
        """log p(x, z) - log initial(z), `[K, B]`."""
        gain = self.log_likelihood(z, self.x)
        if not self.from_prior:
            gain += self.prior.log_prob(z) - self.initial.log_prob(z)
        return tf.ensure_shape(gain, z.shape[:-1])

    def log_density(self, z, power):
        """The log of the density with that power of the likelihood, up to a constant, `[K, B]`."""
        return tf.ensure_shape(self.initial.log_prob(z), z.shape[:-1]) + power * self.gain(z)

    def move(self, z, step, step_size, seed):
        """One HMC move at density number `step`, and the probability of accepting it `[K, B]`."""
        b = self.powers[step]
        kernel = tfp.mcmc.HamiltonianMonteCarlo(
            lambda z: self.log_density(z, b),
            step_size[:, None],
            self.leapfrog_steps,
        )
        # The density differs from that of the last move, so its value at z must be computed again.
        # (`tfp.mcmc.sample_annealed_importance_chain` keeps the old value, which biases the weights.)
        moved, results = kernel.one_step(z, kernel.bootstrap_results(z), seed=seed)
        accept = tf.exp(tf.minimum(results.log_accept_ratio, 0.0))
        return tf.ensure_shape(moved, z.shape), accept

    def tune(self, seed):
        """The tuned step size of each move, `[T, B]`."""

        def body(step, z, step_size, step_sizes):
            here = tf.random.experimental.stateless_fold_in(seed, step)
            step_sizes = step_sizes.write(step, step_size)
            z, accept = self.move(z, step + 1, step_size, here)
            excess = tf.reduce_mean(accept, 0) - _ACCEPTANCE
            return step + 1, z, step_size * tf.exp(_TUNING_RATE * excess), step_sizes

        z = self.begin(1, seed)  # One chain is enough for tuning and is the cheapest choice.
        step_size = tf.fill(tf.shape(z)[1:2], _FIRST_STEP)
        step_sizes = tf.TensorArray(tf.float32, self.num_steps, element_shape=step_size.shape)
        loop = (0, z, step_size, step_sizes)
        return tf.while_loop(lambda step, *_: step < self.num_steps, body, loop)[-1].stack()

    def run(self, step_sizes, seed):
        """The logs of the weights `[K, B]`, and the share of accepted moves `[B]`."""

        def body(step, z, log_weight, accepted):
            # In float64, because each step adds a small value to thousands of nats.
            rise = self.powers[step + 1] - self.powers[step]
            log_weight += tf.cast(rise * self.gain(z), tf.float64)
            here = tf.random.experimental.stateless_fold_in(seed, step)
            z, accept = self.move(z, step + 1, step_sizes[step], here)
            return step + 1, z, log_weight, accepted + tf.reduce_mean(accept, 0)

        z = self.begin(self.num_chains, seed)
        loop = (0, z, tf.zeros(tf.shape(z)[:2], tf.float64), tf.zeros(tf.shape(z)[1:2]))
        _, _, log_weight, accepted = tf.while_loop(
            lambda step, *_: step < self.num_steps, body, loop
        )
        return log_weight, accepted / self.num_steps


def _powers(num_steps):
    """b from 0 to 1, `[T + 1]`: the middle part of a sigmoid, scaled to [0, 1]."""
    sigmoid = 1 / (1 + np.exp(-_STEEPNESS * np.linspace(-1, 1, num_steps + 1)))
    return (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])


def _check_density(distribution, name):
    if not has_log_prob(distribution):
        raise ValueError(
            f"Annealing needs a {name} with a density. Received: {distribution.name}, which can "
            "only be sampled."
        )
