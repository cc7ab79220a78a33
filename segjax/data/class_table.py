"""Class tables: raw id, name, train id and colour of every label of a dataset."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

IGNORE_LABEL = 255


class Label(NamedTuple):
    """One raw label of a dataset.

    id: value in the published masks, 0..65535.
    train_id: class index that the network learns, or 255 = ignored.
    color: (r, g, b) in 0..255, for display, and as the value in colour-coded masks.
    """

    id: int
    name: str
    train_id: int
    color: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """The labels of a dataset; a class has the name and the colour of its first label."""

    labels: tuple[Label, ...]

    @functools.cached_property
    def classes(self) -> tuple[Label, ...]:
        """The first label of every class, in the order of the train ids."""
        first: dict[int, Label] = {}
        for label in self.labels:
            if label.train_id != IGNORE_LABEL:
                first.setdefault(label.train_id, label)
        return tuple(first[train_id] for train_id in sorted(first))

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every class, in the order of the train ids."""
        return tuple(label.name for label in self.classes)

    @property
    def palette(self) -> np.ndarray:
        """Colour of every class, uint8 (k, 3) RGB."""
        return np.array([label.color for label in self.classes], np.uint8).reshape(-1, 3)

    @property
    def ids(self) -> dict[int, int]:
        """Raw id -> train id, ignored ids (255) included."""
        return {label.id: label.train_id for label in self.labels}

    @property
    def num_classes(self) -> int:
        """Number of classes k."""
        return len(self.classes)


def rows(*labels: tuple[int, str, int, tuple[int, int, int]]) -> ClassTable:
    """Returns the class table of rows (raw id, name, train id, colour)."""
    return ClassTable(tuple(Label(*label) for label in labels))
