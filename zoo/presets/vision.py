"""Presets of models of scenes."""

from typing import Any

from zoo.presets.optimizers import adam

PRESETS: dict[str, dict[str, Any]] = {
    "face_autoencoder_heads": {
        "about": "MoFA: an encoder of heads to pose, shape, albedo and light, with landmarks.",
        "builder": "face_autoencoder",
        "model": {"least_cosine": 0.2},
        "optimizers": {"encoder": adam(1e-3)},
        "data": {"name": "heads", "y": "landmarks"},
        "jit_compile": False,
        "batch_size": 64,
        "learning_rate_decay": "cosine",
        "epochs": 60,
    },
    "face_autoencoder_no_landmarks_heads": {
        "about": "MoFA without landmarks, prior and least cosine, whose mesh shrinks.",
        "like": "face_autoencoder_heads",
        "model": {"landmark_weight": 0.0, "rate_weight": 0.0, "least_cosine": 0.0},
    },
    "inverse_graphics_heads_grey": {
        "about": "DC-IGN, convolutional, on grey heads in groups that differ in one factor.",
        "builder": "inverse_graphics",
        "model": {
            "network": "conv",
            "filters": (32, 48, 64),
            "hidden": (128,),
            "likelihood": "shared_scale_normal",
            "likelihood_scale": 0.1,
            "invariance": 4.0,
        },
        "optimizers": {"vae": adam(2e-3)},
        "data": {"name": "heads_grey", "y": "varied"},
        "jit_compile": False,
        # Four groups of 20.
        "batch_size": 80,
        "learning_rate_decay": "cosine",
        "epochs": 40,
    },
    "vae_heads_grey": {
        "about": "VAE with the networks of DC-IGN on the same heads, without groups.",
        "builder": "vae",
        "model": {
            "latent_dim": 15,
            "network": "conv",
            "filters": (32, 48, 64),
            "hidden": (128,),
            "likelihood": "shared_scale_normal",
            "likelihood_scale": 0.1,
        },
        "optimizers": {"vae": adam(2e-3)},
        "data": {"name": "heads_grey", "y": "varied"},
        "jit_compile": False,
        "batch_size": 80,
        "learning_rate_decay": "cosine",
        "epochs": 40,
    },
    "dis_cvae_sprites_scenes": {
        "about": "disCVAE, convolutional, on coloured sprites before textured backgrounds.",
        "builder": "dis_cvae",
        "model": {"condition_size": 8},
        "optimizers": {"vae": adam(1e-3)},
        "data": {"name": "sprites_scenes", "y": "attributes,mask"},
        "jit_compile": False,
        "epochs": 30,
    },
    "cvae_attributes_sprites_scenes": {
        "about": "CVAE of Attribute2Image, convolutional, on the same images without masks.",
        "builder": "cvae",
        "model": {
            "condition": "attributes",
            "condition_size": 8,
            "latent_dim": 24,
            "network": "conv",
            "filters": (32, 64, 64),
            "hidden": (128,),
            "likelihood": "shared_scale_normal",
            "likelihood_scale": 0.1,
        },
        "optimizers": {"vae": adam(1e-3)},
        "data": {"name": "sprites_scenes", "y": "attributes"},
        "jit_compile": False,
        "epochs": 30,
    },
    "dis_cvae_toon_heads": {
        "about": "disCVAE on drawn heads, conditional on 16 attributes, with their masks.",
        "like": "dis_cvae_sprites_scenes",
        "model": {"condition_size": 16, "foreground_dim": 32},
        "data": {"name": "folder", "image_size": 32, "mask": "alpha"},
        "epochs": 60,
    },
    "dis_cvae_pixel_avatars": {
        "about": "disCVAE on avatars, conditional on eight attributes, with their masks.",
        "like": "dis_cvae_toon_heads",
        "model": {"condition_size": 8, "filters": (32, 64)},
        # The avatars are drawn in 16x16 squares.
        "data": {"image_size": 16},
        "epochs": 30,
    },
    # Higgins et al. have fully connected networks of 1,200 units and ten latents on dSprites. A
    # warm-up of the rate entangles the factors: the latents that it lets in early remain.
    "vae_sprites": {
        "about": "VAE, Bernoulli likelihood, on sprites.",
        "builder": "vae",
        "model": {"latent_dim": 10, "hidden": (256, 256)},
        "optimizers": {"vae": adam(2e-3)},
        "data": {"name": "sprites"},
        "batch_size": 64,
        "epochs": 50,
    },
    "vae_conv_sprites": {
        "about": "VAE, Bernoulli likelihood, convolutional, on sprites.",
        "like": "vae_sprites",
        "model": {"network": "conv", "filters": (32, 32, 64, 64)},
        "optimizers": {"vae": adam(1e-3)},
        "jit_compile": False,
        "epochs": 20,
    },
    "beta_vae_sprites": {
        "about": "beta-VAE, beta = 4, on sprites.",
        "like": "vae_sprites",
        "builder": "beta_vae",
    },
    "beta_tcvae_sprites": {
        "about": "beta-TCVAE, beta = 6, on sprites.",
        "like": "vae_sprites",
        "builder": "beta_tcvae",
    },
    "factor_vae_sprites": {
        "about": "FactorVAE, gamma = 20, on sprites.",
        "like": "vae_sprites",
        "builder": "factor_vae",
        "model": {"gamma": 20.0, "discriminator_hidden": (256, 256, 256)},
        "optimizers": {"discriminator": adam(1e-3, beta_1=0.5, beta_2=0.9), "vae": adam(2e-3)},
    },
    "inverse_graphics_sprites_groups": {
        "about": "DC-IGN on sprites in groups that differ in one factor.",
        "builder": "inverse_graphics",
        "model": {
            "hidden": (256, 256),
            "factors": ("shape", "scale", "orientation", "x", "y"),
            # Orientations of shapes with symmetries do not lie on a line.
            "units": (2, 1, 5, 1, 1),
            "invariance": 0.1,
        },
        "optimizers": {"vae": adam(2e-3)},
        "data": {"name": "sprites_groups", "y": "varied"},
        # Four groups of 20.
        "batch_size": 80,
        "epochs": 50,
    },
}
