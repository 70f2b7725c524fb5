"""Presets of models of videos: forecasting from one image, and latent dynamics."""

from typing import Any

from zoo.presets.optimizers import adam

PRESETS: dict[str, dict[str, Any]] = {
    # `prior=normal` is the model of Walker et al., 2016.
    "cvae_moving_sprites": {
        "about": "Conditional VAE that forecasts three frames of a sprite from the first one.",
        "builder": "cvae",
        "model": {
            "condition": "seen",
            "prior": "conditional",
            "latent_dim": 8,
            "hidden": (256, 256),
        },
        "optimizers": {"vae": adam(3e-3)},
        "data": {"name": "moving_sprites", "seen": "frames:1"},
        "batch_size": 100,
        "learning_rate_decay": "cosine",
        "epochs": 120,
    },
    "cvae_turning_sprites": {
        "about": "Conditional VAE that forecasts a sprite with four futures.",
        "like": "cvae_moving_sprites",
        "data": {"name": "turning_sprites"},
    },
    "predictor_moving_sprites": {
        "about": "Deterministic network that forecasts three frames of a sprite.",
        "builder": "predictor",
        "model": {"hidden": (256, 256)},
        "optimizers": {"predictor": adam(3e-3)},
        "data": {"name": "moving_sprites", "seen": "frames:1"},
        "batch_size": 100,
        "learning_rate_decay": "cosine",
        "epochs": 120,
    },
    "predictor_turning_sprites": {
        "about": "Deterministic network that forecasts a sprite with four futures.",
        "like": "predictor_moving_sprites",
        "data": {"name": "turning_sprites"},
    },
    "video_vae_bouncing_sprites": {
        "about": "Video VAE with static latents, on bouncing sprites.",
        "builder": "video_vae",
        "model": {"latent_dim": 4, "static_dim": 4, "order": 3, "hidden": (256, 256)},
        "optimizers": {"vae": adam(2e-3)},
        "data": {"name": "bouncing_sprites"},
        "batch_size": 100,
        "learning_rate_decay": "cosine",
        "epochs": 120,
    },
}
