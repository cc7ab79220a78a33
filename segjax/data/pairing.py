"""A proposal for images and masks whose names do not match: prefixes, suffixes and folders that would pair them."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from segjax.data.folders import Pairs, pair_files
from segjax.data.listing import scan
from segjax.data.naming import common_parts, split_star
from segjax.data.pairing_folders import MASK_WORDS, folder_templates
from segjax.errors import UserError

_MOST_FILES = 2000  # per kind: so many names show how the others are made
_MOST_PARTS = 6  # prefixes and suffixes per kind
_PREFIX = re.compile(r"[^\W\d_]+[_\-. ]*|[_\-. ]+")
_ENDS = re.compile(r"[_\-. ]+|(?<=\d)(?=[^\W\d_])")
_PICTURES = re.compile(r"colou?r|instance|vis|overlay|poly|blend|rgb|\.jpe?g$", re.IGNORECASE)  # for people
_NAMING = ("image_prefix", "image_suffix", "mask_prefix", "mask_suffix")

Affixes = tuple[str, str]  # prefix and suffix
Name = tuple[str, str]  # folder and name of a file


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Options that would pair more files: their names and values, those that change, and the number of pairs."""

    options: dict[str, str]
    pairs: int

    def sentence(self) -> str:
        """Returns the proposal as flags of `segjax check_data` and as options of a recipe."""
        flags = " ".join(f"--{name.replace('_', '-')}={shlex.quote(value)}" for name, value in self.options.items())
        keys = " ".join(f"--config.dataset.options.{name}={shlex.quote(value)}" for name, value in self.options.items())
        return f"{flags} would give {self.pairs} pairs (in a recipe: {keys})"


def pair_or_propose(images: str | os.PathLike, masks: str | os.PathLike, **naming: str) -> Pairs:
    """Pairs two folders. Raises UserError as `pair_files` does; its sentence includes a proposal if there is one."""
    try:
        return pair_files(images, masks, **naming)
    except UserError as error:
        both_exist = all(_is_folder(folder) for folder in (images, masks))
        proposal = propose(images, masks, found=0, **naming) if both_exist else None
        if proposal is None:
            raise
        raise UserError(f"{error}; {proposal.sentence()}") from None


