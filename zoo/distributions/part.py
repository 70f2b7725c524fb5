"""What families, conditionals and priors have in common, and their divergence."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import FromArguments

tfd = tfp.distributions


class Part(FromArguments, keras.layers.Layer):
    """A layer that computes in float32 whatever the global precision is.

    Log-densities and samples lose their meaning in half precision; the networks inside keep the
    precision they were built with.
    """

    def __init__(self, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.built = True

    @property
    def condition(self) -> tf.TensorSpec | None:
        """Shape `[B, ...]` and type of the `y` that the part makes use of, or `None`."""
        return None

    def __call__(self, *args, **kwargs):
        # Of what Keras does around `call`, nothing suits a function that returns a distribution.
        return self.call(*args, **kwargs)


def has_log_prob(distribution: tfd.Distribution) -> bool:
    """Whether it has one, and not draws alone."""
    try:
        distribution.log_prob(distribution.sample(seed=[0, 0]))
    except NotImplementedError:
        return False
    return True


def refuse_learned(prior: Part, model: str) -> None:
    """Raises a `ValueError` for a prior that learns, of a model whose players do not move it.

    Args:
        prior: A `Prior`.
        model: The model in words, such as "a GAN".
    """
    if prior.trainable_variables:
        raise ValueError(
            f"The prior of {model} is one that does not learn, such as StandardNormal: no player "
            f"moves it. Received: a {type(prior).__name__} with weights that do."
        )


def kl(q: tfd.Distribution, p: tfd.Distribution, z) -> tf.Tensor:
    """KL(q || p): exact where TFP has a formula for the pair, else its estimate at `z` ~ q."""
    try:
        return tfd.kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(z) - p.log_prob(z)


def need_density(part: Part, who: str) -> None:
    """Raises a `ValueError` unless a prior, or a posterior's family, has a density."""


def need_differentiable_draws(part: Part, who: str) -> None:
    """x"""
