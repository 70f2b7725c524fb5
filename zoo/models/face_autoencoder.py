"""Model-based face autoencoder (MoFA).

Tewari, Zollhöfer, Kim, Garrido, Bernard, Pérez and Theobalt, "MoFA: Model-based Deep Convolutional Face
Autoencoder for Unsupervised Monocular Reconstruction", 2017. https://arxiv.org/abs/1703.10580
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import descent, networks
from zoo.config import choices
from zoo.contract import Limits, as_count, check_non_negative
from zoo.distributions import Prior, StandardNormal, need_density, refuse_learned
from zoo.interfaces import Interface
from zoo.model import Array, GenerativeModel, Signature
from zoo.morphable import (
    CODE_SIZE,
    LANDMARK_SHAPE,
    MorphableHead,
    Surface,
    distant_light,
    sampled,
)

_EPSILON = 1e-6
"""Added under the root of the photometric error, whose gradient is infinite at 0."""


@keras.saving.register_keras_serializable("zoo")
class FaceAutoencoder(GenerativeModel):
    """Maps images to the coefficients of a morphable head, trained without their true values.

    The encoder returns the code z of a `MorphableHead`, whose vertices i have the pixel coordinates u_i
    and the colours c_i. For an image I, the encoder minimises

        L = photometric + landmark_weight landmark + rate_weight rate,
        photometric = mean over visible vertices i of |I(u_i) - c_i|_2,
        landmark    = mean_j |u_j - l_j|^2, in squared pixels,
        rate        = -log p(z),

    where p(z) is N(0, I). I(u) is interpolated between pixels, so that the photometric error has a
    gradient with respect to u_i. A vertex outside the image is compared with the border. A vertex is
    visible if the cosine of the angle between its normal and the direction to the camera is above
    `least_cosine`, which has no gradient. `landmark_error` is the mean distance |u_j - l_j| in pixels,
    and `visible` the share of visible vertices.

    The head has no weights. The encoder is the only player.

    Args:
        encoder: Network from `x[B, S, S, 3]` to `z[B, 47]`.
        head: A `MorphableHead` of S pixels.
        prior: p(z), a fixed `Prior` with a density.
        landmark_weight: Weight of `landmark`. If it is above 0, training and evaluation need the
            annotation `landmarks`, pixel coordinates (column, row) of all landmarks, `[8, 2]`; if it is
            0, images are enough.
        rate_weight: Weight of `rate`.
        least_cosine: The least cosine of visible vertices, in [0, 1). At 0 all vertices that face the
            camera are visible.
        **kwargs: As for `GenerativeModel`.

    Raises:
        ValueError: If a part does not fit the head, the prior is learned or has no density, a weight
            is negative, or `least_cosine` is not in [0, 1).

    Notes:
        A falling photometric error is no proof of a good fit. Without landmarks, the mesh can shrink to
        the inside of the face, where the image is smooth, and its error is then below that of the true
        code. Compare the pose with the truth, or look at `overlay`.

        The paper's model is learned from scans; this head is a formula. In the paper the coefficients
        of identity, albedo and expression have squared penalties with three different weights; pose
        and light have none. Here p(z) covers all of them, so that the regulariser is a density and
        `sample` draws heads. Weights of landmarks by their confidence are left out, and 1e-6 is added
        under the root of the photometric error.

        In the paper all vertices that face the camera are visible. Near the silhouette a pixel also
        shows the background, and parts of the head hide others, so that the true code has a large
        error there. A higher `least_cosine` leaves these vertices out.

        The light is not identifiable from the visible side of a head: compare shadings, not
        coefficients.

    Example:
        >>> model = zoo.models.face_autoencoder((32, 32, 3), hidden=(16,), landmark_weight=0.0)
        >>> x = np.full([2, 32, 32, 3], 0.5, np.float32)
        >>> model.turn(x, yaw=[-0.5, 0.0, 0.5], pitch=[0.0, 0.0, 0.0]).shape
        TensorShape([2, 3, 32, 32, 3])
    """

    has_differentiable_decoder = False
    signatures: Mapping[str, Signature] = {
        **GenerativeModel.signatures,
        "overlay": Signature(("x",), "images"),
        "turn": Signature(("x", "yaw", "pitch"), "renderings"),
        "relight": Signature(("x", "azimuth", "elevation"), "renderings"),
    }

    def __init__(
        self,
        encoder: keras.Model,
        head: MorphableHead,
        prior: Prior,
        landmark_weight: float = 0.02,
        rate_weight: float = 0.004,
        least_cosine: float = 0.0,
        **kwargs: Any,
    ):
        check_non_negative(landmark_weight=landmark_weight, rate_weight=rate_weight)
        if not 0 <= least_cosine < 1:
            raise ValueError(f"`least_cosine` must be in [0, 1). Received: {least_cosine}.")
        refuse_learned(prior, "a FaceAutoencoder")
        need_density(prior, "a FaceAutoencoder", everywhere=True)
        self.landmark_weight = landmark_weight  # The constructor of the base reads `annotations`.
        super().__init__(**kwargs)
        self.encoder = encoder
        self.head = head
        self.prior = prior
        self.rate_weight = rate_weight
        self.least_cosine = least_cosine
        self._refine: Callable | None = None

    @property
    def terms(self):
        of_landmarks = ("landmark_error",) if self.landmark_weight else ()
        return ("photometric", *of_landmarks, "rate", "visible")

    @property
    def annotations(self):
        return ("landmarks",) if self.landmark_weight else ()

    @property
    def annotation_limits(self) -> Mapping[str, Limits]:
        return {"landmarks": Limits(LANDMARK_SHAPE, -1e6, 1e6)} if self.annotations else {}

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {"encoder": [self.encoder]}

    def interfaces(self) -> dict[str, Interface]:
        images = (self.head.size, self.head.size, 3)
        codes = (CODE_SIZE,)
        return {"encoder": Interface((images,), (codes,)), "prior": Interface((), (codes,))}

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        z = self.encoder(x, training=training)
        surface = self.head.surface(self.head.parts(z))
        terms = self._terms(x, z, surface)
        loss = terms["photometric"] + self.rate_weight * terms["rate"]
        if self.landmark_weight:
            offsets = self.head.landmarks(surface) - tf.cast(y["landmarks"], tf.float32)
            squares = tf.reduce_sum(offsets**2, -1)
            loss += self.landmark_weight * tf.reduce_mean(squares, -1)
            terms["landmark_error"] = tf.reduce_mean(tf.sqrt(tf.stop_gradient(squares)), -1)
        return {"encoder": loss}, terms

    def _terms(self, x, z, surface: Surface):
        visible = tf.cast(surface.cosines > self.least_cosine, tf.float32)
        differences = sampled(x, surface.columns, surface.rows) - surface.colours
        errors = tf.sqrt(tf.reduce_sum(differences**2, 1) + _EPSILON)
        count = tf.maximum(tf.reduce_sum(visible, 0), 1.0)
        return {
            "photometric": tf.reduce_sum(visible * errors, 0) / count,
            "rate": -self.prior().log_prob(z),
            "visible": tf.reduce_mean(visible, 0),
        }

    def energy(self, x: Array, z: Array, with_rate: bool = True) -> tf.Tensor:
        """The photometric error of images at codes, `[B]`, plus rate_weight rate.

        Args:
            x: Images `[B, S, S, 3]`.
            z: Codes `[B, 47]`.
            with_rate: Whether to add the rate.
        """
        z = self._latents(z)
        terms = self._terms(self._images(x), z, self.head.surface(self.head.parts(z)))
        return terms["photometric"] + (self.rate_weight * terms["rate"] if with_rate else 0.0)

    # Inference ---------------------------------------------------------------------------------

    def abilities(self) -> tuple[str, ...]:
        return (*super().abilities(), "overlay", "turn", "relight", "refine")

    def tensor_specs(self) -> dict[str, tf.TensorSpec]:
        values = ("yaw", "pitch", "azimuth", "elevation")
        return (
            super().tensor_specs()
            | {name: tf.TensorSpec([None], tf.float32) for name in values}
            | {"renderings": tf.TensorSpec([None, None, *self.image_shape], tf.float32)}
        )

    def tensor_ranges(self) -> dict[str, tuple[float | None, float | None]]:
        return super().tensor_ranges() | {"renderings": (0.0, 1.0)}

    def parts(self, z: Array) -> dict[str, tf.Tensor]:
        """The coefficients of codes `z[B, 47]` by block: see `MorphableHead.parts`."""
        return self.head.parts(self._latents(z))

    def _latents(self, z):
        z = super()._latents(z)
        if not z.shape.is_compatible_with([None, CODE_SIZE]):
            raise ValueError(
                f"Expected latents of shape [B, {CODE_SIZE}]. Received: shape {tuple(z.shape)}."
            )
        return z

    def decode(self, z: Array, y: Any = None) -> tf.Tensor:
        """Renders heads on mid-grey: `[B, S, S, 3]`. The images have no gradient."""
        return self.head.render(self._latents(z))

    def overlay(self, x: Array) -> tf.Tensor:
        """The images `x[B, S, S, 3]` with the renderings of their codes on them."""
        x = self._images(x)
        return self.head.render(self.encode(x), x)

    def turn(self, x: Array, yaw: Array, pitch: Array) -> tf.Tensor:
        """The heads of images at other angles, on mid-grey.

        Args:
            x: Images `[B, S, S, 3]`.
            yaw, pitch: Angles in radians, `[V]`, which replace those of the heads; see
                `zoo.rendering.camera.rotation`. The roll of each head stays.

        Returns:
            `[B, V, S, S, 3]`.

        Raises:
            ValueError: If the angles are not two vectors of finite numbers of one length. If they are
                known only when a graph runs, the error is TensorFlow's `InvalidArgumentError`.
        """
        yaw, pitch = _vectors(yaw=yaw, pitch=pitch)
        z = self.encode(x)
        roll = self.head.parts(z)["angles"][:, 2]
        shape = [tf.shape(roll)[0], tf.shape(yaw)[0]]
        angles = [tf.broadcast_to(t, shape) for t in (yaw, pitch, roll[:, None])]
        return self._with(z, "angles", tf.stack(angles, -1))

    def relight(
        self,
        x: Array,
        azimuth: Array,
        elevation: Array,
        strength: float = 0.65,
        ambient: float = 0.17,
    ) -> tf.Tensor:
        """The heads of images under one distant white light and ambient light, on mid-grey.

        Args:
            x: Images `[B, S, S, 3]`.
            azimuth, elevation: Angles to the light in radians, `[V]`: to the right, and upwards.
            strength: Irradiance from the light where it falls vertically. An export has the default.
            ambient: Irradiance from all sides. An export has the default.

        Returns:
            `[B, V, S, S, 3]`.

        Raises:
            ValueError: As for `turn`, or if a strength is negative.
        """
        check_non_negative(strength=strength, ambient=ambient)
        azimuth, elevation = _vectors(azimuth=azimuth, elevation=elevation)
        gamma = distant_light(azimuth, elevation, strength, ambient)
        gamma = tf.repeat(gamma[..., None], 3, -1)  # [V, 9, 3]
        z = self.encode(x)
        return self._with(z, "light", tf.repeat(gamma[None], tf.shape(z)[0], 0))

    def refine(self, x: Array, steps: int | tf.Tensor = 200) -> tf.Tensor:
        """Codes of images with a lower `energy` than those of the encoder: `[B, 47]`.

        Adam minimises the energy, at a rate of 0.02 in units of z. The result is the best code of the
        path. The energy has no landmarks, so that a code can lose its pose: see the notes of the class.
        The method is not exported, because it computes gradients.

        Raises:
            ValueError: If `steps` is negative.
        """
        steps = as_count(steps, "steps", 0)
        if self._refine is None:
            spec = tf.TensorSpec([None, *self.image_shape], tf.float32)
            self._refine = tf.function(self._refined, [spec, tf.TensorSpec([], tf.int32)])
        return self._refine(self._images(x), tf.cast(steps, tf.int32))

    def _refined(self, x, steps):
        best, _ = descent.adam(lambda z: self.energy(x, z), self.encode(x), steps, 0.02)
        return best

    def _with(self, z, block, values):
        """Images `[B, V, ...]` of the heads of codes with values `[B, V, ...]` of one block."""
        rows, count = tf.unstack(tf.shape(values)[:2])
        own = self.head.parts(tf.repeat(z, count, 0))
        shape = tf.concat([[rows * count], tf.shape(own[block])[1:]], 0)
        z = self.head.code(**(own | {block: tf.reshape(values, shape)}))
        return tf.reshape(self.head.render(z), [rows, count, *self.image_shape])


def _vectors(**given):
    """The arguments as two float tensors `[V]` of one length, without NaN and infinity."""
    names = " and ".join(f"`{name}`" for name in given)
    expected = f"{names} must be vectors of finite numbers of one length."
    found = [tf.cast(v if tf.is_tensor(v) else np.asarray(v), tf.float32) for v in given.values()]
    a, b = (t.shape for t in found)
    if a.rank != 1 or not a.is_compatible_with(b):
        raise ValueError(f"{expected} Received: shapes {a} and {b}.")
    tf.debugging.assert_equal(*map(tf.size, found), expected)
    for values in found:
        known = None if tf.is_symbolic_tensor(values) else values.numpy()
        if known is not None and not np.isfinite(known).all():
            raise ValueError(f"{expected} Received: NaN or infinity.")
    return found


@choices(network=networks.NETWORKS)
def face_autoencoder(
    image_shape: Sequence[int],
    *,
    network: str = "conv",
    hidden: Sequence[int] = (256,),
    filters: Sequence[int] = (32, 64, 128),
    activation: str = "relu",
    latitudes: int = 24,
    longitudes: int = 32,
    landmark_weight: float = 0.02,
    rate_weight: float = 0.004,
    least_cosine: float = 0.0,
) -> FaceAutoencoder:
    """A `FaceAutoencoder` with a convolutional encoder, which starts at heads near the mean head.

    Args:
        image_shape: Height, width, channels: square images in colour.
        network: "mlp", "conv" or "resnet": see `zoo.networks.encoder`.
        hidden: Units of the encoder's dense layers.
        filters: Channels of the encoder's convolutions or blocks, for "conv" and "resnet".
        activation: Activation of the hidden layers.
        latitudes, longitudes: Size of the mesh: see `zoo.rendering.head.sphere`.
        landmark_weight: Weight of the squared distance of landmarks; 0 for training without them.
        rate_weight: Weight of -log p(z).
        least_cosine: The least cosine of visible vertices: see `FaceAutoencoder`.

    Raises:
        ValueError: If the images are not square or not in colour, or an option is out of range.
    """
    height, width, channels = image_shape
    if height != width or channels != 3:
        raise ValueError(
            "A FaceAutoencoder takes square images in colour, [B, S, S, 3]. "
            f"Received: images of shape {tuple(image_shape)}."
        )
    encoder = networks.encoder(network, image_shape, CODE_SIZE, hidden, filters, activation)
    last = encoder.layers[-1]
    last.kernel.assign(last.kernel * 0.01)
    return FaceAutoencoder(
        encoder,
        MorphableHead(height, latitudes, longitudes),
        StandardNormal(CODE_SIZE),
        landmark_weight=landmark_weight,
        rate_weight=rate_weight,
        least_cosine=least_cosine,
    )
