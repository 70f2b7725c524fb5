"""M2: a variational autoencoder of images and classes, with labels for some of the images.

Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014.
https://arxiv.org/abs/1406.5298

M1 is in `zoo.models.m1`, M1+M2 in `zoo.models.m1_m2`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import checked_data, networks
from zoo.config import extends, with_article
from zoo.contract import as_count, check_non_negative
from zoo.datasets import ImageData
from zoo.distributions import (
    Conditional,
    Family,
    Prior,
    by_name,
    kl,
    need_density,
)
from zoo.draws import row_count
from zoo.interfaces import Interface, context_shape, of_autoencoder
from zoo.keras_internals import layers_in
from zoo.model import Array, GenerativeModel, Signature, as_images, as_seed
from zoo.models import elbo
from zoo.models.aae import check_classes
from zoo.models.parts import latent_parts
from zoo.schedules import Schedule, check_weight, value_at

NO_LABEL = -1


@keras.saving.register_keras_serializable("zoo")
class AddClass(keras.layers.Layer):
    """Adds a learned vector of the class `y[B]`, an int from 0 to C - 1, to features `h[B, units]`.

    With K labels for each row, `y[K * B]`, the result is `[K * B, units]`: row i is the sum of
    `h[i % B]` and the vector of class `y[i]`. The layers before `AddClass` do not depend on the
    class and run once for all K labels.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, h_shape: Sequence, y_shape: Sequence) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(self.num_classes, h_shape[-1]))
        self.built = True

    def call(self, h: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        vectors = tf.matmul(tf.one_hot(y, self.num_classes, dtype=h.dtype), self.kernel)
        return repeat_for_labels(h, y) + vectors

    def compute_output_shape(self, h_shape: Sequence, y_shape: Sequence) -> tuple:
        return (None, h_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"num_classes": self.num_classes}


class Bound(NamedTuple):
    """L(x, y) or U(x) as its terms in nats.

    Attributes:
        distortion: The expected -log p(x | y, z).
        rate: The divergence of y and z from their prior.
        charged_rate: The term that replaces the rate in the loss: the rate with its weight and with
            free bits in training, the rate itself in evaluation.
    """

    distortion: tf.Tensor
    rate: tf.Tensor
    charged_rate: tf.Tensor

    @property
    def loss(self) -> tf.Tensor:
        """The bound in evaluation, and the loss in training."""
        return self.distortion + self.charged_rate

    def reported(self) -> dict[str, tf.Tensor]:
        """The terms that the model reports."""
        return {"distortion": self.distortion, "rate": self.rate}


@keras.saving.register_keras_serializable("zoo")
class M2(GenerativeModel):
    """A variational autoencoder with the class y as a second latent, observed for some images.

    The model is p(y) p(z) p(x | y, z), where p(y) is uniform over C classes. The posterior is
    q(y | x) q(z | x, y). Kingma et al. (2014) bound -log p(x, y) of a labelled image and -log p(x)
    of an unlabelled image:

        L(x, y) = E_q(z | x, y)[-log p(x | y, z)] + KL(q(z | x, y) || p(z)) - log p(y)      (eq. 6)
        U(x)    = sum_y q(y | x) (L(x, y) + log q(y | x))                                   (eq. 7)

    The objective of a data set of N images, N_l of them labelled, is

        J = sum_labelled L(x, y) + sum_unlabelled U(x)                                      (eq. 8)
            + alpha N mean_labelled[-log q(y | x)]                                          (eq. 9)

    The sum over classes is exact, with `num_samples` draws of z for each class.

    A training batch is two streams, `((x_labelled, y), x_unlabelled)`, as in `ImageData.batches`
    with `semi_supervised=True`. Let s = N_l / N be the share of labelled images in the data set and
    r the share of labelled rows in the batch. The losses of the rows are

        labelled:    s / r L(x, y) + alpha / r (-log q(y | x))
        unlabelled:  (1 - s) / (1 - r) U(x)

    so that their mean is J / N in expectation for every r. In a batch `(x, y)` every image has a
    label, and s = r = 1.

    In evaluation the loss is U(x) for every image. Labels then only affect `accuracy`, the share of
    labelled images whose most probable class is their label (0 without labelled images). The sum of
    `distortion` and `rate` is U(x) for an unlabelled image, and L(x, y) for a labelled image in
    training: `rate` is the divergence of y and z from their prior.

    Outside of training, a negative number in `y[B]`, such as -1, means that the image has no label;
    y=None means that no image has a label. This applies to every method.

    Args:
        classifier: Network from `x[B, ...]` to the logits `[B, C]` of q(y | x).
        posterior: q(z | x, y), a `Conditional` with a network of `x` and `y[B]` that has an
            `AddClass`.
        likelihood: p(x | y, z), a `Conditional` with a network of `z[B, D]` and `y[B]`.
        prior: p(z), a `Prior` over `z[D]`.
        labelled_share: s, in (0, 1], which training on two streams needs; `None` until `adapt` sets
            it.
        alpha: Weight of the classification loss, at least 0; 0.1 in the paper.
        num_samples: Draws of z for each image and class, at least 1, over which the bounds are
            averaged.
        rate_weight: Weight in training of `rate`, the divergence of y and z from their prior: a
            number of at least 0 or a `zoo.schedules.Schedule`.
        free_bits: Nats of KL(q(z | x, y) || p(z)) per latent dimension without extra cost, at least
            0: see `zoo.models.elbo.with_free_bits`. The expectation is over the pairs (x, y) of the
            minibatch, with all classes of an unlabelled image.

    Raises:
        ValueError: If a number is out of range, if the posterior or the prior has no density, if
            `free_bits` is set and the latents are not independent, or if the networks take another
            number of classes than the classifier returns.

    Notes:
        The paper's alpha is `alpha` N. The published code multiplies -log q(y | x) of each labelled
        image by 0.1 N / N_l, which is equivalent.

    Example:
        >>> from zoo.models.m2 import m2
        >>> data = zoo.datasets.load("digits", binarize="dynamic", num_labels=50)
        >>> model = m2((8, 8, 1), latent_dim=5, hidden=(32,))
        >>> model.adapt(data)
        >>> model.compile("adam")
        >>> batches = data.batches("train", 100, shuffle=True, repeat=True, semi_supervised=True)
        >>> history = model.fit(batches, steps_per_epoch=10, verbose=0)
        >>> model.classify(data.arrays("test")[0]).shape
        TensorShape([447, 10])
    """

    terms: tuple[str, ...] = ("distortion", "rate", "accuracy")
    condition_is_optional = True
    needs_labels = (
        "In training, every image of a batch (x, y) has a label. If some images have none, train on "
        "two streams, ((x_labelled, y), x_unlabelled): call model.adapt(data) and train on "
        "data.batches('train', batch_size, shuffle=True, repeat=True, semi_supervised=True); or set "
        "model.labelled_share, the share of labelled images, and train on "
        "tf.data.Dataset.zip((labelled, unlabelled))."
    )
    semi_supervised = True
    adapted = ("labelled_share",)
    signatures: Mapping[str, Signature] = {
        **GenerativeModel.signatures,
        "classify": Signature(("x",), "probabilities"),
    }

    def __init__(
        self,
        classifier: keras.Model,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        labelled_share: float | None = None,
        alpha: float = 0.1,
        num_samples: int = 1,
        rate_weight: float | Schedule = 1.0,
        free_bits: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if labelled_share is not None and not 0 < labelled_share <= 1:
            raise ValueError(
                f"`labelled_share` must be a share in (0, 1]. Received: {labelled_share}."
            )
        check_non_negative(alpha=alpha, free_bits=free_bits)
        check_weight(rate_weight, "rate_weight")
        prior.bind(posterior)
        for part in (posterior, prior):
            need_density(part, f"{with_article(type(self).__name__)}")
        networks.check_built(classifier, f"The classifier of {with_article(type(self).__name__)}")
        self.classifier = classifier
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior
        self.labelled_share = labelled_share
        self.alpha = alpha
        self.num_samples = as_count(num_samples, "num_samples")
        self.rate_weight = rate_weight
        self.free_bits = free_bits
        _check_classes(self)
        if free_bits:
            elbo.check_free_bits(self)

    def players(self) -> dict[str, list[keras.layers.Layer]]:
        return {"vae": [self.classifier, self.posterior, self.likelihood, self.prior]}

    def interfaces(self) -> dict[str, Interface]:
        x = context_shape(self.posterior)
        return of_autoencoder(self, x) | {"classifier": Interface((x,), ((None,),))}

    @property
    def num_classes(self) -> int:
        """C."""
        return self.classifier.output_shape[-1]

    def adapt(self, data: ImageData) -> None:
        """Sets `labelled_share` to that of the data, and the start of the decoder.

        Raises:
            ValueError: If the data have no integer labels, or labels of more than C classes.
        """
        check_classes(self, data, self.num_classes)
        self.labelled_share = data.labelled_share
        super().adapt(data)

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Fits as `GenerativeModel.fit` does.

        Raises:
            ValueError: As for `GenerativeModel.fit`, or if arrays `(x, y)`, or the first batch of a
                dataset, have images without a label outside of the unlabelled stream.
        """
        if isinstance(x, tf.data.Dataset):
            _check_labels_of_all(checked_data.unpack(self, next(iter(x.take(1))))[1])
        elif hasattr(x, "shape"):
            _check_labels_of_all(y)
        return super().fit(x, y, *args, **kwargs)

    # The objective -----------------------------------------------------------------------------

    def objective(self, x: tf.Tensor, y: Any, seed: tf.Tensor, training: bool) -> tuple[dict, dict]:
        unlabelled_seed, labelled_seed = tfp.random.split_seed(seed)
        if not training:
            return self._evaluation_objective(x, y, unlabelled_seed)
        x_labelled, x_unlabelled = x if isinstance(x, tuple) else (x, None)
        if y is None:
            _check_labels_of_all(y)
        y = tf.cast(y, tf.int32)
        # One pass of the classifier for both streams; the labelled rows are the last rows.
        log_q, rows = self._log_q(joined(x), training), row_count(x_labelled)
        log_q_labelled = log_q[-rows:]
        labelled = self.labelled_bound(x_labelled, y, labelled_seed, training)
        error = -tf.reduce_sum(tf.one_hot(y, self.num_classes) * log_q_labelled, -1)
        if x_unlabelled is None:
            bound, loss = labelled, labelled.loss + self.alpha * error
        else:
            unlabelled = self.unlabelled_bound(
                x_unlabelled, log_q[:-rows], unlabelled_seed, training
            )
            s, r = self._shares(x_labelled, x_unlabelled)
            losses = (
                (1 - s) / (1 - r) * unlabelled.loss,
                s / r * labelled.loss + self.alpha / r * error,
            )
            loss = tf.concat(losses, 0)
            bound = Bound(*(tf.concat(t, 0) for t in zip(unlabelled, labelled, strict=True)))
        accuracy = tf.cast(tf.argmax(log_q_labelled, -1, tf.int32) == y, tf.float32)
        return {"vae": loss}, bound.reported() | {"accuracy": accuracy}

    def labelled_bound(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, training: bool) -> Bound:
        """L(x, y), `[K * B]`.

        Args:
            x: Images (codes for `M1M2`) `[B, ...]`.
            y: Labels `[K * B]`, K for each row: see `AddClass`.
            seed: Seed of the draws of z.
            training: Whether the networks are in training mode.
        """
        q, p = self.posterior(x, y, training=training), self.prior(y)
        z = q.sample(self.num_samples, seed=seed)
        likelihood = self.likelihood(z, y, training=training)
        log_prob = self._log_likelihood(likelihood, repeat_for_labels(x, y))
        log_classes = math.log(self.num_classes)
        rate = charged = elbo.mean_over_draws(kl(q, p, z)) + log_classes
        if training and self.free_bits:
            charged = elbo.with_free_bits(q, p, self.free_bits) + log_classes
        charged *= self._weight_of_rate(training)
        return Bound(-elbo.mean_over_draws(log_prob), rate, charged)

    def unlabelled_bound(
        self, x: tf.Tensor, log_q: tf.Tensor, seed: tf.Tensor, training: bool
    ) -> Bound:
        """U(x), `[B]`.

        Args:
            x: Images (codes for `M1M2`) `[B, ...]`.
            log_q: log q(y | x), `[B, C]`.
            seed: Seed of the draws of z for all classes.
            training: Whether the networks are in training mode.
        """
        rows, q = row_count(x), tf.exp(log_q)
        bound = self.labelled_bound(x, self._every_class(rows), seed, training)
        distortion, rate, charged = (
            tf.transpose(tf.reshape(term, [self.num_classes, rows])) for term in bound
        )
        charged += self._weight_of_rate(training) * log_q
        return Bound(*(tf.reduce_sum(q * t, -1) for t in (distortion, rate + log_q, charged)))

    def _weight_of_rate(self, training):
        return value_at(self.rate_weight, self.step) if training else 1.0

    def _evaluation_objective(self, x, y, seed):
        if y is None or isinstance(x, tuple):
            none = tf.fill([row_count(x if y is None else x[1])], NO_LABEL)
            y = none if y is None else tf.concat([none, tf.cast(y, tf.int32)], 0)
        x, y = joined(x), tf.cast(y, tf.int32)
        log_q = self._log_q(x, False)
        bound = self.unlabelled_bound(x, log_q, seed, False)
        right = tf.cast(tf.argmax(log_q, -1, tf.int32) == y, tf.float32)
        known = tf.cast((y >= 0) & (y < self.num_classes), tf.float32)
        return {"vae": bound.loss}, bound.reported() | {"accuracy": (right, known)}

    def _log_q(self, x, training):
        """log q(y | x), `[B, C]`."""
        return tf.nn.log_softmax(tf.cast(self.classifier(x, training=training), tf.float32))

    def _log_likelihood(self, p, x):
        return p.log_prob(x)

    def _every_class(self, rows):
        """Labels `[C * rows]`: the first class `rows` times, then the second class, and so on."""
        return tf.repeat(tf.range(self.num_classes), rows)

    def _shares(self, x_labelled, x_unlabelled):
        """s and r: the shares of labelled images in the data set and in the batch."""
        if self.labelled_share is None:
            raise ValueError(
                "Training on two streams needs the share of labelled images in the data set: call "
                "model.adapt(data), or set model.labelled_share. "
                "Received: labelled_share=None."
            )
        labelled, unlabelled = row_count(x_labelled), row_count(x_unlabelled)
        return self.labelled_share, tf.cast(labelled / (labelled + unlabelled), tf.float32)

    # Inference ---------------------------------------------------------------------------------

    def codes(self, x: Any) -> tf.Tensor:
        """The input of classifier and posterior for images `x[B, H, W, C]`, outside of training."""
        return self._images(x)

    def abilities(self) -> tuple[str, ...]:
        return (*super().abilities(), "classify")

    def classify(self, x: Array) -> tf.Tensor:
        """q(y | x), probabilities `[B, C]`, for images `x[B, H, W, C]` in [0, 1]."""
        return tf.exp(self._log_q(self.codes(x), False))

    def encode(self, x: Array, y: Any = None) -> tf.Tensor:
        """The mean of q(z | x, y), `[B, D]`. The most probable class replaces a missing label."""
        codes = self.codes(x)
        return self.posterior(codes, self._or_most_probable(codes, y)).mean()

    def decode(self, z: Array, y: Any = None) -> tf.Tensor:
        """The mean of p(x | y, z), or of p(x | z) if the label is missing: `[B, H, W, C]`."""
        z = self._latents(z)
        rows = tf.shape(z)[0]

        def of_all():
            images = self._decode(tf.tile(z, [self.num_classes, 1]), self._every_class(rows))
            return tf.reduce_mean(
                tf.reshape(images, [self.num_classes, rows, *self.image_shape]), 0
            )

        return self._by_label(rows, y, lambda labels: self._decode(z, labels), of_all)

    def _decode(self, z, y):
        return as_images(self.likelihood(z, y).mean())

    def reconstruct(self, x: Array, y: Any = None) -> tf.Tensor:
        """`decode(encode(x, y), y)`. The most probable class replaces a missing label."""
        codes = self.codes(x)
        y = self._or_most_probable(codes, y)
        return self._decode(self.posterior(codes, y).mean(), y)

    def sample(self, n: int, y: Any = None, seed: Any = None) -> tf.Tensor:
        """Decodes `n` draws of z: `[n, H, W, C]`. Missing labels are drawn from p(y)."""
        n = as_count(n, "n")
        class_seed, seed = tfp.random.split_seed(as_seed(seed))
        drawn = tf.random.stateless_uniform([n], class_seed, 0, self.num_classes, tf.int32)
        y = self._filled(y, drawn)
        return self._decode(self.prior(y).sample(n, seed=seed), y)

    def interpolate(
        self, a: Array, b: Array, n: int = 10, spherical: bool = False, y: Any = None
    ) -> tf.Tensor:
        """As for `GenerativeModel`. If y=None and `a` is an image, its class is used throughout."""
        if y is None and len(np.shape(a)) == 3:
            y = tf.argmax(self.classify(np.asarray(a)[None])[0], output_type=tf.int32)
        return super().interpolate(a, b, n, spherical, y)

    def log_prob(
        self, x: Array, num_samples: int = 100, y: Any = None, seed: Any = None
    ) -> tf.Tensor:
        """log p(x | y), or log p(x) if the label is missing, `[B]` in nats.

        log p(x) is log sum_y p(y) p(x | y), with an exact sum over classes. Each p(x | y) is
        estimated with `num_samples` importance samples, as for a `VAE`. In expectation the result
        is a lower bound that rises with the number of samples.
        """
        x, seed = self._images(x), as_seed(seed)
        rows = tf.shape(x)[0]

        def by_class(labels):
            return elbo.log_mean_weight(
                lambda here: self._log_weight(x, labels, here), tf.size(labels), num_samples, seed
            )

        def of_all():
            estimate = tf.reshape(by_class(self._every_class(rows)), [self.num_classes, rows])
            return tf.reduce_logsumexp(estimate, 0) - math.log(self.num_classes)

        return tf.ensure_shape(self._by_label(rows, y, by_class, of_all), x.shape[:1])

    def _log_weight(self, x, y, seed):
        """log p(x, z | y) / q(z | x, y) at one draw of z, for each of the labels `y[K * B]`."""
        q, p = self.posterior(x, y), self.prior(y)
        z = q.sample(seed=seed)
        log_likelihood = self._log_likelihood(self.likelihood(z, y), repeat_for_labels(x, y))
        return log_likelihood + p.log_prob(z) - q.log_prob(z)

    def _or_most_probable(self, codes, y):
        return self._filled(y, tf.argmax(self.classifier(codes), -1, tf.int32))

    def _filled(self, y, other):
        """`y` with `other[rows]` in place of missing labels."""
        if y is None:
            return other
        y = self._labels(tf.size(other), y)
        return tf.where(y >= 0, y, other)

    def _by_label(self, rows, y, by_class, of_all):
        """`by_class(y)` for rows with a label, `of_all()` for the other rows: `[rows, ...]`."""
        if y is None:
            return of_all()
        y = self._labels(rows, y)
        known = y >= 0

        def both():
            own, other = by_class(y), of_all()
            return tf.where(tf.reshape(known, [-1] + [1] * (own.shape.rank - 1)), own, other)

        # The computation for all classes takes C times as long, so avoid it if possible.
        return tf.cond(tf.reduce_all(known), lambda: by_class(y), both)

    def _labels(self, rows, y):
        """`y` as int32 `[rows]`, each below C."""
        return self.conditions(rows, y)


def _check_classes(model):
    """Checks that q(z | x, y) and p(x | y, z) take as many classes as the classifier returns."""
    for name in ("posterior", "likelihood"):
        part = getattr(model, name)
        layers = [layer for layer in layers_in(part) if isinstance(layer, AddClass)]
        classes = {layer.num_classes for layer in layers} or {model.num_classes}
        if part.condition is None or classes != {model.num_classes}:
            received = "no class" if part.condition is None else f"{min(classes)} classes"
            raise ValueError(
                f"The classifier of this {type(model).__name__} returns logits of "
                f"{model.num_classes} classes, and its `{name}` must take a class y[B] of the same "
                f"number. Received: a network that takes {received}."
            )


def joined(x: Any) -> tf.Tensor:
    """Both streams in one tensor, unlabelled rows first. One stream is returned unchanged."""
    return tf.concat(x[::-1], 0) if isinstance(x, tuple) else x


def repeat_for_labels(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """`x[B, ...]` repeated for each of the K labels `y[K * B]` of a row: `[K * B, ...]`."""
    times = tf.shape(y)[0] // tf.shape(x)[0]
    return tf.tile(x, tf.concat([[times], tf.ones([tf.rank(x) - 1], tf.int32)], 0))


def _check_labels_of_all(y):
    values = np.asarray(y)
    # `fit` refuses values that are not numbers later.
    missing = int(np.sum(values < 0)) if values.dtype.kind in "biuf" else 0
    if y is None or missing:
        received = f"{missing} of {len(y)} images without a label" if missing else "y=None"
        raise ValueError(f"{M2.needs_labels} Received: {received}.")


@extends(elbo.parts, without=("condition",))
def parts(
    image_shape: Sequence[int],
    *,
    num_classes: int = 10,
    latent_dim: int = 50,
    network: str = "mlp",
    hidden: Sequence[int] = (500,),
    classifier_hidden: Sequence[int] = (500,),
    filters: Sequence[int] = (32, 64),
    dropout: float = 0.0,
    activation: str = "softplus",
    likelihood: str = "bernoulli",
    likelihood_scale: float = 1.0,
    levels: int = 256,
    start_at_mean: bool = True,
    family: Family | None = None,
    num_samples: int = 1,
    warm_up_steps: int = 0,
    free_bits: float = 0.0,
    alpha: float = 0.1,
    **options: Any,
) -> dict[str, Any]:
    """The arguments of `M2`, for builders. The options are those of `m2`, and:

    Args:
        image_shape: The shape of the data without the batch axis: of images, or of codes.
        family: The family of p(x | y, z); `None` for the named likelihood.
    """
    by_name.check_density(options.get("posterior", "normal"), "An M2")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be a share in [0, 1). Received: {dropout}.")
    shape = tuple(image_shape)
    family = family or by_name.likelihood(likelihood, levels, likelihood_scale)
    classifier = networks.encoder(
        network, shape, num_classes, classifier_hidden, filters, activation
    )
    params = (*shape[:-1], family.params_per_value * shape[-1])

    def encoder(outputs):
        return class_network(shape, (outputs,), num_classes, hidden, activation)

    return {
        "classifier": _with_dropout(classifier, dropout) if dropout else classifier,
        **latent_parts(shape, latent_dim=latent_dim, encoder=encoder, **options),
        "likelihood": Conditional(
            class_network((latent_dim,), params, num_classes, hidden[::-1], activation), family
        ),
        "alpha": alpha,
        "start_at_mean": start_at_mean,
        "num_samples": num_samples,
        "rate_weight": elbo.warm_up(warm_up_steps),
        "free_bits": free_bits,
    }


@extends(parts, without=("family",))
def m2(image_shape: Sequence[int], **options: Any) -> M2:
    """An `M2` of multilayer perceptrons, by default of the paper's sizes.

    Args:
        image_shape: Height, width, channels.
        num_classes: C.
        latent_dim: D of the latents z.
        network: "mlp", "conv" or "resnet", for the classifier.
        hidden: Units of the hidden layers of q(z | x, y), at least one; p(x | y, z) mirrors them.
            The first hidden layer of each takes the class.
        classifier_hidden: Units of the hidden dense layers of the classifier.
        filters: Channels of the convolutions or blocks of the classifier, for "conv" and "resnet".
        dropout: Dropout rate before each dense layer of the classifier, in [0, 1).
        activation: Activation of the hidden layers.
        alpha: Weight of the classification loss.
        **options: The other options of `zoo.models.vae`, for q(z | x, y), p(z), p(x | y, z) and the
            bound.

    Raises:
        ValueError: If a name is unknown, an option is out of range, `hidden` is empty, or a part has
            no density.
    """
    return M2(**parts(image_shape, **options))


def _with_dropout(network, rate):
    """A sequential network with dropout before each dense layer."""
    layers = []
    for layer in network.layers:
        dense = isinstance(layer, keras.layers.Dense)
        layers += [keras.layers.Dropout(rate), layer] if dense else [layer]
    return keras.Sequential([keras.Input(network.input_shape[1:]), *layers], name="classifier")


def class_network(
    inputs: Sequence[int],
    outputs: Sequence[int],
    num_classes: int,
    hidden: Sequence[int],
    activation: str,
) -> keras.Model:
    """A multilayer perceptron from a tensor `[B, *inputs]` and a class `[B]` to `[B, *outputs]`.

    The first of the `hidden` layers takes the class.
    """
    networks.check_not_gated(activation, "A network with a class")
    if not hidden:
        raise ValueError(
            "The first hidden layer takes the class, so `hidden` needs at least one layer. "
            f"Received: hidden={hidden!r}."
        )
    context, y = keras.Input(tuple(inputs)), keras.Input((), dtype="int32")
    h = keras.layers.Dense(hidden[0])(keras.layers.Flatten()(context))
    h = keras.layers.Activation(activation)(AddClass(num_classes)(h, y))
    for units in hidden[1:]:
        h = keras.layers.Dense(units, activation)(h)
    # The last product is the largest: compute it in the precision of the other layers, and cast
    # its result to float32.
    h = keras.layers.Dense(math.prod(outputs))(h)
    h = keras.layers.Activation("linear", dtype="float32")(keras.layers.Reshape(tuple(outputs))(h))
    return keras.Model([context, y], h)
