"""MoFA on heads: pose, shape, albedo and light against the truth, after Tewari et al., 2017."""

import numpy as np
import tensorflow as tf

from benchmarks.tables.table import Row, Table
from zoo.datasets import ImageData
from zoo.datasets.heads import FACTORS
from zoo.models.face_autoencoder import FaceAutoencoder
from zoo.morphable import MorphableHead, irradiance

_PLACES = {"yaw": 0, "pitch": 1, "roll": 2, "x": 0, "y": 1, "depth": 2}
_MODES = ("width", "height", "skin_tone", "hair_colour")
_PART = 100


def true_codes(head: MorphableHead, data: ImageData, split: str) -> np.ndarray:
    """The codes `[N, 47]` of the images of `heads`."""
    factors = data.factors(split)
    names = ("identity", "albedo", "expression", "angles", "translation")
    ends = np.cumsum([6, 4, 4, 3, 3])
    blocks = np.split(factors[:, : ends[-1]], ends[:-1], 1)
    light = data.annotations(split)["light"]
    return head.code(**dict(zip(names, blocks, strict=True)), light=light).numpy()


def scores(model: FaceAutoencoder, data: ImageData, split: str = "test") -> dict[str, float]:
    """Scores of the codes of images against the true codes.

    `yaw` to `depth` are 1 - squared error / variance. The scores of the modes of identity and albedo
    are squared correlations. `vertex error` is the mean distance in pixels of all vertices from their
    true places; `shading error` is the mean difference from the true shading of the vertices that truly
    face the camera, divided by the mean true shading.
    """
    x, _ = data.arrays(split)
    factors, truth = data.factors(split), true_codes(model.head, data, split)
    z = np.concatenate([model.encode(part) for part in np.array_split(x, -(-len(x) // _PART))])
    found = {name: block.numpy() for name, block in model.parts(z).items()}
    results = {}
    for name, place in _PLACES.items():
        own = found["angles" if name in ("yaw", "pitch", "roll") else "translation"][:, place]
        true = factors[:, FACTORS.index("z" if name == "depth" else name)]
        results[name] = 1 - float(((own - true) ** 2).mean() / true.var())
    for name in _MODES:
        column = FACTORS.index(name)
        block, place = ("identity", column) if column < 6 else ("albedo", column - 6)
        correlation = np.corrcoef(found[block][:, place], factors[:, column])[0, 1]
        results[name] = float(correlation**2)
    sums = np.zeros(4)
    for rows in np.array_split(np.arange(len(x)), -(-len(x) // _PART)):
        own, true = (model.head.surface(model.parts(codes[rows])) for codes in (z, truth))
        distance = tf.sqrt((own.columns - true.columns) ** 2 + (own.rows - true.rows) ** 2)
        light, true_light = (
            irradiance(true.normals, model.parts(codes[rows])["light"]) for codes in (z, truth)
        )
        facing = tf.cast(true.cosines > 0, tf.float32)[:, None]
        difference = tf.reduce_sum(facing * tf.abs(light - true_light), [0, 1])
        shading = difference / tf.reduce_sum(facing * true_light, [0, 1])
        errors = [model.energy(x[rows], codes[rows], with_rate=False) for codes in (z, truth)]
        parts = (tf.reduce_mean(distance, 0), shading, *errors)
        sums += [float(tf.reduce_sum(part)) for part in parts]
    names = ("vertex error", "shading error", "photometric", "photometric, true code")
    return results | dict(zip(names, (sums / len(x)).tolist(), strict=True))


TABLE = Table(
    name="faces",
    title="MoFA on rendered heads of unseen identities",
    reference="Tewari et al., 2017. https://arxiv.org/abs/1703.10580",
    protocol=(
        "Rendered heads of 48x48 pixels, 2,000 identities of four frames, on smooth random "
        "backgrounds. Convolutions of stride 2 with 32, 64 and 128 channels, a dense layer of 256, "
        "codes of 47. Adam from 1e-3 with a cosine fall to 0, batches of 64. On 400 test images of "
        "100 unseen identities: 1 - squared error / variance of yaw, pitch, roll, x, y and depth; "
        "squared correlations of modes of identity and albedo; mean distance of all vertices from "
        "their true places in pixels; mean relative error of the shading of the vertices that face "
        "the camera; and the photometric error, also at the true code."
    ),
    differs=(
        "The paper has photographs, a model learned from scans, and AdaDelta for 200,000 steps. "
        "Its numbers are not comparable.",
    ),
    rows=(
        Row("MoFA", "face_autoencoder_heads", seeds=3),
        Row("all vertices that face the camera", "face_autoencoder_heads", ("least_cosine=0.0",)),
        Row("no landmarks", "face_autoencoder_heads", ("landmark_weight=0.0",)),
        Row("no landmarks, no prior", "face_autoencoder_no_landmarks_heads"),
    ),
    score=lambda trained: scores(trained.model, trained.data),
    unit="the units that the protocol states",
    scoring=0.1,
)
