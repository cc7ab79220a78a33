"""Reads the tensors of a PyTorch checkpoint (.pth, .pt, .bin) without PyTorch and without running code from the file.

Two containers exist: the zip archive of torch >= 1.6 (ARCHIVE/data.pkl, ARCHIVE/data/KEY) and the older stream of
pickles (magic number, protocol, platform, object, storage keys) followed by the raw storages. In both the object is a
pickle that refers to storages by persistent id. The unpickler knows the handful of names that a state dict needs and
refuses every other one, so a file can neither import nor call anything.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from segjax.errors import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

STORAGE_DTYPES = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16,
    "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_, "UntypedStorage": np.uint8,
    "ComplexFloatStorage": np.complex64, "ComplexDoubleStorage": np.complex128,
}  # fmt: skip
TORCH_DTYPES = {
    "float64": np.float64, "double": np.float64, "float32": np.float32, "float": np.float32, "float16": np.float16,
    "half": np.float16, "bfloat16": ml_dtypes.bfloat16, "int64": np.int64, "int32": np.int32, "int16": np.int16,
    "int8": np.int8, "uint8": np.uint8, "bool": np.bool_,
}  # fmt: skip


class _Refused(Exception):
    """A name that a state dict has no use for."""


@dataclass(eq=False)
class _Storage:
    dtype: np.dtype
    numel: int
    values: np.ndarray | None = None  # filled when the bytes are read; in the older container they come last


@dataclass(eq=False)
class _Tensor:
    """A view into a storage, made by the pickle before the storage's bytes are known."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype | None = None

    def array(self) -> np.ndarray:
        """The values, copied out of the storage; a view that leaves its storage is refused."""
        values = self.storage.values
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
        steps = tuple(s * values.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps, writeable=False).copy()


@dataclass
class _Module:
    """Storages met so far, and how a new persistent id becomes one."""

    storages: dict[str, _Storage] = field(default_factory=dict)

    def find(self, persistent_id: tuple) -> _Storage:
        if not (isinstance(persistent_id, tuple) and len(persistent_id) >= 5 and persistent_id[0] == "storage"):
            raise pickle.UnpicklingError(f"persistent id {persistent_id!r}")
        _, dtype, key, _, numel = persistent_id[:5]
        if len(persistent_id) > 5 and persistent_id[5] is not None:
            raise pickle.UnpicklingError("a storage that is a view of another storage (torch < 0.4)")
        return self.storages.setdefault(str(key), _Storage(np.dtype(dtype), int(numel)))


def _names() -> dict[tuple[str, str], Any]:
    """What a pickle may refer to. Made anew for each file: a pickle can set attributes of the functions it gets."""

    def rebuild_tensor(storage, offset, shape, strides, *_):
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    def rebuild_tensor_v3(storage, offset, shape, strides, requires_grad, hooks, dtype, *_):
        return _Tensor(storage, offset, tuple(shape), tuple(strides), np.dtype(dtype))

    def rebuild_parameter(data, *_):
        return data

    def size(values=()):
        return tuple(values)

    def device(*args):
        return ":".join(map(str, args))

    def dtype(code, *_):
        found = np.dtype(str(code))
        if found.kind not in "fiub":
            raise _Refused(f"numpy.dtype({code!r})")
        return found

    def scalar(kind, data):
        data = data.encode("latin1") if isinstance(data, str) else bytes(data)
        return np.frombuffer(data, kind)[0].item()

    def encode(text, encoding):
        return text.encode("latin1")  # how protocol 2 writes the bytes of a numpy scalar

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
    for name, kind in TORCH_DTYPES.items():
        names["torch", name] = np.dtype(kind)
    return names


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, module: _Module):
        super().__init__(file, encoding="latin1")
        self._names = _names()
        self._module = module

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise _Refused(f"{module}.{name}")
        return self._names[module, name]

    def persistent_load(self, persistent_id: Any) -> _Storage:
        return self._module.find(persistent_id)


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise EOFError(f"{count} bytes expected, {len(data)} left")
    return data


def _values(data: bytes, storage: _Storage, order: str) -> np.ndarray:
    values = np.frombuffer(data, storage.dtype.newbyteorder(order) if storage.dtype.kind in "fiuc" else storage.dtype)
    if values.size < storage.numel:
        raise EOFError(f"a storage of {storage.numel} values holds {values.size}")
    return values.astype(storage.dtype, copy=False)[: storage.numel]


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [n for n in names if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in the archive")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in names:
            raise _Refused("a TorchScript program")
        order = archive.read(f"{root}byteorder").decode() if f"{root}byteorder" in names else "little"
        module = _Module()
        tree = _Unpickler(io.BytesIO(archive.read(pickles[0])), module).load()
        for key, storage in module.storages.items():
            storage.values = _values(archive.read(f"{root}data/{key}"), storage, "<>"[order == "big"])
    return tree


def _read_stream(file: BinaryIO) -> Any:
    module = _Module()
    header = [_Unpickler(file, module).load() for _ in range(3)]
    if header[0] != LEGACY_MAGIC or header[1] != LEGACY_PROTOCOL:
        raise ValueError("no PyTorch magic number")
    order = "<" if header[2].get("little_endian", True) else ">"
    tree = _Unpickler(file, module).load()
    for key in _Unpickler(file, module).load():
        storage = module.storages.get(str(key))
        if storage is None:
            raise ValueError(f"storage {key!r} that no tensor uses")
        count = int.from_bytes(_read_exactly(file, 8), "little")
        storage.numel = max(storage.numel, count)
        storage.values = _values(_read_exactly(file, count * storage.dtype.itemsize), storage, order)
    missing = [key for key, storage in module.storages.items() if storage.values is None]
    if missing:
        raise EOFError(f"{len(missing)} storages without bytes")
    return tree


def _resolve(tree: Any) -> Any:
    if isinstance(tree, _Tensor):
        return tree.array()
    if isinstance(tree, dict):
        return {key: _resolve(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map(_resolve, tree))
    return tree


def is_torch_file(path: str | Path) -> bool:
    """Whether the first bytes are those of a torch zip archive or of the older stream."""
    with open(path, "rb") as file:
        head = file.read(2)
        if head == b"PK":
            with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
                return any(n.endswith("/data.pkl") for n in archive.namelist())
            return True  # damaged: read_torch says so
    return head[:1] == b"\x80"


def read_torch(path: str | Path) -> Any:
    """What `torch.save` wrote to path: dicts and lists with numpy arrays in place of tensors (bfloat16: ml_dtypes).

    Raises UserError when the file is truncated or damaged, or holds anything but tensors, containers and plain numbers.
    """
    path = Path(path)
    reader: Callable[[BinaryIO], Any]
    try:
        with open(path, "rb") as file:
            reader = _read_zip if file.read(2) == b"PK" else _read_stream
            file.seek(0)
            return _resolve(reader(file))
    except _Refused as error:
        raise UserError(
            f"{path} holds {error}, which is no tensor and is refused: loading it would run code from the file; "
            "save the weights alone with torch.save(model.state_dict(), path) and load that."
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(
            f"{path} is truncated or not a PyTorch checkpoint "
            f"({type(error).__name__}: {error}); fetch it again or check its size."
        ) from None
