"""Records of a dataset in a bucket, fetched shard by shard as they are read, within a part of the disk.

A note in the dataset's local folder lists the shards that the bucket has (`notes.write_note`). A host fetches those
that it reads, and the one that was read longest ago gives way. Other processes of the host share them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from segjax.errors import UserError
from segjax.files import replacing
from segjax.remote.address import read_address
from segjax.remote.manifest import LAZY, Entry
from segjax.remote.notes import read_note
from segjax.remote.place import FOLDER, LIMIT, cache_limit, cache_root
from segjax.remote.store import RemoteError, Store
from segjax.remote.tree import NOTE

log = logging.getLogger("segjax")

FREE = 2**28  # bytes of the disk that stay free
_LOCK = threading.Lock()


def is_partial(folder: Path) -> bool:
    """Returns whether some files of a local folder may be in a bucket only."""
    return (folder / NOTE).is_file()


def listed(folder: Path) -> dict[str, Entry]:
    """Returns name -> entry of the files that a bucket has of a local folder, fetched or not; {} for none."""
    return read_note(folder)[1]


def local_shard(path: Path) -> Path:
    """Returns the path of a shard, which is fetched first if it is in the bucket only.

    Raises UserError if the bucket refuses or has other bits, or the disk has no room for the shard.
    """
    with contextlib.suppress(FileNotFoundError):
        _touch(path)
        return path
    address, files = read_note(path.parent)
    if path.name not in files:
        raise UserError(
            f"{path} is missing, and no bucket has it; delete the folder {path.parent}, it is fetched again."
        )
    entry = files[path.name]
    with _LOCK, _locked():
        if path.exists():  # another process was faster
            return path
        _make_room(entry.size, path)
        begin = time.monotonic()
        store = Store(read_address(address, "the note of a dataset"))
        data = store.read(path.name)
        if data is None or hashlib.sha256(data).hexdigest() != entry.digest:
            what = "is missing" if data is None else "is damaged"
            raise UserError(f"{store.address / path.name} {what}; delete the dataset there, to build it again.")
        with replacing(path, durable=False) as part:
            part.write_bytes(data)
            os.utime(part, ns=(time.time_ns(), entry.time))
        log.debug("fetched %s, %.0f MB in %.1f s", path.name, entry.size / 1e6, time.monotonic() - begin)
    return path


def _touch(path: Path) -> None:
    # the time of access, which file systems do not keep themselves; that of the content stays
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _make_room(size: int, path: Path) -> None:
    """Removes fetched shards, those read longest ago first, until one of `size` bytes fits."""
    limit, root = cache_limit(), cache_root()
    fetched = sorted(_fetched(root), key=lambda item: item[0])
    used = sum(item[1] for item in fetched)
    if limit is not None and size > limit:
        raise RemoteError(
            f"{LIMIT}={limit / 1e9:g} is less than one shard ({path.name}, {size / 1e9:.3g} GB); allow more."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    while (limit is not None and used + size > limit) or shutil.disk_usage(path.parent).free < size + FREE:
        if not fetched:
            free = shutil.disk_usage(path.parent).free
            raise RemoteError(
                f"the disk of {root} is full: {path.name} needs {size / 1e6:.0f} MB and {free / 1e6:.0f} MB are free; "
                f"free some space, or name a folder on another disk with {FOLDER}."
            )
        _, freed, victim = fetched.pop(0)
        victim.unlink(missing_ok=True)
        used -= freed


def _fetched(root: Path) -> Iterator[tuple[int, int, Path]]:
    """Yields (time of the last read, bytes, path) of the shards that can be fetched again."""
    for note in root.rglob(NOTE):
        names = read_note(note.parent)[1]
        for name in names:
            if LAZY.search(name):
                with contextlib.suppress(FileNotFoundError):
                    status = (note.parent / name).stat()
                    yield status.st_atime_ns, status.st_size, note.parent / name


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Waits until no other process of this host fetches a shard: together they would fill the disk."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "a") as file:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
