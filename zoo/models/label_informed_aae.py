"""Label-informed adversarial autoencoder: each class gets its own part of the prior.

Makhzani et al., "Adversarial Autoencoders", 2016, section 2.3. https://arxiv.org/abs/1511.05644
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo import networks
from zoo.adversarial import LOSSES, AdversarialLoss
from zoo.config import choices, extends
from zoo.datasets import ImageData
from zoo.distributions import Conditional, Part, Prior
from zoo.keras_internals import layers_in
from zoo.model import as_seed
from zoo.models.aae import AAE, check_classes, latent_loss
from zoo.models.parts import INTERNAL, LEARNED_PRIOR_SIZES, autoencoder_parts


@keras.saving.register_keras_serializable("zoo")
class LabelInformedAAE(AAE):
    """An `AAE` whose discriminator also takes labels: each class gets one component of the prior.

    The label selects the discriminator's decision boundary (the paper's figure 3). The code of a
    labelled image is compared with draws of the label's component, the code of an unlabelled image
    with draws of the whole prior. The discriminator takes "unlabelled" as an additional class, K.
    Encoder and decoder do not receive the label.

    `y[B]` holds the labels, ints in 0..K-1. A negative number means "unlabelled", and y=None means
    that all images are unlabelled. `sample(n, y)` draws from the label's component.

    Args:
        posterior, likelihood, adversarial_loss: As for `AAE`.
        prior: p(z), a `Prior` with `components` and `component(y)`: `NormalPetals` or `SwissRoll`.
        discriminator: Network from `z[B, D]` and `y[B]`, ints in 0..K, to logits `[B, 1]`, high for
            draws of the prior.

    Raises:
        ValueError: If the prior has no components or has trainable weights, or the discriminator
            takes no label or the wrong number of labels.

    Example:
        >>> model = zoo.models.label_informed_aae((8, 8, 1), hidden=(32,))
        >>> model.compile("adam")
        >>> x, y = zoo.datasets.load("digits").arrays("train")
        >>> history = model.fit(x, np.where(np.arange(len(y)) < 500, y, -1), verbose=0)
        >>> model.sample(5, y=3).shape  # From the fourth petal.
        TensorShape([5, 8, 8, 1])
    """

    condition_is_optional = True

    def __init__(
        self,
        posterior: Part,
        likelihood: Conditional,
        prior: Prior,
        discriminator: keras.Model,
        adversarial_loss: AdversarialLoss | None = None,
        **kwargs: Any,
    ):
        super().__init__(posterior, likelihood, prior, discriminator, adversarial_loss, **kwargs)
        components = _components(prior)
        networks.check_built(discriminator, "The discriminator of a LabelInformedAAE")
        if len(discriminator.inputs) != 2:
            raise ValueError(
                "The discriminator of a LabelInformedAAE takes [z, y]. Received: a network with "
                f"{len(discriminator.inputs)} input(s)."
            )
        codes = [n for n in layers_in(discriminator) if isinstance(n, networks.OneHot)]
        if any(code.classes != components + 1 for code in codes):
            raise ValueError(
                f"With a prior of {components} components, the discriminator takes {components + 1} "
                "labels: one for each component, and one for unlabelled images. "
                f"Received: a network that takes {codes[0].classes}."
            )

    @property
    def condition(self) -> tf.TensorSpec | None:
        return tf.TensorSpec([None], tf.int32)

    @property
    def num_classes(self) -> int:
        return self.prior.components

    def adapt(self, data: ImageData) -> None:
        """Adapts as `GenerativeModel.adapt` does.

        Raises:
            ValueError: If the data have no integer labels, or labels of more than K classes.
        """
        check_classes(self, data, self.prior.components)
        super().adapt(data)

    def sample_latents(self, n: int, y: Any = None, seed: Any = None) -> tf.Tensor:
        """`n` draws `[n, D]` of the label's component, or of the whole prior if `y` is negative."""
        y = tf.fill([n], -1) if y is None else self.conditions(n, y)
        return self.prior.component(y).sample(seed=as_seed(seed))

    def latent_logits(self, z: tf.Tensor, y: Any = None, training: bool = False) -> tf.Tensor:
        """The discriminator's logits `[B]` of latents `z[B, D]` with labels `y[B]`."""
        unlabelled = self.prior.components
        y = tf.fill(tf.shape(z)[:1], unlabelled) if y is None else tf.cast(y, tf.int32)
        return super().latent_logits(z, tf.where(y < 0, unlabelled, y), training)


def _components(prior: Prior) -> int:
    """The prior's number of components."""
    if not hasattr(prior, "component"):
        raise ValueError(
            "A LabelInformedAAE assigns each class a component of the prior, so the prior needs "
            f"components: NormalPetals or SwissRoll. Received: a {type(prior).__name__}."
        )
    return prior.components


@choices(loss=LOSSES)
@extends(
    autoencoder_parts,
    without=(*INTERNAL, *LEARNED_PRIOR_SIZES, "prior_scale"),
    latent_dim=2,
    hidden=(1000, 1000),
    posterior="deterministic",
    prior="petals",
)
def label_informed_aae(
    image_shape: Sequence[int],
    *,
    discriminator_hidden: Sequence[int] = (1000, 1000),
    loss: str = "non_saturating",
    real_label: float = 1.0,
    label_noise: float = 0.0,
    **options: Any,
) -> LabelInformedAAE:
    """A `LabelInformedAAE` of the paper's sizes, with two latents.

    Args:
        image_shape: Height, width, channels.
        prior: "petals", a normal for each class, or "swiss_roll", a segment for each class.
        prior_components: The number of classes; 0 for 10.
        **options: All other options are those of `zoo.models.aae`, without `condition`
            and `prior_scale`.

    Raises:
        ValueError: If a name is unknown, options do not fit together, or the prior is trainable or
            has no components.
    """
    parts = autoencoder_parts(image_shape, **options)
    label = networks.condition("label", _components(parts["prior"]) + 1, image_shape)
    discriminator = networks.conditioned(
        lambda shape: networks.mlp(shape[0], 1, discriminator_hidden),
        parts["prior"]().event_shape,
        label,
    )
    return LabelInformedAAE(
        **parts,
        discriminator=discriminator,
        adversarial_loss=latent_loss(loss, real_label, label_noise),
    )
