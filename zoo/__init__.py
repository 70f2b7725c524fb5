"""Generative models that combine variational autoencoders and adversarial networks.

Models are games of players (`GenerativeModel`, `Round`), made of networks (`zoo.networks`) and
distributions; each model's paper has a file in `zoo/models/`. `zoo.presets` has settings by name,
`zoo.pretrained` trained weights, `zoo.datasets` the data, `zoo.metrics` the scores.
"""

from zoo import (
    adversarial,
    conditions,
    config,
    datasets,
    discrepancies,
    distributions,
    evaluation,
    export,
    features,
    files,
    flows,
    metrics,
    models,
    networks,
    penalties,
    pictures,
    presets,
    pretrained,
    schedules,
    training,
    versions,
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
    ImplicitConditional,
    IsotropicNormal,
    MixturePrior,
    NoiseBasisConditional,
    NormalPetals,
    Prior,
    SharedScaleNormal,
    StandardNormal,
    SwissRoll,
    Uniform,
    UniformOnSphere,
    UnitNormal,
    VampPrior,
)
from zoo.flows import InverseAutoregressiveNormal, MAFPrior, PlanarNormal, RealNVPPrior
from zoo.model import GenerativeModel, NonFiniteError, Round
from zoo.models.aae import AAE
from zoo.models.alpha_gan import AlphaGAN
from zoo.models.autoencoder import Autoencoder
from zoo.models.avb import AVB
from zoo.models.beta_vae import BetaVAE
from zoo.models.bi_gan import BiGAN
from zoo.models.cgan import CGAN
from zoo.models.clustering_aae import CategoryAndStyle, ClusteringAAE, SoftmaxAndStyle
from zoo.models.cvae import CVAE, Predictor
from zoo.models.denoising_vae import DenoisingIWAE, DenoisingVAE, GaussianNoise, SaltAndPepper
from zoo.models.dimension_reduction_aae import (
    ClusterHeads,
    DimensionReductionAAE,
    SemiSupervisedDimensionReductionAAE,
)
from zoo.models.factor_vae import FactorVAE
from zoo.models.gan import GAN
from zoo.models.hvae import HierarchicalPosterior, HierarchicalPrior
from zoo.models.info_vae import InfoVAE
from zoo.models.iwae import IWAE
from zoo.models.label_informed_aae import LabelInformedAAE
from zoo.models.m2 import M1M2, M2
from zoo.models.semi_supervised_aae import SemiSupervisedAAE
from zoo.models.vae import VAE
from zoo.models.vaegan import VAEGAN, Equilibrium
from zoo.models.wae import WAE, WAEGAN
from zoo.pretrained import from_preset
from zoo.versions import __version__ as __version__

__all__ = [
    "AAE",
    "AVB",
    "CGAN",
    "CVAE",
    "GAN",
    "IWAE",
    "M1M2",
    "M2",
    "VAE",
    "VAEGAN",
    "WAE",
    "WAEGAN",
    "AlphaGAN",
    "Autoencoder",
    "Bernoulli",
    "BetaVAE",
    "BiGAN",
    "Categorical",
    "CategoryAndStyle",
    "ClusterHeads",
    "ClusteringAAE",
    "Completion",
    "Conditional",
    "ConditionalPrior",
    "ContinuousBernoulli",
    "DenoisingIWAE",
    "DenoisingVAE",
    "Deterministic",
    "DiagonalNormal",
    "DimensionReductionAAE",
    "DiscretizedLogistic",
    "Equilibrium",
    "FactorVAE",
    "Family",
    "FullCovarianceNormal",
    "GaussianNoise",
    "GenerativeModel",
    "HierarchicalPosterior",
    "HierarchicalPrior",
    "ImplicitConditional",
    "InfoVAE",
    "InverseAutoregressiveNormal",
    "IsotropicNormal",
    "LabelInformedAAE",
    "MAFPrior",
    "MixturePrior",
    "NoiseBasisConditional",
    "NonFiniteError",
    "NormalPetals",
    "PlanarNormal",
    "Predictor",
    "Prior",
    "RealNVPPrior",
    "Round",
    "SaltAndPepper",
    "SemiSupervisedAAE",
    "SemiSupervisedDimensionReductionAAE",
    "SharedScaleNormal",
    "SoftmaxAndStyle",
    "StandardNormal",
    "SwissRoll",
    "Uniform",
    "UniformOnSphere",
    "UnitNormal",
    "VampPrior",
    "adversarial",
    "conditions",
    "config",
    "datasets",
    "discrepancies",
    "distributions",
    "evaluation",
    "export",
    "features",
    "files",
    "flows",
    "from_preset",
    "metrics",
    "models",
    "networks",
    "penalties",
    "pictures",
    "presets",
    "pretrained",
    "schedules",
    "training",
    "versions",
]
