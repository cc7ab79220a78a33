"""Lists of image folders, and pairs of images and masks with the same relative path without suffix."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from segjax.data.image_files import IMAGE_SUFFIXES
from segjax.data.listing import Ignored, are, is_text, scan, shown, some
from segjax.data.naming import common_part, common_parts, composed, key_of, split_star
from segjax.errors import UserError

__all__ = ["Listing", "Pairs", "find_images", "fingerprint", "list_images", "natural_key", "pair_files", "some"]

Affixes = tuple[str, str]  # prefix and suffix
_FRAME = re.compile(r"^(.*?)[_\-.]?f?(\d+)$")
_LARGEST_FRAME = 2**31 - 1  # frame numbers are stored as int32; longer digits are a time, not a number


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images under a folder, key -> path in natural order (frame 9 before frame 10), and the ignored files."""

    files: dict[str, Path]
    ignored: Ignored


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Images and masks that belong together, and those without partner; keys are relative paths.

    pairs: (key, image, mask) in natural order of the key.
    ignored: files of both folders that are neither images nor masks.
    files: everything that was listed as an image or as a mask.
    plain: whether earlier versions found the same pairs and the same files without partner.
    """

    pairs: tuple[tuple[str, Path, Path], ...]
    images_without_mask: tuple[tuple[str, Path], ...]
    masks_without_image: tuple[tuple[str, Path], ...]
    ignored: Ignored = Ignored()
    files: tuple[Path, ...] = ()
    plain: bool = True


def list_images(folder: str | os.PathLike, *, prefix: str = "", suffix: str = "") -> dict[str, Path]:
    """Returns key -> path of all image files under a folder, in natural order; see `find_images`."""
    return find_images(folder, prefix=prefix, suffix=suffix).files


def find_images(folder: str | os.PathLike, *, prefix: str = "", suffix: str = "") -> Listing:
    """Returns the image files under a folder, and the files that are ignored.

    The key is the path relative to the folder without extension, `prefix` and `suffix`. Files without these, hidden
    files and files of other types are ignored.

    folder: may have one star, see `split_star`.
    suffix: of names without extension; ".jpg" or "_mask.png" select files of this type, if there are any.

    Raises UserError if the folder is missing, cannot be read or contains no image, if two files share a key, and for
    names that are not valid UTF-8.
    """
    folder = Path(folder).expanduser()
    base, star = split_star(folder) or (folder, None)
    if not base.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"folder {shown(folder)} {what}; give the folder that holds the images")
    paths, ignored = scan(base)
    broken = [path for path in paths if not is_text(path)]
    if broken:
        raise UserError(
            f"{are(len(broken), 'name')} not valid UTF-8: {some(map(shown, broken))}; rename them, as with convmv"
        )
    found: dict[str, Path] = {}
    others = []
    for path, core in zip(paths, common_parts([path.name for path in paths], prefix, suffix)):
        key = None if core is None else key_of(path, base, core, star)
        if key is None:
            others.append(path)
        elif key in found:
            cut = "type, prefix and suffix" if prefix or suffix else "type"
            first, second = sorted((found[key], path))
            raise UserError(
                f"{shown(first)} and {shown(second)} have the same name {shown(key)!r} without {cut}; rename or remove "
                "one of them, or select a type by the end of the names, such as '.jpg'"
            )
        else:
            found[key] = path
    ignored = dataclasses.replace(ignored, names=tuple(sorted(others)))
    if not found:
        start = f" whose name begins with {prefix!r}" if prefix else ""
        ending = f" whose name ends with {suffix!r}" if suffix else ""
        left_out = "".join(f"; {text}" for text in ignored.sentences(root=base))
        raise UserError(
            f"folder {shown(folder)} holds no image{start}{' and' if start and ending else ''}{ending}; "
            f"known types are {', '.join(IMAGE_SUFFIXES)}{left_out}"
        )
    return Listing(dict(sorted(found.items(), key=lambda item: natural_key(item[0]))), ignored)


def pair_files(
    images: str | os.PathLike,
    masks: str | os.PathLike,
    *,
    image_prefix: str = "",
    image_suffix: str = "",
    mask_prefix: str = "",
    mask_suffix: str = "",
) -> Pairs:
    """Pairs the images and the masks of two folders; accents may be composed in one name and decomposed in the other.

    image_prefix, image_suffix, mask_prefix, mask_suffix: what the names add to their common part, for example
        "_leftImg8bit" and "_gtFine_labelIds". If both folders are the same, they must differ.

    Raises UserError as `find_images` does, and for the same folder with the same prefixes and suffixes.
    """
    images, masks = Path(images).expanduser(), Path(masks).expanduser()
    of_images, of_masks = (image_prefix, image_suffix), (mask_prefix, mask_suffix)
    if images.resolve() == masks.resolve() and of_images == of_masks:
        raise UserError(
            f"images and masks are the same folder {shown(images)}; give a prefix or suffix that tells them apart"
        )
    image_list = find_images(images, prefix=image_prefix, suffix=image_suffix)
    mask_list = find_images(masks, prefix=mask_prefix, suffix=mask_suffix)
    image_files, mask_files = image_list.files, mask_list.files
    files = (*image_files.values(), *mask_files.values())
    image_files, mask_files = _told_apart(
        image_files, mask_files, of_images, of_masks, inner=len(str(images.resolve())) > len(str(masks.resolve()))
    )
    shared = {*image_list.files.values()} & {*mask_list.files.values()}
    told_apart = shared and any(of_images) == any(of_masks)
    partners = _partners(image_files, mask_files)
    paired = {*partners.values()}
    used = {*image_files.values(), *mask_files.values()}
    ignored = image_list.ignored + mask_list.ignored + Ignored(names=files)
    return Pairs(
        pairs=tuple((key, path, mask_files[partners[key]]) for key, path in image_files.items() if key in partners),
        images_without_mask=tuple((key, path) for key, path in image_files.items() if key not in partners),
        masks_without_image=tuple((key, path) for key, path in mask_files.items() if key not in paired),
        ignored=ignored.without(used),
        files=files,
        plain=not told_apart and all(key == partner for key, partner in partners.items()),
    )


def _told_apart(
    images: dict[str, Path], masks: dict[str, Path], of_images: Affixes, of_masks: Affixes, *, inner: bool
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns images and masks without what belongs to the other kind.

    A file in both lists belongs to the kind with the longer prefix and suffix, else to that of the inner folder. If
    only one kind has a prefix or suffix, the files of the other kind must not have it.

    of_images, of_masks: (prefix, suffix). inner: whether the folder of the images lies in that of the masks.
    """
    both = {*images.values()} & {*masks.values()}
    lengths = len("".join(of_images)), len("".join(of_masks))
    if lengths[0] > lengths[1] or (lengths[0] == lengths[1] and inner):
        masks = {k: v for k, v in masks.items() if v not in both and (any(of_masks) or not _has(v, *of_images))}
    else:
        images = {k: v for k, v in images.items() if v not in both and (any(of_images) or not _has(v, *of_masks))}
    return images, masks


