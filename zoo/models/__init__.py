"""The map of the field: one file per paper, named as its class, its builder and its presets.

A builder, `zoo.models.NAME`, makes a model from plain values. Its name is the snake case of the class,
and the presets of the model begin with it: `zoo.models.info_vae` builds an `InfoVAE`, and
`info_vae_mnist` is a preset of it. A paper that combines existing parts has a builder and no class.

Autoencoders and VAEs:

| builder | class | paper |
|---|---|---|
| `autoencoder` | `Autoencoder` | Hinton & Salakhutdinov 2006 |
| `vae` | `VAE` | Kingma & Welling 2014; Rezende et al. 2014 |
| `beta_vae` | `BetaVAE` | Higgins et al. 2017; Burgess et al. 2018 |
| `beta_tcvae` | `BetaTCVAE` | Chen et al. 2018 |
| `factor_vae` | `FactorVAE` | Kim & Mnih 2018 |
| `info_vae` | `InfoVAE` | Zhao et al. 2017 (InfoVAE, MMD-VAE) |
| `iwae` | `IWAE` | Burda et al. 2016; Tucker et al. 2019 (DReG) |
| `hierarchical_iwae` | `IWAE` | Burda et al. 2016, two stochastic layers |
| `hvae` | `VAE` | Tomczak & Welling 2018, section 4 (HVAE) |
| `denoising_vae` | `DenoisingVAE` | Im et al. 2017 |
| `denoising_iwae` | `DenoisingIWAE` | Im et al. 2017 |
| `cvae` | `CVAE` | Sohn et al. 2015 (CVAE, GSNN) |
| `predictor` | `Predictor` | Sohn et al. 2015, deterministic baseline |
| `rae` | `RAE` | Ghosh et al. 2020 |

Papers that are parts, usable in many models:

| paper | part |
|---|---|
| Inverse autoregressive flow, IAF (Kingma et al. 2016) | `posterior="iaf"` |
| Planar flow (Rezende & Mohamed 2015) | `posterior="planar"` |
| Full covariance (Kingma & Welling 2019) | `posterior="full_covariance"` |
| VampPrior (Tomczak & Welling 2018) | `prior="vamp"`, as in the presets `vae_vamp_*` |
| RealNVP (Dinh et al. 2017), MAF (Papamakarios et al. 2017) | `prior="realnvp"`, `prior="maf"` |
| Mixture prior | `prior="mixture"` |
| Free bits (Kingma et al. 2016), KL warm-up | `free_bits`, `warm_up_steps` |
| sigma-VAE (Rybkin et al. 2021) | `likelihood="shared_scale_normal"` |
| Continuous Bernoulli (Loaiza-Ganem & Cunningham 2019) | `likelihood="continuous_bernoulli"` |
| LSGAN (Mao et al. 2017), hinge loss (Lim & Ye 2017), WGAN (Arjovsky et al. 2017) | `loss="least_squares"`, `"hinge"`, `"wasserstein"` |
| f-GAN's divergences (Nowozin et al. 2016) | `loss="f_kl"` and others: `zoo.adversarial` |
| Gradient penalty (Gulrajani et al. 2017), R1 (Mescheder et al. 2018) | `gradient_penalty`, `r1` |
| Spectral normalization (Miyato et al. 2018) | `spectral_norm` |
| One-sided label smoothing (Salimans et al. 2016), instance noise (Sonderby et al. 2017) | `real_label`, `instance_noise` |
"""

import re

from zoo.models import elbo
from zoo.models.autoencoder import Autoencoder, autoencoder
from zoo.models.beta_tcvae import BetaTCVAE, beta_tcvae
from zoo.models.beta_vae import BetaVAE, beta_vae
from zoo.models.cvae import CVAE, cvae
from zoo.models.denoising_iwae import DenoisingIWAE, denoising_iwae
from zoo.models.denoising_vae import DenoisingVAE, GaussianNoise, SaltAndPepper, denoising_vae
from zoo.models.factor_vae import FactorVAE, factor_vae, permute_dims
from zoo.models.hierarchical_iwae import hierarchical_iwae
from zoo.models.hvae import hvae
from zoo.models.info_vae import InfoVAE, info_vae
from zoo.models.iwae import IWAE, iwae
from zoo.models.predictor import Predictor, predictor
from zoo.models.rae import RAE, rae
from zoo.models.vae import VAE, vae

BUILDERS = {name: globals()[name] for name in re.findall(r"^\| `(\w+)` \|", __doc__, re.MULTILINE)}
"""Every builder by its name, in the order of the map."""

__all__ = [
    "BUILDERS",
    "CVAE",
    "IWAE",
    "RAE",
    "VAE",
    "Autoencoder",
    "BetaTCVAE",
    "BetaVAE",
    "DenoisingIWAE",
    "DenoisingVAE",
    "FactorVAE",
    "GaussianNoise",
    "InfoVAE",
    "Predictor",
    "SaltAndPepper",
    "autoencoder",
    "beta_tcvae",
    "beta_vae",
    "cvae",
    "denoising_iwae",
    "denoising_vae",
    "elbo",
    "factor_vae",
    "hierarchical_iwae",
    "hvae",
    "info_vae",
    "iwae",
    "permute_dims",
    "predictor",
    "rae",
    "vae",
]
