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
from segjax.data.image_files import HOLES, image_and_remarks, mask_and_remarks, read_bytes, read_mask
from segjax.data.judge import count_blocks
from segjax.data.label_map import LabelMap
from segjax.data.listing import shown
from segjax.data.pairing import better_pairs, pair_or_propose
from segjax.data.propose import Value, propose_label_map, usually_ignored
from segjax.data.sources import check_size
from segjax.data.tally import Tally, count_values, value_codes, values_of
from segjax.data.threads import ordered_map
from segjax.errors import UserError
from segjax.outputs import is_own, writing_file

__all__ = ["KINDS", "CheckReport", "Problem", "SamplePair", "check_folder"]

_SAMPLE_SIDE = 640  # longer side of the samples for the overlay sheet, in pixels

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
    tally, sizes, kept, remarks = Tally(coding, given), collections.Counter(), [], {}
    transparent = given.transparent if given else usually_ignored(coding)

    jobs = ((pair, index in keep) for index, pair in enumerate(pairs))
    for seen in ordered_map(lambda job: _look(job[0], coding, transparent, keep=job[1]), jobs, workers=workers):
        problems += seen.problems
        if seen.size:
            sizes[seen.size] += 1
        if seen.counts is not None:
            problems += tally.add(seen.counts, seen.blocks, seen.mask_file)
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
    notes = [*about_files, *notes, *(f"{remark}: {len(files)} ({some(files)})" for remark, files in remarks.items())]
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
    codes = value_codes(mask)
    counts, blocks = (count_values(array, coding) for array in (codes.ravel(), count_blocks(codes)))
    return _Seen(mask_file, problems, size, counts, blocks, remarks, sample)


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
    by_value, label = values_of(label_map), np.full(sample.label.shape[:2], IGNORE_LABEL, np.uint8)
    for value in count_values(value_codes(sample.label).ravel(), label_map.coding):
        same = sample.label == value
        label[same if sample.label.ndim == 2 else same.all(-1)] = by_value.get(value, IGNORE_LABEL)
    return sample._replace(label=label)
