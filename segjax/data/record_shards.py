"""Writes a TFDS data set (array_record files) shard by shard; each shard is whole or not there, however a run ends."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.build import creating
from segjax.data.label_map import LabelMap
from segjax.data.tfds_source import quiet_tfds, write_index
from segjax.errors import UserError

Examples = Mapping[str, Sequence[Mapping[str, Any]]]  # split -> records: encoded bytes, numbers and texts


@dataclasses.dataclass(frozen=True)
class RecordShards:
    """A data set in the making below `folder`: shards/ while it grows, dataset/ when `finish` has put it together.

    name: of the data set. splits: their names. extra: feature name -> "text" or "int", beside those of every data set.
    identity: plain data that tells what is being written; a folder begun with another one is refused.

    A shard's files appear by renaming, then its summary, which says that it is done. Shards may be written in any order
    and by several processes, each its own.
    """

    folder: Path
    name: str
    splits: tuple[str, ...]
    label_map: LabelMap
    extra: Mapping[str, str]
    identity: Mapping[str, Any]
    description: str = ""

    @property
    def directory(self) -> Path:
        """Where the finished data set is."""
        return self.folder / "dataset"

    def open(self) -> None:
        """Makes the folder; UserError when it holds shards of something else or cannot be written."""
        note = self.folder / "shards" / "identity.json"
        text = json.dumps(self.identity, indent=1, sort_keys=True) + "\n"
        with creating(self.folder, option="--workdir"):
            note.parent.mkdir(parents=True, exist_ok=True)
            if not note.is_file():
                _write(note, text.encode())
        if note.read_text() != text:
            old, new = json.loads(note.read_text()), json.loads(text)
            keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            raise UserError(
                f"{self.folder} was begun with other settings ({', '.join(keys)}); delete the folder to start again, "
                "or give another --workdir."
            )

    def summary(self, shard: int) -> dict[str, Any] | None:
        """What `write` was told about a shard that is done, with the "lengths" of its splits; None when it is not."""
        try:
            return json.loads(self._note(shard).read_text())
        except FileNotFoundError:
            return None

    def write(self, shard: int, examples: Examples, summary: Mapping[str, Any]) -> None:
        """Writes one shard; summary: plain data to keep with it."""
        from array_record.python.array_record_module import ArrayRecordWriter

        serializer = self._serializer()
        sizes = {}
        with creating(self.folder, option="--workdir"):
            for split in self.splits:
                path = self._file(shard, split)
                part = path.with_name(f".{path.name}.part")
                part.unlink(missing_ok=True)
                writer = ArrayRecordWriter(str(part), "group_size:1")
                sizes[split] = 0
                for example in examples[split]:
                    data = serializer(example)
                    sizes[split] += len(data)
                    writer.write(data)
                writer.close()
                _sync(part)
                os.replace(part, path)
            lengths = {split: len(examples[split]) for split in self.splits}
            _write(self._note(shard), json.dumps({**summary, "lengths": lengths, "bytes": sizes}).encode())

    def finish(self, shards: int, *, extra_files: Mapping[str, Mapping[str, np.ndarray]] | None = None) -> Path:
        """Puts shards 0 .. shards - 1 together and returns the data set's folder, which appears by one rename.

        extra_files: name -> arrays, kept as .npz beside the records. Call it on one process, when all are done; calling
        it again does nothing. Raises UserError when a split would be empty.
        """
        if self.directory.is_dir():
            return self.directory
        notes = [self.summary(shard) for shard in range(shards)]
        building = self.folder / ".building"
        shutil.rmtree(building, ignore_errors=True)
        with creating(self.folder, option="--workdir"):
            building.mkdir()
            for split in self.splits:
                full = [shard for shard, note in enumerate(notes) if note["lengths"][split]]
                if not full:
                    raise UserError(f"split {split!r} of data set {self.name} in {self.folder} would hold no record.")
                for number, shard in enumerate(full):
                    name = f"{self.name}-{split}.array_record-{number:05d}-of-{len(full):05d}"
                    _link(self._file(shard, split), building / name)
            self._write_info(building, notes)
            for name, arrays in (extra_files or {}).items():
                with open(building / name, "wb") as file:
                    np.savez(file, **arrays)
            write_index(building)
            os.replace(building, self.directory)
            for path in self._note(0).parent.glob("*.array_record"):
                path.unlink()
        return self.directory

    def _write_info(self, folder: Path, notes: Sequence[Mapping[str, Any]]) -> None:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import dataset_info, file_adapters

        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=self.name, filetype_suffix="array_record", split=None
        )
        splits = [
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[note["lengths"][split] for note in notes if note["lengths"][split]],
                num_bytes=sum(note["bytes"][split] for note in notes),
                filename_template=template.replace(split=split),
            )
            for split in self.splits
        ]
        identity = dataset_info.DatasetIdentity(
            name=self.name,
            version=tfds.core.Version("1.0.0"),
            data_dir=str(folder),
            module_name="",
            config_name="default",
        )
        with quiet_tfds():
            info = tfds.core.DatasetInfo(
                builder=identity,
                description=self.description,
                features=self._features(),
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(label_map=self.label_map.to_dict(), **self.identity),
            )
            info.set_file_format(file_adapters.FileFormat.ARRAY_RECORD)
            info.set_splits(tfds.core.splits.SplitDict(splits))
            info.write_to_directory(folder)

    def _features(self) -> Any:
        import tensorflow_datasets as tfds

        wide = max(label.id for label in self.label_map.table.labels) > 255
        kinds = {"text": tfds.features.Text(), "int": np.int32}
        common = importlib.import_module("data_builders.records").features(np.uint16 if wide else np.uint8)
        return tfds.features.FeaturesDict({**common, **{name: kinds[kind] for name, kind in self.extra.items()}})

    def _serializer(self):
        from tensorflow_datasets.core import example_serializer
        from tensorflow_datasets.proto import tf_example_pb2

        features = self._features()
        serializer = example_serializer.ExampleSerializer(features.get_serialized_info())

        def serialize(example: Mapping[str, Any]) -> bytes:
            data = serializer.serialize_example(features.encode_example(dict(example)))
            # protobuf writes the features in another order in every process unless it is told not to
            return tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True)

        return serialize

    def _file(self, shard: int, split: str) -> Path:
        return self.folder / "shards" / f"{shard:05d}-{split}.array_record"

    def _note(self, shard: int) -> Path:
        return self.folder / "shards" / f"{shard:05d}.json"


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    part.write_bytes(data)
    _sync(part)
    os.replace(part, path)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
