"""Weights in several files, with an index that says which tensor is in which: NAME.safetensors.index.json."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segjax.errors import UserError, brief, quoted
from segjax.weights.report import examples

log = logging.getLogger("segjax")

SUFFIX = ".index.json"


def find_index(folder: Path) -> Path | None:
    """Returns the index of the shards in a folder, None without one; one of .safetensors is preferred.

    Raises UserError for several, with their names.
    """
    for kind in (".safetensors", ""):
        found = sorted(folder.glob(f"*{kind}{SUFFIX}"))
        if len(found) > 1:
            raise UserError(
                f"{folder} holds {len(found)} indices of shards ({examples([p.name for p in found], 6)}); give the "
                "path of one of them."
            )
        if found:
            return found[0]
    return None


def read_shards(index: Path, read_file: Callable[[Path], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns PyTorch name -> array of all tensors that an index names.

    index: JSON file {"weight_map": {name of a tensor: name of a file beside the index}}.
    read_file: path of a shard -> its tensors.

    Raises UserError for a damaged index, and for shards that are missing, damaged, or lack a tensor.
    """
    places = _weight_map(index)
    shards = list(dict.fromkeys(places.values()))
    there = set(os.listdir(index.parent))  # a name that no file can have is an error of the system elsewhere
    missing = [shard for shard in shards if shard not in there or not (index.parent / shard).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(shards)} shards that {index} names are not beside it "
            f"({examples(missing)}); fetch them too."
        )
    tensors, others = {}, 0
    for shard in shards:
        found = read_file(index.parent / shard)
        wanted = [name for name, place in places.items() if place == shard]
        if lost := [name for name in wanted if name not in found]:
            raise UserError(
                f"{index.parent / shard} lacks {len(lost)} tensors that {index.name} places in it "
                f"({examples(lost)}); fetch both again."
            )
        tensors |= {name: found[name] for name in wanted}
        others += len(found) - len(wanted)
    if others:
        log.warning("%s: %d tensors of its shards are not in the index and are skipped", index, others)
    log.info("%s: %d tensors in %d shards", index, len(tensors), len(shards))
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(index.read_text(encoding="utf-8"))
        places = content["weight_map"]
        if not places or not all(isinstance(place, str) and place for place in places.values()):
            raise ValueError("its weight_map names no files")
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 (foreign JSON can have any type anywhere)
        raise UserError(
            f"{index} is truncated or no index of shards ({type(error).__name__}: {brief(str(error), 160)}); fetch it "
            "again."
        ) from None
    for place in places.values():
        if Path(place).name != place or place in (".", ".."):
            raise UserError(f"{index} names {quoted(place)}, which is no file beside it; fetch the index again.")
        if place.endswith(SUFFIX):  # it could name this one
            raise UserError(f"{index} names {quoted(place)}, which is an index of shards itself; fetch it again.")
    return places
