"""A check of image and mask folders, which finds all faults before a network is trained on them."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from segjax.data.check_files import check_files
from segjax.data.check_report import KINDS, CheckReport, Problem, SamplePair
from segjax.data.classes import IGNORE_LABEL, ClassTable
from segjax.data.folders import some
from segjax.data.image_files import read_image, read_mask
from segjax.data.label_map import LabelMap
from segjax.data.listing import shown
from segjax.data.pairing import better_pairs, pair_or_propose
from segjax.data.propose import Value, propose_label_map, usually_ignored
from segjax.data.sources import check_size
from segjax.data.threads import ordered_map
from segjax.errors import UserError
from segjax.outputs import is_own, writing_file

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
    image_prefix: str = "",
    image_suffix: str = "",
    mask_prefix: str = "",
    mask_suffix: str = "",
    splits: str = "auto",
    lists: Mapping[str, str] | None = None,
    num_samples: int = 8,
    workers: int | None = None,
) -> CheckReport:
    """Reads every pair once, in threads, and reports all problems; memory does not grow with the folder.

    images, masks: folders.
    label_map: LabelMap, class table, its name or a JSON file; None proposes a map from the values in the masks.
    output: folder for label_map.json, the map in use.
    image_prefix, image_suffix, mask_prefix, mask_suffix: see `pair_files`.
    splits, lists: as `how` and `lists` of `choose_splits`; wrong ones are problems.
    num_samples: pairs kept for an overlay sheet.
    workers: threads, by default one per core.

    Raises UserError only if there is nothing to check (a folder is missing or empty) or the label map is wrong.
    """
    given = None if label_map is None else LabelMap.open(label_map)
    naming = dict(image_prefix=image_prefix, image_suffix=image_suffix)
    naming.update(mask_prefix=mask_prefix, mask_suffix=mask_suffix)
    found = pair_or_propose(images, masks, **naming)
    proposal = better_pairs(found, images, masks, **naming)
    pairs = found.pairs
    about_files, problems = check_files(
        found, proposal, splits=splits, lists=lists or {}, prefix=image_prefix, suffix=image_suffix
    )
    problems += [Problem("unpaired", f"{shown(path)} has no mask in {masks}") for _, path in found.images_without_mask]
    problems += [
        Problem("unpaired", f"{shown(path)} has no image in {images}") for _, path in found.masks_without_image
    ]
    coding = given.coding if given else _detect_coding(pairs)
    keep = set(np.linspace(0, len(pairs) - 1, min(num_samples, len(pairs)), dtype=int).tolist())
    tally, sizes, kept = _Tally(coding, given), collections.Counter(), []

    jobs = ((pair, index in keep) for index, pair in enumerate(pairs))
    for seen in ordered_map(lambda job: _look(job[0], coding, keep=job[1]), jobs, workers=workers):
        problems += seen.problems
        if seen.size:
            sizes[seen.size] += 1
        if seen.counts is not None:
            problems += tally.add(seen.counts, seen.mask_file)
        if seen.sample:
            kept.append(seen.sample)

    label_map, notes = given, []
    if given is None:
        label_map, notes = propose_label_map(tally.pixels, coding, _palette(pairs, keep) if coding == "id" else {})
        problems += tally.too_many(label_map)
    notes = [*about_files, *notes]
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
        path, note = keep_edited(label_map, Path(output))
        report.files.append(path)
        notes += [note] if note else []
    return report


def keep_edited(label_map: LabelMap, folder: Path) -> tuple[Path, str]:
    """Writes label_map.json, or a file of another name beside one that somebody has edited; returns (path, note).

    A file that holds the same map already is kept. note: about the other name, "" without one.
    """
    first = folder / "label_map.json"
    others = (folder / f"label_map.new{number or ''}.json" for number in itertools.count())
    for path in itertools.chain([first], others):
        if not path.exists() or is_own(path):
            with writing_file(path):
                label_map.save(path)
            break
        with contextlib.suppress(UserError):  # one that cannot be read is somebody's work, too
            if LabelMap.load(path).to_dict() == label_map.to_dict():
                break
    note = f"{first} was edited, or not written by this command, and is kept; the map of this check is in {path.name}"
    return path, note if path != first else ""


class _Seen(NamedTuple):
    """Findings of one pair: size of the image (h, w), raw value -> pixels of the mask, maybe a reduced sample."""

    mask_file: Path
    problems: list[Problem]
    size: tuple[int, int] | None
    counts: dict[Value, int] | None
    sample: SamplePair | None


def _look(pair: Pair, coding: str, *, keep: bool) -> _Seen:
    name, image_file, mask_file = pair
    problems, image, mask = [], None, None
    try:
        image = read_image(image_file)
    except UserError as error:
        problems.append(Problem("unreadable", str(error)))
    try:
        mask = read_mask(mask_file, coding=coding)
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
    return _Seen(mask_file, problems, size, None if mask is None else _count(mask), sample)


def _count(mask: np.ndarray) -> dict[Value, int]:
    if mask.ndim == 2:
        counts = np.bincount(mask.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    wide = mask.astype(np.int32)
    codes, counts = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_counts=True)
    return {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255): int(n) for c, n in zip(codes, counts)}


class _Tally:
    """Sums of the values of all masks."""

    def __init__(self, coding: str, label_map: LabelMap | None):
        self.coding = coding
        self.pixels: collections.Counter = collections.Counter()
        self.images: collections.Counter = collections.Counter()  # per train id, or per value without a map
        self.overflow = 0
        self.map = None if label_map is None else _by_value(label_map)
        self.map_name = label_map.name if label_map else ""

    def add(self, counts: dict[Value, int], file: Path) -> list[Problem]:
        """Adds one mask and returns the problems of its values."""
        for value, pixels in counts.items():
            if value in self.pixels or len(self.pixels) < _MAX_VALUES:
                self.pixels[value] += pixels
            else:
                self.overflow += 1
        what = "ids" if self.coding == "id" else "colours"
        if self.map is None:
            self.images.update(value for value in counts if value in self.pixels)
            labelled = set(counts) - {usually_ignored(self.coding)}
            unknown = []
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

    def too_many(self, proposed: LabelMap | None) -> list[Problem]:
        """Returns the problem of masks from which no map can be proposed."""
        if proposed is not None or not self.pixels:
            return []
        count = f"more than {_MAX_VALUES}" if self.overflow else str(len(self.pixels))
        what = "ids" if self.coding == "id" else "colours"
        text = f"the masks hold {count} different {what}; are they instance ids, or saved with loss or smooth edges?"
        return [Problem("value", text)]

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
                read_mask(pairs[index][2], coding=coding)
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
            ids, shown = (read_mask(pairs[index][2], coding=coding) for coding in ("id", "color"))
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
    for value in _count(sample.label):
        same = sample.label == value
        label[same if sample.label.ndim == 2 else same.all(-1)] = by_value.get(value, IGNORE_LABEL)
    return sample._replace(label=label)
