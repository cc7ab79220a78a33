"""Folders of images and folders of masks that differ by one word: train/images and train/masks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from itertools import islice

from segjax.data.split_names import split_of

_MOST_FOLDERS = 60  # per kind; each is compared with each
_MOST_TEMPLATES = 4
MASK_WORDS = re.compile(r"mask|label|lbl|gt|truth|annot|seg|ids?\b|target", re.IGNORECASE)
_PIECES = re.compile(r"[^_\-. ]+|[_\-. ]")
_BLANKS = "_-. "


def folder_templates(
    images: Mapping[str, Set[str]], masks: Mapping[str, Set[str]], *, same: bool
) -> Iterator[tuple[str, str]]:
    """Yields pairs of folders, maybe with a star (`split_star`), of which the images and masks may be; best first.

    images, masks: relative folder -> names of the files in it, without type, prefix and suffix.
    same: whether both kinds lie in one folder, in which only a word such as "masks" tells which is which.
    """
    votes: Counter[tuple[str, str]] = Counter()
    for folder, names in islice(images.items(), _MOST_FOLDERS):
        for other, others in islice(masks.items(), _MOST_FOLDERS):
            common = len(names & others)
            if folder != other and 2 * common >= min(len(names), len(others)) > 0:
                found = _template(folder.removeprefix("."), other.removeprefix("."))
                votes.update({found: common} if found else {})
    likely = {pair: bool(MASK_WORDS.search(pair[1])) - bool(MASK_WORDS.search(pair[0])) for pair in votes}
    votes = Counter({pair: count for pair, count in votes.items() if likely[pair] > 0 or not same})
    yield from sorted(votes, key=lambda pair: (-votes[pair], -likely[pair], pair))[:_MOST_TEMPLATES]


def _template(images: str, masks: str) -> tuple[str, str] | None:
    """Returns the folders with a star for what they share: ("a/images", "a/masks") -> ("*/images", "*/masks")."""
    ours, theirs = ([part for part in folder.split("/") if part] for folder in (images, masks))
    if len(ours) != len(theirs):
        return _inserted(ours, theirs)
    different = [index for index, (one, other) in enumerate(zip(ours, theirs)) if one != other]
    if len(different) != 1:
        return None
    at = different[0]
    splits = {split_of(ours[at]), split_of(theirs[at])}
    if len(splits - {"", "unclear"}) == 2:
        return None  # train and val are no images and masks
    above, one, other = "/".join(ours[:at]), ours[at], theirs[at]
    start = _shared(_PIECES.findall(one), _PIECES.findall(other)).rstrip(_BLANKS)
    if not start and one and other.startswith(one):
        start = one  # train and trainannot
    if start:
        return f"*{one[len(start) :]}", f"*{other[len(start) :]}"
    end = _shared(_PIECES.findall(one)[::-1], _PIECES.findall(other)[::-1], backwards=True).lstrip(_BLANKS)
    if end:
        above = f"{above}/" if above else ""
        return f"{above}{one[: -len(end)]}*", f"{above}{other[: -len(end)]}*"
    return (f"*/{one}", f"*/{other}") if above else (one, other)


def _inserted(ours: list[str], theirs: list[str]) -> tuple[str, str] | None:
    """Returns the folders when one kind has a folder more, at the beginning or at the end of its path."""
    short, long = sorted((ours, theirs), key=len)
    if len(long) != len(short) + 1:
        return None
    if long[1:] == short:
        found = "", long[0]
    elif long[:-1] == short:
        found = "*", f"*/{long[-1]}"
    else:
        return None
    return found if short is ours else found[::-1]


def _shared(one: list[str], other: list[str], *, backwards: bool = False) -> str:
    shared = []
    for piece, same in zip(one, other):
        if piece != same:
            break
        shared.append(piece)
    return "".join(shared[::-1] if backwards else shared)
