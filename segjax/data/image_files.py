"""Image and mask files, read strictly: a damaged file is an error, never a half-grey image."""

from __future__ import annotations

import logging
import mmap
import os
from pathlib import Path

import cv2
import numpy as np

from segjax.data.file_limits import check_readable
from segjax.data.image_header import FIRST_FRAME, IMAGE_SUFFIXES, MAX_PIXELS, read_header
from segjax.data.image_samples import Samples, read_samples
from segjax.data.png_file import MAGIC as PNG
from segjax.errors import UserError

__all__ = [
    "IMAGE_SUFFIXES", "MAX_PIXELS", "decode_image", "decode_mask", "encode_png", "image_and_remarks", "image_size",
    "is_plain_rgb", "mask_and_remarks", "read_bytes", "read_image", "read_mask",
]  # fmt: skip

log = logging.getLogger("segjax")
Value = int | tuple[int, int, int]  # id or colour
HOLES = "masks with transparent pixels, which count as not labelled"
_DEEP = 1 << 14  # 16-bit images whose values are all below use at most 14 bits
_said: set[str] = set()


def read_bytes(path: str | os.PathLike) -> bytes:
    """Returns the content of a file.

    Raises UserError if it is missing, unreadable, empty, no regular file, or larger than `file_limits.MAX_BYTES`.
    """
    check_readable(path)
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


def read_mask(path: str | os.PathLike, *, coding: str = "id", transparent: Value | None = None) -> np.ndarray:
    """Reads a mask file as ids (h, w) or colours (h, w, 3); see `decode_mask`."""
    return decode_mask(read_bytes(path), str(path), coding=coding, transparent=transparent)


def decode_image(data: bytes, file: str) -> np.ndarray:
    """Decodes the bytes of an image file as uint8 (h, w, 3) RGB.

    Grey images are repeated to three channels, 16-bit images are reduced to their upper 8 bits, alpha is dropped, and
    the EXIF orientation is applied. Of several frames or pages the first one is read, which is logged once.

    file: name for the error.
    Raises UserError if the data is truncated, damaged or no image, has more than MAX_PIXELS, is of a number type or
    colour space that is not read, or stores at most 14 bits as 16.
    """
    image, remarks = image_and_remarks(data, file)
    for remark in remarks:
        _say_once(remark, file)
    return image


def image_and_remarks(data: bytes, file: str) -> tuple[np.ndarray, list[str]]:
    """Returns what `decode_image` does, and what a user should know about it, as the kinds of images that it is of."""
    samples = read_samples(data, file)
    remarks = [FIRST_FRAME] if samples.header.several else []
    if samples.opaque is not None and not samples.opaque.any():
        remarks.append("fully transparent images, whose colours are read all the same")
    return _colors(samples, file), remarks


def decode_mask(data: bytes, file: str, *, coding: str = "id", transparent: Value | None = None) -> np.ndarray:
    """Decodes the bytes of a mask file without changing its values.

    coding "id": uint8 or uint16 (h, w): grey values, palette indices, or the common value of three equal channels. Grey
        values of 1, 2 or 4 bits are ids from 0 to 1, 3 or 15. Whole numbers of other types are ids, too.
    coding "color": uint8 (h, w, 3) RGB: the colours, also those of a palette or of grey values.
    transparent: id or colour for fully transparent pixels; None refuses them.

    The EXIF orientation is applied as to images, and of several frames or pages the first one is read.

    file: name for the error. Raises UserError if the data is damaged, was compressed with loss (which changes ids),
    has more than MAX_PIXELS, or does not fit the coding.
    """
    mask, remarks = mask_and_remarks(data, file, coding=coding, transparent=transparent)
    if FIRST_FRAME in remarks:
        _say_once(FIRST_FRAME, file)
    return mask


