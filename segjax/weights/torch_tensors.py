"""The tensors of a PyTorch checkpoint: views of storages, checked, which become arrays once the bytes are read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from segjax.errors import brief, quoted
from segjax.weights.pickle_machine import Refused, Token, check_key

DTYPES = {
    "float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16,
    "int64": np.int64, "int32": np.int32, "int16": np.int16, "int8": np.int8, "uint8": np.uint8, "bool": np.bool_,
    "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64, "complex64": np.complex64,
    "complex128": np.complex128, "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
EXPANDED = 2**24  # values that tensors may have beyond their storages' (strides of 0, made by `expand`)
SHARED = 4  # tensors that may share a storage on average, beyond EXPANDED (tied weights)
MAX_AXES = 32
MAX_SIZE = 2**62  # of any count or place in a storage
MAX_DEPTH = 50  # of containers in each other


class DType(Token):
    """What stands for a type of torch in a pickle; name: key of DTYPES."""

    __slots__ = ("name",)

    def __init__(self, text: str, name: str):
        super().__init__(text)
        self.name = name


@dataclass(eq=False, repr=False, slots=True)
class Storage:
    """A block of values that tensors are views of. A storage of torch < 0.4 can be a view of another one, `root`.

    dtype: key of DTYPES.
    numel: number of values.
    values: (numel,), filled when the bytes are read; the older containers have them at the end.
    start: first value in the root.
    """

    dtype: str
    numel: int
    values: np.ndarray | None = None
    root: Storage | None = None
    start: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return np.dtype(DTYPES[self.dtype]).itemsize

    def array(self) -> np.ndarray:
        """Returns the values (numel,). Raises ValueError for a view that exceeds its root."""
        if self.root is None:
            return self.values
        values, end = self.root.values, self.start + self.numel
        if end > values.size:
            raise ValueError(f"a storage that ends at element {end} of one of {values.size}")
        return values[self.start : end]


@dataclass(eq=False, repr=False, slots=True)
class Tensor:
    """A view of a storage, made before the storage's bytes are read; offset and strides count values of the dtype.

    dtype: key of DTYPES, "" for that of the storage.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str = ""

    def array(self) -> np.ndarray:
        """Returns a copy of the values. Raises ValueError for a view that exceeds its storage."""
        values = self.storage.array()
        if self.dtype and self.dtype != self.storage.dtype:
            values = from_bytes(values.view(np.uint8), self.dtype)
        return view(values, self.offset, self.shape, self.strides)


