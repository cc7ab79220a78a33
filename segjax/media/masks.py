"""Masks that belong to the frames of a clip, by name or by number."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from segjax.data.folders import list_images, some, split_frame
from segjax.data.image_files import IMAGE_SUFFIXES
from segjax.errors import UserError
from segjax.media.clips import Clip, Images


def list_masks(path: Path) -> dict[str, Path]:
    """Name -> file of a folder of masks or of one mask, in natural order."""
    if path.is_file():
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(f"{path} is no mask; known types are {', '.join(IMAGE_SUFFIXES)}.")
        return {path.stem: path}
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give the folder of the masks, or one mask.")
    return list_images(path)


def by_number(files: Mapping[str, Path], *, remedy: str = "") -> dict[int, Path]:
    """Frame number -> mask, by the numbers in their names; UserError where one has none or two have the same.

    remedy: what else than to rename a mask helps.
    """
    masks: dict[int, Path] = {}
    for name, file in files.items():
        number = split_frame(name)[1]
        if number is None:
            raise UserError(
                f"{file} has no frame number in its name; name masks by their frame, such as 000120.png{remedy}."
            )
        if number in masks:
            raise UserError(f"{masks[number]} and {file} are both of frame {number}; keep one of them.")
        masks[number] = file
    return masks


def find_truths(
    clip: Clip, labels: str | os.PathLike, *, image_suffix: str = "", mask_suffix: str = ""
) -> dict[object, Path]:
    """Masks of a clip's frames: by name for images, by number (from 0) for a video.

    image_suffix, mask_suffix: what file names add to the common part. Masks in other folders are found by the last part
    of their name. Raises UserError when no mask belongs to a frame.
    """
    if not isinstance(clip, Images):
        masks = by_number(list_masks(Path(labels).expanduser()))
        numbers = {number: path for number, path in masks.items() if number < (len(clip) or math.inf)}
        if not numbers:
            raise UserError(f"no mask in {labels} is of one of the {len(clip)} frames of {clip.path}, counted from 0")
        return dict(numbers)
    masks = list_images(labels, suffix=mask_suffix)
    by_stem: dict[str, list[Path]] = {}
    for key, path in masks.items():
        by_stem.setdefault(key.rpartition("/")[2], []).append(path)
    found: dict[object, Path] = {}
    for name, _ in clip.files:
        key = name.removesuffix(image_suffix)
        same = by_stem.get(key.rpartition("/")[2], [])
        if key in masks or len(same) == 1:
            found[name] = masks.get(key) or same[0]
    if not found:
        names = some([name for name, _ in clip.files])
        raise UserError(
            f"no mask in {labels} is called like an image ({names}); give --image-suffix and --mask-suffix, what the "
            "names add to their common part"
        )
    return found
