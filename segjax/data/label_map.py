"""Label maps: the values of a dataset's masks <-> train ids, applied once when a record is read."""

from __future__ import annotations

import dataclasses
import functools
import json
import numbers
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.classes import CLASSES, IGNORE_LABEL, ClassTable, Label, class_table
from segjax.data.label_checks import MAX_CLASSES, check_labels
from segjax.data.listing import is_text
from segjax.data.text_files import read_text
from segjax.errors import UserError, brief, did_you_mean, quoted
from segjax.files import write_file

_UNKNOWN = MAX_CLASSES  # marks values that the map does not list


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """A map from the raw labels of masks to train ids, and back.

    table: every label that a mask may contain, including the ignored ones (train id 255). Other values are errors.
    coding: "id": a mask is (h, w), each pixel a raw id (grey value or palette index).
            "color": a mask is (h, w, 3) uint8 RGB, each pixel the colour of a label.
    name: origin of the map, for messages.

    Raises UserError for an unknown coding, values out of range, duplicates, and train ids that are not 0 .. k - 1.
    """

    table: ClassTable
    coding: str = "id"
    name: str = dataclasses.field(default="the label map", compare=False)

    def __post_init__(self):
        check_labels(self.table.labels, self.coding, self.name)

    @classmethod
    def open(cls, source: LabelMap | ClassTable | str | os.PathLike) -> LabelMap:
        """Opens a map, a class table, the name of a class table, or a JSON file as a label map.

        Raises UserError for an unknown name, and as `load` does.
        """
        if isinstance(source, LabelMap):
            return source
        if isinstance(source, ClassTable):
            return cls(source)
        if str(source) in CLASSES:
            return cls(class_table(str(source)), name=f"the label map {source!r}")
        if Path(source).suffix != ".json" and not Path(source).exists():
            raise UserError(
                f"label map {str(source)!r} is neither a JSON file nor a known class table."
                f"{did_you_mean(str(source), CLASSES)}"
            )
        return cls.load(source)

    @classmethod
    def identity(cls, names: tuple[str, ...], palette: np.ndarray) -> LabelMap:
        """Returns the map of masks whose values are train ids, 255 = ignored; palette uint8 (k, 3)."""
        labels = [Label(i, name, i, tuple(int(c) for c in palette[i])) for i, name in enumerate(names)]
        return cls(ClassTable((*labels, Label(IGNORE_LABEL, "ignored", IGNORE_LABEL, (0, 0, 0)))))

    @classmethod
    def load(cls, path: str | os.PathLike) -> LabelMap:
        """Reads a file of `save` or `segjax check_data`. Raises UserError that names the file and its fault."""
        if not Path(path).exists():
            raise UserError(f"label map {path} does not exist; `segjax check_data` writes one for your masks")
        try:
            data = json.loads(read_text(path))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"label map {path} cannot be read as JSON ({brief(str(error), 160)}); correct or rewrite it"
            ) from None
        return cls.from_dict(data, name=f"label map {path}")

    def save(self, path: str | os.PathLike) -> None:
        """Writes the map as JSON, one label per line."""
        data = self.to_dict()
        rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in data["labels"])
        text = f'{{\n  "coding": "{self.coding}",\n  "labels": [\n{rows}\n  ]\n}}\n'
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_file(Path(path), text)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        rows = [{"id": x.id, "name": x.name, "train_id": x.train_id, "color": list(x.color)} for x in self.table.labels]
        return {"coding": self.coding, "labels": rows}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, name: str = "the label map") -> LabelMap:
        """Returns the map of `to_dict`'s data. Raises UserError that names the wrong entry."""
        if not isinstance(data, Mapping) or not isinstance(data.get("labels"), list):
            raise UserError(f"{name} has no list 'labels'; write {{'coding': 'id', 'labels': [{{'id': 0, ...}}]}}")
        unknown = set(data) - {"coding", "labels"}
        if unknown:
            raise UserError(
                f"{name} has an unknown key {quoted(min(unknown))}.{did_you_mean(brief(min(unknown)), _KEYS)}"
            )
        labels = []
        for position, row in enumerate(data["labels"]):
            try:
                color = tuple(_integer(c) for c in row["color"])
                labels.append(Label(_integer(row["id"]), _text(row["name"]), _integer(row["train_id"]), color))
            except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
                raise UserError(
                    f"{name}, entry {position} ({quoted(row, 200)}) is wrong ({brief(str(error), 120)}); "
                    "it needs id, name, train_id (255 = ignored) and color [r, g, b]"
                ) from None
        return cls(ClassTable(tuple(labels)), coding=data.get("coding", "id"), name=name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, in the order of the train ids."""
        return self.table.names

    @property
    def palette(self) -> np.ndarray:
        """Colour of every class, uint8 (k, 3) RGB."""
        return self.table.palette

    @property
    def num_classes(self) -> int:
        """Number of classes k."""
        return self.table.num_classes

    @property
    def ignored_ids(self) -> tuple[int, ...]:
        """Raw ids that are never trained or scored."""
        return tuple(x.id for x in self.table.labels if x.train_id == IGNORE_LABEL)

    @property
    def transparent(self) -> int | tuple[int, int, int] | None:
        """Id or colour of transparent pixels, which are not labelled: 255 or black if it is ignored, else the first.

        None if nothing is ignored.
        """
        ignored = [x for x in self.table.labels if x.train_id == IGNORE_LABEL]
        if self.coding == "color":
            colors = [x.color for x in ignored]
            return (0, 0, 0) if (0, 0, 0) in colors else next(iter(colors), None)
        ids = [x.id for x in ignored]
        return IGNORE_LABEL if IGNORE_LABEL in ids else next(iter(ids), None)

    def require_classes(self) -> None:
        """Raises UserError for a map of one class: its probability is always 1, so that nothing is learned."""
        if self.num_classes < 2:
            raise UserError(
                f"{self.name} has one class only ({self.class_names[0]!r}), so there is nothing to learn; give the "
                "background a train_id of its own instead of 255"
            )

    def only(self, classes: Sequence[int]) -> LabelMap:
        """Returns the map of some classes, numbered from 0 in their order; labels of other classes are not listed.

        classes: train ids.
        """
        number = {IGNORE_LABEL: IGNORE_LABEL, **{old: new for new, old in enumerate(classes)}}
        labels = tuple(x._replace(train_id=number[x.train_id]) for x in self.table.labels if x.train_id in number)
        return dataclasses.replace(self, table=ClassTable(labels))

    def with_ids(self) -> LabelMap:
        """Returns the map with coding "id", which fits what `raw_ids` returns."""
        return dataclasses.replace(self, coding="id")

    def encode(self, mask: np.ndarray, file: str = "the mask") -> np.ndarray:
        """Maps a published mask to train ids uint8 (h, w), 255 = ignored.

        mask: integer (h, w) raw ids, or uint8 (h, w, 3) RGB with coding "color". file: name for messages.
        Raises UserError that names the file, and the ids or colours that the map does not list.
        """
        if self.coding == "color":
            train_ids = self._lookup_colors[_pack(mask, self.name, file)]
        elif mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
            raise UserError(
                f"{file} has shape {mask.shape} and type {mask.dtype}, but {self.name} requires one id per pixel; "
                "for colour-coded masks set 'coding': 'color' in the map"
            )
        elif mask.dtype == np.uint8:
            train_ids = self._lookup_ids[:256][mask]
        else:
            outside = (mask < 0) | (mask >= len(self._lookup_ids))
            train_ids = np.where(outside, np.uint8(_UNKNOWN), self._lookup_ids[np.where(outside, 0, mask)])
        if (train_ids == _UNKNOWN).any():
            raise UserError(self._describe_unknown(mask, train_ids == _UNKNOWN, file))
        return train_ids

    def raw_ids(self, mask: np.ndarray, file: str = "the mask") -> np.ndarray:
        """Maps a published mask to raw ids, uint8 or uint16 (h, w). Raises UserError as `encode` does."""
        self.encode(mask, file)
        if self.coding == "id":
            return mask
        codes, colors = _pack(mask, self.name, file), self._color_order
        ids = np.array([label.id for label in colors], np.uint16)
        raw = ids[np.searchsorted([_code(x.color) for x in colors], codes)]
        return raw.astype(np.uint8) if ids.max() < 256 else raw

    def decode(self, train_ids: np.ndarray, file: str = "the prediction") -> np.ndarray:
        """Maps train ids (h, w) to raw ids uint8 or uint16 (h, w), or to uint8 (h, w, 3) RGB with coding "color".

        A class becomes its first label, and 255 the first ignored label (with coding "id" and without one: 255).
        Raises UserError for train ids that the map lacks, and for ignored pixels without an ignored label.
        """
        train_ids = np.asarray(train_ids)
        bad = np.unique(train_ids[(train_ids < 0) | ((train_ids >= self.num_classes) & (train_ids != IGNORE_LABEL))])
        ignored = next((x for x in self.table.labels if x.train_id == IGNORE_LABEL), None)
        if ignored is None and self.coding == "id" and IGNORE_LABEL not in self.table.ids:
            ignored = Label(IGNORE_LABEL, "ignored", IGNORE_LABEL, (0, 0, 0))
        if ignored is None and (train_ids == IGNORE_LABEL).any():
            raise UserError(f"{file} holds ignored pixels, but {self.name} lists no ignored label; add one")
        if bad.size:
            raise UserError(f"{file} holds train ids {_some(bad)}, but {self.name} has {self.num_classes} classes")
        labels = [*self.table.classes, ignored or self.table.classes[0]]
        position = np.minimum(train_ids, self.num_classes).astype(np.intp)
        if self.coding == "color":
            return np.array([x.color for x in labels], np.uint8)[position]
        ids = np.array([x.id for x in labels], np.uint16)
        return (ids.astype(np.uint8) if ids.max() < 256 else ids)[position]

    @functools.cached_property
    def _lookup_ids(self) -> np.ndarray:
        size = max(256, 1 + max(label.id for label in self.table.labels))
        table = np.full(size, _UNKNOWN, np.uint8)
        for label in self.table.labels:
            table[label.id] = label.train_id
        return table

    @functools.cached_property
    def _lookup_colors(self) -> np.ndarray:
        table = np.full(1 << 24, _UNKNOWN, np.uint8)  # 16 MiB: one gather per mask, no search
        for label in self.table.labels:
            table[_code(label.color)] = label.train_id
        return table

    @functools.cached_property
    def _color_order(self) -> list[Label]:
        return sorted(self.table.labels, key=lambda label: _code(label.color))

    def __getstate__(self):
        return {key: self.__dict__[key] for key in ("table", "coding", "name")}  # lookup tables are rebuilt on use

    def _describe_unknown(self, mask: np.ndarray, unknown: np.ndarray, file: str) -> str:
        values = np.unique(mask[unknown], axis=0)
        kind = "ids" if self.coding == "id" else "colours"
        listed = _some(values) if kind == "ids" else _some([tuple(int(c) for c in v) for v in values])
        return (
            f"{file} holds {kind} {listed} ({int(unknown.sum())} pixels), which {self.name} does not list; "
            "add them to the map (train_id 255 = ignored) or correct the mask"
        )


_KEYS = ("coding", "labels")
_LARGE = 2**32  # no id, train id or colour is
_LONGEST = 1000  # characters of a name


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or int(value) != value:
        raise ValueError(f"{quoted(value)} is not a whole number")
    if abs(value) >= _LARGE:
        raise ValueError(f"{quoted(value)} is too large")
    return int(value)


def _text(value: Any) -> str:
    if isinstance(value, (list, dict)) or len(str(value)) > _LONGEST:
        raise ValueError(f"{quoted(value)} is no name")
    if not is_text(str(value)):
        raise ValueError(f"{quoted(value)} is not valid Unicode")
    return str(value)


def _code(color: tuple[int, int, int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _pack(mask: np.ndarray, name: str, file: str) -> np.ndarray:
    if mask.ndim != 3 or mask.shape[-1] != 3 or mask.dtype != np.uint8:
        raise UserError(
            f"{file} has shape {mask.shape} and type {mask.dtype}, but {name} requires 8-bit RGB colours; "
            "for masks of ids set 'coding': 'id' in the map"
        )
    wide = mask.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _some(values: Any, limit: int = 8) -> str:
    shown = ", ".join(str(v) for v in list(values)[:limit])
    return shown + (f" and {len(values) - limit} more" if len(values) > limit else "")
