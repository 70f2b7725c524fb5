"""Families (parameters to a distribution), conditionals (context to a distribution), priors.

All of them hand out `tfp.distributions.Distribution`s: `sample`, `log_prob`, `mean`, and exact
KL divergences where TFP knows them. Nothing here computes a loss.
"""

from zoo.distributions.conditional import Completion, Conditional
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
    likelihood_family,
)
from zoo.distributions.implicit import (
    ImplicitConditional,
    ImplicitPart,
    NoiseBasisConditional,
    mean_and_variance,
    noise_basis,
    noisy_mlp,
)
from zoo.distributions.part import Part, has_log_prob, kl, refuse_learned
from zoo.distributions.priors import (
    ConditionalPrior,
    IsotropicNormal,
    MixturePrior,
    NormalPetals,
    Prior,
    StandardNormal,
    SwissRoll,
    Uniform,
    UniformOnSphere,
    VampPrior,
)

__all__ = [
    "Bernoulli",
    "Categorical",
    "Completion",
    "Conditional",
    "ConditionalPrior",
    "ContinuousBernoulli",
    "Deterministic",
    "DiagonalNormal",
    "DiscretizedLogistic",
    "Family",
    "FullCovarianceNormal",
    "ImplicitConditional",
    "ImplicitPart",
    "IsotropicNormal",
    "MixturePrior",
    "NoiseBasisConditional",
    "NormalPetals",
    "Part",
    "Prior",
    "SharedScaleNormal",
    "StandardNormal",
    "SwissRoll",
    "Uniform",
    "UniformOnSphere",
    "UnitNormal",
    "VampPrior",
    "has_log_prob",
    "kl",
    "likelihood_family",
    "mean_and_variance",
    "noise_basis",
    "noisy_mlp",
    "refuse_learned",
]
