"""A guard of the held-out splits: no label of their images, and no label on their images, is propagated."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from segjax.data import TfdsSource
from segjax.data.chains import Chain
from segjax.errors import UserError
from segjax.stages.dataset import Dataset

log = logging.getLogger("segjax")


def check_held_out(dataset: Dataset, source: TfdsSource, chains: Sequence[Chain], *, where: str) -> None:
    """Checks that chains contain no image of the run's validation and test splits, except those it trains on anyway.

    Images are the same if their names are, or the frame of their video.

    dataset: of the run, with its splits.
    source: of the frames of the chains.
    chains: that labels are propagated along.
    where: config key of the split, for the error.

    Raises UserError with the number of such images and one of them.
    """
    held_out: dict[object, str] = {}
    for split in ("validation", "test"):
        for key in _images(dataset, split, labelled_only=False):
            held_out.setdefault(key, split)
    for key in _images(dataset, "train", labelled_only=True):
        held_out.pop(key, None)
    used = {record for chain in chains for record in (chain.record, *chain.records)}
    keys = _keys(source)
    found = {record: held_out[key] for record in sorted(used) for key in keys[record] if key in held_out}
    if found:
        record, split = next(iter(found.items()))
        raise UserError(
            f"config key {where}: split {source.split!r} holds {len(found)} images of the run's own {split} split "
            f"{dataset.splits[split]!r}, such as {source.index.names[record]}, so that training would see them; name a "
            "split without them, such as 'train', or lower steps."
        )


def _images(dataset: Dataset, split: str, *, labelled_only: bool) -> set[object]:
    """Returns the keys of the images of one of the run's splits."""
    if not dataset.splits.get(split):
        return set()
    try:
        source = dataset.open(split, labelled_only=labelled_only)
    except UserError as error:
        log.warning(
            "images of the split %s are not compared with those that labels are propagated to: %s", split, error
        )
        return set()
    return {key for keys in _keys(source) for key in keys}


def _keys(source: TfdsSource) -> list[tuple[object, ...]]:
    """Returns what identifies each record: its name, and its frame in a video."""
    index = source.index
    frames = zip(index.names.tolist(), index.sequences.tolist(), index.frames.tolist())
    return [(name, (sequence, frame)) if sequence else (name,) for name, sequence, frame in frames]
