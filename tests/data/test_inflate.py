"""Compressed pixels: of a bomb, no more is unpacked than the picture holds."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from segjax.data import tiff_file
from segjax.data.image_files import decode_image, decode_mask
from segjax.data.inflate import inflate
from segjax.errors import UserError
from tests.data.image_tools import chunk
from tests.data.tiff_tools import tiff

PLAIN = np.random.default_rng(0).integers(0, 256, 9000, dtype=np.uint8).tobytes()
BOMB = zlib.compress(bytes(1 << 26), 9)


def peak(read) -> int:
    """Returns the bytes of memory that reading takes, which is to fail."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("size", [0, 1, 500, 9000])
def test_all_or_nothing(level, size):
    data = zlib.compress(PLAIN[:size], level)
    assert inflate(data, size) == inflate(data, 9 * size + 9) == PLAIN[:size]
    assert size == 0 or inflate(data, size - 1) is None
    assert inflate(data[:-1], size) is None  # its checksum is cut
    assert inflate(bytes([*data[:-1], data[-1] ^ 1]), size) is None
    assert inflate(b"no", 9) is None


@pytest.mark.parametrize("bits, color", [(16, 2), (16, 6), (8, 2), (16, 0), (8, 3)])
def test_a_bomb_in_a_png(bits, color):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, bits, color, 0, 0, 0))
    colors = chunk(b"PLTE", bytes(768)) if color == 3 else b""
    data = b"\x89PNG\r\n\x1a\n" + head + colors + chunk(b"IDAT", BOMB) + chunk(b"IEND", b"")

    def read():
        decode_image(data, "a.png")
        raise UserError("Pillow reads the one pixel and leaves the rest")

    assert peak(read) < 8 * len(BOMB)


def changed(data: bytes, values: dict[int, int], rename: dict[int, int] | None = None) -> bytes:
    """Returns a TIFF of `tiff` with other values of tags that have one value, and other numbers of tags."""
    for tag, value in values.items():
        for kind, form in ((4, "<I"), (3, "<H")):
            if (place := data.find(struct.pack("<HHI", tag, kind, 1))) >= 0:
                data = data[: place + 8] + struct.pack(form, value).ljust(4, b"\0") + data[place + 12 :]
    for old, new in (rename or {}).items():
        for kind in (3, 4):
            data = data.replace(struct.pack("<HHI", old, kind, 1), struct.pack("<HHI", new, kind, 1))
    return data


STRIPS = changed(tiff(np.frombuffer(BOMB, np.uint8)[None]), {256: 2, 257: 2, 259: 8, 278: 2})
TILES = changed(STRIPS, {278: 16, 317: 16}, {273: 324, 278: 322, 279: 325, 317: 323})


@pytest.mark.parametrize("data", [STRIPS, TILES], ids=["strips", "tiles"])
def test_a_bomb_in_a_tiff(data, monkeypatch):
    asked = []
    monkeypatch.setattr(tiff_file, "inflate", lambda part, limit: asked.append(len(part)) or inflate(part, limit))
    assert peak(lambda: decode_mask(data, "a.tif")) < 8 * len(BOMB)
    assert asked == [len(BOMB)]  # once: what is behind the picture is not looked at


ONE = tiff(np.zeros((1, 1), np.uint8))


@pytest.mark.parametrize(
    "data, words",
    [
        (changed(tiff(np.zeros((16, 16), np.uint8), tile=16), {322: 30000}), "tiles of 30000x16 pixels, 8 bits each"),
        (changed(ONE, {256: 16000, 257: 11000, 258: 64, 277: 2}), "176 megapixels of more than 8 bytes; save it with"),
        (changed(ONE, {256: 2000, 257: 2000, 277: 40}), "has 40 channels, which are neither grey nor RGB"),
    ],
)
def test_a_tiff_that_would_unpack_to_more_than_its_pixels(data, words):
    for read in (decode_image, decode_mask):
        with pytest.raises(UserError, match=words):
            read(data, "a.tif")
