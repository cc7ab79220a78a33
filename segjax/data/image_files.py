"""Image and mask files, read strictly: a damaged file is an error, never a half-grey image."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from segjax.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_EXIF_ORIENTATION = 0x0112

if hasattr(cv2, "setLogLevel"):
    cv2.setLogLevel(0)  # OpenCV's own log lines do not name the file; the UserError below does


def read_bytes(path: str | os.PathLike) -> bytes:
    """Returns the content of a file. Raises UserError if it is missing, unreadable or empty."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path or the list that names it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    if not data:
        raise UserError(f"{path} is empty (0 bytes); copy or download it again")
    return data


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file as uint8 (h, w, 3) RGB; see `decode_image`."""
    return decode_image(read_bytes(path), str(path))


def read_mask(path: str | os.PathLike, *, coding: str = "id") -> np.ndarray:
    """Reads a mask file as ids (h, w) or colours (h, w, 3); see `decode_mask`."""
    return decode_mask(read_bytes(path), str(path), coding=coding)


def decode_image(data: bytes, file: str) -> np.ndarray:
    """Decodes the bytes of an image file as uint8 (h, w, 3) RGB.

    Grey images are repeated to three channels, 16-bit images are reduced to their upper 8 bits, alpha is dropped, and
    the EXIF orientation is applied.

    file: name for the error. Raises UserError if the data is truncated, damaged or no image.
    """
    _check_complete(data, file)
    image = _imdecode(data, cv2.IMREAD_COLOR, file)
    if image.dtype != np.uint8:
        raise UserError(f"{file} has pixels of type {image.dtype}; save it with 8 or 16 bits per channel")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_mask(data: bytes, file: str, *, coding: str = "id") -> np.ndarray:
    """Decodes the bytes of a mask file without changing its values.

    coding "id": uint8 or uint16 (h, w): grey values, palette indices, or the common value of three equal channels.
    coding "color": uint8 (h, w, 3) RGB: the colours, also those of a palette or of grey values. Alpha is dropped.

    file: name for the error. Raises UserError if the data is damaged, was compressed with loss (which changes ids), or
    does not fit the coding.
    """
    _check_complete(data, file)
    if data[:2] == b"\xff\xd8" or (data[8:16] == b"WEBPVP8 "):
        raise UserError(f"{file} is compressed with loss, which changes ids near borders; save masks as PNG")
    mask = _palette_mask(data, file, coding)
    if mask is None:
        mask = _imdecode(data, cv2.IMREAD_UNCHANGED, file)
        if mask.ndim == 3:
            mask = mask[..., 0] if mask.shape[2] <= 2 else mask[..., 2::-1]
    if coding == "color":
        if mask.dtype != np.uint8:
            raise UserError(f"{file} has {mask.dtype} values; colour-coded masks need 8 bits per channel")
        return np.ascontiguousarray(mask if mask.ndim == 3 else np.repeat(mask[..., None], 3, axis=2))
    if mask.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{file} has values of type {mask.dtype}; save masks with 8 or 16 bits per pixel")
    if mask.ndim == 3:
        if not ((mask[..., 0] == mask[..., 1]).all() and (mask[..., 0] == mask[..., 2]).all()):
            raise UserError(
                f"{file} holds colours, not ids; give a label map with 'coding': 'color', "
                "such as `segjax check_data` writes"
            )
        mask = mask[..., 0]
    return np.ascontiguousarray(mask)


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns the (height, width) of what `read_image` returns, from the header alone.

    Raises UserError if the file is missing, unreadable or no image.
    """
    data_error = UserError(f"{path} is not an image that can be read; save it again as PNG or JPEG")
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow has already turned the size of a TIFF; getexif() alone would decode a whole PNG to find EXIF
            exif = "exif" in image.info and image.format != "TIFF"
            turned = exif and image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
        raise data_error from None
    except OSError:
        read_bytes(path)  # raises the exact reason: missing, unreadable, empty
        raise data_error from None
    return (width, height) if turned else (height, width)


def is_plain_rgb(data: bytes) -> bool:
    """Returns whether any decoder reads the bytes as `decode_image` does: 8-bit RGB PNG or JPEG, not turned by EXIF."""
    if data[:8] == _PNG:
        return data[24:26] == b"\x08\x02" and b"eXIf" not in data
    if data[:3] != b"\xff\xd8\xff":
        return False
    with Image.open(io.BytesIO(data)) as image:
        return image.mode == "RGB" and image.getexif().get(_EXIF_ORIENTATION, 1) == 1


def encode_png(array: np.ndarray) -> bytes:
    """Encodes uint8 or uint16 (h, w), or uint8 (h, w, 3) RGB, as the bytes of a PNG file."""
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".png", array)
    if not ok:
        raise ValueError(f"cannot encode an array of shape {array.shape} and type {array.dtype} as PNG")
    return data.tobytes()


def _imdecode(data: bytes, flags: int, file: str) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{file} is damaged or not an image; copy or download it again")
    return image


def _palette_mask(data: bytes, file: str, coding: str) -> np.ndarray | None:
    """Decodes a palette image with Pillow, because OpenCV turns indices into colours; None for other images."""
    if data[:8] == _PNG and data[25:26] != b"\3":
        return None
    if data[:8] != _PNG and data[:2] != b"BM" and data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")
            if image.mode != "P":
                return None
            return np.asarray(image if coding == "id" else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError):
        raise UserError(f"{file} is damaged; copy or download it again") from None


def _check_complete(data: bytes, file: str) -> None:
    """Raises UserError if the end of the file is missing: some decoders silently fill the rest with grey."""
    if data[:8] == _PNG:
        # Pillow does not verify the checksums of a palette PNG; OpenCV verifies those of the others
        complete = _png_chunks(data) if data[25:26] == b"\3" else data.endswith(_PNG_END) or _png_chunks(data)
    elif data[:3] == b"\xff\xd8\xff":
        complete = data.endswith(b"\xff\xd9") or _decodes_fully(data)  # bytes after the end marker are legal
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        complete = len(data) >= 8 + struct.unpack("<I", data[4:8])[0]
    else:
        return
    if not complete:
        raise UserError(f"{file} is truncated or damaged ({len(data)} bytes); copy or download it again")


def _png_chunks(data: bytes) -> bool:
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        end = position + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[position + 4 : end]) != struct.unpack(">I", data[end : end + 4])[0]:
            return False
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position = end + 4
    return False


def _decodes_fully(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True
