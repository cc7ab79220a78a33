"""Masks of the frames of a clip, found by name or by number."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from segjax.data.folders import list_images, some, split_frame
from segjax.data.image_files import IMAGE_SUFFIXES
from segjax.data.naming import composed
from segjax.errors import UserError
from segjax.media.clips import Clip, Images


def list_masks(path: Path) -> dict[str, Path]:
    """Returns name -> file of a folder of masks, or of one mask, in natural order.

    Raises UserError if the path does not exist, or is a file of another type.
    """
    if path.is_file():
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(f"{path} is no mask; known types are {', '.join(IMAGE_SUFFIXES)}.")
        return {path.stem: path}
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give the folder of the masks, or one mask.")
    return list_images(path)


def by_number(files: Mapping[str, Path], *, remedy: str = "") -> dict[int, Path]:
    """Returns frame number -> mask, by the numbers in the names.

    files: name -> mask.
    remedy: alternative to renaming a mask, appended to the error.

    Raises UserError if a name has no number, or two have the same.
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
    clip: Clip,
    labels: str | os.PathLike,
    *,
    image_prefix: str = "",
    image_suffix: str = "",
    mask_prefix: str = "",
    mask_suffix: str = "",
) -> dict[object, Path]:
    """Finds the masks of a clip's frames: by name for images, by frame number (from 0) for a video.

    A mask in another folder than its image is found by the last part of its name.

    labels: folder of masks, or one mask of a video.
    image_prefix, image_suffix, mask_prefix, mask_suffix: what the file names add to their common part.

    Raises UserError if no mask belongs to a frame.
    """
    if not isinstance(clip, Images):
        masks = by_number(list_masks(Path(labels).expanduser()))
        numbers = {number: path for number, path in masks.items() if number < (len(clip) or math.inf)}
        if not numbers:
            raise UserError(f"no mask in {labels} is of one of the {len(clip)} frames of {clip.path}, counted from 0")
        return dict(numbers)
    masks = {composed(key): path for key, path in list_images(labels, prefix=mask_prefix, suffix=mask_suffix).items()}
    by_stem: dict[str, list[Path]] = {}
    for key, path in masks.items():
        by_stem.setdefault(key.rpartition("/")[2], []).append(path)
    found: dict[object, Path] = {}
    for name, _ in clip.files:
        folder, slash, stem = composed(name).rpartition("/")
        stem = stem.removesuffix(composed(image_suffix)).removeprefix(composed(image_prefix))
        key = folder + slash + stem
        same = by_stem.get(stem, [])
        if key in masks or len(same) == 1:
            found[name] = masks.get(key) or same[0]
    if not found:
        names = some([name for name, _ in clip.files])
        raise UserError(
            f"no mask in {labels} is called like an image ({names}); give --image-suffix and --mask-suffix, what the "
            "names add to their common part"
        )
    return found
