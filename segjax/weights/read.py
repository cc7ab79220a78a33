"""Reads the tensors of a weight file of any kind, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from segjax.errors import UserError, brief, quoted
from segjax.weights import names
from segjax.weights.choice import choose_dict
from segjax.weights.info import parse_info
from segjax.weights.numpy_file import read_npz
from segjax.weights.orbax_tree import read_orbax
from segjax.weights.pickle_machine import MAX_KEY
from segjax.weights.report import examples
from segjax.weights.shards import SUFFIX, find_index, read_shards
from segjax.weights.state_dicts import MOST, StateDict, find_state_dicts, has_tensors, join
from segjax.weights.torch_file import is_torch_file, read_torch

INFO = "segjax"  # key of this package's metadata in a .safetensors file


def read(path: str | Path, *, also: Mapping[str, str] | None = None, key: str = "") -> dict[str, np.ndarray]:
    """Reads a weight file and returns PyTorch name -> array, in PyTorch layouts.

    path: see `read_tree`. The dictionary of tensors in a PyTorch checkpoint is found, wherever it is.
    also: further dictionaries of a PyTorch checkpoint to join; key -> prefix for their names.
    key: of the dictionary, if the file has several; see `load`.

    Raises UserError as `read_tree` does, if the file contains no named tensors, and for several dictionaries that can
    be meant.
    """
    found = join(dicts_of(read_tree(path), path), also or {})
    return dict(choose_dict(found, key, where=str(path)).tensors)


def read_tree(path: str | Path) -> Any:
    """Reads a weight file of any kind and returns its content: a dict of arrays, or a PyTorch checkpoint as it is.

    path: .pth, .pth.tar, .pt or .bin; .safetensors; .npz; shards, as their folder or their index
        NAME.safetensors.index.json; or a folder written by orbax: a training run (its newest checkpoint), one step of
        it, or a tree of variables.

    Raises UserError if the file does not exist, is damaged or is of another kind.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        index = find_index(path)
        return names.to_state_dict(read_orbax(path)) if index is None else read_shards(index, read)
    if not path.is_file():
        raise UserError(f"The weight file {path} does not exist; give a .pth, .safetensors or .npz file.")
    if path.name.endswith(SUFFIX):
        return read_shards(path, read)
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        if path.suffix == ".npz":
            return read_npz(path)
    except UserError:
        raise
    except Exception as error:
        why = brief(str(error), 300)
        raise UserError(f"{path} is truncated or not a {path.suffix} file ({why}); fetch it again.") from None
    if not is_torch_file(path):
        raise UserError(f"{path} is no weight file: expected PyTorch (.pth, .pt), .safetensors or .npz.")
    return read_torch(path)


def dicts_of(tree: Any, where: str | Path) -> list[StateDict]:
    """Returns the dictionaries of tensors in the content of a weight file; where: the file, for errors.

    Raises UserError if there is none, if there are too many, and for a name that is too long.
    """
    if found := find_state_dicts(tree):
        if len(found) > MOST:
            raise UserError(f"{where} holds more than {MOST} dictionaries of tensors; save model.state_dict() instead.")
        if long := next((name for one in found for name in one.tensors if len(name) > MAX_KEY), ""):
            raise UserError(
                f"{where} holds a tensor whose name {quoted(long)} has {len(long)} characters, more than {MAX_KEY}; "
                "save model.state_dict() instead."
            )
        return found
    if not isinstance(tree, Mapping):
        raise UserError(
            f"{where} holds a {type(tree).__name__}, not a dict of tensors; save model.state_dict() instead."
        )
    keys = examples(list(map(str, tree)), 8) or "none"
    if has_tensors(tree):
        raise UserError(
            f"{where} holds tensors without names only; its keys are {keys}; save model.state_dict() instead."
        )
    raise UserError(f"{where} holds no tensors; its keys are {keys}.")


def read_info(path: str | Path) -> dict[str, Any]:
    """Returns what `save` stored beside the tensors of a .safetensors file: the network's name, options and more.

    Raises UserError if the file does not exist, is damaged or was written by another program. `info.check_info` checks
    the values.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"The weight file {path} does not exist.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(INFO)
    except Exception as error:
        why = brief(str(error), 300)
        raise UserError(f"{path} is truncated or not a .safetensors file ({why}); fetch it again.") from None
    if text is None:
        raise UserError(
            f"{path} does not say which network it belongs to; `segjax export_weights` writes files that do."
        )
    return parse_info(text, str(path))
