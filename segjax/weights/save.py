"""Writes the variables of a network under PyTorch names, so that PyTorch and readers of safetensors can use them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy

from segjax.errors import UserError
from segjax.typing import Variables
from segjax.weights import names


def save(path: str | Path, variables: Variables) -> Path:
    """Writes params and batch_stats to path (.safetensors or .npz) in PyTorch names and layouts; `load` is the inverse.

    Raises UserError for another suffix.
    """
    path = Path(path)
    tensors = {name: np.ascontiguousarray(value) for name, value in names.to_state_dict(variables).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(tensors, path)
    elif path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        raise UserError(f"Cannot write weights to {path}: the suffix {path.suffix!r} is not .safetensors or .npz.")
    return path
