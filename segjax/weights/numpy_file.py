"""Reads .npz files: zip archives of arrays, each a header in Python's syntax and the values.

`numpy.load` makes any type of array that a header names, and unpacks any number of bytes. Here types are those of a
table, and bytes are counted before they are read.
"""

from __future__ import annotations

import ast
import math
import re
import zipfile
from pathlib import Path

import numpy as np

from segjax.errors import UserError, brief, quoted
from segjax.weights.archives import Bounded, entries

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000  # bytes, as numpy.load has it
MAX_AXES = 32
NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
TEXT = r"[US][1-9]\d{0,5}"  # that people store beside tensors


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Returns name -> array of all arrays in a .npz file.

    Raises UserError for an array of another type than numbers and text, ValueError and others for a damaged file.
    """
    with open(path, "rb") as file, zipfile.ZipFile(bounded := Bounded(file)) as archive:
        found = {}
        for name, entry in entries(archive, bounded.size, packed=True).items():
            found[name.removesuffix(".npy")] = _array(archive.read(entry), name.removesuffix(".npy"), path)
    return found


def _array(data: bytes, name: str, path: Path) -> np.ndarray:
    what = f"its entry {quoted(name)}"
    wide = 2 if data[6:7] == b"\x01" else 4  # bytes of the header's length, by version
    start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    if data[:6] != MAGIC or not 0 < start <= min(len(data), MAX_HEADER):
        raise ValueError(f"{what} is no array")
    header = ast.literal_eval(data[8 + wide : start].decode("latin1").strip())
    if type(header) is not dict or not header.keys() >= {"descr", "fortran_order", "shape"}:
        raise ValueError(f"{what} has the header {quoted(header)}")
    code, shape = header["descr"], header["shape"]
    if type(code) is not str or not (code[1:] in NUMBERS or re.fullmatch(TEXT, code[1:])) or code[0] not in "<>|=":
        raise UserError(f"{brief(name)} of {path}: {quoted(code)} is no type of real numbers; store numbers only.")
    if type(shape) is not tuple or len(shape) > MAX_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{what} has the shape {quoted(shape)}")
    dtype, count = np.dtype(code), math.prod(shape)  # a code of the table
    if count * dtype.itemsize > len(data) - start:
        raise ValueError(f"{what} should have {quoted(count)} values and has {(len(data) - start) // dtype.itemsize}")
    if code[1:] == "b1":  # numpy relies on a bool being 0 or 1
        values = np.frombuffer(data, np.uint8, count, start) != 0
    else:
        values = np.frombuffer(data, dtype, count, start).astype(dtype.newbyteorder("="))
    return values.reshape(shape, order="F" if header["fortran_order"] is True else "C")
