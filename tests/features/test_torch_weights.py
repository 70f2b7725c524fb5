"""Tensors in PyTorch's old format, written with stand-ins for PyTorch's names."""

import collections
import io
import os
import pickle
import sys
import types

import numpy as np
import pytest

from zoo.features import torch_weights

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


class Storage:
    def __init__(self, kind, key, size):
        self.id = ("storage", kind, key, "cpu", size, None)


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.id if isinstance(obj, Storage) else None


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


@pytest.fixture
def torch(monkeypatch):
    """Modules with the names that a file refers to."""

    def module(name, **members):
        made = types.ModuleType(name)
        for key, value in members.items():
            value.__module__, value.__qualname__ = name, key
            setattr(made, key, value)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    module("torch._utils", _rebuild_tensor_v2=lambda *arguments: None)
    kinds = ("FloatStorage", "LongStorage", "HalfStorage")
    return module("torch", **{kind: type(kind, (), {}) for kind in kinds})


def written(tensors, values, magic=MAGIC, version=VERSION):
    """A file: the state of a module, and the values of the storages by key."""
    file = io.BytesIO()
    for part in (magic, version, {"little_endian": True}, tensors, list(values)):
        Pickler(file, protocol=2).dump(part)
    for array in values.values():
        file.write(array.size.to_bytes(8, "little") + array.tobytes())
    return file.getvalue()


def test_tensors_have_their_names_shapes_and_values(torch):
    counts = np.array([5, 2**40])
    state = collections.OrderedDict(
        kernel=Tensor(Storage(torch.FloatStorage, "7", 24), 0, (2, 3, 4), (12, 4, 1)),
        # The last axis is the first in the storage, as in kernels that TensorFlow's were made into.
        turned=Tensor(Storage(torch.FloatStorage, "7", 24), 0, (4, 3, 2), (1, 4, 12)),
        row=Tensor(Storage(torch.FloatStorage, "7", 24), 20, (4,), (1,)),
        count=Tensor(Storage(torch.LongStorage, "3", 2), 1, (), ()),
    )
    state._metadata = collections.OrderedDict(version=1)
    found = torch_weights.read(written(state, {"3": counts, "7": KERNEL}))
    assert list(found) == ["kernel", "turned", "row", "count"]
    np.testing.assert_array_equal(found["kernel"], KERNEL, strict=True)
    np.testing.assert_array_equal(found["turned"], KERNEL.T, strict=True)
    np.testing.assert_array_equal(found["row"], KERNEL[1, 2], strict=True)
    np.testing.assert_array_equal(found["count"], np.array(2**40), strict=True)


class Call:
    """Pickles to the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("part", range(5))
def test_a_name_that_tensors_do_not_need_is_refused_and_nothing_is_called(part, tmp_path):
    parts = [MAGIC, VERSION, {}, collections.OrderedDict(), []]
    parts[part] = Call(os.mkdir, str(tmp_path / "made"))
    content = b"".join(pickle.dumps(it, protocol=2) for it in parts)
    with pytest.raises(ValueError, match=r"refers to '\w+.mkdir', which is not a part of a tensor"):
        torch_weights.read(content)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "refused", [eval, getattr, np.frombuffer, collections.Counter, io.BytesIO, pickle.loads]
)
def test_harmless_and_dangerous_names_are_refused_alike(refused):
    with pytest.raises(ValueError, match="do not use the file"):
        torch_weights.read(pickle.dumps(refused, protocol=2))


def test_tensors_of_another_type_are_refused(torch):
    state = {"half": Tensor(Storage(torch.HalfStorage, "0", 2), 0, (2,), (1,))}
    with pytest.raises(ValueError, match=r"refers to 'torch.HalfStorage'"):
        torch_weights.read(written(state, {"0": np.zeros(2, np.float16)}))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (25,), (1,)), (1, (24,), (1,)), (0, (2,), (24,)), (0, (2,), (-1,)), (-1, (1,), (1,))],
)
def test_a_tensor_outside_its_storage_is_refused(torch, offset, shape, strides):
    state = {"x": Tensor(Storage(torch.FloatStorage, "0", 24), offset, shape, strides)}
    with pytest.raises(ValueError, match="Expected the tensors of a file of PyTorch"):
        torch_weights.read(written(state, {"0": KERNEL}))


def test_damaged_files_are_refused(torch):
    state = {"x": Tensor(Storage(torch.FloatStorage, "0", 24), 0, (24,), (1,))}
    whole = written(state, {"0": KERNEL})
    assert torch_weights.read(whole)["x"].size == 24
    damaged = [b"", b"PK\x03\x04", whole[:-1], whole[:100], whole[: len(whole) // 2]]
    damaged += [written(state, {}), written(state, {"0": KERNEL[0]}), written(state, {"1": KERNEL})]
    damaged += [written(state, {"0": KERNEL}, magic=1), written(state, {"0": KERNEL}, version=2)]
    damaged += [written(["x"], {}), written({"x": 1}, {})]
    for content in damaged:
        with pytest.raises(ValueError, match="Expected the tensors of a file of PyTorch"):
            torch_weights.read(content)


@pytest.mark.parametrize(
    "pid",
    [
        ("storage", "O", "0", "cpu", 1, None),
        ("storage", "<f8", "0", "cpu", 1, None),
        ("module", "<f4", "0", "cpu", 1, None),
        ("storage", "<f4", "0"),
    ],
)
def test_a_storage_of_other_values_is_refused(torch, pid):
    storage = Storage(None, "0", 1)
    storage.id = pid
    tensor = Tensor(storage, 0, (1,), (1,))
    content = written({"w": tensor}, {"0": np.frombuffer(b"AAAAAAAA", np.float64)})
    with pytest.raises(ValueError, match="storage other than 32-bit floats"):
        torch_weights.read(content)


def test_a_file_cannot_change_the_class_of_tensors():
    content = b"ctorch._utils\n_rebuild_tensor_v2\n(N(dVchanged\nVyes\nstb."
    with pytest.raises(ValueError, match="Expected the tensors"):
        torch_weights.read(content)
    assert not hasattr(torch_weights._Tensor, "changed")
