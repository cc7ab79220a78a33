"""How images and masks are named: the common part of a pair, between a prefix and a suffix; folders with a star."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from segjax.data.image_files import IMAGE_SUFFIXES
from segjax.data.listing import shown
from segjax.errors import UserError


def composed(text: str) -> str:
    """Returns text with composed accents (NFC): macOS writes others than most people type."""
    return unicodedata.normalize("NFC", text)


def names_type(suffix: str) -> bool:
    """Returns whether a suffix ends with the type of an image file, as ".jpg" and "_mask.png" do."""
    return os.path.splitext(f"x{suffix}")[1].lower() in IMAGE_SUFFIXES


def common_part(name: str, prefix: str, suffix: str, *, with_type: bool = False) -> str | None:
    """Returns a file's name without extension, prefix and suffix; None if it has not this prefix and suffix.

    with_type: whether the suffix includes the extension, whose case does not matter.
    """
    stem, extension = os.path.splitext(name)
    if with_type:
        stem += extension.lower()
        start, extension = os.path.splitext(f"x{suffix}")
        suffix = start[1:] + extension.lower()
    part = _cut(stem, prefix, suffix)
    return _cut(composed(stem), composed(prefix), composed(suffix)) if part is None else part


def _cut(text: str, first: str, last: str) -> str | None:
    fits = len(text) >= len(first) + len(last) and text.startswith(first) and text.endswith(last)
    return text[len(first) : len(text) - len(last)] if fits else None


def common_parts(names: Sequence[str], prefix: str, suffix: str) -> list[str | None]:
    """Returns the common part of each name; a suffix with a type counts for the whole name if any name has it."""
    found: list[str | None] = []
    if names_type(suffix):
        found = [common_part(name, prefix, suffix, with_type=True) for name in names]
    if not any(part is not None for part in found):
        found = [common_part(name, prefix, suffix) for name in names]
    return found


def split_star(folder: Path) -> tuple[Path, re.Pattern[str]] | None:
    """Splits a folder with a star: "data/*/images" into (data, pattern of the paths below it); None without a star.

    The star stands for one or more folders, or a part of a name. It remains in the key of an image: the key of
    data/train/images/a.jpg is train/a. The pattern has the groups star and rest. A folder whose name contains a star
    is no pattern.

    Raises UserError for two stars, and if the folder before the star does not exist.
    """
    if "*" not in str(folder) or folder.is_dir():
        return None
    if str(folder).count("*") > 1:
        raise UserError(f"folder {shown(folder)} has more than one star; write one, as in 'data/*/images'")
    parts = folder.parts
    at = next(index for index, part in enumerate(parts) if "*" in part)
    base, below = Path(*parts[:at]) if at else Path(), "/".join(parts[at:])
    if not base.is_dir():
        raise UserError(f"folder {shown(base)} of {shown(folder)} does not exist; give the folder before the star")
    before, _, after = map(re.escape, below.partition("*"))
    return base, re.compile(f"{before}(?P<star>.+?){after}/(?P<rest>.+)", re.DOTALL)


def key_of(path: Path, base: Path, core: str, star: re.Pattern[str] | None) -> str | None:
    """Returns the key of an image: its path below `base` with its name replaced by `core`; None outside the pattern."""
    relative = path.relative_to(base)
    if star is None:
        return (relative.parent / core).as_posix()
    found = star.fullmatch(relative.as_posix())
    return None if found is None else (Path(found["star"]) / Path(found["rest"]).parent / core).as_posix()
