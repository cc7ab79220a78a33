"""Writes the variables of a network under PyTorch names, for PyTorch and other readers of safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from segjax.errors import UserError
from segjax.files import replacing
from segjax.typing import Variables
from segjax.weights import names
from segjax.weights.read import INFO


def save(path: str | Path, variables: Variables, *, info: Mapping[str, Any] | None = None) -> Path:
    """Writes params and batch_stats in PyTorch names and layouts, the inverse of `load`; returns the path.

    The file appears when it is complete; its folder is made if needed.

    path: .safetensors or .npz file.
    info: JSON values to store in the metadata of a .safetensors file (network, options, classes); see `read_info`.

    Raises UserError for another suffix, or if an .npz file should store `info`.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".npz"):
        raise UserError(f"Cannot write weights to {path}: the suffix {path.suffix!r} is not .safetensors or .npz.")
    if info is not None and path.suffix == ".npz":
        raise UserError(f"Cannot write {path}: only .safetensors files say which network they belong to.")
    tensors = {name: np.asarray(value, order="C") for name, value in names.to_state_dict(variables).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        if path.suffix == ".safetensors":
            metadata = {"format": "pt", **({} if info is None else {INFO: json.dumps(info)})}
            safetensors.numpy.save_file(tensors, part, metadata=metadata)
        else:
            with open(part, "wb") as file:
                np.savez(file, **tensors)
    return path
