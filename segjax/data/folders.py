"""Lists of image folders, and pairs of images and masks with the same relative path without suffix."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from segjax.data.image_files import IMAGE_SUFFIXES
from segjax.errors import UserError

_FRAME = re.compile(r"^(.*?)[_\-.]?f?(\d+)$")


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Images and masks that belong together, and those without partner; keys are relative paths.

    pairs: (key, image, mask) in natural order of the key.
    """

    pairs: tuple[tuple[str, Path, Path], ...]
    images_without_mask: tuple[tuple[str, Path], ...]
    masks_without_image: tuple[tuple[str, Path], ...]


def list_images(folder: str | os.PathLike, *, suffix: str = "") -> dict[str, Path]:
    """Returns key -> path of all image files under a folder, in natural order (frame 9 before frame 10).

    The key is the path relative to the folder without extension and without `suffix`. Files that do not end with
    `suffix` and hidden files are ignored.

    Raises UserError if the folder is missing or contains no image, or if two files share a key.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"folder {folder} {what}; give the folder that holds the images")
    found: dict[str, Path] = {}
    visited: set[str] = set()  # links to folders are followed, but not in circles
    for base, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(base) in visited:
            folders.clear()
            continue
        visited.add(os.path.realpath(base))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            stem, extension = os.path.splitext(name)
            if name.startswith(".") or extension.lower() not in IMAGE_SUFFIXES or not stem.endswith(suffix):
                continue
            key = (Path(base).relative_to(folder) / stem[: len(stem) - len(suffix)]).as_posix()
            if key in found:
                raise UserError(f"{found[key]} and {Path(base, name)} have the same name; keep one of them")
            found[key] = Path(base, name)
    if not found:
        ending = f" whose name ends with {suffix!r}" if suffix else ""
        raise UserError(f"folder {folder} holds no image{ending}; known types are {', '.join(IMAGE_SUFFIXES)}")
    return dict(sorted(found.items(), key=lambda item: natural_key(item[0])))


def pair_files(
    images: str | os.PathLike, masks: str | os.PathLike, *, image_suffix: str = "", mask_suffix: str = ""
) -> Pairs:
    """Pairs the images and the masks of two folders.

    image_suffix, mask_suffix: what follows the common part of the names, for example "_leftImg8bit" and
        "_gtFine_labelIds". If both folders are the same, they must differ.

    Raises UserError as `list_images` does, and for the same folder with the same suffixes.
    """
    if Path(images).expanduser().resolve() == Path(masks).expanduser().resolve() and image_suffix == mask_suffix:
        raise UserError(f"images and masks are the same folder {images}; give a suffix that tells them apart")
    image_files = list_images(images, suffix=image_suffix)
    mask_files = list_images(masks, suffix=mask_suffix)
    if mask_suffix and not image_suffix:
        image_files = {k: v for k, v in image_files.items() if not v.stem.endswith(mask_suffix)}
    if image_suffix and not mask_suffix:
        mask_files = {k: v for k, v in mask_files.items() if not v.stem.endswith(image_suffix)}
    return Pairs(
        pairs=tuple((key, path, mask_files[key]) for key, path in image_files.items() if key in mask_files),
        images_without_mask=tuple((key, path) for key, path in image_files.items() if key not in mask_files),
        masks_without_image=tuple((key, path) for key, path in mask_files.items() if key not in image_files),
    )


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Returns a sort key that compares digits as numbers."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def split_frame(key: str) -> tuple[str, int | None]:
    """Splits the key of an image: "a/seq_f00012" into ("a/seq", 12); a key without number into (folder, None)."""
    folder, _, stem = key.rpartition("/")
    match = _FRAME.match(stem)
    if not match:
        return folder, None
    sequence = "/".join(part for part in (folder, match[1]) if part)
    return sequence, int(match[2])


def fingerprint(paths: Iterable[str | os.PathLike], *, root: str | os.PathLike | None = None) -> str:
    """Returns a hash of names, sizes and modification times (ns), which changes when any file does."""
    digest = hashlib.sha256()
    for path in sorted(map(str, paths)):
        status = os.stat(path)
        name = os.path.relpath(path, root) if root else path
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def some(items: Sequence[object], limit: int = 3) -> str:
    """Returns a few items for a message: "a, b, c and 4 more"."""
    shown = ", ".join(str(item) for item in items[:limit])
    return shown + (f" and {len(items) - limit} more" if len(items) > limit else "")
