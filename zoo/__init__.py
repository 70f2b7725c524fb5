"""Generative models that combine variational autoencoders and adversarial networks.

Models are games of players (`GenerativeModel`, `Round`), made of networks (`zoo.networks`) and
distributions; each model's paper has a file in `zoo/models/`. `zoo.presets` has settings by name,
`zoo.pretrained` trained weights, `zoo.datasets` the data, `zoo.metrics` the scores.
"""

from zoo import (
    adversarial,
    datasets,
    discrepancies,
    evaluation,
    export,
    features,
    metrics,
    networks,
    penalties,
    pictures,
    presets,
    pretrained,
    schedules,
)
from zoo.distributions import (
    Bernoulli,
    Categorical,
    Completion,
    Conditional,
    ConditionalPrior,
    ContinuousBernoulli,
    Deterministic,
    DiagonalNormal,
    DiscretizedLogistic,
    Family,
    FullCovarianceNormal,
    HierarchicalPosterior,
    HierarchicalPrior,
    ImplicitConditional,
    InverseAutoregressiveNormal,
    IsotropicNormal,
    MAFPrior,
    MixturePrior,
    NoiseBasisConditional,
    NormalPetals,
    PlanarNormal,
    Prior,
    RealNVPPrior,
    SharedScaleNormal,
    StandardNormal,
    SwissRoll,
    Uniform,
    UniformOnSphere,
    UnitNormal,
    VampPrior,
)
from zoo.model import GenerativeModel, NonFiniteError, Round
from zoo.models import *
from zoo.pretrained import from_preset

__version__ = "0.1.0"
