"""Conditional distributions: a network and a family."""

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from zoo import networks
from zoo.distributions.families import Family
from zoo.distributions.part import Part

tfd = tfp.distributions


@keras.saving.register_keras_serializable("zoo")
class Conditional(Part):
    """p(. | context): a network, and the family that its output parameterises.

    A network with two inputs also takes a condition `y[B, ...]`; a network with one input ignores
    `y`. A `Conditional` returns a distribution, which is not a tensor: call it in a model's
    methods, not in a functional graph.

    Args:
        network: A built `keras.Model` from a context to parameters,
            `[B, *event[:-1], family.num_params(event[-1])]`.
        family: A `Family`.

    Raises:
        ValueError: If the network is not built, has more than two inputs or more than one output,
            or returns no parameters of the family.

    Example:
        >>> q = zoo.Conditional(zoo.networks.mlp_encoder((8, 8, 1), 2 * 5), zoo.DiagonalNormal())
        >>> q(tf.zeros([3, 8, 8, 1])).sample(7).shape
        TensorShape([7, 3, 5])
    """

    def __init__(self, network: keras.Model, family: Family, **kwargs: Any):
        super().__init__(**kwargs)
        check_network(self, network, "a context, and possibly a condition", (1, 2))
        self.network = network
        self.family = family
        family.event_of(tuple(network.output_shape[1:]))

    def made_of(self) -> tuple[Part, ...]:
        return (self.family,)

    @property
    def condition(self) -> tf.TensorSpec | None:
        if len(self.network.inputs) == 1:
            return None
        taken = self.network.inputs[1]
        return tf.TensorSpec(taken.shape, taken.dtype)

    @property
    def context_shape(self) -> tuple[int, ...]:
        return tuple(self.network.inputs[0].shape[1:])

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.family.event_of(tuple(self.network.output_shape[1:]))

    def call(
        self, context: tf.Tensor, y: tf.Tensor | None = None, training: bool = False
    ) -> tfd.Distribution:
        """The distribution given `context[..., B, *network.input_shape[1:]]`.

        Leading sample axes, such as K in `z[K, B, D]`, are folded into the batch for the network;
        `y` is repeated for each sample.

        Raises:
            ValueError: If the network takes a condition and `y` is `None`.
        """
        if len(self.network.inputs) > 1 and y is None:
            raise ValueError(
                f"The network '{self.network.name}' takes a condition `y` in addition to its context: "
                "train on (x, y), and pass `y` to the model's methods. Received: y=None."
            )
        context = tf.cast(context, tf.float32)
        rank = len(self.network.inputs[0].shape)
        shape = tf.shape(context)
        lead = shape[: tf.rank(context) - rank + 1]
        folded = context.shape.rank > rank
        inputs = [context]
        if len(self.network.inputs) > 1:
            inputs.append(tf.convert_to_tensor(y))
        if folded:
            inputs[0] = tf.reshape(context, tf.concat([[-1], shape[-rank + 1 :]], 0))
            inputs[1:] = [tf.tile(t, [tf.reduce_prod(lead[:-1])] + [1] * (t.shape.rank - 1))
                          for t in inputs[1:]]  # fmt: skip
        params = self.network(inputs if len(inputs) > 1 else inputs[0], training=training)
        params = tf.cast(params, tf.float32)
        if folded:
            event = params.shape[1:]
            params = tf.reshape(params, tf.concat([lead, event], 0))
            params = tf.ensure_shape(params, context.shape[: -rank + 1] + event)
        return self.family(params, len(self.network.output_shape) - 1)


def check_network(part: Part, network: keras.Model, inputs: str, counts: tuple[int, ...]) -> None:
    """Checks the network of a part: built, with these numbers of inputs, and with one output.

    Args:
        part: The part.
        network: The network.
        inputs: The inputs in words, such as "a context".
        counts: The allowed numbers of inputs.

    Raises:
        ValueError: If the network is not built, or has other numbers of inputs or outputs.
    """
    owner = f"The network of a {type(part).__name__}"
    networks.check_built(network, owner)
    if len(network.inputs) not in counts or not networks.returns_tensor(network):
        shapes = [tuple(t.shape) for t in network.outputs]
        raise ValueError(
            f"{owner} takes {inputs}, and returns all parameters in one tensor, on the last axis: "
            "concatenate outputs such as [z_mean, z_raw_scale] with keras.layers.Concatenate(). "
            f"Received: a network with {len(network.inputs)} inputs, and outputs of the shapes "
            f"{shapes}."
        )


