"""Reads the tensors of a PyTorch checkpoint (.pth, .pt, .bin) without PyTorch and without running code from the file.

There are three containers: the zip archive of torch >= 1.6 (ARCHIVE/data.pkl, ARCHIVE/data/KEY); the older stream of
pickles (magic number, protocol, platform, object, storage keys) followed by the raw storages; and the tar archive of
torch < 0.1.10 (see torch_tar.py). In each, the object is a pickle that refers to the storages by persistent id; it is
read by torch_pickle.py.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segjax.errors import UserError
from segjax.weights.torch_pickle import Refused, Storage, Storages, unpickle, with_arrays
from segjax.weights.torch_tar import is_tar, read_tar

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def _no_storage(persistent_id: Any) -> Any:
    raise ValueError(f"persistent id {str(persistent_id)[:80]!r} in a header")


def _read_exactly(file: BinaryIO, count: int, what: str) -> bytes:
    left = os.fstat(file.fileno()).st_size - file.tell()
    if not 0 <= count <= left:
        raise EOFError(f"{what} has {count} bytes, {left} are left in the file")
    return file.read(count)


def _values(data: bytes, storage: Storage, order: str, what: str) -> np.ndarray:
    values = np.frombuffer(data, storage.dtype.newbyteorder(order) if storage.dtype.kind in "fiuc" else storage.dtype)
    if values.size < storage.numel:
        raise EOFError(f"{what} should have {storage.numel} values and has {values.size}")
    return values.astype(storage.dtype, copy=False)[: storage.numel]


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [n for n in names if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in the archive")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in names:
            raise Refused("a TorchScript program")
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:  # torch never compresses; a zip bomb must
                raise ValueError(f"its entry {member.filename!r} is compressed")
        order = archive.read(f"{root}byteorder").decode() if f"{root}byteorder" in names else "little"
        storages = Storages()
        tree = unpickle(io.BytesIO(archive.read(pickles[0])), storages.find)
        for key, storage in storages.found.items():
            name = f"{root}data/{key}"
            if name not in names:
                raise EOFError(f"entry {name!r} is not there")
            storage.values = _values(archive.read(name), storage, "<>"[order == "big"], f"entry {name!r}")
    return tree


def _read_stream(file: BinaryIO) -> Any:
    header = [unpickle(file, _no_storage) for _ in range(3)]
    if header[0] != LEGACY_MAGIC or header[1] != LEGACY_PROTOCOL:
        raise ValueError("no PyTorch magic number")
    order = "<" if header[2].get("little_endian", True) else ">"
    storages = Storages()
    tree = unpickle(file, storages.find)
    for key in unpickle(file, _no_storage):
        storage, what = storages.found.get(str(key)), f"storage {str(key)[:80]!r}"
        if storage is None:
            raise ValueError(f"{what} is used by no tensor")
        count = int.from_bytes(_read_exactly(file, 8, what), "little", signed=True)
        storage.numel = max(storage.numel, count)
        storage.values = _values(_read_exactly(file, count * storage.dtype.itemsize, what), storage, order, what)
    missing = [key for key, storage in storages.found.items() if storage.values is None]
    if missing:
        raise EOFError(f"{len(missing)} storages without bytes")
    return tree


def is_torch_file(path: str | Path) -> bool:
    """Whether a file begins like a torch zip archive, the older stream or the tar archive."""
    with open(path, "rb") as file:
        head = file.read(2)
        if head == b"PK":
            try:
                with zipfile.ZipFile(file) as archive:
                    return any(n.endswith("/data.pkl") for n in archive.namelist())
            except zipfile.BadZipFile:
                return True  # damaged: read_torch raises the error
    return head[:1] == b"\x80" or is_tar(path)


def read_torch(path: str | Path) -> Any:
    """Reads a file written by `torch.save`: dicts and lists with numpy arrays in place of tensors.

    bfloat16 and float8 tensors become arrays of ml_dtypes.

    Raises UserError, with the offending entry, if the file is damaged or contains anything but tensors, containers and
    plain numbers.
    """
    path = Path(path)
    reader: Callable[[BinaryIO], Any]
    try:
        with open(path, "rb") as file:
            reader = _read_zip if file.read(2) == b"PK" else read_tar if is_tar(path) else _read_stream
            file.seek(0)
            return with_arrays(reader(file))
    except Refused as error:
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
