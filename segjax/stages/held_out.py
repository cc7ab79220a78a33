"""A guard of the held-out splits: no label of their images, and no label on their images, is trained on.

Images are the same if their names are, or the frame of their video. Names in a foreign pool of images may be the same
by chance, so that pixels are compared too. Held-out images are those of the run's validation and test splits, except
those that the run trains on anyway.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from segjax.data import TfdsSource
from segjax.data.chains import Chain, FrameTable
from segjax.data.joined import Subset
from segjax.errors import UserError
from segjax.stages.dataset import Dataset

log = logging.getLogger("segjax")
_SIGNED_STEP = re.compile(r"[+-]\d+$")  # what a propagated label's name adds to that of its labelled frame
COMPARED = 20  # images of one name whose pixels are compared, spread over all of them
_SAME = 4.0  # grey levels: a JPEG or a smaller copy of an image differs by less on average


def check_chains(dataset: Dataset, source: TfdsSource, chains: Sequence[Chain], *, where: str) -> None:
    """Checks that chains contain no held-out image.

    dataset: of the run, with its splits.
    source: of the frames of the chains.
    chains: that labels are propagated along.
    where: config key of the split, for the error.

    Raises UserError with the number of such images and one of them.
    """
    keys = _keys(source.index)
    used = sorted({record for chain in chains for record in (chain.record, *chain.records)})
    remedy = "name a split without them, such as 'train', or lower steps"
    _check(dataset, (keys[record] for record in used), f"config key {where}: split {source.split!r}", remedy)


def check_propagated(dataset: Dataset, source: Subset, *, where: str) -> None:
    """Checks that propagated labels stem from no held-out image and lie on none; arguments as in `check_chains`.

    source: result of `open_propagated`.

    Raises UserError with the number of such images and one of them.
    """
    keys = ((_SIGNED_STEP.sub("", key[0]), *key[1:]) for key in _keys(source.source.index.take(source.rows)))
    _check(dataset, keys, f"config key {where}: the propagated labels", "propagate labels of this run's training split")


def check_pool(
    dataset: Dataset,
    table: FrameTable,
    read: Callable[[int], np.ndarray],
    *,
    where: str,
    remedy: str,
    pooled: bool = False,
) -> None:
    """Checks that a pool of images contains no held-out image.

    Images whose names, file names or frames are those of held-out images are compared with these, `COMPARED` of them.

    dataset: of the run, with its splits.
    table: of the images.
    read: number of an image -> uint8 (h, w, 3).
    where: config key of the pool, for the error.
    remedy: end of the error's sentence.
    pooled: whether names and videos in the table begin with the name of a pool and "/".

    Raises UserError with the number of such images and one of them.
    """
    held_out = _held_out(dataset)
    found: dict[int, _HeldOut] = {}
    for row, keys in enumerate(_keys(table, pooled=pooled)):
        path = PurePosixPath(str(keys[0]))
        match = next((held_out[key] for key in (*keys, path.stem, path.name) if key in held_out), None)
        if match is not None:
            found[row] = match
    rows = list(found)
    for row in rows[:: -(-len(rows) // COMPARED) or 1]:
        if _same_image(read, row, found[row]):
            name, split = table.names[row], found[row].split
            raise UserError(
                f"config key {where}: {len(rows)} images are those of the run's own {split} split "
                f"{dataset.splits[split]!r}, such as {name}, so that training would see them; {remedy}."
            )
    if rows:
        log.info("%s: %d images have names of held-out images, such as %s, and show something else",
                 where, len(rows), table.names[rows[0]])  # fmt: skip


class _HeldOut(NamedTuple):
    """A held-out image: validation or test, and the record of its source."""

    split: str
    source: TfdsSource
    row: int


def _same_image(read: Callable[[int], np.ndarray], row: int, other: _HeldOut) -> bool:
    try:
        one = read(row)
    except UserError:
        return False  # nobody can train on it either
    two = other.source[other.row].image
    if one.shape != two.shape:
        size = min(one.shape[:2], two.shape[:2])
        one, two = (cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in (one, two))
    return float(cv2.absdiff(one, two).mean()) < _SAME


def _check(dataset: Dataset, records: Iterable[tuple[object, ...]], what: str, remedy: str) -> None:
    held_out = _held_out(dataset)
    found = {keys[0]: held_out[key].split for keys in records for key in keys if key in held_out}
    if found:
        name, split = next(iter(found.items()))
        raise UserError(
            f"{what} belong to {len(found)} images of the run's own {split} split {dataset.splits[split]!r}, such as "
            f"{name}, so that training would see them; {remedy}."
        )


def _held_out(dataset: Dataset) -> dict[object, _HeldOut]:
    """Returns the held-out images by what identifies them."""
    found: dict[object, _HeldOut] = {}
    for split in ("validation", "test"):
        for key, image in _images(dataset, split, labelled_only=False).items():
            found.setdefault(key, image)
    for key in _images(dataset, "train", labelled_only=True):
        found.pop(key, None)
    return found


def _images(dataset: Dataset, split: str, *, labelled_only: bool) -> dict[object, _HeldOut]:
    """Returns the images of one of the run's splits by what identifies them."""
    if not dataset.splits.get(split):
        return {}
    try:
        source = dataset.open(split, labelled_only=labelled_only)
    except UserError as error:
        log.warning("training may see images of the %s split, which is not compared: %s", split, error)
        return {}
    return {key: _HeldOut(split, source, row) for row, keys in enumerate(_keys(source.index)) for key in keys}


def _keys(table: FrameTable, *, pooled: bool = False) -> list[tuple[object, ...]]:
    """Returns what identifies each frame: its name, and its place in a video; pooled: see `check_pool`."""
    names, sequences = (list(map(str, texts)) for texts in (table.names, table.sequences))
    if pooled:
        names, sequences = ([text.partition("/")[2] for text in texts] for texts in (names, sequences))
    rows = zip(names, sequences, map(int, table.frames))
    return [(name, (sequence, frame)) if sequence else (name,) for name, sequence, frame in rows]
