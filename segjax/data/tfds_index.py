"""The index of a built dataset: facts about its records that need no image decoded, cached beside it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.array_file import read_arrays
from segjax.data.tfds_builder import built_again, one_line, open_builder, open_records, skip_decoding
from segjax.errors import UserError
from segjax.files import replacing

log = logging.getLogger("segjax")

# name -> (kind of its type, shape of an entry)
_FORMS = {"names": ("U", ()), "sequences": ("U", ()), "frames": ("i", ()), "sizes": ("i", (2,)), "labelled": ("b", ())}


@dataclasses.dataclass(frozen=True)
class Index:
    """Facts about the n records of a split that need no image decoded; cached in the dataset's folder.

    names, sequences: n strings.
    frames: int32 (n,), position in the sequence.
    sizes: int32 (n, 2), height and width.
    labelled: bool (n,).
    """

    names: np.ndarray
    sequences: np.ndarray
    frames: np.ndarray
    sizes: np.ndarray
    labelled: np.ndarray

    def take(self, rows: np.ndarray) -> Index:
        """Returns the index of some of the records."""
        return Index(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})


def write_index(directory: Path) -> dict[str, int]:
    """Scans a new dataset once, writes the index of every split beside it, and returns split -> length."""
    builder = open_builder(directory)
    lengths = {}
    for split in builder.info.splits:
        index = _scan(builder, split)
        _save(index, directory / f"index-{split}.npz")
        lengths[split] = len(index.names)
    return lengths


def load_index(directory: Path, builder: Any, split: str) -> Index:
    """Returns the index of a split, from its file or from a scan; a damaged file is written again.

    Raises UserError for records that cannot be read.
    """
    path = directory / f"index-{split}.npz"
    try:
        return _read(path, builder.info.splits[split].num_examples)
    except FileNotFoundError:
        return _scan(builder, split)  # a dataset that was built elsewhere
    except ValueError as error:
        log.warning("%s; its records are scanned again", error)
    index = _scan(builder, split)
    try:
        _save(index, path)
    except OSError as error:
        log.info("%s cannot be written (%s): the next run scans again", path, error.strerror)
    return index


def _read(path: Path, count: int) -> Index:
    """Raises FileNotFoundError without a file, and ValueError for one that is damaged or of other records."""
    arrays = read_arrays(path, _FORMS)
    for name, (kind, shape) in _FORMS.items():
        if arrays[name].dtype.kind != kind or arrays[name].shape != (count, *shape):
            raise ValueError(f"{path} is not of the {count} records beside it")
    return Index(**arrays)


def _save(index: Index, path: Path) -> None:
    with replacing(path) as part, open(part, "wb") as file:
        np.savez(file, **dataclasses.asdict(index))


def concatenate(indices: list[Index]) -> Index:
    """Returns one index of the records of several, in their order."""
    fields = [field.name for field in dataclasses.fields(Index)]
    return Index(**{name: np.concatenate([getattr(index, name) for index in indices]) for name in fields})


def _scan(builder: Any, split: str) -> Index:
    """Raises UserError for a dataset that lacks a field of the index, and for damaged records."""
    rows = []
    try:
        empty = not builder.info.splits[split].num_examples
        decoders = skip_decoding(builder, flow=True)
        for example in () if empty else open_records(builder, Path(builder.data_path), split, decoders):
            size = (int(example["height"]), int(example["width"]))
            name, sequence = example["name"].decode(), example["sequence"].decode()
            rows.append((name, sequence, int(example["frame"]), size, bool(example["labelled"])))
    except UserError:  # of a shard that cannot be fetched
        raise
    except Exception as error:  # array_record raises errors of its C++ library
        raise UserError(
            f"split {split!r} of dataset {builder.name} cannot be read ({one_line(error)}); "
            f"{built_again(Path(builder.data_path))}"
        ) from None
    names, sequences, frames, sizes, labelled = zip(*rows) if rows else ((), (), (), (), ())
    return Index(
        names=np.array(names, str),
        sequences=np.array(sequences, str),
        frames=np.array(frames, np.int32),
        sizes=np.array(sizes, np.int32).reshape(-1, 2),
        labelled=np.array(labelled, bool),
    )
