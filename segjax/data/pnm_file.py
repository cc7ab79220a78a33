"""PNM files (PBM, PGM, PPM), whose decoders scale values that masks must keep."""

from __future__ import annotations

import re
import struct

import numpy as np

_HEAD = re.compile(rb"P([1-6])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 2)
_LIMIT = re.compile(rb"(?:\s|#[^\n]*\n)+(\d{1,5})")


def read_head(data: bytes) -> tuple[int, int, int, int, int]:
    """Returns (number of the kind 1..6, height, width, largest value, place). Raises struct.error if it is damaged."""
    head = bytes(data[:4096])
    found = _HEAD.match(head)
    if not found:
        raise struct.error("no head")
    kind, width, height = (int(x) for x in found.groups())
    limit, place = 1, found.end()
    if kind not in (1, 4):
        found = _LIMIT.match(head, place)
        limit, place = (int(found[1]), found.end()) if found else (0, 0)
    if not width or not height or not 0 < limit < 65536:
        raise struct.error("no size")
    return kind, height, width, limit, place


def read_samples(data: bytes) -> tuple[np.ndarray, int]:
    """Returns samples uint8 or uint16 (h, w) or (h, w, 3), and the value of white.

    In bitmaps white is 1, as in other files. Raises struct.error or ValueError for damaged data.
    """
    kind, height, width, white, place = read_head(data)
    shape = (height, width, 3) if kind in (3, 6) else (height, width)
    count = int(np.prod(shape))
    if kind == 4:
        rows = np.frombuffer(data, np.uint8, height * (-(-width // 8)), place + 1).reshape(height, -1)
        return 1 - np.unpackbits(rows, axis=1)[:, :width], 1
    if kind == 1:
        text = bytes(c for c in re.sub(rb"#[^\n]*", b"", data[place:]) if c in b"01")[:count]
        return (49 - np.frombuffer(text, np.uint8, count)).reshape(shape), 1
    if kind in (2, 3):
        found = np.array(re.sub(rb"#[^\n]*", b"", data[place:]).split()[:count], np.int64)
        samples = found.astype(np.uint16)
        if (found != samples).any():
            raise ValueError("value out of range")
    else:
        samples = np.frombuffer(data, np.uint8 if white < 256 else ">u2", count, place + 1)
    samples = samples.astype(np.uint8 if white < 256 else np.uint16).reshape(shape)
    if samples.max() > white:
        raise ValueError("value above white")
    return samples, white
