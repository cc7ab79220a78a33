"""Reads the tensors of a PyTorch checkpoint (.pth, .pt, .bin) without PyTorch and without running code from the file.

There are three containers: the zip archive of torch >= 1.6 (ARCHIVE/data.pkl, ARCHIVE/data/KEY); the older stream of
pickles (magic number, protocol, platform, object, storage keys) followed by the raw storages; and the tar archive of
torch < 0.1.10 (see torch_tar.py). In each, the object is a pickle that refers to the storages by persistent id; it is
read by torch_pickle.py.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segjax.errors import UserError, brief, quoted
from segjax.weights.archives import Bounded, entries
from segjax.weights.pickle_machine import Refused, check_key
from segjax.weights.torch_pickle import no_storage, unpickle
from segjax.weights.torch_tar import is_tar, read_tar
from segjax.weights.torch_tensors import Storage, Storages, from_bytes, with_arrays

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def _values(data: bytes, storage: Storage, big_endian: bool, what: str) -> np.ndarray:
    values = from_bytes(data, storage.dtype, big_endian=big_endian)
    if values.size < storage.numel:
        raise EOFError(f"{what} should have {storage.numel} values and has {values.size}")
    return values[: storage.numel]


def _read_zip(file: Bounded) -> Any:
    with zipfile.ZipFile(file) as archive:
        found = entries(archive, file.size)
        pickles = [n for n in found if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in the archive")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in found:
            raise Refused("a TorchScript program")
        order = f"{root}byteorder"
        big_endian = order in found and archive.read(found[order]) == b"big"
        storages = Storages()
        tree = unpickle(io.BytesIO(archive.read(found[pickles[0]])), storages.find)
        for key, storage in storages.found.items():
            name = f"{root}data/{key}"
            if name not in found:
                raise EOFError(f"entry {quoted(name)} is not there")
            storage.values = _values(archive.read(found[name]), storage, big_endian, f"entry {quoted(name)}")
    return tree


def _read_stream(file: Bounded) -> Any:
    magic, protocol, system = (unpickle(file, no_storage) for _ in range(3))
    if (type(magic), type(protocol)) != (int, int) or (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise ValueError("no PyTorch magic number")
    if type(system) is not dict:
        raise ValueError(f"{quoted(system)} for the description of the system")
    big_endian = system.get("little_endian", True) is False
    storages = Storages()
    tree = unpickle(file, storages.find)
    keys = unpickle(file, no_storage)
    if type(keys) is not list:
        raise ValueError(f"{quoted(keys)} for the list of storages")
    for key in keys:
        what = f"storage {quoted(key)}"
        storage = storages.found.get(str(check_key(key)))
        if storage is None or storage.values is not None:
            raise ValueError(f"{what} is used by no tensor" if storage is None else f"{what} is there twice")
        count = int.from_bytes(file.exactly(8, what), "little", signed=True)
        storage.numel = max(storage.numel, count)
        storage.values = _values(file.exactly(count * storage.itemsize, what), storage, big_endian, what)
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
                with zipfile.ZipFile(Bounded(file)) as archive:
                    return any(n.endswith("/data.pkl") for n in archive.namelist())
            except Exception:  # noqa: BLE001 (damaged in any way: read_torch raises the error)
                return True
    return head[:1] == b"\x80" or is_tar(path)


def read_torch(path: str | Path) -> Any:
    """Reads a file written by `torch.save`: dicts and lists with numpy arrays in place of tensors.

    bfloat16 and float8 tensors become arrays of ml_dtypes.

    Raises UserError, with the offending entry, if the file is damaged or contains anything but tensors, containers and
    plain numbers.
    """
    path = Path(path)
    reader: Callable[[Bounded], Any]
    try:
        with open(path, "rb") as file:
            reader = _read_zip if file.read(2) == b"PK" else read_tar if is_tar(path) else _read_stream
            file.seek(0)
            return with_arrays(reader(Bounded(file)))
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
            f"({type(error).__name__}: {brief(str(error), 300)}); fetch it again or check its size."
        ) from None
