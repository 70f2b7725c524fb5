"""Video VAE: a deep Markov model of the latents of frames, with static latents.

Krishnan, Shalit, Sontag, "Deep Kalman Filters", 2015. https://arxiv.org/abs/1511.05121
Li and Mandt, "Disentangled Sequential Autoencoder", 2018. https://arxiv.org/abs/1803.02991
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import checked_data, networks
from zoo.config import extends
from zoo.contract import as_count
from zoo.distributions import DiagonalNormal, FrameLikelihood, FramePosterior, MarkovPrior
from zoo.distributions.part import described
from zoo.mean_start import Start
from zoo.model import Array, Signature, as_images, as_seed
from zoo.models import elbo
from zoo.models.vae import VAE, vae

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class VideoVAE(VAE):
    """A `VAE` of videos x_1, ..., x_T, whose latents z = [s, z_1, ..., z_T] follow a Markov chain.

        p(x, z) = p(s) p(z_1) prod_t p(x_t | s, z_t) prod_{t > 1} p(z_t | z_{t-1}, ..., z_{t-k})
        q(z | x) = q(s | x) prod_t q(z_t | x_t)
        loss = sum_t [ -log p(x_t | s, z_t) + KL(q(z_t | x_t) || p(z_t | z_{t-1}, ..., z_{t-k})) ]
               + KL(q(s | x) || p(s)),         z ~ q(z | x)

    The KL of a frame is exact given the draws of the frames before it. The static latents s are shared
    by all frames: with some, the latents of a frame can describe its motion alone.

    The channels of an image are those of its frames, the first frame first: `[B, H, W, T C]`.
    `interpolate` walks between the paths of two videos.

    Args:
        posterior: q(z | x), a `FramePosterior` with the family `DiagonalNormal`.
        likelihood: p(x | z), a `FrameLikelihood`.
        prior: p(z), a `MarkovPrior`.
        **kwargs: As for `VAE`, without `free_bits`.

    Raises:
        ValueError: If the parts are others, or their numbers of frames or static latents differ.

    Notes:
        The posteriors of Krishnan et al. are recurrent networks of all frames. Here each q(z_t | x_t)
        sees its frame alone, so that a video of any number of frames can be encoded. A chain of order
        1 then cannot follow a velocity, which one frame does not show.
        Li and Mandt's dynamics are recurrent networks, and q(s | x) is a bidirectional one. Here its
        parameters are means over frames.
        Krishnan et al. have a chain of order 1. The order k and the start as a random walk are of this
        library.

    Example:
        >>> model = zoo.models.video_vae((8, 8, 4), latent_dim=2, hidden=(16,))
        >>> x = np.zeros([3, 8, 8, 4], np.float32)
        >>> model.encode(x).shape, model.sample(2).shape
        (TensorShape([3, 8]), TensorShape([2, 8, 8, 4]))
        >>> model.extend(x[..., :2], steps=3).shape
        TensorShape([3, 8, 8, 5])
    """

    signatures: Mapping[str, Signature] = {
        **VAE.signatures,
        "extend": Signature(("frames", "new_frames"), "video"),
    }

    def __init__(
        self,
        posterior: FramePosterior,
        likelihood: FrameLikelihood,
        prior: MarkovPrior,
        **kwargs: Any,
    ):
        for part, kind in (
            (posterior, FramePosterior),
            (likelihood, FrameLikelihood),
            (prior, MarkovPrior),
        ):
            if not isinstance(part, kind):
                raise ValueError(
                    "A VideoVAE takes a FramePosterior, a FrameLikelihood and a MarkovPrior. "
                    f"Received: {described(part)}."
                )
        if not isinstance(posterior.family, DiagonalNormal):
            raise ValueError(
                "The KL of each frame needs means and scales of independent latents: use a "
                f"FramePosterior of DiagonalNormal. Received: {described(posterior)}."
            )
        super().__init__(posterior, likelihood, prior, **kwargs)
        numbers = {
            "posterior": (posterior.frames, posterior.static_dim),
            "likelihood": (likelihood.frames, likelihood.static_dim),
            "prior": (prior.steps, prior.static_dim),
        }
        if len({*numbers.values()}) > 1:
            raise ValueError(
                "The parts of a VideoVAE must have the same numbers of frames and of static latents. "
                f"Received: {numbers}."
            )

    @property
    def frames(self) -> int:
        """T, the number of frames of a video."""
        return self.prior.steps

    def terms_at(
        self, q: tfd.Distribution, z: tf.Tensor, x: tf.Tensor, y: Any, training: bool
    ) -> elbo.Terms:
        p = self.prior()
        log_prob = self.likelihood(z, training=training).log_prob(x)
        distortion = -elbo.mean_over_draws(log_prob)
        rate = elbo.mean_over_draws(p.kl_from(q, z))
        return elbo.Terms(q, p, z, distortion, rate, self.charge(rate, training))

    def mean_starts(self) -> list[Start]:
        return [Start(self.likelihood.network, self.likelihood.family, self._one_frame_each)]

    def _one_frame_each(self, x, y):
        """One frame of each video, in turn, `[N, H, W, C]`."""
        frames = x.reshape(*x.shape[:3], self.frames, -1)
        rows = np.arange(len(x))
        return frames[rows, :, :, rows % self.frames]

    def abilities(self) -> tuple[str, ...]:
        return (*super().abilities(), "extend")

    def tensor_specs(self) -> dict[str, tf.TensorSpec]:
        height, width, _ = self.image_shape
        video = tf.TensorSpec([None, height, width, None], tf.float32)
        return super().tensor_specs() | {
            "frames": video,
            "new_frames": tf.TensorSpec([], tf.int32),
            "video": video,
        }

    def tensor_ranges(self) -> dict[str, tuple[float | None, float | None]]:
        ranges = {"frames": (0.0, 1.0), "new_frames": (1, None), "video": (0.0, 1.0)}
        return super().tensor_ranges() | ranges

    def extend(self, x: Array, steps: int) -> tf.Tensor:
        """Continues videos without noise: with the mean of each step of the prior.

        The frames are encoded, the path of their latents is continued, and its new part is decoded. If
        several continuations are likely, the mean may be like none of them: see `sample_extensions`.

        Args:
            x: Videos `[B, H, W, K C]` in [0, 1], of any number K of frames.
            steps: Number of new frames.

        Returns:
            Videos `[B, H, W, (K + steps) C]`: the frames of `x`, and the new ones.

        Raises:
            ValueError: If `x` are no such videos, or `steps` is below 1.
        """
        x, steps = self._seen(x), as_count(steps, "steps")
        static, path = self._split(self.posterior(x).mean())
        return self._extended(x, static, self.prior.continued(path, steps))

    def sample_extensions(self, x: Array, steps: int, n: int = 1, seed: Any = None) -> tf.Tensor:
        """Draws continuations of videos: latents of the frames from q(z | x), then steps of the prior.

        Args:
            x, steps: As for `extend`.
            n: Number of continuations of each video.
            seed: An int or a `[2]` int tensor for repeatable draws; `None` for new ones.

        Returns:
            Videos `[n, B, H, W, (K + steps) C]`: the frames of `x`, and the means of the new ones.

        Raises:
            ValueError: If `x` are no such videos, or a number is below 1.
        """
        x, steps, n = self._seen(x), as_count(steps, "steps"), as_count(n, "n")
        of_path, of_steps = tfp.random.split_seed(as_seed(seed))
        z = self.posterior(x).sample(n, seed=of_path)
        static, path = self._split(tf.reshape(z, [-1, z.shape[-1]]))
        x = tf.tile(x, [n, 1, 1, 1])
        videos = self._extended(x, static, self.prior.continued(path, steps, of_steps))
        return tf.reshape(videos, [n, -1, *videos.shape[1:]])

    def _seen(self, x):
        """Checked videos of any number of frames, as float32."""
        x = x if tf.is_tensor(x) else np.asarray(x)
        height, width, channels = self.image_shape
        each = channels // self.frames
        if (
            x.shape[1:3] != (height, width)
            or len(x.shape) != 4
            or (x.shape[3] is not None and (x.shape[3] % each or not x.shape[3]))
        ):
            raise ValueError(
                f"Expected videos of shape [B, {height}, {width}, K * {each}], with K frames. "
                f"Received: shape {tuple(x.shape)}."
            )
        checked_data.check_images(self, x, tuple(x.shape[1:]))
        return tf.cast(x, tf.float32)

    def _split(self, z):
        """The static latents, `[[B, S]]` or an empty list, and the path `[B, K, D]`."""
        size = self.prior.static_dim
        path = tf.reshape(z[:, size:], [tf.shape(z)[0], -1, self.prior.dim])
        return [z[:, :size]] if size else [], path

    def _extended(self, x, static, new):
        flat = tf.reshape(new, [tf.shape(new)[0], -1])
        frames = self.likelihood(tf.concat([*static, flat], -1)).mean()
        return tf.concat([x, as_images(frames)], -1)


@extends(
    vae,
    without=(
        "posterior",
        "posterior_steps",
        "posterior_hidden",
        "prior",
        "prior_scale",
        "prior_steps",
        "prior_hidden",
        "prior_components",
        "free_bits",
    ),
)
def video_vae(
    image_shape: Sequence[int],
    *,
    frames: int = 0,
    latent_dim: int = 8,
    static_dim: int = 0,
    order: int = 2,
    transition_hidden: Sequence[int] = (128,),
    activation: str = "relu",
    **options: Any,
) -> VideoVAE:
    """A `VideoVAE`. It has the options of `vae` for the networks of one frame, and:

    Args:
        image_shape: Height, width, channels of all frames.
        frames: T, the number of frames; 0 if each channel is a frame.
        latent_dim: D, the number of latents of a frame.
        static_dim: S, the number of latents that all frames share.
        order: Number of frames on which the next latents depend.
        transition_hidden: Hidden units of the network of the prior's steps. A new prior is a random
            walk.

    Raises:
        ValueError: If the channels are not a multiple of `frames`, and as for `VideoVAE`.
    """
    height, width, channels = image_shape
    frames = as_count(frames, "frames", 0) or channels
    if channels % frames:
        raise ValueError(
            "Each frame must have the same number of channels. "
            f"Received: {channels} channels for frames={frames}."
        )
    order, static_dim = as_count(order, "order"), as_count(static_dim, "static_dim", 0)
    each = elbo.parts(
        (height, width, channels // frames),
        latent_dim=static_dim + latent_dim,
        activation=activation,
        **options,
    )
    of_frames = {"frames": frames, "static_dim": static_dim}
    posterior, likelihood = each["posterior"], each["likelihood"]
    steps = networks.mlp(order * latent_dim, 2 * latent_dim, transition_hidden, activation)
    last = steps.layers[-1].kernel
    last.assign(tf.zeros(last.shape))
    own = {
        "posterior": FramePosterior(posterior.network, posterior.family, **of_frames),
        "likelihood": FrameLikelihood(likelihood.network, likelihood.family, **of_frames),
        "prior": MarkovPrior(steps, frames, static_dim),
    }
    del each["free_bits"]
    return VideoVAE(**each | own)
