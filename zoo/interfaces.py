"""Interfaces: the shapes that the parts of a model take and return, and the check that they fit.

TensorFlow broadcasts shapes that differ: without a check, a decoder of grey images trains on colour
images, and a likelihood of two parameters per pixel sums the wrong log-densities. A model therefore
lists the interfaces of its parts (`GenerativeModel.interfaces`), and `check` compares the parts
with the list when the model is constructed. The check reads static shapes and runs no network.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from zoo import keras_internals, networks

Shape: TypeAlias = Sequence[int | None] | None

LOGIT: Shape = (1,)


class Interface(NamedTuple):
    """The shapes of a part's inputs and outputs, without the batch axis.

    `None` stands for any size of an axis, or for any shape.

    Attributes:
        takes: The shape of each input, except for a condition `y`. Empty for a prior.
        returns: The shape of each output; of one value, if the part returns a distribution.
        conditional: Whether the part may also take a condition `y`, after its other inputs.
    """

    takes: tuple[Shape, ...]
    returns: tuple[Shape, ...]
    conditional: bool = False


def context_shape(part: Any) -> Shape:
    """The shape of the first input of a network or a part; `None` if it is unknown."""
    if isinstance(part, keras.Model):
        networks.check_built(part, "A network of a model")
        return tuple(part.inputs[0].shape[1:])
    return getattr(part, "context_shape", None)


def shape_of_images(model: Any) -> Shape:
    """The model's `image_shape`; `None` if the model does not define it.

    Raises:
        ValueError: If the shape is not height, width and channels.
    """
    try:
        shape = tuple(model.image_shape)
    except NotImplementedError:
        return None
    if len(shape) != 3:
        raise ValueError(
            f"The networks of this {type(model).__name__} that take images must have an input "
            "[B, H, W, C]; start with keras.layers.Flatten() if the next layer takes vectors. "
            f"Received: an input {_batch(shape)}."
        )
    return shape


def of_autoencoder(model: Any, images: Shape) -> dict[str, Interface]:
    """The interfaces of `posterior`, `encoder`, `likelihood`, `generator` and `prior`.

    The input of the likelihood or generator determines the shape of the latents, or the prior if
    that input is unknown.

    Args:
        model: A model with some of these parts.
        images: The shape of the values that the posterior takes and the likelihood returns.
    """
    decoder = getattr(model, "likelihood", getattr(model, "generator", None))
    latents = context_shape(decoder)
    if latents is None:
        latents = getattr(getattr(model, "prior", None), "event_shape", None)
    every = {
        "posterior": Interface((images,), (latents,), conditional=True),
        "encoder": Interface((images,), (latents,)),
        "likelihood": Interface((latents,), (images,), conditional=True),
        "generator": Interface((latents,), (images,), conditional=True),
        "prior": Interface((), (latents,), conditional=True),
    }
    present = {name for name in every if getattr(model, name, None) is not None}
    return {name: interface for name, interface in every.items() if name in present}


def check(model: Any) -> None:
    """Checks that the parts of a model fit together.

    Args:
        model: A `GenerativeModel`.

    Raises:
        ValueError: If a network is not built, if a part takes or returns other shapes than
            `model.interfaces()` states, or if parts take different conditions.
    """
    with contextlib.suppress(NotImplementedError):
        for player, layers in model.players().items():
            _check_layers_built(player, layers)
    shape_of_images(model)
    conditions: dict[str, Any] = {}
    classes: dict[str, int] = {}
    for name, interface in model.interfaces().items():
        part = getattr(model, name)
        if isinstance(part, keras.Model):
            condition = _check_network(model, name, part, interface)
        else:
            condition = _check_part(model, name, part, interface)
        if condition is not None:
            conditions[name] = condition
            classes |= _classes(name, part)
    _check_equal(model, "conditions", {n: _described(spec) for n, spec in conditions.items()})
    _check_equal(model, "numbers of classes", classes)


def with_check(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that ends with `check`, unless the constructor of a subclass called it."""

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        init(self, *args, **kwargs)
        if type(self).__init__ is __init__:
            check(self)

    # Keras reads the signature from the function itself, without `__wrapped__`.
    __init__.__signature__ = inspect.signature(init)  # type: ignore[attr-defined]
    return __init__


