"""Notes in local folders of which records of datasets a bucket has, whether or not they are here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segjax.files import read_json, write_json
from segjax.remote.manifest import Entry
from segjax.remote.tree import NOTE


def write_note(folder: Path, address: str, files: Mapping[str, list]) -> None:
    """Notes in a local folder which of its files a bucket has: name -> [size, time, digest], see `Entry`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / NOTE, {"address": address, "files": dict(files)})


def read_note(folder: Path) -> tuple[str, dict[str, Entry]]:
    """Returns (address, files) of the note in a local folder; ("", {}) without one."""
    try:
        content = read_json(folder / NOTE)
        return content["address"], {name: Entry(*entry) for name, entry in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", {}
