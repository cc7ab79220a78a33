"""The samples of an image file, exactly as stored: decoders differ in what they scale, colour and turn."""

from __future__ import annotations

import dataclasses
import struct

import cv2
import numpy as np
from PIL import Image

from segjax.data import png_file, pnm_file, tiff_file
from segjax.data.image_header import Header, damaged, open_pillow, read_header, truncated
from segjax.data.pillow_pixels import rgb_array
from segjax.errors import UserError

if hasattr(cv2, "setLogLevel"):  # OpenCV 4; its lines do not name the file, the errors below do
    cv2.setLogLevel(0)
elif hasattr(cv2.utils, "logging"):
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclasses.dataclass(frozen=True)
class Samples:
    """The pixels of a file, turned by its EXIF orientation.

    values: (h, w) grey values or palette indices, or (h, w, 3) RGB; of any number type.
    white: largest value of unsigned samples, such as 1, 15, 255 or 65535.
    palette: uint8 (n, 3) RGB, None if the values are no indices.
    opaque: bool (h, w), False = fully transparent; None without alpha.
    header: of the file.
    """

    values: np.ndarray
    white: int
    palette: np.ndarray | None
    opaque: np.ndarray | None
    header: Header


def read_samples(data: bytes, file: str, header: Header | None = None) -> Samples:
    """Decodes the first picture of a file.

    header: of the same data, if it is known. file: name for the error.
    Raises UserError if the data is damaged, no image, too large, or of a colour space or structure that is not read.
    """
    header = header or read_header(data, file)
    if header.unread:
        raise UserError(f"{file} {header.unread}")
    try:
        found = _DECODERS.get(header.kind, _pillow)(data, file, header)
    except (struct.error, KeyError, ValueError, IndexError, OverflowError):
        found = None
    if found is None:
        raise damaged(file)
    values, white, palette, opaque = found
    if values.shape[:2] != (header.height, header.width):
        raise damaged(file)
    if header.orientation > 1:
        values = turn(values, header.orientation)
        opaque = None if opaque is None else turn(opaque, header.orientation)
    return Samples(values, white, palette, opaque, header)


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """Returns array (h, w, ...) as it is to be shown under an EXIF orientation 1..8."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


_Found = tuple[np.ndarray, int, np.ndarray | None, np.ndarray | None] | None  # values, white, palette, opaque


def _png(data: bytes, file: str, header: Header) -> _Found:
    png = header.parts
    pixels = png_file.pixel_chunks(data, png)
    if pixels is None:
        raise truncated(data, file)
    if png.bits < 16 or png.color == png_file.GREY:
        return _pillow(pixels, file, header)
    if not png_file.inflates(data, png):  # Pillow reduces 16-bit colours, and OpenCV prints about damaged files
        return None
    return _split(tiff_file.decompress(pixels))


def _webp(data: bytes, file: str, header: Header) -> _Found:
    if not header.parts.complete:
        raise truncated(data, file)
    if header.parts.animated:  # OpenCV reads them from 4.11 on
        return _pillow(data, file, header)
    return _split(tiff_file.decompress(data))


def _pnm(data: bytes, file: str, header: Header) -> _Found:
    return (*pnm_file.read_samples(data), None, None)


def _tiff(data: bytes, file: str, header: Header) -> _Found:
    tiff = header.parts
    if header.space or header.loss:
        values = tiff_file.read_rgb(data, tiff)
        return None if values is None else (values, 255, None, None)
    (photometric, *_), (channels, *_) = (
        tiff_file.values(data, tiff, tag, 1) for tag in (tiff_file.PHOTOMETRIC, tiff_file.CHANNELS)
    )
    extra = tiff_file.values(data, tiff, tiff_file.EXTRA, 0)
    colors = 3 if photometric == tiff_file.RGB else 1
    if channels > 1 and not colors <= channels <= colors + 1:  # said before any number of them is unpacked
        raise UserError(f"{file} has {channels} channels, which are neither grey nor RGB; save it as RGB")
    values = tiff_file.read_samples(data, tiff)
    if values is None:
        return None
    if values.ndim == 3:
        opaque = values[..., colors] > 0 if channels > colors and extra[0] in (1, 2) else None
        values = np.ascontiguousarray(values[..., :3] if colors == 3 else values[..., 0])
    elif colors == 3:
        return None
    else:
        opaque = None
    white = 2**header.bits - 1 if values.dtype.kind == "u" else 0
    if photometric == tiff_file.WHITE_IS_ZERO and white:
        values = (white - values).astype(values.dtype)
    palette = None
    if photometric == tiff_file.INDEXED:
        palette = np.array(tiff_file.values(data, tiff, tiff_file.PALETTE), np.int64).reshape(3, -1).T
        palette = (palette >> 8 if palette.max() > 255 else palette).astype(np.uint8)
    return values, white, palette, opaque


def _pillow(data: bytes, file: str, header: Header) -> _Found:
    with open_pillow(data, file, header.kind) as image:
        try:
            image.load()
        except MemoryError:
            raise
        except Exception:  # decoders of damaged data raise all kinds of errors
            raise truncated(data, file) from None
        return _modes(image, file, header)


def _modes(image: Image.Image, file: str, header: Header) -> _Found:
    mode, white = image.mode, 2 ** min(8, header.bits) - 1
    if mode == "RGB":
        return rgb_array(image), 255, None, None
    if mode in ("RGBA", "LA"):
        values = np.array(image)
        colors = values[..., :-1] if mode == "RGBA" else values[..., 0]
        return np.ascontiguousarray(colors), 255, None, values[..., -1] > 0
    if mode == "P":
        return np.array(image), 255, np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3), None
    if mode == "1":
        return np.array(image).astype(np.uint8), 1, None, None
    if mode == "L":
        values = np.array(image)
        return (values if white == 255 else values // (255 // white)), white, None, None
    if mode.startswith("I"):
        values = np.array(image)
        return (values.astype(np.uint16), 65535, None, None) if 0 <= values.min() <= values.max() < 65536 else None
    if mode in ("CMYK", "YCbCr"):
        return np.array(image.convert("RGB")), 255, None, None
    raise UserError(f"{file} has pixels of an unusual kind ({mode}); save it as RGB or grey")


def _split(found: np.ndarray | None) -> _Found:
    """Splits grey, BGR or BGRA of OpenCV."""
    if found is None:
        return None
    white = 255 if found.dtype == np.uint8 else 65535
    if found.ndim == 2:
        return found, white, None, None
    if found.shape[2] == 4:
        return cv2.cvtColor(found, cv2.COLOR_BGRA2RGB), white, None, found[..., 3] > 0
    return cv2.cvtColor(found, cv2.COLOR_BGR2RGB), white, None, None


_DECODERS = {"PNG": _png, "WEBP": _webp, "PNM": _pnm, "TIFF": _tiff}
