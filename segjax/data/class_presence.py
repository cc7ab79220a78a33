"""The pixels of each raw id in each record of a stored split: one scan of the labels, kept beside the index."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from segjax.data.array_file import read_arrays
from segjax.data.label_map import LabelMap
from segjax.data.threads import ordered_map
from segjax.files import replacing
from segjax.remote.shards import is_partial, listed

log = logging.getLogger("segjax")

_KEPT: dict[tuple[str, ...], np.ndarray] = {}  # of folders that cannot be written


def class_pixels(counts: np.ndarray, own: LabelMap, label_map: LabelMap) -> np.ndarray:
    """Returns the pixels of each class in each record, int64 (n, k).

    counts: result of `raw_pixels`.
    own: the dataset's own map.
    label_map: raw ids -> classes; it may join several in one class, or ignore some.
    """
    found = np.zeros((len(counts), label_map.num_classes), np.int64)
    for column, raw in enumerate(own.table.ids):
        if label_map.table.ids[raw] < label_map.num_classes:
            found[:, label_map.table.ids[raw]] += counts[:, column]
    return found


def raw_pixels(
    folder: Path, split: str, own: LabelMap, labelled: np.ndarray, read: Callable[[int], tuple[np.ndarray, str]]
) -> np.ndarray:
    """Returns the pixels of each raw id of the map in each record, uint32 (n, ids); 0 in records without label.

    They are scanned once and kept in the file presence-SPLIT.npz of the folder, or in memory if it cannot be written.
    The scan is repeated if the files of the split have changed since.

    folder: of the built dataset.
    split: a stored one.
    own: the dataset's own map.
    labelled: bool (n,).
    read: number of a record -> (mask of raw ids (h, w), name for errors); called in threads.

    Raises UserError for a mask that is damaged or contains ids that the map lacks.
    """
    state = _state(folder, split)
    key = (str(folder.absolute()), *state)
    path = folder / f"presence-{split}.npz"
    ids = np.array(list(own.table.ids))
    if key in _KEPT:
        return _KEPT[key]
    if (counts := _load(path, state, ids)) is not None:
        return counts
    log.info("looking for the classes in %d labels of split %s in %s, once", int(labelled.sum()), split, folder)
    counts = np.zeros((len(labelled), len(ids)), np.uint32)
    rows = np.flatnonzero(labelled)
    for row, found in zip(rows, ordered_map(lambda row: _count(*read(int(row)), ids, own), rows)):
        counts[row] = found
    try:
        with replacing(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, counts=counts, ids=ids, state=np.array(state, str))
    except OSError as error:
        log.info("%s cannot be written (%s): the next run looks for the classes again", path, error.strerror)
        _KEPT[key] = counts
    return counts


def _count(mask: np.ndarray, file: str, ids: np.ndarray, own: LabelMap) -> np.ndarray:
    counts = np.bincount(mask.ravel(), minlength=int(ids.max()) + 1)
    found = counts[ids]
    if found.sum() != mask.size:
        own.encode(mask, file)  # raises UserError with the unknown ids
    return found


def _state(folder: Path, split: str) -> list[str]:
    """Returns name, size and time of the split's files."""
    if is_partial(folder):  # the records of a remote dataset are here or not, and do not change
        entries = sorted(listed(folder).items())
        return [f"{name} {entry.size} {entry.time}" for name, entry in entries if f"-{split}.array_record" in name]
    files = sorted(folder.glob(f"*-{split}.array_record*"))
    return [f"{file.name} {(stat := file.stat()).st_size} {stat.st_mtime_ns}" for file in files]


def _load(path: Path, state: list[str], ids: np.ndarray) -> np.ndarray | None:
    try:
        arrays = read_arrays(path, ("counts", "ids", "state"))
        same = arrays["state"].tolist() == state and np.array_equal(arrays["ids"], ids)
        return arrays["counts"] if same else None
    except FileNotFoundError:
        return None
    except ValueError:
        log.warning("%s is damaged and is written again", path)
        return None
