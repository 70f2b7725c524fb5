"""Swapping Autoencoder.

Park et al., "Swapping Autoencoder for Deep Image Manipulation", 2020.
https://arxiv.org/abs/2007.00653
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import keras_settings, modulated, networks, penalties
from zoo.adversarial import LOSSES, AdversarialLoss, NonSaturating, adversarial_loss
from zoo.config import choices
from zoo.contract import as_count, check_non_negative
from zoo.crops import random_crops
from zoo.draws import row_count
from zoo.interfaces import LOGIT, Interface, shape_of_images
from zoo.model import Array, GenerativeModel, Signature, as_images
from zoo.models.gan import check_bounded
from zoo.networks import unit


class Codes(NamedTuple):
    """The two codes of images.

    Attributes:
        structure: Spatial code, `[B, h, w, S]`, a unit vector at each position.
        texture: Global code, `[B, T]`, a unit vector.
    """

    structure: tf.Tensor
    texture: tf.Tensor


@keras.saving.register_keras_serializable("zoo")
class SwappingAutoencoder(GenerativeModel):
    """An autoencoder with a code of structure and a code of texture, which images can swap.

    The encoder E maps an image to a structure s, a map, and a texture t, a vector. Images are
    partners in pairs: rows 0 and 1 of a batch, rows 2 and 3, and so on. For image i with its partner
    j, the generator G makes a reconstruction and a hybrid,

        x_rec = G(s(x_i), t(x_i)),   x_mix = G(s(x_j), t(x_i)).

    The discriminator D takes whole images. The co-occurrence patch discriminator P compares crops of
    the hybrid with reference crops of image i, which has the hybrid's texture. With R the adversarial
    losses (sections 3.1 to 3.3 of the paper):

        autoencoder:         reconstruction_weight mean |x - x_rec| + 1/2 R_gen(D(x_rec))
                             + swap_weight R_gen(D(x_mix))
                             + patch_weight R_gen(P(crops of x_i, crops of x_mix))
        discriminator:       R_real(D(x)) + 1/2 R_fake(D(x_rec)) + 1/2 R_fake(D(x_mix)) + R1_D
        patch discriminator: R_real(P(crops of x_i, other crops of x_i))
                             + R_fake(P(crops of x_i, crops of x_mix)) + R1_P

    P encodes each crop, averages the features of the reference crops, and scores each other crop
    against that average. The losses of P are means over the scored crops. The reference is constant
    for the autoencoder. R1_D = r1/2 |grad D|^2 at images, and R1_P = patch_r1/4 of the sum over
    crops of |grad P|^2, with respect to reference crops and to other crops, where P is the sum of
    the logits of an image. Both are lazy: see `zoo.penalties.lazy_rows`.

    A training step is one forward pass of E and G. Both discriminators are updated first, then the
    autoencoder, with the losses of the updated discriminators.

    A latent `z[B, D]` is the flattened structure and the texture: see `codes` and `joined`. A model
    has no prior, so that it cannot sample.

    Args:
        encoder: Network from `x[B, H, W, C]` to `[B, h, w, S]` and `[B, T]`, of any lengths.
        generator: Network from `[structure, texture]`, of length 1, to images `x[B, H, W, C]` in
            [0, 1].
        discriminator: Network from `x[B, H, W, C]` to logits `[B, 1]`, high for images of the data.
        patch_encoder: Network from crops `[B, P, P, C]` to features `[B, F]`.
        patch_head: Network from the features of reference and crop, `[B, 2 F]`, to logits `[B, 1]`,
            high for crops of one image.
        adversarial_loss: An `AdversarialLoss`, R; `NonSaturating()`, as in the paper, if `None`.
        reconstruction_weight: Weight of the L1 distance, a mean over pixels and channels, at least
            0. The paper's 1 for images in [-1, 1] is 2 here.
        swap_weight: Weight of the discriminator's loss for hybrids, at least 0.
        patch_weight: Weight of the patch discriminator's loss, at least 0. With 0 the patch
            discriminator is trained, and has no effect on the autoencoder.
        crops: Number of crops of an image.
        crop_share: The smallest and the largest side of a crop, as a share of the image's side.
        r1: Weight of R1 for the discriminator, at least 0. The authors' 10, with images in [-1, 1],
            is 2.5 here: see `zoo.penalties`.
        patch_r1: Weight of R1 for the patch discriminator, at least 0; the authors' 1 is 0.25 here.
        r1_interval: Number of steps in which R1 visits each image of a batch once; 16 in the
            authors' code.

    Raises:
        ValueError: If a number is out of range, a network has batch normalization, or the parts do
            not fit together; when trained, if a batch, or a replica's part of it, is odd.

    Notes:
        The paper weighs both adversarial losses of images with 1/2; the default `swap_weight` of 1
        is that of the authors' code. The losses of the discriminators are those of the code.

        The code takes R1 at every 16th step of the discriminators, as an optimizer step of its own,
        with an adjusted learning rate and beta_2. Here each step takes R1 at a 16th of the batch, in
        the same optimizer step. The expectation of the loss is equal.

        The code updates discriminators and autoencoder on batches in turn, and reconstructs the
        first half of a batch. Here each batch serves both, and all images are reconstructed.

        The code places the outer pixels of a crop on the borders of its box. Here they are half a
        pixel inside, as in resizing.

    Example:
        >>> model = zoo.models.swapping_autoencoder(
        ...     (8, 8, 1), filters=(4, 8), discriminator_filters=(4,), patch_filters=(4,), patch_size=4
        ... )
        >>> x = np.zeros([2, 8, 8, 1], np.float32)
        >>> model.swap(x, x[::-1]).shape
        TensorShape([2, 8, 8, 1])
    """

    signatures: Mapping[str, Signature] = {
        **GenerativeModel.signatures,
        "swap": Signature(("structure", "texture"), "images"),
        "mix": Signature(("x", "other", "alpha"), "images"),
    }

    def __init__(
        self,
        encoder: keras.Model,
        generator: keras.Model,
        discriminator: keras.Model,
        patch_encoder: keras.Model,
        patch_head: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        reconstruction_weight: float = 2.0,
        swap_weight: float = 1.0,
        patch_weight: float = 1.0,
        crops: int = 8,
        crop_share: Sequence[float] = (0.125, 0.25),
        r1: float = 2.5,
        patch_r1: float = 0.25,
        r1_interval: int = 16,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_non_negative(
            reconstruction_weight=reconstruction_weight,
            swap_weight=swap_weight,
            patch_weight=patch_weight,
            r1=r1,
            patch_r1=patch_r1,
        )
        low, high = crop_share
        if not 0 < low <= high <= 1:
            raise ValueError(
                "`crop_share` must be the smallest and the largest side of a crop, in (0, 1]. "
                f"Received: {tuple(crop_share)}."
            )
        self.encoder = encoder
        self.generator = generator
        self.discriminator = discriminator
        self.patch_encoder = patch_encoder
        self.patch_head = patch_head
        reason = "images, reconstructions and hybrids share batches, and R1 is a penalty of single images."
        for network in (encoder, generator, discriminator, patch_encoder, patch_head):
            networks.refuse_batch_norm(network, f"network '{network.name}'", reason)
        self.adversarial_loss = adversarial_loss or NonSaturating()
        self.reconstruction_weight = reconstruction_weight
        self.swap_weight = swap_weight
        self.patch_weight = patch_weight
        self.crops = as_count(crops, "crops")
        self.crop_share = (low, high)
        self.r1 = r1
        self.patch_r1 = patch_r1
        self.r1_interval = as_count(r1_interval, "r1_interval")

    @property
    def terms(self):
        images = ("reconstruction", "real_logit", "reconstruction_logit", "swap_logit")
        weights = {"penalty": self.r1, "patch_penalty": self.patch_r1}
        own = tuple(name for name, weight in weights.items() if weight)
        return (*images, "patch_real_logit", "patch_swap_logit", *own)

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {
            "autoencoder": [self.encoder, self.generator],
            "discriminator": [self.discriminator],
            "patch_discriminator": [self.patch_encoder, self.patch_head],
        }

    def interfaces(self) -> dict[str, Interface]:
        images, (structure, texture) = shape_of_images(self), self.code_shapes
        patch = self.patch_encoder.inputs[0].shape[1]
        features = self.patch_encoder.outputs[0].shape[-1]
        return {
            "encoder": Interface((images,), ((None, None, None), (None,))),
            "generator": Interface((structure, texture), (images,)),
            "discriminator": Interface((images,), (LOGIT,)),
            "patch_encoder": Interface(((patch, patch, self.image_shape[-1]),), ((features,),)),
            "patch_head": Interface(((2 * features,),), (LOGIT,)),
        }

    @property
    def code_shapes(self) -> Codes:
        """The shapes of structure and texture, without the batch axis."""
        return Codes(*(tuple(output.shape[1:]) for output in self.encoder.outputs))

    @property
    def latent_dim(self) -> int:
        structure, texture = self.code_shapes
        return math.prod(structure) + math.prod(texture)

    # Training ----------------------------------------------------------------------------------

    def objective(
        self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool
    ) -> Iterator[tuple[dict, dict]]:
        x = _in_pairs(x) if training else x
        seeds = tfp.random.split_seed(seed, 4)
        partners = partners_of(row_count(x))
        structure, texture = self._encode(x, training)
        structures = tf.concat([structure, tf.gather(structure, partners)], 0)
        images = self._generate(structures, tf.concat([texture, texture], 0), training)
        fake = tf.stop_gradient(images)

        losses = {}
        losses["discriminator"], terms = self._discriminator_loss(x, fake, seeds[0], training)
        losses["patch_discriminator"], more = self._patch_loss(x, fake, seeds[1], training)
        yield losses, terms | more

        # Both discriminators now have their updated weights.
        reconstruction, swapped = tf.split(images, 2)
        distance = tf.reduce_mean(tf.abs(x - reconstruction), [1, 2, 3])
        logits = networks.logits(self.discriminator, images, None, training)
        generator_losses = self.adversarial_loss.generator(logits)
        reconstruction_loss, swap_loss = tf.split(generator_losses, 2)
        loss = self.reconstruction_weight * distance
        loss += reconstruction_loss / 2 + self.swap_weight * swap_loss
        if self.patch_weight:
            reference = tf.stop_gradient(self._reference(x, seeds[2], training))
            features = self._features(self._crops(swapped, seeds[3]), training)
            logits = self._compared(reference, features, training)
            loss += self.patch_weight * _mean(self.adversarial_loss.generator(logits))
        yield {"autoencoder": loss}, {"reconstruction": distance}

    def _discriminator_loss(self, x, fake, seed, training):
        seeds = tfp.random.split_seed(seed, 2)
        both = tf.concat([x, fake], 0)
        logits = networks.logits(self.discriminator, both, None, training)
        real, *others = tf.split(logits, 3)
        # Reconstructions and hybrids
        fake_loss = self.adversarial_loss.fake(tf.concat(others, 0), seeds[1])
        loss = self.adversarial_loss.real(real, seeds[0]) + tf.add_n(tf.split(fake_loss, 2)) / 2
        terms = {"real_logit": real}
        terms["reconstruction_logit"], terms["swap_logit"] = others
        if self.r1:

            def discriminate(images):
                return networks.logits(self.discriminator, images, None, training)

            rows = self._lazy(x) if training else x
            _, squares = penalties.with_squared_gradient(discriminate, rows)
            terms["penalty"] = _spread(self.r1 / 2 * squares, x)
            loss += terms["penalty"]
        return loss, terms

    def _patch_loss(self, x, fake, seed, training):
        seeds = tfp.random.split_seed(seed, 6)
        swapped = tf.split(fake, 2)[1]
        reference = self._reference(x, seeds[0], training)
        candidates = [self._crops(x, seeds[1]), self._crops(swapped, seeds[2])]
        features = self._features(tf.concat(candidates, 0), training)
        logits = self._compared(tf.concat([reference, reference], 0), features, training)
        real, other = tf.split(logits, 2)
        loss = _mean(self.adversarial_loss.real(real, seeds[3]))
        loss += _mean(self.adversarial_loss.fake(other, seeds[4]))
        terms = {"patch_real_logit": _mean(real), "patch_swap_logit": _mean(other)}
        if self.patch_r1:

            def discriminate(pair):
                """The sums `[B]` of the logits of crops `[B, 2 n, P, P, C]`, references first."""
                features = self._features(pair, training)
                references, others = tf.split(features, 2, 1)
                logits = self._compared(tf.reduce_mean(references, 1), others, training)
                return tf.reduce_sum(logits, 1)

            rows = self._lazy(x) if training else x
            pair = random_crops(rows, 2 * self.crops, self.patch_size, self.crop_share, seeds[5])
            _, squares = penalties.with_squared_gradient(discriminate, pair)
            terms["patch_penalty"] = _spread(self.patch_r1 / 4 * squares, x)
            loss += terms["patch_penalty"]
        return loss, terms

    @property
    def patch_size(self) -> int:
        """Height and width of the crops, in pixels."""
        return self.patch_encoder.inputs[0].shape[1]

    def _lazy(self, x):
        return tf.gather(x, penalties.lazy_rows(row_count(x), self.step, self.r1_interval))

    def _crops(self, images, seed):
        return random_crops(images, self.crops, self.patch_size, self.crop_share, seed)

    def _features(self, crops, training):
        """The features `[B, n, F]` of crops `[B, n, P, P, C]`."""
        count, *shape = crops.shape[1:]
        features = self.patch_encoder(tf.reshape(crops, [-1, *shape]), training=training)
        return tf.reshape(tf.cast(features, tf.float32), [-1, count, features.shape[-1]])

    def _reference(self, x, seed, training):
        """The mean features `[B, F]` of crops of images."""
        return tf.reduce_mean(self._features(self._crops(x, seed), training), 1)

    def _compared(self, reference, features, training):
        """The logits `[B, n]` of the features `[B, n, F]` of crops, given references `[B, F]`."""
        count, size = features.shape[1:]
        pairs = tf.concat([tf.repeat(reference[:, None], count, 1), features], -1)
        pairs = tf.reshape(pairs, [-1, 2 * size])
        logits = networks.logits(self.patch_head, pairs, None, training)
        return tf.reshape(logits, [-1, count])

    def _encode(self, x, training=False):
        return Codes(*(unit(code) for code in self.encoder(x, training=training)))

    def _generate(self, structure, texture, training=False):
        codes = [unit(structure), unit(texture)]
        return tf.cast(self.generator(codes, training=training), tf.float32)

    # Inference ---------------------------------------------------------------------------------

    def abilities(self) -> tuple[str, ...]:
        return (*super().abilities(), "swap", "mix")

    def tensor_specs(self) -> dict[str, tf.TensorSpec]:
        specs = super().tensor_specs()
        images = dict.fromkeys(("structure", "texture", "other"), specs["x"])
        return specs | images | {"alpha": tf.TensorSpec([], tf.float32)}

    def tensor_ranges(self) -> dict[str, tuple[float | None, float | None]]:
        images = dict.fromkeys(("structure", "texture", "other"), (0.0, 1.0))
        return super().tensor_ranges() | images

    def codes(self, z: Array) -> Codes:
        """Structure and texture of latents `z[B, D]`, of length 1: see `Codes`."""
        structure, texture = self.code_shapes
        parts = tf.split(self._latents(z), [math.prod(structure), *texture], -1)
        return Codes(unit(tf.reshape(parts[0], [-1, *structure])), unit(parts[1]))

    def joined(self, codes: Codes) -> tf.Tensor:
        """The latents `[B, D]` of structures and textures: the inverse of `codes`."""
        structure = tf.reshape(codes.structure, [-1, math.prod(self.code_shapes.structure)])
        return tf.concat([structure, codes.texture], -1)

    def encode(self, x: Array, y: Any = None) -> tf.Tensor:
        """The codes `[B, D]` of images `x[B, H, W, C]` in [0, 1], each part of length 1."""
        return self.joined(self._encode(self._images(x)))

    def decode(self, z: Array, y: Any = None) -> tf.Tensor:
        """The images `[B, H, W, C]` in [0, 1] of latents `z[B, D]`, whose parts are normalised."""
        return as_images(self._generate(*self.codes(z)))

    def swap(self, structure: Array, texture: Array) -> tf.Tensor:
        """Images with the structure of some images and the texture of others.

        Args:
            structure: Images `[B, H, W, C]` in [0, 1].
            texture: As many images.

        Returns:
            Images `[B, H, W, C]` in [0, 1].

        Raises:
            ValueError: If the images are invalid, or their numbers differ.
        """
        structure, texture = self._equally_many(structure, texture)
        codes = Codes(self._encode(structure).structure, self._encode(texture).texture)
        return as_images(self._generate(*codes))

    def mix(self, x: Array, other: Array, alpha: float | tf.Tensor) -> tf.Tensor:
        """Images with the structure of `x`, and a texture between those of `x` and `other`.

        The texture is on the line (1 - alpha) t(x) + alpha t(other), normalised.

        Args:
            x: Images `[B, H, W, C]` in [0, 1].
            other: As many images.
            alpha: The share of the other texture: a scalar. 0 reconstructs `x`, and 1 swaps.

        Returns:
            Images `[B, H, W, C]` in [0, 1].

        Raises:
            ValueError: If the images are invalid, their numbers differ, or `alpha` is not a finite
                scalar.
        """
        x, other = self._equally_many(x, other)
        known = tf.get_static_value(tf.convert_to_tensor(alpha, tf.float32))
        if known is not None and (known.ndim or not np.isfinite(known)):
            raise ValueError(f"`alpha` must be a finite number. Received: {known}.")
        structure, texture = self._encode(x)
        texture += alpha * (self._encode(other).texture - texture)
        return as_images(self._generate(structure, texture))

    def _equally_many(self, x, other):
        x, other = self._images(x), self._images(other)
        if not x.shape[:1].is_compatible_with(other.shape[:1]):
            raise ValueError(
                "Expected as many images of textures as of structures. Received: "
                f"{x.shape[0]} structures and {other.shape[0]} textures."
            )
        return x, other


def partners_of(n: int | tf.Tensor) -> tf.Tensor:
    """The partner of each of `n` rows, int32 `[n]`: 1, 0, 3, 2, and so on.

    The last of an odd number of rows is its own partner.

    Example:
        >>> from zoo.models.swapping_autoencoder import partners_of
        >>> partners_of(5).numpy()
        array([1, 0, 3, 2, 4], dtype=int32)
    """
    return tf.minimum(tf.bitwise.bitwise_xor(tf.range(n), 1), n - 1)


def _in_pairs(x):
    """The batch, whose number of images must be even."""
    expected = "A batch, and each replica's part of it, consists of pairs of images."
    if x.shape[0] is not None and x.shape[0] % 2:
        raise ValueError(
            f"{expected} Choose an even batch size, and drop an odd remainder. "
            f"Received: {x.shape[0]} images."
        )
    even = tf.debugging.assert_equal(tf.shape(x)[0] % 2, 0, expected)
    with tf.control_dependencies([] if even is None else [even]):
        return tf.identity(x)


def _mean(values):
    """The mean over crops, `[B]`."""
    return tf.reduce_mean(values, 1)


def _spread(penalty, x):
    """The mean of a penalty of some rows, for each row: `[B]`."""
    return tf.repeat(tf.reduce_mean(penalty)[None], row_count(x))


# Networks -------------------------------------------------------------------------------------


def encoder(
    image_shape: Sequence[int], filters: Sequence[int], structure_channels: int, texture_dim: int
) -> keras.Model:
    """The paper's encoder, from images to a structure `[B, h, w, S]` and a texture `[B, T]`.

    Maps are padded by reflection, and halved by each of `filters` but the first. The texture is the
    mean over positions of convolutions without padding, which would reveal the position.

    Args:
        image_shape: Height, width, channels.
        filters: Channels of the maps.
        structure_channels: S. With many channels the structure carries colours.
        texture_dim: T.
    """
    images = keras.Input(tuple(image_shape))
    maps = modulated.residual_maps(images, filters, reflect=True)
    structure = modulated.convolution(maps, filters[-1], 1)
    structure = keras.layers.Conv2D(structure_channels, 1, dtype="float32")(structure)
    texture = texture_branch(tuple(maps.shape[1:]), texture_dim)(maps)
    return keras.Model(images, [structure, texture], name="encoder")


def texture_branch(shape: Sequence[int], texture_dim: int) -> keras.Model:
    """From maps to a texture: at most two valid 3x3 convolutions of stride 2, and their mean."""
    maps = h = keras.Input(tuple(shape))
    for _ in range(2):
        if min(h.shape[1:3]) >= 3:
            h = keras.layers.Conv2D(shape[-1], 3, 2, kernel_initializer="he_normal")(h)
            h = keras.layers.LeakyReLU(0.2)(h)
    h = keras.layers.GlobalAveragePooling2D()(h)
    return keras.Model(maps, keras.layers.Dense(texture_dim, dtype="float32")(h), name="texture")


def generator(
    structure_shape: Sequence[int],
    texture_dim: int,
    filters: Sequence[int],
    channels: int,
    blocks: int = 2,
) -> keras.Model:
    """The paper's generator, from `[structure, texture]` of length 1 to images in [0, 1].

    The texture modulates every layer: the structure, which is scaled and shifted, the `blocks` at
    its size, a block for each doubling, and the last layer, which is not demodulated. The authors'
    layers normalise the style and demodulate the kernel alone; these layers are those of StyleGAN2.
    StyleGAN2's noise of learned strength is left out, so that images are functions of their codes.

    Args:
        structure_shape: Height, width, channels of the structure.
        texture_dim: T of the texture `[B, T]`.
        filters: Channels from the structure to the image.
        channels: Channels of the image.
        blocks: Number of blocks at the structure's size.
    """
    size = structure_shape[-1]
    structure, texture = keras.Input(tuple(structure_shape)), keras.Input((texture_dim,))
    # Layers expect a mean square of 1.
    code = keras.layers.Rescaling(math.sqrt(texture_dim))(texture)
    h = keras.layers.Rescaling(math.sqrt(size))(structure)

    def of_code(**kwargs):
        return keras.layers.Reshape((1, 1, size))(keras.layers.Dense(size, **kwargs)(code))

    h = keras.layers.Multiply()([h, of_code(bias_initializer="ones")])
    h = keras.layers.Add()([h, of_code()])
    first, *rest = filters
    for _ in range(blocks):
        h = modulated.modulated_block(h, code, first)
    for width in rest:
        h = modulated.modulated_block(h, code, width, upsample=True)
    h = modulated.ModulatedConv2D(channels, 1, demodulate=False)([h, code])
    images = keras.layers.Activation("sigmoid", dtype="float32")(h)
    return keras.Model([structure, texture], images, name="generator")


def patch_encoder(patch_shape: Sequence[int], filters: Sequence[int], features: int) -> keras.Model:
    """From crops in [0, 1] to features `[B, F]`, by blurred convolutions of stride 2."""
    crops = keras.Input(tuple(patch_shape))
    networks.halves(patch_shape, len(filters) - 1)
    first, *rest = filters
    h = modulated.convolution(keras.layers.Rescaling(2.0, -1.0)(crops), first)
    for width in rest:
        h = modulated.halving_convolution(h, width)
    h = keras.layers.Flatten()(h)
    return keras.Model(crops, modulated.dense_layers(h, [features]), name="patch_encoder")


def patch_head(features: int, hidden: Sequence[int]) -> keras.Model:
    """From the features of reference and crop, `[B, 2 F]`, to logits `[B, 1]`."""
    pairs = keras.Input((2 * features,))
    h = modulated.dense_layers(pairs, hidden)
    return keras.Model(pairs, keras.layers.Dense(1, dtype="float32")(h), name="patch_head")


@choices(loss=LOSSES)
def swapping_autoencoder(
    image_shape: Sequence[int],
    *,
    filters: Sequence[int] = (32, 64, 128),
    structure_channels: int = 4,
    texture_dim: int = 64,
    blocks: int = 2,
    discriminator_filters: Sequence[int] = (32, 64, 128),
    discriminator_hidden: Sequence[int] = (128,),
    crops: int = 4,
    crop_share: Sequence[float] = (0.25, 0.5),
    patch_size: int = 16,
    patch_filters: Sequence[int] = (32, 64, 128),
    patch_features: int = 128,
    patch_hidden: Sequence[int] = (128, 128),
    loss: str = "non_saturating",
    reconstruction_weight: float = 2.0,
    swap_weight: float = 1.0,
    patch_weight: float = 1.0,
    r1: float = 2.5,
    patch_r1: float = 0.25,
    r1_interval: int = 16,
) -> SwappingAutoencoder:
    """A `SwappingAutoencoder` with the paper's networks, reduced to small images.

    The paper has images of 256 pixels and more, a structure of a 16th of the side with 8 channels,
    textures of 2,048 numbers, and 8 crops of 1/8 to 1/4 of the side.

    Args:
        image_shape: Height, width, channels.
        filters: Channels of the encoder, from the image to the structure. Each but the first halves
            the maps. The generator mirrors the encoder.
        structure_channels: Channels of the structure. Many channels carry colours.
        texture_dim: Size of the texture.
        blocks: Number of the generator's blocks at the structure's size.
        discriminator_filters, discriminator_hidden: As for
            `zoo.modulated.residual_discriminator`.
        crops, crop_share: As for `SwappingAutoencoder`.
        patch_size: Height and width of the resized crops, in pixels.
        patch_filters: Channels of the patch encoder. Each but the first halves the maps.
        patch_features: Number of features of a crop.
        patch_hidden: Units of the hidden layers that compare two crops.
        loss: A name of `zoo.adversarial.adversarial_loss`.
        reconstruction_weight, swap_weight, patch_weight, r1, patch_r1, r1_interval: As for
            `SwappingAutoencoder`.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or maps cannot be halved.
    """
    keras_settings.check()
    check_bounded(loss, r1=min(r1, patch_r1))
    networks.halves(image_shape, len(filters) - 1)
    *_, channels = image_shape
    own_encoder = encoder(image_shape, filters, structure_channels, texture_dim)
    structure_shape = own_encoder.outputs[0].shape[1:]
    return SwappingAutoencoder(
        own_encoder,
        generator(structure_shape, texture_dim, filters[::-1], channels, blocks),
        modulated.residual_discriminator(image_shape, discriminator_filters, discriminator_hidden),
        patch_encoder((patch_size, patch_size, channels), patch_filters, patch_features),
        patch_head(patch_features, patch_hidden),
        adversarial_loss(loss),
        reconstruction_weight=reconstruction_weight,
        swap_weight=swap_weight,
        patch_weight=patch_weight,
        crops=crops,
        crop_share=crop_share,
        r1=r1,
        patch_r1=patch_r1,
        r1_interval=r1_interval,
    )
