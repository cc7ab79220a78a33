"""A guard of the held-out splits: no label of their images, and no label on their images, is trained on.

Images are the same if their names are, or the frame of their video. Held-out images are those of the run's validation
and test splits, except those that the run trains on anyway.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence

from segjax.data import TfdsSource
from segjax.data.chains import Chain, FrameTable
from segjax.data.joined import Subset
from segjax.errors import UserError
from segjax.stages.dataset import Dataset

log = logging.getLogger("segjax")
_SIGNED_STEP = re.compile(r"[+-]\d+$")  # what a propagated label's name adds to that of its labelled frame


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


def _check(dataset: Dataset, records: Iterable[tuple[object, ...]], what: str, remedy: str) -> None:
    held_out: dict[object, str] = {}
    for split in ("validation", "test"):
        for key in _images(dataset, split, labelled_only=False):
            held_out.setdefault(key, split)
    for key in _images(dataset, "train", labelled_only=True):
        held_out.pop(key, None)
    found = {keys[0]: held_out[key] for keys in records for key in keys if key in held_out}
    if found:
        name, split = next(iter(found.items()))
        raise UserError(
            f"{what} belong to {len(found)} images of the run's own {split} split {dataset.splits[split]!r}, such as "
            f"{name}, so that training would see them; {remedy}."
        )


def _images(dataset: Dataset, split: str, *, labelled_only: bool) -> set[object]:
    """Returns the keys of the images of one of the run's splits."""
    if not dataset.splits.get(split):
        return set()
    try:
        source = dataset.open(split, labelled_only=labelled_only)
    except UserError as error:
        log.warning("labels may be propagated to images of the %s split, which is not compared: %s", split, error)
        return set()
    return {key for keys in _keys(source.index) for key in keys}


def _keys(table: FrameTable) -> list[tuple[object, ...]]:
    """Returns what identifies each frame: its name, and its place in a video."""
    rows = zip(map(str, table.names), map(str, table.sequences), map(int, table.frames))
    return [(name, (sequence, frame)) if sequence else (name,) for name, sequence, frame in rows]
