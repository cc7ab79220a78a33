"""Reads the variables of a network from a folder written by orbax."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from segjax.errors import UserError
from segjax.weights import fingerprints
from segjax.weights.names import COLLECTIONS
from segjax.weights.report import examples

log = logging.getLogger("segjax")

MARKS = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt")  # files of a folder that holds a tree
FILES = (".safetensors", ".pth", ".pt", ".bin", ".npz", ".tar")  # weight files, which a folder may have instead
ITEMS = ("state", "default", "model", "variables")  # what trees are called inside a step, or inside another tree


def read_orbax(path: str | Path) -> dict[str, Any]:
    """Returns {"params": ..., "batch_stats": ...} as numpy arrays; averaged weights (`ema`) if the tree has them.

    Only the variables are read, not the state of the optimizer.

    path: folder of a tree of variables, or of parameters alone; of one step of a checkpoint manager; or a folder with
        such steps below it (a training run), of which the newest is taken. If that one is damaged, as the fingerprint
        of our own checkpoints tells, the one before is taken, and that is logged.

    Raises UserError if there is no such tree, or none can be read.
    """
    problems = []
    for folder in _tree_folders(Path(path)):
        try:
            found = _read(folder)
        except Exception as error:  # noqa: BLE001 (orbax and tensorstore raise many kinds for one damaged file)
            text = (str(error).strip().splitlines() or [""])[0][:160]
            problems.append(f"{folder} cannot be read as an orbax checkpoint of a network ({_kind(error)}{text})")
            continue
        for problem in problems:
            log.warning("%s; %s is read instead", problem, folder)
        return found
    raise UserError(f"{'; '.join(problems)}.")


def _kind(error: Exception) -> str:
    return "" if type(error) is ValueError else f"{type(error).__name__}: "


def _read(folder: Path) -> dict[str, Any]:
    """Returns the variables of one tree. Raises any kind of error if it is damaged or contains none."""
    with ocp.PyTreeCheckpointer() as reader:
        shapes = reader.metadata(folder)
        shapes = getattr(shapes, "item_metadata", shapes)
        shapes = dict(getattr(shapes, "tree", shapes))
        wanted, keys = _variables(shapes)
        if not wanted:
            raise KeyError(f"no params among {', '.join(map(str, shapes)) or 'nothing'}")
        kind = fingerprints.kind_of(shapes)
        if kind:  # of all variables, averaged or not
            wanted = {name: shapes[name] for name in (*fingerprints.VARIABLES, kind) if name in shapes}
        item = wanted
        for key in reversed(keys):
            item = {key: item}
        item = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), item)
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
        found = reader.restore(
            folder, args=ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)
        )
    if kind:
        fingerprints.check_fingerprints(found[kind], fingerprints.of_variables(found, kind))
    for key in keys:
        found = found[key]
    if found.get("ema"):
        found = found["ema"]
    if "params" not in found:
        found = {"params": found}
    return {name: found[name] for name in COLLECTIONS if name in found}


def _variables(tree: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the part of a tree that holds variables, and the keys that lead to it."""
    if tree.get("ema"):
        return {"ema": tree["ema"]}, ()
    if "params" in tree:
        return {name: tree[name] for name in COLLECTIONS if name in tree}, ()
    for key in ITEMS:
        if isinstance(tree.get(key), Mapping):
            found, keys = _variables(tree[key])
            return found, (key, *keys)
    leaves = {key.rsplit("/", 1)[-1] for key in _paths(tree)}
    return (dict(tree), ()) if leaves and leaves <= {"kernel", "bias", "scale"} else ({}, ())


def _paths(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        found += _paths(value, f"{prefix}{key}/") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return found


def _holds_tree(path: Path) -> bool:
    return (path / "_METADATA").is_file()


def _tree_folders(path: Path) -> list[Path]:
    """Returns the folder of the tree to read, and those of earlier steps of the same training.

    Raises UserError if there is none.
    """
    path = path.expanduser().resolve()
    steps = [*sorted(path.glob("*/checkpoints/*")), *sorted(path.glob("checkpoints/*")), *sorted(path.glob("*"))]
    numbered = [p for p in steps if p.name.isdecimal() and p.is_dir()]
    found: list[Path] = []
    for step in [path, *sorted(numbered, key=lambda p: (p.parent.stat().st_mtime, int(p.name)), reverse=True)]:
        folder = next((f for f in (step, *(step / name for name in ITEMS)) if _holds_tree(f)), None)
        if folder is not None and step == path:
            return [folder]
        if folder is not None and (not found or step.parent in found[0].parents):
            found.append(folder)
    if found:
        return found
    files = [p.name for p in sorted(path.glob("*")) if p.suffix in FILES]
    there = f"one of its files ({examples(files)})" if files else "a weight file, or a run that has trained"
    raise UserError(f"{path} is a folder without an orbax checkpoint or an index of shards; give {there}.")
