"""VAE/GAN.

Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016.
https://arxiv.org/abs/1512.09300
"""

import functools
import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.adversarial import AdversarialLoss, Minimax, adversarial_loss
from zoo.config import FromArguments, look_up
from zoo.distributions import (
    Conditional,
    DiagonalNormal,
    Prior,
    StandardNormal,
    UnitNormal,
    kl,
    refuse_learned,
)
from zoo.model import GenerativeModel, Round, as_images


@keras.saving.register_keras_serializable("zoo")
class Equilibrium(FromArguments):
    """Holds back who of the discriminator and its opponent is too far ahead.

    The rule of the VAE/GAN authors' code. The discriminator's costs are means over the batch: -log D
    of real images, and -log(1 - D) of made ones, where D = sigmoid(logit), whatever the adversarial
    loss. One that can only guess, and is trained on as much of either kind, pays log 2 = 0.69 for
    either. Where one of the two is below cost - margin the discriminator rests; where one is above
    cost + margin its opponent does. Where both would rest, both move.

    Args:
        cost: What the discriminator pays in a balanced game, finite; 0.68 in the authors' code.
        margin: How far it may be from that, at least 0; 0.35 there. An infinite one holds nobody.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> rule = zoo.Equilibrium()
        >>> [bool(moves) for moves in rule(0.7, 0.3)]  # The fakes are known too well: D rests.
        [False, True]
    """

    def __init__(self, cost: float = 0.68, margin: float = 0.35):
        if not math.isfinite(cost):
            raise ValueError(f"`cost` must be finite. Received: {cost}.")
        if not margin >= 0:
            raise ValueError(f"`margin` must be at least 0. Received: {margin}.")
        self.cost = cost
        self.margin = margin

    def __call__(self, real_cost, fake_cost) -> tuple[tf.Tensor, tf.Tensor]:
        """Whether the discriminator moves, and whether its opponent does: two scalar bools."""
        low, high = self.cost - self.margin, self.cost + self.margin
        strong = tf.minimum(real_cost, fake_cost) < low
        weak = tf.maximum(real_cost, fake_cost) > high
        return weak | ~strong, strong | ~weak

    def get_config(self) -> dict:
        return {name: getattr(self, name) for name in self._argument_names()}


