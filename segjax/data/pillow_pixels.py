"""Colours of a Pillow image as an array: the copies of Pillow's own conversion cost half as much as decoding a JPEG."""

from __future__ import annotations

import ctypes

import cv2
import numpy as np
from PIL import Image

_ROWS = 128  # of a strip that fits into the cache


class _ArrowArray(ctypes.Structure):
    """The array of the Arrow C data interface."""


_ArrowArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def rgb_array(image: Image.Image) -> np.ndarray:
    """Returns a loaded image of mode RGB as uint8 (h, w, 3), writable."""
    shape = (image.height, image.width, 4)
    try:
        _, capsule = image.__arrow_c_array__()
    except (AttributeError, ValueError):  # an older Pillow; a large image in several blocks of memory
        return _in_strips(image)
    array = _ArrowArray.from_address(_pointer(capsule, b"arrow_array"))
    pixels = array.children[0].contents if array.n_children == 1 else array
    if pixels.length != np.prod(shape) or array.offset or pixels.offset or pixels.n_buffers != 2:
        return _in_strips(image)
    memory = (ctypes.c_uint8 * pixels.length).from_address(pixels.buffers[1])
    return cv2.cvtColor(np.frombuffer(memory, np.uint8).reshape(shape), cv2.COLOR_RGBA2RGB)


def _in_strips(image: Image.Image) -> np.ndarray:
    found = np.empty((image.height, image.width, 3), np.uint8)
    for row in range(0, image.height, _ROWS):
        rows = found[row : row + _ROWS]
        rows[:] = np.asarray(image.crop((0, row, image.width, row + len(rows))))
    return found
