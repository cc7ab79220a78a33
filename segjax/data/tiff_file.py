"""TIFF files: their tags, and their samples exactly as stored; EXIF data is a TIFF without pixels.

OpenCV is used as a decompressor only. Left to itself it multiplies colours by alpha, takes the first of three grey
bands, mixes 16-bit planes, and turns indices into colours. So it gets the same strips under a directory that declares
one channel of wide rows, and the meaning of the samples is decided here.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct

import cv2
import numpy as np

from segjax.data.inflate import inflate

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, CHANNELS = 256, 257, 258, 259, 262, 274, 277
SUBFILE, STRIPS, TILES, TILE_WIDTH, TILE_HEIGHT, PLANAR, PREDICTOR = 254, 273, 324, 322, 323, 284, 317
ROWS, STRIP_SIZES, PALETTE, EXTRA, FORMAT = 278, 279, 320, 338, 339
LOSSLESS = {1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, INDEXED = 0, 1, 2, 3
_LOSSY = {6: "JPEG", 7: "JPEG", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL"}
_USUAL = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}  # that every OpenCV reads
_WITH_PREDICTOR = {5, 8, 32946}
_NOT_EVERYWHERE = {34925: "LZMA", 50000: "Zstandard"}  # without loss, but not in usual builds
_BITS = (1, 2, 4, 8, 16, 32, 64)
_MAGIC = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
# what a decoder needs to find and unpack the strips or tiles; colours, alpha and orientation are not among it
_OF_STRIPS = (WIDTH, HEIGHT, BITS, COMPRESSION, 266, STRIPS, CHANNELS, ROWS, STRIP_SIZES, PLANAR, 292, 293, PREDICTOR)
_KEPT = {*_OF_STRIPS, TILE_WIDTH, TILE_HEIGHT, TILES, 325, 347, 530, 532}
MAX_TILE = 1 << 13  # pixels of a side; a tile is unpacked whole, however small the picture is
_MAX_VALUES = 1 << 20  # of one tag; a damaged count takes no memory


@dataclasses.dataclass(frozen=True)
class Directory:
    """The first directory of a TIFF.

    order: "<" or ">". big: whether it is a BigTIFF. entries: tag -> (type, count, place of its values).
    following: place of the next directory, 0 = none.
    """

    order: str
    big: bool
    entries: dict[int, tuple[int, int, int]]
    following: int


def is_tiff(data: bytes) -> bool:
    """Returns whether data begins like a TIFF."""
    return bytes(data[:4]) in _MAGIC


def read_directory(data: bytes, place: int | None = None) -> Directory:
    """Reads the directory at a place, by default the first one. Raises struct.error or KeyError for damaged data."""
    order, big = _MAGIC[bytes(data[:4])]
    if place is None:
        (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, place)
    if count > 4096:
        raise struct.error(f"{count} tags")
    place += 8 if big else 2
    entries = {}
    for _ in range(count):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, place)
        values = place + (12 if big else 8)
        size = number * struct.calcsize(_TYPES.get(kind, "Q"))
        if size > (8 if big else 4):
            (values,) = struct.unpack_from(order + ("Q" if big else "I"), data, values)
        entries[tag] = (kind, number, values)
        place += 20 if big else 12
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
    return Directory(order, big, entries, following)


def values(data: bytes, directory: Directory, tag: int, default: int | None = None) -> tuple[int, ...]:
    """Returns the integers of a tag, or (default,). Raises struct.error if there are none or they are damaged."""
    kind, count, place = directory.entries.get(tag, (0, 0, 0))
    if not count and default is not None:
        return (default,)
    if kind not in _TYPES or not 0 < count <= _MAX_VALUES:
        raise struct.error(f"tag {tag} has type {kind} and {count} values")
    return struct.unpack_from(f"{directory.order}{count}{_TYPES[kind]}", data, place)


def orientation(data: bytes, directory: Directory) -> int:
    """Returns the EXIF orientation 1..8; 1 if it is missing or wrong."""
    try:
        (found, *_) = values(data, directory, ORIENTATION, 1)
    except struct.error:
        return 1
    return found if 1 <= found <= 8 else 1


def exif_orientation(exif: bytes) -> int:
    """Returns the orientation 1..8 of EXIF data; 1 if it is missing, wrong or damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        return orientation(exif, read_directory(exif))
    except (struct.error, KeyError):
        return 1


def loss(data: bytes, directory: Directory) -> str:
    """Returns the name of a compression that loses, or may lose, values; "" if it keeps all."""
    (number, *_) = values(data, directory, COMPRESSION, 1)
    if number in LOSSLESS:
        return ""
    if number == 50001:  # every strip is a WebP file, lossless or not
        places = values(data, directory, STRIPS if STRIPS in directory.entries else TILES)
        if all(data[place + 12 : place + 16] == b"VP8L" for place in places):
            return ""
    return _LOSSY.get(number, f"compression {number}")


