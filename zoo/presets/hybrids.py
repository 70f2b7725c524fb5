"""Presets of hybrids of VAE and GAN."""

from typing import Any

from zoo.presets.optimizers import adversarial_adam

PRESETS: dict[str, dict[str, Any]] = {
    "vaegan_digits": {
        "about": "VAE/GAN, multilayer perceptrons.",
        "builder": "vaegan",
        "model": {
            "gamma": 0.1,
            "latent_dim": 16,
            "hidden": (128,),
            "discriminator_hidden": (128, 128),
            "batch_norm": False,
        },
        "optimizers": {
            "generator": adversarial_adam(1e-3),
            "discriminator": adversarial_adam(5e-4),
            "encoder": adversarial_adam(1e-3),
        },
        "data": {"name": "digits"},
        "epochs": 300,
    },
    "vaegan_label_digits": {
        "about": "VAE/GAN, given the class, multilayer perceptrons.",
        "like": "vaegan_digits",
        "model": {"margin": 0.35, "condition": "label", "condition_size": 10},
    },
    "vaegan_mnist": {
        "about": "VAE/GAN, convolutional, with the authors' equilibrium and a heavier rate.",
        "builder": "vaegan",
        "model": {
            "gamma": 0.003,
            "beta": 10.0,
            "margin": 0.35,
            "joint_batch": False,
            "latent_dim": 10,
            "network": "conv",
            "hidden": (256,),
            "width": 16,
            "loss": "non_saturating",
        },
        "optimizers": {
            "generator": adversarial_adam(5e-4),
            "discriminator": adversarial_adam(1e-4),
            "encoder": adversarial_adam(5e-4),
        },
        "data": {"name": "mnist"},
        "batch_size": 100,
        "jit_compile": False,
        "epochs": 12,
    },
    "vaegan_label_mnist": {
        "about": "VAE/GAN, given the class, convolutional, with the settings of `vaegan_mnist`.",
        "like": "vaegan_mnist",
        "model": {"condition": "label", "condition_size": 10},
    },
    "vaegan_fashion_mnist": {
        "about": "VAE/GAN, convolutional, with the authors' equilibrium and a heavier rate.",
        "like": "vaegan_mnist",
        "model": {"gamma": 0.005, "width": 32},
        "optimizers": {
            "generator": adversarial_adam(5e-4),
            "discriminator": adversarial_adam(),
            "encoder": adversarial_adam(5e-4),
        },
        "data": {"name": "fashion_mnist"},
        "batch_size": 128,
    },
    "vaegan_cifar10": {
        "about": "VAE/GAN on CIFAR-10, convolutional, with the authors' equilibrium.",
        "builder": "vaegan",
        "model": {
            "gamma": 0.001,
            "margin": 0.35,
            "latent_dim": 128,
            "network": "conv",
            "hidden": (512,),
            "filters": (64, 128, 256),
            "width": 64,
            "loss": "non_saturating",
        },
        "optimizers": {
            "generator": adversarial_adam(3e-4),
            "discriminator": adversarial_adam(),
            "encoder": adversarial_adam(3e-4),
        },
        "data": {"name": "cifar10"},
        "batch_size": 64,
        "jit_compile": False,
        "epochs": 50,
    },
    "vaegan_svhn_cropped": {
        "about": "VAE/GAN on SVHN, convolutional, with the authors' equilibrium.",
        "like": "vaegan_cifar10",
        "data": {"name": "svhn_cropped"},
    },
    "vaegan_celeb_a": {
        "about": "VAE/GAN of faces, 64 pixels, with the authors' equilibrium.",
        "like": "vaegan_cifar10",
        "model": {"hidden": (1024,)},
        "data": {"name": "celeb_a"},
        "epochs": 20,
    },
    "vaegan_attributes_celeb_a": {
        "about": "VAE/GAN of faces, given CelebA's 40 attributes, with the authors' equilibrium.",
        "like": "vaegan_celeb_a",
        "model": {"condition": "attributes", "condition_size": 40},
    },
    "avb_digits": {
        "about": "Adversarial variational Bayes, noise in the encoder, on binarised digits.",
        "builder": "avb",
        "model": {
            "latent_dim": 4,
            "discriminator_hidden": (256, 256),
            "hidden": (128, 128),
            "activation": "elu",
            "posterior_noise_dim": 16,
        },
        "optimizers": {
            "autoencoder": adversarial_adam(3e-4),
            "discriminator": adversarial_adam(1e-3),
        },
        "data": {"binarize": "dynamic", "name": "digits"},
        "epochs": 400,
    },
    "avb_ac_digits": {
        "about": "Adversarial variational Bayes, adaptive contrast, on binarised digits.",
        "like": "avb_digits",
        "model": {
            "latent_dim": 8,
            "adaptive_contrast": True,
            "posterior": "noise_basis",
            "posterior_hidden": (64, 64),
            "posterior_bases": 8,
        },
        "epochs": 300,
    },
    "avb_mnist": {
        "about": "Adversarial variational Bayes, noise in the encoder, on binarised MNIST.",
        "builder": "avb",
        "model": {
            "discriminator": "product",
            "discriminator_features": 512,
            "posterior_noise_dim": 32,
        },
        "optimizers": {"autoencoder": adversarial_adam(1e-4), "discriminator": adversarial_adam()},
        "data": {"binarize": "dynamic", "name": "mnist"},
        "batch_size": 125,
        "epochs": 100,
    },
    "avb_ac_mnist": {
        "about": "Adversarial variational Bayes, adaptive contrast, on binarised MNIST.",
        "like": "avb_mnist",
        "model": {
            "adaptive_contrast": True,
            "posterior": "noise_basis",
            "posterior_hidden": (64, 64),
            "posterior_bases": 16,
        },
    },
    "alpha_gan_digits": {
        "about": "alpha-GAN, multilayer perceptrons.",
        "builder": "alpha_gan",
        "model": {
            "latent_dim": 8,
            "code_discriminator_hidden": (128, 128),
            "hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "batch_norm": False,
        },
        "optimizers": {
            "code_discriminator": adversarial_adam(1e-3),
            "discriminator": adversarial_adam(5e-4),
            "encoder": adversarial_adam(1e-3),
            "generator": adversarial_adam(1e-3),
        },
        "data": {"name": "digits"},
        "epochs": 300,
    },
    "alpha_gan_mnist": {
        "about": "alpha-GAN, DCGAN's networks.",
        "builder": "alpha_gan",
        "model": {"latent_dim": 32, "network": "conv", "hidden": (256,), "width": 16},
        "optimizers": {
            player: adversarial_adam()
            for player in ("code_discriminator", "discriminator", "encoder", "generator")
        },
        "data": {"name": "mnist"},
        "batch_size": 100,
        "jit_compile": False,
        "epochs": 10,
    },
    "alpha_gan_cifar10": {
        "about": "alpha-GAN, DCGAN's networks, colour.",
        "like": "alpha_gan_mnist",
        "model": {"latent_dim": 128, "lambda_": 0.1, "filters": (64, 128, 256), "width": 32},
        "data": {"name": "cifar10"},
        "epochs": 50,
    },
}
