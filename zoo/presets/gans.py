"""Presets of GANs."""

from typing import Any

from zoo.presets.optimizers import adversarial_adam, critic_adam

PRESETS: dict[str, dict[str, Any]] = {
    "gan_digits": {
        "about": "GAN, non-saturating, multilayer perceptrons.",
        "builder": "gan",
        "model": {
            "latent_dim": 16,
            "generator_hidden": (128, 128),
            "discriminator_hidden": (128, 128),
            "real_label": 0.9,
        },
        "optimizers": {
            "discriminator": adversarial_adam(1e-3),
            "generator": adversarial_adam(1e-3, use_ema=True),
        },
        "data": {"name": "digits"},
        "jit_compile": False,
        "epochs": 250,
    },
    "gan_mnist": {
        "about": "GAN, non-saturating, R1 penalty, multilayer perceptrons.",
        "builder": "gan",
        "model": {"latent_dim": 64, "dropout": 0.0, "real_label": 0.9, "r1": 2.5},
        "optimizers": {"discriminator": adversarial_adam(), "generator": adversarial_adam()},
        "data": {"name": "mnist"},
        "batch_size": 100,
        "epochs": 50,
    },
    "gan_fashion_mnist": {
        "about": "GAN, non-saturating, R1 penalty, multilayer perceptrons.",
        "like": "gan_mnist",
        "data": {"name": "fashion_mnist"},
    },
    "gan_cifar10": {
        "about": "GAN, non-saturating, R1 penalty, multilayer perceptrons, on CIFAR-10.",
        "like": "gan_mnist",
        "model": {
            "latent_dim": 128,
            "generator_hidden": (512, 1024),
            "discriminator_hidden": (1024, 512),
        },
        "data": {"name": "cifar10"},
    },
    "gan_svhn_cropped": {
        "about": "GAN, non-saturating, R1 penalty, multilayer perceptrons, on SVHN.",
        "like": "gan_cifar10",
        "data": {"name": "svhn_cropped"},
    },
    "dcgan_digits": {
        "about": "DCGAN with narrow networks for images of 8 pixels.",
        "builder": "dcgan",
        "model": {"latent_dim": 16, "width": 32},
        "optimizers": {"discriminator": adversarial_adam(), "generator": adversarial_adam()},
        "data": {"name": "digits"},
        "jit_compile": False,
        "epochs": 150,
    },
    "dcgan_mnist": {
        "about": "DCGAN with networks half as wide as the paper's.",
        "like": "dcgan_digits",
        "model": {"latent_dim": 100},
        "data": {"name": "mnist"},
        "batch_size": 128,
        "epochs": 20,
    },
    "dcgan_fashion_mnist": {
        "about": "DCGAN with networks half as wide as the paper's.",
        "like": "dcgan_mnist",
        "data": {"name": "fashion_mnist"},
    },
    "dcgan_cifar10": {
        "about": "DCGAN with networks half as wide as the paper's, on CIFAR-10.",
        "like": "dcgan_mnist",
        "model": {"width": 64},
        "data": {"name": "cifar10"},
        "epochs": 50,
    },
    "dcgan_svhn_cropped": {
        "about": "DCGAN with networks half as wide as the paper's, on SVHN.",
        "like": "dcgan_cifar10",
        "data": {"name": "svhn_cropped"},
    },
    "dcgan_celeb_a": {
        "about": "DCGAN with networks as wide as the paper's, on faces of 64 pixels.",
        "like": "dcgan_mnist",
        "model": {"width": 128},
        "data": {"name": "celeb_a"},
    },
    "wgan_gp_digits": {
        "about": "WGAN-GP, multilayer perceptrons, 5 critic updates per step.",
        "builder": "wgan_gp",
        "model": {
            "latent_dim": 16,
            "generator_hidden": (128, 128),
            "discriminator_hidden": (128, 128),
        },
        "optimizers": {"discriminator": critic_adam(1e-3), "generator": critic_adam(1e-3)},
        "data": {"name": "digits"},
        "batch_size": 160,
        "jit_compile": False,
        "epochs": 400,
    },
    "wgan_gp_mnist": {
        "about": "WGAN-GP, DCGAN's networks without the critic's batch normalization.",
        "builder": "wgan_gp",
        "model": {"network": "conv", "width": 32},
        "optimizers": {"discriminator": critic_adam(), "generator": critic_adam()},
        "data": {"name": "mnist"},
        "batch_size": 320,
        "jit_compile": False,
        "epochs": 30,
    },
    "wgan_gp_cifar10": {
        "about": "WGAN-GP on CIFAR-10, DCGAN's networks without the critic's batch normalization.",
        "like": "wgan_gp_mnist",
        "model": {"width": 64},
        "data": {"name": "cifar10"},
        "epochs": 100,
    },
    "f_gan_digits": {
        "about": "f-GAN with the squared Hellinger distance, multilayer perceptrons.",
        "like": "gan_digits",
        "builder": "f_gan",
        "model": {
            "dropout": 0.3,
            "prior": "normal",
            "loss": "f_squared_hellinger",
            "real_label": 1.0,
        },
        "optimizers": {
            "discriminator": adversarial_adam(1e-3),
            "generator": adversarial_adam(1e-3),
        },
    },
    "f_gan_mnist": {
        "about": "f-GAN with the Kullback-Leibler divergence, almost the paper's networks.",
        "builder": "f_gan",
        "optimizers": {"discriminator": adversarial_adam(), "generator": adversarial_adam()},
        "data": {"name": "mnist"},
        "batch_size": 100,
        "epochs": 50,
    },
    "sngan_mnist": {
        "about": "SNGAN: hinge loss, spectral normalization, DCGAN's networks.",
        "builder": "sngan",
        "model": {"width": 32},
        "optimizers": {"discriminator": adversarial_adam(), "generator": adversarial_adam()},
        "data": {"name": "mnist"},
        "batch_size": 64,
        "jit_compile": False,
        "epochs": 10,
    },
    "sngan_cifar10": {
        "about": "SNGAN: hinge loss, spectral normalization, DCGAN's networks, on CIFAR-10.",
        "like": "sngan_mnist",
        "model": {"width": 64},
        "data": {"name": "cifar10"},
        "epochs": 50,
    },
    # 140 steps an epoch, about 50,000 in all. A step updates the discriminator five times, each time
    # on 64 images, and the generator once.
    "sngan_resnet_cifar10": {
        "about": "SNGAN, the paper's residual networks (table 4), on CIFAR-10.",
        "like": "sngan_cifar10",
        "model": {"network": "resnet", "width": 128, "discriminator_steps": 5},
        "optimizers": {"discriminator": critic_adam(2e-4), "generator": critic_adam(2e-4)},
        "batch_size": 320,
        "epochs": 357,
        "learning_rate_decay": "linear",
    },
    "cgan_digits": {
        "about": "Class-conditional GAN, concatenated labels, multilayer perceptrons.",
        "like": "gan_digits",
        "builder": "cgan",
        "model": {"condition_size": 10},
    },
    "cgan_mnist": {
        "about": "Class-conditional SNGAN: projection discriminator, hinge loss.",
        "like": "sngan_mnist",
        "builder": "cgan",
        "model": {
            "condition_size": 10,
            "discriminator": "projection",
            "latent_dim": 128,
            "network": "conv",
            "dropout": 0.0,
            "spectral_norm": True,
            "loss": "hinge",
        },
    },
    "bi_gan_digits": {
        "about": "BiGAN, multilayer perceptrons, uniform latents.",
        "builder": "bi_gan",
        "model": {"latent_dim": 16, "hidden": (256, 256)},
        "optimizers": {
            player: adversarial_adam(5e-4) for player in ("discriminator", "encoder", "generator")
        },
        "data": {"name": "digits"},
        "epochs": 300,
    },
    "bi_gan_mnist": {
        "about": "BiGAN, multilayer perceptrons, the paper's sizes.",
        "builder": "bi_gan",
        "optimizers": {
            player: adversarial_adam() for player in ("discriminator", "encoder", "generator")
        },
        "data": {"name": "mnist"},
        "batch_size": 128,
        "epochs": 50,
    },
    "ali_cifar10": {
        "about": "Adversarially learned inference on CIFAR-10, with DCGAN's networks.",
        "like": "wgan_gp_cifar10",
        "builder": "ali",
        "optimizers": {
            player: adversarial_adam(1e-4) for player in ("discriminator", "encoder", "generator")
        },
        "batch_size": 100,
    },
}
