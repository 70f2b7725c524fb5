"""Posteriors, priors and likelihoods by name: one table for presets and command lines.

A part has the same name in every model. A model that cannot use a part raises an error when it is
built.

| posterior | part | options |
|---|---|---|
| "normal" | `DiagonalNormal` | |
| "full_covariance" | `FullCovarianceNormal` | |
| "deterministic" | `Deterministic` | |
| "iaf" | `InverseAutoregressiveNormal` | `posterior_steps`, `posterior_hidden` |
| "planar" | `PlanarNormal` | `posterior_steps` |
| "implicit" | `ImplicitConditional` | `posterior_noise_dim` |
| "noise_basis" | `NoiseBasisConditional` | `posterior_noise_dim`, `posterior_bases`, `posterior_hidden` |

| prior | part | options |
|---|---|---|
| "normal" | `StandardNormal`; `IsotropicNormal` for another scale | `prior_scale` |
| "uniform" | `Uniform`, on [-1, 1]^D | |
| "sphere" | `UniformOnSphere` | |
| "petals", "swiss_roll" | `NormalPetals`, `SwissRoll`, in the plane | `prior_components` |
| "mixture" | `MixturePrior` | `prior_components` |
| "vamp" | `VampPrior` | `prior_components` |
| "realnvp", "maf" | `RealNVPPrior`, `MAFPrior` | `prior_steps`, `prior_hidden` |

| likelihood | family |
|---|---|
| "bernoulli", "continuous_bernoulli" | `Bernoulli`, `ContinuousBernoulli` |
| "normal" | `DiagonalNormal` with scales between 0.05 and 1 |
| "shared_scale_normal", "unit_normal" | `SharedScaleNormal`, `UnitNormal` |
| "discretized_logistic", "categorical" | `DiscretizedLogistic`, `Categorical` |
"""

import math
from collections.abc import Callable, Sequence

import keras

from zoo.config import look_up
from zoo.distributions.conditional import Conditional
from zoo.distributions.families import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Deterministic,
    DiagonalNormal,
    DiscretizedLogistic,
    Family,
    FullCovarianceNormal,
    SharedScaleNormal,
    UnitNormal,
)
from zoo.distributions.flow_posteriors import InverseAutoregressiveNormal, PlanarNormal
from zoo.distributions.flow_priors import MAFPrior, RealNVPPrior
from zoo.distributions.implicit import ImplicitConditional, NoiseBasisConditional, noise_basis
from zoo.distributions.mixtures import MixturePrior, NormalPetals, SwissRoll, VampPrior
from zoo.distributions.part import Part
from zoo.distributions.priors import (
    IsotropicNormal,
    Prior,
    StandardNormal,
    Uniform,
    UniformOnSphere,
)

POSTERIORS: dict[str, tuple[str, ...]] = {
    "normal": (),
    "full_covariance": (),
    "deterministic": (),
    "iaf": ("posterior_steps", "posterior_hidden"),
    "planar": ("posterior_steps",),
    "implicit": ("posterior_noise_dim",),
    "noise_basis": ("posterior_noise_dim", "posterior_bases", "posterior_hidden"),
}
"""The posteriors by name, and the builders' options that each of them uses."""

PRIORS: dict[str, tuple[str, ...]] = {
    "normal": ("prior_scale",),
    "uniform": (),
    "sphere": (),
    "petals": ("prior_components",),
    "swiss_roll": ("prior_components",),
    "mixture": ("prior_components",),
    "vamp": ("prior_components",),
    "realnvp": ("prior_steps", "prior_hidden"),
    "maf": ("prior_steps", "prior_hidden"),
}
"""The priors by name, and the builders' options that each of them uses."""

LIKELIHOODS: dict[str, tuple[str, ...]] = {
    "bernoulli": (),
    "continuous_bernoulli": (),
    "normal": (),
    "shared_scale_normal": (),
    "unit_normal": (),
    "discretized_logistic": (),
    "categorical": (),
}
"""The likelihoods by name. They have no options: the grey levels come from the data."""


WITHOUT_DENSITY = ("deterministic", "implicit", "noise_basis")
"""The posteriors whose density is unknown, or infinite."""


def check_density(posterior: str, who: str) -> None:
    """Checks the name of a posterior for a model that needs the density of q(z | x).

    Args:
        posterior: The name of a posterior.
        who: The model in words, such as "An M2".

    Raises:
        ValueError: If the posterior has no density.
    """
    if posterior in WITHOUT_DENSITY:
        others = ", ".join(repr(name) for name in POSTERIORS if name not in WITHOUT_DENSITY)
        raise ValueError(
            f"{who} needs a density of its posterior, and the posterior '{posterior}' has none. "
            f"Choose {others}. Received: posterior='{posterior}'."
        )


