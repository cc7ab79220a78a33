"""Splits that folders name: train, val and test in their usual spellings and at any depth, or a refusal."""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from segjax.data.listing import shown, some
from segjax.errors import UserError

SPLITS = ("train", "validation", "test")
REMEDY = "give lists, or set splits='random' to divide all images at random"
# the spellings that were known first: builds of such folders keep their name
PLAIN = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_WORDS = {**PLAIN, "trn": "train", "validate": "validation", "validating": "validation", "tst": "test"}
_FILLERS = set(
    re.findall(
        r"\w+",
        """images image imgs img im masks mask labels label lbl annotations annotation annots annot ann gt gts
        groundtruth ground truth set sets split splits data dataset frames rgb photos pictures pics seg segs
        segmentation files folder input inputs target targets raw orig original x y""",
    )
)
_JOINED = {word + filler: split for word, split in _WORDS.items() for filler in _FILLERS if len(filler) > 1}
# may be splits, but of which kind is not clear
_UNCLEAR = set(re.findall(r"\w+", "trainval trainvaltest valtest testval dev eval evaluation holdout tr va te ts"))


@dataclasses.dataclass(frozen=True)
class FolderSplits:
    """Splits by folders.

    of: key of an image -> its split.
    folders: names of the folders as they are spelled, in the order train, validation, test.
    plain: whether they are the topmost folders, in the spellings of PLAIN.
    """

    of: dict[str, str]
    folders: tuple[str, ...]
    plain: bool


def folder_splits(files: Mapping[str, Path]) -> FolderSplits | None:
    """Returns the splits that the folders of the keys name, None if no folder looks like a split.

    files: key of an image, such as "city/train/a" -> its file.

    Raises UserError if folders look like splits, but not every image has one, it has two, none is for training, or
    what they mean is not clear; and if the names of the files do.
    """
    of: dict[str, str] = {}
    spelled: dict[str, set[str]] = defaultdict(set)
    doubts: dict[str, tuple[str, str]] = {}  # key -> the split that a folder may name, and the folder
    for key in files:
        folders = key.split("/")[:-1]
        found = {folder: split for folder in folders if (split := split_of(folder)) in SPLITS}
        if len(set(found.values())) > 1:
            raise UserError(
                f"{shown(files[key])} lies in folders of two splits ({some(map(shown, found))}); move it, {REMEDY}"
            )
        for folder, split in found.items():
            of[key] = split
            spelled[split].add(folder)
        doubt = next((folder for folder in folders if split_of(folder) == "unclear"), "")
        if doubt:
            doubts[key] = _meaning(doubt), doubt
    names = tuple(name for split in SPLITS for name in sorted(spelled[split]))
    if not of:
        _check_doubts([*files], doubts)
        return None
    listed = ", ".join(map(shown, names))
    lonely = [file for key, file in files.items() if key not in of]
    if lonely:
        first = shown(lonely[0])
        what = f"{first} lies" if len(lonely) == 1 else f"{len(lonely)} images, such as {first}, lie"
        raise UserError(f"{what} beside the split folders {listed}; move what is there into these, {REMEDY}")
    if "train" not in of.values():
        raise UserError(f"the folders {listed} name splits, but none is for training; add a folder train, {REMEDY}")
    plain = all(PLAIN.get(key.split("/")[0]) == split for key, split in of.items())
    return FolderSplits(of, names, plain)


@functools.lru_cache(10_000)
def split_of(folder: str) -> str:
    """Returns the split that a folder is of, "unclear" if it may be of one, "" for an ordinary folder.

    "Train", "train2017", "val_images" and "TrainSet" are clear. "train_val", "test_drive" and "dev" are not.
    """
    words = _words(folder)
    splits = {_WORDS.get(word) or _JOINED.get(word) for word in words} - {None}
    others = [word for word in words if word not in _WORDS and word not in _JOINED and word not in _FILLERS]
    if len(splits) == 1 and not others:
        return splits.pop()
    return "unclear" if splits or (len(words) == 1 and words[0] in _UNCLEAR) else ""


def _words(name: str) -> list[str]:
    """Returns the words of a name in lower case, without digits: "TrainImages2017" -> ["train", "images"]."""
    found = []
    for word in re.findall(r"[^\W\d_]+", unicodedata.normalize("NFKC", name)):
        known = word.casefold() in _WORDS or word.casefold() in _JOINED
        parts = [word] if known else re.split(r"(?<=[a-z])(?=[A-Z])", word)
        found += [part.casefold() for part in parts]
    return found


def _meaning(folder: str) -> str:
    """Returns what a folder that is not clear may be of: that of "train_ulm" is "train"."""
    words = _words(folder)
    return " ".join(sorted({_WORDS.get(word) or _JOINED.get(word) or "" for word in words} - {""})) or words[0]


def _check_doubts(keys: Sequence[str], doubts: dict[str, tuple[str, str]]) -> None:
    """Raises UserError if images of folders that may be of a split would be mixed with others."""
    if len({doubts.get(key, ("", ""))[0] for key in keys}) > 1:
        found = sorted({folder for _, folder in doubts.values()})
        raise UserError(
            f"the folders {some(map(shown, found), 5)} look like splits, but which is which is not clear; "
            f"call them train, val and test, {REMEDY}"
        )
    ends = defaultdict(list)
    for key in keys:
        words = _words(key.rpartition("/")[2])
        for split in {_WORDS[word] for word in (*words[:1], *words[-1:]) if word in _WORDS}:
            ends[split].append(key)
    if len(ends) > 1:
        examples = some([shown(found[0]) for found in ends.values()])
        raise UserError(
            f"the names of the images look like splits ({examples}); use folders train, val and test, {REMEDY}"
        )
