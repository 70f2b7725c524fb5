"""Small models of presets, untrained, for 8x8 images."""

from zoo import presets
from zoo.model import GenerativeModel


def build(preset: str, levels: int = 256, **settings) -> GenerativeModel:
    """The model of a preset with changed settings, without XLA."""
    config = presets.get(preset)
    changes = {"hidden": (8,), "latent_dim": 2} | settings
    changes = {name: value for name, value in changes.items() if name in config.model}
    assert settings.keys() <= changes.keys(), settings
    presets.override(
        config, ["jit_compile=false", *(f"model.{name}={value}" for name, value in changes.items())]
    )
    return presets.build(config, (8, 8, 1), levels)
