"""Families, conditionals and priors: the distributions of the models.

A family maps parameters to a distribution, and a conditional maps a context to a distribution.
Families, conditionals and priors return a `tfp.distributions.Distribution`, with `sample`,
`log_prob`, `mean`, and an exact KL divergence if TFP has one. No losses are computed here.
"""

from zoo.distributions import by_name
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
)
from zoo.distributions.fitted import FittedMixture, FittedPrior, TwoStagePrior
from zoo.distributions.flow_networks import MADE
from zoo.distributions.flow_posteriors import InverseAutoregressiveNormal, PlanarNormal
from zoo.distributions.flow_priors import MAFPrior, RealNVPPrior
from zoo.distributions.hierarchical import HierarchicalPosterior, HierarchicalPrior
from zoo.distributions.implicit import (
    ImplicitConditional,
    ImplicitPart,
    NoiseBasisConditional,
    mean_and_variance,
    noise_basis,
    noisy_mlp,
)
from zoo.distributions.mixtures import MixturePrior, NormalPetals, SwissRoll, VampPrior
from zoo.distributions.part import (
    Part,
    has_log_prob,
    kl,
    need_density,
    need_differentiable_draws,
    need_noise,
    refuse_learned,
)
from zoo.distributions.priors import (
    ConditionalPrior,
    IsotropicNormal,
    Prior,
    StandardNormal,
    Uniform,
    UniformOnSphere,
)
from zoo.distributions.videos import FrameLikelihood, FramePosterior, MarkovChain, MarkovPrior

__all__ = [
    "MADE",
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
    "FittedMixture",
    "FittedPrior",
    "FrameLikelihood",
    "FramePosterior",
    "FullCovarianceNormal",
    "HierarchicalPosterior",
    "HierarchicalPrior",
    "ImplicitConditional",
    "ImplicitPart",
    "InverseAutoregressiveNormal",
    "IsotropicNormal",
    "MAFPrior",
    "MarkovChain",
    "MarkovPrior",
    "MixturePrior",
    "NoiseBasisConditional",
    "NormalPetals",
    "Part",
    "PlanarNormal",
    "Prior",
    "RealNVPPrior",
    "SharedScaleNormal",
    "StandardNormal",
    "SwissRoll",
    "TwoStagePrior",
    "Uniform",
    "UniformOnSphere",
    "UnitNormal",
    "VampPrior",
    "by_name",
    "has_log_prob",
    "kl",
    "likelihood_family",
    "mean_and_variance",
    "need_density",
    "need_differentiable_draws",
    "need_noise",
    "noise_basis",
    "noisy_mlp",
    "refuse_learned",
]

likelihood_family = by_name.likelihood
