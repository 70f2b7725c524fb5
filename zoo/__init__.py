"""Generative models that combine variational autoencoders and adversarial networks."""

import keras

from zoo import adversarial, datasets, networks, presets
from zoo.distributions import (
    Bernoulli,
    Conditional,
    ContinuousBernoulli,
    Deterministic,
    DiagonalNormal,
    DiscretizedLogistic,
    IsotropicNormal,
    NormalPetals,
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
