"""The models: one file per paper, with the name of the builder.

A builder, `zoo.models.NAME`, makes a model from plain values. Its name is the snake case of the
class, and the names of the presets begin with it: `zoo.models.info_vae` builds an `InfoVAE`, and
`info_vae_mnist` is one of its presets. A paper that combines existing parts has a builder and no
class; the builder then has the usual name of the paper's model, such as `dcgan`.

The last column lists the data sets of a builder's presets. The name of a preset ends with its data
set; for `folder`, with the name of a set of images, such as `toon_heads`.

`zoo.models.NAME` is the builder, not the module: import other names with
`from zoo.models.NAME import ...`.

Autoencoders and VAEs:

| builder | class | paper | presets on |
|---|---|---|---|
| `autoencoder` | `Autoencoder` | Hinton & Salakhutdinov 2006 | digits, mnist |
| `vae` | `VAE` | Kingma & Welling 2014; Rezende et al. 2014 | digits, mnist, fashion_mnist, svhn_cropped, cifar10, heads_grey, sprites |
| `beta_vae` | `BetaVAE` | Higgins et al. 2017; Burgess et al. 2018 | digits, mnist, sprites |
| `beta_tcvae` | `BetaTCVAE` | Chen et al. 2018 | digits, mnist, sprites |
| `factor_vae` | `FactorVAE` | Kim & Mnih 2018 | digits, mnist, cifar10, sprites |
| `info_vae` | `InfoVAE` | Zhao et al. 2019 (InfoVAE, MMD-VAE) | digits, mnist |
| `iwae` | `IWAE` | Burda et al. 2016; Tucker et al. 2019 (DReG) | digits, mnist |
| `hierarchical_iwae` | `VAE` | Burda et al. 2016, two stochastic layers (an IWAE) | digits, mnist |
| `hvae` | `VAE` | Tomczak & Welling 2018, section 4 (HVAE) | digits, mnist |
| `denoising_vae` | `DenoisingVAE` | Im et al. 2017 | digits, mnist |
| `denoising_iwae` | `DenoisingIWAE` | Im et al. 2017 | digits, mnist |
| `cvae` | `CVAE` | Sohn et al. 2015 (CVAE, GSNN); Yan et al. 2016 (attributes); Walker et al. 2016 (forecasting) | digits, mnist, folder, sprites_scenes, moving_sprites, turning_sprites |
| `predictor` | `Predictor` | Sohn et al. 2015, deterministic baseline | digits, mnist, moving_sprites, turning_sprites |
| `m1` | `VAE` | Kingma et al. 2014 (M1) | digits, mnist |
| `m2` | `M2` | Kingma et al. 2014 (M2) | digits, mnist |
| `m1_m2` | `M1M2` | Kingma et al. 2014 (M1+M2) | digits, mnist |
| `rae` | `RAE` | Ghosh et al. 2020 | digits, mnist |
| `wae` | `WAE` | Tolstikhin et al. 2018 (WAE-MMD) | digits, mnist |
| `waegan` | `WAEGAN` | Tolstikhin et al. 2018 (WAE-GAN) | digits, mnist, cifar10 |

Models of scenes:

| builder | class | paper | presets on |
|---|---|---|---|
| `inverse_graphics` | `InverseGraphics` | Kulkarni et al. 2015 (DC-IGN) | heads_grey, sprites_groups |
| `dis_cvae` | `DisCVAE` | Yan et al. 2016 (Attribute2Image) | folder, sprites_scenes |
| `face_autoencoder` | `FaceAutoencoder` | Tewari et al. 2017 (MoFA) | heads |
| `video_vae` | `VideoVAE` | Krishnan et al. 2015; Li & Mandt 2018 | bouncing_sprites |

GANs:

| builder | class | paper | presets on |
|---|---|---|---|
| `gan` | `GAN` | Goodfellow et al. 2014 | digits, mnist, fashion_mnist, svhn_cropped, cifar10 |
| `dcgan` | `GAN` | Radford et al. 2016 | digits, mnist, fashion_mnist, svhn_cropped, cifar10, celeb_a |
| `wgan_gp` | `GAN` | Gulrajani et al. 2017 | digits, mnist, cifar10 |
| `f_gan` | `GAN` | Nowozin et al. 2016 | digits, mnist |
| `sngan` | `GAN` | Miyato et al. 2018 | mnist, cifar10 |
| `cgan` | `CGAN` | Mirza & Osindero 2014; Miyato & Koyama 2018 | digits, mnist |
| `bi_gan` | `BiGAN` | Donahue et al. 2017 | digits, mnist |
| `ali` | `BiGAN` | Dumoulin et al. 2017 (ALI) | cifar10 |

Adversarial autoencoders:

| builder | class | paper | presets on |
|---|---|---|---|
| `aae` | `AAE` | Makhzani et al. 2016, sections 2 and 4 | digits, mnist, fashion_mnist, svhn_cropped, cifar10 |
| `label_informed_aae` | `LabelInformedAAE` | Makhzani et al. 2016, section 2.3 | digits, mnist |
| `semi_supervised_aae` | `SemiSupervisedAAE` | Makhzani et al. 2016, section 5 | digits, mnist, cifar10 |
| `clustering_aae` | `ClusteringAAE` | Makhzani et al. 2016, section 6 | digits, mnist |
| `dimension_reduction_aae` | `DimensionReductionAAE` | Makhzani et al. 2016, section 7 | digits, mnist |
| `semi_supervised_dimension_reduction_aae` | `SemiSupervisedDimensionReductionAAE` | Makhzani et al. 2016, section 7 | digits, mnist |

Hybrids of VAE and GAN:

| builder | class | paper | presets on |
|---|---|---|---|
| `vaegan` | `VAEGAN` | Larsen et al. 2016 (VAE/GAN) | digits, mnist, fashion_mnist, svhn_cropped, cifar10, celeb_a, folder |
| `avb` | `AVB` | Mescheder et al. 2017 | digits, mnist |
| `alpha_gan` | `AlphaGAN` | Rosca et al. 2017 | digits, mnist, cifar10 |
| `swapping_autoencoder` | `SwappingAutoencoder` | Park et al. 2020 | digits, textures, cifar10, folder |
| `dcvae` | `DCVAE` | Parmar et al. 2021 (DC-VAE) | digits, mnist, fashion_mnist, cifar10, folder |

Papers that describe a part, which many models can use:

| paper | part |
|---|---|
| Inverse autoregressive flow, IAF (Kingma et al. 2016) | `posterior="iaf"` |
| Planar flow (Rezende & Mohamed 2015) | `posterior="planar"` |
| Full covariance (Kingma & Welling 2019) | `posterior="full_covariance"` |
| VampPrior (Tomczak & Welling 2018) | `prior="vamp"`, as in the presets `vae_vamp_*` |
| RealNVP (Dinh et al. 2017), MAF (Papamakarios et al. 2017) | `prior="realnvp"`, `prior="maf"` |
| Mixture prior | `prior="mixture"` |
| Mixture fitted to codes (Ghosh et al. 2020), two-stage VAE (Dai & Wipf 2019) | after training: `zoo.expost` |
| Free bits (Kingma et al. 2016), KL warm-up | `free_bits`, `warm_up_steps` |
| sigma-VAE (Rybkin et al. 2021) | `likelihood="shared_scale_normal"` |
| Decoder that starts at the mean image (Burda et al. 2016, authors' code) | `start_at_mean`, true by default: `zoo.mean_start` |
| Continuous Bernoulli (Loaiza-Ganem & Cunningham 2019) | `likelihood="continuous_bernoulli"` |
| LSGAN (Mao et al. 2017), hinge loss (Lim & Ye 2017), WGAN (Arjovsky et al. 2017) | `loss="least_squares"`, `"hinge"`, `"wasserstein"` |
| f-GAN's divergences (Nowozin et al. 2016) | `loss="f_kl"` and others: `zoo.adversarial` |
| Gradient penalty (Gulrajani et al. 2017), R1 (Mescheder et al. 2018) | `gradient_penalty`, `r1` |
| Modulated convolutions (Karras et al. 2020) | `zoo.modulated` |
| Spectral normalization (Miyato et al. 2018) | `spectral_norm` |
| Residual networks (Miyato et al. 2018) | `network="resnet"`: `zoo.networks.residual_block` |
| InfoNCE (van den Oord et al. 2018), momentum contrast (MoCo, He et al. 2020) | `zoo.contrast` |
| One-sided label smoothing (Salimans et al. 2016), instance noise (Sonderby et al. 2017) | `real_label`, `instance_noise` |
| Differentiable augmentation (Zhao et al. 2020) | `augment`, of models with a discriminator of images: `zoo.augmentation` |
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
from zoo.models.dcvae import DCVAE, dcvae
from zoo.models.denoising_iwae import DenoisingIWAE, denoising_iwae
from zoo.models.denoising_vae import DenoisingVAE, GaussianNoise, SaltAndPepper, denoising_vae
from zoo.models.dimension_reduction_aae import (
    ClusterHeads,
    DimensionReductionAAE,
    dimension_reduction_aae,
)
from zoo.models.dis_cvae import DisCVAE, dis_cvae
from zoo.models.f_gan import f_gan
from zoo.models.face_autoencoder import FaceAutoencoder, face_autoencoder
from zoo.models.factor_vae import FactorVAE, factor_vae, permute_dims
from zoo.models.gan import GAN, gan
from zoo.models.hierarchical_iwae import hierarchical_iwae
from zoo.models.hvae import hvae
from zoo.models.info_vae import InfoVAE, info_vae
from zoo.models.inverse_graphics import InverseGraphics, inverse_graphics
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
from zoo.models.swapping_autoencoder import SwappingAutoencoder, swapping_autoencoder
from zoo.models.vae import VAE, vae
from zoo.models.vaegan import VAEGAN, Equilibrium, attribute_vectors, vaegan
from zoo.models.video_vae import VideoVAE, video_vae
from zoo.models.wae import WAE, wae
from zoo.models.waegan import WAEGAN, waegan
from zoo.models.wgan_gp import wgan_gp

_ROWS = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", __doc__, re.MULTILINE)
BUILDERS: dict[str, Any] = {name: globals()[name] for name, _ in _ROWS}
"""Every builder by name, in the order of the tables above."""


def required_runs(builder: str) -> Mapping[str, str]:
    """The options of a builder that name a run of a trained model: `GenerativeModel.requires`."""
    return typing.get_type_hints(BUILDERS[builder])["return"].requires


# The classes, which `zoo` exports too. A builder is only `zoo.models.NAME`.
__all__ = [
    *dict.fromkeys(cls for _, cls in _ROWS),
    "CategoryAndStyle",
    "ClusterHeads",
    "Equilibrium",
    "GaussianNoise",
    "SaltAndPepper",
    "SoftmaxAndStyle",
]