@keras.saving.register_keras_serializable("zoo")
class Completion(Conditional):
    """p(x | ., y) of the hidden values of an image, where `y` holds the seen values.

    `y[B, H, W, C]` holds the seen values, and -1 where the image is hidden (`seen` in
    `zoo.datasets`). `log_prob(x)` is the sum over the hidden values; seen values contribute neither
    to the sum nor to a gradient. `mean()` and `sample()` are whole images that contain the seen
    values unchanged.

    The network takes the condition as in a `Conditional`, or ignores it. If `y` is the network's
    only input, call `part(y, y)`.

    Args:
        network: As for `Conditional`, to the parameters of a whole image.
        family: A `Family` of independent values.

    Raises:
        ValueError: If the network does not return an image's parameters, if the family is over
            vectors and, when called, if `y` is `None`.

    Example:
        >>> part = zoo.Completion(zoo.networks.mlp_decoder(2, (2, 2, 1)), zoo.Bernoulli())
        >>> part.network.set_weights([np.zeros_like(w) for w in part.network.get_weights()])
        >>> y = tf.constant([[[[-1.0], [1.0]], [[-1.0], [0.0]]]])
        >>> p = part(tf.zeros([1, 2]), y)  # log 1/2 for each of two hidden pixels
        >>> float(p.log_prob(tf.zeros([1, 2, 2, 1]))[0])
        -1.38...
        >>> p.mean().numpy().ravel()
        array([0.5, 1. , 0.5, 0. ], dtype=float32)
    """

    def __init__(self, network: keras.Model, family: Family, **kwargs: Any):
        super().__init__(network, family, **kwargs)
        # Families over vectors override `num_params`, because their values are dependent.
        if type(family).num_params is not Family.num_params:
            raise ValueError(
                "A Completion sums over hidden values, so its family must be of independent values. "
                f"Received: a {type(family).__name__}, which is over vectors."
            )
        shape = network.output_shape
        if len(shape) != 4 or shape[-1] % family.params_per_value:
            raise ValueError(
                "The network of a Completion must return the parameters of an image, [B, H, W, "
                f"{family.params_per_value} C] for a {type(family).__name__}. Received: a network "
                f"with outputs of shape {shape}."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        _, height, width, params = self.network.output_shape
        return height, width, params // self.family.params_per_value

    @property
    def condition(self) -> tf.TensorSpec | None:
        # The seen values are needed even if the network ignores them.
        return super().condition or tf.TensorSpec([None, *self.image_shape], tf.float32)

    def check_context_is_y(self) -> None:
        """Checks that the network's only input can be `y`, as `part(y, y)` requires.

        Raises:
            ValueError: If the network has other inputs.
        """
        inputs = [tuple(t.shape[1:]) for t in self.network.inputs]
        if inputs != [self.image_shape]:
            raise ValueError(
                "A prediction of the hidden values needs a `Completion` whose network's only input is "
                f"the seen part `y`, of shape {self.image_shape}. Received: a network with inputs of the "
                f"shapes {inputs}."
            )

    def call(
        self, context: tf.Tensor, y: tf.Tensor | None = None, training: bool = False
    ) -> tfd.Distribution:
        if y is None:
            raise ValueError(
                "A Completion needs the seen part `y` of the image: train on (x, y), and pass `y` to "
                "the model's methods. Received: y=None."
            )
        whole = super().call(context, y, training)
        y = tf.cast(y, tf.float32)
        hidden = tfd.Masked(whole.distribution, y < 0, safe_sample_fn=lambda _: y)
        return tfd.Independent(hidden, whole.event_shape.rank)
