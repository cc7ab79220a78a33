"""The files of a local folder at one moment, without those that are not finished."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from segjax.remote.manifest import GROWING, OWN, Entry

# temporary names: of segjax.files, of orbax, of datasets that are built; locks; notes of this host
_UNFINISHED = re.compile(r"^\..*\.part-?|^\.lock$|^\.building|\.orbax-checkpoint-tmp")
NOTE = f"{OWN}.json"  # in a local folder: what it lacks is in a bucket, see shards.py
TRIES, PAUSE = 40, 0.05  # of two equal scans, seconds


class Stamp(NamedTuple):
    """What changes when a file is written: size in bytes, time of the last change in ns, number of the file."""

    size: int
    time: int
    number: int


def scan(folder: Path) -> dict[str, Stamp]:
    """Returns path below a folder -> stamp of its finished files; the paths have slashes on every system."""
    found: dict[str, Stamp] = {}
    waiting = [(folder, "")]
    while waiting:
        place, prefix = waiting.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(place) as entries:
            for entry in entries:
                if _UNFINISHED.search(entry.name) or entry.name == NOTE:
                    continue
                if entry.is_dir():
                    waiting.append((Path(entry.path), f"{prefix}{entry.name}/"))
                    continue
                with contextlib.suppress(FileNotFoundError):  # removed in this moment, or a dangling link
                    found[prefix + entry.name] = stamp(Path(entry.path))
    return found


def stamp(path: Path) -> Stamp:
    """Returns the stamp of a file. Raises FileNotFoundError without one."""
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


def still(folder: Path) -> dict[str, Stamp] | None:
    """Returns what `scan` finds twice in a row, so that all of it existed at one moment; None if it keeps changing.

    A single scan could find a file that marks others as done, and have passed the place of those before they appeared.
    """
    last = scan(folder)
    for _ in range(TRIES):
        found = scan(folder)
        if _settled(found) == _settled(last):
            return found
        last = found
        time.sleep(PAUSE)
    return None


def _settled(found: Mapping[str, Stamp]) -> dict[str, object]:
    return {name: None if GROWING.search(name) else one for name, one in found.items()}


def keep_only(folder: Path, names: Iterable[str]) -> None:
    """Removes all other files of a folder, unfinished ones too, and folders that are empty then; locks stay."""
    kept = {folder / name for name in names}
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            path = Path(place, name)
            if path not in kept and name not in (".lock", NOTE):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            if Path(place) != folder:
                if set(os.listdir(place)) <= {".lock", NOTE}:  # a lock alone is no stage, a note no dataset
                    for name in os.listdir(place):
                        Path(place, name).unlink(missing_ok=True)
                os.rmdir(place)


def set_times(folder: Path, files: Mapping[str, Entry]) -> None:
    """Sets the times of a folder's own folders: each is as new as the newest file in it."""
    newest: dict[Path, int] = {}
    for name, entry in files.items():
        for parent in (folder / name).parents:
            if parent == folder or folder not in parent.parents:
                break
            newest[parent] = max(newest.get(parent, 0), entry.time)
    for place, moment in sorted(newest.items(), key=lambda item: -len(item[0].parts)):
        with contextlib.suppress(OSError):
            os.utime(place, ns=(moment, moment))
