"""Deep convolutional inverse graphics network (DC-IGN).

Kulkarni, Whitney, Kohli and Tenenbaum, "Deep Convolutional Inverse Graphics Network", 2015.
https://arxiv.org/abs/1503.03167
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo.config import extends, look_up
from zoo.contract import Limits, as_count, check_non_negative
from zoo.datasets import ImageData
from zoo.distributions import Conditional, DiagonalNormal, Prior
from zoo.distributions.part import described
from zoo.model import Array, Signature
from zoo.models import elbo
from zoo.models.vae import VAE, vae

tfd = tfp.distributions

CLAMPS = ("mean", "first")
DEGREE = 3
"""Degree of the polynomials from the value of a factor to its latent."""


@keras.saving.register_keras_serializable("zoo")
class InverseGraphics(VAE):
    """A `VAE` that assigns its latents to the factors of a scene.

    Each factor has a block of consecutive latents. Training images come in groups. In a group one
    factor varies, and the annotation `varied` says which. The latents of this factor are active, all
    others are inactive (section 3.2 of the paper). With a_j = 1 for active and a_j = 0 for inactive
    latents, and with means over the group,

        loc~   = a loc + (1 - a) mean(loc),
        scale~ = a scale + (1 - a) mean(scale),
        spread = 1/2 sum_j (1 - a_j) (loc_j - mean(loc_j))^2,
        loss   = -E[log p(x | z)] + KL(N(loc~, scale~^2) || p(z)) + invariance spread,

    with z ~ N(loc~, scale~^2). The means are constants of the gradient. The gradient of an inactive
    `loc_j` is therefore invariance (loc_j - mean(loc_j)): this is the paper's replacement of the
    backward pass, written as a loss.

    In evaluation all latents are active, and the loss is that of the `VAE`.

    Args:
        posterior: q(z | x), a `Conditional` with the family `DiagonalNormal`.
        likelihood, prior: As for `VAE`.
        units: Maps each factor's name to its number of latents, in the order of the blocks. The
            annotation `varied` is the position of a factor in this order.
        group_size: Number of images in a group; 20 in the paper.
        invariance: Weight of `spread`, at least 0; 1/100 in the paper.
        clamp: "mean", or "first": the values of the first image of the group replace the means.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If the posterior has another family, `units` do not sum to the number of latents,
            or another argument is out of range; when trained, if a batch has no valid annotation
            `varied`, or does not consist of whole groups.

    Notes:
        The authors' code clamps to the first image of a group. Its term of invariance is off by
        default and has the opposite sign, and it also replaces the gradients of the scales. This
        class follows the paper; inactive scales receive no gradient.

        The paper's weight is relative to a cross-entropy of 22,500 pixels. With small images and a
        Bernoulli likelihood the posterior collapses: use "shared_scale_normal" and a weight near 1.

    Example:
        >>> model = zoo.models.inverse_graphics(
        ...     (16, 16, 1), factors=("azimuth", "identity"), units=(1, 3), hidden=(32,)
        ... )
        >>> x = np.zeros([2, 16, 16, 1], np.float32)
        >>> model.rerender(x, 0, [-1.0, 0.0, 1.0]).shape
        TensorShape([2, 3, 16, 16, 1])
    """

    terms: tuple[str, ...] = (*VAE.terms, "spread")
    annotations: tuple[str, ...] = ("varied",)
    grouped_batches = True
    signatures: Mapping[str, Signature] = {
        **VAE.signatures,
        "rerender": Signature(("x", "latent", "values"), "renderings"),
    }

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        units: Mapping[str, int],
        group_size: int = 20,
        invariance: float = 0.01,
        clamp: str = "mean",
        **kwargs: Any,
    ):
        super().__init__(posterior, likelihood, prior, **kwargs)
        check_non_negative(invariance=invariance)
        look_up(dict.fromkeys(CLAMPS), clamp, "clamp")
        if not isinstance(getattr(posterior, "family", None), DiagonalNormal):
            raise ValueError(
                "The clamp needs the means and scales of independent latents: choose the posterior "
                f"'normal'. Received: {described(posterior)}."
            )
        self.units = {name: as_count(size, f"units[{name!r}]") for name, size in units.items()}
        if sum(self.units.values()) != self.latent_dim:
            raise ValueError(
                f"`units` must sum to the number of latents, {self.latent_dim}. "
                f"Received: units={self.units}."
            )
        self.group_size = as_count(group_size, "group_size", 2)
        self.invariance = invariance
        self.clamp = clamp
        # Row k: which latents belong to the factor at position k.
        block_of_latent = np.repeat(np.arange(len(self.units)), list(self.units.values()))
        self._latents_of = np.arange(len(self.units))[:, None] == block_of_latent
        self.calibration = self.add_weight(
            name="calibration",
            shape=(self.latent_dim, DEGREE + 1),
            initializer="zeros",
            trainable=False,
        )

    @property
    def annotation_limits(self) -> Mapping[str, Limits]:
        return {"varied": Limits((), 0, len(self.units) - 1)}

    def adapt(self, data: ImageData) -> None:
        """Checks the groups of the data, and adapts as `GenerativeModel.adapt` does.

        Raises:
            ValueError: If the groups have another size, or vary a factor that `units` does not have.
        """
        if data.group_size != self.group_size:
            raise ValueError(
                f"The model clamps groups of {self.group_size} images. Set group_size to that of the "
                f"data. Received: {data.name!r} with group_size={data.group_size}."
            )
        last = int(data.annotations("train")["varied"].max())
        if last >= len(self.units):
            raise ValueError(
                f"`units` has {len(self.units)} factors. Received: {data.name!r}, whose groups vary "
                f"{last + 1} factors."
            )
        super().adapt(data)

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        q = self.posterior(x, training=training)
        spread = tf.zeros(tf.shape(x)[:1])
        if training:
            q, spread = self.clamped(q, y["varied"])
        z = q.sample(self.num_samples, seed=seed)
        terms = self.terms_at(q, z, x, None, training)
        loss = terms.distortion + terms.charged_rate + self.invariance * spread
        return {"vae": loss}, terms.reported() | {"spread": spread}

    def clamped(self, q: tfd.Distribution, varied: tf.Tensor) -> tuple[tfd.Distribution, tf.Tensor]:
        """Clamps the inactive latents of whole groups to the value of their group.

        Args:
            q: q(z | x) with batch shape `[B]`. Rows k g to (k + 1) g - 1 are a group, for
                g = `group_size`.
            varied: The position of each image's varied factor in `units`, int `[B]`.

        Returns:
            The clamped posterior, with batch shape `[B]`, and `spread`, `[B]`.

        Raises:
            ValueError: If the batch does not consist of whole groups. If its size is known only
                when a graph runs, the error is TensorFlow's `InvalidArgumentError`.
        """
        loc, scale = q.distribution.loc, q.distribution.scale
        expected = f"A batch consists of whole groups of {self.group_size} images."
        if loc.shape[0] is not None and loc.shape[0] % self.group_size:
            raise ValueError(f"{expected} Received: a batch of {loc.shape[0]} images.")
        whole = tf.debugging.assert_equal(tf.shape(loc)[0] % self.group_size, 0, expected)
        with tf.control_dependencies([] if whole is None else [whole]):
            loc, scale = tf.identity(loc), tf.identity(scale)
        active = tf.gather(self._latents_of, varied)
        common_loc, common_scale = map(self._of_group, (loc, scale))
        spread = tf.reduce_sum(tf.where(active, 0.0, tf.square(loc - common_loc)), -1) / 2
        clamped = tfd.Normal(
            tf.where(active, loc, common_loc), tf.where(active, scale, common_scale)
        )
        return tfd.Independent(clamped, 1), spread

    def _of_group(self, values):
        """The value of each image's group as a constant: `[B, D]`."""
        groups = tf.reshape(values, [-1, self.group_size, values.shape[-1]])
        if self.clamp == "mean":
            groups = tf.reduce_mean(groups, 1, keepdims=True)
        return tf.stop_gradient(tf.repeat(groups[:, 0], self.group_size, 0))

    def finish(self, data: ImageData) -> None:
        super().finish(data)
        if data.factor_names:
            self.calibrate(data)

    def calibrate(self, data: ImageData, limit: int = 10_000) -> None:
        """Fits the polynomials from the values of factors to their latents, for `rerender`.

        A factor is calibrated if it is one of `data.factor_names`. Each latent of its block has a
        polynomial with the least squared error on the codes of training images. Its degree is 3, or
        less for a factor with fewer than four values.

        Args:
            data: Images with known factors.
            limit: Number of training images.

        Raises:
            ValueError: If the factors of the data are not known.
        """
        x, _ = data.arrays("train", limit)
        columns = dict(zip(data.factor_names or (), data.factors("train", limit).T, strict=True))
        parts = [self.encode(x[i : i + 500]) for i in range(0, len(x), 500)]
        codes = np.concatenate(parts)
        coefficients = np.zeros(self.calibration.shape, np.float32)
        for name, latents in zip(self.units, self._latents_of, strict=True):
            if name in columns:
                factor, code = columns[name].astype(float), codes[:, latents].astype(float)
                degree = min(DEGREE, len(np.unique(factor)) - 1)
                coefficients[latents, DEGREE - degree :] = np.polyfit(factor, code, degree).T
        self.calibration.assign(coefficients)

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The factors that `rerender` takes by name."""
        used = np.array(self.calibration).any(1)
        return tuple(
            name
            for name, latents in zip(self.units, self._latents_of, strict=True)
            if np.any(used & latents)
        )

    def abilities(self) -> tuple[str, ...]:
        return (*super().abilities(), "rerender")

    def tensor_specs(self) -> dict[str, tf.TensorSpec]:
        return super().tensor_specs() | {
            "latent": tf.TensorSpec([], tf.int32),
            "values": tf.TensorSpec([None], tf.float32),
            "renderings": tf.TensorSpec([None, None, *self.image_shape], tf.float32),
        }

    def tensor_ranges(self) -> dict[str, tuple[float | None, float | None]]:
        return super().tensor_ranges() | {
            "latent": (0, self.latent_dim - 1),
            "renderings": (0.0, 1.0),
        }

    def export_details(self) -> dict[str, Any]:
        """The latents of each factor, and the polynomials from its value to these latents.

        `{"factors": {name: {"latents": positions, "coefficients": rows}}}`. Each row has the
        coefficients of a latent, as for `numpy.polyval`. The rows are `None` if the factor is not
        calibrated.
        """
        calibration = np.asarray(self.calibration)
        return {
            "factors": {
                name: {
                    "latents": np.flatnonzero(latents).tolist(),
                    "coefficients": calibration[latents].tolist()
                    if name in self.calibrated
                    else None,
                }
                for name, latents in zip(self.units, self._latents_of, strict=True)
            }
        }

    def rerender(self, x: Array, factor: str | int | tf.Tensor, values: Any) -> tf.Tensor:
        """The scenes of images with other values of one factor.

        Each image is encoded, the latents of the factor are replaced, and the code is decoded.

        Args:
            x: Images `[B, H, W, C]`.
            factor: The name of a calibrated factor, or the position of a latent. In a graph, the
                position may be a scalar tensor of ints.
            values: Values `[V]` of the factor, or of the latent.

        Returns:
            Images `[B, V, H, W, C]`.

        Raises:
            ValueError: If there is no such factor or latent, if the factor is not calibrated, or if
                `values` has another shape. If the position is known only when a graph runs, the
                error is TensorFlow's `InvalidArgumentError`.
        """
        values = tf.cast(values if tf.is_tensor(values) else np.asarray(values), tf.float32)
        if values.shape.rank != 1:
            raise ValueError(f"`values` must have the shape [V]. Received: shape {values.shape}.")
        chosen, latents = self._latents_at(factor, values)
        z = tf.where(chosen, latents, self.encode(x)[:, None])  # [B, V, D]
        images = self.decode(tf.reshape(z, [-1, self.latent_dim]))
        return tf.reshape(images, [-1, tf.shape(values)[0], *self.image_shape])

    def _latents_at(self, factor, values):
        """Which latents belong to a factor, bool `[D]`, and their values `[V, D]` or `[V, 1]`."""
        if not isinstance(factor, str):
            latents = f"The latents are 0 to {self.latent_dim - 1}."
            if tf.is_symbolic_tensor(factor):
                tf.debugging.assert_non_negative(factor, latents)
                tf.debugging.assert_less(factor, self.latent_dim, latents)
            elif not 0 <= factor < self.latent_dim:
                raise ValueError(f"{latents} Received: factor={factor}.")
            # tf2onnx converts no `tf.one_hot` of bools.
            latent = tf.cast(as_count(factor, "factor", 0), tf.int32)
            return tf.equal(tf.range(self.latent_dim), latent), values[:, None]
        if factor not in self.calibrated:
            raise ValueError(
                "`factor` is the position of a latent or the name of a calibrated factor: call "
                f"`calibrate(data)` after training. Received: {factor!r}; the factors are "
                f"{', '.join(self.units)}."
            )
        chosen = self._latents_of[list(self.units).index(factor)]
        coefficients = np.asarray(self.calibration).T
        return chosen, np.polyval(coefficients, np.asarray(values)[:, None]).astype(np.float32)


@extends(vae, without=("latent_dim",))
def inverse_graphics(
    image_shape: Sequence[int],
    *,
    factors: Sequence[str] = ("azimuth", "elevation", "light_azimuth", "identity"),
    units: Sequence[int] = (1, 1, 1, 12),
    group_size: int = 20,
    invariance: float = 0.01,
    clamp: str = "mean",
    **options: Any,
) -> InverseGraphics:
    """An `InverseGraphics`. It has the options of `vae`, and:

    Args:
        factors: Names of the factors that vary in groups.
        units: Number of latents of each factor; the number of all latents is their sum.
        group_size: Number of images in a group.
        invariance: Weight of the spread of inactive latents.
        clamp: "mean" or "first".

    Raises:
        ValueError: If `factors` and `units` differ in length, and as for `InverseGraphics`.
    """
    if len(factors) != len(units):
        raise ValueError(
            "`units` must have a number for each of `factors`. "
            f"Received: factors={tuple(factors)}, units={tuple(units)}."
        )
    return InverseGraphics(
        **elbo.parts(image_shape, latent_dim=sum(units), **options),
        units=dict(zip(factors, units, strict=True)),
        group_size=group_size,
        invariance=invariance,
        clamp=clamp,
    )
