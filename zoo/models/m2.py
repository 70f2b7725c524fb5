"""Semi-supervised learning with variational autoencoders: M1, M2, and M1+M2.

Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014.
https://arxiv.org/abs/1406.5298

M1 is a `VAE` and a classifier on its codes: `svm_on_codes`. M2 is `M2`, M1+M2 is
`M1M2`.
"""

import math
import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.datasets import ImageData
from zoo.datasets.labelled import labelled_rows as count_labelled
from zoo.distributions import (
    Conditional,
    DiagonalNormal,
    Prior,
    StandardNormal,
    kl,
    likelihood_family,
)
from zoo.model import GenerativeModel, NonFiniteError, as_images, as_seed
from zoo.models.vae import VAE, log_mean_weight, vae_mlp

tfd = tfp.distributions

NO_LABEL = -1
"""The label of an image without one."""


@keras.saving.register_keras_serializable("zoo")
class AddClass(keras.layers.Layer):
    """Adds to `h[B, units]` a learned vector of the class `y[B]`, an int in 0..num_classes - 1.

    With more classes than rows of `h`, say `y[K * B]`, each row serves K of them: row i of the
    result `[K * B, units]` is that of `h[i % B]`. What comes before this layer in a network, which
    does not depend on the class, is then computed once for all classes.
    """

    def __init__(self, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, h_shape, y_shape):
        self.kernel = self.add_weight(name="kernel", shape=(self.num_classes, h_shape[-1]))
        self.built = True

    def call(self, h, y):
        vectors = tf.matmul(tf.one_hot(y, self.num_classes, dtype=h.dtype), self.kernel)
        return tf.tile(h, [tf.shape(y)[0] // tf.shape(h)[0], 1]) + vectors

    def compute_output_shape(self, h_shape, y_shape):
        return (None, h_shape[-1])

    def get_config(self):
        return super().get_config() | {"num_classes": self.num_classes}


@keras.saving.register_keras_serializable("zoo")
class M2(GenerativeModel):
    """M2: the class is a latent variable, seen for some of the images.

    p(x, y, z) = p(y) p(z) p(x | y, z), with q(y | x) q(z | x, y). p(y) is uniform over C classes.
    Per image, as bounds on -log p(x, y) and on -log p(x) (Kingma et al., 2014, eqs. 6 and 7):

        L(x, y) = E_{q(z | x, y)}[-log p(x | y, z)] + KL(q(z | x, y) || p(z)) - log p(y)
        U(x)    = sum_y q(y | x) (L(x, y) + log q(y | x))

    and over the data set, of N images of which N_l are labelled (eqs. 8 and 9), with the paper's
    alpha written as `alpha` N:

        J = sum_labelled L + sum_unlabelled U + alpha N mean_labelled[-log q(y | x)]

    The public code multiplies each labelled -log q(y | x) by 0.1 N / N_l, which is the same. The
    sum over y is exact, all classes in one pass; one draw of z for each.

    Weights are those of the data set, not of the batch: with s = N_l / N and a share r of labelled
    rows in each batch, a labelled row costs (s / r) L + (alpha / r) (-log q(y | x)), an unlabelled
    row (1 - s) / (1 - r) U, and the expected mean over a batch is J / N for any r.

    `y[B]` is the class, an int in 0..C-1; -1, or any number below 0, is no label, and y=None says so
    of all images; it is the same in every method, row by row. A number from C on is an error. In
    evaluation the loss is U for every image, and labels serve for `accuracy` alone: the share of the
    labelled images whose class is the most probable one, 0 where there are none. `distortion` and
    `rate` are those under q(y | x), or of the label in training; the rate is that of y and z, so that U = distortion + rate.

    Args:
        classifier: Network from `x[B, ...]` to the logits `[B, C]` of q(y | x).
        posterior: q(z | x, y), a `Conditional` whose network takes `x` and the labels `y`, with an
            `AddClass` in which they meet.
        likelihood: p(x | y, z), a `Conditional` whose network takes `z[B, D]` and `y`.
        prior: p(z), a `Prior` over `z[D]`.
        labelled_share: s, the share of the training images that have a label, in (0, 1]. Set by
            `adapt`. `None` where all have one, or none has.
        labelled_rows: r, the share of each training batch that has a label, in (0, 1], rounded up to
            whole rows, which are the last ones: so `zoo.datasets` lays `stratified` batches out, and
            then no class but its own is looked at for a labelled row. `None` where labelled rows may
            lie anywhere, in the share s in the mean. Set by `adapt`.
        alpha: Weight of the classification loss relative to the size of the data set, from 0 on;
            0.1 in the paper.

    Raises:
        ValueError: If a number is out of range, or `labelled_rows` is given alone.

    Example:
        >>> data = zoo.datasets.load("digits", binarize="dynamic", num_labels=50)
        >>> m2 = zoo.models.m2.m2_mlp((8, 8, 1), latent_dim=5, hidden=(32,))
        >>> m2.adapt(data)
        >>> m2.compile("adam")
        >>> batches = data.batches("train", 100, shuffle=True, repeat=True, stratified=True)
        >>> history = m2.fit(batches, steps_per_epoch=10, verbose=0)
        >>> m2.classify(data.arrays("test")[0]).shape
        TensorShape([447, 10])
    """

    terms = ("distortion", "rate", "accuracy")
    condition_is_optional = True
    stratified_batches = True
    adapted = ("labelled_share", "labelled_rows")

    def __init__(
        self,
        classifier: keras.Model,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        labelled_share: float | None = None,
        labelled_rows: float | None = None,
        alpha: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, share in {
            "labelled_share": labelled_share,
            "labelled_rows": labelled_rows,
        }.items():
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"`{name}` must be a share in (0, 1]. Received: {share}.")
        if labelled_rows is not None and labelled_share is None:
            raise ValueError(
                "The weights of rows follow from `labelled_rows` and `labelled_share` together. "
                f"Received: labelled_rows={labelled_rows}, labelled_share=None."
            )
        if not 0 <= alpha < math.inf:
            raise ValueError(f"`alpha` must be a number from 0 on. Received: {alpha}.")
        self.classifier = classifier
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior
        self.labelled_share = labelled_share
        self.labelled_rows = labelled_rows
        self.alpha = alpha

    def players(self):
        return {"vae": [self.classifier, self.posterior, self.likelihood, self.prior]}

    @property
    def num_classes(self) -> int:
        """C."""
        return self.classifier.output_shape[-1]

    @property
    def image_shape(self):
        return tuple(self.posterior.network.inputs[0].shape[1:])

    def adapt(self, data):
        """Takes the share of labelled images, and the layout of batches, from the data.

        Raises:
            ValueError: If it has no labels, or of more classes than the model.
        """
        names = data.label_names
        if not data.has_labels or names is None or len(names) > self.num_classes:
            have = "no integer labels" if names is None else f"{len(names)} classes"
            raise ValueError(
                f"A {type(self).__name__} of {self.num_classes} classes learns from data with as "
                f"many, or fewer. Received: '{data.name}' with {have}."
            )
        self.labelled_share = data.labelled_share
        self.labelled_rows = data.labelled_rows or 1.0

    def fit(self, x=None, y=None, *args, **kwargs):
        """As for any model.

        Raises:
            ValueError: Also for arrays with labels that the model has no class for, or without
                labels where it cannot be trained on them.
            zoo.NonFiniteError: Also if a row of a batch has no label where one must be.
        """
        if hasattr(x, "shape"):
            self._check_labels(y)
            self._check_arrays(y)
        try:
            return super().fit(x, y, *args, **kwargs)
        except NonFiniteError as error:
            if (step := self._label_missing_at()) is None:
                raise
            raise NonFiniteError(
                f"Training stopped: at step {step} a row has no label, or that of no class, where "
                f"{self._wanted()}"
            ) from error

    def _check_arrays(self, y):
        missing = y is None or int(np.sum(np.asarray(y) < 0))
        needed = self.labelled_rows is not None or (y is not None and self.labelled_share is None)
        if needed and missing:
            count = "y=None" if y is None else f"{missing} of {len(y)} images without a label"
            raise ValueError(f"Images have no label, where {self._wanted()} Received: {count}.")

    def _wanted(self):
        reason = "labelled_share=None says that all have one."
        if self.labelled_rows is not None:
            rows = f"labelled_rows={self.labelled_rows}"
            reason = f"{rows} says that the last rows of each batch have one."
        return (
            f"{reason} Train on data.batches('train', batch_size, shuffle=True, repeat=True, "
            "stratified=True) after adapt(data); or on any batches with labelled_rows=None and "
            "labelled_share, the share of images that have a label."
        )

    def _label_missing_at(self):
        """The step at which the loss was made NaN by `objective`, all else being finite, or None."""
        steps = self.first_non_finite.result().numpy()
        first = dict(zip(self.first_non_finite.names, steps, strict=True))
        loss = first.pop("loss")
        return int(loss) if loss >= 0 and loss not in first.values() else None

    def objective(self, x, y, seed, training):
        some_known = y is not None
        y = tf.cast(y, tf.int32) if some_known else tf.fill(tf.shape(x)[:1], NO_LABEL)
        logits = tf.cast(self.classifier(x, training=training), tf.float32)
        log_q = tf.nn.log_softmax(logits)
        right = tf.cast(tf.argmax(logits, -1, tf.int32) == y, tf.float32)
        known = (y >= 0) & (y < self.num_classes)
        accuracy = (right, tf.cast(known, tf.float32))
        few = self._labelled_last(x) if training else 0
        # Rows to look at with every class, and those to look at with their own alone.
        many = tf.shape(x)[0] if x.shape[0] is None else x.shape[0] - few
        distortion, rate, own = self._costs(x, y, many, few, seed, training)
        q, log_c = tf.exp(log_q[:many]), math.log(self.num_classes)
        free = {
            "distortion": tf.reduce_sum(q * distortion, -1),
            "rate": tf.reduce_sum(q * (rate + log_q[:many]), -1) + log_c,
        }
        if not training:
            return {"vae": free["distortion"] + free["rate"]}, free | {"accuracy": accuracy}
        error = -tf.reduce_sum(log_q * tf.one_hot(y, self.num_classes), -1)
        if not few:
            mine = tf.one_hot(y, self.num_classes)
            terms = {
                name: tf.where(known, tf.reduce_sum(mine * cost, -1) + constant, free[name])
                for name, cost, constant in (("distortion", distortion, 0), ("rate", rate, log_c))
            }
            loss = (
                terms["distortion"]
                + terms["rate"]
                + self.alpha / (self.labelled_share or 1.0) * error
            )
            if some_known and self.labelled_share is None:
                # The weight of the others is not known, and no cost would be right.
                loss = tf.where(known, loss, np.nan)
            return {"vae": loss}, terms | {"accuracy": accuracy}
        s, r = self.labelled_share, few / (many + few)
        terms = {
            "distortion": tf.concat([free["distortion"], own[0]], 0),
            "rate": tf.concat([free["rate"], own[1] + log_c], 0),
        }
        # A row without the label that its place promises is an error, and no cost would be right.
        weight = tf.where(known[many:], s / r, np.nan)
        weights = tf.concat([tf.fill([many], (1 - s) / (1 - r) if many else 0.0), weight], 0)
        errors = tf.concat([tf.zeros([many]), self.alpha / r * error[many:]], 0)
        loss = weights * (terms["distortion"] + terms["rate"]) + errors
        return {"vae": loss}, terms | {"accuracy": right[many:]}

    def _labelled_last(self, x) -> int:
        """How many rows of a training batch have a label by their place, the last ones."""
        if self.labelled_rows is None:
            return 0
        if x.shape[0] is None:
            raise ValueError(
                f"With labelled_rows={self.labelled_rows} a training batch has a known number of "
                "rows: batch with `drop_remainder=True`, or use labelled_rows=None. "
                f"Received: images of shape {x.shape}."
            )
        return count_labelled(x.shape[0], self.labelled_rows)

    def _costs(self, x, y, many, few, seed, training):
        """Distortion and rate `[many, C]` of the first rows, and `([few], [few])` of the last.

        Both of z alone: nothing of y's.
        """
        parts = []
        if not isinstance(many, int) or many:
            parts.append((x[:many], self._every_class(many)))
        if few:
            parts.append((x[-few:], y[-few:]))
        qs = [self.posterior(xs, ys, training=training) for xs, ys in parts]
        seeds = tfp.random.split_seed(seed, 2)
        zs = [q.sample(seed=s) for q, s in zip(qs, seeds, strict=False)]
        labels = [ys for _, ys in parts]
        rates = [kl(q, self.prior(ys), z) for q, ys, z in zip(qs, labels, zs, strict=True)]
        # One pass through the decoder, where most of the work is.
        p = self.likelihood(tf.concat(zs, 0), tf.concat(labels, 0), training=training)
        targets = [_as_many(xs, ys) for xs, ys in parts]
        distortion = -self._log_likelihood(p, tf.concat(targets, 0))
        rate = tf.concat(rates, 0)
        all_classes = many * self.num_classes

        def by_class(values):
            return tf.transpose(tf.reshape(values[:all_classes], [self.num_classes, many]))

        own = (distortion[all_classes:], rate[all_classes:])
        return by_class(distortion), by_class(rate), own

    def _log_likelihood(self, p, x):
        return p.log_prob(x)

    def _every_class(self, rows):
        """`[C * rows]` labels: those of the first class, then of the second, and so on."""
        return tf.repeat(tf.range(self.num_classes), rows)

    # Using -------------------------------------------------------------------------------------

    def codes(self, x) -> tf.Tensor:
        """What classifier and posterior see of images `x[B, H, W, C]` outside of training."""
        return self._images(x)

    def abilities(self):
        return (*super().abilities(), "classify")

    def classify(self, x) -> tf.Tensor:
        """q(y | x), probabilities `[B, C]`, for images `x[B, H, W, C]` in [0, 1]."""
        return tf.nn.softmax(tf.cast(self.classifier(self.codes(x)), tf.float32))

    def encode(self, x, y=None):
        """The mean of q(z | x, y), `[B, D]`; where y is not known, with the most probable class.

        Args:
            x: Images `[B, H, W, C]` in [0, 1].
            y: Labels `[B]`, -1 where there is none; `None` for none at all.
        """
        codes = self.codes(x)
        return self.posterior(codes, self._or_most_probable(codes, y)).mean()

    def decode(self, z, y=None):
        """The means `[B, H, W, C]` of p(x | y, z); where y is not known of p(x | z), over classes."""
        z = tf.cast(z, tf.float32)
        rows = tf.shape(z)[0]

        def of_all():
            images = self._decode(tf.tile(z, [self.num_classes, 1]), self._every_class(rows))
            return tf.reduce_mean(
                tf.reshape(images, [self.num_classes, rows, *self.image_shape]), 0
            )

        return self._where_known(rows, y, lambda labels: self._decode(z, labels), of_all)

    def _decode(self, z, y):
        return as_images(self.likelihood(z, y).mean())

    def reconstruct(self, x, y=None):
        """`decode(encode(x, y), y)`, where y is not known with the most probable class."""
        codes = self.codes(x)
        y = self._or_most_probable(codes, y)
        return self._decode(self.posterior(codes, y).mean(), y)

    def sample(self, n, y=None, seed=None):
        """Decodes `n` draws of z, each with its class: `[n, H, W, C]`.

        Args:
            n: Number of images.
            y: Labels `[n]`, or one for all; those which are -1, or all with `None`, are drawn from
                p(y).
            seed: An int or a `[2]` int tensor for a repeatable draw; `None` for a fresh one.
        """
        class_seed, seed = tfp.random.split_seed(as_seed(seed))
        drawn = tf.random.stateless_uniform([n], class_seed, 0, self.num_classes, tf.int32)
        y = self._filled(y, drawn)
        return self._decode(self.prior(y).sample(n, seed=seed), y)

    def interpolate(self, a, b, n=10, spherical=False, y=None):
        """As for any model; with y=None and an image `a`, with the class of that."""
        if y is None and len(np.shape(a)) == 3:
            y = tf.argmax(self.classify(np.asarray(a)[None])[0], output_type=tf.int32)
        return super().interpolate(a, b, n, spherical, y)

    def log_prob(self, x, num_samples: int = 100, y=None, seed=None) -> tf.Tensor:
        """log p(x), or log p(x | y), `[B]` in nats, with `num_samples` importance samples of z.

        Where y is not known: log sum_y p(y) p(x | y), the sum over classes exact, and each p(x | y)
        estimated as a `VAE` does. In expectation a lower bound that rises with the number of samples.
        """
        x, seed = self._images(x), as_seed(seed)
        rows = tf.shape(x)[0]

        def given(labels):
            return log_mean_weight(
                lambda here: self._log_weight(x, labels, here), tf.size(labels), num_samples, seed
            )

        def of_all():
            estimate = tf.reshape(given(self._every_class(rows)), [self.num_classes, rows])
            return tf.reduce_logsumexp(estimate, 0) - math.log(self.num_classes)

        return tf.ensure_shape(self._where_known(rows, y, given, of_all), x.shape[:1])

    def _log_weight(self, x, y, seed):
        """log p(x, z | y) / q(z | x, y) at one draw of z, for each of the labels `y[K * B]`."""
        q, p = self.posterior(x, y), self.prior(y)
        z = q.sample(seed=seed)
        log_likelihood = self._log_likelihood(self.likelihood(z, y), _as_many(x, y))
        return log_likelihood + p.log_prob(z) - q.log_prob(z)

    def _or_most_probable(self, codes, y):
        return self._filled(y, tf.argmax(self.classifier(codes), -1, tf.int32))

    def _filled(self, y, other):
        if y is None:
            return other
        y = self._labels(tf.size(other), y)
        return tf.where(y >= 0, y, other)

    def _where_known(self, rows, y, of_class, of_all):
        """`of_class(y)` for rows with a label and `of_all()` for those without, `[rows, ...]`."""
        if y is None:
            return of_all()
        y = self._labels(rows, y)
        known = y >= 0

        def both():
            own, other = of_class(y), of_all()
            return tf.where(tf.reshape(known, [-1] + [1] * (own.shape.rank - 1)), own, other)

        # All classes take C times as long: not where there is no need.
        return tf.cond(tf.reduce_all(known), lambda: of_class(y), both)

    def _labels(self, rows, y):
        """`y` as `[rows]` int32, of classes that there are, or below 0."""
        y = self.conditions(rows, y)
        if tf.get_static_value(y) is None:
            expected = f"A label is an int below {self.num_classes}, the number of classes."
            tf.debugging.assert_less(y, self.num_classes, expected)
        return y


@keras.saving.register_keras_serializable("zoo")
class M1M2(M2):
    """M1+M2: an M2 whose data are the codes z1 of a trained M1.

    p(x, y, z1, z2) = p(y) p(z2) p(z1 | y, z2) p(x | z1) (Kingma et al., 2014, section 2.1). M1 is
    frozen: no player changes it. In training z1 is drawn from q(z1 | x) afresh in each step, else
    it is the mean. The loss is that of `M2`, in nats of z1.

    A dimension of z1 which M1 does not use is N(0, 1) noise in training and a constant in
    evaluation: `adapt` measures which dimensions are used, and all others are left out. Classifier
    and posterior see 0 in their place, the likelihood does not count them, and images are decoded
    with 0.

    `log_prob` of images draws z1 from q(z1 | x) as well; unused dimensions then have M1's prior.

    Args:
        classifier, posterior, likelihood, prior: As for `M2`, of z1 `[B, D1]` in place
            of images. The dimensions of the likelihood must be independent.
        first_posterior: M1's q(z1 | x); its weights are frozen by this.
        first_likelihood: M1's p(x | z1); likewise. M1's prior is N(0, I).
        **kwargs: As for `M2`.
    """

    requires: Mapping[str, str] = {"first": "m1"}

    def __init__(
        self,
        classifier: keras.Model,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        first_posterior: Conditional,
        first_likelihood: Conditional,
        **kwargs,
    ):
        super().__init__(classifier, posterior, likelihood, prior, **kwargs)
        for part in (first_posterior, first_likelihood):
            part.trainable = part.network.trainable = False
        self.first_posterior = first_posterior
        self.first_likelihood = first_likelihood
        (dim,) = self.posterior.network.inputs[0].shape[1:]
        self.used = self.add_weight(name="used", shape=(dim,), initializer="ones", trainable=False)

    @property
    def image_shape(self):
        return tuple(self.first_posterior.network.inputs[0].shape[1:])

    def adapt(self, data, least: float = 0.1):
        """As for `M2`, and measures which dimensions of z1 are used.

        A dimension is if the standard deviation of its mean, E[z1 | x], over the first 1,000
        training images is above `least`, 0.1 as in the public code.

        Raises:
            ValueError: If no dimension is.
        """
        super().adapt(data)
        x, _ = data.arrays("train", 1000)
        spread = np.std(self.first_posterior(x).mean(), 0)
        if not (spread > least).any():
            raise ValueError(
                f"No dimension of M1's codes varies by more than {least} over images: is M1 "
                f"trained? Received: standard deviations up to {spread.max():.3g}."
            )
        self.used.assign(spread > least)

    def objective(self, x, y, seed, training):
        first_seed, seed = tfp.random.split_seed(seed)
        q = self.first_posterior(x)
        z = q.sample(seed=first_seed) if training else q.mean()
        return super().objective(self._used(z), y, seed, training)

    def codes(self, x):
        """The mean of q(z1 | x), `[B, D1]`, with 0 in dimensions that are not used."""
        return self._used(self.first_posterior(self._images(x)).mean())

    def _used(self, z):
        return z * tf.convert_to_tensor(self.used)

    def _log_likelihood(self, p, x):
        return tf.reduce_sum(self._used(p.distribution.log_prob(x)), -1)

    def _decode(self, z, y):
        z = self._used(self.likelihood(z, y).mean())
        return as_images(self.first_likelihood(z).mean())

    def _log_weight(self, x, y, seed):
        first_seed, seed = tfp.random.split_seed(seed)
        q = self.first_posterior(x)
        z = q.sample(seed=first_seed)
        unused = (1 - tf.convert_to_tensor(self.used)) * tfd.Normal(0.0, 1.0).log_prob(z)
        first = self.first_likelihood(z).log_prob(x) + tf.reduce_sum(unused, -1) - q.log_prob(z)
        return super()._log_weight(self._used(z), y, seed) + _as_many(first, y)


def _as_many(x, y):
    """`x[B, ...]` over and over, once for each time that the labels `y` are B."""
    times = tf.shape(y)[0] // tf.shape(x)[0]
    return tf.tile(x, tf.concat([[times], tf.ones([tf.rank(x) - 1], tf.int32)], 0))


def error(model: M2, data: ImageData, split: str = "test", batch_size: int = 500) -> float:
    """Share of a split's labelled images whose most probable class is not theirs, in [0, 1].

    Raises:
        ValueError: If none has a label.
    """
    x, y = data.arrays(split)
    starts = range(0, len(x), batch_size)
    best = np.concatenate([np.argmax(model.classify(x[i : i + batch_size]), -1) for i in starts])
    return _error(best, y, data, split)


def svm_on_codes(
    model: GenerativeModel,
    data: ImageData,
    split: str = "test",
    penalty: float = 1.0,
    batch_size: int = 500,
) -> float:
    """M1: the error on a split of a support vector machine on a model's codes, in [0, 1].

    It learns from the labelled training images alone, from their posterior means, with an RBF
    kernel. (The paper's machine is transductive: it sees the unlabelled codes as well.) Dimensions
    are not scaled to unit variance: of those which the model does not use that would be noise.

    Args:
        model: One that encodes, such as a `VAE`.
        data: Its data, perhaps with few labels.
        split: Of whose images the error is.
        penalty: The machine's C, > 0.
        batch_size: Images to encode at a time.

    Raises:
        ValueError: If no training image, or none of the split, has a label.
    """

    def codes(x):
        starts = range(0, len(x), batch_size)
        return np.concatenate([model.encode(x[i : i + batch_size]) for i in starts])

    x, y = data.arrays("train")
    labelled = _labelled(y, data, "train")
    from sklearn.svm import SVC

    machine = SVC(C=penalty)
    machine.fit(codes(x[labelled]), y[labelled])
    x, y = data.arrays(split)
    return _error(machine.predict(codes(x)), y, data, split)


def _labelled(y, data, split):
    labelled = np.zeros(0, bool) if y is None or y.ndim != 1 else y >= 0
    if not labelled.any():
        raise ValueError(
            "A classifier takes images with a label, an int. "
            f"Received: split '{split}' of '{data.name}', which has none."
        )
    return labelled


def _error(best, y, data, split):
    labelled = _labelled(y, data, split)
    return float(np.mean(best[labelled] != y[labelled]))


def m2_mlp(
    image_shape: Sequence[int],
    num_classes: int = 10,
    latent_dim: int = 50,
    hidden: Sequence[int] = (500,),
    classifier_hidden: Sequence[int] = (500,),
    activation: str = "softplus",
    likelihood: str = "bernoulli",
    levels: int = 256,
    alpha: float = 0.1,
) -> M2:
    """A `M2` of multilayer perceptrons; by default of the paper's sizes.

    Args:
        image_shape: Height, width, channels.
        num_classes: C.
        latent_dim: D of the latents z.
        hidden: Units of the hidden layers of q(z | x, y), at least one; the likelihood's mirror
            them. The class enters the first of each.
        classifier_hidden: Units of the hidden layers of q(y | x).
        activation: Of the hidden layers.
        likelihood: Name of the family of p(x | y, z).
        levels: Number of grey levels, for "discretized_logistic".
        alpha: Weight of the classification loss.
    """
    classifier = networks.mlp_encoder(image_shape, num_classes, classifier_hidden, activation)
    return _m2(
        classifier,
        image_shape,
        num_classes,
        latent_dim,
        hidden,
        activation,
        likelihood,
        levels,
        alpha,
    )


def _m2(
    classifier, image_shape, num_classes, latent_dim, hidden, activation, likelihood, levels, alpha
):
    family = likelihood_family(likelihood, levels)
    return M2(
        classifier,
        _of_class(
            image_shape, (2 * latent_dim,), num_classes, hidden, activation, DiagonalNormal()
        ),
        _of_class(
            (latent_dim,),
            (*image_shape[:-1], family.params_per_value * image_shape[-1]),
            num_classes,
            hidden[::-1],
            activation,
            family,
        ),
        StandardNormal(latent_dim),
        alpha=alpha,
    )


def m2_conv(
    image_shape: Sequence[int],
    num_classes: int = 10,
    latent_dim: int = 50,
    hidden: Sequence[int] = (500,),
    filters: Sequence[int] = (32, 64),
    classifier_hidden: int = 256,
    dropout: float = 0.5,
    activation: str = "relu",
    likelihood: str = "bernoulli",
    levels: int = 256,
    alpha: float = 0.1,
) -> M2:
    """A `M2` whose classifier is convolutional: of few labels it learns more.

    The paper's are multilayer perceptrons, as q(z | x, y) and p(x | y, z) are here too.

    Args:
        image_shape, num_classes, latent_dim, hidden, activation, likelihood, levels, alpha: As for
            `m2_mlp`.
        filters: Of the classifier's convolutions, each halving the image.
        classifier_hidden: Units of its dense layer.
        dropout: Share of values dropped in training before and after that layer, in [0, 1).
    """
    classifier = networks.conv_encoder(
        image_shape, num_classes, filters, classifier_hidden, activation
    )
    *body, dense, last = classifier.layers
    drop = keras.layers.Dropout
    layers = [*body, drop(dropout), dense, drop(dropout), last] if dropout else classifier.layers
    inputs = keras.Input(tuple(image_shape))
    classifier = keras.Sequential([inputs, *layers], name="classifier")
    return _m2(
        classifier,
        image_shape,
        num_classes,
        latent_dim,
        hidden,
        activation,
        likelihood,
        levels,
        alpha,
    )


def m1_m2_mlp(
    image_shape: Sequence[int],
    first: str | os.PathLike | VAE = "",
    num_classes: int = 10,
    latent_dim: int = 50,
    hidden: Sequence[int] = (500,),
    classifier_hidden: Sequence[int] = (500,),
    activation: str = "softplus",
    alpha: float = 0.1,
) -> M1M2:
    """A `M1M2` of multilayer perceptrons on the codes of a trained M1.

    Args:
        image_shape: Height, width, channels.
        first: M1: the folder of a run, a `.keras` file, or a `VAE`, which is copied. "" is an
            untrained one of the paper's sizes, which `zoo.training` refuses to build on.
        num_classes: C.
        latent_dim: D of M2's latents, z2.
        hidden: Units of the hidden layers of M2's q(z2 | z1, y), at least one; the likelihood's
            mirror them.
        classifier_hidden: Units of the hidden layers of q(y | z1).
        activation: Of the hidden layers.
        alpha: Weight of the classification loss.

    Raises:
        FileNotFoundError: If there is no such M1.
        ValueError: If it is no VAE, or of other images.
    """
    first = _first(image_shape, first)
    codes = first.latent_dim
    return M1M2(
        networks.mlp(codes, num_classes, classifier_hidden, activation),
        _of_class((codes,), (2 * latent_dim,), num_classes, hidden, activation, DiagonalNormal()),
        _of_class(
            (latent_dim,), (2 * codes,), num_classes, hidden[::-1], activation, DiagonalNormal()
        ),
        StandardNormal(latent_dim),
        first.posterior,
        first.likelihood,
        alpha=alpha,
    )


def _first(image_shape, first):
    if isinstance(first, VAE):
        copy = keras.models.clone_model(first)
        copy.set_weights(first.get_weights())
        first = copy
    elif not os.fspath(first):
        return vae_mlp(image_shape, 50, (500, 500), "softplus")
    else:
        from zoo.training import open_model  # Which knows all models, this one too.

        first, _ = open_model(first)
    if not isinstance(first, VAE) or not isinstance(first.prior, StandardNormal):
        raise ValueError(
            "M1 is a VAE with the prior N(0, I). Received: a "
            f"{type(first).__name__}"
            + (f" with a {type(first.prior).__name__}." if hasattr(first, "prior") else ".")
        )
    if first.image_shape != tuple(image_shape):
        raise ValueError(
            f"M1 and M1+M2 are of the same images. Received: an M1 of {first.image_shape}, and "
            f"image_shape={tuple(image_shape)}."
        )
    return first


def _of_class(inputs, outputs, num_classes, hidden, activation, family):
    """A `Conditional` on a tensor and a class, by a multilayer perceptron."""
    if not hidden:
        raise ValueError(
            "The class enters the first hidden layer: `hidden` needs at least one. "
            f"Received: hidden={hidden!r}."
        )
    context, y = keras.Input(tuple(inputs)), keras.Input((), dtype="int32")
    h = keras.layers.Dense(hidden[0])(keras.layers.Flatten()(context))
    h = keras.layers.Activation(activation)(AddClass(num_classes)(h, y))
    for units in hidden[1:]:
        h = keras.layers.Dense(units, activation)(h)
    # The last product has the precision of the others, for it is the largest; its sum is float32.
    h = keras.layers.Dense(math.prod(outputs))(h)
    h = keras.layers.Activation("linear", dtype="float32")(keras.layers.Reshape(tuple(outputs))(h))
    return Conditional(keras.Model([context, y], h), family)
