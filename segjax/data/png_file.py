"""The chunks of PNG files: checked, and reduced to those that hold pixels."""

from __future__ import annotations

import dataclasses
import mmap
import struct
import zlib

from segjax.data.inflate import inflate
from segjax.data.tiff_file import exif_orientation

MAGIC = b"\x89PNG\r\n\x1a\n"
GREY, COLOR, PALETTE, GREY_ALPHA, COLOR_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, COLOR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOR_ALPHA: 4}
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TAIL = 1 << 16
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclasses.dataclass(frozen=True)
class PngHeader:
    """Size in pixels as stored, bits per channel, colour type, EXIF orientation, number of frames.

    chunks: (type, place, length) of all chunks. complete: whether the last one is IEND.
    """

    height: int
    width: int
    bits: int
    color: int
    orientation: int
    frames: int
    chunks: tuple[tuple[bytes, int, int], ...]
    complete: bool


def read_png(data: bytes | mmap.mmap) -> PngHeader:
    """Reads the chunks of a PNG; of a mapped file only those before the pixels, so that the rest is not fetched.

    Raises struct.error if its first chunk is damaged.
    """
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR" or color not in _CHANNELS or not width or not height:
        raise struct.error("no IHDR")
    chunks, place, turned, frames, complete = [], 8, 1, 1, False
    while not complete and place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if place + 12 + length > len(data):
            break
        chunks.append((kind, place, length))
        if kind == b"eXIf":
            turned = exif_orientation(bytes(data[place + 8 : place + 8 + length]))
        elif kind == b"acTL" and length >= 4:
            (frames,) = struct.unpack_from(">I", data, place + 8)
        elif kind == b"IDAT" and isinstance(data, mmap.mmap):
            turned = _late_orientation(data[-_TAIL:]) or turned
            break
        complete = kind == b"IEND"
        place += 12 + length
    return PngHeader(height, width, bits, color, turned, frames, tuple(chunks), complete)


def _late_orientation(tail: bytes) -> int:
    """Returns the orientation of an eXIf chunk behind the pixels; 0 if there is none."""
    place = tail.rfind(b"eXIf")
    if place < 4:
        return 0
    end = place + 4 + int.from_bytes(tail[place - 4 : place], "big")
    checksum = int.from_bytes(tail[end : end + 4], "big")
    return exif_orientation(tail[place + 4 : end]) if zlib.crc32(tail[place:end]) == checksum else 0


def pixel_chunks(data: bytes, header: PngHeader) -> bytes | None:
    """Returns the PNG without chunks that do not hold pixels, about which decoders warn; None if it is damaged."""
    kept = [chunk for chunk in header.chunks if chunk[0] in _PIXELS]
    kinds = [kind for kind, *_ in kept]
    if not header.complete or any(kinds.count(kind) > 1 for kind in _PIXELS if kind != b"IDAT"):
        return None
    for _, place, length in kept:
        (checksum,) = struct.unpack_from(">I", data, place + 8 + length)
        if zlib.crc32(memoryview(data)[place + 4 : place + 8 + length]) != checksum:
            return None
    if len(kept) == len(header.chunks):
        return data
    return MAGIC + b"".join(data[place : place + 12 + length] for _, place, length in kept)


def inflates(data: bytes, header: PngHeader) -> bool:
    """Returns whether the compressed pixels are whole; libpng prints about those that are not."""
    interlaced, passes = data[28] == 1, []  # (rows, bytes of a row with its filter)
    for left, top, right, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(header.width - left) // right), -(-(header.height - top) // down)
        if columns <= 0 or rows <= 0:
            continue
        passes.append((rows, 1 + -(-columns * header.bits * _CHANNELS[header.color] // 8)))
    parts = (data[place + 8 : place + 8 + length] for kind, place, length in header.chunks if kind == b"IDAT")
    pixels, place = inflate(b"".join(parts), sum(rows * step for rows, step in passes)), 0
    if pixels is None:
        return False
    for rows, step in passes:
        if any(byte > 4 for byte in pixels[place : place + rows * step : step]):
            return False
        place += rows * step
    return place == len(pixels)
