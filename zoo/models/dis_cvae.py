"""Disentangling conditional variational autoencoder (disCVAE) of Attribute2Image.

Yan, Yang, Sohn and Lee, "Attribute2Image: Conditional Image Generation from Visual Attributes",
2016. https://arxiv.org/abs/1512.00570
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import checked_data, networks
from zoo.config import choices, look_up
from zoo.contract import Limits, MissingInput, check_non_negative
from zoo.distributions import (
    Bernoulli,
    Conditional,
    DiagonalNormal,
    Family,
    SharedScaleNormal,
    StandardNormal,
    kl,
    need_density,
)
from zoo.interfaces import Interface, context_shape
from zoo.mean_start import Start
from zoo.model import Array, GenerativeModel, Signature, as_images


class Layers(NamedTuple):
    """The layers of images: a foreground, a gate, and a background.

    Attributes:
        foreground: Colours of the foreground, `[B, H, W, C]` in [0, 1].
        gate: How much of the background is seen at a pixel, `[B, H, W, 1]` in (0, 1). The mask of
            the foreground is 1 - gate.
        background: Colours of the background, `[B, H, W, C]` in [0, 1].
    """

    foreground: tf.Tensor
    gate: tf.Tensor
    background: tf.Tensor


@keras.saving.register_keras_serializable("zoo")
class DisCVAE(GenerativeModel):
    """A conditional VAE that generates an image as a foreground, a gate and a background.

    Images have the annotations `attributes` y and `mask` m, the coverage of the foreground. The
    foreground m x has the latents z_F ~ q(z_F | m x, y). The background has the latents
    z_B ~ q(z_B | x, y, z_F). The foreground's decoder maps (z_F, y) to colours h_F and a gate g,
    and the background's decoder maps z_B to colours h_B. All terms are sums over pixels.

    Without `noise`, the image is h_F + g h_B, and the loss is that of the authors' code:

        foreground_distortion = H(h_F - m x)
        image_distortion      = H(h_F + g h_B - x)
        gate_distortion       = gate_weight BCE(g, 1 - m)
        loss = foreground_distortion + image_distortion + gate_distortion
               + KL(q(z_F | m x, y) || N(0, I)) + KL(q(z_B | x, y, z_F) || N(0, I)).

    H is the smooth L1 loss of the authors' code, which has images in [-1, 1]. For images in [0, 1]
    it is 4 times the Huber loss with delta = 1/2. The loss charges each pixel of the foreground
    twice and is not a bound on a likelihood.

    With `noise`, the image is (1 - g) h_F + g h_B, and the loss counts each pixel once:

        foreground_distortion = -sum_{m > 1/2} log p(x | h_F)
        background_distortion = -sum_{m <= 1/2} log p(x | h_B)
        gate_distortion       = -gate_weight log p(m > 1/2 | g),

    the last with the probability 1 - g of each pixel of the foreground. The loss is then an upper
    bound on -log p(x, m > 1/2 | y) for gate_weight = 1.

    Args:
        foreground_posterior: q(z_F | m x, y), a `Conditional` on `[B, H, W, C]`, over `[B, D_F]`.
        background_posterior: q(z_B | x, y, z_F), a `Conditional` over `[B, D_B]`. Its context
            `[B, H, W, C + D_F]` is x, with z_F as constant planes.
        foreground: A network from z_F, with the condition y, to logits `[B, H, W, C + 1]` of the
            colours and of the gate.
        background: A network from z_B to logits of colours, `[B, H, W, C]`.
        gate_weight: Weight of the gate's cross-entropy, at least 0. The authors' code has 0.3 and
            three equal channels, which is 0.9 for the gate's one channel here.
        noise: p(x | h), a `Family` whose parameters are the means, such as `SharedScaleNormal`, or
            `None` for the loss of the authors' code.
        **kwargs: As for `GenerativeModel`.

    Raises:
        ValueError: If a posterior has no density, if a number is out of range, or if the parts do
            not fit together. When trained, if an annotation is missing or invalid.

    Notes:
        The authors' code does not pass the gradient of KL(q(z_B) || N(0, I)) to the foreground's
        encoder, although z_F is an input of q(z_B | x, y, z_F). This class takes the gradient of
        the whole objective. In the code the background of m x is -1, the darkest value, so that
        h_F + g h_B is never bright where the background is seen. In [0, 1] the background of m x is
        0, and the sum is right.

    Example:
        >>> model = zoo.models.dis_cvae((8, 8, 3), condition_size=2, network="mlp", hidden=(16,))
        >>> layers = model.decode_layers(np.zeros([4, 24]), y=[0.0, 1.0])
        >>> layers.gate.shape
        TensorShape([4, 8, 8, 1])
    """

    annotations: tuple[str, ...] = ("attributes", "mask")
    condition_leaf: str | None = "attributes"
    signatures: Mapping[str, Signature] = {
        **GenerativeModel.signatures,
        "encode": Signature(("x", "mask"), "latents"),
        "reconstruct": Signature(("x", "mask"), "images"),
        "decode_layers": Signature(("z",), Layers._fields),
        "recompose": Signature(("z", "other"), "images"),
    }

    def __init__(
        self,
        foreground_posterior: Conditional,
        background_posterior: Conditional,
        foreground: keras.Model,
        background: keras.Model,
        gate_weight: float = 0.9,
        noise: Family | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_non_negative(gate_weight=gate_weight)
        for part in (foreground_posterior, background_posterior):
            need_density(part, "a DisCVAE")
        self.foreground_posterior = foreground_posterior
        self.background_posterior = background_posterior
        self.foreground = foreground
        self.background = background
        self.gate_weight = gate_weight
        self.noise = noise
        self.prior = StandardNormal(sum(self.latent_dims))

    @property
    def terms(self):
        second = "image" if self.noise is None else "background"
        distortions = (f"{what}_distortion" for what in ("foreground", second, "gate"))
        return (*distortions, "foreground_rate", "background_rate")

    @property
    def latent_dims(self) -> tuple[int, int]:
        """Numbers of latents of the foreground and of the background."""
        return int(self.foreground.inputs[0].shape[-1]), int(self.background.inputs[0].shape[-1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(context_shape(self.foreground_posterior))  # type: ignore[arg-type, return-value]

    @property
    def can_encode(self) -> bool:
        return True

    @property
    def annotation_limits(self) -> Mapping[str, Limits]:
        return {"mask": Limits((*self.image_shape[:2], 1), 0.0, 1.0)}

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        parts = [self.foreground_posterior, self.background_posterior]
        parts += [self.foreground, self.background]
        return {"vae": parts + ([] if self.noise is None else [self.noise])}

    def interfaces(self) -> dict[str, Interface]:
        height, width, channels = self.image_shape
        front, back = self.latent_dims
        images, joined = (height, width, channels), (height, width, channels + front)
        return {
            "foreground_posterior": Interface((images,), ((front,),), conditional=True),
            "background_posterior": Interface((joined,), ((back,),), conditional=True),
            "foreground": Interface(
                ((front,),), ((height, width, channels + 1),), conditional=True
            ),
            "background": Interface(((back,),), (images,)),
        }

    def mean_starts(self) -> list[Start]:
        """The foreground's and the background's decoder, whose outputs are logits.

        The background's colours start at the mean image. The gate starts at the mean of 1 - m. The
        foreground's colours start at the mean of m x, or with `noise` at the mean image.
        """

        def foreground_and_gate(x, y):
            mask = np.asarray(checked_data.read_annotations(self, y)["mask"], np.float32)
            if self.noise is None:
                return np.concatenate([mask * x, 1 - mask], -1)
            return np.concatenate([x, mask <= 0.5], -1)

        return [
            Start(self.foreground, Bernoulli(), foreground_and_gate),
            Start(self.background, Bernoulli()),
        ]

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        y, mask = y["attributes"], tf.cast(y["mask"], tf.float32)
        seeds = tfp.random.split_seed(seed)
        if self.noise is not None:
            mask = tf.cast(mask > 0.5, tf.float32)
        q_front = self.foreground_posterior(mask * x, y, training=training)
        z_front = q_front.sample(seed=seeds[0])
        q_back = self.background_posterior(_joined(x, z_front), y, training=training)
        z_back = q_back.sample(seed=seeds[1])
        front, gate_logits = self._foreground(z_front, y, training)
        back = self._background(z_back, training)
        # log(1 - g) is -softplus(logit), and log g is -softplus(-logit).
        gate = mask * tf.nn.softplus(gate_logits) + (1 - mask) * tf.nn.softplus(-gate_logits)
        terms = {"gate_distortion": self.gate_weight * _sum(gate)}
        if self.noise is None:
            image = front + tf.sigmoid(gate_logits) * back
            terms["foreground_distortion"] = _sum(smooth_l1(front - mask * x))
            terms["image_distortion"] = _sum(smooth_l1(image - x))
        else:
            terms["foreground_distortion"] = -_sum(mask * self._log_probs(front, x))
            terms["background_distortion"] = -_sum((1 - mask) * self._log_probs(back, x))
        for name, q, z in (("foreground", q_front, z_front), ("background", q_back, z_back)):
            terms[f"{name}_rate"] = kl(q, StandardNormal(z.shape[-1])(), z)
        return {"vae": tf.add_n(list(terms.values()))}, terms

    def _log_probs(self, means, x):
        return self.noise(means, 3).distribution.log_prob(x)

    def _foreground(self, z, y, training=False):
        """The foreground's colours and the gate's logits."""
        logits = networks.call(self.foreground, z, y, training)
        return tf.sigmoid(logits[..., :-1]), logits[..., -1:]

    def _background(self, z, training=False):
        return tf.sigmoid(networks.call(self.background, z, training=training))

    def encode(self, x: Array, y: Any = None, mask: Array | None = None) -> tf.Tensor:
        """The codes `[B, D_F + D_B]`: the mean of q(z_F | m x, y), and that of q(z_B | x, y, z_F).

        The second mean is that for z_F equal to the first mean.

        Args:
            x: Images `[B, H, W, C]` in [0, 1].
            y: Attributes for each image or for all, or a dict of the annotations.
            mask: Masks `[B, H, W, 1]` in [0, 1], if `y` is not such a dict.

        Raises:
            ValueError: If an argument is missing or invalid.
        """
        x = self._images(x)
        if isinstance(y, Mapping):
            if mask is not None and "mask" in y:
                raise ValueError(
                    "Expected one mask for each image. Received: `mask`, and a dict `y` with 'mask'."
                )
            mask = y.get("mask", mask)
        if mask is None:
            raise MissingInput(
                "A DisCVAE encodes an image and the mask of its foreground: pass `y` as a dict with "
                "'attributes' and 'mask', or pass `mask`. For images without a mask use "
                "`zoo.inference.fit_latents`. Received: no mask."
            )
        checked_data.check_annotation(self, "mask", mask)
        mask = tf.convert_to_tensor(mask)
        if not tf.TensorShape(mask.shape[:1]).is_compatible_with(x.shape[:1]):
            raise ValueError(
                f"Expected a mask for each of {x.shape[0]} images. Received: {mask.shape[0]} masks."
            )
        mask, y = tf.cast(mask, tf.float32), self.condition_for(x, y)
        if self.noise is not None:
            mask = tf.cast(mask > 0.5, tf.float32)
        z_front = self.foreground_posterior(mask * x, y).mean()
        z_back = self.background_posterior(_joined(x, z_front), y).mean()
        return tf.concat([z_front, z_back], -1)

    def decode(self, z: Array, y: Any = None) -> tf.Tensor:
        """The images `[B, H, W, C]` in [0, 1] of latents `z[B, D_F + D_B]` and attributes `y`."""
        return self._composite(self.decode_layers(z, y))

    def reconstruct(self, x: Array, y: Any = None, mask: Array | None = None) -> tf.Tensor:
        """`decode(encode(x))`, without noise: `[B, H, W, C]`. The arguments are those of `encode`."""
        return self.decode(self.encode(x, y, mask), y)

    def tensor_specs(self) -> dict[str, tf.TensorSpec]:
        *size, channels = self.image_shape
        images = tf.TensorSpec([None, *size, channels], tf.float32)
        plane = tf.TensorSpec([None, *size, 1], tf.float32)
        return super().tensor_specs() | {
            "mask": plane,
            "other": tf.TensorSpec([None, self.latent_dim], tf.float32),
            "foreground": images,
            "gate": plane,
            "background": images,
        }

    def tensor_ranges(self) -> dict[str, tuple[float | None, float | None]]:
        return super().tensor_ranges() | dict.fromkeys(("mask", *Layers._fields), (0.0, 1.0))

    def abilities(self) -> tuple[str, ...]:
        return (*super().abilities(), "decode_layers", "recompose")

    def decode_layers(self, z: Array, y: Any = None) -> Layers:
        """The layers of the images of latents `z[B, D_F + D_B]` and attributes `y`."""
        z = self._latents(z)
        z_front, z_back = tf.split(z, self.latent_dims, -1)
        front, gate_logits = self._foreground(z_front, self.condition_for(z, y, 2))
        return Layers(front, tf.sigmoid(gate_logits), self._background(z_back))

    def recompose(self, z: Array, other: Array, y: Any = None) -> tf.Tensor:
        """The foregrounds of some images before the backgrounds of others.

        Args:
            z: Latents `[B, D_F + D_B]` of the images with the foregrounds.
            other: Latents `[B, D_F + D_B]` of the images with the backgrounds.
            y: Attributes of the foregrounds.

        Returns:
            Images `[B, H, W, C]` in [0, 1].
        """
        front = self._latents(z)[:, : self.latent_dims[0]]
        back = self._latents(other)[:, self.latent_dims[0] :]
        return self.decode(tf.concat([front, back], -1), y)

    def _composite(self, layers):
        share = 1.0 if self.noise is None else 1 - layers.gate
        return as_images(share * layers.foreground + layers.gate * layers.background)


def smooth_l1(difference: tf.Tensor) -> tf.Tensor:
    """The smooth L1 loss of the differences of images in [-1, 1], for images in [0, 1].

    With d the difference in [0, 1]: 2 d^2 for |d| <= 1/2, and 2 |d| - 1/2 otherwise.

    Example:
        >>> from zoo.models.dis_cvae import smooth_l1
        >>> smooth_l1(tf.constant([0.1, 1.0])).numpy()
        array([0.02, 1.5 ], dtype=float32)
    """
    size = tf.abs(difference)
    return tf.where(size <= 0.5, 2 * tf.square(size), 2 * size - 0.5)


def _sum(values):
    return tf.reduce_sum(values, [1, 2, 3])


def _joined(x, z):
    """The images with latents `[B, D]` as constant planes: `[B, H, W, C + D]`."""
    planes = tf.broadcast_to(z[:, None, None], [*tf.unstack(tf.shape(x)[:3]), z.shape[-1]])
    return tf.concat([x, planes], -1)


COMPOSITES: dict[str, tuple[str, ...]] = {
    "additive": ("gate_weight",),
    "masked": ("likelihood_scale",),
}


@choices(network=networks.NETWORKS, composite=COMPOSITES)
def dis_cvae(
    image_shape: Sequence[int],
    *,
    foreground_dim: int = 16,
    background_dim: int = 8,
    condition_size: int = 1,
    network: str = "conv",
    hidden: Sequence[int] = (128,),
    filters: Sequence[int] = (32, 64, 64),
    activation: str = "relu",
    composite: str = "additive",
    gate_weight: float = 0.9,
    likelihood_scale: float = 0.1,
    start_at_mean: bool = True,
) -> DisCVAE:
    """A `DisCVAE` from named networks.

    Args:
        image_shape: Height, width, channels.
        foreground_dim, background_dim: Numbers of latents of the layers.
        condition_size: Number of attributes.
        network, hidden, filters, activation: As for `zoo.networks.encoder`; the decoders mirror the
            encoders.
        composite: "additive" for the loss of the authors' code; "masked" for the bound, with a
            learned standard deviation of the pixels.
        gate_weight: Weight of the gate's cross-entropy, for "additive".
        likelihood_scale: Initial standard deviation of the pixels, above 0, for "masked". With a
            large one the rate outweighs the errors at first, and the background keeps few latents.
        start_at_mean: Whether the decoders start at means of the training images: see
            `DisCVAE.mean_starts`.

    Raises:
        ValueError: If a name is unknown, or a number is out of range.
    """
    look_up(COMPOSITES, composite, "composite")
    y = networks.condition("attributes", condition_size, image_shape)
    channels, planes = image_shape[-1], network != "mlp"
    family = DiagonalNormal()

    def posterior(shape, dim):
        def make(shape):
            outputs = family.num_params(dim)
            return networks.encoder(network, shape, outputs, hidden, filters, activation)

        return Conditional(networks.conditioned(make, shape, y, planes), DiagonalNormal())

    def decoder(dim, outputs):
        shape = (*image_shape[:2], outputs)
        return networks.decoder(network, dim, shape, 1, hidden, filters, activation)

    return DisCVAE(
        posterior(image_shape, foreground_dim),
        posterior((*image_shape[:2], channels + foreground_dim), background_dim),
        networks.conditioned(lambda shape: decoder(shape[0], channels + 1), (foreground_dim,), y),
        decoder(background_dim, channels),
        gate_weight if composite == "additive" else 1.0,
        SharedScaleNormal(likelihood_scale) if composite == "masked" else None,
        start_at_mean=start_at_mean,
    )
