"""Reports of pseudo labels: shares of classes, confidence, bytes, and how right they are if the truth is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from segjax import metrics
from segjax.data.classes import IGNORE_LABEL
from segjax.pseudo.labels import Group, Labelled

BINS = 10  # of confidence, each a tenth wide
LISTED = 20  # images that cannot be read, by name; further ones are counted
STORED = ("image", "label", "soft_ids", "soft_shares", "confidence")  # features whose bytes are reported


@dataclasses.dataclass
class Counts:
    """Counts of the images of one pool; `add` adds those of another part of it.

    images, skipped: labelled ones, and those that cannot be read.
    confident: int64 (k, BINS), pixels by most probable class and confidence, before the threshold.
    kept: int64 (k,), pixels whose label is the class.
    bytes: feature -> bytes of its encoded arrays.
    scored: images whose truth is known.
    matrix: int64 (k, k), row = truth, column = pseudo label; ignored pixels of either do not count.
    right, known: int64 (BINS,), pixels with truth by confidence, before the threshold.
    """

    images: int
    skipped: int
    confident: np.ndarray
    kept: np.ndarray
    bytes: dict[str, int]
    scored: int
    matrix: np.ndarray
    right: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, classes: int) -> Counts:
        """Returns counts of no image, for a number of classes."""
        k = classes
        arrays = [np.zeros(shape, np.int64) for shape in ((k, BINS), k, (k, k), BINS, BINS)]
        return cls(0, 0, *arrays[:2], {}, 0, *arrays[2:])

    def see(self, one: Labelled, record: Mapping[str, Any]) -> None:
        """Adds an image with its encoded record."""
        k = len(self.kept)
        bins = confidence_bins(one.confidence)
        self.images += 1
        self.confident += _count(one.ids.astype(np.int32) * BINS + bins, k * BINS).reshape(k, BINS)
        self.kept += _count(one.label[one.label != IGNORE_LABEL], k)
        for name in STORED:
            if name in record:
                self.bytes[name] = self.bytes.get(name, 0) + len(record[name])
        if one.image.truth is None:
            return
        truth, known = one.image.truth, one.image.truth != IGNORE_LABEL
        both = known & (one.label != IGNORE_LABEL)
        self.scored += 1
        self.matrix += _count(truth[both].astype(np.int32) * k + one.label[both], k * k).reshape(k, k)
        self.known += _count(bins[known], BINS)
        self.right += _count(bins[known & (one.ids == truth)], BINS)

    def add(self, other: Counts) -> None:
        """Adds the counts of another part."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name == "bytes":
                mine = {name: mine.get(name, 0) + theirs.get(name, 0) for name in {**mine, **theirs}}
            else:
                mine = mine + theirs
            setattr(self, field.name, mine)

    def plain(self) -> dict[str, Any]:
        """Returns the counts as plain data, without those of truth if there is none."""
        found = {name: _plain(value) for name, value in vars(self).items()}
        return found if self.scored else {name: found[name] for name in found if name not in _OF_TRUTH}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Counts:
        """Returns the counts of `plain`'s data."""
        found = cls.of(len(data["kept"]))
        for name, value in data.items():
            setattr(found, name, np.array(value, np.int64) if isinstance(value, list) else value)
        return found


_OF_TRUTH = ("scored", "matrix", "right", "known")


def count_group(group: Group, records: Sequence[Mapping[str, Any]], *, classes: int) -> dict[str, Any]:
    """Returns plain counts of a shard: {"counts": {pool: counts}, "problems": [(pool, sentence)]}.

    group: labelled images.
    records: their encoded records.
    classes: number of classes.
    """
    found: dict[int, Counts] = {}
    for one, record in zip(group.images, records):
        found.setdefault(one.pool, Counts.of(classes)).see(one, record)
    for pool, _ in group.problems:
        found.setdefault(pool, Counts.of(classes)).skipped += 1
    return {
        "counts": {str(pool): counts.plain() for pool, counts in found.items()},
        "problems": [list(problem) for problem in group.problems],
    }


def merge(notes: Iterable[Mapping[str, Any]], *, pools: int, classes: int) -> tuple[list[Counts], list[str]]:
    """Returns (counts of each pool, sentences about images that cannot be read) of all shards' `count_group`."""
    counts, problems = [Counts.of(classes) for _ in range(pools)], []
    for note in notes:
        for pool, part in note["counts"].items():
            counts[int(pool)].add(Counts.from_plain(part))
        problems += [sentence for _, sentence in note["problems"]]
    return counts, problems


