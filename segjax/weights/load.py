"""Fills the variables of a network from a weight file and says exactly what it did."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from segjax.errors import UserError
from segjax.typing import Variables
from segjax.weights import names
from segjax.weights.torch_file import is_torch_file, read_torch


@dataclass(frozen=True)
class LoadReport:
    """PyTorch names of what happened.

    matched: leaves filled from the file.
    missing: leaves the file has no tensor for; they keep their values.
    unexpected: tensors of the file that no leaf takes.
    replaced: leaves whose tensor in the file was not used: named in `skip`, or (strict=False) of another shape.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    replaced: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} matched"]
        for kind in ("missing", "unexpected", "replaced"):
            found = getattr(self, kind)
            if found:
                parts.append(f"{len(found)} {kind} ({examples(found)})")
        return ", ".join(parts)


def examples(found: Sequence[str], count: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = f", and {len(found) - count} more" if len(found) > count else ""
    return ", ".join(found[:count]) + more


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Name -> array of a .pth or .pt (the state dict inside a checkpoint is found), .safetensors or .npz file."""
    path = Path(path).expanduser()
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
    return _state_dict(read_torch(path), path)


def _state_dict(tree: Any, path: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint: the dict itself, or the first dict of tensors under one of the usual keys."""
    if isinstance(tree, dict):
        tensors = {str(k): v for k, v in tree.items() if isinstance(v, np.ndarray)}
        for key in names.WRAPPERS:
            if isinstance(tree.get(key), dict) and not tensors:
                return _state_dict(tree[key], path)
        if tensors:
            return tensors
        raise UserError(f"{path} holds no tensors; its keys are {examples(list(map(str, tree)), 8) or 'none'}.")
    raise UserError(f"{path} holds a {type(tree).__name__}, not a dict of tensors; save model.state_dict() instead.")


def load(
    path_or_dict: str | Path | Mapping[str, Any],
    variables: Variables,
    *,
    source: str | names.Source | None = None,
    skip: Sequence[str] = (),
    strict: bool = True,
) -> tuple[dict[str, Any], LoadReport]:
    """Returns variables with the leaves that the weights hold replaced, and a report.

    path_or_dict: a file (.pth, .safetensors, .npz), a dict of arrays under PyTorch names and layouts, or
        variables {"params": ..., "batch_stats": ...} of this package.
    variables: of the network; leaves may be jax.ShapeDtypeStruct. Their dtype is kept; the argument is not changed.
    source: family of files whose names differ, a key of SOURCES ("torchvision_resnet", "efficientnet_lite").
    skip: regular expressions (re.search) on PyTorch names: leaves that keep their values, tensors not needed.
        A head for another number of classes: skip=(r"^final\\.6\\.",).
    strict: every leaf must be filled or skipped, every tensor used or skipped, every shape equal; what is not is
        collected and raised as one UserError. Otherwise the rest keeps its values, and only the report tells.
    """
    table = names.find_source(source)
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    where = "The weights" if isinstance(path_or_dict, Mapping) else str(path_or_dict)
    tensors = _tensors(path_or_dict)
    targets = names.leaves(variables)
    tensors = {n: v for n, v in tensors.items() if not re.search(names.IGNORED, n)}
    tensors = _renamed(names.strip_prefixes(tensors, list(targets)), table, where)

    flat = flax.traverse_util.flatten_dict(dict(variables))
    matched, missing, replaced, shapes = [], [], [], []
    for name, path in targets.items():
        leaf = flat[path]
        if name not in tensors:
            missing.append(name)
            continue
        if _skipped(name, skip):
            replaced.append(name)
            continue
        value = names.from_torch(path[-1], tensors[name])
        if value.shape != tuple(leaf.shape):
            replaced.append(name)
            there, here = np.shape(tensors[name]), names.to_torch(path[-1], np.empty(leaf.shape)).shape
            shapes.append(f"{name} {there} for {here}")
            continue
        flat[path] = jnp.asarray(value, leaf.dtype)
        matched.append(name)
    unexpected = [name for name in tensors if name not in targets and not _skipped(name, skip)]
    report = LoadReport(*(tuple(found) for found in (matched, missing, unexpected, replaced)))
    if strict:
        unfilled = [n for n in missing if re.search(table.fills, n) and not _skipped(n, skip)]
        unused = [rule for rule in skip if not any(re.search(rule, n) for n in (*targets, *tensors))]
        _raise_problems(where, unfilled, unexpected, shapes, unused, source, tensors, targets)
    return flax.traverse_util.unflatten_dict(flat), report


def _tensors(path_or_dict: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(path_or_dict, Mapping):
        return read(path_or_dict)
    if isinstance(path_or_dict.get("params"), Mapping):
        return names.to_state_dict(path_or_dict)
    return {name: np.asarray(value) for name, value in path_or_dict.items()}


def _renamed(tensors: Mapping[str, Any], table: names.Source, where: str) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for name, value in tensors.items():
        if table.ignore and re.search(table.ignore, name):
            continue
        new = table(name)
        if new in renamed:
            raise UserError(f"{where} holds two tensors for {new} ({name} is the second); remove one of them.")
        renamed[new] = value
    return renamed


def _skipped(name: str, skip: Sequence[str]) -> bool:
    return any(re.search(rule, name) for rule in skip)


def _raise_problems(where, unfilled, unexpected, shapes, unused, source, tensors, targets) -> None:
    """One sentence with everything that is wrong, and what to do about it."""
    problems = [
        text.format(n=len(found), s="s" * (len(found) != 1), examples=examples(found))
        for text, found in (
            ("{n} leaf name{s} of the network not in the file ({examples})", unfilled),
            ("{n} tensor{s} of the file with no place in the network ({examples})", unexpected),
            ("{n} tensor{s} of another shape ({examples})", shapes),
            ("{n} skip rule{s} matching nothing ({examples})", unused),
        )
        if found
    ]
    if not problems:
        return
    remedy = "name what shall keep its values in skip=, or pass strict=False"
    if shapes:
        head = shapes[0].split(" ")[0].rsplit(".", 1)[0]
        rule = f"^{re.escape(head)}\\."
        remedy = f"to keep a fresh {head} (another number of classes), pass skip=(r'{rule}',); otherwise {remedy}"
    if source is None:
        fits = [f"{key!r}" for key, table in names.SOURCES.items() if _would_fill(table, tensors, targets)]
        if fits:
            remedy = f"the names are those of source={' or '.join(fits)}: pass it"
    raise UserError(f"{where} does not fit the network: {'; '.join(problems)}; {remedy}.")


def _would_fill(table: names.Source, tensors: Mapping[str, Any], targets: Mapping[str, Any]) -> bool:
    renamed = {table(name) for name in tensors if not (table.ignore and re.search(table.ignore, name))}
    needed = {name for name in targets if re.search(table.fills, name)}
    return bool(needed) and needed <= renamed and not needed <= set(tensors)
