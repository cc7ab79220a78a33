"""A TFDS dataset (array_record files) written shard by shard; each shard is complete or absent, however a run ends."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.label_map import LabelMap
from segjax.data.record_features import record_features
from segjax.data.shard_files import make_serializer, shard_name, write_info, write_shard
from segjax.data.tfds_builder import quiet_tfds
from segjax.data.tfds_index import write_index
from segjax.errors import UserError
from segjax.files import begin, creating, link, read_note, write_note

Examples = Mapping[str, Sequence[Mapping[str, Any]]]  # split -> records: encoded bytes, numbers and texts


@dataclasses.dataclass(frozen=True)
class RecordShards:
    """A dataset that is written below `folder`: into shards/ first, and into dataset/ when `finish` combines them.

    name: name of the dataset.
    splits: their names.
    label_map: of the raw ids in `label`.
    extra: feature name -> "text", "int" or "map" (uint8 (h, w, 1) as PNG), beside the features of every record.
    identity: plain data that identifies the contents; stored as metadata. A folder begun with other data is refused.
    description: one sentence, stored with the dataset.
    kind: what wrote the dataset, see `segjax.data.derived`; stored as metadata, but no part of the identity.
    option: name of what chooses the folder, for errors.

    The files of a shard appear by renaming; its summary appears last and marks it as done. Shards may be written in any
    order and by several processes, each shard by one of them.
    """

    folder: Path
    name: str
    splits: tuple[str, ...]
    label_map: LabelMap
    extra: Mapping[str, str]
    identity: Mapping[str, Any]
    description: str = ""
    kind: str = ""
    option: str = "--workdir"

    @property
    def directory(self) -> Path:
        """Folder of the finished dataset."""
        return self.folder / "dataset"

    def open(self) -> None:
        """Creates the folder. Raises UserError if it holds shards of another identity, or cannot be written."""
        note = self.folder / "shards" / "identity.json"
        remedy = f"delete the folder to start again, or give another {self.option}."
        with creating(self.folder, option=self.option):
            begin(note, self.identity, work=self.folder, remedy=remedy)

    def summary(self, shard: int) -> dict[str, Any] | None:
        """Returns what `write` stored as a shard's summary, and the "lengths" of its splits; None if it is not done.

        A shard whose note is damaged is not done, nor is one whose files are missing before they are combined.
        """
        note = read_note(self._note(shard))
        whole = note and (self.directory.is_dir() or all(self._file(shard, split).is_file() for split in self.splits))
        return note if whole else None

    def write(self, shard: int, examples: Examples, summary: Mapping[str, Any]) -> None:
        """Writes one shard.

        examples: split -> records. summary: plain data to keep with the shard.
        Raises UserError if the disk is full or the folder cannot be written.
        """
        serialize = make_serializer(self._features())
        sizes = {}
        with creating(self.folder, option=self.option):
            for split in self.splits:
                sizes[split] = write_shard(self._file(shard, split), map(serialize, examples[split]))
            lengths = {split: len(examples[split]) for split in self.splits}
            write_note(self._note(shard), {**summary, "lengths": lengths, "bytes": sizes})

    def finish(self, shards: int, *, extra_files: Mapping[str, Mapping[str, np.ndarray]] | None = None) -> Path:
        """Combines shards 0 .. shards - 1 and returns the dataset's folder, which appears by one rename.

        extra_files: name -> arrays, kept as .npz beside the records.
        Call it in one process, after all shards are done; a second call does nothing.
        Raises UserError if a split would be empty, a shard is not done, or the disk is full.
        """
        if self.directory.is_dir():
            self._remove_files()  # of a shard that was written again, as its note was damaged
            return self.directory
        notes = [self.summary(shard) for shard in range(shards)]
        if missing := [shard for shard, note in enumerate(notes) if note is None]:
            raise UserError(f"shard {missing[0]} in {self.folder} is not done; run the same command again")
        building = self.folder / ".building"
        shutil.rmtree(building, ignore_errors=True)
        with creating(self.folder, option=self.option):
            building.mkdir()
            for split in self.splits:
                full = [shard for shard, note in enumerate(notes) if note["lengths"][split]]
                if not full:
                    raise UserError(f"split {split!r} of dataset {self.name} in {self.folder} would hold no record.")
                for number, shard in enumerate(full):
                    link(self._file(shard, split), building / shard_name(self.name, split, number, len(full)))
            self._write_info(building, notes)
            for name, arrays in (extra_files or {}).items():
                with open(building / name, "wb") as file:
                    np.savez(file, **arrays)
            write_index(building)
            os.replace(building, self.directory)
            self._remove_files()
        return self.directory

    def _remove_files(self) -> None:
        for path in self._note(0).parent.glob("*.array_record"):
            path.unlink()

    def _write_info(self, folder: Path, notes: Sequence[Mapping[str, Any]]) -> None:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import dataset_info

        identity = dataset_info.DatasetIdentity(
            name=self.name,
            version=tfds.core.Version("1.0.0"),
            data_dir=str(folder),
            module_name="",
            config_name="default",
        )
        lengths = {s: [note["lengths"][s] for note in notes if note["lengths"][s]] for s in self.splits}
        kind = {"kind": self.kind} if self.kind else {}
        with quiet_tfds():
            info = tfds.core.DatasetInfo(
                builder=identity,
                description=self.description,
                features=self._features(),
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(label_map=self.label_map.to_dict(), **self.identity, **kind),
            )
            sizes = {split: sum(note["bytes"][split] for note in notes) for split in self.splits}
            write_info(info, folder, self.name, lengths, sizes)

    def _features(self) -> Any:
        import tensorflow_datasets as tfds

        plane = tfds.features.Image(shape=(None, None, 1), dtype=np.uint8, encoding_format="png")
        types = {"text": tfds.features.Text(), "int": np.int32, "map": plane}
        extra = {name: types[kind] for name, kind in self.extra.items()}
        return tfds.features.FeaturesDict({**record_features(self.label_map), **extra})

    def _file(self, shard: int, split: str) -> Path:
        return self.folder / "shards" / f"{shard:05d}-{split}.array_record"

    def _note(self, shard: int) -> Path:
        return self.folder / "shards" / f"{shard:05d}.json"
