"""Which files belong to a remote folder: one object, written last, lists them with their digests.

A bucket has no rename of a folder, so that a killed copy leaves some of its files. What the list lacks is ignored, and
so is an object whose bits are not those of the list.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping

from segjax.errors import UserError
from segjax.remote.store import Store

OWN = ".segjax-remote"  # what segjax keeps for itself below a remote folder
FILES = f"{OWN}/files.json"
BEGUN = f"{OWN}/begun.json"
NEXT = f"{OWN}/next"
# records of a finished dataset: on a host that reads them, shard by shard (segjax/remote/shards.py)
LAZY = re.compile(r"\.array_record-\d{5}-of-\d{5}$")
# files that a run appends to: no other file depends on their end
GROWING = re.compile(r"(^|/)(metrics\.jsonl|events/[^/]*)$")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file of a remote folder.

    size: in bytes.
    time: of its last change, ns since 1970: files of a run are compared by it.
    digest: SHA-256, 64 hex digits.
    """

    size: int
    time: int
    digest: str


Files = dict[str, Entry]  # path below the folder, with slashes


def encode(files: Mapping[str, Entry]) -> bytes:
    """Returns files as JSON."""
    plain = {name: dataclasses.astuple(entry) for name, entry in sorted(files.items())}
    return json.dumps({"version": 1, "files": plain}, indent=0).encode()


def decode(data: bytes, place: str) -> Files:
    """Returns what `encode` has written. Raises UserError for anything else; place: of the object, for the error."""
    try:
        content = json.loads(data)
        if content["version"] != 1:
            raise ValueError("version")
        files = {
            name: Entry(int(size), int(time), str(digest)) for name, (size, time, digest) in content["files"].items()
        }
        if not all(map(_inside, files)):
            raise ValueError("path")
        return files
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{place} is damaged, or of a newer version of segjax; give another folder, or delete this one to start "
            "again."
        ) from None


def read_files(store: Store) -> Files | None:
    """Returns the files of a remote folder; None if nothing was ever written there. Raises UserError as `decode`."""
    data = store.read(FILES)
    return None if data is None else decode(data, str(store.address / FILES))


def _inside(name: str) -> bool:
    """Whether a name stays below its folder on this host."""
    parts = name.split("/")
    return not any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts) and ":" not in parts[0]


def own(name: str) -> bool:
    """Returns whether an object below a remote folder is segjax's own, and no file of it."""
    return name.startswith(f"{OWN}/")


def foreign(names: Iterable[str]) -> list[str]:
    """Returns the names of objects that are files."""
    return [name for name in names if not own(name) and not name.endswith("/")]
