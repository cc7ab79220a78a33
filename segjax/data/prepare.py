"""The preparation of a dataset: a builder's records written shard by shard, resumed after an interruption.

TFDS itself needs the size of a split before it writes the first shard, or keeps all records in memory, or needs
TensorFlow; and it starts again after every interruption. Here memory is constant and nothing is written twice.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from segjax.data.shard_files import make_serializer, shard_name, write_info, write_shard
from segjax.errors import UserError
from segjax.files import read_note, remove_parts, write_note

SHARD_BYTES = 256 * 2**20  # lower limit of all files but the last


@runtime_checkable
class Resumable(Protocol):
    """The (key, record) pairs of a split, from any position on."""

    def identity(self, start: int, stop: int) -> str:
        """Returns a text that changes with the files of the records start .. stop - 1, or their order."""

    def start_at(self, position: int) -> Iterator[tuple[Any, Mapping[str, Any]]]:
        """Yields the records from number `position` on."""


def prepare(builder: Any, folder: Path, *, downloads: Path) -> Path:
    """Writes all splits of a builder below `folder` and returns the folder of the finished dataset.

    downloads: folder for TFDS's download manager.

    If the preparation is interrupted, splits whose generator is `Resumable` keep their finished shards, and the next
    call resumes after them. Other splits start again.

    Raises UserError for an empty split, and what the builder raises.
    """
    import tensorflow_datasets as tfds

    manager = builder._make_download_manager(downloads, tfds.download.DownloadConfig())
    splits = builder._split_generators(manager)
    serialize = make_serializer(builder.info.features)
    shards = folder / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    remove_parts(shards)
    notes = {split: _write_split(shards, split, examples, serialize, builder) for split, examples in splits.items()}
    done = folder / "dataset"
    shutil.rmtree(done, ignore_errors=True)
    done.mkdir()
    for split, written in notes.items():
        for number in range(len(written)):
            _place(_shard(shards, split, number), done / shard_name(builder.name, split, number, len(written)))
    lengths = {split: [note["records"] for note in written] for split, written in notes.items()}
    sizes = {split: sum(note["bytes"] for note in written) for split, written in notes.items()}
    write_info(builder.info, done, builder.name, lengths, sizes)
    return done


def begun(folder: Path) -> tuple[int, int]:
    """Returns the (records, bytes) below `folder` that are finished and will not be written again."""
    notes = map(read_note, folder.glob("shards/*.json"))
    kept = [note for note in notes if note and note["identity"]]
    return sum(note["records"] for note in kept), sum(note["bytes"] for note in kept)


def _write_split(folder: Path, split: str, examples: Any, serialize: Any, builder: Any) -> list[dict[str, Any]]:
    """Writes the missing shards of a split. Returns {"records", "bytes", "identity"} of every shard."""
    resumable = isinstance(examples, Resumable)
    notes = list(_finished(folder, split, examples)) if resumable else []
    for path in folder.glob(f"{split}-?????.*"):
        if int(path.stem[-5:]) >= len(notes):
            path.unlink()
    position = sum(note["records"] for note in notes)
    records = examples.start_at(position) if resumable else iter(examples)
    with contextlib.closing(_counted(records, split, position, examples)) as rest:
        for first in rest:
            count = 0

            def shard(first: Any = first) -> Iterator[bytes]:
                nonlocal count
                size = 0
                for _, record in itertools.chain([first], rest):
                    data = serialize(record)
                    size, count = size + len(data), count + 1
                    yield data
                    if size >= SHARD_BYTES:
                        return

            size = write_shard(_shard(folder, split, len(notes)), shard())
            identity = examples.identity(position, position + count) if resumable else ""
            note = {"records": count, "bytes": size, "identity": identity}
            write_note(_note(folder, split, len(notes)), note)
            notes.append(note)
            position += count
    if not notes:
        raise UserError(
            f'split "{split}" of dataset {builder.name} would hold no record; check its source files and '
            "builder_options"
        )
    return notes


def _finished(folder: Path, split: str, examples: Resumable) -> Iterator[dict[str, Any]]:
    """Yields the notes of the first shards that exist whole and match the files as they are now."""
    position = 0
    for number in itertools.count():
        path = _note(folder, split, number)
        if not (path.is_file() and _shard(folder, split, number).is_file()):
            return
        note = read_note(path)
        if note is None or examples.identity(position, position + note["records"]) != note["identity"]:
            return
        position += note["records"]
        yield note


def _counted(records: Iterator[Any], split: str, position: int, examples: Any) -> Iterator[Any]:
    """Yields the records, with a progress bar if stderr is a terminal."""
    from tensorflow_datasets.core.utils import tqdm_utils

    total = len(examples) if hasattr(examples, "__len__") else None
    with tqdm_utils.tqdm(total=total, initial=position, desc=split, unit=" records") as bar:
        for record in records:
            yield record
            bar.update()


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # so that nothing is lost if this is interrupted
    except OSError:  # a file system without hard links
        os.replace(source, target)


def _shard(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.array_record"


def _note(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.json"
