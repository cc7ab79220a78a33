"""Splits of a folder of images: by list files, by the folders train, val and test, or at random."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segjax.data.folders import natural_key, split_frame
from segjax.data.listing import are, shown, some
from segjax.data.split_lists import ListReader
from segjax.data.split_names import SPLITS, folder_splits
from segjax.errors import UserError, did_you_mean

HOW = ("auto", "folders", "random")


class TooFewImages(UserError):
    """An error of a division at random, whose shares would leave nothing for training."""


class Item(NamedTuple):
    """An image with its mask.

    key: common part of their names.
    image: file.
    mask: file, None = not labelled.
    """

    key: str
    image: Path
    mask: Path | None


@dataclasses.dataclass(frozen=True)
class Division:
    """The images of a folder, divided into splits.

    splits: name -> items.
    how: how they were divided, for people: "by the folders Train, Val".
    unused: items that no list names.
    mark: "" if earlier versions divided this folder in the same way, else text that makes its builds different ones.
    """

    splits: dict[str, list[Item]]
    how: str
    unused: tuple[Item, ...] = ()
    mark: str = ""

    def describe(self) -> str:
        """Returns one sentence: "train 8, validation 2, by the folders Train, Val"."""
        names = sorted(self.splits, key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS))
        sizes = ", ".join(f"{name} {len(self.splits[name])}" for name in names)
        unused = f"; {are(len(self.unused), 'image')} in no list ({some(shown(x.key) for x in self.unused)})"
        return f"{sizes}, {self.how}{unused if self.unused else ''}"


def choose_splits(
    items: Sequence[Item],
    *,
    lists: Mapping[str, str],
    prefix: str = "",
    suffix: str = "",
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    by_sequence: bool = False,
    how: str = "auto",
) -> Division:
    """Divides items, in natural order: by list files, else by folders, else at random; no split is empty.

    items: of the folder.
    lists: split -> list file.
    prefix, suffix: that names in list files may have around the key.
    validation, test: shares in 0..1, for random splits.
    seed: of random splits.
    by_sequence: whether random splits keep the frames of a sequence together, see `split_frame`.
    how: "auto"; "folders", which must name splits; "random", whatever the folders are called.

    Raises UserError for an unknown `how`, lists that name no or unknown images or one image for two splits, folders
    that look like splits but are not clear (`folder_splits`), and shares that leave no images for training.
    """
    if how not in HOW:
        raise UserError(f"option splits is {how!r}.{did_you_mean(how, HOW)}")
    if lists and how != "auto":
        raise UserError(f"option splits={how!r} contradicts the option lists; leave one of them out")
    if lists:
        return _listed(items, lists, ListReader([item.key for item in items], prefix=prefix, suffix=suffix))
    found = folder_splits({item.key: item.image for item in items}) if how != "random" else None
    if found:
        splits = defaultdict(list)
        for item in items:
            splits[found.of[item.key]].append(item)
        text = f"by the folders {', '.join(map(shown, found.folders))}"
        mark = "" if found.plain else f"\n{sorted(found.of.items())}"
        return Division(dict(splits), text, mark=mark)
    if how == "folders":
        keys = some(shown(item.key) for item in items)
        raise UserError(f"option splits='folders', but no folder is called train, val or test ({keys}); rename them")
    splits = _random(items, validation=validation, test=test, seed=seed, by_sequence=by_sequence)
    return Division(splits, f"at random (seed {seed}{', whole sequences' if by_sequence else ''})")


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
        what = "sequence" if by_sequence else "image"
        raise TooFewImages(
            f"{are(len(order), what)} too few for validation={validation} and test={test}; lower the shares"
        )
    splits = {"train": order[taken:], **splits}
    return {
        name: sorted((item for group in chosen for item in groups[group]), key=lambda item: natural_key(item.key))
        for name, chosen in splits.items()
    }


def _listed(items: Sequence[Item], lists: Mapping[str, str], reader: ListReader) -> Division:
    by_key = {item.key: item for item in items}
    splits, mark, rows = {}, "", {}
    for name, path in lists.items():
        rows[name], plain = reader.read(path)
        splits[name] = [by_key[key] for key in rows[name]]
        mark += "" if plain else f"\n{name} {list(rows[name])}"
    shared = []
    names = list(lists)
    for number, second in enumerate(names):
        for first in names[:number]:
            both = [key for key in rows[first] if key in rows[second]]
            if both and first in SPLITS and second in SPLITS:
                key = both[0]
                raise UserError(
                    f"{are(len(both), 'image')} in two lists, such as {shown(by_key[key].image)} in "
                    f"{shown(lists[first])}, row {rows[first][key]}, and in {shown(lists[second])}, row "
                    f"{rows[second][key]}; keep each in one of them"
                )
            if both:
                shared.append(f"{first} and {second} share {len(both)} images")
    used = {key for chosen in rows.values() for key in chosen}
    text = "; ".join([f"by the lists {', '.join(map(shown, lists.values()))}", *shared])
    return Division(splits, text, tuple(item for item in items if item.key not in used), mark)