@keras.saving.register_keras_serializable("zoo")
class VAEGAN(GenerativeModel):
    """A VAE whose likelihood is a unit normal on features of a GAN's discriminator.

    One forward pass serves all three players, as in the paper's Algorithm 1:

    - the encoder minimises beta * rate + distortion, with beta = 1 in the paper;
    - the decoder minimises gamma * distortion + what the adversarial loss asks for making its
      reconstructions and its samples from the prior pass for real;
    - the discriminator tells data from reconstructions and from samples.

    So no adversarial gradient reaches the encoder, and no distortion's the discriminator: as each
    player's gradient is taken for its own variables only, nothing needs to be cut, but for one
    place. The features of the data are a target, and hold still (`tf.stop_gradient`), as in the
    authors' code.

    Where the paper and the authors' code differ: Algorithm 1 prints the discriminator's and the
    decoder's adversarial terms with the sign of L_GAN turned round; here, as in the code, the
    discriminator maximises L_GAN and the decoder minimises it. The code scales the decoder's
    adversarial term by 1 - w and its distortion by w (1e-6 for faces), which gamma = w / (1 - w)
    reproduces up to a factor on the whole. Both sum the distortion over features, so the value of
    gamma belongs to their number. Of the discriminator's three terms Algorithm 1 takes the sum, in
    which made images count twice as much as real ones: where all are alike its best D is 1/3. The
    code takes the mean over made images of both kinds, so that it is 1/2; by the paper's sum the
    code's `Equilibrium` would hold the decoder back for good. Here it is the code's with an
    `equilibrium`, and the paper's without. The decoder's terms are summed in both.

    The code's discriminator normalizes images, reconstructions and samples as one batch for the
    game, and again images and reconstructions for the features; here one pass serves both. With
    `joint_batch=False` the discriminator, though not the decoder, normalizes each kind by itself, as
    DCGAN's public code does. Then samples that are too alike are told from data as a batch, and the
    distortion leaves out how the mean and the scale of a whole batch of images differ from those of
    its reconstructions. Out of training the averages over all kinds stand in for either, so that
    what is reported of validation images differs from training by more than the images.

    The networks may take a condition `y[B, ...]` as a second input, such as the attributes or the
    class of an image, each for itself. Section 4.2's attribute-conditional model is that in which all
    three do; reconstructions and samples are made, and judged, with the attributes of the batch's
    images, as in the authors' code.

    Args:
        posterior: q(z | x), a `Conditional` on `x[B, H, W, C]`, over `z[B, D]`.
        decoder: Network from `z[B, D]` to `x[B, H, W, C]` in [0, 1].
        prior: p(z), a `Prior` over `z[D]` that does not learn.
        discriminator: Network from `x[B, H, W, C]` to `(features[B, F], logits[B, 1])`: the paper's
            Dis_l(x), and the decision, high for real. Which layer l is the network's choice. The
            authors' code takes the third strided convolution before its normalization; the zoo's
            `dcgan_discriminator` takes the last one after it, because unit variance is what the
            likelihood assumes: features much smaller than that leave the rate to outweigh the
            distortion, and the posterior collapses. `mlp_discriminator`, which has no
            normalization, takes its last hidden layer.
        adversarial_loss: An `AdversarialLoss`; `Minimax()`, as in the paper, if `None`.
        gamma: Weight of the distortion against fooling, for the decoder, at least 0.
        equilibrium: An `Equilibrium`, which holds discriminator or decoder back where the other is
            left behind, as the authors' code does; `None` to move both on every batch. The encoder
            always moves. With it the discriminator weighs real and made images alike; `real_cost`
            and `fake_cost` are reported, and on which share of the batches either moved.
        beta: Weight of the rate for the encoder, at least 0; 1 in the paper. To the encoder, up to
            the scale of its loss, features then have the variance beta. With many features and
            beta = 1 the rate hardly counts: posteriors become narrow, and their mixture over the
            data is far from the prior, which samples come from.
        joint_batch: Whether the discriminator normalizes images, reconstructions and samples as one
            batch in training, or as three.

    Raises:
        ValueError: If gamma or beta is less than 0, infinite or NaN, or the prior learns; when
            called, if a network wants a condition and has none.

    Example:
        >>> build = zoo.models.vaegan.vaegan_mlp
        >>> vaegan = build((8, 8, 1), 4, (16,), (16,), condition="label", margin=0.35)
        >>> vaegan.compile("adam")
        >>> x, y = zoo.datasets.load("digits").arrays("train")
        >>> history = vaegan.fit(x, y, verbose=0)
        >>> 0 <= history.history["discriminator_updates"][0] <= 1
        True
        >>> vaegan.sample(2, y=[3, 7]).shape
        TensorShape([2, 8, 8, 1])
    """

    def __init__(
        self,
        posterior: Conditional,
        decoder: keras.Model,
        prior: Prior,
        discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        gamma: float = 1e-3,
        equilibrium: Equilibrium | None = None,
        beta: float = 1.0,
        joint_batch: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, weight in (("gamma", gamma), ("beta", beta)):
            if not 0 <= weight < math.inf:
                raise ValueError(f"`{name}` must be at least 0 and finite. Received: {weight}.")
        self.posterior = posterior
        self.decoder = decoder
        refuse_learned(prior, "a VAEGAN")
        self.prior = prior
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss or Minimax()
        self.gamma = gamma
        self.equilibrium = equilibrium
        self.beta = beta
        self.joint_batch = joint_batch

    @property
    def terms(self):
        costs = () if self.equilibrium is None else ("real_cost", "fake_cost")
        return ("distortion", "rate", "real_logit", "reconstruction_logit", "sample_logit", *costs)

    def players(self):
        return {
            "encoder": [self.posterior],
            "decoder": [self.decoder],
            "discriminator": [self.discriminator],
        }

    def rounds(self):
        if self.equilibrium is None:
            return [Round(self.objective)]

        def moves(who, means):
            return self.equilibrium(means["real_cost"], means["fake_cost"])[who]

        players = ("discriminator", "decoder")
        gates = {player: functools.partial(moves, i) for i, player in enumerate(players)}
        return [Round(self.objective, gates=gates)]

    def objective(self, x, y, seed, training):
        z_seed, prior_seed, *label_seeds = tfp.random.split_seed(seed, 5)
        q, p = self.posterior(x, y, training=training), self.prior(y)
        z = q.sample(seed=z_seed)
        count = () if p.batch_shape.rank else tf.shape(x)[0]
        z_prior = p.sample(count, seed=prior_seed)
        latents = tf.concat([z, z_prior], 0)
        made = tf.cast(_called(self.decoder, latents, y, training, copies=2), tf.float32)
        features, logits = self._judged(x, made, y, training)
        target, feature, _ = (tf.cast(of_kind, tf.float32) for of_kind in features)
        real, reconstruction, sample = (tf.cast(of_kind[:, 0], tf.float32) for of_kind in logits)

        rate = kl(q, p, z)
        distortion = -UnitNormal()(feature, 1).log_prob(tf.stop_gradient(target))
        fooling = self.adversarial_loss.generator(reconstruction) + self.adversarial_loss.generator(
            sample
        )
        of_real = self.adversarial_loss.real(real, label_seeds[0])
        of_made = self.adversarial_loss.fake(reconstruction, label_seeds[1])
        of_made += self.adversarial_loss.fake(sample, label_seeds[2])
        terms = {
            "distortion": distortion,
            "rate": rate,
            "real_logit": real,
            "reconstruction_logit": reconstruction,
            "sample_logit": sample,
        }
        if self.equilibrium is not None:
            of_made /= 2
            # Of the rule, whose numbers are those of -log D: no other loss's, and no changed labels'.
            fake_cost = (tf.nn.softplus(reconstruction) + tf.nn.softplus(sample)) / 2
            terms |= {"real_cost": tf.nn.softplus(-real), "fake_cost": fake_cost}
        return {
            "encoder": self.beta * rate + distortion,
            "decoder": self.gamma * distortion + fooling,
            "discriminator": of_real + of_made,
        }, terms

    def _judged(self, x, made, y, training):
        """Features, and logits, of images, of reconstructions and of samples."""
        if self.joint_batch or not training:  # Out of training no example depends on another.
            shown = tf.concat([x, made], 0)
            judged = _called(self.discriminator, shown, y, training, copies=3)
            return [tf.split(parts, 3) for parts in judged]
        kinds = [x, *tf.split(made, 2)]
        judged = [_called(self.discriminator, kind, y, training) for kind in kinds]
        # Not put together, so that what goes back to one kind does not come by the others.
        return zip(*judged, strict=True)

    @property
    def condition(self):
        spec = super().condition
        for network in (self.decoder, self.discriminator):
            if spec is None and len(network.inputs) > 1:
                spec = tf.TensorSpec(network.inputs[1].shape, network.inputs[1].dtype)
        return spec

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def decode(self, z, y=None):
        return as_images(_called(self.decoder, z, self.condition_for(z, y, 2)))


def _called(network, context, y, training=False, copies=1):
    """A network's output; one that takes a condition has `y` beside each part of the context."""
    if len(network.inputs) == 1:
        return network(context, training=training)
    if y is None:
        raise ValueError(
            f"The network '{network.name}' takes a condition `y` beside its context: train on (x, y), "
            "and pass `y` to the model's methods. Received: y=None."
        )
    y = tf.concat([tf.convert_to_tensor(y)] * copies, 0)
    return network([tf.convert_to_tensor(context), y], training=training)


def attribute_vectors(z, y) -> np.ndarray:
    """Where in the latent space an attribute leads: `[A, D]`, a vector for each of A attributes.

    Larsen et al., 2016, section 4.1.1: the mean latent of the images that have an attribute, less
    the mean of those that have not. Added to the latent of an image, it gives the image the
    attribute; see `zoo.pictures.attributes`.

    Attributes that go together in the data have similar vectors: the mean is over all else that the
    images have.

    Args:
        z: Latents `[N, D]`, such as `model.encode(x)` of training images.
        y: What the images have, `[N, A]`, each 0 or 1; or labels `[N]`, ints from 0 on, of which each
            is then an attribute.

    Raises:
        ValueError: If these do not go together, or all or none of the images have an attribute.

    Example:
        >>> vectors = zoo.models.vaegan.attribute_vectors([[0.0, 1], [2, 1], [4, 7]], [[0], [1], [1]])
        >>> vectors  # (3, 4) - (0, 1)
        array([[3., 3.]])
    """
    z, y = np.asarray(z, np.float64), np.asarray(y)
    if y.ndim == 1 and np.issubdtype(y.dtype, np.integer) and y.size and y.min() >= 0:
        y = np.eye(y.max() + 1)[y]
    if z.ndim != 2 or y.ndim != 2 or len(z) != len(y) or not np.isin(y, (0, 1)).all():
        raise ValueError(
            "Expected latents [N, D] and attributes [N, A] that are 0 or 1, or labels [N] from 0 on. "
            f"Received: latents of shape {z.shape}, and {y.dtype.name} of shape {y.shape}."
        )
    y = y.astype(np.float64)
    having = y.sum(0)
    if (having == 0).any() or (having == len(y)).any():
        alike = np.flatnonzero((having == 0) | (having == len(y))).tolist()
        raise ValueError(
            "A vector leads from images without an attribute to images with it, and needs some of "
            f"both. Received: {len(y)} images which are alike in the attributes {alike}."
        )
    return y.T @ z / having[:, None] - (1 - y).T @ z / (len(y) - having)[:, None]


def vaegan_mlp(
    image_shape: Sequence[int],
    latent_dim: int = 20,
    hidden: Sequence[int] = (500,),
    discriminator_hidden: Sequence[int] = (240, 240),
    loss: str = "minimax",
    gamma: float = 0.1,
    condition: str = "none",
    condition_size: int = 0,
    margin: float = 0.0,
    beta: float = 1.0,
) -> VAEGAN:
    """A `VAEGAN` of multilayer perceptrons; features are the discriminator's last hidden layer.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        hidden: The encoder's; the decoder's mirrors it.
        discriminator_hidden: The discriminator's.
        loss: Name of the adversarial loss; see `zoo.adversarial.adversarial_loss`.
        gamma: Weight of the distortion against fooling, for the decoder.
        condition: What y is: "none", "label" (ints `[B]`) or "attributes" (`[B, A]`). It stands
            beside the input of each of the three networks.
        condition_size: Number of classes, 10 if 0; or of attributes A, at least 1.
        margin: Of the authors' `Equilibrium`, 0.35 there; 0 for none.
        beta: Weight of the rate, for the encoder; 1 in the paper.

    Raises:
        ValueError: For names that there are not, or settings that do not go together.
    """
    given, size = _condition(condition, condition_size)
    values = math.prod(image_shape)
    flat = (1, 1, values + size) if given else image_shape
    return _of_parts(
        _beside(given, networks.mlp_encoder(flat, 2 * latent_dim, hidden), image_shape),
        _beside(
            given,
            networks.mlp_decoder(
                latent_dim + size,
                image_shape,
                hidden=hidden[::-1],
                output="sigmoid",
                batch_norm=True,
            ),
            (latent_dim,),
        ),
        latent_dim,
        _beside(
            given,
            networks.mlp_discriminator(flat, discriminator_hidden, features=True),
            image_shape,
        ),
        loss,
        gamma,
        margin,
        beta=beta,
    )


def vaegan_conv(
    image_shape: Sequence[int],
    latent_dim: int = 64,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    width: int = 32,
    loss: str = "minimax",
    gamma: float = 1e-2,
    condition: str = "none",
    condition_size: int = 0,
    margin: float = 0.0,
    beta: float = 1.0,
    joint_batch: bool = True,
) -> VAEGAN:
    """A convolutional `VAEGAN`: DCGAN's networks, features from the last strided convolution.

    Args:
        image_shape: Height, width, channels.
        latent_dim: D of the latents.
        filters: Channels of the encoder's convolutions.
        hidden: Units of its dense layer.
        width: See `zoo.networks.dcgan_generator`.
        loss, gamma, condition, condition_size, margin, beta: As for `vaegan_mlp`. Beside an image
            the condition is so many further channels, each the same all over.
        joint_batch: Whether the discriminator normalizes images, reconstructions and samples as one
            batch, like the authors' code, or each kind by itself, like DCGAN.
    """
    given, size = _condition(condition, condition_size)
    shape = (*image_shape[:2], image_shape[2] + size)
    return _of_parts(
        _beside(given, networks.conv_encoder(shape, 2 * latent_dim, filters, hidden), image_shape),
        _beside(
            given, networks.dcgan_generator(latent_dim + size, image_shape, width), (latent_dim,)
        ),
        latent_dim,
        _beside(given, networks.dcgan_discriminator(shape, width, features=True), image_shape),
        loss,
        gamma,
        margin,
        beta=beta,
        joint_batch=joint_batch,
    )


def _of_parts(encoder, decoder, latent_dim, discriminator, loss, gamma, margin, **more):
    return VAEGAN(
        Conditional(encoder, DiagonalNormal()),
        decoder,
        StandardNormal(latent_dim),
        discriminator,
        adversarial_loss(loss),
        gamma,
        Equilibrium(margin=margin) if margin else None,
        **more,
    )


def _condition(name, size):
    """What makes an input of conditions and its code, or `None`; and how many values a code has."""
    look_up(dict.fromkeys(("none", "label", "attributes")), name, "condition")
    if size < (name == "attributes") or (size and name == "none"):
        raise ValueError(
            "`condition_size` is 0 without a condition, the number of classes or 0 for 10 of them, or "
            f"the number of attributes. Received: condition='{name}', condition_size={size}."
        )
    if name == "none":
        return None, 0
    if name == "attributes":
        return lambda: [keras.Input((size,))] * 2, size
    classes = size or 10

    def given():
        y = keras.Input((), dtype="int32")
        return y, networks.OneHot(classes)(y)

    return given, classes


def _beside(given, network, shape):
    """The network with a condition beside its context of that shape: in one vector, or as channels."""
    if given is None:
        return network
    context, (y, code) = keras.Input(tuple(shape)), given()
    height, width, _ = (1, 1, *network.input_shape[1:])[-3:]
    if height * width > 1:
        code = keras.layers.RepeatVector(height * width)(code)
        code = keras.layers.Reshape((height, width, code.shape[-1]))(code)
        joined = keras.layers.Concatenate()([context, code])
    else:
        joined = keras.layers.Concatenate()([keras.layers.Flatten()(context), code])
        joined = keras.layers.Reshape(network.input_shape[1:])(joined)
    return keras.Model([context, y], network(joined), name=network.name)