def total(parts: Iterable[Counts], *, classes: int) -> Counts:
    """Returns the sum of counts."""
    found = Counts.of(classes)
    for part in parts:
        found.add(part)
    return found


def summarise(counts: Counts, names: Sequence[str]) -> dict[str, Any]:
    """Returns the numbers of a report as plain data, shares in 0..1.

    counts: of one pool, or of all.
    names: of the classes.

    Keys of the result:
    images, skipped: as in `Counts`.
    ignored: share of the pixels that are ignored, below the threshold.
    classes: name -> share of all pixels.
    confidence: "mean"; "all": share of the pixels in each tenth of confidence; "classes": name -> the same of the
        pixels of the class, before the threshold, for classes that occur.
    megabytes: feature -> size of the encoded arrays.
    truth: None if it is unknown, else see `_score`.
    """
    pixels = max(int(counts.confident.sum()), 1)
    of_class = counts.confident.sum(1)
    centres = (np.arange(BINS) + 0.5) / BINS
    return {
        "images": counts.images,
        "skipped": counts.skipped,
        "ignored": _share(1 - counts.kept.sum() / pixels),
        "classes": {name: _share(n / pixels) for name, n in zip(names, counts.kept)},
        "confidence": {
            "mean": _share(counts.confident.sum(0) @ centres / pixels),
            "all": [_share(n / pixels) for n in counts.confident.sum(0)],
            "classes": {
                name: [_share(n / of_class[i]) for n in counts.confident[i]]
                for i, name in enumerate(names)
                if of_class[i]
            },
        },
        "megabytes": {name: round(size / 1e6, 3) for name, size in counts.bytes.items()},
        "truth": _score(counts, names) if counts.scored else None,
    }


def _score(counts: Counts, names: Sequence[str]) -> dict[str, Any]:
    """Returns how right the labels are: images, miou, pixel_accuracy, iou by class, accuracy by tenth of confidence."""
    scores = metrics.iou_scores(counts.matrix)
    accuracy = [_share(r / n) if n else None for r, n in zip(counts.right, counts.known)]
    return {
        "images": counts.scored,
        "miou": _share(scores["miou"]),
        "pixel_accuracy": _share(scores["pixel_accuracy"]),
        "iou": {name: _share(value) for name, value in zip(names, scores["iou"])},
        "accuracy_by_confidence": accuracy,
    }


def describe(summary: Mapping[str, Any], *, name: str = "") -> list[str]:
    """Returns the lines of a summary for a log or the screen; name: of the pool."""
    start = f"{name}: " if name else ""
    skipped = f", {summary['skipped']} that cannot be read" if summary["skipped"] else ""
    lines = [
        f"{start}{summary['images']} images{skipped}; {100 * summary['ignored']:.1f} % of the pixels ignored; "
        f"mean confidence {summary['confidence']['mean']:.3f}"
    ]
    shares = sorted(summary["classes"].items(), key=lambda item: -item[1])
    lines.append(start + ", ".join(f"{label} {100 * share:.2f} %" for label, share in shares))
    if truth := summary["truth"]:
        lines.append(
            f"{start}against the pool's own labels of {truth['images']} images: mIoU {100 * truth['miou']:.1f}, "
            f"pixel accuracy {100 * truth['pixel_accuracy']:.1f}"
        )
        known = [(i, value) for i, value in enumerate(truth["accuracy_by_confidence"]) if value is not None]
        lines.append(
            f"{start}right by confidence: " + ", ".join(f"{i / BINS:.1f}+ {100 * value:.1f} %" for i, value in known)
        )
    return lines


def listed(problems: Sequence[str]) -> list[str]:
    """Returns the first sentences, and how many more there are."""
    more = [f"and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
    return [*problems[:LISTED], *more]


_BIN_OF = np.minimum(np.arange(256) * BINS // 255, BINS - 1).astype(np.uint8)


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """Returns the tenth 0 .. BINS - 1 of each confidence, uint8 (h, w) in 0..255."""
    return _BIN_OF[confidence]


def _count(values: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(values.ravel(), minlength=size)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _share(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
