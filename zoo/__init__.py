"""Generative models that combine variational autoencoders and adversarial networks.

Models are games of players (`GenerativeModel`, `Round`), made of networks (`zoo.networks`) and
distributions; each model's paper has a file in `zoo/models/`. `zoo.presets` has settings by name,
`zoo.datasets` the data, `zoo.metrics` the scores.
"""

from zoo import (
    adversarial,
    datasets,
    discrepancies,
    evaluation,
    export,
    features,
    flows,
    metrics,
    networks,
    pictures,
    presets,
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
    IsotropicNormal,
    MixturePrior,
    NormalPetals,
    Prior,
    SharedScaleNormal,
    StandardNormal,
    SwissRoll,
    Uniform,
    UnitNormal,
    VampPrior,
)
from zoo.flows import InverseAutoregressiveNormal, MAFPrior, PlanarNormal, RealNVPPrior
from zoo.model import GenerativeModel, NonFiniteError, Round
from zoo.models.aae import AAE
from zoo.models.autoencoder import Autoencoder
from zoo.models.beta_vae import BetaVAE
from zoo.models.conditional_vae import ConditionalVAE, Predictor
from zoo.models.denoising_vae import DenoisingIWAE, DenoisingVAE, GaussianNoise, SaltAndPepper
from zoo.models.gan import GAN
from zoo.models.hierarchical_vae import HierarchicalPosterior, HierarchicalPrior
from zoo.models.info_vae import InfoVAE
from zoo.models.iwae import IWAE
from zoo.models.semi_supervised import SemiSupervisedVAE, StackedSemiSupervisedVAE
from zoo.models.vae import VAE
from zoo.models.vae_gan import VAEGAN
from zoo.models.wae import WAE

__version__ = "0.1.0"

__all__ = [
    "AAE",
    "GAN",
    "IWAE",
    "VAE",
    "VAEGAN",
    "WAE",
    "Autoencoder",
    "Bernoulli",
    "BetaVAE",
    "Categorical",
    "Completion",
    "Conditional",
    "ConditionalPrior",
    "ConditionalVAE",
    "ContinuousBernoulli",
    "DenoisingIWAE",
    "DenoisingVAE",
    "Deterministic",
    "DiagonalNormal",
    "DiscretizedLogistic",
    "Family",
    "FullCovarianceNormal",
    "GaussianNoise",
    "GenerativeModel",
    "HierarchicalPosterior",
    "HierarchicalPrior",
    "InfoVAE",
    "InverseAutoregressiveNormal",
    "IsotropicNormal",
    "MAFPrior",
    "MixturePrior",
    "NonFiniteError",
    "NormalPetals",
    "PlanarNormal",
    "Predictor",
    "Prior",
    "RealNVPPrior",
    "Round",
    "SaltAndPepper",
    "SemiSupervisedVAE",
    "SharedScaleNormal",
    "StackedSemiSupervisedVAE",
    "StandardNormal",
    "SwissRoll",
    "Uniform",
    "UnitNormal",
    "VampPrior",
    "adversarial",
    "datasets",
    "discrepancies",
    "evaluation",
    "export",
    "features",
    "flows",
    "metrics",
    "networks",
    "pictures",
    "presets",
    "schedules",
]
