"""The part of a check that reads no pixels: ignored files, other ways to pair, splits, and copies among images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from segjax.data.check_report import Problem
from segjax.data.folders import Pairs
from segjax.data.image_files import read_bytes
from segjax.data.listing import are, shown, some
from segjax.data.own_splits import Division, Item, TooFewImages, choose_splits
from segjax.data.pairing import Proposal
from segjax.errors import UserError


def check_files(
    found: Pairs, proposal: Proposal | None, *, splits: str, lists: Mapping[str, str], prefix: str, suffix: str
) -> tuple[list[str], list[Problem]]:
    """Returns notes and problems of paired files; arguments as in `pair_or_propose` and `choose_splits`.

    Images with the same content in two splits are a problem: the network would be scored on what it was trained on.
    """
    notes, problems = found.ignored.sentences(), []
    if found.ignored.by_products:
        names = some(shown(path.name) for path in found.ignored.by_products)
        notes.append(f"{are(len(found.ignored.by_products), 'by-product')} not counted as images: {names}")
    if proposal is not None:
        notes.insert(0, f"the names match badly; {proposal.sentence()}")
    items = [Item(key, image, mask) for key, image, mask in found.pairs]
    copies = same_content(item.image for item in items)
    try:
        division = choose_splits(items, lists=lists, prefix=prefix, suffix=suffix, how=splits)
        notes.append(f"splits: {division.describe()}")
        if "validation" not in division.splits:
            notes.append("there is no split for validation; add one, or name another: --config.dataset.validation=NAME")
        problems += _across(copies, division)
    except TooFewImages as error:
        notes.append(f"splits: {error}")  # whatever the folder is for, its images can be checked
    except UserError as error:
        problems.append(Problem("split", str(error)))
    if copies:
        groups = some(" = ".join(shown(path) for path in group) for group in copies)
        notes.append(f"{are(sum(map(len, copies)) - len(copies), 'image')} the same as another: {groups}")
    return notes, problems


def same_content(files: Iterable[Path]) -> list[list[Path]]:
    """Returns groups of files with the same bytes, in the order of the files; most are told apart by their size."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in files:
        try:
            by_size[file.stat().st_size].append(file)
        except OSError:
            continue  # the check of its pixels names it
    groups: dict[tuple[int, bytes], list[Path]] = defaultdict(list)
    for size, same in by_size.items():
        for file in same if size and len(same) > 1 else ():
            try:
                groups[size, hashlib.sha256(read_bytes(file)).digest()].append(file)
            except UserError:
                continue
    return [group for group in groups.values() if len(group) > 1]


def _across(copies: list[list[Path]], division: Division) -> list[Problem]:
    """Returns a problem for each group of copies that lie in different splits."""
    split_of = {item.image: name for name, items in division.splits.items() for item in items}
    problems = []
    for group in copies:
        used = [file for file in group if file in split_of]
        if len({split_of[file] for file in used}) > 1:
            where = some(f"{shown(file)} ({split_of[file]})" for file in used)
            problems.append(Problem("split", f"{where} are the same image in several splits; keep one of them"))
    return problems
