"""The files under a folder: those of known types, and what is ignored, which is counted and named."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from segjax.data.image_files import IMAGE_SUFFIXES
from segjax.errors import UserError

# what tools and people leave beside images, which is no image in anybody's eyes
BY_PRODUCTS = {"thumbs.db", "desktop.ini", ".ds_store"}
BY_PRODUCT_SUFFIXES = {".json", ".txt", ".md", ".xml", ".csv", ".yaml", ".yml", ".log"}


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Files under a folder that are not used.

    types: of no known type. hidden: images that are hidden, or lie in a hidden folder. names: images without the prefix
    or suffix that was asked for. by_products: lists, notes and files of the system, which need no warning.
    """

    types: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    names: tuple[Path, ...] = ()
    by_products: tuple[Path, ...] = ()

    def __add__(self, other: Ignored) -> Ignored:
        return Ignored(*(tuple(dict.fromkeys(mine + theirs)) for mine, theirs in zip(self._groups, other._groups)))

    @property
    def _groups(self) -> tuple[tuple[Path, ...], ...]:
        return self.types, self.hidden, self.names, self.by_products

    def without(self, used: Collection[Path]) -> Ignored:
        """Returns the files that are not among the used ones."""
        return Ignored(*(tuple(path for path in group if path not in used) for group in self._groups))

    def sentences(self, *, root: Path | None = None) -> list[str]:
        """Returns one sentence for each reason, by-products excepted: "3 files are ignored: a.heic, ... (no images)".

        root: folder that the files are named relative to; None = whole paths.
        """
        found = []
        for group, why in ((self.types, "no images"), (self.hidden, "hidden"), (self.names, "of other names")):
            if group:
                names = [
                    shown(path.relative_to(root) if root and path.is_relative_to(root) else path) for path in group
                ]
                found.append(f"{are(len(group), 'file')} ignored: {some(names)} ({why})")
        return found


def scan(
    folder: Path, known: Iterable[str] = IMAGE_SUFFIXES, *, exclude: Path | None = None
) -> tuple[list[Path], Ignored]:
    """Returns the files under a folder of known types, in no order, and the other files.

    Links to folders are followed, but not in circles: the files of a folder that was visited are not listed again.

    known: suffixes, in lower case.
    exclude: resolved path of a folder that is not visited, such as the one that results are written to.

    Raises UserError for a folder that cannot be read.
    """
    known, files, visited = tuple(known), [], set()
    types, hidden, by_products = [], [], []
    for base, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(base)
        if real in visited or (exclude is not None and real == str(exclude)):
            folders.clear()
            continue
        visited.add(real)
        # hidden folders come last: a link among them must not take the files of a folder that is not hidden
        folders.sort(key=lambda name: name.startswith("."))
        parts = os.path.relpath(base, folder).split(os.sep)
        in_hidden = any(part.startswith(".") and part != "." for part in parts)
        for name in names:
            path, suffix = Path(base, name), os.path.splitext(name)[1].lower()
            is_known = (suffix or name.lower()) in known  # ".png" alone is a hidden file of this type
            if is_known and not in_hidden and not name.startswith("."):
                files.append(path)
            elif is_known and not name.startswith("._"):  # "._a.png" is a note of macOS about a.png
                hidden.append(path)
            elif in_hidden or name.startswith(".") or name.lower() in BY_PRODUCTS or suffix in BY_PRODUCT_SUFFIXES:
                by_products.append(path)
            else:
                types.append(path)
    return files, Ignored(tuple(sorted(types)), tuple(sorted(hidden)), (), tuple(sorted(by_products)))


def shown(path: str | os.PathLike) -> str:
    """Returns a path as one line that every console can show; control characters and broken bytes become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def is_text(path: str | os.PathLike) -> bool:
    """Returns whether a path is valid UTF-8, so that it can be stored and shown."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def are(count: int, what: str) -> str:
    """Returns the beginning of a sentence: "1 file is" or "3 files are"."""
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"


def some(items: Iterable[object], limit: int = 3) -> str:
    """Returns a few items for a message: "a, b, c and 4 more"."""
    items = list(items)
    text = ", ".join(str(item) for item in items[:limit])
    return text + (f" and {len(items) - limit} more" if len(items) > limit else "")


def _unreadable(error: OSError) -> None:
    raise UserError(f"folder {shown(error.filename)} cannot be read ({error.strerror}); check its permissions")
