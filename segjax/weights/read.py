"""Reads the tensors of a weight file of any kind, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from segjax.errors import UserError
from segjax.weights import names
from segjax.weights.orbax_tree import read_orbax
from segjax.weights.report import examples
from segjax.weights.torch_file import is_torch_file, read_torch

INFO = "segjax"  # key of this package's metadata in a .safetensors file


def read(path: str | Path, *, also: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """Reads a weight file and returns PyTorch name -> array, in PyTorch layouts.

    path: .pth, .pth.tar or .pt (the state dict inside a checkpoint is found), .safetensors, .npz, or a folder written
        by orbax: a training run (its newest checkpoint), one step of it, or a tree of variables.
    also: further dicts of a PyTorch checkpoint to join; key -> prefix for their names.

    Raises UserError if the file does not exist, is damaged, is of another kind or contains no tensors.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return names.to_state_dict(read_orbax(path))
    if not path.is_file():
        raise UserError(f"The weight file {path} does not exist; give a .pth, .safetensors or .npz file.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except Exception as error:
        raise UserError(f"{path} is truncated or not a {path.suffix} file ({error}); fetch it again.") from None
    if not is_torch_file(path):
        raise UserError(f"{path} is no weight file: expected PyTorch (.pth, .pt), .safetensors or .npz.")
    tree = read_torch(path)
    tensors = _state_dict(tree, path)
    for key, prefix in (also or {}).items():
        if isinstance(tree, dict) and isinstance(tree.get(key), dict):
            tensors |= {prefix + name: value for name, value in _state_dict(tree[key], path).items()}
    return tensors


def read_info(path: str | Path) -> dict[str, Any]:
    """Returns what `save` stored beside the tensors of a .safetensors file: the network's name, options and more.

    Raises UserError if the file does not exist, is damaged or was written by another program.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"The weight file {path} does not exist.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(INFO)
    except Exception as error:
        raise UserError(f"{path} is truncated or not a .safetensors file ({error}); fetch it again.") from None
    if text is None:
        raise UserError(
            f"{path} does not say which network it belongs to; `segjax export_weights` writes files that do."
        )
    return json.loads(text)


def _state_dict(tree: Any, path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint: the dict itself, or the first dict of tensors under a usual key."""
    if isinstance(tree, dict):
        tensors = {str(k): v for k, v in tree.items() if isinstance(v, np.ndarray)}
        for key in names.WRAPPERS:
            if isinstance(tree.get(key), dict) and not tensors:
                return _state_dict(tree[key], path)
        if tensors:
            return tensors
        raise UserError(f"{path} holds no tensors; its keys are {examples(list(map(str, tree)), 8) or 'none'}.")
    raise UserError(f"{path} holds a {type(tree).__name__}, not a dict of tensors; save model.state_dict() instead.")
