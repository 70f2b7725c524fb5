"""Generative models that combine variational autoencoders and adversarial networks.

Models are games of players (`GenerativeModel`, `Round`), made of networks (`zoo.networks`) and
distributions; each model's paper has a file in `zoo/models/`. `zoo.presets` has settings by name,
`zoo.datasets` the data, `zoo.metrics` the scores.
"""

from zoo import (
    adversarial,
    datasets,
    evaluation,
    export,
    features,
    metrics,
    networks,
    pictures,
    presets,
)
from zoo.distributions import (
    Bernoulli,
    Conditional,
    ContinuousBernoulli,
    Deterministic,
    DiagonalNormal,
    DiscretizedLogistic,
    Family,
    IsotropicNormal,
    NormalPetals,
    Prior,
    SharedScaleNormal,
    StandardNormal,
    SwissRoll,
    Uniform,
    UnitNormal,
)
from zoo.model import GenerativeModel, NonFiniteError, Round
from zoo.models.aae import AAE
from zoo.models.autoencoder import Autoencoder
from zoo.models.gan import GAN
from zoo.models.vae import VAE
from zoo.models.vae_gan import VAEGAN

__version__ = "0.1.0"

__all__ = [
    "AAE",
    "GAN",
    "VAE",
    "VAEGAN",
    "Autoencoder",
    "Bernoulli",
    "Conditional",
    "ContinuousBernoulli",
    "Deterministic",
    "DiagonalNormal",
    "DiscretizedLogistic",
    "Family",
    "GenerativeModel",
    "IsotropicNormal",
    "NonFiniteError",
    "NormalPetals",
    "Prior",
    "Round",
    "SharedScaleNormal",
    "StandardNormal",
    "SwissRoll",
    "Uniform",
    "UnitNormal",
    "adversarial",
    "datasets",
    "evaluation",
    "export",
    "features",
    "metrics",
    "networks",
    "pictures",
    "presets",
]
