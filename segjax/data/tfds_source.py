"""Records of a built TFDS dataset (array_record files), read with numpy and OpenCV alone."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.class_presence import class_pixels, raw_pixels
from segjax.data.class_table import IGNORE_LABEL, ClassTable
from segjax.data.image_files import decode_image, decode_mask
from segjax.data.label_map import LabelMap
from segjax.data.referenced import image_bytes
from segjax.data.sources import LabelledClasses, Record, check_size
from segjax.data.splits import Parts, available, resolve, with_frames
from segjax.data.tfds_builder import built_again, one_line, open_builder, open_records, skip_decoding
from segjax.data.tfds_index import concatenate, load_index
from segjax.errors import UserError, did_you_mean

# what can be read of a record beside image and label
FIELDS = ("flow", "instances", "all_labels", "soft")
# what is stored of every record
FEATURES = ("image", "label", "name", "sequence", "frame", "height", "width", "labelled")


class TfdsSource(LabelledClasses):
    """One split of a built dataset.

    directory: the folder that holds dataset_info.json.
    split: its name, or an expression such as "train+validation", "train[:10%]", "train@5shot" or "train::4", see
        `segjax.data.splits`.
    labelled_only: skips the records that have no label.
    fields: what to read beside image and label, of `FIELDS`. "flow": the optical flow. "instances": the instance map.
        "all_labels": the labels of unlabelled records, for evaluation and upper bounds, where the dataset stores them:
            on the synthetic street, and of records that a split such as "train::4" leaves unlabelled.
        "soft": the most probable classes of pseudo labels, and their probabilities.
    label_map: another map of the same raw ids, for example "mapillary_to_cityscapes"; None = the dataset's own.
    frames: whether to open, for each split NAME, the split NAME_sequence with its neighbouring frames if there is one.
    divisions: named splits (`segjax.data.splits.division`) beside those in the dataset's metadata.

    top_k: number of classes in the field "soft"; 0 without that field.

    Raises UserError for an unknown split or field, a field that the dataset does not store, a label map that lacks ids,
    and a split without records.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        split: str,
        *,
        labelled_only: bool = True,
        fields: Collection[str] = (),
        label_map: LabelMap | ClassTable | str | os.PathLike | None = None,
        frames: bool = False,
        divisions: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        self.directory, self.labelled_only = Path(directory), labelled_only
        self.fields = frozenset(fields)
        builder = open_builder(self.directory)
        _check_features(builder, self.directory)
        _check_fields(self.fields, builder)
        self.top_k = int(builder.info.metadata["top_k"]) if "soft" in self.fields else 0
        own = own_label_map(builder)
        self.label_map = own if label_map is None else _same_ids(LabelMap.open(label_map), own, builder.name)
        self._own_ids = frozenset(own.table.ids)
        divisions = {
            **available(divisions or {}, builder.info.splits),
            **(builder.info.metadata or {}).get("splits", {}),
        }
        self.split = split = with_frames(split, {*builder.info.splits, *divisions}) if frames else split
        parts = _resolve(self.directory, builder, split, divisions, own, self.label_map)
        index = concatenate([load_index(self.directory, builder, name).take(rows) for name, rows, _ in parts])
        index = dataclasses.replace(index, labelled=np.concatenate([labelled for *_, labelled in parts]))
        kept = np.flatnonzero(index.labelled) if labelled_only else np.arange(len(index.names))
        if not len(kept):
            total = len(index.names)
            why = f"{total} records but none is labelled; open it with labelled_only=False" if total else "no record"
            raise UserError(f"split {split!r} of dataset {builder.name} in {self.directory} holds {why}")
        self.index = index.take(kept)
        self._parts = [name for name, *_ in parts]
        self._part = np.repeat(np.arange(len(parts)), [len(rows) for _, rows, _ in parts])[kept]
        self._rows = np.concatenate([rows for _, rows, _ in parts])[kept]
        self._readers: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        example, name, file = self._read(index)
        image = decode_image(image_bytes(example), file)
        label = self._label(example, image.shape[:2], file) if self._shows_label(index) else None
        record = Record(image, label, name, example["sequence"].decode(), int(example["frame"]))
        if "flow" in self.fields:
            record.flow = np.asarray(example["flow"], np.float32)
            if "flow_valid" in example:
                record.flow_valid = decode_mask(example["flow_valid"], f"the visibility of {file}") > 0
        if "instances" in self.fields and self.index.labelled[index]:
            record.instances = decode_mask(example["instances"], f"the instances of {file}")
        if "soft" in self.fields:
            record.soft_ids, record.soft_shares = (
                self._planes(example[name], image.shape[:2], f"{name} of {file}")
                for name in ("soft_ids", "soft_shares")
            )
        return record

    @property
    def own_classes(self) -> tuple[int, ...]:
        """Train ids of the labels that the dataset itself lists; another map may have classes beside them."""
        found = {label.train_id for label in self.label_map.table.labels if label.id in self._own_ids}
        return tuple(sorted(found - {IGNORE_LABEL}))

    def encoded_image(self, index: int) -> bytes:
        """Returns the image of a record as it is stored, the content of a PNG or JPEG file."""
        return image_bytes(self.example(index))

    def label(self, index: int) -> np.ndarray | None:
        """Returns the label of a record, without decoding its image; None if the record has none."""
        if not self._shows_label(index):
            return None
        example, _, file = self._read(index)
        return self._label(example, tuple(map(int, self.index.sizes[index])), file)

    def example(self, index: int) -> Mapping[str, Any]:
        """Returns all that is stored of a record; images are encoded. Raises UserError if it cannot be read."""
        row = int(self._rows[index])
        try:
            return self._reader(self._parts[self._part[index]])[row]
        except UserError:  # of a shard that cannot be fetched
            raise
        except Exception as error:  # array_record raises errors of its C++ library
            raise UserError(
                f"record {row} of {self.directory} cannot be read ({one_line(error)}); {built_again(self.directory)}"
            ) from error

    def _shows_label(self, index: int) -> bool:
        return bool(self.index.labelled[index]) or "all_labels" in self.fields

    def _read(self, index: int) -> tuple[Mapping[str, Any], str, str]:
        """Returns a record with its images encoded, its name, and what errors call it."""
        example = self.example(index)
        name = example["name"].decode()
        return example, name, f"{name} ({self.split}, {self.directory})"

    def _label(self, example: Mapping[str, Any], size: tuple[int, int], file: str) -> np.ndarray | None:
        mask = decode_mask(example["label"], f"the mask of {file}")
        check_size(mask.shape, f"the mask of {file}", size, file)
        if not example["labelled"] and not mask.any():
            return None  # builders store a mask of zeros for a record without label
        return self.label_map.encode(mask, f"the mask of {file}")

    def _planes(self, data: bytes, size: tuple[int, int], what: str) -> np.ndarray:
        """Returns planes that are stored one below the other, uint8 (h, w, top_k)."""
        planes = decode_mask(data, what)
        check_size(planes.shape, what, (self.top_k * size[0], size[1]), "its image")
        return np.ascontiguousarray(np.moveaxis(planes.reshape(self.top_k, *size), 0, -1))

    def find(self, sequence: str, frame: int) -> int | None:
        """Returns the number of the record of a video frame, None if there is none; needs labelled_only=False."""
        return self._by_frame.get((sequence, frame))

    @functools.cached_property
    def _by_frame(self) -> dict[tuple[str, int], int]:
        return {key: i for i, key in enumerate(zip(self.index.sequences.tolist(), self.index.frames.tolist()))}

    @property
    def names(self) -> list[str]:
        """Names of the records."""
        return self.index.names.tolist()

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of the records, int32 (n, 2)."""
        return self.index.sizes

    def _reader(self, split: str) -> Any:
        with self._lock:  # opened once per process, at the first read
            if split not in self._readers:
                builder = open_builder(self.directory)
                decoders = skip_decoding(builder, flow="flow" not in self.fields)
                self._readers[split] = open_records(builder, self.directory, split, decoders)
            return self._readers[split]

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_readers")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._readers, self._lock = {}, threading.Lock()


def _check_features(builder: Any, directory: Path) -> None:
    if missing := sorted(set(FEATURES) - set(builder.info.features)):
        raise UserError(f"dataset {builder.name} stores no {missing[0]!r} of its records; {built_again(directory)}")


def _check_fields(fields: Collection[str], builder: Any) -> None:
    for field in sorted(fields):
        if field not in FIELDS:
            raise UserError(f"records have no field {field!r}.{did_you_mean(field, FIELDS)}")
    if "flow" in fields and "flow" not in builder.info.features:
        raise UserError(f"dataset {builder.name} holds no optical flow; open it without the field 'flow'")
    if "instances" in fields and "instances" not in builder.info.features:
        raise UserError(f"dataset {builder.name} holds no instances; build it with the option instances=True")
    if "soft" in fields and "soft_ids" not in builder.info.features:
        raise UserError(
            f"dataset {builder.name} holds no soft labels; write it with labels='soft' (stage pseudo_label)"
        )


def own_label_map(builder: Any) -> LabelMap:
    """Returns the label map that a built dataset stores. Raises UserError if it stores none."""
    metadata = builder.info.metadata or {}
    if "label_map" not in metadata:
        raise UserError(f"dataset {builder.name} stores no label map in its metadata; build it with a segjax builder")
    return LabelMap.from_dict(metadata["label_map"], name=f"the label map of {builder.name}")


def _resolve(
    directory: Path,
    builder: Any,
    split: str,
    divisions: Mapping[str, Mapping[str, Any]],
    own: LabelMap,
    label_map: LabelMap,
) -> Parts:
    import tensorflow_datasets as tfds

    index = functools.cache(lambda name: load_index(directory, builder, name))

    def stored(text: str) -> list[tuple[str, np.ndarray]]:
        try:
            parts = tfds.core.ReadInstruction.from_spec(text).to_absolute(builder.info.splits)
        except ValueError as error:
            raise UserError(f"split {text!r} of dataset {builder.name} cannot be read: {error}") from None
        counts = {part.splitname: builder.info.splits[part.splitname].num_examples for part in parts}
        return [(p.splitname, np.arange(counts[p.splitname])[slice(p.from_, p.to)]) for p in parts]

    @functools.cache
    def pixels(split: str) -> np.ndarray:
        labelled = index(split).labelled
        decoders = skip_decoding(builder, flow=True)
        reader = open_records(builder, directory, split, decoders) if labelled.any() else ()

        def mask(row: int) -> tuple[np.ndarray, str]:
            example = reader[row]
            file = f"the mask of {example['name'].decode()} ({split}, {directory})"
            return decode_mask(example["label"], file), file

        return class_pixels(raw_pixels(directory, split, own, labelled, mask), own, label_map)

    return resolve(
        split,
        name=builder.name,
        stored=stored,
        known=tuple(builder.info.splits),
        divisions=divisions,
        index=index,
        pixels=pixels,
        class_names=label_map.class_names,
    )


def _same_ids(label_map: LabelMap, own: LabelMap, name: str) -> LabelMap:
    """Returns the map for the ids that the dataset stores. Raises UserError if it lacks some of them."""
    missing = sorted({x.id for x in own.table.labels} - {x.id for x in label_map.table.labels})
    if missing:
        raise UserError(
            f"{label_map.name} lacks the ids {missing[:8]} that dataset {name} may hold; "
            "add them to the map (train_id 255 = ignored)"
        )
    return label_map.with_ids()
