"""The values of all masks of a folder: counts, and the problems that follow from them."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np

from segjax.data.check_report import Problem
from segjax.data.classes import IGNORE_LABEL
from segjax.data.folders import some
from segjax.data.judge import judge, mixed_values
from segjax.data.label_map import LabelMap
from segjax.data.propose import MAX_CLASSES, Value, usually_ignored

_MAX_VALUES = 4096  # further distinct values are counted as one: they are no classes, and memory stays bounded


def value_codes(mask: np.ndarray) -> np.ndarray:
    """Returns one number per pixel, also of colours."""
    if mask.ndim == 2:
        return mask
    wide = mask.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def count_values(codes: np.ndarray, coding: str) -> dict[Value, int]:
    """Returns value -> number of pixels. codes: of `value_codes`, shape (n,)."""
    if coding == "id":
        counts = np.bincount(codes)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    codes, counts = np.unique(codes, return_counts=True)
    return {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255): int(n) for c, n in zip(codes, counts)}


def values_of(label_map: LabelMap) -> dict[Value, int]:
    """Returns id or colour -> train id."""
    color = label_map.coding == "color"
    return {(label.color if color else label.id): label.train_id for label in label_map.table.labels}


class Tally:
    """Sums of the values of all masks.

    coding, label_map: of the masks; label_map None collects what the judgement of a proposed map needs.
    """

    def __init__(self, coding: str, label_map: LabelMap | None):
        self.coding = coding
        self.pixels: collections.Counter = collections.Counter()
        self.images: collections.Counter = collections.Counter()  # per train id, or per value without a map
        self.blocks: collections.Counter = collections.Counter()
        self.only_ignored: list[Path] = []
        self.sets: dict[frozenset, Path] = {}  # of 0, 1 and 255: those of a mask -> such a mask
        self.overflow = 0
        self.map = None if label_map is None else values_of(label_map)
        self.map_name = label_map.name if label_map else ""

    def add(self, counts: dict[Value, int], blocks: dict[Value, int], file: Path) -> list[Problem]:
        """Adds one mask and returns the problems of its values.

        counts: value -> pixels. blocks: value -> pixels that `count_blocks` returns.
        """
        for value, pixels in counts.items():
            if value in self.pixels or len(self.pixels) < _MAX_VALUES:
                self.pixels[value] += pixels
            else:
                self.overflow += 1
        what = "ids" if self.coding == "id" else "colours"
        if self.map is None:
            self.images.update(value for value in counts if value in self.pixels)
            self.blocks.update({value: n for value, n in blocks.items() if value in self.pixels})
            if set(counts) <= {0, 1, IGNORE_LABEL}:
                self.sets.setdefault(frozenset(counts), file)
            if not set(counts) - {usually_ignored(self.coding)}:
                self.only_ignored.append(file)
            labelled, unknown = True, []
        else:
            classes = {self.map.get(value) for value in counts} - {None, IGNORE_LABEL}
            self.images.update(classes)
            unknown = [value for value in counts if value not in self.map]
            labelled = classes or unknown
        problems = []
        if unknown:
            pixels = sum(counts[value] for value in unknown)
            text = f"{file} holds {what} {some(unknown, 8)} ({pixels} pixels), which {self.map_name} does not list"
            problems.append(Problem("value", text))
        if not labelled:
            problems.append(Problem("empty", f"{file} holds only {what} that are ignored"))
        return problems

    def judge(self, proposed: LabelMap | None) -> list[Problem]:
        """Returns the problems of the map that was proposed, and of masks of which it ignores all."""
        found = judge(self.pixels, self.blocks, self.coding, proposed, bool(self.overflow))
        if self.coding == "id" and set(self.pixels) == {0, 1, IGNORE_LABEL}:
            found += mixed_values(self.sets)
        ignored = usually_ignored(self.coding)
        what = "ids" if self.coding == "id" else "colours"
        empty = proposed is None or values_of(proposed).get(ignored) == IGNORE_LABEL
        kind = "value" if len(self.pixels) > MAX_CLASSES else "classes"
        return [Problem(kind, text) for text in found] + [
            Problem("empty", f"{file} holds only {what} that are ignored") for file in self.only_ignored if empty
        ]

    def per_class(self, label_map: LabelMap | None) -> tuple[np.ndarray, np.ndarray, int]:
        """Returns pixels and images of every class, both int64 (k,), and the pixels of ignored labels."""
        num_classes = label_map.num_classes if label_map else 0
        pixels, images, ignored = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64), 0
        if label_map is None:
            return pixels, images, ignored
        by_value = values_of(label_map)
        for value, count in self.pixels.items():
            train_id = by_value.get(value)
            if train_id == IGNORE_LABEL:
                ignored += count
            elif train_id is not None:
                pixels[train_id] += count
        for key, count in self.images.items():
            train_id = key if self.map is not None else by_value[key]
            if train_id != IGNORE_LABEL:
                images[train_id] += count
        return pixels, images, ignored
