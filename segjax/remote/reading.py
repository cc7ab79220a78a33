"""A run, a checkpoint or a file of weights in a bucket, fetched to read it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from segjax.errors import UserError
from segjax.files import write_file
from segjax.remote.address import Address
from segjax.remote.manifest import LAZY, read_files
from segjax.remote.mirror import Mirror
from segjax.remote.place import place_of
from segjax.remote.store import Store

log = logging.getLogger("segjax")

# what no reader of a checkpoint or of a report needs
_UNREAD = ("/dataset/", "/shards/", "/events/")
TRIES = 4


def fetch(address: Address, option: str) -> Path:
    """Fetches a run, a part of one, or one file, and returns its local copy, which stays for the next call.

    Of a run it fetches checkpoints, weights and reports, and only what has changed since the last call. A folder that
    is a written dataset is fetched without its records, see shards.py.

    address: of a run, a folder in one, or a file.
    option: what the address is the value of, for errors.

    Raises UserError if there is nothing, or the bucket refuses.
    """
    if Path(address.path).suffix == ".safetensors":
        return _file(address, option)
    for root in (address, *address.parents):
        store = Store(root)
        files = read_files(store)
        if files is None:
            continue
        below = address.path.removeprefix(root.path).strip("/")
        if below and not any(name.startswith(f"{below}/") for name in files):
            break
        folder = place_of(root, "data" if _is_data(below) else "read")
        with _alone(folder):
            for _ in range(TRIES):  # a run that trains may remove a checkpoint which is being fetched
                Mirror(store, folder).pull(functools.partial(_is_read, below=below))
                before, files = files, read_files(store)
                if files == before:
                    break
        return folder / below if below else folder
    raise UserError(
        f"{option}={address} names nothing that segjax has written; check the bucket and the path, and give the "
        "--workdir of a run, one of its stages, or an exported .safetensors file."
    )


def _is_data(below: str) -> bool:
    return f"/{below}/".endswith("/dataset/")


def _is_read(name: str, below: str) -> bool:
    if _is_data(below):
        return name.startswith(f"{below}/")
    return not any(part in f"/{name}" for part in _UNREAD) and not LAZY.search(name)


def _file(address: Address, option: str) -> Path:
    data = Store(address.parents[0]).read(address.path.rpartition("/")[2]) if address.path else None
    if data is None:
        raise UserError(f"{option}={address} does not exist; check the bucket and the path.")
    path = place_of(address, "files")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data, durable=False)
    return path


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process of this host fetches the same run."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "a") as file:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
