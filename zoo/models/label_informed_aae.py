"""The adversarial autoencoder that is told which part of the prior belongs to which label.

Makhzani et al., "Adversarial Autoencoders", 2016, section 2.3. https://arxiv.org/abs/1511.05644
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo import networks
from zoo.adversarial import AdversarialLoss
from zoo.config import look_up
from zoo.distributions import (
    Conditional,
    Deterministic,
    DiagonalNormal,
    NormalPetals,
    Prior,
    SwissRoll,
    likelihood_family,
)
from zoo.keras_internals import layers_in
from zoo.model import as_seed
from zoo.models.aae import AAE, check_classes


@keras.saving.register_keras_serializable("zoo")
class LabelInformedAAE(AAE):
    """An `AAE` whose discriminator also sees labels: images of a class go to a part of the prior.

    Each label is one of the prior's components. The label selects the discriminator's decision
    boundary; a class more stands for "unlabelled" (the paper's figure 3). For an image with a label
    the discriminator compares its code with a draw of that label's component, for one without with
    a draw of the whole prior. Encoder and decoder are not told the label.

    `y[B]` is the label, an int in 0..K-1; -1, or any number below 0, is no label, and y=None says so
    of all. `sample(n, y)` draws from the label's component.

    Args:
        posterior, likelihood, adversarial_loss: As for `AAE`.
        prior: p(z), a `Prior` with `components` and `component(y)`, such as `NormalPetals` and
            `SwissRoll`.
        discriminator: Network from `z[B, D]` and `y[B]`, in 0..K, where K is for no label, to logits
            `[B, 1]`, high for draws of the prior.

    Raises:
        ValueError: For a prior without components, or a discriminator that takes no label or others.

    Example:
        >>> model = zoo.models.label_informed_aae.label_informed_aae_mlp((8, 8, 1), hidden=(32,))
        >>> model.compile("adam")
        >>> x, y = zoo.datasets.load("digits").arrays("train")
        >>> history = model.fit(x, np.where(np.arange(len(y)) < 500, y, -1), verbose=0)
        >>> model.sample(5, y=3).shape  # From the fourth petal.
        TensorShape([5, 8, 8, 1])
    """

    condition_is_optional = True

    def __init__(
        self,
        posterior: Conditional,
        likelihood: Conditional,
        prior: Prior,
        discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        **kwargs,
    ):
        super().__init__(posterior, likelihood, prior, discriminator, adversarial_loss, **kwargs)
        if not hasattr(prior, "component"):
            raise ValueError(
                "Labels stand for parts of the prior: it needs components, as NormalPetals and "
                f"SwissRoll have. Received: a {type(prior).__name__}."
            )
        if len(discriminator.inputs) != 2:
            raise ValueError(
                "The discriminator of labels takes [z, y]. Received: a network of "
                f"{len(discriminator.inputs)} input(s)."
            )
        codes = [n for n in layers_in(discriminator) if isinstance(n, networks.OneHot)]
        if any(code.classes != prior.components + 1 for code in codes):
            raise ValueError(
                f"A discriminator beside a prior of {prior.components} components takes "
                f"{prior.components + 1} labels: theirs, and one for none. "
                f"Received: a network that takes {codes[0].classes}."
            )

    @property
    def condition(self):
        return tf.TensorSpec([None], tf.int32)

    @property
    def num_classes(self):
        return self.prior.components

    def adapt(self, data):
        """Raises a `ValueError` unless the data have labels, of at most as many classes."""
        check_classes(self, data, self.prior.components)

    def sample_latents(self, n, y=None, seed=None):
        """`n` draws, `[n, D]`: of the label's component where `y` has one, else of the whole prior."""
        y = tf.fill([n], -1) if y is None else self.conditions(n, y)
        return self.prior.component(y).sample(seed=as_seed(seed))

    def _judge(self, z, y, training):
        unlabelled = self.prior.components
        y = tf.fill(tf.shape(z)[:1], unlabelled) if y is None else tf.cast(y, tf.int32)
        y = tf.where(y < 0, unlabelled, y)
        return tf.cast(self.discriminator([z, y], training=training)[:, 0], tf.float32)


def label_informed_aae_mlp(
    image_shape: Sequence[int],
    hidden: Sequence[int] = (1000, 1000),
    posterior: str = "deterministic",
    prior: str = "petals",
    components: int = 10,
    discriminator_hidden: Sequence[int] = (1000, 1000),
    likelihood: str = "bernoulli",
    levels: int = 256,
) -> LabelInformedAAE:
    """A `LabelInformedAAE` of multilayer perceptrons, of the paper's sizes, with latents in the plane.

    Args:
        image_shape: Height, width, channels.
        hidden: The encoder's; the decoder's mirrors it.
        posterior: "deterministic" or "normal".
        prior: "petals", a 2-D normal for each label, or "swiss_roll", a segment for each.
        components: How many, the number of classes.
        discriminator_hidden: Units of the discriminator's hidden layers.
        likelihood: Name of the family of p(x | z).
        levels: Number of grey levels, for "discretized_logistic".

    Raises:
        ValueError: For names that there are not.
    """
    q = look_up({"deterministic": Deterministic, "normal": DiagonalNormal}, posterior, "posterior")
    p = look_up({"petals": NormalPetals, "swiss_roll": SwissRoll}, prior, "prior")
    family = likelihood_family(likelihood, levels)
    return LabelInformedAAE(
        Conditional(networks.mlp_encoder(image_shape, q.params_per_value * 2, hidden), q()),
        Conditional(
            networks.mlp_decoder(2, image_shape, family.params_per_value, hidden[::-1]), family
        ),
        p(components=components),
        networks.beside_label(
            networks.mlp(2 + components + 1, 1, discriminator_hidden), 2, components + 1
        ),
    )
