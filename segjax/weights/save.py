"""Writes the variables of a network under PyTorch names, for PyTorch and other readers of safetensors."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from segjax.errors import UserError
from segjax.files import replacing, writing
from segjax.typing import Variables
from segjax.weights import names
from segjax.weights.read import INFO


def save(path: str | Path, variables: Variables, *, info: Mapping[str, Any] | None = None) -> Path:
    """Writes params and batch_stats in PyTorch names and layouts, the inverse of `load`; returns the path.

    The file appears when it is complete; its folder is made if needed.

    path: .safetensors or .npz file.
    info: JSON values to store in the metadata of a .safetensors file (network, options, classes); see `read_info`.

    Raises UserError for another suffix, if an .npz file should store `info` or bfloat16, and if the file cannot be
    written; then an older one of that name is kept.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".npz"):
        raise UserError(f"Cannot write weights to {path}: the suffix {path.suffix!r} is not .safetensors or .npz.")
    if info is not None and path.suffix == ".npz":
        raise UserError(f"Cannot write {path}: only .safetensors files say which network they belong to.")
    tensors = {name: np.asarray(value, order="C") for name, value in names.to_state_dict(variables).items()}
    if path.suffix == ".npz" and (wide := [name for name, value in tensors.items() if value.dtype.kind == "V"]):
        raise UserError(f"Cannot write {path}: .npz has no {tensors[wide[0]].dtype} ({wide[0]}); write .safetensors.")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), replacing(path) as part:
        if path.suffix == ".safetensors":
            metadata = {"format": "pt", **({} if info is None else {INFO: json.dumps(info)})}
            with _disk_errors(path):
                safetensors.numpy.save_file(tensors, part, metadata=metadata)
        else:
            with open(part, "wb") as file:
                np.savez(file, **tensors)
    return path


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turns the errors of safetensors into those of the system, whose number is in their text."""
    try:
        yield
    except safetensors.SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from None
