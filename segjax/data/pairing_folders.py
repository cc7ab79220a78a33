"""Folders of images and folders of masks that differ by one word: train/images and train/masks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from itertools import islice

_MOST_FOLDERS = 60  # per kind; each is compared with each
_MOST_TEMPLATES = 4
_PIECES = re.compile(r"[^_\-. ]+|[_\-. ]")
_BLANKS = "_-. "


def folder_templates(images: Mapping[str, Set[str]], masks: Mapping[str, Set[str]]) -> Iterator[tuple[str, str]]:
    """Yields pairs of folders, maybe with a star (`split_star`), of which the images and masks may be; best first.

    images, masks: relative folder -> names of the files in it, without type, prefix and suffix.
    """
    votes: Counter[tuple[str, str]] = Counter()
    for folder, names in islice(images.items(), _MOST_FOLDERS):
        for other, others in islice(masks.items(), _MOST_FOLDERS):
            common = len(names & others)
            if folder != other and 2 * common >= min(len(names), len(others)) > 0:
                found = _template(folder.removeprefix("."), other.removeprefix("."))
                votes.update({found: common} if found else {})
    for template, _ in sorted(votes.items(), key=lambda item: (-item[1], item[0]))[:_MOST_TEMPLATES]:
        yield template


def _template(images: str, masks: str) -> tuple[str, str] | None:
    """Returns the folders with a star for what they share: ("a/images", "a/masks") -> ("*/images", "*/masks")."""
    ours, theirs = ([part for part in folder.split("/") if part] for folder in (images, masks))
    if len(ours) != len(theirs):
        return _inserted(ours, theirs)
    different = [index for index, (one, other) in enumerate(zip(ours, theirs)) if one != other]
    if len(different) != 1:
        return None
    at = different[0]
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