def posterior(
    name: str,
    dim: int,
    encoder: Callable[[int], keras.Model],
    noisy_encoder: Callable[[int, int], keras.Model] | None = None,
    steps: int = 0,
    hidden: Sequence[int] = (),
    noise_dim: int = 0,
    bases: int = 0,
) -> Part:
    """The posterior q(z | x) of that name.

    Args:
        name: A key of `POSTERIORS`.
        dim: D of the latents.
        encoder: Builds the network from images to a number of outputs.
        noisy_encoder: Builds a network of images and noise from the dimension of the noise and the
            number of outputs, for "implicit"; `None` if there is no such network.
        steps: Steps of "iaf" and "planar"; 0 for their default.
        hidden: Hidden units of each step of "iaf", or of each basis of "noise_basis"; () for their
            default.
        noise_dim: Dimension of the noise of "implicit", and of each basis of "noise_basis"; 0 for
            32.
        bases: Number of bases of "noise_basis"; 0 for 16.

    Raises:
        ValueError: If `name` is unknown, or if it is "implicit" and `noisy_encoder` is `None`.

    Example:
        >>> from zoo.distributions import by_name
        >>> q = by_name.posterior("iaf", 3, lambda n: zoo.networks.mlp_encoder((8, 8, 1), n), steps=2)
        >>> q(tf.zeros([5, 8, 8, 1])).sample().shape
        TensorShape([5, 3])
    """
    look_up(POSTERIORS, name, "posterior")
    if name == "implicit":
        if noisy_encoder is None:
            raise ValueError(
                "The posterior 'implicit' is a network of the image and of noise, which exists only as "
                "a perceptron without a condition. Choose another posterior, or network='mlp' and "
                "condition='none' where the builder has these options."
            )
        return ImplicitConditional(noisy_encoder(noise_dim or 32, dim))
    if name == "noise_basis":
        bases = bases or 16
        basis = noise_basis(bases, noise_dim or 32, dim, tuple(hidden) or (128, 128, 128))
        return NoiseBasisConditional(encoder((1 + bases) * dim), basis)
    sizes = _given(steps=steps, hidden=tuple(hidden))
    family = {
        "normal": DiagonalNormal,
        "full_covariance": FullCovarianceNormal,
        "deterministic": Deterministic,
        "iaf": lambda: InverseAutoregressiveNormal(dim, **sizes),
        "planar": lambda: PlanarNormal(dim, **sizes),
    }[name]()
    return Conditional(encoder(family.num_params(dim)), family)


def prior(
    name: str,
    dim: int,
    image_shape: Sequence[int],
    scale: float = 1.0,
    steps: int = 0,
    hidden: Sequence[int] = (),
    components: int = 0,
) -> Prior:
    """The prior p(z) of that name.

    Args:
        name: A key of `PRIORS`.
        dim: D of the latents.
        image_shape: Height, width, channels, for the pseudo-inputs of "vamp".
        scale: Standard deviation of "normal", above 0.
        steps: Steps of "realnvp" and "maf"; 0 for their default.
        hidden: Hidden units of each step of "realnvp" and "maf"; () for their default.
        components: Components of "mixture", "petals" and "swiss_roll", pseudo-inputs of "vamp"; 0
            for their default.

    Raises:
        ValueError: If `name` is unknown, if `scale` is out of range, or if `dim` is not 2 for
            "petals" or "swiss_roll".

    Example:
        >>> from zoo.distributions import by_name
        >>> by_name.prior("mixture", 2, (8, 8, 1), components=5)().sample(4).shape
        TensorShape([4, 2])
    """
    look_up(PRIORS, name, "prior")
    if not 0 < scale < math.inf:
        raise ValueError(f"`prior_scale` must be above 0 and finite. Received: {scale}.")
    if name in ("petals", "swiss_roll") and dim != 2:
        raise ValueError(
            f"The prior '{name}' is two-dimensional: it needs latent_dim=2. "
            f"Received: latent_dim={dim}."
        )
    sizes = _given(steps=steps, hidden=tuple(hidden), components=components)
    return {
        "normal": lambda: StandardNormal(dim) if scale == 1 else IsotropicNormal(dim, scale),
        "uniform": lambda: Uniform(dim),
        "sphere": lambda: UniformOnSphere(dim),
        "petals": lambda: NormalPetals(**sizes),
        "swiss_roll": lambda: SwissRoll(**sizes),
        "mixture": lambda: MixturePrior(dim, **sizes),
        "vamp": lambda: VampPrior(image_shape, **sizes),
        "realnvp": lambda: RealNVPPrior(dim, **sizes),
        "maf": lambda: MAFPrior(dim, **sizes),
    }[name]()


def likelihood(name: str, levels: int = 256, scale: float = 1.0) -> Family:
    """The family of p(x | z) of that name.

    Args:
        name: A key of `LIKELIHOODS`.
        levels: Number of grey levels of the data, for "discretized_logistic" and "categorical".
        scale: Initial standard deviation, for "shared_scale_normal"; 1 for other families.

    Raises:
        ValueError: If `name` is unknown, or the family does not have an option.

    Example:
        >>> from zoo.distributions import by_name
        >>> by_name.likelihood("categorical", levels=17).params_per_value
        17
    """
    look_up(LIKELIHOODS, name, "likelihood")
    if scale != 1 and name != "shared_scale_normal":
        raise ValueError(
            "An initial standard deviation of the pixels is for the likelihood "
            f"'shared_scale_normal'. Received: likelihood='{name}', scale={scale}."
        )
    return {
        "bernoulli": Bernoulli,
        "continuous_bernoulli": ContinuousBernoulli,
        "normal": lambda: DiagonalNormal(min_scale=0.05, max_scale=1.0),
        "shared_scale_normal": lambda: SharedScaleNormal(scale),
        "unit_normal": UnitNormal,
        "discretized_logistic": lambda: DiscretizedLogistic(levels),
        "categorical": lambda: Categorical(levels),
    }[name]()


def _given(**sizes):
    """The sizes that are set: neither 0 nor ()."""
    return {name: size for name, size in sizes.items() if size}