def view(values: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """Returns a copy of a view of values (n,): element (i, j, ..) is values[offset + i * strides[0] + j * ..].

    offset, shape, strides: checked by `tensor`.
    Raises ValueError for a view that exceeds the values, and for one with far more elements.
    """
    if 0 in shape:
        return np.zeros(shape, values.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
    if last >= values.size:
        raise ValueError(f"a tensor that ends at element {last} of a storage of {values.size}")
    size = math.prod(shape)
    if size > values.size + EXPANDED:
        raise ValueError(f"a tensor of {size} values over a storage of {values.size}")
    width = values.itemsize
    steps = tuple(s * width for s in strides)
    # bytes, as a buffer has no types of ml_dtypes; numpy checks the bounds again
    return np.ndarray(shape, values.dtype, values.view(np.uint8), offset * width, steps).copy()


def from_bytes(data: bytes | np.ndarray, dtype: str, *, big_endian: bool = False) -> np.ndarray:
    """Returns the whole values that bytes hold, (n,), in the order of this machine.

    data: bytes or uint8 (n,). dtype: key of DTYPES.
    """
    kind = np.dtype(DTYPES[dtype])
    data = np.frombuffer(data, np.uint8)
    data = data[: data.size // kind.itemsize * kind.itemsize]
    if dtype == "bool":
        return data != 0  # numpy relies on a bool being 0 or 1
    if big_endian and kind.itemsize > 1:
        word = kind.itemsize // (2 if kind.kind == "c" else 1)
        data = data.reshape(-1, word)[:, ::-1].reshape(-1)
    return data.view(kind)


def checked(value: Any, what: str) -> int:
    """Returns a count or place from a file. Raises ValueError unless it is a whole number from 0 to MAX_SIZE."""
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        raise ValueError(f"{what} of {quoted(value)}")
    return value


def tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: str = "") -> Tensor:
    """Returns a tensor from what a pickle says. Raises ValueError for what is no storage, or no sizes of a view."""
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor of {quoted(storage)}, which is no storage")
    if not all(type(numbers) in (tuple, list) for numbers in (shape, strides)):
        raise ValueError(f"a tensor with shape {quoted(shape)} and strides {quoted(strides)}")
    if len(shape) != len(strides) or len(shape) > MAX_AXES:
        raise ValueError(f"a tensor with {len(shape)} sizes and {len(strides)} strides")
    sizes = tuple(checked(n, "a tensor with a size") for n in shape)
    steps = tuple(checked(n, "a tensor with a stride") for n in strides)
    return Tensor(storage, checked(offset, "a tensor with an offset"), sizes, steps, dtype)


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
        Raises Refused for what is no storage, ValueError for wrong parts.
        """
        if not (type(persistent_id) is tuple and len(persistent_id) in (5, 6) and type(persistent_id[0]) is str):
            raise ValueError(f"the persistent id {quoted(persistent_id)}")
        kind, dtype, key, _, numel = persistent_id[:5]
        if kind != "storage" or not isinstance(dtype, DType):
            raise Refused(f"the persistent id {quoted(persistent_id)}")
        root = self.found.setdefault(_storage_key(key), Storage(dtype.name, checked(numel, "a storage")))
        place = persistent_id[5] if len(persistent_id) == 6 else None
        if place is None:
            return root
        if type(place) is not tuple or len(place) != 3:
            raise ValueError(f"a storage with the view {quoted(place)}")
        key, start, numel = place
        new = Storage(
            root.dtype, checked(numel, "a storage"), root=root, start=checked(start, "the start of a storage")
        )
        return self.views.setdefault(_storage_key(key), new)


def _storage_key(key: Any) -> str:
    if type(key) not in (str, int):
        raise ValueError(f"a storage with the key {quoted(key)}")
    return str(check_key(key))


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


def with_arrays(tree: Any) -> Any:
    """Returns the tree with arrays in place of tensors, and text in place of other tokens.

    An object that occurs twice is converted once.

    Raises ValueError, with the entry, for a tensor that exceeds its storage or the memory's budget, and for containers
    that are nested too deep.
    """
    return _with_arrays(tree, (), {}, Budget())


_CONVERTED = (Tensor, Storage, Token, dict, list, tuple)


def _with_arrays(tree: Any, where: tuple[str, ...], done: dict[int, Any], budget: Budget) -> Any:
    """where: parts of the entry's name, such as (".state_dict", "[3]")."""
    if not isinstance(tree, _CONVERTED):
        return tree
    if id(tree) in done:
        return done[id(tree)][1]
    if len(where) > MAX_DEPTH:
        raise ValueError(f"entry {quoted(''.join(where).lstrip('.'))} is nested more than {MAX_DEPTH} deep")
    if isinstance(tree, Tensor):
        try:
            found = tree.array()
            budget.take(tree)
        except Exception as error:
            name = brief("".join(where).lstrip("."), 200)
            raise ValueError(f"entry {name or 'of the file'!r} is {error}") from None
    elif isinstance(tree, Storage):
        found = tree.array()
    elif isinstance(tree, Token):
        found = tree.text
    elif isinstance(tree, dict):
        found = dict(tree)
        for key, value in tree.items():
            if isinstance(value, _CONVERTED):
                found[key] = _with_arrays(value, (*where, f".{key}"), done, budget)
    else:
        found = list(tree)
        for i, value in enumerate(tree):
            if isinstance(value, _CONVERTED):
                found[i] = _with_arrays(value, (*where, f"[{i}]"), done, budget)
        found = type(tree)(found)
    done[id(tree)] = (tree, found)  # keeps `tree` alive, so that its id stays its own
    return found
