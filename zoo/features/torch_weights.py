"""Reads the tensors in a file of PyTorch's `torch.save`, without PyTorch.

The file has the format that PyTorch wrote before version 1.6. It holds five pickles, which are a
magic number, the version of the format, facts about the machine, a dict of tensors and the keys of
their storages, and then the values of each storage.
https://github.com/pytorch/pytorch/blob/v1.5.0/torch/serialization.py
"""

import collections
import io
import pickle
from typing import Any, NamedTuple

import numpy as np

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


class _Storage(NamedTuple):
    """A reference to the values of tensors: its type, its key and the number of values."""

    kind: str
    dtype: str
    key: str
    location: str
    size: int
    view: None


class _Tensor(NamedTuple):
    """A tensor: its storage, and the place of its values there, in units of one value."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool
    hooks: Any


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
}
"""All names that a file may refer to. None of them can do more than hold values."""
_DTYPES = ("<f4", "<i8")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _GLOBALS:
            raise pickle.UnpicklingError(
                f"it refers to '{module}.{name}', which is not a part of a tensor; do not use the file"
            )
        found = _GLOBALS[module, name]
        # A pickle can set attributes of what it gets, so it gets a new function, and not the class.
        return (lambda *values: found(*values)) if isinstance(found, type) else found

    def persistent_load(self, pid):
        # NumPy would read objects, which are addresses, from the bytes of a file.
        if len(pid) != 6 or pid[0] != "storage" or pid[1] not in _DTYPES:
            raise pickle.UnpicklingError(
                "it has a storage other than 32-bit floats or 64-bit integers"
            )
        return _Storage(*pid)


def read(content: bytes) -> dict[str, np.ndarray]:
    """The tensors in the content of a file, by name.

    A pickle can refer to any function, and a plain unpickler would call it. This function accepts
    the names that tensors need, and refuses all others before anything is called.

    Args:
        content: The file, with a dict of tensors of 32-bit floats and 64-bit integers, as
            `torch.save(module.state_dict(), path)` wrote it.

    Returns:
        Read-only views of `content`, with the shapes that the tensors have in PyTorch.

    Raises:
        ValueError: If the content is anything else.

    Example:
        >>> if path := zoo.features.efficientnet.installed():
        ...     tensors = zoo.features.torch_weights.read(path.read_bytes())
    """
    file = io.BytesIO(content)
    try:
        magic, version, _, tensors, keys = (_Unpickler(file).load() for _ in range(5))
        if (magic, version) != (_MAGIC, _VERSION):
            raise ValueError(f"it has the magic number {magic} and the version {version}")
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        values = {key: _values(file, storages[key]) for key in keys}
        return {
            name: _array(tensor, values[tensor.storage.key]) for name, tensor in tensors.items()
        }
    # A pickle is a program. A damaged one can fail in any of its steps.
    except Exception as error:
        raise ValueError(
            "Expected the tensors of a file of PyTorch, in the format before version 1.6. Received: "
            f"other content ({error})."
        ) from error


def _values(file, storage):
    size = int.from_bytes(file.read(8), "little")
    if size != storage.size:
        raise ValueError(f"a storage of {storage.size} values has {size}")
    return file.read(size * np.dtype(storage.dtype).itemsize)


def _array(tensor, values):
    dtype = np.dtype(tensor.storage.dtype)
    strides = [n * dtype.itemsize for n in tensor.strides]
    # The constructor raises an error if a value would be outside the buffer.
    return np.ndarray(tensor.shape, dtype, values, tensor.offset * dtype.itemsize, strides)