def _check_layers_built(player: str, layers: Iterable[keras.layers.Layer]) -> None:
    for layer in layers:
        if isinstance(layer, keras.Model) and not layer.built:
            networks.check_built(layer, f"A network of the player '{player}'")


def _check_network(model, name, network, interface):
    """Checks a network; returns the specification of its condition, or `None`."""
    networks.check_built(network, f"The `{name}` of this {type(model).__name__}")
    inputs = [tuple(t.shape[1:]) for t in network.inputs]
    outputs = [tuple(t.shape[1:]) for t in network.outputs]
    count = len(interface.takes)
    extra = len(inputs) - count
    if not (
        extra in (0, int(interface.conditional))
        and _compatible(inputs[:count], interface.takes)
        and _compatible(outputs, interface.returns)
        and networks.returns_tensor(network) == (len(interface.returns) == 1)
    ):
        also = ", and may also take a condition" if interface.conditional else ""
        raise ValueError(
            f"The `{name}` of this {type(model).__name__} must be a network from "
            f"{_batches(interface.takes)} to {_batches(interface.returns)}{also}, to fit the other "
            f"parts. Received: a network from {_batches(inputs)} to {_batches(outputs)}."
        )
    return network.inputs[-1] if extra else None


def _check_part(model, name, part, interface):
    """As `_check_network`, for a part that returns a distribution."""
    event = getattr(part, "event_shape", None)
    takes = (getattr(part, "context_shape", None),) if interface.takes else ()
    condition = getattr(part, "condition", None)
    owner = f"The `{name}` of this {type(model).__name__}"
    if not (_compatible(takes, interface.takes) and _compatible((event,), interface.returns)):
        given = f" given {_batches(interface.takes)}" if interface.takes else ""
        received = f" given {_batches(takes)}" if takes else ""
        raise ValueError(
            f"{owner} must be a distribution over {_batches(interface.returns)}{given}, to fit the "
            f"other parts{_needed(part, interface.returns[0])}. Received: a {type(part).__name__} "
            f"over {_batch(event)}{received}{_outputs(part)}."
        )
    if condition is not None and not interface.conditional:
        raise ValueError(
            f"{owner} takes no condition. Received: a {type(part).__name__} with a condition "
            f"{_described(condition)}."
        )
    return condition


def _needed(part, event):
    """The network outputs that the family of a part needs for events of a shape."""
    family = getattr(part, "family", None)
    # A flow is over vectors of one length, and refuses others.
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        params = _batch((*event[:-1], family.num_params(event[-1])))
        return f"; for a {type(family).__name__}, its network returns {params}"
    return ""


def _outputs(part):
    outputs = getattr(getattr(part, "network", None), "output_shape", None)
    return "" if outputs is None else f", with a network that returns {_batch(outputs[1:])}"


def _classes(name, part):
    """The number of labels that the part encodes, by the part's name."""
    layers = keras_internals.layers_in(part)
    found = [layer.classes for layer in layers if isinstance(layer, networks.OneHot)]
    return {name: min(found)} if found else {}


def _check_equal(model, what, found):
    if len(set(found.values())) > 1:
        each = ", ".join(f"{value} (`{name}`)" for name, value in found.items())
        raise ValueError(
            f"The parts of this {type(model).__name__} must take the same condition. "
            f"Received: different {what}: {each}."
        )


def _described(spec):
    return f"{tf.as_dtype(spec.dtype).name} {_batch(spec.shape[1:])}"


def _compatible(shapes, expected):
    return len(shapes) == len(expected) and all(
        tf.TensorShape(a).is_compatible_with(tf.TensorShape(b))
        for a, b in zip(shapes, expected, strict=True)
    )


def _batch(shape):
    if shape is None:
        return "[B, ...]"
    return f"[{', '.join(['B', *('?' if n is None else str(n) for n in shape)])}]"


def _batches(shapes):
    return " and ".join(map(_batch, shapes))
