"""Parts by the names that presets and command lines use."""

from collections.abc import Sequence

from zoo.config import look_up
from zoo.distributions.families import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiagonalNormal,
    DiscretizedLogistic,
    Family,
    FullCovarianceNormal,
    SharedScaleNormal,
    UnitNormal,
)
from zoo.distributions.flow_posteriors import InverseAutoregressiveNormal, PlanarNormal
from zoo.distributions.flow_priors import MAFPrior, RealNVPPrior
from zoo.distributions.mixtures import MixturePrior, VampPrior
from zoo.distributions.priors import Prior, StandardNormal


def likelihood_family(name: str, levels: int = 256) -> Family:
    """The family of p(x | z) of that name, as presets and command lines call it.

    Args:
        name: "bernoulli", "continuous_bernoulli", "normal" (a variance per value, bounded),
            "shared_scale_normal", "unit_normal", "discretized_logistic" or "categorical".
        levels: Number of grey levels of the data, for the last two.
    """
    families = {
        "bernoulli": Bernoulli,
        "continuous_bernoulli": ContinuousBernoulli,
        "normal": lambda: DiagonalNormal(min_scale=0.05, max_scale=1.0),
        "shared_scale_normal": SharedScaleNormal,
        "unit_normal": UnitNormal,
        "discretized_logistic": lambda: DiscretizedLogistic(levels),
        "categorical": lambda: Categorical(levels),
    }
    return look_up(families, name, "likelihood")()


def posterior_family(name: str, dim: int, steps: int = 0, hidden: Sequence[int] = ()) -> Family:
    """The family of q(z | x) of that name, as presets and command lines call it.

    Args:
        name: "normal" (diagonal), "full_covariance", "iaf" or "planar".
        dim: D of the latents.
        steps: Of "iaf" and "planar"; 0 for their own default.
        hidden: Hidden units in "iaf"; () for its own default.

    Raises:
        ValueError: For a name that there is not, or a size that the family does not have.
    """
    families = {
        "normal": (lambda: DiagonalNormal(), ()),
        "full_covariance": (lambda: FullCovarianceNormal(), ()),
        "iaf": (lambda **sizes: InverseAutoregressiveNormal(dim, **sizes), ("steps", "hidden")),
        "planar": (lambda **sizes: PlanarNormal(dim, **sizes), ("steps",)),
    }
    return _made(families, name, "posterior", steps=steps, hidden=hidden)


def latent_prior(
    name: str,
    dim: int,
    image_shape: Sequence[int],
    steps: int = 0,
    hidden: Sequence[int] = (),
    components: int = 0,
) -> Prior:
    """The prior of that name, as presets and command lines call it.

    Args:
        name: "normal" (standard), "mixture", "vamp", "realnvp" or "maf".
        dim: D of the latents.
        image_shape: Height, width, channels, for the pseudo-inputs of "vamp".
        steps: Of "realnvp" and "maf"; 0 for their own default.
        hidden: Hidden units in "realnvp" and "maf"; () for their own default.
        components: Of "mixture" and "vamp"; 0 for their own default.

    Raises:
        ValueError: For a name that there is not, or a size that the prior does not have.
    """
    priors = {
        "normal": (lambda: StandardNormal(dim), ()),
        "mixture": (lambda **sizes: MixturePrior(dim, **sizes), ("components",)),
        "vamp": (lambda **sizes: VampPrior(image_shape, **sizes), ("components",)),
        "realnvp": (lambda **sizes: RealNVPPrior(dim, **sizes), ("steps", "hidden")),
        "maf": (lambda **sizes: MAFPrior(dim, **sizes), ("steps", "hidden")),
    }
    return _made(priors, name, "prior", steps=steps, hidden=hidden, components=components)


def _made(table, name, what, **sizes):
    make, takes = look_up(table, name, what)
    given = {key: value for key, value in sizes.items() if value}
    if unused := [f"{what}_{key}={value}" for key, value in given.items() if key not in takes]:
        raise ValueError(
            f"The {what} '{name}' has no such size: leave it out, or choose another {what}. "
            f"Received: {', '.join(unused)}."
        )
    return make(**given)
