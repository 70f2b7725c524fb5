"""The base class of families, conditionals and priors, and checks of parts for models."""

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import FromArguments, with_article

if TYPE_CHECKING:
    from zoo.distributions.priors import Prior

tfd = tfp.distributions


class Part(FromArguments, keras.layers.Layer):
    """A layer that computes in float32 under any global precision policy.

    Log-densities and samples are too inexact in half precision. The networks inside a part keep the
    precision that they were built with.

    Four properties say what the distribution of a part can do, so that a model can check its parts
    without running a network. A subclass overrides a property that does not hold, for example with
    `has_density = False`, or overrides `made_of` if other parts determine the properties.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.built = True

    def made_of(self) -> tuple["Part", ...]:
        """The parts that determine the properties; empty for a family or a simple prior."""
        return ()

    @property
    def has_density(self) -> bool:
        """Whether `log_prob` is a density (or mass) over the whole space of values.

        A distribution on a surface in that space has no such density. A density that is known only
        at the distribution's own draws counts; see `has_density_everywhere`.
        """
        return all(part.has_density for part in self.made_of())

    @property
    def has_density_everywhere(self) -> bool:
        """Whether `log_prob` accepts any value, not only draws of the same distribution object."""
        return self.has_density and all(part.has_density_everywhere for part in self.made_of())

    @property
    def has_differentiable_draws(self) -> bool:
        """Whether draws are differentiable functions of the parameters and weights."""
        return all(part.has_differentiable_draws for part in self.made_of())

    @property
    def is_deterministic(self) -> bool:
        """Whether a latent is a function of the condition, without noise."""
        return any(part.is_deterministic for part in self.made_of())

    @property
    def condition(self) -> tf.TensorSpec | None:
        """Shape `[B, ...]` and type of the `y` that the part uses, or `None`."""
        return None

    @property
    def context_shape(self) -> tuple[int, ...] | None:
        """Shape of one context, without the batch axis.

        `None` if there is no context or its shape is unknown. A model compares the shapes of its
        parts when it is constructed, and accepts a part that does not know its shapes.
        """
        return None

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """Shape of one value of the distribution, such as `(D,)`; `None` if it is unknown."""
        return None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # A distribution is not a tensor, so the wrapper that Keras puts around `call` does not apply.
        return self.call(*args, **kwargs)


def has_log_prob(distribution: tfd.Distribution) -> bool:
    """Whether `distribution.log_prob` is implemented."""
    try:
        distribution.log_prob(distribution.sample(seed=[0, 0]))
    except NotImplementedError:
        return False
    return True


def refuse_learned(prior: "Prior", who: str) -> None:
    """Checks that a prior is fixed, for a model that does not train its prior.

    Args:
        prior: A `Prior`.
        who: The model in words, such as "a GAN".

    Raises:
        ValueError: If the prior has trainable weights.
    """
    if prior.is_learned:
        raise ValueError(
            f"The prior of {who} must be fixed: use a prior without trainable weights, such as "
            f"StandardNormal. Received: {described(prior)}, which has trainable weights."
        )


def need_density(part: Part, who: str, everywhere: bool = False) -> None:
    """Checks that a prior or a posterior has a density.

    Args:
        part: A `Prior`, or a posterior such as `Conditional`.
        who: The model or option in words, such as "adaptive contrast".
        everywhere: Whether the density is needed at any value, not only at the part's own draws.

    Raises:
        ValueError: If the part does not have that density.
    """
    if not part.has_density:
        raise ValueError(
            f"{_start(who)} needs a density over all latents z: use a StandardNormal prior, or a "
            f"posterior with the family DiagonalNormal. Received: {described(part)}, which has none."
        )
    if everywhere and not part.has_density_everywhere:
        raise ValueError(
            f"{_start(who)} needs a density at any latents z: use the family DiagonalNormal, for "
            f"example. Received: {described(part)}, which has a density only at its own draws."
        )


def need_differentiable_draws(prior: "Prior", who: str) -> None:
    """Checks that gradients reach the weights of a prior through its draws.

    Args:
        prior: A `Prior`. A prior without trainable weights passes.
        who: The model or option in words, such as "the MMD".

    Raises:
        ValueError: If the prior is learned and its draws are not differentiable.
    """
    if prior.is_learned and not prior.has_differentiable_draws:
        raise ValueError(
            f"{_start(who)} trains the prior through its draws, which must be differentiable: use a "
            "flow such as RealNVPPrior, or a fixed prior. "
            f"Received: {described(prior)}, with draws that are not differentiable."
        )


def need_noise(posterior: Part, who: str) -> None:
    """Checks that a posterior is random.

    Args:
        posterior: A posterior such as `Conditional`.
        who: The model in words, such as "an AVB".

    Raises:
        ValueError: If the posterior is deterministic.
    """
    if posterior.is_deterministic:
        raise ValueError(
            f"The posterior of {who} must be random, because log q(z | x) of a deterministic code is "
            "infinite: use the family DiagonalNormal, for example. "
            f"Received: {described(posterior)}."
        )


def described(part: Part) -> str:
    """The part in words, for error messages: "a SwissRoll", "a Conditional of Deterministic"."""
    family = getattr(part, "family", None)
    return with_article(type(part).__name__) + (f" of {type(family).__name__}" if family else "")


def _start(who):
    return who[0].upper() + who[1:]


def kl(q: tfd.Distribution, p: tfd.Distribution, z: tf.Tensor) -> tf.Tensor:
    """KL(q || p): exact if TFP has a formula for the pair, otherwise estimated at `z` ~ q."""
    try:
        return tfd.kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(z) - p.log_prob(z)
