"""A check of image and mask folders, which finds all faults before a network is trained on them."""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from segjax.data.check_report import KINDS, CheckReport, Problem, SamplePair
from segjax.data.classes import IGNORE_LABEL, ClassTable
from segjax.data.folders import pair_files, some
from segjax.data.image_files import HOLES, image_and_remarks, mask_and_remarks, read_bytes, read_mask
from segjax.data.judge import count_blocks, judge, mixed_values
from segjax.data.label_map import LabelMap
from segjax.data.propose import MAX_CLASSES, Value, propose_label_map, usually_ignored
from segjax.data.sources import check_size
from segjax.data.threads import ordered_map
from segjax.errors import UserError

__all__ = ["KINDS", "CheckReport", "Problem", "SamplePair", "check_folder"]

_SAMPLE_SIDE = 640  # longer side of the samples for the overlay sheet, in pixels
_MAX_VALUES = 4096  # further distinct values are counted as one: they are no classes, and memory stays bounded

Pair = tuple[str, Path, Path]


def check_folder(
    images: str | os.PathLike,
    masks: str | os.PathLike,
    label_map: LabelMap | ClassTable | str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    *,
    image_suffix: str = "",
    mask_suffix: str = "",
    num_samples: int = 8,
    workers: int | None = None,
) -> CheckReport:
    """Reads every pair once, in threads, and reports all problems; memory does not grow with the folder.

    images, masks: folders.
    label_map: LabelMap, class table, its name or a JSON file; None proposes a map from the values in the masks.
    output: folder for label_map.json, the map in use.
    image_suffix, mask_suffix: see `pair_files`.
    num_samples: pairs kept for an overlay sheet.
    workers: threads, by default one per core.

    Raises UserError only if there is nothing to check (a folder is missing or empty) or the label map is wrong.
    """
    given = None if label_map is None else LabelMap.open(label_map)
    found = pair_files(images, masks, image_suffix=image_suffix, mask_suffix=mask_suffix)
    pairs = found.pairs
    problems = [Problem("unpaired", f"{path} has no mask in {masks}") for _, path in found.images_without_mask]
    problems += [Problem("unpaired", f"{path} has no image in {images}") for _, path in found.masks_without_image]
    coding = given.coding if given else _detect_coding(pairs)
    keep = set(np.linspace(0, len(pairs) - 1, min(num_samples, len(pairs)), dtype=int).tolist())
    tally, sizes, kept, remarks = _Tally(coding, given), collections.Counter(), [], {}
    transparent = given.transparent if given else usually_ignored(coding)

    jobs = ((pair, index in keep) for index, pair in enumerate(pairs))
    for seen in ordered_map(lambda job: _look(job[0], coding, transparent, keep=job[1]), jobs, workers=workers):
        problems += seen.problems
        if seen.size:
            sizes[seen.size] += 1
        if seen.counts is not None:
            problems += tally.add(seen)
        if seen.sample:
            kept.append(seen.sample)
        for remark, file in seen.remarks:
            remarks.setdefault(remark, []).append(file)

    label_map, notes = given, []
    if given is None:
        colors = _palette(pairs, keep) if coding == "id" else {}
        label_map, notes = propose_label_map(tally.pixels, coding, colors, holes=HOLES in remarks)
        problems += tally.judge(label_map)
    else:
        try:
            given.require_classes()
        except UserError as error:
            problems.append(Problem("classes", str(error)))
    notes += [f"{remark}: {len(files)} ({some(files)})" for remark, files in remarks.items()]
    pixels, in_images, ignored = tally.per_class(label_map)
    report = CheckReport(
        num_pairs=len(pairs),
        problems=problems,
        notes=notes,
        sizes=sizes,
        label_map=label_map,
        proposed=given is None,
        pixels=pixels,
        images=in_images,
        ignored_pixels=ignored,
        raw_pixels=dict(sorted(tally.pixels.items())),
        samples=[_encode_sample(sample, label_map) for sample in kept] if label_map else [],
    )
    if report.absent and tally.pixels:
        notes.append(f"no mask shows {some(report.absent, 30)}; their scores will be undefined")
    if len(sizes) > 1:
        notes.append(
            f"the images have {len(sizes)} different sizes; training crops them, evaluation groups them by size"
        )
    if output is not None and label_map is not None:
        report.files.append(Path(output) / "label_map.json")
        label_map.save(report.files[-1])
    return report


class _Seen(NamedTuple):
    """Findings of one pair: size of the image (h, w), raw value -> pixels of the mask, maybe a reduced sample.

    blocks: raw value -> pixels that `count_blocks` returns. remarks: (remark, file), see `image_and_remarks`.
    """

    mask_file: Path
    problems: list[Problem]
    size: tuple[int, int] | None
    counts: dict[Value, int] | None
    blocks: dict[Value, int]
    remarks: list[tuple[str, Path]]
    sample: SamplePair | None


