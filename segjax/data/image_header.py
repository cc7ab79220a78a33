"""The header of an image file: its kind, size and orientation, and whether it keeps the values of a mask."""

from __future__ import annotations

import dataclasses
import io
import mmap
import re
import struct
import warnings
from typing import Any

from PIL import Image, features

from segjax.data import png_file, pnm_file, tiff_file, webp_file
from segjax.errors import UserError

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".gif", ".jfif", ".jpe", ".avif", ".jp2", ".j2k", ".apng", ".dib", ".pbm", ".pnm", ".tga"),
)
MAX_PIXELS = 178_956_970  # Pillow's limit against files that fill the memory; a panorama of 360 degrees has fewer
_PILLOW = {"JPEG", "GIF", "BMP", "AVIF", "JPEG2000", "TGA"}
_BEGINNINGS = (
    (png_file.MAGIC, "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
_OTHERS = (
    (b"%PDF", "is a PDF file; save its picture as PNG or JPEG"),
    (b"PK\3\4", "is a ZIP archive; unpack it"),
    (b"8BPS", "is a Photoshop file; save it as PNG or JPEG"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not an image; run `git lfs pull`"),
    (b"<", "is a text file (HTML, SVG or XML), not an image; download the image itself"),
)
_SPACES = {5: "CMYK", 6: "YCbCr"}
_OTHER_SPACES = {8: "CIELab", 9: "ICCLab", 10: "ITULab", 32844: "LogL", 32845: "LogLuv", 32803: "of a raw sensor"}
FIRST_FRAME = "animations or files of several pages, whose first picture is read"

_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # Pillow's warnings do not name the file; errors do


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file states about its pixels.

    kind: "PNG", "JPEG", ...
    height, width: as stored, in pixels.
    orientation: of EXIF, 1..8.
    bits: per channel, 8 if unknown.
    several: whether it holds more than one frame or page.
    loss: why its values may have changed in compression, to follow the name of the file; "" if they have not.
    unread: why it cannot be read, with the remedy; "" if it can.
    space: colour space that has to be converted; "" for grey and RGB.
    parts: what the reader of this kind found; Pillow's mode if Pillow reads it.
    """

    kind: str
    height: int
    width: int
    orientation: int = 1
    bits: int = 8
    several: bool = False
    loss: str = ""
    unread: str = ""
    space: str = ""
    parts: Any = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) after turning by the orientation."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_header(data: bytes | mmap.mmap, file: str) -> Header:
    """Reads the header of an image file.

    file: name for the error. Raises UserError for data that is damaged or no image, or has too many pixels.
    """
    kind = _kind(data, file)
    try:
        header = _READERS[kind](data) if kind in _READERS else _by_pillow(data, file, kind)
    except (struct.error, KeyError, ValueError, IndexError, OverflowError):
        raise truncated(data, file) from None
    check_pixels(header.height * header.width, file)
    return header


def damaged(file: str) -> UserError:
    """Returns the error of a file of an unknown kind, or with an unknown fault."""
    return UserError(f"{file} is damaged or not an image; copy or download it again")


def truncated(data: bytes | mmap.mmap, file: str) -> UserError:
    """Returns the error of a file of a known kind that cannot be decoded."""
    return UserError(f"{file} is truncated or damaged ({len(data)} bytes); copy or download it again")


def check_pixels(count: int, file: str) -> None:
    """Raises UserError for a picture of more pixels than are read."""
    if count > MAX_PIXELS:
        raise UserError(
            f"{file} has {count / 1e6:.0f} megapixels, but at most {MAX_PIXELS / 1e6:.0f} are read; cut it into tiles "
            "or reduce it"
        )


def open_pillow(data: bytes | mmap.mmap, file: str, kind: str) -> Image.Image:
    """Opens data of a kind with Pillow. Raises UserError as `read_header` does."""
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=(kind,))
    except Image.DecompressionBombError as error:
        check_pixels(int(re.search(r"\d+", str(error))[0]), file)
        raise damaged(file) from None
    except MemoryError:
        raise
    except Exception:  # decoders of damaged data raise all kinds of errors
        if kind == "AVIF" and (kind not in Image.OPEN or not features.check("avif")):
            raise UserError(f"{file} is an AVIF file, which needs Pillow 11.3; run `pip install -U pillow`") from None
        raise damaged(file) from None


def _kind(data: bytes | mmap.mmap, file: str) -> str:
    head = bytes(data[:32])
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if tiff_file.is_tiff(head):
        return "TIFF"
    if re.match(rb"P[1-6]\s", head):
        return "PNM"
    if head[4:8] == b"ftyp":
        brands = (head[8:12], head[16:20], head[20:24], head[24:28])
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if brands[0] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
            raise UserError(f"{file} is a HEIC photo, which is not read; save it as JPEG or PNG")
        raise UserError(f"{file} is a video or of an unknown kind, not an image; save its pictures as PNG or JPEG")
    for beginning, reason in _OTHERS:
        if head.startswith(beginning):
            raise UserError(f"{file} {reason}")
    if file.lower().endswith(".tga"):
        return "TGA"  # begins with nothing in particular
    raise damaged(file)


def _png(data: bytes) -> Header:
    png = png_file.read_png(data)
    return Header("PNG", png.height, png.width, png.orientation, png.bits, several=png.frames > 1, parts=png)


def _webp(data: bytes) -> Header:
    webp = webp_file.read_webp(data)
    loss = "is compressed with loss (WebP)" if webp.lossy else ""
    several = webp.frames > 1
    return Header("WEBP", webp.height, webp.width, webp.orientation, several=several, loss=loss, parts=webp)


def _pnm(data: bytes) -> Header:
    _, height, width, white, _ = pnm_file.read_head(data)
    return Header("PNM", height, width, bits=white.bit_length())


def _tiff(data: bytes) -> Header:
    tiff = tiff_file.read_directory(data)

    def first(tag: int, default: int | None = None) -> int:
        return tiff_file.values(data, tiff, tag, default)[0]

    height, width = first(tiff_file.HEIGHT), first(tiff_file.WIDTH)
    bits, form, photometric = first(tiff_file.BITS, 1), first(tiff_file.FORMAT, 1), first(tiff_file.PHOTOMETRIC, 1)
    loss, unread = tiff_file.loss(data, tiff), ""
    if photometric in _OTHER_SPACES or photometric not in (0, 1, 2, 3, 5, 6):
        space = _OTHER_SPACES.get(photometric, f"number {photometric}")
        unread = f"has a colour space that is not read ({space}); save it as RGB"
    elif photometric in _SPACES and bits != 8:
        unread = f"is {_SPACES[photometric]} of {bits} bits per channel; save it as RGB with 8 bits per channel"
    elif tiff_file.unusual(data, tiff):
        unread = f"is a TIFF of a kind that is not read ({tiff_file.unusual(data, tiff)}); save it as PNG"
    elif form not in (1, 2, 3, 4):
        unread = "has pixels of complex numbers; save it with 8 or 16 bits per channel"
    elif min(tiff_file.values(data, tiff, tiff_file.BITS, 1)) != max(tiff_file.values(data, tiff, tiff_file.BITS, 1)):
        unread = "has channels of different depths; save it with 8 bits per channel"
    elif height * width * bits * first(tiff_file.CHANNELS, 1) > 64 * MAX_PIXELS:
        unread = f"has {height * width / 1e6:.0f} megapixels of more than 8 bytes; save it with 8 bits per channel"
    return Header(
        "TIFF",
        height,
        width,
        tiff_file.orientation(data, tiff),
        bits,
        several=_has_pages(data, tiff),
        loss=f"is compressed with loss ({loss} in a TIFF)" if loss else "",
        unread=unread,
        space=_SPACES.get(photometric, ""),
        parts=tiff,
    )


def _has_pages(data: bytes, tiff: tiff_file.Directory) -> bool:
    """Returns whether a second page follows that is no smaller copy of the first one, and no transparency mask."""
    try:
        following = tiff_file.read_directory(data, tiff.following) if tiff.following else None
        return following is not None and not tiff_file.values(data, following, tiff_file.SUBFILE, 0)[0] & 5
    except struct.error:
        return False


def _by_pillow(data: bytes | mmap.mmap, file: str, kind: str) -> Header:
    with open_pillow(data, file, kind) as image:
        turned = tiff_file.exif_orientation(image.info.get("exif") or b"")
        width, height = image.size
        space = image.mode if image.mode in ("CMYK", "YCbCr") else ""
        unread = "has a colour space that is not read (LAB); save it as RGB" if image.mode == "LAB" else ""
        try:
            several = kind in ("GIF", "AVIF") and bool(getattr(image, "is_animated", False))
        except Exception:  # the second frame is damaged, which is not read
            several = True
    loss = {
        "JPEG": "is compressed with loss (JPEG)",
        "AVIF": "may be compressed with loss (AVIF)",
        "JPEG2000": "may be compressed with loss (JPEG 2000)",
    }.get(kind, "")
    return Header(kind, height, width, turned, several=several, loss=loss, unread=unread, space=space, parts=image.mode)


_READERS = {"PNG": _png, "WEBP": _webp, "PNM": _pnm, "TIFF": _tiff}
