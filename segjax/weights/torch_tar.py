"""The container of torch < 0.1.10 (2016): a tar archive of `storages`, `tensors` and `pickle`.

storages: a pickled count; for each storage a pickled (key, device, type), the number of values as int64, the values;
    then a pickled list of views (key, key of the root, start, count).
tensors: a pickled count; for each tensor a pickled (key, key of the storage, type), the number of dimensions as int32,
    four unused bytes, sizes, strides and offset as int64.
pickle: the object; a persistent id is the key of a tensor or storage, or a tuple that begins with a class.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segjax.weights.torch_pickle import Refused, Storage, Tensor, unpickle

MEMBERS = ("storages", "tensors", "pickle")


def is_tar(path: str | Path) -> bool:
    """Whether a file is a tar archive with the three members."""
    try:
        with tarfile.open(path, "r:") as archive:
            return set(MEMBERS) <= {member.name for member in archive}
    except (tarfile.TarError, EOFError, ValueError):
        return False


def read_tar(file: BinaryIO) -> Any:
    """Returns the object of the archive, which contains `Tensor`s; see `torch_pickle.with_arrays`."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        parts = {}
        for name in MEMBERS:
            member = archive.extractfile(name)
            if member is None:
                raise ValueError(f"its entry {name!r} is no file")
            parts[name] = io.BytesIO(member.read())
    objects: dict[int, Storage | Tensor] = {}
    _read_storages(parts["storages"], objects)
    _read_tensors(parts["tensors"], objects)

    def find(persistent_id: Any) -> Any:
        if isinstance(persistent_id, tuple):
            raise Refused("a module, not its weights")
        return objects[int(persistent_id)]

    return unpickle(parts["pickle"], find)


def _no_id(persistent_id: Any) -> Any:
    raise ValueError(f"persistent id {str(persistent_id)[:80]!r} in a header")


def _read_storages(file: BinaryIO, objects: dict[int, Any]) -> None:
    for _ in range(_read_count(file)):
        key, _, kind = unpickle(file, _no_id)
        dtype = np.dtype(kind)
        (numel,) = _int64(file, 1)
        objects[key] = Storage(dtype, numel, np.frombuffer(_exactly(file, numel * dtype.itemsize), dtype))
    for key, root, start, numel in unpickle(file, _no_id):
        objects[key] = Storage(objects[root].dtype, numel, root=objects[root], start=start)


def _read_tensors(file: BinaryIO, objects: dict[int, Any]) -> None:
    for _ in range(_read_count(file)):
        key, storage, _ = unpickle(file, _no_id)
        ndim = int.from_bytes(_exactly(file, 4), "little", signed=True)
        _exactly(file, 4)
        shape, strides, (offset,) = _int64(file, ndim), _int64(file, ndim), _int64(file, 1)
        objects[key] = Tensor(objects[storage], offset, shape, strides)


def _read_count(file: BinaryIO) -> int:
    count = unpickle(file, _no_id)
    if type(count) is not int:
        raise ValueError("a count that is no number")
    return count


def _int64(file: BinaryIO, count: int) -> tuple[int, ...]:
    return tuple(np.frombuffer(_exactly(file, 8 * count), "<i8").tolist())


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count) if count >= 0 else b""
    if len(data) != count:
        raise EOFError(f"{count} bytes expected, {len(data)} left")
    return data
