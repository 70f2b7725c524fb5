"""Named configurations (builder, options, data, optimizers), and functions that build their models.

    config = zoo.presets.get("vae_digits")
    zoo.presets.override(config, ["latent_dim=2", "epochs=20"])
    model = zoo.presets.build(config, image_shape=(8, 8, 1), levels=17)

The settings are plain data in `vaes.py`, `gans.py`, `aaes.py`, `hybrids.py` and `vision.py`. The name of a
preset consists of the builder's name, the variant and the data set. A preset for a folder of images
ends with the name of the images, and needs `data_dir`, the folder.
"""

from zoo.presets.config import (
    PRESETS,
    build,
    defaults,
    differences,
    from_dict,
    get,
    names,
    override,
    resolve,
    to_dict,
    unused,
)

__all__ = [
    "PRESETS",
    "build",
    "defaults",
    "differences",
    "from_dict",
    "get",
    "names",
    "override",
    "resolve",
    "to_dict",
    "unused",
]
