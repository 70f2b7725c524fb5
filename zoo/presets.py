"""Named settings: builder, data, hyperparameters, optimizers. Plain data, and how to build from it.

config = zoo.presets.get("vae_digits")
zoo.presets.override(config, ["latent_dim=2", "epochs=20"])
model = zoo.presets.build(config, image_shape=(8, 8, 1), levels=17)
"""

import ast
import copy
import inspect
from collections.abc import Iterable
from typing import Any

import keras
from ml_collections import ConfigDict, config_dict

from zoo.config import look_up
from zoo.model import GenerativeModel
from zoo.models.aae import aae_mlp
from zoo.models.alpha_gan import alphagan_conv, alphagan_mlp
from zoo.models.autoencoder import autoencoder_conv, autoencoder_mlp
from zoo.models.avb import avb_mlp
from zoo.models.beta_vae import beta_vae_conv, beta_vae_mlp
from zoo.models.bi_gan import bigan_conv, bigan_mlp
from zoo.models.cgan import cdcgan, cgan_mlp
from zoo.models.clustering_aae import clustering_aae_mlp
from zoo.models.cvae import conditional_vae_mlp, predictor_mlp
from zoo.models.denoising_vae import denoising_vae_mlp
from zoo.models.dimension_reduction_aae import dimension_reduction_aae_mlp
from zoo.models.factor_vae import factor_vae_conv, factor_vae_mlp
from zoo.models.gan import dcgan, gan_mlp
from zoo.models.hvae import hierarchical_iwae_mlp, hvae_mlp
from zoo.models.info_vae import info_vae_conv, info_vae_mlp
from zoo.models.iwae import iwae_mlp
from zoo.models.label_informed_aae import label_informed_aae_mlp
from zoo.models.m2 import m1_m2_mlp, m2_conv, m2_mlp
from zoo.models.semi_supervised_aae import semi_supervised_aae_conv, semi_supervised_aae_mlp
from zoo.models.vae import vae_conv, vae_mlp
from zoo.models.vaegan import vaegan_conv, vaegan_mlp
from zoo.models.wae import wae_conv, wae_gan_conv, wae_gan_mlp, wae_mlp

BUILDERS = {
    builder.__name__: builder
    for builder in (
        autoencoder_mlp,
        autoencoder_conv,
        vae_mlp,
        vae_conv,
        beta_vae_mlp,
        beta_vae_conv,
        iwae_mlp,
        hierarchical_iwae_mlp,
        hvae_mlp,
        denoising_vae_mlp,
        conditional_vae_mlp,
        predictor_mlp,
        gan_mlp,
        dcgan,
        cgan_mlp,
        cdcgan,
        aae_mlp,
        label_informed_aae_mlp,
        semi_supervised_aae_mlp,
        semi_supervised_aae_conv,
        clustering_aae_mlp,
        dimension_reduction_aae_mlp,
        vaegan_mlp,
        vaegan_conv,
        info_vae_mlp,
        info_vae_conv,
        wae_mlp,
        wae_conv,
        wae_gan_mlp,
        wae_gan_conv,
        factor_vae_mlp,
        factor_vae_conv,
        bigan_mlp,
        bigan_conv,
        m2_mlp,
        m2_conv,
        m1_m2_mlp,
        avb_mlp,
        alphagan_mlp,
        alphagan_conv,
    )
}


def _adam(learning_rate: float, **more) -> dict:
    return {"name": "adam", "learning_rate": learning_rate} | more


def _adversarial_adam(learning_rate: float = 2e-4) -> dict:
    return _adam(learning_rate, beta_1=0.5)


def _critic_adam(learning_rate: float = 1e-4) -> dict:
    # Gulrajani et al., 2017, Algorithm 1: without the memory of gradients.
    return _adam(learning_rate, beta_1=0.0, beta_2=0.9)


