"""Files that list the images of a split, one in a row, with or without further columns."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from segjax.data.image_files import IMAGE_SUFFIXES
from segjax.data.listing import shown
from segjax.data.naming import common_part, composed, names_type
from segjax.data.text_files import read_lines
from segjax.errors import UserError

_QUOTED = re.compile(r"""\s*(?:"((?:[^"]|"")*)"|'([^']*)')\s*(?:[\t,;\s]|$)""")
_SEPARATOR = re.compile(r"[\t,; ]\s*")


class ListReader:
    """Reader of list files for the images of a folder.

    keys: of the images.
    prefix, suffix: what the names may have around their key, see `find_images`.
    """

    def __init__(self, keys: Sequence[str], *, prefix: str = "", suffix: str = ""):
        self._prefix, self._suffix = prefix, suffix
        self._exact = {key: key for key in keys}
        self._composed = {composed(key): key for key in keys}
        self._stems = defaultdict(list)
        for key in keys:
            self._stems[composed(key.rpartition("/")[2])].append(key)

    def read(self, path: str | os.PathLike) -> tuple[dict[str, int], bool]:
        """Returns key -> number of the row that names it first, in the order of the rows; and whether every key is the
        row's beginning up to the first blank.

        Raises UserError for a row that names no image, or several, and for a file without rows.
        """
        path = Path(path).expanduser()
        chosen: dict[str, int] = {}
        plain = True
        for number, row in enumerate(read_lines(path), start=1):
            if not row.strip():
                continue
            key, why = self._find(row)
            if key is None:
                row = shown(row.strip())
                raise UserError(f"{shown(path)}, row {number} names {row!r}, but {why}; correct the list")
            plain = plain and self._find_one(row.split()[0], exact=False)[0] == key
            chosen.setdefault(key, number)
        if not chosen:
            raise UserError(f"{shown(path)} names no image; write one image per row")
        return chosen, plain

    def _find(self, row: str) -> tuple[str | None, str]:
        """Returns (key of the image that a row names, ""), or (None, why there is none)."""
        row, why = row.rstrip("\n"), ""
        for candidate in dict.fromkeys((row, row.strip(), *_beginnings(row.strip()))):
            # the last part of a path identifies an image too, but must be that of the first column
            key, reason = self._find_one(candidate, exact=not _is_one_name(candidate))
            if key is not None:
                return key, ""
            why = why or reason
        return None, why or "there is no such image"

    def _find_one(self, text: str, *, exact: bool) -> tuple[str | None, str]:
        reason = ""
        for path in dict.fromkeys((text, text.replace("\\", "/"))):
            folder, slash, name = path.removeprefix("./").rpartition("/")
            for core in self._cores(name):
                whole = folder + slash + core
                key = self._exact.get(whole) or self._composed.get(composed(whole))
                same = self._stems.get(composed(core), [])
                if key is None and not exact and len(same) == 1:
                    key = same[0]
                if key is not None:
                    return key, ""
                if len(same) > 1:
                    reason = f"{len(same)} images are called so"
        return None, reason

    def _cores(self, name: str) -> Iterator[str]:
        """Yields what the name may have as the last part of its key: without type, prefix and suffix, then as it is."""
        stem, extension = os.path.splitext(name)
        has_type = extension.lower() in IMAGE_SUFFIXES
        if names_type(self._suffix):
            core = common_part(name, self._prefix, self._suffix, with_type=True)
            if core is not None:
                yield core
        stem = stem if has_type else name
        yield stem.removesuffix(self._suffix).removeprefix(self._prefix)
        yield stem
        yield name


def _beginnings(row: str) -> Iterator[str]:
    """Yields the possible first columns of a row, longest first; a quoted one alone."""
    quoted = _QUOTED.match(row)
    if quoted:
        yield quoted[2] if quoted[1] is None else quoted[1].replace('""', '"')
    for match in reversed([*_SEPARATOR.finditer(row)]):
        yield row[: match.start()]


def _is_one_name(text: str) -> bool:
    """Returns whether text is one path for sure: a blank may stand in its last part, or if it is absolute."""
    words = re.split(r"[\t,; ]", text.strip())
    if any(os.path.splitext(word.strip("\"'"))[1].lower() in IMAGE_SUFFIXES for word in words[:-1]):
        return False  # a type, and then a blank: the end of a column
    if not any("/" in word for word in words[1:]):
        return True
    absolute = text.startswith("/") and not any(word.startswith("/") for word in words[1:])
    return absolute and os.path.splitext(text)[1].lower() in IMAGE_SUFFIXES
