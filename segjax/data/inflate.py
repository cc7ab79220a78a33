"""Compressed data of PNG and TIFF, of which no more is unpacked than the picture holds."""

from __future__ import annotations

import zlib


def inflate(data: bytes, limit: int) -> bytes | None:
    """Returns what zlib data holds; None if it is damaged, cut off, or holds more than `limit` bytes."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, limit + 1)  # the byte behind the limit tells that there is more
    except zlib.error:
        return None
    return found if stream.eof and len(found) <= limit else None