# XLA and steps per execution are what `benchmarks.speed.throughput --sweep` found best on a CPU: XLA helps
# multilayer perceptrons, but not convolutions, and dropout under it is slow.
# Each name leads to what differs from `_DEFAULTS`, in `model` from the builder's own defaults; `about`
# says in a line what is trained.
PRESETS = {
    "autoencoder_digits": {
        "about": "Autoencoder, squared error, multilayer perceptron.",
        "builder": "autoencoder_mlp",
        "model": {"latent_dim": 8, "hidden": (128,), "likelihood": "unit_normal"},
        "optimizers": {"autoencoder": _adam(2e-3)},
        "data": {"name": "digits"},
        "epochs": 100,
    },
    "vae_digits": {
        "about": "VAE, Bernoulli likelihood on dynamically binarised digits.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "num_samples": 1,
            "warm_up_steps": 0,
            "free_bits": 0.0,
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "vae_full_covariance_digits": {
        "about": "VAE, posterior with full covariance, on dynamically binarised digits.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "full_covariance",
            "prior": "normal",
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "vae_iaf_digits": {
        "about": "VAE, posterior of inverse autoregressive flow, on dynamically binarised digits.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "iaf",
            "posterior_steps": 2,
            "posterior_hidden": (64,),
            "prior": "normal",
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "vae_planar_digits": {
        "about": "VAE, posterior of planar flow, on dynamically binarised digits.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "planar",
            "posterior_steps": 8,
            "prior": "normal",
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "vae_flow_digits": {
        "about": "VAE, RealNVP prior, on dynamically binarised digits.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "normal",
            "prior": "realnvp",
            "prior_steps": 4,
            "prior_hidden": (64, 64),
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "vae_mixture_digits": {
        "about": "VAE, prior a learned mixture of normals, on dynamically binarised digits.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "normal",
            "prior": "mixture",
            "prior_components": 20,
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "vae_vamp_digits": {
        "about": "VAE, VampPrior, on dynamically binarised digits.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "normal",
            "prior": "vamp",
            "prior_components": 50,
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "gan_digits": {
        "about": "GAN, non-saturating, multilayer perceptrons.",
        "builder": "gan_mlp",
        "model": {
            "latent_dim": 16,
            "generator_hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "real_label": 0.9,
        },
        "optimizers": {
            "discriminator": _adversarial_adam(1e-3),
            "generator": _adversarial_adam(1e-3),
        },
        "data": {"name": "digits"},
        "jit_compile": False,
        "epochs": 250,
    },
    "aae_digits": {
        "about": "Adversarial autoencoder, deterministic encoder, Gaussian prior.",
        "builder": "aae_mlp",
        "model": {
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(1e-3),
            "encoder": _adversarial_adam(5e-4),
        },
        "data": {"name": "digits"},
        "epochs": 300,
    },
    "vaegan_digits": {
        "about": "VAE/GAN, multilayer perceptrons.",
        "builder": "vaegan_mlp",
        "model": {
            "latent_dim": 16,
            "hidden": (128,),
            "discriminator_hidden": (128, 128),
        },
        "optimizers": {
            "encoder": _adversarial_adam(1e-3),
            "decoder": _adversarial_adam(1e-3),
            "discriminator": _adversarial_adam(5e-4),
        },
        "data": {"name": "digits"},
        "epochs": 300,
    },
    "autoencoder_mnist": {
        "about": "Autoencoder, squared error, multilayer perceptron.",
        "builder": "autoencoder_mlp",
        "model": {"latent_dim": 32, "hidden": (500,), "likelihood": "unit_normal"},
        "optimizers": {"autoencoder": _adam(1e-3)},
        "data": {"name": "mnist"},
        "batch_size": 100,
        "epochs": 20,
    },
    "autoencoder_conv_mnist": {
        "about": "Autoencoder, squared error, convolutional.",
        "builder": "autoencoder_conv",
        "model": {
            "latent_dim": 32,
            "filters": (32, 64),
            "hidden": 256,
            "likelihood": "unit_normal",
        },
        "optimizers": {"autoencoder": _adam(1e-3)},
        "data": {"name": "mnist"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 10,
    },
    "vae_mnist": {
        "about": "VAE, Bernoulli likelihood on dynamically binarised MNIST.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 20,
            "hidden": (500,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "num_samples": 1,
            "warm_up_steps": 0,
            "free_bits": 0.0,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "vae_conv_mnist": {
        "about": "VAE, Bernoulli likelihood on dynamically binarised MNIST, convolutional.",
        "builder": "vae_conv",
        "model": {
            "latent_dim": 20,
            "filters": (32, 64),
            "hidden": 256,
            "likelihood": "bernoulli",
            "num_samples": 1,
            "warm_up_steps": 0,
            "free_bits": 0.0,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 20,
    },
    "vae_full_covariance_mnist": {
        "about": "VAE, posterior with full covariance, on dynamically binarised MNIST.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 20,
            "hidden": (500,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "full_covariance",
            "prior": "normal",
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "vae_iaf_mnist": {
        "about": "VAE, posterior of inverse autoregressive flow, on dynamically binarised MNIST.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 32,
            "hidden": (500,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "iaf",
            "posterior_steps": 4,
            "posterior_hidden": (320,),
            "prior": "normal",
        },
        "optimizers": {"vae": _adam(5e-4)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "vae_planar_mnist": {
        "about": "VAE, posterior of planar flow, on dynamically binarised MNIST.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 40,
            "hidden": (500,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "planar",
            "posterior_steps": 10,
            "prior": "normal",
        },
        "optimizers": {"vae": _adam(5e-4)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "vae_flow_mnist": {
        "about": "VAE, RealNVP prior, on dynamically binarised MNIST.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 20,
            "hidden": (500,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "normal",
            "prior": "realnvp",
            "prior_steps": 6,
            "prior_hidden": (128, 128),
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "vae_mixture_mnist": {
        "about": "VAE, prior a learned mixture of normals, on dynamically binarised MNIST.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 20,
            "hidden": (500,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "normal",
            "prior": "mixture",
            "prior_components": 100,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "vae_vamp_mnist": {
        "about": "VAE, VampPrior, on dynamically binarised MNIST.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 40,
            "hidden": (300, 300),
            "activation": "relu",
            "likelihood": "bernoulli",
            "posterior": "normal",
            "prior": "vamp",
            "prior_components": 500,
        },
        "optimizers": {"vae": _adam(5e-4)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "gan_mnist": {
        "about": "GAN, non-saturating, R1 penalty, multilayer perceptrons.",
        "builder": "gan_mlp",
        "model": {
            "latent_dim": 64,
            "dropout": 0.0,
            "real_label": 0.9,
            "r1": 2.5,
        },
        "optimizers": {
            "discriminator": _adversarial_adam(),
            "generator": _adversarial_adam(),
        },
        "data": {"name": "mnist"},
        "batch_size": 100,
        "epochs": 50,
    },
    "dcgan_mnist": {
        "about": "GAN with DCGAN's networks, half as wide as the paper's.",
        "builder": "dcgan",
        "model": {"width": 32},
        "optimizers": {
            "discriminator": _adversarial_adam(),
            "generator": _adversarial_adam(),
        },
        "data": {"name": "mnist"},
        "jit_compile": False,
        "batch_size": 128,
        "epochs": 20,
    },
    "dcgan_cifar10": {
        "about": "GAN with DCGAN's networks, half as wide as the paper's, on CIFAR-10.",
        "builder": "dcgan",
        "model": {},
        "optimizers": {
            "discriminator": _adversarial_adam(),
            "generator": _adversarial_adam(),
        },
        "data": {"name": "cifar10"},
        "jit_compile": False,
        "batch_size": 128,
        "epochs": 50,
    },
    "dcgan_celeb_a": {
        "about": "GAN of faces with DCGAN's networks, of the paper's width, 64 pixels.",
        "builder": "dcgan",
        "model": {"width": 128},
        "optimizers": {
            "discriminator": _adversarial_adam(),
            "generator": _adversarial_adam(),
        },
        "data": {"name": "celeb_a"},
        "jit_compile": False,
        "batch_size": 128,
        "epochs": 20,
    },
    "aae_mnist": {
        "about": "Adversarial autoencoder, deterministic encoder, Gaussian prior.",
        "builder": "aae_mlp",
        "model": {
            "hidden": (500, 500),
            "discriminator_hidden": (500, 500),
        },
        "optimizers": {
            "autoencoder": _adam(5e-4),
            "discriminator": _adversarial_adam(1e-4),
            "encoder": _adversarial_adam(2.5e-4),
        },
        "data": {"name": "mnist"},
        "batch_size": 100,
        "epochs": 30,
    },
    "vaegan_mnist": {
        "about": "VAE/GAN, convolutional, with the authors' equilibrium and a heavier rate.",
        "builder": "vaegan_conv",
        "model": {
            "latent_dim": 10,
            "width": 16,
            "loss": "non_saturating",
            "gamma": 3e-3,
            "margin": 0.35,
            "beta": 10.0,
            "joint_batch": False,
        },
        "optimizers": {
            "encoder": _adversarial_adam(5e-4),
            "decoder": _adversarial_adam(5e-4),
            "discriminator": _adversarial_adam(1e-4),
        },
        "data": {"name": "mnist"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 12,
    },
    "vaegan_label_digits": {
        "about": "VAE/GAN, given the class, multilayer perceptrons.",
        "builder": "vaegan_mlp",
        "model": {
            "latent_dim": 16,
            "hidden": (128,),
            "discriminator_hidden": (128, 128),
            "condition": "label",
            "condition_size": 10,
            "margin": 0.35,
        },
        "optimizers": {
            "encoder": _adversarial_adam(1e-3),
            "decoder": _adversarial_adam(1e-3),
            "discriminator": _adversarial_adam(5e-4),
        },
        "data": {"name": "digits"},
        "epochs": 300,
    },
    "vaegan_label_mnist": {
        "about": "VAE/GAN, given the class, convolutional, with the settings of `vaegan_mnist`.",
        "builder": "vaegan_conv",
        "model": {
            "latent_dim": 10,
            "width": 16,
            "loss": "non_saturating",
            "gamma": 3e-3,
            "condition": "label",
            "condition_size": 10,
            "margin": 0.35,
            "beta": 10.0,
            "joint_batch": False,
        },
        "optimizers": {
            "encoder": _adversarial_adam(5e-4),
            "decoder": _adversarial_adam(5e-4),
            "discriminator": _adversarial_adam(1e-4),
        },
        "data": {"name": "mnist"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 12,
    },
    "vaegan_cifar10": {
        "about": "VAE/GAN on CIFAR-10, convolutional, with the authors' equilibrium.",
        "builder": "vaegan_conv",
        "model": {
            "latent_dim": 128,
            "filters": (64, 128, 256),
            "hidden": 512,
            "width": 64,
            "loss": "non_saturating",
            "gamma": 1e-3,
            "margin": 0.35,
        },
        "optimizers": {
            "encoder": _adversarial_adam(3e-4),
            "decoder": _adversarial_adam(3e-4),
            "discriminator": _adversarial_adam(),
        },
        "data": {"name": "cifar10"},
        "jit_compile": False,
        "batch_size": 64,
        "epochs": 50,
    },
    "vaegan_celeb_a": {
        "about": "VAE/GAN of faces, 64 pixels, with the authors' equilibrium.",
        "builder": "vaegan_conv",
        "model": {
            "latent_dim": 128,
            "filters": (64, 128, 256),
            "hidden": 1024,
            "width": 64,
            "loss": "non_saturating",
            "gamma": 1e-3,
            "margin": 0.35,
        },
        "optimizers": {
            "encoder": _adversarial_adam(3e-4),
            "decoder": _adversarial_adam(3e-4),
            "discriminator": _adversarial_adam(),
        },
        "data": {"name": "celeb_a"},
        "jit_compile": False,
        "batch_size": 64,
        "epochs": 20,
    },
    "vaegan_attributes_celeb_a": {
        "about": "VAE/GAN of faces, given CelebA's 40 attributes, with the authors' equilibrium.",
        "builder": "vaegan_conv",
        "model": {
            "latent_dim": 128,
            "filters": (64, 128, 256),
            "hidden": 1024,
            "width": 64,
            "loss": "non_saturating",
            "gamma": 1e-3,
            "condition": "attributes",
            "condition_size": 40,
            "margin": 0.35,
        },
        "optimizers": {
            "encoder": _adversarial_adam(3e-4),
            "decoder": _adversarial_adam(3e-4),
            "discriminator": _adversarial_adam(),
        },
        "data": {"name": "celeb_a"},
        "jit_compile": False,
        "batch_size": 64,
        "epochs": 20,
    },
    "iwae_digits": {
        "about": "IWAE, 5 draws, on dynamically binarised digits.",
        "builder": "iwae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "tanh",
            "likelihood": "bernoulli",
            "num_samples": 5,
            "doubly_reparameterised": False,
            "warm_up_steps": 0,
        },
        "optimizers": {"vae": _adam(1e-3, epsilon=1e-4)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "batch_size": 20,
        "epochs": 150,
    },
    # Burda et al. train for 3,280 epochs, and lower the rate in stages from 1e-3 to 1e-4.
    "iwae_mnist": {
        "about": "IWAE, 5 draws, the paper's networks and batches, on dynamically binarised MNIST.",
        "builder": "iwae_mlp",
        "model": {
            "latent_dim": 50,
            "hidden": (200, 200),
            "activation": "tanh",
            "likelihood": "bernoulli",
            "num_samples": 5,
            "doubly_reparameterised": False,
            "warm_up_steps": 0,
        },
        "optimizers": {"vae": _adam(1e-3, epsilon=1e-4)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 20,
        "epochs": 40,
    },
    "hierarchical_iwae_digits": {
        "about": "IWAE with two layers of latents, on dynamically binarised digits.",
        "builder": "hierarchical_iwae_mlp",
        "model": {
            "latent_dims": (8, 4),
            "hidden": (128,),
            "hidden_between": (32,),
            "activation": "tanh",
            "likelihood": "bernoulli",
            "num_samples": 5,
            "importance_weighted": True,
            "doubly_reparameterised": False,
            "warm_up_steps": 0,
        },
        "optimizers": {"vae": _adam(1e-3, epsilon=1e-4)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "batch_size": 20,
        "epochs": 100,
    },
    "hierarchical_iwae_mnist": {
        "about": "IWAE with two layers of latents, the paper's networks, on dynamically binarised MNIST.",
        "builder": "hierarchical_iwae_mlp",
        "model": {
            "latent_dims": (100, 50),
            "hidden": (200, 200),
            "hidden_between": (100, 100),
            "activation": "tanh",
            "likelihood": "bernoulli",
            "num_samples": 5,
            "importance_weighted": True,
            "doubly_reparameterised": False,
            "warm_up_steps": 0,
        },
        "optimizers": {"vae": _adam(1e-3, epsilon=1e-4)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 20,
        "epochs": 40,
    },
    "hvae_digits": {
        "about": "HVAE, two layers of latents and skip connections, on dynamically binarised digits.",
        "builder": "hvae_mlp",
        "model": {
            "latent_dims": (8, 8),
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "num_samples": 1,
            "warm_up_steps": 500,
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "hvae_mnist": {
        "about": "HVAE, two layers of latents and skip connections, on dynamically binarised MNIST.",
        "builder": "hvae_mlp",
        "model": {
            "latent_dims": (40, 40),
            "hidden": (300, 300),
            "activation": "relu",
            "likelihood": "bernoulli",
            "num_samples": 1,
            "warm_up_steps": 10000,
        },
        "optimizers": {"vae": _adam(5e-4)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "denoising_vae_digits": {
        "about": "Denoising VAE, 5 % salt and pepper, on dynamically binarised digits.",
        "builder": "denoising_vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "salt_and_pepper": 0.05,
            "gaussian": 0.0,
            "num_samples": 1,
            "importance_weighted": False,
            "warm_up_steps": 0,
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "denoising_vae_mnist": {
        "about": "Denoising VAE, 5 % salt and pepper, on dynamically binarised MNIST.",
        "builder": "denoising_vae_mlp",
        "model": {
            "latent_dim": 50,
            "hidden": (200, 200),
            "activation": "tanh",
            "likelihood": "bernoulli",
            "salt_and_pepper": 0.05,
            "gaussian": 0.0,
            "num_samples": 1,
            "importance_weighted": False,
            "warm_up_steps": 0,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "beta_vae_digits": {
        "about": "beta-VAE, beta = 2, Bernoulli likelihood on dynamically binarised digits.",
        "builder": "beta_vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "beta": 2.0,
            "capacity": 0.0,
            "capacity_steps": 0,
            "warm_up_steps": 0,
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "beta_vae_mnist": {
        "about": "beta-VAE, beta = 4, Bernoulli likelihood on dynamically binarised MNIST.",
        "builder": "beta_vae_mlp",
        "model": {
            "latent_dim": 10,
            "hidden": (500,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "beta": 4.0,
            "capacity": 0.0,
            "capacity_steps": 0,
            "warm_up_steps": 0,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "info_vae_digits": {
        "about": "MMD-VAE (InfoVAE, alpha = 1), on dynamically binarised digits.",
        "builder": "info_vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "alpha": 1.0,
            "lambda_": 100.0,
            "kernel": "rbf",
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "info_vae_mnist": {
        "about": "MMD-VAE (InfoVAE, alpha = 1), on dynamically binarised MNIST.",
        "builder": "info_vae_mlp",
        "model": {
            "latent_dim": 20,
            "hidden": (500,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "alpha": 1.0,
            "lambda_": 1000.0,
            "kernel": "rbf",
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    "wae_digits": {
        "about": "Wasserstein autoencoder (WAE-MMD), deterministic encoder.",
        "builder": "wae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128, 128),
            "posterior": "deterministic",
            "prior_scale": 1.0,
            "lambda_": 10.0,
            "kernel": "imq",
        },
        "optimizers": {"autoencoder": _adversarial_adam(1e-3)},
        "data": {"name": "digits"},
        "epochs": 300,
    },
    "wae_mnist": {
        "about": "Wasserstein autoencoder (WAE-MMD), deterministic encoder, convolutional.",
        "builder": "wae_conv",
        "model": {
            "latent_dim": 8,
            "filters": (32, 64),
            "hidden": 256,
            "width": 16,
            "posterior": "deterministic",
            "prior_scale": 1.0,
            "lambda_": 200.0,  # The paper's 10, on its code's 0.05 of the squared error.
            "kernel": "imq",
        },
        "optimizers": {"autoencoder": _adversarial_adam(1e-3)},
        "data": {"name": "mnist"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 10,
    },
    "waegan_digits": {
        "about": "Wasserstein autoencoder (WAE-GAN), deterministic encoder.",
        "builder": "wae_gan_mlp",
        "model": {
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
        },
        "optimizers": {
            "discriminator": _adversarial_adam(5e-4),
            "autoencoder": _adversarial_adam(1e-3),
        },
        "data": {"name": "digits"},
        "epochs": 300,
    },
    "waegan_mnist": {
        "about": "Wasserstein autoencoder (WAE-GAN), deterministic encoder, convolutional.",
        "builder": "wae_gan_conv",
        "model": {
            "width": 16,
            "lambda_": 200.0,  # As in wae_mnist.
            "prior_aware": True,
        },
        "optimizers": {
            "discriminator": _adversarial_adam(5e-4),
            "autoencoder": _adversarial_adam(1e-3),
        },
        "data": {"name": "mnist"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 10,
    },
    "waegan_cifar10": {
        "about": "Wasserstein autoencoder (WAE-GAN) on CIFAR-10, convolutional.",
        "builder": "wae_gan_conv",
        "model": {
            "latent_dim": 64,  # This and the prior's scale are the paper's on CelebA.
            "prior_scale": 2**0.5,
            "lambda_": 20.0,
            "filters": (64, 128, 256),
            "hidden": 512,
            "prior_aware": True,
        },
        "optimizers": {
            "discriminator": _adversarial_adam(1e-3),
            "autoencoder": _adversarial_adam(3e-4),
        },
        "data": {"name": "cifar10"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 50,
    },
    "factor_vae_digits": {
        "about": "FactorVAE, Bernoulli likelihood on dynamically binarised digits.",
        "builder": "factor_vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "gamma": 6.0,
            "discriminator_hidden": (128, 128, 128),
        },
        "optimizers": {
            "vae": _adam(2e-3),
            "discriminator": _adam(1e-3, beta_1=0.5, beta_2=0.9),
        },
        "data": {"name": "digits", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 200,
    },
    "factor_vae_mnist": {
        "about": "FactorVAE, Bernoulli likelihood on dynamically binarised MNIST.",
        "builder": "factor_vae_mlp",
        "model": {
            "latent_dim": 10,
            "hidden": (500,),
            "activation": "relu",
            "likelihood": "bernoulli",
            "gamma": 6.0,
            "discriminator_hidden": (1000,) * 6,
        },
        "optimizers": {
            "vae": _adam(1e-3),
            "discriminator": _adam(1e-4, beta_1=0.5, beta_2=0.9),
        },
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 128,
        "epochs": 30,
    },
    "factor_vae_cifar10": {
        "about": "FactorVAE on CIFAR-10, convolutional, normal likelihood of a shared scale.",
        "builder": "factor_vae_conv",
        "model": {
            "filters": (32, 32, 64),
            "likelihood": "shared_scale_normal",
            "gamma": 6.0,
        },
        "optimizers": {
            "vae": _adam(1e-4),
            "discriminator": _adam(1e-5, beta_1=0.5, beta_2=0.9),
        },
        "data": {"name": "cifar10"},
        "jit_compile": False,
        "batch_size": 64,
        "epochs": 50,
    },
    "bi_gan_digits": {
        "about": "BiGAN, multilayer perceptrons, uniform latents.",
        "builder": "bigan_mlp",
        "model": {
            "latent_dim": 16,
            "hidden": (256, 256),
        },
        "optimizers": {
            player: _adversarial_adam(5e-4) for player in ("encoder", "generator", "discriminator")
        },
        "data": {"name": "digits"},
        "epochs": 300,
    },
    # Donahue et al.'s networks and optimizers, but for their weight decay of 2.5e-5 and falling rate.
    "bi_gan_mnist": {
        "about": "BiGAN, multilayer perceptrons, the paper's sizes.",
        "builder": "bigan_mlp",
        "model": {},
        "optimizers": {
            player: _adversarial_adam() for player in ("encoder", "generator", "discriminator")
        },
        "data": {"name": "mnist"},
        "batch_size": 128,
        "epochs": 50,
    },
    "ali_cifar10": {
        "about": "Adversarially learned inference on CIFAR-10, with DCGAN's networks.",
        "builder": "bigan_conv",
        "model": {"width": 64},
        "optimizers": {
            player: _adversarial_adam(1e-4) for player in ("encoder", "generator", "discriminator")
        },
        "data": {"name": "cifar10"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 100,
    },
    "cvae_digits": {
        "about": "Conditional VAE, given the class, on dynamically binarised digits.",
        "builder": "conditional_vae_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128,),
            "activation": "relu",
            "condition": "label",
            "condition_size": 10,
            "likelihood": "bernoulli",
            "prior": "normal",
            "alpha": 1.0,
            "num_samples": 1,
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "cvae_quadrants_digits": {
        "about": "Conditional VAE that completes binarised digits from one quadrant.",
        "builder": "conditional_vae_mlp",
        "model": {
            "latent_dim": 16,
            "hidden": (128,),
            "activation": "relu",
            "condition": "seen",
            "likelihood": "bernoulli",
            "prior": "conditional",
            "baseline_hidden": (128,),
            "alpha": 1.0,
            "num_samples": 1,
        },
        "optimizers": {"vae": _adam(1e-3), "baseline": _adam(1e-3)},
        "data": {"name": "digits", "binarize": "dynamic", "seen_quadrants": 1},
        "epochs": 100,
    },
    "predictor_quadrants_digits": {
        "about": "Deterministic network that completes binarised digits from one quadrant.",
        "builder": "predictor_mlp",
        "model": {"hidden": (128,), "activation": "relu", "likelihood": "bernoulli"},
        "optimizers": {"predictor": _adam(1e-3)},
        "data": {"name": "digits", "binarize": "dynamic", "seen_quadrants": 1},
        "epochs": 50,
    },
    "cvae_mnist": {
        "about": "Conditional VAE, given the class, on dynamically binarised MNIST.",
        "builder": "conditional_vae_mlp",
        "model": {
            "latent_dim": 20,
            "hidden": (500,),
            "activation": "relu",
            "condition": "label",
            "condition_size": 10,
            "likelihood": "bernoulli",
            "prior": "normal",
            "alpha": 1.0,
            "num_samples": 1,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    # Sizes of the public reproduction in Pyro's examples.
    "cvae_quadrants_mnist": {
        "about": "Conditional VAE that completes binarised MNIST from one quadrant.",
        "builder": "conditional_vae_mlp",
        "model": {
            "latent_dim": 200,
            "hidden": (500, 500),
            "activation": "relu",
            "condition": "seen",
            "likelihood": "bernoulli",
            "prior": "conditional",
            "baseline_hidden": (500, 500),
            "alpha": 1.0,
            "num_samples": 1,
        },
        "optimizers": {"vae": _adam(1e-3), "baseline": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic", "seen_quadrants": 1},
        "batch_size": 100,
        "epochs": 50,
    },
    "predictor_quadrants_mnist": {
        "about": "Deterministic network that completes binarised MNIST from one quadrant.",
        "builder": "predictor_mlp",
        "model": {"hidden": (500, 500), "activation": "relu", "likelihood": "bernoulli"},
        "optimizers": {"predictor": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic", "seen_quadrants": 1},
        "batch_size": 100,
        "epochs": 20,
    },
    "m1_digits": {
        "about": "M1, the VAE for semi-supervised learning, on dynamically binarised digits.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 16,
            "hidden": (128, 128),
            "activation": "softplus",
            "likelihood": "bernoulli",
        },
        "optimizers": {"vae": _adam(2e-3)},
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 200,
    },
    "m1_mnist": {
        "about": "M1, the VAE for semi-supervised learning, the paper's, on binarised MNIST.",
        "builder": "vae_mlp",
        "model": {
            "latent_dim": 50,
            "hidden": (500, 500),
            "activation": "softplus",
            "likelihood": "bernoulli",
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 100,
        "epochs": 50,
    },
    # The paper's alpha is 0.1; of so few steps more is learned with a larger one.
    "m2_digits": {
        "about": "M2, semi-supervised VAE, 100 labels, on dynamically binarised digits.",
        "builder": "m2_mlp",
        "model": {
            "num_classes": 10,
            "latent_dim": 8,
            "hidden": (128,),
            "classifier_hidden": (128,),
            "activation": "softplus",
            "likelihood": "bernoulli",
            "alpha": 1.0,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "digits", "binarize": "dynamic", "num_labels": 100},
        "epochs": 200,
    },
    "m2_mnist": {
        "about": "M2, semi-supervised VAE, 1,000 labels, convolutional classifier, on binarised MNIST.",
        "builder": "m2_conv",
        "model": {
            "num_classes": 10,
            "latent_dim": 50,
            "hidden": (500,),
            "filters": (32, 64),
            "classifier_hidden": 256,
            "dropout": 0.5,
            "activation": "relu",
            "likelihood": "bernoulli",
            "alpha": 5.0,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic", "num_labels": 1000},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 30,
    },
    "m1_m2_digits": {
        "about": "M1+M2 on a trained M1 (m1_digits), 100 labels.",
        "builder": "m1_m2_mlp",
        "model": {
            "first": "",
            "num_classes": 10,
            "latent_dim": 8,
            "hidden": (64,),
            "classifier_hidden": (64,),
            "activation": "softplus",
            "alpha": 1.0,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "digits", "binarize": "dynamic", "num_labels": 100},
        "epochs": 200,
    },
    "m1_m2_mnist": {
        "about": "M1+M2 on a trained M1 (m1_mnist), 100 labels.",
        "builder": "m1_m2_mlp",
        "model": {
            "first": "",
            "num_classes": 10,
            "latent_dim": 50,
            "hidden": (300,),
            "classifier_hidden": (300,),
            "activation": "softplus",
            "alpha": 1.0,
        },
        "optimizers": {"vae": _adam(1e-3)},
        "data": {"name": "mnist", "binarize": "dynamic", "num_labels": 100},
        "batch_size": 100,
        "epochs": 100,
    },
    "avb_digits": {
        "about": "Adversarial variational Bayes, noise in the encoder, on binarised digits.",
        "builder": "avb_mlp",
        "model": {
            "latent_dim": 4,
            "hidden": (128, 128),
            "activation": "elu",
            "noise_dim": 16,
            "discriminator_hidden": (256, 256),
        },
        "optimizers": {
            "autoencoder": _adversarial_adam(3e-4),
            "discriminator": _adversarial_adam(1e-3),
        },
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 400,
    },
    "avb_ac_digits": {
        "about": "Adversarial variational Bayes, adaptive contrast, on binarised digits.",
        "builder": "avb_mlp",
        "model": {
            "hidden": (128, 128),
            "activation": "elu",
            "posterior": "noise_bases",
            "noise_dim": 16,
            "noise_bases": 8,
            "noise_hidden": (64, 64),
            "adaptive_contrast": True,
            "discriminator_hidden": (256, 256),
        },
        "optimizers": {
            "autoencoder": _adversarial_adam(3e-4),
            "discriminator": _adversarial_adam(1e-3),
        },
        "data": {"name": "digits", "binarize": "dynamic"},
        "epochs": 300,
    },
    "avb_mnist": {
        "about": "Adversarial variational Bayes, noise in the encoder, on binarised MNIST.",
        "builder": "avb_mlp",
        "model": {
            "discriminator": "product",
            "discriminator_features": 512,
        },
        "optimizers": {
            "autoencoder": _adversarial_adam(1e-4),
            "discriminator": _adversarial_adam(2e-4),
        },
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 125,
        "epochs": 100,
    },
    "avb_ac_mnist": {
        "about": "Adversarial variational Bayes, adaptive contrast, on binarised MNIST.",
        "builder": "avb_mlp",
        "model": {
            "posterior": "noise_bases",
            "noise_bases": 16,
            "noise_hidden": (64, 64),
            "adaptive_contrast": True,
            "discriminator": "product",
            "discriminator_features": 512,
        },
        "optimizers": {
            "autoencoder": _adversarial_adam(1e-4),
            "discriminator": _adversarial_adam(2e-4),
        },
        "data": {"name": "mnist", "binarize": "dynamic"},
        "batch_size": 125,
        "epochs": 100,
    },
    "alpha_gan_digits": {
        "about": "alpha-GAN, multilayer perceptrons.",
        "builder": "alphagan_mlp",
        "model": {
            "latent_dim": 8,
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "code_discriminator_hidden": (128, 128),
        },
        "optimizers": {
            "encoder": _adversarial_adam(1e-3),
            "generator": _adversarial_adam(1e-3),
            "discriminator": _adversarial_adam(5e-4),
            "code_discriminator": _adversarial_adam(1e-3),
        },
        "data": {"name": "digits"},
        "epochs": 300,
    },
    "alpha_gan_mnist": {
        "about": "alpha-GAN, DCGAN's networks.",
        "builder": "alphagan_conv",
        "model": {
            "latent_dim": 32,
            "filters": (32, 64),
            "width": 16,
        },
        "optimizers": {
            "encoder": _adversarial_adam(),
            "generator": _adversarial_adam(),
            "discriminator": _adversarial_adam(),
            "code_discriminator": _adversarial_adam(),
        },
        "data": {"name": "mnist"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 10,
    },
    "alpha_gan_cifar10": {
        "about": "alpha-GAN, DCGAN's networks, colour.",
        "builder": "alphagan_conv",
        "model": {
            "width": 32,
            "lambda_": 0.1,
        },
        "optimizers": {
            "encoder": _adversarial_adam(),
            "generator": _adversarial_adam(),
            "discriminator": _adversarial_adam(),
            "code_discriminator": _adversarial_adam(),
        },
        "data": {"name": "cifar10"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 50,
    },
    "label_informed_aae_petals_digits": {
        "about": "Label-informed adversarial autoencoder, ten petals, 300 labels.",
        "builder": "label_informed_aae_mlp",
        "model": {
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(5e-4),
            "encoder": _adversarial_adam(3e-3),
        },
        "data": {"name": "digits", "num_labels": 300},
        "epochs": 200,
    },
    "label_informed_aae_swiss_roll_digits": {
        "about": "Label-informed adversarial autoencoder, ten segments of a Swiss roll, 300 labels.",
        "builder": "label_informed_aae_mlp",
        "model": {
            "hidden": (128, 128),
            "prior": "swiss_roll",
            "discriminator_hidden": (128, 128),
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(5e-4),
            "encoder": _adversarial_adam(3e-3),
        },
        "data": {"name": "digits", "num_labels": 300},
        "epochs": 200,
    },
    "aae_supervised_digits": {
        "about": "Supervised adversarial autoencoder: the decoder is told the label, the code is the style.",
        "builder": "aae_mlp",
        "model": {
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "condition_size": 10,
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(1e-3),
            "encoder": _adversarial_adam(5e-4),
        },
        "data": {"name": "digits"},
        "epochs": 200,
    },
    "semi_supervised_aae_digits": {
        "about": "Semi-supervised adversarial autoencoder, 100 labels.",
        "builder": "semi_supervised_aae_mlp",
        "model": {
            "latent_dim": 5,
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "input_noise": 0.3,
            "batch_norm": True,
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(1e-4),
            "encoder": _adversarial_adam(1e-3),
            "category_discriminator": _adversarial_adam(1e-4),
            "classifier": _adversarial_adam(1e-3),
        },
        "data": {"name": "digits", "num_labels": 100},
        "epochs": 120,
    },
    "clustering_aae_digits": {
        "about": "Adversarial autoencoder that clusters, 16 clusters, no labels.",
        "builder": "clustering_aae_mlp",
        "model": {
            "latent_dim": 4,
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "input_noise": 0.3,
            "batch_norm": True,
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(1e-4),
            "encoder": _adversarial_adam(1e-3),
            "category_discriminator": _adversarial_adam(1e-4),
        },
        "data": {"name": "digits"},
        "epochs": 120,
    },
    "dimension_reduction_aae_digits": {
        "about": "Adversarial autoencoder in the plane, heads of 20 clusters, no labels.",
        "builder": "dimension_reduction_aae_mlp",
        "model": {
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "input_noise": 0.3,
            "batch_norm": True,
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(1e-4),
            "encoder": _adversarial_adam(1e-3),
            "category_discriminator": _adversarial_adam(1e-4),
        },
        "data": {"name": "digits"},
        "epochs": 120,
    },
    "semi_supervised_dimension_reduction_aae_digits": {
        "about": "Adversarial autoencoder in the plane, heads of ten classes, 100 labels.",
        "builder": "dimension_reduction_aae_mlp",
        "model": {
            "categories": 10,
            "semi_supervised": True,
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "input_noise": 0.3,
            "batch_norm": True,
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(1e-4),
            "encoder": _adversarial_adam(1e-3),
            "category_discriminator": _adversarial_adam(1e-4),
            "classifier": _adversarial_adam(1e-3),
        },
        "data": {"name": "digits", "num_labels": 100},
        "epochs": 120,
    },
    "label_informed_aae_petals_mnist": {
        "about": "Label-informed adversarial autoencoder, ten petals, 10,000 labels.",
        "builder": "label_informed_aae_mlp",
        "model": {
            "hidden": (500, 500),
            "discriminator_hidden": (500, 500),
        },
        "optimizers": {
            "autoencoder": _adam(5e-4),
            "discriminator": _adversarial_adam(2e-4),
            "encoder": _adversarial_adam(1e-3),
        },
        "data": {"name": "mnist", "num_labels": 10000},
        "batch_size": 100,
        "epochs": 15,
    },
    "label_informed_aae_swiss_roll_mnist": {
        "about": "Label-informed adversarial autoencoder, ten segments of a Swiss roll, 10,000 labels.",
        "builder": "label_informed_aae_mlp",
        "model": {
            "hidden": (500, 500),
            "prior": "swiss_roll",
            "discriminator_hidden": (500, 500),
        },
        "optimizers": {
            "autoencoder": _adam(5e-4),
            "discriminator": _adversarial_adam(2e-4),
            "encoder": _adversarial_adam(1e-3),
        },
        "data": {"name": "mnist", "num_labels": 10000},
        "batch_size": 100,
        "epochs": 15,
    },
    "aae_supervised_mnist": {
        "about": "Supervised adversarial autoencoder: the decoder is told the label, the code is the style.",
        "builder": "aae_mlp",
        "model": {
            "latent_dim": 15,
            "hidden": (500, 500),
            "discriminator_hidden": (500, 500),
            "condition_size": 10,
        },
        "optimizers": {
            "autoencoder": _adam(5e-4),
            "discriminator": _adversarial_adam(1e-4),
            "encoder": _adversarial_adam(2.5e-4),
        },
        "data": {"name": "mnist"},
        "batch_size": 100,
        "epochs": 15,
    },
    "semi_supervised_aae_mnist": {
        "about": "Semi-supervised adversarial autoencoder, 1,000 labels.",
        "builder": "semi_supervised_aae_mlp",
        "model": {
            "hidden": (500, 500),
            "discriminator_hidden": (500, 500),
            "input_noise": 0.3,
            "batch_norm": True,
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(2e-4),
            "encoder": _adversarial_adam(1e-3),
            "category_discriminator": _adversarial_adam(2e-4),
            "classifier": _adversarial_adam(1e-3),
        },
        "data": {"name": "mnist", "num_labels": 1000},
        "jit_compile": False,  # Of batches in two parts XLA makes slower steps on a CPU.
        "batch_size": 100,
        "epochs": 15,
    },
    "clustering_aae_mnist": {
        "about": "Adversarial autoencoder that clusters, 16 clusters, no labels.",
        "builder": "clustering_aae_mlp",
        "model": {
            "latent_dim": 5,
            "hidden": (500, 500),
            "discriminator_hidden": (500, 500),
            "input_noise": 0.3,
            "batch_norm": True,
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(2e-4),
            "encoder": _adversarial_adam(1e-3),
            "category_discriminator": _adversarial_adam(2e-4),
        },
        "data": {"name": "mnist"},
        "batch_size": 100,
        "epochs": 15,
    },
    "dimension_reduction_aae_mnist": {
        "about": "Adversarial autoencoder in the plane, heads of 20 clusters, no labels.",
        "builder": "dimension_reduction_aae_mlp",
        "model": {
            "hidden": (500, 500),
            "discriminator_hidden": (500, 500),
            "input_noise": 0.3,
            "batch_norm": True,
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(2e-4),
            "encoder": _adversarial_adam(1e-3),
            "category_discriminator": _adversarial_adam(2e-4),
        },
        "data": {"name": "mnist"},
        "batch_size": 100,
        "epochs": 15,
    },
    "semi_supervised_dimension_reduction_aae_mnist": {
        "about": "Adversarial autoencoder in the plane, heads of ten classes, 1,000 labels.",
        "builder": "dimension_reduction_aae_mlp",
        "model": {
            "categories": 10,
            "semi_supervised": True,
            "hidden": (500, 500),
            "discriminator_hidden": (500, 500),
            "input_noise": 0.3,
            "batch_norm": True,
        },
        "optimizers": {
            "autoencoder": _adam(1e-3),
            "discriminator": _adversarial_adam(2e-4),
            "encoder": _adversarial_adam(1e-3),
            "category_discriminator": _adversarial_adam(2e-4),
            "classifier": _adversarial_adam(1e-3),
        },
        "data": {"name": "mnist", "num_labels": 1000},
        "jit_compile": False,  # Of batches in two parts XLA makes slower steps on a CPU.
        "batch_size": 100,
        "epochs": 15,
    },
    "semi_supervised_aae_cifar10": {
        "about": "Semi-supervised adversarial autoencoder, convolutional, 1,000 labels.",
        "builder": "semi_supervised_aae_conv",
        "model": {
            "filters": (32, 64, 128),
            "discriminator_hidden": (500, 500),
            "input_noise": 0.1,
            "likelihood": "shared_scale_normal",
        },
        "optimizers": {
            "autoencoder": _adam(5e-4),
            "discriminator": _adversarial_adam(1e-4),
            "encoder": _adversarial_adam(2.5e-4),
            "category_discriminator": _adversarial_adam(1e-4),
            "classifier": _adversarial_adam(1e-3),
        },
        "data": {"name": "cifar10", "num_labels": 1000},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 20,
    },
    "wgan_gp_digits": {
        "about": "WGAN-GP, multilayer perceptrons, 5 steps of the critic.",
        "builder": "gan_mlp",
        "model": {
            "latent_dim": 16,
            "generator_hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "dropout": 0.0,
            "loss": "wasserstein",
            "discriminator_steps": 5,
            "gradient_penalty": 10.0,
        },
        "optimizers": {
            "discriminator": _critic_adam(1e-3),
            "generator": _critic_adam(1e-3),
        },
        "data": {"name": "digits"},
        "batch_size": 160,
        "jit_compile": False,
        "epochs": 400,
    },
    "f_gan_digits": {
        "about": "f-GAN of the squared Hellinger distance, multilayer perceptrons.",
        "builder": "gan_mlp",
        "model": {
            "latent_dim": 16,
            "generator_hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "loss": "f_squared_hellinger",
        },
        "optimizers": {
            "discriminator": _adversarial_adam(1e-3),
            "generator": _adversarial_adam(1e-3),
        },
        "data": {"name": "digits"},
        "jit_compile": False,
        "epochs": 250,
    },
    "cgan_digits": {
        "about": "Class-conditional GAN, labels beside noise and image, multilayer perceptrons.",
        "builder": "cgan_mlp",
        "model": {
            "latent_dim": 16,
            "generator_hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "condition_size": 10,
            "real_label": 0.9,
        },
        "optimizers": {
            "discriminator": _adversarial_adam(1e-3),
            "generator": _adversarial_adam(1e-3),
        },
        "data": {"name": "digits"},
        "jit_compile": False,
        "epochs": 250,
    },
    "wgan_gp_mnist": {
        "about": "WGAN-GP, DCGAN's networks without the critic's batch normalization.",
        "builder": "dcgan",
        "model": {
            "latent_dim": 128,
            "width": 32,
            "latents": "normal",
            "loss": "wasserstein",
            "discriminator_steps": 5,
            "gradient_penalty": 10.0,
            "batch_norm": False,
        },
        "optimizers": {
            "discriminator": _critic_adam(1e-4),
            "generator": _critic_adam(1e-4),
        },
        "data": {"name": "mnist"},
        "batch_size": 320,
        "jit_compile": False,
        "epochs": 30,
    },
    "wgan_gp_cifar10": {
        "about": "WGAN-GP on CIFAR-10, DCGAN's networks without the critic's batch normalization.",
        "builder": "dcgan",
        "model": {
            "latent_dim": 128,
            "latents": "normal",
            "loss": "wasserstein",
            "discriminator_steps": 5,
            "gradient_penalty": 10.0,
            "batch_norm": False,
        },
        "optimizers": {
            "discriminator": _critic_adam(1e-4),
            "generator": _critic_adam(1e-4),
        },
        "data": {"name": "cifar10"},
        "batch_size": 320,  # 64 for each of the critic's moves, as in the paper.
        "jit_compile": False,
        "epochs": 100,
    },
    "sngan_mnist": {
        "about": "GAN with the hinge loss and spectral normalization, DCGAN's networks.",
        "builder": "dcgan",
        "model": {
            "latent_dim": 128,
            "width": 32,
            "latents": "normal",
            "loss": "hinge",
            "batch_norm": False,
            "spectral_norm": True,
        },
        "optimizers": {
            "discriminator": _adversarial_adam(2e-4),
            "generator": _adversarial_adam(2e-4),
        },
        "data": {"name": "mnist"},
        "batch_size": 64,
        "jit_compile": False,
        "epochs": 10,
    },
    # The paper's discriminator has ELU where this one has leaky ReLU, and its batches are of 4,096.
    "f_gan_mnist": {
        "about": "f-GAN of the Kullback-Leibler divergence, of nearly the paper's networks.",
        "builder": "gan_mlp",
        "model": {
            "generator_hidden": (1200, 1200),
            "discriminator_hidden": (240, 240),
            "dropout": 0.0,
            "latents": "uniform",
            "loss": "f_kl",
        },
        "optimizers": {
            "discriminator": _adversarial_adam(2e-4),
            "generator": _adversarial_adam(2e-4),
        },
        "data": {"name": "mnist"},
        "batch_size": 100,
        "jit_compile": True,
        "epochs": 50,
    },
    "cgan_mnist": {
        "about": "Class-conditional GAN, projection discriminator, spectral normalization, hinge.",
        "builder": "cdcgan",
        "model": {
            "latent_dim": 128,
            "width": 32,
            "condition_size": 10,
            "discriminator": "projection",
            "latents": "normal",
            "loss": "hinge",
            "batch_norm": False,
            "spectral_norm": True,
        },
        "optimizers": {
            "discriminator": _adversarial_adam(2e-4),
            "generator": _adversarial_adam(2e-4),
        },
        "data": {"name": "mnist"},
        "batch_size": 64,
        "jit_compile": False,
        "epochs": 10,
    },
    "sngan_cifar10": {
        "about": "GAN with the hinge loss and spectral normalization, DCGAN's networks, colour.",
        "builder": "dcgan",
        "model": {
            "latent_dim": 128,
            "latents": "normal",
            "loss": "hinge",
            "batch_norm": False,
            "spectral_norm": True,
        },
        "optimizers": {
            "discriminator": _adversarial_adam(2e-4),
            "generator": _adversarial_adam(2e-4),
        },
        "data": {"name": "cifar10"},
        "batch_size": 64,
        "jit_compile": False,
        "epochs": 50,
    },
}


def defaults(builder: str) -> dict[str, Any]:
    """What a builder's arguments are where a preset does not say; not those that the data decide."""
    parameters = inspect.signature(BUILDERS[builder]).parameters
    of_data = ("image_shape", "levels")
    return {name: p.default for name, p in parameters.items() if name not in of_data}


def _on(dataset: str, name: str, about: str, model: dict | None = None, **changes) -> dict:
    """The preset of that name on another data set, with changes to its model and its settings."""
    preset = copy.deepcopy(PRESETS[name])
    data, usual = preset["data"] | {"name": dataset}, defaults(preset["builder"])
    model = {k: v for k, v in (preset["model"] | (model or {})).items() if v != usual[k]}
    return preset | {"about": about, "data": data, "model": model} | changes


# Seven models on each of five data sets, for comparisons: those that stand above, and these.
PRESETS |= {
    "vae_conv_digits": _on(
        "digits",
        "vae_conv_mnist",
        "VAE, Bernoulli likelihood on dynamically binarised digits, convolutional.",
        {"latent_dim": 8, "filters": (16, 32), "hidden": 128},
        batch_size=50,
        epochs=150,
    ),
    "dcgan_digits": _on(
        "digits",
        "dcgan_mnist",
        "GAN with DCGAN's networks, narrow, for 8 pixels.",
        {"latent_dim": 16},
        batch_size=50,
        epochs=150,
    ),
    "vae_fashion_mnist": _on(
        "fashion_mnist",
        "vae_mnist",
        "VAE, Bernoulli likelihood on dynamically binarised Fashion-MNIST.",
    ),
    "vae_conv_fashion_mnist": _on(
        "fashion_mnist",
        "vae_conv_mnist",
        "VAE, Bernoulli likelihood on dynamically binarised Fashion-MNIST, convolutional.",
    ),
    "vae_flow_fashion_mnist": _on(
        "fashion_mnist",
        "vae_flow_mnist",
        "VAE, RealNVP prior, on dynamically binarised Fashion-MNIST.",
    ),
    "gan_fashion_mnist": _on(
        "fashion_mnist",
        "gan_mnist",
        "GAN, non-saturating, R1 penalty, multilayer perceptrons.",
    ),
    "dcgan_fashion_mnist": _on(
        "fashion_mnist", "dcgan_mnist", "GAN with DCGAN's networks, half as wide as the paper's."
    ),
    "aae_fashion_mnist": _on(
        "fashion_mnist",
        "aae_mnist",
        "Adversarial autoencoder, deterministic encoder, Gaussian prior.",
    ),
    # Wider, in larger batches, and with a faster discriminator: by the distance on validation images.
    "vaegan_fashion_mnist": _on(
        "fashion_mnist",
        "vaegan_mnist",
        "VAE/GAN, convolutional, with the authors' equilibrium and a heavier rate.",
        {"width": 32, "gamma": 5e-3},
        optimizers={
            "encoder": _adversarial_adam(5e-4),
            "decoder": _adversarial_adam(5e-4),
            "discriminator": _adversarial_adam(),
        },
        batch_size=128,
    ),
    "vae_cifar10": {
        "about": "VAE of CIFAR-10's 256 levels, discretized logistic, multilayer perceptrons.",
        "builder": "vae_mlp",
        "model": {"latent_dim": 64, "hidden": (1000,), "likelihood": "discretized_logistic"},
        "optimizers": {"vae": _adam(5e-4)},
        "data": {"name": "cifar10"},
        "batch_size": 100,
        "epochs": 50,
    },
    "vae_conv_cifar10": {
        "about": "VAE of CIFAR-10's 256 levels, discretized logistic, convolutional.",
        "builder": "vae_conv",
        "model": {
            "latent_dim": 128,
            "filters": (64, 128, 256),
            "hidden": 512,
            "likelihood": "discretized_logistic",
        },
        "optimizers": {"vae": _adam(5e-4)},
        "data": {"name": "cifar10"},
        "jit_compile": False,
        "batch_size": 100,
        "epochs": 50,
    },
    "gan_cifar10": _on(
        "cifar10",
        "gan_mnist",
        "GAN of CIFAR-10, non-saturating, R1 penalty, multilayer perceptrons.",
        {
            "latent_dim": 128,
            "generator_hidden": (512, 1024),
            "discriminator_hidden": (1024, 512),
        },
    ),
    "aae_cifar10": {
        "about": "Adversarial autoencoder of CIFAR-10, squared error, multilayer perceptrons.",
        "builder": "aae_mlp",
        "model": {"latent_dim": 64, "likelihood": "unit_normal"},
        "optimizers": {
            "autoencoder": _adam(5e-4),
            "discriminator": _adversarial_adam(1e-4),
            "encoder": _adversarial_adam(2.5e-4),
        },
        "data": {"name": "cifar10"},
        "batch_size": 100,
        "epochs": 50,
    },
}
PRESETS["vae_flow_cifar10"] = _on(
    "cifar10",
    "vae_cifar10",
    "VAE of CIFAR-10's 256 levels, RealNVP prior, multilayer perceptrons.",
    {"prior": "realnvp", "prior_steps": 6, "prior_hidden": (256, 256)},
)
PRESETS |= {
    f"{model}_svhn_cropped": _on(
        "svhn_cropped",
        f"{model}_cifar10",
        PRESETS[f"{model}_cifar10"]["about"].replace("CIFAR-10", "SVHN"),
    )
    for model in ("vae", "vae_conv", "vae_flow", "gan", "dcgan", "aae", "vaegan")
}

# Other names: beside `vae_conv_mnist` there is a `vae_mlp_mnist`; and former ones, of older runs.
ALIASES = {
    f"vae_mlp_{dataset}": f"vae_{dataset}"
    for dataset in ("digits", "mnist", "fashion_mnist", "svhn_cropped", "cifar10")
}

_DEFAULTS = {
    "data": {
        "data_dir": config_dict.placeholder(str),
        "image_size": config_dict.placeholder(int),
        "binarize": config_dict.placeholder(str),
        "seen_quadrants": config_dict.placeholder(int),
        "num_labels": config_dict.placeholder(int),
    },
    # How all learning rates fall, epoch by epoch: a key of `zoo.callbacks.DECAYS`.
    "learning_rate_decay": "none",
    "batch_size": 50,
    "seed": 0,
    "strategy": "default",
    "mixed_precision": False,
    "deterministic": False,
    "jit_compile": True,
    "steps_per_execution": 50,
    # Every so many epochs (0: never) and after the last one, or after these epochs, on validation
    # images; the best model by `metric` is kept.
    "evaluation": {
        "every": 0,
        "at": (),
        "metric": "fid",
        "num_samples": 2000,
        "extractor": config_dict.placeholder(str),
    },
}

_OPTIMIZER_DEFAULTS = {
    "use_ema": False,
    "ema_momentum": 0.999,
    "global_clipnorm": config_dict.placeholder(float),
}


_MAY_BE_NONE = (
    "data_dir",
    "image_size",
    "binarize",
    "seen_quadrants",
    "num_labels",
    "global_clipnorm",
    "extractor",
)


def names() -> list[str]:
    """The names of all presets, each by its own name."""
    return list(PRESETS)


def canonical(name: str) -> str:
    """A preset's own name, of which "vae_mlp_mnist" is another for "vae_mnist".

    Raises:
        ValueError: If there is no such preset.
    """
    return look_up({name: name for name in PRESETS} | ALIASES, name, "preset")


def get(name: str) -> ConfigDict:
    """A preset's full configuration, to read or to change.

    Args:
        name: Its own name or another: see `canonical`.

    Raises:
        ValueError: If there is no such preset.
    """
    # Copies, because placeholders would be shared, and a value of one configuration be that of all.
    config = ConfigDict(copy.deepcopy(_DEFAULTS), type_safe=True)
    name = canonical(name)
    preset = PRESETS[name]
    arguments = defaults(preset["builder"]) | preset["model"]
    config.update(ConfigDict({"preset": name} | preset | {"model": arguments}))
    for player, optimizer in config.optimizers.items():
        full = ConfigDict(copy.deepcopy(_OPTIMIZER_DEFAULTS))
        full.update(optimizer)
        config.optimizers[player] = full
    return config.lock()


def from_dict(settings: dict) -> ConfigDict:
    """The configuration of that content: the inverse of `to_dict`.

    Settings that it lacks, since they came later, have the preset's values. A builder's argument has
    its own default: what the preset has it set to since then is not what was built.

    Raises:
        ValueError: If it is not a configuration of a preset that there is.
    """
    try:
        settings = settings | {"preset": canonical(settings["preset"])}
        config = get(settings["preset"])
        config.model.update(defaults(config.builder))
        flat = dict(_flatten(ConfigDict(settings)))
        if unknown := flat.keys() - dict(_flatten(config)).keys():
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        for path, value in flat.items():
            _assign(config, path, tuple(value) if isinstance(value, list) else value)
        _drop_what_optimizers_lack(config, given=flat)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected the configuration of a run, as its config.json has it. Received: {error}."
        ) from error
    return config


def to_dict(config: ConfigDict) -> dict:
    """Plain nested dicts, as JSON holds them."""
    return config.to_dict()


def differences(a: ConfigDict, b: ConfigDict) -> dict[str, tuple]:
    """`{path: (value in a, value in b)}` where they differ."""
    a, b = dict(_flatten(a)), dict(_flatten(b))
    return {k: (a.get(k), b.get(k)) for k in a | b if a.get(k) != b.get(k)}


def override(config: ConfigDict, settings: Iterable[str]) -> None:
    """Changes a configuration in place by "key=value" settings.

    A key is a path such as `optimizers.vae.learning_rate`, or its end where only one path ends so.
    A value has the type of the one it replaces. With the name of another optimizer, those of the
    preset's settings go that it does not take, such as Adam's `beta_1`.

    Raises:
        ValueError: For a key that there is not, a value of another type, or a setting, other than
            the preset's own, that the optimizer does not take.

    Example:
        >>> config = zoo.presets.get("vae_digits")
        >>> zoo.presets.override(config, ["latent_dim=2"])
        >>> config.model.latent_dim
        2
    """
    fixed = ("preset", "about", "builder")
    known = [key for key, _ in _flatten(config) if key not in fixed]
    given = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"A setting has the form key=value. Received: '{setting}'.")
        matches = [k for k in known if k == key or k.endswith(f".{key}")]
        if len(matches) != 1:
            raise ValueError(
                f"'{key}' could be any of {', '.join(matches)}: say which."
                if matches
                else f"There is no '{key}' in preset '{config.preset}'. "
                f"There are: {', '.join(known)}."
            )
        [path] = matches
        if path.startswith("optimizers.") and path.endswith(".name"):
            _optimizer_class(text)  # So that a name that there is not changes nothing.
        _set(config, path, text)
        given.append(path)
    _drop_what_optimizers_lack(config, given)


def _set(config, path, text):
    wanted = _holder(config, path).get_type(path.rpartition(".")[2])
    try:
        is_text = wanted is str and text.lower() != "none"
        _assign(config, path, text if is_text else _parse(text))
    except (TypeError, ValueError, SyntaxError) as error:
        old = dict(_flatten(config))[path]
        raise ValueError(
            f"'{path}' is of type {wanted.__name__}, like {old!r}. Received: {text!r}."
        ) from error


def _assign(config, path, value):
    """Sets the value at `path`, or raises a TypeError if it has not the type of the old one."""
    holder, name = _holder(config, path), path.rpartition(".")[2]
    wanted = holder.get_type(name)
    if wanted is tuple and isinstance(value, int):
        value = (value,)
    if (
        (isinstance(value, bool) and wanted is not bool)
        or (value is None and name not in _MAY_BE_NONE)
        or (wanted is tuple and not all(type(v) is int for v in value))
    ):
        raise TypeError(f"{path} is {value!r}")
    setattr(holder, name, value)


def _holder(config, path):
    for parent in path.split(".")[:-1]:
        config = config[parent]
    return config


def _drop_what_optimizers_lack(config, given):
    """Removes settings of the preset's own optimizers that the ones named instead do not take.

    Only if nobody asked for them: neither `given`, by path, nor of another value than the preset's.
    """
    own = get(config.preset).optimizers
    for player, settings in config.optimizers.items():
        takes = _arguments(_optimizer_class(settings.name))
        for key in [key for key in settings if key not in takes]:
            path = f"optimizers.{player}.{key}"
            if path in given or settings[key] != own[player][key]:
                raise ValueError(
                    f"The optimizer '{settings.name}' of player '{player}' takes no '{key}'. "
                    f"It takes: {', '.join(takes)}. Received: {path}={settings[key]!r}."
                )
            with config.unlocked():
                del settings[key]


def _arguments(optimizer: type) -> list[str]:
    parameters = inspect.signature(optimizer.__init__).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"]


def _optimizer_class(name: str) -> type[keras.optimizers.Optimizer]:
    # Not by `keras.optimizers.get`, which makes one, and so touches devices before a strategy does.
    base = keras.optimizers.Optimizer
    classes = {
        key.lower(): value
        for key, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base
        if "learning_rate" in _arguments(value)  # Others wrap optimizers.
    }
    return look_up(classes, name.lower(), "optimizer")


def _parse(text):
    words = {"true": True, "false": False, "none": None}
    return words[text.lower()] if text.lower() in words else ast.literal_eval(text)


def _flatten(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def build(
    config: ConfigDict, image_shape: tuple[int, int, int], levels: int = 256
) -> GenerativeModel:
    """The compiled model of a configuration, for images of that shape.

    Call it in the scope of the strategy that shall train it. Where hyperparameters take a player
    away, such as baseline_hidden=(), the preset's settings of its optimizer have no effect; one
    that they add has the settings of the others.

    Args:
        config: What `get` returns.
        image_shape: Height, width, channels.
        levels: Number of grey levels of the data, for a discretized likelihood.

    Raises:
        ValueError: If a hyperparameter is out of range or does not suit the images.
    """
    builder = look_up(BUILDERS, config.builder, "builder")
    arguments = dict(config.model)
    if "levels" in inspect.signature(builder).parameters:
        arguments["levels"] = levels
    model = builder(image_shape, **arguments)
    model.seed = config.seed
    model.compile(
        {player: _optimizer(dict(o)) for player, o in _settings_of(model, config).items()},
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
    )
    return model


def _settings_of(model, config):
    """The settings of each player's optimizer. Hyperparameters decide which players there are.

    The preset's own settings of one that the model lacks go. One that has none gets those of the
    others, where these are all the same.
    """
    players, optimizers = model.players(), dict(config.optimizers)
    own = get(config.preset).optimizers
    for player in sorted(optimizers.keys() - players.keys()):
        settings = optimizers.pop(player)
        if any(own[player].get(key) != value for key, value in settings.items()):
            raise ValueError(
                f"The model of these hyperparameters has no player '{player}'; it has: "
                f"{', '.join(players)}. Received: other settings of optimizers.{player} than the "
                "preset's; leave them out."
            )
    for player in sorted(players.keys() - optimizers.keys()):
        first, *others = map(dict, optimizers.values())
        if any(other != first for other in others):
            raise ValueError(
                f"There are no settings for the optimizer of player '{player}' in preset "
                f"'{config.preset}', and those of {', '.join(optimizers)} differ. Use a preset that "
                "has such a player, or the same settings for all."
            )
        optimizers[player] = first
    return optimizers


def _optimizer(settings):
    name = settings.pop("name")
    return _optimizer_class(name).from_config(settings)
