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

from segjax.data.shard_files import make_serializer, shard_name, write_file, write_info, write_records
from segjax.errors import UserError

SHARD_BYTES = 256 * 2**20  # a file holds at least as much, the last one less


@runtime_checkable
class Resumable(Protocol):
    """The (key, record) of a split, from any of them on."""

    def identity(self) -> str:
        """Text that changes with the files or their order."""

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
    resumable = {path.stem for path in folder.glob("shards/*.json") if json.loads(path.read_text()).get("identity")}
    notes = [path for path in folder.glob("shards/*-?????.json") if path.stem[:-6] in resumable]
    found = [json.loads(path.read_text()) for path in notes]
    return sum(note["records"] for note in found), sum(note["bytes"] for note in found)


def _write_split(folder: Path, split: str, examples: Any, serialize: Any, builder: Any) -> list[dict[str, int]]:
    """Writes the shards of a split that are missing; returns {"records", "bytes"} of each."""
    identity = examples.identity() if isinstance(examples, Resumable) else ""
    state = folder / f"{split}.json"
    if not identity or not state.is_file() or json.loads(state.read_text())["identity"] != identity:
        for path in (*folder.glob(f"{split}-?????.*"), *folder.glob(f".{split}-?????.*")):
            path.unlink()
        write_file(state, json.dumps({"identity": identity}).encode())
    notes = list(_finished(folder, split))
    position = sum(note["records"] for note in notes)
    records = iter(examples.start_at(position) if identity else examples)
    with contextlib.closing(_counted(records, split, position, examples)) as rest:
        for first in rest:
            number, count = len(notes), 0

            def shard(first: Any = first) -> Iterator[bytes]:
                nonlocal count
                size = 0
                for _, record in itertools.chain([first], rest):
                    data = serialize(record)
                    size, count = size + len(data), count + 1
                    yield data
                    if size >= SHARD_BYTES:
                        return

            size = write_records(_shard(folder, split, number), shard())
            notes.append({"records": count, "bytes": size})
            write_file(_note(folder, split, number), json.dumps(notes[-1]).encode())
    if not notes:
        raise UserError(
            f'split "{split}" of data set {builder.name} would hold no record; check its source files and '
            "builder_options"
        )
    return notes


def _finished(folder: Path, split: str) -> Iterator[dict[str, int]]:
    for number in itertools.count():
        if not (_note(folder, split, number).is_file() and _shard(folder, split, number).is_file()):
            return
        yield json.loads(_note(folder, split, number).read_text())


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
