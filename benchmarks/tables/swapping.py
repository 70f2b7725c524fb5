"""Swapping Autoencoder on textures: layouts, colours and reconstructions."""

import numpy as np

from benchmarks.tables.table import Row, Table
from zoo.datasets import ImageData
from zoo.datasets.textures import read_layouts
from zoo.models import SwappingAutoencoder


def overlap(found: np.ndarray, true: np.ndarray) -> float:
    """The mean intersection over union of layouts, bool `[N, H, W]` each."""
    both, either = (found & true).sum((1, 2)), (found | true).sum((1, 2))
    return float(np.mean(both / np.maximum(either, 1)))


def scores(model: SwappingAutoencoder, data: ImageData, limit: int = 1000) -> dict[str, float]:
    """Scores of a model on test images, each with the texture of the next image.

    Returns:
        - overlap: of the layout of hybrids with that of the structure's image. The layout is read off
          the pixels, by the four colours of the texture's image.
        - chance overlap: of the layout of hybrids with that of the texture's image.
        - colour distance: the mean distance of pixels of hybrids to the nearest of these colours.
        - unchanged colours: this distance for the images of the structures instead of hybrids.
        - reconstruction: the mean absolute difference of images and reconstructions.
    """
    (x, _), y = data.arrays("test", limit), data.annotations("test", limit)
    layouts, palettes = y["layout"][..., 0] > 0.5, np.roll(y["palette"], -1, 0)
    textures = np.roll(x, -1, 0)
    parts = [slice(i, i + 200) for i in range(0, len(x), 200)]
    swapped = np.concatenate([model.swap(x[part], textures[part]) for part in parts])
    reconstructions = np.concatenate([model.reconstruct(x[part]) for part in parts])
    found, distance = read_layouts(swapped, palettes)
    return {
        "overlap": overlap(found, layouts),
        "chance overlap": overlap(found, np.roll(layouts, -1, 0)),
        "colour distance": float(distance.mean()),
        "unchanged colours": float(read_layouts(x, palettes)[1].mean()),
        "reconstruction": float(np.abs(x - reconstructions).mean()),
    }


def _score(trained):
    with trained.model.best_weights():
        return scores(trained.model, trained.data)


TABLE = Table(
    name="swapping",
    title="Swapping Autoencoder on layouts with two textures",
    reference="Park et al., 2020. https://arxiv.org/abs/2007.00653",
    protocol=(
        "20,000 rendered images of 32x32 pixels: a layout of one to three shapes, with a pattern of "
        "two colours inside and one of two other colours outside. The networks of the preset, Adam "
        "with beta_1 = 0, batches of 16, moving averages of the autoencoder's weights. On 1,000 test "
        "images, each with the texture of the next image: the intersection over union of the layout "
        "of hybrids and that of the structure's image (overlap) or of the texture's image (chance "
        "overlap), where a pixel is inside if the nearest of the four colours of the texture's image "
        "is one of those inside; the mean distance of pixels of hybrids to the nearest of these "
        "colours (colour distance), in [0, 1] for each channel, and that of the images of the "
        "structures (unchanged colours); the mean absolute difference of images and reconstructions."
    ),
    differs=(
        "The paper reports LPIPS and FID on photographs of 256 pixels and more. Here colours and "
        "layouts are read off the pixels, because the images are rendered.",
        "The structure is a quarter of the image's side instead of a 16th, the texture has 64 "
        "numbers instead of 2,048, and 4 crops of 1/4 to 1/2 of the side replace 8 of 1/8 to 1/4.",
    ),
    rows=(
        Row("Swapping Autoencoder", "swapping_autoencoder_textures"),
        Row(
            "without the patch discriminator",
            "swapping_autoencoder_textures",
            ("patch_weight=0.0",),
        ),
    ),
    score=_score,
    unit="the units that the text states",
    equal_epochs=True,
    scoring=0.05,
    digits=3,
)