def _look(pair: Pair, coding: str, transparent: Value | None, *, keep: bool) -> _Seen:
    name, image_file, mask_file = pair
    problems, remarks, image, mask = [], [], None, None
    try:
        image, found = image_and_remarks(read_bytes(image_file), str(image_file))
        remarks += [(remark, image_file) for remark in found]
    except UserError as error:
        problems.append(Problem("unreadable", str(error)))
    try:
        data = read_bytes(mask_file)
        mask, found = mask_and_remarks(data, str(mask_file), coding=coding, transparent=transparent)
        remarks += [(remark, mask_file) for remark in found]
    except UserError as error:
        problems.append(Problem("unreadable", str(error)))
    if image is not None and mask is not None:
        try:
            check_size(mask.shape[:2], str(mask_file), image.shape[:2], str(image_file))
        except UserError as error:
            problems.append(Problem("size", str(error)))
            keep = False
    sample = (
        SamplePair(name, _reduce(image), _reduce(mask)) if keep and image is not None and mask is not None else None
    )
    size = None if image is None else image.shape[:2]
    if mask is None:
        return _Seen(mask_file, problems, size, None, {}, remarks, sample)
    codes = _codes(mask)
    counts, blocks = (_count(array, coding) for array in (codes.ravel(), count_blocks(codes)))
    return _Seen(mask_file, problems, size, counts, blocks, remarks, sample)


def _codes(mask: np.ndarray) -> np.ndarray:
    """Returns one number per pixel, also of colours."""
    if mask.ndim == 2:
        return mask
    wide = mask.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _count(codes: np.ndarray, coding: str) -> dict[Value, int]:
    if coding == "id":
        counts = np.bincount(codes)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    codes, counts = np.unique(codes, return_counts=True)
    return {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255): int(n) for c, n in zip(codes, counts)}


class _Tally:
    """Sums of the values of all masks."""

    def __init__(self, coding: str, label_map: LabelMap | None):
        self.coding = coding
        self.pixels: collections.Counter = collections.Counter()
        self.images: collections.Counter = collections.Counter()  # per train id, or per value without a map
        self.blocks: collections.Counter = collections.Counter()
        self.only_ignored: list[Path] = []
        self.sets: dict[frozenset, Path] = {}  # of a few values: those of a mask -> such a mask
        self.overflow = 0
        self.map = None if label_map is None else _by_value(label_map)
        self.map_name = label_map.name if label_map else ""

    def add(self, seen: _Seen) -> list[Problem]:
        """Adds one mask and returns the problems of its values."""
        counts, file = seen.counts, seen.mask_file
        for value, pixels in counts.items():
            if value in self.pixels or len(self.pixels) < _MAX_VALUES:
                self.pixels[value] += pixels
            else:
                self.overflow += 1
        what = "ids" if self.coding == "id" else "colours"
        if self.map is None:
            self.images.update(value for value in counts if value in self.pixels)
            self.blocks.update({value: n for value, n in seen.blocks.items() if value in self.pixels})
            if len(counts) <= 3:
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
        empty = proposed is None or _by_value(proposed).get(ignored) == IGNORE_LABEL
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
        by_value = _by_value(label_map)
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


def _by_value(label_map: LabelMap) -> dict[Value, int]:
    color = label_map.coding == "color"
    return {(label.color if color else label.id): label.train_id for label in label_map.table.labels}


def _detect_coding(pairs: tuple[Pair, ...]) -> str:
    """Returns "color" if any of 20 masks can only be read as colours, else "id"."""
    for index in np.unique(np.linspace(0, len(pairs) - 1, min(20, len(pairs)), dtype=int)):
        for coding in ("id", "color"):
            try:
                read_mask(pairs[index][2], coding=coding, transparent=usually_ignored(coding))
            except UserError:
                continue
            if coding == "color":
                return "color"
            break
    return "id"


def _palette(pairs: tuple[Pair, ...], chosen: set[int]) -> dict[int, tuple[int, int, int]]:
    """Returns display colours of ids, from the palettes of some masks; grey values are no colours."""
    colors: dict[int, tuple[int, int, int]] = {}
    for index in sorted(chosen):
        try:
            ids, shown = (
                read_mask(pairs[index][2], coding=coding, transparent=usually_ignored(coding))
                for coding in ("id", "color")
            )
        except UserError:
            continue
        values, first = np.unique(ids, return_index=True)
        for value, color in zip(values.tolist(), shown.reshape(-1, 3)[first].tolist()):
            if color != [value] * 3:
                colors.setdefault(value, tuple(color))
    return colors


def _reduce(array: np.ndarray) -> np.ndarray:
    scale = _SAMPLE_SIDE / max(array.shape[:2])
    if scale >= 1:
        return array
    size = tuple(max(1, round(side * scale)) for side in array.shape[1::-1])
    return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST)


def _encode_sample(sample: SamplePair, label_map: LabelMap) -> SamplePair:
    """Maps a raw mask to train ids; unknown values, which the report lists, are shown as ignored."""
    by_value, label = _by_value(label_map), np.full(sample.label.shape[:2], IGNORE_LABEL, np.uint8)
    for value in _count(_codes(sample.label).ravel(), label_map.coding):
        same = sample.label == value
        label[same if sample.label.ndim == 2 else same.all(-1)] = by_value.get(value, IGNORE_LABEL)
    return sample._replace(label=label)
