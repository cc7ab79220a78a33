"""Restricted unpickler of PyTorch checkpoints: accepts tensors, plain containers and numbers, refuses anything else.

Only the few names that a state dict needs are accepted; every other name is refused before it is imported, so that a
file can neither import nor call anything. A pickle could still request absurd amounts of memory: memo indices, sizes of
tensors (each and in total) and shared containers are therefore checked.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

STORAGE_DTYPES = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16,
    "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_, "UntypedStorage": np.uint8,
    "ComplexFloatStorage": np.complex64, "ComplexDoubleStorage": np.complex128,
}  # fmt: skip
TORCH_DTYPES = {
    "float64": np.float64, "double": np.float64, "float32": np.float32, "float": np.float32, "float16": np.float16,
    "half": np.float16, "bfloat16": ml_dtypes.bfloat16, "int64": np.int64, "int32": np.int32, "int16": np.int16,
    "int8": np.int8, "uint8": np.uint8, "bool": np.bool_, "uint16": np.uint16, "uint32": np.uint32,
    "uint64": np.uint64, "complex64": np.complex64, "complex128": np.complex128,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
EXPANDED = 2**24  # values that tensors may have beyond their storages' (strides of 0, made by `expand`)
SHARED = 4  # tensors that may share a storage on average, beyond EXPANDED (tied weights)


class Refused(Exception):
    """An error: the pickle refers to a name that no state dict needs."""


@dataclass(eq=False)
class Storage:
    """A block of values that tensors are views of. A storage of torch < 0.4 can be a view of another one, `root`."""

    dtype: np.dtype
    numel: int
    values: np.ndarray | None = None  # filled when the bytes are read; the older containers have them at the end
    root: Storage | None = None
    start: int = 0  # in the root

    def array(self) -> np.ndarray:
        """Returns the values (numel,). Raises ValueError for a view that exceeds its root."""
        if self.root is None:
            return self.values
        values = self.root.values
        if not 0 <= self.start <= self.start + self.numel <= values.size:
            raise ValueError(f"a storage that ends at element {self.start + self.numel} of one of {values.size}")
        return values[self.start : self.start + self.numel]


@dataclass(eq=False)
class Tensor:
    """A view of a storage, made before the storage's bytes are read."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype | None = None

    def array(self) -> np.ndarray:
        """Returns a copy of the values. Raises ValueError for a view that exceeds its storage."""
        values = self.storage.array()
        if self.dtype is not None:
            values = values.view(self.dtype)
        numbers = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"a tensor with offset {self.offset}, shape {self.shape} and strides {self.strides}")
        empty = 0 in self.shape
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        if not empty and last >= values.size:
            raise ValueError(f"a tensor that ends at element {last} of a storage of {values.size}")
        if empty:
            return np.zeros(self.shape, values.dtype)
        size = math.prod(self.shape)
        if size > values.size + EXPANDED:
            raise ValueError(f"a tensor of {size} values over a storage of {values.size}")
        steps = tuple(s * values.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps, writeable=False).copy()


@dataclass
class Storages:
    """The storages that a pickle refers to, by key.

    found: key -> storage. views: key -> view of a storage.
    """

    found: dict[str, Storage] = field(default_factory=dict)
    views: dict[str, Storage] = field(default_factory=dict)

    def find(self, persistent_id: Any) -> Storage:
        """Returns the storage of a persistent id ("storage", type, key, device, count, view), made if it is new.

        view: None or (key, start, count).
        """
        if not (isinstance(persistent_id, tuple) and len(persistent_id) >= 5 and persistent_id[0] == "storage"):
            raise pickle.UnpicklingError(f"persistent id {str(persistent_id)[:80]!r}")
        _, dtype, key, _, numel = persistent_id[:5]
        root = self.found.setdefault(str(key), Storage(np.dtype(dtype), int(numel)))
        view = persistent_id[5] if len(persistent_id) > 5 else None
        if view is None:
            return root
        key, start, numel = view
        return self.views.setdefault(str(key), Storage(root.dtype, int(numel), root=root, start=int(start)))