def _has(path: Path, prefix: str, suffix: str) -> bool:
    return bool(prefix or suffix) and common_part(path.name, prefix, suffix) is not None


def _partners(images: dict[str, Path], masks: dict[str, Path]) -> dict[str, str]:
    """Returns key of an image -> key of its mask: the same, else the same in composed form, if only one is so."""
    partners = {key: key for key in images if key in masks}
    forms: dict[str, tuple[list[str], list[str]]] = {}
    for side, files in enumerate((images, masks)):
        for key in files:
            if key not in partners:
                forms.setdefault(composed(key), ([], []))[side].append(key)
    alone = {
        of_images[0]: of_masks[0] for of_images, of_masks in forms.values() if len(of_images) == len(of_masks) == 1
    }
    return {**partners, **alone}


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Returns a sort key that compares digits as numbers."""
    parts = re.split(r"(\d+)", text)  # text and digits take turns; str.isdigit accepts "²", which int does not
    return [(0, int(part), "") if index % 2 else (1, 0, part) for index, part in enumerate(parts) if part]


def split_frame(key: str) -> tuple[str, int | None]:
    """Splits the key of an image: "a/seq_f00012" into ("a/seq", 12); a key without number into (folder, None).

    Digits that are too long for a frame number, such as a time in nanoseconds, are no number.
    """
    folder, _, stem = key.rpartition("/")
    match = _FRAME.match(stem)
    if not match or int(match[2]) > _LARGEST_FRAME:
        return folder, None
    sequence = "/".join(part for part in (folder, match[1]) if part)
    return sequence, int(match[2])


def fingerprint(paths: Iterable[str | os.PathLike], *, root: str | os.PathLike | None = None) -> str:
    """Returns a hash of names, sizes and modification times (ns), which changes when any file does.

    Raises UserError for a file that does not exist.
    """
    digest = hashlib.sha256()
    for path in sorted(map(str, paths)):
        try:
            status = os.stat(path)
        except OSError as error:
            raise UserError(f"{shown(path)} cannot be read ({error.strerror}); is it a broken link?") from None
        name = os.path.relpath(path, root) if root else path
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
