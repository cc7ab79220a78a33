"""The header of WebP files."""

from __future__ import annotations

import dataclasses
import struct

from segjax.data.tiff_file import exif_orientation


@dataclasses.dataclass(frozen=True)
class WebpHeader:
    """Size in pixels as stored, EXIF orientation, whether any part is lossy, number of frames, whether all is there.

    animated: whether it is an animation, maybe of one frame.
    """

    height: int
    width: int
    orientation: int
    lossy: bool
    frames: int
    animated: bool
    complete: bool


def read_webp(data: bytes) -> WebpHeader:
    """Reads the chunks of a WebP. Raises struct.error for damaged data."""
    (length,) = struct.unpack_from("<I", data, 4)
    end, size, turned, lossy, frames = min(len(data), 8 + length), None, 1, False, 0
    stack = [(12, end)]
    while stack:
        place, stop = stack.pop()
        while place + 8 <= stop:
            kind, (length,) = data[place : place + 4], struct.unpack_from("<I", data, place + 4)
            body, place = place + 8, place + 8 + length + length % 2
            if kind == b"VP8X":
                width, height = (int.from_bytes(data[body + i : body + i + 3], "little") + 1 for i in (4, 7))
                size = (height, width)
            elif kind == b"VP8 ":
                lossy = True
                width, height = struct.unpack_from("<HH", data, body + 6)
                size = size or (height & 0x3FFF, width & 0x3FFF)
            elif kind == b"VP8L":
                (packed,) = struct.unpack_from("<I", data, body + 1)
                size = size or ((packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1)
            elif kind == b"ANMF":
                frames += 1
                stack.append((body + 16, min(end, body + length)))
            elif kind == b"EXIF":
                turned = exif_orientation(bytes(data[body : body + length]))
    if size is None:
        raise struct.error("no picture")
    (length,) = struct.unpack_from("<I", data, 4)
    return WebpHeader(*size, turned, lossy, max(1, frames), frames > 0, len(data) >= 8 + length)
