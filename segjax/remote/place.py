"""Where the local copies of remote places lie, and how much of the disk they may take."""

from __future__ import annotations

import os
from pathlib import Path

from segjax.errors import UserError
from segjax.remote.address import Address

FOLDER, LIMIT = "SEGJAX_CACHE_DIR", "SEGJAX_CACHE_GB"


def cache_root() -> Path:
    """Returns the folder of all local copies: $SEGJAX_CACHE_DIR, by default ~/.cache/segjax/remote.

    Raises UserError if the variable holds a remote address.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segjax" / "remote"
    folder = os.environ.get(FOLDER) or str(cache)
    if "://" in folder:
        raise UserError(f"{FOLDER}={folder} is not a local folder; it holds the local copies of remote files.")
    return Path(folder).expanduser().absolute()


def place_of(address: Address, kind: str) -> Path:
    """Returns the folder of the local copy of a remote place.

    kind: use of the copy: "runs" (worked on), "read" (checkpoints and reports), "data", "files", "datasets". Copies for
        different uses of one address are apart.
    """
    return cache_root() / kind / address.scheme / address.bucket / Path(address.path or "_")


def cache_limit() -> int | None:
    """Returns the bytes that fetched shards may take on this host, from $SEGJAX_CACHE_GB; None for what is free.

    Raises UserError for a value that is no number above 0.
    """
    text = os.environ.get(LIMIT, "")
    try:
        size = float(text) if text else None
    except ValueError:
        size = -1.0
    if size is not None and not 0 < size < float("inf"):
        raise UserError(f"{LIMIT}={text!r} must be a number of gigabytes above 0, such as 200.")
    return None if size is None else int(size * 1e9)