def better_pairs(pairs: Pairs, images: str | os.PathLike, masks: str | os.PathLike, **naming: str) -> Proposal | None:
    """Returns options that give at least half of the images without mask one, None if there are none.

    pairs: of these folders and this naming.
    """
    lonely, found = len(pairs.images_without_mask), len(pairs.pairs)
    proposal = propose(images, masks, found=found, **naming) if lonely else None
    return proposal if proposal is not None and proposal.pairs >= found + max(1, lonely // 2) else None


def propose(images: str | os.PathLike, masks: str | os.PathLike, *, found: int, **naming: str) -> Proposal | None:
    """Returns the options that give most pairs, None if nothing gives more than `found`; nothing is decided by it."""
    images, masks = str(images), str(masks)
    current = {"images": images, "masks": masks, **dict.fromkeys(_NAMING, ""), **naming}
    best, most = None, found
    for options in _candidates(images, masks):
        try:
            pairs = len(pair_files(options["images"], options["masks"], **{key: options[key] for key in _NAMING}).pairs)
        except UserError:
            continue
        if pairs > most:
            best, most = options, pairs
    if best is None:
        return None
    return Proposal({key: value for key, value in best.items() if value != current[key]}, most)


def _candidates(images: str, masks: str) -> Iterator[dict[str, str]]:
    """Yields sets of options to try, the simplest first."""
    bases = [Path(folder).expanduser() for folder in (images, masks)]
    starred = [split_star(base) for base in bases]
    same = bases[0].resolve() == bases[1].resolve()
    names = [_names(star[0] if star else base) for star, base in zip(starred, bases)]
    affixes = _best_affixes(*names, same=same, in_folders=True)
    if affixes:
        yield _options(images, masks, affixes)
    if any(starred):
        return
    plain = ("", ""), ("", "")
    for affixes in dict.fromkeys((plain, _best_affixes(*names, same=same, in_folders=False) or plain)):
        parts = [_by_folder(side, *affix) for side, affix in zip(names, affixes)]
        for of_images, of_masks in folder_templates(*parts, same=same):
            below = [str(Path(images, of_images)), str(Path(masks, of_masks))]
            yield _options(*below, affixes)


def _options(images: str, masks: str, affixes: tuple[Affixes, Affixes]) -> dict[str, str]:
    return {"images": images, "masks": masks, **dict(zip(_NAMING, (*affixes[0], *affixes[1])))}


def _names(base: Path) -> list[Name]:
    paths = sorted(scan(base)[0])[:_MOST_FILES]
    return [(path.parent.relative_to(base).as_posix(), path.name) for path in paths]


def _by_folder(names: Sequence[Name], prefix: str, suffix: str) -> dict[str, set[str]]:
    """Returns folder -> common parts of the names in it."""
    found: dict[str, set[str]] = {}
    for (folder, _), part in zip(names, common_parts([name for _, name in names], prefix, suffix)):
        if part is not None:
            found.setdefault(folder, set()).add(part)
    return found


def _best_affixes(
    images: Sequence[Name], masks: Sequence[Name], *, same: bool, in_folders: bool
) -> tuple[Affixes, Affixes] | None:
    """Returns the (prefix, suffix) of images and of masks with which most of their names are the same.

    in_folders: whether the folders must be the same too. Among equal ones the shortest win, and masks of ids.
    """
    several = same and len({os.path.splitext(name)[1] for _, name in images}) > 1
    sides = [
        {affix: keys for affix in _affixes(side, types=several) if (keys := _keys(side, *affix, in_folders=in_folders))}
        for side in (images, masks)
    ]
    best, most = None, (0, 0, 0)
    for of_images, left in sides[0].items():
        for of_masks, right in sides[1].items():
            common = left.keys() & right.keys()
            count = sum(left[key] != right[key] for key in common) if same else len(common)
            rank = (count, _likely("".join(of_masks)), -len("".join((*of_images, *of_masks))))
            if count and rank > most:
                best, most = (of_images, of_masks), rank
    return best


def _likely(text: str) -> int:
    """Returns how much the ends of file names look like those of masks."""
    return bool(MASK_WORDS.search(text)) - bool(_PICTURES.search(text))


def _keys(names: Sequence[Name], prefix: str, suffix: str, *, in_folders: bool) -> dict[object, Name]:
    """Returns key -> name of the files with a prefix and suffix; empty if two in one folder have the same key."""
    keys: dict[object, Name] = {}
    for (folder, name), part in zip(names, common_parts([name for _, name in names], prefix, suffix)):
        if part is None:
            continue
        key = (folder, part) if in_folders else part
        if key in keys and keys[key][0] == folder:
            return {}
        keys[key] = (folder, name)
    return keys


def _affixes(names: Sequence[Name], *, types: bool) -> list[Affixes]:
    """Returns the prefixes and suffixes that many names have, each with each; types: also with the type of file."""
    prefixes, suffixes, extensions = Counter(), Counter(), Counter()
    for _, name in names:
        stem, extension = os.path.splitext(name)
        start = _PREFIX.match(stem)
        prefixes.update([start[0]] if start else [])
        suffixes.update(stem[match.start() :] for match in [*_ENDS.finditer(stem)][-3:])
        if not any(char.isdigit() for char in stem):
            suffixes.update([stem])  # 0001/image.png and 0001/mask.png
        extensions.update([extension])
    few = max(min(2, len(names)), len(names) // 10)
    common = [
        ["", *(part for part, count in counter.most_common(_MOST_PARTS) if part and count >= few)]
        for counter in (prefixes, suffixes)
    ]
    if types:
        common[1] += [suffix + extension for suffix in common[1] for extension in extensions]
    return [(prefix, suffix) for prefix in common[0] for suffix in common[1]]


def _is_folder(path: str | os.PathLike) -> bool:
    try:
        star = split_star(Path(path).expanduser())
    except UserError:
        return False
    return star is not None or Path(path).expanduser().is_dir()