def mask_and_remarks(
    data: bytes, file: str, *, coding: str = "id", transparent: Value | None = None
) -> tuple[np.ndarray, list[str]]:
    """Returns what `decode_mask` does, and what a user should know about it, as the kinds of masks that it is of."""
    header = read_header(data, file)
    if header.loss:
        raise UserError(f"{file} {header.loss}, which changes ids near borders; save masks as PNG")
    if header.space:
        raise UserError(f"{file} has the colour space {header.space}; save masks as PNG with ids, a palette or RGB")
    samples, remarks = read_samples(data, file, header), [FIRST_FRAME] if header.several else []
    mask = _mask_colors(samples, file) if coding == "color" else _ids(samples, file)
    if samples.opaque is not None and not samples.opaque.all():
        mask = _without_holes(mask, samples.opaque, transparent, file)
        remarks.append(HOLES)
    return np.ascontiguousarray(mask), remarks


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns the (height, width) of what `read_image` returns, from the header alone.

    Raises UserError if the file is missing, unreadable or no image, or has more than MAX_PIXELS.
    """
    check_readable(path)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read_header(data, str(path)).size
    except (OSError, ValueError):
        return read_header(read_bytes(path), str(path)).size  # raises the exact reason: missing, unreadable, empty


def is_plain_rgb(data: bytes) -> bool:
    """Returns whether any decoder reads the bytes as `decode_image` does: 8-bit RGB PNG or JPEG, not turned by EXIF."""
    if data[:8] == PNG:
        return data[24:26] == b"\x08\x02" and b"eXIf" not in data
    if data[:3] != b"\xff\xd8\xff":
        return False
    header = read_header(data, "the image")
    return header.orientation == 1 and header.parts == "RGB"


def encode_png(array: np.ndarray) -> bytes:
    """Encodes uint8 or uint16 (h, w), or uint8 (h, w, 3) RGB, as the bytes of a PNG file."""
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".png", array)
    if not ok:
        raise ValueError(f"cannot encode an array of shape {array.shape} and type {array.dtype} as PNG")
    return data.tobytes()


def _colors(samples: Samples, file: str) -> np.ndarray:
    """Returns samples as uint8 (h, w, 3) RGB."""
    values, white = samples.values, samples.white
    if samples.palette is not None:
        return _look_up(samples, file)
    if not white:
        raise UserError(f"{file} has pixels of type {values.dtype}; save it with 8 or 16 bits per channel")
    if white == 65535:
        largest = int(values.max())
        if 0 < largest < _DEEP:
            bits = next(bits for bits in (8, 10, 12, 14) if largest < 1 << bits)
            raise UserError(
                f"{file} seems to use {bits} of its 16 bits (its largest value is {largest}) and would be read almost "
                f"black; multiply its values by {1 << (16 - bits)}, or save it with 8 bits per channel"
            )
        values = (values >> 8).astype(np.uint8)
    elif white > 65535:
        raise UserError(f"{file} has pixels of type {values.dtype}; save it with 8 or 16 bits per channel")
    elif white != 255:
        values = ((values.astype(np.uint32) * 510 + white) // (2 * white)).astype(np.uint8)  # rounded
    return values if values.ndim == 3 else cv2.cvtColor(values, cv2.COLOR_GRAY2RGB)


def _look_up(samples: Samples, file: str) -> np.ndarray:
    if int(samples.values.max()) >= len(samples.palette):
        raise UserError(f"{file} uses colours that its palette lacks; save it again")
    return samples.palette[samples.values]


def _mask_colors(samples: Samples, file: str) -> np.ndarray:
    if samples.palette is None and (samples.white > 255 or not samples.white):
        raise UserError(f"{file} has {samples.values.dtype} values; colour-coded masks need 8 bits per channel")
    return _colors(samples, file)


def _ids(samples: Samples, file: str) -> np.ndarray:
    mask = samples.values
    if mask.ndim == 3:
        if not ((mask[..., 0] == mask[..., 1]).all() and (mask[..., 0] == mask[..., 2]).all()):
            raise UserError(
                f"{file} holds colours, not ids; give a label map with 'coding': 'color', "
                "such as `segjax check_data` writes"
            )
        mask = mask[..., 0]
    if mask.dtype in (np.uint8, np.uint16):
        return mask
    if mask.dtype.kind == "f":
        broken = mask[~np.isfinite(mask) | (mask != np.rint(mask))]
        if broken.size:
            raise UserError(
                f"{file} has values of type {mask.dtype} that are not whole, such as {broken[0]:g}, and so are no ids; "
                "save masks with 8 or 16 bits per pixel"
            )
    least, largest = float(mask.min()), float(mask.max())
    if least < 0 or largest > 65535:
        raise UserError(
            f"{file} has values of type {mask.dtype} from {least:g} to {largest:g}, but ids go from 0 to 65535; "
            "save masks with 8 or 16 bits per pixel"
        )
    return mask.astype(np.uint8 if largest < 256 else np.uint16)


def _without_holes(mask: np.ndarray, opaque: np.ndarray, transparent: Value | None, file: str) -> np.ndarray:
    """Gives transparent pixels their value."""
    if not opaque.any() and (mask != mask[:1, :1]).any():
        raise UserError(f"{file} is fully transparent, though its pixels differ; save it without alpha")
    if transparent is None:
        raise UserError(
            f"{file} has {int((~opaque).sum())} transparent pixels, which count as not labelled, but the label map "
            "ignores nothing; add a label with train_id 255, or save the mask without alpha"
        )
    mask = mask.copy()
    mask[~opaque] = transparent
    return mask


def _say_once(remark: str, file: str) -> None:
    """Logs a remark for the first file that it is true of."""
    if remark not in _said:
        _said.add(remark)
        log.warning("there are %s, such as %s", remark, file)