def _allowed_globals() -> dict[tuple[str, str], Any]:
    """Returns (module, name) -> stand-in for all names that a pickle may refer to.

    The stand-ins are made for each file, as a pickle can set attributes of the functions it receives.
    """

    def rebuild_tensor(storage, offset, shape, strides, *_):
        return Tensor(storage, offset, tuple(shape), tuple(strides))

    def rebuild_tensor_v3(storage, offset, shape, strides, requires_grad, hooks, dtype, *_):
        return Tensor(storage, offset, tuple(shape), tuple(strides), np.dtype(dtype))

    def rebuild_parameter(data, *_):
        return data

    def size(values=()):
        return tuple(values)

    def device(*args):
        return ":".join(map(str, args))

    def dtype(code, *_):
        found = np.dtype(str(code))
        if found.kind not in "fiub":
            raise Refused(f"numpy.dtype({code!r})")
        return found

    def scalar(kind, data):
        data = data.encode("latin1") if isinstance(data, str) else bytes(data)
        return np.frombuffer(data, kind)[0].item()

    def encode(text, encoding):
        return text.encode("latin1")  # protocol 2 writes the bytes of a numpy scalar so

    names: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v3"): rebuild_tensor_v3,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
        ("torch", "Size"): size,
        ("torch", "device"): device,
        ("numpy", "dtype"): dtype,
        ("numpy.core.multiarray", "scalar"): scalar,
        ("numpy._core.multiarray", "scalar"): scalar,
        ("_codecs", "encode"): encode,
    }
    for name, kind in STORAGE_DTYPES.items():
        names["torch", name] = names["torch.storage", name] = np.dtype(kind)
        names["torch", name.replace("Storage", "Tensor")] = np.dtype(kind)  # in the tar container
    for name, kind in TORCH_DTYPES.items():
        names["torch", name] = np.dtype(kind)
    return names


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler of one pickle; find: persistent id -> object."""

    def __init__(self, file: BinaryIO, find: Callable[[Any], Any]):
        super().__init__(file, encoding="latin1")
        self._names = _allowed_globals()
        self._find = find

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in for module.name. Raises Refused for any other name."""
        if (module, name) not in self._names:
            raise Refused(f"{module}.{name}")
        return self._names[module, name]

    def persistent_load(self, persistent_id: Any) -> Any:
        """Returns a storage or tensor that is stored outside the pickle."""
        return self._find(persistent_id)


def unpickle(file: BinaryIO, find: Callable[[Any], Any]) -> Any:
    """Returns the object of the pickle at the position of `file`, and leaves the position at the pickle's end.

    find: persistent id -> object.
    Raises Refused for a name that no state dict needs, ValueError and others for a damaged pickle.
    """
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        # the C unpickler allocates as many objects as a memo index asks for
        if "PUT" in opcode.name and int(argument) > file.tell() - start:
            raise ValueError(f"a pickle whose memo has {argument} entries")
    file.seek(start)
    return RestrictedUnpickler(file, find).load()


@dataclass
class Budget:
    """A limit on the values of all tensors of a file: a few bytes of a pickle make one more view of a large storage."""

    storages: set[int] = field(default_factory=set)  # their ids
    stored: int = 0
    taken: int = 0

    def take(self, tensor: Tensor) -> None:
        """Counts the values of a tensor, which are copied. Raises ValueError if there are too many in total."""
        root = tensor.storage.root or tensor.storage
        if id(root) not in self.storages:
            self.storages.add(id(root))
            self.stored += root.values.size
        self.taken += math.prod(tensor.shape)
        if self.taken > SHARED * self.stored + EXPANDED:
            raise ValueError(f"a view too many: {self.taken} values in tensors so far, {self.stored} in their storages")


def with_arrays(tree: Any, where: str = "") -> Any:
    """Returns the tree with arrays in place of tensors; an object that occurs twice is converted once.

    where: name of the tree in errors.
    Raises ValueError, with the entry, for a tensor that exceeds its storage or the memory's budget.
    """
    return _with_arrays(tree, where, {}, Budget())


def _with_arrays(tree: Any, where: str, done: dict[int, Any], budget: Budget) -> Any:
    if not isinstance(tree, (Tensor, Storage, dict, list, tuple, set, frozenset)):
        return tree
    if id(tree) in done:
        return done[id(tree)][1]
    if isinstance(tree, Tensor):
        try:
            found = tree.array()
            budget.take(tree)
        except Exception as error:
            raise ValueError(f"entry {where or 'of the file'!r} is {error}") from None
    elif isinstance(tree, Storage):
        found = tree.array()
    elif isinstance(tree, dict):
        found = {key: _with_arrays(value, f"{where}.{key}".lstrip("."), done, budget) for key, value in tree.items()}
    elif isinstance(tree, (list, tuple)):
        found = type(tree)([_with_arrays(value, f"{where}[{i}]", done, budget) for i, value in enumerate(tree)])
    else:
        found = tree
    done[id(tree)] = (tree, found)  # keeps `tree` alive, so that its id stays its own
    return found
