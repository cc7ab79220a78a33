"""What a file may take: only regular files are read, and their size is known before they are read or unpacked."""

from __future__ import annotations

import os
import stat

from segjax.data.image_header import MAX_PIXELS
from segjax.errors import UserError

MAX_BYTES = 8 * MAX_PIXELS  # of a file that is read whole: the largest picture, RGBA of 16 bits, not compressed
EXPANSION = 100  # an archive may expand to this many times its size: images are compressed already
ALWAYS_EXPANDED = 1 << 26  # bytes that any archive may expand to: masks of one class shrink more
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def check_regular(path: str | os.PathLike) -> int:
    """Returns the bytes of a file, 0 for a missing one and for a folder, which have errors of their own; follows links.

    Raises UserError for a pipe, a device or a socket, whose reading may never end.
    """
    try:
        status = os.stat(path)
    except OSError:
        return 0
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        return 0
    if kind != stat.S_IFREG:
        raise UserError(f"{path} is {_KINDS.get(kind, 'special')}, not a file; copy its content into a file")
    return status.st_size


def check_readable(path: str | os.PathLike) -> None:
    """Raises UserError for what `check_regular` refuses, and for a file of more than MAX_BYTES."""
    size = check_regular(path)
    if size > MAX_BYTES:
        raise UserError(
            f"{path} has {size / 1e9:.1f} GB, but at most {MAX_BYTES / 1e9:.1f} GB of a file are read; divide or "
            "compress it"
        )


def expansion_limit(size: int) -> int:
    """Returns how many bytes an archive of `size` bytes may expand to."""
    return max(ALWAYS_EXPANDED, EXPANSION * size)


def check_expansion(file: str | os.PathLike, expanded: int, size: int) -> None:
    """Raises UserError for an archive that expands more than archives of images do.

    expanded: bytes of all that it holds. size: bytes of the archive.
    """
    if expanded > expansion_limit(size):
        raise UserError(
            f"{file} expands from {size / 1e6:.1f} MB to {expanded / 1e6:.0f} MB or more, but images are compressed "
            f"already, so that at most {expansion_limit(size) / 1e6:.0f} MB of it are read; unpack it and give the "
            "folder"
        )
