"""Presets of models of scenes."""

from typing import Any

from zoo.presets.optimizers import adam

PRESETS: dict[str, dict[str, Any]] = {
    "inverse_graphics_heads_grey": {
        "about": "DC-IGN, convolutional, on grey heads in groups that differ in one factor.",
        "builder": "inverse_graphics",
        "model": {
            "network": "conv",
            "filters": (32, 48, 64),
            "hidden": (128,),
            "likelihood": "shared_scale_normal",
            "invariance": 1.0,
        },
        "optimizers": {"vae": adam(1e-3)},
        "data": {"name": "heads_grey", "y": "varied"},
        "jit_compile": False,
        # Eight groups of 20.
        "batch_size": 160,
        "epochs": 20,
    },
}
