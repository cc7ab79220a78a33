"""Files and archives of weights, bounded: nothing is read that the file's own size does not warrant."""

from __future__ import annotations

import os
import zipfile
from typing import BinaryIO

from segjax.errors import quoted

ENTRIES = 2**18  # in an archive; a network has hundreds of tensors
RATIO = 8  # of unpacked to packed bytes, beyond SMALL; weights shrink little, those with many zeros some times
SMALL = 2**26  # bytes


class Bounded:
    """A binary file that allocates no more than is left of it, whatever count is asked for."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.size = os.fstat(file.fileno()).st_size  # bytes
        self.tell, self.readline, self.seekable = file.tell, file.readline, file.seekable

    def read(self, count: int = -1, /) -> bytes:
        """Returns the next `count` bytes, or all that are left."""
        left = max(0, self.size - self.tell())
        return self._file.read(left if count is None or count < 0 else min(count, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Goes to a place. Raises ValueError for one before the beginning, which zipfile takes from damaged files."""
        if whence == os.SEEK_SET and offset < 0:
            raise ValueError(f"an entry at byte {offset} of the file")
        return self._file.seek(offset, whence)

    def exactly(self, count: int, what: str) -> bytes:
        """Returns the next `count` bytes. Raises EOFError if fewer are left; what: name of what they are."""
        left = self.size - self.tell()
        if not 0 <= count <= left:
            raise EOFError(f"{what} has {count} bytes, {left} are left in the file")
        return self.read(count)


def entries(archive: zipfile.ZipFile, size: int, *, packed: bool = False) -> dict[str, zipfile.ZipInfo]:
    """Returns name -> entry of a zip archive, none of which is folder, and whose bytes fit the size of its file.

    size: of the file, bytes.
    packed: whether entries may be compressed: up to SMALL bytes, or RATIO times the size.

    Raises ValueError for an entry that is compressed in another way, a name that occurs twice, and for more bytes.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    total, most = 0, max(SMALL, RATIO * size) if packed else size
    for entry in archive.infolist():
        name = f"its entry {quoted(entry.filename)}"
        if entry.is_dir():
            continue
        if entry.compress_type != zipfile.ZIP_STORED and not (packed and entry.compress_type == zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is compressed")
        if entry.flag_bits & 1:
            raise ValueError(f"{name} is encrypted")
        if entry.filename in found:
            raise ValueError(f"{name} is there twice")
        found[entry.filename] = entry
        total += entry.file_size
        if total > most or len(found) > ENTRIES:
            raise ValueError(f"{len(found)} or more entries with {total} bytes are too many for a file of {size} bytes")
    return found
