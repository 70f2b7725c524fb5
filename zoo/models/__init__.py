"""The models: one file per paper, with the name of the builder.

A builder, `zoo.models.NAME`, makes a model from plain values. Its name is the snake case of the
class, and the names of the presets begin with it: `zoo.models.info_vae` builds an `InfoVAE`, and
`info_vae_mnist` is one of its presets. A paper that combines existing parts has a builder and no
class; the builder then has the usual name of the paper's model, such as `dcgan`.

`zoo.models.NAME` is the builder, not the module: import other names with
`from zoo.models.NAME import ...`.

Autoencoders and VAEs:

| builder | class | paper |
|---|---|---|
| `autoencoder` | `Autoencoder` | Hinton & Salakhutdinov 2006 |
| `vae` | `VAE` | Kingma & Welling 2014; Rezende et al. 2014 |
| `beta_vae` | `BetaVAE` | Higgins et al. 2017; Burgess et al. 2018 |
| `beta_tcvae` | `BetaTCVAE` | Chen et al. 2018 |
| `factor_vae` | `FactorVAE` | Kim & Mnih 2018 |
| `info_vae` | `InfoVAE` | Zhao et al. 2019 (InfoVAE, MMD-VAE) |
| `iwae` | `IWAE` | Burda et al. 2016; Tucker et al. 2019 (DReG) |
| `hierarchical_iwae` | `VAE` | Burda et al. 2016, two stochastic layers (an IWAE) |
| `hvae` | `VAE` | Tomczak & Welling 2018, section 4 (HVAE) |
| `denoising_vae` | `DenoisingVAE` | Im et al. 2017 |
| `denoising_iwae` | `DenoisingIWAE` | Im et al. 2017 |
| `cvae` | `CVAE` | Sohn et al. 2015 (CVAE, GSNN) |
| `predictor` | `Predictor` | Sohn et al. 2015, deterministic baseline |
| `m1` | `VAE` | Kingma et al. 2014 (M1) |
| `m2` | `M2` | Kingma et al. 2014 (M2) |
| `m1_m2` | `M1M2` | Kingma et al. 2014 (M1+M2) |
| `rae` | `RAE` | Ghosh et al. 2020 |
| `wae` | `WAE` | Tolstikhin et al. 2018 (WAE-MMD) |
| `waegan` | `WAEGAN` | Tolstikhin et al. 2018 (WAE-GAN) |

GANs:

| builder | class | paper |
|---|---|---|
| `gan` | `GAN` | Goodfellow et al. 2014 |
| `dcgan` | `GAN` | Radford et al. 2016 |
| `wgan_gp` | `GAN` | Gulrajani et al. 2017 |
| `f_gan` | `GAN` | Nowozin et al. 2016 |
| `sngan` | `GAN` | Miyato et al. 2018 |
| `cgan` | `CGAN` | Mirza & Osindero 2014; Miyato & Koyama 2018 |
| `bi_gan` | `BiGAN` | Donahue et al. 2017 |
| `ali` | `BiGAN` | Dumoulin et al. 2017 (ALI) |

Adversarial autoencoders:

| builder | class | paper |
|---|---|---|
| `aae` | `AAE` | Makhzani et al. 2016, sections 2 and 4 |
| `label_informed_aae` | `LabelInformedAAE` | Makhzani et al. 2016, section 2.3 |
| `semi_supervised_aae` | `SemiSupervisedAAE` | Makhzani et al. 2016, section 5 |
| `clustering_aae` | `ClusteringAAE` | Makhzani et al. 2016, section 6 |
| `dimension_reduction_aae` | `DimensionReductionAAE` | Makhzani et al. 2016, section 7 |
| `semi_supervised_dimension_reduction_aae` | `SemiSupervisedDimensionReductionAAE` | Makhzani et al. 2016, section 7 |

Hybrids of VAE and GAN:

| builder | class | paper |
|---|---|---|
| `vaegan` | `VAEGAN` | Larsen et al. 2016 (VAE/GAN) |
| `avb` | `AVB` | Mescheder et al. 2017 |
| `alpha_gan` | `AlphaGAN` | Rosca et al. 2017 |

Papers that describe a part, which many models can use:

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
import typing
from collections.abc import Mapping
from typing import Any

from zoo.models import elbo
from zoo.models.aae import AAE, aae
from zoo.models.ali import ali
from zoo.models.alpha_gan import AlphaGAN, alpha_gan
from zoo.models.autoencoder import Autoencoder, autoencoder
from zoo.models.avb import AVB, avb
from zoo.models.beta_tcvae import BetaTCVAE, beta_tcvae
from zoo.models.beta_vae import BetaVAE, beta_vae
from zoo.models.bi_gan import BiGAN, bi_gan
from zoo.models.cgan import CGAN, cgan
from zoo.models.clustering_aae import (
    CategoryAndStyle,
    ClusteringAAE,
    SoftmaxAndStyle,
    clustering_aae,
)
from zoo.models.cvae import CVAE, cvae
from zoo.models.dcgan import dcgan
from zoo.models.denoising_iwae import DenoisingIWAE, denoising_iwae
from zoo.models.denoising_vae import DenoisingVAE, GaussianNoise, SaltAndPepper, denoising_vae
from zoo.models.dimension_reduction_aae import (
    ClusterHeads,
    DimensionReductionAAE,
    dimension_reduction_aae,
)
from zoo.models.f_gan import f_gan
from zoo.models.factor_vae import FactorVAE, factor_vae, permute_dims
from zoo.models.gan import GAN, gan
from zoo.models.hierarchical_iwae import hierarchical_iwae
from zoo.models.hvae import hvae
from zoo.models.info_vae import InfoVAE, info_vae
from zoo.models.iwae import IWAE, iwae
from zoo.models.label_informed_aae import LabelInformedAAE, label_informed_aae
from zoo.models.m1 import m1
from zoo.models.m1_m2 import M1M2, m1_m2
from zoo.models.m2 import M2, m2
from zoo.models.predictor import Predictor, predictor
from zoo.models.rae import RAE, rae
from zoo.models.semi_supervised_aae import SemiSupervisedAAE, semi_supervised_aae
from zoo.models.semi_supervised_dimension_reduction_aae import (
    SemiSupervisedDimensionReductionAAE,
    semi_supervised_dimension_reduction_aae,
)
from zoo.models.sngan import sngan
from zoo.models.vae import VAE, vae
from zoo.models.vaegan import VAEGAN, Equilibrium, attribute_vectors, vaegan
from zoo.models.wae import WAE, wae
from zoo.models.waegan import WAEGAN, waegan
from zoo.models.wgan_gp import wgan_gp

_ROWS = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", __doc__, re.MULTILINE)
BUILDERS: dict[str, Any] = {name: globals()[name] for name, _ in _ROWS}
"""Every builder by name, in the order of the tables above."""


def required_runs(builder: str) -> Mapping[str, str]:
    """The options of a builder that name a run of a trained model: `GenerativeModel.requires`."""
    return typing.get_type_hints(BUILDERS[builder])["return"].requires


__all__ = [
    *dict.fromkeys(name for row in _ROWS for name in row),
    "BUILDERS",
    "CategoryAndStyle",
    "ClusterHeads",
    "Equilibrium",
    "GaussianNoise",
    "SaltAndPepper",
    "SoftmaxAndStyle",
    "attribute_vectors",
    "permute_dims",
    "elbo",
    "required_runs",
]
