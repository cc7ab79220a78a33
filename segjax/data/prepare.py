"""Runs a builder: writes its records shard by shard, and goes on where a preparation of the same files was stopped.

TFDS must know the size of a split before it writes the first shard, keeps what it has in memory or needs TensorFlow,
and starts again after every interruption. Here memory is flat and nothing is written twice.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from segjax.data.shard_files import make_serializer, shard_name, write_info, write_records
from segjax.errors import UserError
from segjax.files import remove_parts, write_file

SHARD_BYTES = 256 * 2**20  # a file holds at least as much, the last one less


@runtime_checkable
class Resumable(Protocol):
    """The (key, record) of a split, from any of them on."""

    def identity(self, start: int, stop: int) -> str:
        """Text that changes with the files of the records start .. stop - 1, or their order."""

    def start_at(self, position: int) -> Iterator[tuple[Any, Mapping[str, Any]]]:
        """The records from number `position` on."""


def prepare(builder: Any, folder: Path, *, downloads: Path) -> Path:
    """Writes all splits of a builder below `folder` and returns the folder of the finished data set.

    Splits whose generator is `Resumable` keep their finished shards when it is stopped, and the next call goes on after
    them; others start again. Raises UserError for an empty split, and what the builder raises.
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
    """(records, bytes) that a preparation has finished below `folder` and would not write again."""
    notes = [json.loads(path.read_text()) for path in folder.glob("shards/*.json")]
    kept = [note for note in notes if note["identity"]]
    return sum(note["records"] for note in kept), sum(note["bytes"] for note in kept)


def _write_split(folder: Path, split: str, examples: Any, serialize: Any, builder: Any) -> list[dict[str, Any]]:
    """Writes the shards of a split that are missing; returns {"records", "bytes", "identity"} of each."""
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

            size = write_records(_shard(folder, split, len(notes)), shard())
            identity = examples.identity(position, position + count) if resumable else ""
            note = {"records": count, "bytes": size, "identity": identity}
            write_file(_note(folder, split, len(notes)), json.dumps(note).encode())
            notes.append(note)
            position += count
    if not notes:
        raise UserError(
            f'split "{split}" of data set {builder.name} would hold no record; check its source files and '
            "builder_options"
        )
    return notes


def _finished(folder: Path, split: str, examples: Resumable) -> Iterator[dict[str, Any]]:
    """The notes of the first shards that are there and of the files as they are now."""
    position = 0
    for number in itertools.count():
        path = _note(folder, split, number)
        if not (path.is_file() and _shard(folder, split, number).is_file()):
            return
        note = json.loads(path.read_text())
        if examples.identity(position, position + note["records"]) != note["identity"]:
            return
        position += note["records"]
        yield note


def _counted(records: Iterator[Any], split: str, position: int, examples: Any) -> Iterator[Any]:
    """The records, with a progress bar where stderr is a terminal."""
    from tensorflow_datasets.core.utils import tqdm_utils

    total = len(examples) if hasattr(examples, "__len__") else None
    with tqdm_utils.tqdm(total=total, initial=position, desc=split, unit=" records") as bar:
        for record in records:
            yield record
            bar.update()


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # so that nothing is lost when this is stopped half-way
    except OSError:  # a file system without hard links
        os.replace(source, target)


def _shard(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.array_record"


def _note(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.json"
