"""Scores beside the confusion matrix of an evaluation, in constant memory: a server's rule, and outlines."""

from __future__ import annotations

import collections
import concurrent.futures
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segjax import metrics
from segjax.errors import UserError
from segjax.host import usable_cores
from segjax.metrics.boundary import BANDS, TOLERANCE, BoundarySums
from segjax.metrics.plain import plain_number, plain_numbers, plain_scores


class ExtraScores:
    """A counter of images for `evaluate(observe=...)`, with a report at the end.

    class_names: classes of the dataset.
    rule: name in `segjax.metrics.RULES`, "" = none.
    instances: record -> instance map uint16 (h, w), for the iIoU of a rule; None = no iIoU.
    train_id_of: raw id of an instance -> train id.
    boundary: whether to score outlines.
    tolerance, bands: see `segjax.metrics.boundary`.

    Raises UserError for an unknown rule, or one for another number of classes.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        rule: str = "",
        instances: Callable[[int], np.ndarray] | None = None,
        train_id_of: Mapping[int, int] | None = None,
        boundary: bool = False,
        tolerance: float = TOLERANCE,
        bands: Sequence[int] = BANDS,
    ):
        k = len(class_names)
        self._names, self._rule_name, self._boundary = tuple(class_names), rule, boundary
        self._instances, self._train_id_of = instances, train_id_of
        self._tolerance, self._bands = tolerance, tuple(bands)
        self._rule = metrics.find_rule(rule) if rule else None
        if self._rule is not None:
            if self._rule.num_classes != k:
                raise UserError(
                    f"the rule {rule!r} scores {self._rule.num_classes} classes but the data set has {k}; "
                    "leave it out or evaluate the data set it is made for"
                )
            self._tally = metrics.empty_tally(self._rule)
        self._outlines = BoundarySums(np.zeros(k), np.zeros(k, np.int64))
        self._matrices = np.zeros((len(self._bands) + 1, k, k), np.int64)  # the last one is of all pixels
        self._workers = usable_cores()
        self._pool = concurrent.futures.ThreadPoolExecutor(self._workers, thread_name_prefix="scores")
        self._waiting: collections.deque[concurrent.futures.Future] = collections.deque()

    def __call__(self, record: int, prediction: np.ndarray, label: np.ndarray) -> None:
        """Counts one image in a thread; a few images are in memory at a time.

        record: index in the source.
        prediction, label: class ids uint8 (h, w); 255 in the label is ignored.
        """
        while len(self._waiting) >= 2 * self._workers:
            self._add(*self._waiting.popleft().result())
        self._waiting.append(self._pool.submit(self._count, record, prediction, label))

    def _count(self, record: int, prediction: np.ndarray, label: np.ndarray) -> tuple:
        counted = outlines = matrices = None
        if self._rule is not None:
            maps = self._instances(record) if self._instances and self._rule.sizes else None
            counted = metrics.tally(self._rule, prediction, label, instances=maps, train_id_of=self._train_id_of)
        if self._boundary:
            k = len(self._names)
            outlines = metrics.boundary_sums(prediction, label, num_classes=k, tolerance=self._tolerance)
            matrices = metrics.trimap_matrices(prediction, label, num_classes=k, bands=(*self._bands, math.inf))
        return counted, outlines, matrices

    def _add(self, counted, outlines, matrices) -> None:
        if counted is not None:
            self._tally += counted
        if outlines is not None:
            self._outlines += outlines
            self._matrices += matrices

    def report(self) -> dict[str, Any]:
        """Returns plain numbers for a report: means, and values by class, category and width of the band."""
        while self._waiting:
            self._add(*self._waiting.popleft().result())
        found: dict[str, Any] = {}
        if self._rule is not None:
            scores = metrics.official_scores(self._rule, self._tally)
            found[self._rule_name] = plain_scores(scores, self._names, self._rule.category_names)
        if self._boundary:
            f = self._outlines.scores()
            found["boundary_f"] = {"mean": _mean(f), "classes": plain_numbers(self._names, f)}
            names, (*bands, whole) = list(map(str, self._bands)), self._matrices
            found["trimap_miou"] = plain_numbers(names, metrics.trimap_scores(np.array(bands)))
            found["inside_miou"] = plain_numbers(names, metrics.trimap_scores(whole - np.array(bands)))  # beyond it
        return found


def describe_scores(scores: Mapping[str, Any]) -> list[str]:
    """Returns the means of `plain_scores` or of one of its kind as words, in percent."""
    lines = []
    for name, value in scores.items():
        if isinstance(value, Mapping):
            continue
        lines.append(f"{name.removeprefix('mean_').replace('_', ' ')} {_in_percent(value)}")
    return lines


def _mean(values: np.ndarray) -> float | None:
    return plain_number(np.nanmean(values)) if np.isfinite(values).any() else None


def _in_percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
