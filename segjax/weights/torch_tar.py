"""The container of torch < 0.1.10 (2016): a tar archive of `storages`, `tensors` and `pickle`.

storages: a pickled count; for each storage a pickled (key, device, type), the number of values as int64, the values;
    then a pickled list of views (key, key of the root, start, count).
tensors: a pickled count; for each tensor a pickled (key, key of the storage, type), the number of dimensions as int32,
    four unused bytes, sizes, strides and offset as int64.
pickle: the object; a persistent id is the key of a tensor or storage, or a tuple that begins with a class.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from segjax.weights.archives import Bounded
from segjax.weights.pickle_machine import Refused, check_key
from segjax.weights.torch_pickle import no_storage, unpickle
from segjax.weights.torch_tensors import DType, Storage, Tensor, checked, from_bytes, tensor

MEMBERS = ("storages", "tensors", "pickle")
BLOCK = 512  # bytes of a header; members are padded to whole blocks
PLAIN = (b"0", b"\0")  # types of members that are files, neither links nor sparse


def is_tar(path: str | Path) -> bool:
    """Whether a file is a tar archive with the three members."""
    with open(path, "rb") as file:
        try:
            return set(MEMBERS) <= _members(Bounded(file)).keys()
        except (ValueError, EOFError):
            return False


def _members(file: Bounded) -> dict[str, tuple[bytes, int, int]]:
    """Returns name -> (type, first byte, bytes) of the three members, as far as they are there.

    Others are passed over, also those that hold a long name: none of the three needs one. Python's tarfile reads each
    of these within the one before, and a sparse member as the zeros that it stands for.

    Raises ValueError for a damaged header, EOFError for a member that exceeds the file.
    """
    found: dict[str, tuple[bytes, int, int]] = {}
    place = 0
    while place + BLOCK <= file.size:
        file.seek(place)
        header = file.read(BLOCK)
        if not any(header):
            break
        blank = header[:148] + b" " * 8 + header[156:]
        count = _octal(header[124:136])
        if _octal(header[148:156]) != sum(blank):
            raise ValueError(f"a damaged header at byte {place}")
        if place + BLOCK + count > file.size:
            raise EOFError(f"a member of {count} bytes at byte {place} of {file.size}")
        name = header[:100].partition(b"\0")[0].decode("latin1")
        if name in MEMBERS:
            if name in found:
                raise ValueError(f"its entry {name!r} is there twice")
            found[name] = header[156:157], place + BLOCK, count
        place += BLOCK + -(-count // BLOCK) * BLOCK
    return found


def _octal(field: bytes) -> int:
    text = field.strip(b"\0 ")
    if not all(digit in b"01234567" for digit in text):
        raise ValueError(f"{text!r} is no octal number")
    return int(text or b"0", 8)


def read_tar(file: Bounded) -> Any:
    """Returns the object of the archive, which contains `Tensor`s; see `torch_tensors.with_arrays`."""
    parts = {}
    for name, (kind, start, count) in _members(file).items():
        if kind not in PLAIN:
            raise ValueError(f"its entry {name!r} is no file but a link, sparse or a folder")
        file.seek(start)
        parts[name] = io.BytesIO(file.exactly(count, f"its entry {name!r}"))
    objects: dict[Any, Storage | Tensor] = {}
    _read_storages(parts["storages"], objects)
    _read_tensors(parts["tensors"], objects)

    def find(persistent_id: Any) -> Any:
        if type(persistent_id) is tuple:
            raise Refused("a module, not its weights")
        return objects[int(check_key(persistent_id))]

    return unpickle(parts["pickle"], find)


def _read_storages(file: io.BytesIO, objects: dict[Any, Any]) -> None:
    for _ in range(_read_count(file)):
        key, _, kind = _tuple(file)
        if not isinstance(kind, DType):
            raise ValueError("a storage without a type")
        (numel,) = _int64(file, 1)
        storage = Storage(kind.name, checked(numel, "a storage"))
        storage.values = from_bytes(_exactly(file, numel * storage.itemsize), kind.name)
        objects[check_key(key)] = storage
    for key, root, start, numel in unpickle(file, no_storage):
        storage = _storage(objects, root)
        if storage.root is not None:
            raise ValueError("a view of a view of a storage")
        objects[check_key(key)] = Storage(
            storage.dtype, checked(numel, "a storage"), root=storage, start=checked(start, "the start of a storage")
        )


def _read_tensors(file: io.BytesIO, objects: dict[Any, Any]) -> None:
    for _ in range(_read_count(file)):
        key, storage, _ = _tuple(file)
        ndim = int.from_bytes(_exactly(file, 4), "little", signed=True)
        _exactly(file, 4)
        shape, strides, (offset,) = _int64(file, ndim), _int64(file, ndim), _int64(file, 1)
        objects[check_key(key)] = tensor(_storage(objects, storage), offset, shape, strides)


def _storage(objects: dict[Any, Any], key: Any) -> Storage:
    found = objects[check_key(key)]
    if not isinstance(found, Storage):
        raise ValueError("a tensor in place of a storage")
    return found


def _tuple(file: io.BytesIO) -> tuple[Any, Any, Any]:
    found = unpickle(file, no_storage)
    if type(found) is not tuple or len(found) != 3:
        raise ValueError("a description that is no tuple of three")
    return found


def _read_count(file: io.BytesIO) -> int:
    count = unpickle(file, no_storage)
    if type(count) is not int:
        raise ValueError("a count that is no number")
    return count


def _int64(file: io.BytesIO, count: int) -> tuple[int, ...]:
    return tuple(np.frombuffer(_exactly(file, 8 * count), "<i8").tolist())


def _exactly(file: io.BytesIO, count: int) -> bytes:
    data = file.read(count) if count >= 0 else b""
    if len(data) != count:
        raise EOFError(f"{count} bytes expected, {len(data)} left")
    return data
