"""Splits of a folder of images: by list files, by subfolders, or at random."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segjax.data.folders import natural_key, split_frame
from segjax.data.image_files import IMAGE_SUFFIXES, read_bytes
from segjax.errors import UserError

_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


class Item(NamedTuple):
    """An image with its mask.

    key: common part of their names.
    image: file.
    mask: file, None = not labelled.
    """

    key: str
    image: Path
    mask: Path | None


def choose_splits(
    items: Sequence[Item],
    *,
    lists: Mapping[str, str],
    suffix: str,
    validation: float,
    test: float,
    seed: int,
    by_sequence: bool,
) -> dict[str, list[Item]]:
    """Returns split -> items in natural order: by list files, else by subfolders, else at random; no split is empty.

    items: of the folder.
    lists: split -> list file.
    suffix: that names in list files may have after the key.
    validation, test: shares in 0..1, for random splits.
    seed: of random splits.
    by_sequence: whether random splits keep the frames of a sequence together, see `split_frame`.

    Raises UserError for lists that name no or unknown images, images beside the subfolders, and shares that leave no
    images for training.
    """
    if lists:
        return {name: _listed(items, Path(path).expanduser(), suffix) for name, path in lists.items()}
    tops = {item.key.split("/")[0] if "/" in item.key else "" for item in items}
    if "train" in {_FOLDERS.get(top) for top in tops}:
        splits = defaultdict(list)
        for item in items:
            name = _FOLDERS.get(item.key.split("/")[0])
            if name is None:
                raise UserError(
                    f"{item.image} lies beside the split folders {', '.join(sorted(tops & set(_FOLDERS)))}; "
                    "move it into one of them or give lists"
                )
            splits[name].append(item)
        return dict(splits)
    return _random(items, validation=validation, test=test, seed=seed, by_sequence=by_sequence)


def _random(
    items: Sequence[Item], *, validation: float, test: float, seed: int, by_sequence: bool
) -> dict[str, list[Item]]:
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UserError(f"validation={validation} and test={test} must be shares that leave images for training")
    groups = defaultdict(list)
    for item in items:
        groups[split_frame(item.key)[0] if by_sequence else item.key].append(item)
    # in the order of a hash, so that most images keep their split when others are added
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    splits, taken = {}, 0
    for name, share in (("validation", validation), ("test", test)):
        count = max(1, round(share * len(order))) if share else 0
        if count:
            splits[name] = order[taken : taken + count]
        taken += count
    if taken >= len(order):
        what = "sequences" if by_sequence else "images"
        raise UserError(
            f"{len(order)} {what} are too few for validation={validation} and test={test}; lower the shares"
        )
    splits = {"train": order[taken:], **splits}
    return {
        name: sorted((item for group in chosen for item in groups[group]), key=lambda item: natural_key(item.key))
        for name, chosen in splits.items()
    }


def _listed(items: Sequence[Item], path: Path, suffix: str) -> list[Item]:
    by_key = {item.key: item for item in items}
    by_stem = defaultdict(list)
    for item in items:
        by_stem[item.key.rpartition("/")[2]].append(item)
    chosen: dict[str, Item] = {}
    for number, row in enumerate(read_bytes(path).decode("utf-8", errors="replace").splitlines(), start=1):
        if not row.strip():
            continue
        key = row.split()[0].removeprefix("./")
        for extension in IMAGE_SUFFIXES:
            if key.lower().endswith(extension):
                key = key[: -len(extension)]
                break
        key = key.removesuffix(suffix)
        same_stem = by_stem[key.rpartition("/")[2]]
        item = by_key.get(key) or (same_stem[0] if len(same_stem) == 1 else None)
        if item is None:
            why = f"{len(same_stem)} images are called so" if same_stem else "there is no such image"
            raise UserError(f"{path}, row {number} names {row.split()[0]!r}, but {why}; correct the list")
        chosen[item.key] = item
    if not chosen:
        raise UserError(f"{path} names no image; write one image per row")
    return list(chosen.values())
