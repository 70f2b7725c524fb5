"""disCVAE on coloured sprites before textures: layers, attributes, completion."""

import numpy as np

import zoo
from benchmarks.tables.table import Row, Table
from zoo.datasets import ImageData, named_mask
from zoo.datasets.scenes import ATTRIBUTES, PLACE, read_attributes
from zoo.metrics import psnr
from zoo.model import GenerativeModel
from zoo.models import DisCVAE

_HUE = [ATTRIBUTES.index(name) for name in ("hue_cos", "hue_sin")]
_SIZE, *_PLACE = (ATTRIBUTES.index(name) for name in ("size", "x", "y"))


def overlap(gate: np.ndarray, mask: np.ndarray) -> float:
    """The mean intersection over union of 1 - gate > 1/2 and mask > 1/2, `[N, H, W, 1]` each."""
    found, true = gate < 0.5, mask > 0.5
    both, either = (found & true).sum((1, 2, 3)), (found | true).sum((1, 2, 3))
    return float(np.mean(both / np.maximum(either, 1)))


def angle(y: np.ndarray) -> np.ndarray:
    """The hue in radians of attributes `[N, A]`."""
    cosine, sine = (2 * y[:, i] - 1 for i in _HUE)
    return np.arctan2(sine, cosine)


def agreement(foreground: np.ndarray, gate: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """How the attributes read off a foreground agree with the attributes `y[N, A]` asked for.

    Returns:
        The mean error of the hue in radians, the correlation of the size, and the mean distance of
        the place in pixels. Images without a foreground are left out of them, and counted.
    """
    found = read_attributes(foreground, 1 - gate)
    seen = np.isfinite(found["hue"])
    hue = np.angle(np.exp(1j * (found["hue"] - angle(y))))[seen]
    place = np.stack([found["x"], found["y"]], -1) - PLACE * (2 * y[:, _PLACE] - 1)
    distance = np.linalg.norm(place, axis=-1)[seen] * foreground.shape[1]
    return {
        "hue": float(np.abs(hue).mean()),
        "size": float(np.corrcoef(found["size"][seen], y[seen, _SIZE])[0, 1]),
        "place": float(distance.mean()),
        "empty": float(1 - seen.mean()),
    }


def layer_scores(model: DisCVAE, data: ImageData, limit: int = 1000) -> dict[str, float]:
    """Scores of the layers of a model, on test images."""
    x, annotations = data.arrays("test", limit)
    y, mask = annotations["attributes"], annotations["mask"]
    z = np.asarray(model.encode(x, annotations))
    layers = model.decode_layers(z, y)
    results = {"overlap": overlap(np.asarray(layers.gate), mask)}
    # Other attributes for the same latents, and samples of the prior with these attributes.
    asked = np.roll(y, 1, 0)
    for name, latents in (("", z), ("sampled ", model.sample_latents(len(y), y, seed=1))):
        changed = model.decode_layers(latents, asked)
        found = agreement(np.asarray(changed.foreground), np.asarray(changed.gate), asked)
        results |= {f"{name}{key}": value for key, value in found.items()}
    swapped = np.asarray(model.recompose(z, np.roll(z, 1, 0), y))
    results["swapped hue"] = agreement(swapped, np.asarray(layers.gate), y)["hue"]
    return results


def completion_gain(model: GenerativeModel, data: ImageData, limit: int = 200) -> dict[str, float]:
    """PSNR of the hidden lower right quarter of test images, completed, over the mean colour, in dB."""
    x, y = data.arrays("test", limit)
    y = y["attributes"] if isinstance(y, dict) else y
    rows, columns = (slice(size // 2, None) for size in x.shape[1:3])
    seen = named_mask("quadrants:3", x.shape[1:3])[0]
    completed = np.asarray(zoo.inference.complete(model, x, seen, y, starts=3, seed=0).images[0])
    mean = (x * seen).sum((1, 2), keepdims=True) / seen.sum()
    truth = x[:, rows, columns]
    found = psnr(completed[:, rows, columns], truth).value
    return {
        "completion": found,
        "gain": found - psnr(np.broadcast_to(mean, truth.shape), truth).value,
    }


def _score(trained):
    model, data = trained.model, trained.data
    own = layer_scores(model, data) if isinstance(model, DisCVAE) else {}
    return own | completion_gain(model, data)


TABLE = Table(
    name="layers",
    title="disCVAE on coloured sprites before textures",
    reference="Yan et al., 2016 (Attribute2Image). https://arxiv.org/abs/1512.00570",
    protocol=(
        "20,000 rendered images of 32x32 pixels with 8 attributes and the mask of the sprite. "
        "Convolutions of stride 2 and dense layers of 128, 16 + 8 latents, Adam with 1e-3. On "
        "1,000 test images: the intersection over union of 1 - gate and mask; hue (error in "
        "radians), size (correlation) and place (error in pixels), read off the generated "
        "foreground, against the attributes of another image asked for, with the latents of the "
        "image and with draws of the prior (sampled); the share of images without a foreground "
        "(empty); the error of the hue after the backgrounds are swapped. On 200 test images: the "
        "PSNR of the hidden lower right quarter, completed by the best of three optimised "
        "latents, and its gain over the mean colour of the seen part, in dB. The CVAE starts from "
        "its encoder and uses its likelihood; disCVAE starts from draws of the prior and uses a "
        "squared error with the scale 0.1."
    ),
    differs=(
        "The paper scores faces and birds with networks that predict attributes. Here the "
        "attributes are read off the pixels, because the sprites are rendered.",
    ),
    rows=(
        Row("disCVAE", "dis_cvae_sprites_scenes"),
        Row("disCVAE, bound", "dis_cvae_sprites_scenes", ("composite=masked",)),
        Row("CVAE", "cvae_attributes_sprites_scenes"),
    ),
    remarks=(
        "After 16 epochs the layers follow the data: the gate is the mask of the sprite, and the "
        "foreground has the hue, the size and the place of the attributes, also with draws of the "
        "prior and before other backgrounds. The bound, which has a learned standard deviation of the "
        "pixels, has a smaller error of the hue than the loss of the authors' code.",
        "The aim of completions was 3 dB over the mean colour. The bound meets it with 3.2 dB. Its pixels "
        "start with a standard deviation of 0.1. With `likelihood_scale=0.5` the rate outweighs the errors "
        "at first, the background keeps 2.3 nats, and the completions lose 0.5 dB. The backgrounds "
        "of the loss of the authors' code have one of few colours. Those of the bound have the mean "
        "colour of each image and no texture, as those of the CVAE, which gains 2.8 dB after more than "
        "twice as many epochs in the same time.",
        "The bound was still improving: its loss on validation images fell by 592 nats in the last "
        "epoch.",
    ),
    score=_score,
    unit="the units that the text states",
    scoring=0.15,
    digits=3,
)
