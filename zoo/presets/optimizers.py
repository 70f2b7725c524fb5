"""Optimizer settings that presets share."""

from typing import Any


def adam(learning_rate: float, **settings: float) -> dict[str, Any]:
    """Adam."""
    return {"name": "adam", "learning_rate": learning_rate} | settings


def adversarial_adam(learning_rate: float = 2e-4, **settings: float) -> dict[str, Any]:
    """Adam with beta_1 = 0.5: Radford et al., 2016."""
    return adam(learning_rate, beta_1=0.5, **settings)


def critic_adam(learning_rate: float = 1e-4) -> dict[str, Any]:
    """Adam with beta_1 = 0 and beta_2 = 0.9: Gulrajani et al., 2017, Algorithm 1."""
    return adam(learning_rate, beta_1=0.0, beta_2=0.9)


def style_adam(learning_rate: float = 1e-3, **settings: float) -> dict[str, Any]:
    """Adam with beta_1 = 0 and beta_2 = 0.99, of StyleGAN2.

    The learning rate is below the authors' 2e-3, which is for layers with equalised learning rates.
    """
    return adam(learning_rate, beta_1=0.0, beta_2=0.99, **settings)