def unusual(data: bytes, directory: Directory) -> str:
    """Returns why `read_samples` or `read_rgb` may return None for whole data, "" if there is no such reason."""
    (number, *_), (bits, *_), (width, *_), (height, *_) = (
        values(data, directory, tag, 1) for tag in (COMPRESSION, BITS, TILE_WIDTH, TILE_HEIGHT)
    )
    if number not in _USUAL:
        return f"compressed by {(_LOSSY | _NOT_EVERYWHERE).get(number, f'method {number}')}"
    if bits not in _BITS:
        return f"{bits} bits per channel"
    if TILE_WIDTH in directory.entries and (bits in (2, 4) or max(width, height) > MAX_TILE):
        return f"tiles of {width}x{height} pixels, {bits} bits each"
    return ""


def read_samples(data: bytes, directory: Directory) -> np.ndarray | None:
    """Returns the samples (h, w) or (h, w, channels) as stored: not turned, not inverted, not coloured.

    Returns None if the data is damaged, or stored in a way that is not read, see `unusual`.
    Raises struct.error for damaged tags.
    """
    (planar, *_), (channels, *_) = (values(data, directory, tag, 1) for tag in (PLANAR, CHANNELS))
    if planar == 2 and channels > 1:
        planes = [read_samples(data, _plane(directory, index, channels)) for index in range(channels)]
        return None if any(plane is None for plane in planes) else np.stack(planes, axis=-1)
    width, height, bits, method, predictor, form = (
        values(data, directory, tag, default)[0]
        for tag, default in (
            *((WIDTH, None), (HEIGHT, None), (BITS, 1)),
            *((COMPRESSION, 1), (PREDICTOR, 1), (FORMAT, 1)),
        )
    )
    if method not in _WITH_PREDICTOR:
        predictor = 1
    tiled, small = TILE_WIDTH in directory.entries, bits in (2, 4)
    kind = {1: "u", 2: "i", 3: "f", 4: "u"}.get(form)
    if (
        bits not in _BITS
        or kind is None
        or (small and tiled)
        or (bits < 8 and channels > 1)
        or (kind, bits) == ("f", 8)
        or (small and predictor != 1)
    ):
        return None
    columns = -(-width * bits // 8) if small else width * channels
    changed = {
        WIDTH: columns,
        BITS: bits,
        CHANNELS: 1,
        PHOTOMETRIC: BLACK_IS_ZERO,
        PLANAR: 1,
        FORMAT: 3 if bits >= 32 else 1,  # bits are only copied, and older OpenCV reads no integers of 32 bits
    }
    if tiled:
        changed[TILE_WIDTH] = values(data, directory, TILE_WIDTH)[0] * channels
    undo = channels > 1 or bits == 8  # the differences of a predictor are between pixels, not between samples
    if undo:
        changed[PREDICTOR] = 1
        if predictor not in (1, 2):
            return None
    if not _inflates(data, directory):
        return None
    if small or bits == 8:
        found = _read_bytes(data, directory, changed, height)
    else:
        found = decompress(_rewritten(data, directory, changed))
    if found is None or found.shape != (height, columns):
        return None
    if bits == 1:
        return found & 1
    if small:
        places = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
        return ((found[..., None] >> places) & (2**bits - 1)).reshape(height, -1)[:, :width]
    if found.dtype.itemsize * 8 != bits:
        return None
    if undo:
        found = found.view(f"u{bits // 8}").reshape(height, width, channels)
        found = np.cumsum(found, axis=1, dtype=found.dtype) if predictor == 2 else found
        found = found[..., 0] if channels == 1 else found
    return np.ascontiguousarray(found).view(f"{kind}{bits // 8}")


def _read_bytes(data: bytes, directory: Directory, changed: dict[int, int], height: int) -> np.ndarray | None:
    """Returns bytes uint8 (height, columns), read as pairs if possible: OpenCV ignores damage of 8-bit samples."""
    columns, pairs = changed[WIDTH], {}
    (rows, *_) = values(data, directory, ROWS, height)
    if TILE_WIDTH in changed and changed[TILE_WIDTH] % 2 == 0:
        pairs = {WIDTH: -(-columns // 2), TILE_WIDTH: changed[TILE_WIDTH] // 2}
    elif TILE_WIDTH in changed:
        return None
    elif columns % 2 == 0:
        pairs = {WIDTH: columns // 2}
    elif height % 2 == 0 and (rows >= height or rows % 2 == 0):
        pairs = {HEIGHT: height // 2, ROWS: min(rows, height) // 2}
    found = decompress(_rewritten(data, directory, {**changed, **pairs, BITS: 16 if pairs else 8}))
    if not pairs or found is None or found.dtype != np.uint16:
        return None if pairs else found
    return found.astype(f"{directory.order}u2").view(np.uint8).reshape(height, -1)[:, :columns]


def read_rgb(data: bytes, directory: Directory) -> np.ndarray | None:
    """Returns uint8 (h, w, 3) RGB of other colour spaces and of lossy compression, not turned; None if damaged."""
    found = decompress(_rewritten(data, directory, {}, kept={PHOTOMETRIC, PALETTE}))
    if found is None or found.dtype != np.uint8 or (found.ndim == 3 and found.shape[2] < 3):
        return None
    if not _inflates(data, directory):
        return None
    return cv2.cvtColor(found, cv2.COLOR_GRAY2RGB) if found.ndim == 2 else np.ascontiguousarray(found[..., 2::-1])


def _inflates(data: bytes, directory: Directory) -> bool:
    """Returns whether the strips or tiles have right checksums, which libtiff does not look at; others have none."""
    if values(data, directory, COMPRESSION, 1)[0] not in (8, 32946):
        return True
    places, sizes = (STRIPS, STRIP_SIZES) if STRIPS in directory.entries else (TILES, 325)
    count, limit = _parts(data, directory)
    parts = itertools.islice(zip(values(data, directory, places), values(data, directory, sizes)), count)
    return all(inflate(data[place : place + size], limit) is not None for place, size in parts)


def _parts(data: bytes, directory: Directory) -> tuple[int, int]:
    """Returns the (number of strips or tiles that the picture has, upper limit of the bytes of one)."""
    (channels, *_), (planar, *_), (bits, *_) = (values(data, directory, tag, 1) for tag in (CHANNELS, PLANAR, BITS))
    (width, *_), (height, *_) = (values(data, directory, tag) for tag in (WIDTH, HEIGHT))
    if STRIPS in directory.entries:
        across, down = width, min(height, values(data, directory, ROWS, height)[0])
    else:
        across, down = (values(data, directory, tag)[0] for tag in (TILE_WIDTH, TILE_HEIGHT))
    count = -(-width // max(1, across)) * -(-height // max(1, down)) * (channels if planar == 2 else 1)
    row = -(-across * bits * channels // 8)
    return count, 2 * row * down + 4096  # writers round up, as to whole blocks of subsampled colours


def decompress(data: bytes) -> np.ndarray | None:
    """Decodes data with OpenCV, unchanged; None if it cannot."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _plane(directory: Directory, index: int, channels: int) -> Directory:
    """Returns the directory of one channel of separate planes."""
    entries = {tag: entry for tag, entry in directory.entries.items() if tag not in (CHANNELS, PLANAR)}
    for tag in (STRIPS, STRIP_SIZES, TILES, 325):
        if tag in entries:
            kind, count, place = entries[tag]
            each = count // channels
            entries[tag] = (kind, each, place + index * each * struct.calcsize(_TYPES.get(kind, "Q")))
    return dataclasses.replace(directory, entries=entries)


def _rewritten(data: bytes, directory: Directory, changed: dict[int, int], kept: set[int] = frozenset()) -> bytes:
    """Returns the file with a new directory: the tags that find and unpack strips, `kept`, and `changed`."""
    order, big = directory.order, directory.big
    entries = {tag: entry for tag, entry in directory.entries.items() if tag in _KEPT | kept and tag not in changed}
    head, tail, inline = ("HHQ", "Q", 8) if big else ("HHI", "I", 4)
    rows = []
    for tag, (kind, count, place) in entries.items():
        size = count * struct.calcsize(_TYPES.get(kind, "Q"))
        value = data[place : place + inline] if size <= inline else struct.pack(order + tail, place)
        rows.append((tag, struct.pack(order + head, tag, kind, count) + value.ljust(inline, b"\0")))
    for tag, value in changed.items():
        kind = 4 if tag in (WIDTH, HEIGHT, ROWS, TILE_WIDTH) else 3
        packed = struct.pack(order + _TYPES[kind], value).ljust(inline, b"\0")
        rows.append((tag, struct.pack(order + head, tag, kind, 1) + packed))
    start = len(data) + len(data) % 2
    table = struct.pack(order + ("Q" if big else "H"), len(rows)) + b"".join(row for _, row in sorted(rows))
    place = struct.pack(order + tail, start)
    first = data[:8] + place if big else data[:4] + place
    return b"".join((first, data[len(first) :].ljust(start - len(first), b"\0"), table, struct.pack(order + tail, 0)))
